# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How long journals of metrics are kept, and at which resolution: the runbook's retention policy.

The clean-up that came with Njord Quant reads it from ``base.yaml``, where it stops the services; ``retention.yaml``
beside that file wins. ``base.yaml`` holds passwords: what is no policy is never shown.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from pathlib import Path

from .configuration import BASE_FILE, ConfigurationError, directories, read_mapping, read_text
from .format import resolution_name
from .schedule import DAY_SECONDS, ScheduleError
from .schedule import parse as parse_schedule

MOST_DAYS = 36500
RETENTION_FILE = "retention.yaml"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
_RESOLUTION = re.compile(r"(?P<count>[1-9][0-9]{0,8})(?P<unit>[smhd])")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


class PolicyError(ConfigurationError):
    """Why what is written is no policy, a sentence without its last point."""


class Level(t.NamedTuple):
    """
    :param resolution: seconds.
    :param retention_days: complete UTC days for which a day stays at it, counted from that day.
    """

    resolution: int
    retention_days: int


@dataclasses.dataclass(frozen=True)
class Policy:
    """
    :param levels: at least one, finest first; each keeps longer than the one before.
    :param cleanup_schedule: see :func:`.schedule.parse`.
    :param source: a path, the name of an option, or "the default".
    """

    levels: tuple[Level, ...]
    cleanup_schedule: str
    source: str

    @property
    def last_day(self) -> int:
        """The age in days at which records are still kept, and after which they are not."""
        return self.levels[-1].retention_days

    def level(self, age: int) -> Level | None:
        """The level a day belongs to; None where it is kept no longer.

        :param age: in complete UTC days: 0 for today, 1 for yesterday.
        """
        return next((level for level in self.levels if age <= level.retention_days), None)


DEFAULT = Policy(
    levels=(Level(60, 7), Level(300, 30), Level(3600, 180), Level(DAY_SECONDS, 730)),
    cleanup_schedule="0 2 * * *",
    source="the default",
)


def read(config_root: str) -> tuple[Policy, list[str]]:
    """The policy of an installation, and warnings about it, sentences without their last point.

    :param config_root: the directory that holds ``retention.yaml`` or ``base.yaml``, or the parent of such a
        ``config/``.
    :raises ConfigurationError: where a file of it cannot be read; PolicyError where it holds what is no policy.
    """
    for directory in directories(config_root):
        own, base = directory / RETENTION_FILE, directory / BASE_FILE
        text = read_text(own)
        if text is not None:
            document = read_mapping(own, text)
            return parse(document["retention"] if list(document) == ["retention"] else document, str(own)), []
        text = read_text(base)
        if text is not None:
            document = read_mapping(base, text)
            if "retention" not in document:
                return DEFAULT, []
            warning = (
                f"{base} holds a block retention, which stops every trading service at its next start, because their"
                f" validation refuses unknown top-level keys: it belongs into {own}"
            )
            return parse(document["retention"], str(base)), [warning]
    holds = f"holds neither {RETENTION_FILE} nor {BASE_FILE}"
    missing = f"{config_root} {holds if Path(config_root).is_dir() else 'is no directory'}"
    return DEFAULT, [f"{missing}: the default retention policy applies"]


def parse(document: t.Any, source: str) -> Policy:
    """
    :param document: what is under ``retention``: ``raw_metrics``, a list of mappings of ``resolution`` and
        ``retention_days``, and ``cleanup_schedule``; for a key that is absent the default applies.
    :param source: see :class:`Policy`; errors begin with it.
    :raises PolicyError: where it is none.
    """
    try:
        _keys("retention", document, ("raw_metrics", "cleanup_schedule"))
        return Policy(
            levels=_levels(document["raw_metrics"]) if "raw_metrics" in document else DEFAULT.levels,
            cleanup_schedule=_schedule(document.get("cleanup_schedule", DEFAULT.cleanup_schedule)),
            source=source,
        )
    except PolicyError as error:
        raise PolicyError(f"{source}: {error}") from None


def _levels(rows: t.Any) -> tuple[Level, ...]:
    if not isinstance(rows, list) or not rows:
        raise PolicyError(f"raw_metrics is {_kind(rows)}: a list of one level or more would do")
    levels = sorted(_level(f"raw_metrics[{place}]", row) for place, row in enumerate(rows))
    for finer, coarser in zip(levels, levels[1:]):
        fine, coarse = resolution_name(finer.resolution), resolution_name(coarser.resolution)
        if finer.resolution == coarser.resolution:
            raise PolicyError(f"resolution {coarse} is there twice in raw_metrics: once would do")
        if coarser.resolution % finer.resolution:
            raise PolicyError(f"resolution {coarse} is no multiple of {fine}, the next finer one: a multiple would do")
        if coarser.retention_days <= finer.retention_days:
            raise PolicyError(
                f"retention_days {coarser.retention_days} of {coarse} is not above the {finer.retention_days} of"
                f" {fine}: {finer.retention_days + 1} or more would do"
            )
    return tuple(levels)


def _level(place: str, row: t.Any) -> Level:
    _keys(place, row, Level._fields)
    for key in Level._fields:
        if key not in row:
            raise PolicyError(f"{place} has no {key}: resolution and retention_days would do")
    resolution, days = row["resolution"], row["retention_days"]
    matched = _RESOLUTION.fullmatch(resolution) if isinstance(resolution, str) else None
    if matched is None:
        raise PolicyError(
            f"{place}.resolution is {_shown(resolution)}: a count and one of s, m, h and d, such as 5m, would do"
        )
    seconds = int(matched.group("count")) * _UNITS[matched.group("unit")]
    if DAY_SECONDS % seconds:
        raise PolicyError(f"{place}.resolution {resolution} does not divide a day: 1m, 5m, 1h or 1d would do")
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MOST_DAYS:
        raise PolicyError(
            f"{place}.retention_days is {_shown(days)}: a whole number of days from 1 to {MOST_DAYS} would do"
        )
    return Level(seconds, days)


def _schedule(text: t.Any) -> str:
    if not isinstance(text, str):
        raise PolicyError(f"cleanup_schedule is {_shown(text)}: a line of cron such as '0 2 * * *' would do")
    try:
        # One that never comes would let the disk fill.
        parse_schedule(text).next(0.0)
    except ScheduleError as error:
        raise PolicyError(f"cleanup_schedule: {error}") from None
    return text.strip()


def _keys(place: str, value: t.Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise PolicyError(f"{place} is {_kind(value)}: a mapping with {' and '.join(known)} would do")
    for key in value:
        if key not in known:
            named = key if isinstance(key, str) and _KEY.fullmatch(key) else "that is no name"
            raise PolicyError(f"{place} has an unknown key {named}: {' and '.join(known)} would do")


def _shown(value: t.Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    # A very large number cannot be written.
    plain = isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**15)
    return json.dumps(value) if plain else _kind(value)


def _kind(value: t.Any) -> str:
    return "empty" if value is None or value == [] else f"of type {type(value).__name__}"
