# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one page that needs nothing else: no network, no script, every value escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import typing as t
import urllib.parse
from pathlib import Path

import jinja2
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding, rank

from . import charts
from .model import ALL_HOSTS, Assessed, Report
from .units import change, date, human, label_of, unit_of
from .wording import WORDS, counted, host_name, place, remedy_lines

_HERE = Path(__file__).parent

MOST_ACTIONS = 50
MOST_CHARTS = 12
MOST_TRENDS = 12
_MOST_RUNS = 24
_MOST_SAID = 5

_TARGETS = (
    ("tel:", re.compile(r"\+?[0-9][0-9 ()./-]{4,24}")),
    ("mailto:", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*", re.ASCII)),
    ("", re.compile(r"https?://[^\s\"'<>]+")),
)

# The tab shows how it stands, by shape as well as by colour.
_TAB = {
    "critical": ("#a3161b", "M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9z"),
    "unknown": ("#64379b", "M12 .5 23.5 12 12 23.5.5 12z"),
    "warning": ("#c98a12", "M12 1.5 23.5 22H.5z"),
    "info": ("#245f96", "M12 1a11 11 0 1 0 .1 0zm0 4a7 7 0 1 1-.1 0z"),
    "ok": ("#1d6b41", "M12 1a11 11 0 1 0 .1 0z"),
}


def _href(text: str) -> str:
    """Where a contact leads: a number is dialled, an address is written to; empty for anything else."""
    for scheme, pattern in _TARGETS:
        if pattern.fullmatch(text.strip()):
            return scheme + (re.sub(r"[^+0-9]", "", text) if scheme == "tel:" else text.strip())
    return ""


def _favicon(verdict: str) -> str:
    colour, path = _TAB[verdict]
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="{colour}" d="{path}"/></svg>'
    return "data:image/svg+xml," + urllib.parse.quote(svg)


def _columns_of(rows: t.Sequence[t.Any]) -> list[str]:
    """Columns of a table, where the rows are dictionaries of a few plain values; else none."""
    if not rows or not all(isinstance(row, dict) and row for row in rows):
        return []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    nested = any(isinstance(value, (dict, list)) for row in rows for value in row.values())
    return columns if len(columns) <= 8 and not nested else []


def _evidence_of(finding: Finding) -> dict[str, t.Any]:
    return {key: value for key, value in finding.evidence.items() if key != "chart" and value not in ({}, [], None)}


def _checks_of(items: t.Sequence[Assessed]) -> str:
    return ", ".join(dict.fromkeys(item.finding.check for item in items))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False
    )
    environment.globals.update(
        change=change,
        checks_of=_checks_of,
        counted=counted,
        columns_of=_columns_of,
        date=date,
        evidence_of=_evidence_of,
        host_name=host_name,
        href=_href,
        human=human,
        json=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        label_of=label_of,
        most_actions=MOST_ACTIONS,
        most_charts=MOST_CHARTS,
        most_said=_MOST_SAID,
        place=place,
        remedy_lines=remedy_lines,
        spark=charts.spark,
        unit_of=unit_of,
        words=WORDS,
    )
    return environment


def render(report: Report) -> str:
    """The page, UTF-8. Its content security policy allows its own style sheet and nothing else."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    states = report.states
    runs = [*report.earlier, report.run][-_MOST_RUNS:]
    trends = report.trends
    moved = [trend for trend in trends if trend.moved][:MOST_TRENDS]
    run_rows = [
        [
            date(run.time),
            WORDS[run.verdict],
            "" if run.duration_seconds is None else human(run.duration_seconds, "seconds"),
            ", ".join(
                counted(name, count) for name, count in run.counts.items() if count and rank(name) >= rank("warning")
            ),
        ]
        for run in reversed(runs)
    ]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            style=style,
            style_hash=f"sha256-{digest}",
            favicon=_favicon(report.verdict),
            states=states,
            hosts=[state for state in states if state.host != ALL_HOSTS],
            # By identity: two findings may well be equal.
            step_number={id(item): number for number, step in enumerate(report.steps, 1) for item in step.findings},
            id=id,
            host_number={state.host: number for number, state in enumerate(states, 1)},
            drawings=[
                (item, charts.draw(item.finding.evidence["chart"]))
                for item in report.findings
                if item.finding.evidence.get("chart")
            ],
            runs=runs,
            run_rows=run_rows,
            moved=moved,
            unmoved=[trend for trend in trends if trend not in moved],
        )
    )
