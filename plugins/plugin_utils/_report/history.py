# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Earlier reports, one line of JSON each, and what became of each figure since."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._finding import rank

from .units import instant, number


class Figure(t.NamedTuple):
    """Which figure it is: it keeps this name from report to report."""

    host: str
    check: str
    subject: str
    name: str


@dataclasses.dataclass(frozen=True)
class Run:
    """One report, as the next ones remember it. Times are unix seconds."""

    time: float
    verdict: str
    counts: dict[str, int]
    duration_seconds: float | None
    last_success: float | None
    figures: dict[Figure, float]

    def as_line(self) -> str:
        values = dataclasses.asdict(self)
        values["figures"] = [[*figure, value] for figure, value in self.figures.items()]
        return json.dumps({"schema": 1, **values}, allow_nan=False, sort_keys=True)


def _run(line: str) -> Run | None:
    try:
        return _parsed(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def _parsed(values: t.Any) -> Run:
    time = instant(values["time"])
    rank(values["verdict"])
    if time is None:
        raise ValueError("time is no time")
    return Run(
        time=time,
        verdict=values["verdict"],
        counts={str(severity): int(count) for severity, count in values["counts"].items()},
        duration_seconds=number(values["duration_seconds"]),
        last_success=instant(values["last_success"]),
        figures={Figure(*map(str, row[:4])): float(row[4]) for row in values["figures"] if number(row[4]) is not None},
    )


def read(lines: t.Iterable[str]) -> tuple[list[Run], int]:
    """Runs, the oldest first, and how many lines could not be read."""
    found = [_run(line) for line in lines]
    runs = [run for run in found if run]
    return sorted(runs, key=lambda run: run.time), len(found) - len(runs)


@dataclasses.dataclass(frozen=True)
class Trend:
    """A figure over the reports, the newest last: ``values`` is ``[(unix seconds, value)]``, never empty."""

    figure: Figure
    values: list[tuple[float, float]]

    @property
    def now(self) -> float:
        return self.values[-1][1]

    @property
    def before(self) -> tuple[float, float] | None:
        """Time and value in the report before that had this figure."""
        return self.values[-2] if len(self.values) > 1 else None

    @property
    def moved(self) -> float:
        """Share by which it moved since the report before, 0 to 1."""
        if self.before is None or self.now == self.before[1]:
            return 0.0
        return abs(self.now - self.before[1]) / max(abs(self.now) + abs(self.before[1]), abs(self.now - self.before[1]))


def trends(current: Run, earlier: t.Sequence[Run]) -> list[Trend]:
    """One for each figure of the current run, the one that moved most first, those without a past last."""
    runs = [*(run for run in earlier if run.time < current.time), current]
    every = [
        Trend(figure, [(run.time, run.figures[figure]) for run in runs if figure in run.figures])
        for figure in current.figures
    ]
    return sorted(every, key=lambda trend: (trend.before is None, -trend.moved, trend.figure))
