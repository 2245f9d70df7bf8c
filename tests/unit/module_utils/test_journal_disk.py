# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._disk import (
    FileSystem,
    Limits,
    Room,
    file_system,
    forecast_finding,
    free_finding,
    room,
)

GB = 1024**3
DISK = FileSystem("/var", 1, 100 * GB, 80 * GB, 20 * GB, 1000, 900)
LIMITS = Limits(Room(percent=15), Room(percent=5), 30, 7)
NOW = 1_760_000_000.0


def free(free_bytes: int, inodes: int = DISK.inodes, inodes_free: int = DISK.inodes_free) -> str:
    used_bytes = 100 * GB - free_bytes
    disk = dataclasses.replace(
        DISK, free_bytes=free_bytes, used_bytes=used_bytes, inodes=inodes, inodes_free=inodes_free
    )
    return free_finding(disk, LIMITS, "more room").severity


def test_a_threshold_is_a_share_or_a_size() -> None:
    assert room(" 12.5 %") == Room(percent=12.5)
    assert room("10GB") == Room(bytes=10 * GB)


@pytest.mark.parametrize("text", ["15", "101%", "-1%", "much", ""])
def test_another_threshold_is_refused_with_one_that_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="15% or 10GB would do"):
        room(text)


def test_a_disk_is_judged_by_what_is_left() -> None:
    assert [free(size * GB) for size in (20, 15, 14, 5, 4, 0)] == [
        "ok", "ok", "warning", "warning", "critical", "critical",
    ]  # fmt: skip


def test_a_disk_without_inodes_is_full_whatever_its_bytes_say() -> None:
    assert free(90 * GB, inodes_free=100) == "warning"
    assert free(90 * GB, inodes_free=10) == "critical"
    assert free(90 * GB, inodes=0, inodes_free=0) == "ok"


def test_a_threshold_in_bytes_holds_for_bytes() -> None:
    limits = dataclasses.replace(LIMITS, free_warning=Room(bytes=25 * GB), free_critical=Room(bytes=10 * GB))
    finding = free_finding(DISK, limits, "more room")
    assert (finding.severity, finding.remedy) == ("warning", "more room")
    assert finding.evidence["figures"]["disk_free_percent"] == 20


@pytest.mark.parametrize(("growth", "severity"), [(0.1, "ok"), (1.0, "warning"), (4.0, "critical")])
def test_the_forecast_is_judged_by_the_days_that_are_left(growth: float, severity: str) -> None:
    finding = forecast_finding(DISK, [(0, 1.0)], growth * GB, 14, 0.0, NOW, LIMITS, "more room")
    assert finding.severity == severity
    assert finding.evidence["figures"]["disk_until_full_days"] == round(20 / growth, 1)
    assert f"{20 / growth:.0f} days" in finding.summary


def test_a_forecast_from_the_times_of_files_says_so() -> None:
    guessed, known = (forecast_finding(DISK, [], GB, 14, share, NOW, LIMITS, "").summary for share in (0.4, 0.0))
    assert "last change stood in for the time of 40% of the bytes" in guessed
    assert "last change" not in known


def test_the_chart_goes_back_by_what_came_and_forward_to_the_day_it_is_full() -> None:
    by_day = [(1_759_795_200, 2.0 * GB), (1_759_881_600, 2.0 * GB), (1_759_968_000, 1.0 * GB)]
    chart = forecast_finding(DISK, by_day, 2.0 * GB, 2, 0.0, NOW, LIMITS, "").evidence["chart"]
    measured, forecast = chart["lines"]
    assert measured["points"] == [
        [1_759_795_200, 75 * GB],
        [1_759_881_600, 77 * GB],
        [1_759_968_000, 79 * GB],
        [NOW, 80 * GB],
    ]
    assert forecast["points"] == [[NOW, 80 * GB], [NOW + 10 * 86400, 100 * GB]]
    assert chart["limits"] == [{"label": "full", "value": 100 * GB}]


@pytest.mark.parametrize(
    ("growth", "days", "said"), [(None, 1, "one complete day"), (None, 0, "no complete day"), (0.0, 14, "nothing")]
)
def test_a_growth_that_is_not_known_gives_no_number(growth: float | None, days: int, said: str) -> None:
    finding = forecast_finding(DISK, [(0, 1.0)], growth, days, 0.0, NOW, LIMITS, "")
    assert finding.severity == "unknown"
    assert said in finding.summary
    assert "figures" not in finding.evidence
    assert [line["style"] for line in finding.evidence["chart"]["lines"]] == ["measured"]


def test_a_file_system_is_found_by_any_path_on_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    disk = file_system(str(tmp_path / "below"))
    assert Path(disk.mount_point).is_mount()
    assert disk.device == tmp_path.stat().st_dev
    assert abs(disk.free_bytes - shutil.disk_usage(tmp_path).free) < GB
    assert file_system(str(tmp_path)).mount_point == disk.mount_point
