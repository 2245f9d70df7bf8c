# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A whole restore: the backup chosen, the plan said, and, once it is confirmed, everything done and told."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
import typing as t
from pathlib import Path

from .._finding import Finding
from .._journal.lock import lease
from .._prometheus import Prometheus
from .._units import human_duration, human_size
from . import about, job, journals_restore, remote, settings
from .carry import is_held, unpack
from .catalogue import DAMAGED, PROVEN, VERIFIED, Catalogue, Entry, Missing
from .create import Failed
from .encryption import SUFFIX
from .journals import JournalsSource
from .manifest import Part
from .restore import Outcome, Place, apply, recover, restore_to
from .restore import look as look_at
from .restore_plan import Plan
from .restore_plan import plan as plan_of
from .service import Systemd
from .steps import Step

LATEST, DRILL = "latest", "drill"
CATALOGUE, RESTIC = "catalogue", "restic"
ORIGINS = (CATALOGUE, RESTIC)
FETCH = "fetch"
# More than a server gains, or lets go, between two backups.
_MUCH_MORE = 1.2


@dataclasses.dataclass(frozen=True)
class Told:
    """:param kept: where what was replaced lies now."""

    name: str
    kept: str
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    is_done: bool
    is_refused: bool


def choose(catalogue: Catalogue, name: str) -> Entry:
    """
    :param name: of a backup, or ``latest``.
    :raises Missing: where there is none of that name, or no sound one.
    """
    if name != LATEST:
        return catalogue.entry(name)
    sound = [entry for entry in catalogue.entries() if entry.level != DAMAGED]
    if not sound:
        raise Missing(f"there is no sound backup in {catalogue.root}")
    return sound[-1]


def look(
    options: t.Mapping[str, t.Any], server: Prometheus, catalogue: Catalogue, entry: Entry
) -> tuple[list[Step], list[Finding]]:
    """What a restore of Prometheus out of a backup would do here. It only looks.

    :raises Failed: where the backup has nothing of Prometheus.
    """
    part = _parts(entry, "prometheus")[0]
    planned = _planned(options, _place(options, server, part), entry, part)
    return list(planned.steps), _told(entry, planned) + fuller(catalogue, entry, part)


def run(options: t.Mapping[str, t.Any], server: Prometheus, is_check: bool) -> Told:
    """
    :param is_check: only the plan is made, as without ``confirm``.
    :raises NotRestored: where it was given up; then what was there before is there again.
    :raises ResticError: where it lies off the host, and cannot be had from there.
    """
    catalogue = Catalogue(options["catalogue"])
    where = _origin(options, catalogue)
    if options["mode"] == DRILL:
        return _drill(options, server, catalogue, is_check)
    is_confirmed = options["confirm"] and not is_check
    if is_confirmed:
        catalogue.make()
    # A host that never had a backup has no catalogue either.
    is_needed = is_confirmed or not where or catalogue.root.is_dir()
    with contextlib.ExitStack() as held:
        if is_confirmed:
            held.enter_context(lease())
        if is_needed:
            held.enter_context(catalogue.locked(shared=not is_confirmed))
        name = options["name"]
        if options["archive"]:
            if not is_confirmed:
                raise Failed(
                    f"{options['archive']} is not in the catalogue yet; confirm would take it in, or name a backup"
                )
            name = unpack(catalogue, Path(options["archive"]))
        step, found, entry = (
            _fetched(options, where, catalogue, is_confirmed) if where else ([], [], choose(catalogue, name))
        )
        parts = _parts(entry, options["source"])
        if options["target_dir"]:
            told = _elsewhere(options, catalogue, entry, parts, is_confirmed)
        elif options["source"] == JournalsSource.name:
            is_here = is_confirmed or not step
            told = _journals_in_place(catalogue, entry, parts, options["mode"], is_confirmed, is_here)
        else:
            told = _in_place(options, server, catalogue, entry, parts[0], is_confirmed)
        return dataclasses.replace(told, steps=(*step, *told.steps), findings=(*found, *told.findings))


def _origin(options: t.Mapping[str, t.Any], catalogue: Catalogue) -> remote.Remote | None:
    """Where the backup lies off the host; None where the catalogue has it, or an archive."""
    if options["origin"] != RESTIC:
        return None
    where = settings.remote(options, catalogue)
    if where is None:
        raise settings.Unusable("restic_repository is not given; origin restic needs it")
    if options["archive"]:
        raise settings.Unusable("archive and origin restic are two places; one of them would do")
    if options["mode"] == DRILL:
        raise settings.Unusable(
            "mode drill proves what the catalogue has; for one that lies in restic, target_dir does the same"
        )
    return where


