# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rule is proposed for a query, under which name; the proof by real servers is in tests/service."""

from __future__ import annotations

import dataclasses
import json
import math
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.recording_rule import (
    NoRule,
    propose,
    prove,
    renamed,
)
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server, Unreachable
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus, Sample

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("query", "labels", "record"),
    [
        ("sum by (strategy_id) (rate(njord_fills_total[5m]))", ["strategy_id"], "strategy_id:njord_fills:rate5m"),
        ("sum by (a, b) (njord_open_orders)", ["a", "b"], "a_b:njord_open_orders:sum"),
        ("sum(rate(x_total[90s]))", [], "all:x:rate90s"),
        ("max without (instance) (increase(x_total[1h]))", ["job"], "job:x:max_increase1h"),
        ("avg_over_time(x[1d])", ["job", "instance"], "job_instance:x:avg_over_time1d"),
        ("rate(x_total[5m])", list("abcdef"), "series:x:rate5m"),
        (
            "histogram_quantile(0.99, sum by (le, venue) (rate(njord_fill_seconds_bucket[5m])))",
            ["venue"],
            "venue:njord_fill_seconds:p99_rate5m",
        ),
        ("quantile by (job) (0.999, x)", ["job"], "job:x:p99_9"),
        (
            "sum by (job) (rate(errors_total[5m])) / sum by (job) (rate(requests_total[5m]))",
            ["job"],
            "job:errors:ratio",
        ),
        ("1 - avg by (host) (rate(idle_seconds_total[5m]))", ["host"], "host:idle_seconds:avg_rate5m"),
        ("sum by (job) (job_instance:x:rate5m)", ["job"], "job:x:sum"),
        ('sum({__name__=~"a|b"})', [], "all:series:sum"),
        ("max_over_time((sum(x))[1h:5m])", [], "all:x:max_over_time1h"),
    ],
)
def test_a_rule_is_named_by_level_metric_and_operations(query: str, labels: list[str], record: str) -> None:
    proposal = propose(query, labels, 60)
    assert proposal.record == record
    assert proposal.expression == query
    assert proposal.replacement == record


@pytest.mark.parametrize(
    ("query", "expression", "replacement"),
    [
        ("sum(rate(x_total[5m])) > 0.5", "sum(rate(x_total[5m]))", "all:x:rate5m > 0.5"),
        ("5 < sum(x)", "sum(x)", "5 < all:x:sum"),
        ("(sum(x) >= 2)", "sum(x)", "all:x:sum >= 2"),
        ("topk(5, sum by (a) (x))", "sum by (a) (x)", "topk(5, a:x:sum)"),
        ("topk by (b) (5, sum by (a, b) (x)) > 3", "sum by (a, b) (x)", "topk by (b) (5, a_b:x:sum) > 3"),
        ("sort_desc(sum by (a) (x))", "sum by (a) (x)", "sort_desc(a:x:sum)"),
    ],
)
def test_what_only_chooses_stays_with_the_query(query: str, expression: str, replacement: str) -> None:
    proposal = propose(query, [], 60)
    assert (proposal.expression, proposal.replacement) == (expression, replacement)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("up", "as they are stored"),
        ('{__name__=~"njord_.*", job="a"}', "as they are stored"),
        ("topk(5, up)", "as they are stored"),
        ("up == 0", "as they are stored"),
        ("sum(x @ 1700000000)", "fixed time"),
        ("sum(rate(x[5m] @ end()))", "fixed time"),
        ("1 + 1", "reads no series"),
        ("time()", "reads no series"),
        ("sum(", "not understood"),
    ],
)
def test_where_no_rule_makes_sense_it_says_why(query: str, reason: str) -> None:
    with pytest.raises(NoRule, match=reason):
        propose(query, [], 60)


def test_the_text_is_a_file_of_rules_whatever_the_query_holds() -> None:
    query = 'sum by (a) (rate(x{b=~"\\\\d: #\'{}", c!=`"é`}[5m]))'
    *head, record, expression = propose(query, ["a"], 30).text.splitlines()
    assert head == ["groups:", "  - name: njord_query_log", "    interval: 30s", "    rules:"]
    assert record == '      - record: "a:x:rate5m"'
    # What JSON quotes is the same string in YAML.
    assert json.loads(expression[len("        expr: ") :]) == query


def test_a_name_that_is_taken_gets_a_number_where_it_is_asked_too() -> None:
    proposal = renamed(propose("topk(5, sum by (a) (x))", ["a"], 60), "a:x:sum_2")
    assert (proposal.record, proposal.replacement) == ("a:x:sum_2", "topk(5, a:x:sum_2)")


# The comparison


class Fake(Prometheus):
    """Answers each expression with what the test says."""

    def __init__(self, answers: dict[str, t.Any]) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self.answers = answers

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        found = self.answers[expression]
        if isinstance(found, Exception):
            raise found
        return [Sample(labels, value, time or 0) for labels, value in found]


A, B = {"a": "1"}, {"a": "2"}


@pytest.mark.parametrize(
    ("query", "asked", "recorded", "state"),
    [
        ("sum by (a) (x)", [(A, 1.0), (B, 2.0)], [(B, 2.0), (A, 1.0)], "proven"),
        ("sum by (a) (x)", [(A, math.nan)], [(A, math.nan)], "proven"),
        ("sum by (a) (x)", [(A, 0.1 + 0.2)], [(A, 0.3)], "proven"),
        ("sum by (a) (x)", [(A, 1.0)], [(A, 1.0000001)], "differs"),
        ("sum by (a) (x)", [(A, 1.0)], [(A, 1.0), (B, 1.0)], "differs"),
        ("sum by (a) (x)", [(A, 1.0), (B, 1.0)], [(A, 1.0)], "differs"),
        ("sum by (a) (x)", [], [], "unknown"),
        ("sum by (a) (x) > 1", [(B, 2.0)], [(A, 1.0), (B, 2.0)], "proven"),
        ("sum by (a) (x) > 1", [(B, 2.0)], [(A, 1.5), (B, 2.0)], "differs"),
        ("topk(1, sum by (a) (x))", [(B, 2.0)], [(A, 1.5), (B, 2.0)], "proven"),
        ("topk(1, sum by (a) (x))", [(B, 2.5)], [(A, 1.5), (B, 2.0)], "differs"),
        ("last_over_time(x[5m])", [({"__name__": "y", **A}, 1.0), (A, 1.0)], [(A, 1.0)], "differs"),
        ("sum by (a) (x)", Unreachable("POST /api/v1/query", "refused"), [(A, 1.0)], "unknown"),
    ],
)
def test_the_rule_is_held_against_the_query(query: str, asked: t.Any, recorded: t.Any, state: str) -> None:
    proposal = propose(query, ["a"], 60)
    # Under another name, so that the fake can tell them apart.
    proposal = dataclasses.replace(proposal, expression="recorded")
    assert prove(Fake({query: asked, "recorded": recorded}), proposal, "", NOW).state == state


def test_a_promtool_that_cannot_be_started_leaves_it_unknown() -> None:
    proof = prove(Fake({}), propose("sum(x)", [], 60), "/nowhere/promtool", NOW)
    assert proof.state == "unknown"
    assert "cannot be started" in proof.how
