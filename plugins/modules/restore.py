#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Bring a backup back, proven before it is put into its place
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Nothing is overwritten. The backup is written beside, every file checked by its hash, and proven by a scratch
    Prometheus; then the server is stopped, the directories change places, and the server must be ready and give the
    counts of the backup. Where it does not, everything goes back by itself. The old directory is kept.
  - Healthy live blocks that the backup does not cover come along.
  - Without O(confirm) nothing is done, and the plan is the result; what samples would be lost, how long it takes,
    and how long no alert is evaluated.
  - A restore under a shorter retention than that of the backup is refused, with the numbers.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.actions
  - njord.telemetry.backup
  - njord.telemetry.prometheus
options:
  name:
    description: The backup, or V(latest), the newest that is not damaged.
    type: str
    default: latest
  archive:
    description: A backup that was carried here as one file, absolute; it is taken into the catalogue first.
    type: path
  origin:
    description:
      - Where the backup is looked for. One that lies in O(restic_repository) is taken into the catalogue first; this
        host may never have had one.
    type: str
    choices: [catalogue, restic]
    default: catalogue
  restic_host:
    description: The host that made the backup in O(restic_repository); this one where it is empty.
    type: str
  source:
    description:
      - What is brought back.
      - V(journals) come back as whole trees, each into its own directory, while no clean-up is at work. Records of
        trading, logs, and journals of metrics that the backup cannot hold come along; what else is there now stays in
        the old directory, and the plan names what would be gone. A process that has a journal open for writing is named
        and nothing is done, for it would go on writing into the old directory.
      - V(configuration) only to O(target_dir). Roles write it, and what they wrote since would be undone; a person
        compares.
    type: str
    choices: [prometheus, journals, configuration]
    default: prometheus
  mode:
    description:
      - V(swap) puts a new directory into the place of the old one.
      - V(repair) moves damaged live blocks aside, and brings only what is missing; it needs little room. It is for
        V(prometheus) only.
      - V(drill) brings the backup back into a directory of the catalogue, proves it, and looks at the clock. The live
        server is not touched, so it needs no O(confirm).
    type: str
    choices: [swap, repair, drill]
    default: swap
  textfile_directory:
    description: Where node_exporter finds text files of metrics on the host. Prometheus is told there of a drill.
    type: path
  target_dir:
    description:
      - Another directory, absolute, that is not there or empty; the live server is not touched. Each part of the source
        is put into a directory of its own name where there are several.
    type: path
  confirm:
    description: Whether it may be done.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: See what the last backup would bring back
  njord.telemetry.restore:
  register: plan

- name: Bring it back
  njord.telemetry.restore:
    confirm: true

- name: Bring back here what another host has sent off
  njord.telemetry.restore:
    origin: restic
    restic_host: njord1
    restic_repository: s3:https://objects.example.com/njord
    restic_password_file: /etc/njord-backup/restic-password
    restic_environment_file: /etc/njord-backup/restic-environment
    confirm: true

- name: Bring the journals back to where they were
  njord.telemetry.restore:
    source: journals
    confirm: true

- name: Look at the journals of a backup
  njord.telemetry.restore:
    name: 20260131T020000Z
    source: journals
    target_dir: /srv/look
    confirm: true
"""

RETURN = r"""
name:
  description: The backup.
  returned: success
  type: str
kept:
  description: Where what was replaced, or moved aside, lies now; empty where there was nothing.
  returned: success
  type: str
plan:
  description: What is done, or would be, a row for each step, with C(action), C(subject), C(reason) and C(bytes).
  returned: success
  type: list
  elements: dict
findings:
  description:
    - C(restore.fetched), C(restore.plan), C(restore.lost), C(restore.warning), C(restore.refused),
      C(restore.recovered), C(restore.done), and of a drill C(backup.drill) and C(backup.damaged).
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.njord.telemetry.plugins.module_utils._argspec import (
    BACKUPS,
    RESTIC_PATHS,
    ArgumentSpec,
    fail,
    require_absolute,
    server,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup import command, rescue, settings, steps
from ansible_collections.njord.telemetry.plugins.module_utils._backup.record import NotRestored
from ansible_collections.njord.telemetry.plugins.module_utils._backup.service import NotDone
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

SPEC = ArgumentSpec(
    {
        "name": {"type": "str", "default": "latest"},
        "archive": {"type": "path"},
        "origin": {"type": "str", "choices": list(rescue.ORIGINS), "default": rescue.CATALOGUE},
        "restic_host": {"type": "str"},
        "source": {"type": "str", "choices": list(settings.SOURCES), "default": "prometheus"},
        "mode": {"type": "str", "choices": ["swap", "repair", "drill"], "default": "swap"},
        "textfile_directory": {"type": "path"},
        "target_dir": {"type": "path"},
        "confirm": {"type": "bool", "default": False},
    }
).merge(BACKUPS)


def main() -> None:
    module = SPEC.module()
    options = module.params
    for option in (
        "catalogue",
        "archive",
        "target_dir",
        "prometheus_data_directory",
        "textfile_directory",
        *RESTIC_PATHS,
    ):
        require_absolute(module, option)
    if options["source"] == "configuration" and not options["target_dir"] and options["mode"] != "drill":
        fail(module, "target_dir is not given; source configuration is put nowhere else")
    is_wanted = options["confirm"] or options["mode"] == "drill"
    try:
        done = rescue.run(options, Prometheus(server(module, "prometheus")), module.check_mode)
    except settings.Unusable as error:
        fail(module, str(error))
    except (*command.EXPECTED, NotRestored, NotDone) as error:
        text = f"Nothing is restored: {error}".rstrip(".") + "."
        finding = Finding("restore.done", options["catalogue"], "critical", text)
        module.fail_json(msg=text, name="", kept="", plan=[], findings=[finding.as_dict()])
    module.exit_json(
        changed=done.is_done or (module.check_mode and is_wanted and not done.is_refused),
        name=done.name,
        kept=done.kept,
        plan=steps.rows(done.steps),
        diff={"prepared": steps.table(done.steps)},
        findings=[finding.as_dict() for finding in done.findings],
    )


if __name__ == "__main__":
    main()
