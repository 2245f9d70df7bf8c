# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The way back: beside, proven, and only then into its place; and back again where the server does not take it.

Whatever interrupts a restore, a record beside the directory says how far it was, and :func:`recover` leaves a whole
directory in place: the old one, or the new one once it was proven and placed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
import typing as t
from pathlib import Path

from .. import _storage
from .._http import HttpError, Unauthorised, Unsupported, Untrusted
from .._prometheus import Prometheus
from .._units import human_duration
from . import counts, proof
from .lay import Owner, ids, lay
from .manifest import Damaged, Part
from .mirror import copy, mirror
from .record import BUILDING, MOVING, PLACED, NotRestored, Record, alone, remove, swap, swap_back
from .restore_plan import SWAP, Live, Plan, beside_of, blocks, is_covered, made_under, shortened
from .scratch import QUERY_SECONDS, Tools, end_leftover, serve
from .scratch import Failed as ScratchFailed
from .service import NotDone, Service, holder, is_block
from .store import Store, sync_directory

T = t.TypeVar("T")

READY_SECONDS = 600.0
# A server that was told to end may have its files open for a moment longer.
LINGER_SECONDS = 5.0
_POLL_SECONDS = 0.1
# So often a directory is read that changes meanwhile.
_TURNS = 5
# What is not in a block yet.
_LOGS = ("wal", "wbl")
# What belongs to the write-ahead log, in the order in which it can be taken away: chunks_head is made of it again.
_HEAD = ("chunks_head", "wbl", "wal")
# Asking again later is of no use.
_FOR_GOOD = (Unauthorised, Unsupported, Untrusted)


class _NotReady(NotRestored):
    """The server does not come up."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The server whose data are restored.

    :param directory: where it keeps its data.
    :param ready_seconds: how long it may take from its start until it is ready, its write-ahead log replayed.
    """

    directory: Path
    prometheus: Prometheus
    service: Service
    tools: Tools
    ready_seconds: float = READY_SECONDS


@dataclasses.dataclass(frozen=True)
class Outcome:
    """
    :param kept: where what was replaced or moved aside lies now; empty where there was nothing.
    :param blind: seconds without a server that is ready.
    :param compared: at how many times the counts were compared with those of the backup; nothing was missing.
    :param left_out: why the write-ahead log had to stay behind; empty where it had not.
    """

    kept: str
    blind: float
    compared: int
    left_out: str


def look(place: Place, unit: str, show: t.Callable[[str], str]) -> Live:
    """What is there. Every block is read.

    :raises scratch.Failed: where promtool could not look, or it changes faster than it can be read.
    :raises OSError: where the directory cannot be read.
    """
    directory = place.directory.resolve()
    status = os.statvfs(next(path for path in (directory, *directory.parents) if path.is_dir()))
    storage, damaged = _checked(place.tools, directory) if directory.is_dir() else (None, {})
    version = ""
    with contextlib.suppress(HttpError):
        version = place.prometheus.version()
    try:
        retention = _storage.in_force(place.prometheus, unit, show).retention
    except ValueError:
        # In words of a later version.
        retention = None
    return Live(
        directory=str(place.directory),
        storage=storage,
        damaged=damaged,
        retention=retention,
        version=version,
        is_mount=directory.is_mount(),
        free=status.f_bavail * status.f_frsize,
    )


def _checked(tools: Tools, directory: Path) -> tuple[_storage.Storage, dict[str, str]]:
    """What a directory holds, and why some of its blocks cannot be used; a running server merges blocks meanwhile."""
    known: dict[str, str] = {}
    storage = _read(directory)
    for _turn in range(_TURNS):
        new = [block.ulid for block in storage.blocks if block.ulid not in known]
        if not new:
            break
        with contextlib.suppress(FileNotFoundError):
            found = proof.check_blocks(tools, directory, new)
            known.update((ulid, found.get(ulid, "")) for ulid in new)
        storage = _read(directory)
    there = {block.ulid for block in storage.blocks}
    if there - set(known):
        raise ScratchFailed(f"{directory} changes all the time; the blocks in it could not be read")
    return storage, {ulid: why for ulid, why in known.items() if why and ulid in there}


