# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._units import (
    duration,
    human_duration,
    human_size,
    size,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 30 * 86400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("90s", 90),
        ("2w", 14 * 86400),
        ("1y", 365 * 86400),
        (" 5 m ", 300),
        ("0", 0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "30 days", "30dd", "1h-5m", "1m1m", "-5m", "1e3s", "5M", "5µs"])
def test_what_is_no_duration_is_named_with_what_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; 30d") as raised:
        duration(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10GB", 10 * 1024**3),
        ("10GiB", 10 * 1024**3),
        ("512 mb", 512 * 1024**2),
        ("1.5TB", 1536 * 1024**3),
        ("7B", 7),
        ("0", 0),
    ],
)
def test_a_size_is_read_as_prometheus_reads_it(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "10", "GB", "10G", "10 gigabytes", "-1GB", "1,5GB"])
def test_what_is_no_size_is_named_with_what_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="is no size; 10GB") as raised:
        size(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.2141, "214 ms"),
        (0.9996, "1 s"),
        (3.24, "3.2 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (3599.7, "1 h"),
        (86399.9, "1 d"),
        (3 * 86400 + 4 * 3600 + 120, "3 d 4 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_a_duration_is_written_in_two_units_at_most(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024**3, "10 GiB"),
        (-2048, "-2 KiB"),
        (1024**7, "1024 EiB"),
    ],
)
def test_a_size_is_written_in_the_unit_that_fits(count: int, text: str) -> None:
    assert human_size(count) == text


@given(st.floats(0, 1e10))
def test_what_is_written_for_people_is_within_a_twentieth_of_the_truth(seconds: float) -> None:
    read = duration(human_duration(seconds).replace("min", "m"))
    assert read == pytest.approx(seconds, rel=0.05, abs=0.001)


@given(st.integers(0, 1024**6))
def test_a_size_that_was_written_is_read_back_within_a_tenth(count: int) -> None:
    assert size(human_size(count)) == pytest.approx(count, rel=0.1)
