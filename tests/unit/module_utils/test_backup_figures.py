# SPDX-License-Identifier: GPL-3.0-or-later
"""What journals count and sum up to: the same for the same records in any order, another for any other series."""

from __future__ import annotations

import json
import math
import random
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.figures import (
    Figures,
    Journal,
    difference,
    of_journals,
    read,
)
from ansible_collections.njord.telemetry.plugins.module_utils._journal.files import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from .journals import DAY, MINUTE, TODAY, aggregated, run, stamp, write

OLD = TODAY - 3
START = OLD * DAY
NAME = f"m_1m.{stamp(OLD)}.ndjson"

# (minute, name, label, value)
Line = t.Tuple[int, str, str, float]
VALUES = st.floats(-1e200, 1e200) | st.sampled_from([0.0, -0.0, -1.0, -2.0, 0.1, 1e-308, 2.0**61, 1e16])
LINES = st.lists(st.tuples(st.integers(0, 1439), st.sampled_from("abc"), st.sampled_from("xy"), VALUES), min_size=1)


def journals(root: Path) -> list[Journal]:
    tree, _unread = walk(str(root), TODAY, None, lambda _path, _identity, _modified: None)
    return [read(file) for file in tree.files.values()]


def counted(root: Path) -> Figures:
    return of_journals(journals(root))


def text(lines: t.Iterable[Line]) -> bytes:
    return b"".join(
        aggregated(START + minute * MINUTE, name, "gauge", value, labels={"l": label})
        for minute, name, label, value in lines
    )


@settings(max_examples=60, deadline=None)
@given(LINES, st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_files_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Line], chance: random.Random, files: int
) -> None:
    root = tmp_path_factory.mktemp("ones")
    write(root, NAME, text(lines))
    expected = counted(root)
    mixed = list(lines)
    chance.shuffle(mixed)
    other = tmp_path_factory.mktemp("others")
    for number in range(files):
        if mixed[number::files]:
            ending = ".gz" if number == 1 else ""
            write(other, f"m_1m.{stamp(OLD)}.{number}.ndjson{ending}", text(mixed[number::files]))
    assert counted(other) == expected
    assert len(expected) == 1
    figure = next(iter(expected.values()))
    assert figure["lines"] == figure["count"] == len(lines)
    assert figure["sum"] == repr(math.fsum(value for _minute, _name, _label, value in lines))


@settings(max_examples=60, deadline=None)
@given(LINES, st.data())
def test_another_value_or_another_series_is_seen(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Line], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("ones")
    write(root, NAME, text(lines))
    number = data.draw(st.integers(0, len(lines) - 1))
    minute, name, label, value = lines[number]
    changed = data.draw(
        st.sampled_from([(minute, "d", label, value), (minute, name, "z", value)])
        | VALUES.filter(lambda other: other != value).map(lambda other: (minute, name, label, other))
    )
    other = tmp_path_factory.mktemp("others")
    write(other, NAME, text([*lines[:number], changed, *lines[number + 1 :]]))
    assert difference(counted(root), counted(other))


def test_two_series_that_change_their_values_are_seen_though_the_sum_of_all_stays(tmp_path: Path) -> None:
    for place, values in (("ones", (-1.0, -2.0)), ("others", (-2.0, -1.0))):
        write(tmp_path, f"{place}/{NAME}", text([(0, "a", "x", values[0]), (0, "b", "x", values[1])]))
    ones, others = counted(tmp_path / "ones"), counted(tmp_path / "others")
    assert {figure["sum"] for figure in (*ones.values(), *others.values())} == {"-3.0"}
    assert "by series" in difference(ones, others)


def test_lines_that_are_read_one_by_one_count_like_those_that_are_not(tmp_path: Path) -> None:
    lines = [(minute, name, "x", minute / 7) for minute in range(50) for name in "ab"]
    write(tmp_path, f"ones/{NAME}", text(lines))
    # The same records with their keys in another order.
    rows = [dict(reversed(json.loads(line).items())) for line in text(lines).splitlines()]
    write(tmp_path, f"others/{NAME}", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    assert counted(tmp_path / "ones") == counted(tmp_path / "others")


def test_a_roll_up_keeps_the_count_of_each_series(tmp_path: Path) -> None:
    write(tmp_path, NAME, text((minute, name, "x", float(minute)) for minute in range(100) for name in "ab"))
    before = counted(tmp_path)
    run(tmp_path)
    after = counted(tmp_path)
    assert after.keys() != before.keys()
    (then,), (now,) = before.values(), after.values()
    assert now["lines"] < then["lines"]
    for key in ("count", "sum"):
        assert now[key] == then[key]
    # The first half of it is that of the counts.
    assert now["by_series"][:16] == then["by_series"][:16]


def test_what_is_known_of_a_journal_is_the_same_after_it_was_written_down(tmp_path: Path) -> None:
    write(tmp_path, NAME, text([(1, "a", "x", 0.1), (2, "b", "y", 1e16), (3, "a", "x", -3.0)]) + b"no record\n")
    found = journals(tmp_path)
    again = [Journal.of(json.loads(json.dumps(one.row()))) for one in found]
    assert of_journals(again) == of_journals(found)
    assert of_journals(again)["rejected lines"] == 1
    assert (again[0].first, again[0].last) == (START + MINUTE, START + 3 * MINUTE)


def test_figures_of_a_time_when_only_lines_were_counted_are_compared_by_those() -> None:
    now = {"2025-10-01 1m": {"lines": 3, "count": 9, "sum": "1.0", "by_series": "00"}, "files of trading": 1}
    assert difference({"2025-10-01 1m": 3, "files of trading": 1}, now) == ""
    assert "2025-10-01 1m: 4 then, 9 in 3 lines" in difference({"2025-10-01 1m": 4, "files of trading": 1}, now)
    assert "files of log: nothing then, 2 now" in difference(now, {**now, "files of log": 2})
