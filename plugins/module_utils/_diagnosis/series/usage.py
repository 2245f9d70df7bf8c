# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Metrics that nobody reads, what they cost, and the relabelling that drops them at the scrape.

Who reads: the rules of the server (recording rules count, whatever becomes of what they record), the files of
dashboards, the queries of clients in the query log. *Unused* is only what is in none of them while all three were read
whole, and the log for the whole window; what is missing of them makes it *probably unused*. Where somebody may read a
metric it is *unknown*: by labels alone, by a query that is not understood, by another server that takes what it likes.

What a metric costs is counted in the head, from the index. What it is written with is counted for the costliest that
nobody reads, some hundred names at once.

Sources: the runbook's "Audit metric usage";
https://prometheus.io/docs/prometheus/latest/configuration/configuration/#metric_relabel_configs
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
import time
import typing as t
from pathlib import Path

from ..._finding import Finding
from ..._http import HttpError, first_line
from ..._prometheus import AUDIT, Head, Prometheus, Rule
from ..._units import human_duration
from .. import not_prometheus, part
from ..language.reads import Reads, reads
from ..query.query_log import LONGEST_QUERY, RULE, UNFINISHED
from ..query.query_log_files import Log
from ..query.query_log_files import read as read_log
from ..query.slow_queries import log_file
from .dashboards import Dashboards
from .dashboards import read as read_dashboards
from .readers import EXAMPLES, Readers, of_rule
from .relabelling import drop_names, scrape_job
from .series_cost import count, heaps, intervals, samples_a_second

USAGE, READERS, UNKNOWN, METRIC = "usage.metrics", "usage.readers", "usage.unknown", "usage.metric"
USED, UNUSED, PROBABLY, NOT_KNOWN = "used", "unused", "probably unused", "unknown"
# Names that are looked at, the ones with most series first.
MOST = 10_000
# Requests: selectors that the server is asked to match, and counts of the series of some names each.
SELECTORS = 60
COUNTS = 20
AT_ONCE = 4
SECONDS = 60.0
# Of reasons and rows that are shown.
SHOWN = 20
ROWS = 1000
# A log whose first line is a little younger than the window covers it.
COVERED = 0.95

# Made by Prometheus for each target and each alert: no scrape brings them and no relabelling drops them.
# https://prometheus.io/docs/concepts/jobs_instances/#automatically-generated-labels-and-time-series
MADE_BY_PROMETHEUS = (
    "up",
    "ALERTS",
    "ALERTS_FOR_STATE",
    "scrape_body_size_bytes",
    "scrape_duration_seconds",
    "scrape_sample_limit",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
    "scrape_timeout_seconds",
)
# What servers say about themselves: our own audits need it, and so does whoever runs them.
OF_SERVERS = ("prometheus_", "alertmanager_", "njord_exporter_", "process_", "go_")
# What is taken there is not in the query log.
_TAKEN = {
    "/federate": "another server federates from this one",
    "/api/v1/read": "another server reads from this one by remote read",
}
_REQUESTS = "prometheus_http_requests_total"


@dataclasses.dataclass(frozen=True)
class Options:
    """
    :param dashboards: files and directories; :param query_log: its path, the server is asked where it is empty.
    :param since: unix seconds, like ``until``: the window that the log must cover.
    :param top: findings of single metrics. :param jobs: processes that read the log.
    """

    dashboards: t.Sequence[str]
    query_log: str
    since: float
    until: float
    top: int
    jobs: int

    @property
    def window(self) -> float:
        return self.until - self.since


@dataclasses.dataclass
class Metric:
    """One name.

    :param series: in the head. :param readers: a few of those that read it, or may.
    :param active: series now, by job; None where it was not asked.
    :param samples: a second; None where it is not known.
    :param recorded_by: the group of the recording rule that makes it; empty where a scrape does.
    """

    name: str
    series: int
    usage: str = UNUSED
    readers: tuple[str, ...] = ()
    active: dict[str, int] | None = None
    samples: float | None = None
    recorded_by: str = ""

    @property
    def jobs(self) -> list[str]:
        return sorted(job for job in self.active or {} if job)


