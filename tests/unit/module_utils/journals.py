# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals of metrics as tests make them, and a model of what a clean-up leaves of them: slow, and obviously right.

The model keeps every observation that a record stands for, and does its arithmetic in fractions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fractions
import gzip
import json
import math
import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal import clean as clean_module
from ansible_collections.njord.telemetry.plugins.module_utils._journal.clean import Action, Options, Result, clean
from ansible_collections.njord.telemetry.plugins.module_utils._journal.plan import Rules
from ansible_collections.njord.telemetry.plugins.module_utils._journal.policy import Level, Policy
from ansible_collections.njord.telemetry.plugins.module_utils._journal.sketch import Sketch

SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 86400 * SECOND
# 2025-11-08
TODAY = 20_400
OURS = ".metrics-cleanup."
# What stays beside the journals.
KEPT = (f"{OURS}state", f"{OURS}consumed")
RESOLUTIONS = {60: "1m", 300: "5m", 3600: "1h", 86400: "1d"}
POLICY = Policy((Level(60, 2), Level(300, 5), Level(3600, 12), Level(86400, 30)), "0 2 * * *", "a test")
NO_ROLL_UP = Policy((Level(60, 30),), "0 2 * * *", "a test")

# A disk takes most of the time where none is lost.
MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)  # noqa: S108

_NAME = re.compile(
    r"(?:(?P<stem>.+)_\d+[smhd]|(?P<aggregated>aggregated_metrics))(?:\.\d{8}(?:\.\d+)?)?(?P<ending>\.\w+)"
)
_RESOLUTION = re.compile(r"_(\d+)([smhd])\.")

# (name, type, labels in order)
Series = t.Tuple[str, str, t.Tuple[t.Tuple[str, str], ...]]
# (directory, stem, ending)
Group = t.Tuple[str, str, str]


class Record(t.NamedTuple):
    """
    :param time: nanoseconds since the epoch.
    :param interval: seconds.
    :param samples: (time, value) of every observation.
    """

    series: Series
    time: int
    interval: int
    samples: tuple[tuple[int, float], ...]

    @property
    def day(self) -> int:
        return self.time // DAY

    def figures(self) -> Figures:
        values = [value for _time, value in self.samples]
        figures = Figures(self.series, self.time, self.interval, len(values), exact_sum(values), sum(map(abs, values)))
        if self.series[1] == "counter":
            return figures
        figures.low, figures.high = min(values), max(values)
        if self.series[1] == "gauge":
            figures.last_time, figures.last = max(self.samples)
        else:
            figures.sketch = Sketch()
            figures.sketch.extend(values)
        return figures


@dataclasses.dataclass
class Figures:
    """What a line says. :param magnitude: the sum of the absolute values, to judge a difference of sums by."""

    series: Series
    time: int
    interval: int
    count: int
    sum: float
    magnitude: float
    low: float = 0.0
    high: float = 0.0
    last_time: int = 0
    last: float = 0.0
    sketch: Sketch | None = None

    def add(self, other: Figures) -> None:
        self.count += other.count
        self.sum += other.sum
        self.magnitude += other.magnitude
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.last_time, self.last = max((self.last_time, self.last), (other.last_time, other.last))
        if self.sketch and other.sketch:
            self.sketch.merge(other.sketch)

    @property
    def exactly(self) -> tuple[t.Any, ...]:
        """All but the sum."""
        fields = (self.series, self.time, self.interval, self.count, self.low, self.high, self.last_time, self.last)
        return (*fields, repr(self.sketch))

    def matches(self, other: Figures) -> bool:
        near = max(self.magnitude, other.magnitude) * 1e-12
        return self.exactly == other.exactly and abs(self.sum - other.sum) <= near


def exact_sum(values: t.Iterable[float]) -> float:
    return float(sum(map(fractions.Fraction, values), fractions.Fraction()))


def stamp(day: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).strftime("%Y%m%d")


def aggregated(time: int, name: str = "m", kind: str = "gauge", value: t.Any = 1.0, **more: t.Any) -> bytes:
    """A line just as the aggregator writes it."""
    head = {"timestamp_ns": time, "metric_name": name, "metric_type": kind, "labels": more.pop("labels", {"a": "b"})}
    figures = {"observations": value} if kind in ("histogram", "summary") else {"value": value}
    return json.dumps({**head, "interval_seconds": 60, **more, **figures}).encode() + b"\n"


def write(root: Path, path: str, content: bytes) -> Path:
    """A journal, compressed where it is named so."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content, mtime=0) if path.endswith(".gz") else content)
    return file


def lines_of(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if file.suffix == ".gz" else content


def run(root: Path, today: int = TODAY, policy: Policy = POLICY, **more: t.Any) -> Result:
    """A clean-up at two o'clock of a day; ``more`` are fields of its options and rules."""
    rules = {key: more.pop(key) for key in ("compress_after", "others") if key in more}
    options = {"dry_run": False, "is_certain_of_now": True, "max_expire_percent": 100, **more}
    now = options.pop("now", today * DAY + 120 * MINUTE)
    return clean(Options(str(root), Rules(policy, **rules), now, **options))


