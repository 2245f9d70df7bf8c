#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: threshold_info
short_description: Compare the thresholds of alerts with what is normal, and try others
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Shows for each alert that compares with a number how its values were distributed over O(window), how far the
    threshold lies from what is normal, and how often it would have fired at that threshold and at proposed ones.
  - Firings are replayed at the interval of the rule's group, with its C(for) and C(keep_firing_for), each series for
    itself; an evaluation without a sample ends what is pending, as in Prometheus. The replay of today's threshold is
    compared with what Prometheus recorded (C(ALERTS)), and a disagreement is said.
  - An expression is parsed. C(x > 5 and y) and C(x > 5 unless y) are judged as well; of any other it says why it has no
    threshold. One that is not understood is V(unknown).
  - It proposes and never changes a rule.
  - Quantiles are those of at most 5000 moments; the extreme that matters is that of all evaluations. At most 250000
    evaluations are replayed, the last ones, and fewer where very many values are beyond the threshold; a finding says
    how many. Rules with more than O(series) series are not replayed. Two requests run at once.
  - What lies before the oldest sample of Prometheus is not known, and a finding says so.
  - Does the runbook's "Update alert thresholds based on historical data" of the quarterly maintenance.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  window:
    description: How far to look back, such as V(14d) or V(12h).
    type: str
    default: 14d
  rules:
    description:
      - Names of the alerts to look at; all where neither this nor O(groups) is given.
      - For a name that does not exist the nearest ones are said.
    type: list
    elements: str
    default: []
  groups:
    description: Names of groups of rules whose alerts to look at.
    type: list
    elements: str
    default: []
  proposals:
    description:
      - Thresholds to try, a list of numbers such as V([8, 12]) by the name of the alert.
      - For an alert without any one is computed from O(margin).
    type: dict
    default: {}
  margin:
    description:
      - How far a computed threshold lies beyond P99 (P1 where small values fire), as a share of the distance from P50
        to it.
    type: float
    default: 0.5
  notable:
    description: Firings at least so long are those that a threshold must not miss, such as V(5m).
    type: str
    default: 5m
  series:
    description: Rules with more series at once than this are not replayed.
    type: int
    default: 200
  not_emitted:
    description:
      - Names of metrics that this version of Njord does not emit, or that only begin with the event they count.
      - Rules on them have no values, and rightly so; of any other rule without values the threshold is V(unknown).
    type: list
    elements: str
    default: []
  time_limit:
    description: Time that the whole look may take, such as V(5m). Rules that it does not suffice for are V(unknown).
    type: str
    default: 5m
seealso:
  - module: njord.telemetry.alert_info
  - module: njord.telemetry.prometheus_query
"""

EXAMPLES = r"""
- name: Review the thresholds of all alerts
  njord.telemetry.threshold_info:
  register: thresholds

- name: See what other thresholds would have done
  njord.telemetry.threshold_info:
    rules: [HighDrawdown]
    proposals:
      HighDrawdown: [8, 12]
"""

RETURN = r"""
findings:
  description:
    - C(threshold.rules) for all of them, C(threshold.rule) for each alert that compares with a number, with a chart of
      its quantiles over time against the threshold, and C(threshold.none) for those that do not.
    - C(threshold.rule) is a V(warning) where more than one of twenty values is beyond the threshold and it fired,
      V(unknown) where it could not be judged, and V(info) where the replay and the record do not agree, or it is not
      whole.
  returned: always
  type: list
  elements: dict
