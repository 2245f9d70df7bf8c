# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services read of Njord's ``base.yaml``: where the bus is."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import yaml

REDIS_URL = "redis://127.0.0.1:6379/0"
TOPIC = "telemetry.metrics"
# Under `redis.topics`.
TOPIC_KEY = "telemetry_metrics"


class ConfigError(ValueError):
    """What is wrong with which file; never a value of it, because it holds passwords."""


@dataclasses.dataclass(frozen=True)
class Config:
    redis_url: str = REDIS_URL
    topic: str = TOPIC


def load(root: Path) -> Config:
    """The settings in the ``base.yaml`` of ``root``, which is ``config/`` itself or the folder that holds it.

    :raises ConfigError: where there is no such file, or it says nothing that can be used.
    """
    path, text = _base(root)
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        place = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{place} is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML") from error
    redis = _mapping(path, "redis", _mapping(path, "the file", document).get("redis"))
    topics = redis.get("topics")
    return Config(
        _text(path, "redis.url", redis.get("url", REDIS_URL)),
        _text(path, f"redis.topics.{TOPIC_KEY}", topics.get(TOPIC_KEY, TOPIC) if isinstance(topics, dict) else TOPIC),
    )


def _base(root: Path) -> tuple[Path, str]:
    candidates = (root / "config" / "base.yaml", root / "base.yaml")
    try:
        path = next((path for path in candidates if path.exists()), None)
        if path:
            return path, path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
    raise ConfigError(f"--config-root {root}: no base.yaml; looked for {candidates[0]} and {candidates[1]}")


def _mapping(path: Path, what: str, value: object) -> dict[str, t.Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {what} is a {type(value).__name__}, not a mapping")
    return value


def _text(path: Path, what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}: {what} is not a text of one character or more")
    return value
