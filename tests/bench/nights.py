# SPDX-License-Identifier: GPL-3.0-or-later
"""Nights of backups of a real Prometheus in quick motion, beside restic on the same server.

What is real: the server, its blocks of two hours, how it merges them, and what its retention takes away. It is sent the
samples of three weeks by remote write as fast as it takes them, for it goes by the times of the samples and not by the
clock, and each night it has time to merge what is due. What is played: the series (1000, a random walk each, a sample
every 30 seconds), and a retention of 7 days, so that old blocks go within these nights. The blocks are merged up to 36
hours as under one of 15 days.

restic is given what it needs to be good at this: snapshots under one path, and their change times passed over, which
hard links make new each night. It compresses and encrypts; our catalogue does neither.

``python -m tests.bench.nights`` is our backup of one night, in a process of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import os
import random
import shutil
import struct
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.keep import Rules, kept
from ansible_collections.njord.telemetry.plugins.module_utils._backup.prometheus import PrometheusSource
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.bench.backups import size_of
from tests.bench.restic import Restic
from tests.conftest import COLLECTIONS
from tests.testbench import servers
from tests.testbench.packages import ROOT

HOUR, DAY = 3600, 86400
NIGHTS, BEFORE = 15, 7
SERIES, STEP = 1000, 30
FLAGS = (
    "--web.enable-remote-write-receiver",
    "--storage.tsdb.retention.time=7d",
    "--storage.tsdb.max-block-duration=36h",
)
KEEP = Rules(last=3, daily=7, weekly=4, monthly=0)
# The head is written as a block once it is half a block longer than one.
_HEAD_SECONDS = 3 * HOUR
_QUIET_SECONDS, _PATIENCE_SECONDS = 1.0, 60.0


@dataclasses.dataclass(frozen=True)
class Night:
    """:param new: by how many bytes the store grew, before anything was removed. :param seconds: the removal too."""

    new: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Result:
    """:param sizes: of both stores at the end."""

    ours: list[Night]
    restic: list[Night]
    sizes: tuple[int, int]


def measured(directory: Path) -> Result:
    """Backs each night up in both ways, another one first each time."""
    directory.mkdir(parents=True)
    catalogue, restic = Catalogue(str(directory / "catalogue")), Restic(directory / "restic")
    catalogue.make()
    restic.init()
    end = int(time.time()) // DAY * DAY
    nights: dict[str, list[Night]] = {"ours": [], "restic": []}
    with servers.prometheus(directory, arguments=FLAGS) as server:
        walk = Walk(server)
        walk.live_until(end - (BEFORE + NIGHTS - 1) * DAY, end - (NIGHTS - 1) * DAY)
        ways = {
            "ours": lambda night: _ours(server, catalogue, night),
            "restic": lambda night: _restic(server, restic, night),
        }
        for number in range(NIGHTS):
            night = end - (NIGHTS - 1 - number) * DAY
            if number:
                walk.live_until(night - DAY, night)
            for name in sorted(ways, reverse=bool(number % 2)):
                os.sync()
                nights[name].append(ways[name](night))
    return Result(nights["ours"], nights["restic"], (size_of(catalogue.root), size_of(restic.repository)))


def _ours(server: servers.Server, catalogue: Catalogue, night: int) -> Night:
    before = size_of(catalogue.root)
    call = [sys.executable, "-m", "tests.bench.nights", server.url, str(server.directory), str(catalogue.root)]
    environment = {"PYTHONPATH": f"{ROOT}:{COLLECTIONS}", "PATH": os.environ["PATH"]}
    begin = time.monotonic()
    done = subprocess.run([*call, str(night)], check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    return Night(int(done.stdout) - before, time.monotonic() - begin)


def back_up(url: str, directory: str, root: str, night: str) -> int:
    """What the timer does of a night; the size of the catalogue before the removal."""
    catalogue = Catalogue(root)
    with catalogue.locked():
        source = PrometheusSource(Prometheus(Server(url)), f"{directory}/data", catalogue.root)
        create(catalogue, [source], float(night), "bench")
        size = size_of(catalogue.root)
        staying = kept(catalogue.entries(), KEEP)
        catalogue.remove(name for name in catalogue.names() if name not in staying)
    return size


def _restic(server: servers.Server, restic: Restic, night: int) -> Night:
    before = size_of(restic.repository)
    begin = time.monotonic()
    name = Prometheus(Server(server.url, timeout=_PATIENCE_SECONDS)).snapshot()
    # Under a name that stays the same: it looks there for what it knows.
    snapshot = server.directory / "snapshot"
    (server.directory / "data" / "snapshots" / name).rename(snapshot)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(night))
    restic.run("backup", "--ignore-ctime", f"--time={at}", str(snapshot))
    shutil.rmtree(snapshot)
    seconds = time.monotonic() - begin
    new = size_of(restic.repository) - before
    begin = time.monotonic()
    rules = [f"--keep-{name}={number}" for name, number in dataclasses.asdict(KEEP).items() if number]
    restic.run("forget", "--prune", *rules)
    return Night(new, seconds + time.monotonic() - begin)


class Walk:
    """Sends a server the samples of days, and waits for what it makes of them."""

    def __init__(self, server: servers.Server) -> None:
        self._server = server
        self._prometheus = Prometheus(Server(server.url))
        chance = random.Random(4)
        self._step = chance.random
        self._values = [chance.uniform(0, 1e5) for _series in range(SERIES)]
        self._series = [
            _label("__name__", f"njord_metric_{number % 40}")
            + _label("instance", "njord1")
            + _label("strategy_id", f"s{number // 40}")
            for number in range(SERIES)
        ]

    def live_until(self, begin: int, end: int) -> None:
        """:param begin: unix seconds of the first sample; the last one is before ``end``."""
        for start in range(begin, end, 2 * HOUR):
            for part in range(start, start + 2 * HOUR, HOUR // 2):
                self._send(range(part * 1000, (part + HOUR // 2) * 1000, STEP * 1000))
            self._wait(functools.partial(self._has_written, start + 2 * HOUR - _HEAD_SECONDS))
        self._wait(self._is_quiet)

    def _has_written(self, until: float) -> bool:
        return self._prometheus.head(1).min_time / 1000 >= until

    def _is_quiet(self) -> bool:
        """Whether it merges nothing, nor removes."""
        before = self._blocks()
        time.sleep(_QUIET_SECONDS)
        return self._blocks() == before

    def _blocks(self) -> set[Path]:
        return set((self._server.directory / "data").glob("01*"))

    def _wait(self, is_done: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_done():
            if time.monotonic() > deadline:
                raise RuntimeError(f"The server has not done its work: {self._server.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def _send(self, times: t.Sequence[int]) -> None:
        """A remote write: each series with its samples, in protocol buffers, in a block of snappy that compresses
        nothing."""
        stamps = [b"\x10" + _number(moment) for moment in times]
        # Of such times every sample is as long.
        layout = struct.Struct("<" + f"3sd{len(stamps[0])}s" * len(stamps))
        head = b"\x12" + _number(9 + len(stamps[0])) + b"\x09"
        written = []
        for number, labels in enumerate(self._series):
            value = self._values[number]
            fields: list[t.Any] = []
            for stamp in stamps:
                value += self._step() - 0.5
                fields += (head, value, stamp)
            self._values[number] = value
            written.append(_field(1, labels + layout.pack(*fields)))
        body = b"".join(written)
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=_PATIENCE_SECONDS)
        headers = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        data = _number(len(body)) + b"\xfc" + struct.pack("<I", len(body) - 1) + body
        connection.request("POST", "/api/v1/write", data, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status != http.HTTPStatus.NO_CONTENT:
            raise RuntimeError(f"The server does not take the samples: {answer.status} {said!r}")


def _number(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


def _label(name: str, value: str) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, value.encode()))


if __name__ == "__main__":
    sys.stdout.write(f"{back_up(*sys.argv[1:])}\n")
