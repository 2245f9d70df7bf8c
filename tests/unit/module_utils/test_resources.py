# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a host that lies in a folder; a kernel of its own is in tests/service/test_runtime_kernel.py."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils import _resources
from ansible_collections.njord.telemetry.plugins.module_utils._resources import PAGE, TICKS, Kill, Service, Usage
from ansible_collections.njord.telemetry.plugins.module_utils._systemd import Unit
from hypothesis import given
from hypothesis import strategies as st

MEBIBYTE = 1024 * 1024
RISK = "/system.slice/njord-risk.service"
OOM = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/njord-risk.service,"
    "task_memcg=/system.slice/njord-risk.service,task=python3,pid=768,uid=0"
)
KILLED = (
    "Memory cgroup out of memory: Killed process 768 (python3) total-vm:60748kB, anon-rss:48932kB, file-rss:3488kB, "
    "shmem-rss:0kB, UID:0 pgtables:140kB oom_score_adj:0"
)
GLOBAL = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/user.slice/user-0.slice/session-1.scope,task=a, b(c,pid=77,uid=0"
)


class Root:
    """A host in a folder. Numbers are bytes and seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write(
            "proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 400000 kB\nSwapTotal: 1000 kB\nSwapFree: 600 kB\n"
        )
        self.write("proc/loadavg", "3.50 2.00 1.00 1/100 4711\n")
        self.cpu(0)
        self.write("proc/vmstat", "pswpin 10\npswpout 0\noom_kill 2\n")
        self.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
        self.write("dev/kmsg", "")

    def write(self, name: str, text: str) -> None:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def group(self, cgroup: str, **files: str) -> None:
        for name, text in files.items():
            self.write(f"sys/fs/cgroup{cgroup}/{name.replace('__', '.')}", text)

    def cpu(self, busy: float, stolen: float = 0) -> None:
        self.write(
            "proc/stat",
            f"cpu  {round(busy * TICKS)} 0 0 9000 0 0 0 {round(stolen * TICKS)} 0 0\ncpu0 1\ncpu1 1\nintr 5\n",
        )

    def process(self, pid: int, cgroup: str, name: str, held: int, cpu: float, waited: float = 0.0) -> None:
        stat = f"{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {round(cpu * TICKS)} 0 0 0 20 0 3 0 100 0 0\n"
        self.write(f"proc/{pid}/stat", stat)
        self.write(f"proc/{pid}/task/{pid}/stat", stat)
        self.write(f"proc/{pid}/task/{pid}/schedstat", f"{round(cpu * 1e9)} {round(waited * 1e9)} 9\n")
        self.write(
            f"proc/{pid}/status",
            f"Name:\tx\nRssAnon:\t  {held // 1024} kB\nRssFile:\t 2048 kB\nRssShmem:\t 0 kB\nVmSwap:\t 16 kB\n",
        )
        self.write(f"proc/{pid}/cgroup", f"0::{cgroup}\n")
        self.write(f"proc/{pid}/limits", "Max open files            1024                 4096                 files\n")
        (self.path / f"proc/{pid}/fd").mkdir(exist_ok=True)
        for number, aim in enumerate(("/dev/null", "socket:[555]")):
            link = self.path / f"proc/{pid}/fd/{number}"
            if not link.is_symlink():
                link.symlink_to(aim)
        row = "   0: 0100007F:2383 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 555 1 0 100 0 0 10 0\n"
        self.write(f"proc/{pid}/net/tcp", f"  sl  local_address\n{row}")

    def measure(self, *names: str, later: t.Callable[[], None] = lambda: None, **unit: t.Any) -> Usage:
        def show(wanted: t.Sequence[str], _timeout: float) -> dict[str, Unit]:
            row = {"cgroup": RISK, "pid": 100, "started": 5.0, **unit}
            there = Unit("njord-risk.service", "loaded", "active", "running", "success", 0, 0, since=1.0, **row)
            gone = Unit("x.service", "not-found", "inactive", "dead", "success", 0, 0, 0, 0.0)
            return {name: there if "risk" in name else gone for name in wanted}

        def find(pattern: str, _timeout: float) -> list[str] | str:
            return ["njord-risk.service"] if pattern == "njord-*" else "systemd does not answer"

        return _resources.measure(names, 10.0, self.path, show, find, lambda _seconds: later())


@pytest.fixture()
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path)
    made.process(100, RISK, "python3 (x) y", 50 * MEBIBYTE, cpu=100, waited=10)
    made.process(200, "/system.slice/backup.service", "tar", 300 * MEBIBYTE, cpu=7)
    made.group(
        RISK,
        memory__current=str(90 * MEBIBYTE),
        memory__max=str(80 * MEBIBYTE),
        memory__high="max",
        memory__stat=f"anon {50 * MEBIBYTE}\nfile 1\ninactive_file {20 * MEBIBYTE}\nactive_file {10 * MEBIBYTE}\n",
        memory__events="low 0\nhigh 3\nmax 9\noom 1\noom_kill 1\n",
        memory__pressure="some avg10=1.50 avg60=2.00 avg300=0.10 total=5\nfull avg10=9.00 avg60=9 avg300=9 total=1\n",
        cpu__stat="usage_usec 1000000\nnr_periods 100\nnr_throttled 0\n",
        cpu__max="20000 100000\n",
    )
    made.group("/system.slice", memory__max=str(100 * MEBIBYTE), memory__current=str(99 * MEBIBYTE))
    made.group("/system.slice", memory__events="oom_kill 4\n", memory__stat="inactive_file 0\n")
    return made


def only(usage: Usage) -> Service:
    (service,) = usage.services
    return service


def test_what_a_service_holds_is_what_the_kernel_cannot_take_back(root: Root) -> None:
    service = only(root.measure("njord-risk"))
    assert service.current == 90 * MEBIBYTE
    assert service.held == 60 * MEBIBYTE
    assert service.cache == 30 * MEBIBYTE
    assert service.resident == 52 * MEBIBYTE
    assert (service.processes, service.threads, service.swap) == (1, 3, 16384)
    assert (service.open_files, service.open_files_limit, service.ports) == (2, 1024, (9091,))


def test_the_nearest_limit_counts_be_it_of_a_parent(root: Root) -> None:
    service = only(root.measure("njord-risk"))
    assert [(limit.cgroup, limit.bytes // MEBIBYTE) for limit in service.limits] == [(RISK, 80), ("/system.slice", 100)]
    assert service.limit
    assert service.limit.cgroup == "/system.slice"
    assert service.limit.share == pytest.approx(0.99)
    assert (service.oom_kills, service.oom_kills_above, service.high_breaches) == (1, 4, 3)


def test_cpu_is_what_was_used_between_the_two_looks(root: Root) -> None:
    def later() -> None:
        root.process(100, RISK, "python3 (x) y", 50 * MEBIBYTE, cpu=105, waited=12)
        root.process(200, "/system.slice/backup.service", "tar", 300 * MEBIBYTE, cpu=17)
        root.group(RISK, cpu__stat="usage_usec 6000000\nnr_periods 200\nnr_throttled 40\n")
        root.cpu(18, stolen=2)
        root.write("proc/vmstat", "pswpin 20\npswpout 10\noom_kill 2\n")

    usage = root.measure("njord-risk", later=later)
    service = only(usage)
    assert service.cores == pytest.approx(0.5)
    assert service.thread
    assert service.thread.cores == pytest.approx(0.5)
    assert service.thread.waited == pytest.approx(0.2)
    assert service.throttled == pytest.approx(0.4)
    assert service.quota == pytest.approx(0.2)
    assert service.memory_pressure
    assert service.memory_pressure.avg10 == 1.5
    assert usage.host.busy == pytest.approx(1.8)
    assert usage.host.stolen == pytest.approx(0.2)
    assert usage.host.unseen == pytest.approx(0.3)
    assert usage.host.swapping == 2 * PAGE
    assert usage.host.load == (3.5, 2.0, 1.0)
    (neighbour,) = usage.neighbours
    assert neighbour.label == "backup.service (tar)"
    assert neighbour.held == 300 * MEBIBYTE
    assert neighbour.cores == pytest.approx(1.0)


def test_a_host_without_the_memory_controller_has_no_limit_in_effect_and_says_so(root: Root, tmp_path: Path) -> None:
    root.write("sys/fs/cgroup/cgroup.controllers", "cpu\n")
    for name in ("memory.max", "memory.current", "memory.stat", "memory.events"):
        (tmp_path / f"sys/fs/cgroup{RISK}/{name}").unlink()
        (tmp_path / f"sys/fs/cgroup/system.slice/{name}").unlink(missing_ok=True)
    usage = root.measure("njord-risk", memory_max=64 * MEBIBYTE)
    service = only(usage)
    assert service.limits == ()
    assert not service.is_limit_enforced
    assert (service.held, service.cache, service.oom_kills) == (50 * MEBIBYTE, None, None)
    assert any("no memory controller" in said for said in usage.not_known)


def test_control_groups_of_version_1_are_not_read_and_processes_are_found_all_the_same(
    root: Root, tmp_path: Path
) -> None:
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").unlink()
    root.write("proc/100/cgroup", f"4:memory:{RISK}\n1:name=systemd:{RISK}\n0::/\n")
    usage = root.measure("njord-risk")
    assert (only(usage).processes, only(usage).held, only(usage).throttled) == (1, 50 * MEBIBYTE, None)
    assert any("version 1" in said for said in usage.not_known)


def test_a_service_that_is_not_there_is_of_no_kind(root: Root) -> None:
    service = only(root.measure("nobody"))
    assert (service.kind, service.runs) == ("", False)
    assert "neither a unit nor a container" in service.state


def test_a_pattern_stands_for_the_units_that_match_and_each_comes_once(root: Root) -> None:
    usage = root.measure("njord-risk", "njord-*", "x*")
    assert only(usage).name == "njord-risk"
    assert "which services match x*: systemd does not answer" in usage.not_known


def test_a_kernel_without_accounts_tells_nothing_of_pressure_and_waiting(root: Root, tmp_path: Path) -> None:
    (tmp_path / f"sys/fs/cgroup{RISK}/memory.pressure").unlink()
    root.write("proc/100/task/100/schedstat", "0 0 0\n")
    usage = root.measure("njord-risk")
    thread = only(usage).thread
    assert thread
    assert (only(usage).memory_pressure, thread.waited) == (None, None)
    assert "this kernel keeps no account of pressure (PSI)" in usage.not_known


def test_a_log_of_the_kernel_that_cannot_be_read_is_not_known_and_not_empty(root: Root, tmp_path: Path) -> None:
    assert root.measure().host.kills == ()
    (tmp_path / "dev/kmsg").unlink()
    host = root.measure().host
    assert host.kills is None
    assert "cannot be read here" in host.kills_unknown
    assert host.oom_kills == 2


def test_whom_the_kernel_killed_is_read_from_its_log(root: Root) -> None:
    root.write("dev/kmsg", f"6,1,1000000,-;usb 1-1: new\n6,2,2000000,-;{OOM}\n SUBSYSTEM=x\n3,3,2000001,-;{KILLED}\n")
    usage = root.measure("njord-risk")
    assert usage.host.kills
    (kill,) = usage.host.kills
    assert (kill.task, kill.pid, kill.cgroup, kill.limited, kill.anonymous) == (
        "python3",
        768,
        RISK,
        RISK,
        48932 * 1024,
    )
    assert kill.is_of(only(usage))


def test_a_kill_for_the_whole_host_has_no_limit_and_a_name_may_hold_anything() -> None:
    (kill,) = _resources.read_kills([(5.0, GLOBAL)])
    assert kill == Kill(5.0, "a, b(c", 77, "/user.slice/user-0.slice/session-1.scope", "", None)
    assert not kill.is_of(Service("njord-risk"))


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.sampled_from([OOM, KILLED, GLOBAL, "x", "oom-kill:", "Killed process"])))
)
def test_every_line_of_a_kill_is_one_kill_in_order_of_time(lines: list[tuple[float, str]]) -> None:
    kills = _resources.read_kills(lines)
    assert len(kills) <= sum(line in (OOM, GLOBAL) for _at, line in lines)
    assert [kill.at for kill in kills] == sorted(kill.at for kill in kills)
    assert {kill.pid for kill in kills} <= {77, 768}


@given(st.text())
def test_files_of_the_kernel_that_are_not_as_expected_give_nothing_and_no_error(written: str) -> None:
    assert isinstance(_resources.numbers(written), dict)
    assert _resources.pressure(written) is None
