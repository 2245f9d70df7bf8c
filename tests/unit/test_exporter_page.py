# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the bus says, the page is one that Prometheus takes, and its totals are right."""

from __future__ import annotations

import collections
import json
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from njord_telemetry import store as limits
from njord_telemetry.catalogue import Catalogue
from njord_telemetry.intake import LOGGED_LIMIT, Intake
from njord_telemetry.snapshot import MetricSnapshot
from njord_telemetry.store import OVERFLOW, Store
from njord_telemetry.web import render
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

CATALOGUE = Catalogue.load()
Sample = tuple[str, tuple[tuple[str, str], ...]]


class Exporter:
    """All of it but Redis and HTTP."""

    def __init__(self, label_set_limit: int = 1_000) -> None:
        store = Store(CATALOGUE, label_set_limit)
        self.intake = Intake(store)
        self.registry = CollectorRegistry()
        self.registry.register(store)

    def send(self, name: str, value: float = 1.0, metric_type: str = "gauge", **labels: str) -> str:
        """The result of one message."""
        return self.take(
            json.dumps(
                {"name": name, "value": value, "timestamp_ns": 1, "metric_type": metric_type, "labels": labels}
            ).encode()
        )

    def take(self, payload: bytes) -> str:
        before = dict(self.intake.results)
        self.intake.take(payload)
        (result,) = (key for key, count in self.intake.results.items() if count != before[key])
        return result

    def text(self) -> str:
        return render(self.registry, "text/plain")[0].decode()

    def openmetrics(self) -> str:
        return render(self.registry, "application/openmetrics-text")[0].decode()

    def samples(self) -> dict[Sample, float]:
        """The page as both parsers read it, which must be the same."""
        pages = [
            [sample for family in families for sample in family.samples]
            for families in (
                text_string_to_metric_families(self.text()),
                openmetrics_parser.text_string_to_metric_families(self.openmetrics()),
            )
        ]
        read = [{(s.name, tuple(sorted(s.labels.items()))): s.value for s in page} for page in pages]
        assert read[0] == read[1]
        assert len(read[0]) == len(pages[0]), "a series stands on the page twice"
        types = [line.split()[2] for line in self.text().splitlines() if line.startswith("# TYPE")]
        assert len(types) == len(set(types)), "a family stands on the page twice"
        return read[0]


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


def test_the_label_sets_of_one_metric_may_differ(exporter: Exporter) -> None:
    exporter.send("njord_orders_placed_total", 2, "counter", venue="x")
    exporter.send("njord_orders_placed_total", 3, "counter", strategy_id="s", side="buy")
    exporter.send("njord_orders_placed_total", 1, "counter", venue="x")
    assert exporter.samples() == {
        ("njord_orders_placed_total", (("venue", "x"),)): 3,
        ("njord_orders_placed_total", (("side", "buy"), ("strategy_id", "s"))): 3,
    }


def test_the_order_of_labels_and_empty_labels_make_no_new_series(exporter: Exporter) -> None:
    exporter.take(b'{"name": "x", "value": 1, "timestamp_ns": 1, "labels": {"a": "1", "b": "2"}}')
    exporter.take(b'{"name": "x", "value": 2, "timestamp_ns": 1, "labels": {"b": "2", "c": "", "a": "1"}}')
    assert exporter.samples() == {("x", (("a", "1"), ("b", "2"))): 2}


@pytest.mark.parametrize(
    "value", ["a\\b", 'a"b', "a\nb", "\\n", "a\rb", "\0", "æ\u2028\U0001f4a5", '"} 1 # {', " , = "]
)
def test_label_values_come_back_as_they_were(exporter: Exporter, value: str) -> None:
    exporter.send("x", a=value)
    assert exporter.samples() == {("x", (("a", value),)): 1}


def test_a_counter_without_total_is_served_with_it(exporter: Exporter) -> None:
    exporter.send("fills", 2, "counter")
    assert exporter.samples() == {("fills_total", ()): 2}


def test_a_name_may_hold_a_colon(exporter: Exporter) -> None:
    exporter.send("njord:fills", 2)
    assert exporter.samples() == {("njord:fills", ()): 2}


def test_a_gauge_may_be_called_total(exporter: Exporter) -> None:
    exporter.send("fills_total", 2, "gauge")
    assert exporter.samples() == {("fills_total", ()): 2}
    assert "# TYPE fills_total gauge" in exporter.openmetrics()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("x", "counter"), ("x_total", "counter")),
        (("x", "counter"), ("x_total", "gauge")),
        (("x_total", "gauge"), ("x", "counter")),
        (("x_total", "counter"), ("x", "gauge")),
        (("x_count", "gauge"), ("x", "histogram")),
        (("x", "histogram"), ("x_count", "gauge")),
        (("x", "histogram"), ("x_bucket", "gauge")),
        (("x", "summary"), ("x_sum", "gauge")),
        (("x", "counter"), ("x_created", "gauge")),
    ],
)
def test_of_two_metrics_that_would_share_a_name_the_first_is_served(
    exporter: Exporter, first: tuple[str, str], second: tuple[str, str]
) -> None:
    exporter.send(first[0], 1, first[1])
    before = exporter.samples()
    assert exporter.send(second[0], 5, second[1]) == "name_clash"
    assert exporter.samples() == before


