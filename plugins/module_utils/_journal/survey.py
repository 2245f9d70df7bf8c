# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What lies in the journal directories: one walk, which reads the two ends of a file and nothing between.

Nothing is opened for writing, no link is followed, and no access time changes where the kernel lets us ask for that.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import typing as t
import zlib
from pathlib import Path

from .format import DAY_NS, OTHER, Content, FileName, classify, is_aside, read_name, read_record, record_time

FIRST_LINES = 3
# How much of an end of a file is read: more only where less holds no whole line. A line that is longer than the last
# of these is left unread.
READ_STEPS = (4 * 1024, 64 * 1024, 1024 * 1024)

TIME_SOURCES = ("records", "name", "modified")
FOUND, EMPTY, MISSING, UNREADABLE, NOT_A_DIRECTORY = STATES = (
    "found",
    "empty",
    "missing",
    "unreadable",
    "not_a_directory",
)
LINK_STATES = ("inside", "outside", "circle", "broken")

# The kernel lets only the owner of a file, and root, read it without leaving a new access time.
_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GZIP = 16 + zlib.MAX_WBITS


class JournalFile(t.NamedTuple):
    """One file; times are nanoseconds since the epoch.

    :param kind: see :mod:`.format`, like ``reason``.
    :param resolution: seconds; None where it is no journal of metrics, or does not tell.
    :param day: start of the UTC day in its name, None where there is none.
    :param bytes: its length; ``disk_bytes`` is what it takes of the disk.
    :param first: time of its oldest data, ``last`` of its newest, as far as its two ends tell.
    :param time_source: the least trustworthy source of the two, one of :data:`TIME_SOURCES`.
    :param device: number of the file system that its directory lies on; an overlay gives files numbers of their own.
    """

    path: str
    kind: str
    reason: str
    resolution: int | None
    compressed: bool
    day: int | None
    bytes: int
    disk_bytes: int
    first: int
    last: int
    time_source: str
    modified: int
    device: int


class Link(t.NamedTuple):
    """A link in the tree: named, never followed. ``state`` is one of :data:`LINK_STATES`."""

    path: str
    target: str
    state: str


class Problem(t.NamedTuple):
    """A path in the tree that could not be read, and why."""

    path: str
    reason: str


@dataclasses.dataclass
class Directory:
    """A directory that was asked for, and what only it holds of those asked for.

    :param resolved: where it leads; the same as ``path`` when it is no link.
    :param state: one of :data:`STATES`.
    :param reason: why it could not be surveyed.
    """

    path: str
    resolved: str
    state: str = EMPTY
    reason: str = ""
    files: int = 0
    disk_bytes: int = 0


@dataclasses.dataclass
class Survey:
    """
    :param files: in the order of their paths, like ``links`` and ``unreadable``.
    :param devices: number of each file system that the walk came upon, and a directory on it.
    """

    directories: list[Directory] = dataclasses.field(default_factory=list)
    files: list[JournalFile] = dataclasses.field(default_factory=list)
    links: list[Link] = dataclasses.field(default_factory=list)
    unreadable: list[Problem] = dataclasses.field(default_factory=list)
    devices: dict[int, str] = dataclasses.field(default_factory=dict)


def survey(paths: t.Iterable[str]) -> Survey:
    """Walks over directories. What lies in two of them, or has two names, is counted once.

    :param paths: absolute; one that is a link itself is surveyed where it leads.
    """
    walk = _Walk()
    for path in paths:
        walk.start(path)
    return walk.result()


class _Walk:
    def __init__(self) -> None:
        self._found = Survey()
        self._seen: set[tuple[int, int]] = set()
        self._links: list[str] = []

    def start(self, path: str) -> None:
        root = Directory(path, os.path.realpath(path))
        self._found.directories.append(root)
        try:
            if not stat.S_ISDIR(Path(path).stat().st_mode):
                root.state = NOT_A_DIRECTORY
                return
            pending = self._enter(root.resolved, root)
        except OSError as error:
            root.state = UNREADABLE if isinstance(error, PermissionError) else MISSING
            root.reason = str(error.strerror)
            return
        while pending:
            below = pending.pop()
            try:
                pending += self._enter(below, root)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._found.unreadable.append(Problem(below, str(error.strerror)))

    def result(self) -> Survey:
        roots = [directory.resolved for directory in self._found.directories]
        self._found.links = sorted(_link(path, roots) for path in self._links)
        self._found.files.sort(key=lambda file: file.path)
        self._found.unreadable.sort()
        return self._found

    def _enter(self, path: str, root: Directory) -> list[str]:
        """Takes in the files of a directory, and returns the directories below it."""
        below = []
        handle = open_quietly(path, os.O_DIRECTORY)
        try:
            status = os.fstat(handle)
            if self._is_known(status):
                # Another of the directories holds it: it is not empty, only counted there.
                root.state = FOUND
                return []
            self._found.devices.setdefault(status.st_dev, path)
            with os.scandir(handle) as entries:
                for entry in entries:
                    entry_path = f"{path.rstrip('/')}/{entry.name}"
                    if entry.is_symlink():
                        self._links.append(entry_path)
                    elif entry.is_dir(follow_symlinks=False):
                        if path != root.resolved or not is_aside(entry.name):
                            below.append(entry_path)
                    else:
                        self._take(entry.name, entry_path, handle, status.st_dev, root)
        finally:
            os.close(handle)
        return below

    def _take(self, name: str, path: str, directory: int, device: int, root: Directory) -> None:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if status.st_nlink > 1 and self._is_known(status):
                return
            ends = _ends(name, directory, status)
        except FileNotFoundError:
            # A rotation took it away in the meantime.
            return
        except (OSError, zlib.error) as error:
            reason = str(getattr(error, "strerror", "") or error)
            self._found.unreadable.append(Problem(path, reason))
            ends = Ends(Content(OTHER, f"cannot be read: {reason}"))
        root.state = FOUND
        root.files += 1
        root.disk_bytes += _disk_bytes(status)
        self._found.files.append(_file(name, path, device, status, ends))

    def _is_known(self, status: os.stat_result) -> bool:
        identity = (status.st_dev, status.st_ino)
        known = identity in self._seen
        self._seen.add(identity)
        return known


