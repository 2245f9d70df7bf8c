# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether Prometheus would take an exposition in its text format, and where it would not.

Stricter than Prometheus itself in two places, since both lose samples without a word: a series that comes twice (the
first wins), and a last line without its end (the answer was cut off).

Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

# What is asked for, so that it comes in this format and no other.
TEXT_FORMAT = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*')
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|nan)", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]+")
_TIMESTAMP = re.compile(r"-?\d+")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}
_TITLE = re.compile(r"<title[^>]*>\s*([^<]*)", re.IGNORECASE)
_SHOWN = 120


class ExpositionError(ValueError):
    """What is wrong. :param line: number of the line, from 1. :param text: that line, cut to what fits a sentence."""

    def __init__(self, reason: str, line: int, text: str) -> None:
        super().__init__(f"line {line}: {reason}: {text[:_SHOWN]!r}")
        self.reason = reason
        self.line = line
        self.text = text[:_SHOWN]


@dataclasses.dataclass
class Exposition:
    """What one scrape holds.

    :param families: type by the name of the family, ``untyped`` where none was said.
    :param samples: their number.
    :param kept: (labels, value) of the samples whose name was asked for, by that name.
    :param stamps: earliest and latest time stamp, in unix seconds, by the names whose samples carry one.
    :param repeated: names of which a series came twice.
    """

    families: dict[str, str] = dataclasses.field(default_factory=dict)
    samples: int = 0
    kept: dict[str, list[tuple[dict[str, str], float]]] = dataclasses.field(default_factory=dict)
    stamps: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    repeated: set[str] = dataclasses.field(default_factory=set)

    def value(self, name: str) -> float | None:
        """The value of the first sample of that name; None where there is none."""
        found = self.kept.get(name)
        return found[0][1] if found else None


def html_title(body: bytes) -> str | None:
    """The title of an HTML page (empty where it has none), or None where the body is no HTML."""
    text = body[:65536].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text.lower().startswith(("<!doctype html", "<html", "<head", "<body")):
        return None
    found = _TITLE.search(text)
    return found.group(1).strip() if found else ""


