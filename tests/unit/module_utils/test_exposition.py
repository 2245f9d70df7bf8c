# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._exposition import (
    ExpositionError,
    html_title,
    parse,
)
from hypothesis import given
from hypothesis import strategies as st

WHOLE = rb"""# HELP njord_fills_generated_total Fills, with a backslash \\ and a line\nfeed.
# TYPE njord_fills_generated_total counter
njord_fills_generated_total{venue="a\"b\\c\nd{},="} 3 1395066363000
njord_fills_generated_total{venue="other",} 1.5e+3

# a comment
# TYPE njord_fill_latency_seconds histogram
njord_fill_latency_seconds_bucket{le="0.1"} 1
njord_fill_latency_seconds_bucket{le="+Inf"} 2
njord_fill_latency_seconds_sum 0.3
njord_fill_latency_seconds_count 2
# TYPE rpc_seconds summary
rpc_seconds{quantile="0.5"} NaN
rpc_seconds_sum 1
rpc_seconds_count 2
untyped{ a = "1" , b="2" } -Inf
"""


def test_families_and_samples_are_counted() -> None:
    found = parse(WHOLE)
    assert found.families == {
        "njord_fills_generated_total": "counter",
        "njord_fill_latency_seconds": "histogram",
        "rpc_seconds": "summary",
        "untyped": "untyped",
    }
    assert found.samples == 10
    assert found.kept == {}


def test_wanted_samples_come_with_labels_and_values() -> None:
    found = parse(WHOLE, {"njord_fills_generated_total", "untyped"})
    assert found.kept["njord_fills_generated_total"] == [
        ({"venue": 'a"b\\c\nd{},='}, 3.0),
        ({"venue": "other"}, 1500.0),
    ]
    assert found.kept["untyped"] == [({"a": "1", "b": "2"}, float("-inf"))]
    assert found.value("njord_fills_generated_total") == 3.0
    assert found.value("absent") is None


def test_an_empty_exposition_has_no_samples() -> None:
    assert parse(b"").samples == 0
    assert parse(b"\n# only a comment\n").samples == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"9lives 1", "begins with no name"),
        (b"my.metric 1", "cannot hold '.'"),
        (b"up", "no value"),
        (b"up{}", "no value"),
        (b"up one", "'one' is no number"),
        (b"up 1_000", "'1_000' is no number"),
        (b"up 1\r", "is no number"),
        (b"up 1 soon", "time stamp 'soon'"),
        (b"up 1 1.5", "time stamp '1.5'"),
        (b"up 1 2 3", "after the time stamp"),
        (b"up{job=a} 1", "no label="),
        (b'up{job="a} 1', "no label="),
        (b'up{job="a"', "neither a comma nor"),
        (b'up{job="a" env="b"} 1', "neither a comma nor"),
        (b'up{job="a",,env="b"} 1', "no label="),
        (b'up{job="a",job="b"} 1', "label job twice"),
        (rb'up{job="a\t"} 1', "escapes 't'"),
        (b"# TYPE up number", "'number' is none of counter"),
        (b"# TYPE up counter\n# TYPE up counter", "a second TYPE for up"),
        (b"# HELP up a\n# HELP up b", "a second HELP for up"),
        (b"up 1\n# TYPE up gauge", "after its first sample"),
        (b"# TYPE", "without the name"),
        (b'up{job="a",env="b"} 1\nup{env="b",job="a"} 2', "a second time"),
        (b"# TYPE h histogram\nh_bucket 1", "without the label le"),
        (b'# TYPE h histogram\nh_bucket{le="low"} 1', "le 'low' is no number"),
        (b"# TYPE s summary\ns 1", "without the label quantile"),
        (b"up \xff", "not UTF-8"),
        (b"<html>", "begins with no name"),
    ],
)
def test_the_line_that_cannot_be_taken_is_named(line: bytes, reason: str) -> None:
    body = b"before 1\n" + line + b"\nafter 1\n"
    with pytest.raises(ExpositionError) as raised:
        parse(body)
    assert reason in raised.value.reason
    last = line.split(b"\n")[-1]
    assert raised.value.line == 1 + len(line.split(b"\n"))
    assert raised.value.text == last.decode("utf-8", "replace")
    assert str(raised.value).startswith(f"line {raised.value.line}: ")


def test_a_last_line_without_its_end_was_cut_off() -> None:
    with pytest.raises(ExpositionError, match=r"line 2: .*cut off: 'njord_position_cou'"):
        parse(b"njord_open_orders 1\nnjord_position_cou")


def test_a_long_line_is_cut_in_the_error() -> None:
    with pytest.raises(ExpositionError) as raised:
        parse(b"x" * 100_000 + b"\n")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"<!DOCTYPE html><html><head><title>Sign in</title>", "Sign in"),
        (b"\n <html lang='en'><body>hello", ""),
        (b"# HELP up <html>\nup 1\n", None),
        (b"", None),
        (b"{}", None),
    ],
)
def test_an_html_page_is_told_from_metrics_by_its_beginning(body: bytes, title: str | None) -> None:
    assert html_title(body) == title


LABEL_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)
LABELS = st.dictionaries(LABEL_NAMES, st.text(st.characters(codec="utf-8"), max_size=12), max_size=4)


@given(LABELS, st.floats())
def test_every_label_value_comes_back_as_it_was_escaped(labels: dict[str, str], value: float) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    inside = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    body = f"njord{{{inside}}} {value!r}\n".encode()
    [(got, number)] = parse(body, {"njord"}).kept["njord"]
    assert got == labels
    assert repr(number) == repr(value)


@given(st.binary(max_size=200))
def test_whatever_comes_is_counted_or_named(body: bytes) -> None:
    try:
        found = parse(body)
    except ExpositionError as error:
        assert 1 <= error.line <= body.count(b"\n") + 1
    else:
        assert found.samples <= body.count(b"\n")


def test_time_stamps_are_told_by_name_from_the_earliest_to_the_latest() -> None:
    found = parse(b'a 1 2000\nb 1\na{x="1"} 1 5000\n')
    assert found.stamps == {"a": (2.0, 5.0)}


def test_a_series_that_comes_twice_is_taken_as_prometheus_takes_it_where_that_is_asked() -> None:
    found = parse(b"a 1\na 2\nb 1\n", {"a"}, repeated=True)
    assert (found.repeated, found.samples, found.value("a")) == ({"a"}, 3, 1.0)
