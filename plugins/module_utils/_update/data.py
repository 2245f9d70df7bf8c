# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The data of a Prometheus as they were before a newer version wrote to them, kept aside for the way back.

Blocks by a second name of their files, which costs no room; what is written to (the write-ahead log) by a copy. Given
back, entry by entry, by renames that can be repeated: a directory that is a mount point cannot be renamed itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import typing as t
from pathlib import Path

from .._backup.mirror import copy, mirror
from .._backup.service import is_block
from .._backup.store import sync_directory

_SNAPSHOTS, _LOCK = "snapshots", "lock"
# For what a file system takes beside the bytes of files.
_MARGIN_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Aside:
    """
    :param directory: of the data. :param kept: the data as they were. :param interim: what came since, once it is back.
    """

    directory: Path
    kept: Path
    interim: Path

    @classmethod
    def of(cls, directory: Path, stamp: str) -> Aside:
        """
        :param stamp: tells this update from others.
        """
        # On the same file system as the blocks.
        start = f"{directory}/" if directory.is_mount() else f"{directory}."
        return cls(directory, Path(f"{start}before-update-{stamp}"), Path(f"{start}after-update-{stamp}"))

    def as_dict(self) -> dict[str, str]:
        return {field: str(path) for field, path in vars(self).items()}

    @classmethod
    def read(cls, document: t.Mapping[str, str]) -> Aside:
        return cls(**{field: Path(path) for field, path in document.items()})

    def keep(self) -> None:
        """Nobody else may be at work there. One that was interrupted begins anew."""
        if self.kept.exists():
            shutil.rmtree(self.kept)
        entries = self._entries()
        self.kept.mkdir(mode=0o700)
        for entry in entries:
            target = self.kept / entry.name
            if not entry.is_dir():
                copy(entry, target)
            elif entry.name != _SNAPSHOTS:
                mirror(entry, target, os.link if is_block(entry.name) else copy)
        sync_directory(self.kept)
        sync_directory(self.kept.parent)

    def is_untouched(self) -> bool:
        """Whether nobody has written to the data since, so that there is nothing to give back."""
        return self.kept.is_dir() and _contents(self._entries()) == _contents(self.kept.iterdir())

    def part(self) -> None:
        """The first half of giving back: what came since goes aside. Nothing does where nothing was kept."""
        if not self.kept.is_dir():
            return
        for entry in self._entries():
            self._put_aside(entry)
        self._sync(self.interim)

    def join(self) -> None:
        """The second half: what was kept comes back into its place."""
        for entry in list(self.kept.iterdir()) if self.kept.is_dir() else ():
            place = self.directory / entry.name
            if place.exists():
                # Between two halves that were interrupted the host was started, and the server found nothing.
                self._put_aside(place)
            entry.rename(place)
        self._sync(self.kept)

    def drop(self) -> None:
        """Never half of it under its name: nobody may take that for the data."""
        going = self.kept.with_name(f"{self.kept.name}.going")
        if self.kept.exists():
            self.kept.rename(going)
            sync_directory(going.parent)
        if going.exists():
            shutil.rmtree(going)

    def _put_aside(self, entry: Path) -> None:
        self.interim.mkdir(mode=0o700, exist_ok=True)
        place, number = self.interim / entry.name, 1
        while place.exists():
            place, number = self.interim / f"{entry.name}-{number}", number + 1
        entry.rename(place)

    def _entries(self) -> list[Path]:
        ours = {self.kept, self.interim}
        return [entry for entry in self.directory.iterdir() if entry not in ours and entry.name != _LOCK]

    def _sync(self, other: Path) -> None:
        for path in (other, self.directory, self.directory.parent):
            if path.is_dir():
                sync_directory(path)


def _contents(entries: t.Iterable[Path]) -> set[tuple[str, int, int]]:
    """Path, size and time of every file, of a block only that it is there: nobody writes to one."""
    found = set()
    for entry in entries:
        if is_block(entry.name):
            found.add((entry.name, 0, 0))
        elif entry.name != _SNAPSHOTS:
            for file in [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]:
                status = file.stat()
                found.add((f"{entry.name}/{file.relative_to(entry)}", status.st_size, status.st_mtime_ns))
    return found


def room(directory: Path) -> tuple[int, int]:
    """Bytes that a copy for the way back takes, and bytes that are free."""
    needed = _MARGIN_BYTES
    for above, names, files in os.walk(directory):
        if above == str(directory):
            names[:] = [name for name in names if not is_block(name) and name != _SNAPSHOTS]
        for name in files:
            # The server runs, and removes what it needs no more.
            with contextlib.suppress(FileNotFoundError):
                needed += Path(above, name).stat().st_size
    status = os.statvfs(directory)
    return needed, status.f_bavail * status.f_frsize
