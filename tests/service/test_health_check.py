# SPDX-License-Identifier: GPL-3.0-or-later
"""The module health_check as Ansible starts it, against real servers. No systemd is there: that is said, too."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import redis
import urllib3

from tests.testbench import servers
from tests.testbench.module import run
from tests.testbench.packages import ROOT, program

SCRAPES = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""
TOPIC = "telemetry.metrics"


@contextlib.contextmanager
def exporter(directory: Path, redis_url: str) -> t.Iterator[str]:
    """The address of a running exporter."""
    (directory / "base.yaml").write_text(json.dumps({"redis": {"url": redis_url}}))
    port = servers.free_port()
    command = [f"{Path(sys.executable).parent}/njord-exporter", "--config-root", str(directory), "--port", str(port)]
    with (directory / "exporter.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def ask(**arguments: t.Any) -> dict[str, t.Any]:
    """What the module answers, without the finding that this machine has no systemd."""
    answer = run("health_check", arguments)
    assert answer["changed"] is False
    first, *rest = answer["findings"]
    assert (first["check"], first["severity"]) == ("service.systemd", "unknown")
    return {**answer, "findings": rest}


def only(answer: dict[str, t.Any]) -> dict[str, t.Any]:
    assert len(answer["findings"]) == 1, answer["findings"]
    finding: dict[str, t.Any] = answer["findings"][0]
    return finding


def told(finding: dict[str, t.Any]) -> tuple[str, str, str]:
    return finding["check"], finding["subject"], finding["severity"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_real_servers_that_are_well_are_one_line_each(tmp_path: Path, version: str) -> None:
    port = servers.free_port()
    with contextlib.ExitStack() as stack:
        config = SCRAPES.format(port=port)
        prometheus = stack.enter_context(servers.prometheus(tmp_path, version, config, port=port))
        alertmanager = stack.enter_context(servers.alertmanager(tmp_path, {"2": "0.28", "3": "0.33"}[version]))
        node = stack.enter_context(servers.node_exporter(tmp_path))
        addresses = {
            "prometheus_url": prometheus.url,
            "alertmanager_url": alertmanager.url,
            "node_exporter_url": node.url,
        }
        services = ["prometheus", "alertmanager", "node_exporter"]
        deadline = time.monotonic() + 60
        answer = ask(services=services, **addresses, wait="60s")
        # That the first scrape is still to come is info, for which it does not wait.
        while "have not been scraped yet" in answer["findings"][0]["summary"]:
            assert time.monotonic() < deadline, answer
            time.sleep(0.5)
            answer = ask(services=services, **addresses, wait="60s")
    assert [told(finding) for finding in answer["findings"]] == [
        ("service.health", "prometheus", "ok"),
        ("service.health", "alertmanager", "ok"),
        ("service.health", "node_exporter", "ok"),
    ]
    seen = answer["services"]["prometheus"]
    assert seen["version"].startswith(f"{version}.")
    assert (seen["state"], seen["status"], seen["targets"]["up"]) == ("running", 200, 1)
    assert seen["samples"] > seen["families"] > 100
    assert seen["last_reload_successful"] is True
    assert seen["last_reload"] == pytest.approx(time.time(), abs=120)
    assert 0 < seen["seconds"] < 10
    assert {known["state"] for known in answer["services"].values()} == {"running"}


def test_a_refused_reload_and_a_dead_target_are_said_with_their_remedy(tmp_path: Path) -> None:
    dead = servers.free_port()
    with servers.prometheus(tmp_path, config=SCRAPES.format(port=dead)) as prometheus:
        (tmp_path / "prometheus.yml").write_text("no_such_key: 1\n")
        assert urllib3.request("POST", f"{prometheus.url}/-/reload", retries=False).status == 500
        deadline = time.monotonic() + 60
        answer = ask(services=["prometheus"], prometheus_url=prometheus.url)
        while "targets of Prometheus are down" not in answer["findings"][-1]["summary"]:
            assert time.monotonic() < deadline, answer
            time.sleep(0.5)
            answer = ask(services=["prometheus"], prometheus_url=prometheus.url)
    reload, targets = answer["findings"]
    assert told(reload) == ("service.reload", "prometheus", "critical")
    assert "systemctl reload prometheus" in reload["remedy"]
    assert told(targets) == ("service.targets", "prometheus", "warning")
    [down] = targets["evidence"]["down"]
    assert (down["job"], down["url"]) == ("prometheus", f"http://127.0.0.1:{dead}/metrics")
    assert "connection refused" in down["error"]


def test_victoria_metrics_in_the_place_of_prometheus_is_named(tmp_path: Path) -> None:
    with servers.victoria_metrics(tmp_path) as server:
        finding = only(ask(services=["prometheus"], prometheus_url=server.url))
    assert told(finding) == ("service.identity", "prometheus", "unknown")
    assert "it is VictoriaMetrics" in finding["summary"]
    assert server.url in finding["remedy"]


def test_a_prometheus_that_replays_its_log_is_not_ready(tmp_path: Path) -> None:
    port = servers.free_port()
    with servers.prometheus(tmp_path, config=SCRAPES.format(port=port), port=port) as server:
        ask(services=["prometheus"], prometheus_url=server.url, wait="60s")
    # A segment that it cannot come to the end of: nobody ever writes into this pipe.
    wal = tmp_path / "data" / "wal"
    segment = max(path for path in wal.iterdir() if path.name.isdigit())
    segment.unlink()
    os.mkfifo(segment)
    flags = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command = [str(program("prometheus")), *flags, f"--web.listen-address=127.0.0.1:{port}"]
    with servers.Server("replaying", command, tmp_path, port, ready="/-/healthy") as replaying:
        finding = only(ask(services=["prometheus"], prometheus_url=replaying.url))
        # Opened and closed: the end of the segment.
        segment.open("wb").close()
    assert told(finding) == ("service.ready", "prometheus", "critical")
    assert "HTTP 503: Service Unavailable" in finding["summary"]
    assert "write-ahead log" in finding["remedy"]


def test_the_exporter_is_well_while_messages_come_and_says_when_redis_is_away(tmp_path: Path) -> None:
    message = {"name": "njord_open_orders", "value": 1, "timestamp_ns": time.time_ns(), "labels": {"symbol": "ATOM"}}
    with servers.redis(tmp_path) as bus, exporter(tmp_path, bus.url) as url:
        fresh = only(ask(services=["exporter"], exporter_url=url, wait="30s"))
        with redis.Redis(port=bus.port) as client:
            assert client.publish(TOPIC, json.dumps(message)) == 1
        deadline = time.monotonic() + 30
        answer = ask(services=["exporter"], exporter_url=url)
        while answer["services"]["exporter"]["last_message"] is None:
            assert time.monotonic() < deadline, answer
            answer = ask(services=["exporter"], exporter_url=url)
        bus.stop()
        away = only(ask(services=["exporter"], exporter_url=url))
        while away["severity"] == "ok":
            assert time.monotonic() < deadline, away
            away = only(ask(services=["exporter"], exporter_url=url))
    assert told(fresh) == ("service.bus", "exporter", "info")
    assert "NJORD_ENABLE_METRICS=1" in fresh["remedy"]
    assert told(only(answer)) == ("service.health", "exporter", "ok")
    assert told(away) == ("service.ready", "exporter", "critical")
    assert "HTTP 503: Not ready: " in away["summary"]


def test_a_login_and_tls_are_passed_and_their_lack_is_named(tmp_path: Path) -> None:
    # The certificate of this test ends within two days.
    key, certificate, word = (tmp_path / name for name in ("server.key", "server.crt", "word"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=njord", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    word.write_text("hush\n")
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
        "basic_auth_users: {njord: $2b$04$CANEgImBohOrH5DbY/TDMO/CuVJ0DbLXvUovD3eF9tUXagbsRKWWC}\n"
    )
    arguments = [f"--web.config.file={tmp_path}/web.yml"]
    with servers.node_exporter(tmp_path, arguments) as node:
        url = node.url.replace("http:", "https:")
        options = {"services": ["node_exporter"], "node_exporter_url": url, "node_exporter_ca_path": str(certificate)}
        login = {"node_exporter_username": "njord", "node_exporter_password_file": str(word)}
        ending = only(ask(**options, **login))
        stranger = only(ask(**options))
        plain = only(ask(services=["node_exporter"], node_exporter_url=node.url))
        untrusted = only(ask(services=["node_exporter"], node_exporter_url=url))
    assert told(ending) == ("service.certificate", "node_exporter", "critical")
    assert "ends in " in ending["summary"]
    assert told(stranger) == ("service.scrape", "node_exporter", "unknown")
    assert "node_exporter_password_file" in stranger["remedy"]
    assert told(plain) == ("service.port", "node_exporter", "warning")
    assert "speaks TLS and was asked without" in plain["summary"]
    assert told(untrusted) == ("service.certificate", "node_exporter", "warning")
    assert "node_exporter_ca_path" in untrusted["remedy"]


def test_a_server_that_is_to_be_stopped_and_answers_is_critical(tmp_path: Path) -> None:
    with servers.node_exporter(tmp_path) as node:
        asked = {"services": ["node_exporter"], "node_exporter_url": node.url, "expect": "stopped"}
        running = only(ask(**asked))
    stopped = only(ask(**asked))
    assert told(running) == ("service.port", "node_exporter", "critical")
    # Its port refuses; whether its unit is inactive nobody could say.
    assert told(stopped) == ("service.systemd", "node_exporter", "unknown")


def test_without_options_every_service_is_told_of() -> None:
    answer = ask()
    assert [finding["subject"] for finding in answer["findings"]] == list(answer["services"])
    states = {name: known["state"] for name, known in answer["services"].items()}
    assert {name for name, state in states.items() if state == "not configured"} == {
        "dashboard",
        "alertmanager",
        "grafana",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"exporter_url": "127.0.0.1:9091"}, "exporter_url: '127.0.0.1:9091' is no address of a server"),
        ({"wait": "5 apples"}, "wait: '5 apples' is no duration; 30d, 12h"),
        ({"units": {"promethius": "x"}}, "units: 'promethius' is no service; there are exporter, aggregator"),
        ({"units": {"prometheus": "a b"}}, "units: 'a b' is no name of a unit for prometheus; prometheus would do"),
        ({"services": ["promethius"]}, "value of services must be one or more of: exporter"),
        ({"prometheus_token_file": "/no/such/file"}, "prometheus_token_file: /no/such/file cannot be read"),
        ({"grafana_username": "me"}, "parameters are required together: grafana_username, grafana_password_file"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(arguments: dict[str, t.Any], said: str) -> None:
    answer = run("health_check", arguments)
    assert answer["failed"] is True
    assert said in answer["msg"]


def test_a_secret_in_a_file_is_not_in_the_answer(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush-hush-hush\n")
    answer = run("health_check", {"services": ["exporter"], "exporter_token_file": str(tmp_path / "token")})
    assert answer["changed"] is False
    assert "hush-hush-hush" not in json.dumps(answer)


def test_ansible_runs_it_in_check_mode_and_documents_it(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/playbooks/collections",
        "ANSIBLE_HOME": str(tmp_path),
    }
    programs = Path(sys.executable).parent
    with servers.node_exporter(tmp_path) as node:
        arguments = json.dumps({"services": ["node_exporter"], "node_exporter_url": node.url})
        command = [f"{programs}/ansible", "localhost", "--check", "-m", "njord.telemetry.health_check", "-a", arguments]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "node_exporter 1." in said.stdout
    documentation = subprocess.run(
        [programs / "ansible-doc", "--json", "njord.telemetry.health_check"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    options = json.loads(documentation.stdout)["njord.telemetry.health_check"]["doc"]["options"]
    assert {"services", "units", "wait", "expect", "prometheus_url", "grafana_token_file"} <= set(options)
