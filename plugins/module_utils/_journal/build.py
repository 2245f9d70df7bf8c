# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""Makes what a step needs, under names of ours: reads its sources once, and changes none of them.

A bucket is written when its time is over, so that memory does not grow with the day. Where a line comes later than
that, what was written so far is one run of several, which are merged in the end: the order of lines and files does not
matter.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import heapq
import itertools
import os
import typing as t
from pathlib import Path, PurePosixPath

from .files import DEFAULT_INTERVAL
from .format import DAY_NS, read_name
from .lines import Form, LineReader, Match
from .plan import COMPRESS, DROP, ROTATE, Step
from .record import Partial, Record, Series, read, render
from .state import NEW, Consumed, Facts, Gone, Intent, Rename
from .stream import BLOCK, Damaged, Output, Source, file_hash

# Buckets are written out when so many series of them are in memory; the newest one stays.
MOST_PARTIALS = 4_000
# So many files are open at once for writing, and so many runs are merged at once.
MOST_OPEN = 64


@dataclasses.dataclass
class Counts:
    """What a step saw. :param unknown: keys that were dropped, and of how many lines."""

    read: int = 0
    merged: int = 0
    written: int = 0
    carried: int = 0
    expired: int = 0
    rejected: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, other: Counts) -> None:
        for field in ("read", "merged", "written", "carried", "expired"):
            setattr(self, field, getattr(self, field) + getattr(other, field))
        for field in ("rejected", "unknown"):
            mine = getattr(self, field)
            for key, count in getattr(other, field).items():
                mine[key] = mine.get(key, 0) + count


class Made(t.NamedTuple):
    """What a step is exchanged for: nothing of it is in place yet.

    :param facts: of the journals of metrics that are made, by path, as if they were read.
    """

    intent: Intent
    counts: Counts
    facts: dict[str, Facts]


# By the text of the series.
_Bucket = t.Dict[str, t.Tuple[Series, Partial]]

NOTHING = Made(Intent([], [], []), Counts(), {})


def make(root: str, step: Step) -> Made:
    """
    :param root: the journal directory.
    :raises Damaged: where a source cannot be read to its end, or a file does not hold what was written to it.
    :raises OSError: where the disk is full, or something is not there any more. What was written goes again.
    """
    if step.action == ROTATE:
        return NOTHING
    outputs = _Outputs(root)
    try:
        counts = _MAKERS.get(step.action, _merge)(step, outputs)
        intent = Intent(outputs.finish(), outputs.sources, _consumed(step, outputs))
        return Made(intent, counts, outputs.facts())
    except BaseException:
        outputs.discard()
        raise


def _consumed(step: Step, outputs: _Outputs) -> list[Consumed]:
    if step.resolution is None or step.day is None:
        return []
    return [Consumed(content, path, step.target, step.day) for path, content in outputs.contents.items()]


