#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_info
short_description: Say whether the clocks agree
version_added: 0.1.0
description:
  - Compares the host's clock with the controller's and with Prometheus', asks whether a time service keeps it, and
    whether Prometheus' newest samples lie where its clock says.
  - Two clocks cannot be read at once. What is reported as a difference is what the way between them does not explain.
  - A Prometheus that cannot be asked is a finding with the severity C(unknown).
options:
  controller_time:
    description:
      - The controller's clock, as RFC 3339 or unix seconds, taken when the task is templated.
      - Its clock is not compared where this is not given.
    type: str
  controller_delay:
    description:
      - The longest time that may pass between the templating of O(controller_time) and the start of the module on the
        host. A host that is ahead by less than this cannot be told from a slow connection.
    type: str
    default: 5s
  clock_warning:
    description: A difference of this much or more is a warning, a duration such as V(1s) or V(500ms).
    type: str
    default: 1s
  clock_critical:
    description: A difference of this much or more is critical, a duration.
    type: str
    default: 30s
  sample_age_warning:
    description: A newest scrape this old or older is a warning, a duration. Give at least twice the scrape interval.
    type: str
    default: 2m
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
author:
  - Njord Trust (@njord-trust)
"""

EXAMPLES = r"""
- name: Compare the clocks of controller, host and Prometheus
  njord.telemetry.runtime_info:
    controller_time: "{{ now(utc=true).timestamp() }}"
    prometheus_url: http://127.0.0.1:9090
  register: runtime
"""

RETURN = r"""
findings:
  description:
    - C(clock.controller) where O(controller_time) is given, C(clock.prometheus), C(clock.samples) and
      C(clock.synchronised).
  returned: always
  type: list
  elements: dict
host_time:
  description: What the host's clock showed when the module started, in unix seconds.
  returned: always
  type: float
controller_offset:
  description:
    - By how many seconds the host's clock is ahead of the controller's, as the ends C(low) and C(high) of a range.
  returned: when O(controller_time) is given
  type: dict
time_services:
  description:
    - The programs that were asked, up to the first that knew, each with C(program), C(synchronised) (none where it does
      not say), C(offset) in seconds (none where it does not tell) and C(answer).
  returned: always
  type: list
  elements: dict
"""

import dataclasses
import time
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._argspec import PROMETHEUS, ArgumentSpec, fail, server
from ansible_collections.njord.telemetry.plugins.module_utils._clock import (
    Limits,
    Offset,
    ask_time_service,
    compare,
    is_container,
    offset_finding,
    prometheus_findings,
    read_time,
    time_service_finding,
)
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

T = t.TypeVar("T")

SPEC = ArgumentSpec(
    {
        "controller_time": {"type": "str"},
        "controller_delay": {"type": "str", "default": "5s"},
        "clock_warning": {"type": "str", "default": "1s"},
        "clock_critical": {"type": "str", "default": "30s"},
        "sample_age_warning": {"type": "str", "default": "2m"},
    }
).merge(PROMETHEUS)


def main() -> None:
    started = time.time()
    module = SPEC.module()
    limits = Limits(
        warning=read(module, "clock_warning", duration),
        critical=read(module, "clock_critical", duration),
        sample_age=read(module, "sample_age_warning", duration),
    )
    if limits.critical < limits.warning:
        fail(module, f"clock_critical: {limits.critical:g} s is less than clock_warning, {limits.warning:g} s")
    prometheus = Prometheus(server(module, "prometheus"))
    offset = controller_offset(module, started)
    services = ask_time_service(lambda command: run(module, command))
    looked = [offset_finding("clock.controller", "controller", "the controller's", offset, limits)] if offset else []
    looked += prometheus_findings(prometheus, limits)
    looked.append(time_service_finding(services, is_container(Path("/")), limits))
    module.exit_json(
        changed=False,
        findings=[finding.as_dict() for finding in looked],
        host_time=started,
        time_services=[dataclasses.asdict(service) for service in services],
        **({"controller_offset": dataclasses.asdict(offset)} if offset else {}),
    )


def controller_offset(module: AnsibleModule, started: float) -> Offset | None:
    delay = read(module, "controller_delay", duration)
    if not module.params["controller_time"]:
        return None
    return compare(read(module, "controller_time", read_time), started - delay, started)


def run(module: AnsibleModule, command: t.Sequence[str]) -> tuple[int, str] | None:
    program = module.get_bin_path(command[0])
    if program is None:
        return None
    code, said, complained = module.run_command([program, *command[1:]], environ_update={"LC_ALL": "C"})
    return code, said + complained


def read(module: AnsibleModule, option: str, reader: t.Callable[[str], T]) -> T:
    try:
        return reader(module.params[option])
    except ValueError as error:
        fail(module, f"{option}: {error}")


if __name__ == "__main__":
    main()
