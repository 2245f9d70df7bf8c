# SPDX-License-Identifier: GPL-3.0-or-later
"""The query logs that real servers write, told by the module: rules, dashboards, errors, and what would help."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.recording_rule import (
    now_of,
    propose,
    prove,
)
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.testbench import servers
from tests.testbench.module import findings, run
from tests.testbench.packages import program

RULES = r"""
groups:
  - name: njord
    interval: 1s
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: Quoted
        expr: 'up{job="a\\b"} > 1'
"""
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s, query_log_file: {log}}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""
SLOW = 'sum by (code) (rate(prometheus_http_requests_total{handler!=""}[15s]))'
RAW = '{__name__=~"go_.+"}'
AMBIGUOUS = 'label_replace(up, "job", "x", "instance", ".*") * on (job) {__name__=~".+"}'
# 3,540,000 samples, and 600,000, which nobody counts in a millisecond.
TOO_MANY = "count_over_time(vector(1)[59m:1ms])"
TOO_LONG = "sum(count_over_time(vector(1)[10m:1ms]))"
COSTLY = "sum by (handler) (count_over_time(prometheus_http_requests_total[1m:10ms]))"
TOP = "topk(2, sum by (handler) (prometheus_http_requests_total)) > 0"
# Once there is enough to compare.
SETTLED = 'count_over_time(prometheus_http_requests_total{handler="/api/v1/query", code="200"}[1m]) >= 8'


class Logged(t.NamedTuple):
    """A server whose log holds what :func:`logged` asked."""

    version: str
    server: servers.Server
    log: Path
    promtool: str
    answer: dict[str, t.Any]


def ask(server: servers.Server, query: str, **parameters: t.Any) -> int:
    """The status of the answer."""
    path = "query_range" if "step" in parameters else "query"
    form = {"query": query, **{name: str(value) for name, value in parameters.items()}}
    try:
        return Server(server.url).post(f"/api/v1/{path}", form).status
    except HttpError as error:
        return error.status or 0


def wait_for(client: Prometheus, query: str) -> None:
    deadline = time.monotonic() + 30
    while not client.query(query):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def look(server: servers.Server, **options: t.Any) -> dict[str, t.Any]:
    return run("query_log_info", {"prometheus_url": server.url, **options})


@pytest.fixture(scope="module", params=["2", "3"])
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Logged]:
    directory = tmp_path_factory.mktemp(f"prometheus{request.param}")
    (directory / "rules.yml").write_text(RULES)
    port = servers.free_port()
    config = CONFIG.format(log="logs/query.log", port=port)
    (directory / "logs").mkdir()
    arguments = ["--query.max-samples=2000000"]
    with servers.prometheus(directory, request.param, config, arguments, port) as server:
        client = Prometheus(Server(server.url))
        wait_for(client, "job:up:sum == 1")
        now = time.time()
        for _time in range(3):
            assert ask(server, SLOW) == 200
        assert ask(server, SLOW.replace("15s", "16s")) == 200
        assert ask(server, SLOW, start=now - 5, end=now, step=1) == 200
        for query in (RAW, TOP, COSTLY, COSTLY, COSTLY):
            assert ask(server, query) == 200
        assert ask(server, AMBIGUOUS) == 422
        assert ask(server, TOO_MANY) == 422
        assert ask(server, TOO_LONG, timeout="1ms") == 503
        assert ask(server, "sum(") == 400
        wait_for(client, SETTLED)
        promtool = str(program("promtool", request.param))
        yield Logged(
            request.param,
            server,
            directory / "logs" / "query.log",
            promtool,
            look(server, slow="0", promtool=promtool),
        )


def row(answer: dict[str, t.Any], query: str) -> dict[str, t.Any]:
    (found,) = [row for row in answer["queries"] if query in (row["query"], row["shape"])]
    return t.cast("dict[str, t.Any]", found)


def test_each_query_is_counted_as_often_as_it_was_asked(logged: Logged) -> None:
    assert logged.answer["path"] == str(logged.log)
    found = row(logged.answer, SLOW.replace("15s", "..."))
    assert found["kind"] == "request"
    assert found["count"] == 5
    assert found["asked_by"] == ["127.0.0.1"]
    assert 0 < found["p50"] <= found["p95"] * 1.01 <= found["max"] * 1.02
    assert found["seconds"] >= found["max"]
    assert row(logged.answer, RAW)["samples"] > 10
    assert row(logged.answer, RAW)["peak_samples"] > 10


def test_the_figures_are_those_of_the_log(logged: Logged) -> None:
    lines = [json.loads(line) for line in logged.log.read_text().splitlines()]
    raw = next(line for line in lines if line["params"]["query"] == RAW)
    found = row(logged.answer, RAW)
    assert found["max"] == found["seconds"] == raw["stats"]["timings"]["execTotalTime"]
    assert found["queue_max"] == raw["stats"]["timings"]["execQueueTime"]
    assert found["samples"] == raw["stats"]["samples"]["totalQueryableSamples"]
    assert found["slowest"]["at"] == raw.get("ts", raw.get("time"))
    assert found["slowest"]["path"] == "/api/v1/query"


def test_rules_are_told_apart_from_dashboards(logged: Logged) -> None:
    (group,) = logged.answer["rules"]
    assert group["group"] == "njord"
    assert group["file"].endswith("rules.yml")
    counts = logged.answer["counts"]
    assert counts["rules"] == group["count"] > 10
    (client,) = logged.answer["clients"]
    assert counts["requests"] == client["count"]
    assert counts["requests"] + counts["rules"] + counts["other"] == counts["lines"]
    assert row(logged.answer, 'up{job="a\\\\b"} > 1')["kind"] == "rule"


def test_nothing_that_it_wrote_is_misunderstood(logged: Logged) -> None:
    assert logged.answer["counts"]["not_understood"] == {}
    assert [finding["severity"] for finding in findings(logged.answer, "query.log")] == ["ok"]
    assert [finding["severity"] for finding in findings(logged.answer, "query.writing")] == ["ok"]


def test_a_failed_query_is_told_with_its_message_and_what_to_do(logged: Logged) -> None:
    found = {finding["subject"]: finding for finding in findings(logged.answer, "query.errors")}
    assert "many-to-many matching not allowed" in found["ambiguous join"]["evidence"]["examples"][0]["message"]
    assert "on (...)" in found["ambiguous join"]["remedy"]
    assert set(found) == {"ambiguous join", "too many samples", "timed out"}
    assert row(logged.answer, AMBIGUOUS)["errors"] == 1
    assert logged.answer["counts"]["errors"] == 3


def test_a_rule_is_evaluated_for_real_and_gives_the_same_values(logged: Logged) -> None:
    client = Prometheus(Server(logged.server.url))
    for query, record in (
        (SLOW, "code:prometheus_http_requests:rate15s"),
        (TOP, "handler:prometheus_http_requests_total:sum"),
    ):
        proposal = propose(client.formatted(query), ["code"], 1)
        assert proposal.record == record
        proof = prove(client, proposal, logged.promtool, now_of(client))
        assert proof.state == "proven", proof
        assert proof.compared >= 2
        assert "evaluated for real" in proof.how


def test_a_rule_that_records_something_else_is_found_out(logged: Logged) -> None:
    client = Prometheus(Server(logged.server.url))
    proposal = propose(SLOW, ["code"], 1)
    wrong = dataclasses.replace(proposal, expression=f"{SLOW} * 2 + 1")
    for promtool in (logged.promtool, ""):
        proof = prove(client, wrong, promtool, now_of(client))
        assert proof.state == "differs"
        assert "by the rule" in proof.differences[0]


def test_where_promtool_is_not_there_the_proof_says_that_no_rule_was_evaluated(logged: Logged) -> None:
    client = Prometheus(Server(logged.server.url))
    proof = prove(client, propose(SLOW, ["code"], 1), "", now_of(client))
    assert proof.state == "proven"
    assert proof.how.startswith("No rule was evaluated, since promtool is not on the host")


def test_a_rule_that_promtool_refuses_is_not_proven(logged: Logged) -> None:
    client = Prometheus(Server(logged.server.url))
    proposal = propose(SLOW, ["code"], 1)
    proof = prove(client, dataclasses.replace(proposal, expression="sum("), logged.promtool, now_of(client))
    assert proof.state == "unknown"
    assert "promtool check rules ended with" in proof.how


def test_a_costly_query_comes_with_a_rule_that_is_proven(logged: Logged) -> None:
    (told,) = [one for one in findings(logged.answer, "query.slow") if one["evidence"].get("query") == COSTLY]
    record = "handler:prometheus_http_requests_total:count_over_time1m"
    assert f'record: "{record}"' in told["evidence"]["recording_rule"]
    assert told["evidence"]["replacement"] == record
    assert told["evidence"]["proof"]["state"] == "proven", told["evidence"]["proof"]
    assert told["remedy"].startswith("Put the recording rule of the evidence into a file of rules")
    assert row(logged.answer, COSTLY.replace("1m:10ms", "..."))["recording_rule"] == told["evidence"]["recording_rule"]


def test_where_there_is_no_rule_the_reason_stands_in_its_place(logged: Logged) -> None:
    told = [one["evidence"] for one in findings(logged.answer, "query.slow") if "query" in one["evidence"]]
    refused = [one["no_recording_rule"] for one in told if one["query"] == TOO_MANY]
    assert "too many samples" in refused[0]


def test_rotated_and_compressed_files_are_read_with_it(logged: Logged, tmp_path: Path) -> None:
    lines = logged.log.read_bytes().splitlines(keepends=True)
    (tmp_path / "query.log").write_bytes(b"".join(lines[20:]))
    (tmp_path / "query.log.1").write_bytes(b"".join(lines[10:20]))
    (tmp_path / "query.log.2.gz").write_bytes(gzip.compress(b"".join(lines[:10])))
    (tmp_path / "other.log.1").write_bytes(b"".join(lines))
    found = look(logged.server, path=str(tmp_path / "query.log"), jobs=2)
    assert found["counts"]["lines"] == len(lines)
    assert len(found["files"]) == 3


def test_a_server_that_is_down_is_told_of_by_its_log_all_the_same(logged: Logged) -> None:
    found = run("query_log_info", {"prometheus_url": "http://127.0.0.1:9", "path": str(logged.log)})
    assert found["counts"]["lines"] > 20
    (writing,) = findings(found, "query.writing")
    assert writing["severity"] == "unknown"


def test_without_a_log_it_is_unknown_and_says_how_to_get_one(tmp_path: Path) -> None:
    with servers.prometheus(tmp_path, "3") as server:
        found = look(server)
    (finding,) = found["findings"]
    assert (finding["check"], finding["severity"]) == ("query.log", "unknown")
    assert "query_log_file" in finding["remedy"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_log_that_cannot_be_written_is_critical(version: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    port = servers.free_port()
    with servers.prometheus(tmp_path, version, CONFIG.format(log="query.log", port=port), port=port) as server:
        (tmp_path / "prometheus.yml").write_text(CONFIG.format(log="nowhere/query.log", port=port))
        with pytest.raises(HttpError):
            Server(server.url).post("/-/reload")
        found = look(server)
    (finding,) = findings(found, "query.writing")
    assert finding["severity"] == "critical"
    assert "nowhere" in finding["remedy"]
    assert [one["severity"] for one in findings(found, "query.log")] == ["unknown"]


def test_a_log_that_may_not_be_read_is_unknown(logged: Logged, tmp_path: Path) -> None:
    shutil.copy(logged.log, tmp_path / "query.log")
    (tmp_path / "query.log").chmod(0)
    tmp_path.chmod(0o755)
    found = run(
        "query_log_info", {"prometheus_url": logged.server.url, "path": str(tmp_path / "query.log")}, user=65534
    )
    assert [one["severity"] for one in findings(found, "query.log")] == ["unknown"]
    assert found["counts"]["lines"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "query.log"}, "path: 'query.log' is relative"),
        ({"window": "7"}, "window: '7' is no duration"),
        ({"slow": "fast"}, "slow: 'fast' is no duration"),
        ({"until": "yesterday"}, "until: 'yesterday' is no time"),
        ({"top": 0}, "top: 0 does not lie between 1 and 1000"),
        ({"jobs": 65}, "jobs: 65 does not lie between 1 and 64"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: dict[str, t.Any], message: str) -> None:
    answer = run("query_log_info", options)
    assert answer["failed"]
    assert answer["msg"].startswith(message)
