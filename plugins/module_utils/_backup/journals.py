# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The journals as a source: whole directories, as no clean-up changes them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
import typing as t
from pathlib import Path, PurePosixPath

from .._journal.account import shown
from .._journal.files import File
from .._journal.files import walk as walk_journals
from .._journal.format import METRICS, is_aside
from .._journal.lock import PATIENCE_SECONDS, Busy, locked
from .._journal.state import CONSUMED, INTENT, OURS
from .._journal.stream import Damaged
from .catalogue import DAMAGED, Catalogue, Missing
from .create import Candidate, Draft, Failed
from .figures import Figures, Journal, of_journals, read
from .lay import names
from .tree import walk

_DAY = 86400
_NAMED = 20

# By path: the key under which a backup has a journal, and what that holds.
Former = t.Dict[str, t.Tuple[str, Journal]]


class JournalsSource:
    """
    :param directories: absolute; one that is a link is taken where it leads.
    :param catalogue: whose last backup knows what a journal holds that has not changed since.
    :param patience: seconds that a clean-up is waited for.
    """

    name = "journals"

    def __init__(
        self,
        directories: t.Iterable[str],
        patience: float = PATIENCE_SECONDS,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._roots = list(dict.fromkeys(map(os.path.realpath, directories)))
        self._catalogue = catalogue
        self._patience = patience

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        """A draft for each directory. As long as it is open, no clean-up changes one of them; writers go on.

        ``facts``: ``mode``, ``owner`` and ``group`` of the directory; ``today`` (in days since the epoch), ``figures``
        (see :func:`figures`) and the ``journals`` that they are made of, or why there are none, ``figures_error``;
        ``remarks``, sentences about what is not in the backup.

        :raises Failed: where one is missing or empty, or a clean-up of it was interrupted.
        :raises Changed: where it changed while it was looked at.
        """
        with contextlib.ExitStack() as stack:
            for root in self._roots:
                if not Path(root).is_dir():
                    raise Failed(f"there is no journal directory {root}; journal_dir would name the one that is meant")
                try:
                    stack.enter_context(locked(root, shared=True, patience=self._patience))
                except Busy as error:
                    raise Failed(f"{root} cannot be taken as it is: {error}") from error
            yield [_draft(root, _former(self._catalogue, root)) for root in self._roots]


def figures(root: Path, today: int) -> Figures:
    """What a directory of journals holds: figures of the days that are over, see :mod:`.figures`, and how many files of
    other kinds.

    :param today: the UTC day, in days since the epoch; what is of that day may still grow.
    :raises Failed: where a file cannot be told apart from another one of the same name.
    """
    return _count_all(root, today, lambda _path: None)[0]


def _count_all(
    root: Path, today: int, remembered: t.Callable[[str], Journal | None]
) -> tuple[Figures, dict[str, Journal | None], list[File]]:
    """Figures, the journals of metrics that they are made of, None for a damaged one, and these as files."""
    tree, _unread = walk_journals(str(root), today, None, lambda _path, _identity, _modified: None)
    if tree.problems:
        raise Failed(f"{tree.problems[0].path}: {tree.problems[0].reason}")
    others: Figures = {}
    counted: list[File] = []
    journals: dict[str, Journal | None] = {}
    for file in tree.files.values():
        # By name and ends only: whoever counts again has no more than these.
        if file.kind != METRICS or not tree.is_settled(file):
            _count(others, f"files of {file.kind}")
            continue
        counted.append(file)
        try:
            journals[file.path] = remembered(file.path) or read(file)
        except Damaged:
            journals[file.path] = None
            _count(others, "damaged journals")
    return {**others, **of_journals(one for one in journals.values() if one)}, journals, counted


def _draft(root: str, former: Former) -> Draft:
    if Path(root, INTENT).exists():
        raise Failed(
            f"a clean-up of {root} was interrupted; metrics-cleanup brings it to its end, then a backup is whole"
        )
    found = walk(root, is_wanted)
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
    try:
        facts.update(_figures_of(root, today, former, found.candidates))
    except (Failed, OSError) as error:
        facts["figures_error"] = shown(str(error))
    return Draft("journals", root, found.directories, found.candidates, facts)


def _figures_of(root: str, today: int, former: Former, candidates: t.Iterable[Candidate]) -> dict[str, t.Any]:
    """Figures of what is taken, as facts.

    :raises Failed: where a journal was not left alone while it was counted, or cannot be told apart.
    """
    taken = {one.path: dataclasses.replace(one, may_grow=False) for one in candidates}

    def remembered(path: str) -> Journal | None:
        key, journal = former.get(path, ("", None))
        return journal if path in taken and taken[path].key == key else None

    found, journals, counted = _count_all(Path(root), today, remembered)
    for file in counted:
        if file.path not in taken or not taken[file.path].is_meant(Path(file.at).lstat()):
            raise Failed(f"{file.path} was written to while it was counted")
    return {"figures": found, "journals": {path: one.row() for path, one in journals.items() if one}}


def _former(catalogue: Catalogue | None, root: str) -> Former:
    """What the last sound backup of a directory knows of its journals."""
    if catalogue is None:
        return {}
    try:
        entries = catalogue.entries()
    except Missing:
        return {}
    for entry in reversed(entries):
        for part in entry.manifest.part(JournalsSource.name) if entry.manifest else ():
            if part.root == root and "journals" in part.facts and entry.state(part).level != DAMAGED:
                rows = part.facts["journals"]
                return {file.path: (file.key, Journal.of(rows[file.path])) for file in part.files if file.path in rows}
    return {}


def is_wanted(path: str) -> bool:
    """Of our own files only the one without which a journal that comes back could be counted twice."""
    name = PurePosixPath(path).name
    return not is_aside(path) and (not name.startswith(OURS) or name == CONSUMED)


def _count(found: Figures, name: str) -> None:
    found[name] = found.get(name, 0) + 1
