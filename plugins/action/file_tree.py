# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renders and reads the files on the controller, and ships them with one execution of the module."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.njord.telemetry.plugins.module_utils._tree.wanted import TreeError, check_paths, pack
from ansible_collections.njord.telemetry.plugins.modules.file_tree import ARGUMENTS

SOURCES = ("templates", "contents", "copies")
TEMPLATE = ".j2"


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            ARGUMENTS.options,
            ARGUMENTS.mutually_exclusive,
            ARGUMENTS.required_together,
            required_if=ARGUMENTS.required_if,
        )
        module_arguments = {name: value for name, value in self._task.args.items() if name not in SOURCES}
        if arguments["state"] == "present":
            module_arguments["_files"] = self._pack(arguments, task_vars or {})
        return t.cast("dict[str, t.Any]", self._execute_module(module_args=module_arguments, task_vars=task_vars))

    def _pack(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> str:
        if not any(name in self._task.args for name in SOURCES):
            raise AnsibleActionFail(f"one of {', '.join(SOURCES)} is required; an empty one removes all our files")
        files: dict[str, bytes] = {}
        for name in SOURCES:
            for path, content in getattr(self, f"_{name}")(arguments[name], task_vars):
                if path in files:
                    raise AnsibleActionFail(f"{name}: {path!r} is wanted twice")
                files[path] = content
        try:
            check_paths(files)
        except TreeError as error:
            raise AnsibleActionFail(str(error)) from error
        return pack(files)

    def _templates(self, directory: str | None, task_vars: dict[str, t.Any]) -> t.Iterator[tuple[str, bytes]]:
        if not directory:
            return
        root = Path(self._find("templates", "templates", directory))
        if not root.is_dir():
            raise AnsibleActionFail(f"templates: {root} is no directory")
        for source in sorted(path for path in root.rglob("*") if path.is_file()):
            path = source.relative_to(root).as_posix()
            if source.suffix != TEMPLATE:
                yield path, self._read(source)
                continue
            text = self._render(root, source, task_vars)
            if text.strip():
                yield path[: -len(TEMPLATE)], text.encode()

    def _contents(
        self, contents: dict[str, t.Any] | None, _task_vars: dict[str, t.Any]
    ) -> t.Iterator[tuple[str, bytes]]:
        for path, text in (contents or {}).items():
            if not isinstance(text, str):
                raise AnsibleActionFail(f"contents: {path!r} holds {type(text).__name__}, and a string is wanted")
            if text.strip():
                yield path, (text if text.endswith("\n") else f"{text}\n").encode()

    def _copies(self, copies: dict[str, t.Any] | None, _task_vars: dict[str, t.Any]) -> t.Iterator[tuple[str, bytes]]:
        for path, source in (copies or {}).items():
            yield path, self._read(Path(self._find("copies", "files", str(source))))

    def _find(self, option: str, directory: str, needle: str) -> str:
        try:
            return str(self._find_needle(directory, needle))
        except AnsibleError as error:
            raise AnsibleActionFail(f"{option}: {error}") from error

    def _read(self, source: Path) -> bytes:
        # The loader decrypts what a vault holds.
        return Path(self._loader.get_real_file(str(source))).read_bytes()

    def _render(self, root: Path, source: Path, task_vars: dict[str, t.Any]) -> str:
        """As the module ``template`` does, whose defaults are kept."""
        places = [str(source.parent), str(root)]
        for place in [*task_vars.get("ansible_search_path", []), self._loader.get_basedir()]:
            places += [str(Path(place) / "templates"), str(place)]
        variables = {"ansible_managed": "Ansible managed", **task_vars}
        templar = self._templar.copy_with_new_env(searchpath=places, available_variables=variables)
        template = trust_as_template(self._loader.get_text_file_contents(str(source)))
        try:
            text = templar.template(template, escape_backslashes=False, overrides={"trim_blocks": True})
        except AnsibleError as error:
            raise AnsibleActionFail(f"{source}: {error}") from error
        # Jinja makes None of a template without any output.
        return "" if text is None else str(text)
