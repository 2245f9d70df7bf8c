# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What a restore of Prometheus would do, before anything is done: pure, from what a backup has and what is there.

Nothing is overwritten. ``swap`` builds a new directory out of the backup's blocks and of the healthy live ones that the
backup does not cover, and puts it into the place of the old one, which is kept. ``repair`` moves bad live blocks aside,
and brings only what is missing then.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from .._storage import Block, Retention, Storage, rfc3339
from .._units import human_size
from .catalogue import DAMAGED, PROVEN, VERIFIED
from .manifest import Part
from .steps import Step

SWAP, REPAIR = "swap", "repair"
MODES = (SWAP, REPAIR)
# What a restore writes and reads again in a second, at the least, and how long a server takes to come up.
_BYTES_PER_SECOND = 50e6
_START_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Live:
    """What is in the place that is to be restored.

    :param storage: None where there is no such directory.
    :param damaged: why a block cannot be used, by its ULID.
    :param retention: None where nobody can say.
    :param version: of the server; empty where it does not answer.
    :param is_mount: whether the directory is a mount point, which cannot be renamed.
    :param free: bytes of its file system.
    """

    directory: str
    storage: Storage | None
    damaged: dict[str, str]
    retention: Retention | None
    version: str
    is_mount: bool
    free: int


