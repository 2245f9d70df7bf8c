# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How far the threshold of an alert is from what is normal, and what another one would have done.

Of a rule ``LEFT > 10`` the values of LEFT are sampled for their quantiles, over the window and all series. Then each
evaluation of the window is replayed: for that the server is asked for the values beyond the loosest of the thresholds
alone, in chunks, so that an answer stays small however long the window is. What it recorded itself (``ALERTS``) proves
or disproves the replay.

Sources: the runbook's "Quarterly Maintenance";
https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

from __future__ import annotations

import array
import concurrent.futures
import dataclasses
import json
import math
import time
import typing as t

from ..._finding import Finding
from ..._http import HttpError
from ..._prometheus import Prometheus, Rule, Series
from ..._units import human_duration
from .. import nearest, not_known, not_prometheus, part
from ..language import promql
from ..language.promql import Comparison
from . import replay
from .alerts import EVALUATION_SECONDS, HISTOGRAM_PARTS
from .replay import Span, Waits
from .threshold_story import CHECK, Firings, Labels, Proposal, Story, proposal, share, short, told

# Evaluations of one range query (the server allows 11,000), and values in one answer.
MOST_STEPS = 10_000
LEAST_STEPS = 500
CHUNK_VALUES = 100_000
# What one rule may ask for: moments at which series are counted, moments and values that are sampled, evaluations that
# are replayed, and values beyond the loosest threshold.
COUNTED = 24
SAMPLED = 5000
SAMPLED_VALUES = 200_000
EVALUATIONS = 250_000
VALUES = 2_000_000
AT_ONCE = 2


class _Late(Exception):
    """The time that the whole look may take is over."""


class _Unknown(Exception):
    """Why it cannot be told, as a clause."""


@dataclasses.dataclass(frozen=True)
class Options:
    """
    :param window: seconds of the past.
    :param names: alerts to look at, and ``groups`` likewise; all where both are empty.
    :param proposals: thresholds to try, by the name of the alert; one is computed where there is none.
    :param margin: how far a computed threshold lies beyond P99, as a share of the distance from P50 to P99.
    :param notable: seconds; firings at least so long are those that must not be missed.
    :param series: of more at once nothing is replayed.
    :param seconds: that the whole look may take.
    :param not_emitted: metrics that nothing publishes yet, so that a rule on them has no values, and rightly so.
    """

    window: float
    names: t.Sequence[str] = ()
    groups: t.Sequence[str] = ()
    proposals: t.Mapping[str, t.Sequence[float]] = dataclasses.field(default_factory=dict)
    margin: float = 0.5
    notable: float = 300.0
    series: int = 200
    seconds: float = 300.0
    not_emitted: t.Collection[str] = ()


@dataclasses.dataclass(frozen=True)
class Grid:
    """The evaluations of a rule; number 0 is at ``first``, in unix seconds.

    :param start: number of the first one of the window; those before show in which state the alert enters it.
    """

    first: float
    interval: float
    start: int
    count: int

    def at(self, number: int) -> float:
        return self.first + number * self.interval

    def number(self, at: float) -> int:
        return round((at - self.first) / self.interval)


