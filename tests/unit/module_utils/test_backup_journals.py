# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals and configuration as sources: what goes into a backup, what is refused, and which secrets stay out."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.configuration import (
    ConfigurationSource,
    reason_to_leave_out,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, Failed, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals import JournalsSource, figures
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay

from .journals import DAY, MINUTE, aggregated, stamp

CANARY = "canary-7f3a"


def fill(root: Path) -> None:
    """Two days that are over, one of them compressed, the growing file of today, and a journal of trading."""
    (root / "metrics").mkdir(parents=True)
    today = int(time.time()) // 86400
    for age in (2, 3):
        lines = b"".join(aggregated((today - age) * DAY + minute * MINUTE, value=minute) for minute in range(30))
        (root / f"metrics/aggregated_metrics.{stamp(today - age)}.ndjson").write_bytes(lines)
    plain = root / f"metrics/aggregated_metrics.{stamp(today - 3)}.ndjson"
    with gzip.open(f"{plain}.gz", "wb") as file:
        file.write(plain.read_bytes())
    plain.unlink()
    (root / "metrics/aggregated_metrics.ndjson").write_bytes(aggregated(today * DAY))
    (root / "fills.ndjson").write_bytes(b'{"fill": 1}\n')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "journals")
    return tmp_path / "journals"


def draft(root: Path) -> Draft:
    with JournalsSource([str(root)]).open() as drafts:
        (only,) = drafts
        return only


def test_the_figures_are_lines_by_day_and_resolution_and_files_of_other_kinds(root: Path) -> None:
    found = draft(root).facts["figures"]
    assert sorted(count for name, count in found.items() if name.endswith(" 1m")) == [30, 30]
    assert found["files of trading"] == 1
    # That of today may still grow: only that it is there.
    assert found["files of metrics"] == 1


def test_what_comes_back_has_the_figures_of_the_backup(root: Path, tmp_path: Path) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    with catalogue.locked("test"):
        manifest, _cost = create(catalogue, [JournalsSource([str(root)])], time.time(), "host")
    target = tmp_path / "target"
    target.mkdir()
    lay(catalogue.store, manifest.parts[0], target)
    facts = manifest.parts[0].facts
    assert figures(target, facts["today"]) == json.loads(json.dumps(facts["figures"]))
    (target / "metrics" / "aggregated_metrics.ndjson").unlink()
    assert figures(target, facts["today"]) != facts["figures"]


def test_a_damaged_journal_is_taken_as_it_is_and_counted(root: Path) -> None:
    (compressed,) = (root / "metrics").glob("*.gz")
    compressed.write_bytes(compressed.read_bytes()[:-9])
    assert draft(root).facts["figures"]["damaged journals"] == 1


def test_two_names_of_one_journal_leave_the_figures_unknown_and_the_reason_known(root: Path) -> None:
    (plain,) = (root / "metrics").glob("*.2*.ndjson")
    os.link(plain, root / "metrics" / "twin_1m.20200101.ndjson")
    facts = draft(root).facts
    assert "figures" not in facts
    assert "same file" in facts["figures_error"]


def test_of_the_clean_up_s_own_files_only_that_against_double_counting_is_taken(root: Path) -> None:
    for name in ("state", "consumed"):
        (root / f".metrics-cleanup.{name}").write_text("")
    (root / "metrics" / ".metrics-cleanup.new.1").write_text("")
    names = {one.path for one in draft(root).candidates if ".metrics-cleanup" in one.path}
    assert names == {".metrics-cleanup.consumed"}


def test_links_are_not_followed_and_are_named(root: Path, tmp_path: Path) -> None:
    (root / "away").symlink_to(tmp_path)
    found = draft(root)
    assert not [one for one in found.candidates if one.path.startswith("away")]
    assert "away" in found.facts["remarks"][0]


