# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back on real servers: what is restored, what stays as it was, and what becomes of it when it is disturbed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _storage
from ansible_collections.njord.telemetry.plugins.module_utils._backup import counts, proof, restore, scratch
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import VERIFIED, WRITTEN
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged
from ansible_collections.njord.telemetry.plugins.module_utils._backup.record import NotRestored
from ansible_collections.njord.telemetry.plugins.module_utils._backup.restore import Outcome, Place, restore_to
from ansible_collections.njord.telemetry.plugins.module_utils._backup.restore_plan import (
    MODES,
    REPAIR,
    SWAP,
    Plan,
    plan,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.scratch import Tools
from ansible_collections.njord.telemetry.plugins.module_utils._backup.service import NotDone, Systemd, holder, is_block
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.service.backups import Backup, Files, back_up, facts_of, flip, make_blocks, tree
from tests.testbench.disk import small_disk
from tests.testbench.packages import program
from tests.testbench.servers import free_port
from tests.torture import restores

FOREVER = "--storage.tsdb.retention.time=100y"
# Else it merges blocks whenever it likes.
UNMERGED = ("--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h")
# Samples that are in no block, from the first moment on: what is scraped begins five seconds later.
CONFIG = "scrape_configs: []\nrule_files: [rules.yml]\n"
RULES = "groups: [{name: it, interval: 200ms, rules: [{record: in_memory, expr: vector(1)}]}]\n"
COMMON = {"retention": "100y", "owner": "root", "group": "root", "mode": 0o755, "samples": 1}
NOBODY = (pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)


class Unit:
    """A server as a unit runs it: what was started need not be ready, nor stay.

    :param starts: what the next starts do instead.
    """

    def __init__(self, home: Path, version: str, arguments: t.Sequence[str] = (), run_as: t.Sequence[str] = ()) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.data = home / "data"
        self.port = free_port()
        self.calls: list[str] = []
        self.starts: list[t.Callable[[], t.Sequence[str]]] = []
        self.at_stop: t.Callable[[], object] = lambda: None
        self.stopped: dict[str, tuple[str, int, int]] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.made: list[subprocess.Popen[bytes]] = []
        (home / "prometheus.yml").write_text(CONFIG)
        (home / "rules.yml").write_text(RULES)
        self.command = [
            *run_as,
            str(program("prometheus", version)),
            *("--config.file=prometheus.yml", "--storage.tsdb.path=data", FOREVER, *UNMERGED),
            f"--web.listen-address=127.0.0.1:{self.port}",
            *arguments,
        ]

    @property
    def prometheus(self) -> Prometheus:
        return Prometheus(Server(f"http://127.0.0.1:{self.port}"))

    def is_running(self) -> bool:
        return self.process is not None and not _has_ended(self.process.pid)

    def stop(self) -> None:
        self.calls.append("stop")
        if self.process is not None and self.is_running():
            # A child of ours cannot wait for it, nor ask Popen.
            os.kill(self.process.pid, signal.SIGTERM)
            deadline = time.monotonic() + 20
            while self.is_running():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        self.stopped = tree(self.data) if self.data.is_dir() else {}
        self.at_stop()

    def start(self) -> None:
        self.calls.append("start")
        command = self.starts.pop(0)() if self.starts else self.command
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.home
            )
        self.made.append(self.process)

    def ended(self) -> str:
        if self.is_running():
            return ""
        return f"it ended: {(self.home / 'log').read_text(errors='replace').splitlines()[-1]}"

    def ready(self) -> Unit:
        """Starts it, and returns once it has a sample in memory."""
        self.start()
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(HttpError):
                if self.prometheus.query("in_memory"):
                    break
            assert time.monotonic() < deadline, self.ended()
            time.sleep(0.02)
        self.calls.clear()
        return self

    def beside(self) -> list[str]:
        """What lies beside the data that a unit does not need."""
        return sorted({path.name for path in self.home.iterdir()} - {"data", "log", "prometheus.yml", "rules.yml"})


