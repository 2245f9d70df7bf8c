# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import gzip
import hashlib
import io
import json
import os
import random
import signal
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import carry, store
from ansible_collections.njord.telemetry.plugins.module_utils._backup.carry import pack, unpack
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import (
    DAMAGED,
    PROVEN,
    WRITTEN,
    Catalogue,
    Missing,
    State,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import (
    Candidate,
    Draft,
    Failed,
    NoRoom,
    create,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay, names
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import (
    Damaged,
    Directory,
    Manifest,
    seal,
    unseal,
)

NOW = 1_790_000_000.0
NAME = "20260921T141320Z"
BLOCK = 512
CONTENT = {
    "01J/meta.json": b"{}",
    "01J/chunks/000001": bytes(range(256)) * 4,
    "01K/meta.json": b"{}",
    "01K/tombstones": b"",
}


@dataclasses.dataclass(frozen=True)
class Files:
    """A source of files as they are given."""

    root: Path
    name: str = "journals"

    @contextlib.contextmanager
    def open(self) -> t.Iterator[list[Draft]]:
        directories, candidates = [], []
        for path in sorted(self.root.rglob("*")):
            status, relative = path.stat(), str(path.relative_to(self.root))
            owner, group = names(status)
            if path.is_dir():
                directories.append(Directory(relative, status.st_mode & 0o7777, owner, group))
            else:
                mode = status.st_mode & 0o7777
                candidates.append(
                    Candidate(relative, path, status.st_size, mode, owner, group, status.st_mtime_ns, "1")
                )
        yield [Draft(self.name, "/srv/data", tuple(directories), tuple(candidates), {"blocks": ["01J", "01K"]})]


def empty(root: Path) -> Catalogue:
    catalogue = Catalogue(str(root))
    catalogue.make()
    return catalogue


def filled(work: Path, content: t.Mapping[str, bytes] | None = None) -> Catalogue:
    """A catalogue with one backup, called NAME."""
    for path, data in (CONTENT if content is None else content).items():
        target = work / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    catalogue = empty(work / "here")
    assert create(catalogue, [Files(work / "data")], NOW, "host1")[0].name == NAME
    return catalogue


@pytest.fixture
def here(tmp_path: Path) -> Catalogue:
    return filled(tmp_path)


@pytest.fixture
def there(tmp_path: Path) -> Catalogue:
    return empty(tmp_path / "there")


@pytest.fixture
def archive(here: Catalogue, tmp_path: Path) -> bytes:
    """Of NAME, not compressed."""
    return pack(here, NAME, tmp_path / "archive", "none").path.read_bytes()


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _handle: None)


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def is_untouched(catalogue: Catalogue) -> bool:
    """Whether it holds nothing; the directory of an object may stay, empty."""
    return not any(any(catalogue.root.glob(places)) for places in ("backups/*", "incoming/*", "objects/*/*"))


def manifest_of(catalogue: Catalogue, name: str) -> Manifest:
    found = catalogue.entry(name).manifest
    assert found
    return found


def laid(catalogue: Catalogue, target: Path) -> dict[str, bytes]:
    """What the backup gives back."""
    target.mkdir()
    lay(catalogue.store, manifest_of(catalogue, NAME).parts[0], target)
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def members(archive: bytes) -> list[tuple[bytes, bytes]]:
    """Header, and content with its padding, without the end."""
    found, at = [], 0
    while any(archive[at : at + BLOCK]):
        size = int(archive[at + 124 : at + 135], 8)
        after = at + BLOCK + size + -size % BLOCK
        found.append((archive[at : at + BLOCK], archive[at + BLOCK : after]))
        at = after
    return found


def joined(parts: t.Iterable[tuple[bytes, bytes]]) -> bytes:
    content = b"".join(header + data for header, data in parts)
    return content + bytes(2 * BLOCK + -(len(content) + 2 * BLOCK) % 10240)


def changed(header: bytes, **fields: bytes) -> bytes:
    """A header with other fields, and the checksum that it must have then."""
    places = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "type": (156, 1), "link": (157, 100)}
    for field, value in fields.items():
        at, length = places[field]
        header = header[:at] + value.ljust(length, b"\0") + header[at + length :]
    checksum = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    return header[:148] + checksum + header[156:]


