# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the alerts, rules and series of a server; the server's own part is in tests/service."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import alerts
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server, Unreachable, Unsupported
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Alert, Prometheus, Rule, Sample, Series
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
HOUR = 3600.0


class Fake(Prometheus):
    """A server that answers what the test says, and refuses what it names."""

    def __init__(self, **answers: t.Any) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self.answers: dict[str, t.Any] = {
            "rules": [],
            "alerts": [],
            "alertmanagers": ["http://127.0.0.1:9093/api/v2/alerts"],
            "label_values": ["up"],
            "oldest": NOW - 1000 * HOUR,
            "lost": [0.0, 0.0],
            "firing": {},
            "since": {},
            **answers,
        }

    def _answer(self, name: str) -> t.Any:
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]

    def backend(self) -> str:
        return "Prometheus"

    def rules(self) -> list[Rule]:
        return t.cast("list[Rule]", self._answer("rules"))

    def alerts(self) -> list[Alert]:
        return t.cast("list[Alert]", self._answer("alerts"))

    def alertmanagers(self) -> list[str]:
        return t.cast("list[str]", self._answer("alertmanagers"))

    def label_values(self, label: str, selector: str, start: float, end: float, limit: int = 0) -> list[str]:
        assert (label, selector, end) == ("__name__", "", NOW)
        return t.cast("list[str]", self._answer("label_values"))

    def oldest(self) -> float | None:
        return t.cast("float | None", self._answer("oldest"))

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        if expression == "time()":
            return [Sample({}, NOW, NOW)]
        return [Sample({}, value, NOW) for value in self._answer("lost")]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Cells in which the samples of ``firing`` ({name: [time]}) or ``since`` ({name: {time: value}}) lie."""
        assert round((end - start) / step) < alerts.POINTS
        count = round((end - start) / step) + 1
        cells = [start + cell * step for cell in range(count)]
        found = []
        if "ALERTS_FOR_STATE" in expression:
            for name, values in self._answer("since").items():
                points = [
                    (cell, max(value for at, value in values.items() if cell - step < at <= cell))
                    for cell in cells
                    if any(cell - step < at <= cell for at in values)
                ]
                found.append(Series({"alertname": name}, points))
        else:
            for name, times in self._answer("firing").items():
                points = [(cell, 1.0) for cell in cells if any(cell - step < at <= cell for at in times)]
                found.append(Series({"alertname": name, "alertstate": "firing"}, points))
        return [series for series in found if series.points]


def rule(name: str, query: str = "up == 0", **changes: t.Any) -> Rule:
    known = Rule(
        name=name,
        kind="alerting",
        query=query,
        group="services",
        file="/etc/prometheus/rules/trading.yml",
        health="ok",
        error="",
        hold=0.0,
        keep=0.0,
        state="inactive",
        labels={"severity": "critical"},
        annotations={},
        interval=15.0,
        evaluated=NOW - 5,
    )
    return dataclasses.replace(known, **changes)


def look(not_emitted: t.Sequence[str] = (), flapping: int = 5, window: float = HOUR, **answers: t.Any) -> alerts.Look:
    return alerts.Look(Fake(**answers), window, flapping, not_emitted)


def only(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


# Spans


@given(
    st.lists(st.integers(0, 400), unique=True).map(sorted),
    st.integers(1, 30).map(float),
    st.integers(1, 60).map(float),
    st.data(),
)
def test_spans_are_ordered_disjoint_and_hold_every_cell(
    cells: list[int], step: float, interval: float, data: st.DataObject
) -> None:
    spans = alerts.Spans(step, interval)
    since = data.draw(st.lists(st.sampled_from([None, 1.0, 2.0]), min_size=len(cells), max_size=len(cells)))
    for cell, active_since in zip(cells, since):
        spans.add(cell * step, active_since)
    ends = [moment for span in spans.spans for moment in span]
    assert ends == sorted(ends)
    assert all(any(start <= (cell - 0.5) * step <= end for start, end in spans.spans) for cell in cells)


@given(st.lists(st.integers(1, 3000), unique=True), st.integers(1, 59))
def test_the_history_does_not_depend_on_how_the_window_is_cut(ages: list[int], points: int) -> None:
    fired = [NOW - age - 0.25 for age in ages]

    def read(most: int) -> list[alerts.History]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(alerts, "POINTS", most)
            looking = look(firing={"A": fired})
            looking._now = NOW
            return looking.read_history(60.0, {})

    whole = read(60)
    assert read(points) == whole
    assert bool(whole) == bool(ages)


def test_each_active_since_is_one_firing_however_short_the_pause() -> None:
    times = [NOW - 600 + 15 * evaluation for evaluation in range(6)]
    since = {at: NOW - 600 if at < times[3] else times[3] for at in times}
    looking = look(rules=[rule("A")], firing={"A": times}, since={"A": since})
    looking.findings()
    (history,) = looking.history
    assert [round(length) for length in history.lengths] == [45, 45]
    assert looking.resolution == 15


def test_a_gap_in_which_the_server_was_away_does_not_end_a_firing() -> None:
    times = [NOW - 1500, NOW - 1485, NOW - 100]
    looking = look(rules=[rule("A")], firing={"A": times}, since={"A": dict.fromkeys(times, NOW - 1500)})
    looking.findings()
    assert looking.history_rows()[0]["firings"] == 1


def test_without_active_since_a_pause_longer_than_the_lookback_ends_a_firing() -> None:
    looking = look(firing={"A": [NOW - 2000, NOW - 1800, NOW - 1000]})
    looking.findings()
    assert looking.history_rows()[0]["firings"] == 2


def test_one_evaluation_in_a_week_is_found() -> None:
    looking = look(window=168 * HOUR, rules=[rule("A")], firing={"A": [NOW - 100 * HOUR]})
    looking.findings()
    (row,) = looking.history_rows()
    assert (row["firings"], row["firing_seconds"]) == (1, pytest.approx(15))


# What fires and what is pending


def active(name: str, state: str = "firing", **labels: str) -> Alert:
    return Alert({"alertname": name, **labels}, {"summary": "It burns.", "remedy": "Put it out."}, state, NOW - 60, "1")


def test_an_alert_that_fires_is_as_severe_as_its_label() -> None:
    given_alerts = [active("A", severity="critical"), active("B", severity="warning"), active("C", severity="page")]
    findings = look(alerts=given_alerts).findings()
    assert {f.subject: f.severity for f in findings if f.check == "alert.firing"} == {
        "A": "critical",
        "B": "warning",
        "C": "info",
    }


def test_label_sets_of_one_alert_are_one_finding_with_its_remedy() -> None:
    given_alerts = [active("A", severity="warning", venue=str(number)) for number in range(30)]
    finding = only(look(alerts=given_alerts).findings(), "alert.firing")
    assert finding.summary == "A (30 label sets) fires, for 1 min: It burns."
    assert finding.remedy == "Put it out."
    assert len(finding.evidence["alerts"]) == alerts.EXAMPLES
    assert finding.evidence["figures"] == {"firing_alerts": 30}


def test_a_pending_alert_says_how_long_is_left() -> None:
    finding = only(look(alerts=[active("A", "pending")], rules=[rule("A", hold=90.0)]).findings(), "alert.pending")
    assert finding.severity == "info"
    assert "It fires in 30 s" in finding.summary


def test_silence_is_ok() -> None:
    findings = look(rules=[rule("A")]).findings()
    assert {finding.check: finding.severity for finding in findings} == {
        "alert.firing": "ok",
        "alert.pending": "ok",
        "alert.rule": "ok",
        "alert.history": "ok",
        "alert.flapping": "ok",
        "alert.delivery": "ok",
    }


# Rules


@pytest.mark.parametrize(
    ("changes", "severity", "said"),
    [
        ({"health": "err", "error": "many-to-many matching"}, "critical", "many-to-many"),
        ({"health": "err", "error": "x", "labels": {}}, "warning", "cannot be evaluated"),
        ({"health": "unknown", "evaluated": None}, "unknown", "not been evaluated yet"),
        ({"evaluated": NOW - 3600}, "critical", "last evaluated 1 h ago"),
        ({"hold": 5.0}, "info", "waits 5 s but is evaluated every 15 s"),
        ({"kind": "recording", "health": "err", "error": "x"}, "warning", "cannot be evaluated"),
    ],
)
def test_a_broken_rule_is_named(changes: dict[str, t.Any], severity: str, said: str) -> None:
    findings = look(rules=[rule("A", **changes), rule("B")]).findings()
    (finding,) = [finding for finding in findings if finding.subject == "services/A"]
    assert (finding.check, finding.severity) == ("alert.rule", severity)
    assert said in finding.summary


def test_no_rules_at_all_are_not_healthy() -> None:
    assert only(look(rules=[rule("r", kind="recording")]).findings(), "alert.rule").severity == "warning"


def test_a_rule_on_a_metric_without_series_cannot_fire() -> None:
    finding = only(look(rules=[rule("A", "njord_typo > 1 and up == 1")]).findings(), "alert.rule")
    assert finding.severity == "warning"
    assert finding.summary == "A cannot fire while njord_typo has no series, and it had none in the last 1 h."


def test_a_metric_that_is_not_emitted_is_information_also_behind_a_recording_rule() -> None:
    rules = [
        rule("A", "njord:latency:p95 > 1"),
        rule("njord:latency:p95", "histogram_quantile(0.95, rate(njord_latency_bucket[5m]))", kind="recording"),
        rule("B", "njord_latency_count > 1"),
    ]
    findings = [f for f in look(["njord_latency"], rules=rules).findings() if f.check == "alert.rule"]
    assert [(f.subject, f.severity) for f in findings] == [
        ("all rules", "ok"),
        ("metrics not emitted by this version", "info"),
    ]
    assert findings[1].evidence["without_series"] == {"A": ["njord:latency:p95"], "B": ["njord_latency_count"]}


def test_recording_rules_that_feed_each_other_end() -> None:
    rules = [rule("A", "x:y > 1"), rule("x:y", "y:x", kind="recording"), rule("y:x", "x:y", kind="recording")]
    assert only(look(rules=rules).findings(), "alert.rule").severity == "warning"


def test_of_an_expression_that_cannot_be_judged_nothing_is_claimed() -> None:
    findings = [
        f for f in look(rules=[rule("A", 'absent(njord_up) or {job="x"} > 1')]).findings() if f.check == "alert.rule"
    ]
    assert [(f.subject, f.severity) for f in findings] == [("all rules", "ok"), ("expressions not judged", "info")]


# History, flapping, delivery


def restless(count: int) -> dict[str, t.Any]:
    times = [NOW - 3500 + 210 * number for number in range(count)]
    return {"rules": [rule("A", hold=60.0)], "firing": {"A": times}, "since": {"A": {at: at for at in times}}}


def test_more_firings_than_allowed_are_flapping_with_advice_in_figures() -> None:
    finding = only(look(**restless(6)).findings(), "alert.flapping")
    assert finding.severity == "warning"
    assert "A fired 6 times in 1 h, typically for 15 s with 3 min 15 s between" in finding.summary
    assert "`keep_firing_for` above 3 min 15 s" in finding.remedy
    assert "(now 1 min and none)" in finding.remedy


def test_as_many_firings_as_allowed_are_not_flapping() -> None:
    assert only(look(**restless(5)).findings(), "alert.flapping").severity == "ok"


def test_the_timeline_holds_the_spans_and_stays_small() -> None:
    busy = [NOW - 3600 + 15 * evaluation for evaluation in range(0, 240, 2)]
    looking = look(rules=[rule("A")], firing={"A": busy}, since={"A": {at: at for at in busy}}, window=100 * HOUR)
    finding = only(looking.findings(), "alert.history")
    chart = finding.evidence["chart"]
    assert (chart["start"], chart["end"]) == (NOW - 100 * HOUR, NOW)
    assert [(row["label"], len(row["spans"])) for row in chart["rows"]] == [("A", 1)]
    assert finding.evidence["figures"]["firings"] == len(busy)


@pytest.mark.parametrize(
    ("oldest", "severity", "said"),
    [
        (NOW - 2 * HOUR, "ok", "in the last 1 h."),
        (
            NOW - 600,
            "info",
            "in the last 10 min; of the time before, Prometheus has no data, though 1 h were asked for.",
        ),
        (None, "unknown", "no data at all"),
        (Unsupported("GET /metrics", "HTTP 404", 404), "unknown", "not known: GET /metrics: HTTP 404"),
    ],
)
def test_history_before_the_oldest_sample_is_not_called_quiet(oldest: t.Any, severity: str, said: str) -> None:
    finding = only(look(oldest=oldest).findings(), "alert.history")
    assert finding.severity == severity
    assert said in finding.summary


def test_a_short_history_with_firings_says_both() -> None:
    finding = only(look(oldest=NOW - 600, firing={"A": [NOW - 300]}).findings(), "alert.history")
    assert finding.severity == "info"
    assert "1 alert(s) fired 1 time(s)" in finding.summary
    assert "has no data" in finding.summary


def test_a_rule_with_two_faults_is_one_finding_the_worse() -> None:
    finding = only(look(rules=[rule("A", "njord_typo > 1", hold=5.0)]).findings(), "alert.rule")
    assert (finding.severity, "cannot fire" in finding.summary) == ("warning", True)


def test_without_an_alertmanager_alerts_go_nowhere() -> None:
    finding = only(look(alertmanagers=[]).findings(), "alert.delivery")
    assert (finding.severity, finding.evidence["alertmanagers"]) == ("warning", [])


@pytest.mark.parametrize(("lost", "severity"), [([3.0, 0.0], "warning"), ([], "unknown"), ([0.0], "ok")])
def test_what_alertmanager_did_not_take_is_told(lost: list[float], severity: str) -> None:
    assert only(look(lost=lost).findings(), "alert.delivery").severity == severity


def test_a_part_that_cannot_be_asked_does_not_take_the_others_with_it() -> None:
    broken = Unsupported("GET /api/v1/alertmanagers", "HTTP 404", 404)
    slow = Unreachable("GET /api/v1/alerts", "no whole answer within 10 s")
    findings = look(alertmanagers=broken, alerts=slow, rules=[rule("A")]).findings()
    assert {finding.check: finding.severity for finding in findings} == {
        "alert.rule": "ok",
        "alert.firing": "unknown",
        "alert.history": "ok",
        "alert.flapping": "ok",
        "alert.delivery": "unknown",
    }
    assert only(findings, "alert.firing").evidence["came_back"] == "no whole answer within 10 s"
