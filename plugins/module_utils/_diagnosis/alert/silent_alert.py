# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Why an alert does not fire, or tells nobody: the first link that fails, in one sentence, with its evidence.

The chain: Prometheus is ready and has the rule (here); the rule is evaluated (:mod:`.alerts`); its expression chooses
something (:mod:`.untrue`); it does so for long enough (:mod:`.wait`); Alertmanager gets it, lets it through, and its
receiver takes it (:mod:`.delivery`).

Source: the audit of the runbook, "Why an alert does not fire"
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import json
import re
import time
import typing as t
import urllib.parse
from pathlib import Path

from ..._finding import Finding, worst
from ..._http import HttpError, Refused, Server
from ..._prometheus import Alert, Prometheus, Rule, moment
from ..._units import duration, human_duration
from .. import clock, nearest, not_ready, part
from ..language.promql import NotUnderstood, Selector
from ..scrape import port
from ..scrape import scrape as metrics
from ..scrape.publisher import TOPIC, Publisher
from .alerts import EVALUATION_SECONDS, HISTOGRAM_PARTS, evaluation, severity
from .delivery import Delivery
from .untrue import Emptiness, plain
from .wait import Run, Runs, failed_scrape, runs

SECONDS = 30.0
AT_ONCE = 4
SHOWN = 20
# Of rule files that are not loaded yet, which are looked into: how many, and how much of each.
FILES = 200
FILE_BYTES = 1_000_000
RECENT = 900.0
# Of the evaluations that are due, how many may be missed: a busy host misses one now and then.
MISSED_SHARE = 0.05


