# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import relabelled

# As Prometheus writes it in its configuration.
BLOCK = """  metric_relabel_configs:
  - source_labels: [__name__, symbol]
    separator: ;
    regex: njord_orders_total;TEST.*
    target_label: __name__
    replacement: njord_tests_${1}total
    action: replace
  - source_labels: [__name__]
    separator: ;
    regex: go_(.*)
    replacement: $1
    action: drop
"""
DROP, KEEP = "drop", "keep"


def rule(action: str, regex: str = "(.*)", source: str = "__name__", **other: str) -> str:
    rows = {"regex": regex, "action": action, **other}
    return f"  - source_labels: [{source}]\n" + "".join(f"    {name}: '{text}'\n" for name, text in rows.items())


def fate(rules: str, **labels: str) -> relabelled.Fate:
    chain = relabelled.rules("  metric_relabel_configs:\n" + rules)
    return relabelled.fate(chain, {"__name__": "njord_orders_total", **labels})


def test_rules_are_read_as_prometheus_writes_them() -> None:
    first, second = relabelled.rules(BLOCK)
    assert (first.sources, first.target, first.action) == (("__name__", "symbol"), "__name__", "replace")
    assert str(second) == "rule 2, drop by go_(.*) of __name__"


def test_a_series_is_dropped_kept_or_renamed() -> None:
    chain = relabelled.rules(BLOCK)
    dropped = relabelled.fate(chain, {"__name__": "go_goroutines"})
    renamed = relabelled.fate(chain, {"__name__": "njord_orders_total", "symbol": "TESTA"})
    kept = relabelled.fate(chain, {"__name__": "njord_orders_total", "symbol": "ATOM"})
    assert (dropped.rule, dropped.name) == (chain[1], "")
    assert (renamed.rule, renamed.name) == (chain[0], "njord_tests_total")
    assert (kept.rule, kept.name) == (None, "njord_orders_total")


def test_an_expression_fits_a_whole_value() -> None:
    assert fate(rule(DROP, "njord")).name == "njord_orders_total"
    assert fate(rule(DROP, "njord.*")).name == ""


def test_what_is_not_kept_is_dropped() -> None:
    assert fate(rule(KEEP, "node_.*")).name == ""
    assert fate(rule(KEEP, "njord_.*")).name == "njord_orders_total"


def test_a_rule_sees_what_the_one_before_it_wrote() -> None:
    written = rule("replace", "(.*)", "venue", target_label="where", replacement="at $1")
    assert fate(written + rule(DROP, "at kraken", "where"), venue="kraken").name == ""
    assert fate(written + rule(DROP, "at kraken", "where"), venue="binance").name != ""


def test_labels_that_are_equal_drop_or_keep() -> None:
    assert fate(rule("dropequal", source="venue", target_label="job"), venue="a", job="a").name == ""
    assert fate(rule("keepequal", source="venue", target_label="job"), venue="a", job="a").name != ""


def test_a_label_that_is_taken_away_is_not_there_for_the_next_rule() -> None:
    assert fate(rule("labeldrop", "venue") + rule(DROP, "kraken", "venue"), venue="kraken").name != ""


@pytest.mark.parametrize(
    "rules",
    [rule(DROP, r"\p{Greek}"), rule("hashmod", target_label="shard", modulus="4") + rule(KEEP, "1", "shard")],
    ids=["an expression that Python does not read", "a label whose value is not computed here"],
)
def test_what_cannot_be_told_is_not_guessed(rules: str) -> None:
    found = fate(rules)
    assert found.name is None
    assert found.rule


def test_a_label_that_nobody_reads_later_does_not_matter() -> None:
    assert fate(rule("hashmod", target_label="shard", modulus="4")).name == "njord_orders_total"
