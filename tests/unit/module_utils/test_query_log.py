# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the query log as both versions write them, broken ones, many different ones, and files that were rotated."""

from __future__ import annotations

import datetime
import gzip
import json
import math
import os
import random
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query import query_log, query_log_files
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.query_log import (
    FURTHER,
    OTHER,
    REQUEST,
    RULE,
    UNFINISHED,
    Origin,
    Reader,
    Stats,
    Summary,
    shape,
)
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.query_log_files import read, siblings
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_795_000_000
VERSIONS = ("2", "3")
CLIENT = {"httpRequest": {"clientIP": "10.0.0.7", "method": "POST", "path": "/api/v1/query_range"}}
GROUP = {"ruleGroup": {"file": "/etc/prometheus/rules/njord.yml", "name": "njord"}}


def line(
    version: str = "3",
    query: str = "up",
    seconds: float = 0.25,
    *,
    at: float = NOW,
    origin: t.Mapping[str, t.Any] | None = None,
    queued: float = 0.001,
    samples: int = 7,
    peak: int = 3,
    error: str = "",
    zone: int = 0,
) -> bytes:
    """A line as the version writes it. :param zone: hours that the clock of the server is ahead of UTC."""
    origin = CLIENT if origin is None else origin
    moment = datetime.datetime.fromtimestamp(at, datetime.timezone(datetime.timedelta(hours=zone)))
    params = {"end": "2026-11-18T11:06:40.000Z", "query": query, "start": "2026-11-18T10:06:40.000Z", "step": 15}
    timings = {
        "evalTotalTime": seconds,
        "resultSortTime": 0,
        "queryPreparationTime": 4.01e-07,
        "innerEvalTime": seconds / 2,
        "execQueueTime": queued,
        "execTotalTime": seconds,
    }
    stats = {"timings": timings, "samples": {"totalQueryableSamples": samples, "peakSamples": peak}}
    failed = {"error": error} if error else {}
    span = {"spanID": "0000000000000000"}
    if version == "3":
        when = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = {"time": when, "level": "INFO", "source": "engine.go:662", "msg": "promql query logged"}
        document = {**head, "params": params, **failed, "stats": stats, **span, **origin}
    else:
        when = moment.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        unsorted = {"params": params, **failed, "stats": stats, **span, **origin, "ts": when}
        document = {name: unsorted[name] for name in sorted(unsorted)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).replace("e-07", "e-7").encode() + b"\n"


def summary(*lines: bytes, since: float = 0, until: float = 4e9) -> Summary:
    """Of all lines, after one of each shape was read by itself: so that they are cut."""
    reader = Reader(since, until)
    reader.feed(b"".join(lines))
    reader.finish()
    reader.summary = Summary()
    reader.feed(b"".join(lines))
    reader.finish()
    return reader.summary


def as_json(*lines: bytes) -> Summary:
    """By the JSON parser alone: in a line with such a space no cut finds anything."""
    return summary(*(one.replace(b',"query":', b', "query":', 1) for one in lines))


def told(found: Summary) -> t.Any:
    """All that a summary says, to compare it."""
    figures = {
        key: [getattr(stats, name) for name in Stats.__slots__ if name != "sketch"] + [stats.sketch.as_json()]
        for key, stats in found.queries.items()
    }
    return figures, found.failures, found.not_understood, found.understood, found.outside, found.first, found.last


def only(found: Summary) -> Stats:
    (stats,) = found.queries.values()
    return stats


