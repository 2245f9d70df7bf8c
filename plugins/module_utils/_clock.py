# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Whether the clocks agree: the controller's, the host's and Prometheus', and whether a time service keeps the host's.

Nobody can read two clocks at once. So a difference is a range, and only what is certain of it is held against a clock.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import time
import typing as t
from pathlib import Path

from ._finding import Finding
from ._http import HttpError
from ._prometheus import Prometheus
from ._units import human_duration

CONTAINER_MARKS = ("run/systemd/container", ".dockerenv", "run/.containerenv")
_NUMBER = re.compile(r"\d{1,12}(\.\d+)?", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
Run = t.Callable[[t.Sequence[str]], t.Optional[t.Tuple[int, str]]]
# What chronyc shows as the source where the daemon follows the host's own clock.
_OWN_CLOCK = "7F7F0101"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds from which on a difference is a warning, and critical; and the age of the newest sample."""

    warning: float
    critical: float
    sample_age: float

    def severity(self, seconds: float) -> str:
        if seconds >= self.critical:
            return "critical"
        return "warning" if seconds >= self.warning else "ok"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a clock showed.

    :param value: unix seconds.
    :param step: seconds in which it counts: it showed at least ``value``, and less than one step more.
    """

    value: float
    step: float


@dataclasses.dataclass(frozen=True)
class Offset:
    """By how many seconds the host's clock is ahead of another: somewhere between the two, ends included."""

    low: float
    high: float

    @property
    def certain(self) -> float:
        """The least difference that explains what was read; 0 where the clocks may agree."""
        return max(self.low, -self.high, 0.0)

    @property
    def most(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclasses.dataclass(frozen=True)
class TimeService:
    """What one program says of the host's clock.

    :param synchronised: None where it says nothing.
    :param offset: seconds that the clock is off by its own account, where it tells.
    :param answer: its words, or why there are none.
    """

    program: str
    synchronised: bool | None
    offset: float | None
    answer: str


def read_time(text: str) -> Reading:
    """Of RFC 3339 (``2026-01-31T12:00:00.5Z``) or unix seconds (``1769860800.5``).

    :raises ValueError: names the value and what would do.
    """
    written = text.strip()
    if _NUMBER.fullmatch(written):
        return Reading(float(written), 0.0 if "." in written else 1.0)
    parts = _RFC3339.fullmatch(written)
    try:
        if not parts:
            raise ValueError
        day, clock, fraction, zone = parts.groups()
        moment = datetime.datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        raise ValueError(f"{text!r} is no time; 2026-01-31T12:00:00.5Z or 1769860800.5 would do") from None
    return Reading(moment.timestamp() + float(fraction or 0), 0.0 if fraction else 1.0)


def compare(reading: Reading, earliest: float, latest: float) -> Offset:
    """
    :param reading: of the other clock, taken while the host's showed something from ``earliest`` to ``latest``.
    """
    return Offset(earliest - reading.value - reading.step, latest - reading.value)


def offset_finding(check: str, subject: str, whose: str, offset: Offset, limits: Limits) -> Finding:
    """
    :param whose: the other clock, as a sentence names it (``the controller's``).
    """
    severity = limits.severity(offset.certain)
    where = "ahead of" if offset.low > 0 else "behind"
    if severity == "ok":
        summary = f"The host's clock and {whose} agree within {human_duration(offset.most)}."
    else:
        ends = dict.fromkeys((human_duration(offset.certain), human_duration(offset.most)))
        summary = f"The host's clock is {' to '.join(ends)} {where} {whose}."
    # No figures for a trend: they differ at each look, by chance.
    evidence = {
        "clock_offset_low_seconds": round(offset.low, 6),
        "clock_offset_high_seconds": round(offset.high, 6),
    }
    remedy = "See which of the two is wrong (chronyc tracking, timedatectl), and let a time service keep both."
    return Finding(check, subject, severity, summary, evidence, remedy if severity != "ok" else "")


def prometheus_findings(prometheus: Prometheus, limits: Limits) -> list[Finding]:
    """Prometheus' clock against the host's, and its newest samples against its own."""
    subject = prometheus.server.url
    remedy = "See whether Prometheus runs, and how it is asked: prometheus_url and its credentials."
    try:
        before = time.time()
        # VictoriaMetrics rounds down to whole seconds.
        shown = prometheus.query("time()")[0].value
        after = time.time()
        offset = compare(Reading(shown, 1.0 if shown % 1 == 0 else 0.0), before, after)
        scraped = [sample.value for sample in prometheus.query("max(timestamp(up))")]
        newest = prometheus.head(1).max_time / 1000 if prometheus.backend() == "Prometheus" else None
    except HttpError as error:
        return [
            Finding(check, subject, "unknown", f"Prometheus' clock is not known: {error}.", remedy=remedy)
            for check in ("clock.prometheus", "clock.samples")
        ]
    return [
        offset_finding("clock.prometheus", subject, "Prometheus'", offset, limits),
        samples_finding(subject, shown, max(scraped, default=None), newest, limits),
    ]


def samples_finding(subject: str, shown: float, scraped: float | None, newest: float | None, limits: Limits) -> Finding:
    """Newest samples in the future or long past, by Prometheus' own clock.

    :param shown: what its clock shows, unix seconds like the other times.
    :param scraped: time of the newest scrape; None where a query finds none.
    :param newest: time of the newest sample in memory, of whatever origin; None where the server does not tell.
    """
    check = "clock.samples"
    ahead = newest - shown if newest is not None else 0.0
    evidence: dict[str, t.Any] = {"query": "max(timestamp(up))"}
    if newest is not None and newest > 0:
        evidence["newest_sample_ahead_seconds"] = round(ahead, 3)
    if scraped is not None:
        evidence["newest_scrape_age_seconds"] = round(shown - scraped, 3)
    if limits.severity(ahead) != "ok":
        return Finding(
            check,
            subject,
            limits.severity(ahead),
            f"The newest sample lies {human_duration(ahead)} in the future of Prometheus' clock.",
            evidence,
            "Either this clock was set back, or an exporter with time stamps of its own runs ahead; until it catches "
            "up, samples of the same series are refused. Set the clocks right.",
        )
    if scraped is None:
        return Finding(
            check,
            subject,
            "unknown",
            "No target was scraped in the last minutes by Prometheus' clock: there is none, or its clock jumped.",
            evidence,
            "Look at the targets of Prometheus (/targets).",
        )
    age = shown - scraped
    late = age >= limits.sample_age
    return Finding(
        check,
        subject,
        "warning" if late else "ok",
        f"The newest scrape is {human_duration(max(age, 0.0))} old by Prometheus' clock.",
        evidence,
        "Look at the targets of Prometheus (/targets): none was scraped since." if late else "",
    )


def ask_time_service(run: Run) -> list[TimeService]:
    """What the programs for it say, up to the first that says something.

    :param run: runs a command in the C locale and returns its exit code and all it said; None where there is no such
        program.
    """
    services: list[TimeService] = []
    for command, read in _TIME_SERVICES:
        services.append(_ask(run, command, read))
        if services[-1].synchronised is not None:
            break
    return services


def time_service_finding(services: t.Sequence[TimeService], contained: bool, limits: Limits) -> Finding:
    """
    :param services: see :func:`ask_time_service`; the last one decides.
    :param contained: the host is a container.
    """
    check, last = "clock.synchronised", services[-1]
    evidence: dict[str, t.Any] = {"answers": {service.program: service.answer for service in services}}
    below = " This is a container: its clock is that of the machine below it." if contained else ""
    remedy = "Let a time service keep the clock: apt install chrony, or timedatectl set-ntp true."
    if contained:
        remedy = "Ask on the machine that runs this container (timedatectl), and let a time service keep its clock."
    if last.synchronised is None:
        said = "; ".join(f"{service.program}: {service.answer}" for service in services)
        return Finding(
            check,
            "time service",
            "unknown",
            f"Whether a time service keeps the clock is not known ({said}).{below}",
            evidence,
            remedy,
        )
    if not last.synchronised:
        summary = f"No time service keeps the clock, by {last.program}.{below}"
        return Finding(check, last.program, "warning", summary, evidence, remedy)
    off = abs(last.offset or 0.0)
    severity = limits.severity(off)
    known = ""
    if last.offset is not None:
        evidence["figures"] = {"clock_offset_seconds": last.offset}
        known = f", {human_duration(off)} off"
    return Finding(
        check,
        last.program,
        severity,
        f"A time service keeps the clock, by {last.program}{known}.{below}",
        evidence,
        "Set the clock at once: chronyc makestep." if severity != "ok" else "",
    )


def is_container(root: Path) -> bool:
    """
    :param root: the root of the file system.
    """
    return any((root / mark).exists() for mark in CONTAINER_MARKS)


def read_chronyc(text: str) -> tuple[bool, float | None] | None:
    """Of ``chronyc -c tracking``: whether it follows a source, and seconds off. None where it is something else."""
    columns = text.strip().split(",")
    try:
        # The fifth is the difference of the system clock from chrony's own, the last the leap status.
        offset = float(columns[4])
    except (IndexError, ValueError):
        return None
    followed = columns[-1] != "Not synchronised" and columns[0] != _OWN_CLOCK
    return followed, offset if followed else None


def read_ntpq(text: str) -> tuple[bool, float | None] | None:
    """Of ``ntpq -c rv``: stratum 16 is nobody's; its offset is in milliseconds."""
    stratum = re.search(r"\bstratum=(\d+)", text)
    offset = re.search(r"\boffset=([-+]?\d+(?:\.\d+)?)", text)
    if not stratum:
        return None
    followed = int(stratum.group(1)) < 16
    return followed, float(offset.group(1)) / 1000 if followed and offset else None


def read_timedatectl(text: str) -> tuple[bool, float | None] | None:
    """Of ``timedatectl show``: the kernel's own word, whichever service keeps the clock."""
    said = re.search(r"^NTPSynchronized=(yes|no)$", text, re.MULTILINE)
    return (said.group(1) == "yes", None) if said else None


_Reader = t.Callable[[str], t.Optional[t.Tuple[bool, t.Optional[float]]]]
# Those that know the offset come first.
_TIME_SERVICES: tuple[tuple[tuple[str, ...], _Reader], ...] = (
    (("chronyc", "-n", "-c", "tracking"), read_chronyc),
    (("ntpq", "-c", "rv 0 leap,stratum,offset"), read_ntpq),
    (("timedatectl", "show"), read_timedatectl),
)


def _ask(run: Run, command: tuple[str, ...], read: _Reader) -> TimeService:
    program, done = command[0], run(command)
    if done is None:
        return TimeService(program, None, None, "not installed")
    code, text = done
    synchronised, offset = (code == 0 and read(text)) or (None, None)
    return TimeService(program, synchronised, offset, " ".join(text.split())[:500] or f"ended with {code}")
