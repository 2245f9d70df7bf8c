# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exporter tells of itself."""

from __future__ import annotations

import platform
import typing as t

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from . import __version__
from .bus import PARSER, Bus
from .intake import Intake
from .snapshot import OWN_PREFIX
from .store import Store


class OwnMetrics:
    """A collector of ``njord_exporter_*``."""

    def __init__(self, intake: Intake, store: Store, bus: Bus) -> None:
        self._intake = intake
        self._store = store
        self._bus = bus

    def collect(self) -> t.Iterator[Metric]:
        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(OWN_PREFIX + name, text, value)

        yield InfoMetricFamily(
            OWN_PREFIX + "build", "The exporter.", {"version": __version__, "python": platform.python_version()}
        )
        yield InfoMetricFamily(
            OWN_PREFIX + "redis_parser",
            "What reads the answers of Redis: hiredis, or Python, which is many times slower.",
            {"parser": PARSER},
        )
        yield gauge("bus_connected", "Whether the subscription on Redis stands, 0 or 1.", self._bus.subscribed)
        yield CounterMetricFamily(
            OWN_PREFIX + "bus_reconnects",
            "Subscriptions made anew. What was published in between is lost, and Redis cannot say how much.",
            self._bus.reconnects,
        )
        yield gauge(
            "last_message_timestamp_seconds",
            "When the last message came, whatever it was; 0 before the first.",
            self._intake.last_message,
        )
        messages = CounterMetricFamily(
            OWN_PREFIX + "messages", "Messages by result: accepted, or why not.", labels=["result"]
        )
        for result, count in list(self._intake.results.items()):
            messages.add_metric([result], count)
        yield messages

        series = GaugeMetricFamily(OWN_PREFIX + "series", "Label sets of a metric of the bus.", labels=["metric"])
        last = GaugeMetricFamily(
            OWN_PREFIX + "metric_last_message_timestamp_seconds",
            "When a metric of the bus came last: a gauge stays at its value when its publisher is gone.",
            labels=["metric"],
        )
        folded = CounterMetricFamily(
            OWN_PREFIX + "folded_messages",
            "Messages that went into the overflow series of a metric with too many label sets.",
            labels=["metric"],
        )
        for metric in self._store.metrics():
            name = [metric.entry.name]
            series.add_metric(name, len(metric.series))
            last.add_metric(name, metric.last_message)
            folded.add_metric(name, metric.folded)
        yield from (series, last, folded)
