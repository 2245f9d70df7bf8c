# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an alert does not fire or reach anybody, as far as no server is needed; the laboratory asks real ones."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _alertmanager
from ansible_collections.njord.telemetry.plugins.module_utils._alertmanager import Alertmanager, Held, Silence
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import delivery, silent_alert, wait
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import port
from ansible_collections.njord.telemetry.plugins.module_utils._exposition import Exposition
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Server, Unauthorised, Unreachable
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import (
    Alert,
    Prometheus,
    Result,
    Rule,
    Sample,
    Series,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
URL = "http://alertmanager.example:9093"
RULE = Rule(
    name="HighDrawdown",
    kind="alerting",
    query="lab_drawdown > 0.1",
    group="risk",
    file="/etc/prometheus/rules/risk.yml",
    health="ok",
    error="",
    hold=60.0,
    keep=0.0,
    state="firing",
    labels={"severity": "critical"},
    annotations={},
    interval=15.0,
    evaluated=NOW,
)
ALPHA = {"alertname": "HighDrawdown", "severity": "critical", "strategy": "alpha"}
HELD = Held(ALPHA, "1", "desk", (), (), ())


def alert(labels: t.Mapping[str, str] | None = None, since: float = NOW - 600) -> Alert:
    return Alert(dict(ALPHA if labels is None else labels), {}, "firing", since, "1")


class FakePrometheus(Prometheus):
    """:param answers: values by a word of the query; a query without one is empty."""

    def __init__(self, urls: t.Sequence[str] = (f"{URL}/api/v2/alerts",), **answers: float) -> None:
        super().__init__(Server("http://prometheus.example:9090"))
        self.urls = list(urls)
        self.answers = answers

    def alertmanagers(self) -> list[str]:
        return self.urls

    def own_page(self, names: t.Container[str]) -> Exposition:
        return Exposition()

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        return [Sample({}, value, NOW) for word, value in self.answers.items() if word in expression]


def delivered(
    monkeypatch: pytest.MonkeyPatch,
    held: t.Sequence[Held] | HttpError = (HELD,),
    counts: t.Mapping[str, float] | None = None,
    configuration: str = "",
    alerts: t.Sequence[Alert] = (alert(),),
    client: FakePrometheus | None = None,
) -> Finding:
    """What is said of alerts that fire.

    :param held: what Alertmanager has, and ``counts`` what it counts of the webhook, by name.
    """
    numbers = {delivery.SENT: 5.0, delivery.TRIED: 5.0, delivery.TRIED_IN_VAIN: 0.0, **(counts or {})}

    def all_held(_server: Alertmanager) -> list[Held]:
        if isinstance(held, HttpError):
            raise held
        return list(held)

    page = Exposition(kept={name: [({"integration": "webhook"}, value)] for name, value in numbers.items()})
    monkeypatch.setattr(Alertmanager, "held", all_held)
    monkeypatch.setattr(Alertmanager, "integrations", lambda _server: {"desk": ["webhook"], "nobody": []})
    monkeypatch.setattr(Alertmanager, "own_page", lambda _server, _names: page)
    monkeypatch.setattr(
        Alertmanager,
        "silence",
        lambda _server, number: Silence(number, "Ada", "we know", NOW + 60, ('strategy="alpha"',)),
    )
    looked = delivery.Delivery(client or FakePrometheus(), NOW, configuration, None)
    return looked.first(RULE, list(alerts), [])


def test_an_alert_that_is_taken_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = delivered(monkeypatch)
    assert (finding.check, finding.severity, finding.remedy) == ("alert.delivered", "ok", "")


def test_labels_that_prometheus_adds_do_not_make_it_another_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = dataclasses.replace(HELD, labels={**ALPHA, "cluster": "one"})
    assert delivered(monkeypatch, [outer]).check == "alert.delivered"


def test_the_alert_of_another_label_set_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(HELD, labels={**ALPHA, "strategy": "beta"})
    finding = delivered(monkeypatch, [other])
    assert (finding.check, finding.severity) == ("alert.delivery", "critical")
    assert f"{URL} answers but does not have it" in finding.summary


def test_what_relabelling_makes_of_an_alert_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(HELD, labels={"alertname": "HighDrawdown"})
    configuration = "alerting:\n  alert_relabel_configs:\n  - regex: strategy\n"
    assert delivered(monkeypatch, [other], configuration=configuration).check == "alert.delivered"
    gone = delivered(monkeypatch, [], configuration=configuration)
    assert "alert_relabel_configs may drop it" in gone.summary


def test_an_alert_that_has_just_begun_to_fire_may_still_be_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = delivered(monkeypatch, [], alerts=[alert(since=NOW - 65)])
    assert (finding.check, finding.severity) == ("alert.delivery", "unknown")


def test_an_alertmanager_that_wants_a_login_is_unknown_and_says_which_option_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble = Unauthorised("GET it", "HTTP 401", 401)
    finding = delivered(monkeypatch, trouble, client=FakePrometheus(prometheus_notifications=7.0))
    assert finding.severity == "unknown"
    assert "HTTP 401" in finding.summary
    assert "alertmanager_token_file" in finding.remedy


def test_one_that_does_not_answer_from_here_is_dead_only_where_prometheus_lost_notifications(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble = Unreachable("GET it", "connection refused")
    lost = delivered(monkeypatch, trouble, client=FakePrometheus(prometheus_notifications=7.0))
    assert (lost.check, lost.severity) == ("alert.delivery", "critical")
    assert "7 notification(s) failed or were dropped in the last 15 min" in lost.summary
    none = delivered(monkeypatch, trouble, client=FakePrometheus(prometheus_notifications=0.0))
    assert none.severity == "unknown"
    assert "counts no notification that it could not send" in none.summary


def test_discovery_that_finds_no_alertmanager_is_not_called_unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = "alerting:\n  alertmanagers:\n  - dns_sd_configs: []\n"
    finding = delivered(monkeypatch, configuration=configuration, client=FakePrometheus(urls=[]))
    assert "discovery of Alertmanagers finds none" in finding.summary
    assert "no Alertmanager configured" in delivered(monkeypatch, client=FakePrometheus(urls=[])).summary


def test_one_silenced_label_set_of_two_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    silenced = dataclasses.replace(HELD, fingerprint="2", labels={**ALPHA, "n": "2"}, silenced_by=("abc",))
    finding = delivered(monkeypatch, [HELD, silenced])
    assert finding.check == "alert.silence"
    assert "1 of 2 label sets are silenced by abc of Ada (we know) until 20" in finding.summary


def test_a_fault_of_what_is_let_through_goes_before_a_silence_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    silenced = dataclasses.replace(HELD, fingerprint="2", labels={**ALPHA, "n": "2"}, silenced_by=("abc",))
    through = dataclasses.replace(HELD, receiver="nobody")
    assert delivered(monkeypatch, [through, silenced]).check == "alert.receiver"


def test_a_version_that_does_not_say_what_is_muted_leaves_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = delivered(monkeypatch, [dataclasses.replace(HELD, muted_by=None)])
    assert finding.severity == "unknown"
    assert "muted by time" in finding.summary


@pytest.mark.parametrize(
    ("counts", "severity", "says"),
    [
        ({delivery.TRIED_IN_VAIN: 5.0}, "critical", "every notification to desk (webhook) fails: 5 of 5"),
        ({delivery.TRIED_IN_VAIN: 1.0}, "unknown", "1 of 5 requests by webhook failed since its start"),
        ({delivery.FAILED: 1.0}, "unknown", "webhook: no reason given"),
        ({delivery.SENT: 0.0, delivery.TRIED: 0.0}, "unknown", "waits for group_wait"),
    ],
)
def test_what_alertmanager_counts_of_its_notifications_is_told(
    monkeypatch: pytest.MonkeyPatch, counts: dict[str, float], severity: str, says: str
) -> None:
    finding = delivered(monkeypatch, counts=counts)
    assert (finding.check, finding.severity) == ("alert.notification", severity)
    assert says in finding.summary


def test_where_prometheus_scrapes_alertmanager_what_failed_long_ago_is_no_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = FakePrometheus(requests_total=9.0, requests_failed_total=0.0)
    finding = delivered(monkeypatch, counts={delivery.TRIED_IN_VAIN: 3.0}, client=client)
    assert (finding.check, finding.severity) == ("alert.delivered", "ok")
    failing = FakePrometheus(requests_total=9.1, requests_failed_total=9.05)
    assert "in the last 15 min" in delivered(monkeypatch, client=failing).summary


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a:9093/api/v2/alerts", "http://a:9093"),
        ("https://user:secret@a:9093/prefix/api/v2/alerts", "https://a:9093/prefix"),
    ],
)
def test_an_alertmanager_is_asked_where_alerts_are_posted_to_without_a_password(url: str, base: str) -> None:
    assert delivery._base(url) == base


