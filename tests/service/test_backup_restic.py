# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups off the host, with the restic of Debian 12 and 13: into a directory, over SFTP, and to a stand-in for S3."""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import functools
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import about, job, remote, restic, settings
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import PROVEN, Catalogue, Missing, State
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.job import Job, Prover
from ansible_collections.njord.telemetry.plugins.module_utils._backup.keep import Rules
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import lay
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Damaged
from ansible_collections.njord.telemetry.plugins.module_utils._backup.remote import Remote
from ansible_collections.njord.telemetry.plugins.module_utils._backup.restic import Repository
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding

from tests.conftest import COLLECTIONS
from tests.service.backups import Files, facts_of, flip, make_blocks, tree
from tests.testbench import module, servers
from tests.testbench.packages import program

NOW = float(calendar.timegm((2026, 1, 31, 2, 0, 0)))
NAME = "20260131T020000Z"
DAY = 86400.0
MEGABYTE = 1 << 20
VERSIONS = ("0.18", "0.14")
CANARIES = PASSWORD, SECRET = "canary-4711", "canary-0815"


BOTH = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def version() -> str:
    """What a test says otherwise that is about both."""
    return VERSIONS[0]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[servers.Server]:
    with servers.s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


def write_secrets(tmp_path: Path) -> dict[str, str]:
    """The options of the two files that hold a secret."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "environment").write_text(f"# of AWS\nAWS_ACCESS_KEY_ID=key\nexport AWS_SECRET_ACCESS_KEY='{SECRET}'\n")
    return {
        "restic_password_file": str(tmp_path / "password"),
        "restic_environment_file": str(tmp_path / "environment"),
    }


@dataclasses.dataclass
class Host:
    """A host with files that are backed up. :param where: options of the repository."""

    name: str
    root: Path
    where: dict[str, t.Any]
    more: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def base(self) -> Path:
        """With what it sends to."""
        return self.root.parent

    def __post_init__(self) -> None:
        self.files = self.root / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.catalogue = Catalogue(str(self.root / "catalogue"))
        self.catalogue.make()

    @property
    def remote(self) -> Remote:
        found = settings.remote({**settings.DEFAULTS, **self.where}, self.catalogue)
        assert found
        return dataclasses.replace(found, repository=dataclasses.replace(found.repository, **self.more))

    def write(self, name: str, size: int = 1000) -> None:
        (self.files / name).write_bytes(random.Random(f"{self.name} {name}").randbytes(size))

    def work(self, **more: t.Any) -> Job:
        values: dict[str, t.Any] = {
            "prover": Prover(self.catalogue, None, None),
            "sources": (Files("configuration", self.files, {}),),
            "rules": Rules(),
            "level": "written",
            "carry_to": "",
            "host": self.name,
            "jobs": 2,
            "remote": self.remote,
        }
        return Job(**{**values, **more})

    def run(self, now: float = NOW, **more: t.Any) -> job.Done:
        with self.catalogue.locked():
            return job.run(self.work(**more), now)

    def there(self) -> list[str]:
        return [copy.name for copy in remote.copies(self.remote, self.name)]

    def fetch(self, host: str, name: str = "latest") -> str:
        with self.catalogue.locked():
            copy = remote.choose(self.remote, host, name)
            remote.fetch(self.remote, self.catalogue, copy, remote.manifest_of(self.remote, copy), NOW)
        return copy.name

    def laid(self, name: str, target: Path) -> dict[str, bytes]:
        manifest = self.catalogue.entry(name).manifest
        assert manifest
        target.mkdir()
        lay(self.catalogue.store, manifest.parts[0], target)
        return content(target)


Where = t.Callable[[str, str], t.Dict[str, t.Any]]


@pytest.fixture
def where(tmp_path: Path, s3: servers.Server) -> Where:
    """Options of a repository of a kind, for a version of restic."""

    def options(kind: str, version: str) -> dict[str, t.Any]:
        kinds: dict[str, t.Callable[[], tuple[str, list[str]]]] = {
            "directory": lambda: (str(tmp_path / "repository"), []),
            "sftp": lambda: (f"sftp:backup@nowhere:{tmp_path}/repository", [f"sftp.command={program('sftp-server')}"]),
            "s3": lambda: (f"s3:{s3.url}/{bucket(s3)}/backups", []),
        }
        location, more = kinds[kind]()
        return {
            **write_secrets(tmp_path),
            "restic_repository": location,
            "restic_options": more,
            "restic_program": str(program("restic", version)),
        }

    return options


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> t.Callable[[str], tuple[Path, Host]]:
    """A host that has sent one backup with a version, and a copy of all that: restic takes half a second for each word,
    as long as it takes to try a password."""

    @functools.cache
    def make(version: str) -> tuple[Path, Host]:
        base = tmp_path_factory.mktemp("sent")
        options = {
            **write_secrets(base),
            "restic_repository": str(base / "repository"),
            "restic_options": [],
            "restic_program": str(program("restic", version)),
        }
        host = Host("njord1", base / "host", options)
        host.write("one", MEGABYTE)
        host.run()
        copy = tmp_path_factory.mktemp("copy") / "of"
        shutil.copytree(base, copy)
        return copy, host

    return make


@pytest.fixture
def host(sent: t.Callable[[str], tuple[Path, Host]], version: str) -> Host:
    """One that has sent one backup, :data:`NAME`, into a directory."""
    copy, made = sent(version)
    shutil.rmtree(made.base)
    shutil.copytree(copy, made.base)
    return Host(made.name, made.root, dict(made.where))


def bucket(s3: servers.Server) -> str:
    """A new one."""
    name = f"njord{random.randrange(10**9)}"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", s3.port, timeout=10)) as connection:
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == http.HTTPStatus.OK
    return name


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def said(findings: t.Iterable[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def by_hand(host: Host, *words: str, **options: t.Any) -> str:
    """The program itself on that repository."""
    surroundings = {
        "RESTIC_REPOSITORY": host.where["restic_repository"],
        "RESTIC_PASSWORD_FILE": host.where["restic_password_file"],
        "PATH": os.environ["PATH"],
    }
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [host.where["restic_program"], "--no-cache", *words],
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
        **options,
    )
    return done.stdout


@pytest.mark.parametrize(("kind", "version"), [("directory", "0.14"), ("sftp", "0.18"), ("s3", "0.18"), ("s3", "0.14")])
def test_what_was_sent_comes_back_on_a_host_that_never_had_it(
    tmp_path: Path, where: Where, kind: str, version: str
) -> None:
    options = where(kind, version)
    here = Host("njord1", tmp_path / "here", options)
    here.write("one", 3 * MEGABYTE)
    here.write("a name with\na line", 5)
    done = here.run()
    assert [said(done.findings, check).severity for check in ("backup.sent", "backup.checked")] == ["ok", "ok"]
    assert [step.action for step in done.steps] == ["back up", "send", "check"]
    assert list(here.catalogue.copies(done.name)) == [f"restic:{options['restic_repository']}"]
    there = Host("njord2", tmp_path / "there", options)
    assert there.fetch("njord1") == done.name
    assert there.laid(done.name, tmp_path / "laid") == content(here.files)
    assert list((there.catalogue.root / "scratch").iterdir()) == []


@BOTH
def test_of_two_backups_with_the_same_files_the_second_costs_next_to_nothing(host: Host) -> None:
    before = size(Path(host.where["restic_repository"]))
    host.write("three")
    done = host.run(NOW + DAY)
    assert size(Path(host.where["restic_repository"])) - before < 30_000
    figures = said(done.findings, "backup.sent").evidence["figures"]
    assert figures["backup_sent_bytes"] > MEGABYTE
    assert figures["backup_sent_new_bytes"] < 30_000
    assert len(host.there()) == 2


def test_a_snapshot_has_the_files_of_one_backup_and_nothing_else(host: Host, tmp_path: Path) -> None:
    (host.files / "one").unlink()
    host.write("two")
    name = host.run(NOW + DAY).name
    snapshot, *nodes = [json.loads(line) for line in by_hand(host, "ls", "--json", "latest").splitlines()]
    manifest = host.catalogue.entry(name).manifest
    assert manifest
    objects = {f"/objects/{sha256[:2]}/{sha256}" for sha256 in manifest.hashes()}
    assert {node["path"] for node in nodes if node["type"] == "file"} == {f"/backups/{name}/manifest", *objects}
    assert (snapshot["hostname"], sorted(snapshot["tags"])) == ("njord1", [f"njord-backup={name}", "njord.telemetry"])
    # A person without us has a catalogue again.
    by_hand(host, "restore", snapshot["id"], "--target", str(tmp_path / "mine"))
    assert Catalogue(str(tmp_path / "mine")).entry(name).manifest == manifest


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, t.Any]]:
    made = make_blocks(tmp_path_factory.mktemp("blocks"), 2)
    facts = facts_of(made, tmp_path_factory.mktemp("server"))
    return made, {**facts, "owner": "root", "group": "root", "samples": 1}


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_host_that_never_had_the_data_brings_them_back_from_s3_proven(
    tmp_path: Path,
    where: Where,
    version: str,
    blocks: tuple[Path, dict[str, t.Any]],
) -> None:
    data, facts = blocks
    options = where("s3", version)
    here = Host("njord1", tmp_path / "here", options)
    name = here.run(sources=(Files("prometheus", data, facts),)).name
    target, catalogue = tmp_path / "target", tmp_path / "new"
    arguments = {
        **options,
        "catalogue": str(catalogue),
        "origin": "restic",
        "restic_host": "njord1",
        "target_dir": str(target),
        "prometheus_program": str(program("prometheus", "3")),
        "promtool": str(program("promtool", "3")),
    }
    planned = module.run("restore", arguments)
    assert (planned["name"], planned["changed"]) == (name, False)
    assert [(step["action"], step["bytes"]) for step in planned["plan"]] == [
        ("fetch", size(data)),
        ("write", size(data)),
    ]
    assert not target.exists()
    assert not catalogue.exists()
    done = module.run("restore", {**arguments, "confirm": True})
    assert done["plan"] == planned["plan"]
    assert tree(target) == tree(data)
    times = len(facts["counts"])
    assert f"gave the counts of the backup at {times} times" in module.findings(done, "restore.done")[0]["summary"]
    assert module.findings(done, "restore.fetched")[0]["severity"] == "ok"
    assert Catalogue(str(catalogue)).names() == [name]
    # What is here already is not fetched once more.
    assert module.run("restore", {**arguments, "target_dir": str(tmp_path / "other")})["plan"][0]["action"] == "write"


def test_backup_info_lists_what_lies_there_also_where_there_is_no_catalogue(host: Host, tmp_path: Path) -> None:
    other = Host("njord2", tmp_path / "njord2", host.where)
    other.write("one")
    other.run()
    answer = module.run("backup_info", {**host.where, "catalogue": str(tmp_path / "none")})
    row = {"name": NAME, "created": "2026-01-31T02:00:00Z", "place": f"restic:{host.where['restic_repository']}"}
    assert sorted(answer["elsewhere"], key=lambda one: str(one["host"])) == [
        {**row, "host": "njord1", "is_held": False},
        {**row, "host": "njord2", "is_held": False},
    ]
    assert module.findings(answer, "backup.last")[0]["severity"] == "unknown"
    assert not (tmp_path / "none").exists()


@BOTH
def test_a_wrong_password_is_said_and_the_backup_itself_is_good(host: Host) -> None:
    (host.base / "password").write_text("another\n")
    done = host.run(NOW + DAY)
    finding = said(done.findings, "backup.sent")
    assert finding.severity == "critical"
    assert "restic_password_file is not that of" in finding.summary
    assert done.level == "written"
    assert "check" not in [step.action for step in done.steps]


@BOTH
@pytest.mark.parametrize("kind", ["s3", "sftp", "rest"])
def test_a_place_that_does_not_answer_is_unreachable(host: Host, kind: str) -> None:
    port = servers.free_port()
    host.where["restic_repository"] = {
        "s3": f"s3:http://127.0.0.1:{port}/bucket",
        "sftp": "sftp:backup@127.0.0.1:/repository",
        "rest": f"rest:http://127.0.0.1:{port}/",
    }[kind]
    host.where["restic_options"] = [f"sftp.command=ssh -p {port} -o BatchMode=yes 127.0.0.1 -s sftp"]
    # The newer one goes on trying.
    host.more = {"patience": 2.0}
    # What ssh says may come too late for the older one.
    with pytest.raises(restic.Unreachable, match="cannot be reached" if kind == "sftp" else "refused"):
        host.there()


def test_a_backup_that_reached_nobody_is_told_of_until_one_does(host: Host) -> None:
    host.where["restic_repository"] = f"s3:http://127.0.0.1:{servers.free_port()}/bucket"
    host.more = {"patience": 1.0}
    finding = said(host.run(NOW + DAY).findings, "backup.sent")
    assert finding.severity == "critical"
    assert "refused" in finding.summary
    finding = said(about.findings(host.catalogue, NOW + DAY, DAY), "backup.sent")
    assert (finding.severity, finding.summary[:35]) == ("critical", "No backup ever reached restic:s3:ht")


@BOTH
def test_a_repository_that_was_there_is_not_made_anew(host: Host) -> None:
    Path(host.where["restic_repository"]).rename(host.base / "unmounted")
    with pytest.raises(restic.NoRepository):
        host.there()
    finding = said(host.run(NOW + DAY).findings, "backup.sent")
    assert finding.severity == "critical"
    assert f"{NAME} was sent there; see whether its disk is mounted" in finding.summary
    assert not Path(host.where["restic_repository"]).exists()


@BOTH
def test_a_bucket_that_is_not_there_is_made(host: Host, version: str, s3: servers.Server) -> None:
    host.where["restic_repository"] = f"s3:{s3.url}/not-there-{version.replace('.', '-')}"
    # The newer one asks for it again and again.
    host.more = {"patience": 3.0}
    with pytest.raises(restic.NoRepository):
        host.there()
    host.more = {"patience": 10.0}
    assert said(host.run(NOW + DAY).findings, "backup.sent").severity == "ok"


def test_without_the_program_it_says_which_package_has_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    host.where["restic_program"] = ""
    with pytest.raises(restic.NoProgram, match="apt install restic would do"):
        host.there()


# Of 0.12, which is not in Debian 12, and of places that are not here: a program that says it.
SAYINGS = [
    (1, "Fatal: unable to open config file: Stat: The specified key does not exist.", restic.NoRepository),
    (1, "Fatal: unable to open config file: <config/> does not exist", restic.NoRepository),
    (1, "Fatal: unable to open config file: Stat: Access Denied.", restic.Unauthorised),
    (
        1,
        "Fatal: unable to open config file: Stat: The Access Key Id you provided does not exist in our records.",
        restic.Unauthorised,
    ),
    (10, "Fatal: repository does not exist: unable to open config file", restic.NoRepository),
    (12, "Fatal: wrong password or no key found", restic.Unauthorised),
    (
        1,
        "subprocess ssh: backup@host: Permission denied (publickey).\nFatal: unable to start the sftp session",
        restic.Unauthorised,
    ),
    (1, "subprocess ssh: Host key verification failed.\nFatal: unable to start the sftp session", restic.Unreachable),
    (
        1,
        'Fatal: unable to open config file: Stat: Get "https://h/": dial tcp: lookup h: no such host',
        restic.Unreachable,
    ),
    (1, "Fatal: unable to open config file: Stat: x509: certificate signed by unknown authority", restic.Unreachable),
    (1, "unknown flag: --files-from-raw", restic.Unsupported),
    (1, "Load(<data/1>) returned error: dial tcp: i/o timeout\nFatal: repository contains errors", restic.Unreachable),
    (1, "Pack ID does not match, want 1, got 2\nFatal: repository contains errors", restic.DamagedRepository),
    (1, "Fatal: something new", restic.ResticError),
]


@pytest.mark.parametrize(("code", "words", "error"), SAYINGS)
def test_what_it_says_is_understood(
    host: Host, tmp_path: Path, code: int, words: str, error: type[restic.ResticError]
) -> None:
    (tmp_path / "words").write_text(words + "\n")
    (tmp_path / "restic").write_text(f"#!/bin/sh\ncat {tmp_path}/words >&2\nexit {code}\n")
    (tmp_path / "restic").chmod(0o755)
    host.where["restic_program"] = str(tmp_path / "restic")
    with pytest.raises(restic.ResticError) as caught:
        host.there()
    assert caught.type is error


def spoil(host: Host) -> Path:
    """Turns one bit of the largest pack."""
    pack = max((Path(host.where["restic_repository"]) / "data").rglob("*"), key=lambda path: path.stat().st_size)
    flip(pack)
    return pack


@BOTH
def test_a_turned_bit_there_is_found_noted_and_never_restored(host: Host, tmp_path: Path) -> None:
    host.where["restic_check"] = 1
    pack = spoil(host)
    host.write("three")
    finding = said(host.run(NOW + DAY).findings, "backup.checked")
    assert finding.severity == "critical"
    assert pack.name[:8] in finding.summary
    assert said(about.findings(host.catalogue, NOW + DAY, DAY), "backup.checked").severity == "critical"
    other = Host("njord2", tmp_path / "njord2", host.where)
    with pytest.raises((restic.DamagedRepository, Damaged)) as caught:
        other.fetch("njord1", NAME)
    assert host.where["restic_repository"] in str(caught.value)
    assert other.catalogue.names() == []
    assert list(other.catalogue.store.objects()) == []
    assert list((other.catalogue.root / "scratch").iterdir()) == []


def test_what_was_damaged_in_one_part_stays_so_until_that_part_is_read_again(host: Host) -> None:
    host.where["restic_check"] = 2
    part = host.remote.part(NOW + DAY)
    host.catalogue.note_remote({**host.catalogue.remote(), "damages": {f"{3 - part}/2": "a pack"}})
    severities = []
    for day in (1, 2):
        host.run(NOW + day * DAY)
        severities.append(said(about.findings(host.catalogue, NOW + day * DAY, DAY), "backup.checked").severity)
    assert severities == ["critical", "ok"]


def test_in_a_week_every_part_is_read_once(host: Host) -> None:
    assert sorted(host.remote.part(NOW + day * DAY) for day in range(7)) == [1, 2, 3, 4, 5, 6, 7]


def test_a_check_that_could_not_ask_is_unknown(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> None:
        raise restic.Unreachable("it cannot be reached")

    monkeypatch.setattr(Repository, "check", refused)
    host.catalogue.note_remote({})
    assert said(host.run(NOW + DAY).findings, "backup.checked").severity == "unknown"
    assert said(about.findings(host.catalogue, NOW + DAY, DAY), "backup.checked").severity == "unknown"


def test_what_lies_there_and_was_put_there_by_somebody_with_harm_in_mind_is_refused(host: Host, tmp_path: Path) -> None:
    name = NAME
    forged = tmp_path / "forged"
    by_hand(host, "restore", "latest", "--target", str(forged))
    victim = next(path for path in (forged / "objects").rglob("*") if path.is_file())
    flip(victim)
    by_hand(host, "forget", "latest")
    by_hand(
        host,
        *(
            "backup",
            "--host",
            "njord1",
            "--tag",
            "njord.telemetry",
            "--tag",
            f"njord-backup={name}",
            "backups",
            "objects",
        ),
        cwd=forged,
    )
    other = Host("njord2", tmp_path / "njord2", host.where)
    with pytest.raises(Damaged, match=rf"backup {name} in .* cannot be used: one is not what it was"):
        other.fetch("njord1")
    assert other.catalogue.names() == []


class Watched(threading.Thread):
    """All command lines that there are, until it is ended."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes())

    def __enter__(self) -> Watched:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.done.set()
        self.join()


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_secrets_are_in_no_process_list_output_or_catalogue(
    tmp_path: Path, where: Where, version: str, s3: servers.Server
) -> None:
    options = where("s3", version)
    (tmp_path / "configuration").write_text("x" * 1000)
    arguments = {
        **options,
        "catalogue": str(tmp_path / "catalogue"),
        "sources": ["configuration"],
        "configuration_paths": [str(tmp_path / "configuration")],
    }
    with Watched() as watched:
        answers = [
            module.run("backup", {**arguments, "_ansible_verbosity": 4, "_ansible_diff": True}),
            module.run("backup_info", arguments_of(arguments)),
        ]
        (tmp_path / "password").write_text(f"{PASSWORD}-wrong\n")
        answers.append(module.run("backup_info", arguments_of(arguments)))
    assert module.findings(answers[0], "backup.sent")[0]["severity"] == "ok"
    assert module.findings(answers[2], "backup.elsewhere")[0]["severity"] == "unknown"
    assert any(b"--files-from-raw" in line for line in watched.seen)
    everything = [*watched.seen, json.dumps(answers).encode(), s3.log.read_bytes()]
    everything += [path.read_bytes() for path in (tmp_path / "catalogue").rglob("*") if path.is_file()]
    assert not [text for text in everything if any(canary.encode() in text for canary in CANARIES)]


