# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A whole backup: made, looked at, proven, and the older ones let go; and the drill that shows that one comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import typing as t
from pathlib import Path

from .._finding import Finding
from .._units import human_duration, human_size
from . import about, journals, proof
from .carry import pack
from .catalogue import DAMAGED, PROVEN, VERIFIED, WRITTEN, Catalogue, Entry, Missing, State
from .create import Failed, NoRoom, Source, create
from .keep import Rules, kept
from .lay import Owner
from .manifest import Damaged, Manifest, Part
from .remote import Copy, Remote, copies, forget, is_repository, leaving, send
from .restic import DamagedRepository, NoRepository, ResticError
from .scratch import Tools
from .steps import Step

BACK_UP, VERIFY, PROVE, CARRY, REMOVE = "back up", "verify", "prove", "carry", "remove"
SEND, FORGET, CHECK = "send", "forget", "check"


@dataclasses.dataclass(frozen=True)
class Prover:
    """What it takes to look at backups.

    :param tools: None where there is no Prometheus: then none of its blocks can be verified.
    :param run_as: who runs the scratch server.
    """

    catalogue: Catalogue
    tools: Tools | None
    run_as: Owner | None


@dataclasses.dataclass(frozen=True)
class Job:
    """
    :param level: how far a new backup is brought.
    :param carry_to: the directory in which it is packed into a file; none where it is empty. That file goes with it.
    :param remote: where it is sent to, off the host; None for nowhere.
    """

    prover: Prover
    sources: tuple[Source, ...]
    rules: Rules
    level: str
    carry_to: str
    host: str
    jobs: int
    remote: Remote | None = None


@dataclasses.dataclass(frozen=True)
class Done:
    """:param name: of the new backup."""

    name: str
    level: str
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True)
class Drill:
    """
    :param at: unix seconds of its end.
    :param recovery_point: seconds between the backup and the drill: what would have been lost.
    :param recovery_time: seconds that it took to have the data back, proven.
    :param reason: why nothing was proven; empty where it was.
    :param is_damaged: whether it did not come back as it was; else nothing could be compared.
    """

    name: str
    at: float
    recovery_point: float
    recovery_time: float
    reason: str
    is_damaged: bool


def plan(job: Job, now: float) -> list[Step]:
    """What :func:`run` would do, as far as it can be known beforehand. Nothing is written."""
    steps = [
        Step(BACK_UP, source.name, "what it holds now; what the store has already is not copied")
        for source in job.sources
    ]
    steps += _treatment(job, "the new backup")
    try:
        entries = job.prover.catalogue.entries()
    except Missing:
        entries = []
    expected = _expected(job, now)
    steps += _leaving(job, [*entries, expected])
    if job.remote:
        try:
            found = [*copies(job.remote, job.host), Copy(expected.name, job.host, "", now)]
            steps += [_forgetting(copy) for copy in leaving(found, [*entries, expected], job.rules)]
        except NoRepository:
            # The run makes it.
            pass
        except ResticError as error:
            steps.append(
                Step(FORGET, job.remote.place, f"what no rule keeps there, and now that is not known: {error}")
            )
        steps.append(_checking(job.remote, now))
    return steps


