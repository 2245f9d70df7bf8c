# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clean-up does where something is not as it should be: nothing is lost, and it says what it left."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal import build, stream
from ansible_collections.njord.telemetry.plugins.module_utils._journal import clean as clean_module
from ansible_collections.njord.telemetry.plugins.module_utils._journal.clean import Result
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import locked
from ansible_collections.njord.telemetry.plugins.module_utils._journal.stream import Damaged, Source

from tests.unit.module_utils.journals import (
    DAY,
    KEPT,
    MINUTE,
    SECOND,
    TODAY,
    Figures,
    actions,
    aggregated,
    found,
    lines_of,
    run,
    snapshot,
    stamp,
    write,
)

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
# Five-minute days, in the policy of these tests.
OLD = TODAY - 3
START = OLD * DAY
NAME = f"m_1m.{stamp(OLD)}.ndjson"
ROLLED = f"m_5m.{stamp(OLD)}.ndjson"
TRADING = {
    "fills.20250930.ndjson": b'{"fill_id": "1", "ts_ns": 1759190400000000000, "price": 1.5}\n',
    "orders.ndjson": b'{"order_id": 1, "ts_ns": 1759190400000000000}\n',
    "ohlcv.1m.ATOMUSDT.20250930.ndjson.gz": b'{"ts_open": 1759190400000000000, "open": 1.0, "close": 2.0}\n',
    "fills_1m.20250930.ndjson": b'{"fill_id": "2", "timestamp_ns": 1759190400000000000, "qty": 3}\n',
    "fills_1m.20250929.ndjson": b'{"fill_id": "2", "timestamp_ns": 1759190400000000000, "qty": 3}\nno json\n\x00\n',
    "app.ndjson": b'{"level": "info", "event": "started", "ts": 1759190400}\n',
    "app.20250930.ndjson": b'{"level": "info", "event": "started", "ts": 1759190400}\n',
    "m_1m.20250930.txt": aggregated(1759190400 * SECOND),
    "config.jsonl": b"",
    "m.20250930.ndjson": aggregated(1759190400 * SECOND),
}


def only(root: Path) -> list[Figures]:
    """The records of the only group of journals."""
    (figures,) = found(root).values()
    return figures


def totals(root: Path) -> tuple[int, float]:
    figures = [one for of_group in found(root).values() for one in of_group]
    return sum(one.count for one in figures), sum(one.sum for one in figures)


def said(result: Result, check: str) -> list[tuple[str, str]]:
    return [(note.severity, note.subject) for note in result.notes if note.check == check]


def minutes(count: int, **more: t.Any) -> bytes:
    return b"".join(aggregated(START + minute * MINUTE, value=float(minute), **more) for minute in range(count))


def rejected(root: Path) -> bytes:
    (file,) = root.rglob("*.rejected")
    return file.read_bytes()


# Lines.


def test_nanoseconds_stay_whole_numbers(tmp_path: Path) -> None:
    write(tmp_path, NAME, aggregated(START + 123_456_789) + aggregated(START + 123_456_788, value=9.0))
    run(tmp_path)
    (one,) = only(tmp_path)
    assert (one.time, one.last_time, one.last) == (START, START + 123_456_789, 1.0)


def test_a_series_is_its_set_of_labels_with_values_as_text(tmp_path: Path) -> None:
    rows = [{"a": "1", "b": "x"}, {"b": "x", "a": "1"}, {"a": 1, "b": "x"}, {"a": "1"}, {"a": 1.0, "b": "x"}]
    write(tmp_path, NAME, b"".join(aggregated(START, kind="counter", labels=labels) for labels in rows))
    run(tmp_path)
    assert sorted((one.series[2], one.sum) for one in only(tmp_path)) == [
        ((("a", "1"),), 1.0),
        ((("a", "1"), ("b", "x")), 3.0),
        ((("a", "1.0"), ("b", "x")), 1.0),
    ]