class _Outputs:
    """The files that a step makes, and what it read for them."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.sources: list[Gone] = []
        self.contents: dict[str, str] = {}
        self._outputs: dict[str, Output] = {}
        self._open: dict[str, Output] = {}
        self._held: dict[str, tuple[tuple[int, int], int, int, int]] = {}
        self._like: os.stat_result | None = None

    def read(self, path: str) -> Source:
        source = Source(f"{self.root}/{path}", path.endswith(".gz"))
        self._like = self._like or source.status
        return source

    def was_read(self, path: str, source: Source) -> None:
        digest = file_hash(source.path) if path.endswith(".gz") else source.content
        self.sources.append(Gone(path, source.identity, digest))
        self.contents[path] = source.content

    def write(self, path: str, data: bytes) -> None:
        output = self._open.get(path)
        if output is None:
            output = self._outputs.get(path) or self.begin(path)
            if len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).pause()
            self._open[path] = output
        output.write(data)

    def begin(self, path: str) -> Output:
        output = self._outputs[path] = self.output(PurePosixPath(path).name, path)
        return output

    def output(self, name: str, path: str) -> Output:
        """A file beside ``path`` that is like it, under a name of ours."""
        if self._like is None:
            raise ValueError(f"{path} is like nothing that was read")
        return Output(str(Path(self.root, path).with_name(f"{NEW}{name}")), path.endswith(".gz"), self._like)

    def adopt(self, path: str, output: Output) -> None:
        self._outputs[path] = output

    def hold(self, path: str, day: int, resolution: int, lines: int, first: int, last: int) -> None:
        """Notes what was written to a journal: lines of that day and resolution, between these times."""
        known = self._held.get(path)
        if known:
            lines, first, last = known[1] + lines, min(known[2], first), max(known[3], last)
        self._held[path] = ((day, resolution), lines, first, last)

    def facts(self) -> dict[str, Facts]:
        found = {}
        for path, (key, lines, first, last) in self._held.items():
            output = self._outputs[path]
            found[path] = Facts({key: lines}, 0, first, last, output.content, output.bytes)
        return found

    def finish(self) -> list[Rename]:
        renames = []
        for path, output in sorted(self._outputs.items()):
            digest = output.finish()
            made = Path(output.path)
            renames.append(Rename(str(made.relative_to(self.root)), path, made.stat().st_size, digest))
        return renames

    def discard(self) -> None:
        for output in self._outputs.values():
            output.discard()


def _compress(step: Step, outputs: _Outputs) -> Counts:
    (path,) = step.sources
    counts = Counts()
    with outputs.read(path) as source:
        # Also what holds nothing has a compressed form.
        outputs.begin(step.target)
        for block in source.blocks():
            outputs.write(step.target, block.lines)
            counts.read += block.lines.count(b"\n")
    counts.carried = counts.read
    outputs.was_read(path, source)
    return counts


def _compare(step: Step, outputs: _Outputs) -> Counts:
    """Reads a file and the one that holds the same lines once more, before one of them goes."""
    contents = set()
    for path in (*step.sources, step.twin):
        with outputs.read(path) as source:
            for _block in source.blocks():
                pass
        contents.add(source.content)
        if path != step.twin:
            outputs.was_read(path, source)
    if len(contents) > 1:
        raise Damaged(f"it and {step.twin} are not the same any more")
    return Counts()


def _merge(step: Step, outputs: _Outputs) -> Counts:
    runs = _Runs(step, outputs)
    try:
        merger = _Merger(step, outputs, runs)
        for path in step.sources:
            merger.start(read_name(PurePosixPath(path).name).resolution or DEFAULT_INTERVAL)
            with outputs.read(path) as source:
                for block in source.blocks():
                    merger.feed(block)
            merger.end()
            outputs.was_read(path, source)
        if step.target:
            merger.flush(keep=0)
            runs.finish()
            merger.counts.written = runs.lines
        return merger.counts
    finally:
        runs.discard()


_MAKERS: dict[str, t.Callable[[Step, _Outputs], Counts]] = {COMPRESS: _compress, DROP: _compare}


def _lists() -> dict[bytes, list[Match]]:
    return collections.defaultdict(list)


class _Merger(LineReader):
    def __init__(self, step: Step, outputs: _Outputs, runs: _Runs) -> None:
        super().__init__(DEFAULT_INTERVAL)
        self.step = step
        self.outputs = outputs
        self.runs = runs
        self.counts = Counts()
        self.bucket = (step.resolution or 0) * 10**9
        self.partials: dict[int, _Bucket] = collections.defaultdict(dict)
        self._count = 0
        self._is_open_ended = False
        # Of this block, by bucket and text; and whether its times only grow.
        self._groups: dict[int, dict[bytes, list[Match]]] = collections.defaultdict(_lists)
        self._is_in_order = True
        self._time = 0

    def regular(self, time: int, matches: list[Match], form: Form) -> None:
        self.counts.read += len(matches)
        known = self.known
        limit = self.step.resolution
        if time // DAY_NS != self.step.day:
            self._carry_matches(time, matches, form)
            return
        if limit is None:
            self.counts.expired += len(matches)
            return
        if max(self.intervals) > limit:
            self._carry_matches(time, [match for match in matches if known[match[1]].interval > limit], form)
            matches = [match for match in matches if known[match[1]].interval <= limit]
        self._is_in_order = self._is_in_order and time >= self._time
        self._time = time
        groups = self._groups[time - time % self.bucket]
        for match in matches:
            groups[match[1]].append(match)

    def single(self, line: bytes, record: Record) -> None:
        self.counts.read += 1
        interval = record.interval or self.interval
        if record.time // DAY_NS != self.step.day or interval > (self.step.resolution or interval):
            self._carry(record.time, interval, line if line.endswith(b"\n") else line + b"\n")
        elif self.step.resolution is None:
            self.counts.expired += 1
        else:
            self._dropped(record.unknown, 1)
            self.counts.merged += 1
            self._partial(record.time - record.time % self.bucket, record.series).merge(record.partial)

    def reject(self, lines: bytes, reason: str, goes_on: bool) -> None:
        if not self.step.rejected:
            raise Damaged("it is not what it was when it was looked at")
        self.outputs.write(self.step.rejected, lines)
        self._is_open_ended = not lines.endswith(b"\n")
        if not goes_on:
            self.counts.read += 1
            self.counts.rejected[reason] = self.counts.rejected.get(reason, 0) + 1

    def end(self) -> None:
        """What was rejected without a line break, at the end of a file, gets one: the next file begins a line."""
        if self._is_open_ended:
            self.outputs.write(self.step.rejected, b"\n")
            self._is_open_ended = False

    def end_of_block(self) -> None:
        merged = 0
        for start, groups in self._groups.items():
            for text, matches in groups.items():
                known = self.known[text]
                values = [float(match[2]) for match in matches]
                partial = self._partial(start, known.series)
                if known.series.metric_type == "counter":
                    partial.count_values(values)
                else:
                    partial.take(values, *self._newest(matches, values))
                merged += len(values)
                if known.unknown:
                    self._dropped(known.unknown, len(values))
        self.counts.merged += merged
        self._groups.clear()
        self._is_in_order, self._time = True, 0
        if self._count > MOST_PARTIALS and len(self.partials) > 1:
            self.flush(keep=1)

    def flush(self, keep: int) -> None:
        """Writes all buckets but the newest."""
        starts = sorted(self.partials)
        self.runs.write((start, self.partials.pop(start)) for start in starts[: len(starts) - keep])
        self._count = sum(map(len, self.partials.values()))

    def _newest(self, matches: list[Match], values: list[float]) -> tuple[int, float]:
        """Time and value; of equal times the larger value."""
        newest = matches[-1][0]
        if self._is_in_order and (len(matches) == 1 or matches[-2][0] != newest):
            return int(newest), values[-1]
        return max((int(match[0]), value) for match, value in zip(matches, values))

    def _partial(self, start: int, series: Series) -> Partial:
        bucket = self.partials[start]
        found = bucket.get(series.text)
        if found is None:
            found = bucket[series.text] = (series, Partial())
            self._count += 1
        return found[1]

    def _carry_matches(self, time: int, matches: list[Match], form: Form) -> None:
        for interval, run in itertools.groupby(matches, lambda match: self.known[match[1]].interval):
            lines = [form.raw(match) for match in run]
            self._carry(time, interval, b"".join(lines), len(lines))

    def _carry(self, time: int, interval: int, lines: bytes, count: int = 1) -> None:
        day = time // DAY_NS
        path = self.step.carried.get((day, interval))
        if path is None:
            raise Damaged("it is not what it was when it was looked at")
        self.counts.carried += count
        self.outputs.write(path, lines)
        self.outputs.hold(path, day, interval, count, time, time)

    def _dropped(self, unknown: t.Iterable[str], lines: int) -> None:
        for key in unknown:
            self.counts.unknown[key] = self.counts.unknown.get(key, 0) + lines


class _Runs:
    """Rolled-up lines in order of time and series: one run as long as nothing comes late."""

    def __init__(self, step: Step, outputs: _Outputs) -> None:
        self._step = step
        self._outputs = outputs
        self.lines = 0
        self._first = self._last = 0
        self._until = -1
        self._made = 0
        self._runs: list[Output] = []

    def write(self, buckets: t.Iterable[tuple[int, _Bucket]]) -> None:
        for start, partials in buckets:
            if start <= self._until or not self._runs:
                self._begin()
            self._until = start
            self._write([(start, *partials[text]) for text in sorted(partials)])

    def finish(self) -> None:
        """Gives the target what it holds."""
        while len(self._runs) > 1:
            first, self._runs = self._runs[:MOST_OPEN], self._runs[MOST_OPEN:]
            self._merge(first)
        if not self._runs:
            self._begin()
        step = self._step
        self._outputs.adopt(step.target, self._runs.pop())
        if self.lines:
            self._outputs.hold(step.target, step.day or 0, step.resolution or 0, self.lines, self._first, self._last)

    def discard(self) -> None:
        for run in self._runs:
            run.discard()

    def _begin(self) -> None:
        if self._runs:
            self._runs[-1].pause()
        # Each under a name of its own; the last one that is begun becomes the target.
        self._made += 1
        self.lines = 0
        self._runs.append(
            self._outputs.output(f"{self._made}.{PurePosixPath(self._step.target).name}", self._step.target)
        )

    def _write(self, lines: list[tuple[int, Series, Partial]]) -> None:
        interval = self._step.resolution or 0
        text = "".join(render(series, start, interval, partial) for start, series, partial in lines)
        self._runs[-1].write(text.encode())
        if not self.lines:
            self._first = lines[0][0]
        self._last = lines[-1][0]
        self.lines += len(lines)

    def _merge(self, runs: list[Output]) -> None:
        """Makes one run of several, the last one of all."""
        try:
            self._begin()
            runs[-1].pause()
            with contextlib.ExitStack() as stack:
                sources = [stack.enter_context(Source(run.path, run.compressed)) for run in runs]
                records = heapq.merge(*(_records(source, BLOCK // len(sources)) for source in sources), key=_place)
                for (start, _text), same in itertools.groupby(records, _place):
                    partial = Partial()
                    for record in same:
                        partial.merge(record.partial)
                        series = record.series
                    self._write([(start, series, partial)])
        finally:
            for run in runs:
                run.discard()


def _place(record: Record) -> tuple[int, str]:
    return record.time, record.series.text


def _records(source: Source, size: int) -> t.Iterator[Record]:
    for block in source.blocks(size):
        yield from map(read, block.lines.splitlines())
