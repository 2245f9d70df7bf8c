# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs of one line each, ``LEVEL event key=value ...``, to standard error."""

from __future__ import annotations

import json
import logging
import re

LEVELS = ("debug", "info", "warning", "error")

_PLAIN = re.compile(r"[\w.:/@+-]+", re.ASCII)
_VALUE_LENGTH = 200


def set_up(level: str) -> None:
    """Logs from ``level`` (one of :data:`LEVELS`) up; the journal adds the times."""
    logging.basicConfig(format="%(levelname)s %(message)s", level=level.upper())


def line(event: str, **fields: object) -> str:
    """One line, whatever the values hold: they come from the bus, and are cut and quoted."""
    return " ".join([event, *(f"{key}={_value(str(value))}" for key, value in fields.items())])


def _value(text: str) -> str:
    text = text[:_VALUE_LENGTH]
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
