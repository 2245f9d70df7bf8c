# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A recording rule for a query, and the proof that it gives the same values.

The rule is evaluated for real: ``promtool tsdb create-blocks-from rules`` has the server evaluate it at the times of
its own group, as the server would, and writes what it records into a directory of ours; that is read back and held
against the query at those very times. Where promtool is not there, the expression alone is held against the query, and
the proof says so.

A rule and a dashboard do not look at the same moments: what is shown from a rule is up to one of its intervals old.

Source: https://prometheus.io/docs/practices/rules/
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ..._http import HttpError
from ..._prometheus import Prometheus, Sample
from ..._units import human_duration
from ..language.promql import (
    Aggregation,
    Binary,
    Call,
    Comparison,
    NoComparison,
    Node,
    NotUnderstood,
    Selector,
    Subquery,
    bare,
    children,
    comparison,
    parse,
    selectors,
    walk,
)

GROUP = "njord_query_log"
# Evaluations that are compared.
INSTANTS = 3
PROMTOOL_SECONDS = 60.0
# So many of its intervals ago every scrape is written.
SETTLED = 2
MOST_LEVELS = 5
DIGITS = 1e-12
SHOWN = 5

# Which series they choose changes from moment to moment: recorded would be a series full of holes.
_CHOOSING = ("topk", "bottomk", "limitk", "limit_ratio")
_ORDERING = ("sort", "sort_desc", "sort_by_label", "sort_by_label_desc")
_COUNTERS = ("rate", "increase", "irate")
_PARTS = ("_bucket", "_count", "_sum")
_JOINED = {"/": "ratio", "*": "product", "-": "difference", "+": "sum"}
_DUMPED = re.compile(r"(\{.*\}) (\S+) (-?\d+)")
_LABEL = re.compile(r'(?:([a-zA-Z_][a-zA-Z0-9_]*)|("(?:\\.|[^"\\])*"))=("(?:\\.|[^"\\])*")(?:, |$)')

Labels = t.Tuple[t.Tuple[str, str], ...]


