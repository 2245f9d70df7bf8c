# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups, removals and restores interrupted anywhere; of the losses of power a sample: ``make torture`` has all."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from tests.testbench.disk import small_disk
from tests.testbench.packages import ROOT, run
from tests.torture import backups, journal_restores, power, restores
from tests.torture.disk import Call, Recording


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Path]:
    """A disk on which a sync takes no time: what would be lost is reckoned, whatever the file system."""
    with small_disk(tmp_path_factory.mktemp("torture") / "disk", "size=64m") as disk:
        yield disk


@pytest.fixture(scope="module")
def catalogue(memory: Path) -> backups.Bench:
    return backups.Bench.make(memory / "backups")


@pytest.fixture(scope="module")
def place(memory: Path) -> restores.Bench:
    return restores.Bench.make(memory / "restores")


@pytest.fixture(scope="module")
def strace() -> None:
    run([str(ROOT / "tests/testbench/debian.sh"), "strace"])


@pytest.mark.parametrize("work", backups.WORKS)
def test_a_kill_at_any_call_leaves_every_backup_that_stays_whole(catalogue: backups.Bench, work: str) -> None:
    outcome = backups.killed(catalogue, work)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 12


@pytest.mark.parametrize("work", backups.WORKS)
def test_so_does_a_full_disk_at_any_call(catalogue: backups.Bench, work: str) -> None:
    outcome = backups.failed(catalogue, work)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 20


@pytest.mark.parametrize("work", backups.WORKS)
@pytest.mark.usefixtures("strace")
def test_so_does_a_loss_of_power(catalogue: backups.Bench, work: str) -> None:
    outcome = power.working(catalogue, work, every=3, variants=3)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 20


@pytest.mark.parametrize(("mode", "case"), [(mode, case) for mode, cases in restores.CASES.items() for case in cases])
@pytest.mark.usefixtures("strace")
def test_a_loss_of_power_leaves_the_old_or_the_restored_directory_whole(
    place: restores.Bench, mode: str, case: str
) -> None:
    outcome = power.restoring(place, mode, case, every=25, variants=3)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 20


@pytest.mark.parametrize("mode", restores.CASES)
@pytest.mark.usefixtures("strace")
def test_so_does_one_in_the_recovery_from_a_kill(place: restores.Bench, mode: str) -> None:
    outcome = power.recovering(place, mode, restores.TAKEN, every=25, variants=2)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 20


@pytest.mark.parametrize("case", journal_restores.CASES)
@pytest.mark.usefixtures("strace")
def test_so_does_one_in_a_restore_of_journals(memory: Path, case: str) -> None:
    bench = journal_restores.Bench.make(memory / f"journals {case}")
    outcome = power.restoring_journals(bench, case, every=3, variants=4)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 20


def found(directory: Path, calls: t.Sequence[Call], variant: int) -> dict[str, bytes]:
    """What is there after these calls on an old directory, and a loss of power."""
    originals = directory / "originals"
    (originals / "old").mkdir(parents=True, exist_ok=True)
    (originals / "old" / "file").write_bytes(b"old")
    root = directory / "root"
    Recording(originals, list(calls)).lay(calls, variant, root)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


WRITTEN = (Call("mkdir", ("new",)), Call("create", ("new/file",)), Call("write", ("new/file",), b"new"))
MOVED = (*WRITTEN, Call("rename", ("old/file", "new/moved")))
SYNCED = tuple(Call("fsync", (path,)) for path in ("new/file", "new", ""))
OLD = {"old/file": b"old"}


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        (WRITTEN, OLD),
        ((*WRITTEN, *SYNCED[1:]), {**OLD, "new/file": b""}),
        ((*WRITTEN, *SYNCED), {**OLD, "new/file": b"new"}),
        # What moves into a directory that nobody has written down goes with it.
        ((*MOVED, SYNCED[1]), {}),
        ((*MOVED, *SYNCED[1:]), {"new/file": b"", "new/moved": b"old"}),
        ((*WRITTEN, *SYNCED, *(Call("unlink", (path,)) for path in ("new/file", "new"))), {**OLD, "new/file": b"new"}),
        ((*WRITTEN, *SYNCED, *(Call("unlink", (path,)) for path in ("new/file", "new")), SYNCED[2]), OLD),
        ((*WRITTEN, *SYNCED, Call("rename", ("new/file", "old/file"))), {**OLD, "new/file": b"new"}),
        ((*WRITTEN, *SYNCED, Call("rename", ("new/file", "old/file")), SYNCED[1]), {"old/file": b"new"}),
    ],
)
def test_of_what_was_not_synced_nothing_need_be_there(
    tmp_path: Path, calls: tuple[Call, ...], left: dict[str, bytes]
) -> None:
    assert found(tmp_path, calls, variant=0) == left


def test_what_was_not_synced_may_be_there_all_the_same(tmp_path: Path) -> None:
    assert found(tmp_path, MOVED, variant=1) == {"new/file": b"new", "new/moved": b"old"}
    assert len({str(found(tmp_path, MOVED, variant)) for variant in range(20)}) > 2


def test_a_disk_that_does_not_know_a_call_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot replay a write on old/file"):
        found(tmp_path, [Call("write", ("old/file",), b"more")], variant=0)
