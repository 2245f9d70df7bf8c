# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever interrupts the exchange of journals, the run after it ends where an undisturbed one would have."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal import clean as clean_module
from ansible_collections.njord.telemetry.plugins.module_utils._journal import exchange, state, stream
from ansible_collections.njord.telemetry.plugins.module_utils._journal.exchange import Changed, commit, recover
from ansible_collections.njord.telemetry.plugins.module_utils._journal.state import (
    CONSUMED,
    INTENT,
    NEW,
    Broken,
    Consumed,
    Gone,
    Intent,
    Rename,
    append_consumed,
    read_consumed,
    read_intent,
    write_intent,
)
from ansible_collections.njord.telemetry.plugins.module_utils._journal.stream import Identity, file_hash

from tests.unit.module_utils.journals import (
    DAY,
    KEPT,
    MEMORY,
    MINUTE,
    TODAY,
    actions,
    aggregated,
    lines_of,
    nobody_has_a_file_open,
    run,
    stamp,
    write,
)

# What a killed process had open is closed when it is found, here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Killed(BaseException):
    """Nothing catches it, and nothing is done after it."""


class Disk:
    """Counts the calls that change a directory, and has one of them go wrong.

    :param at: which one; None for none.
    :param how: ``before`` and ``after`` kill the process there, ``error`` has the call fail once.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None = None, how: str = "before") -> None:
        self.calls = 0
        self.at = at
        self.how = how
        self.is_dead = False
        for place, name in (
            (Path, "rename"),
            (Path, "unlink"),
            (os, "unlink"),
            (os, "fsync"),
            (stream.Output, "write"),
        ):
            patch.setattr(place, name, self._wrapped(getattr(place, name)))
        patch.setattr(state, "append_consumed", self._wrapped(append_consumed))

    def _wrapped(self, call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def wrapped(*given: t.Any, **more: t.Any) -> t.Any:
            if self.is_dead:
                raise Killed
            self.calls += 1
            if self.calls != self.at:
                return call(*given, **more)
            if self.how == "error":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self.is_dead = True
            if self.how == "after":
                call(*given, **more)
            raise Killed

        return wrapped


def fill(root: Path) -> None:
    """A directory in which every kind of step is due."""

    def lines(age: int, *minutes: int, **more: t.Any) -> bytes:
        return b"".join(aggregated((TODAY - age) * DAY + minute * MINUTE, **more) for minute in minutes)

    # Of two days, with what is no record; it goes into a roll-up that has its name already.
    write(root, f"m_1m.{stamp(TODAY - 3)}.ndjson", lines(3, 1, 2, 9) + lines(2, 1) + b"no json\n")
    write(root, f"m_5m.{stamp(TODAY - 3)}.ndjson", lines(3, 0, 5, 10, interval_seconds=300))
    # Expired, and a day beside it that is not.
    write(root, f"n_1m.{stamp(TODAY - 40)}.ndjson.gz", lines(40, 1, 2) + lines(13, 3, 4) + b"\x00\n")
    # Twins, and what is only compressed.
    for ending in ("", ".gz"):
        write(root, f"metrics/aggregated_metrics.{stamp(TODAY - 4)}.ndjson{ending}", lines(4, 7, kind="counter"))
    write(root, f"metrics/c_1d.{stamp(TODAY - 9)}.jsonl", lines(9, 0, interval_seconds=86400))
    write(root, "metrics/aggregated_metrics.ndjson", lines(1, 5))


def end(root: Path) -> dict[str, bytes]:
    """The lines of every file; of ours those that may not be left, and what was consumed."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file() and path.name not in KEPT}
    consumed = sorted(set(read_consumed(str(root))))
    return {**{name: lines_of(path) for name, path in found.items()}, CONSUMED: json.dumps(consumed).encode()}


@pytest.fixture(scope="module", autouse=True)
def _nobody_has_a_file_open() -> t.Iterator[None]:
    with nobody_has_a_file_open():
        yield


@pytest.fixture(scope="module")
def before() -> t.Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        fill(Path(directory, "journals"))
        yield Path(directory, "journals")


class Undisturbed(t.NamedTuple):
    end: dict[str, bytes]
    calls: int


@pytest.fixture(scope="module")
def undisturbed(before: Path) -> Undisturbed:
    root = fresh(before)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        assert run(root).notes == []
    return Undisturbed(end(root), disk.calls)


def fresh(before: Path) -> Path:
    root = before.with_name("disturbed")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(before, root)
    return root


