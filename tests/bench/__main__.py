# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.bench``: what is measured, printed and written to ``build/bench.json``.

Each row is a ``value`` beside what it is held against (``versus``), and their ``ratio`` (value by versus), from
``runs`` taken in turn on the same machine: these machines are noisy, ratios are not.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import tempfile
import time
import typing as t
from pathlib import Path

from njord_telemetry.catalogue import Catalogue
from njord_telemetry.intake import Intake
from njord_telemetry.store import Store

from tests.bench import backups, diagnosis, journals, nights, query_log, restic
from tests.bench.hosts import Host, make_host
from tests.testbench.packages import ROOT

# What the same checks are as a shell script: the runbook's weekly steps, one after the other.
BY_HAND = """
set -e
df -h /opt/njord_quant/var/log/njord
du -sh /opt/njord_quant/var/log/njord /opt/njord_quant/data/journal
find /opt/njord_quant/var/log/njord -type f -exec du -h {} + | sort -rh | head -10
curl -sf http://127.0.0.1:9091/metrics | head -20
curl -sf http://127.0.0.1:9100/metrics | head -20
curl -sf http://127.0.0.1:9090/-/ready
curl -sf http://127.0.0.1:9090/api/v1/status/tsdb | jq .
curl -sf http://127.0.0.1:9090/api/v1/targets | jq '.data.activeTargets[] | {health, lastError}'
curl -sf http://127.0.0.1:9090/api/v1/alerts | jq '.data.alerts[] | select(.state=="firing")'
curl -sf http://127.0.0.1:9090/api/v1/rules | jq '.data.groups[].rules[] | {name, health}'
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of ``bench.json``. :param versus: the figure beside it. :param held_against: what that figure is."""

    name: str
    value: float
    unit: str
    versus: float
    held_against: str
    runs: int

    @property
    def ratio(self) -> float:
        return self.value / self.versus

    def __str__(self) -> str:
        return (
            f"{self.name:<58} {self.value:>9.4g} {self.unit:<11} {self.held_against}: {self.versus:.4g}"
            f" (ratio {self.ratio:.3g}, {self.runs} run{'s' if self.runs > 1 else ''})"
        )


def costs(host: Host) -> t.Iterator[Row]:
    """What the role prometheus costs, beside the bounds that it keeps and the best known role's figures."""
    host.run("apt-get", "update", "-qq")
    first, idle = host.play("prometheus"), host.play("prometheus")
    assert first.ok, first.output
    assert idle.ok, idle.output
    known = "the best known role"
    yield Row("prometheus, first installation: task banners", first.banners, "banners", 20, "bound", 1)
    yield Row("prometheus, first installation: executions", len(first.executions), "executions", 12, "bound", 1)
    yield Row("prometheus, nothing to do: executions", len(idle.executions), "executions", 8, "bound", 1)
    yield Row("prometheus, first installation: task banners, by others", first.banners, "banners", 55, known, 1)
    yield Row(
        "prometheus, first installation: executions, by others", len(first.executions), "executions", 29, known, 1
    )


def weekly(host: Host, runs: int = 5) -> t.Iterator[Row]:
    """The weekly playbook beside the same questions as a shell script on the host."""
    host.install()
    host.run("apt-get", "install", "-qq", "--yes", "--no-install-recommends", "curl", "jq")
    playbook, script = [], []
    for _run in range(runs):
        begin = time.monotonic()
        done = host.playbook("playbooks/maintenance_weekly.yml", telemetry_fail_on="never")
        playbook.append(time.monotonic() - begin)
        assert done.returncode == 0, done.stdout
        begin = time.monotonic()
        host.run("sh", "-c", BY_HAND)
        script.append(time.monotonic() - begin)
    yield Row(
        "weekly maintenance: wall time",
        statistics.median(playbook),
        "s",
        statistics.median(script),
        "curl, jq and du in a shell",
        runs,
    )


