# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What journals count and sum up to, per series and UTC day, in figures that do not grow with the number of series.

Each series has a number of its own, made of its name, type and labels. ``by_series`` adds up, modulo a prime, the
counts of a day, each times the number of its series, and the same of its values. Two journals in which any series has
another count or another sum agree in both by a chance of 2^-61 each; the order of lines and files does not matter, nor
how often a file is cut in two. The sum over all series beside them is exact, and rounded once when it is written.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
import operator
import typing as t

from .._journal.files import DEFAULT_INTERVAL, File
from .._journal.format import DAY_NS, resolution_name
from .._journal.lines import MOST_KNOWN, Form, LineReader, Match
from .._journal.record import Record, Series
from .._journal.stream import Source

# Python's hash of a number is that number modulo this prime, wherever a word has 64 bits, and at the speed of C.
_PRIME = 2**61 - 1
# So many values wait to be added up.
_WAITING = 8192
_TEXT, _VALUE = operator.itemgetter(1), operator.itemgetter(2)

# As JSON has them: by day and resolution, such as ``2025-10-01 1m``; and by what is no such journal a number of files.
Figures = t.Dict[str, t.Any]


class Day:
    """What a journal holds of one UTC day in one resolution.

    :param lines: ``count`` of them is how many observations they stand for.
    """

    __slots__ = ("_waiting", "count", "count_by_series", "lines", "parts", "sum_by_series")

    def __init__(
        self, lines: int = 0, count: int = 0, parts: t.Iterable[float] = (), counts: int = 0, sums: int = 0
    ) -> None:
        self.lines = lines
        self.count = count
        # Their sum is that of all values, exactly.
        self.parts = list(parts)
        self.count_by_series = counts
        self.sum_by_series = sums
        self._waiting: list[float] = []

    def take(self, numbers: list[int], values: list[float]) -> None:
        """Lines that count once each. :param numbers: of their series."""
        self.lines += len(values)
        self.count += len(values)
        self.count_by_series = (self.count_by_series + sum(numbers)) % _PRIME
        weighted = sum(map(operator.mul, numbers, _modulo(values)))
        self.sum_by_series = (self.sum_by_series + weighted) % _PRIME
        self._add(values)

    def take_one(self, number: int, count: int, sums: list[float]) -> None:
        self.lines += 1
        self.count += count
        self.count_by_series = (self.count_by_series + number * count) % _PRIME
        self.sum_by_series = (self.sum_by_series + number * sum(_modulo(sums))) % _PRIME
        self._add(sums)

    def merge(self, other: Day) -> None:
        self.lines += other.lines
        self.count += other.count
        self.count_by_series = (self.count_by_series + other.count_by_series) % _PRIME
        self.sum_by_series = (self.sum_by_series + other.sum_by_series) % _PRIME
        self._add(other.row()[2])

    def row(self) -> tuple[int, int, list[float], int, int]:
        """What it is made of again."""
        self._settle()
        return self.lines, self.count, self.parts, self.count_by_series, self.sum_by_series

    def figures(self) -> dict[str, t.Any]:
        """In plain JSON types."""
        self._settle()
        return {
            "lines": self.lines,
            "count": self.count,
            # As text: not every reader of JSON keeps each digit.
            "sum": repr(math.fsum(self.parts)),
            "by_series": f"{self.count_by_series:016x}{self.sum_by_series:016x}",
        }

    def _add(self, values: list[float]) -> None:
        self._waiting += values
        if len(self._waiting) > _WAITING:
            self._settle()

    def _settle(self) -> None:
        if self._waiting:
            self.parts = _exactly([*self.parts, *self._waiting])
            self._waiting = []


@dataclasses.dataclass
class Journal:
    """What a journal of metrics holds.

    :param days: by UTC day, in days since the epoch, and resolution in seconds.
    :param first: time of its oldest record, ``last`` of its newest, nanoseconds since the epoch; 0 where it has none.
    """

    days: dict[tuple[int, int], Day]
    rejected: int
    first: int
    last: int

    def row(self) -> list[t.Any]:
        """In plain JSON types."""
        days = [[*key, *day.row()] for key, day in sorted(self.days.items())]
        return [self.rejected, self.first, self.last, days]

    @classmethod
    def of(cls, row: list[t.Any]) -> Journal:
        rejected, first, last, days = row
        return cls({(day, interval): Day(*rest) for day, interval, *rest in days}, rejected, first, last)


