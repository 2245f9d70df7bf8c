# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether a service is as well after an update as it was before.

"Healthy" is not enough: the version must be the new one, what was scraped must be scraped again, no rule may have
broken, and the same counts must come back for the same moments in the past.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .. import _health
from .._backup import counts
from .._finding import Finding, rank
from .._http import HttpError, Server
from .._prometheus import Prometheus, Rule, Target

PROMETHEUS = "prometheus"
# Series that must be there again; a restart loses none, and new ones of the new version come on top.
_SHARE_OF_SERIES = 0.5
# Samples of the last moments may still come in. A time between the seconds is nobody's sample, for versions differ in
# whether a sample at the very edge of the lookback counts.
_SETTLED_SECONDS = 120.0
_BETWEEN = 0.499
_POLL_SECONDS = 1.0
_SETS = ("up", "good", "wrong", "fresh")


@dataclasses.dataclass(frozen=True)
class Account:
    """What a running service says.

    :param up: its targets that are up. :param good: its rules whose last evaluation went well, and ``wrong`` those that
        cannot be evaluated. :param rules: how many it has.
    :param fresh: its targets that were not scraped, and rules that were not evaluated yet.
    :param samples: of its own exposition.
    """

    version: str
    findings: tuple[Finding, ...]
    up: frozenset[str] = frozenset()
    good: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    rules: int = 0
    fresh: frozenset[str] = frozenset()
    series: int = 0
    samples: int = 0
    counts: counts.Counts = dataclasses.field(default_factory=dict)

    @property
    def sick(self) -> list[str]:
        """What is said against it, sentences."""
        return [finding.summary for finding in self.findings if rank(finding.severity) > rank("warning")]

    def as_dict(self) -> dict[str, t.Any]:
        document = dataclasses.asdict(self)
        return {**document, "findings": [], **{name: sorted(getattr(self, name)) for name in _SETS}}

    @classmethod
    def read(cls, document: t.Mapping[str, t.Any]) -> Account:
        # An interrupted update may have been begun by an earlier version, which knew fewer of them.
        return cls(**{**document, "findings": (), **{name: frozenset(document.get(name, ())) for name in _SETS}})


@dataclasses.dataclass(frozen=True)
class Gate:
    """
    :param service: a name of ``_health.SERVICES``. :param unit: without its ending.
    """

    service: str
    unit: str
    server: Server

    def look(self, times: t.Iterable[int] = ()) -> Account:
        """
        :param times: milliseconds, of which the counts are taken.
        """
        health = _health.check(_health.Question([self.service], {self.service: self.server}, {self.service: self.unit}))
        about = health.services[self.service]
        account = Account(str(about.get("version", "")), tuple(health.findings), samples=int(about.get("samples", 0)))
        if self.service != PROMETHEUS or account.sick:
            return account
        prometheus = Prometheus(self.server)
        try:
            targets, rules = prometheus.targets(), prometheus.rules()
            return dataclasses.replace(
                account,
                up=frozenset(_target(target) for target in targets if target.health == "up"),
                good=frozenset(_rule(rule) for rule in rules if rule.health == "ok"),
                wrong=frozenset(_rule(rule) for rule in rules if rule.health == "err"),
                rules=len(rules),
                fresh=frozenset(
                    [_target(target) for target in targets if target.health == "unknown"]
                    + [_rule(rule) for rule in rules if rule.health == "unknown"]
                ),
                series=prometheus.head(1).series,
                counts=counts.count(prometheus, times),
            )
        except HttpError as error:
            text = f"Prometheus answers, and does not say how it is: {error}"
            asked = Finding("service.health", self.service, "unknown", text)
            return dataclasses.replace(account, findings=(*account.findings, asked))

    def wait(
        self, before: Account, version: str, seconds: float, ended: t.Callable[[], str], has_turns: bool = True
    ) -> tuple[Account, list[str]]:
        """What there is against the service once nothing is, or time is over, or it ended.

        :param version: that it must say it has.
        :param ended: why it ended, a clause; empty while it runs.
        :param has_turns: whether what was well and is scraped or evaluated seldom is waited for; it is never held
            against the version, and :func:`untried` says what of it there is.
        """
        deadline = time.monotonic() + seconds
        while True:
            account = self.look(map(int, before.counts))
            against = compare(before, account, version)
            why = ended()
            if why:
                return account, [f"it does not stay up: {why}", *against]
            waits = bool(against) or (has_turns and bool(untried(before, account)))
            if not waits or time.monotonic() > deadline:
                return account, against
            time.sleep(_POLL_SECONDS)


def _target(target: Target) -> str:
    return f"{target.labels.get('job', target.pool)} {target.labels.get('instance', target.url)}"


def _rule(rule: Rule) -> str:
    return f"{rule.group}: {rule.name}"


def moments(now: float, oldest: float | None) -> list[int]:
    """Times, in milliseconds, at which nothing changes any more: the last one, and the middle of all that is stored."""
    last = int(now - _SETTLED_SECONDS) + _BETWEEN
    if oldest is None or oldest > last:
        return []
    return sorted({int(last * 1000), int((int((oldest + last) / 2) + _BETWEEN) * 1000)})


def untried(before: Account, after: Account) -> list[str]:
    """Targets and rules that were well before, and had no turn since: whether they are is not known."""
    return sorted((before.up | before.good) & after.fresh)


def compare(before: Account, after: Account, version: str) -> list[str]:
    """What is worse than it was, clauses; none where all is as well.

    :param version: that it must say it has.
    """
    if after.sick:
        return after.sick
    against = []
    if after.version != version:
        against.append(f"version {after.version or 'unknown'} answers, and not {version}")
    lost = sorted(before.up - after.up - after.fresh)
    if lost:
        against.append(f"{len(lost)} of {len(before.up)} targets are not up again, such as {lost[0]}")
    broken = sorted(after.wrong - before.wrong)
    if broken:
        against.append(f"{len(broken)} rules cannot be evaluated any more, such as {broken[0]}")
    if after.rules < before.rules:
        against.append(f"it has {after.rules} rules, and had {before.rules}")
    if after.series < before.series * _SHARE_OF_SERIES:
        against.append(f"it has {after.series} series, and had {before.series}")
    if after.samples < before.samples * _SHARE_OF_SERIES:
        against.append(f"it exposes {after.samples} samples, and exposed {before.samples}")
    known = {
        moment: {metric: min(number, after.counts.get(moment, {}).get(metric, 0)) for metric, number in table.items()}
        for moment, table in before.counts.items()
    }
    missing = counts.difference(before.counts, known)
    if missing:
        against.append(f"samples of the past are missing: {missing}")
    return against
