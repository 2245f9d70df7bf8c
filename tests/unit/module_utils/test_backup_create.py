# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of files that are rotated, rewritten or gone meanwhile, of a store that rots, and of a disk that fills."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import tree as tree_module
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import (
    DAMAGED,
    VERIFIED,
    Catalogue,
    State,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import (
    Draft,
    Failed,
    create,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged, Manifest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.tree import walk
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = 1_800_000_000.0


class Plain:
    """A directory as a source. :param spoil: happens once, between the first look and the copy."""

    name = "plain"

    def __init__(self, root: Path, spoil: t.Callable[[], None] = lambda: None, may_grow: bool = True) -> None:
        self.looks = 0
        self._root = root
        self._spoil = spoil
        self._may_grow = may_grow

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        found = walk(str(self._root))
        self.looks += 1
        if self.looks == 1:
            self._spoil()
        candidates = tuple(dataclasses.replace(one, may_grow=self._may_grow) for one in found.candidates)
        yield [Draft("plain", str(self._root), found.directories, candidates, {})]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    found = Catalogue(str(tmp_path / "catalogue"))
    found.make()
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def back_up(catalogue: Catalogue, source: Plain, now: float = NOW) -> Manifest:
    with catalogue.locked():
        return create(catalogue, [source], now, "host")[0]


def stored(catalogue: Catalogue, manifest: Manifest) -> dict[str, bytes]:
    return {file.path: b"".join(catalogue.store.read(file)) for part in manifest.parts for file in part.files}


def test_a_rotated_journal_is_in_the_backup_also_where_the_new_one_is_as_long_already(
    catalogue: Catalogue, root: Path
) -> None:
    (root / "journal").write_bytes(b"old\n")

    def rotate() -> None:
        (root / "journal").rename(root / "journal.1")
        (root / "journal").write_bytes(b"new, and longer\n")

    source = Plain(root, rotate)
    assert stored(catalogue, back_up(catalogue, source)) == {"journal": b"new, and longer\n", "journal.1": b"old\n"}
    assert source.looks == 2


def test_a_file_that_must_be_whole_is_looked_at_again_once_it_was_written_to(catalogue: Catalogue, root: Path) -> None:
    (root / "settings").write_bytes(b"a: 1\n")
    os.utime(root / "settings", ns=(1, 1))
    source = Plain(root, lambda: _write(root / "settings", b"a: 2, and more\n"), may_grow=False)
    assert stored(catalogue, back_up(catalogue, source)) == {"settings": b"a: 2, and more\n"}
    assert not list((catalogue.root / "incoming").iterdir())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_a_rotation_between_the_names_and_what_they_stand_for_loses_nothing(
    catalogue: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All names are there before and after: only the files behind them change places."""
    for name in ("journal", "journal.1"):
        (root / name).write_bytes(name.encode())
    # What is held is not opened again, so nobody else would see it.
    back_up(catalogue, Plain(root))
    real, looks = tree_module._statuses, []

    def rotating(directory: str) -> dict[str, os.stat_result]:
        looks.append(directory)
        if len(looks) == 1:
            half = real(directory)
            (root / "journal").rename(root / "journal.1")
            (root / "journal").write_bytes(b"newest")
            return {**real(directory), "journal.1": half["journal.1"]}
        return real(directory)

    monkeypatch.setattr(tree_module, "_statuses", rotating)
    manifest = back_up(catalogue, Plain(root), NOW + 1)
    assert stored(catalogue, manifest) == {"journal": b"newest", "journal.1": b"journal"}


def test_a_directory_that_holds_other_files_at_every_look_fails_the_backup(
    catalogue: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tree_module._statuses

    def changing(directory: str) -> dict[str, os.stat_result]:
        for path in root.iterdir():
            path.unlink()
        (root / os.urandom(8).hex()).write_bytes(b"")
        return real(directory)

    monkeypatch.setattr(tree_module, "_statuses", changing)
    with catalogue.locked(), pytest.raises(Failed, match="went on changing"):
        create(catalogue, [Plain(root)], NOW, "host")
    assert catalogue.names() == []


def test_a_file_that_goes_while_it_is_looked_at_is_no_reason_to_fail(
    catalogue: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "stays").write_bytes(b"x")
    real, looks = tree_module._statuses, []

    def vanishing(directory: str) -> dict[str, os.stat_result]:
        looks.append(directory)
        if len(looks) == 1:
            raise FileNotFoundError(errno.ENOENT, "gone", f"{directory}/went")
        return real(directory)

    monkeypatch.setattr(tree_module, "_statuses", vanishing)
    assert stored(catalogue, back_up(catalogue, Plain(root))) == {"stays": b"x"}


def test_what_has_rotted_is_read_again_although_a_backup_that_nobody_looked_at_names_it_too(
    catalogue: Catalogue, root: Path
) -> None:
    (root / "one").write_bytes(b"1" * 5000)
    first, second = back_up(catalogue, Plain(root)), back_up(catalogue, Plain(root), NOW + 1)
    (file,) = first.parts[0].files
    path = catalogue.store.path(file.sha256)
    path.chmod(0o600)
    path.write_bytes(b"x" * 5000)
    catalogue.record(first.name, {first.parts[0].name: State(VERIFIED, NOW)})
    catalogue.record(second.name, {second.parts[0].name: State(DAMAGED, reason="rotten")})
    back_up(catalogue, Plain(root), NOW + 2)
    catalogue.store.check(file)


def test_a_backup_whose_files_are_right_but_whose_counts_are_not_makes_the_next_one_no_dearer(
    catalogue: Catalogue, root: Path
) -> None:
    (root / "one").write_bytes(b"1" * 5000)
    first, second = back_up(catalogue, Plain(root)), back_up(catalogue, Plain(root), NOW + 1)
    catalogue.record(second.name, {second.parts[0].name: State(DAMAGED, verified=NOW, reason="counts differ")})
    catalogue.record(first.name, {first.parts[0].name: State(VERIFIED, NOW)})
    with catalogue.locked():
        _manifest, cost = create(catalogue, [Plain(root)], NOW + 2, "host")
    assert cost.new == 0


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_disk_that_fills_while_it_is_copied_leaves_no_backup_and_nothing_half(
    catalogue: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    for name in ("a", "b", "c"):
        (root / name).write_bytes(name.encode() * 5000)
    former = back_up(catalogue, Plain(root))
    for name in ("a", "b", "c"):
        (root / name).write_bytes(name.upper().encode() * 5000)
    real, done = os.write, []

    def write(handle: int, data: t.Any) -> int:
        done.append(handle)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    with catalogue.locked():
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            create(catalogue, [Plain(root)], NOW + 1, "host", jobs=1)
        monkeypatch.undo()
    assert catalogue.names() == [former.name]
    assert not list((catalogue.root / "incoming").iterdir())
    assert stored(catalogue, former) == {name: name.encode() * 5000 for name in ("a", "b", "c")}


def test_every_flipped_bit_and_every_missing_end_of_a_manifest_is_found(catalogue: Catalogue, root: Path) -> None:
    (root / "one").write_bytes(b"1")
    name = back_up(catalogue, Plain(root)).name
    content = (catalogue.root / "backups" / name / "manifest").read_bytes()
    wrong = [
        content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
        for place in range(len(content))
        for bit in range(8)
    ]
    wrong += [content[:length] for length in range(len(content))] + [content + b" "]
    for spoiled in wrong:
        with pytest.raises(Damaged):
            Manifest.decode(spoiled, name)


pieces = st.binary(min_size=1, max_size=8).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b".."))
trees = st.dictionaries(
    st.lists(pieces, min_size=1, max_size=3).map(tuple),
    st.tuples(st.binary(max_size=64), st.integers(0, 0o777), st.integers(0, 2**62)),
    max_size=8,
)
Rows = t.Dict[t.Tuple[bytes, ...], t.Tuple[bytes, int, int]]


def grow(root: Path, rows: Rows) -> None:
    """Files with content, mode and time of change; a path that another one is in the way of is left out."""
    for path, (content, mode, modified) in rows.items():
        file = root.joinpath(*map(os.fsdecode, path))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        os.utime(file, ns=(modified, modified))
        file.chmod(mode | 0o400)


def grown(root: Path) -> dict[str, tuple[t.Any, ...]]:
    found: dict[str, tuple[t.Any, ...]] = {}
    for path in root.rglob("*"):
        status = path.stat()
        inside = str(path.relative_to(root))
        # The time of a directory is not kept.
        found[inside] = (
            (status.st_mode, status.st_uid, status.st_gid)
            if path.is_dir()
            else (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, path.read_bytes())
        )
    return found


@settings(max_examples=30, deadline=None)
@given(rows=trees)
def test_any_tree_of_any_names_comes_back_with_modes_owners_and_times(
    rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("any")
    (directory / "root").mkdir()
    (directory / "target").mkdir()
    grow(directory / "root", rows)
    catalogue = Catalogue(str(directory / "catalogue"))
    catalogue.make()
    manifest = back_up(catalogue, Plain(directory / "root"))
    read = catalogue.entry(manifest.name).manifest
    assert read == manifest
    lay(catalogue.store, read.parts[0], directory / "target")
    assert grown(directory / "target") == grown(directory / "root")
    with catalogue.locked():
        _manifest, cost = create(catalogue, [Plain(directory / "root")], NOW + 1, "host")
    assert cost.new == 0
