# SPDX-License-Identifier: GPL-3.0-or-later
"""Usage of the metrics of real servers: rules, dashboards and a query log that they wrote, and the drop that was
advised."""

from __future__ import annotations

import json
import re
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

from tests.service.test_cardinality_info import Page
from tests.testbench import servers
from tests.testbench.module import findings, run
from tests.testbench.packages import program

RULES = """
groups:
  - name: trading
    interval: 1s
    rules:
      - alert: Quiet
        expr: rate(njord_fills_total[1m]) == 0
        annotations:
          text: '{{ with query "njord_in_a_template" }}{{ . | first | value }}{{ end }}'
      - record: job:njord_volume:sum
        expr: sum by (job) (njord_volume_total)
"""
BOARD = {
    "title": "Trading",
    "templating": {"list": [{"name": "symbol", "type": "query", "query": "label_values(njord_in_a_variable, symbol)"}]},
    "panels": [
        {
            "type": "row",
            "panels": [
                {
                    "title": "Latency",
                    "targets": [
                        {"expr": 'rate(njord_latency_seconds_bucket{x="$symbol"}[$__interval])'},
                        {"expr": '{__name__=~"(?i)NJORD_GROUP_.*"}'},
                    ],
                }
            ],
        }
    ],
}
UNUSED = {"njord_spare_total", "njord_quantiles", "job:njord_volume:sum"}
USED = {
    "njord_fills_total",
    "njord_in_a_template",
    "njord_volume_total",
    "njord_in_a_variable",
    "njord_group_a",
    "njord_group_b",
    "njord_lag_seconds",
    "njord_latency_seconds_bucket",
    "njord_latency_seconds_count",
    "njord_latency_seconds_sum",
    "njord_quantiles_count",
    "njord_quantiles_sum",
}


def page() -> str:
    lines = [f"{name} 1" for name in sorted(USED) if "latency" not in name and "quantiles" not in name]
    lines += [f'njord_spare_total{{order="{number}"}} 1' for number in range(300)]
    lines += [f'njord_latency_seconds_bucket{{le="{le}"}} 1' for le in ("0.1", "+Inf")]
    lines += ["njord_latency_seconds_count 1", "njord_latency_seconds_sum 1"]
    lines += [f'njord_quantiles{{quantile="{share}"}} 1' for share in ("0.5", "0.9")]
    return "\n".join([*lines, "njord_quantiles_count 1", "njord_quantiles_sum 1"]) + "\n"


class Stack(t.NamedTuple):
    server: servers.Server
    client: Prometheus
    directory: Path
    answer: dict[str, t.Any]
    version: str


def configuration(port: int, relabelling: str = "") -> str:
    job = {
        "job_name": "njord",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        **yaml.safe_load(relabelling or "{}"),
    }
    interval = {"scrape_interval": "1s", "evaluation_interval": "1s", "query_log_file": "query.log"}
    return yaml.safe_dump({"global": interval, "rule_files": ["rules.yml"], "scrape_configs": [job]})


def wait_for(client: Prometheus, query: str) -> None:
    deadline = time.monotonic() + 30
    while not client.query(query):
        assert time.monotonic() < deadline, query
        time.sleep(0.2)


def look(server: servers.Server, directory: Path, **options: t.Any) -> dict[str, t.Any]:
    found = run(
        "metric_usage_info",
        {"prometheus_url": server.url, "dashboards": [str(directory / "dashboards")], **options},
    )
    assert "counts" in found, found
    return found


def usage(answer: dict[str, t.Any]) -> dict[str, str]:
    return {row["name"]: row["usage"] for row in answer["metrics"]}


def log_of_a_month(log: Path) -> None:
    """One of the lines that the server wrote, as if it were 29 days old, in a rotated file."""
    line = log.read_text().splitlines()[0]
    old = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 29 * 86_400))
    written = re.sub(r'("(?:time|ts)":)"[^"]*"', rf'\1"{old}"', line)
    assert written != line
    log.with_name(f"{log.name}.1").write_text(written + "\n")