def disturbed(root: Path, at: int, how: str) -> bool:
    """A run that goes wrong. :return: whether it came so far."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, at, how)
        try:
            result = run(root)
        except Killed:
            return True
        # What failed is never silent.
        assert disk.calls < at or result.is_worse_than("warning")
        return disk.calls >= at


def test_every_kind_of_step_is_due(before: Path, undisturbed: Undisturbed) -> None:
    planned = run(fresh(before), dry_run=True)
    assert {action.action for action in planned.actions} == {"roll up", "expire", "compress", "rotate", "drop"}
    assert undisturbed.calls > 80


@pytest.mark.parametrize("how", ["before", "after", "error"])
def test_a_run_that_was_interrupted_anywhere_is_brought_to_its_end_by_the_next(
    before: Path, undisturbed: Undisturbed, how: str
) -> None:
    for at in range(1, undisturbed.calls + 1):
        root = fresh(before)
        assert disturbed(root, at, how)
        planned = run(root, dry_run=True)
        result = run(root)
        assert (at, result.notes) == (at, [])
        assert actions(planned) == actions(result), at
        assert end(root) == undisturbed.end, at
        assert run(root).actions == []


def test_so_is_one_whose_recovery_is_interrupted_too(before: Path, undisturbed: Undisturbed) -> None:
    chance = random.Random(1)
    for at in range(1, undisturbed.calls + 1, 4):
        root = fresh(before)
        disturbed(root, at, "after")
        for _time in range(2):
            disturbed(root, chance.randrange(1, 15), chance.choice(("before", "after", "error")))
        assert run(root).notes == []
        assert end(root) == undisturbed.end, at


def test_a_run_that_is_interrupted_again_and_again_comes_to_its_end(before: Path, undisturbed: Undisturbed) -> None:
    root = fresh(before)
    # A little further each time.
    for at in itertools.count(20):
        if not disturbed(root, at, "after"):
            break
    assert end(root) == undisturbed.end


# One exchange: two journals go, and two come; one of them in the place of one that goes.


class Exchange:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("a", "b"):
            (root / name).write_text(f"old {name}")
        for name in ("b", "c"):
            (root / f"{NEW}{name}").write_text(f"new {name}")
        renames = [
            Rename(f"{NEW}{name}", name, len(f"new {name}"), file_hash(str(root / f"{NEW}{name}")))
            for name in ("b", "c")
        ]
        sources = [Gone(name, Identity.of((root / name).stat()), file_hash(str(root / name))) for name in ("a", "b")]
        self.intent = Intent(renames, sources, [Consumed("content", "a", "b", 1)])

    def commit(self) -> None:
        commit(str(self.root), self.intent, lambda _identity: False)

    def interrupt(self, renames: int = 0, unlinks: int = 0) -> None:
        """As if it ended after so many steps."""
        write_intent(str(self.root), self.intent)
        for new in self.intent.renames[:renames]:
            (self.root / new.temporary).rename(self.root / new.path)
        for source in self.intent.sources[:unlinks]:
            (self.root / source.path).unlink()

    def recover(self, *opened: str) -> None:
        identities = [Identity.of((self.root / name).stat()) for name in opened]
        recover(str(self.root), lambda identity: identity in identities)

    @property
    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.root.iterdir() if path.name != CONSUMED}


OLD = {"a": "old a", "b": "old b"}
EXCHANGED = {"b": "new b", "c": "new c"}


@pytest.fixture
def given(tmp_path: Path) -> Exchange:
    return Exchange(tmp_path)


def test_files_are_exchanged(given: Exchange) -> None:
    given.commit()
    assert given.files == EXCHANGED
    assert read_consumed(str(given.root)) == given.intent.consumed


def test_without_a_record_there_is_nothing_to_recover(given: Exchange) -> None:
    assert recover(str(given.root), lambda _identity: True) is None


@pytest.mark.parametrize(("renames", "unlinks"), [(0, 0), (1, 0), (2, 0), (2, 1)])
def test_it_is_brought_to_its_end(given: Exchange, renames: int, unlinks: int) -> None:
    given.interrupt(renames, unlinks)
    given.recover()
    assert given.files == EXCHANGED
    assert read_consumed(str(given.root)) == given.intent.consumed


def test_what_was_consumed_is_noted_once(given: Exchange) -> None:
    given.interrupt(2, 1)
    append_consumed(str(given.root), given.intent.consumed)
    given.recover()
    assert read_consumed(str(given.root)) == given.intent.consumed


@pytest.mark.parametrize("name", ["b", "c"])
@pytest.mark.parametrize("lost", ["", "new", None])
def test_where_a_disk_has_lost_what_it_said_it_wrote_it_is_taken_back(
    given: Exchange, name: str, lost: str | None
) -> None:
    given.interrupt()
    if lost is None:
        (given.root / f"{NEW}{name}").unlink()
    else:
        (given.root / f"{NEW}{name}").write_text(lost)
    given.recover()
    assert given.files == OLD
    assert read_consumed(str(given.root)) == []


def test_it_is_taken_back_from_the_place_it_came_to_as_well(given: Exchange) -> None:
    given.intent = given.intent._replace(renames=given.intent.renames[::-1])
    given.interrupt(renames=1)
    (given.root / "c").write_text("")
    given.recover()
    assert given.files == OLD


def test_where_it_can_be_neither_ended_nor_taken_back_nothing_is_touched(given: Exchange) -> None:
    given.interrupt(2, 1)
    (given.root / "c").write_text("")
    before = given.files
    for _time in range(2):
        with pytest.raises(Broken, match="c is neither in its place nor under"):
            given.recover()
        assert given.files == before


def test_a_source_that_grew_after_it_was_read_is_not_counted_twice(given: Exchange) -> None:
    given.interrupt()
    with (given.root / "a").open("a") as file:
        file.write(" and more")
    given.recover()
    assert given.files == {**OLD, "a": "old a and more"}


def test_a_source_that_grew_beside_one_that_is_gone_is_left_to_a_person(given: Exchange) -> None:
    given.interrupt(renames=1)
    with (given.root / "a").open("a") as file:
        file.write(" and more")
    before = given.files
    with pytest.raises(Broken, match="a changed after it was read"):
        given.recover()
    assert given.files == before


def test_another_file_under_the_name_of_a_source_is_none_of_ours(given: Exchange) -> None:
    # Made before the other one is gone, or it could get its number.
    (given.root / "other").write_text("restored")
    given.interrupt(2, 1)
    (given.root / "other").rename(given.root / "a")
    given.recover()
    assert given.files == {**EXCHANGED, "a": "restored"}


def test_what_stands_where_something_should_come_is_not_written_over(given: Exchange) -> None:
    (given.root / "c").write_text("somebody's")
    with pytest.raises(Changed, match="c is there meanwhile"):
        given.commit()
    assert INTENT not in given.files
    given.interrupt()
    given.recover()
    assert given.files == {**OLD, "c": "somebody's"}


@pytest.mark.parametrize("name", ["a", "b"])
def test_what_changed_or_is_open_is_not_exchanged(given: Exchange, name: str) -> None:
    before = given.files
    opened = Identity.of((given.root / name).stat())
    with pytest.raises(Changed, match=f"{name} was opened meanwhile"):
        commit(str(given.root), given.intent, lambda identity: identity == opened)
    assert given.files == before
    (given.root / name).write_text("longer than before")
    with pytest.raises(Changed, match=f"{name} changed meanwhile"):
        given.commit()
    (given.root / name).unlink()
    with pytest.raises(Changed, match=f"{name} changed meanwhile"):
        given.commit()


def test_an_exchange_waits_for_who_has_a_source_open(given: Exchange) -> None:
    given.interrupt()
    before = given.files
    with pytest.raises(Changed, match="a was opened meanwhile"):
        given.recover("a")
    assert given.files == before
    given.recover()
    assert given.files == EXCHANGED


def test_no_exchange_begins_before_the_last_one_has_ended(given: Exchange) -> None:
    given.interrupt()
    with pytest.raises(Broken):
        given.commit()


# What a run says of it.


def interrupted(before: Path) -> Path:
    """Killed after the record of a roll-up was written."""
    root = fresh(before)
    with pytest.MonkeyPatch.context() as patch:

        def killed(*_given: t.Any, **_more: t.Any) -> None:
            raise Killed

        patch.setattr(exchange, "_exchange", killed)
        with pytest.raises(Killed):
            run(root)
    assert read_intent(str(root))
    return root


def test_a_record_that_is_none_stops_every_run(before: Path) -> None:
    root = interrupted(before)
    for text in ("", "{}", "[]", '{"renames": 1, "sources": [], "consumed": []}', "\x00" * 50, "\udcff"):
        (root / INTENT).write_bytes(text.encode("utf-8", "surrogateescape"))
        left = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for dry_run in (True, False):
            result = run(root, dry_run=dry_run)
            assert [(note.check, note.severity) for note in result.notes] == [("journal.recovery", "critical")]
            assert not result.is_complete
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == left


def test_a_source_that_somebody_opened_stops_the_recovery_till_it_is_closed(
    before: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = interrupted(before)
    intent = read_intent(str(root))
    assert intent
    identity = intent.sources[0].identity
    with monkeypatch.context() as patch:
        patch.setattr(clean_module, "open_files", lambda: ({(identity.device, identity.inode)}, 0))
        result = run(root)
    assert [(note.check, note.severity) for note in result.notes] == [("journal.recovery", "critical")]
    assert "opened meanwhile" in result.notes[0].summary
    assert run(root).notes == []
    assert end(root) == undisturbed.end


@pytest.mark.parametrize("text", [b"\xff\xfe\n", b"[1, 2]\n", b'["a", "b"', b"\x00" * 20, b"null\n", b"{}\n"])
def test_a_damaged_list_of_what_was_consumed_costs_no_more_than_its_line(tmp_path: Path, text: bytes) -> None:
    entry = Consumed("content", "path", "target", 3)
    append_consumed(str(tmp_path), [entry])
    with (tmp_path / CONSUMED).open("ab") as file:
        file.write(text)
    append_consumed(str(tmp_path), [entry._replace(day=4)])
    assert read_consumed(str(tmp_path)) == [entry, entry._replace(day=4)]


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"schema": 1, "files": {"a": [1]}}', b"\xff", b'{"schema": 2}'])
def test_a_damaged_state_is_only_forgotten(before: Path, undisturbed: Undisturbed, text: bytes) -> None:
    root = fresh(before)
    (root / KEPT[0]).write_bytes(text)
    assert run(root).notes == []
    assert end(root) == undisturbed.end
