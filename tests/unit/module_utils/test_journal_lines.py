# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast reading of whole blocks says of every line what the slow rule says of it alone."""

from __future__ import annotations

import json
import math
import tempfile
import typing as t
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal import lines as lines_module
from ansible_collections.njord.telemetry.plugins.module_utils._journal import stream
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lines import Form, LineReader, Match
from ansible_collections.njord.telemetry.plugins.module_utils._journal.record import (
    LARGEST,
    Partial,
    Record,
    Rejected,
    read,
    render,
)
from ansible_collections.njord.telemetry.plugins.module_utils._journal.stream import Source
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.module_utils.journals import DAY, TODAY, aggregated, write

START = TODAY * DAY
INTERVAL = 300
LONGEST = 2000
Line = t.Tuple[t.Any, ...]


class Recorder(LineReader):
    """Everything that comes out of a journal, in no order."""

    def __init__(self) -> None:
        super().__init__(INTERVAL)
        self.records: Counter[Line] = Counter()
        self.rejected: Counter[bytes] = Counter()
        self._part = b""

    def regular(self, time: int, matches: list[Match], form: Form) -> None:
        for match in matches:
            assert int(match[0]) == time
            known, value, partial = self.known[match[1]], float(match[2]), Partial()
            partial.take([value], time, value)
            line = said(form.raw(match), known.series.text, time, known.interval, partial, known.unknown)
            self.records[line] += 1

    def single(self, line: bytes, record: Record) -> None:
        self.records[of_record(line, record)] += 1

    def reject(self, lines: bytes, reason: str, goes_on: bool) -> None:
        assert reason
        if goes_on:
            self._part += lines
        else:
            self.close()
            self._part = lines

    def close(self) -> None:
        if self._part:
            self.rejected[self._part.rstrip(b"\n")] += 1
        self._part = b""


def said(line: bytes, series: str, time: int, interval: int, partial: Partial, unknown: t.Collection[str]) -> Line:
    figures = (partial.count, partial.sum, partial.low, partial.high, partial.last_time, partial.last)
    return (line.rstrip(b"\n"), series, time, interval, figures, repr(partial.sketch), frozenset(unknown))


def of_record(line: bytes, record: Record) -> Line:
    interval = record.interval or INTERVAL
    return said(line, record.series.text, record.time, interval, record.partial, record.unknown)


def line_by_line(content: bytes) -> tuple[Counter[Line], Counter[bytes]]:
    records: Counter[Line] = Counter()
    rejected: Counter[bytes] = Counter()
    lines = content.split(b"\n")
    for number, line in enumerate(lines):
        if not line.strip(b"\r"):
            continue
        try:
            if len(line) + (number < len(lines) - 1) > LONGEST:
                raise Rejected("too long")
            records[of_record(line, read(line))] += 1
        except Rejected:
            rejected[line] += 1
    return records, rejected


def by_blocks(path: Path, size: int) -> tuple[Counter[Line], Counter[bytes]]:
    recorder = Recorder()
    with Source(str(path), path.suffix == ".gz") as source:
        for block in source.blocks(size):
            recorder.feed(block)
    recorder.close()
    return recorder.records, recorder.rejected


@pytest.fixture(scope="module", autouse=True)
def _short_limits() -> t.Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "LONGEST_LINE", LONGEST)
        patch.setattr(lines_module, "MOST_KNOWN", 9)
        yield


def line(**more: t.Any) -> bytes:
    """As the aggregator writes it, with other things in it; what is None is not there."""
    row = {
        "timestamp_ns": START,
        "metric_name": "m",
        "metric_type": "gauge",
        "labels": {"a": "b"},
        "interval_seconds": 60,
        "value": 1.5,
        **more,
    }
    return json.dumps({key: value for key, value in row.items() if value is not None}).encode()


def text(between: str, value: str = "1.5", time: t.Any = START) -> bytes:
    return f'{{"timestamp_ns": {time}, {between}, "value": {value}}}'.encode()


def any_of(*values: t.Any) -> tuple[t.Any, ...]:
    return values


