# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which metrics the relabelling of a scrape job lets through, where that can be told for every name there may be.

It can where names are kept and dropped by expressions that fit a finite number of them. What other labels decide only
lets fewer series through, and is left out.

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config
"""

from __future__ import annotations

import dataclasses
import typing as t

# An expression that fits more names is not decided.
MOST = 20_000
_SPECIAL = frozenset(".*+?[]{}()|^$\\")
_NAME = "__name__"


@dataclasses.dataclass(frozen=True)
class NameFilter:
    """:param only: none but these ``names`` pass; else all but these do."""

    names: frozenset[str]
    only: bool

    def passes(self, name: str) -> bool:
        return (name in self.names) == self.only

    def is_disjoint(self, other: NameFilter) -> bool:
        """Whether no name there may be passes both."""
        if self.only:
            return not any(other.passes(name) for name in self.names)
        return other.only and other.is_disjoint(self)

    def keep(self, names: frozenset[str]) -> NameFilter:
        return NameFilter(frozenset(filter(self.passes, names)), True)

    def drop(self, names: frozenset[str]) -> NameFilter:
        return NameFilter(self.names - names if self.only else self.names | names, self.only)


EVERYTHING = NameFilter(frozenset(), False)


def of_relabelling(rules: t.Iterable[t.Mapping[str, t.Any]]) -> NameFilter | None:
    """What ``metric_relabel_configs`` let through; None where it cannot be told."""
    found = EVERYTHING
    for rule in rules:
        action = str(rule.get("action", "replace")).lower()
        if action in ("keep", "drop"):
            if rule.get("source_labels") != [_NAME]:
                continue
            names = language(str(rule.get("regex", "(.*)")))
            if names is None:
                return None
            found = found.keep(names) if action == "keep" else found.drop(names)
        elif action in ("labelmap", "labelkeep") or rule.get("target_label") == _NAME:
            return None
    return found


def language(pattern: str) -> frozenset[str] | None:
    """All texts that a regular expression fits from end to end; None where they are not finite, few and plain."""
    try:
        texts, end = _either(pattern, 0)
    except ValueError:
        return None
    return texts if end == len(pattern) else None


def _either(pattern: str, at: int) -> tuple[frozenset[str], int]:
    found, at = _sequence(pattern, at)
    while pattern.startswith("|", at):
        more, at = _sequence(pattern, at + 1)
        found = _few(found | more)
    return found, at


def _sequence(pattern: str, at: int) -> tuple[frozenset[str], int]:
    found = frozenset([""])
    while at < len(pattern) and pattern[at] not in "|)":
        texts, at = _atom(pattern, at)
        if pattern.startswith("?", at):
            texts, at = texts | {""}, at + 1
        if len(found) * len(texts) > MOST:
            raise ValueError
        found = frozenset(one + other for one in found for other in texts)
    return found, at


def _atom(pattern: str, at: int) -> tuple[frozenset[str], int]:
    letter = pattern[at]
    if letter == "(":
        inner = at + (3 if pattern.startswith("(?:", at) else 1)
        found, at = _either(pattern, inner)
        if not pattern.startswith(")", at):
            raise ValueError
        return found, at + 1
    if letter == "\\" and not pattern[at + 1 : at + 2].isalnum():
        return frozenset([pattern[at + 1 : at + 2]]), at + 2
    if letter in _SPECIAL:
        raise ValueError
    return frozenset([letter]), at + 1


def _few(texts: frozenset[str]) -> frozenset[str]:
    if len(texts) > MOST:
        raise ValueError
    return texts
