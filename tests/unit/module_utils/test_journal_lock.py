# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import Busy, locked

HOLD = """\
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_SH if sys.argv[2] == "shared" else fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def hold(tmp_path: Path) -> t.Iterator[t.Callable[..., subprocess.Popen[str]]]:
    script = tmp_path / "nightly.py"
    script.write_text(HOLD)
    begun: list[subprocess.Popen[str]] = []

    def start(directory: Path, kind: str = "alone", seconds: float = 60) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(directory), kind, str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def test_whoever_comes_meanwhile_is_told_who_has_it_and_since_when(
    hold: t.Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    before = time.time()
    process = hold(root)
    with pytest.raises(Busy) as caught, locked(str(root), shared=False):
        pass
    told = str(caught.value)
    assert f"process {process.pid}" in told
    # Under a service manager that would be the unit.
    assert "nightly.py" in told or ".service" in told
    clock = {time.strftime("%H:%M:%S UTC", time.gmtime(before + second)) for second in range(-1, 3)}
    assert any(told.endswith(f"since {moment}") for moment in clock), told


def test_those_who_only_look_do_not_wait_for_each_other(
    hold: t.Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    hold(tmp_path, "shared")
    with locked(str(tmp_path), shared=True):
        pass
    with pytest.raises(Busy), locked(str(tmp_path), shared=False):
        pass


def test_one_who_has_patience_comes_after_the_other_one(
    hold: t.Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = hold(tmp_path, seconds=1)
    with locked(str(tmp_path), shared=False, patience=30):
        assert process.wait(10) == 0


def test_a_lock_ends_with_its_process(hold: t.Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    process.wait()
    with locked(str(tmp_path), shared=False):
        pass
