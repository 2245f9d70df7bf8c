# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What becomes of an alert that fires: whether Alertmanager has it, lets it through, and tells somebody.

What was seen on real servers: Prometheus lists a dead Alertmanager as active and counts what it could not send as sent,
so errors are what counts; an alert that is muted by time shows so in the groups of Alertmanager alone; a receiver
without integrations looks like any other until its configuration is read.

Sources: the audit of the runbook, "Why an alert does not fire"; https://prometheus.io/docs/alerting/latest/alertmanager/
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
import typing as t
import urllib.parse

from ..._alertmanager import Alertmanager, Held
from ..._finding import Finding, worst
from ..._http import HttpError, Server
from ..._prometheus import Alert, Prometheus, Rule
from ..._units import human_duration
from .. import clock, not_known
from ..scrape import port
from .alerts import severity

AT_ONCE = 4
SHOWN = 10
# Of the counters what is recent, in seconds.
RECENT = 900.0
# Prometheus sends an alert that fires again after a minute, so that one which was lost at a start comes late.
RESEND = 75.0
LOST = ("prometheus_notifications_errors_total", "prometheus_notifications_dropped_total")
SENT = "alertmanager_notifications_total"
FAILED = "alertmanager_notifications_failed_total"
TRIED = "alertmanager_notification_requests_total"
TRIED_IN_VAIN = "alertmanager_notification_requests_failed_total"
LATELY = f"in the last {human_duration(RECENT)}"
_PATH = "/api/v2/alerts"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one Alertmanager said. :param held: all its alerts; ``error`` why it could not be asked."""

    server: Alertmanager
    held: list[Held]
    error: HttpError | None = None

    @property
    def url(self) -> str:
        return self.server.server.url


class Delivery:
    """Follows firing alerts from Prometheus to a receiver; what was asked is asked once for all rules.

    :param given: the Alertmanager that an operator names, with its credentials; else those that Prometheus sends to
        are asked, without any.
    """

    def __init__(self, client: Prometheus, now: float, configuration: str, given: Server | None) -> None:
        self.client = client
        self.now = now
        self.configuration = configuration
        urls = client.alertmanagers()
        self.urls = urls
        self.lost = client.own_page(LOST) if urls else None
        timeout = client.server.timeout
        self.answers: list[Answer] = []
        if urls:
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                self.answers = list(pool.map(self._ask, alertmanagers(urls, given, timeout)))

    @staticmethod
    def _ask(server: Alertmanager) -> Answer:
        try:
            return Answer(server, server.held())
        except HttpError as error:
            return Answer(server, [], error)

    def first(self, rule: Rule, alerts: list[Alert], passed: list[str]) -> Finding:
        """The first link that fails of the alerts of a rule that fire; that they are delivered where none does."""
        subject = f"{rule.group}/{rule.name}"
        since = [alert.since for alert in alerts if alert.since is not None]
        fires = (
            f"{rule.name} fires, for {human_duration(max(self.now - min(since, default=self.now) - rule.hold, 0.0))}"
        )
        bad = worst(["warning", severity(rule.labels)])
        if not self.urls:
            evidence: dict[str, t.Any] = {"asked": "GET /api/v1/alertmanagers", "alertmanagers": [], "passed": passed}
            named = re.search(r"^  alertmanagers:\n", self.configuration, re.MULTILINE)
            why = "the discovery of Alertmanagers finds none" if named else "Prometheus has no Alertmanager configured"
            summary = f"{fires}, and nobody is told: {why}."
            remedy = "Add one under alerting in prometheus.yml and reload, or look at Prometheus for alerts yourself."
            return Finding("alert.delivery", subject, bad, summary, evidence, remedy)
        reached = [answer for answer in self.answers if not answer.error]
        if self.answers[0].error and not reached:
            return self._dead(self.answers[0].error, subject, fires, bad, passed)
        for answer in reached:
            held = [one for alert in alerts for one in self._of(answer, alert, rule)]
            if held:
                passed.append(f"alert.delivery: {answer.url} has it")
                found = self._inside(answer.server, subject, fires, bad, held, passed)
                return self._with_dead(found)
        return self._not_held(subject, fires, bad, rule, alerts, reached, passed)

    def _of(self, answer: Answer, alert: Alert, rule: Rule) -> list[Held]:
        """It adds external labels; what alert_relabel_configs make of an alert is known by its name alone."""
        renamed = "alert_relabel_configs:" in self.configuration
        return [
            one
            for one in answer.held
            if one.labels.get("alertname") == rule.name and (renamed or alert.labels.items() <= one.labels.items())
        ]

    # It is not there

    def _lost(self) -> tuple[float, str]:
        """Notifications that failed or were dropped, and since when that is counted: lately where it can be told."""
        query = f"sum(increase({{__name__=~'{'|'.join(LOST)}'}}[{RECENT:.0f}s]))"
        found = self.client.query(query)
        if found:
            return found[0].value, LATELY
        kept = self.lost.kept if self.lost else {}
        return sum(value for name in LOST for _labels, value in kept.get(name, [])), "since Prometheus was started"

    def _evidence(self, passed: list[str]) -> dict[str, t.Any]:
        lost, since = self._lost()
        errors = {answer.url: str(answer.error) for answer in self.answers if answer.error}
        return {
            "asked": "GET /api/v1/alertmanagers, GET /api/v2/alerts/groups",
            "alertmanagers": self.urls,
            "not_reached": errors,
            "figures": {"notifications_lost": round(lost, 3)},
            "lost_counted": since,
            "passed": passed,
        }

    def _dead(self, error: HttpError, subject: str, fires: str, bad: str, passed: list[str]) -> Finding:
        """None of them answers from here; Prometheus' own counters say whether they do to it."""
        evidence = self._evidence(passed)
        lost = evidence["figures"]["notifications_lost"]
        answer = f"{self.answers[0].url} gives no answer from here ({error.came_back})"
        others = f", nor do {len(self.answers) - 1} more" if len(self.answers) > 1 else ""
        unknown = not_known("alert.delivery", subject, error, "alertmanager")
        # What failed long ago proves nothing, but for an address at which nothing listens on Prometheus' own host.
        host = urllib.parse.urlsplit(self.client.server.url).hostname or ""
        here = host == "localhost" or port.is_local(host)
        proven = evidence["lost_counted"] == LATELY or (here and error.came_back == "connection refused")
        if error.status is not None or not (lost and proven):
            counted = f"{lost:.0f} notification(s)" if lost else "no notification"
            summary = (
                f"{fires}; whether Alertmanager has it is not known: {answer}{others}; Prometheus counts {counted} "
                f"that it could not send {evidence['lost_counted']}."
            )
            return dataclasses.replace(unknown, summary=summary, evidence={**unknown.evidence, **evidence})
        summary = (
            f"{fires}, and Alertmanager does not get it: {answer}{others}, and {lost:.0f} notification(s) failed or "
            f"were dropped {evidence['lost_counted']}."
        )
        remedy = "Start Alertmanager, or correct its address under alerting in prometheus.yml."
        return Finding("alert.delivery", subject, bad, summary, evidence, remedy)

    def _not_held(
        self,
        subject: str,
        fires: str,
        bad: str,
        rule: Rule,
        alerts: list[Alert],
        reached: list[Answer],
        passed: list[str],
    ) -> Finding:
        evidence = self._evidence(passed)
        lost = evidence["figures"]["notifications_lost"]
        names = " and ".join(answer.url for answer in reached)
        youngest = max((alert.since or self.now) for alert in alerts) + rule.hold
        if self.now - youngest < RESEND:
            summary = f"{fires}: {names} does not have it yet; Prometheus sends it again every minute."
            return Finding("alert.delivery", subject, "unknown", summary, evidence, "Ask again in a minute.")
        summary = f"{fires}, and {names} answers but does not have it"
        remedy = "Compare the addresses under alerting in prometheus.yml with this one."
        if "alert_relabel_configs:" in self.configuration:
            summary += ": alert_relabel_configs may drop it"
            remedy = "See alert_relabel_configs under alerting in prometheus.yml."
        elif lost:
            summary += f"; {lost:.0f} notification(s) failed or were dropped {evidence['lost_counted']}"
            remedy = "The log of Prometheus says why it could not send: journalctl -u prometheus | grep notif"
        return Finding("alert.delivery", subject, bad, f"{summary}.", evidence, remedy)

    def _with_dead(self, found: Finding) -> Finding:
        dead = {answer.url: answer.error.came_back for answer in self.answers if answer.error}
        if not dead:
            return found
        evidence = {**found.evidence, "not_reached": dead}
        named = " and ".join(f"{url} ({why})" for url, why in dead.items())
        summary = (
            f"{found.summary} {len(dead)} of {len(self.answers)} Alertmanagers give no answer from here: {named}; if "
            "the others end too, nobody is told."
        )
        remedy = found.remedy or f"See whether Alertmanager runs there: {' and '.join(dead)}."
        severity_now = worst([found.severity, "warning"])
        return dataclasses.replace(found, severity=severity_now, summary=summary, evidence=evidence, remedy=remedy)

    # It is there

    def _inside(
        self, server: Alertmanager, subject: str, fires: str, bad: str, held: list[Held], passed: list[str]
    ) -> Finding:
        base: dict[str, t.Any] = {
            "asked": f"GET {server.server.url}/api/v2/alerts/groups",
            "alerts": [dataclasses.asdict(one) for one in held[:SHOWN]],
            "passed": passed,
        }
        kept_back, through = [], []
        for one in held:
            why = self._stopped(server, one)
            through += [] if why else [one]
            kept_back += [(why, one)] if why else []
        if kept_back:
            further = self._through(server, subject, fires, bad, through, base) if through else None
            if further and further.severity != "ok":
                return further
            (check, said, evidence, remedy), first = kept_back[0]
            of = f"{len(kept_back)} of {len(held)} label sets are " if len(held) > 1 else "it is "
            summary = f"{fires}, and reaches Alertmanager, where {of}{said}."
            by = {"silenced": first.silenced_by, "inhibited": first.inhibited_by, "muted by time": first.muted_by}
            also = [word for word, what in by.items() if what][1:]
            summary += f" It is {' and '.join(also)} as well, so that it stays quiet after that." if also else ""
            return Finding(check, subject, "info", summary, {**base, **evidence}, remedy)
        passed.append("alert.silence: neither silenced, inhibited nor muted")
        return self._through(server, subject, fires, bad, through, base)

    def _through(
        self, server: Alertmanager, subject: str, fires: str, bad: str, held: list[Held], base: dict[str, t.Any]
    ) -> Finding:
        """Nothing keeps it back: whether its receivers have integrations, and these take it."""
        passed = base["passed"]
        try:
            by = server.integrations()
        except HttpError as error:
            found = not_known("alert.receiver", subject, error, "alertmanager")
            summary = f"{fires}, and Alertmanager has it; to whom it tells it is not known: {error}."
            return dataclasses.replace(found, summary=summary, evidence={**base, **found.evidence})
        names = list(dict.fromkeys(one.receiver for one in held))
        integrations = sorted({integration for name in names for integration in by.get(name, [])})
        told = " and ".join(names)
        base["receivers"] = {name: by.get(name) for name in names}
        if not integrations:
            if any(name not in by for name in names):
                summary = f"{fires}; its receiver {told} is not in the configuration that Alertmanager shows."
                return Finding(
                    "alert.receiver", subject, "unknown", summary, base, "See receivers in alertmanager.yml."
                )
            summary = (
                f"{fires}, and Alertmanager tells nobody: its route leads to the receiver {told}, which has no "
                "integration."
            )
            remedy = f"Give the receiver {told} a webhook, e-mail or the like, or route the alert to another one."
            return Finding("alert.receiver", subject, bad, summary, base, remedy)
        passed.append(f"alert.receiver: {told} tells by {', '.join(integrations)}")
        found = self._told(server, subject, fires, bad, told, integrations, base)
        if found.severity == "ok" and any(one.muted_by is None for one in held):
            summary = f"{found.summary} Whether it is muted by time this version of Alertmanager does not say."
            return dataclasses.replace(found, severity="unknown", summary=summary)
        return found

    def _stopped(self, server: Alertmanager, one: Held) -> tuple[str, str, dict[str, t.Any], str] | None:
        """By what an alert is kept back: check, words, evidence and remedy; None where nothing keeps it."""
        if one.silenced_by:
            number = one.silenced_by[0]
            try:
                silence = server.silence(number)
            except HttpError as error:
                return "alert.silence", f"silenced by {number}", {"silence": str(error)}, "See /#/silences."
            until = f" until {clock(silence.ends)}" if silence.ends is not None else ""
            said = f"silenced by {number} of {silence.author} ({silence.comment}){until}"
            return (
                "alert.silence",
                said,
                {"silence": dataclasses.asdict(silence)},
                f"To be told again at once: amtool silence expire {number}",
            )
        if one.inhibited_by:
            other = self._alert(server, one.inhibited_by[0])
            by = _named(other.labels) if other else one.inhibited_by[0]
            return (
                "alert.inhibition",
                f"inhibited by {by}",
                {"inhibited_by": other.labels if other else one.inhibited_by},
                "See to that alert first; which one hides which say the inhibit_rules in alertmanager.yml.",
            )
        if one.muted_by:
            names = ", ".join(one.muted_by)
            return (
                "alert.mute",
                f"muted by the time interval {names}",
                {"muted_by": one.muted_by},
                f"See time_intervals and the mute_time_intervals of its route in alertmanager.yml: {names}.",
            )
        return None

    def _alert(self, server: Alertmanager, fingerprint: str) -> Held | None:
        held = (one for answer in self.answers if answer.server is server for one in answer.held)
        return next((one for one in held if one.fingerprint == fingerprint), None)

    def _told(
        self,
        server: Alertmanager,
        subject: str,
        fires: str,
        bad: str,
        told: str,
        integrations: list[str],
        base: dict[str, t.Any],
    ) -> Finding:
        """Whether its notifications go out; Alertmanager counts them by integration, not by receiver."""
        try:
            page = server.own_page((SENT, FAILED, TRIED, TRIED_IN_VAIN))
        except HttpError as error:
            found = not_known("alert.notification", subject, error, "alertmanager")
            summary = f"{fires}, and Alertmanager tells {told}; whether that succeeds is not known: {error}."
            return dataclasses.replace(found, summary=summary, evidence={**base, **found.evidence})

        def count(name: str) -> float:
            return sum(v for labels, v in page.kept.get(name, []) if labels.get("integration") in integrations)

        reasons: dict[str, float] = {}
        for labels, value in page.kept.get(FAILED, []):
            if value and labels.get("integration") in integrations:
                key = f"{labels['integration']}: {labels.get('reason', 'no reason given')}"
                reasons[key] = reasons.get(key, 0.0) + value
        sent, failed, tried, in_vain = (count(name) for name in (SENT, FAILED, TRIED, TRIED_IN_VAIN))
        since = "since its start"
        recent = [self._recent(name, integrations) for name in (TRIED, TRIED_IN_VAIN)]
        if recent[0] and recent[1] is not None:
            since, tried, in_vain = LATELY, recent[0], recent[1]
        evidence = {
            **base,
            "counted": since,
            "figures": {
                "notifications": sent,
                "notifications_failed": failed,
                "requests": tried,
                "requests_failed": in_vain,
            },
            "failed_by_reason": reasons,
        }
        by = f"{told} ({', '.join(integrations)})"
        check = "alert.notification"
        # An increase is extrapolated, and no whole number.
        if tried and in_vain > 0.99 * tried:
            why = f" ({', '.join(reasons)})" if reasons else ""
            summary = (
                f"{fires}, and Alertmanager has it, but every notification to {by} fails: {in_vain:.0f} of {tried:.0f} "
                f"requests {since}{why}."
            )
            remedy = "The log of Alertmanager has the answer of the receiver: journalctl -u prometheus-alertmanager"
            return Finding(check, subject, bad, summary, evidence, remedy)
        if not sent:
            summary = (
                f"{fires}, and Alertmanager has it, but has notified {by} of nothing yet: it waits for group_wait."
            )
            return Finding(
                check, subject, "unknown", summary, evidence, "Ask again after group_wait (30 s by default)."
            )
        if in_vain or (failed and not recent[0]):
            why = f" ({', '.join(reasons)})" if reasons else ""
            summary = (
                f"{fires}, and Alertmanager has it and notifies {by}; {in_vain:.0f} of {tried:.0f} requests by "
                f"{', '.join(integrations)} failed {since}{why}, whether one of this alert did is not known."
            )
            remedy = "The log of Alertmanager names the receiver: journalctl -u prometheus-alertmanager"
            return Finding(check, subject, "unknown", summary, evidence, remedy)
        summary = (
            f"{fires}, Alertmanager has it, and its receiver {by} takes the notifications: of {tried:.0f} requests by "
            f"{', '.join(integrations)} {since} none failed."
        )
        return Finding("alert.delivered", subject, "ok", summary, evidence)

    def _recent(self, name: str, integrations: list[str]) -> float | None:
        """What a counter of Alertmanager grew by lately; None where Prometheus does not scrape it."""
        query = f"sum(increase({name}{{integration=~'{'|'.join(integrations)}'}}[{RECENT:.0f}s]))"
        found = self.client.query(query)
        return found[0].value if found else None


def alertmanagers(urls: t.Iterable[str], given: Server | None, timeout: float) -> list[Alertmanager]:
    """Those to ask.

    :param urls: to which Prometheus posts alerts, asked without credentials unless one is ``given``.
    """
    servers = [given] if given else [Server(_base(url), timeout=timeout) for url in urls]
    return [Alertmanager(server) for server in servers]


def _base(url: str) -> str:
    """The address of an Alertmanager, of the one that alerts are posted to; without a user name or a password."""
    parts = urllib.parse.urlsplit(url)
    path = parts.path[: -len(_PATH)] if parts.path.endswith(_PATH) else parts.path
    return urllib.parse.urlunsplit((parts.scheme, re.sub(r"^.*@", "", parts.netloc), path, "", ""))


def _named(labels: dict[str, str]) -> str:
    others = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "alertname")
    return labels.get("alertname", "an alert") + (f" ({others})" if others else "")
