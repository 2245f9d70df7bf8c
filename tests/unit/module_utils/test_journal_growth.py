# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

from ansible_collections.njord.telemetry.plugins.module_utils._journal.format import DAY_NS
from ansible_collections.njord.telemetry.plugins.module_utils._journal.growth import HISTORY_DAYS, MEAN_DAYS, growth
from ansible_collections.njord.telemetry.plugins.module_utils._journal.survey import JournalFile
from hypothesis import given
from hypothesis import strategies as st

TODAY = 20_400
NOW = TODAY * DAY_NS + DAY_NS // 2


def file(first: float, last: float, size: int, source: str = "records") -> JournalFile:
    """:param first: days before today, like ``last``; today began at 0."""
    start, end = (int((TODAY - days) * DAY_NS) for days in (first, last))
    return JournalFile("/j/m_1m.jsonl", "metrics", "", 60, False, None, size, size, start, end, source, end, 1)


def days_of(size: int, *days: int) -> list[JournalFile]:
    return [file(day, day - 0.99, size) for day in days]


def test_the_growth_is_the_mean_of_the_complete_days() -> None:
    seen = growth([*days_of(100, 1, 2), *days_of(400, 3), *days_of(9999, 0)], NOW)
    assert seen.days == 3
    assert math.isclose(seen.bytes_per_day or 0, 200)


def test_a_day_on_which_nothing_came_counts_too() -> None:
    assert math.isclose(growth(days_of(300, 1, 3), NOW).bytes_per_day or 0, 200)


def test_fewer_than_two_complete_days_give_no_growth() -> None:
    assert growth([], NOW).bytes_per_day is None
    assert growth(days_of(100, 0, 1), NOW).bytes_per_day is None


def test_a_first_day_that_began_at_noon_is_no_complete_one() -> None:
    seen = growth([file(1.5, 1.01, 100), *days_of(100, 1)], NOW)
    assert (seen.days, seen.bytes_per_day) == (1, None)


def test_one_file_that_grows_for_ever_is_spread_over_its_days() -> None:
    seen = growth([file(20, -0.5, 2050)], NOW)
    assert seen.days == MEAN_DAYS
    assert math.isclose(seen.bytes_per_day or 0, 100)


def test_what_came_before_the_last_days_does_not_count() -> None:
    assert growth([*days_of(10**9, 20), *days_of(14, *range(1, 15))], NOW).bytes_per_day == 14


def test_nothing_new_is_no_growth_and_not_an_unknown_one() -> None:
    assert growth(days_of(100, 20, 21, 22), NOW).bytes_per_day == 0


def test_the_bytes_are_told_apart_by_the_source_of_their_time() -> None:
    sources = growth([file(1, 1, 10, "modified"), file(2, 2, 5, "name")], NOW).sources
    assert sources == {"records": 0, "name": 5, "modified": 10}


spans = st.tuples(st.floats(0, HISTORY_DAYS), st.floats(0, HISTORY_DAYS), st.integers(0, 10**12))


@given(st.lists(spans, max_size=20))
def test_every_byte_of_the_last_days_comes_on_some_day(rows: list[tuple[float, float, int]]) -> None:
    files = [file(max(one, other), min(one, other), size) for one, other, size in rows]
    seen = growth(files, NOW)
    total = sum(size for _one, _other, size in rows)
    assert math.isclose(sum(size for _day, size in seen.by_day), total, abs_tol=1e-3)
    assert math.isclose(sum(seen.sources.values()), total, abs_tol=1e-3)
    assert all(size >= 0 for _day, size in seen.by_day)