class Look:
    """One look at the thresholds of a server; :meth:`findings` takes it."""

    def __init__(self, client: Prometheus, options: Options) -> None:
        self.client = client
        self.options = options
        self.stories: list[Story] = []
        self._now = 0.0
        self._start = 0.0
        self._fired: set[str] = set()
        self._ends = math.inf
        self._not_emitted = {name + suffix for name in options.not_emitted for suffix in ("", *HISTOGRAM_PARTS)}

    def findings(self) -> list[Finding]:
        address = self.client.server.url
        stranger = not_prometheus(CHECK, self.client)
        if stranger:
            return stranger
        self._ends = time.monotonic() + self.options.seconds
        return part(CHECK, address, self._of_rules)

    def rows(self) -> list[dict[str, t.Any]]:
        """What is known of each rule, in the order of the server."""
        return [story.row() for story in self.stories]

    def _of_rules(self) -> list[Finding]:
        # By the server's own clock, so that a wrong one of this host does not move the window.
        self._now = self.client.query("time()")[0].value
        rules = [rule for rule in self.client.rules() if rule.kind == "alerting"]
        missing = self._missing(rules)
        missing += part("threshold.data", self.client.server.url, self._reach)
        self._fired = set(self.client.label_values("alertname", 'ALERTS{alertstate="firing"}', self._start, self._now))
        chosen = [rule for rule in rules if self._wanted(rule)]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            looked = list(pool.map(self._look, chosen))
        self.stories = [story for story, _findings in looked]
        of_rules = [finding for _story, findings in looked for finding in findings]
        return [self._all(chosen), *missing, *self._without(), *of_rules]

    def _reach(self) -> list[Finding]:
        """How far back the data goes: where it cannot be told, as far as is asked for."""
        self._start = self._now - self.options.window
        oldest = self.client.oldest()
        self._start = max(self._start, oldest if oldest is not None else self._now)
        return []

    def _wanted(self, rule: Rule) -> bool:
        names, groups = self.options.names, self.options.groups
        return not (names or groups) or rule.name in names or rule.group in groups

    def _missing(self, rules: list[Rule]) -> list[Finding]:
        """What is asked for and not there, with what it may have been meant to be."""
        asked = (
            ("alert", [*self.options.names, *self.options.proposals], {rule.name for rule in rules}),
            ("group", self.options.groups, {rule.group for rule in rules}),
        )
        found = []
        for kind, names, known in asked:
            for name in dict.fromkeys(names):
                if name not in known:
                    close = nearest(name, known)
                    hint = f"; near to it are {', '.join(close)}" if close else ""
                    summary = f"No {kind} of the rules is called {name}{hint}."
                    evidence = {"asked": "GET /api/v1/rules", "known": sorted(known)[:50]}
                    found.append(
                        Finding(CHECK, name, "unknown", summary, evidence, "See its spelling, and rule_files.")
                    )
        return found

    def _look(self, rule: Rule) -> tuple[Story, list[Finding]]:
        story = Story(rule)
        try:
            story.comparison = promql.comparison(rule.query)
            story.verdict = "threshold" if story.direction else "state"
        except promql.NoComparison as error:
            story.verdict = "no threshold"
            story.reasons.append(str(error))
            return story, []
        except promql.NotUnderstood as error:
            story.reasons.append(f"its expression is not understood: {error}")
            return story, [told(story, self.options.notable)]
        try:
            self._examine(story, story.comparison)
        except HttpError as error:
            story.verdict = "unknown"
            story.reasons.append(str(error))
            return story, [not_known(CHECK, story.subject, error)]
        except _Late:
            story.verdict = "unknown"
            story.reasons.append(f"the {human_duration(self.options.seconds)} for all rules were over")
        except _Unknown as error:
            story.reasons.append(str(error))
        if story.verdict == "not emitted":
            return story, []
        return story, [told(story, self.options.notable)]

    # What is asked of the server

    def _series(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        if time.monotonic() > self._ends:
            raise _Late
        return self.client.query_range(expression, start, end, step)

    def _examine(self, story: Story, compared: Comparison) -> None:
        rule = story.rule
        interval = rule.interval or EVALUATION_SECONDS
        window = self._now - self._start
        if window < interval:
            story.verdict = "unknown"
            raise _Unknown(f"there is less data than one evaluation every {human_duration(interval)} needs")
        phase = rule.evaluated if rule.evaluated is not None else self._now
        last = phase + math.floor((self._now - phase) / interval) * interval
        counted = self._series(f"count({compared.left})", last - window, last, max(window / COUNTED, interval))
        story.series = round(max((value for series in counted for _at, value in series.points), default=1.0))
        self._sample(story, compared, last, window, interval)
        if not story.values:
            read = {selector.metric for selector in promql.selectors(compared.node)}
            story.verdict = "not emitted" if read & self._not_emitted else "unknown"
            raise _Unknown(f"there is not one value of {compared.left} in {human_duration(window)}")
        if story.series > self.options.series:
            raise _Unknown(
                f"not replayed: it has {story.series} series at once, and {self.options.series} are allowed (series)"
            )
        waits = Waits.of(rule.hold, rule.keep, interval)
        # So many values beyond as one rule may ask for, and some room for the tail and other thresholds.
        fitting = VALUES / max(1.2 * story.series * (story.share_beyond + 0.02), 1.0)
        whole = int(window / interval)
        steps = min(whole, EVALUATIONS, int(fitting))
        before = min(waits.hold + waits.keep + 1, EVALUATIONS)
        grid = Grid(last - (steps + before) * interval, interval, before, steps + before + 1)
        self._replay(story, compared, grid, waits)
        story.replayed_seconds = steps * interval
        if steps < whole:
            story.reasons.append(f"replayed are the last {steps} evaluations, {human_duration(steps * interval)}")

    def _sample(self, story: Story, compared: Comparison, last: float, window: float, interval: float) -> None:
        """Values at evaluations that lie evenly in the window."""
        most = max(min(SAMPLED, SAMPLED_VALUES // story.series), 10)
        story.sample_step = interval * math.ceil(window / interval / most)
        steps = int(window / story.sample_step)
        story.sampled = self._series(compared.left, last - steps * story.sample_step, last, story.sample_step)
        values = [value for series in story.sampled for _at, value in series.points]
        story.values = sorted(value for value in values if not math.isnan(value))
        story.no_numbers = len(values) - len(story.values)
        story.series = max(story.series, len(story.sampled))

    def _replay(self, story: Story, compared: Comparison, grid: Grid, waits: Waits) -> None:
        wanted = self._proposed(story, compared)
        beyond = self._beyond(story, compared, [compared.threshold, *wanted], grid)

        def at(threshold: float) -> Firings:
            spans: dict[Labels, list[Span]] = {}
            for labels, (numbers, values) in beyond.items():
                true = [number for number, value in zip(numbers, values) if compared.holds(value, threshold)]
                fires = replay.clipped(replay.firings(true, waits, grid.count), grid.start)
                if fires:
                    # Series that a label of the rule makes the same go together.
                    spans.setdefault(_own(labels, story.rule), []).extend(fires)
            return Firings(spans, grid.interval)

        story.today = today = at(compared.threshold)
        story.recorded = recorded = self._recorded(story.rule, grid)
        story.only_replayed = today.without(recorded, slack=1).lengths
        story.only_recorded = recorded.without(today, slack=1).lengths
        notable = [length for length in today.lengths if length >= self.options.notable]
        for threshold in wanted:
            fires = at(threshold)
            missed = today.without(fires)
            long = [length for length in missed.lengths if length >= self.options.notable]
            story.proposals.append(Proposal(threshold, fires, missed, fires.without(today), len(notable), long))

    def _proposed(self, story: Story, compared: Comparison) -> list[float]:
        given = list(self.options.proposals.get(story.rule.name, ()))
        if not story.direction:
            if given:
                story.reasons.append("the proposals were not tried: an equality has no threshold that could be moved")
            return []
        if given:
            return given
        value = proposal(story.quantile("p50"), story.quantile(story.tails[1]), story.direction, self.options.margin)
        return [] if value is None or value == compared.threshold else [value]

    def _beyond(
        self, story: Story, compared: Comparison, thresholds: list[float], grid: Grid
    ) -> dict[Labels, tuple[array.array[int], array.array[float]]]:
        """Numbers of the evaluations and values of each series, where they are beyond the loosest threshold."""
        loosest = (min if story.direction >= 0 else max)(thresholds)
        sign = compared.operator
        if story.direction:
            tail = story.quantile(story.tails[1])
            # So the extremes are found too, which sampling may miss; without the value that is always there.
            if story.direction * (loosest - tail) > 0:
                loosest, sign = tail, sign[0]
        asked = Comparison(compared.left, compared.node, sign, loosest)
        expected = max(story.series * share(story.values, asked), 1.0)
        steps = max(min(MOST_STEPS, int(CHUNK_VALUES / expected)), LEAST_STEPS)
        found: dict[Labels, tuple[array.array[int], array.array[float]]] = {}
        size = 0
        for first in range(0, grid.count, steps):
            end = min(first + steps, grid.count) - 1
            expression = f"({compared.left}) {sign} {loosest!r}"
            for series in self._series(expression, grid.at(first), grid.at(end), grid.interval):
                numbers, values = found.setdefault(_labels(series.labels), (array.array("q"), array.array("d")))
                numbers.extend(grid.number(at) for at, _value in series.points)
                values.extend(value for _at, value in series.points)
                size += len(series.points)
            if size > VALUES:
                raise _Unknown(f"not replayed: more than {VALUES} values are beyond {short(loosest)}")
        beyond = [value for _numbers, values in found.values() for value in values if not math.isnan(value)]
        if beyond and story.direction:
            story.extreme = (max if story.direction > 0 else min)(beyond)
        return found

    def _recorded(self, rule: Rule, grid: Grid) -> Firings:
        """What fired by the series that the rule left behind."""
        if rule.name not in self._fired:
            return Firings({}, grid.interval)
        fixed = {key: value for key, value in rule.labels.items() if "{{" not in value}
        wanted = {**fixed, "alertname": rule.name, "alertstate": "firing"}
        selector = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(wanted.items()))
        seen: dict[Labels, list[int]] = {}
        for first in range(grid.start, grid.count, MOST_STEPS):
            end = min(first + MOST_STEPS, grid.count) - 1
            for series in self._series(f"ALERTS{{{selector}}}", grid.at(first), grid.at(end), grid.interval):
                numbers = seen.setdefault(_own(_labels(series.labels), rule), [])
                numbers += [grid.number(at) for at, _value in series.points]
        return Firings(
            {labels: replay.runs(sorted(set(numbers)), grid.count) for labels, numbers in seen.items()}, grid.interval
        )

    # What is said about all of them

    def _all(self, chosen: list[Rule]) -> Finding:
        judged = [story for story in self.stories if story.verdict in ("threshold", "state")]
        unknown = [story for story in self.stories if story.verdict == "unknown"]
        inside = [story for story in judged if story.inside]
        evidence = {
            "asked": "GET /api/v1/rules",
            "window_seconds": self.options.window,
            "data_seconds": round(self._now - self._start, 3),
            "figures": {
                "thresholds": len(judged),
                "thresholds_inside_normal": len(inside),
                "thresholds_unknown": len(unknown),
            },
        }
        subject = "all thresholds"
        if not chosen:
            summary = "There is no alert rule to look at."
            remedy = (
                "See rule_files in prometheus.yml, whose patterns may match nothing, and the names that were asked for."
            )
            return Finding("threshold.rules", subject, "unknown", summary, evidence, remedy)
        window = self._now - self._start
        less = f", though {human_duration(self.options.window)} were asked for"
        reach = f"{human_duration(window)}{less if self.options.window - window > 60 else ''}"
        summary = (
            f"Of {len(chosen)} alert rules {len(judged)} compare with a number, judged by the data of {reach}: "
            f"{len(inside)} of these lie inside what is normal, and of {len(unknown)} more it is not known."
        )
        # What is not known of a rule its own finding says, and what to do about it.
        how_bad = "info" if unknown or less in reach else "ok"
        return Finding("threshold.rules", subject, how_bad, summary, evidence)

    def _without(self) -> list[Finding]:
        """Rules without a threshold, or rightly without values: said once, or for each that was asked for by name."""
        stories = [story for story in self.stories if story.verdict in ("no threshold", "not emitted")]
        named = [story for story in stories if story.rule.name in self.options.names]
        rest = [story for story in stories if story not in named]
        found = [
            Finding(
                CHECK,
                story.subject,
                "unknown",
                f"Of {story.rule.name} no threshold can be told: {story.reasons[0]}.",
                {"query": story.rule.query},
            )
            for story in named
        ]
        if rest:
            names = ", ".join(story.rule.name for story in rest)
            reasons = {story.subject: story.reasons[0] for story in rest}
            summary = f"{len(rest)} alert(s) have no threshold that could be judged: {names}."
            found.append(Finding("threshold.none", "other alerts", "info", summary, {"reasons": reasons}))
        return found


def _labels(labels: dict[str, str]) -> Labels:
    """What tells one alert from another."""
    return tuple(
        sorted(
            (key, value)
            for key, value in labels.items()
            if key not in ("__name__", "alertname", "alertstate") and value
        )
    )


def _own(labels: Labels, rule: Rule) -> Labels:
    """Without those that the rule sets: a series does not have them, or others."""
    kept = {key for key, value in rule.labels.items() if value.replace(" ", "") == f"{{{{$labels.{key}}}}}"}
    return tuple(pair for pair in labels if pair[0] not in rule.labels or pair[0] in kept)
