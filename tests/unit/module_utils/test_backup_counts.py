# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._backup.counts import (
    MOST_INSTANTS,
    Counts,
    difference,
    instants,
)
from hypothesis import given
from hypothesis import strategies as st

Block = t.Dict[str, int]


def block(low: int, high: int) -> Block:
    return {"min_time": low, "max_time": high}


ranges = st.lists(
    st.tuples(st.integers(0, 10**13), st.integers(1, 10**9)).map(lambda pair: block(pair[0], pair[0] + pair[1])),
    max_size=80,
)
tables: st.SearchStrategy[Counts] = st.dictionaries(
    st.integers(0, 50).map(str), st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)), max_size=4
)


def test_without_blocks_there_is_no_time_to_count_at() -> None:
    assert instants([]) == []


def test_of_a_few_blocks_the_middle_and_the_last_millisecond_count() -> None:
    assert instants([block(2000, 3000), block(0, 1000)]) == [500, 999, 2500, 2999]


@given(ranges)
def test_every_instant_lies_in_a_block_and_the_newest_sample_is_among_them(blocks: list[Block]) -> None:
    found = instants(blocks)
    assert len(found) <= MOST_INSTANTS + 1
    assert found == sorted(set(found))
    assert all(any(one["min_time"] <= time < one["max_time"] for one in blocks) for time in found)
    if blocks:
        assert found[-1] == max(one["max_time"] for one in blocks) - 1


def test_the_instants_spread_over_the_whole_range() -> None:
    found = instants([block(1000 * number, 1000 * (number + 1)) for number in range(1000)])
    steps = [after - before for before, after in zip(found, found[1:])]
    assert found[0] < 1000
    assert max(steps) <= 2 * 1_000_000 / MOST_INSTANTS


@given(tables)
def test_equal_counts_have_no_difference(table: Counts) -> None:
    assert difference(table, {time: dict(row) for time, row in table.items()}) == ""


@given(tables, tables)
def test_counts_that_differ_are_never_called_equal(one: Counts, other: Counts) -> None:
    without_empty = [{time: row for time, row in table.items() if row} for table in (one, other)]
    assert (difference(one, other) == "") == (without_empty[0] == without_empty[1])


def test_a_difference_names_the_earliest_metric_its_time_and_how_many_there_are() -> None:
    expected = {"9": {"up": 2}, "10": {"up": 2, "lag": 1}}
    assert difference(expected, {"9": {"up": 2}, "10": {"up": 1}}) == (
        "2 counts differ, such as lag at 10 ms: 1 series then, 0 now"
    )
    assert difference(expected, {**expected, "9": {"up": 3}}) == (
        "1 counts differ, such as up at 9 ms: 2 series then, 3 now"
    )


def test_a_metric_that_was_not_there_before_is_a_difference_too() -> None:
    assert "new at 5 ms: 0 series then, 1 now" in difference({"5": {}}, {"5": {"new": 1}})
