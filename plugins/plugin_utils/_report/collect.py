# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts of a play registered, as findings and actions."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding

_LONGEST = 200  # characters of a message in a summary; the evidence has all of it
# What a module says of a single action of its plan: a dry run may be a part of a real one.
_STATES = {"planned": "would be done", "left": "left undone"}
_TEXTS = tuple(field.name for field in dataclasses.fields(Finding) if field.name != "evidence")


@dataclasses.dataclass(frozen=True)
class HostFinding:
    """A finding and the host it is about."""

    host: str
    finding: Finding


@dataclasses.dataclass(frozen=True)
class Action:
    """Something that was done to a host, or would be done.

    :param source: the registered variable that tells of it.
    :param state: ``done``, ``would be done``, ``left undone``, or ``not proven`` where the task failed after its plan.
    """

    host: str
    source: str
    action: str
    subject: str
    reason: str
    state: str


@dataclasses.dataclass(frozen=True)
class HostResults:
    """What one host of the play registered, as plain JSON types.

    :param results: registered variable to its content; a variable that the host does not have is absent.
    :param dropped: the play went on without this host: it failed, or could not be reached.
    """

    host: str
    results: dict[str, t.Any]
    dropped: bool = False


def read_finding(value: t.Any, source: str) -> Finding:
    """A finding of its dictionary; ``unknown`` where it is none, for then nobody knows what was seen."""
    try:
        evidence = value.get("evidence") or {}
        return Finding(
            **{key: str(value[key]) for key in _TEXTS if key in value},
            evidence=evidence if isinstance(evidence, dict) else {"evidence": evidence},
        )
    except (AttributeError, TypeError, ValueError) as error:
        return Finding(
            "result.malformed",
            source,
            "unknown",
            f"{source} returned something that is no finding: {error}.",
            {"returned": value},
        )


def sentence(text: str) -> str:
    """The text on one line, not endless, with a full stop."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST].rstrip()}…"
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."


def message(result: dict[str, t.Any]) -> str:
    """What a result that is none says, as a sentence."""
    text = str(result.get("msg") or result.get("module_stderr") or result.get("exception") or "")
    return sentence(text.strip().removeprefix("Task failed: ") or "No message came back")


def _skip_reason(result: dict[str, t.Any]) -> str:
    condition = result.get("false_condition")
    text = str(result.get("skip_reason") or result.get("skipped_reason") or result.get("msg") or "no reason given")
    return f"{text} ({condition})" if condition is not None else text


def _cannot_be_told(result: dict[str, t.Any], name: str) -> Finding | None:
    """The finding that stands for what this result does not tell."""
    if result.get("failed"):
        return Finding(
            "result.failed",
            name,
            "unknown",
            f"{name} could not be made: {message(result)}",
            {key: result[key] for key in ("msg", "rc", "stderr", "module_stderr") if result.get(key)},
            "Read the message; the task's own output in the job has more. Then run the procedure again.",
        )
    if result.get("ansible_job_id") and not result.get("finished"):
        return Finding(
            "result.unfinished",
            name,
            "unknown",
            f"{name} has not finished yet.",
            {"job": result["ansible_job_id"]},
            "Run the procedure again when it has finished.",
        )
    if "censored" in result:
        return Finding(
            "result.hidden",
            name,
            "unknown",
            f"{name} is hidden by no_log: nobody knows what it found.",
            {"censored": result["censored"]},
            "Take no_log off the task; the modules of this collection hide their secrets themselves.",
        )
    return None


@dataclasses.dataclass
class _Host:
    """Collects what the results of one host say."""

    name: str
    check_mode: bool
    findings: list[Finding] = dataclasses.field(default_factory=list)
    actions: list[Action] = dataclasses.field(default_factory=list)
    unreachable: dict[str, str] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def take(self, name: str, result: t.Any) -> None:
        if not isinstance(result, dict):
            self.findings.append(read_finding(result, name))
        elif isinstance(result.get("results"), list) and result["results"] and "findings" not in result:
            for position, item in enumerate(result["results"], 1):
                content = item if isinstance(item, dict) else {"msg": item, "failed": True}
                loop = content.get(str(content.get("ansible_loop_var", "item")), position)
                self.take(f"{name} ({loop})", content)
        elif result.get("unreachable"):
            self.unreachable[name] = str(result.get("msg") or "")
        elif result.get("skipped"):
            self.skipped[name] = _skip_reason(result)
        else:
            self._take_answer(name, result)

    def _take_answer(self, name: str, result: dict[str, t.Any]) -> None:
        findings = result.get("findings", [])
        self.findings += [read_finding(item, name) for item in (findings if isinstance(findings, list) else [findings])]
        silence = _cannot_be_told(result, name)
        if silence:
            self.findings.append(silence)
        state = "would be done" if self.check_mode else "not proven" if result.get("failed") else "done"
        plan = result.get("plan")
        if isinstance(plan, list):
            self.actions += [self._action(name, item, state) for item in plan]
        elif result.get("changed"):
            self.actions.append(Action(self.name, name, "change", name, "", state))

    def _action(self, name: str, item: t.Any, state: str) -> Action:
        values = item if isinstance(item, dict) else {"action": item}
        action, subject, reason = (str(values.get(key, "")) for key in ("action", "subject", "reason"))
        return Action(self.name, name, action, subject, reason, _STATES.get(str(values.get("state")), state))

    def close(self, absent: t.Sequence[str], dropped: bool) -> None:
        """What follows from all results together: one finding per cause, however many results it spoilt."""
        failed = [item.subject for item in self.findings if item.check == "result.failed"]
        if self.unreachable:
            answered = bool(self.findings or self.actions)
            self.findings.append(
                Finding(
                    "host.reachable",
                    self.name,
                    "critical",
                    f"{self.name} {'stopped answering' if answered else 'does not answer: nothing is known about it'}. "
                    f"{message({'msg': next(iter(self.unreachable.values()))})}",
                    {"came_back": self.unreachable, "not_asked": [*self.skipped, *absent]},
                    f"ansible {self.name} -m ansible.builtin.ping\n"
                    "If it does not answer, look at it from its console: is it up, is its network up?",
                )
            )
            return
        if absent:
            why = "the play went on without this host, since it failed or could not be reached"
            if not dropped:
                why = "its task did not run"
            if failed:
                why = f"{' and '.join(failed)} failed before"
            self.findings.append(
                Finding(
                    "result.absent",
                    self.name,
                    "unknown",
                    f"{self.name} was not asked for {', '.join(absent)}: {why}.",
                    {"not_asked": list(absent), "failed_before": failed},
                    "See the job's output for the first task that failed on this host, then run the procedure again.",
                )
            )
        if self.skipped:
            self.findings.append(
                Finding(
                    "result.skipped",
                    self.name,
                    "info",
                    f"{self.name} was not asked for {', '.join(self.skipped)}: skipped by the play.",
                    {"reasons": self.skipped},
                )
            )


def collect(
    hosts: t.Iterable[HostResults], names: t.Sequence[str], check_mode: bool
) -> tuple[list[HostFinding], list[Action]]:
    """Findings and actions of all hosts, out of the registered variables ``names``."""
    findings: list[HostFinding] = []
    actions: list[Action] = []
    for given in hosts:
        host = _Host(given.host, check_mode)
        for name in names:
            if name in given.results:
                host.take(name, given.results[name])
        host.close([name for name in names if name not in given.results], given.dropped)
        findings += [HostFinding(given.host, finding) for finding in host.findings]
        actions += host.actions
    return findings, actions
