# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of Prometheus, asked of the real thing in both major versions, and of what only looks like it."""

from __future__ import annotations

import math
import time
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._http import (
    Refused,
    Server,
    Unreadable,
    Unsupported,
)
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.testbench import servers

RULES = """
groups:
  - name: njord
    interval: 1s
    rules:
      - record: njord:up:sum
        expr: sum(up)
      - alert: NjordAlwaysFires
        expr: vector(1) > 0
        labels: {severity: warning}
        annotations: {summary: It fires.}
      - alert: NjordPends
        expr: vector(1) > 0
        for: 1h
        keep_firing_for: 5m
      - record: njord:broken
        expr: up + on () up
"""
CONFIG = """
global: {{scrape_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{dead}']}}]}}]}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
  - job_name: dead
    static_configs: [{{targets: ['127.0.0.1:{dead}']}}]
"""


@pytest.fixture(scope="module", params=["2", "3"])
def prometheus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Prometheus]:
    """A server that scrapes itself and a dead target, once its rules were evaluated."""
    directory = tmp_path_factory.mktemp("prometheus")
    (directory / "rules.yml").write_text(RULES)
    port, dead = servers.free_port(), servers.free_port()
    config = CONFIG.format(port=port, dead=dead)
    with servers.prometheus(directory, request.param, config, port=port) as server:
        asked = Prometheus(Server(server.url))
        deadline = time.monotonic() + 60
        while not evaluated(asked):
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.2)
        yield asked


def evaluated(asked: Prometheus) -> bool:
    """Whether each rule was evaluated on samples of both targets; with one alone the broken one is well."""
    both = asked.query('njord:up:sum and on () (count({__name__="up"}) == 2) and on () ALERTS')
    return bool(both) and {rule.health for rule in asked.rules()} == {"ok", "err"}


def test_it_says_what_it_is(prometheus: Prometheus) -> None:
    assert prometheus.ready().status == 200
    assert prometheus.backend() == "Prometheus"
    assert prometheus.version()[0] in "23"
    assert prometheus.flags()["web.enable-lifecycle"] == "true"
    assert prometheus.runtime()["reloadConfigSuccess"] is True


def test_a_query_gives_samples_with_labels_values_and_times(prometheus: Prometheus) -> None:
    samples = {sample.labels["job"]: sample for sample in prometheus.query("up")}
    assert {job: sample.value for job, sample in samples.items()} == {"prometheus": 1.0, "dead": 0.0}
    assert samples["dead"].time == pytest.approx(time.time(), abs=5)


def test_a_query_at_a_fixed_time_is_of_that_time(prometheus: Prometheus) -> None:
    assert prometheus.query("up", time=1_000_000_000.0) == []
    assert [sample.value for sample in prometheus.query("time()", time=1_000_000_000.5)] == [1_000_000_000.5]


@pytest.mark.parametrize(
    ("expression", "value"), [("vector(1) / 0", math.inf), ("vector(-1) / 0", -math.inf), ("1 / 4", 0.25)]
)
def test_values_that_are_no_plain_numbers_are_read(prometheus: Prometheus, expression: str, value: float) -> None:
    assert [sample.value for sample in prometheus.query(expression)] == [value]
    assert math.isnan(prometheus.query("vector(0) / 0")[0].value)


def test_a_range_gives_series_in_order_of_time(prometheus: Prometheus) -> None:
    end = time.time()
    [series] = prometheus.query_range("vector(7)", end - 10, end, 5)
    assert series.labels == {}
    assert [value for _at, value in series.points] == [7.0] * 3
    assert [at for at, _value in series.points] == pytest.approx([end - 10, end - 5, end], abs=0.01)


def test_a_query_that_cannot_be_read_is_refused_with_the_reason(prometheus: Prometheus) -> None:
    with pytest.raises(Refused, match=r"HTTP 400: .*parse error") as raised:
        prometheus.query("sum(")
    assert raised.value.status == 400


def test_a_long_query_arrives(prometheus: Prometheus) -> None:
    expression = " + ".join(["1"] * 5000)
    assert [sample.value for sample in prometheus.query(expression)] == [5000.0]


def test_labels_come_from_the_index(prometheus: Prometheus) -> None:
    now = time.time()
    assert set(prometheus.label_names("up", now - 60, now)) == {"__name__", "instance", "job"}
    assert prometheus.label_values("job", "up", now - 60, now) == ["dead", "prometheus"]
    assert prometheus.label_values("job", "", now - 60, now, limit=0)[:2] == ["dead", "prometheus"]