@pytest.fixture(scope="module", params=["2", "3"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Stack]:
    directory = tmp_path_factory.mktemp(f"usage{request.param}")
    (directory / "rules.yml").write_text(RULES)
    (directory / "dashboards").mkdir()
    (directory / "dashboards" / "trading.json").write_text(json.dumps(BOARD))
    with Page() as exporter:
        exporter.text = page()
        config = configuration(exporter.port)
        with servers.prometheus(directory, request.param, config) as server:
            client = Prometheus(Server(server.url))
            wait_for(client, "count({__name__='job:njord_volume:sum'})")
            # Longer than what is shown of a query, with a metric at its end.
            client.query(f'max(njord_lag_seconds{{x!="{"y" * 5000}"}}) + sum(rate(njord_quantiles_sum[1m]))')
            log_of_a_month(directory / "query.log")
            yield Stack(server, client, directory, look(server, directory), request.param)


def test_what_nobody_reads_is_unused_and_everything_else_is_not(stack: Stack) -> None:
    assert usage(stack.answer) == dict.fromkeys(UNUSED, "unused")
    assert stack.answer["counts"]["used"]["metrics"] == len(USED)
    (readers,) = findings(stack.answer, "usage.readers")
    assert (readers["severity"], readers["evidence"]["missing"]) == ("ok", [])
    assert readers["evidence"]["figures"]["dashboard_queries_read"] == 3


def test_the_cost_is_what_the_server_counts(stack: Stack) -> None:
    rows = {row["name"]: row for row in stack.answer["metrics"]}
    assert (rows["njord_spare_total"]["series"], rows["njord_spare_total"]["samples_per_second"]) == (300, 300)
    assert (rows["njord_quantiles"]["series"], rows["njord_quantiles"]["jobs"]) == (2, ["njord"])
    (summary,) = findings(stack.answer, "usage.metrics")
    assert (summary["severity"], summary["evidence"]["figures"]["unused_series"]) == ("info", 303)
    assert summary["summary"].startswith("3 of ")
    assert rows["job:njord_volume:sum"]["recorded_by"] == "trading"


def test_the_audit_does_not_make_what_it_asks_for_used(stack: Stack) -> None:
    wanted = usage(stack.answer)
    stack.client.query('count by (__name__) ({__name__=~".+"})')
    deadline = time.monotonic() + 10
    while "count by (__name__, job)" not in (stack.directory / "query.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert usage(look(stack.server, stack.directory)) == wanted


def test_another_of_our_audits_looks_at_a_metric_and_does_not_use_it(stack: Stack) -> None:
    wanted = usage(stack.answer)
    answer = run("scrape_info", {"prometheus_url": stack.server.url, "metric": "njord_spare_total", "window": "1m"})
    assert "findings" in answer, answer
    log = (stack.directory / "query.log").read_text()
    assert any("njord_spare_total" in line and AUDIT in line for line in log.splitlines())
    assert usage(look(stack.server, stack.directory)) == wanted


def test_without_a_whole_log_nothing_is_sure(stack: Stack) -> None:
    answer = look(stack.server, stack.directory, window="60d", top=0)
    assert set(usage(answer).values()) == {"probably unused"}
    assert {drop["usage"] for drop in answer["drop_rules"]} == {"probably unused"}
    assert findings(answer, "usage.metric") == []
    (readers,) = findings(answer, "usage.readers")
    assert "of the 60 d that were asked for" in readers["summary"]
    answer = look(stack.server, stack.directory, query_log=str(stack.directory / "none.log"), dashboards=[])
    assert set(usage(answer)) > UNUSED
    assert set(usage(answer).values()) == {"probably unused"}


def test_labels_alone_and_an_unknown_function_make_metrics_unknown(stack: Stack) -> None:
    board = stack.directory / "dashboards" / "more.json"
    board.write_text(json.dumps({"panels": [{"title": "X", "targets": [{"expr": "of_tomorrow(njord_spare_total)"}]}]}))
    answer = look(stack.server, stack.directory)
    assert usage(answer)["njord_spare_total"] == "unknown"
    assert usage(answer)["njord_quantiles"] == "unused"
    board.write_text(json.dumps({"panels": [{"title": "X", "targets": [{"expr": '{quantile="0.5"}'}]}]}))
    answer = look(stack.server, stack.directory)
    board.unlink()
    assert usage(answer)["njord_quantiles"] == "unknown"
    assert "more.json: X" in findings(answer, "usage.unknown")[0]["summary"]


def test_a_server_that_federates_may_read_anything(stack: Stack) -> None:
    Server(stack.server.url).get("/federate", {"match[]": "up"})
    answer = look(stack.server, stack.directory)
    assert set(usage(answer).values()) == {"unknown"}
    assert answer["drop_rules"] == []
    (unknown,) = findings(answer, "usage.unknown")
    assert "another server federates from this one" in unknown["summary"]


def test_the_drop_that_is_advised_drops_these_and_no_other(stack: Stack) -> None:
    (drop,) = stack.answer["drop_rules"]
    assert (drop["job"], drop["usage"]) == ("njord", "unused")
    before = yaml.safe_load((stack.directory / "prometheus.yml").read_text())
    target = before["scrape_configs"][0]["static_configs"][0]["targets"][0]
    path = stack.directory / "prometheus.yml"
    path.write_text(configuration(int(target.rpartition(":")[2]), drop["relabelling"]))
    subprocess.run([program("promtool", stack.version), "check", "config", path], check=True, capture_output=True)
    count = 'count by (__name__) ({__name__=~"njord_.+"})'
    known = {sample.labels["__name__"] for sample in stack.client.query(count)}
    Server(stack.server.url).post("/-/reload")
    wait_for(stack.client, f'count({{__name__=~"njord_.+"}}) < {len(USED) + 10}')
    left = {sample.labels["__name__"] for sample in stack.client.query(count)}
    assert known - left == set(drop["metrics"])
    assert stack.client.query("up == 1")


def test_who_is_no_prometheus_is_not_judged(tmp_path: Path) -> None:
    answer = look(servers.Server("none", [], tmp_path, servers.free_port(), "/"), tmp_path)
    (finding,) = answer["findings"]
    assert (finding["check"], finding["severity"]) == ("usage.metrics", "unknown")
    assert "connection refused" in finding["summary"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": "30"}, "window: '30' is no duration"),
        ({"window": "0"}, "window: 0 is too short"),
        ({"top": -1}, "top: -1 does not lie between 0 and 1000"),
        ({"dashboards": ["boards"]}, "dashboards: 'boards' is relative"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: dict[str, t.Any], said: str) -> None:
    answer = run("metric_usage_info", options)
    assert answer["failed"]
    assert said in answer["msg"]
