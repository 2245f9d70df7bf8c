# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as its users have it: a checkout in any folder, and installed from the built archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

INVENTORY = """
telemetry:
  hosts:
    here:
      ansible_connection: local
      ansible_python_interpreter: /usr/bin/python3
  vars:
    telemetry_report_copy_to: "{{ lookup('ansible.builtin.env', 'REPORTS') }}"
    telemetry_report_directory: "{{ lookup('ansible.builtin.env', 'REPORTS') }}/store"
    telemetry_textfile_directory: "{{ lookup('ansible.builtin.env', 'REPORTS') }}"
    # Nothing runs here: every answer is "connection refused", and that is what the page must say.
    telemetry_prometheus_url: http://127.0.0.1:1
    telemetry_exporter_url: http://127.0.0.1:1
    telemetry_node_exporter_url: http://127.0.0.1:1
    telemetry_journal_dirs: ["{{ lookup('ansible.builtin.env', 'REPORTS') }}"]
"""


def ansible(
    name: str, *words: str, cwd: Path, reports: Path, collections: Path | None = None
) -> subprocess.CompletedProcess[str]:
    # A path of whoever runs the tests may name this very checkout, and would answer for what is missing.
    path = str(collections or reports / "no-collections")
    environment = {
        **os.environ,
        "REPORTS": str(reports),
        "ANSIBLE_HOME": str(reports / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": path,
    }
    program = Path(sys.executable).with_name(name)
    return subprocess.run(
        [program, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def copy_of_the_tree(target: Path) -> Path:
    """What a commit of now would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that holds the collection as the archive brings it."""
    base = tmp_path_factory.mktemp("built")
    tree = copy_of_the_tree(base / "tree")
    built = ansible("ansible-galaxy", "collection", "build", "--output-path", str(base), cwd=tree, reports=base)
    assert built.returncode == 0, built.stderr
    archive = next(base.glob("njord-telemetry-*.tar.gz"))
    path = base / "collections"
    done = ansible(
        "ansible-galaxy",
        *("collection", "install", "--offline", "-p", str(path), str(archive)),
        cwd=base,
        reports=base,
    )
    assert done.returncode == 0, done.stderr
    return path


def assert_true_report(run: subprocess.CompletedProcess[str], reports: Path) -> None:
    """The job failed, because everything is down, and the page tells just that."""
    assert run.returncode == 2, run.stdout + run.stderr
    page = json.loads(next(reports.glob("*.json")).read_text())
    seen = {(finding["severity"], finding["subject"]) for finding in page["findings"]}
    assert ("critical", "prometheus") in seen
    assert "connection refused" in json.dumps(page) or "not installed" in json.dumps(page)
    assert next(reports.glob("*.html")).stat().st_size > 2000


def test_a_playbook_runs_from_a_checkout_in_any_folder_and_from_any_working_directory(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path / "another name")
    subprocess.run(["make", "-s", "link"], cwd=tree, check=True)
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    run = ansible(
        "ansible-playbook",
        *("-i", str(tmp_path / "hosts.yml"), str(tree / "playbooks" / "maintenance-weekly.yml")),
        cwd=tmp_path,
        reports=tmp_path / "reports",
    )
    assert_true_report(run, tmp_path / "reports")


def test_a_playbook_runs_installed_from_the_archive_by_its_full_name(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    run = ansible(
        "ansible-playbook",
        *("-i", str(tmp_path / "hosts.yml"), "njord.telemetry.maintenance_weekly"),
        cwd=tmp_path,
        reports=tmp_path / "reports",
        collections=installed,
    )
    assert_true_report(run, tmp_path / "reports")


def test_the_archive_holds_the_exporter_and_the_dashed_names_and_none_of_our_tools(installed: Path) -> None:
    root = installed / "ansible_collections" / "njord" / "telemetry"
    assert (root / "files" / "exporter" / "pyproject.toml").is_file()
    assert (root / "playbooks" / "maintenance-weekly.yml").is_file()
    assert not [name for name in (".ci", ".venv", ".cache", "build", "reports") if (root / name).exists()]
    assert not (root / "playbooks" / "collections").exists()


@pytest.mark.parametrize("hosts", ["telemetry: {}", "web: {hosts: {shop: {ansible_connection: local}}}"])
def test_an_inventory_without_hosts_of_ours_is_an_error_and_not_a_quiet_success(hosts: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(hosts)
    playbook = str(ROOT / "playbooks" / "maintenance-weekly.yml")
    run = ansible(
        "ansible-playbook", "-i", str(tmp_path / "hosts.yml"), playbook, cwd=tmp_path, reports=tmp_path / "reports"
    )
    assert run.returncode == 2
    assert 'No host of the inventory is in "telemetry:traders"' in run.stdout


def test_a_limit_that_leaves_no_host_of_ours_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(INVENTORY + "web: {hosts: {shop: {ansible_connection: local}}}")
    playbook = str(ROOT / "playbooks" / "maintenance-weekly.yml")
    run = ansible(
        "ansible-playbook",
        *("-i", str(tmp_path / "hosts.yml"), "--limit", "shop", playbook),
        cwd=tmp_path,
        reports=tmp_path / "reports",
    )
    assert run.returncode == 2
    assert "within --limit" in run.stdout
