# SPDX-License-Identifier: GPL-3.0-or-later
"""Where alerts go to: a webhook, an Alertmanager that routes by labels, and benches whose Prometheus tells one."""

from __future__ import annotations

import contextlib
import functools
import http.client
import http.server
import json
import threading
import time
import typing as t

import yaml

from tests.laboratory.exporter import certificate
from tests.laboratory.fault import Bench
from tests.testbench import servers

# Alertmanager of the same Debian as each Prometheus.
ALERTMANAGERS = {"2": "0.28", "3": "0.33"}
# Labels of an alert by which it is kept back, or told to nobody.
SILENCED, INHIBITED, MUTED, UNHEARD = "silenced", "inhibited", "muted", "unheard"


class Sink:
    """A webhook that takes everything under ``/``, and answers 500 under ``/500``.

    :ivar told: what it was told, by path, in order.
    """

    def __init__(self) -> None:
        told: list[tuple[str, dict[str, t.Any]]] = []
        self.told = told

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(500 if self.path == "/500" else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Sink:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def routing(hook: str) -> dict[str, t.Any]:
    """A configuration of Alertmanager, by the labels of the alert."""

    def route(receiver: str, label: str, **settings: t.Any) -> dict[str, t.Any]:
        return {"receiver": receiver, "matchers": [f'{label}="yes"'], **settings}

    always: dict[str, t.Any] = {"mute_time_intervals": ["always"]}
    return {
        "route": {
            "receiver": "hook",
            "group_by": ["alertname"],
            "group_wait": "0s",
            "group_interval": "2s",
            "routes": [
                route("nobody", UNHEARD, routes=[route("nobody", MUTED, **always)]),
                route("hook", MUTED, **always),
            ],
        },
        "time_intervals": [{"name": "always", "time_intervals": [{"years": ["2000:2100"]}]}],
        "inhibit_rules": [{"source_matchers": ['alertname="Source"'], "target_matchers": [f'{INHIBITED}="yes"']}],
        "receivers": [{"name": "nobody"}, {"name": "hook", "webhook_configs": [{"url": hook}]}],
    }


def post(url: str, path: str, body: str = "") -> int:
    """The status that comes back."""
    connection = http.client.HTTPConnection(url[7:], timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status


def silence(url: str, label: str) -> None:
    moment = "%Y-%m-%dT%H:%M:%SZ"
    body = {
        "matchers": [{"name": label, "value": "yes", "isRegex": False}],
        "startsAt": time.strftime(moment, time.gmtime(time.time() - 60)),
        "endsAt": time.strftime(moment, time.gmtime(time.time() + 3600)),
        "createdBy": "the laboratory",
        "comment": "we know",
    }
    assert post(url, "/api/v2/silences", json.dumps(body)) == http.HTTPStatus.OK


def alertmanager(bench: Bench, hook: str) -> servers.Server:
    config = yaml.safe_dump(routing(hook))
    server = servers.alertmanager(bench.folder(), ALERTMANAGERS[bench.version], config)
    bench.stack.enter_context(server)
    silence(server.url, SILENCED)
    return server


def nowhere(bench: Bench) -> list[str]:
    return []


def well(bench: Bench) -> list[str]:
    return [alertmanager(bench, bench.stack.enter_context(Sink()).url).url[7:]]


def failing(bench: Bench) -> list[str]:
    return [alertmanager(bench, f"{bench.stack.enter_context(Sink()).url}/500").url[7:]]


def dead(bench: Bench) -> list[str]:
    return [f"127.0.0.1:{servers.free_port()}"]


def one_dead(bench: Bench) -> list[str]:
    return [*dead(bench), *well(bench)]


def unknown_authority(bench: Bench) -> list[str]:
    """It speaks TLS with a certificate that nobody signed whom Prometheus knows."""
    folder = bench.folder()
    certificate(folder)
    (folder / "web.yml").write_text("tls_server_config: {cert_file: target.crt, key_file: target.key}\n")
    server = servers.alertmanager(
        folder, ALERTMANAGERS[bench.version], arguments=[f"--web.config.file={folder}/web.yml"]
    )
    bench.stack.enter_context(server)
    return [f"https://127.0.0.1:{server.port}"]


# The Alertmanagers of a Prometheus; each such Prometheus is a bench of its own beside the first.
Kind = t.Callable[[Bench], t.List[str]]


@functools.lru_cache(maxsize=None)
def telling(bench: Bench, kind: Kind) -> Bench:
    """The bench beside this one whose Prometheus tells these Alertmanagers; none where it tells nobody."""
    beside = bench.another(kind.__name__)
    beside.alertmanagers += kind(beside)
    beside.rule("Source", alert="Source", expr="vector(1)", labels={"severity": "critical"})
    if kind is dead:
        beside.rule_files.append("elsewhere/*.yml")
    return beside
