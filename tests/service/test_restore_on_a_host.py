# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore on a host that runs systemd, whose server crashes again and again on what was brought back."""

from __future__ import annotations

import json
import re
import subprocess
import time
import typing as t

import pytest

from tests.bench.hosts import Host, ansible, make_host

DATA = "/var/lib/prometheus/metrics2"
UNIT = "prometheus.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/crash.conf"
WORDS = "opening storage failed: it does not like this block"
# What ends the server once a block is in its data directory, and what the restore says then.
CRASHES = {
    "before it starts": (
        "ExecStartPre=/opt/crash {block}\n",
        rf"systemctl start {UNIT} ended with 1",
    ),
    "while it loads": (
        "ExecStart=\nExecStart=/opt/crash {block} {command}\n",
        rf"It ended before it was ready: .*journalctl -u {UNIT} has its words",
    ),
}
CRASH = f"""\
#!/bin/sh
block=$1
shift
if [ -d "{DATA}/$block" ]; then
    sleep 1
    echo "{WORDS}" >&2
    exit 3
fi
[ $# = 0 ] || exec "$@"
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    with make_host(tmp_path_factory.mktemp("crash"), "njord-crash", "trixie") as made:
        first = made.play("prometheus")
        assert first.ok, first.output
        give_past(made)
        done = module(made, "backup", sources=["prometheus"])
        assert done.returncode == 0, done.stdout
        yield made


@pytest.fixture
def missing(host: Host) -> t.Iterator[str]:
    """A block that the backup has and the server has lost."""
    blocks = host.run("sh", "-c", f"cd {DATA}; ls -d 01*").split()
    host.run("systemctl", "stop", UNIT)
    host.run("mv", f"{DATA}/{blocks[0]}", "/opt/lost")
    host.run("systemctl", "start", UNIT)
    ready(host)
    yield blocks[0]
    host.run("rm", "-f", DROP_IN)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "stop", UNIT)
    host.run("sh", "-c", f"[ -d {DATA}/{blocks[0]} ] || mv /opt/lost {DATA}/{blocks[0]}; rm -rf /opt/lost {DATA}.*")
    host.run("systemctl", "start", UNIT)
    ready(host)


def give_past(host: Host) -> None:
    """Eight hours of samples in blocks."""
    now = int(time.time())
    lines = [f'past{{series="{one}"}} {one} {at}' for one in range(50) for at in range(now - 36000, now - 7200, 60)]
    host.run("systemctl", "stop", UNIT)
    put(host, "/opt/past.txt", "\n".join(["# TYPE past gauge", *lines, "# EOF", ""]))
    host.run("promtool", "tsdb", "create-blocks-from", "openmetrics", "/opt/past.txt", DATA)
    host.run("chown", "-R", "prometheus:prometheus", DATA)
    host.run("systemctl", "start", UNIT)
    ready(host)


def put(host: Host, path: str, text: str) -> None:
    command = ["docker", "exec", "--interactive", host.name, "sh", "-c", 'mkdir -p "${0%/*}"; cat >"$0"', path]
    subprocess.run(command, input=text, text=True, check=True)


def ready(host: Host) -> None:
    program = (
        "import time, urllib.request as r\n"
        "while True:\n"
        "    try:\n"
        "        r.urlopen('http://127.0.0.1:9090/-/ready')\n"
        "        break\n"
        "    except OSError:\n"
        "        time.sleep(0.2)"
    )
    host.run("timeout", "60", "python3", "-c", program)


def module(host: Host, name: str, **arguments: t.Any) -> subprocess.CompletedProcess[str]:
    tasks = [{f"njord.telemetry.{name}": arguments}]
    play = {"hosts": host.name, "gather_facts": False, "become": True, "tasks": tasks}
    return ansible(host.directory, [play], host.name, {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}, {})


def samples(host: Host) -> str:
    """How many samples of the past the server gives."""
    answer = host.ask("query?query=sum(count_over_time(past%5B1d%5D))")
    return str(answer["result"][0]["value"][1])


def blocks(host: Host) -> set[str]:
    return set(host.run("sh", "-c", f"cd {DATA}; ls -d 01*").split())


def crash_once_it_is_there(host: Host, crash: str, block: str) -> None:
    shown = host.run("systemctl", "show", "--property=ExecStart", "--value", UNIT)
    command = re.search(r"argv\[\]=(.*?) ; ", shown)
    assert command, shown
    put(host, "/opt/crash", CRASH)
    host.run("chmod", "755", "/opt/crash")
    put(host, DROP_IN, "[Service]\n" + CRASHES[crash][0].format(block=block, command=command[1]))
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", UNIT)
    ready(host)


@pytest.mark.parametrize("crash", CRASHES)
def test_a_server_that_crashes_on_what_was_restored_runs_on_the_old_data_again_and_why_is_said(
    host: Host, missing: str, crash: str
) -> None:
    crash_once_it_is_there(host, crash, missing)
    before, counted = blocks(host), samples(host)
    assert missing not in before
    done = module(host, "restore", confirm=True)
    assert done.returncode == 2, done.stdout
    said = json.JSONDecoder().raw_decode(done.stdout.partition("FAILED! => ")[2])[0]["msg"]
    assert "The server did not take it, so everything is as it was" in said
    assert re.search(CRASHES[crash][1], said), said
    # It did crash, under systemd, and its words are where the message sends whoever reads it.
    assert WORDS in host.run("journalctl", "--unit", UNIT, "--output=cat", "--no-pager")
    ready(host)
    assert host.run("systemctl", "is-active", UNIT) == "active\n"
    assert blocks(host) == before
    assert samples(host) == counted
    assert host.run("sh", "-c", f"ls -d {DATA}?* || true") == ""
    # It was the crash alone that stood in the way.
    host.run("rm", DROP_IN)
    host.run("systemctl", "daemon-reload")
    restored = module(host, "restore", confirm=True)
    assert restored.returncode == 0, restored.stdout
    assert missing in blocks(host)
    assert float(samples(host)) > float(counted)
