# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Journals come back in place: the whole tree beside, proven, then put into the place of the live one, which is kept.

What is carried over gets a second name in the new tree: whoever writes to it by its name goes on doing so in the same
file, at every moment. No clean-up is at work meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import time
import typing as t
from pathlib import Path

from .._finding import Finding
from .._journal.account import shown
from .._journal.exchange import Changed as JournalChanged
from .._journal.exchange import is_interrupted, open_files
from .._journal.exchange import recover as end_exchange
from .._journal.lock import Busy, locked
from .._journal.state import Broken, append_consumed, read_consumed
from .._journal.stream import Identity
from .._units import human_duration, human_size
from . import journals
from .create import Failed
from .figures import difference
from .journals_plan import NAMES, Choice, Comparison, Live, Plan, choose, look, named, plan
from .lay import ids, lay
from .manifest import Part
from .record import BUILDING, PLACED, NotRestored, Record, alone, remove, resume, swap
from .restore_plan import REPAIR, SWAP
from .steps import Step
from .store import Changed, Store, sync_directory

_NO_REPAIR = (
    "mode: repair is for blocks of Prometheus; mode swap brings the journals back as a whole tree, and carries over"
    " what the backup does not hold"
)


@dataclasses.dataclass(frozen=True)
class Done:
    """:param kept: where what was replaced lies now."""

    kept: tuple[str, ...]
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    is_done: bool
    is_refused: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """
    :param choice: what came along in the end.
    :param late: what came along although nobody had seen it before.
    :param remarks: what is to be looked at, such as what went into the old tree in the moment of the change.
    """

    kept: str
    choice: Choice
    late: tuple[str, ...]
    remarks: tuple[str, ...]


def run(
    store: Store,
    name: str,
    parts: t.Sequence[Part],
    level: t.Callable[[Part], str],
    mode: str,
    is_confirmed: bool,
    is_here: bool = True,
) -> Done:
    """Plans every directory, and, where none of them is refused, brings all of them back, one after the other.

    :param name: of the backup.
    :param level: of a part in it, see :mod:`.catalogue`.
    :param is_here: whether the store has it already; it needs not, for a plan.
    :raises Failed: where they cannot be put back in place at all.
    :raises NotRestored: where it was given up; directories before that one are restored.
    """
    if mode == REPAIR:
        raise Failed(_NO_REPAIR)
    _require_apart(parts)
    findings: list[Finding] = []
    if is_confirmed:
        for part in parts:
            said = recover(Path(part.root))
            findings += [Finding("restore.recovered", part.root, "warning", said)] if said else []
    plans = [_planned(store if is_here else None, name, part, level(part)) for part in parts]
    for part, planned in zip(parts, plans):
        findings += _told(name, part, planned, is_confirmed)
    steps = tuple(step for planned in plans for step in planned.steps)
    is_refused = any(planned.refusals for planned in plans)
    if is_refused or not is_confirmed:
        return Done((), steps, tuple(findings), False, is_refused)
    kept = []
    for part in parts:
        begun = time.monotonic()
        done = apply(store, name, part, level(part))
        kept += [done.kept] if done.kept else []
        findings += _done(name, part, done, time.monotonic() - begun)
    return Done(tuple(kept), steps, tuple(findings), True, False)


def apply(store: Store, name: str, part: Part, level: str) -> Outcome:
    """Does what the plan says, all of it or nothing.

    :raises NotRestored: where it was given up.
    :raises Damaged: where the backup is not what it was; nothing was touched then.
    """
    if os.geteuid():
        raise NotRestored("Only root can see whether somebody has a journal open; become would do.")
    directory = Path(part.root).resolve()
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with alone(directory), _without_clean_up(directory, shared=False):
        if Record.read(directory):
            raise NotRestored(f"An earlier restore of {directory} was interrupted and not ended yet.")
        remarks = _end_clean_up(directory)
        compare = Comparison(store, part)
        planned = plan(part, name, level, look(directory), compare)
        if planned.refusals:
            raise NotRestored(planned.refusals[0])
        try:
            record = Record.begin(directory, SWAP)
            if record.beside.exists():
                record.remove()
                raise NotRestored(f"{record.beside} is there, and no restore has left it; remove or rename it.")
            _build(store, part, record)
            return _exchange(name, part, record, compare, remarks)
        except BaseException as error:
            # A kill does not come here: then the next run does this.
            said = _go_back(directory, error)
            if said or isinstance(error, (OSError, Failed, Changed)):
                raise NotRestored(f"{str(error).rstrip('.')}. {said}".rstrip()) from error
            raise


