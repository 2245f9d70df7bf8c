# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How far a restore is, written down beside its directory; and the moves that change a directory for another, and back.

A directory that is a mount point cannot be renamed: there everything happens inside of it, entry by entry.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import typing as t
from pathlib import Path

from .._journal.format import is_aside
from .._journal.lock import Busy, locked
from .manifest import Damaged, seal, unseal
from .restore_plan import SWAP, beside_of
from .store import sync_directory, write_file

# Of a swap inside of a mount point ``MOVING`` is the way out of what was there, ``ENTERING`` the way in of what is new.
BUILDING, MOVING, ENTERING, PLACED = PHASES = ("building", "moving", "entering", "placed")


class NotRestored(Exception):
    """Why a restore was given up, a sentence; what was there before is there again."""


class Record:
    """How far a restore is: a file beside its directory. It is written once; its name says the phase, for a rename
    needs no room.

    :param bring: what a repair brings.
    """

    def __init__(self, directory: Path, phase: str, document: t.Mapping[str, t.Any]) -> None:
        self.directory = directory
        self.phase = phase
        self.mode = str(document["mode"])
        self.stamp = str(document["stamp"])
        self.beside = Path(document["beside"])
        self.kept = Path(document["kept"])
        self.bring: list[str] = document["bring"]
        self.was_running = bool(document["was_running"])
        self.existed = bool(document["existed"])

    @property
    def logs(self) -> Path:
        """Of a write-ahead log that no server takes."""
        return self.beside.with_name(f"{self.beside.name}.logs")

    @property
    def is_inside(self) -> bool:
        """Whether the directory is a mount point."""
        return self.beside.parent == self.directory

    def aside(self, word: str) -> Path:
        """A free name for something of this restore."""
        return free(_aside(self.directory, word, self.stamp, self.is_inside))

    @classmethod
    def begin(
        cls,
        directory: Path,
        mode: str,
        bring: t.Iterable[str] = (),
        was_running: bool = False,
    ) -> Record:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        is_mount = directory.is_mount()
        # On the same file system as the directory, whose files it takes.
        kept = free(_aside(directory, "replaced" if mode == SWAP else "quarantine", stamp, is_mount))
        document = {
            "mode": mode,
            "stamp": stamp,
            "beside": beside_of(str(directory), is_mount),
            "kept": str(kept),
            "bring": list(bring),
            "was_running": was_running,
            "existed": directory.is_dir(),
        }
        write_file(cls._path(directory, BUILDING), seal(document))
        return cls(directory, BUILDING, document)

    @classmethod
    def read(cls, directory: Path) -> Record | None:
        """
        :raises NotRestored: where it cannot be read.
        """
        for phase in PHASES:
            path = cls._path(directory, phase)
            try:
                return cls(directory, phase, unseal(path.read_bytes()))
            except FileNotFoundError:
                continue
            except (Damaged, KeyError) as error:
                raise NotRestored(f"{path} is damaged: {error}. Compare the directories beside it by hand.") from error
        return None

    @classmethod
    def sweep(cls, directory: Path) -> None:
        """Removes one that was never written to its end: nothing had begun."""
        path = cls._path(directory, BUILDING)
        path.with_name(f".{path.name}.new").unlink(missing_ok=True)

    def reach(self, phase: str) -> None:
        if phase != self.phase:
            self._path(self.directory, self.phase).rename(self._path(self.directory, phase))
            self.phase = phase
            sync_directory(self.directory.parent)

    def remove(self) -> None:
        self._path(self.directory, self.phase).unlink()
        sync_directory(self.directory.parent)

    @staticmethod
    def _path(directory: Path, phase: str) -> Path:
        return Path(f"{directory}.restore-{phase}")