class NoRule(Exception):
    """Why no rule makes sense for a query, a clause."""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A rule for a query.

    :param record: by the convention ``level:metric:operations``.
    :param expression: what it records.
    :param replacement: what is asked instead of the query.
    :param interval: seconds from one evaluation to the next.
    :param condition: of those recorded, which the query shows; None where all.
    :param is_choice: the query shows some of those recorded, by their order.
    """

    query: str
    record: str
    expression: str
    replacement: str
    interval: float
    condition: Comparison | None
    is_choice: bool

    @property
    def text(self) -> str:
        """A file of rules; YAML takes a string as JSON writes it."""
        return (
            f"groups:\n  - name: {GROUP}\n    interval: {self.interval:g}s\n    rules:\n"
            f"      - record: {json.dumps(self.record)}\n        expr: {json.dumps(self.expression)}\n"
        )


@dataclasses.dataclass(frozen=True)
class Proof:
    """How a rule and its query were compared.

    :param state: ``proven``, ``differs`` or ``unknown``.
    :param how: a sentence.
    :param compared: values of how many series and moments.
    :param differences: the first of them.
    """

    state: str
    how: str
    compared: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)


def propose(query: str, labels: t.Sequence[str], interval: float) -> Proposal:
    """
    :param labels: names of the labels that the answer has now.
    :param interval: seconds; how often the rule is to be evaluated.
    :raises NoRule: where there is none that helps.
    """
    try:
        node = bare(parse(query))
    except NotUnderstood as error:
        raise NoRule(f"it is not understood here ({error})") from error
    if any(isinstance(below, (Selector, Subquery)) and below.at is not None for below in walk(node)):
        raise NoRule("it asks for a fixed time (@), and a rule only for its own")
    if not selectors(node):
        raise NoRule("it reads no series")
    before, after, choice = "", "", False
    condition = None
    if isinstance(node, Binary) and node.operator not in ("and", "unless"):
        try:
            condition = comparison(query)
            after = query[condition.node.span[1] : node.span[1]]
            before = query[node.span[0] : condition.node.span[0]]
            node = bare(condition.node)
        except NoComparison:
            pass
    while (isinstance(node, Aggregation) and node.operator in _CHOOSING) or (
        isinstance(node, Call) and node.function in _ORDERING
    ):
        inner = node.expression if isinstance(node, Aggregation) else node.arguments[0]
        choice = choice or isinstance(node, Aggregation)
        before, after = before + query[node.span[0] : inner.span[0]], query[inner.span[1] : node.span[1]] + after
        node = bare(inner)
    if isinstance(node, Selector):
        raise NoRule(
            "it asks for series as they are stored, and a rule would store the same once more: narrow it by labels, or"
            " aggregate it"
        )
    # Where the condition stands outside of a choice, what is shown is a part all the same.
    expression = query[slice(*node.span)]
    record = f"{_level(node, labels)}:{_metric(node)}:{_operations(node, query)}"
    return Proposal(query, record, expression, f"{before}{record}{after}".strip(), interval, condition, choice)


def renamed(proposal: Proposal, record: str) -> Proposal:
    """The same under another name."""
    pattern = rf"(?<![a-zA-Z0-9_:]){re.escape(proposal.record)}(?![a-zA-Z0-9_:])"
    return dataclasses.replace(
        proposal, record=record, replacement=re.sub(pattern, record, proposal.replacement, count=1)
    )


def _level(node: Node, labels: t.Sequence[str]) -> str:
    aggregation = next((below for below in _spine(node) if isinstance(below, Aggregation)), None)
    if aggregation is not None and not aggregation.without:
        labels = [label for label in aggregation.labels if label != "le" or "le" in labels]
    found = [re.sub(r"[^a-zA-Z0-9_]", "_", label) for label in labels]
    if len(found) > MOST_LEVELS:
        return "series"
    return "_".join(found) or "all"


def _spine(node: Node) -> t.Iterator[Node]:
    """From the top down the one expression that makes the values, as long as there is one."""
    while True:
        node = bare(node)
        yield node
        below = [node.expression] if isinstance(node, Aggregation) else [n for n in children(node) if selectors(n)]
        if len(below) != 1:
            return
        node = below[0]


def _metric(node: Node) -> str:
    name = next((selector.metric for selector in selectors(node) if selector.metric), "series")
    functions = {below.function for below in walk(node) if isinstance(below, Call)}
    # Of a recorded one the metric stands in the middle.
    parts = name.split(":")
    name = parts[1] if len(parts) == 3 else name
    if functions.intersection(_COUNTERS) and name.endswith("_total"):
        name = name[: -len("_total")]
    if "histogram_quantile" in functions:
        name = next((name[: -len(part)] for part in _PARTS if name.endswith(part)), name)
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _operations(node: Node, query: str) -> str:
    """The newest first; a sum of something else goes without saying."""
    found = []
    for below in _spine(node):
        if isinstance(below, Aggregation):
            quantile = below.operator == "quantile" and below.parameter is not None
            found.append(_percentile(query, below.parameter) if quantile else below.operator)
        elif isinstance(below, Call) and below.function == "histogram_quantile":
            found.append(_percentile(query, below.arguments[0]))
        elif isinstance(below, Call):
            ranges = [one for one in below.arguments if isinstance(one, (Selector, Subquery)) and one.range]
            found.append(below.function + "".join(_duration(one.range) for one in ranges))
        elif isinstance(below, Binary) and selectors(below.left) and selectors(below.right):
            found.append(_JOINED.get(below.operator, "combined"))
    return "_".join([name for name in found if name != "sum"] or found or ["value"])


def _percentile(query: str, node: Node | None) -> str:
    written = query[slice(*node.span)] if node else ""
    try:
        return f"p{float(written) * 100:g}".replace(".", "_")
    except ValueError:
        return "quantile"


def _duration(seconds: float) -> str:
    for name, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{name}"
    return f"{seconds * 1000:g}ms"


# The proof


def prove(client: Prometheus, proposal: Proposal, promtool: str, now: float) -> Proof:
    """
    :param promtool: its path; empty where it is not there.
    :param now: unix seconds, by the clock of the server.
    """
    server = client.server
    end = now - SETTLED * proposal.interval
    try:
        if not promtool:
            return _without_rule(client, proposal, end, "promtool is not on the host")
        if server.username or server.token or server.ca_path:
            # Its own way of logging in would be a file with the secret.
            with tempfile.TemporaryDirectory() as place:
                _checked(promtool, Path(place), proposal)
            return _without_rule(client, proposal, end, "the rule passes promtool, which was not given the login")
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            _checked(promtool, directory, proposal)
            recorded = _recorded(promtool, directory, proposal, server.url, end)
        return _compared(
            client,
            proposal,
            recorded,
            "The rule passes promtool; it was evaluated for real (promtool tsdb create-blocks-from rules), and what it"
            " recorded was compared with the query at the same moments",
        )
    except (HttpError, _Undone) as error:
        return Proof("unknown", f"Not compared: {error}.")


class _Undone(Exception):
    """Why the rule could not be tried, a clause."""


def _checked(promtool: str, directory: Path, proposal: Proposal) -> None:
    rules = directory / "rules.yml"
    rules.write_text(proposal.text, encoding="utf-8")
    _run([promtool, "check", "rules", str(rules)])


def _recorded(promtool: str, directory: Path, proposal: Proposal, url: str, end: float) -> dict[float, list[Sample]]:
    """What the rule records, by unix seconds."""
    blocks = directory / "blocks"
    # A directory that is dumped must have one.
    (blocks / "wal").mkdir(parents=True)
    start = end - INSTANTS * proposal.interval
    command = [promtool, "tsdb", "create-blocks-from", "rules", f"--url={url}", f"--output-dir={blocks}"]
    command += [f"--start={start:.0f}", f"--end={end:.0f}", f"--eval-interval={proposal.interval:g}s"]
    _run([*command, str(directory / "rules.yml")])
    dump = _run([promtool, "tsdb", "dump", f"--sandbox-dir-root={directory}", str(blocks)])
    found: dict[float, list[Sample]] = {}
    for line in dump.splitlines():
        read = _DUMPED.fullmatch(line)
        if not read:
            raise _Undone(f"promtool wrote what is no sample: {line[:160]!r}")
        labels, value, milliseconds = read.groups()
        sample = Sample(_labels(labels), float(value.replace("Inf", "inf")), int(milliseconds) / 1000)
        found.setdefault(sample.time, []).append(sample)
    return found


def _labels(text: str) -> dict[str, str]:
    inner = text[1:-1]
    found: dict[str, str] = {}
    at = 0
    while at < len(inner):
        read = _LABEL.match(inner, at)
        if not read:
            raise _Undone(f"promtool wrote labels that are not understood: {text[:160]!r}")
        name, quoted, value = read.groups()
        try:
            found[name or json.loads(quoted)] = json.loads(value)
        except ValueError:
            # Go escapes some letters in its own way.
            raise _Undone(f"promtool wrote labels that are not understood: {text[:160]!r}") from None
        at = read.end()
    return found


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PROMTOOL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _Undone(f"promtool was not through after {human_duration(PROMTOOL_SECONDS)}") from None
    except OSError as error:
        raise _Undone(f"promtool cannot be started: {error}") from error
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise _Undone(f"promtool {' '.join(command[1:3])} ended with {done.returncode}: {said[-1] if said else ''}")
    return done.stdout


def _without_rule(client: Prometheus, proposal: Proposal, end: float, reason: str) -> Proof:
    end = math.floor(end / proposal.interval) * proposal.interval
    recorded = {}
    for step in range(INSTANTS):
        moment = end - step * proposal.interval
        recorded[moment] = client.query(proposal.expression, moment)
    return _compared(
        client,
        proposal,
        recorded,
        f"No rule was evaluated, since {reason}; its expression was compared with the query at the same moments",
    )


def _compared(client: Prometheus, proposal: Proposal, recorded: dict[float, list[Sample]], how: str) -> Proof:
    differences: list[str] = []
    compared = 0
    for moment in sorted(recorded)[-INSTANTS:]:
        mine = _by_labels(recorded[moment])
        asked = client.query(proposal.query, moment)
        theirs = _by_labels(asked)
        if len(mine) < len(recorded[moment]) or len(theirs) < len(asked):
            differences.append("without their names some series are the same, and a rule refuses that")
            continue
        compared += len(theirs)
        for labels, value in theirs.items():
            if labels not in mine:
                differences.append(f"{_named(labels)} at {moment:.3f}: the rule has no value, the query {value!r}")
            elif not _same(mine[labels], value):
                differences.append(
                    f"{_named(labels)} at {moment:.3f}: {mine[labels]!r} by the rule, {value!r} by query"
                )
        for labels, value in mine.items():
            shown = proposal.condition is None or proposal.condition.holds(value)
            if labels not in theirs and shown and not proposal.is_choice:
                differences.append(f"{_named(labels)} at {moment:.3f}: {value!r} by the rule, and not in the query")
    if differences:
        return Proof("differs", f"{how}: they differ.", compared, differences[:SHOWN])
    if not compared:
        return Proof("unknown", f"{how}: there was nothing to compare, neither had a value then.")
    return Proof("proven", f"{how}: all are the same, to twelve digits.", compared)


def _by_labels(samples: t.Iterable[Sample]) -> dict[Labels, float]:
    return {
        tuple(sorted((name, value) for name, value in sample.labels.items() if name != "__name__")): sample.value
        for sample in samples
    }


def _same(one: float, other: float) -> bool:
    # The last digit of a sum hangs on the order of its summands.
    return math.isclose(one, other, rel_tol=DIGITS) or (math.isnan(one) and math.isnan(other))


def _named(labels: Labels) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels) + "}"


def now_of(client: Prometheus) -> float:
    """Unix seconds by the server's clock."""
    samples = client.query("time()")
    return samples[0].value if samples else time.time()
