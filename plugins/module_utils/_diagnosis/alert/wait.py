# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How long an alert was true without a gap, against the time that it has to wait (``for``), and what began it anew.

Each evaluation of the window is replayed with today's expression, as :mod:`.thresholds` does it.
"""

from __future__ import annotations

import dataclasses
import json

from ..._prometheus import Prometheus, Rule
from ..language import promql
from . import replay
from .alerts import EVALUATION_SECONDS
from .untrue import plain

# Evaluations and values that one rule may ask for, and moments at which its series are counted before.
EVALUATIONS = 10_000
VALUES = 500_000
COUNTED = 24
# Targets whose scrapes are looked at.
SOURCES = 5


@dataclasses.dataclass(frozen=True)
class Run:
    """Evaluations without a gap at which one series was chosen.

    :param start: unix seconds of the first of them, and ``end`` of the last.
    """

    labels: dict[str, str]
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """What it waited: with a ``for`` of this it would have fired at its last evaluation."""
        return self.end - self.start


@dataclasses.dataclass(frozen=True)
class Runs:
    """:param seconds: of the past that were replayed; the runs in order of their start."""

    runs: list[Run]
    seconds: float

    @property
    def longest(self) -> Run | None:
        return max(self.runs, key=lambda run: run.seconds, default=None)

    def before(self, labels: dict[str, str], since: float, rule: Rule) -> Run | None:
        """The last run of an alert that ended before the time since when it is active."""
        alike = _told_apart(labels, rule)
        own = [run for run in self.runs if _told_apart(run.labels, rule) == alike]
        found = [run for run in own if run.end < since - 0.001]
        # One that begins later than the alert does: over a restart Prometheus has kept the wait of the run before.
        kept = bool(own) and own[-1].start > since + 2 * (rule.interval or EVALUATION_SECONDS)
        return found[-1] if found and not kept else None


@dataclasses.dataclass(frozen=True)
class Failed:
    """A scrape that failed. :param at: unix seconds; ``count`` how many did, one after the other."""

    job: str
    instance: str
    at: float
    count: int


def runs(client: Prometheus, rule: Rule, now: float, window: float) -> Runs:
    """When the expression of a rule was true in the window, or in so much of it as may be asked for."""
    interval = rule.interval or EVALUATION_SECONDS
    last = rule.evaluated if rule.evaluated is not None else now
    counts = client.query_range(f"count({rule.query})", last - window, last, max(window / COUNTED, interval))
    most = max((value for series in counts for _at, value in series.points), default=1.0)
    steps = max(min(int(window / interval), EVALUATIONS, int(VALUES / max(most, 1.0))), 1)
    first = last - steps * interval
    found = []
    for series in client.query_range(rule.query, first, last, interval):
        true = [round((at - first) / interval) for at, _value in series.points]
        found += [
            Run(series.labels, first + begun * interval, first + (ended - 1) * interval)
            for begun, ended in replay.runs(true, steps + 1)
        ]
    return Runs(sorted(found, key=lambda run: run.start), steps * interval)


def failed_scrape(client: Prometheus, rule: Rule, run: Run, until: float) -> Failed | None:
    """The scrape whose failure ended a run, of the targets that bring what the expression reads; None where none did.

    :param until: unix seconds at which the next run began.
    """
    try:
        read = promql.selectors(promql.parse(rule.query))
    except promql.NotUnderstood:
        return None
    sources: dict[tuple[str, str], None] = {}
    for selector in read:
        if selector.metric:
            for sample in client.query(f"group by (job, instance) ({plain(selector)})", run.end):
                sources[sample.labels.get("job", ""), sample.labels.get("instance", "")] = None
    span = max(round((until - run.end) * 1000), 1)
    for job, instance in list(sources)[:SOURCES]:
        up = f"up{{job={json.dumps(job)},instance={json.dumps(instance)}}}[{span}ms]"
        for series in client.result(up, until, SOURCES).series:
            missed = [at for at, value in series.points if not value]
            if missed:
                return Failed(job, instance, missed[0], len(missed))
    return None


def _told_apart(labels: dict[str, str], rule: Rule) -> set[tuple[str, str]]:
    """What tells the label sets of one rule apart, in its expression and among its alerts."""
    return {(key, value) for key, value in labels.items() if key not in ("__name__", "alertname", *rule.labels)}
