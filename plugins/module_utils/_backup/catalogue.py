# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The backups of a host: which there are, what is known of each, and who works on them.

``backups/NAME/manifest`` is written once, last of all: a backup without one never was. ``backups/NAME/states`` says
what was found out about it since. ``objects`` is the store. Whoever comes next sweeps ``incoming`` and ``scratch``.
``cache`` is restic's, and can go at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import time
import typing as t
from pathlib import Path

from .._journal.lock import locked
from .manifest import Damaged, Manifest, Part, seal, unseal
from .store import INCOMING, OBJECTS, Store, sync_directory, write_file

DIRECTORY = "/var/backups/njord"
WRITTEN, VERIFIED, PROVEN, DAMAGED = "written", "verified", "proven", "damaged"
# From the best to the worst.
LEVELS = (PROVEN, VERIFIED, WRITTEN, DAMAGED)

BACKUPS, CACHE = "backups", "cache"
_SCRATCH = "scratch"
_STATES, _COPIES, _DRILL, _REMOTE = "states", "copies", "drill", "remote"
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[0-9]+)?")


class Missing(Exception):
    """There is no such catalogue, or no such backup, a clause."""


@dataclasses.dataclass(frozen=True)
class State:
    """What is known of one part.

    :param level: one of :data:`LEVELS`.
    :param verified: unix seconds at which all its hashes were right, like ``proven``; 0 for never.
    :param reason: why it is damaged, or why it could not be proven; else empty.
    :param can_be_proven: False where verified is the most that can be known.
    """

    level: str = WRITTEN
    verified: float = 0.0
    proven: float = 0.0
    reason: str = ""
    can_be_proven: bool = True


@dataclasses.dataclass(frozen=True)
class Entry:
    """A backup in the catalogue.

    :param manifest: None where it cannot be read; ``damage`` says why.
    :param states: by the name of the part.
    """

    name: str
    manifest: Manifest | None
    states: dict[str, State]
    damage: str = ""

    @property
    def created(self) -> float:
        """Unix seconds; 0 where its manifest cannot be read."""
        return self.manifest.created if self.manifest else 0.0

    @property
    def level(self) -> str:
        """That of its worst part; one that cannot be proven does not hold the others back."""
        if self.manifest is None:
            return DAMAGED
        states = [self.states.get(part.name, State()) for part in self.manifest.parts]
        counted = [PROVEN if state.level == VERIFIED and not state.can_be_proven else state.level for state in states]
        return max(counted, key=LEVELS.index, default=DAMAGED)

    def state(self, part: Part) -> State:
        return self.states.get(part.name, State())