def with_manifest(archive: bytes, change: t.Callable[[dict[str, t.Any]], None]) -> bytes:
    """The archive with another manifest, sealed well."""
    (header, content), *rest = members(archive)
    document = unseal(content[: int(header[124:135], 8)])
    change(document)
    new = seal(document)
    return joined([(changed(header, size=b"%011o\0" % len(new)), new + bytes(-len(new) % BLOCK)), *rest])


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_backup_comes_back_from_its_one_file_byte_for_byte(
    here: Catalogue, there: Catalogue, tmp_path: Path, compression: str
) -> None:
    target = tmp_path / "archive"
    carried = pack(here, NAME, target, compression)
    content = target.read_bytes()
    assert (carried.path, carried.compression, carried.bytes) == (target, compression, len(content))
    assert carried.sha256 == hashlib.sha256(content).hexdigest()
    assert target.stat().st_mode & 0o7777 == 0o600
    assert unpack(there, target) == NAME
    assert there.entry(NAME).manifest == here.entry(NAME).manifest
    assert laid(there, tmp_path / "laid") == CONTENT
    assert tree(there.root / "incoming") == set()


def test_any_tar_can_read_it_and_an_object_is_in_it_once(archive: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        found = {member.name: t.cast("t.IO[bytes]", file.extractfile(member)).read() for member in file}
        kinds = {(member.type, member.mode, member.uid, member.gid) for member in file}
    objects = {f"objects/{hashlib.sha256(content).hexdigest()}": content for content in CONTENT.values()}
    assert next(iter(found)) == "manifest"
    assert {name: content for name, content in found.items() if name != "manifest"} == objects
    assert len(members(archive)) == 1 + len(set(CONTENT.values()))
    assert kinds == {(tarfile.REGTYPE, 0o400, 0, 0)}


@pytest.mark.parametrize("size", [0, 1, (8 << 30) - 1, 8 << 30, 1 << 40])
def test_a_header_holds_every_size(size: int) -> None:
    found = tarfile.TarInfo.frombuf(carry._header("objects/" + "a" * 64, size), "ascii", "strict")
    assert (found.name, found.size, found.isreg()) == ("objects/" + "a" * 64, size, True)


def test_files_larger_than_a_chunk_come_back(tmp_path: Path, there: Catalogue) -> None:
    content = {"big": random.Random(1).getrandbits(8 * 3_000_001).to_bytes(3_000_001, "big")}
    for compression in ("none", "gzip"):
        catalogue = filled(tmp_path / compression, content)
        unpack(there, pack(catalogue, NAME, tmp_path / f"{compression}.tar", compression).path)
        assert laid(there, tmp_path / f"laid {compression}") == content
        there.remove([NAME])


def test_without_the_program_zstd_it_becomes_gzip(
    here: Catalogue, there: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert pack(here, NAME, tmp_path / "archive").compression == "gzip"
    assert unpack(there, tmp_path / "archive") == NAME
    with pytest.raises(Failed, match=r"needs the program zstd.*gzip would do"):
        pack(here, NAME, tmp_path / "other", "zstd")
    (tmp_path / "foreign").write_bytes(b"\x28\xb5\x2f\xfd and more")
    with pytest.raises(Failed, match=r"compressed by zstd.*the package zstd would do"):
        unpack(there, tmp_path / "foreign")


def test_a_compression_that_is_not_known_is_refused_with_those_that_are(here: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"'xz' is none of auto, zstd, gzip, none"):
        pack(here, NAME, tmp_path / "archive", "xz")


def test_a_target_that_is_there_stays_what_it_is(here: Catalogue, tmp_path: Path) -> None:
    target = tmp_path / "archive"
    target.write_text("precious")
    with pytest.raises(Failed, match="is there already and stays"):
        pack(here, NAME, target)
    assert target.read_text() == "precious"
    target.unlink()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Failed, match="is there already"):
        pack(here, NAME, target)
    with pytest.raises(Failed, match="no directory"):
        pack(here, NAME, tmp_path / "absent" / "archive")


def test_a_target_that_appears_meanwhile_stays_what_it_is(
    here: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "archive"
    monkeypatch.setattr(os, "fsync", lambda _handle: target.write_text("precious"))
    with pytest.raises(Failed, match="is there already"):
        pack(here, NAME, target)
    assert target.read_text() == "precious"
    assert not list(tmp_path.glob(".archive*"))


def test_a_backup_that_is_not_there_or_has_no_manifest_is_not_packed(here: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        pack(here, "20200101T000000Z", tmp_path / "archive")
    (here.root / "backups" / NAME / "manifest").write_text("rotten")
    with pytest.raises(Damaged, match=f"{NAME}: its manifest is damaged"):
        pack(here, NAME, tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "absent"])
def test_a_damaged_object_is_named_and_never_packed(
    here: Catalogue, tmp_path: Path, damage: str, compression: str
) -> None:
    path = here.store.path(hashlib.sha256(CONTENT["01J/chunks/000001"]).hexdigest())
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[700] ^= 1
    if damage != "absent":
        path.write_bytes({"shorter": content[:-1], "longer": content + b"x"}.get(damage, content))
    with pytest.raises(Damaged, match="01J/chunks/000001"):
        pack(here, NAME, tmp_path / "archive", compression)
    assert not list(tmp_path.glob("*archive*"))


@pytest.mark.usefixtures("no_sync")
def test_an_archive_that_is_cut_off_anywhere_is_refused_and_nothing_of_it_stays(
    archive: bytes, there: Catalogue, tmp_path: Path
) -> None:
    target = tmp_path / "cut"
    for whole in (archive, gzip.compress(archive, 1)):
        steps = {len(whole) * part // 20 for part in range(20)}
        for length in sorted(steps | set(range(len(whole) - 100, len(whole)))):
            target.write_bytes(whole[:length])
            with pytest.raises(Damaged):
                unpack(there, target)
            assert is_untouched(there), length
    target.write_bytes(whole)
    assert unpack(there, target) == NAME


@pytest.mark.usefixtures("no_sync")
def test_a_bit_that_turns_in_any_byte_of_an_archive_is_found(archive: bytes, there: Catalogue, tmp_path: Path) -> None:
    assert len(archive) == 10240
    with (tmp_path / "archive").open("r+b", buffering=0) as file:
        for at, byte in enumerate(archive):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << at % 8]), at)
            with pytest.raises(Damaged):
                unpack(there, tmp_path / "archive")
            os.pwrite(file.fileno(), bytes([byte]), at)
            assert is_untouched(there), at
    assert unpack(there, tmp_path / "archive") == NAME