def test_a_name_keeps_the_type_of_its_first_message(exporter: Exporter) -> None:
    exporter.send("x", 1, "gauge")
    assert exporter.send("x", 1, "counter") == "type_conflict"
    assert exporter.samples() == {("x", ()): 1}


def test_a_name_of_the_catalogue_has_its_type_whatever_comes_first(exporter: Exporter) -> None:
    assert exporter.send("njord_open_orders", 1, "counter") == "type_conflict"
    assert exporter.send("njord_slippage_bps_count", 1) == "name_clash"
    assert exporter.send("njord_open_orders", 4) == "accepted"
    assert exporter.samples() == {("njord_open_orders", ()): 4}


def test_a_histogram_counts_each_observation_in_the_bucket_whose_bound_it_reaches(exporter: Exporter) -> None:
    for value in (0.5, 1.0, 1.5, 99_999):
        exporter.send("njord_fill_latency_ms", value, "histogram")
    samples = exporter.samples()
    buckets = {labels[0][1]: value for (name, labels), value in samples.items() if name.endswith("_bucket")}
    assert (buckets["0.5"], buckets["1.0"], buckets["2.5"], buckets["10000.0"], buckets["+Inf"]) == (1, 2, 3, 3, 4)
    assert samples["njord_fill_latency_ms_count", ()] == 4
    assert samples["njord_fill_latency_ms_sum", ()] == 100_002


def test_a_summary_is_its_count_and_sum(exporter: Exporter) -> None:
    exporter.send("x", 2, "summary")
    exporter.send("x", 3, "summary")
    assert exporter.samples() == {("x_count", ()): 2, ("x_sum", ()): 5}


def test_a_sum_that_fell_is_left_out_because_it_is_no_counter(exporter: Exporter) -> None:
    for metric_type in ("histogram", "summary"):
        exporter.send(f"{metric_type}_x", 2, metric_type)
        exporter.send(f"{metric_type}_x", -3, metric_type)
    exporter.send("njord_slippage_bps", 4, "histogram")
    samples = exporter.samples()
    assert {name for name, _labels in samples} == {"histogram_x_bucket", "summary_x_count", "njord_slippage_bps_bucket"}
    assert samples["histogram_x_bucket", (("le", "+Inf"),)] == 2


@pytest.mark.parametrize(("metric_type", "overflow"), [("counter", 30.0), ("gauge", 4.0), ("summary", 30.0)])
def test_label_sets_past_the_limit_are_one_series(metric_type: str, overflow: float) -> None:
    exporter = Exporter(label_set_limit=5)
    for _round in range(3):
        for number in range(10):
            exporter.send("x", number % 5, metric_type, n=str(number))
    suffix = {"counter": "_total", "gauge": "", "summary": "_sum"}[metric_type]
    samples = {labels: value for (name, labels), value in exporter.samples().items() if name == f"x{suffix}"}
    assert len(samples) == 6
    assert samples[OVERFLOW] == overflow


def test_a_metric_at_the_limit_does_not_take_from_another() -> None:
    exporter = Exporter(label_set_limit=2)
    for number in range(10):
        exporter.send("x", n=str(number))
    exporter.send("y", 7, n="1")
    assert exporter.samples()["y", (("n", "1"),)] == 7


def test_the_page_has_an_end_however_many_metrics_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SAMPLE_LIMIT", 100)
    exporter = Exporter()
    for number in range(200):
        exporter.send("x", 1, "histogram", n=str(number))
    for number in range(200):
        exporter.send("y", 1, "counter", n=str(number))
    overflow_lines = len(CATALOGUE.entry("x", "histogram").bucket_labels) + 2 + 1
    samples = exporter.samples()
    assert len(samples) <= 100 + overflow_lines
    assert sum(value for (name, _labels), value in samples.items() if name == "x_count") == 200
    assert sum(value for (name, _labels), value in samples.items() if name == "y_total") == 200


def test_the_metrics_of_the_catalogue_are_served_when_others_have_used_up_the_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "METRIC_LIMIT", 3)
    exporter = Exporter()
    results = [exporter.send(f"x{number}") for number in range(5)]
    assert results == ["accepted"] * 3 + ["too_many_metrics"] * 2
    assert exporter.send("njord_open_orders") == "accepted"
    assert exporter.send("x0") == "accepted"


def test_a_scrape_does_not_hold_up_the_bus_from_one_metric_to_the_next() -> None:
    store = Store(CATALOGUE)
    for name in ("x", "y"):
        store.take(MetricSnapshot(name, "gauge", 1.0, 1, ()))
    families = store.collect()
    next(families)
    bus = threading.Thread(target=store.take, args=(MetricSnapshot("x", "gauge", 2.0, 1, ()),), daemon=True)
    bus.start()
    bus.join(10)
    assert not bus.is_alive()
    assert [family.name for family in families] == ["y"]


