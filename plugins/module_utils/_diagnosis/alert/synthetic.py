# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""One alert that is only a trial, sent to a receiver that was named, and followed until that has taken it.

Where it would lead is read from Alertmanager's own configuration first: labels that lead to that receiver and to no
other, and neither silenced, inhibited nor muted there. Where there are none, nothing is sent. It is ended as soon as
its fate is known, whatever interrupts this, and by itself where nothing can.

What proves that it was taken: Alertmanager does not say which alert a notification was of. It counts, by integration,
and by receiver only with ``--enable-feature=receiver-name-in-metrics``. So a count that grew proves it only where no
other alert is there that would have moved the same count.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import signal
import threading
import time
import typing as t
import uuid

from ..._alertmanager import Alertmanager, Held, Posted, Silence
from ..._finding import Finding, worst
from ..._http import HttpError, Server
from ..._prometheus import Prometheus
from ..._units import human_duration
from .. import clock, nearest, not_known
from .delivery import AT_ONCE, FAILED, SENT, TRIED, TRIED_IN_VAIN, alertmanagers
from .routing import Configuration, Integration, Labels, Route, matcher

CHECK = "alert.synthetic"
NAME = "NjordSyntheticTest"
# Tells one trial from the next one.
MARK = "njord_synthetic"
# What an integration may take once its group is told of, in seconds; and each further Alertmanager of a cluster waits
# for those before it.
MARGIN = 20.0
PEER_SECONDS = 15.0
# A route that waits for longer is not tried: nobody looks at a run for so long.
LONGEST = 900.0
# Until it ends by itself where nobody could end it.
SPARE = 60.0
# Before its group is told of, the counts are taken once more, so that what others do meanwhile is no proof.
_EARLY = 1.0
_POLL_SECONDS = 0.5
# Until an alert that was ended is no longer shown.
_END_SECONDS = 2.0
_COUNTERS = (SENT, FAILED, TRIED, TRIED_IN_VAIN)


@dataclasses.dataclass(frozen=True)
class Question:
    """
    :param labels: that the alert has besides those that it needs; a name of its own is among them.
    :param author: who asks.
    :param is_check: only what would be done is said.
    """

    receiver: str
    labels: Labels
    author: str
    is_check: bool


