# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals of a host that come back by the modules themselves, on real file systems, beside real writers."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import journals_restore
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import VERIFIED, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals import JournalsSource
from ansible_collections.njord.telemetry.plugins.module_utils._backup.journals_plan import look
from ansible_collections.njord.telemetry.plugins.module_utils._backup.record import NotRestored

from tests.service.backups import tree
from tests.testbench.disk import small_disk
from tests.testbench.module import findings, run

DAY = 86400
PLACES = ["directory", "mount point"]
# Of three megabytes, with what lies there.
FULL = 2_900_000


@pytest.fixture(autouse=True)
def _within_one_day() -> None:
    """Waits for midnight (UTC) where it is near: a test about days ends on the day on which it began."""
    left = DAY - time.time() % DAY
    if left < 60:
        time.sleep(left)


def lines(days_ago: int, minutes: t.Iterable[int], padding: int = 0) -> bytes:
    start = (int(time.time()) // DAY - days_ago) * DAY
    labels = {"venue": "binance", "padding": "x" * padding}
    rows = [
        {
            "timestamp_ns": (start + minute * 60) * 10**9,
            "metric_name": "njord_fills_total",
            "metric_type": "counter",
            "labels": labels,
            "interval_seconds": 60,
            "value": 0.1,
        }
        for minute in minutes
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def stamp(days_ago: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime(time.time() - days_ago * DAY))


def fill(root: Path, padding: int = 0) -> None:
    (root / "metrics").mkdir(parents=True)
    for days_ago in (1, 2, 3):
        path = root / f"metrics/aggregated_metrics.{stamp(days_ago)}.ndjson"
        path.write_bytes(lines(days_ago, range(60), padding))
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()
    (root / "metrics/aggregated_metrics.ndjson").write_bytes(lines(0, [0], padding))
    (root / "fills.ndjson").write_bytes(b'{"fill": 1}\n')


def back_up(root: Path, catalogue: Path) -> str:
    done = run(
        "backup",
        {"catalogue": str(catalogue), "sources": ["journals"], "journal_dir": [str(root)], "level": "proven"},
    )
    assert done["level"] == "proven", done
    return str(done["name"])


def restore(catalogue: Path, **more: t.Any) -> dict[str, t.Any]:
    return run("restore", {"catalogue": str(catalogue), "source": "journals", **more})


@pytest.mark.parametrize("place", PLACES)
def test_what_was_lost_comes_back_and_what_was_written_since_stays(tmp_path: Path, place: str) -> None:
    with small_disk(tmp_path / "disk", "size=64m,mode=755") as disk:
        root = disk / "journals" if place == "directory" else disk
        fill(root)
        before = tree(root)
        name = back_up(root, tmp_path / "catalogue")
        for path in sorted((root / "metrics").iterdir()):
            path.unlink()
        # The aggregator opens and closes its file at each flush, and made it anew.
        (root / "metrics/aggregated_metrics.ndjson").write_bytes(lines(0, [5]))
        with (root / "fills.ndjson").open("ab") as file:
            file.write(b'{"fill": 2}\n')
        inode = (root / "fills.ndjson").stat().st_ino
        told = restore(tmp_path / "catalogue")
        assert not told["changed"]
        assert told["name"] == name
        assert {row["action"] for row in told["plan"]} >= {"write", "prove", "carry", "keep", "place"}
        (plan,) = findings(told, "restore.plan")
        assert "telemetry_confirm" in plan["remedy"]
        assert findings(told, "restore.lost") == []
        done = restore(tmp_path / "catalogue", confirm=True)
        assert done["changed"]
        assert done["plan"] == told["plan"]
        (finding,) = findings(done, "restore.done")
        assert finding["severity"] == "ok"
        assert "counts and sums per series and day" in finding["summary"]
        after = {path: entry for path, entry in tree(root).items() if not path.startswith(".")}
        live = {"fills.ndjson", "metrics/aggregated_metrics.ndjson"}
        assert {**before, **{path: after[path] for path in live}}.items() <= after.items()
        assert (root / "fills.ndjson").read_bytes() == b'{"fill": 1}\n{"fill": 2}\n'
        assert (root / "fills.ndjson").stat().st_ino == inode
        assert (root / "metrics/aggregated_metrics.ndjson").read_bytes() == lines(0, [5])
        assert (root / f"metrics/aggregated_metrics.{stamp(0)}.ndjson").read_bytes() == lines(0, [0])
        kept = Path(done["kept"])
        assert kept.parent == (disk if place == "mount point" else root.parent)
        assert (kept / "fills.ndjson").stat().st_ino == inode
        seen = run("journal_info", {"journal_dirs": [str(root)]})
        assert {one["severity"] for one in seen["findings"] if one["check"].startswith("journal")} <= {"ok", "info"}
        assert not [one for one in seen["largest"] if ".replaced-" in one["path"]]
        # What came back is backed up like anything else, and what was replaced is not.
        back_up(root, tmp_path / "catalogue")
        newest = Catalogue(str(tmp_path / "catalogue")).entries()[-1].manifest
        assert newest is not None
        assert {file.path for file in newest.parts[0].files} == set(after)


def test_a_host_that_never_had_journals_gets_them_from_the_carried_file(tmp_path: Path) -> None:
    root = tmp_path / "place" / "journals"
    fill(root)
    before = tree(root)
    back_up(root, tmp_path / "catalogue")
    (tmp_path / "carried").mkdir()
    done = run(
        "backup",
        {
            "catalogue": str(tmp_path / "catalogue"),
            "sources": ["journals"],
            "journal_dir": [str(root)],
            "carry_to": str(tmp_path / "carried"),
        },
    )
    assert done["changed"]
    subprocess.run(["rm", "-rf", tmp_path / "place"], check=True)
    (archive,) = [path for path in (tmp_path / "carried").iterdir() if ".tar" in path.name]
    restored = restore(tmp_path / "elsewhere", archive=str(archive), confirm=True)
    assert restored["changed"]
    assert restored["kept"] == ""
    assert tree(root) == before


def test_a_writer_is_named_and_a_clean_up_that_is_at_work_too(tmp_path: Path) -> None:
    root = tmp_path / "journals"
    fill(root)
    back_up(root, tmp_path / "catalogue")
    before = tree(root)
    open_file = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    take_lock = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    take_lock += "; print(flush=True); sys.stdin.read()"
    for program, path in ((open_file, root / "fills.ndjson"), (take_lock, root)):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            done = restore(tmp_path / "catalogue", confirm=True)
            process.communicate()
        said = [finding["summary"] for finding in done["findings"] if finding["severity"] == "critical"]
        assert any(f"process {process.pid}" in text for text in said), done
        assert not done.get("changed")
    assert tree(root) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("journals")] == ["journals"]


def test_repair_is_refused_with_what_would_do(tmp_path: Path) -> None:
    root = tmp_path / "journals"
    fill(root)
    back_up(root, tmp_path / "catalogue")
    done = restore(tmp_path / "catalogue", mode="repair", confirm=True)
    assert done["failed"]
    assert "mode swap" in done["msg"]


@pytest.mark.parametrize("place", PLACES)
def test_a_disk_that_is_full_sooner_or_later_leaves_the_live_journals_as_they_were(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", "size=3m,mode=755") as disk:
        root = disk / "journals" if place == "directory" else disk
        fill(root, padding=2000)
        catalogue = Catalogue(str(tmp_path / "catalogue"))
        catalogue.make()
        with catalogue.locked():
            manifest, _cost = create(catalogue, [JournalsSource([str(root)])], time.time(), "host")
        next((root / "metrics").glob(f"*{stamp(1)}*")).unlink()
        before = tree(root)
        parts = list(manifest.parts)

        def restored() -> journals_restore.Done:
            return journals_restore.run(catalogue.store, manifest.name, parts, lambda _part: VERIFIED, "swap", True)

        ballast = disk / ".restoring-ballast" if place == "mount point" else disk / "ballast"
        ballast.write_bytes(bytes(FULL))
        (refusal,) = [one for one in restored().findings if one.check == "restore.refused"]
        assert "are needed" in refusal.summary
        # As if somebody else took the room meanwhile.
        monkeypatch.setattr(
            journals_restore, "look", lambda directory: dataclasses.replace(look(directory), free=1 << 40)
        )
        failures = 0
        for step in itertools.count():
            ballast.write_bytes(bytes(max(0, FULL - step * 30_000)))
            try:
                done = restored()
            except NotRestored as error:
                failures += 1
                assert "No space left" in str(error)
                assert tree(root).items() >= before.items()
                continue
            break
        assert failures > 2
        assert done.is_done
        assert (root / f"metrics/aggregated_metrics.{stamp(1)}.ndjson").exists()
