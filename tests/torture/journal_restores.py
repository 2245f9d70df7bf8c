# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore of journals that is disturbed at each of its calls: the tree is the old or the new one, and none is lost.

The calls are counted and disturbed as in :mod:`.restores`; there is no server, and nobody else writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import itertools
import shutil
import signal
import sys
import time
import typing as t
from pathlib import Path
from unittest import mock

from tests.conftest import COLLECTIONS

sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.njord.telemetry.plugins.module_utils._backup import journals_restore
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import VERIFIED, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Failed, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals import JournalsSource
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.record import NotRestored

from tests.torture import restores
from tests.torture.faults import Outcome
from tests.torture.restores import CALLS, FOR_GOOD, Hook, Tree, in_child, killer, tree

KILLED = tuple(call for call in restores.KILLED if call in CALLS)
# A directory that is renamed, a mount point in which every entry is, and one that is not there any more.
RENAMED, MOUNTED, ABSENT = CASES = ("renamed", "mount point", "absent")
NAME = "20260131T020000Z"
DAY = 86400 * 10**9
FIRST = 20455


@dataclasses.dataclass(frozen=True)
class Bench:
    """
    :param before: a journal directory as it is when a restore begins; a copy of it is what is restored.
    :param after: what becomes of it, by case.
    """

    work: Path
    before: Path
    catalogue: Catalogue
    part: Part
    after: dict[str, Tree]

    @classmethod
    def make(cls, work: Path) -> Bench:
        work.mkdir(exist_ok=True)
        directory = work / "place" / "journals"
        (directory / "metrics").mkdir(parents=True)
        for day in range(3):
            (directory / f"metrics/m_1m.{_stamp(day)}.ndjson").write_text(_lines(day, range(5)))
        (directory / "metrics/m_1m.ndjson").write_text(_lines(3, range(5)))
        (directory / "fills.ndjson").write_text('{"fill": 1}\n')
        (directory / "orders.ndjson").write_text('{"order": 1}\n')
        catalogue = Catalogue(str(work / "catalogue"))
        catalogue.make()
        with catalogue.locked():
            manifest, _cost = create(catalogue, [JournalsSource([str(directory)])], 1.0, "host")
        # A day is lost; what goes on, what is another one than in the backup, what is new, and what may count twice.
        (directory / f"metrics/m_1m.{_stamp(0)}.ndjson").unlink()
        with (directory / "metrics/m_1m.ndjson").open("a") as file:
            file.write(_lines(3, range(5, 8)))
        (directory / "fills.ndjson").write_text('{"fill": 2}\n')
        (directory / "app.log").write_text("started\n")
        (directory / "below").mkdir()
        (directory / "below/positions.ndjson").write_text('{"position": 1}\n')
        (directory / f"metrics/m_1m.{_stamp(2)}.5.ndjson").write_text(_lines(2, range(3, 9)))
        before = work / "before"
        shutil.copytree(directory, before)
        bench = cls(work, before, catalogue, manifest.parts[0], {})
        for case in CASES:
            bench.reset(case)
            said = bench.run(case)
            bench.after[case] = bench.live()
            wrong = said or bench.wrong(case)
            if wrong or bench.after[case] == bench.then(case):
                raise RuntimeError(f"An undisturbed restore ({case}) went wrong: {wrong or 'it changed nothing'}")
        return bench

    @property
    def directory(self) -> Path:
        return self.work / "place" / "journals"

    def reset(self, case: str) -> None:
        shutil.rmtree(self.work / "place", ignore_errors=True)
        (self.work / "place").mkdir()
        if case != ABSENT:
            shutil.copytree(self.before, self.directory)

    def then(self, case: str) -> Tree:
        return {} if case == ABSENT else tree(self.before)

    def live(self) -> Tree:
        """Without what restores left there."""
        found = tree(self.directory) if self.directory.is_dir() else {}
        return {path: digest for path, digest in found.items() if not path.startswith(".re")}

    def run(self, case: str, hook: Hook | None = None) -> str:
        """A restore, and what was said where it was given up."""
        with self.mounted(case), hook.on() if hook else contextlib.nullcontext():
            try:
                journals_restore.run(self.catalogue.store, NAME, [self.part], lambda _part: VERIFIED, "swap", True)
            except (NotRestored, Failed, OSError) as error:
                return str(error)
        return ""

    def recover(self, case: str) -> str:
        with self.mounted(case):
            return journals_restore.recover(self.directory)

    @contextlib.contextmanager
    def mounted(self, case: str) -> t.Iterator[None]:
        with mock.patch.object(Path, "is_mount", lambda path: case == MOUNTED and path == self.directory):
            yield

    def wrong(self, case: str, said: str = "") -> str:
        """What is not as it must be, once nobody is at work any more; empty where all is well.

        :param said: by the restore, or by the recovery: it must be true.
        """
        found = self.live()
        is_old, is_new = found == self.then(case), found == self.after.get(case, found)
        if not is_old and not is_new:
            return "the directory is neither the old nor the new one"
        if "is there again" in said and not is_old:
            return f"it is not the old one, and yet: {said}"
        if "stays there" in said and not is_new:
            return f"it is not the new one, and yet: {said}"
        around = [path for path in self.directory.parent.iterdir() if path != self.directory]
        around += [path for path in self.directory.iterdir() if path.name.startswith(".")] if found else []
        kept = [path for path in around if ".replaced-" in path.name]
        left = [path.name for path in around if path not in kept]
        if left or (kept and is_old) or (not kept and not is_old and case != ABSENT):
            return f"beside it lies {left or [path.name for path in kept]}"
        return "what was kept is not what was there" if kept and tree(kept[0]) != self.then(case) else ""

    def lost(self, case: str) -> int:
        """How many contents of before are nowhere any more."""
        return len(set(self.then(case).values()) - set(tree(self.directory.parent).values()))


