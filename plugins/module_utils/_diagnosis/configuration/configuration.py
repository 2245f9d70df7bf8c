# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The configuration of a running Prometheus, audited: what it takes without a word and what is wrong all the same.

Targets that are scraped twice, ranges of rules that hold too few scrapes, operators whose sides come from different
jobs, files of rules that are not loaded, rule groups that take too long, and scrape intervals outside of the runbook's
table, with a proposal. A dozen requests, each with a limit.

Sources: the runbook's "Performance Tuning", and the audit of the runbook.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import typing as t
import urllib.parse
from pathlib import Path

from ... import _yaml
from ..._exposition import Exposition
from ..._finding import Finding
from ..._http import HttpError
from ..._prometheus import Head, Prometheus, Rule, Sample, Target
from ..._units import duration, human_duration
from .. import clock, not_known, not_ready
from ..language.promql import Node, NotUnderstood, Selector, parse, selectors
from ..query.slow_queries import SHARE_CRITICAL, SHARE_WARNING
from ..scrape import port
from ..series.series_cost import COUNTED_SERIES, count, heaps, in_pattern
from ..series.usage import MADE_BY_PROMETHEUS
from . import name_filter, rule_files, scrape_intervals
from .name_filter import NameFilter
from .range_windows import LEAST, Join, Window, accepts, joins, windows
from .scrape_intervals import JOB, REST, ROWS, Entry, Proposal, Split

DOUBLED, WINDOWS, JOINS = "configuration.doubled", "configuration.windows", "configuration.joins"
FILES, RULES, INTERVALS = "configuration.rule_files", "configuration.rules", "configuration.intervals"
SCRAPES = "configuration.scrapes"
AT_ONCE = 4
# Metrics of the head that are known, the largest first; and questions for their series.
MOST = 10_000
COUNTS = 4
# Findings of one check, and rows in evidence.
SHOWN = 20
NAMED = 3
# A group that missed a larger share of its evaluations is late for more than a restart.
MISSED = 0.01
# A smaller share of all samples is no reason to change anything.
WORTH = 0.01
KEPT, TOOK = "scrape_samples_post_metric_relabeling", "scrape_duration_seconds"
LAST, MISSES, ITERATIONS = (
    "prometheus_rule_group_last_duration_seconds",
    "prometheus_rule_group_iterations_missed_total",
    "prometheus_rule_group_iterations_total",
)
RELOADED = "prometheus_config_last_reload_success_timestamp_seconds"
_OWN_NAMES = (LAST, MISSES, ITERATIONS, RELOADED)
_PORTS = {"http": 80, "https": 443}
# Prometheus' own, where nothing is set.
_EVALUATION = 60.0
_LOOKBACK = 300.0

