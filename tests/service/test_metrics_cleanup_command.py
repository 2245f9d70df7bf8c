# SPDX-License-Identifier: GPL-3.0-or-later
"""``metrics-cleanup`` as a person and a timer start it, and the module as Ansible does, on the same journals."""

from __future__ import annotations

import concurrent.futures
import fcntl
import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import lease
from prometheus_client.parser import text_string_to_metric_families

from tests.testbench.module import findings, run
from tests.testbench.packages import ROOT
from tests.torture import journals

AS_OF = "2026-01-20T02:00:00Z"


@pytest.fixture
def bench(tmp_path: Path) -> journals.Bench:
    return journals.Bench.make(tmp_path)


def command(*arguments: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-B", "-c", journals.PROGRAM, *arguments],
        env={"PYTHONPATH": str(ROOT / "plugins" / "module_utils"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def arguments(bench: journals.Bench, *more: str) -> list[str]:
    given = [f"--journal-dir={bench.before}", f"--config-root={bench.config}", f"--as-of={AS_OF}"]
    return [*given, "--max-expire-percent=100", *more]


def everything(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_a_dry_run_lists_every_file_with_its_reason_and_writes_nothing(bench: journals.Bench, tmp_path: Path) -> None:
    before = everything(tmp_path)
    done = command(*arguments(bench, "--dry-run", f"--textfile={tmp_path}/cleanup.prom"))
    assert (done.returncode, done.stderr) == (0, "")
    assert everything(tmp_path) == before
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("metrics/aggregated_metrics.20251221")]
    assert row.split()[:5] == [
        "metrics/aggregated_metrics.20251221.ndjson.gz",
        "1m",
        "2025-12-21T00:00:00Z",
        "2025-12-21T21:00:00Z",
        "expire",
    ]
    assert row.endswith("30 days old: the last level ends after 20 days")
    assert "(would be done)" in done.stdout


def test_the_system_s_own_python_does_it_and_tells_prometheus(bench: journals.Bench, tmp_path: Path) -> None:
    textfile = tmp_path / "cleanup.prom"
    done = command(*arguments(bench, f"--textfile={textfile}", "--jobs=2"), python="/usr/bin/python3")
    assert (done.returncode, done.stderr) == (0, "")
    assert bench.lost(bench.before) == 0
    samples = {
        (sample.name.replace("njord_metrics_cleanup_", ""), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(textfile.read_text())
        for sample in family.samples
    }
    assert samples["success",] == 1
    assert samples["interval_seconds",] == 86400
    assert samples["rejected_lines",] == 2
    assert samples["actions", "expire", "done"] == 2
    assert samples["last_success_timestamp_seconds",] == samples["last_run_timestamp_seconds",]
    assert samples["journal_files", "trading"] == 1
    assert textfile.stat().st_mode & 0o777 == 0o644


def test_the_module_tells_prometheus_of_what_it_did_and_of_nothing_in_check_mode(
    bench: journals.Bench, tmp_path: Path
) -> None:
    textfiles = tmp_path / "textfiles"
    given = {
        "journal_dir": [str(bench.before)],
        "config_root": str(bench.config),
        "as_of": AS_OF,
        "max_expire_percent": 100,
        "textfile_directory": str(textfiles),
    }
    textfiles.mkdir()
    run("metrics_cleanup", {**given, "_ansible_check_mode": True})
    assert not list(textfiles.iterdir())
    run("metrics_cleanup", given)
    (path,) = textfiles.iterdir()
    assert path.name == "njord_metrics_cleanup.prom"
    assert "\nnjord_metrics_cleanup_success 1.0\n" in path.read_text()


def test_a_run_that_may_not_expire_so_much_says_so_and_keeps_the_time_of_the_last_success(
    bench: journals.Bench, tmp_path: Path
) -> None:
    textfile = tmp_path / "cleanup.prom"
    textfile.write_text("njord_metrics_cleanup_last_success_timestamp_seconds 42.0\n")
    before = journals.state(bench.before)
    done = command(*arguments(bench, "--max-expire-percent=1", f"--textfile={textfile}"))
    assert done.returncode == 1
    assert "Nothing is touched" in done.stdout and "max_expire_percent=" in done.stdout
    assert "(done)" not in done.stdout
    assert journals.state(bench.before) == before
    assert "njord_metrics_cleanup_last_success_timestamp_seconds 42.0\n" in textfile.read_text()
    assert "njord_metrics_cleanup_success 0.0\n" in textfile.read_text()


def test_a_text_file_that_cannot_be_written_is_said_and_costs_nothing_else(bench: journals.Bench) -> None:
    done = command(*arguments(bench, "--textfile=/nowhere/cleanup.prom"))
    assert done.returncode == 1
    assert "Prometheus is not told of this run, /nowhere/cleanup.prom: No such file or directory" in done.stderr
    assert bench.lost(bench.before) == 0


def test_a_second_run_says_who_holds_the_directory(bench: journals.Bench) -> None:
    handle = os.open(bench.before, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = command(*arguments(bench))
    finally:
        os.close(handle)
    assert done.returncode == 1
    assert f": process {os.getpid()} (" in done.stdout


def test_while_another_procedure_changes_this_host_a_module_says_so_and_the_command_waits(
    bench: journals.Bench,
) -> None:
    before = everything(bench.before)
    with lease():
        answer = run("metrics_cleanup", {"journal_dir": [str(bench.before)]})
        assert answer["failed"]
        assert f"process {os.getpid()} (" in answer["msg"]
        assert everything(bench.before) == before
        # A look is nobody's way.
        assert command(*arguments(bench, "--dry-run")).returncode == 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with lease():
            waiting = pool.submit(command, *arguments(bench))
            time.sleep(3)
            assert everything(bench.before) == before
        done = waiting.result()
    assert done.returncode == 0, done.stderr
    assert f"process {os.getpid()} (" in done.stderr
    assert everything(bench.before) != before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--jobs=0"], "'0' will not do; a number from 1 to 64 would"),
        (["--compress-after=1h"], "'1h' will not do; a number of days such as 7d would"),
        (["--max-expire-percent=101"], "'101' will not do; a number from 0 to 100 would"),
        (["--as-of=yesterday"], "'yesterday' will not do; a time such as 2026-01-31T02:00:00Z would"),
        (["--as-of=2999-01-01"], "--as-of is in the future: only a --dry-run may look there"),
        (["--config-root=/nowhere"], "there is neither /nowhere/base.yaml nor /nowhere/config/base.yaml"),
    ],
)
def test_a_bad_option_is_named_with_what_would_do(given: list[str], said: str) -> None:
    done = command(*given)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_bad_policy_is_named_with_its_key_and_what_would_do(bench: journals.Bench) -> None:
    policy = {"raw_metrics": [{"resolution": "1m", "retention_days": "7"}]}
    (bench.config / "retention.yaml").write_text(json.dumps(policy))
    done = command(*arguments(bench))
    assert done.returncode == 2
    assert f"{bench.config}/retention.yaml: raw_metrics[0].retention_days is '7'" in done.stderr


def test_the_module_does_in_a_run_what_it_said_in_check_mode(bench: journals.Bench, tmp_path: Path) -> None:
    given = {
        "journal_dir": [str(bench.before)],
        "config_root": str(bench.config),
        "as_of": AS_OF,
        "max_expire_percent": 100,
        "plan_file": str(tmp_path / "plan.json"),
    }
    before = journals.state(bench.before)
    checked = run("metrics_cleanup", {**given, "_ansible_check_mode": True})
    assert journals.state(bench.before) == before
    done = run("metrics_cleanup", given)
    assert bench.lost(bench.before) == 0
    assert (checked["changed"], done["changed"]) == (True, True)
    assert [{**row, "state": "done"} for row in checked["plan"]] == done["plan"]
    assert json.loads((tmp_path / "plan.json").read_text()) == done["plan"]
    assert checked["diff"] == done["diff"]
    (told,) = findings(checked, "cleanup.plan")
    assert told["severity"] == "info"
    assert told["summary"].startswith("The next clean-up would ")
    bars = {row["label"]: row["value"] for row in told["evidence"]["chart"]["bars"]}
    assert "roll up 1m" in bars
    assert sum(bars.values()) == sum(row["bytes"] for row in checked["plan"])
    again = run("metrics_cleanup", given)
    assert (again["changed"], again["plan"], again["diff"]) == (False, [], {})


def test_check_mode_tells_of_the_run_before(bench: journals.Bench) -> None:
    given = {
        "journal_dir": [str(bench.before)],
        "config_root": str(bench.config),
        "as_of": AS_OF,
        "max_expire_percent": 100,
        "_ansible_check_mode": True,
    }
    (never,) = findings(run("metrics_cleanup", given), "cleanup.last")
    assert (never["severity"], "No clean-up" in never["summary"]) == ("info", True)
    assert command(*arguments(bench)).returncode == 0
    (last,) = findings(run("metrics_cleanup", given), "cleanup.last")
    assert last["severity"] == "ok"
    assert "expire 2 files" in last["summary"] and "undone" not in last["summary"]
    state = bench.before / ".metrics-cleanup.state"
    document = json.loads(state.read_text())
    document["last"] = [document["last"][0] - 2 * 86400, {}, 3]
    state.write_text(json.dumps(document))
    (late,) = findings(run("metrics_cleanup", given), "cleanup.last")
    assert (late["severity"], "left 3 undone" in late["summary"]) == ("warning", True)


def test_a_shorter_policy_is_tried_in_check_mode_and_without_a_configuration_nothing_is_known(
    bench: journals.Bench,
) -> None:
    retention = {"raw_metrics": [{"resolution": "1h", "retention_days": 1}]}
    given = {"journal_dir": [str(bench.before)], "config_root": str(bench.config), "as_of": AS_OF}
    answer = run("metrics_cleanup", {**given, "retention": retention, "_ansible_check_mode": True})
    assert {row["action"] for row in answer["plan"]} == {"drop", "expire", "rotate"}
    assert findings(answer, "journal.expiry")[0]["severity"] == "critical"
    answer = run("metrics_cleanup", {"config_root": str(bench.config)})
    assert [finding["severity"] for finding in findings(answer, "journal.configuration")] == ["unknown"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"journal_dir": ["var/log"]}, "journal_dir: 'var/log' is relative"),
        ({"retention": {"raw": []}}, "option retention: retention has an unknown key raw"),
        ({"compress_after": "36h"}, "compress_after: '36h' is no number of whole days; 7d would do"),
        ({"min_free": "much"}, "min_free: 'much' is no size"),
        ({"max_expire_percent": -1}, "max_expire_percent: -1 does not lie between 0 and 100"),
        ({"jobs": 0}, "jobs: 0 does not lie between 1 and 64"),
        ({"as_of": "soon"}, "as_of: 'soon' is no time"),
        ({"as_of": "2999-01-01"}, "as_of: 2999-01-01 is in the future, where only check mode may look"),
        ({"plan_file": "plan.json"}, "plan_file: 'plan.json' is relative"),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it(arguments: dict[str, t.Any], said: str, tmp_path: Path) -> None:
    answer = run("metrics_cleanup", {"config_root": str(tmp_path), **arguments})
    assert answer["failed"]
    assert said in answer["msg"]
