# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What fires now, what fired in a window, and which alerts cannot fire or would go nowhere.

``/api/v1/alerts`` knows only what is active now; the past is in the series that each rule leaves behind, ``ALERTS``
and ``ALERTS_FOR_STATE``, whose value is the time since when the alert is active.

Sources: the runbook's "Weekly Maintenance";
https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/#inspecting-alerts-during-runtime
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import typing as t

from ..._finding import Finding, rank, worst
from ..._http import HttpError
from ..._prometheus import Alert, Prometheus, Rule
from ..._units import human_duration
from .. import not_prometheus, part
from ..language.expression import needs

# Points of one range query (the server allows 11,000), and how many queries one window may take.
POINTS = 2000
QUERIES = 24
# Prometheus' own default, where no rule says how often it is evaluated.
EVALUATION_SECONDS = 60.0
# For so long a sample stands for its series; the default of Prometheus.
LOOKBACK_SECONDS = 300.0
SHOWN = 20
EXAMPLES = 10
SEVERITIES = {"critical": "critical", "warning": "warning"}
HISTOGRAM_PARTS = ("_bucket", "_count", "_sum")

Labels = t.Tuple[t.Tuple[str, str], ...]


@dataclasses.dataclass
class Spans:
    """The times in which one label set of an alert was in one state.

    :param step: seconds of a cell; a cell at t holds what was seen after t - step, up to t.
    :param interval: seconds from one evaluation to the next.
    """

    step: float
    interval: float
    spans: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    _last: float = -math.inf
    _since: float | None = None

    def add(self, cell: float, since: float | None) -> None:
        """A cell in which the alert was seen, in order of time.

        :param since: unix seconds since when the alert was active; None where nothing says so. Where it says the
            same before and after a gap, no alert ended: the server was away.
        """
        start = cell - self.step
        end = start + max(self.interval, self.step)
        known = since is not None and self._since is not None
        same = since == self._since if known else cell - self._last <= LOOKBACK_SECONDS
        if self.spans and same:
            self.spans[-1] = (self.spans[-1][0], end)
        else:
            if self.spans:
                # The resolution is a step: one cannot end after the next began.
                self.spans[-1] = (self.spans[-1][0], min(self.spans[-1][1], start))
            self.spans.append((start, end))
        self._last, self._since = cell, since

    def within(self, start: float, end: float) -> list[tuple[float, float]]:
        cut = ((max(first, start), min(last, end)) for first, last in self.spans)
        return [(first, last) for first, last in cut if first < last]


@dataclasses.dataclass(frozen=True)
class History:
    """One label set of an alert in the window.

    :param firing: spans in unix seconds, in order; ``pending`` likewise.
    """

    labels: dict[str, str]
    firing: list[tuple[float, float]]
    pending: list[tuple[float, float]]

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    @property
    def lengths(self) -> list[float]:
        return [end - start for start, end in self.firing]

    @property
    def pauses(self) -> list[float]:
        return [after[0] - before[1] for before, after in zip(self.firing, self.firing[1:])]

    def drawn(self, gap: float) -> list[dict[str, t.Any]]:
        """Its spans for a timeline, those closer than ``gap`` seconds as one."""
        states = (("firing", self.firing), ("pending", self.pending))
        found = [(start, end, state) for state, spans in states for start, end in merged(spans, gap)]
        return [{"start": start, "end": end, "state": state} for start, end, state in sorted(found)]

    def row(self) -> dict[str, t.Any]:
        """As a module returns it: times in unix seconds."""
        return {
            "name": self.name,
            "labels": self.labels,
            "firings": len(self.firing),
            "firing_seconds": round(sum(self.lengths), 3),
            "longest_seconds": round(max(self.lengths, default=0.0), 3),
            "last_end": self.firing[-1][1] if self.firing else None,
            "pending_seconds": round(sum(end - start for start, end in self.pending), 3),
        }


def title(labels: dict[str, str], most: int = 60) -> str:
    """An alert and what tells its label set from others, cut to what fits beside a bar."""
    text = f"{labels.get('alertname', '')} {_own(labels)}".strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _own(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key not in ("alertname", "severity"))


def severity(labels: dict[str, str]) -> str:
    """Of a finding, from the label that the rule carries; another word than the two is for information."""
    return SEVERITIES.get(labels.get("severity", "").lower(), "info")


def row(alert: Alert) -> dict[str, t.Any]:
    """As a module returns it."""
    return {**dataclasses.asdict(alert), "severity": severity(alert.labels)}


