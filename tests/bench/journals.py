# SPDX-License-Identifier: GPL-3.0-or-later
"""The clean-up of journals beside a plain program and beside DuckDB, on the same day of the same series."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import typing as t
from multiprocessing import get_context
from pathlib import Path

from tests.testbench.packages import ROOT

DAY = 86400
# 2026-01-10, 02:00 UTC, and the day that is rolled up.
NOW = 20463 * DAY + 7200
FIRST = 20455 * DAY
POLICY = {"raw_metrics": [{"resolution": "1m", "retention_days": 7}, {"resolution": "5m", "retention_days": 30}]}
PROCESSES = 2
PROGRAM = "import sys; from _journal.command import main; sys.exit(main())"
# A system's own Python has no library that is faster than its own.
PLAIN_PYTHON = "/usr/bin/python3"

QUERY = """
SET threads = 2; SET memory_limit = '512MB'; SET preserve_insertion_order = false;
COPY (
  SELECT bucket AS timestamp_ns, metric_name, metric_type, labels, 300 AS interval_seconds, count(*) AS count,
    sum(value) AS sum, min(value) AS min, max(value) AS max, arg_max(value, stamp) AS last,
    max(stamp) AS last_timestamp_ns, CASE metric_type WHEN 'counter' THEN sum(value) ELSE avg(value) END AS value
  FROM (
    SELECT (timestamp_ns // 300000000000) * 300000000000 AS bucket, timestamp_ns AS stamp, metric_name, metric_type,
      labels, value
    FROM read_json('{source}', format = 'newline_delimited', columns = {{timestamp_ns: 'BIGINT',
      metric_name: 'VARCHAR', metric_type: 'VARCHAR', labels: 'JSON', interval_seconds: 'INTEGER', value: 'DOUBLE'}})
  )
  GROUP BY bucket, metric_name, metric_type, labels
) TO '{target}' (FORMAT json, COMPRESSION gzip)
"""


def write_day(directory: Path, series: int, files: int, minutes: int = 1440) -> int:
    """A day of the aggregator, each file with a share of the series; bytes in all."""
    directory.mkdir(parents=True)
    chance = random.Random(1)
    total = 0
    for number in range(files):
        mine = range(number, series, files)
        names = [f"njord_metric_{one % 30}_total" if one % 3 == 0 else f"njord_metric_{one % 30}" for one in mine]
        heads = [
            f'"metric_name": "{name}", "metric_type": "{"counter" if name.endswith("_total") else "gauge"}", '
            f'"labels": {{"strategy_id": "strategy_{one % 6}", "symbol": "SYM{one}USDT", "venue": "binance"}}, '
            '"interval_seconds": 60, "value": '
            for one, name in zip(mine, names)
        ]
        path = directory / f"part{number}_1m.{time.strftime('%Y%m%d', time.gmtime(FIRST))}.ndjson"
        with path.open("w") as file:
            for minute in range(minutes):
                stamp = (FIRST + minute * 60) * 10**9
                file.writelines(
                    f'{{"timestamp_ns": {stamp}, {head}{round(chance.uniform(0, 1000), 6)}}}\n' for head in heads
                )
        total += path.stat().st_size
    return total


def daily(directory: Path, python: str) -> float:
    """Seconds of the run in which the day is due, after one in which it was not: what it holds is known by then."""
    clean(directory, python, now=NOW - 2 * DAY)
    return clean(directory, python)[0]


def clean(directory: Path, python: str = PLAIN_PYTHON, jobs: int = PROCESSES, now: int = NOW) -> tuple[float, int]:
    """Wall seconds of a run as the timer makes it, and the most memory of one of its processes in bytes."""
    config = directory.with_name("config")
    config.mkdir(exist_ok=True)
    (config / "retention.yaml").write_text(json.dumps(POLICY))
    as_of = time.strftime("--as-of=%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    call = [python, "-c", PROGRAM, f"--journal-dir={directory}", f"--config-root={config}", as_of, f"--jobs={jobs}"]
    environment = {"PYTHONPATH": str(ROOT / "plugins" / "module_utils"), "PATH": os.environ["PATH"]}
    begin = time.monotonic()
    done = subprocess.run(
        [PLAIN_PYTHON, "-c", _MEASURE, *call], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.monotonic() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(call)} ended with {done.returncode}")
    return seconds, int(done.stdout) * 1024


# The kernel counts the memory of whoever starts a process as if it were its own: so a small one starts it.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def plain(path: Path) -> None:
    """What one would write in ten minutes: json and a dictionary."""
    buckets: dict[tuple[int, str, str, str], list[float]] = {}
    newest: dict[tuple[int, str, str, str], tuple[int, float]] = {}
    with path.open("rb") as file:
        for line in file:
            record = json.loads(line)
            stamp = record["timestamp_ns"]
            labels = json.dumps(record["labels"], sort_keys=True)
            key = (stamp - stamp % (300 * 10**9), record["metric_name"], record["metric_type"], labels)
            buckets.setdefault(key, []).append(record["value"])
            newest[key] = max(newest.get(key, (0, 0.0)), (stamp, record["value"]))
    with gzip.open(path.with_suffix(".out.gz"), "wt", compresslevel=6) as out:
        for key in sorted(buckets):
            start, name, kind, labels = key
            values, last = buckets[key], newest[key]
            figures = {"count": len(values), "sum": sum(values), "min": min(values), "max": max(values)}
            value = figures["sum"] if kind == "counter" else figures["sum"] / len(values)
            record = {"timestamp_ns": start, "metric_name": name, "metric_type": kind, "labels": json.loads(labels)}
            record.update(interval_seconds=300, **figures, last=last[1], last_timestamp_ns=last[0], value=value)
            out.write(json.dumps(record) + "\n")


def plainly(directory: Path) -> float:
    begin = time.monotonic()
    with get_context("fork").Pool(PROCESSES) as pool:
        pool.map(plain, sorted(directory.glob("*.ndjson")))
    return time.monotonic() - begin


def with_duckdb(directory: Path) -> float:
    query = QUERY.format(source=directory / "*.ndjson", target=directory / "out.json.gz")
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import duckdb, sys; duckdb.sql(sys.argv[1])", query], check=True)
    return time.monotonic() - begin


def compared(work: Path, runs: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each way, in turn on fresh copies of one day; and the day's bytes."""
    day = work / "day"
    size = write_day(day, series=650, files=4)
    ways: dict[str, t.Callable[[Path], float]] = {
        "ours": lambda directory: daily(directory, PLAIN_PYTHON),
        "ours, with isal": lambda directory: daily(directory, sys.executable),
        "ours, first run": lambda directory: clean(directory)[0],
        "plain": plainly,
        "duckdb": with_duckdb,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, way in ways.items():
            copy = work / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(day, copy)
            seconds = way(copy)
            # The first round warms up what can be warm.
            if run:
                taken[name].append(seconds)
    shutil.rmtree(day)
    return taken, size


def memory(work: Path, series: int, minutes: int) -> int:
    """The most memory of one process that rolls up such a day, in bytes."""
    day = work / "memory"
    shutil.rmtree(day, ignore_errors=True)
    write_day(day, series, files=1, minutes=minutes)
    return clean(day, jobs=1)[1]


def idle(work: Path, files: int, runs: int) -> float:
    """Seconds of a run that has nothing to do among so many files."""
    directory = work / "idle"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    day = time.strftime("%Y%m%d", time.gmtime(FIRST + 6 * DAY))
    for number in range(files):
        record = {"timestamp_ns": (FIRST + 6 * DAY) * 10**9, "metric_name": "m", "interval_seconds": 60, "value": 1.0}
        (directory / f"m{number}_1m.{day}.ndjson").write_text(json.dumps(record) + "\n")
    clean(directory)
    return statistics.median(clean(directory)[0] for _run in range(runs))
