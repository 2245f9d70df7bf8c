# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests of what managed hosts run on every other Python from 3.8 that this machine has.

``python -m tests.testbench.interpreters [tests to run]``
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.testbench.packages import ROOT, run

OLDEST = (3, 8)
PACKAGES = ("pytest", "hypothesis")
# A test that waits for ever says where, and does not take the others with it.
MOST_SECONDS = 900
SHOW_STACKS = ["-o", f"faulthandler_timeout={MOST_SECONDS // 3}"]


def interpreters() -> dict[tuple[int, int], Path]:
    """The real interpreters by version, oldest first: on PATH, and those a version manager keeps."""
    manager = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    directories = [Path(directory) for directory in os.get_exec_path()] + sorted(manager.glob("versions/*/bin"))
    found: dict[tuple[int, int], Path] = {}
    for directory in directories:
        # A version manager's shims answer for versions that are not active, with an error.
        if directory.name == "shims" or directory == Path(sys.executable).parent:
            continue
        for path in directory.glob("python3.*"):
            major, dot, minor = path.name.removeprefix("python").partition(".")
            if dot and minor.isdigit() and (int(major), int(minor)) >= OLDEST:
                found.setdefault((int(major), int(minor)), path)
    return dict(sorted(found.items()))


def environment(version: tuple[int, int], interpreter: Path) -> Path:
    """The Python of a virtual environment with the test tools of today that still run on that version."""
    directory = ROOT / ".cache" / "pythons" / ".".join(map(str, version))
    python = directory / "bin" / "python"
    complete = directory / "complete"
    if not complete.exists():
        shutil.rmtree(directory, ignore_errors=True)
        run([str(interpreter), "-m", "venv", str(directory)])
        run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
        complete.touch()
    return python


def tried(version: tuple[int, int], interpreter: Path, tests: list[str]) -> tuple[bool, str]:
    """Whether the tests pass there, and what was said."""
    command = [str(environment(version, interpreter)), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *SHOW_STACKS, *tests],
            cwd=ROOT,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        return False, f"{(error.stdout or b'').decode(errors='replace')}\n{error}\n"
    return done.returncode == 0, done.stdout


def main(tests: list[str]) -> int:
    # The one that runs this has its turn in make unit.
    others = {found: path for found, path in interpreters().items() if found != sys.version_info[:2]}
    failed = []
    # They wait for nothing but their own work: one for each core.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for version, (passed, said) in zip(others, pool.map(tried, others, others.values(), itertools.repeat(tests))):
            name = ".".join(map(str, version))
            sys.stdout.write(f"== Python {name} ({others[version]})\n{said}")
            sys.stdout.flush()
            if not passed:
                failed.append(name)
    if failed:
        sys.stdout.write(f"Failed on Python {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["tests/unit/module_utils"]))
