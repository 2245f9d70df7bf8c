# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of real servers, audited: one as the role writes it with intervals of its own for some metrics, and
one with every fault."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.conftest import ROOT
from tests.service.test_cardinality_info import Page
from tests.service.test_exporter_service import Exporter, Publisher, message, waited_for
from tests.testbench import servers
from tests.testbench.module import findings, run
from tests.testbench.packages import program

ROLE = ROOT / "roles" / "prometheus"
CATALOGUE: list[dict[str, t.Any]] = yaml.safe_load(
    (ROOT / "files/exporter/njord_telemetry/catalogue.yaml").read_text()
)["metrics"]
VERSIONS = ("2", "3")
# The runbook's own.
SPLIT = {
    pace: {
        "interval": interval,
        "metrics": sorted(metric["name"] for metric in CATALOGUE if metric["pace"] == pace),
    }
    for pace, interval in (("fast", "5s"), ("slow", "60s"))
}
FAULTY_RULES = """
groups:
  - name: faulty
    interval: 2s
    rules:
      - {record: "a:recorded", expr: "njord_a_total * 1"}
      - {alert: Short, expr: "rate(njord_a_total[7s]) > 1000"}
      - {alert: Empty, expr: "rate(njord_a_total[3s]) > 1000"}
      - {alert: OfRecorded, expr: "max_over_time(a:recorded[6s]) > 1000"}
      - {alert: OfSubquery, expr: "max_over_time((njord_a_total > 0)[20s:10s]) > 1000"}
      - {alert: OfOneJob, expr: 'rate(njord_a_total{job="njord_quant_fast"}[5s]) > 1000'}
      - {alert: Long, expr: "rate(njord_a_total[8s]) > 1000"}
      - {alert: OfNobody, expr: "rate(njord_z_total[8s]) > 1000"}
      - {alert: Parted, expr: "njord_a_total > njord_only_fast"}
      - {alert: Met, expr: "njord_a_total > on (instance) group_left () njord_only_fast"}
"""


@dataclasses.dataclass
class Bench:
    """A server, what it scrapes, and its files."""

    directory: Path
    url: str
    client: Prometheus
    exporter: Exporter | None = None

    def audit(self, **options: t.Any) -> dict[str, t.Any]:
        answer = run("configuration_info", {"prometheus_url": self.url, "catalogue": CATALOGUE, **options})
        assert not answer.get("failed"), answer
        return answer


def render(directory: Path, **variables: t.Any) -> subprocess.CompletedProcess[str]:
    """The configuration as the role's template has it, unless the role refuses the variables."""
    template = {"src": str(ROLE / "templates/configuration/prometheus.yml.j2"), "dest": str(directory / "rendered.yml")}
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    (refusal,) = (task for task in tasks if task["name"] == "Refuse settings that do not fit together")
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [
            refusal,
            {"ansible.builtin.template": {**template, "mode": "0644"}},
        ],
    }
    (directory / "render.json").write_text(json.dumps([play]))
    told = json.dumps({"ansible_facts": {"architecture": "x86_64"}, **variables})
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), directory / "render.json", "-e", told],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def is_scraped_by_each(bench: Bench) -> bool:
    return len(bench.client.query('up{job=~"njord_quant.*"} == 1')) == 3


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[dict[str, Bench]]:
    """Both versions with the runbook's intervals, once each job was scraped four times, the slow one twice."""
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("bus")
        bus = stack.enter_context(servers.redis(place))
        exporter = stack.enter_context(Exporter(place, bus.url))
        node = stack.enter_context(servers.node_exporter(place))
        waited_for(exporter.is_ready, "readiness")
        with Publisher(bus.port) as publisher:
            publisher.send(
                *(
                    message(metric["name"], number + 1.5, metric["type"], **dict.fromkeys(metric["labels"], value))
                    for number, metric in enumerate(CATALOGUE)
                    for value in ("one", "two")
                ),
                message("njord_of_tomorrow_total", 3, "counter"),
            )
        made = {}
        for version in VERSIONS:
            directory = tmp_path_factory.mktemp(f"split{version}")
            port = servers.free_port()
            rendered = render(
                directory,
                prometheus_listen_address=f"127.0.0.1:{port}",
                prometheus_exporter_targets=[f"127.0.0.1:{exporter.port}"],
                prometheus_node_exporter_targets=[node.url.split("//")[1]],
                prometheus_query_log=False,
                prometheus_exporter_intervals=SPLIT,
            )
            assert rendered.returncode == 0, rendered.stdout
            shutil.copytree(ROLE / "templates/configuration/rules", directory / "rules")
            config = (directory / "rendered.yml").read_text()
            server = stack.enter_context(servers.prometheus(directory, version, config, port=port))
            made[version] = Bench(directory, server.url, Prometheus(Server(server.url)), exporter)
        for bench in made.values():
            waited_for(
                functools.partial(is_scraped_by_each, bench),
                "a scrape by each job",
                70,
            )
        time.sleep(10)
        yield made


