# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""Journals as streams of bytes: read in blocks of whole lines, written under a name that is not the last one.

Memory is that of a block, however long the file is, or the line.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import os
import stat
import typing as t
import zlib
from pathlib import Path

from .survey import open_quietly

if t.TYPE_CHECKING:
    from types import TracebackType


def _module(name: str) -> t.Any:
    """None where it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# Two libraries, the same lines when they are read: isal's takes a third of the time.
_IGZIP, _ISAL = _module("isal.igzip"), _module("isal.isal_zlib")

BLOCK = 512 * 1024
# A line that is longer holds more observations than anything publishes in a minute: it is passed on, never parsed.
LONGEST_LINE = 4 * 1024 * 1024
# Level 6 takes twice the time of level 4 for a tenth less.
_LEVEL, _LEVEL_OF_ISAL = 4, 2
_BUFFER = 256 * 1024
_DAMAGES: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
if _ISAL:
    _DAMAGES += (_ISAL.error,)


class Damaged(Exception):
    """Why a file cannot be read to its end, a clause."""


class Identity(t.NamedTuple):
    """Which file it was, and how long: another under the same name is not the one that was read."""

    device: int
    inode: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size)


class Block(t.NamedTuple):
    """
    :param lines: whole lines with their line breaks; the last line of a file may lack it.
    :param parsable: False for a part of a line that is too long.
    """

    lines: bytes
    parsable: bool = True


class Source:
    """A journal that is read to its end once.

    After that ``identity`` is what was read, ``content`` the SHA-256 of its lines, whether compressed or not.
    """

    def __init__(self, path: str, compressed: bool) -> None:
        self.path = path
        self.content = ""
        handle = open_quietly(path)
        self._file = os.fdopen(handle, "rb", buffering=0)
        self.status = os.fstat(handle)
        self.identity = Identity.of(self.status)
        self._compressed = compressed

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def blocks(self, size: int = BLOCK) -> t.Iterator[Block]:
        """
        :param size: of a block, about, in bytes; no more than the longest line.
        :raises Damaged: where it cannot be decompressed to its end, or changed meanwhile.
        :raises OSError: where it cannot be read.
        """
        digest = hashlib.sha256()
        rest = b""
        too_long = False
        for chunk in self._chunks(size):
            digest.update(chunk)
            end = chunk.find(b"\n") + 1
            if not end:
                rest += chunk
                if too_long or len(rest) > LONGEST_LINE:
                    too_long = True
                    yield Block(rest, parsable=False)
                    rest = b""
                continue
            if too_long or len(rest) + end > LONGEST_LINE:
                yield Block(rest + chunk[:end], parsable=False)
                too_long, rest, chunk = False, b"", chunk[end:]
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield Block(rest + chunk[:cut])
                rest = b""
            rest += chunk[cut:]
        if rest:
            yield Block(rest, parsable=not too_long)
        self.content = digest.hexdigest()

    def _chunks(self, size: int) -> t.Iterator[bytes]:
        try:
            if not self._compressed:
                yield from self._raw_chunks(size)
                return
            opened = _gzip_file(self._file, "rb")
            with opened:
                while True:
                    chunk = opened.read(size)
                    if not chunk:
                        break
                    yield chunk
        except _DAMAGES as error:
            raise Damaged(f"its compression is damaged ({error})") from error
        if os.fstat(self._file.fileno()).st_size != self.identity.size:
            raise Damaged("it changed while it was read")

    def _raw_chunks(self, size: int) -> t.Iterator[bytes]:
        left = self.identity.size
        while left:
            chunk = self._file.read(min(size, left))
            if not chunk:
                raise Damaged("it changed while it was read")
            left -= len(chunk)
            yield chunk
        if os.fstat(self._file.fileno()).st_size != self.identity.size:
            raise Damaged("it changed while it was read")


class Output:
    """A file under a name of ours, until it is given its own: written, synced, and read back.

    It takes owner and mode of the file that it comes from. ``pause`` gives its memory back until it is written again.
    """

    def __init__(self, path: str, compressed: bool, like: os.stat_result) -> None:
        self.path = path
        self.compressed = compressed
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._like = like
        self._raw: t.BinaryIO | None = None
        self._file: t.Any = None
        self._flags = os.O_CREAT | os.O_EXCL

    def write(self, data: bytes) -> None:
        if self._raw is None:
            self._resume()
        self.bytes += len(data)
        self._digest.update(data)
        self._file.write(data)

    def pause(self) -> None:
        if self._raw is None:
            return
        if self.compressed:
            self._file.close()
        self._raw.flush()
        self._raw.close()
        self._raw = self._file = None

    @property
    def content(self) -> str:
        """SHA-256 of what was written."""
        return self._digest.hexdigest()

    def finish(self) -> str:
        """Syncs it, reads it back and proves that it holds what was written; its SHA-256 as it lies on the disk.

        :raises Damaged: where it does not.
        """
        if self._raw is None:
            self._resume()
        self.pause()
        handle = open_quietly(self.path)
        try:
            os.fsync(handle)
            # Read from the disk, not from what the kernel remembers of it.
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
        with Source(self.path, self.compressed) as written:
            for _block in written.blocks():
                pass
        if written.content != self.content:
            raise Damaged(f"{Path(self.path).name} does not hold what was written to it")
        return file_hash(self.path)

    def discard(self) -> None:
        for file in (self._file, self._raw):
            # What cannot be written any more need not be.
            with contextlib.suppress(OSError, ValueError):
                if file is not None:
                    file.close()
        self._raw = self._file = None
        with contextlib.suppress(FileNotFoundError):
            Path(self.path).unlink()

    def _resume(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | self._flags, 0o600)
        if self._flags:
            os.fchown(handle, self._like.st_uid, self._like.st_gid)
            os.fchmod(handle, stat.S_IMODE(self._like.st_mode))
            self._flags = 0
        self._raw = os.fdopen(handle, "ab", buffering=_BUFFER)
        self._file = _gzip_file(self._raw, "wb") if self.compressed else self._raw


def file_hash(path: str) -> str:
    """SHA-256 of a file as it lies on the disk."""
    digest = hashlib.sha256()
    with os.fdopen(open_quietly(path), "rb", buffering=0) as file:
        while True:
            chunk = file.read(BLOCK)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)


def sync(path: str) -> None:
    """A file, or the names in a directory."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _gzip_file(file: t.Any, mode: str) -> t.Any:
    """The same lines give the same bytes: no name and no time in the header."""
    if _IGZIP:
        return _IGZIP.GzipFile(filename="", mode=mode, compresslevel=_LEVEL_OF_ISAL, fileobj=file, mtime=0)
    return gzip.GzipFile(filename="", mode=mode, compresslevel=_LEVEL, fileobj=file, mtime=0)
