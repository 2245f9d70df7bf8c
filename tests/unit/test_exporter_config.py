# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exporter is told by its flags, its environment and Njord's base.yaml."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from njord_telemetry import config, exporter

BASE = "redis: {url: 'redis://:secret@10.0.0.1:6380/2', topics: {telemetry_metrics: other.metrics}}\n"


@pytest.mark.parametrize("folder", ["config", "."])
def test_the_root_is_the_folder_of_base_yaml_or_its_parent(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "base.yaml").write_text(BASE)
    assert config.load(tmp_path) == config.Config("redis://:secret@10.0.0.1:6380/2", "other.metrics")


@pytest.mark.parametrize("text", ["", "app: {name: njord}", "redis:", "redis: {topics: [a, b]}", "redis: {topics: {}}"])
def test_what_base_yaml_leaves_out_has_njords_default(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.yaml").write_text(text)
    assert config.load(tmp_path) == config.Config("redis://127.0.0.1:6379/0", "telemetry.metrics")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis: {url: 'redis://:secret@h'", "no YAML"),
        ("redis: {password: secret}\nx: [", "no YAML"),
        ("redis: [secret]", "redis is a list"),
        ("- secret", "the file is a list"),
        ("redis: {url: 7}", "redis.url"),
        ("redis: {url: ''}", "redis.url"),
        ("redis: {topics: {telemetry_metrics: 7}}", "redis.topics.telemetry_metrics"),
        ("redis: {url: 'http://:secret@h'}", "redis.url"),
        ("redis: {url: 'redis://:secret@h:port'}", "redis.url"),
        ("redis: {url: 'redis://:secret@h/0?socket_timeout=secret'}", "redis.url"),
        ("redis: {url: 'redis://:secret@h/0?nonsense=1'}", "redis.url"),
        ("redis: {url: 'redis://user:secret'}", "redis.url"),
        ("x: \0", "no YAML"),
    ],
)
def test_a_base_yaml_that_is_no_use_is_named_without_its_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "base.yaml").write_text(text)
    errors = refused(["--config-root", str(tmp_path)], capsys)
    assert said in errors
    assert "secret" not in errors


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        exporter.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "70000"], ["--port", "'70000'", "0 to 65535"]),
        (["--port", "http"], ["--port", "'http'", "0 to 65535"]),
        (["--port", "-1"], ["--port"]),
        (["--label-set-limit", "0"], ["--label-set-limit", "'0'", "1 to 100000"]),
        (["--log-level", "loud"], ["--log-level", "'loud'", "'warning'"]),
        (["--bind-host", "192.0.2.1"], ["--bind-host 192.0.2.1 --port 9091"]),
        (["--bind-host", "a..b"], ["--bind-host a..b"]),
        (["--bind-host", "no.such.host.invalid"], ["--bind-host no.such.host.invalid"]),
        (["--config-root", "/nowhere"], ["/nowhere/config/base.yaml", "/nowhere/base.yaml"]),
        (["--token-file", "/nowhere/token"], ["--token-file /nowhere/token", "No such file"]),
        (["--token-file", "/dev/null"], ["--token-file /dev/null", "printable ASCII"]),
        (["--retention", "7"], ["--retention"]),
    ],
)
def test_a_flag_that_cannot_be_used_is_named_with_its_value_and_what_would_do(
    arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    errors = refused(arguments, capsys)
    assert [part for part in said if part not in errors] == []


@pytest.mark.parametrize("token", ["", " ", "two words", "g\u00e9heim"])
def test_an_unusable_token_in_the_environment_is_an_error_and_not_an_open_page(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NJORD_METRICS_TOKEN", token)
    assert "NJORD_METRICS_TOKEN" in refused([], capsys)


def test_a_root_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *_arguments: t.Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "base.yaml").write_text(BASE)
    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(config.ConfigError, match=r"base\.yaml cannot be read: Permission denied"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("host", "token", "is_open"),
    [
        ("192.0.2.1", "", True),
        ("::", "", True),
        ("192.0.2.1", "x", False),
        ("127.0.0.2", "", False),
        ("::1", "", False),
    ],
)
def test_a_page_is_open_where_others_can_reach_it_without_a_token(host: str, token: str, is_open: bool) -> None:
    assert exporter.is_open(host, token) == is_open
