# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Who reads which metric: rules with their templates, dashboards, and the queries of clients."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..._prometheus import Rule
from ..language.promql import NotUnderstood, Selector, parse
from ..language.reads import Reads, blank, reads
from .dashboards import Dashboards

# Of those who read one thing.
EXAMPLES = 3
_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_TEMPLATE_STRING = re.compile(r'"((?:\\.|[^"\\])*)"|`([^`]*)`', re.DOTALL)
_FORMAT = re.compile(r"%[-+# 0-9.]*[a-zA-Z]")


class Readers:
    """Who reads what. Each table holds, by what is read, a few of those that read it."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.selectors: dict[str, list[str]] = {}
        self.maybe: dict[str, list[str]] = {}
        self.mentioned: dict[str, list[str]] = {}
        # Why any metric may be read, by who does or what could not be asked.
        self.anything: dict[str, str] = {}
        # Clauses that say what is missing.
        self.missing: list[str] = []

    def add(self, who: str, found: Reads) -> None:
        for table, keys in (
            (self.names, found.names),
            (self.selectors, found.selectors),
            (self.maybe, found.maybe),
            (self.mentioned, found.mentioned),
        ):
            for key in keys:
                known = table.setdefault(key, [])
                if len(known) < EXAMPLES and who not in known:
                    known.append(who)
        if found.anything:
            self.anything.setdefault(who, found.anything)


def of_rule(rule: Rule) -> Reads:
    """What its expression reads, and the queries in its templates (``{{ with query "up" }}``)."""
    found = reads(rule.query)
    for text in (*rule.labels.values(), *rule.annotations.values()):
        for action in _ACTION.findall(text):
            code = _TEMPLATE_STRING.sub('""', action)
            if not re.search(r"\bquery\b", code):
                continue
            strings = [double or raw for double, raw in _TEMPLATE_STRING.findall(action)]
            if not strings:
                found |= Reads(anything="a template of it asks for a query that is put together")
            for one in strings:
                # What printf puts in.
                found |= reads(_FORMAT.sub(blank(0), one.replace('\\"', '"')), [[]])
    return found


@dataclasses.dataclass(frozen=True)
class Reader:
    """One that asks. :param text: all that it asks and shows, in which the labels that it uses stand."""

    who: str
    text: str
    reads: Reads

    def certainty(self, names: t.Collection[str]) -> str:
        """Whether it reads one of these metrics: ``reads``, ``may read``, or nothing where it does not."""
        if self.reads.names & set(names) or any(_matches(one, names) for one in self.reads.selectors):
            return "reads"
        may = self.reads.anything or self.reads.mentioned & set(names)
        return "may read" if may or any(_matches(one, names) for one in self.reads.maybe) else ""

    def names_a_label(self, labels: t.Iterable[str]) -> bool:
        """Whether one of these labels stands anywhere in it; where it does not, the reader cannot miss it."""
        return any(re.search(rf"(?<![a-zA-Z0-9_]){re.escape(label)}(?![a-zA-Z0-9_])", self.text) for label in labels)


def of_rules(rules: t.Iterable[Rule]) -> list[Reader]:
    return [
        Reader(
            f"rule {rule.group}/{rule.name}",
            "\n".join([rule.query, *rule.labels.values(), *rule.annotations.values()]),
            of_rule(rule),
        )
        for rule in rules
    ]


def of_dashboards(dashboards: Dashboards) -> list[Reader]:
    """Also those of which it is not known what they read."""
    known = [Reader(f"dashboard {query.where}", query.text, query.reads()) for query in dashboards.queries]
    unknown = [Reader(f"dashboard {where}", why, Reads(anything=why)) for where, why in dashboards.problems.items()]
    return [*known, *unknown]


def _matches(selector: str, names: t.Iterable[str]) -> bool:
    """Whether a selector may be one of these metrics by its name; true where that cannot be told."""
    try:
        tree = parse(selector)
        matchers = tree.matchers if isinstance(tree, Selector) else ()
        # Prometheus anchors them.
        patterns = [
            (m.operator, re.compile(m.value if "~" in m.operator else re.escape(m.value)))
            for m in matchers
            if m.label == "__name__"
        ]
    except (NotUnderstood, re.error):
        return True
    return any(all(bool(p.fullmatch(name)) == (how in ("=", "=~")) for how, p in patterns) for name in names)