BAD_LINES = (
    aggregated(START, value=float("nan")),
    aggregated(START, value=float("inf")),
    aggregated(START, value=float("-inf")),
    aggregated(START)[:-2] + b', "value": 1.0}\n',
    aggregated(START).replace(b'{"a": "b"}', b'{"a": "b", "a": "c"}'),
    aggregated(START).replace(b'"b"', b'"\xff"'),
    aggregated(START).replace(b'"b"', b'"\x00"'),
    bytes(70) + b"\n",
    aggregated(START)[:50] + b"\n",
    aggregated(-1),
    b'{"event": "something else"}\n',
    b" \r\n",
)


@pytest.mark.parametrize("bad", BAD_LINES)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_line_that_is_no_record_is_kept_byte_for_byte(tmp_path: Path, bad: bytes, ending: str) -> None:
    write(tmp_path, NAME + ending, minutes(6) + bad + minutes(2))
    result = run(tmp_path)
    assert totals(tmp_path_without_rejected(tmp_path)) == (8, 16.0)
    assert rejected(tmp_path) == bad
    assert sum(result.counts.rejected.values()) == 1
    assert result.notes == []


def tmp_path_without_rejected(root: Path) -> Path:
    """So that only journals are left to be read; what was rejected goes beside them."""
    for file in root.rglob("*.rejected"):
        file.rename(root / f".{file.name}.rejected")
    return root


def test_all_rejected_lines_of_all_files_are_kept(tmp_path: Path) -> None:
    for number in range(3):
        content = minutes(3) + b"".join(BAD_LINES) + b"cut off %d" % number
        write(tmp_path, f"m_1m.{stamp(OLD)}.{number + 1}.ndjson", content)
    run(tmp_path)
    assert totals(tmp_path_without_rejected(tmp_path)) == (9, 9.0)
    kept = rejected(tmp_path).split(b"\n")
    expected = [line for bad in BAD_LINES for line in bad[:-1].split(b"\n")] * 3
    assert sorted(kept) == sorted([*expected, *(b"cut off %d" % number for number in range(3)), b""])


def test_what_was_rejected_before_is_not_written_over(tmp_path: Path) -> None:
    for bad in (b"one\n", b"two\n"):
        write(tmp_path, NAME, minutes(3) + bad)
        run(tmp_path)
    assert sorted(file.read_bytes() for file in tmp_path.rglob("*.rejected")) == [b"one\n", b"two\n"]


def test_a_last_line_without_a_line_break_counts(tmp_path: Path) -> None:
    write(tmp_path, f"m_1m.{stamp(OLD)}.1.ndjson", minutes(3).rstrip(b"\n"))
    write(tmp_path, f"m_1m.{stamp(OLD)}.2.ndjson", minutes(3).rstrip(b"\n"))
    # That stay as they are, in a file of their own.
    later = aggregated((TODAY - 1) * DAY).rstrip(b"\n")
    for number in (3, 4):
        write(tmp_path, f"m_1m.{stamp(OLD)}.{number}.ndjson", minutes(1) + later)
    run(tmp_path)
    assert totals(tmp_path) == (10, 8.0)


def test_keys_that_nobody_knows_are_dropped_and_counted(tmp_path: Path) -> None:
    write(
        tmp_path, NAME, minutes(3) + minutes(2, host="h") + aggregated(START, kind="histogram", value=[1.0], host="h")
    )
    assert run(tmp_path).counts.unknown == {"host": 3}