def test_an_interrupted_clean_up_is_brought_to_its_end_first(root: Path) -> None:
    (root / ".metrics-cleanup.intent").write_text("{}")
    with pytest.raises(Failed, match="metrics-cleanup brings it to its end"):
        draft(root)


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_directory_that_is_missing_or_empty_is_no_success(tmp_path: Path, kind: str) -> None:
    if kind == "empty":
        (tmp_path / "journals").mkdir()
    with pytest.raises(Failed, match="journal_dir"):
        draft(tmp_path / "journals")


def test_a_running_clean_up_is_waited_for_and_kept_out(root: Path) -> None:
    handle = os.open(root, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(Failed, match="another run has it"), JournalsSource([str(root)], patience=0.1).open():
        pass
    timer = threading.Timer(0.3, lambda: fcntl.flock(handle, fcntl.LOCK_UN))
    timer.start()
    with JournalsSource([str(root)], patience=20).open() as drafts:
        assert drafts[0].candidates
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    timer.join()
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


SECRETS = {
    "token": "x",
    "api.key": "x",
    "base.yaml": "x",
    "web.yml": "basic_auth_users:\n  admin: x\n",
    "scrape.yml": f"basic_auth:\n  username: u\n  password: {CANARY}\n",
    "one.conf": f'Environment="A=1"\nDB_PASSWORD={CANARY}\n',
    "cert.txt": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n",
    "remote.yml": f"url: https://user:{CANARY}@example.org/\n",
    "bearer.yml": f"authorization:\n  credentials: {CANARY}\n",
    "json.json": f'{{\n  "api_key": "{CANARY}"\n}}\n',
}
HARMLESS = {
    "prometheus.yml": "scrape_configs:\n  - basic_auth:\n      password_file: /etc/x\n    authorization:\n",
    "rules.yml": "groups:\n  - name: password changes\n",
    "unit.service": "[Service]\nExecStart=/usr/bin/x --token-file=/etc/x\nLoadCredential=a:/etc/x\n",
}


@pytest.mark.parametrize(("name", "content"), SECRETS.items(), ids=list(SECRETS))
def test_a_file_that_may_hold_a_secret_is_left_out_and_nothing_of_it_is_quoted(name: str, content: str) -> None:
    reason = reason_to_leave_out(f"below/{name}", 0o644, content.encode())
    assert reason
    assert CANARY not in reason


@pytest.mark.parametrize(("name", "content"), HARMLESS.items(), ids=list(HARMLESS))
def test_a_file_that_names_where_a_secret_lies_is_taken(name: str, content: str) -> None:
    assert reason_to_leave_out(name, 0o644, content.encode()) == ""


def test_a_file_that_not_everybody_may_read_is_left_out() -> None:
    assert "read" in reason_to_leave_out("rules.yml", 0o640, b"")


def test_a_planted_secret_is_nowhere_in_the_catalogue_and_the_file_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    for name, content in {**SECRETS, **HARMLESS}.items():
        (directory / name).write_text(content)
    (directory / "private.yml").write_text(CANARY)
    (directory / "private.yml").chmod(0o600)
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    with catalogue.locked("test"):
        manifest, _cost = create(catalogue, [ConfigurationSource([str(directory)])], time.time(), "host")
    assert {file.path for file in manifest.parts[0].files} == set(HARMLESS)
    assert set(manifest.parts[0].facts["left_out"]) == {*SECRETS, "private.yml"}
    for path in (tmp_path / "catalogue").rglob("*"):
        assert CANARY not in path.name
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_single_files_and_directories_are_taken_and_what_is_missing_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.yml").write_text("a: 1\n")
    (tmp_path / "b.yml").write_text("b: 1\n")
    paths = [str(tmp_path / name) for name in ("one", "b.yml", "absent")]
    with ConfigurationSource(paths).open() as drafts:
        assert [(one.root, [file.path for file in one.candidates]) for one in drafts] == [
            (str(tmp_path / "one"), ["a.yml"]),
            (str(tmp_path / "b.yml"), ["b.yml"]),
        ]


def test_where_no_configuration_is_at_all_it_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="configuration_paths"), ConfigurationSource([str(tmp_path / "absent")]).open():
        pass
