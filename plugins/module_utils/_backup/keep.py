# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which backups stay: a pure rule over their times."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .catalogue import DAMAGED, PROVEN, Entry


@dataclasses.dataclass(frozen=True)
class Rules:
    """How many are kept: the newest ones, and the newest of each of so many days, weeks (ISO) and months (UTC).

    :raises ValueError: where none would be kept.
    """

    last: int = 7
    daily: int = 14
    weekly: int = 8
    monthly: int = 12

    def __post_init__(self) -> None:
        for name, count in dataclasses.asdict(self).items():
            if count < 0:
                raise ValueError(f"keep_{name}: {count} is less than 0")
        if not any(dataclasses.asdict(self).values()):
            raise ValueError("keep_last, keep_daily, keep_weekly and keep_monthly are all 0; keep_last 1 would do")


# Of each rule: what two backups have in common of which only the newest is kept.
_PERIODS: dict[str, str] = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m"}


def kept(entries: t.Sequence[Entry], rules: Rules) -> dict[str, str]:
    """Names of the backups that stay, each with the reason.

    The newest proven one always stays. A damaged one counts for no rule, and stays until a person removes it: parts of
    it may be all that is left of something.

    :param entries: the oldest first.
    """
    sound = [entry for entry in reversed(entries) if entry.level != DAMAGED]
    reasons = {entry.name: "damaged" for entry in entries if entry.level == DAMAGED}
    for entry in sound[: rules.last]:
        reasons.setdefault(entry.name, f"one of the last {rules.last}")
    for name, period in _PERIODS.items():
        seen: set[str] = set()
        for entry in sound:
            this = time.strftime(period, time.gmtime(entry.created))
            if this not in seen and len(seen) < getattr(rules, name):
                seen.add(this)
                reasons.setdefault(entry.name, f"the last one of its {'day' if name == 'daily' else name[:-2]}")
    proven = next((entry.name for entry in sound if entry.level == PROVEN), "")
    if proven:
        reasons.setdefault(proven, "the last proven one")
    return reasons
