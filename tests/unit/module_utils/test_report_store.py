# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports are kept whole, under a lock, and only so many of them."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _report_store
from ansible_collections.njord.telemetry.plugins.module_utils._report_store import Store, StoreError

FILES = {"html": "<p>å</p>", "json": "{}"}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def moment(second: int) -> str:
    return f"20261003T0215{second:02}Z"


def test_a_kept_report_has_its_pages_the_latest_and_a_line_of_history(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "reports"
    page = Store(directory, "weekly").keep(moment(0), FILES, 10, '{"a": 1}')
    assert page == directory / "20261003T021500Z_weekly.html"
    assert names(directory) == [
        "20261003T021500Z_weekly.html",
        "20261003T021500Z_weekly.json",
        "history-weekly.jsonl",
        "latest-weekly.html",
    ]
    assert (directory / "latest-weekly.html").read_text(encoding="utf-8") == FILES["html"]
    assert Store(directory, "weekly").history() == ['{"a": 1}']
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    assert stat.S_IMODE(directory.stat().st_mode) & 0o007 == 0


def test_without_a_line_no_history_is_kept(tmp_path: Path) -> None:
    Store(tmp_path, "weekly").keep(moment(0), FILES, 10)
    assert "history-weekly.jsonl" not in names(tmp_path)


def test_the_history_of_a_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Store(tmp_path / "none", "weekly").history() == []
    assert names(tmp_path) == []


def test_two_reports_of_one_second_are_both_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, "weekly")
    pages = [store.keep(moment(0), FILES, 10, str(i)) for i in range(3)]
    assert [page.name for page in pages] == [f"20261003T021500Z_weekly{end}.html" for end in ("", "-2", "-3")]
    assert store.history() == ["0", "1", "2"]


def test_the_oldest_go_and_those_of_other_procedures_and_strangers_stay(tmp_path: Path) -> None:
    Store(tmp_path, "other_weekly").keep(moment(0), FILES, 10, "other")
    (tmp_path / "20200101T000000Z_weekly.note.txt").write_text("mine")
    store = Store(tmp_path, "weekly")
    for second in range(5):
        store.keep(moment(second), FILES, 2, str(second))
    assert store.history() == ["3", "4"]
    assert [name for name in names(tmp_path) if name.endswith("Z_weekly.html")] == [
        "20261003T021503Z_weekly.html",
        "20261003T021504Z_weekly.html",
    ]
    assert "20261003T021500Z_other_weekly.html" in names(tmp_path)
    assert "20200101T000000Z_weekly.note.txt" in names(tmp_path)


def test_one_report_can_be_kept_alone(tmp_path: Path) -> None:
    store = Store(tmp_path, "weekly")
    for second in range(3):
        store.keep(moment(second), FILES, 1, str(second))
    assert store.history() == ["2"]
    assert len([name for name in names(tmp_path) if name.endswith(".json")]) == 1


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "latest-weekly.html").mkdir()
    with pytest.raises(StoreError, match=f"cannot write into {tmp_path}"):
        Store(tmp_path, "weekly").keep(moment(0), FILES, 10, "line")
    assert names(tmp_path) == ["latest-weekly.html"]


def test_a_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    place = tmp_path / "reports"
    place.write_text("")
    with pytest.raises(StoreError, match=str(place)):
        Store(place, "weekly").keep(moment(0), FILES, 10)
    with pytest.raises(StoreError, match="cannot read"):
        Store(place, "weekly").history()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".njord-report-20261003T021400Z_weekly.html").write_text("half")
    Store(tmp_path, "weekly").keep(moment(0), FILES, 10)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    place = tmp_path / "text"
    place.mkdir()
    (place / ".njord-report-njord_maintenance_weekly.prom").symlink_to(victim)
    _report_store.write_metrics(place, "weekly", "x 1\n")
    assert victim.read_text() == "untouched"
    assert (place / "njord_maintenance_weekly.prom").read_text() == "x 1\n"


def test_everyone_may_read_the_metrics_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = _report_store.write_metrics(tmp_path, "weekly", "x 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_many_writers_lose_no_line(tmp_path: Path) -> None:
    def keep(number: int) -> None:
        Store(tmp_path, "weekly").keep(moment(0), FILES, 100, str(number))

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, Store(tmp_path, "weekly").history())) == list(range(12))
    assert len([name for name in names(tmp_path) if name.endswith(".json")]) == 12


def test_a_store_that_is_held_says_so(tmp_path: Path) -> None:
    said = f"another report has held {tmp_path} for 0.1 seconds"
    with _report_store._locked(tmp_path, 1), pytest.raises(StoreError, match=said):
        Store(tmp_path, "weekly", lock_seconds=0.1).keep(moment(0), FILES, 10)


@pytest.mark.parametrize("procedure", ["../weekly", "Weekly", "", "weekly-2", "weekly\n"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, procedure: str) -> None:
    with pytest.raises(ValueError, match="importable name"):
        Store(tmp_path, procedure)


def test_a_directory_is_told_from_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert _report_store.is_directory(tmp_path)
    assert not _report_store.is_directory(tmp_path / "file")
    assert not _report_store.is_directory(tmp_path / "none")