class Ends(t.NamedTuple):
    """What the first lines of a file say, and the time of its last record, which only a plain one tells."""

    content: Content
    last: int | None = None


def _ends(name: str, directory: int, status: os.stat_result) -> Ends:
    """
    :raises OSError: where it cannot be read; zlib.error where it is named ``.gz`` and is something else.
    """
    if not stat.S_ISREG(status.st_mode):
        return Ends(Content(OTHER, "no regular file"))
    named = read_name(name)
    if not named.journal:
        return Ends(classify(named, []))
    handle = open_quietly(name, directory=directory)
    try:
        return read_ends(handle, named)
    finally:
        os.close(handle)


def read_ends(handle: int, named: FileName) -> Ends:
    """
    :raises OSError: where it cannot be read; zlib.error where it is named ``.gz`` and is something else.
    """
    content = classify(named, _first_lines(handle, named.compressed))
    return Ends(content, None if named.compressed else _last_time(handle))


def _file(name: str, path: str, device: int, status: os.stat_result, ends: Ends) -> JournalFile:
    named = read_name(name)
    content = ends.content
    # The best source for each end: its record, else the day in the name, else the file's own time.
    modified = status.st_mtime_ns
    dated = (modified, modified, 2) if named.day is None else (named.day, named.day + DAY_NS - 1, 1)
    first, first_source = (dated[0], dated[2]) if content.first is None else (content.first, 0)
    last, last_source = (dated[1], dated[2]) if ends.last is None else (ends.last, 0)
    return JournalFile(
        path=path,
        kind=content.kind,
        reason=content.reason,
        resolution=content.resolution,
        compressed=named.compressed,
        day=named.day,
        bytes=status.st_size,
        disk_bytes=_disk_bytes(status),
        first=min(first, last),
        last=max(first, last),
        time_source=TIME_SOURCES[max(first_source, last_source)],
        modified=modified,
        device=device,
    )


def _first_lines(handle: int, compressed: bool) -> list[bytes]:
    lines: list[bytes] = []
    for step in READ_STEPS:
        head = os.pread(handle, step, 0)
        whole = len(head) < step
        if compressed and head:
            stream = zlib.decompressobj(_GZIP)
            head = stream.decompress(head, step)
            whole = whole and not stream.unconsumed_tail
        lines = head.split(b"\n", FIRST_LINES)
        if whole:
            return [line for line in lines[:FIRST_LINES] if line]
        # What follows the last line break may go on.
        lines = [line for line in lines[:-1] if line]
        if lines:
            break
    return lines


def _last_time(handle: int) -> int | None:
    """Time of the last record that has one, as far back as is read."""
    size = os.fstat(handle).st_size
    for step in READ_STEPS:
        start = max(size - step, 0)
        lines = os.pread(handle, step, start).split(b"\n")
        for line in reversed(lines if start == 0 else lines[1:]):
            record = read_record(line) if line else None
            time = record_time(record) if record else None
            if time is not None:
                return time
        if start == 0:
            break
    return None


def open_quietly(path: str, flags: int = 0, directory: int | None = None) -> int:
    """Opened for reading through no link, and without a new access time where the kernel allows that."""
    try:
        return os.open(path, _READ | _NO_ACCESS_TIME | flags, dir_fd=directory)
    except PermissionError as error:
        # EPERM is the answer to O_NOATIME alone; a file that we may not read gives EACCES.
        if error.errno != errno.EPERM:
            raise
        return os.open(path, _READ | flags, dir_fd=directory)


def _disk_bytes(status: os.stat_result) -> int:
    return status.st_blocks * 512


def _link(path: str, roots: list[str]) -> Link:
    target = os.path.realpath(path)
    here = os.path.realpath(Path(path).parent)
    try:
        Path(path).stat()
        broken = False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Link(path, target, "circle")
        broken = isinstance(error, FileNotFoundError)
    if broken:
        state = "broken"
    elif _within(here, target):
        state = "circle"
    else:
        state = "inside" if any(_within(target, root) for root in roots) else "outside"
    return Link(path, target, state)


def _within(path: str, above: str) -> bool:
    return path == above or path.startswith(above.rstrip("/") + "/")
