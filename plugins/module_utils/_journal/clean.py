# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""A whole clean-up of one journal directory: look, plan, and, unless it is a dry run, do just that and prove it."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t
from pathlib import Path, PurePosixPath

from .build import NOTHING, Counts, Made, make
from .exchange import Changed, commit, discard, is_interrupted, open_files, recover, rename
from .files import File, Tree, scan, walk
from .format import DAY_NS, KINDS, METRICS, read_name
from .lock import Busy, locked
from .plan import COMPRESS, ROTATE, Plan, Rules, Step, plan
from .state import (
    Broken,
    Facts,
    Intent,
    Known,
    Last,
    Remembered,
    State,
    read_consumed,
    read_intent,
    read_state,
    write_consumed,
    write_state,
)
from .stream import Damaged, Identity
from .workers import each, without_collector

RECOVER, REMOVE = "recover", "remove"
# A clock this far from the newest record is not believed; nor one by which so many of the lines are from the future.
MOST_SILENT_DAYS = 30
MOST_FUTURE_PERCENT = 1
# As the collection's findings have them, from the best to the worst.
SEVERITIES = ("ok", "info", "warning", "unknown", "critical")
# States of an action.
PLANNED, DONE, LEFT = "planned", "done", "left"


@dataclasses.dataclass(frozen=True)
class Options:
    """
    :param now: nanoseconds since the epoch.
    :param is_certain_of_now: it was given, and is not doubted.
    :param max_expire_percent: share of the bytes that may expire in one run.
    :param min_free: bytes of the disk that stay free.
    :param jobs: processes.
    """

    root: str
    rules: Rules
    now: int
    dry_run: bool
    is_certain_of_now: bool = False
    max_expire_percent: float = 20.0
    min_free: int = 0
    jobs: int = 1

    @property
    def today(self) -> int:
        return self.now // DAY_NS


class Note(t.NamedTuple):
    """What was seen, in the terms of a finding: see the collection's ``_finding``."""

    check: str
    subject: str
    severity: str
    summary: str
    remedy: str = ""


@dataclasses.dataclass
class Action:
    """A row of the plan, and what became of it. Times are nanoseconds since the epoch."""

    action: str
    subject: str
    reason: str
    into: str = ""
    resolution: int | None = None
    first: int = 0
    last: int = 0
    bytes: int = 0
    state: str = PLANNED


class Size(t.NamedTuple):
    files: int = 0
    bytes: int = 0


@dataclasses.dataclass
class Result:
    """
    :param before: files and bytes by kind, ``after`` the same where something was done.
    :param last: the run before this one.
    """

    actions: list[Action] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)
    counts: Counts = dataclasses.field(default_factory=Counts)
    before: dict[str, Size] = dataclasses.field(default_factory=dict)
    after: dict[str, Size] = dataclasses.field(default_factory=dict)
    is_complete: bool = False
    last: Last | None = None

    def note(self, *fields: str) -> None:
        self.notes.append(Note(*fields))

    def is_worse_than(self, severity: str) -> bool:
        """Whether a note says so."""
        return any(SEVERITIES.index(note.severity) > SEVERITIES.index(severity) for note in self.notes)


# How far a run has come: what it does, how many of how many.
Progress = t.Callable[[str, int, int], None]


def clean(options: Options, progress: Progress = lambda _what, _done, _all: None) -> Result:
    """One run; what stops it is a note of its result."""
    result = Result()
    if not Path(options.root).is_dir():
        state = "is no directory" if os.path.lexists(options.root) else "is not there"
        result.note(
            "journal.directory", options.root, "unknown", f"{options.root} {state}: nothing is known.", _COMPARE
        )
        return result
    try:
        with locked(options.root, shared=options.dry_run), without_collector():
            _Run(options, result, progress).run()
    except Busy as error:
        result.note("journal.lock", options.root, "unknown", f"Nothing was looked at: {error}.", "Wait for its end.")
    except Broken as error:
        result.note(
            "journal.recovery",
            options.root,
            "critical",
            f"An interrupted run cannot be brought to its end, and nothing was touched: {error}.",
            "Bring the journals that it names back from a backup, and remove that record: till then nothing is done.",
        )
    except Changed as error:
        result.note(
            "journal.recovery",
            options.root,
            "critical",
            f"An interrupted run cannot be brought to its end now, and nothing was touched: {error}.",
            "Have the process close it (fuser -v names it), and run it again.",
        )
    except OSError as error:
        where = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        result.note(
            "journal.run",
            options.root,
            "critical",
            f"The run ended before its end, and nothing is lost: {where}.",
            "Mend the cause and run it again: it goes on where it stopped.",
        )
    return result


