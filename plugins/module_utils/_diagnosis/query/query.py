# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""One query, and whether what it gave is as it should be.

A sample that is no number (NaN, a native histogram) fulfils no condition: neither is it as it should be, nor is it
surely not what it should not be.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t

from ..._finding import Finding
from ..._http import HttpError, Refused, Unauthorised, Unreachable, Unreadable, Unsupported, first_line
from ..._prometheus import Prometheus, Result, Series, plain
from ..._units import human_duration
from .. import not_known
from ..language.promql import COMPARISONS

CHECK = "query.condition"
# What the server gives at most for one series, and what a report shows.
MOST_POINTS = 11_000
SHOWN = 20
LINES = 6

_WHICH = ("all", "any", "none", "count")
_CONDITION = re.compile(r"\s*([a-z]+)\s*(==|!=|>=|<=|>|<)\s*(\S+)\s*")
_POSITION = re.compile(r"(\d+):(\d+): parse error: (.*)", re.DOTALL)

_PROBLEMS: dict[type[HttpError], str] = {
    Unreachable: "unreachable",
    Unauthorised: "unauthorised",
    Unsupported: "unsupported",
    Unreadable: "unreadable",
}
# How Prometheus and VictoriaMetrics refuse a query that they understood as one.
_REFUSALS = {400: "query", 422: "query", 503: "too_slow"}
_REMEDIES = {
    "query": "Mend the query: promtool promql format reads it without a server.",
    "too_slow": "Ask for less: a shorter range, a longer step, a narrower selector; or give prometheus_timeout.",
}


@dataclasses.dataclass(frozen=True)
class Times:
    """When the expression is evaluated: at one moment, ``end``, where there is neither ``start`` nor ``window``.

    :param start: unix seconds, like ``end``, which is the server's now where it is None.
    :param window: seconds before the end, instead of a start.
    :param step: seconds from one evaluation of a range to the next; a 250th of it where it is None.
    """

    start: float | None = None
    window: float | None = None
    end: float | None = None
    step: float | None = None

    @property
    def ranged(self) -> bool:
        return self.start is not None or self.window is not None

    def steps(self, end: float) -> tuple[float, float]:
        """Start and step of a range.

        :raises ValueError: names the option and what would do.
        """
        start = self.start if self.start is not None else end - (self.window or 0.0)
        if start > end:
            raise ValueError(f"start: it is {human_duration(start - end)} later than the end")
        step = self.step or max((end - start) / 250, 1.0)
        if (end - start) / step >= MOST_POINTS:
            least = human_duration(math.ceil((end - start) / (MOST_POINTS - 1)))
            raise ValueError(f"step: {human_duration(step)} is too short for the range; {least} or more would do")
        return start, step


@dataclasses.dataclass(frozen=True)
class Condition:
    """``all >= 1``, ``any > 5``, ``none == 0`` or ``count == 3``.

    :param which: of :data:`_WHICH`: samples, or how many series there are.
    """

    which: str
    operator: str
    value: float

    def __str__(self) -> str:
        return f"{self.which} {self.operator} {self.value:g}"


def condition(text: str) -> Condition:
    """
    :raises ValueError: names the value and what would do.
    """
    found = _CONDITION.fullmatch(text)
    if found and found.group(1) in _WHICH:
        try:
            value = float(found.group(3))
        except ValueError:
            value = math.nan
        if not math.isnan(value):
            return Condition(found.group(1), found.group(2), value)
    raise ValueError(
        f"{text!r} is no condition; all >= 1, any > 5, none == 0 or count == 3 would do "
        f"(of {', '.join(_WHICH)}, with {', '.join(COMPARISONS)})"
    )


@dataclasses.dataclass(frozen=True)
class Verdict:
    """:param said: a clause that gives the reason."""

    condition: Condition
    met: bool
    said: str


