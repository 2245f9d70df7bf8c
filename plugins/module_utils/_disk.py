# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How full a file system is, and when it will be full."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
from pathlib import Path

from ._finding import Finding
from ._units import human_size, size

# Inodes run out too; these judge them where the thresholds are sizes.
INODES_WARNING, INODES_CRITICAL = 15.0, 5.0
DAY = 86400
# A forecast further ahead than this says more about the arithmetic than about the disk.
HORIZON_DAYS = 3650
CHART_DAYS = 90

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclasses.dataclass(frozen=True)
class Room:
    """How much must be free: a share of the file system in percent, or bytes."""

    percent: float | None = None
    bytes: int | None = None

    def exceeds(self, free_bytes: int, free_percent: float) -> bool:
        """Whether less than this is free."""
        return free_percent < self.percent if self.percent is not None else free_bytes < (self.bytes or 0)


@dataclasses.dataclass(frozen=True)
class Limits:
    """From where on something is a warning, and critical."""

    free_warning: Room
    free_critical: Room
    days_warning: float
    days_critical: float


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """One file system, in bytes as ``df`` counts them.

    :param free_bytes: what is left for those who are not root.
    :param inodes: 0 where the file system makes them as it needs them.
    """

    mount_point: str
    device: int
    total_bytes: int
    used_bytes: int
    free_bytes: int
    inodes: int
    inodes_free: int

    @property
    def free_percent(self) -> float:
        return _share(self.free_bytes, self.used_bytes + self.free_bytes)

    @property
    def inodes_free_percent(self) -> float:
        return _share(self.inodes_free, self.inodes)