# Both schemas


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("origin", [CLIENT, GROUP, {}])
def test_a_line_is_read_with_all_its_figures(version: str, origin: dict[str, t.Any]) -> None:
    found = summary(line(version, seconds=0.25, queued=0.5, samples=70, peak=30, origin=origin))
    ((asked_by, query), stats) = next(iter(found.queries.items()))
    assert query == "up"
    assert asked_by.kind == (REQUEST if origin is CLIENT else RULE if origin is GROUP else OTHER)
    assert (stats.count, stats.errors, stats.seconds, stats.queued, stats.longest_queued) == (1, 0, 0.25, 0.5, 0.5)
    assert (stats.samples, stats.peak, stats.longest) == (70, 30, 0.25)
    assert stats.slowest
    assert (stats.slowest.step, stats.slowest.start) == (15, "2026-11-18T10:06:40.000Z")
    assert found.first == found.last == NOW


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("origin", [CLIENT, GROUP])
def test_a_line_like_one_before_needs_no_json_parser(
    version: str, origin: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(0, 4e9)
    reader.feed(line(version, origin=origin))
    monkeypatch.setattr(query_log, "_document", lambda _line: pytest.fail("it was parsed"))
    query = 'sum by (a) (rate(x{b=~"c\\\\d|é<&>", e="\\n"}[5m]))'
    reader.feed(line(version, query, 1e-7, at=NOW + 77.5, origin=origin, samples=10**9))
    reader.finish()
    assert {key[1] for key in reader.summary.queries} == {"up", query if origin is GROUP else shape(query)}
    assert reader.summary.last == NOW + 77.5


queries = st.one_of(
    st.sampled_from(["up", 'x{a="b\\"}"}', "a\n+ b", 'é{j="\\\\"}', "rate(x[5m])", "rate(x[301s] @ 1700000000)", ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
figures = st.floats(0, 1e6).map(lambda number: round(number, 9))
origins = st.sampled_from([CLIENT, GROUP, {}, {"httpRequest": {"clientIP": "::1", "method": "GET", "path": "/p"}}])
errors = st.sampled_from(["", "", "", "query timed out in expression evaluation", 'some "thing"'])
lines = st.builds(
    line,
    st.sampled_from(VERSIONS),
    queries,
    figures,
    at=st.integers(NOW - 9000, NOW),
    origin=origins,
    queued=figures,
    samples=st.integers(0, 10**12),
    peak=st.integers(0, 10**9),
    error=errors,
    zone=st.sampled_from([0, 1, -5]),
)


def close(one: t.Any, other: t.Any) -> bool:
    """Alike but for the last digits of a sum, whose order differs."""
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(one, dict):
        return set(one) == set(other) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == other)


@given(st.lists(lines, max_size=12))
def test_the_fast_way_says_what_the_json_parser_says(given_lines: list[bytes]) -> None:
    fast, slow = summary(*given_lines), as_json(*given_lines)
    assert close(sorted(told(fast)[0].items()), sorted(told(slow)[0].items())) or _ties(given_lines)
    assert close(told(fast)[1:], told(slow)[1:])


def _ties(given_lines: list[bytes]) -> bool:
    """Whether several lines took equally long: then either may be the slowest."""
    taken = [json.loads(one)["stats"]["timings"]["execTotalTime"] for one in given_lines]
    return len(set(taken)) < len(taken)


@given(st.lists(lines, min_size=1, max_size=12), st.data())
def test_lines_may_be_read_in_parts_and_merged(given_lines: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(given_lines)))
    both = summary(*given_lines[:cut])
    both.merge(summary(*given_lines[cut:]))
    whole = summary(*given_lines)
    assert close(sorted(told(both)[0].items()), sorted(told(whole)[0].items())) or _ties(given_lines)
    assert both.understood == whole.understood
    assert {name: one.count for name, one in both.failures.items()} == {
        name: one.count for name, one in whole.failures.items()
    }


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=80), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_off_by_its_error_at_most(seconds: list[float], q: float) -> None:
    found = summary(*(line(seconds=one, queued=0) for one in seconds))
    sketch = only(found).sketch
    true = sorted(seconds)[math.ceil(q * len(seconds)) - 1]
    assert abs(sketch.quantile(q) - true) <= true * (sketch.relative_error + 1e-12)
    assert sketch.relative_error < 0.003 or len(set(seconds)) > 300


def test_a_log_of_both_versions_is_read_to_its_end() -> None:
    found = summary(*(line("2") for _time in range(5)), *(line("3") for _time in range(3)))
    assert (found.understood, found.not_understood) == (8, {})
    reader = Reader(0, 4e9)
    for version in "2323":
        reader.feed(line(version) * 3)
    reader.finish()
    assert (reader.summary.understood, only(reader.summary).count) == (12, 12)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_query_is_counted_by_its_kind(version: str) -> None:
    message = 'found duplicate series for the match group {job="p"} on the right hand-side'
    found = summary(line(version), line(version, error=message), line(version, "x", error="something new"))
    assert {name: failures.count for name, failures in found.failures.items()} == {"ambiguous join": 1, "other": 1}
    assert found.failures["ambiguous join"].examples == [(message, "up", Origin(REQUEST, "10.0.0.7"))]
    assert sum(stats.errors for stats in found.queries.values()) == 2


def test_a_line_with_more_than_is_known_is_read_all_the_same() -> None:
    more = line().replace(b'"peakSamples":3', b'"peakSamples":3,"totalQueryableSamplesPerStep":[[1,2]]')
    assert summary(more.replace(b'{"time"', b'{"new":{"a":[]},"time"')).understood == 1


# What is not understood


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"level=info msg=started\n", "not JSON"),
        (line()[:200] + b"\n", "not JSON"),
        (line()[:150] + line(), "not JSON"),
        (line()[: line().index(b'"up"') + 2] + line(), "not JSON"),
        (b"\x00\x00\x00\xff\n", "not JSON"),
        (b"[1]\n", "JSON, but no record of a query"),
        (b'{"time":"2026-11-18T11:06:40Z","msg":"x"}\n', "JSON, but no record of a query"),
        (line().replace(b'"time"', b'"when"'), "without a time"),
        (line().replace(b"2026-11-18T", b"2026-13-18T", 1), "without a time"),
        (line().replace(b"execTotalTime", b"execTime"), "without its figures"),
        (line(seconds=0.25).replace(b'"execTotalTime":0.25', b'"execTotalTime":1e999'), "without its figures"),
        (line(seconds=0.25).replace(b'"execTotalTime":0.25', b'"execTotalTime":-1'), "without its figures"),
        (line(seconds=0.25).replace(b'"execTotalTime":0.25', b'"execTotalTime":0.2.5'), "not JSON"),
        (line(samples=7).replace(b'"totalQueryableSamples":7', b'"totalQueryableSamples":' + b"9" * 5000), "*"),
    ],
)
def test_a_broken_line_is_counted_and_named_and_the_others_are_read(broken: bytes, reason: str) -> None:
    found = summary(line(), broken, line(), b"\n", line())
    assert len(found.not_understood) == 1
    why, (count, example) = next(iter(found.not_understood.items()))
    assert why == reason or reason == "*"
    assert count == 1
    assert example.rstrip("\n") in broken.decode("utf-8", "replace")
    assert found.understood == 3


