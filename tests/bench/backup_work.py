# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.bench.backup_work VERB CATALOGUE PATH``: one piece of a backup's work, in a process of its own.

It prints the seconds of the work alone, and the most memory that the process had, in bytes, as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._backup.carry import pack, unpack
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Candidate, Draft, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay, names
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Directory, Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.store import CHUNK


@dataclasses.dataclass(frozen=True)
class Files:
    """A source made of a directory as it lies there."""

    root: Path
    name: str = "journals"

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        directories, candidates = [], []
        for path in sorted(self.root.rglob("*")):
            status = path.stat()
            relative, mode = str(path.relative_to(self.root)), status.st_mode & 0o7777
            owner, group = names(status)
            if path.is_dir():
                directories.append(Directory(relative, mode, owner, group))
            else:
                key = f"{status.st_ino} {status.st_mtime_ns}"
                candidates.append(
                    Candidate(relative, path, status.st_size, mode, owner, group, status.st_mtime_ns, key)
                )
        yield [Draft(self.name, str(self.root), tuple(directories), tuple(candidates), {})]


def back_up(catalogue: Catalogue, directory: Path) -> None:
    catalogue.make()
    create(catalogue, [Files(directory)], time.time(), "bench")


def check(catalogue: Catalogue, _directory: Path) -> None:
    """What verifying a backup reads and hashes."""
    for file in part(catalogue).files:
        catalogue.store.check(file)


def hash_plainly(_catalogue: Catalogue, directory: Path) -> None:
    """The least that it could be: SHA-256 of the same bytes."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)


def bring_back(catalogue: Catalogue, directory: Path) -> None:
    directory.mkdir()
    lay(catalogue.store, part(catalogue), directory)


def carry(catalogue: Catalogue, target: Path) -> None:
    pack(catalogue, catalogue.names()[-1], target)


def take_in(catalogue: Catalogue, source: Path) -> None:
    catalogue.make()
    unpack(catalogue, source)


def part(catalogue: Catalogue) -> Part:
    manifest = catalogue.entries()[-1].manifest
    if not manifest:
        raise RuntimeError(f"the last backup in {catalogue.root} has no manifest")
    return manifest.parts[0]


VERBS = {work.__name__: work for work in (back_up, check, hash_plainly, bring_back, carry, take_in)}


def main() -> None:
    verb, catalogue, directory = sys.argv[1:]
    begin = time.monotonic()
    VERBS[verb](Catalogue(catalogue), Path(directory))
    seconds = time.monotonic() - begin
    # Of this process alone: what getrusage says begins with what the process that started it had.
    used = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    json.dump({"seconds": seconds, "memory": used * 1024}, sys.stdout)


if __name__ == "__main__":
    main()