NAMED = '"metric_name": "m", "labels": {"a": "b"}'
SKETCH = {"scale": 7, "zero": 1, "positive": [[3, 2]], "negative": [[-5, 1]]}
ODD: tuple[bytes, ...] = (
    *[
        text(NAMED, value)
        for value in ("NaN", "Infinity", "-Infinity", "1e400", "-1e271", "1e270", "1E+2", "-0", "-0.0")
    ],
    *[text(NAMED, value) for value in ("01", "+1", "1.", ".5", "0x1", "1_0", "true", "null", '"1"', "[1]", "{}", "")],
    *[
        text(NAMED, value)
        for value in (str(2**63), str(10**30), "9" * 400, "0." + "1" * 60, "1e-400", "123456789012345678")
    ],
    *[
        text(NAMED, time=time)
        for time in (-1, 0, 1, 1.5, "1e18", 2**63 - 1, 2**63, 10**19 - 1, 10**20, '"1"', "true", "0" + "1" * 18)
    ],
    *[text(NAMED, time=time) for time in (9 * 10**18, 92 * 10**17, 93 * 10**17)],
    *[line(labels=labels) for labels in any_of({}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": [1]}, {"a": {}}, [], 1)],
    *[line(labels={key: "x"}) for key in ("value", "timestamp_ns", "count", "observations", "", "ü", "\ud800")],
    *[
        line(labels={"a": value})
        for value in ('"', '\\", "value": 1}', ', "value": 1}', ', "count": 1', "}\n{", "\x00")
    ],
    *[line(labels={"b": "1", "a": "2"}), line(labels={"a": "2", "b": 1})],
    *[line(metric_name=name) for name in (None, "", 1, "x" * 3000, 'a "quoted" name')],
    *[line(metric_type=kind) for kind in any_of(None, "counter", "histogram", "summary", "none", 1, [], True)],
    *[line(interval_seconds=seconds) for seconds in (None, 0, 1, 60.0, 1.5, -60, "60", True, 1e300)],
    *[line(host="h"), line(value=None), line(name="m"), line(name="other"), line(metric_name=None, name="m")],
    *[line(count=count) for count in (2, 0, -1, 1.0, True, 2**53, 2**53 + 1)],
    *[line(metric_type="counter", count=3, value=value) for value in (7, 1e270, 2e270)],
    *[line(observations=values, value=None) for values in any_of([], [1], [1, -3.5], ["x"], None, [[1]], {}, [1e291])],
    *[
        line(metric_type=kind, observations=values, value=None)
        for kind in ("histogram", "summary", "gauge")
        for values in any_of([], [1], [1, 2.5, -3], ["x"], [1e300], {"a": 1}, [True])
    ],
    line(metric_type="histogram", value=None, count=4, sum=2.0, min=-1.0, max=3.0, sketch=SKETCH, relative_error=0.002),
    line(metric_type="histogram", value=None, count=5, sum=2.0, min=-1.0, max=3.0, sketch=SKETCH),
    line(metric_type="histogram", value=None, count=4, sum=2.0, min=-1.0, sketch=SKETCH),
    line(metric_type="histogram", value=None, sum=2.0, min=-1.0, max=3.0, sketch={}),
    b'{"timestamp_ns": %d, %b, "interval_seconds": 300, "count": 3, "sum": 9.5, "min": 1.0, "max": 5, "last": 2, '
    b'"last_timestamp_ns": %d, "value": 3.2}' % (START, NAMED.encode(), START + 7),
    b'{"timestamp_ns": %d, %b, "count": 3, "sum": 9.5, "count": 3, "value": 3.2}' % (START, NAMED.encode()),
    b'{"timestamp_ns": %d, %b, "count": 3, "sum": NaN, "value": 3.2}' % (START, NAMED.encode()),
    b'{"timestamp_ns": %d, %b, "count": 3, "sum": 6, "host": "h", "value": 2}' % (START, NAMED.encode()),
    b'{"timestamp_ns": %d, %b, "count": 3, "timestamp_ns": 5, "value": 2}' % (START, NAMED.encode()),
    b'{"timestamp_ns": %d, %b, "count": 3, "last_timestamp_ns": -1, "value": 2}' % (START, NAMED.encode()),
    b'{"timestamp_ns": %d, %b, "count": 3, "interval_seconds": 60, "value": 2}' % (START, NAMED.encode()),
    b'{"timestamp_ns": %d, "count": 3, %b, "count": 3}' % (START, NAMED.encode()),
    text('"metric_name": "m", "metric_name": "m"'),
    text('"metric_name": "m", "labels": {"a": "b", "a": "b"}'),
    text('"metric_name": "m", "timestamp_ns": 1'),
    text('"metric_name": "m", "value": 2'),
    text('"metric_name": "m"}, {"x": 1'),
    text('"metric_name": "m", "labels": {"a": "b"'),
    text('"metric_name": "m" '),
    text('"metric_name":"m","labels":{"a" : "b"}'),
    text('"metric_name": "m", "labels": null'),
    text('"metric_name": "m", "x": ' + "[" * 50 + "]" * 50),
    text('"metric_name": "m", "x": NaN'),
    text('"metric_name": "\\u00fc", "labels": {"a": "\\ud83d\\ude00"}'),
    text('"metric_name": "ü", "labels": {"a": "😀"}'),
    text('"metric_name": "m", "labels": {"a": "b", "value": "3"}'),
    text('"metric_name": "m", "labels": {"a": {"value": 3}}'),
    text(f'{NAMED}, "metric_type": "histogram"'),
    line().replace(b", ", b",").replace(b": ", b":"),
    line().replace(b", ", b" , "),
    b" " + line(),
    line() + b" ",
    line() + b"\r",
    line() + line(),
    line()[:-1],
    line()[1:],
    json.dumps(dict(reversed(list(json.loads(line()).items())))).encode(),
    b"\xef\xbb\xbf" + line(),
    line(labels={"a": "x"}).replace(b"x", b"\xff"),
    line(labels={"a": "x"}).replace(b"x", b"\xed\xa0\x80"),
    line(labels={"a": "x"}).replace(b"x", b"\x00"),
    bytes(50),
    b"{}",
    b"[]",
    b"null",
    b"no json",
    b" ",
    b"\r",
    b"",
    line(padding="y" * LONGEST),
    line(labels={"a": "y" * (LONGEST - len(line()))}),
    line(labels={"a": "y" * (LONGEST - len(line()) + 1)}),
    b"z" * (3 * LONGEST),
)

numbers = st.one_of(st.integers(), st.floats(allow_nan=False), st.integers(-9, 9), st.floats(-10, 10))
regular: st.SearchStrategy[bytes] = st.builds(
    lambda minute, name, kind, value, compact: (
        aggregated(START + minute * 60 * 10**9, name, kind, value).replace(b" ", b"" if compact else b" ").rstrip()
    ),
    st.integers(0, 3),
    st.sampled_from(("m", "n")),
    st.sampled_from(("gauge", "counter")),
    numbers,
    st.booleans(),
)


@st.composite
def damaged(draw: st.DrawFn, lines: st.SearchStrategy[bytes]) -> bytes:
    whole = draw(lines)
    start = draw(st.integers(0, len(whole)))
    end = min(start + draw(st.integers(0, 3)), len(whole))
    return (
        whole[:start]
        + draw(st.one_of(st.binary(max_size=3), st.sampled_from((b'"', b",", b" ", b"}", b"0"))))
        + whole[end:]
    )


anything = st.one_of(regular, regular, regular, st.sampled_from(ODD), damaged(regular), damaged(st.sampled_from(ODD)))
contents: st.SearchStrategy[bytes] = st.builds(
    lambda rows, ending, last: ending.join(rows) + last,
    st.lists(anything, max_size=25),
    st.sampled_from((b"\n", b"\n", b"\r\n")),
    st.sampled_from((b"", b"\n", b"\n\n")),
)


@given(contents, st.sampled_from((1, 7, 64, 300, LONGEST)), st.booleans())
@settings(max_examples=150, deadline=None)
def test_blocks_say_what_lines_say(content: bytes, size: int, compressed: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), "m_1m.ndjson.gz" if compressed else "m_1m.ndjson", content)
        assert by_blocks(path, size) == line_by_line(content)


@pytest.mark.parametrize("around", [b"", aggregated(START) * 2], ids=["alone", "among regular ones"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""], ids=["lf", "crlf", "cut off"])
def test_every_odd_line_is_read_by_the_rule(tmp_path: Path, around: bytes, ending: bytes) -> None:
    for odd in ODD:
        content = around + odd + ending
        path = write(tmp_path, "m_1m.ndjson", content)
        assert by_blocks(path, LONGEST) == line_by_line(content), odd


def test_what_the_aggregator_writes_takes_the_fast_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"".join(aggregated(START + minute, f"m{minute % 5}", value=minute / 7) for minute in range(50))
    path = write(tmp_path, "m_1m.ndjson", content)
    monkeypatch.setattr(lines_module, "read", None)
    monkeypatch.setattr(Recorder, "single", None)
    records, rejected = by_blocks(path, LONGEST)
    assert (sum(records.values()), rejected) == (50, {})


def test_a_text_means_something_else_in_a_file_of_another_resolution(tmp_path: Path) -> None:
    path = write(tmp_path, "m_1m.ndjson", line(interval_seconds=None) + b"\n")
    recorder = Recorder()
    for interval in (60, 3600):
        recorder.start(interval)
        with Source(str(path), compressed=False) as source:
            for block in source.blocks(LONGEST):
                recorder.feed(block)
    assert sorted(row[3] for row in recorder.records) == [60, 3600]


@pytest.mark.parametrize("limit", ["MOST_KNOWN", "MOST_KNOWN_BYTES"])
def test_what_is_known_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(lines_module, "MOST_KNOWN", 10**9)
    monkeypatch.setattr(lines_module, limit, 9)
    recorder = Recorder()
    rows = [line(labels={"a": str(number)}) + b"\n" for number in range(200)]
    odd = [line(labels={"a": [number]}) + b"\n" for number in range(200)]
    with Source(str(write(tmp_path, "m_1m.ndjson", b"".join(rows + odd))), compressed=False) as source:
        for block in source.blocks(LONGEST):
            recorder.feed(block)
            assert len(recorder.known) < 40
    recorder.close()
    assert (len(recorder.records), len(recorder.rejected)) == (200, 200)


large = st.one_of(numbers.map(float), st.sampled_from((LARGEST, -LARGEST, 5e-324, 1e-300)))


@given(
    st.sampled_from(("counter", "gauge", "histogram")),
    st.lists(large.filter(lambda one: abs(one) <= LARGEST), min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_what_a_roll_up_writes_is_read_again_as_it_was(kind: str, values: list[float]) -> None:
    merged = Partial()
    for number, value in enumerate(values):
        given_line = json.loads(aggregated(START + number, "m", kind, [value] if kind == "histogram" else value))
        record = read(json.dumps(given_line).encode())
        merged.merge(record.partial)
    again = read(render(record.series, START, 300, merged).encode())
    assert again.series == record.series
    assert (again.time, again.interval, again.partial.count) == (START, 300, len(values))
    assert again.partial.sum == merged.sum == math.fsum(values)
    if kind == "counter":
        return
    assert (again.partial.low, again.partial.high) == (min(values), max(values))
    assert again.partial.sketch == merged.sketch
    if kind == "gauge":
        assert (again.partial.last_time, again.partial.last) == (START + len(values) - 1, values[-1])


@pytest.mark.parametrize("count", [255, 256, 257, 1440, 5000])
def test_a_sum_of_many_values_is_rounded_once(count: int) -> None:
    values = [(-1) ** number * 10.0 ** (number % 17) / 3 for number in range(count)]
    forwards, backwards = Partial(), Partial()
    for value in values:
        forwards.take([value], START, value)
    for value in reversed(values):
        backwards.take([value], START, value)
    assert forwards.sum == backwards.sum == math.fsum(values)
