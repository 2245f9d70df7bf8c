# SPDX-License-Identifier: GPL-3.0-or-later
"""Which metrics an expression reads, and which it may read."""

from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.reads import (
    Blanks,
    Reads,
    blank,
    reads,
)
from hypothesis import given
from hypothesis import strategies as st

A, B = blank(0), blank(1)


def names(*found: str) -> Reads:
    return Reads(names=frozenset(found))


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("sum(rate(a_total[5m])) / on (job) group_left b", {"a_total", "b"}),
        ("max_over_time(rate(a[5m])[1h:1m] offset 1d) unless absent(b)", {"a", "b"}),
        ('{"my.metric", job="x"}', {"my.metric"}),
        ('{__name__="a", __name__!="b"}', {"a"}),
        ("count(a) > 3", {"a"}),
        ("label_replace(a, 'x', '$1', 'y', '(.*)')", {"a"}),
        ("info(a)", {"a", "target_info"}),
        ("time() - 5", set()),
    ],
)
def test_names_are_read(expression: str, found: set[str]) -> None:
    assert reads(expression) == names(*found)


def test_a_selector_without_a_plain_name_is_left_to_the_server() -> None:
    found = reads('sum({job="x", __name__=~"njord_.*", __name__!="njord_x"})')
    assert found == Reads(selectors=frozenset(['{__name__!="njord_x", __name__=~"njord_.*", job="x"}']))


def test_labels_alone_make_no_metric_used_but_any_that_match_unknown() -> None:
    assert reads('{job="x"} > 0') == Reads(maybe=frozenset(['{job="x"}']))
    assert reads('{job!="x"}').anything
    assert reads('{__name__!="x"}').anything
    # Of a label that Prometheus 3 alone can have.
    assert reads('{"my.label"="\\u00e4\\n"}') == Reads(maybe=frozenset(['{"my.label"="ä\\n"}']))


@pytest.mark.parametrize(
    "expression",
    [
        'count by (__name__) ({__name__=~".+"})',
        'topk(10, count by (__name__, job) (({__name__!=""})))',
        'count(count without (le) ({__name__="a"}))',
        'group({job="x"})',
    ],
)
def test_an_inventory_reads_nothing(expression: str) -> None:
    assert reads(expression) == Reads()


@pytest.mark.parametrize("expression", ['count(rate({__name__=~"a.*"}[5m]))', 'sum({__name__=~"a.*"})'])
def test_what_reads_values_is_no_inventory(expression: str) -> None:
    assert reads(expression).selectors == {'{__name__=~"a.*"}'}


def test_what_is_not_understood_may_read_each_of_its_words_and_no_other() -> None:
    found = reads('a_function_of_tomorrow(foo{job="x"}, bar)')
    assert {"foo", "bar"} <= found.mentioned
    assert (found.names, found.anything) == (frozenset(), "")


@pytest.mark.parametrize(
    "expression", ['tomorrow({job="x"})', 'tomorrow(a and {job="x"})', 'tomorrow(a{__name__="b"})']
)
def test_what_is_not_understood_and_has_no_name_may_read_anything(expression: str) -> None:
    assert "not understood" in reads(expression).anything


@pytest.mark.parametrize(
    ("expression", "blanks", "found"),
    [
        (f"rate(a[{A}])", [[]], names("a")),
        (f"rate(a[{A}m:{B}] offset {A})", [[], []], names("a")),
        (f"{A}(rate(a[5m])) by (x)", [[]], names("a")),
        (f"{A}_over_time(a[5m])", [[]], names("a")),
        (f"sum by ({A}, job) (a{{x=~'{B}'}})", [[], []], names("a")),
        (f"a{{{A}}} + a{{{A}, b='c'}} + a{{b='c', {A}}}", [[]], names("a")),
        (f"topk({A}, a)", [["5", "10"]], names("a")),
        (f"a {A} b", [["+", "-"]], names("a", "b")),
        (f"njord_{A}_total", [["fills", "orders"]], names("njord_fills_total", "njord_orders_total")),
        (f'{{__name__="{A}"}}', [["a", "b"]], names("a", "b")),
        (f"njord_{A}_total", [[]], Reads(maybe=frozenset(['{__name__=~"njord_.*_total"}']))),
        (f'{{__name__=~"a_{A}|b", job="{B}"}}', [["x"], []], Reads(selectors=frozenset(['{__name__=~"a_(?:x)|b"}']))),
        (f'{{__name__=~"a_{A}|b"}}', [[]], Reads(maybe=frozenset(['{__name__=~"a_.*|b"}']))),
        (f'{{x="{A}", job="j"}}', [[]], Reads(maybe=frozenset(['{job="j"}']))),
    ],
)
def test_a_blank_is_what_its_place_says(expression: str, blanks: Blanks, found: Reads) -> None:
    assert reads(expression, blanks) == found


@pytest.mark.parametrize("expression", [A, f"topk({A}, a)", f'{{x="{A}"}}', f"a {A} b", f"sum({A}) + a"])
def test_a_blank_that_may_be_a_metric_may_be_any(expression: str) -> None:
    assert reads(expression, [[]]).anything


@given(st.text(alphabet='ab{}[]()"=~!,+5m \n', max_size=30))
def test_every_text_gives_an_answer(text: str) -> None:
    found = reads(text)
    assert isinstance(found.anything, str)