def run(job: Job, now: float) -> Done:
    """The caller has the lock.

    :raises Failed: and the others of :func:`~.create.create`, before there is a backup.
    """
    catalogue = job.prover.catalogue
    begun = time.monotonic()
    manifest, cost = create(catalogue, job.sources, now, job.host, job.jobs)
    took = time.monotonic() - begun
    findings = [
        Finding(
            "backup.written",
            manifest.name,
            "ok",
            f"Backup {manifest.name} holds {human_size(cost.bytes)} in {cost.files} files; {human_size(cost.new)} were"
            f" new, in {human_duration(took)}.",
            {"figures": {"backup_bytes": cost.bytes, "backup_new_bytes": cost.new, "backup_seconds": round(took, 3)}},
        )
    ]
    findings += [
        # That secrets are left out is as it should be.
        Finding("backup.remark", part.name, "info" if part.source == "configuration" else "warning", remark)
        for part in manifest.parts
        for remark in part.facts.get("remarks", [])
    ]
    if job.level != WRITTEN:
        examine(job.prover, manifest.name, job.level == PROVEN)
        findings += _again(job.prover, manifest.name)
    findings += told_of(catalogue.entry(manifest.name))
    steps = [Step(BACK_UP, part.name, f"{len(part.files)} files", part.size) for part in manifest.parts]
    steps += _treatment(job, manifest.name)
    if job.carry_to:
        findings.append(_carried(job, manifest.name, now))
    there: list[Copy] = []
    if job.remote:
        there, finding = _sent(job, job.remote, manifest, now)
        findings.append(finding)
    elif catalogue.remote():
        # Of what is not wanted any more nobody needs to hear.
        catalogue.note_remote({})
    # Whatever the clock says of the others, the new one stays.
    going = [step for step in _leaving(job, catalogue.entries()) if step.subject != manifest.name]
    removed = tuple(step.subject for step in going)
    files = [place for name in removed for place in catalogue.copies(name) if not is_repository(place)]
    try:
        freed = catalogue.remove(removed)
        for place in files:
            with contextlib.suppress(FileNotFoundError):
                Path(place).unlink()
    except Damaged as error:
        freed, removed, going = 0, (), []
        findings.append(_not_removed(error))
    if removed:
        findings.append(
            Finding(
                "backup.removed",
                str(catalogue.root),
                "info",
                f"{len(removed)} backups that no rule keeps were removed, {human_size(freed)}.",
                {"removed": list(removed)},
            )
        )
    steps += going
    if job.remote and there:
        gone, said = _forgotten(job, job.remote, there)
        steps += [*map(_forgetting, gone), _checking(job.remote, now)]
        findings += [*said, _checked(job, job.remote, now)]
    level = catalogue.entry(manifest.name).level
    return Done(manifest.name, level, tuple(steps), tuple(findings))


def examine(prover: Prover, name: str, is_proof: bool) -> Entry:
    """Verifies every part of a backup, and proves it where asked; what is found out is noted.

    :raises Missing: where there is none of that name.
    """
    entry = prover.catalogue.entry(name)
    for part in entry.manifest.parts if entry.manifest else ():
        state = _verified(prover, part, entry.state(part))
        if is_proof and state.level != DAMAGED:
            state = _proven(prover, part, state)
        prover.catalogue.record(name, {part.name: state})
    return prover.catalogue.entry(name)


def drill(prover: Prover, name: str, now: t.Callable[[], float] = time.time) -> Drill:
    """Brings a backup back, into a directory of its own, and looks at the clock; the live server is not touched.

    :raises Missing: where there is none of that name.
    """
    entry = prover.catalogue.entry(name)
    point = now() - entry.created
    begun = time.monotonic()
    entry = examine(prover, name, is_proof=True) if entry.manifest else entry
    took = time.monotonic() - begun
    reasons = (
        [f"{part.name}: {entry.state(part).reason}" for part in entry.manifest.parts if entry.state(part).reason]
        if entry.manifest
        else []
    )
    reason = entry.damage or "; ".join(reasons)
    if not reason and entry.level != PROVEN:
        reason = f"it is only {entry.level}"
    done = Drill(name, now(), point, took, reason, entry.level == DAMAGED)
    prover.catalogue.note_drill(dataclasses.asdict(done))
    return done


def drill_and_tell(prover: Prover, name: str) -> list[Finding]:
    """A drill, and what there is to say of it."""
    drill(prover, name)
    found = about.findings(prover.catalogue, time.time(), math.inf)
    return [finding for finding in found if finding.check in ("backup.drill", "backup.damaged")]


