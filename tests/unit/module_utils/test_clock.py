# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _clock as clock
from hypothesis import given
from hypothesis import strategies as st

LIMITS = clock.Limits(warning=1.0, critical=30.0, sample_age=120.0)
NOW = 1_769_860_800.5

# What the programs print, chronyc and timedatectl as seen on Debian.
FOLLOWS = "A29FC87B,162.159.200.123,4,1769860790.1,0.000213,-0.0001,0.0003,-12.1,0.001,0.05,0.01,0.001,64.2,Normal\n"
FOLLOWS_ITSELF = "7F7F0101,,8,1769860790.1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,Normal\n"
FOLLOWS_NOBODY = "00000000,,0,0.0,0.0,0.0,0.0,0.000,0.000,0.000,1.0,1.0,0.0,Not synchronised\n"
NO_DAEMON = "506 Cannot talk to daemon\n"
NO_SYSTEMD = "System has not been booted with systemd as init system (PID 1). Can't operate.\n"


def runner(**answers: tuple[int, str]) -> clock.Run:
    return lambda command: answers.get(command[0])


def synchronised(contained: bool = False, /, **answers: tuple[int, str]) -> t.Any:
    return clock.time_service_finding(clock.ask_time_service(runner(**answers)), contained, LIMITS)


@pytest.mark.parametrize(
    ("text", "value", "step"),
    [
        ("2026-01-31T12:00:00.5Z", NOW, 0),
        ("2026-01-31T14:00:00.500+02:00", NOW, 0),
        ("2026-01-31 12:00:00Z", 1_769_860_800, 1),
        ("1769860800.5", NOW, 0),
        (" 1769860800 ", 1_769_860_800, 1),
    ],
)
def test_a_time_is_read_with_the_step_it_counts_in(text: str, value: float, step: float) -> None:
    assert clock.read_time(text) == clock.Reading(value, step)


@pytest.mark.parametrize(
    "text", ["", "now", "12:00", "2026-01-31", "2026-01-31T12:00:00", "2026-13-31T12:00:00Z", "-1", "9" * 400]
)
def test_what_is_no_time_is_refused_with_one_that_would_do(text: str) -> None:
    with pytest.raises(ValueError, match=r"2026-01-31T12:00:00\.5Z or 1769860800\.5 would do"):
        clock.read_time(text)


seconds = st.floats(-1000, 1000)
waits = st.floats(0, 60)


@given(seconds, waits, waits)
def test_the_true_difference_always_lies_in_the_range(ahead: float, before: float, after: float) -> None:
    # The other clock is read while the host's shows NOW, somewhere between the two moments that are known.
    offset = clock.compare(clock.Reading(NOW - ahead, 0), NOW - before, NOW + after)
    assert offset.low <= ahead + 1e-6
    assert ahead - 1e-6 <= offset.high
    assert offset.certain <= abs(ahead) + 1e-6 <= offset.most + 2e-6


@pytest.mark.parametrize(
    ("low", "high", "severity", "said"),
    [
        (-4.5, 0.5, "ok", "agree within 4.5 s"),
        (0.9, 5.9, "ok", "agree within 5.9 s"),
        (2, 7, "warning", "2 s to 7 s ahead of the controller's"),
        (-7, -2, "warning", "2 s to 7 s behind the controller's"),
        (-40, -35, "critical", "35 s to 40 s behind the controller's"),
        (90_000.0, 90_000.1, "critical", "is 1 d 1 h ahead of"),
    ],
)
def test_only_what_is_certain_is_held_against_a_clock(low: float, high: float, severity: str, said: str) -> None:
    finding = clock.offset_finding(
        "clock.controller", "controller", "the controller's", clock.Offset(low, high), LIMITS
    )
    assert finding.severity == severity
    assert said in finding.summary
    assert bool(finding.remedy) == (severity != "ok")


@pytest.mark.parametrize(
    ("scraped", "newest", "severity", "said"),
    [
        (NOW - 10, NOW - 10, "ok", "10 s old"),
        (NOW - 10, None, "ok", "10 s old"),
        (NOW - 200, NOW - 200, "warning", "3 min 20 s old"),
        (NOW - 10, NOW + 5, "warning", "5 s in the future"),
        (NOW - 10, NOW + 7200, "critical", "2 h in the future"),
        (None, NOW + 7200, "critical", "2 h in the future"),
        (None, -9223372036854775.808, "unknown", "No target was scraped"),
    ],
)
def test_samples_are_judged_by_the_clock_of_prometheus(
    scraped: float | None, newest: float | None, severity: str, said: str
) -> None:
    finding = clock.samples_finding("http://127.0.0.1:9090", NOW, scraped, newest, LIMITS)
    assert (finding.severity, said in finding.summary) == (severity, True)


def test_a_time_service_that_follows_a_source_is_ok() -> None:
    finding = synchronised(chronyc=(0, FOLLOWS))
    assert (finding.severity, finding.subject) == ("ok", "chronyc")
    assert finding.evidence["figures"] == {"clock_offset_seconds": 0.000213}


@pytest.mark.parametrize("answer", [FOLLOWS_ITSELF, FOLLOWS_NOBODY])
def test_a_time_service_that_follows_nobody_is_a_warning(answer: str) -> None:
    assert synchronised(chronyc=(0, answer)).severity == "warning"


def test_a_time_service_that_knows_the_clock_is_far_off_is_critical() -> None:
    assert synchronised(chronyc=(0, FOLLOWS.replace("0.000213", "-41.5"))).severity == "critical"
    assert synchronised(ntpq=(0, "leap=00, stratum=3, offset=-41500.0\n")).severity == "critical"


def test_a_program_that_knows_nothing_leaves_the_word_to_the_next() -> None:
    finding = synchronised(chronyc=(1, NO_DAEMON), timedatectl=(0, "NTP=yes\nNTPSynchronized=yes\n"))
    assert (finding.severity, finding.subject) == ("ok", "timedatectl")
    assert finding.evidence["answers"]["chronyc"] == "506 Cannot talk to daemon"
    assert synchronised(timedatectl=(0, "NTPSynchronized=no\n")).severity == "warning"
    assert synchronised(ntpq=(0, "leap=11, stratum=16, offset=0.0\n")).severity == "warning"


def test_no_time_service_is_unknown_and_says_what_was_asked() -> None:
    finding = synchronised(timedatectl=(1, NO_SYSTEMD))
    assert finding.severity == "unknown"
    assert "chronyc: not installed" in finding.summary
    assert "not been booted with systemd" in finding.summary
    assert "apt install chrony" in finding.remedy


def test_a_container_is_sent_to_the_machine_below_it(tmp_path: Path) -> None:
    assert not clock.is_container(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert clock.is_container(tmp_path)
    for answers in ({}, {"timedatectl": (0, "NTPSynchronized=no\n")}):
        finding = synchronised(True, **answers)
        assert "the machine below" in finding.summary
        assert "machine that runs this container" in finding.remedy


@given(st.text())
def test_any_answer_of_a_program_can_be_read(text: str) -> None:
    for program in ("chronyc", "ntpq", "timedatectl"):
        assert synchronised(**{program: (0, text)}).severity in ("ok", "warning", "critical", "unknown")
