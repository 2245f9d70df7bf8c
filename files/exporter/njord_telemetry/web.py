# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages: ``/metrics``, ``/-/healthy`` and ``/-/ready``.

A thread for every request: rendering is work in Python, and the interpreter goes over to the thread of the bus every
few milliseconds, so that a page of many series delays a message but never stops the reading.
"""

from __future__ import annotations

import contextlib
import gzip
import hmac
import http.server
import logging
import socket
import socketserver
import threading
import typing as t

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest, gzip_accepted
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from .log import line

# From the connection to the end of the answer.
REQUEST_SECONDS = 30.0
CONNECTIONS = 32

LOG = logging.getLogger(__name__)


class Server(socketserver.ThreadingTCPServer):
    """Serves a registry from threads of its own.

    :param not_ready: says why the service is not ready; empty where it is.
    :param token: what a client must present for ``/metrics``; empty to let all read.
    :raises OSError, UnicodeError: where the address cannot be bound, or is none.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, registry: Collector, not_ready: t.Callable[[], str], token: str = ""
    ) -> None:
        self.registry = registry
        self.not_ready = not_ready
        self.token = token
        # Pages are rendered one at a time: their samples take far more memory than their text.
        self.rendering = threading.Lock()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self.address_family, *_kind, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__(t.cast("tuple[str, int]", address[:2]), Handler)

    def process_request(self, request: t.Any, client_address: t.Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: t.Any, client_address: t.Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        LOG.info(line("web.request_failed", client=client_address), exc_info=LOG.isEnabledFor(logging.DEBUG))


class Handler(http.server.BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0), so that nobody holds an idle one."""

    server: Server
    server_version = "njord-exporter"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        # A client that sends byte by byte passes every time-out of the socket, but not this one.
        self._deadline = threading.Timer(REQUEST_SECONDS, self._give_up)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        super().finish()

    def do_GET(self) -> None:
        page = {"/metrics": self._metrics, "/-/healthy": self._healthy, "/-/ready": self._ready}.get(
            self.path.partition("?")[0]
        )
        if page:
            page()
        else:
            self._answer(404, "No such page: there are /metrics, /-/healthy and /-/ready.\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _metrics(self) -> None:
        if not self._authorised():
            self._answer(401, "The token is missing or wrong.\n", {"WWW-Authenticate": "Bearer"})
            return
        with self.server.rendering:
            page, content_type = render(self.server.registry, self.headers.get("Accept", ""))
            headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
            if gzip_accepted(self.headers.get("Accept-Encoding", "")):
                page = gzip.compress(page, compresslevel=3)
                headers["Content-Encoding"] = "gzip"
        self._answer(200, page, headers)

    def _healthy(self) -> None:
        self._answer(200, "Healthy.\n")

    def _ready(self) -> None:
        reason = self.server.not_ready()
        self._answer(503 if reason else 200, f"Not ready: {reason}\n" if reason else "Ready.\n")

    def _authorised(self) -> bool:
        if not self.server.token:
            return True
        scheme, _space, token = self.headers.get("Authorization", "").partition(" ")
        # Headers are read as Latin-1, so this gives back the very bytes that came.
        right = hmac.compare_digest(token.strip().encode("latin-1"), self.server.token.encode())
        return right and scheme.lower() == "bearer"

    def _answer(self, status: int, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"Content-Type": "text/plain; charset=utf-8"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _give_up(self) -> None:
        LOG.info(line("web.request_given_up", client=self.client_address[0], seconds=REQUEST_SECONDS))
        with contextlib.suppress(OSError):  # the client was quicker
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, message: str, *arguments: object) -> None:
        LOG.debug(line("web.request", client=self.client_address[0], said=message % arguments))


def render(registry: Collector, accept: str) -> tuple[bytes, str]:
    """The page in the format that an ``Accept`` header prefers, and its content type."""
    try:
        content_type = choose_encoder(accept)[1]
    except (TypeError, ValueError):  # a version that is no number
        content_type = ""
    generate, content_type = (
        (openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST)
        if content_type.startswith("application/openmetrics-text")
        else (generate_latest, CONTENT_TYPE_PLAIN_0_0_4)
    )
    # Every name served is legal in either format. This scheme, unlike the others, leaves legal names as they are.
    return generate(registry, escaping=openmetrics.ALLOWUTF8), content_type