@dataclasses.dataclass(frozen=True)
class Drop:
    """Relabelling that drops some metrics. :param text: for a scrape job of prometheus.yml."""

    job: str
    usage: str
    metrics: list[str]
    series: int
    samples: float | None
    text: str


class Look:
    """One look at who reads the metrics of a server; :meth:`findings` takes it."""

    def __init__(self, client: Prometheus, options: Options) -> None:
        self.client = client
        self.options = options
        self.readers = Readers()
        self.metrics: list[Metric] = []
        self.drops: list[Drop] = []
        self.head: Head | None = None
        self.counts_read: dict[str, int] = dict.fromkeys(("rules", "dashboards", "dashboard_queries", "logged"), 0)
        self._configuration = ""
        self._ends = 0.0
        # Seconds between two scrapes by job; the shortest where its targets differ.
        self._intervals: dict[str, float] = {}
        # Why the samples of some metrics are not known.
        self._not_counted: list[str] = []

    def findings(self) -> list[Finding]:
        address = self.client.server.url
        return not_prometheus(USAGE, self.client) or part(USAGE, address, self._findings)

    # The result

    def rows(self) -> list[dict[str, t.Any]]:
        """Of the metrics that are not known to be used, the costliest first."""
        return [
            {
                "name": metric.name,
                "usage": metric.usage,
                "series": metric.series,
                "samples_per_second": metric.samples,
                "jobs": metric.jobs,
                "recorded_by": metric.recorded_by,
                "readers": list(metric.readers),
            }
            for metric in self._not_used()[:ROWS]
        ]

    def drop_rows(self) -> list[dict[str, t.Any]]:
        return [
            {
                "job": drop.job,
                "usage": drop.usage,
                "metrics": drop.metrics,
                "series": drop.series,
                "samples_per_second": drop.samples,
                "relabelling": drop.text,
            }
            for drop in self.drops
        ]

    def counts(self) -> dict[str, dict[str, float]]:
        """Metrics, series and samples a second by usage."""
        return {
            usage: {
                "metrics": len(found),
                "series": sum(metric.series for metric in found),
                "samples_per_second": round(sum(metric.samples or 0.0 for metric in found), 3),
            }
            for usage in (USED, UNUSED, PROBABLY, NOT_KNOWN)
            for found in [[metric for metric in self.metrics if metric.usage == usage]]
        }

    def _not_used(self) -> list[Metric]:
        return [metric for metric in self.metrics if metric.usage != USED]

    # How it is found

    def _findings(self) -> list[Finding]:
        head = self.head = self.client.head(MOST)
        rules = self._rules()
        self._takers()
        self._dashboards()
        self._log()
        recorded = {rule.name: rule for rule in rules if rule.kind == "recording"}
        self._ends = time.monotonic() + SECONDS
        self._judge(head, recorded)
        self._cost(recorded)
        self.drops = drops(self._droppable()[:ROWS], self._intervals)
        return [
            self._summary(head),
            *self._of_unknown(),
            *(self._of_metric(metric) for metric in self._droppable()[: self.options.top]),
            self._of_readers(),
        ]

    def _rules(self) -> list[Rule]:
        try:
            rules = self.client.rules()
        except HttpError as error:
            self.readers.anything["the rules of the server"] = f"they are not known: {error}"
            return []
        for rule in rules:
            self.readers.add(f"rule {rule.group}/{rule.name}", of_rule(rule))
        self.counts_read["rules"] = len(rules)
        return rules

    def _takers(self) -> None:
        """Other servers, which take what they like."""
        try:
            self._configuration = self.client.configuration()
            page = self.client.own_page([_REQUESTS])
        except HttpError as error:
            self.readers.anything["other servers"] = f"whether they take samples from this one is not known: {error}"
            return
        if re.search(r"^remote_write:", self._configuration, re.MULTILINE):
            self.readers.anything["remote_write"] = "every sample is sent to another server, where it may be read"
        for labels, requests in page.kept.get(_REQUESTS, []):
            handler = labels.get("handler", "")
            if handler in _TAKEN and requests and labels.get("code", "").startswith("2"):
                self.readers.anything[handler] = _TAKEN[handler]

    def _dashboards(self) -> None:
        if not self.options.dashboards:
            self.readers.missing.append("no dashboards were given")
            return
        found: Dashboards = read_dashboards(self.options.dashboards)
        for query in found.queries:
            self.readers.add(f"dashboard {query.where}", query.reads())
        for where, problem in found.problems.items():
            self.readers.anything[f"dashboard {where}"] = problem
        self.readers.missing += [f"there is no dashboard in {path}" for path in found.empty]
        self.counts_read["dashboards"] = len(found.files)
        self.counts_read["dashboard_queries"] = len(found.queries)

    def _log(self) -> None:
        missing = self.readers.missing
        try:
            path = self.options.query_log or log_file(self.client, self._configuration)
        except HttpError as error:
            missing.append(f"where the query log is is not known: {error}")
            return
        if not path:
            missing.append("Prometheus keeps no query log, or none that is known")
            return
        try:
            log = read_log(Path(path), self.options.since, self.options.until, self.options.jobs)
        except OSError as error:
            missing.append(f"the query log {path} cannot be read: {error.strerror or error}")
            return
        summary = log.summary
        cut = 0
        for (origin, shape), stats in summary.queries.items():
            # Those of rules are known from the server, and those of a rule that was removed do not matter any more.
            if origin.kind == RULE:
                continue
            text = stats.text or shape
            self.counts_read["logged"] += 1
            if len(text) > LONGEST_QUERY and text not in summary.whole:
                cut += 1
                found = _of_cut(text)
            else:
                whole = summary.whole.get(text, text)
                found = reads(whole)
                if whole.rstrip().endswith(f"# {AUDIT}"):
                    # It looked at what it names, as this one does, and uses no more than this.
                    found = Reads(names=frozenset(name for name in found.names if name.startswith(OF_SERVERS)))
            shown = first_line(" ".join(text.split()))
            self.readers.add(f"query of {origin.name or 'the server'}: {shown}", found)
        missing += self._gaps(path, log)
        if cut:
            # A gap in what was read, like a log that is too short: it proves of no metric that somebody may read it.
            missing.append(
                f"{cut} logged queries are so long that only their first {LONGEST_QUERY} characters were kept"
            )

    def _gaps(self, path: str, log: Log) -> list[str]:
        """Clauses that say what of the window the log does not tell."""
        summary = log.summary
        if not summary.understood:
            return [f"there is no query of the window in the query log {path}"]
        said = []
        covered = summary.last - summary.first
        if covered < COVERED * self.options.window:
            said.append(
                f"the query log tells of {human_duration(covered)} only, "
                f"of the {human_duration(self.options.window)} that were asked for"
            )
        if summary.is_approximate:
            said.append("the query log holds so many different queries that only the costliest were kept")
        broken = sum(count for reason, (count, _example) in summary.not_understood.items() if reason != UNFINISHED)
        if broken:
            said.append(f"{broken} lines of the query log are not understood")
        if log.problems:
            said.append(f"parts of the query log could not be read ({log.problems[0]})")
        return said

    # Who reads which

    def _judge(self, head: Head, recorded: t.Mapping[str, Rule]) -> None:
        readers = self.readers
        used: dict[str, list[str]] = dict(readers.names)
        maybe: dict[str, list[str]] = dict(readers.mentioned)
        for table, wanted in ((used, readers.selectors), (maybe, readers.maybe)):
            for name, who in self._matched(head, wanted):
                table[name] = [*table.get(name, []), *who][:EXAMPLES]
        rest = PROBABLY if readers.missing else UNUSED
        metrics = {}
        for name, series in head.series_by_metric:
            if name in MADE_BY_PROMETHEUS:
                continue
            metric = metrics[name] = Metric(name, series)
            if name in used:
                metric.usage, metric.readers = USED, tuple(used[name])
            elif name in maybe or readers.anything:
                who = [*maybe.get(name, []), *readers.anything][:EXAMPLES]
                metric.usage, metric.readers = NOT_KNOWN, tuple(who)
            else:
                metric.usage = rest
            metric.recorded_by = recorded[name].group if name in recorded else ""
        _keep_parts_together(metrics)
        self.metrics = list(metrics.values())

    def _matched(self, head: Head, wanted: t.Mapping[str, list[str]]) -> list[tuple[str, list[str]]]:
        """Which metrics each selector matches, by the server itself: its regular expressions are its own."""
        if not head.series_by_metric:
            return []
        start, end = head.min_time / 1000, head.max_time / 1000

        def ask(selector: str) -> list[str] | HttpError:
            try:
                if time.monotonic() > self._ends:
                    raise HttpError(f"what matches {selector}", f"not asked, {SECONDS:g} s are over")
                return self.client.label_values("__name__", selector, start, end, MOST)
            except HttpError as error:
                return error

        asked = list(wanted)[:SELECTORS]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(ask, asked))
        found = []
        for selector, answer in zip(asked, answers):
            who = wanted[selector]
            if isinstance(answer, HttpError):
                self.readers.anything.setdefault(who[0], f"what matches {selector} is not known: {answer}")
            elif len(answer) >= MOST:
                self.readers.anything.setdefault(who[0], f"{selector} matches {MOST} metrics or more")
            else:
                found += [(name, who) for name in answer]
        for selector in list(wanted)[SELECTORS:]:
            said = f"what matches {selector} was not asked, as there are more than {SELECTORS} selectors of that kind"
            self.readers.anything.setdefault(wanted[selector][0], said)
        return found

    # What they cost

    def _cost(self, recorded: t.Mapping[str, Rule]) -> None:
        self.metrics.sort(key=lambda metric: (-metric.series, metric.name))
        asked = heaps(self._not_used(), lambda metric: (metric.name, metric.series))
        if len(asked) > COUNTS:
            self._not_counted.append(f"of the smallest it was not asked, as {COUNTS} questions are enough")
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for said in pool.map(self._count, asked[:COUNTS]):
                self._not_counted += [said] if said else []
        try:
            targets = self.client.targets()
        except HttpError as error:
            self._not_counted.append(str(error))
            targets = []
        self._intervals = intervals(targets)
        for metric in self._not_used():
            rule = recorded.get(metric.name)
            if metric.active is not None:
                seconds = dict.fromkeys(metric.active, rule.interval) if rule else self._intervals
                samples = samples_a_second(metric.active, seconds)
                metric.samples = None if samples is None else round(samples, 4)

    def _count(self, heap: list[Metric]) -> str:
        """Asks for the series that some metrics have now. Says why that is not known; empty where it is."""
        if time.monotonic() > self._ends:
            return f"the {SECONDS:g} s for asking were over"
        try:
            found = count(self.client, [metric.name for metric in heap], ["job"])
        except HttpError as error:
            return str(error)
        for metric in heap:
            metric.active = {job: series for (job,), series in found[metric.name].items()}
        return ""

    # What is said

    def _droppable(self) -> list[Metric]:
        return [metric for metric in self.metrics if metric.usage in (UNUSED, PROBABLY)]

    def _summary(self, head: Head) -> Finding:
        counts = self.counts()
        found = self._droppable()
        series = sum(metric.series for metric in found)
        samples = sum(metric.samples or 0.0 for metric in found)
        subject = self.client.server.url
        evidence: dict[str, t.Any] = {
            "asked": f"GET /api/v1/status/tsdb?limit={MOST}",
            "figures": {
                **{f"{usage.replace(' ', '_')}_metrics": counts[usage]["metrics"] for usage in counts},
                "unused_series": series,
                "unused_samples_per_second": round(samples, 3),
            },
            "samples_not_known": sum(1 for metric in found if metric.samples is None),
            "not_counted": self._not_counted,
            "relabelling": "\n".join(drop.text for drop in self.drops),
        }
        if not self.metrics:
            summary = "Not known: the head holds no metric of a scrape, so there is nothing to judge."
            remedy = "See whether its targets are up: ansible-playbook service-health.yml."
            return Finding(USAGE, subject, "unknown", summary, evidence, remedy)
        whole = f"{len(self.metrics)} metrics"
        if len(head.series_by_metric) >= MOST:
            whole = f"the {len(self.metrics)} largest metrics"
            evidence["not_looked_at"] = f"metrics that are smaller than the {MOST} largest"
        if not found and counts[NOT_KNOWN]["metrics"]:
            summary = f"Not known: of {whole} {counts[NOT_KNOWN]['metrics']:.0f} may be used or not; see usage.unknown."
            return Finding(USAGE, subject, "unknown", summary, evidence, "Do first what usage.unknown says.")
        if not found:
            summary = f"Each of {whole} is used by a rule, a dashboard or a logged query."
            return Finding(USAGE, subject, "ok", summary, evidence)
        evidence["chart"] = {
            "kind": "bars",
            "title": "Series of metrics that nobody reads",
            "unit": "series",
            "bars": [{"label": f"{metric.name} ({metric.usage})", "value": metric.series} for metric in found[:SHOWN]],
        }
        share = series / head.series if head.series else 0.0
        least = "at least " if any(metric.samples is None for metric in found) else ""
        summary = (
            f"{len(found)} of {whole} are {found[0].usage}: no rule, dashboard or logged query reads them. They hold "
            f"{series} series ({share:.0%} of the head) and take {least}{_rate(samples)} samples a second."
        )
        if self.readers.missing:
            summary += f" It is not sure, as {self.readers.missing[0]}."
        if len(found) > ROWS:
            summary += f" The relabelling drops the {ROWS} largest."
        remedy = (
            "See who may want them, then put the relabelling of the evidence into the scrape jobs that it names; it "
            "drops them from the next scrape on, and what is stored stays until its retention ends."
        )
        recorded = [metric.name for metric in found if metric.recorded_by]
        if recorded:
            remedy += (
                f" Of recording rules ({', '.join(recorded[:EXAMPLES])}) remove the rule instead, and run this again: "
                "what only they read is unused then."
            )
        return Finding(USAGE, subject, "info", summary, evidence, remedy)

    def _of_unknown(self) -> list[Finding]:
        found = [metric for metric in self.metrics if metric.usage == NOT_KNOWN]
        if not found:
            return []
        reasons = dict(list(self.readers.anything.items())[:SHOWN])
        if reasons:
            who, reason = next(iter(reasons.items()))
            why = f"{who}: {reason}"
        else:
            why = f"{found[0].name} may be read by {found[0].readers[0]}"
        evidence = {
            "figures": {
                "unknown_metrics": len(found),
                "unknown_series": sum(metric.series for metric in found),
            },
            "may_read_anything": reasons,
            "metrics": [[metric.name, metric.series, list(metric.readers)] for metric in found[:SHOWN]],
        }
        summary = f"Whether {len(found)} metrics are used is not known: {why}."
        remedy = (
            "Name the metric in each query of the evidence, give the files that are missing, or ask those who run the "
            "other server. Until then none of these metrics is proposed to be dropped."
        )
        return [Finding(UNKNOWN, self.client.server.url, "unknown", summary, evidence, remedy)]

    def _of_metric(self, metric: Metric) -> Finding:
        figures: dict[str, float] = {"head_series": metric.series}
        if metric.samples is not None:
            figures["samples_per_second"] = metric.samples
        evidence = {"figures": figures, "jobs": metric.jobs, "usage": metric.usage}
        summary = f"{metric.name} is {metric.usage}: it holds {metric.series} series"
        summary += " and takes " + (
            f"{_rate(metric.samples)} samples a second."
            if metric.samples is not None
            else "samples that were not counted."
        )
        if metric.recorded_by:
            remedy = f"Remove the rule of the group {metric.recorded_by} that records it: nobody reads what it records."
            return Finding(METRIC, metric.name, "info", summary, evidence, remedy)
        evidence["relabelling"] = drop_names([re.escape(metric.name)], scrape_job(metric.jobs, self._intervals))
        remedy = "Drop it by the relabelling of the evidence, or publish it no more."
        return Finding(METRIC, metric.name, "info", summary, evidence, remedy)

    def _of_readers(self) -> Finding:
        read, readers = self.counts_read, self.readers
        evidence = {
            "figures": {f"{name}_read": count for name, count in read.items()},
            "missing": readers.missing,
            "may_read_anything": dict(list(readers.anything.items())[:SHOWN]),
            "window_seconds": self.options.window,
        }
        subject = self.client.server.url
        summary = (
            f"{read['rules']} rules, {read['dashboard_queries']} queries of {read['dashboards']} dashboards and "
            f"{read['logged']} different logged queries of clients were read"
        )
        if not readers.missing:
            return Finding(READERS, subject, "ok", f"{summary}.", evidence)
        summary += f", which is no proof: {'; '.join(readers.missing)}. So a metric is probably unused at most."
        remedy = (
            "Give the dashboards with dashboards; keep the query log (prometheus_query_log: true) and its rotated "
            f"files for {human_duration(self.options.window)}, run as root, and run again."
        )
        return Finding(READERS, subject, "info", summary, evidence, remedy)


