# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as steady growth, and what does not."""

from __future__ import annotations

import math

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.runtime.trend import lives, lowest, trend
from hypothesis import given
from hypothesis import strategies as st

MINUTE = 60


def line(slope: float, count: int = 240, start: float = 100.0, step: float = 10.0) -> list[tuple[float, float]]:
    return [(1000 + n * step, start + slope * n * step) for n in range(count)]


def test_what_grows_all_the_time_is_told_with_its_slope_and_the_time_that_is_left() -> None:
    told = trend(line(0.5), MINUTE)
    assert told
    assert told.is_steady_growth
    assert told.slope == pytest.approx(0.5)
    assert told.until(told.last + 50) == pytest.approx(100)
    assert told.until(0) == 0


def test_what_stays_falls_or_only_warms_up_is_no_growth() -> None:
    warming = [(at, min(100 + (at - 1000), 400)) for at, _value in line(0)]
    for points in (line(0), line(-0.01), warming):
        told = trend(points, MINUTE)
        assert told
        assert not told.is_steady_growth
    falling = trend(line(-0.01), MINUTE)
    assert falling
    assert falling.until(1e9) is None


def test_the_teeth_of_a_saw_are_no_growth_and_do_not_hide_one() -> None:
    def saw(slope: float) -> list[tuple[float, float]]:
        return [(at, value + 80 * (n % 7)) for n, (at, value) in enumerate(line(slope, start=500))]

    still, growing = trend(saw(0), MINUTE), trend(saw(0.5), MINUTE)
    assert still
    assert growing
    assert not still.is_steady_growth
    assert growing.is_steady_growth
    assert growing.slope == pytest.approx(0.5, rel=0.1)


def test_too_few_points_or_too_short_a_time_tell_nothing() -> None:
    assert trend([], MINUTE) is None
    assert trend(line(1, count=5), 0) is None
    assert trend(line(1), 1e6) is None


def test_each_start_of_a_process_begins_a_life_of_its_own() -> None:
    points = line(1, count=30)
    starts = [(at, 900.2 if at < 1100 else 1100.7) for at, _value in points]
    first, second = lives(points, starts)
    assert first == points[:10]
    assert second[0][0] >= 1100
    assert lives(points, []) == [points]
    assert lives([], starts) == []


def test_a_start_that_is_told_with_another_fraction_is_the_same() -> None:
    points = line(1, count=20)
    assert lives(points, [(at, 900.4 + (n % 2) * 0.2) for n, (at, _value) in enumerate(points)]) == [points]


@given(
    st.floats(-5, 5),
    st.lists(st.floats(0, 1000), min_size=30, max_size=120),
    st.floats(1, 1000),
)
def test_a_trend_is_finite_and_turns_round_with_its_points(slope: float, noise: list[float], step: float) -> None:
    points = [(n * step, 5000 + slope * n + value) for n, value in enumerate(noise)]
    told = trend(points, 0)
    assert told
    assert all(map(math.isfinite, (told.slope, told.first, told.last, told.steadiness, told.growth)))
    assert -1 <= told.steadiness <= 1
    raised = trend([(at, value + 100) for at, value in points], 0)
    assert raised
    assert raised.slope == pytest.approx(told.slope, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e6, 1e6)), max_size=200), st.integers(1, 50))
def test_the_lowest_points_are_points_in_order_of_time(points: list[tuple[float, float]], parts: int) -> None:
    points.sort()
    low = lowest(points, parts)
    assert len(low) <= parts
    assert set(low) <= set(points)
    assert [at for at, _value in low] == sorted(at for at, _value in low)
    if points:
        assert min(value for _at, value in low) == min(value for _at, value in points)
