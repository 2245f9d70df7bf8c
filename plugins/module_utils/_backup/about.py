# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What the catalogue of a host says: to a person as findings, to Prometheus as metrics. It only reads."""

from __future__ import annotations

import typing as t
from pathlib import Path

from .._finding import Finding
from .._storage import rfc3339
from .._units import human_duration, human_size
from .catalogue import DAMAGED, PROVEN, Catalogue, Entry
from .remote import Remote, copies, path_of
from .restic import ResticError
from .store import write_file

# A drill is asked for once a week, and forgiven a day; so is a look at what lies off the host.
DRILL_SECONDS = 8 * 86400.0
TEXTFILE = "njord_backup.prom"
_PREFIX = "njord_backup_"
_RUN = {
    "last_run_timestamp_seconds": "When a backup was last tried.",
    "success": "Whether the last run left nothing undone.",
    "duration_seconds": "How long the last run took.",
    "interval_seconds": "The longest time between two backups, by the schedule.",
}
_BACK_UP = "ansible-playbook backup.yml takes one now; site.yml schedules them."
MEND_REMOTE = (
    "Look at its disk; restic check on the host says more, and restic's page on troubleshooting how to repair it. With"
    " a new repository (telemetry_backup_restic_repository) the next backup sends everything once more."
)
_DRILL = "ansible-playbook restore-drill.yml runs one now; site.yml schedules them."


def findings(catalogue: Catalogue, now: float, interval: float) -> list[Finding]:
    """
    :param now: unix seconds.
    :param interval: seconds between two backups at the most, by the schedule.
    :raises Missing: where there is no catalogue.
    """
    entries = catalogue.entries()
    sound = [entry for entry in entries if entry.level != DAMAGED]
    found = [_damaged(entry) for entry in entries if entry.level == DAMAGED]
    found.append(_last(catalogue, sound, now, interval))
    if sound:
        found += [_proven(sound, now), _place(catalogue, sound[-1])]
    if catalogue.remote():
        found += [_sent(catalogue.remote(), now, interval), _checked(catalogue.remote(), now)]
    found.append(_drill(catalogue, now))
    return found


def tell(path: Path, catalogue: Catalogue, run: dict[str, float]) -> None:
    """Writes metrics of the catalogue for the text-file collector of node_exporter.

    :param path: such as :data:`TEXTFILE` in its directory.
    :param run: what is known of the last backup, by the keys of :data:`_RUN`; the rest stays as it was told before.
    :raises OSError: where it cannot be written.
    """
    former = path.read_text(encoding="utf-8") if path.is_file() else ""
    before = dict(line.split(" ", 1) for line in former.splitlines() if not line.startswith("#"))
    told = {name: float(before[f"{_PREFIX}{name}"]) for name in _RUN if f"{_PREFIX}{name}" in before}
    write_file(path, _metrics(catalogue, {**told, **run}).encode(), 0o644)


