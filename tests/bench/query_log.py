# SPDX-License-Identifier: GPL-3.0-or-later
"""A query log of a gigabyte, summarised: megabytes a CPU second beside the JSON parser alone, and the most memory.

``python -m tests.bench.query_log [MEGABYTES]`` prints it, of a smaller log where one says so.
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from tests.conftest import COLLECTIONS

MEGABYTE = 1_000_000
SIZE = 1000 * MEGABYTE
BOUND_MEMORY, BOUND_SPEED = 64, 100
# As of a stack with 200 rules, and dashboards of 300 panels that five people look at.
RULES, PANELS, CLIENTS, RULE_SHARE = 200, 300, 5, 0.8
START = 1_795_000_000
# A system's own Python has no library that is faster than its own.
PLAIN_PYTHON = "/usr/bin/python3"

_READ = """
import resource, sys, time
from pathlib import Path
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query_log_files import read
begin = time.process_time()
log = read(Path(sys.argv[1]), 0, 4e9, 1)
taken = time.process_time() - begin
assert not log.problems and not log.summary.not_understood, (log.problems, log.summary.not_understood)
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, log.summary.understood)
"""
# The least that one would write in its place.
_PARSE = """
import json, sys, time
begin = time.process_time()
found, lines = {}, 0
with open(sys.argv[1], "rb") as file:
    for line in file:
        record = json.loads(line)
        found.setdefault(record["params"]["query"], []).append(record["stats"]["timings"]["execTotalTime"])
        lines += 1
print(time.process_time() - begin, 0, lines)
"""


@dataclasses.dataclass(frozen=True)
class Figures:
    """:param speeds: megabytes a CPU second of each run. :param memory: bytes, the most of all runs."""

    speeds: list[float]
    memory: int

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds)


def write_log(path: Path, size: int, version: str = "3", different: int = 0) -> int:
    """A log of about so many bytes, as that version writes it; its lines.

    :param different: this many queries more, each asked once, in turn with the others.
    """
    chance = random.Random(1)
    rules = [_query(number, "rule")[: chance.randrange(60, 250)].rstrip("\\") for number in range(RULES)]
    panels = [_query(number, "panel") for number in range(PANELS)]
    lines = written = 0
    with path.open("w") as file:
        while written < size:
            if different and lines % 2:
                query, origin = _query(lines // 2 % different, "other"), _client(chance)
            elif chance.random() < RULE_SHARE:
                number = chance.randrange(RULES)
                query, origin = (
                    rules[number],
                    f'"ruleGroup":{{"file":"/etc/prometheus/rules.yml","name":"g{number % 20}"}}',
                )
            else:
                query, origin = chance.choice(panels), _client(chance)
            written += file.write(_line(version, query, origin, START + lines / 100, chance))
            lines += 1
    return lines


def _query(number: int, kind: str) -> str:
    return (
        f'sum by (strategy_id, symbol) (rate(njord_{kind}_{number}_total{{strategy_id=~\\"alpha|beta|gamma{number}\\",'
        f'symbol=\\"SYM{number}USDT\\"}}[5m])) / on (strategy_id) group_left () sum by (strategy_id) '
        f"(rate(njord_other_{number}_total[5m]))"
    )


def _client(chance: random.Random) -> str:
    address = f"10.0.0.{chance.randrange(CLIENTS)}"
    return f'"httpRequest":{{"clientIP":"{address}","method":"POST","path":"/api/v1/query_range"}}'


def _line(version: str, query: str, origin: str, at: float, chance: random.Random) -> str:
    times = [repr(chance.lognormvariate(-6, 1))[:11] for _time in range(5)]
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}"
    params = f'"params":{{"end":"{when}Z","query":"{query}","start":"{when}Z","step":0}}'
    stats = (
        f'"stats":{{"timings":{{"evalTotalTime":{times[0]},"resultSortTime":0,"queryPreparationTime":{times[1]},'
        f'"innerEvalTime":{times[2]},"execQueueTime":{times[3]},"execTotalTime":{times[4]}}},"samples":'
        f'{{"totalQueryableSamples":{chance.randrange(10000)},"peakSamples":{chance.randrange(1000)}}}}}'
    )
    span = '"spanID":"0000000000000000"'
    if version == "2":
        parts = sorted([params, stats, span, origin, f'"ts":"{when}Z"'])
        return f"{{{','.join(parts)}}}\n"
    head = f'"time":"{when}000001Z","level":"INFO","source":"engine.go:662","msg":"promql query logged"'
    return f"{{{head},{params},{stats},{span},{origin}}}\n"


def measured(work: Path, size: int = SIZE, runs: int = 3) -> dict[str, Figures]:
    """``read`` and ``json`` in turn on the same log, ``read, 2.x`` on one of Prometheus 2, and ``different`` on one
    whose queries are nearly all different."""
    work.mkdir(parents=True, exist_ok=True)
    log = work / "query.log"
    found: dict[str, Figures] = {}
    ways: list[tuple[str, str, dict[str, t.Any]]] = [
        ("read", "3", {}),
        ("read, 2.x", "2", {}),
        ("different", "3", {"different": 10**9}),
    ]
    for name, version, options in ways:
        lines = write_log(log, size if name == "read" else min(size, SIZE // 5), version, **options)
        for way, program in ((name, _READ), *([("json", _PARSE)] if name == "read" else [])):
            found[way] = _run(program, log, lines, runs)
        log.unlink()
    return found


def _run(program: str, log: Path, lines: int, runs: int) -> Figures:
    speeds, memory = [], 0
    for _run_number in range(runs):
        command = [PLAIN_PYTHON, "-c", program, str(log)]
        done = subprocess.run(command, env={"PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=True)
        taken, used, counted = done.stdout.split()
        assert int(counted) == lines
        speeds.append(log.stat().st_size / MEGABYTE / float(taken))
        memory = max(memory, int(used))
    return Figures(speeds, memory)


def main() -> None:
    size = int(sys.argv[1]) * MEGABYTE if len(sys.argv) > 1 else SIZE
    with tempfile.TemporaryDirectory() as directory:
        figures = measured(Path(directory), size)
    print(json.dumps({name: [one.speed, one.memory / (1 << 20)] for name, one in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
