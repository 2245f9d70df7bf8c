# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults, argument specifications and entry points of every role say the same."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).resolve().parents[2] / "roles").iterdir() if path.is_dir())
# What a specification says of a default that is computed.
COMPUTED = ("{{",)


def read(path: Path) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load(path.read_text()))


def specs(role: Path) -> dict[str, dict[str, t.Any]]:
    return t.cast("dict[str, dict[str, t.Any]]", read(role / "meta" / "argument_specs.yml")["argument_specs"])


def entry_points(role: Path) -> set[str]:
    """The files of tasks that are not included by another one of the role."""
    files = {path.stem: path.read_text() for path in (role / "tasks").glob("*.yml")}
    return {name for name in files if not any(f"_tasks: {name}.yml" in text for text in files.values())}


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    return t.cast(Path, request.param)


def test_every_entry_point_has_a_specification(role: Path) -> None:
    assert set(specs(role)) == entry_points(role)


def test_every_role_can_be_taken_away_again(role: Path) -> None:
    assert {"main", "uninstall"} <= entry_points(role)


def test_every_default_is_specified_and_the_other_way_round(role: Path) -> None:
    assert set(read(role / "defaults" / "main.yml")) == set(specs(role)["main"]["options"])


def test_defaults_and_specification_name_the_same_value(role: Path) -> None:
    defaults = read(role / "defaults" / "main.yml")
    for name, option in specs(role)["main"]["options"].items():
        if not str(defaults[name]).startswith(COMPUTED) and not option.get("required"):
            assert option["default"] == defaults[name], name


def test_every_entry_point_specifies_only_options_of_the_role(role: Path) -> None:
    for name, spec in specs(role).items():
        for option, content in spec["options"].items():
            main = specs(role)["main"]["options"][option]
            assert {key: content.get(key) for key in ("type", "default")} == {
                key: main.get(key) for key in ("type", "default")
            }, (name, option)


def test_every_option_starts_with_the_name_of_the_role_and_is_described(role: Path) -> None:
    for spec in specs(role).values():
        assert spec["short_description"] and spec["description"]
        for name, option in spec["options"].items():
            assert name.startswith(f"{role.name}_"), name
            assert option["type"] and option["description"], name


def test_every_variable_that_tasks_set_starts_with_the_name_of_the_role(role: Path) -> None:
    variables = role / "vars" / "main.yml"
    for name in read(variables) if variables.exists() else ():
        assert name.startswith(f"{role.name}_"), name
