# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of services in every state, by servers and a systemctl that answer as they are told."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _health
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._health import SERVICES, Health, Question, check
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server

Reply = t.Tuple[int, t.Dict[str, str], bytes]
Routes = t.Dict[str, Reply]
NOW = time.time()


def text(body: str, status: int = 200) -> Reply:
    return status, {"Content-Type": "text/plain; version=0.0.4"}, body.encode()


def metrics(namespace: str, **values: float) -> Reply:
    lines = [f'{namespace}_build_info{{version="1.2.3"}} 1', f"process_start_time_seconds {NOW - 3600}"]
    return text("\n".join([*lines, *(f"{namespace}_{name} {value}" for name, value in values.items()), ""]))


def targets(*healths: str) -> Reply:
    rows = [
        {
            "labels": {"job": f"job{number}"},
            "scrapePool": "pool",
            "scrapeUrl": f"http://127.0.0.1:{number}/metrics",
            "health": health,
            "lastError": "connection refused" if health == "down" else "",
        }
        for number, health in enumerate(healths)
    ]
    body = json.dumps({"status": "success", "data": {"activeTargets": rows}})
    return 200, {"Content-Type": "application/json"}, body.encode()


READY = text("ready")
RELOADED = {"config_last_reload_successful": 1, "config_last_reload_success_timestamp_seconds": NOW - 3600}
PROMETHEUS: Routes = {
    "/-/ready": READY,
    "/metrics": metrics("prometheus", **RELOADED),
    "/api/v1/targets": targets("up", "up"),
}
EXPORTER: Routes = {
    "/-/ready": READY,
    "/metrics": metrics("njord_exporter", last_message_timestamp_seconds=NOW - 2),
}
PAGE: Reply = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Njord</title>")


@contextlib.contextmanager
def serving(routes: Routes) -> t.Iterator[Server]:
    """A server that knows these pages only; ``routes`` may change meanwhile."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = routes.get(self.path.partition("?")[0], (404, {}, b"no such page"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Tests are quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Server(f"http://127.0.0.1:{server.server_port}", timeout=2)
        server.shutdown()


@contextlib.contextmanager
def silent() -> t.Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=1)


# Held, and not listened on: a port that was given back may be anybody's a moment later.
HELD = socket.socket()
HELD.bind(("127.0.0.1", 0))


def nobody() -> Server:
    return Server(f"http://127.0.0.1:{HELD.getsockname()[1]}", timeout=1)


class Systemctl:
    """Stands in for ``systemctl show``, in its own format; a unit that nobody told of is active."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "systemctl"
        self.says(f'while [ "$1" != -- ]; do shift; done; shift\nfor unit; do cat {directory}/"$unit"; echo; done\n')
        for service in SERVICES.values():
            self.unit(service.unit)

    def says(self, script: str) -> None:
        self.path.write_text(f"#!/bin/sh\n{script}")
        self.path.chmod(0o755)

    def unit(
        self,
        name: str,
        active: str = "active",
        sub: str = "running",
        load: str = "loaded",
        result: str = "success",
        restarts: int = 0,
        pid: int = 42,
        changed: float = 7200.0,
        status: int = 0,
    ) -> None:
        """``changed``: seconds ago."""
        moment = (time.clock_gettime(time.CLOCK_MONOTONIC) - changed) * 1e6
        (self.directory / name).write_text(
            f"MainPID={pid}\nNRestarts={restarts}\nExecMainStatus={status}\nLoadState={load}\nActiveState={active}\n"
            f"SubState={sub}\nStateChangeTimestampMonotonic={moment:.0f}\nResult={result}\n"
        )

    def missing(self, name: str) -> None:
        # A unit that is not there has neither processes nor restarts.
        (self.directory / name).write_text(
            "LoadState=not-found\nActiveState=inactive\nSubState=dead\nStateChangeTimestampMonotonic=0\n"
        )


@pytest.fixture()
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Systemctl(tmp_path)


def ask(name: str, server: Server | None, **more: t.Any) -> Health:
    return check(Question([name], {name: server} if server else {}, **more))


def only(health: Health) -> Finding:
    assert len(health.findings) == 1, health.findings
    return health.findings[0]


def of(name: str, routes: Routes, **more: t.Any) -> Finding:
    with serving(routes) as server:
        return only(ask(name, server, **more))


