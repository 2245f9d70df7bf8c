# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of registered variable becomes what an operator needs to know of it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.collect import (
    Action,
    HostFinding,
    HostResults,
    collect,
)

GOOD = {"check": "disk.free", "subject": "/", "severity": "ok", "summary": "Half of it is free.", "evidence": {"a": 1}}


def of(
    results: dict[str, t.Any], names: t.Sequence[str] = ("health",), dropped: bool = False, check_mode: bool = False
) -> tuple[list[HostFinding], list[Action]]:
    return collect([HostResults("one", results, dropped)], names, check_mode)


def only(results: dict[str, t.Any], **more: t.Any) -> tuple[str, str, str, str]:
    """Check, subject, severity and summary of the only finding."""
    findings, _actions = of(results, **more)
    assert len(findings) == 1
    finding = findings[0].finding
    assert findings[0].host == "one"
    return finding.check, finding.subject, finding.severity, finding.summary


def test_the_findings_of_a_result_are_taken_as_they_are() -> None:
    findings, actions = of({"health": {"changed": False, "findings": [GOOD]}})
    assert findings[0].finding.as_dict() == {**GOOD, "remedy": ""}
    assert actions == []


def test_a_host_that_did_not_answer_is_critical_once() -> None:
    dead = {"unreachable": True, "msg": "Task failed: Connection refused"}
    check, subject, severity, summary = only({"health": dead, "disk": dead}, names=("health", "disk", "alerts"))
    assert (check, subject, severity) == ("host.reachable", "one", "critical")
    assert summary == "one does not answer: nothing is known about it. Connection refused."


def test_a_host_that_answered_before_is_said_to_have_stopped() -> None:
    findings, _actions = of(
        {"health": {"findings": [GOOD]}, "disk": {"unreachable": True, "msg": "timed out"}}, names=("health", "disk")
    )
    assert findings[-1].finding.summary == "one stopped answering. timed out."
    assert findings[-1].finding.severity == "critical"


def test_a_check_that_failed_is_unknown_with_its_message() -> None:
    told = only({"health": {"failed": True, "msg": "Permission denied: /x"}})
    assert told == ("result.failed", "health", "unknown", "health could not be made: Permission denied: /x.")


def test_a_failed_result_keeps_the_findings_it_has() -> None:
    findings, _actions = of({"health": {"failed": True, "msg": "no", "findings": [GOOD]}})
    assert [item.finding.check for item in findings] == ["disk.free", "result.failed"]


def test_a_failure_without_a_message_says_that() -> None:
    assert only({"health": {"failed": True}})[3] == "health could not be made: No message came back."


def test_what_was_not_asked_is_unknown_with_the_reason() -> None:
    assert only({}) == ("result.absent", "one", "unknown", "one was not asked for health: its task did not run.")
    assert "went on without this host" in only({}, dropped=True)[3]
    findings, _actions = of({"health": {"failed": True, "msg": "no"}}, names=("health", "disk", "alerts"), dropped=True)
    assert findings[-1].finding.summary == "one was not asked for disk, alerts: health failed before."


def test_what_was_skipped_is_a_note_with_the_condition() -> None:
    skipped = {"skipped": True, "skip_reason": "Conditional result was False", "false_condition": "x is defined"}
    findings, _actions = of({"health": skipped, "disk": skipped}, names=("health", "disk"))
    assert [(item.finding.check, item.finding.severity) for item in findings] == [("result.skipped", "info")]
    assert findings[0].finding.evidence["reasons"]["disk"] == "Conditional result was False (x is defined)"


def test_a_loop_counts_item_by_item() -> None:
    results = [
        {"ansible_loop_var": "item", "item": "a", "findings": [GOOD]},
        {"ansible_loop_var": "disk", "disk": "b", "failed": True, "msg": "no"},
        {"ansible_loop_var": "item", "item": "c", "skipped": True},
        {"ansible_loop_var": "item", "item": "d", "unreachable": True, "msg": "gone"},
    ]
    findings, _actions = of({"health": {"results": results, "failed": True, "msg": "One or more items failed"}})
    assert [(item.finding.check, item.finding.subject) for item in findings] == [
        ("disk.free", "/"),
        ("result.failed", "health (b)"),
        ("host.reachable", "one"),
    ]


def test_a_loop_over_nothing_is_a_note() -> None:
    assert only({"health": {"results": [], "skipped": True, "skipped_reason": "No items in the list"}})[2] == "info"


def test_a_hidden_result_is_unknown() -> None:
    assert only({"health": {"censored": "hidden due to no_log", "changed": False}})[:3] == (
        "result.hidden",
        "health",
        "unknown",
    )


def test_a_job_that_still_runs_is_unknown() -> None:
    assert only({"health": {"ansible_job_id": "j1.2", "started": 1, "finished": 0}})[0] == "result.unfinished"


@pytest.mark.parametrize(
    "wrong",
    [
        {"check": "a", "subject": "b", "severity": "fine", "summary": "s"},
        {"check": "a"},
        {"severity": ["ok"], "check": 1, "subject": 2, "summary": 3},
        "all well",
        None,
        7,
    ],
)
def test_what_is_no_finding_is_unknown_and_shown(wrong: t.Any) -> None:
    findings, _actions = of({"health": {"findings": [wrong]}})
    assert [(item.finding.check, item.finding.severity) for item in findings] == [("result.malformed", "unknown")]
    assert findings[0].finding.evidence == {"returned": wrong}


@pytest.mark.parametrize("result", ["text", 3, None, ["x"]])
def test_a_variable_that_is_no_result_is_unknown(result: t.Any) -> None:
    assert only({"health": result})[:3] == ("result.malformed", "health", "unknown")


def test_findings_that_are_no_list_are_unknown() -> None:
    assert only({"health": {"findings": "none"}})[2] == "unknown"


def test_evidence_that_is_no_dictionary_is_kept() -> None:
    findings, _actions = of({"health": {"findings": [{**GOOD, "evidence": ["x"]}]}})
    assert findings[0].finding.evidence == {"evidence": ["x"]}


PLAN = [{"action": "remove", "subject": "/a", "reason": "old"}, "sync"]


@pytest.mark.parametrize(
    ("result", "check_mode", "state"),
    [
        ({"changed": True, "plan": PLAN}, False, "done"),
        ({"changed": True, "plan": PLAN}, True, "would be done"),
        ({"failed": True, "msg": "no", "plan": PLAN}, False, "not proven"),
    ],
)
def test_a_plan_becomes_actions(result: dict[str, t.Any], check_mode: bool, state: str) -> None:
    _findings, actions = of({"health": result}, check_mode=check_mode)
    assert actions == [
        Action("one", "health", "remove", "/a", "old", state),
        Action("one", "health", "sync", "", "", state),
    ]


def test_an_action_that_says_its_own_state_is_believed() -> None:
    plan = [{"action": "roll up", "subject": "/a", "state": state} for state in ("planned", "done", "left")]
    states = [action.state for action in of({"health": {"changed": True, "plan": plan}})[1]]
    assert states == ["would be done", "done", "left undone"]


def test_a_change_without_a_plan_is_an_action() -> None:
    assert of({"health": {"changed": True}})[1] == [Action("one", "health", "change", "health", "", "done")]
    assert of({"health": {"changed": False}}) == ([], [])
