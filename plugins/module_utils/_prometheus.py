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

from ._exposition import TEXT_FORMAT, Exposition, ExpositionError, parse
from ._http import Answer, Server, Unreadable
from ._units import duration

T = t.TypeVar("T")

# The note of who looks at metrics to judge them, and does not use them; Prometheus logs a query with its comments.
AUDIT = "njord.telemetry audit"


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
class Result:
    """What a query gave.

    :param kind: ``scalar``, ``string``, ``vector`` or ``matrix``.
    :param series: in the server's order; those of a scalar or a vector have one point.
    :param text: of a string.
    :param histograms: series of native histograms, which have no plain number and are not among ``series``.
    :param warnings: what the server says beside its answer, like ``infos``: that it is not whole, among others.
    """

    kind: str
    series: list[Series]
    text: str
    histograms: int
    warnings: list[str]
    infos: list[str]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A recording or alert rule and how its last evaluation went.

    :param kind: ``alerting`` or ``recording``.
    :param hold: seconds the expression must be true before the alert fires (``for``).
    :param keep: seconds the alert goes on firing once the expression is false (``keep_firing_for``).
    :param evaluated: unix seconds of its last evaluation; None where it never was.
    :param took: seconds of its last evaluation.
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
    took: float = 0.0


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
    """An active scrape target.

    :param health: ``up``, ``down`` or ``unknown`` (not scraped yet).
    :param scraped: unix seconds of its last scrape; None where it was not scraped yet.
    :param interval: seconds from scrape to scrape; ``timeout`` how long one may take. 0 where the server does not say.
    """

    labels: dict[str, str]
    pool: str
    url: str
    health: str
    error: str
    scraped: float | None = None
    interval: float = 0.0
    timeout: float = 0.0


