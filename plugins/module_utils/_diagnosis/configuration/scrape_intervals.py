# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Scrape intervals against the runbook's table, and the split of the exporter's jobs that would bring them into it.

A metric that lies in its row stays as it is: the proposal for what is in force is what is in force. "Historical
aggregates" have no row here: what is scraped every five minutes has gaps, as Prometheus shows no sample that is older,
so that they are a matter of recording rules.

Source: the runbook's "Scrape Interval Optimization".
"""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

from .name_filter import language

# The job of all that has no interval of its own; the others have its name and theirs.
JOB = "njord_quant"
# In the place of all metrics that no interval is named for.
REST = "other metrics of the exporter"
# As the role prometheus has them.
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_created")


@dataclasses.dataclass(frozen=True)
class Row:
    """:param title: as the runbook has it. :param least: seconds, like ``most``."""

    title: str
    least: float
    most: float

    def has(self, interval: float) -> bool:
        return self.least <= interval <= self.most

    def nearest(self, interval: float) -> float:
        return min(max(interval, self.least), self.most)


ROWS = {
    "fast": Row("fast-changing (fills, orders)", 5.0, 15.0),
    "slow": Row("slow-changing (P&L, positions)", 30.0, 60.0),
    "system": Row("system health", 15.0, 30.0),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """Metrics with an interval of their own. :param interval: seconds."""

    interval: float
    metrics: frozenset[str]


Split = t.Dict[str, Entry]


@dataclasses.dataclass(frozen=True)
class Proposal:
    """
    :param split: by name of the interval; its metrics without ``_total``.
    :param left: why a metric stays outside of its row, by its name: a clause.
    """

    split: Split
    left: dict[str, str]


def base(name: str) -> str:
    """What the names of all series of a metric begin with."""
    return name[: -len("_total")] if name.endswith("_total") else name


def family(name: str) -> list[str]:
    """The names that series of a metric may have."""
    return [base(name) + suffix for suffix in SUFFIXES]


def assigned(split: Split) -> dict[str, str]:
    """The name of its interval by metric."""
    return {metric: name for name, entry in split.items() for metric in entry.metrics}


def interval_of(metric: str, split: Split, rest: float) -> float:
    """:param rest: seconds, of all that have no interval of their own."""
    name = assigned(split).get(base(metric))
    return split[name].interval if name else rest


def of_keep(pattern: str) -> frozenset[str] | None:
    """The metrics that the filter of a job keeps with their families; None where it is not as the role writes it."""
    names = language(pattern)
    if not names:
        return None
    found = frozenset(name for name in names if all(name + suffix in names for suffix in SUFFIXES))
    return found if {name + suffix for name in found for suffix in SUFFIXES} == names else None


def propose(
    paces: t.Mapping[str, str],
    split: Split,
    rest: float,
    wishes: t.Mapping[str, float],
    limits: t.Mapping[str, float],
    together: t.Sequence[t.AbstractSet[str]],
) -> Proposal:
    """
    :param paces: the metrics that are there, without ``_total``, with their key of :data:`ROWS`.
    :param split: what is in force, or what the inventory says.
    :param rest: seconds between the scrapes of all others.
    :param wishes: seconds that metrics of a row shall have, and no others of it.
    :param limits: the most seconds that the windows of rules bear, by metric.
    :param together: metrics that rules join by their job.
    """
    intervals = _chosen(paces, split, rest, wishes)
    before = assigned(split)
    after = dict(before)
    left = {}
    for metric, pace in sorted(paces.items()):
        now = intervals[before[metric]] if metric in before else rest
        wanted = intervals[pace]
        if now == wanted or (pace not in wishes and ROWS[pace].has(now)):
            continue
        if wanted <= limits.get(metric, wanted):
            after[metric] = pace
            continue
        left[metric] = f"a rule reads it over a range that bears {limits[metric]:g} s at most"
        if now > limits[metric]:
            after.pop(metric, None)
    left.update(_rejoined(after, before, together))
    found: Split = {}
    for name in sorted(set(after.values())):
        # What would be scraped as all others are needs no job of its own.
        if name not in ROWS or intervals[name] != rest:
            metrics = frozenset(metric for metric, entry in after.items() if entry == name)
            found[name] = Entry(intervals[name], metrics)
    return Proposal(found, left)


def _chosen(paces: t.Mapping[str, str], split: Split, rest: float, wishes: t.Mapping[str, float]) -> dict[str, float]:
    """Seconds by name of an interval: as wished, as somebody chose it for metrics of that row, or the nearest."""
    found = {name: entry.interval for name, entry in split.items()}
    for pace, row in ROWS.items():
        own = split.get(pace)
        is_chosen = own and row.has(own.interval) and any(paces.get(metric, pace) == pace for metric in own.metrics)
        found[pace] = wishes.get(pace, own.interval if own and is_chosen else row.nearest(rest))
    return found


def _rejoined(
    after: dict[str, str], before: t.Mapping[str, str], together: t.Sequence[t.AbstractSet[str]]
) -> dict[str, str]:
    """Takes back what parts metrics that were together; says of which, and why."""
    left = {}
    parted = True
    # One that is taken back may part others.
    while parted:
        parted = False
        for group in together:
            if len({after.get(metric) for metric in group}) == 1 or len({before.get(metric) for metric in group}) > 1:
                continue
            parted = True
            for metric in group - {REST}:
                after.pop(metric, None)
                if metric in before:
                    after[metric] = before[metric]
                left[metric] = f"a rule joins {' and '.join(sorted(group))} by their job"
    return left


def variable(split: Split, known: t.Mapping[str, str]) -> dict[str, dict[str, t.Any]]:
    """As the role has it in ``prometheus_exporter_intervals``.

    :param known: names of the catalogue, by what they begin with.
    """
    return {
        name: {
            "interval": written(entry.interval),
            "metrics": sorted(known.get(metric, metric) for metric in entry.metrics),
        }
        for name, entry in sorted(split.items())
    }


def text(given: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    """The variable as YAML, for an inventory."""
    if not given:
        return "prometheus_exporter_intervals: {}\n"
    lines = ["prometheus_exporter_intervals:"]
    for name, entry in given.items():
        lines += [f"  {name}:", f"    interval: {entry['interval']}", "    metrics:"]
        lines += [f"      - {metric}" for metric in entry["metrics"]]
    return "\n".join(lines) + "\n"


def change(before: t.Mapping[str, t.Mapping[str, t.Any]], after: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    """From one variable to another, as a unified diff; empty where they are the same."""
    lines = difflib.unified_diff(
        text(before).splitlines(), text(after).splitlines(), "in force", "proposed", lineterm=""
    )
    return "\n".join(lines)


def written(seconds: float) -> str:
    """Seconds as Prometheus and the role read them."""
    return f"{seconds:g}s"