def swap(record: Record) -> None:
    """Puts what was built into the place of what is there, which is kept.

    :raises OSError: where it cannot; then :func:`swap_back` or :func:`resume` ends it.
    """
    directory, beside, kept = record.directory, record.beside, record.kept
    # Or the record could say that it moves while nothing is there that could.
    sync_directory(beside.parent)
    record.reach(MOVING)
    if not record.is_inside:
        if record.existed:
            directory.rename(kept)
        beside.rename(directory)
        sync_directory(directory.parent)
        return
    kept.mkdir(mode=0o700)
    # Its own name first, or what moves into it can be lost with it.
    sync_directory(directory)
    for entry in _entries(directory):
        entry.rename(kept / entry.name)
    for changed in (kept, directory):
        sync_directory(changed)
    record.reach(ENTERING)
    for entry in _entries(beside):
        _put(entry, directory / entry.name)
    for changed in (directory, beside):
        sync_directory(changed)


def swap_back(record: Record) -> str:
    """Moves a directory that nobody writes to any more to where it was, as often as it takes; where that lies now which
    came in between, or nothing."""
    directory, beside, kept = record.directory, record.beside, record.kept
    interim = ""
    if beside.is_dir():
        # It never had its place, or has it no more.
        if kept.is_dir() and directory.is_dir():
            # The host was started between the two renames, and the server found nothing.
            interim = str(record.aside("interim"))
            directory.rename(interim)
    elif directory.is_dir() and (kept.is_dir() or not record.existed):
        directory.rename(beside)
    if kept.is_dir():
        kept.rename(directory)
    sync_directory(directory.parent)
    record.reach(BUILDING)
    return interim


def resume(record: Record) -> str:
    """Brings a swap to its end, ``PLACED``, once all that was there is out; else takes it back, ``BUILDING``.

    Where others go on writing there is no way back from there: they may have begun to write into what is new.

    :return: where that lies now which came in between; empty where it is nothing.
    """
    directory, beside, kept = record.directory, record.beside, record.kept
    interim = _Interim(record)
    if record.is_inside:
        is_out = record.phase in (ENTERING, PLACED)
        source = beside if is_out else kept
        for entry in _entries(source) if source.is_dir() else ():
            interim.clear(directory / entry.name, entry)
            if entry.exists() or entry.is_symlink():
                _put(entry, directory / entry.name)
        sync_directory(directory)
    else:
        is_out = record.phase in (MOVING, PLACED) and (kept.is_dir() or not record.existed)
        if is_out and beside.is_dir():
            if directory.is_dir():
                interim.path = str(record.aside("interim"))
                directory.rename(interim.path)
            beside.rename(directory)
        sync_directory(directory.parent)
    record.reach(PLACED if is_out else BUILDING)
    return interim.path


class _Interim:
    """Takes what others have put where something of ours belongs."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.path = ""

    def clear(self, place: Path, ours: Path) -> None:
        if not os.path.lexists(place):
            return
        if not ours.is_dir() and os.path.samestat(place.lstat(), ours.lstat()):
            # It was being put there.
            ours.unlink()
            return
        if not self.path:
            self.path = str(self._record.aside("interim"))
            Path(self.path).mkdir(mode=0o700)
            # As in a swap.
            sync_directory(Path(self.path).parent)
        place.rename(Path(self.path, place.name))


@contextlib.contextmanager
def alone(directory: Path) -> t.Iterator[None]:
    """
    :raises NotRestored: where another restore is at work beside it.
    """
    try:
        with locked(str(directory.parent), shared=False):
            yield
    except Busy as error:
        raise NotRestored(f"Nothing was done: {error}.") from error


def free(path: str | Path) -> Path:
    """The name, or one like it that nothing has."""
    found, number = Path(path), 1
    while os.path.lexists(found):
        found, number = Path(f"{path}-{number}"), number + 1
    return found


def remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _aside(directory: Path, word: str, stamp: str, is_inside: bool) -> str:
    return f"{directory}/.{word}-{stamp}" if is_inside else f"{directory}.{word}-{stamp}"


def _entries(directory: Path) -> list[Path]:
    """What lies in it, without what restores have there."""
    return sorted(entry for entry in directory.iterdir() if not is_aside(entry.name))


def _put(source: Path, target: Path) -> None:
    """Never over something that is there.

    :raises OSError: where there is.
    """
    if source.is_dir() and not source.is_symlink():
        source.rename(target)
        return
    os.link(source, target, follow_symlinks=False)
    source.unlink()
