# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether a service is late because it gets no CPU, or needs more than one thread can have; why, and what would help.

An event loop is one thread: it lags when it computes all the time, or is ready to run and does not. Both are to be seen
from outside, whether the service publishes its lag or not.

Source: the runbook's "Event Loop Lag".
"""

from __future__ import annotations

import dataclasses
import statistics
import time
import typing as t
from pathlib import Path

from ..._finding import Finding
from ..._http import HttpError, Server
from ..._prometheus import Prometheus, Target
from ..._resources import Neighbour, Service, Usage, numbers, text
from ..._units import human_duration, human_size
from .. import part
from ..query.query_log import REQUEST
from ..query.query_log_files import read as read_log
from ..query.slow_queries import log_file
from ..scrape.publisher import OWN, Entry
from .cause import Cause, Remedy, Sign, figures, not_published, remedies, selector, targets_of, verdict

CHECK = "runtime.event_loop_lag"
METRIC = "njord_event_loop_lag_seconds"
# Of one core: a thread that computes so much of the time has no time left to wait for messages.
SATURATED = 0.9
# Share of the time in which a thread could have run and had no CPU; of the periods in which its quota was used up.
WAITED, THROTTLED = 0.1, 0.1
# Percent of the last ten seconds in which some task of it waited.
CPU_PRESSURE, MEMORY_PRESSURE = 25.0, 10.0
# A neighbour that takes this share of all cores, and a host whose cores are busy to this share.
NEIGHBOUR_SHARE, BUSY_SHARE = 0.25, 0.9
# Neighbours that systemd can bound.
UNITS = (".service", ".scope", ".slice")
STOLEN = 0.1
# Of a core, what is worth a name beside others.
SEEN = 0.1
# A storm is so many times the usual rate of messages, and no fewer than these a second.
STORM_TIMES, STORM_RATE = 5.0, 50.0
# Scrapes, or dashboards, that take this share of a core are a cause.
SCRAPES_SHARE, QUERIES_SHARE = 0.2, 0.5
# A scrape that takes this share of its interval is late soon.
DURATION_SHARE = 0.2
SCRAPES = 3
QUERY_WINDOW = 900.0
LOG_BYTES = 256 * 1024 * 1024
POINTS = 200


@dataclasses.dataclass(frozen=True)
class Question:
    """
    :param window: seconds of the past that are called usual.
    :param lag: seconds of lag, and ``hold`` for how many of them, that are too much.
    :param catalogue: the metrics that are known by name.
    """

    window: float
    lag: float
    hold: float
    catalogue: t.Sequence[Entry] = ()


@dataclasses.dataclass(frozen=True)
class Scrapes:
    """How a service is scraped.

    :param targets: of Prometheus, that are it; one for each job.
    :param duration: seconds of the longest of them now; None where Prometheus does not tell.
    :param cost: seconds of CPU that the service spends on one; None where that was not measured.
    """

    targets: tuple[Target, ...] = ()
    duration: float | None = None
    cost: float | None = None

    @property
    def a_second(self) -> float:
        return sum(1 / target.interval for target in self.targets if target.interval)

    @property
    def cores(self) -> float | None:
        return None if self.cost is None else self.cost * self.a_second


class Look:
    """One look; :meth:`findings` takes it.

    :param exporter: where the exporter is: its page is asked for some times, to measure what that costs it; None for
        not.
    """

    def __init__(self, client: Prometheus, usage: Usage, question: Question, exporter: Server | None) -> None:
        self.client = client
        self.usage = usage
        self.question = question
        self.exporter = exporter
        self.now = time.time()
        self._targets: list[Target] = []
        self._lags: dict[str, float] = {}
        self._unasked = ""
        self._queries: Cause | None = None
        self.scrapes: dict[str, Scrapes] = {}

    def findings(self) -> list[Finding]:
        server = part(CHECK, self.client.server.url, self._ask)
        found = [self._of_service(service) for service in self.usage.services]
        metric = [] if server else part(CHECK, METRIC, self._of_metric)
        return [*found, self._of_host(), *metric, *server, self._remedies()]

    def _ask(self) -> list[Finding]:
        try:
            self._targets = self.client.targets()
        except HttpError as error:
            self._unasked = str(error)
            raise
        return []

    # One service

    def _of_service(self, service: Service) -> Finding:
        evidence = figures(service, self.usage)
        if not service.runs:
            severity = "warning" if service.kind else "unknown"
            summary = f"{service.name} does not run, so that nothing of it can be measured: {service.state}."
            remedy = "ansible-playbook service-health.yml"
            return Finding(CHECK, service.name, severity, summary, evidence, remedy)
        scrapes = self.scrapes[service.name] = self._scrapes(service)
        thread = service.thread
        evidence["scrapes"] = {
            "urls": [target.url for target in scrapes.targets],
            "jobs": [target.pool for target in scrapes.targets],
            "a_second": round(scrapes.a_second, 4),
            "duration_seconds": scrapes.duration,
            "cpu_seconds_each": scrapes.cost,
        }
        chart = part_or_nothing(lambda: self._chart(service, scrapes))
        if chart:
            evidence["chart"] = chart
        signs = self._signs(service, scrapes)
        if signs:
            return verdict(CHECK, service.name, signs, self._causes(service, scrapes), evidence)
        said = f"{service.name} has the CPU that it asks for: its busiest thread uses "
        said += f"{thread.cores:.0%} of a core" if thread else "none"
        if thread is None or thread.waited is None:
            said += "; whether it waits for one is not known, this kernel keeps no account of it"
            if service.cpu_pressure is None:
                # Then a thread that starves would not be seen.
                return Finding(CHECK, service.name, "unknown", f"{said}.", evidence, "Look at it with: systemd-cgtop")
        else:
            said += f", and waited for one {thread.waited:.1%} of the time"
        return Finding(CHECK, service.name, "ok", f"{said}.", evidence)

    def _signs(self, service: Service, scrapes: Scrapes) -> list[Sign]:
        signs = []
        thread = service.thread
        if thread and thread.cores >= SATURATED:
            signs.append(Sign("warning", f"computes {thread.cores:.0%} of the time in one thread ({thread.name})"))
        if service.throttled is not None and service.throttled >= THROTTLED:
            signs.append(Sign("warning", f"was halted in {service.throttled:.0%} of the periods of its CPU quota"))
        waited = thread.waited if thread else None
        if waited is not None and _waits(service):
            signs.append(Sign("warning", f"was ready to run and had no CPU for {waited:.0%} of the time"))
        elif waited is None and service.cpu_pressure and service.cpu_pressure.avg10 >= CPU_PRESSURE:
            signs.append(Sign("warning", f"waited for a CPU in {service.cpu_pressure.avg10:.0f} % of ten seconds"))
        if service.memory_pressure and service.memory_pressure.avg10 >= MEMORY_PRESSURE:
            signs.append(Sign("warning", f"waited for memory in {service.memory_pressure.avg10:.0f} % of ten seconds"))
        interval = min((target.interval for target in scrapes.targets if target.interval), default=0.0)
        if scrapes.duration is not None and interval and scrapes.duration >= DURATION_SHARE * interval:
            signs.append(
                Sign(
                    "warning", f"takes {human_duration(scrapes.duration)} for a scrape every {human_duration(interval)}"
                )
            )
        return signs

    def _causes(self, service: Service, scrapes: Scrapes) -> list[Cause]:
        """In the order in which one explains another."""
        return [
            self._quota(service),
            self._memory(service),
            self._storm(service),
            self._heavy_scrapes(service, scrapes),
            *([self._dashboards()] if service.name.startswith("prometheus") else []),
            self._itself(service),
            self._neighbour(service),
        ]

    # Causes

    def _quota(self, service: Service) -> Cause:
        name = "its CPU quota"
        if service.throttled is None:
            return Cause(name, None, "whether a quota halts it is not known: the kernel keeps no account of it here")
        if service.throttled < THROTTLED:
            return Cause(name, False, "no quota halts it")
        most = f"{service.quota:.2g} cores" if service.quota is not None else "a part of a core"
        said = f"its CPU quota of {most} is too small for what it does"
        remedy = f"Raise or remove the quota: systemctl set-property {service.name} CPUQuota=\nIt has effect at once."
        return Cause(name, True, said, remedy)

    def _memory(self, service: Service) -> Cause:
        name, host = "shortage of memory", self.usage.host
        remedy = "ansible-playbook troubleshoot-memory.yml"
        if service.memory_pressure and service.memory_pressure.avg10 >= MEMORY_PRESSURE:
            return Cause(
                name, True, f"it waits for memory in {service.memory_pressure.avg10:.0f} % of the time", remedy
            )
        if service.swap and host.swapping:
            said = (
                f"{human_size(service.swap)} of it lie in swap, and the host moves {human_size(host.swapping)} a second"
            )
            return Cause(name, True, said, remedy)
        if service.memory_pressure is None and host.memory_pressure is None and host.swap:
            return Cause(
                name, None, "whether it waits for memory is not known: the kernel keeps no account of pressure"
            )
        return Cause(name, False, "it does not wait for memory")

    def _storm(self, service: Service) -> Cause:
        name = "a storm of messages"
        if self._unasked:
            return Cause(name, None, f"how many messages come is not known: {self._unasked}")
        of = next((selector(target) for target in self.scrapes[service.name].targets), "")
        query = f"sum(rate({OWN}messages_total{of}[1m]))"
        try:
            step = max(self.question.window / POINTS, 15.0)
            found = self.client.query_range(query, self.now - self.question.window, self.now, step) if of else []
        except HttpError as error:
            return Cause(name, None, f"how many messages come is not known: {error}")
        if not found or not found[0].points:
            return Cause(name, None if of and "exporter" in service.name else False, "it counts no messages of the bus")
        rates = [value for _at, value in found[0].points]
        now, usual = rates[-1], statistics.median(rates)
        said = f"{now:.0f} messages a second come over the bus, where {usual:.0f} are usual"
        remedy = (
            "redis-cli subscribe telemetry.metrics shows which metric it is; mend its publisher, or halt it. "
            "ansible-playbook troubleshoot-cardinality.yml where new label sets come with it."
        )
        busy = service.thread is not None and service.thread.cores >= SATURATED / 2
        is_storm = now >= STORM_RATE and (now >= STORM_TIMES * usual or busy)
        seen = {"messages": {"query": query, "now": now, "usual": usual}}
        return Cause(name, is_storm, said, remedy, seen)

    def _heavy_scrapes(self, service: Service, scrapes: Scrapes) -> Cause:
        name = "its scrapes"
        if self._unasked:
            return Cause(name, None, f"how often it is scraped is not known: {self._unasked}")
        if not scrapes.targets:
            return Cause(name, False, "no job of this Prometheus scrapes it")
        jobs = [target.pool for target in scrapes.targets]
        interval = human_duration(min(target.interval for target in scrapes.targets))
        remedy = "Set prometheus_scrape_interval higher (role prometheus, by site.yml)."
        by = f"{len(jobs)} jobs scrape it ({', '.join(jobs)})" if len(jobs) > 1 else f"it is scraped every {interval}"
        if len(jobs) > 1:
            remedy = f"Let one of the jobs {', '.join(jobs)} scrape it, or let them keep different metrics. {remedy}"
        if scrapes.cores is None:
            share = max(
                ((scrapes.duration or 0.0) / target.interval for target in scrapes.targets if target.interval),
                default=0.0,
            )
            if scrapes.duration is None:
                return Cause(name, None, f"{by}; what that costs it was not measured")
            said = f"{by}, and a scrape takes {human_duration(scrapes.duration)}"
            return Cause(name, share >= DURATION_SHARE, said, remedy)
        said = f"{by}, each costs {human_duration(scrapes.cost or 0.0)} of CPU, {scrapes.cores:.1%} of a core in all"
        return Cause(name, scrapes.cores >= SCRAPES_SHARE, said, remedy)

    def _dashboards(self) -> Cause:
        if self._queries is None:
            self._queries = self._read_queries()
        return self._queries

    def _read_queries(self) -> Cause:
        name = "dashboards"
        unknown = "what dashboards ask of it is not known"
        try:
            path = log_file(self.client, self.client.configuration())
            if not path:
                return Cause(name, None, f"{unknown}: it keeps no query log")
            if Path(path).stat().st_size > LOG_BYTES:
                return Cause(name, None, f"{unknown}: its query log is too long to be read now")
            log = read_log(Path(path), self.now - QUERY_WINDOW, self.now, 1)
        except HttpError as error:
            return Cause(name, None, f"{unknown}: {error}")
        except OSError as error:
            return Cause(name, None, f"{unknown}: its query log cannot be read: {error.strerror or error}")
        clients = {origin.name: stats for origin, stats in log.summary.by_origin().items() if origin.kind == REQUEST}
        spent = sum(stats.seconds for stats in clients.values()) / QUERY_WINDOW
        first = max(clients, key=lambda client: clients[client].seconds, default="")
        said = f"queries of clients take {spent:.1%} of a core" + (f", most of them from {first}" if first else "")
        remedy = (
            "ansible-playbook maintenance-quarterly.yml\nIts findings query.slow name them, with the recording rule."
        )
        return Cause(name, spent >= QUERIES_SHARE, said, remedy)

    def _itself(self, service: Service) -> Cause:
        name, thread = "the service itself", service.thread
        if thread is None:
            return Cause(name, None, "what its threads do is not known")
        if thread.cores < SATURATED:
            return Cause(name, False, f"its busiest thread uses {thread.cores:.0%} of a core")
        said = f"one thread ({thread.name}) needs a whole core, and an event loop has only one"
        remedy = (
            f"py-spy dump --pid {thread.pid}\nThat shows what it computes. More cores do not help it; less work for "
            "the loop does, or a second process."
        )
        return Cause(name, True, said, remedy)

    def _neighbour(self, service: Service) -> Cause:
        name, host = "a neighbour", self.usage.host
        if host.stolen >= STOLEN * host.cores:
            said = f"the machine below this one takes {host.stolen / host.cores:.0%} of its CPU for others"
            return Cause(
                name, True, said, "Ask who runs the machine below: this guest gets no CPU for what it has to do."
            )
        load = f"{host.busy:.1f} of {host.cores} cores are busy"
        if host.busy < BUSY_SHARE * host.cores:
            return Cause(name, False, load)
        first = next(iter(self._others(service)), None)
        most = NEIGHBOUR_SHARE * host.cores
        if first and first.cores >= most and first.cores >= host.unseen:
            said = f"{load}, and {first.label} takes {first.cores:.1f} of them"
            unit = first.label.partition(" ")[0]
            bound = f", or bound it: systemctl set-property {unit} CPUWeight=10" if unit.endswith(UNITS) else "."
            remedy = f"Stop or move {first.label}{bound}"
            return Cause(name, True, said, remedy)
        if host.unseen >= most:
            where = "outside this container" if host.is_container else "in processes that ended at once"
            said = f"{load}, {host.unseen:.1f} of them by somebody {where}"
            if first and first.cores >= SEEN:
                said += f" and {first.cores:.1f} by {first.label}"
            return Cause(name, True, said, "Look from the machine itself: systemd-cgtop --order=cpu")
        return Cause(name, False, f"{load}, and nobody takes many of them")

    def _others(self, service: Service) -> list[Neighbour]:
        """Who else computes, the services that were named among them."""
        own = [
            Neighbour(one.name, one.held, one.cores, one.processes) for one in self.usage.services if one is not service
        ]
        return sorted([*self.usage.neighbours, *own], key=lambda one: -one.cores)

    # How it is scraped

    def _scrapes(self, service: Service) -> Scrapes:
        targets = tuple(targets_of(service, self._targets, self.client))
        duration = None
        if targets:
            rows = part_or_nothing(
                lambda: [self.client.query(f"scrape_duration_seconds{selector(target)}") for target in targets]
            )
            duration = max((row.value for one in rows or [] for row in one), default=None)
        return Scrapes(targets, duration, self._cost(service))

    def _cost(self, service: Service) -> float | None:
        """Seconds of CPU of one scrape: some are made here, less what it uses anyway."""
        if self.exporter is None or not targets_of(service, [_as_target(self.exporter)], self.client):
            return None
        path = Path("/sys/fs/cgroup") / service.cgroup.lstrip("/") / "cpu.stat"
        before, begun = numbers(text(path)).get("usage_usec"), time.monotonic()
        try:
            for _each in range(SCRAPES):
                self.exporter.get("/metrics")
        except HttpError:
            # That its page does not answer is for service_health to say; here it is not measured.
            return None
        after, took = numbers(text(path)).get("usage_usec"), time.monotonic() - begun
        if before is None or after is None:
            return None
        return max((after - before) / 1e6 - service.cores * took, 0.0) / SCRAPES

    def _chart(self, service: Service, scrapes: Scrapes) -> dict[str, t.Any]:
        if not scrapes.targets:
            return {}
        step = max(self.question.window / POINTS, 15.0)
        query = f"rate(process_cpu_seconds_total{selector(scrapes.targets[0])}[{round(max(step * 4, 60))}s])"
        found = self.client.query_range(query, self.now - self.question.window, self.now, step)
        if not found or len(found[0].points) < 2:
            return {}
        line = {"label": "CPU", "points": [list(point) for point in found[0].points], "style": "measured"}
        limits = [{"label": "one core", "value": 1.0}]
        if service.quota is not None:
            limits.append({"label": "quota", "value": service.quota})
        return {"kind": "lines", "title": f"CPU of {service.name}", "unit": "cores", "lines": [line], "limits": limits}

    # The host

    def _of_host(self) -> Finding:
        host = self.usage.host
        rows = [(one.name, one.cores) for one in self.usage.services]
        rows += [(one.label, one.cores) for one in self.usage.neighbours]
        if host.unseen >= 0.05:
            rows.append(("not visible from here" if host.is_container else "ended meanwhile", host.unseen))
        ranked = sorted(rows, key=lambda row: -row[1])[:15]
        evidence: dict[str, t.Any] = {
            "figures": {"cpu_busy_cores": round(host.busy, 3), "load1": host.load[0], "cpu_cores": host.cores},
            "host": dataclasses.asdict(host),
            "not_known": list(self.usage.not_known),
            "chart": {
                "kind": "bars",
                "title": "Who computes on this host",
                "unit": "cores",
                "bars": [{"label": label, "value": round(cores, 4)} for label, cores in ranked],
            },
        }
        said = f"{host.busy:.1f} of {host.cores} cores are busy, load {host.load[0]:g}"
        if host.is_container:
            said += " (it is a container: these are the machine's)"
        first = max(self.usage.neighbours, key=lambda one: one.cores, default=None)
        if host.busy < BUSY_SHARE * host.cores and host.stolen < STOLEN * host.cores:
            return Finding(CHECK, "host", "ok", f"{said}.", evidence)
        if host.stolen >= STOLEN * host.cores:
            said += f"; the machine below takes {host.stolen:.1f} cores for others"
        if host.unseen > (first.cores if first else 0.0):
            said += f"; {host.unseen:.1f} are used by somebody who cannot be seen from here"
        elif first:
            said += f"; beside the services {first.label} computes the most, {first.cores:.1f} cores"
        # A busy host is no trouble as long as nobody waits.
        late = any(_waits(service) for service in self.usage.services)
        severity = "warning" if late else "info"
        remedy = "systemd-cgtop --order=cpu shows who computes; stop or move who need not be here." if late else ""
        return Finding(CHECK, "host", severity, f"{said}.", evidence, remedy)

    # Njord's own metric

    def _of_metric(self) -> list[Finding]:
        samples = self.client.query(METRIC)
        if not samples:
            severity, why = not_published(METRIC, self.question.catalogue)
            summary = f"{why[0].upper()}{why[1:]}: what each thread waits for was measured on the host itself."
            remedy = "" if severity == "info" else "ansible-playbook troubleshoot-missing-metrics.yml"
            return [Finding(CHECK, METRIC, severity, summary, {"query": METRIC}, remedy)]
        lasting = f"min_over_time({METRIC}[{max(round(self.question.hold), 1)}s])"
        least = {_key(sample.labels): sample.value for sample in self.client.query(lasting)}
        found = []
        for sample in samples:
            labels = {name: value for name, value in sample.labels.items() if name != "__name__"}
            who = labels.get("service") or labels.get("instance") or "somebody"
            lag = min(least.get(_key(sample.labels), sample.value), sample.value)
            evidence = {
                "query": f"{METRIC}, {lasting}",
                "labels": labels,
                "figures": {"event_loop_lag_seconds": sample.value},
            }
            said = f"{who} says that its event loop lags by {human_duration(sample.value)}"
            if lag <= self.question.lag:
                found.append(Finding(CHECK, f"{METRIC} of {who}", "ok", f"{said}.", evidence))
                continue
            said += f", more than {human_duration(self.question.lag)} for {human_duration(self.question.hold)}"
            said += "; " + self._why(labels.get("service", ""))
            remedy = "See the findings of the services and of the host beside it; they name who takes the CPU."
            found.append(Finding(CHECK, f"{METRIC} of {who}", "warning", f"{said}.", evidence, remedy))
        return found

    def _why(self, service: str) -> str:
        ours = [one for one in self.usage.services if service and service in one.name]
        for one in ours:
            held = next(
                (cause for cause in self._causes(one, self.scrapes.get(one.name, Scrapes())) if cause.holds), None
            )
            if one.name in self.scrapes and held:
                return held.said
        others = self._others(ours[0]) if ours else sorted(self.usage.neighbours, key=lambda one: -one.cores)
        if others and others[0].cores >= NEIGHBOUR_SHARE * self.usage.host.cores:
            return f"{others[0].label} takes {others[0].cores:.1f} of the host's {self.usage.host.cores} cores"
        return "no cause is to be seen at this moment"

    # Remedies

    def _remedies(self) -> Finding:
        offered = []
        measured = [(name, scrapes) for name, scrapes in self.scrapes.items() if scrapes.cores is not None]
        for name, scrapes in measured:
            cores = scrapes.cores or 0.0
            said = (
                f"{name} spends {human_duration(scrapes.cost or 0.0)} of CPU on a scrape, measured here, "
                f"{scrapes.a_second * 60:.1f} times a minute: {cores:.2%} of a core. Twice the interval saves half."
            )
            offered.append(Remedy(f"twice the scrape interval of {name}", cores / 2, said))
        if not measured:
            why = "What a scrape costs was not measured: give exporter_url, and let the exporter be among the services."
            offered.append(Remedy("a longer scrape interval", None, why))
        offered.append(
            Remedy(
                "larger flushes",
                None,
                "A flush is the aggregator's, once in a while; what one costs it does not tell. It takes no time of "
                "any other service's loop.",
            )
        )
        first = max(self.usage.neighbours, key=lambda one: one.cores, default=None)
        if first and first.cores >= 0.01:
            said = f"It used {first.cores:.2f} cores in the {self.usage.seconds:.1f} s that were looked at."
            offered.append(Remedy(f"moving {first.label} elsewhere", first.cores, said))
        return remedies("runtime.remedies", "event loop lag", offered, "cores", _of_a_core)


def _waits(service: Service) -> bool:
    """For a core; one that its quota halts also waits, and not for others."""
    waited = service.thread.waited if service.thread else None
    return waited is not None and waited >= WAITED and (service.throttled or 0.0) < THROTTLED


def _of_a_core(cores: float) -> str:
    return f"{cores:.2%} of a core" if cores >= 1e-4 else "less than 0.01% of a core"


T = t.TypeVar("T")


def part_or_nothing(look: t.Callable[[], T]) -> T | None:
    """For a chart or a figure that is only missed: the same server's silence is a finding of its own."""
    try:
        return look()
    except HttpError:
        return None


def _as_target(server: Server) -> Target:
    return Target({}, "", server.url, "", "")


def _key(labels: t.Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if name != "__name__")
