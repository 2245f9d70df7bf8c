# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The HTTP API of Prometheus as typed calls, and as the typed errors of ``_http``.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import typing as t
import urllib.parse

from ._http import Answer, Server, Unreadable

T = t.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One value of one series. :param time: unix seconds."""

    labels: dict[str, str]
    value: float
    time: float


@dataclasses.dataclass(frozen=True)
class Series:
    """One series over a range. :param points: (unix seconds, value), in order of time."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A recording or alert rule and how its last evaluation went.

    :param kind: ``alerting`` or ``recording``.
    :param hold: seconds the expression must be true before the alert fires (``for``).
    :param keep: seconds the alert goes on firing once the expression is false (``keep_firing_for``).
    :param evaluated: unix seconds of its last evaluation; None where it never was.
    :param state: ``firing``, ``pending``, ``inactive``, or empty for a recording rule.
    """

    name: str
    kind: str
    query: str
    group: str
    file: str
    health: str
    error: str
    hold: float
    keep: float
    state: str
    labels: dict[str, str]
    annotations: dict[str, str]
    interval: float
    evaluated: float | None


@dataclasses.dataclass(frozen=True)
class Alert:
    """An alert that is active now.

    :param since: unix seconds of the first evaluation that was true; None where the server does not say.
    """

    labels: dict[str, str]
    annotations: dict[str, str]
    state: str
    since: float | None
    value: str


@dataclasses.dataclass(frozen=True)
class Target:
    """An active scrape target. :param health: ``up``, ``down`` or ``unknown`` (not scraped yet)."""

    labels: dict[str, str]
    pool: str
    url: str
    health: str
    error: str


@dataclasses.dataclass(frozen=True)
class Head:
    """Statistics of the head block: what is in memory now, not what is on disk.

    Each table holds (name, count), the largest first.
    """

    series: int
    chunks: int
    min_time: int
    max_time: int
    series_by_metric: list[tuple[str, int]]
    values_by_label: list[tuple[str, int]]
    bytes_by_label: list[tuple[str, int]]
    series_by_pair: list[tuple[str, int]]


class Prometheus:
    """One server.

    :param server: where it is, and who asks.
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    def ready(self) -> Answer:
        """Answers once the write-ahead log is replayed; ``/-/healthy`` says yes long before."""
        return self.server.get("/-/ready")

    def backend(self) -> str:
        """``Prometheus`` or ``VictoriaMetrics``; the latter answers empty lists where it has no such thing.

        :raises Unreadable: where it is neither.
        """
        build = self._build()
        if "goVersion" in build:
            return "Prometheus"
        page = self.server.get("/metrics")
        if "vm_app_version" in page.text:
            return "VictoriaMetrics"
        raise Unreadable(page.asked, f"it speaks the API of Prometheus but is something else: {build}")

    def version(self) -> str:
        return self._build()["version"]

    def flags(self) -> dict[str, str]:
        return self._ask("/api/v1/status/flags", dict)

    def runtime(self) -> dict[str, t.Any]:
        return self._ask("/api/v1/status/runtimeinfo", dict)

    def snapshot(self) -> str:
        """Has the server write all that it holds, the memory too, into ``snapshots/NAME`` of its data; the name.

        It stays until somebody removes it.

        :raises Refused: also where the admin API is off.
        """
        return self._ask("/api/v1/admin/tsdb/snapshot", lambda data: str(data["name"]), post=True)

    def query(self, expression: str, time: float | None = None) -> list[Sample]:
        """
        :param time: unix seconds; the server's own now where absent.
        """
        parameters = {"query": expression, "timeout": self._timeout()}
        if time is not None:
            parameters["time"] = f"{time:.3f}"

        def read(data: t.Any) -> list[Sample]:
            if data["resultType"] == "scalar":
                at, value = data["result"]
                return [Sample({}, _number(value), float(at))]
            return [Sample(row["metric"], _number(row["value"][1]), float(row["value"][0])) for row in data["result"]]

        return self._ask("/api/v1/query", read, parameters, post=True)

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """
        :param start: unix seconds, like ``end``; ``step`` in seconds. The server allows 11,000 points a series.
        """
        parameters = {
            "query": expression,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step:.3f}",
            "timeout": self._timeout(),
        }

        def read(data: t.Any) -> list[Series]:
            return [
                Series(row["metric"], [(float(at), _number(value)) for at, value in row["values"]])
                for row in data["result"]
            ]

        return self._ask("/api/v1/query_range", read, parameters, post=True)

    def label_names(self, selector: str, start: float, end: float) -> list[str]:
        """Names of the labels that the selected series have, from the index alone; blocks count as a whole."""
        return self._ask("/api/v1/labels", _texts, _selection(selector, start, end))

    def label_values(self, label: str, selector: str, start: float, end: float, limit: int = 0) -> list[str]:
        """Values of one label, from the index alone; blocks that touch the range count as a whole.

        :param selector: of which series; of all where empty.
        :param limit: at most so many; 0 for all.
        """
        parameters = _selection(selector, start, end)
        # 2.53 refuses the 0 that its documentation allows.
        if limit:
            parameters["limit"] = str(limit)
        return self._ask(f"/api/v1/label/{urllib.parse.quote(label, safe='')}/values", _texts, parameters)

    def oldest(self) -> float | None:
        """Unix seconds of the oldest sample that is stored, by the server's own ``/metrics``; None where it has none.

        :raises Unreadable: where it does not say.
        """
        answer = self.server.get("/metrics")
        found = re.search(r"^prometheus_tsdb_lowest_timestamp_seconds (\S+)$", answer.text, re.MULTILINE)
        if not found:
            raise Unreadable(answer.asked, "no prometheus_tsdb_lowest_timestamp_seconds", answer.status)
        seconds = _number(found.group(1))
        # An empty database says the largest number there is.
        return seconds if seconds < _NEVER else None

    def head(self, limit: int) -> Head:
        """
        :param limit: rows of each table; the server gives 10 unless told.
        """

        def read(data: t.Any) -> Head:
            stats = data["headStats"]
            tables = {
                name: [(row["name"], int(row["value"])) for row in data.get(key) or []]
                for name, key in _HEAD_TABLES.items()
            }
            return Head(
                series=int(stats["numSeries"]),
                chunks=int(stats["chunkCount"]),
                min_time=int(stats["minTime"]),
                max_time=int(stats["maxTime"]),
                **tables,
            )

        return self._ask("/api/v1/status/tsdb", read, {"limit": str(limit)})

    def rules(self) -> list[Rule]:
        return self._ask(
            "/api/v1/rules",
            lambda data: [_rule(group, row) for group in data["groups"] for row in group["rules"]],
        )

    def alerts(self) -> list[Alert]:
        return self._ask(
            "/api/v1/alerts",
            lambda data: [
                Alert(row["labels"], row.get("annotations") or {}, row["state"], _moment(row["activeAt"]), row["value"])
                for row in data["alerts"]
            ],
        )

    def targets(self) -> list[Target]:
        return self._ask(
            "/api/v1/targets",
            lambda data: [
                Target(row["labels"], row["scrapePool"], row["scrapeUrl"], row["health"], row.get("lastError", ""))
                for row in data["activeTargets"]
            ],
            {"state": "active"},
        )

    def alertmanagers(self) -> list[str]:
        """Addresses to which alerts are sent; a dead one is among them."""
        return self._ask(
            "/api/v1/alertmanagers", lambda data: [row["url"] for row in data["activeAlertmanagers"] or []]
        )

    def _build(self) -> dict[str, str]:
        return self._ask("/api/v1/status/buildinfo", lambda data: {"version": data["version"], **data})

    def _timeout(self) -> str:
        # The server gives up before we do, and says why.
        return f"{max(self.server.timeout - 0.5, 0.5):g}"

    def _ask(
        self,
        path: str,
        read: t.Callable[[t.Any], T],
        parameters: dict[str, str] | None = None,
        post: bool = False,
    ) -> T:
        """What ``read`` makes of the ``data`` of an answer.

        :raises Unreadable: where the answer has another shape.
        """
        answer = self.server.post(path, parameters) if post else self.server.get(path, parameters)
        document = answer.json()
        try:
            return read(document["data"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise Unreadable(
                answer.asked, f"JSON, but not as the API of Prometheus has it ({error!r})", answer.status
            ) from error


# Later than any sample: the year 33658 in unix seconds.
_NEVER = 1e12

_HEAD_TABLES = {
    "series_by_metric": "seriesCountByMetricName",
    "values_by_label": "labelValueCountByLabelName",
    "bytes_by_label": "memoryInBytesByLabelName",
    "series_by_pair": "seriesCountByLabelValuePair",
}


def _rule(group: t.Any, row: t.Any) -> Rule:
    return Rule(
        name=row["name"],
        kind=row["type"],
        query=row["query"],
        group=group["name"],
        file=group["file"],
        health=row.get("health", "unknown"),
        error=row.get("lastError", ""),
        hold=float(row.get("duration", 0)),
        keep=float(row.get("keepFiringFor", 0)),
        state=row.get("state", ""),
        labels=row.get("labels") or {},
        annotations=row.get("annotations") or {},
        interval=float(group.get("interval", 0)),
        evaluated=_moment(row["lastEvaluation"]),
    )


def _selection(selector: str, start: float, end: float) -> dict[str, str]:
    return {"start": f"{start:.3f}", "end": f"{end:.3f}", **({"match[]": selector} if selector else {})}


def _texts(data: t.Any) -> list[str]:
    return [str(text) for text in data]


def _moment(text: str) -> float | None:
    """Unix seconds of RFC 3339 as Go writes it: up to nine decimals, the year 1 for never."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise ValueError(f"{text!r} is no time")
    whole, fraction, zone = found.groups()
    if whole.startswith("0001-"):
        return None
    moment = datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return moment.timestamp() + float(fraction or 0)


def _number(text: str) -> float:
    """A value as the API writes it: ``NaN``, ``+Inf`` and ``-Inf`` among them."""
    return {"NaN": math.nan, "+Inf": math.inf, "-Inf": -math.inf}.get(text) or float(text)
