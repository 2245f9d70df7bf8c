# SPDX-License-Identifier: GPL-3.0-or-later
"""A clean-up against a model of it, on journals that hypothesis thinks of."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.policy import DEFAULT, Level, Policy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.module_utils.journals import (
    DAY,
    KEPT,
    MEMORY,
    MINUTE,
    OURS,
    POLICY,
    RESOLUTIONS,
    SECOND,
    TODAY,
    Figures,
    Group,
    Record,
    Series,
    actions,
    aggregated,
    assert_same,
    assert_same_groups,
    by_bucket,
    exact_sum,
    found,
    group,
    nobody_has_a_file_open,
    rolled,
    run,
    snapshot,
    stamp,
    write,
)

quick = settings(max_examples=70, deadline=None)
SHORT = Policy((Level(60, 1), Level(300, 2), Level(3600, 3)), "0 2 * * *", "a test")
COARSE = Policy((Level(300, 4), Level(86400, 9)), "0 2 * * *", "a test")
FOR_EVER = Policy((Level(60, 2), Level(300, 5), Level(3600, 9999)), "0 2 * * *", "a test")
SERIES: tuple[Series, ...] = (
    ("m", "gauge", ()),
    ("m", "gauge", (("a", "1"), ("b", "x y"))),
    ("m", "counter", (("a", "1"), ("b", "x y"))),
    ("n", "counter", ()),
    ("n", "histogram", (("a", "1"),)),
    ("n", "summary", (("ü", '"'),)),
)


@dataclasses.dataclass(frozen=True)
class Spelling:
    """One of the ways to write the same line."""

    compact: bool
    name_key: str
    reverse: bool
    terse: bool
    sketch: bool
    number_labels: bool

    def line(self, record: Record, default_interval: int) -> str:
        name, kind, labels = record.series
        figures = record.figures()
        pairs = [(key, int(value) if self.number_labels and value.isdigit() else value) for key, value in labels]
        row: dict[str, t.Any] = {
            "timestamp_ns": record.time,
            self.name_key: name,
            "metric_type": kind,
            "labels": dict(reversed(pairs) if self.reverse else pairs),
            "interval_seconds": record.interval,
        }
        if self.terse and kind == "gauge":
            del row["metric_type"]
        if self.terse and record.interval == default_interval:
            del row["interval_seconds"]
        if figures.sketch is None:
            row["value"] = figures.sum / (figures.count if kind == "gauge" else 1)
            if figures.count > 1:
                row["count"] = figures.count
            if figures.count > 1 and kind == "gauge":
                row["value"] = min(max(row["value"], figures.low), figures.high)
                row.update(sum=figures.sum, min=figures.low, max=figures.high)
                row.update(last=figures.last, last_timestamp_ns=figures.last_time)
        elif self.sketch:
            row.update(count=figures.count, sum=figures.sum, min=figures.low, max=figures.high)
            row.update(sketch=figures.sketch.as_json(), relative_error=figures.sketch.relative_error)
        else:
            row["observations"] = [value for _time, value in record.samples]
        if self.reverse:
            row = dict(reversed(list(row.items())))
        return json.dumps(row, separators=(",", ":") if self.compact else None)


@dataclasses.dataclass(frozen=True)
class Journal:
    path: str
    lines: tuple[tuple[Record, Spelling], ...]
    dated: int | None
    default_interval: int

    @property
    def records(self) -> list[Record]:
        return [record for record, _spelling in self.lines]

    def is_settled(self, today: int) -> bool:
        """Nobody adds to it: it has a date that is over or is compressed, and no record of today or tomorrow."""
        if self.dated is None and not self.path.endswith(".gz"):
            return False
        return (self.dated or 0) < today and not any(record.day in (today, today + 1) for record in self.records)

    def write(self, root: Path) -> None:
        text = "".join(f"{spelling.line(record, self.default_interval)}\n" for record, spelling in self.lines)
        write(root, self.path, text.encode())


Journals = t.List[Journal]

values = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e9, 1e9))
ages = st.one_of(st.integers(-2, 6), st.integers(-9, 45))
spellings = st.builds(
    Spelling,
    compact=st.booleans(),
    name_key=st.sampled_from(("metric_name", "name")),
    reverse=st.booleans(),
    terse=st.booleans(),
    sketch=st.booleans(),
    number_labels=st.booleans(),
)


@st.composite
def records(draw: st.DrawFn, ages: st.SearchStrategy[int] = ages) -> Record:
    interval = draw(st.sampled_from((60, 60, 60, 300, 3600, 86400, 30)))
    # Few minutes, so that records meet in a bucket; now and then one that is not on the minute.
    minute = draw(st.sampled_from((0, 1, 4, 5, 59, 60, 1439)))
    time = (TODAY - draw(ages)) * DAY + minute * MINUTE + draw(st.sampled_from((0, 0, 0, 1, 30 * SECOND)))
    count = draw(st.sampled_from((1, 1, 1, 2, 5)))
    series = draw(st.sampled_from(SERIES))
    late = 1 if count > 1 else 0
    samples = [(time + number * late, draw(values)) for number in range(count)]
    return Record(series, time, interval, tuple(samples))


@st.composite
def journals(draw: st.DrawFn) -> Journal:
    directory = draw(st.sampled_from(("", "metrics/", "a/b/")))
    suffix = draw(st.sampled_from(("", "", ".1", ".2")))
    dated = draw(st.one_of(st.none(), st.integers(-1, 8).map(lambda age: TODAY - age)))
    date = "" if dated is None else f".{stamp(dated)}{suffix}"
    stem = draw(st.sampled_from(("m", "x.y_z", "aggregated_metrics", "")))
    resolution = draw(st.sampled_from(sorted(RESOLUTIONS)))
    name = f"{stem}_{RESOLUTIONS[resolution]}" if stem else "aggregated_metrics"
    ending = draw(st.sampled_from((".jsonl", ".ndjson", ".ndjson.gz")))
    rows = draw(st.lists(st.tuples(records(), spellings), min_size=1, max_size=9))
    return Journal(f"{directory}{name}{date}{ending}", tuple(rows), dated, resolution if stem else 60)


def trees() -> st.SearchStrategy[Journals]:
    """Journals without twins; no two of them hold the same."""
    return st.lists(journals(), min_size=1, max_size=6, unique_by=lambda one: one.path.split(".gz")[0]).map(_told_apart)


def _told_apart(tree: Journals) -> Journals:
    made = []
    for number, journal in enumerate(tree):
        rows = [
            (record._replace(samples=tuple((time, value + number / 4) for time, value in record.samples)), spelling)
            for record, spelling in journal.lines
        ]
        made.append(dataclasses.replace(journal, lines=tuple(rows)))
    return made


policies = st.sampled_from((POLICY, SHORT, COARSE, FOR_EVER))


def expected(tree: Journals, policy: Policy, today: int = TODAY) -> dict[Group, list[Figures]]:
    settled: dict[Group, list[Record]] = {}
    left: dict[Group, list[Record]] = {}
    for journal in tree:
        kept = settled if journal.is_settled(today) else left
        kept.setdefault(group(journal.path), []).extend(journal.records)
    for key, of_group in settled.items():
        left.setdefault(key, []).extend(rolled(of_group, policy, today))
    return {key: [record.figures() for record in of_group] for key, of_group in left.items()}


def canonical(groups: dict[Group, list[Figures]], resolution: int | None = None) -> dict[Group, list[Figures]]:
    return {key: by_bucket(figures, resolution) for key, figures in groups.items()}


@pytest.fixture(scope="module", autouse=True)
def _nobody_has_a_file_open() -> t.Iterator[None]:
    with nobody_has_a_file_open():
        yield


@contextlib.contextmanager
def laid_out(tree: Journals) -> t.Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        root = Path(directory, "journals")
        root.mkdir()
        # A directory without any file would be unknown.
        (root / ".keep").touch()
        for journal in tree:
            journal.write(root)
        yield root


@given(trees(), policies)
@quick
def test_a_run_leaves_what_the_model_says(tree: Journals, policy: Policy) -> None:
    with laid_out(tree) as root:
        result = run(root, policy=policy)
        assert result.notes == []
        assert_same_groups(found(root), expected(tree, policy))
        assert not [path for path in root.rglob(f"{OURS}*") if path.name not in KEPT]


@given(trees(), policies)
@quick
def test_a_dry_run_says_what_the_run_after_it_does_and_changes_nothing(tree: Journals, policy: Policy) -> None:
    with laid_out(tree) as root:
        before = snapshot(root)
        planned = run(root, policy=policy, dry_run=True)
        assert snapshot(root) == before
        done = run(root, policy=policy)
        assert actions(done) == actions(planned)
        assert {action.state for action in planned.actions} <= {"planned"}
        assert {action.state for action in done.actions} <= {"done"}


@given(trees(), policies)
@quick
def test_a_second_run_does_nothing(tree: Journals, policy: Policy) -> None:
    with laid_out(tree) as root:
        run(root, policy=policy)
        before = snapshot(root, but=KEPT)
        again = run(root, policy=policy)
        assert (again.actions, again.notes) == ([], [])
        assert snapshot(root, but=KEPT) == before


@given(trees(), policies, st.randoms(use_true_random=False))
@quick
def test_the_order_of_lines_does_not_matter(tree: Journals, policy: Policy, chance: random.Random) -> None:
    shuffled = []
    for journal in tree:
        rows = list(journal.lines)
        chance.shuffle(rows)
        shuffled.append(dataclasses.replace(journal, lines=tuple(rows)))
    with laid_out(tree) as root, laid_out(shuffled) as other:
        run(root, policy=policy)
        run(other, policy=policy)
        assert_same_groups(found(root), found(other))


@given(st.lists(records(st.integers(2, 45)), min_size=1, max_size=12), policies, st.randoms(use_true_random=False))
@quick
def test_it_does_not_matter_which_file_holds_a_record(
    of_group: list[Record], policy: Policy, chance: random.Random
) -> None:
    plain = Spelling(False, "metric_name", False, False, False, False)
    with laid_out([]) as root, laid_out([]) as other:
        for place, files in ((root, 1), (other, 4)):
            spread: dict[int, list[tuple[Record, Spelling]]] = {}
            for record in chance.sample(of_group, len(of_group)):
                spread.setdefault(chance.randrange(files), []).append((record, plain))
            for number, rows in spread.items():
                path = f"m_1m.{stamp(TODAY - 1 - number)}{chance.choice(('', '.7'))}.ndjson{chance.choice(('', '.gz'))}"
                Journal(path, tuple(rows), TODAY - 1 - number, 60).write(place)
            run(place, policy=policy)
        assert_same_groups(canonical(found(root)), canonical(found(other)))


def test_a_name_that_one_step_leaves_is_taken_by_another_one_only_after_that() -> None:
    plain = Spelling(False, "metric_name", False, False, False, False)
    # Ages in days of the records of each file. What is left of the last one gets the name of the one before it, which
    # goes too, and is the larger one: the smallest comes first.
    ages = {"20251104.7": (2,), "20251105": (2,), "20251106": (2, 2, 2, 4), "20251107.7": (3, 2)}
    with laid_out([]) as root:
        for name, of_file in ages.items():
            times = [(TODAY - age) * DAY for age in of_file]
            rows = [(Record(("m", "gauge", ()), time, 60, ((time, 0.0),)), plain) for time in times]
            Journal(f"m_1m.{name}.ndjson.gz", tuple(rows), TODAY - 1, 60).write(root)
        levels = (Level(60, 2), Level(300, 5), Level(3600, 12), Level(86400, 30))
        result = run(root, policy=Policy(levels, "0 2 * * *", "a test"))
        assert result.notes == []
        assert {action.state for action in result.actions} == {"done"}


@given(trees(), st.sampled_from((POLICY, SHORT, FOR_EVER)), st.lists(st.integers(1, 4), max_size=4), st.booleans())
@settings(max_examples=20, deadline=None)
def test_rolling_up_level_by_level_is_rolling_up_at_once(
    tree: Journals, policy: Policy, steps: list[int], forget: bool
) -> None:
    with laid_out(tree) as root, laid_out(tree) as other:
        today = TODAY
        for step in (0, *steps):
            today += step
            if forget:
                # Also what each file holds may be forgotten on the way.
                with contextlib.suppress(FileNotFoundError):
                    (root / KEPT[0]).unlink()
            assert run(root, today, policy).notes == []
        # A file that grew waits from the day of its first run on, and every one for the days of its last records.
        for day in range(today + 1, today + 13, 3):
            run(root, day, policy)
            run(other, day, policy)
        assert_same_groups(canonical(found(root)), canonical(found(other)))


@given(trees(), st.lists(st.integers(0, 3), max_size=4))
@quick
def test_counts_and_sums_are_conserved_while_nothing_expires(tree: Journals, steps: list[int]) -> None:
    with laid_out(tree) as root:
        before = canonical(found(root), 3600)
        today = TODAY
        for step in (0, *steps):
            today += step
            run(root, today, FOR_EVER)
            assert_same_groups(canonical(found(root), 3600), before)


@given(trees())
@settings(max_examples=20, deadline=None)
def test_two_processes_do_what_one_does(tree: Journals) -> None:
    with laid_out(tree) as root, laid_out(tree) as other:
        one, two = run(root), run(other, jobs=2)
        assert one.actions == two.actions
        assert one.counts == two.counts
        left, right = ({path: row[0] for path, row in snapshot(place, but=KEPT).items()} for place in (root, other))
        assert left == right


@given(trees(), policies, st.integers(1, 4))
@quick
def test_what_the_state_remembers_only_saves_time(tree: Journals, policy: Policy, later: int) -> None:
    with laid_out(tree) as root, tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        run(root, policy=policy)
        other = Path(directory, "journals")
        shutil.copytree(root, other)
        (other / KEPT[0]).unlink()
        assert actions(run(root, TODAY + later, policy)) == actions(run(other, TODAY + later, policy))
        left, right = ({path: row[0] for path, row in snapshot(place, but=KEPT).items()} for place in (root, other))
        assert left == right


class Aggregator:
    """The single file that the aggregator adds to, and what the model makes of it day by day."""

    def __init__(self, root: Path, policy: Policy) -> None:
        self.root = root
        self.policy = policy
        self.growing: list[Record] = []
        self.renamed: list[tuple[int, list[Record]]] = []
        self.settled: list[Record] = []

    def add(self, lines: list[Record]) -> None:
        self.growing += lines
        with (self.root / "metrics" / "aggregated_metrics.ndjson").open("ab") as file:
            for line in lines:
                name, kind, _labels = line.series
                values_ = [value for _time, value in line.samples]
                file.write(aggregated(line.time, name, kind, values_ if kind == "histogram" else values_[0]))

    def clean(self, today: int) -> None:
        """A run, and the same in the model: a file that grew is left alone on the day it gets its name."""
        result = run(self.root, today, self.policy)
        assert result.notes == []
        ready = [lines for day, lines in self.renamed if day < today]
        self.renamed = [(day, lines) for day, lines in self.renamed if day >= today]
        self.settled += [line for lines in ready for line in lines]
        self.settled = rolled(self.settled, self.policy, today)
        if self.growing and self.growing[0].day < today:
            self.renamed.append((today, self.growing))
            self.growing = []

    def expected(self) -> list[Figures]:
        waiting = [line for _day, lines in self.renamed for line in lines]
        return by_bucket(line.figures() for line in (*self.settled, *waiting, *self.growing))


def test_day_by_day_the_state_is_the_one_of_the_model(tmp_path: Path) -> None:
    chance = random.Random(1)
    aggregator = Aggregator(tmp_path, POLICY)
    (tmp_path / "metrics").mkdir()
    labels = (("a", "b"),)
    kinds = ("gauge", "counter", "histogram")

    def lines(day: int, minutes: t.Iterable[int]) -> list[Record]:
        made = []
        for minute in minutes:
            time = day * DAY + minute * MINUTE
            for kind in kinds:
                numbers = [chance.gauss(0, 100) for _number in range(3 if kind == "histogram" else 1)]
                made.append(Record((f"m_{kind}", kind, labels), time, 60, tuple((time, number) for number in numbers)))
        return made

    for today in range(TODAY, TODAY + 62):
        # Till two o'clock of the day; the rest of it is added before the next run.
        aggregator.add(lines(today - 1, (120, 121, 126, 700, 1439)) + lines(today, (0, 1, 61)))
        if chance.random() < 0.3:
            aggregator.add(lines(today - chance.randrange(2, 35), (chance.randrange(1440),)))
        aggregator.clean(today)
        groups = found(tmp_path)
        assert set(groups) == {("metrics", "aggregated_metrics", ".ndjson")}
        (figures,) = groups.values()
        assert_same(by_bucket(figures), aggregator.expected())
    # One file a day at the most, and those of the last two.
    assert len(list(tmp_path.rglob("*.ndjson*"))) <= 32
    assert exact_sum(one.count for one in figures) > 30 * 3


def test_forty_days_of_mixed_journals_and_a_day_more_are_what_the_model_says(tmp_path: Path) -> None:
    chance = random.Random(2)
    spelling = Spelling(
        compact=False, name_key="metric_name", reverse=False, terse=False, sketch=False, number_labels=False
    )
    metrics, trading = tmp_path / "metrics", tmp_path / "trading"

    def lines(day: int, interval: int) -> list[tuple[Record, Spelling]]:
        made = []
        for series, minute in itertools.product(SERIES, (0, 3, 64, 1439)):
            time = day * DAY + minute * MINUTE
            made.append((Record(series, time, interval, ((time, chance.gauss(0, 100)),)), spelling))
        return made

    def growing(days: t.Iterable[int], path: str, dated: int | None = None) -> Journal:
        return Journal(path, tuple(line for day in days for line in lines(day, 60)), dated, 60)

    dated = []
    for age in range(1, 41):
        day, resolution = TODAY - age, sorted(RESOLUTIONS)[age % len(RESOLUTIONS)]
        name = f"njord_{RESOLUTIONS[resolution]}.{stamp(day)}.ndjson{'.gz' if age % 3 else ''}"
        dated.append(Journal(name, tuple(lines(day, resolution)), day, resolution))
    single = growing(range(TODAY - 40, TODAY + 1), "aggregated_metrics.ndjson")
    for journal in (*dated, single):
        journal.write(metrics)
    for age in range(40):
        write(trading, f"fills.{stamp(TODAY - age)}.ndjson", b'{"fill_id": "1", "ts_ns": 1759276800000000000}\n')
    fills = snapshot(trading)
    assert run(tmp_path, policy=DEFAULT).notes == []
    assert_same_groups(found(metrics), expected([*dated, single], DEFAULT))
    # By the next day the single file has a date, and another one has begun to grow.
    renamed = dataclasses.replace(single, path=f"aggregated_metrics.{stamp(TODAY)}.ndjson", dated=TODAY)
    another = growing([TODAY, TODAY + 1], "aggregated_metrics.ndjson")
    another.write(metrics)
    assert run(tmp_path, TODAY + 1, DEFAULT).notes == []
    # Of what grows the finished day stays as it is, under its new name, till the day after.
    assert_same_groups(found(metrics), expected([*dated, renamed, another], DEFAULT, TODAY + 1))
    assert snapshot(trading) == fills
