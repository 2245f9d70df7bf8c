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

# Not part of the machine, or made by whatever runs at any moment: caches, logs, the package manager's own notes.
PASSING = (
    *("/dev", "/proc", "/run", "/sys", "/tmp", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd"),
    *("/var/log", "/var/tmp", "/root/.ansible", "/etc/alternatives", "/var/lib/redis", "/opt/njord_quant"),
    *("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-"),
)


def owned_by_packages() -> set[str]:
    lists = pathlib.Path("/var/lib/dpkg/info").glob("*.list")
    owned = {line for path in lists for line in path.read_text().splitlines()}
    # /lib is a link to /usr/lib, and packages name either.
    return owned | {os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path) for path in owned}


def files() -> list[str]:
    owned = owned_by_packages()
    found = []
    for directory, directories, names in os.walk("/"):
        paths = {name: os.path.join(directory, name) for name in directories + names}
        directories[:] = [name for name in directories if paths[name] not in PASSING and name != "__pycache__"]
        found += [
            path for name, path in paths.items() if path not in owned and path not in PASSING and name != "__pycache__"
        ]
    return sorted(found)


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
