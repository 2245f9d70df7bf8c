# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What the lines of Prometheus' query log add up to, in memory that does not grow with them.

A line is one JSON document. Prometheus 2 writes its keys in alphabetical order and the time as ``ts``, Prometheus 3
writes ``time`` first and in the zone of the server. Each line is cut at a few places; where the rest of it looks like
that of a line before, which a JSON parser read to the same end, it is read by the cuts alone. So no version's layout is
taken on trust; and every other line, one with an error among them, goes to the parser. What cannot be read is counted
by its reason, with an example.

Of the queries those with the most time are kept, as in "Space-Saving" (Metwally, Agrawal, El Abbadi 2005): none that
took more than ``floor`` seconds is missing, and one that came back after it was dropped says how many seconds it may
lack. The totals of rule groups and clients are exact all the same.

Source: https://prometheus.io/docs/guides/query-log/
"""

from __future__ import annotations

import array
import dataclasses
import datetime
import hashlib
import json
import math
import re
import typing as t

from ..._journal.sketch import Sketch

RULE, REQUEST, OTHER = "rule", "request", "other"
# Queries, each by each client, that are kept apart; up to twice as many for a while.
KEPT = 1000
ORIGINS = 1000
FURTHER = "further"
# Of a text of a query; a longer one is told from others by its hash. Prometheus itself cuts none.
LONGEST_QUERY = 4096
# Of longer ones of clients so many characters are kept in all, for who needs the whole of them.
_WHOLE = 4 * 1024 * 1024
# Examples of failed queries of each kind, and characters of a line that is not understood.
EXAMPLES = 5
EXAMPLE = 160
MESSAGE = 400
# The figures of so many lines, and of so many queries and clients, wait until they are added up together; names of so
# many bytes are remembered.
_PENDING = 65_536
_PENDING_KEYS = 4096
_REMEMBERED = 2 * 1024 * 1024

# No figure of a query is so large, and every smaller whole number is a float.
_MOST = 2.0**53

TOO_LONG = "longer than any query"
UNFINISHED = "unfinished at the end of a file"
_NO_JSON = "not JSON"
_NO_RECORD = "JSON, but no record of a query"
_NO_TIME = "without a time"
_NO_FIGURES = "without its figures"


class ErrorKind(t.NamedTuple):
    """A kind of failed query. :param sign: what its message holds. :param remedy: what to do about it."""

    name: str
    sign: str
    remedy: str


ERROR_KINDS: tuple[ErrorKind, ...] = (
    ErrorKind(
        "timed out",
        "query timed out",
        "Ask for less: a shorter range, a wider step, a narrower selector, or a recording rule; --query.timeout only "
        "moves the limit.",
    ),
    ErrorKind(
        "too many samples",
        "would load too many samples",
        "Ask for less: a shorter range, a wider step, or a recording rule; --query.max-samples guards the memory of "
        "the server.",
    ),
    ErrorKind(
        "given up by the client",
        "query was canceled",
        "Whoever asked did not wait: see the limit of time of the dashboard or the proxy, and why the query is slow.",
    ),
    ErrorKind(
        "ambiguous join",
        "duplicate series for the match group",
        "Make the side of the join unique: aggregate it by the labels in on (...), which hides no series by chance.",
    ),
    ErrorKind(
        "ambiguous join",
        "multiple matches for labels",
        "Name the side that has many: group_left or group_right, or aggregate it by the labels of the join.",
    ),
    ErrorKind(
        "same labels twice",
        "same labelset",
        "Keep the label that tells the series apart; see label_replace and functions that drop the name.",
    ),
    ErrorKind(
        "storage",
        "expanding series",
        "The server could not read its data: see its log, and ansible-playbook service-health.yml.",
    ),
)
UNKNOWN_ERROR = ErrorKind("other", "", "The message is the server's own; run the query by hand.")


def error_kind(message: str) -> ErrorKind:
    return next((kind for kind in ERROR_KINDS if kind.sign in message), UNKNOWN_ERROR)


class Origin(t.NamedTuple):
    """Who asked.

    :param kind: :data:`RULE`, :data:`REQUEST` or :data:`OTHER`.
    :param name: of the rule group, or the address of the client.
    :param file: of the rule group; empty for a client.
    """

    kind: str
    name: str
    file: str = ""


class Slowest(t.NamedTuple):
    """The longest of some evaluations. Times as the log has them; ``step`` in seconds, 0 for a single instant."""

    seconds: float
    query: str
    at: str
    start: str
    end: str
    step: float
    path: str


@dataclasses.dataclass
class Failures:
    """Failed evaluations of one kind. :param examples: a few different (message, query, origin)."""

    count: int = 0
    examples: list[tuple[str, str, Origin]] = dataclasses.field(default_factory=list)


class Stats:
    """Figures of some evaluations. Seconds and samples; the sketch holds the seconds of each."""

    __slots__ = (
        "count",
        "errors",
        "longest_queued",
        "missing",
        "peak",
        "queued",
        "samples",
        "seconds",
        "sketch",
        "slowest",
        "text",
        "varies",
    )

    def __init__(self, missing: float = 0.0) -> None:
        self.count: int = 0
        self.errors: int = 0
        self.seconds: float = 0.0
        self.queued: float = 0.0
        self.longest_queued: float = 0.0
        self.samples: int = 0
        self.peak: int = 0
        self.sketch: Sketch = Sketch()
        self.slowest: Slowest | None = None
        # The first of the queries, and whether they differ in their ranges.
        self.text: str | None = None
        self.varies: bool = False
        # Seconds that it may lack, since it was dropped before.
        self.missing: float = missing

    def add(
        self,
        seconds: t.Sequence[float],
        queued: t.Sequence[float],
        samples: t.Sequence[float],
        peaks: t.Sequence[float],
    ) -> None:
        """Some evaluations, at least one; ``slowest`` is the caller's."""
        self.count += len(seconds)
        self.seconds += sum(seconds)
        self.queued += sum(queued)
        longest_queued, peak = max(queued), max(peaks)
        self.longest_queued = max(self.longest_queued, longest_queued)
        self.samples += int(sum(samples))
        self.peak = max(self.peak, int(peak))
        self.sketch.extend(seconds)

    def asked(self, text: str) -> None:
        if self.text is None:
            self.text = text
        self.varies = self.varies or self.text != text

    def merge(self, other: Stats) -> None:
        if other.text is not None:
            self.asked(other.text)
        self.varies = self.varies or other.varies
        self.count += other.count
        self.errors += other.errors
        self.seconds += other.seconds
        self.queued += other.queued
        self.longest_queued = max(self.longest_queued, other.longest_queued)
        self.samples += other.samples
        self.peak = max(self.peak, other.peak)
        self.missing += other.missing
        self.sketch.merge(other.sketch)
        if other.slowest and (self.slowest is None or other.slowest.seconds > self.slowest.seconds):
            self.slowest = other.slowest

    @property
    def longest(self) -> float:
        return self.slowest.seconds if self.slowest else 0.0


