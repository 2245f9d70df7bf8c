# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults at single system calls, injected by strace into the real program on the real file system."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

from tests.torture.journals import Bench, clean, command, copy, environment, same

# By what a call is for: its names on any architecture.
CALLS = {
    "write": ("write",),
    "fsync": ("fsync",),
    "rename": ("rename", "renameat", "renameat2"),
    "unlink": ("unlink", "unlinkat"),
    "open": ("openat",),
}
# What a call may answer. EINTR once only: who asks again for ever never ends, and is right.
ERRORS = {
    "write": ("ENOSPC", "EIO", "EINTR"),
    "fsync": ("ENOSPC", "EIO", "EINTR"),
    "rename": ("ENOSPC", "EIO"),
    "unlink": ("EIO",),
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """:param when: at which of these calls; ``5+`` means that one and all after it."""

    call: str
    what: str
    when: str

    @property
    def name(self) -> str:
        return f"{self.what} at {self.call} {self.when}"


@dataclasses.dataclass
class Outcome:
    """:param bad: the faults after which something was not as it must be."""

    points: int = 0
    lost: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)

    def take(self, name: str, lost: int) -> None:
        self.points += 1
        self.lost += max(lost, 0)
        if lost:
            self.bad.append(name)


def count(bench: Bench, begin: Path, call: str) -> dict[str, int]:
    """How often an undisturbed run on such a directory makes the calls of a kind."""
    root, log = bench.work / "count", bench.work / "count.log"
    shutil.rmtree(root, ignore_errors=True)
    same(begin, root)
    names = ",".join(CALLS[call])
    traced = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={names}", *command(root, bench.config)]
    subprocess.run(traced, env=environment(), capture_output=True, check=True, stdin=subprocess.DEVNULL)
    found = re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(errors="replace"), re.MULTILINE)
    return {name: found.count(name) for name in CALLS[call] if name in found}


def kills(bench: Bench, begin: Path) -> t.Iterator[Fault]:
    """A kill at each call of a run on this directory."""
    for call in ("write", "fsync", "rename", "unlink"):
        for name, times in count(bench, begin, call).items():
            yield from (Fault(name, "signal=SIGKILL", str(number)) for number in range(1, times + 1))


def errors(bench: Bench, begin: Path) -> t.Iterator[Fault]:
    """Each error at each call, once and for good."""
    for call, kinds in ERRORS.items():
        for name, times in count(bench, begin, call).items():
            for kind in kinds:
                for number in range(1, times + 1):
                    yield Fault(name, f"error={kind}", str(number))
                    if kind != "EINTR":
                        yield Fault(name, f"error={kind}", f"{number}+")


def disturb(bench: Bench, root: Path, fault: Fault) -> None:
    """A run with a fault in it; it may end as it likes."""
    inject = f"inject={fault.call}:{fault.what}:when={fault.when}"
    traced = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={fault.call}", "-e", inject]
    subprocess.run(
        [*traced, *command(root, bench.config)],
        env=environment(),
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def after(bench: Bench, faults: t.Iterable[Fault], outcome: Outcome, begin: Path | None = None) -> None:
    """Disturbs a run, lets another one end, and compares.

    :param begin: the directory before the run that is disturbed.
    """
    for fault in faults:
        root = bench.work / "run"
        shutil.rmtree(root, ignore_errors=True)
        same(begin or bench.before, root)
        disturb(bench, root, fault)
        compare(bench, root, fault.name, outcome)


def compare(bench: Bench, root: Path, name: str, outcome: Outcome) -> None:
    """Lets a run end that nothing disturbs, and holds what is there then against what must be."""
    try:
        clean(root, bench.config)
        outcome.take(name, bench.lost(root))
    except RuntimeError as error:
        outcome.take(f"{name}: {error}", bench.lost(root) or -1)


def interrupted(bench: Bench, faults: t.Iterable[Fault]) -> t.Iterator[tuple[Fault, Path]]:
    """Directories in which a run was killed while it exchanged files, each under the same name."""
    root = bench.work / "interrupted"
    for fault in faults:
        shutil.rmtree(root, ignore_errors=True)
        copy(bench.before, root)
        disturb(bench, root, fault)
        if (root / ".metrics-cleanup.intent").exists():
            yield fault, root
