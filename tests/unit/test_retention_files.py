# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the role retention: the command in one file, what a host's schedule is, and which old jobs it has."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import typing as t
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = ROOT / "roles" / "retention" / "files"
MODULES = ROOT / "plugins" / "module_utils"
PACKAGE = MODULES / "_journal"
BUILDER = ROOT / "roles" / "service" / "files" / "command.py"
JOB = "0 2 * * * cd /opt/njord_quant && python scripts/metrics_cleanup.py --journal-dir data/journals"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def build(main: Path, directory: Path, root: Path = MODULES) -> dict[str, t.Any]:
    done = run(BUILDER, root, main, directory, "_journal")
    assert done.returncode == 0, done.stderr
    return t.cast("dict[str, t.Any]", json.loads(done.stdout))


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> t.Callable[..., subprocess.CompletedProcess[str]]:
    built = build(FILES / "look.py", tmp_path_factory.mktemp("look"))

    def looked(**settings: t.Any) -> subprocess.CompletedProcess[str]:
        return run(built["path"], json.dumps({"policy": {}, "journal_dirs": [], **settings}))

    return looked


def test_the_same_sources_give_the_same_command_byte_for_byte_and_are_built_once(tmp_path: Path) -> None:
    root = tmp_path / "elsewhere" / "module_utils"
    shutil.copytree(PACKAGE, root / "_journal", ignore=shutil.ignore_patterns("*.pyc"))
    one = build(FILES / "metrics_cleanup.py", tmp_path / "one")
    other = build(FILES / "metrics_cleanup.py", tmp_path / "other", root)
    assert one["built"] and other["built"]
    assert Path(one["path"]).name == Path(other["path"]).name
    assert Path(one["path"]).read_bytes() == Path(other["path"]).read_bytes()
    assert not build(FILES / "metrics_cleanup.py", tmp_path / "one")["built"]
    (root / "_journal" / "policy.py").write_text("")
    assert build(FILES / "metrics_cleanup.py", tmp_path / "other", root)["path"] != other["path"]


def test_the_command_holds_the_package_and_nothing_that_tools_left_and_is_a_program(tmp_path: Path) -> None:
    path = Path(build(FILES / "metrics_cleanup.py", tmp_path)["path"])
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    held = [f"module_utils/_journal/{source.name}" for source in PACKAGE.glob("*.py")]
    assert names == sorted(["__main__.py", "module_utils/__init__.py", *held])
    assert path.read_bytes().startswith(b"#!/usr/bin/python3\n")
    assert "--dry-run" in run("-I", path, "--help").stdout


def test_a_damaged_command_is_built_again(tmp_path: Path) -> None:
    path = Path(build(FILES / "look.py", tmp_path)["path"])
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert build(FILES / "look.py", tmp_path)["built"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("schedule", "calendars"),
    [
        ("0 2 * * *", ["*-*-* 02:00:00 UTC"]),
        ("30 3 1 * mon", ["*-*-01 03:30:00 UTC", "Mon *-*-* 03:30:00 UTC"]),
    ],
)
def test_a_schedule_is_told_as_a_timer_reads_it(look: t.Any, schedule: str, calendars: list[str]) -> None:
    seen = json.loads(look(policy={"cleanup_schedule": schedule}).stdout)
    assert (seen["schedule"], seen["calendars"]) == (schedule, calendars)


def test_what_is_no_policy_is_refused_in_one_sentence_with_what_would_do(look: t.Any) -> None:
    refused = look(policy={"cleanup_schedule": "0 2 * *"})
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "retention_policy: cleanup_schedule: schedule '0 2 * *' has 4 fields: five would do"
    )
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("given", ["root", "config"])
def test_a_host_tells_its_own_policy_and_directories_whatever_its_root_means(
    look: t.Any, tmp_path: Path, given: str
) -> None:
    config = tmp_path / "config"
    config.mkdir()
    base = {
        "logging": {"journal_dir": "./logs"},
        "paths": {"journal_dir": "/data"},
        "retention": {"cleanup_schedule": "5 * * * *"},
    }
    (config / "base.yaml").write_text(json.dumps(base))
    root = str(tmp_path if given == "root" else config)
    seen = json.loads(look(config_root=root).stdout)
    assert seen["schedule"] == "5 * * * *"
    assert seen["journal_dirs"] == [str(tmp_path / "logs"), "/data"]
    assert seen["directory"] == str(config)
    seen = json.loads(look(config_root=root, policy={"cleanup_schedule": "@daily"}, journal_dirs=["/mine"]).stdout)
    assert (seen["schedule"], seen["journal_dirs"]) == ("@daily", ["/mine"])


