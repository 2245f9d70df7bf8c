#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: query_log_info
short_description: Find the slow and the failing queries of Prometheus, who asks them, and the rule that would help
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Reads the query log of Prometheus 2 and 3, with what logrotate made of it, C(.gz) too, and adds it up by query, by
    rule group and by client. Rules are told of apart from dashboards and people.
  - For the costliest of the slow queries it writes out a recording rule, has C(promtool) check and evaluate it where it
    is on the host, and compares what it records with the query itself. Where no rule makes sense it says why.
  - Says as well which queries failed and why, how long queries waited for their turn, which rule groups take most of
    the time there is, and whether Prometheus can write its query log.
  - Memory does not grow with the log. Of very many different queries only the costliest are told apart; then
    RV(counts.approximate) is true, and the figures of rule groups and clients are exact all the same.
  - Lines that are not understood are counted by their reason, with an example.
  - Does what the runbook asks for under "Query Performance" and "Review query performance".
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  path:
    description:
      - The query log on the host, an absolute path. Rotated files are looked for beside it.
      - Prometheus is asked for C(global.query_log_file) where it is not given. Give it where Prometheus does not
        answer, or runs in a container and its path is not that of the host.
    type: path
  window:
    description: How far back, such as V(24h) or V(7d).
    type: str
    default: 7d
  until:
    description: The end of the window, such as V(2026-01-31T02:00:00Z); now where it is not given.
    type: str
  slow:
    description:
      - A query that takes at least so long at the 95th percentile is slow, such as V(500ms) or V(1s).
      - So long a query may wait for its turn.
    type: str
    default: 1s
  top:
    description: Rows of each table, from 1 to 1000.
    type: int
    default: 20
  jobs:
    description: Processes that read at once, from 1 to 64.
    type: int
    default: 1
  promtool:
    description: Path of C(promtool); the one of PATH where it is not given.
    type: path
seealso:
  - module: njord.telemetry.cardinality_info
"""

EXAMPLES = r"""
- name: Review query performance
  njord.telemetry.query_log_info:
  register: queries

- name: Show the recording rules that would help
  ansible.builtin.debug:
    msg: "{{ queries.queries | map(attribute='recording_rule') | select }}"

- name: Read a log while its server is down
  njord.telemetry.query_log_info:
    path: /var/log/prometheus/query.log
    window: 24h
"""

RETURN = r"""
findings:
  description:
    - C(query.log), C(query.writing), C(query.queue), one C(query.slow) for each of the costliest slow queries, one
      C(query.errors) for each kind of error and one C(query.rules) for each busy rule group; where there is none of
      these, one for all.
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
    - The evidence of a slow query has C(recording_rule), a file of rules, with C(replacement), what to ask instead, and
      C(proof), how both were compared; or C(no_recording_rule), why there is none.
  returned: always
  type: list
  elements: dict
path:
  description: The query log; empty where it is not known.
  returned: always
  type: str
files:
  description: The files of the log, each with C(path), C(size), C(modified) and C(state), the newest first.
  returned: always
  type: list
  elements: dict
counts:
  description: What was read.
  returned: always
  type: dict
  contains:
    lines:
      description: Queries that are among the figures.
      type: int
    rules:
      description: Those of rules.
      type: int
    requests:
      description: Those of clients.
      type: int
    other:
      description: Those of the server itself.
      type: int
    errors:
      description: Those that failed.
      type: int
    outside_window:
      description: Lines from before or after the window.
      type: int
    not_understood:
      description: Lines by the reason why they are not understood.
      type: dict
    bytes:
      description: Of the files that were read, as they lie on the disk.
      type: int
    approximate:
      description: Whether there were so many different queries that only the costliest are told apart.
      type: bool
queries:
  description:
    - The costliest queries by the time they took in all, those of clients first, then those of rules.
    - Queries of clients that differ only in a range or a fixed time count as one.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: V(request), V(rule) or V(other).
      type: str
    query:
      description: The one of them that took longest.
      type: str
    shape:
      description: What they have in common.
      type: str
    asked_by:
      description: The clients or rule groups that took the most time.
      type: list
      elements: str
    count:
      description: How often it was asked.
      type: int
    errors:
      description: How often it failed.
      type: int
    seconds:
      description: How long it took in all, without waiting for its turn.
      type: float
    p50:
      description: The median, in seconds, like V(p95) and V(max).
      type: float
    p95:
      description: The 95th percentile.
      type: float
    max:
      description: The longest.
      type: float
    quantile_error:
      description: How far V(p50) and V(p95) may be off, as a share of them.
      type: float
    queue_seconds:
      description: How long it waited for its turn in all.
      type: float
    queue_max:
      description: How long it waited at most.
      type: float
    samples:
      description: Samples that were read in all.
      type: int
    peak_samples:
      description: The most samples in memory at once.
      type: int
    slowest:
      description: The longest evaluation, with C(seconds), C(query), C(at), C(start), C(end), C(step) and C(path).
      type: dict
    missing_seconds_at_most:
      description: Time that it may lack, since it was not told apart before; 0 where its figures are exact.
      type: float
    recording_rule:
      description: A file of rules that would help; empty where none was made.
      type: str
rules:
  description: The rule groups by C(group) and C(file), with the figures of RV(queries), the costliest first.
  returned: always
  type: list
  elements: dict
clients:
  description: The clients by C(client), their address, with the figures of RV(queries), the costliest first.
  returned: always
  type: list
  elements: dict
"""

import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query import slow_queries
from ansible_collections.njord.telemetry.plugins.module_utils._journal.command import moment
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "path": {"type": "path"},
        "window": {"type": "str", "default": "7d"},
        "until": {"type": "str"},
        "slow": {"type": "str", "default": "1s"},
        "top": {"type": "int", "default": 20},
        "jobs": {"type": "int", "default": 1},
        "promtool": {"type": "path"},
    }
)
LIMITS = {"top": 1000, "jobs": 64}


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    given = module.params
    _argspec.require_absolute(module, "path")
    for option, most in LIMITS.items():
        if not 1 <= given[option] <= most:
            _argspec.fail(module, f"{option}: {given[option]} does not lie between 1 and {most}")
    window, slow = (_seconds(module, option) for option in ("window", "slow"))
    until = time.time()
    if given["until"] is not None:
        try:
            until = moment(given["until"]) / 10**9
        except ValueError as error:
            _argspec.fail(module, f"until: {error}")
    question = slow_queries.Question(
        path=given["path"] or "",
        since=until - window,
        until=until,
        slow_seconds=slow,
        top=given["top"],
        jobs=given["jobs"],
        promtool=given["promtool"] or shutil.which("promtool") or "",
    )
    look = slow_queries.Look(Prometheus(_argspec.server(module, "prometheus"), AUDIT), question)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(
        changed=False,
        findings=findings,
        path=look.path,
        files=look.file_rows(),
        counts=look.counts(),
        queries=look.query_rows(),
        rules=look.group_rows(),
        clients=look.client_rows(),
    )


def _seconds(module: AnsibleModule, option: str) -> float:
    try:
        return _units.duration(module.params[option])
    except ValueError as error:
        _argspec.fail(module, f"{option}: {error}")


if __name__ == "__main__":
    main()
