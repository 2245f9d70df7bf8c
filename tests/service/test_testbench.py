# SPDX-License-Identifier: GPL-3.0-or-later
"""The test bench itself: servers that are ready when they say so, and gone afterwards."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import urllib3

from tests.testbench import packages, servers


def ask(url: str, **options: t.Any) -> str:
    answer = urllib3.request(options.pop("method", "GET"), url, timeout=10, retries=False, **options)
    assert answer.status < 300, answer.data
    return answer.data.decode()


@pytest.mark.parametrize("version", ["2", "3"])
def test_prometheus_runs_in_the_version_asked_for(tmp_path: Path, version: str) -> None:
    with servers.prometheus(tmp_path, version) as server:
        said = json.loads(ask(f"{server.url}/api/v1/status/buildinfo"))["data"]["version"]
    assert said.startswith(f"{version}.")


@pytest.mark.parametrize("version", ["0.28", "0.33"])
def test_alertmanager_runs_in_the_version_asked_for(tmp_path: Path, version: str) -> None:
    with servers.alertmanager(tmp_path, version) as server:
        assert json.loads(ask(f"{server.url}/api/v2/status"))["versionInfo"]["version"].startswith(version)


def test_node_exporter_shows_a_text_file_of_metrics(tmp_path: Path) -> None:
    (tmp_path / "njord.prom").write_text("njord_maintenance_last_run 42\n")
    with servers.node_exporter(tmp_path) as server:
        assert "\nnjord_maintenance_last_run 42\n" in ask(f"{server.url}/metrics")


def test_victoria_metrics_gives_back_what_it_was_given(tmp_path: Path) -> None:
    now = int(time.time())
    with servers.victoria_metrics(tmp_path) as server:
        ask(f"{server.url}/api/v1/import/prometheus", method="POST", body=f"njord_position_count 3 {now}000\n")
        ask(f"{server.url}/internal/force_flush")
        answer = ask(f"{server.url}/api/v1/query?query=njord_position_count&time={now + 1}")
    result = json.loads(answer)["data"]["result"]
    assert [series["value"][1] for series in result] == ["3"]


def test_redis_answers_again_on_its_port_after_a_restart(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as server:
        first = server.process.pid
        server.stop()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        server.start()
        assert server.process.pid != first
    assert server.process.returncode is not None


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no_such_key"):
        servers.prometheus(tmp_path, config="no_such_key: 1\n").start()


def test_an_unknown_program_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="promtool 3"):
        packages.program("promtool", version="1")


def test_packages_arrive_whole_after_an_interrupted_download_and_for_parallel_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "packages"
    left_behind = cache / "trixie" / ".prometheus-node-exporter.new"
    left_behind.mkdir(parents=True)
    (left_behind / "half").touch()
    script = (
        "import pathlib, sys; from tests.testbench import packages; packages.CACHE = pathlib.Path(sys.argv[1]);"
        "print(packages.program('prometheus-node-exporter'))"
    )

    def caller() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, cache], cwd=packages.ROOT, stdout=subprocess.PIPE, text=True
        )

    callers = [caller(), caller()]
    said = {caller.communicate()[0].strip() for caller in callers}
    assert said == {str(cache / "trixie/prometheus-node-exporter/usr/bin/prometheus-node-exporter")}
    assert subprocess.run([said.pop(), "--version"], capture_output=True, check=False).returncode == 0
    assert not left_behind.exists()
