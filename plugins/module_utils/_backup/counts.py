# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How many series of each metric a server knows at fixed times: equal counts before and after prove a restore.

Never at "now": a server without scrape jobs has nothing there, however well it was restored.
"""

from __future__ import annotations

import typing as t

from .._prometheus import Prometheus

# Prometheus' own default of --query.lookback-delta.
LOOKBACK_SECONDS = 300.0
MOST_INSTANTS = 24
_EXPRESSION = 'count by (__name__) ({__name__=~".+"})'

# By time in milliseconds, as text, as JSON has keys: the number of series by metric.
Counts = t.Dict[str, t.Dict[str, int]]


def instants(blocks: t.Sequence[t.Mapping[str, t.Any]]) -> list[int]:
    """Times at which samples of these blocks decide what is seen, in milliseconds, evenly over their whole range.

    :param blocks: with ``min_time`` and ``max_time`` in milliseconds, the latter exclusive.
    """
    ranges = sorted((int(block["min_time"]), int(block["max_time"])) for block in blocks)
    if not ranges:
        return []
    # The last millisecond of each block, and its middle.
    times = sorted({time for low, high in ranges for time in ((low + high) // 2, high - 1)})
    step = max(1, -(-len(times) // MOST_INSTANTS))
    return sorted({*times[::step], times[-1]})


def count(prometheus: Prometheus, times: t.Iterable[int], lookback: float = 0.0) -> Counts:
    """
    :param times: in milliseconds.
    :param lookback: seconds; as the server is set where it is 0.
    :raises HttpError: where the server cannot say, also because one of its chunks is damaged.
    """
    return {
        str(time): {
            sample.labels["__name__"]: int(sample.value)
            for sample in prometheus.query(_EXPRESSION, time / 1000, lookback)
        }
        for time in times
    }


def difference(expected: Counts, found: Counts) -> str:
    """The first one of them and how many there are, a clause; empty where they are equal."""
    wrong = [
        (time, metric, expected.get(time, {}).get(metric, 0), found.get(time, {}).get(metric, 0))
        for time in sorted({*expected, *found}, key=int)
        for metric in sorted({*expected.get(time, {}), *found.get(time, {})})
        if expected.get(time, {}).get(metric, 0) != found.get(time, {}).get(metric, 0)
    ]
    if not wrong:
        return ""
    time, metric, before, after = wrong[0]
    return f"{len(wrong)} counts differ, such as {metric} at {time} ms: {before} series then, {after} now"