def parse(body: bytes, keep: t.Container[str] = (), repeated: bool = False) -> Exposition:
    """
    :param keep: names of the samples whose labels and values are wanted; all others are checked and counted only.
    :param repeated: a series may come twice, as Prometheus takes it, and its name is told.
    :raises ExpositionError: for the first line that cannot be taken.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        number = body.count(b"\n", 0, error.start)
        line = body.split(b"\n")[number].decode("utf-8", "replace")
        raise ExpositionError("not UTF-8", number + 1, line) from error
    # By line feeds alone: splitlines() would also part a label value at U+2028 and its like.
    lines = text.split("\n")
    reader = _Reader(keep, repeated)
    for number, line in enumerate(lines[:-1], 1):
        reason = reader.read(line)
        if reason:
            raise ExpositionError(reason, number, line)
    if lines[-1]:
        raise ExpositionError("the last line has no end, the exposition was cut off", len(lines), lines[-1])
    return reader.found


class _Reader:
    """Line by line; what is wrong is returned as a reason, empty where nothing is."""

    def __init__(self, keep: t.Container[str], repeated: bool) -> None:
        self.found = Exposition()
        self._keep = keep
        self._repeated = repeated
        self._helped: set[str] = set()
        self._typed: dict[str, str] = {}
        # Hashes, since a million label sets would not fit: two that meet by chance are one in 10^13 scrapes.
        self._seen: set[int] = set()

    def read(self, line: str) -> str:
        line = line.strip(" \t")
        if not line:
            return ""
        if line.startswith("#"):
            return self._comment(line)
        return self._sample(line)

    def _comment(self, line: str) -> str:
        words = _BLANKS.split(line[1:].lstrip(" \t"), 2)
        if line[1:2] not in (" ", "\t") or words[0] not in ("HELP", "TYPE"):
            return ""
        name = words[1] if len(words) > 1 else ""
        if not _NAME.fullmatch(name):
            return f"{words[0]} without the name of a metric"
        if words[0] == "HELP":
            if name in self._helped:
                return f"a second HELP for {name}"
            self._helped.add(name)
            return ""
        kind = words[2] if len(words) > 2 else ""
        if kind not in TYPES:
            return f"type {kind!r} is none of {', '.join(TYPES)}"
        if name in self._typed:
            return f"a second TYPE for {name}"
        if name in self.found.families:
            return f"TYPE for {name} after its first sample"
        self._typed[name] = kind
        return ""

    def _sample(self, line: str) -> str:
        match = _NAME.match(line)
        if not match:
            return "it begins with no name of a metric"
        name = match.group()
        labels: dict[str, str] = {}
        rest = line[match.end() :].lstrip(" \t")
        if rest.startswith("{"):
            reason, end = _labels(rest, labels)
            if reason:
                return reason
            rest = rest[end:]
        elif rest == line[match.end() :] and rest:
            return f"a name of a metric cannot hold {rest[0]!r}"
        words = _BLANKS.split(rest.strip(" \t"))
        if not words[0]:
            return "no value"
        if not _NUMBER.fullmatch(words[0]):
            return f"value {words[0][:_SHOWN]!r} is no number"
        if len(words) > 1 and not _TIMESTAMP.fullmatch(words[1]):
            return f"time stamp {words[1][:_SHOWN]!r} is no whole number of milliseconds"
        if len(words) > 2:
            return "something after the time stamp"
        if len(words) > 1:
            at = int(words[1]) / 1000
            first, last = self.found.stamps.get(name, (at, at))
            self.found.stamps[name] = (min(first, at), max(last, at))
        return self._count(name, labels, float(words[0]))

    def _count(self, name: str, labels: dict[str, str], value: float) -> str:
        family, kind = self._family(name)
        limit = {"histogram": "le", "summary": "quantile"}.get(kind)
        if limit and (name.endswith("_bucket") or (name == family and kind == "summary")):
            if limit not in labels:
                return f"{name} of a {kind} without the label {limit}"
            if not _NUMBER.fullmatch(labels[limit]):
                return f"{limit} {labels[limit]!r} is no number"
        series = hash((name, *sorted(labels.items())))
        if series in self._seen:
            if not self._repeated:
                return "the same series a second time"
            self.found.repeated.add(name)
        self._seen.add(series)
        self.found.families[family] = kind
        self.found.samples += 1
        if name in self._keep:
            self.found.kept.setdefault(name, []).append((labels, value))
        return ""

    def _family(self, name: str) -> tuple[str, str]:
        if name in self._typed:
            return name, self._typed[name]
        for kind, suffixes in _SUFFIXES.items():
            for suffix in suffixes:
                base = name[: -len(suffix)]
                if name.endswith(suffix) and self._typed.get(base) == kind:
                    return base, kind
        return name, "untyped"


def _labels(text: str, labels: dict[str, str]) -> tuple[str, int]:
    """Reads ``{…}`` at the beginning of ``text`` into ``labels``: (what is wrong, where it ends)."""
    position = 1
    while True:
        match = _LABEL.match(text, position)
        if not match:
            # The last pair may be followed by a comma.
            closing = text[position:].lstrip(" \t")
            if closing.startswith("}"):
                return "", len(text) - len(closing) + 1
            return f'no label="value" after {text[:position][-40:]!r}', 0
        name, value = match.groups()
        if name in labels:
            return f"label {name} twice", 0
        if "\\" in value:
            unknown = [found for found in _ESCAPE.findall(value) if found not in _ESCAPES]
            if unknown:
                return f"label {name} escapes {unknown[0]!r}; only a backslash, a quote and n can be", 0
            value = _ESCAPE.sub(lambda found: _ESCAPES[found.group(1)], value)
        labels[name] = value
        position = match.end()
        if text.startswith("}", position):
            return "", position + 1
        if not text.startswith(",", position):
            return f"neither a comma nor a closing brace after label {name}", 0
        position += 1
