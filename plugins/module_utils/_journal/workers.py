# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Work in several processes. Whichever is killed, the parent or one of them, the others do not wait for it for ever.

A pool of the standard library never ends when one of its processes is killed, and the lock of the directory neither.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import typing as t
from multiprocessing.connection import wait

if t.TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_LOST = "a process of this run was killed"


@contextlib.contextmanager
def without_collector() -> t.Iterator[None]:
    """For millions of small objects, none of them in a circle: to look for those takes up to a fifth longer."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def each(work: t.Callable[[t.Any], t.Any], items: t.Sequence[t.Any], processes: int) -> t.Iterator[t.Any]:
    """What becomes of each item, in any order.

    :raises OSError: where a process was killed.
    """
    processes = min(processes, len(items))
    if processes < 2:
        yield from map(work, items)
        return
    left = iter(items)
    busy: dict[Connection, BaseProcess] = {}
    try:
        for _process, item in zip(range(processes), left):
            connection, process = _start(work, list(busy))
            busy[connection] = process
            _send(connection, item)
        while busy:
            for connection in t.cast("list[Connection]", wait(list(busy))):
                value, error = _receive(connection)
                if error is not None:
                    raise error
                try:
                    _send(connection, next(left))
                except StopIteration:
                    _end(connection, busy.pop(connection))
                yield value
    finally:
        for connection, process in busy.items():
            process.terminate()
            _end(connection, process)


def _start(work: t.Callable[[t.Any], t.Any], others: list[Connection]) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    # A process that holds the parent's end of a pipe would not see its own closed when the parent is killed.
    process = context.Process(target=_serve, args=(work, theirs, [ours, *others]), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _serve(work: t.Callable[[t.Any], t.Any], connection: Connection, others: list[Connection]) -> None:
    for other in others:
        other.close()
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionError):
            return
        answer: tuple[t.Any, Exception | None]
        try:
            answer = (work(item), None)
        except Exception as error:
            answer = (None, error)
        try:
            connection.send(answer)
        except ConnectionError:
            return


def _end(connection: Connection, process: BaseProcess) -> None:
    connection.close()
    process.join()


def _send(connection: Connection, item: t.Any) -> None:
    try:
        connection.send(item)
    except ConnectionError as error:
        raise OSError(_LOST) from error


def _receive(connection: Connection) -> t.Any:
    try:
        return connection.recv()
    except (EOFError, ConnectionError) as error:
        raise OSError(_LOST) from error
