# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which metrics an expression reads, and which it may read where that cannot be told.

An expression may have blanks, where a dashboard has its variables: :func:`blank` makes their text. What a blank stands
for hardly ever matters, since only the name of a metric is asked for.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import typing as t

from .promql import Aggregation, Call, Matcher, Node, NotUnderstood, Selector, bare, parse, walk

# Of a blank, or of all blanks of an expression together.
MOST_VALUES = 50
LEGACY_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NUMBER = re.compile(r"[-+]?\.?\d")
_BLANK = re.compile(r"njord_blank_(\d+)_")
# Of their samples no value is read.
_COUNTS = ("count", "group")
# The function info reads this one unless it is told otherwise.
_INFO = frozenset(["target_info"])
_ANYTHING = "it selects any metric"
_WORDS = ("and", "or", "unless", "atan2", "bool", "by", "without")
_CODE = re.compile(
    r"""
      (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` )
    | (?P<range> \[[^\]"'`]*njord_blank_\d+_[^\]"'`]*\] )
    | (?P<offset> \boffset\s+-?\w*njord_blank_\d+_\w* )
    | (?P<function> \b\w*njord_blank_\d+_\w*(?=\s*\(|\s+(?:by|without)\b) )
    | (?P<matchers> (?<=\{) \s*njord_blank_\d+_\s* (?:,|(?=\})) | ,\s*njord_blank_\d+_\s* (?=\}) )
    """,
    re.VERBOSE | re.DOTALL,
)
_STRING = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`""", re.DOTALL)

# The values that a blank can have, by its number; none where it can be anything.
Blanks = t.Sequence[t.Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Reads:
    """
    :param names: metrics that are read.
    :param selectors: selectors, each of which reads every metric that it matches.
    :param maybe: selectors, each of which may read a metric that it matches.
    :param mentioned: names that may be those of metrics that are read.
    :param anything: a clause why any metric may be read; empty where that is not so.
    """

    names: frozenset[str] = frozenset()
    selectors: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()
    mentioned: frozenset[str] = frozenset()
    anything: str = ""

    def __or__(self, other: Reads) -> Reads:
        return Reads(
            self.names | other.names,
            self.selectors | other.selectors,
            self.maybe | other.maybe,
            self.mentioned | other.mentioned,
            self.anything or other.anything,
        )


def blank(number: int) -> str:
    """Text that can stand wherever a name, a string or a part of them can."""
    return f"njord_blank_{number}_"


def reads(text: str, blanks: Blanks = ()) -> Reads:
    """What an expression reads.

    A selector without a plain name of which nothing but the number of its series is asked reads nothing: so inventories
    are taken, and whoever takes one uses no metric.
    """
    shown = _CODE.sub(_settled, text)
    try:
        return _of_tree(shown, parse(shown), blanks)
    except NotUnderstood as error:
        reason = str(error)
    # An operator, or a piece of an expression, may be what is chosen.
    filled = _filled(shown, blanks)
    try:
        return _union(_of_tree(one, parse(one), blanks) for one in filled)
    except NotUnderstood:
        return _of_words(shown, reason)


def _settled(found: re.Match[str]) -> str:
    """Without the blanks whose place says what they are."""
    if found.group("range"):
        return "[5m:1m]" if ":" in found.group() else "[5m]"
    if found.group("offset"):
        return "offset 5m"
    if found.group("function"):
        return "sum"
    return "" if found.group("matchers") else found.group()


def _filled(text: str, blanks: Blanks) -> list[str]:
    """The text with each of the values that its blanks have; empty blanks stay."""
    wanted = [n for n in sorted({int(found) for found in _BLANK.findall(text)}) if blanks[n]]
    if not wanted or math.prod(len(blanks[number]) for number in wanted) > MOST_VALUES:
        return [text]
    made = []
    for values in itertools.product(*(blanks[number] for number in wanted)):
        one = text
        for number, value in zip(wanted, values):
            one = one.replace(blank(number), value)
        made.append(one)
    return made


def _union(found: t.Iterable[Reads]) -> Reads:
    whole = Reads()
    for one in found:
        whole |= one
    return whole


def _of_tree(text: str, tree: Node, blanks: Blanks) -> Reads:
    nodes = list(walk(tree))
    counted = {
        id(bare(node.expression)) for node in nodes if isinstance(node, Aggregation) and node.operator in _COUNTS
    }
    found = _union(
        _of_selector(node, blanks)
        for node in nodes
        if isinstance(node, Selector) and not (id(node) in counted and text.startswith("{", node.span[0]))
    )
    has_info = any(isinstance(node, Call) and node.function == "info" for node in nodes)
    return found | Reads(names=_INFO) if has_info else found


def _of_selector(selector: Selector, blanks: Blanks) -> Reads:
    names = [m for m in selector.matchers if m.label == "__name__" and m.operator in ("=", "=~") and m.value]
    exact = [m.value for m in names if m.operator == "="]
    plain = [name for name in exact if not _BLANK.search(name)]
    if plain:
        return Reads(names=frozenset(plain))
    if exact:
        filled = _filled(exact[-1], blanks)
        if not any(_BLANK.search(name) for name in filled):
            # A number may be chosen too, of topk for one.
            return Reads(names=frozenset(name for name in filled if not _NUMBER.match(name)))
    matchers = [m for m in selector.matchers if m not in names and not _BLANK.search(m.label + m.value)]
    sure = bool(names)
    for matcher in names:
        pattern, is_known = _pattern(matcher, blanks)
        sure = sure and is_known
        matchers.append(Matcher("__name__", "=~", pattern))
    # Prometheus refuses, and rightly so, what an empty value would fulfil.
    if not any(m.operator in ("=", "=~") and m.value not in ("", ".*") for m in matchers):
        return Reads(anything=_ANYTHING)
    written = "{" + ", ".join(map(_written, sorted(matchers, key=_written))) + "}"
    return Reads(selectors=frozenset([written])) if sure else Reads(maybe=frozenset([written]))


def _pattern(matcher: Matcher, blanks: Blanks) -> tuple[str, bool]:
    """A regular expression of the name, and whether it is known what its blanks stand for."""
    is_regex = matcher.operator == "=~"
    made, known = "", True
    for place, piece in enumerate(_BLANK.split(matcher.value)):
        if place % 2 == 0:
            made += piece if is_regex else re.escape(piece)
            continue
        values = blanks[int(piece)]
        known = known and bool(values)
        made += f"(?:{'|'.join(values if is_regex else map(re.escape, values))})" if values else ".*"
    return made, known


def _written(matcher: Matcher) -> str:
    label = matcher.label if LEGACY_NAME.fullmatch(matcher.label) else json.dumps(matcher.label, ensure_ascii=False)
    return f"{label}{matcher.operator}{json.dumps(matcher.value, ensure_ascii=False)}"


def _of_words(text: str, reason: str) -> Reads:
    """What may be read by an expression that is not understood: each of its words may be a metric.

    Any metric may be where a selector has no name before its braces, or where something is left to be chosen.
    """
    strings = [found.group()[1:-1] for found in _STRING.finditer(text)]
    code = _STRING.sub('""', text)
    words = frozenset(_METRIC.findall(code)) | frozenset(strings)
    nameless = any(word in ("", *_WORDS) for word in re.findall(r"([a-zA-Z0-9_:]*)\s*\{", code))
    if nameless or "__name__" in code or _BLANK.search(code):
        return Reads(mentioned=words, anything=f"it is not understood ({reason})")
    return Reads(mentioned=words)
