# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The way of a metric before it is scraped: the code that emits it, the bus, the exporter that serves it.

Redis is asked itself where it is named; else what the exporter says of the bus has to do, in its own metrics, read
from its page where it is named, or as Prometheus holds them.

Source: the system's own documentation of its bus: services publish only where NJORD_ENABLE_METRICS=1 is set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import typing as t
from pathlib import Path

from ..._finding import Finding
from ..._http import HttpError
from ..._redis import Redis
from ..._units import human_duration
from .. import not_known

TOPIC = "telemetry.metrics"
VARIABLE = "NJORD_ENABLE_METRICS"
OWN = "njord_exporter_"
# What is read of the exporter's own metrics.
OWN_NAMES = tuple(
    OWN + name
    for name in (
        "build_info",
        "bus_connected",
        "last_message_timestamp_seconds",
        "messages_total",
        "series",
        "metric_last_message_timestamp_seconds",
        "folded_messages_total",
    )
)
# A bus of trading services is never still for so long, in seconds; as in ``_health``.
SILENCE = 300.0
# What is looked at of a loud bus.
MESSAGES = 2000
# Units of this collection: they listen or clean up, and publish nothing.
OURS = (
    "njord-prometheus-exporter",
    "njord-metric-aggregator",
    "njord-dashboard",
    "njord-backup",
    "njord-metrics-cleanup",
)
_UNIT = re.compile(r"/(njord-[^/]+)\.service")
_ENABLE = (
    f"Set {VARIABLE}=1 in the environment of the trading services (systemctl edit njord-NAME: "
    f"Environment={VARIABLE}=1) and restart them."
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A metric of the catalogue. :param source: ``emitted``, or who else names it: ``catalog``, ``dashboard``."""

    name: str
    source: str
    type: str = ""

    @property
    def series(self) -> frozenset[str]:
        """Names of the series that it has."""
        if self.type in ("histogram", "summary"):
            return frozenset(f"{self.name}{part}" for part in ("_bucket", "_count", "_sum", ""))
        return frozenset((self.name,))


def read_catalogue(rows: t.Iterable[t.Mapping[str, t.Any]]) -> list[Entry]:
    """Of the metrics as ``catalogue.yaml`` has them; other keys are not used.

    :raises ValueError: names the row that lacks something.
    """
    found = []
    for row in rows:
        if not row.get("name") or not row.get("source"):
            raise ValueError(f"{row!r} lacks name or source; emitted is one that is published")
        found.append(Entry(str(row["name"]), str(row["source"]), str(row.get("type") or "")))
    return found


@dataclasses.dataclass(frozen=True)
class Exporter:
    """What the exporter says of itself.

    :param values: (labels, value) by the names of :data:`OWN_NAMES`.
    :param asked: where that was read.
    """

    values: t.Mapping[str, t.Sequence[tuple[dict[str, str], float]]]
    asked: str

    def value(self, name: str, **labels: str) -> float | None:
        for found, value in self.values.get(OWN + name, ()):
            if all(found.get(label) == text for label, text in labels.items()):
                return value
        return None

    @property
    def refused(self) -> dict[str, float]:
        """Messages that were not taken, by reason."""
        rows = self.values.get(f"{OWN}messages_total", ())
        return {labels.get("result", ""): value for labels, value in rows if value and labels["result"] != "accepted"}

    def has(self, metric: str) -> bool:
        return self.value("series", metric=metric) is not None


class Publisher:
    """Asks link by link; :meth:`first` gives the first that fails.

    :param redis: where the bus is; None where it is not named.
    :param exporter: reads the exporter's own metrics; None where it is not named.
    :param listen: seconds for which the bus is listened to.
    :param catalogue: the metrics that are known by name.
    :param note: is told of each link that was asked: its check, and what was good about it.
    """

    def __init__(
        self,
        redis: Redis | None,
        exporter: t.Callable[[], Exporter] | None,
        topic: str,
        listen: float,
        catalogue: t.Sequence[Entry],
        note: t.Callable[[str, str], None],
    ) -> None:
        self.redis = redis
        self.read_exporter = exporter
        self.topic = topic
        self.listen = listen
        self.note = note
        self._entries = {name: entry for entry in catalogue for name in entry.series}
        self._messages: list[bytes] = []

    def entry(self, series: str) -> Entry | None:
        """The metric of the catalogue that a series is a part of."""
        return self._entries.get(series)

    @property
    def names(self) -> list[str]:
        """Names of the metrics that the catalogue says are emitted."""
        return sorted({entry.name for entry in self._entries.values() if entry.source == "emitted"})

    def first(self, series: str, stored: Exporter | None) -> Finding | None:
        """The first link that fails before the exporter's page; None where none does, or none could be asked.

        :param series: the metric that is missing; empty for the bus as such.
        :param stored: what Prometheus holds of the exporter's own metrics; None where it holds none.
        """
        subject = series or self.topic
        entry = self.entry(series)
        metric = entry.name if entry else _published(series)
        exporter, failed = stored, None
        if self.read_exporter:
            try:
                exporter = self.read_exporter()
            except HttpError as error:
                failed = not_known("scrape.exporter", subject, error)
                failed = dataclasses.replace(
                    failed,
                    severity="warning",
                    summary=f"{subject}: the exporter does not give its page: {error}.",
                    remedy="ansible-playbook service-health.yml; systemctl status njord-prometheus-exporter",
                )
        if entry and entry.source != "emitted" and not (exporter and exporter.has(metric)):
            return self._not_emitted(series, entry)
        if not series.startswith("njord_") and series and not entry:
            # It does not come over the bus.
            return None
        return self._bus(subject, exporter) or failed or self._served(subject, metric, exporter)

    def _not_emitted(self, series: str, entry: Entry) -> Finding:
        summary = (
            f"{series}: no part of this version of Njord publishes it, it is only named in its {entry.source}. "
            "Nothing is broken, and nothing will come."
        )
        remedy = "Take what is asked from the journals, or from a metric that is emitted; the catalogue lists them."
        return Finding("scrape.emitted", series, "info", summary, {"source": entry.source}, remedy)

    def _bus(self, subject: str, exporter: Exporter | None) -> Finding | None:
        """What is wrong with the bus, seen from Redis itself or, where that is not named, from the exporter."""
        last = exporter.value("last_message_timestamp_seconds") if exporter else None
        silent = None if last is None else time.time() - last
        evidence: dict[str, t.Any] = {"topic": self.topic}
        if exporter:
            evidence.update(exporter=exporter.asked, last_message=last or None)
        if self.redis:
            try:
                subscribers, self._messages = self._listened(self.redis)
            except HttpError as error:
                found = not_known("scrape.bus", subject, error)
                summary = f"{subject}: the bus cannot be used: {str(error).rstrip('.')}."
                remedy = (
                    "redis-cli -u URL ping; systemctl status redis-server\nOn the host of Redis. Give "
                    "redis_password_file where it wants a password."
                )
                return dataclasses.replace(found, severity="warning", summary=summary, remedy=remedy)
            evidence.update(redis=self.redis.url, subscribers=subscribers, messages=len(self._messages))
            self.note("scrape.bus", f"{self.redis.url} answers, {subscribers} subscribed to {self.topic}")
            if not self._messages and (silent is None or silent > SILENCE):
                return self._silent(subject, exporter, last, evidence)
            if self._messages:
                self.note("scrape.publisher", f"{len(self._messages)} messages within {human_duration(self.listen)}")
            if not subscribers:
                summary = self._about(
                    subject,
                    f"services publish on {self.topic}, but nobody is subscribed there: the exporter is down, or uses "
                    "another Redis.",
                )
                return self._exporter(subject, summary, evidence)
        if exporter and exporter.value("bus_connected") == 0:
            summary = f"{subject}: the exporter is not subscribed to the bus, so that nothing of it is served."
            return self._exporter(subject, summary, evidence)
        if exporter and silent is not None and silent > SILENCE and not self._messages:
            return self._silent(subject, exporter, last, evidence)
        return None

    def _exporter(self, subject: str, summary: str, evidence: dict[str, t.Any]) -> Finding:
        remedy = (
            "journalctl -u njord-prometheus-exporter -n 100\n"
            "It says why; compare redis.url in its base.yaml with that of the trading services."
        )
        return Finding("scrape.exporter", subject, "warning", summary, evidence, remedy)

    def _about(self, subject: str, text: str) -> str:
        """A sentence about what was asked; one that names the topic begins with it only where a metric was asked."""
        return text[0].upper() + text[1:] if subject == self.topic else f"{subject}: {text}"

    def _listened(self, redis: Redis) -> tuple[int, list[bytes]]:
        with redis.connection() as connection:
            return connection.subscribers(self.topic), connection.listen(self.topic, self.listen, MESSAGES)

    def _silent(
        self, subject: str, exporter: Exporter | None, last: float | None, evidence: dict[str, t.Any]
    ) -> Finding:
        services = publishers()
        without = sorted(name for name, enabled in services.items() if not enabled)
        evidence["services"] = services
        said = f"nobody publishes on {self.topic}"
        if self.redis:
            said += f", no message within {human_duration(self.listen)}"
        if last:
            said += f", the last one {human_duration(time.time() - last)} ago"
        elif exporter:
            said += ", none since the exporter started"
        if without:
            names = ", ".join(without[:5])
            said += f"; {len(without)} of {len(services)} services on this host run without {VARIABLE}=1: {names}"
        # A few seconds without a message prove nothing, unless somebody listened for longer.
        severity = "warning" if exporter or without else "unknown"
        return Finding("scrape.publisher", subject, severity, self._about(subject, f"{said}."), evidence, _ENABLE)

    def _served(self, subject: str, metric: str, exporter: Exporter | None) -> Finding | None:
        """Whether the exporter has got this metric."""
        if not metric or exporter is None or f"{OWN}messages_total" not in exporter.values:
            return None
        if exporter.has(metric):
            self.note("scrape.exporter", f"the exporter has {metric}")
            return None
        evidence: dict[str, t.Any] = {"asked": exporter.asked, "refused_messages": exporter.refused}
        if metric in self._published():
            summary = f"{subject}: it is published, but the exporter does not take it"
            remedy = (
                "journalctl -u njord-prometheus-exporter | grep message_rejected\nThat names what is wrong with it."
            )
            if exporter.refused:
                summary += " (" + ", ".join(f"{reason} {count:.0f}" for reason, count in exporter.refused.items()) + ")"
            return Finding("scrape.exporter", subject, "warning", f"{summary}.", evidence, remedy)
        count = exporter.value("messages_total", result="accepted") or 0.0
        summary = (
            f"{subject}: the exporter took {count:.0f} messages since it started, and none of {metric}: its publisher "
            "has sent nothing yet."
        )
        remedy = (
            "A counter begins with the first event. Where there were events, see whether the service that emits it "
            f"runs, and has {VARIABLE}=1."
        )
        return Finding("scrape.publisher", subject, "warning", summary, evidence, remedy)

    def _published(self) -> set[str]:
        """Names among the messages that were heard."""
        names = set()
        for message in self._messages:
            with contextlib.suppress(ValueError, AttributeError):
                names.add(str(json.loads(message).get("name")))
        return names


def folded(exporter: Exporter | None, metric: str) -> float:
    """Messages of a metric that the exporter put into its overflow series."""
    return (exporter and exporter.value("folded_messages_total", metric=metric)) or 0.0


def publishers(proc: Path = Path("/proc")) -> dict[str, bool]:
    """The services of Njord that run on this host, and whether their environment lets them publish.

    Those whose environment may not be read are left out.
    """
    found: dict[str, bool] = {}
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            unit = _UNIT.search((directory / "cgroup").read_text("utf-8", "replace"))
            if unit and unit[1] not in OURS:
                environment = (directory / "environ").read_bytes().split(b"\0")
                enabled = f"{VARIABLE}=1".encode() in environment
                found[unit[1]] = found.get(unit[1], False) or enabled
    return found


def _published(series: str) -> str:
    """The metric that a series that no catalogue names may have been published as."""
    return next((series[: -len(part)] for part in ("_bucket", "_count", "_sum") if series.endswith(part)), series)