def judge(wanted: Condition, result: Result, allow_empty: bool) -> Verdict:
    """Whether a result fulfils a condition."""
    compare = COMPARISONS[wanted.operator]
    count = len(result.series) + result.histograms
    if wanted.which == "count":
        return Verdict(wanted, compare(count, wanted.value), f"there are {count} series")
    if result.kind == "string":
        return Verdict(wanted, False, "the result is a string")
    if not count:
        return Verdict(wanted, allow_empty, "the result is empty")
    samples = [(value, series) for series in result.series for _at, value in series.points]
    holding: list[tuple[float, Series]] = []
    failing: list[tuple[float, Series]] = []
    for sample in samples:
        (holding if compare(sample[0], wanted.value) and not math.isnan(sample[0]) else failing).append(sample)
    strange = sum(1 for value, _series in samples if math.isnan(value)) + result.histograms
    odd = f" and {strange} of no comparable value" if strange else ""
    if wanted.which == "any":
        best = f", such as {_told(*holding[0])}" if holding else ""
        return Verdict(wanted, bool(holding), f"{len(holding)} of {len(samples)} samples are so{best}")
    if wanted.which == "none":
        worst = f", such as {_told(*holding[0])}" if holding else ""
        return Verdict(wanted, not holding and not strange, f"{len(holding)} samples are so{worst}{odd}")
    worst = f", such as {_told(*failing[0])}" if failing else ""
    met = not failing and not strange
    return Verdict(wanted, met, f"{len(failing)} of {len(samples)} samples are not{worst}{odd}")


def _told(value: float, series: Series) -> str:
    return f"{plain(value)} of {name(series.labels)}" if series.labels else str(plain(value))


