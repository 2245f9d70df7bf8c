# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system of its own, so small that it fills up."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t
from pathlib import Path


@contextlib.contextmanager
def small_disk(directory: Path, options: str) -> t.Iterator[Path]:
    """
    :param options: of a tmpfs, such as ``size=8m``.
    """
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)
