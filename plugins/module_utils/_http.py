# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""One HTTP exchange as a typed answer, or as a typed error that says what came back.

Nothing is followed, cached or tried again: an operator must see what the server itself says.
Proxies of the environment are not used: the servers stand on the host or beside it.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
import io
import json
import re
import socket
import ssl
import time
import typing as t
import urllib.parse
from pathlib import Path

from ._units import human_duration

# A body is read up to here; 64 MiB hold a million series in the text format.
BODY_LIMIT = 64 * 1024 * 1024
CHUNK = 256 * 1024
# What OpenSSL says, by its version, when the other side does not speak TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
LOGIN_WORDS = ("login", "signin", "sign-in", "auth", "sso")
_TAG = re.compile(r"<[^>]*>")


class HttpError(Exception):
    """What was asked, of whom, and what came back instead of an answer."""

    def __init__(self, asked: str, came_back: str, status: int | None = None) -> None:
        super().__init__(f"{asked}: {came_back}")
        self.asked = asked
        self.came_back = came_back
        self.status = status


class Unreachable(HttpError):
    """Nobody answered: refused, no such name, too slow, cut off, or no common TLS."""


class Untrusted(Unreachable):
    """The server's certificate is not one that is trusted: expired, of another name, or of an unknown authority."""


class Unauthorised(HttpError):
    """Somebody answered, and wants to know who asks (401, 403, or a way to a login page)."""


class Unsupported(HttpError):
    """The server does not know what was asked (404, 405, 501)."""


class Refused(HttpError):
    """The server understood, and the answer is no; ``came_back`` carries its reason."""


class Unreadable(HttpError):
    """An answer came, but not of the kind that was asked for."""


_ERROR_BY_STATUS: dict[int, type[HttpError]] = {
    401: Unauthorised,
    403: Unauthorised,
    404: Unsupported,
    405: Unsupported,
    501: Unsupported,
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer with a status from 200 to 299.

    :param headers: names in lower case.
    :param seconds: from the connection to the last byte.
    :param certificate_ends: end of the server certificate in unix seconds, where TLS was spoken.
    """

    asked: str
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    certificate_ends: float | None = None

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> t.Any:
        """
        :raises Unreadable: where the body is not one whole JSON document.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Unreadable(self.asked, f"no JSON ({error}): {first_line(self.text)!r}", self.status) from error


@dataclasses.dataclass(frozen=True)
class Server:
    """One server, and how it is asked.

    :param url: ``http://host:port`` or ``https://…``, with the server's path prefix if it has one.
    :param token: bearer token; wins over user name and password.
    :param ca_path: file or directory of the authorities that are trusted; the system's where empty.
    :param timeout: seconds for a whole exchange.
    """

    url: str
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    token: str = dataclasses.field(default="", repr=False)
    ca_path: str = ""
    timeout: float = 10.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is no address of a server; http://127.0.0.1:9090 would do")
        if parts.username or parts.password:
            raise ValueError("the address of a server holds a user name or a password; use the options for them")
        try:
            _port = parts.port
        except ValueError as error:
            raise ValueError(f"{self.url!r} has no port of a server: {error}") from error
        if not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("the token is not one line of plain characters")

    def get(self, path: str, parameters: dict[str, str] | None = None, accept: str = "*/*") -> Answer:
        return self.exchange("GET", path, parameters, accept)

    def post(self, path: str, parameters: dict[str, str] | None = None) -> Answer:
        """Parameters travel as a form, so that they may be long."""
        return self.exchange("POST", path, parameters, "*/*")

    def post_json(self, path: str, document: t.Any) -> Answer:
        return self.exchange("POST", path, None, "*/*", json.dumps(document))

    def exchange(
        self, method: str, path: str, parameters: dict[str, str] | None, accept: str, document: str | None = None
    ) -> Answer:
        """
        :param document: JSON to post instead of parameters.
        :raises HttpError: of the kind that tells why there is no answer.
        """
        asked = f"{method} {self.url.rstrip('/')}{path}"
        form = urllib.parse.urlencode(parameters or {})
        target = urllib.parse.urlsplit(self.url).path.rstrip("/") + path
        body: str | None = None
        headers = {"Accept": accept, "User-Agent": "njord.telemetry", "Connection": "close", **self._credentials()}
        if document is not None:
            body, headers["Content-Type"] = document, "application/json"
        elif method == "POST":
            body, headers["Content-Type"] = form, "application/x-www-form-urlencoded"
        elif form:
            target = f"{target}?{form}"
        start = time.monotonic()
        connection = self._connection(asked)
        connection.response_class = _response_class(start + self.timeout)
        try:
            connection.request(method, target, body, headers)
            certificate_ends = _certificate_ends(connection.sock)
            # Closed whatever comes: the connection has handed its socket over to the response.
            with connection.getresponse() as response:
                content = _read(response, asked)
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(asked, f"its certificate is not trusted: {error.verify_message}") from error
        except ssl.SSLError as error:
            hint = ", it seems to speak plain HTTP" if error.reason in _NOT_TLS else ""
            raise Unreachable(asked, f"no common TLS: {error.reason or error}{hint}") from error
        except (socket.gaierror, UnicodeError) as error:
            raise Unreachable(asked, f"no such host: {getattr(error, 'strerror', None) or error}") from error
        except socket.timeout as error:
            raise Unreachable(asked, f"no whole answer within {human_duration(self.timeout)}") from error
        except ConnectionRefusedError as error:
            raise Unreachable(asked, "connection refused") from error
        except http.client.RemoteDisconnected as error:
            raise Unreachable(asked, "the connection was closed without an answer") from error
        except OSError as error:
            raise Unreachable(asked, f"{type(error).__name__}: {error}") from error
        except http.client.HTTPException as error:
            raise Unreadable(asked, f"no HTTP ({type(error).__name__}): {first_line(str(error))!r}") from error
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        _raise_for_status(asked, response.status, found, content)
        return Answer(asked, response.status, found, content, time.monotonic() - start, certificate_ends)

    def _connection(self, asked: str) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self.url)
        host = str(parts.hostname)
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=self.timeout)
        try:
            context = _tls(self.ca_path)
        except OSError as error:
            raise Unreachable(asked, f"the authorities in {self.ca_path} cannot be read: {error}") from error
        return http.client.HTTPSConnection(host, parts.port, timeout=self.timeout, context=context)

    def _credentials(self) -> dict[str, str]:
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        if self.username:
            pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}


