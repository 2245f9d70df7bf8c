# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A whole update: what is there, what would be done, and, unless it only looks, all of it, or the way back.

A record in the vault says how far an update is. Whatever interrupts it, the next run ends it before it does anything
else: forward where the new version proves to be well, back where it does not.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
import typing as t
from pathlib import Path

from .._backup.catalogue import PROVEN as IS_PROVEN
from .._backup.catalogue import Catalogue, Missing
from .._backup.create import Failed as Unknown
from .._backup.manifest import Damaged, seal, unseal
from .._backup.prometheus import resolve
from .._backup.service import NotDone, Service, holder
from .._backup.settings import show
from .._backup.steps import Step
from .._backup.store import write_file
from .._finding import Finding
from .._http import HttpError
from .._prometheus import Prometheus
from .._storage import rfc3339
from .._units import human_duration, human_size
from . import versions
from .data import Aside, room
from .gate import Account, Gate, moments, untried
from .programs import Failed, NotPossible, Programs, check_configuration, version_of

READY_SECONDS = 600.0
# What was well before gets this long, on a host that was busy enough to spoil the update.
BACK_SECONDS = 120.0
_POLL_SECONDS = 0.2
# A server that was told to end may have its files open for a moment longer.
_LINGER_SECONDS = 5.0
_RECORD = "record"
# In this order, and either the way back or its end. Until the service is switched nothing has changed.
_FETCHING, _KEEPING, _SWITCHING, _PROVEN = "fetching", "keeping", "switching", "proven"
_PARTING, _JOINING = "parting", "joining"
# Of what had no turn, how much is named.
_SHOWN = 20
_TRY_LATER = (
    "Once they had their turn, ansible-playbook service-health.yml says how they are; a longer telemetry_update_wait"
    " waits for them."
)
_EXPECTED = (Failed, HttpError, NotDone, NotPossible, OSError, Unknown)


class _NotWell(Exception):
    """What there is against the new version, clauses."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What an update of Prometheus must not lose.

    :param unit: that runs it.
    :param given: where it keeps its data; empty where it says so itself.
    :param backup_age: seconds that the newest proven backup may be old.
    """

    prometheus: Prometheus
    unit: str
    given: str
    catalogue: Catalogue
    backup_age: float

    @functools.cached_property
    def directory(self) -> Path:
        """Where it keeps its data.

        :raises Unknown: where nobody says.
        """
        return Path(resolve(self.prometheus, self.unit, show, self.given))


@dataclasses.dataclass(frozen=True)
class Job:
    """
    :param title: as an operator calls the service.
    :param program: name of its program.
    :param vault: a directory for what the way back needs; only root may look into it.
    :param data: None where the service keeps none.
    :param wait: seconds that it may take from being ready until it is as well as before.
    :param is_one_way: whether it is done as well where the installed version cannot be had again.
    """

    title: str
    program: str
    programs: Programs
    gate: Gate
    service: Service
    vault: Path
    data: Data | None
    wait: float
    is_one_way: bool = False


@dataclasses.dataclass(frozen=True)
class Told:
    """:param installed: the version that is there now. :param is_changed: or would be, where it only looked."""

    installed: str
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    is_changed: bool


def run(job: Job, is_check: bool) -> Told:
    """
    :param is_check: only the plan is made.
    """
    findings: list[Finding] = []
    try:
        record = _Record.read(job.vault)
        if record and is_check:
            return _would_end(job, record)
        if record:
            findings.append(_end(job, record))
        return _run(job, is_check, findings)
    except _EXPECTED as error:
        text = f"{job.title} is not updated: {str(error).rstrip('.')}."
        return Told("", (), (*findings, _finding(job, "update.refused", "critical", text)), bool(findings))


def _run(job: Job, is_check: bool, findings: list[Finding]) -> Told:
    installed, wanted = job.programs.installed(), job.programs.wanted()
    changes = job.programs.plan() if installed and wanted else []
    if not changes:
        return Told(installed, (), (*findings, _as_it_is(job, installed, wanted)), bool(findings))
    before = job.gate.look()
    planned = _Plan.make(job, installed, wanted, before)
    if planned.refusals:
        refused = [_finding(job, "update.refused", "critical", text, planned.remedy(text)) for text in planned.refusals]
        return Told(installed, (), (*findings, *refused), bool(findings))
    if is_check:
        text = f"{job.title} {installed} would become {wanted}; {planned.way_back}."
        findings.append(_finding(job, "update.plan", "info", text, "Without --check it is done."))
        return Told(installed, planned.steps, tuple(findings), True)
    findings.append(_apply(job, planned, installed, wanted))
    return Told(job.programs.installed(), planned.steps, tuple(findings), True)


