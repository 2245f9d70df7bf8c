# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""From what a journal directory holds to the steps of a clean-up, each with its reason. Nothing here reads or writes.

A record belongs to the level that the age of its UTC day requires; what is older than the last level expires. Only days
that are over are touched, and only journals that nobody adds to. The plan is computed on the tree as the steps before
leave it, so that it is known to its end before anything is done.
"""

from __future__ import annotations

import dataclasses
import heapq
import typing as t
from pathlib import PurePosixPath

from .files import File, Group, Tree
from .format import DAY_NS, LOG, METRICS, TRADING, day_stamp, resolution_name
from .policy import Policy
from .state import Consumed, Facts, Holdings

ROLL_UP, EXPIRE, COMPRESS, ROTATE, DROP = ACTIONS = ("roll up", "expire", "compress", "rotate", "drop")
# A journal that is compressed takes less than this share of its lines.
_COMPRESSED = 0.5


@dataclasses.dataclass(frozen=True)
class Rules:
    """
    :param compress_after: age in days of its newest record at which a journal is compressed.
    :param others: whether dated journals of trading and logs are compressed as well.
    """

    policy: Policy
    compress_after: int = 7
    others: bool = False


@dataclasses.dataclass(frozen=True)
class Step:
    """Some files that are exchanged for others, all of it or nothing.

    :param sources: paths of those that go.
    :param target: what comes of them; empty where nothing does.
    :param day: whose records are merged, or expire; None where lines stay as they are.
    :param resolution: seconds, of the records of that day afterwards; None where they expire.
    :param carried: path by (day, resolution) for records that stay as they are, in a file of their own.
    :param rejected: path for lines that are no records; empty where there are none.
    :param lines: of the sources; ``bytes`` of their lines, ``expiring`` of those that expire.
    :param needs: positions of the steps that make its sources, and of those that leave it the names of what it makes.
    :param twin: of what is dropped, the file that holds the same lines.
    """

    action: str
    sources: tuple[str, ...]
    reason: str
    target: str = ""
    compressed: bool = False
    day: int | None = None
    resolution: int | None = None
    carried: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)
    rejected: str = ""
    lines: int = 0
    bytes: int = 0
    expiring: int = 0
    first: int = 0
    last: int = 0
    needs: frozenset[int] = frozenset()
    twin: str = ""

    @property
    def space(self) -> int:
        """Bytes of the disk that it takes at the most, until its sources go."""
        if self.action in (ROTATE, DROP):
            return 0
        return int((self.bytes - self.expiring) * (_COMPRESSED if self.compressed else 1)) + 65536


class Refusal(t.NamedTuple):
    """A journal that is left as it is, and why: a clause and what to do."""

    path: str
    reason: str
    remedy: str
    severity: str = "warning"


@dataclasses.dataclass
class Plan:
    steps: list[Step] = dataclasses.field(default_factory=list)
    refusals: list[Refusal] = dataclasses.field(default_factory=list)


def plan(tree: Tree, rules: Rules, is_open: t.Callable[[File], bool], consumed: t.Iterable[Consumed]) -> Plan:
    """
    :param is_open: whether a process has the file open, as far as that is known.
    :param consumed: what went into roll-ups before.
    """
    return _Planner(tree, rules, is_open, {entry.content for entry in consumed}).plan()


@dataclasses.dataclass
class _Journal:
    """A journal as the steps so far leave it. :param step: the one that has to be done before it is read."""

    path: str
    holdings: Holdings
    rejected: int
    compressed: bool
    bytes: int
    first: int
    last: int
    content: str = ""
    step: int | None = None

    @property
    def lines(self) -> int:
        return sum(self.holdings.values())

    @property
    def newest(self) -> int:
        return max((day for day, _resolution in self.holdings), default=0)


class _Planner:
    def __init__(self, tree: Tree, rules: Rules, is_open: t.Callable[[File], bool], consumed: set[str]) -> None:
        self.tree = tree
        self.rules = rules
        self.is_open = is_open
        self.consumed = consumed
        self.result = Plan()
        self.there = {*tree.files, *(problem.path for problem in tree.problems)}
        self.taken = {*self.there, *tree.links}
        self.groups: dict[Group, list[_Journal]] = {}
        self.drops: dict[str, int] = {}
        # By the path that a step leaves to others, its position.
        self.freed: dict[str, int] = {}

    def plan(self) -> Plan:
        self._gather()
        for group, journals in sorted(self.groups.items()):
            for journal in journals:
                # Its twin goes while it is still there to be compared with.
                journal.step = self.drops.get(journal.path)
            self._restored(journals)
            self._age(group, journals)
            for journal in sorted(journals, key=lambda one: one.path):
                is_compressible = self._is_compressible(journal.compressed, journal.newest)
                if journal.holdings and is_compressible and f"{journal.path}.gz" not in self.taken:
                    self._compress(journal)
        self._others()
        self._rotate()
        self.result.steps = _smallest_first(self.result.steps)
        return self.result

    def _add(self, step: Step) -> int:
        position = len(self.result.steps)
        made = [path for path in (step.target, step.rejected, *step.carried.values()) if path]
        freeing = {self.freed[path] for name in made for path in _twins(name) if path in self.freed}
        self.result.steps.append(dataclasses.replace(step, needs=step.needs | freeing))
        self.taken.difference_update(step.sources)
        self.taken.update(made)
        self.freed.update(dict.fromkeys(step.sources, position))
        return position

    def _refuse(self, path: str, reason: str, remedy: str, severity: str = "warning") -> None:
        self.result.refusals.append(Refusal(path, reason, remedy, severity))

    # What may be touched.

    def _gather(self) -> None:
        for file in self.tree.files.values():
            if file.kind != METRICS or file.facts is None or not self.tree.is_settled(file):
                continue
            if self._is_left_to_its_twin(file, file.facts):
                continue
            if self.is_open(file):
                self._refuse(file.path, "a process holds it open, though its days are over", _FUSER.format(file.at))
            else:
                facts = file.facts
                journal = _Journal(
                    file.path,
                    facts.holdings,
                    facts.rejected,
                    file.name.compressed,
                    facts.bytes,
                    facts.first,
                    facts.last,
                    facts.content,
                )
                self.groups.setdefault(file.group, []).append(journal)

    def _is_left_to_its_twin(self, file: File, facts: Facts) -> bool:
        """Whether it is one of a plain file and its compressed twin, and the other one is counted, or neither."""
        other = _twin(file.path)
        if other not in self.there:
            return False
        twin = self.tree.files.get(other)
        if twin is None or twin.kind != METRICS or not twin.facts or twin.facts.content != facts.content:
            self._refuse_twin(file, other)
            return True
        held = next((one for one in (file, twin) if self.is_open(one)), None)
        if held:
            reason = f"{other} holds the same lines, and a process holds {held.path} open"
            self._refuse(file.path, reason, _FUSER.format(held.at))
            return True
        if file.name.compressed:
            return False
        self.drops[other] = self._add(
            Step(
                DROP,
                (file.path,),
                f"{other} holds the same lines",
                lines=sum(facts.holdings.values()),
                bytes=facts.bytes,
                first=facts.first,
                last=facts.last,
                twin=other,
            )
        )
        return True

    def _refuse_twin(self, file: File, other: str) -> None:
        plain, packed = _twins(file.at)
        self._refuse(
            file.path,
            f"it and {other} should be the same, and are not",
            f"zdiff {plain} {packed} shows how; keep one, and give the other another name.",
            "critical",
        )

    def _restored(self, journals: list[_Journal]) -> None:
        """Leaves out what went into a roll-up that is still there: it came back, and would be counted twice."""
        for journal in [one for one in journals if one.content in self.consumed]:
            coarser = [
                other.path
                for other in journals
                if other is not journal
                for day, resolution in other.holdings
                if any(day == mine and resolution > finer for mine, finer in journal.holdings)
            ]
            if coarser:
                journals.remove(journal)
                self._refuse(
                    journal.path,
                    f"it was rolled up before, and {coarser[0]} is there: its records would count twice",
                    "Remove it where the roll-up is good. For the finer records restore the whole directory.",
                    "critical",
                )

    # Ages.

    def _age(self, group: Group, journals: list[_Journal]) -> None:
        days = {day for journal in journals for day, _resolution in journal.holdings if day < self.tree.today}
        for day in sorted(days):
            level = self.rules.policy.level(self.tree.today - day)
            limit = level.resolution if level else None
            if any(
                limit is None or resolution < limit
                for journal in journals
                for held, resolution in journal.holdings
                if held == day
            ):
                self._exchange(group, journals, day, limit)

    def _exchange(self, group: Group, journals: list[_Journal], day: int, resolution: int | None) -> None:
        """The step that brings all records of a day to a resolution, or lets them expire."""

        def merges(key: tuple[int, int]) -> bool:
            return key[0] == day and (resolution is None or key[1] <= resolution)

        sources = sorted(
            (one for one in journals if any(map(merges, one.holdings))), key=lambda one: (one.first, one.path)
        )
        paths = {one.path for one in sources}
        compressed = self._is_old(day) or any(one.compressed for one in sources)
        merged = sum(lines for one in sources for key, lines in one.holdings.items() if merges(key))
        lines, size = sum(one.lines for one in sources), sum(one.bytes for one in sources)
        expiring = 0 if resolution else _share(size, merged, lines)
        age = f"{self.tree.today - day} days old"
        if resolution is None:
            target = ""
            reason = f"{age}: the last level ends after {self.rules.policy.last_day} days"
        else:
            target = self._free(group, day, resolution, compressed, but=paths)
            self.taken.add(target)
            reason = f"{age}: that is the level of {resolution_name(resolution)}"
        kept: Holdings = {}
        for one in sources:
            for key, count in one.holdings.items():
                if not merges(key):
                    kept[key] = kept.get(key, 0) + count
        carried = {}
        for key in sorted(kept):
            carried[key] = self._free(group, *key, compressed=self._is_old(key[0]) or sources[0].compressed)
            self.taken.add(carried[key])
        rejected = ""
        if any(one.rejected for one in sources):
            rejected = self._rejected(group, day)
        position = self._add(
            Step(
                ROLL_UP if resolution else EXPIRE,
                tuple(one.path for one in sources),
                reason,
                target,
                compressed,
                day,
                resolution,
                carried,
                rejected,
                lines,
                size,
                expiring,
                min(one.first for one in sources),
                max(one.last for one in sources),
                frozenset(one.step for one in sources if one.step is not None),
            )
        )
        journals[:] = [one for one in journals if one.path not in paths]
        if resolution:
            made = _Journal(target, {(day, resolution): merged}, 0, compressed, _share(size, merged, lines), 0, 0)
            made.first, made.last, made.step = day * DAY_NS, (day + 1) * DAY_NS - 1, position
            journals.append(made)
        for (other, held), path in carried.items():
            count = kept[other, held]
            rest = _Journal(path, {(other, held): count}, 0, path.endswith(".gz"), _share(size, count, lines), 0, 0)
            rest.first, rest.last, rest.step = other * DAY_NS, (other + 1) * DAY_NS - 1, position
            journals.append(rest)

    def _is_old(self, day: int) -> bool:
        return self.tree.today - day >= self.rules.compress_after

    def _is_compressible(self, compressed: bool, newest: int) -> bool:
        return not compressed and self._is_old(newest)

    def _free(
        self, group: Group, day: int, resolution: int, compressed: bool, but: t.Collection[str] = frozenset()
    ) -> str:
        """A path that neither a file nor its compressed twin has, or will have; those in ``but`` go."""
        stem = f"{group.stem}_{resolution_name(resolution)}.{day_stamp(day)}"
        for suffix in _suffixes():
            name = str(PurePosixPath(group.directory, f"{stem}{suffix}{group.ending}"))
            if not any(path in self.taken and path not in but for path in _twins(name)):
                return f"{name}.gz" if compressed else name
        raise AssertionError("there is always another number")

    def _rejected(self, group: Group, day: int) -> str:
        for suffix in _suffixes():
            path = str(PurePosixPath(group.directory, f"{group.stem}.{day_stamp(day)}{suffix}.rejected"))
            if path not in self.taken:
                return path
        raise AssertionError("there is always another number")

    # What stays as it is, in another place.

    def _compress(self, journal: _Journal) -> None:
        self._add(
            Step(
                COMPRESS,
                (journal.path,),
                f"its newest record is {self.tree.today - journal.newest} days old",
                f"{journal.path}.gz",
                True,
                lines=journal.lines + journal.rejected,
                bytes=journal.bytes,
                first=journal.first,
                last=journal.last,
                needs=frozenset() if journal.step is None else frozenset([journal.step]),
            )
        )

    def _others(self) -> None:
        """Compressed when asked, and only under a dated name: a live one has none, and its writer would lose it."""
        for file in self.tree.files.values() if self.rules.others else ():
            newest = max((day for day in (file.newest, (file.name.day or 0) // DAY_NS) if day is not None), default=0)
            if (
                file.kind in (TRADING, LOG)
                and file.name.journal
                and file.name.day is not None
                and self._is_compressible(file.name.compressed, newest)
                and f"{file.path}.gz" not in self.taken
            ):
                if self.is_open(file):
                    self._refuse(
                        file.path, "a process holds it open, though it is rotated", _FUSER.format(file.at), "info"
                    )
                    continue
                age = self.tree.today - newest
                size = file.identity.size
                step = Step(COMPRESS, (file.path,), f"its newest record is {age} days old", f"{file.path}.gz", True)
                self._add(
                    dataclasses.replace(step, bytes=size, first=(file.oldest or newest) * DAY_NS, last=newest * DAY_NS)
                )

    def _rotate(self) -> None:
        """A file that grows gets a dated name: whoever adds to it makes a new one, and a later run takes the old."""
        for file in self.tree.files.values():
            if file.kind != METRICS or not file.is_growing or file.oldest is None or file.oldest >= self.tree.today:
                continue
            if _twin(file.path) in self.there:
                self._refuse_twin(file, _twin(file.path))
                continue
            old = PurePosixPath(file.path)
            for suffix in _suffixes():
                path = str(old.with_name(f"{old.stem}.{day_stamp(self.tree.today)}{suffix}{old.suffix}"))
                if self.taken.isdisjoint(_twins(path)):
                    break
            newest = file.oldest if file.newest is None else file.newest
            step = Step(ROTATE, (file.path,), "it holds a day that is over", path, bytes=file.identity.size)
            self._add(dataclasses.replace(step, first=file.oldest * DAY_NS, last=newest * DAY_NS))


_FUSER = "fuser -v {} says which; have it close the file, or restart it."


def _twins(path: str) -> tuple[str, str]:
    """The plain and the compressed path of the same journal."""
    plain = path[: -len(".gz")] if path.endswith(".gz") else path
    return plain, f"{plain}.gz"


def _twin(path: str) -> str:
    """The other one of the two."""
    return next(one for one in _twins(path) if one != path)


def _suffixes() -> t.Iterator[str]:
    yield ""
    number = 0
    while True:
        number += 1
        yield f".{number}"


def _share(size: int, part: int, whole: int) -> int:
    return size * part // whole if whole else 0


def _smallest_first(steps: list[Step]) -> list[Step]:
    """The smallest that can be done comes first, so that an interrupted run has done most."""
    missing = [len(step.needs) for step in steps]
    followers: dict[int, list[int]] = {}
    for position, step in enumerate(steps):
        for needed in step.needs:
            followers.setdefault(needed, []).append(position)
    ready = [(step.bytes, position) for position, step in enumerate(steps) if not step.needs]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _bytes, position = heapq.heappop(ready)
        order.append(position)
        for other in followers.get(position, ()):
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(ready, (steps[other].bytes, other))
    places = {position: place for place, position in enumerate(order)}
    return [
        dataclasses.replace(steps[position], needs=frozenset(places[one] for one in steps[position].needs))
        for position in order
    ]
