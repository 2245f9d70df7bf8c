# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals that come back in place: what comes, what comes along, what would be gone, and what becomes of a writer."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _journal_findings
from ansible_collections.njord.telemetry.plugins.module_utils._backup import (
    journals_plan,
    journals_restore,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import DAMAGED, VERIFIED, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Failed, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals import JournalsSource, figures
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals_restore import Done, recover
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged, Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.record import NotRestored, swap
from ansible_collections.njord.telemetry.plugins.module_utils._journal.state import (
    INTENT,
    STATE,
    Gone,
    Intent,
    Rename,
    read_consumed,
    write_intent,
)
from ansible_collections.njord.telemetry.plugins.module_utils._journal.stream import Identity, file_hash
from ansible_collections.njord.telemetry.plugins.module_utils._journal.survey import survey

from .journals import (
    DAY,
    MINUTE,
    TODAY,
    aggregated,
    found,
    lines_of,
    nobody_has_a_file_open,
    run,
    snapshot,
    stamp,
    write,
)
from .killing import killed

NAME = "20251108T020000Z"
GROWING = "metrics/aggregated_metrics.ndjson"
NOW = TODAY * DAY + 120 * MINUTE


@pytest.fixture(autouse=True)
def root_at_two_o_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW / 1e9)
    monkeypatch.setattr(journals_plan, "_WRITING_SECONDS", 0.2)
    if os.geteuid():
        looked = journals_plan.writers
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(journals_plan, "writers", lambda *arguments: (looked(*arguments)[0], 0))


def records(day: int, minutes: t.Iterable[int], names: str = "ab", value: float = 1.0) -> bytes:
    return b"".join(
        aggregated(day * DAY + minute * MINUTE, name, "counter", value) for minute in minutes for name in names
    )


def fill(root: Path) -> None:
    """Days that are over, of which the clean-up has rolled some up, what is written today, and records of trading."""
    for age in (1, 2, 3, 4, 6):
        write(root, f"metrics/aggregated_metrics.{stamp(TODAY - age)}.ndjson", records(TODAY - age, range(60)))
    write(root, "metrics/lag_1m.ndjson", records(TODAY, range(3), "c"))
    write(root, GROWING, records(TODAY, range(30)))
    write(root, "fills.ndjson", b'{"fill": 1}\n{"fill": 2}\n')
    write(root, "app.log", b"started\n")
    (root / "fills.ndjson").chmod(0o640)
    (root / "metrics").chmod(0o750)
    with nobody_has_a_file_open():
        run(root, TODAY)


@dataclasses.dataclass(frozen=True)
class Bench:
    root: Path
    catalogue: Catalogue
    part: Part

    @classmethod
    def make(cls, work: Path) -> Bench:
        root = work / "place" / "journals"
        fill(root)
        return cls.of(root, work)

    @classmethod
    def of(cls, root: Path, work: Path) -> Bench:
        catalogue = Catalogue(str(work / "catalogue"))
        catalogue.make()
        with catalogue.locked():
            manifest, _cost = create(catalogue, [JournalsSource([str(root)])], NOW / 1e9, "host")
        return cls(root, catalogue, manifest.parts[0])

    def restore(self, confirm: bool = True, level: str = VERIFIED, mode: str = "swap") -> Done:
        return journals_restore.run(self.catalogue.store, NAME, [self.part], lambda _part: level, mode, confirm)

    def is_as_it_was(self) -> bool:
        """Whether each day that is over has the counts and sums of the backup."""
        found = figures(self.root, self.part.facts["today"])
        return of_days(found) == of_days(self.part.facts["figures"])

    def kept(self) -> Path:
        (only,) = [path for path in self.root.parent.iterdir() if ".replaced-" in path.name]
        return only

    def beside(self) -> list[str]:
        return sorted(path.name for path in self.root.parent.iterdir() if path != self.root)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench.make(tmp_path)


def of_days(found: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: figure for name, figure in found.items() if isinstance(figure, dict)}


def of(done: Done, check: str) -> list[str]:
    return [finding.summary for finding in done.findings if finding.check == f"restore.{check}"]


def plain(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != STATE
    }