_COMPARE = "Compare it with logging.journal_dir and paths.journal_dir in base.yaml, and see whether the services run."


class _Run:
    def __init__(self, options: Options, result: Result, progress: Progress) -> None:
        self.options = options
        # Below a link nothing is followed, and the directory may be one itself.
        self.root = os.path.realpath(options.root)
        self.result = result
        self.progress = progress
        self.open: set[tuple[int, int]] = set()
        # By path, of what is there and what was made; and the sizes of what was made.
        self.facts: dict[str, Facts] = {}
        self.sizes: dict[str, int] = {}

    def run(self) -> None:
        self.open, unknown = open_files()
        left = read_intent(self.root)
        if left:
            reason = "an earlier run was interrupted while it exchanged files"
            self._act(Action(RECOVER, ", ".join(new.path for new in left.renames), reason), self._recover, self.root)
        tree = self._look(left if self.options.dry_run else None)
        self.result.before = _sizes(tree)
        self.facts = {file.path: file.facts for file in tree.files.values() if file.facts}
        if not tree.files and not tree.problems:
            summary = f"{self.root} holds no file: nothing is written there, or it is the wrong directory."
            self.result.note("journal.directory", self.root, "unknown", summary, _COMPARE)
            return
        made = plan(tree, self.options.rules, self._is_open_file, read_consumed(self.root))
        self._tell(tree, made)
        if unknown:
            self._cannot_know(unknown)
            made.steps = []
        rows = [_rows(tree, step) for step in made.steps]
        for path in tree.left_over:
            action = Action(REMOVE, path, "an interrupted run left it, and nothing needs it")
            self._act(action, os.unlink, f"{self.root}/{path}")
        self.result.actions += [action for actions in rows for action in actions]
        plausible = self._is_plausible(tree, made)
        if plausible and not self.options.dry_run:
            self._do(made.steps, rows)
        self.result.is_complete = True
        if not self.options.dry_run:
            self._remember(tree)
            if plausible:
                self._forget_consumed()

    def _recover(self, root: str) -> None:
        recover(root, self._is_open)

    def _act(self, action: Action, do: t.Callable[[str], t.Any], path: str) -> None:
        self.result.actions.append(action)
        if not self.options.dry_run:
            do(path)
            action.state = DONE

    # Look.

    def _look(self, intent: Intent | None) -> Tree:
        state = read_state(self.root)
        self.result.last = state.last
        files = state.files

        def remembered(path: str, identity: Identity, modified: int) -> Known | None:
            entry = files.get(path)
            return entry[2] if entry and entry[:2] == (identity, modified) else None

        tree, unread = walk(self.root, self.options.today, intent, t.cast(Remembered, remembered))
        for number, (file, facts, severity, trouble) in enumerate(each(_scanned, unread, self.options.jobs), 1):
            self.progress("read", number, len(unread))
            if facts is None:
                # Its name stays taken, and nothing is planned with what is not known.
                self.result.note(
                    "journal.unreadable",
                    file.path,
                    severity,
                    f"{file.path} was left as it is: {trouble}.",
                    "Bring it back from a backup, or give it another ending than .ndjson and .jsonl.",
                )
                continue
            oldest, newest = _days(facts) if facts.holdings else (file.oldest, file.newest)
            tree.files[file.path] = dataclasses.replace(file, facts=facts, oldest=oldest, newest=newest)
        return tree

    def _is_open_file(self, file: File) -> bool:
        return self._is_open(file.identity)

    def _is_open(self, identity: Identity) -> bool:
        return (identity.device, identity.inode) in self.open

    def _tell(self, tree: Tree, made: Plan) -> None:
        for refusal in made.refusals:
            summary = f"{refusal.path} was left as it is: {refusal.reason}."
            self.result.note("journal.left", refusal.path, refusal.severity, summary, refusal.remedy)
        for problem in tree.problems:
            summary = f"{problem.path} was left as it is: {problem.reason}."
            remedy = "Look at it; run this as a user who may read it (root)."
            self.result.note("journal.unreadable", problem.path, "unknown", summary, remedy)

    def _cannot_know(self, processes: int) -> None:
        self.result.note(
            "journal.open",
            self.root,
            "unknown",
            f"Of {processes} processes it is not known which files they have open: nothing is touched.",
            "Run this as root (become).",
        )

    def _is_plausible(self, tree: Tree, made: Plan) -> bool:
        """Whether the clock and what would expire are as they should be."""
        lines: dict[int, int] = {}
        for file in tree.files.values():
            for (day, _resolution), count in (file.facts.holdings if file.facts else {}).items():
                lines[day] = lines.get(day, 0) + count
            if file.is_growing and file.kind == METRICS and file.newest is not None:
                lines[file.newest] = lines.get(file.newest, 0) + 1
        today = self.options.today
        future = sum(count for day, count in lines.items() if day > today + 1)
        silent = today - max((day for day in lines if day <= today + 1), default=today)
        doubt = ""
        if future * 100 > MOST_FUTURE_PERCENT * sum(lines.values()):
            doubt = f"{future} of {sum(lines.values())} lines are from the future"
        elif silent > MOST_SILENT_DAYS:
            doubt = f"the newest record is {silent} days old"
        if doubt and not self.options.is_certain_of_now:
            self.result.note(
                "journal.clock",
                self.root,
                "critical",
                f"Nothing is touched: by this host's clock {doubt}.",
                "Set the clock, or say what time it is with as_of.",
            )
            return False
        if future and not doubt:
            self.result.note(
                "journal.future",
                self.root,
                "warning",
                f"{future} lines are from the future.",
                "Look at the publisher's clock.",
            )
        return self._may_expire(tree, made)

    def _may_expire(self, tree: Tree, made: Plan) -> bool:
        everything = sum(file.facts.bytes for file in tree.files.values() if file.facts)
        expiring = sum(step.expiring for step in made.steps)
        if expiring * 100 <= self.options.max_expire_percent * everything:
            return True
        share = 100 * expiring / everything
        self.result.note(
            "journal.expiry",
            self.root,
            "critical",
            f"Nothing is touched: {expiring} of {everything} bytes of records ({share:.1f} %) would expire, more than "
            f"{self.options.max_expire_percent:g} %.",
            f"Look at the plan (dry run). If that is meant, allow it with max_expire_percent={share + 1:.0f}.",
        )
        return False

    # Do.

    def _do(self, steps: list[Step], rows: list[list[Action]]) -> None:
        """In the order of the plan: what a step needs was done before it. Where that failed, it is not done either."""
        failed: set[int] = set()
        ready: list[int] = []
        for position, step in enumerate(steps):
            if step.needs and ready:
                # What it needs may still be made.
                self._make(steps, ready, rows, failed)
                ready = []
            ready.append(position)
        self._make(steps, ready, rows, failed)

    def _make(self, steps: list[Step], positions: list[int], rows: list[list[Action]], failed: set[int]) -> None:
        positions = [one for one in positions if not self._is_hopeless(steps[one], one, rows[one], failed)]
        work = [(self.root, position, steps[position]) for position in positions]
        for number, (position, made, trouble) in enumerate(each(_made, work, self.options.jobs), 1):
            self.progress(steps[position].action, number, len(work))
            try:
                if trouble:
                    raise Changed(trouble)
                self._commit(steps[position], made)
            except (Changed, OSError) as error:
                if is_interrupted(self.root):
                    # The record of it is there: the next run brings it to its end, and no other step comes between.
                    raise
                discard(self.root, made.intent)
                failed.add(position)
                self._failed(steps[position], rows[position], str(error))
                continue
            for action in rows[position]:
                action.state = DONE
            self.result.counts.add(made.counts)
            self._learn(steps[position], made)

    def _is_hopeless(self, step: Step, position: int, actions: list[Action], failed: set[int]) -> bool:
        trouble = ""
        if not failed.isdisjoint(step.needs):
            trouble = "a step that it needs was not done"
        else:
            free = _free(f"{self.root}/{step.sources[0]}")
            if free - step.space < self.options.min_free:
                trouble = (
                    f"it needs {step.space} bytes of the disk beside the {self.options.min_free} that stay free, and "
                    f"{free} are free"
                )
        if trouble:
            failed.add(position)
            self._failed(step, actions, trouble)
        return bool(trouble)

    def _commit(self, step: Step, made: Made) -> None:
        if step.action == ROTATE:
            # Whoever adds to it meanwhile loses nothing: it stays the same file, under another name.
            rename(self.root, step.sources[0], step.target)
            return
        self.open, _unknown = open_files()
        commit(self.root, made.intent, self._is_open)

    def _learn(self, step: Step, made: Made) -> None:
        """What was written need not be read again."""
        facts = made.facts
        if step.action == COMPRESS and step.sources[0] in self.facts:
            facts = {step.target: self.facts[step.sources[0]]}
        self.facts.update(facts)
        self.sizes.update({new.path: new.size for new in made.intent.renames if new.path in facts})

    def _failed(self, step: Step, actions: list[Action], trouble: str) -> None:
        for action in actions:
            action.state = LEFT
        self.result.note(
            "journal.step",
            step.sources[0],
            "critical",
            f"{step.sources[0]} was left as it is, nothing is lost: {trouble}.",
            "Mend the cause and run it again; what was done stays done.",
        )

    def _remember(self, tree: Tree) -> None:
        """So that the next run reads only what is new."""
        now, _unread = walk(self.root, self.options.today, None, self._remembered(tree))
        self.result.after = _sizes(now)
        files = {
            file.path: (file.identity, file.modified, Known(file.kind, file.oldest, file.newest, file.facts))
            for file in now.files.values()
        }
        done = [action.action for action in self.result.actions if action.state == DONE]
        actions = {action: done.count(action) for action in dict.fromkeys(done)}
        write_state(self.root, State(files, Last(time.time(), actions, len(self.result.actions) - len(done))))

    def _forget_consumed(self) -> None:
        """What would be beyond the last level by now."""
        consumed = read_consumed(self.root)
        kept = [one for one in consumed if self.options.today - one.day <= self.options.rules.policy.last_day]
        if len(kept) < len(consumed):
            write_consumed(self.root, kept)

    def _remembered(self, tree: Tree) -> Remembered:
        def remembered(path: str, identity: Identity, modified: int) -> Known | None:
            if self.sizes.get(path) == identity.size:
                facts = self.facts[path]
                return Known(METRICS, *_days(facts), facts)
            file = tree.files.get(path)
            if file is None or (file.identity, file.modified) != (identity, modified):
                return None
            return Known(file.kind, file.oldest, file.newest, file.facts)

        return remembered


