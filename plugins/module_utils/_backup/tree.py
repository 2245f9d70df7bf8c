# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A directory as a part of a backup: what lies in it, as regular files and directories."""

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

from .create import Candidate, Failed
from .lay import names
from .manifest import Directory
from .store import Changed

_LOOKS = 5


class Found(t.NamedTuple):
    """:param others: links, sockets and the like, which are not taken."""

    directories: tuple[Directory, ...]
    candidates: tuple[Candidate, ...]
    others: tuple[str, ...]


def walk(root: str, wanted: t.Callable[[str], bool] = lambda _path: True) -> Found:
    """Everything below a directory, in order; no link is followed.

    :param wanted: asked for each regular file and each directory by its path; what lies below is part of that.
    :raises Failed: where a directory cannot be read.
    :raises Changed: where it goes on changing.
    """
    directories: list[Directory] = []
    candidates: list[Candidate] = []
    others: list[str] = []
    pending = [""]
    while pending:
        below = pending.pop()
        for path, at, status in _entries(root, below):
            if stat.S_ISDIR(status.st_mode):
                if wanted(path):
                    directories.append(Directory(path, stat.S_IMODE(status.st_mode), *names(status)))
                    pending.append(path)
            elif stat.S_ISREG(status.st_mode):
                if wanted(path):
                    candidates.append(candidate(path, at, status))
            else:
                others.append(path)
    return Found(
        tuple(sorted(directories, key=lambda one: one.path)),
        tuple(sorted(candidates, key=lambda one: one.path)),
        tuple(sorted(others)),
    )


def candidate(path: str, at: str, status: os.stat_result) -> Candidate:
    """A file that is taken as it is now; any change of it gives it another key."""
    owner, group = names(status)
    return Candidate(
        path=path,
        at=Path(at),
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        owner=owner,
        group=group,
        modified=status.st_mtime_ns,
        inode=status.st_ino,
        key=f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}",
    )


def _entries(root: str, below: str) -> list[tuple[str, str, os.stat_result]]:
    """Path, where it lies, and status of what a directory holds, all at one moment.

    A journal that is rotated between its name was read and its status was would be in neither place.
    """
    directory = f"{root}/{below}" if below else root
    former: dict[str, os.stat_result] = {}
    for _look in range(_LOOKS):
        try:
            found = _statuses(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Failed(f"{directory} cannot be read: {error.strerror}") from error
        if _inodes(found) == _inodes(former):
            break
        former = found
    else:
        raise Changed(f"{directory} holds other files at every look")
    return [(f"{below}/{name}" if below else name, f"{directory}/{name}", former[name]) for name in found]


def _statuses(directory: str) -> dict[str, os.stat_result]:
    with os.scandir(directory) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _inodes(statuses: dict[str, os.stat_result]) -> dict[str, int]:
    return {name: status.st_ino for name, status in statuses.items()}