_LONG_LINE = """
import sys
from ansible_collections.njord.telemetry.plugins.module_utils._journal.clean import Options, clean
from ansible_collections.njord.telemetry.plugins.module_utils._journal.plan import Rules
from ansible_collections.njord.telemetry.plugins.module_utils._journal.policy import Level, Policy
policy = Policy((Level(60, 2), Level(300, 30)), "0 2 * * *", "a test")
result = clean(Options(sys.argv[1], Rules(policy), int(sys.argv[2]), False, True, 100))
assert not result.notes and sum(result.counts.rejected.values()) == 1, result
# ru_maxrss is that of the parent too.
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak) * 1024)
"""


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_line_of_60_megabytes_takes_little_memory_and_is_kept(tmp_path: Path, ending: str) -> None:
    start, end = aggregated(START, kind="histogram", value=[])[:-3], b"1.0]}\n"
    with contextlib.ExitStack() as stack:
        file = stack.enter_context((tmp_path / f"{NAME}{ending}").open("wb"))
        out = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1)) if ending else file
        out.write(minutes(3) + start)
        for _megabyte in range(60):
            out.write(b"0.25, " * 170_000)
        out.write(end + minutes(3))
    child = subprocess.run(
        [sys.executable, "-c", _LONG_LINE, str(tmp_path), str(TODAY * DAY)],
        env={"PYTHONPATH": f"{ROOT}/playbooks/collections"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 64 * 1024 * 1024
    (kept,) = tmp_path.rglob("*.rejected")
    assert kept.stat().st_size == len(start) + 60 * 6 * 170_000 + len(end)
    kept.unlink()
    assert totals(tmp_path) == (6, 6.0)


# Files.


def test_a_file_that_grows_while_it_is_read_is_left(tmp_path: Path) -> None:
    path = write(tmp_path, NAME, minutes(9))
    with Source(str(path), compressed=False) as source, pytest.raises(Damaged, match="changed while it was read"):
        for _block in source.blocks(100):
            with path.open("ab") as file:
                file.write(minutes(1))


def test_a_file_that_grew_since_it_was_planned_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, NAME, minutes(9))
    make = build.make

    def make_meanwhile(*given: t.Any) -> t.Any:
        made = make(*given)
        with path.open("ab") as file:
            file.write(minutes(1))
        return made

    monkeypatch.setattr(clean_module, "make", make_meanwhile)
    result = run(tmp_path)
    assert said(result, "journal.step") == [("critical", NAME)]
    assert [action.state for action in result.actions] == ["left"]
    assert lines_of(path) == minutes(9) + minutes(1)
    assert {file.name for file in tmp_path.iterdir()} <= {NAME, *KEPT}
    monkeypatch.undo()
    assert run(tmp_path).notes == []
    assert totals(tmp_path) == (10, 36.0)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:-8] + b"\x00" * 8, lambda raw: raw + b"x"]
)
def test_a_damaged_compressed_file_is_named_and_left_and_the_rest_is_done(
    tmp_path: Path, damage: t.Callable[[bytes], bytes]
) -> None:
    noise = b"".join(aggregated(START + number, labels={"order": str(number * 7919 % 10007)}) for number in range(900))
    path = write(tmp_path, f"{NAME}.gz", noise)
    path.write_bytes(damage(path.read_bytes()))
    write(tmp_path, f"other_1m.{stamp(OLD)}.ndjson", minutes(3))
    before = path.read_bytes()
    result = run(tmp_path)
    assert said(result, "journal.unreadable") == [("critical", path.name)]
    assert path.read_bytes() == before
    assert (tmp_path / f"other_5m.{stamp(OLD)}.ndjson").exists()
    assert [action.state for action in result.actions] == ["done"]