class Summary:
    """What some lines add up to.

    :ivar queries: by origin and the query without its ranges (see :func:`shape`).
    :ivar rest: by origin, of the queries that are not kept.
    :ivar floor: seconds; no query that is not kept took more, of any one origin.
    :ivar failures: by the name of an :class:`ErrorKind`.
    :ivar whole: longer queries of clients by their shortened text, as long as there is room.
    :ivar not_understood: by the reason, how many lines and the beginning of one.
    :ivar outside: lines before or after the window.
    :ivar first: unix seconds of the oldest line inside of it, infinite where there is none, like ``last``.
    """

    def __init__(self) -> None:
        self.queries: dict[tuple[Origin, str], Stats] = {}
        self.rest: dict[Origin, Stats] = {}
        self.floor: float = 0.0
        self.failures: dict[str, Failures] = {}
        self.whole: dict[str, str] = {}
        self.not_understood: dict[str, tuple[int, str]] = {}
        self.understood: int = 0
        self.outside: int = 0
        self.first: float = math.inf
        self.last: float = -math.inf

    @property
    def is_approximate(self) -> bool:
        """Whether queries were dropped, so that the list of queries is not whole."""
        return bool(self.rest)

    def stats(self, origin: Origin, query: str) -> Stats:
        """Those of a query, which are made where it is new; another one may be dropped for it."""
        found = self.queries.get((origin, query))
        if found is None:
            if len(self.queries) >= 2 * KEPT:
                self.prune()
            found = self.queries[origin, query] = Stats(self.floor)
        return found

    def admit(self, seconds: t.Mapping[tuple[Origin, str], float]) -> set[tuple[Origin, str]]:
        """Makes room for what some queries took more; those of them that are not kept, whose figures go to the rest."""
        new = sum(1 for key in seconds if key not in self.queries)
        return self.prune(seconds) if len(self.queries) + new > 2 * KEPT else set()

    def prune(self, more: t.Mapping[tuple[Origin, str], float] | None = None) -> set[tuple[Origin, str]]:
        """Drops all but the :data:`KEPT` queries with the most time; their figures go to the rest of their origin.

        :param more: seconds that are to come of some; which of them are dropped is returned, and the others are made.
        """
        coming = more or {}
        ranks = {key: stats.seconds + stats.missing + coming.get(key, 0.0) for key, stats in self.queries.items()}
        for key, seconds in coming.items():
            if key not in ranks:
                ranks[key] = self.floor + seconds
        ranked = sorted(ranks, key=ranks.__getitem__, reverse=True)
        before, dropped = self.floor, ranked[KEPT:]
        for key in ranked[:KEPT]:
            if key not in self.queries:
                self.queries[key] = Stats(before)
        for key in dropped:
            self.floor = max(self.floor, ranks[key])
            stats = self.queries.pop(key, None)
            if stats:
                # What it lacks is in the rest already.
                stats.missing = 0.0
                self.rest.setdefault(key[0], Stats()).merge(stats)
        if self.whole:
            kept = {stats.text for stats in self.queries.values()}
            self.whole = {text: query for text, query in self.whole.items() if text in kept}
        return {key for key in dropped if key in coming}

    def keep(self, origin: Origin, text: str, query: str) -> None:
        """The whole of a query whose text was shortened. Those of rules are known from the server."""
        room = _WHOLE - sum(map(len, self.whole.values()))
        if origin.kind != RULE and text not in self.whole and len(query) <= room:
            self.whole[text] = query

    def merge(self, other: Summary) -> None:
        mine, theirs = self.floor, other.floor
        for key, stats in self.queries.items():
            if key not in other.queries:
                stats.missing += theirs
        for key, stats in other.queries.items():
            if key in self.queries:
                self.queries[key].merge(stats)
            else:
                stats.missing += mine
                self.queries[key] = stats
        for origin, stats in other.rest.items():
            self.rest.setdefault(origin, Stats()).merge(stats)
        # A query that neither kept may have taken as much as each of them says.
        self.floor = mine + theirs
        if len(self.queries) > 2 * KEPT:
            self.prune()
        for name, failure in other.failures.items():
            for message, query, origin in failure.examples:
                self.fail(name, message, query, origin, 0)
            self.failures[name].count += failure.count
        for (origin, _query), stats in other.queries.items():
            if stats.text in other.whole:
                self.keep(origin, stats.text, other.whole[stats.text])
        for reason, (count, example) in other.not_understood.items():
            self.skip(reason, example, count)
        self.understood += other.understood
        self.outside += other.outside
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)

    def fail(self, name: str, message: str, query: str, origin: Origin, count: int = 1) -> None:
        found = self.failures.setdefault(name, Failures())
        found.count += count
        known = {(row[1], row[2]) for row in found.examples}
        if len(found.examples) < EXAMPLES and (query, origin) not in known:
            found.examples.append((message, query, origin))

    def skip(self, reason: str, example: str, count: int = 1) -> None:
        before, first = self.not_understood.get(reason, (0, example))
        self.not_understood[reason] = (before + count, first)

    def by_query(self) -> dict[tuple[str, str], Stats]:
        """Of each kind and query, whoever asked."""
        found = _merged(((origin.kind, query), stats) for (origin, query), stats in self.queries.items())
        # What each origin may have asked of a query that is not kept of it.
        room = {origin: min(self.floor, stats.seconds) for origin, stats in self.rest.items()}
        if room:
            for kind, stats in ((kind, stats) for (kind, _query), stats in found.items()):
                stats.missing += sum(seconds for origin, seconds in room.items() if origin.kind == kind)
            for origin, query in self.queries:
                found[origin.kind, query].missing -= room.get(origin, 0.0)
        return found

    def by_origin(self) -> dict[Origin, Stats]:
        """Exact, of each rule group and client."""
        found = _merged(
            [*((origin, stats) for (origin, _query), stats in self.queries.items()), *self.rest.items()],
        )
        for stats in found.values():
            # What a query lacks is in the rest of its origin.
            stats.missing = 0.0
        return found


