#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_info
short_description: Show what fires, what fired, and which alerts cannot fire
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Shows the alerts that fire or are pending now, and from the series C(ALERTS) and C(ALERTS_FOR_STATE) how often and
    how long each fired within a window, and which flap.
  - Finds rules that cannot be evaluated, are late, wait for less than one evaluation, or rest on metrics of which there
    was no series in the window; and whether alerts reach an Alertmanager.
  - Of an expression that it cannot judge it says so, and never that it cannot fire.
  - A firing is seen to within V(resolution_seconds) of the result, the shortest interval of the alert rules or a
    48,000th of O(window). What lies before the oldest sample of Prometheus is not known, and a finding says so.
  - An alert that fires is as severe as its label C(severity) says, V(critical) or V(warning); with another label it is
    for information.
  - Does the runbook's "Review alert history" of the weekly maintenance.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  window:
    description: How far to look back, such as V(7d) or V(12h).
    type: str
    default: 7d
  flapping:
    description: More firings of one label set than this within O(window) are a warning.
    type: int
    default: 5
  not_emitted:
    description:
      - Names of metrics that this version of Njord does not emit, or that only begin with the event they count.
      - Alerts that are silent for want of nothing else are for information; all others are a warning.
    type: list
    elements: str
    default: []
seealso:
  - module: njord.telemetry.cardinality_info
"""

EXAMPLES = r"""
- name: Review alerts and their history
  njord.telemetry.alert_info:
    window: 7d
    not_emitted:
      - njord_strategy_sharpe_ratio
  register: alerts

- name: Show what fired longest
  ansible.builtin.debug:
    msg: "{{ alerts.history[:3] }}"
"""

RETURN = r"""
findings:
  description:
    - C(alert.firing) and C(alert.pending) for each alert by name, C(alert.rule) for each rule that is broken or silent,
      C(alert.history), C(alert.flapping) and C(alert.delivery).
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
  returned: always
  type: list
  elements: dict
alerts:
  description: Every alert that is active now.
  returned: always
  type: list
  elements: dict
  contains:
    labels:
      description: Its labels, C(alertname) among them.
      type: dict
    annotations:
      description: Its annotations, as its rule filled them in.
      type: dict
    state:
      description: V(firing) or V(pending).
      type: str
    severity:
      description: Severity of its finding where it fires.
      type: str
    since:
      description: Since when it is active, in unix seconds.
      type: float
    value:
      description: Value of its expression at the last evaluation.
      type: str
history:
  description: Every label set that was active in the window, the one that fired longest first.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the alert.
      type: str
    labels:
      description: Its labels, C(alertname) among them.
      type: dict
    firings:
      description: How often it fired.
      type: int
    firing_seconds:
      description: How long it fired in all.
      type: float
    longest_seconds:
      description: Its longest firing.
      type: float
    last_end:
      description: When it last fired, in unix seconds; null where it was pending only.
      type: float
    pending_seconds:
      description: How long it was pending in all.
      type: float
resolution_seconds:
  description: To within which time the history is exact; null where it could not be asked.
  returned: always
  type: float
oldest_sample:
  description: Time of the oldest sample of Prometheus in unix seconds; null where it has none or does not say.
  returned: always
  type: float
"""

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import alerts
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "window": {"type": "str", "default": "7d"},
        "flapping": {"type": "int", "default": 5},
        "not_emitted": {"type": "list", "elements": "str", "default": []},
    }
)


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    try:
        window = _units.duration(module.params["window"])
    except ValueError as error:
        _argspec.fail(module, f"window: {error}")
    if not window:
        _argspec.fail(module, "window: 0 is no time to look back; 7d or 12h would do")
    client = Prometheus(_argspec.server(module, "prometheus"))
    look = alerts.Look(client, window, module.params["flapping"], module.params["not_emitted"])
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(
        changed=False,
        findings=findings,
        alerts=look.active_rows(),
        history=look.history_rows(),
        resolution_seconds=look.resolution,
        oldest_sample=look.oldest,
    )


if __name__ == "__main__":
    main()
