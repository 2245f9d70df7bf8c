# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which metrics have too many label sets, which label is to blame, and the relabelling that ends it.

The head block is judged, since it is what memory is spent on; it holds the series of the last one to three hours,
those that ended among them. Labels are counted from the index, which reads no samples: the server may be sick already.

Sources: the runbook's "High Cardinality Warnings" and "Cardinality Management";
https://prometheus.io/docs/prometheus/latest/querying/api/#tsdb-stats
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import time
import typing as t

from ..._exposition import Exposition
from ..._finding import Finding
from ..._http import HttpError
from ..._prometheus import Head, Prometheus
from .. import not_known, not_prometheus, part
from ..language.reads import LEGACY_NAME
from . import churn
from .dashboards import Dashboards
from .label_sets import (
    EXAMPLES,
    PART_LABELS,
    TARGET_LABELS,
    VALUES,
    Family,
    Label,
    Limits,
    Metric,
    blamed,
    families,
    pattern,
    values_pattern,
)
from .offers import Ground, missed, offers, saved
from .readers import Reader, of_dashboards, of_rules
from .series_cost import OWN, QUERIED_SERIES, count, heaps, intervals, prices, samples_a_second

# What a report shows, and what one run may ask of a server that may be short of breath.
ROWS = 1000
SHOWN = 20
EXAMINED = 20
AT_ONCE = 4
SECONDS = 60.0
# What two moments of the last hour are apart at which series are tried to be told apart.
APART = "10m"
# A target with so many times the label sets of the average one is named.
OUTSTANDING = 2.0

# Label sets now by (job, instance).
Now = t.Mapping[t.Tuple[str, ...], int]


