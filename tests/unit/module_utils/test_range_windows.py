# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of rules and the samples they hold; operators whose sides meet by the label job."""

from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration.range_windows import (
    accepts,
    joins,
    windows,
)
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.promql import Matcher, parse
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Rule


def rule(query: str) -> Rule:
    return Rule("Name", "alerting", query, "g", "/f", "ok", "", 0, 0, "", {}, {}, 15, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("rate(a_total[1m]) > 5", [("a_total[1m]", "rate", 60, 0)]),
        ("rate((a_total[1m])) > b", [("a_total[1m]", "rate", 60, 0)]),
        (
            "max_over_time(rate(a_total[1m])[10m:30s])",
            [("rate(a_total[1m])[10m:30s]", "max_over_time", 600, 30), ("a_total[1m]", "rate", 60, 0)],
        ),
        ("max_over_time(a[10m:])", [("a[10m:]", "max_over_time", 600, 0)]),
        (
            'sum by (le) (increase(a_bucket{x="[9s]"}[5m] offset 1h))',
            [('a_bucket{x="[9s]"}[5m] offset 1h', "increase", 300, 0)],
        ),
        ("a > 5", []),
    ],
)
def test_every_range_is_found_with_the_function_that_reads_it(
    query: str, found: list[tuple[str, str, int, int]]
) -> None:
    seen = windows(rule(query), parse(query))
    assert [(one.text, one.function, one.seconds, one.step) for one in seen] == found


@pytest.mark.parametrize(
    ("query", "interval", "short", "empty"),
    [
        ("rate(a[1m])", 15, False, False),
        ("rate(a[1m])", 15.1, True, False),
        ("rate(a[1m])", 30, True, False),
        ("rate(a[1m])", 31, True, True),
        ("max_over_time(a[1m])", 60, True, False),
        ("max_over_time(a[1m])", 61, True, True),
        ("rate(a[400ms])", 0.1, False, False),
    ],
)
def test_four_samples_are_enough_and_too_few_for_the_function_are_no_value(
    query: str, interval: float, short: bool, empty: bool
) -> None:
    (window,) = windows(rule(query), parse(query))
    assert (window.is_short(interval), window.has_no_value(interval)) == (short, empty)


@pytest.mark.parametrize(
    ("query", "sides"),
    [
        ("a > b", [("a", "b")]),
        ("a / on (job, instance) b", [("a", "b")]),
        ("a and on (job) b", [("a", "b")]),
        ("rate(a[5m]) / ignoring (x) b", [("a", "b")]),
        ("sum by (job) (a) / sum by (job) (b)", [("a", "b")]),
        ("sum without (x) (a) / b", [("a", "b")]),
        ("(a and c) / b", [("a", "b"), ("a", "c")]),
        # By these labels they do not meet.
        ("a / on (instance) b", []),
        ("a / ignoring (job) b", []),
        ("a unless ignoring (job) b", []),
        # One side has no job, or none at all.
        ("sum by (x) (a) / sum by (x) (b)", []),
        ("a > sum without (job) (b)", []),
        ("a > 5", []),
        ("a > scalar(b)", []),
        ('label_replace(a, "job", "x", "", "") / b', []),
        ("time() - a", []),
        # Nothing has to meet.
        ("a or b", []),
    ],
)
def test_the_two_sides_are_named_where_they_have_to_agree_in_the_job(query: str, sides: list[tuple[str, str]]) -> None:
    found = joins(rule(query), parse(query))
    named = [("+".join(one.metric for one in join.left), "+".join(one.metric for one in join.right)) for join in found]
    assert sorted(named) == sorted(sides)


@pytest.mark.parametrize(
    ("operator", "value", "fits"),
    [
        ("=", "fast", True),
        ("!=", "fast", False),
        ("=~", "fa.*|x", True),
        ("=~", "fas", False),
        ("!~", "slow", True),
        # What this reader cannot tell may be read.
        ("=~", "(", True),
    ],
)
def test_a_selector_reads_the_jobs_that_its_matchers_fit(operator: str, value: str, fits: bool) -> None:
    matchers = [Matcher("job", operator, value), Matcher("venue", "=", "not known")]
    assert accepts(matchers, {"job": "fast", "instance": "a"}) is fits
