# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Failed
from ansible_collections.njord.telemetry.plugins.module_utils._backup.prometheus import (
    key_of,
    recover,
    resolve,
    settled,
)
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from hypothesis import given
from hypothesis import strategies as st

HOUR = 3_600_000
ULID = "01M86H1F48TX5Z7R0X4XB8R17T"
FLAGS = {"storage.tsdb.min-block-duration": "2h"}
SLOW = "global:\n  scrape_timeout: 10s\nscrape_configs:\n- job_name: a\n  scrape_timeout: 1m30s\n"


def block(low: int, high: int) -> dict[str, int]:
    return {"min_time": low, "max_time": high}


def until(
    hours: float = 48, configuration: str = "", rules: t.Iterable[float] = (), flags: dict[str, str] | None = None
) -> float:
    """Milliseconds before the newest sample at which all is settled."""
    last = int(hours * HOUR)
    blocks = [block(last // 2, last), block(0, last // 2)]
    return last - 1 - settled(blocks, last // 2, flags or FLAGS, configuration, rules)


# Until when nothing is added


def test_half_a_block_may_still_be_added_to_and_what_is_under_way_besides() -> None:
    assert until() == HOUR
    assert until(configuration=SLOW) == HOUR + 2 * 90_000
    assert until(configuration=SLOW, rules=[60, 300]) == HOUR + 2 * 300_000


def test_of_less_than_a_block_half_counts() -> None:
    assert until(hours=1) == pytest.approx(HOUR / 2, abs=1)
    assert until(hours=1, configuration=SLOW) == pytest.approx(HOUR / 2 + 180_000, abs=1)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("web.enable-remote-write-receiver", "true"),
        ("web.enable-otlp-receiver", "true"),
        ("enable-feature", "exemplar-storage,otlp-write-receiver"),
    ],
)
def test_where_others_write_nothing_younger_than_half_a_block_counts(flag: str, value: str) -> None:
    assert until(hours=1, flags={**FLAGS, flag: value}) == HOUR
    assert until(hours=1, flags={**FLAGS, flag: "false"}) < HOUR


def test_where_samples_may_come_out_of_order_all_that_is_in_memory_may_be_added_to() -> None:
    window = "storage:\n  tsdb:\n    outofordertimewindow: 1800000\n    out_of_order_time_window: 30m\n"
    assert until(hours=48, configuration=window) == 24.5 * HOUR - 1


def test_where_only_blocks_are_left_no_memory_matters() -> None:
    window = "    out_of_order_time_window: 30m\n"
    assert settled([block(0, 10 * HOUR)], math.inf, FLAGS, window, []) == 9 * HOUR - 1


@given(st.integers(1, 10**12), st.integers(1, 10**10), st.lists(st.floats(0, 1e4), max_size=3))
def test_it_is_never_after_the_newest_sample(low: int, length: int, intervals: list[float]) -> None:
    assert settled([block(low, low + length)], low, FLAGS, SLOW, intervals) < low + length


# The key of a file


def test_index_and_chunks_are_known_by_their_block_and_the_others_by_their_time_too() -> None:
    for path in (f"{ULID}/index", f"{ULID}/chunks/000001"):
        assert key_of(path, 5, 1) == key_of(path, 5, 2) != key_of(path, 6, 1)
    for path in (f"{ULID}/meta.json", f"{ULID}/tombstones", f"{ULID}/chunks/other", f"{ULID}/deeper/index"):
        assert key_of(path, 5, 1) != key_of(path, 5, 2)
    assert key_of(f"{ULID}/index", 5, 1) != key_of(f"{ULID[:-1]}V/index", 5, 1)


# What an interrupted backup left


class Left:
    """A data directory with snapshots, and the note of a backup that was interrupted some seconds ago."""

    def __init__(self, tmp_path: Path, ago: float) -> None:
        self.data, self.notes = tmp_path / "data", tmp_path / "notes"
        self.begun = math.floor(time.time() - ago) + 0.5
        self.notes.mkdir()
        self.add(-7200, "a")
        self.add(0, "b")
        self.note = prometheus._Note.begin(self.notes, self.data)
        self.write()

    def add(self, after: float, letter: str) -> str:
        """A snapshot that was begun so many seconds after the note."""
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.begun + after)) + "-" + letter * 16
        path = self.data / "snapshots" / name / ULID
        path.mkdir(parents=True)
        (path / "index").write_text("index")
        return name

    def write(self, snapshot: str = "", directory: Path | None = None) -> None:
        prometheus._Note(self.note.path, str(directory or self.data), self.note.known, self.begun, snapshot).write()

    def snapshots(self) -> set[str]:
        return {path.name for path in (self.data / "snapshots").iterdir()}

    def recover(self) -> list[str]:
        """What is said, when nothing may be lost."""
        return recover(self.notes)

    def noted(self) -> bool:
        return self.note.path.exists()


