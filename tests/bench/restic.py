# SPDX-License-Identifier: GPL-3.0-or-later
"""The real restic of Debian, with a repository in a directory."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

from tests.testbench.packages import program

VERSION = "0.18"
NAME = f"restic {VERSION}, which encrypts and compresses"


@dataclasses.dataclass(frozen=True)
class Restic:
    """:param directory: for the repository, the password and the cache."""

    directory: Path

    @property
    def repository(self) -> Path:
        return self.directory / "repository"

    def init(self) -> None:
        self.directory.mkdir(parents=True)
        (self.directory / "password").write_text("bench")
        self.run("init")

    def run(self, *words: str) -> None:
        """Does something, and returns once it stays."""
        environment = {
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_PASSWORD_FILE": str(self.directory / "password"),
            "RESTIC_CACHE_DIR": str(self.directory / "cache"),
            "PATH": "/usr/bin:/bin",
        }
        command = [str(program("restic", VERSION)), "--quiet", *words]
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        subprocess.run(["sync", "-f", self.repository], check=True)