@pytest.mark.usefixtures("no_sync")
def test_a_bit_that_turns_in_any_byte_of_a_gzip_is_found_or_changes_nothing(
    archive: bytes, here: Catalogue, tmp_path: Path
) -> None:
    whole = gzip.compress(archive, 1)
    target = tmp_path / "turned"
    harmless = 0
    for at in range(len(whole)):
        turned = bytearray(whole)
        turned[at] ^= 1 << at % 8
        target.write_bytes(turned)
        there = empty(tmp_path / "there")
        try:
            unpack(there, target)
        except Damaged:
            assert is_untouched(there), at
        else:
            harmless += 1
            assert there.entry(NAME).manifest == here.entry(NAME).manifest
            for file in manifest_of(there, NAME).parts[0].files:
                there.store.check(file)
            there.remove([NAME])
            assert not list(there.store.objects())
    # Time and system in the header, and codes that are not used.
    assert 0 < harmless < len(whole) / 10


def test_what_is_packed_again_by_hand_without_a_change_is_accepted(
    archive: bytes, there: Catalogue, tmp_path: Path
) -> None:
    (tmp_path / "again").write_bytes(joined(members(archive)))
    assert joined(members(archive)) == archive
    assert unpack(there, tmp_path / "again") == NAME


def first_object(archive: bytes, **fields: bytes) -> bytes:
    manifest, (header, content), *rest = members(archive)
    return joined([manifest, (changed(header, **fields), content), *rest])


