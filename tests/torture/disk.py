# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that loses power: what was not synced may be there or not, in any order.

The system calls of a real run are recorded by strace and replayed up to any of them; then a part of what was not synced
by then is dropped, and the directory is laid out as it would be found. The files that were there before the run are
linked, so that they keep their inodes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

from tests.torture.journals import Bench, command, copy, environment

_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(?:<(.*?)>)?", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
ORIGINALS = "originals"
CALLS = "openat,write,fsync,rename,renameat,renameat2,unlink,unlinkat"


class Call(t.NamedTuple):
    """:param paths: relative to the directory; :param data: what is written."""

    name: str
    paths: tuple[str, ...]
    data: bytes = b""


@dataclasses.dataclass
class _File:
    """:param origin: a file from before the run; None for one that it made."""

    origin: str | None = None
    data: bytes = b""
    synced: bytes = b""


def record(bench: Bench) -> list[Call]:
    """What an undisturbed run does to its directory. The files that it began with stay in another one."""
    root, originals, log = (bench.work / name for name in ("recorded", ORIGINALS, "recorded.log"))
    for directory in (root, originals):
        shutil.rmtree(directory, ignore_errors=True)
    copy(bench.before, root)
    subprocess.run(["cp", "-al", root, originals], check=True)
    strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "10000000", "-o", str(log), "-e", f"trace={CALLS}"]
    subprocess.run(
        [*strace, *command(root, bench.config)],
        env=environment(),
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    calls = (_call(text, f"{root}/") for text in log.read_text().splitlines())
    return [call for call in calls if call]


def _call(text: str, root: str) -> Call | None:
    found = _CALL.match(text)
    if not found or int(found[3]) < 0:
        return None
    name, arguments = found[1], found[2]
    texts = [_bytes(one) for one in _TEXT.findall(arguments)]
    handle = _HANDLE.match(arguments)
    if name in ("write", "fsync"):
        path = _bytes(handle[1]).decode() + "/" if handle else ""
        if not path.startswith(root):
            return None
        return Call(name, (path[len(root) : -1],), texts[0] if name == "write" else b"")
    if name == "openat" and "O_CREAT" not in arguments:
        return None
    paths = [one.decode() for one in texts]
    if not paths or not paths[0].startswith(root):
        return None
    kind = {"openat": "create", "unlinkat": "unlink"}.get(name, "rename" if name.startswith("rename") else name)
    return Call(kind, tuple(path[len(root) :] for path in paths))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Disk:
    """What a kernel knows of a directory, and what of that would be there after a loss of power."""

    def __init__(self, paths: t.Iterable[str]) -> None:
        self.now = {path: _File(path) for path in paths}
        self.durable = dict(self.now)
        self.pending: list[tuple[Call, _File | None]] = []

    def do(self, call: Call) -> None:
        path = call.paths[0]
        if call.name == "create":
            if path not in self.now:
                self.now[path] = _File()
                self.pending.append((call, self.now[path]))
        elif call.name == "write":
            self.now[path].data += call.data
        elif call.name == "fsync":
            self._sync(path)
        else:
            file = self.now.pop(path)
            if call.name == "rename":
                self.now[call.paths[1]] = file
            self.pending.append((call, file))

    def _sync(self, path: str) -> None:
        if path in self.now:
            self.now[path].synced = self.now[path].data
            return
        rest = []
        for call, file in self.pending:
            if str(Path(call.paths[0]).parent) == (path or "."):
                _apply(self.durable, call, file)
            else:
                rest.append((call, file))
        self.pending = rest

    def lay(self, originals: Path, root: Path, keeps: t.Callable[[], bool]) -> None:
        """The directory after a loss of power.

        :param keeps: asked for each thing that was not synced, whether it is there all the same.
        """
        found = dict(self.durable)
        for call, file in self.pending:
            if keeps():
                _apply(found, call, file)
        for path, file in found.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.origin is not None:
                os.link(originals / file.origin, target)
            else:
                target.write_bytes(file.data if keeps() else file.synced)
        _give_inodes(root, [path for path, file in found.items() if file.origin is None])


def _give_inodes(root: Path, made: t.Collection[str]) -> None:
    """A file that the run made lies here under another inode than the one that it had, and that its record names."""
    record_of = root / ".metrics-cleanup.intent"
    try:
        document = json.loads(record_of.read_text())
    except (FileNotFoundError, ValueError):
        return
    for source in document["sources"]:
        if source[0] in made:
            source[1][1] = (root / source[0]).stat().st_ino
    record_of.write_text(json.dumps(document))


def _apply(entries: dict[str, _File], call: Call, file: _File | None) -> None:
    """A change of a name, as far as it can still be made."""
    path = call.paths[0]
    if call.name == "create" and file is not None:
        entries.setdefault(path, file)
    elif entries.get(path) is file and file is not None:
        del entries[path]
        if call.name == "rename":
            entries[call.paths[1]] = file


def losses(bench: Bench, calls: list[Call], variants: int) -> t.Iterator[tuple[str, Path]]:
    """Directories as they may be found after a loss of power before each call, all under the same name."""
    for end in range(len(calls) + 1):
        for variant in range(variants):
            yield f"power lost before call {end + 1}, variant {variant}", _found(bench, calls[:end], variant)


def lies(bench: Bench, calls: list[Call], within: int) -> t.Iterator[tuple[str, Path]]:
    """The same, where one of the syncs did nothing, and power was lost within so many calls after it."""
    for liar, call in enumerate(calls):
        for end in range(liar + 1, min(liar + within, len(calls)) + 1) if call.name == "fsync" else ():
            done = calls[:liar] + calls[liar + 1 : end]
            yield f"call {liar + 1} lied, power lost before call {end + 1}", _found(bench, done, variant=0)


def _found(bench: Bench, calls: list[Call], variant: int) -> Path:
    """Nothing of what was not synced is there, all of it, or what chance leaves."""
    root = bench.work / "found"
    disk = Disk([str(path.relative_to(bench.before)) for path in bench.before.rglob("*") if path.is_file()])
    for call in calls:
        disk.do(call)
    chance = random.Random(len(calls) * 1000 + variant)
    share = (0.0, 1.0)[variant] if variant < 2 else 0.5
    shutil.rmtree(root, ignore_errors=True)
    disk.lay(bench.work / ORIGINALS, root, lambda: chance.random() < share)
    return root
