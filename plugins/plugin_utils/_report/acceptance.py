# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings that somebody has accepted: why, and until when."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding, rank

from .units import parse_time

_REQUIRED = ("check", "reason", "until")
_KNOWN = ("check", "subject", "host", "reason", "until")


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """Findings whose check, subject and host match these globs are no news until then."""

    check: str
    subject: str
    host: str
    reason: str
    until: datetime.datetime

    def covers(self, host: str, finding: Finding) -> bool:
        """What is well or a mere note needs nobody's acceptance."""
        pairs = ((finding.check, self.check), (finding.subject, self.subject), (host, self.host))
        return rank(finding.severity) >= rank("warning") and all(fnmatch.fnmatchcase(*pair) for pair in pairs)

    @property
    def name(self) -> str:
        """Which findings it is about, in one text."""
        return f"{self.check} {self.subject} on {self.host}"


def _read(entry: t.Any) -> Acceptance:
    if not isinstance(entry, dict):
        raise ValueError(f"it is {type(entry).__name__}, and should be a dictionary of {', '.join(_KNOWN)}")
    missing = [key for key in _REQUIRED if not str(entry.get(key) or "").strip()]
    unknown = sorted(set(map(str, entry)) - set(_KNOWN))
    if missing:
        raise ValueError(f"it lacks {' and '.join(missing)}")
    if unknown:
        raise ValueError(f"it has the unknown key {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    try:
        until = parse_time(entry["until"])
    except ValueError as error:
        raise ValueError(f"until: {error}") from error
    globs = {key: str(entry.get(key) or "*") for key in ("check", "subject", "host")}
    return Acceptance(**globs, reason=str(entry["reason"]), until=until)


def read(entries: t.Iterable[t.Any], now: datetime.datetime) -> tuple[list[Acceptance], list[Finding]]:
    """Those that hold now, and a finding for each that does not."""
    holding, findings = [], []
    for position, entry in enumerate(entries, 1):
        try:
            acceptance = _read(entry)
        except ValueError as error:
            findings.append(
                Finding(
                    "acceptance.malformed",
                    f"accepted[{position}]",
                    "warning",
                    f"Entry {position} of the accepted findings has no effect: {error}.",
                    {"entry": entry},
                    "Correct the entry in the inventory (telemetry_accepted).",
                )
            )
            continue
        if acceptance.until > now:
            holding.append(acceptance)
            continue
        findings.append(
            Finding(
                "acceptance.expired",
                acceptance.name,
                "warning",
                f"The acceptance of {acceptance.name} ended on {acceptance.until:%Y-%m-%d}.",
                {"reason": acceptance.reason, "until": acceptance.until.isoformat()},
                "Mend what was accepted, or accept it anew with a later date; then remove the old entry.",
            )
        )
    return holding, findings


def unused(acceptance: Acceptance) -> Finding:
    """The finding that an acceptance matched nothing."""
    return Finding(
        "acceptance.unused",
        acceptance.name,
        "info",
        f"The acceptance of {acceptance.name} matches no finding of this run.",
        {"reason": acceptance.reason, "until": acceptance.until.isoformat()},
        "If it is over for good, remove the entry from the inventory.",
    )
