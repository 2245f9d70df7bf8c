# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of real blocks, made in a moment, and what a server counts in them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._backup import counts, proof
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue, State
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Candidate, Draft, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import names
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Directory, Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.scratch import Tools
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.testbench import servers
from tests.testbench.packages import program

START = 1_700_000_000 // 7200 * 7200
NOW = 1_790_000_000.0
METRICS = ("njord_fills", "njord_lag", "njord_pnl")


@dataclasses.dataclass(frozen=True)
class Files:
    """A source made of a directory as it lies there. :param facts: of its part."""

    source: str
    root: Path
    facts: dict[str, t.Any]

    @property
    def name(self) -> str:
        return self.source

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        directories, candidates = [], []
        for path in sorted(self.root.rglob("*")):
            status = path.stat()
            owner, group = names(status)
            relative = str(path.relative_to(self.root))
            if path.is_dir():
                directories.append(Directory(relative, status.st_mode & 0o7777, owner, group))
            else:
                candidates.append(
                    Candidate(
                        relative, path, status.st_size, status.st_mode & 0o7777, owner, group, status.st_mtime_ns, ""
                    )
                )
        yield [Draft(self.source, str(self.root), tuple(directories), tuple(candidates), self.facts)]


@dataclasses.dataclass(frozen=True)
class Backup:
    """One part in a catalogue of its own."""

    catalogue: Catalogue
    part: Part

    def verify(self, tools: Tools | None, former: State = proof.NOTHING_KNOWN) -> State:
        with self.catalogue.scratch("verify") as directory:
            state = proof.verify(self.catalogue.store, self.part, tools, directory, NOW, former)
            assert list(directory.iterdir()) == []
        return state

    def prove(self, tools: Tools | None, former: State = proof.NOTHING_KNOWN, **more: t.Any) -> State:
        with self.catalogue.scratch("prove") as directory:
            state = proof.prove(self.catalogue.store, self.part, tools, directory, NOW, former=former, **more)
            assert list(directory.iterdir()) == []
        return state

    def with_facts(self, **facts: t.Any) -> Backup:
        return Backup(self.catalogue, dataclasses.replace(self.part, facts={**self.part.facts, **facts}))

    def object(self, path: str) -> Path:
        return self.catalogue.store.path(next(file.sha256 for file in self.part.files if file.path == path))


def back_up(root: Path, source: Files) -> Backup:
    catalogue = Catalogue(str(root))
    with catalogue.locked(shared=False) if root.exists() else contextlib.nullcontext():
        catalogue.make()
        manifest, _cost = create(catalogue, [source], NOW, "host")
    read = catalogue.entry(manifest.name).manifest
    assert read is not None
    return Backup(catalogue, read.parts[0])


def make_blocks(directory: Path, number: int) -> Path:
    """Blocks of two hours with three metrics, of which one comes later and one ends sooner."""
    minutes = number * 120
    lines = []
    for metric, first, last, series in zip(METRICS, (0, 100, 0), (minutes, minutes, 200), (3, 2, 5)):
        lines.append(f"# TYPE {metric} gauge")
        for one in range(series):
            # Values that do not compress to nothing.
            chance = random.Random(f"{metric} {one}")
            lines += [
                f'{metric}{{number="{one}"}} {chance.uniform(0, 1e6):.6f} {START + minute * 60}'
                for minute in range(first, last)
            ]
    (directory / "samples.txt").write_text("\n".join([*lines, "# EOF", ""]))
    made = directory / "data"
    subprocess.run(
        [program("promtool", "3"), "tsdb", "create-blocks-from", "openmetrics", directory / "samples.txt", made],
        check=True,
        capture_output=True,
    )
    assert len(list(made.iterdir())) == number
    return made


def facts_of(blocks: Path, directory: Path) -> dict[str, t.Any]:
    """What the source of Prometheus says of these blocks; the counts are of a server that is none of ours.

    :param directory: for that server.
    """
    rows = [row(json.loads((block / "meta.json").read_bytes())) for block in sorted(blocks.iterdir())]
    shutil.copytree(blocks, directory / "data")
    with servers.prometheus(directory, "3", arguments=["--storage.tsdb.retention.time=100y"]) as server:
        counted = counts.count(Prometheus(Server(server.url)), counts.instants(rows))
    assert {metric for table in counted.values() for metric in table} == set(METRICS)
    assert len({json.dumps(table) for table in counted.values()}) > 1
    return {"lookback_seconds": 300.0, "blocks": rows, "counts": counted}


def row(meta: dict[str, t.Any]) -> dict[str, t.Any]:
    stats = meta["stats"]
    return {
        "ulid": meta["ulid"],
        "min_time": meta["minTime"],
        "max_time": meta["maxTime"],
        "samples": stats["numSamples"],
        "series": stats["numSeries"],
        "chunks": stats["numChunks"],
    }


def tree(directory: Path) -> dict[str, tuple[str, int, int]]:
    """Hash, rights and time of every file below a directory; a running server removes some while one looks."""
    found = {}
    for above, _directories, files in os.walk(directory):
        for path in (Path(above, name) for name in files):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(directory))] = (digest, status.st_mode, status.st_mtime_ns)
    return found


def flip(path: Path, at: int | None = None, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1 << bit
    rewrite(path, bytes(content))


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)
