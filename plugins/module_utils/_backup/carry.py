# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A backup as one file to carry away, and back from that file alone.

It is a tar that any tar can read, compressed or not: the manifest first, then every object once, in the order of the
manifest. Nothing in it is left to choice, so it is read by comparing each header with the only one that can stand
there: what is linked, doubled, hidden, out of place or cut off is different, and so it is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import glob
import gzip
import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import tarfile
import threading
import typing as t
import zlib
from pathlib import Path

from .catalogue import DAMAGED, NAME, Catalogue, Missing, State
from .create import Failed, NoRoom
from .manifest import Damaged, File, Manifest, Part, unseal
from .store import CHUNK, OBJECTS, Store, sync_directory, write_all

AUTO, ZSTD, GZIP, NONE = "auto", "zstd", "gzip", "none"

_MANIFEST = "manifest"
# More than that is no manifest: about 200,000 files.
_MOST_MANIFEST = 64 << 20
_BLOCK = tarfile.BLOCKSIZE
# A tar ends with two blocks of zeros, and is as long as a multiple of this.
_RECORD = tarfile.RECORDSIZE
# From here on the twelve digits of a header do not hold a size.
_OCTAL_LIMIT = 8 << 30
# Blocks are compressed already, and the other half is text that any level shrinks well. Two threads at the lowest
# level need 20 MB, whatever the host has; at level 3 they need 70.
_ZSTD_PACK = ("-1", "-T2", "--quiet", "--stdout")
_ZSTD_UNPACK = ("--decompress", "--memory=32MB", "--quiet", "--stdout")
_GZIP_LEVEL = 1
# The largest window, with the header and the trailer of gzip.
_GZIP_BITS = 16 + zlib.MAX_WBITS
# Also a file system that takes no file so large, as that of many a stick.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_PIPE = subprocess.PIPE

Write = t.Callable[[bytes], t.Any]
# So many bytes; fewer only at the end.
Read = t.Callable[[int], bytes]


@dataclasses.dataclass(frozen=True)
class Carried:
    """:param bytes: of the file. :param sha256: of the file, as ``sha256sum`` says it."""

    path: Path
    bytes: int
    sha256: str
    compression: str


def pack(catalogue: Catalogue, name: str, target: Path, compression: str = AUTO) -> Carried:
    """Writes a backup into one new file (0600), and returns once it stays. The caller has the catalogue's lock.

    :param target: absolute, in a directory that is there.
    :param compression: ``zstd``, ``gzip``, ``none``, or ``auto``: zstd where there is such a program, else gzip.
    :raises Missing: where there is no backup of that name.
    :raises Damaged: where something of it is not what it was; of the file nothing stays, as with all others.
    :raises NoRoom: where the file system of the target is full.
    :raises Failed: where the target is there already, or cannot be written so.
    """
    manifest = catalogue.entry(name).manifest
    if manifest is None:
        raise Damaged(f"backup {name}: {catalogue.entry(name).damage}")
    compression = _chosen(compression)
    try:
        with _beside(target) as file:
            output = _Output(file)
            with _PACKERS[compression](output) as write:
                for piece in _archive(catalogue.store, manifest):
                    write(piece)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free = _free(target.parent)
        raise NoRoom(
            f"{target} cannot hold backup {name} ({error.strerror}): it has {manifest.size} bytes, of which some can be"
            f" saved by compression, and {free} are free"
        ) from error
    return Carried(target, output.bytes, output.digest.hexdigest(), compression)


def unpack(catalogue: Catalogue, source: Path) -> str:
    """Takes a backup in from one file; how it is compressed is seen from its content. The caller has the lock.

    It is there as a whole, *written*, or not at all; what the other host knew of it is not believed here. Where the
    catalogue has the same one whole, as far as is known, nothing is done; where it is damaged, it is mended.

    :return: the name of the backup.
    :raises Damaged: where the file is not, in every bit that matters, what :func:`pack` wrote.
    :raises NoRoom: where the catalogue's file system has not the room.
    :raises Failed: where another backup has that name, or this host cannot decompress it.
    """
    try:
        with _content(source) as read:
            return take_in(catalogue, _Archive(read))
    except Damaged as error:
        raise Damaged(f"{source} cannot be used: {error}") from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoRoom(f"{catalogue.root} is too full for {source}: {_free(catalogue.root)} bytes are free") from error


class Arriving(t.Protocol):
    """A backup from elsewhere, that is read in this order."""

    def manifest(self) -> Manifest: ...

    def needed(self, files: t.Sequence[File]) -> int:
        """The bytes of room that it takes to take these in."""

    def object(self, file: File) -> t.Iterator[bytes]: ...

    def end(self) -> None: ...


