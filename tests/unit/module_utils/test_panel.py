# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dashboard's JSON says of its panels, and how an expression looks once its variables are filled in."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.panel import (
    filled,
    moment,
    panels,
    used,
)

TARGETS = [{"expr": "up", "refId": "A"}, {"expr": "hidden", "hide": True}]


def board(*rows: dict[str, t.Any], **more: t.Any) -> str:
    return json.dumps({"panels": list(rows), **more})


def test_panels_with_queries_are_found_in_rows_too_and_hidden_queries_are_not() -> None:
    row = {"type": "row", "title": "row", "panels": [{"title": "inner", "targets": TARGETS}]}
    found = panels(board(row, {"title": "text"}, {"title": "outer", "targets": TARGETS}))
    assert [(panel.title, panel.expressions) for panel in found] == [("inner", ("up",)), ("outer", ("up",))]
    assert found[0].range == ("now-6h", "now")


def test_one_is_chosen_by_its_title_or_its_number_and_another_is_an_error_with_those_there_are() -> None:
    text = board({"id": 1, "title": "a", "targets": TARGETS}, {"id": 2, "title": "b", "targets": TARGETS})
    assert [panel.title for panel in panels(text, "b")] == ["b"]
    assert [panel.title for panel in panels(text, "1")] == ["a"]
    with pytest.raises(ValueError, match="there are: 'a', 'b'"):
        panels(text, "c")


@pytest.mark.parametrize("text", ["[]", "{", '{"panels": 1}', '{"title": "x"}', '"x"', '{"dashboard": []}'])
def test_what_is_no_dashboard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|no dashboard"):
        panels(text)


@pytest.mark.parametrize(
    ("source", "kind", "variable"),
    [
        (None, "", ""),
        ("Prometheus", "", ""),
        ("$source", "", "source"),
        ({"type": "loki", "uid": "x"}, "loki", ""),
        ({"type": "prometheus", "uid": "${DS_PROMETHEUS}"}, "prometheus", "DS_PROMETHEUS"),
    ],
)
def test_the_data_source_is_read_in_every_spelling(source: t.Any, kind: str, variable: str) -> None:
    (of_panel,) = panels(board({"title": "a", "datasource": source, "targets": TARGETS}))
    (of_target,) = panels(board({"title": "a", "targets": [{"expr": "up", "datasource": source}]}))
    for panel in (of_panel, of_target):
        assert (panel.source, panel.source_variable) == (kind, variable)


def test_variables_are_those_of_the_dashboard_as_the_api_wraps_it() -> None:
    rows = [
        {"name": "a", "type": "query", "query": {"query": "label_values(up, job)"}, "current": {"value": ["x", "y"]}},
        {"name": "b", "type": "query", "definition": "label_values(instance)", "current": {}},
        {"name": "c", "type": "custom", "query": "1,2", "current": {"value": "1"}},
    ]
    wrapped = {"dashboard": {"templating": {"list": rows}, "panels": [{"title": "a", "targets": TARGETS}]}}
    (panel,) = panels(json.dumps(wrapped))
    assert panel.variables["a"].values == ("x", "y")
    assert panel.variables["a"].label_values == ("up", "job")
    assert (panel.variables["b"].values, panel.variables["b"].label_values) == ((), ("", "instance"))
    assert (panel.variables["c"].values, panel.variables["c"].label_values) == (("1",), None)


def test_variables_are_filled_in_as_grafana_does() -> None:
    text = 'rate(x{a="$a",b=~"${b:regex}",c=~"[[c]]"}[$__rate_interval]) / $__range_s'
    assert used(text) == ["a", "b", "c"]
    values = {"a": ["one"], "b": ["x.y", "z"]}
    assert filled(text, values, 3600, 15) == 'rate(x{a="one",b=~"(x\\\\.y|z)",c=~"[[c]]"}[60s]) / 3600'


def test_a_time_of_a_dashboard_is_read_or_named() -> None:
    assert moment("now", 100.0) == 100.0
    assert moment("now-6h", 100000.0) == 100000.0 - 21600
    assert moment("now-1d/d", 100000.0) == 100000.0 - 86400
    assert moment("2020-01-01T00:00:00Z", 0.0) == moment("1577836800000", 0.0) == 1577836800.0
    with pytest.raises(ValueError, match="'yesterday' is no time of a dashboard"):
        moment("yesterday", 0.0)