def recover(directory: Path) -> str:
    """Ends what an interrupted restore began; a sentence about it, empty where there is none.

    :raises NotRestored: where nobody can say how far it was, or somebody else is at work.
    """
    directory = directory.resolve()
    if not directory.parent.is_dir():
        return ""
    with alone(directory), _without_clean_up(directory, shared=False):
        return _recover(directory)


def _recover(directory: Path) -> str:
    record = _pending(directory)
    return f"A restore of {directory} was interrupted. {_end(record)}" if record else ""


def _go_back(directory: Path, error: BaseException) -> str:
    """What is there now, a sentence; nothing where that was not touched yet.

    :raises NotRestored: where it does not go well either; it says both.
    """
    try:
        record = _pending(directory)
        is_touched = bool(record and record.phase != BUILDING)
        said = _end(record) if record else ""
        return said if is_touched or isinstance(error, OSError) else ""
    except (NotRestored, OSError) as second:
        later = " The next run tries again." if Record.read(directory) else ""
        raise NotRestored(
            f"{str(error).rstrip('.')}. And on the way back: {str(second).rstrip('.')}.{later}"
        ) from error


def _pending(directory: Path) -> Record | None:
    Record.sweep(directory)
    return Record.read(directory)


def _end(record: Record) -> str:
    """What is there now, sentences."""
    interim = resume(record) if record.phase != BUILDING else ""
    said = "What was there before is there again."
    if record.phase == PLACED:
        said = "What was proven has its place, and stays there."
        if record.existed:
            said += f" What was written in the moment of the change, if anything, is only in {record.kept}."
    _clear(record)
    return f"{said} {interim} has what was written in between; compare it by hand." if interim else said


def _clear(record: Record) -> None:
    """Nothing but the directory is left, and what was replaced. The record goes last."""
    if record.beside.exists():
        remove(record.beside)
    if record.kept.is_dir() and not any(record.kept.iterdir()):
        record.kept.rmdir()
    sync_directory(record.beside.parent)
    record.remove()


@contextlib.contextmanager
def _without_clean_up(directory: Path, shared: bool) -> t.Iterator[None]:
    """
    :raises NotRestored: where a clean-up is at work, which it names.
    """
    try:
        with locked(str(directory), shared) if directory.is_dir() else contextlib.nullcontext():
            yield
    except Busy as error:
        raise NotRestored(f"Nothing was done: {error}. Wait for its end.") from error


def _end_clean_up(directory: Path) -> list[str]:
    """Brings a clean-up to its end that was interrupted; where nobody can, that stays in the old tree, a sentence."""
    if not directory.is_dir() or not is_interrupted(str(directory)):
        return []
    opened, _unknown = open_files()

    def is_open(identity: Identity) -> bool:
        return (identity.device, identity.inode) in opened

    try:
        end_exchange(str(directory), is_open)
    except JournalChanged as error:
        raise NotRestored(f"An interrupted clean-up of {directory} cannot be brought to its end: {error}.") from error
    except Broken as error:
        return [f"An interrupted clean-up could not be brought to its end, and stays in the old directory: {error}."]
    return [f"An interrupted clean-up of {directory} was brought to its end first."]


