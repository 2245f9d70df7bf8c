# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which metrics an expression of PromQL needs, as far as that can be told without its grammar.

Source: https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | \#[^\n]* )
    | (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` )
    | (?P<number> 0[xX][0-9a-fA-F_]+ | (?:\d+(?:ms|[smhdwy]))+ | (?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)? )
    | (?P<name> [a-zA-Z_:][a-zA-Z0-9_:]* )
    | (?P<range> \[[^\]]*\] )
    | (?P<operator> [-+*/%^=!<>~@]+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_LABEL_LISTS = ("by", "without", "on", "ignoring", "group_left", "group_right")
_SET_OPERATORS = ("or", "unless")
_OPERATORS = (*_SET_OPERATORS, "and", "atan2", "bool", "offset")
_NUMBERS = ("inf", "nan")
# They make a sample where there is none.
_FROM_NOTHING = ("absent", "absent_over_time", "scalar", "vector", "fill", "fill_left", "fill_right")


@dataclasses.dataclass(frozen=True)
class Needs:
    """Names of metrics without which an expression is empty.

    :param every: each of them is needed; else one of them is.
    """

    metrics: frozenset[str]
    every: bool

    def empty(self, known: t.Collection[str]) -> frozenset[str]:
        """The metrics that keep the expression empty where only ``known`` exist; none where it may have a value."""
        absent = frozenset(metric for metric in self.metrics if metric not in known)
        return absent if self.every or absent == self.metrics else frozenset()


class _Unsure(Exception):
    """The expression may mean something that this reader does not know."""


def needs(expression: str) -> Needs | None:
    """None where it cannot be told: a selector without a name, a function that makes samples, or unknown syntax."""
    tokens = [
        (str(found.lastgroup), found.group()) for found in _TOKEN.finditer(expression) if found.lastgroup != "space"
    ]
    try:
        return _Reader(tokens).read()
    except _Unsure:
        return None


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        # The end is a token too, so that one may look ahead.
        self.tokens = [*tokens, ("end", "")]
        self.at = 0

    def read(self) -> Needs:
        metrics = set()
        every = True
        # Whether an operand stands before: then no other may follow without an operator.
        operand = False
        while self.tokens[self.at][0] != "end":
            kind, text = self.tokens[self.at]
            self.at += 1
            word = text.lower()
            if kind == "name" and word in _LABEL_LISTS:
                self._label_list()
            elif kind == "name" and word in _OPERATORS:
                every = every and word not in _SET_OPERATORS
                operand = False
            elif kind == "name":
                if operand:
                    raise _Unsure(text)
                following = self.tokens[self.at][1].lower()
                called = following in ("(", "by", "without")
                if called and word in _FROM_NOTHING:
                    raise _Unsure(text)
                if not called and word not in _NUMBERS:
                    metrics.add(text)
                    self._matchers()
                operand = not called
            else:
                operand = self._other(kind, text)
        return Needs(frozenset(metrics), every)

    @staticmethod
    def _other(kind: str, text: str) -> bool:
        """Whether an operand ends with it."""
        if kind == "other" and text not in "(),":
            # A brace that no name precedes, among others.
            raise _Unsure(text)
        return kind in ("string", "number", "range") or text == ")"

    def _label_list(self) -> None:
        if self.tokens[self.at][1] == "(":
            while self.tokens[self.at][1] != ")":
                self._next()
            self._next()

    def _matchers(self) -> None:
        if self.tokens[self.at][1] == "{":
            while self.tokens[self.at][1] != "}":
                self._next()
            self._next()

    def _next(self) -> None:
        if self.tokens[self.at][0] == "end":
            raise _Unsure("it ends too early")
        self.at += 1
