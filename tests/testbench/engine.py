# SPDX-License-Identifier: GPL-3.0-or-later
"""A container engine that answers: the machine's own, or one that is started here and stopped here.

``python -m tests.testbench.engine start | stop | remove``
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.testbench.packages import ROOT

STATE = ROOT / ".cache" / "engine"
READY_SECONDS = 60
STOP_SECONDS = 60


def _answers() -> bool:
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def start() -> None:
    """Returns once an engine answers. As root it installs and starts one where none does.

    :raises RuntimeError: where there is none in the end; with its log.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        # Parts of the tests run side by side.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _start()


def _start() -> None:
    if _answers():
        return
    subprocess.run([ROOT / "tests/testbench/debian.sh", "docker.io"], check=True)
    if _answers():
        return
    if os.geteuid():
        raise RuntimeError("No container engine answers, and only root can start one: dockerd")
    say("No container engine answers: starting dockerd, with its data in .cache/engine")
    log = STATE / "dockerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["dockerd", "--data-root", STATE / "data", "--exec-root", "/run/njord-engine"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _pid_file().write_text(f"{process.pid}\n")
    deadline = time.monotonic() + READY_SECONDS
    while not _answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            _pid_file().unlink()
            raise RuntimeError(f"dockerd does not answer. Its log:\n{log.read_text(errors='replace')[-8000:]}")
        time.sleep(0.2)


def stop() -> None:
    """Ends the engine that :func:`start` started, and no other."""
    if not _pid_file().exists():
        return
    pid = int(_pid_file().read_text())
    if _is_ours(pid):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_ours(pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"dockerd ({pid}) does not end; its log is {STATE / 'dockerd.log'}")
            time.sleep(0.2)
        say("The container engine that was started here is stopped.")
    _pid_file().unlink()


def remove() -> None:
    """Ends the engine that :func:`start` started, and removes all that it holds: images, containers, volumes."""
    stop()
    shutil.rmtree(STATE, ignore_errors=True)


def _pid_file() -> Path:
    return STATE / "dockerd.pid"


def _is_ours(pid: int) -> bool:
    """Whether that process is our dockerd still: after a reboot the number may be another's."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(STATE / "data") in command.split(b"\0")


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    actions = {"start": start, "stop": stop, "remove": remove}
    if sys.argv[1:] not in ([name] for name in actions):
        sys.exit(f"usage: python -m tests.testbench.engine {' | '.join(actions)}")
    actions[sys.argv[1]]()
