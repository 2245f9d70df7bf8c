# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What Prometheus holds on disk, and what another retention would take from it.

The rules of deletion are those of Prometheus (``tsdb/db.go``, BeyondTimeRetention and BeyondSizeRetention): by time a
block goes when it ends a retention or more before the newest one does; by size the newest blocks stay that fit beside
the head. Whatever is older than a block that goes, goes too.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import re
import typing as t
from pathlib import Path

from ._finding import Finding
from ._http import HttpError
from ._prometheus import Prometheus
from ._units import duration, human_duration, human_size, size

# What Prometheus keeps where neither a time nor a size is said.
DEFAULT_SECONDS = 15 * 86400.0
CHECK = "storage.retention"
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_FLAG = re.compile(r"--storage\.tsdb\.(retention(?:\.time|\.size)?|path)[= ]\"?([^\s\"']+)")
_ENVIRONMENT_FILE = re.compile(r"^EnvironmentFile=-?(\S+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of samples. :param min_time: unix seconds, like ``max_time``, which is exclusive."""

    ulid: str
    min_time: float
    max_time: float
    samples: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Storage:
    """What a data directory holds.

    :param blocks: the oldest first.
    :param broken: blocks whose ``meta.json`` cannot be read: Prometheus passes over them in silence.
    :param head_bytes: what is not in a block yet.
    :param newest: unix seconds of the newest sample, as far as the files tell; 0 where there is none.
    """

    blocks: list[Block]
    broken: list[str]
    head_bytes: int
    newest: float

    @property
    def bytes(self) -> int:
        return self.head_bytes + sum(block.bytes for block in self.blocks)


@dataclasses.dataclass(frozen=True)
class Retention:
    """:param seconds: infinite where time does not matter. :param bytes: infinite where size does not."""

    seconds: float
    bytes: float

    @classmethod
    def parse(cls, time: str, space: str) -> Retention:
        """As Prometheus takes its two flags; an empty text or ``0`` is a flag that is not set.

        :raises ValueError: names the value and what would do.
        """
        seconds, count = duration(time or "0"), _compound_size(space or "0")
        if not seconds and not count:
            return cls(DEFAULT_SECONDS, math.inf)
        return cls(seconds or math.inf, count or math.inf)

    @classmethod
    def read(cls, written: str) -> Retention:
        """As a server says of itself, ``15d`` or ``15d or 10GiB``.

        :raises ValueError: where it is neither.
        """
        parts = written.split(" or ")
        times = [part for part in parts if not part.endswith("B")]
        sizes = [part for part in parts if part.endswith("B")]
        return cls.parse(times[0] if times else "", sizes[0] if sizes else "")

    def lowers(self, other: Retention) -> bool:
        return self.seconds < other.seconds or self.bytes < other.bytes

    def beyond(self, storage: Storage) -> list[Block]:
        """The blocks that go under it, the oldest first."""
        kept = float(storage.head_bytes)
        for number, block in enumerate(reversed(storage.blocks)):
            kept += block.bytes
            if storage.newest - block.max_time >= self.seconds or kept > self.bytes:
                return storage.blocks[: len(storage.blocks) - number]
        return []

    def __str__(self) -> str:
        time = human_duration(self.seconds) if self.seconds < math.inf else ""
        space = human_size(self.bytes) if self.bytes < math.inf else ""
        return " or ".join(filter(None, (time, space)))


@dataclasses.dataclass(frozen=True)
class InForce:
    """The retention that a server runs with, or would.

    :param retention: None where nobody could say.
    :param source: who said so, or why nobody could.
    :param directory: where that server keeps its data; empty where it is not said as an absolute path.
    """

    retention: Retention | None
    source: str
    directory: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """:param lowered: whether less would be kept than now; None where that cannot be known."""

    lowered: bool | None
    would_go: list[Block]
    finding: Finding


def read(directory: Path) -> Storage:
    """
    :raises OSError: where the directory cannot be listed.
    """
    blocks: list[Block] = []
    broken: list[str] = []
    head_bytes, head_time = 0, 0.0
    for entry in directory.iterdir():
        if _ULID.fullmatch(entry.name):
            try:
                blocks.append(_block(entry))
            except (OSError, ValueError, KeyError, TypeError):
                broken.append(entry.name)
        elif entry.name in ("wal", "wbl", "chunks_head"):
            states = _states(entry)
            head_bytes += sum(state.st_size for state in states)
            # An empty segment was made at a start, not by a sample.
            head_time = max([head_time, *(state.st_mtime for state in states if state.st_size)])
    blocks.sort(key=lambda block: (block.max_time, block.ulid))
    newest = max([head_time, *(block.max_time for block in blocks)])
    return Storage(blocks, sorted(broken), head_bytes, newest)


def _block(directory: Path) -> Block:
    meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
    return Block(
        ulid=directory.name,
        min_time=meta["minTime"] / 1000,
        max_time=meta["maxTime"] / 1000,
        samples=int(meta["stats"].get("numSamples", 0)),
        bytes=sum(state.st_size for state in _states(directory)),
    )


def _states(directory: Path) -> list[os.stat_result]:
    """Of every file below; a running server removes files while one looks."""
    states = []
    for path in directory.rglob("*"):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            states.append(state)
    return states


def in_force(prometheus: Prometheus, unit: str, show: t.Callable[[str], str]) -> InForce:
    """As the running server says; where it does not answer, as the unit would start it.

    :param show: gives the text of a unit and its drop-ins (``systemctl cat``), empty where there is none.
    """
    try:
        written = str(prometheus.runtime()["storageRetention"])
        path = prometheus.flags().get("storage.tsdb.path", "")
    except (HttpError, KeyError) as error:
        by_unit = _in_force_by_unit(unit, show(unit))
        return dataclasses.replace(by_unit, source=f"{by_unit.source} ({error})")
    return InForce(
        Retention.read(written), f"the server at {prometheus.server.url}", path if path.startswith("/") else ""
    )


def _in_force_by_unit(unit: str, text: str) -> InForce:
    if not text:
        return InForce(None, f"the server does not say, and there is no unit {unit}")
    try:
        included = [Path(path).read_text(encoding="utf-8") for path in _ENVIRONMENT_FILE.findall(text)]
    except (OSError, UnicodeDecodeError) as error:
        return InForce(None, f"the unit {unit} cannot be understood: {error}")
    return in_force_by_command("\n".join([text, *included]), f"the unit {unit}")


def in_force_by_command(text: str, source: str) -> InForce:
    """From the flags in a text: a unit with what it includes. The last of a flag counts.

    :param source: where the text is from.
    """
    flags: dict[str, str] = dict(_FLAG.findall(_without_comments(text)))
    time = flags.get("retention.time", flags.get("retention", ""))
    path = flags.get("path", "")
    try:
        retention = Retention.parse(time, flags.get("retention.size", ""))
    except ValueError as error:
        return InForce(None, f"{source} cannot be understood: {error}")
    return InForce(retention, source, path if path.startswith("/") else "")


def judge(directory: str, storage: Storage | None, wanted: Retention, now: InForce) -> Verdict:
    """Whether ``wanted`` keeps what is kept now, and what would go.

    :param storage: None where the directory does not exist.
    """
    lowered: bool | None = False
    going: list[Block] = []
    remedy = ""
    if now.directory and os.path.normpath(now.directory) != os.path.normpath(directory):
        lowered, severity = True, "critical"
        summary = f"Prometheus keeps its data in {now.directory}; in {directory} it would begin without them."
        remedy = f"Set the data directory to {now.directory}, or confirm to begin anew."
    elif storage is None or not (storage.blocks or storage.head_bytes):
        severity, summary = "ok", f"{directory} holds no samples; nothing can go."
    elif now.retention is None:
        lowered, severity, going = None, "unknown", wanted.beyond(storage)
        summary = f"What is kept in {directory} today is not known; under {wanted}, {_range(going)} would go."
        remedy = "Start Prometheus and ask again, or confirm."
    elif not wanted.lowers(now.retention):
        severity, summary = "ok", f"{now.retention} is kept, and {wanted} would be."
    else:
        kept = now.retention.beyond(storage)
        going = [block for block in wanted.beyond(storage) if block not in kept]
        lowered, severity = True, "critical" if going else "warning"
        summary = f"{now.retention} is kept, and only {wanted} would be: {_range(going)} would go."
        remedy = "Take a backup first; then confirm, or keep the retention as it is."
    evidence = {"in_force": str(now.retention or "unknown"), "source": now.source, "wanted": str(wanted)}
    return Verdict(lowered, going, Finding(CHECK, directory, severity, summary, evidence, remedy))


def contents(directory: str, storage: Storage) -> Finding:
    """How much there is, and whether all of it can be read."""
    figures = {
        "storage_bytes": storage.bytes,
        "storage_blocks": len(storage.blocks),
        "storage_samples": sum(block.samples for block in storage.blocks),
    }
    held = f"{len(storage.blocks)} blocks, {human_size(storage.bytes)}"
    if storage.broken:
        return Finding(
            "storage.blocks",
            directory,
            "critical",
            f"{directory} holds {held}, and {len(storage.broken)} whose meta.json cannot be read: Prometheus passes"
            " over them in silence.",
            {"figures": figures, "broken": storage.broken},
            "Bring these blocks back from a backup.",
        )
    evidence: dict[str, t.Any] = {"figures": figures}
    if len(storage.blocks) > 1:
        held += f", from {rfc3339(min(block.min_time for block in storage.blocks))} on"
        evidence["chart"] = _chart(storage.blocks)
    return Finding("storage.blocks", directory, "ok", f"{directory} holds {held}.", evidence)


def _chart(blocks: list[Block]) -> dict[str, t.Any]:
    """So much goes with a retention that begins at a time: the blocks added up from the oldest."""
    points, total = [[blocks[0].min_time, 0]], 0
    for block in blocks:
        total += block.bytes
        points.append([block.max_time, total])
    line = {"label": "blocks up to then", "points": points, "style": "measured"}
    return {"kind": "lines", "title": "What Prometheus keeps, from the oldest on", "unit": "bytes", "lines": [line]}


def _range(blocks: list[Block]) -> str:
    if not blocks:
        return "nothing of what is there today"
    start = min(block.min_time for block in blocks)
    end = max(block.max_time for block in blocks)
    return f"{rfc3339(start)} to {rfc3339(end)} ({len(blocks)} blocks, {human_size(sum(b.bytes for b in blocks))})"


def rfc3339(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", ";")))


def _compound_size(text: str) -> int:
    """Prometheus writes a size of its own back as ``1GiB512MiB``."""
    parts = re.findall(r"[0-9.]+[A-Za-z]+", text)
    return sum(map(size, parts)) if len(parts) > 1 and "".join(parts) == text else size(text)
