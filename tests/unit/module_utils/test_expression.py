# SPDX-License-Identifier: GPL-3.0-or-later
"""What an expression needs: told where it can be told, and unsure everywhere else."""

from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.expression import Needs, needs
from hypothesis import given
from hypothesis import strategies as st

EVERY = [
    ("up == 0", {"up"}),
    ("njord:fills:rate1m > 3", {"njord:fills:rate1m"}),
    ('a{b="x} or y", c=~"z{2}"}[5m:30s] offset -1h > 0x1F', {"a"}),
    ("sum by (job, le) (rate(x_bucket[5m])) / on (job) group_left (version) y", {"x_bucket", "y"}),
    ("sum(x) by (job) > 1e3 # and z", {"x"}),
    ("COUNT WITHOUT (instance) (x) AND y", {"x", "y"}),
    ("histogram_quantile(0.95, sum by (le) (rate(h_bucket[2m]))) > 1", {"h_bucket"}),
    ("time() - x @ end() > 5m", {"x"}),
    ("-x > bool Inf", {"x"}),
    ('label_replace(up, "a", "$1", "job", "(.*)") == 1', {"up"}),
    ("1 > 2", set()),
    ("rate(x[5m]) > 1_000", {"x"}),
    ('{"a.b"} > 1', {"a.b"}),
    ("hour(x) > 5", {"x"}),
]


@pytest.mark.parametrize(("expression", "metrics"), EVERY)
def test_every_metric_of_a_plain_expression_is_needed(expression: str, metrics: set[str]) -> None:
    assert needs(expression) == Needs(frozenset(metrics), every=True)


@pytest.mark.parametrize("expression", ["a or b", "a unless b offset 5m", "(a > 1) or on () (b < 1)"])
def test_with_a_choice_the_expression_is_empty_only_without_both(expression: str) -> None:
    found = needs(expression)
    assert found is not None
    assert found.empty({"a"}) == found.empty({"b"}) == frozenset()
    assert found.empty({"c"}) == {"a", "b"}


@pytest.mark.parametrize(
    "expression",
    [
        'absent(up{job="x"})',
        "x > scalar(y)",
        "x or vector(0)",
        '{__name__=~"a.*"} > 1',
        "x or hour() > 5",
        "rate(x[5m] smoothed)",
        "x y",
        "sum by (job",
        "a{b=",
        "x ; y",
    ],
)
def test_what_cannot_be_told_is_not_told(expression: str) -> None:
    assert needs(expression) is None


@given(st.text())
def test_any_text_ends_in_an_answer(expression: str) -> None:
    found = needs(expression)
    assert found is None or not found.empty(found.metrics)
