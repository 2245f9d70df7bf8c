# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""What a clean-up keeps beside the journals, under names that begin with a dot.

``STATE`` remembers what each file holds: without it, every file is read once more. ``CONSUMED`` remembers which
journals went into a roll-up, so that one that comes back from a backup is not counted twice. ``INTENT`` is there only
while files are being exchanged.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from pathlib import Path

from .stream import Identity, sync

OURS = ".metrics-cleanup."
STATE, CONSUMED, INTENT = (f"{OURS}{name}" for name in ("state", "consumed", "intent"))
NEW = f"{OURS}new."
_SCHEMA = 1

# (UTC day in days since the epoch, resolution in seconds): number of lines.
Holdings = t.Dict[t.Tuple[int, int], int]


class Facts(t.NamedTuple):
    """What a settled journal holds.

    :param first: time of its oldest record, ``last`` of its newest, nanoseconds since the epoch; 0 where it has none.
    :param content: SHA-256 of its lines.
    :param bytes: of its lines.
    """

    holdings: Holdings
    rejected: int
    first: int
    last: int
    content: str
    bytes: int


class Known(t.NamedTuple):
    """What is remembered of a file; ``oldest`` and ``newest`` are days."""

    kind: str
    oldest: int | None
    newest: int | None
    facts: Facts | None = None


# By path, identity and time of the last change.
Remembered = t.Callable[[str, Identity, int], t.Optional[Known]]


class Rename(t.NamedTuple):
    """:param digest: SHA-256 of the file as it lies on the disk."""

    temporary: str
    path: str
    size: int
    digest: str


class Consumed(t.NamedTuple):
    """A journal that went into a roll-up.

    :param content: SHA-256 of its lines.
    :param day: for which it did.
    """

    content: str
    path: str
    target: str
    day: int


class Gone(t.NamedTuple):
    """A journal that is to be removed, and which one it is."""

    path: str
    identity: Identity
    digest: str


class Intent(t.NamedTuple):
    """The exchange of some files for others: once it is on the disk it is brought to its end, whatever happens."""

    renames: list[Rename]
    sources: list[Gone]
    consumed: list[Consumed]


class Broken(Exception):
    """A file of ours that is not as we wrote it, a sentence without its final point."""


class Last(t.NamedTuple):
    """The last run that was no dry one.

    :param ended: unix seconds.
    :param actions: number of files by what was done to them.
    :param left: number of files that something was to be done to, and was not.
    """

    ended: float
    actions: dict[str, int]
    left: int


class State(t.NamedTuple):
    """
    :param files: identity, time of the last change, and what is known, by path.
    :param last: None where there was no run, as far as is known.
    """

    files: dict[str, tuple[Identity, int, Known]]
    last: Last | None


def read_state(root: str) -> State:
    """What cannot be read is not remembered: it costs time, and nothing else."""
    try:
        with Path(root, STATE).open(encoding="utf-8") as file:
            document = json.load(file)
        if document["schema"] != _SCHEMA:
            return State({}, None)
        files = {path: _remembered(row) for path, row in document["files"].items()}
        return State(files, document["last"] and Last(*document["last"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State({}, None)


def write_state(root: str, state: State) -> None:
    rows = {path: _row(*entry) for path, entry in state.files.items()}
    _replace(root, STATE, json.dumps({"schema": _SCHEMA, "files": rows, "last": state.last}))


def read_consumed(root: str) -> list[Consumed]:
    """
    :raises OSError: where it is there and cannot be read.
    """
    found = []
    with contextlib.suppress(FileNotFoundError), Path(root, CONSUMED).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            # The last line may have been cut off; its intent is then still there, and says it again.
            with contextlib.suppress(ValueError, TypeError):
                found.append(Consumed(*json.loads(line)))
    return found


def write_consumed(root: str, entries: t.Iterable[Consumed]) -> None:
    _replace(root, CONSUMED, "".join(f"{json.dumps(entry)}\n" for entry in entries))


def append_consumed(root: str, entries: t.Sequence[Consumed]) -> None:
    if not entries:
        return
    with Path(root, CONSUMED).open("a", encoding="utf-8") as file:
        # What was cut off before must not swallow the next line.
        file.write("".join(f"\n{json.dumps(entry)}" for entry in entries) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_intent(root: str) -> Intent | None:
    """
    :raises Broken: where it is there, and no such record.
    """
    try:
        with Path(root, INTENT).open(encoding="utf-8") as file:
            document = json.load(file)
        return Intent(
            [Rename(*row) for row in document["renames"]],
            [Gone(path, Identity(*identity), digest) for path, identity, digest in document["sources"]],
            [Consumed(*row) for row in document["consumed"]],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Broken(f"{root}/{INTENT} is not as it was written: {error}") from error


def write_intent(root: str, intent: Intent) -> None:
    _replace(root, INTENT, json.dumps(intent._asdict()))


def remove_intent(root: str) -> None:
    Path(root, INTENT).unlink()
    sync(root)


def _replace(root: str, name: str, text: str) -> None:
    new = Path(root, f"{NEW}{name}")
    with new.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(Path(root, name))
    # The file once more: a record that is there and empty would be worse than none.
    sync(f"{root}/{name}")
    sync(root)


def _row(identity: Identity, modified: int, known: Known) -> list[t.Any]:
    facts = known.facts
    holdings = [[*key, lines] for key, lines in facts.holdings.items()] if facts else None
    return [identity, modified, known[:3], facts and [holdings, *facts[1:]]]


def _remembered(row: list[t.Any]) -> tuple[Identity, int, Known]:
    identity, modified, known, facts = row
    found = None
    if facts:
        holdings = {(day, resolution): lines for day, resolution, lines in facts[0]}
        found = Facts(holdings, *facts[1:])
    kind, oldest, newest = known
    return Identity(*identity), modified, Known(kind, oldest, newest, found)
