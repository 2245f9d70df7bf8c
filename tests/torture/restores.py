# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore that is disturbed at each of its calls: whatever comes, the directory is the old one or the new one, whole.

The calls of Python that change files, and those to the service, are counted in a child process; in front of one of
them it is killed, or an error comes instead. The server is played: what is tried here is what becomes of the files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import traceback
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils import _storage
from ansible_collections.njord.telemetry.plugins.module_utils._backup import restore
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import VERIFIED, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Directory, File, Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.record import NotRestored
from ansible_collections.njord.telemetry.plugins.module_utils._backup.restore import Place
from ansible_collections.njord.telemetry.plugins.module_utils._backup.restore_plan import (
    MODES,
    REPAIR,
    SWAP,
    Live,
    Plan,
    plan,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.scratch import Tools
from ansible_collections.njord.telemetry.plugins.module_utils._backup.service import NotDone
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._storage import Retention

from tests.torture.faults import Outcome

CALLS = ("rename", "replace", "link", "fsync", "mkdir", "unlink", "rmdir", "chown", "fchown", "chmod", "write")
SERVICE = ("stop", "start")
# What a kill can come before: a write that is cut off is one whose fsync never came, and a right is set beside.
KILLED = ("rename", "replace", "link", "fsync", "mkdir", "unlink", "rmdir", *SERVICE)
# What the server makes of what it is given: it takes it, finds something missing, or does not start on the log.
TAKEN, REFUSED, WITHOUT_LOG = "taken", "refused", "taken without the log"
CASES = {SWAP: (TAKEN, REFUSED, WITHOUT_LOG), REPAIR: (TAKEN, REFUSED)}
FOR_GOOD = ("write", "fsync", "mkdir", "link")
HOUR = 3_600_000
SINCE_BOOT = b"since the boot"
_KEPT = (".replaced-", ".quarantine-")

Tree = t.Dict[str, str]


class Hook:
    """Counts the calls, and does something instead of one of them."""

    def __init__(self, names: t.Collection[str], act: t.Callable[[int], None]) -> None:
        self._names = names
        self._act = act
        self._lock = threading.Lock()
        self.seen: list[str] = []

    def call(self, name: str) -> None:
        if name in self._names:
            with self._lock:
                self.seen.append(name)
                number = len(self.seen)
            self._act(number)

    @contextlib.contextmanager
    def on(self) -> t.Iterator[None]:
        def hooked(name: str, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
            def call(*arguments: t.Any, **named: t.Any) -> t.Any:
                self.call(name)
                return real(*arguments, **named)

            return call

        real = {name: getattr(os, name) for name in CALLS}
        try:
            for name in CALLS:
                setattr(os, name, hooked(name, real[name]))
            yield
        finally:
            for name in CALLS:
                setattr(os, name, real[name])


class PlayedService:
    """Whether it runs stands in a file: it outlives whoever stops it."""

    def __init__(self, state: Path, hook: Hook | None = None) -> None:
        self._state = state
        self._hook = hook

    def is_running(self) -> bool:
        return self._state.read_text() == "running"

    def stop(self) -> None:
        self._set("stop", "stopped")

    def start(self) -> None:
        self._set("start", "running")

    def ended(self) -> str:
        return "" if self.is_running() else "it is stopped"

    def _set(self, call: str, state: str) -> None:
        if self._hook:
            try:
                self._hook.call(call)
            except OSError as error:
                raise NotDone(str(error)) from error
        with self._state.open("w") as file:
            file.write(state)


class PlayedPrometheus(Prometheus):
    """Ready as long as its service runs."""

    def __init__(self, service: PlayedService) -> None:
        super().__init__(Server("http://127.0.0.1:1"))
        self._service = service

    def ready(self) -> t.Any:
        if not self._service.is_running():
            raise HttpError("GET /-/ready", "connection refused")


@contextlib.contextmanager
def played(case: str = TAKEN) -> t.Iterator[None]:
    """Instead of servers: one that opens everything, and one of which the case says what it does."""
    start, starts = restore._start, itertools.count()

    def started(place: Place) -> None:
        start(place)
        if case == WITHOUT_LOG and next(starts) == 0:
            raise restore._NotReady("segments are not sequential")

    def compare(*_arguments: t.Any) -> int:
        if case == REFUSED:
            raise NotRestored("2 counts differ.")
        return 1

    mended = {"_prove": lambda *_arguments: None, "_start": started, "_compare": compare}
    former = {name: getattr(restore, name) for name in mended}
    try:
        for name, value in mended.items():
            setattr(restore, name, value)
        yield
    finally:
        for name, value in former.items():
            setattr(restore, name, value)


def tree(directory: Path) -> Tree:
    """Hash of every file below, and every directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in directory.rglob("*")
    }


@dataclasses.dataclass(frozen=True)
class Bench:
    """A data directory before a restore, and what a restore of each mode makes of it.

    :param before: the directory; a copy of it, by links, is what is restored.
    :param after: by mode.
    """

    work: Path
    before: Path
    catalogue: Catalogue
    part: Part
    after: dict[str, Tree]

    @classmethod
    def make(cls, work: Path) -> Bench:
        work.mkdir(exist_ok=True)
        before = work / "before"
        for number in range(4):
            _block(before, number, b"old")
        for path, content in {
            "wal/00000000": b"w" * 3000,
            "wal/checkpoint.00000001/00000000": b"c" * 500,
            "wbl/00000000": b"b" * 200,
            "chunks_head/000001": b"h" * 100,
            "lock": b"",
            "queries.active": b"q",
        }.items():
            (before / path).parent.mkdir(parents=True, exist_ok=True)
            (before / path).write_bytes(content)
        (before / _ulid(2) / "meta.json").unlink()
        catalogue = Catalogue(str(work / "catalogue"))
        catalogue.make()
        bench = cls(work, before, catalogue, _part(work, catalogue, range(3)), {})
        for mode in MODES:
            bench.reset()
            bench.run(mode, TAKEN)
            bench.after[mode] = tree(bench.directory)
            wrong = bench.wrong(mode)
            if wrong or bench.after[mode] == tree(before):
                raise RuntimeError(f"An undisturbed {mode} went wrong: {wrong or 'it changed nothing'}")
        return bench

    @property
    def directory(self) -> Path:
        return self.work / "place" / "data"

    def reset(self) -> None:
        shutil.rmtree(self.work / "place", ignore_errors=True)
        (self.work / "place").mkdir()
        shutil.copytree(self.before, self.directory, copy_function=os.link)
        (self.work / "state").write_text("running")

    def boot(self) -> None:
        """The host starts its services, and a server that finds no directory makes one."""
        self.service().start()
        if not self.directory.exists():
            (self.directory / "wal").mkdir(parents=True)
            (self.directory / "wal" / "00000000").write_bytes(SINCE_BOOT)

    def service(self, hook: Hook | None = None) -> PlayedService:
        return PlayedService(self.work / "state", hook)

    def place(self, hook: Hook | None = None) -> Place:
        service = self.service(hook)
        return Place(self.directory, PlayedPrometheus(service), service, Tools("", ""), 1.0)

    def plan(self, mode: str) -> Plan:
        storage = _storage.read(self.before)
        bad = {_ulid(1): "bad chunk"}
        live = Live(str(self.directory), storage, bad, Retention(1e12, 1e18), "", False, 1 << 40)
        return plan(self.part, VERIFIED, live, mode, 4 * 2 * HOUR / 1000)

    def run(self, mode: str, case: str, hook: Hook | None = None) -> str:
        """A restore, and what was said where it was given up."""
        with played(case), hook.on() if hook else contextlib.nullcontext():
            try:
                restore.apply(self.place(hook), self.catalogue.store, self.part, self.plan(mode))
            except (NotRestored, NotDone, HttpError) as error:
                return str(error)
        return ""

    def wrong(self, mode: str, said: str = "", case: str = TAKEN) -> str:
        """What is not as it must be, once nobody is at work any more; empty where all is well.

        :param said: by the restore, or by the recovery: it must be true.
        """
        found = tree(self.directory) if self.directory.is_dir() else {}
        after = self.after.get(mode, found)
        is_old, is_new = found == tree(self.before), _without_log(found, case) == _without_log(after, case)
        if not is_old and not is_new:
            return "the directory is neither the old nor the new one"
        if ("is there again" in said or "as it was" in said) and not is_old:
            return f"it is not the old one, and yet: {said}"
        if "it stays there" in said and not is_new:
            return f"it is not the new one, and yet: {said}"
        kept = [path for path in self.directory.parent.iterdir() if any(word in path.name for word in _KEPT)]
        left = [path.name for path in self.directory.parent.iterdir() if path not in (*kept, self.directory)]
        left = [name for name in left if not self._is_since_boot(name)]
        if left or (kept and is_old) or (not kept and not is_old):
            return f"beside it lies {left or [path.name for path in kept]}"
        if mode == SWAP and kept and tree(kept[0]) != tree(self.before):
            return "what was kept is not what was there"
        return "" if self.service().is_running() else "the server does not run"

    def _is_since_boot(self, name: str) -> bool:
        found = tree(self.directory.with_name(name))
        return ".interim-" in name and found.get("wal/00000000") == hashlib.sha256(SINCE_BOOT).hexdigest()

    def lost(self) -> int:
        """How many files of before are nowhere any more."""
        there = {digest for path in self.directory.parent.iterdir() if path.is_dir() for digest in tree(path).values()}
        return len(set(tree(self.before).values()) - there)


def _without_log(found: Tree, case: str) -> Tree:
    """Where the log may be left out, at any moment or a part of it only: the rest."""
    return {
        path: digest for path, digest in found.items() if case != WITHOUT_LOG or not path.startswith(("wal", "wbl"))
    }


def points(bench: Bench, mode: str, case: str, names: t.Collection[str]) -> list[str]:
    """The calls that a restore makes, in their order."""
    bench.reset()
    hook = Hook(names, lambda _number: None)
    bench.run(mode, case, hook)
    return hook.seen


def in_child(work: t.Callable[[], object]) -> int:
    """How a child that does this ends, as ``waitstatus_to_exitcode`` has it."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killer(number: int) -> t.Callable[[int], None]:
    def act(now: int) -> None:
        if now == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def kill_restore(bench: Bench, mode: str, case: str, number: int) -> bool:
    """Whether it was killed, and not at its end before."""
    hook = Hook(KILLED, killer(number))
    bench.reset()
    return in_child(lambda: bench.run(mode, case, hook)) == -signal.SIGKILL


def kill_recovery(bench: Bench, number: int) -> bool:
    hook = Hook(KILLED, killer(number))

    def work() -> None:
        with hook.on():
            restore.recover(bench.directory, bench.service(hook))

    return in_child(work) == -signal.SIGKILL


def judge(bench: Bench, mode: str, case: str, name: str, outcome: Outcome, said: str = "") -> None:
    """Lets a recovery end that nothing disturbs, and holds what is there against what must be.

    :param said: by the restore, where it came to its end.
    """
    try:
        said = f"{said} {restore.recover(bench.directory, bench.service())}"
        wrong = bench.wrong(mode, said, case)
    except (NotRestored, NotDone, OSError) as error:
        wrong = f"the recovery says: {error}"
    lost = bench.lost()
    outcome.take(f"{name}: {wrong or 'files are lost'}", lost or (-1 if wrong else 0))


def killed(bench: Bench, mode: str, case: str, every: int = 1) -> Outcome:
    """:param every: all renames and calls to the service, and every so many of the others."""
    outcome = Outcome()
    for number, name in enumerate(points(bench, mode, case, KILLED), 1):
        if number % every == 0 or name in ("rename", *SERVICE):
            is_killed = kill_restore(bench, mode, case, number)
            where = f"{mode}, {case}, killed at call {number} ({name})"
            if not is_killed:
                outcome.take(f"{where}: it was not", -1)
            judge(bench, mode, case, where, outcome)
    return outcome


def killed_twice(bench: Bench, mode: str, case: str, every: int = 1) -> Outcome:
    outcome = Outcome()
    for first, name in enumerate(points(bench, mode, case, KILLED), 1):
        if name not in ("rename", *SERVICE):
            continue
        for second in itertools.count(1, every):
            kill_restore(bench, mode, case, first)
            if not kill_recovery(bench, second):
                break
            where = f"{mode}, {case}, killed at call {first} ({name}), its recovery at {second}"
            judge(bench, mode, case, where, outcome)
    return outcome


def failed(bench: Bench, mode: str, case: str, every: int = 1) -> Outcome:
    """An error at each call, once; and of those that need room, at all that follow too."""
    outcome = Outcome()
    for number, name in enumerate(points(bench, mode, case, (*CALLS, *SERVICE)), 1):
        if number % every and name not in ("rename", *SERVICE):
            continue
        for is_for_good in (False, True) if name in FOR_GOOD else (False,):
            fail_restore(bench, mode, case, number, is_for_good, outcome)
    return outcome


def fail_restore(bench: Bench, mode: str, case: str, number: int, is_for_good: bool, outcome: Outcome) -> None:
    def fail(now: int) -> None:
        if now == number or (is_for_good and now > number and hook.seen[now - 1] in FOR_GOOD):
            raise OSError(errno.ENOSPC, f"No room for call {now}")

    hook = Hook((*CALLS, *SERVICE), fail)
    bench.reset()
    name = f"{mode}, {case}, without room at call {number}{'+' if is_for_good else ''}"
    try:
        said = bench.run(mode, case, hook)
    except OSError as error:
        outcome.take(f"{name}: {error!r}", -1)
        return
    failing = hook.seen[number - 1]
    wrong = ""
    if list(bench.directory.parent.glob("*.restore-*")):
        # The next run has something to do, and whoever reads this knows it.
        wrong = "" if "next run" in said else f"it says nothing of the next run: {said}"
    else:
        if failing == "start" and not bench.service().is_running():
            # It said that the service does not start, and that is all.
            wrong = "" if f"No room for call {number}" in said else f"it does not say why no server runs: {said}"
            bench.service().start()
        wrong = wrong or bench.wrong(mode, said, case)
    if wrong:
        outcome.take(f"{name} ({failing}): {wrong}", bench.lost() or -1)
        return
    judge(bench, mode, case, f"{name} ({failing})", outcome)


def run(work: Path) -> t.Iterator[tuple[str, Outcome]]:
    """All of it."""
    bench = Bench.make(work)
    for mode, cases in CASES.items():
        for case in cases:
            name = f"a restore ({mode}, {case})"
            yield f"{name} killed at each call", killed(bench, mode, case)
            yield f"{name} killed at each move, and its recovery at each call", killed_twice(bench, mode, case)
            yield f"{name} with an error at each call, once and for good", failed(bench, mode, case)


def _ulid(number: int) -> str:
    return f"01J{number:023d}"


def _block(directory: Path, number: int, content: bytes) -> None:
    """Of two hours, and with the files of a real one."""
    block = directory / _ulid(number)
    (block / "chunks").mkdir(parents=True)
    (block / "chunks" / "000001").write_bytes(content * (100 + number))
    (block / "index").write_bytes(b"index" * 50 + bytes([number]))
    (block / "tombstones").write_bytes(b"t")
    meta = {"ulid": _ulid(number), "minTime": number * 2 * HOUR, "maxTime": (number + 1) * 2 * HOUR}
    (block / "meta.json").write_text(json.dumps({**meta, "stats": {"numSamples": 10}}))


def _part(work: Path, catalogue: Catalogue, numbers: t.Iterable[int]) -> Part:
    """A backup of some of the blocks, of which the last holds something else than the live one."""
    root = work / "backup"
    files: list[File] = []
    directories, rows = [], []
    for number in numbers:
        _block(root, number, b"old" if number < 2 else b"new")
        rows.append(
            {
                "ulid": _ulid(number),
                "min_time": number * 2 * HOUR,
                "max_time": (number + 1) * 2 * HOUR,
                "samples": 10,
            }
        )
    for path in sorted(root.rglob("*")):
        inside = str(path.relative_to(root))
        if path.is_dir():
            directories.append(Directory(inside, 0o755, "root", "root"))
            continue
        status = path.stat()
        digest = catalogue.store.take(path, status.st_size, len(files))
        files.append(File(inside, status.st_size, 0o644, "root", "root", status.st_mtime_ns, "", digest))
    catalogue.store.settle()
    facts = {"blocks": rows, "counts": {}, "retention": "100y", "samples": 30}
    return Part("prometheus", str(root), tuple(directories), tuple(files), facts)
