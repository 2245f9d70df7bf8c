# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whose file it is: by its name, and by its first lines.

A file is ours, a journal of metrics, when it is named ``<stem>_<resolution>[.YYYYMMDD[.N]]`` or
``aggregated_metrics[.<stamp>]``, ends in ``.jsonl`` or ``.ndjson``, plain or ``.gz``, *and* its first lines are metric
records. Everything else is a record of trading, a log, or something we do not know: never ours to change.
"""

from __future__ import annotations

import datetime
import json
import re
import typing as t

METRICS, TRADING, LOG, OTHER = KINDS = ("metrics", "trading", "log", "other")
METRIC_TYPES = ("counter", "gauge", "histogram", "summary")
# The aggregator writes metric_name, the retention code that came with it name.
NAME_KEYS = ("metric_name", "name")
DAY_NS = 86400 * 10**9
# Directories of a restore, in a journal directory that is a mount point and has nothing beside it: what they hold does
# not count, and is left to a person.
ASIDE = (".restoring", ".replaced-", ".interim-")

_OLDEST_NS = 10**17
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_ENDING = r"\.(?:jsonl|ndjson)(?P<gz>\.gz)?"
_JOURNAL = re.compile(rf".*{_ENDING}", re.ASCII | re.DOTALL)
_OURS = re.compile(
    rf"(?:[^.].*_(?P<count>[1-9]\d*)(?P<unit>[smhd])(?:\.\d{{8}}(?:\.\d+)?)?"
    rf"|aggregated_metrics(?:\.\d{{8}}(?:T\d{{6}}Z?)?(?:\.\d+)?)?){_ENDING}",
    re.ASCII,
)
_DAY = re.compile(rf".*\.(?P<day>\d{{8}})(?:T\d{{6}}Z?)?(?:\.\d+)?{_ENDING}", re.ASCII | re.DOTALL)
_LOG = re.compile(r"(?:app(?:\..*)?\.(?:jsonl|ndjson)|.*\.log(?:[.-].*)?)(?:\.gz)?", re.DOTALL)

Record = t.Dict[str, t.Any]


class FileName(t.NamedTuple):
    """What a name alone says.

    :param ours: it is named like a journal of metrics.
    :param journal: its ending is that of a journal.
    :param resolution: seconds.
    :param day: start of the UTC day it is dated with, in nanoseconds since the epoch.
    """

    ours: bool
    journal: bool
    log: bool
    compressed: bool
    resolution: int | None
    day: int | None


class Content(t.NamedTuple):
    """What a name and the first lines say together.

    :param kind: one of :data:`KINDS`.
    :param reason: why it is that, a clause.
    :param resolution: seconds, of a journal of metrics that tells it.
    :param first: time of the first record, nanoseconds since the epoch.
    """

    kind: str
    reason: str
    resolution: int | None = None
    first: int | None = None


def read_name(name: str) -> FileName:
    """
    :param name: of a file, without its directory.
    """
    ours, dated = _OURS.fullmatch(name), _DAY.fullmatch(name)
    day = _day(dated.group("day")) if dated else None
    resolution = int(ours.group("count")) * _UNITS[ours.group("unit")] if ours and ours.group("count") else None
    return FileName(
        # A date that no calendar has is not one of ours.
        ours=bool(ours) and (dated is None or day is not None),
        journal=bool(_JOURNAL.fullmatch(name)),
        log=bool(_LOG.fullmatch(name)),
        compressed=name.endswith(".gz"),
        resolution=resolution,
        day=day,
    )


def is_aside(path: str) -> bool:
    """
    :param path: relative to the journal directory.
    """
    return path.startswith(ASIDE)


def classify(name: FileName, lines: t.Sequence[bytes]) -> Content:
    """
    :param lines: the first lines of the file, whole ones; what does not parse is passed over.
    """
    records = [record for record in map(read_record, lines) if record is not None]
    first = next((time for time in map(record_time, records) if time is not None), None)
    metrics = [is_metric(record) for record in records]
    if not name.journal:
        return Content(LOG, "a log by its name") if name.log else Content(OTHER, "no journal by its name")
    if not records:
        return Content(OTHER, "no record in its first lines" if lines else "empty")
    if any(metrics) and not (name.ours and all(metrics)):
        return Content(
            OTHER, "metric records beside others" if name.ours else "metrics under another name", None, first
        )
    if any(metrics):
        return Content(METRICS, "metrics by its name and its records", _resolution(records[0], name), first)
    if name.log or all("level" in record and ("event" in record or "message" in record) for record in records):
        return Content(LOG, "a log by its name" if name.log else "a log by its records", None, first)
    return Content(TRADING, "named like metrics, but its records are not" if name.ours else "a journal", None, first)


def read_record(line: bytes) -> Record | None:
    """The object in a line; None where there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def is_metric(record: Record) -> bool:
    """Whether a record is one of a metric: named, timed, and with a value, observations or a count."""
    name = next((record[key] for key in NAME_KEYS if key in record), None)
    time = record.get("timestamp_ns")
    return (
        isinstance(name, str)
        and name != ""
        and isinstance(time, int)
        and not isinstance(time, bool)
        and time >= 0
        and record.get("metric_type", "gauge") in METRIC_TYPES
        and isinstance(record.get("labels") or {}, dict)
        and (
            any(_is_number(record.get(key)) for key in ("value", "count"))
            or isinstance(record.get("observations"), list)
        )
    )


def record_time(record: Record) -> int | None:
    """Nanoseconds since the epoch: of a metric its ``timestamp_ns``, of another record the first time it carries."""
    if "timestamp_ns" in record:
        return _time(record["timestamp_ns"])
    named = (key for key in record if key in ("timestamp", "time") or key.startswith("ts"))
    return next((time for time in (_time(record[key]) for key in named) if time is not None), None)


def resolution_name(seconds: int | None) -> str:
    """``1m`` for 60, in the largest unit that divides it; ``unknown`` for None."""
    if seconds is None:
        return "unknown"
    unit = next(unit for unit, length in _UNITS.items() if seconds % length == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def day_stamp(day: int) -> str:
    """``20251001``, of a UTC day in days since the epoch."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).strftime("%Y%m%d")


def _resolution(record: Record, name: FileName) -> int | None:
    interval = record.get("interval_seconds")
    if isinstance(interval, (int, float)) and interval >= 1 and interval % 1 == 0:
        return int(interval)
    return name.resolution


def _is_number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _day(text: str) -> int | None:
    try:
        day = datetime.datetime.strptime(text, "%Y%m%d").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    return int(day.timestamp()) * 10**9


def _time(value: t.Any) -> int | None:
    """A time of one of the years 1973 to 5138, a number in any unit: units are a factor of 1000 apart."""
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        time = int(moment.timestamp() * 10**6) * 1000
        return time if _OLDEST_NS <= time < _OLDEST_NS * 1000 else None
    if not _is_number(value):
        return None
    for step in (1, 10**3, 10**6, 10**9):
        if _OLDEST_NS // step <= value < _OLDEST_NS // step * 1000:
            return int(value * step)
    return None
