# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came from a host, made fit for every page: plain JSON types, text that XML can hold."""

from __future__ import annotations

import math
import re
import typing as t
from collections.abc import Mapping, Sequence

# What XML 1.0 cannot hold, lone surrogates (UTF-8 cannot hold them), and the marks that turn the
# direction of writing: with them a label could read as something that it is not.
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text, with U+FFFD for each character that a page cannot show as it is."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def plain(value: t.Any) -> t.Any:
    """The same as dict, list, str, int, float, bool and None; NaN and infinities as text, for JSON has none."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return printable(str(value))