@given(st.lists(st.one_of(lines, st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"") + b"\n")), max_size=8))
def test_every_line_is_counted_once(given_lines: list[bytes]) -> None:
    found = summary(*given_lines)
    broken = sum(count for count, _example in found.not_understood.values())
    assert found.understood + broken == sum(1 for one in given_lines if one.strip())


# The window


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("zone", [0, 2, -5])
def test_only_lines_of_the_window_count(version: str, zone: int) -> None:
    times = [NOW - 8000, NOW - 3601, NOW - 3600, NOW - 1, NOW, NOW + 1, NOW + 90_000]
    found = summary(*(line(version, at=at, zone=zone) for at in times), since=NOW - 3600, until=NOW)
    assert (found.understood, found.outside) == (3, 4)
    assert (found.first, found.last) == (NOW - 3600, NOW)


# Many different queries


def test_ranges_that_a_dashboard_counts_out_are_one_query() -> None:
    first, second = "rate(x[3607s])", "rate(x[1h:15s] @ 1700000000.123)"
    assert shape(first) == "rate(x[...])"
    assert shape(second) == "rate(x[...] @ ...)"
    assert shape('x{a=~"[0-9]@ 5[5m]"}[5m]') == 'x{a=~"[0-9]@ 5[5m]"}[...]'
    found = summary(*(line(query=f"rate(x[{number}s])") for number in range(1, 50)))
    assert only(found).count == 49


