# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether the ranges of rules hold enough samples, and whether the two sides of an operator can still meet.

A range must hold four scrapes: with fewer, one scrape that fails or is late leaves ``rate`` without its two samples.
The range of a subquery holds evaluations, one a step.

Where metrics of one exporter are scraped by several jobs, their label ``job`` differs, and an operator that compares
all labels finds no partner.

Sources: the audit of the runbook, "fast and slow job on one target";
https://prometheus.io/docs/prometheus/latest/querying/operators/#vector-matching
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..._prometheus import Rule
from ..language.promql import (
    Aggregation,
    Binary,
    Call,
    Matcher,
    Node,
    Number,
    Parentheses,
    Selector,
    Subquery,
    Text,
    Unary,
    bare,
    children,
    selectors,
    walk,
)

LEAST = 4
# They have no value of fewer than two samples.
NEED_TWO = frozenset(["rate", "irate", "increase", "delta", "idelta", "deriv", "predict_linear", "holt_winters"])
_PARTNERLESS = ("or",)
_SETS = ("and", "or", "unless")
_NO_LABELS = ("scalar", "vector", "time", "absent", "absent_over_time")
# What is counted is not seconds; an interval of 15 s and a window of 1m are exactly four.
_CLOSE = 1e-9


@dataclasses.dataclass(frozen=True)
class Window:
    """A range in a rule.

    :param text: as the rule has it.
    :param function: that reads it; empty where none does at once.
    :param selector: whose samples it holds; None for a subquery.
    :param seconds: its length.
    :param step: seconds between the evaluations of a subquery; 0 where the server's own holds, or for a selector.
    """

    rule: Rule
    text: str
    function: str
    selector: Selector | None
    seconds: float
    step: float

    def holds(self, interval: float) -> float:
        """How many samples."""
        return self.seconds / interval

    def is_short(self, interval: float) -> bool:
        return self.holds(interval) < LEAST - _CLOSE

    def has_no_value(self, interval: float) -> bool:
        """Whether there is, for the most part, nothing to read from it."""
        return self.holds(interval) < (2 if self.function in NEED_TWO else 1) - _CLOSE


@dataclasses.dataclass(frozen=True)
class Join:
    """Two sides of an operator that meet by the label ``job`` among others."""

    rule: Rule
    text: str
    left: tuple[Selector, ...]
    right: tuple[Selector, ...]


def windows(rule: Rule, tree: Node) -> list[Window]:
    """All ranges of a rule, in the order of its text."""
    return list(_windows(rule, tree, ""))


def _windows(rule: Rule, node: Node, function: str) -> t.Iterator[Window]:
    if isinstance(node, (Selector, Subquery)) and node.range:
        selector = node if isinstance(node, Selector) else None
        step = node.step if isinstance(node, Subquery) else 0.0
        yield Window(rule, rule.query[slice(*node.span)], function, selector, node.range, step)
    if isinstance(node, Call):
        function = node.function
    elif not isinstance(node, Parentheses):
        function = ""
    for below in children(node):
        yield from _windows(rule, below, function)


def joins(rule: Rule, tree: Node) -> list[Join]:
    """Where both sides have the label ``job`` and only series that agree in it meet."""
    return [
        Join(
            rule,
            rule.query[slice(*node.span)],
            tuple(_carriers(node.left)),
            tuple(_carriers(node.right)),
        )
        for node in walk(tree)
        if isinstance(node, Binary)
        and node.operator not in _PARTNERLESS
        and _matches_job(node)
        and _has_job(node.left)
        and _has_job(node.right)
    ]


def _matches_job(node: Binary) -> bool:
    if node.matching is None:
        return True
    return ("job" in node.matching.labels) == node.matching.on


def _has_job(node: Node) -> bool:
    """Whether its series have the label ``job`` of what was scraped; where that cannot be told, they do not."""
    if isinstance(node, Selector):
        return True
    if isinstance(node, (Number, Text)):
        return False
    if isinstance(node, Aggregation):
        return ("job" in node.labels) != node.without and _has_job(node.expression)
    if isinstance(node, (Parentheses, Unary, Subquery)):
        return _has_job(node.expression)
    if isinstance(node, Call):
        written = node.function in ("label_replace", "label_join") and isinstance(node.arguments[1], Text)
        if node.function in _NO_LABELS or (written and t.cast(Text, node.arguments[1]).value == "job"):
            return False
        return any(_has_job(argument) for argument in node.arguments)
    return isinstance(node, Binary) and _result_has_job(node)


def _result_has_job(node: Binary) -> bool:
    left, right = _has_job(node.left), _has_job(node.right)
    if node.operator in _SETS:
        return left
    if node.matching is None:
        return left or right
    if node.matching.many == "left":
        return left
    if node.matching.many == "right":
        return right
    return left and _matches_job(node)


def _carriers(node: Node) -> list[Selector]:
    """The selectors whose label ``job`` the series of an expression have."""
    node = bare(node)
    if isinstance(node, Binary) and node.operator in ("and", "unless"):
        return _carriers(node.left)
    return selectors(node)


def accepts(matchers: t.Iterable[Matcher], labels: t.Mapping[str, str]) -> bool:
    """Whether a selector reads a series, by those of its labels that are known."""
    return all(_accepts(one, labels[one.label]) for one in matchers if one.label in labels)


def _accepts(matcher: Matcher, value: str) -> bool:
    if matcher.operator in ("=", "!="):
        return (matcher.value == value) == (matcher.operator == "=")
    try:
        fits = re.fullmatch(matcher.value, value) is not None
    except re.error:
        # What only the server's own expressions know: it may be read.
        return True
    return fits == (matcher.operator == "=~")
