# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdict, acceptance, failing, what to do first, and what became of the figures."""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._finding import SEVERITIES, Finding
from ansible_collections.njord.telemetry.plugins.plugin_utils._report import history, model
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.collect import HostFinding
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.units import parse_time

from tests.browser import sample

NOW = sample.NOW


def finding(
    severity: str, check: str = "disk.free", subject: str = "/", host: str = "one", **more: t.Any
) -> HostFinding:
    return HostFinding(host, Finding(check, subject, severity, f"{subject} is {severity}.", **more))


def report(*findings: HostFinding, accepted: t.Sequence[t.Any] = (), **changes: t.Any) -> model.Report:
    fields: dict[str, t.Any] = {
        "findings": model.assess(findings, accepted, NOW),
        "hosts": tuple(dict.fromkeys(item.host for item in findings)) or ("one",),
        "actions": (),
        "earlier": (),
    }
    return dataclasses.replace(sample.report(), **{**fields, **changes})


FOREVER = {"reason": "known", "until": "2027-01-01"}


def checks(given: model.Report) -> list[str]:
    return [item.finding.check for item in given.open]


def test_the_verdict_is_the_worst_open_finding() -> None:
    assert report(finding("ok"), finding("unknown"), finding("warning")).verdict == "unknown"


def test_a_report_without_findings_knows_nothing() -> None:
    empty = report()
    assert empty.verdict == "unknown"
    assert empty.sentence == "Nothing was looked at, so nothing is known."


@pytest.mark.parametrize("verdict", SEVERITIES)
@pytest.mark.parametrize("fail_on", ["never", *SEVERITIES])
def test_it_fails_on_what_is_as_bad_as_asked_or_worse(verdict: str, fail_on: str) -> None:
    fails = fail_on != "never" and SEVERITIES.index(verdict) >= SEVERITIES.index(fail_on)
    assert report(finding(verdict), fail_on=fail_on).fails is fails
    assert report(finding(verdict), fail_on=fail_on, check_mode=True).fails is False


def test_an_accepted_finding_is_shown_apart_and_does_not_count() -> None:
    given = report(finding("critical"), finding("ok", "x"), accepted=[{"check": "disk.*", **FOREVER}])
    assert given.verdict == "ok"
    assert not given.fails
    assert [item.finding.check for item in given.accepted] == ["disk.free"]
    assert given.counts["critical"] == 0
    assert given.as_dict()["findings"][-1]["accepted"] == {"reason": "known", "until": "2027-01-01T23:59:59+00:00"}


@pytest.mark.parametrize(
    ("entry", "covers"),
    [
        ({"check": "disk.free"}, True),
        ({"check": "*"}, True),
        ({"check": "disk.free", "subject": "/", "host": "one"}, True),
        ({"check": "disk.free", "host": "on[a-f]"}, True),
        ({"check": "disk"}, False),
        ({"check": "disk.free", "subject": "/var"}, False),
        ({"check": "disk.free", "host": "two"}, False),
        ({"check": "DISK.FREE"}, False),
    ],
)
def test_an_acceptance_matches_check_subject_and_host(entry: dict[str, str], covers: bool) -> None:
    given = report(finding("critical"), accepted=[{**entry, **FOREVER}])
    assert bool(given.accepted) is covers
    # One that matches nothing says so.
    assert ("acceptance.unused" in checks(given)) is not covers


def test_what_is_well_needs_no_acceptance() -> None:
    given = report(finding("ok"), finding("info"), accepted=[{"check": "*", **FOREVER}])
    assert not given.accepted
    assert given.verdict == "info"
    assert "acceptance.unused" in checks(given)


@pytest.mark.parametrize("until", ["2026-10-03", "2026-10-03T02:21:41Z", "2026-10-03t04:22:00+02:00", NOW.date()])
def test_an_acceptance_holds_until_its_end(until: object) -> None:
    assert report(finding("critical"), accepted=[{"check": "*", "reason": "r", "until": until}]).accepted


@pytest.mark.parametrize("until", ["2026-10-02", "2026-10-03T02:21:40Z", "2026-10-03T04:21:00+02:00"])
def test_an_expired_acceptance_is_a_warning_and_accepts_nothing(until: str) -> None:
    given = report(finding("critical"), accepted=[{"check": "*", "reason": "r", "until": until}])
    assert not given.accepted
    assert checks(given) == ["disk.free", "acceptance.expired"]
    assert given.open[1].finding.severity == "warning"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("all", "it is str"),
        ({"check": "*", "until": "2027-01-01"}, "it lacks reason"),
        ({"check": "*", "reason": " ", "until": "2027-01-01"}, "it lacks reason"),
        ({"check": "*", "reason": "r"}, "it lacks until"),
        ({"reason": "r", "until": "2027-01-01"}, "it lacks check"),
        ({"check": "*", "reason": "r", "until": "tomorrow"}, "'tomorrow' is no RFC 3339 time"),
        ({"check": "*", "reason": "r", "until": "2027-01-01T10:00:00"}, "is no RFC 3339 time"),
        ({"check": "*", "hosts": "one", **FOREVER}, "unknown key 'hosts'"),
    ],
)
def test_a_malformed_acceptance_is_a_warning_and_accepts_nothing(entry: t.Any, said: str) -> None:
    given = report(finding("critical"), accepted=[entry])
    assert not given.accepted
    assert checks(given) == ["disk.free", "acceptance.malformed"]
    assert said in given.open[1].finding.summary


