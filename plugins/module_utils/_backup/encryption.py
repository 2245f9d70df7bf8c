# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Secrets, encrypted by ``age`` to the public keys of others: what opens them is never on this host.

The plain text goes from memory into a pipe, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

from .._http import first_line
from .create import Failed
from .scratch import environment

SUFFIX = ".age"
# The slowest host that still works.
_SECONDS = 120.0
_PUBLIC = re.compile(r"age1[0-9a-z]+|ssh-(?:ed25519|rsa) [A-Za-z0-9+/]+={0,2}")
_PRIVATE = re.compile(r"AGE-SECRET-KEY-|AGE-PLUGIN-|PRIVATE KEY", re.IGNORECASE)
_WOULD_DO = "an age public key (age1...) or an SSH public key (ssh-ed25519 or ssh-rsa) would do"

Scratch = t.Callable[[str], t.ContextManager[Path]]


@dataclasses.dataclass(frozen=True)
class Age:
    """
    :param recipients: public keys, as ``age -r`` takes them, in order.
    :param scratch: makes an empty directory of a name, which goes again.
    """

    program: str
    recipients: tuple[str, ...]
    scratch: Scratch

    @property
    def mark(self) -> str:
        """Another one for other recipients."""
        return hashlib.sha256("\n".join(self.recipients).encode()).hexdigest()[:16]

    def encrypt(self, content: bytes, target: Path) -> None:
        """Writes what only the recipients can read.

        :param target: is not there yet.
        :raises Failed: where age does not.
        """
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as new:
            wrong = _run(self.program, self.recipients, content, new)
        if wrong:
            raise Failed(f"age could not encrypt: {wrong}")


def find(recipients: t.Iterable[str], scratch: Scratch) -> Age | None:
    """What encrypts to these public keys, each of which age itself was asked about; None where there are none.

    :raises ValueError: where one is none, a clause that names it; a private key is not quoted.
    :raises Failed: where there is no age.
    """
    keys = [_public(number, value) for number, value in enumerate(recipients, 1)]
    if not keys:
        return None
    program = shutil.which("age")
    if not program:
        raise Failed("there is no program age in PATH to encrypt secrets with; apt install age would do")
    for key in keys:
        wrong = _run(program, [key], b"", subprocess.DEVNULL)
        if wrong:
            raise ValueError(f"{key!r} is not accepted by age: {wrong}; {_WOULD_DO}")
    return Age(program, tuple(sorted(set(keys))), scratch)


def _public(number: int, value: str) -> str:
    """The key without the comment that SSH puts after it."""
    if _PRIVATE.search(value):
        raise ValueError(
            f"number {number} is a private key, which must never be on this host: take it for known to others, make a"
            f" new one elsewhere, and give its public key"
        )
    key = " ".join(value.split()[: 2 if value.lstrip().startswith("ssh-") else None])
    if not _PUBLIC.fullmatch(key):
        raise ValueError(f"{value!r} is no public key; {_WOULD_DO}")
    return key


def _run(program: str, recipients: t.Iterable[str], content: bytes, target: int | t.BinaryIO) -> str:
    """What age found wrong; empty where all is well.

    :raises Failed: where it cannot be run, or does not end.
    """
    command = [program, "--encrypt", *(word for key in recipients for word in ("--recipient", key))]
    try:
        done = subprocess.run(
            command,
            input=content,
            stdout=target,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{program} was not through after {_SECONDS:.0f} s") from None
    except OSError as error:
        raise Failed(f"{program} cannot be started: {error.strerror}") from None
    if not done.returncode:
        return ""
    said = first_line(done.stderr.decode("utf-8", "replace")).replace("age: error: ", "")
    return said or f"it ended with {done.returncode}"