def test_a_snapshot_whose_name_was_noted_is_removed_and_no_other(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=5)
    before = left.snapshots()
    name = left.add(1, "c")
    other = left.add(2, "d")
    left.write(name)
    assert left.recover() == []
    assert left.snapshots() == {*before, other}
    assert not left.noted()


def test_where_its_name_is_not_known_the_one_that_appeared_is_removed(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=5)
    before = left.snapshots()
    left.add(3, "c")
    assert left.recover() == []
    assert left.snapshots() == before
    assert not left.noted()


def test_of_two_that_appeared_none_is_removed_and_both_are_named_until_one_is_gone(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=500)
    before = left.snapshots()
    names = [left.add(3, "c"), left.add(4, "d")]
    (said,) = left.recover()
    assert all(name in said for name in names)
    assert left.snapshots() == {*before, *names}
    assert left.noted()
    (left.data / "snapshots" / names[0] / ULID / "index").unlink()
    (left.data / "snapshots" / names[0] / ULID).rmdir()
    (left.data / "snapshots" / names[0]).rmdir()
    assert left.recover() == []
    assert left.snapshots() == before


def test_one_that_appeared_much_later_or_was_begun_before_is_somebody_else_s(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=500)
    left.add(61, "c")
    left.add(-2, "d")
    before = left.snapshots()
    assert left.recover() == []
    assert left.snapshots() == before
    assert not left.noted()


def test_where_none_appeared_yet_the_note_waits_for_a_minute(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=5)
    assert left.recover() == []
    assert left.noted()
    before = left.snapshots()
    left.add(6, "c")
    assert left.recover() == []
    assert left.snapshots() == before
    assert not left.noted()


@pytest.mark.parametrize("name", ["..", "../../other", "20261124T101841Z-7ae2f25352b1c197/..", "mine", "."])
def test_what_is_no_name_of_a_snapshot_is_not_removed(tmp_path: Path, name: str) -> None:
    left = Left(tmp_path, ago=500)
    before = left.snapshots()
    (left.data / "snapshots" / "mine").mkdir()
    (tmp_path / "other").mkdir()
    left.write(name)
    (said,) = left.recover()
    assert repr(name) in said
    assert left.snapshots() == {*before, "mine"}
    assert (tmp_path / "other").is_dir()
    assert left.noted()


def test_no_link_is_followed(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=500)
    name = left.add(1, "c")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "snapshots").symlink_to(left.data / "snapshots")
    left.write(name, elsewhere)
    (said,) = left.recover()
    assert "is a link" in said
    assert name in left.snapshots()
    (left.data / "snapshots" / name).rename(tmp_path / "moved")
    (left.data / "snapshots" / name).symlink_to(tmp_path / "moved")
    left.write(name)
    (said,) = left.recover()
    assert "cannot be removed" in said
    assert (tmp_path / "moved" / ULID / "index").exists()


def test_a_note_that_cannot_be_read_is_named_and_stays(tmp_path: Path) -> None:
    left = Left(tmp_path, ago=500)
    left.note.path.write_bytes(left.note.path.read_bytes()[:-3])
    before = left.snapshots()
    (said,) = left.recover()
    assert str(left.note.path) in said
    assert left.snapshots() == before
    assert left.noted()


def test_where_there_is_no_note_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert recover(tmp_path) == []
    assert recover(tmp_path / "absent") == []


def test_half_a_note_is_swept_up(tmp_path: Path) -> None:
    half = tmp_path / ".prometheus-snapshot-1.new"
    half.write_text("{")
    assert recover(tmp_path) == []
    assert not half.exists()


# The data directory where no server answers

NOBODY = Prometheus(Server("http://127.0.0.1:9", timeout=0.2))
UNIT = "[Service]\nExecStart=/usr/bin/prometheus --storage.tsdb.path={} --web.listen-address=:9\n"


def test_without_a_server_the_unit_says_where_the_data_are() -> None:
    assert resolve(NOBODY, "prometheus.service", lambda _unit: UNIT.format("/srv/data/")) == "/srv/data"


def test_without_a_server_the_given_one_is_taken() -> None:
    found = resolve(NOBODY, "prometheus.service", lambda _unit: UNIT.format("/srv/data"), "/srv/other/")
    assert found == "/srv/other"


@pytest.mark.parametrize("unit", ["", UNIT.format("data")])
def test_where_nobody_says_it_is_said_what_was_asked_and_what_would_do(unit: str) -> None:
    with pytest.raises(Failed, match=r"refused.*prometheus\.service.*prometheus_data_directory would say"):
        resolve(NOBODY, "prometheus.service", lambda _unit: unit)


def test_a_given_directory_must_be_absolute() -> None:
    with pytest.raises(Failed, match="'data' is not absolute"):
        resolve(NOBODY, "prometheus.service", lambda _unit: "", "data")
