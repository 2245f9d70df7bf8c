# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How the series of the head came and went: its growth, and the churn, which is series that are made and soon end.

A head forgets what ended within three hours, but until then it costs memory like the living, and an entry in the index
of each block. A burst, of a deploy or of a start, is told from churn that never ends.

Sources: the runbook's "Cardinality Management"; the metrics that Prometheus has about itself, and
https://prometheus.io/docs/concepts/jobs_instances/#automatically-generated-labels-and-time-series
"""

from __future__ import annotations

import dataclasses
import statistics
import typing as t
from pathlib import Path

from ..._exposition import Exposition
from ..._finding import Finding
from ..._http import HttpError
from ..._prometheus import Head, Prometheus
from ..._units import human_duration, human_size
from .. import clock
from .label_sets import Metric
from .series_cost import Prices, index_bytes

SERIES = "prometheus_tsdb_head_series"
CREATED, REMOVED = f"{SERIES}_created_total", f"{SERIES}_removed_total"
STARTED = "process_start_time_seconds"
OWN = (CREATED, REMOVED, STARTED)
QUERY = f'{{__name__=~"{SERIES}|{CREATED}|{REMOVED}"}}'
HEAD_GROWTH_WARNING = 0.5
# Of the head, made anew each hour.
CHURN_WARNING = 0.2
# A step is a burst where it makes so much more than the usual one, and so much of the head.
BURST_FACTOR, BURST_SHARE = 5.0, 0.05
# More bursts than so many a day are no deploys.
BURSTS_A_DAY = 4.0
STEPS = 200
FEWEST_STEPS = 5
# Seconds: several scrapes of the server by itself.
SHORTEST_STEP = 60.0
HOUR = 3600.0
SHOWN = 10

# (unix seconds, value)
Points = t.List[t.Tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Past:
    """What a server kept about itself.

    :param head: series; ``created`` and ``removed`` are counters.
    :param step: seconds between two points of the counters.
    :param now: unix seconds by the clock of the server.
    """

    head: Points
    created: Points
    removed: Points
    step: float
    now: float


@dataclasses.dataclass(frozen=True)
class Step:
    """:param made: series that were made in ``seconds`` until ``end``."""

    end: float
    seconds: float
    made: float

    @property
    def hourly(self) -> float:
        return self.made / self.seconds * HOUR


def past(client: Prometheus, head: Head, window: float) -> Past:
    """
    :raises HttpError: where it cannot be asked.
    """
    now = client.query("time()")[0].value
    step = max(window / STEPS, 1.0)
    own = _own_past(client, head, now - window, now, step)
    heads, created = own.get(SERIES, []), own.get(CREATED, [])
    if created and len(created) <= FEWEST_STEPS:
        # It scrapes itself for a short time only: that time is looked at more closely.
        begun = created[0][0] - step
        step = min(step, max((now - begun) / STEPS, SHORTEST_STEP))
        own = _own_past(client, head, begun, now, step)
    return Past(heads, own.get(CREATED, []), own.get(REMOVED, []), step, now)


def _own_past(client: Prometheus, head: Head, start: float, end: float, step: float) -> dict[str, Points]:
    by_server: dict[tuple[tuple[str, str], ...], dict[str, Points]] = {}
    for series in client.query_range(QUERY, start, end, step):
        labels = tuple(sorted(item for item in series.labels.items() if item[0] != "__name__"))
        by_server.setdefault(labels, {})[series.labels.get("__name__", SERIES)] = series.points
    # One server may scrape another: ours is the one that says what the head says.
    return min(
        (found for found in by_server.values() if found.get(SERIES)),
        key=lambda found: abs(found[SERIES][-1][1] - head.series),
        default={},
    )


def growth(of: Past, subject: str, window: float) -> Finding:
    check = "cardinality.growth"
    asked = {"query": QUERY, "window_seconds": window}
    if len(of.head) < 2:
        summary = "How the head grew is not known: Prometheus does not scrape itself, or has only just begun to."
        remedy = "See whether a scrape job for Prometheus itself is there; the role prometheus brings one."
        return Finding(check, subject, "unknown", summary, asked, remedy)
    (start, first), (end, last) = of.head[0], of.head[-1]
    share = last / first - 1 if first else 0.0
    line = {"label": "series in the head", "points": of.head, "style": "measured"}
    evidence = {
        **asked,
        "figures": {"head_growth_ratio": round(share, 4)},
        "chart": {"kind": "lines", "title": "Series in the head", "unit": "series", "lines": [line], "limits": []},
    }
    summary = f"The head went from {first:.0f} to {last:.0f} series in {human_duration(end - start)}."
    # A young server always grows.
    if share <= HEAD_GROWTH_WARNING or end - start < window / 2:
        return Finding(check, subject, "ok", summary, evidence)
    remedy = "Compare the largest metrics with those of the report before."
    return Finding(check, subject, "warning", summary, evidence, remedy)


def steps(points: t.Sequence[tuple[float, float]]) -> list[Step]:
    """What a counter rose by between two points; what it has after it began anew was made since."""
    return [
        Step(end, end - start, value - before if value >= before else value)
        for (start, before), (end, value) in zip(points, points[1:])
        if end > start
    ]


def bursts(made: t.Sequence[Step], head: int) -> list[list[Step]]:
    """Steps that make far more than the usual one, those that follow one another together."""
    usual = statistics.median(step.made for step in made)
    found: list[list[Step]] = []
    before = None
    for step in made:
        if step.made > max(BURST_FACTOR * usual, BURST_SHARE * head):
            if before is not None and found and found[-1][-1] is before:
                found[-1].append(step)
            else:
                found.append([step])
        before = step
    return found


class Look:
    """Churn of one server, with the findings of its metrics beside it."""

    def __init__(self, client: Prometheus, head: Head, of: Past, page: Exposition, prices: Prices | None) -> None:
        self.client = client
        self.head = head
        self.past = of
        self.page = page
        self.prices = prices
        self.made = steps(of.created)

    def finding(self, metrics: t.Sequence[Metric]) -> Finding:
        check, subject = "cardinality.churn", self.client.server.url
        head = max(1, self.head.series)
        evidence: dict[str, t.Any] = {"query": QUERY, "steps": len(self.made), "step_seconds": self.past.step}
        if len(self.made) < FEWEST_STEPS:
            evidence["since_start"] = {name: self._own(name) for name in (CREATED, REMOVED)}
            summary = (
                "How many series are made anew is not known: Prometheus does not scrape itself, or has only just "
                f"begun to. Since its start it made {self._own(CREATED):.0f} and removed {self._own(REMOVED):.0f}."
            )
            remedy = "See whether a scrape job for Prometheus itself is there; the role prometheus brings one."
            return Finding(check, subject, "unknown", summary, evidence, remedy)
        span = sum(step.seconds for step in self.made)
        found = bursts(self.made, self.head.series)
        in_bursts = sum(step.made for burst in found for step in burst)
        made = sum(step.made for step in self.made)
        # Batches that come again and again, of a job that runs each hour, are steady too.
        is_restless = len(found) > max(2.0, BURSTS_A_DAY * span / 86_400)
        steady = (made if is_restless else made - in_bursts) / span * HOUR
        removed = sum(step.made for step in steps(self.past.removed)) / span * HOUR
        ended = self._ended(evidence)
        evidence.update(
            figures={
                "series_made_per_hour": round(steady, 1),
                "series_removed_per_hour": round(removed, 1),
                "churn_of_head_per_hour": round(steady / head, 4),
            },
            bursts=[self._burst(burst) for burst in found[:SHOWN]],
            metrics=self._restless(metrics),
            chart=self._chart(),
        )
        summary = f"Each hour {steady:.0f} series are made and {removed:.0f} removed, of {self.head.series} in the head"
        if steady / head > CHURN_WARNING:
            summary += f": {'in batches that come again and again' if is_restless else 'without a pause'}"
            summary += self._who(evidence)
            remedy = self._remedy(evidence, steady, ended)
            return Finding(check, subject, "warning", f"{summary}.", evidence, remedy)
        if not found or is_restless:
            return Finding(check, subject, "ok", f"{summary}.", evidence)
        largest = max(found, key=lambda burst: sum(step.made for step in burst))
        summary += (
            f", but for {len(found)} burst(s), the largest of {sum(step.made for step in largest):.0f} "
            f"{self._when(largest)}"
        )
        remedy = (
            "A burst is a start or a deploy: labels with a version, a pod or a time of start make all series anew. "
            "What ended leaves the head within three hours; if deploys are frequent, leave such labels out."
        )
        return Finding(
            check, subject, "info" if in_bursts > head * CHURN_WARNING else "ok", f"{summary}.", evidence, remedy
        )

    def _own(self, name: str) -> float:
        return sum(value for _labels, value in self.page.kept.get(name, []))

    def _burst(self, burst: list[Step]) -> dict[str, t.Any]:
        return {"end": burst[-1].end, "series": sum(step.made for step in burst), "when": self._when(burst)}

    def _when(self, burst: list[Step]) -> str:
        start = burst[0].end - burst[0].seconds
        started = self._own(STARTED)
        # What is scraped for the first time comes with the first scrapes.
        own = start - 60 <= started <= burst[-1].end
        return f"at {clock(start)}{', the start of Prometheus itself' if own else ''}"

    def _chart(self) -> dict[str, t.Any]:
        lines = [
            {"label": label, "points": [(step.end, step.hourly) for step in steps(points)], "style": "measured"}
            for label, points in (("made", self.past.created), ("removed", self.past.removed))
            if len(points) > 1
        ]
        limits = [{"label": "a fifth of the head", "value": CHURN_WARNING * self.head.series}]
        return {"kind": "lines", "title": "Series an hour", "unit": "series", "lines": lines, "limits": limits}

    def _ended(self, evidence: dict[str, t.Any]) -> float | None:
        """Series that the head holds though no scrape brings them any more; and, as evidence, who makes new ones."""
        window = round(min(HOUR, self.past.now - self.past.created[0][0]))
        query = (
            f"label_replace(sum by (job, instance) (sum_over_time(scrape_series_added[{window}s])), "
            '"of", "added", "", "")'
            ' or label_replace(sum by (job, instance) (scrape_samples_post_metric_relabeling), "of", "kept", "", "")'
        )
        try:
            samples = self.client.query(query)
        except HttpError as error:
            evidence["jobs_not_known"] = str(error)
            return None
        added = [
            (sample.labels.get("job", ""), sample.labels.get("instance", ""), sample.value)
            for sample in samples
            if sample.labels.get("of") == "added"
        ]
        jobs: dict[str, float] = {}
        for job, _instance, value in added:
            jobs[job] = jobs.get(job, 0.0) + value
        evidence["added_query"] = query
        evidence["added_by_job"] = sorted(jobs.items(), key=lambda item: -item[1])[:SHOWN]
        evidence["added_by_target"] = sorted(added, key=lambda row: -row[2])[:SHOWN]
        kept = sum(sample.value for sample in samples if sample.labels.get("of") == "kept")
        # What rules record is in the head too.
        return max(0.0, self.head.series - kept) if kept else None

    def _restless(self, metrics: t.Sequence[Metric]) -> list[dict[str, t.Any]]:
        """Metrics of which the head holds far more than is alive."""
        rows = [
            {
                "metric": metric.family.name,
                "in_head": metric.family.label_sets,
                "alive": metric.active,
                "labels": metric.blamed or [label.name for label in metric.labels[:1]],
                "jobs": metric.jobs,
            }
            for metric in metrics
            if metric.active is not None and metric.family.label_sets > 2 * metric.active
        ]
        return sorted(rows, key=lambda row: t.cast(int, row["alive"]) - t.cast(int, row["in_head"]))[:SHOWN]

    def _who(self, evidence: dict[str, t.Any]) -> str:
        said = ""
        by_job = evidence.get("added_by_job") or []
        if by_job and by_job[0][1]:
            said = f"; the job {by_job[0][0]} makes the most"
        if evidence["metrics"]:
            first = evidence["metrics"][0]
            said += (
                f", of {first['metric']} the head holds {first['in_head']} label sets, of which {first['alive']} are "
                f"alive (label {', '.join(first['labels'])})"
            )
        return said

    def _remedy(self, evidence: dict[str, t.Any], steady: float, ended: float | None) -> str:
        said = []
        if ended is not None and self.prices and self.prices.series:
            memory = ended * self.prices.series
            evidence["figures"]["ended_series_memory_bytes"] = round(memory)
            said.append(f"{ended:.0f} series of the head have ended and hold {human_size(memory)} of memory at most")
        per_series = self._index_bytes(evidence)
        if per_series:
            index = steady * 24 * per_series
            evidence["figures"]["index_bytes_per_day"] = round(index)
            said.append(f"the indexes of the blocks grow by {human_size(index)} a day for them")
        cost = f"What it costs: {', and '.join(said)}. " if said else ""
        named = (
            "the finding cardinality.metric of each metric in the evidence"
            if evidence["metrics"]
            else ("the jobs in the evidence, whose labels change their values (a session, an order, a pod)")
        )
        return f"{cost}See {named}, and let the publisher leave such labels out."

    def _index_bytes(self, evidence: dict[str, t.Any]) -> float | None:
        """By the server's own blocks, where they lie on this host."""
        try:
            directory = Path(self.client.flags().get("storage.tsdb.path", ""))
        except HttpError as error:
            evidence["index_not_known"] = str(error)
            return None
        found = index_bytes(directory) if directory.is_absolute() else None
        if found is None:
            evidence["index_not_known"] = f"there is no block in {directory} on this host"
            return None
        evidence["index_bytes_per_series"] = round(found, 1)
        return found
