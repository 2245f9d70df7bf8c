# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""The exchange of files: what is new comes into its place, and only then goes what it came from.

The order is that of :func:`commit`, and whatever interrupts it, :func:`recover` brings it to its end. A record of what
is intended is on the disk before the first rename; without one, nothing has been changed yet.
"""

from __future__ import annotations

import contextlib
import errno
import os
import typing as t
from pathlib import Path

from .state import (
    INTENT,
    Broken,
    Gone,
    Intent,
    Rename,
    append_consumed,
    read_consumed,
    read_intent,
    remove_intent,
    write_intent,
)
from .stream import Identity, file_hash, sync


class Changed(Exception):
    """A journal is not the one that was planned with any more, a clause."""


def open_files() -> tuple[set[tuple[int, int]], int]:
    """Device and inode of every regular file that a process has open, and of how many processes that is not known."""
    found: set[tuple[int, int]] = set()
    unknown = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            handles = list((process / "fd").iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            # ESRCH: it ended in this moment.
            unknown += error.errno != errno.ESRCH
            continue
        for handle in handles:
            with contextlib.suppress(OSError):
                status = handle.stat()
                found.add((status.st_dev, status.st_ino))
    return found, unknown


def commit(root: str, intent: Intent, is_open: t.Callable[[Identity], bool]) -> None:
    """Exchanges files, all of them or none.

    :raises Changed: where a source is not what it was, or somebody has it open; then nothing was changed.
    """
    if is_interrupted(root):
        raise Broken(f"{INTENT} is there")
    for source in intent.sources:
        status = _status(f"{root}/{source.path}")
        if status is None or Identity.of(status) != source.identity:
            raise Changed(f"{source.path} changed meanwhile")
        if is_open(source.identity):
            raise Changed(f"{source.path} was opened meanwhile")
    taken = _taken(root, intent)
    if taken:
        raise Changed(f"{taken} is there meanwhile")
    # The names of what was written.
    _sync_directories(root, intent)
    write_intent(root, intent)
    _exchange(root, intent, is_certain=True)


def recover(root: str, is_open: t.Callable[[Identity], bool]) -> Intent | None:
    """Brings an exchange that was interrupted to its end, or takes it back where that would lose or double something.

    :raises Changed: where somebody has a source open.
    :raises Broken: where neither can be done.
    """
    intent = read_intent(root)
    if intent is None:
        return None
    for source in intent.sources:
        if is_open(source.identity) and _is_same(root, source):
            raise Changed(f"{source.path} was opened meanwhile")
    doubt = _doubt(root, intent)
    if not doubt:
        _exchange(root, intent, is_certain=False)
        return intent
    if not all(_is_same(root, source) for source in intent.sources):
        raise Broken(f"{doubt}, and journals that went into it are gone; {INTENT} names them")
    paths = {source.path for source in intent.sources}
    for new in intent.renames:
        if os.path.lexists(f"{root}/{new.temporary}"):
            _unlink(f"{root}/{new.temporary}")
        elif new.path not in paths:
            _unlink(f"{root}/{new.path}")
    remove_intent(root)
    return intent


def _doubt(root: str, intent: Intent) -> str:
    """Why an exchange cannot be brought to its end, a clause; empty where it can."""
    for new in intent.renames:
        # Only a disk that says it has written what it has not comes here.
        if not _is_there(root, new):
            return f"{new.path} is neither in its place nor under {new.temporary} as it was written"
    for source in intent.sources:
        if _is_same(root, source) and not _is_source(root, source):
            return f"{source.path} changed after it was read"
    taken = _taken(root, intent)
    return f"{taken} was there before what should come into its place" if taken else ""


def _taken(root: str, intent: Intent) -> str:
    """A path that something else has which is not to go; empty where there is none."""
    paths = {source.path for source in intent.sources}
    for new in intent.renames:
        is_to_come = os.path.lexists(f"{root}/{new.temporary}")
        if is_to_come and new.path not in paths and os.path.lexists(f"{root}/{new.path}"):
            return new.path
    return ""


def discard(root: str, intent: Intent) -> None:
    """Removes what was written for an exchange that will not be."""
    for new in intent.renames:
        _unlink(f"{root}/{new.temporary}")


def is_interrupted(root: str) -> bool:
    """Whether an exchange has begun and not ended."""
    return os.path.lexists(f"{root}/{INTENT}")


def rename(root: str, old: str, new: str) -> None:
    """
    :raises Changed: where the new name is taken meanwhile.
    """
    if os.path.lexists(f"{root}/{new}"):
        raise Changed(f"{new} is there meanwhile")
    place = Path(root, new)
    Path(root, old).rename(place)
    sync(str(place.parent))


def _exchange(root: str, intent: Intent, is_certain: bool) -> None:
    """
    :param is_certain: what goes was looked at just now.
    """
    for new in intent.renames:
        if os.path.lexists(f"{root}/{new.temporary}"):
            Path(root, new.temporary).rename(Path(root, new.path))
        # Once more, like the directories, before it is all there is: a disk may have said that it had written what it
        # had not.
        sync(f"{root}/{new.path}")
    _sync_directories(root, intent)
    for source in intent.sources:
        if is_certain or _is_source(root, source):
            with contextlib.suppress(FileNotFoundError):
                # Where a rename took its place it is gone already.
                if Identity.of(Path(root, source.path).lstat()) == source.identity:
                    Path(root, source.path).unlink()
    _sync_directories(root, intent)
    known = set(read_consumed(root)) if not is_certain else set()
    append_consumed(root, [entry for entry in intent.consumed if entry not in known])
    _sync_directories(root, intent)
    remove_intent(root)


def _sync_directories(root: str, intent: Intent) -> None:
    """The one of the record first: nothing that it speaks of may be on the disk without it."""
    paths = [new.path for new in intent.renames] + [source.path for source in intent.sources]
    for directory in [root, *sorted({str(Path(root, path).parent) for path in paths} - {root})]:
        sync(directory)


def _is_there(root: str, new: Rename) -> bool:
    for path in (new.temporary, new.path):
        status = _status(f"{root}/{path}")
        if status is not None and status.st_size == new.size and file_hash(f"{root}/{path}") == new.digest:
            return True
    return False


def _is_same(root: str, source: Gone) -> bool:
    """Whether it is there, whatever was added to it."""
    status = _status(f"{root}/{source.path}")
    return status is not None and Identity.of(status)[:2] == source.identity[:2]


def _is_source(root: str, source: Gone) -> bool:
    status = _status(f"{root}/{source.path}")
    return (
        status is not None
        and Identity.of(status) == source.identity
        and file_hash(f"{root}/{source.path}") == source.digest
    )


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