def points(bench: Bench, case: str, names: t.Collection[str]) -> list[str]:
    """The calls that a restore makes, in their order."""
    bench.reset(case)
    hook = Hook(names, lambda _number: None)
    bench.run(case, hook)
    return hook.seen


def kill_recovery(bench: Bench, case: str, number: int) -> bool:
    hook = Hook(KILLED, killer(number))

    def work() -> None:
        with hook.on():
            bench.recover(case)

    return in_child(work) == -signal.SIGKILL


def judge(bench: Bench, case: str, name: str, outcome: Outcome) -> None:
    """Lets a recovery end that nothing disturbs, and holds what is there against what must be."""
    try:
        wrong = bench.wrong(case, bench.recover(case))
    except (NotRestored, OSError) as error:
        wrong = f"the recovery says: {error}"
    lost = bench.lost(case)
    outcome.take(f"{name}: {wrong or 'files are lost'}", lost or (-1 if wrong else 0))


def killed(bench: Bench, case: str) -> Outcome:
    outcome = Outcome()
    for number, name in enumerate(points(bench, case, KILLED), 1):
        bench.reset(case)
        hook = Hook(KILLED, killer(number))
        where = f"{case}, killed at call {number} ({name})"
        if in_child(functools.partial(bench.run, case, hook)) != -signal.SIGKILL:
            outcome.take(f"{where}: it was not", -1)
        judge(bench, case, where, outcome)
    return outcome


def killed_twice(bench: Bench, case: str) -> Outcome:
    outcome = Outcome()
    for first, name in enumerate(points(bench, case, KILLED), 1):
        if name not in ("rename", "link", "rmdir"):
            continue
        for second in itertools.count(1):
            bench.reset(case)
            hook = Hook(KILLED, killer(first))
            in_child(functools.partial(bench.run, case, hook))
            if not kill_recovery(bench, case, second):
                break
            judge(bench, case, f"{case}, killed at call {first} ({name}), its recovery at {second}", outcome)
    return outcome


def failed(bench: Bench, case: str) -> Outcome:
    """An error at each call, once; and of those that need room, at all that follow too."""
    outcome = Outcome()
    for number, name in enumerate(points(bench, case, CALLS), 1):
        for is_for_good in (False, True) if name in FOR_GOOD else (False,):
            where = f"{case}, without room at call {number}{'+' if is_for_good else ''} ({name})"
            bench.reset(case)
            said = bench.run(case, _without_room(number, is_for_good))
            if list(bench.directory.parent.glob("*.restore-*")):
                # The next run has something to do, and whoever reads this knows it.
                wrong = "" if "next run" in said else f"it says nothing of the next run: {said}"
            else:
                wrong = bench.wrong(case, said)
            if wrong:
                outcome.take(f"{where}: {wrong}", bench.lost(case) or -1)
            else:
                judge(bench, case, where, outcome)
    return outcome


def _without_room(number: int, is_for_good: bool) -> Hook:
    def fail(now: int) -> None:
        if now == number or (is_for_good and now > number and hook.seen[now - 1] in FOR_GOOD):
            raise OSError(errno.ENOSPC, f"No room for call {now}")

    hook = Hook(CALLS, fail)
    return hook


def run(work: Path) -> t.Iterator[tuple[str, Outcome]]:
    """All of it."""
    bench = Bench.make(work)
    for case in CASES:
        name = f"a restore of journals ({case})"
        yield f"{name} killed at each call", killed(bench, case)
        yield f"{name} killed at each move, and its recovery at each call", killed_twice(bench, case)
        yield f"{name} with an error at each call, once and for good", failed(bench, case)


def _stamp(day: int) -> str:

    return time.strftime("%Y%m%d", time.gmtime((FIRST + day) * 86400))


def _lines(day: int, minutes: t.Iterable[int]) -> str:
    return "".join(
        f'{{"timestamp_ns": {(FIRST + day) * DAY + minute * 60 * 10**9}, "metric_name": "m", "metric_type": "gauge",'
        f' "labels": {{}}, "interval_seconds": 60, "value": {minute}}}\n'
        for minute in minutes
    )
