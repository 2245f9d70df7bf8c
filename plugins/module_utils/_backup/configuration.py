# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Configuration as a source: rules, scrape files, units. What is or holds a secret is left out, and named; or, where
somebody is named who can open it, encrypted.

Nobody can tell every secret from what is none. Where it is not sure it is taken for one: that is seen at once, a secret
in a backup is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import itertools
import os
import re
import typing as t
from pathlib import Path

from .create import Candidate, Draft, Failed
from .encryption import SUFFIX, Age
from .manifest import Directory
from .store import Changed
from .tree import candidate, walk

# A secret by the name of the file or of a directory above it; base.yaml holds the passwords of the database and of
# Redis.
_NAMES = (
    *("*.key", "*.pem", "*.p12", "*.pfx", "*.jks", "*.kdbx", "id_*", "*.age", "*.asc", "*.gpg", "*.env", ".env*"),
    *("*password*", "*passwd*", "*secret*", "*token*", "*credential*", "*shadow*", "*htpasswd*", "private"),
    *("web.yml*", "web-config*", "base.yaml*", ".netrc*", ".pgpass*", ".ssh", ".gnupg", ".aws"),
)
# What may stand between a key and its value, and how long a piece of a key is: bounded, or a long line takes for ever.
_KEY_PIECE = rb"[\w.-]{0,64}"
_WORD = (
    rb"(?:passw(?:or)?d|passphrase|(?<![a-z])pass(?!\w)|pwd|secret|token|credential|authori[sz]ation"
    rb"|(?:api|access|private|service|routing|integration|signing|encryption)[_-]?key)"
)
_KEY = re.compile(
    rb"%b(?P<rest>%b)[\"']?(?:\s{0,80}(?P<sign>:=|[:=])[ \t]{0,80}|>)" % (_WORD, _KEY_PIECE), re.IGNORECASE
)
_OPTION = re.compile(
    rb"(?<![\w-])--?(?!-)%b%b(?P<rest>%b)[ \t]+(?=[^\s-])" % (_KEY_PIECE, _WORD, _KEY_PIECE), re.IGNORECASE
)
# Such a key says where the secret is, or something about it.
_ABOUT = re.compile(
    rb"(?:file|files|path|ref|dir|directory|name|url|uri|type|ttl|age|expiry|length|timeout)", re.IGNORECASE
)
# Nothing, what a template fills in, or a switch.
_NO_VALUE = re.compile(
    rb"(?P<quote>[\"']?)(?:|\$\{[^}\n]*\}|\{\{[^\n]*?\}\}|<[\w .-]*>|true|false|yes|no|null|none|~)(?P=quote)"
    rb"(?=[\s,;}\]]|[\"']\s|\Z)",
    re.IGNORECASE,
)
_NUMBER = re.compile(rb"[\"']?\d[\d.]*(?:[smhdw]|ms)?[\"']?(?=[\s,;}\]]|\Z)")
# The value of a key in YAML may be on the next line; a key there is another one.
_NEXT_LINE = re.compile(rb"[ \t]*(?:#[^\n]*)?\r?\n[ \t]+(?:-[ \t]+)?(?![^\s:]*:(?:\s|\Z))[^\s#]")
_LABEL = re.compile(rb"[{,][ \t]*\Z")
# A secret by what it looks like.
_SHAPES = re.compile(
    rb"PRIVATE KEY(?: BLOCK)?-----"
    rb"|basic_auth_users[\"']?\s*:"
    rb"|://[^/\s:@\"']{0,256}:[^\s@\"']{1,256}@"
    rb"|:[^\s@\"']{1,256}@(?:tcp|unix)\("
    rb"|(?:\s|^)(?:-u|--(?:proxy-)?user)[ =]?[\"']?[^\s:\"']{1,256}:(?!\d+(?:\s|$))[^\s\"']"
    rb"|\bidentified\s+by\s+[\"']"
    rb"|hooks\.slack\.com/services/\w|/api/webhooks/\d|api\.telegram\.org/bot\d"
    rb"|\$(?:2[abxy]|[1567y])\$[./\w]"
    rb"|\bAKIA[0-9A-Z]{16}|\bgh[pousr]_\w{20}|\bglpat-\w|\bxox[abprs]-\w|\beyJ[\w-]{8,4096}\.eyJ",
    re.IGNORECASE | re.MULTILINE,
)
# A unit that names the file of a secret.
_LOADED = re.compile(rb"^[ \t]*(?:Load|Import)Credential(?:Encrypted)?[ \t]*=[^\n]*", re.MULTILINE)
# Configuration is short; what is longer is something else.
_MOST_BYTES = 8 << 20
_READ, _ENTER = 0o004, 0o001
_LONGEST_NAME = 255


