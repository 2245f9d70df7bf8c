# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import math
import random
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.sketch import (
    LEAST_SCALE,
    MOST_BUCKETS,
    START_SCALE,
    Sketch,
)
from hypothesis import given
from hypothesis import strategies as st

SMALLEST, LARGEST = 5e-324, 1.7976931348623157e308
EXTREMES = (0.0, -0.0, 1.0, -1.0, SMALLEST, -SMALLEST, 3e-320, 2.2e-308, 1e300, -1e300, LARGEST, -LARGEST)

numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(EXTREMES))
measures = st.one_of(st.floats(1e-6, 1e3), numbers)
values = st.lists(measures, max_size=60)


def sketch(of: t.Iterable[float]) -> Sketch:
    made = Sketch()
    made.extend(of)
    return made


def spread(count: int, seed: int, doublings: float = 12) -> list[float]:
    """Values of both signs over so many doublings that a sketch of them must go to a coarser scale."""
    chance = random.Random(seed)
    return [chance.choice((1, -1)) * 2 ** chance.uniform(-doublings, doublings) for _value in range(count)]


def close(found: float, true: float, error: float) -> bool:
    # What rounding to a float adds: its last place, or the smallest one.
    return abs(found - true) <= abs(true) * (error + 1e-14) + SMALLEST


def ranked(q: float, ordered: t.Sequence[float]) -> float:
    return ordered[max(math.ceil(q * len(ordered)), 1) - 1]


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_values_does_not_matter(given_values: list[float], chance: random.Random) -> None:
    shuffled = list(given_values)
    chance.shuffle(shuffled)
    one_by_one = Sketch()
    for value in shuffled:
        one_by_one.add(value)
    assert one_by_one == sketch(given_values)


@given(st.lists(values, max_size=6), st.integers(0, 6))
def test_the_grouping_of_merges_does_not_matter(groups: list[list[float]], split: int) -> None:
    left, right, straight = Sketch(), Sketch(), Sketch()
    for group in groups[:split]:
        left.merge(sketch(group))
    for group in reversed(groups[split:]):
        right.merge(sketch(group))
    for group in groups:
        straight.extend(group)
    right.merge(left)
    assert right == straight


@pytest.mark.parametrize("seed", range(5))
def test_neither_matters_where_the_scale_must_change_on_the_way(seed: int) -> None:
    everything = spread(6000, seed)
    whole = sketch(everything)
    assert LEAST_SCALE < whole.scale < START_SCALE
    assert whole == sketch(reversed(everything)) == sketch(sorted(everything))
    parts = [sketch(everything[start::7]) for start in range(7)]
    random.Random(seed).shuffle(parts)
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0] == whole


def test_a_coarse_sketch_takes_a_fine_one_and_the_other_way_round() -> None:
    wide, narrow = spread(3000, 1), [1.0, 1.01, 1.02, 0.0, -3.0]
    one, other = sketch(wide), sketch(narrow)
    one.merge(sketch(narrow))
    other.merge(sketch(wide))
    assert one == other == sketch(wide + narrow)
    assert sketch(narrow).scale == START_SCALE


@given(values)
def test_counts_are_exact(given_values: list[float]) -> None:
    made = sketch(given_values)
    made.merge(sketch(given_values))
    assert made.count == 2 * len(given_values)
    assert made.zero == 2 * given_values.count(0.0)
    assert sum(made.negative.values()) == 2 * sum(value < 0 for value in given_values)


@given(st.lists(st.tuples(measures, st.integers(1, 5)), max_size=20))
def test_a_value_may_come_with_a_count(rows: list[tuple[float, int]]) -> None:
    made = Sketch()
    for value, count in rows:
        made.add(value, count)
    assert made == sketch(value for value, count in rows for _time in range(count))


def test_a_sketch_may_be_merged_into_itself() -> None:
    everything = spread(2000, 3)
    made = sketch(everything)
    made.merge(made)
    assert made == sketch(everything + everything)


@given(st.lists(measures, min_size=1, max_size=60), st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.99, 1.0])))
def test_a_quantile_is_as_near_as_it_says(given_values: list[float], q: float) -> None:
    made = sketch(given_values)
    assert close(made.quantile(q), ranked(q, sorted(given_values)), made.relative_error)


@pytest.mark.parametrize("doublings", [1, 12, 1000])
def test_it_is_so_at_coarser_scales_too(doublings: float) -> None:
    everything = [*spread(4000, 7, doublings), *EXTREMES]
    made, ordered = sketch(everything), sorted(everything)
    for step in range(201):
        assert close(made.quantile(step / 200), ranked(step / 200, ordered), made.relative_error)
    assert len(made.positive) + len(made.negative) <= MOST_BUCKETS


@given(measures)
def test_every_value_is_near_what_stands_for_it_at_any_scale(value: float) -> None:
    fine = sketch([value]).as_json()
    for scale in range(LEAST_SCALE, START_SCALE + 1):
        rows = {
            sign: [[index >> (START_SCALE - scale), count] for index, count in fine[sign]]
            for sign in ("positive", "negative")
        }
        made = Sketch.from_json({**fine, **rows, "scale": scale})
        assert made.scale == scale
        assert close(made.quantile(0.5), value, made.relative_error)


