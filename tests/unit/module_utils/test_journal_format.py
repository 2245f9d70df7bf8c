# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import string
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.format import (
    KINDS,
    LOG,
    METRICS,
    OTHER,
    TRADING,
    classify,
    is_metric,
    read_name,
    read_record,
    record_time,
    resolution_name,
)
from hypothesis import given
from hypothesis import strategies as st

AGGREGATED = {
    "timestamp_ns": 1759276800000000000,
    "metric_name": "njord_position_count",
    "metric_type": "gauge",
    "labels": {"portfolio_id": "main"},
    "interval_seconds": 60,
    "value": 3.0,
}
# The spelling of the system's own retention code.
NAMED = {"name": "njord_position_count", "timestamp_ns": 1759276800000000000, "value": 3, "metric_type": "gauge"}
FILL = {"ts_fill_ns": 1759276800000000000, "symbol": "ATOMUSDT", "side": "buy", "qty": 1.0, "price": 4.2}
APP = {"event": "started", "level": "info", "timestamp": "2025-10-01T00:00:00.000000Z"}


def line(record: t.Any) -> bytes:
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("name", "resolution", "dated", "compressed"),
    [
        ("metrics_1m.jsonl", 60, False, False),
        ("metrics_5m.ndjson", 300, False, False),
        ("pnl.main_1h.20250930.ndjson", 3600, True, False),
        ("metrics_1d.20250930.2.jsonl.gz", 86400, True, True),
        ("aggregated_metrics.ndjson", None, False, False),
        ("aggregated_metrics.20250930T120000Z.ndjson", None, True, False),
        ("aggregated_metrics.20250930.1.ndjson.gz", None, True, True),
        ("fills_1m.ndjson", 60, False, False),
    ],
)
def test_a_journal_of_metrics_is_known_by_its_name(
    name: str, resolution: int | None, dated: bool, compressed: bool
) -> None:
    read = read_name(name)
    assert (read.ours, read.resolution, read.day is not None, read.compressed) == (True, resolution, dated, compressed)


@pytest.mark.parametrize(
    "name",
    [
        "ohlcv.1m.ATOMUSDT.20250930.ndjson.gz",
        "app.ndjson",
        "metrics_1m.txt",
        "metrics_1m.jsonl.gz.rejected",
        "metrics_1m.jsonl.bak",
        "metrics_1m.20251399.jsonl",
        "metrics_1m.2025093.jsonl",
        "metrics_0m.jsonl",
        "metrics_1w.jsonl",
        "_1m.jsonl",
        ".metrics_1m.jsonl",
        "aggregated_metrics_old.ndjson",
        "aggregated_metrics.bak.ndjson",
        "metrics_1m.٢٠٢٥٠٩٣٠.jsonl",
    ],
)
def test_another_name_is_not_ours(name: str) -> None:
    assert not read_name(name).ours


def test_the_day_in_a_name_is_the_start_of_that_utc_day() -> None:
    assert read_name("ohlcv.1m.ATOMUSDT.20250930.ndjson.gz").day == 1759190400 * 10**9


@pytest.mark.parametrize(
    ("name", "records", "kind"),
    [
        ("metrics_1m.jsonl", [AGGREGATED], METRICS),
        ("metrics_1m.jsonl", [NAMED], METRICS),
        ("aggregated_metrics.ndjson", [AGGREGATED, NAMED], METRICS),
        ("fills_1m.ndjson", [FILL], TRADING),
        ("ohlcv.1m.ATOMUSDT.20250930.ndjson.gz", [FILL], TRADING),
        ("orders.ndjson", [FILL], TRADING),
        ("app.ndjson", [FILL], LOG),
        ("app.20250930.ndjson.gz", [APP], LOG),
        ("worker.ndjson", [APP], LOG),
        ("metrics_1m.jsonl", [AGGREGATED, FILL], OTHER),
        ("orders.ndjson", [AGGREGATED], OTHER),
        ("metrics_1m.jsonl", [], OTHER),
        ("notes.txt", [AGGREGATED], OTHER),
        ("risk.log.1", [], LOG),
    ],
)
def test_a_kind_takes_name_and_records(name: str, records: list[t.Any], kind: str) -> None:
    assert classify(read_name(name), [line(record) for record in records]).kind == kind


