# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""``njord-backup``: what the timers run, and a person at night.

Exit codes: 0 all is done; 1 something was left undone, and the output says what and why; 2 it could not begin; 70 it
crashed, which is a fault of this program, and the output has the trace (``EX_SOFTWARE`` of sysexits.h).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import traceback
import typing as t
from pathlib import Path

from .._finding import Finding, rank
from .._http import HttpError
from .._journal import schedule
from .._journal.lock import PATIENCE_SECONDS, Busy, lease
from . import about, job, rescue, scratch, settings
from .catalogue import DAMAGED, Catalogue, Missing
from .create import Failed, NoRoom
from .manifest import Damaged
from .restic import ResticError
from .scratch import NoTool

WELL, UNDONE, WRONG, CRASHED = 0, 1, 2, 70
SETTINGS = "/etc/njord-backup.json"
_BACKUP, _DRILL, _LIST = "backup", "drill", "list"
# What an operator can do something about; anything else is a fault of ours, and shows where.
EXPECTED = (Busy, Damaged, Failed, HttpError, Missing, NoRoom, NoTool, OSError, ResticError, scratch.Failed)


def main(arguments: t.Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except Exception:
        # Python's own exit code would be the one of what was left undone.
        _say(traceback.format_exc())
        return CRASHED


def _run(given: argparse.Namespace) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A path that is no UTF-8 is shown all the same.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        document = json.loads(Path(given.settings).read_text(encoding="utf-8"))
        found = {**settings.DEFAULTS, **document}
        interval = schedule.parse(found.get("schedule", "0 1 * * *")).longest_gap()
    except (OSError, ValueError, TypeError) as error:
        _say(f"njord-backup: {given.settings} cannot be used: {error}")
        return WRONG
    catalogue = Catalogue(found["catalogue"])
    begun = time.time()
    is_crash = False
    try:
        findings = _VERBS[given.verb](found, catalogue, interval)
    except settings.Unusable as error:
        _say(f"njord-backup: {error}")
        return WRONG
    except EXPECTED as error:
        findings = [Finding("backup.run", given.verb, "critical", f"{given.verb} failed: {error}.")]
    except Exception as error:
        # Prometheus is told all the same, or it would go on saying that the last run was well.
        _say(traceback.format_exc())
        is_crash = True
        text = f"{given.verb} crashed, which is a fault of njord-backup itself: {type(error).__name__}: {error}."
        findings = [Finding("backup.run", given.verb, "critical", text, remedy="Report it with the trace above.")]
    well = all(rank(finding.severity) <= rank("warning") for finding in findings)
    if given.verb != _LIST and found.get("textfile"):
        # A drill changes nothing of what the last backup said of itself.
        ended = time.time()
        run = {"last_run_timestamp_seconds": ended, "success": float(well), "duration_seconds": ended - begun}
        try:
            about.tell(
                Path(found["textfile"]),
                catalogue,
                {"interval_seconds": interval, **(run if given.verb == _BACKUP else {})},
            )
        except (Missing, OSError) as error:
            _say(f"njord-backup: Prometheus is not told of this run: {error}")
            well = False
    text = json.dumps([finding.as_dict() for finding in findings], indent=1) if given.json else _told(findings)
    sys.stdout.write(f"{text}\n")
    if is_crash:
        return CRASHED
    return WELL if well else UNDONE


def _back_up(found: dict[str, t.Any], catalogue: Catalogue, _interval: float) -> list[Finding]:
    work = settings.job(found, settings.prometheus(found))
    catalogue.make()
    with lease(PATIENCE_SECONDS, _say), catalogue.locked():
        return list(job.run(work, time.time()).findings)


def _drill(found: dict[str, t.Any], catalogue: Catalogue, _interval: float) -> list[Finding]:
    prover = settings.prover(found, settings.prometheus(found))
    with catalogue.locked():
        return job.drill_and_tell(prover, rescue.choose(catalogue, rescue.LATEST).name)


def _list(_found: dict[str, t.Any], catalogue: Catalogue, interval: float) -> list[Finding]:
    with catalogue.locked(shared=True):
        return [
            *(one for entry in catalogue.entries() if entry.level != DAMAGED for one in job.told_of(entry)),
            *about.findings(catalogue, time.time(), interval),
        ]


_VERBS: dict[str, t.Callable[[dict[str, t.Any], Catalogue, float], list[Finding]]] = {
    _BACKUP: _back_up,
    _DRILL: _drill,
    _LIST: _list,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="njord-backup", description="Backs up what telemetry there is, and proves it."
    )
    parser.add_argument(
        "verb", choices=list(_VERBS), help="take a backup, try to bring the last one back, or list them"
    )
    parser.add_argument("--settings", default=SETTINGS, metavar="FILE", help=f"options as JSON (default {SETTINGS})")
    parser.add_argument("--json", action="store_true", help="print one document instead of text")
    return parser


def _told(findings: t.Iterable[Finding]) -> str:
    return "\n".join(f"{one.severity}: {one.summary} {one.remedy}".rstrip() for one in findings) or "nothing to say"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
