# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The configuration files of Njord Quant, read only.

``base.yaml`` holds passwords: an error names the file and a line, never what is written there.
"""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

INSTALL_ROOT = "/opt/njord_quant"
BASE_FILE = "base.yaml"


class ConfigurationError(Exception):
    """Why the configuration cannot be read, a sentence without its last point."""


def directories(config_root: str) -> tuple[Path, Path]:
    """The services mean the parent of ``config/`` by their configuration root, the clean-up ``config/`` itself."""
    return Path(config_root), Path(config_root, "config")


def read_text(path: Path) -> str | None:
    """What a file holds; None where there is none.

    :raises ConfigurationError: where it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        # A link to a place that is not mounted is no missing file: what it says must not be replaced by a default.
        if path.is_symlink():
            raise ConfigurationError(f"{path} cannot be read: it is a link to what is not there") from None
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no UTF-8") from None


def read_mapping(path: Path, text: str) -> dict[t.Any, t.Any]:
    """What YAML says; what is JSON needs no PyYAML.

    :raises ConfigurationError: where PyYAML is missing, or it is no mapping.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = _yaml(path, text)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} holds no sections")
    return document


def journal_directories(config_root: str, install_root: str = "") -> list[str]:
    """``logging.journal_dir``, where the aggregator and the logs write, and ``paths.journal_dir``, the traders'.

    :param install_root: what relative ones are relative to; the parent of the configuration's directory where empty.
    :raises ConfigurationError: where there is no such configuration, or it names none of the two.
    """
    for directory in directories(config_root):
        path = directory / BASE_FILE
        text = read_text(path)
        if text is not None:
            return _named(path, read_mapping(path, text), Path(install_root) if install_root else directory.parent)
    places = " nor ".join(str(directory / BASE_FILE) for directory in directories(config_root))
    raise ConfigurationError(f"there is neither {places}")


def _named(path: Path, base: dict[t.Any, t.Any], root: Path) -> list[str]:
    sections = (base.get("logging"), base.get("paths"))
    named = [section.get("journal_dir") for section in sections if isinstance(section, dict)]
    found = [str(root / name) for name in named if isinstance(name, str) and name]
    if not found:
        raise ConfigurationError(f"{path} names neither logging.journal_dir nor paths.journal_dir")
    return found


def _yaml(path: Path, text: str) -> t.Any:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(f"{path} cannot be read without PyYAML (package python3-yaml)") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError(f"{path} is no YAML" + (f", see line {mark.line + 1}" if mark else "")) from None
    except (ValueError, LookupError, ArithmeticError, AttributeError, RecursionError):
        # PyYAML's own constructors of dates, numbers and the like let these through, with what is written.
        raise ConfigurationError(f"{path} is no YAML that can be read") from None
