#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cardinality_info
short_description: Find the metrics with too many label sets, the label to blame, what it costs and what ends it
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Counts the series that Prometheus holds in memory by metric, by label and by pair, and looks into each metric that
    passes the limits. It says which label makes the label sets, what its values look like, which scrape job they come
    from, and which relabelling would end it.
  - Label sets are counted at one target and without C(le) and C(quantile), so that the parts of a histogram count once,
    and a fleet is judged like one host. Where a metric comes from several targets it is their average in the head, or
    what the target with the most has now.
  - For each such metric it offers ways to end it, the one to take first in front. A label is taken from that metric
    alone, and only where no two series become the same, now and in the last hour; else Prometheus would keep one of
    them at random. Otherwise its series are dropped, or the publisher is to be mended. Each way says what it saves, and
    which rules and O(dashboards) read what it takes away.
  - Bytes are estimates from what the server says about itself, and the evidence says which. Memory is an upper bound,
    as all of the heap is laid upon the series.
  - Says how the number of series grew, and how many are made anew each hour. A burst, of a deploy or a start, is told
    from churn that never ends. For the index in the blocks its own data directory is read, where it lies on the host.
  - Says as well whether the exporter folds label sets together.
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
    description: Over which time growth and churn are told, such as V(7d) or V(12h).
    type: str
    default: 7d
  dashboards:
    description:
      - Files of dashboards on the host and directories of such files, absolute paths, as of
        M(njord.telemetry.metric_usage_info).
      - Without any, it is known of rules only whether they read what a relabelling takes away.
    type: list
    elements: path
    default: []
seealso:
  - module: njord.telemetry.metric_usage_info
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
    - C(cardinality.head), C(cardinality.growth), C(cardinality.churn), C(cardinality.label), C(cardinality.overflow),
      and one C(cardinality.metric) for each metric above the limits, or one for all of them where there is none.
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
    samples_per_second:
      description: Samples that it is written with each second; null where that is not known.
      type: float
    offers:
      description:
        - Ways to end it, the one to take first in front; each with C(way), C(relabelling), C(label_sets_left),
          C(saves_series), C(saves_samples_per_second), C(saves_memory_bytes), C(saves_disk_bytes_per_day), C(misses).
        - C(relabelling) is text to paste into the scrape job, empty where relabelling does not do it.
        - C(misses) names the rules and dashboards that read what it takes away; what is not known is null.
      type: list
      elements: dict
"""

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series import (
    cardinality,
    dashboards,
    label_sets,
)
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "label_sets_warning": {"type": "int", "default": 100},
        "label_sets_critical": {"type": "int", "default": 1000},
        "head_series_warning": {"type": "int", "default": 100_000},
        "window": {"type": "str", "default": "7d"},
        "dashboards": {"type": "list", "elements": "path", "default": []},
    }
)


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    _argspec.require_absolute(module, "dashboards")
    try:
        window = _units.duration(module.params["window"])
    except ValueError as error:
        _argspec.fail(module, f"window: {error}")
    if not window:
        _argspec.fail(module, "window: 0 is no time to look back; 7d or 12h would do")
    limits = label_sets.Limits(**{name: module.params[name] for name in label_sets.Limits.__dataclass_fields__})
    given = module.params["dashboards"]
    known = dashboards.read(given) if given else None
    look = cardinality.Look(Prometheus(_argspec.server(module, "prometheus"), AUDIT), limits, window, known)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(changed=False, findings=findings, head=look.head_tables(), metrics=look.metric_rows())


if __name__ == "__main__":
    main()
