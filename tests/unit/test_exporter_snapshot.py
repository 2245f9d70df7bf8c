# SPDX-License-Identifier: GPL-3.0-or-later
"""A message of the bus is a snapshot that can be served, or is refused with a reason."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from njord_telemetry import snapshot

GOOD: t.Final = {"name": "njord_open_orders", "value": 3, "timestamp_ns": 1, "metric_type": "gauge", "labels": {}}


def message(**changed: object) -> bytes:
    return json.dumps(GOOD | changed).encode()


def refused(payload: bytes) -> snapshot.RejectedError:
    with pytest.raises(snapshot.RejectedError) as caught:
        snapshot.read(payload)
    return caught.value


def test_a_snapshot_is_what_the_message_says() -> None:
    read = snapshot.read(message(metric_type="counter", value=2.5, labels={"venue": "x", "symbol": "ATOM"}))
    assert read == ("njord_open_orders", "counter", 2.5, 1, (("symbol", "ATOM"), ("venue", "x")))


def test_without_type_and_labels_it_is_a_gauge_without_labels() -> None:
    read = snapshot.read(b'{"name": "x", "value": 1, "timestamp_ns": 0}')
    assert (read.metric_type, read.labels) == ("gauge", ())


def test_keys_that_nobody_knows_are_no_reason_to_refuse() -> None:
    assert snapshot.read(message(host="a")).name == "njord_open_orders"


def test_a_label_with_an_empty_value_is_no_label() -> None:
    assert snapshot.read(message(labels={"a": "", "b": "c"})).labels == (("b", "c"),)


@pytest.mark.parametrize(
    ("reason", "payload"),
    [
        ("too_long", message(labels={"a": "x" * 20_000})),
        ("malformed", b""),
        ("malformed", b"\xff"),
        ("malformed", message()[:-1]),
        ("malformed", b"[" * 10_000),
        ("malformed", b'{"value": ' + b"9" * 5_000 + b"}"),
        ("malformed", b"[1]"),
        ("malformed", b"null"),
        ("name", b"{}"),
        ("name", message(name="")),
        ("name", message(name=7)),
        ("name", message(name="1x")),
        ("name", message(name="x\n")),
        ("name", message(name="å")),
        ("name", message(name="x" * 201)),
        ("name", message(name="_total", metric_type="counter")),
        ("reserved_name", message(name="njord_exporter_series")),
        ("reserved_name", message(name="up")),
        ("reserved_name", message(name="scrape_duration_seconds")),
        ("reserved_name", message(name="process_resident_memory_bytes")),
        ("reserved_name", message(name="ALERTS")),
        ("metric_type", message(metric_type="untyped")),
        ("metric_type", message(metric_type=None)),
        ("metric_type", message(metric_type=["gauge"])),
        ("timestamp", message(timestamp_ns=None)),
        ("timestamp", message(timestamp_ns=-1)),
        ("timestamp", message(timestamp_ns=1.5)),
        ("timestamp", message(timestamp_ns=True)),
        ("value", message(value=None)),
        ("value", message(value="1")),
        ("value", message(value=True)),
        ("value", message(value=float("nan"))),
        ("value", message(value=float("-inf"))),
        ("value", message(value=10**400)),
        ("value", b'{"name": "x", "timestamp_ns": 0, "value": 1e999}'),
        ("value", message(value=-1, metric_type="counter")),
        ("labels", message(labels=None)),
        ("labels", message(labels=[])),
        ("labels", message(labels={f"l{number}": "x" for number in range(21)})),
        ("labels", message(labels={"a": 1})),
        ("labels", message(labels={"a": None})),
        ("labels", message(labels={"a": "\ud800"})),
        ("label_name", message(labels={"": "x"})),
        ("label_name", message(labels={"a-b": "x"})),
        ("label_name", message(labels={"a:b": "x"})),
        ("label_name", message(labels={"__name__": "x"})),
        ("label_name", message(labels={"a" * 101: "x"})),
        ("label_name", message(labels={"le": "1"}, metric_type="histogram")),
        ("label_name", message(labels={"quantile": "1"}, metric_type="summary")),
        ("label_set_too_long", message(labels={"a": "x" * 1_024})),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_name(reason: str, payload: bytes) -> None:
    assert refused(payload).reason == reason


def test_a_refusal_names_the_metric_what_came_and_what_would_be_accepted() -> None:
    error = refused(message(value="1"))
    assert (error.name, error.detail) == ("njord_open_orders", "1")
    assert "finite number" in str(error)


@pytest.mark.parametrize("metric_type", ["counter", "gauge", "summary"])
def test_le_is_a_label_like_any_other_where_it_is_no_histogram(metric_type: str) -> None:
    assert snapshot.read(message(labels={"le": "1"}, metric_type=metric_type)).labels == (("le", "1"),)


def test_the_readme_names_every_reason_to_refuse() -> None:
    readme = (Path(__file__).parents[2] / "files" / "exporter" / "README.md").read_text()
    assert re.findall(r"^\| `([a-z_]+)` \|", readme, re.MULTILINE) == list(snapshot.REASONS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner),
    max_leaves=8,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_a_snapshot_or_a_refusal_with_a_known_reason(payload: bytes) -> None:
    try:
        read = snapshot.read(payload)
    except snapshot.RejectedError as error:
        assert error.reason in snapshot.REASONS
    else:
        assert read.name == json.loads(payload)["name"]
