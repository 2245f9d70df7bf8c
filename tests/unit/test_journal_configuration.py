# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.configuration import (
    ConfigurationError,
    journal_directories,
)

BASE = "logging: {level: INFO, journal_dir: ./var/log/njord}\npaths: {journal_dir: /srv/journal}\n"


def install(root: Path, text: str) -> Path:
    (root / "config").mkdir()
    (root / "config" / "base.yaml").write_text(text)
    return root


def test_the_configuration_root_is_config_or_its_parent(tmp_path: Path) -> None:
    root = install(tmp_path, BASE)
    expected = [f"{tmp_path}/var/log/njord", "/srv/journal"]
    assert journal_directories(str(root)) == expected
    assert journal_directories(str(root / "config")) == expected


def test_relative_directories_are_relative_to_the_install_root(tmp_path: Path) -> None:
    assert journal_directories(str(install(tmp_path, BASE)), "/opt/other")[0] == "/opt/other/var/log/njord"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no sections"),
        ("[1]", "holds no sections"),
        ("logging:\npaths: [1]\n", "names neither logging.journal_dir nor paths.journal_dir"),
        ("logging: {}\npostgres: {dsn: 'secret\n", "is no YAML, see line"),
    ],
)
def test_a_configuration_that_does_not_tell_is_an_error_without_its_content(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        journal_directories(str(install(tmp_path, text)))
    assert "base.yaml" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_configuration_that_is_not_there_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/base.yaml nor {tmp_path}/config/base.yaml"):
        journal_directories(str(tmp_path))


def test_a_host_without_pyyaml_is_told_which_package_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigurationError, match="python3-yaml"):
        journal_directories(str(install(tmp_path, BASE)))
