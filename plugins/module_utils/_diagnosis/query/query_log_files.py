# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The files of a query log, the rotated ones among them, read side by side.

All of them are opened before the first is read: what is rotated, compressed or removed meanwhile is read all the same,
and once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import re
import stat
import typing as t
import zlib
from pathlib import Path

from ..._journal.survey import open_quietly
from ..._journal.workers import each, without_collector
from .query_log import EXAMPLE, TOO_LONG, Reader, Summary

# What it becomes while it is read should stay in the cache of a core.
BLOCK = 64 * 1024
LONGEST_LINE = 4 * 1024 * 1024
# Work is dealt out in parts of so many bytes.
PART = 32 * 1024 * 1024
# As its first bytes tell; deflate makes about a tenth of such lines.
_GZIP = b"\x1f\x8b"
_GZIP_FACTOR = 10
_UNKNOWN_PACKING = (".xz", ".zst", ".bz2", ".lz4")
_DAMAGES = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclasses.dataclass(frozen=True)
class LogFile:
    """One file of the log. :param modified: unix seconds. :param state: ``read``, or why it was not."""

    path: str
    size: int
    modified: float
    state: str


@dataclasses.dataclass(frozen=True)
class Log:
    """A query log that was read.

    :param files: the newest first.
    :param problems: clauses about what could not be read.
    """

    summary: Summary
    files: list[LogFile]
    problems: list[str]

    @property
    def bytes(self) -> int:
        """Of the files that were read, as they lie on the disk."""
        return sum(file.size for file in self.files if file.state == "read")


class _Part(t.NamedTuple):
    """Lines of one open file that begin from ``start`` to before ``end``; the whole where it is compressed."""

    name: str
    handle: int
    start: int
    end: int
    is_compressed: bool

    @property
    def effort(self) -> int:
        return (self.end - self.start) * (_GZIP_FACTOR if self.is_compressed else 1)


def siblings(path: Path) -> list[Path]:
    """The log and what logrotate made of it, in any of its ways of naming (``query.log.1``, ``query.log-20260131.gz``,
    ``query-20260131.log``), by name.

    :raises OSError: where the directory cannot be read.
    """
    names = [re.escape(path.name)]
    if path.suffix:
        names.append(re.escape(path.stem) + r"[-.]\d[\d_.-]*" + re.escape(path.suffix))
    packing = "|".join(re.escape(end) for end in (".gz", *_UNKNOWN_PACKING))
    pattern = re.compile(rf"(?:{'|'.join(names)})(?:[-.]\d[\d_.-]*)?(?:{packing})?")
    return sorted(found for found in path.parent.iterdir() if pattern.fullmatch(found.name))


def read(path: Path, since: float, until: float, jobs: int) -> Log:
    """
    :param since: unix seconds; a file that was not written to since then is not read.
    :param jobs: processes that read at once.
    :raises OSError: where the directory cannot be read, or a process was killed. A file that cannot be read is a
        problem of the log.
    """
    path = Path(os.path.realpath(path))
    found = siblings(path)
    files: list[LogFile] = []
    problems: list[str] = []
    parts: list[_Part] = []
    with contextlib.ExitStack() as opened:
        for one in found:
            twin = one.with_suffix("") if one.suffix == ".gz" else None
            try:
                handle = open_quietly(str(one))
            except OSError as error:
                problems.append(f"{one.name}: {error.strerror}")
                continue
            opened.callback(os.close, handle)
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                problems.append(f"{one.name}: it is no file")
                continue
            state = "read"
            if one.suffix in _UNKNOWN_PACKING:
                state = f"not read: {one.suffix} is not known here, .gz is"
                problems.append(f"{one.name}: {state}")
            elif twin in found:
                state = f"not read: {one.stem} holds the same"
            elif status.st_mtime < since:
                state = "not read: older than the window"
            else:
                parts += _parts(one.name, handle, status.st_size)
            files.append(LogFile(str(one), status.st_size, status.st_mtime, state))
        dealt = _dealt(parts, jobs)
        summary = Summary()
        for made, said in each(lambda share: _read_parts(share, since, until), dealt, jobs):
            summary.merge(made)
            problems += said
    files.sort(key=lambda file: file.modified, reverse=True)
    return Log(summary, files, problems)


def _parts(name: str, handle: int, size: int) -> list[_Part]:
    if os.pread(handle, len(_GZIP), 0) == _GZIP:
        return [_Part(name, handle, 0, size, is_compressed=True)]
    return [_Part(name, handle, start, min(start + PART, size), is_compressed=False) for start in range(0, size, PART)]


def _dealt(parts: list[_Part], jobs: int) -> list[list[_Part]]:
    """The parts as so many heaps of about the same effort."""
    heaps: list[list[_Part]] = [[] for _job in range(max(1, min(jobs, len(parts))))]
    for part in sorted(parts, key=lambda part: part.effort, reverse=True):
        min(heaps, key=lambda heap: sum(one.effort for one in heap)).append(part)
    return heaps


def _read_parts(parts: t.Iterable[_Part], since: float, until: float) -> tuple[Summary, list[str]]:
    reader = Reader(since, until)
    with without_collector():
        problems = [said for said in (_read_part(part, reader) for part in parts) if said]
        reader.finish()
    return reader.summary, problems


def _read_part(part: _Part, reader: Reader) -> str:
    """Why it could not be read to its end; empty where it was."""
    try:
        for lines, is_line in whole_lines(_unpacked(part) if part.is_compressed else _chunks(part)):
            if not is_line:
                reader.summary.skip(TOO_LONG, lines[:EXAMPLE].decode("utf-8", "replace"))
            elif lines.endswith(b"\n"):
                reader.feed(lines)
            else:
                reader.feed_last(lines)
    except _DAMAGES as error:
        return f"{part.name}: its compression is damaged ({error}); what stands before that was read"
    except OSError as error:
        return f"{part.name}: {error.strerror or error}; what stands before that was read"
    return ""


def whole_lines(chunks: t.Iterable[bytes]) -> t.Iterator[tuple[bytes, bool]]:
    """Blocks of whole lines; with False the beginning of a line that is too long, whose rest is passed over."""
    rest = b""
    too_long = False
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if too_long:
            begin = chunk.find(b"\n") + 1
            if not begin:
                continue
            too_long = False
            chunk, end = chunk[begin:], end - begin
        if end > 0:
            yield rest + chunk[:end], True
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > LONGEST_LINE:
            yield rest, False
            rest, too_long = b"", True
    if rest:
        yield rest, True


def _chunks(part: _Part) -> t.Iterator[bytes]:
    at, end = _line_start(part.handle, part.start), _line_start(part.handle, part.end)
    while at < end:
        chunk = os.pread(part.handle, min(BLOCK, end - at), at)
        if not chunk:
            raise OSError("it was cut while it was read")
        at += len(chunk)
        yield chunk


def _line_start(handle: int, offset: int) -> int:
    """Where the first line begins at or after ``offset``."""
    at = offset - 1
    while at >= 0:
        chunk = os.pread(handle, BLOCK, at)
        found = chunk.find(b"\n")
        if found >= 0:
            return at + found + 1
        if not chunk:
            return at
        at += len(chunk)
    return 0


def _unpacked(part: _Part) -> t.Iterator[bytes]:
    with os.fdopen(os.dup(part.handle), "rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as file:
        while True:
            chunk = file.read(BLOCK)
            if not chunk:
                return
            yield chunk
