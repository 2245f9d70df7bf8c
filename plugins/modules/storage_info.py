#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_info
short_description: What Prometheus holds on disk, and what another retention would take from it
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Reads the blocks in the data directory of Prometheus, and asks the running server for the retention it keeps them.
    Where the server does not answer, the command line of its unit is read instead.
  - Says whether the retention that is asked for keeps less than the one in force, and which range of time would go.
    Lowering it deletes samples for good, within minutes of the start.
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.info_module
  - njord.telemetry.prometheus
options:
  data_directory:
    description: Where Prometheus keeps its data, the value of its flag C(--storage.tsdb.path).
    type: path
    default: /var/lib/prometheus/metrics2
  retention_time:
    description:
      - The retention by time that is asked for, such as V(30d); not set where it is empty.
      - Where O(retention_size) is empty as well, Prometheus keeps 15 days.
    type: str
    default: ""
  retention_size:
    description: The retention by size that is asked for, such as V(10GB); not set where it is empty.
    type: str
    default: ""
  unit:
    description: The unit that runs Prometheus.
    type: str
    default: prometheus.service
seealso:
  - name: Storage of Prometheus
    description: How blocks are kept and deleted.
    link: https://prometheus.io/docs/prometheus/latest/storage/
"""

EXAMPLES = r"""
- name: What would go with a retention of a month
  njord.telemetry.storage_info:
    retention_time: 30d
  register: storage

- name: Stop before anything goes
  ansible.builtin.assert:
    that: storage.lowered is false
"""

RETURN = r"""
findings:
  description:
    - C(storage.retention) says what would go, C(storage.blocks) what is there.
  returned: success
  type: list
  elements: dict
lowered:
  description: Whether less would be kept than now; null where the retention in force is not known.
  returned: success
  type: bool
retention:
  description: The retention in force.
  returned: success
  type: dict
  contains:
    seconds:
      description: By time, in seconds; null where time does not matter, or where it is not known.
      type: float
      returned: success
    bytes:
      description: By size, in bytes; null where size does not matter, or where it is not known.
      type: int
      returned: success
    source:
      description: Who said so, or why nobody could.
      type: str
      returned: success
blocks:
  description: The blocks on disk, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    ulid:
      description: Name of the block.
      type: str
      returned: success
    start:
      description: Time of its first sample, RFC 3339.
      type: str
      returned: success
    end:
      description: Its end, RFC 3339.
      type: str
      returned: success
    samples:
      description: Number of its samples.
      type: int
      returned: success
    bytes:
      description: Bytes of its files.
      type: int
      returned: success
would_go:
  description: The blocks that the retention asked for would take and the one in force would not, like RV(blocks).
  returned: success
  type: list
  elements: dict
"""

import math
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils import _storage
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import PROMETHEUS, ArgumentSpec, fail, server
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

SPEC = ArgumentSpec(
    {
        "data_directory": {"type": "path", "default": "/var/lib/prometheus/metrics2"},
        "retention_time": {"type": "str", "default": ""},
        "retention_size": {"type": "str", "default": ""},
        "unit": {"type": "str", "default": "prometheus.service"},
    }
).merge(PROMETHEUS)


def _row(block: _storage.Block) -> dict[str, t.Any]:
    return {
        "ulid": block.ulid,
        "start": _storage.rfc3339(block.min_time),
        "end": _storage.rfc3339(block.max_time),
        "samples": block.samples,
        "bytes": block.bytes,
    }


def _limit(number: float) -> float | None:
    return number if number < math.inf else None


def main() -> None:
    module = SPEC.module()
    options = module.params
    directory = options["data_directory"]
    try:
        wanted = _storage.Retention.parse(options["retention_time"], options["retention_size"])
    except ValueError as error:
        fail(module, f"retention_time or retention_size: {error}")

    def show(unit: str) -> str:
        systemctl = module.get_bin_path("systemctl")
        return str(module.run_command([systemctl, "cat", unit])[1]) if systemctl else ""

    now = _storage.in_force(Prometheus(server(module, "prometheus")), options["unit"], show)
    retention = now.retention or _storage.Retention(math.inf, math.inf)
    try:
        storage = _storage.read(Path(directory))
        verdict = _storage.judge(directory, storage, wanted, now)
        findings = [verdict.finding, _storage.contents(directory, storage)]
    except FileNotFoundError:
        storage = None
        verdict = _storage.judge(directory, None, wanted, now)
        findings = [verdict.finding]
    except OSError as error:
        storage = None
        unread = Finding("storage.blocks", directory, "unknown", f"{directory} cannot be read: {error}")
        verdict = _storage.Verdict(None, [], unread)
        findings = [unread]
    module.exit_json(
        changed=False,
        findings=[finding.as_dict() for finding in findings],
        lowered=verdict.lowered,
        retention={
            "seconds": _limit(retention.seconds),
            "bytes": _limit(retention.bytes),
            "source": now.source,
        },
        blocks=[_row(block) for block in storage.blocks] if storage else [],
        would_go=[_row(block) for block in verdict.would_go],
    )


if __name__ == "__main__":
    main()
