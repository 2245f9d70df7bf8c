# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The units of systemd as typed records, all asked at once.

Source: systemctl(1), ``show``; org.freedesktop.systemd1(5) for the properties.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
import typing as t

from ._http import first_line
from ._units import human_duration


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit as ``systemctl show`` has it.

    :param since: unix seconds of its last change of state, like ``started`` of its main process; 0 for never.
    :param cgroup: its path below the mount; empty while nothing of it runs.
    :param memory_max: bytes that it is told to use at most, whether the kernel knows of it or not; 0 for no limit.
    """

    name: str
    load: str
    active: str
    sub: str
    result: str
    restarts: int
    exit_status: int
    pid: int
    since: float
    cgroup: str = ""
    started: float = 0.0
    memory_max: int = 0

    @property
    def runs(self) -> bool:
        return self.active in ("active", "reloading")

    @property
    def installed(self) -> bool:
        return self.load != "not-found"

    def __str__(self) -> str:
        words = [f"unit {self.name} is {self.active} ({self.sub})"]
        if self.load not in ("loaded", "not-found"):
            words.append(f"its file is {self.load}")
        if self.result != "success":
            words.append(f"{self.result}, exit status {self.exit_status}")
        if self.restarts:
            words.append(f"restarted {self.restarts} times")
        if self.since:
            words.append(f"since {human_duration(time.time() - self.since)}")
        return ", ".join(words)


_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "ExecMainStatus",
    "MainPID",
    "StateChangeTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "ControlGroup",
    "MemoryMax",
)


def show_units(names: t.Iterable[str], timeout: float) -> dict[str, Unit] | str:
    """The units by their names, or why they could not be asked."""
    wanted = list(dict.fromkeys(names))
    done = _systemctl(["show", f"--property={','.join(_PROPERTIES)}", "--", *wanted], timeout)
    if isinstance(done, str):
        return done
    blocks = done.stdout.decode("utf-8", "replace").strip().split("\n\n")
    # The blocks come in the order of the names, and without them.
    rows = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    if done.returncode or len(rows) != len(wanted) or not all(row.get("ActiveState") for row in rows):
        said = first_line(done.stderr.decode("utf-8", "replace")) or first_line(blocks[0])
        return f"systemctl ended with {done.returncode}: {said}"
    booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    return {name: _shown(name, row, booted) for name, row in zip(wanted, rows)}


def matching(pattern: str, timeout: float) -> list[str] | str:
    """Services that run, or failed, and whose names match (``njord-*``); or why they could not be asked."""
    done = _systemctl(["list-units", "--type=service", "--plain", "--no-legend", "--", pattern], timeout)
    if isinstance(done, str):
        return done
    if done.returncode:
        return f"systemctl ended with {done.returncode}: {first_line(done.stderr.decode('utf-8', 'replace'))}"
    rows = [line.split() for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return [row[0] for row in rows if len(row) > 1 and row[1] == "loaded"]


def _systemctl(words: list[str], timeout: float) -> subprocess.CompletedProcess[bytes] | str:
    """What it did, or why it could not be asked."""
    try:
        return subprocess.run(
            ["systemctl", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        return "there is no systemctl on this host"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def _shown(name: str, row: t.Mapping[str, str], booted: float) -> Unit:
    def number(key: str) -> int:
        return int(row.get(key) or 0)

    def moment(key: str) -> float:
        return booted + number(key) / 1e6 if number(key) else 0.0

    most = row.get("MemoryMax", "")
    return Unit(
        name=name,
        load=row["LoadState"],
        active=row["ActiveState"],
        sub=row.get("SubState", ""),
        result=row.get("Result") or "success",
        restarts=number("NRestarts"),
        exit_status=number("ExecMainStatus"),
        pid=number("MainPID"),
        since=moment("StateChangeTimestampMonotonic"),
        cgroup=row.get("ControlGroup", ""),
        started=moment("ExecMainStartTimestampMonotonic"),
        # Without a limit it says infinity.
        memory_max=int(most) if most.isdecimal() else 0,
    )
