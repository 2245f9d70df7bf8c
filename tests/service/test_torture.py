# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of ``make torture``: whatever interrupts a clean-up, the run after it ends where an undisturbed one does."""

from __future__ import annotations

import itertools
import typing as t
from pathlib import Path

import pytest

from tests.testbench.packages import ROOT, run
from tests.torture import disk, faults
from tests.torture.faults import Outcome
from tests.torture.journals import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    run([str(ROOT / "tests/testbench/debian.sh"), "strace"])
    return Bench.make(tmp_path_factory.mktemp("torture"))


def sample(every: t.Iterable[t.Any], size: int) -> list[t.Any]:
    """So many of them, evenly spread."""
    found = list(every)
    return found[:: max(1, len(found) // size)]


def test_a_run_that_is_killed_is_brought_to_its_end(bench: Bench) -> None:
    outcome = Outcome()
    faults.after(bench, sample(faults.kills(bench, bench.before), 14), outcome)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 14


def test_a_disk_that_refuses_costs_no_record(bench: Bench) -> None:
    outcome = Outcome()
    faults.after(bench, sample(faults.errors(bench, bench.before), 14), outcome)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 14


def test_a_recovery_that_is_killed_is_brought_to_its_end(bench: Bench) -> None:
    outcome = Outcome()
    every = list(faults.kills(bench, bench.before))
    for _first, root in itertools.islice(faults.interrupted(bench, every[40:]), 1):
        faults.after(bench, sample(faults.kills(bench, root), 8), outcome, begin=root)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 8


@pytest.mark.parametrize("found", [disk.losses, disk.lies], ids=["is forgotten", "was said to be there"])
def test_a_loss_of_power_costs_no_record(bench: Bench, found: t.Callable[..., t.Iterator[tuple[str, Path]]]) -> None:
    outcome = Outcome()
    recording = disk.record(bench)
    assert len(recording.calls) > 100
    for name, root in itertools.islice(found(bench, recording, 4), 0, None, 25):
        faults.compare(bench, root, name, outcome)
    assert (outcome.lost, outcome.bad) == (0, [])
    assert outcome.points >= 20
