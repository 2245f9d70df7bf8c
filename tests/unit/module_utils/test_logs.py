# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of journald may go: by their last entry, and only where every unit in them was named."""

from __future__ import annotations

import struct
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _logs
from hypothesis import given
from hypothesis import strategies as st

DAY = 86400.0
NOW = 1_800_000_000.0
ARCHIVED, ONLINE = 2, 1


def journal(path: Path, state: int, entries: int, first: float, last: float) -> Path:
    """A file with the header that journald writes."""
    header = bytearray(b"LPKSHHRH" + bytes(200 + 64))
    header[16] = state
    struct.pack_into("<Q", header, 152, entries)
    struct.pack_into("<QQ", header, 184, int(first * 1e6), int(last * 1e6))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header)
    return path


def going(directory: Path, age: float) -> list[str]:
    return [Path(file.path).name for file in _logs.old(_logs.read([str(directory)]), NOW - age)]


def test_a_file_is_old_when_its_last_entry_is_not_when_its_first_is(tmp_path: Path) -> None:
    journal(tmp_path / "machine" / "system@1.journal", ARCHIVED, 9, NOW - 60 * DAY, NOW - 40 * DAY)
    # journalctl --vacuum-time=30d takes this one.
    journal(tmp_path / "machine" / "system@2.journal", ARCHIVED, 9, NOW - 40 * DAY, NOW - 60)
    assert going(tmp_path, 30 * DAY) == ["system@1.journal"]


def test_what_is_written_to_is_empty_or_was_not_ended_well_stays(tmp_path: Path) -> None:
    old = (NOW - 60 * DAY, NOW - 40 * DAY)
    journal(tmp_path / "system.journal", ONLINE, 9, *old)
    journal(tmp_path / "empty.journal", ARCHIVED, 0, 0, 0)
    journal(tmp_path / "system@3.journal~", ARCHIVED, 9, *old)
    (tmp_path / "other.journal").write_bytes(b"something else" * 100)
    (tmp_path / "short.journal").write_bytes(b"LPKSHHRH")
    assert going(tmp_path, 30 * DAY) == []


@pytest.mark.parametrize(
    ("unit", "is_allowed"),
    [
        ("njord-dashboard.service", True),
        ("prometheus.service", True),
        ("prometheus-node-exporter.service", False),
        ("init.scope", True),
        ("trader.service", False),
        ("kernel", True),
        ("no unit", False),
    ],
)
def test_a_unit_is_named_by_its_name_or_a_pattern_with_or_without_its_ending(unit: str, is_allowed: bool) -> None:
    wanted = _logs.Wanted(("njord-*", "prometheus", "init.scope", "kernel"), 30 * DAY)
    assert wanted.allows(unit) is is_allowed


@pytest.mark.parametrize(
    ("entry", "unit"),
    [
        ({"_SYSTEMD_UNIT": "a.service", "_TRANSPORT": "stdout"}, "a.service"),
        ({"_SYSTEMD_UNIT": ["a.service", "b.service"]}, "a.service"),
        ({"_TRANSPORT": "kernel"}, "kernel"),
        ({"_TRANSPORT": "syslog"}, "no unit"),
        ({}, "no unit"),
    ],
)
def test_every_entry_is_somebody_s(entry: dict[str, t.Any], unit: str) -> None:
    assert _logs.unit_of(entry) == unit


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), st.booleans()), max_size=12))
def test_no_entry_that_is_younger_than_the_age_ever_goes(rows: list[tuple[int, int, bool]]) -> None:
    files = [
        _logs.File(str(number), 1, is_archived, 2, NOW - max(one, two) * DAY, NOW - min(one, two) * DAY)
        for number, (one, two, is_archived) in enumerate(rows)
    ]
    gone = _logs.old(files, NOW - 30 * DAY)
    assert all(file.last < NOW - 30 * DAY and file.is_archived for file in gone)
    assert {file.path for file in files if file.last < NOW - 30 * DAY and file.is_archived} == {
        file.path for file in gone
    }


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, counted: dict[str, int], *, check: bool) -> _logs.Told:
    monkeypatch.setattr(_logs, "count", lambda _paths: counted)
    monkeypatch.setattr(_logs, "rotate", lambda: None)
    monkeypatch.setattr(_logs, "open_files", lambda: (set(), 0))
    return _logs.run(_logs.Wanted(("njord-*",), 30 * DAY), NOW, check, [str(directory)])


def test_a_unit_that_was_not_named_stops_it_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal(tmp_path / "system@1.journal", ARCHIVED, 9, NOW - 60 * DAY, NOW - 40 * DAY)
    told = run(monkeypatch, tmp_path, {"njord-dashboard.service": 4, "trader.service": 5}, check=False)
    assert (told.is_changed, told.steps) == (False, ())
    assert path.exists()
    assert "trader.service (5)" in told.findings[0].summary
    assert "njord-dashboard" not in told.findings[0].summary


def test_a_check_says_what_a_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal(tmp_path / "system@1.journal", ARCHIVED, 9, NOW - 60 * DAY, NOW - 40 * DAY)
    planned = run(monkeypatch, tmp_path, {"njord-dashboard.service": 9}, check=True)
    assert path.exists()
    done = run(monkeypatch, tmp_path, {"njord-dashboard.service": 9}, check=False)
    assert not path.exists()
    assert planned.steps == done.steps
    assert (planned.before, planned.after) == (done.before, done.after)


def test_a_file_that_a_process_has_open_stays_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal(tmp_path / "system@1.journal", ARCHIVED, 9, NOW - 60 * DAY, NOW - 40 * DAY)
    file = _logs.read([str(tmp_path)])[0]
    status = path.stat()
    monkeypatch.setattr(_logs, "open_files", lambda: ({(status.st_dev, status.st_ino)}, 0))
    assert _logs.remove([file]) == [str(path)]
    assert path.exists()


def test_a_file_that_changed_since_it_was_read_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal(tmp_path / "system@1.journal", ARCHIVED, 9, NOW - 60 * DAY, NOW - 40 * DAY)
    file = _logs.read([str(tmp_path)])[0]
    journal(path, ARCHIVED, 10, NOW - 60 * DAY, NOW - 1)
    monkeypatch.setattr(_logs, "open_files", lambda: (set(), 0))
    assert _logs.remove([file]) == [str(path)]
    assert path.exists()
