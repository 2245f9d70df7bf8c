# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as Markdown, for a chat or a ticket."""

from __future__ import annotations

import json
import re

from . import charts
from .model import ALL_HOSTS, Assessed, Report
from .units import change, date, human, label_of, unit_of
from .wording import SIGNS, WORDS, all_counted, host_name, place, remedy_lines, verdict_line

_MOST_ACTIONS = 50
_MOST_EVIDENCE = 2000  # characters of one finding


def text(value: object) -> str:
    """The value on one line, with nothing in it that Markdown or the HTML in it would act on."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]|~#!@]|^[-+])", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", line)


def code(value: str) -> str:
    """The value as code, fenced by more backticks than it holds."""
    line = " ".join(value.split())
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *([text(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _remedy(remedy: str) -> list[str]:
    return [
        code(line.command) if line.command else "".join(code(s) if is_code else _prose(s) for is_code, s in line.prose)
        for line in remedy_lines(remedy)
    ]


def _prose(piece: str) -> str:
    """Text between pieces of code keeps the spaces at its ends."""
    return f"{' ' * piece.startswith(' ')}{text(piece)}{' ' * piece.endswith(' ')}"


def _steps(report: Report) -> list[str]:
    lines = []
    for number, step in enumerate(report.steps, 1):
        remedy = _remedy(step.remedy) or ["No remedy is known: look at the evidence, and call."]
        indent = " " * len(f"{number}. ")
        heading = f"{number}. {SIGNS[step.severity]} **{WORDS[step.severity]}**: "
        lines.append(heading + f"  \n{indent}".join(remedy))
        lines += [
            f"{indent}- {'; '.join(text(place(*where)) for where in places)}: {text(said)}"
            for said, places in step.said.items()
        ]
    return ["## What to do", "", *lines, ""] if lines else []


def _contacts(report: Report) -> list[str]:
    rows = [[contact.role, contact.contact, contact.escalation] for contact in report.contacts]
    return ["## Whom to call", "", *_table(["Role", "Contact", "Escalation"], rows), ""] if rows else []


def _actions(report: Report) -> list[str]:
    rows = [
        [action.host, action.action, action.subject, action.reason, action.state]
        for action in report.actions[:_MOST_ACTIONS]
    ]
    if not rows:
        return []
    more = len(report.actions) - len(rows)
    table = _table(["Host", "Action", "Subject", "Reason", ""], rows)
    return ["## Actions", "", *table, "", *([f"And {more} more.", ""] if more else [])]


def _hosts(report: Report) -> list[str]:
    states = [state for state in report.states if state.host != ALL_HOSTS]
    if len(states) < 2:
        return []
    rows = [
        [state.host, f"{SIGNS[state.verdict]} {WORDS[state.verdict]}", *(str(n) for n in state.counts.values())]
        for state in states
    ]
    return ["## Hosts", "", *_table(["Host", "", *report.counts], rows), ""]


def _trend(report: Report) -> list[str]:
    rows = []
    for trend in report.trends:
        host, check, subject, name = trend.figure
        unit = unit_of(name)
        since = f"{change(trend.before[1], trend.now, unit)} since {date(trend.before[0])}" if trend.before else "first"
        rows.append([host, f"{check} {subject}", label_of(name), human(trend.now, unit), since])
    table = _table(["Host", "Of", "Figure", "Now", "Change"], rows)
    runs = [[date(run.time), f"{SIGNS[run.verdict]} {run.verdict}"] for run in reversed(report.earlier[-10:])]
    lines = ["## Figures", "", *table, ""] if rows else []
    return lines + (["## Earlier reports", "", *_table(["When (UTC)", "Verdict"], runs), ""] if runs else [])


def _findings(report: Report) -> list[str]:
    lines = ["## Findings", ""]
    for state in report.states:
        lines += [f"### {text(host_name(state.host))}", ""]
        for item in state.open:
            lines += _finding(item)
        lines.append("")
    return lines


def _finding(item: Assessed) -> list[str]:
    finding = item.finding
    severity = finding.severity
    named = f"{code(finding.check)} {text(finding.subject)}"
    lines = [f"- {SIGNS[severity]} **{WORDS[severity]}** {named}: {text(finding.summary)}"]
    if severity in ("ok", "info"):
        return lines
    evidence = {key: value for key, value in finding.evidence.items() if key != "chart"}
    if evidence:
        shown = json.dumps(evidence, ensure_ascii=False)
        lines.append(f"  - {code(shown if len(shown) <= _MOST_EVIDENCE else shown[:_MOST_EVIDENCE] + ' …')}")
    if isinstance(finding.evidence.get("chart"), dict):
        drawing = charts.draw(finding.evidence["chart"])
        lines += [f"  - {text(' '.join(filter(None, row)))}" for row in drawing.rows[:10]]
    return lines


def _accepted(report: Report) -> list[str]:
    lines = [
        f"- {SIGNS['accepted']} {text(place(item.host, item.finding.subject))}: {text(item.finding.summary)} "
        f"Accepted until {item.acceptance.until:%Y-%m-%d}: {text(item.acceptance.reason)}"
        for item in report.accepted
        if item.acceptance
    ]
    return ["## Accepted", "", *lines, ""] if lines else []


def render(report: Report) -> str:
    """Markdown of the report; whatever came from a host is escaped."""
    took = f" in {human(report.duration_seconds, 'seconds')}" if report.duration_seconds is not None else ""
    made = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    ran = f"{len(report.hosts)} hosts, fails on {report.fail_on}"
    lines = [
        f"# {SIGNS[report.verdict]} {text(report.title)}",
        "",
        f"**{text(verdict_line(report))}**",
        "",
        f"Findings: {all_counted(report)}.",
        "",
        *_steps(report),
        *_contacts(report),
        *_hosts(report),
        *_actions(report),
        *_trend(report),
        *_findings(report),
        *_accepted(report),
        "## How this report was made",
        "",
        f"Procedure {code(report.procedure)}, ended {report.finished:%Y-%m-%d %H:%M} UTC{took}; {ran}. {text(made)}.",
    ]
    return "\n".join(lines) + "\n"
