# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""PromQL as a tree: which selectors an expression reads, and which number it compares with at its top.

Why a parser of our own: an expression is read where its server stands, with the standard library alone.
``/api/v1/parse_query`` is not there before Prometheus 3, and ``promql-parser`` of PyPI is compiled, refuses what 3.x
takes (``1_000``), and would have to be on every host. Both judge this one in the tests.

It is no judge of what is valid: what Prometheus 2.53 or 3.x accepts is read as they read it, or not at all
(:class:`NotUnderstood`), never as something else. Types of arguments and the syntax of regular expressions are not
looked at. What is experimental in 3.x, arithmetic of durations for one, is not understood.

Source: https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import typing as t

# More than any rule has: what reads a tree recurses.
DEPTH = 100
OPERATORS = 300

COMPARISONS: dict[str, t.Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
# With both sides changed over.
_MIRRORED = {"==": "==", "!=": "!=", ">": "<", "<": ">", ">=": "<=", "<=": ">="}
_PRECEDENCE = {
    "or": 1,
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(COMPARISONS, 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_ARITHMETIC: dict[str, t.Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
    "^": math.pow,
    "atan2": math.atan2,
}
_SET_OPERATORS = ("and", "or", "unless")
_AGGREGATION_NAMES = "sum avg count min max group stddev stdvar topk bottomk count_values quantile limitk limit_ratio"
_AGGREGATIONS = frozenset(_AGGREGATION_NAMES.split())
# Where an operand is due these words begin something else; every other keyword may be the name of a metric.
_NEVER_METRICS = ("on", "ignoring", "group_left", "group_right", "bool", "atan2")
_FUNCTION_NAMES = """
abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max clamp_min
cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv
double_exponential_smoothing exp first_over_time floor histogram_avg histogram_count histogram_fraction
histogram_quantile histogram_stddev histogram_stdvar histogram_sum holt_winters hour idelta increase info irate
label_join label_replace last_over_time ln log10 log2 mad_over_time max_over_time min_over_time minute month pi
predict_linear present_over_time quantile_over_time rad rate resets round scalar sgn sin sinh sort sort_by_label
sort_by_label_desc sort_desc sqrt stddev_over_time stdvar_over_time sum_over_time tan tanh time timestamp
ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time vector year
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATOR = re.compile(r"==|!=|>=|<=|[-+*/%^<>]")
_MATCH = re.compile(r"=~|!~|!=|=")
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'|`[^`]*`")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")
_ESCAPED = {**dict(zip("abfnrtv", "\a\b\f\n\r\t\v")), "\\": "\\", "'": "'", '"': '"'}
_NUMBER = re.compile(
    r"0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
    r"|(?:\d+(?:_\d+)*(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:[eE][+-]?\d+(?:_\d+)*)?",
    re.ASCII,
)
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+", re.ASCII)
_DURATION_PARTS = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?",
    re.ASCII,
)
_MILLISECONDS = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1000, 1)
_OCTAL = re.compile(r"0[0-7_]+")


class NotUnderstood(ValueError):
    """The expression means something that this reader does not know, or nothing.

    :param at: where, in characters from its beginning.
    """

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(f"{reason} at character {at + 1}")
        self.at = at


@dataclasses.dataclass(frozen=True)
class Node:
    """A part of an expression.

    :param span: where it begins and ends in the text; trees are equal wherever they stand.
    """

    span: tuple[int, int] = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Number(Node):
    """A number, a duration in seconds among them."""

    value: float


@dataclasses.dataclass(frozen=True)
class Text(Node):
    value: str


@dataclasses.dataclass(frozen=True)
class Matcher:
    """:param operator: ``=``, ``!=``, ``=~`` or ``!~``."""

    label: str
    operator: str
    value: str


@dataclasses.dataclass(frozen=True)
class Selector(Node):
    """
    :param matchers: as they stand in the braces; the name before them is the last.
    :param range: seconds of ``[5m]``; 0 where there is none.
    :param offset: seconds.
    :param at: unix seconds, ``start`` or ``end``; None where there is no ``@``.
    """

    matchers: tuple[Matcher, ...]
    range: float
    offset: float
    at: float | str | None

    @property
    def metric(self) -> str:
        """The one metric that it reads; empty where it may be several."""
        names = [m.value for m in self.matchers if (m.label, m.operator) == ("__name__", "=")]
        return names[-1] if names else ""


@dataclasses.dataclass(frozen=True)
class Subquery(Node):
    """:param step: seconds; 0 where the server's own is taken. The rest as in :class:`Selector`."""

    expression: Node
    range: float
    step: float
    offset: float
    at: float | str | None


@dataclasses.dataclass(frozen=True)
class Call(Node):
    function: str
    arguments: tuple[Node, ...]


@dataclasses.dataclass(frozen=True)
class Aggregation(Node):
    operator: str
    expression: Node
    parameter: Node | None
    labels: tuple[str, ...]
    without: bool


@dataclasses.dataclass(frozen=True)
class Parentheses(Node):
    expression: Node


@dataclasses.dataclass(frozen=True)
class Unary(Node):
    operator: str
    expression: Node


@dataclasses.dataclass(frozen=True)
class Matching:
    """Which series of the two sides meet.

    :param on: by these labels alone; else by all others.
    :param many: ``left`` or ``right``, the side of which several series meet one; empty where none does.
    :param include: labels that come from the other side.
    """

    on: bool
    labels: tuple[str, ...]
    many: str
    include: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Binary(Node):
    """:param bool_modifier: it gives 0 and 1 instead of a choice of series."""

    operator: str
    left: Node
    right: Node
    bool_modifier: bool
    matching: Matching | None


def parse(text: str) -> Node:
    """
    :raises NotUnderstood: where it cannot be told what the expression means.
    """
    return _Reader(text).read()


def children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Binary):
        return node.left, node.right
    if isinstance(node, Call):
        return node.arguments
    if isinstance(node, Aggregation):
        return (node.expression,) if node.parameter is None else (node.parameter, node.expression)
    if isinstance(node, (Parentheses, Unary, Subquery)):
        return (node.expression,)
    return ()


def walk(node: Node) -> t.Iterator[Node]:
    """The node and all below it, in the order of the text."""
    rest = [node]
    while rest:
        below = rest.pop()
        yield below
        rest += reversed(children(below))


def selectors(node: Node) -> list[Selector]:
    """All that the expression reads from the database."""
    return [below for below in walk(node) if isinstance(below, Selector)]


def bare(node: Node) -> Node:
    """Without the parentheses around it."""
    while isinstance(node, Parentheses):
        node = node.expression
    return node


class NoComparison(ValueError):
    """The expression does not compare with a number; says what it does instead."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A choice of those series of ``left`` whose value compares so with ``threshold``.

    :param left: PromQL, to be put in parentheses.
    :param node: what is compared; where a condition was split off, without it.
    :param operator: one of :data:`COMPARISONS`.
    """

    left: str
    node: Node
    operator: str
    threshold: float

    def holds(self, value: float, threshold: float | None = None) -> bool:
        """Whether it chooses a value, with another threshold where one is given."""
        return COMPARISONS[self.operator](value, self.threshold if threshold is None else threshold)


def comparison(text: str) -> Comparison:
    """The comparison with a number that an expression is.

    ``x > 5 and y`` is one too, as is ``x > 5 unless y``: which series of ``x`` are chosen by ``y`` does not hang on
    their values, so it is the same as ``(x and y) > 5``.

    :raises NotUnderstood: where the expression cannot be read.
    :raises NoComparison: where it is something else; says what.
    """
    return _comparison(text, parse(text))


def _comparison(text: str, node: Node) -> Comparison:
    node = bare(node)
    if not isinstance(node, Binary):
        raise NoComparison("it compares nothing")
    if node.operator in ("and", "unless"):
        inner = _comparison(text, node.left)
        condition = text[node.left.span[1] : node.right.span[1]]
        return dataclasses.replace(inner, left=f"({inner.left}){condition}")
    if node.operator not in COMPARISONS:
        raise NoComparison(f"{node.operator!r} is at its top, no comparison")
    if node.bool_modifier:
        raise NoComparison("with bool it gives 0 or 1 for each series, and either is an alert")
    left, right = constant(node.left), constant(node.right)
    if (left is None) == (right is None):
        raise NoComparison("it compares two numbers" if left is not None else "both its sides vary")
    side, threshold, sign = (
        (node.left, right, node.operator) if right is not None else (node.right, left, _MIRRORED[node.operator])
    )
    if threshold is None or not math.isfinite(threshold):
        raise NoComparison(f"it compares with {threshold}")
    return Comparison(text[slice(*side.span)], side, sign, threshold)


def constant(node: Node) -> float | None:
    """The number that an expression is whatever the database holds; None where it is none."""
    node = bare(node)
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Unary):
        value = constant(node.expression)
        return value if value is None or node.operator == "+" else -value
    if isinstance(node, Binary) and node.operator in _ARITHMETIC:
        left, right = constant(node.left), constant(node.right)
        if left is not None and right is not None:
            try:
                return _ARITHMETIC[node.operator](left, right)
            except (ArithmeticError, ValueError):
                # What Go calls an infinity is no number that a threshold could be.
                return None
    return None


class _Reader:
    """A reader by recursive descent; what a character means hangs on where it stands, so there are no tokens before."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        # Where the thing that was taken last ends, without the space after it.
        self.end = 0
        self.depth = 0
        self.operators = 0

    def read(self) -> Node:
        self._skip()
        node = self._binary(1)
        if self.at < len(self.text):
            raise self._not_understood("an operator or the end is due")
        return node

    def _not_understood(self, reason: str) -> NotUnderstood:
        return NotUnderstood(reason, self.at)

    # The letters

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _take(self, pattern: re.Pattern[str]) -> str:
        """What matches here, and the space after it; empty where nothing does."""
        found = pattern.match(self.text, self.at)
        if not found:
            return ""
        self.end = self.at = found.end()
        self._skip()
        return found.group()

    def _peek(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        return found.group() if found else ""

    def _word(self) -> str:
        """The keyword that may stand here."""
        return self._peek(_NAME).lower()

    def _sign(self, sign: str) -> bool:
        """Whether it stands here; then it is taken."""
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        self.end = self.at
        self._skip()
        return True

    def _need(self, sign: str) -> None:
        if not self._sign(sign):
            raise self._not_understood(f"{sign!r} is due")

    # Operators

    def _binary(self, least: int) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise self._not_understood("it is nested too deeply")
        start = self.at
        node = self._unary()
        while True:
            sign = self._peek(_OPERATOR) or self._word()
            if _PRECEDENCE.get(sign, 0) < least:
                break
            self.operators += 1
            if self.operators > OPERATORS:
                raise self._not_understood("it has too many operators")
            self._take(_OPERATOR) or self._take(_NAME)
            bool_modifier, matching = self._modifiers(sign)
            # The power binds to the right.
            right = self._binary(_PRECEDENCE[sign] + (sign != "^"))
            node = Binary((start, right.span[1]), sign, node, right, bool_modifier, matching)
        self.depth -= 1
        return node

    def _modifiers(self, sign: str) -> tuple[bool, Matching | None]:
        bool_modifier = self._word() == "bool"
        if bool_modifier:
            self._take(_NAME)
            if sign not in COMPARISONS:
                raise self._not_understood("bool belongs to a comparison")
        matching = None
        if self._word() in ("on", "ignoring"):
            on = self._take(_NAME).lower() == "on"
            labels = self._labels()
            many = ""
            include: tuple[str, ...] = ()
            if self._word() in ("group_left", "group_right"):
                if sign in _SET_OPERATORS:
                    raise self._not_understood("a set operator groups nothing")
                many = self._take(_NAME).lower()[len("group_") :]
                include = self._labels() if self.text.startswith("(", self.at) else ()
            matching = Matching(on, labels, many, include)
        return bool_modifier, matching

    def _labels(self) -> tuple[str, ...]:
        self._need("(")
        found = []
        while not self._sign(")"):
            found.append(self._string() if self._peek(_STRING) else self._label())
            if not self._sign(","):
                self._need(")")
                break
        return tuple(found)

    def _label(self) -> str:
        label = self._take(_LABEL)
        if not label or self.text.startswith(":", self.at):
            raise self._not_understood("the name of a label is due")
        return label

    def _unary(self) -> Node:
        start = self.at
        for sign in "+-":
            if self._sign(sign):
                node = self._binary(_PRECEDENCE["^"])
                span = (start, node.span[1])
                if isinstance(node, Number):
                    return Number(span, -node.value if sign == "-" else node.value)
                return Unary(span, sign, node)
        return self._modified(self._operand(), start)

    # Operands

    def _operand(self) -> Node:
        start = self.at
        if self._sign("("):
            node = self._binary(1)
            self._need(")")
            return Parentheses((start, self.end), node)
        if self._peek(_STRING):
            value = self._string()
            return Text((start, self.end), value)
        if self._peek(_NUMBER):
            number = self._number()[0]
            return Number((start, self.end), number)
        if self.text.startswith("{", self.at):
            return self._selector("", start)
        name = self._take(_NAME)
        word = name.lower()
        if not name or word in _NEVER_METRICS:
            self.at = start
            raise self._not_understood("an operand is due")
        if word in ("inf", "nan"):
            return Number((start, self.end), float(word))
        called = self.text.startswith("(", self.at)
        if word in _AGGREGATIONS and (called or self._word() in ("by", "without")):
            return self._aggregation(word, start)
        if called:
            if name not in _FUNCTIONS:
                raise NotUnderstood(f"{name!r} is no function that is known", start)
            arguments = self._arguments()
            return Call((start, self.end), name, arguments)
        return self._selector(name, start)

    def _arguments(self) -> tuple[Node, ...]:
        self._need("(")
        if self._sign(")"):
            return ()
        found = [self._binary(1)]
        while self._sign(","):
            found.append(self._binary(1))
        self._need(")")
        return tuple(found)

    def _aggregation(self, name: str, start: int) -> Node:
        grouping = self._grouping()
        arguments = self._arguments()
        end = self.end
        if grouping is None:
            grouping = self._grouping()
            end = self.end if grouping else end
        without, labels = grouping or (False, ())
        if not 1 <= len(arguments) <= 2:
            raise self._not_understood(f"{name!r} takes one expression, and a parameter before it")
        parameter = arguments[0] if len(arguments) == 2 else None
        return Aggregation((start, end), name, arguments[-1], parameter, labels, without)

    def _grouping(self) -> tuple[bool, tuple[str, ...]] | None:
        if self._word() not in ("by", "without"):
            return None
        without = self._take(_NAME).lower() == "without"
        return without, self._labels()

    def _selector(self, name: str, start: int) -> Node:
        matchers = []
        if self._sign("{"):
            while not self._sign("}"):
                matchers.append(self._matcher())
                if not self._sign(","):
                    self._need("}")
                    break
        if name:
            if any(matcher.label == "__name__" for matcher in matchers):
                raise NotUnderstood("the metric has two names", start)
            matchers.append(Matcher("__name__", "=", name))
        elif not matchers:
            raise NotUnderstood("a selector selects something", start)
        return Selector((start, self.end), tuple(matchers), 0.0, 0.0, None)

    def _matcher(self) -> Matcher:
        quoted = bool(self._peek(_STRING))
        label = self._string() if quoted else self._label()
        sign = self._take(_MATCH)
        if quoted and not sign:
            return Matcher("__name__", "=", label)
        if not sign or not self._peek(_STRING):
            raise self._not_understood("a label, an operator and a string are due")
        return Matcher(label, sign, self._string())

    def _string(self) -> str:
        start = self.at
        written = self._take(_STRING)
        if written[0] == "`":
            return written[1:-1]

        def letter(found: re.Match[str]) -> str:
            byte, short, long, octal, other = found.groups()
            code = int(byte or short or long or "0", 16) if not octal else int(octal, 8)
            if other is not None:
                if other not in _ESCAPED or (other in "'\"" and other != written[0]):
                    raise NotUnderstood(f"\\{other} is no escape", start)
                return _ESCAPED[other]
            # In Go the first are bytes, which need not be letters, and the others do not exist.
            if ((byte or octal) and code > 0x7F) or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
                raise NotUnderstood(f"{found.group()} is no letter", start)
            return chr(code)

        return _ESCAPE.sub(letter, written[1:-1])

    # Numbers and times

    def _number(self) -> tuple[float, bool]:
        """A number or a duration in seconds, and whether it is a duration."""
        start = self.at
        written = self._take(_DURATION)
        if written:
            value = _duration(written)
        else:
            written = self._take(_NUMBER)
            value = _plain(written)
        if not written or value is None or _LABEL.match(self.text, self.end):
            raise NotUnderstood("a number or a duration is due", start)
        return value, written[-1] in "smhdwy" and not written.lower().startswith("0x")

    def _modified(self, node: Node, start: int) -> Node:
        """With the range, the offset and the time that follow it."""
        while True:
            if self._sign("["):
                node = self._ranged(node, start)
            elif self._word() == "offset":
                self._take(_NAME)
                sign = -1 if self._sign("-") else 1
                if sign == 1:
                    self._sign("+")
                offset = sign * self._number()[0]
                if not isinstance(node, (Selector, Subquery)) or node.offset:
                    raise self._not_understood("an offset belongs to a selector or a subquery")
                node = dataclasses.replace(node, offset=offset, span=(start, self.end))
            elif self._sign("@"):
                at = self._time()
                if not isinstance(node, (Selector, Subquery)) or node.at is not None:
                    raise self._not_understood("a time belongs to a selector or a subquery")
                node = dataclasses.replace(node, at=at, span=(start, self.end))
            else:
                return node

    def _ranged(self, node: Node, start: int) -> Node:
        seconds = self._number()[0]
        if not seconds:
            raise self._not_understood("a range is longer than nothing")
        if self._sign(":"):
            step = 0.0 if self.text.startswith("]", self.at) else self._number()[0]
            self._need("]")
            if isinstance(node, Subquery) or (isinstance(node, Selector) and node.range):
                raise self._not_understood("what has a range has no second one")
            return Subquery((start, self.end), node, seconds, step, 0.0, None)
        self._need("]")
        if not isinstance(node, Selector) or node.range or node.offset or node.at is not None:
            raise self._not_understood("a range without a step belongs to a plain selector")
        return dataclasses.replace(node, range=seconds, span=(start, self.end))

    def _time(self) -> float | str:
        word = self._word()
        if word in ("start", "end"):
            self._take(_NAME)
            self._need("(")
            self._need(")")
            return word
        sign = -1 if self._sign("-") else 1
        if sign == 1:
            self._sign("+")
        value, is_duration = self._number()
        if is_duration:
            raise self._not_understood("a time is due, no duration")
        return sign * value


def _duration(written: str) -> float | None:
    """Seconds, from units in falling order, each once."""
    found = _DURATION_PARTS.fullmatch(written)
    if not found:
        return None
    return sum(int(count or 0) * unit for count, unit in zip(found.groups(), _MILLISECONDS)) / 1000


def _plain(written: str) -> float | None:
    """A number as Go reads it: with a zero before it an integer is octal. None where it has no place in a float."""
    digits = written.replace("_", "")
    try:
        if digits.lower().startswith("0x"):
            value = float(int(digits, 16))
        elif _OCTAL.fullmatch(digits):
            value = float(int(digits, 8))
        else:
            value = float(digits)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
