#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: Which backups there are, how sound they are, and what a restore would bring back and lose
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Lists the catalogue, the oldest backup first, and judges it; how old the last one is, whether one was ever proven,
    whether it lies on the disk of the data, and what the last drill showed.
  - With O(name) it says as well what a restore of that backup would do here.
  - With O(restic_repository) it lists as well what lies there, of this host and of others.
  - It only looks.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.backup
  - njord.telemetry.prometheus
options:
  name:
    description: A backup whose restore is looked at as well, or V(latest).
    type: str
  mode:
    description: What kind of restore that would be, see M(njord.telemetry.restore).
    type: str
    choices: [swap, repair]
    default: swap
  level:
    description: Only backups that are at least this sound are listed; all of them where it is not given.
    type: str
    choices: [written, verified, proven]
  since:
    description: Only backups that are younger than this, such as V(30d), are listed.
    type: str
  interval:
    description: How long two backups may lie apart before the last one is said to be old.
    type: str
    default: 1d
seealso:
  - module: njord.telemetry.backup
  - module: njord.telemetry.restore
"""

EXAMPLES = r"""
- name: What is there
  njord.telemetry.backup_info:
  register: backups

- name: What the last backup would bring back here
  njord.telemetry.backup_info:
    name: latest
"""

RETURN = r"""
backups:
  description:
    - The oldest first, with C(name), C(created), C(level), C(damage), C(host), C(bytes), C(copies), and C(parts) with
      C(source), C(root), C(files), C(bytes), C(level), C(verified), C(proven), C(reason); of Prometheus also
      C(version), C(retention), C(blocks), C(samples), C(first) and C(last).
  returned: success
  type: list
  elements: dict
elsewhere:
  description:
    - What lies in O(restic_repository), the oldest backup first, with C(name), C(host), C(created), C(place), and
      C(is_held), whether the catalogue has that name too.
  returned: success
  type: list
  elements: dict
plan:
  description: The steps of a restore of O(name), as M(njord.telemetry.restore) would take them.
  returned: success
  type: list
  elements: dict
findings:
  description:
    - C(backup.last), C(backup.proven), C(backup.place), C(backup.sent), C(backup.checked), C(backup.elsewhere),
      C(backup.drill), C(backup.damaged), and with O(name) C(restore.plan), C(restore.lost), C(restore.warning) and
      C(restore.refused).
  returned: success
  type: list
  elements: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import (
    BACKUPS,
    RESTIC_PATHS,
    ArgumentSpec,
    fail,
    require_absolute,
    server,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup import about, command, rescue, settings, steps
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import LEVELS, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration

SPEC = ArgumentSpec(
    {
        "name": {"type": "str"},
        "mode": {"type": "str", "choices": ["swap", "repair"], "default": "swap"},
        "level": {"type": "str", "choices": list(settings.LEVELS)},
        "since": {"type": "str"},
        "interval": {"type": "str", "default": "1d"},
    }
).merge(BACKUPS)


def main() -> None:
    module = SPEC.module()
    options, now = module.params, time.time()
    for option in ("catalogue", "prometheus_data_directory", *RESTIC_PATHS):
        require_absolute(module, option)
    since, interval = (seconds(module, option) for option in ("since", "interval"))
    catalogue = Catalogue(options["catalogue"])
    plan: list[steps.Step] = []
    try:
        with catalogue.locked(shared=True):
            found = about.findings(catalogue, now, interval)
            worst = LEVELS.index(options["level"]) if options["level"] else len(LEVELS)
            listed = [
                entry
                for entry in catalogue.entries()
                if LEVELS.index(entry.level) <= worst and now - entry.created <= since
            ]
            if options["name"]:
                entry = rescue.choose(catalogue, options["name"])
                planned, said = rescue.look(options, Prometheus(server(module, "prometheus")), catalogue, entry)
                plan += planned
                found += said
    except settings.Unusable as error:
        fail(module, str(error))
    except command.EXPECTED as error:
        listed = []
        found = [Finding("backup.last", options["catalogue"], "unknown", f"Nothing is known of backups: {error}.")]
    there, said = elsewhere(module, catalogue)
    found += said
    module.exit_json(
        changed=False,
        elsewhere=there,
        backups=[about.describe(catalogue, entry) for entry in listed],
        plan=steps.rows(plan),
        findings=[finding.as_dict() for finding in found],
    )


def elsewhere(module: AnsibleModule, catalogue: Catalogue) -> tuple[list[dict[str, Any]], list[Finding]]:
    """What lies off the host, whether there is a catalogue or not."""
    try:
        where = settings.remote(module.params, catalogue)
        return about.elsewhere(where, catalogue) if where else ([], [])
    except settings.Unusable as error:
        fail(module, str(error))


def seconds(module: AnsibleModule, option: str) -> float:
    """Of a duration; infinite where it is not given."""
    given = module.params[option]
    try:
        return duration(given) if given else float("inf")
    except ValueError as error:
        fail(module, f"{option}: {error}")


if __name__ == "__main__":
    main()