def room(text: str) -> Room:
    """``15%`` or ``10GB``.

    :raises ValueError: names the value and what would do.
    """
    percent = _PERCENT.fullmatch(text.strip())
    if percent:
        if float(percent.group(1)) > 100:
            raise ValueError(f"{text!r} is more than all of a file system; 15% or 10GB would do")
        return Room(percent=float(percent.group(1)))
    try:
        return Room(bytes=size(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is neither a share nor a size of a file system; 15% or 10GB would do") from error


def file_system(path: str) -> FileSystem:
    """The one that holds a path.

    :raises OSError: where the path is not there or may not be looked at.
    """
    status, figures = Path(path).stat(), os.statvfs(path)
    above = Path(os.path.realpath(path))
    while above != above.parent and above.parent.stat().st_dev == status.st_dev:
        above = above.parent
    return FileSystem(
        mount_point=str(above),
        device=status.st_dev,
        total_bytes=figures.f_blocks * figures.f_frsize,
        used_bytes=(figures.f_blocks - figures.f_bfree) * figures.f_frsize,
        free_bytes=figures.f_bavail * figures.f_frsize,
        inodes=figures.f_files,
        inodes_free=figures.f_favail,
    )


def free_finding(disk: FileSystem, limits: Limits, remedy: str) -> Finding:
    """
    :param remedy: what to do where too little is free.
    """
    severity = "ok"
    for level, threshold, inodes in (
        ("warning", limits.free_warning, INODES_WARNING),
        ("critical", limits.free_critical, INODES_CRITICAL),
    ):
        wanted = inodes if threshold.percent is None else threshold.percent
        too_few_inodes = disk.inodes > 0 and disk.inodes_free_percent < wanted
        if threshold.exceeds(disk.free_bytes, disk.free_percent) or too_few_inodes:
            severity = level
    figures: dict[str, float] = {
        "disk_total_bytes": disk.total_bytes,
        "disk_free_bytes": disk.free_bytes,
        "disk_free_percent": round(disk.free_percent, 2),
    }
    summary = (
        f"{human_size(disk.free_bytes)} of {human_size(disk.total_bytes)} are free on {disk.mount_point} "
        f"({disk.free_percent:.1f} %)"
    )
    if disk.inodes:
        figures["disk_inodes_free_percent"] = round(disk.inodes_free_percent, 2)
        summary += f", and {disk.inodes_free_percent:.1f} % of its inodes"
    return Finding(
        "disk.free",
        disk.mount_point,
        severity,
        f"{summary}.",
        {"figures": figures},
        remedy if severity != "ok" else "",
    )


def forecast_finding(
    disk: FileSystem,
    by_day: t.Sequence[tuple[int, float]],
    bytes_per_day: float | None,
    days: int,
    guessed: float,
    now: float,
    limits: Limits,
    remedy: str,
) -> Finding:
    """When the disk is full if the journals on it go on growing as they did.

    :param by_day: (start of the UTC day in unix seconds, bytes that came on it), the last one today.
    :param bytes_per_day: mean of the last complete days; None where it is not known.
    :param days: how many these are.
    :param guessed: share of the bytes, from 0 to 1, whose day is that of the file's last change, for want of a better.
    :param now: unix seconds.
    """
    evidence: dict[str, t.Any] = {"chart": _chart(disk, by_day, bytes_per_day or 0.0, now)}
    until_full = days_until_full(disk, bytes_per_day)
    if until_full is None or bytes_per_day is None:
        summary = (
            f"When {disk.mount_point} is full cannot be told: "
            + (f"its journals hold nothing of the last {days} complete days" if days > 1 else _seen(days))
            + "."
        )
        again = "Ask again when two complete days are there" if days < 2 else "See whether the services that write run"
        return Finding("disk.forecast", disk.mount_point, "unknown", summary, evidence, f"{again}.")
    evidence["figures"] = {"disk_growth_bytes_per_day": round(bytes_per_day)}
    if until_full < HORIZON_DAYS:
        evidence["figures"]["disk_until_full_days"] = round(until_full, 1)
    severity = "ok"
    if until_full < limits.days_warning:
        severity = "warning"
    if until_full < limits.days_critical:
        severity = "critical"
    when = f"is full in {until_full:.0f} days" if until_full < HORIZON_DAYS else "is not full within ten years"
    return Finding(
        "disk.forecast",
        disk.mount_point,
        severity,
        f"{disk.mount_point} {when} if its journals grow by {human_size(bytes_per_day)} a day, as over the last {days} "
        "complete days, and nothing is removed."
        + (f" The files' last change stood in for the time of {guessed:.0%} of the bytes." if guessed >= 0.01 else ""),
        evidence,
        remedy if severity != "ok" else "",
    )


def days_until_full(disk: FileSystem, bytes_per_day: float | None) -> float | None:
    """None where there is no growth to reckon with."""
    return disk.free_bytes / bytes_per_day if bytes_per_day else None


def _seen(days: int) -> str:
    return f"its journals show {'one complete day' if days else 'no complete day yet'}, and a growth needs two"


def _chart(
    disk: FileSystem, by_day: t.Sequence[tuple[int, float]], bytes_per_day: float, now: float
) -> dict[str, t.Any]:
    """What is used, reckoned back from today by what came since; and forward by the growth."""
    used = float(disk.used_bytes)
    measured = [[now, used]]
    for start, came in reversed(by_day):
        used = max(used - came, 0.0)
        measured.append([float(start), used])
    lines = [{"label": "used", "points": measured[::-1], "style": "measured"}]
    until_full = days_until_full(disk, bytes_per_day)
    if until_full is not None:
        ahead = min(until_full, CHART_DAYS)
        end = [now + ahead * DAY, disk.used_bytes + ahead * bytes_per_day]
        lines.append({"label": "forecast", "points": [measured[0], end], "style": "forecast"})
    return {
        "kind": "lines",
        "title": f"{disk.mount_point}: used, and the forecast",
        "unit": "bytes",
        "lines": lines,
        "limits": [{"label": "full", "value": disk.used_bytes + disk.free_bytes}],
    }


def _share(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