def _of_cut(text: str) -> Reads:
    """What the beginning of a query reads: each name in it counts as read, as the whole would tell."""
    found = reads(text[:LONGEST_QUERY])
    return dataclasses.replace(found, names=found.names | found.mentioned, mentioned=frozenset())


def _rate(samples: float) -> str:
    return f"{samples:.0f}" if samples >= 100 else f"{samples:.3g}"


def _keep_parts_together(metrics: t.Mapping[str, Metric]) -> None:
    """Count and sum of a histogram or a summary cost little, and belong to what somebody reads or may read of it.

    Its buckets or quantiles are most of its cost, and go for themselves.
    """
    ranks = (UNUSED, PROBABLY, NOT_KNOWN, USED)
    for base in [
        name[: -len("_count")] for name in metrics if name.endswith("_count") and f"{name[:-6]}_sum" in metrics
    ]:
        family = [metrics[name] for name in (base, f"{base}_bucket", f"{base}_count", f"{base}_sum") if name in metrics]
        most = max(family, key=lambda metric: ranks.index(metric.usage))
        for metric in (metrics[f"{base}_count"], metrics[f"{base}_sum"]):
            if metric.usage != most.usage:
                metric.usage, metric.readers = most.usage, (f"it belongs to {most.name}",)


def drops(metrics: t.Sequence[Metric], scraped: t.Container[str]) -> list[Drop]:
    """What to drop of each job, the surely unused apart from the others; the dearest first.

    :param scraped: the jobs that targets have.
    """
    found = []
    for usage in (UNUSED, PROBABLY):
        by_job: dict[str, list[Metric]] = {}
        for metric in metrics:
            if metric.usage == usage and not metric.recorded_by:
                for job in metric.jobs or [""]:
                    by_job.setdefault(job, []).append(metric)
        for job, its in by_job.items():
            names = sorted(metric.name for metric in its)
            known = [metric for metric in its if metric.samples is not None and metric.active]
            samples = sum(_share(metric, job) * (metric.samples or 0.0) for metric in known)
            series = sum((metric.active or {}).get(job, 0) for metric in its)
            place = f"{scrape_job([job] if job else [], scraped)}; {usage}"
            text = drop_names([re.escape(name) for name in names], place)
            found.append(Drop(job, usage, names, series, round(samples, 3) if known else None, text))
    return sorted(found, key=lambda drop: (drop.usage != UNUSED, -drop.series, drop.job))


def _share(metric: Metric, job: str) -> float:
    active = metric.active or {}
    return active.get(job, 0) / sum(active.values()) if active else 0.0