def _build(store: Store, part: Part, record: Record) -> None:
    """Lays out the tree, and proves it."""
    beside, directory = record.beside, record.directory
    beside.mkdir(mode=0o700)
    lay(store, part, beside)
    if "figures" in part.facts:
        found = json.loads(json.dumps(journals.figures(beside, part.facts["today"])))
        wrong = difference(part.facts["figures"], found)
        if wrong:
            raise NotRestored(f"What was restored is not what was backed up: {wrong}.")
    facts = part.facts
    owner = ids(str(facts.get("owner", "root")), str(facts.get("group", "root")))
    mode = int(facts.get("mode", 0o755))
    if directory.is_dir():
        status = directory.stat()
        owner, mode = (status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode)
    os.chown(beside, *owner)
    beside.chmod(mode)


def _exchange(name: str, part: Part, record: Record, compare: Comparison, remarks: list[str]) -> Outcome:
    directory, beside, kept = record.directory, record.beside, record.kept
    live = look(directory)
    choice = choose(part, name, live, compare)
    _require_quiet(live)
    _arrange(live, choice, beside)
    # Nobody else sees it yet; then no clean-up comes before we are through.
    with locked(str(beside), shared=False):
        _require_unchanged(live, choice, look(directory))
        swap(record)
        late, more = _came_late(live, choice, record)
        record.reach(PLACED)
        _clear(record)
    return Outcome(str(kept) if kept.is_dir() else "", choice, tuple(late), (*remarks, *more))


def _arrange(live: Live, choice: Choice, beside: Path) -> None:
    """Adds to the tree of a backup what comes along, under a second name."""
    for path in choice.held:
        (beside / path).unlink()
    for path, new in choice.renamed.items():
        (beside / path).rename(beside / new)
    root = Path(live.directory)
    for one in live.found.directories if live.found else ():
        target, status = beside / one.path, (root / one.path).stat()
        if not target.is_dir():
            target.mkdir(mode=0o700)
            os.chown(target, status.st_uid, status.st_gid)
            target.chmod(stat.S_IMODE(status.st_mode))
    for path in (*choice.carry, *(live.found.others if live.found else ())):
        if not os.path.lexists(beside / path):
            os.link(root / path, beside / path, follow_symlinks=False)
    # What went into a roll-up that comes along is not to be counted again, wherever it comes from.
    consumed = [entry for entry in read_consumed(live.directory) if entry.target in choice.carry]
    append_consumed(str(beside), consumed)
    for above, _names, _files in os.walk(beside):
        sync_directory(Path(above))


def _require_quiet(live: Live) -> None:
    """
    :raises NotRestored: where somebody writes.
    """
    if live.writers:
        raise NotRestored(f"{live.writers[0]} in {live.directory}: stop it first.")


def _require_unchanged(before: Live, choice: Choice, now: Live) -> None:
    """What comes along may grow, and what is new comes along as well.

    :raises NotRestored: where something else changed.
    """
    _require_quiet(now)
    if before.found is None and now.found is not None:
        raise NotRestored(f"{now.directory} was made anew while the backup was written beside it. Run it again.")
    there = now.candidates
    for path, one in before.candidates.items():
        still = there.get(path)
        # A second name changes the key.
        is_same = still is not None and (still.inode == one.inode if path in choice.carry else still.key == one.key)
        if not is_same:
            raise NotRestored(f"{shown(path)} was changed while the backup was written beside it. Run it again.")


def _came_late(live: Live, choice: Choice, record: Record) -> tuple[list[str], list[str]]:
    if not record.existed:
        return [], []
    try:
        return _late(live, choice, record.kept, record.directory)
    except (OSError, Failed, Changed) as error:
        return [], [f"What was written in the moment of the change is not known: {error}. Look into {record.kept}."]


