# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine has of its own: files that no package owns, users, groups, units.

``traces.py NEW`` writes it; ``traces.py NEW OLD`` also says what is in NEW and was not in OLD, and fails when there is
anything.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

# Made by whatever runs at any moment: caches, logs, the package manager's own notes, the trading system's files, and
# what the libraries of a package removed put there, which stay until apt autoremove.
PASSING = {
    *("var/cache", "var/lib/apt", "var/lib/dpkg", "var/lib/redis", "var/lib/systemd", "var/log", "var/tmp"),
    *(
        "etc/alternatives",
        "etc/lighttpd",
        "etc/group-",
        "etc/gshadow-",
        "etc/passwd-",
        "etc/shadow-",
        "etc/subgid-",
        "etc/subuid-",
    ),
    *("opt/njord_quant", "root/.ansible"),
}


def owned_by_packages() -> set[str]:
    lists = pathlib.Path("/var/lib/dpkg/info").glob("*.list")
    owned = {pathlib.Path(line) for path in lists for line in path.read_text().splitlines()}
    # /lib is a link to /usr/lib, and packages name either.
    return {str(path.parent.resolve() / path.name) for path in owned}


def files() -> list[str]:
    owned = owned_by_packages()
    return [path for path in below(pathlib.Path("/")) if path not in owned]


def below(directory: pathlib.Path) -> t.Iterator[str]:
    """All paths of this file system: what is mounted in it is not part of the machine."""
    device = directory.stat().st_dev
    for entry in os.scandir(directory):
        if entry.path.lstrip("/") in PASSING or entry.name == "__pycache__":
            continue
        yield entry.path
        if entry.is_dir(follow_symlinks=False) and entry.stat().st_dev == device:
            yield from below(pathlib.Path(entry.path))


def names(*command: str) -> list[str]:
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted({line.replace(":", " ").split()[0] for line in lines if line.strip()})


new = {
    "files": files(),
    "users": names("getent", "passwd"),
    "groups": names("getent", "group"),
    "units": names("systemctl", "list-unit-files", "--no-legend", "--plain"),
    "running": names("systemctl", "list-units", "--type=service", "--state=running,failed", "--no-legend", "--plain"),
}
pathlib.Path(sys.argv[1]).write_text(json.dumps(new))
if sys.argv[2:]:
    old = json.loads(pathlib.Path(sys.argv[2]).read_text())
    left = {kind: sorted(set(new[kind]) - set(old[kind])) for kind in new}
    sys.exit(json.dumps(left, indent=1) if any(left.values()) else 0)
