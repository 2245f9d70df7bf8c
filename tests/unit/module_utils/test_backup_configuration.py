# SPDX-License-Identifier: GPL-3.0-or-later
"""Which secrets of a configuration stay out of a backup, in whatever form they stand there, and what goes in."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import configuration
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.configuration import (
    ConfigurationSource,
    reason_to_leave_out,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, create

NOW = 1_800_000_000.0
CANARY = "hunter2canary"
# By what is wrong with it; each stands in a file of a name that says nothing.
SECRETS = {
    "flow mapping": "scrape:\n - basic_auth: {username: u, password: %s}\n",
    "JSON in one line": '{"a": 1, "password": "%s"}',
    "variable of a unit": '[Service]\nEnvironment="DB_PASSWORD=%s"\n',
    "second variable of a unit": "[Service]\nEnvironment=A=1 DB_PASSWORD=%s\n",
    "option with =": "ExecStart=/usr/bin/x --db.password=%s -v\n",
    "option with a blank": "ExecStart=/usr/bin/x --token %s\n",
    "credential that a unit sets": "[Service]\nSetCredential=token:%s\n",
    "variable in a crontab": "0 3 * * * root PGPASSWORD=%s pg_dump x\n",
    "login of curl": "0 3 * * * root curl -u admin:%s http://x/\n",
    "header of curl": "curl -H 'Authorization: Bearer %s' x\n",
    "header": "headers:\n  X-API-Key: %s\n",
    "export": "export API_TOKEN=%s\n",
    "secret_key": "secret_key: %s\n",
    "access key": "aws_secret_access_key = %s\n",
    "another access key": "access_key: %s\n",
    "Slack": "api_url: https://hooks.slack.com/services/T0/B0/%s\n",
    "PagerDuty": "service_key: %s\n",
    "Opsgenie": "routing_key: %s\n",
    "passphrase": "passphrase: %s\n",
    "pwd": "pwd=%s\n",
    "pass": "db_pass = %s\n",
    "begins like a variable": "password: $%s\n",
    "begins like a placeholder": "password: '<%s'\n",
    "begins like a comment": 'password: "#%s"\n',
    "begins like a mapping": "password: '{%s'\n",
    "hash": "u: $2y$10$abcdefghijk%s\n",
    "data source name": "DATA_SOURCE_NAME=exporter:%s@tcp(localhost:3306)/\n",
    "URL": "url: https://user:%s@example.org/\n",
    "URL without a user": "redis://:%s@h/0\n",
    "URL with a slash": "amqp://u:%s/x@h\n",
    "next line": "password:\n  %s\n",
    "list": "tokens:\n  - %s\n",
    "folded": "password: >-\n  %s\n",
    "quoted key": "'password': %s\n",
    "comment": "# password: %s\n",
    "question mark": "? password\n: %s\n",
    "tag": "password: !!str %s\n",
    "XML": "<password>%s</password>\n",
    "SQL": "CREATE USER x IDENTIFIED BY '%s';\n",
    "number": "password: 12345 # %s\n",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n",
    "users of a web configuration": "basic_auth_users:\n  u: %s\n",
    "after much else": "a: 1\n" * 5000 + "token: %s\n",
}
SECRET_NAMES = (
    *(
        "secrets/db",
        "a/credentials/b/c",
        "PASSWORDS.txt",
        "api.key",
        "web.yml",
        "web.yml.bak",
        "base.yaml",
        "base.yaml~",
    ),
    *("web-config.yml", "tls/private/x", "id_ed25519", ".ssh/config", "prod.env", ".env.local", ".pgpass", "a.p12"),
)
HARMLESS = {
    "credentials in a file": (
        "scrape_configs:\n  - job_name: x\n    authorization:\n      type: Bearer\n"
        "      credentials_file: /etc/prometheus/secrets/token\n    basic_auth:\n      username: u\n"
        "      password_file: /x\n"
    ),
    "credentials in a file, in a mapping": "authorization: {type: Bearer, credentials_file: secrets/token}\n",
    "credentials in a file, in JSON": '{"authorization": {"credentials_file": "/x"}, "passwordFile": "/y"}',
    "unit": (
        "[Service]\nEnvironmentFile=/etc/x\nExecStart=/usr/bin/x --web.config.file=/etc/web.yml --token-file /etc/t\n"
        "LoadCredential=token:/etc/x\nEnvironment=TOKEN_FILE=/etc/x\n"
    ),
    "placeholders": "password: ${DB_PASSWORD}\ntoken: '{{ vault }}'\nsecret: <secret>\n",
    "nothing": "password: ''\ntoken:\npwd: null\n",
    "labels of a query": 'expr: sum(price{token="BTC"}) by (token) / x{a="1", secret_name=~"x"}\n',
    "numbers about a token": "token_ttl: 30d\npassword_length: 12\ntoken_rate: 0.5\n",
    "targets": "- targets: ['a:9090', 'b:9100']\n  labels: {host: a}\n",
    "group of a container": "ExecStart=/usr/bin/docker run -u 1000:1000 x\n",
    "relabelling": "replacement: $1:9100\nregex: (.*):(.*)@x\n",
    "crontab": "0 1 * * * root /usr/local/bin/njord-backup backup --settings /etc/njord-backup.json\n",
    "prose": "summary: the token bucket is empty, a password does not help\n",
}


@pytest.mark.parametrize("content", SECRETS.values(), ids=list(SECRETS))
def test_a_file_with_a_secret_is_left_out_and_the_reason_quotes_nothing(content: str) -> None:
    reason = reason_to_leave_out("plain.conf", 0o644, (content % CANARY).encode())
    assert reason == "it holds what looks like a secret"


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_file_is_left_out_where_its_name_or_a_directory_above_speaks_of_a_secret(name: str) -> None:
    assert "name" in reason_to_leave_out(name, 0o644, b"x")


def test_what_is_no_text_is_left_out() -> None:
    assert "text" in reason_to_leave_out("a", 0o644, f"password: {CANARY}".encode("utf-16"))


@pytest.mark.parametrize("content", HARMLESS.values(), ids=list(HARMLESS))
def test_a_file_without_a_secret_is_taken(content: str) -> None:
    assert reason_to_leave_out("plain.conf", 0o644, content.encode()) == ""


@pytest.mark.parametrize("piece", [b"a", b"password", b"--", b"://a:", b"-u ", b"token: \n ", b"eyJ"])
def test_a_long_line_takes_no_time_that_grows_with_its_square(piece: bytes) -> None:
    """At 256 KiB it would take minutes."""
    reason_to_leave_out("plain.conf", 0o644, piece * ((1 << 18) // len(piece)))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    found = Catalogue(str(tmp_path / "catalogue"))
    found.make()
    return found


def drafts(*paths: Path) -> list[Draft]:
    with ConfigurationSource(map(str, paths)).open() as found:
        return found


def is_in(catalogue: Catalogue, text: bytes) -> bool:
    return any(
        text in os.fsencode(path) or (path.is_file() and text in path.read_bytes())
        for path in catalogue.root.rglob("*")
    )


def test_no_secret_of_any_form_is_anywhere_in_the_catalogue(directory: Path, catalogue: Catalogue) -> None:
    for number, content in enumerate([*SECRETS.values(), *HARMLESS.values()]):
        (directory / f"{number}.conf").write_text(content.replace("%s", CANARY))
    for name in SECRET_NAMES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(CANARY)
    (directory / "closed").mkdir(mode=0o700)
    (directory / "closed" / "open.conf").write_text(CANARY)
    (directory / "own.conf").write_text(CANARY)
    (directory / "own.conf").chmod(0o600)
    (directory / "long.conf").write_text(CANARY + " " * (8 << 20))
    (directory / "link.conf").symlink_to(directory / "own.conf")
    with catalogue.locked():
        manifest, _cost = create(catalogue, [ConfigurationSource([str(directory)])], NOW, "host")
    (part,) = manifest.parts
    assert len(part.files) == len(HARMLESS)
    left_out = part.facts["left_out"]
    assert len(left_out) == len(SECRETS) + len(SECRET_NAMES) + 4
    assert left_out["closed/open.conf"] == "not everybody may read its directory"
    assert left_out["link.conf"] == "it is no regular file"
    assert "longer" in left_out["long.conf"]
    assert not is_in(catalogue, CANARY.encode())
    assert is_in(catalogue, b"the token bucket")


def test_a_secret_that_is_written_between_the_look_and_the_copy_is_not_taken(
    directory: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "a.conf"
    path.write_text("harmless: 1\n")
    os.utime(path, ns=(1, 1))
    real, looks = configuration.reason_to_leave_out, []

    def look(*arguments: t.Any) -> str:
        reason = real(*arguments)
        looks.append(reason)
        if len(looks) == 1:
            path.write_text(f"password: {CANARY}\n")
        return reason

    monkeypatch.setattr(configuration, "reason_to_leave_out", look)
    with catalogue.locked():
        manifest, _cost = create(catalogue, [ConfigurationSource([str(directory)])], NOW, "host")
    assert manifest.parts[0].files == ()
    assert not is_in(catalogue, CANARY.encode())


def test_what_is_not_there_is_said(directory: Path) -> None:
    (directory / "a.conf").write_text("a: 1\n")
    (only,) = drafts(directory, directory.parent / "absent")
    assert only.facts["missing"] == [str(directory.parent / "absent")]
    assert any("absent" in remark and "not there" in remark for remark in only.facts["remarks"])


def test_two_names_of_one_directory_are_one_part(directory: Path) -> None:
    (directory / "a.conf").write_text("a: 1\n")
    (directory.parent / "alias").symlink_to(directory)
    assert [one.root for one in drafts(directory, directory.parent / "alias")] == [str(directory)]


def test_no_two_parts_of_a_backup_have_one_name(directory: Path, catalogue: Catalogue) -> None:
    for name in ("a.conf", "b.conf"):
        (directory / name).write_text("a: 1\n")
    paths = [str(directory), str(directory / "a.conf"), str(directory / "b.conf")]
    with catalogue.locked():
        manifest, _cost = create(catalogue, [ConfigurationSource(paths)], NOW, "host")
    assert len({part.name for part in manifest.parts}) == len(manifest.parts) == 3
