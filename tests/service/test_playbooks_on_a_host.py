# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on a real host: what is made wrong there stands in the next report, with what to do about it."""

from __future__ import annotations

import re
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from tests.bench.hosts import Host, make_host
from tests.conftest import ROOT
from tests.testbench import servers

EXPORTER = "njord-prometheus-exporter"
METRICS = "/opt/njord_quant/var/log/njord/metrics"
CATALOGUE = "/var/backups/njord"
DATA = "/var/lib/prometheus/metrics2"
CARRIED = "/var/lib/carried"
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml") if not path.is_symlink())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    disks = [f"{METRICS}:size=64m", f"{CATALOGUE}:size=256m"]
    with make_host(tmp_path_factory.mktemp("site"), "njord-site", "trixie", tmpfs=disks) as site:
        site.install()
        give_past(site)
        yield site


def give_past(host: Host) -> None:
    """Six hours of samples in blocks: what is only a minute old cannot be proven yet."""
    now = int(time.time())
    lines = [
        f'past_{name}{{series="{series}"}} {series} {moment}'
        for name in ("one", "two")
        for series in range(50)
        for moment in range(now - 8 * 3600, now - 2 * 3600, 60)
    ]
    types = [f"# TYPE past_{name} gauge" for name in ("one", "two")]
    half = len(lines) // 2
    text = "\n".join([types[0], *lines[:half], types[1], *lines[half:], "# EOF", ""])
    host.run("systemctl", "stop", "prometheus")
    put(host, "/opt/past.txt", text)
    host.run("promtool", "tsdb", "create-blocks-from", "openmetrics", "/opt/past.txt", DATA)
    host.run("chown", "-R", "prometheus:prometheus", DATA)
    host.run("systemctl", "start", "prometheus")


def put(host: Host, path: str, text: str) -> None:
    command = ["docker", "exec", "--interactive", host.name, "sh", "-c", 'cat >"$0"', path]
    subprocess.run(command, input=text, text=True, check=True)


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


def test_the_quarterly_report_has_every_audit_with_its_chart_and_nothing_else_changes(host: Host) -> None:
    run = host.playbook("playbooks/maintenance_quarterly.yml", telemetry_fail_on="never")
    assert run.returncode == 0, run.stdout
    assert re.search(rf"^{host.name} .* changed=1 ", run.stdout, re.MULTILINE), run.stdout
    checks = {item["check"] for item in host.report("maintenance_quarterly")["findings"]}
    assert {"cleanup.plan", "storage.retention", "query.log", "threshold.rules", "usage.metrics"} <= checks
    assert "result.failed" not in checks
    page = max((host.directory / "reports").glob("*_maintenance_quarterly.html")).read_text()
    alert = "ExporterBusDisconnected: njord_exporter_bus_connected"
    charts = ("Journals on the disk", "Time spent in queries", "Series of metrics that nobody reads", alert)
    assert [title for title in charts if f"<strong>{title}</strong>" not in page] == []


def test_what_is_asked_for_a_missing_metric_is_answered_in_the_first_sentence(host: Host) -> None:
    def answer(metric: str) -> str:
        run = host.playbook("playbooks/troubleshoot_missing_metrics.yml", missing_metric=metric)
        assert run.returncode == 0, run.stdout
        return str(host.report("troubleshoot_missing_metrics")["sentence"])

    assert "meant is perhaps njord_orders_placed_total" in answer("njord_order_placed_total")
    assert "no part of this version of Njord publishes it" in answer("njord_risk_limit_utilization")
    host.run("systemctl", "stop", EXPORTER)
    wait_for(host, 'up{job="njord_quant"} == 0')
    assert f"unit {EXPORTER} is inactive (dead)" in answer("njord_exporter_bus_connected")


def background(host: Host, unit: str, program: str) -> None:
    """A unit that ends by itself."""
    host.run("systemd-run", "--quiet", f"--unit={unit}", "--property=RuntimeMaxSec=180", "sh", "-c", program)


