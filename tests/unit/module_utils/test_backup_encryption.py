# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a configuration that go into a backup encrypted: which, under what name, and what is said of them."""

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import configuration, encryption, tree
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.configuration import ConfigurationSource
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Failed, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Manifest

NOW = 1_800_000_000.0
CANARY = "hunter2canary"
KEY = "age1f9j3vl985q6fkgj0mp253rgfqh65nkgctdxwh5mayx7al7dcq9hsc95gnd"
OTHER = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
# As long as the plain text asks for, another one each time, and nothing of it.
FAKE = """\
#!/bin/sh
echo "$@" >>"$(dirname "$0")/log"
cat >"$(dirname "$0")/plain"
head -c "$(wc -c <"$(dirname "$0")/plain")" /dev/urandom
echo " is encrypted"
"""
REFUSES = '#!/bin/sh\necho "age: error: malformed recipient" >&2\necho "age: report it" >&2\nexit 1\n'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand_in(tmp_path, monkeypatch, FAKE)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """A program that is called age."""
    path = tmp_path / "bin" / "age"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    found = Catalogue(str(tmp_path / "catalogue"))
    found.make()
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def nowhere(_purpose: str) -> contextlib.AbstractContextManager[Path]:
    raise AssertionError("nothing is to be written")


def back_up(catalogue: Catalogue, directory: Path, *recipients: str) -> Manifest:
    source = ConfigurationSource([str(directory)], encryption.find(recipients, catalogue.scratch))
    with catalogue.locked():
        return create(catalogue, [source], NOW, "host")[0]


def everything(root: Path) -> bytes:
    return b"\n".join(os.fsencode(path) + (path.read_bytes() if path.is_file() else b"") for path in root.rglob("*"))


def test_without_a_recipient_nothing_is_encrypted_and_no_program_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert encryption.find([], nowhere) is None


@pytest.mark.parametrize(
    "value",
    [
        *("", "age", "age1", "age1X", f"{KEY} -o /etc/x", f"-i {KEY}", "--passphrase", "github:somebody", "/etc/keys"),
        *("ssh-dss AAAA", "ssh-ed25519", "ssh-ed25519 AAAA=x", f"{KEY}\n{OTHER}", "ecdsa-sha2-nistp256 AAAA"),
    ],
)
def test_what_is_no_public_key_never_reaches_a_command_line_and_is_named(value: str, program: Path) -> None:
    with pytest.raises(ValueError, match="public key") as caught:
        encryption.find([KEY, value], nowhere)
    assert repr(value) in str(caught.value)
    assert not program.with_name("log").exists()


@pytest.mark.parametrize(
    "value",
    [f"AGE-SECRET-KEY-1{CANARY}", f"age-secret-key-1{CANARY}", f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}"],
)
def test_a_private_key_is_refused_and_not_quoted(value: str, program: Path) -> None:
    with pytest.raises(ValueError, match="number 2 is a private key") as caught:
        encryption.find([KEY, value], nowhere)
    assert CANARY not in str(caught.value)
    assert not program.with_name("log").exists()


def test_a_recipient_that_age_refuses_is_named_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, REFUSES)
    with pytest.raises(ValueError, match=f"'{KEY}' is not accepted by age: malformed recipient; an age public key"):
        encryption.find([KEY], nowhere)


def test_without_age_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Failed, match="apt install age"):
        encryption.find([KEY], nowhere)


def test_what_may_hold_a_secret_goes_in_encrypted_and_what_does_not_as_it_is(
    directory: Path, catalogue: Catalogue, program: Path
) -> None:
    (directory / "closed").mkdir(mode=0o700)
    secrets = {
        "web.yml": 0o640,
        "plain.conf": 0o644,
        "own.conf": 0o600,
        "closed/a.conf": 0o644,
        "binary": 0o755,
        "old.age": 0o644,
    }
    for name, mode in secrets.items():
        (directory / name).write_bytes(f"password: {CANARY}\n".encode() + (b"\0" if name == "binary" else b""))
        (directory / name).chmod(mode)
    (directory / "rules.yml").write_text("groups: []\n")
    (directory / "long.conf").write_text(CANARY + " " * (8 << 20))
    (directory / "link.conf").symlink_to(directory / "own.conf")
    (part,) = back_up(catalogue, directory, KEY).parts
    files = {file.path: file for file in part.files}
    assert set(files) == {"rules.yml", *(f"{name}.age" for name in secrets)}
    assert {files[f"{name}.age"].mode for name in secrets} == {0o600}
    assert files["web.yml.age"].owner == (directory / "web.yml").owner()
    assert files["web.yml.age"].modified == (directory / "web.yml").stat().st_mtime_ns
    assert set(part.facts["left_out"]) == {"long.conf", "link.conf"}
    assert part.facts["recipients"] == [KEY]
    assert {path[: -len(".age")]: row["mode"] for path, row in part.facts["encrypted"].items()} == secrets
    assert part.facts["encrypted"]["own.conf.age"]["reason"] == "not everybody may read it"
    assert f"6 files of {directory} may hold secrets and are in the backup, encrypted." in part.facts["remarks"]
    held = everything(catalogue.root)
    assert CANARY.encode() not in held
    assert held.count(b"is encrypted") == len(secrets)
    assert CANARY not in program.with_name("log").read_text()
    assert CANARY in program.with_name("plain").read_text()
    assert list((catalogue.root / "scratch").iterdir()) == []


