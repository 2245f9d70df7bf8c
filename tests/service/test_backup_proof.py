# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup of Prometheus is worth, found out by real programs of both major versions."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import scratch
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import (
    DAMAGED,
    PROVEN,
    VERIFIED,
    WRITTEN,
    State,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import NoRoom
from ansible_collections.njord.telemetry.plugins.module_utils._backup.scratch import Tools

from tests.conftest import COLLECTIONS
from tests.service.backups import NOW, START, Backup, Files, back_up, facts_of, flip, make_blocks, rewrite, tree
from tests.testbench import servers
from tests.testbench.packages import program

BLOCKS = 3


@pytest.fixture(scope="module", params=["2", "3"])
def tools(request: pytest.FixtureRequest) -> Tools:
    return Tools(str(program("prometheus", request.param)), str(program("promtool", request.param)))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_blocks(tmp_path_factory.mktemp("blocks"), BLOCKS)


@pytest.fixture(scope="module")
def facts(blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    return facts_of(blocks, tmp_path_factory.mktemp("server"))


@pytest.fixture
def backup(blocks: Path, facts: dict[str, t.Any], tmp_path: Path) -> Backup:
    return back_up(tmp_path / "catalogue", Files("prometheus", blocks, facts))


def scratch_servers(below: Path) -> dict[int, str]:
    """What runs as one of ours on a directory below this one: its title, by the number of its process."""
    mark = f"--web.page-title=scratch server of {below}/"
    found: dict[int, str] = {}
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            found.update((int(process.name), word) for word in words if word.startswith(mark))
    return found


# What is done to which file of a block, and what must then be said of it: where it was done to the store's object, and
# where it was so before it was stored.
SPOILS: dict[str, tuple[str, t.Callable[[Path], None], str, str]] = {
    "a flipped chunk": ("chunks/000001", flip, "is not what it was", "checksum mismatch"),
    "a truncated chunk": (
        "chunks/000001",
        lambda path: rewrite(path, path.read_bytes()[:-40]),
        "bytes in the store, not",
        "",
    ),
    "a truncated index": ("index", lambda path: rewrite(path, path.read_bytes()[:-40]), "bytes in the store, not", ""),
    "a flipped index": ("index", flip, "is not what it was", ""),
    "an empty meta.json": ("meta.json", lambda path: rewrite(path, b""), "bytes in the store, not", "is no JSON"),
    "a missing meta.json": ("meta.json", Path.unlink, "is missing from the store", "it has no meta.json"),
    "another meta.json": (
        "meta.json",
        lambda path: rewrite(path, path.read_bytes().replace(b'"numSamples": ', b'"numSamples": 1')),
        "bytes in the store, not",
        "its meta.json says samples 1",
    ),
    "a missing index": ("index", Path.unlink, "is missing from the store", "index"),
    "an absent block": (".", shutil.rmtree, "", "it is absent"),
}


def test_a_whole_backup_becomes_verified_and_then_proven(backup: Backup, tools: Tools) -> None:
    before = tree(backup.catalogue.root)
    verified = backup.verify(tools)
    assert verified == State(VERIFIED, verified=NOW)
    assert backup.prove(tools, verified) == State(PROVEN, verified=NOW, proven=NOW)
    assert tree(backup.catalogue.root) == before
    assert not scratch_servers(backup.catalogue.root)


@pytest.mark.parametrize("spoil", [name for name, row in SPOILS.items() if row[2]])
def test_damage_in_the_store_is_found_by_its_hash_and_named(backup: Backup, tools: Tools, spoil: str) -> None:
    name, act, said, _before = SPOILS[spoil]
    path = f"{backup.part.facts['blocks'][1]['ulid']}/{name}"
    act(backup.object(path))
    verified = State(VERIFIED, verified=1.0)
    for state in (backup.verify(tools), backup.verify(tools, verified), backup.prove(tools, verified)):
        assert state.level == DAMAGED
        assert state.reason.startswith(path)
        assert said in state.reason
        assert not state.verified


def test_a_block_that_is_absent_from_the_store_is_found(backup: Backup, tools: Tools) -> None:
    ulid = backup.part.facts["blocks"][1]["ulid"]
    for name in ("chunks/000001", "index", "meta.json"):
        backup.object(f"{ulid}/{name}").unlink()
    state = backup.verify(tools)
    assert state.level == DAMAGED
    assert state.reason.startswith(f"{ulid}/chunks/000001 is missing")
    assert "3 files are damaged" in state.reason


@pytest.mark.parametrize("spoil", list(SPOILS))
def test_damage_from_before_the_backup_is_found_in_its_blocks_and_named(
    blocks: Path, facts: dict[str, t.Any], tools: Tools, tmp_path: Path, spoil: str
) -> None:
    name, act, _stored, said = SPOILS[spoil]
    shutil.copytree(blocks, tmp_path / "data")
    ulid = facts["blocks"][1]["ulid"]
    act(tmp_path / "data" / ulid / name)
    backup = back_up(tmp_path / "catalogue", Files("prometheus", tmp_path / "data", facts))
    state = backup.verify(tools)
    assert state.level == DAMAGED
    assert state.reason.startswith(f"block {ulid}: ")
    assert said in state.reason
    assert not state.verified
    assert backup.prove(tools) == state


def test_a_flipped_bit_in_any_object_is_found(backup: Backup) -> None:
    chance = random.Random(4)
    assert len(backup.part.files) == 4 * BLOCKS
    for file in backup.part.files:
        path = backup.catalogue.store.path(file.sha256)
        whole = path.read_bytes()
        flip(path, chance.randrange(len(whole)), chance.randrange(8))
        state = backup.verify(None)
        assert state.level == DAMAGED, file.path
        # Those of all blocks are the same empty list of what was deleted.
        assert Path(file.path).name in state.reason
        rewrite(path, whole)
    assert backup.verify(None).level == WRITTEN


def test_all_damaged_files_are_counted_and_the_first_is_named(backup: Backup) -> None:
    paths = sorted(file.path for file in backup.part.files if not file.path.endswith("tombstones"))
    for path in paths[2:]:
        flip(backup.object(path))
    reason = backup.verify(None).reason
    assert reason.startswith(paths[2])
    assert f"{len(paths) - 2} files are damaged" in reason


def test_all_damaged_blocks_are_counted(blocks: Path, facts: dict[str, t.Any], tools: Tools, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    first, second, _third = sorted((tmp_path / "data").iterdir())
    flip(first / "chunks" / "000001")
    (second / "meta.json").unlink()
    backup = back_up(tmp_path / "catalogue", Files("prometheus", tmp_path / "data", facts))
    reason = backup.verify(tools).reason
    assert reason.startswith(f"block {first.name}: ")
    assert "2 blocks are damaged" in reason


def test_a_block_that_the_manifest_does_not_have_is_damage(backup: Backup, tools: Tools) -> None:
    extra = backup.part.facts["blocks"][0]["ulid"]
    state = backup.with_facts(blocks=backup.part.facts["blocks"][1:]).verify(tools)
    assert state.level == DAMAGED
    assert f"{extra}: the manifest has no such block" in state.reason


def test_counts_that_differ_are_damage_which_verifying_does_not_mend(backup: Backup, tools: Tools) -> None:
    table = {instant: dict(row) for instant, row in backup.part.facts["counts"].items()}
    instant = max(table, key=int)
    table[instant]["njord_fills"] += 1
    altered = backup.with_facts(counts=table)
    state = altered.prove(tools)
    assert state.level == DAMAGED
    assert state.reason == f"1 counts differ, such as njord_fills at {instant} ms: 4 series then, 3 now"
    assert altered.verify(tools, state).level == DAMAGED
    assert altered.verify(tools, state).reason == state.reason
    assert altered.prove(None, state).level == DAMAGED
    assert backup.prove(tools, state).level == PROVEN


def test_a_chunk_that_cannot_be_read_is_found_by_the_scratch_server_as_well(
    blocks: Path, facts: dict[str, t.Any], tools: Tools, tmp_path: Path
) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    spoilt = facts["blocks"][1]["ulid"]
    chunk = tmp_path / "data" / spoilt / "chunks" / "000001"
    rewrite(chunk, chunk.read_bytes()[:8] + bytes(chunk.stat().st_size - 8))
    backup = back_up(tmp_path / "catalogue", Files("prometheus", tmp_path / "data", facts))
    state = backup.prove(tools, State(VERIFIED, verified=1.0))
    assert state.level == DAMAGED
    assert spoilt in state.reason


def test_an_index_on_which_no_server_starts_is_damage(
    blocks: Path, facts: dict[str, t.Any], tools: Tools, tmp_path: Path
) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    index = tmp_path / "data" / facts["blocks"][1]["ulid"] / "index"
    rewrite(index, index.read_bytes()[:-40])
    backup = back_up(tmp_path / "catalogue", Files("prometheus", tmp_path / "data", facts))
    state = backup.prove(tools, State(VERIFIED, verified=1.0))
    assert state.level == DAMAGED
    assert "does not start on it" in state.reason
    assert "opening storage failed" in state.reason


def test_what_was_proven_stays_proven_when_it_is_verified_again(backup: Backup, tools: Tools) -> None:
    former = State(PROVEN, verified=5.0, proven=6.0)
    assert backup.verify(tools, former) == State(PROVEN, verified=NOW, proven=6.0)
    assert backup.verify(None, former) == State(PROVEN, verified=NOW, proven=6.0)
    flip(backup.object(backup.part.files[0].path))
    assert backup.verify(None, former).level == DAMAGED


def test_without_promtool_blocks_that_nobody_looked_at_are_not_verified(backup: Backup) -> None:
    state = backup.verify(None)
    assert state.level == WRITTEN
    assert "no promtool" in state.reason
    assert backup.prove(None) == state


def test_without_promtool_a_block_that_it_found_damaged_stays_so(backup: Backup) -> None:
    former = State(DAMAGED, reason="block X: checksum mismatch")
    assert backup.verify(None, former) == former


@pytest.mark.parametrize(
    ("facts_now", "said"),
    [
        ({"counts": {}, "counts_error": "Prometheus did not answer"}, "Prometheus did not answer"),
        ({"counts": {}}, "nothing was counted when it was made"),
    ],
)
def test_what_was_not_counted_stays_verified_and_says_why(
    backup: Backup, facts_now: dict[str, t.Any], said: str
) -> None:
    verified = State(VERIFIED, verified=3.0)
    assert backup.with_facts(**facts_now).prove(None, verified) == State(VERIFIED, verified=3.0, reason=said)


def test_a_snapshot_without_blocks_is_never_proven(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    empty = Files("prometheus", tmp_path / "data", {"blocks": [], "counts": {}, "lookback_seconds": 300.0})
    state = back_up(tmp_path / "catalogue", empty).prove(tools)
    assert state == State(VERIFIED, verified=NOW, reason="there is no block in it")


def test_a_full_disk_is_said_with_the_bytes_before_anything_is_written(
    backup: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 100, 10, 10, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    with pytest.raises(NoRoom, match=rf"needs \d+ bytes in .*, and {10 * 4096} are free"):
        backup.prove(Tools("/nowhere", "/nowhere"), State(VERIFIED, verified=1.0))


def test_a_promtool_that_is_killed_says_nothing_about_the_blocks(backup: Backup, tmp_path: Path) -> None:
    promtool = tmp_path / "promtool"
    for script, said in (("kill -9 $$", "ended with -9"), ("echo out of memory >&2; exit 2", "out of memory")):
        promtool.write_text(f"#!/bin/sh\n{script}\n")
        promtool.chmod(0o755)
        with pytest.raises(scratch.Failed, match=said):
            backup.verify(Tools("/nowhere", str(promtool)))
    with pytest.raises(scratch.Failed):
        backup.prove(Tools("/nowhere", "/nowhere"), State(VERIFIED, verified=1.0))


# Journals and configuration


def sizes(directory: Path) -> dict[str, t.Any]:
    return {path.name: path.stat().st_size for path in directory.iterdir()}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "fills.jsonl").write_text('{"fill_id": 1}\n')
    return tmp_path / "lines"


def test_journals_are_proven_by_their_figures(lines: Path, tmp_path: Path) -> None:
    backup = back_up(tmp_path / "catalogue", Files("journals", lines, {"figures": {"fills.jsonl": 15}}))
    verified = backup.verify(None)
    assert verified == State(VERIFIED, verified=NOW)
    assert backup.prove(None, verified, figures=sizes) == State(PROVEN, verified=NOW, proven=NOW)
    other = backup.with_facts(figures={"fills.jsonl": 16}).prove(None, verified, figures=sizes)
    assert other.level == DAMAGED
    assert other.reason == "1 figures differ, such as fills.jsonl: 16 then, 15 now"


def test_where_there_are_no_figures_verified_is_the_top(lines: Path, tmp_path: Path) -> None:
    for source in ("journals", "configuration"):
        backup = back_up(tmp_path / source, Files(source, lines, {}))
        assert backup.prove(None, figures=sizes) == State(VERIFIED, verified=NOW, can_be_proven=False)


def test_journals_that_could_not_be_counted_say_why(lines: Path, tmp_path: Path) -> None:
    backup = back_up(tmp_path / "catalogue", Files("journals", lines, {"figures_error": "a line is cut off"}))
    assert backup.prove(None, figures=sizes) == State(VERIFIED, verified=NOW, reason="a line is cut off")


# The scratch server


def test_a_scratch_server_changes_nothing_and_is_gone_afterwards(blocks: Path, tools: Tools, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    before = tree(tmp_path)
    with scratch.serve(tools, tmp_path / "data", 300.0) as prometheus:
        assert [*scratch_servers(tmp_path).values()] == [f"--web.page-title=scratch server of {tmp_path / 'data'}"]
        assert prometheus.flags()["query.lookback-delta"] == "5m"
        assert prometheus.query("count(njord_fills)", START + 600)[0].value == 3
    assert not scratch_servers(tmp_path)
    assert tree(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_it_is_gone_where_the_body_raises(blocks: Path, tools: Tools, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    with pytest.raises(KeyboardInterrupt), scratch.serve(tools, tmp_path / "data", 300.0):
        raise KeyboardInterrupt
    assert not scratch_servers(tmp_path)
    assert not (tmp_path / "data.server").exists()


def test_it_ends_with_the_process_that_was_killed(blocks: Path, tools: Tools, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    run = tmp_path / "run.py"
    run.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "from ansible_collections.njord.telemetry.plugins.module_utils._backup import scratch\n"
        f"with scratch.serve(scratch.Tools({tools.prometheus!r}, {tools.promtool!r}),"
        f" Path({str(tmp_path / 'data')!r}), 300.0):\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, run], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        servers = scratch_servers(tmp_path)
        assert len(servers) == 1
        server = next(iter(servers))
        process.kill()
    deadline = time.monotonic() + 10
    try:
        while scratch_servers(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        if server in scratch_servers(tmp_path):
            os.kill(server, signal.SIGKILL)


def test_one_that_an_earlier_run_left_is_ended_and_no_other(blocks: Path, tools: Tools, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    shutil.copytree(blocks, tmp_path / "mine" / "data")
    title = f"--web.page-title=scratch server of {tmp_path / 'mine' / 'data'}"
    with servers.prometheus(tmp_path / "other", "3", arguments=[f"{title}.more"]) as other:
        (tmp_path / "mine" / "data.server").mkdir()
        left = servers.prometheus(tmp_path / "mine" / "data.server", "3", arguments=[title])
        with left, scratch.serve(tools, tmp_path / "mine" / "data", 300.0):
            assert left.process.wait(10) == -signal.SIGKILL
            assert sorted(scratch_servers(tmp_path).values()) == [title, f"{title}.more"]
        assert other.process.poll() is None


def test_a_port_that_was_taken_in_between_is_left_to_its_owner(
    blocks: Path, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    (tmp_path / "other").mkdir()
    with servers.prometheus(tmp_path / "other") as other:
        ports = iter([other.port, *(servers.free_port() for _try in range(5))])
        monkeypatch.setattr(scratch, "_free_port", lambda: next(ports))
        with scratch.serve(tools, tmp_path / "data", 300.0) as prometheus:
            assert prometheus.server.url != other.url
            assert prometheus.query("count(njord_fills)", START + 600)[0].value == 3


def test_another_user_serves_what_only_root_can_reach(backup: Backup, tools: Tools) -> None:
    nobody = pwd.getpwnam("nobody")
    backup.catalogue.root.chmod(0o700)
    assert backup.prove(tools, State(VERIFIED, 1.0), run_as=(nobody.pw_uid, nobody.pw_gid)).level == PROVEN


def test_files_that_its_user_may_not_read_are_no_damage(blocks: Path, tools: Tools, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    shutil.copytree(blocks, tmp_path / "data")
    for path in (tmp_path / "data").rglob("index"):
        path.chmod(0o600)
    served = scratch.serve(tools, tmp_path / "data", 300.0, (nobody.pw_uid, nobody.pw_gid))
    with contextlib.ExitStack() as stack, pytest.raises(scratch.Failed, match="permission denied") as caught:
        stack.enter_context(served)
    assert not isinstance(caught.value, scratch.DataRefused)


def test_one_that_does_not_get_ready_is_ended(blocks: Path, tools: Tools, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "data")
    sleeper = tmp_path / "prometheus"
    sleeper.write_text("#!/bin/sh\necho waiting for nothing\nsleep 60 &\nwait\n")
    sleeper.chmod(0o755)
    served = scratch.serve(Tools(str(sleeper), ""), tmp_path / "data", 300.0, timeout=0.3)
    with pytest.raises(scratch.Failed, match=r"not ready after 300 ms: waiting for nothing"), served:
        pass
    assert not scratch_servers(tmp_path)


# The programs


def test_the_running_server_s_own_program_and_promtool_beside_it_are_taken(tmp_path: Path) -> None:
    for name in ("prometheus", "promtool"):
        shutil.copy("/bin/sleep", tmp_path / name)
    with subprocess.Popen([tmp_path / "prometheus", "60"]) as process:
        found = scratch.find_tools(process.pid)
        given = scratch.find_tools(process.pid, promtool="/bin/true")
        process.kill()
    assert found == Tools(str(tmp_path / "prometheus"), str(tmp_path / "promtool"))
    assert given == Tools(str(tmp_path / "prometheus"), "/bin/true")


def test_else_those_in_path_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prometheus", "promtool"):
        shutil.copy("/bin/sleep", tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scratch.find_tools() == Tools(str(tmp_path / "prometheus"), str(tmp_path / "promtool"))


def test_a_missing_program_is_named_with_what_would_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(scratch.NoTool, match="no prometheus in PATH; the Debian package prometheus has it"):
        scratch.find_tools()
    shutil.copy("/bin/sleep", tmp_path / "prometheus")
    with pytest.raises(scratch.NoTool, match="no promtool in PATH"):
        scratch.find_tools()
    with pytest.raises(scratch.NoTool, match="'/nowhere/promtool' is no executable file"):
        scratch.find_tools(promtool="/nowhere/promtool")
