# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What a restore of a journal directory would do, before anything is done. Nothing here writes.

The tree of the backup comes as a whole, and of the live one comes along what it does not hold: records of trading and
logs, whatever they are; a file that goes on where the backup's ends, instead of that; a journal of metrics of which no
record can be in the backup as well, by its days or because it begins after the backup's newest record. A journal of
metrics that the backup may have counted already, perhaps in another resolution, stays in the old directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import stat
import time
import typing as t
from pathlib import Path, PurePosixPath

from .._journal import files as _files
from .._journal.account import shown
from .._journal.exchange import is_interrupted
from .._journal.format import DAY_NS, METRICS, day_stamp, read_name
from .._journal.state import CONSUMED
from .._journal.stream import Damaged as JournalDamaged
from .._journal.stream import Identity
from .._storage import rfc3339
from .._units import human_size
from .catalogue import DAMAGED
from .create import Candidate
from .figures import Day, Journal, read
from .journals import is_wanted
from .manifest import Damaged, File, Part
from .restore_plan import beside_of
from .steps import Step
from .store import CHUNK, Store
from .tree import Found, walk

# So many names a step or a finding carries; how many there are stands beside them.
NAMES = 20
_DAY_SECONDS = 86400
# What a restore writes and reads again in a second, at the least.
_BYTES_PER_SECOND = 50e6
_WRITING_SECONDS, _POLL_SECONDS = 2.0, 0.1
# How a live file is to one of the backup: the same, longer, shorter, another one.
SAME, CONTINUES, BEGINS, OTHER = "same", "continues", "begins", "other"
_DATED = re.compile(r"(?P<base>.+\.\d{8}(?:T\d{6}Z?)?)(?:\.\d+)?", re.DOTALL)


class Writer(t.NamedTuple):
    """:param path: of a file that it has open for writing."""

    process: str
    path: str

    def __str__(self) -> str:
        return f"{self.process} has {shown(self.path)} open for writing"


@dataclasses.dataclass(frozen=True)
class Live:
    """What is in the place that is to be restored.

    :param found: None where there is no such directory.
    :param files: journals and others by their path, as the clean-up sees them; what that cannot tell apart is missing.
    :param settled: paths of the journals of metrics that nothing is added to any more.
    :param mounts: directories below that are mount points.
    :param writers: who has a file of it open for writing.
    :param unknown: of how many processes that is not known.
    :param free: bytes of its file system.
    """

    directory: str
    found: Found | None
    files: dict[str, _files.File]
    settled: frozenset[str]
    is_interrupted: bool
    is_mount: bool
    mounts: tuple[str, ...]
    writers: tuple[Writer, ...]
    unknown: int
    free: int

    @property
    def candidates(self) -> dict[str, Candidate]:
        return {one.path: one for one in self.found.candidates} if self.found else {}


@dataclasses.dataclass(frozen=True)
class Gone:
    """A live journal whose records may be lost.

    :param first: time of its oldest record, ``last`` of its newest, nanoseconds since the epoch; 0 where not known.
    """

    path: str
    bytes: int
    first: int
    last: int
    why: str

    def __str__(self) -> str:
        span = f", {rfc3339(self.first / 1e9)} to {rfc3339(self.last / 1e9)}" if self.last else ""
        return f"{shown(self.path)} ({human_size(self.bytes)}{span}; {self.why})"


