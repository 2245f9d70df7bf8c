# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How fast the journals grow, by the times of what they hold: a look at one moment shows the days that led to it."""

from __future__ import annotations

import typing as t

from .format import DAY_NS
from .survey import TIME_SOURCES, JournalFile

HISTORY_DAYS = 28
MEAN_DAYS = 14
# A first record within the first hour of a day still makes it a complete one.
_LATE_START = DAY_NS // 24


class Growth(t.NamedTuple):
    """
    :param bytes_per_day: mean over the last complete UTC days; None where fewer than two were seen.
    :param days: how many days that mean is of, at most :data:`MEAN_DAYS`.
    :param by_day: (start of the UTC day in unix seconds, bytes that came on it, as they lie on the disk today) for
        the last :data:`HISTORY_DAYS` and today.
    :param sources: bytes of those days by where their time comes from, see :data:`.survey.TIME_SOURCES`.
    """

    bytes_per_day: float | None
    days: int
    by_day: list[tuple[int, float]]
    sources: dict[str, float]


def growth(files: t.Iterable[JournalFile], now: int) -> Growth:
    """The growth that files show. The bytes of a file are spread evenly from its first record to its last.

    What was compressed or rolled up since counts with what is left of it, and what was removed counts no more.

    :param now: nanoseconds since the epoch.
    """
    today = now // DAY_NS
    days = dict.fromkeys(range(today - HISTORY_DAYS, today + 1), 0.0)
    sources = dict.fromkeys(TIME_SOURCES, 0.0)
    oldest = now
    for file in files:
        oldest = min(oldest, file.first)
        for day, share in _spread(file, min(days), today):
            days[day] += share
            sources[file.time_source] += share
    first_whole_day = -((_LATE_START - oldest) // DAY_NS)
    complete = [days[day] for day in range(max(first_whole_day, today - MEAN_DAYS), today)]
    return Growth(
        bytes_per_day=sum(complete) / len(complete) if len(complete) > 1 else None,
        days=len(complete),
        by_day=[(day * 86400, size) for day, size in days.items()],
        sources=sources,
    )


def _spread(file: JournalFile, first_day: int, last_day: int) -> t.Iterator[tuple[int, float]]:
    span = file.last - file.first
    for day in range(max(file.first // DAY_NS, first_day), min(file.last // DAY_NS, last_day) + 1):
        part = min(file.last, (day + 1) * DAY_NS) - max(file.first, day * DAY_NS)
        yield day, file.disk_bytes * (part / span if span else 1.0)
