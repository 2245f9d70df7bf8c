# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Argument specifications that can be put together: a module's own options and those of the servers it asks."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path, PurePath

from ansible.module_utils.basic import AnsibleModule

from ._http import Server
from ._redis import Redis


@dataclasses.dataclass(frozen=True)
class ArgumentSpec:
    """What ``AnsibleModule`` is built from; :meth:`merge` adds another one to it."""

    options: dict[str, dict[str, t.Any]]
    mutually_exclusive: tuple[tuple[str, ...], ...] = ()
    required_together: tuple[tuple[str, ...], ...] = ()
    required_if: tuple[tuple[t.Any, ...], ...] = ()

    def merge(self, other: ArgumentSpec) -> ArgumentSpec:
        return ArgumentSpec(
            {**self.options, **other.options},
            self.mutually_exclusive + other.mutually_exclusive,
            self.required_together + other.required_together,
            self.required_if + other.required_if,
        )

    def module(self) -> AnsibleModule:
        return AnsibleModule(
            argument_spec=self.options,
            mutually_exclusive=self.mutually_exclusive,
            required_together=self.required_together,
            required_if=self.required_if,
            supports_check_mode=True,
        )


def server_options(prefix: str, url: str | None) -> ArgumentSpec:
    """The connection options of one server, all named after it.

    :param prefix: ``prometheus``, ``grafana``, …
    :param url: the default address, or None where such a server is not there unless said.
    """
    return ArgumentSpec(
        {
            f"{prefix}_url": {"type": "str", "default": url} if url else {"type": "str"},
            f"{prefix}_username": {"type": "str"},
            f"{prefix}_password_file": {"type": "path", "no_log": False},
            f"{prefix}_token_file": {"type": "path", "no_log": False},
            f"{prefix}_ca_path": {"type": "path"},
            f"{prefix}_timeout": {"type": "float", "default": 10.0},
        },
        mutually_exclusive=((f"{prefix}_token_file", f"{prefix}_username"),),
        required_together=((f"{prefix}_username", f"{prefix}_password_file"),),
    )


PROMETHEUS = server_options("prometheus", "http://127.0.0.1:9090")
# Where the bus is; documented by the fragment ``redis``.
REDIS = ArgumentSpec(
    {
        "redis_url": {"type": "str"},
        "redis_username": {"type": "str"},
        "redis_password_file": {"type": "path", "no_log": False},
        "redis_ca_path": {"type": "path"},
        "redis_timeout": {"type": "float", "default": 5.0},
    }
)

# Of the modules that work on the catalogue of backups; documented by the fragment ``backup``.
BACKUPS = ArgumentSpec(
    {
        "catalogue": {"type": "path", "default": "/var/backups/njord"},
        "prometheus_unit": {"type": "str", "default": "prometheus.service"},
        "prometheus_data_directory": {"type": "path"},
        "prometheus_program": {"type": "path"},
        "promtool": {"type": "path"},
        "restic_repository": {"type": "str"},
        "restic_password_file": {"type": "path", "no_log": False},
        "restic_environment_file": {"type": "path"},
        "restic_options": {"type": "list", "elements": "str", "default": []},
        "restic_check": {"type": "int", "default": 7},
        "restic_program": {"type": "path"},
    }
).merge(PROMETHEUS)

RESTIC_PATHS = ("restic_password_file", "restic_environment_file", "restic_program")


def server(module: AnsibleModule, prefix: str) -> Server:
    """The server that the options of :func:`server_options` describe; fails the module where they cannot be used."""
    parameters = module.params
    secrets = {kind: secret(module, f"{prefix}_{kind}_file") for kind in ("password", "token")}
    try:
        return Server(
            url=parameters[f"{prefix}_url"],
            username=parameters[f"{prefix}_username"] or "",
            ca_path=parameters[f"{prefix}_ca_path"] or "",
            timeout=parameters[f"{prefix}_timeout"],
            **secrets,
        )
    except ValueError as error:
        fail(module, f"{prefix}_url: {error}")


def redis(module: AnsibleModule) -> Redis | None:
    """The Redis that the options of :data:`REDIS` describe, None where none is named; fails where they are no use."""
    parameters = module.params
    if not parameters["redis_url"]:
        return None
    try:
        return Redis(
            url=parameters["redis_url"],
            username=parameters["redis_username"] or "",
            password=secret(module, "redis_password_file"),
            ca_path=parameters["redis_ca_path"] or "",
            timeout=parameters["redis_timeout"],
        )
    except ValueError as error:
        fail(module, f"redis_url: {error}")


def secret(module: AnsibleModule, option: str) -> str:
    """What the file holds that an option names, empty where it names none; fails the module where it is unreadable."""
    path = module.params[option]
    if not path:
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(module, f"{option}: {path} cannot be read: {error}")
    module.no_log_values.add(text)
    return text


def fail(module: AnsibleModule, message: str) -> t.NoReturn:
    """Ends the module as failed: for arguments that cannot be used, never for what was seen."""
    module.fail_json(msg=message)
    raise AssertionError("fail_json ends the process")


def require_absolute(module: AnsibleModule, option: str) -> None:
    """A relative path means another place with every way of running a module."""
    value = module.params[option]
    for path in value if isinstance(value, list) else [value]:
        if path is not None and not PurePath(path).is_absolute():
            fail(module, f"{option}: {path!r} is relative; an absolute path such as /var/log/njord would do")
