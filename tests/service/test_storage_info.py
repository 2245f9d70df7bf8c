# SPDX-License-Identifier: GPL-3.0-or-later
"""storage_info against real servers with blocks that promtool made."""

from __future__ import annotations

import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from tests.testbench import servers
from tests.testbench.module import run
from tests.testbench.packages import program

DAY = 86400


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve days of samples, ending now."""
    directory = tmp_path_factory.mktemp("storage")
    now = int(time.time())
    lines = [f"answer 42 {now - hour * 3600}" for hour in range(12 * 24, 0, -1)]
    (directory / "past.om").write_text("\n".join(["# TYPE answer gauge", *lines, "# EOF", ""]))
    make = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h"]
    command: list[str | Path] = [program("promtool", "3"), *make, directory / "past.om", directory / "data"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return directory


def ask(server: servers.Server, **options: t.Any) -> dict[str, t.Any]:
    data_directory = str(server.directory / "data")
    return run("storage_info", {"prometheus_url": server.url, "data_directory": data_directory, **options})


@pytest.mark.parametrize("version", ["2", "3"])
def test_the_running_server_says_what_is_kept(data: Path, version: str) -> None:
    arguments = ["--storage.tsdb.retention.time=100d", "--storage.tsdb.retention.size=1536MB"]
    with servers.prometheus(data, version=version, arguments=arguments) as server:
        seen = ask(server, retention_time="100d", retention_size="1536MB")
        lower = ask(server, retention_time="5d", retention_size="1536MB")
    assert seen["lowered"] is False
    assert (seen["retention"]["seconds"], seen["retention"]["bytes"]) == (100 * DAY, 1536 * 1024**2)
    assert sum(block["samples"] for block in seen["blocks"]) == 12 * 24
    assert [finding["severity"] for finding in seen["findings"]] == ["ok", "ok"]
    assert lower["lowered"] is True
    assert lower["findings"][0]["severity"] == "critical"
    # Seven days and the day that is cut.
    assert 6 * 24 <= sum(block["samples"] for block in lower["would_go"]) <= 7 * 24


def test_what_it_foretells_is_what_the_server_deletes(data: Path) -> None:
    with servers.prometheus(data, arguments=["--storage.tsdb.retention.time=100d"]) as server:
        foretold = ask(server, retention_time="9d")
    going = {block["ulid"] for block in foretold["would_go"]}
    assert going
    before = {path.name for path in (data / "data").glob("01*")}
    with servers.prometheus(data, arguments=["--storage.tsdb.retention.time=9d"]):
        deadline = time.monotonic() + 30
        while before == {path.name for path in (data / "data").glob("01*")} and time.monotonic() < deadline:
            time.sleep(0.2)
        after = {path.name for path in (data / "data").glob("01*")}
    assert before - after == going


def test_a_server_that_does_not_answer_leaves_it_unknown(data: Path) -> None:
    with servers.prometheus(data) as server:
        pass
    seen = ask(server, retention_time="100d", unit="njord-no-such.service")
    assert seen["lowered"] is None
    assert seen["findings"][0]["severity"] == "unknown"
    assert "connection refused" in seen["retention"]["source"]


def test_a_retention_that_cannot_be_read_is_named(data: Path) -> None:
    seen = run("storage_info", {"retention_time": "a month"})
    assert seen["failed"]
    assert "'a month' is no duration" in seen["msg"]


def test_a_directory_that_is_a_file_is_unknown(data: Path) -> None:
    seen = run("storage_info", {"data_directory": str(data / "past.om"), "prometheus_url": "http://127.0.0.1:1"})
    assert (seen["lowered"], seen["findings"][0]["severity"]) == (None, "unknown")
