# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Alertmanager leads an alert, by its configuration alone, and the YAML that this is read from."""

from __future__ import annotations

import calendar
import time
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import routing
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert.routing import Configuration, matcher

TEXT = r"""
global:
  resolve_timeout: 5m
route:
  receiver: default
  group_by:
  - alertname
  continue: false
  routes:
  - receiver: audit
    matchers:
    - severity=~"critical|page"
    continue: true
  - receiver: desk
    match:
      team: desk
    match_re:
      severity: page|warning
    continue: false
    routes:
    - receiver: night
      matchers:
      - shift="night \"one\""
      mute_time_intervals:
      - office
      continue: false
      group_wait: 5s
    group_wait: 10s
    group_interval: 1m30s
  group_wait: 30s
inhibit_rules:
- source_matchers:
  - severity="critical"
  target_matchers:
  - severity="warning"
  equal:
  - host
receivers:
- name: default
- name: audit
  email_configs:
  - send_resolved: false
    to: a@example.com
    text: |-
      Look:

        {{ x }}
- name: desk
  webhook_configs:
  - send_resolved: true
    url: <secret>
  - send_resolved: false
    url: <secret>
- name: night
time_intervals:
- name: office
  time_intervals:
  - times:
    - start_time: "09:00"
      end_time: "17:00"
    weekdays: ['monday:friday']
    location: UTC
templates: []
"""
MADE = Configuration.read(TEXT)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({}, ["default"]),
        ({"severity": "critical"}, ["audit"]),
        ({"severity": "page", "team": "desk"}, ["audit", "desk"]),
        ({"severity": "warning", "team": "desk"}, ["desk"]),
        ({"severity": "warnings", "team": "desk"}, ["default"]),
        ({"severity": "warning", "team": "desk", "shift": 'night "one"'}, ["night"]),
    ],
)
def test_an_alert_ends_where_alertmanager_ends_it(labels: dict[str, str], receivers: list[str]) -> None:
    assert [route.receiver for route in MADE.route.leads(labels)] == receivers


def test_a_route_has_what_those_above_it_say() -> None:
    (night,) = MADE.route.leads({"severity": "warning", "team": "desk", "shift": 'night "one"'})
    assert (night.wait, night.interval, night.group_by, night.muted) == (5.0, 90.0, ("alertname",), ("office",))
    assert MADE.route.interval == 300.0
    assert night.group({"alertname": "A", "host": "b"}) == {"alertname": "A"}


def test_integrations_are_counted_and_say_whether_they_tell_of_the_end() -> None:
    assert [(one.kind, one.sends_resolved) for one in MADE.receivers["desk"]] == [("webhook", True), ("webhook", False)]
    assert [(one.kind, one.sends_resolved) for one in MADE.receivers["audit"]] == [("email", False)]
    assert MADE.receivers["night"] == ()


@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("default", {"alertname": "T"}),
        ("audit", {"alertname": "T", "severity": "critical"}),
        ("desk", {"alertname": "T", "severity": "warning", "team": "desk"}),
        ("night", {"alertname": "T", "severity": "warning", "team": "desk", "shift": 'night "one"'}),
    ],
)
def test_labels_are_found_that_lead_there_alone(receiver: str, labels: dict[str, str]) -> None:
    assert MADE.labels(receiver, {"alertname": "T"}) == labels


