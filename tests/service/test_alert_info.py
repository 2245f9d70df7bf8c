# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts of real servers: they fire and resolve, are backfilled, cannot be evaluated, or rest on nothing."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import alerts, delivery, silent_alert
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language import expression
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.laboratory.exporter import Exporter, Page
from tests.laboratory.receiver import ALERTMANAGERS, Sink
from tests.service.test_http import certify
from tests.testbench import module, servers
from tests.testbench.packages import ROOT, program

DAY = 86400.0
RULES = """
groups:
  - name: trading
    interval: 1s
    rules:
      - alert: TooManyOrders
        expr: 0 * up + time() % 6 < 3
        labels: {severity: warning}
      - alert: ServerUp
        expr: up == 1
        labels: {severity: critical}
        annotations: {summary: "{{ $labels.job }} is up.", remedy: Be glad.}
      - alert: Patient
        expr: up == 1
        for: 90m
      - alert: Broken
        expr: up * on (job) prometheus_http_requests_total
        labels: {severity: critical}
      - alert: Typo
        expr: njord_tyop_total > 1
        labels: {severity: critical}
      - alert: LowSharpeRatio
        expr: njord_strategy_sharpe_ratio < 0.5
        labels: {severity: warning}
"""


def configuration(port: int, alertmanager: int | None) -> str:
    config: dict[str, t.Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]}
    return yaml.safe_dump(config)


def client(url: str) -> Prometheus:
    return Prometheus(Server(url))


def look(url: str, window: float = 60, **options: t.Any) -> alerts.Look:
    return alerts.Look(client(url), window, options.get("flapping", 3), options.get("not_emitted", ()))


def of(findings: list[Finding], check: str) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings if finding.check == check}


def wait_for(what: t.Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.2)


@pytest.fixture(scope="module", params=["2", "3"])
def flapped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[t.Any]:
    """(server, look, findings) once an alert has fired and resolved four times; its Alertmanager is real."""
    directory = tmp_path_factory.mktemp(f"prometheus{request.param}")
    port = servers.free_port()
    (directory / "rules.yml").write_text(RULES)
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(servers.alertmanager(directory))
        config = configuration(port, receiver.port)
        server = stack.enter_context(servers.prometheus(directory, request.param, config, port=port))
        asked = client(server.url)
        changes = "sum(changes(ALERTS_FOR_STATE{alertname='TooManyOrders'}[1m]))"
        wait_for(lambda: any(sample.value >= 4 for sample in asked.query(changes)))
        looking = look(server.url, not_emitted=["njord_strategy_sharpe_ratio"])
        yield server, looking, looking.findings()


def test_what_fires_now_is_as_severe_as_its_rule_says_and_brings_its_remedy(flapped: t.Any) -> None:
    _server, looking, findings = flapped
    finding = of(findings, "alert.firing")["ServerUp"]
    assert (finding.severity, finding.remedy) == ("critical", "Be glad.")
    assert "prometheus is up." in finding.summary
    assert {row["state"] for row in looking.active_rows()} == {"firing", "pending"}


def test_a_pending_alert_says_when_it_would_fire(flapped: t.Any) -> None:
    *_others, findings = flapped
    assert "It fires in 1 h " in of(findings, "alert.pending")["Patient"].summary


def test_every_firing_of_the_past_minute_is_counted(flapped: t.Any) -> None:
    _server, looking, findings = flapped
    (history,) = [history for history in looking.history if history.name == "TooManyOrders"]
    assert len(history.firing) >= 5
    # True for three of six seconds; the first and the last may be cut.
    assert all(2 <= length <= 4 for length in history.lengths[1:-1])
    assert all(2 <= pause <= 4 for pause in history.pauses)
    assert looking.resolution == 1
    rows = of(findings, "alert.history")["all alerts"].evidence["chart"]["rows"]
    assert any(row["label"].startswith("TooManyOrders") and len(row["spans"]) >= 5 for row in rows)


