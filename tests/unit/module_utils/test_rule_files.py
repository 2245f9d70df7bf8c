# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of rules on the disk against those that a server has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration.rule_files import (
    Look,
    NotRead,
    look,
)

RULE = "groups: [{name: g, rules: [{record: a, expr: '1'}]}]"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    for name in ("one.yml", "two.yml", ".hidden.yml", "other.txt"):
        (tmp_path / name).write_text(RULE)
        os.utime(tmp_path / name, (100, 100))
    return tmp_path


def loaded(rules: Path, *names: str) -> set[str]:
    return {str(rules / name) for name in names}


def test_what_is_loaded_as_it_is_on_the_disk_is_well(rules: Path) -> None:
    found = look(["*.yml"], rules, loaded(rules, "one.yml", "two.yml", ".hidden.yml"), 100.0)
    assert found == Look([], [], {}, [], 3)
    assert found.is_well


def test_what_is_missing_on_either_side_is_named(rules: Path) -> None:
    found = look([f"{rules}/[ot]*.yml", "none/*.yml", "none.yml"], rules, loaded(rules, "one.yml", "old.yml"), 100.0)
    assert found.empty == ["none/*.yml", "none.yml"]
    assert found.not_loaded == [str(rules / "two.yml")]
    assert found.gone == [str(rules / "old.yml")]


def test_a_file_without_rules_needs_no_reload_and_one_in_json_does(rules: Path) -> None:
    (rules / "one.yml").write_text("groups: []\n# no alert here\n")
    (rules / "two.yml").write_text('{"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "1"}]}]}')
    found = look(["one.yml", "two.yml"], rules, set(), None)
    assert found.not_loaded == [str(rules / "two.yml")]


def test_a_change_after_the_last_reload_is_named_with_its_time(rules: Path) -> None:
    os.utime(rules / "one.yml", (200, 200))
    known = loaded(rules, "one.yml", "two.yml")
    assert look(["o*.yml", "t*.yml"], rules, known, 150.0).changed == {str(rules / "one.yml"): 200.0}
    assert look(["o*.yml", "t*.yml"], rules, known, None).changed == {}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("[^o]*.yml", {"two.yml", ".hidden.yml"}), ("?wo.yml", {"two.yml"}), ("*/../one.yml", set())],
)
def test_a_pattern_fits_what_it_fits_in_go(rules: Path, pattern: str, names: set[str]) -> None:
    assert {Path(name).name for name in look([pattern], rules, set(), None).not_loaded} == names


def test_a_pattern_over_directories_is_followed(rules: Path) -> None:
    (rules / "a").mkdir()
    (rules / "a" / "in.yml").write_text(RULE)
    assert look(["*/*.yml"], rules, set(), None).not_loaded == [str(rules / "a" / "in.yml")]


def test_what_is_not_read_here_is_said_to_be_so(rules: Path) -> None:
    with pytest.raises(NotRead, match="which is not read here"):
        look(["a\\*.yml"], rules, set(), None)
    (rules / "directory.yml").mkdir()
    with pytest.raises(NotRead, match="Is a directory"):
        look(["*.yml"], rules, set(), None)
