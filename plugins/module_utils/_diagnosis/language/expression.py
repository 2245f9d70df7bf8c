# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which metrics must exist for an expression to have a value."""

from __future__ import annotations

import dataclasses
import typing as t

from .promql import Binary, Call, Node, NotUnderstood, Selector, parse, walk

_CHOICES = ("or", "unless")
# They make a sample where there is none; those of the calendar only where they are given none.
_FROM_NOTHING = ("absent", "absent_over_time", "scalar", "vector")
_CALENDAR = ("day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year")


@dataclasses.dataclass(frozen=True)
class Needs:
    """Names of metrics without which an expression is empty.

    :param every: each of them is needed; else one of them is.
    """

    metrics: frozenset[str]
    every: bool

    def empty(self, known: t.Collection[str]) -> frozenset[str]:
        """The metrics that keep the expression empty where only ``known`` exist; none where it may have a value."""
        absent = frozenset(metric for metric in self.metrics if metric not in known)
        return absent if self.every or absent == self.metrics else frozenset()


def needs(expression: str) -> Needs | None:
    """None where it cannot be told: a selector without a name, a function that makes samples, or unknown syntax."""
    try:
        nodes = list(walk(parse(expression)))
    except NotUnderstood:
        return None
    metrics = {node.metric for node in nodes if isinstance(node, Selector)}
    if "" in metrics or any(_from_nothing(node) for node in nodes):
        return None
    every = not any(isinstance(node, Binary) and node.operator in _CHOICES for node in nodes)
    return Needs(frozenset(metrics), every)


def _from_nothing(node: Node) -> bool:
    return isinstance(node, Call) and (
        node.function in _FROM_NOTHING or (node.function in _CALENDAR and not node.arguments)
    )