def test_an_alert_that_flaps_is_a_warning_with_the_times_that_would_calm_it(flapped: t.Any) -> None:
    *_others, findings = flapped
    finding = of(findings, "alert.flapping")["TooManyOrders"]
    assert finding.severity == "warning"
    assert "keep_firing_for" in finding.remedy


def test_a_rule_that_cannot_be_evaluated_is_critical_where_its_alert_is(flapped: t.Any) -> None:
    *_others, findings = flapped
    finding = of(findings, "alert.rule")["trading/Broken"]
    assert finding.severity == "critical"
    assert "matching" in finding.summary


def test_a_rule_on_a_metric_that_does_not_exist_cannot_fire(flapped: t.Any) -> None:
    *_others, findings = flapped
    rules = of(findings, "alert.rule")
    assert set(rules) == {"trading/Broken", "trading/Typo", "metrics not emitted by this version"}
    assert "while njord_tyop_total has no series" in rules["trading/Typo"].summary
    assert rules["metrics not emitted by this version"].evidence["without_series"] == {
        "LowSharpeRatio": ["njord_strategy_sharpe_ratio"]
    }


def test_an_alertmanager_that_takes_everything_is_ok(flapped: t.Any) -> None:
    server, _looking, findings = flapped
    assert of(findings, "alert.delivery")[server.url].severity == "ok"


def test_the_history_says_that_it_begins_later_than_asked_for(flapped: t.Any) -> None:
    server, *_others = flapped
    finding = of(look(server.url, window=DAY).findings(), "alert.history")["all alerts"]
    assert finding.severity == "info"
    assert "of the time before, Prometheus has no data, though 1 d were asked for" in finding.summary


def test_a_dead_alertmanager_is_listed_and_yet_told(tmp_path: Path) -> None:
    port = servers.free_port()
    (tmp_path / "rules.yml").write_text(RULES)
    with servers.prometheus(tmp_path, config=configuration(port, servers.free_port()), port=port) as server:
        lost = "sum(increase(prometheus_notifications_errors_total[1m]))"
        wait_for(lambda: any(sample.value > 0 for sample in client(server.url).query(lost)))
        finding = of(look(server.url).findings(), "alert.delivery")[server.url]
    assert finding.severity == "warning"
    assert len(finding.evidence["alertmanagers"]) == 1


@pytest.mark.parametrize("version", ["2", "3"])
def test_backfilled_history_is_read_whole(tmp_path: Path, version: str) -> None:
    """Two weeks ago to now; the window cuts the first firing off, and the others are found in their blocks."""
    now = int(time.time())
    firings = [(13 * DAY, 600), (5 * DAY, 3600), (2 * DAY, 15), (DAY, 1800)]
    labels = 'alertname="HighDrawdown",severity="critical",strategy_id="alpha"'
    alive: list[str] = []
    since: list[str] = []
    for ago, seconds in firings:
        begun = now - int(ago)
        for at in range(begun, begun + seconds, 15):
            alive.append(f'ALERTS{{{labels},alertstate="firing"}} 1 {at}')
            since.append(f"ALERTS_FOR_STATE{{{labels}}} {begun} {at}")
    text = ["# TYPE ALERTS gauge", *alive, "# TYPE ALERTS_FOR_STATE gauge", *since, "# EOF"]
    (tmp_path / "past.txt").write_text("\n".join(text) + "\n")
    subprocess.run(
        [
            *(program("promtool", version), "tsdb", "create-blocks-from", "openmetrics"),
            *(tmp_path / "past.txt", tmp_path / "data"),
        ],
        check=True,
        capture_output=True,
    )
    (tmp_path / "rules.yml").write_text(RULES)
    config = configuration(servers.free_port(), None)
    with servers.prometheus(tmp_path, version, config, ["--storage.tsdb.retention.time=30d"]) as server:
        looking = look(server.url, window=7 * DAY)
        findings = looking.findings()
    (row,) = [row for row in looking.history_rows() if row["name"] == "HighDrawdown"]
    resolution = looking.resolution or 0.0
    assert resolution == pytest.approx(7 * DAY / 48_000)
    assert row["firings"] == 3
    assert row["firing_seconds"] == pytest.approx(3600 + 15 + 1800, abs=3 * (resolution + 15))
    assert row["longest_seconds"] == pytest.approx(3600, abs=resolution + 15)
    assert "no data" not in of(findings, "alert.history")["all alerts"].summary
    assert of(findings, "alert.delivery")[server.url].severity == "warning"