def evaluation(rule: Rule, now: float) -> list[Finding]:
    """What is wrong with how a rule is evaluated: nothing, or one finding.

    :param now: unix seconds, by the clock of the server.
    """
    evidence = {"asked": "GET /api/v1/rules", "query": rule.query, "file": rule.file, "group": rule.group}
    late = now - rule.evaluated if rule.evaluated is not None else 0.0
    alerting = rule.kind == "alerting"
    if rule.health == "err":
        # An alert that cannot be evaluated is as bad as what it would have told.
        how_bad = worst(["warning", severity(rule.labels)]) if alerting else "warning"
        summary = f"{rule.name} cannot be evaluated: {rule.error}"
        remedy = f"Mend its expression in {rule.file}; promtool check rules and promtool test rules prove it."
    elif rule.evaluated is None:
        how_bad, summary = "unknown", f"{rule.name} has not been evaluated yet."
        remedy = f"Ask again in {human_duration(rule.interval)}, the interval of its group."
    elif late > max(3 * rule.interval, 10.0):
        how_bad = worst(["warning", severity(rule.labels)]) if alerting else "warning"
        summary = (
            f"{rule.name} was last evaluated {human_duration(late)} ago, though due every "
            f"{human_duration(rule.interval)}."
        )
        remedy = "See prometheus_rule_group_iterations_missed_total and the load of the host."
    elif 0 < rule.hold < rule.interval:
        how_bad = "info"
        summary = (
            f"{rule.name} waits {human_duration(rule.hold)} but is evaluated every "
            f"{human_duration(rule.interval)}: it fires at the second evaluation, not sooner."
        )
        remedy = "Evaluate its group more often, or give the time that is meant."
    else:
        return []
    return [Finding("alert.rule", f"{rule.group}/{rule.name}", how_bad, summary, evidence, remedy)]