thresholds:
  description: What is known of each alert, in the order of the rules.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the alert.
      type: str
    group:
      description: Group of the rule.
      type: str
    file:
      description: File of the rule.
      type: str
    query:
      description: Expression of the rule.
      type: str
    verdict:
      description:
        - V(threshold), V(state) (an equality, whose number cannot be moved), V(no threshold), V(not emitted) or
          V(unknown).
      type: str
    reasons:
      description: Why something could not be told, or not to the end.
      type: list
      elements: str
    left:
      description: What is compared, in PromQL; a condition beside the comparison is a part of it.
      type: str
    operator:
      description: The comparison, with the number on its right.
      type: str
    threshold:
      description: The number; null where there is none.
      type: float
    quantiles:
      description:
        - C(p1), C(p5), C(p50), C(p95), C(p99), C(min) and C(max) of the sampled values of all series.
        - A value is a number, or one of the strings V(NaN), V(+Inf) and V(-Inf).
      type: dict
    samples:
      description: How many values were sampled.
      type: int
    sample_step_seconds:
      description: Time from one sampled moment to the next.
      type: float
    series:
      description: How many series there were at once, at most.
      type: int
    share_beyond:
      description: Share of the sampled values that are beyond the threshold, from 0 to 1.
      type: float
    headroom:
      description:
        - How far the threshold lies beyond P99 (P1 where small values fire), negative where it lies within.
        - Null where the comparison is an equality.
      type: raw
    replayed_seconds:
      description: Length of what was replayed.
      type: float
    today:
      description:
        - C(firings), C(firing_seconds) and C(longest_seconds) by replay of today's threshold, each series for itself.
        - Null where it could not be replayed.
      type: dict
    recorded:
      description: The same as Prometheus recorded it.
      type: dict
    agrees:
      description: Whether the two tell the same firings; null where one of them is missing.
      type: bool
    only_replayed:
      description: How many firings are in the replay alone.
      type: int
    only_recorded:
      description: How many firings are in the record alone.
      type: int
    proposals:
      description: What each proposed threshold would have done.
      type: list
      elements: dict
      contains:
        threshold:
          description: The threshold.
          type: float
        firings:
          description: How often it would have fired.
          type: int
        firing_seconds:
          description: How long in all.
          type: float
        longest_seconds:
          description: How long at the longest.
          type: float
        missed:
          description: Today's firings that it has no part of.
          type: int
        missed_notable:
          description: Those of the missed that lasted at least O(notable).
          type: int
        missed_longest_seconds:
          description: How long the longest of the missed lasted.
          type: float
        added:
          description: Firings that today's threshold has no part of.
          type: int
"""

import math
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import thresholds
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "window": {"type": "str", "default": "14d"},
        "rules": {"type": "list", "elements": "str", "default": []},
        "groups": {"type": "list", "elements": "str", "default": []},
        "proposals": {"type": "dict", "default": {}},
        "margin": {"type": "float", "default": 0.5},
        "notable": {"type": "str", "default": "5m"},
        "series": {"type": "int", "default": 200},
        "not_emitted": {"type": "list", "elements": "str", "default": []},
        "time_limit": {"type": "str", "default": "5m"},
    }
)


def numbers(name: str, given: t.Any) -> list[float]:
    """
    :raises ValueError: names the value and what would do.
    """
    try:
        found = [float(value) for value in (given if isinstance(given, list) else [given])]
    except (TypeError, ValueError):
        found = [math.nan]
    if not all(math.isfinite(value) for value in found):
        raise ValueError(f"{given!r} of {name} is no list of numbers; [8, 12] would do")
    return found


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    given = module.params

    def duration(option: str) -> float:
        try:
            seconds = _units.duration(given[option])
        except ValueError as error:
            _argspec.fail(module, f"{option}: {error}")
        if not seconds and option != "notable":
            _argspec.fail(module, f"{option}: 0 is too short; {OPTIONS.options[option]['default']} would do")
        return seconds

    try:
        proposals = {name: numbers(name, values) for name, values in given["proposals"].items()}
    except ValueError as error:
        _argspec.fail(module, f"proposals: {error}")
    options = thresholds.Options(
        window=duration("window"),
        names=given["rules"],
        groups=given["groups"],
        proposals=proposals,
        margin=given["margin"],
        notable=duration("notable"),
        series=given["series"],
        seconds=duration("time_limit"),
        not_emitted=given["not_emitted"],
    )
    look = thresholds.Look(Prometheus(_argspec.server(module, "prometheus"), AUDIT), options)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(changed=False, findings=findings, thresholds=look.rows())


if __name__ == "__main__":
    main()
