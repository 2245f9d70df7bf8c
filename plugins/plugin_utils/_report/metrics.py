# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics of a run, for the text-file collector of node_exporter."""

from __future__ import annotations

from ansible_collections.njord.telemetry.plugins.module_utils._finding import SEVERITIES

from .model import Report

_PREFIX = "njord_maintenance_"


def _family(name: str, text: str, samples: list[tuple[dict[str, str], float]]) -> list[str]:
    """Label values here are names of procedures and severities: nothing in them needs an escape."""
    full = _PREFIX + name
    lines = []
    for labels, value in samples:
        pairs = ",".join(f'{key}="{item}"' for key, item in labels.items())
        lines.append(f"{full}{{{pairs}}} {value!r}")
    return [f"# HELP {full} {text}", f"# TYPE {full} gauge", *lines] if lines else []


def render(report: Report) -> str:
    """Text format: when the procedure last ran, how long it took, and how it ended."""
    procedure = {"procedure": report.procedure}
    run = report.run
    duration = [(procedure, run.duration_seconds)] if run.duration_seconds is not None else []
    outcome = [({**procedure, "verdict": verdict}, float(verdict == report.verdict)) for verdict in SEVERITIES]
    findings = [({**procedure, "severity": name}, float(count)) for name, count in report.counts.items()]
    lines = [
        *_family("last_run_timestamp_seconds", "When the procedure last ended.", [(procedure, run.time)]),
        *_family(
            "last_success_timestamp_seconds",
            "When the procedure last ended without a finding that fails it; 0 is never.",
            [(procedure, run.last_success or 0.0)],
        ),
        *_family("duration_seconds", "How long the last run of the procedure took.", duration),
        *_family("outcome", "1 for the verdict of the last run of the procedure, 0 for every other.", outcome),
        *_family("findings", "Open findings of the last run of the procedure.", findings),
    ]
    return "\n".join(lines) + "\n"