def _as_it_is(job: Job, installed: str, wanted: str) -> Finding:
    if not installed:
        text = f"{job.title} is not installed yet, so there is nothing to update."
        return _finding(job, "update.version", "unknown", text, "ansible-playbook site.yml installs it.")
    if wanted:
        return _finding(job, "update.version", "ok", f"{job.title} is {installed}, as it is pinned.")
    text = f"{job.title} is {installed}, and no version is pinned; {job.programs.available()}."
    remedy = f"{job.programs.setting} pins one, and then update.yml brings it."
    return _finding(job, "update.version", "info", text, remedy)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """:param needs_aside: whether the data are kept as they are. :param way_back: a clause."""

    steps: tuple[Step, ...]
    refusals: tuple[str, ...]
    needs_aside: bool
    way_back: str

    @classmethod
    def make(cls, job: Job, installed: str, wanted: str, before: Account) -> _Plan:
        refusals = [
            f"{job.title} is not well, and what is sick is not updated: {text.rstrip('.')}." for text in before.sick
        ]
        lacks = job.programs.lacks()
        if lacks and not job.is_one_way:
            refusals.append(f"There is no way back from {job.title} {wanted} to {installed}: {lacks}.")
        needs_aside, needed = False, 0
        way_back = f"where it is not well, {installed} comes back by itself"
        if job.data:
            running = before.version or installed
            needs_aside = not versions.reads(running, wanted)
            if not versions.reads(wanted, running):
                refusals.append(
                    f"Prometheus {wanted} is not known to read what {running} has written; a later version would do."
                )
            unproven = _unproven(job.data, time.time())
            if unproven:
                refusals.append(unproven)
            if needs_aside and job.data.directory.is_dir():
                needed, free = room(job.data.directory)
                if needed > free:
                    refusals.append(
                        f"{installed} does not read what {wanted} writes, and to keep the data as they are takes"
                        f" {human_size(needed)}, of which {job.data.directory} has {human_size(free)}."
                    )
                way_back += " with the data of before, since it does not read what the new one writes"
        if lacks:
            way_back = f"there is no way back, for {lacks}"
        return cls(tuple(_steps(job, needs_aside, needed)), tuple(refusals), needs_aside, way_back)

    @staticmethod
    def remedy(text: str) -> str:
        return next((remedy for word, remedy in _REMEDIES.items() if word in text), "")


_REMEDIES = {
    "is not well": "ansible-playbook service-health.yml; then update.yml again.",
    "no way back": "Keep its package in a repository of your own, or say telemetry_update_one_way=true.",
    "is proven": "ansible-playbook backup.yml takes one and proves it; then update.yml again.",
    "to keep the data": "Make room there; then update.yml again.",
}


def _steps(job: Job, needs_aside: bool, needed: int) -> t.Iterator[Step]:
    changes = job.programs.plan()
    for what, old, new in changes:
        yield Step("fetch", what, f"{new}, and {old} for the way back" if old else new)
    yield Step("stop", job.title, "its program changes")
    if needs_aside and job.data:
        yield Step(
            "keep", str(job.data.directory), "the installed version does not read what the new one writes", needed
        )
    for what, old, new in changes:
        yield Step("install", what, f"{old} becomes {new}" if old else f"{new} is needed by another")
    yield Step("start", job.title, "and it must be as well as before, or all goes back")


def _unproven(data: Data, now: float) -> str:
    """Why there is no backup to fall back on, a sentence; empty where there is."""
    try:
        entries = data.catalogue.entries()
    except Missing as error:
        entries, why = [], f"{error}"
    else:
        why = "there is none"
    proven = [
        entry.created
        for entry in entries
        for part in (entry.manifest.part("prometheus") if entry.manifest else ())
        if entry.state(part).level == IS_PROVEN and Path(part.root).resolve() == data.directory.resolve()
    ]
    if proven:
        age = now - max(proven)
        if age <= data.backup_age:
            return ""
        why = f"the newest is {human_duration(age)} old"
    return (
        f"No backup of {data.directory} of the last {human_duration(data.backup_age)} is proven ({why}), and nothing is"
        " updated without one."
    )