def test_high_cardinality_is_warned_of_once_in_njords_words(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter()
    for number in range(250):
        exporter.send("njord_open_orders", symbol=str(number))
    said = [message for message in caplog.messages if "cardinality" in message]
    assert said == ["telemetry.metric_cardinality_high metric_name=njord_open_orders unique_combinations=100"]


def test_folding_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter(label_set_limit=3)
    for number in range(10):
        exporter.send("x", n=str(number))
    assert caplog.messages == ["telemetry.metric_label_sets_folded metric_name=x kept=3"]


def test_a_refused_name_is_logged_once_on_one_line(exporter: Exporter, caplog: pytest.LogCaptureFixture) -> None:
    for _round in range(3):
        assert exporter.send("a b\nERROR forged") == "name"
    (said,) = caplog.messages
    assert "\n" not in said
    assert 'metric_name="a b\\nERROR forged"' in said
    assert exporter.intake.results["name"] == 3


def test_ever_new_refused_names_do_not_fill_the_log(exporter: Exporter, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(LOGGED_LIMIT + 500):
        exporter.send(f"{number}")
    assert len(caplog.messages) == LOGGED_LIMIT + 1
    assert caplog.messages[-1].startswith("telemetry.rejections_no_longer_logged")


NAMES = st.sampled_from(
    [
        *("x", "x_total", "x_count", "x_sum", "x_bucket", "x_created", "x_info", "x_total_total", "_total", "a:b", "y"),
        *("njord_fills_generated_total", "njord_fills_generated", "njord_slippage_bps", "njord_fill_latency_ms_sum"),
        *("up", "njord_exporter_series", "", "é", "__x"),
    ]
)
LABELS = st.dictionaries(
    st.sampled_from(["a", "b", "le", "quantile", "overflow", "job", "__x", "", "é"]),
    st.sampled_from(["", "true", "+Inf", "0.5"]) | st.text(st.characters(codec=None), max_size=8),
    max_size=3,
)
VALUES = st.floats() | st.integers() | st.sampled_from([1e308, -1e308, 10**400, True, "1", None])
TYPES = st.sampled_from(["counter", "gauge", "histogram", "summary", "info", None])
MESSAGES = st.binary(max_size=20) | st.fixed_dictionaries(
    {"name": NAMES, "value": VALUES, "timestamp_ns": st.just(1) | st.none()},
    optional={"metric_type": TYPES, "labels": LABELS | st.none()},
).map(lambda message: json.dumps(message).encode())


@given(st.lists(MESSAGES, max_size=40), st.integers(1, 3))
def test_whatever_is_published_both_formats_parse_and_every_message_is_counted(
    messages: list[bytes], label_set_limit: int
) -> None:
    exporter = Exporter(label_set_limit)
    for message in messages:
        exporter.take(message)
    assert all(math.isfinite(value) or value > 0 for value in exporter.samples().values())
    assert exporter.intake.results.total() == len(messages)


GOOD = st.tuples(
    st.sampled_from(["counter", "gauge", "histogram", "summary"]),
    st.integers(0, 2_000),
    st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["", "1", "2"])),
)


@given(st.lists(GOOD, max_size=60))
def test_the_totals_are_those_of_a_naive_model(messages: list[tuple[str, int, dict[str, str]]]) -> None:
    limit = 3
    exporter = Exporter(limit)
    model: dict[str, dict[tuple[tuple[str, str], ...], list[int]]] = collections.defaultdict(dict)
    for metric_type, value, labels in messages:
        exporter.send(f"m_{metric_type}", value, metric_type, **labels)
        series = model[metric_type]
        key = tuple(sorted((name, text) for name, text in labels.items() if text))
        kept = len(series) - (OVERFLOW in series)
        series.setdefault(key if key in series or kept < limit else OVERFLOW, []).append(value)

    expected: dict[Sample, float] = {}
    for metric_type, series in model.items():
        for key, values in series.items():
            expected |= _lines(metric_type, key, values)
    assert exporter.samples() == expected


def _lines(metric_type: str, key: tuple[tuple[str, str], ...], values: list[int]) -> dict[Sample, float]:
    name = f"m_{metric_type}"
    if metric_type == "counter":
        return {(f"{name}_total", key): sum(values)}
    if metric_type == "gauge":
        return {(name, key): values[-1]}
    lines: dict[Sample, float] = {(f"{name}_count", key): len(values), (f"{name}_sum", key): sum(values)}
    if metric_type == "histogram":
        for bound in CATALOGUE.entry(name, metric_type).bucket_labels:
            labels = tuple(sorted((*key, ("le", bound))))
            lines[f"{name}_bucket", labels] = sum(value <= float(bound) for value in values)
    return lines
