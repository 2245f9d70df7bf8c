# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Label sets of a metric: how they are counted, and which label makes them."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .relabelling import PART_SUFFIXES

# What a report shows, and what one question may bring.
VALUES = 10_000
EXAMPLES = 5
# Set by the scrape, so the publisher is not to blame for them.
TARGET_LABELS = ("job", "instance")
# These tell the parts of one observation apart.
PART_LABELS = ("le", "quantile")
# Njord's own: as many values as are traded, and no more.
BOUNDED_LABELS = ("strategy_id", "symbol", "venue", "side", "result")

# What values look like that never end. In the order of trial, in the syntax that Python and RE2 share.
PATTERNS = (
    ("UUIDs", r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"),
    ("dates with a time", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*"),
    ("unix times", r"[12]\d{9}(?:\d{3}){0,3}(?:\.\d+)?"),
    ("numbers", r"\d+"),
    ("hexadecimal ids", r"(?:0x)?[0-9a-fA-F]{8,}"),
    ("network addresses", r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"),
    ("e-mail addresses", r"[^@ ]+@[^@ ]+\.[^@ ]+"),
    ("names with a running number", r"[A-Za-z][A-Za-z_.:#/-]*\d{2,}"),
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Label sets are those of one metric at one target; see ``label_sets`` of :class:`Metric`."""

    label_sets_warning: int
    label_sets_critical: int
    head_series_warning: int

    def severity(self, label_sets: int) -> str:
        if label_sets > self.label_sets_critical:
            return "critical"
        return "warning" if label_sets > self.label_sets_warning else "ok"


@dataclasses.dataclass(frozen=True)
class Family:
    """What was published under one name.

    :param counted: the series name that has one series for each label set.
    :param label_sets: series of ``counted`` in the head.
    :param series: series of all its names in the head.
    """

    name: str
    counted: str
    label_sets: int
    series: int


@dataclasses.dataclass(frozen=True)
class Label:
    """One label of a metric.

    :param values: how many in the head; at least so many where it is :data:`VALUES`.
    :param pattern: name of the one of :data:`PATTERNS` that most values have; empty where none.
    """

    name: str
    values: int
    examples: list[str]
    pattern: str


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric that was looked into.

    :param targets: values of ``instance`` it has in the head, at least 1.
    :param label_sets: at one target, without ``le`` and ``quantile``: their average in the head, or those that the
        target with the most has now, whichever is more.
    :param labels: without those of the target; the one with the most values first.
    :param active: label sets over all targets at this moment; None where there are too many to ask for.
    :param without: how many of them would be left without the labels to blame.
    :param blamed: labels whose values make the label sets; empty where no label alone does.
    :param merging: series that would have become the same as another without the labels to blame, at the worst moment
        of the last hour; None where that is not known.
    :param bearing: how many of ``active`` have a value of the first label to blame that looks like its pattern, or any
        value where it has none; None like ``active``.
    :param busiest: label sets now by job and instance, the most first; empty where they were not counted.
    :param samples: that it is written with each second; None where that is not known.
    """

    family: Family
    targets: int
    label_sets: int
    jobs: list[str]
    labels: list[Label]
    active: int | None
    without: int | None
    blamed: list[str]
    merging: int | None = None
    bearing: int | None = None
    busiest: tuple[tuple[str, str, int], ...] = ()
    samples: float | None = None

    @property
    def first_blamed(self) -> Label | None:
        return next((label for label in self.labels if label.name in self.blamed), None)

    @property
    def names(self) -> set[str]:
        """All that it may be written and read as."""
        name = self.family.name
        return {name} | ({name + suffix for suffix in PART_SUFFIXES} if self.family.counted != name else set())

    @property
    def parts(self) -> float:
        """Series for each label set."""
        return self.family.series / self.family.label_sets


def values_pattern(label: Label) -> str:
    """A regular expression of the values that never end; of any value where they have no pattern."""
    return dict(PATTERNS).get(label.pattern, ".+")


def families(series_by_metric: t.Iterable[tuple[str, int]]) -> list[Family]:
    """Series names put together as they were published, the one with the most label sets first."""
    counts = dict(series_by_metric)
    parts: dict[str, list[str]] = {}
    for name in counts:
        base = next((name[: -len(suffix)] for suffix in PART_SUFFIXES if name.endswith(suffix)), name)
        # A histogram or a summary has its count; a gauge called x_sum has not.
        parts.setdefault(base if f"{base}_count" in counts and f"{base}_sum" in counts else name, []).append(name)
    found = []
    for name, names in parts.items():
        counted = f"{name}_count" if f"{name}_count" in names else name
        found.append(Family(name, counted, counts[counted], sum(counts[part] for part in names)))
    return sorted(found, key=lambda family: (-family.label_sets, family.name))


def pattern(values: t.Sequence[str]) -> str:
    """Name of the pattern that at least half of the values have in whole; empty where there is none."""
    for name, expression in PATTERNS:
        if values and 2 * sum(1 for value in values if re.fullmatch(expression, value)) >= len(values):
            return name
    return ""


def blamed(labels: t.Sequence[Label], limits: Limits) -> list[str]:
    """Labels that make the label sets, those that go along with the first (order and client order) among them."""
    suspects = [label for label in labels if label.pattern or label.name not in BOUNDED_LABELS]
    if not suspects:
        return []
    first = suspects[0]
    many = first.values > limits.label_sets_warning or (first.pattern and 2 * first.values >= labels[0].values)
    return [label.name for label in suspects if 2 * label.values >= first.values] if many else []
