# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as a user finds them: their documentation, and the groups that share connection options."""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
FRAGMENTS = {path.stem for path in (ROOT / "plugins" / "doc_fragments").glob("*.py")}
GROUPS: dict[str, list[str]] = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]


def documentation(path: Path) -> dict[str, t.Any]:
    text = next(
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION"
    )
    document: dict[str, t.Any] = yaml.safe_load(text)
    return document


def servers(path: Path) -> set[str]:
    """The servers whose connection options a module documents."""
    extends = documentation(path)["extends_documentation_fragment"]
    return {name.split(".")[2] for name in extends} & (FRAGMENTS - {"attributes"})


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_a_module_stands_in_the_group_of_each_server_that_it_asks_and_in_no_other(path: Path) -> None:
    assert {group for group, members in GROUPS.items() if path.stem in members} == servers(path)


def test_every_group_is_a_server_with_options_of_its_own() -> None:
    assert set(GROUPS) == FRAGMENTS - {"attributes"}


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_a_module_says_what_it_does_in_check_mode(path: Path) -> None:
    assert "njord.telemetry.attributes" in documentation(path)["extends_documentation_fragment"]