class Look:
    """One look at the alerts of these names; :meth:`findings` takes it, with one finding for each rule.

    :param window: seconds of the past in which an alert was true, but not for long enough.
    :param not_emitted: metrics that nothing publishes yet.
    :param alertmanager: where it is, with its credentials; else those are asked that Prometheus sends to.
    """

    def __init__(
        self,
        client: Prometheus,
        names: t.Sequence[str],
        window: float,
        not_emitted: t.Iterable[str] = (),
        alertmanager: Server | None = None,
    ) -> None:
        self._client = client
        self.names = list(dict.fromkeys(names))
        self.window = window
        self.not_emitted = {name + suffix for name in not_emitted for suffix in ("", *HISTOGRAM_PARTS)}
        self.alertmanager = alertmanager
        self.active: list[Alert] = []
        self._ends = time.monotonic() + SECONDS
        self._now = 0.0
        self._rules: list[Rule] = []
        self._configuration = ""
        self._loaded = True
        self._started: float | None = None
        self._delivery: Delivery | None = None
        # Evaluations that were missed lately, by file and group; nothing where Prometheus does not scrape itself.
        self._missed: dict[str, float] = {}

    @property
    def client(self) -> Prometheus:
        """Prometheus, with what is left of the time for all.

        :raises HttpError: where nothing is left.
        """
        server = self._client.server
        left = self._ends - time.monotonic()
        if left <= 0:
            raise HttpError(server.url, f"not asked any more, {SECONDS:g} s are over")
        return self._client.within(left)

    def findings(self) -> list[Finding]:
        check = "alert.server"
        return not_ready(check, self.client) or part(check, self._client.server.url, self._of_names)

    def _of_names(self) -> list[Finding]:
        client = self.client
        # By the server's own clock, so that a wrong one of this host does not make alerts old.
        self._now = client.query("time()")[0].value
        self._rules = client.rules()
        self._configuration = client.configuration()
        runtime = client.runtime()
        self._loaded = bool(runtime.get("reloadConfigSuccess", True))
        self._started = moment(runtime["startTime"]) if "startTime" in runtime else None
        lately = f"increase(prometheus_rule_group_iterations_missed_total[{RECENT:.0f}s]) > 0"
        self._missed = {one.labels.get("rule_group", ""): one.value for one in client.query(lately)}
        self.active = [alert for alert in client.alerts() if alert.labels.get("alertname") in self.names]
        alerting = [rule for rule in self._rules if rule.kind == "alerting"]
        chosen = [rule for name in self.names for rule in alerting if rule.name == name]
        found = [self._not_loaded(name) for name in self.names if name not in {rule.name for rule in chosen}]
        firing = [alert for alert in self.active if alert.state == "firing"]
        if firing:
            found += part("alert.delivery", client.server.url, self._look_at_delivery)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            found += [finding for of_rule in pool.map(self._of_rule, chosen) for finding in of_rule]
        return found

    def _look_at_delivery(self) -> list[Finding]:
        self._delivery = Delivery(self.client, self._now, self._configuration, self.alertmanager)
        return []

    # Whether it is loaded

    def _not_loaded(self, name: str) -> Finding:
        alerting = {rule.name for rule in self._rules if rule.kind == "alerting"}
        near = nearest(name, alerting)
        patterns = rule_files(self._configuration)
        files = sorted({rule.file for rule in self._rules})
        empty = [pattern for pattern in patterns if not any(matches(file, pattern) for file in files)]
        waiting = self._waiting(name, patterns)
        evidence: dict[str, t.Any] = {
            "asked": "GET /api/v1/rules, GET /api/v1/status/config",
            "nearest": near,
            "known": sorted(alerting)[:SHOWN],
            "rule_files": patterns,
            "rule_files_without_rules": empty,
            "last_reload_successful": self._loaded,
            "files_that_have_it": waiting,
        }
        summary = f"{name} cannot fire: Prometheus has loaded no alert of that name"
        reload = "promtool check config prometheus.yml, then reload (systemctl reload prometheus)."
        if any(rule.name == name for rule in self._rules):
            summary += ", though it has a recording rule that is called so"
            remedy = "See what the alert on it is called."
        elif not self._loaded:
            summary += "; its last reload was refused, so that what is in the files now may not be loaded"
            remedy = f"See what is wrong with them and load them: {reload}"
        elif waiting:
            summary += f"; it is in {' and '.join(waiting)}, which was not loaded since"
            remedy = f"Check and load it: {reload}"
        elif near:
            summary += f"; meant is perhaps {' or '.join(near)}"
            remedy = f"Ask for {near[0]}."
        else:
            remedy = "See rule_files in prometheus.yml, and the file that has the rule."
        if not patterns and self._loaded:
            summary += "; prometheus.yml names no rule_files"
        elif empty and self._loaded and not waiting:
            summary += f"; of {', '.join(empty)} in rule_files no rule was loaded: no file matches, or it has none"
            remedy = f"Correct rule_files in prometheus.yml or put the file there, then load it: {reload}"
        return Finding("alert.loaded", name, "warning", f"{summary}.", evidence, remedy)

    def _waiting(self, name: str, patterns: t.Sequence[str]) -> list[str]:
        """Files of this host that match and have such an alert: they came or changed after the last reload."""
        host = urllib.parse.urlsplit(self._client.server.url).hostname or ""
        if not (host == "localhost" or port.is_local(host)):
            return []
        wanted = re.compile(rf"^\s*-?\s*alert:\s*[\"']?{re.escape(name)}[\"']?\s*(#.*)?$", re.MULTILINE)
        found = []
        for pattern in patterns:
            path = Path(pattern)
            for file in sorted(path.parent.glob(path.name))[:FILES] if path.is_absolute() else []:
                # What cannot be read from here is not known to have it.
                with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace") as text:
                    found += [str(file)] if wanted.search(text.read(FILE_BYTES)) else []
        return found

    # One rule

    def _of_rule(self, rule: Rule) -> list[Finding]:
        def look() -> list[Finding]:
            found = self._with_overrun(rule, self._first(rule))
            if self._loaded:
                return [found]
            summary = f"{found.summary} The last reload was refused: a change of its file may not be loaded."
            return [dataclasses.replace(found, severity=worst([found.severity, "warning"]), summary=summary)]

        return part("alert.expression", f"{rule.group}/{rule.name}", look)

    def _with_overrun(self, rule: Rule, found: Finding) -> Finding:
        """That its group takes longer than its interval, or did so often, so that what it says comes late."""
        group = [one for one in self._rules if (one.file, one.group) == (rule.file, rule.group)]
        took, missed = sum(one.took for one in group), self._missed.get(f"{rule.file};{rule.group}", 0.0)
        is_often = bool(rule.interval) and missed > MISSED_SHARE * RECENT / rule.interval
        if found.check == "alert.evaluation" or not rule.interval or (took <= rule.interval and not is_often):
            return found
        slowest = max(group, key=lambda one: one.took)
        summary = (
            f"{found.summary} The last evaluation of its group took {human_duration(took)}, {slowest.name} alone "
            f"{human_duration(slowest.took)}, and one is due every {human_duration(rule.interval)}: {_often(missed)}, "
            "and alerts come late."
        )
        figures = {**found.evidence.get("figures", {}), "group_evaluation_seconds": round(took, 3)}
        evidence = {**found.evidence, "figures": figures, "slowest_rule": slowest.name}
        remedy = found.remedy or f"Make {slowest.name} cheaper, by a recording rule, or evaluate its group less often."
        severity_now = worst([found.severity, "warning"])
        return dataclasses.replace(found, severity=severity_now, summary=summary, evidence=evidence, remedy=remedy)

    def _first(self, rule: Rule) -> Finding:
        passed = [f"alert.loaded: from {rule.file}"]
        wrong = [finding for finding in evaluation(rule, self._now) if finding.severity != "info"]
        if wrong:
            return self._not_evaluated(rule, wrong[0], passed)
        evaluated = rule.evaluated if rule.evaluated is not None else self._now
        passed.append(f"alert.evaluation: {human_duration(max(self._now - evaluated, 0.0))} ago, without an error")
        mine = [alert for alert in self.active if _of(alert, rule)]
        firing = [alert for alert in mine if alert.state == "firing"]
        pending = [alert for alert in mine if alert.state == "pending"]
        if firing:
            return self._firing(rule, firing, passed)
        if pending:
            return self._pending(rule, pending, passed)
        return self._inactive(rule, passed)

    def _not_evaluated(self, rule: Rule, wrong: Finding, passed: list[str]) -> Finding:
        missed = self._missed.get(f"{rule.file};{rule.group}", 0.0)
        evidence = {**wrong.evidence, "passed": passed}
        summary = f"{wrong.summary.rstrip('.')}."
        if missed:
            evidence["figures"] = {"iterations_missed": round(missed, 3)}
            summary += f" Of the evaluations of its group {_often(missed)}."
        return dataclasses.replace(wrong, check="alert.evaluation", summary=summary, evidence=evidence)

    def _firing(self, rule: Rule, firing: list[Alert], passed: list[str]) -> Finding:
        passed += ["alert.expression: true", "alert.wait: over"]
        if self._delivery is None:
            subject = f"{rule.group}/{rule.name}"
            summary = f"{rule.name} fires; whether Alertmanager has it could not be asked."
            return Finding("alert.delivery", subject, "unknown", summary, {"passed": passed}, "See the finding on it.")
        return self._delivery.first(rule, firing, passed)

    def _pending(self, rule: Rule, pending: list[Alert], passed: list[str]) -> Finding:
        passed.append("alert.expression: true")
        first = min(pending, key=lambda alert: alert.since if alert.since is not None else self._now)
        since = first.since if first.since is not None else self._now
        left = max(since + rule.hold - self._now, 0.0)
        summary = (
            f"{rule.name} is pending, for {human_duration(max(self._now - since, 0.0))} of its `for` of "
            f"{human_duration(rule.hold)}: it fires in {human_duration(left)} ({clock(self._now + left)}), unless it "
            "ends before."
        )
        evidence: dict[str, t.Any] = {
            "query": rule.query,
            "figures": {"pending_seconds": round(self._now - since, 3), "left_seconds": round(left, 3)},
            "alerts": [dataclasses.asdict(alert) for alert in pending[:SHOWN]],
            "passed": passed,
        }
        replayed = runs(self.client, rule, self._now, self.window)
        before = replayed.before(first.labels, since, rule)
        remedy = ""
        if before:
            cause, remedy = self._cause(rule, before, since, evidence)
            summary += (
                f" Its wait began anew at {clock(since)}: before, it was true for {human_duration(before.seconds)} "
                f"until {clock(before.end)}{cause}."
            )
            ended = Runs([run for run in replayed.runs if run.end < since], replayed.seconds)
            summary += self._if_shorter(rule, ended, evidence)
        else:
            said, remedy = self._restarted(rule, first, since)
            summary += said
        return Finding("alert.wait", f"{rule.group}/{rule.name}", "info", summary, evidence, remedy)

    def _restarted(self, rule: Rule, first: Alert, since: float) -> tuple[str, str]:
        """That a restart of Prometheus began its wait anew, by what it had recorded before: a sentence, and a remedy.

        Source: ``rules/group.go`` of Prometheus, ``RestoreForState``
        """
        started = self._started
        if started is None or since < started:
            return "", ""
        labels = ",".join(f"{name}={json.dumps(value)}" for name, value in first.labels.items())
        before = self.client.query(f"last_over_time(ALERTS_FOR_STATE{{{labels}}}[{self.window:.0f}s])", started)
        if not before:
            return "", ""
        flags = self.client.flags()
        grace, tolerance = (flags.get(f"rules.alert.for-{name}", "") for name in ("grace-period", "outage-tolerance"))
        why, remedy = f"it was down for longer than rules.alert.for-outage-tolerance ({tolerance})", ""
        if grace and rule.hold < duration(grace):
            why = f"a `for` that is shorter than rules.alert.for-grace-period ({grace}) is not kept over a restart"
            remedy = f"--rules.alert.for-grace-period={rule.hold:.0f}s keeps it."
        return (
            f" Its wait, which had begun at {clock(before[0].value)}, began anew when Prometheus was started at "
            f"{clock(started)}: {why}."
        ), remedy

    def _cause(self, rule: Rule, run: Run, until: float, evidence: dict[str, t.Any]) -> tuple[str, str]:
        """What ended a run: a clause, and what would keep it from doing so."""
        failed = failed_scrape(self.client, rule, run, until)
        if failed is None:
            return "", "A shorter `for`, or a window in the expression that bridges the gap, such as max_over_time."
        evidence["failed_scrape"] = dataclasses.asdict(failed)
        scrapes = "one scrape" if failed.count == 1 else f"{failed.count} scrapes"
        remedy = (
            "A window that bridges one failed scrape, such as last_over_time(...[2m]), keeps the wait; see why job "
            f"{failed.job} failed."
        )
        return f", when {scrapes} of job {failed.job} ({failed.instance}) failed at {clock(failed.at)}", remedy

    def _if_shorter(self, rule: Rule, replayed: Runs, evidence: dict[str, t.Any]) -> str:
        """With which `for` it would have fired, and when; with what was replayed in the evidence."""
        evidence["replayed_seconds"] = round(replayed.seconds, 3)
        longest = replayed.longest
        if longest is None or longest.seconds >= rule.hold:
            return ""
        evidence["longest_run"] = {**dataclasses.asdict(longest), "seconds": longest.seconds}
        return (
            f" In the last {human_duration(replayed.seconds)} it was true for {human_duration(longest.seconds)} at the "
            f"longest, of {human_duration(rule.hold)}: it would have fired at {clock(longest.end)} if `for` were "
            f"{human_duration(longest.seconds)}."
        )

    def _inactive(self, rule: Rule, passed: list[str]) -> Finding:
        subject = f"{rule.group}/{rule.name}"
        try:
            true = self.client.query(rule.query, self._now)
        except Refused as error:
            summary = f"{rule.name} does not fire: Prometheus refuses its expression now: {error.came_back}."
            remedy = f"Mend its expression in {rule.file}; promtool check rules and promtool test rules prove it."
            bad = worst(["warning", severity(rule.labels)])
            return Finding("alert.evaluation", subject, bad, summary, {"query": rule.query, "passed": passed}, remedy)
        interval = rule.interval or EVALUATION_SECONDS
        if true:
            summary = (
                f"{rule.name} does not fire yet: its expression has become true since its last evaluation, which comes "
                f"every {human_duration(interval)}."
            )
            if rule.hold:
                summary += f" Then it is pending for {human_duration(rule.hold)}."
            evidence: dict[str, t.Any] = {"query": rule.query, "passed": passed, "value": true[0].value}
            return Finding("alert.wait", subject, "info", summary, evidence, "Ask again after the next evaluation.")
        return self._untrue(rule, subject, interval, passed)

    def _untrue(self, rule: Rule, subject: str, interval: float, passed: list[str]) -> Finding:
        base: dict[str, t.Any] = {"query": rule.query, "passed": passed}
        asking = Emptiness(self.client, rule.query, self._now, self.window, interval, self._missing)
        try:
            reason = asking.reason()
        except NotUnderstood as error:
            summary = f"{rule.name} does not fire: its expression gives nothing now, and why is not known: {error}."
            remedy = "Ask for its parts in the page /graph, from the inside out."
            return Finding("alert.expression", subject, "unknown", summary, base, remedy)
        evidence = {**reason.evidence, **base}
        summary = f"{rule.name} does not fire: {reason.said}."
        if reason.check == "alert.threshold":
            replayed = runs(self.client, rule, self._now, self.window)
            enough = [run.end for run in replayed.runs if run.seconds >= rule.hold]
            if enough:
                summary += f" It was true for long enough to fire last until {clock(max(enough))}."
            elif replayed.longest:
                passed.append("alert.expression: it was true")
                said, remedy = self._too_short(rule, replayed, replayed.longest, evidence)
                summary = f"{rule.name} does not fire: {said} Now {reason.said}."
                return Finding("alert.wait", subject, "info", summary, evidence, remedy)
        return Finding(reason.check, subject, reason.severity, summary, evidence, reason.remedy)

    def _too_short(self, rule: Rule, replayed: Runs, longest: Run, evidence: dict[str, t.Any]) -> tuple[str, str]:
        """That it was true in the window, but never for long enough, and what would have told of it."""
        said = f"it was true, but never for its `for` of {human_duration(rule.hold)}."
        said += self._if_shorter(rule, replayed, evidence)
        after = [run.start for run in replayed.runs if run.labels == longest.labels and run.start > longest.end]
        until = after[0] if after else min(longest.end + 2 * (rule.interval or EVALUATION_SECONDS), self._now)
        cause, remedy = self._cause(rule, longest, until, evidence)
        if cause:
            return f"{said} That ended{cause}.", remedy
        return said, "A shorter `for` would have told of it; threshold_info says what else it would tell of."

    def _missing(self, selector: Selector) -> Finding:
        """Why there is no sample of a metric."""
        if selector.metric in self.not_emitted:
            summary = f"{selector.metric} is not emitted by this version of Njord."
            return Finding("scrape.emitted", selector.metric, "info", summary)
        matchers = [one for one in selector.matchers if one.label != "__name__"]
        others = plain(dataclasses.replace(selector, matchers=tuple(matchers))) if matchers else ""
        question = metrics.Question(metric=f"{selector.metric}{others}", window=self.window)

        def publisher(note: t.Callable[[str, str], None]) -> Publisher:
            # The bus is scrape_info's to ask, which is told where it is.
            return Publisher(None, None, TOPIC, 0.0, (), note)

        return metrics.Look(self.client, question, publisher).findings()[0]


def _often(missed: float) -> str:
    often = f"about {missed:.0f}" if missed else "some"
    return f"{often} were missed in the last {human_duration(RECENT)}"


def rule_files(configuration: str) -> list[str]:
    """The patterns of rule files, of a configuration as Prometheus writes it."""
    found = re.search(r"^rule_files:\n((?:[ ]*- .*\n?)+)", configuration, re.MULTILINE)
    return [line.partition("- ")[2].strip().strip("\"'") for line in found[1].splitlines()] if found else []


def matches(file: str, pattern: str) -> bool:
    """Whether a pattern of rule files names a file; a star does not go beyond a slash."""
    parts, patterns = file.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _of(alert: Alert, rule: Rule) -> bool:
    """Whether an alert comes of this rule, and not of another one of the same name."""
    fixed = {key: value for key, value in rule.labels.items() if "{{" not in value}
    return alert.labels.get("alertname") == rule.name and fixed.items() <= alert.labels.items()