def test_rules_that_differ_in_their_range_alone_are_two() -> None:
    found = summary(line(query="rate(x[5m])", origin=GROUP), line(query="rate(x[1h])", origin=GROUP))
    assert len(found.queries) == 2


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 50)), max_size=150), st.integers(0, 3))
def test_of_many_queries_the_costliest_are_kept_and_the_totals_are_exact(
    asked: list[tuple[int, int]], parts: int
) -> None:
    # Smaller than ever, so that it happens with a few lines.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(query_log, "KEPT", 4)
        made = [Summary() for _part in range(parts + 1)]
        true: dict[int, int] = {}
        for place, (name, seconds) in enumerate(asked):
            true[name] = true.get(name, 0) + seconds
            origin = Origin(REQUEST, f"client {name % 3}")
            made[place % len(made)].stats(origin, f"q{name}").add([seconds], [0], [1], [1])
        whole = made[0]
        for part in made[1:]:
            whole.merge(part)
        assert len(whole.queries) <= 2 * 4
    rows = {query: stats for (_kind, query), stats in whole.by_query().items()}
    for query, stats in rows.items():
        assert stats.seconds <= true[int(query[1:])] <= stats.seconds + stats.missing + 1e-6
    for name, seconds in true.items():
        assert f"q{name}" in rows or seconds <= whole.floor
    totals = whole.by_origin()
    assert sum(stats.count for stats in totals.values()) == len(asked)
    for client in range(3):
        expected = sum(seconds for name, seconds in true.items() if name % 3 == client)
        assert totals.get(Origin(REQUEST, f"client {client}"), Stats()).seconds == expected
    assert whole.is_approximate or all(stats.missing == 0 for stats in rows.values())


def test_very_many_different_queries_take_bounded_room() -> None:
    reader = Reader(0, 4e9)
    for start in range(0, 20_000, 1000):
        reader.feed(b"".join(line(query=f"x{number}", seconds=0.001) for number in range(start, start + 1000)))
        reader.feed(line(query="costly", seconds=50))
    reader.finish()
    found = reader.summary
    assert len(found.queries) <= 2 * query_log.KEPT
    assert found.queries[Origin(REQUEST, "10.0.0.7"), "costly"].seconds == 1000
    assert sum(stats.count for stats in found.by_origin().values()) == 20_020
    assert found.is_approximate


def test_very_many_clients_are_told_together() -> None:
    reader = Reader(0, 4e9)
    for number in range(query_log.ORIGINS + 50):
        reader.feed(line(origin={"httpRequest": {"clientIP": f"client {number}", "method": "GET", "path": "/"}}))
    reader.finish()
    origins = reader.summary.by_origin()
    assert len(origins) == query_log.ORIGINS + 1
    assert origins[Origin(REQUEST, FURTHER)].count == 50


def test_a_query_longer_than_a_page_is_told_by_its_hash() -> None:
    long = "a + " * 5000
    found = summary(line(query=f"{long}b"), line(query=f"{long}c"))
    assert len(found.queries) == 2
    assert all(len(query) < 5000 for _origin, query in found.queries)


# Files


def test_the_files_of_every_way_to_rotate_are_found(tmp_path: Path) -> None:
    mine = ["query.log", "query.log.1", "query.log.12.gz", "query.log-20260131", "query.log-20260131-1769.gz"]
    mine += ["query-20260131.log", "query-20260131.log.gz", "query.log.3.xz"]
    for name in [
        *mine,
        "query.log.bak",
        "query.logs",
        "my-query.log",
        "query.json",
        "prometheus.log.1",
        "query.log.tmp",
    ]:
        (tmp_path / name).touch()
    assert {path.name for path in siblings(tmp_path / "query.log")} == set(mine)


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_line_of_all_files_is_read_once_whatever_the_parts(
    tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_log_files, "PART", 1777)
    monkeypatch.setattr(query_log_files, "BLOCK", 900)
    chance = random.Random(jobs)
    made = [line(chance.choice(VERSIONS), "q" * chance.randrange(1, 2000), 0.5) for _line in range(90)]
    (tmp_path / "query.log").write_bytes(b"".join(made[60:]))
    (tmp_path / "query.log.1").write_bytes(b"".join(made[30:60]))
    (tmp_path / "query.log.2.gz").write_bytes(gzip.compress(b"".join(made[:30])))
    log = read(tmp_path / "query.log", 0, 4e9, jobs)
    assert (log.summary.understood, log.summary.not_understood, log.problems) == (90, {}, [])
    assert sum(stats.seconds for stats in log.summary.queries.values()) == 45
    assert log.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_file_that_is_being_compressed_counts_once(tmp_path: Path) -> None:
    (tmp_path / "query.log.1").write_bytes(line() * 3)
    (tmp_path / "query.log.1.gz").write_bytes(gzip.compress(line() * 3)[:20])
    log = read(tmp_path / "query.log", 0, 4e9, 1)
    assert log.summary.understood == 3
    assert [file.state for file in log.files if file.path.endswith(".gz")] == ["not read: query.log.1 holds the same"]


