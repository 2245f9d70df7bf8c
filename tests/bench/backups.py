# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups beside tar, on the same blocks and journals, each ending with its bytes on the disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from tests.bench.journals import write_day
from tests.conftest import COLLECTIONS
from tests.testbench.packages import ROOT

MEGABYTE = 1 << 20
BLOCKS = 12
# Of a block: what cannot be compressed, and an index that can.
CHUNKS, INDEX = 50 * MEGABYTE, 9 * MEGABYTE
# Two hours among fifteen days of which the rest was compacted: the newest block is a small one.
SMALL_CHUNKS, SMALL_INDEX = 4 * MEGABYTE, MEGABYTE


def write_data(directory: Path) -> int:
    """Some 700 MB of blocks and 300 MB of journals; bytes in all."""
    for number in range(BLOCKS):
        write_block(directory / "prometheus", number, CHUNKS, INDEX)
    write_day(directory / "journals", series=1100, files=30)
    return size_of(directory)


def write_block(directory: Path, number: int, chunks: int, index: int) -> None:
    """Laid out and as compressible as one of Prometheus, though no server could read it."""
    chance = random.Random(number)
    block = directory / f"01JBENCH{number:018d}"
    (block / "chunks").mkdir(parents=True)
    with (block / "chunks" / "000001").open("wb") as file:
        for _megabyte in range(chunks // MEGABYTE):
            file.write(chance.randbytes(MEGABYTE))
    with (block / "index").open("wb") as file:
        for _megabyte in range(index // MEGABYTE):
            numbers = sorted(chance.getrandbits(28) for _number in range(MEGABYTE // 8))
            file.write(struct.pack(f">{len(numbers)}Q", *numbers))
    (block / "tombstones").write_bytes(bytes(9))
    (block / "meta.json").write_text(json.dumps({"ulid": block.name, "version": 1}))


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def work(verb: str, catalogue: Path, directory: Path) -> dict[str, float]:
    """Seconds and memory of a piece of our work."""
    call = [sys.executable, "-m", "tests.bench.backup_work", verb, str(catalogue), str(directory)]
    environment = {"PYTHONPATH": f"{ROOT}:{COLLECTIONS}", "PATH": os.environ["PATH"]}
    os.sync()
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    return t.cast("dict[str, float]", json.loads(done.stdout))


def by_hand(script: str, *arguments: Path) -> float:
    """Seconds of a shell script."""
    os.sync()
    begin = time.monotonic()
    subprocess.run(["bash", "-ec", f"set -o pipefail; {script}", "bash", *arguments], check=True)
    return time.monotonic() - begin


def in_turn(ways: dict[str, t.Callable[[], float]], run: int) -> dict[str, float]:
    """Seconds of each, another one first in every run: a disk is not the same after a gigabyte was written."""
    names = list(ways)
    first = run % len(names)
    return {name: ways[name]() for name in names[first:] + names[:first]}


def compared(directory: Path, runs: int) -> tuple[dict[str, list[float]], int, int]:
    """Seconds of each way, in turn on the same data; its bytes; and the most memory that a full backup took."""
    data, place = directory / "data", directory / "place"
    catalogue = place / "catalogue"
    size = write_data(data)
    taken: dict[str, list[float]] = {}
    memory = []

    def full() -> float:
        done = work("back_up", catalogue, data)
        memory.append(int(done["memory"]))
        return done["seconds"]

    forth = {
        "full": full,
        "zstd": lambda: by_hand('tar c -C "$1" . | zstd -q -3 -T0 -o "$2"; sync "$2"', data, place / "zstd"),
        "gzip": lambda: by_hand('tar czf "$2" -C "$1" .; sync "$2"', data, place / "gzip"),
        "written": lambda: by_hand('tar c -C "$1" . | dd of="$2" bs=1M conv=fsync status=none', data, place / "tar"),
    }
    back = {
        "lay": lambda: work("bring_back", catalogue, place / "laid")["seconds"],
        "untar": lambda: by_hand('mkdir "$2"; tar xf "$1" -C "$2"; sync -f "$2"', place / "tar", place / "untarred"),
        "pack": lambda: work("carry", catalogue, place / "carried")["seconds"],
    }
    reading = {
        "check": lambda: work("check", catalogue, data)["seconds"],
        "sha256": lambda: work("hash_plainly", catalogue, data)["seconds"],
    }
    for run in range(runs + 1):
        place.mkdir()
        found = {**in_turn(forth, run), **in_turn(reading, run), **in_turn(back, run)}
        found["unpack"] = work("take_in", place / "other", place / "carried")["seconds"]
        write_block(data / "prometheus", BLOCKS + run, SMALL_CHUNKS, SMALL_INDEX)
        found["one block more"] = work("back_up", catalogue, data)["seconds"]
        shutil.rmtree(next((data / "prometheus").glob(f"*{BLOCKS + run:018d}")))
        shutil.rmtree(place)
        # The first round warms up what can be warm.
        for name, seconds in found.items() if run else ():
            taken.setdefault(name, []).append(seconds)
    shutil.rmtree(data)
    return taken, size, max(memory)
