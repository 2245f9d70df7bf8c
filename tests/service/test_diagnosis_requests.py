# SPDX-License-Identifier: GPL-3.0-or-later
"""A diagnosis of everything asks a server for little, however many rules and metrics it has."""

from __future__ import annotations

from pathlib import Path

from tests.bench import diagnosis

AT_ONCE = 4


def test_everything_is_told_by_few_requests_and_few_of_them_at_once(tmp_path: Path) -> None:
    with diagnosis.stack(tmp_path, targets=5, rule_count=diagnosis.RULES, series=10_000) as server:
        found = diagnosis.asked(server, runs=0)
    assert sum(len(taken.requests) for taken in found.values()) <= diagnosis.BOUND_REQUESTS, {
        name: taken.requests for name, taken in found.items()
    }
    assert max(taken.most_at_once for taken in found.values()) <= AT_ONCE
    # It was a diagnosis: something was found, and nothing failed or was left out.
    severities = {
        (finding["check"], finding["severity"]) for taken in found.values() for finding in taken.answer["findings"]
    }
    assert {("cardinality.metric", "warning"), ("scrape.target", "ok"), ("alert.firing", "info")} <= severities
    assert ("cardinality.churn", "unknown") not in severities