def test_what_is_no_gzip_at_all_is_named_and_left(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(minutes(3))
    assert said(run(tmp_path), "journal.unreadable") == [("unknown", path.name)]
    assert path.read_bytes() == minutes(3)


def test_two_gzip_members_are_one_journal(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.gz").write_bytes(gzip.compress(minutes(6)) + gzip.compress(minutes(4)))
    run(tmp_path)
    assert totals(tmp_path) == (10, 21.0)


def test_plain_and_compressed_twins_count_once_where_they_are_equal(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    write(tmp_path, f"{NAME}.gz", minutes(6))
    planned = run(tmp_path, dry_run=True)
    result = run(tmp_path)
    assert actions(planned) == actions(result)
    assert [(action.action, action.subject) for action in result.actions] == [
        ("drop", NAME),
        ("roll up", f"{NAME}.gz"),
    ]
    assert totals(tmp_path) == (6, 15.0)
    assert result.notes == []


@pytest.mark.parametrize(
    "other",
    [minutes(5), minutes(6) + b"x\n", minutes(6)[:-1], None, b""],
    ids=["less", "more", "cut", "damaged", "empty"],
)
def test_twins_that_differ_are_named_and_neither_is_touched(tmp_path: Path, other: bytes | None) -> None:
    write(tmp_path, NAME, minutes(6))
    path = write(tmp_path, f"{NAME}.gz", minutes(6) if other is None else other)
    if other is None:
        path.write_bytes(path.read_bytes()[:-9])
    elif not other:
        path.write_bytes(b"")
    before = snapshot(tmp_path)
    for today in (TODAY, TODAY + 10):
        result = run(tmp_path, today)
        assert ("critical", NAME) in said(result, "journal.left")
        assert snapshot(tmp_path, but=KEPT).keys() == before.keys()
        assert {path: row for path, row in snapshot(tmp_path).items() if path in before} == before
        assert result.actions == []


@pytest.mark.parametrize("held", [NAME, f"{NAME}.gz"])
def test_equal_twins_are_left_as_long_as_one_of_them_is_open(tmp_path: Path, held: str) -> None:
    for name in (NAME, f"{NAME}.gz"):
        write(tmp_path, name, minutes(6))
    with held_open(tmp_path / held):
        result = run(tmp_path)
    assert result.actions == []
    assert {severity for severity, _path in said(result, "journal.left")} == {"warning"}
    run(tmp_path)
    assert totals(tmp_path) == (6, 15.0)


def test_a_file_that_grows_beside_its_compressed_twin_is_not_even_renamed(tmp_path: Path) -> None:
    write(tmp_path, "aggregated_metrics.ndjson", minutes(6))
    write(tmp_path, "aggregated_metrics.ndjson.gz", minutes(4))
    result = run(tmp_path)
    assert result.actions == []
    assert {severity for severity, _path in said(result, "journal.left")} == {"critical"}


def test_a_journal_restored_beside_its_own_roll_up_is_named_and_left(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    run(tmp_path)
    rolled = totals(tmp_path)
    for name in (NAME, f"m_1m.{stamp(OLD)}.9.ndjson.gz"):
        path = write(tmp_path, name, minutes(6))
        result = run(tmp_path)
        assert said(result, "journal.left") == [("critical", name)]
        assert result.actions == []
        # Also when the roll-up was rolled up further.
        assert ("critical", name) in said(run(tmp_path, TODAY + 5), "journal.left")
        path.unlink()
        assert totals(tmp_path) == rolled


def test_a_whole_directory_that_was_restored_is_rolled_up_again(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    run(tmp_path)
    (tmp_path / ROLLED).unlink()
    # One of several resolutions: it is no roll-up of itself.
    write(tmp_path, NAME, minutes(6))
    result = run(tmp_path)
    assert [action.state for action in result.actions] == ["done"]
    assert totals(tmp_path) == (6, 15.0)


def test_what_is_no_journal_of_metrics_is_never_touched(tmp_path: Path) -> None:
    for name, content in TRADING.items():
        os.utime(write(tmp_path / "metrics", name, content), ns=(START, START))
    write(tmp_path / "metrics", NAME, minutes(6))
    before = snapshot(tmp_path / "metrics")
    assert len(run(tmp_path, TODAY + 900).actions) == 1
    after = snapshot(tmp_path / "metrics")
    assert {name: after[name] for name in TRADING} == {name: before[name] for name in TRADING}


def test_others_are_compressed_when_asked_and_only_under_a_dated_name(tmp_path: Path) -> None:
    for name, content in TRADING.items():
        write(tmp_path, name, content)
    before = snapshot(tmp_path)
    result = run(tmp_path, others=True)
    compressed = [
        "app.20250930.ndjson",
        "fills.20250930.ndjson",
        "fills_1m.20250929.ndjson",
        "fills_1m.20250930.ndjson",
    ]
    assert sorted(action.subject for action in result.actions) == compressed
    after = snapshot(tmp_path, but=KEPT)
    assert set(after) == set(before) - set(compressed) | {f"{name}.gz" for name in compressed}
    for name in compressed:
        assert lines_of(tmp_path / f"{name}.gz") == TRADING[name]
    assert {after[name][0] for name in set(TRADING) - set(compressed)} == {
        before[name][0] for name in set(TRADING) - set(compressed)
    }
    assert run(tmp_path, others=True).actions == []


def test_others_with_something_under_their_compressed_name_are_left(tmp_path: Path) -> None:
    path = write(tmp_path, "fills.20250930.ndjson", TRADING["fills.20250930.ndjson"])
    (tmp_path / "fills.20250930.ndjson.gz").symlink_to(path.name)
    assert run(tmp_path, others=True).actions == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "journals", tmp_path / "elsewhere"
    write(outside, NAME, minutes(6))
    write(root, f"below/{NAME}", minutes(6))
    (root / "out").symlink_to(outside)
    (root / NAME).symlink_to(outside / NAME)
    (root / "below" / "again").symlink_to("..")
    (root / "itself").symlink_to("itself")
    (root / "gone").symlink_to("nowhere")
    # The roll-up needs another name than that of a link.
    (root / "below" / ROLLED).symlink_to(outside / NAME)
    before = snapshot(outside)
    result = run(root)
    assert [(action.subject, action.state) for action in result.actions] == [(f"below/{NAME}", "done")]
    assert snapshot(outside) == before
    assert (root / "below" / ROLLED).is_symlink()
    assert (root / "below" / f"m_5m.{stamp(OLD)}.1.ndjson").is_file()


def test_a_journal_directory_may_be_a_link_itself(tmp_path: Path) -> None:
    write(tmp_path / "real", NAME, minutes(6))
    (tmp_path / "link").symlink_to("real")
    assert [action.state for action in run(tmp_path / "link").actions] == ["done"]
    assert totals(tmp_path / "real") == (6, 15.0)


def test_a_file_with_two_names_in_the_tree_is_left(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    os.link(tmp_path / NAME, tmp_path / f"n_1m.{stamp(OLD)}.ndjson")
    for _time in range(2):
        result = run(tmp_path)
        assert [subject for _severity, subject in said(result, "journal.unreadable")] == [
            NAME,
            f"n_1m.{stamp(OLD)}.ndjson",
        ]
        assert result.actions == []
        assert lines_of(tmp_path / NAME) == minutes(6)


def test_a_name_outside_keeps_what_it_had(tmp_path: Path) -> None:
    path = write(tmp_path / "journals", NAME, minutes(6))
    os.link(path, tmp_path / "kept")
    assert [action.state for action in run(tmp_path / "journals").actions] == ["done"]
    assert (tmp_path / "kept").read_bytes() == minutes(6)


def test_what_appears_under_the_name_of_a_roll_up_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, NAME, minutes(6))
    make = build.make

    def make_meanwhile(*given: t.Any) -> t.Any:
        made = make(*given)
        (tmp_path / ROLLED).mkdir()
        return made

    monkeypatch.setattr(clean_module, "make", make_meanwhile)
    result = run(tmp_path)
    assert said(result, "journal.step") == [("critical", NAME)]
    assert sorted(file.name for file in tmp_path.iterdir() if file.name not in KEPT) == [NAME, ROLLED]
    monkeypatch.undo()
    (tmp_path / ROLLED).rmdir()
    assert [action.state for action in run(tmp_path).actions] == ["done"]


def test_owner_and_mode_of_a_journal_are_those_of_what_comes_of_it(tmp_path: Path) -> None:
    for number, (name, mode) in enumerate([(NAME, 0o640), (f"n_1m.{stamp(TODAY - 1)}.jsonl", 0o600)]):
        path = write(tmp_path, name, minutes(3) if number == 0 else aggregated((TODAY - 1) * DAY))
        path.chmod(mode)
        os.chown(path, 1234, 4321)
    run(tmp_path, compress_after=1)
    after = {path.name: path.stat() for path in tmp_path.iterdir() if path.name not in KEPT}
    assert {name: (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) for name, status in after.items()} == {
        f"{ROLLED}.gz": (1234, 4321, 0o640),
        f"n_1m.{stamp(TODAY - 1)}.jsonl.gz": (1234, 4321, 0o600),
    }
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in KEPT} <= {0o600, 0o644}


@contextlib.contextmanager
def held_open(path: Path) -> t.Iterator[None]:
    """By another process, for writing."""
    code = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield
        assert process.stdin
        process.stdin.close()


def test_what_a_writer_holds_open_is_named_and_left(tmp_path: Path) -> None:
    path = write(tmp_path, NAME, minutes(6))
    write(tmp_path, f"n_1m.{stamp(OLD)}.ndjson", minutes(3))
    with held_open(path):
        before = snapshot(tmp_path)[NAME]
        result = run(tmp_path)
        assert said(result, "journal.left") == [("warning", NAME)]
        assert snapshot(tmp_path)[NAME] == before
        assert [action.subject for action in result.actions] == [f"n_1m.{stamp(OLD)}.ndjson"]
    assert [action.subject for action in run(tmp_path).actions] == [NAME]


def test_a_file_that_is_opened_after_it_was_planned_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, NAME, minutes(6))
    make = build.make
    with contextlib.ExitStack() as stack:

        def make_meanwhile(*given: t.Any) -> t.Any:
            stack.enter_context(held_open(path))
            return make(*given)

        monkeypatch.setattr(clean_module, "make", make_meanwhile)
        assert said(run(tmp_path), "journal.step") == [("critical", NAME)]
    assert lines_of(path) == minutes(6)


def test_a_growing_file_is_renamed_while_its_writer_goes_on(tmp_path: Path) -> None:
    live = write(tmp_path, "aggregated_metrics.ndjson", minutes(6))
    with held_open(live):
        result = run(tmp_path)
        assert [(action.action, action.into) for action in result.actions] == [
            ("rotate", f"aggregated_metrics.{stamp(TODAY)}.ndjson")
        ]
        # It still holds it a day later.
        assert said(run(tmp_path, TODAY + 1), "journal.left") == [
            ("warning", f"aggregated_metrics.{stamp(TODAY)}.ndjson")
        ]
    run(tmp_path, TODAY + 1)
    assert totals(tmp_path) == (6, 15.0)


def test_files_we_may_not_read_are_named_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = write(tmp_path, NAME, minutes(6))
    write(tmp_path, f"n_1m.{stamp(OLD)}.ndjson", minutes(3))
    open_ = os.open

    def refused(path: t.Any, *given: t.Any, **more: t.Any) -> int:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return open_(path, *given, **more)

    monkeypatch.setattr(os, "open", refused)
    result = run(tmp_path)
    assert said(result, "journal.unreadable") == [("unknown", NAME)]
    assert [(action.subject, action.state) for action in result.actions] == [(f"n_1m.{stamp(OLD)}.ndjson", "done")]
    assert result.is_worse_than("warning")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_where_open_files_of_others_are_unknown_nothing_is_touched(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp()
    for directory in (base.parent, base, tmp_path):
        directory.chmod(0o755)
    root = tmp_path / "journals"
    write(root, NAME, minutes(6))
    for path in (root, root / NAME):
        os.chown(path, NOBODY, NOBODY)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        result = run(root)
        os.write(writing, json.dumps([said(result, "journal.open"), len(result.actions)]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert json.load(answer) == [[["unknown", str(root)]], 0]
    os.waitpid(child, 0)
    assert lines_of(root / NAME) == minutes(6)


# Directories and clocks.


def test_an_empty_and_a_missing_directory_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("empty", "missing", "file"):
        result = run(tmp_path / name)
        assert said(result, "journal.directory") == [("unknown", str(tmp_path / name))]
        assert not result.is_complete
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "missing").exists()


def test_a_few_lines_from_the_future_are_named_and_kept(tmp_path: Path) -> None:
    far = (TODAY + 400) * DAY
    write(tmp_path, NAME, minutes(300) + aggregated(far))
    result = run(tmp_path, is_certain_of_now=False)
    assert said(result, "journal.future") == [("warning", str(tmp_path))]
    assert totals(tmp_path) == (301, sum(range(300)) + 1.0)
    assert max(one.time for one in only(tmp_path)) == far
    assert (tmp_path / ROLLED).exists()
    # They do not keep anything from being done, nor are they rolled up before their time.
    assert run(tmp_path, is_certain_of_now=False).actions == []


def test_a_clock_that_jumps_forwards_or_back_touches_nothing(tmp_path: Path) -> None:
    for age in range(1, 5):
        write(tmp_path, f"m_1m.{stamp(TODAY - age)}.ndjson", aggregated((TODAY - age) * DAY))
    before = snapshot(tmp_path)
    for wrong in (TODAY + 365, TODAY + 9999, TODAY - 365, 1):
        result = run(tmp_path, wrong, is_certain_of_now=False, max_expire_percent=20)
        assert said(result, "journal.clock") == [("critical", str(tmp_path))]
        assert {action.state for action in result.actions} <= {"planned"}
        assert {name: row for name, row in snapshot(tmp_path).items() if name in before} == before
    assert run(tmp_path, is_certain_of_now=False).notes == []


def test_a_clock_that_jumps_does_not_forget_what_was_rolled_up(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    run(tmp_path)
    assert said(run(tmp_path, TODAY + 9999, is_certain_of_now=False), "journal.clock")
    write(tmp_path, NAME, minutes(6))
    assert said(run(tmp_path), "journal.left") == [("critical", NAME)]


# Limits.


def test_more_than_the_share_that_may_expire_stops_the_run(tmp_path: Path) -> None:
    content = minutes(10)
    write(tmp_path, NAME, content)
    write(tmp_path, f"n_1m.{stamp(TODAY - 90)}.ndjson", content)
    expired = write(tmp_path, f"old_1m.{stamp(TODAY - 90)}.ndjson", aggregated((TODAY - 90) * DAY) * 10)
    before = snapshot(tmp_path)
    result = run(tmp_path, max_expire_percent=20)
    assert said(result, "journal.expiry") == [("critical", str(tmp_path))]
    assert {action.state for action in result.actions} == {"planned"}
    assert {name: row for name, row in snapshot(tmp_path).items() if name in before} == before
    (note,) = [note for note in result.notes if note.check == "journal.expiry"]
    share = int(note.remedy.rsplit("=", 1)[1].rstrip("."))
    assert 30 < share < 40
    assert run(tmp_path, max_expire_percent=share).notes == []
    assert not expired.exists()


def test_roll_up_is_no_expiry(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    assert run(tmp_path, max_expire_percent=0).notes == []
    assert (tmp_path / ROLLED).exists()


def test_too_little_room_is_named_in_bytes_and_nothing_is_given_up(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    result = run(tmp_path, min_free=10**15)
    assert said(result, "journal.step") == [("critical", NAME)]
    needs = result.notes[0].summary
    assert f"beside the {10**15} that stay free" in needs
    assert lines_of(tmp_path / NAME) == minutes(6)
    assert run(tmp_path).notes == []


def test_of_two_runs_at_once_the_second_says_who_is_at_it(tmp_path: Path) -> None:
    write(tmp_path, NAME, minutes(6))
    with locked(str(tmp_path), shared=False):
        for dry_run in (False, True):
            result = run(tmp_path, dry_run=dry_run)
            assert said(result, "journal.lock") == [("unknown", str(tmp_path))]
            assert f"process {os.getpid()}" in result.notes[0].summary
    with locked(str(tmp_path), shared=True):
        assert run(tmp_path, dry_run=True).notes == []
        assert said(run(tmp_path), "journal.lock")
    assert run(tmp_path).notes == []


def test_memory_is_that_of_a_few_blocks_whatever_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where buckets are written out in several runs, they are merged again."""
    monkeypatch.setattr(build, "MOST_PARTIALS", 10)
    monkeypatch.setattr(build, "MOST_OPEN", 3)
    monkeypatch.setattr(stream.Source.blocks, "__defaults__", (400,))
    rows = [
        aggregated(
            START + (minute * 611 % 1440) * MINUTE, f"m{minute % 7}", kind, [1.0, minute] if "hist" in kind else minute
        )
        for minute in range(1440)
        for kind in ("gauge", "counter", "histogram")
    ]
    write(tmp_path, NAME, b"".join(rows))
    write(
        tmp_path,
        f"m_1m.{stamp(OLD)}.1.ndjson.gz",
        b"".join(rows[:200]) + b"".join(aggregated(START + DAY * day, f"d{day}") for day in (1, 2)),
    )
    plain = sorted((one.series, one.time, one.count, one.sum) for one in expected_in_one_go(tmp_path))
    result = run(tmp_path)
    assert result.notes == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") and path.name not in KEPT]
    assert sorted((one.series, one.time, one.count, one.sum) for one in only(tmp_path)) == plain


def expected_in_one_go(root: Path) -> list[Figures]:
    made: dict[t.Any, Figures] = {}
    for one in only(root):
        if one.time // DAY == OLD:
            one.time -= one.time % (300 * SECOND)
        if (one.series, one.time) in made:
            made[one.series, one.time].add(one)
        else:
            made[one.series, one.time] = one
    return list(made.values())
