# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Many values in a few counts: a sketch of exponential buckets that merges without loss of order.

As in OpenTelemetry's exponential histograms, at scale s the bases are 2^(2^-s), and bucket i holds the values from
base^i, exclusive, to base^(i+1). See https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
"""

from __future__ import annotations

import bisect
import math
import typing as t

START_SCALE = 7
LEAST_SCALE = -10
MOST_BUCKETS = 320

_PER_DOUBLING = 1 << START_SCALE
_SMALLEST = 5e-324
# The indexes of the smallest and the largest float at START_SCALE.
_LOWEST, _HIGHEST = -1074 * _PER_DOUBLING - 1, 1024 * _PER_DOUBLING - 1
_KEYS = ("scale", "zero", "positive", "negative")


def _bounds() -> list[float]:
    """The lower bounds of the buckets from 0.5 to 1, rounded down to a float.

    By whole numbers: the same on every host, and a float there is above its bound exactly where it is above this.
    """
    roots = [1 << (step + 52 * _PER_DOUBLING) for step in range(_PER_DOUBLING)]
    for _halving in range(START_SCALE):
        roots = [math.isqrt(root) for root in roots]
    return [math.ldexp(root, -53) for root in roots]


_BOUNDS = _bounds()


class Sketch:
    """
    The scale depends only on the set of values. Where a part of them needs a coarser one all of them do, because a
    coarser scale, or fewer values, never has more buckets; and an index at :data:`START_SCALE` shifted is the index
    at the coarser scale. So neither the order of values nor the grouping of merges matters.

    :ivar scale: from :data:`START_SCALE` down, as far as it takes to have no more than :data:`MOST_BUCKETS`.
    :ivar zero: how many values are 0.
    :ivar positive: counts by index.
    :ivar negative: the same, by the index of the absolute value.
    """

    __slots__ = ("negative", "positive", "scale", "zero")

    def __init__(self) -> None:
        self.scale: int = START_SCALE
        self.zero: int = 0
        self.positive: dict[int, int] = {}
        self.negative: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many values it holds, exactly."""
        return self.zero + sum(self.positive.values()) + sum(self.negative.values())

    @property
    def relative_error(self) -> float:
        """How far a quantile may be from the true one, as a share of it: (base - 1) / (base + 1)."""
        # The same, where the base itself is no float any more.
        return math.tanh(math.ldexp(math.log(2), -self.scale - 1))

    def add(self, value: float, count: int = 1) -> None:
        """
        :raises ValueError: for what is no finite number, and a count below 1; then nothing is added.
        """
        if not _is_count(count):
            raise ValueError(f"count {count!r} is none: a whole number from 1 would do")
        zero, positive, negative = _tally((value,))
        if count != 1:
            zero *= count
            positive, negative = dict.fromkeys(positive, count), dict.fromkeys(negative, count)
        self._take(START_SCALE, zero, positive, negative)

    def extend(self, values: t.Iterable[float]) -> None:
        """Adds many values, faster than one by one.

        :raises ValueError: where one of them is no finite number; then none is added.
        """
        self._take(START_SCALE, *_tally(values))

    def merge(self, other: Sketch) -> None:
        """Adds what another one holds, at the coarser scale of the two."""
        self._take(other.scale, other.zero, other.positive, other.negative)

    def quantile(self, q: float) -> float:
        """The value that ceil(q * count) of the values do not exceed, the least one for 0.

        It is off by :attr:`relative_error` at most, and by what rounding to a float adds, which is more only where
        the floats themselves are few, below 2.3e-308.

        :param q: from 0 to 1.
        :raises ValueError: for any other q, and where the sketch is empty.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q!r} is none: a number from 0 to 1 would do")
        count = self.count
        if not count:
            raise ValueError("a sketch without values has no quantile")
        rank = max(_rank(q, count), 1)
        for index in sorted(self.negative, reverse=True):
            rank -= self.negative[index]
            if rank <= 0:
                return -self._representative(index)
        rank -= self.zero
        if rank <= 0:
            return 0.0
        for index in sorted(self.positive):
            rank -= self.positive[index]
            if rank <= 0:
                return self._representative(index)
        raise AssertionError("a rank above the count")

    def as_json(self) -> dict[str, t.Any]:
        """``scale``, ``zero``, and ``positive`` and ``negative`` as lists of [index, count], by index."""
        return {
            "scale": self.scale,
            "zero": self.zero,
            "positive": [[index, self.positive[index]] for index in sorted(self.positive)],
            "negative": [[index, self.negative[index]] for index in sorted(self.negative)],
        }

    @classmethod
    def from_json(cls, value: t.Any) -> Sketch:
        """
        :param value: as :meth:`as_json` gives it; one of more buckets than we have goes to a coarser scale.
        :raises ValueError: for anything else.
        """
        if not isinstance(value, dict) or set(value) != set(_KEYS):
            raise ValueError(f"a sketch is no mapping with {', '.join(_KEYS)}")
        scale, zero = value["scale"], value["zero"]
        if not _is_int(scale) or not LEAST_SCALE <= scale <= START_SCALE:
            raise ValueError(f"the scale of a sketch is no whole number from {LEAST_SCALE} to {START_SCALE}")
        if not _is_int(zero) or zero < 0:
            raise ValueError("zero of a sketch is no whole number from 0")
        made = cls()
        made._take(scale, zero, _buckets(value, "positive", scale), _buckets(value, "negative", scale))
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _KEYS)

    def __repr__(self) -> str:
        return f"Sketch({self.as_json()!r})"

    def _take(self, scale: int, zero: int, positive: dict[int, int], negative: dict[int, int]) -> None:
        if scale < self.scale:
            self._coarsen(scale)
        shift = scale - self.scale
        self.zero += zero
        for mine, theirs in ((self.positive, positive), (self.negative, negative)):
            for index, count in theirs.items():
                mine[index >> shift] = mine.get(index >> shift, 0) + count
        while len(self.positive) + len(self.negative) > MOST_BUCKETS:
            self._coarsen(self.scale - 1)

    def _coarsen(self, scale: int) -> None:
        shift, self.scale = self.scale - scale, scale
        self.positive, self.negative = _shifted(self.positive, shift), _shifted(self.negative, shift)

    def _representative(self, index: int) -> float:
        """The value that is as far from the lower bound of a bucket as from the upper one, each as a share of it."""
        exponent, step = divmod(index << (START_SCALE - self.scale), _PER_DOUBLING)
        middle = math.ldexp(_BOUNDS[step] * (1 + self.relative_error), exponent + 1)
        # The lowest bucket of a scale begins below the smallest float.
        return max(middle, _SMALLEST)


def _tally(values: t.Iterable[float]) -> tuple[int, dict[int, int], dict[int, int]]:
    """Counts at :data:`START_SCALE`: of zeros, and of positive and negative values by index."""
    zero = 0
    positive: dict[int, int] = {}
    negative: dict[int, int] = {}
    frexp, place, bounds = math.frexp, bisect.bisect_left, _BOUNDS
    for value in values:
        mantissa, exponent = frexp(value if value.__class__ is float else _float(value))
        # frexp leaves NaN and infinities as they are: they are in none of these ranges.
        if 0.5 <= mantissa < 1:
            index = (exponent - 1) * _PER_DOUBLING + place(bounds, mantissa) - 1
            positive[index] = positive.get(index, 0) + 1
        elif -1 < mantissa <= -0.5:
            index = (exponent - 1) * _PER_DOUBLING + place(bounds, -mantissa) - 1
            negative[index] = negative.get(index, 0) + 1
        elif mantissa == 0:
            zero += 1
        else:
            raise ValueError(f"value {value!r} is no finite number")
    return zero, positive, negative


def _float(value: t.Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"a value is a {type(value).__name__}: a number would do")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a value is a whole number beyond the largest float") from None


def _shifted(buckets: dict[int, int], shift: int) -> dict[int, int]:
    made: dict[int, int] = {}
    for index, count in buckets.items():
        made[index >> shift] = made.get(index >> shift, 0) + count
    return made


def _rank(q: float, count: int) -> int:
    # A float holds no larger count exactly, and a very large one not at all.
    if count <= 2**53:
        return math.ceil(q * count)
    numerator, denominator = float(q).as_integer_ratio()
    return -(-numerator * count // denominator)


def _buckets(value: dict[str, t.Any], name: str, scale: int) -> dict[int, int]:
    shift = START_SCALE - scale
    made: dict[int, int] = {}
    rows = value[name]
    if not isinstance(rows, list):
        raise ValueError(f"{name} of a sketch is no list")
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not _is_int(row[0]) or not _is_count(row[1]):
            raise ValueError(f"{name} of a sketch holds what is no index with a count from 1")
        index, count = row
        if index in made:
            raise ValueError(f"{name} of a sketch holds an index twice")
        if not _LOWEST >> shift <= index <= _HIGHEST >> shift:
            raise ValueError(f"{name} of a sketch holds an index that no number has at its scale")
        made[index] = count
    return made


def _is_int(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: t.Any) -> bool:
    return _is_int(value) and value >= 1
