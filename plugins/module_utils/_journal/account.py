# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.
"""What a clean-up did, or would do: as a table for a person, as a document, and as metrics for Prometheus."""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t
from pathlib import Path

from .clean import Action, Result
from .format import resolution_name

_HEADINGS = ("file", "resolution", "from", "to", "action", "into", "bytes", "reason")
TEXTFILE = "njord_metrics_cleanup.prom"

_LAST_SUCCESS = re.compile(r"^njord_metrics_cleanup_last_success_timestamp_seconds (\S+)$", re.MULTILINE)
# The last column is as long as it is.
_WIDEST = 60


@dataclasses.dataclass(frozen=True)
class Run:
    """
    :param results: by journal directory.
    :param ended: unix seconds.
    :param interval: seconds between two runs at the most, by the schedule.
    """

    results: dict[str, Result]
    ended: float
    seconds: float
    interval: float

    @property
    def succeeded(self) -> bool:
        """Whether all of it was done."""
        return all(result.is_complete and not result.is_worse_than("warning") for result in self.results.values())


def shown(path: str) -> str:
    """A path as any terminal can show it: bytes that are no UTF-8 are written as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def rows(actions: t.Iterable[Action]) -> list[dict[str, t.Any]]:
    """Actions in plain JSON types; times as RFC 3339."""
    return [
        {
            "action": action.action,
            "subject": shown(action.subject),
            "reason": action.reason,
            "into": shown(action.into),
            "resolution": resolution_name(action.resolution),
            "first": _moment(action.first),
            "last": _moment(action.last),
            "bytes": action.bytes,
            "state": action.state,
        }
        for action in actions
    ]


def table(actions: t.Iterable[Action]) -> str:
    """A line for each, by file, under headings; nothing where there is none."""
    lines = [
        (
            row["subject"],
            row["resolution"],
            row["first"],
            row["last"],
            row["action"],
            row["into"],
            f"{row['bytes']:,}",
            row["reason"],
        )
        for row in sorted(rows(actions), key=lambda row: str(row["subject"]))
    ]
    if not lines:
        return ""
    lines.insert(0, _HEADINGS)
    widths = [min(max(len(line[column]) for line in lines), _WIDEST) for column in range(len(_HEADINGS))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)


def totals(actions: t.Iterable[Action]) -> dict[str, dict[str, int]]:
    """Files and bytes by action."""
    found: dict[str, dict[str, int]] = {}
    for action in actions:
        row = found.setdefault(action.action, {"files": 0, "bytes": 0})
        row["files"] += 1
        row["bytes"] += action.bytes
    return found


def summary(result: Result) -> dict[str, t.Any]:
    """Lines, files and bytes: how it was, what was done, how it is."""
    return {
        "actions": totals(result.actions),
        "lines": {
            "read": result.counts.read,
            "merged": result.counts.merged,
            "written": result.counts.written,
            "carried": result.counts.carried,
            "expired": result.counts.expired,
            "rejected": sum(result.counts.rejected.values()),
        },
        "rejected": result.counts.rejected,
        "dropped_keys": result.counts.unknown,
        "before": {kind: size._asdict() for kind, size in result.before.items()},
        "after": {kind: size._asdict() for kind, size in result.after.items()},
    }


def metrics(run: Run, last_success: float) -> str:
    """Text format, for the text-file collector of node_exporter.

    :param last_success: unix seconds, of the runs before; 0 where there was none.
    """
    sizes: dict[str, list[int]] = {}
    actions: dict[tuple[str, str], int] = {}
    for result in run.results.values():
        for kind, size in (result.after or result.before).items():
            total = sizes.setdefault(kind, [0, 0])
            total[0] += size.files
            total[1] += size.bytes
        for action in result.actions:
            key = (action.action, action.state)
            actions[key] = actions.get(key, 0) + 1
    rejected = sum(sum(result.counts.rejected.values()) for result in run.results.values())
    families = (
        ("last_run_timestamp_seconds", "When it last ended.", {"": run.ended}),
        (
            "last_success_timestamp_seconds",
            "When it last ended with nothing left undone; 0 is never.",
            {"": run.ended if run.succeeded else last_success},
        ),
        ("success", "Whether the last run left nothing undone.", {"": float(run.succeeded)}),
        ("duration_seconds", "How long the last run took.", {"": run.seconds}),
        ("interval_seconds", "The longest time between two runs, by the schedule.", {"": run.interval}),
        ("journal_files", "Files by kind.", {f'kind="{kind}"': size[0] for kind, size in sorted(sizes.items())}),
        (
            "journal_bytes",
            "Bytes of files by kind.",
            {f'kind="{kind}"': size[1] for kind, size in sorted(sizes.items())},
        ),
        (
            "actions",
            "Files of the last run by what was done to them.",
            {f'action="{action}",state="{state}"': count for (action, state), count in sorted(actions.items())},
        ),
        ("rejected_lines", "Lines of the last run that are no records; they are kept aside.", {"": rejected}),
    )
    lines = []
    for name, text, samples in families:
        full = f"njord_metrics_cleanup_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} gauge"] if samples else []
        lines += [
            f"{full}{{{labels}}} {value!r}" if labels else f"{full} {value!r}" for labels, value in samples.items()
        ]
    return "\n".join(lines) + "\n"


def write_metrics(path: Path, run: Run) -> None:
    """Whole or not at all, and readable for node_exporter.

    :param path: such as :data:`TEXTFILE` in the directory of its text-file collector.
    :raises OSError: where it cannot be written.
    """
    before = _LAST_SUCCESS.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    new = path.with_name(f".{path.name}.new")
    new.write_text(metrics(run, float(before[1]) if before else 0.0), encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


def _moment(nanoseconds: int) -> str:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=nanoseconds // 1000)
    return f"{moment.isoformat(timespec='seconds')}Z"
