# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions on what a query gave; real answers are in tests/service."""

from __future__ import annotations

import math

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query import query
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.query import Times, condition, judge
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Result, Series, plain
from hypothesis import given
from hypothesis import strategies as st


def result(*values: float, histograms: int = 0) -> Result:
    found = [Series({"n": str(number)}, [(0.0, value)]) for number, value in enumerate(values)]
    return Result("vector", found, "", histograms, [], [])


@pytest.mark.parametrize(
    ("text", "values", "met"),
    [
        ("all >= 1", (1, 2), True),
        ("all >= 1", (1, 0), False),
        ("any>1", (1, 2), True),
        ("any > 1", (1, 1), False),
        ("none != 1", (1, 1), True),
        ("none != 1", (1, 2), False),
        ("count == 2", (1, 2), True),
        ("count < 2", (1, 2), False),
        ("count == 0", (), True),
        ("all <= +Inf", (math.inf,), True),
        ("none == 5", (math.nan,), False),
        ("all != 5", (math.nan, 1), False),
        ("any != 5", (math.nan, 1), True),
        ("none > 0", (), False),
    ],
)
def test_a_condition_is_met_or_not(text: str, values: tuple[float, ...], met: bool) -> None:
    assert judge(condition(text), result(*values), False).met is met


def test_native_histograms_are_series_whose_samples_fulfil_nothing() -> None:
    given_result = result(1.0, histograms=1)
    assert judge(condition("count == 2"), given_result, False).met
    assert not judge(condition("all == 1"), given_result, False).met
    assert not judge(condition("none == 2"), given_result, False).met
    assert judge(condition("any == 1"), given_result, False).met


def test_every_moment_of_a_range_is_a_sample() -> None:
    ranged = Result("matrix", [Series({}, [(0.0, 1.0), (1.0, 5.0)])], "", 0, [], [])
    assert not judge(condition("all < 5"), ranged, False).met
    assert judge(condition("count == 1"), ranged, False).met


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(allow_nan=False), st.sampled_from(["<", ">", "=="]))
def test_all_any_and_none_fit_together(values: list[float], limit: float, sign: str) -> None:
    all_, any_, none = (
        judge(query.Condition(which, sign, limit), result(*values), False).met for which in ("all", "any", "none")
    )
    assert any_ is not none
    assert any_ or not all_


@pytest.mark.parametrize("text", ["", "all", "all 1", "most > 1", "all > x", "all => 1", "all > nan", "count = 1"])
def test_what_is_no_condition_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="is no condition; all >= 1"):
        condition(text)


def test_steps_of_a_range_are_chosen_where_none_are_given() -> None:
    assert Times(window=3600.0).steps(10_000.0) == (6400.0, 14.4)
    assert Times(window=10.0).steps(10.0) == (0.0, 1.0)
    assert Times(start=5.0, step=2.0).steps(10.0) == (5.0, 2.0)
    with pytest.raises(ValueError, match="start: it is 5 s later"):
        Times(start=15.0).steps(10.0)
    with pytest.raises(ValueError, match="step: 1 s is too short"):
        Times(window=86400.0, step=1.0).steps(90_000.0)


def test_a_value_that_json_does_not_have_is_written_as_prometheus_writes_it() -> None:
    assert [plain(value) for value in (math.nan, math.inf, -math.inf, 0.5)] == ["NaN", "+Inf", "-Inf", 0.5]


def test_a_series_is_named_as_in_promql() -> None:
    assert query.name({"__name__": "up", "job": "x"}) == 'up{job="x"}'
    assert query.name({"__name__": "up"}) == "up"
    assert query.name({}) == "{}"
    assert len(query.name({"a": "x" * 200})) == 80