def selected(tree: t.Any) -> set[str]:
    """Names of all selectors in an expression as Prometheus parsed it."""
    if isinstance(tree, list):
        return {name for branch in tree for name in selected(branch)}
    if not isinstance(tree, dict):
        return set()
    own = {str(tree["name"])} if tree.get("type") in ("vectorSelector", "matrixSelector") else set()
    return own | {name for branch in tree.values() for name in selected(branch)}


def test_our_rules_are_read_as_prometheus_reads_them(tmp_path: Path) -> None:
    files = sorted((ROOT / "roles" / "prometheus").rglob("rules/*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    queries = [rule["expr"] for group in groups for rule in group["rules"]]
    judged = 0
    with servers.prometheus(tmp_path) as server:
        for query in queries:
            tree = Server(server.url).get("/api/v1/parse_query", {"query": query}).json()["data"]
            needed = expression.needs(query)
            if needed is not None:
                judged += 1
                assert needed.metrics == selected(tree), query
    assert judged >= 10
    assert judged > len(queries) * 0.7


def test_without_rules_nothing_can_fire_and_that_is_said(tmp_path: Path) -> None:
    with servers.prometheus(tmp_path) as server:
        findings = look(server.url).findings()
    assert of(findings, "alert.rule")["all rules"].severity == "warning"
    assert of(findings, "alert.delivery")[server.url].severity == "warning"
    assert of(findings, "alert.history")["all alerts"].severity == "unknown"


def test_victoria_metrics_is_named_and_not_called_quiet(tmp_path: Path) -> None:
    with servers.victoria_metrics(tmp_path) as server:
        (finding,) = look(server.url).findings()
    assert (finding.severity, finding.evidence["came_back"]) == ("unknown", "VictoriaMetrics")


def test_a_server_that_is_not_there_is_unknown() -> None:
    (finding,) = look(f"http://127.0.0.1:{servers.free_port()}").findings()
    assert (finding.severity, finding.evidence["came_back"]) == ("unknown", "connection refused")


def why(url: str, *names: str, **options: t.Any) -> dict[str, t.Any]:
    """What the module says of these alerts, by the subject of its findings."""
    answer = module.run("alert_info", {"prometheus_url": url, "rules": list(names), "window": "1m", **options})
    return {finding["subject"]: finding for finding in answer["findings"]}


def test_the_module_says_why_each_named_alert_does_not_reach_anybody(flapped: t.Any) -> None:
    """Each link, on real servers, is the laboratory's to break: tests/laboratory/alerts.py."""
    server, *_others = flapped
    found = why(server.url, "ServerUp", "Patient", "Broken", "Typo", "ServerUpp")
    checks = {subject: finding["check"] for subject, finding in found.items()}
    assert checks == {
        "trading/ServerUp": "alert.receiver",
        "trading/Patient": "alert.wait",
        "trading/Broken": "alert.evaluation",
        "trading/Typo": "alert.series",
        "ServerUpp": "alert.loaded",
    }
    assert "meant is perhaps ServerUp" in found["ServerUpp"]["summary"]
    assert found["trading/Broken"]["severity"] == "critical"


def test_a_metric_that_is_not_emitted_is_for_information(flapped: t.Any) -> None:
    server, *_others = flapped
    found = why(server.url, "LowSharpeRatio", not_emitted=["njord_strategy_sharpe_ratio"])
    assert found["trading/LowSharpeRatio"]["severity"] == "info"
    assert "is not emitted by this version" in found["trading/LowSharpeRatio"]["summary"]


def test_an_alertmanager_that_wants_a_login_is_unknown_and_not_dead(flapped: t.Any) -> None:
    server, *_others = flapped
    with Exporter() as proxy:
        proxy.scripts["/api/v2/alerts/groups"] = lambda _number: Page("", 401)
        finding = why(server.url, "ServerUp", alertmanager_url=f"http://{proxy.address}")["trading/ServerUp"]
    assert (finding["check"], finding["severity"]) == ("alert.delivery", "unknown")
    assert "HTTP 401" in finding["summary"]
    assert "alertmanager_token_file" in finding["remedy"]


def test_what_is_no_alertmanager_is_unknown(flapped: t.Any) -> None:
    server, *_others = flapped
    finding = why(server.url, "ServerUp", alertmanager_url=server.url)["trading/ServerUp"]
    assert (finding["check"], finding["severity"]) == ("alert.delivery", "unknown")
    assert "HTTP 404" in finding["summary"]


WEB = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
# The steps of its subquery take longer than its interval.
EXPENSIVE = {"alert": "Expensive", "expr": "count_over_time((vector(1) + time() % 7)[1h:5ms]) < 0"}


def always(directory: Path, receivers: t.Sequence[str], **settings: t.Any) -> str:
    """The configuration of a Prometheus with an alert that fires, which it sends to these Alertmanagers."""
    rule = {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "critical"}}
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "lab", "rules": [rule]}]}))
    alertmanagers = [{"static_configs": [{"targets": list(receivers)}], **settings}]
    config = {"rule_files": ["rules.yml"], "alerting": {"alertmanagers": alertmanagers}}
    return yaml.safe_dump({"global": {"evaluation_interval": "1s"}, **config})


