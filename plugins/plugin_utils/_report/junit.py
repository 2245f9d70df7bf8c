# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as JUnit XML, for whatever shows tests: a suite per host, a case per finding."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from .model import Assessed, HostState, Report

# What a severity is to those who know only tests; the others pass.
_OUTCOMES = {"critical": "failure", "warning": "failure", "unknown": "error"}


def _outcome(item: Assessed) -> str:
    return "skipped" if item.acceptance else _OUTCOMES.get(item.finding.severity, "")


def _case(item: Assessed) -> ET.Element:
    finding = item.finding
    case = ET.Element("testcase", classname=finding.check, name=finding.subject or finding.check)
    outcome = _outcome(item)
    if item.acceptance:
        message = f"accepted until {item.acceptance.until:%Y-%m-%d}: {item.acceptance.reason}"
        ET.SubElement(case, outcome, message=message).text = finding.summary
    elif outcome:
        result = ET.SubElement(case, outcome, message=finding.summary, type=finding.severity)
        result.text = "\n\n".join(part for part in (finding.remedy, _evidence(item)) if part)
    else:
        ET.SubElement(case, "system-out").text = finding.summary
    return case


def _evidence(item: Assessed) -> str:
    shown = {key: value for key, value in item.finding.evidence.items() if key != "chart"}
    return json.dumps(shown, indent=2, ensure_ascii=False) if shown else ""


def _suite(report: Report, state: HostState) -> ET.Element:
    outcomes = [_outcome(item) for item in state.findings]
    suite = ET.Element(
        "testsuite",
        name=state.host,
        timestamp=report.finished.strftime("%Y-%m-%dT%H:%M:%S"),
        tests=str(len(outcomes)),
        failures=str(outcomes.count("failure")),
        errors=str(outcomes.count("error")),
        skipped=str(outcomes.count("skipped")),
    )
    suite.extend(_case(item) for item in state.findings)
    return suite


def render(report: Report) -> str:
    """JUnit XML, UTF-8."""
    root = ET.Element("testsuites", name=report.procedure, time=f"{report.duration_seconds or 0:.1f}")
    root.extend(_suite(report, state) for state in report.states)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
