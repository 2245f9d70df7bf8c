# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import json
import os
import time
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._disk import Limits, Room
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._journal.survey import survey
from ansible_collections.njord.telemetry.plugins.module_utils._journal_findings import (
    disks,
    findings,
    kinds,
    resolutions,
    space_remedy,
)

DAY = 86400 * 10**9
NOW = time.time_ns()
NEVER = Limits(Room(bytes=0), Room(bytes=0), 0, 0)


def metrics(when: int = NOW, seconds: int = 60, lines: int = 1) -> bytes:
    record = {"timestamp_ns": when, "metric_name": "m", "interval_seconds": seconds, "value": 1}
    return (json.dumps(record) + "\n").encode() * lines


def fill(directory: Path) -> None:
    (directory / "m_1m.jsonl").write_bytes(metrics(lines=300))
    (directory / "m_5m.20251001.jsonl.gz").write_bytes(gzip.compress(metrics(seconds=300)))
    (directory / "fills_1m.20251001.ndjson").write_text('{"ts": 1759276800000, "symbol": "ATOMUSDT"}\n')
    (directory / "app.ndjson").write_text('{"event": "start", "level": "info"}\n')


def look(*paths: Path, largest: int = 10) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings(survey(map(str, paths)), NOW, largest)}


def test_sizes_are_told_by_resolution_by_kind_and_by_form(tmp_path: Path) -> None:
    fill(tmp_path)
    files = survey([str(tmp_path)]).files
    by_resolution = resolutions(files)
    assert list(by_resolution) == ["1m", "5m"]
    assert by_resolution["1m"]["plain_bytes"] == len(metrics(lines=300))
    assert by_resolution["5m"]["compressed_bytes"] == (tmp_path / "m_5m.20251001.jsonl.gz").stat().st_size
    assert {kind: row["files"] for kind, row in kinds(files).items()} == {
        "metrics": 2, "trading": 1, "log": 1, "other": 0,
    }  # fmt: skip
    finding = look(tmp_path)["journal.size"]
    assert finding.severity == "ok"
    bars = {row["label"]: row["value"] for row in finding.evidence["chart"]["bars"]}
    assert set(bars) == {"1m, plain", "5m, compressed", "trading, plain", "log, plain"}
    assert sum(bars.values()) == finding.evidence["figures"]["journal_disk_bytes"]


def test_a_directory_without_metrics_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "app.ndjson").write_text('{"event": "start", "level": "info"}\n')
    looked = look(tmp_path)
    assert looked["journal.size"].severity == "unknown"
    assert looked["journal.directory"].severity == "ok"


def test_what_cannot_be_surveyed_is_unknown_with_a_remedy_and_never_clean(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("empty", "missing", "file"):
        looked = look(tmp_path / name)
        assert set(looked) == {"journal.directory"}
        finding = looked["journal.directory"]
        assert finding.severity == "unknown"
        assert str(tmp_path / name) in finding.summary
        assert finding.remedy


def test_a_directory_that_is_a_link_says_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    fill(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    finding = look(tmp_path / "link")["journal.directory"]
    assert finding.severity == "info"
    assert f"leads to {tmp_path}/real" in finding.summary


def test_a_link_out_of_the_directories_is_a_warning_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    fill(tmp_path / "journals")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "journals" / "out").symlink_to(tmp_path / "elsewhere")
    finding = look(tmp_path / "journals")["journal.link"]
    assert finding.severity == "warning"
    assert finding.evidence["links"] == [
        {"path": f"{tmp_path}/journals/out", "target": f"{tmp_path}/elsewhere", "state": "outside"}
    ]
    assert "journal.link" not in look(tmp_path / "journals", tmp_path / "elsewhere")


def test_a_file_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "n_1m.jsonl.gz").write_text("no gzip")
    finding = look(tmp_path)["journal.unreadable"]
    assert (finding.severity, finding.subject) == ("unknown", f"{tmp_path}/n_1m.jsonl.gz")


def test_the_largest_files_come_first_and_no_more_than_asked(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "m_1m.20251001.jsonl").write_bytes(metrics(lines=3000))
    finding = look(tmp_path, largest=2)["journal.largest"]
    bars = finding.evidence["chart"]["bars"]
    assert [Path(row["label"]).name for row in bars] == ["m_1m.20251001.jsonl", "m_1m.jsonl"]
    assert finding.remedy.startswith(f"gzip {tmp_path}/m_1m.20251001.jsonl")


def test_compressing_is_advised_for_dated_files_of_past_days_only(tmp_path: Path) -> None:
    today = time.strftime("%Y%m%d", time.gmtime(NOW / 1e9))
    for name in ("m_1m.jsonl", f"m_1m.{today}.jsonl", "m_1m.20251001.txt"):
        (tmp_path / name).write_bytes(metrics())
    assert "gzip" not in space_remedy(survey([str(tmp_path)]).files, NOW)
    (tmp_path / "a b_1m.20251001.jsonl").write_bytes(metrics())
    advice = space_remedy(survey([str(tmp_path)]).files, NOW)
    assert "Compress the 1 plain journals" in advice
    assert f"gzip '{tmp_path}/a b_1m.20251001.jsonl'" in advice


def test_a_name_that_is_no_utf_8_fits_into_json(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff_1m.jsonl")).write_bytes(metrics())
    text = json.dumps([finding.as_dict() for finding in look(tmp_path).values()], ensure_ascii=False)
    assert "\\\\xff_1m.jsonl" in text
    assert text.encode("utf-8")


def test_a_file_system_is_judged_once_and_a_missing_path_is_unknown(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    found = survey([str(tmp_path / "one"), str(tmp_path / "two")])
    looked, rows = disks(found, [str(tmp_path), str(tmp_path / "missing")], NEVER, NOW)
    assert [(finding.check, finding.severity) for finding in looked if finding.check == "disk.free"] == [
        ("disk.free", "unknown"),
        ("disk.free", "ok"),
    ]
    assert len(rows) == 1
    assert rows[0]["holds_journals"]


def test_a_disk_that_holds_no_journals_has_no_forecast(tmp_path: Path) -> None:
    looked, rows = disks(survey([]), [str(tmp_path)], NEVER, NOW)
    assert [finding.check for finding in looked] == ["disk.free"]
    assert "days_until_full" not in rows[0]


def test_the_forecast_follows_the_records_and_not_the_times_of_the_files(tmp_path: Path) -> None:
    today = NOW - NOW % DAY
    sizes: list[t.Any] = []
    for days in range(1, 6):
        path = tmp_path / f"m{days}_1m.jsonl"
        path.write_bytes(b"".join(metrics(today - days * DAY + minute * DAY // 1440) for minute in range(1440)))
        sizes.append(path.stat().st_blocks * 512)
    _looked, rows = disks(survey([str(tmp_path)]), [], NEVER, NOW)
    assert rows[0]["growth_days"] == 5
    assert abs(rows[0]["growth_bytes_per_day"] - sum(sizes) / 5) < 1
    assert rows[0]["days_until_full"] == rows[0]["free_bytes"] / rows[0]["growth_bytes_per_day"]
