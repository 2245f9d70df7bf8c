# SPDX-License-Identifier: GPL-3.0-or-later
"""A clean-up on real file systems: one that fills up in the middle of it, and several in one tree."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal import clean as clean_module

from tests.testbench.disk import small_disk
from tests.unit.module_utils.journals import (
    DAY,
    KEPT,
    MINUTE,
    OURS,
    TODAY,
    Figures,
    Group,
    aggregated,
    assert_same_groups,
    by_bucket,
    found,
    run,
    snapshot,
    stamp,
    write,
)

KB = 1024


def fill(root: Path) -> None:
    """Two days to be rolled up, one of them with late lines, one to be compressed, and one that expires."""
    for age in (1, 3, 4, 9, 60):
        lines = [
            aggregated((TODAY - age) * DAY + minute * MINUTE, f"m{series}", value=minute * series / 7)
            for minute in range(0, 1440, 5)
            for series in range(5)
        ]
        write(root, f"m_1m.{stamp(TODAY - age)}.ndjson", b"".join(lines))
    write(root, f"m_1m.{stamp(TODAY - 1)}.1.ndjson", aggregated((TODAY - 3) * DAY, value=5.0))


def room(disk: Path, left: int) -> Path:
    """Takes all but so many bytes of a disk."""
    taken = disk / "core"
    with taken.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4 * KB))
    with taken.open("r+b") as file:
        file.truncate(taken.stat().st_size - left)
    return taken


def hours(root: Path) -> dict[Group, list[Figures]]:
    return {group: by_bucket(figures, 3600) for group, figures in found(root).items()}


@pytest.mark.parametrize("left", [0, 4 * KB, 20 * KB, 60 * KB, 120 * KB, 200 * KB])
def test_a_disk_that_fills_up_in_the_middle_leaves_everything_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    with small_disk(tmp_path / "small", "size=4m") as disk:
        root = disk / "journals"
        fill(root)
        (root / f"m_1m.{stamp(TODAY - 60)}.ndjson").unlink()
        before, taken = hours(root), room(disk, left)
        # As if it was filled after that had been looked at.
        monkeypatch.setattr(clean_module, "_free", lambda _path: 10**12)
        result = run(root)
        assert result.is_worse_than("warning")
        assert any("No space left on device" in note.summary for note in result.notes)
        assert all("nothing is lost" in note.summary for note in result.notes)
        assert "left" in {action.state for action in result.actions} | {"left" * (not result.is_complete)}
        assert_same_groups(hours(root), before)
        taken.unlink()
        again = run(root)
        assert again.notes == []
        assert {action.state for action in again.actions} == {"done"}
        assert_same_groups(hours(root), before)
        assert not [path for path in root.rglob(f"{OURS}*") if path.name not in KEPT]
        assert run(root).actions == []


def test_where_there_is_too_little_room_it_says_how_much_it_needs_and_does_what_fits(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=4m") as disk:
        fill(disk)
        room(disk, 100 * KB)
        before = snapshot(disk)
        result = run(disk)
        short = [note for note in result.notes if "bytes of the disk" in note.summary]
        assert {note.severity for note in short} == {"critical"}
        states = {action.subject: (action.action, action.state) for action in result.actions}
        # What only goes needs no room.
        assert states.pop(f"m_1m.{stamp(TODAY - 60)}.ndjson") == ("expire", "done")
        left = [subject for subject, (_action, state) in states.items() if state == "left"]
        assert left
        assert {name: snapshot(disk)[name] for name in left} == {name: before[name] for name in left}


def test_a_disk_without_inodes_leaves_everything_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=8m,nr_inodes=40") as disk:
        fill(disk)
        before = snapshot(disk)
        with contextlib.suppress(OSError):
            for number in range(100):
                (disk / f"{number}.txt").touch()
        result = run(disk)
        assert result.is_worse_than("warning")
        after = snapshot(disk)
        assert {name: after[name] for name in before} == before
        for path in disk.glob("*.txt"):
            path.unlink()
        assert run(disk).notes == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_directory_on_another_file_system_is_cleaned_up_there(tmp_path: Path, jobs: int) -> None:
    root = tmp_path / "journals"
    fill(root)
    with small_disk(root / "metrics", "size=8m") as disk:
        fill(disk)
        result = run(root, jobs=jobs)
        assert result.notes == []
        assert {action.state for action in result.actions} == {"done"}
        here, there = ({path.name for path in place.glob("m_*")} for place in (root, disk))
        assert here == there
        groups = hours(root)
        assert_same_groups(
            {("", "", ""): groups[".", "m", ".ndjson"]}, {("", "", ""): groups["metrics", "m", ".ndjson"]}
        )
        assert run(root, jobs=jobs).actions == []
