# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _storage
from ansible_collections.njord.telemetry.plugins.module_utils._storage import Block, InForce, Retention, Storage
from hypothesis import given
from hypothesis import strategies as st

DAY = 86400.0
NOW = 1_790_000_000.0
MIB = 1024 * 1024


def blocks(days: int) -> list[Block]:
    """One block a day of 1 MiB each, the oldest first, the last one ending now."""
    return [Block(f"{day:026d}", NOW - (day + 1) * DAY, NOW - day * DAY, 1000, MIB) for day in reversed(range(days))]


def storage(days: int, head_bytes: int = 0) -> Storage:
    return Storage(blocks(days), [], head_bytes, NOW if days or head_bytes else 0.0)


def judge(store: Storage | None, wanted: Retention, now: Retention | None) -> _storage.Verdict:
    return _storage.judge("/data", store, wanted, InForce(now, "the server"))


@pytest.mark.parametrize(
    ("time", "space", "seconds", "count"),
    [
        ("", "", 15 * DAY, math.inf),
        ("0s", "0B", 15 * DAY, math.inf),
        ("30d", "", 30 * DAY, math.inf),
        ("", "10GB", math.inf, 10 * 1024**3),
        ("4w2d", "1GiB512MiB", 30 * DAY, 1536 * MIB),
    ],
)
def test_a_retention_is_read_as_prometheus_reads_its_flags(time: str, space: str, seconds: float, count: float) -> None:
    assert Retention.parse(time, space) == Retention(seconds, count)


