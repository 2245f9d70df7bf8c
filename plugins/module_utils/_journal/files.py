# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""What lies in a journal directory, and what each journal of metrics holds.

A file is read once; what it held is remembered under its inode, size and time of change, so that a run costs what is
new and not what is there. Nothing here writes.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
import zlib
from pathlib import PurePosixPath

from .format import DAY_NS, METRICS, FileName, classify, is_aside, read_name
from .lines import Form, LineReader, Match
from .record import Record
from .state import CONSUMED, INTENT, OURS, STATE, Facts, Holdings, Intent, Known, Remembered
from .stream import Identity, Source
from .survey import Ends, open_quietly, read_ends

# What the aggregator writes; a journal that says nothing of it is taken for one of its.
DEFAULT_INTERVAL = 60
AGGREGATED = "aggregated_metrics"
# <stem>_<resolution> or aggregated_metrics, then a stamp, then the ending.
_PARTS = re.compile(
    r"(?:(?P<stem>.+)_(?P<resolution>\d+[smhd])|(?P<aggregated>aggregated_metrics))"
    r"(?P<stamp>\..+)?(?P<ending>\.(?:jsonl|ndjson))(?:\.gz)?",
    re.DOTALL,
)


class Group(t.NamedTuple):
    """Journals that are rolled up together: of one directory, one stem and one ending."""

    directory: str
    stem: str
    ending: str


@dataclasses.dataclass(frozen=True)
class File:
    """
    :param path: relative to the journal directory.
    :param at: absolute, where it lies now: a run that was interrupted may have left it under a name of ours.
    :param kind: see :mod:`.format`.
    :param newest: day of its newest record or of its name, whatever is known; None where neither is.
    :param facts: of settled journals of metrics only.
    """

    path: str
    at: str
    identity: Identity
    modified: int
    kind: str
    name: FileName
    oldest: int | None
    newest: int | None
    facts: Facts | None = None

    @property
    def group(self) -> Group:
        """:raises ValueError: where it is not named like a journal of metrics."""
        path = PurePosixPath(self.path)
        parts = _PARTS.fullmatch(path.name)
        if parts is None:
            raise ValueError(f"{self.path} is not named like a journal of metrics")
        return Group(str(path.parent), parts["stem"] or AGGREGATED, parts["ending"])

    @property
    def is_growing(self) -> bool:
        """Its name has no date: somebody adds to it, under this name."""
        return self.name.day is None and not self.name.compressed


class Problem(t.NamedTuple):
    """A path that could not be looked at or read, and why, a clause."""

    path: str
    reason: str


