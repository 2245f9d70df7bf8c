# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What each service of a host uses, what it may use, who else lives there, and whom the kernel has killed for memory.

Two looks at ``/proc`` and the control groups, some seconds apart; nothing is changed. None means that the kernel does
not tell. Pages of files are told apart from what a service holds: the kernel takes them back when it needs them.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/accounting/psi.html, proc(5).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import time
import typing as t
from pathlib import Path

from ._clock import is_container
from ._http import first_line
from ._prometheus import moment
from ._systemd import Unit, matching, show_units

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
TIMEOUT = 20.0
# Of the neighbours, those that use the most.
NEIGHBOURS = 10
_LISTENING = "0A"
_OOM = re.compile(
    r"oom-kill:constraint=(?P<constraint>\w+),.*?(?:oom_memcg=(?P<of>[^,]*),|global_oom,)?task_memcg=(?P<cgroup>[^,]*),"
    r"task=(?P<task>.*?),pid=(?P<pid>\d+)"
)
_KILLED = re.compile(r"Killed process (?P<pid>\d+) .*?anon-rss:(?P<anonymous>\d+)kB")
_PRESSURE = re.compile(r"^some avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+)", re.MULTILINE)

Show = t.Callable[[t.Sequence[str], float], t.Union[t.Dict[str, Unit], str]]
Find = t.Callable[[str, float], t.Union[t.List[str], str]]


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit of memory that the kernel enforces.

    :param cgroup: whose it is: the service's own, or one of those above it.
    :param kind: ``memory.max``, which kills, or ``memory.high``, which slows down.
    :param held: bytes below it that the kernel cannot take back.
    """

    cgroup: str
    kind: str
    bytes: int
    held: int

    @property
    def share(self) -> float:
        return self.held / self.bytes if self.bytes else 1.0


@dataclasses.dataclass(frozen=True)
class Pressure:
    """Percent of the last 10, 60 and 300 seconds in which some task waited for it."""

    avg10: float
    avg60: float
    avg300: float


@dataclasses.dataclass(frozen=True)
class Thread:
    """The thread of a service that used the most CPU.

    :param cores: 1 is one whole CPU.
    :param waited: share of the time in which it could have run, and had no CPU; None where the kernel does not tell.
    """

    pid: int
    name: str
    cores: float
    waited: float | None


@dataclasses.dataclass(frozen=True)
class Service:
    """What one unit, or one container, uses. All in bytes, seconds and cores (1 is one whole CPU).

    :param kind: ``unit`` or ``container``; empty where there is neither of that name.
    :param state: what its manager says, in words.
    :param result: how its last run ended: ``success``, ``oom-kill``, ``signal``, …
    :param started: unix seconds at which its main process was started last, also where it has ended; 0 for never.
    :param resident: of all its processes, files that they have mapped among it.
    :param held: what the kernel cannot take back: anonymous and shared memory.
    :param cache: pages of files that the kernel takes back when it needs them.
    :param limit: the one that it is nearest to; ``limits`` are all.
    :param configured_limit: what the unit is told, whether the kernel enforces it or not; 0 for none.
    :param oom_kills: of the control group as it is now; a restart begins anew. ``above`` also counts what is gone.
    :param throttled: share of the scheduler's periods in which its quota was used up.
    :param ports: on which it listens.
    """

    name: str
    kind: str = ""
    state: str = ""
    runs: bool = False
    result: str = ""
    restarts: int = 0
    started: float = 0.0
    main_pid: int = 0
    cgroup: str = ""
    processes: int = 0
    threads: int = 0
    resident: int = 0
    held: int = 0
    cache: int | None = None
    swap: int = 0
    current: int | None = None
    limit: Limit | None = None
    limits: tuple[Limit, ...] = ()
    configured_limit: int = 0
    oom_kills: int | None = None
    oom_kills_above: int | None = None
    high_breaches: int | None = None
    cores: float = 0.0
    thread: Thread | None = None
    quota: float | None = None
    throttled: float | None = None
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    open_files: int | None = None
    open_files_limit: int | None = None
    ports: tuple[int, ...] = ()

    @property
    def is_limit_enforced(self) -> bool:
        """False where the unit is told a limit of which the kernel knows nothing."""
        return not self.configured_limit or any(limit.cgroup == self.cgroup for limit in self.limits)


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """Who else uses the host: a unit or another control group.

    :param label: the unit and its largest program.
    """

    label: str
    held: int
    cores: float
    processes: int


@dataclasses.dataclass(frozen=True)
class Kill:
    """A process that the kernel killed for memory.

    :param at: unix seconds.
    :param cgroup: its own; ``limited`` the one whose limit was reached, empty where the host had no memory left.
    :param anonymous: bytes that it had; None where the kernel did not say.
    """

    at: float
    task: str
    pid: int
    cgroup: str
    limited: str
    anonymous: int | None

    def is_of(self, service: Service) -> bool:
        """Whether it was one of its processes; the path may begin above the container that we see."""
        path = f"{self.cgroup}/"
        return f"/{unit_name(service.name)}/" in path or bool(service.cgroup and f"{service.cgroup}/" in path)


@dataclasses.dataclass(frozen=True)
class Host:
    """What there is for all. Bytes, seconds and cores.

    :param busy: cores in use, by whomever; ``stolen`` those that the machine below did not give.
    :param swapping: bytes a second between memory and swap.
    :param oom_kills: since it booted, by the kernel's own count; None where it keeps none.
    :param kills: those that the kernel's log names; None where no log can be read, for the reason ``kills_unknown``.
    :param unseen: cores that nobody uses whom we can see: in a container the processes outside are not visible.
    """

    cores: int
    load: tuple[float, float, float]
    busy: float
    stolen: float
    memory: int
    available: int
    swap: int
    swap_used: int
    swapping: float
    cpu_pressure: Pressure | None
    memory_pressure: Pressure | None
    oom_kills: int | None
    kills: tuple[Kill, ...] | None
    kills_unknown: str
    is_container: bool
    unseen: float

    @property
    def available_share(self) -> float:
        return self.available / self.memory if self.memory else 0.0


@dataclasses.dataclass(frozen=True)
class Usage:
    """What was seen.

    :param seconds: between the two looks.
    :param not_known: clauses on what this kernel does not tell.
    """

    services: tuple[Service, ...]
    host: Host
    neighbours: tuple[Neighbour, ...]
    seconds: float
    not_known: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Process:
    pid: int
    name: str
    cgroup: str
    threads: int
    anonymous: int
    file: int
    shared: int
    swap: int
    cpu: float


@dataclasses.dataclass(frozen=True)
class _Managed:
    """What its manager says of a service; the same fields as in :class:`Service`."""

    kind: str = ""
    state: str = "there is neither a unit nor a container of this name"
    runs: bool = False
    result: str = ""
    restarts: int = 0
    started: float = 0.0
    main_pid: int = 0
    cgroup: str = ""
    configured_limit: int = 0


def measure(
    names: t.Sequence[str],
    seconds: float,
    root: Path = Path("/"),
    show: Show = show_units,
    find: Find = matching,
    wait: t.Callable[[float], None] = time.sleep,
) -> Usage:
    """
    :param names: of units, with or without ``.service``, patterns of those that run or failed, or of containers.
    :param seconds: over which the CPU is measured.
    :param root: of the file system that is read.
    """
    not_known: list[str] = []
    groups = _Groups(root, not_known)
    kills, kills_unknown = kernel_kills(root)
    known = _managed(named(names, find, not_known), root, show, not_known)
    first, begun = _Look(root, groups, known), time.monotonic()
    wait(seconds)
    second, took = _Look(root, groups, known), max(time.monotonic() - begun, seconds)
    services = tuple(_service(name, its, first, second, took, groups) for name, its in known.items())
    neighbours = _neighbours(first, second, took, {its.cgroup for its in known.values() if its.cgroup})
    seen = sum(neighbour.cores for neighbour in neighbours) + sum(service.cores for service in services)
    host = _host(root, first, second, took, kills, kills_unknown, seen)
    if host.cpu_pressure is None:
        not_known.append("this kernel keeps no account of pressure (PSI)")
    if host.kills is None:
        not_known.append(kills_unknown)
    return Usage(services, host, neighbours, took, tuple(not_known))


def named(names: t.Sequence[str], find: Find, not_known: list[str]) -> list[str]:
    """With the services that match in place of a pattern, each once."""
    found: dict[str, str] = {}
    for name in names:
        ones: list[str] | str = find(name, TIMEOUT) if set("*?[") & set(name) else [name]
        if isinstance(ones, str):
            not_known.append(f"which services match {name}: {ones}")
            continue
        for one in ones:
            found.setdefault(unit_name(one), one)
    return list(found.values())


class _Groups:
    """The control groups of version 2; of version 1 nothing is read but whose the processes are."""

    def __init__(self, root: Path, not_known: list[str]) -> None:
        self.mount = root / "sys/fs/cgroup"
        self.is_read = (self.mount / "cgroup.controllers").exists()
        if not self.is_read:
            not_known.append("this host has control groups of version 1, whose limits and pressure are not read")
        elif "memory" not in text(self.mount / "cgroup.controllers").split():
            not_known.append("there is no memory controller here, so that no limit of a unit's memory has any effect")

    def read(self, cgroup: str, name: str) -> str:
        return text(self.mount / cgroup.lstrip("/") / name) if self.is_read and cgroup else ""

    def numbers(self, cgroup: str, name: str) -> dict[str, int]:
        """A file of lines with a key and a number."""
        return numbers(self.read(cgroup, name))

    def number(self, cgroup: str, name: str) -> int | None:
        """None where there is no such file, or no limit."""
        written = self.read(cgroup, name).strip()
        return int(written) if written.isdecimal() else None

    def and_above(self, cgroup: str) -> list[str]:
        parts = [part for part in cgroup.split("/") if part]
        return ["/" + "/".join(parts[:length]) for length in range(len(parts), 0, -1)]

    def limits(self, cgroup: str) -> tuple[Limit, ...]:
        found = []
        for one in self.and_above(cgroup):
            for kind in ("memory.max", "memory.high"):
                most = self.number(one, kind)
                if most is not None:
                    found.append(Limit(one, kind, most, self.held(one) or 0))
        return tuple(found)

    def held(self, cgroup: str) -> int | None:
        """What counts against a limit, and cannot be taken back."""
        current, stat = self.number(cgroup, "memory.current"), self.numbers(cgroup, "memory.stat")
        if current is None:
            return None
        files = stat.get("inactive_file", 0) + stat.get("active_file", 0) + stat.get("slab_reclaimable", 0)
        return max(current - files, 0)


class _Look:
    """One moment of the host."""

    def __init__(self, root: Path, groups: _Groups, known: t.Mapping[str, _Managed]) -> None:
        self.processes = {process.pid: process for process in processes(root)}
        self.cpu = _cpu(text(root / "proc/stat"))
        self.vmstat = numbers(text(root / "proc/vmstat"))
        self.members = {
            name: [process for process in self.processes.values() if _is_below(process.cgroup, its.cgroup)]
            for name, its in known.items()
        }
        self.threads = {
            name: {key: row for process in members for key, row in _threads(root, process.pid).items()}
            for name, members in self.members.items()
        }
        self.cpu_stat = {name: groups.numbers(its.cgroup, "cpu.stat") for name, its in known.items()}
        self.root = root


def processes(root: Path) -> t.Iterator[_Process]:
    """Those that can be seen; one that ends meanwhile is left out."""
    for directory in (root / "proc").iterdir():
        if not directory.name.isdigit() or directory.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            name, fields = _stat((directory / "stat").read_text("utf-8", "replace"))
            status = {
                key: int(words.split()[0])
                for key, words in re.findall(
                    r"^(RssAnon|RssFile|RssShmem|VmSwap):\s+(\d+ kB)$",
                    (directory / "status").read_text("utf-8", "replace"),
                    re.MULTILINE,
                )
            }
            size = {key: kilobytes * 1024 for key, kilobytes in status.items()}
            yield _Process(
                pid=int(directory.name),
                name=name,
                cgroup=_cgroup_of((directory / "cgroup").read_text("utf-8", "replace")),
                threads=int(fields[17]),
                anonymous=size.get("RssAnon", 0),
                file=size.get("RssFile", 0),
                shared=size.get("RssShmem", 0),
                swap=size.get("VmSwap", 0),
                cpu=(int(fields[11]) + int(fields[12])) / TICKS,
            )


def kernel_kills(root: Path) -> tuple[tuple[Kill, ...] | None, str]:
    """Whom the kernel killed for memory since it booted; None and why where its log cannot be read.

    A log without a single line is no log that says "none": so it is in a container.
    """
    said = []
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    if root == Path("/"):
        command = ["journalctl", "--dmesg", "--boot", "--output=short-unix", "--quiet", "--no-pager"]
        done = _run(command)
        if isinstance(done, str):
            said.append(done)
        elif done.stdout.strip():
            return read_kills(_journal_lines(done.stdout)), ""
        else:
            said.append("journald holds no line of it")
    try:
        return read_kills(_kmsg_lines(root / "dev/kmsg", booted)), ""
    except OSError as error:
        said.append(f"/dev/kmsg: {error.strerror}")
    return None, f"the kernel's log cannot be read here ({'; '.join(said)})"


def read_kills(lines: t.Iterable[tuple[float, str]]) -> tuple[Kill, ...]:
    """Pure. :param lines: of the kernel's log, each with its time in unix seconds."""
    found: dict[int, Kill] = {}
    done: list[Kill] = []
    for at, line in lines:
        kill = _OOM.search(line)
        if kill:
            limited = kill["of"] or ""
            found[int(kill["pid"])] = Kill(at, kill["task"], int(kill["pid"]), kill["cgroup"], limited, None)
            continue
        killed = _KILLED.search(line)
        if killed and int(killed["pid"]) in found:
            whole = found.pop(int(killed["pid"]))
            done.append(dataclasses.replace(whole, anonymous=int(killed["anonymous"]) * 1024))
    return tuple(sorted([*done, *found.values()], key=lambda one: one.at))


