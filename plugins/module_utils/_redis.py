# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A few words with Redis over a plain socket, with the typed errors of ``_http``.

Only what is needed to see whether the bus is there and who uses it; a host need not have a library for that.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2)
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import time
import typing as t
import urllib.parse
from pathlib import Path

from ._http import HttpError, Refused, Unauthorised, Unreachable, Unreadable, Unsupported, Untrusted, first_line
from ._units import human_duration

# A message of the bus is some hundred bytes; no answer that is asked for here is longer.
LINE_LIMIT = 64 * 1024
BULK_LIMIT = 16 * 1024 * 1024
_ERROR_BY_WORD: dict[str, type[HttpError]] = {
    "NOAUTH": Unauthorised,
    "WRONGPASS": Unauthorised,
    "NOPERM": Unauthorised,
    "DENIED": Unauthorised,
}


@dataclasses.dataclass(frozen=True)
class Redis:
    """One server, and how it is asked.

    :param url: ``redis://host:port/number``, ``rediss://…`` for TLS, or ``unix:///path/of/the/socket``.
    :param ca_path: file or directory of the authorities that are trusted; the system's where empty.
    :param timeout: seconds for one answer.
    """

    url: str
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    ca_path: str = ""
    timeout: float = 10.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if not {"redis": parts.hostname, "rediss": parts.hostname, "unix": parts.path}.get(parts.scheme):
            raise ValueError(f"{parts.scheme}:// is no address of a Redis; redis://127.0.0.1:6379/0 would do")
        # The address itself is not shown: it holds what must not be shown.
        if parts.username or parts.password:
            raise ValueError("the address of a Redis holds a user name or a password; use the options for them")
        try:
            _port = parts.port
        except ValueError as error:
            raise ValueError(f"{self.url!r} has no port of a server: {error}") from error
        if parts.path.strip("/") and parts.scheme != "unix" and not parts.path.strip("/").isdigit():
            raise ValueError(f"{self.url!r}: {parts.path!r} is no number of a database; /0 would do")

    @contextlib.contextmanager
    def connection(self) -> t.Iterator[Connection]:
        """A connection that is logged in.

        :raises HttpError: of the kind that tells why there is none.
        """
        with contextlib.closing(self._socket()) as sock:
            connection = Connection(self.url, sock, self.timeout)
            if self.password:
                connection.ask("AUTH", *([self.username] if self.username else []), self.password)
            connection.ask("PING")
            yield connection

    def _socket(self) -> socket.socket:
        parts = urllib.parse.urlsplit(self.url)
        with _errors(self.url, self.timeout):
            if parts.scheme == "unix":
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(self.timeout)
                try:
                    sock.connect(parts.path)
                except BaseException:
                    sock.close()
                    raise
                return sock
            host = str(parts.hostname)
            sock = socket.create_connection((host, parts.port or 6379), self.timeout)
            if parts.scheme == "redis":
                return sock
            is_directory = bool(self.ca_path) and Path(self.ca_path).is_dir()
            context = ssl.create_default_context(
                cafile=None if is_directory else self.ca_path or None, capath=self.ca_path if is_directory else None
            )
            return context.wrap_socket(sock, server_hostname=host)


