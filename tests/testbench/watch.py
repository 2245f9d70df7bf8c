# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command line that runs on a machine, and what lies for a moment in some directories.

``python3 - DIRECTORY... <watch.py`` does so on another host until it is told to end, and prints all of it. Its number
is in the file PID.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import typing as t
from pathlib import Path

PID = Path("/run/njord-watch.pid")
PAUSE_SECONDS = 0.02


def look(seen: set[bytes], directories: t.Iterable[str]) -> None:
    """Adds what is there now."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            seen.add(_read(entry / "cmdline"))
    for directory in directories:
        for above, _directories, files in os.walk(directory):
            seen.update(_read(Path(above, name)) for name in files)


def _read(path: Path) -> bytes:
    """Nothing where it is gone already."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def main() -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    PID.write_text(str(os.getpid()), encoding="ascii")
    seen: set[bytes] = set()
    while not told:
        look(seen, sys.argv[1:])
        time.sleep(PAUSE_SECONDS)
    sys.stdout.buffer.write(b"\n".join(seen))


if __name__ == "__main__":
    main()
