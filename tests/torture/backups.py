# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup, a removal by the keeping rules, and a backup taken in from its one file, disturbed at each of their calls.

Whatever comes: the backups that stay are whole, no half one is there, and the next run sweeps up and does the work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._backup.carry import pack, unpack
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import PROVEN, Catalogue, State
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, Failed, NoRoom, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.keep import Rules, kept
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged, File
from ansible_collections.njord.telemetry.plugins.module_utils._backup.tree import walk

from tests.torture.faults import Outcome
from tests.torture.restores import CALLS, FOR_GOOD, KILLED, Hook, in_child, killer

NOW = 1_790_000_000.0
DAY = 86400.0
# What the data directory holds on each of five days; of the last one there is no backup yet.
DAYS: tuple[dict[str, bytes], ...] = (
    {"01A/index": b"a" * 3000, "01A/chunks/000001": b"A" * 5000, "wal": b"0"},
    {"01A/index": b"a" * 3000, "01A/chunks/000001": b"A" * 5000, "wal": b"1" * 700},
    {"01B/index": b"b" * 3000, "01A/chunks/000001": b"A" * 5000, "wal": b"2" * 700},
    {"01B/index": b"b" * 3000, "01C/index": b"c" * 400, "01C/chunks/000001": b"C" * 5000, "wal": b"3" * 700},
    {"01B/index": b"b" * 3000, "01D/index": b"d" * 400, "01D/chunks/000001": b"D" * 5000, "wal": b"4" * 700},
)


@dataclasses.dataclass(frozen=True)
class Files:
    """A source made of a directory as it lies there."""

    root: Path
    name: str = "journals"

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        found = walk(str(self.root))
        yield [Draft(self.name, str(self.root), found.directories, found.candidates, {})]


@dataclasses.dataclass(frozen=True)
class Bench:
    """A catalogue before the work, of which a copy by links is worked on.

    :param stay: the backups that no work takes away.
    """

    work: Path
    before: Path
    stay: frozenset[str]

    @classmethod
    def make(cls, work: Path) -> Bench:
        work.mkdir(exist_ok=True)
        before = Catalogue(str(work / "before"))
        for catalogue in (before, Catalogue(str(work / "elsewhere"))):
            catalogue.make()
        for number, content in enumerate(DAYS):
            _fill(work / "source", content)
            catalogue = before if number < len(DAYS) - 1 else Catalogue(str(work / "elsewhere"))
            manifest, _cost = create(catalogue, [Files(work / "source")], NOW + number * DAY, "host")
            if number == 1:
                catalogue.record(manifest.name, {manifest.parts[0].name: State(PROVEN, NOW, NOW)})
        pack(catalogue, catalogue.names()[-1], work / "archive", "none")
        bench = cls(work, work / "before", frozenset(kept(before.entries(), _RULES)))
        if len(bench.stay) != 2:
            raise RuntimeError(f"The rules keep {sorted(bench.stay)}, not the newest and the proven one")
        for name in WORKS:
            bench.reset()
            wrong = bench.done(name) or bench.wrong(name, is_done=True)
            if wrong:
                raise RuntimeError(f"An undisturbed {name} went wrong: {wrong}")
        return bench

    @property
    def root(self) -> Path:
        return self.work / "catalogue"

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(str(self.root))

    def reset(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.before, self.root, copy_function=os.link)

    def done(self, work: str) -> str:
        """Does it; why it was given up, or nothing."""
        catalogue = self.catalogue
        try:
            with catalogue.locked():
                WORKS[work](self, catalogue)
        except (OSError, Failed, NoRoom) as error:
            return str(error) or repr(error)
        return ""

    def wrong(self, work: str, is_done: bool) -> str:
        """What is not as it must be, once nobody is at work any more; empty where all is well."""
        catalogue = self.catalogue
        with catalogue.locked():
            left = [path.name for name in ("incoming", "scratch") for path in (self.root / name).iterdir()]
            if left:
                return f"there is still {left}"
            there, before = set(catalogue.names()), set(Catalogue(str(self.before)).names())
            stay = self.stay if work == REMOVAL else before
            if not stay <= there:
                return f"{sorted(stay - there)} is not there any more"
            if is_done and (there == before if work != REMOVAL else there != stay):
                return f"it was done, and there is {sorted(there)}"
            if work == REMOVAL and not there <= before:
                return f"there is {sorted(there - before)} as well"
            for name in there:
                spoiled = spoiled_in(catalogue, name)
                if spoiled:
                    return f"of backup {name} {spoiled} are not whole"
            for name in there - before:
                manifest = catalogue.entry(name).manifest
                found = {file.path: file.size for part in manifest.parts for file in part.files} if manifest else {}
                if found != {path: len(content) for path, content in DAYS[-1].items()}:
                    return f"backup {name} holds {found}"
            return ""

    def left_over(self) -> str:
        """What no backup needs, once a removal has swept."""
        catalogue = self.catalogue
        with catalogue.locked():
            catalogue.remove(())
            needed = set().union(*(one.manifest.hashes() for one in catalogue.entries() if one.manifest))
            held = {sha256 for sha256, _size in catalogue.store.objects()}
        return "" if held == needed else f"{len(held ^ needed)} objects too many or too few"

    def lost(self) -> int:
        """How many files of the backups that must be there in any case are not whole."""
        former, catalogue = Catalogue(str(self.before)), self.catalogue
        there = set(catalogue.names())
        return sum(
            spoiled_in(catalogue, name) if name in there and catalogue.entry(name).manifest else files_of(former, name)
            for name in self.stay
        )