class ConfigurationSource:
    """
    :param paths: files and directories, absolute.
    :param age: encrypts what may hold a secret; without it that is left out.
    """

    name = "configuration"

    def __init__(self, paths: t.Iterable[str], age: Age | None = None) -> None:
        self._paths = [Path(path) for path in dict.fromkeys(paths)]
        self._age = age

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        """A draft for each directory, and for each single file one of its own.

        ``facts``: ``left_out``, why a file is not in the backup, by its path; ``encrypted``, by the path in the backup
        of what may hold a secret, the ``reason`` and the ``mode`` that it had, and ``recipients``, who can open it;
        ``missing``, the given paths that are not there (of the first draft only); ``remarks``, sentences about them.

        :raises Failed: where none of the paths is there, one cannot be read, or it cannot be encrypted.
        :raises Changed: where one changed while it was looked at.
        """
        # One of another name may lead to the same.
        there = list(dict.fromkeys(path.resolve() for path in self._paths if path.is_dir() or path.is_file()))
        missing = [str(path) for path in self._paths if not path.is_dir() and not path.is_file()]
        if not there:
            raise Failed(f"none of {', '.join(missing)} is there; configuration_paths would name others")
        with self._age.scratch("secrets") if self._age else contextlib.nullcontext() as scratch:
            seal = _Seal(self._age, scratch) if self._age and scratch else None
            drafts = [_draft(path, seal) for path in there]
            drafts[0].facts["missing"] = missing
            if missing:
                drafts[0].facts["remarks"].append(f"{', '.join(missing)}: not there, so not in the backup.")
            yield drafts


def reason_to_leave_out(path: str, mode: int, content: bytes) -> str:
    """Why a file may hold a secret, a clause that quotes nothing of it; empty where it holds none.

    :param path: relative to the directory that was given.
    """
    pieces = path.lower().split("/")
    if any(fnmatch.fnmatch(piece, pattern) for piece in pieces for pattern in _NAMES):
        return "its name is that of a secret"
    if not mode & _READ:
        return "not everybody may read it"
    if b"\0" in content:
        return "it is no text"
    if _SHAPES.search(content) or _gives_a_secret(_LOADED.sub(b"", content)):
        return "it holds what looks like a secret"
    return ""


def _gives_a_secret(content: bytes) -> bool:
    return any(_is_given(content, found) for found in _KEY.finditer(content)) or any(
        not _ABOUT.fullmatch(_last_word(found["rest"])) and not _NO_VALUE.match(content, found.end())
        for found in _OPTION.finditer(content)
    )


def _is_given(content: bytes, found: re.Match[bytes]) -> bool:
    """Whether a key that speaks of a secret has one as its value."""
    rest, sign, at = found["rest"], found["sign"], found.end()
    if _ABOUT.fullmatch(_last_word(rest)):
        return False
    following = content[at : at + 1]
    before = content[max(0, found.start() - 80) : found.start()]
    # The label of a query, not the key of a setting.
    if sign == b"=" and following in (b'"', b"'", b"~") and _LABEL.search(before) and b"pass" not in found[0].lower():
        return False
    if sign == b":" and (following in (b"", b"\r", b"\n", b"#")):
        return bool(_NEXT_LINE.match(content, at))
    # What is in a mapping has keys of its own.
    if sign == b":" and following == b"{" and content[at : at + 2] != b"{{":
        return False
    return not _NO_VALUE.match(content, at) and not (rest and _NUMBER.match(content, at))


