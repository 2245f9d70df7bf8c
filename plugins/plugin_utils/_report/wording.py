# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words that every page of the report shares."""

from __future__ import annotations

import re
import typing as t

from .model import ALL_HOSTS, Report

# Not colour alone: a word and, on the page, a shape; on a terminal and in a chat a sign.
WORDS = {
    "critical": "Critical",
    "unknown": "Unknown",
    "warning": "Warning",
    "info": "Note",
    "ok": "OK",
    "accepted": "Accepted",
}
SIGNS = {
    "critical": "⛔",
    "unknown": "❔",
    "warning": "⚠",
    "info": "\N{INFORMATION SOURCE}",
    "ok": "✔",
    "accepted": "⏸",
}

# No word that a sentence may begin with.
_PROGRAMS = (
    "amtool|ansible(?:-[a-z]+)?|apt-get|chown|chmod|curl|df|docker|du|journalctl|ls|lsof|metrics-cleanup|"
    "njord-[a-z]+|ping|promtool|redis-cli|restic|sha256sum|ss|ssh|sudo|systemctl|timedatectl"
)
# A line that is a command: a program that we name, and no sentence after it.
_COMMAND = re.compile(rf"(?:\$ )?((?:{_PROGRAMS}) (?:.*[^.:?])|(?:{_PROGRAMS}))")

# "Look at its log: journalctl -u prometheus." ends in a command.
_SENTENCE_AND_COMMAND = re.compile(rf"(.+:) ((?:{_PROGRAMS}) .*?)\.?")

# How many there are of a severity, in words.
_ONES = {"warning": "warning", "info": "note", "ok": "OK"}
_MANY = {"warning": "warnings", "info": "notes", "ok": "OK"}


def host_name(host: str) -> str:
    return "All hosts" if host == ALL_HOSTS else host


def place(host: str, subject: str) -> str:
    """Where a finding is: host and subject, once where they are the same."""
    return " · ".join(dict.fromkeys(filter(None, (host_name(host), subject))))


def counted(severity: str, count: int) -> str:
    """``2 warnings``, ``1 note``, ``3 critical``."""
    return f"{count} {(_ONES if count == 1 else _MANY).get(severity, severity)}"


class Line(t.NamedTuple):
    """A line of a remedy: a command as a whole, or prose as ``(is code, text)``; code stood between backticks."""

    command: str
    prose: list[tuple[bool, str]]

    @property
    def text(self) -> str:
        return self.command or "".join(piece for _is_code, piece in self.prose)


def remedy_lines(remedy: str) -> list[Line]:
    """The remedy line by line; blank lines are left out."""
    return [line for written in remedy.splitlines() if written.strip() for line in _lines(written.strip())]


def _lines(written: str) -> list[Line]:
    bare = written[1:-1] if written.startswith("`") and written.endswith("`") else written
    if "`" in bare:
        # An odd backtick opens nothing.
        pieces = [written] if written.count("`") % 2 else written.split("`")
        return [Line("", [(i % 2 == 1, piece) for i, piece in enumerate(pieces) if piece])]
    # "df -h; journalctl -u x; is the disk full?" are two commands and a question.
    first, _semicolon, rest = bare.partition("; ")
    command = _COMMAND.fullmatch(first)
    if command:
        return [Line(command[1], []), *(_lines(rest) if rest else [])]
    said = _SENTENCE_AND_COMMAND.fullmatch(written)
    if said:
        return [Line("", [(False, said[1])]), *_lines(said[2])]
    return [Line("", [(False, written)])]


def all_counted(report: Report) -> str:
    """Every severity that occurs, and the accepted ones."""
    counts = [counted(severity, count) for severity, count in report.counts.items() if count]
    return ", ".join(counts + [f"{len(report.accepted)} accepted"] * bool(report.accepted)) or "none"


def verdict_line(report: Report) -> str:
    """How it stands, in one line."""
    dry = "Dry run. " if report.check_mode else ""
    return f"{dry}{WORDS[report.verdict]}: {report.sentence}"


def summary(report: Report) -> list[str]:
    """Lines for a terminal: the verdict, then what presses, the worst first, each with its remedy."""
    lines = [f"{report.title}: {verdict_line(report)}"]
    for item in report.pressing:
        finding = item.finding
        lines.append(f"{finding.severity.upper():<8}  {item.host}  {finding.check}: {finding.summary}")
        lines += [f"          → {line.text}" for line in remedy_lines(finding.remedy)]
    return [*lines, f"Findings: {all_counted(report)}"]
