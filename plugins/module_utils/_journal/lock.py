# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""One thing at a time: a directory is locked itself, and whoever comes meanwhile is told who has it and since when."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import typing as t
from pathlib import Path

# The lease of a host: whoever changes its telemetry has this directory. It is there on every Debian, and anybody may
# open it.
LEASE = "/run/lock"
# A clean-up of a first night takes minutes.
PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 1.0
_UNIT = ".service"


class Busy(Exception):
    """Another run has a directory, a clause that says which."""


@contextlib.contextmanager
def locked(root: str, shared: bool, patience: float = 0.0) -> t.Iterator[None]:
    """No file is needed for that, and the lock ends with its process.

    :param shared: beside others that only look.
    :param patience: seconds that another run is waited for.
    :raises Busy: where another run has it.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(root, handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + patience)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def lease(patience: float = 0.0, tell: t.Callable[[str], None] = lambda _text: None) -> t.Iterator[None]:
    """Backup, restore, clean-up, update and uninstallation of one host exclude each other.

    :param patience: see :func:`locked`.
    :param tell: is told once whom it waits for, a clause.
    :raises Busy: where another one is at work.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(LEASE, shared=False))
        except Busy as error:
            if not patience:
                raise
            tell(f"{error}; waiting for up to {patience:.0f} seconds")
            held.enter_context(locked(LEASE, shared=False, patience=patience))
        yield


def _lock(root: str, handle: int, kind: int, deadline: float) -> None:
    while not _is_ours(handle, kind):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Busy(f"another run has {root}{_holder(os.fstat(handle))}")
        time.sleep(min(_POLL_SECONDS, left))


def _is_ours(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def _holder(status: os.stat_result) -> str:
    """The process that has the lock of a directory, as the kernel lists it."""
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError), Path("/proc/locks").open(encoding="ascii") as file:
        for line in file:
            words = line.split()
            # One that waits has an arrow before its kind.
            if place in words and words[1] == "FLOCK":
                return f": process {words[4]}{_about(Path('/proc', words[4]))}"
    return ""


def _about(process: Path) -> str:
    """What it is, and since when; the unit where it is of one, since that is what an operator knows."""
    with contextlib.suppress(OSError):
        unit = (process / "cgroup").read_text(encoding="utf-8").strip().rpartition("/")[2]
        words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        script = next((word for word in words[1:2] if not word.startswith("-")), words[0])
        since = time.strftime("%H:%M:%S UTC", time.gmtime(_begun(process)))
        return f" ({unit if unit.endswith(_UNIT) else Path(script).name}) since {since}"
    return ""


def _begun(process: Path) -> float:
    """Unix seconds. The times of its directory are those of the first look at it."""
    # The name may hold anything, and ends with the last bracket; the 22nd field is the 20th after it.
    ticks = int((process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