Key = t.TypeVar("Key")


def _merged(rows: t.Iterable[tuple[Key, Stats]]) -> dict[Key, Stats]:
    found: dict[Key, Stats] = {}
    for key, stats in rows:
        if key not in found:
            found[key] = Stats()
        found[key].merge(stats)
    return found


_STRING_OR_TIME = re.compile(
    r"""
      (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` )
    | \[\s*[0-9][^\]"'`]*\]
    | @\s*[0-9][0-9.eE+]*
    """,
    re.VERBOSE | re.DOTALL,
)


_RANGE = re.compile(r"""\[\s*[0-9][^\]"'`]*\]""")
# With one of these a query is not cut into strings and the rest by its quotes alone, or has more than ranges.
_UNUSUAL = frozenset("\\'`@")


def shape(query: str) -> str:
    """A query without its ranges (``[3607s]``) and fixed times (``@ 1700000000``), which dashboards count out anew.

    Label values and other numbers stay: they are what tells queries apart.
    """
    if "[" not in query and "@" not in query:
        return query
    pieces = query.split('"')
    if not _UNUSUAL.intersection(query) and "[" not in "".join(pieces[1::2]):
        # Strings without a bracket need not be told from the rest, which takes most of the time.
        return _RANGE.sub("[...]", query)
    return _STRING_OR_TIME.sub(
        lambda found: found.group() if found.group("string") else "[...]" if found.group().startswith("[") else "@ ...",
        query,
    )


