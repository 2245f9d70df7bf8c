# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the head statistics and the index of a server; the server's own part is in tests/service."""

from __future__ import annotations

import re
import typing as t
import uuid

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import cardinality
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.cardinality import Family, Label, Metric
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server, Unreachable, Unsupported
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Head, Prometheus, Rule, Sample, Series
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
LIMITS = cardinality.Limits(label_sets_warning=100, label_sets_critical=1000, head_series_warning=5000)
LABELS = {"job": ["njord"], "instance": ["a:1"], "order_id": [str(uuid.UUID(int=n)) for n in range(500)]}


class Fake(Prometheus):
    """A server whose metrics all have the labels that the test says."""

    def __init__(self, series_by_metric: list[tuple[str, int]], **answers: t.Any) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self.series_by_metric = series_by_metric
        self.answers: dict[str, t.Any] = {
            "labels": LABELS,
            "now": 500.0,
            "without": 3.0,
            "rules": [],
            "own": [Sample({"__name__": "njord_exporter_build_info"}, 1, NOW)],
            "growth": [Series({}, [(NOW - 3600, 100.0), (NOW, 110.0)])],
            "values_by_label": [("order_id", 500)],
            **answers,
        }
        self.queries: list[str] = []

    def _answer(self, name: str) -> t.Any:
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]

    def backend(self) -> str:
        return "Prometheus"

    def head(self, limit: int) -> Head:
        series = sum(count for _metric, count in self.series_by_metric)
        labels = self._answer("values_by_label")
        return Head(series, series, 0, int(NOW * 1000), self.series_by_metric, labels, [("order_id", 9000)], [])

    def rules(self) -> list[Rule]:
        return t.cast("list[Rule]", self._answer("rules"))

    def label_names(self, selector: str, start: float, end: float) -> list[str]:
        return ["__name__", *self._answer("labels")]

    def label_values(self, label: str, selector: str, start: float, end: float, limit: int = 0) -> list[str]:
        return t.cast("list[str]", self._answer("labels").get(label, []))

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        self.queries.append(expression)
        if expression == "time()":
            return [Sample({}, NOW, NOW)]
        if "njord_exporter" in expression:
            return t.cast("list[Sample]", self._answer("own"))
        blamed = "(le, quantile) " not in expression
        return [Sample({}, self._answer("without" if blamed else "now"), NOW)]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        return t.cast("list[Series]", self._answer("growth"))


def look(series_by_metric: list[tuple[str, int]], **answers: t.Any) -> cardinality.Look:
    return cardinality.Look(Fake(series_by_metric, **answers), LIMITS, window=3600)


def only(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


# Families, patterns, blame


names = st.sampled_from(["a", "b_count", "c"]).flatmap(
    lambda base: st.sampled_from([base + suffix for suffix in ("", "_bucket", "_count", "_sum", "_created")])
)


@given(st.dictionaries(names, st.integers(1, 10_000)))
def test_every_series_belongs_to_one_family(counts: dict[str, int]) -> None:
    found = cardinality.families(counts.items())
    assert sum(family.series for family in found) == sum(counts.values())
    assert [family.label_sets for family in found] == sorted((f.label_sets for f in found), reverse=True)


def test_a_histogram_counts_once_and_a_bucket_without_a_count_by_itself() -> None:
    counts = {"h_bucket": 300, "h_count": 30, "h_sum": 30, "alone_bucket": 20, "g": 5, "g_sum": 5}
    found = [(family.name, family.counted, family.label_sets) for family in cardinality.families(counts.items())]
    assert found == [("h", "h_count", 30), ("alone_bucket",) * 2 + (20,), ("g", "g", 5), ("g_sum", "g_sum", 5)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([str(uuid.UUID(int=n)) for n in range(5)], "UUIDs"),
        ([uuid.UUID(int=n << 64).hex for n in range(5)], "UUIDs"),
        (["2026-11-23T21:00:00Z", "2026-11-23 21:00"], "dates with a time"),
        (["1795468608", "1795468608436", "1795468608.436", "1795468608436039000"], "unix times"),
        (["1", "22", "333"], "numbers"),
        (["deadbeef01", "0xABCDEF0123456789"], "hexadecimal ids"),
        (["10.0.0.1:41234", "192.168.1.7"], "network addresses"),
        (["a.b@example.org"], "e-mail addresses"),
        (["order-00017", "order-00018", "none"], "names with a running number"),
        (["BTCUSDT", "ETHUSDT", "alpha", "buy"], ""),
        ([], ""),
    ],
)
def test_values_without_end_are_recognised(values: list[str], name: str) -> None:
    assert cardinality.pattern(values) == name


