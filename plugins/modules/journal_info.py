#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: journal_info
short_description: Survey the journals, and say when their disk is full
version_added: 0.1.0
description:
  - Walks over the journal directories once and tells what lies there, by resolution and kind, compressed and not,
    what is largest, how much of the disk is free, and in how many days it is full at the growth that the times inside
    the files show.
  - Reads the first and the last lines of each journal, nothing between. Opens nothing for writing, follows no link
    inside the directories, and leaves access times as they are where the kernel allows that.
  - The growth is what came on each of the last complete UTC days, as it lies on the disk today. The forecast assumes
    that as much comes on every further day, and that nothing is removed.
  - A file counts as a journal of metrics when it is named C(STEM_RESOLUTION[.YYYYMMDD[.N]]) or
    C(aggregated_metrics[.STAMP]), ends in C(.jsonl) or C(.ndjson), plain or C(.gz), and its first lines are metric
    records.
  - A directory that is missing, unreadable, empty or a file is a finding with the severity C(unknown), never clean.
options:
  journal_dirs:
    description:
      - The directories, absolute. One that is a link is surveyed where it leads.
      - Where it is not given, C(logging.journal_dir) and C(paths.journal_dir) of C(base.yaml) below O(config_root),
        which takes PyYAML on the host.
      - With an empty list only disks are looked at.
    type: list
    elements: path
  config_root:
    description: The directory that holds C(base.yaml), or its parent. Read only where O(journal_dirs) is not given.
    type: path
    default: /opt/njord_quant
  install_root:
    description:
      - What relative directories in C(base.yaml) are relative to.
      - The parent of the directory that holds C(base.yaml) where it is not given.
    type: path
  largest:
    description: How many of the largest files are named, 1 or more.
    type: int
    default: 10
  disk_paths:
    description: Further directories whose file systems are judged, such as that of Prometheus' data.
    type: list
    elements: path
    default: []
  disk_free_warning:
    description:
      - Less free than this is a warning, a share such as V(15%) or a size such as V(10GB).
      - Free is what is left for those who are not root. A share holds for inodes as well. Where it is a size, inodes
        are judged by 15 percent, and for O(disk_free_critical) by 5.
    type: str
    default: 15%
  disk_free_critical:
    description: Less free than this is critical, written like O(disk_free_warning).
    type: str
    default: 5%
  days_until_full_warning:
    description: Fewer days than this until the disk is full are a warning.
    type: float
    default: 30
  days_until_full_critical:
    description: Fewer days than this until the disk is full are critical.
    type: float
    default: 7
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
author:
  - Njord Trust (@njord-trust)
"""

EXAMPLES = r"""
- name: Survey the journals that base.yaml names
  njord.telemetry.journal_info:
    config_root: /opt/njord_quant
    disk_paths:
      - /var/lib/prometheus
  register: journals

- name: Survey two directories, and warn two months ahead
  njord.telemetry.journal_info:
    journal_dirs:
      - /var/log/njord
      - /opt/njord_quant/data/journal
    days_until_full_warning: 60
"""

RETURN = r"""
findings:
  description:
    - C(journal.configuration) where the directories could not be learned, C(journal.directory) for each,
      C(journal.link), C(journal.unreadable), C(journal.size), C(journal.largest), and for each file system
      C(disk.free) and C(disk.forecast).
  returned: always
  type: list
  elements: dict
directories:
  description: Each directory with C(path), C(resolved), C(state), C(reason), C(files) and C(disk_bytes).
  returned: always
  type: list
  elements: dict
kinds:
  description:
    - By kind (C(metrics), C(trading), C(log), C(other)) C(files), C(plain_bytes), C(plain_disk_bytes),
      C(compressed_bytes) and C(compressed_disk_bytes). Bytes are a file's length, disk bytes what it takes of the
      disk.
  returned: always
  type: dict
resolutions:
  description: The same for the journals of metrics, by resolution.
  returned: always
  type: dict
largest:
  description:
    - The largest files with C(path), C(kind), C(reason), C(resolution), C(compressed), C(bytes), C(disk_bytes), and
      the times C(first), C(last) and C(modified) as RFC 3339. C(time_source) says where the first two come from,
      C(records), the C(name) or when it was C(modified).
  returned: always
  type: list
  elements: dict
links:
  description: The first hundred links, none of them followed, with C(path), C(target) and C(state).
  returned: always
  type: list
  elements: dict
unreadable:
  description: The first hundred paths that could not be read, with C(path) and C(reason).
  returned: always
  type: list
  elements: dict
