# SPDX-License-Identifier: GPL-3.0-or-later
"""A module of the collection in a process of its own, as Ansible starts it on a host."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t

from tests.testbench.packages import ROOT

# Everything is imported before root is given up: another user may not read the checkout.
_CHILD = """
import importlib, json, os, sys
name, arguments, user = json.loads(sys.argv[1])
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module(f"ansible_collections.njord.telemetry.plugins.modules.{name}")
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
with patch_module_args(arguments):
    module.main()
"""


def run(name: str, arguments: t.Mapping[str, t.Any], user: int = 0) -> dict[str, t.Any]:
    """What the module answers, ``failed`` and ``msg`` among it where it failed.

    :param user: number of the user it runs as; 0 for the one that runs the tests.
    """
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps([name, dict(arguments), user])],
        env={"PYTHONPATH": f"{ROOT}/playbooks/collections", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout, child.stderr
    answer: dict[str, t.Any] = json.loads(child.stdout)
    return answer


def findings(answer: t.Mapping[str, t.Any], check: str) -> list[dict[str, t.Any]]:
    return [finding for finding in answer["findings"] if finding["check"] == check]