def text(path: Path) -> str:
    """Of a file that may not be there; a control group goes with its last process."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def numbers(written: str) -> dict[str, int]:
    """Of lines with a key and a number; other lines are left out."""
    rows = (line.split() for line in written.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}


def pressure(written: str) -> Pressure | None:
    """Of a file of PSI; None where there is none."""
    found = _PRESSURE.search(written)
    return Pressure(*map(float, found.groups())) if found else None


def _managed(names: t.Sequence[str], root: Path, show: Show, not_known: list[str]) -> dict[str, _Managed]:
    found: dict[str, _Managed] = {}
    units = show([unit_name(name) for name in names], TIMEOUT) if names else {}
    if isinstance(units, str):
        not_known.append(f"systemd was not asked: {units}")
        units = {}
    for name in names:
        unit = units.get(unit_name(name))
        if unit is not None and unit.installed:
            found[name] = _Managed(
                kind="unit",
                state=str(unit),
                runs=unit.runs,
                result=unit.result,
                restarts=unit.restarts,
                started=unit.started,
                main_pid=unit.pid,
                cgroup=unit.cgroup,
                configured_limit=unit.memory_max,
            )
        else:
            found[name] = _container(name, root)
    return found


def _container(name: str, root: Path) -> _Managed:
    done = _run(["docker", "inspect", "--type=container", "--format={{json .}}", "--", name])
    if isinstance(done, str) or done.returncode:
        return _Managed()
    try:
        document = json.loads(done.stdout)
        state = document["State"]
        pid = int(state["Pid"])
        return _Managed(
            kind="container",
            state=f"container {name} is {state['Status']}",
            runs=bool(state["Running"]),
            result="oom-kill" if state["OOMKilled"] else "success",
            restarts=int(document["RestartCount"]),
            started=moment(state["StartedAt"]) or 0.0,
            main_pid=pid,
            cgroup=_cgroup_of(text(root / f"proc/{pid}/cgroup")) if pid else "",
            configured_limit=int(document["HostConfig"]["Memory"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        return _Managed(state=f"docker says something else of it: {error!r}")


def unit_name(name: str) -> str:
    """With its ending."""
    return name if "." in name else f"{name}.service"


def _service(name: str, its: _Managed, first: _Look, second: _Look, seconds: float, groups: _Groups) -> Service:
    members = second.members[name]
    before, after = first.cpu_stat[name], second.cpu_stat[name]
    held = groups.held(its.cgroup)
    stat = groups.numbers(its.cgroup, "memory.stat")
    events = groups.numbers(its.cgroup, "memory.events")
    above = groups.and_above(its.cgroup)[1:2]
    periods = after.get("nr_periods", 0) - before.get("nr_periods", 0)
    throttled = after.get("nr_throttled", 0) - before.get("nr_throttled", 0)
    limits = groups.limits(its.cgroup)
    files, most_files = _open_files(second.root, its.main_pid)
    return Service(
        name=name,
        **dataclasses.asdict(its),
        processes=len(members),
        threads=sum(process.threads for process in members),
        resident=sum(process.anonymous + process.file + process.shared for process in members),
        held=held if held is not None else sum(process.anonymous + process.shared for process in members),
        cache=stat.get("inactive_file", 0) + stat.get("active_file", 0) if stat else None,
        swap=sum(process.swap for process in members),
        current=groups.number(its.cgroup, "memory.current"),
        limit=max(limits, key=lambda limit: limit.share, default=None),
        limits=limits,
        oom_kills=events.get("oom_kill"),
        oom_kills_above=groups.numbers(above[0], "memory.events").get("oom_kill") if above else None,
        high_breaches=events.get("high"),
        cores=_cores(first.members[name], members, before, after, seconds),
        thread=_busiest(first.threads[name], second.threads[name], seconds),
        quota=_quota(groups, its.cgroup),
        throttled=throttled / periods if periods > 0 else 0.0 if "nr_periods" in after else None,
        cpu_pressure=pressure(groups.read(its.cgroup, "cpu.pressure")),
        memory_pressure=pressure(groups.read(its.cgroup, "memory.pressure")),
        open_files=files,
        open_files_limit=most_files,
        ports=_ports(second.root, [process.pid for process in members]),
    )


def _cores(
    old: t.Iterable[_Process],
    new: t.Iterable[_Process],
    before: t.Mapping[str, int],
    after: t.Mapping[str, int],
    seconds: float,
) -> float:
    # The control group also counts what ended meanwhile, and counts finer.
    if "usage_usec" in before and "usage_usec" in after:
        return max(after["usage_usec"] - before["usage_usec"], 0) / 1e6 / seconds
    was = {process.pid: process.cpu for process in old}
    return sum(max(process.cpu - was.get(process.pid, process.cpu), 0.0) for process in new) / seconds


def _quota(groups: _Groups, cgroup: str) -> float | None:
    """The least of its own and those above it, in cores."""
    found = []
    for one in groups.and_above(cgroup):
        words = groups.read(one, "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


class _ThreadTime(t.NamedTuple):
    """:param used: seconds of CPU. :param waited: seconds in which it had none and could have run; None: not told."""

    name: str
    used: float
    waited: float | None


_ThreadTimes = t.Dict[t.Tuple[int, int], _ThreadTime]


def _threads(root: Path, pid: int) -> _ThreadTimes:
    """By process and thread."""
    found: _ThreadTimes = {}
    with contextlib.suppress(OSError):
        for directory in (root / f"proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                name, fields = _stat((directory / "stat").read_text("utf-8", "replace"))
                used = (int(fields[11]) + int(fields[12])) / TICKS
                waited = None
                account = text(directory / "schedstat").split()
                # A kernel without the accounting has zeros there.
                if len(account) == 3 and int(account[0]):
                    used, waited = int(account[0]) / 1e9, int(account[1]) / 1e9
                found[pid, int(directory.name)] = _ThreadTime(name, used, waited)
    return found


def _busiest(first: _ThreadTimes, second: _ThreadTimes, seconds: float) -> Thread | None:
    rows = []
    for key, now in second.items():
        was = first.get(key)
        if was:
            waited = None
            if now.waited is not None and was.waited is not None:
                waited = max(now.waited - was.waited, 0.0) / seconds
            rows.append(Thread(key[0], now.name, max(now.used - was.used, 0.0) / seconds, waited))
    return max(rows, key=lambda thread: thread.cores, default=None)


def _neighbours(first: _Look, second: _Look, seconds: float, ours: set[str]) -> tuple[Neighbour, ...]:
    """All of them: so that what nobody uses can be told."""
    was = {pid: process.cpu for pid, process in first.processes.items()}
    groups: dict[str, list[_Process]] = {}
    for process in second.processes.values():
        if not any(_is_below(process.cgroup, one) for one in ours):
            groups.setdefault(_group(process), []).append(process)
    found = []
    for group, members in groups.items():
        cores = sum(max(one.cpu - was.get(one.pid, one.cpu), 0.0) for one in members) / seconds
        largest = max(members, key=lambda one: (one.anonymous, one.cpu))
        label = group if group == largest.name else f"{group} ({largest.name})"
        held = sum(one.anonymous + one.shared for one in members)
        found.append(Neighbour(label, held, cores, len(members)))
    return tuple(sorted(found, key=lambda one: (-one.held, one.label)))


def _group(process: _Process) -> str:
    """The unit, the container, or the program where it is in none."""
    named = [part for part in process.cgroup.split("/") if part.endswith((".service", ".scope"))]
    if named:
        return named[-1]
    parts = [part for part in process.cgroup.split("/") if part and not part.endswith(".slice")]
    return parts[-1] if parts else process.name


def _host(
    root: Path,
    first: _Look,
    second: _Look,
    seconds: float,
    kills: tuple[Kill, ...] | None,
    kills_unknown: str,
    seen: float,
) -> Host:
    memory = {
        key: int(kilobytes) * 1024
        for key, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB$", text(root / "proc/meminfo"), re.MULTILINE)
    }
    load = [float(word) for word in text(root / "proc/loadavg").split()[:3]]
    busy = max(second.cpu.busy - first.cpu.busy, 0.0) / seconds
    swapped = sum(second.vmstat.get(key, 0) - first.vmstat.get(key, 0) for key in ("pswpin", "pswpout"))
    total, free = memory.get("SwapTotal", 0), memory.get("SwapFree", 0)
    return Host(
        cores=second.cpu.cores,
        load=(load[0], load[1], load[2]) if len(load) == 3 else (0.0, 0.0, 0.0),
        busy=busy,
        stolen=max(second.cpu.stolen - first.cpu.stolen, 0.0) / seconds,
        memory=memory.get("MemTotal", 0),
        available=memory.get("MemAvailable", 0),
        swap=total,
        swap_used=total - free,
        swapping=max(swapped, 0) * PAGE / seconds,
        cpu_pressure=pressure(text(root / "proc/pressure/cpu")),
        memory_pressure=pressure(text(root / "proc/pressure/memory")),
        oom_kills=second.vmstat.get("oom_kill"),
        kills=kills,
        kills_unknown=kills_unknown,
        is_container=is_container(root),
        unseen=max(busy - seen, 0.0),
    )


class _Cpu(t.NamedTuple):
    cores: int
    busy: float
    stolen: float


def _cpu(written: str) -> _Cpu:
    """Of ``/proc/stat``: seconds since it booted, over all cores."""
    cores = len(re.findall(r"^cpu\d+ ", written, re.MULTILINE))
    words = written.split("\n", 1)[0].split()[1:]
    ticks = [int(word) for word in words] + [0] * (8 - len(words))
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = ticks[:8]
    return _Cpu(cores or 1, (user + nice + system + interrupts + soft) / TICKS, stolen / TICKS)


def _stat(written: str) -> tuple[str, list[str]]:
    """Name and the fields from the third on: a name may hold spaces and brackets."""
    start, end = written.index("("), written.rindex(")")
    return written[start + 1 : end], written[end + 1 :].split()


def _cgroup_of(written: str) -> str:
    """Of version 2; where all controllers are of version 1, that of systemd."""
    rows = [line.split(":", 2) for line in written.splitlines() if line.count(":") >= 2]
    by_name = {"systemd" if names == "name=systemd" else number: path for number, names, path in rows}
    unified = by_name.get("0", "")
    return unified if unified not in ("", "/") else by_name.get("systemd", unified)


def _is_below(cgroup: str, parent: str) -> bool:
    return parent not in ("", "/") and (cgroup == parent or cgroup.startswith(f"{parent}/"))


def _open_files(root: Path, pid: int) -> tuple[int | None, int | None]:
    """Of the main process, and how many it may have."""
    if not pid:
        return None, None
    found = re.search(r"^Max open files\s+(\d+)", text(root / f"proc/{pid}/limits"), re.MULTILINE)
    try:
        count: int | None = sum(1 for _entry in os.scandir(root / f"proc/{pid}/fd"))
    except OSError:
        count = None
    return count, int(found[1]) if found else None


def _ports(root: Path, pids: t.Sequence[int]) -> tuple[int, ...]:
    """In the network that its first process sees."""
    if not pids:
        return ()
    listening = {}
    for name in ("tcp", "tcp6"):
        for line in text(root / f"proc/{pids[0]}/net/{name}").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENING:
                listening[words[9]] = int(words[1].rsplit(":", 1)[1], 16)
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(root / f"proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    socket = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path))
                    if socket and socket[1] in listening:
                        found.add(listening[socket[1]])
    return tuple(sorted(found))


def _journal_lines(written: str) -> t.Iterator[tuple[float, str]]:
    for line in written.splitlines():
        at, _space, rest = line.partition(" ")
        with contextlib.suppress(ValueError):
            yield float(at), rest


def _kmsg_lines(path: Path, booted: float) -> list[tuple[float, str]]:
    """
    :raises OSError: where it cannot be read.
    """
    written = b""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                record = os.read(handle, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:
                # Overwritten while it was read: what comes next is there.
                continue
            if not record:
                break
            written += record
    finally:
        os.close(handle)
    found = []
    for line in written.decode("utf-8", "replace").splitlines():
        head, semicolon, message = line.partition(";")
        fields = head.split(",")
        if semicolon and len(fields) > 2 and fields[2].isdecimal():
            found.append((booted + int(fields[2]) / 1e6, message))
    return found


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | str:
    """What came of a command, or why it could not be asked."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        return f"there is no {command[0]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode and command[0] == "journalctl":
        return f"journalctl ended with {done.returncode}: {first_line(done.stderr)}"
    return done
