# SPDX-License-Identifier: GPL-3.0-or-later
"""On a kernel that enforces limits: a unit that is killed for its memory, one that is halted by its quota, a neighbour.

All of it in one boot, of a machine with one core that runs systemd and Prometheus; the tests read what was said there.
"""

from __future__ import annotations

import json
import shutil
import typing as t

import pytest

from tests.testbench import kernel
from tests.testbench.packages import program

# Serves its size. Grows to so many MiB, by one a second, and faster once a file says so.
GROW = """
import http.server, os, re, sys, threading, time
port, most = int(sys.argv[1]), int(sys.argv[2])
# As the clients of Prometheus tell it.
begun = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
started = begun + int(re.search(r"btime (\\d+)", open("/proc/stat").read())[1])
def held():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"process_resident_memory_bytes {held()}\\nprocess_start_time_seconds {started}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
kept = []
while port == 9556 and held() < most << 20:
    kept.append(b"x" * (1 << 20))
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    if held() < most << 20:
        kept.append(b"x" * (1 << 20))
    time.sleep(0.02 if os.path.exists("/run/faster") else 1)
"""
CONFIGURATION = """
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["127.0.0.1:9090"]}]
  - job_name: leak
    static_configs: [{targets: ["127.0.0.1:9555"]}]
  - job_name: tight
    static_configs: [{targets: ["127.0.0.1:9556"]}]
"""
LOOK = """
import dataclasses, json, sys, time
from ansible_collections.njord.telemetry.plugins.module_utils import _resources
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.runtime import event_loop_lag, memory
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
client = Prometheus(Server("http://127.0.0.1:9090", timeout=20.0))
def wait(query):
    while True:
        try:
            if client.query(query):
                return
        except HttpError:
            pass
        time.sleep(1)
if sys.argv[1] == "wait":
    wait(sys.argv[2])
    sys.exit()
# Where others keep this whole machine from running, as other tests may, its cores look idle: it looks again.
for attempt in range(10):
    usage = _resources.measure(["prometheus", "njord-*"], 4.0)
    if sys.argv[1] == "memory":
        look = memory.Look(client, usage, memory.Question(120.0, 512 << 20, 1 << 30))
    else:
        look = event_loop_lag.Look(client, usage, event_loop_lag.Question(120.0, 0.1, 30.0), None)
    findings = [finding.as_dict() for finding in look.findings()]
    if sys.argv[3] in [finding["evidence"].get("cause", "") for finding in findings]:
        break
print(json.dumps({"look": sys.argv[2], "findings": findings}))
"""
SCRIPT = """
export PYTHONPATH=/mnt PYTHONDONTWRITEBYTECODE=1
unit() { systemd-run --quiet --property=RuntimeMaxSec=240 "$@"; }
unit --unit=prometheus /mnt/prometheus --config.file=/mnt/prometheus.yml --storage.tsdb.path=/var/lib/prometheus \
    --web.listen-address=127.0.0.1:9090
unit --unit=njord-leak --property=MemoryMax=80M --property=MemorySwapMax=0 python3 /mnt/grow.py 9555 1000
unit --unit=njord-tight --property=MemoryMax=56M --property=MemorySwapMax=0 python3 /mnt/grow.py 9556 52
python3 look.py wait 'count_over_time(process_start_time_seconds{job="leak"}[2m]) > 12 and on() \
    count_over_time(process_start_time_seconds{job="tight"}[2m]) > 12'
python3 look.py memory growing "steady growth"
unit --unit=njord-slow --property=CPUQuota=20% python3 -c 'while True: pass'
python3 look.py lag quota "its CPU quota"
systemctl stop njord-slow
unit --unit=backtest python3 -c 'while True: pass'
unit --unit=njord-late python3 -c 'while True: sum(range(10000))'
python3 look.py lag neighbour "a neighbour"
systemctl stop backtest njord-late
touch /run/faster
until systemctl is-failed --quiet njord-leak; do sleep 1; done
python3 look.py memory killed "steady growth"
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, t.Any]]]:
    """The findings of each look."""
    directory = tmp_path_factory.mktemp("kernel")
    kernel.collection(directory)
    shutil.copy(program("prometheus"), directory / "prometheus")
    for name, text in (("grow.py", GROW), ("prometheus.yml", CONFIGURATION), ("look.py", LOOK)):
        (directory / name).write_text(text)
    lines = kernel.boot(directory, SCRIPT).splitlines()
    looks = [json.loads(line) for line in lines if line.startswith('{"look"')]
    return {look["look"]: look["findings"] for look in looks}


def of(findings: list[dict[str, t.Any]], subject: str) -> dict[str, t.Any]:
    (found,) = [one for one in findings if one["subject"] == subject]
    return found


def test_a_unit_that_grows_is_told_of_before_its_limit_kills_it(said: dict[str, list[dict[str, t.Any]]]) -> None:
    finding = of(said["growing"], "njord-leak.service")
    assert finding["evidence"]["cause"] == "steady growth", finding
    assert "reaches its limit of 80 MiB in" in finding["summary"]
    assert finding["evidence"]["service"]["limit"]["bytes"] == 80 << 20


def test_a_unit_that_only_has_too_little_room_is_told_apart(said: dict[str, list[dict[str, t.Any]]]) -> None:
    finding = of(said["growing"], "njord-tight.service")
    assert finding["evidence"]["cause"] == "a limit that is too small", finding
    assert "does not grow" in finding["summary"]


def test_a_unit_that_was_killed_for_its_memory_is_critical_and_its_past_names_the_cause(
    said: dict[str, list[dict[str, t.Any]]],
) -> None:
    finding = of(said["killed"], "njord-leak.service")
    assert finding["severity"] == "critical"
    assert finding["evidence"]["service"]["result"] == "oom-kill"
    (kill,) = finding["evidence"]["kills"]
    assert kill["limited"] == kill["cgroup"] == "/system.slice/njord-leak.service"
    assert kill["anonymous"] > 60 << 20
    assert "was killed by the kernel for its memory" in finding["summary"]
    assert "at its limit of 80 MiB" in finding["summary"]
    assert finding["evidence"]["cause"] == "steady growth", finding
    host = of(said["killed"], "host")
    assert host["evidence"]["host"]["oom_kills"] == 1
    assert "named above" in host["summary"]
    assert of(said["killed"], "prometheus")["evidence"]["service"]["oom_kills_above"] == 1


def test_a_unit_that_its_quota_halts_is_told_so(said: dict[str, list[dict[str, t.Any]]]) -> None:
    finding = of(said["quota"], "njord-slow.service")
    assert (finding["severity"], finding["evidence"]["cause"]) == ("warning", "its CPU quota")
    assert finding["evidence"]["service"]["throttled"] > 0.5
    assert finding["evidence"]["service"]["quota"] == pytest.approx(0.2)
    assert "its CPU quota of 0.2 cores is too small" in finding["summary"]


def test_a_neighbour_that_takes_the_core_is_named(said: dict[str, list[dict[str, t.Any]]]) -> None:
    finding = of(said["neighbour"], "njord-late.service")
    assert finding["severity"] == "warning"
    assert finding["evidence"]["cause"] == "a neighbour", finding
    assert "backtest.service (python3) takes" in finding["summary"]
    assert of(said["neighbour"], "host")["severity"] == "warning"


def test_what_this_kernel_keeps_no_account_of_is_said(said: dict[str, list[dict[str, t.Any]]]) -> None:
    host = of(said["quota"], "host")
    assert "this kernel keeps no account of pressure (PSI)" in host["evidence"]["not_known"]
    assert host["evidence"]["host"]["memory_pressure"] is None
