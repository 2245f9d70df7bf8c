# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""When an alert would have fired: its state from evaluation to evaluation, as Prometheus keeps it.

Evaluations are numbered; one series has one state. An evaluation without a sample is one that is not true: it ends
what is pending, and begins the wait of ``keep_firing_for``.

Source: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

# First evaluation of it, and the first that is no longer of it.
Span = t.Tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Waits:
    """In evaluations: how many pass before it fires (``for``), and before it ends (``keep_firing_for``)."""

    hold: int
    keep: int

    @classmethod
    def of(cls, hold: float, keep: float, interval: float) -> Waits:
        """From seconds: the first evaluation that is not earlier counts."""
        return cls(*(math.ceil(round(seconds * 1000) / round(interval * 1000)) for seconds in (hold, keep)))


def firings(true: t.Iterable[int], waits: Waits, end: int) -> list[Span]:
    """When it fires.

    :param true: the evaluations at which the expression chooses the series, in order.
    :param end: how many evaluations there are; what fires at the last of them ends with it.
    """
    found: list[Span] = []
    last = begun = fires = -1
    for at in true:
        if at > last + 1:
            # Between the two it was not true.
            if fires >= 0 and last + 1 + waits.keep < at:
                found.append((fires, last + 1 + waits.keep))
                fires = -1
            begun = -1
        if begun < 0:
            begun = at
        if fires < 0 and at - begun >= waits.hold:
            fires = at
        last = at
    if fires >= 0:
        found.append((fires, min(last + 1 + waits.keep, end)))
    return found


def runs(true: t.Iterable[int], end: int) -> list[Span]:
    """Evaluations without a gap between, as spans."""
    return firings(true, Waits(0, 0), end)


def unmatched(spans: t.Iterable[Span], others: t.Sequence[Span], slack: int = 0) -> list[Span]:
    """Those that no other touches.

    :param slack: evaluations by which they may miss each other.
    """
    return [span for span in spans if not any(span[0] - slack < b and a < span[1] + slack for a, b in others)]


def clipped(spans: t.Iterable[Span], start: int) -> list[Span]:
    """What of them lies at ``start`` or after it."""
    return [(max(first, start), last) for first, last in spans if last > start]


def quantile(share: float, ordered: t.Sequence[float]) -> float:
    """Of values in order, between two of them in proportion, as ``quantile`` of Prometheus does it."""
    rank = share * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    # Of equal ones the value itself, infinities among them.
    return low if low == high else low + (high - low) * (rank - math.floor(rank))