@dataclasses.dataclass(frozen=True)
class Discovery:
    """What was discovered.

    :param dropped: labels as they were discovered of the targets that relabelling dropped, ``job`` among them; a
        server may be told to keep none of them.
    :param dropped_counts: how many were dropped, by scrape pool.
    """

    active: list[Target]
    dropped: list[dict[str, str]]
    dropped_counts: dict[str, int]


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
    :param note: a comment that its queries carry into the query log; none where it is empty.
    """

    def __init__(self, server: Server, note: str = "") -> None:
        self.server = server
        self.note = note

    def within(self, seconds: float) -> Prometheus:
        """The same one, asked with no more than so many seconds for each exchange."""
        return Prometheus(dataclasses.replace(self.server, timeout=min(self.server.timeout, seconds)), self.note)

    def ready(self) -> Answer:
        """Answers once the write-ahead log is replayed; ``/-/healthy`` says yes long before."""
        return self.server.get("/-/ready")

    def replayed(self) -> tuple[int, int]:
        """How far it is with replaying its write-ahead log: (segments done, segments in all). Answered at any time."""

        def read(data: t.Any) -> tuple[int, int]:
            first, last, current = (int(data[key]) for key in ("min", "max", "current"))
            return max(current - first, 0), max(last - first + 1, 0)

        return self._ask("/api/v1/status/walreplay", read)

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

    def configuration(self) -> str:
        """What it was last told, as YAML with every default; secrets are left out. A part may have been refused."""
        return self._ask("/api/v1/status/config", lambda data: str(data["yaml"]))

    def snapshot(self) -> str:
        """Has the server write all that it holds, the memory too, into ``snapshots/NAME`` of its data; the name.

        It stays until somebody removes it.

        :raises Refused: also where the admin API is off.
        """
        return self._ask("/api/v1/admin/tsdb/snapshot", lambda data: str(data["name"]), post=True)

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        """
        :param time: unix seconds; the server's own now where absent.
        :param lookback: seconds after which a sample counts no more; as the server is set where it is 0.
        """
        parameters = self._instant(expression, time)
        if lookback:
            parameters["lookback_delta"] = f"{round(lookback * 1000)}ms"
        return [
            Sample(series.labels, value, at)
            for series in self._ask_document("/api/v1/query", _numbers, parameters, post=True)
            for at, value in series.points
        ]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """
        :param start: unix seconds, like ``end``; ``step`` in seconds. The server allows 11,000 points a series.
        """
        parameters = self._range(expression, start, end, step)
        return self._ask_document("/api/v1/query_range", _numbers, parameters, post=True)

    def result(self, expression: str, time: float | None, limit: int) -> Result:
        """Of whatever type the expression is, and with what the server says beside it.

        :param limit: series that are wanted at most; 2.x does not know it and gives all.
        """
        parameters = {**self._instant(expression, time), "limit": str(limit)}
        return self._ask_document("/api/v1/query", _result, parameters, post=True)

    def range_result(self, expression: str, start: float, end: float, step: float, limit: int) -> Result:
        """Like :meth:`result`, over a range as :meth:`query_range` has it."""
        parameters = {**self._range(expression, start, end, step), "limit": str(limit)}
        return self._ask_document("/api/v1/query_range", _result, parameters, post=True)

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
        seconds = self.own("prometheus_tsdb_lowest_timestamp_seconds")
        # An empty database says the largest number there is.
        return seconds if seconds < _NEVER else None

    def own(self, metric: str) -> float:
        """Value of a metric without labels that the server has about itself, by its ``/metrics``.

        :raises Unreadable: where it does not say.
        """
        answer = self.server.get("/metrics")
        found = re.search(rf"^{re.escape(metric)} (\S+)$", answer.text, re.MULTILINE)
        if not found:
            raise Unreadable(answer.asked, f"no {metric}", answer.status)
        return _number(found.group(1))

    def own_page(self, names: t.Container[str]) -> Exposition:
        """The server's ``/metrics``, with the samples of these names."""
        return read_page(self.server, "/metrics", names)

    def formatted(self, expression: str) -> str:
        """An expression as the server itself would write it.

        :raises Refused: where it cannot be parsed.
        """
        return self._ask("/api/v1/format_query", str, {"query": expression}, post=True)

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
                Alert(row["labels"], row.get("annotations") or {}, row["state"], moment(row["activeAt"]), row["value"])
                for row in data["alerts"]
            ],
        )

    def targets(self) -> list[Target]:
        return self._ask("/api/v1/targets", _targets, {"state": "active"})

    def discovery(self) -> Discovery:
        """The targets, and what relabelling left of what was discovered."""

        def read(data: t.Any) -> Discovery:
            dropped = [row["discoveredLabels"] for row in data["droppedTargets"] or []]
            return Discovery(_targets(data), dropped, data.get("droppedTargetCounts") or {})

        return self._ask("/api/v1/targets", read, {"state": "any"})

    def pools(self) -> list[str]:
        """Names of the scrape pools; 2.x lists one only once its discovery has said something."""
        return self._ask("/api/v1/scrape_pools", lambda data: _texts(data["scrapePools"]))

    def exposing(self, family: str, limit: int) -> list[dict[str, str]]:
        """Labels of the targets on whose page the family has a type or a help, whatever became of its samples."""
        return self._ask(
            "/api/v1/targets/metadata",
            lambda data: [row["target"] for row in data],
            {"metric": family, "limit": str(limit)},
        )

    def alertmanagers(self) -> list[str]:
        """Addresses to which alerts are sent; a dead one is among them."""
        return self._ask(
            "/api/v1/alertmanagers", lambda data: [row["url"] for row in data["activeAlertmanagers"] or []]
        )

    def _build(self) -> dict[str, str]:
        return self._ask("/api/v1/status/buildinfo", lambda data: {"version": data["version"], **data})

    def _instant(self, expression: str, time: float | None) -> dict[str, str]:
        at = {} if time is None else {"time": f"{time:.3f}"}
        return {"query": self._noted(expression), "timeout": self._timeout(), **at}

    def _range(self, expression: str, start: float, end: float, step: float) -> dict[str, str]:
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return {"query": self._noted(expression), "timeout": self._timeout(), **times}

    def _noted(self, expression: str) -> str:
        return f"{expression} # {self.note}" if self.note else expression

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
        """What ``read`` makes of the ``data`` of an answer."""
        return self._ask_document(path, lambda document: read(document["data"]), parameters, post)

    def _ask_document(
        self, path: str, read: t.Callable[[t.Any], T], parameters: dict[str, str] | None, post: bool
    ) -> T:
        """What ``read`` makes of a whole answer.

        :raises Unreadable: where the answer has another shape.
        """
        answer = self.server.post(path, parameters) if post else self.server.get(path, parameters)
        document = answer.json()
        try:
            return read(document)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise Unreadable(
                answer.asked, f"JSON, but not as the API of Prometheus has it ({error!r})", answer.status
            ) from error


