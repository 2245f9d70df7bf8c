# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what a play costs: banners of tasks, and executions of modules on each host.

Writes one JSON object a line to the file that ``NJORD_EXECUTIONS`` names: ``{"banner": …}`` or ``{"host", "module"}``.
A worker is a process of its own, so that the lines are added as they come. What runs on the controller costs nothing.
"""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: count_executions
type: aggregate
short_description: counts banners and executions of modules
description: Of each play, into the file that the environment variable NJORD_EXECUTIONS names.
requirements: []
"""


def note(line: dict[str, str]) -> None:
    with Path(os.environ["NJORD_EXECUTIONS"]).open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def counted(execute: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    def execute_module(self: ActionBase, *arguments: t.Any, **named: t.Any) -> t.Any:
        if self._connection.transport != "local":
            host = (named.get("task_vars") or {}).get("inventory_hostname", "")
            module = named.get("module_name") or (arguments[0] if arguments else None) or self._task.action
            note({"host": host, "module": module})
        return execute(self, *arguments, **named)

    return execute_module


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "count_executions"

    def __init__(self) -> None:
        super().__init__()
        ActionBase._execute_module = counted(ActionBase._execute_module)

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        note({"banner": task.get_name()})