class Catalogue:
    """
    :param root: absolute; made by :meth:`make`.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.store = Store(self.root)

    def make(self) -> None:
        """Where it is not there yet. Nobody but its owner may look into it."""
        for directory in (self.root, *(self.root / name for name in (BACKUPS, OBJECTS, INCOMING, _SCRATCH))):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)

    @contextlib.contextmanager
    def locked(self, shared: bool = False) -> t.Iterator[None]:
        """Whoever has it alone begins by sweeping up what others left.

        :param shared: beside others that only look.
        :raises Busy: where somebody else has it.
        :raises Missing: where there is no such directory.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(str(self.root), shared))
            except FileNotFoundError:
                raise Missing(f"there is no catalogue {self.root}") from None
            if not shared:
                self.make()
                self._sweep()
            yield

    def names(self) -> list[str]:
        """The oldest first."""
        try:
            found = [entry.name for entry in (self.root / BACKUPS).iterdir()]
        except FileNotFoundError:
            raise Missing(f"there is no catalogue {self.root}") from None
        return sorted((name for name in found if NAME.fullmatch(name)), key=_order)

    def entries(self) -> list[Entry]:
        """The oldest first; also those whose manifest is damaged."""
        return [self.entry(name) for name in self.names()]

    def entry(self, name: str) -> Entry:
        """
        :raises Missing: where there is none of that name.
        """
        directory = self.root / BACKUPS / name
        if not NAME.fullmatch(name) or not directory.is_dir():
            raise Missing(f"there is no backup {name!r} in {self.root}")
        try:
            manifest = Manifest.decode((directory / "manifest").read_bytes(), name)
        except FileNotFoundError:
            return Entry(name, None, {}, "its manifest is missing")
        except OSError as error:
            return Entry(name, None, {}, f"its manifest cannot be read: {error.strerror}")
        except Damaged as error:
            return Entry(name, None, {}, f"its manifest is damaged: {error}")
        return Entry(name, manifest, self._states(directory))

    def new_name(self, now: float) -> str:
        """One that no backup has yet."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        taken = set(self.names())
        names = (stamp if not number else f"{stamp}-{number}" for number in range(len(taken) + 1))
        return next(name for name in names if name not in taken)

    def write(self, manifest: Manifest) -> None:
        """Makes a backup of what the store has taken: after this it is there, before it is not."""
        self.store.settle()
        directory = self.root / BACKUPS / manifest.name
        new = self.root / INCOMING / manifest.name
        new.mkdir(mode=0o700)
        write_file(new / "manifest", manifest.encode())
        new.rename(directory)
        sync_directory(directory.parent)

    def record(self, name: str, states: dict[str, State]) -> None:
        """Notes what was found out about parts of a backup; of the others it stays."""
        directory = self.root / BACKUPS / name
        known = {**self._states(directory), **states}
        write_file(directory / _STATES, seal({part: dataclasses.asdict(state) for part, state in known.items()}))

    def remove(self, names: t.Iterable[str]) -> int:
        """Removes backups, and what no other one refers to; how many bytes that were.

        :raises Damaged: where the manifest of one that stays cannot be read: nobody knows what that one needs.
        :raises Missing: where there is none of a name; then nothing is removed.
        """
        going = set(names)
        for name in sorted(going):
            self.entry(name)
        for path in sorted((self.root / BACKUPS).iterdir()):
            if not NAME.fullmatch(path.name):
                raise Damaged(f"{path} is no name of a backup; what it needs is not known, so nothing is removed")
        staying = [entry for entry in self.entries() if entry.name not in going]
        for entry in staying:
            if entry.manifest is None:
                raise Damaged(f"backup {entry.name}: {entry.damage}; what it needs is not known, so nothing is removed")
        for name in sorted(going):
            gone = self.root / INCOMING / f"{name}.gone"
            (self.root / BACKUPS / name).rename(gone)
            sync_directory(gone.parent)
            shutil.rmtree(gone)
        sync_directory(self.root / BACKUPS)
        return self.store.sweep(set().union(*(entry.manifest.hashes() for entry in staying if entry.manifest)))

    def files(self, name: str) -> list[Path]:
        """Its manifest, and what was found out about it; the rest of a backup is in the store."""
        directory = self.root / BACKUPS / name
        return [path for path in (directory / "manifest", directory / _STATES) if path.is_file()]

    def note_copy(self, name: str, place: str, now: float) -> None:
        """Notes where a backup lies as well. :param now: unix seconds."""
        copies = {**self.copies(name), place: now}
        write_file(self.root / BACKUPS / name / _COPIES, seal(copies))

    def drop_copy(self, name: str, place: str) -> None:
        """Notes that a backup does not lie there any more."""
        copies = self.copies(name)
        if copies.pop(place, None) is not None:
            write_file(self.root / BACKUPS / name / _COPIES, seal(copies))

    def copies(self, name: str) -> dict[str, float]:
        """Where a backup lies as well, and since when in unix seconds."""
        return _read(self.root / BACKUPS / name / _COPIES)

    def note_drill(self, drill: dict[str, t.Any]) -> None:
        write_file(self.root / _DRILL, seal(drill))

    def last_drill(self) -> dict[str, t.Any]:
        """As it was noted; empty where there never was one."""
        return _read(self.root / _DRILL)

    def note_remote(self, remote: dict[str, t.Any]) -> None:
        """Notes how it is with the copies off the host."""
        write_file(self.root / _REMOTE, seal(remote))

    def remote(self) -> dict[str, t.Any]:
        """As it was noted; empty where no copy is sent off the host."""
        return _read(self.root / _REMOTE)

    @contextlib.contextmanager
    def scratch(self, purpose: str) -> t.Iterator[Path]:
        """An empty directory on the same file system, which goes again."""
        directory = self.root / _SCRATCH / purpose
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _states(self, directory: Path) -> dict[str, State]:
        """What cannot be read is not known, and then a part is no more than written."""
        try:
            return {part: State(**row) for part, row in _read(directory / _STATES).items()}
        except TypeError:
            return {}

    def _sweep(self) -> None:
        """What an interrupted run left: nobody else is here."""
        for name in (INCOMING, _SCRATCH):
            for entry in list((self.root / name).iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()


def _read(path: Path) -> dict[str, t.Any]:
    """What was sealed; empty where it is not there, or not what it was: then it is not known."""
    try:
        return unseal(path.read_bytes())
    except (FileNotFoundError, Damaged):
        return {}


def _order(name: str) -> tuple[str, int]:
    stamp, _dash, number = name.partition("-")
    return stamp, int(number or 0)
