#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cardinality_info
short_description: Find the metrics with too many label sets, and the label to blame
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Counts the series that Prometheus holds in memory by metric, by label and by pair, and looks into each metric that
    passes the limits. It says which label makes the label sets, what its values look like, which scrape job they come
    from, and which relabelling would end it.
  - Label sets are counted at one target and without C(le) and C(quantile), so that the parts of a histogram count once,
    and a fleet is judged like one host. Where a metric comes from several targets it is their average.
  - Says as well how the number of series grew, and whether the exporter folds label sets together.
  - Labels are counted from the index of Prometheus. At most 20 metrics are looked into, four at once, for a minute.
  - Does what the runbook asks for under "High Cardinality Warnings" and "Cardinality Management".
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  label_sets_warning:
    description:
      - More label sets of one metric at one target than this are a warning.
      - The default is Njord's own rule.
    type: int
    default: 100
  label_sets_critical:
    description: More label sets of one metric at one target than this are critical.
    type: int
    default: 1000
  head_series_warning:
    description: More series in memory than this, of all metrics together, are a warning.
    type: int
    default: 100000
  window:
    description: Over which time the growth is told, such as V(7d) or V(12h).
    type: str
    default: 7d
seealso:
  - module: njord.telemetry.alert_info
"""

EXAMPLES = r"""
- name: Review metric cardinality
  njord.telemetry.cardinality_info:
  register: cardinality

- name: Show what would end it
  ansible.builtin.debug:
    msg: "{{ item.evidence.relabelling }}"
  loop: "{{ cardinality.findings | selectattr('check', 'equalto', 'cardinality.metric') }}"
  when: item.evidence.relabelling is defined
"""

RETURN = r"""
findings:
  description:
    - C(cardinality.head), C(cardinality.growth), C(cardinality.label), C(cardinality.overflow), and one
      C(cardinality.metric) for each metric above the limits, or one for all of them where there is none.
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
  returned: always
  type: list
  elements: dict
head:
  description:
    - The statistics of the head block, the largest first; empty where they could not be asked.
    - Tables hold pairs of name and count.
  returned: always
  type: dict
  contains:
    series:
      description: Series in memory.
      type: int
    chunks:
      description: Chunks in memory.
      type: int
    min_time:
      description: Time of the first sample in the head, in milliseconds since the epoch.
      type: int
    max_time:
      description: Time of the last sample in the head, in milliseconds since the epoch.
      type: int
    series_by_metric:
      description: Series by metric name.
      type: list
      elements: list
    values_by_label:
      description: Values by label name.
      type: list
      elements: list
    bytes_by_label:
      description: Bytes of all values by label name.
      type: list
      elements: list
    series_by_pair:
      description: Series by pair of label and value.
      type: list
      elements: list
metrics:
  description: What was found of each metric above the limits, the one with the most label sets first.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the metric, of a histogram without C(_bucket).
      type: str
    series:
      description: Series in the head, of all its parts and targets.
      type: int
    label_sets:
      description: Label sets in the head at one target.
      type: int
    targets:
      description: Values of the label C(instance).
      type: int
    jobs:
      description: Scrape jobs it comes from.
      type: list
      elements: str
    blamed:
      description: Labels that make the label sets; empty where no label alone does.
      type: list
      elements: str
    labels:
      description: Its labels, each with C(name), C(values), C(examples) and C(pattern), the one with most values first.
      type: list
      elements: dict
"""

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import cardinality
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "label_sets_warning": {"type": "int", "default": 100},
        "label_sets_critical": {"type": "int", "default": 1000},
        "head_series_warning": {"type": "int", "default": 100_000},
        "window": {"type": "str", "default": "7d"},
    }
)


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    try:
        window = _units.duration(module.params["window"])
    except ValueError as error:
        _argspec.fail(module, f"window: {error}")
    limits = cardinality.Limits(**{name: module.params[name] for name in cardinality.Limits.__dataclass_fields__})
    look = cardinality.Look(Prometheus(_argspec.server(module, "prometheus")), limits, window)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(changed=False, findings=findings, head=look.head_tables(), metrics=look.metric_rows())


if __name__ == "__main__":
    main()
