# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether a service is short of memory, what takes it, and what each of the runbook's remedies would gain.

What counts is what a service *holds*, which only it can give back. Pages of files are the kernel's to take: they are no
leak, and freeing them is no gain.

Sources: the runbook's "Memory Issues"; https://prometheus.io/docs/prometheus/latest/storage/ for the head block and its
chunks, of which the open one of each series is in memory and the others are files that are mapped.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t
from pathlib import Path

from ..._finding import Finding
from ..._http import HttpError
from ..._prometheus import Head, Prometheus, Target
from ..._resources import Kill, Service, Usage, unit_name
from ..._units import human_duration, human_size
from .. import part
from ..query.query_log_files import read as read_log
from ..query.slow_queries import log_file
from ..scrape.publisher import Entry
from ..series.label_sets import families
from .cause import Cause, Remedy, Sign, figures, is_prometheus, not_published, remedies, selector, targets_of, verdict
from .trend import Points, Trend, lives, trend

CHECK = "runtime.memory"
METRIC = "njord_memory_usage_mb"
MEBIBYTE = 1024 * 1024
# Njord's own services are held against its thresholds; what Prometheus may use is for its limit to say.
OURS = "njord-"
# How near to a limit is too near, and how little the host may have left.
NEAR_WARNING, NEAR_CRITICAL = 0.9, 0.97
LEFT_WARNING, LEFT_CRITICAL = 0.1, 0.05
# Percent of a minute in which somebody waited for memory.
PRESSURE_WARNING = 10.0
# No growth is told for longer ahead than so many times what was seen of it: a young server always grows.
AHEAD = 4.0
# Prometheus keeps a sample of a running query so, a time and a value.
SAMPLE_BYTES = 16
# A query that needs this share of what is held is one to look at.
QUERY_SHARE = 0.2
# Of a growth of memory, the share that the head has to explain.
HEAD_SHARE = 0.5
# A head that is one metric to this share is that metric's.
LARGEST_SHARE = 0.3
# A series takes some KiB. Where the heap is more than this for each, it is not the series that fill it.
SERIES_BYTES = 16 * 1024
# Prometheus ends a chunk after so many samples.
CHUNK_SAMPLES = 120
AFTER_START = 900.0
# Between the start that systemd saw, and what the process says of it.
START_SECONDS = 3.0
POINTS = 240
HEAD_ROWS = 1000
LOG_BYTES = 256 * MEBIBYTE
OWN = (
    "prometheus_tsdb_head_series",
    "prometheus_tsdb_head_chunks",
    "prometheus_tsdb_head_chunks_storage_size_bytes",
    "prometheus_tsdb_storage_blocks_bytes",
    "prometheus_tsdb_symbol_table_size_bytes",
    "prometheus_tsdb_data_replay_duration_seconds",
    "prometheus_tsdb_compaction_chunk_size_bytes_sum",
    "prometheus_tsdb_compaction_chunk_size_bytes_count",
    "go_memstats_heap_inuse_bytes",
    "go_memstats_sys_bytes",
    "go_memstats_heap_released_bytes",
)


@dataclasses.dataclass(frozen=True)
class Question:
    """
    :param window: seconds of the past over which growth is told, and in which a kill counts.
    :param warning, critical: bytes that a service of Njord may hold.
    :param catalogue: the metrics that are known by name.
    """

    window: float
    warning: int
    critical: int
    catalogue: t.Sequence[Entry] = ()


@dataclasses.dataclass(frozen=True)
class History:
    """What Prometheus knows of one service.

    :param points: bytes that it held, (unix seconds, bytes); those of Go without what was given back.
    :param starts: unix seconds of its start, as it said itself at each time.
    :param head: series in its head, of Prometheus alone.
    :param missing: a clause that says why there is none; empty where there is one.
    """

    points: Points = ()
    starts: Points = ()
    head: Points = ()
    query: str = ""
    missing: str = ""