def merged(spans: t.Iterable[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """For a picture in which nobody sees a gap so small, and which would grow with every firing."""
    found: list[tuple[float, float]] = []
    for start, end in spans:
        if found and start - found[-1][1] < gap:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


class Look:
    """One look at the alerts of a server; :meth:`findings` takes it.

    :param window: seconds of the past that are looked at.
    :param flapping: more firings of one label set than this in the window are too many.
    :param not_emitted: metrics that nothing publishes yet, so that alerts on them are silent and rightly so.
    """

    def __init__(self, client: Prometheus, window: float, flapping: int, not_emitted: t.Iterable[str]) -> None:
        self.client = client
        self.window = window
        self.flapping = flapping
        self.not_emitted = {_published(name) for name in not_emitted}
        self.active: list[Alert] = []
        self.rules: list[Rule] = []
        self.history: list[History] = []
        self.resolution: float | None = None
        self.oldest: float | None = None
        self._now = 0.0

    def findings(self) -> list[Finding]:
        address = self.client.server.url
        stranger = not_prometheus("alert.firing", self.client)
        if stranger:
            return stranger
        # By the server's own clock, so that a wrong one of this host does not make alerts old.
        clock = part("alert.clock", address, self._clock)
        if clock:
            return clock
        return [
            # Rules first: they say how long a pending alert has left, and how often an alert is evaluated.
            *part("alert.rule", "all rules", self._of_rules),
            *part("alert.firing", "all alerts", self._active),
            *part("alert.history", "all alerts", self._of_history),
            *part("alert.delivery", address, self._delivery),
        ]

    def _clock(self) -> list[Finding]:
        self._now = self.client.query("time()")[0].value
        return []

    def _active(self) -> list[Finding]:
        self.active = self.client.alerts()
        names = sorted({alert.labels.get("alertname", "") for alert in self.active})
        grouped = [
            (name, state, [a for a in self.active if a.labels.get("alertname") == name and a.state == state])
            for name in names
            for state in ("firing", "pending")
        ]
        found = [self._of_alert(name, state, alerts) for name, state, alerts in grouped if alerts]
        for state in ("firing", "pending"):
            if not any(alert.state == state for alert in self.active):
                evidence = {"asked": "GET /api/v1/alerts", "figures": {f"{state}_alerts": 0}}
                found.append(Finding(f"alert.{state}", "all alerts", "ok", f"No alert is {state}.", evidence))
        return found

    def _of_alert(self, name: str, state: str, alerts: list[Alert]) -> Finding:
        ages = [self._now - alert.since for alert in alerts if alert.since is not None]
        oldest = human_duration(max(ages, default=0.0))
        annotations = alerts[0].annotations
        of = f"{len(alerts)} label sets" if len(alerts) > 1 else _own(alerts[0].labels)
        subject = f"{name} ({of})" if of else name
        evidence = {
            "asked": "GET /api/v1/alerts",
            "figures": {f"{state}_alerts": len(alerts)},
            "alerts": [row(alert) for alert in alerts[:EXAMPLES]],
        }
        said = annotations.get("summary") or annotations.get("description") or ""
        remedy = annotations.get("remedy") or annotations.get("runbook_url") or ""
        if state == "firing":
            summary = f"{subject} fires, for {oldest}" + (f": {said}" if said else ".")
            remedy = remedy or f"Its rule has neither remedy nor runbook_url; see {self.client.server.url}/alerts."
            return Finding(
                "alert.firing", name, worst(severity(alert.labels) for alert in alerts), summary, evidence, remedy
            )
        hold = {rule.hold for rule in self._alert_rules() if rule.name == name}
        left = (
            f" It fires in {human_duration(max(max(hold) - max(ages), 0.0))}, unless it ends." if hold and ages else ""
        )
        return Finding("alert.pending", name, "info", f"{subject} is pending, for {oldest}.{left}", evidence, remedy)

    def active_rows(self) -> list[dict[str, t.Any]]:
        """Every alert that is active now, as a module returns it."""
        return [row(alert) for alert in self.active]

    def history_rows(self) -> list[dict[str, t.Any]]:
        """Every label set that was active in the window, the longest firing first."""
        return [history.row() for history in self.history]

    def _alert_rules(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.kind == "alerting"]

    def _of_rules(self) -> list[Finding]:
        self.rules = self.client.rules()
        rules = self._alert_rules()
        evidence: dict[str, t.Any] = {
            "asked": "GET /api/v1/rules",
            "figures": {"alert_rules": len(rules), "recording_rules": len(self.rules) - len(rules)},
        }
        if not rules:
            summary = "No alert rule is loaded: nothing can ever fire."
            remedy = (
                "See rule_files in prometheus.yml, whose patterns may match nothing; the role prometheus brings rules."
            )
            return [Finding("alert.rule", "all rules", "warning", summary, evidence, remedy)]
        found: dict[str, Finding] = {}
        silent = part("alert.rule", "metrics of the rules", lambda: self._silent(rules))
        for finding in [*(finding for rule in self.rules for finding in evaluation(rule, self._now)), *silent]:
            # One finding for each rule: the worst that is wrong with it.
            known = found.setdefault(finding.subject, finding)
            if rank(finding.severity) > rank(known.severity):
                found[finding.subject] = finding
        if all(finding.severity == "info" for finding in found.values()):
            summary = f"{len(rules)} alert rules are loaded, and each is evaluated without an error."
            return [Finding("alert.rule", "all rules", "ok", summary, evidence), *found.values()]
        return list(found.values())

    def _silent(self, rules: list[Rule]) -> list[Finding]:
        """Rules that cannot fire as no series of a metric that they need was there in the window."""
        start = self._now - self.window
        # The two are there as soon as something fires.
        known = {"ALERTS", "ALERTS_FOR_STATE", *self.client.label_values("__name__", "", start, self._now)}
        found, expected, unsure = [], [], []
        for rule in rules:
            needed = needs(rule.query)
            if needed is None:
                unsure.append(rule.name)
                continue
            absent = needed.empty(known)
            if not absent:
                continue
            if all(_published(name) in self.not_emitted for name in self._sources(absent, known)):
                expected.append((rule.name, sorted(absent)))
                continue
            named = " and ".join(sorted(absent))
            window = human_duration(self.window)
            summary = f"{rule.name} cannot fire while {named} has no series, and it had none in the last {window}."
            evidence = {
                "asked": "GET /api/v1/label/__name__/values",
                "query": rule.query,
                "window_seconds": self.window,
                "without_series": sorted(absent),
            }
            remedy = (
                "See whether its target is up and publishes it (ansible-playbook service-health.yml), and the spelling."
            )
            found.append(Finding("alert.rule", f"{rule.group}/{rule.name}", "warning", summary, evidence, remedy))
        if expected:
            names = ", ".join(name for name, _absent in expected)
            summary = (
                f"{len(expected)} alerts are silent, as nothing publishes their metrics nor is expected to: {names}."
            )
            evidence = {"without_series": dict(expected)}
            found.append(Finding("alert.rule", "metrics not emitted by this version", "info", summary, evidence))
        if unsure:
            summary = f"Of {len(unsure)} alerts it is not told whether their metrics exist: {', '.join(unsure)}."
            evidence = {"reason": "a selector without a name, or a function that makes samples out of nothing"}
            found.append(Finding("alert.rule", "expressions not judged", "info", summary, evidence))
        return found

    def _sources(
        self, names: t.Iterable[str], known: t.Collection[str], seen: frozenset[str] = frozenset()
    ) -> set[str]:
        """Metrics that a scrape would have to bring for ``names`` to exist: recording rules are followed."""
        recorded = {rule.name: rule.query for rule in self.rules if rule.kind == "recording"}
        found: set[str] = set()
        for name in names:
            needed = needs(recorded[name]) if name in recorded and name not in seen else None
            behind = needed.empty(known) if needed else frozenset()
            found |= self._sources(behind, known, seen | {name}) if behind else {name}
        return found

    def _of_history(self) -> list[Finding]:
        intervals = {rule.name: rule.interval for rule in self._alert_rules() if rule.interval}
        self.resolution = max(min(intervals.values(), default=EVALUATION_SECONDS), self.window / (POINTS * QUERIES))
        self.history = sorted(
            self.read_history(self.resolution, intervals),
            key=lambda history: (-sum(history.lengths), title(history.labels)),
        )
        return [self._story(), *self._flapping()]

    def read_history(self, step: float, intervals: dict[str, float]) -> list[History]:
        """Each label set that was pending or firing in the window, in cells of ``step`` seconds."""
        start = self._now - self.window
        cells = math.ceil(self.window / step)
        found: dict[Labels, dict[str, Spans]] = {}
        # A range, not the value at a point: so a firing shorter than a step is seen, and the five minutes in which
        # a series outlives its server are not.
        of_cell = f"[{round(step * 1000)}ms]"
        for first in range(1, cells + 1, POINTS):
            last = min(first + POINTS - 1, cells)
            first_end, last_end = (self._now - (cells - cell) * step for cell in (first, last))
            since = {
                (_labels(series.labels), round((time - self._now) / step)): value
                for series in self.client.query_range(
                    f"max_over_time(ALERTS_FOR_STATE{of_cell})", first_end, last_end, step
                )
                for time, value in series.points
            }
            for series in self.client.query_range(f"count_over_time(ALERTS{of_cell})", first_end, last_end, step):
                labels = _labels(series.labels)
                interval = intervals.get(series.labels.get("alertname", ""), step)
                states = found.setdefault(labels, {state: Spans(step, interval) for state in ("firing", "pending")})
                spans = states[series.labels["alertstate"]]
                for time, _value in series.points:
                    spans.add(time, since.get((labels, round((time - self._now) / step))))
        return [
            History(dict(labels), *(states[state].within(start, self._now) for state in ("firing", "pending")))
            for labels, states in found.items()
        ]

    def _story(self) -> Finding:
        fired = [history for history in self.history if history.firing]
        firings = sum(len(history.firing) for history in fired)
        seconds = sum(sum(history.lengths) for history in fired)
        start = self._now - self.window
        rows = [
            {"label": title(history.labels), "spans": history.drawn(self.window / 500)}
            for history in self.history[:SHOWN]
        ]
        evidence = {
            "query": "count_over_time(ALERTS[step]), max_over_time(ALERTS_FOR_STATE[step])",
            "window_seconds": self.window,
            "resolution_seconds": self.resolution,
            "figures": {"firings": firings, "firing_seconds": round(seconds, 3)},
            "alerts": [history.row() for history in self.history[:SHOWN]],
            "chart": {"kind": "timeline", "title": "Alerts", "start": start, "end": self._now, "rows": rows},
        }
        reach, how_bad, caveat = self._reach()
        evidence["oldest_sample"] = self.oldest
        if not fired:
            return Finding(
                "alert.history", "all alerts", how_bad, f"No alert fired in the last {reach}{caveat}.", evidence
            )
        names = len({history.name for history in fired})
        longest = f"{title(fired[0].labels)} the longest with {human_duration(sum(fired[0].lengths))} in all"
        summary = (
            f"In the last {reach} {names} alert(s) fired {firings} time(s), {longest}, to within "
            f"{human_duration(self.resolution or 0.0)}{caveat}."
        )
        return Finding("alert.history", "all alerts", worst(["info", how_bad]), summary, evidence)

    def _reach(self) -> tuple[str, str, str]:
        """How far back the history goes, how severe it is that it goes no further, and what to say about that."""
        window = human_duration(self.window)
        try:
            self.oldest = self.client.oldest()
        except HttpError as error:
            return window, "unknown", f"; whether Prometheus has data of all that time is not known: {error}"
        if self.oldest is None:
            return window, "unknown", ", but Prometheus has no data at all"
        if self.oldest <= self._now - self.window:
            return window, "ok", ""
        return (
            human_duration(self._now - self.oldest),
            "info",
            f"; of the time before, Prometheus has no data, though {window} were asked for",
        )

    def _flapping(self) -> list[Finding]:
        found = []
        rules = {rule.name: rule for rule in self._alert_rules()}
        restless = [history for history in self.history if len(history.firing) > self.flapping]
        for name in sorted({history.name for history in restless}):
            of_name = sorted((h for h in restless if h.name == name), key=lambda history: -len(history.firing))
            most = of_name[0]
            length, pause = statistics.median(most.lengths), statistics.median(most.pauses)
            rule = rules.get(name)
            times = (
                [human_duration(seconds) if seconds else "none" for seconds in (rule.hold, rule.keep)] if rule else []
            )
            now = f" (now {' and '.join(times)})" if times else ""
            summary = (
                f"{title(most.labels)} fired {len(most.firing)} times in {human_duration(self.window)}, typically for "
                f"{human_duration(length)} with {human_duration(pause)} between."
            )
            remedy = (
                f"In its rule a `for` above {human_duration(length)} keeps the short ones quiet, and a "
                f"`keep_firing_for` above {human_duration(pause)} makes one of many{now}."
            )
            evidence = {
                "query": "count_over_time(ALERTS[step]), max_over_time(ALERTS_FOR_STATE[step])",
                "figures": {"firings": len(most.firing)},
                "alerts": [history.row() for history in of_name[:EXAMPLES]],
            }
            found.append(Finding("alert.flapping", name, "warning", summary, evidence, remedy))
        return found or [
            Finding(
                "alert.flapping",
                "all alerts",
                "ok",
                f"No alert fired more than {self.flapping} times in {human_duration(self.window)}.",
            )
        ]

    def _delivery(self) -> list[Finding]:
        check, subject = "alert.delivery", self.client.server.url
        receivers = self.client.alertmanagers()
        evidence: dict[str, t.Any] = {"asked": "GET /api/v1/alertmanagers", "alertmanagers": receivers}
        if not receivers:
            summary = "Prometheus knows no Alertmanager: alerts go nowhere."
            remedy = "Add one under alerting in prometheus.yml, or look at Prometheus for alerts yourself."
            return [Finding(check, subject, "warning", summary, evidence, remedy)]
        # A dead Alertmanager is among those listed, and what was sent to it counts as sent.
        query = f"increase({{__name__=~'prometheus_notifications_(errors|dropped)_total'}}[{round(self.window)}s])"
        lost = [sample.value for sample in self.client.query(query)]
        evidence.update(
            query=query, figures={"alertmanagers": len(receivers), "notifications_lost": round(sum(lost), 3)}
        )
        if not lost:
            summary = "Whether Alertmanager takes the alerts is not known: Prometheus does not scrape itself."
            remedy = "Add a scrape job for Prometheus itself; the role prometheus does."
            return [Finding(check, subject, "unknown", summary, evidence, remedy)]
        window = human_duration(self.window)
        if not sum(lost):
            summary = f"{len(receivers)} Alertmanager(s), and every notification of the last {window} was taken."
            return [Finding(check, subject, "ok", summary, evidence)]
        summary = f"About {sum(lost):.0f} notifications of the last {window} failed or were dropped."
        remedy = "See that each Alertmanager of the evidence answers, and the log of Prometheus for the reason."
        return [Finding(check, subject, "warning", summary, evidence, remedy)]


def _labels(labels: dict[str, str]) -> Labels:
    """What one alert is told apart by, whichever of its two metrics it comes from."""
    return tuple(sorted((key, value) for key, value in labels.items() if key not in ("__name__", "alertstate")))


def _published(name: str) -> str:
    """The metric that the parts of a histogram were published as."""
    return next((name[: -len(suffix)] for suffix in HISTOGRAM_PARTS if name.endswith(suffix)), name)
