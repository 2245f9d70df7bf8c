# SPDX-License-Identifier: GPL-3.0-or-later
"""An alert's states, against a table and against the loop that Prometheus runs."""

from __future__ import annotations

import math

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import replay
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert.replay import Waits
from hypothesis import given
from hypothesis import strategies as st

# What the expression gives at each evaluation (x: the series is chosen), for, keep_firing_for, when it fires.
TABLE = [
    ("....", 0, 0, "...."),
    ("x..x", 0, 0, "x..x"),
    ("xxxx", 2, 0, "..xx"),
    ("xx.xxxx", 2, 0, ".....xx"),
    ("xxx.xx", 2, 0, "..x..."),
    ("xx.xx.xx", 2, 0, "........"),
    ("x....", 0, 2, "xxx.."),
    ("x..x...", 0, 2, "xxxxxx."),
    ("x.x.x...", 0, 1, "xxxxxx.."),
    ("x..x..x", 0, 1, "xx.xx.x"),
    # Once it fires, keep_firing_for carries it over a gap, and for does not begin anew.
    ("xxx.xx...", 2, 2, "..xxxxxx."),
    # A true evaluation just before keep_firing_for is over keeps it, and for does not begin anew.
    ("xxx.xx..", 2, 1, "..xxxxx."),
    ("xxx..xx.", 2, 1, "..xx...."),
    # What is only pending is not kept.
    ("xx.x....", 2, 5, "........"),
    ("x", 0, 9, "x"),
    ("x", 1, 0, "."),
]


def seen(text: str) -> list[int]:
    return [at for at, letter in enumerate(text) if letter == "x"]


@pytest.mark.parametrize(("true", "hold", "keep", "fires"), TABLE)
def test_an_alert_fires_as_the_table_says(true: str, hold: int, keep: int, fires: str) -> None:
    spans = replay.firings(seen(true), Waits(hold, keep), len(true))
    assert [at for first, last in spans for at in range(first, last)] == seen(fires)


def as_prometheus(true: list[bool], interval: int, hold: int, keep: int) -> list[bool]:
    """``AlertingRule.Eval`` of Prometheus for one series, in milliseconds."""
    fires: list[bool] = []
    state, active_at, keep_since = "inactive", 0, 0
    for number, chosen in enumerate(true):
        now = (number + 1) * interval
        keeps = False
        if chosen:
            if state == "inactive":
                state, active_at = "pending", now
            keep_since = 0
        else:
            if state == "firing" and keep > 0:
                keep_since = keep_since or now
                keeps = now - keep_since < keep
            if not keeps:
                state = "inactive"
        if state == "pending" and now - active_at >= hold:
            state = "firing"
        fires.append(state == "firing")
    return fires


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(500, 2000),
    st.integers(0, 6000),
    st.integers(0, 6000),
)
def test_an_alert_fires_as_the_loop_of_prometheus_has_it(true: list[bool], interval: int, hold: int, keep: int) -> None:
    waits = Waits.of(hold / 1000, keep / 1000, interval / 1000)
    spans = replay.firings([at for at, chosen in enumerate(true) if chosen], waits, len(true))
    ours = [any(first <= at < last for first, last in spans) for at in range(len(true))]
    assert ours == as_prometheus(true, interval, hold, keep)
    assert all(first < last for first, last in spans)
    assert all(before[1] < after[0] for before, after in zip(spans, spans[1:]))


@given(st.lists(st.integers(0, 50), unique=True).map(sorted), st.lists(st.integers(0, 50), unique=True).map(sorted))
def test_a_stricter_threshold_never_fires_where_the_looser_does_not(some: list[int], more: list[int]) -> None:
    waits = Waits(3, 2)
    looser = replay.firings(sorted({*some, *more}), waits, 51)
    for first, last in replay.firings(some, waits, 51):
        assert any(a <= first and last <= b for a, b in looser)


def test_spans_that_miss_each_other_by_one_evaluation_meet_with_a_slack_of_one() -> None:
    assert replay.unmatched([(5, 9)], [(0, 5), (9, 12)]) == [(5, 9)]
    assert replay.unmatched([(5, 9)], [(0, 5)], slack=1) == []
    assert replay.unmatched([(5, 9)], [(0, 4)], slack=1) == [(5, 9)]


def test_what_lies_before_the_window_is_cut_off() -> None:
    assert replay.clipped([(0, 3), (2, 5), (6, 8)], 3) == [(3, 5), (6, 8)]


def test_quantiles_are_those_of_prometheus() -> None:
    assert replay.quantile(0.5, [1.0, 2.0, 3.0, 10.0]) == 2.5
    assert replay.quantile(0.99, [0.0, 100.0]) == pytest.approx(99)
    assert replay.quantile(1, [1.0, 2.0]) == 2.0
    assert replay.quantile(0.5, [math.inf, math.inf]) == math.inf
