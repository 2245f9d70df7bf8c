# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Versions, and which Prometheus reads what another one wrote. Pure."""

from __future__ import annotations

import re
import typing as t

Version = t.Tuple[int, int, int]
_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_BUILD = re.compile(r"^\S+, version (\S+)", re.MULTILINE)

# Older versions that read what a newer one of this major version writes, the oldest of each line; a line that is
# older than the first is not among them. Source: the migration guide of Prometheus 3, "TSDB format and downgrade":
# 2.55 and later, and, since the fix of the long-term release, 2.53.5.
_READERS: dict[int, tuple[Version, ...]] = {3: ((2, 53, 5), (2, 55, 0))}


def numbers(version: str) -> Version | None:
    """Of ``2.53.3``, ``2.53.3+ds1`` or ``1:2.53.3+ds1-2``; None where there are none."""
    found = _NUMBERS.search(version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def said(output: str) -> str:
    """The version in what ``--version`` prints; empty where there is none."""
    found = _BUILD.search(output)
    return found[1] if found else ""


def reads(reader: str, writer: str) -> bool:
    """Whether it is documented that one version of Prometheus reads what another one wrote."""
    old, new = numbers(reader), numbers(writer)
    if old is None or new is None:
        return False
    if old[:2] == new[:2] or (old > new and old[0] - new[0] <= 1):
        return True
    known = _READERS.get(new[0], ())
    return any(old >= first and (old[:2] == first[:2] or first == known[-1]) for first in known)
