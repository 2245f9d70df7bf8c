# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the head statistics and the index of a server; the server's own part is in tests/service."""

from __future__ import annotations

import re
import typing as t
import uuid
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language.reads import reads
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series import (
    cardinality,
    churn,
    label_sets,
    series_cost,
)
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.label_sets import Family, Label, Metric
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.offers import Ground, Offer, offers
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.readers import Reader
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.series_cost import Prices
from ansible_collections.njord.telemetry.plugins.module_utils._exposition import Exposition, parse
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server, Unreachable, Unsupported
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import (
    Head,
    Prometheus,
    Rule,
    Sample,
    Series,
    Target,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
LIMITS = label_sets.Limits(label_sets_warning=100, label_sets_critical=1000, head_series_warning=5000)
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
            "growth": [
                Series({"__name__": churn.SERIES}, [(NOW - 3600, 100.0), (NOW, 110.0)]),
                Series({"__name__": churn.CREATED}, [(NOW - 3600 + 360 * n, 100.0 + n) for n in range(11)]),
            ],
            "values_by_label": [("order_id", 500)],
            "targets": [],
            "page": "",
            "merging": [],
            "added": [],
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

    def targets(self) -> list[Target]:
        return t.cast("list[Target]", self._answer("targets"))

    def flags(self) -> dict[str, str]:
        return {"storage.tsdb.path": "data"}

    def own_page(self, names: t.Container[str]) -> Exposition:
        return parse(self._answer("page").encode(), names, repeated=True)

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
        if "scrape_series_added" in expression:
            return t.cast("list[Sample]", self._answer("added"))
        if "max_over_time" in expression:
            return t.cast("list[Sample]", self._answer("merging"))
        if expression.startswith("count by"):
            now, instances = self._answer("now"), self._answer("labels")["instance"]
            found = re.findall(r'[^"|]+', expression.partition('"')[2].rpartition('"')[0].replace("\\\\", ""))
            return [
                Sample({"__name__": name, "job": "njord", "instance": instance}, now / len(instances), NOW)
                for name in found
                for instance in instances
            ]
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
    found = label_sets.families(counts.items())
    assert sum(family.series for family in found) == sum(counts.values())
    assert [family.label_sets for family in found] == sorted((f.label_sets for f in found), reverse=True)


def test_a_histogram_counts_once_and_a_bucket_without_a_count_by_itself() -> None:
    counts = {"h_bucket": 300, "h_count": 30, "h_sum": 30, "alone_bucket": 20, "g": 5, "g_sum": 5}
    found = [(family.name, family.counted, family.label_sets) for family in label_sets.families(counts.items())]
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
    assert label_sets.pattern(values) == name


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
    assert label_sets.blamed(labels, LIMITS) == names


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


def advised(metric: Metric, recorded: frozenset[str] = frozenset(), readers: t.Sequence[Reader] = ()) -> Offer:
    prices = Prices(4000.0, "the test", 2.0, "the test")
    return offers(metric, Ground(prices, {"njord": 10.0}, recorded, readers, []))[0]


def regexes(text: str) -> list[str]:
    return [line.strip()[len("regex: '") : -1].replace("''", "'") for line in text.splitlines() if "regex:" in line]


@pytest.mark.parametrize(("active", "without"), [(500, 3), (0, 0), (None, None)])
def test_where_series_would_become_the_same_or_nobody_knows_only_those_with_ids_are_dropped(
    active: int | None, without: int | None
) -> None:
    advice = advised(metric(active, without))
    assert "action: drop" in advice.text
    assert "labeldrop" not in advice.text
    (expression,) = regexes(advice.text)
    assert re.fullmatch(expression, f"njord_orders_total;{uuid.UUID(int=5)}")
    assert not re.fullmatch(expression, "njord_orders_total;none")
    assert not re.fullmatch(expression, f"njord_orders_total_more;{uuid.UUID(int=5)}")


def test_where_no_two_become_the_same_the_label_is_emptied_on_every_part_of_this_metric() -> None:
    advice = advised(metric(1, 1, "njord_lag_seconds", counted="njord_lag_seconds_count"))
    (expression,) = regexes(advice.text)
    assert all(re.fullmatch(expression, f"njord_lag_seconds{part}") for part in ("_bucket", "_sum", "_count"))
    assert not re.fullmatch(expression, "njord_lag_seconds_bucketful")
    assert "target_label: order_id\n    replacement: ''" in advice.text


def test_a_metric_of_a_recording_rule_is_mended_in_the_rule() -> None:
    advice = advised(metric(500, 3), recorded=frozenset(["njord_orders_total"]))
    assert (advice.text, "recording rule" in advice.advice) == ("", True)


def test_the_name_of_a_metric_cannot_leave_its_quotes() -> None:
    advice = advised(metric(500, 3, "it's.a(metric"))
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
    looking = look([("njord_orders_total", series_cost.QUERIED_SERIES + 1)])
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
    looking = look(many, now=1000.0)
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
        ("growth", {"cardinality.growth", "cardinality.churn"}),
        ("added", set()),
        ("targets", set()),
        ("page", {"cardinality.churn"}),
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


# What it saves, and who would miss it


def test_a_way_says_what_it_saves_by_what_would_be_left() -> None:
    offer = advised(metric(500, 3, samples=50.0, bearing=400))
    assert (offer.way, offer.left) == ("drop such series", 100)
    assert offer.saves == {
        "saves_series": 400,
        "saves_samples_per_second": 40.0,
        "saves_memory_bytes": 1_600_000,
        "saves_disk_bytes_per_day": 40 * 86_400 * 2,
    }


def test_what_has_ended_is_saved_too_where_the_label_goes() -> None:
    offer = advised(metric(1, 1, samples=0.1, merging=0))
    assert (offer.way, offer.saves["saves_series"], offer.saves["saves_samples_per_second"]) == (
        "take the label away",
        499,
        0,
    )


def test_what_is_not_known_is_not_said_to_be_saved() -> None:
    offer = advised(metric(None, None))
    assert set(offer.saves.values()) == {None}


def test_series_that_once_became_the_same_are_dropped_and_not_merged() -> None:
    assert advised(metric(1, 1, merging=2)).way == "drop such series"
    assert "nor in the last hour" in advised(metric(1, 1, merging=0)).advice
    assert "nor in the last hour" not in advised(metric(1, 1)).advice


READERS = [
    Reader(who, text, reads(text))
    for who, text in (
        ("by name", "sum(rate(njord_orders_total[5m]))"),
        ("by label", 'njord_orders_total{order_id="x"}'),
        ("by pattern", '{__name__=~"njord_orders.*"}'),
        ("perhaps", "of_tomorrow(njord_orders_total, order_id)"),
        ("another", "njord_orders_total_of_another{order_id='x'}"),
        ("like it", '{__name__=~"njord_fills.*", order_id="x"}'),
    )
]


def test_whoever_reads_what_is_taken_away_is_named() -> None:
    series = advised(metric(500, 3), readers=READERS)
    assert series.misses == ["by name", "by label", "by pattern", "perhaps (perhaps)"]
    label_alone = advised(metric(1, 1), readers=READERS)
    assert label_alone.misses == ["by label", "perhaps (perhaps)"]


def test_a_template_that_shows_the_label_would_miss_it() -> None:
    rule = Rule(
        name="Many",
        kind="alerting",
        query="njord_orders_total > 5",
        group="g",
        file="f",
        health="ok",
        error="",
        hold=0,
        keep=0,
        state="inactive",
        labels={},
        annotations={"text": "{{ $labels.order_id }}"},
        interval=15,
        evaluated=NOW,
    )
    finding = only(
        look([("njord_orders_total", 500)], now=1.0, without=1.0, rules=[rule]).findings(), "cardinality.metric"
    )
    assert "who reads what it takes away: rule g/Many (no dashboards were given)" in finding.remedy


def test_one_target_with_far_more_than_the_others_is_named() -> None:
    labels = {**LABELS, "instance": [f"host{number}" for number in range(10)]}
    looking = look([("njord_orders_total", 900)], labels=labels)
    counts = {**{("njord", f"host{number}"): 10 for number in range(9)}, ("njord", "host9"): 800}

    def query(expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        if not expression.startswith("count by"):
            return Fake.query(t.cast(Fake, looking.client), expression)
        return [
            Sample({"__name__": "njord_orders_total", "job": job, "instance": instance}, count, NOW)
            for (job, instance), count in counts.items()
        ]

    with mock.patch.object(looking.client, "query", query):
        finding = only(looking.findings(), "cardinality.metric")
    assert "the target host9 of the job njord has the most, 800" in finding.summary
    assert finding.evidence["figures"]["head_label_sets"] == 800


# Churn


def churned(made: list[float], ends: float = NOW) -> Finding:
    """Of a head of 1000 series, by what is made in each of some steps of an hour."""
    points, total = [(ends - 3600.0 * len(made), 0.0)], 0.0
    for number, count in enumerate(made):
        total += count
        points.append((ends - 3600.0 * (len(made) - number - 1), total))
    head = [(at, 1000.0) for at, _value in points]
    page = f"{churn.STARTED} {NOW - 1_000_000}\n"
    growth = [Series({"__name__": churn.SERIES}, head), Series({"__name__": churn.CREATED}, points)]
    added = [
        Sample({"job": job, "instance": "a:1", "of": of}, value, NOW)
        for job, of, value in (("njord", "added", 900.0), ("other", "added", 1.0), ("njord", "kept", 100.0))
    ]
    page += "go_memstats_heap_inuse_bytes 4000000\n"
    found = look([("up", 1000)], labels={"instance": ["a"] * 1000}, growth=growth, page=page, added=added)
    return only(found.findings(), "cardinality.churn")


def test_churn_without_a_pause_is_told_with_its_job_and_its_cost() -> None:
    finding = churned([300.0] * 24)
    assert (finding.severity, finding.evidence["figures"]["series_made_per_hour"]) == ("warning", 300)
    assert "without a pause; the job njord makes the most" in finding.summary
    assert "900 series of the head have ended and hold 3.4 MiB of memory at most" in finding.remedy
    assert finding.evidence["chart"]["limits"] == [{"label": "a fifth of the head", "value": 200.0}]


def test_a_deploy_is_a_burst_and_no_churn() -> None:
    finding = churned([*[2.0] * 12, 900.0, *[2.0] * 11])
    assert finding.severity == "info"
    assert "but for 1 burst(s), the largest of 900 at 2027" in finding.summary
    assert finding.evidence["figures"]["series_made_per_hour"] == round(2 * 23 / 24, 1)


def test_batches_that_come_again_and_again_are_churn() -> None:
    finding = churned([0.0, 0.0, 0.0, 1000.0] * 12)
    assert finding.severity == "warning"
    assert "in batches that come again and again" in finding.summary


def test_little_churn_is_well_and_a_young_server_is_not_known() -> None:
    assert churned([10.0] * 24).severity == "ok"
    assert churned([500.0] * 3).severity == "unknown"


def test_a_server_that_runs_for_an_hour_is_looked_at_in_steps_that_fit_an_hour() -> None:
    class Young(Fake):
        def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
            times = [at for at in (start + n * step for n in range(int((end - start) / step) + 1)) if at > NOW - 3600]
            return [
                Series({"__name__": churn.SERIES}, [(at, 1000.0) for at in times]),
                Series({"__name__": churn.CREATED}, [(at, at - NOW + 3600) for at in times]),
            ]

    client = Young([("up", 1000)])
    of = churn.past(client, client.head(0), 7 * 86400)
    assert len(of.head) < churn.FEWEST_STEPS
    assert (of.step, len(of.created)) == (churn.SHORTEST_STEP, 60)


def test_a_counter_that_began_anew_made_what_it_has() -> None:
    assert [step.made for step in churn.steps([(0, 100.0), (10, 130.0), (20, 5.0)])] == [30.0, 5.0]


def test_the_index_is_priced_by_the_newest_blocks(tmp_path: Path) -> None:
    assert series_cost.index_bytes(tmp_path) is None
    for name, size in (("01A", 9_000_000), ("01B", 1000), ("01C", 2000), ("01D", 3000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index").write_bytes(b"x" * size)
        (tmp_path / name / "meta.json").write_text('{"stats": {"numSeries": 20}}')
    assert series_cost.index_bytes(tmp_path) == 100
    (tmp_path / "01D" / "meta.json").write_text("{")
    assert series_cost.index_bytes(tmp_path) is None
