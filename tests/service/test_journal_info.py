# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible starts it, on real directories and a real file system that fills up."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
from pathlib import Path

import pytest

from tests.testbench.disk import small_disk
from tests.testbench.module import findings, run

NOBODY = 65534
DAY = 86400


@pytest.fixture
def _within_one_day() -> None:
    """Waits for midnight (UTC) where it is near: a test about days ends on the day on which it began."""
    left = DAY - time.time() % DAY
    if left < 60:
        time.sleep(left)


def write_day(directory: Path, days_ago: int, size: int) -> None:
    """A journal of metrics of one past day, about so many bytes long, changed today."""
    start = (int(time.time()) // DAY - days_ago) * DAY
    padding = "x" * (size // 24)
    with (directory / f"m_1m.{time.strftime('%Y%m%d', time.gmtime(start))}.ndjson").open("w") as file:
        for hour in range(24):
            record = {"timestamp_ns": (start + hour * 3600) * 10**9, "metric_name": "m", "value": hour}
            file.write(json.dumps({**record, "labels": {"padding": padding}}) + "\n")


def severities(answer: dict[str, t.Any], check: str) -> list[str]:
    return [finding["severity"] for finding in findings(answer, check)]


@pytest.mark.usefixtures("_within_one_day")
def test_a_disk_that_fills_up_goes_from_ok_over_a_warning_to_critical(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=64m") as disk:
        for days in (1, 2, 3):
            write_day(disk, days, 1024 * 1024)
        arguments = {"journal_dirs": [str(disk)]}
        answer = run("journal_info", arguments)
        assert severities(answer, "disk.free") == ["ok"]
        # 61 MB at 1 MB a day are 60 days.
        assert severities(answer, "disk.forecast") == ["ok"]
        assert 50 < answer["disks"][0]["days_until_full"] < 62
        assert answer["disks"][0]["growth_days"] == 3
        (disk / "core").write_bytes(bytes(40 * 1024 * 1024))
        assert severities(run("journal_info", arguments), "disk.forecast") == ["warning"]
        (disk / "core").write_bytes(bytes(53 * 1024 * 1024))
        answer = run("journal_info", arguments)
        assert severities(answer, "disk.free") == ["warning"]
        with contextlib.suppress(OSError), (disk / "more").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024 * 1024))
        answer = run("journal_info", arguments)
        assert severities(answer, "disk.free") == ["critical"]
        assert severities(answer, "disk.forecast") == ["critical"]
        (finding,) = findings(answer, "disk.free")
        assert finding["subject"] == str(disk)
        assert finding["evidence"]["figures"]["disk_free_bytes"] == 0
        assert "gzip" in finding["remedy"]


def test_a_disk_without_inodes_is_critical_with_its_bytes_free(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=64m,nr_inodes=40") as disk:
        with contextlib.suppress(OSError):
            for number in range(100):
                (disk / str(number)).touch()
        assert severities(run("journal_info", {"journal_dirs": [str(disk)]}), "disk.free") == ["critical"]


def test_two_directories_on_one_disk_and_a_third_on_another_are_two_disks(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=8m") as disk:
        for name in ("log", "journal"):
            (disk / name).mkdir()
            write_day(disk / name, 1, 1000)
        answer = run(
            "journal_info", {"journal_dirs": [f"{disk}/log", f"{disk}/journal"], "disk_paths": [str(tmp_path)]}
        )
    assert [(row["mount_point"] == str(disk), row["holds_journals"]) for row in answer["disks"]] == [
        (True, True),
        (False, False),
    ]
    assert len(findings(answer, "disk.free")) == 2
    assert len(findings(answer, "disk.forecast")) == 1


def test_a_disk_mounted_inside_a_journal_directory_is_judged_too(tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    write_day(tmp_path / "journals", 1, 1000)
    with small_disk(tmp_path / "journals" / "metrics", "size=8m") as disk:
        write_day(disk, 1, 1000)
        answer = run("journal_info", {"journal_dirs": [f"{tmp_path}/journals"]})
    assert {row["mount_point"] == str(disk) for row in answer["disks"]} == {True, False}
    assert answer["kinds"]["metrics"]["files"] == 2


def test_what_another_user_may_not_read_is_unknown(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    for directory in (base.parent, base, tmp_path):
        directory.chmod(0o755)
    journals, closed = tmp_path / "journals", tmp_path / "closed"
    for directory in (journals, closed, journals / "below"):
        directory.mkdir()
        write_day(directory, 1, 1000)
    (journals / "secret_1m.jsonl").write_text("x")
    (journals / "secret_1m.jsonl").chmod(0o600)
    for directory in (closed, journals / "below"):
        directory.chmod(0o700)
    arguments = {"journal_dirs": [str(journals), str(closed)]}
    answer = run("journal_info", arguments, user=NOBODY)
    assert severities(answer, "journal.directory") == ["ok", "unknown"]
    assert severities(answer, "journal.unreadable") == ["unknown"]
    assert [problem["path"] for problem in answer["unreadable"]] == [
        str(journals / "below"),
        str(journals / "secret_1m.jsonl"),
    ]
    assert {problem["reason"] for problem in answer["unreadable"]} == {"Permission denied"}
    assert not findings(run("journal_info", arguments), "journal.unreadable")


def test_the_directories_of_base_yaml_are_surveyed(tmp_path: Path) -> None:
    for name in ("config", "var/log/njord/metrics", "data/journal"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "config" / "base.yaml").write_text(
        "logging: {journal_dir: ./var/log/njord}\npaths: {journal_dir: ./data/journal}\n"
    )
    write_day(tmp_path / "var" / "log" / "njord" / "metrics", 1, 1000)
    answer = run("journal_info", {"config_root": str(tmp_path)})
    assert [(row["path"], row["state"]) for row in answer["directories"]] == [
        (f"{tmp_path}/var/log/njord", "found"),
        (f"{tmp_path}/data/journal", "empty"),
    ]


def test_with_no_directories_at_all_only_disks_are_looked_at(tmp_path: Path) -> None:
    answer = run("journal_info", {"journal_dirs": [], "disk_paths": [str(tmp_path)]})
    assert [finding["check"] for finding in answer["findings"]] == ["disk.free"]


def test_without_a_configuration_nothing_is_clean(tmp_path: Path) -> None:
    answer = run("journal_info", {"config_root": str(tmp_path)})
    assert [(finding["check"], finding["severity"]) for finding in answer["findings"]] == [
        ("journal.configuration", "unknown")
    ]
    assert "journal_dirs" in answer["findings"][0]["remedy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"journal_dirs": ["var/log"]}, "journal_dirs: 'var/log' is relative"),
        ({"config_root": "config"}, "config_root: 'config' is relative"),
        ({"install_root": "."}, "install_root: '.' is relative"),
        ({"disk_paths": ["/", "data"]}, "disk_paths: 'data' is relative"),
        ({"disk_free_warning": "15"}, "disk_free_warning: '15' is neither a share nor a size"),
        ({"days_until_full_critical": 40}, "days_until_full_critical: 40 does not lie between 0 and"),
        ({"largest": 0}, "largest: 0 is too few"),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it(arguments: dict[str, t.Any], said: str) -> None:
    answer = run("journal_info", arguments)
    assert answer["failed"]
    assert said in answer["msg"]