@pytest.mark.parametrize(("time", "space"), [("30", ""), ("", "10"), ("", "1GBx"), ("a month", "")])
def test_what_is_no_retention_is_refused(time: str, space: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Retention.parse(time, space)


def test_a_block_goes_when_it_ends_a_retention_before_the_newest() -> None:
    assert [block.max_time for block in Retention(10 * DAY, math.inf).beyond(storage(12))] == [
        NOW - 11 * DAY,
        NOW - 10 * DAY,
    ]


def test_by_size_the_newest_blocks_stay_that_fit_beside_the_head() -> None:
    assert len(Retention(math.inf, 5 * MIB).beyond(storage(12, head_bytes=2 * MIB))) == 12 - 3


@given(st.integers(0, 20), st.floats(1, 30 * DAY), st.floats(1, 30 * MIB), st.floats(1, 3))
def test_a_longer_retention_never_takes_more(days: int, seconds: float, count: float, factor: float) -> None:
    store = storage(days)
    longer = Retention(seconds * factor, count * factor)
    assert not longer.lowers(Retention(seconds, count))
    assert set(longer.beyond(store)) <= set(Retention(seconds, count).beyond(store))


def test_the_range_that_would_go_is_said() -> None:
    verdict = judge(storage(12), Retention(10 * DAY, math.inf), Retention(15 * DAY, math.inf))
    assert verdict.lowered is True
    assert verdict.finding.severity == "critical"
    assert "2026-09-09T14:13:20Z to 2026-09-11T14:13:20Z (2 blocks, 2 MiB) would go" in verdict.finding.summary


def test_what_goes_under_the_retention_in_force_anyway_is_not_counted() -> None:
    assert len(judge(storage(12), Retention(8 * DAY, math.inf), Retention(10 * DAY, math.inf)).would_go) == 2


def test_a_lower_retention_is_seen_before_there_is_anything_it_would_take() -> None:
    verdict = judge(storage(3), Retention(10 * DAY, math.inf), Retention(15 * DAY, math.inf))
    assert (verdict.lowered, verdict.would_go, verdict.finding.severity) == (True, [], "warning")


def test_a_size_where_there_was_none_is_lower() -> None:
    verdict = judge(storage(3), Retention(15 * DAY, 2 * MIB), Retention(15 * DAY, math.inf))
    assert len(verdict.would_go) == 1


@pytest.mark.parametrize("now", [Retention(15 * DAY, math.inf), Retention(30 * DAY, 5 * MIB)])
def test_keeping_as_much_or_more_is_ok(now: Retention) -> None:
    verdict = judge(storage(12), Retention(30 * DAY, math.inf), now)
    assert (verdict.lowered, verdict.would_go, verdict.finding.severity) == (False, [], "ok")


@pytest.mark.parametrize("store", [None, storage(0)])
def test_where_there_are_no_samples_nothing_can_go(store: Storage | None) -> None:
    assert judge(store, Retention(DAY, math.inf), None).lowered is False


def test_a_retention_that_nobody_can_say_is_unknown() -> None:
    verdict = judge(storage(3), Retention(30 * DAY, math.inf), None)
    assert (verdict.lowered, verdict.finding.severity) == (None, "unknown")


def test_data_in_another_directory_would_be_left_behind() -> None:
    now = InForce(Retention(15 * DAY, math.inf), "the server", "/srv/prometheus/")
    verdict = _storage.judge("/data", None, Retention(30 * DAY, math.inf), now)
    assert verdict.lowered is True
    assert "/srv/prometheus" in verdict.finding.remedy


def test_the_same_directory_spelled_otherwise_is_the_same() -> None:
    now = InForce(Retention(15 * DAY, math.inf), "the server", "/data/")
    assert _storage.judge("/data", storage(3), Retention(30 * DAY, math.inf), now).lowered is False


def test_the_command_line_of_a_unit_says_what_it_would_keep() -> None:
    text = """
# --storage.tsdb.retention.time=1d is a comment
ExecStart="/usr/bin/prometheus" "--storage.tsdb.path=/srv/data" "--storage.tsdb.retention.time=90d" \\
  --storage.tsdb.retention.size 5GB
"""
    found = _storage.in_force_by_command(text, "the unit")
    assert found == InForce(Retention(90 * DAY, 5 * 1024**3), "the unit", "/srv/data")


def test_a_command_line_without_a_retention_keeps_the_default() -> None:
    assert _storage.in_force_by_command("ExecStart=/usr/bin/prometheus $ARGS", "x").retention == Retention(
        15 * DAY, math.inf
    )


def test_a_command_line_that_cannot_be_understood_is_unknown() -> None:
    found = _storage.in_force_by_command("--storage.tsdb.retention.time=$DAYS", "the unit")
    assert found.retention is None
    assert "$DAYS" in found.source


def write_block(directory: Path, ulid: str, meta: str) -> None:
    (directory / ulid / "chunks").mkdir(parents=True)
    (directory / ulid / "meta.json").write_text(meta)
    (directory / ulid / "chunks" / "000001").write_bytes(b"x" * 100)


def test_a_directory_is_read_with_its_broken_blocks(tmp_path: Path) -> None:
    meta = json.dumps({"minTime": 1000, "maxTime": 5000, "stats": {"numSamples": 7}})
    write_block(tmp_path, "01ARZ3NDEKTSV4RRFFQ69G5FAV", meta)
    write_block(tmp_path, "01BX5ZZKBKACTAV9WEVGEMMVRZ", "")
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "00000000").write_bytes(b"x" * 50)
    os.utime(tmp_path / "wal" / "00000000", (9, 9))
    (tmp_path / "queries.active").write_bytes(b"x")
    found = _storage.read(tmp_path)
    assert found == Storage(
        [Block("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1.0, 5.0, 7, 100 + len(meta))],
        ["01BX5ZZKBKACTAV9WEVGEMMVRZ"],
        50,
        9.0,
    )
    assert _storage.contents("/data", found).severity == "critical"
    assert found.bytes == 150 + len(meta)


def test_the_chart_of_what_is_there_ends_at_all_of_it_and_one_block_makes_none() -> None:
    told = _storage.contents("/data", storage(12))
    points = told.evidence["chart"]["lines"][0]["points"]
    assert (points[0], points[-1]) == ([NOW - 12 * DAY, 0], [NOW, 12 * MIB])
    assert _storage.rfc3339(NOW - 12 * DAY) in told.summary
    assert "chart" not in _storage.contents("/data", storage(1)).evidence
