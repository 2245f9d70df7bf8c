# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A part of a backup as files again, in a directory of its own."""

from __future__ import annotations

import concurrent.futures
import grp
import os
import pwd
import typing as t
from pathlib import Path

from .manifest import Directory, File, Part
from .store import Store, sync_directory

# Whose files they are: numbers of user and group.
Owner = t.Tuple[int, int]


def lay(
    store: Store,
    part: Part,
    target: Path,
    owner: Owner | None = None,
    wanted: t.Callable[[str], bool] = lambda _path: True,
    jobs: int = 2,
) -> int:
    """Writes the files of a part, each checked by its hash, and returns once they stay whatever happens to the power.

    :param target: an empty directory.
    :param owner: whose they become; those of the manifest where it is not given.
    :param wanted: asked for each path; of the others nothing is written.
    :return: how many bytes were written.
    :raises Damaged: where the store has not what the manifest says; the directory is then of no use.
    :raises OSError: where it cannot be written.
    """
    files = [file for file in part.files if wanted(file.path)]
    above = {str(parent) for file in files for parent in Path(file.path).parents} - {"."}
    known = {directory.path: directory for directory in part.directories}
    for path in sorted(above | {path for path in known if wanted(path)}):
        (target / path).mkdir(mode=0o700)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        written = [pool.submit(_write, store, file, target, owner) for file in files]
        try:
            for future in written:
                future.result()
        except BaseException:
            for future in written:
                future.cancel()
            raise
    # From the bottom up: a directory without the right to write is finished before its own name is.
    for path in sorted(above | {path for path in known if wanted(path)}, reverse=True):
        _finish(target / path, known.get(path), owner)
    sync_directory(target)
    return sum(file.size for file in files)


def _write(store: Store, file: File, target: Path, owner: Owner | None) -> None:
    handle = os.open(target / file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as new:
        store.copy(file, new)
        os.fchown(handle, *(owner or ids(file.owner, file.group)))
        os.fchmod(handle, file.mode)
        os.utime(handle, ns=(file.modified, file.modified))
        os.fsync(handle)


def _finish(path: Path, directory: Directory | None, owner: Owner | None) -> None:
    if directory:
        os.chown(path, *(owner or ids(directory.owner, directory.group)))
        path.chmod(directory.mode)
    else:
        os.chown(path, *(owner or (-1, -1)))
        path.chmod(0o755)
    sync_directory(path)


def ids(owner: str, group: str) -> Owner:
    """Numbers of a user and a group of this host; what it does not know by its name becomes root's."""
    try:
        user = int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    except KeyError:
        user = 0
    try:
        return user, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        return user, 0


def names(status: os.stat_result) -> tuple[str, str]:
    """Owner and group of a file, by name where this host has one."""
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    try:
        return owner, grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return owner, str(status.st_gid)
