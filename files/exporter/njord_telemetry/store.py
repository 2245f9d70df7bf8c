# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of every series, bounded whatever is published, and its families for the page."""

from __future__ import annotations

import bisect
import itertools
import logging
import threading
import time
import typing as t

import prometheus_client.core
from prometheus_client.samples import Sample

from .catalogue import Catalogue, Entry
from .log import line
from .snapshot import Labels, MetricSnapshot, RejectedError

LABEL_SET_LIMIT = 1_000
# The number of label sets at which Njord's own rule warns.
CARDINALITY_HIGH = 100
# Of metrics that the catalogue does not name.
METRIC_LIMIT = 2_000
# Lines of the page, overflow series apart: bounds both the memory of the series and that of a scrape.
SAMPLE_LIMIT = 100_000
OVERFLOW: Labels = (("overflow", "true"),)

LOG = logging.getLogger(__name__)


class Series(t.Protocol):
    """One label set of one metric."""

    def add(self, value: float) -> None:
        """Takes an increment, a new value, or an observation."""

    def samples(self, labels: dict[str, str]) -> t.Iterator[Sample]:
        """Its lines on the page."""


class Counter:
    def __init__(self, entry: Entry) -> None:
        self._name = f"{entry.family}_total"
        self._value = 0.0

    def add(self, value: float) -> None:
        self._value += value

    def samples(self, labels: dict[str, str]) -> t.Iterator[Sample]:
        yield Sample(self._name, labels, self._value)


class Gauge:
    def __init__(self, entry: Entry) -> None:
        self._name = entry.family
        self._value = 0.0

    def add(self, value: float) -> None:
        self._value = value

    def samples(self, labels: dict[str, str]) -> t.Iterator[Sample]:
        yield Sample(self._name, labels, self._value)


class Summary:
    """Count and sum; no quantiles, which could not be aggregated and would need every observation."""

    def __init__(self, entry: Entry) -> None:
        self._name = entry.family
        self._count = 0
        self._sum: float | None = 0.0

    def add(self, value: float) -> None:
        self._count += 1
        # A sum that can fall is no counter: OpenMetrics wants it left out.
        self._sum = None if self._sum is None or value < 0 else self._sum + value

    def samples(self, labels: dict[str, str]) -> t.Iterator[Sample]:
        yield Sample(f"{self._name}_count", labels, self._count)
        if self._sum is not None:
            yield Sample(f"{self._name}_sum", labels, self._sum)


class Histogram:
    def __init__(self, entry: Entry) -> None:
        self._name = entry.family
        self._bounds = entry.buckets
        self._bucket_labels = entry.bucket_labels
        self._counts = [0] * len(self._bucket_labels)
        # As in a summary; the count, which is the last bucket's, goes with the sum.
        self._sum: float | None = None if self._bounds[0] < 0 else 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum = None if self._sum is None or value < 0 else self._sum + value

    def samples(self, labels: dict[str, str]) -> t.Iterator[Sample]:
        count = 0
        for bound, count in zip(self._bucket_labels, itertools.accumulate(self._counts), strict=True):
            yield Sample(f"{self._name}_bucket", labels | {"le": bound}, count)
        if self._sum is not None:
            yield Sample(f"{self._name}_count", labels, count)
            yield Sample(f"{self._name}_sum", labels, self._sum)


SERIES: t.Final[dict[str, t.Callable[[Entry], Series]]] = {
    "counter": Counter,
    "gauge": Gauge,
    "histogram": Histogram,
    "summary": Summary,
}


class Metric:
    """One metric, its series by label set, and what its own metrics tell."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.series: dict[Labels, Series] = {}
        self.folded = 0
        self.last_message = 0.0


class Store:
    """Takes snapshots from one thread while others read the page.

    :param label_set_limit: label sets of one metric that are kept apart; what comes with others goes into one series
        with the labels :data:`OVERFLOW`.
    """

    def __init__(self, catalogue: Catalogue, label_set_limit: int = LABEL_SET_LIMIT) -> None:
        self._catalogue = catalogue
        self._label_set_limit = label_set_limit
        self._lock = threading.Lock()
        self._metrics: dict[str, Metric] = {}
        self._unnamed = 0
        self._samples = 0
        # The catalogue's names are taken before the first message, so that no other metric can come first.
        self._owners = {served: name for name, entry in catalogue.entries.items() for served in entry.served_names}

    def take(self, snapshot: MetricSnapshot) -> None:
        """Adds one snapshot to its series.

        :raises RejectedError: where its metric cannot be served beside those that are.
        """
        metric = self._metrics.get(snapshot.name) or self._admitted(snapshot)
        if metric.entry.type != snapshot.metric_type:
            raise RejectedError(
                "type_conflict", snapshot.name, f"{snapshot.metric_type}, served as {metric.entry.type}"
            )
        with self._lock:
            series = metric.series.get(snapshot.labels) or self._new_series(metric, snapshot.labels)
            series.add(snapshot.value)
            metric.last_message = time.time()

    def metrics(self) -> list[Metric]:
        with self._lock:
            return list(self._metrics.values())

    def collect(self) -> t.Iterator[prometheus_client.core.Metric]:
        """The families of the page; the lock is held for one metric at a time, so that no scrape stops the bus."""
        for metric in self.metrics():
            entry = metric.entry
            family = prometheus_client.core.Metric(entry.family, entry.help, entry.type, entry.served_unit)
            with self._lock:
                for labels, series in metric.series.items():
                    family.samples.extend(series.samples(dict(labels)))
            yield family

    def _admitted(self, snapshot: MetricSnapshot) -> Metric:
        name = snapshot.name
        named = name in self._catalogue.entries
        entry = self._catalogue.entry(name, snapshot.metric_type)
        if entry.type != snapshot.metric_type:
            raise RejectedError("type_conflict", name, f"{snapshot.metric_type}, in the catalogue {entry.type}")
        if not named:
            clash = next((served for served in entry.served_names if served in self._owners), None)
            if clash:
                raise RejectedError("name_clash", name, f"{clash} is a name of {self._owners[clash]}")
            if self._unnamed >= METRIC_LIMIT:
                raise RejectedError("too_many_metrics", name)
            self._unnamed += 1
            self._owners.update(dict.fromkeys(entry.served_names, name))
        with self._lock:
            return self._metrics.setdefault(name, Metric(entry))

    def _new_series(self, metric: Metric, labels: Labels) -> Series:
        series = SERIES[metric.entry.type](metric.entry)
        samples = len(list(series.samples({})))
        if len(metric.series) >= self._label_set_limit or self._samples + samples > SAMPLE_LIMIT:
            return self._overflow(metric, series)
        self._samples += samples
        metric.series[labels] = series
        if len(metric.series) == CARDINALITY_HIGH:
            LOG.warning(
                line(
                    "telemetry.metric_cardinality_high",
                    metric_name=metric.entry.name,
                    unique_combinations=CARDINALITY_HIGH,
                )
            )
        return series

    def _overflow(self, metric: Metric, series: Series) -> Series:
        if not metric.folded:
            LOG.warning(
                line("telemetry.metric_label_sets_folded", metric_name=metric.entry.name, kept=len(metric.series))
            )
        metric.folded += 1
        return metric.series.setdefault(OVERFLOW, series)
