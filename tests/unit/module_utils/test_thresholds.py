# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of values and records; a server that answers by itself is in tests/service."""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import nearest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import thresholds
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert.threshold_story import Story, proposal
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.promql import COMPARISONS
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Server, Unauthorised, Unreachable
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus, Rule, Sample, Series
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
MINUTE = 60.0
HOUR = 3600.0
Values = t.Dict[str, t.List[t.Optional[float]]]


class Fake(Prometheus):
    """A server with one metric, ``x``: a value or none a minute, the last of them now, by the label ``s``.

    :param recorded: the minutes, from the first value on, in which the alert fired, by the same.
    """

    def __init__(self, values: Values, rules: list[Rule], recorded: dict[str, list[int]] | None = None) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self.values = values
        self.loaded = rules
        self.recorded = recorded or {}
        self.trouble: HttpError | None = None
        self.asked: list[str] = []

    def backend(self) -> str:
        return "Prometheus"

    def rules(self) -> list[Rule]:
        return self.loaded

    def oldest(self) -> float | None:
        return NOW - 1000 * HOUR

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        assert expression == "time()"
        return [Sample({}, NOW, NOW)]

    def label_values(self, label: str, selector: str, start: float, end: float, limit: int = 0) -> list[str]:
        return ["A"] if self.recorded else []

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        if self.trouble:
            raise self.trouble
        self.asked.append(expression)
        count = round((end - start) / step) + 1
        assert count <= 11_000
        moments = [start + number * step for number in range(count)]
        if expression.startswith("count("):
            points = [(at, float(sum(self._at(s, at) is not None for s in self.values))) for at in moments]
            return [Series({}, [point for point in points if point[1]])]
        if expression.startswith("ALERTS"):
            return self._alerts(moments)
        found = re.fullmatch(r"\(x\) (\S+) (\S+)", expression)
        assert found or expression == "x"
        series = []
        for label in self.values:
            present = [(at, value) for at in moments for value in [self._at(label, at)] if value is not None]
            if found:
                compare, threshold = COMPARISONS[found.group(1)], float(found.group(2))
                present = [(at, value) for at, value in present if compare(value, threshold)]
            series.append(Series({"__name__": "x", "s": label}, present))
        return [one for one in series if one.points]

    def _minute(self, at: float, length: int) -> int:
        return math.floor((at - NOW) / MINUTE + 1e-6) + length - 1

    def _at(self, label: str, at: float) -> float | None:
        values = self.values[label]
        number = self._minute(at, len(values))
        return values[number] if 0 <= number < len(values) else None

    def _alerts(self, moments: list[float]) -> list[Series]:
        found = []
        for label, minutes in self.recorded.items():
            length = len(next(iter(self.values.values())))
            points = [(at, 1.0) for at in moments if self._minute(at, length) in minutes]
            labels = {"__name__": "ALERTS", "alertname": "A", "alertstate": "firing", "s": label, "team": "x"}
            found.append(Series(labels, points))
        return [one for one in found if one.points]


def rule(query: str = "x > 10", **changes: t.Any) -> Rule:
    known = Rule(
        name="A",
        kind="alerting",
        query=query,
        group="g",
        file="rules.yml",
        health="ok",
        error="",
        hold=0.0,
        keep=0.0,
        state="inactive",
        labels={"team": "x"},
        annotations={},
        interval=MINUTE,
        evaluated=NOW,
    )
    return dataclasses.replace(known, **changes)


def look(server: Fake, window: float = HOUR, **options: t.Any) -> tuple[list[Finding], Story]:
    looking = thresholds.Look(server, thresholds.Options(window, **options))
    findings = looking.findings()
    (story,) = looking.stories
    return [finding for finding in findings if finding.subject == "g/A"], story


def busy(*spans: tuple[int, int], calm: float = 1.0, high: float = 20.0) -> list[float | None]:
    """An hour and a minute of values, high in some minutes and swaying in the others."""
    return [
        high if any(first <= minute < last for first, last in spans) else calm + minute % 3 / 10 for minute in range(61)
    ]