# The lines


class Record(t.NamedTuple):
    """What a line says. :param at: the time as it is written, like ``start`` and ``end``."""

    at: str
    query: str
    origin: Origin
    seconds: float
    queued: float
    samples: int
    peak: int
    start: str
    end: str
    step: float
    path: str


class _NotUnderstood(Exception):
    """The reason, as :attr:`Summary.not_understood` has it."""


# A quote inside of a string of JSON is never without a backslash before it, so these stand nowhere else.
_QUERY, _START, _QUEUED, _END = b',"query":"', b'","start":"', b',"execQueueTime":', b"}},"
_NUMERIC = b"0123456789.-e"
# Shapes of lines that are remembered; each rule group and client may have some.
_SHAPES = 8192


# The shape, which is all but the query and without what numbers and times are written with; head, query, what was
# asked, figures and tail.
_Pieces = t.Tuple[bytes, bytes, bytes, bytes, bytes, bytes]


def _cut(line: bytes) -> _Pieces:
    head, _mark, rest = line.partition(_QUERY)
    query, _mark, rest = rest.partition(_START)
    asked, _mark, rest = rest.partition(_QUEUED)
    figures, _mark, tail = rest.partition(_END)
    return (head + asked + figures + tail).translate(None, _NUMERIC), head, query, asked, figures, tail


