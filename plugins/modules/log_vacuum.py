#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: log_vacuum
short_description: Rotate the journals of journald, and remove what is old and may go
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - C(journalctl --vacuum-time) judges a file by its first entry, and takes with it what was written a minute ago, of
    all units, those of the traders too. Here a file goes when its last entry is older than O(age), and only where each
    unit that has an entry in such a file is named in O(units); otherwise nothing goes, and the others are named.
  - The journals are rotated as well, so that one that grows slowly is not kept for years. What is archived by that is
    looked at the next time.
  - Without O(units) and O(age) it says how much there is, and does nothing.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.actions
attributes:
  idempotent:
    support: none
    details: Each run rotates.
options:
  units:
    description:
      - The units whose entries may be lost, names or patterns such as V(njord-*), with or without C(.service).
      - V(kernel) is what the kernel wrote, V(no unit) what no unit did; what systemd says of units is V(init.scope).
    type: list
    elements: str
    default: []
  age:
    description: How old each entry of a file must be, such as V(30d); a day at the least.
    type: str
"""

EXAMPLES = r"""
- name: How much is there
  njord.telemetry.log_vacuum:

- name: Remove what is older than a month, of the telemetry and of the system
  njord.telemetry.log_vacuum:
    units: [njord-*, prometheus, prometheus-node-exporter, init.scope, systemd-*, cron, kernel]
    age: 30d
"""

RETURN = r"""
bytes_before:
  description: What the files of the journals took on the disk.
  returned: success
  type: int
bytes_after:
  description: What they take now, or would in check mode.
  returned: success
  type: int
plan:
  description: What is done, a row for each step, with C(action), C(subject), C(reason) and C(bytes).
  returned: success
  type: list
  elements: dict
findings:
  description: C(logs.journal), C(logs.refused) and C(logs.left).
  returned: success
  type: list
  elements: dict
"""

import time

from ansible_collections.njord.telemetry.plugins.module_utils import _logs
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import ArgumentSpec, fail
from ansible_collections.njord.telemetry.plugins.module_utils._backup import steps
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration

SPEC = ArgumentSpec(
    {
        "units": {"type": "list", "elements": "str", "default": []},
        "age": {"type": "str"},
    }
)


def main() -> None:
    module = SPEC.module()
    units, age = module.params["units"], module.params["age"]
    if bool(units) != bool(age):
        fail(module, "units and age go together: whose logs may be lost, and how old they must be")
    wanted = None
    if age:
        try:
            wanted = _logs.Wanted(tuple(units), duration(age))
        except ValueError as error:
            fail(module, f"age: {error}")
        if wanted.age < _logs.DAY:
            fail(module, f"age: {age} would take logs of today; 30d would do")
    try:
        told = _logs.run(wanted, time.time(), module.check_mode)
    except (_logs.NotKnown, OSError) as error:
        text = f"No log was removed: {error}."
        told = _logs.Told((), (Finding(_logs.CHECK, "journald", "unknown", text),), 0, 0, False)
    module.exit_json(
        changed=told.is_changed,
        bytes_before=told.before,
        bytes_after=told.after,
        plan=steps.rows(told.steps),
        diff={"prepared": steps.table(told.steps)},
        findings=[finding.as_dict() for finding in told.findings],
    )


if __name__ == "__main__":
    main()