def _has_ended(pid: int) -> bool:
    """Whether there is no such process, or only what is left for its parent: none of its threads."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and int(fields[16]) <= 1


@dataclasses.dataclass(frozen=True)
class Bench:
    """Four blocks, of which a backup has three.

    :param blocks: by their time.
    """

    backup: Backup
    blocks: tuple[Path, ...]

    @property
    def ulids(self) -> list[str]:
        return [block.name for block in self.blocks]

    def fill(self, unit: Unit, blocks: t.Sequence[int] = (0, 1, 2, 3)) -> Unit:
        unit.data.mkdir(exist_ok=True)
        for number in blocks:
            shutil.copytree(self.blocks[number], unit.data / self.blocks[number].name)
        return unit


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = make_blocks(tmp_path_factory.mktemp("blocks"), 4)
    blocks = tuple(root / block.ulid for block in _storage.read(root).blocks)
    three = tmp_path_factory.mktemp("three") / "data"
    for block in blocks[:3]:
        shutil.copytree(block, three / block.name)
    facts = {**facts_of(three, tmp_path_factory.mktemp("server")), **COMMON}
    return Bench(back_up(tmp_path_factory.mktemp("catalogue") / "it", Files("prometheus", three, facts)), blocks)


@pytest.fixture
def units(tmp_path: Path) -> t.Iterator[t.Callable[..., Unit]]:
    made: list[Unit] = []

    def make(version: str = "3", name: str = "host", **more: t.Any) -> Unit:
        made.append(Unit(tmp_path / name, version, **more))
        return made[-1]

    yield make
    for unit in made:
        unit.at_stop = lambda: None
        unit.stop()
        for process in unit.made:
            process.wait(20)


@contextlib.contextmanager
def at_its_end(unit: Unit) -> t.Iterator[Unit]:
    """Whatever comes, its disk can be taken away then."""
    try:
        yield unit
    finally:
        unit.at_stop = lambda: None
        unit.stop()


def place(unit: Unit, version: str = "3", ready_seconds: float = 20.0) -> Place:
    tools = Tools(str(program("prometheus", version)), str(program("promtool", version)))
    return Place(unit.data, unit.prometheus, unit, tools, ready_seconds)


def planned(backup: Backup, where: Place, mode: str = SWAP, level: str = VERIFIED) -> Plan:
    live = restore.look(where, "prometheus.service", lambda _unit: f"ExecStart=prometheus {FOREVER}")
    return plan(backup.part, level, live, mode, time.time())


def apply(backup: Backup, where: Place, mode: str = SWAP, level: str = VERIFIED) -> Outcome:
    return restore.apply(where, backup.catalogue.store, backup.part, planned(backup, where, mode, level))


def counted(unit: Unit, backup: Backup) -> counts.Counts:
    return counts.count(unit.prometheus, map(int, backup.part.facts["counts"]))


def only_in_memory(unit: Unit) -> tuple[float, float]:
    """The moment of a sample, and how many of the minute before it are in no block."""
    moment = unit.prometheus.query("timestamp(in_memory)")[0].value
    return moment, _samples(unit, moment)


def _samples(unit: Unit, moment: float) -> float:
    return sum(sample.value for sample in unit.prometheus.query("count_over_time(in_memory[1m])", moment))


@contextlib.contextmanager
def untouched(
    unit: Unit, backup: Backup, calls: t.Sequence[str], others_write: t.Sequence[str] = ()
) -> t.Iterator[None]:
    """Afterwards the old data are in place, the old server answers as before, and nothing lies beside.

    :param others_write: what a second server changes.
    """
    # Of a block that is only begun nobody speaks.
    before = {path for path in tree(unit.data) if is_block(path.split("/")[0])}
    answers, inode = counted(unit, backup), unit.data.stat().st_ino
    moment, samples = only_in_memory(unit)
    yield
    assert unit.calls == list(calls)
    assert unit.data.stat().st_ino == inode
    assert unit.beside() == []
    if calls:
        # Nobody was at work between the stop and the start; what was in the log is in memory again.
        changed = {path for path, row in unit.stopped.items() if tree(unit.data).get(path, row) != row}
        assert {path.split("/")[0] for path in changed} <= {"queries.active", "lock", "chunks_head", *others_write}
    assert before <= set(tree(unit.data))
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(HttpError):
            unit.prometheus.ready()
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert counted(unit, backup) == answers
    assert _samples(unit, moment) == samples


# What is lost comes back


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_data_directory_that_was_wiped_comes_back_with_equal_counts(
    bench: Bench, units: t.Callable[..., Unit], version: str
) -> None:
    unit = bench.fill(units(version)).ready()
    unit.stop()
    shutil.rmtree(unit.data)
    done = apply(bench.backup, place(unit, version))
    assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
    assert (done.kept, done.left_out, done.compared) == ("", "", len(bench.backup.part.facts["counts"]))
    assert 0 < done.blind < 20
    assert unit.beside() == []


def test_what_was_wiped_out_of_the_directory_comes_back_as_its_user_left_it(
    bench: Bench, units: t.Callable[..., Unit]
) -> None:
    unit = units()
    # Made anew by somebody else, and empty: then it is as it was at the backup.
    unit.data.mkdir(mode=0o700)
    backup = bench.backup.with_facts(owner="nobody", group=str(NOBODY[1]), mode=0o750)
    done = apply(backup, place(unit))
    assert done.kept == ""
    assert {(path.stat().st_uid, path.stat().st_gid) for block in bench.ulids[:3] for path in [unit.data / block]} == {
        NOBODY
    }
    assert unit.data.stat().st_mode & 0o7777 == 0o750
    assert unit.beside() == []


def test_the_directory_above_may_be_gone_as_well(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit = units()
    where = place(unit)
    unit.command[2] = "--storage.tsdb.path=deep/er/data"
    unit.data = unit.home / "deep" / "er" / "data"
    where = dataclasses.replace(where, directory=unit.data)
    apply(bench.backup, where)
    assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_damaged_block_is_replaced_and_everything_newer_comes_along(
    bench: Bench, units: t.Callable[..., Unit], version: str
) -> None:
    unit = bench.fill(units(version)).ready()
    bad, newer = bench.ulids[1], bench.ulids[3]
    flip(unit.data / bad / "chunks" / "000001")
    moment, samples = only_in_memory(unit)
    where = place(unit, version)
    assert list(restore.look(where, "none", lambda _unit: "").damaged) == [bad]
    done = apply(bench.backup, where)
    assert unit.calls == ["stop", "start"]
    assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
    assert (unit.data / newer / "index").samefile(Path(done.kept) / newer / "index")
    assert unit.prometheus.query("count(njord_fills)", _end_of(bench, 3))[0].value == 3
    assert _samples(unit, moment) == samples
    assert done.left_out == ""
    # What is kept is, byte for byte, what the server left.
    assert tree(Path(done.kept)) == unit.stopped
    assert unit.beside() == [Path(done.kept).name]


def _end_of(bench: Bench, number: int) -> float:
    (block,) = (one for one in _storage.read(bench.blocks[0].parent).blocks if one.ulid == bench.ulids[number])
    return block.max_time - 1


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_server_that_looks_back_less_than_then_is_asked_as_then(
    bench: Bench, units: t.Callable[..., Unit], version: str
) -> None:
    unit = bench.fill(units(version, arguments=["--query.lookback-delta=1s"]), blocks=(0, 1)).ready()
    done = apply(bench.backup, place(unit, version))
    assert done.compared == len(bench.backup.part.facts["counts"])
    assert counted(unit, bench.backup) != bench.backup.part.facts["counts"]


@pytest.mark.parametrize(
    ("which", "more", "is_taken"),
    [(max, -1, True), (max, 0, True), (max, 1, False), (min, 0, True), (min, -1, False), (min, 1, False)],
)
def test_where_a_live_block_has_the_same_time_there_may_be_more_than_in_the_backup_and_not_less(
    bench: Bench, units: t.Callable[..., Unit], which: t.Callable[..., str], more: int, is_taken: bool
) -> None:
    unit = bench.fill(units()).ready()
    table = {moment: dict(row) for moment, row in bench.backup.part.facts["counts"].items()}
    table[which(table, key=int)]["njord_fills"] += more
    part = bench.backup.with_facts(counts=table).part
    # The last live block begins before the backup ends: its snapshot cut the block that was being filled.
    held = _storage.read(unit.data)
    wide = dataclasses.replace(held.blocks[3], min_time=held.blocks[3].min_time - 600)
    held = dataclasses.replace(held, blocks=[*held.blocks[:3], wide])
    where = place(unit)
    made = planned(bench.backup, where)
    if is_taken:
        assert restore._compare(where, part, made, held) == len(table)
    else:
        with pytest.raises(NotRestored, match="1 counts differ, such as njord_fills"):
            restore._compare(where, part, made, held)


def test_a_block_that_the_server_wrote_after_the_plan_comes_along(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    where = place(unit)
    made = planned(bench.backup, where)
    bench.fill(unit, blocks=(3,))
    restore.apply(where, bench.backup.catalogue.store, bench.backup.part, made)
    assert unit.prometheus.query("count(njord_fills)", _end_of(bench, 3))[0].value == 3


def test_a_damaged_block_that_was_written_after_the_plan_wants_another_plan(
    bench: Bench, units: t.Callable[..., Unit]
) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    where = place(unit)
    made = planned(bench.backup, where)
    bench.fill(unit, blocks=(3,))
    flip(unit.data / bench.ulids[3] / "chunks" / "000001")
    with pytest.raises(NotRestored, match=rf"Block {bench.ulids[3]} was written since the plan was made"):
        restore.apply(where, bench.backup.catalogue.store, bench.backup.part, made)
    assert unit.calls == ["stop", "start"]
    assert unit.beside() == []


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_repair_moves_bad_blocks_aside_brings_them_and_touches_no_other(
    bench: Bench, units: t.Callable[..., Unit], version: str
) -> None:
    unit = bench.fill(units(version)).ready()
    flip(unit.data / bench.ulids[0] / "chunks" / "000001")
    (unit.data / bench.ulids[1] / "meta.json").unlink()
    inodes = {path: path.stat().st_ino for ulid in bench.ulids[2:] for path in (unit.data / ulid).rglob("*")}
    moment, samples = only_in_memory(unit)
    done = apply(bench.backup, place(unit, version), REPAIR)
    assert Path(done.kept).parent == unit.home
    assert sorted(path.name for path in Path(done.kept).iterdir()) == sorted(bench.ulids[:2])
    assert {path: path.stat().st_ino for path in inodes} == inodes
    assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
    assert _samples(unit, moment) == samples
    assert done.compared > 0
    assert unit.beside() == [Path(done.kept).name]


def test_a_repair_with_nothing_to_do_does_not_stop_the_server(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit = bench.fill(units()).ready()
    assert planned(bench.backup, place(unit), REPAIR).steps == ()
    assert apply(bench.backup, place(unit), REPAIR) == Outcome("", 0.0, 0, "")
    assert unit.calls == []


def test_a_mount_point_is_repaired_within_itself_and_not_swapped(
    bench: Bench, units: t.Callable[..., Unit], tmp_path: Path
) -> None:
    unit = units()
    with small_disk(unit.data, "size=64m,mode=755"), at_its_end(unit):
        bench.fill(unit).ready()
        flip(unit.data / bench.ulids[0] / "chunks" / "000001")
        where = place(unit)
        with pytest.raises(NotRestored, match="is a mount point"):
            apply(bench.backup, where)
        done = apply(bench.backup, where, REPAIR)
        assert Path(done.kept).parent == unit.data
        assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
        assert not (unit.data / ".restoring").exists()


@pytest.mark.parametrize(("later", "damaged"), [((0, 1), ["it is absent"]), ((0,), [])])
def test_a_block_that_the_server_merges_while_one_looks_is_not_damaged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, later: t.Sequence[int], damaged: t.Sequence[str]
) -> None:
    held = _storage.read(bench.blocks[0].parent).blocks
    seen = iter([(0, 1), *[later] * 9])

    def read(_directory: Path) -> _storage.Storage:
        return _storage.Storage([held[number] for number in next(seen)], [], 0, 0.0)

    monkeypatch.setattr(_storage, "read", read)
    monkeypatch.setattr(proof, "check_blocks", lambda *_arguments: {bench.ulids[1]: "it is absent"})
    assert list(restore._checked(Tools("", ""), bench.blocks[0].parent)[1].values()) == damaged


def test_what_changes_faster_than_it_can_be_read_is_not_judged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (block, *_others) = _storage.read(bench.blocks[0].parent).blocks
    numbers = iter(range(99))

    def read(_directory: Path) -> _storage.Storage:
        return _storage.Storage([dataclasses.replace(block, ulid=f"{next(numbers):026d}")], [], 0, 0.0)

    monkeypatch.setattr(_storage, "read", read)
    monkeypatch.setattr(proof, "check_blocks", lambda *_arguments: {})
    with pytest.raises(scratch.Failed, match="changes all the time"):
        restore._checked(Tools("", ""), bench.blocks[0].parent)


# What the server does not take


def raising() -> t.Sequence[str]:
    raise NotDone("the unit is masked")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("start", "said"),
    [
        (raising, "the unit is masked"),
        (lambda: ["/bin/sh", "-c", "echo the port is taken; exit 1"], "the port is taken"),
        (lambda: ["/bin/sleep", "60"], "not ready after 300 ms"),
    ],
    ids=["it cannot be started", "it ends", "it never gets ready"],
)
def test_what_no_server_starts_on_goes_back(
    bench: Bench, units: t.Callable[..., Unit], mode: str, start: t.Callable[[], t.Sequence[str]], said: str
) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    where = place(unit, ready_seconds=0.3)
    is_down = start is raising or mode == REPAIR
    # Without its write-ahead log it is tried once more.
    unit.starts = [start] if is_down else [start, start]
    calls = ["stop", "start", "stop", "start"] if is_down else ["stop", "start", "stop", "start", "stop", "start"]
    with untouched(unit, bench.backup, calls), pytest.raises(NotRestored, match=f"everything is as it was.*{said}"):
        apply(bench.backup, where, mode)


@pytest.mark.parametrize("mode", MODES)
def test_other_counts_than_those_of_the_backup_go_back(
    bench: Bench, units: t.Callable[..., Unit], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    real = counts.count

    def fewer(prometheus: Prometheus, times: t.Iterable[int], lookback: float = 0.0) -> counts.Counts:
        found = real(prometheus, times, lookback)
        if prometheus.server.url.endswith(f":{unit.port}"):
            found[max(found, key=int)]["njord_fills"] -= 1
        return found

    with untouched(unit, bench.backup, ["stop", "start", "stop", "start"]):
        monkeypatch.setattr(counts, "count", fewer)
        with pytest.raises(NotRestored, match=r"everything is as it was: 1 counts differ, such as njord_fills at"):
            apply(bench.backup, place(unit), mode)
        monkeypatch.undo()


def test_a_server_that_keeps_less_than_its_unit_says_goes_back(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    shorter = [word if word != FOREVER else "--storage.tsdb.retention.time=2h" for word in unit.command]
    unit.starts = [lambda: shorter]
    said = "keeps 2 h, the backup was made under 36500 d: 3 of 3 blocks"
    calls = ["stop", "start", "stop", "start"]
    with untouched(unit, bench.backup, calls), pytest.raises(NotRestored, match=said):
        apply(bench.backup, place(unit))


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_write_ahead_log_that_no_server_takes_stays_behind(
    bench: Bench, units: t.Callable[..., Unit], version: str
) -> None:
    unit = bench.fill(units(version), blocks=(0, 1)).ready()
    # There is none between this one and those before it.
    (unit.data / "wal" / "00000009").write_bytes(bytes(100))
    done = apply(bench.backup, place(unit, version))
    assert "sequential" in done.left_out
    assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
    assert tree(Path(done.kept))["wal/00000009"]
    assert unit.beside() == [Path(done.kept).name]
    assert not (unit.data / "wal" / "00000009").exists()


def test_another_server_that_answers_in_its_place_is_noticed(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit, other = bench.fill(units(), blocks=(0, 1)).ready(), units(name="other").ready()
    where = dataclasses.replace(place(unit), prometheus=other.prometheus)
    with untouched(unit, bench.backup, ["stop", "start"]), pytest.raises(NotRestored, match="still answers"):
        apply(bench.backup, where)


# What is refused before anything is touched


def test_a_damaged_object_of_the_backup_is_named_and_the_server_goes_on(
    bench: Bench, units: t.Callable[..., Unit], tmp_path: Path
) -> None:
    root = tmp_path / "catalogue"
    shutil.copytree(bench.backup.catalogue.root, root)
    backup = Backup(type(bench.backup.catalogue)(str(root)), bench.backup.part)
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    path = f"{bench.ulids[1]}/chunks/000001"
    flip(backup.object(path))
    with untouched(unit, backup, []), pytest.raises(Damaged, match=f"{path} is not what it was"):
        apply(backup, place(unit))


def test_a_block_that_was_damaged_before_it_was_stored_is_named_where_nobody_had_looked(
    bench: Bench, units: t.Callable[..., Unit], tmp_path: Path
) -> None:
    shutil.copytree(bench.blocks[0], tmp_path / "data" / bench.ulids[0])
    # Where no count looks.
    flip(tmp_path / "data" / bench.ulids[0] / "chunks" / "000001", at=400)
    facts = {**bench.backup.part.facts, "blocks": bench.backup.part.facts["blocks"][:1], "counts": {}}
    backup = back_up(tmp_path / "catalogue", Files("prometheus", tmp_path / "data", facts))
    unit = bench.fill(units(), blocks=(1,)).ready()
    with untouched(unit, backup, []), pytest.raises(Damaged, match=f"block {bench.ulids[0]}: .*checksum"):
        apply(backup, place(unit), level=WRITTEN)
    with pytest.raises(Damaged, match=f"block {bench.ulids[0]}: .*checksum"):
        restore_to(backup.catalogue.store, backup.part, tmp_path / "target", place(unit).tools)
    assert not (tmp_path / "target").exists()


def test_blocks_that_do_not_give_the_counts_of_the_backup_are_not_placed(
    bench: Bench, units: t.Callable[..., Unit]
) -> None:
    table = {moment: dict(row) for moment, row in bench.backup.part.facts["counts"].items()}
    table[max(table, key=int)]["njord_fills"] += 1
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    with untouched(unit, bench.backup, []), pytest.raises(
        NotRestored, match="not those of the backup: 1 counts differ"
    ):
        apply(bench.backup.with_facts(counts=table), place(unit))


def test_a_second_server_on_the_directory_is_named_and_nothing_is_moved(
    bench: Bench, units: t.Callable[..., Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "LINGER_SECONDS", 0.2)
    # Debian's 2.53 locks nothing.
    unit = bench.fill(units("2"), blocks=(0, 1)).ready()
    second = units("2", name="second")
    second.data.symlink_to(unit.data)
    second.ready()
    with untouched(unit, bench.backup, ["stop", "start"], others_write=["wal"]):
        assert second.process is not None
        with pytest.raises(NotRestored, match=rf"in use by process {second.process.pid} \(prometheus\)"):
            apply(bench.backup, place(unit, "2"))
        second.stop()


def test_whoever_has_it_open_under_another_name_is_found_and_readers_of_blocks_are_not(
    bench: Bench, units: t.Callable[..., Unit], tmp_path: Path
) -> None:
    unit = bench.fill(units(), blocks=(0,)).ready()
    unit.stop()
    assert holder(unit.data) == ""
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", unit.data, other], check=True)
    try:
        for path, is_found in ((other / bench.ulids[0] / "index", False), (other / "wal" / "00000000", True)):
            with path.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as reader:
                found = holder(unit.data)
                reader.kill()
            # We have it open as well, under the same name.
            assert bool(found) == is_found, path
    finally:
        subprocess.run(["umount", other], check=True)
    assert holder(unit.data) == ""
    with (unit.data / "wal" / "00000000").open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as reader:
        shutil.rmtree(unit.data)
        assert holder(unit.data) != ""
        reader.kill()


def test_what_stands_in_the_way_and_is_not_ours_is_named(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    beside = unit.home / "data.restoring"
    beside.mkdir()
    (beside / "precious").write_text("by hand")
    with pytest.raises(NotRestored, match=f"{beside} is there, and no restore has left it"):
        apply(bench.backup, place(unit))
    assert (beside / "precious").read_text() == "by hand"
    assert unit.calls == []


def test_a_server_that_could_not_be_asked_afterwards_is_not_stopped(
    bench: Bench, units: t.Callable[..., Unit], tmp_path: Path
) -> None:
    web = tmp_path / "web.yml"
    # Of "password".
    web.write_text("basic_auth_users: {it: $2y$05$4mYvOA/8lHLYzuFJuBjOIeCBYB6WUCBY5UmIQ4MuoEXSJiGDKHrJ.}\n")
    unit = bench.fill(units(arguments=[f"--web.config.file={web}"]), blocks=(0, 1))
    unit.start()
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(HttpError):
            unit.prometheus.ready()
        try:
            unit.prometheus.ready()
        except HttpError as error:
            if error.status == 401:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    unit.calls.clear()
    with pytest.raises(NotRestored, match="could not be compared"):
        apply(bench.backup, place(unit))
    assert unit.calls == []


def test_two_restores_of_one_directory_do_not_meet(bench: Bench, units: t.Callable[..., Unit]) -> None:
    unit = bench.fill(units(), blocks=(0, 1)).ready()
    seen: list[str] = []

    def meanwhile() -> None:
        with pytest.raises(NotRestored) as caught:
            restore.recover(unit.data, unit)
        seen.append(str(caught.value))

    unit.at_stop = meanwhile
    apply(bench.backup, place(unit))
    assert len(seen) == 1
    assert "another run has" in seen[0]


# Owners and locks


def test_everything_belongs_to_the_user_of_the_old_data(bench: Bench, units: t.Callable[..., Unit]) -> None:
    drop = ("setpriv", f"--reuid={NOBODY[0]}", f"--regid={NOBODY[1]}", "--clear-groups")
    unit = bench.fill(units("2", run_as=drop), blocks=(0, 3))
    unit.data.chmod(0o750)
    for path in (unit.data, *unit.data.rglob("*")):
        os.chown(path, *NOBODY)
    unit.ready()
    done = apply(bench.backup, place(unit, "2"))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (unit.data, *unit.data.rglob("*"))} == {NOBODY}
    assert unit.data.stat().st_mode & 0o7777 == 0o750
    assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
    assert done.left_out == ""


def test_a_lock_that_a_server_left_behind_is_none(bench: Bench, units: t.Callable[..., Unit]) -> None:
    for mode in MODES:
        unit = bench.fill(units(name=mode), blocks=(0, 1))
        (unit.data / "lock").touch()
        apply(bench.backup, place(unit), mode)
        assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]


# A disk that is full


def filled(disk: Path, left: int) -> None:
    status = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(status.f_bavail * status.f_frsize - left, 0)))


@pytest.mark.parametrize("step", ["the blocks", "the write-ahead log"])
def test_a_disk_without_room_leaves_everything_as_it_was(
    bench: Bench, units: t.Callable[..., Unit], tmp_path: Path, step: str
) -> None:
    with small_disk(tmp_path / "disk", "size=64m"), at_its_end(units(name="disk/host")) as unit:
        bench.fill(unit, blocks=(0, 1)).ready()
        where = place(unit)
        made = planned(bench.backup, where)
        if step == "the blocks":
            filled(tmp_path / "disk", 40_000)
        else:
            unit.at_stop = lambda: filled(tmp_path / "disk", 0)
        calls = [] if step == "the blocks" else ["stop", "start"]
        with untouched(unit, bench.backup, calls), pytest.raises(NotRestored, match=r"No space left.*is there again"):
            restore.apply(where, bench.backup.catalogue.store, bench.backup.part, made)


# Interrupted


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("at", ["the second rename", "the start"])
def test_a_killed_restore_is_ended_by_the_next_run_and_the_server_answers(
    bench: Bench, units: t.Callable[..., Unit], monkeypatch: pytest.MonkeyPatch, version: str, at: str
) -> None:
    unit = bench.fill(units(version)).ready()
    flip(unit.data / bench.ulids[1] / "chunks" / "000001")
    moment, samples = only_in_memory(unit)
    where = place(unit, version)
    made = planned(bench.backup, where)
    before = unit.prometheus.query("count(njord_fills)", _end_of(bench, 0))[0].value

    def die() -> t.Sequence[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return ()

    def work() -> None:
        unit.starts = [die]
        rename = os.rename

        def fatal(source: t.Any, target: t.Any) -> None:
            if at == "the second rename" and str(source).endswith(".restoring"):
                die()
            rename(source, target)

        monkeypatch.setattr(os, "rename", fatal)
        restore.apply(where, bench.backup.catalogue.store, bench.backup.part, made)

    assert restores.in_child(work) == -signal.SIGKILL
    assert unit.beside() != []
    assert not unit.is_running()
    said = restore.recover(unit.data, unit)
    assert unit.is_running()
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(HttpError):
            unit.prometheus.ready()
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert _samples(unit, moment) == samples
    if at == "the start":
        assert "it stays there" in said
        assert counted(unit, bench.backup) == bench.backup.part.facts["counts"]
        assert [name.split("-")[0] for name in unit.beside()] == ["data.replaced"]
    else:
        assert "is there again" in said
        assert unit.prometheus.query("count(njord_fills)", _end_of(bench, 0))[0].value == before
        assert unit.beside() == []
    assert restore.recover(unit.data, unit) == ""


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> restores.Bench:
    return restores.Bench.make(tmp_path_factory.mktemp("torture") / "work")


CASES = [(mode, case) for mode, cases in restores.CASES.items() for case in cases]


@pytest.mark.parametrize(("mode", "case"), CASES)
def test_a_restore_killed_at_any_call_leaves_the_old_or_the_new_directory_whole(
    torture: restores.Bench, mode: str, case: str
) -> None:
    outcome = restores.killed(torture, mode, case, every=5)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 12


@pytest.mark.parametrize("mode", MODES)
def test_so_does_a_recovery_that_is_killed(torture: restores.Bench, mode: str) -> None:
    outcome = restores.killed_twice(torture, mode, restores.TAKEN, every=7)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 12


@pytest.mark.parametrize(("mode", "case"), CASES)
def test_so_does_an_error_at_any_call_and_what_is_said_is_true(torture: restores.Bench, mode: str, case: str) -> None:
    outcome = restores.failed(torture, mode, case, every=9)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 12


def interrupted(torture: restores.Bench, mode: str, call: str, number: int) -> None:
    """Kills a restore at such a call, the first of its kind being 1."""
    every = restores.points(torture, mode, restores.TAKEN, restores.KILLED)
    at = [index for index, name in enumerate(every, 1) if name == call][number - 1]
    assert restores.kill_restore(torture, mode, restores.TAKEN, at)


def test_what_a_server_wrote_where_a_restore_had_left_nothing_is_kept_too(torture: restores.Bench) -> None:
    # The record's phase, the old directory, and then the new one.
    interrupted(torture, SWAP, "rename", 3)
    assert not torture.directory.exists()
    (torture.directory / "wal").mkdir(parents=True)
    (torture.directory / "wal" / "00000000").write_bytes(b"since the boot")
    said = restore.recover(torture.directory, torture.service())
    (interim,) = torture.directory.parent.glob("data.interim-*")
    assert (interim / "wal" / "00000000").read_bytes() == b"since the boot"
    assert f"{interim} has what a server wrote in between" in said
    assert restores.tree(torture.directory) == restores.tree(torture.before)


def test_a_placed_directory_on_which_the_server_does_not_start_any_more_goes_back(torture: restores.Bench) -> None:
    interrupted(torture, SWAP, "start", 1)

    class Stubborn(restores.PlayedService):
        tried = 0

        def start(self) -> None:
            self.tried += 1
            if self.tried == 1:
                raise NotDone("it is out of order")
            super().start()

    said = restore.recover(torture.directory, Stubborn(torture.work / "state"))
    assert "the server did not start: it is out of order; what was there before is there again" in said
    assert torture.wrong(SWAP) == ""
    assert restores.tree(torture.directory) == restores.tree(torture.before)


def test_a_way_back_that_fails_too_is_said_with_the_first_reason(torture: restores.Bench) -> None:
    torture.reset()

    class Dead(restores.PlayedService):
        def start(self) -> None:
            raise NotDone("it is out of order")

    class Broken(restores.PlayedPrometheus):
        def ready(self) -> t.Any:
            raise HttpError("GET /-/ready", "connection refused")

    service = Dead(torture.work / "state")
    where = dataclasses.replace(torture.place(), service=service, prometheus=Broken(service))

    def refuse(_number: int) -> None:
        raise OSError(28, "No room")

    full = restores.Hook(("link",), refuse)
    with restores.played(), full.on(), pytest.raises(NotRestored) as caught:
        restore.apply(where, torture.catalogue.store, torture.part, torture.plan(SWAP))
    assert "No room. And on the way back: it is out of order" in str(caught.value)
    assert restores.tree(torture.directory) == restores.tree(torture.before)
    assert [path.name for path in torture.directory.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("mode", MODES)
def test_a_link_to_the_data_stays_one(torture: restores.Bench, mode: str) -> None:
    torture.reset()
    link = torture.work / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(torture.directory)
    where = dataclasses.replace(torture.place(), directory=link)
    with restores.played():
        done = restore.apply(where, torture.catalogue.store, torture.part, torture.plan(mode))
    assert link.is_symlink()
    assert Path(done.kept).parent == torture.directory.parent
    assert torture.wrong(mode) == ""
    assert restores.tree(torture.directory) == torture.after[mode]


def test_a_second_restore_within_the_second_keeps_what_the_first_kept(
    torture: restores.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    torture.reset()
    monkeypatch.setattr(time, "strftime", lambda *_arguments: "20260131T020000Z")
    with restores.played():
        kept = [
            restore.apply(torture.place(), torture.catalogue.store, torture.part, torture.plan(SWAP)).kept
            for _turn in range(2)
        ]
    assert len(set(kept)) == 2
    assert restores.tree(Path(kept[0])) == restores.tree(torture.before)


def test_a_damaged_record_is_left_to_a_person(torture: restores.Bench) -> None:
    interrupted(torture, SWAP, "rename", 3)
    (record,) = torture.directory.parent.glob("data.restore-*")
    flip(record)
    with pytest.raises(NotRestored, match=f"{record} is damaged.*by hand"):
        restore.recover(torture.directory, torture.service())
    assert len(list(torture.directory.parent.iterdir())) == 3


# Into another directory


@pytest.mark.parametrize("is_there", [False, True])
def test_a_backup_is_put_into_another_directory_and_proven_there(bench: Bench, tmp_path: Path, is_there: bool) -> None:
    target = tmp_path / "a" / "b"
    if is_there:
        target.mkdir(parents=True)
    tools = Tools(str(program("prometheus", "3")), str(program("promtool", "3")))
    part, store = bench.backup.part, bench.backup.catalogue.store
    assert restore_to(store, part, target, tools, NOBODY) == len(part.facts["counts"])
    assert {path.name for path in target.iterdir()} == set(bench.ulids[:3])
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (target, *target.rglob("*"))} == {NOBODY}
    assert [path.name for path in target.parent.iterdir()] == ["b"]
    with pytest.raises(NotRestored, match="is there and not empty"):
        restore_to(store, part, target, tools)
    assert {path.name for path in target.iterdir()} == set(bench.ulids[:3])


@pytest.mark.parametrize("is_there", [False, True])
def test_of_one_that_fails_nothing_is_left(bench: Bench, tmp_path: Path, is_there: bool) -> None:
    target = tmp_path / "a" / "b"
    if is_there:
        target.mkdir(parents=True)
    tools = Tools(str(program("prometheus", "3")), str(program("promtool", "3")))
    other = bench.backup.with_facts(counts={str(_end_of(bench, 0) * 1000)[:-2]: {"njord_fills": 7}})
    with pytest.raises(NotRestored, match="counts differ"):
        restore_to(bench.backup.catalogue.store, other.part, target, tools)
    assert list(tmp_path.rglob("*")) == ([tmp_path / "a", target] if is_there else [])


# The unit


SYSTEMCTL = """#!/bin/sh
echo "$@" >> {directory}/calls
case $1 in
show) cat {directory}/shown ;;
stop) [ ! -e {directory}/stubborn ] && sed -i s/^ActiveState=.*/ActiveState=inactive/ {directory}/shown; exit 0 ;;
start) [ ! -e {directory}/masked ] || {{ echo 'Unit is masked.' >&2; exit 1; }} ;;
esac
"""


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What systemctl shows of a unit."""
    (tmp_path / "systemctl").write_text(SYSTEMCTL.format(directory=tmp_path))
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "shown").write_text("")
    return tmp_path / "shown"