def test_the_head_is_counted_with_as_many_rows_as_asked_for(prometheus: Prometheus) -> None:
    head = prometheus.head(limit=25)
    assert head.series > 100
    assert head.min_time <= head.max_time
    assert len(head.series_by_metric) == 25
    counts = [count for _metric, count in head.series_by_metric]
    assert counts == sorted(counts, reverse=True)
    assert {name for name, _values in head.values_by_label} >= {"__name__", "job"}


def test_rules_come_with_their_state_and_times(prometheus: Prometheus) -> None:
    rules = {rule.name: rule for rule in prometheus.rules()}
    assert set(rules) == {"njord:up:sum", "NjordAlwaysFires", "NjordPends", "njord:broken"}
    states: dict[str, tuple[t.Any, ...]] = {
        name: (rule.kind, rule.state, rule.hold, rule.health) for name, rule in rules.items()
    }
    assert states == {
        "njord:up:sum": ("recording", "", 0.0, "ok"),
        "NjordAlwaysFires": ("alerting", "firing", 0.0, "ok"),
        "NjordPends": ("alerting", "pending", 3600.0, "ok"),
        "njord:broken": ("recording", "", 0.0, "err"),
    }
    assert "duplicate series" in rules["njord:broken"].error
    fires = rules["NjordAlwaysFires"]
    assert (fires.group, fires.labels) == ("njord", {"severity": "warning"})
    assert fires.annotations == {"summary": "It fires."}
    assert rules["NjordPends"].keep == 300.0
    assert fires.interval == 1.0
    assert fires.evaluated == pytest.approx(time.time(), abs=10)


def test_alerts_that_are_active_come_with_their_begin(prometheus: Prometheus) -> None:
    alerts = {alert.labels["alertname"]: alert for alert in prometheus.alerts()}
    assert {name: alert.state for name, alert in alerts.items()} == {
        "NjordAlwaysFires": "firing",
        "NjordPends": "pending",
    }
    assert alerts["NjordAlwaysFires"].since == pytest.approx(time.time(), abs=120)


def test_targets_come_with_their_last_error(prometheus: Prometheus) -> None:
    targets = {target.pool: target for target in prometheus.targets()}
    assert (targets["prometheus"].health, targets["prometheus"].error) == ("up", "")
    assert targets["dead"].health == "down"
    assert "connection refused" in targets["dead"].error
    assert targets["dead"].labels["job"] == "dead"


def test_alertmanagers_that_are_dead_are_listed_too(prometheus: Prometheus) -> None:
    [url] = prometheus.alertmanagers()
    assert url.endswith("/api/v2/alerts")


def test_the_oldest_sample_is_not_older_than_the_server(prometheus: Prometheus) -> None:
    assert prometheus.oldest() == pytest.approx(time.time(), abs=300)


def test_a_path_that_it_does_not_have_is_unsupported(prometheus: Prometheus) -> None:
    with pytest.raises(Unsupported, match="HTTP 404"):
        prometheus.server.get("/api/v1/no_such_thing")


def test_victoria_metrics_is_told_from_prometheus(tmp_path_factory: pytest.TempPathFactory) -> None:
    with servers.victoria_metrics(tmp_path_factory.mktemp("victoria")) as server:
        asked = Prometheus(Server(server.url))
        assert asked.backend() == "VictoriaMetrics"


def test_what_speaks_no_api_of_prometheus_is_no_prometheus(tmp_path_factory: pytest.TempPathFactory) -> None:
    with servers.node_exporter(tmp_path_factory.mktemp("node")) as server:
        asked = Prometheus(Server(server.url))
        with pytest.raises((Unreadable, Unsupported)):
            asked.query("up")


def test_it_says_what_it_was_told_and_what_it_counts_of_itself(prometheus: Prometheus) -> None:
    assert "job_name: dead" in prometheus.configuration()
    assert prometheus.own("prometheus_config_last_reload_successful") == 1
    with pytest.raises(Unreadable, match="no prometheus_never_heard_of"):
        prometheus.own("prometheus_never_heard_of")


def test_it_writes_an_expression_in_its_own_way(prometheus: Prometheus) -> None:
    assert prometheus.formatted("sum(rate(x{a='b'}[5m])) by (c)") == 'sum by (c) (rate(x{a="b"}[5m]))'
    with pytest.raises(Refused, match="parse error"):
        prometheus.formatted("sum(")
