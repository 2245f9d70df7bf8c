# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What a backup is made of, as it is written down: whole, in order, and with a hash of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

FORMAT = 1
_TYPES = {"path": str, "mode": int, "owner": str, "group": str}
_TYPES.update({"size": int, "modified": int, "key": str, "sha256": str})
# What a hash of SHA-256 looks like in text.
_DIGITS = 64


class Damaged(Exception):
    """Something of a backup is not what was written, a clause that names it."""


@dataclasses.dataclass(frozen=True)
class Directory:
    """:param path: relative to the root of its part. :param mode: permission bits. :param owner: name, or number."""

    path: str
    mode: int
    owner: str
    group: str


@dataclasses.dataclass(frozen=True)
class File:
    """
    :param path: relative to the root of its part.
    :param modified: nanoseconds since the epoch.
    :param key: what the source knows it by: as long as path and key stay the same, so does the content.
    :param sha256: of the content, in hexadecimal digits: its name in the store.
    """

    path: str
    size: int
    mode: int
    owner: str
    group: str
    modified: int
    key: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Part:
    """What one source gave of one directory.

    :param source: ``prometheus``, ``journals`` or ``configuration``.
    :param root: the directory, absolute, as it was on the host that was backed up.
    :param facts: what that source needs to prove and to judge a restore, all JSON.
    """

    source: str
    root: str
    directories: tuple[Directory, ...]
    files: tuple[File, ...]
    facts: dict[str, t.Any]

    @property
    def name(self) -> str:
        """No two parts of a backup have the same."""
        return f"{self.source} {self.root}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """
    :param name: of the backup, its time in UTC, such as ``20260131T020000Z``.
    :param created: unix seconds.
    """

    name: str
    created: float
    host: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def hashes(self) -> set[str]:
        return {file.sha256 for part in self.parts for file in part.files}

    def part(self, source: str) -> list[Part]:
        return [part for part in self.parts if part.source == source]

    def encode(self) -> bytes:
        return seal({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def decode(cls, content: bytes, name: str) -> Manifest:
        """
        :param name: the one that it must have.
        :raises Damaged: where it is not, byte for byte, what :meth:`encode` gave, or of another format.
        """
        document = unseal(content)
        if document.get("format") != FORMAT:
            raise Damaged(f"its format is {document.get('format')!r}; this version reads {FORMAT}")
        try:
            found = cls(
                name=document["name"],
                created=document["created"],
                host=document["host"],
                parts=tuple(map(_part, document["parts"])),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise Damaged(f"it is no manifest: {error}") from error
        if found.name != name:
            raise Damaged(f"it says that it is {found.name!r}")
        for part in found.parts:
            entries: list[Directory | File] = [*part.directories, *part.files]
            for entry in entries:
                if any(not isinstance(value, _TYPES[field]) for field, value in vars(entry).items()):
                    raise Damaged(f"{entry.path!r} is described in a way that nobody wrote")
                if not is_inside(entry.path):
                    raise Damaged(f"{entry.path!r} leads out of its directory")
            for file in part.files:
                if len(file.sha256) != _DIGITS or not set(file.sha256) <= set("0123456789abcdef"):
                    raise Damaged(f"{file.path!r} has no hash")
        return found


def is_inside(path: str) -> bool:
    """Whether a relative path stays below what it is relative to."""
    return bool(path) and "\0" not in path and not any(piece in ("", ".", "..") for piece in path.split("/"))


def seal(document: dict[str, t.Any]) -> bytes:
    """The document as JSON under a line with its hash, so that no bit of it can turn unseen."""
    body = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unseal(content: bytes) -> dict[str, t.Any]:
    """
    :raises Damaged: where it is not what :func:`seal` gave.
    """
    digest, _line, body = content.partition(b"\n")
    if digest != hashlib.sha256(body).hexdigest().encode():
        raise Damaged("its hash is not that of its content")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Damaged("it is no JSON") from error
    if not isinstance(document, dict):
        raise Damaged("it is no JSON object")
    return document


def _part(document: dict[str, t.Any]) -> Part:
    return Part(
        source=document["source"],
        root=document["root"],
        directories=tuple(Directory(**row) for row in document["directories"]),
        files=tuple(File(**row) for row in document["files"]),
        facts=document["facts"],
    )