def test_the_least_and_the_largest_are_the_ends() -> None:
    made = sketch([-8.0, 0.0, 4.0])
    assert close(made.quantile(0), -8, made.relative_error)
    assert made.quantile(0.5) == 0
    assert close(made.quantile(1), 4, made.relative_error)


def test_a_quantile_of_more_values_than_a_float_counts() -> None:
    made = Sketch()
    made.add(1.0, 10**400)
    made.add(2.0)
    assert made.count == 10**400 + 1
    assert close(made.quantile(0.999), 1, made.relative_error)
    assert close(made.quantile(1), 2, made.relative_error)


def test_its_error_is_that_of_its_base() -> None:
    base = 2 ** (1 / 128)
    assert math.isclose(Sketch().relative_error, (base - 1) / (base + 1), rel_tol=1e-12)
    assert Sketch().relative_error < 0.003


def test_a_bucket_ends_with_its_upper_bound() -> None:
    # At scale 7 a doubling has 128 buckets, and index -1 ends at 1.
    assert sketch([1.0]).positive == {-1: 1}
    assert sketch([2.0]).positive == {127: 1}
    assert sketch([1.0 + 2**-52]).positive == {0: 1}
    assert sketch([-1.0]).negative == {-1: 1}


@given(st.integers(0, 127), st.integers(-1000, 1000), st.sampled_from([-1, 0, 1]))
def test_a_value_beside_a_bound_is_on_its_own_side(step: int, exponent: int, beside: int) -> None:
    bound = 2 ** (step + 52 * 128)
    for _halving in range(7):
        bound = math.isqrt(bound)
    value = bound + beside
    # Where it is between the powers of 2^(1/128), in whole numbers.
    index = next(index for index in range(-1, 128) if value**128 <= 2 ** (52 * 128 + index + 1))
    assert sketch([math.ldexp(value, exponent - 52)]).positive == {exponent * 128 + index: 1}


@given(values)
def test_it_comes_back_from_json(given_values: list[float]) -> None:
    made = sketch(given_values)
    assert Sketch.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_its_json_is_sorted_by_index() -> None:
    assert sketch([4.0, 1.0, 2.0, 1.0, -2.0, -1.0, 0.0]).as_json() == {
        "scale": 7,
        "zero": 1,
        "positive": [[-1, 2], [127, 1], [255, 1]],
        "negative": [[-1, 1], [127, 1]],
    }


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, 10**400, "1", None])
def test_what_is_no_finite_number_is_refused_and_nothing_is_added(value: t.Any) -> None:
    made = Sketch()
    with pytest.raises(ValueError, match="value"):
        made.add(value)
    with pytest.raises(ValueError, match="value"):
        made.extend([1.0, value, 2.0])
    assert made == Sketch()


def test_whole_numbers_are_numbers() -> None:
    assert sketch([3, 0, -7]) == sketch([3.0, 0.0, -7.0])


@pytest.mark.parametrize("count", [0, -1, True, 1.0])
def test_a_count_is_a_whole_number_from_1(count: t.Any) -> None:
    with pytest.raises(ValueError, match="count"):
        Sketch().add(1.0, count)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_from_0_to_1(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        sketch([1.0]).quantile(q)


def test_an_empty_sketch_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="without values"):
        Sketch().quantile(0.5)


GOOD: dict[str, t.Any] = {"scale": 7, "zero": 0, "positive": [[0, 1]], "negative": []}
NO_ROWS: list[t.Any] = [None, {}, "", [1], [[1]], [[1, 1, 1]]]
NO_BUCKETS: list[t.Any] = [[0, 0], [0, -1], [0, True], [True, 1], [0.0, 1], [0, 1.0], ["0", 1], [[0], 1]]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "sketch",
        {},
        {**GOOD, "more": 1},
        *[{key: GOOD[key] for key in GOOD if key != gone} for gone in GOOD],
        *[{**GOOD, "scale": scale} for scale in (8, -11, True, 1.0, "7", None)],
        *[{**GOOD, "zero": zero} for zero in (-1, True, 0.0, None)],
        *[{**GOOD, side: rows} for side in ("positive", "negative") for rows in NO_ROWS],
        *[{**GOOD, "negative": [row]} for row in NO_BUCKETS],
        {**GOOD, "positive": [[0, 1], [0, 1]]},
        {**GOOD, "positive": [[1024 * 128, 1]]},
        {**GOOD, "positive": [[-1074 * 128 - 2, 1]]},
        {**GOOD, "scale": 0, "positive": [[1024, 1]]},
        {**GOOD, "scale": -10, "positive": [[1, 1]]},
        {**GOOD, "scale": -10, "positive": [[-3, 1]]},
    ],
)
def test_what_is_no_sketch_is_refused(value: t.Any) -> None:
    with pytest.raises(ValueError, match="sketch"):
        Sketch.from_json(value)


def test_a_sketch_of_more_buckets_goes_to_the_scale_that_ours_has() -> None:
    indexes = range(MOST_BUCKETS + 10)
    made = Sketch.from_json({**GOOD, "positive": [[index, 1] for index in indexes]})
    assert made == sketch(2 ** ((index + 0.5) / 128) for index in indexes)
    assert made.scale == START_SCALE - 1


def test_a_sketch_equals_nothing_else() -> None:
    assert Sketch() != {"scale": 7}
    assert sketch([1.0]) != sketch([2.0])
    assert sketch([1.0]) != sketch([1.0, 1.0])
