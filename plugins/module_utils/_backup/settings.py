# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The options of a backup, the same for the module and for the command that a timer runs.

They are a mapping with the names of the module's options; :data:`DEFAULTS` has them all.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import typing as t
from pathlib import Path

from .._http import Server
from .._journal.configuration import INSTALL_ROOT, ConfigurationError, journal_directories
from .._prometheus import Prometheus
from .._systemd import show_units
from . import catalogue, encryption
from .catalogue import Catalogue
from .configuration import ConfigurationSource
from .create import Failed, Source
from .job import Job, Prover
from .journals import JournalsSource
from .keep import Rules
from .lay import Owner
from .prometheus import PrometheusSource, resolve
from .remote import Remote
from .restic import Repository, why_unusable
from .scratch import NoTool, Tools, find_tools

SOURCES = ("prometheus", "journals", "configuration")
LEVELS = (catalogue.WRITTEN, catalogue.VERIFIED, catalogue.PROVEN)
CONFIGURATION = ("/etc/prometheus", "/etc/systemd/system", "/etc/cron.d")

DEFAULTS: dict[str, t.Any] = {
    "catalogue": catalogue.DIRECTORY,
    "sources": list(SOURCES),
    "prometheus_unit": "prometheus.service",
    "prometheus_data_directory": "",
    "prometheus_program": "",
    "promtool": "",
    "journal_dir": None,
    "config_root": INSTALL_ROOT,
    "configuration_paths": list(CONFIGURATION),
    "secrets_recipients": [],
    "level": catalogue.VERIFIED,
    "carry_to": "",
    "restic_repository": "",
    "restic_password_file": "",
    "restic_environment_file": "",
    "restic_options": [],
    "restic_check": 7,
    "restic_program": "",
    "keep_last": 7,
    "keep_daily": 14,
    "keep_weekly": 8,
    "keep_monthly": 12,
    "jobs": 2,
}
_NOBODY = "nobody"
# restic divides by the first byte of a name.
_MOST_PARTS = 256


class Unusable(ValueError):
    """An option that cannot be used: names it, its value, and what would do."""


def prometheus(settings: t.Mapping[str, t.Any]) -> Prometheus:
    """The server that the options of the doc fragment ``prometheus`` describe.

    :raises Unusable: where a file of a secret cannot be read, or the address is none.
    """
    secrets = {}
    for kind in ("password", "token"):
        path = settings.get(f"prometheus_{kind}_file")
        try:
            secrets[kind] = Path(path).read_text(encoding="utf-8").strip() if path else ""
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"prometheus_{kind}_file: {path} cannot be read: {error}") from None
    try:
        return Prometheus(
            Server(
                url=settings.get("prometheus_url") or "http://127.0.0.1:9090",
                username=settings.get("prometheus_username") or "",
                ca_path=settings.get("prometheus_ca_path") or "",
                timeout=settings.get("prometheus_timeout") or 10.0,
                **secrets,
            )
        )
    except ValueError as error:
        raise Unusable(f"prometheus_url: {error}") from None


def job(settings: t.Mapping[str, t.Any], server: Prometheus) -> Job:
    """
    :raises Unusable: where an option cannot be used.
    :raises Failed: where what is to be backed up cannot be found.
    """
    if settings["level"] not in LEVELS:
        raise Unusable(f"level: {settings['level']!r} is none of {', '.join(LEVELS)}")
    wanted = settings["sources"]
    for source in wanted:
        if source not in SOURCES:
            raise Unusable(f"sources: {source!r} is none of {', '.join(SOURCES)}")
    if not wanted:
        raise Unusable(f"sources is empty; some of {', '.join(SOURCES)} would do")
    if not 1 <= settings["jobs"] <= 64:
        raise Unusable(f"jobs: {settings['jobs']} does not lie between 1 and 64")
    try:
        rules = Rules(*(settings[f"keep_{name}"] for name in ("last", "daily", "weekly", "monthly")))
    except ValueError as error:
        raise Unusable(str(error)) from None
    looked = prover(settings, server)
    sources = tuple(_SOURCES[name](settings, server, looked.catalogue) for name in SOURCES if name in wanted)
    return Job(
        prover=looked,
        sources=sources,
        rules=rules,
        level=settings["level"],
        carry_to=settings["carry_to"] or "",
        host=socket.gethostname(),
        jobs=settings["jobs"],
        remote=remote(settings, looked.catalogue),
    )


