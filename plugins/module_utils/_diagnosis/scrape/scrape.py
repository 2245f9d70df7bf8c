# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Why a metric, a job, or anything at all is missing: the first link that fails, in one sentence, with its evidence.

The chain begins at the publisher (:mod:`.publisher`), goes through the scrape (:mod:`.scrape_pools`), and ends here: is
the metric on the page of its target, do its time stamps lie where they can be stored and seen, does relabelling drop
it, until when was it there, and is it spelt as it is published.

A page is read from here, with the credentials of the exporter where it is the exporter's, and no more than a few pages
in one run: a target that is sick is not asked more often than it must be.

Sources: the audit of the runbook, "Why a metric is missing"; https://prometheus.io/docs/prometheus/latest/querying/basics/#staleness
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import re
import time
import typing as t
import urllib.parse

from ..._exposition import Exposition
from ..._finding import Finding
from ..._http import HttpError, Refused, Server
from ..._prometheus import Prometheus, Rule, Target, read_page
from ..._units import human_duration
from .. import clock, nearest, not_ready, part
from ..language.promql import Matcher, NotUnderstood, Selector, parse, selectors
from . import relabelled
from .panel import ALL, Panel, filled, moment, used
from .publisher import OWN, OWN_NAMES, Exporter, Publisher, folded
from .scrape_pools import AT_ONCE, RECENT, SHOWN, Facts, Pools, block, key, place, setting

DAY = 86400.0
# For so long a sample stands for its series, in seconds; the default of Prometheus.
LOOKBACK = 300.0
# Prometheus takes no time stamp that lies further ahead than this, in seconds.
AHEAD = 600.0
REFUSED = ("sample_out_of_bounds", "sample_out_of_order", "sample_duplicate_timestamp")
# Pages that are read in one run: of one job, and of all.
PAGES = 3
ALL_PAGES = 50
JOBS = 5
NAMES = 20_000
# Metrics of a rule that are looked at, and rules on rules.
READ = 8
DEPTH = 4
PAGE_SECONDS = 3.0
# For all that is asked in one run; an answer that is slower than a person's patience is not waited for.
SECONDS = 30.0
# Points of a range query: enough to find a series' end to within a 400th of the window, and then exactly.
POINTS = 400
_STAMPS = "Let the exporter send no time stamps, or set honor_timestamps: false in its scrape job; compare the clocks."