def told(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.subject, finding.severity


@pytest.mark.usefixtures("systemctl")
@pytest.mark.parametrize(
    ("name", "routes", "facts"),
    [
        ("exporter", EXPORTER, ["Exporter 1.2.3 is well", "ready", "3 samples", "last message of the bus came"]),
        ("dashboard", {"/": PAGE}, ["Dashboard is well", "a page titled 'Njord'"]),
        ("prometheus", PROMETHEUS, ["configuration loaded 1 h", "2 of 2 targets up", "unit prometheus is active"]),
        ("node_exporter", {"/metrics": metrics("node_exporter")}, ["node_exporter 1.2.3 is well", "2 samples"]),
        ("alertmanager", {"/-/ready": READY, "/metrics": metrics("alertmanager", **RELOADED)}, ["configuration"]),
        ("grafana", {"/api/health": text('{"database": "ok", "version": "12.0"}')}, ["Grafana 12.0", "database ok"]),
    ],
)
def test_a_service_that_is_well_gives_one_finding(name: str, routes: Routes, facts: list[str]) -> None:
    with serving(routes) as server:
        health = ask(name, server)
    finding = only(health)
    assert told(finding) == ("service.health", name, "ok")
    assert [fact for fact in facts if fact not in finding.summary] == []
    assert finding.evidence["url"] == server.url
    assert 0 < finding.evidence["seconds"] < 2
    assert finding.evidence["unit"]["pid"] == 42
    assert health.services[name]["state"] == "running"


@pytest.mark.usefixtures("systemctl")
def test_a_service_without_a_port_is_well_when_its_unit_is() -> None:
    finding = only(ask("aggregator", None))
    assert told(finding) == ("service.health", "aggregator", "ok")
    assert "active (running), since 2 h" in finding.summary


@pytest.mark.usefixtures("systemctl")
@pytest.mark.parametrize("name", ["dashboard", "alertmanager", "grafana"])
def test_a_service_without_an_address_is_unknown_and_not_waited_for(name: str) -> None:
    health = check(Question([name], {}), wait=30)
    assert told(only(health)) == ("service.configuration", name, "unknown")
    assert f"{name}_url" in only(health).remedy
    assert (health.services[name]["state"], health.rounds) == ("not configured", 1)


LOGIN: Reply = (302, {"Location": "/login"}, b"")


@pytest.mark.usefixtures("systemctl")
@pytest.mark.parametrize(
    ("name", "page", "reply", "expected", "words"),
    [
        ("prometheus", "/-/ready", text("Service Unavailable", 503), ("ready", "critical"), "is not ready"),
        ("prometheus", "/-/ready", LOGIN, ("ready", "unknown"), "wants to know who asks"),
        ("prometheus", "/-/ready", text("no", 404), ("ready", "unknown"), "does not know what was asked"),
        ("prometheus", "/metrics", text("", 401), ("scrape", "unknown"), "HTTP 401"),
        ("prometheus", "/metrics", text("", 403), ("scrape", "unknown"), "HTTP 403"),
        ("prometheus", "/metrics", text("boom", 500), ("scrape", "critical"), "HTTP 500: boom"),
        ("prometheus", "/metrics", PAGE, ("scrape", "critical"), "an HTML page titled 'Njord' instead of metrics"),
        ("prometheus", "/metrics", text(""), ("scrape", "critical"), "without a single sample"),
        ("prometheus", "/metrics", text("up 1\nup one\n"), ("scrape", "critical"), "line 2: value 'one' is no number"),
        ("prometheus", "/metrics", text("up 1\nu"), ("scrape", "critical"), "cut off"),
        ("prometheus", "/metrics", (200, {}, b"up 1\n"), ("scrape", "critical"), "Content-Type '' instead of"),
        ("prometheus", "/metrics", text("vm_app_version 1\n"), ("identity", "unknown"), "it is VictoriaMetrics"),
        ("prometheus", "/metrics", metrics("mimir"), ("identity", "unknown"), "it is mimir_build_info"),
        ("prometheus", "/metrics", metrics("prometheus"), ("reload", "unknown"), "does not say"),
        (
            "prometheus",
            "/metrics",
            metrics("prometheus", **{**RELOADED, "config_last_reload_successful": 0}),
            ("reload", "critical"),
            "refused its configuration at the last reload and runs on the old one (configuration loaded 1 h",
        ),
        ("prometheus", "/api/v1/targets", text('{"status":"succ'), ("targets", "critical"), "no JSON"),
        ("prometheus", "/api/v1/targets", text('{"data": []}'), ("targets", "critical"), "not as the API"),
        ("prometheus", "/api/v1/targets", targets(), ("targets", "warning"), "no target"),
        (
            "prometheus",
            "/api/v1/targets",
            targets("up", "down"),
            ("targets", "warning"),
            "1 of 2 targets of Prometheus are down: job1 http://127.0.0.1:1/metrics: connection refused",
        ),
        ("prometheus", "/api/v1/targets", targets(*["down"] * 5), ("targets", "warning"), "and 2 more"),
        ("prometheus", "/api/v1/targets", targets("up", "unknown"), ("targets", "unknown"), "not been scraped yet"),
        (
            "exporter",
            "/-/ready",
            text("Not ready: Redis 127.0.0.1:6379 is away\n", 503),
            ("ready", "critical"),
            "HTTP 503: Not ready: Redis 127.0.0.1:6379 is away",
        ),
        ("exporter", "/metrics", metrics("njord_exporter"), ("bus", "unknown"), "does not say when the last message"),
        (
            "exporter",
            "/metrics",
            metrics("njord_exporter", last_message_timestamp_seconds=0),
            ("bus", "warning"),
            "no message of the bus has come since its start 1 h",
        ),
        (
            "exporter",
            "/metrics",
            metrics("njord_exporter", last_message_timestamp_seconds=NOW - 5 * 3600),
            ("bus", "warning"),
            "the last message of the bus came 5 h",
        ),
        ("node_exporter", "/metrics", text("oops", 500), ("scrape", "warning"), "HTTP 500: oops"),
        ("dashboard", "/", text("hello"), ("page", "warning"), "no HTML page but 'hello'"),
        ("grafana", "/api/health", text('{"database": "failing"}'), ("page", "warning"), "its database is not ok"),
        ("grafana", "/api/health", text("[]"), ("page", "warning"), "its database is not ok"),
    ],
)
def test_a_sick_answer_is_named(name: str, page: str, reply: Reply, expected: tuple[str, str], words: str) -> None:
    finding = of(name, {**(EXPORTER if name == "exporter" else PROMETHEUS), page: reply})
    assert told(finding) == (f"service.{expected[0]}", name, expected[1])
    assert words in finding.summary
    assert finding.remedy


@pytest.mark.usefixtures("systemctl")
def test_what_was_asked_and_what_came_back_is_evidence() -> None:
    with serving({**PROMETHEUS, "/metrics": text("boom", 500)}) as server:
        finding = only(ask("prometheus", server))
    assert finding.evidence["asked"] == f"GET {server.url}/metrics"
    assert (finding.evidence["came_back"], finding.evidence["status"]) == ("HTTP 500: boom", 500)


@pytest.mark.usefixtures("systemctl")
def test_a_silent_bus_names_the_switch_of_the_publishers() -> None:
    finding = of("exporter", {**EXPORTER, "/metrics": metrics("njord_exporter", last_message_timestamp_seconds=0)})
    assert "NJORD_ENABLE_METRICS=1" in finding.remedy
    assert finding.evidence["figures"]["bus_silence_seconds"] > 3000


@pytest.mark.usefixtures("systemctl")
def test_a_bus_is_not_silent_yet_right_after_a_start() -> None:
    page = text(
        f'njord_exporter_build_info{{version="1"}} 1\nprocess_start_time_seconds {time.time() - 5}\n'
        "njord_exporter_last_message_timestamp_seconds 0\n"
    )
    assert told(of("exporter", {**EXPORTER, "/metrics": page})) == ("service.bus", "exporter", "info")


@pytest.mark.usefixtures("systemctl")
def test_targets_may_wait_for_their_first_scrape_after_a_reload() -> None:
    fresh = metrics("prometheus", **{**RELOADED, "config_last_reload_success_timestamp_seconds": time.time() - 5})
    finding = of("prometheus", {**PROMETHEUS, "/metrics": fresh, "/api/v1/targets": targets("unknown")})
    assert told(finding) == ("service.targets", "prometheus", "info")


@pytest.mark.usefixtures("systemctl")
def test_what_does_not_stop_the_next_question_is_said_beside_it() -> None:
    refused = metrics("prometheus", **{**RELOADED, "config_last_reload_successful": 0})
    with serving({**PROMETHEUS, "/metrics": refused, "/api/v1/targets": targets("down")}) as server:
        health = ask("prometheus", server)
    assert [finding.check for finding in health.findings] == ["service.reload", "service.targets"]
    assert health.services["prometheus"]["state"] == "running"


@pytest.mark.usefixtures("systemctl")
@pytest.mark.parametrize(("name", "severity"), [("prometheus", "critical"), ("node_exporter", "warning")])
def test_an_active_unit_behind_a_port_that_refuses(name: str, severity: str) -> None:
    server = nobody()
    finding = only(ask(name, server))
    assert told(finding) == ("service.port", name, severity)
    assert server.url in finding.summary
    assert "connection refused" in finding.summary
    assert f"{name}_url" in finding.remedy


def test_a_failed_unit_is_one_finding_with_all_that_systemd_knows(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "failed", "failed", result="exit-code", restarts=5, pid=0, changed=240, status=2)
    health = ask("prometheus", nobody())
    finding = only(health)
    assert told(finding) == ("service.unit", "prometheus", "critical")
    assert finding.summary == (
        "Prometheus is down: unit prometheus is failed (failed), exit-code, exit status 2, "
        "restarted 5 times, since 4 min"
    )
    assert "journalctl -u prometheus" in finding.remedy
    assert health.services["prometheus"]["state"] == "stopped"


def test_a_masked_unit_is_said_to_be_masked(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "inactive", "dead", load="masked", pid=0)
    assert "its file is masked" in only(ask("prometheus", nobody())).summary


def test_a_unit_that_is_not_installed_is_critical_and_in_check_mode_unknown(systemctl: Systemctl) -> None:
    systemctl.missing("prometheus")
    assert told(only(ask("prometheus", nobody()))) == ("service.unit", "prometheus", "critical")
    finding = only(ask("prometheus", nobody(), installing=True))
    assert told(finding) == ("service.unit", "prometheus", "unknown")
    assert "not installed yet" in finding.summary


def test_a_service_of_a_unit_alone_is_not_configured_until_there_is_or_is_named_one(systemctl: Systemctl) -> None:
    systemctl.missing("njord-metric-aggregator")
    finding = only(ask("aggregator", None))
    assert told(finding) == ("service.configuration", "aggregator", "unknown")
    named = {"aggregator": "njord-metric-aggregator"}
    assert told(only(ask("aggregator", None, units=named))) == ("service.unit", "aggregator", "critical")


def test_what_answers_without_its_unit_is_run_by_something_else(systemctl: Systemctl) -> None:
    systemctl.missing("prometheus")
    finding = of("prometheus", PROMETHEUS)
    assert told(finding) == ("service.unit", "prometheus", "warning")
    assert "units: {prometheus" in finding.remedy


def test_a_stopped_unit_whose_port_answers_has_lost_it_to_another_process(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "inactive", "dead", pid=0)
    finding = of("prometheus", PROMETHEUS)
    assert told(finding) == ("service.unit", "prometheus", "critical")
    assert "another process has its port" in finding.summary


def test_a_unit_that_does_not_stay_up_is_a_warning_for_an_hour(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", restarts=3, changed=60)
    finding = of("prometheus", PROMETHEUS)
    assert told(finding) == ("service.unit", "prometheus", "warning")
    assert "restarted 3 times" in finding.summary
    systemctl.unit("prometheus", restarts=3, changed=7200)
    assert of("prometheus", PROMETHEUS).severity == "ok"


def test_a_unit_of_another_name_is_asked_instead(systemctl: Systemctl) -> None:
    systemctl.missing("prometheus")
    systemctl.unit("prometheus2")
    assert of("prometheus", PROMETHEUS, units={"prometheus": "prometheus2"}).severity == "ok"


def test_all_are_stopped_when_unit_process_and_port_are_gone(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "inactive", "dead", pid=0)
    systemctl.missing("grafana-server")
    systemctl.unit("njord-metric-aggregator", "inactive", "dead", pid=0)
    health = check(Question(["prometheus", "grafana", "aggregator"], {"prometheus": nobody()}, stopped=True))
    assert [told(finding)[::2] for finding in health.findings] == [("service.health", "ok")] * 3
    assert {known["state"] for known in health.services.values()} == {"stopped"}


def test_a_unit_that_still_runs_was_not_stopped(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "deactivating", "stop-sigterm")
    finding = only(ask("prometheus", nobody(), stopped=True))
    assert told(finding) == ("service.unit", "prometheus", "critical")


def test_a_port_that_still_answers_was_not_stopped(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "inactive", "dead", pid=0)
    assert told(of("prometheus", {}, stopped=True)) == ("service.port", "prometheus", "critical")


def test_a_unit_that_did_not_end_well_is_a_warning(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "failed", "failed", result="timeout", pid=0)
    finding = only(ask("prometheus", nobody(), stopped=True))
    assert told(finding) == ("service.unit", "prometheus", "warning")
    assert "timeout" in finding.summary


def test_a_port_of_which_nothing_is_known_is_not_stopped(systemctl: Systemctl) -> None:
    systemctl.unit("prometheus", "inactive", "dead", pid=0)
    finding = only(ask("prometheus", Server("http://no-such-host.invalid:1", timeout=5), stopped=True))
    assert told(finding) == ("service.port", "prometheus", "unknown")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo "System has not been booted with systemd" >&2; exit 1\n', "has not been booted with systemd"),
        ("exec sleep 30\n", "timed out"),
        ("echo ActiveState=active\n", "systemctl ended with 0"),
    ],
)
def test_a_host_without_systemd_is_unknown_and_its_ports_are_asked_still(
    systemctl: Systemctl, script: str, words: str
) -> None:
    systemctl.says(script)
    start = time.monotonic()
    with serving(PROMETHEUS) as server:
        health = check(Question(["prometheus", "aggregator"], {"prometheus": server}))
    assert time.monotonic() - start < 4
    assert [told(finding) for finding in health.findings] == [
        ("service.systemd", "systemd", "unknown"),
        ("service.health", "prometheus", "ok"),
        ("service.systemd", "aggregator", "unknown"),
    ]
    assert words in health.findings[0].summary