@pytest.mark.parametrize("given", ["", "config"])
def test_without_base_yaml_the_directories_are_those_of_an_installation(
    look: t.Any, tmp_path: Path, given: str
) -> None:
    seen = json.loads(look(config_root=str(tmp_path / given)).stdout)
    assert seen["journal_dirs"] == [str(tmp_path / "var/log/njord"), str(tmp_path / "data/journal")]
    assert seen["directory"] == str(tmp_path / "config")


def old_jobs(root: Path, *options: str) -> list[str]:
    done = run(FILES / "old_jobs.py", "--root", root, *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["theirs"] == []
    return [text.replace(str(root), "") for text in told["ours"]]


def put(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "place",
    ["etc/crontab", "etc/anacrontab", "etc/cron.d/njord", "var/spool/cron/crontabs/njord", "var/spool/cron/njord"],
)
def test_an_old_job_is_found_in_every_crontab_with_its_line(tmp_path: Path, place: str) -> None:
    put(tmp_path / place, f"MAILTO=x\n{JOB}\n")
    assert old_jobs(tmp_path) == [f"/{place}:2 (scripts/metrics_cleanup.py): the line becomes a comment"]


@pytest.mark.parametrize("period", ["hourly", "daily", "weekly", "monthly"])
def test_an_old_job_is_found_in_a_script_that_cron_runs_and_not_where_it_does_not(tmp_path: Path, period: str) -> None:
    path = put(tmp_path / f"etc/cron.{period}/njord", "#!/bin/sh\nscripts/compress_journals.py\n")
    assert old_jobs(tmp_path) == []
    path.chmod(0o755)
    assert old_jobs(tmp_path) == [
        f"/etc/cron.{period}/njord:2 (scripts/compress_journals.py): the whole script is run no more (chmod a-x)"
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (JOB, True),
        ("@daily root python3 -m scripts.metrics_cleanup", True),
        ("0 2 * * * root sh -c 'metrics_cleanup.py'", True),
        ("0 2 * * * root /opt/x/compress_journals.py>/dev/null", True),
        (f"# {JOB}", False),
        (f"   #{JOB}", False),
        ("0 2 * * * root /usr/local/bin/metrics-cleanup --textfile /x/njord_metrics_cleanup.prom", False),
        ("0 2 * * * root cat /x/metrics_cleanup.prom", False),
        ("0 2 * * * root /opt/x/my_metrics_cleanup.py", False),
        ("0 2 * * * root /opt/x/metrics_cleanup_test.py", False),
    ],
)
def test_a_job_is_what_runs_one_of_the_scripts_and_nothing_of_a_like_name(
    tmp_path: Path, line: str, found: bool
) -> None:
    put(tmp_path / "etc/cron.d/njord", f"{line}\n")
    assert len(old_jobs(tmp_path)) == found


def test_a_stopped_job_is_a_comment_the_rest_is_the_same_and_the_copy_is_no_crontab(tmp_path: Path) -> None:
    text = f"a\n{JOB}\nb \xe4\n{JOB} --verbose\n"
    path = put(tmp_path / "etc/cron.d/njord", "", 0o600)
    path.write_bytes(text.encode("latin-1"))
    assert len(old_jobs(tmp_path, "--stop")) == 2
    lines = path.read_bytes().decode("latin-1").split("\n")
    assert [lines[0], lines[2], lines[4]] == ["a", "b \xe4", ""]
    assert lines[1].startswith("#") and lines[1].endswith(JOB)
    assert lines[3].startswith("#") and lines[3].endswith(f"{JOB} --verbose")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    copy = tmp_path / "var/backups/njord-retention/etc/cron.d/njord"
    assert copy.read_bytes().decode("latin-1") == text
    assert old_jobs(tmp_path) == []


def test_a_crontab_that_is_a_link_is_changed_where_it_lies(tmp_path: Path) -> None:
    real = put(tmp_path / "opt/njord/crontab", f"{JOB}\n")
    (tmp_path / "etc/cron.d").mkdir(parents=True)
    (tmp_path / "etc/cron.d/njord").symlink_to(real)
    assert len(old_jobs(tmp_path, "--stop")) == 1
    assert (tmp_path / "etc/cron.d/njord").is_symlink()
    assert real.read_text().startswith("#")


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "etc/cron.d/njord", f"{JOB}\n")
    before = path.stat()
    assert old_jobs(tmp_path)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "etc", tmp_path / "etc/cron.d", path]