class Connection:
    """Commands and their answers, one after the other."""

    def __init__(self, url: str, sock: socket.socket, timeout: float) -> None:
        self._url = url
        self._socket = sock
        self._timeout = timeout
        self._buffer = b""

    def ask(self, *words: str) -> t.Any:
        """The answer: bytes, a number, None, or a list of such.

        :raises HttpError: where there is none, or it is an error.
        """
        self._send(words)
        with _errors(self._asked(words[0]), self._timeout):
            answer = self._answer(time.monotonic() + self._timeout)
        if isinstance(answer, _ErrorReply):
            word = answer.text.partition(" ")[0]
            unknown = Unsupported if "unknown command" in answer.text else Refused
            raise _ERROR_BY_WORD.get(word, unknown)(self._asked(words[0]), answer.text)
        return answer

    def subscribers(self, topic: str) -> int:
        """How many clients are subscribed to the topic by its name."""
        answer = self.ask("PUBSUB", "NUMSUB", topic)
        try:
            return int(answer[1])
        except (TypeError, ValueError, IndexError) as error:
            raise Unreadable(self._asked("PUBSUB"), f"no number of subscribers: {answer!r}") from error

    def listen(self, topic: str, seconds: float, most: int) -> list[bytes]:
        """What is published on the topic within so many seconds, up to so many messages. The connection is spent."""
        self._send(("SUBSCRIBE", topic))
        deadline = time.monotonic() + seconds
        messages: list[bytes] = []
        try:
            while len(messages) < most:
                answer = self._answer(deadline)
                if isinstance(answer, _ErrorReply):
                    raise _ERROR_BY_WORD.get(answer.text.partition(" ")[0], Refused)(
                        self._asked("SUBSCRIBE"), answer.text
                    )
                if isinstance(answer, list) and answer[:1] == [b"message"]:
                    messages.append(bytes(answer[2]))
        except socket.timeout:
            pass
        except OSError as error:
            raise Unreachable(self._asked("SUBSCRIBE"), f"the connection was lost: {error}") from error
        return messages

    def _asked(self, word: str) -> str:
        return f"{word} {self._url}"

    def _send(self, words: t.Sequence[str]) -> None:
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            data = word.encode()
            parts += [f"${len(data)}\r\n".encode(), data, b"\r\n"]
        with _errors(self._asked(words[0]), self._timeout):
            self._socket.settimeout(self._timeout)
            self._socket.sendall(b"".join(parts))

    def _answer(self, deadline: float) -> t.Any:
        line = self._line(deadline)
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return _ErrorReply(rest.decode("utf-8", "replace"))
        try:
            count = int(rest) if kind in b":$*" and kind else None
        except ValueError:
            count = None
        if count is None or count > BULK_LIMIT:
            raise Unreadable(self._url, f"no Redis answers there: {first_line(line.decode('utf-8', 'replace'))!r}")
        if kind == b":":
            return count
        if count < 0:
            return None
        if kind == b"$":
            return self._bytes(count + 2, deadline)[:-2]
        return [self._answer(deadline) for _element in range(count)]

    def _line(self, deadline: float) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > LINE_LIMIT:
                raise Unreadable(self._url, f"no Redis answers there: a line longer than {LINE_LIMIT} bytes")
            self._more(deadline)
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _bytes(self, count: int, deadline: float) -> bytes:
        while len(self._buffer) < count:
            self._more(deadline)
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def _more(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout
        self._socket.settimeout(left)
        chunk = self._socket.recv(LINE_LIMIT)
        if not chunk:
            # What is not Redis closes; so does one that has too many clients.
            said = first_line(self._buffer.decode("utf-8", "replace"))
            raise Unreachable(self._url, "the connection was closed" + (f" after {said!r}" if said else ""))
        self._buffer += chunk


@dataclasses.dataclass(frozen=True)
class _ErrorReply:
    text: str


@contextlib.contextmanager
def _errors(asked: str, timeout: float) -> t.Iterator[None]:
    """Errors of a socket as the typed ones."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(asked, f"its certificate is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise Unreachable(asked, f"no common TLS: {error.reason or error}") from error
    except (socket.gaierror, UnicodeError) as error:
        raise Unreachable(asked, f"no such host: {getattr(error, 'strerror', None) or error}") from error
    except socket.timeout as error:
        raise Unreachable(asked, f"no answer within {human_duration(timeout)}") from error
    except ConnectionRefusedError as error:
        raise Unreachable(asked, "connection refused") from error
    except OSError as error:
        raise Unreachable(asked, f"{type(error).__name__}: {error}") from error
