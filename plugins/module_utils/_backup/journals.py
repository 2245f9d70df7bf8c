# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The journals as a source: whole directories, as no clean-up changes them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import stat
import time
import typing as t
from pathlib import Path, PurePosixPath

from .._journal.account import shown
from .._journal.exchange import Busy, locked
from .._journal.files import File, scan
from .._journal.files import walk as walk_journals
from .._journal.format import METRICS, resolution_name
from .._journal.state import CONSUMED, INTENT, OURS, Known, read_state
from .._journal.stream import Damaged, Identity
from .create import Candidate, Draft, Failed
from .lay import names
from .tree import walk

_DAY = 86400
# A clean-up of a first night takes minutes.
PATIENCE_SECONDS = 600.0
_NAMED = 20


class JournalsSource:
    """
    :param directories: absolute; one that is a link is taken where it leads.
    :param patience: seconds that a clean-up is waited for.
    """

    name = "journals"

    def __init__(self, directories: t.Iterable[str], patience: float = PATIENCE_SECONDS) -> None:
        self._roots = list(dict.fromkeys(map(os.path.realpath, directories)))
        self._patience = patience

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        """A draft for each directory. As long as it is open, no clean-up changes one of them; writers go on.

        ``facts``: ``mode``, ``owner`` and ``group`` of the directory; ``today`` (in days since the epoch), ``figures``
        (see :func:`figures`) or why there are none, ``figures_error``; ``remarks``, sentences about what is
        not in the backup.

        :raises Failed: where one is missing or empty, or a clean-up of it was interrupted.
        :raises Changed: where it changed while it was looked at.
        """
        with contextlib.ExitStack() as stack:
            for root in self._roots:
                if not Path(root).is_dir():
                    raise Failed(f"there is no journal directory {root}; journal_dir would name the one that is meant")
                stack.enter_context(self._without_clean_up(root))
            yield [_draft(root) for root in self._roots]

    @contextlib.contextmanager
    def _without_clean_up(self, root: str) -> t.Iterator[None]:
        deadline = time.monotonic() + self._patience
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(locked(root, shared=True))
                except Busy as error:
                    if time.monotonic() >= deadline:
                        raise Failed(f"{root} cannot be taken as it is: {error}") from error
                else:
                    yield
                    return
            time.sleep(min(1.0, self._patience / 10))


def figures(
    root: Path, today: int, remembered: t.Callable[[str, Identity, int], Known | None] | None = None
) -> dict[str, int]:
    """What a directory of journals holds: lines of metrics by UTC day and resolution, of days that are over, and how
    many files of other kinds.

    :param today: the UTC day, in days since the epoch; what is of that day may still grow.
    :param remembered: what the clean-up knows of its files already.
    :raises Failed: where a file cannot be told apart from another one of the same name.
    """
    return _count_all(root, today, remembered)[0]


def _count_all(
    root: Path, today: int, remembered: t.Callable[[str, Identity, int], Known | None] | None = None
) -> tuple[dict[str, int], list[File]]:
    """Figures, and the journals whose lines are in them."""
    tree, _unread = walk_journals(str(root), today, None, remembered or (lambda _path, _identity, _modified: None))
    if tree.problems:
        raise Failed(f"{tree.problems[0].path}: {tree.problems[0].reason}")
    found: dict[str, int] = {}
    counted: list[File] = []
    for file in tree.files.values():
        # By name and ends only: whoever counts again has no more than these.
        if file.kind != METRICS or not tree.is_settled(dataclasses.replace(file, facts=None)):
            _count(found, f"files of {file.kind}", 1)
            continue
        counted.append(file)
        try:
            facts = file.facts or scan(file)
        except Damaged:
            _count(found, "damaged journals", 1)
            continue
        _count(found, "rejected lines", facts.rejected)
        for (day, interval), lines in facts.holdings.items():
            date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
            _count(found, f"{date} {resolution_name(interval)}", lines)
    return found, counted


def _draft(root: str) -> Draft:
    if Path(root, INTENT).exists():
        raise Failed(
            f"a clean-up of {root} was interrupted; metrics-cleanup brings it to its end, then a backup is whole"
        )
    found = walk(root, _is_wanted)
    if not found.candidates:
        raise Failed(f"{root} holds no file: nothing is written there, or journal_dir names the wrong directory")
    today = int(time.time()) // _DAY
    status = Path(root).stat()
    owner, group = names(status)
    facts: dict[str, t.Any] = {
        "today": today,
        "remarks": [],
        "mode": stat.S_IMODE(status.st_mode),
        "owner": owner,
        "group": group,
    }
    if found.others:
        facts["remarks"].append(
            f"{len(found.others)} entries of {root} are no regular files and are not in the backup, such as"
            f" {shown(', '.join(found.others[:_NAMED]))}."
        )
    known = read_state(root).files

    def remembered(path: str, identity: Identity, modified: int) -> Known | None:
        entry = known.get(path)
        return entry[2] if entry and entry[:2] == (identity, modified) else None

    try:
        facts["figures"] = _figures_of(root, today, remembered, found.candidates)
    except (Failed, OSError) as error:
        facts["figures_error"] = shown(str(error))
    return Draft("journals", root, found.directories, found.candidates, facts)


def _figures_of(
    root: str,
    today: int,
    remembered: t.Callable[[str, Identity, int], Known | None],
    candidates: t.Iterable[Candidate],
) -> dict[str, int]:
    """Figures of what is taken.

    :raises Failed: where a journal was not left alone while it was counted, or cannot be told apart.
    """
    found, counted = _count_all(Path(root), today, remembered)
    taken = {one.path: dataclasses.replace(one, may_grow=False) for one in candidates}
    for file in counted:
        if file.path not in taken or not taken[file.path].is_meant(Path(file.at).lstat()):
            raise Failed(f"{file.path} was written to while it was counted")
    return found


def _is_wanted(path: str) -> bool:
    """Of our own files only the one without which a journal that comes back could be counted twice."""
    name = PurePosixPath(path).name
    return not name.startswith(OURS) or name == CONSUMED


def _count(found: dict[str, int], name: str, more: int) -> None:
    if more:
        found[name] = found.get(name, 0) + more
