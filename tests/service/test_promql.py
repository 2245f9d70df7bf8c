# SPDX-License-Identifier: GPL-3.0-or-later
"""Our reading of PromQL against Prometheus' own, and against a parser that is kept by others.

Text that a server takes is read as it reads it, or is not understood; never as something else.
"""

from __future__ import annotations

import math
import typing as t

import promql_parser
import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.language import promql
from ansible_collections.njord.telemetry.plugins.module_utils._http import Refused, Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.testbench import servers
from tests.testbench.packages import ROOT

# Each is understood wherever one of the two servers takes it.
CORPUS = r"""
a{b=~"x\u0041\x41\101\n"}[5m:] offset -1h @ end()
sum by (a,b,) (rate(x{job!~"q"}[5m:30s] @ 12.5))
topk(3, -a ^ -b * c)
a * on (x) group_left (y) b
a + on () group_right b
a and ignoring (x) b
a UNLESS ON (x) b or c AND d
-1
-(1)
- - 1
+a
-1 ^ 2
2 ^ -1 ^ 2
"x"
`x\n` == 1
0755
08
1_000.5
0x1F
0X_1F
1.
.5
1e3
1E-3
5m
1h30m > a
1y2w3d4h5m6s7ms
a[300]
a offset 5
a offset +5m
a @ -1
a @ +1.5
NaN
-inf
{"a.b", "c.d"="x"}
{__name__=~"a.*", b=""}
sum(a) by ("x.y")
a offset 1m30s
sum
sum > 5
and and and
by or without
start + end
sum by (sum, on, by) (a)
SUM WITHOUT (x) (a)
a > bool on(x) b
a > BOOL 5
quantile without () (0.9, a)
count_values("v", a)
time() - a > 8 * 86400
(a)[5m:]
a[5m] @ 5 offset 3m
rate(a[5m])[1h:1m] offset 2m @ start()
max_over_time(rate(a[5m])[1h:][2h:5m])
a{b="c",}
a { } + b{ c = 'd"' }
a == b == c
2 ^ 3 ^ 2
a atan2 b ATAN2 c
1 - -1
1--1
a{on="x", bool="y", offset="z"}
a{b=`c\d`}
a # comment ( "
a{b="#"} # > 5
a # one
> # two
5
vector(1) > 0
label_replace(up, "a", "$1", "job", "(.*)") == 1
histogram_quantile(0.95, sum by (le) (rate(h_bucket[2m]))) > 1
absent(a{b="c"}) or hour() > 5
10 < (a + b)
((a > 5))
a:b:c{d!="e"} / 1e2 >= 5
fill
fill + step + range
foo:bar offset 1w
time ()
sum(a)by(b)
min by(b)(a)<5
a%b*c/d
a or b and c unless d == e + f * g ^ h
holt_winters(a[5m], 0.5, 0.5)
a[5m:30s] @ 1.5
days_in_month()
a{b="\"\\"}
a{é="x"}
a{b="é"}
a{b="c" , d="e"}[ 5m ]
rate(
  a[5m]
)
> 5 and on (instance) # why
  b
sum by (
  x
) (a)
""".strip().split("\n")
# What spans lines; the rest stands on one.
LINES = [
    "a # one\n> # two\n5",
    "rate(\n  a[5m]\n)\n> 5 and on (instance) # why\n  b",
    "sum by (\n  x # why\n) (a)",
]
# No server takes these, and neither do we. What has the wrong type, such as rate(a), is another matter.
REFUSED = [
    *(
        "sum(",
        "a b",
        "a{b=}",
        "a[5m",
        "a offset 5m [5m]",
        "a{b='\\d'}",
        "nosuch(a)",
        "foo:bar(a)",
        "a[5M]",
        "a or bool",
    ),
    *(
        "absent(a,)",
        "5m3h",
        "a[5m][5m:]",
        "a @ end",
        "by(a)",
        "a{a:b='c'}",
        "a = b",
        "{}",
        "1__0",
        "a and on (x) group_left b",
    ),
]
OPERATORS = ("-", "+", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless")


@pytest.fixture(scope="module", params=["2", "3"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[str, Server]]:
    with servers.prometheus(tmp_path_factory.mktemp(f"prometheus{request.param}"), request.param) as running:
        yield request.param, Server(running.url)


def asked(server: Server, path: str, text: str) -> t.Any:
    """What the server makes of it; None where it refuses."""
    try:
        return server.post(f"/api/v1/{path}", {"query": text}).json()["data"]
    except Refused:
        return None


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def modified(node: promql.Selector | promql.Subquery) -> dict[str, t.Any]:
    moment = isinstance(node.at, float)
    return {
        "offset": milliseconds(node.offset),
        "startOrEnd": None if moment else node.at,
        "timestamp": milliseconds(t.cast(float, node.at)) if moment else None,
    }


def as_prometheus(node: promql.Node) -> t.Any:
    """Our tree as ``/api/v1/parse_query`` writes its own."""
    if isinstance(node, promql.Number):
        return {"type": "numberLiteral", "val": node.value}
    if isinstance(node, promql.Text):
        return {"type": "stringLiteral", "val": node.value}
    if isinstance(node, promql.Selector):
        own = {"matchers": [{"name": m.label, "type": m.operator, "value": m.value} for m in node.matchers]}
        kind = (
            {"type": "matrixSelector", "range": milliseconds(node.range)} if node.range else {"type": "vectorSelector"}
        )
        return {**own, **kind, **modified(node)}
    if isinstance(node, promql.Subquery):
        times = {"range": milliseconds(node.range), "step": milliseconds(node.step), **modified(node)}
        return {"type": "subquery", "expr": as_prometheus(node.expression), **times}
    if isinstance(node, promql.Call):
        return {"type": "call", "func": node.function, "args": [as_prometheus(argument) for argument in node.arguments]}
    if isinstance(node, promql.Aggregation):
        return {
            "type": "aggregation",
            "op": node.operator,
            "expr": as_prometheus(node.expression),
            "param": as_prometheus(node.parameter) if node.parameter else None,
            "grouping": list(node.labels),
            "without": node.without,
        }
    if isinstance(node, promql.Parentheses):
        return {"type": "parenExpr", "expr": as_prometheus(node.expression)}
    if isinstance(node, promql.Unary):
        return {"type": "unaryExpr", "op": node.operator, "expr": as_prometheus(node.expression)}
    assert isinstance(node, promql.Binary)
    matching = node.matching or promql.Matching(False, (), "", ())
    return {
        "type": "binaryExpr",
        "op": node.operator,
        "lhs": as_prometheus(node.left),
        "rhs": as_prometheus(node.right),
        "bool": node.bool_modifier,
        "matching": {
            "labels": list(matching.labels),
            "on": matching.on,
            "include": list(matching.include),
            "many": matching.many,
        },
    }


_MANY = {"many-to-one": "left", "one-to-many": "right", "one-to-one": "", "many-to-many": ""}


def comparable(tree: t.Any) -> t.Any:
    """A tree of ``parse_query`` with what only the server knows left out."""
    if isinstance(tree, list):
        return [comparable(branch) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    found = {key: comparable(value) for key, value in tree.items()}
    if tree.get("type") == "numberLiteral":
        found["val"] = float(tree["val"])
    if tree.get("type") == "call":
        found["func"] = tree["func"]["name"]
    if tree.get("type") in ("vectorSelector", "matrixSelector"):
        del found["name"]
    if tree.get("type") == "binaryExpr":
        # Between numbers there is nothing to match.
        matching = tree["matching"] or {"labels": [], "on": False, "include": [], "card": "one-to-one"}
        rest = {key: value for key, value in matching.items() if key in ("labels", "on", "include")}
        found["matching"] = {**rest, "many": _MANY[matching["card"]]}
    return found


def same(ours: t.Any, theirs: t.Any) -> bool:
    """Equal, and a NaN equals a NaN."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and math.isnan(ours):
        return isinstance(theirs, float) and math.isnan(theirs)
    return bool(ours == theirs)


def read(text: str) -> promql.Node | None:
    try:
        return promql.parse(text)
    except promql.NotUnderstood:
        return None


def judge(version: str, server: Server, text: str) -> bool:
    """Whether the server takes it; where it does and we understand it, the two trees must be the same."""
    if version == "2":
        # It has no trees to show, and what it writes out is not always the same again: +Inf ^ x for Inf ^ x.
        formatted = asked(server, "format_query", text)
        if formatted is None:
            return False
        ours, again = read(text), read(formatted)
        if ours is not None:
            assert again is not None, (text, formatted)
            assert read_from(ours) == read_from(again), (text, formatted)
        return True
    tree = asked(server, "parse_query", text)
    if tree is None:
        return False
    ours = read(text)
    if ours is not None:
        assert same(as_prometheus(ours), comparable(tree)), (text, as_prometheus(ours), comparable(tree))
    return True


def read_from(node: promql.Node) -> list[str]:
    """Its selectors, each with its matchers in one order: a server that writes an expression out takes its own."""
    found = []
    for selector in promql.selectors(node):
        matchers = sorted(selector.matchers, key=str)
        found.append(str((matchers, selector.range, selector.offset, selector.at)))
    return found


def test_what_is_taken_is_understood_and_is_the_same(server: tuple[str, Server]) -> None:
    taken = [text for text in [*CORPUS, *LINES, *rules()] if judge(*server, text)]
    assert [text for text in taken if read(text) is None] == []
    assert len(taken) > 0.7 * len(CORPUS)


def rules() -> list[str]:
    """The expressions of our own rules."""
    files = sorted((ROOT / "roles" / "prometheus").rglob("rules/*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    found = [str(rule["expr"]) for group in groups for rule in group["rules"]]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_not_understood(server: tuple[str, Server], text: str) -> None:
    assert asked(server[1], "format_query", text) is None
    assert read(text) is None


NAMES = st.sampled_from(["a", "b:c", "sum", "by", "and", "start", "fill", "offset", "up"])
LABELS = st.sampled_from(["x", "on", "by", "le", "bool"])
DURATIONS = st.sampled_from(["5m", "1h30m", "90s", "250ms", "1d"])
STRINGS = st.sampled_from(['"x"', "'y'", "`z\\`", '"\\n\\u00e9"', '""'])


@st.composite
def selector(draw: st.DrawFn) -> str:
    text = draw(NAMES)
    if draw(st.booleans()):
        matchers = draw(st.lists(st.tuples(LABELS, st.sampled_from(["=", "!=", "=~", "!~"]), STRINGS), max_size=2))
        text += "{" + ",".join(" ".join(matcher) for matcher in matchers) + draw(st.sampled_from(["}", " }"]))
    for modifier in draw(st.permutations([" offset " + draw(DURATIONS), " @ end()", " @ 12.5"]))[
        : draw(st.integers(0, 1))
    ]:
        text += modifier
    return text


@st.composite
def matching(draw: st.DrawFn, sign: str) -> str:
    text = ""
    if sign in promql.COMPARISONS and draw(st.booleans()):
        text += " bool"
    if draw(st.booleans()):
        text += f" {draw(st.sampled_from(['on', 'ignoring', 'ON']))} ({', '.join(draw(st.lists(LABELS, max_size=2)))})"
        if sign not in ("and", "or", "unless") and draw(st.booleans()):
            text += draw(st.sampled_from([" group_left", " group_right (x)", " group_left ()"]))
    return text


def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    @st.composite
    def binary(draw: st.DrawFn) -> str:
        sign, left, right = draw(st.sampled_from(OPERATORS)), draw(inner), draw(inner)
        # With a number the server forgets which labels were to match.
        numbers = any((node := read(side)) and promql.constant(node) is not None for side in (left, right))
        modifiers = (" bool" if sign in promql.COMPARISONS else "") if numbers else draw(matching(sign))
        return f"{left} {sign}{modifiers} {right}"

    @st.composite
    def aggregation(draw: st.DrawFn) -> str:
        grouping = draw(st.sampled_from([" by (x, le)", " without (on,)", " by ()", ""]))
        name, inside = draw(st.sampled_from(["sum", "count", "MAX"])), draw(inner)
        return f"{name}{grouping} ({inside})" if draw(st.booleans()) else f"{name}({inside}){grouping}"

    return st.one_of(
        binary(),
        binary(),
        aggregation(),
        inner.map("({})".format),
        inner.map("-{}".format),
        inner.map("abs({})".format),
        st.tuples(inner, DURATIONS, DURATIONS).map(lambda parts: "max_over_time(({})[{}:{}])".format(*parts)),
    )


NUMBERS = st.sampled_from(["1", "-2.5", "1e3", "0x1F", "017", "Inf", "NaN"])
EXPRESSIONS = st.recursive(
    st.one_of(selector(), selector(), NUMBERS, DURATIONS.map("rate(a[{}])".format)), wider, max_leaves=8
)
MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def test_made_up_expressions_are_read_as_the_server_reads_them(server: tuple[str, Server]) -> None:
    taken, understood = 0, 0

    @MANY
    @given(EXPRESSIONS)
    def check(text: str) -> None:
        nonlocal taken, understood
        if judge(*server, text):
            taken += 1
            understood += read(text) is not None

    check()
    assert understood == taken
    assert taken > 60


def test_splitting_a_comparison_off_leaves_what_the_server_takes(server: tuple[str, Server]) -> None:
    _version, asked_server = server

    @MANY
    @given(EXPRESSIONS, st.sampled_from([">", "<=", "=="]), st.sampled_from(["", " and on (x) b", " unless a > 5"]))
    def check(left: str, sign: str, condition: str) -> None:
        text = f"{left} {sign} 5{condition}"
        if asked(asked_server, "format_query", text) is None:
            return
        try:
            found = promql.comparison(text)
        except promql.NoComparison:
            return
        again = asked(asked_server, "format_query", f"({found.left}) {found.operator} {found.threshold!r}")
        assert again is not None, (text, found)

    check()


def names(tree: t.Any) -> set[str]:
    """Names of all selectors in a tree of promql-parser, which shows no parts by one name."""
    found: set[str] = set()

    def enter(node: t.Any) -> bool:
        selected = getattr(node, "vector_selector", node)
        if isinstance(selected, promql_parser.VectorSelector):
            equal = [m.value for m in selected.matchers.matchers if m.name == "__name__"]
            found.add(selected.name or "".join(equal))
        return True

    promql_parser.walk(tree, enter)
    return found


@MANY
@given(EXPRESSIONS)
def test_another_parser_sees_the_same_metrics(text: str) -> None:
    try:
        theirs = promql_parser.parse(text)
    except ValueError:
        return
    ours = read(text)
    if ours is not None:
        assert {selector.metric for selector in promql.selectors(ours)} == names(theirs), text


def test_another_parser_sees_the_metrics_of_our_rules() -> None:
    for text in rules():
        assert {selector.metric for selector in promql.selectors(promql.parse(text))} == names(
            promql_parser.parse(text)
        )
