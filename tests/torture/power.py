# SPDX-License-Identifier: GPL-3.0-or-later
"""A loss of power at each call of a restore, of its recovery, of a backup and of a removal; then the host starts again.

``python -m tests.torture.power`` is the run that is recorded, in a process of its own.
"""

from __future__ import annotations

import os
import sys
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._backup import restore
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Manifest, Part

from tests.testbench.packages import ROOT
from tests.torture import backups, journal_restores, restores
from tests.torture.disk import Recording
from tests.torture.faults import Outcome
from tests.torture.restores import CASES, KILLED, SERVICE, TAKEN

VARIANTS = 6
# What a restore that came to its end has said of what is there.
_SAID = {restores.TAKEN: "it stays there", restores.WITHOUT_LOG: "it stays there", restores.REFUSED: "as it was"}


def restoring(bench: restores.Bench, mode: str, case: str, every: int = 1, variants: int = VARIANTS) -> Outcome:
    """:param every: before and after each rename, and after every so many of the other calls."""
    outcome = Outcome()
    bench.reset()
    recording = _recorded(bench, "apply", mode, case)
    for end, where in _losses(recording, every, variants, bench.directory.parent):
        bench.boot()
        said = _SAID[case] if end == len(recording.calls) else ""
        restores.judge(bench, mode, case, f"{mode}, {case}, {where}", outcome, said=said)
    return outcome


def recovering(bench: restores.Bench, mode: str, case: str, every: int = 1, variants: int = VARIANTS) -> Outcome:
    """The restore is killed at each of its moves, and power is lost in the recovery from that."""
    outcome = Outcome()
    for first, name in enumerate(restores.points(bench, mode, case, KILLED), 1):
        if name not in ("rename", *SERVICE):
            continue
        restores.kill_restore(bench, mode, case, first)
        recording = _recorded(bench, "recover")
        for _end, where in _losses(recording, every, variants, bench.directory.parent):
            bench.boot()
            at = f"{mode}, {case}, killed at call {first} ({name}), in its recovery {where}"
            restores.judge(bench, mode, case, at, outcome)
    return outcome


def restoring_journals(bench: journal_restores.Bench, case: str, every: int = 1, variants: int = VARIANTS) -> Outcome:
    outcome = Outcome()
    bench.reset(case)
    recording = _record(bench.directory.parent, bench.work, "apply_journals", case)
    for _end, where in _losses(recording, every, variants, bench.directory.parent):
        journal_restores.judge(bench, case, f"journals, {case}, {where}", outcome)
    return outcome


def working(bench: backups.Bench, work: str, every: int = 1, variants: int = VARIANTS) -> Outcome:
    """:param work: one of those of :mod:`backups`."""
    outcome = Outcome()
    bench.reset()
    recording = _record(bench.root, bench.work, "work", work)
    for end, where in _losses(recording, every, variants, bench.root):
        backups.judge(bench, work, f"{work}, {where}", outcome, is_done=end == len(recording.calls))
    return outcome


def _losses(recording: Recording, every: int, variants: int, root: Path) -> t.Iterator[tuple[int, str]]:
    """Lays out what is found after each loss of power, under the same name; after how many calls it was."""
    calls = recording.calls
    for end in range(len(calls) + 1):
        near = [call.name for call in calls[max(end - 1, 0) : end + 1]]
        if end % every == 0 or end == len(calls) or "rename" in near:
            for variant in range(variants):
                recording.lay(calls[:end], variant, root)
                yield end, f"power lost before call {end + 1} ({near[-1]}), variant {variant}"


def _recorded(bench: restores.Bench, *what: str) -> Recording:
    # The same one for the process that is recorded, as a backup like any other.
    if not bench.catalogue.names():
        bench.catalogue.write(Manifest(bench.catalogue.new_name(0.0), 0.0, "host", (bench.part,)))
    return _record(bench.directory.parent, bench.work, *what)


def _record(root: Path, work: Path, verb: str, *what: str) -> Recording:
    variables = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    run = [os.path.realpath(sys.executable), "-B", "-m", "tests.torture.power", verb, str(work), *what]
    return Recording.of(root, work, run, variables)


def run(work: Path) -> t.Iterator[tuple[str, Outcome]]:
    """All of it."""
    work.mkdir()
    of_restores, of_backups = restores.Bench.make(work / "restores"), backups.Bench.make(work / "backups")
    of_journals = journal_restores.Bench.make(work / "journals")
    for mode, cases in CASES.items():
        for case in cases:
            yield f"a restore ({mode}, {case}) with power lost at each call", restoring(of_restores, mode, case)
        name = f"a restore ({mode}) killed at each move, with power lost at each call of its recovery"
        yield name, recovering(of_restores, mode, TAKEN)
    for case in journal_restores.CASES:
        yield f"a restore of journals ({case}) with power lost at each call", restoring_journals(of_journals, case)
    for name in backups.WORKS:
        yield f"{name} with power lost at each call", working(of_backups, name)


def _apply(work: Path, mode: str, case: str) -> None:
    _bench(work).run(mode, case)


def _recover(work: Path) -> None:
    bench = _bench(work)
    restore.recover(bench.directory, bench.service())


def _apply_journals(work: Path, case: str) -> None:
    catalogue = Catalogue(str(work / "catalogue"))
    _require(journal_restores.Bench(work, work / "before", catalogue, _part(catalogue), {}).run(case))


def _work(work: Path, name: str) -> None:
    _require(backups.Bench(work, work / "before", frozenset()).done(name))


def _require(said: str) -> None:
    if said:
        raise RuntimeError(said)


def _bench(work: Path) -> restores.Bench:
    catalogue = Catalogue(str(work / "catalogue"))
    return restores.Bench(work, work / "before", catalogue, _part(catalogue), {})


def _part(catalogue: Catalogue) -> Part:
    (entry,) = catalogue.entries()
    if not entry.manifest:
        raise RuntimeError(entry.damage)
    return entry.manifest.parts[0]


_VERBS: dict[str, t.Callable[..., None]] = {
    "apply": _apply,
    "recover": _recover,
    "apply_journals": _apply_journals,
    "work": _work,
}

if __name__ == "__main__":
    _VERBS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