disks:
  description:
    - Each file system once, with C(mount_point), C(device), C(total_bytes), C(used_bytes), C(free_bytes),
      C(free_percent), C(inodes), C(inodes_free) and C(holds_journals).
    - Where journals lie on it also C(growth_bytes_per_day), the mean of the last C(growth_days) complete UTC days, none
      where fewer than two were seen, C(growth_sources), the bytes by the source of their time, and C(days_until_full),
      none where it is not known.
  returned: always
  type: list
  elements: dict
"""

import dataclasses
import datetime
import time
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._argspec import ArgumentSpec, fail, require_absolute
from ansible_collections.njord.telemetry.plugins.module_utils._disk import Limits, Room, room
from ansible_collections.njord.telemetry.plugins.module_utils._journal.configuration import INSTALL_ROOT
from ansible_collections.njord.telemetry.plugins.module_utils._journal.format import resolution_name
from ansible_collections.njord.telemetry.plugins.module_utils._journal.survey import JournalFile, survey
from ansible_collections.njord.telemetry.plugins.module_utils._journal_findings import (
    disks,
    findings,
    kinds,
    largest_files,
    named_directories,
    resolutions,
    shown,
)

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

NAMED = 100

SPEC = ArgumentSpec(
    {
        "journal_dirs": {"type": "list", "elements": "path"},
        "config_root": {"type": "path", "default": INSTALL_ROOT},
        "install_root": {"type": "path"},
        "largest": {"type": "int", "default": 10},
        "disk_paths": {"type": "list", "elements": "path", "default": []},
        "disk_free_warning": {"type": "str", "default": "15%"},
        "disk_free_critical": {"type": "str", "default": "5%"},
        "days_until_full_warning": {"type": "float", "default": 30},
        "days_until_full_critical": {"type": "float", "default": 7},
    }
)


def main() -> None:
    module = SPEC.module()
    parameters, limits, now = module.params, read_limits(module), time.time_ns()
    for option in ("journal_dirs", "config_root", "install_root", "disk_paths"):
        require_absolute(module, option)
    given, install_root = parameters["journal_dirs"], parameters["install_root"] or ""
    paths, looked = (
        ([], []) if given == [] else named_directories(given, "journal_dirs", parameters["config_root"], install_root)
    )
    found = survey(paths)
    about_disks, rows = disks(found, parameters["disk_paths"], limits, now)
    looked += findings(found, now, parameters["largest"]) + about_disks
    module.exit_json(
        changed=False,
        findings=[finding.as_dict() for finding in looked],
        directories=[
            {**dataclasses.asdict(one), "path": shown(one.path), "resolved": shown(one.resolved)}
            for one in found.directories
        ],
        kinds=kinds(found.files),
        resolutions=resolutions(found.files),
        largest=[describe(file) for file in largest_files(found.files, parameters["largest"])],
        links=[{**one._asdict(), "path": shown(one.path), "target": shown(one.target)} for one in found.links[:NAMED]],
        unreadable=[{**one._asdict(), "path": shown(one.path)} for one in found.unreadable[:NAMED]],
        disks=rows,
    )


def read_limits(module: AnsibleModule) -> Limits:
    parameters = module.params
    if parameters["largest"] < 1:
        fail(module, f"largest: {parameters['largest']} is too few; 1 or more would do")
    rooms: dict[str, Room] = {}
    for level in ("warning", "critical"):
        option = f"disk_free_{level}"
        try:
            rooms[level] = room(parameters[option])
        except ValueError as error:
            fail(module, f"{option}: {error}")
    days = {level: parameters[f"days_until_full_{level}"] for level in ("warning", "critical")}
    if not 0 <= days["critical"] <= days["warning"]:
        fail(
            module,
            f"days_until_full_critical: {days['critical']:g} does not lie between 0 and days_until_full_warning, "
            f"which is {days['warning']:g}",
        )
    return Limits(rooms["warning"], rooms["critical"], days["warning"], days["critical"])


def describe(file: JournalFile) -> dict[str, t.Any]:
    return {
        "path": shown(file.path),
        "kind": file.kind,
        "reason": file.reason,
        "resolution": resolution_name(file.resolution),
        "compressed": file.compressed,
        "bytes": file.bytes,
        "disk_bytes": file.disk_bytes,
        "first": rfc3339(file.first),
        "last": rfc3339(file.last),
        "time_source": file.time_source,
        "modified": rfc3339(file.modified),
    }


def rfc3339(nanoseconds: int) -> str:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=nanoseconds // 1000)
    return f"{moment.isoformat(timespec='seconds')}Z"


if __name__ == "__main__":
    main()
