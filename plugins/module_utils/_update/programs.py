# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The programs of a service: which version is there, which is wanted, and how one takes the place of the other.

Everything that both ways need is on the host before anything changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

from .._backup.store import sync_directory
from .._http import first_line
from . import versions

_TIMEOUT = 600.0
_LOCK_SECONDS = 300.0
_LOCK_POLL_SECONDS = 2.0
_LOCKED = ("is locked", "was locked", "Could not get lock")
# What apt-get says of each package that it would install: Inst NAME [OLD] (NEW SOURCE [ARCHITECTURE]).
_INSTALL = re.compile(r"^Inst (\S+) (?:\[([^\]]+)\] )?\((\S+)", re.MULTILINE)
_REMOVE = re.compile(r"^Remv (\S+)", re.MULTILINE)
_OLD, _NEW = "old", "new"
_CACHE = Path("/var/cache/apt/archives")


class NotPossible(Exception):
    """Why a version cannot take the place of another, a clause; nothing was changed."""


class Failed(Exception):
    """A change of the programs failed half-way, a clause."""


class Programs(t.Protocol):
    """What an update needs of a package or an archive; each of the verbs can be repeated."""

    @property
    def setting(self) -> str:
        """The variable in which the wanted version stands."""

    @property
    def directory(self) -> Path:
        """Of the programs that are there."""

    def installed(self) -> str:
        """The version that is there, as it is pinned; empty for none."""

    def wanted(self) -> str:
        """The version that is pinned; empty for none."""

    def available(self) -> str:
        """A clause that says what could be had."""

    def plan(self) -> list[tuple[str, str, str]]:
        """(what, from, to) of everything that changes.

        :raises NotPossible: where it cannot be had.
        """

    def lacks(self) -> str:
        """Why the version that is there could not be installed again, a clause; empty where it could."""

    def fetch(self, vault: Path) -> Path:
        """Brings what both ways need; a directory that has the new programs, to be tried, unless they come as links.

        :raises NotPossible: where something cannot be had.
        """

    def switch(self, vault: Path) -> None:
        """
        :raises Failed: where it failed half-way.
        """

    def back(self, vault: Path) -> None:
        """
        :raises Failed: where it failed half-way.
        """

    def tidy(self) -> None:
        """Removes what nobody needs once the new version is proven."""


class Package:
    """
    :param name: of the Debian package.
    :param companions: packages that are brought to the same version, where they are installed and it is to be had.
    :param version: exact; empty where none is pinned.
    :param setting: the variable that it stands in.
    """

    directory = Path("/usr/bin")

    def __init__(self, name: str, companions: t.Sequence[str], version: str, setting: str) -> None:
        self.name = name
        self.setting = setting
        self._companions = tuple(companions)
        self._version = version
        self._planned: list[tuple[str, str, str]] | None = None

    def installed(self) -> str:
        return _installed(self.name)

    def wanted(self) -> str:
        return self._version

    def available(self) -> str:
        found = _offered(self.name)
        if not found:
            return f"apt knows no version of {self.name} that could be had"
        return f"{', '.join(found)} can be had"

    def plan(self) -> list[tuple[str, str, str]]:
        # apt takes its time.
        if self._planned is None:
            self._planned = self._simulated()
        return self._planned

    def _simulated(self) -> list[tuple[str, str, str]]:
        if self._version == self.installed():
            return []
        if self._version not in _offered(self.name):
            raise NotPossible(f"{self.name} {self._version} is not to be had: {self.available()}")
        output = _apt("install", "--simulate", *_OPTIONS, *self._targets())
        going = _REMOVE.findall(output)
        if going:
            raise NotPossible(f"apt would remove {', '.join(going)} for {self.name} {self._version}")
        return [(name.partition(":")[0], old, new) for name, old, new in _INSTALL.findall(output)]

    def lacks(self) -> str:
        gone = [
            f"{name} {old}"
            for name, old, _new in self.plan()
            if old and old not in _offered(name) and not _cached(name, old)
        ]
        return f"{', '.join(gone)} can be fetched from nowhere any more" if gone else ""

    def fetch(self, vault: Path) -> Path:
        for kind in (_OLD, _NEW):
            (vault / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
        is_complete = not self.lacks()
        for name, old, new in self.plan():
            _download(vault / _NEW, name, new)
            if old and is_complete:
                _download(vault / _OLD, name, old)
        tried = vault / "tried"
        for archive in sorted((vault / _NEW).glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(archive), str(tried)], NotPossible)
        return tried / "usr" / "bin"

    def switch(self, vault: Path) -> None:
        _dpkg(vault / _NEW)

    def back(self, vault: Path) -> None:
        _dpkg(vault / _OLD)

    def tidy(self) -> None:
        """A package takes the old one away itself."""

    def _targets(self) -> list[str]:
        along = [
            name
            for name in self._companions
            if _installed(name) and self._version in {*_offered(name), _installed(name)}
        ]
        return [f"{name}={self._version}" for name in (self.name, *along)]


