# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers as servers give them on their bad days, from one that says byte for byte what it is told to."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _http
from ansible_collections.njord.telemetry.plugins.module_utils._http import (
    Answer,
    HttpError,
    Refused,
    Server,
    Unauthorised,
    Unreachable,
    Unreadable,
    Unsupported,
)

HUSH = "hush"


@contextlib.contextmanager
def saying(parts: t.Iterable[bytes], pause: float = 0.0, close: bool = True) -> t.Iterator[Server]:
    """A server that answers one request with ``parts``, ``pause`` seconds apart."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _address = listener.accept()
            # Whoever asks and forgets to hang up must not hold the test.
            connection.settimeout(20)
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                for part in parts:
                    connection.sendall(part)
                    if over.wait(pause):
                        return
                if close:
                    connection.shutdown(socket.SHUT_WR)
                over.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=1.0)
        finally:
            over.set()
            thread.join()


def answer_to(*parts: bytes, close: bool = True) -> Answer:
    with saying(parts, close=close) as server:
        return server.get("/metrics")


def error_from(*parts: bytes, kind: type[HttpError]) -> HttpError:
    """What the answer made of ``parts`` is taken for: of this very kind, and not of one derived from it."""
    with pytest.raises(HttpError) as raised, saying(parts) as server:
        server.get("/metrics")
    assert raised.type is kind
    assert raised.value.asked == f"GET {server.url}/metrics"
    assert str(raised.value) == f"{raised.value.asked}: {raised.value.came_back}"
    return raised.value


def forever(part: bytes) -> t.Iterator[bytes]:
    while True:
        yield part


def test_a_whole_answer_has_status_headers_body_and_time() -> None:
    answer = answer_to(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nup 1\n")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/plain", b"up 1\n")
    assert 0 < answer.seconds < 1
    assert answer.certificate_ends is None


def test_a_server_that_keeps_the_connection_open_is_not_waited_for() -> None:
    answer = answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", close=False)
    assert answer.body == b"ok"


def test_a_chunked_answer_is_put_together() -> None:
    answer = answer_to(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n")
    assert answer.text == "abc"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorised), (403, Unauthorised), (404, Unsupported), (405, Unsupported), (500, Refused), (503, Refused)],
)
def test_a_status_that_is_no_success_is_the_error_of_its_kind(status: int, kind: type[HttpError]) -> None:
    error = error_from(b"HTTP/1.1 %d Whatever\r\n\r\nthe reason\nmore" % status, kind=kind)
    assert (error.status, error.came_back) == (status, f"HTTP {status}: the reason")


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"error","error":"the reason"}',
        b'{"message":"the reason"}',
        b"<!DOCTYPE HTML>\n<html><head><title>the reason</title></head><body>more</body></html>",
    ],
)
def test_the_reason_is_dug_out_of_json_and_html(body: bytes) -> None:
    assert error_from(b"HTTP/1.1 500 No\r\n\r\n" + body, kind=Refused).came_back == "HTTP 500: the reason"


def test_a_redirect_to_a_login_page_is_unauthorised_and_not_followed() -> None:
    error = error_from(b"HTTP/1.1 302 Found\r\nLocation: /login?next=metrics\r\n\r\n", kind=Unauthorised)
    assert error.came_back == "HTTP 302, a redirect to /login?next=metrics"


def test_another_redirect_names_its_place() -> None:
    error = error_from(b"HTTP/1.1 301 Moved\r\nLocation: /prometheus/\r\n\r\n", kind=Refused)
    assert "/prometheus/" in error.came_back


def test_a_refused_connection_is_named() -> None:
    # Held, and not listened on: a port that was given back may be anybody's a moment later.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port}/: connection refused"):
            Server(f"http://127.0.0.1:{port}").get("/")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
def test_a_host_that_does_not_exist_is_named(host: str) -> None:
    with pytest.raises(Unreachable, match="no such host"):
        Server(f"http://{host}:1", timeout=5).get("/")


def test_a_connection_that_is_closed_at_once_is_no_answer() -> None:
    error = error_from(kind=Unreachable)
    assert error.came_back == "the connection was closed without an answer"


def test_what_is_no_http_is_named() -> None:
    error = error_from(b"-ERR unknown command 'GET'\r\n", kind=Unreadable)
    assert "-ERR unknown command 'GET'" in error.came_back


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnjord_"], "6 of 100 bytes"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nnjord_"], "6 bytes"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nnjord_\r\n"], "6 bytes"),
    ],
)
def test_an_answer_that_was_cut_off_says_after_how_many_bytes(parts: list[bytes], missing: str) -> None:
    error = error_from(*parts, kind=Unreadable)
    assert error.came_back == f"the answer was cut off after {missing}"


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Drip: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
    ],
    ids=["status line", "header", "body", "announced body"],
)
def test_an_answer_that_drips_ends_at_the_time_out(beginning: bytes) -> None:
    def dripping() -> t.Iterator[bytes]:
        yield beginning
        yield from forever(b"x")

    start = time.monotonic()
    with pytest.raises(Unreachable, match="no whole answer within 1 s"), saying(dripping(), pause=0.05) as server:
        server.get("/metrics")
    assert time.monotonic() - start < 2


def test_silence_ends_at_the_time_out() -> None:
    with pytest.raises(Unreachable, match="no whole answer within 1 s"), saying([b"HTTP"], close=False) as server:
        server.get("/metrics")


def test_an_endless_body_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "BODY_LIMIT", 1_000_000)

    def endless() -> t.Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        yield from forever(b"x" * 65536)

    with pytest.raises(Unreadable, match="longer than 1000000 bytes"), saying(endless()) as server:
        server.get("/metrics")


def test_endless_headers_are_an_error_of_their_own() -> None:
    error = error_from(b"HTTP/1.1 200 OK\r\n" + b"X-More: 1\r\n" * 1000 + b"\r\n", kind=Unreadable)
    assert "got more than 100 headers" in error.came_back


def test_tls_spoken_to_a_plain_server_is_named() -> None:
    with saying([b"HTTP/1.0 400 Bad Request\r\n\r\n"]) as plain:
        server = Server(plain.url.replace("http:", "https:"), timeout=1)
        with pytest.raises(Unreachable, match=r"no common TLS.*seems to speak plain HTTP"):
            server.get("/")


def test_json_that_was_cut_off_shows_where_it_began() -> None:
    answer = answer_to(b'HTTP/1.1 200 OK\r\n\r\n{"status":"success","data":{"resu')
    with pytest.raises(Unreadable, match=r'no JSON .*"status":"success"'):
        answer.json()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:9090", "is no address of a server"),
        ("ftp://localhost", "is no address of a server"),
        ("", "is no address of a server"),
        ("http://localhost:port", "has no port of a server"),
        ("http://user:word@localhost", "use the options"),
    ],
)
def test_what_is_no_address_is_refused_at_once(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Server(url)


def test_a_token_of_two_lines_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="not one line") as raised:
        Server("http://localhost", token=f"{HUSH}\n{HUSH}")
    assert HUSH not in str(raised.value)


def test_secrets_are_not_in_the_representation() -> None:
    assert HUSH not in repr(Server("http://localhost", username="me", password=HUSH, token=HUSH))


GOT: list[tuple[str, str, str, bytes]] = []


class Recorder(http.server.BaseHTTPRequestHandler):
    """Keeps what it was asked in ``GOT``."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        GOT.append((self.command, self.path, self.headers["Authorization"], body))
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def test_a_path_prefix_parameters_and_credentials_reach_the_server() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/prefix/"
        Server(url, username="me", password=HUSH).get("/api", {"query": 'up{job="a b"}'})
        Server(url, token=HUSH).post("/api", {"query": "up"})
        server.shutdown()
    assert GOT == [
        ("GET", "/prefix/api?query=up%7Bjob%3D%22a+b%22%7D", "Basic bWU6aHVzaA==", b""),
        ("POST", "/prefix/api", "Bearer hush", b"query=up"),
    ]
