# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is killed at one of its calls, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import typing as t
from pathlib import Path


def killed(call: int, work: t.Callable[[], t.Any]) -> bool:
    """Work in a child that is killed before its n-th call that changes something; False where it had ended."""
    child = os.fork()
    if not child:
        left = call
        # Before Python 3.11 the methods of a path do not look at os any more.
        for place, name in [
            *((os, name) for name in ("write", "fchmod", "fsync", "unlink", "rmdir")),
            *((Path, name) for name in ("rename", "replace", "unlink")),
        ]:
            real = getattr(place, name)

            def counted(*arguments: t.Any, _real: t.Callable[..., t.Any] = real, **named: t.Any) -> t.Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return _real(*arguments, **named)

            setattr(place, name, counted)
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