def test_a_line_that_does_not_parse_does_not_hide_the_records_after_it() -> None:
    lines = [b"\x00\x00", b"\xff\xfe", b"[1]", b"[" * 100_000, line(AGGREGATED)]
    assert classify(read_name("metrics_1m.jsonl"), lines).kind == METRICS


@pytest.mark.parametrize(
    "change",
    [
        {"metric_name": ""},
        {"metric_name": 1},
        {"timestamp_ns": -1},
        {"timestamp_ns": 1.5},
        {"timestamp_ns": True},
        {"metric_type": "line"},
        {"labels": [1]},
        {"value": "3"},
        {"value": None},
    ],
)
def test_a_record_that_breaks_one_rule_is_no_metric(change: dict[str, t.Any]) -> None:
    assert is_metric(AGGREGATED)
    assert not is_metric({**AGGREGATED, **change})


def test_a_histogram_has_observations_and_a_rolled_up_one_a_count() -> None:
    bare = {key: value for key, value in AGGREGATED.items() if key != "value"}
    assert not is_metric(bare)
    assert is_metric({**bare, "observations": [0.1]})
    assert is_metric({**bare, "count": 2})


@pytest.mark.parametrize(
    ("record", "time"),
    [
        ({"timestamp_ns": 1759276800123456789}, 1759276800123456789),
        ({"symbol": "x", "ts_exchange_ms": 1759276800123}, 1759276800123000000),
        ({"ts_open": 1759276800}, 1759276800000000000),
        ({"timestamp": "2025-10-01T00:00:00Z"}, 1759276800000000000),
        ({"timestamp": "2025-10-01T02:00:00+02:00"}, 1759276800000000000),
        ({"ts": "soon", "ts_local_ns": 1759276800000000000}, 1759276800000000000),
        ({"timestamp": "0001-01-01T00:00:00+23:59"}, None),
        ({"timestamp_ns": 12}, None),
        ({"value": 1759276800}, None),
        ({"ts": float("nan")}, None),
    ],
)
def test_the_time_of_a_record_is_read_in_its_own_unit(record: dict[str, t.Any], time: int | None) -> None:
    assert record_time(record) == time


def test_the_records_tell_the_resolution_before_the_name_does() -> None:
    name = read_name("metrics_1m.jsonl")
    assert classify(name, [line({**AGGREGATED, "interval_seconds": 300})]).resolution == 300
    assert classify(name, [line(NAMED)]).resolution == 60
    assert classify(read_name("aggregated_metrics.jsonl"), [line(NAMED)]).resolution is None


def test_a_resolution_is_named_in_its_largest_unit() -> None:
    assert [resolution_name(seconds) for seconds in (60, 300, 3600, 86400, 90, None)] == [
        "1m", "5m", "1h", "1d", "90s", "unknown",
    ]  # fmt: skip


names = st.text(string.ascii_lowercase + string.digits + "._\n-", max_size=20)


@given(names, st.sampled_from(["", ".jsonl", ".ndjson", "_1m.jsonl", ".20250930.ndjson.gz"]), st.lists(st.binary()))
def test_any_name_and_any_lines_have_a_kind(stem: str, ending: str, lines: list[bytes]) -> None:
    assert classify(read_name(stem + ending), lines).kind in KINDS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*AGGREGATED, "name", "ts", "level", "event"]), json_values))
def test_any_record_can_be_judged(record: dict[str, t.Any]) -> None:
    read = read_record(json.dumps(record).encode())
    assert read is not None
    content = classify(read_name("metrics_1m.jsonl"), [line(record)])
    assert (content.kind == METRICS) == is_metric(read)
    time = record_time(read)
    assert time is None or 10**17 <= time < 10**20