def first_line(text: str, most: int = 200) -> str:
    """The first line that says something, cut to what fits a sentence."""
    for line in text.splitlines():
        if line.strip():
            return line.strip()[:most]
    return ""


def _tls(ca_path: str) -> ssl.SSLContext:
    if not ca_path:
        return ssl.create_default_context()
    if Path(ca_path).is_dir():
        return ssl.create_default_context(capath=ca_path)
    return ssl.create_default_context(cafile=ca_path)


def _certificate_ends(sock: socket.socket | None) -> float | None:
    if not isinstance(sock, ssl.SSLSocket):
        return None
    ends = (sock.getpeercert() or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None


class _Until(io.RawIOBase):
    """The bytes of a connection, up to a deadline: a socket's own time-out starts anew with every byte."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response_class(deadline: float) -> type[http.client.HTTPResponse]:
    class Response(http.client.HTTPResponse):
        """Status line, headers and body, all by one deadline."""

        def __init__(self, sock: socket.socket, *arguments: t.Any, **named: t.Any) -> None:
            super().__init__(sock, *arguments, **named)
            self.fp.close()
            self.fp = io.BufferedReader(_Until(sock, deadline))

    return Response


def _read(response: http.client.HTTPResponse, asked: str) -> bytes:
    """The body, up to the limit in bytes: it may be without end."""
    chunks: list[bytes] = []
    size = 0
    # Not asked for more than was announced: a server may keep the connection open.
    announced = response.length
    while announced is None or size < announced:
        try:
            chunk = response.read1(CHUNK)
        except http.client.IncompleteRead as error:
            raise Unreadable(asked, f"the answer was cut off after {size} bytes", response.status) from error
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_LIMIT:
            raise Unreadable(asked, f"the answer is longer than {BODY_LIMIT} bytes", response.status)
    if announced is not None and size < announced:
        raise Unreadable(asked, f"the answer was cut off after {size} of {announced} bytes", response.status)
    return b"".join(chunks)


def _raise_for_status(asked: str, status: int, headers: dict[str, str], content: bytes) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        place = headers.get("location", "nowhere")
        kind = Unauthorised if any(word in place.lower() for word in LOGIN_WORDS) else Refused
        raise kind(asked, f"HTTP {status}, a redirect to {place}", status)
    reason = _reason(content)
    if status == 400 and "HTTP request to an HTTPS server" in reason:
        raise Unreachable(asked, f"it speaks TLS and was asked without: HTTP 400: {reason}", status)
    raise _ERROR_BY_STATUS.get(status, Refused)(asked, f"HTTP {status}" + (f": {reason}" if reason else ""), status)


def _reason(content: bytes) -> str:
    """The sentence inside an error: Prometheus puts it under ``error``, Grafana under ``message``."""
    text = content.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        text = str(document.get("error") or document.get("message") or text)
    elif text.lstrip().startswith("<"):
        # A page: its words, of which the first are its title.
        text = _TAG.sub("\n", text)
    # Prometheus names the cause at the end of a chain: a short cut would lose just that.
    return first_line(text, most=2000)
