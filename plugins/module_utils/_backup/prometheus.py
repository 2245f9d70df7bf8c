# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The blocks of a Prometheus, by way of a snapshot that it makes itself; never its live directory.

A snapshot pins disk space until somebody removes it, and Prometheus never does. So a note is written before one is
asked for, and whoever comes after a crash removes that one, and none that somebody else made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import re
import shutil
import stat
import time
import typing as t
from pathlib import Path

from .. import _storage
from .._http import HttpError
from .._prometheus import Prometheus
from .._units import duration, human_duration
from . import counts
from .create import Candidate, Draft, Failed
from .lay import names
from .manifest import Damaged, Directory, seal, unseal
from .store import sync_directory, write_file

# The head is written as a block: minutes where it is large and the disk is slow. A count reads every series.
PATIENCE_SECONDS = 600.0
# So soon after the note the server has made the snapshot, or never will.
_BEGUN_SECONDS = 60.0
_NOTE = "prometheus-snapshot-"
_SNAPSHOTS = "snapshots"
_SNAPSHOT = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{16}")
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
# Prometheus writes them once; the others of a block are replaced, as when series are deleted.
_IMMUTABLE = re.compile(r"index|chunks/\d+")
_SCRAPE_TIMEOUT = re.compile(r"^[ -]*scrape_timeout: (\S+)$", re.MULTILINE)
_OUT_OF_ORDER = re.compile(r"^ *out_of_order_time_window: (\S+)$", re.MULTILINE)
# Flags by which others may write into the server, and what is in them then.
_RECEIVERS = (
    ("web.enable-remote-write-receiver", "true"),
    ("web.enable-otlp-receiver", "true"),
    ("enable-feature", "write-receiver"),
)


def resolve(prometheus: Prometheus, unit: str, show: t.Callable[[str], str], given: str = "") -> str:
    """Where the server keeps its data, absolute: as was given, else as the server says, else as its unit would have it.

    :param show: gives the text of a unit and its drop-ins (``systemctl cat``), empty where there is none.
    :param given: wins, but must not be another directory than the server's, where that is on this host.
    :raises Failed: where nobody says, or the server's is not on this host.
    """
    if given and not given.startswith("/"):
        raise Failed(f"prometheus_data_directory: {given!r} is not absolute; /var/lib/prometheus would do")
    url = prometheus.server.url
    try:
        # A relative one begins where the process runs, wherever that is.
        said = os.path.normpath(str(Path(prometheus.runtime()["CWD"], prometheus.flags()["storage.tsdb.path"])))
    except (HttpError, KeyError) as error:
        reason = error if isinstance(error, HttpError) else f"the server does not say {error}"
        found = given or _storage.in_force(prometheus, unit, show).directory
        if not found:
            raise Failed(
                f"where Prometheus keeps its data is not known: {reason}, and unit {unit} says no absolute"
                " --storage.tsdb.path; prometheus_data_directory would say"
            ) from error
        return os.path.normpath(found)
    is_here = Path(said).is_dir()
    if given and is_here and not _is_same(given, said):
        raise Failed(
            f"prometheus_data_directory is {given}, and the server at {url} keeps its data in {said}; one of the two"
            " is not the one that is meant"
        )
    if not given and not is_here:
        raise Failed(
            f"the server at {url} keeps its data in {said}, and there is no such directory on this host; where it runs"
            " in a container, prometheus_data_directory is the directory of its volume here"
        )
    return os.path.normpath(given or said)


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return os.path.normpath(one) == os.path.normpath(other)