def test_receivers_and_their_integrations_are_read_from_the_configuration() -> None:
    text = (
        "route:\n  receiver: desk\n  routes:\n  - receiver: nobody\nreceivers:\n- name: nobody\n  labels:\n"
        '    name: nobody\n- name: "the desk"\n  webhook_configs:\n  - url: <secret>\n    http_config:\n'
        "      follow_redirects: true\n  email_configs:\n  - to: a@example.com\ntemplates: []\n"
        "time_intervals:\n- name: always\n"
    )
    assert _alertmanager.receivers(text) == {"nobody": [], "the desk": ["webhook", "email"]}


def test_patterns_of_rule_files_are_read_and_a_star_stays_in_its_folder() -> None:
    text = 'global: {}\nrule_files:\n- /etc/prometheus/rules/*.yml\n- "/a b/x.yml"\nscrape_configs:\n- job_name: x\n'
    assert silent_alert.rule_files(text) == ["/etc/prometheus/rules/*.yml", "/a b/x.yml"]
    assert silent_alert.rule_files("scrape_configs: []\n") == []
    assert silent_alert.matches("/etc/prometheus/rules/risk.yml", "/etc/prometheus/rules/*.yml")
    assert not silent_alert.matches("/etc/prometheus/rules/old/risk.yml", "/etc/prometheus/rules/*.yml")


