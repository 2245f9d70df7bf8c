#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_info
short_description: Show what fires, what fired, which alerts cannot fire, and why one does not
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
  - With O(rules) it says of each of these alerts why it does not fire, or tells nobody, by the first link that fails
    of seven, with the evidence and the next step. Whether Prometheus is ready and has loaded the rule; whether the rule
    is evaluated; whether its expression chooses a series, and if not whether one is missing, below the threshold and by
    how much, or has labels that do not match; whether it was true for long enough, and with which C(for) it would have
    fired; whether Alertmanager has it; whether it is silenced, inhibited, muted by time, or routed to a receiver
    without integrations; whether the notifications fail.
  - Servers that are unreachable, unauthorised or unsupported are told apart; what is not known is V(unknown), never
    healthy.
  - With O(synthetic_receiver), and only then, one alert is sent by way of trial, and followed until that receiver has
    taken it; without it this module changes nothing.
  - Does the runbook's "Review alert history" of the weekly maintenance, and its "Alert Not Firing".
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
  - njord.telemetry.alertmanager
attributes:
  check_mode:
    support: full
    details:
      - With O(synthetic_receiver) it says what would be sent and whom it would reach, and sends nothing.
      - Otherwise this action does not modify state.
  idempotent:
    support: partial
    details:
      - With O(synthetic_receiver) each run sends an alert. Otherwise this action does not modify state.
options:
  rules:
    description:
      - Names of alerts of which to say why they do not fire; then nothing else is looked at.
      - For a name that does not exist the nearest ones are said.
    type: list
    elements: str
    default: []
  alertmanager_url:
    description:
      - Address of Alertmanager as the host sees it, with its path prefix if it has one; used with O(rules) and
        O(synthetic_receiver) alone.
      - Those to which Prometheus sends its alerts, without credentials, where it is not given.
    type: str
  synthetic_receiver:
    description:
      - Name of a receiver of Alertmanager to which one synthetic alert is sent, end to end. Nothing else is looked at,
        but for O(rules).
      - Where it would lead is read first, from the routes, silences, inhibitions and time intervals that Alertmanager
        shows. Where no labels are found that lead to this receiver alone, or where it would be kept back, nothing is
        sent, and the finding says why.
      - It goes to O(alertmanager_url), or to each Alertmanager that Prometheus names. Its text says that it is a test,
        and who made it. It is ended as soon as its fate is known, also where the run is interrupted, and by itself
        where the host dies.
      - That it was delivered is said only where the counts of Alertmanager prove it, at the latest 20 seconds after the
        C(group_wait) of its route. They are kept by receiver only with C(--enable-feature=receiver-name-in-metrics);
        without, other alerts that are told of in the same way leave it V(unknown).
    type: str
  synthetic_labels:
    description:
      - Labels that the synthetic alert has in any case, C(alertname) among them where the routes ask for one.
      - Its name is V(NjordSyntheticTest) otherwise, and what else it needs is found.
    type: dict
    default: {}
  synthetic_author:
    description:
      - Who sends it, as its text says.
      - The user on the host where it is not given.
    type: str
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

- name: Say why the alert on drawdown does not fire
  njord.telemetry.alert_info:
    rules: [HighDrawdown]
    window: 1d
    alertmanager_url: http://127.0.0.1:9093

- name: Try whether the receiver of those on call is reached
  njord.telemetry.alert_info:
    synthetic_receiver: on-call
    synthetic_author: Ada

- name: Show what fired longest
  ansible.builtin.debug:
    msg: "{{ alerts.history[:3] }}"
"""

RETURN = r"""
findings:
  description:
    - C(alert.firing) and C(alert.pending) for each alert by name, C(alert.rule) for each rule that is broken or silent,
      C(alert.history), C(alert.flapping) and C(alert.delivery).
    - With O(rules) one for each rule of these names, by the link that fails first, C(alert.server), C(alert.loaded),
      C(alert.evaluation), C(alert.series), C(alert.join), C(alert.threshold), C(alert.condition), C(alert.expression),
      C(alert.wait), C(alert.delivery), C(alert.silence), C(alert.inhibition), C(alert.mute), C(alert.receiver),
      C(alert.notification); C(alert.delivered) where none does. C(evidence.passed) has the links that were good.
    - With O(synthetic_receiver) C(alert.synthetic), V(ok) where it was delivered, V(critical) where it failed,
      V(unknown) where neither is known or nothing was sent, V(warning) where the receiver tells nobody or an
      Alertmanager is dead, V(info) in check mode.
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
  returned: always
  type: list
  elements: dict
alerts:
  description: Every alert that is active now; of O(rules) where they are given.
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
  description: Every label set that was active in the window, the one that fired longest first; empty with O(rules).
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

import os
import pwd
import socket
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import alerts, silent_alert, synthetic
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

OPTIONS = _argspec.ArgumentSpec(
    {
        "rules": {"type": "list", "elements": "str", "default": []},
        "synthetic_receiver": {"type": "str"},
        "synthetic_labels": {"type": "dict", "default": {}},
        "synthetic_author": {"type": "str"},
        "window": {"type": "str", "default": "7d"},
        "flapping": {"type": "int", "default": 5},
        "not_emitted": {"type": "list", "elements": "str", "default": []},
    }
)


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).merge(_argspec.server_options("alertmanager", None)).module()
    try:
        window = _units.duration(module.params["window"])
    except ValueError as error:
        _argspec.fail(module, f"window: {error}")
    if not window:
        _argspec.fail(module, "window: 0 is no time to look back; 7d or 12h would do")
    client = Prometheus(_argspec.server(module, "prometheus"), AUDIT)
    if module.params["rules"] or module.params["synthetic_receiver"]:
        why(module, client, window)
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


def why(module: AnsibleModule, client: Prometheus, window: float) -> None:
    """Says of the alerts that are named why they do not fire, tries the receiver that is, and ends the module."""
    parameters = module.params
    alertmanager = _argspec.server(module, "alertmanager") if parameters["alertmanager_url"] else None
    findings, rows, is_sent = [], [], False
    if parameters["synthetic_receiver"]:
        labels = {str(name): str(value) for name, value in parameters["synthetic_labels"].items()}
        author = parameters["synthetic_author"] or f"{user()} on {socket.gethostname()}"
        question = synthetic.Question(parameters["synthetic_receiver"], labels, author, module.check_mode)
        trial = synthetic.Trial(client, alertmanager, question)
        findings += trial.findings()
        is_sent = trial.is_sent
    if parameters["rules"]:
        asked = silent_alert.Look(client, parameters["rules"], window, parameters["not_emitted"], alertmanager)
        findings += asked.findings()
        rows = [alerts.row(alert) for alert in asked.active]
    module.exit_json(
        changed=is_sent,
        findings=[finding.as_dict() for finding in findings],
        alerts=rows,
        history=[],
        resolution_seconds=None,
        oldest_sample=None,
    )


def user() -> str:
    """Who runs this, also behind ``sudo``."""
    if os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


if __name__ == "__main__":
    main()