@dataclasses.dataclass(frozen=True)
class Choice:
    """What comes together.

    :param carry: live paths that come along, each with the reason, a clause.
    :param held: by the path of a file of the backup: the live one that has all of it, and is taken instead.
    :param renamed: by the path of a file of the backup: the name that it gets, since a live one keeps its own.
    :param replaced: live journals whose days the backup has.
    :param gone: live journals with records that the backup may lack.
    """

    carry: dict[str, str]
    held: dict[str, str]
    renamed: dict[str, str]
    replaced: tuple[str, ...]
    gone: tuple[Gone, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    :param refusals: why it cannot be done so, sentences; then nothing is.
    :param needed: bytes. :param seconds: how long it takes, about.
    """

    directory: str
    steps: tuple[Step, ...]
    choice: Choice
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    needed: int
    seconds: float


def look(directory: Path) -> Live:
    """
    :raises Failed: where it cannot be read. :raises Changed: where it goes on changing.
    """
    status = os.statvfs(next(path for path in (directory, *directory.parents) if path.is_dir()))
    free = status.f_bavail * status.f_frsize
    if not directory.is_dir():
        return Live(str(directory), None, {}, frozenset(), False, False, (), (), 0, free)
    root = str(directory)
    # What went into a roll-up here says nothing of the backup's journals.
    found = walk(root, lambda path: is_wanted(path) and path != CONSUMED)
    tree, _unread = _files.walk(root, int(time.time()) // _DAY_SECONDS, None, lambda _path, _identity, _modified: None)
    settled = frozenset(path for path, file in tree.files.items() if file.kind == METRICS and tree.is_settled(file))
    writing, unknown = writers(directory)
    return Live(
        directory=root,
        found=found,
        files=tree.files,
        settled=settled,
        is_interrupted=is_interrupted(root),
        is_mount=directory.is_mount(),
        mounts=tuple(one.path for one in found.directories if (directory / one.path).is_mount()),
        writers=tuple(writing),
        unknown=unknown,
        free=free,
    )


def writers(directory: Path, patience: float = _WRITING_SECONDS) -> tuple[list[Writer], int]:
    """Who has a file below it open for writing, and of how many processes that is not known.

    :param patience: seconds; who opens and closes a file at each flush is not meant.
    """
    deadline = time.monotonic() + patience
    while True:
        found, unknown = _writers(directory)
        if not found or time.monotonic() > deadline:
            return found, unknown
        time.sleep(_POLL_SECONDS)


def _writers(directory: Path) -> tuple[list[Writer], int]:
    known: dict[tuple[int, int], str] = {}
    for above, _names, names in os.walk(directory):
        for name in names:
            try:
                status = Path(above, name).lstat()
            except FileNotFoundError:
                continue
            known[status.st_dev, status.st_ino] = str(Path(above, name).relative_to(directory))
    found: list[Writer] = []
    unknown = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            paths = sorted({_written(handle, known) for handle in (process / "fd").iterdir()} - {""})
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            unknown += 1
            continue
        # It may end in this moment.
        with contextlib.suppress(OSError):
            if paths:
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found += [Writer(f"process {process.name} ({name})", path) for path in paths]
    return sorted(found), unknown


def _written(handle: Path, known: t.Mapping[tuple[int, int], str]) -> str:
    """Path of a file that a process may write to through a handle; empty where it is none of these."""
    try:
        status = handle.stat()
    except OSError:
        # Closed in this moment, or on a file system that shows itself to nobody else: none of these.
        return ""
    path = known.get((status.st_dev, status.st_ino), "") if stat.S_ISREG(status.st_mode) else ""
    if not path:
        return ""
    try:
        told = handle.parent.with_name("fdinfo").joinpath(handle.name).read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    flags = next(line.split()[1] for line in told.splitlines() if line.startswith("flags:"))
    return path if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY else ""


def plan(part: Part, name: str, level: str, live: Live, compare: Comparison | None) -> Plan:
    """
    :param name: of the backup.
    :param level: of the part in it, see :mod:`.catalogue`.
    :param compare: None where the backup is not here yet: then nobody knows what comes along.
    """
    choice, refusals = Choice({}, {}, {}, (), ()), list(_refusals(part, level, live))
    if level != DAMAGED and compare:
        try:
            choice = choose(part, name, live, compare)
        except (Damaged, JournalDamaged, FileNotFoundError) as error:
            refusals.append(f"The backup is not what it was: {error}. Another one would do.")
    return Plan(
        directory=live.directory,
        steps=tuple(_steps(part, live, choice)),
        choice=choice,
        refusals=tuple(refusals),
        warnings=tuple(_warnings(part, live, choice, is_here=compare is not None)),
        needed=part.size,
        seconds=2 * part.size / _BYTES_PER_SECOND + 1,
    )


def choose(part: Part, name: str, live: Live, compare: Comparison) -> Choice:
    """
    :param name: of the backup.
    :raises Damaged: where the backup is not what its manifest says.
    """
    return _Chooser(part, name, live, compare).choice()


class _Chooser:
    def __init__(self, part: Part, name: str, live: Live, compare: Comparison) -> None:
        self.backup = {file.path: file for file in part.files}
        self.name = name
        self.live = live
        self.compare = compare
        self.carry: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.replaced: list[str] = []
        self.gone: list[Gone] = []
        # Of days that the backup has.
        self.older: dict[str, Journal] = {}

    def choice(self) -> Choice:
        left = self._follow(self._match())
        for one in left:
            file = self.live.files.get(one.path)
            if file is None and read_name(PurePosixPath(one.path).name).ours:
                self._lose(one, None, "it cannot be read, or told apart from another name of it")
            elif file is None or file.kind != METRICS:
                self.carry[one.path] = "it is no journal of metrics, and the backup has not what it holds"
            else:
                self._judge(one, file)
        for path, journal in self.older.items():
            lacking = self._lacking(self.live.files[path].group, journal)
            if lacking:
                self._lose(self.live.candidates[path], journal, lacking)
            else:
                self.replaced.append(path)
        return Choice(self.carry, self.held, self._renamed(), tuple(self.replaced), tuple(self.gone))

    def _match(self) -> list[Candidate]:
        """Holds files of one name against each other; those that have none, or differ."""
        left: list[Candidate] = []
        for path, one in self.live.candidates.items():
            file = self.backup.get(path)
            relation = self._relation(file, one) if file else OTHER
            if relation == OTHER:
                left.append(one)
            elif relation == BEGINS:
                self.replaced.append(path)
            elif relation == CONTINUES or path not in self.live.settled:
                self.carry[path] = "it is where the backup's ends, or goes on from there"
                self.held[path] = path
        return left

    def _follow(self, left: list[Candidate]) -> list[Candidate]:
        """Finds those that had another name at the backup; the rest."""
        rest = []
        for one in left:
            for file in self.compare.former(one, self.live.files.get(one.path)):
                if file.path not in self.held and self._relation(file, one) in (SAME, CONTINUES):
                    self.carry[one.path] = f"it goes on from what was {shown(file.path)} at the backup"
                    self.held[file.path] = one.path
                    break
            else:
                rest.append(one)
        return rest

    def _relation(self, file: File, one: Candidate) -> str:
        """As the comparison has it; but a roll-up into which more went may begin with what it was."""
        relation = self.compare.relation(file, one, one.path in self.live.settled)
        mine = self.live.files.get(one.path)
        if relation != CONTINUES or mine is None or mine.kind != METRICS or (mine.is_growing and file.path == one.path):
            return relation
        if mine.name.compressed:
            return OTHER
        try:
            more = _Span.of(read(mine, start=file.size))
        except (JournalDamaged, OSError):
            return OTHER
        others = [self.compare.journal(other) for other in self.compare.files(mine.group) if other.path != file.path]
        return CONTINUES if all(other and more.is_apart(_Span.of(other)) for other in others) else OTHER

    def _judge(self, one: Candidate, file: _files.File) -> None:
        """Whether a journal of metrics comes along, holds only days that the backup has, or would be gone."""
        try:
            journal = read(file)
        except (JournalDamaged, OSError) as error:
            self._lose(one, None, f"it is damaged: {error}")
            return
        mine = _Span.of(journal)
        theirs = [self.compare.journal(other) for other in self.compare.files(file.group)]
        known = [_Span.of(other) for other in theirs if other]
        is_known = len(known) == len(theirs)
        if is_known and all(mine.is_apart(span) for span in known):
            self.carry[one.path] = "none of its records can be in the backup"
        elif (
            is_known
            and mine.days <= set().union(*(span.days for span in known))
            and mine.last < max(span.end for span in known)
        ):
            self.older[one.path] = journal
        else:
            self._lose(one, journal, "some of its records may be in the backup, so that it would count twice")

    def _lose(self, one: Candidate, journal: Journal | None, why: str) -> None:
        first, last = (journal.first, journal.last) if journal else (0, 0)
        self.gone.append(Gone(one.path, one.size, first, last, why))

    def _lacking(self, group: _files.Group, journal: Journal) -> str:
        """Why the backup may lack some of the days of a journal, a clause: a roll-up changes no count of a series."""
        now, then = dict(self.older), {}
        for file in self.compare.files(group):
            found = None if file.path in self.held else self.compare.journal(file)
            if found:
                then[file.path] = found
                if file.path in self.live.settled and file.path not in {*now, *self.carry, *self.replaced}:
                    # It is the same.
                    now[file.path] = found
        mine = _counts(one for path, one in now.items() if self.live.files[path].group == group)
        theirs = _counts(then.values())
        for day in sorted({day for day, _interval in journal.days}):
            if mine[day] != theirs.get(day):
                before = theirs[day][0] if day in theirs else 0
                return f"its {mine[day][0]} observations of {day_stamp(day)} are other ones than the backup's {before}"
        return ""

    def _renamed(self) -> dict[str, str]:
        """Both stay where a live one comes along that is another one than that of the backup."""
        taken = {*self.carry, *(path for path in self.backup if path not in self.held)}
        renamed = {}
        for path in sorted(self.backup.keys() & self.carry.keys() - self.held.keys()):
            is_metrics = path in self.live.files and self.live.files[path].kind == METRICS
            day = self.compare.newest_day(self.backup[path]) if is_metrics else 0
            renamed[path] = _dated(path, day, taken) if is_metrics else f"{path}.{self.name}"
            taken.add(renamed[path])
        return renamed


def _counts(journals: t.Iterable[Journal]) -> dict[int, tuple[int, int]]:
    """By UTC day: how many observations there are, of all series and weighted by their series."""
    found: dict[int, Day] = {}
    for journal in journals:
        for (day, _interval), figure in journal.days.items():
            found.setdefault(day, Day()).merge(figure)
    return {day: (figure.count, figure.count_by_series) for day, figure in found.items()}


@dataclasses.dataclass(frozen=True)
class _Span:
    """Of which times a journal holds records, in nanoseconds since the epoch.

    :param end: until when its last record stands for something.
    :param finest: resolution in seconds, like ``coarsest``.
    """

    first: int
    last: int
    end: int
    days: frozenset[int]
    finest: int
    coarsest: int

    @classmethod
    def of(cls, journal: Journal) -> _Span:
        resolutions = {interval for _day, interval in journal.days} or {0}
        days = {
            day
            for start, interval in journal.days
            for day in range(start, start + max(1, -(-interval // _DAY_SECONDS)))
        }
        coarsest = max(resolutions)
        end = journal.last + coarsest * 10**9
        return cls(journal.first, journal.last, end, frozenset(days), min(resolutions), coarsest)

    def is_apart(self, other: _Span) -> bool:
        """Whether no record can be in both, in whatever resolution."""
        # What was added up stands for all until its end; what was not, for its moment.
        begins_after = self.first >= other.end if other.coarsest > self.finest else self.first > other.last
        return begins_after or self.days.isdisjoint(other.days)


class Comparison:
    """Holds live files against those of a backup. What was read once is known as long as it stays as it is."""

    def __init__(self, store: Store, part: Part) -> None:
        self._store = store
        self._rows = part.facts.get("journals", {})
        self._relations: dict[tuple[str, str], str] = {}
        self._journals: dict[str, Journal | None] = {}
        self._by_inode = {file.key.split(":")[1]: file for file in part.files if file.key.count(":") > 1}
        self._groups: dict[_files.Group, list[File]] = {}
        for file in part.files:
            if read_name(PurePosixPath(file.path).name).ours:
                self._groups.setdefault(self._file(file).group, []).append(file)

    def relation(self, file: File, one: Candidate, is_settled: bool = False) -> str:
        """
        :param is_settled: nothing is added to it: then it is the same as long as it looks so.
        :raises Damaged: where the backup is not what its manifest says.
        """
        if is_settled and file.key == one.key:
            return SAME
        key = (file.path, one.key)
        if key not in self._relations:
            self._relations[key] = self._compared(file, one)
        return self._relations[key]

    def former(self, one: Candidate, journal: _files.File | None) -> list[File]:
        """Files of the backup, of other names, that a live one may be, or go on from."""
        likely = [self._by_inode.get(str(one.inode))]
        if journal and journal.kind == METRICS:
            likely += [file for file in self.files(journal.group) if self._file(file).is_growing]
        return [file for file in likely if file and file.size and file.path != one.path]

    def files(self, group: _files.Group) -> list[File]:
        """The journals of metrics of a group in the backup, by their names."""
        return self._groups.get(group, [])

    def journal(self, file: File) -> Journal | None:
        """What a journal of the backup holds; None where it is damaged, as it was at the backup already."""
        if file.path not in self._journals:
            row = self._rows.get(file.path)
            try:
                self._journals[file.path] = Journal.of(row) if row else read(self._file(file))
            except JournalDamaged:
                self._journals[file.path] = None
        return self._journals[file.path]

    def newest_day(self, file: File) -> int:
        journal = self.journal(file)
        return journal.last // DAY_NS if journal and journal.last else file.modified // DAY_NS

    def _compared(self, file: File, one: Candidate) -> str:
        try:
            if one.size >= file.size:
                if _digest(_chunks(one.at, file.size)) != file.sha256:
                    return OTHER
                return CONTINUES if one.size > file.size else SAME
            mine = _digest(_chunks(one.at, one.size))
        except OSError:
            # A disk that cannot give it back: then it is not what the backup has.
            return OTHER
        return BEGINS if _digest(_first(self._store.read(file), one.size)) == mine else OTHER

    def _file(self, file: File) -> _files.File:
        at = str(self._store.path(file.sha256))
        name = read_name(PurePosixPath(file.path).name)
        return _files.File(file.path, at, Identity(0, 0, file.size), file.modified, METRICS, name, None, None)


def _chunks(path: Path, size: int) -> t.Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield from _first(iter(lambda: file.read(CHUNK), b""), size)


def _first(chunks: t.Iterator[bytes], size: int) -> t.Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk[:size])
        if not size:
            return


def _digest(chunks: t.Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _dated(path: str, day: int, taken: t.Collection[str]) -> str:
    """A name under which a journal of metrics is one that nobody adds to any more, and that nothing has."""
    place = PurePosixPath(path)
    stem, dot, ending = place.name.rpartition(".jsonl" if ".jsonl" in place.name else ".ndjson")
    dated = _DATED.fullmatch(stem)
    base = dated["base"] if dated else f"{stem}.{day_stamp(day)}"
    names = (f"{base}{number}{dot}" for number in itertools.chain([""], map(".{}".format, itertools.count(1))))
    twins = ((str(place.with_name(name)), str(place.with_name(f"{name}.gz"))) for name in names)
    plain, compressed = next(pair for pair in twins if not any(name in taken for name in pair))
    return compressed if ending else plain


def _refusals(part: Part, level: str, live: Live) -> t.Iterator[str]:
    place = live.directory
    if level == DAMAGED:
        yield "This backup is damaged; another one would do."
    for writer in live.writers[:NAMES]:
        yield f"{writer} in {place}: stop it first, it would go on writing into the old directory."
    if live.unknown:
        yield f"Of {live.unknown} processes it is not known which files of {place} they have open; become would do."
    for path in live.mounts:
        yield f"{place}/{shown(path)} is a mount point, which cannot change places with the rest; unmount it first."
    if part.size > live.free:
        yield f"{human_size(part.size)} are needed beside {place}, and {human_size(live.free)} are free."
    directories = {one.path for one in live.found.directories} if live.found else set()
    mixed = [file.path for file in part.files if file.path in directories]
    mixed += [one.path for one in part.directories if one.path in live.candidates]
    for path in mixed[:1]:
        yield f"{place}/{shown(path)} is a file in the backup and a directory here, or the other way round; rename it."


def _warnings(part: Part, live: Live, choice: Choice, is_here: bool) -> t.Iterator[str]:
    if not is_here and live.found is not None:
        yield "What of the live journals comes along, and what not, is known once the backup is here."
    if "figures" not in part.facts:
        why = part.facts.get("figures_error", "nothing was counted")
        yield f"What this backup counts is not known ({why}): its hashes are all that can be compared."
    if live.is_interrupted:
        yield (
            f"A clean-up of {live.directory} was interrupted; it is brought to its end first, and then what is carried"
            " over is looked at anew."
        )
    for path, name in list(choice.renamed.items())[:NAMES]:
        if not read_name(PurePosixPath(name).name).ours:
            yield (
                f"{shown(path)} is another one here than in the backup. Both stay: this one as it is, that of the"
                f" backup as {shown(name)}; compare them by hand."
            )


def _steps(part: Part, live: Live, choice: Choice) -> t.Iterator[Step]:
    beside = beside_of(live.directory, live.is_mount)
    if live.is_interrupted:
        yield Step("recover", live.directory, "a clean-up was interrupted while it exchanged files")
    yield Step("write", beside, f"{len(part.files)} files of the backup, each checked by its hash", part.size)
    if "figures" in part.facts:
        yield Step("prove", beside, "it must give the counts and sums per series and day that it had at the backup")
    sizes = {path: one.size for path, one in live.candidates.items()}
    reasons: dict[str, list[str]] = {}
    for path, why in choice.carry.items():
        reasons.setdefault(why, []).append(path)
    for why, paths in reasons.items():
        yield Step("carry", named(paths), why, sum(sizes[path] for path in paths))
    for path, name in list(choice.renamed.items())[:NAMES]:
        yield Step("rename", shown(path), f"that of the backup becomes {shown(name)}, for the live one keeps its name")
    if choice.replaced:
        total = sum(sizes[path] for path in choice.replaced)
        yield Step("replace", named(choice.replaced), "the backup has these days, or all of these bytes", total)
    if live.found is not None:
        total = sum(sizes.values())
        yield Step("keep", live.directory, "what is there stays beside until a person removes it", total)
    yield Step("place", live.directory, "the new tree takes its place")


def named(paths: t.Sequence[str]) -> str:
    """Some of them, and how many there are."""
    if len(paths) <= NAMES:
        return shown(", ".join(paths))
    return f"{shown(', '.join(paths[:NAMES]))} and {len(paths) - NAMES} more"
