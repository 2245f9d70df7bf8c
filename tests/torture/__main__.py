# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.torture``: every fault at every point, printed, and written to ``build/torture.json``."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from tests.testbench.packages import ROOT, run
from tests.torture import backups, disk, faults, journal_restores, power, restores
from tests.torture.faults import Outcome
from tests.torture.journals import Bench

# Of a second crash, in the recovery from each of so many first ones.
FIRST_CRASHES = 12
VARIANTS = 6
# So many calls after a lie the power goes.
WITHIN = 12


def killed(bench: Bench) -> Outcome:
    outcome = Outcome()
    faults.after(bench, faults.kills(bench, bench.before), outcome)
    return outcome


def failed(bench: Bench) -> Outcome:
    outcome = Outcome()
    faults.after(bench, faults.errors(bench, bench.before), outcome)
    return outcome


def killed_twice(bench: Bench) -> Outcome:
    outcome = Outcome()
    every = list(faults.kills(bench, bench.before))
    crashed = faults.interrupted(bench, every[:: max(1, len(every) // 60)])
    for _first, root in itertools.islice(crashed, FIRST_CRASHES):
        faults.after(bench, faults.kills(bench, root), outcome, begin=root)
    return outcome


def without_power(bench: Bench) -> Outcome:
    return _found(bench, disk.losses(bench, disk.record(bench), VARIANTS))


def lied_to(bench: Bench) -> Outcome:
    return _found(bench, disk.lies(bench, disk.record(bench), WITHIN))


def _found(bench: Bench, directories: t.Iterable[tuple[str, Path]]) -> Outcome:
    outcome = Outcome()
    for name, root in directories:
        faults.compare(bench, root, name, outcome)
    return outcome


PARTS: dict[str, t.Callable[[Bench], Outcome]] = {
    "killed at each system call": killed,
    "an error at each system call, once and for good": failed,
    "killed again at each system call of the recovery": killed_twice,
    "power lost at each system call, with what was not synced": without_power,
    "power lost after each sync that did nothing": lied_to,
}


def main() -> int:
    run([str(ROOT / "tests/testbench/debian.sh"), "strace"])
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench.make(Path(directory))
        cleaned = ((name, part(bench)) for name, part in PARTS.items())
        begun = time.monotonic()
        parts = (part.run(Path(directory, part.__name__)) for part in (restores, journal_restores, backups, power))
        for name, outcome in itertools.chain(cleaned, *parts):
            rows.append({"name": name, "points": outcome.points, "lost": outcome.lost, "bad": outcome.bad})
            seconds, begun = time.monotonic() - begun, time.monotonic()
            print(f"{name}: {outcome.points} points, {outcome.lost} lost, {len(outcome.bad)} bad, {seconds:.0f} s")
            print("".join(f"  {bad}\n" for bad in outcome.bad[:20]), end="", flush=True)
    target = ROOT / "build" / "torture.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=2) + "\n")
    return 1 if any(row["bad"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
