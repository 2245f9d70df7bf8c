# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as files: their names, and what each of them must do whatever it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PLAYBOOKS = ROOT / "playbooks"
IMPORTABLE = sorted(path for path in PLAYBOOKS.glob("*.yml") if not path.is_symlink())
# It prints; there is nothing in it to judge.
WITHOUT_REPORT = {"service_logs"}


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


@pytest.mark.parametrize("path", IMPORTABLE, ids=names(IMPORTABLE))
def test_a_playbook_has_an_importable_name_and_the_dashed_one_of_the_runbook(path: Path) -> None:
    assert "-" not in path.stem
    if "_" in path.stem:
        dashed = path.with_name(path.name.replace("_", "-"))
        assert dashed.is_symlink()
        assert dashed.readlink() == Path(path.name)


def test_every_dashed_name_leads_to_a_playbook() -> None:
    links = [path for path in PLAYBOOKS.glob("*.yml") if path.is_symlink()]
    assert links
    assert [link.name for link in links if not link.exists()] == []


@pytest.mark.parametrize("path", IMPORTABLE, ids=names(IMPORTABLE))
def test_a_playbook_refuses_to_run_for_nobody_before_it_does_anything(path: Path) -> None:
    plays = yaml.safe_load(path.read_text())
    assert plays[0]["ansible.builtin.import_playbook"] == "imports/begin.yml"
    hosts = plays[0].get("vars", {}).get("begin_hosts", "telemetry")
    assert {play["hosts"] for play in plays[1:]} == {f"{{{{ telemetry_hosts | default('{hosts}') }}}}"}


@pytest.mark.parametrize("path", IMPORTABLE, ids=names(IMPORTABLE))
def test_a_playbook_goes_on_past_dead_hosts_all_at_once_and_can_be_given_other_hosts(path: Path) -> None:
    for play in yaml.safe_load(path.read_text())[1:]:
        assert play["ignore_unreachable"] is True
        assert "serial" not in play
        assert play["hosts"].startswith("{{ telemetry_hosts | default(")


@pytest.mark.parametrize("path", IMPORTABLE, ids=names(IMPORTABLE))
def test_a_playbook_ends_in_a_report_of_its_own_name(path: Path) -> None:
    last = yaml.safe_load(path.read_text())[-1]["tasks"][-1]
    if path.stem in WITHOUT_REPORT:
        assert "report" not in path.read_text()
    else:
        assert last["ansible.builtin.import_tasks"] == "tasks/report.yml"
        assert last["vars"]["report_procedure"] == path.stem


@pytest.mark.parametrize("path", IMPORTABLE, ids=names(IMPORTABLE))
def test_ansible_can_read_the_playbook_with_both_example_inventories(path: Path) -> None:
    for inventory in ("single", "fleet"):
        command = [sys.executable, "-m", "ansible", "playbook", "--syntax-check", "-i"]
        run = subprocess.run(
            [*command, f"inventories/{inventory}/hosts.yml", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert "WARNING" not in run.stderr
