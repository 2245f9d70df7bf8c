# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a metric before its first message: ``catalogue.yaml``, and defaults for what it does not name."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import typing as t

import yaml


@dataclasses.dataclass(frozen=True)
class Entry:
    """One metric.

    :param type: ``counter``, ``gauge``, ``histogram`` or ``summary``.
    :param unit: of its values (``seconds``, ``usd``, ``ratio``); empty where there is none.
    :param labels: the label names that its emitters are known to use, of which a sample carries some or none.
    :param source: ``emitted`` (Njord publishes it today), ``catalog`` or ``dashboard`` (it only names it); empty for
        a metric that the catalogue does not name.
    :param pace: how fast it changes, by which its scrape interval is chosen: ``fast``, ``slow`` or ``system``; empty
        for a metric that the catalogue does not name.
    :param buckets: upper bounds, ascending, without infinity; empty but for a histogram.
    """

    name: str
    type: str
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    source: str = ""
    pace: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """Its name in OpenMetrics, where the family of a counter lacks the ``_total`` of its sample."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def served_unit(self) -> str:
        """OpenMetrics has a unit stated only where the name ends in it."""
        return self.unit if self.unit and self.family.endswith(f"_{self.unit}") else ""

    @functools.cached_property
    def bucket_labels(self) -> tuple[str, ...]:
        """The values of the label ``le``."""
        return (*(repr(bound) for bound in self.buckets), "+Inf")

    @property
    def served_names(self) -> tuple[str, ...]:
        """Every name that no other metric may have beside it on the page."""
        return tuple(self.family + suffix for suffix in _SUFFIXES[self.type])


_SUFFIXES: t.Final = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
}


class Catalogue:
    """The metrics that are known by name, and the buckets by unit."""

    def __init__(self, document: dict[str, t.Any]) -> None:
        self._buckets: dict[str, tuple[float, ...]] = {
            unit: tuple(float(bound) for bound in bounds) for unit, bounds in document["buckets"].items()
        }
        self.entries: dict[str, Entry] = {}
        for metric in document["metrics"]:
            known = metric | {"labels": tuple(metric["labels"])}
            if metric["type"] == "histogram":
                known["buckets"] = tuple(map(float, metric.get("buckets", self._buckets_of(metric["unit"]))))
            self.entries[metric["name"]] = Entry(**known)

    @classmethod
    def load(cls) -> Catalogue:
        """The one of this distribution."""
        return cls(yaml.safe_load(importlib.resources.files(__package__).joinpath("catalogue.yaml").read_text("utf-8")))

    def entry(self, name: str, metric_type: str) -> Entry:
        """What the catalogue says of ``name``; where it says nothing, what the name and the type let one guess."""
        known = self.entries.get(name)
        if known:
            return known
        unit = next((unit for unit in self._buckets if name.removesuffix("_total").endswith(f"_{unit}")), "")
        buckets = self._buckets_of(unit) if metric_type == "histogram" else ()
        return Entry(
            name, metric_type, "Published on the bus; the metrics catalogue does not name it.", unit, buckets=buckets
        )

    def _buckets_of(self, unit: str) -> tuple[float, ...]:
        return self._buckets.get(unit, self._buckets["default"])
