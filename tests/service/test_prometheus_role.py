# SPDX-License-Identifier: GPL-3.0-or-later
"""The role prometheus on a host that runs systemd: what it costs, what it refuses, and what it leaves."""

from __future__ import annotations

import typing as t

import pytest

from tests.bench.hosts import Host, Run, make_host

DATA = "/var/lib/prometheus/metrics2"
UNIT = "/etc/systemd/system/prometheus.service"


@pytest.fixture(scope="module")
def empty_host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    with make_host(tmp_path_factory.mktemp("role"), "njord-role", "trixie") as host:
        yield host


@pytest.fixture(scope="module")
def installations(empty_host: Host) -> dict[str, Run]:
    """A check of an empty host, the first installation, and another run."""
    return {
        "check": empty_host.play("prometheus", check=True),
        "first": empty_host.play("prometheus"),
        "second": empty_host.play("prometheus"),
    }


@pytest.fixture
def host(empty_host: Host, installations: dict[str, Run]) -> Host:
    """Where Prometheus is installed with nothing but the defaults."""
    assert installations["first"].ok, installations["first"].output
    return empty_host


@pytest.fixture(scope="module")
def old_host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    """Where Prometheus runs already, as Debian installs it."""
    with make_host(tmp_path_factory.mktemp("old"), "njord-role-old", "bookworm") as host:
        host.run("apt-get", "install", "-qq", "--yes", "--no-install-recommends", "prometheus")
        # Its first samples.
        host.run("timeout", "60", "sh", "-c", 'until [ -s "$0" ]; do sleep 1; done', f"{DATA}/wal/00000000")
        yield host


def test_a_check_of_an_empty_host_ends_well_and_shows_what_would_come(installations: dict[str, Run]) -> None:
    assert installations["check"].ok, installations["check"].output
    assert UNIT in installations["check"].output
    assert "/etc/prometheus/rules/trading.yml" in installations["check"].output


def test_the_first_installation_takes_at_most_20_banners_and_12_executions(installations: dict[str, Run]) -> None:
    first = installations["first"]
    assert first.ok, first.output
    assert 0 < first.banners <= 20
    assert 0 < len(first.executions) <= 12


def test_another_run_changes_nothing_with_at_most_8_executions(installations: dict[str, Run]) -> None:
    second = installations["second"]
    assert (second.ok, second.changed) == (True, 0), second.output
    assert 0 < len(second.executions) <= 8


def test_the_unit_is_locked_up(host: Host) -> None:
    host.run("systemd-analyze", "security", "--no-pager", "--threshold=15", "prometheus")


def test_rules_that_are_no_longer_wanted_disappear(host: Host) -> None:
    rule = {"alert": "OfOurOwn", "expr": "vector(1)"}
    assert host.play("prometheus", prometheus_rules={"own": {"groups": [{"name": "own", "rules": [rule]}]}}).ok
    assert "OfOurOwn" in host.alerts()
    assert host.play("prometheus").ok
    assert "OfOurOwn" not in host.alerts()
    assert "HighDrawdown" in host.alerts()


def test_a_configuration_that_promtool_refuses_changes_nothing(host: Host) -> None:
    before = host.run("md5sum", "/etc/prometheus/prometheus.yml")
    refused = host.play("prometheus", prometheus_scrape_jobs=[{"job_name": "prometheus"}])
    assert not refused.ok
    assert "multiple scrape configs with job name" in refused.output
    assert host.run("md5sum", "/etc/prometheus/prometheus.yml") == before


def test_a_configuration_that_is_read_anew_needs_no_restart(host: Host) -> None:
    process = host.run("systemctl", "show", "--property=MainPID", "prometheus")
    changed = host.play("prometheus", prometheus_external_labels={"site": "here"})
    assert changed.ok, changed.output
    assert "site: here" in host.ask("status/config")["yaml"]
    assert host.run("systemctl", "show", "--property=MainPID", "prometheus") == process


def test_a_lower_retention_is_refused_before_anything_changes_and_done_when_confirmed(host: Host) -> None:
    before = host.run("md5sum", UNIT)
    refused = host.play("prometheus", prometheus_retention_time="10d", prometheus_external_labels={"site": "there"})
    assert not refused.ok
    assert "30 d is kept, and only 10 d would be" in refused.output
    assert refused.changed == 0
    assert host.run("md5sum", UNIT) == before
    host.run("systemctl", "stop", "prometheus")
    # Now the unit says what is in force.
    assert not host.play("prometheus", prometheus_retention_time="10d").ok
    confirmed = host.play("prometheus", prometheus_retention_time="10d", telemetry_confirm=True)
    assert confirmed.ok, confirmed.output
    assert host.ask("status/runtimeinfo")["storageRetention"] in ("10d", "1w3d")
    assert host.play("prometheus").ok


def test_an_unsupported_system_is_named_by_the_first_task_that_knows(host: Host) -> None:
    facts = {"distribution": "Fedora", "distribution_version": "42", "distribution_major_version": "42"}
    refused = host.play("prometheus", ansible_facts={**facts, "python_version": "3.13.5", "architecture": "x86_64"})
    assert not refused.ok
    assert "Fedora 42 on x86_64 is not" in " ".join(refused.output.split())
    assert refused.executions == []


def test_a_server_that_was_there_keeps_its_data_and_gets_its_settings_back(old_host: Host) -> None:
    settings = old_host.run("md5sum", "/etc/prometheus/prometheus.yml")
    refused = old_host.play("prometheus", prometheus_retention_time="7d")
    assert not refused.ok
    assert "15 d is kept, and only 7 d would be" in refused.output
    adopted = old_host.play("prometheus")
    assert adopted.ok, adopted.output
    assert "9090" in old_host.run("ss", "-Htln", "src 127.0.0.1:9090")
    assert old_host.run("ss", "-Htln", "src [::]:9090 or src 0.0.0.0:9090") == ""
    assert "HighDrawdown" in old_host.alerts()
    removed = old_host.play("prometheus", "uninstall", prometheus_remove_package=False)
    assert removed.ok, removed.output
    assert old_host.run("md5sum", "/etc/prometheus/prometheus.yml") == settings
    assert "/usr/bin/prometheus $ARGS" in old_host.run("systemctl", "cat", "prometheus")
    assert old_host.run("ls", DATA) != ""


def test_uninstalled_it_leaves_neither_file_nor_user_nor_unit(host: Host) -> None:
    assert host.play("prometheus", "uninstall", prometheus_remove_data=True).ok
    again = host.play("prometheus", "uninstall", prometheus_remove_data=True)
    assert (again.ok, again.changed) == (True, 0), again.output
    names = r"\( -iname *prometheus* -o -iname *njord* \)"
    places = "/etc /opt /usr/bin /usr/lib/systemd /var/lib/prometheus /var/log"
    assert host.run("sh", "-c", f"find {places} {names} 2>/dev/null; getent passwd prometheus; true") == ""
    assert "prometheus" not in host.run("systemctl", "list-unit-files", "--no-pager")
