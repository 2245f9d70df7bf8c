# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that go: what the others need stays, also after a kill, and where that is not known nothing goes."""

from __future__ import annotations

import contextlib
import functools
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import (
    PROVEN,
    VERIFIED,
    WRITTEN,
    Catalogue,
    Missing,
    State,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.keep import Rules, kept
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged, Manifest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.tree import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from .killing import killed

NOW = 1_800_000_000.0
DAY = 86400


class Plain:
    """A directory as a source."""

    name = "plain"

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        found = walk(str(self._root))
        yield [Draft("plain", str(self._root), found.directories, found.candidates, {})]


def history(directory: Path, contents: t.Iterable[t.Collection[int]]) -> tuple[Catalogue, list[Manifest]]:
    """A catalogue with a backup a day; each holds a file for each of its numbers, equal for equal numbers."""
    (directory / "root").mkdir()
    catalogue = Catalogue(str(directory / "catalogue"))
    catalogue.make()
    manifests = []
    for day, numbers in enumerate(contents):
        for path in (directory / "root").iterdir():
            path.unlink()
        for number in numbers:
            (directory / "root" / f"{number}").write_bytes(b"%d" % number * 100)
        with catalogue.locked():
            manifests.append(create(catalogue, [Plain(directory / "root")], NOW + day * DAY, "host")[0])
    return catalogue, manifests


def held(catalogue: Catalogue) -> set[str]:
    return {sha256 for sha256, _size in catalogue.store.objects()}


def whole(catalogue: Catalogue) -> set[str]:
    """Names of all backups, each file of which is there and right."""
    for entry in catalogue.entries():
        assert entry.manifest is not None, entry.damage
        for file in entry.manifest.parts[0].files:
            catalogue.store.check(file)
    return set(catalogue.names())


histories = st.lists(
    st.tuples(st.sets(st.integers(0, 6), max_size=4), st.sampled_from((WRITTEN, VERIFIED, PROVEN)), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(rows=histories)
def test_whichever_backups_go_the_others_stay_whole_and_nothing_else_is_held(
    rows: list[tuple[set[int], str, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalogue, manifests = history(tmp_path_factory.mktemp("history"), [numbers for numbers, _level, _goes in rows])
    going = {manifest.name for manifest, (_numbers, _level, goes) in zip(manifests, rows) if goes}
    staying = [manifest for manifest in manifests if manifest.name not in going]
    needed = set().union(*(manifest.hashes() for manifest in staying))
    unneeded = sum(size for sha256, size in catalogue.store.objects() if sha256 not in needed)
    with catalogue.locked():
        assert catalogue.remove(going) == unneeded
    assert whole(catalogue) == {manifest.name for manifest in staying}
    assert held(catalogue) == needed


@settings(max_examples=30, deadline=None)
@given(rows=histories, last=st.integers(1, 2), daily=st.integers(0, 2))
def test_by_the_rules_the_newest_proven_one_stays_and_is_whole(
    rows: list[tuple[set[int], str, bool]], last: int, daily: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalogue, manifests = history(tmp_path_factory.mktemp("rules"), [numbers for numbers, _level, _goes in rows])
    for manifest, (_numbers, level, _goes) in zip(manifests, rows):
        catalogue.record(manifest.name, {manifest.parts[0].name: State(level)})
    proven = [entry.name for entry in catalogue.entries() if entry.level == PROVEN]
    rules = Rules(last, daily, 0, 0)
    staying = kept(catalogue.entries(), rules)
    with catalogue.locked():
        catalogue.remove(name for name in catalogue.names() if name not in staying)
    assert {*proven[-1:]} <= whole(catalogue)
    assert whole(catalogue) == set(kept(catalogue.entries(), rules))


def test_a_name_that_is_not_there_or_leads_elsewhere_removes_nothing(tmp_path: Path) -> None:
    catalogue, manifests = history(tmp_path, [{1}, {2}])
    before = held(catalogue)
    for wrong in ("20200101T000000Z", "../objects", "..", ""):
        with catalogue.locked(), pytest.raises(Missing, match="no backup"):
            catalogue.remove([manifests[0].name, wrong])
    assert whole(catalogue) == {manifest.name for manifest in manifests}
    assert held(catalogue) == before


def test_a_backup_that_somebody_gave_another_name_keeps_what_it_needs(tmp_path: Path) -> None:
    catalogue, manifests = history(tmp_path, [{1}, {2}, {3}])
    place = catalogue.root / "backups" / manifests[0].name
    place.rename(place.with_name(f"{place.name}.keep"))
    before = held(catalogue)
    with catalogue.locked(), pytest.raises(Damaged, match=r"\.keep .*nothing is removed"):
        catalogue.remove([manifests[1].name])
    assert held(catalogue) == before
    assert whole(catalogue) == {manifests[1].name, manifests[2].name}


def remove(catalogue: Catalogue, going: t.Iterable[str]) -> None:
    with catalogue.locked():
        assert not list((catalogue.root / "incoming").iterdir())
        catalogue.remove(set(going) & set(catalogue.names()))


def test_a_kill_at_any_moment_of_a_removal_leaves_the_others_whole_and_the_next_one_ends_it(tmp_path: Path) -> None:
    points = 0
    while True:
        directory = tmp_path / str(points)
        directory.mkdir()
        catalogue, manifests = history(directory, [{1, 2}, {2, 3}, {3, 4}, {1, 4}])
        going = [manifest.name for manifest in manifests[:2]]
        was_killed = killed(points, functools.partial(remove, catalogue, going))
        assert {manifest.name for manifest in manifests[2:]} <= whole(catalogue)
        remove(catalogue, going)
        assert whole(catalogue) == {manifest.name for manifest in manifests[2:]}
        assert held(catalogue) == manifests[2].hashes() | manifests[3].hashes()
        if not was_killed:
            break
        points += 1
    assert points > 8


def test_a_kill_while_a_state_is_noted_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    catalogue, (manifest,) = history(tmp_path, [{1}])
    part = manifest.parts[0].name
    catalogue.record(manifest.name, {part: State(VERIFIED, 1.0)})
    points = 0
    while killed(points, lambda: catalogue.record(manifest.name, {part: State(PROVEN, 1.0, 2.0)})):
        points += 1
        assert catalogue.entry(manifest.name).states[part] in (State(VERIFIED, 1.0), State(PROVEN, 1.0, 2.0))
    assert points > 3
    assert catalogue.entry(manifest.name).states == {part: State(PROVEN, 1.0, 2.0)}
    catalogue.record(manifest.name, {part: State(PROVEN, 1.0, 3.0)})
    assert catalogue.entry(manifest.name).states == {part: State(PROVEN, 1.0, 3.0)}
