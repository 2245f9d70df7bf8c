# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Backups off the host: each one snapshot of a restic repository, and back into a catalogue from there alone.

A snapshot has the files of the catalogue that one backup consists of, under the paths that they have there; what the
repository has already is not sent again. Several hosts may share one: nobody touches what another one sent.
"""

from __future__ import annotations

import calendar
import dataclasses
import time
import typing as t
from pathlib import Path

from .carry import decoded, is_held, require_room, take_in
from .catalogue import BACKUPS, NAME, Catalogue, Entry, Missing, State
from .create import Failed
from .keep import Rules, kept
from .manifest import Damaged, File, Manifest, Part
from .restic import NoRepository, Repository, Sent, local_directory
from .store import CHUNK, Store

LATEST = "latest"
# What the copies of a backup that lie in a repository begin with; the others are files.
_PLACE = "restic:"
_TAG, _NAME_TAG = "njord.telemetry", "njord-backup="
_STAMP = "%Y%m%dT%H%M%SZ"
_DAY_SECONDS = 86400


@dataclasses.dataclass(frozen=True)
class Remote:
    """
    :param parts: in so many days everything there is read once; 0 where it never is.
    """

    repository: Repository
    parts: int

    @property
    def place(self) -> str:
        return _PLACE + self.repository.location

    def part(self, now: float) -> int:
        """Which part of the data is read on this day (UTC), from 1 on; 0 for none."""
        return int(now // _DAY_SECONDS) % self.parts + 1 if self.parts else 0


@dataclasses.dataclass(frozen=True)
class Copy:
    """A backup in the repository. :param created: unix seconds, of the backup."""

    name: str
    host: str
    snapshot: str
    created: float


def is_repository(place: str) -> bool:
    """Whether a copy lies in a repository, and not in a file."""
    return place.startswith(_PLACE)


def path_of(place: str) -> str:
    """Where a copy lies on this host, file or repository; empty where it lies elsewhere."""
    return local_directory(place[len(_PLACE) :]) if is_repository(place) else place


def copies(remote: Remote, host: str) -> list[Copy]:
    """What lies there of a host, the oldest first; of all hosts where none is given."""
    found = []
    for snapshot in remote.repository.snapshots(host, _TAG):
        names = [tag[len(_NAME_TAG) :] for tag in snapshot.tags if tag.startswith(_NAME_TAG)]
        # A person may have given others the same tag.
        if len(names) == 1 and NAME.fullmatch(names[0]):
            created = calendar.timegm(time.strptime(names[0].partition("-")[0], _STAMP))
            found.append(Copy(names[0], snapshot.host, snapshot.id, float(created)))
    return sorted(found, key=lambda copy: (copy.created, copy.name))


def choose(remote: Remote, host: str, name: str) -> Copy:
    """
    :param name: of a backup, or ``latest``.
    :raises Missing: where there is none.
    """
    found = copies(remote, host)
    wanted = [copy for copy in found if name in (copy.name, LATEST)]
    if not wanted:
        has = f"it has {', '.join(copy.name for copy in found[-5:])}" if found else "it has none of this host"
        raise Missing(f"there is no backup {name!r} of host {host} in {remote.place}; {has} (restic_host, name)")
    return wanted[-1]


def send(remote: Remote, catalogue: Catalogue, name: str, host: str, now: float) -> tuple[Sent, list[Copy]]:
    """Sends a backup, and notes that it lies there. The caller has the catalogue's lock.

    A place that has no repository gets one, unless there was one: then a disk is missing, or more.

    :return: what that cost, and what lies there of this host now.
    """
    manifest = _manifest(catalogue, name)
    try:
        there = copies(remote, host)
    except NoRepository as error:
        former = [one for one in catalogue.names() if remote.place in catalogue.copies(one)]
        if former:
            raise NoRepository(
                f"{error}, and {former[-1]} was sent there; see whether its disk is mounted. Where it is lost,"
                " restic init makes a new one"
            ) from error
        remote.repository.create()
        there = []
    files = [*catalogue.files(name), *map(catalogue.store.path, sorted(manifest.hashes()))]
    sent = remote.repository.send(
        catalogue.root,
        [str(file.relative_to(catalogue.root)) for file in files],
        host,
        (_TAG, _NAME_TAG + name),
        there[-1].snapshot if there else "",
    )
    catalogue.note_copy(name, remote.place, now)
    for entry in catalogue.entries():
        # What somebody else took away there lies there no more.
        if entry.name != name and _is_of(entry, host) and entry.name not in {copy.name for copy in there}:
            catalogue.drop_copy(entry.name, remote.place)
    return sent, [*there, Copy(name, host, sent.snapshot, manifest.created)]


def leaving(found: t.Sequence[Copy], entries: t.Sequence[Entry], rules: Rules) -> list[Copy]:
    """What no rule keeps there; the last proven one stays, and so do the damaged ones, as in the catalogue.

    :param found: what lies there of one host; the last of them stays in any case.
    :param entries: of the catalogue.
    """
    known = {entry.name: entry for entry in entries}
    judged = [
        entry if entry and _is_of(entry, copy.host) else _unknown(copy)
        for copy, entry in ((copy, known.get(copy.name)) for copy in found)
    ]
    staying = kept(sorted(judged, key=lambda entry: entry.created), rules)
    return [copy for copy in found[:-1] if copy.name not in staying]


def forget(remote: Remote, catalogue: Catalogue, gone: t.Sequence[Copy]) -> None:
    """The caller has the catalogue's lock."""
    if not gone:
        return
    remote.repository.forget([copy.snapshot for copy in gone])
    for copy in gone:
        if copy.name in catalogue.names():
            catalogue.drop_copy(copy.name, remote.place)