def test_an_acceptance_cannot_accept_its_own_end() -> None:
    old = {"check": "*", "reason": "r", "until": "2020-01-01"}
    given = report(finding("ok"), accepted=[old, {"check": "acceptance.*", **FOREVER}])
    assert "acceptance.expired" in checks(given)


def test_findings_with_one_remedy_are_one_step_the_worst_first() -> None:
    given = report(
        finding("warning", host="one", remedy="do that"),
        finding("critical", host="two", remedy="do this"),
        finding("critical", host="one", remedy="do that"),
        finding("info", host="one", remedy="nothing"),
        finding("unknown", host="two"),
    )
    assert [(step.severity, step.remedy, len(step.findings)) for step in given.steps] == [
        ("critical", "do this", 1),
        ("critical", "do that", 2),
        ("unknown", "", 1),
    ]


def test_the_worst_host_is_on_top() -> None:
    said = [("a", "ok"), ("b", "warning"), ("c", "critical"), ("d", "critical"), ("d", "warning")]
    given = report(*(finding(severity, host=host) for host, severity in said), hosts=("a", "b", "c", "d", "e"))
    assert [state.host for state in given.states] == ["d", "c", "e", "b", "a"]


def test_the_sentence_names_the_worst_and_how_many_more() -> None:
    assert report(finding("critical"), finding("warning"), finding("ok")).sentence == (
        "one: / is critical. 1 more finding needs attention."
    )


def test_where_nothing_is_pressing_a_single_note_is_the_answer_and_several_findings_are_counted() -> None:
    assert report(finding("info")).sentence == "Nothing needs you: / is info."
    assert report(finding("ok")).sentence == "Nothing needs you: / is ok."
    assert report(finding("info"), finding("ok")).sentence == "Nothing needs you: / is info."
    assert report(finding("ok"), finding("ok")).sentence == (
        "Nothing needs you: 2 findings on 1 host, none of them a problem."
    )


def test_a_contact_that_is_only_text_is_still_shown() -> None:
    assert model.read_contacts(["call Ola", {"role": "boss"}]) == (
        model.Contact("", "call Ola", ""),
        model.Contact("boss", "", ""),
    )


def test_given_findings_are_about_their_host_or_all_hosts() -> None:
    given = model.read_given([{**sample.NOTE, "host": "one"}, sample.NOTE, "nonsense"])
    assert [(item.host, item.finding.check) for item in given] == [
        ("one", "rules.unused"),
        ("all", "rules.unused"),
        ("all", "result.malformed"),
    ]


def test_a_run_survives_its_line_of_history() -> None:
    run = sample.report().run
    assert run.figures
    assert history.read([run.as_line()]) == ([run], 0)


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "null", "{}", '{"time": 1, "verdict": "fine"}', '{"time": "x", "verdict": "ok"}'],
)
def test_a_spoilt_line_of_history_is_counted(line: str) -> None:
    good = sample.report().run
    assert history.read([line, good.as_line()]) == ([good], 1)


def test_the_last_success_is_carried_on_through_failures() -> None:
    first = report(finding("ok"))
    assert first.run.last_success == NOW.timestamp()
    later = report(finding("critical"), earlier=(first.run,), finished=NOW + datetime.timedelta(days=1))
    assert later.run.last_success == NOW.timestamp()
    assert report(finding("critical")).run.last_success is None


def test_a_trend_compares_with_the_last_report_that_has_the_figure() -> None:
    def at(day: int, value: float | None) -> model.Report:
        evidence = {"figures": {} if value is None else {"free_bytes": value}}
        return report(finding("ok", evidence=evidence), finished=NOW + datetime.timedelta(days=day))

    runs = [at(0, 10.0).run, at(1, 8.0).run, at(2, None).run]
    trend = history.trends(at(3, 4.0).run, runs)[0]
    assert [value for _time, value in trend.values] == [10.0, 8.0, 4.0]
    assert trend.before == ((NOW + datetime.timedelta(days=1)).timestamp(), 8.0)


def test_what_moved_most_comes_first_and_what_is_new_last() -> None:
    def figure(**values: float) -> history.Run:
        return report(finding("ok", evidence={"figures": values})).run

    before = dataclasses.replace(figure(a=10, b=10, c=10), time=1.0)
    names = [trend.figure.name for trend in history.trends(figure(a=11, b=40, c=10, d=1), [before])]
    assert names == ["b", "a", "c", "d"]


@pytest.mark.parametrize("value", [float("nan"), "12", None, True, 10**400, [1]])
def test_a_figure_that_is_no_number_is_left_out(value: object) -> None:
    given = report(finding("ok", evidence={"figures": {"a": value, "b": 2}}))
    assert list(given.run.figures.values()) == [2.0]


def test_the_model_is_json() -> None:
    told = json.loads(json.dumps(sample.report().as_dict(), allow_nan=False))
    assert told["schema"] == 1
    assert told["verdict"] == "critical"
    assert len(told["findings"]) == len(sample.report().findings)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-10-03 10:00", "1759458100"])
def test_a_time_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="2026-10-03T02:15:00Z"):
        parse_time(text)
