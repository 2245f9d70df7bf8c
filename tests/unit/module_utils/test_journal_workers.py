# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal import build
from ansible_collections.njord.telemetry.plugins.module_utils._journal import clean as clean_module
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import Busy, locked
from ansible_collections.njord.telemetry.plugins.module_utils._journal.workers import each

from tests.unit.module_utils.journals import DAY, KEPT, TODAY, aggregated, found, run, stamp, write


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_every_item_is_worked_on_once(processes: int, count: int) -> None:
    answers = list(each(square, range(count), processes))
    assert sorted(value for value, _process in answers) == [number * number for number in range(count)]
    workers = {process for _value, process in answers}
    assert len(workers) <= processes
    assert (os.getpid() in workers) == (min(processes, count) == 1)


def test_what_goes_wrong_in_a_process_goes_wrong_here() -> None:
    with pytest.raises(ZeroDivisionError):
        list(each(lambda number: 1 // number, [1, 0, 1], 2))


def test_what_is_no_longer_wanted_is_not_waited_for() -> None:
    begun = time.monotonic()
    answers = each(lambda number: time.sleep(60 * number), [0, 1, 1], 2)
    next(answers)
    t.cast("t.Generator[t.Any, None, None]", answers).close()
    assert time.monotonic() - begun < 20


def test_a_process_that_is_killed_is_not_waited_for() -> None:
    with pytest.raises(OSError, match="a process of this run was killed"):
        list(each(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number else number, [0, 0, 1, 0, 0], 2))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for age in (3, 4, 5):
        write(tmp_path, f"m_1m.{stamp(TODAY - age)}.ndjson", aggregated((TODAY - age) * DAY))
    return tmp_path


def test_a_run_that_loses_a_process_says_so_and_the_next_one_does_its_work(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*given: t.Any) -> t.Any:
        build.make(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(clean_module, "make", make)
        result = run(root, jobs=2)
    assert [(note.check, note.severity) for note in result.notes] == [("journal.run", "critical")]
    assert "nothing is lost: a process of this run was killed" in result.notes[0].summary
    assert run(root, jobs=2).notes == []
    assert [one.interval for one in found(root)[".", "m", ".ndjson"]] == [300, 300, 300]
    assert not [path for path in root.glob(".*") if path.name not in KEPT]


def test_the_lock_ends_with_the_work_of_a_run_that_is_killed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*given: t.Any) -> t.Any:
        (root / f"{os.getpid()}.working").touch()
        time.sleep(1)
        return build.make(*given)

    monkeypatch.setattr(clean_module, "make", make)
    child = os.fork()
    if child == 0:
        run(root, jobs=2)
        os._exit(0)
    deadline = time.monotonic() + 20
    while len(list(root.glob("*.working"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # What they are at they bring to its end; nothing else may begin before that.
    assert is_locked(root)
    while is_locked(root) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_locked(root)


def is_locked(root: Path) -> bool:
    try:
        with locked(str(root), shared=False):
            return False
    except Busy:
        return True
