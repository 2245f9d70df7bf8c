# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of a report: nothing in them acts that came from a host, and other programs can read them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import subprocess
import typing as t
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._finding import SEVERITIES
from ansible_collections.njord.telemetry.plugins.plugin_utils._report import (
    collect,
    html,
    junit,
    markdown,
    metrics,
    model,
    wording,
)
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.plain import plain

from tests.browser import sample
from tests.testbench.packages import program

HOSTILE = (
    "</style></title></pre><script>alert(1)</script><img src=http://x/y onerror=alert(2)>"
    "\"'&`|*_[a](javascript:b)\n# c\x00\u202e\ud800"
)


def hostile(key: str, value: t.Any) -> t.Any:
    """The same with hostile texts, wherever a text is that nobody but the host decides."""
    if isinstance(value, dict):
        return {
            f"{name}{HOSTILE}" if key == "evidence" else name: hostile(name, inner) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [hostile(key, inner) for inner in value]
    return (
        f"{value}{HOSTILE}" if isinstance(value, str) and key not in ("severity", "kind", "style", "state") else value
    )


def hostile_report() -> model.Report:
    hosts = []
    for given in sample.hosts():
        results = plain({name: hostile(name, result) for name, result in given.results.items()})
        hosts.append(collect.HostResults(plain(given.host + HOSTILE), results))
    findings, actions = collect.collect(hosts, ["health", "journals", "series", "cleanup"], check_mode=False)
    accepted = plain([{**sample.ACCEPTED[0], "reason": HOSTILE}, HOSTILE])
    return dataclasses.replace(
        sample.report(),
        title=plain(HOSTILE),
        hosts=tuple(host.host for host in hosts),
        findings=model.assess(findings, accepted, sample.NOW),
        actions=tuple(actions),
        contacts=model.read_contacts(
            plain([{"role": HOSTILE, "contact": f"https://x/{HOSTILE}", "escalation": HOSTILE}])
        ),
    )


class Page(HTMLParser):
    """Tags and attributes as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_hostile_text_stays_text_on_the_page() -> None:
    page = html.render(hostile_report())
    page.encode("utf-8")
    ours = Page(html.render(sample.report()))
    theirs = Page(page)
    assert {tag for tag, _attributes in theirs.tags} <= {tag for tag, _attributes in ours.tags} | {"pre"}
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _attributes in theirs.tags}
    for tag, attributes in theirs.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")]
        target = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert re.match(r"#|tel:|mailto:|https?://|data:image/svg", target), target
        if tag == "link":
            assert target.startswith("data:")
    assert "alert(1)" in "".join(theirs.text)
    assert not re.search("[\x00\u202e]", page)


def test_the_page_needs_nothing_from_elsewhere_and_its_policy_allows_nothing() -> None:
    text = html.render(sample.report())
    page = Page(text)
    policy = next(str(tag[1]["content"]) for tag in page.tags if tag[1].get("http-equiv") == "Content-Security-Policy")
    style = text.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "url(" not in style
    assert "@import" not in style


def test_every_finding_is_on_the_page_with_its_word_and_its_shape() -> None:
    report = sample.report()
    text = html.render(report)
    shown = "".join(Page(text).text)
    for item in report.findings:
        assert item.finding.summary in shown
        assert f"#i-{'accepted' if item.acceptance else item.finding.severity}" in text
    for severity in SEVERITIES:
        assert wording.WORDS[severity] in shown


def test_verdict_first_steps_then_contacts_then_charts_then_findings() -> None:
    text = html.render(sample.report())
    order = ["verdict", "hosts", "todo", "call", "actions", "charts", "trend", "findings", "accepted", "made"]
    places = [text.index(f'aria-labelledby="{name}"') for name in order]
    assert places == sorted(places)


def test_a_dry_run_says_so_on_top_and_what_would_be_done() -> None:
    shown = " ".join("".join(Page(html.render(sample.report(check_mode=True))).text).split())
    assert shown.index("Dry run.") < shown.index("Critical njord-1")
    assert "A real run would do 8 things" in shown
    assert "would be done" in shown


def test_many_actions_are_capped_with_their_count() -> None:
    action = sample.report().actions[0]
    report = dataclasses.replace(sample.report(), actions=(action,) * 10_000)
    shown = " ".join("".join(Page(html.render(report)).text).split())
    assert f"10000 in all, the first {html.MOST_ACTIONS} of them here" in shown
    assert shown.count(action.reason) == html.MOST_ACTIONS
    assert len(report.as_dict()["actions"]) == 10_000
    assert "And 9950 more." in markdown.render(report)


def test_a_report_about_nothing_is_a_page_too() -> None:
    empty = dataclasses.replace(sample.report(), findings=(), actions=(), contacts=(), earlier=(), hosts=("one",))
    for text in (html.render(empty), markdown.render(empty)):
        assert "Nothing was looked at, so nothing is known." in text
    assert ET.XML(junit.render(empty)).attrib["name"] == "maintenance_weekly"


@pytest.mark.parametrize(
    ("contact", "target"),
    [
        ("+47 22 33 44 55", "tel:+4722334455"),
        ("night@njord.example", "mailto:night@njord.example"),
        ("https://pager.njord.example/team?id=1", "https://pager.njord.example/team?id=1"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("Ola, room 7", None),
    ],
)
def test_a_contact_can_be_called_by_a_tap(contact: str, target: str | None) -> None:
    report = dataclasses.replace(sample.report(), contacts=(model.Contact("On call", contact, ""),))
    page = Page(html.render(report))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and attributes.get("rel")]
    assert links == ([target, target] if target else [])
    assert contact in "".join(page.text)


@pytest.mark.parametrize(
    ("remedy", "lines"),
    [
        ("systemctl restart prometheus", [("systemctl restart prometheus", "")]),
        ("$ df -h /", [("df -h /", "")]),
        ("Find out why:\njournalctl -u x", [("", "Find out why:"), ("journalctl -u x", "")]),
        ("Look: ansible-playbook service-health.yml.", [("", "Look:"), ("ansible-playbook service-health.yml", "")]),
        (
            "df -h /; journalctl -u x -n 9; is x_url right: http://x?",
            [("df -h /", ""), ("journalctl -u x -n 9", ""), ("", "is x_url right: http://x?")],
        ),
        ("`df -h /`", [("df -h /", "")]),
        ("Run `rm x` and wait.", [("", "Run rm x and wait.")]),
        ("An odd ` stays.", [("", "An odd ` stays.")]),
        ("Kill nobody.", [("", "Kill nobody.")]),
        ("date the note", [("", "date the note")]),
        ("", []),
    ],
)
def test_commands_in_a_remedy_stand_out(remedy: str, lines: list[tuple[str, str]]) -> None:
    found = wording.remedy_lines(remedy)
    assert [(line.command, "".join(piece for _is_code, piece in line.prose)) for line in found] == lines


def test_the_terminal_gets_verdict_findings_and_remedies_worst_first() -> None:
    lines = wording.summary(sample.report())
    assert lines[0].startswith("Weekly maintenance: Critical: njord-1: The disk of /var/log/njord is full")
    assert lines[1].startswith("CRITICAL  njord-1  disk.free: ")
    assert lines[3].strip() == "→ ansible-playbook njord.telemetry.retention_cleanup --check --diff --limit njord-1"
    assert lines[-1] == "Findings: 2 critical, 3 unknown, 2 warnings, 3 notes, 24 OK, 1 accepted"


def test_markdown_has_the_same_findings_and_nothing_hostile_acts_in_it() -> None:
    text = markdown.render(sample.report())
    for item in sample.report().findings:
        assert markdown.text(item.finding.summary) in text
    bad = markdown.render(hostile_report())
    assert "\n# c" not in bad
    # Outside of code, every sign that Markdown would act on is escaped.
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", bad)
    assert not re.search(r"<script|<img|(?<!\\)\[a\]|(?<!\\)`", outside)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a|b", r"a\|b"),
        ("- x", r"\- x"),
        ("1. x", r"1\. x"),
        ("<b>", "&lt;b&gt;"),
        ("a\n\nb", "a b"),
        ("@all", r"\@all"),
    ],
)
def test_markdown_text_is_escaped(value: str, shown: str) -> None:
    assert markdown.text(value) == shown


@pytest.mark.parametrize(("value", "shown"), [("a", "`a`"), ("a`b", "`` a`b ``"), ("a``b", "``` a``b ```")])
def test_markdown_code_is_fenced_by_more_backticks_than_it_holds(value: str, shown: str) -> None:
    assert markdown.code(value) == shown


@pytest.mark.parametrize("make", [sample.report, hostile_report])
def test_junit_parses_and_counts(make: t.Callable[[], model.Report]) -> None:
    report = make()
    root = ET.XML(junit.render(report).encode("utf-8"))
    suites = {suite.attrib["name"]: suite for suite in root}
    assert list(suites) == [state.host for state in report.states]
    for state in report.states:
        suite = suites[state.host]
        assert int(suite.attrib["tests"]) == len(suite) == len(state.findings)
        for outcome, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{outcome}"))


@pytest.mark.parametrize(
    ("severity", "outcome"),
    [
        ("critical", "failure"),
        ("warning", "failure"),
        ("unknown", "error"),
        ("info", "system-out"),
        ("ok", "system-out"),
    ],
)
def test_a_severity_is_an_outcome_of_junit(severity: str, outcome: str) -> None:
    finding = {**sample.NOTE, "severity": severity, "host": "one"}
    report = dataclasses.replace(
        sample.report(), hosts=("one",), findings=model.assess(model.read_given([finding]), [], sample.NOW)
    )
    case = ET.XML(junit.render(report))[0][0]
    assert [child.tag for child in case] == [outcome]


def test_an_accepted_finding_is_skipped_with_its_reason() -> None:
    skipped = ET.XML(junit.render(sample.report())).find(".//skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "accepted until 2026-10-13: Renewed with the move on 12 October."


def test_the_metrics_say_when_how_long_and_how_it_ended(tmp_path: Path) -> None:
    report = sample.report()
    text = metrics.render(report)
    when = report.finished.timestamp()
    assert f'njord_maintenance_last_run_timestamp_seconds{{procedure="maintenance_weekly"}} {when!r}\n' in text
    assert 'njord_maintenance_duration_seconds{procedure="maintenance_weekly"} 63.0\n' in text
    assert 'njord_maintenance_outcome{procedure="maintenance_weekly",verdict="critical"} 1.0\n' in text
    assert 'njord_maintenance_outcome{procedure="maintenance_weekly",verdict="ok"} 0.0\n' in text
    assert 'njord_maintenance_findings{procedure="maintenance_weekly",severity="unknown"} 3.0\n' in text
    before = report.earlier[-1].last_success
    assert f'last_success_timestamp_seconds{{procedure="maintenance_weekly"}} {before!r}\n' in text
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_duration_that_is_not_known_is_left_out_of_the_metrics() -> None:
    assert "duration_seconds" not in metrics.render(dataclasses.replace(sample.report(), started=None))


def test_plain_values_fit_json_and_xml() -> None:
    value = plain({"a": (float("nan"), float("-inf"), 1.5, True, None), 3: "x\x00\ud800\u202ey", "c": {1}})
    assert value == {"a": ["nan", "-inf", 1.5, True, None], "3": "x���y", "c": "{1}"}
    json.dumps(value, allow_nan=False).encode()
