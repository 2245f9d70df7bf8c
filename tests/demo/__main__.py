# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.demo up | down | trouble FAULT``: the host of the demonstration, from nothing to its report."""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import time
import typing as t
import urllib.parse
from pathlib import Path

from tests.demo import history

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "demo"
INVENTORY = ROOT / "molecule" / "demo" / "hosts.yml"
HOST = "njord-demo"
METRICS = "/opt/njord_quant/var/log/njord/metrics"
TRADING = "/opt/njord_quant/data/journal"
DATABASE = "/var/lib/prometheus/metrics2"
# Laid last, on a host that is complete. A second run leaves that host as it is: it may be in trouble, and is to say so.
COMPLETE = "/var/lib/prometheus/.njord-demo-complete"


def say(line: str) -> None:
    print(f"\n== {line}", flush=True)


def playbook(path: str, *words: str) -> int:
    program = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run([program, "-i", INVENTORY, ROOT / path, *words], cwd=ROOT, check=False).returncode


def must(path: str) -> None:
    if code := playbook(path):
        raise SystemExit(f"{path} ended with {code}; what went wrong stands above")


def on_host(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", "exec", HOST, *words], capture_output=True, text=True, check=check)


def put(source: Path, target: str) -> None:
    """The files of a directory; docker cp would not see the tmpfs that is mounted there."""
    with subprocess.Popen(["tar", "-C", source, "-c", "."], stdout=subprocess.PIPE) as packed:
        subprocess.run(["docker", "exec", "-i", HOST, "tar", "-C", target, "-x"], stdin=packed.stdout, check=True)


def query(expression: str) -> list[dict[str, t.Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", 9090, timeout=10)
    try:
        connection.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return list(json.load(connection.getresponse())["data"]["result"])
    finally:
        connection.close()


def wait_for(expression: str, seconds: int) -> None:
    """Returns once the expression has a result."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if query(expression):
                return
        except (OSError, http.client.HTTPException, ValueError):
            pass
        time.sleep(1)
    raise SystemExit(f"After {seconds} s Prometheus still has nothing for: {expression}")


def lay_the_past() -> None:
    say("Two weeks of past: samples for Prometheus, journals of the aggregator and the traders")
    past = BUILD / "past"
    shutil.rmtree(past, ignore_errors=True)
    past.mkdir(parents=True)
    now = time.time()
    samples = history.write_open_metrics(past / "samples.txt", now)
    history.write_journals(past / "metrics", past / "trading", now)
    print(f"{samples} samples")
    on_host("mkdir", "-p", METRICS, TRADING)
    put(past / "metrics", METRICS)
    put(past / "trading", TRADING)
    subprocess.run(["docker", "cp", "--quiet", past / "samples.txt", f"{HOST}:/opt/past.txt"], check=True)
    on_host("systemctl", "stop", "prometheus")
    on_host("promtool", "tsdb", "create-blocks-from", "openmetrics", "/opt/past.txt", DATABASE)
    on_host("chown", "-R", "prometheus:prometheus", DATABASE)
    on_host("rm", "/opt/past.txt")
    on_host("systemctl", "start", "prometheus")
    on_host("touch", COMPLETE)


def publish(*words: str) -> None:
    """Live traffic, in place of whatever is published now."""
    subprocess.run(["docker", "cp", "--quiet", ROOT / "tests/demo/traffic.py", f"{HOST}:/opt/traffic.py"], check=True)
    on_host("systemctl", "stop", "njord-demo-traffic", check=False)
    on_host("systemctl", "reset-failed", "njord-demo-traffic", check=False)
    on_host(
        *("systemd-run", "--quiet", "--unit=njord-demo-traffic", "--property=Restart=always"),
        *("--property=RestartSec=1", "/usr/bin/python3", "/opt/traffic.py", *words),
    )


def up() -> int:
    say("A host that runs systemd, in a container")
    must("molecule/shared/create.yml")
    if on_host("test", "-e", COMPLETE, check=False).returncode:
        must("molecule/shared/prepare.yml")
        say("Everything installed and configured: site.yml")
        must("playbooks/site.yml")
        lay_the_past()
    if on_host("systemctl", "is-active", "njord-demo-traffic", check=False).returncode:
        say("Live traffic of six strategies, some of it bad on purpose")
        publish()
        wait_for("count(njord_orders_total) > 100", 120)
        # Each rule once, or the report can say of it only that it was not evaluated yet.
        wait_for("min(prometheus_rule_group_last_evaluation_timestamp_seconds) > 0", 180)
        say("The first backup and the first drill, as their timers start them")
        on_host("systemctl", "start", "njord-backup")
        on_host("systemctl", "start", "njord-restore-drill")
    say("Weekly maintenance: maintenance-weekly.yml")
    code = playbook("playbooks/maintenance-weekly.yml")
    print(
        f"\nThe host {HOST} goes on running: Prometheus http://127.0.0.1:9090, exporter http://127.0.0.1:9091/metrics."
        "\nMake trouble and look again: make trouble FAULT=exporter (disk, labels, alert; none takes it back), then"
        "\nmake demo. FAULT=memory and FAULT=lag are for troubleshoot-memory.yml and troubleshoot-event-loop-lag.yml:"
        "\n.venv/bin/ansible-playbook -i molecule/demo/hosts.yml playbooks/troubleshoot-memory.yml"
        "\nmake demo-clean ends it."
    )
    return code


def down() -> int:
    must("molecule/shared/destroy.yml")
    subprocess.run(["docker", "image", "rm", "njord-telemetry-host:trixie"], capture_output=True, check=False)
    shutil.rmtree(BUILD, ignore_errors=True)
    return 0


def fill_the_disk() -> None:
    free = int(on_host("df", "--output=avail", "-B1", METRICS).stdout.split()[-1])
    on_host("fallocate", "-l", str(free * 97 // 100), f"{METRICS}/ballast.bin")


def unit(name: str, *words: str) -> None:
    """A unit that does something for a quarter of an hour, and ends by itself."""
    on_host("systemctl", "stop", name, check=False)
    on_host("systemd-run", "--quiet", f"--unit={name}", "--property=RuntimeMaxSec=900", "--collect", *words)


def hoard_memory() -> None:
    unit("njord-cache", "python3", "-c", "import time; held = b'x' * (600 << 20); time.sleep(900)")


def crowd_the_cores() -> None:
    spins = "for number in 1 2 3 4 5 6; do python3 -c 'while True: pass' & done; wait"
    unit("backtest", "sh", "-c", spins)
    unit("njord-signals", "python3", "-c", "while True: sum(range(10000))")


FAULTS: dict[str, t.Callable[[], object]] = {
    "exporter": lambda: on_host("systemctl", "stop", "njord-prometheus-exporter"),
    "disk": fill_the_disk,
    "labels": lambda: publish("--label-sets=20000", "--label-rate=200"),
    "alert": lambda: publish("--drawdown=14"),
    "memory": hoard_memory,
    "lag": crowd_the_cores,
}


def end_all_trouble() -> None:
    # The exporter keeps a label set for as long as it runs.
    on_host("systemctl", "restart", "njord-prometheus-exporter")
    on_host("systemctl", "stop", "njord-cache", "backtest", "njord-signals", check=False)
    on_host("rm", "-f", f"{METRICS}/ballast.bin")
    publish()


def trouble(fault: str) -> int:
    if fault == "none":
        end_all_trouble()
    elif fault in FAULTS:
        FAULTS[fault]()
    else:
        raise SystemExit(f"FAULT={fault} is unknown; it is one of none, {', '.join(FAULTS)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up")
    commands.add_parser("down")
    commands.add_parser("trouble").add_argument("fault")
    options = parser.parse_args()
    if options.command == "trouble":
        return trouble(options.fault)
    return {"up": up, "down": down}[options.command]()


if __name__ == "__main__":
    sys.exit(main())