def name(labels: dict[str, str], most: int = 80) -> str:
    """A series as PromQL writes it, cut to what fits a line."""
    rest = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != "__name__")
    text = labels.get("__name__", "") + (f"{{{rest}}}" if rest or "__name__" not in labels else "")
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Look:
    """One query and what is to be said about it; :meth:`findings` takes it.

    :param limit: series that are shown and judged at most.
    :param severity: of the finding where a condition is not met.
    :param allow_empty: an empty result is as it should be.
    """

    def __init__(
        self,
        client: Prometheus,
        expression: str,
        times: Times,
        limit: int,
        conditions: t.Sequence[Condition],
        severity: str,
        allow_empty: bool,
    ) -> None:
        self.client = client
        self.expression = expression
        self.times = times
        self.limit = limit
        self.conditions = conditions
        self.severity = severity
        self.allow_empty = allow_empty
        self.result: Result | None = None
        self.verdicts: list[Verdict] = []
        self.truncated = False
        self.problem = ""

    @property
    def met(self) -> bool | None:
        """Whether every condition is met; None where there is none. What could not be asked meets no condition."""
        if not self.conditions:
            return None
        return self.result is not None and not self.truncated and all(verdict.met for verdict in self.verdicts)

    def findings(self) -> list[Finding]:
        """
        :raises ValueError: where the times make no range; names the option.
        """
        subject = first_line(self.expression)
        try:
            self.result = self._ask()
        except HttpError as error:
            return [self._unanswered(subject, error)]
        self.verdicts = [judge(wanted, self.result, self.allow_empty) for wanted in self.conditions]
        return [self._answered(subject, self.result)]

    def rows(self) -> list[dict[str, t.Any]]:
        """The series as a module returns them; values as :func:`plain` has them."""
        found = self.result.series if self.result else []
        if self.result and self.result.kind == "matrix":
            return [{"labels": s.labels, "values": [[at, plain(value)] for at, value in s.points]} for s in found]
        return [{"labels": s.labels, "time": s.points[0][0], "value": plain(s.points[0][1])} for s in found]

    def _ask(self) -> Result:
        # One more than is wanted tells whether there are more.
        most = self.limit + 1
        if self.times.ranged:
            # By the server's own clock, so that a wrong one of this host does not move the range.
            end = self.client.query("time()")[0].value if self.times.end is None else self.times.end
            start, step = self.times.steps(end)
            result = self.client.range_result(self.expression, start, end, step, most)
        else:
            result = self.client.result(self.expression, self.times.end, most)
        self.truncated = len(result.series) > self.limit
        return dataclasses.replace(result, series=result.series[: self.limit])

    def _unanswered(self, subject: str, error: HttpError) -> Finding:
        self.problem = _PROBLEMS.get(type(error), "")
        refused = _REFUSALS.get(error.status or 0, "refused") if isinstance(error, Refused) else ""
        self.problem = refused or self.problem or "unreachable"
        finding = not_known(CHECK, subject, error)
        evidence = {**finding.evidence, "query": self.expression, "problem": self.problem}
        found = _POSITION.search(error.came_back)
        if self.problem == "query" and found:
            line, column, said = int(found.group(1)), int(found.group(2)), found.group(3)
            evidence["position"] = {"line": line, "column": column}
            summary = f"The query cannot be read, at line {line}, column {column}: {said}."
        elif self.problem == "query":
            summary = f"The query cannot be answered: {error.came_back}."
        elif self.problem == "too_slow":
            summary = f"The server gave the query up: {error.came_back}."
        else:
            summary = finding.summary
        return dataclasses.replace(
            finding, summary=summary, evidence=evidence, remedy=_REMEDIES.get(self.problem, finding.remedy)
        )

    def _answered(self, subject: str, result: Result) -> Finding:
        evidence: dict[str, t.Any] = {
            "query": self.expression,
            "result_type": result.kind,
            "figures": {"series": len(result.series)},
            "conditions": [self._row(verdict) for verdict in self.verdicts],
            "samples": self.rows()[:SHOWN] if result.kind != "matrix" else [],
        }
        if result.kind == "matrix" and result.series:
            evidence["chart"] = self._chart(subject, result)
        if len(result.series) == 1 and result.kind != "matrix" and math.isfinite(result.series[0].points[0][1]):
            evidence["figures"]["value"] = result.series[0].points[0][1]
        evidence.update({key: said for key, said in (("warnings", result.warnings), ("infos", result.infos)) if said})
        said = [f"the server warns: {warning}" for warning in result.warnings]
        if result.histograms:
            said.append(f"{result.histograms} series are native histograms, which are not shown")
        if self.truncated:
            said.append(f"there are more than {self.limit} series, and only so many were looked at")
        failed = [verdict for verdict in self.verdicts if not verdict.met]
        if failed:
            reasons = "; ".join([f"{verdict.condition} does not hold: {verdict.said}" for verdict in failed] + said)
            return Finding(CHECK, subject, self.severity, f"{subject}: {reasons}.", evidence)
        caveat = "".join(f"; {reason}" for reason in said)
        if self.truncated and self.conditions:
            remedy = "Give a narrower selector, an aggregation, or a larger limit."
            return Finding(CHECK, subject, "unknown", f"{subject}: not known{caveat}.", evidence, remedy)
        if self.conditions:
            held = " and ".join(str(verdict.condition) for verdict in self.verdicts)
            return Finding(CHECK, subject, "info" if said else "ok", f"{subject}: {held} holds{caveat}.", evidence)
        gave = _gave(result)
        return Finding(CHECK, subject, "info", f"{subject} gives {gave}{caveat}.", evidence)

    def verdict_rows(self) -> list[dict[str, t.Any]]:
        return [self._row(verdict) for verdict in self.verdicts]

    @staticmethod
    def _row(verdict: Verdict) -> dict[str, t.Any]:
        return {"condition": str(verdict.condition), "met": verdict.met, "said": verdict.said}

    @staticmethod
    def _chart(subject: str, result: Result) -> dict[str, t.Any]:
        lines = [
            {"label": name(series.labels, 40), "points": [[at, plain(value)] for at, value in series.points]}
            for series in result.series[:LINES]
        ]
        return {"kind": "lines", "title": subject, "unit": "", "lines": lines}


def _gave(result: Result) -> str:
    if result.kind == "string":
        return repr(result.text)
    if len(result.series) == 1 and result.kind != "matrix":
        return str(plain(result.series[0].points[0][1]))
    return f"{len(result.series) or 'no'} series"
