#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Back up Prometheus, journals and configuration, and prove that it comes back
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Makes an entry of the catalogue, a manifest with the hash of every file. What the store has already is not copied.
  - Of Prometheus a snapshot is taken, never its live directory, and removed again, only that one, also after a crash.
    It needs the admin API (C(--web.enable-admin-api)).
  - Journals are taken while no clean-up changes them. Secrets in configuration are left out, and named,
    or encrypted for O(secrets_recipients).
  - A backup is I(written), then I(verified) (every file by its hash, every block by C(promtool tsdb analyze
    --extended)), then I(proven) (a scratch Prometheus gives the counts of each metric that the live one gave).
  - With O(restic_repository) it is then sent off the host, encrypted; what lies there already is not sent again. Where
    that fails, the backup is as good as before, and the finding is critical.
  - Afterwards backups that no rule keeps are removed; never the last proven one, and never a damaged one. So are those
    of this host off the host, never those of another.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.actions
  - njord.telemetry.backup
  - njord.telemetry.prometheus
options:
  state:
    description: V(present) makes a backup; V(absent) removes the one that O(name) names.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The backup that is removed, such as V(20260131T020000Z).
    type: str
  sources:
    description: What is backed up.
    type: list
    elements: str
    choices: [prometheus, journals, configuration]
    default: [prometheus, journals, configuration]
  journal_dir:
    description:
      - The directories of the journals, absolute. Where it is not given, those that C(base.yaml) below O(config_root)
        names, which takes PyYAML on the host.
    type: list
    elements: path
  config_root:
    description: The directory that holds C(base.yaml), or its parent.
    type: path
    default: /opt/njord_quant
  configuration_paths:
    description: Files and directories of configuration, absolute.
    type: list
    elements: path
    default: [/etc/prometheus, /etc/systemd/system, /etc/cron.d]
  secrets_recipients:
    description:
      - Public keys, V(age1...), V(ssh-ed25519 ...) or V(ssh-rsa ...), of those who may read secrets. What may hold one
        then goes into the backup as C(NAME.age), encrypted to all of them by C(age) (Debian package age). Without any
        key it is left out.
      - A private key belongs on another host. C(age -d -i IDENTITY FILE) opens a file there.
    type: list
    elements: str
    default: []
  level:
    description: How far the backup is brought. A backup that is not proven is a hope.
    type: str
    choices: [written, verified, proven]
    default: verified
  carry_to:
    description:
      - A directory, absolute, in which the backup is packed into one file, C(HOST-NAME.tar), to be carried away; none
        where it is empty.
      - The file goes when the backup goes that it holds.
    type: path
  keep_last:
    description: So many of the newest backups are kept.
    type: int
    default: 7
  keep_daily:
    description: The newest backup of each of so many days (UTC).
    type: int
    default: 14
  keep_weekly:
    description: The newest backup of each of so many weeks.
    type: int
    default: 8
  keep_monthly:
    description: The newest backup of each of so many months.
    type: int
    default: 12
  jobs:
    description: Threads that copy, from 1 to 64.
    type: int
    default: 2
  textfile_directory:
    description:
      - Where node_exporter finds text files of metrics on the host. Prometheus is told there of this backup.
      - Nothing is written where there is no such directory.
    type: path
seealso:
  - module: njord.telemetry.backup_info
  - module: njord.telemetry.restore
"""

EXAMPLES = r"""
- name: Back up and prove
  njord.telemetry.backup:
    catalogue: /mnt/backup/njord
    level: proven

- name: Back up, and send it off the host
  njord.telemetry.backup:
    restic_repository: s3:https://objects.example.com/njord
    restic_password_file: /etc/njord-backup/restic-password
    restic_environment_file: /etc/njord-backup/restic-environment

- name: Remove a damaged one
  njord.telemetry.backup:
    name: 20260131T020000Z
    state: absent
"""

RETURN = r"""
name:
  description: The new backup; empty in check mode, and where one was removed.
  returned: success
  type: str
level:
  description: C(written), C(verified), C(proven) or C(damaged); empty where there is no new one.
  returned: success
  type: str
plan:
  description: What is done, a row for each step, with C(action), C(subject), C(reason) and C(bytes).
  returned: success
  type: list
  elements: dict