def label(name: str, values: int, pattern: str = "") -> Label:
    return Label(name, values, ["x"], pattern)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([label("order_id", 500, "UUIDs"), label("symbol", 20)], ["order_id"]),
        ([label("order_id", 500, "UUIDs"), label("client_id", 490), label("symbol", 20)], ["order_id", "client_id"]),
        ([label("order_id", 60, "numbers"), label("symbol", 20)], ["order_id"]),
        ([label("symbol", 200), label("cpu", 8, "numbers")], []),
        ([label("symbol", 40), label("strategy_id", 30)], []),
        ([label("symbol", 200, "numbers")], ["symbol"]),
        ([label("handler", 101)], ["handler"]),
        ([], []),
    ],
)
def test_the_label_without_end_is_blamed_and_a_bounded_one_is_not(labels: list[Label], names: list[str]) -> None:
    assert cardinality.blamed(labels, LIMITS) == names


# What ends it


def metric(active: int | None, without: int | None, name: str = "njord_orders_total", **changes: t.Any) -> Metric:
    known = {
        "family": Family(name, changes.pop("counted", name), 500, 500),
        "targets": 1,
        "label_sets": 500,
        "jobs": ["njord"],
        "labels": [label("order_id", 500, "UUIDs"), label("symbol", 3)],
        "blamed": ["order_id"],
        **changes,
    }
    return Metric(active=active, without=without, **known)


def regexes(text: str) -> list[str]:
    return [line.strip()[len("regex: '") : -1].replace("''", "'") for line in text.splitlines() if "regex:" in line]


@pytest.mark.parametrize(("active", "without"), [(500, 3), (0, 0), (None, None)])
def test_where_series_would_become_the_same_or_nobody_knows_only_those_with_ids_are_dropped(
    active: int | None, without: int | None
) -> None:
    advice = cardinality.relabelling(metric(active, without), recorded=False)
    assert "action: drop" in advice.text
    assert "labeldrop" not in advice.text
    (expression,) = regexes(advice.text)
    assert re.fullmatch(expression, f"njord_orders_total;{uuid.UUID(int=5)}")
    assert not re.fullmatch(expression, "njord_orders_total;none")
    assert not re.fullmatch(expression, f"njord_orders_total_more;{uuid.UUID(int=5)}")


def test_where_no_two_become_the_same_the_label_is_emptied_on_every_part_of_this_metric() -> None:
    advice = cardinality.relabelling(metric(1, 1, "njord_lag_seconds", counted="njord_lag_seconds_count"), False)
    (expression,) = regexes(advice.text)
    assert all(re.fullmatch(expression, f"njord_lag_seconds{part}") for part in ("_bucket", "_sum", "_count"))
    assert not re.fullmatch(expression, "njord_lag_seconds_bucketful")
    assert "target_label: order_id\n    replacement: ''" in advice.text


def test_a_metric_of_a_recording_rule_is_mended_in_the_rule() -> None:
    advice = cardinality.relabelling(metric(500, 3), recorded=True)
    assert (advice.text, "recording rule" in advice.advice) == ("", True)


def test_the_name_of_a_metric_cannot_leave_its_quotes() -> None:
    advice = cardinality.relabelling(metric(500, 3, "it's.a(metric"), recorded=False)
    (expression,) = regexes(advice.text)
    assert re.fullmatch(expression, f"it's.a(metric;{uuid.UUID(int=5)}")
    assert "it''s" in advice.text


# A whole look


def test_a_metric_over_the_limit_is_named_with_its_label_and_its_cost() -> None:
    finding = only(look([("njord_orders_total", 500), ("up", 1)]).findings(), "cardinality.metric")
    assert (finding.subject, finding.severity) == ("njord_orders_total", "warning")
    assert "order_id has 500 values, which look like UUIDs" in finding.summary
    assert finding.evidence["labels"][0]["blamed"] is True
    assert "see only the others" in finding.remedy


def test_a_fleet_is_judged_like_one_host() -> None:
    labels = {**LABELS, "instance": [f"host{number}:9100" for number in range(20)], "cpu": ["0", "1"]}
    finding = only(look([("node_cpu_seconds_total", 1280)], labels=labels).findings(), "cardinality.metric")
    assert (finding.subject, finding.severity) == ("all metrics", "ok")


def test_buckets_without_a_count_are_divided_by_le() -> None:
    labels = {"instance": ["a:1"], "le": [str(bound) for bound in range(20)], "symbol": ["x"]}
    finding = only(look([("njord_size_bucket", 1200)], labels=labels).findings(), "cardinality.metric")
    assert finding.severity == "ok"


