# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.laboratory``: every fault, printed, and written to ``build/laboratory.json``.

Words after it choose the faults in whose name one of them is; then nothing is written.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

# It makes ansible_collections importable, before anything of it is.
from tests.conftest import ROOT
from tests.laboratory.fault import Verdict, run
from tests.laboratory.table import FAULTS


def report(verdicts: list[Verdict]) -> None:
    """The table, and how many verdicts are right."""
    for verdict in verdicts:
        mark = "right" if verdict.is_right else "WRONG"
        print(f"{mark} {verdict.seconds:6.3f} s  {verdict.version}  {verdict.fault.name}")
        print(f"{'':17}{verdict.said}")
        if not verdict.is_right:
            print(f"{'':17}expected {verdict.fault.check}: {verdict.fault.says}")
    right = sum(verdict.is_right for verdict in verdicts)
    names = len({verdict.fault.name for verdict in verdicts})
    longest = max((verdict.seconds for verdict in verdicts), default=0.0)
    print(f"laboratory: {right} of {len(verdicts)} verdicts right, on {names} faults; the longest took {longest:.2f} s")


def write(verdicts: list[Verdict]) -> None:
    target = ROOT / "build" / "laboratory.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps([verdict.row() for verdict in verdicts], indent=2) + "\n")


def main(words: list[str]) -> int:
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    with tempfile.TemporaryDirectory() as directory:
        verdicts = run(chosen, Path(directory))
    report(verdicts)
    if not words:
        write(verdicts)
    return 0 if verdicts and all(verdict.is_right for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
