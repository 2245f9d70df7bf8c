#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scrape_info
short_description: Say why a metric is missing, by the first link that fails
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Follows the way of a metric from its publisher to the database, and names the first link that fails, with the
    evidence and the next step.
  - The links are, in this order, the server itself, whether this version of Njord emits the metric, the bus, who
    publishes on it, the exporter, the scrape job, its discovery, relabelling, the connection (name, port, service,
    firewall, TLS, login, path, content type, format, limits), the samples that are kept, their time stamps, and when
    the metric ended. A name that nobody knows is answered with the nearest ones.
  - The bus is asked only where O(redis_url) or O(exporter_url) is given; without them the exporter's own metrics are
    read as Prometheus holds them.
  - Ports, services and firewalls are looked at where the module runs, and a finding says so where that is not the host
    of Prometheus. Reading a firewall needs root.
  - Where a metric is not stored, the pages of up to three of its targets are read once from here.
  - Prometheus 2.53 and 3.x are told apart where they differ; another server in its place is V(unknown), never healthy.
  - Does the runbook's "Missing Metrics".
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
  - njord.telemetry.exporter
  - njord.telemetry.redis
options:
  metric:
    description:
      - The metric that is missing, by its name or with labels, such as C(njord_open_orders{symbol="ATOM"}).
      - All jobs are looked at where neither this nor O(job) is given.
    type: str
  job:
    description: The scrape job that should bring O(metric), or all of whose samples are missing.
    type: str
  dashboard:
    description:
      - File on the host that holds a dashboard of Grafana as JSON, whose panels are empty.
      - Data source, variables, time range and each metric of the expressions are looked at; Grafana is not asked.
    type: path
  panel:
    description: Title or number of the panel of O(dashboard) that is meant; all with queries where it is not given.
    type: str
  variables:
    description:
      - Values of the variables of O(dashboard), by name, each one or a list; those that were saved where it is not
        given.
    type: dict
    default: {}
  window:
    description: How far to look back for O(metric), such as V(1d) or V(12h).
    type: str
    default: 1d
  catalogue:
    description:
      - The metrics of Njord, each with C(name), C(type) and C(source), which is V(emitted) where this version publishes
        it.
      - The collection brings them in C(files/exporter/njord_telemetry/catalogue.yaml) under C(metrics).
    type: list
    elements: dict
    default: []
  topic:
    description: Topic of the bus on which metrics are published.
    type: str
    default: telemetry.metrics
  listen:
    description: How long to listen on the bus where O(redis_url) is given.
    type: str
    default: 2s
  exporter_url:
    description:
      - Address of the exporter as the host sees it, with its path prefix if it has one.
      - Its page is read, for what it says of the bus, only where this is given.
    type: str
    default: null
seealso:
  - module: njord.telemetry.alert_info
  - module: njord.telemetry.cardinality_info
  - module: njord.telemetry.health_check
"""

EXAMPLES = r"""
- name: Say why a metric is missing
  njord.telemetry.scrape_info:
    metric: njord_fills_generated_total
    redis_url: redis://127.0.0.1:6379/0
    exporter_url: http://127.0.0.1:9091
    catalogue: "{{ (lookup('ansible.builtin.file', 'catalogue.yaml') | from_yaml).metrics }}"
  register: scrape

- name: Show the answer
  ansible.builtin.debug:
    msg: "{{ scrape.findings[0].summary }}"

- name: Say what is wrong with any scrape job
  njord.telemetry.scrape_info:
