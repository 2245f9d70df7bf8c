# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the query log; ``query_log_info`` is asked, as Ansible starts it."""

from __future__ import annotations

import http

import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding, rank

from tests.laboratory.fault import Ask, Bench, Fault
from tests.laboratory.receiver import post
from tests.testbench import module


def unwritable(bench: Bench, name: str) -> Ask:
    """A configuration names a query log where none can be made; /proc refuses that to root too."""
    folder = bench.folder()
    url = bench.prometheus(folder, {}).url
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": {"query_log_file": "/proc/nowhere/query.log"}}))
    assert post(url, "/-/reload") == http.HTTPStatus.INTERNAL_SERVER_ERROR

    def ask() -> list[Finding]:
        rows = module.run("query_log_info", {"prometheus_url": url})["findings"]
        return sorted((Finding(**row) for row in rows), key=lambda finding: -rank(finding.severity))

    return ask


FAULTS = (
    Fault(
        "a query log that cannot be written",
        unwritable,
        "query.writing",
        r"cannot write the query log /proc/nowhere/query\.log",
    ),
)
