# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that runs systemd, and what it costs to run a role there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

from tests.testbench import engine
from tests.testbench.packages import ROOT

SCRIPTS = Path(sys.executable).parent


@dataclasses.dataclass(frozen=True)
class Run:
    """:param executions: the modules that ran on the host, in order. :param changed: tasks that changed something."""

    ok: bool
    output: str
    banners: int
    executions: list[str]
    changed: int


@dataclasses.dataclass(frozen=True)
class Host:
    """:param group: of the inventory in which it is."""

    name: str
    directory: Path
    group: str = "telemetry"

    def play(self, role: str, entry: str = "main", check: bool = False, **variables: t.Any) -> Run:
        """Runs a role, or another entry point of it."""
        include = {"name": f"njord.telemetry.{role}", "tasks_from": entry}
        tasks = [{"ansible.builtin.include_role": include}]
        play = {"hosts": self.name, "gather_facts": False, "become": True, "tasks": tasks}
        log = self.directory / "executions"
        log.unlink(missing_ok=True)
        options = ["--check", "--diff"] if check else []
        counter = {
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "bench" / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "count_executions",
            "NJORD_EXECUTIONS": str(log),
        }
        # Nobody else is on the host, and what it scrapes is waited for as well.
        variables = {"telemetry_start_wait": "5s", **variables}
        done = ansible(self.directory, [play], self.name, counter, variables, *options, group=self.group)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        changed = re.search(r"changed=(\d+)", done.stdout)
        assert changed, done.stdout + done.stderr
        return Run(
            done.returncode == 0,
            done.stdout,
            sum("banner" in line for line in lines),
            [line["module"] for line in lines if "module" in line],
            int(changed[1]),
        )

    def playbook(self, path: str, *options: str, **variables: t.Any) -> subprocess.CompletedProcess[str]:
        """Runs one of the repository's playbooks; its report is copied to ``reports`` below the directory."""
        told = {"telemetry_report_copy_to": str(self.directory / "reports"), **variables}
        return ansible(self.directory, ROOT / path, self.name, {}, told, *options, group=self.group)

    def install(self) -> None:
        """The trading system's bus and journals, and everything that site.yml brings."""
        for path in ("molecule/shared/prepare.yml", "playbooks/site.yml"):
            done = self.playbook(path)
            assert done.returncode == 0, done.stdout + done.stderr

    def report(self, procedure: str) -> dict[str, t.Any]:
        """The newest report of a procedure."""
        newest = max((self.directory / "reports").glob(f"*_{procedure}.json"))
        document: dict[str, t.Any] = json.loads(newest.read_text())
        return document

    def run(self, *command: str) -> str:
        done = subprocess.run(["docker", "exec", self.name, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, path: str) -> t.Any:
        """An answer of the server's API."""
        program = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/api/v1/{path}').read().decode())"
        return json.loads(self.run("python3", "-c", program))["data"]

    def alerts(self) -> set[str]:
        return {rule["name"] for group in self.ask("rules")["groups"] for rule in group["rules"]}


def ansible(
    directory: Path,
    playbook: Path | list[t.Any],
    host: str,
    environment: dict[str, str],
    variables: dict[str, t.Any],
    *options: str,
    group: str = "telemetry",
) -> subprocess.CompletedProcess[str]:
    if isinstance(playbook, list):
        path = directory / "playbook.json"
        path.write_text(json.dumps(playbook))
        playbook = path
    connection = {"ansible_connection": "community.docker.docker", "ansible_user": "root"}
    inventory = directory / "hosts.yml"
    inventory.write_text(yaml.safe_dump({group: {"hosts": {host: connection}}}))
    return subprocess.run(
        [SCRIPTS / "ansible-playbook", "-i", inventory, "-e", json.dumps(variables), *options, playbook],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@contextlib.contextmanager
def make_host(directory: Path, name: str, suite: str, tmpfs: t.Sequence[str] = ()) -> t.Iterator[Host]:
    engine.start()
    shared = ROOT / "molecule" / "shared"
    variables = {"platforms": [{"name": name, "suite": suite, "tmpfs": list(tmpfs)}]}
    # What an interrupted run left goes first.
    for playbook in ("destroy.yml", "create.yml"):
        done = ansible(directory, shared / playbook, name, {}, variables)
        assert done.returncode == 0, done.stdout + done.stderr
    host = Host(name, directory)
    host.run("apt-get", "update", "-qq")
    try:
        yield host
    finally:
        ansible(directory, shared / "destroy.yml", name, {}, variables).check_returncode()
