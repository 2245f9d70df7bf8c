# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The panels of a Grafana dashboard as its JSON has them: what each asks of Prometheus, with its variables filled in.

Grafana itself is not asked. What the page would show depends on what a person chose there; what was chosen when the
dashboard was saved is taken, or what is given.

Source: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import typing as t

from ..._units import duration

_USE = re.compile(r"\$(\w+)|\$\{(\w+)(?:[.:][^}]*)?\}|\[\[(\w+)(?::\w+)?\]\]")
_NOW = re.compile(r"now(?:-(\d+(?:ms|[smhdwy])))?(?:/[smhdwMy])?")
_LABEL_VALUES = re.compile(r"label_values\(\s*(?:(?P<selector>.+?)\s*,\s*)?(?P<label>[a-zA-Z_]\w*)\s*\)", re.DOTALL)
ALL = "$__all"


@dataclasses.dataclass(frozen=True)
class Variable:
    """
    :param kind: ``query``, ``custom``, ``datasource``, …
    :param query: what it is filled from.
    :param values: what was chosen when the dashboard was saved; none where nothing was.
    :param all_value: what stands for all of them; empty where they are joined.
    """

    name: str
    kind: str
    query: str
    values: tuple[str, ...]
    all_value: str

    @property
    def label_values(self) -> tuple[str, str] | None:
        """(selector, label) where it is filled from the values of a label; None for any other."""
        found = _LABEL_VALUES.fullmatch(self.query.strip())
        return (found["selector"] or "", found["label"]) if found and self.kind == "query" else None


@dataclasses.dataclass(frozen=True)
class Panel:
    """
    :param source: type of its data source; empty where it does not say, and the default of Grafana is taken.
    :param source_variable: the variable that names its data source; empty where it is named itself.
    :param expressions: its queries, variables not filled in.
    :param range: begin and end of the dashboard as it has them: ``now-6h`` and ``now``.
    """

    title: str
    source: str
    source_variable: str
    expressions: tuple[str, ...]
    variables: dict[str, Variable]
    range: tuple[str, str]


def panels(text: str, chosen: str = "") -> list[Panel]:
    """The panels with queries of a dashboard, as exported or as the API wraps it.

    :param chosen: title or number of the one that is wanted; all where empty.
    :raises ValueError: where it is no dashboard, or has no such panel.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    board = document.get("dashboard", document) if isinstance(document, dict) else None
    if not isinstance(board, dict) or not isinstance(board.get("panels"), list):
        raise ValueError("it is no dashboard of Grafana: it has no list of panels")
    variables = {row["name"]: variable(row) for row in (board.get("templating") or {}).get("list") or []}
    time = board.get("time") or {}
    ends = (str(time.get("from", "now-6h")), str(time.get("to", "now")))
    rows = [row for row in _flat(board["panels"]) if row.get("targets")]
    found = [row for row in rows if chosen in ("", str(row.get("title", "")), str(row.get("id", "")))]
    if not found:
        titles = ", ".join(repr(row.get("title", "")) for row in rows)
        raise ValueError(f"it has no panel {chosen!r} with queries; there are: {titles or 'none'}")
    return [_panel(row, variables, ends) for row in found]


def _flat(rows: list[dict[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
    for row in rows:
        yield row
        yield from _flat(row.get("panels") or [])


def _panel(row: dict[str, t.Any], variables: dict[str, Variable], ends: tuple[str, str]) -> Panel:
    targets = [target for target in row["targets"] if not target.get("hide")]
    sources: list[t.Any] = [one.get("datasource") for one in (row, *targets) if one.get("datasource")]
    source = sources[0] if sources else {}
    # Before Grafana 8.3 it was a name.
    kind, uid = (source.get("type", ""), source.get("uid", "")) if isinstance(source, dict) else ("", source)
    use = _USE.fullmatch(str(uid or ""))
    expressions = tuple(str(target["expr"]) for target in targets if target.get("expr"))
    return Panel(
        title=str(row.get("title") or row.get("id") or "without a title"),
        source=str(kind or ""),
        source_variable=_name(use) if use else "",
        expressions=expressions,
        variables=variables,
        range=ends,
    )


def variable(row: dict[str, t.Any]) -> Variable:
    query = row.get("query") or row.get("definition") or ""
    if isinstance(query, dict):
        query = query.get("query") or row.get("definition") or ""
    value = (row.get("current") or {}).get("value")
    values = value if isinstance(value, list) else [value]
    chosen = tuple(str(one) for one in values if one not in (None, ""))
    return Variable(str(row["name"]), str(row.get("type", "")), str(query), chosen, str(row.get("allValue") or ""))


def _name(use: re.Match[str]) -> str:
    return next(name for name in use.groups() if name)


def used(expression: str) -> list[str]:
    """Names of the variables in an expression, without those that Grafana has itself."""
    names = [_name(use) for use in _USE.finditer(expression)]
    return [name for name in dict.fromkeys(names) if not name.startswith("__")]


def filled(expression: str, values: t.Mapping[str, t.Sequence[str]], length: float, interval: float) -> str:
    """An expression with its variables filled in, as Grafana does for Prometheus.

    :param values: by name; several are joined to a regular expression.
    :param length: seconds of the time range; ``interval`` those between two scrapes.
    """
    own = {
        "__interval": f"{max(round(length / 1000), round(interval), 1)}s",
        "__interval_ms": f"{max(round(length), round(interval * 1000), 1)}",
        "__rate_interval": f"{max(round(4 * interval), 1)}s",
        "__range": f"{max(round(length), 1)}s",
        "__range_s": f"{max(round(length), 1)}",
        "__range_ms": f"{max(round(length * 1000), 1)}",
    }

    def fill(use: re.Match[str]) -> str:
        name = _name(use)
        if name in own:
            return own[name]
        chosen = values.get(name)
        if chosen is None:
            return use.group()
        if len(chosen) == 1:
            return chosen[0]
        # Once for the regular expression, once for the text that holds it.
        return "(" + "|".join(re.escape(one).replace("\\", "\\\\") for one in chosen) + ")"

    return _USE.sub(fill, expression)


def moment(text: str, now: float) -> float:
    """Unix seconds of ``now-6h``, of RFC 3339, or of milliseconds since the epoch.

    :raises ValueError: names what cannot be read.
    """
    found = _NOW.fullmatch(text.strip())
    if found:
        return now - (duration(found[1]) if found[1] else 0.0)
    if text.strip().isdigit():
        return int(text) / 1000
    try:
        return datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()
    except ValueError as error:
        raise ValueError(f"{text!r} is no time of a dashboard; now-6h would do") from error