class PrometheusSource:
    """
    :param data_directory: as :func:`resolve` gives it.
    :param notes: a directory that stays, for the note about a snapshot; nobody else is at work there.
    """

    name = "prometheus"

    def __init__(self, prometheus: Prometheus, data_directory: str, notes: Path) -> None:
        self._prometheus = prometheus
        self._directory = Path(data_directory)
        self._notes = notes

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        """One part, out of a snapshot that is gone afterwards.

        ``facts``, times in milliseconds: ``version``, ``lookback_seconds``, ``retention``, ``blocks`` (``ulid``,
        ``min_time``, ``max_time``, ``samples``, ``series``, ``chunks``), ``samples``, ``min_time``, ``max_time``,
        ``counts`` (see :func:`~.counts.count`) and, where it is empty, why: ``counts_error``; ``owner``, ``group``
        and ``mode`` of the data directory; ``remarks``, sentences about what is not in the backup or was left behind.

        :raises Failed: where there is no snapshot, nothing in it, or a block of it that is not whole.
        """
        if not self._directory.is_dir():
            raise Failed(f"{self._directory} is no directory; prometheus_data_directory would say where the data are")
        remarks = recover(self._notes)
        try:
            flags = self._prometheus.flags()
            if flags.get("web.enable-admin-api") == "false":
                raise Failed(self._admin_api_off())
            facts: dict[str, t.Any] = {
                "version": self._prometheus.version(),
                "lookback_seconds": duration(flags.get("query.lookback-delta", f"{counts.LOOKBACK_SECONDS}s")),
                "retention": self._prometheus.runtime().get("storageRetention", ""),
            }
        except (HttpError, ValueError) as error:
            raise Failed(f"Prometheus cannot be backed up: {error}") from error
        with self._snapshot() as snapshot:
            try:
                draft = self._draft(snapshot)
                facts.update(draft.facts, **self._counts(draft.facts["blocks"], facts["lookback_seconds"], flags))
                remarks += self._left_out({block["ulid"] for block in draft.facts["blocks"]})
            except OSError as error:
                raise Failed(f"snapshot {snapshot} cannot be read: {error}") from error
            yield [dataclasses.replace(draft, facts={**facts, "remarks": remarks})]

    @contextlib.contextmanager
    def _snapshot(self) -> t.Iterator[Path]:
        note = _Note.begin(self._notes, self._directory)
        try:
            name = self._patient().snapshot()
        except HttpError as error:
            reason = self._admin_api_off() if "admin APIs disabled" in error.came_back else str(error)
            # It answered, so it is through with whatever it had begun. Else the note stays for those who come later.
            said = _settle(note.path) if error.status is not None else ""
            raise Failed(f"Prometheus made no snapshot: {reason}" + (f". {said}" if said else "")) from error
        if not _SNAPSHOT.fullmatch(name):
            raise Failed(f"Prometheus says that its snapshot is {name!r}, which is no name of one")
        note = dataclasses.replace(note, snapshot=name)
        snapshot = self._directory / _SNAPSHOTS / name
        try:
            note.write()
            if not snapshot.is_dir():
                raise Failed(
                    f"the server at {self._prometheus.server.url} made snapshot {name}, but not in {self._directory}:"
                    " it keeps its data elsewhere, and the snapshot stays there; prometheus_data_directory would say"
                    " where"
                )
            yield snapshot
        finally:
            try:
                note.end()
            except OSError as error:
                raise Failed(f"snapshot {snapshot} cannot be removed, and takes space: {error}") from error

    def _draft(self, snapshot: Path) -> Draft:
        """Its facts are those that the files tell."""
        blocks: list[dict[str, t.Any]] = []
        directories: list[Directory] = []
        candidates: list[Candidate] = []
        for block in sorted(snapshot.iterdir()):
            if not _ULID.fullmatch(block.name) or block.is_symlink() or not block.is_dir():
                raise Failed(f"{block} is no block, and there is nothing else in a snapshot")
            blocks.append(_facts_of(block))
            for path, status in _walk(block):
                inside = str(path.relative_to(snapshot))
                owner, group = names(status)
                mode = stat.S_IMODE(status.st_mode)
                if stat.S_ISDIR(status.st_mode):
                    directories.append(Directory(inside, mode, owner, group))
                    continue
                key = key_of(inside, status.st_size, status.st_mtime_ns)
                candidates.append(Candidate(inside, path, status.st_size, mode, owner, group, status.st_mtime_ns, key))
        samples = sum(block["samples"] for block in blocks)
        if not samples:
            raise Failed(
                f"Prometheus has no samples yet in {self._directory}, so there is nothing to back up; after its first"
                " scrape there is"
            )
        status = self._directory.stat()
        owner, group = names(status)
        facts = {
            "blocks": sorted(blocks, key=lambda block: (block["min_time"], block["ulid"])),
            "samples": samples,
            "min_time": min(block["min_time"] for block in blocks),
            "max_time": max(block["max_time"] for block in blocks),
            "owner": owner,
            "group": group,
            "mode": stat.S_IMODE(status.st_mode),
        }
        return Draft(self.name, str(self._directory), tuple(directories), tuple(candidates), facts)

    def _counts(self, blocks: list[dict[str, t.Any]], lookback: float, flags: t.Mapping[str, str]) -> dict[str, t.Any]:
        """``counts`` of the live server, where it has the same samples as the snapshot, or why there are none."""
        patient = self._patient()
        try:
            configuration = patient.configuration()
            intervals = [rule.interval for rule in patient.rules()]
            # What is only in memory has no directory yet.
            head = [block["min_time"] for block in blocks if not (self._directory / block["ulid"]).is_dir()]
            last = settled(blocks, min(head, default=math.inf), flags, configuration, intervals)
            first = min(block["min_time"] for block in blocks)
            times = {time for time in counts.instants(blocks) if time <= last} | ({last} if last >= first else set())
            found = counts.count(patient, sorted(times))
            # Retention may have taken a block meanwhile, which the snapshot holds.
            oldest = patient.oldest()
        except (HttpError, ValueError) as error:
            return {"counts": {}, "counts_error": f"the server could not count its series: {error}"}
        since = math.inf if oldest is None else oldest * 1000
        if since > first:
            found = {time: table for time, table in found.items() if int(time) - lookback * 1000 > since}
        if any(found.values()):
            return {"counts": found}
        newest = max(block["max_time"] for block in blocks)
        age = human_duration((newest - last) / 1000)
        return {
            "counts": {},
            "counts_error": f"there was nothing to count yet that is older than {age}, and the server may still add"
            " samples to what is newer",
        }

    def _left_out(self, taken: t.Container[str]) -> list[str]:
        """Samples that the server has, or should have, and that no snapshot holds."""
        remarks = []
        for block in sorted(self._directory.iterdir()):
            if _ULID.fullmatch(block.name) and block.name not in taken:
                try:
                    _facts_of(block)
                except Failed as error:
                    # One that was merged into another while we looked is not missing.
                    if block.is_dir():
                        remarks.append(f"It is not in the backup, since Prometheus passes over it: {error}.")
        if any(map(_size, (self._directory / "wbl").glob("*"))):
            remarks.append(
                "Samples that came out of order since the last block was written are not in the backup: Prometheus"
                " puts them into no snapshot before they are in a block."
            )
        return remarks

    def _patient(self) -> Prometheus:
        server = self._prometheus.server
        return Prometheus(dataclasses.replace(server, timeout=max(server.timeout, PATIENCE_SECONDS)))

    def _admin_api_off(self) -> str:
        return (
            f"the admin API of the server at {self._prometheus.server.url} is off, and only it makes a snapshot; start"
            " the server with --web.enable-admin-api (prometheus_admin_api: true of the role prometheus, by site.yml)"
        )


