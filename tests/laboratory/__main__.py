# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.laboratory``: every fault, every pair, and an hour of health.

What was said is printed, and written to ``build/laboratory.json``. Words after it choose the faults and pairs in whose
name one of them is; then nothing is written, and nothing healthy is asked.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

# It makes ansible_collections importable, before anything of it is.
from tests.conftest import ROOT
from tests.laboratory import healthy
from tests.laboratory.fault import Verdict, run
from tests.laboratory.table import FAULTS, PAIRS

SINGLES = frozenset(FAULTS)


def report(verdicts: list[Verdict]) -> None:
    """The table, and how many verdicts are right; of the pairs those that are wrong."""
    for verdict in verdicts:
        mark = "right" if verdict.is_right else "WRONG"
        if not verdict.is_right or verdict.fault in SINGLES:
            print(f"{mark} {verdict.seconds:6.3f} s  {verdict.version}  {verdict.fault.name}")
            print(f"{'':17}{verdict.said}")
        if not verdict.is_right:
            print(f"{'':17}expected {verdict.fault.check}: {verdict.fault.says}")
    count("faults", [verdict for verdict in verdicts if verdict.fault in SINGLES])
    count("pairs", [verdict for verdict in verdicts if verdict.fault not in SINGLES])


def count(what: str, verdicts: list[Verdict]) -> None:
    right = sum(verdict.is_right for verdict in verdicts)
    names = len({verdict.fault.name for verdict in verdicts})
    longest = max((verdict.seconds for verdict in verdicts), default=0.0)
    print(f"laboratory: {right} of {len(verdicts)} verdicts right, on {names} {what}; the longest took {longest:.2f} s")


def write(verdicts: list[Verdict], healths: list[healthy.Health]) -> None:
    target = ROOT / "build" / "laboratory.json"
    target.parent.mkdir(exist_ok=True)
    rows = [*(verdict.row() for verdict in verdicts), *(health.row() for health in healths)]
    target.write_text(json.dumps(rows, indent=2) + "\n")


def main(words: list[str]) -> int:
    chosen = [fault for fault in (*FAULTS, *PAIRS) if not words or any(word in fault.name for word in words)]
    with tempfile.TemporaryDirectory() as directory:
        verdicts = run(chosen, Path(directory))
        healths = [] if words else healthy.run(Path(directory), healthy.LONG)
    report(verdicts)
    healthy.report(healths)
    if not words:
        write(verdicts, healths)
    is_right = all(verdict.is_right for verdict in verdicts) and not any(health.false for health in healths)
    return 0 if verdicts and is_right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