def show(shown: Path, active: str, sub: str, restarts: int = 0) -> None:
    rows = ("LoadState=loaded", f"ActiveState={active}", f"SubState={sub}", f"NRestarts={restarts}")
    shown.write_text("\n".join([*rows, "Result=success", ""]))


@pytest.mark.parametrize(
    ("active", "sub", "restarts", "is_running", "has_ended"),
    [
        ("active", "running", 0, True, False),
        ("activating", "start", 0, True, False),
        ("active", "running", 2, True, True),
        ("activating", "auto-restart", 0, True, True),
        ("failed", "failed", 5, False, True),
        ("inactive", "dead", 0, False, True),
    ],
)
def test_a_unit_that_was_started_again_by_systemd_has_ended(
    shown: Path, active: str, sub: str, restarts: int, is_running: bool, has_ended: bool
) -> None:
    show(shown, active, sub, restarts)
    unit = Systemd("prometheus.service")
    assert unit.is_running() == is_running
    assert bool(unit.ended()) == has_ended
    assert not has_ended or "journalctl -u prometheus.service" in unit.ended()


def test_a_unit_is_stopped_and_started_and_its_restarts_count_anew(shown: Path) -> None:
    show(shown, "active", "running")
    unit = Systemd("prometheus.service")
    unit.stop()
    unit.start()
    calls = (shown.parent / "calls").read_text().splitlines()
    assert [call for call in calls if not call.startswith("show")] == [
        "stop -- prometheus.service",
        "reset-failed -- prometheus.service",
        "start -- prometheus.service",
    ]


def test_a_unit_that_goes_on_or_cannot_be_started_is_said(shown: Path) -> None:
    show(shown, "active", "running")
    (shown.parent / "stubborn").touch()
    (shown.parent / "masked").touch()
    unit = Systemd("prometheus.service")
    with pytest.raises(NotDone, match=r"is done, and unit prometheus\.service is active"):
        unit.stop()
    with pytest.raises(NotDone, match=r"ended with 1: Unit is masked\."):
        unit.start()