@dataclasses.dataclass
class Tree:
    """
    :param files: by their path.
    :param left_over: files of ours that an interrupted run left, without a record that they are wanted.
    """

    root: str
    today: int
    files: dict[str, File] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    links: list[str] = dataclasses.field(default_factory=list)
    left_over: list[str] = dataclasses.field(default_factory=list)

    def is_settled(self, file: File) -> bool:
        """Whether no record is added to it any more, as far as its name and its records tell."""
        if file.is_growing or (file.name.day is not None and file.name.day // DAY_NS >= self.today):
            return False
        # One from a clock that is wrong is not waited for.
        days = {day for day, _resolution in file.facts.holdings} if file.facts else {file.newest}
        return days.isdisjoint((self.today, self.today + 1))


def walk(root: str, today: int, intent: Intent | None, remembered: Remembered) -> tuple[Tree, list[File]]:
    """The tree as it will be once an interrupted run is brought to its end, and the journals in it to be scanned.

    :param today: the UTC day, in days since the epoch.
    """
    tree = Tree(root, today)
    unread: list[File] = []
    appears = {rename.temporary: rename.path for rename in intent.renames} if intent else {}
    replaced = {to for temporary, to in appears.items() if os.path.lexists(f"{root}/{temporary}")}
    goes = {source.path: source for source in intent.sources} if intent else {}
    seen: dict[tuple[int, int], str] = {}
    both: set[str] = set()
    for path, at, status in _files(tree):
        if path in (STATE, CONSUMED, INTENT):
            continue
        if path in appears:
            path = appears[path]
        elif PurePosixPath(path).name.startswith(OURS):
            tree.left_over.append(path)
            continue
        elif path in replaced or (path in goes and goes[path].identity == Identity.of(status)):
            continue
        twice = seen.setdefault((status.st_dev, status.st_ino), path)
        if twice != path:
            # Neither is touched: what came of the one would be counted again with the other.
            both.add(twice)
            tree.problems += [Problem(one, f"{path} and {twice} are the same file") for one in (twice, path)]
            continue
        try:
            file = _look(tree, path, at, status, remembered)
        except (OSError, zlib.error) as error:
            tree.problems.append(Problem(path, str(getattr(error, "strerror", None) or error)))
            continue
        tree.files[path] = file
        if file.kind == METRICS and file.facts is None and tree.is_settled(file):
            unread.append(file)
    for path in both & tree.files.keys():
        del tree.files[path]
    return tree, [file for file in unread if file.path not in both]


def scan(file: File) -> Facts:
    """
    :raises Damaged: where it cannot be read to its end.
    :raises OSError: where it cannot be read.
    """
    reader = _Scan(file.name.resolution or DEFAULT_INTERVAL)
    with Source(file.at, file.name.compressed) as source:
        for block in source.blocks():
            reader.bytes += len(block.lines)
            reader.feed(block)
        return Facts(reader.holdings, reader.rejected, reader.first or 0, reader.last, source.content, reader.bytes)


class _Scan(LineReader):
    def __init__(self, interval: int) -> None:
        super().__init__(interval)
        self.holdings: Holdings = {}
        self.rejected = self.last = self.bytes = 0
        self.first: int | None = None

    def regular(self, time: int, matches: list[Match], form: Form) -> None:
        day = time // DAY_NS
        if len(self.intervals) == 1:
            self._hold(day, next(iter(self.intervals)), len(matches))
        else:
            for match in matches:
                self._hold(day, self.known[match[1]].interval, 1)
        self._extend(time)

    def single(self, line: bytes, record: Record) -> None:
        self._hold(record.time // DAY_NS, record.interval or self.interval, 1)
        self._extend(record.time)

    def reject(self, lines: bytes, reason: str, goes_on: bool) -> None:
        self.rejected += not goes_on

    def _hold(self, day: int, interval: int, lines: int) -> None:
        self.holdings[day, interval] = self.holdings.get((day, interval), 0) + lines

    def _extend(self, time: int) -> None:
        self.first = time if self.first is None else min(self.first, time)
        self.last = max(self.last, time)


def _files(tree: Tree) -> t.Iterator[tuple[str, str, os.stat_result]]:
    """Regular files below the root: path, where it lies, and its status. No link is followed."""
    pending = [""]
    while pending:
        below = pending.pop()
        absolute = f"{tree.root}/{below}" if below else tree.root
        try:
            entries = sorted(os.scandir(absolute), key=lambda entry: entry.name)
        except OSError as error:
            tree.problems.append(Problem(below or ".", str(error.strerror)))
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_symlink():
                tree.links.append(path)
            elif entry.is_dir(follow_symlinks=False):
                if not is_aside(path):
                    pending.append(path)
            elif entry.is_file(follow_symlinks=False):
                try:
                    yield path, entry.path, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue


def _look(tree: Tree, path: str, at: str, status: os.stat_result, remembered: Remembered) -> File:
    name = read_name(PurePosixPath(path).name)
    identity = Identity.of(status)
    known = remembered(path, identity, status.st_mtime_ns)
    if known is None:
        ends = _ends(at, name)
        times = (name.day if time is None else time for time in (ends.content.first, ends.last))
        oldest, newest = (None if time is None else time // DAY_NS for time in times)
        known = Known(ends.content.kind, oldest, newest)
    return File(path, at, identity, status.st_mtime_ns, known.kind, name, known.oldest, known.newest, known.facts)


def _ends(at: str, name: FileName) -> Ends:
    if not name.journal:
        return Ends(classify(name, []))
    handle = open_quietly(at)
    try:
        return read_ends(handle, name)
    finally:
        os.close(handle)
