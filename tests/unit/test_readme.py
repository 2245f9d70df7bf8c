# SPDX-License-Identifier: GPL-3.0-or-later
"""What the README promises is there, and what is there it names."""

from __future__ import annotations

import re

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()

RUNBOOK = {
    "Service Management": [
        "Starting Telemetry Services",
        "Stopping Telemetry Services",
        "Service Health Checks",
        "Service Logs",
    ],
    "Metrics Retention Management": [
        "Manual Cleanup",
        "Automated Cleanup",
        "Monitoring Disk Usage",
        "Adjusting Retention Policy",
    ],
    "Troubleshooting": [
        "High Cardinality Warnings",
        "Memory Issues",
        "Event Loop Lag",
        "Missing Metrics",
        "Alert Not Firing",
    ],
    "Performance Tuning": ["Cardinality Management", "Scrape Interval Optimization", "Query Optimization"],
    "Maintenance Procedures": ["Weekly Maintenance", "Monthly Maintenance", "Quarterly Maintenance"],
    "Incident Response": ["High Drawdown Alert", "System Health Degradation", "Data Loss"],
}


def table() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", README, re.MULTILINE)
    return [row for row in rows if row[0] in RUNBOOK]


def test_every_step_of_the_runbook_stands_in_the_table_once_and_in_its_order() -> None:
    steps = [(chapter, step) for chapter, steps in RUNBOOK.items() for step in steps]
    assert [row[:2] for row in table()] == steps


def test_every_playbook_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"([a-z-]+\.yml)", README)) - {"base.yml"}
    roles_and_examples = {"hosts.yml", "specs.yml"}
    missing = {name for name in named - roles_and_examples if not (ROOT / "playbooks" / name).exists()}
    assert missing == set()


def test_every_playbook_is_named_in_the_readme() -> None:
    dashed = {path.name.replace("_", "-") for path in (ROOT / "playbooks").glob("*.yml")}
    assert {name for name in dashed if f"`{name}`" not in README} == set()


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