def arguments_of(arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in arguments.items() if name not in ("sources", "configuration_paths")}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("rest:https://user:canary-0815@host/", "restic_repository: a password in it"),
        ("relative/path", "restic_repository: an absolute directory"),
    ],
)
def test_a_location_that_cannot_be_used_is_not_repeated(host: Host, line: str, error: str) -> None:
    host.where["restic_repository"] = line
    with pytest.raises(settings.Unusable, match=error) as caught:
        host.there()
    assert SECRET not in str(caught.value)


def test_a_line_of_the_environment_that_is_none_is_said_by_its_number(host: Host) -> None:
    (host.base / "environment").write_text(f"A=1\n{SECRET}\n")
    with pytest.raises(restic.ResticError, match=r"line 2 of .* is no KEY=VALUE") as caught:
        host.there()
    assert SECRET not in str(caught.value)


_SENDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.njord.telemetry.plugins.module_utils._backup import remote, settings
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
import json
catalogue = Catalogue(sys.argv[2])
where = settings.remote({**settings.DEFAULTS, **json.loads(sys.argv[3])}, catalogue)
with catalogue.locked():
    remote.send(where, catalogue, catalogue.names()[-1], "njord1", time.time())
"""


@BOTH
def test_a_run_that_is_killed_while_it_sends_leaves_nothing_that_stops_the_next(host: Host) -> None:
    host.write("large", 100 * MEGABYTE)
    with host.catalogue.locked():
        create(host.catalogue, [Files("configuration", host.files, {})], NOW + DAY, "njord1")
    sender = subprocess.Popen(
        [sys.executable, "-c", _SENDER, str(COLLECTIONS), str(host.catalogue.root), json.dumps(host.where)]
    )
    wait(lambda: locks(host) or sender.poll() is not None)
    time.sleep(0.2)
    sender.kill()
    sender.wait()
    # It goes with who started it, at once.
    wait(lambda: not any(host.where["restic_program"].encode() in line for line in command_lines()), 5.0)
    assert locks(host), "it was too fast to be killed"
    (host.files / "large").unlink()
    done = host.run(NOW + 2 * DAY, rules=Rules(1, 0, 0, 0))
    assert [said(done.findings, check).severity for check in ("backup.sent", "backup.forgotten", "backup.checked")] == [
        "ok",
        "info",
        "ok",
    ]
    assert host.there() == [done.name]
    assert not locks(host)


def locks(host: Host) -> list[str]:
    """Those that were written whole."""
    places = (Path(host.where["restic_repository"]) / "locks").iterdir()
    return [path.name for path in places if "-tmp-" not in path.name]


def wait(done: t.Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def another_run(host: Host) -> subprocess.Popen[bytes]:
    """Of another host, that sends as long as nobody ends its input."""
    made = subprocess.Popen(
        [
            *(host.where["restic_program"], "--no-cache", "-r", host.where["restic_repository"]),
            *("-p", host.where["restic_password_file"], "backup", "--stdin", "--host", "njord2"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    wait(lambda: locks(host))
    return made


def command_lines() -> t.Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


@BOTH
def test_who_has_it_and_since_when_is_said(host: Host) -> None:
    other = another_run(host)
    try:
        host.more = {"lock_patience": 0.0}
        done = host.run(NOW + DAY, rules=Rules(1, 0, 0, 0))
    finally:
        other.communicate(b"")
    # Two may send at once; only who removes or checks must be alone.
    assert said(done.findings, "backup.sent").severity == "ok"
    finding = said(done.findings, "backup.forgotten")
    assert finding.severity == "warning"
    assert f"is in use by process {other.pid} of root on " in finding.summary
    assert " since 20" in finding.summary
    assert said(done.findings, "backup.checked").severity == "unknown"
    assert len(host.there()) == 2


def test_it_waits_for_another_run_that_ends(host: Host) -> None:
    other = another_run(host)
    ending = threading.Timer(3.0, lambda: other.communicate(b""))
    ending.start()
    done = host.run(NOW + DAY)
    ending.join()
    assert said(done.findings, "backup.checked").severity == "ok"


def test_only_what_this_host_sent_is_forgotten_by_its_rules(host: Host, tmp_path: Path) -> None:
    two = Host("njord2", tmp_path / "njord2", host.where)
    two.write("one")
    two.run(NOW - DAY)
    by_hand(host, "backup", "--stdin", "--host", "njord1", "--tag", "njord.telemetry", input="a person's")
    by_hand(host, "backup", "--stdin", "--host", "njord1", input="another's")
    done = host.run(NOW + DAY, rules=Rules(1, 0, 0, 0))
    assert host.there() == host.catalogue.names() == [done.name]
    assert [step.subject for step in done.steps if step.action == "forget"] == [NAME]
    assert len(json.loads(by_hand(host, "snapshots", "--json"))) == 4
    shutil.rmtree(two.catalogue.root)
    two.catalogue.make()
    assert two.fetch("njord2") == "20260130T020000Z"


def test_the_plan_of_a_backup_says_what_will_be_sent_forgotten_and_checked(host: Host) -> None:
    rules = Rules(1, 0, 0, 0)
    planned = job.plan(host.work(rules=rules), NOW + DAY)
    done = host.run(NOW + DAY, rules=rules)
    acted = [(step.action, step.subject) for step in done.steps if step.action != "back up"]
    assert [(step.action, step.subject) for step in planned if step.action != "back up"] == acted
    assert [action for action, _subject in acted] == ["send", "remove", "forget", "check"]


def test_the_last_proven_one_stays_there(host: Host) -> None:
    manifest = host.catalogue.entry(NAME).manifest
    assert manifest
    host.catalogue.record(NAME, {part.name: State(PROVEN, NOW, NOW) for part in manifest.parts})
    for day in (1, 2):
        last = host.run(NOW + day * DAY, rules=Rules(1, 0, 0, 0)).name
    assert host.there() == host.catalogue.names() == [NAME, last]


def test_what_somebody_else_removed_there_is_no_copy_any_more(host: Host) -> None:
    assert host.catalogue.copies(NAME)
    by_hand(host, "forget", "latest")
    host.run(NOW + DAY)
    assert host.catalogue.copies(NAME) == {}


@BOTH
def test_of_a_backup_that_is_not_whole_nothing_stays_there(host: Host) -> None:
    host.write("two")
    with host.catalogue.locked():
        manifest, _cost = create(host.catalogue, [Files("configuration", host.files, {})], NOW + DAY, "njord1")
        lost = next(file for file in manifest.parts[0].files if file.path == "two")
        host.catalogue.store.path(lost.sha256).unlink()
        with pytest.raises(restic.ResticError, match="restic read 2 of 3 files"):
            remote.send(host.remote, host.catalogue, manifest.name, "njord1", NOW)
    assert host.there() == [NAME]


def test_a_copy_on_the_disk_of_the_data_is_none_and_one_elsewhere_is_one(host: Host, where: Where) -> None:
    assert said(about.findings(host.catalogue, NOW, DAY), "backup.place").severity == "critical"
    host.where = where("s3", VERSIONS[0])
    host.run(NOW + DAY)
    assert said(about.findings(host.catalogue, NOW + DAY, DAY), "backup.place").severity == "ok"


def test_how_old_that_is_which_lies_elsewhere_is_judged(host: Host, tmp_path: Path) -> None:
    (host.base / "password").write_text("another\n")
    host.run(NOW + DAY)
    severities = {
        days: said(about.findings(host.catalogue, NOW + days * DAY, DAY), "backup.sent").severity for days in (1, 3)
    }
    assert severities == {1: "warning", 3: "critical"}
    about.tell(tmp_path / "told", host.catalogue, {})
    assert f"njord_backup_sent_timestamp_seconds {NOW!r}" in (tmp_path / "told").read_text()
    host.run(NOW + 2 * DAY, remote=None)
    found = about.findings(host.catalogue, NOW, DAY)
    assert not [finding for finding in found if finding.check in ("backup.sent", "backup.checked")]


def test_where_there_is_no_such_backup_it_says_which_there_are(host: Host) -> None:
    with pytest.raises(Missing, match=f"no backup 'x' of host njord1 in .*; it has {NAME}"):
        remote.choose(host.remote, "njord1", "x")
    with pytest.raises(Missing, match="it has none of this host"):
        remote.choose(host.remote, "njord9", "latest")