def inserted(archive: bytes, at: int, **fields: bytes) -> bytes:
    """With one empty member more."""
    parts = members(archive)
    fields = {"size": b"%011o\0" % 0, **fields}
    return joined([*parts[:at], (changed(parts[0][0], **fields), b""), *parts[at:]])


def long_name(archive: bytes, kind: bytes) -> bytes:
    """With a header that renames the next member, in the ways of GNU and of POSIX."""
    parts = members(archive)
    name = b"../../../etc/cron.d/evil"
    content = b"30 path=" + name + b"\n" if kind == b"x" else name + b"\0"
    header = changed(parts[1][0], name=b"././@LongLink", type=kind, size=b"%011o\0" % len(content))
    return joined([parts[0], (header, content.ljust(BLOCK, b"\0")), *parts[1:]])


HOSTILE: dict[str, t.Callable[[bytes], bytes]] = {
    "an absolute name": lambda whole: first_object(whole, name=b"/etc/passwd"),
    "a name that leads out": lambda whole: first_object(whole, name=b"../../objects/" + b"a" * 64),
    "a name inside that leads out": lambda whole: first_object(whole, name=b"objects/../../x"),
    "a name that is no hash": lambda whole: first_object(whole, name=b"objects/x"),
    "another hash": lambda whole: first_object(whole, name=b"objects/" + b"a" * 64),
    "a symbolic link": lambda whole: first_object(whole, type=b"2", link=b"/etc/shadow"),
    "a hard link": lambda whole: first_object(whole, type=b"1", link=b"/etc/shadow"),
    "a device": lambda whole: first_object(whole, type=b"3"),
    "a block device": lambda whole: first_object(whole, type=b"4"),
    "a pipe": lambda whole: first_object(whole, type=b"6"),
    "a directory": lambda whole: first_object(whole, type=b"5"),
    "a sparse file": lambda whole: first_object(whole, type=b"S"),
    "a file for root": lambda whole: first_object(whole, mode=b"0004755\0"),
    "a huge size": lambda whole: first_object(whole, size=b"77777777777\0"),
    "a size beyond all disks": lambda whole: first_object(whole, size=b"\x80" + b"\xff" * 11),
    "a negative size": lambda whole: first_object(whole, size=b"\xff" * 12),
    "a size that is no number": lambda whole: first_object(whole, size=b"many\0"),
    "a huge manifest": lambda whole: joined(
        [(changed(members(whole)[0][0], size=b"77777777777\0"), members(whole)[0][1]), *members(whole)[1:]]
    ),
    "an empty manifest": lambda whole: inserted(whole, 0),
    "a member that is there twice": lambda whole: joined([*members(whole)[:2], *members(whole)[1:]]),
    "a member that is there twice at the end": lambda whole: joined([*members(whole), members(whole)[1]]),
    "one member more": lambda whole: inserted(whole, 2, name=b"objects/" + b"a" * 64),
    "one member more at the end": lambda whole: inserted(whole, len(members(whole)), name=b"more"),
    "states": lambda whole: inserted(whole, 1, name=b"states"),
    "a long name": lambda whole: long_name(whole, b"L"),
    "a long name of POSIX": lambda whole: long_name(whole, b"x"),
    "a global header": lambda whole: long_name(whole, b"g"),
    "no manifest": lambda whole: joined(members(whole)[1:]),
    "the manifest at the end": lambda whole: joined([*members(whole)[1:], members(whole)[0]]),
    "a missing object": lambda whole: joined(members(whole)[:-1]),
    "objects in another order": lambda whole: joined([members(whole)[0], *reversed(members(whole)[1:])]),
    "no member": lambda _whole: joined([]),
    "nothing": lambda _whole: b"",
    "text": lambda _whole: b"A backup? No.\n" * 2000,
    "more after the end": lambda whole: whole + b"x",
    "more zeros after the end": lambda whole: whole + bytes(10240),
    "another archive after the end": lambda whole: whole + whole,
    "something in the padding": lambda whole: joined(
        [(header, content[:-1] + b"x" if content[-1:] == b"\0" else content) for header, content in members(whole)]
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
def test_what_no_backup_is_packed_as_is_refused_and_nothing_of_it_stays(
    archive: bytes, there: Catalogue, tmp_path: Path, hostile: t.Callable[[bytes], bytes], is_compressed: bool
) -> None:
    content = hostile(archive)
    assert content != archive
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    target = tmp_path / "hostile"
    target.write_bytes(gzip.compress(content) if is_compressed else content)
    with pytest.raises(Damaged, match=f"^{target} cannot be used: ") as caught:
        unpack(there, target)
    assert len(str(caught.value)) < 1000
    target.unlink()
    assert is_untouched(there)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def file_of(document: dict[str, t.Any], number: int = 0) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", document["parts"][0]["files"][number])


WRONG: dict[str, t.Callable[[dict[str, t.Any]], t.Any]] = {
    "a name that leads out": lambda document: document.update(name="../../20260921T141320Z"),
    "a name that is none": lambda document: document.update(name=None),
    "no name": lambda document: document.pop("name"),
    "another format": lambda document: document.update(format=2),
    "something more": lambda document: document.update(more=1),
    "no parts": lambda document: document.update(parts=None),
    "a part that is text": lambda document: document.update(parts=["x"]),
    "the same part twice": lambda document: document.update(parts=document["parts"] * 2),
    "a path that leads out": lambda document: file_of(document).update(path="../x"),
    "an absolute path": lambda document: file_of(document).update(path="/etc/passwd"),
    "a path that is a number": lambda document: file_of(document).update(path=5),
    "a path twice": lambda document: file_of(document).update(path=file_of(document, 1)["path"]),
    "a file above another": lambda document: file_of(document).update(path="01J"),
    "a file below another": lambda document: file_of(document).update(path="01K/tombstones/x"),
    "a directory twice": lambda document: document["parts"][0]["directories"].append(
        document["parts"][0]["directories"][0]
    ),
    "a size below zero": lambda document: file_of(document).update(size=-1),
    "a size that is text": lambda document: file_of(document).update(size="5"),
    "two sizes of one object": lambda document: file_of(document, 1).update(size=7),
    "a hash that is none": lambda document: file_of(document).update(sha256="../" * 21 + "x"),
    "a hash that is a number": lambda document: file_of(document).update(sha256=5),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_manifest_that_is_sealed_well_but_cannot_be_is_refused(
    archive: bytes, there: Catalogue, tmp_path: Path, change: t.Callable[[dict[str, t.Any]], t.Any]
) -> None:
    target = tmp_path / "wrong"
    target.write_bytes(with_manifest(archive, change))
    with pytest.raises(Damaged, match="its manifest: "):
        unpack(there, target)
    assert is_untouched(there)


def test_a_manifest_of_brackets_is_refused(archive: bytes, there: Catalogue, tmp_path: Path) -> None:
    header, _content = members(archive)[0]
    body = b"[" * 200_000
    new = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    (tmp_path / "deep").write_bytes(
        joined([(changed(header, size=b"%011o\0" % len(new)), new + bytes(-len(new) % BLOCK))])
    )
    with pytest.raises(Damaged, match="its manifest: "):
        unpack(there, tmp_path / "deep")


def test_a_manifest_that_claims_more_than_the_disk_has_is_refused_with_the_figures(
    archive: bytes, there: Catalogue, tmp_path: Path
) -> None:
    target = tmp_path / "claims"
    target.write_bytes(with_manifest(archive, lambda document: file_of(document).update(size=1 << 60)))
    with pytest.raises(NoRoom, match=r"needs 11529215046068\d+ bytes in .*, and \d+ are free"):
        unpack(there, target)
    assert is_untouched(there)


def test_what_another_host_knew_of_a_backup_is_not_believed(here: Catalogue, there: Catalogue, tmp_path: Path) -> None:
    here.record(NAME, {"journals /srv/data": State(PROVEN, NOW, NOW)})
    assert here.entry(NAME).level == PROVEN
    unpack(there, pack(here, NAME, tmp_path / "archive").path)
    assert there.entry(NAME).level == WRITTEN


def test_what_the_catalogue_has_already_is_not_written_again(
    here: Catalogue, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.record(NAME, {"journals /srv/data": State(PROVEN, NOW, NOW)})
    monkeypatch.setattr(store, "write_all", lambda *_arguments: pytest.fail("it was written"))
    assert unpack(here, tmp_path / "archive") == NAME
    assert here.entry(NAME).level == PROVEN


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_backup_whose_object_is_damaged_or_gone_is_mended(
    here: Catalogue, archive: bytes, tmp_path: Path, is_noted: bool
) -> None:
    path = here.store.path(hashlib.sha256(CONTENT["01J/chunks/000001"]).hexdigest())
    path.unlink()
    if is_noted:
        path.write_bytes(bytes(1024))
        here.record(NAME, {"journals /srv/data": State(DAMAGED, NOW, NOW, "rotten")})
    assert unpack(here, tmp_path / "archive") == NAME
    assert here.entry(NAME).level == WRITTEN
    assert laid(here, tmp_path / "laid") == CONTENT


def test_another_backup_of_that_name_stays(tmp_path: Path, archive: bytes) -> None:
    other = filled(tmp_path / "other", {"a": b"other"})
    with pytest.raises(Failed, match=f"has another backup {NAME}"):
        unpack(other, tmp_path / "archive")
    assert laid(other, tmp_path / "laid") == {"a": b"other"}
    (other.root / "backups" / NAME / "manifest").write_text("rotten")
    with pytest.raises(Failed, match="its manifest is damaged"):
        unpack(other, tmp_path / "archive")


def test_one_backup_of_several_is_carried_alone_and_joins_others(tmp_path: Path) -> None:
    here = filled(tmp_path)
    (tmp_path / "data" / "new").write_bytes(b"new")
    second, _cost = create(here, [Files(tmp_path / "data")], NOW + 60, "host1")
    there = filled(tmp_path / "other", {"a": b"{}"})
    there.remove([])
    assert unpack(there, pack(here, second.name, tmp_path / "archive").path) == second.name
    assert there.names() == [NAME, second.name]
    there.remove([NAME])
    for file in second.parts[0].files:
        there.store.check(file)


class Full:
    """Instead of os.write: a disk that takes so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, handle: int, data: t.Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.write(handle, memoryview(data)[: self.room])
        self.room -= taken
        return taken


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_disk_that_fills_up_anywhere_leaves_no_file(
    here: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    length = pack(here, NAME, tmp_path / "whole", compression).bytes
    for room in range(0, length, max(1, length // 50)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Full(room))
            with pytest.raises(NoRoom, match=r"cannot hold backup.* bytes"):
                pack(here, NAME, tmp_path / "archive", compression)
        assert not list(tmp_path.glob("*archive*"))
    assert pack(here, NAME, tmp_path / "archive", compression).bytes == length


def test_a_catalogue_that_fills_up_anywhere_keeps_no_half_backup(
    archive: bytes, there: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(len(content) for content in set(CONTENT.values())) + len(members(archive)[0][1])
    for room in range(0, needed - BLOCK, 40):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Full(room))
            with pytest.raises(NoRoom, match="is too full"):
                unpack(there, tmp_path / "archive")
        assert there.names() == []
        with there.locked():
            there.remove([])
        assert is_untouched(there)
    assert unpack(there, tmp_path / "archive") == NAME


def killed(work: t.Callable[[], object], at: int) -> bool:
    """Runs it in a process that is killed before its so-manieth write or sync; False where it came to its end."""
    child = os.fork()
    if not child:
        calls = iter(range(at))

        def counted(call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
            def counting(*arguments: t.Any) -> t.Any:
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments)

            return counting

        try:
            os.write, os.fsync = counted(os.write), counted(os.fsync)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _child, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_kill_at_any_step_of_packing_leaves_no_half_file_under_its_name(
    here: Catalogue, tmp_path: Path, compression: str
) -> None:
    place = tmp_path / "away"
    place.mkdir()
    target = place / "archive"
    step = 0
    while killed(lambda: pack(here, NAME, target, compression), step):
        step += 1
        if target.exists():
            there = empty(tmp_path / str(step))
            assert unpack(there, target) == NAME
            target.unlink()
        assert len(tree(place)) <= 1
    assert step >= 4
    assert tree(place) == {"archive"}
    assert unpack(empty(tmp_path / "there"), target) == NAME


def test_a_kill_at_any_step_of_unpacking_leaves_no_half_backup(archive: bytes, tmp_path: Path) -> None:
    step, is_killed = 0, True
    while is_killed:
        there = empty(tmp_path / f"there{step}")
        is_killed = killed(functools.partial(unpack, there, tmp_path / "archive"), step)
        for file in (part for name in there.names() for part in manifest_of(there, name).parts[0].files):
            there.store.check(file)
        with there.locked():
            assert tree(there.root / "incoming") == set()
            assert unpack(there, tmp_path / "archive") == NAME
        assert laid(there, tmp_path / f"laid{step}") == CONTENT
        step += 1
    assert step >= 2 * len(set(CONTENT.values()))


def test_what_a_killed_run_left_goes_and_what_a_living_one_writes_stays(here: Catalogue, tmp_path: Path) -> None:
    place = tmp_path / "a*way"
    place.mkdir()
    target = place / "arch[1]ve"
    assert killed(lambda: pack(here, NAME, target, "none"), 3)
    abandoned = tree(place)
    assert len(abandoned) == 1
    (place / ".arch1ve.7.new").write_text("of somebody else")

    read = here.store.read
    seen: list[set[str]] = []

    def other_run(file: t.Any) -> t.Iterator[bytes]:
        if not seen:
            seen.append(tree(place))
            assert killed(lambda: pack(here, NAME, target, "none"), 0)
            seen.append(tree(place))
        return read(file)

    here.store.read = other_run  # type: ignore[method-assign]
    pack(here, NAME, target, "none")
    assert not seen[0] & abandoned
    assert seen[0] < seen[1]
    here.store.read = read  # type: ignore[method-assign]
    pack(here, NAME, place / "arch[1]ve.2", "none")
    target.unlink()
    pack(here, NAME, target, "none")
    assert tree(place) == {"arch[1]ve", "arch[1]ve.2", ".arch1ve.7.new"}


def test_a_catalogue_that_cannot_be_read_from_is_no_damage(there: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unpack(there, tmp_path / "absent")


def test_the_manifest_in_the_file_is_that_of_the_catalogue(here: Catalogue, archive: bytes) -> None:
    written = (here.root / "backups" / NAME / "manifest").read_bytes()
    assert members(archive)[0][1].startswith(written)
    assert json.loads(written.partition(b"\n")[2])["host"] == "host1"