# When a line was written, and who asked, as a part of a JSON object: what a layout finds in the pieces.
_Layout = t.Callable[[bytes, bytes, bytes], t.Tuple[bytes, bytes]]


def _of_prometheus_3(head: bytes, asked: bytes, tail: bytes) -> tuple[bytes, bytes]:
    # {"time":"...", and in the end the span and who asked.
    return head[9:44].partition(b'"')[0], tail.partition(b'",')[2]


def _of_prometheus_2(head: bytes, asked: bytes, tail: bytes) -> tuple[bytes, bytes]:
    # "ts":"..."}, a request before the query and a rule group after it.
    if head.startswith(b'{"httpRequest"'):
        return tail[6:-2], head[1 : head.rfind(b',"params"')] + b"}"
    return tail[6:-2], asked.partition(b"},")[2].partition(b',"spanID"')[0] + b"}"


_LAYOUTS: tuple[_Layout, ...] = (_of_prometheus_3, _of_prometheus_2)

# Query and who asked.
_Key = t.Tuple[bytes, bytes]


class _Waiting:
    """Figures of a key that wait, four of each line: seconds, seconds in the queue, samples, most samples.

    :ivar longest: the most seconds of a line; with its time, head and what was asked.
    """

    __slots__ = ("asked", "at", "figures", "head", "longest")

    def __init__(self) -> None:
        self.figures = array.array("d")
        self.longest = -1.0
        self.at: bytes = b""
        self.head: bytes = b""
        self.asked: bytes = b""


def _add(stats: Stats, waiting: _Waiting, text: str, path: str) -> None:
    """:param text: of the longest of what waits, like ``path``."""
    figures = waiting.figures
    stats.add(figures[0::4], figures[1::4], figures[2::4], figures[3::4])
    if stats.slowest is None or waiting.longest > stats.slowest.seconds:
        at, range_ = waiting.at.decode(), _range(waiting.head, waiting.asked)
        stats.slowest = Slowest(waiting.longest, text, at, *range_, path)


