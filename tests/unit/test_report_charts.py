# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever numbers and labels come, a chart is well-formed SVG inside its frame, and what is left out is said."""

from __future__ import annotations

import math
import re
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.njord.telemetry.plugins.plugin_utils._report import charts, units
from hypothesis import given, settings
from hypothesis import strategies as st

SVG = "{http://www.w3.org/2000/svg}"
COORDINATES = ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "points")

anything = st.one_of(
    st.floats(), st.integers(), st.integers(10**300, 10**330), st.none(), st.booleans(), st.text(max_size=5)
)
times = st.one_of(anything, st.floats(1.7e9, 1.9e9), st.integers(1_700_000_000, 1_900_000_000))
labels = st.one_of(st.text(max_size=80), st.just("<script>&\"'</title>"), st.none())
UNITS = st.sampled_from(["bytes", "seconds", "ratio", "percent", "", "series", "time", "<b>"])

bars = st.fixed_dictionaries(
    {"kind": st.just("bars"), "title": labels, "unit": UNITS, "bars": st.lists(
        st.one_of(st.none(), st.fixed_dictionaries({"label": labels, "value": anything}, optional={"limit": anything})),
        max_size=30,
    )}
)  # fmt: skip
lines = st.fixed_dictionaries(
    {"kind": st.just("lines"), "title": labels, "unit": UNITS, "lines": st.lists(
        st.fixed_dictionaries({
            "label": labels,
            "points": st.lists(st.one_of(st.none(), st.tuples(times, anything).map(list)), max_size=20),
            "style": st.sampled_from(["measured", "forecast", "?"]),
        }),
        max_size=9,
    )},
    optional={"limits": st.lists(st.fixed_dictionaries({"label": labels, "value": anything}), max_size=3)},
)  # fmt: skip
spans = st.fixed_dictionaries({"start": times, "end": times, "state": st.sampled_from(["firing", "pending", "?"])})
timelines = st.fixed_dictionaries(
    {"kind": st.just("timeline"), "title": labels, "start": times, "end": times, "rows": st.lists(
        st.fixed_dictionaries({"label": labels, "spans": st.lists(spans, max_size=6)}), max_size=25
    )}
)  # fmt: skip


def elements(svg: str) -> list[ET.Element]:
    return list(ET.XML(svg).iter())


def check(drawing: charts.Drawing) -> None:
    """Well formed, named for those who do not see it, nothing outside its frame, no number that is none."""
    if not drawing.svg:
        return
    root, *parts = elements(drawing.svg)
    assert [part.tag for part in parts[:2]] == [f"{SVG}title", f"{SVG}desc"]
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert height > 0
    for part in parts:
        assert part.tag in {
            f"{SVG}{name}" for name in ("title", "desc", "text", "line", "rect", "circle", "polyline", "polygon")
        }
        for name in set(COORDINATES) & set(part.attrib):
            for number in map(float, re.split("[ ,]", part.attrib[name])):
                assert math.isfinite(number)
                assert -8 <= number <= max(width, height) + 8


@settings(max_examples=300, deadline=None)
@given(st.one_of(bars, lines, timelines))
def test_any_numbers_and_labels_give_a_sound_drawing(chart: dict[str, t.Any]) -> None:
    drawing = charts.draw(chart)
    check(drawing)
    assert all(len(row) == len(drawing.header) for row in drawing.rows)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 4e9), st.floats(-1e100, 1e100)), min_size=1, max_size=40), labels)
def test_any_past_gives_a_sound_spark(values: list[tuple[float, float]], title: str | None) -> None:
    for part in elements(charts.spark(values, title or "")):
        for name in set(COORDINATES) & set(part.attrib):
            assert all(0 <= float(number) <= 200 for number in re.split("[ ,]", part.attrib[name]))


@pytest.mark.parametrize("chart", [None, "bars", [], {}, {"kind": "pie"}, {"kind": ["bars"]}])
def test_what_is_no_chart_says_so(chart: t.Any) -> None:
    drawing = charts.draw(chart)
    assert drawing.svg == ""
    assert "bars, lines, timeline" in drawing.notes[0]


@pytest.mark.parametrize("chart", [{"kind": kind} for kind in ("bars", "lines", "timeline")])
def test_an_empty_chart_draws_nothing(chart: dict[str, t.Any]) -> None:
    assert charts.draw(chart).svg == ""


def texts(drawing: charts.Drawing) -> list[str]:
    return ["".join(part.itertext()) for part in elements(drawing.svg) if part.tag == f"{SVG}text"]


def test_a_long_label_ends_in_an_ellipsis_and_is_whole_in_its_title() -> None:
    label = "njord_" + "x" * 200
    svg = charts.draw({"kind": "bars", "bars": [{"label": label, "value": 1}]}).svg
    title = next(part for part in elements(svg) if part.tag == f"{SVG}title" and part.text == label)
    assert title is not None
    assert f">{label}<" not in svg.replace(f"<title>{label}</title>", "")


