# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""All that files of Grafana ask of Prometheus: panels in rows or not, hidden queries, annotations, variables, library
panels, alert rules.

Where exactly a query stands differs by Grafana's version; its key ``expr`` does not. So a file is searched through
rather than read by a scheme, and what is asked of another kind of data source is left out where that is said.

A variable is filled in by where it stands. A time of Grafana's own is a time. In a range or an offset it is 5 minutes;
before a bracket it is a function. Elsewhere it is each of the values it can have where the dashboard says which
(``custom``, ``constant``, ``interval``, a text box with a number), and else it may be anything.

Source: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t
from pathlib import Path

from ..language.reads import MOST_VALUES, Reads, blank, reads
from ..scrape.panel import Variable, filled, used, variable

MOST_FILES = 5000
LARGEST_FILE = 32 * 1024 * 1024
# Any time will do.
_LENGTH, _INTERVAL = 3600.0, 15.0
_TIMES = {"__from": ["0"], "__to": ["0"]}
# Types of data sources that have an ``expr`` as well, in another language.
_OTHER_SOURCES = ("loki", "victoriametrics-logs-datasource")
# What has one of these keys has a title or a name that a person knows.
_TITLED = ("targets", "target", "expr", "libraryPanel", "model", "data")
_QUERY_RESULT = re.compile(r"\s*query_result\((.*)\)\s*", re.DOTALL)
_LISTS = re.compile(r"\s*(?:metrics|label_names|label_values)\([^,]*\)\s*", re.DOTALL)
_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?\s*")
_SECOND_SCHEMA = "dashboard.grafana.app/v2"


@dataclasses.dataclass(frozen=True)
class Query:
    """:param where: file and panel. :param text: variables not filled in."""

    where: str
    text: str
    variables: t.Mapping[str, Variable]

    def reads(self) -> Reads:
        names = used(self.text)
        values = {name: [blank(number)] for number, name in enumerate(names)}
        text = filled(self.text, {**values, **_TIMES}, _LENGTH, _INTERVAL)
        return reads(text, [_values(self.variables.get(name)) for name in names])


@dataclasses.dataclass
class Dashboards:
    """What some files hold.

    :param files: those with a query.
    :param others: JSON files without one.
    :param problems: by file or panel, a clause why it is not known what that asks.
    :param empty: directories in which there is no dashboard.
    """

    queries: list[Query] = dataclasses.field(default_factory=list)
    files: list[str] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    empty: list[str] = dataclasses.field(default_factory=list)


def read(paths: t.Iterable[str]) -> Dashboards:
    """
    :param paths: files, and directories in which all that ends in ``.json`` is read.
    """
    found = Dashboards()
    search = _Search()
    for path in paths:
        names = _files(path, found)
        before = len(found.files)
        for name in names:
            queries, wanted = len(search.queries), len(search.wanted)
            try:
                search.look(_document(Path(name)), _Place(name, "", "", {}))
            except OSError as error:
                found.problems[name] = f"it cannot be read: {error.strerror or error}"
                continue
            except (ValueError, RecursionError) as error:
                found.problems[name] = f"it is no JSON that can be read: {error}"
                continue
            asks = len(search.queries) > queries or len(search.wanted) > wanted
            (found.files if asks else found.others).append(name)
        if len(found.files) == before and Path(path).is_dir():
            found.empty.append(path)
    found.queries = search.queries
    found.problems.update(search.problems)
    for where, uid in search.wanted:
        if uid not in search.given:
            found.problems[where] = f"the library panel {uid} is in none of the files"
    return found


def _files(path: str, found: Dashboards) -> list[str]:
    if not Path(path).is_dir():
        return [path]

    def failed(error: OSError) -> None:
        found.problems[str(error.filename)] = f"it cannot be read: {error.strerror}"

    names = [
        str(Path(directory) / name)
        for directory, _directories, files in os.walk(path, onerror=failed)
        for name in files
        if name.endswith(".json")
    ]
    if len(names) > MOST_FILES:
        found.problems[path] = f"it holds {len(names)} files, and {MOST_FILES} were read"
    return sorted(names)[:MOST_FILES]


def _document(path: Path) -> t.Any:
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it is larger than {LARGEST_FILE} bytes")
    return json.loads(content)