findings:
  description:
    - C(backup.written), C(backup.remark), C(backup.state), C(backup.carried), C(backup.sent), C(backup.removed),
      C(backup.forgotten), C(backup.checked), C(backup.told) and C(backup.run).
  returned: success
  type: list
  elements: dict
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import (
    BACKUPS,
    RESTIC_PATHS,
    ArgumentSpec,
    fail,
    require_absolute,
    server,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup import about, command, job, settings, steps
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import PROVEN, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import lease
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "name": {"type": "str"},
        "sources": {
            "type": "list",
            "elements": "str",
            "choices": list(settings.SOURCES),
            "default": settings.DEFAULTS["sources"],
        },
        "journal_dir": {"type": "list", "elements": "path"},
        "config_root": {"type": "path", "default": settings.DEFAULTS["config_root"]},
        "configuration_paths": {
            "type": "list",
            "elements": "path",
            "default": settings.DEFAULTS["configuration_paths"],
        },
        # Public keys.
        "secrets_recipients": {
            "type": "list",
            "elements": "str",
            "no_log": False,
            "default": settings.DEFAULTS["secrets_recipients"],
        },
        "level": {"type": "str", "choices": list(settings.LEVELS), "default": settings.DEFAULTS["level"]},
        "carry_to": {"type": "path"},
        "keep_last": {"type": "int", "default": settings.DEFAULTS["keep_last"]},
        "keep_daily": {"type": "int", "default": settings.DEFAULTS["keep_daily"]},
        "keep_weekly": {"type": "int", "default": settings.DEFAULTS["keep_weekly"]},
        "keep_monthly": {"type": "int", "default": settings.DEFAULTS["keep_monthly"]},
        "jobs": {"type": "int", "default": settings.DEFAULTS["jobs"]},
        "textfile_directory": {"type": "path"},
    },
    required_if=(("state", "absent", ("name",)),),
).merge(BACKUPS)


ABSOLUTE = (
    "catalogue",
    "prometheus_data_directory",
    "journal_dir",
    "config_root",
    "configuration_paths",
    "carry_to",
    "textfile_directory",
    *RESTIC_PATHS,
)


def main() -> None:
    module = SPEC.module()
    for option in ABSOLUTE:
        require_absolute(module, option)
    try:
        if module.params["state"] == "absent":
            remove(module)
        else:
            make(module)
    except settings.Unusable as error:
        fail(module, str(error))
    except command.EXPECTED as error:
        finding = Finding("backup.run", module.params["catalogue"], "critical", f"There is no new backup: {error}.")
        module.fail_json(msg=finding.summary, findings=[finding.as_dict()], plan=[], name="", level="")


def make(module: AnsibleModule) -> None:
    work, now = settings.job(module.params, Prometheus(server(module, "prometheus"))), time.time()
    if module.check_mode:
        planned = job.plan(work, now)
        module.exit_json(
            changed=True,
            name="",
            level="",
            plan=steps.rows(planned),
            diff={"prepared": steps.table(planned)},
            findings=[],
        )
    catalogue = work.prover.catalogue
    catalogue.make()
    with lease(), catalogue.locked():
        done = job.run(work, now)
        findings = [*done.findings, *tell(module, catalogue, now)]
    module.exit_json(
        changed=True,
        name=done.name,
        level=done.level,
        plan=steps.rows(done.steps),
        diff={"prepared": steps.table(done.steps)},
        findings=[finding.as_dict() for finding in findings],
    )


def tell(module: AnsibleModule, catalogue: Catalogue, begun: float) -> list[Finding]:
    """Prometheus, as the scheduled backup does, so that an alert on a missed one ends."""
    directory, ended = module.params["textfile_directory"], time.time()
    if not directory or not Path(directory).is_dir():
        return []
    path = Path(directory, about.TEXTFILE)
    run = {"last_run_timestamp_seconds": ended, "success": 1.0, "duration_seconds": ended - begun}
    try:
        about.tell(path, catalogue, run)
    except OSError as error:
        text = f"Prometheus is not told of this backup: {path} cannot be written: {error.strerror}."
        return [Finding("backup.told", str(path), "warning", text, remedy="See its owner and the room on its disk.")]
    return []


def remove(module: AnsibleModule) -> None:
    catalogue, name = Catalogue(module.params["catalogue"]), module.params["name"]
    with catalogue.locked(shared=module.check_mode):
        if name not in catalogue.names():
            module.exit_json(changed=False, name="", level="", plan=[], findings=[])
        entries = catalogue.entries()
        if [entry.name for entry in entries if entry.level == PROVEN] == [name]:
            fail(module, f"name: {name} is the last proven backup; prove another one first (restore-drill.yml)")
        step = steps.Step(job.REMOVE, name, "it is not wanted any more")
        freed = 0 if module.check_mode else catalogue.remove([name])
    finding = Finding("backup.removed", name, "info", f"Backup {name} is removed, {freed} bytes.")
    module.exit_json(
        changed=True,
        name="",
        level="",
        plan=steps.rows([step]),
        diff={"prepared": steps.table([step])},
        findings=[] if module.check_mode else [finding.as_dict()],
    )


if __name__ == "__main__":
    main()