Pages = t.List[t.Tuple[Target, t.Union[Exposition, HttpError]]]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is missing. Everything is looked at where neither is named.

    :param metric: a name, or a selector such as ``name{label="value"}``.
    :param job: the scrape job that should bring it, or all of whose samples are missing.
    :param window: seconds of the past in which the metric is looked for.
    :param panels: of a dashboard, that are empty; ``variables`` what is chosen there, by name, else what was saved.
    """

    metric: str = ""
    job: str = ""
    window: float = DAY
    panels: t.Sequence[Panel] = ()
    variables: t.Mapping[str, t.Sequence[str]] = dataclasses.field(default_factory=dict)

    def selector(self) -> Selector:
        """
        :raises ValueError: where the metric is no selector of one metric.
        """
        try:
            found = parse(self.metric)
        except NotUnderstood as error:
            raise ValueError(f"{self.metric!r} is no metric: {error}") from error
        if not isinstance(found, Selector) or not found.metric or found.range or found.offset or found.at is not None:
            raise ValueError(
                f"{self.metric!r} is no metric; njord_fills_generated_total or "
                'njord_open_orders{symbol="ATOM"} would do'
            )
        return found


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """The metric that is looked for. :param text: as a query has it, ``job`` among its matchers where it is named."""

    subject: str
    name: str
    text: str
    matchers: tuple[Matcher, ...]

    @property
    def job(self) -> str:
        """The job that a matcher names; empty where none does."""
        return next((one.value for one in self.matchers if (one.label, one.operator) == ("job", "=")), "")

    def among(self, page: Exposition) -> list[dict[str, str]]:
        """The labels of the samples of a page that are it; one that none of its samples has may be of the target."""
        samples = [labels for labels, _value in page.kept.get(self.name, [])]
        own = {label for labels in samples for label in labels}
        wanted = [matcher for matcher in self.matchers if matcher.label in own]
        return [labels for labels in samples if all(_holds(one, labels.get(one.label, "")) for one in wanted)]


def _relabelled(block: str, wanted: _Wanted, target: Target, page: Exposition) -> tuple[str, bool]:
    """What the relabelling of a job does to a metric, a clause, empty where it keeps it; and whether that is sure."""
    try:
        chain = relabelled.rules(block)
    except ValueError:
        return "may drop it", False
    fates = [
        relabelled.fate(chain, {**target.labels, **labels, relabelled.NAME: wanted.name})
        for labels in wanted.among(page)
    ]
    if any(one.name == wanted.name for one in fates):
        return "", True
    first = next((one for one in fates if one.name is not None), fates[0])
    if first.name is None:
        return f"may drop it ({first.rule})", False
    return f"{f'rename it to {first.name}' if first.name else 'drop it'} ({first.rule})", True


def _holds(matcher: Matcher, value: str) -> bool:
    if matcher.operator in ("=", "!="):
        return (matcher.value == value) == (matcher.operator == "=")
    try:
        found = re.fullmatch(matcher.value, value) is not None
    except re.error:
        # RE2 takes what Python does not; then it is not ruled out.
        return True
    return found == (matcher.operator == "=~")


class Look:
    """One look; :meth:`findings` takes it, and ``links`` says what was asked and was good.

    :param publisher: makes the part before the scrape; it is told how to note a link.
    :param exporter: where the exporter is, with its credentials; used for its page alone.
    """

    facts: Facts
    pools: Pools

    def __init__(
        self,
        client: Prometheus,
        question: Question,
        publisher: t.Callable[[t.Callable[[str, str], None]], Publisher],
        exporter: Server | None = None,
    ) -> None:
        self._client = client
        self._ends = time.monotonic() + SECONDS
        self.question = question
        self.exporter = exporter
        self.links: list[dict[str, str]] = []
        self.publisher = publisher(self._note)

    @property
    def client(self) -> Prometheus:
        """Prometheus, with what is left of the time for all.

        :raises HttpError: where nothing is left.
        """
        return self._client.within(self._left(self._client.server.url))

    def _left(self, asked: str) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise HttpError(asked, f"not asked any more, {SECONDS:g} s are over")
        return left

    def findings(self) -> list[Finding]:
        check = "scrape.server"
        return self._server() or part(check, self._client.server.url, self._look)

    def _note(self, check: str, said: str) -> None:
        link = {"check": check, "said": said}
        if link not in self.links:
            self.links.append(link)

    def _server(self) -> list[Finding]:
        """Nothing where Prometheus answers queries; else what keeps it from that."""
        found = not_ready("scrape.server", self.client)
        if not found:
            self._note("scrape.server", f"{self.client.server.url} is ready")
        return found

    def _look(self) -> list[Finding]:
        self.facts = Facts.ask(self.client)
        self.pools = Pools(self.facts, self.client.server.url, self._note)
        if self.question.panels:
            return [finding for panel in self.question.panels for finding in self._panel(panel)]
        if self.question.metric:
            return self._of_metric(self.question.selector())
        if self.question.job:
            found = self.pools.first(self.question.job, f"job {self.question.job}")
            return [found or self._well([self.question.job])]
        return self._of_all()

    # Everything

    def _of_all(self) -> list[Finding]:
        facts = self.facts
        jobs = facts.names
        found = []
        if not facts.loaded:
            summary = "Prometheus refused its configuration at the last reload, and runs on the one before."
            remedy = "promtool check config prometheus.yml says what is wrong; correct it and reload."
            found.append(Finding("scrape.configuration", self.client.server.url, "warning", summary, {}, remedy))
        if not jobs:
            summary = "Prometheus has no scrape job: it scrapes nothing."
            remedy = "ansible-playbook site.yml\nThat writes the jobs; see scrape_configs in prometheus.yml."
            found.append(Finding("scrape.pool", self.client.server.url, "warning", summary, {}, remedy))
        broken = self.pools.broken()
        found += broken.values()
        well = [job for job in jobs if job not in broken]
        found += self._lost_on_pages(well)
        bus = self.publisher.first("", facts.exporter)
        found += [bus] if bus and not self._is_said(bus, broken) else []
        if well and not any(finding.check in ("scrape.timestamps", "scrape.duplicates") for finding in found):
            found.append(self._well(well))
        return found

    def _is_said(self, bus: Finding, broken: t.Mapping[str, Finding]) -> bool:
        """Whether the exporter is down, which is said of its job already, and is why the bus has nobody who reads."""
        if bus.check != "scrape.exporter":
            return False
        start = self.facts.now - self.question.window
        jobs = set(self.client.label_values("job", f"{OWN}build_info", start, self.facts.now, SHOWN))
        named = urllib.parse.urlsplit(self.exporter.url).netloc if self.exporter else ""
        down = [target for job in broken for target in self.facts.targets(job) if target.health == "down"]
        return any(target.pool in jobs or urllib.parse.urlsplit(target.url).netloc == named for target in down)

    def _well(self, jobs: list[str]) -> Finding:
        targets = [target for job in jobs for target in self.facts.targets(job)]
        scraped = sum(self.facts.count(target, "scrape_samples_scraped") or 0.0 for target in targets)
        kept = sum(self.facts.count(target, "scrape_samples_post_metric_relabeling") or 0.0 for target in targets)
        figures = {"targets_up": len(targets), "scraped_samples": scraped, "kept_samples": kept}
        named = f"job {jobs[0]}" if len(jobs) == 1 else f"{len(jobs)} jobs"
        summary = f"{len(targets)} target(s) of {named} are up, and {kept:.0f} of {scraped:.0f} samples are kept."
        subject = f"job {jobs[0]}" if len(jobs) == 1 else "all jobs"
        return Finding("scrape.target", subject, "ok", summary, {"figures": figures, "jobs": jobs[:SHOWN]})

    def _lost_on_pages(self, jobs: list[str]) -> list[Finding]:
        """Which targets send what the server refused; it counts that for all of them together, since its start."""
        facts = self.facts
        if not any(facts.refused(what) for what in REFUSED):
            return []
        targets = [target for job in jobs for target in facts.targets(job)][:ALL_PAGES]
        found, unread = [], []
        for target, page in self._pages(targets, ()):
            if isinstance(page, HttpError):
                unread.append(f"{place(target)}: {page.came_back}")
                continue
            finding = self._stamps(target, page, None) or self._repeated(target, page, None)
            found += [finding] if finding else []
        return found or self._refused_by_whom(unread)

    def _refused_by_whom(self, unread: list[str]) -> list[Finding]:
        """Samples are refused now, and no page that was read has them; what was refused long ago is no matter."""
        recent = f"[{RECENT:.0f}s]"
        query = " or ".join(f"sum(increase(prometheus_target_scrapes_{what}_total{recent})) > 0" for what in REFUSED)
        lost = self.client.query(query)
        if not lost:
            return []
        summary = (
            f"About {lost[0].value:.0f} samples of the last {human_duration(RECENT)} were refused for their time "
            "stamps or as duplicates; of which target is not known"
        )
        summary += f", as {len(unread)} page(s) cannot be read from here." if unread else ": no page shows it."
        counts = {what: self.facts.refused(what) for what in REFUSED}
        evidence = {"query": query, "since_start": counts, "not_read": unread[:SHOWN]}
        remedy = (
            "The log of Prometheus names the target: journalctl -u prometheus | grep -E 'out of bounds|out-of-order|"
            "duplicate sample'. Two targets with the same labels do it too."
        )
        return [Finding("scrape.refused", self.client.server.url, "unknown", summary, evidence, remedy)]

    # One metric

    def _of_metric(self, selector: Selector) -> list[Finding]:
        matchers = tuple(matcher for matcher in selector.matchers if matcher.label != "__name__")
        job = self.question.job
        texts = [f"__name__={json.dumps(selector.metric)}"]
        texts += [f"{matcher.label}{matcher.operator}{json.dumps(matcher.value)}" for matcher in matchers]
        texts += [f"job={json.dumps(job)}"] if job else []
        shown = ",".join(f"{matcher.label}{matcher.operator}{json.dumps(matcher.value)}" for matcher in matchers)
        subject = selector.metric + (f"{{{shown}}}" if shown else "") + (f" of job {job}" if job else "")
        wanted = _Wanted(subject, selector.metric, "{" + ",".join(texts) + "}", matchers)
        newest = self.client.query(f"max by (job, instance) (timestamp({wanted.text}))")
        if newest:
            return self._there(wanted, {key(sample.labels): sample.value for sample in newest})
        return [self._missing(wanted)]

    def _there(self, wanted: _Wanted, newest: dict[tuple[str, str], float]) -> list[Finding]:
        """There are samples now: how old they are, and whether each target of the job brings them."""
        facts = self.facts
        targets = {key(target.labels): target for target in facts.discovery.active}
        found = []
        if self.publisher.entry(wanted.name):
            # The exporter goes on to serve what it got last.
            bus = self.publisher.first(wanted.name, facts.exporter)
            found += [bus] if bus else []
        for job in sorted({job for job, _instance in newest})[:JOBS]:
            broken = self.pools.first(job, wanted.subject) if job in facts.jobs else None
            found += [broken] if broken and broken.severity != "info" else []
        ages = {target: facts.now - at for target, at in newest.items()}
        youngest = min(ages, key=lambda target: ages[target])
        source = targets.get(youngest)
        interval = source.interval if source else 0.0
        evidence: dict[str, t.Any] = {
            "query": f"max by (job, instance) (timestamp({wanted.text}))",
            "sources": [
                {"job": job, "instance": instance, "newest_sample_seconds_ago": round(age, 3)}
                for (job, instance), age in sorted(ages.items())
            ][:SHOWN],
        }
        late = ages[youngest] > max(3 * interval, 10.0)
        # Only then its page has to be read: most of the time it is there, and nothing is wrong with it.
        asked = [source] if source and not found and (late or facts.refused("sample_duplicate_timestamp")) else []
        for target, page in self._pages(asked, (wanted.name, "process_start_time_seconds")):
            if isinstance(page, Exposition):
                repeated = self._repeated(target, page, wanted)
                found += [repeated] if repeated else []
            if late and not found and not (isinstance(page, Exposition) and wanted.name in page.kept):
                found.append(self._ended(wanted, youngest, newest[youngest], target, page))
        if not found:
            of = ", ".join(f"job {job}" for job in sorted({job for job, _instance in newest})[:JOBS])
            summary = (
                f"{wanted.subject} is there: from {len(newest)} target(s) of {of}, the newest sample "
                f"{human_duration(max(ages[youngest], 0.0))} old"
            )
            # What happened since its last scrape nobody has seen.
            summary += f", of a scrape every {human_duration(interval)}" if interval else ""
            frozen = self._frozen(wanted.name)
            summary += f"; but its publisher sent it last {human_duration(frozen)} ago" if frozen else ""
            found.append(Finding("scrape.metric", wanted.subject, "info" if frozen else "ok", f"{summary}.", evidence))
        return found

    def _frozen(self, series: str) -> float | None:
        """Seconds since a gauge of the bus was published, where that is long ago; None for all else."""
        entry = self.publisher.entry(series)
        if self.facts.exporter is None or entry is None or entry.type != "gauge":
            return None
        last = self.facts.exporter.value("metric_last_message_timestamp_seconds", metric=entry.name)
        age = self.facts.now - last if last else 0.0
        return age if age > LOOKBACK else None

    def _missing(self, wanted: _Wanted, depth: int = 0) -> Finding:
        """There is none now: where it should come from, and the first link on that way that fails."""
        facts = self.facts
        recorded = [rule for rule in self.client.rules() if rule.kind == "recording" and rule.name == wanted.name]
        if recorded and not self.question.job:
            return self._not_recorded(wanted, recorded[0], depth)
        job = self.question.job or wanted.job
        start = facts.now - self.question.window
        before = self.client.label_values("job", wanted.text, start, facts.now, SHOWN)
        exposing = self._exposing(wanted.name)
        on_the_bus = self.publisher.entry(wanted.name) is not None
        if not (before or exposing or on_the_bus or job):
            return self._unheard_of(wanted)
        from_exporter = on_the_bus or bool(set(facts.exporter_jobs) & {*before, *exposing, job})
        if from_exporter:
            found = self.publisher.first(wanted.name, facts.exporter)
            # That the exporter never got it does not say more than its page.
            if found:
                return found
        jobs = [job] if job else exposing or before or facts.exporter_jobs
        ended = self._last(wanted, start) if before else {}
        for name in jobs[:JOBS]:
            found = self.pools.first(name, wanted.subject)
            if found and found.severity != "info":
                return found
        if not jobs:
            return self._no_exporter(wanted)
        return self._on_page(wanted, jobs, ended)

    def _exposing(self, name: str) -> list[str]:
        """Jobs on whose pages the metric has a type or a help."""
        families = [name]
        for suffix in ("_bucket", "_count", "_sum", "_total"):
            families += [name[: -len(suffix)]] if name.endswith(suffix) else []
        found = [labels.get("job", "") for family in families for labels in self.client.exposing(family, SHOWN)]
        return list(dict.fromkeys(found))

    def _not_recorded(self, wanted: _Wanted, rule: Rule, depth: int) -> Finding:
        evidence = {"query": rule.query, "file": rule.file, "group": rule.group, "health": rule.health}
        check, subject = "scrape.rule", wanted.subject
        if rule.health == "err":
            summary = f"{subject}: the rule that records it cannot be evaluated: {rule.error}."
            remedy = f"Mend its expression in {rule.file}; promtool check rules and promtool test rules prove it."
        elif rule.evaluated is None:
            summary = f"{subject}: the rule that records it has not been evaluated yet."
            remedy = f"Ask again in {human_duration(rule.interval)}, the interval of its group."
        else:
            behind = self._behind(wanted, rule, depth)
            if behind:
                return behind
            summary = f"{subject}: the rule that records it gives nothing: {rule.query}"
            remedy = "Each metric in it has samples: ask for its parts in the page /graph, from the inside out."
        return Finding(check, subject, "warning", summary if summary.endswith(".") else f"{summary}.", evidence, remedy)

    def _behind(self, wanted: _Wanted, rule: Rule, depth: int) -> Finding | None:
        """Why a metric is missing that a rule reads; None where none is, or it cannot be told what it reads."""
        try:
            read = [selector.metric for selector in selectors(parse(rule.query))]
        except NotUnderstood:
            return None
        for name in list(dict.fromkeys(read))[:READ] if depth < DEPTH else []:
            text = f"{{__name__={json.dumps(name)}}}"
            if name and not self.client.query(f"count({text})"):
                found = self._missing(_Wanted(name, name, text, ()), depth + 1)
                summary = f"{wanted.subject}: it is recorded from {name}. {found.summary}"
                return dataclasses.replace(found, subject=wanted.subject, summary=summary)
        return None

    def _no_exporter(self, wanted: _Wanted) -> Finding:
        facts = self.facts
        summary = f"{wanted.subject}: it comes from the exporter, and Prometheus has no metric of the exporter's own."
        broken = list(self.pools.broken().values())
        evidence: dict[str, t.Any] = {"jobs": sorted(facts.jobs)[:SHOWN]}
        if broken:
            summary += " These jobs bring nothing now: " + "; ".join(finding.summary for finding in broken[:3])
        remedy = "See whether a job scrapes it, by default on port 9091: ansible-playbook site.yml writes one."
        return Finding("scrape.pool", wanted.subject, "warning", summary, evidence, remedy)

    def _unheard_of(self, wanted: _Wanted) -> Finding:
        """No target has it, none had, and nothing is known of it: misspelt, or of a job that is broken."""
        facts, window = self.facts, human_duration(self.question.window)
        known = self.client.label_values("__name__", "", facts.now - self.question.window, facts.now, NAMES)
        evidence: dict[str, t.Any] = {"known_names": len(known), "window_seconds": self.question.window}
        if wanted.name in known:
            return self._other_labels(wanted, evidence)
        near = nearest(wanted.name, [*known, *self.publisher.names])
        evidence["nearest"] = near
        broken = [finding for finding in self.pools.broken().values() if finding.severity != "info"]
        evidence["broken_jobs"] = [finding.summary for finding in broken[:SHOWN]]
        summary = f"{wanted.subject}: no target has a metric of that name, and none had in the last {window}"
        if near:
            summary += f"; meant is perhaps {' or '.join(near)}"
            remedy = f"Ask for {near[0]}; correct the name in the rule or the dashboard."
        else:
            remedy = "Name the job that should bring it in the option job, then its page is read."
        if broken:
            names = ", ".join(finding.subject for finding in broken[:5])
            summary += f"; it may be one of those that bring nothing now: {names}"
        return Finding("scrape.name", wanted.subject, "warning", f"{summary}.", evidence, remedy)

    def _other_labels(
        self,
        wanted: _Wanted,
        evidence: dict[str, t.Any],
        on_page: t.Sequence[tuple[dict[str, str], float]] = (),
    ) -> Finding:
        """The metric is known, to the database or from a page, but not with these labels."""
        facts = self.facts
        selector = f"{{__name__={json.dumps(wanted.name)}}}"
        start = facts.now - self.question.window
        values = {
            matcher.label: self.client.label_values(matcher.label, selector, start, facts.now, 1000)
            for matcher in wanted.matchers
        }
        for label in values:
            found = {labels[label] for labels, _value in on_page if label in labels}
            values[label] = sorted({*values[label], *found})
        evidence["values"] = {label: known[:SHOWN] for label, known in values.items()}
        entry = self.publisher.entry(wanted.name)
        count = folded(facts.exporter, entry.name if entry else wanted.name)
        if count:
            summary = (
                f"{wanted.subject}: the exporter folds new label sets of it into one series with the label overflow, "
                f"{count:.0f} messages so far: it has too many."
            )
            remedy = (
                "ansible-playbook troubleshoot-cardinality.yml\nIt names the label to blame; mend its publisher, then "
                "restart njord-prometheus-exporter, which forgets the old label sets."
            )
            evidence["folded_messages"] = count
            return Finding("scrape.cardinality", wanted.subject, "warning", summary, evidence, remedy)
        said = []
        for matcher in wanted.matchers:
            if matcher.operator == "=" and matcher.value not in values[matcher.label]:
                near = nearest(matcher.value, values[matcher.label])
                known = near or values[matcher.label][:3]
                has = f"has the values {', '.join(known)}" if known else "is not there at all"
                said.append(f"label {matcher.label} {has}, not {matcher.value}")
        summary = f"{wanted.subject}: {wanted.name} is there, but not with these labels"
        summary += f": {'; '.join(said)}" if said else ""
        return Finding(
            "scrape.labels",
            wanted.subject,
            "warning",
            f"{summary}.",
            evidence,
            "Correct the labels, or see whether their publisher runs.",
        )

    # A panel of a dashboard

    def _panel(self, panel: Panel) -> list[Finding]:
        return part("panel.data", f"panel {panel.title!r}", lambda: [self._of_panel(panel)])

    def _of_panel(self, panel: Panel) -> Finding:
        """Data source, variables, time range, and then each metric that its expressions read."""
        subject = f"panel {panel.title!r}"
        now = self.facts.now
        wrong = self._source(panel, subject)
        if wrong:
            return wrong
        try:
            start, end = (moment(text, now) for text in panel.range)
        except ValueError as error:
            summary = f"{subject}: its time range cannot be read: {error}."
            return Finding("panel.range", subject, "unknown", summary, {"range": panel.range}, "Set the time range.")
        values: dict[str, t.Sequence[str]] = {}
        for name in dict.fromkeys(name for text in panel.expressions for name in used(text)):
            filling = self._filling(panel, name, subject, start, end, values)
            if isinstance(filling, Finding):
                return filling
            values[name] = filling
        interval = max((target.interval for target in self.facts.discovery.active), default=15.0)
        found = []
        for expression in panel.expressions:
            query = filled(expression, values, max(end - start, 1.0), interval or 15.0)
            empty = self._expression(panel, query, subject, start, end)
            if empty is None:
                summary = f"{subject}: its expression has data in the time range {' to '.join(panel.range)}."
                evidence = {"query": query, "variables": values}
                found.append(Finding("panel.data", subject, "ok", summary, evidence))
            else:
                found.append(empty)
        return next((finding for finding in found if finding.severity != "ok"), found[0])

    def _source(self, panel: Panel, subject: str) -> Finding | None:
        check, remedy = "panel.source", "Choose a data source that exists, under the panel's query or its variable."
        evidence = {"type": panel.source, "variable": panel.source_variable}
        if panel.source_variable and panel.source_variable not in panel.variables:
            name = panel.source_variable
            summary = f"{subject}: its data source is the variable {name}, which the dashboard does not have."
            return Finding(check, subject, "warning", summary, evidence, remedy)
        if panel.source not in ("", "prometheus") or not panel.expressions:
            of = f"a data source of the type {panel.source}" if panel.expressions else "no expression of PromQL"
            summary = f"{subject}: it has {of}, and Prometheus cannot be asked for it."
            return Finding(check, subject, "unknown", summary, evidence, "Ask in Grafana: Inspect, then Query.")
        return None

    def _filling(
        self, panel: Panel, name: str, subject: str, start: float, end: float, values: t.Mapping[str, t.Sequence[str]]
    ) -> t.Sequence[str] | Finding:
        """What a variable is filled with, or why it is empty."""
        variable = panel.variables.get(name)
        check = "panel.variable"
        if name in self.question.variables:
            return self.question.variables[name]
        if variable is None:
            summary = f"{subject}: it uses the variable {name}, which the dashboard does not have."
            return Finding(check, subject, "warning", summary, {"variable": name}, "Add it under Settings, Variables.")
        chosen = [value for value in variable.values if value != ALL]
        if chosen:
            return chosen
        if variable.values and variable.all_value:
            return [variable.all_value]
        source = variable.label_values
        if source is None:
            if variable.values:
                return [".*"]
            summary = f"{subject}: the variable {name} has no value."
            evidence = {"variable": name, "query": variable.query}
            return Finding(check, subject, "warning", summary, evidence, "Choose one on the dashboard, and save it.")
        selector = filled(source[0], values, max(end - start, 1.0), 15.0)
        known = self.client.label_values(source[1], selector, start, end, 1000)
        if known:
            return known if variable.values else known[:1]
        summary = f"{subject}: the variable {name} is empty, as {variable.query} gives no value in the time range."
        evidence = {"variable": name, "query": variable.query}
        remedy = f"Ask this module for {selector or source[1]}; a wider time range may have it."
        return Finding(check, subject, "warning", summary, evidence, remedy)

    def _expression(self, panel: Panel, query: str, subject: str, start: float, end: float) -> Finding | None:
        """None where it has data in the range of the dashboard; else why it has none."""
        evidence: dict[str, t.Any] = {"query": query, "range": panel.range}
        try:
            if self.client.query_range(query, start, end, max((end - start) / POINTS, 1.0)):
                return None
            read = [selector for selector in selectors(parse(query)) if selector.metric]
        except Refused as error:
            summary = f"{subject}: Prometheus refuses its expression: {error.came_back}."
            return Finding("panel.expression", subject, "warning", summary, evidence, "Correct it; /graph shows it.")
        except NotUnderstood as error:
            summary = f"{subject}: its expression gives nothing, and which metrics it reads is not known: {error}."
            return Finding("panel.expression", subject, "unknown", summary, evidence, "Ask for its metrics one by one.")
        now = self.facts.now
        if abs(end - now) > LOOKBACK and self.client.query(query):
            summary = f"{subject}: it has data now, and none in the time range {' to '.join(panel.range)}."
            remedy = "Choose a time range that ends now; alert_info and storage_info say how far back the data go."
            return Finding("panel.range", subject, "warning", summary, evidence, remedy)
        for selector in read[:READ]:
            (first, *_others) = self._of_metric(selector)
            if first.severity not in ("ok", "info") or first.check == "scrape.emitted":
                merged = {**first.evidence, **evidence}
                return dataclasses.replace(
                    first, subject=subject, summary=f"{subject}: {first.summary}", evidence=merged
                )
        summary = (
            f"{subject}: each metric of its expression is there, and together they give nothing: a comparison that is "
            "never true, or labels that do not match."
        )
        remedy = "Ask for its parts in /graph, from the inside out; compare the labels on both sides of an operator."
        return Finding("panel.expression", subject, "warning", summary, evidence, remedy)

    # The page of a target

    def _on_page(self, wanted: _Wanted, jobs: list[str], ended: dict[tuple[str, str], float]) -> Finding:
        """Its jobs are scraped and their samples kept, and yet it is not there: what their pages say."""
        facts = self.facts
        targets = [target for job in jobs[:JOBS] for target in facts.targets(job) if target.health == "up"]
        # Those that brought it before, first.
        targets.sort(key=lambda target: key(target.labels) not in ended)
        gone = {source: at for source, at in ended.items() if source not in {key(target.labels) for target in targets}}
        if ended and len(gone) == len(ended):
            return self._gone(wanted, gone)
        pages = self._pages(targets[:PAGES], (wanted.name, "process_start_time_seconds"))
        unread: list[str] = []
        for target, page in pages:
            if isinstance(page, HttpError):
                unread.append(str(page))
                continue
            if wanted.among(page):
                return self._not_stored(wanted, target, page)
            if wanted.name in page.kept:
                return self._other_labels(wanted, {"url": target.url}, page.kept[wanted.name])
        if unread and len(unread) == len(pages):
            return self._unread(wanted, targets, ended, unread)
        if ended:
            source = max(ended, key=lambda one: ended[one])
            target, page = next((pair for pair in pages if key(pair[0].labels) == source), pages[0])
            return self._ended(wanted, source, ended[source], target, page)
        return self._not_exposed(wanted, pages, jobs)

    def _not_stored(self, wanted: _Wanted, target: Target, page: Exposition) -> Finding:
        """It is on the page, and not in the database."""
        facts = self.facts
        self._note("scrape.exposed", f"{target.url} has {wanted.name}")
        scraped = facts.count(target, "scrape_samples_scraped") or 0.0
        kept = facts.count(target, "scrape_samples_post_metric_relabeling") or 0.0
        rules = block(facts.jobs.get(target.pool, ""), "metric_relabel_configs")
        evidence = {
            "url": target.url,
            "figures": {"scraped_samples": scraped, "kept_samples": kept},
            "metric_relabel_configs": rules,
        }
        said, sure = _relabelled(rules, wanted, target, page) if rules else ("", True)
        stamps = None if said and sure else self._stamps(target, page, wanted)
        if stamps:
            return stamps
        if said:
            lost = f"; {scraped - kept:.0f} of {scraped:.0f} samples are dropped" if scraped > kept else ""
            summary = (
                f"{wanted.subject}: {place(target)} has it, and metric_relabel_configs of job {target.pool} {said}"
            )
            remedy = "Correct metric_relabel_configs of the job, which are in the evidence, and reload."
            return Finding("scrape.relabelling", wanted.subject, "warning", f"{summary}{lost}.", evidence, remedy)
        summary = (
            f"{wanted.subject}: {place(target)} has it on its page now, and Prometheus has no sample of it: it came "
            "after the last scrape, or Prometheus refuses it."
        )
        remedy = f"Ask again in {human_duration(target.interval or 60.0)}; then see the log of Prometheus."
        return Finding("scrape.metric", wanted.subject, "unknown", summary, evidence, remedy)

    def _stamps(self, target: Target, page: Exposition, wanted: _Wanted | None) -> Finding | None:
        """What is wrong with the time stamps of a page: of one metric, or of the first that has any."""
        now = self.facts.now
        if setting(self.facts.jobs.get(target.pool, ""), "honor_timestamps") == "false":
            return None
        for name, (_first, last) in sorted(page.stamps.items()):
            if wanted and name != wanted.name:
                continue
            off = last - now
            if -LOOKBACK <= off <= max(target.interval, 5.0):
                continue
            if off > AHEAD:
                what = f"lie {human_duration(off)} ahead of Prometheus' clock, and it refuses what is more than 10 min"
            elif off > 0:
                what = (
                    f"lie {human_duration(off)} ahead of Prometheus' clock: a sample is seen only when its time comes"
                )
            else:
                what = (
                    f"are {human_duration(-off)} old: a query sees no sample older than {human_duration(LOOKBACK)}, "
                    "and what is older than an hour or so is refused"
                )
            subject = wanted.subject if wanted else f"job {target.pool}"
            summary = f"{subject}: the time stamps that {place(target)} gives {name} {what}."
            evidence = {
                "url": target.url,
                "figures": {"time_stamp_offset_seconds": round(off, 3)},
                "out_of_bounds": self.facts.refused("sample_out_of_bounds"),
                "out_of_order": self.facts.refused("sample_out_of_order"),
            }
            return Finding("scrape.timestamps", subject, "warning", summary, evidence, _STAMPS)
        return None

    def _repeated(self, target: Target, page: Exposition, wanted: _Wanted | None) -> Finding | None:
        names = sorted(page.repeated & {wanted.name} if wanted else page.repeated)
        if not names:
            return None
        subject = wanted.subject if wanted else f"job {target.pool}"
        summary = (
            f"{subject}: {place(target)} sends a series of {', '.join(names[:3])} twice in one page; Prometheus keeps "
            "the first and drops the others without an error."
        )
        evidence = {
            "url": target.url,
            "metrics": names[:SHOWN],
            "duplicate_timestamps": self.facts.refused("sample_duplicate_timestamp"),
        }
        remedy = "Mend the exporter: each label set once; promtool check metrics < PAGE names the lines."
        return Finding("scrape.duplicates", subject, "warning", summary, evidence, remedy)

    def _ended(
        self, wanted: _Wanted, source: tuple[str, str], at: float, target: Target, page: Exposition | HttpError
    ) -> Finding:
        ago = human_duration(max(self.facts.now - at, 0.0))
        summary = (
            f"{wanted.subject}: it was there until {clock(at)} ({ago} ago); {place(target)} (job {source[0]}) is up "
            "and does not expose it any more"
        )
        started = page.value("process_start_time_seconds") if isinstance(page, Exposition) else None
        if started and started > at - max(target.interval, 1.0):
            summary += f", since it was restarted {human_duration(max(self.facts.now - started, 0.0))} ago"
        evidence = {"url": target.url, "last_sample": at, "process_start_time": started}
        remedy = (
            "Where it is of an event, it comes back with the next one. Else see what changed then: the version of the "
            "publisher, its configuration, its log."
        )
        return Finding("scrape.stale", wanted.subject, "warning", f"{summary}.", evidence, remedy)

    def _gone(self, wanted: _Wanted, gone: dict[tuple[str, str], float]) -> Finding:
        source = max(gone, key=lambda one: gone[one])
        job, instance = source
        ago = human_duration(max(self.facts.now - gone[source], 0.0))
        summary = (
            f"{wanted.subject}: it came from {instance} of job {job} until {clock(gone[source])} ({ago} ago), and "
            "that is no target any more."
        )
        evidence = {"last_sample": gone[source], "targets": [place(one) for one in self.facts.targets(job)][:SHOWN]}
        remedy = "See what took it out of the discovery or the list of targets: the configuration, or the host itself."
        return Finding("scrape.stale", wanted.subject, "warning", summary, evidence, remedy)

    def _unread(
        self, wanted: _Wanted, targets: list[Target], ended: dict[tuple[str, str], float], unread: list[str]
    ) -> Finding:
        evidence: dict[str, t.Any] = {"came_back": unread, "last_sample": max(ended.values(), default=None)}
        until = f"it was there until {clock(max(ended.values()))}, and " if ended else ""
        summary = (
            f"{wanted.subject}: {until}whether {place(targets[0])} exposes it is not known, as its page cannot be read "
            f"from here: {unread[0]}."
        )
        remedy = "Give exporter_url with exporter_token_file, or read the page on the host of the target."
        return Finding("scrape.metric", wanted.subject, "unknown", summary, evidence, remedy)

    def _not_exposed(self, wanted: _Wanted, pages: Pages, jobs: list[str]) -> Finding:
        exposed = {name for _target, page in pages if isinstance(page, Exposition) for name in page.families}
        near = nearest(wanted.name, exposed)
        evidence = {"urls": [target.url for target, _page in pages], "families": len(exposed), "nearest": near}
        named = ", ".join(place(target) for target, _page in pages) or f"job {', '.join(jobs)}"
        summary = f"{wanted.subject}: {named} is scraped, and has no metric of that name"
        if near:
            summary += f"; meant is perhaps {' or '.join(near)}"
            remedy = f"Ask for {near[0]}; correct the name in the rule or the dashboard."
            return Finding("scrape.name", wanted.subject, "warning", f"{summary}.", evidence, remedy)
        others = self.client.query(f"count by (job) ({{__name__={json.dumps(wanted.name)}}})")
        if others:
            summary += f"; it is there from job {', '.join(sample.labels.get('job', '') for sample in others[:JOBS])}"
        remedy = (
            "Is it the right job, and a version of the exporter that has it? A counter may begin with its first event."
        )
        return Finding("scrape.exposed", wanted.subject, "warning", f"{summary}.", evidence, remedy)

    def _pages(self, targets: list[Target], names: t.Container[str]) -> Pages:
        """The pages of some targets, a few at a time, or why they could not be read."""

        def read(target: Target) -> Exposition | HttpError:
            parts = urllib.parse.urlsplit(target.url)
            base = f"{parts.scheme}://{parts.netloc}"
            try:
                self._left(target.url)
            except HttpError as error:
                return error
            server = Server(base, timeout=PAGE_SECONDS)
            if self.exporter and urllib.parse.urlsplit(self.exporter.url).netloc == parts.netloc:
                server = dataclasses.replace(self.exporter, url=base, timeout=PAGE_SECONDS)
            try:
                return read_page(server, parts.path + (f"?{parts.query}" if parts.query else ""), names)
            except HttpError as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            return list(zip(targets, pool.map(read, targets)))

    def _last(self, wanted: _Wanted, start: float) -> dict[tuple[str, str], float]:
        """When each target brought the metric last, in unix seconds; of the latest exactly, of others to a step.

        Samples are counted in cells without a gap, so that a series that was there for a moment is not missed.
        """
        now = self.facts.now
        step = max((now - start) / POINTS, 1.0)
        cells = f"max by (job, instance) (count_over_time({wanted.text}[{step * 1000:.0f}ms]))"
        found = {
            key(series.labels): series.points[-1][0]
            for series in self.client.query_range(cells, start + step, now, step)
        }
        # The last cell may not be whole yet.
        for series in self.client.query(cells, now):
            found[key(series.labels)] = now
        if not found:
            return found
        latest = max(found.values())
        exact = f"max by (job, instance) (timestamp({wanted.text}))"
        for ending in self.client.query_range(exact, latest - step, latest, step / POINTS):
            found[key(ending.labels)] = max(value for _at, value in ending.points)
        return found


def page_of(exporter: Server) -> t.Callable[[], Exporter]:
    """What reads the exporter's own metrics from its page."""

    def read() -> Exporter:
        return Exporter(read_page(exporter, "/metrics", OWN_NAMES).kept, exporter.url)

    return read