def test_firings_of_each_series_are_its_own() -> None:
    server = Fake({"a": busy((10, 20), (30, 32)), "b": busy((15, 18))}, [rule(hold=2 * MINUTE)])
    (finding,), story = look(server)
    assert story.today is not None
    # The short one of a is over before it fires, and that of b fires for a minute.
    assert sorted(story.today.lengths) == [MINUTE, 8 * MINUTE]
    assert finding.evidence["figures"]["firings_replayed"] == 2


def test_the_record_is_compared_label_set_by_label_set() -> None:
    values: Values = {"a": busy((10, 20)), "b": busy((40, 45))}
    (finding,), story = look(Fake(values, [rule()], {"a": list(range(10, 20)), "b": list(range(40, 45))}))
    assert (story.agrees, finding.severity) == (True, "warning")
    (finding,), story = look(Fake(values, [rule()], {"a": list(range(10, 20)), "b": [3, 4]}))
    assert (story.agrees, story.only_replayed, story.only_recorded) == (False, [5 * MINUTE], [2 * MINUTE])
    assert "1 firing(s) are in the replay alone and 1 firing(s) are in the record alone" in finding.summary


def test_an_alert_that_fires_as_the_window_begins_is_counted_though_it_waited_before() -> None:
    values: Values = {"a": busy((0, 40))}
    _findings, story = look(Fake(values, [rule(hold=10 * MINUTE)]), window=30 * MINUTE)
    assert story.today is not None
    # The window begins in minute 30.
    assert story.today.lengths == [10 * MINUTE]


@pytest.mark.parametrize("labels", [{"team": "x", "s": "{{ $labels.s }}"}, {"team": "x", "other": "{{ $value }}"}])
def test_a_label_that_a_rule_fills_in_does_not_hide_that_the_two_agree(labels: dict[str, str]) -> None:
    server = Fake({"a": busy((10, 20)), "b": busy()}, [rule(labels=labels)], {"a": list(range(10, 20))})
    _findings, story = look(server)
    assert story.agrees is True


@given(
    st.lists(st.sampled_from([None, 0.0, 5.0, 11.0, 20.0]), min_size=61, max_size=61),
    st.integers(1, 70),
    st.sampled_from(["x > 10", "x < 5", "x >= 11", "x == 20", "20 <= x"]),
)
def test_the_replay_does_not_depend_on_how_the_window_is_cut(
    values: list[float | None], steps: int, query: str
) -> None:
    def replayed() -> t.Any:
        server = Fake({"a": values, "b": busy()}, [rule(query, hold=MINUTE, keep=MINUTE)], {"a": [5, 6, 7, 30]})
        return look(server, proposals={"A": [7.0, 15.0]})[1].row()

    whole = replayed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "MOST_STEPS", steps)
        patch.setattr(thresholds, "LEAST_STEPS", 1)
        assert replayed() == whole


def test_the_server_is_asked_only_for_what_is_beyond_the_loosest_threshold() -> None:
    server = Fake({"a": busy((10, 20))}, [rule()])
    look(server, proposals={"A": [15.0, 8.0]})
    assert "(x) > 8.0" in server.asked
    server = Fake({"a": busy((10, 11))}, [rule()])
    _findings, story = look(server, proposals={"A": [15.0]}, window=30 * MINUTE)
    # Where all thresholds are beyond P99 what lies between is asked for too, for the maximum.
    assert any(expression == f"(x) > {story.quantile('p99')!r}" for expression in server.asked)


def test_a_maximum_between_two_samples_is_found() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "SAMPLED", 10)
        _findings, story = look(Fake({"a": busy((31, 32), high=9.0)}, [rule()]))
    assert story.sample_step > MINUTE
    assert story.quantile("max") == 9.0


