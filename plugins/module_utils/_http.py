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
import json
import socket
import ssl
import time
import typing as t
import urllib.parse

# A body is read up to here; 64 MiB hold a million series in the text format.
BODY_LIMIT = 64 * 1024 * 1024
CHUNK = 256 * 1024
LOGIN_WORDS = ("login", "signin", "sign-in", "auth", "sso")


class HttpError(Exception):
    """What was asked, of whom, and what came back instead of an answer."""

    def __init__(self, asked: str, came_back: str, status: int | None = None) -> None:
        super().__init__(f"{asked}: {came_back}")
        self.asked = asked
        self.came_back = came_back
        self.status = status


class Unreachable(HttpError):
    """Nobody answered: refused, no such name, too slow, cut off, or no common TLS."""


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

    def get(self, path: str, parameters: dict[str, str] | None = None, accept: str = "*/*") -> Answer:
        return self.exchange("GET", path, parameters, accept)

    def post(self, path: str, parameters: dict[str, str] | None = None) -> Answer:
        """Parameters travel as a form, so that they may be long."""
        return self.exchange("POST", path, parameters, "*/*")

    def exchange(self, method: str, path: str, parameters: dict[str, str] | None, accept: str) -> Answer:
        """
        :raises HttpError: of the kind that tells why there is no answer.
        """
        asked = f"{method} {self.url.rstrip('/')}{path}"
        form = urllib.parse.urlencode(parameters or {})
        target = urllib.parse.urlsplit(self.url).path.rstrip("/") + path
        body: str | None = None
        headers = {"Accept": accept, "User-Agent": "njord.telemetry", "Connection": "close", **self._credentials()}
        if method == "POST":
            body, headers["Content-Type"] = form, "application/x-www-form-urlencoded"
        elif form:
            target = f"{target}?{form}"
        start = time.monotonic()
        connection = self._connection(asked)
        try:
            connection.request(method, target, body, headers)
            certificate_ends = _certificate_ends(connection.sock)
            response = connection.getresponse()
            content = _read(connection, response, asked, start + self.timeout)
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(asked, f"its certificate is not trusted: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise Unreachable(asked, f"no common TLS: {error.reason or error}") from error
        except socket.gaierror as error:
            raise Unreachable(asked, f"no such host: {error.strerror}") from error
        except socket.timeout as error:
            raise Unreachable(asked, f"no whole answer within {self.timeout:g} s") from error
        except ConnectionRefusedError as error:
            raise Unreachable(asked, "connection refused") from error
        except http.client.IncompleteRead as error:
            raise Unreadable(asked, f"the answer was cut off after {len(error.partial)} bytes") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(asked, f"{type(error).__name__}: {error}") from error
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
    context = ssl.create_default_context()
    if ca_path:
        try:
            context.load_verify_locations(cafile=ca_path)
        except IsADirectoryError:
            context.load_verify_locations(capath=ca_path)
    return context


def _certificate_ends(sock: socket.socket | None) -> float | None:
    if not isinstance(sock, ssl.SSLSocket):
        return None
    ends = (sock.getpeercert() or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None


def _read(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse, asked: str, deadline: float
) -> bytes:
    """The body, up to the limit in bytes and the deadline in time: a body may be without end."""
    chunks: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout
        if connection.sock is not None:
            connection.sock.settimeout(left)
        chunk = response.read1(CHUNK)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_LIMIT:
            raise Unreadable(asked, f"the answer is longer than {BODY_LIMIT} bytes", response.status)
    # read1 ends quietly where the peer closed too early.
    if response.length:
        raise Unreadable(asked, f"the answer was cut off after {size} bytes, {response.length} are missing")
    return b"".join(chunks)


def _raise_for_status(asked: str, status: int, headers: dict[str, str], content: bytes) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        place = headers.get("location", "nowhere")
        kind = Unauthorised if any(word in place.lower() for word in LOGIN_WORDS) else Refused
        raise kind(asked, f"HTTP {status}, a redirect to {place}", status)
    reason = _reason(content)
    raise _ERROR_BY_STATUS.get(status, Refused)(asked, f"HTTP {status}" + (f": {reason}" if reason else ""), status)


def _reason(content: bytes) -> str:
    """The sentence inside an error: Prometheus puts it under ``error``, Grafana under ``message``."""
    text = content.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except ValueError:
        return first_line(text)
    if isinstance(document, dict):
        return str(document.get("error") or document.get("message") or first_line(text))
    return first_line(text)