def counts(root: Path) -> dict[t.Any, int]:
    """Of each series and UTC day."""
    total: dict[t.Any, int] = {}
    for lines in found(root / "metrics").values():
        for one in lines:
            key = (one.series, one.time // DAY)
            total[key] = total.get(key, 0) + one.count
    return total


def test_a_directory_that_is_gone_comes_back_as_it_was(bench: Bench) -> None:
    before, facts = plain(bench.root), snapshot(bench.root, but=[STATE])
    shutil.rmtree(bench.root.parent)
    done = bench.restore()
    assert done.is_done
    assert plain(bench.root) == before
    modes = {path: mode for path, (_content, _modified, mode) in snapshot(bench.root).items()}
    assert modes == {path: mode for path, (_content, _modified, mode) in facts.items()}
    assert bench.is_as_it_was()
    assert bench.beside() == []
    assert done.kept == ()


def test_without_confirmation_nothing_is_written_and_the_plan_says_what_would_be(bench: Bench) -> None:
    shutil.rmtree(bench.root / "metrics")
    before = snapshot(bench.root.parent)
    done = bench.restore(confirm=False)
    assert snapshot(bench.root.parent) == before
    assert not done.is_done
    assert [step.action for step in done.steps] == ["write", "prove", "carry", "keep", "place"]
    (text,) = of(done, "plan")
    assert "2025-11-02 to 2025-11-07" in text
    assert done.findings[0].remedy == "telemetry_confirm=true does it."


def test_what_lives_on_comes_along_in_the_same_file(bench: Bench) -> None:
    (bench.root / GROWING).open("ab").write(records(TODAY, range(30, 40)))
    (bench.root / "fills.ndjson").open("ab").write(b'{"fill": 3}\n')
    write(bench.root, "orders/today.ndjson", b'{"order": 1}\n')
    (bench.root / "latest").symlink_to("fills.ndjson")
    before = plain(bench.root)
    inode = (bench.root / GROWING).stat().st_ino
    gone = next((bench.root / "metrics").glob(f"*{stamp(TODAY - 1)}*"))
    gone.unlink()
    done = bench.restore()
    assert of(done, "lost") == []
    assert plain(bench.root) == before
    assert (bench.root / GROWING).stat().st_ino == inode
    assert (bench.root / "latest").is_symlink()
    assert done.kept == (str(bench.kept()),)
    # Whoever opens it by its name in this moment writes to it wherever he looks.
    assert (bench.kept() / GROWING).stat().st_ino == inode
    assert not (bench.root / STATE).exists()
    assert bench.is_as_it_was()


def test_after_a_loss_that_nobody_saw_both_halves_are_there_and_each_record_once(bench: Bench) -> None:
    """The directory was wiped, and the services went on writing into new files."""
    then = counts(bench.root)
    shutil.rmtree(bench.root)
    write(bench.root, GROWING, records(TODAY, range(50, 60)))
    write(bench.root, "fills.ndjson", b'{"fill": 9}\n')
    # The writer began it anew, and had nothing to write yet.
    write(bench.root, "app.log", b"")
    now = counts(bench.root)
    done = bench.restore()
    assert of(done, "lost") == []
    assert counts(bench.root) == {key: then.get(key, 0) + now.get(key, 0) for key in {*then, *now}}
    # The name that the writer uses is still that of its own file.
    assert (bench.root / GROWING).read_bytes() == records(TODAY, range(50, 60))
    assert (bench.root / "fills.ndjson").read_bytes() == b'{"fill": 9}\n'
    assert (bench.root / f"fills.ndjson.{NAME}").read_bytes() == b'{"fill": 1}\n{"fill": 2}\n'
    assert (bench.root / "app.log").read_bytes() == b"started\n"
    assert any("fills.ndjson is another one here" in text for text in of(done, "warning"))
    total = counts(bench.root)
    for day in range(4):
        with nobody_has_a_file_open():
            run(bench.root, TODAY + day)
    assert counts(bench.root) == total


def test_a_journal_that_was_rotated_since_is_taken_instead_of_the_one_in_the_backup(bench: Bench) -> None:
    (bench.root / GROWING).open("ab").write(records(TODAY, range(30, 40)))
    (bench.root / GROWING).rename(bench.root / f"metrics/aggregated_metrics.{stamp(TODAY)}.ndjson")
    write(bench.root, GROWING, records(TODAY, range(40, 45)))
    (bench.root / "fills.ndjson").rename(bench.root / "fills.20251108.ndjson")
    write(bench.root, "fills.ndjson", b'{"fill": 3}\n')
    before, total = plain(bench.root), counts(bench.root)
    done = bench.restore()
    assert of(done, "lost") == []
    assert plain(bench.root) == before
    assert counts(bench.root) == total


def test_raw_journals_come_back_without_the_roll_up_that_was_made_of_them(bench: Bench) -> None:
    then, before = counts(bench.root), plain(bench.root)
    with nobody_has_a_file_open():
        run(bench.root, TODAY + 1)
    assert plain(bench.root).keys() != before.keys()
    done = bench.restore()
    assert counts(bench.root) == then
    assert of(done, "lost") == []
    assert any(step.action == "replace" for step in done.steps)
    # Else the clean-up would take a journal for one that went into a roll-up, which is not there.
    assert read_consumed(str(bench.root)) == [
        entry for entry in read_consumed(str(bench.root)) if (bench.root / entry.target).exists()
    ]
    with nobody_has_a_file_open():
        run(bench.root, TODAY + 1)
    assert counts(bench.root) == then


def test_a_late_line_in_a_journal_that_is_rolled_up_since_is_named_as_lost_and_kept(bench: Bench) -> None:
    late = records(TODAY - 4, [2], "a")
    write(bench.root, f"metrics/aggregated_metrics.{stamp(TODAY - 3)}.1.ndjson", late)
    with nobody_has_a_file_open():
        run(bench.root, TODAY)
    done = bench.restore()
    (text,) = of(done, "lost")
    assert f"its 121 observations of {stamp(TODAY - 4)} are other ones than the backup's 120" in text
    assert counts(bench.kept())[("a", "counter", (("a", "b"),)), TODAY - 4] == 61


def test_a_day_that_the_backup_does_not_have_comes_along(bench: Bench) -> None:
    path = f"metrics/aggregated_metrics_5m.{stamp(TODAY - 5)}.ndjson"
    lines = b"".join(
        aggregated((TODAY - 5) * DAY + bucket * 5 * MINUTE, "a", "counter", 5.0, interval_seconds=300, count=5)
        for bucket in range(12)
    )
    write(bench.root, path, lines)
    done = bench.restore()
    assert lines_of(bench.root / path) == lines
    assert of(done, "lost") == []


def test_a_journal_that_may_count_twice_stays_in_the_old_directory_and_is_named(bench: Bench) -> None:
    path = f"metrics/aggregated_metrics.{stamp(TODAY)}.7.ndjson"
    write(bench.root, path, records(TODAY, range(20, 50)))
    done = bench.restore()
    (text,) = of(done, "lost")
    assert path in text
    assert "count twice" in text
    assert "2025-11-08T00:20:00Z to 2025-11-08T00:49:00Z" in text
    assert (bench.kept() / path).exists()
    assert not (bench.root / path).exists()


def test_a_damaged_live_journal_does_not_come_along_and_is_named(bench: Bench) -> None:
    path = f"metrics/other_1m.{stamp(TODAY - 9)}.ndjson.gz"
    written = write(bench.root, path, records(TODAY - 9, range(2000)))
    written.write_bytes(written.read_bytes()[:-20])
    done = bench.restore()
    assert "it is damaged" in of(done, "lost")[0]
    assert not (bench.root / path).exists()
    assert (bench.kept() / path).exists()


def test_after_a_restore_the_journals_have_no_critical_finding(bench: Bench) -> None:
    shutil.rmtree(bench.root / "metrics")
    bench.restore()
    seen = _journal_findings.findings(survey([str(bench.root)]), NOW, 10)
    assert {finding.severity for finding in seen} <= {"ok", "info"}


@contextlib.contextmanager
def writer(path: Path) -> t.Iterator[int]:
    """A process that holds a file open for adding to it."""
    program = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def test_a_file_that_somebody_writes_to_is_named_with_the_process_and_nothing_is_done(bench: Bench) -> None:
    before = plain(bench.root)
    with writer(bench.root / "fills.ndjson") as pid:
        for confirm in (False, True):
            done = bench.restore(confirm)
            assert done.is_refused
            (text,) = [text for text in of(done, "refused") if "open for writing" in text]
            assert f"process {pid} (" in text
            assert "fills.ndjson" in text
    assert plain(bench.root) == before
    assert bench.beside() == []
    assert bench.restore().is_done


def test_a_writer_that_comes_while_the_backup_is_written_is_not_left_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plain(bench.root)
    with contextlib.ExitStack() as stack:

        def slow(*arguments: t.Any) -> t.Any:
            stack.enter_context(writer(bench.root / "fills.ndjson"))
            return lay(*arguments)

        monkeypatch.setattr(journals_restore, "lay", slow)
        with pytest.raises(NotRestored, match="stop it first"):
            bench.restore()
    assert plain(bench.root) == before
    assert bench.beside() == []


def test_whoever_only_reads_does_not_matter(bench: Bench) -> None:
    program = "import sys; file = open(sys.argv[1], 'rb'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(bench.root / "fills.ndjson")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert bench.restore().is_done
        process.communicate()


def test_what_is_written_in_the_moment_of_the_change_comes_along_or_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"metrics/aggregated_metrics.{stamp(TODAY)}.7.ndjson"
    write(bench.root, path, records(TODAY, range(20, 50)))

    def late(record: t.Any) -> None:
        write(bench.root, "orders.ndjson", b'{"order": 1}\n')
        (bench.root / GROWING).open("ab").write(records(TODAY, [59]))
        (bench.root / path).open("ab").write(records(TODAY, [58]))
        swap(record)

    monkeypatch.setattr(journals_restore, "swap", late)
    done = bench.restore()
    assert (bench.root / "orders.ndjson").read_bytes() == b'{"order": 1}\n'
    assert (bench.root / GROWING).read_bytes().endswith(records(TODAY, [59]))
    assert [text for text in of(done, "warning") if path in text and "moment of the change" in text]


def test_a_running_clean_up_is_named_and_nothing_is_done(bench: Bench) -> None:
    before = plain(bench.root)
    program = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    program += "; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(bench.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for confirm in (False, True):
            with pytest.raises(NotRestored, match=f"process {process.pid}"):
                bench.restore(confirm)
        process.communicate()
    assert plain(bench.root) == before


def test_no_clean_up_comes_between(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def look(record: t.Any) -> None:
        swap(record)
        for place in (record.directory, record.kept):
            handle = os.open(place, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(place)
            os.close(handle)

    monkeypatch.setattr(journals_restore, "swap", look)
    bench.restore()
    assert held == [bench.root, bench.kept()]


def interrupt(root: Path, is_broken: bool) -> None:
    """As a clean-up is killed after its record was written."""
    path = f"metrics/aggregated_metrics.{stamp(TODAY)}.5.ndjson"
    source = write(root, path, records(TODAY, range(40, 50), "d"))
    temporary = f"metrics/.metrics-cleanup.new.{source.name}.gz"
    written = write(root, temporary, source.read_bytes())
    digest = "0" * 64 if is_broken else file_hash(str(written))
    renames = [Rename(temporary, f"{path}.gz", written.stat().st_size, digest)]
    sources = [Gone(path, Identity.of(source.stat()), file_hash(str(source)))]
    write_intent(str(root), Intent(renames, sources, []))
    if is_broken:
        source.unlink()


def test_an_interrupted_clean_up_is_brought_to_its_end_first(bench: Bench) -> None:
    interrupt(bench.root, is_broken=False)
    planned = bench.restore(confirm=False)
    assert (bench.root / INTENT).exists()
    assert any("was interrupted" in text for text in of(planned, "warning"))
    done = bench.restore()
    path = f"metrics/aggregated_metrics.{stamp(TODAY)}.5.ndjson.gz"
    assert lines_of(bench.root / path) == records(TODAY, range(40, 50), "d")
    assert any("brought to its end" in text for text in of(done, "warning"))
    for place in (bench.root, bench.kept()):
        assert not (place / INTENT).exists()


def test_one_that_nobody_can_bring_to_its_end_stays_in_the_old_directory(bench: Bench) -> None:
    interrupt(bench.root, is_broken=True)
    done = bench.restore()
    assert any("stays in the old directory" in text for text in of(done, "warning"))
    assert not (bench.root / INTENT).exists()
    assert (bench.kept() / INTENT).exists()
    assert bench.is_as_it_was()


def test_repair_is_refused_with_what_would_do(bench: Bench) -> None:
    with pytest.raises(Failed, match="mode swap"):
        bench.restore(mode="repair")


def test_directories_within_each_other_are_not_swapped(bench: Bench) -> None:
    inner = dataclasses.replace(bench.part, root=f"{bench.part.root}/metrics")
    with pytest.raises(Failed, match="target_dir"):
        journals_restore.run(bench.catalogue.store, NAME, [bench.part, inner], lambda _part: VERIFIED, "swap", True)


def test_a_damaged_backup_is_refused(bench: Bench) -> None:
    before = plain(bench.root)
    assert bench.restore(level=DAMAGED).is_refused
    # And one that nobody knew of.
    victim = next(file for file in bench.part.files if "_5m." in file.path)
    at = bench.catalogue.store.path(victim.sha256)
    at.chmod(0o600)
    at.write_bytes(at.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="not what it was when it was stored"):
        bench.restore()
    assert plain(bench.root) == before
    assert bench.beside() == []


def test_what_does_not_count_as_it_did_is_not_put_into_place(bench: Bench) -> None:
    before = plain(bench.root)
    name = next(name for name in bench.part.facts["figures"] if name.endswith("m"))
    figure = {**bench.part.facts["figures"][name], "sum": "1.5"}
    facts = {**bench.part.facts, "figures": {**bench.part.facts["figures"], name: figure}}
    other = dataclasses.replace(bench, part=dataclasses.replace(bench.part, facts=facts))
    with pytest.raises(NotRestored, match=r"sum 1\.5"):
        other.restore()
    assert plain(bench.root) == before
    assert bench.beside() == []


def test_a_backup_without_figures_says_that_only_its_hashes_are_known(bench: Bench) -> None:
    facts = {key: value for key, value in bench.part.facts.items() if key not in ("figures", "journals")}
    old = dataclasses.replace(bench, part=dataclasses.replace(bench.part, facts=facts))
    write(bench.root, GROWING, records(TODAY, range(50, 60)))
    done = old.restore()
    assert any("its hashes are all" in text for text in of(done, "warning"))
    assert "what they count is not known" in of(done, "done")[0]
    assert of(done, "lost") == []


def test_a_backup_of_lines_alone_is_proven_by_those(bench: Bench) -> None:
    lines = {
        name: figure["lines"] if isinstance(figure, dict) else figure
        for name, figure in bench.part.facts["figures"].items()
    }
    facts = {key: value for key, value in bench.part.facts.items() if key != "journals"}
    old = dataclasses.replace(bench, part=dataclasses.replace(bench.part, facts={**facts, "figures": lines}))
    shutil.rmtree(bench.root)
    assert old.restore().is_done
    name = next(name for name in lines if name.endswith("m"))
    wrong = dataclasses.replace(old, part=dataclasses.replace(old.part, facts={**facts, "figures": {**lines, name: 1}}))
    with pytest.raises(NotRestored, match=f"{name}: 1 then"):
        wrong.restore()


def test_a_backup_that_is_not_here_yet_can_be_planned(bench: Bench) -> None:
    done = journals_restore.run(
        Catalogue("absent").store, NAME, [bench.part], lambda _part: VERIFIED, "swap", False, is_here=False
    )
    assert not done.is_refused
    assert any("once the backup is here" in text for text in of(done, "warning"))


def test_too_little_room_is_refused_with_the_bytes(bench: Bench) -> None:
    big = dataclasses.replace(bench.part.files[0], size=1 << 60)
    other = dataclasses.replace(bench, part=dataclasses.replace(bench.part, files=(*bench.part.files[1:], big)))
    (text,) = of(other.restore(), "refused")
    assert "are needed" in text
    assert "are free" in text


# Inside of a mount point everything goes entry by entry.
PLACES = pytest.mark.parametrize("is_mount", [False, True], ids=["renamed", "mount point"])


@pytest.fixture
def mounted(bench: Bench, is_mount: bool, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Path, "is_mount", lambda path: is_mount and path == bench.root)
    return bench


def change(root: Path) -> None:
    """What is there when the restore begins: a loss, what went on, and what cannot come along."""
    next((root / "metrics").glob(f"*{stamp(TODAY - 1)}*")).unlink()
    (root / GROWING).open("ab").write(records(TODAY, range(30, 40)))
    write(root, "orders/today.ndjson", b'{"order": 1}\n')
    write(root, f"metrics/aggregated_metrics.{stamp(TODAY)}.7.ndjson", records(TODAY, range(20, 50)))


def live(root: Path) -> dict[str, bytes]:
    """Without what restores left there."""
    return {path: content for path, content in plain(root).items() if not path.startswith(".re")}


@PLACES
def test_a_restore_leaves_nothing_but_the_old_directory(mounted: Bench, is_mount: bool) -> None:
    change(mounted.root)
    before = live(mounted.root)
    done = mounted.restore()
    assert done.is_done
    (kept,) = map(Path, done.kept)
    assert kept.parent == (mounted.root if is_mount else mounted.root.parent)
    assert plain(kept) == before
    assert mounted.is_as_it_was()
    assert mounted.beside() == ([] if is_mount else [kept.name])
    # Nothing of what it kept is a journal for anybody.
    after = counts(mounted.root)
    with nobody_has_a_file_open():
        run(mounted.root, TODAY + 1)
    assert counts(mounted.root) == after
    assert plain(kept) == before
    assert not [file for file in survey([str(mounted.root)]).files if ".replaced-" in file.path]
    again = Bench.of(mounted.root, mounted.root.parent.parent)
    assert not [file for file in again.part.files if ".replaced-" in file.path]
    assert not [one for one in again.part.directories if ".replaced-" in one.path]
    assert mounted.restore().is_done


@PLACES
def test_killed_at_every_call_the_next_run_leaves_the_old_or_the_new_tree_whole(mounted: Bench) -> None:
    """The last of the old ones, kept or in place, has every file that was there."""
    place, aside = mounted.root.parent, mounted.root.parent.parent / "aside"
    change(mounted.root)
    shutil.copytree(place, aside, copy_function=shutil.copy2)
    before = live(mounted.root)
    after: dict[str, bytes] = {}
    for call in itertools.count():
        was_killed = killed(call, mounted.restore)
        said = recover(mounted.root)
        now = live(mounted.root)
        if now != before:
            after = after or now
            assert now == after, call
            kept = [path for path in [*place.iterdir(), *mounted.root.iterdir()] if ".replaced-" in path.name]
            assert [plain(path) for path in kept] == [before], call
            assert "is there again" not in said, call
        else:
            assert "stays there" not in said, call
        left = [*place.iterdir(), *mounted.root.iterdir()]
        assert not [path for path in left if ".rest" in path.name or ".interim" in path.name], call
        if not was_killed:
            break
        shutil.rmtree(place)
        shutil.copytree(aside, place, copy_function=shutil.copy2)
    assert call > 40
    assert after
    assert mounted.is_as_it_was()


@PLACES
def test_where_writers_were_faster_their_files_are_in_a_directory_of_their_own(
    mounted: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aggregator makes its directory anew in the moment in which there is none."""
    change(mounted.root)
    expected = live(mounted.root)
    line = records(TODAY, [59])
    rename = Path.rename

    def slow(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if path in (mounted.root, mounted.root / "metrics") and ".replaced-" in str(target):
            write(mounted.root, GROWING, line)
        return moved

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(NotRestored, match=r"stays there.*interim-.*written in between"):
        mounted.restore()
    monkeypatch.setattr(Path, "rename", rename)
    interim = next(
        path for path in [*mounted.root.parent.iterdir(), *mounted.root.iterdir()] if "interim-" in path.name
    )
    assert (interim / GROWING).read_bytes() == line
    assert mounted.is_as_it_was()
    assert expected[GROWING] == (mounted.root / GROWING).read_bytes()
    assert mounted.restore().is_done


def test_a_directory_that_is_made_anew_meanwhile_is_looked_at_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(bench.root)
    arrange = journals_restore._arrange

    def slow(*arguments: t.Any) -> None:
        arrange(*arguments)
        write(bench.root, GROWING, records(TODAY, [59]))

    monkeypatch.setattr(journals_restore, "_arrange", slow)
    with pytest.raises(NotRestored, match="made anew"):
        bench.restore()
    monkeypatch.setattr(journals_restore, "_arrange", arrange)
    assert bench.restore().is_done
    assert (bench.root / GROWING).read_bytes() == records(TODAY, [59])


class History:
    """A directory to which something happens, at random; every observation is a series of its own."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self._numbers = itertools.count()
        self._minute = (TODAY - 3) * 1440
        self._stride = self.chance.choice((97, 431))

    def happen(self, what: str) -> None:
        (self.root / GROWING).parent.mkdir(parents=True, exist_ok=True)
        getattr(self, what)()

    def write(self) -> None:
        for _line in range(4):
            self._observe(min(self._minute, (TODAY + 1) * 1440 - 1))
            self._minute += self._stride
        with (self.root / "fills.ndjson").open("ab") as file:
            file.write(b'{"fill": %d}\n' % next(self._numbers))

    def late(self) -> None:
        self._observe((TODAY - 3) * 1440)

    def rotate(self) -> None:
        growing = self.root / GROWING
        if growing.exists():
            growing.rename(growing.with_name(f"aggregated_metrics.{stamp(TODAY)}.{next(self._numbers)}.ndjson"))

    def clean(self) -> None:
        with nobody_has_a_file_open():
            run(self.root, TODAY + self.chance.randrange(3))

    def wipe(self) -> None:
        shutil.rmtree(self.root)
        self.root.mkdir()

    def lose(self) -> None:
        for path in sorted(self.root.rglob("*.ndjson*")):
            if self.chance.random() < 0.4:
                path.unlink()

    def restart(self) -> None:
        if (self.root / "fills.ndjson").exists():
            (self.root / "fills.ndjson").rename(self.root / f"fills.{next(self._numbers)}.ndjson")

    def _observe(self, minute: int) -> None:
        with (self.root / GROWING).open("ab") as file:
            file.write(aggregated(minute * MINUTE, f"m{next(self._numbers)}", "counter", 1.0))


BEFORE = ("write", "rotate", "clean", "restart", "late")
SINCE = (*BEFORE, "wipe", "lose")


def names(root: Path) -> dict[str, int]:
    """How often each observation is there."""
    return {series[0]: count for (series, _day), count in counts(root).items()}


def trading(root: Path) -> set[int]:
    return {json.loads(line)["fill"] for path in root.glob("fills*") for line in path.read_bytes().splitlines()}


@pytest.mark.parametrize("seed", range(50))
def test_whatever_happened_no_record_counts_twice_and_none_is_lost_in_silence(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "place" / "journals", seed)
    root, chance = history.root, history.chance
    for what in ("write", *(chance.choice(BEFORE) for _turn in range(chance.randrange(6))), "write"):
        history.happen(what)
    bench = Bench.of(root, tmp_path)
    then, then_trading = names(root), trading(root)
    for _turn in range(chance.randrange(7)):
        history.happen(chance.choice(SINCE))
    now, now_trading = names(root), trading(root)
    done = bench.restore()
    after = names(root)
    assert set(after.values()) <= {1}, done.steps
    assert then.keys() <= after.keys()
    missing = now.keys() - after.keys()
    if missing:
        assert of(done, "lost"), (missing, done.steps)
        assert missing <= names(bench.kept()).keys()
    assert trading(root) >= then_trading | now_trading
    for day in range(3):
        with nobody_has_a_file_open():
            run(root, TODAY + day)
        assert names(root) == dict.fromkeys(after, 1)
