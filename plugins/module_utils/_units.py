# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Durations and sizes as people write them, and back.

Units are those of Prometheus' flags, with its meaning: a year has 365 days, and a size grows by 1024 (``10GB`` and
``10GiB`` are the same). A number without a unit is refused, since a retention of ``30`` may mean anything; only ``0``
needs none.
"""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365 * 86400.0}
_BYTES: dict[str, int] = {f"{prefix}B": 1024**power for power, prefix in enumerate(("", "K", "M", "G", "T", "P", "E"))}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdwy])\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)i?B", re.IGNORECASE)


def duration(text: str) -> float:
    """Seconds in ``30d``, ``1h30m``, ``1.5h``, ``250ms`` or ``0``.

    :raises ValueError: names the value and what would do.
    """
    written = text.strip()
    parts = list(_DURATION.finditer(written))
    # A unit that comes twice is a slip of the pen, not a sum.
    units = {part.group(2) for part in parts}
    if written == "0":
        return 0.0
    if not parts or "".join(part.group() for part in parts) != written or len(units) != len(parts):
        raise ValueError(f"{text!r} is no duration; 30d, 12h, 1h30m or 90s would do (units {', '.join(_SECONDS)})")
    return sum(float(part.group(1)) * _SECONDS[part.group(2)] for part in parts)


def size(text: str) -> int:
    """Bytes in ``10GB``, ``512MiB``, ``1.5 TB`` or ``0``.

    :raises ValueError: names the value and what would do.
    """
    written = text.strip()
    found = _SIZE.fullmatch(written)
    if written == "0":
        return 0
    if not found:
        raise ValueError(f"{text!r} is no size; 10GB, 512MB or 4096B would do (units {', '.join(_BYTES)})")
    return round(float(found.group(1)) * _BYTES[f"{found.group(2).upper()}B"])


def human_duration(seconds: float) -> str:
    """Two units at most: ``3 d 4 h``, ``2 min 5 s``, ``3.2 s``, ``214 ms``."""
    if seconds < 0:
        return f"-{human_duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    # Rounded to the smaller of the two units that are shown, so that it never says 60 s.
    steps = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
    large, large_name, small, small_name = next(
        step for step in steps if round(seconds / step[2]) * step[2] >= step[0] or step[0] == 60
    )
    whole, rest = divmod(round(seconds / small) * small, large)
    return f"{whole} {large_name}" + (f" {rest // small} {small_name}" if rest else "")


def human_size(count: float) -> str:
    """``12.3 GiB``, in the unit that gives one to four digits before the point."""
    if count < 0:
        return f"-{human_size(-count)}"
    for name, factor in _BYTES.items():
        if count < 999.95 * factor or name == "EB":
            return f"{count / factor:.1f} {name if factor == 1 else name[0] + 'iB'}".replace(".0 ", " ")
    raise AssertionError("the last unit takes every size")