@pytest.mark.parametrize(
    ("receiver", "fixed", "word"),
    [
        ("desk", {"severity": "page"}, "the alert also reaches audit"),
        ("desk", {"severity": "info"}, "no labels were found that lead to it from severity=info"),
        ("nobody", {}, "no route leads to it"),
    ],
)
def test_where_no_labels_lead_there_alone_it_says_why(receiver: str, fixed: dict[str, str], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        MADE.labels(receiver, fixed)


def test_an_alert_that_is_inhibited_names_the_one_that_does_it() -> None:
    active = [{"severity": "critical", "host": "a"}, {"severity": "info", "host": "b"}]
    assert MADE.inhibited({"severity": "warning", "host": "a"}, active) == active[0]
    assert MADE.inhibited({"severity": "warning", "host": "b"}, active) is None
    assert MADE.inhibited({"severity": "page", "host": "a"}, active) is None


def test_an_alert_does_not_inhibit_its_like() -> None:
    both = matcher('severity=~"critical|warning"')
    rule = routing.Inhibition((both,), (both,), ())
    assert rule.mutes({"severity": "warning"}, [{"severity": "critical"}]) is None


@pytest.mark.parametrize(
    ("text", "labels", "accepts"),
    [
        ('a="b"', {"a": "b"}, True),
        ("a!=b", {}, True),
        ('a=~"b.*"', {"a": "bcd"}, True),
        ('a=~"b"', {"a": "bb"}, False),
        ('a!~"b|"', {}, False),
        ('"a b"="c\\\\d"', {"a b": "c\\d"}, True),
    ],
)
def test_a_matcher_accepts_what_it_does_in_alertmanager(text: str, labels: dict[str, str], accepts: bool) -> None:
    assert matcher(text).accepts(labels) is accepts


@pytest.mark.parametrize("text", ['a=~"[[:alpha:]]"', r'a=~"\\pL"', 'a=~"("', "a", ""])
def test_what_is_read_otherwise_here_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=r"only Go reads|not understood|no matcher"):
        matcher(text)


# A Wednesday, the last but one day of a leap year's February.
AT = calendar.timegm((2028, 2, 28, 12, 30, 0))


@pytest.mark.parametrize(
    ("interval", "is_in"),
    [
        ({}, True),
        ({"times": [{"start_time": "12:30", "end_time": "12:31"}]}, True),
        ({"times": [{"start_time": "09:00", "end_time": "12:30"}]}, False),
        ({"weekdays": ["sunday", "monday:friday"]}, True),
        ({"weekdays": ["tuesday:saturday"]}, False),
        ({"days_of_month": ["-2:-1"]}, True),
        ({"days_of_month": ["29:31"]}, False),
        ({"months": ["1:3"], "years": ["2028"]}, True),
        ({"months": ["february"], "years": ["2000:2027"]}, False),
    ],
)
def test_a_moment_is_in_an_interval_or_is_not(interval: dict[str, t.Any], is_in: bool) -> None:
    assert routing.is_in(interval, AT) is is_in


@pytest.mark.parametrize("interval", [{"moon": ["full"]}, {"location": "Nowhere/Never"}])
def test_an_interval_that_is_not_understood_is_not_guessed(interval: dict[str, t.Any]) -> None:
    with pytest.raises(ValueError, match=r"not understood|not known"):
        routing.is_in(interval, AT)


def test_a_route_is_quiet_in_its_muted_and_outside_its_active_intervals() -> None:
    (night,) = MADE.route.leads({"severity": "warning", "team": "desk", "shift": 'night "one"'})
    assert MADE.keeps_quiet(night, AT) == "muted by the time interval office"
    assert MADE.keeps_quiet(night, AT + 12 * 3600) == ""
    assert MADE.keeps_quiet(MADE.route, time.time()) == ""


@pytest.mark.parametrize("text", ["", "receivers: []", "route:\n  receiver: a\ninhibit_rules:\n- sources: x\n"])
def test_a_configuration_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no route|not understood"):
        Configuration.read(text)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a: b\nc:\n- d\n- e: f\n  g: h\n", {"a": "b", "c": ["d", {"e": "f", "g": "h"}]}),
        ("a: 'it''s\n  long'\n", {"a": "it's long"}),
        ('a: "x\\n\\\n  y\\u00e9"\n', {"a": "x\nyé"}),
        ("a: one\n  two\nb: {}\n", {"a": "one two", "b": {}}),
        ("a: |\n  x\n\n   y\nb: []\n", {"a": "x\n\n y\n", "b": []}),
        ("a: ['b:c', d]\n", {"a": ["b:c", "d"]}),
        ("- - a\n  - b\n- c\n", [["a", "b"], "c"]),
        ("a:\nb: null\n", {"a": "", "b": "null"}),
    ],
)
def test_what_a_program_writes_is_read(text: str, node: t.Any) -> None:
    assert _yaml.read(text) == node


@pytest.mark.parametrize(
    "text",
    [
        "a: &x b\n",
        "a: {b: c}\n",
        "a: b # c\n",
        "a: 'b\n",
        "a: b\n   c: d\n",
        "a: 1\na: 2\n",
        "a: [b, [c]]\n",
        "a: >\n  b\n",
    ],
)
def test_what_a_person_alone_writes_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|line 2"):
        _yaml.read(text)
