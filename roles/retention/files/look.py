# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clean-up of a host would be about: ``look.py SETTINGS``, in a command with the package ``_journal``.

SETTINGS is JSON: ``policy`` (what stands under ``retention``; where it is empty, that of the host holds, or the
default), ``journal_dirs`` (where it is empty, those of the host's ``base.yaml``, or of an installation without one) and
``config_root``, which is absent where this is not that host.

Prints, as JSON, ``schedule``, ``calendars`` (values of a timer's ``OnCalendar=``), ``next`` (RFC 3339),
``journal_dirs``, ``directory`` (where ``retention.yaml`` belongs) and ``cron`` (why cron would not do; else empty).
What cannot be used is said in one sentence.
"""

from __future__ import annotations

import datetime
import json
import shutil
import sys
import time
import typing as t
from pathlib import Path

from module_utils._journal import configuration, policy, schedule

# Of an installation without base.yaml, beside config/.
JOURNALS = ("var/log/njord", "data/journal")


def look(settings: dict[str, t.Any]) -> dict[str, object]:
    config_root = settings.get("config_root")
    root, below = configuration.directories(config_root or configuration.INSTALL_ROOT)
    directory = root if root.name == "config" or (root / configuration.BASE_FILE).is_file() else below
    if settings["policy"]:
        found = policy.parse(settings["policy"], "retention_policy")
    else:
        found = policy.read(config_root)[0] if config_root else policy.DEFAULT
    times = schedule.parse(found.cleanup_schedule)
    following = datetime.datetime.fromtimestamp(times.next(time.time()), datetime.timezone.utc)
    return {
        "schedule": found.cleanup_schedule,
        "calendars": times.calendars(),
        "next": following.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "journal_dirs": settings["journal_dirs"] or journals(directory, config_root),
        "directory": str(directory),
        "cron": cron(),
    }


def journals(directory: Path, config_root: str | None) -> list[str]:
    if config_root and (directory / configuration.BASE_FILE).is_file():
        return configuration.journal_directories(config_root)
    return [str(directory.parent / name) for name in JOURNALS]


def cron() -> str:
    if not shutil.which("cron") and not shutil.which("crond"):
        return "it has no cron"
    if time.timezone or time.daylight:
        return f"its time zone is {time.tzname[0]}, and cron's times are those of the host"
    return ""


if __name__ == "__main__":
    try:
        print(json.dumps(look(json.loads(sys.argv[1]))))
    except configuration.ConfigurationError as error:
        sys.exit(f"{error}.")
