# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""The lines of a journal, whole blocks at a time where they are as the aggregator writes them.

What is regular is found by a regular expression; the text between time and value is parsed once, since it comes again
every minute, and a line is regular only if that text and the two numbers make one JSON object of a metric. Everything
else is parsed line by line, with the same result: :func:`.record.read` is the rule.
"""

from __future__ import annotations

import itertools
import operator
import re
import typing as t

from .record import Record, Rejected, Series, parse, read, read_interval, read_partial, read_series, unknown_keys
from .stream import Block

# A text that is not seen again must not be kept for ever.
MOST_KNOWN, MOST_KNOWN_BYTES = 100_000, 16 * 1024 * 1024
_LINES = re.compile(rb"[^\n]*\n|[^\n]+")
_TIME, _TEXT = operator.itemgetter(0), operator.itemgetter(1)
# Not every time and not every number of JSON: the largest are left to the rule.
_TIME_NS = rb"([1-8]\d{18})"
_NUMBER = rb"-?(?:0|[1-9]\d{0,16})(?:\.\d{1,40})?(?:[eE][-+]?\d{1,2})?"

_FIGURES = frozenset(
    ["timestamp_ns", "value", "count", "sum", "min", "max", "last", "last_timestamp_ns", "observations", "sketch"]
) | {"relative_error"}
_FIGURES_LAST = re.compile(rb'\{"timestamp_ns": %b, ([^\n]*?), ("(?:count|observations)": [^\n]*)\n?' % _TIME_NS)
_NUMBERS = re.compile(rb"%b(?:\n%b)*" % (_NUMBER, _NUMBER))
_TIME_DIGITS = 19

# (time, text between, value), as bytes.
Match = t.Tuple[bytes, bytes, bytes]


class Form(t.NamedTuple):
    """How a line is written: its parts around time, text and value.

    :param stamp: is a time with the comma after it.
    :param mixed: finds (time, text, value, "") of each regular line, and ("", "", "", line) of every other.
    """

    start: bytes
    comma: bytes
    value: bytes
    stamp: re.Pattern[bytes]
    mixed: re.Pattern[bytes]

    def split(self, lines: bytes) -> list[Match] | None:
        """All lines, where all are regular; what ``mixed`` says of them, in half the time."""
        count = lines.count(b"\n")
        if lines.count(b"\n" + self.start) != count - 1 or lines.count(b"}\n") != count or not lines.endswith(b"\n"):
            return None
        begin = len(self.start)
        time, text = begin + _TIME_DIGITS, begin + _TIME_DIGITS + len(self.comma)
        parts = [line.rpartition(self.value) for line in lines[:-2].split(b"}\n")]
        stamps = {head[begin:text] for head, _value, _number in parts}
        numbers = b"\n".join([number for _head, _value, number in parts])
        if not _NUMBERS.fullmatch(numbers) or not all(map(self.stamp.fullmatch, stamps)):
            return None
        return [(head[begin:time], head[text:], number) for head, _value, number in parts]

    def raw(self, match: Match) -> bytes:
        return b"".join((self.start, match[0], self.comma, match[1], self.value, match[2], b"}\n"))


class Known(t.NamedTuple):
    """What the text between says."""

    series: Series
    interval: int
    unknown: frozenset[str]


def _form(space: bytes) -> Form:
    start, comma, value = (part.replace(b" ", space) for part in (b'{"timestamp_ns": ', b", ", b', "value": '))
    line = rb"%b%b%b([^\n]*)%b(%b)\}" % (re.escape(start), _TIME_NS, comma, re.escape(value), _NUMBER)
    mixed = re.compile(rb"^(?:%b|([^\n]+))$" % line, re.MULTILINE)
    return Form(start, comma, value, re.compile(_TIME_NS + comma), mixed)


FORMS = (_form(b" "), _form(b""))


class LineReader:
    """Takes blocks, and hands on what they hold: lines of one time, single records, and what is no record.

    :param interval: seconds that a line stands for which does not say so itself.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.known: dict[bytes, Known] = {}
        # Those of the regular lines of this block.
        self.intervals: set[int] = set()
        self._odd: set[bytes] = set()
        self._known_bytes = 0
        self._is_in_long_line = False

    def start(self, interval: int) -> None:
        """Begins another file; what a text means depends on the interval where it says none."""
        self._is_in_long_line = False
        if interval != self.interval:
            self.interval = interval
            self._forget()

    def regular(self, time: int, matches: list[Match], form: Form) -> None:
        """Lines of one time; the text of each is in ``known``, and its interval in ``intervals``."""
        raise NotImplementedError

    def single(self, line: bytes, record: Record) -> None:
        raise NotImplementedError

    def reject(self, lines: bytes, reason: str, goes_on: bool) -> None:
        """A line, with its line break unless it is the file's last. One that is too long comes in parts.

        :param goes_on: whether it is such a part, and not the first.
        """
        raise NotImplementedError

    def end_of_block(self) -> None:
        """What was handed on since the last one may be let go."""

    def feed(self, block: Block) -> None:
        if len(self.known) + len(self._odd) > MOST_KNOWN or self._known_bytes > MOST_KNOWN_BYTES:
            self._forget()
        if not block.parsable:
            self.reject(block.lines, "a line that is too long", self._is_in_long_line)
            self._is_in_long_line = not block.lines.endswith(b"\n")
            return
        form = next((form for form in FORMS if block.lines.startswith(form.start)), None)
        if form is None:
            self._single_lines(_LINES.findall(block.lines))
        else:
            self._matched(block.lines, form)
        self.end_of_block()

    def _forget(self) -> None:
        self.known.clear()
        self._odd.clear()
        self._known_bytes = 0

    def _matched(self, lines: bytes, form: Form) -> None:
        matches = form.split(lines)
        if matches is None:
            found = form.mixed.findall(lines)
            matches = [match[:3] for match in found if not match[3]]
            odd = [match[3] + b"\n" for match in found if match[3]]
            if odd and not lines.endswith(b"\n") and found[-1][3]:
                odd[-1] = odd[-1][:-1]
            self._single_lines(odd)
        texts = set(map(_TEXT, matches))
        irregular = {text for text in texts if not self._is_regular(text)}
        if irregular:
            self._single_lines([form.raw(match) for match in matches if match[1] in irregular])
            matches = [match for match in matches if match[1] not in irregular]
        self.intervals = {self.known[text].interval for text in texts - irregular}
        for time, run in itertools.groupby(matches, _TIME):
            self.regular(int(time), list(run), form)

    def _is_regular(self, text: bytes) -> bool:
        known = self._learn(text)
        return known is not None and known.series.is_counted

    def _learn(self, text: bytes) -> Known | None:
        """None where a line with this text needs to be read as a whole."""
        known = self.known.get(text)
        if known is None and text not in self._odd:
            self._known_bytes += len(text)
            known = self._read_text(text)
            if known is None:
                self._odd.add(text)
            else:
                self.known[text] = known
        return known

    def _read_text(self, text: bytes) -> Known | None:
        try:
            values = parse(b"{%b}" % text)
            if not _FIGURES.isdisjoint(values):
                return None
            return Known(read_series(values), read_interval(values) or self.interval, unknown_keys(values))
        except Rejected:
            return None

    def _single_lines(self, lines: t.Iterable[bytes]) -> None:
        for line in lines:
            if not line.strip(b"\r\n"):
                continue
            try:
                record = self._read_figures(line) or read(line)
            except Rejected as error:
                self.reject(line, str(error), goes_on=False)
            else:
                self.single(line, record)

    def _read_figures(self, line: bytes) -> Record | None:
        """A line whose figures come last, as those of a roll-up do: what comes before them is known already."""
        found = _FIGURES_LAST.fullmatch(line)
        known = self._learn(found[2]) if found else None
        if found is None or known is None:
            return None
        figures = parse(b"{%b" % found[3])
        if not figures.keys() <= _FIGURES or "timestamp_ns" in figures:
            return None
        time = int(found[1])
        return Record(known.series, time, known.interval, read_partial(figures, known.series, time), known.unknown)