def read_page(server: Server, path: str, names: t.Container[str]) -> Exposition:
    """A page of metrics, asked for as Prometheus does, with the samples of these names; series may come twice.

    :raises HttpError: where there is none; ``Unreadable`` where it is not in the text format.
    """
    answer = server.get(path, accept=TEXT_FORMAT)
    try:
        return parse(answer.body, names, repeated=True)
    except ExpositionError as error:
        raise Unreadable(answer.asked, f"not the text format of Prometheus: {error}", answer.status) from error


# Later than any sample: the year 33658 in unix seconds.
_NEVER = 1e12

_VECTORS = ("vector", "matrix")
_HEAD_TABLES = {
    "series_by_metric": "seriesCountByMetricName",
    "values_by_label": "labelValueCountByLabelName",
    "bytes_by_label": "memoryInBytesByLabelName",
    "series_by_pair": "seriesCountByLabelValuePair",
}


def _result(document: t.Any) -> Result:
    kind, rows = document["data"]["resultType"], document["data"]["result"]
    text, found = "", []
    if kind == "string":
        text = str(rows[1])
    elif kind == "scalar":
        found = [Series({}, _points([rows]))]
    else:
        found = [
            Series(row["metric"], _points(row["values"] if kind == "matrix" else [row["value"]]))
            for row in rows
            if "values" in row or "value" in row
        ]
    histograms = sum(1 for row in rows if "histogram" in row or "histograms" in row) if kind in _VECTORS else 0
    return Result(kind, found, text, histograms, *(_texts(document.get(key) or []) for key in ("warnings", "infos")))


def _numbers(document: t.Any) -> list[Series]:
    result = _result(document)
    if result.kind == "string" or result.histograms:
        raise ValueError("a string or native histograms, where numbers were asked for")
    return result.series


def _points(pairs: t.Any) -> list[tuple[float, float]]:
    return [(float(at), _number(value)) for at, value in pairs]


def _targets(data: t.Any) -> list[Target]:
    return [
        Target(
            labels=row["labels"],
            pool=row["scrapePool"],
            url=row["scrapeUrl"],
            health=row["health"],
            error=row.get("lastError", ""),
            scraped=moment(row["lastScrape"]) if "lastScrape" in row else None,
            interval=duration(row.get("scrapeInterval", "0")),
            timeout=duration(row.get("scrapeTimeout", "0")),
        )
        for row in data["activeTargets"]
    ]


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
        evaluated=moment(row["lastEvaluation"]),
        took=float(row.get("evaluationTime", 0)),
    )


def _selection(selector: str, start: float, end: float) -> dict[str, str]:
    return {"start": f"{start:.3f}", "end": f"{end:.3f}", **({"match[]": selector} if selector else {})}


def _texts(data: t.Any) -> list[str]:
    return [str(text) for text in data]


def moment(text: str) -> float | None:
    """Unix seconds of RFC 3339 as Go writes it: up to nine decimals, the year 1 for never."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise ValueError(f"{text!r} is no time")
    whole, fraction, zone = found.groups()
    if whole.startswith("0001-"):
        return None
    stamp = datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return stamp.timestamp() + float(fraction or 0)


def _number(text: str) -> float:
    """A value as the API writes it: ``NaN``, ``+Inf`` and ``-Inf`` among them."""
    return {"NaN": math.nan, "+Inf": math.inf, "-Inf": -math.inf}.get(text) or float(text)


def plain(value: float) -> float | str:
    """A value that JSON can hold: what is no finite number as the API writes it, ``NaN``, ``+Inf`` or ``-Inf``."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"