class Look:
    """One look at the cardinality of a server; :meth:`findings` takes it.

    :param window: seconds over which growth and churn of the head are told.
    :param dashboards: who else reads, beside the rules of the server; None where none were given.
    """

    def __init__(self, client: Prometheus, limits: Limits, window: float, dashboards: Dashboards | None = None) -> None:
        self.client = client
        self.limits = limits
        self.window = window
        self.dashboards = dashboards
        self.head: Head | None = None
        self.metrics: list[Metric] = []
        self._offers: dict[str, list[dict[str, t.Any]]] = {}
        self._page: Exposition | HttpError = Exposition()
        self._ends = time.monotonic() + SECONDS

    def findings(self) -> list[Finding]:
        stranger = not_prometheus("cardinality.head", self.client)
        return stranger or [
            *part("cardinality.head", self.client.server.url, self._of_head),
            *part("cardinality.overflow", "njord-prometheus-exporter", self._overflow),
        ]

    def head_tables(self) -> dict[str, t.Any]:
        """The head, its tables cut to what a person reads; empty where it could not be asked."""
        tables = dataclasses.asdict(self.head) if self.head else {}
        return {name: rows[:SHOWN] if isinstance(rows, list) else rows for name, rows in tables.items()}

    def metric_rows(self) -> list[dict[str, t.Any]]:
        """What was found of each metric above the limits, the one with the most label sets first."""
        return [
            {
                "name": metric.family.name,
                "series": metric.family.series,
                "label_sets": metric.label_sets,
                "targets": metric.targets,
                "jobs": metric.jobs,
                "blamed": metric.blamed,
                "labels": [dataclasses.asdict(label) for label in metric.labels],
                "samples_per_second": metric.samples,
                "offers": self._offers[metric.family.name],
            }
            for metric in sorted(self.metrics, key=lambda metric: -metric.label_sets)
        ]

    def _of_head(self) -> list[Finding]:
        head = self.head = self.client.head(ROWS)
        largest = families(head.series_by_metric)
        candidates = [family for family in largest if family.label_sets > self.limits.label_sets_warning]
        self._page = self._own_page()
        of_metrics = self._of_metrics(head, candidates)
        per_target = {metric.family.name: metric.label_sets for metric in self.metrics}
        bars = [
            {
                "label": family.name,
                "value": per_target.get(family.name, family.label_sets),
                "limit": self.limits.label_sets_warning,
            }
            for family in largest[:SHOWN]
        ]
        if not of_metrics:
            said = f"the largest is {largest[0].name}" if largest else "there is none at all"
            summary = f"No metric has more than {self.limits.label_sets_warning} label sets at one target; {said}."
            of_metrics.append(Finding("cardinality.metric", "all metrics", "ok", summary))
        return [
            self._size(head, bars),
            *self._of_past(head),
            *of_metrics,
            self._labels(head),
        ]

    def _size(self, head: Head, bars: list[dict[str, t.Any]]) -> Finding:
        evidence: dict[str, t.Any] = {
            "asked": "GET /api/v1/status/tsdb",
            "figures": {"head_series": head.series, "head_chunks": head.chunks},
            "series_by_metric": head.series_by_metric[:SHOWN],
            "series_by_pair": head.series_by_pair[:SHOWN],
            "chart": {
                "kind": "bars",
                "title": "Label sets in the head, by metric and target",
                "unit": "label sets",
                "bars": bars,
            },
        }
        subject = self.client.server.url
        if not head.series:
            summary = "The head holds no series: Prometheus scrapes nothing, or has only just started."
            remedy = "See whether its targets are up: ansible-playbook service-health.yml."
            return Finding("cardinality.head", subject, "unknown", summary, evidence, remedy)
        summary = f"The head holds {head.series} series of {len(head.series_by_metric)} metric names."
        if len(head.series_by_metric) == ROWS:
            summary = f"The head holds {head.series} series; the {ROWS} largest metrics were looked at."
        if head.series <= self.limits.head_series_warning:
            return Finding("cardinality.head", subject, "ok", summary, evidence)
        summary += f" That is more than {self.limits.head_series_warning}."
        remedy = "Begin with the largest metrics of the chart, and with those of the findings cardinality.metric."
        return Finding("cardinality.head", subject, "warning", summary, evidence, remedy)

    def _labels(self, head: Head) -> Finding:
        size = dict(head.bytes_by_label)
        rows = [(name, count) for name, count in head.values_by_label if name not in ("__name__", *TARGET_LABELS)]
        many = [(name, count) for name, count in rows if count > self.limits.label_sets_critical]
        evidence = {
            "asked": "GET /api/v1/status/tsdb",
            "values_by_label": rows[:SHOWN],
            "bytes_by_label": head.bytes_by_label[:SHOWN],
            "figures": {f"values_of_{name}": count for name, count in rows[:3]},
        }
        if not many:
            summary = f"No label has more than {self.limits.label_sets_critical} values in the head."
            return Finding("cardinality.label", "all labels", "ok", summary, evidence)
        named = ", ".join(f"{name} ({count} values, {size.get(name, 0)} bytes)" for name, count in many[:5])
        summary = f"{len(many)} label(s) have more than {self.limits.label_sets_critical} values in the head: {named}."
        remedy = "The findings cardinality.metric say which metrics carry them, and what to do."
        return Finding("cardinality.label", "all labels", "warning", summary, evidence, remedy)

    def _own_page(self) -> Exposition | HttpError:
        """What the server says about itself, or why that is not known."""
        try:
            return self.client.own_page((*OWN, *churn.OWN))
        except HttpError as error:
            return error

    def _of_past(self, head: Head) -> list[Finding]:
        subject = self.client.server.url
        try:
            past = churn.past(self.client, head, self.window)
        except HttpError as error:
            return [not_known(check, subject, error) for check in ("cardinality.growth", "cardinality.churn")]
        growth = churn.growth(past, subject, self.window)
        if isinstance(self._page, HttpError):
            return [growth, not_known("cardinality.churn", subject, self._page)]
        look = churn.Look(self.client, head, past, self._page, prices(self._page, head))
        return [growth, look.finding(self.metrics)]

    def _overflow(self) -> list[Finding]:
        check, subject = "cardinality.overflow", "njord-prometheus-exporter"
        query = '{__name__=~"njord_exporter_(build_info|folded_messages_total)"}'
        samples = self.client.query(query)
        folded = {
            sample.labels["metric"]: sample.value
            for sample in samples
            if sample.labels["__name__"] == "njord_exporter_folded_messages_total" and sample.value > 0
        }
        evidence: dict[str, t.Any] = {"query": query, "folded_messages": folded}
        if not samples:
            summary = (
                "Whether the exporter folds label sets together is not known: Prometheus has no metric of its own."
            )
            remedy = "See whether the exporter is scraped: ansible-playbook service-health.yml."
            return [Finding(check, subject, "unknown", summary, evidence, remedy)]
        evidence["figures"] = {"folded_messages": sum(folded.values())}
        if not folded:
            return [Finding(check, subject, "ok", "The exporter keeps every label set apart.", evidence)]
        summary = (
            f"The exporter folds new label sets of {', '.join(sorted(folded))} into one series with the label "
            "overflow: their values can no longer be told apart."
        )
        remedy = (
            "See the finding cardinality.metric of each for the label to blame, mend its publisher, then restart "
            "njord-prometheus-exporter, which forgets the old label sets."
        )
        return [Finding(check, subject, "warning", summary, evidence, remedy)]

    def _of_metrics(self, head: Head, candidates: list[Family]) -> list[Finding]:
        counted = self._counted(candidates)
        candidates = [family for family in candidates if self._may_be_over(family, counted.get(family.counted))]
        if not candidates:
            return []
        ground = self._ground(head)

        def look(family: Family) -> Finding | None:
            try:
                metric = self._examined(family, head, counted.get(family.counted), ground)
            except HttpError as error:
                return self._not_examined(family, error)
            if metric is None:
                return None
            self.metrics.append(metric)
            return self._offender(metric, ground)

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            found = [finding for finding in pool.map(look, candidates[:EXAMINED]) if finding]
        rest = candidates[EXAMINED:]
        if rest:
            summary = (
                f"{len(rest)} further metrics have more than {self.limits.label_sets_warning} label sets in the head, "
                f"{rest[0].name} with {rest[0].label_sets} the most; they were not looked into."
            )
            evidence = {"metrics": [(family.name, family.label_sets) for family in rest[:SHOWN]]}
            remedy = "Mend the metrics named before, and run again."
            found.append(Finding("cardinality.metric", "further metrics", "unknown", summary, evidence, remedy))
        return found

    def _counted(self, candidates: list[Family]) -> dict[str, Now]:
        """Series that each has now, by job and target, some metrics at once; those that could not be asked are left
        out, and looked into one by one."""

        def ask(heap: list[Family]) -> dict[str, dict[tuple[str, ...], int]]:
            try:
                self._in_time(heap[0].counted)
                return count(self.client, [family.counted for family in heap], TARGET_LABELS)
            except HttpError:
                return {}

        asked = heaps(candidates[: 2 * EXAMINED], lambda family: (family.counted, family.label_sets))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            return {name: now for found in pool.map(ask, asked) for name, now in found.items()}

    def _may_be_over(self, family: Family, now: Now | None) -> bool:
        """Whether it may be over the limit at one target; one whose series have all ended may be."""
        if not now:
            return True
        most = max(*now.values(), math.ceil(family.label_sets / len(now)))
        return self.limits.severity(most) != "ok"

    def _ground(self, head: Head) -> Ground:
        """What all advice stands on; what of it cannot be asked is named in it."""
        not_read = []
        readers: list[Reader] = []
        recorded: frozenset[str] = frozenset()
        scraped: dict[str, float] = {}
        try:
            rules = self.client.rules()
            readers += of_rules(rules)
            recorded = frozenset(rule.name for rule in rules if rule.kind == "recording")
        except HttpError as error:
            # The missing job says then that it was not scraped.
            not_read.append(f"which rules there are is not known: {error}")
        if self.dashboards is None:
            not_read.append("no dashboards were given")
        else:
            readers += of_dashboards(self.dashboards)
            not_read += [f"there is no dashboard in {path}" for path in self.dashboards.empty]
        try:
            scraped = intervals(self.client.targets())
        except HttpError as error:
            not_read.append(f"the scrape jobs are not known: {error}")
        known = None if isinstance(self._page, HttpError) else prices(self._page, head)
        return Ground(known, scraped, recorded, readers, not_read)

    def _examined(self, family: Family, head: Head, now: Now | None, ground: Ground) -> Metric | None:
        """What makes the label sets of a metric; None where it is within the limits at each of its targets.

        :param now: its series now; None where that is not known.
        :raises HttpError: where it could not be asked, or the time for asking is over.
        """
        counted = f"{{__name__={json.dumps(family.counted)}}}"
        start, end = head.min_time / 1000, head.max_time / 1000

        def values(label: str) -> list[str]:
            self._in_time(counted)
            return self.client.label_values(label, counted, start, end, VALUES)

        names = self.client.label_names(counted, start, end)
        targets = max(1, len(values("instance")))
        part_labels = [label for label in PART_LABELS if label in names]
        parts = math.prod(max(1, len(values(label))) for label in part_labels)
        average = math.ceil(family.label_sets / parts / targets)
        label_sets = max(average, math.ceil(max(now.values()) / parts) if now else 0)
        if self.limits.severity(label_sets) == "ok":
            return None
        own = [name for name in names if name not in ("__name__", *TARGET_LABELS, *PART_LABELS)]
        labels = [
            Label(name, len(found), found[:EXAMPLES], pattern(found)) for name, found in ((n, values(n)) for n in own)
        ]
        labels.sort(key=lambda label: (-label.values, label.name))
        blame = blamed(labels, self.limits)
        active = without = None
        if family.series <= QUERIED_SERIES:
            self._in_time(counted)
            is_known = now is not None and not part_labels
            active = sum(now.values()) if is_known and now is not None else self._count(counted, PART_LABELS)
            without = self._count(counted, (*PART_LABELS, *blame)) if blame else active
        if without is not None and without * 2 > label_sets * targets:
            # Without them nearly as many are left: other labels make them as well.
            blame = []
        rule = family.name in ground.recorded
        by_job: dict[str, float] = {}
        for (job, _instance), series in (now or {}).items():
            by_job[job] = by_job.get(job, 0.0) + series * family.series / family.label_sets
        metric = Metric(
            family=family,
            targets=targets,
            label_sets=label_sets,
            jobs=sorted({job for job in by_job if job}) or values("job"),
            labels=labels,
            active=active,
            without=without,
            blamed=blame,
            busiest=tuple(
                (job, instance, math.ceil(series / parts))
                for (job, instance), series in sorted((now or {}).items(), key=lambda item: -item[1])[:SHOWN]
            ),
            samples=None if now is None or rule else samples_a_second(by_job, ground.scraped),
        )
        return dataclasses.replace(metric, **self._told_apart(metric, counted))

    def _told_apart(self, metric: Metric, counted: str) -> dict[str, t.Any]:
        """What the choice between taking a label away and dropping series needs to know."""
        first = metric.first_blamed
        if first is None or not metric.active:
            return {}
        self._in_time(counted)
        if metric.without == metric.active:
            left = _without((*PART_LABELS, *metric.blamed), counted)
            apart = f"max_over_time((count({_without(PART_LABELS, counted)}) - count({left}))[1h:{APART}])"
            # A young server has no such moment.
            found = self.client.query(apart)
            return {"merging": int(found[0].value) if found else None}
        label = first.name if LEGACY_NAME.fullmatch(first.name) else json.dumps(first.name)
        bearing = f"{counted[:-1]}, {label}=~{json.dumps(values_pattern(first))}}}"
        return {"bearing": self._count(bearing, PART_LABELS)}

    def _count(self, selector: str, without: t.Iterable[str]) -> int:
        query = f"count({_without(without, selector)})"
        return int(sum(sample.value for sample in self.client.query(query)))

    def _in_time(self, selector: str) -> None:
        if time.monotonic() > self._ends:
            raise HttpError(f"what makes the label sets of {selector}", f"not asked, {SECONDS:g} s are over")

    def _not_examined(self, family: Family, error: HttpError) -> Finding:
        unknown = not_known("cardinality.metric", family.name, error)
        return dataclasses.replace(
            unknown,
            summary=f"{family.name} has {family.label_sets} label sets in the head; why is not known: {error}.",
            evidence={**unknown.evidence, "figures": {"head_label_sets": family.label_sets}},
        )

    def _offender(self, metric: Metric, ground: Ground) -> Finding:
        severity = self.limits.severity(metric.label_sets)
        limit = self.limits.label_sets_critical if severity == "critical" else self.limits.label_sets_warning
        ways = offers(metric, ground)
        best = ways[0]
        self._offers[metric.family.name] = [way.row() for way in ways]
        summary = f"{metric.family.name} has {metric.label_sets} label sets in the head at one target, above {limit}"
        first = metric.first_blamed
        if first:
            least = "at least " if first.values >= VALUES else ""
            looks = f", which look like {first.pattern}" if first.pattern else ""
            summary += (
                f": the label {first.name} has {least}{first.values} values{looks} ({', '.join(first.examples[:2])})"
            )
        if len(metric.busiest) > 1:
            job, instance, most = metric.busiest[0]
            if most > OUTSTANDING * (metric.active or 0) / max(1, metric.targets):
                summary += f"; the target {instance} of the job {job} has the most, {most}"
        churned = metric.family.label_sets / metric.active if metric.active else None
        evidence = {
            "asked": "GET /api/v1/status/tsdb, /api/v1/labels and /api/v1/label/NAME/values for "
            f"{metric.family.counted}, count(count without (LABELS) ({metric.family.counted}))",
            "figures": {"head_label_sets": metric.label_sets, "head_series": metric.family.series},
            "jobs": metric.jobs,
            "targets": metric.targets,
            "busiest_targets": metric.busiest,
            "labels": [{**dataclasses.asdict(label), "blamed": label.name in metric.blamed} for label in metric.labels],
            "label_sets_now": metric.active,
            "label_sets_now_without_blamed": metric.without,
            "series_that_would_merge_in_the_last_hour": metric.merging,
            "head_to_now_ratio": round(churned, 2) if churned else None,
            "samples_per_second": metric.samples,
            "prices": ground.prices.evidence() if ground.prices else {"not_known": str(self._page)},
            "relabelling": best.text,
            "offers": self._offers[metric.family.name],
            "not_read": list(ground.not_read),
        }
        if metric.active == 0:
            summary += "; none of them is alive now"
        effect = f"{saved(best)}{missed(best, ground)} The head forgets what ended within three hours."
        remedy = f"{best.advice}\n{effect.strip()}"
        return Finding("cardinality.metric", metric.family.name, severity, f"{summary}.", evidence, remedy)


def _without(labels: t.Iterable[str], selector: str) -> str:
    names = ", ".join(name if LEGACY_NAME.fullmatch(name) else json.dumps(name) for name in labels)
    return f"count without ({names}) ({selector})"
