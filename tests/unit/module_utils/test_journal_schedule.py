# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.schedule import Schedule, ScheduleError, parse
from hypothesis import given, settings
from hypothesis import strategies as st

DAY = 86400


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc).timestamp()


def matches(schedule: Schedule, minute: int) -> bool:
    """crontab(5) as it is written: a field at a time, and either of the days where both are restricted."""
    time = datetime.datetime(1970, 1, 1) + datetime.timedelta(minutes=minute)
    if time.minute not in schedule.minutes or time.hour not in schedule.hours or time.month not in schedule.months:
        return False
    days = [time.day in schedule.days, (time.weekday() + 1) % 7 in schedule.weekdays]
    _minute, _hour, day, _month, weekday = schedule.text.split()
    return any(days) if day[0] != "*" and weekday[0] != "*" else all(days)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    step = st.integers(1, 9).map(str)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    part = st.one_of(number.map(str), span, st.tuples(span, step).map("/".join))
    listed = st.lists(part, min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), st.just("*"), step.map("*/{}".format), listed)


lines = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(lines, st.integers(20_000 * 1440, 21_000 * 1440), st.integers(0, 59))
def test_the_next_run_is_the_first_minute_that_matches(line: str, minute: int, second: int) -> None:
    schedule = parse(line)
    searched = range(minute + 1, minute + 1 + 4 * 1440)
    found = next((candidate for candidate in searched if matches(schedule, candidate)), None)
    try:
        run = schedule.next(minute * 60.0 + second)
    except ScheduleError:
        assert found is None
        return
    if found is None:
        assert run >= searched.stop * 60
        assert matches(schedule, int(run) // 60)
    else:
        assert run == found * 60


@settings(max_examples=40, deadline=None)
@given(lines, st.integers(20_000 * DAY, 21_000 * DAY))
def test_no_two_runs_are_further_apart_than_the_longest_gap(line: str, start: int) -> None:
    schedule = parse(line)
    try:
        longest = schedule.longest_gap()
    except ScheduleError:
        with pytest.raises(ScheduleError):
            schedule.next(start)
        return
    runs = [schedule.next(start)]
    for _run in range(20):
        runs.append(schedule.next(runs[-1]))
    assert all(0 < later - run <= longest for run, later in zip(runs, runs[1:]))


@pytest.mark.parametrize(
    ("line", "calendars"),
    [
        ("0 2 * * *", ["*-*-* 02:00:00 UTC"]),
        ("  0\t2 * * *\n", ["*-*-* 02:00:00 UTC"]),
        ("*/20 * * * *", ["*-*-* *:00,20,40:00 UTC"]),
        ("1-10/3 0-4 * * *", ["*-*-* 00..04:01,04,07,10:00 UTC"]),
        ("0 2 1 * mon", ["*-*-01 02:00:00 UTC", "Mon *-*-* 02:00:00 UTC"]),
        ("0 2 */10 * mon", ["Mon *-*-01,11,21,31 02:00:00 UTC"]),
        ("0 2 1 * */2", ["Tue,Thu,Sat..Sun *-*-01 02:00:00 UTC"]),
        ("0 2 1-31 * mon", ["*-*-* 02:00:00 UTC"]),
        ("0 2 1 * 0-6", ["*-*-* 02:00:00 UTC"]),
        ("0 2 * * 5-7", ["Fri..Sun *-*-* 02:00:00 UTC"]),
        ("0 2 * * Mon-FRI", ["Mon..Fri *-*-* 02:00:00 UTC"]),
        ("0 2 1,15 JAN-mar,dec *", ["*-01..03,12-01,15 02:00:00 UTC"]),
        ("@daily", ["*-*-* 00:00:00 UTC"]),
        ("@midnight", ["*-*-* 00:00:00 UTC"]),
        ("@hourly", ["*-*-* *:00:00 UTC"]),
        ("@weekly", ["Sun *-*-* 00:00:00 UTC"]),
        ("@monthly", ["*-*-01 00:00:00 UTC"]),
        ("@yearly", ["*-01-01 00:00:00 UTC"]),
        ("@annually", ["*-01-01 00:00:00 UTC"]),
    ],
)
def test_systemd_is_told_the_same(line: str, calendars: list[str]) -> None:
    assert parse(line).calendars() == calendars


def test_0_and_7_and_sun_are_sunday() -> None:
    assert parse("0 2 * * 0").weekdays == parse("0 2 * * 7").weekdays == parse("0 2 * * sUn").weekdays == (0,)


@pytest.mark.parametrize(
    ("line", "after", "run"),
    [
        ("0 2 * * *", "2026-03-01 01:59:59", "2026-03-01 02:00:00"),
        ("0 2 * * *", "2026-03-01 02:00:00", "2026-03-02 02:00:00"),
        ("0 2 1 * mon", "2026-03-24 00:00:00", "2026-03-30 02:00:00"),
        ("0 2 1 * mon", "2026-03-31 00:00:00", "2026-04-01 02:00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 29 2 *", "2097-01-01 00:00:00", "2104-02-29 00:00:00"),
        # The longest wait of all: a Sunday that is the 29th, across a century without one.
        ("0 0 29 2 */7", "2096-01-01 00:00:00", "2128-02-29 00:00:00"),
        ("59 23 31 12 *", "2026-12-31 23:59:00", "2027-12-31 23:59:00"),
    ],
)
def test_the_next_run(line: str, after: str, run: str) -> None:
    assert parse(line).next(at(after)) == at(run)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("0 2 * * *", DAY),
        ("*/5 * * * *", 300),
        ("0 2,3 * * *", 23 * 3600),
        ("@weekly", 7 * DAY),
        ("@monthly", 31 * DAY),
        ("0 2 31 * *", 61 * DAY),
        ("0 2 1 * mon", 7 * DAY),
        ("@yearly", 366 * DAY),
        ("0 0 29 2 *", 1461 * DAY),
    ],
)
def test_the_longest_gap(line: str, seconds: int) -> None:
    assert parse(line).longest_gap() == seconds