def test_who_is_late_and_who_holds_memory_is_the_first_sentence(host: Host) -> None:
    background(host, "backtest", "for n in 1 2 3 4 5 6; do python3 -c 'while True: pass' & done; wait")
    background(host, "njord-signals", "exec python3 -c 'while True: sum(range(10000))'")
    run = host.playbook("playbooks/troubleshoot_event_loop_lag.yml")
    host.run("systemctl", "stop", "backtest", "njord-signals")
    assert run.returncode == 0, run.stdout
    assert re.search(rf"^{host.name} .* changed=1 ", run.stdout, re.MULTILINE), run.stdout
    late = found(host, "troubleshoot_event_loop_lag", "runtime.event_loop_lag", "njord-signals.service")
    # Who runs beside this container on the same machine may take even more.
    assert late["evidence"]["cause"] == "a neighbour", late
    assert "backtest.service (python3)" in late["summary"]
    remedies = found(host, "troubleshoot_event_loop_lag", "runtime.remedies", "event loop lag")["evidence"]["remedies"]
    assert any(one["name"].startswith("twice the scrape interval of njord-prometheus-exporter") for one in remedies)

    background(host, "njord-cache", "exec python3 -c 'import time; kept = b\"x\" * (600 << 20); time.sleep(170)'")
    filled = "grep VmRSS /proc/$(systemctl show --property=MainPID --value njord-cache)/status | tr -dc 0-9"
    host.run("timeout", "60", "sh", "-c", f"until [ $({filled}) -gt 600000 ]; do sleep 1; done")
    run = host.playbook("playbooks/troubleshoot_memory.yml")
    host.run("systemctl", "stop", "njord-cache")
    assert run.returncode == 0, run.stdout
    report = host.report("troubleshoot_memory")
    assert re.search(r"njord-cache.service holds 60\d[.\d]* MiB, more than 512 MiB", report["sentence"]), report[
        "sentence"
    ]
    gains = found(host, "troubleshoot_memory", "runtime.remedies", "memory")
    assert "nothing is gained by clean-up of the journals" in gains["summary"]
    assert {"cleanup.plan"} <= {item["check"] for item in report["findings"]}


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


def counts(host: Host, moment: str) -> dict[str, str]:
    """Series of each metric at a fixed time, unix seconds."""
    query = "query?query=count%20by%20(__name__)%20(%7B__name__%3D~%22.%2B%22%7D)&time="
    return {row["metric"]["__name__"]: row["value"][1] for row in host.ask(f"{query}{moment}")["result"]}


def metric(host: Host, name: str) -> float:
    lines = host.run("cat", "/var/lib/prometheus/node-exporter/njord_backup.prom").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"njord_backup_{name} "))


def test_what_the_timers_run_is_a_backup_that_is_proven_and_the_weekly_report_says_so(host: Host) -> None:
    for timer in ("njord-backup.timer", "njord-restore-drill.timer"):
        host.run("systemctl", "is-active", timer)
        host.run("systemctl", "is-enabled", timer)
    wait_for(host, "up")
    host.run("systemctl", "start", "njord-backup")
    host.run("systemctl", "start", "njord-restore-drill")
    assert host.run("ls", f"{DATA}/snapshots") == ""
    assert host.run("stat", "--format=%a %U", CATALOGUE) == "700 root\n"
    assert (metric(host, "success"), metric(host, "drill_success")) == (1, 1)
    assert metric(host, "last_proven_timestamp_seconds") == metric(host, "last_timestamp_seconds")
    host.playbook("playbooks/maintenance_weekly.yml", telemetry_fail_on="never")
    drill = found(host, "maintenance_weekly", "backup.drill", CATALOGUE)
    assert drill["severity"] == "ok"
    assert "(RTO)" in drill["summary"] and "(RPO)" in drill["summary"]
    assert found(host, "maintenance_weekly", "backup.place", CATALOGUE)["severity"] == "ok"
    for unit in ("njord-backup", "njord-restore-drill"):
        host.run("systemd-analyze", "security", "--no-pager", "--threshold=35", f"{unit}.service")


def test_a_wiped_data_directory_comes_back_with_equal_counts_once_that_is_confirmed(host: Host) -> None:
    done = host.playbook("playbooks/backup.yml")
    assert done.returncode == 0, done.stdout
    moment = str(int(metric(host, "last_timestamp_seconds")) - 4 * 3600)
    before = counts(host, moment)
    assert before == {"past_one": "50", "past_two": "50"}
    host.run("sh", "-c", f"rm -rf {DATA}/*")
    told = host.playbook("playbooks/incident_data_loss.yml", telemetry_fail_on="never")
    assert told.returncode == 0, told.stdout
    assert "would bring" in found(host, "incident_data_loss", "restore.plan", DATA)["summary"]
    assert "would be gone" in found(host, "incident_data_loss", "restore.lost", DATA)["summary"]
    assert host.run("sh", "-c", f"ls {DATA} | grep -c 01 || true").strip() == "0"
    done = host.playbook("playbooks/incident_data_loss.yml", telemetry_confirm=True)
    assert done.returncode == 0, done.stdout
    restored = found(host, "incident_data_loss", "restore.done", DATA)
    assert restored["severity"] == "ok"
    assert counts(host, moment) == before
    assert host.run("stat", "--format=%U:%G", DATA) == "prometheus:prometheus\n"


