# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup in one file, with the programs that a host has: zstd and tar; on a disk that fills up; and its memory."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.carry import pack, unpack
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import (
    Candidate,
    Draft,
    Failed,
    NoRoom,
    create,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged, Manifest

from tests.conftest import COLLECTIONS
from tests.testbench.disk import small_disk

NOW = 1_790_000_000.0
MEGABYTE = 1 << 20
CONTENT = {"meta.json": b"{}", "000001": bytes(range(256)) * 4, "000002": b"x" * 513, "tombstones": b""}


@dataclasses.dataclass(frozen=True)
class Files:
    """A source of files in one directory."""

    root: Path
    name: str = "journals"

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        candidates = tuple(
            Candidate(path.name, path, path.stat().st_size, 0o640, "root", "root", 10**18, "1")
            for path in sorted(self.root.iterdir())
        )
        yield [Draft(self.name, "/srv/data", (), candidates, {})]


@pytest.fixture(autouse=True)
def programs() -> None:
    assert shutil.which("zstd"), "the package zstd is needed"


def empty(root: Path) -> Catalogue:
    catalogue = Catalogue(str(root))
    catalogue.make()
    return catalogue


def filled(work: Path, content: t.Mapping[str, bytes] | None = None) -> tuple[Catalogue, Manifest]:
    data = work / "data"
    data.mkdir(parents=True)
    for name, one in (CONTENT if content is None else content).items():
        (data / name).write_bytes(one)
    catalogue = empty(work / "here")
    return catalogue, create(catalogue, [Files(data)], NOW, "host1")[0]


def noise(size: int) -> bytes:
    return random.Random(size).getrandbits(8 * size).to_bytes(size, "big")


def laid(catalogue: Catalogue, name: str, target: Path) -> dict[str, bytes]:
    manifest = catalogue.entry(name).manifest
    assert manifest
    target.mkdir()
    lay(catalogue.store, manifest.parts[0], target)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def is_untouched(catalogue: Catalogue) -> bool:
    return not any(any(catalogue.root.glob(places)) for places in ("backups/*", "incoming/*", "objects/*/*"))


def test_a_backup_comes_back_from_a_file_of_zstd_byte_for_byte(tmp_path: Path) -> None:
    content = {**CONTENT, "big": noise(5 * MEGABYTE + 7), "text": b"a line of a journal\n" * 300_000}
    here, manifest = filled(tmp_path, content)
    there = empty(tmp_path / "there")
    carried = pack(here, manifest.name, tmp_path / "archive")
    assert (carried.compression, carried.bytes) == ("zstd", (tmp_path / "archive").stat().st_size)
    assert carried.bytes < 5.2 * MEGABYTE
    summed = subprocess.run(["sha256sum", carried.path], check=True, capture_output=True, text=True).stdout
    assert summed.split()[0] == carried.sha256
    assert unpack(there, carried.path) == manifest.name
    assert laid(there, manifest.name, tmp_path / "laid") == content


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_without_us_tar_gives_back_every_object_under_its_hash(tmp_path: Path, compression: str) -> None:
    here, manifest = filled(tmp_path)
    pack(here, manifest.name, tmp_path / "archive", compression)
    (tmp_path / "by hand").mkdir()
    unpacker = {"zstd": ["--zstd"], "gzip": ["--gzip"], "none": []}[compression]
    told = subprocess.run(
        ["tar", "-x", *unpacker, "-f", tmp_path / "archive", "-C", tmp_path / "by hand"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stderr == ""
    objects = {path.name: path.read_bytes() for path in (tmp_path / "by hand" / "objects").iterdir()}
    assert objects == {hashlib.sha256(content).hexdigest(): content for content in CONTENT.values()}
    assert (tmp_path / "by hand" / "manifest").read_bytes() == manifest.encode()


def test_what_another_zstd_compressed_harder_is_read(tmp_path: Path) -> None:
    here, manifest = filled(tmp_path, {**CONTENT, "text": b"a line of a journal\n" * 300_000})
    plain = pack(here, manifest.name, tmp_path / "plain", "none").path
    subprocess.run(["zstd", "-q", "-19", plain, "-o", tmp_path / "hard"], check=True)
    assert unpack(empty(tmp_path / "there"), tmp_path / "hard") == manifest.name


def test_a_bit_that_turns_and_a_cut_in_zstd_are_found_or_change_nothing(tmp_path: Path) -> None:
    here, manifest = filled(tmp_path)
    whole = pack(here, manifest.name, tmp_path / "archive").path.read_bytes()
    there = empty(tmp_path / "there")
    target = tmp_path / "damaged"
    lengths = {len(whole) * part // 20 for part in range(20)} | set(range(len(whole) - 100, len(whole)))
    for length in sorted(lengths):
        target.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            unpack(there, target)
        assert is_untouched(there), length
    found = 0
    for at in [*range(20), *range(20, len(whole) - 20, 3), *range(len(whole) - 20, len(whole))]:
        turned = bytearray(whole)
        turned[at] ^= 1 << at % 8
        target.write_bytes(turned)
        try:
            unpack(there, target)
        except Damaged:
            found += 1
            assert is_untouched(there), at
        else:
            assert there.entry(manifest.name).manifest == manifest
            for file in manifest.parts[0].files:
                there.store.check(file)
            there.remove([manifest.name])
    assert found > len(whole) / 4


@pytest.mark.parametrize("more", [b"x", bytes(4096), b"\x28\xb5\x2f\xfd"])
def test_what_follows_the_end_of_zstd_is_refused(tmp_path: Path, more: bytes) -> None:
    here, manifest = filled(tmp_path)
    target = pack(here, manifest.name, tmp_path / "archive").path
    with target.open("ab") as file:
        file.write(more)
    there = empty(tmp_path / "there")
    with pytest.raises(Damaged):
        unpack(there, target)
    assert is_untouched(there)


@pytest.mark.parametrize("compressor", [["gzip", "-1"], ["zstd", "-1"]])
def test_of_endless_zeros_no_more_is_read_than_a_backup_would_have(tmp_path: Path, compressor: list[str]) -> None:
    here, manifest = filled(tmp_path)
    whole = pack(here, manifest.name, tmp_path / "whole", "none").path.read_bytes()
    bomb = tmp_path / "bomb"
    for start in (b"", whole[:2048], whole):
        with bomb.open("wb") as file:
            process = subprocess.Popen([*compressor, "-c"], stdin=subprocess.PIPE, stdout=file)
            assert process.stdin
            process.stdin.write(start)
            for _megabyte in range(400):
                process.stdin.write(bytes(MEGABYTE))
            process.stdin.close()
            assert process.wait() == 0
        there = empty(tmp_path / "there")
        begun = time.monotonic()
        with pytest.raises(Damaged):
            unpack(there, bomb)
        assert time.monotonic() - begun < 0.3
        assert is_untouched(there)


@pytest.mark.parametrize("program", ["exit 1", "exit 0", "head -c 5000 > /dev/null", "cat > /dev/null; kill -9 $$"])
def test_a_zstd_that_does_not_do_its_work_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    here, manifest = filled(tmp_path, {"big": noise(3 * MEGABYTE)})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "zstd").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "bin" / "zstd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with pytest.raises(Failed, match=r"zstd could not compress it .*gzip would do"):
        pack(here, manifest.name, tmp_path / "archive")
    assert not list(tmp_path.glob("*archive*"))


def test_a_zstd_that_is_killed_while_it_reads_says_nothing_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, manifest = filled(tmp_path)
    target = pack(here, manifest.name, tmp_path / "archive").path
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "zstd").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "bin" / "zstd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with pytest.raises(Failed, match="could not be decompressed"):
        unpack(empty(tmp_path / "there"), target)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_a_full_disk_leaves_no_file_and_says_what_is_free(tmp_path: Path, compression: str) -> None:
    content = {str(number): noise(3 * MEGABYTE + number) for number in range(4)}
    here, manifest = filled(tmp_path, content)
    with small_disk(tmp_path / "stick", "size=8m") as stick:
        with pytest.raises(NoRoom, match=rf"it has {manifest.size} bytes.* 8388608 are free"):
            pack(here, manifest.name, stick / "archive", compression)
        assert list(stick.iterdir()) == []
        # What is there stays, and what fits is written.
        (stick / "other").write_bytes(b"x" * MEGABYTE)
        smaller, one = filled(tmp_path / "one", {"0": content["0"]})
        assert pack(smaller, one.name, stick / "archive", compression).bytes < 4 * MEGABYTE
        assert {path.name for path in stick.iterdir()} == {"archive", "other"}


def test_a_catalogue_without_room_takes_nothing_in(tmp_path: Path) -> None:
    here, manifest = filled(tmp_path, {"text": b"a line of a journal\n" * 600_000})
    target = pack(here, manifest.name, tmp_path / "archive").path
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        there = empty(disk / "there")
        with pytest.raises(NoRoom, match=f"needs {manifest.size} bytes"):
            unpack(there, target)
        assert is_untouched(there)
    with small_disk(tmp_path / "inodes", "nr_inodes=12") as disk:
        there = empty(disk / "there")
        many, several = filled(tmp_path / "many", {str(number): str(number).encode() for number in range(9)})
        with pytest.raises(NoRoom, match="is too full"):
            unpack(there, pack(many, several.name, tmp_path / "several").path)
        assert is_untouched(there)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_kill_at_any_time_leaves_no_half_file_and_no_half_backup(tmp_path: Path, compression: str) -> None:
    content = {str(number): noise(2 * MEGABYTE + number) for number in range(4)}
    here, manifest = filled(tmp_path, content)
    chance = random.Random(7)
    away = tmp_path / "away"
    away.mkdir()
    whole = pack(here, manifest.name, tmp_path / "whole", compression).path
    began = time.monotonic()
    assert not killed_after(lambda: pack(here, manifest.name, away / "once", compression), 60)
    took = time.monotonic() - began
    (away / "once").unlink()
    halves = 0
    for number in range(15):
        killed_after(lambda: pack(here, manifest.name, away / "archive", compression), chance.uniform(0, took))
        if (away / "archive").exists():
            assert unpack(empty(tmp_path / f"packed{number}"), away / "archive") == manifest.name
            (away / "archive").unlink()
        halves += bool(list(away.iterdir()))
        assert len(list(away.iterdir())) <= 1
    assert halves
    pack(here, manifest.name, away / "archive", compression)
    assert [path.name for path in away.iterdir()] == ["archive"]

    there = empty(tmp_path / "there")
    for _number in range(15):
        killed_after(lambda: unpack(there, whole), chance.uniform(0, took))
        with there.locked():
            for name in there.names():
                assert laid(there, name, tmp_path / "laid") == content
                shutil.rmtree(tmp_path / "laid")
                there.remove([name])
            there.remove([])
            assert is_untouched(there)
    assert unpack(there, whole) == manifest.name


def killed_after(work: t.Callable[[], object], seconds: float) -> bool:
    """Runs it in a process that is killed then; False where it came to its end before."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


MEASURED = """
import resource, sys
from pathlib import Path
from ansible_collections.njord.telemetry.plugins.module_utils._backup.carry import pack, unpack
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
here, there, name, target, compression = sys.argv[1:]
if there:
    unpack(Catalogue(there), Path(target))
else:
    pack(Catalogue(here), name, Path(target), compression)
# Its own from there: what getrusage says of it begins with what the process that started it had.
own = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(int(own) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_backup(tmp_path: Path) -> None:
    half = noise(MEGABYTE)
    data = tmp_path / "data"
    data.mkdir()
    # Half of it cannot be compressed, half of it can.
    with (data / "big").open("wb") as file:
        for number in range(100):
            file.write(half[number:] + half[:number])
            file.write(b"%d a line of a journal\n" % number * (MEGABYTE // 24))
    here = empty(tmp_path / "here")
    name = create(here, [Files(data)], NOW, "host1")[0].name
    environment = {"PYTHONPATH": str(COLLECTIONS), "PATH": os.environ["PATH"]}
    for compression in ("zstd", "gzip", "none"):
        there, target = empty(tmp_path / compression).root, str(tmp_path / f"{compression}.archive")
        for into in ("", str(there)):
            call = [sys.executable, "-c", MEASURED, str(here.root), into, name, target, compression]
            done = subprocess.run(call, check=True, capture_output=True, text=True, env=environment)
            # Together with the program that compresses.
            assert int(done.stdout) * 1024 <= 64 * MEGABYTE, (compression, into, done.stdout)
        assert (data / "big").stat().st_size > 190 * MEGABYTE
        shutil.rmtree(there)
