# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of a host that runs systemd, built from Debian packages: no registry is asked.

``python -m tests.testbench.image trixie bookworm`` builds ``njord-telemetry-host:trixie`` and ``:bookworm``
where they are not there as this file describes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from tests.testbench.packages import ROOT, acquire_settings, mirror, run

CACHE = ROOT / ".cache" / "images"
NAME = "njord-telemetry-host"
# What a person finds on any Debian server, and Ansible needs there.
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-apt,ca-certificates,iproute2,procps,cron"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
LABEL = "njord.recipe"


def build(suite: str) -> None:
    """The image gets packages the way this machine does: its mirror, proxies and certificates."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        # Parts of the tests run side by side.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build(suite)


def _build(suite: str) -> None:
    certificates = sorted(CERTIFICATES.glob("*.crt"))
    configuration = acquire_settings()
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}"]
    if certificates:
        command += [
            f"--customize-hook=copy-in {' '.join(map(str, certificates))} {CERTIFICATES}",
            '--customize-hook=chroot "$1" update-ca-certificates',
        ]
    command += [suite, "{archive}", mirror()]
    recipe = hashlib.sha256("\n".join([*command, configuration]).encode()).hexdigest()
    if _recipe_of(suite) == recipe:
        return
    sys.stderr.write(f"Building the image {NAME}:{suite}\n")
    run([str(ROOT / "tests/testbench/debian.sh"), "mmdebstrap", "debian-archive-keyring"])
    options = CACHE / "apt.conf"
    options.write_text(configuration)
    archive = CACHE / f"{suite}.tar"
    command[1:1] = [f"--aptopt={options}"]
    run([word.replace("{archive}", str(archive)) for word in command])
    run(["docker", "import", "--change", f"LABEL {LABEL}={recipe}", str(archive), f"{NAME}:{suite}"])
    archive.unlink()


def _recipe_of(suite: str) -> str:
    inspect = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', f"{NAME}:{suite}"]
    return subprocess.run(inspect, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        build(wanted)