class Reader:
    """Reads lines into ``summary``, which is whole after :meth:`finish`.

    :param since: unix seconds; earlier lines do not count, nor later ones than ``until``.
    """

    def __init__(self, since: float, until: float) -> None:
        self.summary = Summary()
        self._since = since
        self._until = until
        # Of each shape of a line, how what it says is found in it.
        self._layouts: dict[bytes, _Layout] = {}
        self._pending: dict[_Key, _Waiting] = {}
        self._pending_lines = 0
        self._names: dict[_Key, tuple[Origin, str, str, str]] = {}
        self._names_bytes = 0
        self._origins: dict[Origin, Origin] = {}
        # Who asked and the path, by a part of a line.
        self._asked: dict[bytes, tuple[Origin, str]] = {}

    def feed(self, lines: bytes) -> None:
        """
        :param lines: whole lines.
        """
        whole = lines.split(b"\n")
        pieces = list(map(_cut, whole))
        known = self._layouts
        usual = [piece for piece in pieces if piece[0] in known]
        if len(usual) < len(whole):
            # Before what they teach is known, or some would count twice.
            unusual = [line for line, piece in zip(whole, pieces) if piece[0] not in known]
            for line in unusual:
                self._take_line(line)
        if usual:
            self._take(usual)
        if self._pending_lines >= _PENDING or len(self._pending) >= _PENDING_KEYS:
            self._flush()

    def feed_last(self, line: bytes) -> None:
        """A line without its line break, which may be a part of one."""
        try:
            self._take_record(*_record(_document(line)))
        except _NotUnderstood:
            self.summary.skip(UNFINISHED, line[:EXAMPLE].decode("utf-8", "replace"))

    def finish(self) -> None:
        self._flush()

    # Lines of a shape that is known

    def _take(self, pieces: list[_Pieces]) -> None:
        try:
            queued, seconds, samples, peaks = _numbers([piece[4] for piece in pieces])
        except ValueError:
            # One of them is none: each by itself, then.
            for _shape, head, query, asked, figures, tail in pieces:
                self._take_line(b"".join((head, _QUERY, query, _START, asked, _QUEUED, figures, _END, tail)))
            return
        layouts = self._layouts
        found = [layouts[shape](head, asked, tail) for shape, head, _query, asked, _figures, tail in pieces]
        lines: t.Iterable[tuple[tuple[bytes, bytes], _Pieces, tuple[float, float, int, int]]]
        lines = zip(found, pieces, zip(seconds, queued, samples, peaks))
        if not self._are_counted([at for at, _origin in found]):
            lines = [row for row in lines if self._is_counted(row[0][0])]
        pending = self._pending
        count = 0
        for (at, origin), piece, four in lines:
            key = (piece[2], origin)
            waiting = pending.get(key)
            if waiting is None:
                waiting = pending[key] = _Waiting()
            # Numbers in an array take a tenth of the memory that they take as objects, and of its caches.
            waiting.figures.extend(four)
            if four[0] > waiting.longest:
                waiting.longest, waiting.at, waiting.head, waiting.asked = four[0], at, piece[1], piece[3]
            count += 1
        self.summary.understood += count
        self._pending_lines += count

    def _flush(self) -> None:
        named: dict[tuple[Origin, str], list[tuple[_Waiting, bytes, str, str]]] = {}
        for key, waiting in self._pending.items():
            try:
                origin, query, text, path = self._name(key)
            except ValueError:
                # Two lines that ran into one another, and fit.
                lines = len(waiting.figures) // 4
                self.summary.understood -= lines
                self.summary.skip(_NO_JSON, key[0][:EXAMPLE].decode("utf-8", "replace"), lines)
                continue
            named.setdefault((origin, query), []).append((waiting, key[0], text, path))
        seconds = {name: sum(sum(row[0].figures[0::4]) for row in rows) for name, rows in named.items()}
        rest: dict[Origin, _Waiting] = {}
        slowest: dict[Origin, tuple[str, str]] = {}
        refused = self.summary.admit(seconds)
        for (origin, query), rows in named.items():
            if (origin, query) not in refused:
                stats = self.summary.stats(origin, query)
                for waiting, raw, text, path in rows:
                    stats.asked(text)
                    if len(text) > LONGEST_QUERY:
                        self.summary.keep(origin, text, _text(raw))
                    _add(stats, waiting, text, path)
                continue
            # One origin has many such, each of them seen once: so they are added up at once.
            whole = rest.get(origin)
            if whole is None:
                whole = rest[origin] = _Waiting()
            for waiting, _raw, text, path in rows:
                whole.figures.extend(waiting.figures)
                if waiting.longest > whole.longest:
                    whole.longest, whole.at, whole.head, whole.asked = (
                        waiting.longest,
                        waiting.at,
                        waiting.head,
                        waiting.asked,
                    )
                    slowest[origin] = text, path
        for origin, whole in rest.items():
            _add(self.summary.rest.setdefault(origin, Stats()), whole, *slowest[origin])
        self._pending.clear()
        self._pending_lines = 0

    def _name(self, key: _Key) -> tuple[Origin, str, str, str]:
        """Who asked, the query without its ranges and with them, and the path that was asked.

        :raises ValueError: where it is no JSON.
        """
        found = self._names.get(key)
        if found is None:
            text = _text(key[0])
            who = self._asked.get(key[1])
            if who is None:
                origin, path = _origin(json.loads(b"{" + key[1]))
                who = self._known(origin), path
                if len(self._asked) < _SHAPES:
                    self._asked[key[1]] = who
            found = who[0], _folded(who[0], text), _short(text), who[1]
            if self._names_bytes > _REMEMBERED:
                self._names.clear()
                self._names_bytes = 0
            self._names[key] = found
            self._names_bytes += len(key[0])
        return found

    def _known(self, origin: Origin) -> Origin:
        """The same origin, or the one that stands for all further ones."""
        found = self._origins.get(origin)
        if found is None:
            found = origin if len(self._origins) < ORIGINS else Origin(origin.kind, FURTHER)
            if len(self._origins) < ORIGINS:
                self._origins[origin] = found
        return found

    # All other lines

    def _take_line(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            record, error = _record(_document(line))
            if not error:
                self._learn(line, record)
            self._take_record(record, error)
        except _NotUnderstood as failure:
            self.summary.skip(str(failure), line[:EXAMPLE].decode("utf-8", "replace"))

    def _learn(self, line: bytes, record: Record) -> None:
        """Remembers how such a line is read, where cutting it finds all that is in the record."""
        shape, head, query, asked, figures, tail = _cut(line)
        for layout in _LAYOUTS if len(self._layouts) < _SHAPES else ():
            try:
                at, who = layout(head, asked, tail)
                (queued,), (seconds,), (samples,), (peak,) = _numbers([figures])
                origin, path = _origin(json.loads(b"{" + who))
                text = _text(query)
                range_ = _range(head, asked)
            except ValueError:
                continue
            if record == Record(at.decode(), text, origin, seconds, queued, samples, peak, *range_, path):
                self._layouts[shape] = layout

    def _take_record(self, record: Record, error: str) -> None:
        """
        :raises _NotUnderstood: where it has no time.
        """
        if not self._is_counted(record.at.encode()):
            return
        origin = self._known(record.origin)
        found = self.summary.stats(origin, _folded(origin, record.query))
        found.add([record.seconds], [record.queued], [record.samples], [record.peak])
        text = _short(record.query)
        found.asked(text)
        if len(text) > LONGEST_QUERY:
            self.summary.keep(origin, text, record.query)
        self.summary.understood += 1
        if found.slowest is None or record.seconds > found.slowest.seconds:
            found.slowest = Slowest(record.seconds, text, record.at, record.start, record.end, record.step, record.path)
        if error:
            found.errors += 1
            self.summary.fail(error_kind(error).name, error[:MESSAGE], text, origin)

    # The window

    def _are_counted(self, times: list[bytes]) -> bool:
        """Whether all of them lie in the window for sure; then that is remembered."""
        zones = {time[-1:] for time in times}
        if zones != {b"Z"} and len({time[-6:] for time in times}) > 1:
            return False
        # In one zone their order is that of their letters, but within a second.
        try:
            first, last = _seconds(min(times)), _seconds(max(times))
        except ValueError:
            return False
        if not self._since + 1 <= first <= last <= self._until - 1:
            return False
        self._saw(first)
        self._saw(last)
        return True

    def _is_counted(self, time: bytes) -> bool:
        try:
            moment = _seconds(time)
        except ValueError:
            self.summary.skip(_NO_TIME, time.decode("utf-8", "replace"))
            return False
        inside = self._since <= moment <= self._until
        if inside:
            self._saw(moment)
        else:
            self.summary.outside += 1
        return inside

    def _saw(self, moment: float) -> None:
        self.summary.first = min(self.summary.first, moment)
        self.summary.last = max(self.summary.last, moment)


def _numbers(figures: list[bytes]) -> tuple[list[float], list[float], list[int], list[int]]:
    """Seconds in the queue, seconds, samples and most samples of each.

    :raises ValueError: where one is no such number.
    """
    text = b" ".join(figures).replace(b',"execTotalTime":', b" ")
    text = text.replace(b'},"samples":{"totalQueryableSamples":', b" ").replace(b',"peakSamples":', b" ")
    words = text.split(b" ")
    found = (
        list(map(float, words[0::4])),
        list(map(float, words[1::4])),
        list(map(int, words[2::4])),
        list(map(int, words[3::4])),
    )
    if not all(min(values) >= 0 and max(values) < _MOST for values in found) or len(words) != 4 * len(figures):
        raise ValueError("a figure is too large")
    return found


_DECODER = json.JSONDecoder()


def _text(string: bytes) -> str:
    """A string of JSON without its quotes.

    :raises ValueError: where it is none.
    """
    text = '"' + string.decode() + '"'
    found, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError("two strings")
    return str(found)


def _range(head: bytes, asked: bytes) -> tuple[str, str, float]:
    """Start, end and step.

    :raises ValueError: where there is none.
    """
    start, _mark, rest = asked.partition(b'","step":')
    end = head.rpartition(b'"end":"')[2].rpartition(b'"')[0]
    return start.decode(), end.decode(), float(rest.partition(b"}")[0])


def _record(document: dict[str, t.Any]) -> tuple[Record, str]:
    """What a line says, and its error.

    :raises _NotUnderstood: where something is missing.
    """
    at = document.get("time", document.get("ts"))
    if not isinstance(at, str):
        raise _NotUnderstood(_NO_TIME)
    params = _mapping(document.get("params"))
    query, step = params.get("query"), params.get("step")
    if not isinstance(query, str):
        raise _NotUnderstood(_NO_RECORD)
    stats = _mapping(document.get("stats"))
    timings, samples = _mapping(stats.get("timings")), _mapping(stats.get("samples"))
    origin, path = _origin(document)
    record = Record(
        at,
        query,
        origin,
        _figure(timings, "execTotalTime"),
        _figure(timings, "execQueueTime"),
        int(_figure(samples, "totalQueryableSamples")),
        int(_figure(samples, "peakSamples")),
        str(params.get("start", "")),
        str(params.get("end", "")),
        float(step) if isinstance(step, (int, float)) else 0.0,
        path,
    )
    return record, str(document.get("error") or "")


def _origin(document: t.Any) -> tuple[Origin, str]:
    """Who asked, and the path of a request."""
    request, group = (_mapping(_mapping(document).get(name)) for name in ("httpRequest", "ruleGroup"))
    if request:
        return Origin(REQUEST, str(request.get("clientIP", ""))), str(request.get("path", ""))
    if group:
        return Origin(RULE, str(group.get("name", "")), str(group.get("file", ""))), ""
    return Origin(OTHER, ""), ""


def _document(line: bytes) -> dict[str, t.Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise _NotUnderstood(_NO_JSON) from None
    if not isinstance(found, dict):
        raise _NotUnderstood(_NO_RECORD)
    return found


def _mapping(value: t.Any) -> dict[str, t.Any]:
    return value if isinstance(value, dict) else {}


def _figure(values: dict[str, t.Any], name: str) -> float:
    found = values.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < _MOST:
        raise _NotUnderstood(_NO_FIGURES)
    return found


_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})")


def _seconds(time: bytes) -> float:
    """Unix seconds.

    :raises ValueError: where there is no such time.
    """
    found = _TIME.fullmatch(time.decode())
    if not found:
        raise ValueError("no time")
    whole, fraction, zone = found.groups()
    moment = datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return moment.timestamp() + float(fraction or 0)


def _folded(origin: Origin, query: str) -> str:
    # The text of a rule is always the same, and two rules may well differ in the range alone.
    return _short(query if origin.kind == RULE else shape(query))


def _short(query: str) -> str:
    if len(query) <= LONGEST_QUERY:
        return query
    return f"{query[:LONGEST_QUERY]}... ({hashlib.sha256(query.encode('utf-8', 'replace')).hexdigest()[:16]})"