def _apply(job: Job, planned: _Plan, installed: str, wanted: str) -> Finding:
    """Does it; what came of it.

    :raises NotPossible: where nothing was changed.
    """
    record = _Record.begin(job, installed, wanted)
    try:
        new = job.programs.fetch(job.vault)
        if (new / job.program).is_file():
            version_of(new / job.program)
        times: list[int] = []
        if job.data:
            flags = job.data.prometheus.flags()
            check_configuration(new, flags["config.file"])
            times = moments(time.time(), job.data.prometheus.oldest())
        before = job.gate.look(times)
        if before.sick:
            raise NotPossible(f"it is not well any more: {before.sick[0]}")
    except BaseException:
        record.remove()
        raise
    aside = Aside.of(job.data.directory.resolve(), record.stamp) if job.data and planned.needs_aside else None
    record.reach(_KEEPING, before=before.as_dict(), aside=aside.as_dict() if aside else None)
    try:
        return _switch(job, record, before)
    except Exception as error:
        # A kill does not come here: then the next run does this.
        return _go_back(job, record, str(error) or type(error).__name__)


def _switch(job: Job, record: _Record, before: Account) -> Finding:
    """
    :raises Exception: whatever stands in the way; then all goes back.
    """
    begun = time.monotonic()
    job.service.stop()
    if job.data:
        _require_alone(job.data.directory)
    if record.aside:
        record.aside.keep()
    record.reach(_SWITCHING)
    job.programs.switch(job.vault)
    expected = version_of(job.programs.directory / job.program)
    _start(job)
    blind = time.monotonic() - begun
    account, against = job.gate.wait(before, expected, job.wait, job.service.ended)
    if against:
        raise _NotWell("; ".join(text.rstrip(".") for text in against))
    _finish(job, record)
    waiting = untried(before, account)
    well = "as far as it could be tried" if waiting else "as well as before"
    text = f"{job.title} {record.old} is {record.new} now, {well}; for {human_duration(blind)} there was none."
    figures: dict[str, float] = {"update_blind_seconds": round(blind, 3)}
    if job.data:
        figures["head_series"] = account.series
        text += f" {len(account.up)} targets are up, and the counts of the past are those of before."
    evidence = {"figures": figures, "from": record.old, "to": record.new, "without_a_turn": waiting[:_SHOWN]}
    if waiting:
        return _finding(job, "update.done", "unknown", text + _no_turn(waiting), _TRY_LATER, evidence)
    return _finding(job, "update.done", "ok", text, evidence=evidence)


def _no_turn(waiting: t.Sequence[str]) -> str:
    """What could not be tried, a sentence after another one; empty where there is nothing."""
    if not waiting:
        return ""
    return (
        f" {len(waiting)} targets and rules that were well before had no turn since, such as {waiting[0]}: whether they"
        " are is not known."
    )


def _start(job: Job) -> None:
    """Returns once it is ready.

    :raises _NotWell: where it ends instead, or takes too long.
    """
    job.service.start()
    if not job.data:
        return
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            job.data.prometheus.ready()
            return
        except HttpError as error:
            ended = job.service.ended()
            if ended:
                raise _NotWell(f"it ended before it was ready: {ended}") from error
            if time.monotonic() > deadline:
                raise _NotWell(f"it is not ready after {human_duration(READY_SECONDS)}: {error}") from error
        time.sleep(_POLL_SECONDS)


def _require_alone(directory: Path) -> None:
    """
    :raises NotDone: where a process has a file of it open.
    """
    deadline = time.monotonic() + _LINGER_SECONDS
    who = holder(directory.resolve())
    while who:
        if time.monotonic() > deadline:
            raise NotDone(f"{directory} is in use by {who}, which may be a second server; end it")
        time.sleep(_POLL_SECONDS)
        who = holder(directory.resolve())


def _finish(job: Job, record: _Record) -> None:
    """The new version is proven: nobody needs what the way back would have."""
    record.reach(_PROVEN)
    if record.aside:
        record.aside.drop()
    job.programs.tidy()
    record.remove()


def _go_back(job: Job, record: _Record, why: str) -> Finding:
    """Whatever was done is undone; can be repeated from wherever it was interrupted."""
    why = why.rstrip(".")
    begun = record.phase
    try:
        if begun != _FETCHING:
            _undo(job, record)
        account, against = job.gate.wait(
            record.before, record.before.version, max(job.wait, BACK_SECONDS), job.service.ended, has_turns=False
        )
    except (_NotWell, *_EXPECTED) as error:
        text = (
            f"{job.title} {record.new} was not well ({why}), and the way back to {record.old} failed:"
            f" {str(error).rstrip('.')}."
        )
        remedy = (
            f"journalctl -u {job.gate.unit} -n 100; update.yml tries the way back again. The proven backup is there:"
            " ansible-playbook incident-data-loss.yml."
        )
        return _finding(job, "update.failed", "critical", text, remedy)
    interim = record.aside.interim if record.aside and begun != _KEEPING else None
    record.remove()
    if against:
        text = (
            f"{job.title} {record.new} was not well ({why}). {record.old} is back, and is not as well as before:"
            f" {'; '.join(against)}."
        )
    else:
        text = f"{job.title} {record.new} was not well, so {record.old} is back, as well as before. Against it: {why}."
        text += _no_turn(untried(record.before, account))
    evidence: dict[str, t.Any] = {"from": record.old, "to": record.new, "version": account.version}
    remedy = f"journalctl -u {job.gate.unit} says why."
    if interim and interim.is_dir():
        text += (
            f" It has the data of before the update; what the new version wrote from {rfc3339(record.started)} to"
            f" {rfc3339(time.time())} is in {interim}, and is not in the old one."
        )
        evidence["kept"] = str(interim)
        remedy += f" Remove {interim} once nobody needs it."
    return _finding(job, "update.failed", "critical", text, remedy, evidence)


