# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Where reports are kept: a directory of pages by time and procedure, and one line of history for each.

In the directory: ``<time>_<procedure>.<kind>``, ``latest-<procedure>.html``, ``history-<procedure>.jsonl``. Whoever
writes holds a lock on the directory itself, so that two reports at once lose nothing and a reader needs no file.
Every file is whole or not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
import typing as t
from pathlib import Path

PROCEDURE = re.compile(r"[a-z][a-z0-9_]*\Z")
# A report needs no more of its past than its page shows.
MOST_READ = 40
LOCK_SECONDS = 30.0
_TEMPORARY = ".njord-report-"


class StoreError(Exception):
    """The reports cannot be kept or read; says where and why."""


@contextlib.contextmanager
def _explained(what: str, path: Path) -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what} {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(directory: Path, seconds: float) -> t.Iterator[None]:
    descriptor = os.open(str(directory), os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreError(f"another report has held {directory} for {seconds:g} seconds") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str, mode: int) -> None:
    """Puts a file in place at once. Its temporary name is removed first: a link there would lead elsewhere."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        descriptor = os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


class Store:
    """The reports of one procedure in a directory.

    :param procedure: its importable name, such as ``maintenance_weekly``.
    :raises ValueError: where the name could lead out of the directory.
    """

    def __init__(self, directory: Path, procedure: str, lock_seconds: float = LOCK_SECONDS) -> None:
        if not PROCEDURE.match(procedure):
            raise ValueError(f"procedure {procedure!r} is no importable name; maintenance_weekly would be one")
        self.directory = directory
        self.latest = directory / f"latest-{procedure}.html"
        self._history = directory / f"history-{procedure}.jsonl"
        self._procedure = procedure
        self._lock_seconds = lock_seconds
        self._ours = re.compile(rf"(\d{{8}}T\d{{6}}Z_{procedure}(?:-\d+)?)\.[a-z]+\Z")

    def history(self) -> list[str]:
        """The last lines of history, the oldest first; none where nothing was kept yet.

        :raises StoreError: where there is something that cannot be read.
        """
        with _explained("cannot read", self._history):
            try:
                return self._history.read_text(encoding="utf-8", errors="replace").splitlines()[-MOST_READ:]
            except FileNotFoundError:
                return []

    def keep(self, moment: str, files: t.Mapping[str, str], keep: int, line: str | None = None) -> Path:
        """Adds a report, and removes the oldest ones of the procedure beyond ``keep``.

        :param moment: when, as ``20261003T021500Z``. A second report of the same second gets a number.
        :param files: ending (``html``) to content.
        :param line: what later reports need to know of this one, as one line; None keeps no history.
        :returns: path of the page.
        :raises StoreError: nothing of the report is left behind then.
        """
        with _explained("cannot make", self.directory):
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        with _explained("cannot write into", self.directory), _locked(self.directory, self._lock_seconds):
            stem = self._free(f"{moment}_{self._procedure}")
            written = [self.directory / f"{stem}.{ending}" for ending in files]
            try:
                for path, text in zip(written, files.values()):
                    _write(path, text, 0o640)
                _write(self.latest, files["html"], 0o640)
                if line is not None:
                    lines = [*self._all_lines()[-(keep - 1) :], line] if keep > 1 else [line]
                    _write(self._history, "".join(f"{entry}\n" for entry in lines), 0o640)
            except BaseException:
                for path in written:
                    with contextlib.suppress(OSError):
                        path.unlink()
                raise
            self._remove_oldest(keep)
        return self.directory / f"{stem}.html"

    def _all_lines(self) -> list[str]:
        try:
            return self._history.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _free(self, stem: str) -> str:
        taken = {stem for stem, _path in self._reports()}
        number = 2
        free = stem
        while free in taken:
            free = f"{stem}-{number}"
            number += 1
        return free

    def _remove_oldest(self, keep: int) -> None:
        reports = self._reports()
        kept = set(sorted({stem for stem, _path in reports})[-keep:])
        # Under the lock nobody is writing: a temporary file is what a killed run left.
        for path in [path for stem, path in reports if stem not in kept] + list(self.directory.glob(f"{_TEMPORARY}*")):
            path.unlink()

    def _reports(self) -> list[tuple[str, Path]]:
        """Files of the procedure's reports, each with the stem of its report."""
        found = ((path, self._ours.match(path.name)) for path in self.directory.iterdir())
        return [(match.group(1), path) for path, match in found if match]


def is_directory(path: Path) -> bool:
    """Whether a directory is there; one that may not be looked at counts as there, so that a write says why."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def write_metrics(directory: Path, procedure: str, text: str) -> Path:
    """Puts the metrics of a run where the text-file collector reads them, readable for everyone.

    :raises StoreError: where that fails.
    """
    path = directory / f"njord_maintenance_{procedure}.prom"
    with _explained("cannot write", path), _locked(directory, LOCK_SECONDS):
        _write(path, text, 0o644)
    return path
