# SPDX-License-Identifier: GPL-3.0-or-later
"""What an update decides without a server: which version reads whose data, what is worse than before, and its data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._update import versions
from ansible_collections.njord.telemetry.plugins.module_utils._update.data import Aside, room
from ansible_collections.njord.telemetry.plugins.module_utils._update.gate import Account, compare, moments, untried
from hypothesis import given
from hypothesis import strategies as st

BLOCK = "01J00000000000000000000000"
NEWER = "01J00000000000000000000001"
BEFORE = Account(
    "2.53.3",
    (),
    up=frozenset({"prometheus a", "node b"}),
    good=frozenset({"group: one", "group: two"}),
    wrong=frozenset({"group: sick already"}),
    rules=4,
    series=1000,
    samples=500,
    counts={"1000": {"up": 2, "past": 50}},
)
AFTER = dataclasses.replace(BEFORE, version="3.5.3")

numbers = st.tuples(st.integers(1, 4), st.integers(0, 60), st.integers(0, 9))


def text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


@pytest.mark.parametrize(
    ("reader", "writer", "does"),
    [
        ("2.53.3+ds1-2", "3.5.3+ds1-6", False),
        ("2.53.4", "3.0.0", False),
        ("2.53.5", "3.0.0", True),
        ("2.54.1", "3.0.0", False),
        ("2.55.0", "3.11.0", True),
        ("3.0.0", "3.5.3", True),
        ("3.5.3", "2.53.3", True),
        ("2.53.3", "2.53.5", True),
        ("2.53.3", "2.55.0", False),
        ("3.5.3", "4.0.0", False),
        ("1:3.5.4-1", "1:3.5.3-1", True),
        ("", "3.5.3", False),
        ("a1b2c3", "3.5.3", False),
    ],
)
def test_who_reads_whose_data_is_as_the_migration_guide_has_it(reader: str, writer: str, does: bool) -> None:
    assert versions.reads(reader, writer) is does


@given(numbers)
def test_every_version_reads_its_own_data_and_those_of_its_earlier_releases(version: tuple[int, int, int]) -> None:
    later = (version[0], version[1], version[2] + 1)
    assert versions.reads(text(version), text(version))
    assert versions.reads(text(later), text(version))
    assert versions.reads(text((version[0], version[1] + 1, 0)), text(version))


@given(numbers)
def test_nobody_is_said_to_read_what_a_version_after_the_next_writes(version: tuple[int, int, int]) -> None:
    assert not versions.reads(text(version), text((version[0] + 2, version[1], version[2])))


def test_what_a_program_says_of_itself_is_its_version() -> None:
    assert versions.said("prometheus, version 3.5.3+ds1 (branch: x, revision: y)\n  build user: z\n") == "3.5.3+ds1"
    assert versions.said("usage: something else") == ""


def test_a_service_that_is_as_it_was_passes() -> None:
    assert compare(BEFORE, AFTER, "3.5.3") == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": "2.53.3"}, "version 2.53.3 answers, and not 3.5.3"),
        ({"up": frozenset({"node b"})}, "1 of 2 targets are not up again, such as prometheus a"),
        ({"wrong": BEFORE.wrong | {"group: new"}}, "1 rules cannot be evaluated any more, such as group: new"),
        ({"rules": 3}, "it has 3 rules, and had 4"),
        ({"series": 499}, "it has 499 series, and had 1000"),
        ({"samples": 249}, "it exposes 249 samples, and exposed 500"),
        ({"counts": {"1000": {"up": 2, "past": 49}}}, "past at 1000 ms: 50 series then, 49 now"),
        ({"counts": {}}, "samples of the past are missing"),
        ({"findings": (Finding("service.ready", "prometheus", "critical", "It is not ready."),)}, "It is not ready."),
        ({"findings": (Finding("service.reload", "prometheus", "unknown", "It does not say."),)}, "It does not say."),
    ],
)
def test_whatever_is_worse_than_before_is_named(change: dict[str, t.Any], word: str) -> None:
    against = compare(BEFORE, dataclasses.replace(AFTER, **change), "3.5.3")
    assert len(against) == 1
    assert word in against[0]


@pytest.mark.parametrize(
    "change",
    [
        {"wrong": frozenset()},
        {"rules": 9, "series": 2000, "counts": {"1000": {"up": 3, "past": 50, "more": 1}}},
        {"up": frozenset({"node b"}), "fresh": frozenset({"prometheus a"})},
        {"findings": (Finding("service.targets", "prometheus", "warning", "One is down, as before."),)},
    ],
)
def test_what_is_better_or_had_no_turn_yet_is_not_held_against_it(change: dict[str, t.Any]) -> None:
    assert compare(BEFORE, dataclasses.replace(AFTER, **change), "3.5.3") == []


@pytest.mark.parametrize(
    ("fresh", "named"),
    [
        ({"prometheus a"}, ["prometheus a"]),
        ({"group: two", "node b"}, ["group: two", "node b"]),
        ({"group: sick already", "node that is new", "group: new"}, []),
        (set(), []),
    ],
)
def test_what_was_well_and_had_no_turn_is_named(fresh: set[str], named: list[str]) -> None:
    assert untried(BEFORE, dataclasses.replace(AFTER, fresh=frozenset(fresh))) == named


def test_an_account_of_an_earlier_version_is_read() -> None:
    document = BEFORE.as_dict()
    del document["good"]
    assert Account.read(document) == dataclasses.replace(BEFORE, good=frozenset())


def test_an_account_is_read_as_it_was_written() -> None:
    assert Account.read(json.loads(json.dumps(BEFORE.as_dict()))) == BEFORE


def test_the_past_is_asked_between_the_seconds_and_not_before_it_began() -> None:
    assert moments(10_000.0, 4_000.0) == [6_940_499, 9_880_499]
    assert moments(10_000.0, 9_950.0) == []
    assert moments(10_000.0, None) == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "metrics2"
    for path, content in {f"{BLOCK}/chunks/000001": "chunk", f"{BLOCK}/index": "index", "wal/00000000": "log"}.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(content)
    (directory / "snapshots" / "of-others").mkdir(parents=True)
    (directory / "queries.active").write_text("active")
    return directory


def files(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def test_kept_data_are_those_of_before_whatever_is_written_since(data: Path) -> None:
    before = files(data)
    aside = Aside.of(data, "stamp")
    aside.keep()
    assert aside.is_untouched()
    # A block costs no room, and what is written to is another file.
    assert (data / BLOCK / "index").stat().st_ino == (aside.kept / BLOCK / "index").stat().st_ino
    assert (data / "wal/00000000").stat().st_ino != (aside.kept / "wal/00000000").stat().st_ino
    with (data / "wal/00000000").open("a") as log:
        log.write(" and more")
    (data / NEWER).mkdir()
    (data / NEWER / "index").write_text("newer")
    assert not aside.is_untouched()
    aside.part()
    aside.join()
    aside.drop()
    assert files(data) == before
    assert files(aside.interim)["wal/00000000"] == "log and more"
    assert files(aside.interim)[f"{NEWER}/index"] == "newer"
    assert not aside.kept.exists()


def test_a_block_that_is_gone_or_new_is_seen(data: Path) -> None:
    aside = Aside.of(data, "stamp")
    aside.keep()
    (data / NEWER).mkdir()
    assert not aside.is_untouched()


@pytest.mark.parametrize("half", ["part", "join"])
@pytest.mark.parametrize("after", range(5))
def test_giving_back_that_is_interrupted_anywhere_is_ended_by_the_next_run(
    data: Path, half: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(data)
    aside = Aside.of(data, "stamp")
    aside.keep()
    (data / "wal/00000001").write_text("since")
    if half == "join":
        aside.part()
    rename = Path.rename
    moved: list[Path] = []

    def one_less(self: Path, target: Path) -> Path:
        if len(moved) == after:
            raise KeyboardInterrupt
        moved.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", one_less)
        with contextlib.suppress(KeyboardInterrupt):
            getattr(aside, half)()
    again = Aside.read(json.loads(json.dumps(aside.as_dict())))
    if half == "part":
        again.part()
    again.join()
    again.drop()
    assert files(data) == before
    assert files(again.interim)["wal/00000001"] == "since"


def test_what_a_server_writes_between_the_halves_goes_aside_as_well(data: Path) -> None:
    before = files(data)
    aside = Aside.of(data, "stamp")
    aside.keep()
    (data / "wal/00000001").write_text("since")
    aside.part()
    (data / "wal").mkdir()
    (data / "wal/00000000").write_text("from a boot")
    aside.join()
    aside.drop()
    assert files(data) == before
    assert files(aside.interim)["wal/00000001"] == "since"
    assert files(aside.interim)["wal-1/00000000"] == "from a boot"


def test_where_nothing_was_kept_nothing_is_taken_away(data: Path) -> None:
    before = files(data)
    aside = Aside.of(data, "stamp")
    aside.part()
    aside.join()
    assert files(data) == before
    assert not aside.interim.exists()


def test_the_room_for_a_copy_is_that_of_what_is_written_to(data: Path) -> None:
    least, free = room(data)
    with (data / BLOCK / "index").open("wb") as block:
        os.truncate(block.fileno(), 10_000_000)
    assert room(data)[0] == least
    (data / "wal/00000001").write_bytes(bytes(1000))
    assert room(data)[0] == least + 1000
    assert free > 0