# What a file holds, or why that is not known: how bad that is, and a clause.
_Scanned = t.Tuple[File, t.Optional[Facts], str, str]


def _scanned(file: File) -> _Scanned:
    try:
        return file, scan(file), "", ""
    except Damaged as error:
        return file, None, "critical", str(error)
    except OSError as error:
        return file, None, "unknown", f"it cannot be read: {error.strerror}"


def _days(facts: Facts) -> tuple[int, int]:
    """Of its oldest and newest record."""
    return facts.first // DAY_NS, facts.last // DAY_NS


def _made(work: tuple[str, int, Step]) -> tuple[int, Made, str]:
    """What a step is exchanged for, or why there is nothing, a clause."""
    root, position, step = work
    try:
        return position, make(root, step), ""
    except Damaged as error:
        return position, NOTHING, str(error)
    except OSError as error:
        return position, NOTHING, f"{error.strerror}: {error.filename or step.target}"


def _rows(tree: Tree, step: Step) -> list[Action]:
    """A row for each file that goes."""
    rows = []
    for path in step.sources:
        file = tree.files.get(path)
        facts = file.facts if file else None
        resolutions = {resolution for _day, resolution in facts.holdings} if facts else set()
        resolution = min(resolutions, default=read_name(PurePosixPath(path).name).resolution)
        first, last = (facts.first, facts.last) if facts else (step.first, step.last)
        size = file.identity.size if file else step.bytes
        rows.append(Action(step.action, path, step.reason, step.target, resolution, first, last, size))
    return rows


def _sizes(tree: Tree) -> dict[str, Size]:
    sizes = dict.fromkeys(KINDS, Size())
    for file in tree.files.values():
        files, total = sizes[file.kind]
        sizes[file.kind] = Size(files + 1, total + file.identity.size)
    return sizes


def _free(path: str) -> int:
    figures = os.statvfs(Path(path).parent)
    return figures.f_bavail * figures.f_frsize