def prover(settings: t.Mapping[str, t.Any], server: Prometheus) -> Prover:
    """Without the programs of Prometheus where this host has none, and then its blocks stay as they are known."""
    try:
        found: Tools | None = tools(settings)
    except Failed:
        if "prometheus" in settings.get("sources", ()):
            raise
        found = None
    return Prover(Catalogue(settings["catalogue"]), found, run_as(settings, server))


def remote(settings: t.Mapping[str, t.Any], place: Catalogue) -> Remote | None:
    """Where backups lie off the host; None for nowhere.

    :raises Unusable: where an option cannot be used.
    """
    location = settings["restic_repository"]
    if not location:
        return None
    why = why_unusable(location)
    if why:
        # Not the value: it may hold a password.
        raise Unusable(f"restic_repository: {why}")
    if not settings["restic_password_file"]:
        raise Unusable(f"restic_password_file is not given; {location} is encrypted with the password in it")
    if not 0 <= settings["restic_check"] <= _MOST_PARTS:
        raise Unusable(f"restic_check: {settings['restic_check']} does not lie between 0 and {_MOST_PARTS}")
    repository = Repository(
        location=location,
        password_file=settings["restic_password_file"],
        cache=str(place.root / catalogue.CACHE),
        environment_file=settings["restic_environment_file"] or "",
        options=tuple(settings["restic_options"] or ()),
        program=settings["restic_program"] or "",
    )
    return Remote(repository, settings["restic_check"])


def data_directory(settings: t.Mapping[str, t.Any], server: Prometheus) -> str:
    """Where Prometheus keeps its data.

    :raises Failed: where nobody says.
    """
    return resolve(server, settings["prometheus_unit"], show, settings["prometheus_data_directory"] or "")


def tools(settings: t.Mapping[str, t.Any]) -> Tools:
    """
    :raises Failed: where one of the programs is not there.
    """
    shown = show_units([settings["prometheus_unit"]], 30.0)
    pid = 0 if isinstance(shown, str) else shown[settings["prometheus_unit"]].pid
    try:
        return find_tools(pid or None, settings["prometheus_program"] or "", settings["promtool"] or "")
    except NoTool as error:
        raise Failed(str(error)) from None


def run_as(settings: t.Mapping[str, t.Any], server: Prometheus) -> Owner | None:
    """Who owns the data; nobody where that is root: a scratch server needs no rights. None where we are not root."""
    if os.geteuid():
        return None
    nobody = pwd.getpwnam(_NOBODY)
    try:
        status = Path(data_directory(settings, server)).stat()
    except (Failed, OSError):
        return nobody.pw_uid, nobody.pw_gid
    return (status.st_uid, status.st_gid) if status.st_uid else (nobody.pw_uid, nobody.pw_gid)


def show(unit: str) -> str:
    """A unit and its drop-ins as text; empty where there is none."""
    try:
        done = subprocess.run(
            ["systemctl", "cat", "--", unit], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if not done.returncode else ""


def _prometheus(settings: t.Mapping[str, t.Any], server: Prometheus, place: Catalogue) -> Source:
    return PrometheusSource(server, data_directory(settings, server), place.root)


def _journals(settings: t.Mapping[str, t.Any], _server: Prometheus, place: Catalogue) -> Source:
    try:
        directories = settings["journal_dir"] or journal_directories(settings["config_root"])
    except ConfigurationError as error:
        raise Failed(
            f"where the journals lie is not known: {error}; journal_dir or config_root would say, or sources without"
            " journals"
        ) from None
    return JournalsSource(directories, catalogue=place)


def _configuration(settings: t.Mapping[str, t.Any], _server: Prometheus, place: Catalogue) -> Source:
    try:
        age = encryption.find(settings["secrets_recipients"], place.scratch)
    except ValueError as error:
        raise Unusable(f"secrets_recipients: {error}") from None
    return ConfigurationSource(settings["configuration_paths"], age)


_SOURCES: dict[str, t.Callable[[t.Mapping[str, t.Any], Prometheus, Catalogue], Source]] = {
    "prometheus": _prometheus,
    "journals": _journals,
    "configuration": _configuration,
}