def test_of_a_long_path_the_end_is_shown() -> None:
    drawing = charts.draw({"kind": "bars", "bars": [{"label": "/var" * 50 + "/aggregated.ndjson", "value": 1}]})
    assert any(re.search("^….*/aggregated.ndjson", text) for text in texts(drawing))


def test_the_labels_of_two_limits_that_lie_close_stand_at_different_ends() -> None:
    def ends(*limits: float) -> list[str | None]:
        given = [{"label": f"limit {value}", "value": value} for value in limits]
        lines = [{"label": "a", "points": [[0, 0], [60, 100]]}]
        svg = charts.draw({"kind": "lines", "unit": "", "lines": lines, "limits": given}).svg
        texts = [text for text in ET.XML(svg).iter() if text.get("class") == "limit-label"]
        return [text.get("text-anchor") for text in texts]

    assert ends(50, 80) == ["start", "start"]
    assert ends(50, 52) == ["start", "end"]
    assert ends(99, 100) == ["start", "end"]


def test_a_bar_over_its_limit_says_so_in_words() -> None:
    drawing = charts.draw({"kind": "bars", "unit": "", "bars": [{"label": "a", "value": 12, "limit": 10}]})
    assert "12 > 10" in texts(drawing)
    assert drawing.header == ["", "value", "limit"]
    assert drawing.rows == [["a", "12", "10"]]


def test_what_cannot_be_drawn_is_counted() -> None:
    points = [[1.7e9, 1.0], [1.7e9 + 60, float("nan")], ["x", 2], "nonsense"]
    drawing = charts.draw({"kind": "lines", "lines": [{"label": "a", "points": points}]})
    assert drawing.notes == ["3 of the points are no numbers and are not drawn."]
    many = charts.draw({"kind": "bars", "bars": [{"label": str(i), "value": i} for i in range(25)]})
    assert many.notes == ["5 of the bars are not drawn."]
    assert len(many.rows) == 25


def test_a_forecast_is_dashed_and_named() -> None:
    points = [[1.7e9, 1.0], [1.7e9 + 86400, 2.0]]
    drawing = charts.draw({"kind": "lines", "lines": [{"label": "used", "style": "forecast", "points": points}]})
    assert 'class="line series-1 forecast"' in drawing.svg
    assert "used (forecast)" in texts(drawing)


def test_peaks_survive_when_there_are_more_points_than_pixels() -> None:
    points = [[1.7e9 + i * 15, 5000.0 if i == 7777 else 1.0] for i in range(20_000)]
    drawing = charts.draw({"kind": "lines", "lines": [{"label": "a", "points": points}]})
    path = next(part for part in elements(drawing.svg) if part.tag == f"{SVG}polyline").attrib["points"].split()
    assert len(path) < 500
    assert min(float(place.split(",")[1]) for place in path) == 14.0


def test_an_alert_that_still_fires_reaches_the_end() -> None:
    row = {"label": "a", "spans": [{"start": 1.7e9 + 50, "end": None, "state": "firing"}]}
    drawing = charts.draw({"kind": "timeline", "start": 1.7e9, "end": 1.7e9 + 100, "rows": [row, {"label": "b"}]})
    assert drawing.rows[0][-1] == "50 s"
    assert drawing.rows[1] == ["b", "quiet", "", "", ""]
    span = next(part for part in elements(drawing.svg) if part.attrib.get("class") == "span firing")
    assert float(span.attrib["x"]) + float(span.attrib["width"]) == charts.WIDTH


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (3 * 2**30, "bytes", "3 GiB"),
        (1023.9, "bytes", "1 KiB"),
        (-1536, "bytes", "\N{MINUS SIGN}1.5 KiB"),
        (0, "bytes", "0 B"),
        (0.0123, "seconds", "12.3 ms"),
        (90, "seconds", "90 s"),
        (7200, "seconds", "2 h"),
        (5 * 86400, "seconds", "5 d"),
        (0, "seconds", "0 s"),
        (0.425, "ratio", "42.5 %"),
        (12044, "", "12,044"),
        (48_210_000, "series", "48.2 M series"),
        (1.79e9, "time", "2026-09-21 14:13"),
        (1e30, "time", "1e+30"),
        ("NaN", "bytes", "NaN"),
        (None, "", "None"),
    ],
)
def test_figures_are_written_as_a_person_reads_them(value: t.Any, unit: str, shown: str) -> None:
    assert units.human(value, unit) == shown


@pytest.mark.parametrize(
    ("name", "unit", "label"),
    [
        ("disk_free_bytes", "bytes", "disk free"),
        ("head_series", "", "head series"),
        ("backup_timestamp_seconds", "time", "backup"),
        ("bytes", "bytes", "bytes"),
    ],
)
def test_the_name_of_a_figure_ends_in_its_unit(name: str, unit: str, label: str) -> None:
    assert (units.unit_of(name), units.label_of(name)) == (unit, label)
