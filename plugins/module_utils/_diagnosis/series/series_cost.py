# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What series cost: how many of a metric there are now and from where, samples a second, memory, and disk.

Bytes are estimates from what the server says about itself; each carries where it comes from.

Sources: https://prometheus.io/docs/prometheus/latest/storage/#operational-aspects
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from pathlib import Path

from ..._exposition import Exposition
from ..._prometheus import Head, Prometheus, Target
from ..query.query_log import LONGEST_QUERY

# A metric with more series is counted from the index alone, not by a query.
QUERIED_SERIES = 100_000
# Series that one query counts, unless they are of one metric.
COUNTED_SERIES = 50_000
# Of the names in one question: in the query log it must stand whole, or the next audit would not understand it.
CHARACTERS = LONGEST_QUERY - 200

HEAP = "go_memstats_heap_inuse_bytes"
CHUNK_BYTES, CHUNK_SAMPLES = (
    "prometheus_tsdb_compaction_chunk_size_bytes_sum",
    "prometheus_tsdb_compaction_chunk_samples_sum",
)
OWN = (HEAP, CHUNK_BYTES, CHUNK_SAMPLES)
# Of a sample on the disk, where the server has written none since it was started.
DOCUMENTED_BYTES = 2.0
# A heap of so few series is mostly something else.
SMALL_HEAD = 20_000
BLOCKS = 3
DAY = 86_400.0
Sized = t.TypeVar("Sized")


@dataclasses.dataclass(frozen=True)
class Prices:
    """Bytes, each None where it is not known, and where they come from.

    :param series: of a series in memory, at most: all that the server uses is laid upon its series.
    :param sample: of a sample on the disk.
    """

    series: float | None
    series_source: str
    sample: float | None
    sample_source: str

    def evidence(self) -> dict[str, t.Any]:
        return {
            "bytes_per_series": None if self.series is None else round(self.series),
            "bytes_per_series_source": self.series_source,
            "bytes_per_sample": None if self.sample is None else round(self.sample, 3),
            "bytes_per_sample_source": self.sample_source,
        }


def prices(page: Exposition, head: Head) -> Prices:
    """:param page: the server's own metrics, of which those of :data:`OWN` were kept."""
    own = {name: sum(value for _labels, value in page.kept.get(name, [])) for name in OWN}
    series, source = None, f"not known: the server does not say {HEAP}"
    if own[HEAP] and head.series:
        series, source = own[HEAP] / head.series, f"at most: {HEAP} of this server by its {head.series} series"
        if head.series < SMALL_HEAD:
            source += "; of a head so small most is something else"
    if own[CHUNK_SAMPLES]:
        return Prices(series, source, own[CHUNK_BYTES] / own[CHUNK_SAMPLES], f"{CHUNK_BYTES} by {CHUNK_SAMPLES}")
    documented = "at most, by Prometheus' documentation: this server has written no block since it was started"
    return Prices(series, source, DOCUMENTED_BYTES, documented)


def index_bytes(directory: Path) -> float | None:
    """Of a series in the index of a block, by the newest blocks; None where there is none that can be read."""
    found = []
    try:
        metas = sorted(directory.glob("*/meta.json"), key=lambda path: path.parent.name)[-BLOCKS:]
        for path in metas:
            stats = json.loads(path.read_text(encoding="utf-8")).get("stats", {})
            found.append((path.with_name("index").stat().st_size, int(stats.get("numSeries", 0))))
    except (OSError, ValueError, AttributeError):
        return None
    series = sum(count for _size, count in found)
    return sum(size for size, _count in found) / series if series else None


def in_pattern(name: str) -> str:
    """A name for a regular expression in a string of PromQL."""
    return json.dumps(re.escape(name), ensure_ascii=False)[1:-1]


def heaps(metrics: t.Iterable[Sized], of: t.Callable[[Sized], tuple[str, int]]) -> list[list[Sized]]:
    """Metrics whose series are counted by one query each, which reads no more than :data:`COUNTED_SERIES` or one.

    :param of: name and series of a metric; one with more than :data:`QUERIED_SERIES` is left out.
    """
    found: list[list[Sized]] = []
    read = characters = 0
    for metric in metrics:
        name, series = of(metric)
        if series > QUERIED_SERIES:
            continue
        length = len(in_pattern(name)) + 1
        if not found or characters + length > CHARACTERS or read + series > COUNTED_SERIES:
            found.append([])
            read = characters = 0
        found[-1].append(metric)
        read += series
        characters += length
    return found


def count(client: Prometheus, names: t.Sequence[str], by: t.Sequence[str]) -> dict[str, dict[tuple[str, ...], int]]:
    """Series that some metrics have now, by metric and the values of some labels.

    :raises HttpError: where it is not known.
    """
    pattern = "|".join(map(in_pattern, names))
    samples = client.query(f'count by ({", ".join(("__name__", *by))}) ({{__name__=~"{pattern}"}})')
    found: dict[str, dict[tuple[str, ...], int]] = {name: {} for name in names}
    for sample in samples:
        found[sample.labels["__name__"]][tuple(sample.labels.get(label, "") for label in by)] = int(sample.value)
    return found


def intervals(targets: t.Iterable[Target]) -> dict[str, float]:
    """Seconds between two scrapes by job; the shortest where its targets differ."""
    found: dict[str, float] = {}
    for target in targets:
        job = target.labels.get("job", "")
        found[job] = min(found.get(job, target.interval), target.interval)
    return found


def samples_a_second(active: t.Mapping[str, float], seconds: t.Mapping[str, float]) -> float | None:
    """:param active: series by job. :param seconds: by job. None where a job has no interval that is known."""
    if not all(seconds.get(job) for job in active):
        return None
    return sum(series / seconds[job] for job, series in active.items())