def test_labels_that_say_the_same_as_another_are_not_blamed_alone() -> None:
    finding = only(look([("njord_orders_total", 500)], without=500.0).findings(), "cardinality.metric")
    assert finding.evidence["relabelling"] == ""
    assert not any(row["blamed"] for row in finding.evidence["labels"])


def test_a_metric_that_is_too_large_is_counted_from_the_index_alone() -> None:
    looking = look([("njord_orders_total", cardinality.QUERIED_SERIES + 1)])
    finding = only(looking.findings(), "cardinality.metric")
    assert finding.severity == "critical"
    assert finding.evidence["label_sets_now"] is None
    assert not any("njord_orders_total" in query for query in t.cast(Fake, looking.client).queries)


def test_when_the_time_is_over_nothing_more_is_asked_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cardinality, "SECONDS", -1.0)
    finding = only(look([("njord_orders_total", 500)]).findings(), "cardinality.metric")
    assert finding.severity == "unknown"
    assert "500 label sets in the head; why is not known" in finding.summary


def test_of_very_many_metrics_the_largest_are_looked_into_and_the_rest_is_counted() -> None:
    many = [(f"njord_{number:03}", 2000 - number) for number in range(cardinality.EXAMINED + 7)]
    looking = look(many, now=2000.0)
    found = [finding for finding in looking.findings() if finding.check == "cardinality.metric"]
    assert len(found) == cardinality.EXAMINED + 1
    assert (found[-1].subject, found[-1].severity) == ("further metrics", "unknown")
    assert "7 further metrics" in found[-1].summary
    assert [row["label_sets"] for row in looking.metric_rows()] == sorted(
        (count for _metric, count in many[: cardinality.EXAMINED]), reverse=True
    )


@pytest.mark.parametrize(
    ("broken", "unknown"),
    [
        ("labels", {"cardinality.metric"}),
        ("now", {"cardinality.metric"}),
        ("own", {"cardinality.overflow"}),
        ("growth", {"cardinality.growth"}),
        ("rules", set()),
        ("values_by_label", {"cardinality.head"}),
    ],
)
def test_a_part_that_cannot_be_asked_does_not_take_the_others_with_it(broken: str, unknown: set[str]) -> None:
    error = Unreachable("GET x", "no whole answer within 10 s") if broken != "own" else Unsupported("GET x", "HTTP 404")
    findings = look([("njord_orders_total", 500)], **{broken: error}).findings()
    assert {finding.check for finding in findings if finding.severity == "unknown"} == unknown
    assert len(findings) > 1


def test_more_series_than_allowed_are_a_warning_with_figures_to_compare() -> None:
    finding = only(look([("up", 6000)], labels={"instance": ["a"] * 6000}).findings(), "cardinality.head")
    assert (finding.severity, finding.evidence["figures"]["head_series"]) == ("warning", 6000)


def test_a_label_with_very_many_values_is_named_but_those_of_the_target_are_not() -> None:
    labels = [("instance", 5000), ("__name__", 4000), ("order_id", 1001)]
    finding = only(look([("up", 1)], values_by_label=labels).findings(), "cardinality.label")
    assert finding.severity == "warning"
    assert "1 label(s) have more than 1000 values in the head: order_id (1001 values, 9000 bytes)" in finding.summary


@pytest.mark.parametrize(
    ("points", "severity"),
    [
        ([(NOW - 3600, 100.0), (NOW, 151.0)], "warning"),
        ([(NOW - 3600, 100.0), (NOW, 149.0)], "ok"),
        ([(NOW - 600, 100.0), (NOW, 900.0)], "ok"),
        ([(NOW, 900.0)], "unknown"),
    ],
)
def test_growth_is_judged_once_half_the_window_is_known(points: list[tuple[float, float]], severity: str) -> None:
    another = Series({"instance": "another"}, [(NOW - 3600, 7.0), (NOW, 70_000.0)])
    growth = [Series({}, points), another]
    assert only(look([("up", 150)], growth=growth).findings(), "cardinality.growth").severity == severity


@pytest.mark.parametrize(("folded", "severity"), [([], "unknown"), ([0.0], "ok"), ([0.0, 12.0], "warning")])
def test_folded_label_sets_are_told_and_a_missing_exporter_is_unknown(folded: list[float], severity: str) -> None:
    name = "njord_exporter_folded_messages_total"
    own = [Sample({"__name__": name, "metric": f"m{n}"}, value, NOW) for n, value in enumerate(folded)]
    assert only(look([("up", 1)], own=own).findings(), "cardinality.overflow").severity == severity
