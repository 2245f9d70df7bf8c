# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What a part of a backup is worth: *verified*, then *proven*, or *damaged* and by what.

Damage is what the part says by itself. Where nobody could look (no program, no room, a server that does not come up)
nothing is known about it, and that is an error of the one who looked: :class:`~.scratch.Failed`,
:class:`~.create.NoRoom`, :class:`OSError`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path

from .._http import HttpError, Refused, first_line
from .._units import human_duration
from . import counts
from .catalogue import DAMAGED, PROVEN, VERIFIED, State
from .create import NoRoom
from .figures import difference
from .lay import Owner, lay
from .manifest import Damaged, File, Part
from .scratch import OF_THE_HOST, DataRefused, Failed, Tools, environment, leashed, serve
from .store import Store

PROMETHEUS, JOURNALS = "prometheus", "journals"
NOTHING_KNOWN = State()

# Beside what is laid out: the log of a server, what it writes while it is empty.
_SPARE = 64 << 20
# A disk that cannot give back what it was given.
_ROTTEN = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
# The slowest promtool that still works.
_BLOCK_SECONDS, _BYTES_PER_SECOND = 120.0, 2e6
# What the manifest and meta.json must agree on, by their names in each.
_FACTS = {"min_time": ("minTime",), "max_time": ("maxTime",), "samples": ("stats", "numSamples")}

Figures = t.Callable[[Path], t.Dict[str, t.Any]]


def can_be_proven(part: Part) -> bool:
    """Whether more can be known of it than that it is as it was stored."""
    return part.source == PROMETHEUS or (
        part.source == JOURNALS and any(name in part.facts for name in ("figures", "figures_error"))
    )


def verify(
    store: Store,
    part: Part,
    tools: Tools | None,
    scratch: Path,
    now: float,
    former: State = NOTHING_KNOWN,
    jobs: int = 2,
) -> State:
    """Reads everything: each file by its hash, each block by promtool and against the manifest.

    What was proven stays so: it is the same, bit by bit. So does what a proof found wrong.

    :param tools: None where there are none: then blocks that nobody has looked at stay *written*.
    :param scratch: an empty directory on the store's file system.
    :param now: unix seconds.
    :param former: what was known of the part.
    :raises Failed: where promtool could not look.
    """
    blank = State(can_be_proven=can_be_proven(part))
    reason = _first(_wrong_files(store, part, jobs), "files")
    if not reason and part.source == PROMETHEUS:
        if tools is None and not former.verified:
            if former.level == DAMAGED:
                return former
            return dataclasses.replace(blank, reason="its hashes are right; there is no promtool to check its blocks")
        if tools is not None:
            reason = _first(_wrong_blocks(store, part, tools, scratch, jobs), "blocks")
    if reason:
        return dataclasses.replace(blank, level=DAMAGED, reason=reason)
    if former.verified:
        return dataclasses.replace(former, verified=now, can_be_proven=blank.can_be_proven)
    return dataclasses.replace(blank, level=VERIFIED, verified=now)


def prove(
    store: Store,
    part: Part,
    tools: Tools | None,
    scratch: Path,
    now: float,
    run_as: Owner | None = None,
    former: State = NOTHING_KNOWN,
    figures: Figures | None = None,
) -> State:
    """Lays a part out as a restore would, and counts what it gives. One that was never verified is, before that.

    :param scratch: an empty directory on the store's file system.
    :param now: unix seconds.
    :param run_as: whose the files become, and as whom the scratch server runs; see :func:`~.scratch.serve`.
    :param figures: what journals in a directory count, to be compared with ``facts["figures"]``.
    :raises NoRoom: before anything is written, or where the room was taken meanwhile.
    :raises Failed: where there was no answer that says anything about the part.
    """
    state = former if former.verified else verify(store, part, tools, scratch, now, former)
    if not state.verified or not can_be_proven(part):
        return state
    obstacle = _obstacle(part, tools, figures)
    if obstacle:
        # What an earlier proof found stays.
        return dataclasses.replace(state, reason=obstacle) if state.level == VERIFIED else state
    _require_room(part, scratch)
    with _fresh(scratch / "proof") as directory:
        try:
            lay(store, part, directory, run_as)
        except (Damaged, OSError) as error:
            return _not_laid(store, part, scratch, error)
        if part.source == PROMETHEUS and tools is not None:
            reason = _wrong_counts(part, tools, directory, run_as)
        else:
            reason = _wrong_figures(part, directory, figures)
    if reason:
        # With the time: its files are right, and verifying them again does not make it better.
        return State(DAMAGED, verified=now, reason=reason)
    return State(PROVEN, verified=now, proven=now)