def test_more_values_than_allowed_are_not_replayed_and_that_is_said() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "VALUES", 5)
        (finding,), story = look(Fake({"a": busy((57, 61))}, [rule()]), proposals={"A": [0.5]})
    assert (story.today, finding.severity) == (None, "unknown")
    assert "Not replayed: more than 5 values are beyond 0.5." in finding.summary


def test_where_very_many_values_are_beyond_fewer_evaluations_are_replayed() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "VALUES", 20)
        (finding,), story = look(Fake({"a": busy((0, 61))}, [rule()]))
    assert story.today is not None
    assert story.today.lengths == [story.replayed_seconds + MINUTE]
    assert story.replayed_seconds < 20 * MINUTE
    assert "Replayed are the last 16 evaluations, 16 min." in finding.summary


def test_a_window_with_too_many_evaluations_is_cut_and_that_is_said() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "EVALUATIONS", 20)
        (finding,), story = look(Fake({"a": busy((10, 15), (50, 55))}, [rule()]))
    assert story.today is not None
    assert (len(story.today.lengths), story.replayed_seconds) == (1, 20 * MINUTE)
    assert "Replayed are the last 20 evaluations, 20 min." in finding.summary


@pytest.mark.parametrize(
    "trouble", [Unauthorised("POST x", "HTTP 401", 401), Unreachable("POST x", "no whole answer within 10 s")]
)
def test_what_the_server_does_not_answer_is_unknown(trouble: HttpError) -> None:
    server = Fake({"a": busy()}, [rule()])
    server.trouble = trouble
    (finding,), story = look(server)
    assert (finding.severity, story.verdict) == ("unknown", "unknown")
    assert finding.evidence["came_back"] == trouble.came_back


def test_an_expression_that_is_not_understood_is_unknown_and_asks_nothing() -> None:
    server = Fake({"a": busy()}, [rule("smooth(x) > 10")])
    (finding,), story = look(server)
    assert (finding.severity, story.verdict, server.asked) == ("unknown", "unknown", [])
    assert "'smooth' is no function that is known at character 1" in finding.summary


def test_what_is_inside_normal_is_a_warning_only_where_it_fires() -> None:
    values: Values = {"a": busy(*((minute, minute + 1) for minute in range(0, 60, 4)))}
    (finding,), _story = look(Fake(values, [rule()]))
    assert finding.severity == "warning"
    (finding,), _story = look(Fake(values, [rule(hold=5 * MINUTE)]))
    assert finding.severity == "info"


def test_nothing_but_nan_is_no_value() -> None:
    (finding,), _story = look(Fake({"a": [math.nan] * 61}, [rule()]))
    assert finding.severity == "unknown"


@given(
    st.floats(-1e9, 1e9),
    st.floats(1e-6, 1e9),
    st.sampled_from([1, -1]),
    st.floats(0.1, 2),
    st.sampled_from([1e-3, 1e3]),
)
def test_a_computed_threshold_lies_beyond_the_tail(
    normal: float, spread: float, direction: int, margin: float, scale: float
) -> None:
    tail = normal + direction * spread * scale
    found = proposal(normal, tail, direction, margin)
    assert found is None or direction * (found - tail) >= 0
    assert (found is None) == (tail == normal)


def test_a_computed_threshold_is_round() -> None:
    assert proposal(1.0, 8.04, 1, 0.5) == 12
    assert proposal(0.64, 0.52, -1, 0.5) == 0.46
    assert proposal(1_700_000_000.0, 1_700_000_100.0, 1, 0.5) == 1_700_000_150
    assert proposal(0.0, 0.0, 1, 0.5) is None
    assert proposal(0.0, 1.0, 1, 0.0) is None


def test_the_nearest_names_are_those_that_may_have_been_meant() -> None:
    known = {"HighDrawdown", "HighFillLatency", "LowWinRate"}
    assert nearest("highdrawdwon", known) == ["HighDrawdown"]
    assert nearest("zzz", known) == []