def key_of(path: str, size: int, modified: int) -> str:
    """What a file of a block is known by: as long as it and the path stay the same, so does the content.

    :param path: relative to the data directory. :param modified: nanoseconds since the epoch.
    """
    ulid, _slash, inside = path.partition("/")
    return f"{ulid}:{size}" if _IMMUTABLE.fullmatch(inside) else f"{ulid}:{size}:{modified}"


def settled(
    blocks: t.Sequence[t.Mapping[str, t.Any]],
    head: float,
    flags: t.Mapping[str, str],
    configuration: str,
    intervals: t.Iterable[float],
) -> int:
    """The last millisecond of a snapshot to which the live server adds no more; before the first, if there is none.

    A scrape or a rule bears the time of its begin and is written at its end. What brings its own times may be half a
    block late (``tsdb/head.go``, appendableMinValidTime); where there is less than that, half of what there is counts.

    :param head: milliseconds; since then samples are in memory, where a snapshot leaves out those out of order.
    :param configuration: as the server gives it, with every default.
    :param intervals: of the rules, in seconds.
    :raises ValueError: where a duration is none.
    """
    first = min(int(block["min_time"]) for block in blocks)
    last = max(int(block["max_time"]) for block in blocks) - 1
    under_way = 2000 * max([0.0, *map(duration, _SCRAPE_TIMEOUT.findall(configuration)), *intervals])
    late = 500 * duration(flags.get("storage.tsdb.min-block-duration", "2h"))
    if not any(word in flags.get(flag, "") for flag, word in _RECEIVERS):
        late = min(late, (last - first) / 2)
    until = last - under_way - late
    window = max([0.0, *map(duration, _OUT_OF_ORDER.findall(configuration))])
    if window:
        until = min(until, head - 1000 * window - under_way)
    return math.floor(until)


def recover(notes: Path) -> list[str]:
    """Removes the snapshot that an interrupted backup left. The caller has the lock of the catalogue.

    :param notes: as for :class:`PrometheusSource`.
    :return: sentences about what had to be left; it is tried again the next time.
    """
    for left in notes.glob(f".{_NOTE}*"):
        left.unlink()
    return [said for said in map(_settle, sorted(notes.glob(f"{_NOTE}*"))) if said]


