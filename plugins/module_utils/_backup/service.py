# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The service whose data are restored, as something that can be stopped and started; and who else uses them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import typing as t
from pathlib import Path

from .._http import first_line
from .._systemd import Unit, show_units

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class NotDone(Exception):
    """A service did not stop or start, a clause that says why."""


class Service(t.Protocol):
    def is_running(self) -> bool: ...

    def stop(self) -> None:
        """Returns once it has ended.

        :raises NotDone: where it goes on.
        """

    def start(self) -> None:
        """Returns once it is started; ready it may be later.

        :raises NotDone: where it cannot be.
        """

    def ended(self) -> str:
        """Why what was started last is not there any more, a clause, also where another one was started instead.

        Empty while it runs.
        """


class Systemd:
    """:param unit: such as ``prometheus.service``. :param timeout: seconds that systemd may take."""

    def __init__(self, unit: str, timeout: float = 300.0) -> None:
        self.unit = unit
        self._timeout = timeout

    def is_running(self) -> bool:
        return _is_up(self._show())

    def stop(self) -> None:
        self._systemctl("stop")
        unit = self._show()
        if _is_up(unit):
            raise NotDone(f"systemctl stop {self.unit} is done, and {unit}; what starts it again?")

    def start(self) -> None:
        # Of a unit that failed before, the limit of starts is not what is meant; and the restarts count anew.
        self._systemctl("reset-failed", check=False)
        self._systemctl("start")

    def ended(self) -> str:
        unit = self._show()
        is_first = _is_up(unit) and not unit.restarts and unit.sub != "auto-restart"
        return "" if is_first else f"{unit}; journalctl -u {self.unit} has its words"

    def _show(self) -> Unit:
        shown = show_units([self.unit], self._timeout)
        if isinstance(shown, str):
            raise NotDone(f"{self.unit} cannot be asked: {shown}")
        return shown[self.unit]

    def _systemctl(self, verb: str, check: bool = True) -> None:
        command = ["systemctl", verb, "--", self.unit]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, "LC_ALL": "C"},
                timeout=self._timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotDone(f"systemctl {verb} {self.unit}: {error}") from error
        if check and done.returncode:
            said = first_line(done.stderr.decode("utf-8", "replace"))
            raise NotDone(f"systemctl {verb} {self.unit} ended with {done.returncode}: {said}")


def _is_up(unit: Unit) -> bool:
    return unit.active in ("active", "activating", "reloading")


def holder(directory: Path) -> str:
    """A process that has something of a data directory open, a clause; empty where there is none.

    A server always has its write-ahead log open, in whatever name space and under whatever name. Blocks count by
    their names only: whoever looks at a snapshot has the same files open.
    """
    known = _outside_of_blocks(directory)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # It may end in this moment.
        with contextlib.suppress(OSError):
            for handle in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    status = handle.stat()
                    if (status.st_dev, status.st_ino) in known or os.readlink(handle).startswith(f"{directory}/"):
                        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                        return f"process {process.name} ({name})"
    return ""


def _outside_of_blocks(directory: Path) -> set[tuple[int, int]]:
    """Device and inode of every file and directory there that is of no block."""
    found = set()
    for above, names, files in os.walk(directory):
        if above == str(directory):
            names[:] = [name for name in names if not is_block(name)]
        for name in (*names, *files):
            # One that is ending still removes some.
            with contextlib.suppress(FileNotFoundError):
                status = Path(above, name).lstat()
                found.add((status.st_dev, status.st_ino))
    return found


def is_block(name: str) -> bool:
    """Whether something of this name in a data directory is a block."""
    return bool(_ULID.fullmatch(name))
