# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The files of journald: which are old, whose entries they hold, and how they go without losing anybody else's.

``journalctl --vacuum-time`` judges an archived file by its *first* entry (seen with systemd 257: a file that began 40
days ago and ended a minute ago goes with ``--vacuum-time=30d``), and takes every unit's entries with it. Here a file is
old when its *last* entry is, and it goes only where every unit in it was named.

Source: https://systemd.io/JOURNAL_FILE_FORMAT/ for the header.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import os
import struct
import subprocess
import typing as t
from pathlib import Path

from ._backup.steps import Step
from ._finding import Finding
from ._http import first_line
from ._journal.exchange import open_files
from ._storage import rfc3339
from ._units import human_duration, human_size

CHECK = "logs.journal"
DIRECTORIES = ("/var/log/journal", "/run/log/journal")
DAY = 86400.0
# Entries that no unit has written.
KERNEL, NO_UNIT = "kernel", "no unit"
ROTATE, REMOVE = "rotate", "remove"
_SIGNATURE = b"LPKSHHRH"
_HEADER_BYTES = 208
# Offsets in the header, and what a file is that journald writes to no more.
_STATE, _ENTRIES, _FIRST, _LAST = 16, 152, 184, 192
_ARCHIVED = 2
_FIELDS = ("_SYSTEMD_UNIT", "_TRANSPORT")
_MOST_NAMED = 10


