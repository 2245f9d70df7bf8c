# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the jobs of a host that run the trading system's own clean-up, which deletes by the time of files.

``old_jobs.py [--stop] [--root DIRECTORY]`` prints them as JSON, texts of file and line, the script that is run, and
what stops it: ``ours`` to stop, and ``theirs``, which only a person can. With ``--stop`` and nothing of theirs it is
done: a line of a crontab becomes a comment, with a copy of the file in COPIES; a script that cron runs as a whole is no
longer executable; a unit is stopped and disabled, with what starts it. A job that is stopped is not found again.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

# Neither a comment, nor our own metrics-cleanup and its metrics.
JOB = re.compile(r"(?!\s*[#;]).*?(?<![\w-])((?:[\w./-]*[./])?(?:metrics_cleanup|compress_journals)(?:\.py)?)(?![\w.-])")
CRONTABS = ("etc/crontab", "etc/anacrontab", "etc/cron.d/*", "var/spool/cron/crontabs/*", "var/spool/cron/*")
SCRIPTS = ("etc/cron.hourly/*", "etc/cron.daily/*", "etc/cron.weekly/*", "etc/cron.monthly/*")
UNITS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
COPIES = "var/backups/njord-retention"
COMMENT = "# Stopped by njord.telemetry, which cleans up in its place: "


class Job(t.NamedTuple):
    """
    :param units: what systemd has to stop; empty where cron runs it.
    :param is_ours: False where the job is a part of something that must go on.
    """

    path: Path
    line: int
    script: str
    stop: str
    units: tuple[str, ...] = ()
    is_ours: bool = True


def lines(path: Path) -> t.Iterator[tuple[int, str, str]]:
    """Those that run an old script: their number, its name, and in a unit the setting."""
    setting, is_continued = "", False
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        if not is_continued:
            setting = line.split("=", 1)[0].strip()
        is_continued = line.endswith("\\")
        found = JOB.match(line)
        if found:
            yield number, found.group(1), setting


def files(root: Path, patterns: t.Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})


def unit_files(root: Path) -> t.Iterator[tuple[str, Path]]:
    """Names of services and the files that say what they run; a link leads to a unit that lies elsewhere."""
    for place in UNITS:
        for path in sorted((root / place).glob("*.service")):
            if path.is_file():
                yield path.name, path
        for path in sorted((root / place).glob("*.service.d/*.conf")):
            yield path.parent.name[: -len(".d")], path


def running(name: str) -> list[str]:
    """Of a service and of what starts it, the units that are active, or will be."""
    # Of a template every instance.
    pattern = name.replace("@.", "@*.")
    triggers = {word for unit in show(pattern) for word in unit.get("TriggeredBy", "").split()}
    found = [unit for one in (pattern, *sorted(triggers)) for unit in show(one)]
    return sorted({unit["Id"] for unit in found if is_live(unit)})


def is_live(unit: dict[str, str]) -> bool:
    active = unit.get("ActiveState") in ("active", "activating", "reloading")
    return active or fnmatch.fnmatch(unit.get("UnitFileState", ""), "enabled*")


def show(pattern: str) -> list[dict[str, str]]:
    command = ["systemctl", "show", "--property=Id,ActiveState,UnitFileState,TriggeredBy", "--", pattern]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in said.split("\n\n")]
    return [block for block in blocks if block.get("Id")]


def look(root: Path) -> list[Job]:
    found = []
    for path in files(root, CRONTABS):
        found += [Job(path, number, script, "the line becomes a comment") for number, script, _setting in lines(path)]
    for path in files(root, SCRIPTS):
        if os.access(path, os.X_OK):
            stop = "the whole script is run no more (chmod a-x)"
            found += [Job(path, number, script, stop) for number, script, _setting in lines(path)]
    for name, path in unit_files(root):
        for number, script, setting in lines(path):
            units = tuple(running(name)) if setting.startswith("Exec") else ()
            if units and setting == "ExecStart":
                found.append(Job(path, number, script, f"systemctl disable --now {' '.join(units)}", units))
            elif units:
                found.append(Job(path, number, script, f"take it out of {name} by hand", units, is_ours=False))
    return found


def stop(job: Job, root: Path) -> None:
    if job.units:
        command = ["systemctl", "disable", "--now", "--quiet", "--", *job.units]
        subprocess.run(command, check=True)
    elif any(job.path.match(pattern) for pattern in SCRIPTS):
        job.path.chmod(job.path.stat().st_mode & ~0o111)
    else:
        comment_out(job, root)


def comment_out(job: Job, root: Path) -> None:
    """A crontab is exchanged, so that cron sees that it is another one. A copy beside it would be a crontab too."""
    path = job.path.resolve()
    copy = root / COPIES / job.path.relative_to(root)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    text = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    text[job.line - 1] = COMMENT + text[job.line - 1]
    status = path.stat()
    # cron passes over a name that begins with a dot.
    new = path.with_name(f".{path.name}.njord")
    new.write_text("\n".join(text), encoding="utf-8", errors="surrogateescape")
    new.chmod(status.st_mode & 0o7777)
    os.chown(new, status.st_uid, status.st_gid)
    new.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Finds jobs that run the trading system's own clean-up.")
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--root", type=Path, default=Path("/"))
    options = parser.parse_args()
    found = look(options.root)
    if options.stop and all(job.is_ours for job in found):
        for job in found:
            stop(job, options.root)
    told: dict[str, list[str]] = {"ours": [], "theirs": []}
    for job in found:
        told["ours" if job.is_ours else "theirs"].append(f"{job.path}:{job.line} ({job.script}): {job.stop}")
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