def check_blocks(tools: Tools, directory: Path, ulids: t.Iterable[str], jobs: int = 2) -> dict[str, str]:
    """Why blocks cannot be used, by their ULID; the others are whole. Nothing is written into the directory.

    :raises Failed: where promtool could not look.
    """
    # promtool makes a directory beside the blocks, and follows links inside of them.
    with tempfile.TemporaryDirectory(prefix="njord-blocks-") as name:
        mirror = Path(name)

        def check(ulid: str) -> str:
            block = directory / ulid
            if not block.is_dir():
                return "it is absent"
            (mirror / ulid).mkdir()
            for entry in block.iterdir():
                (mirror / ulid / entry.name).symlink_to(entry.absolute())
            size = sum(path.stat().st_size for path in block.rglob("*") if path.is_file())
            return _analyze(tools, mirror, ulid, _BLOCK_SECONDS + size / _BYTES_PER_SECOND)

        wanted = list(ulids)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            reasons = dict(zip(wanted, pool.map(check, wanted)))
    return {ulid: reason for ulid, reason in reasons.items() if reason}


def _wrong_files(store: Store, part: Part, jobs: int) -> dict[str, str]:
    """Why a file is not what was stored, by its path."""
    # Some are the same in every block.
    alike: dict[tuple[str, int], list[File]] = {}
    for file in part.files:
        alike.setdefault((file.sha256, file.size), []).append(file)

    def check(file: File) -> str:
        try:
            store.check(file)
        except Damaged as error:
            return str(error)
        except OSError as error:
            if error.errno not in _ROTTEN:
                raise
            return f"{file.path} cannot be read: {error.strerror} (object {file.sha256})"
        return ""

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        reasons = list(pool.map(check, (files[0] for files in alike.values())))
    return {file.path: reason for files, reason in zip(alike.values(), reasons) if reason for file in files}


def _wrong_blocks(store: Store, part: Part, tools: Tools, scratch: Path, jobs: int) -> dict[str, str]:
    """Why a block cannot be used, by its ULID."""
    expected = {row["ulid"]: row for row in part.facts["blocks"]}
    stored = {file.path.split("/", 1)[0] for file in part.files}
    reasons = {ulid: f"block {ulid}: it is absent" for ulid in expected if ulid not in stored}
    reasons.update((ulid, f"{ulid}: the manifest has no such block") for ulid in stored if ulid not in expected)
    with _fresh(scratch / "blocks") as directory:
        for file in part.files:
            path = directory / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(store.path(file.sha256), path)
        whole = sorted(ulid for ulid in stored if ulid in expected)
        for ulid in whole:
            wrong = _wrong_meta(directory / ulid / "meta.json", expected[ulid])
            if wrong:
                reasons[ulid] = f"block {ulid}: {wrong}"
        left = [ulid for ulid in whole if ulid not in reasons]
        reasons.update(
            (ulid, f"block {ulid}: {why}") for ulid, why in check_blocks(tools, directory, left, jobs).items()
        )
    return reasons


def _wrong_meta(path: Path, row: t.Mapping[str, t.Any]) -> str:
    try:
        meta = json.loads(path.read_bytes())
        found = {"ulid": meta["ulid"]}
        for name, keys in _FACTS.items():
            value = meta
            for key in keys:
                value = value[key]
            found[name] = value
    except FileNotFoundError:
        return "it has no meta.json"
    except ValueError:
        return "its meta.json is no JSON"
    except (KeyError, TypeError) as error:
        return f"its meta.json is none of Prometheus ({error})"
    return next(
        (f"its meta.json says {key} {found[key]}, the manifest {row[key]}" for key in found if found[key] != row[key]),
        "",
    )


