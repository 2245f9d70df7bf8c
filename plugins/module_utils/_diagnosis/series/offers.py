# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What ends the label sets of a metric: each way with its text to paste, what it saves, and what would miss it.

The first one is what we would do. A label is only ever taken from the one metric, and only where no two series become
the same, which would lose samples in silence; elsewhere the series go, or the publisher is to be mended.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..._units import human_size
from . import relabelling
from .label_sets import BOUNDED_LABELS, Metric, values_pattern
from .readers import Reader
from .series_cost import DAY, Prices

EMPTY, DROP_VALUES, DROP, PUBLISH = "take the label away", "drop such series", "drop the metric", "publish fewer labels"
SHOWN = 20
NAMED = 3


@dataclasses.dataclass(frozen=True)
class Ground:
    """What is the same for all metrics.

    :param prices: None where they could not be asked; like ``readers``, of which ``not_read`` says what is missing.
    :param scraped: seconds between two scrapes, by the jobs that targets have.
    :param recorded: names that recording rules make.
    """

    prices: Prices | None
    scraped: t.Mapping[str, float]
    recorded: frozenset[str]
    readers: t.Sequence[Reader]
    not_read: t.Sequence[str]


@dataclasses.dataclass(frozen=True)
class Offer:
    """One way.

    :param way: :data:`EMPTY`, :data:`DROP_VALUES`, :data:`DROP` or :data:`PUBLISH`.
    :param text: for a scrape job of prometheus.yml; empty where relabelling does not do it.
    :param left: label sets that are left of those of now; None where that is not known.
    :param saves: series of the head, bytes and samples; what is not known is None.
    :param misses: who reads what it takes away, or may.
    """

    way: str
    text: str
    advice: str
    left: int | None
    saves: dict[str, float | None]
    misses: list[str]

    def row(self) -> dict[str, t.Any]:
        return {
            "way": self.way,
            "relabelling": self.text,
            "label_sets_left": self.left,
            **self.saves,
            "misses": self.misses[:SHOWN],
        }


def offers(metric: Metric, ground: Ground) -> list[Offer]:
    """The one that we would take first."""
    name = metric.family.name
    if name in ground.recorded:
        advice = f"It comes from a recording rule: aggregate {name} in its expression by fewer labels."
        return [_offer(metric, ground, PUBLISH, "", advice, metric.without if metric.blamed else None)]
    place = relabelling.scrape_job(metric.jobs, ground.scraped)
    pattern = relabelling.family_pattern(name, metric.family.counted != name)
    drop = _offer(
        metric,
        ground,
        DROP,
        relabelling.drop_names([pattern], place),
        f"Drop {name} as a whole where nobody needs it.",
        0,
    )
    first = metric.first_blamed
    if first is None:
        largest = " x ".join(f"{label.name} ({label.values})" for label in metric.labels[:3])
        advice = (
            f"No label without end makes them, but their combination: {largest}. Publish {name} with fewer labels, or "
            "raise the limit where every combination is wanted; relabelling cannot add series up."
        )
        return [_offer(metric, ground, PUBLISH, "", advice, None), drop]
    labels = " and ".join(metric.blamed)
    source = f"Publish {name} without {labels}; bounded labels are {', '.join(BOUNDED_LABELS)}."
    publish = _offer(metric, ground, PUBLISH, "", source, metric.without)
    if metric.active and metric.without == metric.active and not metric.merging:
        when = "today" if metric.merging is None else "now, nor in the last hour"
        advice = (
            f"{source} Until then the relabelling in the evidence empties the label on this metric only. No two series "
            f"become the same {when}, so nothing is lost but the label; a counter then shows a reset where one value "
            f"follows another. See afterwards that there are still {metric.active} label sets: no metric of Prometheus "
            "tells of series that became the same."
        )
        text = relabelling.empty_labels(pattern, metric.blamed, place)
        return [_offer(metric, ground, EMPTY, text, advice, metric.without), publish, drop]
    which = f"such values of {first.name} ({first.pattern})" if first.pattern else f"any value of {first.name}"
    advice = (
        f"{source} Until then the relabelling in the evidence drops each of its series with {which}: rules and "
        f"dashboards on {name} then see only the others. Dropping the label instead would make series the same, of "
        "which Prometheus keeps one at random."
    )
    text = relabelling.drop_values(pattern, first.name, values_pattern(first), place)
    left = None if metric.active is None or metric.bearing is None else metric.active - metric.bearing
    return [_offer(metric, ground, DROP_VALUES, text, advice, left), publish, drop]


def _offer(metric: Metric, ground: Ground, way: str, text: str, advice: str, left: int | None) -> Offer:
    # Who only counts or adds up does not miss a label that it does not name.
    labels = metric.blamed if way in (EMPTY, PUBLISH) else []
    misses = []
    if way != PUBLISH or labels:
        for reader in ground.readers:
            certainty = reader.certainty(metric.names)
            if certainty and (not labels or reader.names_a_label(labels)):
                misses.append(f"{reader.who}{'' if certainty == 'reads' else ' (perhaps)'}")
    return Offer(way, text, advice, left, _saves(metric, ground, left), misses)


def _saves(metric: Metric, ground: Ground, left: int | None) -> dict[str, float | None]:
    prices = ground.prices
    series = None if left is None else max(0.0, metric.family.series - left * metric.parts)
    samples: float | None = None
    if left == 0:
        samples = metric.samples
    elif metric.samples is not None and metric.active and left is not None:
        samples = metric.samples * max(0.0, 1 - left / metric.active)
    memory = None if series is None or prices is None or prices.series is None else series * prices.series
    disk = None if samples is None or prices is None or prices.sample is None else samples * DAY * prices.sample
    return {
        "saves_series": None if series is None else round(series),
        "saves_samples_per_second": None if samples is None else round(samples, 3),
        "saves_memory_bytes": None if memory is None else round(memory),
        "saves_disk_bytes_per_day": None if disk is None else round(disk),
    }


def saved(offer: Offer) -> str:
    """A sentence; empty where nothing is known."""
    if offer.saves["saves_series"] is None:
        return ""
    said = [f"{offer.saves['saves_series']:.0f} series"]
    for name, unit in (
        ("saves_memory_bytes", "of memory at most"),
        ("saves_disk_bytes_per_day", "of disk a day"),
    ):
        size = offer.saves[name]
        if size is not None:
            said.append(f"{human_size(size)} {unit}")
    samples = offer.saves["saves_samples_per_second"]
    if samples is not None:
        said.append(f"{samples:.3g} samples a second" if samples < 1000 else f"{samples:.0f} samples a second")
    return f" It saves {', '.join(said)}."


def missed(offer: Offer, ground: Ground) -> str:
    """A sentence about who would miss what an offer takes away; empty where it takes nothing by itself."""
    if not offer.text:
        return ""
    unread = f" ({'; '.join(ground.not_read)})" if ground.not_read else ""
    if not offer.misses:
        known = "rule" if ground.not_read else "rule or dashboard"
        return f" No {known} reads what it takes away{unread}."
    rest = len(offer.misses) - NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return f" Look first at who reads what it takes away: {', '.join(offer.misses[:NAMED])}{more}{unread}."
