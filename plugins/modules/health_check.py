#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_check
short_description: Say how every service of the telemetry is
version_added: 0.1.0
description:
  - Asks every service at once whether its unit is active, whether its port answers, and whether the answer is worth
    something.
  - Of the exporter, Prometheus and Alertmanager it asks C(/-/ready), which says no while C(/-/healthy) says yes. The
    exposition of metrics is read line by line, and the first line that Prometheus would not take is named.
  - Of Prometheus and Alertmanager it also says whether the last reload of the configuration was good, of Prometheus
    which targets are down, of the exporter when the last message of the bus came, of the dashboard and Grafana whether
    there is a page and a database, and of each that speaks TLS when its certificate ends.
  - A service that is well gives one finding. Where something fails, the first link that failed is the finding.
  - A service without an address is C(unknown), never C(ok), and so is the aggregator, which has no port, as long as it
    has no unit and O(units) names none.
  - The longest of the time-outs is the time for all of them together.
options:
  services:
    description: The services that are asked.
    type: list
    elements: str
    choices: [exporter, aggregator, dashboard, prometheus, node_exporter, alertmanager, grafana]
    default: [exporter, aggregator, dashboard, prometheus, node_exporter, alertmanager, grafana]
  units:
    description:
      - Units by the name of their service, on a host where they are called otherwise.
      - The usual ones are C(njord-prometheus-exporter), C(njord-metric-aggregator), C(njord-dashboard), C(prometheus),
        C(prometheus-node-exporter), C(prometheus-alertmanager) and C(grafana-server).
    type: dict
    default: {}
  expect:
    description:
      - How the services are to be.
      - With V(stopped) a service is well when its unit is inactive, its main process is gone and its port refuses. One
        that still answers is critical.
    type: str
    choices: [running, stopped]
    default: running
  wait:
    description:
      - How long to go on asking until nothing is worse than C(info), a duration such as V(60s).
      - What does not change by itself (no address, no systemd) is not waited for.
    type: str
    default: "0"
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.exporter
  - njord.telemetry.dashboard
  - njord.telemetry.prometheus
  - njord.telemetry.node_exporter
  - njord.telemetry.alertmanager
  - njord.telemetry.grafana
author:
  - Njord Trust (@njord-trust)
"""

EXAMPLES = r"""
- name: How is everything
  njord.telemetry.health_check:
    dashboard_url: http://127.0.0.1:8080
    grafana_url: http://127.0.0.1:3000
  register: health

- name: Wait until a start has come to its end
  njord.telemetry.health_check:
    services: [exporter, prometheus]
    exporter_token_file: /etc/njord/exporter.token
    wait: 60s

- name: Prove that Prometheus is stopped, on a host where its unit has another name
  njord.telemetry.health_check:
    services: [prometheus]
    units:
      prometheus: prometheus2
    expect: stopped
"""

RETURN = r"""
findings:
  description:
    - C(service.health) where all is well; otherwise C(service.unit), C(service.port), C(service.ready),
      C(service.scrape), C(service.page), C(service.identity), C(service.reload), C(service.targets), C(service.bus),
      C(service.certificate), C(service.configuration) or C(service.systemd). The subject is the name of the service.
  returned: always
  type: list
  elements: dict
services:
  description: What is known of each service, by its name; a key is there only where it is known.
  returned: always
  type: dict
  contains:
    state:
      description:
        - One of C(running) (its unit is active and every link was asked), C(failing), C(stopped), C(not installed),
          C(not configured) and C(unknown).
      type: str
    url:
      description: Where it was asked.
      type: str
    answers:
      description: Whether anything came back from its port.
      type: bool
    status:
      description: The last status of HTTP.
      type: int
    seconds:
      description: How long its answers took, in seconds.
      type: float
    version:
      description: The version it says it has.
      type: str
    samples:
      description: Samples of its own exposition.
      type: int
    families:
      description: Metrics of its own exposition.
      type: int
    last_reload:
      description: When it loaded its configuration, in unix seconds.
      type: float
    last_reload_successful:
      description: Whether the last attempt to do so was good.
      type: bool
    last_message:
      description: When the last message of the bus came, in unix seconds; none where there was none.
      type: float
    targets:
      description: Numbers of its targets that are C(up), C(down) and C(not_scraped_yet).
      type: dict
    certificate_ends:
      description: When its certificate ends, in unix seconds.
      type: float
    unit:
      description:
        - Its unit as systemd has it, with C(name), C(load), C(active), C(sub), C(result), C(restarts), C(exit_status),
          C(pid) and C(since) (unix seconds of the last change). Only C(name) where systemd could not be asked.
      type: dict
rounds:
  description: How often they were asked.
  returned: always
  type: int
seconds:
  description: How long that took, in seconds.
  returned: always
  type: float
"""

import functools
import re

from ansible_collections.njord.telemetry.plugins.module_utils._argspec import (
    ArgumentSpec,
    fail,
    server,
    server_options,
)
from ansible_collections.njord.telemetry.plugins.module_utils._health import SERVICES, Question, check
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration

SERVERS = {service.name: service.url for service in SERVICES.values() if service.links}
SPEC = functools.reduce(
    ArgumentSpec.merge,
    (server_options(name, url) for name, url in SERVERS.items()),
    ArgumentSpec(
        {
            "services": {"type": "list", "elements": "str", "choices": list(SERVICES), "default": list(SERVICES)},
            "units": {"type": "dict", "default": {}},
            "expect": {"type": "str", "choices": ["running", "stopped"], "default": "running"},
            "wait": {"type": "str", "default": "0"},
        }
    ),
)
UNIT = re.compile(r"[\w@.:\\-]+", re.ASCII)


def main() -> None:
    module = SPEC.module()
    given = module.params
    for name, unit in given["units"].items():
        if name not in SERVICES:
            fail(module, f"units: {name!r} is no service; there are {', '.join(SERVICES)}")
        if not isinstance(unit, str) or not UNIT.fullmatch(unit):
            fail(module, f"units: {unit!r} is no name of a unit for {name}; {SERVICES[name].unit} would do")
    try:
        wait = duration(given["wait"])
    except ValueError as error:
        fail(module, f"wait: {error}")
    names = list(dict.fromkeys(given["services"]))
    servers = {name: server(module, name) for name in names if name in SERVERS and given[f"{name}_url"]}
    question = Question(names, servers, given["units"], given["expect"] == "stopped", module.check_mode)
    health = check(question, wait)
    module.exit_json(
        changed=False,
        findings=[finding.as_dict() for finding in health.findings],
        services=health.services,
        rounds=health.rounds,
        seconds=health.seconds,
    )


if __name__ == "__main__":
    main()
