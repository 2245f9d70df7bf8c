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
import re
import time
import typing as t

from .._finding import Finding
from .._http import HttpError
from .._prometheus import Head, Prometheus, Series
from .._units import human_duration
from . import not_known, not_prometheus, part

# What a report shows, and what one run may ask of a server that may be short of breath.
ROWS = 1000
SHOWN = 20
EXAMINED = 20
AT_ONCE = 4
SECONDS = 60.0
VALUES = 10_000
EXAMPLES = 5
# A metric with more series is counted from the index alone, not by a query.
QUERIED_SERIES = 100_000

LEGACY_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
# Set by the scrape, so the publisher is not to blame for them.
TARGET_LABELS = ("job", "instance")
# These tell the parts of one observation apart.
PART_LABELS = ("le", "quantile")
# Njord's own: as many values as are traded, and no more.
BOUNDED_LABELS = ("strategy_id", "symbol", "venue", "side", "result")
PART_SUFFIXES = ("_bucket", "_count", "_sum", "_created")
HEAD_GROWTH_WARNING = 0.5

# What values look like that never end. In the order of trial, in the syntax that Python and RE2 share.
PATTERNS = (
    ("UUIDs", r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"),
    ("dates with a time", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*"),
    ("unix times", r"[12]\d{9}(?:\d{3}){0,3}(?:\.\d+)?"),
    ("numbers", r"\d+"),
    ("hexadecimal ids", r"(?:0x)?[0-9a-fA-F]{8,}"),
    ("network addresses", r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"),
    ("e-mail addresses", r"[^@ ]+@[^@ ]+\.[^@ ]+"),
    ("names with a running number", r"[A-Za-z][A-Za-z_.:#/-]*\d{2,}"),
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Label sets are those of one metric at one target; see ``label_sets`` of :class:`Metric`."""

    label_sets_warning: int
    label_sets_critical: int
    head_series_warning: int

    def severity(self, label_sets: int) -> str:
        if label_sets > self.label_sets_critical:
            return "critical"
        return "warning" if label_sets > self.label_sets_warning else "ok"


@dataclasses.dataclass(frozen=True)
class Family:
    """What was published under one name.

    :param counted: the series name that has one series for each label set.
    :param label_sets: series of ``counted`` in the head.
    :param series: series of all its names in the head.
    """

    name: str
    counted: str
    label_sets: int
    series: int


@dataclasses.dataclass(frozen=True)
class Label:
    """One label of a metric.

    :param values: how many in the head; at least so many where it is :data:`VALUES`.
    :param pattern: name of the one of :data:`PATTERNS` that most values have; empty where none.
    """

    name: str
    values: int
    examples: list[str]
    pattern: str


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric that was looked into.

    :param targets: values of ``instance`` it has in the head, at least 1.
    :param label_sets: in the head, per target, without ``le`` and ``quantile``.
    :param labels: without those of the target; the one with the most values first.
    :param active: label sets over all targets at this moment; None where there are too many to ask for.
    :param without: how many of them would be left without the labels to blame.
    :param blamed: labels whose values make the label sets; empty where no label alone does.
    """

    family: Family
    targets: int
    label_sets: int
    jobs: list[str]
    labels: list[Label]
    active: int | None
    without: int | None
    blamed: list[str]


@dataclasses.dataclass(frozen=True)
class Relabelling:
    """What ends it at the scrape. :param text: for a scrape job of prometheus.yml; empty where none would do."""

    text: str
    advice: str


def families(series_by_metric: t.Iterable[tuple[str, int]]) -> list[Family]:
    """Series names put together as they were published, the one with the most label sets first."""
    counts = dict(series_by_metric)
    parts: dict[str, list[str]] = {}
    for name in counts:
        base = next((name[: -len(suffix)] for suffix in PART_SUFFIXES if name.endswith(suffix)), name)
        # A histogram or a summary has its count; a gauge called x_sum has not.
        parts.setdefault(base if f"{base}_count" in counts and f"{base}_sum" in counts else name, []).append(name)
    found = []
    for name, names in parts.items():
        counted = f"{name}_count" if f"{name}_count" in names else name
        found.append(Family(name, counted, counts[counted], sum(counts[part] for part in names)))
    return sorted(found, key=lambda family: (-family.label_sets, family.name))


def pattern(values: t.Sequence[str]) -> str:
    """Name of the pattern that at least half of the values have in whole; empty where there is none."""
    for name, expression in PATTERNS:
        if values and 2 * sum(1 for value in values if re.fullmatch(expression, value)) >= len(values):
            return name
    return ""


def blamed(labels: t.Sequence[Label], limits: Limits) -> list[str]:
    """Labels that make the label sets, those that go along with the first (order and client order) among them."""
    suspects = [label for label in labels if label.pattern or label.name not in BOUNDED_LABELS]
    if not suspects:
        return []
    first = suspects[0]
    many = first.values > limits.label_sets_warning or (first.pattern and 2 * first.values >= labels[0].values)
    return [label.name for label in suspects if 2 * label.values >= first.values] if many else []


def relabelling(metric: Metric, recorded: bool) -> Relabelling:
    """What to do about a metric, as one who was burnt by ``labeldrop`` would do it.

    ``labeldrop`` takes the label from every metric of the scrape; and where two series differ in nothing else,
    Prometheus keeps the first of each scrape and drops the others without an error: a counter becomes a lottery.
    So a label is only ever emptied on the one metric, and only where no two series become the same; elsewhere the
    series go.

    :param recorded: it comes from a recording rule, not from a scrape.
    """
    name = metric.family.name
    if recorded:
        return Relabelling("", f"It comes from a recording rule: aggregate {name} in its expression by fewer labels.")
    if not metric.blamed:
        largest = " x ".join(f"{label.name} ({label.values})" for label in metric.labels[:3])
        return Relabelling(
            "",
            f"No label without end makes them, but their combination: {largest}. Publish {name} with fewer labels, or "
            "raise the limit where every combination is wanted; relabelling cannot add series up.",
        )
    first = next(label for label in metric.labels if label.name == metric.blamed[0])
    source = f"Publish {name} without {' and '.join(metric.blamed)}; bounded labels are {', '.join(BOUNDED_LABELS)}."
    into = ", ".join(metric.jobs) or "that scrapes it"
    names = re.escape(name) + ("" if metric.family.counted == name else f"(?:{'|'.join(PART_SUFFIXES)})?")
    head = f"# scrape job {into}\nmetric_relabel_configs:\n"
    if metric.active and metric.without == metric.active:
        rules = "".join(
            f"  - source_labels: [__name__]\n    regex: {quoted(names)}\n"
            f"    target_label: {blame}\n    replacement: ''\n    action: replace\n"
            for blame in metric.blamed
        )
        return Relabelling(
            head + rules,
            f"{source} Until then the relabelling in the evidence empties the label on this metric only. No two series "
            "become the same today, so nothing is lost but the label; a counter then shows a reset where one value "
            "follows another. See that prometheus_target_scrapes_sample_duplicate_timestamp_total stays still.",
        )
    expression = quoted(f"{names};{dict(PATTERNS).get(first.pattern, '.+')}")
    which = f"such values of {first.name} ({first.pattern})" if first.pattern else f"any value of {first.name}"
    return Relabelling(
        f"{head}  - source_labels: [__name__, {first.name}]\n    regex: {expression}\n    action: drop\n",
        f"{source} Until then the relabelling in the evidence drops each of its series with {which}: "
        f"rules and dashboards on {name} then see only the others. Dropping the label instead would make series the "
        "same, of which Prometheus keeps one at random.",
    )


def quoted(text: str) -> str:
    """For YAML. A metric of Prometheus 3 may have any name."""
    return "'" + text.replace("'", "''") + "'"


class Look:
    """One look at the cardinality of a server; :meth:`findings` takes it.

    :param window: seconds over which the growth of the head is told.
    """

    def __init__(self, client: Prometheus, limits: Limits, window: float) -> None:
        self.client = client
        self.limits = limits
        self.window = window
        self.head: Head | None = None
        self.metrics: list[Metric] = []
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
            }
            for metric in sorted(self.metrics, key=lambda metric: -metric.label_sets)
        ]

    def _of_head(self) -> list[Finding]:
        head = self.head = self.client.head(ROWS)
        largest = families(head.series_by_metric)
        candidates = [family for family in largest if family.label_sets > self.limits.label_sets_warning]
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
            *part("cardinality.growth", self.client.server.url, lambda: [self._growth(head)]),
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

    def _growth(self, head: Head) -> Finding:
        check, subject = "cardinality.growth", self.client.server.url
        query = "prometheus_tsdb_head_series"
        now = self.client.query("time()")[0].value
        step = max(self.window / 200, 1.0)
        # One server may scrape another: ours is the one that says what the head says.
        found = min(
            self.client.query_range(query, now - self.window, now, step),
            key=lambda series: abs(series.points[-1][1] - head.series),
            default=Series({}, []),
        )
        asked = {"query": query, "window_seconds": self.window}
        if len(found.points) < 2:
            summary = "How the head grew is not known: Prometheus does not scrape itself, or has only just begun to."
            remedy = "See whether a scrape job for Prometheus itself is there; the role prometheus brings one."
            return Finding(check, subject, "unknown", summary, asked, remedy)
        (start, first), (end, last) = found.points[0], found.points[-1]
        share = last / first - 1 if first else 0.0
        line = {"label": "series in the head", "points": found.points, "style": "measured"}
        evidence = {
            **asked,
            "figures": {"head_growth_ratio": round(share, 4)},
            "chart": {"kind": "lines", "title": "Series in the head", "unit": "series", "lines": [line], "limits": []},
        }
        summary = f"The head went from {first:.0f} to {last:.0f} series in {human_duration(end - start)}."
        # A young server always grows.
        if share <= HEAD_GROWTH_WARNING or end - start < self.window / 2:
            return Finding(check, subject, "ok", summary, evidence)
        remedy = "Compare the largest metrics with those of the report before."
        return Finding(check, subject, "warning", summary, evidence, remedy)

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
        if not candidates:
            return []
        try:
            recorded = {rule.name for rule in self.client.rules() if rule.kind == "recording"}
        except HttpError:
            # Where the rules cannot be asked, the missing job says that it was not scraped.
            recorded = set()

        def look(family: Family) -> Finding | None:
            try:
                metric = self._examined(family, head)
            except HttpError as error:
                return self._not_examined(family, error)
            if metric is None:
                return None
            self.metrics.append(metric)
            return self._offender(metric, family.name in recorded)

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

    def _examined(self, family: Family, head: Head) -> Metric | None:
        """What makes the label sets of a metric; None where it is within the limits at each of its targets.

        :raises HttpError: where it could not be asked, or the time for asking is over.
        """
        counted = f"{{__name__={json.dumps(family.counted)}}}"
        start, end = head.min_time / 1000, head.max_time / 1000

        def values(label: str) -> list[str]:
            self._in_time(counted)
            return self.client.label_values(label, counted, start, end, VALUES)

        names = self.client.label_names(counted, start, end)
        targets = max(1, len(values("instance")))
        parts = [max(1, len(values(label))) for label in PART_LABELS if label in names]
        label_sets = math.ceil(family.label_sets / math.prod(parts) / targets)
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
            active = self._count(counted, PART_LABELS)
            without = self._count(counted, (*PART_LABELS, *blame)) if blame else active
        if without is not None and without * 2 > label_sets * targets:
            # Without them nearly as many are left: other labels make them as well.
            blame = []
        return Metric(family, targets, label_sets, values("job"), labels, active, without, blame)

    def _count(self, selector: str, without: t.Iterable[str]) -> int:
        names = ", ".join(name if LEGACY_NAME.fullmatch(name) else json.dumps(name) for name in without)
        return int(sum(sample.value for sample in self.client.query(f"count(count without ({names}) ({selector}))")))

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

    def _offender(self, metric: Metric, recorded: bool) -> Finding:
        severity = self.limits.severity(metric.label_sets)
        limit = self.limits.label_sets_critical if severity == "critical" else self.limits.label_sets_warning
        advice = relabelling(metric, recorded)
        summary = f"{metric.family.name} has {metric.label_sets} label sets in the head at one target, above {limit}"
        first = next((label for label in metric.labels if label.name in metric.blamed), None)
        if first:
            least = "at least " if first.values >= VALUES else ""
            looks = f", which look like {first.pattern}" if first.pattern else ""
            summary += (
                f": the label {first.name} has {least}{first.values} values{looks} ({', '.join(first.examples[:2])})"
            )
        churn = metric.label_sets * metric.targets / metric.active if metric.active else None
        evidence = {
            "asked": "GET /api/v1/status/tsdb, /api/v1/labels and /api/v1/label/NAME/values for "
            f"{metric.family.counted}, count(count without (LABELS) ({metric.family.counted}))",
            "figures": {"head_label_sets": metric.label_sets, "head_series": metric.family.series},
            "jobs": metric.jobs,
            "targets": metric.targets,
            "labels": [{**dataclasses.asdict(label), "blamed": label.name in metric.blamed} for label in metric.labels],
            "label_sets_now": metric.active,
            "label_sets_now_without_blamed": metric.without,
            "head_to_now_ratio": round(churn, 2) if churn else None,
            "relabelling": advice.text,
        }
        if metric.active == 0:
            summary += "; none of them is alive now"
        remedy = f"{advice.advice} The head forgets what ended within three hours."
        return Finding("cardinality.metric", metric.family.name, severity, f"{summary}.", evidence, remedy)
