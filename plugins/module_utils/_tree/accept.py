# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Who says whether new files are good: programs before they are put in place, the service that reads them after."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import tempfile
import typing as t
from pathlib import Path

from .._finding import Finding
from .._http import HttpError, Server
from .tree import Refused
from .wanted import File

# A server may need long to read its rules; a command that hangs must not hang the run for ever.
TIMEOUT_SECONDS = 120
SHOWN_CHARACTERS = 4000
# What separates a password from the name before it, in YAML, INI and environment files.
SEPARATORS = re.compile(r"[\s\"',=:{}\[\]]+")
SHORTEST_SECRET = 6


@dataclasses.dataclass(frozen=True)
class Reload:
    """How the service that reads the files is told: by a command, or by a POST.

    :param secret_files: by ``password`` and ``token``; read when the service is told, as they may be among the files.
    :param only_if: a command; where it fails nothing runs that could be told.
    """

    command: t.Sequence[str] = ()
    server: Server | None = None
    secret_files: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    only_if: t.Sequence[str] = ()

    @property
    def subject(self) -> str:
        return f"POST {self.server.url}" if self.server else shlex.join(self.command)

    def is_due(self) -> bool:
        if not self.only_if:
            return True
        try:
            return _run(self.only_if)[0] == 0
        except FileNotFoundError:
            return False

    def __call__(self) -> None:
        """
        :raises Refused: with the reason.
        """
        try:
            if self.server:
                secrets: dict[str, t.Any] = {
                    kind: Path(path).read_text("utf-8").strip() for kind, path in self.secret_files.items()
                }
                dataclasses.replace(self.server, **secrets).post("")
                return
            code, output = _run(self.command)
        except (HttpError, OSError, UnicodeDecodeError) as error:
            raise Refused(str(error)) from error
        if code:
            raise Refused(f"{self.subject} ended with {code}: {output}")


def validate(
    files: t.Mapping[str, File], commands: t.Sequence[t.Sequence[str]], path: str, temporary: str, first: bool
) -> list[Finding]:
    """Runs every command with the new files in a directory of their own, ``%s`` in its words.

    :param path: the destination, which the output names instead of that directory.
    :param temporary: where that directory may be made; it is gone afterwards.
    :param first: True where a program may be missing because a run would install it first.
    :returns: ``ok``, ``critical`` where refused, ``unknown`` or ``critical`` where the program is missing.
    """
    findings = []
    with tempfile.TemporaryDirectory(dir=temporary) as staged:
        for name, file in files.items():
            location = Path(staged, name)
            location.parent.mkdir(parents=True, exist_ok=True)
            location.touch(0o600)
            location.write_bytes(file.content)
        for command in commands:
            shown = shlex.join(command).replace("%s", path)
            try:
                code, output = _run([word.replace("%s", staged) for word in command])
            except FileNotFoundError:
                findings.append(_missing(command[0], first))
                continue
            output = _without_secrets(output.replace(staged, path), files)
            if code:
                summary = f"{shown} refuses the new files with {code}: {output}"
                findings.append(Finding("file_tree.validate", path, "critical", summary, {"output": output}))
            else:
                findings.append(Finding("file_tree.validate", path, "ok", f"{shown} accepts the new files."))
    return findings


def _missing(program: str, first: bool) -> Finding:
    if first:
        return Finding("file_tree.validate", program, "unknown", "not installed yet")
    return Finding("file_tree.validate", program, "critical", f"{program} is not installed, so the files are unproven")


def _run(command: t.Sequence[str]) -> tuple[int, str]:
    """Exit code and the end of what was said; a command that hangs is ended with -1."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {TIMEOUT_SECONDS} s"
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()[-SHOWN_CHARACTERS:]


def _without_secrets(text: str, files: t.Mapping[str, File]) -> str:
    words = {
        word
        for file in files.values()
        if file.secret
        for word in SEPARATORS.split(file.content.decode("utf-8", "replace"))
        if len(word) >= SHORTEST_SECRET
    }
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "(hidden)")
    return text
