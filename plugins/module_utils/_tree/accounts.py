# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Users and groups of the host, by name and by number."""

from __future__ import annotations

import dataclasses
import grp
import pwd

NOT_THERE = -2


@dataclasses.dataclass(frozen=True)
class Account:
    """A user or a group. :param number: :data:`NOT_THERE`, which owns nothing, where it does not exist."""

    number: int
    name: str


def user(word: str) -> Account:
    """The user of that name or number."""
    if word.isdigit():
        return Account(int(word), user_name(int(word)))
    try:
        return Account(pwd.getpwnam(word).pw_uid, word)
    except KeyError:
        return Account(NOT_THERE, word)


def group(word: str) -> Account:
    """The group of that name or number."""
    if word.isdigit():
        return Account(int(word), group_name(int(word)))
    try:
        return Account(grp.getgrnam(word).gr_gid, word)
    except KeyError:
        return Account(NOT_THERE, word)


def user_name(number: int) -> str:
    """The number itself where nobody has it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """The number itself where no group has it."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