class _Place(t.NamedTuple):
    """
    :param title: of the panel or the like.
    :param source: type of the data source, or its name; empty where it is not said.
    """

    file: str
    title: str
    source: str
    variables: t.Mapping[str, Variable]

    def __str__(self) -> str:
        return f"{self.file}: {self.title}" if self.title else self.file


class _Search:
    """
    :ivar wanted: where a library panel is used of which no query is there, and its uid; ``given`` those that are known.
    """

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.problems: dict[str, str] = {}
        self.wanted: list[tuple[str, str]] = []
        self.given: set[str] = set()

    def look(self, value: t.Any, place: _Place) -> None:
        if isinstance(value, list):
            for one in value:
                self.look(one, place)
        if not isinstance(value, dict):
            return
        if str(value.get("apiVersion", "")).startswith(_SECOND_SCHEMA):
            self.problems[str(place)] = "it has the second schema of Grafana, which is not read; export it as classic"
            return
        place = self._inside(value, place)
        if isinstance(value.get("uid"), str) and isinstance(value.get("model"), dict):
            self.given.add(value["uid"])
        library = value.get("libraryPanel")
        if isinstance(library, dict) and library.get("uid") and not value.get("targets"):
            self.wanted.append((str(place), str(library["uid"])))
        self._ask(value.get("expr"), place)
        for one in value.values():
            self.look(one, place)

    def _ask(self, expression: t.Any, place: _Place) -> None:
        if isinstance(expression, str) and expression.strip() and _source(place) not in _OTHER_SOURCES:
            self.queries.append(Query(str(place), expression, place.variables))

    def _inside(self, value: dict[str, t.Any], place: _Place) -> _Place:
        """The place of its parts. What its variables ask is taken along."""
        title = value.get("title") or value.get("name")
        if isinstance(title, str) and any(key in value for key in _TITLED):
            place = place._replace(title=title)
        source = value.get("datasource")
        if source:
            named = (source.get("type") or source.get("uid")) if isinstance(source, dict) else source
            place = place._replace(source=str(named or ""))
        inputs, templating = value.get("__inputs"), value.get("templating")
        rows = templating.get("list") if isinstance(templating, dict) else None
        found = {row["name"]: variable(row) for row in _named(rows)}
        for row in _named(inputs):
            found[row["name"]] = Variable(str(row["name"]), "datasource", str(row.get("pluginId", "")), (), "")
        place = place._replace(variables={**place.variables, **found})
        for row in _named(rows):
            own = self._inside({"datasource": row.get("datasource")}, place)
            self._ask(_asked(found[row["name"]]), own._replace(title=f"the variable {row['name']}"))
        return place


def _named(rows: t.Any) -> list[dict[str, t.Any]]:
    return [row for row in rows if isinstance(row, dict) and row.get("name")] if isinstance(rows, list) else []


def _source(place: _Place) -> str:
    """Type of the data source as far as that is known; a variable may say it."""
    chosen = [place.variables[name] for name in used(place.source) if name in place.variables]
    return next((one.query for one in chosen if one.kind == "datasource"), place.source).lower()


def _asked(one: Variable) -> str:
    """The expression that fills a variable; empty where there is none."""
    if one.kind != "query":
        return ""
    whole = _QUERY_RESULT.fullmatch(one.query)
    if whole:
        return whole.group(1)
    if one.label_values:
        return one.label_values[0]
    return "" if _LISTS.fullmatch(one.query) else one.query.strip()


def _values(one: Variable | None) -> list[str]:
    """What a variable can be; none where it can be anything."""
    if one is None or one.kind not in ("custom", "constant", "interval", "textbox"):
        return []
    if one.kind == "constant":
        return [one.query] if one.query else []
    if one.kind == "textbox":
        # One that holds a number now is asked for a number.
        written = [one.query, *one.values]
        return [text for text in written if _NUMBER.fullmatch(text)] if any(map(_NUMBER.fullmatch, written)) else []
    listed = [re.sub(r"\\,", ",", piece).strip() for piece in re.split(r"(?<!\\),", one.query)]
    values = [piece.split(" : ", 1)[-1].strip() for piece in listed if piece]
    return values if len(values) <= MOST_VALUES else []