@pytest.fixture
def bucket(tmp_path: Path) -> t.Iterator[dict[str, t.Any]]:
    """Variables of a repository in a bucket that hosts can reach."""
    gateway = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    address = subprocess.run(gateway, capture_output=True, text=True, check=True).stdout.strip()
    secrets = {"password": "carried nowhere\n", "environment": "AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\n"}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
    with servers.s3(tmp_path, address=address) as server:
        yield {
            "telemetry_backup_restic_repository": f"s3:{server.url}/njord",
            **{f"telemetry_backup_restic_{name}_source": str(tmp_path / name) for name in secrets},
        }


def test_a_host_that_never_had_the_data_gets_them_from_a_bucket_or_from_one_file(
    host: Host, bucket: dict[str, t.Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    host.run("mkdir", "-p", CARRIED)
    applied = host.play("backup", telemetry_backup_carry_to=CARRIED, **bucket)
    assert applied.ok, applied.output
    host.run("systemctl", "start", "njord-backup")
    moment = str(int(metric(host, "last_timestamp_seconds")) - 4 * 3600)
    before = counts(host, moment)
    assert before == {"past_one": "50", "past_two": "50"}
    directory = tmp_path_factory.mktemp("second")
    with make_host(directory, "njord-second", "trixie") as second:
        for role in ("prometheus", "backup"):
            applied = second.play(role, **bucket)
            assert applied.ok, applied.output
        assert counts(second, moment) == {}
        variables = {"telemetry_confirm": True, "telemetry_fail_on": "never", **bucket}
        done = second.playbook(
            "playbooks/restore.yml", restore_origin="restic", restore_restic_host=host.name, **variables
        )
        assert done.returncode == 0, done.stdout
        assert counts(second, moment) == before
        # And once more, with nothing but the file.
        second.run("systemctl", "stop", "prometheus")
        second.run("sh", "-c", f"rm -rf {DATA}* {CATALOGUE}")
        second.run("systemctl", "start", "prometheus")
        carried = host.run("sh", "-c", f"ls {CARRIED}/*").split()[-1]
        here = str(directory / Path(carried).name)
        for source, target in ((f"{host.name}:{carried}", here), (here, f"{second.name}:/opt/")):
            subprocess.run(["docker", "cp", source, target], check=True)
        done = second.playbook("playbooks/restore.yml", restore_archive=f"/opt/{Path(carried).name}", **variables)
        assert done.returncode == 0, done.stdout
        assert counts(second, moment) == before
        assert found(second, "restore", "restore.done", DATA)["severity"] == "ok"


def test_a_backup_that_was_spoiled_by_hand_fails_the_drill_and_is_not_restored(host: Host) -> None:
    spoiled = host.run("sh", "-c", f"find {CATALOGUE}/objects -size +8k | head -1").strip()
    host.run(
        "python3",
        "-c",
        f"f = open({spoiled!r}, 'r+b'); f.seek(5000); b = f.read(1); f.seek(5000); f.write(bytes([b[0] ^ 1]))",
    )
    assert host.playbook("playbooks/restore_drill.yml").returncode == 2
    drill = found(host, "restore_drill", "backup.drill", CATALOGUE)
    assert drill["severity"] == "critical"
    assert (metric(host, "drill_success"), metric(host, "drill_damaged")) == (0, 1)
    newest = host.run("ls", f"{CATALOGUE}/backups").split()[-1]
    refused = host.playbook("playbooks/restore.yml", telemetry_confirm=True, restore_name=newest)
    assert refused.returncode == 2
    assert "This backup is damaged" in found(host, "restore", "restore.refused", DATA)["summary"]
    wait_for(host, 'ALERTS{alertname="RestoreDrillFailed",alertstate="firing"}')
    # The next backup reads again what has rotted.
    assert host.playbook("playbooks/backup.yml", telemetry_fail_on="never").returncode == 0
    assert host.playbook("playbooks/restore_drill.yml", telemetry_fail_on="never").returncode == 0
    assert metric(host, "drill_success") == 1


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_in_check_mode_says_what_it_would_do_and_changes_nothing(host: Host, playbook: str) -> None:
    trees = ("/etc", "/opt", "/usr/local", "/var/lib/njord-telemetry", "/var/lib/prometheus/node-exporter")
    state = ("find", *trees, "-printf", "%p %m %U %G %s %T@\n")
    units = ("systemctl", "show", "--property=MainPID,ActiveState", "prometheus", EXPORTER, "prometheus-node-exporter")
    before = host.run(*state), host.run(*units)
    run = host.playbook(f"playbooks/{playbook}", "--check", "--diff")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (host.run(*state), host.run(*units)) == before
