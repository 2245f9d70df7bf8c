# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What the looks at memory and at the event loop share: signs of trouble, causes, and what a remedy would gain."""

from __future__ import annotations

import dataclasses
import typing as t
import urllib.parse

from ..._finding import Finding, worst
from ..._prometheus import Prometheus, Target
from ..._resources import Service, Usage
from ..scrape.port import is_local
from ..scrape.publisher import Entry


@dataclasses.dataclass(frozen=True)
class Sign:
    """That there is trouble. :param said: a clause whose subject is the service (``holds 90 % of its limit``)."""

    severity: str
    said: str


@dataclasses.dataclass(frozen=True)
class Cause:
    """One thing that was asked.

    :param holds: whether it is the cause; None where that cannot be told.
    :param said: a clause: what was seen, or why nothing can be told.
    :param remedy: what ends it.
    """

    name: str
    holds: bool | None
    said: str
    remedy: str = ""
    figures: dict[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Remedy:
    """One of the runbook's, and what it would gain.

    :param gain: in the unit of the look (bytes, or cores); 0 where it gains nothing, None where that is not known.
    :param said: a sentence that says how that is known.
    """

    name: str
    gain: float | None
    said: str


def verdict(
    check: str, service: str, signs: t.Sequence[Sign], causes: t.Sequence[Cause], evidence: dict[str, t.Any]
) -> Finding:
    """The trouble, and the first cause that holds; what was asked stands in the evidence."""
    said = [{"cause": cause.name, "holds": cause.holds, "said": cause.said} for cause in causes]
    evidence = {**evidence, "causes": said}
    for cause in causes:
        evidence.update(cause.figures)
    trouble = f"{service} {', and '.join(sign.said for sign in signs)}"
    severity = worst(sign.severity for sign in signs)
    named = next((cause for cause in causes if cause.holds), None)
    if named:
        evidence["cause"] = named.name
        return Finding(check, service, severity, f"{trouble}: {named.said}.", evidence, named.remedy)
    evidence["cause"] = "unknown"
    silent = [cause.said for cause in causes if cause.holds is None]
    summary = f"{trouble}; why is not known: none of {', '.join(cause.name for cause in causes)} is to be seen"
    if silent:
        summary += f" ({'; '.join(silent)})"
    remedy = f"systemctl status {service}\njournalctl -u {service} -n 200\nAnd give it time to be seen: run this again."
    return Finding(check, service, severity, f"{summary}.", evidence, remedy)


def remedies(
    check: str, subject: str, offered: t.Sequence[Remedy], unit: str, show: t.Callable[[float], str]
) -> Finding:
    """What each would gain, the one that gains most first. A remedy that gains nothing is said to gain nothing."""
    ranked = sorted(offered, key=lambda one: -(one.gain or 0.0))
    bars = [{"label": one.name, "value": one.gain} for one in ranked if one.gain is not None]
    evidence = {
        "remedies": [dataclasses.asdict(one) for one in ranked],
        "chart": {"kind": "bars", "title": f"What a remedy would gain ({subject})", "unit": unit, "bars": bars},
    }
    gaining = [one for one in ranked if one.gain]
    nothing = [one.name for one in offered if one.gain == 0]
    unknown = [one.name for one in offered if one.gain is None]
    parts = [f"{one.name} would gain {show(one.gain or 0.0)}" for one in gaining[:3]] or ["No remedy gains anything"]
    if nothing:
        parts.append(f"nothing is gained by {', '.join(nothing)}")
    if unknown:
        parts.append(f"not known is the gain of {', '.join(unknown)}")
    summary = "; ".join(parts)
    return Finding(check, subject, "info", f"{summary[0].upper()}{summary[1:]}.", evidence)


def targets_of(service: Service, targets: t.Iterable[Target], client: Prometheus) -> list[Target]:
    """The targets that are this service: on this host, at one of its ports. Several jobs may scrape one."""
    # To a Prometheus elsewhere, 127.0.0.1 is the machine there.
    if not _place(client.server.url)[0]:
        return []
    return [target for target in targets if _is_at(service, target.url)]


def is_prometheus(service: Service, client: Prometheus) -> bool:
    """Whether it is the very server that is asked."""
    return _is_at(service, client.server.url)


def _is_at(service: Service, url: str) -> bool:
    is_here, port = _place(url)
    return is_here and port in service.ports


def _place(url: str) -> tuple[bool, int]:
    """Whether it is on this host, and the port."""
    address = urllib.parse.urlsplit(url)
    host = address.hostname or "nowhere"
    return is_local(host), address.port or (443 if address.scheme == "https" else 80)


def selector(target: Target) -> str:
    """The series of one target."""
    pairs = ((name, target.labels.get(name, "")) for name in ("job", "instance"))
    escaped = (
        f'{name}="{value}"' for name, value in ((n, v.replace("\\", "\\\\").replace('"', '\\"')) for n, v in pairs)
    )
    return "{" + ",".join(escaped) + "}"


def not_published(metric: str, catalogue: t.Sequence[Entry]) -> tuple[str, str]:
    """Of a metric without samples: how bad that is, and a clause that says why."""
    entry = next((one for one in catalogue if one.name == metric), None)
    if entry and entry.source != "emitted":
        return "info", f"no part of this version of Njord publishes {metric}, it is only named in its {entry.source}"
    return "unknown", f"Prometheus has no sample of {metric}, and whether this version publishes it is not known"


def figures(service: Service, usage: Usage) -> dict[str, t.Any]:
    """What a report compares from run to run, of one service."""
    named: dict[str, t.Any] = {
        "held_bytes": service.held,
        "resident_bytes": service.resident,
        "cpu_cores": round(service.cores, 4),
        "open_files": service.open_files,
        "threads": service.threads,
        "restarts": service.restarts,
    }
    return {
        "figures": {name: value for name, value in named.items() if value is not None},
        "service": dataclasses.asdict(service),
        "seconds": round(usage.seconds, 2),
        "not_known": list(usage.not_known),
    }