def take_in(catalogue: Catalogue, arriving: Arriving) -> str:
    """As :func:`unpack`, whatever brings it."""
    manifest = arriving.manifest()
    files = _files(manifest)
    is_known = _is_known(catalogue, manifest)
    if is_known and _is_whole(catalogue, manifest):
        return manifest.name
    _require_room(catalogue, manifest, arriving.needed(files))
    received: dict[int, str] = {}
    try:
        for number, file in enumerate(files):
            sha256 = catalogue.store.receive(arriving.object(file), number)
            received[number] = sha256
            if sha256 != file.sha256:
                raise Damaged(f"{file.path} is not what it was when it was stored (object {file.sha256})")
        arriving.end()
    except BaseException:
        for number in received:
            catalogue.store.discard(number)
        raise
    for number, sha256 in received.items():
        catalogue.store.adopt(number, sha256)
    if is_known:
        catalogue.store.settle()
        catalogue.record(manifest.name, {part.name: State() for part in manifest.parts})
    else:
        catalogue.write(manifest)
    return manifest.name


def is_held(catalogue: Catalogue, manifest: Manifest) -> bool:
    """Whether the catalogue has this backup whole, as far as is known.

    :raises Failed: where another backup has its name.
    """
    return _is_known(catalogue, manifest) and _is_whole(catalogue, manifest)


def require_room(catalogue: Catalogue, manifest: Manifest) -> None:
    """
    :raises NoRoom: where it does not fit in beside what is there.
    """
    _require_room(catalogue, manifest, sum(file.size for file in _files(manifest)))


def _is_known(catalogue: Catalogue, manifest: Manifest) -> bool:
    """
    :raises Failed: where another backup has its name.
    """
    try:
        entry = catalogue.entry(manifest.name)
    except Missing:
        return False
    if entry.manifest != manifest:
        raise Failed(
            f"{catalogue.root} has another backup {manifest.name}"
            + (f" ({entry.damage})" if entry.damage else f" of host {entry.manifest.host}" if entry.manifest else "")
            + f"; another catalogue would take this one of host {manifest.host}, or this one without the other"
        )
    return True


def _is_whole(catalogue: Catalogue, manifest: Manifest) -> bool:
    return catalogue.entry(manifest.name).level != DAMAGED and all(
        catalogue.store.holds(file.sha256, file.size) for file in _files(manifest)
    )


def _require_room(catalogue: Catalogue, manifest: Manifest, needed: int) -> None:
    free = _free(catalogue.root)
    if needed > free:
        raise NoRoom(f"backup {manifest.name} needs {needed} bytes in {catalogue.root}, and {free} are free")