# The wait


class Past(FakePrometheus):
    """One series, true at the evaluations that are said, the last of which is number 0.

    :param up: unix seconds of scrapes, and whether they succeeded.
    """

    def __init__(self, true: t.Iterable[int], up: t.Mapping[float, float] | None = None) -> None:
        super().__init__(group=1.0)
        self.true = sorted(NOW + number * RULE.interval for number in true)
        self.up = up or {}

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        if expression.startswith("count("):
            return []
        points = [(at, 1.0) for at in self.true if start - 0.001 <= at <= end + 0.001]
        return [Series({"__name__": "lab_drawdown", "strategy": "alpha"}, points)] if points else []

    def result(self, expression: str, time: float | None, limit: int) -> Result:
        return Result("matrix", [Series({}, sorted(self.up.items()))], "", 0, [], [])


@given(st.sets(st.integers(-40, 0)))
def test_runs_are_the_evaluations_without_a_gap(true: set[int]) -> None:
    found = wait.runs(Past(true), RULE, NOW, 40 * RULE.interval)
    evaluations = {
        round((run.start - NOW) / 15 + step) for run in found.runs for step in range(round(run.seconds / 15) + 1)
    }
    assert evaluations == true
    assert all(after.start - before.end > 15.1 for before, after in zip(found.runs, found.runs[1:]))


def test_the_run_before_is_of_the_same_label_set() -> None:
    found = wait.runs(Past([-9, -8, -7, -3, -2, -1, 0]), RULE, NOW, 600)
    before = found.before(ALPHA, NOW - 45, RULE)
    assert before is not None
    assert (before.start, before.end, before.seconds) == (NOW - 135, NOW - 105, 30)
    assert found.before({**ALPHA, "strategy": "beta"}, NOW - 45, RULE) is None
    # It is active since earlier than that its expression is true again: a restart has kept its wait.
    assert found.before(ALPHA, NOW - 90, RULE) is None


def test_a_failed_scrape_between_two_runs_is_found() -> None:
    past = Past([-3], up={NOW - 40: 1.0, NOW - 30: 0.0, NOW - 20: 1.0})
    (run,) = wait.runs(past, RULE, NOW, 600).runs
    failed = wait.failed_scrape(past, RULE, run, NOW)
    assert failed is not None
    assert (failed.at, failed.count) == (NOW - 30, 1)
    assert wait.failed_scrape(Past([-3], up={NOW - 40: 1.0}), RULE, run, NOW) is None


def test_a_rule_file_that_is_elsewhere_is_not_looked_for_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "is_local", lambda _address: False)
    look = silent_alert.Look(FakePrometheus(), ["HighDrawdown"], 600)
    assert look._waiting("HighDrawdown", ["/etc/*"]) == []
