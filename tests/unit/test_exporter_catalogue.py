# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue holds the metrics of Njord Quant, and guesses well at others."""

from __future__ import annotations

import collections
import itertools

import pytest
from njord_telemetry.catalogue import Catalogue

TYPES = {"G": "gauge", "C": "counter", "H": "histogram"}
# What Njord's source publishes (emitted) or names (catalog, dashboard), with every label seen of it.
NJORD = """
njord_strategy_pnl_usd G catalog strategy_id
njord_strategy_sharpe_ratio G catalog strategy_id
njord_strategy_win_rate G catalog strategy_id
njord_strategy_drawdown_pct G catalog strategy_id
njord_strategy_max_drawdown_pct G dashboard strategy_id
njord_signals_generated_total C emitted strategy_id signal_type
njord_strategy_errors_total C emitted strategy_id error_type
njord_signal_generation_duration_seconds H emitted strategy_id
njord_portfolio_equity_usd G catalog portfolio_id
njord_portfolio_daily_pnl_usd G catalog portfolio_id
njord_position_count G catalog portfolio_id
njord_position_size G emitted strategy_id symbol
njord_open_orders G emitted symbol
njord_intents_received_total C emitted strategy_id
njord_intents_allowed_total C emitted strategy_id
njord_intents_denied_total C emitted reason
njord_risk_check_duration_seconds H emitted strategy_id
njord_killswitch_trips_total C emitted source
njord_killswitch_active G catalog
njord_risk_checks_total C catalog check_type result
njord_risk_limit_utilization G catalog limit_type
njord_orders_placed_total C emitted venue strategy_id symbol side
njord_fills_generated_total C emitted venue strategy_id symbol
njord_order_rejection_rate G catalog
njord_fill_price_deviation_bps H emitted symbol
njord_fill_latency_seconds H dashboard strategy_id
njord_fill_latency_ms H catalog venue
njord_slippage_bps H catalog symbol side
njord_execution_slippage_bps H dashboard algo_type
njord_implementation_shortfall_bps H dashboard
njord_execution_completion_rate G dashboard algo_type
njord_order_size_usd H dashboard strategy_id symbol
njord_event_loop_lag_seconds G catalog
njord_memory_usage_mb G catalog service
njord_active_subscriptions G dashboard
njord_bus_messages_total C dashboard topic direction
njord_bus_messages_sent_total C catalog topic
njord_bus_messages_received_total C catalog topic
njord_journal_writes_total C catalog journal_type
njord_journal_bytes_total C catalog journal_type
njord_market_data_updates_total C catalog symbol data_type
njord_parquet_writes_total C catalog data_type
"""


def test_the_catalogue_holds_the_metrics_of_njord() -> None:
    known = {
        name: (TYPES[letter], source, set(labels))
        for name, letter, source, *labels in map(str.split, NJORD.strip().splitlines())
    }
    held = {name: (entry.type, entry.source, set(entry.labels)) for name, entry in Catalogue.load().entries.items()}
    assert held == known


def test_no_two_metrics_of_the_catalogue_are_served_under_one_name() -> None:
    served = collections.Counter(name for entry in Catalogue.load().entries.values() for name in entry.served_names)
    assert [name for name, count in served.items() if count > 1] == []


def test_every_metric_says_what_it_is_and_a_histogram_has_ascending_buckets() -> None:
    for entry in Catalogue.load().entries.values():
        assert entry.help.endswith("."), entry
        assert entry.pace in ("fast", "slow", "system"), entry
        assert bool(entry.buckets) == (entry.type == "histogram"), entry
        assert all(low < high for low, high in itertools.pairwise(entry.buckets)), entry


@pytest.mark.parametrize("threshold", [("njord_fill_latency_ms", 1000.0), ("njord_fill_latency_seconds", 1.0)])
def test_the_latency_that_njord_alerts_on_is_the_bound_of_a_bucket(threshold: tuple[str, float]) -> None:
    name, bound = threshold
    assert bound in Catalogue.load().entries[name].buckets


@pytest.mark.parametrize(
    ("name", "unit", "bound"),
    [
        ("fill_seconds", "seconds", 0.25),
        ("edge_bps", "bps", -5.0),
        ("cost_usd", "usd", 50_000.0),
        ("depth", "", 1000.0),
    ],
)
def test_buckets_of_an_unknown_histogram_follow_the_unit_in_its_name(name: str, unit: str, bound: float) -> None:
    entry = Catalogue.load().entry(name, "histogram")
    assert entry.unit == unit
    assert bound in entry.buckets


def test_the_unit_of_a_counter_stands_before_total() -> None:
    assert Catalogue.load().entry("sent_bytes_total", "counter").served_unit == "bytes"


def test_a_unit_that_the_name_does_not_end_in_is_not_served() -> None:
    entry = Catalogue.load().entries["njord_strategy_win_rate"]
    assert (entry.unit, entry.served_unit) == ("ratio", "")
