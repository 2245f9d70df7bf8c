# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal directory in which every kind of step is due, and what a clean-up must make of it, whatever happens."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from tests.testbench.packages import ROOT

DAY = 86400
# 2026-01-20, 02:00 UTC.
TODAY = 20473
NOW = TODAY * DAY + 7200
POLICY = {
    "raw_metrics": [
        {"resolution": "1m", "retention_days": 3},
        {"resolution": "5m", "retention_days": 8},
        {"resolution": "1h", "retention_days": 20},
    ]
}
OURS = ".metrics-cleanup."
# What may be left beside the journals.
KEPT = (f"{OURS}state", f"{OURS}consumed")
PROGRAM = "import sys; from _journal.command import main; sys.exit(main())"


def line(day: int, minute: int, series: int, interval: int = 60, kind: str = "gauge") -> bytes:
    """A line of the aggregator; its value tells which one it is."""
    record: dict[str, t.Any] = {
        "timestamp_ns": (day * DAY + minute * 60) * 10**9,
        "metric_name": f"njord_{kind}_{series}",
        "metric_type": kind,
        "labels": {"strategy_id": f"s{series % 3}"},
        "interval_seconds": interval,
    }
    if kind == "histogram":
        record["observations"] = [0.001 * (1 + minute), 0.5 * (1 + series)]
    else:
        record["value"] = float(day % 100 + minute + series)
    return json.dumps(record).encode() + b"\n"


def lines(day: int, minutes: t.Iterable[int]) -> bytes:
    kinds = ("gauge", "counter", "histogram")
    return b"".join(line(day, minute, series, kind=kinds[series % 3]) for minute in minutes for series in range(6))


def fill(root: Path) -> None:
    """Two days each of what is expired, rolled up twice, once and not at all; late lines, rejected ones, a twin."""
    metrics = root / "metrics"
    metrics.mkdir(parents=True)
    half_hours = range(0, 1440, 180)
    for age in (30, 21, 15, 12, 6, 5, 4, 2):
        day = TODAY - age
        name = f"aggregated_metrics.{_stamp(day)}.ndjson"
        content = lines(day, half_hours)
        if age > 10:
            (metrics / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (metrics / name).write_bytes(content)
    # The same lines twice.
    plain = metrics / f"aggregated_metrics.{_stamp(TODAY - 6)}.ndjson"
    (metrics / f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    # Several days in one, with lines that are none, and some that came late.
    broken = b'{"timestamp_ns": 1, "metric_name": "x", "value": NaN}\nno json\n'
    several = b"".join(lines(TODAY - age, range(0, 1440, 360)) for age in (7, 5, 3)) + broken
    (metrics / f"njord_1m.{_stamp(TODAY - 3)}.jsonl").write_bytes(several + lines(TODAY - 9, [5, 6]))
    (metrics / f"njord_5m.{_stamp(TODAY - 9)}.jsonl").write_bytes(line(TODAY - 9, 0, 1, 300))
    # What grows, and what is none of ours.
    (metrics / "aggregated_metrics.ndjson").write_bytes(lines(TODAY - 1, half_hours) + lines(TODAY, [1]))
    (root / f"fills.{_stamp(TODAY - 30)}.ndjson").write_text('{"fill_id": "1", "ts_ns": 1}\n')


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def same(source: Path, target: Path) -> None:
    """The very same files in another directory: a record of an exchange names them by their inodes."""
    subprocess.run(["cp", "-al", source, target], check=True)
    consumed = target / f"{OURS}consumed"
    if consumed.exists():
        # The only file that is added to where it lies.
        content = consumed.read_bytes()
        consumed.unlink()
        consumed.write_bytes(content)


def command(root: Path, config: Path) -> list[str]:
    """The clean-up as the timer runs it, in one process."""
    python = os.path.realpath(sys.executable)
    as_of = time.strftime("--as-of=%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW))
    return [
        python,
        "-B",
        "-c",
        PROGRAM,
        f"--journal-dir={root}",
        f"--config-root={config}",
        as_of,
        "--json",
        "--max-expire-percent=100",
    ]


def environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "plugins" / "module_utils"), "PATH": os.environ["PATH"]}


def clean(root: Path, config: Path) -> None:
    """A run that nothing disturbs.

    :raises RuntimeError: where it does not say that all is done.
    """
    done = subprocess.run(
        command(root, config), env=environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"The run ended with {done.returncode}: {done.stderr}{done.stdout}")


def state(root: Path) -> dict[str, bytes]:
    """Path of every file to its lines, uncompressed; of ours only what must not be left."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name not in KEPT:
            content = path.read_bytes()
            found[str(path.relative_to(root))] = gzip.decompress(content) if path.suffix == ".gz" else content
    return found


@dataclasses.dataclass(frozen=True)
class Bench:
    """The directory before a clean-up, and what it is afterwards. :param work: for directories of single runs."""

    before: Path
    config: Path
    work: Path
    expected: dict[str, bytes]

    @classmethod
    def make(cls, directory: Path) -> Bench:
        before, config, work = directory / "before", directory / "config", directory / "work"
        fill(before)
        config.mkdir()
        work.mkdir()
        (config / "retention.yaml").write_text(json.dumps(POLICY))
        copy(before, directory / "after")
        clean(directory / "after", config)
        return cls(before, config, work, state(directory / "after"))

    def lost(self, root: Path) -> int:
        """How many lines of what must be there are not; and -1 where only something else is wrong."""
        found = state(root)
        missing = sum(
            len(set(content.splitlines()) - set(found.get(path, b"").splitlines()))
            for path, content in self.expected.items()
        )
        return missing or (0 if found == self.expected else -1)


def _stamp(day: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime(day * DAY))
