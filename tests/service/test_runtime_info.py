# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks of real servers, and of a Prometheus that lives in another time."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
import typing as t
from pathlib import Path

import pytest
import urllib3

from tests.testbench import servers
from tests.testbench.module import findings, run

SCRAPING_ITSELF = """
scrape_configs:
  - job_name: prometheus
    scrape_interval: 1s
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def one(answer: dict[str, t.Any], check: str) -> dict[str, t.Any]:
    (finding,) = findings(answer, check)
    return finding


@contextlib.contextmanager
def clock_off(url: str, seconds: float) -> t.Iterator[str]:
    """In front of a real Prometheus: gives its answers, with its clock and its samples moved."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self) -> None:
            self.answer(None)

        def answer(self, body: bytes | None) -> None:
            headers = {"Content-Type": self.headers.get("Content-Type", "")}
            method = "GET" if body is None else "POST"
            document = urllib3.request(method, url + self.path, body=body, headers=headers, timeout=10).json()
            data = document["data"]
            if data.get("resultType") == "scalar":
                data["result"][1] = str(float(data["result"][1]) + seconds)
            if data.get("resultType") == "vector":
                for row in data["result"]:
                    row["value"][1] = str(float(row["value"][1]) + seconds)
            if "headStats" in data:
                data["headStats"]["maxTime"] += int(seconds * 1000)
            text = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("version", ["2", "3"])
def test_prometheus_on_the_same_host_has_the_same_clock_and_fresh_samples(tmp_path: Path, version: str) -> None:
    port = servers.free_port()
    with servers.prometheus(tmp_path, version, SCRAPING_ITSELF.format(port=port), port=port) as server:
        answer = run("runtime_info", {"prometheus_url": server.url})
        deadline = time.monotonic() + 30
        while one(answer, "clock.samples")["severity"] != "ok" and time.monotonic() < deadline:
            time.sleep(0.5)
            answer = run("runtime_info", {"prometheus_url": server.url})
        with clock_off(server.url, 7200) as url:
            moved = run("runtime_info", {"prometheus_url": url})
    assert one(answer, "clock.prometheus")["severity"] == "ok"
    assert one(answer, "clock.samples")["severity"] == "ok"
    assert one(answer, "clock.samples")["evidence"]["newest_scrape_age_seconds"] < 30
    assert one(moved, "clock.prometheus")["severity"] == "critical"
    assert "2 h behind Prometheus'" in one(moved, "clock.prometheus")["summary"]


def test_a_prometheus_that_scrapes_nothing_has_no_fresh_samples(tmp_path: Path) -> None:
    with servers.prometheus(tmp_path) as server:
        answer = run("runtime_info", {"prometheus_url": server.url})
    assert one(answer, "clock.prometheus")["severity"] == "ok"
    assert one(answer, "clock.samples")["severity"] == "unknown"


def test_the_whole_seconds_of_victoria_metrics_are_not_held_against_its_clock(tmp_path: Path) -> None:
    with servers.victoria_metrics(tmp_path) as server:
        answer = run("runtime_info", {"prometheus_url": server.url, "clock_warning": "10ms"})
    assert one(answer, "clock.prometheus")["severity"] == "ok"
    assert one(answer, "clock.samples")["severity"] == "unknown"


def test_a_prometheus_that_does_not_answer_is_unknown_and_says_so() -> None:
    url = f"http://127.0.0.1:{servers.free_port()}"
    answer = run("runtime_info", {"prometheus_url": url})
    for check in ("clock.prometheus", "clock.samples"):
        finding = one(answer, check)
        assert (finding["severity"], finding["subject"]) == ("unknown", url)
        assert "connection refused" in finding["summary"]


def test_the_clock_of_the_controller_is_compared_when_it_is_given() -> None:
    url = f"http://127.0.0.1:{servers.free_port()}"
    arguments = {"prometheus_url": url, "controller_delay": "60s"}
    assert not findings(run("runtime_info", arguments), "clock.controller")
    for ahead, severity in ((0, "ok"), (10, "warning"), (100, "critical"), (-200, "critical")):
        answer = run("runtime_info", {**arguments, "controller_time": f"{time.time() + ahead:.3f}"})
        assert one(answer, "clock.controller")["severity"] == severity
        assert answer["controller_offset"]["high"] - answer["controller_offset"]["low"] == pytest.approx(60)


def test_what_keeps_the_clock_of_this_host_is_asked() -> None:
    answer = run("runtime_info", {"prometheus_url": f"http://127.0.0.1:{servers.free_port()}"})
    asked = answer["time_services"]
    assert asked[0]["program"] == "chronyc"
    known = [service["synchronised"] for service in asked if service["synchronised"] is not None]
    expected = {True: {"ok", "warning", "critical"}, False: {"warning"}}[known[0]] if known else {"unknown"}
    assert one(answer, "clock.synchronised")["severity"] in expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"controller_time": "noon"}, "controller_time: 'noon' is no time"),
        ({"controller_delay": "5"}, "controller_delay: '5' is no duration"),
        ({"clock_critical": "10ms"}, "clock_critical: 0.01 s is less than clock_warning"),
        ({"prometheus_url": "localhost"}, "prometheus_url: 'localhost' is no address"),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it(arguments: dict[str, t.Any], said: str) -> None:
    answer = run("runtime_info", arguments)
    assert answer["failed"]
    assert said in answer["msg"]
