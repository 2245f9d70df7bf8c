# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""One step of a plan, as check mode shows it and a run does it."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Step:
    """:param subject: of what, a path or a name. :param reason: why, a clause. :param bytes: that it costs or frees."""

    action: str
    subject: str
    reason: str
    bytes: int = 0


def rows(steps: t.Iterable[Step]) -> list[dict[str, t.Any]]:
    """In plain JSON types."""
    return [dataclasses.asdict(step) for step in steps]


def table(steps: t.Iterable[Step]) -> str:
    """A line for each; nothing where there is none."""
    cells = [(step.action, step.subject, f"{step.bytes:,}" if step.bytes else "", step.reason) for step in steps]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(4)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n" for row in cells)
