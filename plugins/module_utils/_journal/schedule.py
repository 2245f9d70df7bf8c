# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""When a clean-up runs: a line of cron, read as vixie cron reads it (crontab(5)), in UTC."""

from __future__ import annotations

import bisect
import datetime
import itertools
import re
import typing as t

DAY_SECONDS = 86400

_EPOCH = datetime.date(1970, 1, 1).toordinal()
# The 29th of February falls on a given weekday every 28 years, and after 40 where a century has no such day.
_MOST_DAYS = 41 * 366
# Between 1901 and 2099 the calendar repeats itself after exactly these days.
_CYCLE_START, _CYCLE_DAYS = datetime.date(2000, 1, 1).toordinal(), 28 * 365 + 7
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_PART = re.compile(
    r"(?:\*|(?P<first>[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?)(?:/(?P<step>[0-9]{1,9}))?", re.ASCII | re.IGNORECASE
)


class ScheduleError(ValueError):
    """Why a schedule cannot be followed, a sentence without its last point."""


class _Field(t.NamedTuple):
    name: str
    low: int
    high: int
    words: dict[str, int]


def _words(text: str, first: int) -> dict[str, int]:
    return {word: number for number, word in enumerate(text.split(), first)}


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _words("jan feb mar apr may jun jul aug sep oct nov dec", 1)),
    _Field("day of week", 0, 7, _words("sun mon tue wed thu fri sat", 0)),
)


class Schedule(t.NamedTuple):
    """
    :param text: as it was written.
    :param weekdays: 0 is Sunday, 6 Saturday.
    :param either: a day matches by its number *or* its weekday, as cron has it where both are restricted.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either: bool

    def calendars(self) -> list[str]:
        """Values of ``OnCalendar=`` (systemd.time(7)) that mean the same together."""
        clock = f"{_listed(self.hours, 24)}:{_listed(self.minutes, 60)}:00 UTC"
        month, day = _listed(self.months, 12), _listed(self.days, 31)
        named = sorted((weekday - 1) % 7 for weekday in self.weekdays)
        week = "" if len(named) == 7 else ",".join(_runs(named, _WEEKDAYS.__getitem__)) + " "
        if not self.either:
            return [f"{week}*-{month}-{day} {clock}"]
        if not week or day == "*":
            return [f"*-{month}-* {clock}"]
        return [f"*-{month}-{day} {clock}", f"{week}*-{month}-* {clock}"]

    def next(self, after: float) -> float:
        """The first run later than a time, both in unix seconds.

        :raises ScheduleError: where none ever comes.
        """
        times = self._times()
        today = _EPOCH + int(after // DAY_SECONDS)
        for ordinal in range(today, min(today + _MOST_DAYS, datetime.date.max.toordinal()) + 1):
            start = (ordinal - _EPOCH) * DAY_SECONDS
            found = bisect.bisect_right(times, after - start)
            if found < len(times) and self._has(ordinal):
                return float(start + times[found])
        raise self._never()

    def longest_gap(self) -> float:
        """The longest time between two runs of this century, in seconds.

        :raises ScheduleError: where no run ever comes.
        """
        times = self._times()
        days = [day for day in range(_CYCLE_DAYS) if self._has(_CYCLE_START + day)]
        if not days:
            raise self._never()
        days.append(days[0] + _CYCLE_DAYS)
        apart = max(later - day for day, later in zip(days, days[1:]))
        gaps = [later - time for time, later in zip(times, times[1:])]
        return float(max([*gaps, apart * DAY_SECONDS + times[0] - times[-1]]))

    def _times(self) -> list[int]:
        return [hour * 3600 + minute * 60 for hour in self.hours for minute in self.minutes]

    def _has(self, ordinal: int) -> bool:
        date = datetime.date.fromordinal(ordinal)
        by_day, by_week = date.day in self.days, date.isoweekday() % 7 in self.weekdays
        return date.month in self.months and (by_day or by_week if self.either else by_day and by_week)

    def _never(self) -> ScheduleError:
        return ScheduleError(f"schedule {self.text!r} never comes: a day that one of its months has would do")


def parse(text: str) -> Schedule:
    """
    :param text: five fields, or a nickname such as ``@daily``.
    :raises ScheduleError: where cron would not take it, or only as what happens at its start.
    """
    line = text.strip()
    if line == "@reboot":
        raise ScheduleError("schedule '@reboot' is no time: a host may run for months, five fields or @daily would do")
    if line.startswith("@") and line not in _NICKNAMES:
        raise ScheduleError(f"schedule {_shown(line)} is unknown: {', '.join(_NICKNAMES)} or five fields would do")
    fields = _NICKNAMES.get(line, line).split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(
            f"schedule {_shown(line)} has {len(fields)} fields:"
            " five would do, minute, hour, day of month, month and day of week, such as '0 2 * * *'"
        )
    minutes, hours, days, months, weekdays = (_field(field, written) for field, written in zip(_FIELDS, fields))
    return Schedule(
        text=line,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=tuple(sorted({weekday % 7 for weekday in weekdays})),
        # By its first character alone: to cron */2 is no restriction, and 1-31 is one.
        either=not (fields[2].startswith("*") or fields[4].startswith("*")),
    )


def _field(field: _Field, text: str) -> tuple[int, ...]:
    return tuple(sorted({number for part in text.split(",") for number in _part(field, part)}))


def _part(field: _Field, text: str) -> range:
    matched = _PART.fullmatch(text)
    if matched is None:
        raise ScheduleError(
            f"{field.name} {_shown(text)} is none: *, a number from {field.low} to {field.high}, a range,"
            f" a range or * with a step such as */2, or a list of these would do"
        )
    first, last, step = matched.group("first", "last", "step")
    low = field.low if first is None else _number(field, first)
    high = field.high if first is None else low if last is None else _number(field, last)
    if low > high:
        wanted = f"; Sunday at the end is 7, {low}-7" if field.name == "day of week" and high == 0 else ""
        raise ScheduleError(f"{field.name} {_shown(text)} runs backwards: the smaller one first would do{wanted}")
    if step is None:
        return range(low, high + 1)
    if first is not None and last is None:
        raise ScheduleError(
            f"{field.name} {_shown(text)} steps from one number: {first}-{field.high}/{step} would do, or {first} alone"
        )
    if int(step) == 0:
        raise ScheduleError(f"{field.name} {_shown(text)} steps by nothing: a step of 1 or more would do")
    return range(low, high + 1, int(step))


def _number(field: _Field, text: str) -> int:
    number = field.words.get(text.lower())
    if number is None and text.isdigit() and len(text) < 10:
        number = int(text)
    if number is None or not field.low <= number <= field.high:
        words = list(field.words)
        named = f" or a name from {words[0]} to {words[-1]}" if words else ""
        raise ScheduleError(
            f"{field.name} {_shown(text)} is none: a number from {field.low} to {field.high}{named} would do"
        )
    return number


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _listed(numbers: t.Sequence[int], most: int) -> str:
    return "*" if len(numbers) == most else ",".join(_runs(numbers, "{:02}".format))


def _runs(numbers: t.Sequence[int], form: t.Callable[[int], str]) -> t.Iterator[str]:
    for _offset, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [form(number) for _place, number in run]
        yield members[0] if len(members) == 1 else f"{members[0]}..{members[-1]}"
