# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a configuration in a backup, encrypted by the real age: they come back, and to nobody else."""

from __future__ import annotations

import dataclasses
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import encryption, job, settings
from ansible_collections.njord.telemetry.plugins.module_utils._backup.carry import pack, unpack
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import PROVEN, VERIFIED, Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.configuration import ConfigurationSource
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Cost, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Manifest

from tests.testbench import module
from tests.testbench.packages import program

NOW = 1_800_000_000.0
CANARY = "hunter2canary"
SECRETS = {
    "web.yml": f"basic_auth_users:\n  admin: {CANARY}\n".encode(),
    "below/token": CANARY.encode(),
    "empty.key": b"",
    "big.p12": f"{CANARY}\0".encode() * 20_000,
}


@dataclasses.dataclass(frozen=True)
class Identity:
    """What opens a secret. :param public: what it is encrypted to."""

    file: Path
    public: str


@dataclasses.dataclass(frozen=True)
class Host:
    """:param etc: what is backed up."""

    root: Path
    etc: Path
    catalogue: Catalogue

    def back_up(self, *to: Identity) -> tuple[Manifest, Cost]:
        age = encryption.find([one.public for one in to], self.catalogue.scratch)
        with self.catalogue.locked():
            return create(self.catalogue, [ConfigurationSource([str(self.etc)], age)], NOW, "host")

    def opened(self, manifest: Manifest, by: Identity) -> dict[str, bytes | None]:
        """What that identity makes of the encrypted files; None where it opens nothing."""
        return {
            file.path[: -len(".age")]: decrypted(self.catalogue.store.path(file.sha256), by)
            for file in manifest.parts[0].files
            if file.path.endswith(".age")
        }


def decrypted(path: Path, by: Identity) -> bytes | None:
    done = subprocess.run([program("age"), "-d", "-i", by.file, path], capture_output=True, check=False)
    return done.stdout if not done.returncode else None


def identity(tmp_path: Path, name: str, kind: str = "age") -> Identity:
    file = tmp_path / name
    if kind == "age":
        subprocess.run([program("age-keygen"), "-o", file], check=True, capture_output=True)
        public = subprocess.run([program("age-keygen"), "-y", file], check=True, capture_output=True, text=True).stdout
        return Identity(file, public.strip())
    subprocess.run([program("ssh-keygen"), "-q", "-t", kind, "-N", "", "-C", "me@home", "-f", file], check=True)
    return Identity(file, file.with_name(f"{name}.pub").read_text().strip())


@pytest.fixture(params=["1.1", "1.2"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", str(program("age", request.param).parent), prepend=":")
    etc = tmp_path / "etc"
    for name, content in {**SECRETS, "rules.yml": b"groups: []\n"}.items():
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_bytes(content)
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    return Host(tmp_path, etc, catalogue)


def holds(root: Path, text: str) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize("kind", ["age", "ed25519", "rsa"])
def test_the_identity_opens_every_secret_byte_for_byte_and_no_other_does(host: Host, kind: str) -> None:
    mine, other = identity(host.root, "mine", kind), identity(host.root, "other")
    manifest, _cost = host.back_up(mine)
    assert host.opened(manifest, mine) == SECRETS
    assert set(host.opened(manifest, other).values()) == {None}
    assert holds(host.catalogue.root, CANARY) == []


def test_each_of_several_recipients_opens_them(host: Host) -> None:
    both = [identity(host.root, "mine"), identity(host.root, "other", "ed25519")]
    manifest, _cost = host.back_up(*both)
    assert [host.opened(manifest, one) for one in both] == [SECRETS, SECRETS]


def test_the_second_backup_stores_nothing_new_and_one_for_others_all_secrets_anew(host: Host) -> None:
    mine, other = identity(host.root, "mine"), identity(host.root, "other")
    first, _cost = host.back_up(mine)
    again, cost = host.back_up(mine)
    assert (again.parts[0].files, cost.new) == (first.parts[0].files, 0)
    moved, cost = host.back_up(other)
    assert len(moved.hashes() - first.hashes()) == len(SECRETS)
    assert cost.new > 0
    assert host.opened(moved, other) == SECRETS
    assert set(host.opened(moved, mine).values()) == {None}
    assert host.opened(first, mine) == SECRETS


def test_a_secret_that_changed_is_in_the_next_backup_as_it_is_now(host: Host) -> None:
    mine = identity(host.root, "mine")
    first, _cost = host.back_up(mine)
    (host.etc / "web.yml").write_text("basic_auth_users: {}\n")
    second, _cost = host.back_up(mine)
    assert host.opened(second, mine) == {**SECRETS, "web.yml": b"basic_auth_users: {}\n"}
    assert len(second.hashes() - first.hashes()) == 1


def test_such_a_part_is_verified_and_no_more_can_be_known_of_it(host: Host) -> None:
    manifest, _cost = host.back_up(identity(host.root, "mine"))
    entry = job.examine(job.Prover(host.catalogue, None, None), manifest.name, is_proof=True)
    state = entry.state(manifest.parts[0])
    assert (state.level, state.can_be_proven, entry.level) == (VERIFIED, False, PROVEN)


def test_carried_away_and_restored_the_files_are_as_they_were_and_the_finding_says_what_opens_them(host: Host) -> None:
    mine = identity(host.root, "mine")
    manifest, _cost = host.back_up(mine)
    there = Catalogue(str(host.root / "there"))
    there.make()
    assert unpack(there, pack(host.catalogue, manifest.name, host.root / "away.tar").path) == manifest.name
    target = host.root / "target"
    answer = module.run(
        "restore",
        {
            "catalogue": str(there.root),
            "name": manifest.name,
            "source": "configuration",
            "target_dir": str(target),
            "confirm": True,
        },
    )
    (done,) = module.findings(answer, "restore.done")
    assert "age -d -i IDENTITY FILE" in done["remedy"]
    assert f"{len(SECRETS)} files of it are encrypted" in done["summary"]
    assert done["evidence"]["recipients"] == [mine.public]
    assert {name: decrypted(target / f"{name}.age", mine) for name in SECRETS} == SECRETS
    assert {(target / f"{name}.age").stat().st_mode & 0o777 for name in SECRETS} == {0o600}
    assert (target / "rules.yml").read_text() == "groups: []\n"
    assert holds(target, CANARY) == holds(there.root, CANARY) == []
    assert CANARY not in str(answer)


def given(tmp_path: Path, recipients: list[str]) -> dict[str, t.Any]:
    (tmp_path / "etc").mkdir()
    return {
        "catalogue": str(tmp_path / "catalogue"),
        "sources": ["configuration"],
        "configuration_paths": [str(tmp_path / "etc")],
        "secrets_recipients": recipients,
    }


@pytest.mark.parametrize("is_check", [False, True])
def test_where_age_is_missing_the_module_says_so_before_it_begins(tmp_path: Path, is_check: bool) -> None:
    options = given(tmp_path, [identity(tmp_path, "mine").public])
    answer = module.run("backup", {**options, "_ansible_check_mode": is_check})
    assert answer["failed"]
    assert "apt install age" in answer["msg"]
    assert not (tmp_path / "catalogue").exists()


@pytest.mark.parametrize("value", ["age1notakey", "ssh-ed25519 AAAA", "me"])
def test_a_malformed_recipient_is_named_with_its_option(
    tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program("age").parent), prepend=":")
    options = {**settings.DEFAULTS, **given(tmp_path, [value])}
    with pytest.raises(settings.Unusable, match=f"secrets_recipients: '{value}' is .*would do"):
        settings.job(options, settings.prometheus(options))
    assert not (tmp_path / "catalogue").exists()
