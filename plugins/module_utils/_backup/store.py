# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Every file of all backups once, under the hash of its content.

An object is written beside, synced, and only then gets its name; it is never changed again. One that is referenced by
a manifest was synced before the manifest was, together with the directory that names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import typing as t
from pathlib import Path

from .manifest import Damaged, File

# Large enough to keep a disk busy, small enough for four of them in memory at once.
CHUNK = 1 << 20
INCOMING = "incoming"
OBJECTS = "objects"


class Changed(Exception):
    """Something is not what it was when it was looked at, a clause."""


class Store:
    """
    :param root: the catalogue's directory.
    """

    def __init__(self, root: Path) -> None:
        self._objects = root / OBJECTS
        self._incoming = root / INCOMING
        self._touched: set[Path] = set()
        self._lock = threading.Lock()

    def path(self, sha256: str) -> Path:
        return self._objects / sha256[:2] / sha256

    def holds(self, sha256: str, size: int) -> bool:
        """Whether there is such an object of that length; its content is not read."""
        try:
            return self.path(sha256).stat().st_size == size
        except FileNotFoundError:
            return False

    def take(
        self,
        source: Path,
        size: int,
        number: int,
        is_meant: t.Callable[[os.stat_result], bool] = lambda _status: True,
    ) -> str:
        """Stores the first bytes of a file. Several threads may do so at once.

        :param number: one that no other file of this backup has.
        :param is_meant: asked once they were read, whether that was the file.
        :return: the hash.
        :raises Changed: where it has fewer, or was another one.
        """
        with source.open("rb", buffering=0) as file:
            sha256 = self.receive(_first(file, size), number)
            status = os.fstat(file.fileno())
        if not is_meant(status):
            self.discard(number)
            raise Changed(f"{source} is not what it was a moment ago")
        self.adopt(number, sha256)
        return sha256

    def receive(self, chunks: t.Iterable[bytes], number: int) -> str:
        """Writes content beside, synced; then :meth:`adopt` makes an object of it, or :meth:`discard` lets it go.

        :param number: one that no other file of this backup has.
        :return: the hash.
        """
        digest = hashlib.sha256()
        with self._new(number).open("xb", buffering=0) as copy:
            try:
                for chunk in chunks:
                    digest.update(chunk)
                    _write_early(copy.fileno(), chunk)
                os.fchmod(copy.fileno(), 0o400)
                os.fsync(copy.fileno())
            except BaseException:
                self.discard(number)
                raise
        return digest.hexdigest()

    def adopt(self, number: int, sha256: str) -> None:
        """:param sha256: what :meth:`receive` said of that number."""
        path = self.path(sha256)
        with self._lock:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700)
            self._touched.add(path.parent)
        # Also over one that is there: what was just read is whole, and that one may have rotted.
        self._new(number).replace(path)

    def discard(self, number: int) -> None:
        self._new(number).unlink()

    def settle(self) -> None:
        """Returns once everything that was taken stays, whatever happens to the power."""
        for directory in sorted(self._touched):
            sync_directory(directory)
        sync_directory(self._objects)
        self._touched.clear()

    def check(self, file: File) -> None:
        """
        :raises Damaged: where its object is missing or is not what its hash says.
        """
        with self._open(file) as content:
            for _chunk in _checked(content, file):
                pass

    def copy(self, file: File, target: t.BinaryIO) -> None:
        """
        :raises Damaged: where what was copied is not what its hash says.
        """
        with self._open(file) as content:
            for chunk in _checked(content, file):
                _write_early(target.fileno(), chunk)

    def read(self, file: File) -> t.Iterator[bytes]:
        """The content, chunk by chunk.

        :raises Damaged: at its end, where it was not what its hash says.
        """
        with self._open(file) as content:
            yield from _checked(content, file)

    def objects(self) -> t.Iterator[tuple[str, int]]:
        """Hash and size of everything that is held."""
        for directory in sorted(self._objects.iterdir()):
            for entry in sorted(directory.iterdir()):
                yield entry.name, entry.stat().st_size

    def sweep(self, referenced: t.Collection[str]) -> int:
        """Removes what nobody refers to any more; how many bytes that were."""
        freed = 0
        for sha256, size in list(self.objects()):
            if sha256 not in referenced:
                self.path(sha256).unlink()
                freed += size
        return freed

    def _new(self, number: int) -> Path:
        return self._incoming / str(number)

    def _open(self, file: File) -> t.BinaryIO:
        try:
            return self.path(file.sha256).open("rb", buffering=0)
        except FileNotFoundError:
            raise Damaged(f"{file.path} is missing from the store (object {file.sha256})") from None


def _first(file: t.BinaryIO, size: int) -> t.Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            raise Changed(f"{file.name} has {left} bytes less than a moment ago")
        left -= len(chunk)
        yield chunk


def _checked(content: t.BinaryIO, file: File) -> t.Iterator[bytes]:
    digest = hashlib.sha256()
    size = 0
    while True:
        chunk = content.read(CHUNK)
        if not chunk:
            break
        size += len(chunk)
        digest.update(chunk)
        yield chunk
    if size != file.size:
        raise Damaged(f"{file.path} has {size} bytes in the store, not {file.size} (object {file.sha256})")
    if digest.hexdigest() != file.sha256:
        raise Damaged(f"{file.path} is not what it was when it was stored (object {file.sha256})")


def write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _write_early(handle: int, data: bytes) -> None:
    """Has the disk begin at once where there is much: the sync at the end then waits for the last bytes only."""
    write_all(handle, data)
    if len(data) >= CHUNK:
        # Linux begins to write what is dirty, and lets go only of what is on the disk already. No more than a hint.
        begin = os.lseek(handle, 0, os.SEEK_CUR) - len(data)
        with contextlib.suppress(OSError):
            os.posix_fadvise(handle, begin, len(data), os.POSIX_FADV_DONTNEED)


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Whole or not at all, and to stay."""
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with new.open("xb", buffering=0) as file:
        os.fchmod(file.fileno(), mode)
        write_all(file.fileno(), content)
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