def told_of(entry: Entry) -> list[Finding]:
    """How sound a backup is, for each part and as a whole."""
    if entry.manifest is None:
        return [
            Finding(
                "backup.state",
                entry.name,
                "critical",
                f"Backup {entry.name} is of no use: {entry.damage}.",
                {},
                _TAKE_ANOTHER,
            )
        ]
    found = [
        Finding(
            "backup.state",
            f"{entry.name} {part.name}",
            "critical",
            f"In backup {entry.name}, {part.name} is damaged: {state.reason}.",
            {},
            _TAKE_ANOTHER,
        )
        for part, state in ((part, entry.state(part)) for part in entry.manifest.parts)
        if state.level == DAMAGED
    ]
    if found:
        return found
    reasons = [f"{part.name}: {entry.state(part).reason}" for part in entry.manifest.parts if entry.state(part).reason]
    text = f"Backup {entry.name} is {entry.level}" + (f" ({'; '.join(reasons)})" if reasons else "") + "."
    severity = {PROVEN: "ok", VERIFIED: "warning" if reasons else "info", WRITTEN: "info"}[entry.level]
    remedy = "ansible-playbook restore-drill.yml proves it." if entry.level != PROVEN else ""
    return [Finding("backup.state", entry.name, severity, text, {}, remedy)]


_TAKE_ANOTHER = "Take another backup now: ansible-playbook backup.yml. Keep this one until a newer one is proven."


def _treatment(job: Job, name: str) -> list[Step]:
    steps = []
    if job.level != WRITTEN:
        steps.append(Step(VERIFY, name, "every file by its hash, every block by promtool"))
    if job.level == PROVEN:
        steps.append(Step(PROVE, name, "a scratch server must give the counts of now"))
    if job.carry_to:
        steps.append(Step(CARRY, job.carry_to, "one file"))
    if job.remote:
        steps.append(Step(SEND, job.remote.place, "encrypted; what lies there already is not sent again"))
    return steps


def _expected(job: Job, now: float) -> Entry:
    """The backup that a run would make, for the rules."""
    part = Part("expected", "", (), (), {})
    state = State(job.level, now, now if job.level == PROVEN else 0.0)
    return Entry("new", Manifest("new", now, job.host, (part,)), {part.name: state})


def _leaving(job: Job, entries: list[Entry]) -> list[Step]:
    staying = kept(entries, job.rules)
    return [Step(REMOVE, entry.name, "no rule keeps it") for entry in entries if entry.name not in staying]


def _verified(prover: Prover, part: Part, former: State) -> State:
    with prover.catalogue.scratch("verify") as scratch:
        return proof.verify(prover.catalogue.store, part, prover.tools, scratch, time.time(), former)


def _proven(prover: Prover, part: Part, verified: State) -> State:
    with prover.catalogue.scratch("prove") as scratch:
        return proof.prove(
            prover.catalogue.store,
            part,
            prover.tools,
            scratch,
            time.time(),
            prover.run_as,
            verified,
            lambda directory: journals.figures(directory, part.facts["today"]),
        )


def _again(prover: Prover, newest: str) -> list[Finding]:
    """The backup that was looked at longest ago: what rots in the store is found before it is needed."""
    others = [entry for entry in prover.catalogue.entries() if entry.name != newest and entry.level != DAMAGED]
    if not others:
        return []
    oldest = min(
        others,
        key=lambda entry: (
            min((entry.state(part).verified for part in entry.manifest.parts), default=0.0) if entry.manifest else 0.0
        ),
    )
    return [
        finding for finding in told_of(examine(prover, oldest.name, is_proof=False)) if finding.severity == "critical"
    ]


def _carried(job: Job, name: str, now: float) -> Finding:
    """The backup is there whether it can be carried away or not."""
    try:
        carried = pack(job.prover.catalogue, name, Path(job.carry_to, f"{job.host}-{name}.tar"))
    except (Damaged, Failed, NoRoom, OSError) as error:
        text = f"{name} could not be packed into {job.carry_to}: {error}."
        return Finding(
            "backup.carried", job.carry_to, "critical", text, {}, "Mend that, and run ansible-playbook backup.yml."
        )
    job.prover.catalogue.note_copy(name, str(carried.path), now)
    text = f"{name} is in {carried.path} as well, {human_size(carried.bytes)}."
    return Finding("backup.carried", str(carried.path), "ok", text, {"sha256": carried.sha256})