def intake(messages: int = 200_000, runs: int = 5) -> Row:
    """The exporter's work for a message beside the least it could be: reading its JSON."""
    payloads = [
        json.dumps(
            {
                "name": f"njord_bench_{number % 40}_total",
                "value": 1.0,
                "timestamp_ns": number,
                "labels": {"strategy_id": f"s{number % 6}", "symbol": f"x{number % 25}"},
                "metric_type": "counter",
            }
        ).encode()
        for number in range(messages)
    ]
    taken, read = [], []
    for _run in range(runs):
        exporter = Intake(Store(Catalogue.load(), 1000))
        begin = time.process_time()
        for payload in payloads:
            exporter.take(payload)
        taken.append(messages / (time.process_time() - begin))
        begin = time.process_time()
        for payload in payloads:
            json.loads(payload)
        read.append(messages / (time.process_time() - begin))
        assert exporter.results["accepted"] == messages
    return Row(
        "exporter: messages a CPU second",
        statistics.median(taken),
        "messages/s",
        statistics.median(read),
        "json.loads alone",
        runs,
    )


def cleanup(work: Path, runs: int = 5) -> t.Iterator[Row]:
    """The roll-up of a day of journals beside a plain program and DuckDB; its memory; and what idling costs."""
    taken, size = journals.compared(work, runs)
    speed = {name: statistics.median(size / 1e6 / seconds for seconds in every) for name, every in taken.items()}
    for name, other in (
        ("ours", "plain"),
        ("ours", "duckdb"),
        ("ours, with isal", "duckdb"),
        ("ours, first run", "plain"),
    ):
        ratios = sorted(b / a for a, b in zip(taken[name], taken[other]))
        text = f"{other}, {ratios[0]:.2f} to {ratios[-1]:.2f} run by run"
        yield Row(f"clean-up, a day to 5m and gzip: {name}", speed[name], "MB/s", speed[other], text, runs)
    megabyte = 1024 * 1024
    for series, minutes, bound in ((650, 1440, 32), (20_000, 30, 100)):
        used = journals.memory(work, series, minutes) / megabyte
        yield Row(f"clean-up: memory at {series} series", used, "MiB", bound, "bound", 1)
    yield Row("clean-up: nothing to do among 10,000 files", journals.idle(work, 10_000, runs), "s", 1, "bound", runs)


# What is measured, what it is held against, and whether it is told in MB/s or in seconds.
BACKUPS = (
    ("backup, full: hashed and synced", "full", "gzip", "tar czf and sync", True),
    ("backup, full: hashed and synced, beside zstd", "full", "zstd", "tar, zstd -3 -T0 and sync", True),
    (
        "backup, full: hashed and synced, beside a copy",
        "full",
        "written",
        "tar into one file, not compressed, and sync",
        True,
    ),
    ("backup, full: hashed and synced, beside restic", "full", "restic full", restic.NAME, True),
    ("backup, one new block of two hours", "one block more", "full", "a full one", False),
    (
        "backup, one new block of two hours, beside restic",
        "one block more",
        "restic one block more",
        restic.NAME,
        False,
    ),
    ("backup, verification", "check", "sha256", "sha256 alone", True),
    ("backup, verification, beside restic", "check", "restic check", "restic check --read-data", True),
    ("backup, brought back, beside restic", "lay", "restic back", restic.NAME, True),
    ("backup, into one file", "pack", "zstd", "tar, zstd -3 -T0 and sync", True),
)
RESTORES = (
    ("backup, brought back", "lay", "untar", "tar xf and sync", True),
    ("backup, taken in from one file", "unpack", "untar zstd", "tar --zstd -xf and sync", True),
    ("backup, taken in from one file, beside one not compressed", "unpack", "untar", "tar xf and sync", True),
)


def backup(work: Path, runs: int = 4, more_runs: int = 16) -> t.Iterator[Row]:
    """Backups of a gigabyte beside tar in its ways and restic, and their memory."""
    taken, size, memory = backups.compared(work, runs)
    yield from _beside(BACKUPS, taken, size, runs)
    yield Row("backup, full: memory", memory / (1 << 20), "MiB", 64, "bound", runs)
    taken, size = backups.brought_back(work, more_runs)
    yield from _beside(RESTORES, taken, size, more_runs)


