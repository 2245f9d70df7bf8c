# SPDX-License-Identifier: GPL-3.0-or-later
"""A synthetic alert on real Alertmanagers: it reaches the receiver that was named, and nobody else, or is not sent."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils import _alertmanager, _yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import routing, synthetic
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.laboratory.receiver import Sink, post, silence
from tests.testbench import module, servers
from tests.testbench.packages import ROOT

VERSIONS = ("0.28", "0.33")
NOBODY = Prometheus(Server("http://127.0.0.1:1"))


def configuration(hook: str) -> dict[str, t.Any]:
    """Routes that lead to each receiver in another way."""

    def route(receiver: str, matcher: str, **settings: t.Any) -> dict[str, t.Any]:
        return {"receiver": receiver, "matchers": [matcher], **settings}

    muted: dict[str, t.Any] = {"mute_time_intervals": ["always"]}
    return {
        "route": {
            "receiver": "hook",
            "group_by": ["alertname"],
            "group_wait": "1s",
            "group_interval": "2s",
            "routes": [
                route("audit", 'team="twice"', **{"continue": True}),
                route("twice", 'team="twice"'),
                route("audit", 'severity!="page"', matchers=['severity!="page"', 'severity!=""'], **{"continue": True}),
                route("desk", 'severity=~"critical|page"'),
                route("nobody", 'team="nobody"'),
                route("muted", 'team="muted"', **muted),
                route("silenced", 'silenced="yes"'),
                route("inhibited", 'team="inhibited"'),
                route("failing", 'team="failing"'),
                route("slow", 'team="slow"', group_wait="40s"),
                route("endless", 'team="endless"', group_wait="1h"),
            ],
        },
        "time_intervals": [{"name": "always", "time_intervals": [{"years": ["2000:2100"]}]}],
        "inhibit_rules": [{"source_matchers": ['alertname="Source"'], "target_matchers": ['team="inhibited"']}],
        "receivers": [
            {"name": "nobody"},
            {"name": "failing", "webhook_configs": [{"url": f"{hook}/500"}]},
            {"name": "desk", "webhook_configs": [{"url": f"{hook}/desk", "send_resolved": False}]},
            *(
                {"name": name, "webhook_configs": [{"url": f"{hook}/{name}"}]}
                for name in ("hook", "audit", "twice", "muted", "silenced", "inhibited", "slow", "endless")
            ),
        ],
    }


@dataclasses.dataclass(frozen=True)
class Stand:
    url: str
    sink: Sink

    def told(self, status: str = "firing") -> list[tuple[str, dict[str, t.Any]]]:
        return [(path, body) for path, body in self.sink.told if body["status"] == status]

    def fire(self, **labels: str) -> None:
        assert post(self.url, "/api/v2/alerts", json.dumps([{"labels": labels}])) == 200

    def active(self) -> list[dict[str, str]]:
        return [one.labels for one in _alertmanager.Alertmanager(Server(self.url)).held()]


@contextlib.contextmanager
def stand(directory: Path, version: str, *arguments: str) -> t.Iterator[Stand]:
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink())
        config = yaml.safe_dump(configuration(sink.url))
        server = stack.enter_context(servers.alertmanager(directory, version, config, arguments))
        silence(server.url, "silenced")
        yield Stand(server.url, sink)


@pytest.fixture(params=VERSIONS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[Stand]:
    with stand(tmp_path, request.param) as running:
        yield running


@pytest.fixture(params=VERSIONS, scope="module")
def busy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Stand]:
    """Another alert is there, which inhibits."""
    with stand(tmp_path_factory.mktemp("busy"), request.param) as running:
        running.fire(alertname="Source")
        wait_for(lambda: bool(running.told()))
        yield running


def tried(stand: Stand, receiver: str, *, is_check: bool = False, **labels: str) -> tuple[Finding, bool]:
    """What is said, and whether anything was sent."""
    question = synthetic.Question(receiver, labels, "Ada", is_check)
    trial = synthetic.Trial(NOBODY, Server(stand.url), question)
    (finding,) = trial.findings()
    return finding, trial.is_sent


def wait_for(what: t.Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.2)


def test_one_alert_reaches_the_receiver_alone_and_is_ended(made: Stand) -> None:
    arguments = {"alertmanager_url": made.url, "synthetic_receiver": "hook", "synthetic_author": "Ada"}
    answer = module.run("alert_info", arguments)
    (finding,) = answer["findings"]
    assert (finding["check"], finding["severity"], answer["changed"]) == ("alert.synthetic", "ok", True), finding
    assert "delivered, webhook took it" in finding["summary"]
    assert "Its end is told too" in finding["summary"]
    ((path, body),) = made.told()
    assert path == "/hook"
    (alert,) = body["alerts"]
    assert alert["labels"]["alertname"] == "NjordSyntheticTest"
    assert "This is a test" in alert["annotations"]["summary"]
    assert "Ada sent this synthetic alert" in alert["annotations"]["description"]
    wait_for(lambda: bool(made.told("resolved")))
    assert made.active() == []
    assert len(made.told()) == 1


def test_labels_are_found_that_get_past_a_route_that_goes_on(made: Stand) -> None:
    finding, _is_sent = tried(made, "desk")
    assert finding.severity == "ok", finding
    assert finding.evidence["labels"]["severity"] == "page"
    assert "Its end is not told" in finding.summary
    assert [path for path, _body in made.told()] == ["/desk"]


def test_a_second_trial_at_once_is_proven_again(made: Stand) -> None:
    first, second = tried(made, "hook")[0], tried(made, "hook")[0]
    assert first.severity == "ok", first
    # Its group is there still, or it is not known what the counts are of; a trial that went out is never a failure.
    assert second.severity in ("ok", "unknown"), second


@pytest.mark.parametrize(
    ("receiver", "word", "severity"),
    [
        ("twice", "the alert also reaches audit", "unknown"),
        ("nobody", "has no integration for it", "warning"),
        ("muted", "its route is muted by the time interval always", "unknown"),
        ("silenced", "it would be silenced by", "unknown"),
        ("inhibited", "it would be inhibited by the alert alertname=Source", "unknown"),
        ("endless", "its route waits for 1 h", "unknown"),
        ("dsek", "has no receiver of that name", "unknown"),
    ],
)
def test_what_would_not_reach_it_alone_is_not_sent(busy: Stand, receiver: str, word: str, severity: str) -> None:
    finding, is_sent = tried(busy, receiver)
    assert (finding.severity, is_sent) == (severity, False), finding
    assert word in finding.summary
    assert busy.active() == [{"alertname": "Source"}]


def test_labels_that_are_given_are_kept_to(busy: Stand) -> None:
    finding, is_sent = tried(busy, "desk", severity="critical")
    assert (finding.severity, is_sent) == ("unknown", False)
    assert "also reaches audit" in finding.summary


def test_check_mode_says_whom_it_would_reach_and_sends_nothing(busy: Stand) -> None:
    arguments = {"alertmanager_url": busy.url, "synthetic_receiver": "desk", "_ansible_check_mode": True}
    answer = module.run("alert_info", arguments)
    (finding,) = answer["findings"]
    assert (finding["severity"], answer["changed"]) == ("info", False)
    assert "leads to desk (webhook), and to nobody else" in finding["summary"]
    assert busy.active() == [{"alertname": "Source"}]
    assert {path for path, _body in busy.told()} == {"/hook"}


def test_a_receiver_that_answers_500_fails(made: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "MARGIN", 3.0)
    finding, _is_sent = tried(made, "failing")
    assert finding.severity == "critical", finding
    assert "webhook failed" in finding.summary
    assert "could not be ended" not in finding.summary
    assert made.active() == []


def test_other_alerts_leave_it_unknown_unless_alertmanager_counts_by_receiver(
    made: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "MARGIN", 3.0)
    made.fire(alertname="Other", severity="info")
    wait_for(lambda: bool(made.told()))
    finding, is_sent = tried(made, "desk")
    assert (finding.severity, is_sent) == ("unknown", True), finding
    assert "1 other alert(s), such as alertname=Other" in finding.summary
    assert "receiver-name-in-metrics" in finding.remedy


@pytest.mark.parametrize("version", VERSIONS)
def test_counts_by_receiver_prove_it_among_others(tmp_path: Path, version: str) -> None:
    with stand(tmp_path, version, "--enable-feature=receiver-name-in-metrics") as running:
        running.fire(alertname="Other", severity="info")
        wait_for(lambda: bool(running.told()))
        finding, _is_sent = tried(running, "desk")
        assert finding.severity == "ok", finding
        assert finding.evidence["counted"] == "by receiver desk"


def test_a_dead_alertmanager_is_unknown() -> None:
    question = synthetic.Question("hook", {}, "Ada", False)
    trial = synthetic.Trial(NOBODY, Server(f"http://127.0.0.1:{servers.free_port()}"), question)
    (finding,) = trial.findings()
    assert (finding.severity, trial.is_sent) == ("unknown", False)
    assert "connection refused" in finding.summary


def test_of_two_alertmanagers_the_dead_one_is_named(tmp_path: Path) -> None:
    gone = f"127.0.0.1:{servers.free_port()}"
    with stand(tmp_path, "0.33") as running:
        targets = [{"targets": [gone, running.url[7:]]}]
        config = yaml.safe_dump({"alerting": {"alertmanagers": [{"static_configs": targets}]}})
        with servers.prometheus(tmp_path, config=config) as prometheus:
            client = Prometheus(Server(prometheus.url))
            wait_for(lambda: len(client.alertmanagers()) == 2)
            (finding,) = synthetic.Trial(client, None, synthetic.Question("hook", {}, "Ada", False)).findings()
    assert finding.severity == "warning", finding
    assert "delivered" in finding.summary
    assert f"It was not tried at http://{gone} (connection refused)" in finding.summary
    assert len(running.told()) == 1


def test_a_trial_that_is_interrupted_ends_its_alert(tmp_path: Path) -> None:
    with stand(tmp_path, "0.33") as running:
        arguments = {"alertmanager_url": running.url, "synthetic_receiver": "slow"}
        child = subprocess.Popen(
            [sys.executable, "-c", module._CHILD, json.dumps(["alert_info", arguments, 0])],
            env={"PYTHONPATH": f"{ROOT}/playbooks/collections", "PATH": "/usr/bin:/bin"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: len(running.active()) == 1)
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) != 0
        finally:
            child.kill()
            child.wait()
        assert running.active() == []
        assert running.sink.told == []


scalars = st.one_of(
    st.text(alphabet="ab:-#'\"\\ \n|>[]{},&*!%@`?=~0.é\t", max_size=120),
    st.sampled_from(["true", "null", "1", "a b " * 40, "x: y", "- a", ""]),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("ab_ :'-", min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text("abc_", min_size=1, max_size=8), documents, min_size=1), st.sampled_from([None, '"', "'"])
)
def test_whatever_a_library_writes_is_read_back(document: dict[str, t.Any], style: str | None) -> None:
    text = yaml.safe_dump(document, default_flow_style=False, default_style=style, allow_unicode=True)
    # A key that is too long for a line has a form that no configuration has.
    assume("? " not in text.replace("'? ", ""))
    assert _yaml.read(text) == document


def test_the_configuration_is_read_as_a_library_reads_it(busy: Stand) -> None:
    text = _alertmanager.Alertmanager(Server(busy.url)).configuration()

    def texts(node: t.Any) -> t.Any:
        if isinstance(node, dict):
            return {key: texts(value) for key, value in node.items()}
        if isinstance(node, list):
            return [texts(value) for value in node]
        return str(node).lower() if isinstance(node, bool) else str(node)

    assert _yaml.read(text) == texts(yaml.safe_load(text))
    assert set(routing.Configuration.read(text).receivers) == {
        row["name"] for row in configuration("http://127.0.0.1")["receivers"]
    }
