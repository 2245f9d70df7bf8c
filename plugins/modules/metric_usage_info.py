#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_usage_info
short_description: Find the metrics that nobody reads, what they cost, and the relabelling that drops them
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Says of each metric in memory whether a rule of the server, one of O(dashboards) or a query of a client in the query
    log reads it. Expressions are parsed, regular expressions of names are matched by the server itself.
  - V(unused) is what nobody reads while all three were read whole and the log covers O(window). Where a part of that is
    missing it is V(probably unused), and C(usage.readers) says what is missing.
  - V(unknown) is what somebody may read. A query that is not understood may read each name in it; one that selects by
    labels alone, such as C({job="x"}), may read all that it matches; and any metric may be read where the server has
    C(remote_write), was asked for C(/federate) or remote read since it was started, or where rules or a dashboard
    cannot be read.
  - What only counts the series of a selector without a plain name, such as C({__name__=~".+"}), takes an inventory and
    reads nothing. Queries of this collection's own audits carry a comment into the query log, and are no readers but of
    what servers say about themselves. Those of earlier versions carried none, and count.
  - A logged query of a client counts whole, however long it is. Where there are so many long ones that some are kept in
    part only, each name in that part is read, and what nobody reads is V(probably unused) at most.
  - What a recording rule reads is used, even where nobody reads what it records. Queries in the templates of alerts
    count as well. C(_count) and C(_sum) are used where any part of their histogram or summary is.
  - Of dashboards it knows rows, hidden queries, library panels, annotations and variables. Grafana's own times, such as
    C($__rate_interval), are taken as times; a variable in a range is a range, one before a bracket is a function, one
    in a string is any string. Elsewhere it is each of its values where it is V(custom), V(constant), V(interval) or a
    text box with a number, and else it may be anything.
  - Left out are C(up), C(ALERTS) and others that Prometheus makes itself. The 10000 largest metrics are looked at.
  - Series are counted in the index of the head. Of those that are not used the samples are counted too, at most
    4096 characters and 50000 series by a query, 20 queries in all, four at once, for a minute.
  - It proposes and never changes anything. Does the runbook's "Audit metric usage" of the quarterly maintenance.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  dashboards:
    description:
      - Files of dashboards on the host, as Grafana exports them or its API gives them, and directories of such files,
        absolute paths. In a directory all that ends in C(.json) is read.
      - Files of library panels and of exported alert rules are read as well.
      - Without any, no metric is more than V(probably unused).
    type: list
    elements: path
    default: []
  query_log:
    description:
      - The query log on the host, an absolute path. Rotated files are looked for beside it.
      - Prometheus is asked for C(global.query_log_file) where it is not given.
    type: path
  window:
    description: How long nobody must have asked for a metric that is V(unused), such as V(30d).
    type: str
    default: 30d
  top:
    description: Metrics that get a finding of their own, the costliest first, from 0 to 1000.
    type: int
    default: 10
  jobs:
    description: Processes that read the log at once, from 1 to 64.
    type: int
    default: 1
seealso:
  - module: njord.telemetry.cardinality_info
  - module: njord.telemetry.query_log_info
"""

EXAMPLES = r"""
- name: Audit metric usage
  njord.telemetry.metric_usage_info:
    dashboards:
      - /var/lib/grafana/dashboards
  register: usage

- name: Show what would drop the metrics that nobody reads
  ansible.builtin.debug:
    msg: "{{ usage.drop_rules | selectattr('usage', 'equalto', 'unused') | map(attribute='relabelling') | join }}"
"""

RETURN = r"""
findings:
  description:
    - C(usage.metrics) for all of them, with a chart and the relabelling of all jobs; C(usage.unknown) where there are
      metrics of which it is not known; one C(usage.metric) for each of the O(top) costliest that nobody reads; and
      C(usage.readers), what was read to tell it.
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
  returned: always
  type: list
  elements: dict
counts:
  description:
    - C(metrics), C(series) and C(samples_per_second) of each of V(used), V(unused), V(probably unused) and V(unknown).
    - Samples of used metrics are not counted, and 0.
  returned: always
  type: dict
metrics:
  description: The metrics that are not known to be used, the costliest first, at most 1000.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the metric.
      type: str
    usage:
      description: V(unused), V(probably unused) or V(unknown).
      type: str
    series:
      description: Series in memory.
      type: int
    samples_per_second:
      description: Samples that are written each second; null where that is not known.
      type: float
    jobs:
      description: Scrape jobs that it comes from now.
      type: list
      elements: str
    recorded_by:
      description: Group of the recording rule that makes it; empty where a scrape does.
      type: str
    readers:
      description: Some of those who may read it.
      type: list
      elements: str
drop_rules:
  description:
    - What to put into each scrape job, for the 1000 costliest metrics; the V(unused) apart from the V(probably unused).
    - Metrics of recording rules are not among them; their rules are to be removed instead.
  returned: always
  type: list
  elements: dict
  contains:
    job:
      description: The scrape job; empty where it is not known.
      type: str
    usage:
      description: V(unused) or V(probably unused).
      type: str
    metrics:
      description: Names that are dropped.
      type: list
      elements: str
    series:
      description: Series that it saves.
      type: int
    samples_per_second:
      description: Samples that it saves each second; null where that is not known.
      type: float
    relabelling:
      description: C(metric_relabel_configs) as text to paste.
      type: str
"""

import time

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series import usage
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "dashboards": {"type": "list", "elements": "path", "default": []},
        "query_log": {"type": "path"},
        "window": {"type": "str", "default": "30d"},
        "top": {"type": "int", "default": 10},
        "jobs": {"type": "int", "default": 1},
    }
)
LIMITS = {"top": (0, 1000), "jobs": (1, 64)}


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    given = module.params
    for option in ("dashboards", "query_log"):
        _argspec.require_absolute(module, option)
    for option, (least, most) in LIMITS.items():
        if not least <= given[option] <= most:
            _argspec.fail(module, f"{option}: {given[option]} does not lie between {least} and {most}")
    try:
        window = _units.duration(given["window"])
    except ValueError as error:
        _argspec.fail(module, f"window: {error}")
    if not window:
        _argspec.fail(module, "window: 0 is too short; 30d would do")
    until = time.time()
    options = usage.Options(
        dashboards=given["dashboards"],
        query_log=given["query_log"] or "",
        since=until - window,
        until=until,
        top=given["top"],
        jobs=given["jobs"],
    )
    look = usage.Look(Prometheus(_argspec.server(module, "prometheus"), AUDIT), options)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(
        changed=False, findings=findings, counts=look.counts(), metrics=look.rows(), drop_rules=look.drop_rows()
    )


if __name__ == "__main__":
    main()
