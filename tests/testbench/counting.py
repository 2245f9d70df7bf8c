# SPDX-License-Identifier: GPL-3.0-or-later
"""A door in front of a server that counts what is asked through it, and passes it on as it is."""

from __future__ import annotations

import http.client
import http.server
import threading
import typing as t
import urllib.parse


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


class Counting:
    """Listens on 127.0.0.1; ``asked`` holds the path of each request, ``most`` how many there were at once.

    :param url: of the server behind it.
    """

    def __init__(self, url: str) -> None:
        self.asked: list[str] = []
        self.most = 0
        behind = urllib.parse.urlsplit(url).netloc
        lock = threading.Lock()
        counting, now = self, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                nonlocal now
                with lock:
                    counting.asked.append(self.path.partition("?")[0])
                    now += 1
                    counting.most = max(counting.most, now)
                try:
                    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    connection = http.client.HTTPConnection(behind, timeout=60)
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                    connection.close()
                finally:
                    with lock:
                        now -= 1
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Counting:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: t.Any) -> None:
        self._server.shutdown()
        self._server.server_close()