def test_a_host_without_systemctl_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    health = ask("aggregator", None, stopped=True)
    assert [finding.severity for finding in health.findings] == ["unknown", "unknown"]
    assert "no systemctl" in health.findings[0].summary


@pytest.mark.usefixtures("systemctl")
def test_silent_servers_are_asked_at_the_same_time() -> None:
    names = ["exporter", "prometheus", "node_exporter", "alertmanager", "grafana"]
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(silent()) for name in names}
        health = check(Question(names, servers))
    assert [finding.check for finding in health.findings] == ["service.port"] * 5
    assert "no whole answer within" in health.findings[0].summary
    assert health.seconds < 2


@pytest.mark.usefixtures("systemctl")
def test_a_name_that_is_looked_up_for_ever_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    health = ask("prometheus", Server("http://slow.example:9090", timeout=1))
    over.set()
    finding = only(health)
    assert told(finding) == ("service.port", "prometheus", "critical")
    assert "no whole answer within 1 s" in finding.summary
    assert health.seconds < 3


@pytest.mark.usefixtures("systemctl")
def test_an_error_of_our_own_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_body: bytes, _keep: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(_health, "parse", broken)
    with pytest.raises(ZeroDivisionError):
        of("prometheus", PROMETHEUS)


@pytest.mark.usefixtures("systemctl")
def test_a_start_is_waited_for_until_it_is_well() -> None:
    routes = {**PROMETHEUS, "/-/ready": text("Service Unavailable", 503)}
    with serving(routes) as server:
        timer = threading.Timer(1.5, lambda: routes.update({"/-/ready": READY}))
        timer.start()
        health = check(Question(["prometheus"], {"prometheus": server}), wait=20)
        timer.join()
    assert only(health).severity == "ok"
    assert health.rounds > 1
    assert 1.5 < health.seconds < 5


@pytest.mark.usefixtures("systemctl")
def test_waiting_ends_with_what_is_wrong_still() -> None:
    health = check(Question(["prometheus"], {"prometheus": nobody()}), wait=1.5)
    assert only(health).severity == "critical"
    assert 1.5 <= health.seconds < 4
