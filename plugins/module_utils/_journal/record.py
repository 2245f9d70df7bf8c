# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The arithmetic of a roll-up: what a line says, what several lines of one series and bucket say together.

A series is name, type and the *set* of labels, values as strings. In a bucket a counter is the sum of its increments;
a gauge its mean, with ``count``, ``sum``, ``min``, ``max``, ``last`` and ``last_timestamp_ns`` beside it, so that the
mean stays exact over several roll-ups; histogram and summary are a sketch with ``count`` and ``sum``. A line without
``count`` counts once.

Counts are exact. A sum is rounded once for each roll-up that it went through (:func:`math.fsum`), so for each of them
it differs from the exact one by at most 2^-52 of the sum of the magnitudes.
"""

from __future__ import annotations

import json
import math
import typing as t

from .format import METRIC_TYPES, NAME_KEYS
from .sketch import Sketch

# The sum of 2^53 values up to here is a float still, and so is that of any number of lines that say so.
LARGEST = 1e270
MOST_COUNTED = 2**53
# A century of seconds: it becomes a part of a name.
LONGEST_INTERVAL = 36500 * 86400
# So many addends are kept before they become two.
_ADDENDS = 256
_KEYS = frozenset(
    [*NAME_KEYS, "metric_type", "labels", "timestamp_ns", "interval_seconds", "value", "count", "sum", "min", "max"]
) | {"last", "last_timestamp_ns", "observations", "sketch", "relative_error"}


class Rejected(ValueError):
    """Why a line is no record of a metric, a clause that does not quote it."""


class Series(t.NamedTuple):
    """
    :param text: name, type and labels as they stand in a line, labels in order: equal for the same series only.
    """

    text: str
    metric_type: str

    @property
    def is_counted(self) -> bool:
        """Whether values of it are added up; a sketch is made of the others."""
        return self.metric_type in ("counter", "gauge")


class Record(t.NamedTuple):
    """
    :param time: nanoseconds since the epoch.
    :param interval: seconds that it stands for; None where it does not say.
    :param unknown: keys that a roll-up drops.
    """

    series: Series
    time: int
    interval: int | None
    partial: Partial
    unknown: frozenset[str]


class Partial:
    """What is known of one series in one bucket so far."""

    __slots__ = ("count", "high", "last", "last_time", "low", "sketch", "sums")

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[float] = []
        self.low = math.inf
        self.high = -math.inf
        self.last_time = -1
        self.last = 0.0
        self.sketch: Sketch | None = None

    def count_values(self, values: list[float]) -> None:
        """Values that count once each, of a counter: their order and their extent do not matter."""
        self.count += len(values)
        self._add(values)

    def take(self, values: list[float], time: int, last: float) -> None:
        """Values that count once each, the newest of them at ``time``; of equal times the larger is the newest."""
        self.count_values(values)
        low, high = min(values), max(values)
        if low < self.low:
            self.low = low
        if high > self.high:
            self.high = high
        if time > self.last_time or (time == self.last_time and last > self.last):
            self.last_time, self.last = time, last

    def merge(self, other: Partial) -> None:
        self.count += other.count
        self._add(other.sums)
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        if (other.last_time, other.last) > (self.last_time, self.last):
            self.last_time, self.last = other.last_time, other.last
        if other.sketch is not None:
            if self.sketch is None:
                self.sketch = Sketch()
            self.sketch.merge(other.sketch)

    @property
    def sum(self) -> float:
        return math.fsum(self.sums)

    def _add(self, values: list[float]) -> None:
        self.sums += values
        if len(self.sums) > _ADDENDS:
            total = math.fsum(self.sums)
            # With what the rounding took, so that a sum of many is as good as one of few.
            self.sums = [total, math.fsum([*self.sums, -total])]


def render(series: Series, start: int, interval: int, partial: Partial) -> str:
    """The line of a bucket, with its line break.

    :param start: of the bucket, nanoseconds since the epoch.
    :param interval: its length in seconds.
    """
    head = f'{{"timestamp_ns": {start}, {series.text}, "interval_seconds": {interval}'
    total = partial.sum
    if series.metric_type == "counter":
        return f'{head}, "count": {partial.count}, "value": {total!r}}}\n'
    extent = f'{head}, "count": {partial.count}, "sum": {total!r}, "min": {partial.low!r}, "max": {partial.high!r}'
    if partial.sketch is None:
        mean = min(max(total / partial.count, partial.low), partial.high)
        last = f'"last": {partial.last!r}, "last_timestamp_ns": {partial.last_time}'
        return f'{extent}, {last}, "value": {mean!r}}}\n'
    sketch = json.dumps(partial.sketch.as_json())
    return f'{extent}, "sketch": {sketch}, "relative_error": {partial.sketch.relative_error:.6g}}}\n'


def read(line: bytes) -> Record:
    """
    :raises Rejected: where it is no record of a metric.
    """
    values = parse(line)
    series = read_series(values)
    time = read_time(values.get("timestamp_ns"))
    return Record(series, time, read_interval(values), read_partial(values, series, time), unknown_keys(values))


def parse(text: bytes) -> dict[str, t.Any]:
    """The object in a text, each key once.

    :raises Rejected: where there is none, or a number of it is none (NaN, Infinity).
    """
    try:
        values = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except Rejected:
        raise
    except UnicodeDecodeError as error:
        raise Rejected("no UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise Rejected("no JSON") from error
    if not isinstance(values, dict):
        raise Rejected("no JSON object")
    return values


def read_series(values: dict[str, t.Any]) -> Series:
    """
    :raises Rejected: where these are not name, type and labels of one series.
    """
    names = {values[key] for key in NAME_KEYS if isinstance(values.get(key), str)}
    if len(names) != 1 or "" in names or any(key in values and values[key] not in names for key in NAME_KEYS):
        raise Rejected("no name of a metric, or two")
    metric_type = values.get("metric_type", "gauge")
    if metric_type not in METRIC_TYPES:
        raise Rejected("no type of a metric")
    labels = values.get("labels")
    labels = {} if labels is None else labels
    if not isinstance(labels, dict):
        raise Rejected("labels that are no object")
    texts = json.dumps({key: _label(value) for key, value in sorted(labels.items())})
    name = json.dumps(names.pop())
    return Series(f'"metric_name": {name}, "metric_type": "{metric_type}", "labels": {texts}', metric_type)


def read_time(value: t.Any) -> int:
    """
    :raises Rejected: where it is no time in nanoseconds.
    """
    # Through a float its last digits would be lost.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Rejected("no time in nanoseconds")
    return value


def read_interval(values: dict[str, t.Any]) -> int | None:
    """
    :raises Rejected: where it is there, and no whole number of seconds.
    """
    value = values.get("interval_seconds")
    if value is None:
        return None
    if not _is_number(value) or not 1 <= value <= LONGEST_INTERVAL or value % 1:
        raise Rejected("an interval that is no whole number of seconds")
    return int(value)


def read_partial(values: dict[str, t.Any], series: Series, time: int) -> Partial:
    """
    :raises Rejected: where these are not the figures of such a series.
    """
    return _counted(values, series.metric_type, time) if series.is_counted else _sketched(values)


def unknown_keys(values: t.Iterable[str]) -> frozenset[str]:
    return frozenset(values) - _KEYS


def _counted(values: dict[str, t.Any], metric_type: str, time: int) -> Partial:
    """Where the sum is missing it is the value, of a counter, or the value so many times, of a gauge."""
    partial = Partial()
    partial.count = _count(values)
    times = 1 if metric_type == "counter" else partial.count
    if "value" in values or "sum" not in values:
        value = _number(values, "value", most=partial.count)
        total = _number(values, "sum", value * times, most=partial.count)
    else:
        total = _number(values, "sum", most=partial.count)
        value = total / times
    partial.sums = [total]
    extent = (_number(values, key, value, most=partial.count) for key in ("min", "max", "last"))
    partial.low, partial.high, partial.last = extent
    partial.last_time = read_time(values.get("last_timestamp_ns", time))
    return partial


def _sketched(values: dict[str, t.Any]) -> Partial:
    partial = Partial()
    sketch = Sketch()
    if "sketch" in values:
        try:
            sketch = Sketch.from_json(values["sketch"])
        except ValueError as error:
            raise Rejected("no sketch of a distribution") from error
        if not sketch.count or _count(values) != sketch.count:
            raise Rejected("a count that is not that of its sketch")
        partial.sums = [_number(values, "sum", most=sketch.count)]
        partial.low, partial.high = _number(values, "min"), _number(values, "max")
    else:
        # A line of one observation has it as its value.
        given = values["observations"] if "observations" in values else [values.get("value")]
        if not isinstance(given, list) or not given:
            raise Rejected("no observation")
        observations = [_as_number(value) for value in given]
        sketch.extend(observations)
        partial.sums = [math.fsum(observations)]
        partial.low, partial.high = min(observations), max(observations)
    partial.count, partial.sketch = sketch.count, sketch
    return partial


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Rejected("a key that stands twice")
    return values


def _no_number(_name: str) -> t.NoReturn:
    raise Rejected("a value that is no number")


def _count(values: dict[str, t.Any]) -> int:
    count = values.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_COUNTED:
        raise Rejected("a count that is none")
    return count


def _number(values: dict[str, t.Any], key: str, default: float | None = None, most: int = 1) -> float:
    return _as_number(values.get(key, default), most)


def _as_number(value: t.Any, most: int = 1) -> float:
    """:param most: of so many values it may be the sum."""
    if not _is_number(value):
        raise Rejected("a value that is no number")
    try:
        number = float(value)
    except OverflowError as error:
        raise Rejected("a value beyond what is added up") from error
    if not abs(number) <= LARGEST * most:
        raise Rejected("a value beyond what is added up")
    return number


def _is_number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _label(value: t.Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    raise Rejected("a label that is no text")
