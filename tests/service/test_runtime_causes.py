# SPDX-License-Identifier: GPL-3.0-or-later
"""What real servers, of both major versions, tell of memory and lag; kernels are in test_runtime_kernel.py."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import urllib3
from ansible_collections.njord.telemetry.plugins.module_utils import _resources
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.runtime import event_loop_lag, memory
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._resources import Limit, Service, Usage

from tests.testbench import servers
from tests.testbench.module import run

MEBIBYTE = 1024 * 1024
WINDOW = 60.0
# Grows by 40 MiB a second at most, and ends by itself.
LEAK = """
import http.server, sys, threading, time
started, kept = time.time(), []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        resident = int(open("/proc/self/statm").read().split()[1]) * 4096
        body = f"process_resident_memory_bytes {resident}\\nprocess_start_time_seconds {started}\\n"
        body += "".join(f'orders{{order="{n}"}} 1\\n' for n in range(int((time.time() - started) * 200)))
        body = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
while time.time() < started + 120:
    kept.append(b"x" * (2 << 20))
    time.sleep(0.25)
"""
SCRAPING = """
global: {{scrape_interval: 1s, query_log_file: {log}}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{own}"]}}]
  - job_name: fast
    static_configs: [{{targets: ["127.0.0.1:{leak}"]}}]
  - job_name: slow
    scrape_interval: 2s
    static_configs: [{{targets: ["127.0.0.1:{leak}"]}}]
"""


@contextlib.contextmanager
def leaking(port: int) -> t.Iterator[int]:
    """The pid of a process that grows, and serves its size."""
    process = subprocess.Popen([sys.executable, "-c", LEAK, str(port)], stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def near_limit(name: str, port: int, held: int) -> Service:
    """As if it were a unit with a limit that it nearly fills."""
    one = Limit(f"/system.slice/{name}.service", "memory.max", held * 10 // 9, held)
    cgroup = one.cgroup
    return Service(
        name, "unit", "runs", True, "success", cgroup=cgroup, held=held, limit=one, limits=(one,), ports=(port,)
    )


def of(findings: t.Sequence[Finding], subject: str) -> Finding:
    (found,) = [one for one in findings if one.subject == subject]
    return found


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_leak_the_head_and_the_largest_query_are_told_from_what_prometheus_keeps(
    tmp_path: Path, version: str
) -> None:
    own, leak, log = servers.free_port(), servers.free_port(), tmp_path / "query.log"
    config = SCRAPING.format(own=own, leak=leak, log=log)
    with leaking(leak), servers.prometheus(tmp_path, version, config, port=own) as server:
        client = Prometheus(Server(server.url))
        # A twelfth of the window, the part that is warming up, and what a loaded machine takes.
        deadline = time.monotonic() + 60
        enough = 'count_over_time(process_resident_memory_bytes{job="fast"}[1m]) > 12'
        while not client.query(enough) and time.monotonic() < deadline:
            time.sleep(0.5)
        asked = {"query": "sum(count_over_time(orders[1m]))"}
        assert urllib3.request("GET", f"{server.url}/api/v1/query", fields=asked).status == 200
        seen = _resources.measure([], 0.5)
        services = (near_limit("njord-leak", leak, 100 * MEBIBYTE), near_limit("prometheus", own, 50 * MEBIBYTE))
        usage = Usage(services, seen.host, seen.neighbours, 0.5, ())
        found = memory.Look(client, usage, memory.Question(WINDOW, 512 * MEBIBYTE, 1024 * MEBIBYTE)).findings()
        late = event_loop_lag.Look(client, usage, event_loop_lag.Question(WINDOW, 0.1, 30), None)
        lag = late.findings()
    grown = of(found, "njord-leak")
    assert grown.evidence["cause"] == "steady growth", grown
    assert "reaches its limit of 111.1 MiB" in grown.summary
    assert len(grown.evidence["chart"]["lines"][0]["points"]) > 8
    causes = {one["cause"]: one for one in of(found, "prometheus").evidence["causes"]}
    assert causes["replay after a start"]["holds"] is False
    assert causes["series in the head"]["holds"] is not None, causes
    assert causes["an expensive query"]["holds"] is not None, causes
    assert "count_over_time" in causes["an expensive query"]["said"]
    head = of(found, "prometheus").evidence["head"]
    assert head["head_series"] > 300
    assert head["bytes_per_series"] > 100
    gains = {one["name"]: one["gain"] for one in of(found, "memory").evidence["remedies"]}
    assert gains["dropping orders"] > 0
    assert gains["a longer scrape interval"] == gains["clean-up of the journals"] == 0
    assert {target.pool for target in late.scrapes["njord-leak"].targets} == {"fast", "slow"}
    assert late.scrapes["njord-leak"].a_second == pytest.approx(1.5)
    assert late.scrapes["njord-leak"].duration is not None
    assert of(lag, event_loop_lag.METRIC).severity == "unknown"


def test_the_module_answers_for_both_looks_with_figures_and_what_it_could_not_read(tmp_path: Path) -> None:
    with servers.prometheus(tmp_path) as server:
        answer = run(
            "runtime_info",
            {
                "looks": ["memory", "event_loop_lag"],
                "services": ["nobody"],
                "sample": "500ms",
                "prometheus_url": server.url,
            },
        )
    checks = {(one["check"], one["subject"]) for one in answer["findings"]}
    for look in ("memory", "event_loop_lag"):
        assert {(f"runtime.{look}", subject) for subject in ("nobody", "host")} <= checks
    assert answer["services"][0]["kind"] == ""
    assert answer["host"]["memory"] > 0
    assert answer["not_known"]
    assert "time_services" not in answer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"looks": ["disk"]}, "looks must be one or more of: clock, memory, event_loop_lag"),
        ({"sample": "1ms"}, "sample: 0.001 s does not lie between 0.5 s and 60 s"),
        ({"window": "0"}, "window: 0 is no time"),
        ({"memory_warning": "512"}, "memory_warning: '512' is no size"),
        ({"memory_critical": "1MB"}, "memory_critical: it is less than memory_warning"),
        ({"catalogue": [{"name": "x"}]}, "catalogue: {'name': 'x'} lacks name or source"),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it(arguments: dict[str, t.Any], said: str) -> None:
    answer = run("runtime_info", {"looks": ["memory"], **arguments})
    assert answer["failed"]
    assert said in answer["msg"]
