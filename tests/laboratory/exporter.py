# SPDX-License-Identifier: GPL-3.0-or-later
"""An exporter with switches: each path is a page of its own, and may answer whatever a bad exporter would."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
import time
import typing as t
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclasses.dataclass(frozen=True)
class Page:
    """One answer.

    :param body: what is sent; ``metric()`` makes it.
    :param delay: seconds before the first byte.
    :param cut: so many bytes of the body are sent, though all are announced.
    :param closes: the connection, without an answer.
    """

    body: str
    status: int = 200
    content_type: str | None = TEXT
    delay: float = 0.0
    cut: int | None = None
    token: str = ""
    closes: bool = False


# What a path answers at its n-th scrape (from 0).
Script = t.Callable[[int], Page]


def metric(name: str, value: float = 1.0, stamp: float | None = None, **labels: str) -> str:
    """One metric as text. :param stamp: unix seconds of its time stamp; none where absent."""
    pairs = ",".join(f'{key}="{text}"' for key, text in labels.items())
    when = "" if stamp is None else f" {round(stamp * 1000)}"
    return f"# TYPE {name} gauge\n{name}{{{pairs}}} {value}{when}\n"


class _Server(http.server.ThreadingHTTPServer):
    # Many jobs ask at the same moment.
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """A client that goes away is what is wanted here."""


class Exporter:
    """Serves ``scripts`` by path on a free port; ``seen`` counts the scrapes of each path.

    :param certificate: file with certificate and key; plain HTTP where absent.
    :param wants_certificate: of whoever asks.
    """

    def __init__(self, certificate: Path | None = None, wants_certificate: bool = False) -> None:
        self.scripts: dict[str, Script] = {}
        self.seen: dict[str, int] = {}
        self.ended = False
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if exporter.ended:
                    # A connection that was kept open ends with it.
                    self.close_connection = True
                    return
                path = self.path.partition("?")[0]
                script = exporter.scripts.get(path)
                count = exporter.seen.get(path, 0)
                exporter.seen[path] = count + 1
                page = script(count) if script else Page("no such page\n", 404)
                if page.token and self.headers.get("Authorization") != f"Bearer {page.token}":
                    page = Page("who are you?\n", 401)
                time.sleep(page.delay)
                if page.closes:
                    self.close_connection = True
                    return
                body = page.body.encode()
                self.send_response(page.status)
                if page.content_type is not None:
                    self.send_header("Content-Type", page.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: page.cut])
                self.close_connection = self.close_connection or page.cut is not None

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if wants_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(certificate)
            # The handshake is done by the thread of the connection, so that a plain client stops no other.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Exporter:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.ended = True
        self._server.shutdown()
        self._server.server_close()


class Deaf:
    """A port that takes no connection any more: its queue is full, and whoever comes waits."""

    def __enter__(self) -> str:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self._waiting = []
        for _number in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(self._listener.getsockname())
            self._waiting.append(client)
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_exception: object) -> None:
        for client in (*self._waiting, self._listener):
            client.close()


def certificate(directory: Path, host: str = "127.0.0.1", ended: bool = False) -> Path:
    """A self-signed certificate for a host, in ``target.crt`` and ``target.key``; the file that holds both.

    :param ended: it was valid once.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.timezone.utc)
    age = datetime.timedelta(days=30)
    alternative: x509.GeneralName = x509.DNSName(host)
    with contextlib.suppress(ValueError):
        alternative = x509.IPAddress(ipaddress.ip_address(host))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * age)
        .not_valid_after(now - age if ended else now + age)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "target.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (directory / "target.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    both = directory / "target.pem"
    both.write_bytes((directory / "target.crt").read_bytes() + (directory / "target.key").read_bytes())
    return both
