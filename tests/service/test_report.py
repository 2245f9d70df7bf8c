# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a play makes it: real ansible-playbook, local hosts, and one that does not answer."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from tests.conftest import COLLECTIONS
from tests.testbench.packages import program

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
# Nothing listens on port 1.
DEAD = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh", "ansible_ssh_timeout": 3}
FINDING = {
    "check": "disk.free",
    "subject": "/",
    "severity": "warning",
    "summary": "A fifth of / is free.",
    "evidence": {"figures": {"disk_free_bytes": 5}},
    "remedy": "df -h /",
}


@dataclasses.dataclass
class Run:
    """One ansible-playbook that ended; ``result`` is what the task registered."""

    code: int
    output: str
    result: dict[str, t.Any]

    @property
    def checks(self) -> dict[str, str]:
        """Check to severity, of the findings."""
        return {finding["check"]: finding["severity"] for finding in self.result["findings"]}


@dataclasses.dataclass
class Bench:
    """A folder with an inventory, a play, the store and the copies."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def copies(self) -> Path:
        return self.root / "work" / "reports"

    @property
    def textfiles(self) -> Path:
        return self.root / "textfiles"

    def start(
        self,
        *flags: str,
        hosts: t.Sequence[str] = ("one", "two"),
        on: str = "one",
        name: str = "play",
        **options: t.Any,
    ) -> subprocess.Popen[str]:
        known = {"one": LOCAL, "two": LOCAL, "dead": DEAD}
        inventory = {
            "all": {"hosts": {**known, "keeper": LOCAL}},
            "telemetry": {"hosts": dict.fromkeys(hosts)},
        }
        report = {
            "procedure": "maintenance_weekly",
            "results": ["health", "looked"],
            "directory": str(self.store),
            "textfile_directory": str(self.textfiles),
            "started": "2026-01-01T00:00:00Z",
            **options,
        }
        content = "{{ report | to_json }}"
        keep = {"content": content, "dest": str(self.root / f"{name}.json"), "mode": "0600"}
        play = {
            "hosts": "telemetry",
            "gather_facts": False,
            "ignore_unreachable": True,
            "tasks": [
                {"ansible.builtin.stat": {"path": "/"}, "register": "looked"},
                {"ansible.builtin.set_fact": {"health": {"findings": [FINDING]}}, "when": "looked is not unreachable"},
                {
                    "block": [
                        {"njord.telemetry.report": report, "register": "report", "delegate_to": on, "run_once": True}
                    ],
                    "always": [
                        {
                            "ansible.builtin.copy": keep,
                            "delegate_to": "keeper",
                            "run_once": True,
                            "check_mode": False,
                        }
                    ],
                },
            ],
        }
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        (self.root / f"{name}.inventory.yml").write_text(yaml.safe_dump(inventory))
        (self.root / f"{name}.yml").write_text(yaml.safe_dump([play]))
        command = [
            f"{Path(sys.executable).parent}/ansible-playbook",
            "-i",
            f"../{name}.inventory.yml",
            f"../{name}.yml",
        ]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_HOME": str(self.root / "ansible"),
            "ANSIBLE_PIPELINING": "true",
        }
        return subprocess.Popen(
            [*command, *flags],
            cwd=work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], name: str = "play") -> Run:
        output, _no_errors = process.communicate(timeout=120)
        path = self.root / f"{name}.json"
        assert path.exists(), output
        return Run(process.returncode, output, json.loads(path.read_text()))

    def run(self, *flags: str, **options: t.Any) -> Run:
        return self.end(self.start(*flags, **options))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.textfiles.mkdir()
    return bench


def test_a_fleet_with_a_dead_host_gives_one_report_and_fails_last(bench: Bench) -> None:
    run = bench.run(hosts=("one", "two", "dead"))
    assert run.code == 2, run.output
    assert run.result["verdict"] == "critical"
    assert run.result["failed"] is True
    assert run.result["changed"] is True
    # What fails is printed whole: the lines of the summary are there, and not all findings once more.
    assert "findings" not in run.result
    assert f"Report: {run.result['report']}" in run.output
    findings = json.loads(Path(run.result["report"]).with_suffix(".json").read_text())["findings"]
    worst = findings[0]
    assert (worst["host"], worst["check"]) == ("dead", "host.reachable")
    assert "Connection refused" in worst["summary"]
    assert [finding["host"] for finding in findings if finding["check"] == "disk.free"] == ["one", "two"]
    assert run.result["report"] in run.result["msg"]
    assert "dead does not answer" in run.result["msg"]

    for page in (Path(run.result["report"]), Path(run.result["stored"])):
        told = json.loads(page.with_suffix(".json").read_text())
        assert told["schema"] == 1
        assert sorted(told["hosts"]) == ["dead", "one", "two"]
        assert told["verdict"] == "critical"
        assert "A fifth of / is free." in page.read_text()
        assert "A fifth of / is free." in page.with_suffix(".md").read_text()
        assert {suite.attrib["name"] for suite in ET.XML(page.with_suffix(".xml").read_text())} == {
            "one",
            "two",
            "dead",
        }
        assert (page.parent / "latest-maintenance_weekly.html").read_text() == page.read_text()
    assert Path(run.result["report"]).parent == bench.copies
    assert Path(run.result["stored"]).parent == bench.store


def test_the_metrics_are_there_for_the_collector(bench: Bench) -> None:
    bench.run()
    path = bench.textfiles / "njord_maintenance_maintenance_weekly.prom"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    text = path.read_text()
    assert 'njord_maintenance_outcome{procedure="maintenance_weekly",verdict="warning"} 1.0' in text
    promtool = [str(program("promtool")), "check", "metrics"]
    checked = subprocess.run(promtool, input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert [entry.name for entry in bench.textfiles.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("fail_on", "hosts", "code"),
    [
        ("critical", ("one",), 0),
        ("warning", ("one",), 2),
        ("unknown", ("one",), 0),
        ("never", ("one", "dead"), 0),
    ],
)
def test_the_job_fails_by_the_verdict(bench: Bench, fail_on: str, hosts: tuple[str, ...], code: int) -> None:
    run = bench.run(fail_on=fail_on, hosts=hosts)
    assert run.code == code, run.output
    assert Path(run.result["report"]).is_file()


def test_the_next_report_shows_what_became_of_the_figures(bench: Bench) -> None:
    bench.run()
    second = bench.run(findings=[{**FINDING, "host": "one", "severity": "ok"}])
    page = Path(second.result["report"]).read_text()
    assert "Since the earlier reports" in page
    assert "This is the first report" not in page
    assert len((bench.store / "history-maintenance_weekly.jsonl").read_text().splitlines()) == 2


def test_only_so_many_are_kept(bench: Bench) -> None:
    for _report in range(3):
        run = bench.run(keep=2)
    for directory in (bench.store, bench.copies):
        kept = sorted(directory.glob("*Z_maintenance_weekly*.html"))
        assert len(kept) == 2
        assert kept[-1].name == Path(run.result["report"]).name


def test_a_dry_run_returns_its_page_and_writes_nothing(bench: Bench) -> None:
    run = bench.run("--check", "--diff", hosts=("one", "dead"))
    assert run.code == 0, run.output
    assert run.result["verdict"] == "critical"
    assert run.result["changed"] is False
    assert (run.result["report"], run.result["stored"]) == ("", "")
    assert "Dry run." in run.result["page"]
    assert not bench.store.exists()
    assert not bench.copies.exists()
    assert list(bench.textfiles.iterdir()) == []


def test_a_store_that_does_not_answer_is_unknown_and_the_copy_is_made(bench: Bench) -> None:
    run = bench.run(on="dead")
    assert run.code == 0, run.output
    assert run.checks["report.store"] == "unknown"
    assert run.result["stored"] == ""
    page = Path(run.result["report"]).read_text()
    assert "The report cannot be kept on dead" in page
    assert "Connection refused" in page


def test_fail_on_counts_a_store_that_does_not_answer(bench: Bench) -> None:
    assert bench.run(on="dead", fail_on="unknown").code == 2


def test_a_store_that_cannot_be_written_is_unknown_and_the_copy_is_made(bench: Bench) -> None:
    bench.store.mkdir()
    (bench.store / "latest-maintenance_weekly.html").mkdir()
    run = bench.run()
    assert run.code == 0, run.output
    assert run.checks["report.store"] == "unknown"
    assert "cannot write into" in Path(run.result["report"]).read_text()
    assert [path.name for path in bench.store.iterdir()] == ["latest-maintenance_weekly.html"]


def test_a_copy_that_cannot_be_written_is_said_and_the_store_has_the_report(bench: Bench) -> None:
    (bench.root / "file").write_text("")
    run = bench.run(copy_to=str(bench.root / "file" / "reports"))
    assert run.code == 0, run.output
    assert run.checks["report.copy"] == "warning"
    assert run.result["report"] == ""
    assert Path(run.result["stored"]).is_file()
    assert run.result["summary"][-1] == f"Report: {run.result['stored']} on one"


def test_a_report_that_can_be_kept_nowhere_fails_with_all_it_knows(bench: Bench) -> None:
    (bench.root / "file").write_text("")
    run = bench.run(on="dead", copy_to=str(bench.root / "file" / "reports"), fail_on="never")
    assert run.code == 2, run.output
    assert "The report has no copy on the controller" in run.result["msg"]
    assert "The report cannot be kept on dead" in run.result["msg"]
    assert run.checks["disk.free"] == "warning"
    assert "A fifth of / is free." in run.result["page"]


def test_without_a_directory_the_host_keeps_nothing_and_the_controller_has_the_report(bench: Bench) -> None:
    run = bench.run(directory="")
    assert run.code == 0, run.output
    assert "report.store" not in run.checks
    assert Path(run.result["report"]).is_file()
    assert not bench.store.exists()
    assert list(bench.textfiles.iterdir()) == []


def test_without_a_collector_the_report_says_that_there_are_no_metrics(bench: Bench) -> None:
    run = bench.run(textfile_directory=str(bench.root / "none"))
    assert run.code == 0, run.output
    assert run.checks["report.textfile"] == "info"
    assert not (bench.root / "none").exists()


def test_metrics_that_cannot_be_written_are_a_warning(bench: Bench) -> None:
    (bench.textfiles / "njord_maintenance_maintenance_weekly.prom").mkdir()
    run = bench.run()
    assert run.checks["report.textfile"] == "warning"
    assert Path(run.result["stored"]).is_file()


def test_two_reports_at_once_are_both_remembered(bench: Bench) -> None:
    names = ("first", "second")
    processes = [bench.start(name=name) for name in names]
    runs = [bench.end(process, name) for process, name in zip(processes, names, strict=True)]
    assert [run.code for run in runs] == [0, 0]
    assert len({run.result["stored"] for run in runs}) == 2
    assert len({run.result["report"] for run in runs}) == 2
    assert len((bench.store / "history-maintenance_weekly.jsonl").read_text().splitlines()) == 2


def test_an_accepted_finding_does_not_fail_the_job(bench: Bench) -> None:
    accepted = [{"check": "disk.free", "reason": "A new disk comes.", "until": "2999-01-01"}]
    run = bench.run(fail_on="warning", accepted=accepted)
    assert run.code == 0, run.output
    assert run.result["verdict"] == "ok"
    assert run.result["findings"][-1]["accepted"]["reason"] == "A new disk comes."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"procedure": "../x"}, "procedure: '../x' is no importable name"),
        ({"directory": "reports"}, "directory: 'reports' is relative"),
        ({"textfile_directory": ""}, "textfile_directory: '' is no absolute path"),
        ({"keep": 0}, "keep: 0 reports cannot be kept"),
        ({"started": "noon"}, "started: 'noon' is no RFC 3339 time"),
        ({"fail_on": "bad"}, "value of fail_on must be one of"),
        ({"colour": "red"}, "Unsupported parameters"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(bench: Bench, options: dict[str, t.Any], said: str) -> None:
    run = bench.run(**options)
    assert run.code == 2
    assert said in run.result["msg"]
    assert not bench.store.exists()


def test_the_module_run_alone_needs_no_action_to_be_harmless(bench: Bench) -> None:
    """The history is all that it gives without a report."""
    arguments = {"ANSIBLE_MODULE_ARGS": {"procedure": "maintenance_weekly", "directory": str(bench.store)}}
    told = subprocess.run(
        [sys.executable, "-m", "ansible_collections.njord.telemetry.plugins.modules.report"],
        input=json.dumps(arguments),
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(told.stdout)
    assert (result["changed"], result["history"]) == (False, [])
    assert not bench.store.exists()
