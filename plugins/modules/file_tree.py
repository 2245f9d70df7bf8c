#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_tree
short_description: Put a directory of rendered files in place, in one execution
version_added: 0.1.0
description:
  - Renders templates on the controller, ships them with the module, shows the difference, validates the new files,
    puts them in place, and tells the service that reads them. When it refuses them, the old files come back.
  - It remembers which files are its own, by O(name), in a hidden file inside O(path). Files of its own that are no
    longer wanted are removed. Files of others stay as they are.
  - A file in the way that is not its own is kept beside as C(FILE.before-njord), and comes back with O(state=absent),
    or once the file is no longer wanted. A symbolic link in the way is kept in the same way, and never followed.
  - After an interrupted run the next one does the rest.
options:
  path:
    description: The destination, absolute. Created with its parents where missing.
    type: path
    required: true
  name:
    description:
      - Whose files these are. Several owners may share a directory, each with a name of its own.
      - Letters, digits, C(_) and C(-).
    type: str
    required: true
  state:
    description:
      - V(present) leaves exactly the wanted files as our own.
      - V(absent) removes our own files, brings back what they replaced, and removes the directories we made that hold
        nothing any more, O(path) and its parents included.
    type: str
    choices: [present, absent]
    default: present
  templates:
    description:
      - Directory on the controller, searched like the O(ansible.builtin.template#module:src) of a template.
      - Files that end in C(.j2) are rendered with the variables of the task and lose that ending. Others are taken as
        they are. Sub-directories are kept.
      - A template that renders to nothing but white space is not wanted.
    type: str
  contents:
    description:
      - Text by relative path, for files that are computed. The last line gets its end where it has none.
      - Nothing but white space means that the file is not wanted.
    type: dict
  copies:
    description:
      - File on the controller by relative path, taken as it is. Searched like the
        O(ansible.builtin.copy#module:src) of a copy.
    type: dict
  owner:
    description:
      - User, by name or number, that owns our files and the directories we make.
      - Not compared where it is not given; files then belong to the user that runs the module.
      - In check mode a user that does not exist yet is a finding, else an error.
    type: str
  group:
    description: Group, by name or number; otherwise like O(owner).
    type: str
  mode:
    description: Mode of the files, as an octal number in quotes.
    type: raw
    default: "0644"
  directory_mode:
    description: Mode of the directories we make, as an octal number in quotes.
    type: raw
    default: "0755"
  secrets:
    description:
      - Globs of relative paths whose content is shown nowhere; C(*) matches C(/) as well.
    type: list
    elements: str
    default: []
  secret_mode:
    description: Mode of the files that O(secrets) matches, as an octal number in quotes.
    type: raw
    default: "0600"
  validate:
    description:
      - Commands that are run with all wanted files in a directory of their own, whose path replaces C(%s). Each is a
        list of words, or a string that is split as a shell does.
      - When one fails, nothing is changed and the module fails with what it said.
      - They run in check mode as well. A program that is missing is a finding there, else an error.
    type: list
    elements: raw
    default: []
  reload_command:
    description:
      - Command that tells the service which reads the files, a list of words or a string. Any exit code but 0 refuses.
      - The service is told once something changed. When it refuses, the old files come back, it is told again, and the
        module fails with its reason.
    type: raw
  reload_url:
    description:
      - Address that takes a C(POST) instead of a command, such as C(http://127.0.0.1:9090/-/reload). Any status but 2xx
        refuses.
    type: str
  reload_only_if:
    description:
      - Command, a list of words or a string. Where it fails, or does not exist, nothing runs that could be told, and
        there is no reload. It also runs in check mode, and must change nothing.
    type: raw
  reload_username:
    description: User name for basic authentication at O(reload_url).
    type: str
  reload_password_file:
    description: File on the host that holds the password of O(reload_username). It may be one of the files.
    type: path
  reload_token_file:
    description: File on the host that holds a bearer token. It may be one of the files.
    type: path
  reload_ca_path:
    description: File or directory of the authorities that the certificate of O(reload_url) is checked against.
    type: path
  reload_timeout:
    description: Seconds for the whole answer of O(reload_url).
    type: float
    default: 60.0
  _files:
    description: What the controller makes of O(templates), O(contents) and O(copies); not for use in a task.
    type: str
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.actions
notes:
  - The content of the files travels with the module, compressed; meant for some megabytes.
author:
  - Njord Trust (@njord-trust)
"""

EXAMPLES = r"""
- name: Configuration and rules of Prometheus
  njord.telemetry.file_tree:
    path: /etc/prometheus
    name: prometheus
    templates: configuration
    contents:
      targets/exporters.json: "{{ prometheus_targets | to_nice_json }}"
    group: prometheus
    secrets: [web.yml, "secrets/*"]
    secret_mode: "0640"
    validate:
      - promtool check config %s/prometheus.yml
    reload_url: http://127.0.0.1:9090/-/reload
    reload_only_if: systemctl is-active --quiet prometheus

- name: Nothing of ours remains
  njord.telemetry.file_tree:
    path: /etc/prometheus
    name: prometheus
    state: absent
"""

RETURN = r"""
plan:
  description: What is done, in check mode what would be done, in order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description:
        - C(create), C(change), C(remove) and C(mode) of files and directories.
        - C(adopt) where a file that was not ours is replaced, C(restore) where it comes back.
        - C(recover) where an earlier run was interrupted, C(record) where only the list of our own files changes.
        - C(reload), the last one.
      type: str
      returned: always
    subject:
      description: Absolute path; of C(reload) what is asked or run.
      type: str
      returned: always
    reason:
      description: Why.
      type: str
      returned: always
  sample:
    - {action: change, subject: /etc/prometheus/prometheus.yml, reason: its wanted content is another}
    - {action: reload, subject: "POST http://127.0.0.1:9090/-/reload", reason: the files changed}
findings:
  description: What was seen of validation, reload, user and group.
  returned: always
  type: list
  elements: dict
reloaded:
  description: Whether the service was told, and accepted.
  returned: always
  type: bool
"""

import posixpath
import re
import shlex
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import ArgumentSpec, fail, server_options
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._tree.accept import Reload, validate
from ansible_collections.njord.telemetry.plugins.module_utils._tree.accounts import NOT_THERE, Account, group, user
from ansible_collections.njord.telemetry.plugins.module_utils._tree.plan import plan
from ansible_collections.njord.telemetry.plugins.module_utils._tree.tree import Refused, Tree
from ansible_collections.njord.telemetry.plugins.module_utils._tree.wanted import (
    File,
    TreeError,
    unpack,
    wanted_files,
)

# The action on the controller reads them as well.
ARGUMENTS = server_options("reload", None).merge(
    ArgumentSpec(
        {
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "templates": {"type": "str"},
            "contents": {"type": "dict"},
            "copies": {"type": "dict"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw", "default": "0644"},
            "directory_mode": {"type": "raw", "default": "0755"},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "secret_mode": {"type": "raw", "default": "0600", "no_log": False},
            "validate": {"type": "list", "elements": "raw", "default": []},
            "reload_command": {"type": "raw"},
            "reload_only_if": {"type": "raw"},
            # To read all its rules a server may need longer than to answer a query.
            "reload_timeout": {"type": "float", "default": 60.0},
            # What the action makes of templates, contents and copies.
            "_files": {"type": "str", "no_log": True},
        },
        mutually_exclusive=(("reload_command", "reload_url"),),
    )
)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
MODE = re.compile(r"0?[0-7]{3}\Z")


def main() -> None:
    module = ARGUMENTS.module()
    result: dict[str, t.Any] = {"changed": False, "plan": [], "diff": [], "findings": [], "reloaded": False}
    try:
        _run(module, result)
    except (TreeError, OSError) as error:
        module.fail_json(msg=str(error), **{**result, "changed": False})
    module.exit_json(**result)


def _run(module: AnsibleModule, result: dict[str, t.Any]) -> None:
    """Fills ``result`` as it goes, so that a failure tells how far it came."""
    parameters = module.params
    findings: list[dict[str, t.Any]] = result["findings"]
    tree = Tree(
        _destination(module),
        _name(module),
        _account(module, "owner", user, findings),
        _account(module, "group", group, findings),
        _mode(module, "directory_mode"),
    )
    files = _files(module)
    reload = _reload(module)
    commands = [_words(module, "validate", command) for command in parameters["validate"]]
    with tree.locked():
        planned = plan(tree, files, present=parameters["state"] == "present")
        if not planned.actions:
            return
        told = reload if reload and reload.is_due() else None
        if told:
            planned.actions.append({"action": "reload", "subject": told.subject, "reason": "the files changed"})
        result.update(changed=True, plan=planned.actions, diff=planned.diff)
        seen = validate(files, commands, str(tree.path), module.tmpdir, first=module.check_mode) if files else []
        findings += [finding.as_dict() for finding in seen]
        refusals = [finding.summary for finding in seen if finding.severity == "critical"]
        if refusals:
            raise TreeError("\n".join(refusals))
        if module.check_mode:
            return
        try:
            tree.apply(planned, told or _nobody)
        except Refused as error:
            findings.append(Finding("file_tree.reload", str(told and told.subject), "critical", str(error)).as_dict())
            raise
        if told:
            findings.append(Finding("file_tree.reload", told.subject, "ok", "The new files are accepted.").as_dict())
            result["reloaded"] = True


def _nobody() -> None:
    """Nobody reads the files now, so that nobody refuses them."""


def _destination(module: AnsibleModule) -> str:
    path = str(module.params["path"])
    if not path.startswith("/") or posixpath.normpath(path) != path.rstrip("/") or path == "/":
        fail(module, f"path: {path!r} is no absolute path of a directory; one like /etc/prometheus is")
    return path.rstrip("/")


def _name(module: AnsibleModule) -> str:
    name = str(module.params["name"])
    if not NAME.match(name):
        fail(module, f"name: {name!r} is no name; letters, digits, '_' and '-' are accepted")
    return name


def _mode(module: AnsibleModule, option: str) -> int:
    value = module.params[option]
    # Without quotes YAML makes another number of it.
    if not isinstance(value, str) or not MODE.match(value):
        fail(module, f"{option}: {value!r} is no mode; an octal number in quotes is, such as '0644'")
    return int(value, 8)


def _account(
    module: AnsibleModule, option: str, find: t.Callable[[str], Account], findings: list[dict[str, t.Any]]
) -> Account | None:
    word = module.params[option]
    if not word:
        return None
    account = find(word)
    if account.number == NOT_THERE:
        if not module.check_mode:
            fail(module, f"{option}: there is no {word!r} on this host")
        findings.append(Finding(f"file_tree.{option}", word, "unknown", "not installed yet").as_dict())
    return account


def _words(module: AnsibleModule, option: str, command: t.Any) -> list[str]:
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        fail(module, f"{option}: {command!r} is no command; a string or a list of strings is")
    return words


def _files(module: AnsibleModule) -> dict[str, File]:
    if module.params["state"] == "absent":
        return {}
    if not module.params["_files"]:
        fail(module, "the files are missing: this module works only through its action on the controller")
    return wanted_files(
        unpack(module.params["_files"]),
        _mode(module, "mode"),
        module.params["secrets"],
        _mode(module, "secret_mode"),
    )


def _reload(module: AnsibleModule) -> Reload | None:
    parameters = module.params
    command, only_if = (
        _words(module, option, parameters[option]) if parameters[option] else []
        for option in ("reload_command", "reload_only_if")
    )
    url = parameters["reload_url"]
    if not command and not url:
        return None
    if command:
        return Reload(command, only_if=only_if)
    try:
        server = Server(
            url,
            username=parameters["reload_username"] or "",
            ca_path=parameters["reload_ca_path"] or "",
            timeout=parameters["reload_timeout"],
        )
    except ValueError as error:
        fail(module, f"reload_url: {error}")
    files = {"password": parameters["reload_password_file"], "token": parameters["reload_token_file"]}
    return Reload((), server, {kind: path for kind, path in files.items() if path}, only_if)


if __name__ == "__main__":
    main()