def _read(directory: Path) -> _storage.Storage:
    """What it holds, where a server removes files while one looks."""
    for _turn in range(_TURNS):
        with contextlib.suppress(FileNotFoundError):
            return _storage.read(directory)
    return _storage.read(directory)


def apply(place: Place, store: Store, part: Part, plan: Plan) -> Outcome:
    """Does what the plan says, all of it or nothing.

    :raises NotRestored: where it was given up.
    :raises NotDone: where the service does not stop; then nothing was touched.
    :raises Damaged: where the backup is not what it was; nothing was touched then.
    """
    if plan.refusals:
        raise NotRestored(plan.refusals[0])
    if plan.mode != SWAP and not plan.bring and not plan.quarantine:
        return Outcome("", 0.0, 0, "")
    if os.geteuid():
        raise NotRestored("Only root can see whether somebody else has the data open; become would do.")
    directory = place.directory.resolve()
    rights = _Rights.of(directory, part)
    if not directory.parent.is_dir():
        directory.parent.mkdir(mode=0o755, parents=True)
        os.chown(directory.parent, *rights.owner)
    with alone(directory):
        _require_clear(place, directory)
        was_running = place.service.is_running()
        try:
            record = Record.begin(directory, plan.mode, plan.bring, was_running)
            _build(place, store, part, plan, record.beside, rights)
            return (_swap if plan.mode == SWAP else _repair)(place, part, plan, record)
        except BaseException as error:
            # A kill does not come here: then the next run does this.
            said = _go_back(directory, place.service, error)
            if isinstance(error, OSError):
                raise NotRestored(f"{error}. {said}".rstrip()) from error
            raise


def _require_clear(place: Place, directory: Path) -> None:
    """
    :raises NotRestored: where it cannot end well, before anything is done.
    """
    if Record.read(directory):
        raise NotRestored(f"An earlier restore of {directory} was interrupted and not ended yet.")
    beside = Path(beside_of(str(directory), directory.is_mount()))
    if beside.exists():
        # A restore of ours that ends, however, takes it away, or leaves its record.
        raise NotRestored(f"{beside} is there, and no restore has left it; remove or rename it.")
    try:
        place.prometheus.ready()
    except _FOR_GOOD as error:
        raise NotRestored(f"The server could not be compared with the backup afterwards: {error}.") from error
    except HttpError:
        # Down, or not well: that is what a restore is for.
        pass


def _go_back(directory: Path, service: Service, error: BaseException) -> str:
    """What is there now, a sentence.

    :param error: why.
    :raises NotRestored: where that does not go well either; it says both.
    """
    try:
        return _recover(directory, service)
    except (NotRestored, NotDone, ScratchFailed, OSError) as second:
        later = " The next run tries again." if Record.read(directory) else ""
        raise NotRestored(
            f"{str(error).rstrip('.')}. And on the way back: {str(second).rstrip('.')}.{later}"
        ) from error


def _build(place: Place, store: Store, part: Part, plan: Plan, beside: Path, rights: _Rights) -> None:
    """Lays out what is brought, and proves it.

    :raises Damaged: where the backup is not what it should be.
    """
    beside.mkdir(mode=0o700)
    wanted = set(plan.bring)
    lay(store, part, beside, rights.owner, lambda path: path.split("/", 1)[0] in wanted)
    if not plan.is_verified:
        _require_whole(place.tools, beside, plan.bring)
    # Its user must be able to go in before it is proven as that user.
    os.chown(beside, *rights.of_directory)
    beside.chmod(rights.mode)
    if plan.bring:
        _prove(place.tools, part, beside, rights.owner, _decided(part, plan.bring))


def _require_whole(tools: Tools, directory: Path, ulids: t.Iterable[str]) -> None:
    """
    :raises Damaged: where promtool finds something in one of these blocks.
    """
    for ulid, why in proof.check_blocks(tools, directory, ulids).items():
        raise Damaged(f"block {ulid}: {why}")


