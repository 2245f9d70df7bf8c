# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""``base.yaml`` of Njord Quant, read only.

It holds passwords: an error names the file and a line, never what is written there.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

INSTALL_ROOT = "/opt/njord_quant"


class ConfigurationError(Exception):
    """Why the configuration cannot be read, a sentence without its last point."""


def base_file(config_root: str) -> Path:
    """The services mean the parent of ``config/`` by their configuration root, the clean-up ``config/`` itself.

    :raises ConfigurationError: where neither holds ``base.yaml``.
    """
    candidates = [Path(config_root) / "base.yaml", Path(config_root) / "config" / "base.yaml"]
    try:
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
    except OSError as error:
        raise ConfigurationError(f"{config_root} cannot be looked into: {error.strerror}") from error
    if found is None:
        raise ConfigurationError(f"there is neither {candidates[0]} nor {candidates[1]}")
    return found


def read_base(path: Path) -> dict[str, t.Any]:
    """
    :raises ConfigurationError: where PyYAML is missing, or the file cannot be read or is no mapping.
    """
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(f"{path} cannot be read without PyYAML (package python3-yaml)") from error
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError(f"{path} is no YAML" + (f", see line {mark.line + 1}" if mark else "")) from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} holds no sections")
    return document


def journal_directories(config_root: str, install_root: str = "") -> list[str]:
    """``logging.journal_dir``, where the aggregator and the logs write, and ``paths.journal_dir``, the traders'.

    :param install_root: what relative ones are relative to; the parent of the configuration's directory where empty.
    :raises ConfigurationError: where there is no such configuration, or it names none of the two.
    """
    path = base_file(config_root)
    base = read_base(path)
    root = Path(install_root) if install_root else path.parent.parent
    sections = (base.get("logging"), base.get("paths"))
    named = [section.get("journal_dir") for section in sections if isinstance(section, dict)]
    found = [str(root / name) for name in named if isinstance(name, str) and name]
    if not found:
        raise ConfigurationError(f"{path} names neither logging.journal_dir nor paths.journal_dir")
    return found
