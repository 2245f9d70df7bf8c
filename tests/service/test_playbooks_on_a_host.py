# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on a real host: what is made wrong there stands in the next report, with what to do about it."""

from __future__ import annotations

import re
import typing as t

import pytest

from tests.bench.hosts import Host, make_host
from tests.conftest import ROOT

EXPORTER = "njord-prometheus-exporter"
METRICS = "/opt/njord_quant/var/log/njord/metrics"
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml") if not path.is_symlink())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    disk = [f"{METRICS}:size=64m"]
    with make_host(tmp_path_factory.mktemp("site"), "njord-site", "trixie", tmpfs=disk) as site:
        site.install()
        yield site


@pytest.fixture(autouse=True)
def all_is_well_again(host: Host) -> t.Iterator[None]:
    yield
    host.run("rm", "-f", f"{METRICS}/ballast.bin")
    host.run("systemctl", "start", "prometheus-node-exporter", EXPORTER, "prometheus")


def found(host: Host, procedure: str, check: str, subject: str) -> dict[str, t.Any]:
    findings = host.report(procedure)["findings"]
    matching = [item for item in findings if (item["check"], item["subject"]) == (check, subject)]
    assert len(matching) == 1, findings
    return dict(matching[0])


def publish(host: Host, *lines: str) -> None:
    """Sends messages over the host's own Redis, one for each line."""
    # A command line has an end.
    for start in range(0, len(lines), 100):
        feed = "".join(f"PUBLISH telemetry.metrics '{line}'\n" for line in lines[start : start + 100])
        host.run("sh", "-c", 'printf %s "$0" | redis-cli >/dev/null', feed)


def wait_for(host: Host, expression: str) -> None:
    program = (
        "import json, sys, time, urllib.parse as p, urllib.request as r\n"
        "url = 'http://127.0.0.1:9090/api/v1/query?' + p.urlencode({'query': sys.argv[1]})\n"
        "while not json.load(r.urlopen(url))['data']['result']: time.sleep(1)"
    )
    host.run("timeout", "150", "python3", "-c", program, expression)


def test_an_exporter_that_is_off_is_the_verdict_and_the_job_fails(host: Host) -> None:
    host.run("systemctl", "stop", EXPORTER)
    run = host.playbook("playbooks/maintenance_weekly.yml")
    assert run.returncode == 2
    finding = found(host, "maintenance_weekly", "service.unit", "exporter")
    assert finding["severity"] == "critical"
    assert "Exporter is down" in finding["summary"]
    assert f"journalctl -u {EXPORTER}" in finding["remedy"]
    assert "Exporter is down" in run.stdout


def test_a_full_disk_is_critical_and_no_journal_is_to_be_removed_for_room(host: Host) -> None:
    free = int(host.run("df", "--output=avail", "-B1", METRICS).split()[-1])
    host.run("fallocate", "-l", str(free * 98 // 100), f"{METRICS}/ballast.bin")
    assert host.playbook("playbooks/maintenance_weekly.yml").returncode == 2
    finding = found(host, "maintenance_weekly", "disk.free", METRICS)
    assert finding["severity"] == "critical"
    assert "never remove a journal for room" in finding["remedy"]


def test_a_label_that_explodes_and_an_alert_that_fires_are_named_with_what_ends_them(host: Host) -> None:
    orders = [
        f'{{"name":"njord_orders_total","value":1,"timestamp_ns":1,"metric_type":"counter","labels":{{"order_id":"o-{n:06d}"}}}}'
        for n in range(1200)
    ]
    loss = '{"name":"njord_strategy_drawdown_pct","value":14,"timestamp_ns":1,"labels":{"strategy_id":"momentum"}}'
    publish(host, *orders, loss)
    wait_for(host, 'ALERTS{alertname="HighDrawdown",alertstate="firing"}')
    assert host.playbook("playbooks/maintenance_weekly.yml").returncode == 2
    label = found(host, "maintenance_weekly", "cardinality.metric", "njord_orders_total")
    assert label["severity"] == "critical"
    assert "the label order_id" in label["summary"]
    assert "action: drop" in label["evidence"]["relabelling"]
    alert = found(host, "maintenance_weekly", "alert.firing", "HighDrawdown")
    assert alert["severity"] == "critical"
    assert "drawdown of 14" in alert["summary"]
    assert "halt trading" in alert["remedy"]


def test_services_stop_in_truth_and_start_until_they_answer(host: Host) -> None:
    stopped = host.playbook("playbooks/service_stop.yml")
    assert stopped.returncode == 0, stopped.stdout
    assert host.report("service_stop")["verdict"] == "ok"
    assert host.run("systemctl", "show", "--property=MainPID", "--value", "prometheus").strip() == "0"
    started = host.playbook("playbooks/service_start.yml")
    assert started.returncode == 0, started.stdout
    states = {item["subject"]: item["severity"] for item in host.report("service_start")["findings"]}
    assert {states[name] for name in ("exporter", "node_exporter", "prometheus")} <= {"ok", "info"}


def test_the_logs_of_all_units_come_in_order_of_time_and_new_lines_are_followed(host: Host) -> None:
    host.run("systemctl", "restart", EXPORTER)
    run = host.playbook("playbooks/service_logs.yml", telemetry_log_since="-2min", telemetry_log_follow=4)
    assert run.returncode == 0, run.stdout
    times = re.findall(r"(\d{4}-\d\d-\d\dT[\d:.]+[+]00:00) njord-site", run.stdout)
    assert times
    printed = run.stdout.split("Print the lines of all hosts")
    assert len(printed) == 4
    for part in printed:
        lines = re.findall(r"(\d{4}-\d\d-\d\dT[\d:.]+[+]00:00) njord-site", part)
        assert lines == sorted(lines)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_in_check_mode_says_what_it_would_do_and_changes_nothing(host: Host, playbook: str) -> None:
    trees = ("/etc", "/opt", "/usr/local", "/var/lib/njord-telemetry", "/var/lib/prometheus/node-exporter")
    state = ("find", *trees, "-printf", "%p %m %U %G %s %T@\n")
    units = ("systemctl", "show", "--property=MainPID,ActiveState", "prometheus", EXPORTER, "prometheus-node-exporter")
    before = host.run(*state), host.run(*units)
    run = host.playbook(f"playbooks/{playbook}", "--check", "--diff")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (host.run(*state), host.run(*units)) == before
