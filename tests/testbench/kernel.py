# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with a kernel of its own, systemd, and control groups of version 2 with all their controllers.

Containers share the kernel of this machine, where a limit of memory or a quota of CPU may have no effect. User-Mode
Linux is a kernel that runs as a program: it boots in seconds, kills for memory in earnest, and needs no privilege.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

from tests.testbench import engine, image
from tests.testbench.packages import ROOT, program, run

CACHE = ROOT / ".cache" / "kernel"
SUITE = "trixie"
DISK = "700M"
SECONDS = 300
_UNIT = """\
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh /opt/begin.sh
ExecStopPost=/bin/systemctl poweroff --force --force
"""
# Nothing but what a unit needs, and then ours.
_TARGET = """\
[Unit]
Requires=basic.target begin.service
After=basic.target
AllowIsolate=yes
"""
# Where the folder is stands on the kernel's command line. Files are read through hostfs as this user reads them.
_BEGIN = """\
share=$(sed 's/.*njord.share=\\([^ ]*\\).*/\\1/' /proc/cmdline)
mount -t hostfs none /mnt -o "$share"
cd /mnt
ip link set lo up
/bin/sh -eu run.sh >output 2>&1
echo $? >code
sync
"""


def boot(directory: Path, script: str, memory: str = "512M") -> str:
    """What a shell script says that runs as root on such a machine, with ``directory`` as /mnt and its folder.

    :raises RuntimeError: where it fails, or the machine does not end; with what both said.
    """
    directory.mkdir(exist_ok=True, parents=True)
    (directory / "run.sh").write_text(script)
    console = directory / "console.log"
    command: list[str] = [
        # It tells who takes its CPU; what runs beside it on this machine is not to be that.
        *("nice", "-n", "-15"),
        str(program("linux.uml")),
        f"ubd0={directory}/changes.cow,{_disk()}",
        *("root=/dev/ubda", "rw", f"mem={memory}", "init=/lib/systemd/systemd", "con=null", "con0=null,fd:1"),
        f"njord.share={directory}",
    ]
    with console.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, "TMPDIR": str(directory), "HOME": str(directory)},
            start_new_session=True,
        )
        try:
            process.wait(SECONDS)
        except BaseException:
            os.killpg(process.pid, 9)
            process.wait()
            raise
    said = (directory / "output").read_text() if (directory / "output").exists() else ""
    code = (directory / "code").read_text().strip() if (directory / "code").exists() else "nothing"
    (directory / "changes.cow").unlink(missing_ok=True)
    if code != "0":
        raise RuntimeError(f"run.sh ended with {code}: {said}\n{console.read_text(errors='replace')[-4000:]}")
    return said


def _disk() -> Path:
    """The file system of a Debian host, made once from the image of the containers."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        # Parts of the tests run side by side.
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine.start()
        image.build(SUITE)
        name = f"{image.NAME}:{SUITE}"
        made = run(["docker", "image", "inspect", "--format", "{{.Id}}", name]).strip().rpartition(":")[2]
        disk = CACHE / f"{made[:12]}.ext4"
        if not disk.exists():
            for old in CACHE.glob("*.ext4"):
                old.unlink()
            _make(name, disk)
    return disk


def _make(name: str, disk: Path) -> None:
    root, archive = CACHE / "root", CACHE / "root.tar"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    container = run(["docker", "create", name, "true"]).strip()
    run(["docker", "export", "--output", str(archive), container])
    run(["docker", "rm", container])
    run(["tar", "--extract", "--file", str(archive), "--directory", str(root)])
    units = root / "etc/systemd/system"
    (units / "begin.service").write_text(_UNIT)
    (units / "begin.target").write_text(_TARGET)
    (units / "default.target").symlink_to("begin.target")
    (root / "opt/begin.sh").write_text(_BEGIN)
    (root / "etc/fstab").write_text("")
    (root / ".dockerenv").unlink(missing_ok=True)
    # What a first start would do for the caches of the system is not done.
    for directory in ("etc", "var"):
        (root / directory / ".updated").touch()
    new = disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(root), str(new), DISK])
    new.rename(disk)
    shutil.rmtree(root)
    archive.unlink()


def collection(directory: Path) -> t.Mapping[str, str]:
    """Puts the plugins below ``directory``, for a Python there that has no Ansible; the environment it needs."""
    place = directory / "ansible_collections" / "njord" / "telemetry"
    if not place.exists():
        shutil.copytree(ROOT / "plugins", place / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": "/mnt", "PYTHONDONTWRITEBYTECODE": "1"}
