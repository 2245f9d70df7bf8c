# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers on free ports, of 127.0.0.1 unless said otherwise, each a context manager: ready inside, ended after.

Everything a server writes lies below the ``directory`` it is given; servers of different kinds may share one.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from tests.testbench.packages import program

READY_SECONDS = 60
STOP_SECONDS = 20


class Server:
    """A program that listens on ``port``; ``process`` is the running one, ``log`` the file with all it said."""

    def __init__(
        self,
        name: str,
        command: t.Sequence[str | Path],
        directory: Path,
        port: int,
        ready: str,
        scheme: str = "http",
        address: str = "127.0.0.1",
    ) -> None:
        self.name = name
        self.directory = directory
        self.port = port
        self.url = f"{scheme}://{address}:{port}"
        self.log = directory / f"{name}.log"
        self._command = [str(word) for word in command]
        self._ready = ready
        self._address = address

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and returns once it answers.

        :raises RuntimeError: where it ends or stays silent; with its log.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # the process outlives the call: stop() ends it
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it, politely first; does nothing where it has ended."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                state = "is not ready" if ended is None else f"ended with {ended}"
                raise RuntimeError(f"{self.name} {state}. Its log:\n{self.log.read_text(errors='replace')[-8000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            if self._ready:
                connection = http.client.HTTPConnection(self._address, self.port, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", self._ready)
                    # That it wants a login or TLS is an answer as well.
                    return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
            with socket.create_connection((self._address, self.port), timeout=5) as plain:
                plain.sendall(b"PING\r\n")
                return plain.recv(5) == b"+PONG"
        except (OSError, http.client.HTTPException):
            return False


def free_port() -> int:
    """A port that nobody has, below those that the kernel lends to whoever connects: it stays free until it is used."""
    while True:
        port = random.randrange(10000, 32000)
        with contextlib.closing(socket.socket()) as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def held_port(stack: contextlib.ExitStack) -> int:
    """A port that nobody else is given until the stack ends; only who allows a second socket there may listen on it.

    For those who know their port long before they listen. Prometheus is one of them, as all that is written in Go.
    """
    holder = stack.enter_context(contextlib.closing(socket.socket()))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", free_port()))
    return int(holder.getsockname()[1])


def prometheus(
    directory: Path,
    version: str = "3",
    config: str = "scrape_configs: []\n",
    arguments: t.Sequence[str] = (),
    port: int | None = None,
) -> Server:
    """Prometheus with the admin API and the lifecycle on; data in ``directory/data``."""
    port = port or free_port()
    (directory / "prometheus.yml").write_text(config)
    return Server(
        "prometheus",
        [
            program("prometheus", version),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-admin-api",
            "--web.enable-lifecycle",
            *arguments,
        ],
        directory,
        port,
        ready="/-/ready",
    )


def alertmanager(
    directory: Path,
    version: str = "0.33",
    config: str = "route: {receiver: none}\nreceivers: [{name: none}]\n",
    arguments: t.Sequence[str] = (),
    port: int | None = None,
) -> Server:
    port = port or free_port()
    (directory / "alertmanager.yml").write_text(config)
    return Server(
        "alertmanager",
        [
            program("alertmanager", version),
            f"--config.file={directory}/alertmanager.yml",
            f"--storage.path={directory}/alertmanager",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            *arguments,
        ],
        directory,
        port,
        ready="/-/ready",
    )


def victoria_metrics(
    directory: Path, version: str = "1.145", arguments: t.Sequence[str] = (), port: int | None = None
) -> Server:
    """Read back what was written only after a GET of ``/internal/force_flush``."""
    port = port or free_port()
    return Server(
        "victoria-metrics",
        [
            program("victoria-metrics", version),
            f"-storageDataPath={directory}/victoria-metrics",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.latencyOffset=0s",
            *arguments,
        ],
        directory,
        port,
        ready="/health",
    )


def redis(directory: Path, arguments: t.Sequence[str] = (), port: int | None = None) -> Server:
    """Redis without persistence; its ``url`` is ``redis://127.0.0.1:port``."""
    port = port or free_port()
    return Server(
        "redis",
        [
            program("redis-server"),
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", directory),
            *("--save", "", "--appendonly", "no"),
            *arguments,
        ],
        directory,
        port,
        ready="",
        scheme="redis",
    )


def node_exporter(directory: Path, arguments: t.Sequence[str] = (), port: int | None = None) -> Server:
    """node_exporter; it reads text files of metrics from ``directory``."""
    port = port or free_port()
    return Server(
        "node-exporter",
        [
            program("prometheus-node-exporter"),
            f"--web.listen-address=127.0.0.1:{port}",
            f"--collector.textfile.directory={directory}",
            *arguments,
        ],
        directory,
        port,
        ready="/metrics",
    )


def s3(directory: Path, port: int | None = None, address: str = "127.0.0.1") -> Server:
    """A stand-in for S3, in memory; it accepts any key. Buckets are made by whoever needs them.

    :param address: another one where containers shall reach it.
    """
    port = port or free_port()
    program = Path(sys.executable).with_name("moto_server")
    return Server("s3", [program, "-H", address, "-p", str(port)], directory, port, "/", address=address)