@dataclasses.dataclass(frozen=True)
class _Note:
    """That a snapshot is going to be, or was, made.

    :param known: the snapshots that were there before.
    :param time: unix seconds at which it was begun.
    :param snapshot: its name; empty as long as the server has not said.
    """

    path: Path
    directory: str
    known: tuple[str, ...]
    time: float
    snapshot: str = ""

    @classmethod
    def begin(cls, notes: Path, directory: Path) -> _Note:
        now = time.time()
        note = cls(notes / f"{_NOTE}{time.time_ns()}", str(directory), tuple(sorted(_snapshots(directory))), now)
        note.write()
        return note

    @classmethod
    def read(cls, path: Path) -> _Note:
        """
        :raises Damaged: where it is not what was written.
        """
        document = unseal(path.read_bytes())
        try:
            return cls(path, document["directory"], tuple(document["known"]), document["time"], document["snapshot"])
        except (KeyError, TypeError) as error:
            raise Damaged(f"it is no note: {error}") from error

    def write(self) -> None:
        document = dataclasses.asdict(self)
        del document["path"]
        write_file(self.path, seal(document))

    def mine(self) -> list[str]:
        """Snapshots that may be the one; where the server said its name, that one."""
        if self.snapshot:
            return [self.snapshot]
        begun = math.floor(self.time)
        new = _snapshots(Path(self.directory)).difference(self.known)
        return sorted(name for name in new if begun <= _made(name) <= self.time + _BEGUN_SECONDS)

    def end(self) -> None:
        """Removes the snapshot, if it is there, and then the note.

        :raises OSError: where it cannot be removed, or is none of a server's; then the note stays.
        """
        if self.snapshot:
            _remove(Path(self.directory), self.snapshot)
        self.path.unlink()
        sync_directory(self.path.parent)


def _settle(path: Path) -> str:
    """Ends what a note says was begun; a sentence, where that cannot be done."""
    try:
        note = _Note.read(path)
        mine = note.mine()
        if len(mine) > 1:
            return (
                f"One of the snapshots {', '.join(mine)} in {Path(note.directory, _SNAPSHOTS)} is of a backup that was"
                " interrupted; which, is not known. Remove it, and all are left alone."
            )
        # The server may be about to begin with one.
        if mine or time.time() > note.time + _BEGUN_SECONDS:
            dataclasses.replace(note, snapshot=mine[0] if mine else "").end()
    except Damaged as error:
        return (
            f"A backup was interrupted, and its note {path} cannot be read: {error}. Look for its snapshot in the data"
            " directory of Prometheus, and remove both."
        )
    except OSError as error:
        return f"A backup was interrupted, and its snapshot cannot be removed: {error}."
    return ""


def _snapshots(directory: Path) -> set[str]:
    try:
        return {entry.name for entry in (directory / _SNAPSHOTS).iterdir()}
    except FileNotFoundError:
        return set()


def _made(name: str) -> float:
    """Unix seconds at which a snapshot was begun; never, where its name is none of a server's."""
    found = _SNAPSHOT.fullmatch(name)
    try:
        return datetime.datetime.strptime(f"{found.group(1)}+0000", "%Y%m%dT%H%M%SZ%z").timestamp() if found else -1.0
    except ValueError:
        return -1.0


def _remove(directory: Path, name: str) -> None:
    """
    :raises OSError: where it is no snapshot of this directory, or cannot be removed.
    """
    snapshots = directory / _SNAPSHOTS
    if not _SNAPSHOT.fullmatch(name):
        raise OSError(f"{name!r} is no name of a snapshot")
    if snapshots.is_symlink():
        raise OSError(f"{snapshots} is a link, and may lead to what is none of Prometheus'")
    snapshot = snapshots / name
    # A link of that name is refused by rmtree.
    if os.path.lexists(snapshot):
        shutil.rmtree(snapshot)
        sync_directory(snapshots)


def _facts_of(block: Path) -> dict[str, t.Any]:
    try:
        meta = json.loads((block / "meta.json").read_bytes())
        stats = meta["stats"]
        facts = {
            "ulid": block.name,
            "min_time": int(meta["minTime"]),
            "max_time": int(meta["maxTime"]),
            **{name: int(stats.get(key, 0)) for name, key in _STATS.items()},
        }
        ulid = meta["ulid"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"block {block} has no meta.json that can be read: {error}") from error
    if ulid != block.name:
        raise Failed(f"block {block} says that it is {ulid!r}")
    return facts


_STATS = {"samples": "numSamples", "series": "numSeries", "chunks": "numChunks"}


def _size(path: Path) -> int:
    """In bytes; none, where it was removed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _walk(directory: Path) -> t.Iterator[tuple[Path, os.stat_result]]:
    """A directory and all that is in it, those above before those below.

    :raises Failed: where there is something that is neither a file nor a directory.
    """
    yield directory, directory.lstat()
    for path in sorted(directory.iterdir()):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path)
        elif stat.S_ISREG(status.st_mode):
            yield path, status
        else:
            raise Failed(f"{path} is neither a file nor a directory, and nobody knows what it would bring")