def manifest_of(remote: Remote, copy: Copy) -> Manifest:
    """What a backup there consists of.

    :raises Damaged: where its manifest is not what it was.
    """
    try:
        return _decoded(remote.repository.read(copy.snapshot, f"{BACKUPS}/{copy.name}/manifest"), copy.name)
    except Damaged as error:
        raise Damaged(f"backup {copy.name} in {remote.place}: its manifest: {error}") from error


def fetch(remote: Remote, catalogue: Catalogue, copy: Copy, manifest: Manifest, now: float) -> None:
    """Takes a backup in; where the catalogue has it whole, nothing is done. The caller has the catalogue's lock.

    :param manifest: of :func:`manifest_of`.
    :raises Damaged: where something of it is not what was sent; then nothing of it is taken in.
    :raises NoRoom: where the catalogue's file system has not the room.
    :raises Failed: where another backup has that name.
    """
    if not is_held(catalogue, manifest):
        require_room(catalogue, manifest)
        with catalogue.scratch("fetch") as directory:
            remote.repository.restore(copy.snapshot, directory)
            try:
                take_in(catalogue, _Fetched(directory, copy.name))
            except Damaged as error:
                raise Damaged(f"backup {copy.name} in {remote.place} cannot be used: {error}") from error
    catalogue.note_copy(copy.name, remote.place, now)


class _Fetched:
    """A backup as restic laid it out; each file goes as soon as it was read, so that none is there twice."""

    def __init__(self, directory: Path, name: str) -> None:
        self._manifest = directory / BACKUPS / name / "manifest"
        self._store = Store(directory)
        self._name = name

    def manifest(self) -> Manifest:
        try:
            return _decoded(self._manifest.read_bytes(), self._name)
        except FileNotFoundError:
            raise Damaged("its manifest is missing") from None

    def object(self, file: File) -> t.Iterator[bytes]:
        path = self._store.path(file.sha256)
        try:
            content = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise Damaged(f"{file.path} is missing (object {file.sha256})") from None
        with content:
            yield from iter(lambda: content.read(CHUNK), b"")
        path.unlink()

    def needed(self, files: t.Sequence[File]) -> int:
        return max((file.size for file in files), default=0)

    def end(self) -> None:
        """Whatever else lies there is not taken."""


def _decoded(content: bytes, name: str) -> Manifest:
    manifest = decoded(content)
    if manifest.name != name:
        raise Damaged(f"it says that it is {manifest.name}")
    return manifest


def _manifest(catalogue: Catalogue, name: str) -> Manifest:
    entry = catalogue.entry(name)
    if entry.manifest is None:
        raise Failed(f"backup {name}: {entry.damage}")
    return entry.manifest


def _is_of(entry: Entry, host: str) -> bool:
    return entry.manifest is None or entry.manifest.host == host


def _unknown(copy: Copy) -> Entry:
    """For the rules: one that the catalogue does not have is written, no more."""
    manifest = Manifest(copy.name, copy.created, copy.host, (Part("unknown", "", (), (), {}),))
    return Entry(copy.name, manifest, {"unknown ": State()})