@dataclasses.dataclass(frozen=True)
class Gap:
    """Samples that are there now and would not be afterwards. :param start: unix seconds, like ``end``."""

    start: float
    end: float
    why: str

    def __str__(self) -> str:
        return f"{rfc3339(self.start)} to {rfc3339(self.end)} ({self.why})"


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    :param bring: ULIDs out of the backup.
    :param carry: ULIDs of live blocks that come along.
    :param quarantine: ULIDs of live blocks that are moved aside.
    :param seen: ULIDs of everything that is there now.
    :param is_verified: whether promtool has read the blocks of the backup.
    :param head: whether the write-ahead log comes along, which has what is not in a block yet.
    :param refusals: why it cannot be done so, sentences; then nothing is.
    :param seconds: how long it takes, about; ``blind`` of them no alert is evaluated.
    """

    mode: str
    directory: str
    steps: tuple[Step, ...]
    bring: tuple[str, ...]
    carry: tuple[str, ...]
    quarantine: tuple[str, ...]
    seen: tuple[str, ...]
    is_verified: bool
    head: bool
    gaps: tuple[Gap, ...]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    needed: int
    seconds: float
    blind: float


def plan(part: Part, level: str, live: Live, mode: str, now: float) -> Plan:
    """
    :param level: of the part in its backup, see :mod:`.catalogue`.
    :param now: unix seconds.
    """
    theirs = blocks(part)
    ours = live.storage.blocks if live.storage else []
    broken = live.storage.broken if live.storage else []
    bad = [block for block in ours if block.ulid in live.damaged]
    healthy = [block for block in ours if block.ulid not in live.damaged]
    if mode == REPAIR:
        have = {block.ulid for block in healthy}
        bring = [block for block in theirs if block.ulid not in have and not is_covered(block, healthy)]
        carry = healthy
        quarantine = [*(block.ulid for block in bad), *broken]
    else:
        bring = theirs
        held = {block.ulid for block in theirs}
        carry = [block for block in healthy if block.ulid not in held and not is_covered(block, theirs)]
        quarantine = []
    after = [*bring, *carry]
    gaps = [Gap(block.min_time, block.max_time, f"block {block.ulid} is damaged") for block in bad]
    gaps = [gap for gap in gaps if not is_covered(Block("", gap.start, gap.end, 0, 0), after)]
    gaps += _newest_gap(live, after, now)
    needed = sum(block.bytes for block in bring)
    if mode == SWAP and live.storage is not None:
        needed += live.storage.head_bytes
    refusals, warnings = _refusals(part, level, live, mode, needed), _warnings(part, level, live, broken, mode)
    refusals += _retention_refusals(part, live, after, now)
    # The write-ahead log is copied, and read again, while there is no server.
    head_bytes = live.storage.head_bytes if live.storage is not None else 0
    blind = _START_SECONDS + 0.05 * len(after) + 2 * head_bytes / _BYTES_PER_SECOND
    return Plan(
        mode=mode,
        directory=live.directory,
        steps=tuple(_steps(part, live, mode, bring, carry, [*quarantine])),
        bring=tuple(block.ulid for block in bring),
        carry=tuple(block.ulid for block in carry),
        quarantine=tuple(quarantine),
        seen=(*(block.ulid for block in ours), *broken),
        is_verified=level in (VERIFIED, PROVEN),
        head=mode == SWAP and live.storage is not None and live.storage.head_bytes > 0,
        gaps=tuple(gaps),
        refusals=tuple(refusals),
        warnings=tuple(warnings),
        needed=needed,
        seconds=2 * needed / _BYTES_PER_SECOND + _START_SECONDS + blind,
        blind=blind,
    )


def blocks(part: Part) -> list[Block]:
    """The blocks of a part as :mod:`.._storage` knows them, the oldest first."""
    sizes: dict[str, int] = {}
    for file in part.files:
        ulid = file.path.split("/", 1)[0]
        sizes[ulid] = sizes.get(ulid, 0) + file.size
    found = [
        Block(row["ulid"], row["min_time"] / 1000, row["max_time"] / 1000, row["samples"], sizes.get(row["ulid"], 0))
        for row in part.facts["blocks"]
    ]
    return sorted(found, key=lambda block: (block.max_time, block.ulid))


def beside_of(directory: str, is_mount: bool) -> str:
    """Where a restore builds: on the same file system as the directory, so that blocks can be moved."""
    return f"{directory}/.restoring" if is_mount else f"{directory}.restoring"


def is_covered(block: Block, others: t.Iterable[Block]) -> bool:
    """Whether every moment of a block is in one of the others as well."""
    reached = block.min_time
    for other in sorted(others, key=lambda one: one.min_time):
        if other.min_time > reached:
            break
        reached = max(reached, other.max_time)
    return reached >= block.max_time


def _newest_gap(live: Live, after: list[Block], now: float) -> list[Gap]:
    """What came after the newest block that will be there, where no write-ahead log has it."""
    if live.storage is not None and live.storage.head_bytes:
        return []
    newest = max((block.max_time for block in after), default=0.0)
    return [Gap(newest, now, "taken after the backup, and no block or write-ahead log has it")] if newest < now else []


def _refusals(part: Part, level: str, live: Live, mode: str, needed: int) -> list[str]:
    refusals = []
    if level == DAMAGED:
        refusals.append("This backup is damaged; another one would do, or name its blocks that are whole.")
    if needed > live.free:
        refusals.append(
            f"{human_size(needed)} are needed beside {live.directory}, and {human_size(live.free)} are free."
            + (" mode repair needs less." if mode == SWAP else "")
        )
    if mode == SWAP and live.is_mount:
        refusals.append(
            f"{live.directory} is a mount point, which cannot be swapped for another directory. target_dir with a"
            " directory on that disk would do, and then the server's data directory set to it; or mode repair."
        )
    if mode == REPAIR and live.storage is None:
        refusals.append(f"{live.directory} is not there: there is nothing to repair. mode swap would do.")
    if not part.files:
        refusals.append("There is no block in this backup.")
    return refusals


def _warnings(part: Part, level: str, live: Live, broken: list[str], mode: str) -> list[str]:
    warnings = []
    if level != PROVEN:
        warnings.append("This backup was never proven; it is, before anything is swapped.")
    then = str(part.facts.get("version", ""))
    if live.version and then and live.version.partition(".")[0] != then.partition(".")[0]:
        warnings.append(f"It is of Prometheus {then}, and {live.version} runs here: it is proven, not promised.")
    if broken and mode == SWAP:
        warnings.append(f"{len(broken)} live blocks without a readable meta.json stay in the old directory.")
    return warnings


def _retention_refusals(part: Part, live: Live, after: list[Block], now: float) -> list[str]:
    """A shorter retention takes blocks within seconds or hours of the start, with an info line only."""
    if live.retention is None:
        return ["The retention of this server is not known: under a shorter one it would remove what is restored."]
    held = Storage(sorted(after, key=lambda block: (block.max_time, block.ulid)), [], 0, now)
    refusal = shortened(live.retention, made_under(part), held)
    return [refusal] if refusal else []


def made_under(part: Part) -> Retention:
    """The retention of the server that was backed up; one without end where nobody knows."""
    then = str(part.facts.get("retention") or "")
    try:
        return Retention.read(then) if then else Retention(math.inf, math.inf)
    except ValueError:
        return Retention(math.inf, math.inf)


def shortened(retention: Retention, then: Retention, held: Storage) -> str:
    """Why these blocks would not stay under a retention, a sentence with the numbers; empty where they would.

    Those that are too old under ``then`` as well are no reason: they go in any case.
    """
    going = retention.beyond(held)
    if not going or not retention.lowers(then):
        return ""
    kept_since = rfc3339(max(block.max_time for block in going))
    return (
        f"This server keeps {retention}, the backup was made under {then}: {len(going)} of {len(held.blocks)} blocks"
        f" ({human_size(sum(block.bytes for block in going))}), all before {kept_since}, would be removed again. Raise"
        " the retention first (prometheus_retention_time, prometheus_retention_size), or restore to target_dir."
    )


def _steps(
    part: Part, live: Live, mode: str, bring: list[Block], carry: list[Block], quarantine: list[str]
) -> t.Iterator[Step]:
    if mode == REPAIR and not bring and not quarantine:
        return
    beside = beside_of(live.directory, live.is_mount)
    size = sum(block.bytes for block in bring)
    yield Step("write", beside, f"{len(bring)} blocks of the backup, each file checked by its hash", size)
    yield Step("prove", beside, "a scratch server must give the counts that were taken at the backup")
    if mode == SWAP:
        for block in carry:
            span = f"{rfc3339(block.min_time)} to {rfc3339(block.max_time)}"
            yield Step("carry", block.ulid, f"healthy, and the backup does not cover {span}", block.bytes)
    yield Step("stop", "prometheus", "two processes on one directory spoil it; no alert is evaluated from here on")
    if mode == SWAP and live.storage is not None and live.storage.head_bytes:
        yield Step("carry", "wal", "the write-ahead log has what is not in a block yet", live.storage.head_bytes)
    for ulid in quarantine:
        yield Step("quarantine", ulid, live.damaged.get(ulid, "its meta.json cannot be read"))
    if mode == REPAIR:
        yield Step("bring", live.directory, f"{len(bring)} blocks that are missing")
    elif live.storage is not None:
        yield Step("keep", live.directory, "it is renamed, and stays until a person removes it", live.storage.bytes)
    if mode == SWAP:
        yield Step("place", live.directory, "the new directory takes its name")
    yield Step("start", "prometheus", "and it must be ready")
    yield Step(
        "compare", live.directory, f"the counts must be those of the backup ({part.facts.get('samples', 0)} samples)"
    )
