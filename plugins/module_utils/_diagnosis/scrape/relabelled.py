# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What the relabelling of a scrape job makes of one series: kept, dropped or renamed, and by which rule.

Rules are read as Prometheus writes them in its own configuration. What cannot be told (an expression that Python does
not read, an action whose label is asked for later) is not guessed.

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
import typing as t

from ... import _yaml

NAME = "__name__"


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule. :param number: from 1, as it stands in the list."""

    number: int
    action: str
    sources: tuple[str, ...]
    separator: str
    regex: str
    target: str
    replacement: str

    def __str__(self) -> str:
        of = f" of {', '.join(self.sources)}" if self.sources else ""
        return f"rule {self.number}, {self.action} by {self.regex}{of}"


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of a series. :param rule: that drops or renames it, or cannot be judged; None where it is kept.

    :param name: that it has afterwards; empty where it is dropped, and None where that cannot be told.
    """

    rule: Rule | None
    name: str | None


def rules(block: str) -> list[Rule]:
    """The rules of ``metric_relabel_configs`` or ``relabel_configs``, from their text in a configuration.

    :raises ValueError: where that is not understood.
    """
    read = _yaml.read(textwrap.dedent(block))
    rows: list[dict[str, t.Any]] = next(iter(read.values()), []) if isinstance(read, dict) else []
    return [_rule(number, row) for number, row in enumerate(rows, 1)]


def _rule(number: int, row: t.Mapping[str, t.Any]) -> Rule:
    return Rule(
        number,
        row.get("action", "replace").lower(),
        tuple(row.get("source_labels", ())),
        row.get("separator", ";"),
        row.get("regex", "(.*)"),
        row.get("target_label", ""),
        row.get("replacement", "$1"),
    )


def fate(chain: t.Sequence[Rule], labels: t.Mapping[str, str]) -> Fate:
    """What becomes of a series with these labels, its name among them and those of the target."""
    now = dict(labels)
    by: Rule | None = None
    for rule in chain:
        value = rule.separator.join(now.get(source, "") for source in rule.sources)
        if rule.action in ("dropequal", "keepequal"):
            if (value == now.get(rule.target, "")) == (rule.action == "dropequal"):
                return Fate(rule, "")
            continue
        try:
            match = re.fullmatch(rule.regex, value, re.DOTALL)
        except re.error:
            return Fate(rule, None)
        if rule.action in ("drop", "keep"):
            if bool(match) == (rule.action == "drop"):
                return Fate(rule, "")
        elif rule.action == "replace" and match:
            before = now.get(NAME)
            target = _filled(rule.target, match)
            now[target] = _filled(rule.replacement, match)
            by = rule if now.get(NAME) != before else by
        elif rule.action == "labeldrop":
            now = {name: text for name, text in now.items() if not re.fullmatch(rule.regex, name)}
        elif rule.action == "labelkeep":
            now = {name: text for name, text in now.items() if re.fullmatch(rule.regex, name)}
        elif rule.action != "replace":
            # labelmap, hashmod and the others write a label; only where that is read later does it matter.
            touched = rule.target or NAME
            if any(touched in later.sources for later in chain[rule.number :]):
                return Fate(rule, None)
    name = now.get(NAME, "")
    return Fate(by, name) if name != labels.get(NAME) else Fate(None, name)


def _filled(template: str, match: re.Match[str]) -> str:
    """A template of Go, with the groups of a match."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except IndexError:
            return ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", group, template)
