# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A source of a backup, and how a backup is made out of several."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import typing as t
from pathlib import Path

from .catalogue import DAMAGED, Catalogue
from .manifest import Directory, File, Manifest, Part
from .store import Changed

# Beside what is copied: manifests and directories.
_SPARE = 16 << 20
_ATTEMPTS = 3

# Size and hash of every file of every sound backup, by the name of its part, its path and its key.
Known = t.Dict[t.Tuple[str, str, str], t.Tuple[int, str]]


class Failed(Exception):
    """A source could not be backed up, a clause that says why and what would help."""


class NoRoom(Exception):
    """The disk of the catalogue is too full, a clause with the bytes."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file that goes into a backup.

    :param at: where it lies now; the first ``size`` bytes of it are taken.
    :param key: as long as path and key stay the same, so does the content: then it is not read again.
    :param inode: another file in its place is not taken; 0 where there can be none.
    :param may_grow: where it must not, it is not taken either once it was written to.
    """

    path: str
    at: Path
    size: int
    mode: int
    owner: str
    group: str
    modified: int
    key: str
    inode: int = 0
    may_grow: bool = True

    def is_meant(self, status: os.stat_result) -> bool:
        """Whether a file is still the one that was looked at."""
        if self.inode not in (0, status.st_ino):
            return False
        return self.may_grow or (status.st_size, status.st_mtime_ns) == (self.size, self.modified)


@dataclasses.dataclass(frozen=True)
class Draft:
    """A part before its files are stored; for the fields see :class:`~.manifest.Part`."""

    source: str
    root: str
    directories: tuple[Directory, ...]
    candidates: tuple[Candidate, ...]
    facts: dict[str, t.Any]


class Source(t.Protocol):
    """Something that can be backed up."""

    @property
    def name(self) -> str: ...

    def open(self) -> contextlib.AbstractContextManager[list[Draft]]:
        """What it consists of now. Inside, the files stay what they are; afterwards nothing of it is left.

        :raises Failed: where it cannot be had.
        :raises Changed: where it changed while it was looked at; then it is opened once more.
        """


@dataclasses.dataclass(frozen=True)
class Cost:
    """:param new: bytes that were read and stored; the others were in the store."""

    files: int
    bytes: int
    new: int


def create(
    catalogue: Catalogue, sources: t.Sequence[Source], now: float, host: str, jobs: int = 2
) -> tuple[Manifest, Cost]:
    """Makes a backup. The caller has the catalogue's lock.

    :param now: unix seconds.
    :param jobs: threads that copy.
    :raises Failed: where a source could not be had, or went on changing.
    :raises NoRoom: before anything is copied.
    """
    known = _known(catalogue)
    name = catalogue.new_name(now)
    parts: list[Part] = []
    new = 0
    numbers = itertools.count()
    for source in sources:
        for part, added in _take(catalogue, source, known, numbers, jobs):
            new += added
            parts.append(part)
    manifest = Manifest(name, now, host, tuple(parts))
    catalogue.write(manifest)
    return manifest, Cost(sum(len(part.files) for part in parts), manifest.size, new)


def _known(catalogue: Catalogue) -> Known:
    found: Known = {}
    # What has rotted in the store is read again, whichever other backup names it too.
    rotten: set[str] = set()
    for entry in catalogue.entries():
        for part in entry.manifest.parts if entry.manifest else ():
            state = entry.state(part)
            if state.level != DAMAGED:
                found.update(((part.name, file.path, file.key), (file.size, file.sha256)) for file in part.files)
            elif not state.verified:
                rotten.update(file.sha256 for file in part.files)
    return {key: known for key, known in found.items() if known[1] not in rotten}


def _take(
    catalogue: Catalogue, source: Source, known: Known, numbers: t.Iterator[int], jobs: int
) -> list[tuple[Part, int]]:
    """All parts of a source, each with how many bytes had to be stored."""
    # A journal that is rotated while it is looked at: the next look sees it under its new name.
    changed: Changed | None = None
    for _attempt in range(_ATTEMPTS):
        taken = _taken(catalogue, source, known, numbers, jobs)
        if not isinstance(taken, Changed):
            return taken
        changed = taken
    raise Failed(f"{source.name} went on changing while it was read: {changed}") from changed


def _taken(
    catalogue: Catalogue, source: Source, known: Known, numbers: t.Iterator[int], jobs: int
) -> list[tuple[Part, int]] | Changed:
    """One attempt."""
    try:
        with source.open() as drafts:
            _require_room(catalogue, drafts, known)
            try:
                return [_store(catalogue, draft, known, numbers, jobs) for draft in drafts]
            except FileNotFoundError as error:
                raise Changed(f"{error.filename} is not there any more") from error
    except Changed as error:
        return error


def _store(catalogue: Catalogue, draft: Draft, known: Known, numbers: t.Iterator[int], jobs: int) -> tuple[Part, int]:
    hashes = _held(catalogue, draft, known)
    missing = [candidate for candidate in draft.candidates if candidate.path not in hashes]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        taken = [pool.submit(catalogue.store.take, one.at, one.size, next(numbers), one.is_meant) for one in missing]
        try:
            hashes.update((one.path, future.result()) for one, future in zip(missing, taken))
        except BaseException:
            for future in taken:
                future.cancel()
            raise
    files = tuple(_file(candidate, hashes[candidate.path]) for candidate in draft.candidates)
    part = Part(draft.source, draft.root, draft.directories, files, draft.facts)
    return part, sum(candidate.size for candidate in missing)


def _held(catalogue: Catalogue, draft: Draft, known: Known) -> dict[str, str]:
    """Hashes of the files that the store has, by their path."""
    found = {}
    for candidate in draft.candidates:
        size, sha256 = known.get((f"{draft.source} {draft.root}", candidate.path, candidate.key), (-1, ""))
        if size == candidate.size and catalogue.store.holds(sha256, size):
            found[candidate.path] = sha256
    return found


def _file(candidate: Candidate, sha256: str) -> File:
    values = {
        field.name: getattr(candidate, field.name) for field in dataclasses.fields(File) if field.name != "sha256"
    }
    return File(sha256=sha256, **values)


def _require_room(catalogue: Catalogue, drafts: list[Draft], known: Known) -> None:
    needed = _SPARE
    for draft in drafts:
        held = _held(catalogue, draft, known)
        needed += sum(candidate.size for candidate in draft.candidates if candidate.path not in held)
    status = os.statvfs(catalogue.root)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        names = ", ".join(sorted({f"{draft.source} of {draft.root}" for draft in drafts}))
        raise NoRoom(f"{names} needs {needed} bytes in {catalogue.root}, and {free} are free")