def _sent(job: Job, where: Remote, manifest: Manifest, now: float) -> tuple[list[Copy], Finding]:
    """The backup is there whether it can be sent or not. What lies off the host now; nothing where it could not."""
    catalogue, begun = job.prover.catalogue, time.monotonic()
    former = catalogue.remote()
    known = former if former.get("place") == where.place else {}
    try:
        sent, there = send(where, catalogue, manifest.name, job.host, now)
    except (ResticError, Failed, OSError) as error:
        catalogue.note_remote({**known, "place": where.place, "problem": str(error)})
        text = f"{manifest.name} could not be sent to {where.place}: {error}."
        return [], Finding(
            "backup.sent", where.place, "critical", text, {}, "Mend that, and run ansible-playbook backup.yml."
        )
    took = time.monotonic() - begun
    catalogue.note_remote({**known, "place": where.place, "sent": manifest.created, "problem": ""})
    text = (
        f"{manifest.name} lies in {where.place} as well: {human_size(sent.bytes)}, of which {human_size(sent.added)}"
        f" were new there, in {human_duration(took)}."
    )
    figures = {
        "backup_sent_bytes": sent.bytes,
        "backup_sent_new_bytes": sent.added,
        "backup_sent_seconds": round(took, 3),
    }
    return there, Finding("backup.sent", where.place, "ok", text, {"figures": figures, "snapshot": sent.snapshot})


def _forgotten(job: Job, where: Remote, there: list[Copy]) -> tuple[list[Copy], list[Finding]]:
    """What no rule keeps lies there until the next run, where it cannot be removed now: that is not urgent."""
    catalogue = job.prover.catalogue
    gone = leaving(there, catalogue.entries(), job.rules)
    try:
        forget(where, catalogue, gone)
    except ResticError as error:
        text = f"Backups that no rule keeps stay in {where.place}: {error}."
        return [], [Finding("backup.forgotten", where.place, "warning", text, {}, "The next run tries again.")]
    if not gone:
        return [], []
    text = f"{len(gone)} backups that no rule keeps were removed from {where.place}."
    return gone, [Finding("backup.forgotten", where.place, "info", text, {"removed": [copy.name for copy in gone]})]


def _checked(job: Job, where: Remote, now: float) -> Finding:
    """Whether what lies there can still be read; noted, so that it is known how long nobody has looked."""
    catalogue, begun = job.prover.catalogue, time.monotonic()
    part = where.part(now)
    read = f"part {part} of {where.parts} of its data was read" if part else "none of its data were read"
    try:
        where.repository.check(part, where.parts)
    except DamagedRepository as error:
        known = catalogue.remote()
        damages = {**known.get("damages", {}), f"{part}/{where.parts}": str(error)}
        catalogue.note_remote({**known, "checked": now, "damages": damages})
        text = f"{error}; {read}."
        return Finding("backup.checked", where.place, "critical", text, {}, about.MEND_REMOTE)
    except ResticError as error:
        text = f"Whether {where.place} is sound is not known: {error}."
        return Finding("backup.checked", where.place, "unknown", text, {}, "The next run tries again.")
    known = catalogue.remote()
    # What was damaged in another part still is, as far as is known.
    is_all = where.parts == 1
    damages = {at: why for at, why in known.get("damages", {}).items() if not is_all and at != f"{part}/{where.parts}"}
    catalogue.note_remote({**known, "checked": now, "damages": damages})
    took = human_duration(time.monotonic() - begun)
    return Finding("backup.checked", where.place, "ok", f"{where.place} is sound; {read}, in {took}.")


def _forgetting(copy: Copy) -> Step:
    return Step(FORGET, copy.name, "no rule keeps it off the host")


def _checking(where: Remote, now: float) -> Step:
    part = where.part(now)
    return Step(CHECK, where.place, f"part {part} of {where.parts} of its data is read" if part else "its structure")


def _not_removed(error: Damaged) -> Finding:
    return Finding(
        "backup.removed",
        "",
        "critical",
        f"No older backup was removed: {error}.",
        {},
        "Remove the backup whose manifest is damaged: njord.telemetry.backup with state absent and its name.",
    )
