# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether a figure grows, told from points that jump: collectors of garbage make saw teeth, restarts begin anew.

The slope is that of Theil and Sen, the median over all pairs, and whether it is steady Kendall's share of pairs that
rise: single spikes change neither.
"""

from __future__ import annotations

import dataclasses
import statistics
import typing as t

Points = t.Sequence[t.Tuple[float, float]]

# The lowest point of each part is looked at, so that the teeth of a saw do not count.
PARTS = 24
LEAST = 8
# What a leak is: nearly every pair rises, by a share of what was there, and the second half goes on.
STEADY, GROWN, GOES_ON = 0.7, 0.1, 0.4


@dataclasses.dataclass(frozen=True)
class Trend:
    """
    :param seconds: that the points cover.
    :param slope: a second.
    :param steadiness: from -1, every pair falls, to 1, every pair rises.
    :param first, last: values at both ends, by the line.
    :param later_slope: of the second half alone.
    """

    seconds: float
    slope: float
    steadiness: float
    first: float
    last: float
    later_slope: float

    @property
    def growth(self) -> float:
        """As a share of the first value."""
        return (self.last - self.first) / self.first if self.first > 0 else 0.0

    @property
    def is_steady_growth(self) -> bool:
        return self.steadiness >= STEADY and self.growth >= GROWN and self.later_slope >= GOES_ON * self.slope > 0

    def until(self, limit: float) -> float | None:
        """Seconds until the limit is reached; None where it never is."""
        return max(limit - self.last, 0.0) / self.slope if self.slope > 0 else None


def lives(points: Points, starts: Points) -> list[list[tuple[float, float]]]:
    """The points of each life of a process, the oldest first.

    :param starts: at which time it was said to have started when.
    """
    begun = sorted({round(value) for _at, value in starts})
    # The same start may be told with another fraction.
    begun = [one for index, one in enumerate(begun) if not index or one - begun[index - 1] > 1]
    if not begun:
        return [list(points)] if points else []
    ends = [*begun[1:], float("inf")]
    found = [[point for point in points if start - 1 <= point[0] < end - 1] for start, end in zip(begun, ends)]
    return [life for life in found if life]


def trend(points: Points, shortest: float) -> Trend | None:
    """None where the points are too few, or cover less than ``shortest`` seconds. The first tenth is warming up."""
    if not points or points[-1][0] - points[0][0] < shortest:
        return None
    begins = points[0][0] + (points[-1][0] - points[0][0]) / 10
    low = lowest([point for point in points if point[0] >= begins])
    if len(low) < LEAST:
        return None
    slope = _slope(low)
    middle_at, middle = (statistics.median(column) for column in zip(*low))
    start, end = low[0][0], low[-1][0]
    rising = [(later[1] > earlier[1]) - (later[1] < earlier[1]) for earlier, later in _pairs(low)]
    return Trend(
        seconds=end - start,
        slope=slope,
        steadiness=sum(rising) / len(rising),
        first=middle + slope * (start - middle_at),
        last=middle + slope * (end - middle_at),
        later_slope=_slope(low[len(low) // 2 :]),
    )


def lowest(points: Points, parts: int = PARTS) -> list[tuple[float, float]]:
    """The lowest point of each of so many parts of the time."""
    if not points:
        return []
    start, span = points[0][0], points[-1][0] - points[0][0]
    found: dict[int, tuple[float, float]] = {}
    for at, value in points:
        part = min(int((at - start) / span * parts), parts - 1) if span else 0
        if part not in found or value < found[part][1]:
            found[part] = (at, value)
    return [found[part] for part in sorted(found)]


def _slope(points: Points) -> float:
    rises = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in _pairs(points) if b[0] > a[0]]
    return statistics.median(rises) if rises else 0.0


def _pairs(points: Points) -> t.Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    return ((points[i], points[j]) for i in range(len(points)) for j in range(i + 1, len(points)))