def _undo(job: Job, record: _Record) -> None:
    job.service.stop()
    if record.phase == _SWITCHING:
        # The programs first: whoever starts the host meanwhile starts none that writes what the old one cannot read.
        job.programs.back(job.vault)
        if record.aside and record.aside.is_untouched():
            record.aside.drop()
        record.reach(_PARTING)
    if record.phase == _PARTING:
        if record.aside:
            record.aside.part()
        record.reach(_JOINING)
    if record.phase == _JOINING and record.aside:
        record.aside.join()
    if record.aside:
        record.aside.drop()
    _start(job)


def _end(job: Job, record: _Record) -> Finding:
    """Ends an update that was interrupted."""
    said = f"An update of {job.title} from {record.old} to {record.new} was interrupted"
    if record.phase == _FETCHING:
        record.remove()
        return _finding(job, "update.recovered", "info", f"{said} before anything had changed.")
    if record.phase == _PROVEN:
        _finish(job, record)
        return _finding(job, "update.recovered", "info", f"{said} after the new version had proven to be well.")
    if record.phase == _SWITCHING and job.programs.installed() == record.new and job.service.is_running():
        expected = version_of(job.programs.directory / job.program)
        account, against = job.gate.wait(record.before, expected, job.wait, job.service.ended)
        if not against:
            waiting = untried(record.before, account)
            _finish(job, record)
            if waiting:
                text = f"{said}; nothing is to be said against the new version.{_no_turn(waiting)}"
                return _finding(job, "update.recovered", "unknown", text, _TRY_LATER)
            return _finding(
                job, "update.recovered", "warning", f"{said}; the new version is as well as the old one was."
            )
    return _go_back(job, record, "its update was interrupted")


def _would_end(job: Job, record: _Record) -> Told:
    text = f"An update of {job.title} from {record.old} to {record.new} was interrupted, and is not ended yet."
    finding = _finding(job, "update.recovered", "critical", text, "ansible-playbook update.yml ends it.")
    return Told(job.programs.installed(), (Step("recover", job.title, text),), (finding,), True)


def _finding(
    job: Job, check: str, severity: str, text: str, remedy: str = "", evidence: dict[str, t.Any] | None = None
) -> Finding:
    return Finding(check, job.gate.service, severity, text, evidence or {}, remedy)


class _Record:
    """How far an update is, and what the way back needs to know."""

    def __init__(self, vault: Path, document: dict[str, t.Any]) -> None:
        self._vault = vault
        self._document = document

    @property
    def phase(self) -> str:
        return str(self._document["phase"])

    @property
    def old(self) -> str:
        return str(self._document["old"])

    @property
    def new(self) -> str:
        return str(self._document["new"])

    @property
    def stamp(self) -> str:
        return str(self._document["stamp"])

    @property
    def started(self) -> float:
        return float(self._document["started"])

    @property
    def before(self) -> Account:
        return Account.read(self._document["before"])

    @property
    def aside(self) -> Aside | None:
        document = self._document["aside"]
        return Aside.read(document) if document else None

    @classmethod
    def begin(cls, job: Job, old: str, new: str) -> _Record:
        job.vault.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if job.vault.exists():
            shutil.rmtree(job.vault)
        job.vault.mkdir(mode=0o700, parents=True)
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        record = cls(job.vault, {"old": old, "new": new, "stamp": stamp, "started": now})
        record.reach(_FETCHING)
        return record

    @classmethod
    def read(cls, vault: Path) -> _Record | None:
        """
        :raises NotPossible: where it cannot be read.
        """
        try:
            return cls(vault, unseal((vault / _RECORD).read_bytes()))
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise NotPossible(f"{vault / _RECORD}, the record of an earlier update, is damaged: {error}") from error

    def reach(self, phase: str, **more: t.Any) -> None:
        self._document = {**self._document, **more, "phase": phase}
        write_file(self._vault / _RECORD, seal(self._document))

    def remove(self) -> None:
        (self._vault / _RECORD).unlink()
        shutil.rmtree(self._vault)
