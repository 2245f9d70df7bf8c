# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether the files of rules on the disk are those that Prometheus has loaded.

``promtool check config`` takes a pattern that no file fits, and a file that came after the last reload is not loaded.

Source: the audit of the runbook, "Prometheus API".
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t
from pathlib import Path

_RULE = re.compile(rb"\b(?:alert|record)[\"']?\s*:")
_SPECIAL = re.compile(r"[*?\[]")
# A file is written before the reload that reads it; clocks of file systems are coarse.
_SLACK = 1.0


class NotRead(Exception):
    """The files cannot be told from here. Says why, as a clause."""


@dataclasses.dataclass(frozen=True)
class Look:
    """
    :param empty: patterns that no file fits.
    :param not_loaded: files with rules that fit a pattern, and that the server has none of.
    :param changed: files that were changed after the last reload, with the time of that change in unix seconds.
    :param gone: files whose rules the server has, and that are not there any more.
    :param count: files that fit a pattern.
    """

    empty: list[str]
    not_loaded: list[str]
    changed: dict[str, float]
    gone: list[str]
    count: int

    @property
    def is_well(self) -> bool:
        return not (self.empty or self.not_loaded or self.changed or self.gone)


def look(patterns: t.Sequence[str], directory: Path, loaded: t.AbstractSet[str], reloaded: float | None) -> Look:
    """
    :param directory: what a relative pattern is relative to.
    :param loaded: files of the rules that the server has.
    :param reloaded: unix seconds of its last reload; None where it does not say.
    :raises NotRead: where a directory or a file cannot be read.
    """
    known = {directory / name for name in loaded}
    try:
        fitting = {pattern: _fitting(directory / pattern) for pattern in patterns}
        files = dict.fromkeys(path for found in fitting.values() for path in found)
        not_loaded = [str(path) for path in files if path not in known and _RULE.search(path.read_bytes())]
        times = {str(path): path.stat().st_mtime for path in files if path in known}
    except OSError as error:
        raise NotRead(f"{error.filename}: {error.strerror}") from error
    return Look(
        empty=[pattern for pattern, found in fitting.items() if not found],
        not_loaded=not_loaded,
        changed={name: at for name, at in times.items() if reloaded is not None and at > reloaded + _SLACK},
        gone=sorted(str(path) for path in known - set(files)),
        count=len(files),
    )


def _fitting(pattern: Path) -> list[Path]:
    """As Go does it: ``*`` fits a name that begins with a point too."""
    if "\\" in str(pattern):
        raise NotRead(f"the pattern {pattern} has a \\, which is not read here")
    found = [Path(pattern.anchor)]
    for part in pattern.parts[1:]:
        if not _SPECIAL.search(part):
            found = [path / part for path in found]
            continue
        expression = part.replace("[^", "[!")
        inside = [child for path in found if path.is_dir() for child in sorted(path.iterdir())]
        found = [path for path in inside if fnmatch.fnmatchcase(path.name, expression)]
    return [path for path in found if path.exists()]