def test_a_file_from_before_the_window_is_not_read(tmp_path: Path) -> None:
    for name in ("query.log", "query.log.1"):
        (tmp_path / name).write_bytes(line())
    os.utime(tmp_path / "query.log.1", (NOW - 100, NOW - 100))
    log = read(tmp_path / "query.log", NOW - 50, 4e9, 1)
    assert log.summary.understood == 1
    assert [file.state for file in log.files] == ["read", "not read: older than the window"]


def test_a_line_that_is_being_written_is_not_called_broken(tmp_path: Path) -> None:
    (tmp_path / "query.log").write_bytes(line() * 2 + line()[:100])
    assert list(read(tmp_path / "query.log", 0, 4e9, 1).summary.not_understood) == [UNFINISHED]
    (tmp_path / "query.log").write_bytes(line() * 2 + line().rstrip(b"\n"))
    assert read(tmp_path / "query.log", 0, 4e9, 1).summary.understood == 3


def test_a_damaged_archive_is_a_problem_and_what_stands_before_is_read(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(line(query=f"q{number}") for number in range(5000)))
    (tmp_path / "query.log.1.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "query.log.2.xz").write_bytes(b"")
    (tmp_path / "query.log").write_bytes(line())
    log = read(tmp_path / "query.log", 0, 4e9, 1)
    assert any("query.log.1.gz: its compression is damaged" in problem for problem in log.problems)
    assert any("query.log.2.xz: not read" in problem for problem in log.problems)
    assert log.summary.understood >= 1


def test_a_line_longer_than_any_query_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_log_files, "LONGEST_LINE", 5000)
    monkeypatch.setattr(query_log_files, "BLOCK", 1000)
    (tmp_path / "query.log").write_bytes(line() + b"x" * 20_000 + b"\n" + line() * 2)
    found = read(tmp_path / "query.log", 0, 4e9, 1).summary
    assert found.understood == 3
    assert {reason: count for reason, (count, _example) in found.not_understood.items()} == {query_log.TOO_LONG: 1}


def test_a_log_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "query.log").write_bytes(line())
    (tmp_path / "query.log").symlink_to(tmp_path / "var" / "query.log")
    assert read(tmp_path / "query.log", 0, 4e9, 1).summary.understood == 1


def test_a_file_rotated_while_it_is_read_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "query.log").write_bytes(line() * 10)
    (tmp_path / "query.log.1").write_bytes(line() * 5)
    real = query_log_files._read_parts

    def rotate(*arguments: t.Any) -> t.Any:
        (tmp_path / "query.log.1").unlink()
        (tmp_path / "query.log").rename(tmp_path / "query.log.1")
        return real(*arguments)

    monkeypatch.setattr(query_log_files, "_read_parts", rotate)
    log = read(tmp_path / "query.log", 0, 4e9, 1)
    assert (log.summary.understood, log.problems) == (15, [])


@given(st.lists(st.sampled_from(['"', "'", "`", "\\", "[5m]", "[5m", "]", "@ 17", "[", "x", " 7", "#"]), max_size=12))
def test_the_short_way_to_a_shape_is_the_long_one(pieces: list[str]) -> None:
    query = "".join(pieces)
    # An @ without a time stays as it is, and sends a query the long way.
    assert query_log.shape(query) == query_log.shape(f"{query}\n@")[:-2]


def test_of_very_many_queries_in_one_flush_the_costly_are_kept_and_the_totals_are_whole() -> None:
    reader = query_log.Reader(0, 4e9)
    summary = reader.summary
    origin = query_log.Origin(query_log.REQUEST, "a")
    seconds = {(origin, f"q{number}"): float(number) for number in range(3 * query_log.KEPT)}
    refused = summary.admit(seconds)
    assert len(refused) == 2 * query_log.KEPT
    assert max(seconds[key] for key in refused) == summary.floor == 2 * query_log.KEPT - 1
    assert set(summary.queries) == set(seconds) - refused
