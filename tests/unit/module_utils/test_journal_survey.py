# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import json
import os
import time
import tracemalloc
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.survey import JournalFile, survey

START = 1759276800 * 10**9
MINUTE = 60 * 10**9
DAY = 86400 * 10**9


def record(when: int, **more: t.Any) -> str:
    return json.dumps({"timestamp_ns": when, "metric_name": "m", "interval_seconds": 60, "value": 1.0, **more}) + "\n"


def only(directory: Path) -> JournalFile:
    (file,) = survey([str(directory)]).files
    return file


def test_a_plain_journal_tells_its_first_and_its_last_record(tmp_path: Path) -> None:
    lines = [record(START + minute * MINUTE) for minute in range(5000)]
    (tmp_path / "m_1m.jsonl").write_text("".join(lines))
    file = only(tmp_path)
    assert (file.kind, file.resolution, file.compressed) == ("metrics", 60, False)
    assert (file.first, file.last, file.time_source) == (START, START + 4999 * MINUTE, "records")
    assert file.bytes == sum(map(len, lines))
    assert file.disk_bytes >= file.bytes


def test_a_compressed_journal_tells_its_first_record_and_the_day_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "m_1m.20251001.ndjson.gz").write_bytes(gzip.compress((record(START + MINUTE) * 9).encode()))
    file = only(tmp_path)
    assert (file.kind, file.compressed) == ("metrics", True)
    assert (file.first, file.last, file.time_source) == (START + MINUTE, START + DAY - 1, "name")


def test_a_file_without_any_time_has_that_of_its_last_change(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    os.utime(tmp_path / "notes.txt", ns=(START, START))
    file = only(tmp_path)
    assert (file.kind, file.first, file.last, file.time_source) == ("other", START, START, "modified")


def test_a_last_line_that_is_being_written_does_not_hide_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "m_1m.jsonl").write_text(record(START) + record(START + MINUTE) + record(START + 2 * MINUTE)[:20])
    assert only(tmp_path).last == START + MINUTE


def test_a_last_line_without_a_line_break_counts(tmp_path: Path) -> None:
    (tmp_path / "m_1m.jsonl").write_text(record(START) + record(START + MINUTE).rstrip())
    assert only(tmp_path).last == START + MINUTE
    (tmp_path / "m_1m.jsonl").write_text(record(START).rstrip())
    assert (only(tmp_path).kind, only(tmp_path).first) == ("metrics", START)


def test_lines_longer_than_the_first_reading_are_read_whole(tmp_path: Path) -> None:
    observations = [0.25] * 20_000
    (tmp_path / "m_1m.jsonl").write_text(
        record(START, observations=observations) + record(START + MINUTE, observations=observations)
    )
    (tmp_path / "n_1m.jsonl.gz").write_bytes(gzip.compress(record(START, observations=observations).encode()))
    plain, compressed = survey([str(tmp_path)]).files
    assert (plain.kind, plain.first, plain.last) == ("metrics", START, START + MINUTE)
    assert (compressed.kind, compressed.first) == ("metrics", START)