class Archive:
    """
    :param link: the one that names the directory of the version that runs.
    :param directory: of the new version, unpacked.
    :param version: as the name of the archive has it, where it is not unpacked yet.
    """

    setting = "prometheus_archive"

    def __init__(self, link: Path, directory: Path, version: str) -> None:
        self._link = link
        self._new = directory
        self._version = version

    @property
    def directory(self) -> Path:
        return self._link

    def installed(self) -> str:
        return _version_in(self._link)

    def wanted(self) -> str:
        if self._is_current():
            return self.installed()
        return _version_in(self._new) or self._version or str(self._new.name)

    def available(self) -> str:
        return f"an archive of {self.wanted()} is given"

    def plan(self) -> list[tuple[str, str, str]]:
        return [] if self._is_current() else [(str(self._link), self.installed(), self.wanted())]

    def lacks(self) -> str:
        return "" if (self._link / "prometheus").is_file() else f"{self._link} leads to no prometheus"

    def fetch(self, vault: Path) -> Path:
        if not (self._new / "prometheus").is_file():
            raise NotPossible(f"{self._new} holds no prometheus; the archive is not what it should be")
        (vault / _OLD).write_text(f"{self._link.resolve()}\n", encoding="utf-8")
        return self._new

    def switch(self, vault: Path) -> None:
        self._point(self._new)

    def back(self, vault: Path) -> None:
        self._point(Path((vault / _OLD).read_text(encoding="utf-8").strip()))

    def tidy(self) -> None:
        current = self._link.resolve()
        for entry in self._link.parent.iterdir():
            if entry.is_dir() and not entry.is_symlink() and entry.resolve() != current:
                shutil.rmtree(entry)

    def _is_current(self) -> bool:
        return self._link.is_dir() and self._link.resolve() == self._new.resolve()

    def _point(self, directory: Path) -> None:
        new = self._link.with_name(f".{self._link.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(directory.name)
        new.replace(self._link)
        sync_directory(self._link.parent)


_OPTIONS = ("--yes", "--no-install-recommends", "--allow-downgrades")
_QUIET = {
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
}


def version_of(program: Path) -> str:
    """What a program says that it is.

    :raises NotPossible: where it does not run, or says none.
    """
    output = _run([str(program), "--version"], NotPossible, timeout=60.0)
    found = versions.said(output)
    if not found:
        raise NotPossible(f"{program} --version says no version: {first_line(output)!r}")
    return found


def check_configuration(directory: Path, path: str) -> None:
    """
    :param directory: of the new programs; one without promtool checks nothing.
    :raises NotPossible: where the new version does not take this configuration.
    """
    if (directory / "promtool").is_file():
        try:
            _run([str(directory / "promtool"), "check", "config", path], NotPossible, timeout=120.0)
        except NotPossible as error:
            raise NotPossible(f"the new version does not take the configuration: {error}") from error


def _version_in(directory: Path) -> str:
    with contextlib.suppress(NotPossible):
        if (directory / "prometheus").is_file():
            return version_of(directory / "prometheus")
    return ""


def _installed(name: str) -> str:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    status, _space, version = done.stdout.partition(" ")
    return version if not done.returncode and status == "installed" else ""


def _offered(name: str) -> list[str]:
    """Versions that apt can fetch, the newest first."""
    output = _run(["apt-cache", "madison", name], NotPossible)
    rows = [[cell.strip() for cell in line.split("|")] for line in output.splitlines()]
    return list(dict.fromkeys(row[1] for row in rows if len(row) == 3 and not row[2].endswith("Sources")))


def _apt(*words: str, cwd: Path | None = None) -> str:
    # As root: its own user may not write where nobody may look.
    command = [
        "apt-get",
        "-qq",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        f"DPkg::Lock::Timeout={_LOCK_SECONDS:.0f}",
        *words,
    ]
    return _run(command, NotPossible, cwd=cwd)


def _download(directory: Path, name: str, version: str) -> None:
    """
    :raises NotPossible: where the archive of exactly this version is not there afterwards.
    """
    cached = _cached(name, version)
    if cached:
        shutil.copy(cached, directory)
        return
    before = set(directory.glob("*.deb"))
    try:
        _apt("download", f"{name}={version}", cwd=directory)
    except NotPossible as error:
        raise NotPossible(f"{name} {version} cannot be fetched: {error}") from error
    if not any(_describes(archive, name, version) for archive in set(directory.glob("*.deb")) - before):
        raise NotPossible(f"{name} {version} cannot be fetched: apt-get download brought something else")


def _cached(name: str, version: str) -> Path | None:
    """The archive of a package as apt keeps those that it has installed."""
    names = f"{name}_{version.replace(':', '%3a')}_*.deb"
    return next((path for path in _CACHE.glob(names) if _describes(path, name, version)), None)


def _describes(archive: Path, name: str, version: str) -> bool:
    """Whether a file is this package, whole."""
    try:
        return (
            _run(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(archive)], NotPossible)
            == f"{name} {version}"
        )
    except NotPossible:
        return False


def _dpkg(directory: Path) -> None:
    """Installs every archive of a directory; waits for whoever else is at it.

    :raises Failed: where that fails.
    """
    archives = sorted(map(str, directory.glob("*.deb")))
    if not archives:
        raise Failed(f"there is no package in {directory}")
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            _run(["dpkg", "--force-confdef", "--force-confold", "--install", *archives], Failed)
            return
        except Failed as error:
            if not any(word in str(error) for word in _LOCKED) or time.monotonic() > deadline:
                raise
        time.sleep(_LOCK_POLL_SECONDS)


def _run(command: t.Sequence[str], error: type[Exception], cwd: Path | None = None, timeout: float = _TIMEOUT) -> str:
    """What a command prints.

    :raises Exception: of the given type, where it fails; with what it said last.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, **_QUIET},
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as wrong:
        raise error(f"{command[0]}: {wrong}") from wrong
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or done.stdout.decode("utf-8", "replace").strip()
        # Its reason stands last, or begins with E:.
        lines = [line for line in said.splitlines() if line.startswith(("E:", "dpkg: error"))] or said.splitlines()[-1:]
        raise error(
            f"{Path(command[0]).name} {command[1]} ended with {done.returncode}: {' '.join(lines) or 'it said nothing'}"
        )
    return done.stdout.decode("utf-8", "replace")
