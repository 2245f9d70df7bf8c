# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheelhouse of the exporter: what another machine's Python needs, and when it is built anew."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "roles" / "exporter" / "files" / "wheelhouse.py"


@pytest.fixture(scope="module")
def wheelhouse() -> t.Any:
    spec = importlib.util.spec_from_file_location("wheelhouse", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheelhouse"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    # The name of a folder above it must not matter.
    directory = tmp_path / "build" / "exporter"
    directory.mkdir(parents=True)
    (directory / "pyproject.toml").write_text("[project]\n")
    return directory


@pytest.mark.parametrize(
    ("text", "extras", "python", "needed"),
    [
        ('async-timeout>=4; python_full_version < "3.11.3"', set(), "3.11.2", True),
        ('async-timeout>=4; python_full_version < "3.11.3"', set(), "3.11.7", False),
        ('hiredis>=3; extra == "hiredis"', {"hiredis"}, "3.13.5", True),
        ('hiredis>=3; extra == "hiredis"', set(), "3.13.5", False),
        ('colorama; sys_platform == "win32"', set(), "3.13.5", False),
        ("pyyaml>=6", set(), "3.13.5", True),
    ],
)
def test_markers_are_those_of_the_other_machine(
    wheelhouse: t.Any, text: str, extras: set[str], python: str, needed: bool
) -> None:
    assert wheelhouse.Target(python, "x86_64").needs(Requirement(text), extras) is needed


def test_what_it_is_made_from_decides_its_place(wheelhouse: t.Any, source: Path) -> None:
    target = wheelhouse.Target("3.13.5", "x86_64")
    first = wheelhouse.digest(source, target)
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / ".mypy_cache").mkdir()
    (source / ".mypy_cache" / "x").write_bytes(b"x")
    assert wheelhouse.digest(source, target) == first
    others = [wheelhouse.Target("3.11.2", "x86_64"), wheelhouse.Target("3.13.5", "aarch64")]
    assert len({first, *(wheelhouse.digest(source, other) for other in others)}) == 3
    (source / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert wheelhouse.digest(source, target) != first


def test_a_copy_elsewhere_has_the_same_place(wheelhouse: t.Any, source: Path, tmp_path: Path) -> None:
    target = wheelhouse.Target("3.13.5", "x86_64")
    copy = shutil.copytree(source, tmp_path / "copy")
    assert wheelhouse.digest(copy, target) == wheelhouse.digest(source, target)


def look(source: Path, directory: Path) -> dict[str, t.Any]:
    command: list[str | Path] = [sys.executable, SCRIPT, source, directory, "3.13.5", "x86_64", "--look"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return t.cast("dict[str, t.Any]", json.loads(done.stdout))


def test_to_look_writes_nothing(source: Path, tmp_path: Path) -> None:
    seen = look(source, tmp_path / "houses")
    assert (seen["built"], seen["files"], seen["id"]) == (False, [], "")
    assert not (tmp_path / "houses").exists()


def test_what_is_there_is_told_by_what_it_holds(source: Path, tmp_path: Path) -> None:
    place = Path(look(source, tmp_path)["path"])
    place.mkdir()
    (place / "requirements.txt").write_text("one==1\n")
    first = look(source, tmp_path)
    (place / "requirements.txt").write_text("one==2\n")
    assert first["id"] and first["id"] != look(source, tmp_path)["id"]