class _Refused(Exception):
    """Nothing was sent. :param finding: why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.summary)
        self.finding = finding


@dataclasses.dataclass(frozen=True)
class _State:
    """What one Alertmanager says before anything is sent."""

    server: Alertmanager
    configuration: Configuration
    held: list[Held]
    silences: list[Silence]

    @property
    def url(self) -> str:
        return self.server.server.url


@dataclasses.dataclass(frozen=True)
class _Plan:
    """
    :param wait: seconds until its group is told of, at the longest, and ``bound`` until its fate is known.
    """

    labels: Labels
    route: Route
    integrations: tuple[Integration, ...]
    is_new_group: bool
    wait: float
    bound: float


@dataclasses.dataclass
class _Counts:
    """Of one kind of integration, of all Alertmanagers together.

    :param reasons: why notifications failed for good, by the words of Alertmanager.
    """

    sent: float = 0.0
    tried: float = 0.0
    in_vain: float = 0.0
    reasons: dict[str, float] = dataclasses.field(default_factory=dict)

    def since(self, before: _Counts) -> _Counts:
        reasons = {name: value - before.reasons.get(name, 0.0) for name, value in self.reasons.items()}
        return _Counts(
            self.sent - before.sent,
            self.tried - before.tried,
            self.in_vain - before.in_vain,
            {name: value for name, value in reasons.items() if value > 0},
        )

    @property
    def taken(self) -> float:
        return self.tried - self.in_vain


@dataclasses.dataclass
class _Seen:
    """What became of it.

    :param is_told: whether the counts are the receiver's own. :param others: label sets that may have moved them.
    :param found: as Alertmanager shows it.
    """

    by: dict[str, _Counts] = dataclasses.field(default_factory=dict)
    is_told: bool = False
    others: set[str] = dataclasses.field(default_factory=set)
    found: list[Held] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    errors: list[str] = dataclasses.field(default_factory=list)


class Trial:
    """One trial; :meth:`findings` does it.

    :param given: the Alertmanager that an operator names; else each one that Prometheus sends its alerts to.
    """

    def __init__(self, client: Prometheus, given: Server | None, question: Question) -> None:
        self.client = client
        self.given = given
        self.question = question
        # Whether it was sent to anybody.
        self.is_sent = False
        self._dead: dict[str, str] = {}

    def findings(self) -> list[Finding]:
        """One finding; that it was taken is ``ok``, and nothing else is."""
        try:
            states = self._states()
            plan = self._plan(states)
            if self.question.is_check:
                return [self._would(states, plan)]
            return [self._with_dead(self._try(states, plan))]
        except _Refused as refused:
            return [refused.finding]

    def _refuse(self, why: str, remedy: str, severity: str = "unknown", **evidence: t.Any) -> _Refused:
        summary = f"No synthetic alert was sent to {self.question.receiver}: {why}."
        return _Refused(Finding(CHECK, self.question.receiver, severity, summary, evidence, remedy))

    # What is there

    def _states(self) -> list[_State]:
        try:
            urls = [] if self.given else self.client.alertmanagers()
        except HttpError as error:
            unknown = not_known(CHECK, self.question.receiver, error)
            why = f"where Alertmanager is, is not known: {error}"
            raise self._refuse(why, unknown.remedy, **unknown.evidence) from error
        servers = alertmanagers(urls, self.given, self.client.server.timeout)
        if not servers:
            remedy = "Add one under alerting in prometheus.yml, or give alertmanager_url."
            raise self._refuse("Prometheus has no Alertmanager", remedy)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(self._ask, servers))
        errors = [answer for answer in answers if isinstance(answer, HttpError)]
        found = [answer for answer in answers if isinstance(answer, _State)]
        if not found:
            dead = not_known(CHECK, self.question.receiver, errors[0], "alertmanager")
            raise self._refuse(f"{errors[0]}", dead.remedy, **dead.evidence)
        self._dead = {
            server.server.url: answer.came_back
            for server, answer in zip(servers, answers)
            if isinstance(answer, HttpError)
        }
        return found

    def _ask(self, server: Alertmanager) -> _State | HttpError:
        try:
            text = server.configuration()
            held, silences = server.held(), server.silences()
        except HttpError as error:
            return error
        try:
            return _State(server, Configuration.read(text), held, silences)
        except ValueError as error:
            why = f"where {server.server.url} would lead it is not known: its configuration is not understood, {error}"
            raise self._refuse(why, "amtool config routes test says where labels lead.") from error

    # What would become of it

    def _plan(self, states: list[_State]) -> _Plan:
        receiver = self.question.receiver
        first = states[0].configuration
        for state in states:
            known = state.configuration.receivers
            if receiver not in known:
                near = nearest(receiver, known)
                said = f"{state.url} has no receiver of that name"
                remedy = f"Meant is perhaps {' or '.join(near)}." if near else f"It has {', '.join(known)}."
                raise self._refuse(said, remedy, receivers=sorted(known))
            if not known[receiver]:
                why = f"{state.url} has no integration for it, so that nobody is told whatever is routed there"
                raise self._refuse(why, f"Give the receiver {receiver} a webhook, e-mail or the like.", "warning")
        mark = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
        given = {"alertname": NAME, **self.question.labels, MARK: mark}
        try:
            labels = first.labels(receiver, given)
        except ValueError as error:
            remedy = "Name labels of an alert that reaches it alone with synthetic_labels, or correct the routes."
            raise self._refuse(str(error), remedy, labels=given) from error
        plans = [self._of(state, labels) for state in states]
        longest = max(plans, key=lambda plan: plan.wait)
        bound = longest.wait + MARGIN + PEER_SECONDS * (len(states) - 1)
        if bound > LONGEST:
            why = f"its route waits for {human_duration(longest.wait)}, longer than a trial may take"
            raise self._refuse(why, "A shorter group_wait or group_interval of that route would do.", labels=labels)
        return dataclasses.replace(longest, bound=bound)

    def _of(self, state: _State, labels: Labels) -> _Plan:
        """What one Alertmanager makes of these labels."""
        configuration, receiver = state.configuration, self.question.receiver
        ends = configuration.route.leads(labels)
        if [route.receiver for route in ends] != [receiver]:
            names = " and ".join(route.receiver for route in ends)
            remedy = "Give all Alertmanagers the same configuration, or name one with alertmanager_url."
            raise self._refuse(
                f"{state.url} leads the same labels to {names}, unlike the others", remedy, labels=labels
            )
        route = ends[0]
        active = [one.labels for one in state.held]
        try:
            quiet = self._kept_back(state, labels, active, route)
        except ValueError as error:
            why = f"whether it would be kept back is not known: {error}"
            raise self._refuse(why, "amtool silence query, and inhibit_rules and time_intervals say.") from error
        if quiet:
            raise self._refuse(f"{quiet[0]} at {state.url}", quiet[1], labels=labels)
        group = route.group(labels)
        is_new = not any((one.receiver, one.group) == (receiver, group) for one in state.held)
        wait = route.wait if is_new else route.interval
        return _Plan(labels, route, configuration.receivers[receiver], is_new, wait, 0.0)

    @staticmethod
    def _kept_back(state: _State, labels: Labels, active: list[Labels], route: Route) -> tuple[str, str] | None:
        """By what it would be: a clause, and what to do."""
        for silence in state.silences:
            if all(matcher(text).accepts(labels) for text in silence.matchers):
                until = f" until {clock(silence.ends)}" if silence.ends is not None else ""
                said = f"it would be silenced by {silence.number} of {silence.author} ({silence.comment}){until}"
                return said, f"Wait for its end, or: amtool silence expire {silence.number}"
        other = state.configuration.inhibited(labels, active)
        if other is not None:
            named = ", ".join(f"{key}={value}" for key, value in sorted(other.items()))
            return f"it would be inhibited by the alert {named}", "See to that alert first, and to inhibit_rules."
        muted = state.configuration.keeps_quiet(route, time.time() + route.wait)
        if muted:
            return f"its route is {muted}", "Try again at another time, or see time_intervals in alertmanager.yml."
        return None

    def _evidence(self, states: list[_State], plan: _Plan) -> dict[str, t.Any]:
        return {
            "asked": "GET /api/v2/status, /api/v2/silences, /api/v2/alerts/groups, /metrics; POST /api/v2/alerts",
            "alertmanagers": [state.url for state in states],
            "not_reached": self._dead,
            "labels": plan.labels,
            "integrations": [dataclasses.asdict(one) for one in plan.integrations],
            "group_wait_seconds": plan.route.wait,
            "group_interval_seconds": plan.route.interval,
        }

    def _would(self, states: list[_State], plan: _Plan) -> Finding:
        receiver = self.question.receiver
        named = ", ".join(f"{key}={value}" for key, value in sorted(plan.labels.items()) if key != MARK)
        summary = (
            f"A synthetic alert ({named}) would be sent to {' and '.join(state.url for state in states)}: by the "
            f"configuration it leads to {receiver} ({_kinds(plan.integrations)}), and to nobody else, within "
            f"{human_duration(plan.wait)}. Nothing was sent."
        )
        return Finding(CHECK, receiver, "info", summary, self._evidence(states, plan), "Without --check it is sent.")

    # What becomes of it

    def _try(self, states: list[_State], plan: _Plan) -> Finding:
        now = time.time()
        author = self.question.author
        text = {
            "summary": f"This is a test of the path to {self.question.receiver}, and no fault: nothing is to be done.",
            "description": (
                f"{author} sent this synthetic alert with alert_info of njord.telemetry at {clock(now)}. "
                "It ends by itself."
            ),
        }
        alert = Posted(plan.labels, text, now, now + plan.bound + SPARE)
        before, _told = self._count(states, plan, [])
        refused: dict[str, str] = {}
        seen = _Seen()
        with _interruptible():
            try:
                for state in states:
                    # It may have come though the answer did not.
                    self.is_sent = True
                    try:
                        state.server.send(alert)
                    except HttpError as error:
                        refused[state.url] = error.came_back
                if len(refused) < len(states):
                    seen = self._follow(states, plan, before)
            finally:
                lasting = self._end(states, alert)
        evidence = {**self._evidence(states, plan), "annotations": text, "refused": refused}
        if len(refused) == len(states):
            named = " and ".join(f"{url} ({why})" for url, why in refused.items())
            summary = f"The synthetic alert for {self.question.receiver} was not taken by Alertmanager: {named}."
            remedy = "Its log says why: journalctl -u prometheus-alertmanager"
            return Finding(CHECK, self.question.receiver, "critical", summary, evidence, remedy)
        self._dead.update(refused)
        return self._verdict(plan, seen, evidence, lasting)

    def _follow(self, states: list[_State], plan: _Plan, before: dict[str, _Counts]) -> _Seen:
        """Until its fate is known, or the time is over."""
        begun = time.monotonic()
        base = before
        others: set[str] = set()
        while True:
            seen = _Seen(seconds=time.monotonic() - begun, others=others)
            now, seen.is_told = self._count(states, plan, seen.errors)
            self._look(states, plan, seen)
            is_early = plan.is_new_group and seen.seconds < plan.wait - _EARLY
            if is_early and not seen.errors:
                if now != base:
                    # Nobody was told of ours yet.
                    others.add("one that Alertmanager does not show any more")
                base = now
            seen.by = {kind: now[kind].since(base.get(kind, _Counts())) for kind in now}
            is_over = seen.seconds > plan.bound
            if is_over or (not is_early and not seen.errors and seen.found and self._is_known(plan, seen)):
                return seen
            time.sleep(_POLL_SECONDS)

    @staticmethod
    def _is_known(plan: _Plan, seen: _Seen) -> bool:
        # Where others move the counts, all the time there is may still show that everything fails.
        return all(
            bool(counts.reasons) or counts.taken >= _number(plan, kind) for kind, counts in seen.by.items()
        ) and not (seen.others and seen.seconds < plan.wait + _EARLY)

    def _count(self, states: list[_State], plan: _Plan, errors: list[str]) -> tuple[dict[str, _Counts], bool]:
        """Counts by kind of integration, and whether they are those of the receiver alone."""
        found = {one.kind: _Counts() for one in plan.integrations}
        is_told = True
        for state in states:
            try:
                kept = state.server.own_page(_COUNTERS).kept
            except HttpError as error:
                errors.append(str(error))
                continue
            rows = [(name, labels, value) for name in _COUNTERS for labels, value in kept.get(name, [])]
            is_own = any(labels.get("receiver_name") for _name, labels, _value in rows)
            is_told = is_told and is_own
            for name, labels, value in rows:
                counts = found.get(labels.get("integration", ""))
                if counts is None or (is_own and labels.get("receiver_name") != self.question.receiver):
                    continue
                if name == SENT:
                    counts.sent += value
                elif name == TRIED:
                    counts.tried += value
                elif name == TRIED_IN_VAIN:
                    counts.in_vain += value
                else:
                    reason = labels.get("reason", "no reason given")
                    counts.reasons[reason] = counts.reasons.get(reason, 0.0) + value
        return found, is_told

    def _look(self, states: list[_State], plan: _Plan, seen: _Seen) -> None:
        """Whether it is there, and who else may move the counts."""
        kinds = {one.kind for one in plan.integrations}
        for state in states:
            try:
                held = state.server.held()
            except HttpError as error:
                seen.errors.append(str(error))
                continue
            receivers = state.configuration.receivers
            for one in held:
                if one.labels.get(MARK) == plan.labels[MARK]:
                    seen.found.append(one)
                    continue
                shares = one.receiver == self.question.receiver or (
                    not seen.is_told and any(row.kind in kinds for row in receivers.get(one.receiver, ()))
                )
                if shares and not (one.silenced_by or one.inhibited_by or one.muted_by):
                    seen.others.add(", ".join(f"{key}={value}" for key, value in sorted(one.labels.items())))

    def _end(self, states: list[_State], alert: Posted) -> list[str]:
        """Ends it; where that could not be."""
        # Not now: a moment that by its own clock is not over yet leaves Alertmanager with the end it was told before.
        ended = dataclasses.replace(alert, ends=alert.starts + 0.001)
        later = f"there it ends by itself at {clock(alert.ends)}"

        def end(state: _State) -> list[str]:
            try:
                state.server.send(ended)
                deadline = time.monotonic() + _END_SECONDS
                while any(one.labels.get(MARK) == alert.labels[MARK] for one in state.server.held()):
                    if time.monotonic() > deadline:
                        return [f"{state.url} (it is still there; {later})"]
                    time.sleep(_END_SECONDS / 10)
            except HttpError as error:
                return [f"{state.url} ({error.came_back}; {later})"]
            return []

        return [lasting for state in states for lasting in end(state)]

    def _verdict(self, plan: _Plan, seen: _Seen, evidence: dict[str, t.Any], lasting: list[str]) -> Finding:
        receiver = self.question.receiver
        evidence.update(
            {
                "seconds": round(seen.seconds, 3),
                "counted": f"by receiver {receiver}" if seen.is_told else "by integration, for all receivers together",
                "figures": {
                    f"{kind}_{name}": round(getattr(counts, name), 3)
                    for kind, counts in seen.by.items()
                    for name in ("sent", "tried", "in_vain")
                },
                "failed_by_reason": {kind: counts.reasons for kind, counts in seen.by.items() if counts.reasons},
                "others": sorted(seen.others)[:10],
                "shown": [dataclasses.asdict(one) for one in seen.found],
                "not_counted": seen.errors,
            }
        )
        told = [self._of_kind(plan, seen, kind, counts) for kind, counts in seen.by.items()]
        severity = worst(one for one, _said in told)
        summary = f"The synthetic alert to {receiver}: {'; '.join(said for _severity, said in told)}."
        further = sorted({one.receiver for one in seen.found} - {receiver})
        if further:
            severity = worst([severity, "critical"])
            summary += f" Against what its configuration says, Alertmanager led it to {' and '.join(further)} as well."
        resolved = [one.kind for one in plan.integrations if one.sends_resolved]
        summary += (
            f" Its end is told too, by {', '.join(dict.fromkeys(resolved))}." if resolved else " Its end is not told."
        )
        if lasting:
            severity = worst([severity, "warning"])
            summary += f" It could not be ended at {' and '.join(lasting)}."
        remedy = {
            "critical": "The log of Alertmanager has the answer of the receiver: journalctl -u prometheus-alertmanager",
            "unknown": (
                "Ask whoever reads there. Alertmanager counts by receiver with "
                "--enable-feature=receiver-name-in-metrics, and alone then; or try it while nothing else fires."
            ),
        }.get(severity, "")
        return Finding(CHECK, receiver, severity, summary, evidence, remedy)

    def _of_kind(self, plan: _Plan, seen: _Seen, kind: str, counts: _Counts) -> tuple[str, str]:
        """What became of it by one kind of integration: severity, and a clause."""
        after = human_duration(seen.seconds)
        if seen.errors:
            return "unknown", f"whether {kind} took it is not known, {seen.errors[0]}"
        if not seen.found:
            return "unknown", f"Alertmanager took it and did not show it within {after}, so that nothing is known"
        kept = [one for one in seen.found if one.silenced_by or one.inhibited_by or one.muted_by]
        if kept:
            return "unknown", "it was silenced, inhibited or muted meanwhile"
        why = f" ({', '.join(counts.reasons)})" if counts.reasons else ", and it is tried again until its end"
        if counts.tried and counts.in_vain >= counts.tried:
            return "critical", f"{kind} failed, {counts.in_vain:.0f} of {counts.tried:.0f} requests{why}"
        if seen.others and counts.tried:
            failed = f"{counts.in_vain:.0f} of {counts.tried:.0f} requests by {kind} failed within {after}"
            return "unknown", (
                f"{failed}, and whether one was of it is not known: {len(seen.others)} other alert(s), such as "
                f"{min(seen.others)}, are counted with it"
            )
        wanted = _number(plan, kind)
        if counts.reasons:
            return "critical", f"of {wanted} notification(s) by {kind} {sum(counts.reasons.values()):.0f} failed{why}"
        if counts.taken >= wanted:
            again = f", after {counts.in_vain:.0f} requests that failed" if counts.in_vain else ""
            return "ok", f"delivered, {kind} took it within {after}{again}"
        if counts.tried:
            return "unknown", f"{counts.taken:.0f} of {wanted} notifications by {kind} went out within {after}"
        return "unknown", f"{kind} notified nobody within {after}, and why is not known"

    def _with_dead(self, found: Finding) -> Finding:
        if not self._dead:
            return found
        named = " and ".join(f"{url} ({why})" for url, why in self._dead.items())
        summary = f"{found.summary} It was not tried at {named}."
        return dataclasses.replace(found, severity=worst([found.severity, "warning"]), summary=summary)


def _number(plan: _Plan, kind: str) -> int:
    return sum(1 for one in plan.integrations if one.kind == kind)


def _kinds(integrations: t.Iterable[Integration]) -> str:
    return ", ".join(dict.fromkeys(one.kind for one in integrations))


@contextlib.contextmanager
def _interruptible() -> t.Iterator[None]:
    """Inside, a request to end is an exception, as the one of the keyboard is, so that what was begun is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