def _late(live: Live, choice: Choice, kept: Path, directory: Path) -> tuple[list[str], list[str]]:
    """What came into the old tree in the moment before it had its place, and what of it only that has, sentences."""
    late, remarks = [], []
    now = look(kept)
    for path, one in now.candidates.items():
        before = live.candidates.get(path)
        if before is None and not os.path.lexists(directory / path) and (directory / path).parent.is_dir():
            os.link(one.at, directory / path, follow_symlinks=False)
            sync_directory((directory / path).parent)
            late.append(path)
        elif before is None or (
            path not in choice.carry and (one.size, one.modified) != (before.size, before.modified)
        ):
            remarks.append(f"{shown(path)} was written to in the moment of the change; what came is only in {kept}.")
    remarks += [
        f"{writer} in {kept}: restart it, else it goes on writing there."
        for writer in now.writers
        if writer.path not in choice.carry and writer.path not in late
    ]
    return late, remarks


def _planned(store: Store | None, name: str, part: Part, level: str) -> Plan:
    directory = Path(part.root).resolve()
    with _without_clean_up(directory, shared=True):
        try:
            return plan(part, name, level, look(directory), Comparison(store, part) if store else None)
        except Changed as error:
            raise NotRestored(f"{error}. Run it again.") from error


def _require_apart(parts: t.Sequence[Part]) -> None:
    """
    :raises Failed: where one directory lies in another.
    """
    roots = [Path(part.root) for part in parts]
    for one in roots:
        for other in roots:
            if other in one.parents:
                raise Failed(
                    f"{one} lies in {other}, and both were backed up: they cannot change places one by one. target_dir"
                    " would do"
                )


def _told(name: str, part: Part, planned: Plan, is_confirmed: bool) -> list[Finding]:
    place, choice = planned.directory, planned.choice
    days = sorted(key.split()[0] for key in part.facts.get("figures", {}) if key[:4].isdigit())
    span = f" with the days {days[0]} to {days[-1]}" if days else ""
    evidence: dict[str, t.Any] = {
        "figures": {"restore_bytes": planned.needed, "restore_seconds": round(planned.seconds)},
        "carry": [shown(path) for path in list(choice.carry)[:NAMES]],
        "replace": [shown(path) for path in choice.replaced[:NAMES]],
    }
    text = (
        f"Backup {name} would bring {len(part.files)} files ({human_size(part.size)}){span} back into {place} in about"
        f" {human_duration(planned.seconds)}; {len(choice.carry)} live files come along, {len(choice.replaced)} are"
        " replaced by what the backup has."
    )
    remedy = "" if is_confirmed or planned.refusals else "telemetry_confirm=true does it."
    found = [Finding("restore.plan", place, "info", text, evidence, remedy)]
    if choice.gone:
        more = f" and {len(choice.gone) - NAMES} more" if len(choice.gone) > NAMES else ""
        text = f"These journals would be gone from {place}: {'; '.join(map(str, choice.gone[:NAMES]))}{more}."
        evidence = {"gone": [{**dataclasses.asdict(one), "path": shown(one.path)} for one in choice.gone[:NAMES]]}
        found.append(Finding("restore.lost", place, "warning", text, evidence, "They stay in the old directory."))
    found += [Finding("restore.warning", place, "warning", text) for text in planned.warnings]
    # Whoever only looks may not need them back.
    severity = "critical" if is_confirmed else "warning"
    found += [Finding("restore.refused", place, severity, text) for text in planned.refusals]
    return found


def _done(name: str, part: Part, done: Outcome, seconds: float) -> list[Finding]:
    proof = (
        "It gave the counts and sums per series and day of the backup"
        if "figures" in part.facts
        else "Its files have the hashes of the backup; what they count is not known"
    )
    text = f"Backup {name} is back in {part.root} after {human_duration(seconds)}. {proof}."
    along = [*done.choice.carry, *done.late]
    if along:
        text += f" {len(along)} live files came along, such as {named(along[:3])}."
    evidence = {"figures": {"restore_seconds": round(seconds, 3)}, "kept": done.kept}
    remedy = f"{done.kept} has what was there before; remove it once nobody needs it." if done.kept else ""
    found = [Finding("restore.done", part.root, "ok", text, evidence, remedy)]
    return found + [Finding("restore.warning", part.root, "warning", text) for text in done.remarks]