def _beside(
    table: tuple[tuple[str, str, str, str, bool], ...], taken: dict[str, list[float]], size: int, runs: int
) -> t.Iterator[Row]:
    for name, ours, other, held_against, is_speed in table:
        pairs = list(zip(taken[ours], taken[other]))
        ratios = sorted(theirs / mine if is_speed else mine / theirs for mine, theirs in pairs)
        text = f"{held_against}, {ratios[0]:.2f} to {ratios[-1]:.2f} run by run"
        figures = [
            statistics.median(size / 1e6 / one if is_speed else one for one in taken[of]) for of in (ours, other)
        ]
        yield Row(name, figures[0], "MB/s" if is_speed else "s", figures[1], text, runs)


def logged_queries(work: Path, runs: int = 3) -> t.Iterator[Row]:
    """A query log of a gigabyte, summarised."""
    found = query_log.measured(work, runs=runs)
    for name, told in (("read", "Prometheus 3"), ("read, 2.x", "Prometheus 2"), ("different", "all queries different")):
        speed = found[name].speed
        yield Row(f"query log, {told}", speed, "MB/s", query_log.BOUND_SPEED, "bound", runs)
        yield Row(f"query log, {told}: beside JSON", speed, "MB/s", found["json"].speed, "json.loads alone", runs)
        memory = found[name].memory / (1 << 20)
        yield Row(f"query log, {told}: memory", memory, "MiB", query_log.BOUND_MEMORY, "bound", runs)


def diagnosed(work: Path, runs: int = 5) -> t.Iterator[Row]:
    """Everything asked of a stack with many targets, rules and series: seconds and requests."""
    found = diagnosis.measured(work, runs)
    held = f"bound, {diagnosis.TARGETS} targets, {diagnosis.RULES} rules and {diagnosis.SERIES} series"
    seconds = [sum(run) for run in zip(*(taken.seconds for taken in found.values()))]
    rows = [(name, taken.median, len(taken.requests)) for name, taken in found.items()]
    rows.append(("everything", statistics.median(seconds), sum(len(taken.requests) for taken in found.values())))
    for name, median, requests in rows:
        yield Row(f"diagnosis, {name}: wall time", median, "s", diagnosis.BOUND_SECONDS, held, runs)
        yield Row(f"diagnosis, {name}: requests", requests, "requests", diagnosis.BOUND_REQUESTS, held, 1)


def nightly(work: Path) -> t.Iterator[Row]:
    """Fifteen nights of backups with what Prometheus merges in between, and what was kept in the end, beside restic."""
    result = nights.measured(work)
    pairs = list(zip(result.ours, result.restic))
    for number, (ours, theirs) in enumerate(pairs, 1):
        name = f"backup, night {number:02} of {len(pairs)}"
        yield Row(f"{name}: new", ours.new / 1e6, "MB", theirs.new / 1e6, restic.NAME, 1)
        yield Row(f"{name}: wall time", ours.seconds, "s", theirs.seconds, restic.NAME, 1)
    name = f"backup, {len(pairs)} nights"
    new = [sum(night.new for night in way) / 1e6 for way in zip(*pairs)]
    seconds = [sum(night.seconds for night in way) for way in zip(*pairs)]
    sizes = [size / 1e6 for size in result.sizes]
    for what, figures, unit in (
        ("new in all", new, "MB"),
        ("wall time in all, removals included", seconds, "s"),
        ("the store at the end", sizes, "MB"),
    ):
        yield Row(f"{name}: {what}", figures[0], unit, figures[1], restic.NAME, 1)


def main() -> None:
    rows = [intake()]
    print(rows[0], flush=True)
    with tempfile.TemporaryDirectory() as directory:
        for row in itertools.chain(
            cleanup(Path(directory, "journals")),
            backup(Path(directory, "backups")),
            nightly(Path(directory, "nights")),
            logged_queries(Path(directory, "queries")),
            diagnosed(Path(directory, "diagnosis")),
        ):
            print(row, flush=True)
            rows.append(row)
        for measure, name in ((costs, "njord-bench-role"), (weekly, "njord-bench-site")):
            with make_host(Path(directory), name, "trixie") as host:
                for row in measure(host):
                    print(row, flush=True)
                    rows.append(row)
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps([{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows], indent=2) + "\n")
    print(f"Written to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