def test_memory_does_not_grow_with_the_bytes(tmp_path: Path) -> None:
    # A line without end, plain and packed a thousandfold.
    with (tmp_path / "m_1m.jsonl").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    (tmp_path / "n_1m.jsonl.gz").write_bytes(gzip.compress(bytes(50 * 1024 * 1024), 1))
    tracemalloc.start()
    found = survey([str(tmp_path)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [file.kind for file in found.files] == ["other", "other"]
    assert peak < 8 * 1024 * 1024


def test_ten_thousand_files_take_a_couple_of_seconds(tmp_path: Path) -> None:
    plain = (record(START) * 20).encode()
    packed = gzip.compress(plain)
    for number in range(10_000):
        name = f"m{number}_1m.20251001.ndjson"
        (tmp_path / (name if number % 2 else f"{name}.gz")).write_bytes(plain if number % 2 else packed)
    begun = time.monotonic()
    found = survey([str(tmp_path)])
    assert time.monotonic() - begun < 5
    assert {file.kind for file in found.files} == {"metrics"}
    assert found.directories[0].files == 10_000


@pytest.mark.parametrize("content", [b"no gzip at all\n", gzip.compress(b"x" * 999)[:5] + b"\xff" * 40])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m_1m.jsonl.gz").write_bytes(content)
    found = survey([str(tmp_path)])
    assert [file.kind for file in found.files] == ["other"]
    assert [problem.path for problem in found.unreadable] == [str(tmp_path / "m_1m.jsonl.gz")]


def test_a_compressed_file_that_is_cut_off_still_tells_its_first_record(tmp_path: Path) -> None:
    text = "".join(record(START + number, labels={"order": str(number * 7919)}) for number in range(3000))
    (tmp_path / "m_1m.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-2000])
    assert (only(tmp_path).kind, only(tmp_path).first) == ("metrics", START)


def test_links_are_named_and_not_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "elsewhere", tmp_path / "journals"
    outside.mkdir()
    (outside / "m_1m.jsonl").write_text(record(START))
    (inside / "below").mkdir(parents=True)
    (inside / "below" / "m_1m.jsonl").write_text(record(START))
    (inside / "below" / "again").symlink_to("..")
    (inside / "itself").symlink_to("itself")
    (inside / "gone").symlink_to("nowhere")
    (inside / "out").symlink_to(outside)
    (inside / "out_1m.jsonl").symlink_to(outside / "m_1m.jsonl")
    (inside / "live.jsonl").symlink_to("below/m_1m.jsonl")
    found = survey([str(inside)])
    assert [file.path for file in found.files] == [str(inside / "below" / "m_1m.jsonl")]
    assert {(Path(link.path).name, link.state) for link in found.links} == {
        ("again", "circle"),
        ("itself", "circle"),
        ("gone", "broken"),
        ("out", "outside"),
        ("out_1m.jsonl", "outside"),
        ("live.jsonl", "inside"),
    }


def test_a_directory_that_is_a_link_is_surveyed_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m_1m.jsonl").write_text(record(START))
    (tmp_path / "link").symlink_to("real")
    found = survey([str(tmp_path / "link")])
    assert (found.directories[0].resolved, found.directories[0].state) == (str(tmp_path / "real"), "found")
    assert len(found.files) == 1


@pytest.mark.parametrize("parent_first", [True, False])
def test_what_lies_in_two_directories_counts_once_and_makes_neither_empty(tmp_path: Path, parent_first: bool) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "m_1m.jsonl").write_text(record(START))
    asked = [str(tmp_path), str(tmp_path / "metrics")]
    found = survey(asked if parent_first else asked[::-1])
    assert len(found.files) == 1
    assert [directory.state for directory in found.directories] == ["found", "found"]
    assert sum(directory.files for directory in found.directories) == 1


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a_1m.jsonl").write_text(record(START))
    os.link(tmp_path / "a_1m.jsonl", tmp_path / "b_1m.jsonl")
    assert only(tmp_path).kind == "metrics"


def test_a_directory_that_cannot_be_surveyed_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to("circle")
    names = ["empty", "missing", "file", "file/below", "circle"]
    found = survey([str(tmp_path / name) for name in names])
    assert [directory.state for directory in found.directories] == [
        "empty", "missing", "not_a_directory", "missing", "missing",
    ]  # fmt: skip
    assert all(directory.reason for directory in found.directories if directory.state == "missing")


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    # A reader of a pipe without a writer would wait for ever.
    os.mkfifo(tmp_path / "m_1m.jsonl")
    assert (only(tmp_path).kind, only(tmp_path).reason) == ("other", "no regular file")


def test_a_name_that_is_no_utf_8_is_surveyed_too(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff_1m.jsonl")).write_text(record(START))
    assert only(tmp_path).kind == "metrics"


def test_a_survey_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a_1m.jsonl", "below/b_1m.jsonl"):
        (tmp_path / name).write_text(record(START))
    paths = [tmp_path, *tmp_path.rglob("*")]
    for path in paths:
        # Older than the last change: even a kernel that seldom writes access times would write this one.
        os.utime(path, ns=(START, path.stat().st_mtime_ns))
    before = {path: path.stat() for path in paths}
    survey([str(tmp_path)])
    after = {path: path.stat() for path in [tmp_path, *tmp_path.rglob("*")]}
    assert {path: status.st_ctime_ns for path, status in after.items()} == {
        path: status.st_ctime_ns for path, status in before.items()
    }
    # The globbing above reads the directories.
    assert all(after[path].st_atime_ns == START for path in paths if path.is_file())
