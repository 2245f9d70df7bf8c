# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What is known of one alert's threshold, and how it is told: quantiles, firings, what another would have done."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ..._finding import Finding
from ..._prometheus import Rule, Series, plain
from ..._units import human_duration
from ..language import promql
from ..language.promql import Comparison
from . import replay
from .replay import Span

CHECK = "threshold.rule"
# Of a chart.
BUCKETS = 60

SHARES = {"p1": 0.01, "p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99, "min": 0.0, "max": 1.0}
# Whither an alert looks, and what is far out there.
UPWARDS = ("p95", "p99", "max")
DOWNWARDS = ("p5", "p1", "min")
# A metric's last word, and the unit of a figure or a chart.
UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "ratio",
    "percent": "percent",
    "pct": "percent",
    "usd": "USD",
}

Labels = t.Tuple[t.Tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Firings:
    """Firings of all series of a rule, in evaluations."""

    spans: dict[Labels, list[Span]]
    interval: float

    @property
    def lengths(self) -> list[float]:
        """In seconds."""
        return [(last - first) * self.interval for spans in self.spans.values() for first, last in spans]

    def without(self, others: Firings, slack: int = 0) -> Firings:
        """Those that no firing of the same series among ``others`` touches."""
        left = {
            labels: replay.unmatched(spans, others.spans.get(labels, []), slack) for labels, spans in self.spans.items()
        }
        return Firings(left, self.interval)

    def row(self) -> dict[str, t.Any]:
        lengths = self.lengths
        return {
            "firings": len(lengths),
            "firing_seconds": round(sum(lengths), 3),
            "longest_seconds": round(max(lengths, default=0.0), 3),
        }


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What another threshold would have done.

    :param missed: today's firings that it has no part of; ``added`` the other way round.
    :param missed_notable: those of the missed that lasted long enough to matter, of ``notable`` in all.
    """

    threshold: float
    firings: Firings
    missed: Firings
    added: Firings
    notable: int
    missed_notable: list[float]

    def row(self) -> dict[str, t.Any]:
        return {
            "threshold": self.threshold,
            **self.firings.row(),
            "missed": len(self.missed.lengths),
            "missed_notable": len(self.missed_notable),
            "missed_longest_seconds": round(max(self.missed.lengths, default=0.0), 3),
            "added": len(self.added.lengths),
        }


@dataclasses.dataclass
class Story:
    """What is known of one rule; a part that is None could not be told, and ``reasons`` says why.

    :param verdict: ``threshold``, ``state`` (an equality: no threshold that could be moved), ``no threshold``,
        ``not emitted`` (nothing publishes its metric, and rightly so) or ``unknown``.
    :param values: sampled ones, in order; ``extreme`` the largest of all evaluations, or the smallest where small
        values fire.
    :param series: at once, at most.
    :param recorded: what the server itself saw fire.
    """

    rule: Rule
    verdict: str = "unknown"
    comparison: Comparison | None = None
    reasons: list[str] = dataclasses.field(default_factory=list)
    sampled: list[Series] = dataclasses.field(default_factory=list)
    sample_step: float = 0.0
    values: list[float] = dataclasses.field(default_factory=list)
    no_numbers: int = 0
    extreme: float | None = None
    series: int = 0
    replayed_seconds: float = 0.0
    today: Firings | None = None
    recorded: Firings | None = None
    only_replayed: list[float] = dataclasses.field(default_factory=list)
    only_recorded: list[float] = dataclasses.field(default_factory=list)
    proposals: list[Proposal] = dataclasses.field(default_factory=list)

    @property
    def subject(self) -> str:
        return f"{self.rule.group}/{self.rule.name}"

    @property
    def direction(self) -> int:
        """1 where large values fire, -1 where small ones do, 0 where it is an equality."""
        sign = self.comparison.operator if self.comparison else ""
        return 1 if sign in (">", ">=") else -1 if sign in ("<", "<=") else 0

    @property
    def tails(self) -> tuple[str, str, str]:
        return DOWNWARDS if self.direction < 0 else UPWARDS

    def quantile(self, name: str) -> float:
        """By a name of :data:`SHARES`."""
        if name == self.tails[2] and self.extreme is not None:
            # Sampling may miss it, and what is found beyond the tail may be less than what is in the sample.
            ends = (self.extreme, self.values[0 if self.direction < 0 else -1])
            return min(ends) if self.direction < 0 else max(ends)
        return replay.quantile(SHARES[name], self.values)

    @property
    def share_beyond(self) -> float:
        """Of the sampled values those that the rule chooses."""
        return share(self.values, self.comparison) if self.comparison and self.values else 0.0

    @property
    def headroom(self) -> float:
        """How far the threshold lies beyond P99 (P1 where small values fire); negative where it lies within."""
        threshold = self.comparison.threshold if self.comparison else math.nan
        return self.direction * (threshold - self.quantile(self.tails[1]))

    @property
    def inside(self) -> bool:
        """Whether one of twenty values is beyond the threshold."""
        return bool(self.direction) and self.share_beyond > 0.05

    @property
    def agrees(self) -> bool | None:
        """Whether the replay and the record tell the same; None where one of them is missing."""
        if self.today is None or self.recorded is None:
            return None
        return not self.only_replayed and not self.only_recorded

    def row(self) -> dict[str, t.Any]:
        """As a module returns it."""
        compared = self.comparison
        quantiles = {name: plain(self.quantile(name)) for name in SHARES} if self.values else {}
        return {
            "name": self.rule.name,
            "group": self.rule.group,
            "file": self.rule.file,
            "query": self.rule.query,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "left": compared.left if compared else "",
            "operator": compared.operator if compared else "",
            "threshold": compared.threshold if compared else None,
            "quantiles": quantiles,
            "samples": len(self.values),
            "sample_step_seconds": self.sample_step,
            "series": self.series,
            "share_beyond": round(self.share_beyond, 6),
            "headroom": plain(self.headroom) if self.values and self.direction else None,
            "replayed_seconds": round(self.replayed_seconds, 3),
            "today": self.today.row() if self.today else None,
            "recorded": self.recorded.row() if self.recorded else None,
            "agrees": self.agrees,
            "only_replayed": len(self.only_replayed),
            "only_recorded": len(self.only_recorded),
            "proposals": [proposal.row() for proposal in self.proposals],
        }


def proposal(normal: float, tail: float, direction: int, margin: float) -> float | None:
    """A threshold beyond the tail by a share of its distance from normal, rounded; None where nothing moves.

    >>> proposal(1.0, 8.04, 1, 0.5)
    12.0
    """
    spread = abs(tail - normal)
    if not spread or not math.isfinite(spread) or margin <= 0:
        return None
    exact = tail + direction * margin * spread
    for digits in range(2, 15):
        rounded = float(f"{exact:.{digits}g}")
        # Not inside the tail, and not moved by more than a quarter of the margin.
        if direction * (rounded - tail) > 0 and abs(rounded - exact) <= spread * margin / 4:
            return rounded
    return exact


def share(values: t.Sequence[float], compared: Comparison) -> float:
    return sum(1 for value in values if compared.holds(value)) / len(values)


def short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.7g}"


def _unit(compared: Comparison) -> str:
    """Of what is compared, where that is a plain metric whose name tells."""
    node = promql.bare(compared.node)
    metric = node.metric if isinstance(node, promql.Selector) else ""
    return "" if metric.endswith("_timestamp_seconds") else UNITS.get(metric.rsplit("_", 1)[-1], "")


def told(story: Story, notable: float) -> Finding:
    """The finding about one rule."""
    rule, compared = story.rule, story.comparison
    evidence: dict[str, t.Any] = {**story.row(), "hold_seconds": rule.hold, "keep_seconds": rule.keep}
    if compared is None or not story.values:
        summary = f"Of the threshold of {rule.name} nothing is known: {'; '.join(story.reasons)}."
        remedy = "See whether the metric is published (alert_info tells), and the spelling." if compared else ""
        return Finding(CHECK, story.subject, "unknown", summary, evidence, remedy)
    evidence["figures"] = _figures(story, compared)
    evidence["chart"] = _chart(story, compared)
    sentences = [f"{rule.name} ({_one_line(rule.query)}): {_normal(story)}"]
    if story.today is not None:
        today = story.today
        sentences += [_fired(story, today), *(_consequence(tried, today, notable) for tried in story.proposals)]
    sentences += [f"{reason[0].upper()}{reason[1:]}." for reason in story.reasons]
    summary = " ".join(sentences)
    if story.today is None:
        return Finding(CHECK, story.subject, "unknown", summary, evidence, _REPLAY_LESS)
    if story.inside and story.today.lengths:
        return Finding(CHECK, story.subject, "warning", summary, evidence, _remedy(story))
    # What was replayed wrongly, or not to the end, proves nothing; and a long `for` may hide what is inside.
    how_bad = "info" if story.agrees is False or story.reasons or story.inside else "ok"
    return Finding(CHECK, story.subject, how_bad, summary, evidence, _remedy(story) if story.proposals else "")


_REPLAY_LESS = "Ask for this rule alone (rules), for a shorter window, or allow more series."


def _remedy(story: Story) -> str:
    return (
        f"Nothing was changed. A threshold is moved in {story.rule.file}, whose rules promtool test rules proves; "
        "weigh what it would have missed."
    )


def _one_line(query: str, most: int = 120) -> str:
    text = " ".join(query.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _normal(story: Story) -> str:
    """One sentence about the values."""
    names = ("p50", *story.tails)
    text = ", ".join(f"{name.upper() if name[0] == 'p' else name} {short(story.quantile(name))}" for name in names)
    if not story.direction:
        return f"{text}; it is a state, and no threshold that could be moved."
    tail = story.tails[1].upper()
    if story.inside:
        return (
            f"{text}; {story.share_beyond:.0%} of the values are beyond the threshold: it lies inside what is normal."
        )
    if story.headroom < 0:
        return f"{text}; the threshold lies {short(-story.headroom)} inside {tail}."
    return f"{text}; the threshold lies {short(story.headroom)} beyond {tail}."


def _fired(story: Story, today: Firings) -> str:
    """One sentence about the firings, and whether the record tells the same."""
    count = len(today.lengths)
    said = f"By replay it fired {count} time(s) in {human_duration(story.replayed_seconds)}"
    if story.agrees is None or story.recorded is None:
        return f"{said}."
    if story.agrees:
        return f"{said}, and so Prometheus recorded it." if count else f"{said}, and Prometheus recorded none."
    parts = [
        f"{len(lengths)} firing(s) are {text}"
        for lengths, text in (
            (story.only_replayed, "in the replay alone"),
            (story.only_recorded, "in the record alone"),
        )
        if lengths
    ]
    return (
        f"{said}, but Prometheus recorded {len(story.recorded.lengths)}: {' and '.join(parts)}. The rule was "
        "changed or not loaded, the server was away, or the data came later; the consequences below are as uncertain."
    )


def _consequence(tried: Proposal, today: Firings, notable: float) -> str:
    """At 8 it would have fired 2 time(s) instead of 37, missing none of the 3 that lasted 5 min or more."""
    before, after = len(today.lengths), len(tried.firings.lengths)
    text = f"At {short(tried.threshold)} it would have fired {after} time(s) instead of {before}"
    limit = human_duration(notable)
    if before and not tried.notable:
        text += f"; none of today's lasted {limit} or more"
    elif tried.missed_notable:
        longest = human_duration(max(tried.missed_notable))
        missed = f"{len(tried.missed_notable)} of the {tried.notable}"
        text += f", missing {missed} that lasted {limit} or more (up to {longest})"
    elif before:
        text += f", missing none of the {tried.notable} that lasted {limit} or more"
    added = len(tried.added.lengths)
    if added:
        text += f"; {added} of them are new"
    return f"{text}."


def _figures(story: Story, compared: Comparison) -> dict[str, float]:
    unit = _unit(compared).lower()
    values = {name: story.quantile(name) for name in ("p50", *story.tails)}
    found = {f"{name}_{unit}" if unit else name: value for name, value in values.items() if math.isfinite(value)}
    found[f"threshold_{unit}" if unit else "threshold"] = compared.threshold
    if story.today is not None:
        found["firings_replayed"] = len(story.today.lengths)
    if story.recorded is not None:
        found["firings_recorded"] = len(story.recorded.lengths)
    return found


def _chart(story: Story, compared: Comparison) -> dict[str, t.Any]:
    """Quantiles over time, against the threshold and those that were tried."""
    points = sorted((at, value) for s in story.sampled for at, value in s.points if math.isfinite(value))
    names = ("p50", story.tails[0], story.tails[2])
    lines: dict[str, list[list[float]]] = {name: [] for name in names}
    if points:
        start = points[0][0]
        width = max((points[-1][0] - start) / BUCKETS, 1.0)
        buckets: dict[int, list[float]] = {}
        for at, value in points:
            buckets.setdefault(int((at - start) / width), []).append(value)
        for number, values in sorted(buckets.items()):
            ordered = sorted(values)
            for name in names:
                middle = start + (number + 0.5) * width
                lines[name].append([round(middle, 3), replay.quantile(SHARES[name], ordered)])
    limits = [{"label": "threshold", "value": compared.threshold}]
    limits += [{"label": "proposed", "value": tried.threshold} for tried in story.proposals[:3]]
    return {
        "kind": "lines",
        "title": f"{story.rule.name}: {compared.left}"[:80],
        "unit": _unit(compared),
        "lines": [{"label": name.upper() if name[0] == "p" else name, "points": lines[name]} for name in names],
        "limits": limits,
    }