@pytest.mark.parametrize("version", ["2", "3"])
def test_of_two_alertmanagers_the_dead_one_is_named_and_the_other_has_the_alert(tmp_path: Path, version: str) -> None:
    gone = f"127.0.0.1:{servers.free_port()}"
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink())
        receiver = {"name": "hook", "webhook_configs": [{"url": sink.url}]}
        routes = yaml.safe_dump({"route": {"receiver": "hook", "group_wait": "0s"}, "receivers": [receiver]})
        alive = stack.enter_context(servers.alertmanager(tmp_path, ALERTMANAGERS[version], routes))
        config = always(tmp_path, [gone, alive.url[7:]])
        arguments = ["--rules.alert.resend-delay=1s"]
        server = stack.enter_context(servers.prometheus(tmp_path, version, config, arguments))
        wait_for(lambda: bool(sink.told))
        finding = why(server.url, "Always")["lab/Always"]
    assert (finding["check"], finding["severity"]) == ("alert.delivered", "warning"), finding
    assert "its receiver hook (webhook) takes the notifications" in finding["summary"]
    assert f"1 of 2 Alertmanagers give no answer from here: http://{gone} (connection refused)" in finding["summary"]
    assert gone in finding["remedy"]
    assert finding["evidence"]["passed"].count(f"alert.delivery: {alive.url} has it") == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "severity", "word"),
    [
        ("server.crt", None, "unknown", "its certificate is not trusted"),
        ("server.crt", "other.crt", "unknown", "its certificate is not trusted"),
        ("other.crt", "server.crt", "critical", "answers but does not have it; "),
        ("server.crt", "server.crt", "critical", "its route leads to the receiver none, which has no integration"),
    ],
)
def test_an_authority_that_is_wrong_here_or_at_prometheus_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, ours: str | None, severity: str, word: str
) -> None:
    certify(tmp_path, days=60).replace(tmp_path / "other.crt")
    certify(tmp_path, days=60)
    (tmp_path / "web.yml").write_text(WEB)
    with contextlib.ExitStack() as stack:
        guarded = servers.alertmanager(tmp_path, arguments=[f"--web.config.file={tmp_path}/web.yml"])
        stack.enter_context(guarded)
        url = guarded.url.replace("http:", "https:")
        config = always(tmp_path, [guarded.url[7:]], scheme="https", tls_config={"ca_file": theirs})
        server = stack.enter_context(
            servers.prometheus(tmp_path, config=config, arguments=["--rules.alert.resend-delay=1s"])
        )
        known = {"alertmanager_url": url, "alertmanager_ca_path": str(tmp_path / "server.crt")}
        sent = "prometheus_notifications_sent_total"
        lost = "prometheus_notifications_errors_total"
        page = client(server.url)
        counter = sent if theirs == "server.crt" else lost
        wait_for(lambda: any(value for _labels, value in page.own_page((counter,)).kept.get(counter, [])))
        if theirs == "server.crt":
            wait_for(lambda: why(server.url, "Always", **known)["lab/Always"]["check"] == "alert.receiver")
        given = Server(url, ca_path=str(tmp_path / ours)) if ours else None
        # Not asked for as long as an alert may take that was lost at a start.
        monkeypatch.setattr(delivery, "RESEND", 0.0)
        (finding,) = silent_alert.Look(page, ["Always"], 60.0, (), given).findings()
    assert finding.severity == severity, finding
    assert word in finding.summary
    if severity == "unknown":
        assert "alertmanager_ca_path" in finding.remedy


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_group_that_takes_longer_than_its_interval_is_a_warning_for_its_alerts(tmp_path: Path, version: str) -> None:
    port = servers.free_port()
    quick = {"alert": "Quick", "expr": "up == 1", "for": "1h"}
    groups = [{"name": "slow", "interval": "200ms", "rules": [EXPENSIVE, quick]}]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    with servers.prometheus(tmp_path, version, configuration(port, None), port=port) as server:
        missed = "increase(prometheus_rule_group_iterations_missed_total[1m]) > 0"
        wait_for(lambda: bool(client(server.url).query(missed)))
        finding = why(server.url, "Quick")["slow/Quick"]
    assert finding["severity"] == "warning", finding
    assert "and one is due every 200 ms: about" in finding["summary"]
    assert "were missed in the last 15 min, and alerts come late" in finding["summary"]
    assert finding["evidence"]["slowest_rule"] == "Expensive"


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_restart_begins_a_short_wait_anew_and_keeps_a_long_one(tmp_path: Path, version: str) -> None:
    port = servers.free_port()
    waits = {"Short": "5m", "Long": "90m"}
    rules = [{"alert": name, "expr": "up == 1", "for": wait} for name, wait in waits.items()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "lab", "rules": rules}]}))
    with servers.prometheus(tmp_path, version, configuration(port, None), port=port) as server:
        asked = client(server.url)

        def since() -> dict[str, float]:
            return {alert.labels["alertname"]: alert.since or 0.0 for alert in asked.alerts()}

        wait_for(lambda: set(since()) == set(waits))
        begun = time.time()
        time.sleep(6)
        server.stop()
        server.start()
        # What is kept is so from the second evaluation on.
        wait_for(lambda: set(since()) == set(waits) and since()["Long"] < begun + 3 < since()["Short"])
        found = why(server.url, *waits)
    short, long = found["lab/Short"], found["lab/Long"]
    assert re.search(r"which had begun at .*, began anew when Prometheus was started at", short["summary"]), short
    assert "shorter than rules.alert.for-grace-period (10m) is not kept over a restart" in short["summary"]
    assert "--rules.alert.for-grace-period=300s keeps it" in short["remedy"]
    assert long["summary"].startswith("Long is pending"), long
    assert "anew" not in long["summary"]