def _fetched(
    options: t.Mapping[str, t.Any], where: remote.Remote, catalogue: Catalogue, is_confirmed: bool
) -> tuple[list[Step], list[Finding], Entry]:
    """A backup that lies off the host, in the catalogue; or what it would be, where that is not confirmed."""
    copy = remote.choose(where, options["restic_host"] or socket.gethostname(), options["name"])
    manifest = remote.manifest_of(where, copy)
    is_here = catalogue.root.is_dir() and is_held(catalogue, manifest)
    step = Step(FETCH, copy.name, f"of {copy.host}, from {where.place}; each file checked by its hash", manifest.size)
    steps = [] if is_here else [step]
    if not is_confirmed:
        return steps, [], choose(catalogue, copy.name) if is_here else Entry(copy.name, manifest, {})
    begun = time.monotonic()
    remote.fetch(where, catalogue, copy, manifest, time.time())
    text = f"{copy.name} of {copy.host} is in {catalogue.root}, " + (
        "and was."
        if is_here
        else f"{human_size(manifest.size)} from {where.place} in"
        f" {human_duration(time.monotonic() - begun)}, each file checked by its hash."
    )
    return steps, [Finding("restore.fetched", where.place, "ok", text)], choose(catalogue, copy.name)


def _drill(options: t.Mapping[str, t.Any], server: Prometheus, catalogue: Catalogue, is_check: bool) -> Told:
    """It touches nothing that is live, so it needs no confirmation."""
    with catalogue.locked(shared=is_check):
        entry = choose(catalogue, options["name"])
        steps = (
            Step("write", str(catalogue.root), "into a directory of its own, each file checked by its hash"),
            Step("prove", entry.name, "a scratch server must give the counts that were taken at the backup"),
        )
        if is_check:
            return Told(entry.name, "", steps, (), False, False)
        findings = job.drill_and_tell(settings.prover(options, server), entry.name)
        told = options["textfile_directory"]
        if told and Path(told).is_dir():
            about.tell(Path(told, about.TEXTFILE), catalogue, {})
    return Told(entry.name, "", steps, tuple(findings), True, False)


def _in_place(
    options: t.Mapping[str, t.Any],
    server: Prometheus,
    catalogue: Catalogue,
    entry: Entry,
    part: Part,
    is_confirmed: bool,
) -> Told:
    place = _place(options, server, part)
    said = recover(place.directory, place.service) if is_confirmed else ""
    findings = [Finding("restore.recovered", str(place.directory), "warning", said)] if said else []
    planned = _planned(options, place, entry, part)
    findings += _told(entry, planned, is_confirmed) + fuller(catalogue, entry, part)
    # A repair may find that nothing is to be done.
    if planned.refusals or not planned.steps or not is_confirmed:
        return Told(entry.name, "", planned.steps, tuple(findings), False, bool(planned.refusals))
    begun = time.monotonic()
    done = apply(place, catalogue.store, part, planned)
    findings.append(_done(entry, part, place, done, time.monotonic() - begun))
    return Told(entry.name, done.kept, planned.steps, tuple(findings), True, False)


def _journals_in_place(
    catalogue: Catalogue, entry: Entry, parts: list[Part], mode: str, is_confirmed: bool, is_here: bool
) -> Told:
    done = journals_restore.run(
        catalogue.store, entry.name, parts, lambda part: entry.state(part).level, mode, is_confirmed, is_here
    )
    return Told(entry.name, ", ".join(done.kept), done.steps, done.findings, done.is_done, done.is_refused)


def _elsewhere(
    options: t.Mapping[str, t.Any], catalogue: Catalogue, entry: Entry, parts: list[Part], is_confirmed: bool
) -> Told:
    target = Path(options["target_dir"])
    # Parts of one source have different roots; each is named after its own.
    targets = [target if len(parts) == 1 else target / Path(part.root).name for part in parts]
    if len(set(targets)) != len(targets):
        targets = [target / part.root.strip("/").replace("/", "-") for part in parts]
    tools = settings.tools(options) if options["source"] == "prometheus" else None
    steps = tuple(
        Step("write", str(at), f"{len(part.files)} files of {part.root}, each checked by its hash", part.size)
        for at, part in zip(targets, parts)
    )
    findings = []
    for at, part in zip(targets, parts) if is_confirmed else ():
        compared = restore_to(
            catalogue.store, part, at, tools, is_verified=entry.state(part).level in (PROVEN, VERIFIED)
        )
        text = f"{part.name} of backup {entry.name} is in {at}, {human_size(part.size)}."
        if compared:
            text += f" A scratch server gave the counts of the backup at {compared} times."
        encrypted = part.facts.get("encrypted", {})
        opens = ""
        if encrypted:
            text += f" {len(encrypted)} files of it are encrypted, their names end in {SUFFIX}."
            opens = "Where the identity of one of the recipients is, never here: age -d -i IDENTITY FILE opens one."
        evidence: dict[str, t.Any] = {key: part.facts[key] for key in ("encrypted", "recipients") if key in part.facts}
        findings.append(Finding("restore.done", str(at), "ok", text, evidence, opens))
    return Told(entry.name, "", steps, tuple(findings), is_confirmed, False)


