# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Where Alertmanager would lead an alert, by the configuration that it shows, without sending it one.

What is not understood is a ``ValueError``, never a guess: a route that was read wrongly wakes the wrong person.

Sources: https://prometheus.io/docs/alerting/latest/configuration/, and of Alertmanager ``dispatch/route.go``,
``inhibit/inhibit.go`` and ``timeinterval/timeinterval.go``.
"""

from __future__ import annotations

import calendar
import dataclasses
import datetime
import itertools
import json
import re
import typing as t

from ... import _yaml
from ..._units import duration

Labels = t.Dict[str, str]

# As Alertmanager has them where a configuration says nothing.
GROUP_WAIT = "30s"
GROUP_INTERVAL = "5m"
BY_ALL = "..."
# Label sets that are tried before it is said that none was found.
TRIED = 5000
# A value that no rule waits for.
_OTHER = "njord-synthetic"
_MATCHER = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s=!~"]+)\s*(=~|!~|!=|=)\s*(.*?)\s*', re.DOTALL)
# What Go reads otherwise than Python, or Python not at all.
_GO_ALONE = re.compile(r"\[\[:|\\[pPzCQE]|\(\?[a-zA-Z]*U")
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = tuple(name.lower() for name in calendar.month_name)
_INTERVAL = {"times", "weekdays", "days_of_month", "months", "years", "location"}
_SIDES = {f"{side}_{kind}" for side in ("source", "target") for kind in ("match", "match_re", "matchers")}


@dataclasses.dataclass(frozen=True)
class Matcher:
    """:param sign: ``=``, ``!=``, ``=~`` or ``!~``."""

    name: str
    sign: str
    value: str

    def __post_init__(self) -> None:
        if self.sign.endswith("~"):
            if _GO_ALONE.search(self.value):
                raise ValueError(f"the regular expression {self.value!r} is one that only Go reads")
            try:
                re.compile(self.value)
            except re.error as error:
                raise ValueError(f"the regular expression {self.value!r} is not understood: {error}") from error

    def accepts(self, labels: t.Mapping[str, str]) -> bool:
        """Whether it does; a label that is not there is empty."""
        found = labels.get(self.name, "")
        if self.sign.endswith("~"):
            is_alike = re.fullmatch(self.value, found, re.ASCII) is not None
        else:
            is_alike = found == self.value
        return is_alike is not self.sign.startswith("!")

    def values(self) -> list[str]:
        """Values that it may accept, the likeliest first; of a regular expression those that are easy to see."""
        if self.sign == "=":
            return [self.value]
        if self.sign.startswith("!"):
            return ["", _OTHER]
        inside = re.fullmatch(r"\^?\((?:\?:)?([^()]*)\)\$?", self.value)
        parts = (inside[1] if inside else self.value).split("|")
        plain = [re.sub(r"\\(\W)", r"\1", re.sub(r"\.[*+]", _OTHER, part.strip("^$"))) for part in parts]
        return [*plain, "", _OTHER]


@dataclasses.dataclass(frozen=True)
class Route:
    """One node of the tree, with what it has of those above it.

    :param wait: seconds before a new group is told of, and ``interval`` before one that has grown.
    :param muted: names of the time intervals in which it says nothing; ``active`` of those outside which it does not.
    """

    receiver: str
    matchers: tuple[Matcher, ...]
    is_continued: bool
    wait: float
    interval: float
    group_by: tuple[str, ...]
    muted: tuple[str, ...]
    active: tuple[str, ...]
    routes: tuple[Route, ...]

    def leads(self, labels: Labels) -> list[Route]:
        """The routes at which an alert ends."""
        if not all(matcher.accepts(labels) for matcher in self.matchers):
            return []
        found: list[Route] = []
        for route in self.routes:
            below = route.leads(labels)
            found += below
            if below and not route.is_continued:
                break
        return found or [self]

    def group(self, labels: Labels) -> Labels:
        """Labels of the group that an alert comes into."""
        return {key: value for key, value in labels.items() if BY_ALL in self.group_by or key in self.group_by}

    def paths(self, above: tuple[Matcher, ...] = ()) -> t.Iterator[tuple[Route, tuple[Matcher, ...]]]:
        """Every route, with all that an alert must fulfil to come there."""
        matchers = above + self.matchers
        for route in self.routes:
            yield from route.paths(matchers)
        yield self, matchers


@dataclasses.dataclass(frozen=True)
class Integration:
    """How a receiver is told. :param kind: ``webhook``, ``email``; as Alertmanager counts them."""

    kind: str
    sends_resolved: bool


@dataclasses.dataclass(frozen=True)
class Inhibition:
    """:param equal: labels in which both must be alike."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...]

    def mutes(self, labels: Labels, active: t.Iterable[Labels]) -> Labels | None:
        """The alert that keeps another one back."""
        if not _all(self.target, labels):
            return None
        is_both = _all(self.source, labels)
        for other in active:
            if not _all(self.source, other) or (is_both and _all(self.target, other)):
                continue
            if all(labels.get(name, "") == other.get(name, "") for name in self.equal):
                return other
        return None


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What decides whom an alert reaches. :param intervals: by their names, as they are written."""

    route: Route
    receivers: dict[str, tuple[Integration, ...]]
    inhibitions: tuple[Inhibition, ...]
    intervals: dict[str, list[dict[str, t.Any]]]

    @classmethod
    def read(cls, text: str) -> Configuration:
        """Of the text that Alertmanager shows.

        :raises ValueError: names what is not understood.
        """
        document = _yaml.read(text)
        if not isinstance(document, dict) or not isinstance(document.get("route"), dict):
            raise ValueError("it has no route")
        try:
            return cls(
                _route(document["route"], None),
                {row["name"]: _integrations(row) for row in document.get("receivers") or []},
                tuple(_inhibition(row) for row in document.get("inhibit_rules") or []),
                {
                    row["name"]: row.get("time_intervals") or []
                    for key in ("mute_time_intervals", "time_intervals")
                    for row in document.get(key) or []
                },
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it has another shape than ours ({error!r})") from error

    def keeps_quiet(self, route: Route, at: float) -> str:
        """By which time interval a route says nothing at that moment, a clause; empty where it speaks.

        :param at: unix seconds.
        :raises ValueError: where that cannot be told.
        """
        for name in route.muted:
            if self._is_in(name, at):
                return f"muted by the time interval {name}"
        if route.active and not any(self._is_in(name, at) for name in route.active):
            return f"outside the active time intervals {', '.join(route.active)}"
        return ""

    def _is_in(self, name: str, at: float) -> bool:
        if name not in self.intervals:
            raise ValueError(f"the time interval {name} is not among those that it shows")
        return any(is_in(interval, at) for interval in self.intervals[name])

    def labels(self, receiver: str, fixed: Labels) -> Labels:
        """Labels that lead an alert to that receiver alone, and there by one route.

        :param fixed: labels that it has in any case.
        :raises ValueError: why there are none, a clause.
        """
        also: list[str] = []
        for labels in itertools.islice(self._candidates(receiver, fixed), TRIED):
            ends = self.route.leads(labels)
            if [route.receiver for route in ends] == [receiver]:
                return labels
            names = [route.receiver for route in ends]
            if receiver in names and not also:
                names.remove(receiver)
                also = [_shown(labels), " and ".join(dict.fromkeys(names))]
        if also:
            told = "the same receiver once more" if also[1] == receiver else also[1]
            raise ValueError(
                f"no labels were found that lead to it alone: with {also[0]} the alert also reaches {told}"
            )
        if not any(route.receiver == receiver for route, _matchers in self.route.paths()):
            raise ValueError("no route leads to it")
        raise ValueError(f"no labels were found that lead to it from {_shown(fixed)}")

    def _candidates(self, receiver: str, fixed: Labels) -> t.Iterator[Labels]:
        everywhere: dict[str, list[str]] = {}
        for _route, matchers in self.route.paths():
            for matcher in matchers:
                everywhere.setdefault(matcher.name, []).extend([*matcher.values(), _OTHER])
        for route, matchers in self.route.paths():
            if route.receiver != receiver:
                continue
            own: dict[str, list[str]] = {}
            for matcher in matchers:
                own.setdefault(matcher.name, []).extend(matcher.values())
            needed = {
                name: [value for value in dict.fromkeys(values) if self._fits(matchers, name, value)]
                for name, values in own.items()
                if name not in fixed
            }
            for chosen in itertools.islice(itertools.product(*needed.values()), TRIED // 10):
                labels = _without_empty({**dict(zip(needed, chosen)), **fixed})
                yield labels
                # One more, to get past a route that stands before it.
                for name in everywhere.keys() - labels.keys():
                    for value in dict.fromkeys(everywhere[name]):
                        if value:
                            yield {**labels, name: value}

    @staticmethod
    def _fits(matchers: t.Iterable[Matcher], name: str, value: str) -> bool:
        return all(matcher.accepts({name: value}) for matcher in matchers if matcher.name == name)

    def inhibited(self, labels: Labels, active: t.Sequence[Labels]) -> Labels | None:
        """The alert of those that are active that would keep it back."""
        found = (rule.mutes(labels, active) for rule in self.inhibitions)
        return next((other for other in found if other is not None), None)


def matcher(text: str) -> Matcher:
    """One matcher, as a configuration writes it.

    :raises ValueError: where it is none.
    """
    found = _MATCHER.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no matcher")
    name, sign, value = found.groups()
    return Matcher(_unquoted(name), sign, _unquoted(value))


def is_in(interval: t.Mapping[str, t.Any], at: float) -> bool:
    """Whether a moment is in a time interval, as a configuration writes it.

    :param at: unix seconds.
    :raises ValueError: where that cannot be told.
    """
    unknown = interval.keys() - _INTERVAL
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} of a time interval is not understood")
    now = datetime.datetime.fromtimestamp(at, _zone(interval.get("location") or "UTC"))
    minute = now.hour * 60 + now.minute
    length = calendar.monthrange(now.year, now.month)[1]
    fits: dict[str, t.Callable[[t.Any], bool]] = {
        "times": lambda row: _minute(row["start_time"]) <= minute < _minute(row["end_time"]),
        "weekdays": lambda row: _spans(row, _DAYS, now.isoweekday() % 7),
        "days_of_month": lambda row: _spans(row, (), now.day, length),
        "months": lambda row: _spans(row, _MONTHS, now.month),
        "years": lambda row: _spans(row, (), now.year),
    }
    return all(any(fit(row) for row in interval[name]) for name, fit in fits.items() if interval.get(name))


def _route(document: dict[str, t.Any], above: Route | None) -> Route:
    given = [matcher(text) for text in document.get("matchers") or []]
    given += [Matcher(name, "=", value) for name, value in (document.get("match") or {}).items()]
    given += [Matcher(name, "=~", value) for name, value in (document.get("match_re") or {}).items()]
    here = Route(
        receiver=document.get("receiver") or (above.receiver if above else ""),
        matchers=tuple(given),
        is_continued=document.get("continue") == "true",
        wait=_seconds(document, "group_wait", GROUP_WAIT, above.wait if above else None),
        interval=_seconds(document, "group_interval", GROUP_INTERVAL, above.interval if above else None),
        group_by=tuple(document["group_by"]) if "group_by" in document else (above.group_by if above else ()),
        muted=tuple(document.get("mute_time_intervals") or ()),
        active=tuple(document.get("active_time_intervals") or ()),
        routes=(),
    )
    return dataclasses.replace(here, routes=tuple(_route(row, here) for row in document.get("routes") or []))


def _seconds(document: dict[str, t.Any], name: str, default: str, above: float | None) -> float:
    if name in document:
        return duration(document[name])
    return duration(default) if above is None else above


def _integrations(row: dict[str, t.Any]) -> tuple[Integration, ...]:
    return tuple(
        Integration(key[: -len("_configs")], one.get("send_resolved") == "true")
        for key, configs in row.items()
        if key.endswith("_configs")
        for one in configs or []
    )


def _inhibition(row: dict[str, t.Any]) -> Inhibition:
    unknown = row.keys() - _SIDES - {"equal", "name"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} of inhibit_rules is not understood")
    sides = []
    for side in ("source", "target"):
        given = [matcher(text) for text in row.get(f"{side}_matchers") or []]
        given += [Matcher(name, "=", value) for name, value in (row.get(f"{side}_match") or {}).items()]
        given += [Matcher(name, "=~", value) for name, value in (row.get(f"{side}_match_re") or {}).items()]
        sides.append(tuple(given))
    return Inhibition(sides[0], sides[1], tuple(row.get("equal") or ()))


def _all(matchers: t.Iterable[Matcher], labels: Labels) -> bool:
    return all(one.accepts(labels) for one in matchers)


def _unquoted(text: str) -> str:
    if text[:1] != '"':
        return text
    return str(json.loads(text, strict=False))


def _without_empty(labels: Labels) -> Labels:
    return {name: value for name, value in labels.items() if value}


def _shown(labels: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _spans(text: str, names: t.Sequence[str], value: int, length: int = 0) -> bool:
    """Whether a value is in ``first:last`` or is the one that is written.

    :param length: from the end of which what is negative counts.
    """
    ends = []
    for part in text.split(":"):
        number = names.index(part.lower()) if part.lower() in names else int(part)
        ends.append(number + length + 1 if number < 0 else number)
    return ends[0] <= value <= ends[-1]


def _zone(name: str) -> datetime.tzinfo | None:
    if name == "UTC":
        return datetime.timezone.utc
    if name == "Local":
        # That of this host, which is Alertmanager's where it runs here.
        return None
    try:
        import zoneinfo
    except ImportError as error:
        raise ValueError(f"the time zone {name} is not known to Python before 3.9") from error
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"the time zone {name} is not known on this host") from error
