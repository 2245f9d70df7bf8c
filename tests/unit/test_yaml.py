# SPDX-License-Identifier: GPL-3.0-or-later
"""Our reader of YAML for hosts without a library, judged by PyYAML; and what we write as YAML, read by it."""

from __future__ import annotations

import typing as t

import yaml
from ansible_collections.njord.telemetry.plugins.module_utils import _yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration import scrape_intervals
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
VALUES = st.recursive(
    TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), st.integers(20, 200), st.booleans())
def test_what_a_program_writes_is_read_as_it_was_or_refused_and_never_guessed(
    value: dict[str, t.Any], width: int, unicode: bool
) -> None:
    written = yaml.safe_dump(value, width=width, allow_unicode=unicode)
    try:
        found = _yaml.read(written)
    except ValueError:
        return
    assert found == value


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
        st.lists(st.from_regex(r"[a-z][a-z0-9:._/-]{0,11}[a-z0-9]", fullmatch=True), min_size=1, max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_names_in_lists_are_always_read(value: dict[str, list[str]]) -> None:
    assert _yaml.read(yaml.safe_dump(value)) == value


def test_the_proposed_variable_is_yaml_as_an_inventory_has_it() -> None:
    wanted = {"fast": {"interval": "5s", "metrics": ["fills_total", "own", "size"]}}
    for value in (wanted, {}):
        assert yaml.safe_load(scrape_intervals.text(value)) == {"prometheus_exporter_intervals": value}
