# SPDX-License-Identifier: GPL-3.0-or-later
"""The server: formats, tokens, readiness, and clients that do not behave."""

from __future__ import annotations

import base64
import gzip
import http.client
import socket
import threading
import time
import typing as t

import pytest
from njord_telemetry import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families

TOKEN = base64.b64encode(bytes(range(24))).decode()


class Running:
    def __init__(self, token: str = "") -> None:
        registry = CollectorRegistry()
        Gauge("njord_open_orders", "Orders.", registry=registry).set(3)
        self.reason = ""
        self.server = web.Server("127.0.0.1", 0, registry, lambda: self.reason, token)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def address(self) -> tuple[str, int]:
        return t.cast("tuple[str, int]", self.server.server_address)

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, t.Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers.items()), answer.read()
        finally:
            connection.close()


@pytest.fixture
def open_to_all() -> t.Iterator[Running]:
    running = Running()
    yield running
    running.stop()


@pytest.fixture
def closed() -> t.Iterator[Running]:
    running = Running(TOKEN)
    yield running
    running.stop()


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize("escaping", ["", ";escaping=values", ";escaping=dots", "; escaping = underscores"])
@pytest.mark.parametrize("accept", [PROMETHEUS_2, PROMETHEUS_3, "application/openmetrics-text;version=1.0.0"])
def test_openmetrics_is_served_with_the_names_as_they_are(open_to_all: Running, accept: str, escaping: str) -> None:
    status, headers, page = open_to_all.get("/metrics", Accept=accept.replace("1.0.0", f"1.0.0{escaping}"))
    (family,) = text_string_to_metric_families(page.decode())
    assert (status, family.name) == (200, "njord_open_orders")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/html", "text/plain;version=0.0.4", "application/openmetrics-text;version=newest", ";;,,=;q"],
)
def test_all_others_get_the_text_format(open_to_all: Running, accept: str) -> None:
    status, headers, page = open_to_all.get("/metrics", Accept=accept)
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\nnjord_open_orders 3.0\n" in page
    assert b"# EOF" not in page


def test_the_page_is_compressed_for_who_can_read_that(open_to_all: Running) -> None:
    plain = open_to_all.get("/metrics", Accept_Encoding="identity")
    packed = open_to_all.get("/metrics", Accept_Encoding="deflate, gzip;q=0.5")
    assert "Content-Encoding" not in plain[1]
    assert packed[1]["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed[2]) == plain[2]


def test_a_head_request_gets_the_headers_alone(open_to_all: Running) -> None:
    status, headers, page = open_to_all.get("/metrics", "HEAD")
    assert (status, page) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_a_query_string_changes_nothing(open_to_all: Running) -> None:
    assert open_to_all.get("/metrics?x=1")[0] == 200


def test_a_page_that_is_not_there_says_which_are(open_to_all: Running) -> None:
    status, _headers, page = open_to_all.get("/metric")
    assert status == 404
    assert b"/metrics" in page


def test_ready_says_why_not(open_to_all: Running) -> None:
    assert open_to_all.get("/-/ready")[0] == 200
    open_to_all.reason = "Redis is away"
    assert open_to_all.get("/-/ready")[::2] == (503, b"Not ready: Redis is away\n")
    assert open_to_all.get("/-/healthy")[0] == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"],
)
def test_without_the_right_token_the_metrics_are_refused(closed: Running, authorization: str) -> None:
    status, headers, page = closed.get("/metrics", Authorization=authorization)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert b"njord_open_orders" not in page


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_right_token_the_metrics_are_served(closed: Running, scheme: str) -> None:
    assert closed.get("/metrics", Authorization=f"{scheme} {TOKEN}")[0] == 200


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_health_and_readiness_need_no_token(closed: Running, path: str) -> None:
    assert closed.get(path)[0] == 200


def _closed_after(client: socket.socket) -> float:
    start = time.monotonic()
    client.settimeout(10)
    assert client.recv(1) == b""
    return time.monotonic() - start


def test_a_client_that_never_finishes_its_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 0.5)
    running = Running()
    try:
        with socket.create_connection(running.address) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            assert 0.3 < _closed_after(client) < 5
    finally:
        running.stop()


def test_idle_clients_are_limited_and_do_not_stop_the_server_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(web, "CONNECTIONS", 3)
    running = Running()
    try:
        idle = [socket.create_connection(running.address) for _client in range(3)]
        with socket.create_connection(running.address) as refused:
            assert _closed_after(refused) < 0.9
        for client in idle:
            _closed_after(client)
            client.close()
        time.sleep(0.1)
        assert running.get("/metrics")[0] == 200
    finally:
        running.stop()


def test_headers_without_end_are_refused(open_to_all: Running) -> None:
    status, _headers, _page = open_to_all.get("/metrics", **{f"X-{number}": "x" for number in range(200)})
    assert status == 431
