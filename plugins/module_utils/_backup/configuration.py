# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Configuration as a source: rules, scrape files, units. What is or holds a secret is left out, and named."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import typing as t
from pathlib import Path

from .create import Candidate, Draft, Failed
from .tree import candidate, walk

# A secret by its name; base.yaml holds the passwords of the database and of Redis.
_NAMES = (
    *("*.key", "*.pem", "*.p12", "*.pfx", "id_*", "*.age", "*.asc", "*.gpg", "*.env", ".env*"),
    *(
        "*password*",
        "*passwd*",
        "*secret*",
        "*token*",
        "*credential*",
        "*shadow*",
        "web.yml",
        "web-config*",
        "base.yaml",
    ),
)
# A secret by what it says, on a line of its own.
_CONTENT = re.compile(
    rb"PRIVATE KEY-----"
    rb"|^\s*-?\s*[\"']?(?:\w*(?:password|passwd|secret|token|api_?key)|credentials|authorization)[\"']?\s*[:=]\s*[\"']?[^\s\"'#{$<]"
    rb"|^\s*basic_auth_users\s*:"
    rb"|[a-z][a-z0-9+.-]*://[^/\s:@\"']*:[^/\s@\"']+@",
    re.IGNORECASE | re.MULTILINE,
)
# A key that only names the file of a secret is none.
_NAMES_A_FILE = re.compile(rb"^\s*-?\s*[\"']?\w*(?:_file|_path|_ref)[\"']?\s*[:=]", re.IGNORECASE)
# Configuration is short; what is longer is something else.
_MOST_BYTES = 8 << 20
_ANYBODY = 0o004


class ConfigurationSource:
    """
    :param paths: files and directories, absolute.
    """

    name = "configuration"

    def __init__(self, paths: t.Iterable[str]) -> None:
        self._paths = [Path(path) for path in dict.fromkeys(paths)]

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        """A draft for each directory, and for each single file one of its directory.

        ``facts``: ``left_out``, why a file is not in the backup, by its path; ``remarks``, sentences about that.

        :raises Failed: where none of the paths is there, or one cannot be read.
        """
        there = [path for path in self._paths if path.exists()]
        if not there:
            raise Failed(f"none of {', '.join(map(str, self._paths))} is there; configuration_paths would name others")
        yield [_draft(path) for path in there]


def reason_to_leave_out(path: str, mode: int, content: bytes) -> str:
    """Why a file may hold a secret, a clause that quotes nothing of it; empty where it holds none."""
    name = path.rsplit("/", 1)[-1].lower()
    if any(fnmatch.fnmatch(name, pattern) for pattern in _NAMES):
        return "its name is that of a secret"
    if not mode & _ANYBODY:
        return "not everybody may read it"
    if any(
        not _NAMES_A_FILE.match(content, content.rfind(b"\n", 0, found.start() + 1) + 1)
        for found in _CONTENT.finditer(content)
    ):
        return "it holds what looks like a secret"
    return ""


def _draft(path: Path) -> Draft:
    if path.is_dir():
        root = str(path.resolve())
        found = walk(root)
        directories, candidates, others = found
    else:
        root, directories, others = str(path.resolve().parent), (), ()
        candidates = (candidate(path.resolve().name, str(path.resolve()), path.stat()),)
    left_out = {one.path: reason for one in candidates for reason in [_reason(one)] if reason}
    left_out.update(dict.fromkeys(others, "it is no regular file"))
    remarks = []
    secrets = [name for name, reason in left_out.items() if name not in others]
    if secrets:
        remarks.append(f"{len(secrets)} files of {root} may hold secrets and are not in the backup.")
    kept = tuple(one for one in candidates if one.path not in left_out)
    if not path.is_dir():
        # Two single files of one directory are two parts.
        root = str(path.resolve())
    return Draft("configuration", root, directories, kept, {"left_out": left_out, "remarks": remarks})


def _reason(one: Candidate) -> str:
    if one.size > _MOST_BYTES:
        return f"it is longer than {_MOST_BYTES >> 20} MiB"
    try:
        content = one.at.read_bytes()
    except OSError as error:
        raise Failed(f"{one.at} cannot be read: {error.strerror}") from error
    return reason_to_leave_out(one.path, one.mode, content)