def restore_to(
    store: Store, part: Part, target: Path, tools: Tools | None, owner: Owner | None = None, is_verified: bool = False
) -> int:
    """Puts a part into a directory of its own, and proves it there: on another host, or to look at it.

    :param target: is not there yet, or empty.
    :param owner: whose it becomes; that of the manifest where it is not given.
    :param is_verified: whether promtool has read its blocks already; else it does now.
    :return: at how many times the counts were compared and were equal.
    :raises NotRestored: where there is something already, or the proof fails; then nothing is left of it.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NotRestored(f"{target} is there and not empty; a directory that is not there would do.")
    made = [path for path in (target, *target.parents) if not path.exists()]
    expected = part.facts.get("counts", {}) if part.source == proof.PROMETHEUS and tools else {}
    try:
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        lay(store, part, target, owner)
        if part.source == proof.PROMETHEUS and tools:
            if not is_verified:
                _require_whole(tools, target, (block.ulid for block in blocks(part)))
            whose = owner or ids(str(part.facts.get("owner", "root")), str(part.facts.get("group", "root")))
            os.chown(target, *whose)
            _prove(tools, part, target, whose, expected)
    except BaseException:
        for entry in list(target.iterdir()) if target.is_dir() else ():
            remove(entry)
        for path in made:
            if path.is_dir():
                path.rmdir()
        raise
    return len(expected)


def recover(directory: Path, service: Service) -> str:
    """Ends what an interrupted restore began; a sentence about it, empty where there is none.

    :raises NotRestored: where nobody can say how far it was, or another restore is at work.
    :raises NotDone: where the service does not start again; the data are whole then.
    """
    directory = directory.resolve()
    if not directory.parent.is_dir():
        return ""
    with alone(directory):
        return _recover(directory, service)


def _recover(directory: Path, service: Service) -> str:
    Record.sweep(directory)
    record = Record.read(directory)
    if not record:
        return ""
    said = f"A restore of {directory} was interrupted"
    why = ""
    if record.phase == PLACED:
        try:
            _start_again(record, service)
            _end(record, service)
            return f"{said} after what was proven had its place; it stays there."
        except NotDone as error:
            if record.existed and not record.kept.is_dir():
                raise
            why = f" after what was proven had its place, where the server did not start: {error}"
    interim = _take_back(record, service)
    _end(record, service)
    found = f" {interim} has what a server wrote in between." if interim else ""
    return f"{said}{why}; what was there before is there again.{found}"


def _take_back(record: Record, service: Service) -> str:
    """Moves everything to where it was, as often as it takes; where that lies now which a server made meanwhile."""
    if record.phase == BUILDING:
        return ""
    # From here on there is no way forward any more, whatever comes.
    record.reach(MOVING)
    service.stop()
    if record.mode == SWAP:
        return swap_back(record)
    _repair_back(record)
    record.reach(BUILDING)
    return ""


def _repair_back(record: Record) -> None:
    directory, beside, kept = record.directory, record.beside, record.kept
    for ulid in record.bring:
        if (directory / ulid).is_dir() and not (beside / ulid).is_dir():
            (directory / ulid).rename(beside / ulid)
    if kept.is_dir():
        for entry in list(kept.iterdir()):
            entry.rename(directory / entry.name)
        sync_directory(directory)
        kept.rmdir()
    sync_directory(directory)
    sync_directory(kept.parent)


def _end(record: Record, service: Service) -> None:
    """Nothing but the directory is left, and what was replaced. The record goes last."""
    try:
        _clear(record)
    except OSError:
        _start_again(record, service)
        raise
    try:
        _start_again(record, service)
    finally:
        # Also where the server does not start: it may not have done so before.
        record.remove()


def _clear(record: Record) -> None:
    for path in (record.beside, record.logs):
        if path.exists():
            remove(path)
    home = record.beside.with_name(f"{record.beside.name}.server")
    if home.exists():
        end_leftover(record.beside)
        remove(home)
    if record.kept.is_dir() and not any(record.kept.iterdir()):
        record.kept.rmdir()
    sync_directory(record.beside.parent)


def _start_again(record: Record, service: Service) -> None:
    if record.was_running and not service.is_running():
        service.start()


def _swap(place: Place, part: Part, plan: Plan, record: Record) -> Outcome:
    directory, beside = record.directory, record.beside

    def move() -> bool:
        for ulid in _carried(place, part, plan, directory):
            # A block is never changed once it is there: a second name costs no room, and ends with the old directory.
            mirror(directory / ulid, beside / ulid, os.link)
        logs = [name for name in _LOGS if _has_bytes(directory / name)]
        for name in logs:
            # Not a second name: the server goes on writing there, and the old directory stays as it is.
            mirror(directory / name, beside / name, copy)
        sync_directory(beside)
        swap(record)
        return bool(logs)

    return _exchange(place, part, plan, record, move)


def _has_bytes(directory: Path) -> bool:
    return any(path.is_file() and path.stat().st_size for path in directory.rglob("*"))


def _carried(place: Place, part: Part, plan: Plan, directory: Path) -> list[str]:
    """The live blocks that come along; the server may have written and merged some since the plan was made.

    :raises NotRestored: where one of those is damaged.
    """
    if not directory.is_dir():
        return []
    live = _storage.read(directory).blocks
    known = {*plan.seen, *plan.bring}
    late = [block.ulid for block in live if block.ulid not in known and not is_covered(block, blocks(part))]
    for ulid, why in proof.check_blocks(place.tools, directory, late).items() if late else ():
        raise NotRestored(f"Block {ulid} was written since the plan was made, and is damaged: {why}. Plan it anew.")
    there = {block.ulid for block in live}
    return [*(ulid for ulid in plan.carry if ulid in there), *late]


def _repair(place: Place, part: Part, plan: Plan, record: Record) -> Outcome:
    directory, beside, kept = record.directory, record.beside, record.kept

    def move() -> bool:
        record.reach(MOVING)
        kept.mkdir(mode=0o700)
        # Its own name first, or what moves into it can be lost with it.
        sync_directory(kept.parent)
        for ulid in plan.quarantine:
            # Retention may have taken it meanwhile.
            if (directory / ulid).exists():
                (directory / ulid).rename(kept / ulid)
        for ulid in plan.bring:
            (beside / ulid).rename(directory / ulid)
        for changed in (kept, directory):
            sync_directory(changed)
        return False

    return _exchange(place, part, plan, record, move)


def _exchange(place: Place, part: Part, plan: Plan, record: Record, move: t.Callable[[], bool]) -> Outcome:
    """Stops, moves, starts and compares; where the server does not take it, everything goes back.

    :param move: says whether a write-ahead log came along.
    """
    begun = time.monotonic()
    place.service.stop()
    _requirealone(place, record.directory)
    has_logs = move()
    record.reach(PLACED)
    left_out = ""
    try:
        held = _storage.read(record.directory)
        try:
            _start(place)
        except _NotReady as error:
            if not has_logs:
                raise
            # Whatever the write-ahead log has, the blocks are proven.
            left_out = str(error)
            place.service.stop()
            _leave_out(record)
            _start(place)
        blind = time.monotonic() - begun
        compared = _compare(place, part, plan, held)
    except Exception as error:
        _take_back(record, place.service)
        _end(record, place.service)
        raise NotRestored(f"The server did not take it, so everything is as it was: {error}") from error
    _clear(record)
    record.remove()
    return Outcome(str(record.kept) if record.kept.is_dir() else "", blind, compared, left_out)


def _leave_out(record: Record) -> None:
    """Only a copy: the old directory has it all."""
    record.logs.mkdir(mode=0o700)
    for name in _HEAD:
        if (record.directory / name).is_dir():
            (record.directory / name).rename(record.logs / name)
    sync_directory(record.directory)


def _lookback(part: Part) -> float:
    return float(part.facts.get("lookback_seconds") or counts.LOOKBACK_SECONDS)


def _decided(part: Part, ulids: t.Collection[str]) -> counts.Counts:
    """Of the counts of the backup those that these of its blocks alone decide."""
    theirs, lookback = blocks(part), _lookback(part)

    def is_decided(moment: float) -> bool:
        seen = [block.ulid for block in theirs if block.min_time <= moment and block.max_time > moment - lookback]
        return bool(seen) and all(ulid in ulids for ulid in seen)

    expected: counts.Counts = part.facts.get("counts", {})
    return {time: table for time, table in expected.items() if is_decided(int(time) / 1000)}


def _prove(tools: Tools, part: Part, beside: Path, owner: Owner, expected: counts.Counts) -> None:
    """
    :raises NotRestored: where a scratch server on it does not give what it gave at the backup.
    """
    try:
        with serve(tools, beside, _lookback(part), owner) as scratch:
            wrong = counts.difference(expected, counts.count(scratch, map(int, expected)))
    except (HttpError, ScratchFailed) as error:
        raise NotRestored(f"A scratch server on the restored blocks does not answer: {error}") from error
    if wrong:
        raise NotRestored(f"The restored blocks are not those of the backup: {wrong}.")


def _start(place: Place) -> None:
    """Returns once it is ready.

    :raises _NotReady: where it ends instead, or takes too long.
    """
    place.service.start()
    deadline = time.monotonic() + place.ready_seconds
    while True:
        try:
            place.prometheus.ready()
            return
        except _FOR_GOOD as error:
            raise NotRestored(f"It cannot be asked: {error}") from error
        except HttpError as error:
            ended = place.service.ended()
            if ended:
                raise _NotReady(f"It ended before it was ready: {ended}") from error
            if time.monotonic() > deadline:
                raise _NotReady(f"It is not ready after {human_duration(place.ready_seconds)}: {error}") from error
        time.sleep(_POLL_SECONDS)


def _compare(place: Place, part: Part, plan: Plan, held: _storage.Storage) -> int:
    """At how many times the server has what the backup had; where it has other blocks as well it may have more.

    :param held: what was there when it was started.
    :raises NotRestored: where something is missing.
    """
    server = place.prometheus.server
    patient = Prometheus(dataclasses.replace(server, timeout=max(server.timeout, QUERY_SECONDS)))
    # Whatever it is set to now.
    lookback = _lookback(part)
    brought = set(plan.bring) - _going(patient, part, held)
    expected = _decided(part, brought)
    found = counts.count(patient, map(int, expected), lookback)
    others = [(block.min_time, block.max_time) for block in held.blocks if block.ulid not in brought]
    others.append((patient.head(1).min_time / 1000, float("inf")))
    for moment, table in expected.items():
        at = int(moment) / 1000
        if any(start <= at and end > at - lookback for start, end in others):
            found[moment] = {metric: min(found[moment].get(metric, 0), number) for metric, number in table.items()}
    wrong = counts.difference(expected, found)
    if wrong:
        raise NotRestored(f"{wrong}.")
    return len(expected)


def _going(prometheus: Prometheus, part: Part, held: _storage.Storage) -> set[str]:
    """The blocks that the server removes because they are too old, as it would have done with the live ones.

    :raises NotRestored: where its retention is shorter than it was at the backup, or cannot be understood.
    """
    try:
        retention = _storage.Retention.read(str(prometheus.runtime()["storageRetention"]))
    except (KeyError, ValueError) as error:
        raise NotRestored(f"Its retention cannot be understood: {error}.") from error
    refusal = shortened(retention, made_under(part), held)
    if refusal:
        raise NotRestored(refusal)
    return {block.ulid for block in retention.beyond(held)}


def _requirealone(place: Place, directory: Path) -> None:
    """
    :raises NotRestored: where a process has a file of it open, or the server goes on.
    """
    deadline = time.monotonic() + LINGER_SECONDS
    who = holder(directory)
    while who:
        if time.monotonic() > deadline:
            raise NotRestored(f"{directory} is in use by {who}, which may be a second server; end it.")
        time.sleep(_POLL_SECONDS)
        who = holder(directory)
    try:
        place.prometheus.ready()
    except HttpError:
        return
    raise NotRestored(
        f"The service is stopped, and {place.prometheus.server.url} still answers: that is not the server of"
        f" {directory}; prometheus_unit and prometheus_url must be of the same one."
    )


@dataclasses.dataclass(frozen=True)
class _Rights:
    """:param owner: whose the files become. :param of_directory: whose the directory itself. :param mode: its own."""

    owner: Owner
    of_directory: Owner
    mode: int

    @classmethod
    def of(cls, directory: Path, part: Part) -> _Rights:
        """As what the server wrote there has them; where there is nothing, as it was at the backup."""
        theirs = ids(str(part.facts.get("owner", "root")), str(part.facts.get("group", "root")))
        # Anybody may have made an empty directory anew.
        written = sorted(directory.iterdir()) if directory.is_dir() else []
        written = [entry for entry in written if entry.name in _HEAD or is_block(entry.name)]
        if not written:
            return cls(theirs, theirs, int(part.facts.get("mode", 0o755)))
        # The newest: blocks may have come from elsewhere, the write-ahead log is the server's.
        file, status = written[-1].stat(), directory.stat()
        return cls((file.st_uid, file.st_gid), (status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode))