def spoiled_in(catalogue: Catalogue, name: str) -> int:
    """How many files of a backup are not whole; where its manifest cannot be read, one."""
    manifest = catalogue.entry(name).manifest
    if not manifest:
        return 1
    return sum(not _is_whole(catalogue, file) for part in manifest.parts for file in part.files)


def _is_whole(catalogue: Catalogue, file: File) -> bool:
    try:
        catalogue.store.check(file)
    except Damaged:
        return False
    return True


def files_of(catalogue: Catalogue, name: str) -> int:
    manifest = catalogue.entry(name).manifest
    return sum(len(part.files) for part in manifest.parts) if manifest else 0


def _fill(root: Path, content: t.Mapping[str, bytes]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for path, data in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


# The newest one, and by itself the last proven one.
_RULES = Rules(1, 0, 0, 0)
BACKUP, REMOVAL, ARRIVAL = "a backup", "a removal", "a backup taken in"


def _back_up(bench: Bench, catalogue: Catalogue) -> None:
    create(catalogue, [Files(bench.work / "source")], NOW + len(DAYS) * DAY, "host")


def _remove(_bench: Bench, catalogue: Catalogue) -> None:
    staying = kept(catalogue.entries(), _RULES)
    catalogue.remove(name for name in catalogue.names() if name not in staying)


def _take_in(bench: Bench, catalogue: Catalogue) -> None:
    unpack(catalogue, bench.work / "archive")


WORKS: dict[str, t.Callable[[Bench, Catalogue], None]] = {BACKUP: _back_up, REMOVAL: _remove, ARRIVAL: _take_in}


def points(bench: Bench, work: str, names: t.Collection[str]) -> list[str]:
    """The calls that the work makes, in their order."""
    bench.reset()
    hook = Hook(names, lambda _number: None)
    with hook.on():
        bench.done(work)
    return hook.seen


def judge(bench: Bench, work: str, name: str, outcome: Outcome, is_done: bool = False) -> None:
    """Holds what is there against what must be, and lets a run come to its end that nothing disturbs.

    :param is_done: whether the one that was disturbed said so.
    """
    wrong = bench.wrong(work, is_done)
    lost = bench.lost()
    wrong = wrong or bench.done(work) or bench.wrong(work, is_done=True) or bench.left_over()
    outcome.take(f"{name}: {wrong or 'files are lost'}", lost or (-1 if wrong else 0))


def killed(bench: Bench, work: str, every: int = 1) -> Outcome:
    """:param every: all renames, and every so many of the others."""
    outcome = Outcome()
    for number, name in enumerate(points(bench, work, KILLED), 1):
        if number % every and name not in ("rename", "replace"):
            continue
        bench.reset()
        hook = Hook(KILLED, killer(number))

        def disturbed(hook: Hook = hook) -> None:
            with hook.on():
                bench.done(work)

        where = f"{work} killed at call {number}"
        if in_child(disturbed) != -signal.SIGKILL:
            outcome.take(f"{where}: it was not", -1)
        judge(bench, work, where, outcome)
    return outcome


def failed(bench: Bench, work: str, every: int = 1) -> Outcome:
    """A full disk at each call, once; and of those that need room, at all that follow too."""
    outcome = Outcome()
    for number, name in enumerate(points(bench, work, CALLS), 1):
        if number % every and name not in ("rename", "replace"):
            continue
        for is_for_good in (False, True) if name in FOR_GOOD else (False,):
            bench.reset()
            hook = _full(number, is_for_good)
            with hook.on():
                said = bench.done(work)
            where = f"{work} without room at call {number}{'+' if is_for_good else ''}"
            judge(bench, work, where, outcome, is_done=not said)
    return outcome


def _full(number: int, is_for_good: bool) -> Hook:
    def fail(now: int) -> None:
        if now == number or (is_for_good and now > number and hook.seen[now - 1] in FOR_GOOD):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hook = Hook(CALLS, fail)
    return hook


def run(work: Path) -> t.Iterator[tuple[str, Outcome]]:
    """All of it."""
    bench = Bench.make(work)
    for name in WORKS:
        yield f"{name} killed at each call", killed(bench, name)
        yield f"{name} with a full disk at each call, once and for good", failed(bench, name)
