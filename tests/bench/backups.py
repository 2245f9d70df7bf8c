# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups beside tar, on the same blocks and journals, each ending with its bytes on the disk."""

from __future__ import annotations

import functools
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
from tests.bench.restic import Restic
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


def taking(work: t.Callable[..., object], *arguments: str) -> float:
    """Its seconds."""
    os.sync()
    begin = time.monotonic()
    work(*arguments)
    return time.monotonic() - begin


def in_turn(ways: dict[str, t.Callable[[], float]], run: int) -> dict[str, float]:
    """Seconds of each, in an order of its own in every run: a disk is not the same after a gigabyte was written, and
    whoever always comes after another one has that one's bytes to wait for."""
    names = random.Random(run).sample(list(ways), len(ways))
    return {name: ways[name]() for name in names}


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

    restic = Restic(place / "restic")
    forth = {
        "full": full,
        "zstd": lambda: by_hand('tar c -C "$1" . | zstd -q -3 -T0 -o "$2"; sync "$2"', data, place / "zstd"),
        "gzip": lambda: by_hand('tar czf "$2" -C "$1" .; sync "$2"', data, place / "gzip"),
        "written": lambda: by_hand('tar c -C "$1" . | dd of="$2" bs=1M conv=fsync status=none', data, place / "tar"),
        "restic full": lambda: taking(restic.run, "backup", str(data)),
    }
    back = {
        "lay": lambda: work("bring_back", catalogue, place / "laid")["seconds"],
        "pack": lambda: work("carry", catalogue, place / "carried")["seconds"],
        "restic back": lambda: taking(restic.run, "restore", "latest", "--target", str(place / "restored")),
    }
    reading = {
        "check": lambda: work("check", catalogue, data)["seconds"],
        "sha256": lambda: work("hash_plainly", catalogue, data)["seconds"],
        "restic check": lambda: taking(restic.run, "check", "--read-data"),
    }
    more = {
        "one block more": lambda: work("back_up", catalogue, data)["seconds"],
        "restic one block more": lambda: taking(restic.run, "backup", str(data)),
    }
    for run in range(runs + 1):
        place.mkdir()
        restic.init()
        found = {**in_turn(forth, run), **in_turn(reading, run), **in_turn(back, run)}
        write_block(data / "prometheus", BLOCKS + run, SMALL_CHUNKS, SMALL_INDEX)
        found.update(in_turn(more, run))
        shutil.rmtree(next((data / "prometheus").glob(f"*{BLOCKS + run:018d}")))
        shutil.rmtree(place)
        # The first round warms up what can be warm.
        for name, seconds in found.items() if run else ():
            taken.setdefault(name, []).append(seconds)
    shutil.rmtree(data)
    return taken, size, max(memory)


def brought_back(directory: Path, runs: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each way back, in turn on the same data; its bytes.

    Little data and many runs: what is compared here takes about as long, and a noisy machine must not decide.
    """
    data, place, target = directory / "data", directory / "place", directory / "target"
    for number in range(BLOCKS // 4):
        write_block(data / "prometheus", number, CHUNKS, INDEX)
    write_day(data / "journals", series=275, files=8)
    size = size_of(data)
    place.mkdir()
    work("back_up", place / "catalogue", data)
    work("carry", place / "catalogue", place / "carried")
    by_hand('tar cf "$2" -C "$1" .; tar --zstd -cf "$3" -C "$1" .', data, place / "tar", place / "zstd")
    untar = 'mkdir "$2"; tar xf "$1" -C "$2"; sync -f "$2"'
    ways = {
        "lay": lambda: work("bring_back", place / "catalogue", target)["seconds"],
        "untar": lambda: by_hand(untar, place / "tar", target),
        "unpack": lambda: work("take_in", target, place / "carried")["seconds"],
        "untar zstd": lambda: by_hand(untar, place / "zstd", target),
    }

    def alone(way: t.Callable[[], float]) -> float:
        seconds = way()
        shutil.rmtree(target)
        return seconds

    taken: dict[str, list[float]] = {}
    for run in range(runs + 1):
        found = in_turn({name: functools.partial(alone, way) for name, way in ways.items()}, run)
        for name, seconds in found.items() if run else ():
            taken.setdefault(name, []).append(seconds)
    shutil.rmtree(directory)
    return taken, size