"""

RETURN = r"""
findings:
  description:
    - The first link that fails, or that none does. Where all jobs are looked at, one for each job that has a fault, one
      for the bus, and one C(scrape.target) for all the others.
    - Of the server C(scrape.server), C(scrape.configuration), C(scrape.storage), C(scrape.refused).
    - Before the scrape C(scrape.emitted), C(scrape.bus), C(scrape.publisher), C(scrape.exporter),
      C(scrape.cardinality), C(scrape.rule).
    - Of the job C(scrape.pool), C(scrape.discovery), C(scrape.relabelling), C(scrape.waiting), C(scrape.flapping).
    - Of the connection C(scrape.resolve), C(scrape.service), C(scrape.port), C(scrape.firewall), C(scrape.network),
      C(scrape.tls), C(scrape.speed).
    - Of the answer C(scrape.login), C(scrape.path), C(scrape.application), C(scrape.content_type), C(scrape.format),
      C(scrape.limit), C(scrape.empty).
    - Of the metric C(scrape.exposed), C(scrape.timestamps), C(scrape.duplicates), C(scrape.stale), C(scrape.labels),
      C(scrape.name), C(scrape.metric); where all is well C(scrape.target).
    - Of a panel C(panel.source), C(panel.variable), C(panel.range), C(panel.expression), C(panel.data).
    - Each has C(check), C(subject), C(severity), C(summary), C(evidence) and C(remedy).
  returned: always
  type: list
  elements: dict
links:
  description: The links that were asked and hold, in the order in which they were asked.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: The link, as a finding would name it.
      type: str
    said:
      description: What was good about it.
      type: str
"""

import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils import _argspec, _units
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import panel, publisher, scrape
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

OPTIONS = _argspec.ArgumentSpec(
    {
        "metric": {"type": "str"},
        "job": {"type": "str"},
        "dashboard": {"type": "path"},
        "panel": {"type": "str"},
        "variables": {"type": "dict", "default": {}},
        "window": {"type": "str", "default": "1d"},
        "catalogue": {"type": "list", "elements": "dict", "default": []},
        "topic": {"type": "str", "default": publisher.TOPIC},
        "listen": {"type": "str", "default": "2s"},
    },
    mutually_exclusive=(("dashboard", "metric"), ("dashboard", "job")),
)


def main() -> None:
    spec = OPTIONS.merge(_argspec.server_options("exporter", None)).merge(_argspec.REDIS).merge(_argspec.PROMETHEUS)
    module = spec.module()
    parameters = module.params
    question = scrape.Question(
        parameters["metric"] or "",
        parameters["job"] or "",
        duration(module, "window"),
        panels(module),
        {name: value if isinstance(value, list) else [str(value)] for name, value in parameters["variables"].items()},
    )
    try:
        if question.metric:
            question.selector()
    except ValueError as error:
        _argspec.fail(module, f"metric: {error}")
    exporter = _argspec.server(module, "exporter") if parameters["exporter_url"] else None
    redis = _argspec.redis(module)
    listen = duration(module, "listen")
    catalogue = entries(module)

    def before_the_scrape(note: t.Callable[[str, str], None]) -> publisher.Publisher:
        page = scrape.page_of(exporter) if exporter else None
        return publisher.Publisher(redis, page, parameters["topic"], listen, catalogue, note)

    look = scrape.Look(Prometheus(_argspec.server(module, "prometheus"), AUDIT), question, before_the_scrape, exporter)
    findings = [finding.as_dict() for finding in look.findings()]
    module.exit_json(changed=False, findings=findings, links=look.links)


def panels(module: AnsibleModule) -> list[panel.Panel]:
    """Those of the option ``dashboard`` that are meant; none where it is not given."""
    path, chosen = module.params["dashboard"], module.params["panel"]
    if not path:
        if chosen:
            _argspec.fail(module, f"panel: {chosen!r} is one of a dashboard, and dashboard is not given")
        return []
    try:
        return panel.panels(Path(path).read_text(encoding="utf-8"), chosen or "")
    except OSError as error:
        _argspec.fail(module, f"dashboard: {path} cannot be read: {error}")
    except ValueError as error:
        _argspec.fail(module, f"dashboard: {path}: {error}")


def entries(module: AnsibleModule) -> list[publisher.Entry]:
    try:
        return publisher.read_catalogue(module.params["catalogue"])
    except ValueError as error:
        _argspec.fail(module, f"catalogue: {error}")


def duration(module: AnsibleModule, option: str) -> float:
    try:
        seconds = _units.duration(module.params[option])
    except ValueError as error:
        _argspec.fail(module, f"{option}: {error}")
    if not seconds:
        _argspec.fail(module, f"{option}: 0 is no time; 2s, 12h or 1d would do")
    return seconds


if __name__ == "__main__":
    main()