class NotKnown(Exception):
    """What the journals hold cannot be seen, a clause that says why."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file of journald.

    :param bytes: that it takes on its disk.
    :param is_archived: whether nothing is added to it any more.
    :param entries: how many it has.
    :param first: unix seconds of its first entry, like ``last``; 0 where it has none.
    """

    path: str
    bytes: int
    is_archived: bool
    entries: int
    first: float
    last: float


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What may go.

    :param units: names or patterns of the units whose entries may be lost, with or without ``.service``; ``kernel`` and
        ``no unit`` are what no unit has written.
    :param age: seconds that every entry of a file must be old.
    """

    units: tuple[str, ...]
    age: float

    def allows(self, unit: str) -> bool:
        return any(fnmatch.fnmatchcase(unit, one) or fnmatch.fnmatchcase(unit, f"{one}.service") for one in self.units)


@dataclasses.dataclass(frozen=True)
class Told:
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    before: int
    after: int
    is_changed: bool


def run(wanted: Wanted | None, now: float, is_check: bool, directories: t.Sequence[str] = DIRECTORIES) -> Told:
    """
    :param wanted: None where nothing may go.
    :param now: unix seconds.
    :raises NotKnown: where it cannot be seen what there is; then nothing was removed.
    :raises OSError: where a file cannot be read or removed.
    """
    found = read(directories)
    before = sum(file.bytes for file in found)
    if wanted is None:
        return Told((), (_size(found, before, before),), before, before, False)
    going = old(found, now - wanted.age)
    counted = count(file.path for file in going) if going else {}
    others = {unit: number for unit, number in counted.items() if not wanted.allows(unit)}
    if others:
        return Told((), (_refused(others, wanted, going), _size(found, before, before)), before, before, False)
    steps = plan(going, counted, now)
    if is_check:
        after = before - sum(file.bytes for file in going)
        text = f"{len(going)} files of the journals would go, {human_size(before - after)} of {human_size(before)}."
        return Told(steps, (Finding(CHECK, "journald", "info", text),), before, after, True)
    rotate()
    left = remove(going)
    after = sum(file.bytes for file in read(directories))
    findings = [_done(going, counted, left, before, after), *(_left(path) for path in left)]
    return Told(steps, tuple(findings), before, after, True)


def plan(going: t.Sequence[File], counted: t.Mapping[str, int], now: float) -> tuple[Step, ...]:
    """Pure. What is archived by this very rotation is looked at the next time."""
    reason = f"of {', '.join(sorted(counted))}" if counted else ""
    return (
        Step(ROTATE, "journald", "what is full of old entries some day must end first"),
        *(
            Step(REMOVE, file.path, f"its last entry is {human_duration(now - file.last)} old, {reason}", file.bytes)
            for file in going
        ),
    )


def old(files: t.Iterable[File], before: float) -> list[File]:
    """The archived ones whose every entry is older than a time in unix seconds. Pure."""
    return [file for file in files if file.is_archived and file.entries and file.last < before]


def read(directories: t.Iterable[str]) -> list[File]:
    """Every file of journald, in order of their paths.

    :raises OSError: where one cannot be read.
    """
    found = []
    for directory in directories:
        for path in sorted(Path(directory).rglob("*.journal*")):
            # journald takes some away itself.
            with contextlib.suppress(FileNotFoundError):
                found.append(_read(path))
    return found


def _read(path: Path) -> File:
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        status = os.fstat(file.fileno())
    size = status.st_blocks * 512
    # One that was not ended well (.journal~) may hold more than its header knows: journald clears it away.
    if len(header) < _HEADER_BYTES or not header.startswith(_SIGNATURE) or path.suffix != ".journal":
        return File(str(path), size, False, 0, 0.0, 0.0)
    entries, first, last = (struct.unpack_from("<Q", header, offset)[0] for offset in (_ENTRIES, _FIRST, _LAST))
    return File(str(path), size, header[_STATE] == _ARCHIVED, entries, first / 1e6, last / 1e6)


def count(paths: t.Iterable[str]) -> dict[str, int]:
    """Entries by the unit that wrote them.

    :raises NotKnown: where journalctl cannot read one of the files to its end.
    """
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--output-fields={','.join(_FIELDS)}"]
    command += [f"--file={path}" for path in paths]
    found: dict[str, int] = {}
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        ) as process:
            if process.stdout is None or process.stderr is None:
                raise AssertionError("both are pipes")
            for line in process.stdout:
                unit = unit_of(json.loads(line))
                found[unit] = found.get(unit, 0) + 1
            said = process.stderr.read().decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise NotKnown(f"journalctl cannot say whose entries are old: {error}") from error
    if process.returncode or said.strip():
        raise NotKnown(f"journalctl cannot read the old entries to their end: {first_line(said)}")
    return found


def unit_of(entry: t.Mapping[str, t.Any]) -> str:
    """Pure. :param entry: as ``journalctl --output=json`` has it; a field that comes twice is a list."""
    unit, transport = (entry.get(field) for field in _FIELDS)
    if isinstance(unit, str) and unit:
        return unit
    if isinstance(unit, list):
        return str(unit[0])
    return KERNEL if transport == "kernel" else NO_UNIT


def rotate() -> None:
    """
    :raises NotKnown: where journald does not do it.
    """
    try:
        done = subprocess.run(
            ["journalctl", "--rotate"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotKnown(f"journalctl --rotate: {error}") from error
    if done.returncode:
        said = first_line(done.stderr.decode("utf-8", "replace"))
        raise NotKnown(f"journalctl --rotate ended with {done.returncode}: {said}")


def remove(going: t.Iterable[File]) -> list[str]:
    """Those that have to stay, because a process has them open, or they are not what they were."""
    held, unknown = open_files()
    left = []
    for file in going:
        path = Path(file.path)
        # journald may be faster.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if unknown or (status.st_dev, status.st_ino) in held or _read(path) != file:
                left.append(file.path)
            else:
                path.unlink()
    return left


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"}


def _size(files: t.Sequence[File], before: int, after: int) -> Finding:
    oldest = min((file.first for file in files if file.entries), default=0.0)
    text = f"The journals of this host take {human_size(after)} in {len(files)} files"
    text += f", since {rfc3339(oldest)}; none of them went." if oldest else "; none of them went."
    return Finding(CHECK, "journald", "ok", text, _figures(before, after))


def _refused(others: t.Mapping[str, int], wanted: Wanted, going: t.Sequence[File]) -> Finding:
    most = sorted(others, key=lambda unit: (-others[unit], unit))
    named = ", ".join(f"{unit} ({others[unit]})" for unit in most[:_MOST_NAMED])
    more = f" and {len(most) - _MOST_NAMED} more" if len(most) > _MOST_NAMED else ""
    text = (
        f"No log was removed: {len(going)} files hold nothing younger than {human_duration(wanted.age)}, and among it"
        f" entries of units that you did not name: {named}{more}."
    )
    remedy = "Name them too where their logs may go, or save them first: journalctl -u UNIT -o export."
    return Finding("logs.refused", "journald", "warning", text, {"entries": dict(others)}, remedy)


def _done(
    going: t.Sequence[File], counted: t.Mapping[str, int], left: t.Sequence[str], before: int, after: int
) -> Finding:
    number = len(going) - len(left)
    text = (
        f"The journals were rotated. {number} old files went; {human_size(before)} before, {human_size(after)} after."
    )
    return Finding(CHECK, "journald", "ok", text, {**_figures(before, after), "entries": dict(counted)})


def _left(path: str) -> Finding:
    text = f"{path} is old, and stays: a process has it open, or may have."
    return Finding("logs.left", path, "info", text, {}, f"fuser -v {path} shows which; it goes the next time.")


def _figures(before: int, after: int) -> dict[str, t.Any]:
    return {"figures": {"log_bytes_before": before, "log_bytes_after": after}}
