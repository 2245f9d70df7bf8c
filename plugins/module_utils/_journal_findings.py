# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Findings on the journals and on the disks that hold them, out of a survey of their directories."""

from __future__ import annotations

import dataclasses
import heapq
import shlex
import typing as t

from ._disk import FileSystem, Limits, days_until_full, file_system, forecast_finding, free_finding
from ._finding import Finding
from ._journal.configuration import ConfigurationError, journal_directories
from ._journal.format import DAY_NS, KINDS, LOG, METRICS, TRADING, resolution_name
from ._journal.growth import growth
from ._journal.survey import FOUND, Directory, JournalFile, Survey
from ._units import human_size

# So many names a finding carries; the count beside them says how many there are.
NAMES = 20

_COMPARE = "Compare it with logging.journal_dir and paths.journal_dir in base.yaml, and see whether the services run."
# By the state of a directory: what it means, and what to do.
_STATES = {
    "empty": ("{path} holds no file: nothing is written there, or it is the wrong directory.", _COMPARE),
    "missing": ("{path} cannot be surveyed: {reason}.", _COMPARE),
    "unreadable": ("{path} cannot be surveyed: {reason}.", "Run this as a user who may read it (become)."),
    "not_a_directory": ("{path} is no directory.", "Name the directory that the journals are written to."),
}


def named_directories(
    given: list[str] | None, option: str, config_root: str, install_root: str = ""
) -> tuple[list[str], list[Finding]]:
    """The directories that are given, or else those of ``base.yaml``; a finding where nobody names any.

    :param option: in which they would be given.
    """
    if given:
        return given, []
    try:
        return journal_directories(config_root, install_root), []
    except ConfigurationError as error:
        text = f"Where the journals lie is not known: {error}."
        remedy = f"Give {option}, or the config_root that holds base.yaml."
        return [], [Finding("journal.configuration", config_root, "unknown", text, remedy=remedy)]


def findings(found: Survey, now: int, largest: int) -> list[Finding]:
    """
    :param now: nanoseconds since the epoch.
    :param largest: so many of the largest files are named.
    """
    looked = [_directory(directory) for directory in found.directories]
    looked += [finding for finding in (_links(found), _unreadable(found)) if finding]
    if found.files:
        looked += [_size(found), _largest(found, largest, now)]
    return looked


def disks(
    found: Survey, paths: t.Iterable[str], limits: Limits, now: int
) -> tuple[list[Finding], list[dict[str, t.Any]]]:
    """Every file system once: those the journals lie on, with a forecast, and those of further paths.

    :param paths: further directories whose file systems are judged.
    :param now: nanoseconds since the epoch.
    """
    looked: list[Finding] = []
    systems: dict[int, FileSystem] = {}
    for system in map(_system, [*found.devices.values(), *paths]):
        if isinstance(system, Finding):
            looked.append(system)
        else:
            systems.setdefault(system.device, system)
    rows = []
    for device, system in systems.items():
        files = [file for file in found.files if file.device == device]
        remedy = space_remedy(files, now)
        looked.append(free_finding(system, limits, remedy))
        row = {
            **dataclasses.asdict(system),
            "free_percent": round(system.free_percent, 2),
            "holds_journals": device in found.devices,
        }
        if device in found.devices:
            seen = growth(files, now)
            guessed = seen.sources["modified"] / (sum(seen.sources.values()) or 1.0)
            looked.append(
                forecast_finding(system, seen.by_day, seen.bytes_per_day, seen.days, guessed, now / 1e9, limits, remedy)
            )
            row.update(
                growth_bytes_per_day=seen.bytes_per_day,
                growth_days=seen.days,
                growth_sources=seen.sources,
                days_until_full=days_until_full(system, seen.bytes_per_day),
            )
        rows.append(row)
    return looked, rows


def kinds(files: t.Iterable[JournalFile]) -> dict[str, dict[str, int]]:
    """Files and bytes of each kind."""
    return _totals(files, lambda file: file.kind, KINDS)


def resolutions(files: t.Iterable[JournalFile]) -> dict[str, dict[str, int]]:
    """Files and bytes of the journals of metrics, by resolution: the shortest first, ``unknown`` last."""
    metrics = [file for file in files if file.kind == METRICS]
    present = sorted({file.resolution for file in metrics}, key=lambda seconds: (seconds is None, seconds))
    return _totals(metrics, lambda file: resolution_name(file.resolution), [resolution_name(one) for one in present])


def largest_files(files: t.Iterable[JournalFile], count: int) -> list[JournalFile]:
    return heapq.nlargest(count, files, key=lambda file: (file.disk_bytes, file.path))