def _parts(entry: Entry, source: str) -> list[Part]:
    if entry.manifest is None:
        raise Failed(f"backup {entry.name} cannot be read: {entry.damage}")
    parts = entry.manifest.part(source)
    if not parts:
        raise Failed(f"backup {entry.name} has nothing of {source}")
    return parts


def _place(options: t.Mapping[str, t.Any], server: Prometheus, part: Part) -> Place:
    given = options["prometheus_data_directory"]
    try:
        directory = settings.data_directory(options, server)
    except Failed:
        # After a loss there may be neither server nor directory: then it goes where it was.
        directory = given or part.root
    return Place(
        directory=Path(directory),
        prometheus=server,
        service=Systemd(options["prometheus_unit"]),
        tools=settings.tools(options),
    )


def _planned(options: t.Mapping[str, t.Any], place: Place, entry: Entry, part: Part) -> Plan:
    live = look_at(place, options["prometheus_unit"], settings.show)
    return plan_of(part, entry.state(part).level, live, options["mode"], time.time())


def _told(entry: Entry, planned: Plan, is_confirmed: bool = False) -> list[Finding]:
    subject = planned.directory
    if not planned.steps and not planned.refusals:
        text = (
            f"Every block in {subject} is whole, and backup {entry.name} has none that is missing: nothing to repair."
        )
        return [Finding("restore.plan", subject, "ok", text)]
    figures = {
        "restore_bytes": planned.needed,
        "restore_seconds": round(planned.seconds),
        "restore_blind_seconds": round(planned.blind),
    }
    findings = [
        Finding(
            "restore.plan",
            subject,
            "info",
            f"Backup {entry.name} would bring {len(planned.bring)} blocks ({human_size(planned.needed)}) back into"
            f" {subject} in about {human_duration(planned.seconds)}, of which about {human_duration(planned.blind)} are"
            " without alerts.",
            {"figures": figures, "bring": list(planned.bring), "carry": list(planned.carry)},
            "" if is_confirmed or planned.refusals else "telemetry_confirm=true does it.",
        )
    ]
    findings += [
        Finding("restore.lost", subject, "warning", f"What is there now of {gap} would be gone.")
        for gap in planned.gaps
    ]
    findings += [Finding("restore.warning", subject, "warning", text) for text in planned.warnings]
    findings += [Finding("restore.refused", subject, "critical", text) for text in planned.refusals]
    return findings


def fuller(catalogue: Catalogue, entry: Entry, part: Part) -> list[Finding]:
    """The newest backup may be from after the loss."""
    counted = {
        other.name: theirs.facts.get("samples", 0)
        # What is fetched from elsewhere may be the first one here.
        for other in (catalogue.entries() if catalogue.root.is_dir() else ())
        if other.manifest and other.level != DAMAGED
        for theirs in other.manifest.part(part.source)
        if theirs.root == part.root
    }
    has, most = part.facts.get("samples", 0), max(counted.values(), default=0)
    if most <= has * _MUCH_MORE:
        return []
    best = max(name for name, samples in counted.items() if samples == most)
    text = f"Backup {best} has {most} samples of {part.root}, and {entry.name} only {has}: was it made after the loss?"
    remedy = f"ansible-playbook restore.yml -e restore_name={best} says what that one would bring back."
    return [Finding("restore.warning", best, "warning", text, {"samples": counted}, remedy)]


def _done(entry: Entry, part: Part, place: Place, done: Outcome, seconds: float) -> Finding:
    text = (
        f"Backup {entry.name} is back in {place.directory} after {human_duration(seconds)}; for"
        f" {human_duration(done.blind)} there was no server. "
    )
    text += f"It gives the counts of the backup at {done.compared} times." if done.compared else "It is ready."
    figures = {"restore_seconds": round(seconds, 3), "restore_blind_seconds": round(done.blind, 3)}
    if done.left_out:
        text += f" The write-ahead log had to stay behind: {done.left_out}"
    evidence = {
        "figures": figures,
        "kept": done.kept,
        "compared": done.compared,
        "samples": part.facts.get("samples", 0),
    }
    remedy = f"{done.kept} has what was there before; remove it once nobody needs it." if done.kept else ""
    severity = "warning" if done.left_out else "ok"
    return Finding("restore.done", str(place.directory), severity, text, evidence, remedy)