def _last_word(rest: bytes) -> bytes:
    """Of what follows in a key: ``file`` of ``_of_the_file``, ``File`` and ``.file``."""
    return re.split(rb"[_.-]|(?<=[a-z])(?=[A-Z])", rest)[-1]


class _Seal:
    """Encrypts files into a directory."""

    def __init__(self, age: Age, directory: Path) -> None:
        self.recipients = list(age.recipients)
        self._age = age
        self._directory = directory
        self._numbers = itertools.count()

    def encrypt(self, one: Candidate, content: bytes) -> Candidate:
        """What is stored instead of it.

        It is encrypted each time, and each time it is something else; with the same key the store has the former one.
        So a host that cannot encrypt any more says so the night after, not when a secret changes.
        """
        at = self._directory / str(next(self._numbers))
        try:
            self._age.encrypt(content, at)
        except Failed as error:
            raise Failed(f"{one.at}: {error}") from None
        return dataclasses.replace(
            one,
            path=f"{one.path}{SUFFIX}",
            at=at,
            size=at.stat().st_size,
            mode=0o600,
            # Nothing that is made of the content: a short secret could be guessed from it.
            key=f"{one.key} {self._age.mark}",
            inode=0,
        )


def _draft(path: Path, seal: _Seal | None) -> Draft:
    directories: tuple[Directory, ...] = ()
    others: tuple[str, ...] = ()
    if path.is_dir():
        directories, candidates, others = walk(str(path))
    else:
        candidates = (candidate(path.name, str(path), path.stat()),)
    closed = {one.path for one in directories if not one.mode & _ENTER}
    taken = {one.path for one in directories}
    kept, secrets, long, encrypted = [], {}, {}, {}
    for one in candidates:
        if one.size > _MOST_BYTES:
            long[one.path] = f"it is longer than {_MOST_BYTES >> 20} MiB"
            continue
        content = _content(one)
        reason = _reason(one, content, closed)
        if not reason:
            # Only what was looked at is taken: one that changes now may have become a secret.
            kept.append(dataclasses.replace(one, may_grow=False))
        elif seal is None:
            secrets[one.path] = reason
        elif not _is_free(f"{one.path}{SUFFIX}", taken):
            secrets[one.path] = f"{reason}, and {SUFFIX} cannot be put after that name"
        else:
            sealed = seal.encrypt(one, content)
            kept.append(sealed)
            encrypted[sealed.path] = {"reason": reason, "mode": one.mode}
    facts: dict[str, t.Any] = {"left_out": {**dict.fromkeys(others, "it is no regular file"), **long, **secrets}}
    remarks = []
    if encrypted and seal:
        facts.update(encrypted=encrypted, recipients=seal.recipients)
        remarks.append(f"{len(encrypted)} files of {path} may hold secrets and are in the backup, encrypted.")
    if secrets:
        remarks.append(f"{len(secrets)} files of {path} may hold secrets and are not in the backup.")
    if long:
        remarks.append(f"{len(long)} files of {path} are too long for configuration and are not in the backup.")
    # Two single files of one directory are two parts, so their root is the file.
    return Draft("configuration", str(path), directories, tuple(kept), {**facts, "remarks": remarks})


def _is_free(path: str, taken: t.Container[str]) -> bool:
    """Whether a file can have that path when it comes back; every file of such a name is itself encrypted."""
    return path not in taken and len(os.fsencode(path.rsplit("/", 1)[-1])) <= _LONGEST_NAME


def _content(one: Candidate) -> bytes:
    """
    :raises Changed: where it is not any more what was found.
    """
    try:
        with one.at.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
            status = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise Changed(f"{one.at} is not there any more") from error
    except OSError as error:
        raise Failed(f"{one.at} cannot be read: {error.strerror}") from error
    if not dataclasses.replace(one, may_grow=False).is_meant(status):
        raise Changed(f"{one.at} is not what it was a moment ago")
    return content


def _reason(one: Candidate, content: bytes, closed: t.Container[str]) -> str:
    if any(str(parent) in closed for parent in Path(one.path).parents):
        return "not everybody may read its directory"
    return reason_to_leave_out(one.path, one.mode, content)
