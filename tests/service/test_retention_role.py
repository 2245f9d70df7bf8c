# SPDX-License-Identifier: GPL-3.0-or-later
"""The role retention on a host that runs systemd: what it runs and when, what it refuses, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from tests.bench.hosts import Host, Run, make_host

UNIT = "njord-metrics-cleanup"
ROOT = "/opt/njord_quant"
TEXTFILES = "/var/lib/prometheus/node-exporter"
CRONTAB = "/var/spool/cron/crontabs/root"
OLD_JOB = "0 2 * * * cd /opt/njord_quant && python scripts/metrics_cleanup.py --journal-dir data/journals"
OLD_UNITS = {
    "njord-compress.service": "[Service]\nExecStart=/usr/bin/python3 /opt/njord_quant/scripts/compress_journals.py\n",
    "njord-compress.timer": "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
}


def put(host: Host, path: str, text: str) -> None:
    host.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"', path, text)


def state(host: Host) -> str:
    return host.run("find", "/etc", "/opt", "/usr/local", "/var/spool/cron", "-printf", "%p %m %U %G %s %T@\n")


def said(run: Run) -> str:
    """On one line, and without the quotation marks of YAML."""
    return " ".join(run.output.split()).replace("''", "'")


@pytest.fixture(scope="module")
def empty_host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    with make_host(tmp_path_factory.mktemp("retention"), "njord-retention", "trixie") as host:
        yield host


@pytest.fixture(scope="module")
def installations(empty_host: Host) -> dict[str, Run]:
    """A check of an empty host; then, beside the trading system, the first installation, and another run."""
    check = empty_host.play("retention", check=True)
    prepared = empty_host.playbook("molecule/shared/prepare.yml")
    assert prepared.returncode == 0, prepared.stdout
    empty_host.run("mkdir", "-p", TEXTFILES)
    return {"check": check, "first": empty_host.play("retention"), "second": empty_host.play("retention")}


@pytest.fixture
def host(empty_host: Host, installations: dict[str, Run]) -> Host:
    """Where it is installed with nothing but the defaults."""
    assert installations["first"].ok, installations["first"].output
    return empty_host


def test_a_check_of_an_empty_host_ends_well_and_shows_what_would_come(installations: dict[str, Run]) -> None:
    check = installations["check"]
    assert check.ok, check.output
    for path in (
        f"/etc/systemd/system/{UNIT}.timer",
        f"/etc/systemd/system/{UNIT}.service",
        "/usr/local/bin/metrics-c",
    ):
        assert path in check.output


def test_the_first_installation_takes_at_most_23_banners_and_9_executions(installations: dict[str, Run]) -> None:
    first = installations["first"]
    assert 0 < first.banners <= 23
    assert 0 < len(first.executions) <= 9


def test_another_run_changes_nothing(installations: dict[str, Run]) -> None:
    second = installations["second"]
    assert (second.ok, second.changed) == (True, 0), second.output


def test_the_timer_waits_for_the_default_schedule_in_utc_and_catches_up(host: Host) -> None:
    host.run("systemctl", "is-active", f"{UNIT}.timer")
    host.run("systemctl", "is-enabled", f"{UNIT}.timer")
    timer = host.run("systemctl", "cat", f"{UNIT}.timer")
    assert "OnCalendar=*-*-* 02:00:00 UTC" in timer
    assert "Persistent=yes" in timer


def test_a_run_of_the_unit_leaves_metrics_and_is_locked_up(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    metrics = host.run("cat", f"{TEXTFILES}/njord_metrics_cleanup.prom")
    assert "njord_metrics_cleanup_success 1.0" in metrics
    assert "njord_metrics_cleanup_interval_seconds 86400.0" in metrics
    host.run("systemd-analyze", "security", "--no-pager", "--threshold=19", f"{UNIT}.service")


def test_a_dry_run_of_the_command_writes_nothing(host: Host) -> None:
    trees = ("find", ROOT, TEXTFILES, "-printf", "%p %m %U %G %s %T@\n")
    before = host.run(*trees)
    host.run("metrics-cleanup", "--config-root", ROOT, "--dry-run", "--verbose", "--textfile", f"{TEXTFILES}/dry.prom")
    assert host.run(*trees) == before


def test_the_directories_of_base_yaml_are_the_ones_it_may_write(host: Host) -> None:
    unit = host.run("systemctl", "show", "--property=ReadWritePaths", "--value", f"{UNIT}.service").split()
    assert unit == [f"-{ROOT}/var/log/njord", f"-{ROOT}/data/journal", f"-{TEXTFILES}"]


def test_a_schedule_of_day_or_weekday_takes_two_lines_and_the_policy_is_json_beside_base_yaml(host: Host) -> None:
    base = host.run("md5sum", f"{ROOT}/config/base.yaml")
    policy = {"cleanup_schedule": "30 3 1 * mon"}
    changed = host.play("retention", retention_policy=policy)
    assert changed.ok, changed.output
    assert "the next clean-up is at" in changed.output
    timer = host.run("systemctl", "cat", f"{UNIT}.timer")
    assert "OnCalendar=*-*-01 03:30:00 UTC\nOnCalendar=Mon *-*-* 03:30:00 UTC\n" in timer
    assert json.loads(host.run("cat", f"{ROOT}/config/retention.yaml")) == {"retention": policy}
    assert host.run("stat", "--format=%a", f"{ROOT}/config/retention.yaml") == "644\n"
    assert host.run("md5sum", f"{ROOT}/config/base.yaml") == base
    assert host.play("retention").ok
    host.run("test", "!", "-e", f"{ROOT}/config/retention.yaml")


def test_the_schedule_of_a_block_in_base_yaml_is_the_one_that_is_kept(host: Host) -> None:
    base = host.run("cat", f"{ROOT}/config/base.yaml")
    put(host, f"{ROOT}/config/base.yaml", f'{base}retention:\n  cleanup_schedule: "15 4 * * *"\n')
    try:
        assert host.play("retention").ok
        assert "OnCalendar=*-*-* 04:15:00 UTC" in host.run("systemctl", "cat", f"{UNIT}.timer")
    finally:
        put(host, f"{ROOT}/config/base.yaml", base)


def test_a_schedule_that_is_none_is_refused_with_what_would_do_before_anything_changes(host: Host) -> None:
    before = state(host)
    refused = host.play("retention", retention_policy={"cleanup_schedule": "0 25 * * *"})
    assert not refused.ok
    assert "cleanup_schedule: hour '25' is none: a number from 0 to 23 would do" in said(refused)
    assert state(host) == before


def test_old_jobs_are_named_and_refused_and_stopped_once_confirmed(host: Host) -> None:
    put(host, CRONTAB, f"# by hand\n#{OLD_JOB}\n{OLD_JOB}\n5 5 * * * true\n")
    put(host, "/etc/cron.daily/njord", "#!/bin/sh\npython3 -m scripts.metrics_cleanup\n")
    host.run("chmod", "755", "/etc/cron.daily/njord")
    for name, text in OLD_UNITS.items():
        put(host, f"/etc/systemd/system/{name}", text)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "--quiet", "njord-compress.timer")
    before = state(host)
    for check in (True, False):
        refused = host.play("retention", check=check)
        assert not refused.ok
        for place in (f"{CRONTAB}:3 ", "/etc/cron.daily/njord:2 ", "/etc/systemd/system/njord-compress.service:2 "):
            assert place in said(refused)
        assert f"{CRONTAB}:2 " not in said(refused)
        assert "telemetry_confirm=true" in said(refused)
        assert refused.changed == 0
        assert state(host) == before
    confirmed = host.play("retention", telemetry_confirm=True)
    assert confirmed.ok, confirmed.output
    assert "systemctl disable --now njord-compress.timer" in said(confirmed)
    lines = host.run("cat", CRONTAB).splitlines()
    assert lines[2].startswith("# ") and lines[2].endswith(OLD_JOB)
    assert lines[3] == "5 5 * * * true"
    assert OLD_JOB in host.run("cat", f"/var/backups/njord-retention{CRONTAB}").splitlines()
    host.run("test", "!", "-x", "/etc/cron.daily/njord")
    assert "inactive" in host.run("sh", "-c", "systemctl is-active njord-compress.timer; true")
    again = host.play("retention")
    assert (again.ok, again.changed) == (True, 0), again.output


def test_a_service_that_runs_an_old_job_before_its_own_work_is_named_and_goes_on(host: Host) -> None:
    text = "[Service]\nExecStartPre=-/opt/x/metrics_cleanup.py\nExecStart=/usr/bin/sleep infinity\n"
    put(host, "/etc/systemd/system/njord-broker.service", text)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "njord-broker")
    refused = host.play("retention", telemetry_confirm=True)
    assert not refused.ok
    assert "take it out of njord-broker.service by hand" in said(refused)
    host.run("systemctl", "is-active", "njord-broker")
    host.run("systemctl", "stop", "njord-broker")
    assert host.play("retention").ok
    host.run("rm", "/etc/systemd/system/njord-broker.service")


def test_cron_takes_the_place_of_the_timer_and_not_where_its_hours_are_others(host: Host) -> None:
    host.run("ln", "-sf", "/usr/share/zoneinfo/Europe/Berlin", "/etc/localtime")
    refused = host.play("retention", retention_scheduler="cron")
    assert not refused.ok
    assert "its time zone is CET" in said(refused)
    host.run("ln", "-sf", "/usr/share/zoneinfo/Etc/UTC", "/etc/localtime")
    changed = host.play("retention", retention_scheduler="cron")
    assert changed.ok, changed.output
    line = host.run("cat", "/etc/cron.d/njord-metrics-cleanup").splitlines()[-1]
    assert line.startswith("0 2 * * * root ")
    host.run("sh", "-c", line.split(" root ", 1)[1])
    assert UNIT not in host.run("systemctl", "list-unit-files", "--no-pager")
    assert host.play("retention", retention_scheduler="cron").changed == 0
    back = host.play("retention")
    assert back.ok, back.output
    host.run("test", "!", "-e", "/etc/cron.d/njord-metrics-cleanup")
    host.run("systemctl", "is-active", f"{UNIT}.timer")


def test_uninstalled_it_leaves_neither_unit_nor_command_nor_metrics(host: Host) -> None:
    assert host.play("retention", "uninstall").ok
    again = host.play("retention", "uninstall")
    assert (again.ok, again.changed) == (True, 0), again.output
    places = f"/etc /usr/local /var/lib/systemd/timers {TEXTFILES} {ROOT}"
    names = r"\( -name *metrics*cleanup* -o -name *retention* \)"
    assert host.run("sh", "-c", f"find {places} {names}; true") == ""
    assert UNIT not in host.run("systemctl", "list-unit-files", "--no-pager")


# The second one is another uninstallation: what was not lent to this one is not its to give back.
@pytest.mark.parametrize("unit", ["njord-another", "njord-uninstall"])
def test_an_uninstallation_is_refused_while_another_run_has_the_host(host: Host, unit: str) -> None:
    assert host.play("retention").ok
    trader = dataclasses.replace(host, group="traders")
    lend = ("--property=Type=notify", "--property=NotifyAccess=all", "flock", "--nonblock", "/run/lock")
    host.run("systemd-run", "--quiet", f"--unit={unit}", *lend, "sh", "-c", "systemd-notify --ready; exec sleep 600")
    places = "/etc/systemd /usr/local /opt /var/lib/njord-telemetry"
    state = ("sh", "-c", f"find {places} -type f -printf '%p %s %T@\\n' 2>/dev/null | sort; true")
    try:
        before = host.run(*state)
        done = trader.playbook("playbooks/uninstall.yml")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Another run has this host: process" in done.stdout
        assert f"({unit}.service)" in done.stdout, done.stdout
        assert host.run(*state) == before
        host.run("systemctl", "is-active", f"{UNIT}.timer", unit)
    finally:
        host.run("systemctl", "stop", unit)


def test_a_host_that_only_trades_has_the_clean_up_and_nothing_of_the_telemetry_s_own(host: Host) -> None:
    trader = dataclasses.replace(host, group="traders")
    for playbook in ("site", "retention_cleanup", "maintenance_weekly"):
        done = trader.playbook(f"playbooks/{playbook}.yml", telemetry_fail_on="never")
        assert done.returncode == 0, done.stdout + done.stderr
    host.run("systemctl", "is-active", f"{UNIT}.timer", "prometheus-node-exporter")
    units = host.run("systemctl", "list-unit-files", "--no-pager", "--no-legend")
    assert "prometheus.service" not in units
    assert "njord-exporter" not in units
    assert not [one for one in trader.report("site")["findings"] if one["severity"] in ("unknown", "critical")]
    cleaned = {one["check"] for one in trader.report("retention_cleanup")["findings"]}
    assert "cleanup.plan" in cleaned
    checks = {one["check"] for one in trader.report("maintenance_weekly")["findings"]}
    assert {"cleanup.plan", "cleanup.last", "journal.directory", "disk.free"} <= checks
    assert not [one for one in checks if one.startswith(("cardinality", "alert"))]
    done = trader.playbook("playbooks/uninstall.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    left = [
        f"-name {name}" for name in ("njord-metrics*", "njord-backup*", "njord-restore*", "metrics-cleanup*", "*.prom")
    ]
    places = f"/usr/local /etc/systemd {TEXTFILES}"
    assert host.run("sh", "-c", f"find {places} {' -o '.join(left)}; true") == ""
