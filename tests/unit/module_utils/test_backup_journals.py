# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals and configuration as sources: what goes into a backup, what is refused, and which secrets stay out."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import journals as journals_module
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.configuration import (
    ConfigurationSource,
    reason_to_leave_out,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, Failed, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.figures import Journal, read
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals import JournalsSource, figures
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay, names
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Part
from ansible_collections.njord.telemetry.plugins.module_utils._journal.files import File, scan
from ansible_collections.njord.telemetry.plugins.module_utils._journal.files import walk as walk_journals
from ansible_collections.njord.telemetry.plugins.module_utils._journal.state import Known, State, write_state

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


def test_the_figures_are_counts_and_sums_by_day_and_resolution_and_files_of_other_kinds(root: Path) -> None:
    found = draft(root).facts["figures"]
    of_days = [figure for name, figure in found.items() if name.endswith(" 1m")]
    assert [(figure["lines"], figure["count"], figure["sum"]) for figure in of_days] == [(30, 30, "435.0")] * 2
    assert found["files of trading"] == 1
    # That of today may still grow: only that it is there.
    assert found["files of metrics"] == 1


def test_what_comes_back_has_the_figures_of_the_backup(root: Path, tmp_path: Path) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    with catalogue.locked():
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
    with pytest.raises(Failed, match="another run has"), JournalsSource([str(root)], patience=0.1).open():
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


def held_by_another_process(root: Path) -> tuple[int, int]:
    """A process that has the directory as a clean-up has it, until the second number, a pipe, is closed."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(go[1])
        fcntl.flock(os.open(root, os.O_RDONLY), fcntl.LOCK_EX)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    for handle in (*ready, go[0]):
        os.close(handle)
    return child, go[1]


def test_a_clean_up_that_goes_on_for_too_long_is_named(root: Path) -> None:
    child, leash = held_by_another_process(root)
    try:
        with pytest.raises(Failed, match=f"process {child}"), JournalsSource([str(root)], patience=0.1).open():
            pass
    finally:
        os.close(leash)
        os.waitpid(child, 0)
    assert draft(root).candidates


def back_up(root: Path, tmp_path: Path) -> tuple[Catalogue, Part]:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    with catalogue.locked():
        manifest, _cost = create(catalogue, [JournalsSource([str(root)])], time.time(), "host")
    return catalogue, manifest.parts[0]


def laid(root: Path, tmp_path: Path) -> tuple[Path, Part]:
    """A directory with what came back of journals."""
    catalogue, part = back_up(root, tmp_path)
    target = tmp_path / "target"
    target.mkdir()
    lay(catalogue.store, part, target)
    return target, part


def test_what_the_clean_up_remembers_of_a_record_of_another_day_does_not_change_the_figures(
    root: Path, tmp_path: Path
) -> None:
    """A clock that was wrong wrote one record of today into the journal of four days ago."""
    today = int(time.time()) // 86400
    path = root / f"metrics/aggregated_metrics.{stamp(today - 4)}.ndjson"
    path.write_bytes(
        b"".join(aggregated(day * DAY, value=1) for day in (today - 4, today, today - 4)),
    )
    tree, unread = walk_journals(str(root), today, None, lambda _path, _identity, _modified: None)
    known = {
        file.path: (file.identity, file.modified, Known(file.kind, file.oldest, file.newest, scan(file)))
        for file in unread
    }
    assert len(known) == 3
    assert tree.files.keys() > known.keys()
    write_state(str(root), State(known, None))
    target, part = laid(root, tmp_path)
    assert figures(target, part.facts["today"]) == part.facts["figures"]


def test_a_journal_that_is_written_to_while_it_is_counted_leaves_the_figures_unknown(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(file: File) -> Journal:
        found = read(file)
        with Path(file.at).open("ab") as journal:
            journal.write(b"late")
        return found

    monkeypatch.setattr(journals_module, "read", late)
    facts = draft(root).facts
    assert "figures" not in facts
    assert "written to while it was counted" in facts["figures_error"]


def test_what_the_last_backup_counted_is_not_counted_again_and_what_changed_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    found = []
    counted: list[str] = []

    def counting(file: File) -> Journal:
        counted.append(Path(file.at).name)
        return read(file)

    monkeypatch.setattr(journals_module, "read", counting)
    (plain,) = (root / "metrics").glob("*.2*.ndjson")
    for turn in range(3):
        if turn == 2:
            plain.write_bytes(plain.read_bytes() + aggregated(int(time.time()) // 86400 * DAY - 2 * DAY, value=7))
        with catalogue.locked():
            source = JournalsSource([str(root)], catalogue=catalogue)
            manifest, _cost = create(catalogue, [source], time.time() + turn, "host")
        found.append(manifest.parts[0].facts["figures"])
    assert sorted(counted[:2]) == sorted(path.name for path in (root / "metrics").glob("*.2*"))
    assert counted[2:] == [plain.name]
    assert found[0] == found[1]
    assert found[2] == figures(root, manifest.parts[0].facts["today"])
    assert found[2] != found[1]


def test_the_directory_itself_is_known_by_mode_and_owner(root: Path) -> None:
    root.chmod(0o750)
    facts = draft(root).facts
    assert facts["mode"] == 0o750
    assert (facts["owner"], facts["group"]) == names(root.stat())


def test_names_that_are_no_utf8_come_back_and_are_told_of(root: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"fills \xff.ndjson")
    (root / name).write_bytes(b'{"fill": 2}\n')
    (root / os.fsdecode(b"link \xfe")).symlink_to(name)
    target, part = laid(root, tmp_path)
    assert (target / name).read_bytes() == b'{"fill": 2}\n'
    assert figures(target, part.facts["today"]) == part.facts["figures"]
    # Whoever prints it has a stream of UTF-8.
    "".join(part.facts["remarks"]).encode()


def test_two_names_of_one_file_come_back_as_two_files_and_are_stored_once(root: Path, tmp_path: Path) -> None:
    os.link(root / "fills.ndjson", root / "fills.copy")
    before = len(list(back_up(root, tmp_path)[0].store.objects()))
    assert before == len({path.read_bytes() for path in root.rglob("*") if path.is_file()})


def test_journals_that_are_written_and_rotated_all_the_time_are_a_prefix_of_what_was_written(
    root: Path, tmp_path: Path
) -> None:
    ended = threading.Event()
    journal, written = root / "live.ndjson", bytearray()

    def write() -> None:
        number = 0
        while not ended.is_set():
            line = b"%d\n" % number
            with journal.open("ab") as file:
                file.write(line)
            written.extend(line)
            number += 1
            ended.wait(0.0005)
            if not number % 50:
                journal.rename(root / f"live.{number:09}")

    writer = threading.Thread(target=write)
    writer.start()
    made = 0
    try:
        for attempt in range(5):
            (tmp_path / str(attempt)).mkdir()
            # It may say that it could not; what it must not is to have less and call it a backup.
            with contextlib.suppress(Failed):
                target, _part = laid(root, tmp_path / str(attempt))
                found = [path.read_bytes() for path in sorted(target.glob("live.0*"))]
                found += [path.read_bytes() for path in target.glob("live.ndjson")]
                assert bytes(written).startswith(b"".join(found))
                made += 1
    finally:
        ended.set()
        writer.join()
    assert made


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
    with catalogue.locked():
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