def _free(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _files(manifest: Manifest) -> list[File]:
    """One for each object, in the order of the manifest."""
    found: dict[str, File] = {}
    for part in manifest.parts:
        for file in part.files:
            found.setdefault(file.sha256, file)
    return list(found.values())


def _archive(store: Store, manifest: Manifest) -> t.Iterator[bytes]:
    content = manifest.encode()
    if len(content) > _MOST_MANIFEST:
        raise Failed(f"the manifest of {manifest.name} has {len(content)} bytes; {_MOST_MANIFEST} would do")
    files = _files(manifest)
    yield _header(_MANIFEST, len(content))
    yield content
    yield _padding(len(content), _BLOCK)
    for file in files:
        yield _header(f"{OBJECTS}/{file.sha256}", file.size)
        yield from store.read(file)
        yield _padding(file.size, _BLOCK)
    yield _end(sum(_BLOCK + size + -size % _BLOCK for size in (len(content), *(file.size for file in files))))


def _header(name: str, size: int) -> bytes:
    """Of a regular file of root that only its owner may read, in the form of GNU tar, which knows no limit of size."""
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = [name.encode(), b"0000400\0", b"0000000\0", b"0000000\0", length, b"00000000000\0"]
    rest = struct.pack("1s100s8s32s32s183x", b"0", b"", b"ustar  \0", b"root", b"root")
    block = struct.pack("100s8s8s8s12s12s8s", *fields, b" " * 8) + rest
    checksum = b"%06o\0 " % sum(block)
    return block[:148] + checksum + block[156:]


def _padding(size: int, unit: int) -> bytes:
    return bytes(-size % unit)


def _end(size: int) -> bytes:
    """What stands after so many bytes of members."""
    return bytes(2 * _BLOCK) + _padding(size + 2 * _BLOCK, _RECORD)


class _Archive:
    """Reads what :func:`_archive` gave, in that order, and never more than it must have."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._bytes = 0

    def manifest(self) -> Manifest:
        header = self._exactly(_BLOCK)
        size = _size(header)
        if not 0 < size <= _MOST_MANIFEST or header != _header(_MANIFEST, size):
            raise Damaged(f"it does not begin with the manifest of a backup, but with {_told(header)}")
        content = b"".join(self._chunks(size))
        self._zeros(_padding(size, _BLOCK))
        try:
            return decoded(content)
        except Damaged as error:
            raise Damaged(f"its manifest: {error}") from error

    def needed(self, files: t.Sequence[File]) -> int:
        return sum(file.size for file in files)

    def object(self, file: File) -> t.Iterator[bytes]:
        header = self._exactly(_BLOCK)
        if header != _header(f"{OBJECTS}/{file.sha256}", file.size):
            raise Damaged(f"object {file.sha256} ({file.path}) should follow, not {_told(header)}")
        yield from self._chunks(file.size)
        self._zeros(_padding(file.size, _BLOCK))

    def end(self) -> None:
        self._zeros(_end(self._bytes))
        if self._read(1):
            raise Damaged(f"there is more after its end, at byte {self._bytes}")

    def _chunks(self, size: int) -> t.Iterator[bytes]:
        left = size
        while left:
            chunk = self._exactly(min(left, CHUNK))
            left -= len(chunk)
            yield chunk

    def _zeros(self, expected: bytes) -> None:
        begin = self._bytes
        if self._exactly(len(expected)) != expected:
            raise Damaged(f"there is something between its members, after byte {begin}")

    def _exactly(self, size: int) -> bytes:
        found = self._read(size)
        self._bytes += len(found)
        if len(found) != size:
            raise Damaged(f"it is cut off after {self._bytes} bytes of its tar")
        return found


def _size(header: bytes) -> int:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace").size
    except tarfile.TarError:
        return 0


def _told(header: bytes) -> str:
    if not any(header):
        return "its end"
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
    except tarfile.TarError:
        return "something that is no header of a tar"
    return f"{found.name!r} (type {found.type.decode('ascii', 'backslashreplace')}, {found.size} bytes)"


def decoded(content: bytes) -> Manifest:
    """A manifest from elsewhere: whoever wrote it may have meant harm.

    :raises Damaged: where it is none, or contradicts itself.
    """
    try:
        name = unseal(content).get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise Damaged(f"{name!r} is no name of a backup")
        manifest = Manifest.decode(content, name)
        sizes = {(file.sha256, file.size) for part in manifest.parts for file in part.files}
        is_sound = (
            manifest.encode() == content
            and all(isinstance(size, int) and size >= 0 for _sha256, size in sizes)
            and len(sizes) == len(manifest.hashes())
            and len({part.name for part in manifest.parts}) == len(manifest.parts)
            and all(map(_is_tree, manifest.parts))
        )
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Damaged(f"it is no manifest: {error}") from error
    if not is_sound:
        raise Damaged("a name, a size or a path in it contradicts another")
    return manifest


def _is_tree(part: Part) -> bool:
    """Whether each path is there once, and no file is above another."""
    files = {file.path for file in part.files}
    paths = files | {directory.path for directory in part.directories}
    above = {path[: match.start()] for path in paths for match in re.finditer("/", path)}
    return len(paths) == len(part.files) + len(part.directories) and not files & above


def _chosen(compression: str) -> str:
    if compression == AUTO:
        return ZSTD if shutil.which(ZSTD) else GZIP
    if compression not in _PACKERS:
        raise Failed(f"compression {compression!r} is none of {', '.join((AUTO, *_PACKERS))}")
    if compression == ZSTD and not shutil.which(ZSTD):
        raise Failed("compression zstd needs the program zstd, which is not on PATH; gzip would do")
    return compression


@contextlib.contextmanager
def _beside(target: Path) -> t.Iterator[int]:
    """A new file that gets its name only once it is whole, and goes where it does not become so.

    One that was left by a run that was killed goes as well: only a living process has it locked.
    """
    _require_absent(target)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.new"):
        _remove_abandoned(left)
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Where there are no locks, nothing is taken for abandoned.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
        os.fsync(handle)
        _require_absent(target)
        new.rename(target)
    except BaseException:
        new.unlink()
        raise
    finally:
        os.close(handle)
    sync_directory(target.parent)


def _require_absent(target: Path) -> None:
    if not target.parent.is_dir():
        raise Failed(f"there is no directory {target.parent} for {target.name}; one that is there would do")
    if os.path.lexists(target):
        raise Failed(f"{target} is there already and stays; a new name would do, or that one moved away")


def _remove_abandoned(path: Path) -> None:
    # It may go meanwhile, or be somebody else's, or be no file at all: then it is left alone.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)


class _Output:
    """A file that knows its hash as it grows."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        write_all(self._handle, data)
        self.digest.update(data)
        self.bytes += len(data)


@contextlib.contextmanager
def _plain(output: _Output) -> t.Iterator[Write]:
    yield output.write


@contextlib.contextmanager
def _gzip(output: _Output) -> t.Iterator[Write]:
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    yield lambda data: output.write(compressor.compress(data))
    output.write(compressor.flush())


@contextlib.contextmanager
def _zstd(output: _Output) -> t.Iterator[Write]:
    process = subprocess.Popen([ZSTD, *_ZSTD_PACK], bufsize=0, stdin=_PIPE, stdout=_PIPE, stderr=_PIPE)
    fed = t.cast("t.IO[bytes]", process.stdin)
    drain = _Drain(t.cast("t.IO[bytes]", process.stdout), output)
    drain.start()
    is_broken = False
    try:
        yield lambda data: write_all(fed.fileno(), data)
    except BrokenPipeError:
        # It ended of itself, or because what it gave could not be written.
        is_broken = True
    except BaseException:
        process.kill()
        raise
    finally:
        fed.close()
        drain.join()
        error = _ended(process)
    if drain.error:
        raise drain.error
    if error or is_broken:
        raise Failed(f"zstd could not compress it ({error or 'it ended too early'}); gzip would do")


class _Drain(threading.Thread):
    """Writes what a program gives. :param error: why it stopped before the end."""

    def __init__(self, given: t.IO[bytes], output: _Output) -> None:
        super().__init__(daemon=True)
        self._given = given
        self._output = output
        self.error: BaseException | None = None

    def run(self) -> None:
        # Closed in any case: then the program ends, and so does who feeds it.
        with self._given:
            try:
                for chunk in iter(lambda: self._given.read(CHUNK), b""):
                    self._output.write(chunk)
            except BaseException as error:
                self.error = error


def _ended(process: subprocess.Popen[bytes]) -> str:
    """How it ended, a clause; empty where all was well."""
    with t.cast("t.IO[bytes]", process.stderr) as file:
        text = file.read().decode("utf-8", "backslashreplace").strip()
    return f"exit code {process.wait()}: {text}" if process.wait() else ""


_PACKERS: dict[str, t.Callable[[_Output], contextlib.AbstractContextManager[Write]]] = {
    ZSTD: _zstd,
    GZIP: _gzip,
    NONE: _plain,
}


@contextlib.contextmanager
def _content(source: Path) -> t.Iterator[Read]:
    """The tar in a file."""
    with source.open("rb", buffering=0) as file:
        start = file.read(max(map(len, _UNPACKERS)))
        file.seek(0)
        opener = next((opener for magic, opener in _UNPACKERS.items() if start.startswith(magic)), _as_it_is)
        with opener(file) as read:
            yield read


@contextlib.contextmanager
def _as_it_is(file: io.FileIO) -> t.Iterator[Read]:
    yield io.BufferedReader(file).read


@contextlib.contextmanager
def _gunzip(file: io.FileIO) -> t.Iterator[Read]:
    with gzip.GzipFile(fileobj=io.BufferedReader(file), mode="rb") as content:

        def read(size: int) -> bytes:
            try:
                return content.read(size)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise Damaged(f"it cannot be decompressed: {error}") from error

        yield read


@contextlib.contextmanager
def _unzstd(file: io.FileIO) -> t.Iterator[Read]:
    try:
        process = subprocess.Popen([ZSTD, *_ZSTD_UNPACK], stdin=file, stdout=_PIPE, stderr=_PIPE)
    except FileNotFoundError:
        raise Failed(f"{file.name} is compressed by zstd, which is not on PATH; the package zstd would do") from None
    content = t.cast("t.IO[bytes]", process.stdout)

    def read(size: int) -> bytes:
        found = content.read(size)
        if len(found) < size:
            error = _ended(process)
            if process.returncode < 0:
                raise Failed(f"{file.name} could not be decompressed: zstd ended early, {error}")
            if error:
                raise Damaged(f"it cannot be decompressed: zstd ended with {error}")
        return found

    with process:
        try:
            yield read
        finally:
            process.kill()


# What compressed files begin with.
_UNPACKERS: dict[bytes, t.Callable[[io.FileIO], contextlib.AbstractContextManager[Read]]] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _unzstd,
}
