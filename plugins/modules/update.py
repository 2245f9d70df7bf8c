#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: update
short_description: Bring a service to its pinned version, or back where that is not well
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - What is sick is not updated, and Prometheus not without a proven backup. The package of the installed version is
    fetched first, so that there is a way back.
  - Then the service is stopped, its program changed, and started. It must be ready, of the new version, with its
    targets up, its rules well and its past there, as before. Where it is not, the old version comes back by itself.
  - Where the old Prometheus is not known to read what the new one writes, the data are kept as they were, and come back
    with it. What was written in between is kept beside them, and named.
  - An update that was interrupted is ended by the next run, forward or back.
  - Without a pinned version it says what is installed and what could be had, and changes nothing.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.actions
  - njord.telemetry.prometheus
  - njord.telemetry.node_exporter
options:
  service:
    description: What is updated.
    type: str
    choices: [prometheus, node_exporter]
    required: true
  unit:
    description: The unit that runs it. Without it the usual one, C(prometheus) or C(prometheus-node-exporter).
    type: str
  version:
    description:
      - The exact version of the Debian package, such as V(2.53.3+ds1-2); none is pinned where it is empty.
      - With O(archive_directory) the version in the name of the archive.
    type: str
    default: ""
  archive_directory:
    description: The directory, absolute, of the new version out of an archive; without it the service is a package.
    type: path
  archive_link:
    description: The link, absolute and beside O(archive_directory), to the directory of the version that runs.
    type: path
  data_directory:
    description: Where Prometheus keeps its data. Where it is empty the server says so itself, or else its unit.
    type: path
  catalogue:
    description: The directory of the backups, absolute.
    type: path
    default: /var/backups/njord
  backup_age:
    description: How old the newest proven backup of Prometheus may be.
    type: str
    default: 24h
  wait:
    description: How long the service may take from being ready until it is as well as before.
    type: str
    default: 3m
  one_way:
    description: Whether it is done as well where the installed version cannot be fetched again.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: What is installed, and what could be had
  njord.telemetry.update:
    service: prometheus

- name: Bring the pinned version
  njord.telemetry.update:
    service: prometheus
    version: 2.53.3+ds1-2
"""

RETURN = r"""
installed:
  description: The version that is there now; empty for none.
  returned: success
  type: str
plan:
  description: What is done, a row for each step, with C(action), C(subject), C(reason) and C(bytes).
  returned: success
  type: list
  elements: dict
findings:
  description:
    - C(update.version), C(update.plan), C(update.refused), C(update.done), C(update.failed) and C(update.recovered).
  returned: success
  type: list
  elements: dict
"""

import contextlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import (
    PROMETHEUS,
    ArgumentSpec,
    fail,
    require_absolute,
    server,
    server_options,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup import steps
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.service import Systemd
from ansible_collections.njord.telemetry.plugins.module_utils._health import SERVICES
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import Busy, lease
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration
from ansible_collections.njord.telemetry.plugins.module_utils._update import job
from ansible_collections.njord.telemetry.plugins.module_utils._update.gate import PROMETHEUS as PROMETHEUS_NAME
from ansible_collections.njord.telemetry.plugins.module_utils._update.gate import Gate
from ansible_collections.njord.telemetry.plugins.module_utils._update.programs import Archive, Package, Programs

VAULTS = Path("/var/lib/njord-telemetry/update")
# Of each service: its package, what comes to the same version, and its program.
PACKAGES = {
    "prometheus": ("prometheus", ("promtool",), "prometheus"),
    "node_exporter": ("prometheus-node-exporter", (), "prometheus-node-exporter"),
}
SPEC = (
    ArgumentSpec(
        {
            "service": {"type": "str", "choices": list(PACKAGES), "required": True},
            "unit": {"type": "str"},
            "version": {"type": "str", "default": ""},
            "archive_directory": {"type": "path"},
            "archive_link": {"type": "path"},
            "data_directory": {"type": "path"},
            "catalogue": {"type": "path", "default": "/var/backups/njord"},
            "backup_age": {"type": "str", "default": "24h"},
            "wait": {"type": "str", "default": "3m"},
            "one_way": {"type": "bool", "default": False},
        },
        required_together=(("archive_directory", "archive_link"),),
    )
    .merge(PROMETHEUS)
    .merge(server_options("node_exporter", "http://127.0.0.1:9100"))
)


def main() -> None:
    module = SPEC.module()
    for option in ("archive_directory", "archive_link", "data_directory", "catalogue"):
        require_absolute(module, option)
    work = read(module)
    try:
        with contextlib.nullcontext() if module.check_mode else lease():
            told = job.run(work, module.check_mode)
    except Busy as error:
        fail(module, f"Nothing was done: {error}. Wait for its end.")
    module.exit_json(
        changed=told.is_changed,
        installed=told.installed,
        plan=steps.rows(told.steps),
        diff={"prepared": steps.table(told.steps)},
        findings=[finding.as_dict() for finding in told.findings],
    )


def read(module: AnsibleModule) -> job.Job:
    """What the options ask for."""
    options = module.params
    service = SERVICES[options["service"]]
    unit = options["unit"] or service.unit
    wait, backup_age = (seconds(module, option) for option in ("wait", "backup_age"))
    package, companions, program = PACKAGES[service.name]
    programs: Programs = Package(package, companions, options["version"], f"{service.name}_version")
    if options["archive_directory"]:
        if service.name != PROMETHEUS_NAME:
            fail(module, f"archive_directory is given, and {service.name} comes as a package only")
        programs = Archive(Path(options["archive_link"]), Path(options["archive_directory"]), options["version"])
    asked = server(module, service.name)
    data = None
    if service.name == PROMETHEUS_NAME:
        catalogue = Catalogue(options["catalogue"])
        data = job.Data(Prometheus(asked), f"{unit}.service", options["data_directory"] or "", catalogue, backup_age)
    return job.Job(
        title=service.title,
        program=program,
        programs=programs,
        gate=Gate(service.name, unit, asked),
        service=Systemd(f"{unit}.service"),
        vault=VAULTS / service.name,
        data=data,
        wait=wait,
        is_one_way=options["one_way"],
    )


def seconds(module: AnsibleModule, option: str) -> float:
    try:
        return duration(module.params[option])
    except ValueError as error:
        fail(module, f"{option}: {error}")


if __name__ == "__main__":
    main()
