#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_query
short_description: Query Prometheus, and say whether the answer is as it should be
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Evaluates an expression of PromQL, at one moment or over a range, and returns a typed result.
  - With O(conditions) it says whether the result is as it should be, in V(met) and in a finding.
  - What could not be asked is V(unknown) and meets no condition. A server that does not answer, one that wants a login,
    one that does not know such a request, and a query that it cannot read or gave up are told apart by V(problem).
  - Each request carries a time limit, by which the server itself gives up, and a limit on series. Prometheus before 3.0
    does not know the latter, so that it sends all of them and the module leaves out what is over.
  - VictoriaMetrics answers too.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  query:
    description: The expression, in PromQL.
    type: str
    required: true
  time:
    description:
      - The moment at which to evaluate, in RFC 3339, such as V(2026-01-31T12:00:00Z), or in unix seconds.
      - The server's own now where it is not given.
    type: str
  start:
    description: Begin of a range, written like O(time).
    type: str
  window:
    description: Length of a range that ends at O(end), such as V(1h) or V(7d).
    type: str
  end:
    description: End of a range, written like O(time). The server's own now where it is not given.
    type: str
  step:
    description:
      - Time from one evaluation of a range to the next, such as V(30s); at most 11000 fit into a range.
      - A 250th of the range where it is not given, but at least a second.
    type: str
  limit:
    description: More series than this are cut off, and V(truncated) says so.
    type: int
    default: 1000
  conditions:
    description:
      - Each is one of V(all), V(any), V(none) or V(count), a comparison of PromQL and a number, such as V(all >= 1),
        V(none > 0.5) or V(count == 3).
      - V(all), V(any) and V(none) are about all samples, in a range those of every moment; V(count) is about the number
        of series.
      - NaN and native histograms fulfil none of V(all), V(any) and V(none).
      - An empty result fulfils none of these three, unless O(allow_empty) says so; V(count == 0) asks for one.
    type: list
    elements: str
    default: []
  allow_empty:
    description: Whether V(all), V(any) and V(none) hold of an empty result.
    type: bool
    default: false
  severity:
    description: Severity of the finding where a condition does not hold.
    type: str
    default: warning
    choices: [info, warning, critical, unknown]
seealso:
  - module: njord.telemetry.threshold_info
  - module: njord.telemetry.alert_info
"""

EXAMPLES = r"""
- name: All targets are up
  njord.telemetry.prometheus_query:
    query: up
    conditions: [all == 1, count >= 4]
    severity: critical
  register: targets
  failed_when: not targets.met

- name: The event loop was never late in the last hour
  njord.telemetry.prometheus_query:
    query: njord_event_loop_lag_seconds
    window: 1h
    step: 15s
    conditions: [none > 0.1]
  register: lag
"""

RETURN = r"""
findings:
  description:
    - One finding C(query.condition), its evidence with a chart where the result is a range.
    - V(ok) where all conditions hold, O(severity) where one does not, V(info) without conditions, and V(unknown) where
      the query was not answered or the result was cut off.
  returned: always
  type: list
  elements: dict
met:
  description:
    - Whether all conditions hold; null where there is none.
    - False as well where the query was not answered, or not to the end.
  returned: always
  type: bool
problem:
  description:
    - Why there is no answer, V(unreachable), V(unauthorised), V(unsupported), V(unreadable), V(query) (it cannot be
      read or evaluated; the finding has the server's words and the position), V(too_slow) or V(refused).
    - Empty where there is one.
  returned: always
  type: str
result_type:
  description: V(scalar), V(string), V(vector) or V(matrix); empty where there is no answer.
  returned: always
  type: str
result:
  description:
    - The series, in the server's order; a scalar is one without labels.
    - A value is a number, or, as JSON has no such numbers, one of the strings V(NaN), V(+Inf) and V(-Inf).
  returned: always
  type: list
  elements: dict
  contains:
    labels:
      description: Labels of the series, C(__name__) among them where it has a name.
      type: dict
    value:
      description: The value, where the result is a scalar or a vector.
      type: raw
    time:
      description: Its time in unix seconds.
      type: float
    values:
      description: Pairs of unix seconds and value, where the result is a matrix.
      type: list
      elements: list
text:
  description: The result where it is a string.
  returned: always
  type: str
histograms:
  description: How many series are native histograms, which are not in RV(result).
  returned: always
  type: int
truncated:
  description: Whether there are more series than O(limit).
  returned: always
  type: bool
conditions:
  description: How each condition came out.
  returned: always
  type: list
  elements: dict
  contains:
    condition:
      description: The condition.
      type: str
    met:
      description: Whether it holds.
      type: bool
    said:
      description: The reason.
      type: str
server_warnings:
  description: Warnings of the server beside its answer, which Ansible shows too.
  returned: always
  type: list
  elements: str
server_infos:
  description: Remarks of the server on the query.
  returned: always
  type: list
  elements: str
"""

import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _clock, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query import query
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

OPTIONS = _argspec.ArgumentSpec(
    {
        "query": {"type": "str", "required": True},
        "time": {"type": "str"},
        "start": {"type": "str"},
        "window": {"type": "str"},
        "end": {"type": "str"},
        "step": {"type": "str"},
        "limit": {"type": "int", "default": 1000},
        "conditions": {"type": "list", "elements": "str", "default": []},
        "allow_empty": {"type": "bool", "default": False},
        "severity": {"type": "str", "default": "warning", "choices": ["info", "warning", "critical", "unknown"]},
    },
    mutually_exclusive=(("time", "start", "window"), ("time", "end"), ("time", "step")),
)


def main() -> None:
    module = OPTIONS.merge(_argspec.PROMETHEUS).module()
    given = module.params

    def read(option: str, reader: t.Callable[[t.Any], t.Any]) -> t.Any:
        """What is written in an option; None where nothing is."""
        if given[option] is None:
            return None
        try:
            return reader(given[option])
        except ValueError as error:
            _argspec.fail(module, f"{option}: {error}")

    moments = {option: read(option, lambda text: _clock.read_time(text).value) for option in ("time", "start", "end")}
    spans = {option: read(option, _units.duration) for option in ("window", "step")}
    conditions = read("conditions", lambda texts: [query.condition(text) for text in texts])
    if given["limit"] < 1:
        _argspec.fail(module, f"limit: {given['limit']} is too few; 1 or more would do")
    end = moments["end"] if moments["time"] is None else moments["time"]
    times = query.Times(moments["start"], spans["window"], end, spans["step"])
    for option in ("end", "step"):
        if given[option] is not None and not times.ranged:
            _argspec.fail(module, f"{option}: belongs to a range; give start or window too")
    client = Prometheus(_argspec.server(module, "prometheus"))
    look = query.Look(
        client, given["query"], times, given["limit"], conditions, given["severity"], given["allow_empty"]
    )
    try:
        findings = [finding.as_dict() for finding in look.findings()]
    except ValueError as error:
        _argspec.fail(module, str(error))
    result = look.result
    for warning in result.warnings if result else []:
        module.warn(f"Prometheus: {warning}")
    module.exit_json(
        changed=False,
        findings=findings,
        met=look.met,
        problem=look.problem,
        result_type=result.kind if result else "",
        result=look.rows(),
        text=result.text if result else "",
        histograms=result.histograms if result else 0,
        truncated=look.truncated,
        conditions=look.verdict_rows(),
        server_warnings=result.warnings if result else [],
        server_infos=result.infos if result else [],
    )


if __name__ == "__main__":
    main()
