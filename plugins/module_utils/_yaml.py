# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""YAML as a program writes it, not as a person may: what Alertmanager shows of its configuration.

Hosts need no library for that. Every scalar is a text, ``true`` and ``null`` among them: who reads it knows what it
must be. What a person alone would write (anchors, tags, comments, flow mappings) is refused, and never guessed at.

Source: https://yaml.org/spec/1.2.2/
"""

from __future__ import annotations

import re
import typing as t

Node = t.Union[str, t.List[t.Any], t.Dict[str, t.Any]]

_SINGLE = r"'(?:[^']|'')*'(?!')"
_DOUBLE = r'"(?:[^"\\]|\\.)*"'
# A key, and what stands behind its colon.
_KEY = re.compile(
    rf"(?!\? )({_SINGLE}|{_DOUBLE}|[^\s'\"\[\]{{}}#&*!|>%@`-][^\n]*?|-[^\s][^\n]*?):(?:\s+(.*))?$",
    re.ASCII,
)
_QUOTED = {"'": re.compile(_SINGLE, re.DOTALL), '"': re.compile(_DOUBLE, re.DOTALL)}
_ITEM = re.compile(rf"\s*({_SINGLE}|{_DOUBLE}|[^\s,'\"\[\]{{}}][^,\[\]{{}}]*?)\s*(?:,|$)", re.ASCII)
_BLANKS = " \t"
_ODD_BREAKS = re.compile("[\r\x85\u2028\u2029]")
_LITERAL = re.compile(r"\|([1-9]?)([-+]?)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES = dict(zip('0abt\tnvfre "/\\N_LP', '\0\a\b\t\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029'))
# What begins otherwise than a plain scalar does.
_INDICATORS = "[]{}#&*!|>%@`'\","


def read(text: str) -> Node:
    """The document: texts, lists and dictionaries.

    :raises ValueError: names the line that a program would not have written.
    """
    odd = _ODD_BREAKS.search(text)
    if odd:
        raise ValueError(f"it has a line break that not all who read YAML take for one, {odd[0]!r}")
    reader = _Reader(text)
    found = reader.block(-1)
    reader.require_end()
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0

    def require_end(self) -> None:
        if self._next() is not None:
            raise self._wrong()

    def _next(self) -> int | None:
        """Indentation of the next line that says something; None at the end."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip(_BLANKS):
                return len(line) - len(line.lstrip(" "))
            self._at += 1
        return None

    def _wrong(self) -> ValueError:
        line = self._lines[self._at] if self._at < len(self._lines) else "its end"
        return ValueError(f"line {self._at + 1} is not understood: {line.strip(_BLANKS)[:80]!r}")

    def block(self, outer: int) -> Node:
        """What stands deeper than ``outer``."""
        indent = self._next()
        if indent is None or indent <= outer:
            return ""
        line = self._lines[self._at][indent:]
        if _is_item(line):
            return self._sequence(indent)
        if _KEY.match(line):
            return self._mapping(indent)
        self._at += 1
        return self._value(line, outer)

    def _sequence(self, indent: int) -> list[t.Any]:
        found: list[t.Any] = []
        while self._next() == indent:
            line = self._lines[self._at]
            if not _is_item(line[indent:]):
                break
            rest = line[indent + 1 :].lstrip(" ")
            if not rest:
                self._at += 1
                found.append(self.block(indent))
            elif _is_item(rest) or _KEY.match(rest):
                # A collection that begins behind the dash is one that is so far to the right.
                self._lines[self._at] = " " * (len(line) - len(rest)) + rest
                found.append(self.block(indent))
            else:
                self._at += 1
                found.append(self._value(rest, indent))
        return found

    def _mapping(self, indent: int) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {}
        while self._next() == indent:
            line = self._lines[self._at][indent:]
            pair = _KEY.match(line)
            if not pair or _is_item(line):
                break
            key = _scalar(pair[1])
            if key in found:
                raise self._wrong()
            self._at += 1
            if pair[2]:
                found[key] = self._value(pair[2], indent)
                continue
            below = self._next()
            # A list may stand as far to the left as its key.
            is_list = below == indent and _is_item(self._lines[self._at][indent:])
            found[key] = self._sequence(indent) if is_list else self.block(indent)
        deeper = self._next()
        if deeper is not None and deeper > indent:
            raise self._wrong()
        return found

    def _value(self, first: str, indent: int) -> Node:
        """What begins on a line that was taken, and goes on below where that is deeper than ``indent``."""
        text = first.rstrip(" ")
        if _LITERAL.fullmatch(text):
            return self._literal(text, indent)
        if text[0] == "[":
            return self._list(text)
        if text == "{}":
            return {}
        if text[0] in _QUOTED:
            return self._quoted(text, indent)
        if text[0] in _INDICATORS or text.startswith("? ") or " #" in text:
            self._at -= 1
            raise self._wrong()
        words = [text]
        while True:
            deeper = self._next()
            if deeper is None or deeper <= indent:
                return " ".join(words)
            if _KEY.match(self._lines[self._at].strip(_BLANKS)):
                raise self._wrong()
            words.append(self._lines[self._at].strip(_BLANKS))
            self._at += 1

    def _list(self, text: str) -> list[str]:
        """A list on one line, of scalars."""
        found, at = [], 1
        inside = text[:-1] if text.endswith("]") else ""
        while inside[at:].strip(_BLANKS):
            item = _ITEM.match(inside, at)
            if not item:
                break
            found.append(_scalar(item[1]))
            at = item.end()
        if not inside or inside[at:].strip(_BLANKS):
            self._at -= 1
            raise self._wrong()
        return found

    def _quoted(self, text: str, indent: int) -> str:
        pattern = _QUOTED[text[0]]
        while not pattern.fullmatch(text):
            if self._at >= len(self._lines) or pattern.match(text):
                self._at -= 1
                raise self._wrong()
            line = self._lines[self._at]
            if line.strip(_BLANKS) and len(line) - len(line.lstrip(" ")) <= indent:
                raise self._wrong()
            text = f"{text}\n{line}"
            self._at += 1
        return _scalar(text)

    def _literal(self, header: str, indent: int) -> str:
        found = _LITERAL.fullmatch(header)
        given, chomping = found.groups() if found else ("", "")
        lines: list[str] = []
        deep = max(indent, 0) + int(given) if given else None
        while self._at < len(self._lines):
            line = self._lines[self._at]
            own = len(line) - len(line.lstrip(" "))
            if line.strip(_BLANKS) and deep is None:
                deep = own
            if line.strip(_BLANKS) and (own <= indent or own < (deep or 0)):
                break
            lines.append(line[deep:] if deep is not None else "")
            self._at += 1
        text = "\n".join(lines)
        body = text.rstrip("\n")
        if chomping == "+":
            # The last of the lines is the empty one behind the end of the text.
            return text if self._at >= len(self._lines) else f"{text}\n"
        return body if chomping == "-" or not body else f"{body}\n"


def _is_item(line: str) -> bool:
    return line == "-" or line.startswith("- ")


def _scalar(text: str) -> str:
    """One that is whole, with its quotes and the line breaks inside them."""
    if text[:1] not in _QUOTED:
        return text
    inside = text[1:-1]
    if text[0] == "'":
        return _folded(inside).replace("''", "'")
    # An escaped line break takes the blanks before the next line with it, and none of those before itself.
    joined = re.sub(r"(?<!\\)((?:\\\\)*)\\\n[ \t\n]*", r"\1", inside)
    return _ESCAPE.sub(_unescaped, _folded(joined))


def _folded(text: str) -> str:
    """A line break between quotes is a blank, and n + 1 of them are n."""
    return re.sub(r"[ \t]*\n[ \t\n]*", lambda found: "\n" * (found[0].count("\n") - 1) or " ", text)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    if code not in _ESCAPES:
        raise ValueError(f"\\{code} is no escape of YAML")
    return _ESCAPES[code]
