# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of Grafana ask of Prometheus, wherever in them it stands."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.reads import Reads
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.dashboards import Dashboards, read

Row = t.Dict[str, t.Any]


def panel(*expressions: str, **more: t.Any) -> Row:
    return {"title": "P", "targets": [{"expr": one} for one in expressions], **more}


def board(*panels: Row, variables: t.Sequence[Row] = (), **more: t.Any) -> Row:
    return {"title": "Board", "panels": list(panels), "templating": {"list": list(variables)}, **more}


def query(text: t.Any, name: str = "v", **more: t.Any) -> Row:
    return {"name": name, "type": "query", "query": text, **more}


@pytest.fixture
def put(tmp_path: Path) -> t.Callable[..., Dashboards]:
    """Reads a directory that holds these documents."""

    def put_and_read(*documents: t.Any) -> Dashboards:
        for number, document in enumerate(documents):
            (tmp_path / f"{number}.json").write_text(json.dumps(document))
        return read([str(tmp_path)])

    return put_and_read


def names(found: Dashboards) -> set[str]:
    return {name for one in found.queries for name in one.reads().names}


Put = t.Callable[..., Dashboards]


def test_every_place_of_a_query_is_read(put: Put) -> None:
    hidden = panel("plain")
    hidden["targets"].append({"expr": "hidden", "hide": True})
    row = {"type": "row", "title": "Row", "panels": [panel("in_a_row")]}
    old = {"title": "Old", "rows": [{"panels": [panel("of_an_old_row")]}]}
    annotations = {"list": [{"name": "old", "expr": "old_note"}, {"name": "new", "target": {"expr": "new_note"}}]}
    alert = {"groups": [{"rules": [{"title": "A", "data": [{"refId": "A", "model": {"expr": "of_an_alert"}}]}]}]}
    wrapped = {"meta": {}, "dashboard": board(panel("wrapped"))}
    found = put(board(hidden, row, annotations=annotations), old, alert, wrapped)
    assert names(found) == {
        "plain", "hidden", "in_a_row", "of_an_old_row", "old_note", "new_note", "of_an_alert", "wrapped",
    }  # fmt: skip
    assert (len(found.files), found.others, found.problems, found.empty) == (4, [], {}, [])
    assert found.queries[0].where.endswith("0.json: P")


def test_variables_ask_too(put: Put) -> None:
    variables = [
        query('label_values(a{job=~"$job"}, instance)', "one"),
        query({"query": "query_result(topk(5, b))", "refId": "x"}, "two"),
        query("", "three", definition="label_values(c, x)"),
        query("d{job='x'}", "four"),
        query("label_values(instance)", "five"),
        query("metrics(njord_.*)", "six"),
        query("label_names()", "seven"),
        query("SELECT 1", "eight", datasource={"type": "loki"}),
        {"name": "nine", "type": "custom", "query": "e,f"},
    ]
    found = put(board(variables=variables))
    assert names(found) == {"a", "b", "c", "d"}
    assert len(found.queries) == 4
    assert "the variable one" in found.queries[0].where


@pytest.mark.parametrize(
    ("expression", "variables", "expected"),
    [
        ("rate(a[$__rate_interval]) / $__range_s + $__from", [], {"a"}),
        ("rate(a[[[w]]]) + rate(b[${w}]) + rate(c[$w:$__interval])", [query("x", "w")], {"a", "b", "c"}),
        ('a{x=~"${v:regex}", y=\'[[v:pipe]]\', z!="$v"}', [query("label_values(z)")], {"a"}),
        ("topk($n, a)", [{"name": "n", "type": "custom", "query": "all : 5, 10"}], {"a"}),
        ("a > $n", [{"name": "n", "type": "textbox", "query": "3.5"}], {"a"}),
        ("njord_${k}_total", [{"name": "k", "type": "custom", "query": "x, y"}], {"njord_x_total", "njord_y_total"}),
        ("${p}_up", [{"name": "p", "type": "constant", "query": "njord"}], {"njord_up"}),
        ("$f(rate(a[$i])) by ($g)", [{"name": "f", "type": "custom", "query": "sum,max"}], {"a"}),
    ],
)
def test_variables_are_filled_in(put: Put, expression: str, variables: list[Row], expected: set[str]) -> None:
    found = put(board(panel(expression), variables=variables)).queries[-1].reads()
    assert found == Reads(names=frozenset(expected))


@pytest.mark.parametrize("kind", ["query", "textbox"])
def test_a_variable_that_may_be_a_metric_may_be_any(put: Put, kind: str) -> None:
    found = put(board(panel("sum($v)"), variables=[{"name": "v", "type": kind, "query": "metrics(njord_.*)"}]))
    assert found.queries[-1].reads().anything


def test_other_kinds_of_data_sources_are_left_out_where_that_is_said(put: Put) -> None:
    logs = '{app="x"} |= "error"'
    by_input = {"__inputs": [{"name": "DS", "pluginId": "loki"}], **board(panel(logs, datasource="${DS}"))}
    variables = [{"name": "ds", "type": "datasource", "query": "loki"}]
    of_a_target = {"title": "T", "targets": [{"expr": logs, "datasource": {"type": "loki", "uid": "u"}}, {"expr": "a"}]}
    found = put(
        board(panel(logs, datasource={"type": "loki", "uid": "u"}), of_a_target),
        board(panel(logs, datasource={"uid": "$ds"}), variables=variables),
        by_input,
        board(panel("b", datasource={"type": "prometheus"}), panel("c", datasource="My Prometheus")),
        board(panel("d", datasource={"type": "datasource", "uid": "-- Mixed --"})),
    )
    assert {one.text for one in found.queries} == {"a", "b", "c", "d"}


def test_a_library_panel_is_known_from_any_of_the_files(put: Put) -> None:
    uses = board({"id": 1, "libraryPanel": {"uid": "lib", "name": "L"}}, {"libraryPanel": {"uid": "gone", "name": "G"}})
    found = put(uses, {"result": {"elements": [{"uid": "lib", "name": "L", "model": panel("a")}]}})
    assert names(found) == {"a"}
    assert list(found.problems.values()) == ["the library panel gone is in none of the files"]
    exported = {"__elements": {"gone": {"uid": "gone", "name": "G", "model": panel("b")}}, **uses}
    assert put(exported).problems == {}


def test_what_cannot_be_read_is_a_problem(put: Put, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    found = put({"apiVersion": "dashboard.grafana.app/v2beta1", "spec": {}}, {"name": "no dashboard"})
    assert {Path(path).name: reason.split(":")[0] for path, reason in found.problems.items()} == {
        "broken.json": "it is no JSON that can be read",
        "deep.json": "it is no JSON that can be read",
        "0.json": "it has the second schema of Grafana, which is not read; export it as classic",
    }
    assert found.empty == [str(tmp_path)]
    absent = str(tmp_path / "none.json")
    assert read([absent]).problems == {absent: "it cannot be read: No such file or directory"}
