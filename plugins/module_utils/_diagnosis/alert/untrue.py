# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Why an expression chooses nothing now: which part of it is empty, and why.

The tree is gone down from its top, and each part is evaluated by the server itself: a comparison that is not true, two
sides whose labels do not meet, or a series that is not there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing as t

from ..._finding import Finding
from ..._prometheus import Prometheus, Sample
from ..._units import human_duration
from .. import clock
from ..language import promql
from ..language.promql import Binary, Call, Matching, Node, Number, Selector, Subquery, Text, Unary
from .threshold_story import short

# Moments of the window at which the extreme is looked for, and labels that are shown.
POINTS = 250
SHOWN = 5
_SCALARS = ("time", "scalar", "pi")
_ABSENT = ("absent", "absent_over_time")
_MIRRORED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}
# Which series is nearest to being chosen, of the distance from what it is compared with; and which side it is on.
_NEAREST = {">": ("topk", "below"), ">=": ("topk", "below"), "<": ("bottomk", "above"), "<=": ("bottomk", "above")}


@dataclasses.dataclass(frozen=True)
class Reason:
    """:param said: a clause; ``check`` and the others as in a finding."""

    check: str
    severity: str
    said: str
    evidence: dict[str, t.Any]
    remedy: str


class Emptiness:
    """Asks of one expression why it is empty.

    :param window: seconds of the past in which the extreme of what is compared is looked for.
    :param interval: seconds from one evaluation of the rule to the next.
    :param missing: says why a metric has no sample now.
    """

    def __init__(
        self,
        client: Prometheus,
        text: str,
        now: float,
        window: float,
        interval: float,
        missing: t.Callable[[Selector], Finding],
    ) -> None:
        self.client = client
        self.text = text
        self.now = now
        self.window = window
        self.interval = interval
        self.missing = missing

    def reason(self) -> Reason:
        """
        :raises NotUnderstood: where the expression cannot be read.
        """
        return self._of(promql.parse(self.text))

    def _source(self, node: Node) -> str:
        return self.text[slice(*node.span)]

    def _count(self, node: Node) -> float:
        """How many series a part has now."""
        inner = promql.bare(node)
        text = self._source(inner)
        if isinstance(inner, Subquery) or (isinstance(inner, Selector) and inner.range):
            text = f"count_over_time({text})"
        found = self.client.query(f"count({text})", self.now)
        return found[0].value if found else 0.0

    def _of(self, node: Node) -> Reason:
        node = promql.bare(node)
        if isinstance(node, Selector):
            return self._series(node)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Call) and node.function in _ABSENT:
            of = self._source(node.arguments[0])
            said = f"it asks whether {of} is absent, and that is there"
            return Reason("alert.threshold", "info", said, {"part": self._source(node)}, "Nothing: it is as it should.")
        for below in promql.children(node):
            if not _is_scalar(below) and not self._count(below):
                return self._of(below)
        ranges = [below for below in promql.children(node) if isinstance(below, Selector) and below.range]
        if ranges:
            return self._too_narrow(node)
        said = f"{self._source(node)} gives nothing, though what it reads is there"
        remedy = "Ask for its parts in the page /graph, from the inside out."
        return Reason("alert.expression", "warning", said, {"part": self._source(node)}, remedy)

    def _too_narrow(self, node: Node) -> Reason:
        part = self._source(node)
        said = f"{part} gives nothing, though its metric is there: fewer samples than it needs lie in its window"
        remedy = "Give it a window of at least four scrape intervals."
        return Reason("alert.expression", "warning", said, {"part": part}, remedy)

    def _series(self, selector: Selector) -> Reason:
        if not selector.metric or selector.offset or selector.at is not None:
            said = f"no series is chosen by {self._source(selector)}"
            remedy = "Ask scrape_info for the metric that is meant; see the spelling of its labels."
            return Reason("alert.series", "warning", said, {"part": self._source(selector)}, remedy)
        if selector.range and self.client.query(f"count({plain(selector)})", self.now):
            return self._too_narrow(selector)
        finding = self.missing(selector)
        known = finding.severity if finding.severity != "ok" else "unknown"
        evidence = {**finding.evidence, "part": self._source(selector), "check": finding.check}
        said = f"there is no sample now of what it reads, {finding.summary.rstrip('.')}"
        return Reason("alert.series", known, said, evidence, finding.remedy)

    def _binary(self, node: Binary) -> Reason:
        sides = [side for side in (node.left, node.right) if not _is_scalar(side)]
        if node.operator in ("or", "unless"):
            if node.operator == "unless" and self._count(node.left):
                said = f"each of its series is taken away by `unless {self._source(node.right)}`"
                remedy = "See whether that condition should hold now."
                return Reason("alert.condition", "info", said, {"part": self._source(node)}, remedy)
            return self._of(node.left)
        for side in sides:
            if not self._count(side):
                return self._of(side)
        if node.operator in promql.COMPARISONS and not node.bool_modifier:
            compared = self._compared(node)
            if compared:
                return compared
        return self._join(node)

    # A comparison that is not true

    def _compared(self, node: Binary) -> Reason | None:
        """None where the two sides do not meet at all."""
        left, right, sign = node.left, node.right, node.operator
        if _is_scalar(left):
            left, right, sign = right, left, _MIRRORED[sign]
        number = promql.constant(right)
        value = f"({self._source(left)})"
        minus = "-"
        if left is node.left:
            # With what says which series of the two sides meet.
            minus = self.text[node.left.span[1] : node.right.span[0]].replace(node.operator, "-", 1)
        distance = f"({value} {minus} ({self._source(right)}))"
        pick, where = _NEAREST.get(sign, ("bottomk", "away from"))
        of = f"abs({distance})" if sign in ("==", "!=") else distance
        near = self.client.query(f"{pick}(1, {of})", self.now)
        if not near:
            return None
        against = f"the threshold {short(number)}" if number is not None else self._source(right)
        return self._told(node, near[0], sign, (where, against), number, value)

    def _told(
        self, node: Binary, near: Sample, sign: str, words: tuple[str, str], number: float | None, value: str
    ) -> Reason:
        """:param near: the series that is nearest, with its distance; ``words`` where it is, and of what."""
        where, against = words
        labels = _shown(near.labels)
        of = f"the nearest series, {labels}," if labels else "its value"
        part = self._source(node)
        evidence: dict[str, t.Any] = {"part": part, "query": value, "labels": near.labels}
        check = "alert.threshold"
        remedy = "threshold_info says how often it would have fired at another threshold."
        if math.isnan(near.value):
            said = f"{part} is not true: every value of {value} is no number (NaN), as of a division of 0 by 0"
            remedy = "Let the expression say what no traffic means, such as `... > 0 and` before the division."
            return Reason("alert.threshold", "warning", said, evidence, remedy)
        distance = abs(near.value)
        evidence["figures"] = {"distance": distance}
        if number is None:
            said = f"{part} is not true: {of} is {short(distance)} {where} {against}"
            return Reason(check, "info", said, evidence, remedy)
        if sign in ("==", "!="):
            is_now = f"{short(distance)} {where} {short(number)}" if sign == "==" else short(number)
            return Reason(check, "info", f"{part} is not true: {of} is {is_now}", evidence, remedy)
        evidence["figures"]["value"] = number + near.value
        at = "is at" if not distance else f"is {short(number + near.value)}, {short(distance)} {where}"
        said = f"{part} is not true: {of} {at} {against}{self._extreme(sign, value, evidence)}"
        return Reason(check, "info", said, evidence, remedy)

    def _extreme(self, sign: str, value: str, evidence: dict[str, t.Any]) -> str:
        """The largest value of the window where large ones fire, the smallest where small ones do."""
        of = "max" if sign in (">", ">=") else "min"
        step = max(self.window / POINTS, self.interval)
        points = [
            (reading, at)
            for series in self.client.query_range(f"{of}({value})", self.now - self.window, self.now, step)
            for at, reading in series.points
            if not math.isnan(reading)
        ]
        if not points:
            return ""
        extreme, at = (max if of == "max" else min)(points)
        evidence["figures"]["extreme"] = extreme
        evidence["extreme_sampled_every_seconds"] = round(step, 3)
        word = "highest" if of == "max" else "lowest"
        return f"; the {word} of the last {human_duration(self.window)} was {short(extreme)} at {clock(at)}"

    # Two sides whose labels do not meet

    def _join(self, node: Binary) -> Reason:
        left, right = (self._labels(side) for side in (node.left, node.right))
        matching = node.matching or Matching(False, (), "", ())
        compared = set(matching.labels) if matching.on else ({*left, *right} - set(matching.labels) - {"__name__"})
        apart = []
        for label in sorted(compared):
            ours, theirs = left.get(label, set()), right.get(label, set())
            if ours & theirs:
                continue
            if not ours and not theirs:
                apart.append(f"neither side has {label}")
            elif ours and theirs:
                apart.append(f"{label} is {_values(ours)} on the left and {_values(theirs)} on the right")
            else:
                apart.append(f"only the {'left' if ours else 'right'} side has {label}")
        common = sorted(label for label in {*left, *right} if left.get(label, set()) & right.get(label, set()))
        how = f"by `{'on' if matching.on else 'ignoring'} ({', '.join(matching.labels)})`" if node.matching else ""
        why = f": {'; '.join(apart[:SHOWN])}" if apart else ""
        said = (
            f"both sides of `{node.operator}` have series, and none of the left meets one of the right"
            f"{f' {how}' if how else ''}{why}"
        )
        evidence = {
            "part": self._source(node),
            "labels_left": {label: sorted(values)[:SHOWN] for label, values in left.items()},
            "labels_right": {label: sorted(values)[:SHOWN] for label, values in right.items()},
        }
        remedy = "Let both sides keep the labels by which they belong together"
        named = [label for label in common if label != "__name__"]
        remedy += f"; they share {', '.join(named)}: `{node.operator} on ({', '.join(named)})`." if named else "."
        return Reason("alert.join", "warning", said, evidence, remedy)

    def _labels(self, node: Node) -> dict[str, set[str]]:
        """Labels of a few series of a side, with their values."""
        found: dict[str, set[str]] = {}
        for sample in self.client.query(f"topk(100, {self._source(node)})", self.now):
            for label, value in sample.labels.items():
                if label != "__name__":
                    found.setdefault(label, set()).add(value)
        return found


def plain(selector: Selector) -> str:
    """A selector as a query for its newest samples."""
    texts = [f"{one.label}{one.operator}{json.dumps(one.value, ensure_ascii=False)}" for one in selector.matchers]
    return "{" + ",".join(texts) + "}"


def _is_scalar(node: Node) -> bool:
    node = promql.bare(node)
    if isinstance(node, (Number, Text)):
        return True
    if isinstance(node, Call):
        return node.function in _SCALARS
    if isinstance(node, Unary):
        return _is_scalar(node.expression)
    if isinstance(node, Binary):
        return _is_scalar(node.left) and _is_scalar(node.right)
    return False


def _shown(labels: dict[str, str]) -> str:
    """Labels as a sentence has them."""
    pairs = sorted((key, value) for key, value in labels.items() if key != "__name__")
    text = ", ".join(f"{key}={value}" for key, value in pairs[:SHOWN])
    return f"{{{text}}}" if text else ""


def _values(values: set[str]) -> str:
    return " or ".join(sorted(values)[:3])
