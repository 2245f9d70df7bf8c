# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as data: everything that its pages show, and nothing of how they look."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._finding import SEVERITIES, rank, worst

from . import acceptance, history
from .acceptance import Acceptance
from .collect import Action, HostFinding, read_finding, sentence
from .history import Figure, Run
from .units import number

# The host of a finding that is about the run as a whole. No host can have this name: it is Ansible's group of all.
ALL_HOSTS = "all"

NEVER = "never"


@dataclasses.dataclass(frozen=True)
class Contact:
    """Whom to call: in which role, how, and when to go on to the next."""

    role: str
    contact: str
    escalation: str


@dataclasses.dataclass(frozen=True)
class Assessed(HostFinding):
    """A finding, and whether somebody has accepted it."""

    acceptance: Acceptance | None = None

    def as_dict(self) -> dict[str, t.Any]:
        accepted = self.acceptance and {
            "reason": self.acceptance.reason,
            "until": self.acceptance.until.isoformat(),
        }
        return {"host": self.host, **self.finding.as_dict(), "accepted": accepted}


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do, and every open finding that it answers. An empty remedy: none is known."""

    remedy: str
    findings: tuple[Assessed, ...]

    @property
    def severity(self) -> str:
        return worst(item.finding.severity for item in self.findings)

    @property
    def said(self) -> dict[str, list[tuple[str, str]]]:
        """What its findings say, and of which host and subject: many hosts often say the same."""
        groups: dict[str, dict[tuple[str, str], None]] = {}
        for item in self.findings:
            groups.setdefault(item.finding.summary, {})[item.host, item.finding.subject] = None
        return {summary: list(places) for summary, places in groups.items()}


@dataclasses.dataclass(frozen=True)
class HostState:
    """A host with all its findings, the worst first."""

    host: str
    findings: tuple[Assessed, ...]

    @property
    def open(self) -> tuple[Assessed, ...]:
        return tuple(item for item in self.findings if item.acceptance is None)

    @property
    def verdict(self) -> str:
        return _verdict(self.findings)

    @property
    def counts(self) -> dict[str, int]:
        return _counts(self.open)


def _verdict(findings: t.Sequence[Assessed]) -> str:
    """The worst that nobody has accepted; nothing looked at is ``unknown``, everything accepted is ``ok``."""
    return worst(item.finding.severity if item.acceptance is None else "ok" for item in findings)


def _counts(findings: t.Iterable[Assessed]) -> dict[str, int]:
    severities = [item.finding.severity for item in findings]
    return {severity: severities.count(severity) for severity in reversed(SEVERITIES)}


def _several(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


@dataclasses.dataclass(frozen=True)
class Report:
    """One run of one procedure on all its hosts.

    :param findings: the worst first, accepted ones last.
    :param earlier: the runs before of the same procedure, the oldest first.
    :param started: when the procedure began, where that is known.
    :param versions: what made the report, name to version.
    """

    procedure: str
    title: str
    hosts: tuple[str, ...]
    findings: tuple[Assessed, ...]
    actions: tuple[Action, ...]
    contacts: tuple[Contact, ...]
    earlier: tuple[Run, ...]
    started: datetime.datetime | None
    finished: datetime.datetime
    check_mode: bool
    fail_on: str
    versions: dict[str, str]

    @property
    def open(self) -> tuple[Assessed, ...]:
        return tuple(item for item in self.findings if item.acceptance is None)

    @property
    def accepted(self) -> tuple[Assessed, ...]:
        return tuple(item for item in self.findings if item.acceptance is not None)

    @property
    def verdict(self) -> str:
        return _verdict(self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Open findings per severity, the worst first."""
        return _counts(self.open)

    @property
    def pressing(self) -> tuple[Assessed, ...]:
        """Open findings that somebody has to look at."""
        return tuple(item for item in self.open if rank(item.finding.severity) >= rank("warning"))

    @property
    def sentence(self) -> str:
        """How things stand, in one sentence."""
        if not self.findings:
            return "Nothing was looked at, so nothing is known."
        notes = [item for item in self.open if item.finding.severity == "info"]
        if not self.pressing and (len(self.open) == 1 or len(notes) == 1):
            return f"Nothing needs you: {(notes or self.open)[0].finding.summary}"
        if not self.pressing:
            asked = f"{_several(len(self.open), 'finding')} on {_several(len(self.hosts), 'host')}"
            return f"Nothing needs you: {asked}, none of them a problem."
        first, more = self.pressing[0], len(self.pressing) - 1
        where = "" if first.host == ALL_HOSTS or first.host in first.finding.summary else f"{first.host}: "
        rest = f" {_several(more, 'more finding')} {'needs' if more == 1 else 'need'} attention." if more else ""
        return f"{where}{sentence(first.finding.summary)}{rest}"

    @property
    def duration_seconds(self) -> float | None:
        return max(0.0, (self.finished - self.started).total_seconds()) if self.started else None

    @property
    def fails(self) -> bool:
        """Whether the job has to fail for it. A dry run never does."""
        return not self.check_mode and self.fail_on != NEVER and rank(self.verdict) >= rank(self.fail_on)

    @property
    def succeeded(self) -> bool:
        """Whether it counts as a success: nothing as bad as ``fail_on``; ``critical`` where that is *never*."""
        return rank(self.verdict) < rank("critical" if self.fail_on == NEVER else self.fail_on)

    @property
    def steps(self) -> list[Step]:
        """What to do, the worst first; findings with the same remedy are one step."""
        groups: dict[tuple[str, ...], list[Assessed]] = {}
        for item in self.pressing:
            remedy = item.finding.remedy
            groups.setdefault((remedy,) if remedy else ("", item.host, item.finding.check), []).append(item)
        return [Step(key[0], tuple(items)) for key, items in groups.items()]

    @property
    def states(self) -> list[HostState]:
        """Hosts, the worst first; :data:`ALL_HOSTS` among them where a finding is about the whole run."""
        names = [*self.hosts, *(item.host for item in self.findings if item.host not in self.hosts)]
        states = [
            HostState(name, tuple(item for item in self.findings if item.host == name)) for name in dict.fromkeys(names)
        ]
        return sorted(states, key=lambda state: (-rank(state.verdict), [-n for n in state.counts.values()]))

    @property
    def run(self) -> Run:
        """This report as the next ones remember it."""
        time = self.finished.timestamp()
        before = self.earlier[-1].last_success if self.earlier else None
        figures: dict[Figure, float] = {}
        for item in self.findings:
            given = item.finding.evidence.get("figures")
            for name, value in given.items() if isinstance(given, dict) else ():
                drawable = number(value)
                if drawable is not None:
                    figures[Figure(item.host, item.finding.check, item.finding.subject, name)] = drawable
        return Run(time, self.verdict, self.counts, self.duration_seconds, time if self.succeeded else before, figures)

    @property
    def trends(self) -> list[history.Trend]:
        return history.trends(self.run, self.earlier)

    def as_dict(self) -> dict[str, t.Any]:
        """The whole report, plain JSON types, ``schema`` 1."""
        return {
            "schema": 1,
            "procedure": self.procedure,
            "title": self.title,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "counts": self.counts,
            "accepted": len(self.accepted),
            "hosts": list(self.hosts),
            "started": self.started and self.started.isoformat(),
            "finished": self.finished.isoformat(),
            "duration_seconds": self.duration_seconds,
            "check_mode": self.check_mode,
            "fail_on": self.fail_on,
            "findings": [item.as_dict() for item in self.findings],
            "actions": [dataclasses.asdict(action) for action in self.actions],
            "contacts": [dataclasses.asdict(contact) for contact in self.contacts],
            "versions": self.versions,
        }


