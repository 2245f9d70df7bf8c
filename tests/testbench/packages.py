# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs out of the packages of several Debian suites, without touching the machine's apt.

``python -m tests.testbench.packages`` fetches them all.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "packages"
SUITES = ("bookworm", "bookworm-backports", "trixie", "sid")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclasses.dataclass(frozen=True)
class Program:
    """Where a program is: the packages that are unpacked together, and its path among their files."""

    suite: str
    packages: tuple[str, ...]
    path: str
    # Shell lines that run before the program; $here is the folder of the unpacked packages.
    before: str = ""


# Its own libraries, whatever the machine has.
_WITH_LIBRARIES = 'for d in "$here"/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$d"; done\n'
# Alertmanager reads its template from /usr/share: shown there to this one process only.
_WITH_SHARE = """\
if [ "$here" = "${NJORD_SHARE_OF-}" ]; then
  mount -t overlay -o "lowerdir=$here/usr/share:/usr/share" share /usr/share
else
  [ "$(id -u)" = 0 ] || map=--map-root-user
  NJORD_SHARE_OF="$here" exec unshare --mount ${map-} "$0" "$@"
fi
"""
_REDIS = ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1", "libssl3")

# By name and version; the first version of a name is the one meant where none is said.
PROGRAMS: t.Final = {
    ("prometheus", "3"): Program("sid", ("prometheus",), "usr/bin/prometheus"),
    ("prometheus", "2"): Program("trixie", ("prometheus",), "usr/bin/prometheus"),
    ("promtool", "3"): Program("sid", ("promtool",), "usr/bin/promtool"),
    ("promtool", "2"): Program("trixie", ("promtool",), "usr/bin/promtool"),
    ("alertmanager", "0.33"): Program(
        "sid", ("prometheus-alertmanager",), "usr/bin/prometheus-alertmanager", _WITH_SHARE
    ),
    ("alertmanager", "0.28"): Program(
        "trixie", ("prometheus-alertmanager",), "usr/bin/prometheus-alertmanager", _WITH_SHARE
    ),
    ("amtool", "0.33"): Program("sid", ("prometheus-alertmanager",), "usr/bin/amtool", _WITH_SHARE),
    ("amtool", "0.28"): Program("trixie", ("prometheus-alertmanager",), "usr/bin/amtool", _WITH_SHARE),
    ("victoria-metrics", "1.145"): Program("sid", ("victoria-metrics",), "usr/bin/victoria-metrics"),
    ("victoria-metrics", "1.112"): Program("trixie", ("victoria-metrics",), "usr/bin/victoria-metrics"),
    ("redis-server", "7"): Program("bookworm", _REDIS, "usr/bin/redis-server", _WITH_LIBRARIES),
    ("redis-cli", "7"): Program("bookworm", _REDIS, "usr/bin/redis-cli", _WITH_LIBRARIES),
    ("prometheus-node-exporter", "1"): Program(
        "trixie", ("prometheus-node-exporter",), "usr/bin/prometheus-node-exporter"
    ),
    ("linux.uml", "6.1"): Program("bookworm", ("user-mode-linux",), "usr/bin/linux.uml"),
    ("restic", "0.18"): Program("trixie", ("restic",), "usr/bin/restic"),
    ("restic", "0.14"): Program("bookworm", ("restic",), "usr/bin/restic"),
    ("age", "1.2"): Program("trixie", ("age",), "usr/bin/age"),
    ("age", "1.1"): Program("bookworm", ("age",), "usr/bin/age"),
    ("age-keygen", "1.2"): Program("trixie", ("age",), "usr/bin/age-keygen"),
    ("ssh-keygen", "9"): Program("bookworm", ("openssh-client",), "usr/bin/ssh-keygen"),
    ("sftp-server", "9"): Program("bookworm", ("openssh-sftp-server",), "usr/lib/openssh/sftp-server"),
}


def program(name: str, version: str = "") -> Path:
    """Path of a real program, fetched when it is not there yet.

    :raises KeyError: where there is no such program or version.
    :raises RuntimeError: where apt cannot get its packages; it says what apt said.
    """
    found = [key for key in PROGRAMS if key[0] == name and version in ("", key[1])]
    if not found:
        known = ", ".join(f"{name} {version}" for name, version in PROGRAMS)
        raise KeyError(f"no program {name} {version}; there are: {known}")
    wanted = PROGRAMS[found[0]]
    directory = CACHE / wanted.suite / wanted.packages[0]
    if not directory.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not directory.is_dir():
                _unpack(wanted, directory)
    return _wrapper(wanted, directory) if wanted.before else directory / wanted.path


def _wrapper(wanted: Program, directory: Path) -> Path:
    path = directory / Path(wanted.path).name
    text = f'#!/bin/sh -e\nhere="$(dirname "$(readlink -f "$0")")"\n{wanted.before}exec "$here/{wanted.path}" "$@"\n'
    if not path.is_file() or path.read_text() != text:
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        new.chmod(0o755)
        new.replace(path)
    return path


def _unpack(wanted: Program, directory: Path) -> None:
    """Whatever interrupts it, ``directory`` is there whole or not at all."""
    environment = _updated_apt()
    downloads = CACHE / "downloads"
    new = directory.with_name(f".{directory.name}.new")
    for path in (downloads, new):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    run(
        ["apt-get", "download", "-qq", *(f"{package}/{wanted.suite}" for package in wanted.packages)],
        env=environment,
        cwd=downloads,
    )
    for archive in downloads.iterdir():
        run(["dpkg", "-x", str(archive), str(new)])
    shutil.rmtree(downloads)
    new.rename(directory)


def mirror() -> str:
    """The address from which this machine gets the main archive of its own suite.

    :raises RuntimeError: where its apt has none.
    """
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)[
        "VERSION_CODENAME"
    ].strip('"')
    targets = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)"])
    sites = [line.split()[1] for line in targets.splitlines() if line.split()[0] == release]
    if not sites:
        raise RuntimeError(f"apt of this machine has no source for {release}: apt-get indextargets says {targets!r}")
    return sites[0]


def acquire_settings() -> str:
    """How this machine's apt gets files (proxies, certificates, dates), fit for another apt.conf."""
    lines = run(["apt-config", "dump"]).splitlines(keepends=True)
    return "".join(
        line for line in lines if line.startswith("Acquire::") and not line.startswith("Acquire::IndexTargets")
    )


@functools.cache
def _updated_apt() -> dict[str, str]:
    """The environment in which apt knows the packages of all suites as they are now, and nothing of this machine's."""
    apt = CACHE / "apt"
    for name in ("parts", "preferences.d", "lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    site = mirror()
    (apt / "sources.list").write_text("".join(f"deb [signed-by={KEYRING}] {site} {suite} main\n" for suite in SUITES))
    configuration = apt / "apt.conf"
    configuration.write_text(
        acquire_settings()
        + f"""\
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "";
Dir::Etc "{apt}";
Dir::Etc::sourcelist "sources.list";
Dir::Etc::sourceparts "parts";
Dir::Etc::parts "parts";
Dir::Etc::preferencesparts "preferences.d";
Dir::State "{apt}";
Dir::State::lists "lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{apt}/cache";
"""
    )
    environment = os.environ | {"APT_CONFIG": str(configuration), "LC_ALL": "C"}
    run(["apt-get", "update", "-qq"], env=environment)
    return environment


def run(command: list[str], **options: t.Any) -> str:
    """What a command writes.

    :raises RuntimeError: where it fails; with what it wrote to standard error.
    """
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False, **options
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    for name, version in PROGRAMS:
        sys.stdout.write(f"{name} {version}: {program(name, version)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
