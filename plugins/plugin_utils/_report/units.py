# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures as a person reads them. Times are UTC, everywhere on a report."""

from __future__ import annotations

import datetime
import re
import typing as t

# Beyond these a value says nothing, and arithmetic on it may overflow or give zero.
_LARGEST = 1e100
_LATEST = datetime.datetime(9999, 1, 1, tzinfo=datetime.timezone.utc).timestamp()

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_COUNTS = ("", "k", "M", "G", "T", "P", "E")
_DURATIONS = ((86400.0 * 2, 86400.0, "d"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"))
_SMALL_DURATIONS = ((1e-3, 1e3, "ms"), (1e-6, 1e6, "µs"), (0.0, 1e9, "ns"))

# The last words of a figure's name that are its unit.
_UNITS = {
    "bytes": "bytes",
    "seconds": "seconds",
    "ratio": "ratio",
    "percent": "percent",
    "pct": "percent",
    "days": "d",
    "hours": "h",
    "ms": "ms",
    "usd": "USD",
}


def number(value: t.Any) -> float | None:
    """The value as a float that can be drawn; None for what is no number, not finite, or absurdly large."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -_LARGEST <= value <= _LARGEST:
        return None
    return float(value) if abs(value) >= 1 / _LARGEST else 0.0


def instant(value: t.Any) -> float | None:
    """Unix seconds that are a date; None for anything else."""
    seconds = number(value)
    return seconds if seconds is not None and 0 <= seconds < _LATEST else None


def unit_of(name: str) -> str:
    """Unit of a figure by its name: ``disk_free_bytes`` is in bytes."""
    if name.endswith("_timestamp_seconds"):
        return "time"
    return _UNITS.get(name.rsplit("_", 1)[-1], "")


def label_of(name: str) -> str:
    """Name of a figure without its unit, as words: ``disk_free_bytes`` is *disk free*."""
    name = name.removesuffix("_timestamp_seconds")
    head, _underscore, tail = name.rpartition("_")
    return (head if head and tail in _UNITS else name).replace("_", " ")


def _digits(value: float) -> str:
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "\N{MINUS SIGN}") if "e" not in text else text


def _scaled(value: float, base: float, prefixes: tuple[str, ...]) -> str:
    steps = 0
    # 999.5 of one step would be written as 1000 of it.
    while abs(value) >= base * 0.9995 and steps < len(prefixes) - 1:
        value /= base
        steps += 1
    return f"{_digits(value)} {prefixes[steps]}".rstrip()


def _duration(seconds: float) -> str:
    size = abs(seconds)
    if not size:
        return "0 s"
    for least, divisor, name in _DURATIONS:
        if size >= least:
            return f"{_digits(seconds / divisor)} {name}"
    least, factor, name = next(row for row in _SMALL_DURATIONS if size >= row[0])
    return f"{_digits(seconds * factor)} {name}"


def date(seconds: float, pattern: str = "%Y-%m-%d %H:%M") -> str:
    """A UTC date of unix seconds, to the minute unless told."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(pattern)


def human(value: t.Any, unit: str = "") -> str:
    """``human(3221225472, "bytes")`` is ``3 GiB``; what is no number is shown as it stands."""
    drawable = number(value)
    if drawable is None:
        return str(value)
    if unit == "time":
        return date(drawable) if instant(drawable) is not None else str(value)
    if unit == "bytes":
        return _scaled(drawable, 1024, _BYTES)
    if unit == "seconds":
        return _duration(drawable)
    if unit in ("ratio", "percent"):
        return f"{_digits(drawable * (100 if unit == 'ratio' else 1))} %"
    text = _digits(drawable) if abs(drawable) < 1e6 else _scaled(drawable, 1000, _COUNTS)
    return f"{text} {unit}".rstrip()


def change(before: float, after: float, unit: str) -> str:
    """What became of a figure: ``+1.2 GiB``, or ``unchanged``."""
    difference = after - before
    if not difference:
        return "unchanged"
    shown = human(difference, "seconds" if unit == "time" else unit)
    return shown if difference < 0 else f"+{shown}"


def parse_time(value: t.Any) -> datetime.datetime:
    """A moment from RFC 3339 text, or from what YAML made of it: its text says the same.

    A date alone means its last second: what is accepted until a day holds through that day.

    :raises ValueError: where it is neither.
    """
    text = str(value).strip()
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return datetime.datetime.fromisoformat(f"{text}T23:59:59+00:00")
        moment = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"{text!r} is no RFC 3339 time; 2026-10-03T02:15:00Z or, for a whole day, 2026-10-03 would be one"
        )
    return moment