def read(file: File, start: int = 0) -> Journal:
    """
    :param start: so many bytes of its lines are passed over.
    :raises Damaged: where it cannot be read to its end.
    :raises OSError: where it cannot be read.
    """
    reader = _Reader(file.name.resolution or DEFAULT_INTERVAL)
    with Source(file.at, file.name.compressed) as source:
        for block in source.blocks():
            if start < len(block.lines):
                reader.feed(block._replace(lines=block.lines[start:]) if start else block)
            start = max(0, start - len(block.lines))
    return Journal(reader.days, reader.rejected, reader.first or 0, reader.last)


def of_journals(journals: t.Iterable[Journal]) -> Figures:
    """Figures of several journals together."""
    days: dict[tuple[int, int], Day] = {}
    rejected = 0
    for journal in journals:
        rejected += journal.rejected
        for key, day in journal.days.items():
            days.setdefault(key, Day()).merge(day)
    found: Figures = {"rejected lines": rejected} if rejected else {}
    for (day_number, interval), day in sorted(days.items()):
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day_number)
        found[f"{date} {resolution_name(interval)}"] = day.figures()
    return found


def difference(expected: Figures, found: Figures) -> str:
    """The first one of them and how many there are, a clause; empty where they are equal.

    :param expected: may be of a time when lines were all that was counted.
    """
    wrong = [key for key in sorted({*expected, *found}) if not _is_equal(expected.get(key), found.get(key))]
    if not wrong:
        return ""
    key = wrong[0]
    return f"{len(wrong)} figures differ, such as {key}: {_shown(expected.get(key))} then, {_shown(found.get(key))} now"


def _is_equal(expected: t.Any, found: t.Any) -> bool:
    if isinstance(expected, int) and isinstance(found, dict):
        return bool(expected == found["lines"])
    return bool(expected == found)


def _shown(figure: t.Any) -> str:
    if isinstance(figure, dict):
        return "{count} in {lines} lines, sum {sum} (by series {by_series})".format_map(figure)
    return "nothing" if figure is None else str(figure)


class _Reader(LineReader):
    def __init__(self, interval: int) -> None:
        super().__init__(interval)
        self.days: dict[tuple[int, int], Day] = {}
        self.rejected = self.last = 0
        self.first: int | None = None
        self._numbers: dict[bytes, int] = {}
        self._of_series: dict[str, int] = {}

    def regular(self, time: int, matches: list[Match], form: Form) -> None:
        self._extend(time)
        day = time // DAY_NS
        if len(self.intervals) == 1:
            self._take(day, next(iter(self.intervals)), matches)
            return
        by_interval: dict[int, list[Match]] = {}
        for match in matches:
            by_interval.setdefault(self.known[match[1]].interval, []).append(match)
        for interval, those in by_interval.items():
            self._take(day, interval, those)

    def single(self, line: bytes, record: Record) -> None:
        self._extend(record.time)
        day = self._day(record.time // DAY_NS, record.interval or self.interval)
        day.take_one(self._of(record.series), record.partial.count, record.partial.sums)

    def reject(self, lines: bytes, reason: str, goes_on: bool) -> None:
        self.rejected += not goes_on

    def _take(self, day: int, interval: int, matches: list[Match]) -> None:
        numbers = self._numbers
        try:
            mine = [numbers[match[1]] for match in matches]
        except KeyError:
            if len(numbers) > MOST_KNOWN:
                numbers.clear()
            for text in map(_TEXT, matches):
                numbers[text] = self._of(self.known[text].series)
            mine = [numbers[match[1]] for match in matches]
        self._day(day, interval).take(mine, [*map(float, map(_VALUE, matches))])

    def _of(self, series: Series) -> int:
        number = self._of_series.get(series.text)
        if number is None:
            if len(self._of_series) > MOST_KNOWN:
                self._of_series.clear()
            digest = hashlib.blake2b(series.text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            number = self._of_series[series.text] = int.from_bytes(digest, "big") % _PRIME
        return number

    def _day(self, day: int, interval: int) -> Day:
        found = self.days.get((day, interval))
        if found is None:
            found = self.days[day, interval] = Day()
        return found

    def _extend(self, time: int) -> None:
        self.first = time if self.first is None else min(self.first, time)
        self.last = max(self.last, time)


def _modulo(values: list[float]) -> t.Iterable[int]:
    # The one number whose hash is not its own.
    return [-1 if value == -1 else hash(value) for value in values] if -1.0 in values else map(hash, values)


def _exactly(values: list[float]) -> list[float]:
    """A few numbers with exactly the same sum."""
    parts: list[float] = []
    while True:
        rest = math.fsum([*values, *(-part for part in parts)])
        if not rest:
            return parts
        parts.append(rest)
