# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""``metrics-cleanup``: the clean-up for a person, a timer and cron, with the flags of the runbook's script.

Exit codes: 0 all is done, or there is nothing to do; 1 something was left undone, and the output says what and why;
2 it could not begin, since an option or the configuration is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import time
import typing as t
from pathlib import Path

from . import account, schedule
from .clean import DONE, LEFT, PLANNED, Options, Result, clean
from .configuration import INSTALL_ROOT, ConfigurationError, journal_directories
from .lock import PATIENCE_SECONDS, Busy, lease
from .plan import Rules
from .policy import Policy, read

WELL, UNDONE, WRONG = 0, 1, 2


def main(arguments: t.Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    begun = time.time()
    if given.as_of is not None and given.as_of > time.time_ns() and not given.dry_run:
        _say("metrics-cleanup: --as-of is in the future: only a --dry-run may look there")
        return WRONG
    try:
        policy, warnings = read(given.config_root)
        directories = given.journal_dir or journal_directories(given.config_root)
    except ConfigurationError as error:
        _say(f"metrics-cleanup: {error}")
        return WRONG
    for warning in warnings:
        _say(f"warning: {warning}.")
    try:
        with contextlib.nullcontext() if given.dry_run else lease(PATIENCE_SECONDS, _say):
            results = {directory: _clean(directory, policy, given) for directory in map(os.path.realpath, directories)}
    except Busy as error:
        _say(f"metrics-cleanup: nothing was done: {error}")
        return UNDONE
    interval = schedule.parse(policy.cleanup_schedule).longest_gap()
    ended = time.time()
    run = account.Run(results, ended, ended - begun, interval)
    sys.stdout.writelines(_told(run, given))
    if given.textfile and not given.dry_run:
        try:
            account.write_metrics(Path(given.textfile), run)
        except OSError as error:
            _say(f"metrics-cleanup: Prometheus is not told of this run, {given.textfile}: {error.strerror}")
            return UNDONE
    return WELL if run.succeeded else UNDONE


def moment(text: str) -> int:
    """Nanoseconds since the epoch.

    :raises ValueError: names the value and what would do.
    """
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text!r} is no time; 2026-01-31 or 2026-01-31T02:00:00Z would do") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.timezone.utc)
    return int(found.timestamp()) * 10**9


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metrics-cleanup",
        description="Rolls up, compresses and expires journals of metrics by the retention policy. Loses nothing else.",
    )
    add = parser.add_argument
    add("--journal-dir", action="append", metavar="DIR", help="may be given several times; else those of base.yaml")
    add(
        "--config-root", default=INSTALL_ROOT, metavar="DIR", help="holds retention.yaml or base.yaml, or is its parent"
    )
    add("--dry-run", action="store_true", help="say what would be done, and write nothing")
    add("--verbose", action="store_true", help="list every file")
    add("--json", action="store_true", help="print one document instead of text")
    add("--textfile", metavar="FILE", help="write metrics of the run for node_exporter there")
    add("--compress-after", type=_days, default=7, metavar="DAYS", help="age of its newest record (default 7d)")
    add("--compress-other", action="store_true", help="compress dated journals of trading and logs as well")
    add(
        "--max-expire-percent",
        type=_percent,
        default=20.0,
        metavar="N",
        help="more may not expire at once (default 20)",
    )
    add("--min-free", type=_count, default=0, metavar="BYTES", help="of the disk that stay free")
    add("--as-of", type=_moment, metavar="TIME", help="the time it is taken to be; a later one for a dry run only")
    add("--jobs", type=_jobs, default=1, metavar="N", help="processes (default 1)")
    return parser


def _clean(directory: str, policy: Policy, given: argparse.Namespace) -> Result:
    now = time.time_ns() if given.as_of is None else given.as_of
    options = Options(
        root=directory,
        rules=Rules(policy, given.compress_after, given.compress_other),
        now=now,
        dry_run=given.dry_run,
        is_certain_of_now=given.as_of is not None,
        max_expire_percent=given.max_expire_percent,
        min_free=given.min_free,
        jobs=given.jobs,
    )
    return clean(options, _progress if sys.stderr.isatty() and not given.json else lambda _what, _done, _all: None)


def _told(run: account.Run, given: argparse.Namespace) -> t.Iterator[str]:
    """What standard output says, part by part."""
    if given.json:
        document = {
            directory: {
                "plan": account.rows(result.actions),
                "summary": account.summary(result),
                "notes": [note._asdict() for note in result.notes],
            }
            for directory, result in run.results.items()
        }
        yield json.dumps({"succeeded": run.succeeded, "directories": document}, indent=2) + "\n"
        return
    for directory, result in run.results.items():
        yield f"{account.shown(directory)}: {_sentence(result)}\n"
        if given.dry_run or given.verbose:
            yield account.table(result.actions)
        for note in result.notes:
            yield f"{note.severity}: {account.shown(note.summary)} {account.shown(note.remedy)}".rstrip() + "\n"


def _sentence(result: Result) -> str:
    """What was done, what would be, and what was left undone."""
    parts = []
    for state, said in ((DONE, "done"), (PLANNED, "would be done"), (LEFT, "left undone")):
        totals = account.totals(action for action in result.actions if action.state == state)
        texts = [f"{action} {row['files']} files of {row['bytes']:,} bytes" for action, row in totals.items()]
        parts += [f"{', '.join(texts)} ({said})"] if texts else []
    return "; ".join(parts) or "nothing to do"


def _progress(what: str, done: int, every: int) -> None:
    end = "\n" if done == every else ""
    sys.stderr.write(f"\r{what}: {done} of {every}\x1b[K{end}")
    sys.stderr.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{account.shown(text)}\n")


def _option(read_value: t.Callable[[str], t.Any], wanted: str) -> t.Callable[[str], t.Any]:
    def read_option(text: str) -> t.Any:
        try:
            return read_value(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} will not do; {wanted} would") from error

    return read_option


def _whole(text: str, least: int, most: float) -> int:
    value = int(text)
    if not least <= value <= most:
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise ValueError(text)
    return value


_days = _option(lambda text: _whole(text[:-1] if text.endswith("d") else text, 1, 36500), "a number of days such as 7d")
_count = _option(lambda text: _whole(text, 0, float("inf")), "a number of bytes")
_jobs = _option(lambda text: _whole(text, 1, 64), "a number from 1 to 64")
_percent = _option(_share, "a number from 0 to 100")
_moment = _option(moment, "a time such as 2026-01-31T02:00:00Z")
