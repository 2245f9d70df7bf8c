# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A directory of Prometheus a second time: blocks by a second name of their files, what is written to by a copy."""

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

from .store import CHUNK, sync_directory, write_all


def mirror(source: Path, target: Path, put: t.Callable[[Path, Path], None]) -> None:
    """A directory with the same rights as another, and its files as ``put`` makes them, to stay.

    :param put: such as ``os.link``, or :func:`copy`.
    """
    status = source.stat()
    target.mkdir(mode=0o700)
    for entry in source.iterdir():
        if entry.is_dir():
            mirror(entry, target / entry.name, put)
        else:
            put(entry, target / entry.name)
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(stat.S_IMODE(status.st_mode))
    sync_directory(target)


def copy(source: Path, target: Path) -> None:
    """A file with its rights and times, synced."""
    status = source.stat()
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        chunk = old.read(CHUNK)
        while chunk:
            write_all(new.fileno(), chunk)
            chunk = old.read(CHUNK)
        os.fchown(new.fileno(), status.st_uid, status.st_gid)
        os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
        os.utime(new.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(new.fileno())
