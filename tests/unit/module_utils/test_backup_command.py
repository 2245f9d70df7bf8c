# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command ``njord-backup`` tells the service manager and Prometheus by, where it ends otherwise than meant."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import about, command, settings
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Failed


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    path = tmp_path / "settings.json"
    found = {"catalogue": str(tmp_path / "catalogue"), "textfile": str(tmp_path / "njord_backup.prom")}
    path.write_text(json.dumps(found))
    Catalogue(found["catalogue"]).make()
    return ["backup", "--settings", str(path)]


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def job(*_arguments: object) -> t.NoReturn:
        raise error

    monkeypatch.setattr(settings, "job", job)


def test_what_is_left_undone_is_one_and_a_crash_is_another(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, Failed("the disk is gone"))
    assert command.main(arguments) == command.UNDONE
    fails(monkeypatch, KeyError("a fault"))
    assert command.main(arguments) == command.CRASHED
    said = capsys.readouterr()
    assert "KeyError: 'a fault'" in said.err
    assert "backup crashed, which is a fault of njord-backup itself" in said.out
    assert "njord_backup_success 0.0" in (tmp_path / "njord_backup.prom").read_text()


def test_a_crash_while_prometheus_is_told_is_a_crash(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(*_arguments: object) -> t.NoReturn:
        raise KeyError("another fault")

    fails(monkeypatch, Failed("the disk is gone"))
    monkeypatch.setattr(about, "tell", tell)
    assert command.main(arguments) == command.CRASHED
    assert "another fault" in capsys.readouterr().err


def test_settings_that_cannot_be_read_are_neither(tmp_path: Path) -> None:
    assert command.main(["backup", "--settings", str(tmp_path / "none.json")]) == command.WRONG
