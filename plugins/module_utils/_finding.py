# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What was seen, in one form, by whatever looked.

A finding crosses the wire as a plain dictionary, made by :meth:`Finding.as_dict`.

Two keys of ``evidence`` have a meaning of their own; every other key is free:

``figures``
    ``{name: number}``: what is worth comparing with the reports before. The name ends in its
    unit (``disk_free_bytes``, ``head_series``).
``chart``
    What a person would rather look at than read, one of

    * ``{"kind": "bars", "title", "unit", "bars": [{"label", "value", "limit"?}]}``
    * ``{"kind": "lines", "title", "unit", "lines": [{"label", "points": [[unix seconds, value]],
      "style": "measured" | "forecast"}], "limits": [{"label", "value"}]}``
    * ``{"kind": "timeline", "title", "start", "end",
      "rows": [{"label", "spans": [{"start", "end", "state": "firing" | "pending"}]}]}``
      (times in unix seconds)
"""

from __future__ import annotations

import dataclasses
import typing as t

# From the best to the worst. What could not be asked is worse than a known warning:
# nobody knows what it hides.
SEVERITIES = ("ok", "info", "warning", "unknown", "critical")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and how it is.

    :param check: what was asked, a dotted name that stays the same between runs (``disk.free``).
    :param subject: of what it was asked (``/var/log/njord``, ``njord-dashboard``).
    :param severity: one of :data:`SEVERITIES`.
    :param summary: one sentence that an operator understands.
    :param evidence: figures, the query, the answer: all JSON.
    :param remedy: what to do next, a command or a playbook; empty where nothing is to be done.
    """

    check: str
    subject: str
    severity: str
    summary: str
    evidence: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    remedy: str = ""

    def __post_init__(self) -> None:
        rank(self.severity)

    def as_dict(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


def rank(severity: str) -> int:
    """Place of a severity, 0 for the best.

    :raises ValueError: where it is none of :data:`SEVERITIES`.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity!r} is none of {', '.join(SEVERITIES)}")
    return SEVERITIES.index(severity)


def worst(severities: t.Iterable[str]) -> str:
    """The worst of them; ``unknown`` where there is none: nothing was asked, so nothing is known."""
    ranked = sorted(severities, key=rank)
    return ranked[-1] if ranked else "unknown"