def assess(
    findings: t.Iterable[HostFinding], accepted: t.Iterable[t.Any], now: datetime.datetime
) -> tuple[Assessed, ...]:
    """The findings with what was accepted of them, and with what is wrong about the acceptances."""
    holding, notes = acceptance.read(accepted, now)
    assessed = []
    used = set()
    for item in findings:
        cover = next((entry for entry in holding if entry.covers(item.host, item.finding)), None)
        used.add(cover)
        assessed.append(Assessed(item.host, item.finding, cover))
    notes += [acceptance.unused(entry) for entry in holding if entry not in used]
    assessed += [Assessed(ALL_HOSTS, note) for note in notes]
    return tuple(sorted(assessed, key=lambda item: (item.acceptance is not None, -rank(item.finding.severity))))


def read_contacts(entries: t.Iterable[t.Any]) -> tuple[Contact, ...]:
    """Contacts as the inventory has them: at night a half-written one is better than none."""
    return tuple(
        Contact(*(str(entry.get(key) or "") for key in ("role", "contact", "escalation")))
        if isinstance(entry, dict)
        else Contact("", str(entry), "")
        for entry in entries
    )


def read_given(entries: t.Iterable[t.Any]) -> list[HostFinding]:
    """Findings given to the report directly; one without ``host`` is about the whole run."""
    return [
        HostFinding(
            str(entry.get("host") or ALL_HOSTS) if isinstance(entry, dict) else ALL_HOSTS,
            read_finding(entry, "findings"),
        )
        for entry in entries
    ]