def test_without_recipients_the_manifest_speaks_of_none(directory: Path, catalogue: Catalogue) -> None:
    (directory / "web.yml").write_text(CANARY)
    (part,) = back_up(catalogue, directory).parts
    assert part.files == ()
    assert not {"encrypted", "recipients"} & set(part.facts)


def test_a_file_whose_name_has_no_room_for_more_stays_out_and_is_named(
    directory: Path, catalogue: Catalogue, program: Path
) -> None:
    longest, longer = "t" * 251, "t" * 252
    for name in ("token.x", longest, longer):
        (directory / name).write_text(f"password: {CANARY}\n")
    (directory / "token.x.age").mkdir()
    (directory / "token.x.age" / "harmless").write_text("a: 1\n")
    (part,) = back_up(catalogue, directory, KEY).parts
    assert set(part.facts["left_out"]) == {"token.x", longer}
    assert all("cannot be put after that name" in reason for reason in part.facts["left_out"].values())
    assert {file.path for file in part.files} == {f"{longest}.age", "token.x.age/harmless.age"}


def test_order_and_comment_of_recipients_are_nothing_and_another_recipient_is_another_key(program: Path) -> None:
    ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="

    def mark(*recipients: str) -> str:
        found = encryption.find(recipients, nowhere)
        assert found
        return found.mark

    assert mark(KEY, ssh) == mark(f"{ssh} me@home", f" {KEY} ", KEY)
    assert len({mark(KEY), mark(OTHER), mark(KEY, OTHER), mark(ssh)}) == 4


def test_the_second_backup_of_the_same_stores_nothing_and_of_a_change_only_that(
    directory: Path, catalogue: Catalogue, program: Path
) -> None:
    for name in ("web.yml", "token"):
        (directory / name).write_text(CANARY)
    first, second = back_up(catalogue, directory, KEY), back_up(catalogue, directory, KEY)
    assert second.parts[0].files == first.parts[0].files
    (directory / "token").write_text(CANARY[::-1])
    third = back_up(catalogue, directory, KEY)
    assert len(third.hashes() - first.hashes()) == 1
    assert not third.hashes() & back_up(catalogue, directory, OTHER).hashes()


def test_a_secret_that_is_written_between_the_look_and_the_reading_is_looked_at_again(
    directory: Path, catalogue: Catalogue, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "a.conf"
    path.write_text("harmless: 1\n")
    real, looks = tree.walk, []

    def walk(root: str) -> t.Any:
        found = real(root)
        looks.append(root)
        if len(looks) == 1:
            path.write_text(f"password: {CANARY}\n")
        return found

    monkeypatch.setattr(configuration, "walk", walk)
    (part,) = back_up(catalogue, directory, KEY).parts
    assert [file.path for file in part.files] == ["a.conf.age"]
    assert part.files[0].modified == path.stat().st_mtime_ns
    assert CANARY.encode() not in everything(catalogue.root)


def test_where_age_fails_there_is_no_backup_and_the_file_is_named(
    directory: Path, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "web.yml").write_text(CANARY)
    only_nothing = '#!/bin/sh\n[ "$(head -c 1)" = "" ] || { echo "age: error: disk full" >&2; exit 1; }\n'
    stand_in(tmp_path, monkeypatch, only_nothing)
    with pytest.raises(Failed, match=r"web.yml: age could not encrypt: disk full"):
        back_up(catalogue, directory, KEY)
    assert catalogue.names() == []
    assert list((catalogue.root / "scratch").iterdir()) == []
