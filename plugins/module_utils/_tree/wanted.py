# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The files that are wanted: how they travel to the host, and which paths may be theirs."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import fnmatch
import io
import posixpath
import tarfile
import typing as t

# Beside a file of ours: what was there before it, and was not ours.
KEPT = ".before-njord"


class TreeError(Exception):
    """What stands in the way; names the path."""


@dataclasses.dataclass(frozen=True)
class File:
    """A wanted file. :param secret: its content is shown nowhere."""

    content: bytes = dataclasses.field(repr=False)
    mode: int = 0o644
    secret: bool = False


def pack(contents: t.Mapping[str, bytes]) -> str:
    """Contents by relative path, as one word that fits into an option of a module."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in sorted(contents.items()):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def unpack(word: str) -> dict[str, bytes]:
    """
    :raises TreeError: where the word does not come from :func:`pack`.
    """
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(word, validate=True)), mode="r:gz") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream is not None:
                    contents[member.name] = stream.read()
    except (binascii.Error, tarfile.TarError, EOFError, OSError) as error:
        raise TreeError(f"the files did not arrive whole: {error}") from error
    return contents


def check_paths(paths: t.Iterable[str]) -> None:
    """
    :raises TreeError: where one leads out of the tree, is no plain path, or is another one's directory.
    """
    known = set(paths)
    for path in sorted(known):
        check_path(path)
        if path.endswith(KEPT):
            raise TreeError(f"{path!r} ends in {KEPT}, where a file that was not ours is kept")
        for parent in parents(path):
            if parent in known:
                raise TreeError(f"{parent!r} is wanted as a file, and as the directory of {path!r}")


def check_path(path: str) -> None:
    """
    :raises TreeError: where it leads out of the tree, or is no plain path.
    """
    plain = path and "\0" not in path and posixpath.normpath(path) == path
    if not plain or path.startswith("/") or path == "." or path.split("/")[0] == "..":
        raise TreeError(f"{path!r} is no path inside the tree; one like 'rules/trading.yml' is")


def parents(path: str) -> list[str]:
    """The directories of a relative path, the topmost first: ``a/b/c`` has ``a`` and ``a/b``."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def wanted_files(
    contents: t.Mapping[str, bytes], mode: int, secrets: t.Sequence[str], secret_mode: int
) -> dict[str, File]:
    """The wanted files by relative path.

    :param secrets: globs of relative paths; ``*`` matches ``/`` as well.
    :raises TreeError: as :func:`check_paths`.
    """
    check_paths(contents)
    files = {}
    for path, content in contents.items():
        secret = any(fnmatch.fnmatchcase(path, glob) for glob in secrets)
        files[path] = File(content, secret_mode if secret else mode, secret)
    return files
