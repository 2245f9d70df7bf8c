# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A Prometheus for a moment, on the blocks of a backup: it scrapes nothing, removes nothing, and leaves nothing.

It works on hard links to the blocks, in a directory of its own beside theirs: whatever it does there, they stay what
they are. It ends with whoever started it, however that one ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from .._http import HttpError, Server, first_line
from .._prometheus import Prometheus
from .._units import human_duration
from .lay import Owner

READY_SECONDS = 120.0
# A query over everything, at an idle priority, on a busy host.
QUERY_SECONDS = 300.0
# What a program says when it is the host that fails, and not what it reads.
OF_THE_HOST = (
    "no space left on device",
    "permission denied",
    "operation not permitted",
    "cannot allocate memory",
    "out of memory",
    "too many open files",
)

_TERM_SECONDS, _KILL_SECONDS, _POLL_SECONDS = 10.0, 10.0, 0.02
_ATTEMPTS = 5
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
# A block range longer than any block: then there are no two that could be merged, and none old enough to be rewritten.
_NO_COMPACTION = "3650d"
_FLAGS = (
    "--config.file=prometheus.yml",
    "--storage.tsdb.path=data",
    "--storage.tsdb.retention.time=100y",
    f"--storage.tsdb.min-block-duration={_NO_COMPACTION}",
    f"--storage.tsdb.max-block-duration={_NO_COMPACTION}",
    f"--query.timeout={QUERY_SECONDS:.0f}s",
    "--query.max-samples=200000000",
    "--query.max-concurrency=1",
    "--log.level=info",
)
# Debian's 2.53 knows neither, and locks nothing; the path of a lock is absolute, and the server may not walk it.
_FLAGS_OF_SOME = ("--storage.tsdb.no-lockfile", "--no-storage.tsdb.allow-overlapping-compaction")
_UNKNOWN_FLAG = re.compile(r"unknown long flag '([^']+)'")
_PORT_TAKEN = "address already in use"
_DATA_REFUSED = "opening storage failed"


class NoTool(Exception):
    """A program is missing, a clause that says which and what would do."""


class Failed(Exception):
    """The scratch server could not be asked, which says nothing about the backup; a clause with its own words."""


class DataRefused(Failed):
    """The server does not start on these blocks."""


@dataclasses.dataclass(frozen=True)
class Tools:
    """Paths of two programs of the same version."""

    prometheus: str
    promtool: str


def find_tools(pid: int | None = None, prometheus: str = "", promtool: str = "") -> Tools:
    """
    :param pid: of the running server: its own program, and promtool beside it, are taken before those in PATH.
    :param prometheus: a path that was given wins, like ``promtool``.
    :raises NoTool: where one is missing.
    """
    running = ""
    if pid is not None:
        # Somebody else's, or gone: then those in PATH.
        with contextlib.suppress(OSError):
            running = os.readlink(f"/proc/{pid}/exe")
    beside = str(Path(running).with_name("promtool")) if running else ""
    return Tools(_program("prometheus", prometheus, running), _program("promtool", promtool, beside))


def _program(name: str, given: str, running: str) -> str:
    if given:
        if not _is_executable(given):
            raise NoTool(f"{given!r} is no executable file; the path of {name} would do")
        return given
    found = running if running and _is_executable(running) else shutil.which(name)
    if not found:
        beside = " with the running server and none" if running else ""
        raise NoTool(
            f"there is no {name}{beside} in PATH; the Debian package prometheus has it, or its path can be given"
        )
    return found


def _is_executable(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


def leashed(command: t.Sequence[str], run_as: Owner | None = None) -> list[str]:
    """The command at a low priority, as another user where one is given; it is killed as soon as this process ends.

    :param run_as: needs root.
    """
    drop: list[str] = []
    if run_as and run_as != (os.geteuid(), os.getegid()):
        drop = [f"--reuid={run_as[0]}", f"--regid={run_as[1]}", "--clear-groups"]
    # The shell looks whether this process had ended before the leash was on.
    return [
        *("setpriv", "--pdeathsig", "KILL", *drop, "nice", "-n", "10"),
        *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())),
        *command,
    ]