class Look:
    """One look at the memory of some services; :meth:`findings` takes it."""

    def __init__(self, client: Prometheus, usage: Usage, question: Question) -> None:
        self.client = client
        self.usage = usage
        self.question = question
        self.now = time.time()
        # A trend over less proves nothing.
        self.shortest = question.window / 12
        self._own: dict[str, float] = {}
        self._head: Head | None = None
        self._targets: list[Target] = []
        self._unasked = ""
        self._query: Cause | None = None

    def findings(self) -> list[Finding]:
        server = part(CHECK, self.client.server.url, self._ask)
        found = [self._of_service(service) for service in self.usage.services]
        return [
            *found,
            self._of_host(),
            *([] if server else part(CHECK, METRIC, self._of_metric)),
            *server,
            self._remedies(),
        ]

    def _ask(self) -> list[Finding]:
        try:
            self._targets = self.client.targets()
            page = self.client.own_page(OWN)
            self._own = {name: rows[0][1] for name, rows in page.kept.items() if rows}
            self._head = self.client.head(HEAD_ROWS)
        except HttpError as error:
            self._unasked = str(error)
            raise
        return []

    # One service

    def _of_service(self, service: Service) -> Finding:
        evidence = figures(service, self.usage)
        if not service.kind:
            summary = f"{service.name}: not known, {service.state}."
            remedy = "Name units or containers that are there: systemctl list-units 'njord-*' 'prometheus*'; docker ps."
            return Finding(CHECK, service.name, "unknown", summary, evidence, remedy)
        history = self._history(service)
        parts = lives(history.points, history.starts)
        told = next((one for one in (trend(life, self.shortest) for life in reversed(parts)) if one), None)
        if told:
            evidence["trend"] = dataclasses.asdict(told)
        chart = self._chart(service, history, told)
        if chart:
            evidence["chart"] = chart
        if history.query:
            evidence["query"] = history.query
        kills = self._kills(service)
        evidence["kills"] = [dataclasses.asdict(kill) for kill in kills]
        signs = self._signs(service, kills, told)
        if not signs:
            return self._well(service, history, told, evidence)
        return verdict(CHECK, service.name, signs, self._causes(service, history, told, kills), evidence)

    def _well(self, service: Service, history: History, told: Trend | None, evidence: dict[str, t.Any]) -> Finding:
        if not service.runs:
            return self._stopped(service, evidence)
        said = f"{service.name} holds {human_size(service.held)}"
        if service.limit:
            said += f" of at most {human_size(service.limit.bytes)}"
        if told:
            if told.is_steady_growth:
                said += f" and grows, by {human_size(told.slope * 60)} a minute over {human_duration(told.seconds)}"
                said += ", too little to reach anything soon"
            else:
                said += f", without steady growth over {human_duration(told.seconds)}"
        else:
            said += f"; whether it grows is not known: {history.missing or 'it has not run for long enough'}"
        if not service.is_limit_enforced:
            said += (
                f". Its limit of {human_size(service.configured_limit)} has no effect here: the kernel knows of none"
            )
            remedy = "See that the host has the memory controller of cgroup v2: cat /sys/fs/cgroup/cgroup.controllers."
            return Finding(CHECK, service.name, "warning", f"{said}.", evidence, remedy)
        if service.restarts:
            said += f". It was restarted {service.restarts} times, as far as can be seen not for its memory"
            return Finding(CHECK, service.name, "info", f"{said}.", evidence)
        return Finding(CHECK, service.name, "ok", f"{said}.", evidence)

    def _stopped(self, service: Service, evidence: dict[str, t.Any]) -> Finding:
        remedy = "ansible-playbook service-health.yml"
        if service.result == "signal" and self.usage.host.kills is None and self.usage.host.oom_kills != 0:
            summary = (
                f"{service.name} does not run: {service.state}. Whether the kernel killed it for its memory is not "
                f"known: {self.usage.host.kills_unknown}."
            )
            return Finding(CHECK, service.name, "unknown", summary, evidence, f"{remedy}\n{_LOG}")
        summary = f"{service.name} does not run, as far as can be seen not for its memory: {service.state}."
        return Finding(CHECK, service.name, "warning", summary, evidence, remedy)

    def _kills(self, service: Service) -> list[Kill]:
        since = self.now - self.question.window
        return [kill for kill in self.usage.host.kills or () if kill.is_of(service) and kill.at >= since]

    def _signs(self, service: Service, kills: t.Sequence[Kill], told: Trend | None) -> list[Sign]:
        signs = []
        if kills:
            often = f"{len(kills)} times, last " if len(kills) > 1 else ""
            signs.append(
                Sign(
                    "critical",
                    f"was killed by the kernel for its memory {often}{human_duration(self.now - kills[-1].at)} ago"
                    f"{self._by_limit(service, kills[-1])}",
                )
            )
        elif service.result == "oom-kill" or service.oom_kills:
            signs.append(Sign("critical", f"was killed for its memory ({self._at_limit(service)})"))
        limit = service.limit
        if limit and limit.share >= NEAR_WARNING:
            severity = "critical" if limit.share >= NEAR_CRITICAL and limit.kind == "memory.max" else "warning"
            whose = "its limit" if limit.cgroup == service.cgroup else f"the limit of {limit.cgroup}"
            signs.append(Sign(severity, f"has {limit.share:.0%} of {whose} of {human_size(limit.bytes)} in use"))
        if service.name.startswith(OURS) and service.held > self.question.warning:
            severity = "critical" if service.held > self.question.critical else "warning"
            most = self.question.critical if severity == "critical" else self.question.warning
            signs.append(Sign(severity, f"holds {human_size(service.held)}, more than {human_size(most)}"))
        if told and told.is_steady_growth and service.runs:
            until = told.until(self._ceiling(service)[0])
            if until is not None and until <= AHEAD * told.seconds:
                signs.append(Sign("warning", f"grows by {human_size(told.slope * 60)} a minute"))
        return signs

    def _by_limit(self, service: Service, kill: Kill) -> str:
        if not kill.limited:
            return ", when the host had no memory left"
        had = f", with {human_size(kill.anonymous)}" if kill.anonymous is not None else ""
        if service.configured_limit and f"{kill.limited}/".endswith(f"/{unit_name(service.name)}/"):
            return f"{had}, at its limit of {human_size(service.configured_limit)}"
        return f"{had}, at the limit of {kill.limited}"

    def _at_limit(self, service: Service) -> str:
        if service.configured_limit:
            return f"its limit is {human_size(service.configured_limit)}"
        return "it has no limit of its own: one above it, or the host's memory, was used up"

    def _ceiling(self, service: Service) -> tuple[float, str]:
        """What it can hold at most, and what that is."""
        if service.limit:
            return service.limit.bytes, f"its limit of {human_size(service.limit.bytes)}"
        if service.configured_limit and service.is_limit_enforced:
            return service.configured_limit, f"its limit of {human_size(service.configured_limit)}"
        left = service.held + self.usage.host.available
        return left, f"all that the host has left, {human_size(self.usage.host.available)}"

    # What Prometheus remembers

    def _history(self, service: Service) -> History:
        if self._unasked:
            return History(missing=f"Prometheus was not asked: {self._unasked}")
        own = f'{METRIC}{{service="{_short(service.name)}"}}'
        try:
            targets = targets_of(service, self._targets, self.client) or self._once(service)
            if not targets:
                points = self._range(f"{own} * {MEBIBYTE}")
                return History(
                    points, query=own, missing="" if points else "Prometheus scrapes no metric of its process"
                )
            pick = selector(targets[0])
            go = f"(go_memstats_sys_bytes{pick} - go_memstats_heap_released_bytes{pick})"
            query = f"{go} or process_resident_memory_bytes{pick}"
            points = self._range(query)
            starts = self._range(f"process_start_time_seconds{pick}")
            head = self._range(f"prometheus_tsdb_head_series{pick}") if is_prometheus(service, self.client) else []
        except HttpError as error:
            return History(missing=str(error))
        return History(points, starts, head, query, "" if points else f"Prometheus has no sample of it ({pick})")

    def _once(self, service: Service) -> list[Target]:
        """The target that a service was which listens no more: the one that said it started when the service did."""
        if not service.started:
            return []
        query = f"last_over_time(process_start_time_seconds[{round(self.question.window)}s])"
        same = [
            selector(Target(sample.labels, "", "", "", ""))
            for sample in self.client.query(query)
            if abs(sample.value - service.started) <= START_SECONDS
        ]
        others = [target for one in self.usage.services for target in targets_of(one, self._targets, self.client)]
        found = [target for target in self._targets if selector(target) in same and target not in others]
        return found if len({target.url for target in found}) == 1 else []

    def _range(self, query: str) -> list[tuple[float, float]]:
        start = self.now - self.question.window
        found = self.client.query_range(query, start, self.now, max(self.question.window / POINTS, 1.0))
        return found[0].points if found else []

    def _chart(self, service: Service, history: History, told: Trend | None) -> dict[str, t.Any]:
        if len(history.points) < 2:
            return {}
        lines: list[dict[str, t.Any]] = [
            {"label": "held", "points": [list(point) for point in history.points], "style": "measured"}
        ]
        if told and told.is_steady_growth and service.runs:
            end = history.points[-1][0]
            ahead = min(told.until(self._ceiling(service)[0]) or 0.0, told.seconds)
            forecast = [[end, told.last], [end + ahead, told.last + told.slope * ahead]]
            lines.append({"label": "if it goes on", "points": forecast, "style": "forecast"})
        most = service.limit.bytes if service.limit else service.configured_limit
        limits = [{"label": "limit", "value": most}] if most else []
        title = f"Memory of {service.name}"
        return {"kind": "lines", "title": title, "unit": "bytes", "lines": lines, "limits": limits}

    # Causes

    def _causes(
        self,
        service: Service,
        history: History,
        told: Trend | None,
        kills: t.Sequence[Kill],
    ) -> list[Cause]:
        """In the order in which they are likely, and one hides another."""
        # One that was killed a moment ago does not listen yet.
        if is_prometheus(service, self.client) or unit_name(service.name) == "prometheus.service":
            return [
                self._replay(service, kills),
                self._neighbour(service, told, kills),
                self._of_head(service, history, told),
                self._leak(service, history, told),
                self._of_query(service),
                self._limit(service, history, told),
            ]
        return [
            self._neighbour(service, told, kills),
            self._leak(service, history, told),
            self._limit(service, history, told),
        ]

    def _replay(self, service: Service, kills: t.Sequence[Kill]) -> Cause:
        name = "replay after a start"
        try:
            self.client.ready()
        except HttpError as error:
            if error.status == 503:
                said = "it replays its write-ahead log, for which it needs more than later on"
                return Cause(
                    name, True, said, "Wait until it is ready, and do not restart it: journalctl -fu prometheus"
                )
            return Cause(name, None, f"whether it replays its write-ahead log is not known: {error}")
        took = self._own.get("prometheus_tsdb_data_replay_duration_seconds")
        runs = self.now - service.started
        if kills and service.runs and runs < AFTER_START and took and took > runs / 2:
            said = (
                f"it has just started, and its replay took {human_duration(took)}, for which it needs more than later"
            )
            return Cause(name, True, said, "Give it room to start: raise prometheus_memory_max (role prometheus).")
        return Cause(name, False, f"it is ready, after a replay of {human_duration(took or 0.0)}")

    def _neighbour(self, service: Service, told: Trend | None, kills: t.Sequence[Kill]) -> Cause:
        name, host = "a neighbour", self.usage.host
        by_host = any(not kill.limited for kill in kills)
        largest = max(self.usage.neighbours, key=lambda one: one.held, default=None)
        left = f"{human_size(host.available)} of the host's {human_size(host.memory)} are left"
        if host.available_share >= LEFT_WARNING and not by_host:
            return Cause(name, False, left)
        if told and told.is_steady_growth:
            return Cause(name, False, f"{left}, but {service.name} itself grows")
        if largest is None or largest.held <= service.held:
            return Cause(name, False, f"{left}, and nobody else holds as much as {service.name}")
        said = f"the host is short of memory ({left}), and {largest.label} holds {human_size(largest.held)}"
        return Cause(name, True, said, f"Stop or move {largest.label}, or give it a limit: systemctl set-property.")

    def _of_head(self, service: Service, history: History, told: Trend | None) -> Cause:
        name = "series in the head"
        head, per_series = self._head, self.bytes_per_series
        if head is None or per_series is None:
            return Cause(name, None, f"how large its head is is not known: {self._unasked}")
        largest = families(head.series_by_metric)[:1]
        share = largest[0].series / head.series if largest and head.series else 0.0
        of = f"{largest[0].name} has {share:.0%} of its {head.series} series" if largest else "it has no series"
        held = {"head_series": head.series, "bytes_per_series": round(per_series)}
        remedy = f"ansible-playbook troubleshoot-cardinality.yml\nIt names the label; {of}."
        seen: dict[str, t.Any] = {"head": held}
        grown = trend(history.head, self.shortest)
        if told and told.is_steady_growth:
            if grown is None:
                return Cause(name, None, "Prometheus does not say how its head grew")
            more = grown.last - grown.first
            if grown.growth >= HEAD_SHARE * told.growth and more > 0:
                each = (told.last - told.first) / more
                said = (
                    f"its head grew by {more:.0f} series in {human_duration(grown.seconds)}, which is "
                    f"{human_size(each)} each; {of}"
                )
                return Cause(name, True, said, remedy, seen)
            return Cause(name, False, f"its head grew by {grown.growth:.0%}, its memory by {told.growth:.0%}", "", seen)
        if share >= LARGEST_SHARE and per_series <= SERIES_BYTES:
            said = f"its head holds {head.series} series of about {human_size(per_series)} each; {of}"
            return Cause(name, True, said, remedy, seen)
        return Cause(name, False, f"its head holds {head.series} series, and no metric has most of them", "", seen)

    @property
    def bytes_per_series(self) -> float | None:
        """Of the heap in use by the series in the head: at most so much is freed by one that goes."""
        heap, series = self._own.get("go_memstats_heap_inuse_bytes"), self._own.get("prometheus_tsdb_head_series")
        return heap / series if heap and series else None

    def _of_query(self, service: Service) -> Cause:
        if self._query is None:
            self._query = self._read_queries(service)
        return self._query

    def _read_queries(self, service: Service) -> Cause:
        name = "an expensive query"
        try:
            path = log_file(self.client, self.client.configuration())
            if not path:
                return Cause(name, None, "whether a query took it is not known: it keeps no query log")
            size = Path(path).stat().st_size
            if size > LOG_BYTES:
                more = "it is read by ansible-playbook maintenance-quarterly.yml"
                return Cause(name, None, f"its query log of {human_size(size)} was not read, {more}")
            log = read_log(Path(path), self.now - self.question.window, self.now, 1)
        except HttpError as error:
            return Cause(name, None, f"whether a query took it is not known: {error}")
        except OSError as error:
            return Cause(name, None, f"its query log cannot be read: {error.strerror or error}")
        worst_of = max(log.summary.by_query().items(), key=lambda row: row[1].peak, default=None)
        if worst_of is None:
            return Cause(name, False, "its query log holds no query of the window")
        (_kind, query), stats = worst_of
        needed = stats.peak * SAMPLE_BYTES
        text = " ".join((stats.slowest.query if stats.slowest else query).split())[:200]
        said = f"the query {text} had {stats.peak} samples in memory at once, at least {human_size(needed)}"
        seen = {"largest_query": {"query": text, "peak_samples": stats.peak, "bytes": needed, "count": stats.count}}
        remedy = "ansible-playbook maintenance-quarterly.yml\nIts finding query.slow writes the recording rule; "
        remedy += "--query.max-samples (prometheus_arguments) refuses such a query."
        return Cause(name, needed >= QUERY_SHARE * max(service.held, 1), said, remedy, seen)

    def _leak(self, service: Service, history: History, told: Trend | None) -> Cause:
        name = "steady growth"
        if told is None:
            return Cause(
                name, None, f"whether it grew is not known: {history.missing or 'it did not run for long enough'}"
            )
        if not told.is_steady_growth:
            return Cause(name, False, f"it did not grow steadily over {human_duration(told.seconds)}")
        most, what = self._ceiling(service)
        until = told.until(most)
        said = (
            f"what it holds grew steadily from {human_size(told.first)} to {human_size(told.last)} in "
            f"{human_duration(told.seconds)}, {human_size(told.slope * 60)} a minute"
        )
        if until is not None and service.runs:
            said += f", and reaches {what} in {human_duration(until)}"
        remedy = (
            f"systemctl restart {service.name}\nThat gives the memory back for as long as it took to grow. Note what "
            "it did meanwhile, and give its author the chart: it is a leak, or a cache without end."
        )
        return Cause(name, True, said, remedy, {"seconds_until_limit": until})

    def _limit(self, service: Service, history: History, told: Trend | None) -> Cause:
        name = "a limit that is too small"
        limit = service.limit.bytes if service.limit else service.configured_limit
        if not limit:
            return Cause(name, False, "it has no limit of its own")
        remedy = "Raise the limit: MemoryMax= of its unit, or the memory_max of its role."
        if told is not None:
            if told.is_steady_growth:
                return Cause(name, False, "it grows, so that any limit is reached")
            needed = max(point[1] for point in history.points)
            said = (
                f"it needs {human_size(needed)} and does not grow, over {human_duration(told.seconds)}: its limit of "
                f"{human_size(limit)} is too small"
            )
            return Cause(name, needed >= NEAR_WARNING * limit, said, remedy)
        return Cause(name, None, f"whether its limit of {human_size(limit)} is too small is not known")

    # The host

    def _of_host(self) -> Finding:
        host, neighbours = self.usage.host, self.usage.neighbours
        bars = [{"label": one.name, "value": one.held} for one in self.usage.services if one.held]
        bars += [{"label": one.label, "value": one.held} for one in neighbours[:10]]
        evidence: dict[str, t.Any] = {
            "figures": {"memory_available_bytes": host.available, "swap_used_bytes": host.swap_used},
            "host": dataclasses.asdict(host),
            "neighbours": [dataclasses.asdict(one) for one in neighbours[:10]],
            "not_known": list(self.usage.not_known),
            "chart": {
                "kind": "bars",
                "title": "Who holds memory on this host",
                "unit": "bytes",
                "bars": sorted(bars, key=lambda bar: -float(str(bar["value"]))),
            },
        }
        said = f"The host has {human_size(host.available)} of {human_size(host.memory)} left"
        if host.is_container:
            said += " (it is a container: this is the machine's)"
        severity, remedy = "ok", ""
        if host.available_share < LEFT_WARNING:
            severity = "critical" if host.available_share < LEFT_CRITICAL else "warning"
        if host.swapping:
            said += f", and moves {human_size(host.swapping)} a second between memory and swap"
            severity = "warning" if severity == "ok" else severity
        if host.memory_pressure and host.memory_pressure.avg60 >= PRESSURE_WARNING:
            said += f"; somebody waited for memory in {host.memory_pressure.avg60:.0f} % of the last minute"
            severity = "warning" if severity == "ok" else severity
        if severity != "ok":
            first = neighbours[0] if neighbours else None
            if first:
                said += f"; beside the services {first.label} holds the most, {human_size(first.held)}"
            remedy = "systemd-cgtop -m shows who uses memory; stop, move or limit who need not be here."
        killed, kill_severity = self._killed()
        severity = kill_severity if severity == "ok" else severity
        return Finding(
            CHECK, "host", severity, f"{said}. {killed}", evidence, remedy or _LOG if severity != "ok" else ""
        )

    def _killed(self) -> tuple[str, str]:
        """Whom else the kernel killed, as a sentence, and how bad that is. A kill of our own stands at the service."""
        host = self.usage.host
        if host.kills is not None:
            since = self.now - self.question.window
            recent = [kill for kill in host.kills if kill.at >= since]
            others = [kill for kill in recent if not any(kill.is_of(one) for one in self.usage.services)]
            if not recent:
                return f"The kernel killed nobody for memory in the last {human_duration(self.question.window)}.", "ok"
            if not others:
                return "Whom the kernel killed for memory is named above.", "ok"
            last = others[-1]
            ago = human_duration(self.now - last.at)
            whom = f"last {last.task} of {last.cgroup or '/'} {ago} ago"
            return f"The kernel killed {len(others)} others for memory, {whom}.", "warning"
        if host.oom_kills == 0:
            return "The kernel has killed nobody for memory since it booted, by its own count.", "ok"
        count = f"{host.oom_kills} processes since it booted" if host.oom_kills else "anybody"
        unharmed = all(one.runs and not one.restarts and not one.oom_kills for one in self.usage.services)
        if host.oom_kills and unharmed and self.usage.services:
            text = f"The kernel killed {count} for memory, none of these services: they run without a restart."
            return f"{text} Whom is not known: {host.kills_unknown}.", "info"
        return f"Whether the kernel killed {count} for memory, and whom, is not known: {host.kills_unknown}.", "unknown"

    # Njord's own metric

    def _of_metric(self) -> list[Finding]:
        samples = self.client.query(METRIC)
        if not samples:
            severity, why = not_published(METRIC, self.question.catalogue)
            summary = f"{why[0].upper()}{why[1:]}: the memory of the services was read from the host itself."
            remedy = "" if severity == "info" else "ansible-playbook troubleshoot-missing-metrics.yml"
            return [Finding(CHECK, METRIC, severity, summary, {"query": METRIC}, remedy)]
        # For as long as the alerts of the same thresholds ask for.
        lasting = f"min_over_time({METRIC}[1m])"
        held = {_key(sample.labels): sample.value for sample in self.client.query(lasting)}
        found = []
        for sample in samples:
            service = sample.labels.get("service", "a service without a name")
            through = f"{sample.labels.get('job', '')} {sample.labels.get('instance', '')}".strip()
            now, least = sample.value * MEBIBYTE, held.get(_key(sample.labels), sample.value) * MEBIBYTE
            evidence = {
                "query": f"{METRIC}, {lasting}",
                "labels": sample.labels,
                "figures": {"memory_usage_bytes": now},
            }
            said = f"{service} publishes {METRIC} (through {through}), and says {sample.value:.0f} MB"
            if now > self.question.critical:
                said, severity = f"{said}, more than {human_size(self.question.critical)}", "critical"
            elif least > self.question.warning:
                said = f"{said}, more than {human_size(self.question.warning)} for a minute"
                severity = "warning"
            else:
                severity = "ok"
            remedy = (
                f"systemctl status njord-{service}\nIts finding above names the cause where it is one of telemetry_"
            )
            remedy += "runtime_services; else name it there and run this again." if severity != "ok" else ""
            found.append(
                Finding(
                    CHECK, f"{METRIC} of {service}", severity, f"{said}.", evidence, remedy if severity != "ok" else ""
                )
            )
        return found

    # Remedies

    def _remedies(self) -> Finding:
        own, head = self._own, self._head
        cache = sum(service.cache or 0 for service in self.usage.services)
        of_cache = f" ({human_size(cache)} of it belong to the services)" if cache else ""
        journals = (
            f"It frees room on the disk, and page cache that the kernel takes back anyway{of_cache}: no memory that a "
            "service holds. How many bytes on the disk, the finding cleanup.plan says."
        )
        offered = [
            Remedy("clean-up of the journals", 0.0, journals),
            Remedy("compression earlier", 0.0, journals),
            Remedy(
                "larger flushes", 0.0, "A larger batch waits longer in memory before it is written: it costs memory."
            ),
        ]
        if head is None or not own:
            why = f"Prometheus was not asked: {self._unasked}."
            offered += [Remedy(name, None, why) for name in ("a shorter retention", "a longer scrape interval")]
        else:
            offered += [self._retention(own), self._interval(own, head), *self._drop(head)]
        return remedies("runtime.remedies", "memory", offered, "bytes", lambda gain: f"at most {human_size(gain)}")

    def _retention(self, own: t.Mapping[str, float]) -> Remedy:
        blocks = own.get("prometheus_tsdb_storage_blocks_bytes", 0.0)
        symbols = own.get("prometheus_tsdb_symbol_table_size_bytes", 0.0)
        said = (
            f"Blocks of {human_size(blocks)} lie on the disk and are mapped, which is page cache. The head, which is "
            f"what memory is spent on, holds the last hours whatever the retention is; of the blocks only their "
            f"tables of symbols are held, {human_size(symbols)} in all."
        )
        return Remedy("a shorter retention", symbols if symbols >= MEBIBYTE else 0.0, said)

    def _interval(self, own: t.Mapping[str, float], head: Head) -> Remedy:
        count = own.get("prometheus_tsdb_compaction_chunk_size_bytes_count", 0.0)
        size = own.get("prometheus_tsdb_compaction_chunk_size_bytes_sum", 0.0) / count if count else None
        mapped = own.get("prometheus_tsdb_head_chunks_storage_size_bytes", 0.0)
        heap = own.get("go_memstats_heap_inuse_bytes", 0.0)
        said = (
            f"A series keeps one open chunk of up to {CHUNK_SAMPLES} samples in memory whatever the interval; the "
            f"full ones of the head are {human_size(mapped)} in mapped files, of which twice the interval saves half, "
            "and that is page cache."
        )
        if size is not None and heap:
            share = head.series * size / heap
            said += (
                f" All open chunks are about {human_size(head.series * size)}, {share:.1%} of its heap "
                f"({head.series} series, {size:.0f} bytes each)."
            )
        return Remedy("a longer scrape interval", 0.0, said)

    def _drop(self, head: Head) -> list[Remedy]:
        largest, per_series = families(head.series_by_metric)[:1], self.bytes_per_series
        if not largest or per_series is None:
            return []
        family = largest[0]
        said = (
            f"{family.name} has {family.series} of {head.series} series, and the heap in use is "
            f"{human_size(per_series)} a series, what is not of series among it: so this is the most that can be "
            "gained, once the head has forgotten it, within three hours."
        )
        return [Remedy(f"dropping {family.name}", family.series * per_series, said)]


_LOG = "journalctl --dmesg --grep=oom-kill\nOn the machine itself where this is a container."


def _short(name: str) -> str:
    """As the services call themselves: ``risk-engine`` is ``njord-risk-engine.service``."""
    short = name[: -len(".service")] if name.endswith(".service") else name
    return short[len(OURS) :] if short.startswith(OURS) else short


def _key(labels: t.Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if name != "__name__")