def actions(result: Result) -> list[Action]:
    """Of a plan or a run, without what became of them."""
    return [dataclasses.replace(action, state="") for action in result.actions]


def snapshot(root: Path, but: t.Collection[str] = ()) -> dict[str, tuple[bytes, int, int]]:
    """Everything that lies in a directory: bytes, time of the last change and mode."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.name not in but:
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            modified = 0 if path.is_dir() and but else status.st_mtime_ns
            found[str(path.relative_to(root))] = (content, modified, status.st_mode)
    return found


@contextlib.contextmanager
def nobody_has_a_file_open() -> t.Iterator[None]:
    """So that not every step looks at every process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean_module, "open_files", lambda: (set(), 0))
        yield


def group(path: str) -> Group:
    place = Path(path)
    found = _NAME.match(place.name)
    assert found, path
    return str(place.parent), found["stem"] or found["aggregated"], found["ending"]


def found(root: Path) -> dict[Group, list[Figures]]:
    """The records in a directory of journals, read as slowly as JSON reads them."""
    records: dict[Group, list[Figures]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            name = str(path.relative_to(root))
            named = _RESOLUTION.search(path.name)
            interval = int(named[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[named[2]] if named else 60
            records.setdefault(group(name), []).extend(parse(line, interval) for line in lines_of(path).splitlines())
    return records


def parse(line: bytes, default_interval: int = 60) -> Figures:
    row = json.loads(line)
    kind = row.get("metric_type", "gauge")
    labels = tuple(sorted((key, str(value)) for key, value in row["labels"].items()))
    series = (row.get("metric_name") or row["name"], kind, labels)
    time, interval = row["timestamp_ns"], row.get("interval_seconds", default_interval)
    if "observations" in row:
        return Record(series, time, interval, tuple((time, value) for value in row["observations"])).figures()
    count = row.get("count", 1)
    total = row.get("sum", row.get("value"))
    figures = Figures(series, time, interval, count, total, abs(total))
    if kind == "counter":
        return figures
    figures.low, figures.high = row.get("min", row.get("value")), row.get("max", row.get("value"))
    if kind == "gauge":
        figures.last_time, figures.last = row.get("last_timestamp_ns", time), row.get("last", row["value"])
        assert math.isclose(row["value"], total / count, rel_tol=1e-9, abs_tol=1e-300 + figures.magnitude * 1e-12)
        assert figures.low <= row["value"] <= figures.high
    else:
        figures.sketch = Sketch.from_json(row["sketch"])
        assert figures.sketch.count == count
        assert row["relative_error"] <= figures.sketch.relative_error * 1.001
    return figures


def level(policy: Policy, age: int) -> int | None:
    """Seconds; None beyond the last one."""
    return next((one.resolution for one in policy.levels if age <= one.retention_days), None)


def rolled(records: list[Record], policy: Policy, today: int) -> list[Record]:
    """What is left of the records of one group, all of them of settled files."""
    left = [record for record in records if record.day >= today]
    for day in {record.day for record in records if record.day < today}:
        of_day = [record for record in records if record.day == day]
        resolution = level(policy, today - day)
        if resolution is None:
            continue
        if all(record.interval >= resolution for record in of_day):
            left += of_day
            continue
        left += [record for record in of_day if record.interval > resolution]
        left += merged([record for record in of_day if record.interval <= resolution], resolution)
    return left


def merged(records: t.Iterable[Record], resolution: int) -> list[Record]:
    buckets: dict[tuple[Series, int], list[tuple[int, float]]] = {}
    for record in records:
        start = record.time - record.time % (resolution * SECOND)
        buckets.setdefault((record.series, start), []).extend(record.samples)
    return [Record(series, start, resolution, tuple(all_)) for (series, start), all_ in buckets.items()]


def by_bucket(figures: t.Iterable[Figures], resolution: int | None = None) -> list[Figures]:
    """Added up per series and bucket of their own interval, or of a coarser one."""
    buckets: dict[tuple[Series, int, int], Figures] = {}
    for one in figures:
        interval = max(one.interval, resolution or 0)
        one = dataclasses.replace(one, interval=interval, time=one.time - one.time % (interval * SECOND))
        if one.sketch:
            one.sketch = Sketch.from_json(one.sketch.as_json())
        key = (one.series, one.time, interval)
        if key in buckets:
            buckets[key].add(one)
        else:
            buckets[key] = one
    return list(buckets.values())


def assert_same(ones: t.Iterable[Figures], others: t.Iterable[Figures]) -> None:
    left, right = (sorted(figures, key=lambda one: (one.exactly, one.sum)) for figures in (ones, others))
    assert [one.exactly for one in left] == [one.exactly for one in right]
    for one, other in zip(left, right):
        assert one.matches(other), (one, other)


def assert_same_groups(ones: dict[Group, list[Figures]], others: dict[Group, list[Figures]]) -> None:
    for key in {*ones, *others}:
        assert_same(ones.get(key, []), others.get(key, []))