def _metrics(catalogue: Catalogue, run: dict[str, float]) -> str:
    entries = catalogue.entries()
    sound = [entry for entry in entries if entry.level != DAMAGED]
    proven = [entry for entry in sound if entry.level == PROVEN]
    drill = catalogue.last_drill()
    stored = sum(size for _sha256, size in catalogue.store.objects())
    rows = [(name, text, run[name]) for name, text in _RUN.items() if name in run]
    rows += [
        ("last_timestamp_seconds", "When the newest sound backup was made; 0 is never.", _created(sound)),
        ("last_proven_timestamp_seconds", "When the newest proven one was made; 0 is never.", _created(proven)),
        ("backups", "Sound backups in the catalogue.", len(sound)),
        ("damaged_backups", "Backups that are damaged.", len(entries) - len(sound)),
        ("stored_bytes", "Bytes of all files that are stored.", stored),
    ]
    remote = catalogue.remote()
    if remote:
        sent, checked = remote.get("sent", 0.0), remote.get("checked", 0.0)
        rows += [
            ("sent_timestamp_seconds", "When the newest backup off the host was made; 0 is never.", sent),
            ("sent_checked_timestamp_seconds", "When what lies off the host was checked last; 0 is never.", checked),
            ("sent_damaged", "Whether what lies off the host is damaged.", int(bool(remote.get("damages")))),
        ]
    if drill:
        rows += [
            ("drill_timestamp_seconds", "When the last drill ended.", drill["at"]),
            ("drill_success", "Whether the last drill proved that the data come back.", int(not drill["reason"])),
            ("drill_damaged", "Whether they did not come back as they were.", int(_was_damaged(drill))),
            ("drill_recovery_point_seconds", "Age of what the last drill brought back.", drill["recovery_point"]),
            ("drill_recovery_time_seconds", "How long the last drill took.", drill["recovery_time"]),
        ]
    lines = []
    for name, text, value in rows:
        lines += [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {value!r}"]
    return "\n".join(lines) + "\n"


def describe(catalogue: Catalogue, entry: Entry) -> dict[str, t.Any]:
    """A backup in plain JSON types; times as RFC 3339, empty for never."""
    parts = []
    for part in entry.manifest.parts if entry.manifest else ():
        state, facts = entry.state(part), part.facts
        row = {
            "source": part.source,
            "root": part.root,
            "files": len(part.files),
            "bytes": part.size,
            "level": state.level,
            "verified": _moment(state.verified),
            "proven": _moment(state.proven),
            "reason": state.reason,
        }
        if part.source == "prometheus":
            row.update(
                version=facts.get("version", ""),
                retention=facts.get("retention", ""),
                blocks=len(facts.get("blocks", [])),
                samples=facts.get("samples", 0),
                first=_moment(facts.get("min_time", 0) / 1000),
                last=_moment(facts.get("max_time", 0) / 1000),
            )
        parts.append(row)
    return {
        "name": entry.name,
        "level": entry.level,
        "damage": entry.damage,
        "created": _moment(entry.created),
        "host": entry.manifest.host if entry.manifest else "",
        "bytes": entry.manifest.size if entry.manifest else 0,
        "parts": parts,
        "copies": {place: _moment(at) for place, at in catalogue.copies(entry.name).items()},
    }


def elsewhere(where: Remote, catalogue: Catalogue) -> tuple[list[dict[str, t.Any]], list[Finding]]:
    """What lies off the host, of all hosts, in plain JSON types; and whether that could be asked."""
    try:
        found = copies(where, "")
    except ResticError as error:
        text = f"What lies in {where.place} is not known: {error}."
        return [], [Finding("backup.elsewhere", where.place, "unknown", text)]
    held = set(catalogue.names()) if catalogue.root.is_dir() else set()
    rows = [
        {
            "name": copy.name,
            "host": copy.host,
            "created": _moment(copy.created),
            "place": where.place,
            "is_held": copy.name in held,
        }
        for copy in found
    ]
    hosts = {copy.host: copy for copy in found}
    newest = "; ".join(f"{copy.name} of {host}" for host, copy in sorted(hosts.items()))
    text = f"{len(rows)} backups lie in {where.place}" + (f", the newest {newest}." if rows else ".")
    return rows, [Finding("backup.elsewhere", where.place, "info", text)]


def _damaged(entry: Entry) -> Finding:
    reasons = (
        [entry.damage] if entry.damage else [state.reason for state in entry.states.values() if state.level == DAMAGED]
    )
    return Finding(
        "backup.damaged",
        entry.name,
        "critical",
        f"Backup {entry.name} is damaged: {'; '.join(reasons)}.",
        {},
        f"{_BACK_UP} Look at the disk (smartctl, dmesg). Keep this one until a newer one is proven, then remove it.",
    )


def _last(catalogue: Catalogue, sound: list[Entry], now: float, interval: float) -> Finding:
    root = str(catalogue.root)
    if not sound:
        return Finding("backup.last", root, "critical", f"There is no sound backup in {root}.", {}, _BACK_UP)
    age = now - sound[-1].created
    manifest = sound[-1].manifest
    size = manifest.size if manifest else 0
    figures = {"backup_age_seconds": round(age), "backup_count": len(sound), "backup_bytes": size}
    text = f"The last of {len(sound)} backups, {sound[-1].name}, is {human_duration(age)} old, {human_size(size)}."
    is_late = age > 1.5 * interval + 3600
    return Finding(
        "backup.last", root, "warning" if is_late else "ok", text, {"figures": figures}, _BACK_UP if is_late else ""
    )


def _proven(sound: list[Entry], now: float) -> Finding:
    proven = [entry for entry in sound if entry.level == PROVEN]
    if not proven:
        text = f"None of the {len(sound)} backups was ever proven: nobody knows whether one would come back."
        return Finding("backup.proven", sound[-1].name, "unknown", text, {}, _DRILL)
    age = now - proven[-1].created
    is_old = age > DRILL_SECONDS
    text = f"The last proven backup, {proven[-1].name}, is {human_duration(age)} old."
    figures = {"figures": {"backup_proven_age_seconds": round(age)}}
    return Finding(
        "backup.proven", proven[-1].name, "warning" if is_old else "ok", text, figures, _DRILL if is_old else ""
    )


def _place(catalogue: Catalogue, newest: Entry) -> Finding:
    """Whether one dead disk takes the data and their backups."""
    root = str(catalogue.root)
    device = _device(root)
    beside = [part.root for part in newest.manifest.parts if _device(part.root) == device] if newest.manifest else []
    # A copy on the data's own disk is none.
    elsewhere = [
        place for place in catalogue.copies(newest.name) if not path_of(place) or _device(path_of(place)) != device
    ]
    if not beside or elsewhere:
        return Finding(
            "backup.place", root, "ok", f"{root} lies on another file system than the data, or is copied from it."
        )
    return Finding(
        "backup.place",
        root,
        "critical",
        f"{root} lies on the file system of {beside[0]}, and {newest.name} is nowhere else: one dead disk takes both.",
        {"beside": beside},
        "Set telemetry_backup_catalogue to a directory on another disk, or telemetry_backup_restic_repository, or"
        " telemetry_backup_carry_to; then site.yml.",
    )


def _sent(remote: dict[str, t.Any], now: float, interval: float) -> Finding:
    """How old that is which a fire leaves."""
    place, problem, sent = remote["place"], remote.get("problem", ""), remote.get("sent", 0.0)
    why = f": {problem}" if problem else ""
    if not sent:
        return Finding("backup.sent", place, "critical", f"No backup ever reached {place}{why}.", {}, _BACK_UP)
    age = now - sent
    severity = "critical" if age > 2 * interval + 3600 else "warning" if problem else "ok"
    text = f"The last backup in {place} is {human_duration(age)} old"
    text += f", and a later one could not be sent{why}." if problem else "."
    figures = {"figures": {"backup_sent_age_seconds": round(age)}}
    return Finding("backup.sent", place, severity, text, figures, _BACK_UP if severity != "ok" else "")


def _checked(remote: dict[str, t.Any], now: float) -> Finding:
    """Whether that can still be read."""
    place, damages, checked = remote["place"], remote.get("damages", {}), remote.get("checked", 0.0)
    if damages:
        parts = ", ".join(f"in part {part}: {why}" for part, why in damages.items())
        text = f"What lies in {place} is damaged ({parts})."
        return Finding("backup.checked", place, "critical", text, {"damages": damages}, MEND_REMOTE)
    if not checked:
        return Finding("backup.checked", place, "unknown", f"Nobody ever checked what lies in {place}.", {}, _BACK_UP)
    age = now - checked
    is_late = age > DRILL_SECONDS
    text = f"What lies in {place} was checked {human_duration(age)} ago, and was sound."
    figures = {"figures": {"backup_checked_age_seconds": round(age)}}
    return Finding("backup.checked", place, "warning" if is_late else "ok", text, figures, _BACK_UP if is_late else "")


def _drill(catalogue: Catalogue, now: float) -> Finding:
    root, drill = str(catalogue.root), catalogue.last_drill()
    if not drill:
        return Finding("backup.drill", root, "unknown", "Nobody ever tried to bring a backup back (drill).", {}, _DRILL)
    if drill["reason"]:
        is_damaged = _was_damaged(drill)
        shown = "showed that it does not" if is_damaged else "could not tell whether it does"
        text = f"{drill['name']} should come back, and the last drill {shown}: {drill['reason']}."
        return Finding(
            "backup.drill",
            root,
            "critical" if is_damaged else "unknown",
            text,
            {},
            f"{_BACK_UP} Then try again: ansible-playbook restore-drill.yml.",
        )
    ago = now - drill["at"]
    figures = {
        "drill_age_seconds": round(ago),
        "drill_recovery_point_seconds": round(drill["recovery_point"]),
        "drill_recovery_time_seconds": round(drill["recovery_time"], 3),
    }
    lost, took = human_duration(drill["recovery_point"]), human_duration(drill["recovery_time"])
    text = (
        f"The last drill, {human_duration(ago)} ago, brought {drill['name']} back in {took} (RTO);"
        f" {lost} would have been lost (RPO)."
    )
    is_late = ago > DRILL_SECONDS
    return Finding(
        "backup.drill", root, "warning" if is_late else "ok", text, {"figures": figures}, _DRILL if is_late else ""
    )


def _was_damaged(drill: dict[str, t.Any]) -> bool:
    """What was noted before there were two kinds of failure counts as the worse one."""
    return bool(drill.get("is_damaged", drill["reason"]))


def _device(path: str) -> int:
    """Of the nearest directory that is there; -1 where nobody can say."""
    nearest = next((place for place in (Path(path), *Path(path).parents) if place.exists()), None)
    return nearest.stat().st_dev if nearest else -1


def _created(entries: list[Entry]) -> float:
    return entries[-1].created if entries else 0.0


def _moment(seconds: float) -> str:
    return rfc3339(seconds) if seconds else ""
