#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_info
short_description: Say whether the clocks agree, and why services lack memory or CPU
version_added: 0.1.0
description:
  - Compares the host's clock with the controller's and with Prometheus', asks whether a time service keeps it, and
    whether Prometheus' newest samples lie where its clock says.
  - Two clocks cannot be read at once. What is reported as a difference is what the way between them does not explain.
  - With O(looks) it looks at the memory of services or at what makes their event loops late, names the cause, and says
    what each of the runbook's remedies would gain. What is measured comes from the host itself, C(/proc), the control
    groups of version 2, systemd and the kernel's log; what was before comes from Prometheus and its query log.
  - Memory counts that a service holds and only it can give back. Pages of files are told apart.
  - A figure that the kernel does not tell is none, and the findings say so; it is never taken for healthy.
  - Nothing is changed. To measure what a scrape costs, the page of the exporter is asked for three times.
  - Does what the runbook asks for under "Memory Issues" and "Event Loop Lag".
  - A Prometheus that cannot be asked is a finding with the severity C(unknown).
options:
  looks:
    description: What is looked at.
    type: list
    elements: str
    choices: [clock, memory, event_loop_lag]
    default: [clock]
  services:
    description:
      - Units, with or without C(.service), patterns of units that run or failed, or containers of docker.
      - Looked at for V(memory) and V(event_loop_lag) of O(looks).
    type: list
    elements: str
    default: [prometheus, "njord-*"]
  sample:
    description: Over which time CPU and swapping are measured.
    type: str
    default: 2s
  window:
    description:
      - The past over which growth of memory is told, in which a kill counts, and which is called usual for messages.
      - Growth is told of a service that has run for a twelfth of it.
    type: str
    default: 6h
  memory_warning:
    description: A service of Njord (C(njord-*)) that holds more than this is a warning.
    type: str
    default: 512MB
  memory_critical:
    description: A service of Njord that holds more than this is critical.
    type: str
    default: 1GB
  lag_warning:
    description: An event loop that lags by more than this for O(lag_hold), where a service publishes it, is a warning.
    type: str
    default: 100ms
  lag_hold:
    description: For how long it has to lag.
    type: str
    default: 30s
  catalogue:
    description:
      - The metrics of Njord, each with C(name), C(type) and C(source), which is V(emitted) where this version publishes
        it, as O(njord.telemetry.scrape_info#module:catalogue) has them.
    type: list
    elements: dict
    default: []
  exporter_url:
    description:
      - Address of the exporter as the host sees it, with its path prefix if it has one.
      - What a scrape costs it is measured only where this is given.
    type: str
    default: null
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
  - njord.telemetry.exporter
seealso:
  - module: njord.telemetry.cardinality_info
  - module: njord.telemetry.query_log_info
author:
  - Njord Trust (@njord-trust)
"""

EXAMPLES = r"""
- name: Compare the clocks of controller, host and Prometheus
  njord.telemetry.runtime_info:
    controller_time: "{{ now(utc=true).timestamp() }}"
    prometheus_url: http://127.0.0.1:9090
  register: runtime

- name: Say what takes the memory
  njord.telemetry.runtime_info:
    looks: [memory]
    services: [prometheus, "njord-*"]
  register: memory

- name: Say why an event loop lags
  njord.telemetry.runtime_info:
    looks: [event_loop_lag]
    sample: 5s
    exporter_url: http://127.0.0.1:9091
  register: lag
"""

RETURN = r"""
findings:
  description:
    - C(clock.controller) where O(controller_time) is given, C(clock.prometheus), C(clock.samples) and
      C(clock.synchronised).
    - C(runtime.memory) and C(runtime.event_loop_lag), one for each service, one for C(host) and one for Njord's own
      metric of that name; C(runtime.remedies) with what each remedy would gain.
    - The evidence of a service in trouble has C(cause) (V(unknown) where none is to be seen) and C(causes), all that
      were asked, each with C(holds), none where it cannot be told, and C(said).
  returned: always
  type: list
  elements: dict
services:
  description:
    - What each service uses, in bytes, seconds and cores; 1 core is one whole CPU.
    - What the kernel does not tell is none.
  returned: when O(looks) has V(memory) or V(event_loop_lag)
  type: list
  elements: dict
  contains:
    name:
      description: As it was named, or as it matched.
      type: str
    kind:
      description: V(unit), V(container), or empty where there is neither.
      type: str
    state:
      description: What systemd or docker says of it.
      type: str
    runs:
      description: Whether it runs.
      type: bool
    result:
      description: How its last run ended, V(oom-kill) among others; V(success) since it was started anew.
      type: str
    restarts:
      description: How often it was restarted by itself.
      type: int
    started:
      description: When its main process was started last, in unix seconds; 0 for never.
      type: float
    main_pid:
      description: Its main process.
      type: int
    cgroup:
      description: Path of its control group.
      type: str
    processes:
      description: How many it has.
      type: int
    threads:
      description: Of all its processes.
      type: int
    resident:
      description: Bytes in memory, of files that it has mapped as well.
      type: int
    held:
      description: Bytes that only it can give back.
      type: int
    cache:
      description: Bytes of files in memory that the kernel takes back when it needs them.
      type: int
    swap:
      description: Bytes of it in swap.
      type: int
    current:
      description: What the kernel counts for its control group, the cache as well.
      type: int
    limit:
      description: The limit that it is nearest to, with C(cgroup), C(kind), C(bytes) and C(held).
      type: dict
    limits:
      description: Its own, and those of the control groups above it.
      type: list
      elements: dict
    configured_limit:
      description: What its unit is told, whether the kernel enforces it or not; 0 for none.
      type: int
    oom_kills:
      description: Since its control group was made, which is its last start.
      type: int
    oom_kills_above:
      description: Of the control group above it, of those that are gone as well.
      type: int
    high_breaches:
      description: How often it went over C(memory.high).
      type: int
    cores:
      description: CPU that it used during O(sample).
      type: float
    thread:
      description:
        - Its busiest thread, with C(pid), C(name), C(cores), and C(waited), the share of the time in which it could
          have run and had no CPU.
      type: dict
    quota:
      description: Cores that it may use, the least of its own and those above it.
      type: float
    throttled:
      description: Share of the periods in which its quota was used up.
      type: float
    cpu_pressure:
      description: Percent of the last 10, 60 and 300 seconds in which some task of it waited for a CPU.
      type: dict
    memory_pressure:
      description: The same for memory.
      type: dict
    open_files:
      description: Of its main process.
      type: int
    open_files_limit:
      description: How many it may have.
      type: int
    ports:
      description: On which it listens.
      type: list
      elements: int
host:
  description:
    - What there is for all, among it C(cores), C(busy), C(stolen), C(load), C(memory), C(available), C(swap_used),
      C(oom_kills) since it booted, and C(kills), whom the kernel's log names; none where it cannot be read.
  returned: when O(looks) has V(memory) or V(event_loop_lag)
  type: dict
neighbours:
  description: Units and other groups beside the services, each with C(label), C(held), C(cores) and C(processes).
  returned: when O(looks) has V(memory) or V(event_loop_lag)
  type: list
  elements: dict
not_known:
  description: What could not be read here, and why.
  returned: when O(looks) has V(memory) or V(event_loop_lag)
  type: list
  elements: str
host_time:
  description: What the host's clock showed when the module started, in unix seconds.
  returned: when O(looks) has V(clock)
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
  returned: when O(looks) has V(clock)
  type: list
  elements: dict
"""

import dataclasses
import time
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils import _resources
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import (
    PROMETHEUS,
    ArgumentSpec,
    fail,
    server,
    server_options,
)
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
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.runtime import event_loop_lag, memory
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.publisher import read_catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import AUDIT, Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration, size

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

T = t.TypeVar("T")

CLOCK = "clock"
MEMORY = "memory"
LAG = "event_loop_lag"
SPEC = (
    ArgumentSpec(
        {
            "looks": {"type": "list", "elements": "str", "choices": [CLOCK, MEMORY, LAG], "default": [CLOCK]},
            "services": {"type": "list", "elements": "str", "default": ["prometheus", "njord-*"]},
            "sample": {"type": "str", "default": "2s"},
            "window": {"type": "str", "default": "6h"},
            "memory_warning": {"type": "str", "default": "512MB"},
            "memory_critical": {"type": "str", "default": "1GB"},
            "lag_warning": {"type": "str", "default": "100ms"},
            "lag_hold": {"type": "str", "default": "30s"},
            "catalogue": {"type": "list", "elements": "dict", "default": []},
            "controller_time": {"type": "str"},
            "controller_delay": {"type": "str", "default": "5s"},
            "clock_warning": {"type": "str", "default": "1s"},
            "clock_critical": {"type": "str", "default": "30s"},
            "sample_age_warning": {"type": "str", "default": "2m"},
        }
    )
    .merge(server_options("exporter", None))
    .merge(PROMETHEUS)
)
# A sample of less tells nothing of a scheduler that shares in tenths of a second.
SHORTEST_SAMPLE = 0.5
LONGEST_SAMPLE = 60.0


def main() -> None:
    started = time.time()
    module = SPEC.module()
    looks = module.params["looks"]
    prometheus = Prometheus(server(module, "prometheus"), AUDIT)
    findings: list[Finding] = []
    result: dict[str, t.Any] = {}
    if {MEMORY, LAG} & set(looks):
        look_at_services(module, prometheus, looks, findings, result)
    if CLOCK in looks:
        look_at_clocks(module, prometheus, started, findings, result)
    module.exit_json(changed=False, findings=[finding.as_dict() for finding in findings], **result)


def look_at_services(
    module: AnsibleModule,
    prometheus: Prometheus,
    looks: t.Sequence[str],
    findings: list[Finding],
    result: dict[str, t.Any],
) -> None:
    """Adds to both what was seen."""
    sample, window = read(module, "sample", duration), read(module, "window", duration)
    if not SHORTEST_SAMPLE <= sample <= LONGEST_SAMPLE:
        fail(module, f"sample: {sample:g} s does not lie between {SHORTEST_SAMPLE:g} s and {LONGEST_SAMPLE:g} s")
    if not window:
        fail(module, "window: 0 is no time; 6h or 1d would do")
    catalogue = read(module, "catalogue", read_catalogue)
    of_memory = memory.Question(
        window, read(module, "memory_warning", size), read(module, "memory_critical", size), catalogue
    )
    if of_memory.critical < of_memory.warning:
        fail(module, "memory_critical: it is less than memory_warning")
    of_lag = event_loop_lag.Question(
        window, read(module, "lag_warning", duration), read(module, "lag_hold", duration), catalogue
    )
    exporter = server(module, "exporter") if module.params["exporter_url"] else None
    usage = _resources.measure(module.params["services"], sample)
    if MEMORY in looks:
        findings += memory.Look(prometheus, usage, of_memory).findings()
    if LAG in looks:
        findings += event_loop_lag.Look(prometheus, usage, of_lag, exporter).findings()
    result.update(
        services=[dataclasses.asdict(service) for service in usage.services],
        host=dataclasses.asdict(usage.host),
        neighbours=[dataclasses.asdict(neighbour) for neighbour in usage.neighbours],
        not_known=list(usage.not_known),
    )


def look_at_clocks(
    module: AnsibleModule, prometheus: Prometheus, started: float, findings: list[Finding], result: dict[str, t.Any]
) -> None:
    """Adds to both what was seen."""
    limits = Limits(
        warning=read(module, "clock_warning", duration),
        critical=read(module, "clock_critical", duration),
        sample_age=read(module, "sample_age_warning", duration),
    )
    if limits.critical < limits.warning:
        fail(module, f"clock_critical: {limits.critical:g} s is less than clock_warning, {limits.warning:g} s")
    offset = controller_offset(module, started)
    services = ask_time_service(lambda command: run(module, command))
    if offset:
        findings.append(offset_finding("clock.controller", "controller", "the controller's", offset, limits))
        result["controller_offset"] = dataclasses.asdict(offset)
    findings += prometheus_findings(prometheus, limits)
    findings.append(time_service_finding(services, is_container(Path("/")), limits))
    result.update(host_time=started, time_services=[dataclasses.asdict(service) for service in services])


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


def read(module: AnsibleModule, option: str, reader: t.Callable[[t.Any], T]) -> T:
    try:
        return reader(module.params[option])
    except ValueError as error:
        fail(module, f"{option}: {error}")


if __name__ == "__main__":
    main()