@pytest.fixture(params=VERSIONS)
def bench(request: pytest.FixtureRequest, benches: dict[str, Bench]) -> Bench:
    return benches[request.param]


@pytest.mark.parametrize("version", VERSIONS)
def test_promtool_takes_what_the_role_writes(version: str, benches: dict[str, Bench]) -> None:
    command = [str(program("promtool", version)), "check", "config", f"{benches[version].directory}/prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_a_split_every_series_is_there_once_with_the_exporters_own_value_and_none_is_lost(bench: Bench) -> None:
    def series(name: str, labels: t.Iterable[tuple[str, str]]) -> tuple[str, frozenset[tuple[str, str]]]:
        """Without what a scrape adds; 3.x writes the bounds of buckets in its own way."""
        own = ("job", "instance", "__name__")
        plain = ((key, repr(float(value)) if key == "le" else value) for key, value in labels if key not in own)
        return name, frozenset(plain)

    assert bench.exporter
    stored: dict[tuple[str, frozenset[tuple[str, str]]], list[float]] = {}
    for sample in bench.client.query('{job=~"njord_quant.*"}'):
        stored.setdefault(series(sample.labels["__name__"], sample.labels.items()), []).append(sample.value)
    served = {series(*key): value for key, value in bench.exporter.values().items()}
    made = ("up", "scrape_", "ALERTS", "njord:")
    assert {name for name, _labels in stored if not name.startswith(made)} == {name for name, _labels in served}
    steady = {key: value for key, value in served.items() if "exporter" not in key[0] and "njord" in key[0]}
    assert len(steady) > 200
    assert {key: stored.get(key) for key in steady} == {key: [value] for key, value in steady.items()}


def test_each_job_has_its_metrics_and_the_first_one_all_that_nobody_named(bench: Bench) -> None:
    def jobs(name: str) -> set[str]:
        return {sample.labels["job"] for sample in bench.client.query(name)}

    assert jobs("njord_fills_generated_total") == {"njord_quant_fast"}
    assert jobs("njord_fill_latency_ms_bucket") == jobs("njord_fill_latency_ms_count") == {"njord_quant_fast"}
    assert jobs("njord_position_size") == {"njord_quant_slow"}
    assert jobs("njord_of_tomorrow_total") == jobs("njord_memory_usage_mb") == {"njord_quant"}


def test_ranges_of_the_shipped_rules_hold_their_four_scrapes(bench: Bench) -> None:
    for text in ("njord_fills_generated_total[1m]", "njord_fill_latency_ms_bucket[2m]"):
        assert min(sample.value for sample in bench.client.query(f"count_over_time({text})")) >= 4
    assert bench.client.query("njord:fills:rate1m")


def test_the_audit_of_the_split_finds_nothing_and_proposes_what_is_in_force(bench: Bench) -> None:
    answer = bench.audit()
    said = {finding["check"]: finding for finding in answer["findings"]}
    assert len(said) == len(answer["findings"])
    severities = {check: finding["severity"] for check, finding in said.items()}
    assert severities == dict.fromkeys(severities, "ok"), said
    assert "no metric passes the filters of two" in said["configuration.doubled"]["summary"]
    assert len(said["configuration.windows"]["evidence"]["ranges"]) >= 5
    assert answer["in_force"] == answer["proposal"] == SPLIT
    assert answer["differs"] is False
    assert bench.audit(intervals=SPLIT)["proposal"] == SPLIT
    assert yaml.safe_load(answer["variable"]) == {"prometheus_exporter_intervals": SPLIT}
    assert answer["settle_seconds"] == 120
    assert answer["figures"]["targets_down"] == 0


def test_another_wish_is_proposed_with_what_it_costs_and_which_alerts_see_it_later(bench: Bench) -> None:
    answer = bench.audit(wanted={"slow": "30s", "fast": "15s"})
    assert answer["differs"] is True
    assert {name: entry["interval"] for name, entry in answer["proposal"].items()} == {"slow": "30s"}
    (finding,) = findings(answer, "configuration.intervals")
    assert finding["severity"] == "warning"
    assert finding["evidence"]["figures"]["added_pages_per_minute"] == -11
    assert ["HighFillLatency", "njord_fill_latency_ms", 5, 15] in finding["evidence"]["alerts_that_see_it_later"]
    assert "write the variable of the evidence into the inventory" in finding["remedy"]


def test_the_role_refuses_what_would_double_a_series_or_cannot_be_read_and_says_which(tmp_path: Path) -> None:
    split = {
        "fast": {"interval": "5s", "metrics": ["njord_fills_generated_total", "njord_x"]},
        "slow": {"interval": "60s", "metrics": ["njord_fills_generated", "njord_x_count", "njord_.*"]},
        "other": {"interval": "5", "metrics": ["njord_y"]},
        "empty": {"interval": "5s", "metrics": []},
    }
    refused = render(tmp_path, prometheus_exporter_intervals=split)
    assert refused.returncode != 0
    said = " ".join(refused.stdout.split())
    assert "njord_fills_generated is named more than once" in said
    assert "njord_x_count belongs to another metric" in said
    assert "njord_.* is no name of a metric" in said
    assert "other has the interval 5; 5s, 30s or 1m would do" in said
    assert "empty needs interval and metrics" in said
    assert not (tmp_path / "rendered.yml").exists()


def test_without_intervals_of_their_own_there_is_one_job_and_its_login_is_that_of_every_other(tmp_path: Path) -> None:
    def jobs(**variables: t.Any) -> list[dict[str, t.Any]]:
        assert render(tmp_path, **variables).returncode == 0
        written = yaml.safe_load((tmp_path / "rendered.yml").read_text())["scrape_configs"]
        return [job for job in written if job["job_name"].startswith("njord_quant")]

    with_token = {"prometheus_exporter_token_file": "/file"}
    assert jobs() == [{"job_name": "njord_quant", "static_configs": [{"targets": ["127.0.0.1:9091"]}]}]
    split = jobs(prometheus_exporter_intervals=SPLIT, **with_token)
    assert [job["job_name"] for job in split] == ["njord_quant", "njord_quant_fast", "njord_quant_slow"]
    assert [job["authorization"] for job in split] == [{"credentials_file": "secrets/exporter-token"}] * 3
    assert jobs(prometheus_exporter_intervals=SPLIT, prometheus_exporter_targets=[]) == []


@pytest.fixture(scope="module", params=VERSIONS)
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Bench]:
    """The runbook's own two jobs, on one target and without filters, and rules that do not bear it."""
    directory = tmp_path_factory.mktemp(f"faulty{request.param}")
    (directory / "rules").mkdir()
    (directory / "rules" / "faulty.yml").write_text(FAULTY_RULES)
    with Page() as page:
        page.text = 'njord_a_total 1\nnjord_a_total{x="y"} 1\nnjord_only_fast 1\nnjord_position_size 1\n'
        target = {"static_configs": [{"targets": [f"127.0.0.1:{page.port}"]}]}
        drop = [{"source_labels": ["__name__"], "regex": "njord_only_fast", "action": "drop"}]
        only = [{"source_labels": ["__name__"], "regex": "njord_only_fast", "action": "keep"}]
        config = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": ["rules/*.yml", "nowhere/*.yml"],
            "scrape_configs": [
                {"job_name": "njord_quant", "scrape_interval": "2s", "metric_relabel_configs": drop, **target},
                {"job_name": "njord_quant_fast", "scrape_interval": "1s", "metric_relabel_configs": drop, **target},
                {"job_name": "njord_quant_only", "scrape_interval": "1s", "metric_relabel_configs": only, **target},
            ],
        }
        with servers.prometheus(directory, request.param, json.dumps(config)) as server:
            made = Bench(directory, server.url, Prometheus(Server(server.url)))
            waited_for(lambda: len(made.client.query("njord_a_total")) == 4, "both jobs")
            waited_for(lambda: made.client.query("njord_only_fast and on () a:recorded"), "a recorded metric")
            yield made


def test_targets_that_are_scraped_twice_are_proven_by_the_metrics_that_are_there_twice(faulty: Bench) -> None:
    (finding,) = findings(faulty.audit(), "configuration.doubled")
    assert finding["severity"] == "warning"
    assert finding["evidence"]["metrics_seen_twice"] == ["njord_a_total", "njord_position_size"]
    assert "stored more than once (njord_a_total, njord_position_size)" in finding["summary"]
    assert finding["evidence"]["figures"] == {"doubled_metrics": 2, "doubled_series": 3}


def test_ranges_are_judged_by_the_jobs_that_their_metric_comes_from(faulty: Bench) -> None:
    said = {finding["subject"]: finding for finding in findings(faulty.audit(), "configuration.windows")}
    unknown = said.pop(faulty.url)
    assert unknown["severity"] == "unknown"
    assert "njord_z_total is not there now" in unknown["summary"]
    assert {subject.split("/")[1]: finding["severity"] for subject, finding in said.items()} == {
        "Short": "warning",
        "Empty": "critical",
        "OfRecorded": "warning",
        "OfSubquery": "warning",
    }
    assert "holds 1.5 samples of job njord_quant (every 2 s)" in said["faulty/Empty"]["summary"]
    assert "the alert cannot fire" in said["faulty/Empty"]["summary"]


def test_an_operator_whose_sides_come_from_two_jobs_is_named_and_the_one_that_joins_on_instance_is_not(
    faulty: Bench,
) -> None:
    (finding,) = findings(faulty.audit(), "configuration.joins")
    assert finding["subject"] == "faulty/Parted"
    assert "so that none meets: njord_a_total > njord_only_fast" in finding["summary"]
    assert faulty.client.query("njord_a_total > 0 and njord_only_fast") == []


def test_patterns_that_nothing_fits_and_files_that_are_not_loaded_are_named(faulty: Bench) -> None:
    (finding,) = findings(faulty.audit(), "configuration.rule_files")
    assert finding["severity"] == "warning"
    assert "no file fits" in finding["summary"] and "nowhere/*.yml of rule_files" in finding["summary"]
    late = faulty.directory / "rules" / "late.yml"
    late.write_text("groups: [{name: late, rules: [{record: b, expr: '1'}]}]")
    (faulty.directory / "rules" / "empty.yml").write_text("groups: []\n")
    try:
        (finding,) = findings(faulty.audit(), "configuration.rule_files")
        assert finding["evidence"]["not_loaded"] == [str(late)]
        assert "systemctl reload prometheus" in finding["remedy"]
    finally:
        late.unlink()
    rules = faulty.directory / "rules" / "faulty.yml"
    os.utime(rules, (time.time() + 60, time.time() + 60))
    (finding,) = findings(faulty.audit(), "configuration.rule_files")
    assert list(finding["evidence"]["changed"]) == [str(rules)]


def test_a_server_whose_files_are_not_here_is_unknown_in_them_alone(faulty: Bench) -> None:
    away = faulty.directory.with_name(f"{faulty.directory.name}-away")
    faulty.directory.rename(away)
    try:
        (finding,) = findings(faulty.audit(), "configuration.rule_files")
    finally:
        away.rename(faulty.directory)
    assert finding["severity"] == "unknown"
    assert "cannot be seen from here" in finding["summary"]


def test_intervals_outside_of_the_table_are_named_with_a_proposal(faulty: Bench) -> None:
    answer = faulty.audit()
    (finding,) = findings(answer, "configuration.intervals")
    assert "njord_position_size every 2 s instead of 30 to 60 s" in finding["summary"]
    assert answer["proposal"] == {"slow": {"interval": "30s", "metrics": ["njord_position_size"]}}


def test_a_server_that_is_not_there_is_unknown_and_nothing_is_proposed() -> None:
    answer = run("configuration_info", {"prometheus_url": f"http://127.0.0.1:{servers.free_port()}"})
    assert [finding["severity"] for finding in answer["findings"]] == ["unknown"]
    assert (answer["proposal"], answer["differs"]) == ({}, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"intervals": {"slow": {"metrics": []}}}, "intervals: slow needs interval, such as 60s, and metrics"),
        ({"wanted": {"slow": "5s"}}, "wanted: slow 5s is outside of the runbook's row, 30s to 60s"),
        ({"wanted": {"never": "5s"}}, "wanted: never is no row; fast, slow, system would do"),
        ({"catalogue": [{"name": "x"}]}, "lacks name or pace; fast, slow, system would do"),
    ],
)
def test_options_that_cannot_be_are_named_with_what_would_do(options: dict[str, t.Any], said: str) -> None:
    answer = run("configuration_info", {"prometheus_url": "http://127.0.0.1:1", **options})
    assert answer["failed"]
    assert said in answer["msg"]


def test_no_two_metrics_of_the_catalogue_are_of_one_family() -> None:
    """What the role would refuse of a proposal."""
    bases = [metric["name"].removesuffix("_total") for metric in CATALOGUE]
    pairs = itertools.permutations(bases, 2)
    suffixes = ("", "_total", "_bucket", "_sum", "_count", "_created")
    assert [pair for pair in pairs if pair[0] in {pair[1] + suffix for suffix in suffixes}] == []
