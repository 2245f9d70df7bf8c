# SPDX-License-Identifier: GPL-3.0-or-later
"""What an expression reads and compares; that it is read as Prometheus reads it is shown in tests/service."""

from __future__ import annotations

import math

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language import promql
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.promql import (
    Binary,
    NoComparison,
    NotUnderstood,
    Number,
    Selector,
    Unary,
    comparison,
    parse,
    selectors,
)
from hypothesis import given
from hypothesis import strategies as st

COMPARISONS = [
    ("up > 5", ("up", ">", 5)),
    ("5 < up", ("up", ">", 5)),
    ("0.4 >= a / b", ("a / b", "<=", 0.4)),
    ("(rate(x[5m]) > (2 * 3) ^ 2)", ("rate(x[5m])", ">", 36)),
    ("time() - x > 8 * 86400", ("time() - x", ">", 691200)),
    ("x < -5000", ("x", "<", -5000)),
    ("x > 5m", ("x", ">", 300)),
    ("x == 0", ("x", "==", 0)),
    ("x # why\n  > # so\n  1e3", ("x", ">", 1000)),
    ("x > 1 < 5", ("x > 1", "<", 5)),
    ("x > 5 and on (i) y == 1", ("(x) and on (i) y == 1", ">", 5)),
    ("x > 5 unless y and z", ("((x) unless y) and z", ">", 5)),
    ("-x > 5", ("-x", ">", 5)),
    ("x > 5 % 3", ("x", ">", 2)),
]


@pytest.mark.parametrize(("text", "found"), COMPARISONS)
def test_a_comparison_with_a_number_is_found(text: str, found: tuple[str, str, float]) -> None:
    ours = comparison(text)
    assert (ours.left, ours.operator, ours.threshold) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("up", "compares nothing"),
        ("absent(up)", "compares nothing"),
        ("a > b", "both its sides vary"),
        ("a > 1 or b > 2", "'or' is at its top"),
        ("a > bool 1", "bool"),
        ("a + 1", "'+' is at its top"),
        ("a and b > 5", "compares nothing"),
        ("a > Inf", "compares with inf"),
        ("a > 1 / 0", "both its sides vary"),
        ("1 > bool 2", "bool"),
    ],
)
def test_what_is_no_such_comparison_says_what_it_is(text: str, reason: str) -> None:
    with pytest.raises(NoComparison) as raised:
        comparison(text)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a b", "sum(", "a{b=}", "rate(a[5m] smoothed)", "a[1h/2]", "nosuch(a)", "a offset 5m[5m]", "a[5m][5m]"),
        *("1e400", "5m3h", "a{b='\\d'}", "a{__name__='b'}", "a + fill(0) b", "a and on (x) group_left b", "a ; b"),
        *("a > bool", "a + bool b", "{}", "a @ 5m", "'\\ud800'", "(" * 200 + "a" + ")" * 200, "+".join(["1"] * 1000)),
    ],
)
def test_what_is_not_understood_says_where(text: str) -> None:
    with pytest.raises(NotUnderstood, match="at character"):
        parse(text)


def test_what_an_expression_reads_is_each_of_its_selectors() -> None:
    text = (
        'sum by (x) (rate(a{b="c", d=~"e|f"}[5m] offset 1h)) / on (x) {__name__="g"} or max_over_time({h!=""}[1h:5m])'
    )
    found = selectors(parse(text))
    assert [(node.metric, node.range, node.offset) for node in found] == [("a", 300, 3600), ("g", 0, 0), ("", 0, 0)]
    assert [(m.label, m.operator, m.value) for m in found[0].matchers] == [
        ("b", "=", "c"),
        ("d", "=~", "e|f"),
        ("__name__", "=", "a"),
    ]
    assert [text[slice(*node.span)] for node in found[1:]] == ['{__name__="g"}', '{h!=""}']


def test_operators_bind_as_in_promql() -> None:
    product = parse("-a ^ b * c")
    assert isinstance(product, Binary)
    assert (product.operator, product.left) == ("*", parse("-a ^ b"))
    assert isinstance(product.left, Unary)
    top = parse("a or b and c > d + e * f ^ g")
    assert isinstance(top, Binary)
    signs = []
    while isinstance(top, Binary):
        signs.append(top.operator)
        top = top.right
    assert signs == ["or", "and", ">", "+", "*", "^"]
    power = parse("2 ^ 3 ^ 2")
    assert isinstance(power, Binary)
    assert isinstance(power.left, Number)
    assert promql.constant(power) == 512


def test_numbers_are_those_of_go() -> None:
    for text, value in (("0755", 493), ("08", 8), ("0x1F", 31), ("1_000", 1000), ("1h30m", 5400), ("-.5", -0.5)):
        assert promql.constant(parse(text)) == value
    assert math.isnan(promql.constant(parse("NaN")) or 0)
    # Digits of other alphabets are none.
    with pytest.raises(NotUnderstood):
        parse("\u0661")


def read_or_not(text: str) -> None:
    try:
        node = parse(text)
    except NotUnderstood:
        return
    start, end = node.span
    assert 0 <= start < end <= len(text)


@given(st.text())
def test_any_text_is_read_or_not_understood(text: str) -> None:
    read_or_not(text)


SIGNS = [*"()[]{},+-*/^<>=!~\"'`#@:.", " ", "5m", "1", "a", "sum", "by", "and", "offset"]


@given(st.lists(st.sampled_from(SIGNS), max_size=20))
def test_any_order_of_signs_is_read_or_not_understood(signs: list[str]) -> None:
    read_or_not("".join(signs))


def test_a_tree_is_the_same_wherever_it_stands() -> None:
    assert parse("sum(a)  >  5") == parse("sum(a)>5")
    selector = parse("a")
    assert isinstance(selector, Selector)
    assert selector == parse("  a  ")
