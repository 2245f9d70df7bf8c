# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that loses power: what was not synced may be there or not.

The system calls of a real run are recorded by strace and replayed up to any of them; then a part of what was not synced
by then is dropped, and the directory is laid out as it would be found. The files that were there before the run are
linked, so that they keep their inodes.

The disk promises no more than this: the bytes of a file are there once it was synced, and a name once its directory
was; a rename is there in both of its directories or in none, once one of them was synced; the names of one file, or of
one directory, change on the disk in the order in which they did; and a directory that is gone was empty before.
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

_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)", re.DOTALL)
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_HANDLE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
# A path, relative to a directory or not.
_PATH = re.compile(rf"(?:(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{{2}})*)>, )?{_TEXT}")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>")
# What each call is for the disk.
CALLS = {
    "openat": "create",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "link": "link",
    "linkat": "link",
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rmdir": "unlink",
    "write": "write",
    "fsync": "fsync",
}
# What it does not know would go unseen.
UNKNOWN = (
    *("open", "creat", "symlink", "symlinkat", "mknod", "mknodat", "truncate", "ftruncate", "fdatasync"),
    *("pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "splice"),
)


class Call(t.NamedTuple):
    """:param paths: relative to the directory; :param data: what is written."""

    name: str
    paths: tuple[str, ...]
    data: bytes = b""
    truncates: bool = False


@dataclasses.dataclass(eq=False)
class _File:
    """:param origin: the path of a file from before the run; None for one that it made."""

    origin: str | None = None
    data: bytes = b""
    synced: bytes = b""


@dataclasses.dataclass(eq=False)
class _Directory:
    """:param now: what the kernel knows of its names, and :param durable: what of that the disk has."""

    now: _Names = dataclasses.field(default_factory=dict)
    durable: _Names = dataclasses.field(default_factory=dict)


_Node = t.Union[_File, _Directory]
_Names = t.Dict[str, _Node]
_Place = t.Tuple[_Directory, str]


class _Change(t.NamedTuple):
    """Of the names of a file or a directory."""

    node: _Node
    leaves: _Place | None
    enters: _Place | None

    def is_of(self, directory: _Directory) -> bool:
        return any(place and place[0] is directory for place in (self.leaves, self.enters))

    def apply(self, names: t.Callable[[_Directory], _Names]) -> None:
        """As far as it can still be made, where others were not: what is not empty does not go."""
        if self.enters:
            directory, name = self.enters
            there = names(directory).get(name)
            if isinstance(there, _Directory) and there is not self.node and names(there):
                return
        elif isinstance(self.node, _Directory) and names(self.node):
            return
        if self.leaves and names(self.leaves[0]).get(self.leaves[1]) is self.node:
            del names(self.leaves[0])[self.leaves[1]]
        if self.enters:
            names(self.enters[0])[self.enters[1]] = self.node


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a run did to a directory. :param originals: the files that it began with."""

    originals: Path
    calls: list[Call]

    @classmethod
    def of(cls, root: Path, work: Path, run: t.Sequence[str], variables: dict[str, str]) -> Recording:
        """Records a run that works on a directory, with a copy of that by links among ``work``."""
        originals, log = work / "originals", work / "recorded.log"
        shutil.rmtree(originals, ignore_errors=True)
        subprocess.run(["cp", "-al", root, originals], check=True)
        traced = ",".join(f"?{name}" for name in (*CALLS, *UNKNOWN))
        strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "10000000", "-o", str(log), "-e", f"trace={traced}"]
        done = subprocess.run(
            [*strace, *run], env=variables, capture_output=True, check=False, stdin=subprocess.DEVNULL, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(run)} ended with {done.returncode}: {done.stderr}")
        calls = (_call(text, f"{root}/") for text in _whole(log.read_text().splitlines()))
        return cls(originals, [call for call in calls if call])

    def lay(self, calls: t.Sequence[Call], variant: int, root: Path) -> list[str]:
        """The directory after these calls and a loss of power; the paths of the files that the run made.

        :param variant: nothing of what was not synced is there, all of it, or what chance leaves.
        """
        disk = Disk(self.originals)
        for call in calls:
            disk.do(call)
        chance = random.Random(len(calls) * 1000 + variant)
        share = (0.0, 1.0)[variant] if variant < 2 else 0.5
        shutil.rmtree(root, ignore_errors=True)
        return disk.lay(self.originals, root, lambda: chance.random() < share)


def _whole(lines: t.Iterable[str]) -> t.Iterator[str]:
    """Calls of several threads, each in one line when it is done."""
    begun: dict[str, str] = {}
    for line in lines:
        process, _space, text = line.partition(" ")
        text = text.lstrip()
        if text.endswith(_UNFINISHED):
            begun[process] = text[: -len(_UNFINISHED)]
        elif _RESUMED.match(text):
            yield begun.pop(process) + _RESUMED.sub("", text)
        else:
            yield text


def _call(text: str, root: str) -> Call | None:
    found = _CALL.match(text)
    if not found or int(found[3]) < 0:
        return None
    name, arguments = found[1], found[2]
    handle = _HANDLE.match(arguments)
    if name in ("write", "fsync", *UNKNOWN):
        path = _bytes(handle[1]).decode() + "/" if handle else ""
        if not path.startswith(root):
            return None
        if name in UNKNOWN:
            raise RuntimeError(f"The disk does not know {name}, which is called on {path}")
        data = b"".join(map(_bytes, re.findall(_TEXT, arguments))) if name == "write" else b""
        return Call(name, (path[len(root) : -1],), data)
    if name == "openat" and "O_CREAT" not in arguments:
        return None
    paths = [str(Path(_bytes(below).decode(), _bytes(path).decode())) for below, path in _PATH.findall(arguments)]
    inside = [path for path in paths if path.startswith(root)]
    if not inside:
        return None
    if inside != paths:
        raise RuntimeError(f"{name} leads out of {root}: {paths}")
    return Call(CALLS[name], tuple(path[len(root) :] for path in inside), truncates="O_TRUNC" in arguments)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Disk:
    """What a kernel knows of a directory, and what of that would be there after a loss of power.

    :param begin: the directory as it is.
    """

    def __init__(self, begin: Path) -> None:
        self._root = _Directory()
        self._pending: list[_Change] = []
        for path in sorted(begin.rglob("*")):
            inside = str(path.relative_to(begin))
            node = _Directory() if path.is_dir() else _File(inside)
            directory, name = self._place(inside)
            directory.now[name] = directory.durable[name] = node

    def do(self, call: Call) -> None:
        if call.name == "fsync":
            self._sync(self._find(call.paths[0]))
            return
        place = self._place(call.paths[0])
        node = place[0].now.get(place[1])
        if call.name in ("create", "mkdir"):
            if node is None:
                self._change(_File() if call.name == "create" else _Directory(), None, place)
            elif call.truncates:
                _own(node, call).data = b""
        elif call.name == "write":
            _own(node, call).data += call.data
        elif node is None:
            raise RuntimeError(f"The disk has no {call.paths[0]}, and yet there was a {call.name}")
        elif call.name == "unlink":
            self._change(node, place, None)
        else:
            self._change(node, place if call.name == "rename" else None, self._place(call.paths[1]))

    def _change(self, node: _Node, leaves: _Place | None, enters: _Place | None) -> None:
        change = _Change(node, leaves, enters)
        change.apply(lambda directory: directory.now)
        self._pending.append(change)

    def _find(self, path: str) -> _Node:
        found: _Node = self._root
        for name in Path(path).parts:
            if not isinstance(found, _Directory):
                raise RuntimeError(f"{path} leads through a file")
            found = found.now[name]
        return found

    def _place(self, path: str) -> _Place:
        directory = self._find(str(Path(path).parent))
        if not isinstance(directory, _Directory):
            raise RuntimeError(f"{path} lies in a file")
        return directory, Path(path).name

    def _sync(self, node: _Node) -> None:
        if isinstance(node, _File):
            node.synced = node.data
            return
        rest = []
        for change, is_durable in self._chosen(lambda change: change.is_of(node)):
            if is_durable:
                change.apply(lambda directory: directory.durable)
            else:
                rest.append(change)
        self._pending = rest

    def _chosen(self, is_wanted: t.Callable[[_Change], bool]) -> list[tuple[_Change, bool]]:
        """What is pending, and whether it becomes durable: with what is wanted comes what the same node did before,
        and with the end of a directory that of its names."""
        nodes: set[int] = set()
        emptied: set[int] = set()
        found = []
        for change in reversed(self._pending):
            is_chosen = is_wanted(change) or id(change.node) in nodes
            is_chosen = is_chosen or bool(change.leaves and id(change.leaves[0]) in emptied)
            if is_chosen:
                nodes.add(id(change.node))
                if not change.enters:
                    emptied.add(id(change.node))
            found.append((change, is_chosen))
        return found[::-1]

    def lay(self, originals: Path, root: Path, keeps: t.Callable[[], bool]) -> list[str]:
        """The directory after a loss of power; the paths of the files that the run made.

        :param keeps: asked for each thing that was not synced, whether it is there all the same.
        """
        found: dict[int, _Names] = {}

        def names(directory: _Directory) -> _Names:
            return found.setdefault(id(directory), dict(directory.durable))

        for change, is_durable in self._chosen(lambda _change: keeps()):
            if is_durable:
                change.apply(names)
        made: dict[int, str] = {}
        below = [("", self._root)]
        root.mkdir(parents=True)
        while below:
            path, directory = below.pop(0)
            for name, node in names(directory).items():
                inside = f"{path}/{name}" if path else name
                if isinstance(node, _Directory):
                    (root / inside).mkdir()
                    below.append((inside, node))
                elif node.origin is not None:
                    os.link(originals / node.origin, root / inside)
                elif id(node) in made:
                    os.link(root / made[id(node)], root / inside)
                else:
                    (root / inside).write_bytes(node.data if keeps() else node.synced)
                    made[id(node)] = inside
        return list(made.values())


def _own(node: _Node | None, call: Call) -> _File:
    """A file that the run made: what is written to others is not replayed."""
    if not isinstance(node, _File) or node.origin is not None:
        raise RuntimeError(f"The disk cannot replay a {call.name} on {call.paths[0]}, which was there before")
    return node


def record(bench: Bench) -> Recording:
    """What an undisturbed clean-up does."""
    root = bench.work / "recorded"
    shutil.rmtree(root, ignore_errors=True)
    copy(bench.before, root)
    return Recording.of(root, bench.work, command(root, bench.config), environment())


def losses(bench: Bench, recording: Recording, variants: int) -> t.Iterator[tuple[str, Path]]:
    """Directories as they may be found after a loss of power before each call, all under the same name."""
    for end in range(len(recording.calls) + 1):
        for variant in range(variants):
            found = _found(bench, recording, recording.calls[:end], variant)
            yield f"power lost before call {end + 1}, variant {variant}", found


def lies(bench: Bench, recording: Recording, within: int) -> t.Iterator[tuple[str, Path]]:
    """The same, where one of the syncs did nothing, and power was lost within so many calls after it."""
    calls = recording.calls
    for liar, call in enumerate(calls):
        for end in range(liar + 1, min(liar + within, len(calls)) + 1) if call.name == "fsync" else ():
            done = calls[:liar] + calls[liar + 1 : end]
            yield f"call {liar + 1} lied, power lost before call {end + 1}", _found(bench, recording, done, variant=0)


def _found(bench: Bench, recording: Recording, calls: list[Call], variant: int) -> Path:
    root = bench.work / "found"
    _give_inodes(root, recording.lay(calls, variant, root))
    return root


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