def shown(path: str) -> str:
    """A path as JSON can carry it: bytes that are no UTF-8 are written as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def space_remedy(files: t.Sequence[JournalFile], now: int) -> str:
    """What to do where the disk that holds these files is short of room, with what there is today."""
    compressible = [file for file in files if _is_compressible(file, now)]
    advice = (
        "Give the file system more room, or move what is not journals away from it; never remove a journal for room."
    )
    if not compressible:
        return advice
    total = human_size(sum(file.disk_bytes for file in compressible))
    return (
        f"Compress the {len(compressible)} plain journals of past days ({total}) that no process holds open (fuser), "
        f"such as {_gzip(largest_files(compressible, 1)[0])}. {advice}"
    )


def _system(path: str) -> FileSystem | Finding:
    try:
        return file_system(path)
    except OSError as error:
        return Finding(
            "disk.free",
            shown(path),
            "unknown",
            f"The disk of {shown(path)} cannot be judged: {error.strerror}.",
            remedy="Name a directory that is there and that this user may look into.",
        )


def _is_compressible(file: JournalFile, now: int) -> bool:
    """A rotated journal of a past day. A live one has no date in its name, and its writer would lose it."""
    rotated = file.day is not None and file.day + DAY_NS <= now - now % DAY_NS
    return rotated and not file.compressed and file.kind in (METRICS, TRADING, LOG)


def _gzip(file: JournalFile) -> str:
    return f"gzip {shlex.quote(shown(file.path))}"


def _directory(directory: Directory) -> Finding:
    path, leads = shown(directory.path), shown(directory.resolved)
    linked = path.rstrip("/") != leads
    via = f" It leads to {leads}." if linked else ""
    figures = {"journal_files": directory.files, "journal_disk_bytes": directory.disk_bytes}
    evidence = {"resolved": leads, "state": directory.state, "figures": figures}
    if directory.state != FOUND:
        meaning, remedy = _STATES[directory.state]
        summary = meaning.format(path=path, reason=directory.reason) + via
        return Finding("journal.directory", path, "unknown", summary, evidence, remedy)
    summary = f"{path} holds {directory.files} files, {human_size(directory.disk_bytes)} of the disk.{via}"
    return Finding("journal.directory", path, "info" if linked else "ok", summary, evidence)


def _links(found: Survey) -> Finding | None:
    links = [link for link in found.links if link.state != "inside"]
    if not links:
        return None
    astray = [link for link in links if link.state != "broken"]
    named = (astray or links)[0]
    return Finding(
        "journal.link",
        shown(named.path),
        "warning" if astray else "info",
        f"{len(links)} links in the journal directories were not followed: they lead out of them, in a circle or to "
        f"nothing, such as {shown(named.path)} to {shown(named.target)}.",
        {
            "links": [
                {"path": shown(link.path), "target": shown(link.target), "state": link.state} for link in links[:NAMES]
            ],
            "figures": {"journal_links": len(links)},
        },
        "Name the directory that such a link leads to in journal_dirs as well, if journals lie there."
        if astray
        else "",
    )


def _unreadable(found: Survey) -> Finding | None:
    if not found.unreadable:
        return None
    first = found.unreadable[0]
    return Finding(
        "journal.unreadable",
        shown(first.path),
        "unknown",
        f"{len(found.unreadable)} files or directories could not be read, such as {shown(first.path)}: {first.reason}.",
        {
            "unreadable": [
                {"path": shown(problem.path), "reason": problem.reason} for problem in found.unreadable[:NAMES]
            ],
            "figures": {"journal_unreadable_files": len(found.unreadable)},
        },
        "Run this as a user who may read them (become); test a compressed one with gzip -t.",
    )


def _size(found: Survey) -> Finding:
    by_kind, by_resolution = kinds(found.files), resolutions(found.files)
    rows = {**by_resolution, **{kind: by_kind[kind] for kind in KINDS if kind != METRICS}}
    total = sum(file.disk_bytes for file in found.files)
    bars = [
        {"label": f"{label}, {form}", "value": row[f"{form}_disk_bytes"]}
        for label, row in rows.items()
        for form in ("plain", "compressed")
        if row[f"{form}_disk_bytes"]
    ]
    figures = {"journal_disk_bytes": total}
    for kind, row in by_kind.items():
        figures[f"journal_{kind}_disk_bytes"] = row["plain_disk_bytes"] + row["compressed_disk_bytes"]
    evidence = {
        "figures": figures,
        "chart": {"kind": "bars", "title": "Journals on the disk", "unit": "bytes", "bars": bars},
    }
    subject = ", ".join(shown(directory.path) for directory in found.directories)
    if not by_resolution:
        return Finding(
            "journal.size",
            subject,
            "unknown",
            f"None of the {len(found.files)} files is a journal of metrics: they lie elsewhere, or nobody writes them.",
            evidence,
            "See whether the aggregator runs, and compare with logging.journal_dir in base.yaml.",
        )
    plain, compressed = (
        sum(row[f"{form}_disk_bytes"] for row in by_resolution.values()) for form in ("plain", "compressed")
    )
    summary = (
        f"Journals take {human_size(total)} of the disk in {len(found.files)} files; of metrics "
        f"{human_size(plain)} are plain and {human_size(compressed)} compressed."
    )
    return Finding("journal.size", subject, "ok", summary, evidence)


def _largest(found: Survey, count: int, now: int) -> Finding:
    files = largest_files(found.files, count)
    first = files[0]
    what = f"{resolution_name(first.resolution)} metrics" if first.kind == METRICS else f"{first.kind}, {first.reason}"
    form = "compressed" if first.compressed else "plain"
    return Finding(
        "journal.largest",
        shown(first.path),
        "info",
        f"The largest file is {shown(first.path)} with {human_size(first.disk_bytes)} ({what}; {form}).",
        {
            "chart": {
                "kind": "bars",
                "title": "Largest files",
                "unit": "bytes",
                "bars": [{"label": shown(file.path), "value": file.disk_bytes} for file in files],
            },
            "figures": {"journal_largest_disk_bytes": first.disk_bytes},
        },
        f"{_gzip(first)}, once no process holds it open (fuser)." if _is_compressible(first, now) else "",
    )


def _totals(
    files: t.Iterable[JournalFile], key: t.Callable[[JournalFile], str], rows: t.Iterable[str]
) -> dict[str, dict[str, int]]:
    columns = ("files", "plain_bytes", "plain_disk_bytes", "compressed_bytes", "compressed_disk_bytes")
    totals = {row: dict.fromkeys(columns, 0) for row in rows}
    for file in files:
        row, form = totals[key(file)], "compressed" if file.compressed else "plain"
        row["files"] += 1
        row[f"{form}_bytes"] += file.bytes
        row[f"{form}_disk_bytes"] += file.disk_bytes
    return totals
