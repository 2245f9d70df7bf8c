# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Relabelling as text to paste into a scrape job of prometheus.yml.

``labeldrop`` is never among it: it takes the label from every metric of the scrape; and where two series differ in
nothing else, Prometheus keeps the first of each scrape and drops the others without an error: a counter becomes a
lottery. Not even prometheus_target_scrapes_sample_duplicate_timestamp_total moves (seen with 2.53 and 3.5).

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#metric_relabel_configs
"""

from __future__ import annotations

import re
import typing as t

PART_SUFFIXES = ("_bucket", "_count", "_sum", "_created")
NAMES_IN_A_RULE = 25
_LEGACY_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


def quoted(text: str) -> str:
    """For YAML. A metric of Prometheus 3 may have any name."""
    return "'" + text.replace("'", "''") + "'"


def family_pattern(name: str, has_parts: bool) -> str:
    """A regular expression of a metric's names. :param has_parts: it is a histogram or a summary."""
    return re.escape(name) + (f"(?:{'|'.join(PART_SUFFIXES)})?" if has_parts else "")


def drop_names(patterns: t.Sequence[str], place: str) -> str:
    """Drops the metrics whose names one of the expressions fits. Prometheus anchors them at both ends.

    :param place: the scrape job, and what else the first line shall say.
    """
    rules = "".join(
        "  - source_labels: [__name__]\n"
        f"    regex: {quoted('|'.join(patterns[start : start + NAMES_IN_A_RULE]))}\n"
        "    action: drop\n"
        for start in range(0, len(patterns), NAMES_IN_A_RULE)
    )
    return _head(place) + rules


def drop_values(pattern: str, label: str, values: str, place: str) -> str:
    """Drops the series of a metric whose label has such a value. :param values: a regular expression."""
    expression = quoted(f"{pattern};{values}")
    return f"{_head(place)}  - source_labels: [__name__, {_label(label)}]\n    regex: {expression}\n    action: drop\n"


def empty_labels(pattern: str, labels: t.Iterable[str], place: str) -> str:
    """Takes labels from one metric alone."""
    rules = "".join(
        f"  - source_labels: [__name__]\n    regex: {quoted(pattern)}\n"
        f"    target_label: {_label(label)}\n    replacement: ''\n    action: replace\n"
        for label in labels
    )
    return _head(place) + rules


def scrape_job(jobs: t.Sequence[str], scraped: t.Container[str]) -> str:
    """Where it is to be put. :param scraped: the jobs that targets have."""
    # A page may bring another job's name: a gateway, or another Prometheus.
    known = [job if job in scraped else f"that brings {job}" for job in jobs]
    return f"scrape job {', '.join(known) or 'that brings them'}"


def _label(name: str) -> str:
    return name if _LEGACY_NAME.fullmatch(name) else quoted(name)


def _head(place: str) -> str:
    return f"# {place}\nmetric_relabel_configs:\n"