@pytest.mark.parametrize("line", ["0 2 30 2 *", "0 2 31 feb,apr,jun *", "0 2 30 2 */2"])
def test_a_day_that_no_month_has_never_comes(line: str) -> None:
    with pytest.raises(ScheduleError, match="never comes"):
        parse(line).next(0.0)
    with pytest.raises(ScheduleError, match="never comes"):
        parse(line).longest_gap()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "schedule '' has 0 fields: five would do"),
        ("0 2 * *", "has 4 fields"),
        ("0 2 * * * /bin/true", "has 6 fields"),
        ("60 2 * * *", "minute '60' is none: a number from 0 to 59 would do"),
        ("0 24 * * *", "hour '24' is none: a number from 0 to 23"),
        ("0 2 0 * *", "day of month '0' is none: a number from 1 to 31"),
        ("0 2 * 13 *", "month '13' is none: a number from 1 to 12 or a name from jan to dec"),
        ("0 2 * * 8", "day of week '8' is none: a number from 0 to 7 or a name from sun to sat"),
        ("0 2 * monday *", "month 'monday' is none"),
        ("0 2 * jan jan", "day of week 'jan' is none"),
        ("99999999999999999999 2 * * *", "minute '9+' is none"),
        ("-1 2 * * *", "minute '-1' is none: "),
        ("1, 2 * * *", "minute '' is none: "),
        ("1.5 2 * * *", "minute '1.5' is none: "),
        ("\u0661 2 * * *", "minute '\u0661' is none: "),
        ("9-5 2 * * *", "minute '9-5' runs backwards"),
        ("0 2 * * fri-sun", "day of week 'fri-sun' runs backwards: .* 5-7"),
        ("5/10 2 * * *", "minute '5/10' steps from one number: 5-59/10 would do"),
        ("*/0 2 * * *", r"minute '\*/0' steps by nothing"),
        ("@reboot", "'@reboot' is no time: .* @daily would do"),
        ("@fortnightly", "'@fortnightly' is unknown: @hourly, @daily"),
        ("x" * 500, "schedule 'x{57}...' has 1 fields"),
    ],
)
def test_what_cron_would_not_take_is_refused(line: str, said: str) -> None:
    with pytest.raises(ScheduleError, match=said):
        parse(line)


@given(st.text(alphabet="0123456789*/,- @adeghilmnorstuwyJS\n", max_size=30))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        schedule = parse(text)
    except ScheduleError as error:
        assert not str(error).endswith(".")
    else:
        assert schedule.calendars()