def _analyze(tools: Tools, directory: Path, ulid: str, timeout: float) -> str:
    """What promtool finds wrong with a block when it reads all of it."""
    command = [tools.promtool, "tsdb", "analyze", "--extended", str(directory), ulid]
    try:
        done = subprocess.run(
            leashed(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"promtool was not through with block {ulid} after {human_duration(timeout)}") from None
    except OSError as error:
        raise Failed(f"promtool cannot be started: {error}") from error
    if not done.returncode:
        return ""
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    crash = [line for line in said if line.startswith(("panic:", "fatal error:"))]
    line = [*said[-1:], *crash[:1]][-1] if said else f"promtool ended with {done.returncode}"
    reason = first_line(line.replace(f"{directory}/", ""), most=500)
    # Ended by a signal, as where memory is short.
    if done.returncode < 0 or any(words in reason.lower() for words in OF_THE_HOST):
        raise Failed(f"promtool could not check block {ulid}: it ended with {done.returncode}: {reason}")
    return reason


def _not_laid(store: Store, part: Part, scratch: Path, error: Exception) -> State:
    """What it says about a part that it could not be laid out; the error, where that is nothing."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise NoRoom(f"{scratch} has no room for the {part.size} bytes of {part.name}") from error
    reason = _first(_wrong_files(store, part, jobs=2), "files")
    if not reason:
        raise error
    return State(DAMAGED, reason=reason)


def _obstacle(part: Part, tools: Tools | None, figures: Figures | None) -> str:
    """Why a part cannot be proven although one like it can."""
    facts = part.facts
    if part.source == PROMETHEUS:
        if not part.files:
            return "there is no block in it"
        if not facts.get("counts"):
            return str(facts.get("counts_error") or "nothing was counted when it was made")
        return "" if tools else "there is no Prometheus to prove it with"
    if "figures" not in facts:
        return str(facts["figures_error"])
    return "" if figures else "nobody counted it again"


def _wrong_counts(part: Part, tools: Tools, directory: Path, run_as: Owner | None) -> str:
    expected: counts.Counts = part.facts["counts"]
    lookback = float(part.facts.get("lookback_seconds") or counts.LOOKBACK_SECONDS)
    try:
        with serve(tools, directory, lookback, run_as) as prometheus:
            found = counts.count(prometheus, map(int, expected))
    except DataRefused as error:
        return f"a scratch server does not start on it: {error}"
    except Refused as error:
        # Where it cannot read a chunk it does not say of which block; another reason is none against the backup.
        wrong = check_blocks(tools, directory, (row["ulid"] for row in part.facts["blocks"]))
        if not wrong:
            raise Failed(f"a scratch server cannot count: {error}") from error
        return _first({ulid: f"block {ulid}: {why}" for ulid, why in wrong.items()}, "blocks")
    except HttpError as error:
        raise Failed(f"a scratch server cannot count: {error}") from error
    except Failed as error:
        raise Failed(f"no scratch server: {error}") from error
    return counts.difference(expected, found)


def _wrong_figures(part: Part, directory: Path, figures: Figures | None) -> str:
    # As the manifest has them.
    return difference(part.facts["figures"], json.loads(json.dumps(figures(directory) if figures else {})))


def _require_room(part: Part, scratch: Path) -> None:
    needed = part.size + _SPARE
    status = os.statvfs(scratch)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise NoRoom(f"to prove {part.name} needs {needed} bytes in {scratch}, and {free} are free")


def _first(reasons: dict[str, str], kind: str) -> str:
    """The first one, and how many there are."""
    if not reasons:
        return ""
    first = reasons[min(reasons)]
    return first if len(reasons) == 1 else f"{first}; {len(reasons)} {kind} are damaged"


@contextlib.contextmanager
def _fresh(directory: Path) -> t.Iterator[Path]:
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