def environment() -> dict[str, str]:
    """That of a Go program which leaves the host to others; nothing else of ours is handed on."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "GOMAXPROCS": "1",
        "GOMEMLIMIT": "512MiB",
        "GOGC": "50",
    }


@contextlib.contextmanager
def serve(
    tools: Tools,
    directory: Path,
    lookback_seconds: float,
    run_as: Owner | None = None,
    timeout: float = READY_SECONDS,
) -> t.Iterator[Prometheus]:
    """A scratch server on the blocks in a directory, ready inside, ended and gone afterwards.

    :param directory: of blocks, absolute; nothing in it changes. ``NAME.server`` beside it is used and removed.
    :param lookback_seconds: how far a query looks back, as the server did that made the blocks.
    :param run_as: whose process it is; it must be able to read the blocks. Our own where it is not given.
    :param timeout: seconds until it must be ready.
    :raises DataRefused: where it cannot open the blocks.
    :raises Failed: where it does not get ready for another reason.
    """
    title = f"scratch server of {directory}"
    home = directory.with_name(f"{directory.name}.server")
    end_leftover(directory)
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(mode=0o700)
    try:
        _furnish(home, directory, run_as)
        flags = [*_FLAGS, f"--query.lookback-delta={round(lookback_seconds * 1000)}ms", f"--web.page-title={title}"]
        process, prometheus = _started([tools.prometheus, *flags], home, title, run_as, timeout)
        try:
            yield prometheus
        finally:
            _end(process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def end_leftover(directory: Path) -> int:
    """Ends a scratch server on this directory that an earlier run left, and nothing else; how many that were."""
    mark = f"--web.page-title=scratch server of {directory}"
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has_word(entry, mark)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    for pid in found:
        while _has_word(Path("/proc", str(pid)), mark):
            if time.monotonic() > deadline:
                raise Failed(f"process {pid}, an earlier scratch server of {directory}, cannot be ended")
            time.sleep(_POLL_SECONDS)
    return len(found)


def _has_word(process: Path, word: str) -> bool:
    """Whether a process was started with it; one that has ended was not."""
    try:
        return word.encode() in (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _furnish(home: Path, directory: Path, run_as: Owner | None) -> None:
    (home / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    made = [home, home / "prometheus.yml", home / "data"]
    (home / "data").mkdir(mode=0o700)
    for block in directory.iterdir():
        if _ULID.fullmatch(block.name):
            made += _link(block, home / "data" / block.name)
    if run_as:
        for path in made:
            os.chown(path, *run_as)


def _link(source: Path, target: Path) -> list[Path]:
    """Links all files of a directory; the directories that were made."""
    target.mkdir(mode=0o700)
    made = [target]
    for entry in source.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            made += _link(entry, target / entry.name)
        else:
            os.link(entry, target / entry.name, follow_symlinks=False)
    return made


def _started(
    command: list[str], home: Path, title: str, run_as: Owner | None, timeout: float
) -> tuple[subprocess.Popen[bytes], Prometheus]:
    """A server that is ready, on the first port that nobody took in between, with all flags that it knows."""
    optional = list(_FLAGS_OF_SOME)
    ports = 0
    while True:
        port = _free_port()
        words = [*command, *optional, f"--web.listen-address=127.0.0.1:{port}"]
        process = _start(words, home, run_as)
        prometheus = Prometheus(Server(f"http://127.0.0.1:{port}", timeout=QUERY_SECONDS))
        try:
            ready = _wait(process, prometheus, title, home, timeout)
        except BaseException:
            _end(process)
            raise
        if ready:
            return process, prometheus
        said = _log(home)
        unknown = _UNKNOWN_FLAG.search(said)
        flag = next((flag for flag in optional if unknown and flag == unknown.group(1)), "")
        if flag:
            optional.remove(flag)
        elif _PORT_TAKEN in said and ports < _ATTEMPTS:
            ports += 1
        else:
            reason = _reason(said)
            refused = _DATA_REFUSED in said and not any(hint in said.lower() for hint in OF_THE_HOST)
            raise (DataRefused if refused else Failed)(f"it ended with {process.returncode}: {reason}")


def _start(words: list[str], home: Path, run_as: Owner | None) -> subprocess.Popen[bytes]:
    try:
        with (home / "log").open("wb") as log:
            return subprocess.Popen(
                leashed(words, run_as),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # It finds everything from here, and needs no right on what lies above.
                cwd=home,
                env=environment(),
                start_new_session=True,
            )
    except OSError as error:
        raise Failed(f"it cannot be started: {error}") from error


def _wait(process: subprocess.Popen[bytes], prometheus: Prometheus, title: str, home: Path, timeout: float) -> bool:
    """True once it is ready, False where it ended.

    :raises Failed: where it is neither in time.
    """
    deadline = time.monotonic() + timeout
    asked = Prometheus(dataclasses.replace(prometheus.server, timeout=5.0))
    while process.poll() is None:
        try:
            asked.ready()
            # Somebody else may have taken the port, and be ready.
            if asked.flags().get("web.page-title") == title:
                return True
        except HttpError:
            # Not yet.
            pass
        if time.monotonic() > deadline:
            raise Failed(f"it is not ready after {human_duration(timeout)}: {_reason(_log(home))}")
        time.sleep(_POLL_SECONDS)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TERM_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _log(home: Path) -> str:
    try:
        return (home / "log").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _reason(said: str) -> str:
    """The error in a log of Prometheus 2 or 3, or its last line."""
    lines = [line for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\blevel=error\b|^panic:|^fatal error:", line, re.IGNORECASE)]
    line = [*lines[-1:], *wrong][-1] if lines else "it said nothing"
    found = re.search(r'\berr="((?:[^"\\]|\\.)*)"', line)
    return first_line(found.group(1).replace('\\"', '"') if found else line, most=500)