TargetKey = t.Tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Options:
    """
    :param paces: metrics of the catalogue with their key of ``ROWS``.
    :param split: metrics with intervals of their own, as the inventory says; None where it is not known.
    :param wishes: seconds that the metrics of a row shall have.
    :param before: figures of an earlier look, to be compared with.
    """

    paces: t.Mapping[str, str]
    split: Split | None
    wishes: t.Mapping[str, float]
    before: t.Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Source:
    """Where series of a metric come from.

    :param labels: ``job`` and ``instance``; none of what a rule records.
    :param interval: seconds between two samples.
    :param series: how many now; 0 where there are none yet.
    """

    labels: dict[str, str]
    interval: float
    series: int

    @property
    def job(self) -> str:
        return self.labels.get("job", "")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What Prometheus says of itself at one time.

    :param configuration: as it writes it.
    :param scrapes: :data:`KEPT` and :data:`TOOK`, the newest of each target.
    """

    targets: list[Target]
    rules: list[Rule]
    configuration: dict[str, t.Any]
    flags: dict[str, str]
    head: Head
    own: Exposition
    scrapes: list[Sample]

    @classmethod
    def ask(cls, client: Prometheus) -> Facts:
        """Seven requests, a few at a time.

        :raises HttpError: where one of them is not answered.
        :raises ValueError: where its configuration is not as a server writes it.
        """
        calls: dict[str, t.Callable[[], t.Any]] = {
            "targets": client.targets,
            "rules": client.rules,
            "configuration": client.configuration,
            "flags": client.flags,
            "head": lambda: client.head(MOST),
            "own": lambda: client.own_page(_OWN_NAMES),
            "scrapes": lambda: client.query(f'{{__name__=~"{KEPT}|{TOOK}"}}'),
        }
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {name: pool.submit(call) for name, call in calls.items()}
            said = {name: future.result() for name, future in running.items()}
        configuration = _yaml.read(said["configuration"])
        if not isinstance(configuration, dict):
            raise ValueError("its configuration is no mapping")
        return cls(**{**said, "configuration": configuration})

    @property
    def jobs(self) -> dict[str, dict[str, t.Any]]:
        rows = self.configuration.get("scrape_configs") or []
        return {row["job_name"]: row for row in rows if isinstance(row, dict) and "job_name" in row}

    @property
    def evaluation(self) -> float:
        """Seconds between the evaluations of rules and subqueries that say none of their own."""
        text = (self.configuration.get("global") or {}).get("evaluation_interval")
        return duration(text) if text else _EVALUATION

    def filter(self, target: Target) -> NameFilter | None:
        """The names that its job lets through; None where it cannot be told."""
        return name_filter.of_relabelling(self.jobs.get(target.pool, {}).get("metric_relabel_configs") or [])

    @property
    def exporters(self) -> list[Target]:
        """The targets of the exporter of the bus, under each of its jobs."""
        return [target for target in self.targets if target.pool == JOB or target.pool.startswith(f"{JOB}_")]


class Look:
    """One audit of a server; :meth:`findings` makes it."""

    def __init__(self, client: Prometheus, options: Options) -> None:
        self.client = client
        self.options = options
        self.proposal: dict[str, dict[str, t.Any]] = {}
        self.in_force: dict[str, dict[str, t.Any]] = {}
        # From what is in force to the proposal, as lines of a unified diff.
        self.change = ""
        self.figures: dict[str, float] = {}
        # Why the series of some metrics are not known.
        self._not_counted: list[str] = []
        self._series: dict[str, dict[TargetKey, int]] = {}
        self._trees: dict[int, Node] = {}

    def findings(self) -> list[Finding]:
        url = self.client.server.url
        found = not_ready(SCRAPES, self.client)
        if found:
            return found
        try:
            self.facts = Facts.ask(self.client)
        except HttpError as error:
            return [not_known(SCRAPES, url, error)]
        except ValueError as error:
            summary = f"Not known: the configuration of {url} cannot be read: {error}."
            return [Finding(SCRAPES, url, "unknown", summary, {"asked": "GET /api/v1/status/config"})]
        self._recorded = {rule.name: rule for rule in self.facts.rules if rule.kind == "recording"}
        not_parsed = self._parse()
        ranges = [one for rule, tree in self._parsed() for one in windows(rule, tree)]
        pairs = [one for rule, tree in self._parsed() for one in joins(rule, tree)]
        self._count({*self._names_of(ranges, pairs), *self._catalogued()})
        return [
            *self._scrapes(),
            *self._doubled(),
            *self._windows(ranges, not_parsed),
            *self._joins(pairs),
            *self._files(),
            *self._groups(),
            *self._intervals(ranges, pairs),
        ]

    @property
    def settle_seconds(self) -> float:
        """After so long what the proposal replaced has ended."""
        entries = (*self.proposal.values(), *self.in_force.values())
        return 2 * max((duration(entry["interval"]) for entry in entries), default=0.0)

    # What is read

    def _parse(self) -> list[tuple[Rule, str]]:
        """Reads all rules; gives those that are not understood, and why."""
        refused = []
        for number, rule in enumerate(self.facts.rules):
            tree = _tree(rule.query)
            if isinstance(tree, Node):
                self._trees[number] = tree
            else:
                refused.append((rule, str(tree)))
        return refused

    def _parsed(self) -> t.Iterator[tuple[Rule, Node]]:
        return ((self.facts.rules[number], tree) for number, tree in self._trees.items())

    def _names_of(self, ranges: t.Iterable[Window], pairs: t.Iterable[Join]) -> set[str]:
        joined = itertools.chain.from_iterable((*pair.left, *pair.right) for pair in pairs)
        ranged = (window.selector for window in ranges if window.selector)
        return {selector.metric for selector in (*joined, *ranged)} - {""}

    def _catalogued(self) -> set[str]:
        """Names of the catalogue's series that the head holds."""
        wanted = {name for metric in self.options.paces for name in scrape_intervals.family(metric)}
        return {name for name, _count in self.facts.head.series_by_metric if name in wanted}

    def _count(self, wanted: t.AbstractSet[str]) -> None:
        """From which targets the series of some metrics come."""
        sizes = [row for row in self.facts.head.series_by_metric if row[0] in wanted]
        questions = heaps(sizes, lambda row: row)
        for heap in questions[:COUNTS]:
            names = [name for name, _series in heap]
            try:
                found = count(self.client, names, ("job", "instance"))
            except HttpError as error:
                self._not_counted.append(str(error))
                continue
            for name, rows in found.items():
                self._series[name] = {(job, instance): series for (job, instance), series in rows.items()}
        if len(questions) > COUNTS:
            self._not_counted.append(f"of the smallest it was not asked, as {COUNTS} questions are enough")

    def _intervals_by_target(self) -> dict[TargetKey, float]:
        """Seconds; the longest where a target has several."""
        found: dict[TargetKey, float] = {}
        for target in self.facts.targets:
            place = _key(target.labels)
            found[place] = max(found.get(place, 0.0), target.interval)
        return found

    def sources(self, selector: Selector) -> list[Source]:
        """Where the series come from that a selector reads; none where that is not known."""
        name = selector.metric
        rule = self._recorded.get(name)
        if rule:
            return [Source({}, rule.interval, 0)]
        by_target = self._intervals_by_target()
        found = []
        for place, series in self._series.get(name, {}).items():
            labels = dict(zip(("job", "instance"), place))
            # A page may bring another job's name: then it is not known how often it is scraped.
            if accepts(selector.matchers, labels) and by_target.get(place):
                found.append(Source(labels, by_target[place], series))
        return found or self._expected(selector)

    def _expected(self, selector: Selector) -> list[Source]:
        """Where series of the catalogue would come from, by the filters of the exporter's jobs."""
        if not any(selector.metric in scrape_intervals.family(metric) for metric in self.options.paces):
            return []
        found = []
        for target in self.facts.exporters:
            passing = self.facts.filter(target)
            labels = dict(zip(("job", "instance"), _key(target.labels)))
            if passing is None:
                return []
            if passing.passes(selector.metric) and accepts(selector.matchers, labels):
                found.append(Source(labels, target.interval, 0))
        return found

    # Scrapes

    def _scrapes(self) -> list[Finding]:
        url = self.client.server.url
        kept, took, _scrapes = self._load(self.facts.targets)
        exported, busy, pages = self._load(self.facts.exporters)
        down = [target for target in self.facts.targets if target.health == "down"]
        waiting = [target for target in self.facts.targets if target.health not in ("up", "down")]
        self.figures = {
            "samples_per_second": round(kept, 3),
            "scrape_busy_ratio": round(took, 6),
            "exporter_samples_per_second": round(exported, 3),
            "exporter_scrapes_per_second": round(pages, 4),
            "exporter_scrape_busy_ratio": round(busy, 6),
            "targets": len(self.facts.targets),
            "targets_down": len(down),
        }
        evidence: dict[str, t.Any] = {"figures": self.figures}
        summary = (
            f"{len(self.facts.targets)} targets give {kept:.4g} samples a second, and being scraped takes "
            f"{took:.2%} of the time"
        )
        if self.options.before:
            evidence["before"] = dict(self.options.before)
            was = {name: float(self.options.before.get(name, 0.0)) for name in self.figures}
            # What Prometheus and the host say of themselves varies by more.
            summary += (
                f". Of the exporter come {exported:.4g} samples a second instead of "
                f"{was['exporter_samples_per_second']:.4g}, its page is read {pages * 60:.3g} times a minute instead "
                f"of {was['exporter_scrapes_per_second'] * 60:.3g}, and that takes {busy:.2%} of the time instead of "
                f"{was['exporter_scrape_busy_ratio']:.2%}"
            )
        if down:
            named = ", ".join(f"{target.pool} {target.url}: {target.error}" for target in down[:NAMED])
            summary = f"{len(down)} of {len(self.facts.targets)} targets are down ({named}). {summary}."
            remedy = "ansible-playbook troubleshoot-missing-metrics.yml says of each job which link fails."
            return [Finding(SCRAPES, url, "warning", summary, evidence, remedy)]
        if waiting or not self.facts.targets:
            summary = f"{len(waiting)} of {len(self.facts.targets)} targets have not been scraped yet. {summary}."
            remedy = "Ask again after the longest scrape interval; without any target ansible-playbook site.yml."
            return [Finding(SCRAPES, url, "unknown", summary, evidence, remedy)]
        return [Finding(SCRAPES, url, "info" if self.options.before else "ok", f"{summary}.", evidence)]

    def _load(self, targets: t.Iterable[Target]) -> tuple[float, float, float]:
        """Samples a second of some targets, the share of the time that their scrapes take, and scrapes a second."""
        seconds = {_key(target.labels): target.interval for target in targets if target.interval}
        sums = dict.fromkeys((KEPT, TOOK), 0.0)
        for sample in self.facts.scrapes:
            interval = seconds.get(_key(sample.labels))
            if interval:
                sums[sample.labels["__name__"]] += sample.value / interval
        return sums[KEPT], sums[TOOK], sum(1 / interval for interval in seconds.values())

    # Targets that are scraped twice

    def _doubled(self) -> list[Finding]:
        by_url: dict[str, list[Target]] = {}
        for target in self.facts.targets:
            by_url.setdefault(_plain_url(target.url), []).append(target)
        shared = {url: targets for url, targets in by_url.items() if len(targets) > 1}
        if not shared:
            told = f"Each of {len(self.facts.targets)} targets is scraped by one job."
            return [Finding(DOUBLED, self.client.server.url, "ok", told)] if self.facts.targets else []
        try:
            names = self._names_by_target([target for targets in shared.values() for target in targets])
        except HttpError as error:
            names, why = None, str(error)
        else:
            why = f"the targets have more than {COUNTED_SERIES} series"
        return [self._of_shared(url, targets, names, why) for url, targets in shared.items()]

    def _names_by_target(self, targets: t.Sequence[Target]) -> dict[TargetKey, dict[str, int]] | None:
        """Series by metric of each target; None where there are too many to ask.

        :raises HttpError: where it is not known.
        """
        places = {_key(target.labels) for target in targets}
        kept = sum(
            sample.value
            for sample in self.facts.scrapes
            if sample.labels["__name__"] == KEPT and _key(sample.labels) in places
        )
        if kept > COUNTED_SERIES:
            return None
        patterns = {
            label: "|".join(sorted({in_pattern(place[at]) for place in places}))
            for at, label in enumerate(("job", "instance"))
        }
        # What a reload has ended is seen for as long as two scrapes; a sample that is older is of no scrape now.
        lookback = min(1.5 * max(target.interval for target in targets) + 1.0, _LOOKBACK)
        samples = self.client.query(
            f'count by (__name__, job, instance) ({{job=~"{patterns["job"]}",instance=~"{patterns["instance"]}"}})',
            lookback=lookback,
        )
        found: dict[TargetKey, dict[str, int]] = {place: {} for place in places}
        for sample in samples:
            name = sample.labels["__name__"]
            # A rule keeps the label job of what it reads: what it records twice is what it read twice.
            if name not in MADE_BY_PROMETHEUS and name not in self._recorded and _key(sample.labels) in found:
                found[_key(sample.labels)][name] = int(sample.value)
        return found

    def _of_shared(
        self, url: str, targets: list[Target], names: dict[TargetKey, dict[str, int]] | None, why: str
    ) -> Finding:
        jobs = sorted({target.pool for target in targets})
        told = f"{url} is scraped by {len(targets)} targets (jobs {', '.join(jobs)})"
        evidence: dict[str, t.Any] = {
            "jobs": jobs,
            "targets": [dict(zip(("job", "instance"), _key(target.labels))) for target in targets],
        }
        filters = [self.facts.filter(target) for target in targets]
        disjoint = all(
            one is not None and other is not None and one.is_disjoint(other)
            for one, other in itertools.combinations(filters, 2)
        )
        twice: dict[str, int] = {}
        if names is not None:
            for one, other in itertools.combinations([names[_key(target.labels)] for target in targets], 2):
                for name in one.keys() & other.keys():
                    twice[name] = max(twice.get(name, 0), min(one[name], other[name]))
        evidence["filters_are_disjoint"] = disjoint
        evidence["metrics_seen_twice"] = sorted(twice)[:SHOWN]
        remedy = (
            "Give each job a filter of its own by metric name: prometheus_exporter_intervals of the role prometheus "
            "writes them for the exporter (ansible-playbook tune.yml proposes it). Else remove one of the jobs."
        )
        if disjoint and not twice:
            return Finding(DOUBLED, url, "ok", f"{told}, and no metric passes the filters of two of them.", evidence)
        if disjoint:
            summary = (
                f"{told}; no metric passes two filters, and {_several(sorted(twice))} come from two all the same: from "
                "before a change, or by labels that another page brings."
            )
            remedy = f"Ask again in {human_duration(_LOOKBACK)}: what has ended is forgotten by then."
            return Finding(DOUBLED, url, "warning", summary, evidence, remedy)
        if twice:
            summary = (
                f"{told}, so that {len(twice)} metrics are stored more than once ({_several(sorted(twice))}): sums "
                f"over them are too high, {len(targets)}-fold at worst, and one trouble is an alert for each job."
            )
            evidence["figures"] = {"doubled_metrics": len(twice), "doubled_series": sum(twice.values())}
            return Finding(DOUBLED, url, "warning", summary, evidence, remedy)
        if names is None:
            summary = f"Not known: {told}, and whether metrics are stored twice was not seen, as {why}."
            return Finding(DOUBLED, url, "unknown", summary, evidence, remedy)
        summary = f"{told}. No metric is stored twice now, and nothing keeps them from it."
        return Finding(DOUBLED, url, "warning", summary, evidence, remedy)

    # Ranges of rules

    def _windows(self, ranges: list[Window], not_parsed: list[tuple[Rule, str]]) -> list[Finding]:
        url = self.client.server.url
        found: list[Finding] = []
        rows: list[tuple[float, str, str, float, str]] = []
        unknown: dict[str, str] = {f"{rule.group}/{rule.name}": reason for rule, reason in not_parsed}
        for window in ranges:
            interval, by = self._interval(window)
            rule = f"{window.rule.group}/{window.rule.name}"
            if not interval:
                unknown[rule] = f"{window.text}: {by}"
                continue
            rows.append((round(window.holds(interval), 2), rule, window.text, interval, by))
            if window.is_short(interval):
                found.append(self._short(window, interval, by))
        rows.sort()
        if len(found) > SHOWN:
            rest = len(found) - SHOWN
            found = found[:SHOWN]
            told = f"{rest} more ranges of rules hold fewer than {LEAST} scrapes."
            found.append(Finding(WINDOWS, url, "warning", told, {"ranges": rows[: SHOWN * 5]}))
        if unknown:
            first, reason = next(iter(unknown.items()))
            told = f"Not known of {len(unknown)} rules whether their ranges hold {LEAST} scrapes: {first}, {reason}"
            evidence: dict[str, t.Any] = {
                "reasons": dict(list(unknown.items())[:SHOWN]),
                "not_counted": self._not_counted,
            }
            remedy = "Run this again once the metrics are there; a rule on a metric that never comes can go."
            found.append(Finding(WINDOWS, url, "unknown", f"{told}.", evidence, remedy))
        if not found:
            shortest = f"; the shortest is {rows[0][2]} of {rows[0][1]} with {rows[0][0]:g}" if rows else ""
            told = (
                f"Each of {len(rows)} ranges in {len(self.facts.rules)} rules holds {LEAST} scrapes or more{shortest}."
            )
            found.append(Finding(WINDOWS, url, "ok", told, {"ranges": rows[:SHOWN]}))
        return found

    def _interval(self, window: Window) -> tuple[float, str]:
        """Seconds between two samples of a range, and whose they are; 0 with the reason where that is not known."""
        if window.selector is None:
            return window.step or self.facts.evaluation, "the step of the subquery"
        name = window.selector.metric
        if not name:
            return 0.0, "it reads no one metric"
        sources = self.sources(window.selector)
        if not sources:
            return 0.0, f"{name} is not there now, and it is not known how often it would be scraped"
        slowest = max(sources, key=lambda source: source.interval)
        return slowest.interval, f"job {slowest.job}" if slowest.job else "the rule that records it"

    def _short(self, window: Window, interval: float, by: str) -> Finding:
        rule = window.rule
        holds = window.holds(interval)
        kind = "alert" if rule.kind == "alerting" else "rule"
        useless = window.has_no_value(interval)
        effect = (
            "it has no value most of the time"
            if useless
            else "one scrape that fails or is late can leave it without a value"
        )
        if useless and rule.kind == "alerting":
            effect += ", and the alert cannot fire then"
        summary = (
            f"The {kind} {rule.name} reads {window.text}, which holds {holds:.2g} samples of {by} "
            f"(every {human_duration(interval)}) where {LEAST} are needed: {effect}."
        )
        name = window.selector.metric if window.selector else window.text
        remedy = (
            f"Make the range {human_duration(LEAST * interval)} or longer ({rule.file}), or let {name} come every "
            f"{human_duration(window.seconds / LEAST)} or less."
        )
        evidence = {
            "query": rule.query,
            "file": rule.file,
            "figures": {"window_seconds": window.seconds, "interval_seconds": interval},
        }
        severity = "critical" if useless and rule.kind == "alerting" else "warning"
        return Finding(WINDOWS, f"{rule.group}/{rule.name}", severity, summary, evidence, remedy)

    # Operators whose sides come from different jobs

    def _joins(self, pairs: list[Join]) -> list[Finding]:
        url = self.client.server.url
        found = []
        for pair in pairs:
            left, right = (self._jobs_of(side) for side in (pair.left, pair.right))
            if left and right and not left & right:
                found.append(self._parted(pair, left, right))
        if not found and pairs:
            told = f"{len(pairs)} operators of rules compare the label job, and none joins metrics of different jobs."
            return [Finding(JOINS, url, "ok", told)]
        return found[:SHOWN]

    def _jobs_of(self, side: t.Iterable[Selector]) -> set[str]:
        """All jobs of the metrics of a side; none where one of them is not known."""
        found: set[str] = set()
        for selector in side:
            jobs = {source.job for source in self.sources(selector)}
            if not jobs or "" in jobs:
                return set()
            found |= jobs
        return found

    def _parted(self, pair: Join, left: set[str], right: set[str]) -> Finding:
        rule = pair.rule
        summary = (
            f"The {'alert' if rule.kind == 'alerting' else 'rule'} {rule.name} joins metrics of the job "
            f"{', '.join(sorted(left))} with those of {', '.join(sorted(right))} by the label job, so that none meets: "
            f"{_short_text(pair.text)}."
        )
        remedy = (
            f"Let it join on (instance), or ignoring (job), in {rule.file}; or scrape both by one job: name them in "
            "the same one of prometheus_exporter_intervals, or in none."
        )
        evidence = {"query": rule.query, "file": rule.file, "left": sorted(left), "right": sorted(right)}
        return Finding(JOINS, f"{rule.group}/{rule.name}", "warning", summary, evidence, remedy)

    # Files of rules

    def _files(self) -> list[Finding]:
        url = self.client.server.url
        patterns = [str(pattern) for pattern in self.facts.configuration.get("rule_files") or []]
        path = self.facts.flags.get("config.file", "")
        evidence: dict[str, t.Any] = {"rule_files": patterns, "config_file": path}
        if not patterns:
            told = "No files of rules are configured, so that nothing is recorded and no alert is raised."
            return [Finding(FILES, url, "warning", told, evidence, "ansible-playbook site.yml brings the alerts.")]
        try:
            look = self._look_at_files(patterns)
        except HttpError as error:
            return [not_known(FILES, url, error)]
        except rule_files.NotRead as error:
            told = f"Not known whether all files of rules are loaded: {error}."
            remedy = "Run this as root on the host, and in the container, of Prometheus."
            return [Finding(FILES, url, "unknown", told, evidence, remedy)]
        evidence = {**evidence, "not_loaded": look.not_loaded, "changed": look.changed, "gone": look.gone}
        if look.is_well:
            told = f"All rules of {look.count} files are loaded as they are on the disk."
            return [Finding(FILES, url, "ok", told, evidence)]
        parts = []
        if look.not_loaded:
            parts.append(f"{_several(look.not_loaded)} is not loaded")
        if look.changed:
            name, at = next(iter(look.changed.items()))
            parts.append(f"{name} was changed at {clock(at)}, after the last reload")
        if look.gone:
            parts.append(f"{_several(look.gone)} is gone, and its rules are still evaluated")
        if look.empty:
            parts.append(f"no file fits {_several(look.empty)} of rule_files")
        remedy = (
            "promtool check config prometheus.yml, then systemctl reload prometheus; then see that "
            "prometheus_config_last_reload_successful is 1."
        )
        if look.empty and len(parts) == 1:
            remedy = (
                f"See whether the path is right: the pattern of rule_files in {path}, and the files that are meant."
            )
        return [Finding(FILES, url, "warning", f"{'; '.join(parts)}.", evidence, remedy)]

    def _look_at_files(self, patterns: list[str]) -> rule_files.Look:
        """
        :raises rule_files.NotRead: where the server's files cannot be seen from here.
        """
        host = urllib.parse.urlsplit(self.client.server.url).hostname or ""
        if not (host == "localhost" or port.is_local(host)):
            raise rule_files.NotRead(f"{host} is not this host")
        path = Path(self.facts.flags.get("config.file", ""))
        # The server has made its patterns absolute where the path of its configuration is.
        directory = Path("/") if path.is_absolute() else Path(str(self.client.runtime().get("CWD", "/")))
        if not (directory / path).exists():
            raise rule_files.NotRead(f"{directory / path} cannot be seen from here")
        loaded = {rule.file for rule in self.facts.rules}
        return rule_files.look(patterns, directory, loaded, self.facts.own.value(RELOADED))

    # Rule groups

    def _groups(self) -> list[Finding]:
        url = self.client.server.url
        groups: dict[tuple[str, str], list[Rule]] = {}
        for rule in self.facts.rules:
            groups.setdefault((rule.file, rule.group), []).append(rule)
        if not groups:
            return []
        last, missed, iterations = (self._by_group(name) for name in (LAST, MISSES, ITERATIONS))
        shares, found = [], []
        for (file, group), rules in groups.items():
            own = f"{file};{group}"
            took = last.get(own, sum(rule.took for rule in rules))
            share = took / rules[0].interval if rules[0].interval else 0.0
            shares.append((share, group, took))
            lost = missed.get(own, 0.0) / iterations[own] if iterations.get(own) else 0.0
            if share >= SHARE_WARNING or lost >= MISSED:
                found.append(self._costly(group, file, rules, took, share, lost))
        shares.sort(reverse=True)
        costliest = sorted(self.facts.rules, key=lambda rule: -rule.took)
        evidence: dict[str, t.Any] = {
            "shares": [[group, round(share, 4), took] for share, group, took in shares[:SHOWN]],
            "costliest": [[rule.group, rule.name, rule.took] for rule in costliest[:SHOWN]],
            "figures": {"largest_share_ratio": round(shares[0][0], 4)},
        }
        if found:
            return found[:SHOWN]
        first = costliest[0]
        told = (
            f"No rule group is late: {shares[0][1]} takes most of its interval, {shares[0][0]:.1%}; the costliest rule "
            f"is {first.name} of {first.group} with {human_duration(first.took)}."
        )
        return [Finding(RULES, url, "ok", told, evidence)]

    def _by_group(self, name: str) -> dict[str, float]:
        return {labels.get("rule_group", ""): value for labels, value in self.facts.own.kept.get(name, [])}

    def _costly(self, group: str, file: str, rules: list[Rule], took: float, share: float, lost: float) -> Finding:
        costliest = sorted(rules, key=lambda rule: -rule.took)[:NAMED]
        named = ", ".join(f"{rule.name} {human_duration(rule.took)}" for rule in costliest)
        summary = (
            f"The rule group {group} takes {human_duration(took)}, {share:.0%} of its interval of "
            f"{human_duration(rules[0].interval)}"
        )
        if lost >= MISSED:
            summary += f", and {lost:.1%} of its evaluations were left out since the server was started"
        evidence = {
            "figures": {"share_ratio": round(share, 4), "missed_ratio": round(lost, 4)},
            "costliest": [[rule.name, rule.took, rule.query] for rule in costliest],
        }
        remedy = (
            f"Make the costliest cheaper by recording rules (query_log_info writes them), split the group, or evaluate "
            f"it less often, in {file}."
        )
        severity = "critical" if share >= SHARE_CRITICAL else "warning"
        return Finding(RULES, group, severity, f"{summary}: {named}.", evidence, remedy)

    # Scrape intervals

    def _intervals(self, ranges: list[Window], pairs: list[Join]) -> list[Finding]:
        if not self.options.paces:
            return []
        url = self.client.server.url
        exporters = self.facts.exporters
        rest = [target.interval for target in exporters if target.pool == JOB]
        if not rest:
            told = f"Not known: no target has the job {JOB}, so that there is no exporter of the bus to be tuned."
            return [Finding(INTERVALS, url, "unknown", told, {}, "ansible-playbook site.yml writes that job.")]
        known = {scrape_intervals.base(name): name for name in self.options.paces}
        places = {_key(target.labels) for target in exporters}
        running = self._running()
        series = {metric: self._series_of(metric, places) for metric in known}
        # What was assigned once stays: a metric that is silent today has its interval tomorrow.
        there = {metric for metric in known if series[metric]} | set(scrape_intervals.assigned(running))
        given = self.options.split or running
        there |= set(scrape_intervals.assigned(given))
        paces = {metric: self.options.paces[known[metric]] for metric in there if metric in known}
        proposal = scrape_intervals.propose(
            paces,
            given,
            rest[0],
            self.options.wishes,
            self._limits(ranges),
            self._together(pairs),
        )
        self.proposal = scrape_intervals.variable(proposal.split, known)
        self.in_force = scrape_intervals.variable(running, known)
        self.change = scrape_intervals.change(self.in_force, self.proposal)
        if proposal.split == running and self.options.split not in (None, running):
            return [self._not_in_inventory(url, running)]
        return [self._of_table(url, paces, series, running, rest[0], proposal)]

    def _not_in_inventory(self, url: str, running: Split) -> Finding:
        of_their_own = ", ".join(
            f"{len(entry.metrics)} every {human_duration(entry.interval)}" for entry in running.values()
        )
        summary = (
            f"Metrics are scraped within the runbook's table ({of_their_own}), and the inventory does not say so: the "
            "next site.yml takes that back."
        )
        evidence = {"prometheus_exporter_intervals": scrape_intervals.text(self.in_force)}
        remedy = "Write prometheus_exporter_intervals of the evidence into the inventory (group_vars/telemetry.yml)."
        return Finding(INTERVALS, url, "warning", summary, evidence, remedy)

    def _running(self) -> Split:
        """The metrics that have jobs of their own now."""
        found: Split = {}
        intervals = {target.pool: target.interval for target in self.facts.exporters}
        for name, job in self.facts.jobs.items():
            rules = job.get("metric_relabel_configs") or []
            if name.startswith(f"{JOB}_") and len(rules) == 1 and rules[0].get("action") == "keep":
                metrics = scrape_intervals.of_keep(str(rules[0].get("regex", "")))
                if metrics and name in intervals:
                    found[name[len(JOB) + 1 :]] = Entry(intervals[name], metrics)
        return found

    def _series_of(self, metric: str, places: t.Container[TargetKey]) -> int:
        return sum(
            series
            for name in scrape_intervals.family(metric)
            for place, series in self._series.get(name, {}).items()
            if place in places
        )

    def _limits(self, ranges: t.Iterable[Window]) -> dict[str, float]:
        """The most seconds between scrapes that the ranges of rules bear, by metric."""
        found: dict[str, float] = {}
        for window in ranges:
            if window.selector:
                for metric in self._metrics_of(window.selector):
                    found[metric] = min(found.get(metric, window.seconds / LEAST), window.seconds / LEAST)
        return found

    def _together(self, pairs: t.Iterable[Join]) -> list[frozenset[str]]:
        """Metrics that one job has to scrape, or a rule is empty; :data:`REST` where the exporter's others are read."""
        jobs = {target.pool for target in self.facts.exporters}
        found = []
        for pair in pairs:
            group: set[str] = set()
            for one in (*pair.left, *pair.right):
                metrics = self._metrics_of(one)
                group.update(metrics)
                if not metrics and one.metric not in MADE_BY_PROMETHEUS and self._jobs_of([one]) & jobs:
                    group.add(REST)
            if len(group) > 1:
                found.append(frozenset(group))
        return found

    def _metrics_of(self, selector: Selector) -> list[str]:
        return [
            scrape_intervals.base(name)
            for name in self.options.paces
            if selector.metric in scrape_intervals.family(name)
        ]

    def _of_table(
        self,
        url: str,
        paces: t.Mapping[str, str],
        series: t.Mapping[str, int],
        running: Split,
        rest: float,
        proposal: Proposal,
    ) -> Finding:
        now = {metric: scrape_intervals.interval_of(metric, running, rest) for metric in paces}
        then = {metric: scrape_intervals.interval_of(metric, proposal.split, rest) for metric in paces}
        outside = [metric for metric in sorted(paces) if not ROWS[paces[metric]].has(now[metric])]
        moved = [metric for metric in sorted(paces) if now[metric] != then[metric]]
        saved = sum(series.get(metric, 0) * (1 / now[metric] - 1 / then[metric]) for metric in paces)
        addresses = len({_plain_url(target.url) for target in self.facts.exporters})
        pages = sum(1 / entry.interval for entry in proposal.split.values())
        pages -= sum(1 / entry.interval for entry in running.values())
        later = self._later({metric for metric in moved if then[metric] > now[metric]}, now, then)
        evidence: dict[str, t.Any] = {
            "prometheus_exporter_intervals": scrape_intervals.text(self.proposal),
            "diff": self.change,
            "outside": [[metric, paces[metric], now[metric]] for metric in outside][: SHOWN * 2],
            "moved": [[metric, now[metric], then[metric]] for metric in moved][: SHOWN * 2],
            "left_as_they_are": proposal.left,
            "alerts_that_see_it_later": later,
            "not_counted": self._not_counted,
            "figures": {
                "metrics_outside": len(outside),
                "saved_samples_per_second": round(saved, 3),
                "added_pages_per_minute": round(pages * addresses * 60, 3),
            },
        }
        if not paces:
            told = "Not known: no metric of the catalogue is there now, so that there is no scrape interval to judge."
            remedy = "Set NJORD_ENABLE_METRICS=1 in the environment of the trading services, and run this again."
            return Finding(INTERVALS, url, "unknown", told, evidence, remedy)
        if not outside and not moved:
            told = f"Each of {len(paces)} metrics of the catalogue is scraped at an interval of its row in the runbook."
            return Finding(INTERVALS, url, "ok", told, evidence)
        by_pace = {pace: [metric for metric in outside if paces[metric] == pace] for pace in ROWS}
        parts = [
            f"{row.title}: {_several(by_pace[pace])} every "
            f"{_every(now[metric] for metric in by_pace[pace])} instead of {row.least:g} to {row.most:g} s"
            for pace, row in ROWS.items()
            if by_pace[pace]
        ]
        told = (
            f"{len(outside)} of {len(paces)} metrics are scraped outside of the runbook's table ({'; '.join(parts)})."
        )
        if not outside:
            told = f"All {len(paces)} metrics are scraped within the runbook's table; other intervals were asked for."
        if moved:
            change = "saves" if saved >= 0 else "adds"
            told += (
                f" The proposal {change} {abs(saved):.3g} of {self.figures['samples_per_second']:.4g} samples a second "
                f"and has the exporter's page read {pages * addresses * 60:+.3g} times a minute"
            )
            if later:
                alert, _metric, earlier, late = later[0]
                told += f"; the alert {alert} sees a change up to {late:g} s late instead of {earlier:g} s"
                told += f", and {len(later) - 1} more likewise" if later[1:] else ""
            told += "."
        else:
            told += f" They are left as they are: {next(iter(proposal.left.values()), 'the inventory says so')}."
        remedy = (
            "ansible-playbook tune.yml -e tune_apply=true puts it into force and measures; write the variable of the "
            "evidence into the inventory as well, or the next site.yml takes it back."
            if moved
            else "Lengthen the ranges or mend the joins that keep them, named in the evidence, and run this again."
        )
        seldom = any(now[metric] > ROWS[paces[metric]].most for metric in outside)
        is_worth_it = saved >= WORTH * self.figures["samples_per_second"]
        return Finding(
            INTERVALS, url, "warning" if seldom or (moved and is_worth_it) else "info", told, evidence, remedy
        )

    def _later(
        self, metrics: t.AbstractSet[str], now: t.Mapping[str, float], then: t.Mapping[str, float]
    ) -> list[list[t.Any]]:
        """Alerts that see a change later, with the metric and the seconds between its scrapes now and then."""
        found: list[list[t.Any]] = []
        for rule, tree in self._parsed():
            if rule.kind != "alerting":
                continue
            read = {metric for one in selectors(tree) for metric in self._metrics_of(one)} & metrics
            found += [[rule.name, metric, now[metric], then[metric]] for metric in sorted(read)]
        return sorted(found, key=lambda row: -row[3])[:SHOWN]


def _tree(query: str) -> Node | NotUnderstood:
    try:
        return parse(query)
    except NotUnderstood as error:
        return error


def _key(labels: t.Mapping[str, str]) -> TargetKey:
    return labels.get("job", ""), labels.get("instance", "")


def _plain_url(url: str) -> str:
    """Of one form for all that are the same page."""
    parts = urllib.parse.urlsplit(url)
    host = (parts.hostname or "").replace("localhost", "127.0.0.1")
    host = f"[{host}]" if ":" in host else host
    query = urllib.parse.urlencode(sorted(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)))
    where = f"{parts.scheme}://{host}:{parts.port or _PORTS.get(parts.scheme, 0)}{parts.path}"
    return f"{where}?{query}" if query else where


def _several(names: t.Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _every(seconds: t.Iterable[float]) -> str:
    found = sorted(set(seconds))
    return f"{found[0]:g} s" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g} s"


def _short_text(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:117]}..."
