# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup from its source to files again: what is stored once, what is found damaged, and what a kill leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import (
    DAMAGED,
    PROVEN,
    VERIFIED,
    WRITTEN,
    Catalogue,
    Entry,
    Missing,
    State,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, Failed, NoRoom, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.keep import Rules, kept
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import (
    Damaged,
    File,
    Manifest,
    Part,
    seal,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.tree import walk
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import Busy
from hypothesis import given
from hypothesis import strategies as st

from .killing import killed

NOW = 1_800_000_000.0
DAY = 86400


class Plain:
    """A directory as a source. :param spoil: what happens to it between the look and the copy."""

    name = "plain"

    def __init__(self, root: Path, spoil: t.Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._spoil = spoil

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        found = walk(str(self._root))
        self._spoil()
        yield [Draft("plain", str(self._root), found.directories, found.candidates, {})]


def fill(root: Path) -> None:
    (root / "below" / "deeper").mkdir(parents=True)
    (root / "one").write_bytes(b"1" * 3000)
    (root / "below" / "two").write_bytes(os.urandom(5000))
    (root / "below" / "deeper" / "three").write_bytes(b"")
    (root / "below" / "same").write_bytes(b"1" * 3000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    found = Catalogue(str(tmp_path / "catalogue"))
    found.make()
    return found


def back_up(catalogue: Catalogue, root: Path, now: float = NOW) -> Manifest:
    with catalogue.locked():
        return create(catalogue, [Plain(root)], now, "host")[0]


def contents(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, mode and time of change of every file."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def restored(catalogue: Catalogue, manifest: Manifest, target: Path) -> dict[str, tuple[bytes, int, int]]:
    target.mkdir()
    lay(catalogue.store, manifest.parts[0], target)
    return contents(target)


def test_what_was_backed_up_comes_back_byte_for_byte_with_mode_and_time(
    catalogue: Catalogue, root: Path, tmp_path: Path
) -> None:
    (root / "one").chmod(0o640)
    os.utime(root / "one", ns=(1, 123456789))
    manifest = back_up(catalogue, root)
    assert catalogue.entry(manifest.name).manifest == manifest
    assert restored(catalogue, manifest, tmp_path / "target") == contents(root)


def test_a_name_that_is_no_utf8_comes_back(catalogue: Catalogue, root: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(b"odd")
    manifest = back_up(catalogue, root)
    assert restored(catalogue, catalogue.entry(manifest.name).manifest or manifest, tmp_path / "target") == contents(
        root
    )


def test_equal_files_are_stored_once_and_only_what_is_new_is_read_again(catalogue: Catalogue, root: Path) -> None:
    back_up(catalogue, root)
    assert len(list(catalogue.store.objects())) == 3
    (root / "new").write_bytes(b"new")
    with catalogue.locked():
        _manifest, cost = create(catalogue, [Plain(root)], NOW + 1, "host")
    assert cost.new == 3
    assert len(list(catalogue.store.objects())) == 4


def test_what_has_rotted_in_the_store_is_read_again_once_that_is_known(catalogue: Catalogue, root: Path) -> None:
    manifest = back_up(catalogue, root)
    file = next(one for one in manifest.parts[0].files if one.size == 5000)
    path = catalogue.store.path(file.sha256)
    path.chmod(0o600)
    path.write_bytes(b"x" * 5000)
    catalogue.record(manifest.name, {manifest.parts[0].name: State(DAMAGED, reason="rotten")})
    again = back_up(catalogue, root, NOW + 1)
    catalogue.store.check(next(one for one in again.parts[0].files if one.size == 5000))


def test_only_what_a_file_held_at_the_look_is_taken_of_one_that_grows(catalogue: Catalogue, root: Path) -> None:
    def grow() -> None:
        with (root / "one").open("ab") as file:
            file.write(b"2" * 1000)

    with catalogue.locked():
        manifest, _cost = create(catalogue, [Plain(root, grow)], NOW, "host")
    (one,) = (file for file in manifest.parts[0].files if file.path == "one")
    assert b"".join(catalogue.store.read(one)) == b"1" * 3000


def test_a_file_that_is_renamed_after_the_look_is_found_by_the_next_one(catalogue: Catalogue, root: Path) -> None:
    def rotate() -> None:
        if (root / "one").exists():
            (root / "one").rename(root / "one.20260101")

    with catalogue.locked():
        manifest, _cost = create(catalogue, [Plain(root, rotate)], NOW, "host")
    assert "one.20260101" in {file.path for file in manifest.parts[0].files}


def test_a_file_that_goes_on_shrinking_fails_the_backup_and_there_is_none(catalogue: Catalogue, root: Path) -> None:
    def shrink() -> None:
        os.truncate(root / "one", (root / "one").stat().st_size - 1)

    with catalogue.locked(), pytest.raises(Failed, match="went on changing"):
        create(catalogue, [Plain(root, shrink)], NOW, "host")
    assert catalogue.names() == []


def test_too_little_room_is_said_before_anything_is_copied(
    catalogue: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.statvfs(root)
    monkeypatch.setattr(os, "statvfs", lambda _path: _Full(status.f_frsize))
    with catalogue.locked(), pytest.raises(NoRoom, match=r"needs \d+ bytes in .*, and 0 are free"):
        create(catalogue, [Plain(root)], NOW, "host")
    assert list(catalogue.store.objects()) == []


class _Full(t.NamedTuple):
    f_frsize: int
    f_bavail: int = 0


def test_every_flipped_byte_of_every_object_is_found_and_named(
    catalogue: Catalogue, root: Path, tmp_path: Path
) -> None:
    manifest = back_up(catalogue, root)
    for file in manifest.parts[0].files:
        path = catalogue.store.path(file.sha256)
        content = path.read_bytes()
        path.chmod(0o600)
        for place in {0, len(content) // 2, len(content) - 1} if content else ():
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :])
            with pytest.raises(Damaged, match=file.sha256):
                catalogue.store.check(file)
            target = tmp_path / f"{file.path.replace('/', '-')}-{place}"
            target.mkdir()
            with pytest.raises(Damaged):
                lay(catalogue.store, manifest.parts[0], target)
        for wrong in (content[:-1], content + b"x"):
            path.write_bytes(wrong)
            if wrong != content:
                with pytest.raises(Damaged, match="bytes in the store"):
                    catalogue.store.check(file)
        path.write_bytes(content)
        catalogue.store.check(file)


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b", "", "a//b", "."])
def test_a_manifest_whose_paths_lead_out_of_their_directory_is_damaged(path: str) -> None:
    file = File(path, 0, 0o644, "root", "root", 0, "", "0" * 64)
    document = Manifest("20260101T000000Z", NOW, "host", (Part("plain", "/x", (), (file,), {}),)).encode()
    with pytest.raises(Damaged, match="leads out"):
        Manifest.decode(document, "20260101T000000Z")


@pytest.mark.parametrize("changes", [{"mode": "0644"}, {"path": 5}, {"size": "1"}, {"sha256": 0}])
def test_a_manifest_whose_fields_are_of_another_kind_is_damaged(changes: dict[str, t.Any]) -> None:
    file = dataclasses.replace(File("a", 0, 0o644, "root", "root", 0, "", "0" * 64), **changes)
    document = Manifest("20260101T000000Z", NOW, "host", (Part("plain", "/x", (), (file,), {}),)).encode()
    with pytest.raises(Damaged):
        Manifest.decode(document, "20260101T000000Z")


def test_a_manifest_of_another_name_or_format_is_damaged() -> None:
    document = Manifest("20260101T000000Z", NOW, "host", ()).encode()
    with pytest.raises(Damaged, match="says that it is"):
        Manifest.decode(document, "20260102T000000Z")
    with pytest.raises(Damaged, match="format"):
        Manifest.decode(seal({"format": 99}), "20260101T000000Z")


def test_whoever_comes_meanwhile_is_told_who_works_on_the_catalogue_and_since_when(catalogue: Catalogue) -> None:
    with catalogue.locked():
        with pytest.raises(Busy, match=rf"process {os.getpid()} \(.+\) since \d\d:"), catalogue.locked():
            pass
        with pytest.raises(Busy), catalogue.locked(shared=True):
            pass
    with catalogue.locked(shared=True), catalogue.locked(shared=True):
        pass


def test_without_a_catalogue_nothing_is_known(tmp_path: Path) -> None:
    absent = Catalogue(str(tmp_path / "absent"))
    with pytest.raises(Missing, match="no catalogue"), absent.locked(shared=True):
        pass
    with pytest.raises(Missing):
        absent.names()
    assert not (tmp_path / "absent").exists()


def test_nobody_but_its_owner_looks_into_a_catalogue(catalogue: Catalogue, root: Path) -> None:
    back_up(catalogue, root)
    assert catalogue.root.stat().st_mode & 0o077 == 0
    for path in catalogue.root.rglob("*"):
        if path.name != "owner":
            assert path.stat().st_mode & 0o077 == 0, path


def test_states_are_kept_and_those_that_cannot_be_read_are_not_known(catalogue: Catalogue, root: Path) -> None:
    manifest = back_up(catalogue, root)
    part = manifest.parts[0].name
    catalogue.record(manifest.name, {part: State(VERIFIED, 5.0)})
    assert catalogue.entry(manifest.name).states == {part: State(VERIFIED, 5.0)}
    catalogue.record(manifest.name, {part: State(PROVEN, 5.0, 6.0)})
    assert catalogue.entry(manifest.name).level == PROVEN
    (catalogue.root / "backups" / manifest.name / "states").write_bytes(b"spoiled")
    assert catalogue.entry(manifest.name).level == WRITTEN


def test_the_level_of_a_backup_is_that_of_its_worst_part_and_verified_is_the_top_of_some() -> None:
    parts = (Part("plain", "/a", (), (), {}), Part("plain", "/b", (), (), {}))
    manifest = Manifest("20260101T000000Z", NOW, "host", parts)

    def level(*states: State) -> str:
        return Entry(manifest.name, manifest, {part.name: state for part, state in zip(parts, states)}).level

    assert level(State(PROVEN), State(VERIFIED)) == VERIFIED
    assert level(State(PROVEN), State(VERIFIED, can_be_proven=False)) == PROVEN
    assert level(State(PROVEN), State(DAMAGED)) == DAMAGED
    assert level(State(PROVEN)) == WRITTEN


def test_removing_a_backup_keeps_every_object_that_another_one_names(
    catalogue: Catalogue, root: Path, tmp_path: Path
) -> None:
    first = back_up(catalogue, root)
    (root / "one").write_bytes(b"other")
    (root / "below" / "two").unlink()
    second = back_up(catalogue, root, NOW + 1)
    with catalogue.locked():
        freed = catalogue.remove([first.name])
    assert freed == 5000
    assert catalogue.names() == [second.name]
    assert restored(catalogue, second, tmp_path / "target") == contents(root)


def test_beside_a_damaged_manifest_nothing_is_removed_but_that_backup_itself(catalogue: Catalogue, root: Path) -> None:
    first, second = back_up(catalogue, root), back_up(catalogue, root, NOW + 1)
    (catalogue.root / "backups" / second.name / "manifest").write_bytes(b"spoiled")
    held = list(catalogue.store.objects())
    with catalogue.locked(), pytest.raises(Damaged, match=second.name):
        catalogue.remove([first.name])
    assert list(catalogue.store.objects()) == held
    with catalogue.locked():
        catalogue.remove([second.name])
    assert catalogue.names() == [first.name]


def entry(days: int, level: str) -> Entry:
    """A backup of so many days after the first."""
    created = NOW + days * DAY
    part = Part("plain", "/a", (), (), {})
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created))
    return Entry(name, Manifest(name, created, "host", (part,)), {part.name: State(level)})


histories = st.lists(
    st.tuples(st.integers(0, 900), st.sampled_from((WRITTEN, VERIFIED, PROVEN, DAMAGED))),
    unique_by=lambda row: row[0],
    max_size=40,
).map(lambda rows: [entry(*row) for row in sorted(rows)])
counts = st.integers(0, 5)
rules = st.builds(Rules, st.integers(1, 5), counts, counts, counts)


@given(entries=histories, rule=rules)
def test_the_last_proven_one_the_newest_ones_and_every_damaged_one_stay(entries: list[Entry], rule: Rules) -> None:
    staying = kept(entries, rule)
    sound = [one for one in entries if one.level != DAMAGED]
    proven = [one for one in entries if one.level == PROVEN]
    assert {one.name for one in sound[-rule.last :]} <= staying.keys()
    assert {one.name for one in proven[-1:]} <= staying.keys()
    assert {one.name for one in entries if one.level == DAMAGED} <= staying.keys()


@given(entries=histories, rule=rules)
def test_a_second_application_of_the_rules_removes_nothing(entries: list[Entry], rule: Rules) -> None:
    left = [one for one in entries if one.name in kept(entries, rule)]
    assert kept(left, rule).keys() == {one.name for one in left}


@given(entries=histories, rule=rules, more=rules)
def test_rules_that_keep_more_never_remove_more(entries: list[Entry], rule: Rules, more: Rules) -> None:
    larger = Rules(*(max(getattr(rule, field.name), getattr(more, field.name)) for field in dataclasses.fields(Rules)))
    assert kept(entries, rule).keys() <= kept(entries, larger).keys()


def test_a_year_of_nightly_backups_leaves_days_weeks_and_months() -> None:
    staying = kept([entry(day, PROVEN) for day in range(365)], Rules(last=3, daily=7, weekly=4, monthly=12))
    assert 7 + 2 + 10 <= len(staying) <= 7 + 4 + 12


def test_rules_that_keep_nothing_are_refused_with_what_would_do() -> None:
    with pytest.raises(ValueError, match="keep_last 1 would do"):
        Rules(0, 0, 0, 0)
    with pytest.raises(ValueError, match="keep_daily: -1"):
        Rules(1, -1, 0, 0)


def back_up_again(catalogue: Catalogue, root: Path) -> None:
    with catalogue.locked():
        create(catalogue, [Plain(root)], NOW + 1, "host", jobs=1)


def test_a_kill_at_any_moment_leaves_the_old_backups_whole_and_no_half_one(
    catalogue: Catalogue, root: Path, tmp_path: Path
) -> None:
    first = back_up(catalogue, root)
    before = contents(root)
    (root / "new").write_bytes(b"new" * 500)
    (root / "newer").write_bytes(b"newer" * 500)
    points = 0
    while killed(points, lambda: back_up_again(catalogue, root)):
        points += 1
        for name in catalogue.names():
            found = catalogue.entry(name)
            assert found.manifest is not None, (points, found.damage)
            for file in found.manifest.parts[0].files:
                catalogue.store.check(file)
        assert restored(catalogue, first, tmp_path / f"target{points}") == before
        with catalogue.locked():
            catalogue.remove([name for name in catalogue.names() if name != first.name])
            assert list((catalogue.root / "incoming").iterdir()) == []
            assert {sha256 for sha256, _size in catalogue.store.objects()} == first.hashes()
    assert points > 8
