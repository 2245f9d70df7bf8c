#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: configuration_info
short_description: Audit the configuration of a running Prometheus, and propose scrape intervals
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Says what Prometheus takes without a word and what is wrong all the same, by what it holds now.
  - Targets of one address, path and parameters that several jobs scrape, unless no metric can pass the filters of two
    of them. It names the metrics that are stored twice.
  - Ranges of rules that hold fewer than four scrapes of the jobs that their metric really comes from, four evaluations
    of the group that records it, or four steps of a subquery. Expressions are parsed.
  - Operators whose two sides come from different jobs and are compared by the label C(job).
  - Patterns of C(rule_files) that no file fits, and files of rules that are not loaded, were changed after the last
    reload, or are gone, where this host and its files are those of the server.
  - Rule groups that take half of their interval or more, or leave evaluations out, with their costliest rules.
  - Metrics of O(catalogue) whose scrape interval lies outside of the runbook's table, what a change would save, which
    alerts would see a change later, and C(prometheus_exporter_intervals) of the role C(prometheus) as it would be.
    What lies within its row stays as it is, as does what a rule would not bear.
  - About a dozen requests, each with a limit. It changes nothing. Does the runbook's "Scrape Interval Optimization" and
    a part of its "Query Optimization".
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  catalogue:
    description:
      - The metrics that are known, each with its C(name) and its C(pace), V(fast), V(slow) or V(system); other keys are
        not read. Without it no scrape interval is judged.
      - The collection brings them in C(files/exporter/njord_telemetry/catalogue.yaml) under C(metrics).
    type: list
    elements: dict
    default: []
  intervals:
    description:
      - C(prometheus_exporter_intervals) as the inventory has it, what the proposal begins with. Where it is empty, or
        not given, it begins with what is in force.
      - Where it is given and what is in force is another, that is a finding.
    type: dict
  wanted:
    description:
      - Intervals that the metrics of a row shall have, by C(fast), C(slow) or C(system), such as V(5s), within their
        row. Without one, any interval of the row is right, and the nearest one is proposed where none is.
    type: dict
    default: {}
  before:
    description: RV(figures) of an earlier run that C(configuration.scrapes) shall be compared with.
    type: dict
    default: {}
seealso:
  - module: njord.telemetry.query_log_info
  - module: njord.telemetry.scrape_info
"""

EXAMPLES = r"""
- name: Audit the configuration of Prometheus
  njord.telemetry.configuration_info:
    catalogue: "{{ (lookup('ansible.builtin.file', 'catalogue.yaml') | from_yaml).metrics }}"
  register: configuration

- name: Show what would go into the inventory
  ansible.builtin.debug:
    msg: "{{ configuration.variable }}"
  when: configuration.differs
"""

RETURN = r"""
findings:
  description:
    - C(configuration.scrapes), C(configuration.doubled), C(configuration.windows), C(configuration.joins),
      C(configuration.rule_files), C(configuration.rules) and C(configuration.intervals), one for each trouble, or one
      for all that is well.
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
  returned: always
  type: list
  elements: dict
proposal:
  description: C(prometheus_exporter_intervals) as proposed; empty where nothing needs an interval of its own.
  returned: always
  type: dict
  sample:
    slow:
      interval: 30s
      metrics: [njord_position_size]
variable:
  description: RV(proposal) as text for an inventory.
  returned: always
  type: str
change:
  description: A unified diff from RV(in_force) to RV(proposal), as text of an inventory; empty where they are the same.
  returned: always
  type: str
in_force:
  description: The intervals that the jobs of the server have now, in the form of RV(proposal).
  returned: always
  type: dict
differs:
  description: Whether the proposal is another than what is in force.
  returned: always
  type: bool
settle_seconds:
  description: Two of the longest of these intervals, after which what is replaced has ended; 0 without one.
  returned: always
  type: float
figures:
  description:
    - C(samples_per_second), C(scrape_busy_ratio), C(targets), C(targets_down), and of the exporter alone
      C(exporter_samples_per_second), C(exporter_scrapes_per_second) and C(exporter_scrape_busy_ratio).
    - Empty where they are not known.
  returned: always
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration import (
    configuration,
    scrape_intervals,
)
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "catalogue": {"type": "list", "elements": "dict", "default": []},
        "intervals": {"type": "dict"},
        "wanted": {"type": "dict", "default": {}},
        "before": {"type": "dict", "default": {}},
    }
)


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    options = configuration.Options(
        paces=_paces(module),
        split=_split(module),
        wishes=_wishes(module),
        before=_before(module),
    )
    look = configuration.Look(Prometheus(_argspec.server(module, "prometheus"), AUDIT), options)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(
        changed=False,
        findings=findings,
        proposal=look.proposal,
        variable=scrape_intervals.text(look.proposal),
        change=look.change,
        in_force=look.in_force,
        differs=look.proposal != look.in_force,
        settle_seconds=look.settle_seconds,
        figures=look.figures,
    )


def _paces(module: AnsibleModule) -> dict[str, str]:
    found = {}
    for row in module.params["catalogue"]:
        if not row.get("name") or row.get("pace") not in scrape_intervals.ROWS:
            _argspec.fail(module, f"catalogue: {row!r} lacks name or pace; {', '.join(scrape_intervals.ROWS)} would do")
        found[str(row["name"])] = str(row["pace"])
    return found


def _split(module: AnsibleModule) -> scrape_intervals.Split | None:
    if module.params["intervals"] is None:
        return None
    found = {}
    for name, row in module.params["intervals"].items():
        metrics = row.get("metrics") if isinstance(row, dict) else None
        if not isinstance(metrics, list) or "interval" not in row:
            _argspec.fail(module, f"intervals: {name} needs interval, such as 60s, and metrics, a list of names")
        seconds = _seconds(module, "intervals", name, row["interval"])
        found[name] = scrape_intervals.Entry(seconds, frozenset(scrape_intervals.base(str(one)) for one in metrics))
    return found


def _wishes(module: AnsibleModule) -> dict[str, float]:
    found = {}
    for pace, given in module.params["wanted"].items():
        row = scrape_intervals.ROWS.get(pace)
        if not row:
            _argspec.fail(module, f"wanted: {pace} is no row; {', '.join(scrape_intervals.ROWS)} would do")
        found[pace] = _seconds(module, "wanted", pace, given)
        if not row.has(found[pace]):
            text = f"wanted: {pace} {given} is outside of the runbook's row, {row.least:g}s to {row.most:g}s"
            _argspec.fail(module, text)
    return found


def _before(module: AnsibleModule) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in module.params["before"].items()}
    except (TypeError, ValueError):
        _argspec.fail(module, f"before: {module.params['before']!r} is not what figures of an earlier run were")


def _seconds(module: AnsibleModule, option: str, name: str, value: t.Any) -> float:
    try:
        seconds = _units.duration(str(value))
    except ValueError as error:
        _argspec.fail(module, f"{option}: {name}: {error}")
    if not seconds:
        _argspec.fail(module, f"{option}: {name}: 0 is no interval; 15s would do")
    return seconds


if __name__ == "__main__":
    main()
