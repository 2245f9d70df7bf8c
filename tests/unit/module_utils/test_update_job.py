# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole update on stand-ins: what is refused, what comes back by itself, and that a kill anywhere loses nothing."""

from __future__ import annotations

import dataclasses
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import PROVEN, State
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import Manifest, Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.service import NotDone
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Unreachable
from ansible_collections.njord.telemetry.plugins.module_utils._update import job
from ansible_collections.njord.telemetry.plugins.module_utils._update.gate import Account, compare
from ansible_collections.njord.telemetry.plugins.module_utils._update.programs import Failed, NotPossible

OLD, NEW = "2.53.3", "3.5.3"
SICK = Finding("service.ready", "prometheus", "critical", "It is not ready.")


class Killed(BaseException):
    """What a SIGKILL looks like from inside: nothing of ours runs any more."""


@dataclasses.dataclass
class World:
    """A host with one service.

    :param wanted: the pinned version.
    :param bad: versions that are not well. :param unfit: those that do not even start. :param slow: those that have
        scraped nothing yet.
    :param kill_at: which call is the last one; never where it is negative.
    """

    root: Path
    wanted: str = NEW
    bad: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    lacks: str = ""
    kill_at: int = -1
    version: str = OLD
    is_running: bool = True
    calls: int = 0
    sick: tuple[Finding, ...] = ()

    @property
    def directory(self) -> Path:
        return self.root / "metrics2"

    def step(self) -> None:
        if self.calls == self.kill_at:
            raise Killed
        self.calls += 1

    def data(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.directory)): path.read_text()
            for path in self.directory.rglob("*")
            if path.is_file()
        }


class Programs:
    setting = "prometheus_version"

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def directory(self) -> Path:
        program = self.world.root / "bin" / "prometheus"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho 'prometheus, version {self.world.version} (x)'\n")
        program.chmod(0o755)
        return program.parent

    def installed(self) -> str:
        return self.world.version

    def wanted(self) -> str:
        return self.world.wanted

    def available(self) -> str:
        return f"{NEW} can be had"

    def plan(self) -> list[tuple[str, str, str]]:
        if self.world.wanted == "9":
            raise NotPossible("prometheus 9 is not to be had")
        same = self.world.version == self.world.wanted
        return [] if same else [("prometheus", self.world.version, self.world.wanted)]

    def lacks(self) -> str:
        return self.world.lacks

    def fetch(self, vault: Path) -> Path:
        self.world.step()
        (vault / "old").write_text(self.world.version)
        return vault

    def switch(self, vault: Path) -> None:
        self.world.step()
        self.world.version = self.world.wanted
        self.world.step()

    def back(self, vault: Path) -> None:
        self.world.step()
        self.world.version = (vault / "old").read_text()
        self.world.step()

    def tidy(self) -> None:
        self.world.step()


class Service:
    def __init__(self, world: World) -> None:
        self.world = world

    def is_running(self) -> bool:
        return self.world.is_running

    def stop(self) -> None:
        self.world.step()
        self.world.is_running = False
        self.world.step()

    def start(self) -> None:
        self.world.step()
        if self.world.version in self.world.unfit:
            raise NotDone(f"systemctl start ended with 1 for {self.world.version}")
        self.world.is_running = True
        # It writes as soon as it runs.
        with (self.world.directory / "wal").open("a") as log:
            log.write(f" by {self.world.version}")
        self.world.step()

    def ended(self) -> str:
        return "" if self.world.is_running else "unit prometheus is failed"


class Gate:
    service, unit = "prometheus", "prometheus"

    def __init__(self, world: World) -> None:
        self.world = world

    def look(self, times: t.Iterable[int] = ()) -> Account:
        findings = (*self.world.sick, *(() if self.world.is_running else (SICK,)))
        targets = frozenset() if self.world.version in self.world.bad else frozenset({"prometheus a"})
        account = Account(self.world.version, findings, up=targets, rules=4, series=100)
        is_slow = self.world.version in self.world.slow
        return dataclasses.replace(account, up=frozenset(), fresh=targets) if is_slow else account

    def wait(
        self, before: Account, version: str, seconds: float, ended: t.Callable[[], str], has_turns: bool = True
    ) -> tuple[Account, list[str]]:
        self.world.step()
        return self.look(), compare(before, self.look(), version)


class Server:
    """A Prometheus as far as an update asks it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server = type("Server", (), {"url": "http://127.0.0.1:9090"})()

    def _ask(self) -> t.Any:
        raise Unreachable("GET it", "refused")

    runtime = flags_of_the_host = _ask

    def flags(self) -> dict[str, str]:
        return {"config.file": "/etc/prometheus/prometheus.yml"}

    def oldest(self) -> float | None:
        return None

    def ready(self) -> None:
        if not self.world.is_running:
            self._ask()


class Catalogue:
    def __init__(self, world: World, age: float | None, level: str = PROVEN) -> None:
        self.world, self.age, self.level = world, age, level

    def entries(self) -> list[t.Any]:
        if self.age is None:
            return []
        part = Part("prometheus", str(self.world.directory), (), (), {})
        manifest = Manifest("20260131T020000Z", time.time() - self.age, "host", (part,))
        entry = type("Entry", (), {"manifest": manifest, "created": manifest.created})()
        entry.state = lambda _part: State(level=self.level)
        return [entry]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.directory.mkdir()
    (made.directory / "wal").write_text("samples")
    return made


def update(
    world: World, *, check: bool = False, age: float | None = 3600.0, level: str = PROVEN, one_way: bool = False
) -> job.Told:
    data = job.Data(
        t.cast(t.Any, Server(world)),
        "none.service",
        str(world.directory),
        t.cast(t.Any, Catalogue(world, age, level)),
        86400.0,
    )
    work = job.Job(
        title="Prometheus",
        program="prometheus",
        programs=Programs(world),
        gate=t.cast(t.Any, Gate(world)),
        service=Service(world),
        vault=world.root / "vault" / "prometheus",
        data=data,
        wait=1.0,
        is_one_way=one_way,
    )
    return job.run(work, check)


def checks(told: job.Told) -> list[tuple[str, str]]:
    return [(finding.check, finding.severity) for finding in told.findings]


def leftovers(world: World) -> list[str]:
    """What lies beside the data, and the vault."""
    beside = [path.name for path in world.root.iterdir() if "update" in path.name]
    return sorted(beside) + [str(path) for path in (world.root / "vault").glob("*")]


def test_an_update_that_is_well_stays_and_leaves_nothing_behind(world: World) -> None:
    told = update(world)
    assert checks(told) == [("update.done", "ok")]
    assert (told.installed, told.is_changed, world.is_running) == (NEW, True, True)
    assert world.data() == {"wal": f"samples by {NEW}"}
    assert leftovers(world) == []
    again = update(world)
    assert (checks(again), again.is_changed, again.steps) == ([("update.version", "ok")], False, ())


def test_an_update_whose_targets_had_no_turn_stays_and_is_not_called_proven(world: World) -> None:
    world.slow = (NEW,)
    told = update(world)
    assert checks(told) == [("update.done", "unknown")]
    assert "as well as before" not in told.findings[0].summary
    assert (
        "1 targets and rules that were well before had no turn since, such as prometheus a" in told.findings[0].summary
    )
    assert "telemetry_update_wait" in told.findings[0].remedy
    assert (told.installed, leftovers(world)) == (NEW, [])


def test_an_interrupted_update_whose_targets_had_no_turn_is_ended_and_not_called_proven(world: World) -> None:
    world.slow, world.kill_at = (NEW,), 7
    with pytest.raises(Killed):
        update(world)
    world.kill_at = -1
    ended = update(world)
    assert ended.findings[0].check == "update.recovered", ended
    assert (ended.findings[0].severity, world.version) == ("unknown", NEW), ended
    assert "had no turn since" in ended.findings[0].summary


def test_a_check_has_the_plan_of_the_run_and_changes_nothing(world: World) -> None:
    planned = update(world, check=True)
    assert checks(planned) == [("update.plan", "info")]
    assert (world.version, world.calls, planned.is_changed) == (OLD, 0, True)
    assert update(world).steps == planned.steps


@pytest.mark.parametrize(
    ("change", "options", "word", "remedy"),
    [
        ({"sick": (SICK,)}, {}, "what is sick is not updated: It is not ready.", "service-health.yml"),
        ({}, {"age": None}, "is proven (there is none)", "backup.yml"),
        ({}, {"level": "verified"}, "is proven (there is none)", "backup.yml"),
        ({}, {"age": 100_000.0}, "the newest is 1 d 4 h old", "backup.yml"),
        ({"lacks": "its package is gone"}, {}, "There is no way back from Prometheus 3.5.3", "one_way"),
        ({"wanted": "1.8.2"}, {}, "is not known to read what 2.53.3 has written", ""),
        ({"wanted": "9"}, {}, "prometheus 9 is not to be had", ""),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_changes(
    world: World, change: dict[str, t.Any], options: dict[str, t.Any], word: str, remedy: str
) -> None:
    for name, value in change.items():
        setattr(world, name, value)
    for check in (True, False):
        told = update(world, check=check, **options)
        assert checks(told) == [("update.refused", "critical")]
        assert word in told.findings[0].summary
        assert remedy in told.findings[0].remedy
        assert (world.version, world.calls, told.is_changed) == (OLD, 0, False)


def test_without_a_pinned_version_it_says_what_could_be_had(world: World) -> None:
    world.wanted = ""
    told = update(world, age=None)
    assert checks(told) == [("update.version", "info")]
    assert f"{NEW} can be had" in told.findings[0].summary
    assert not told.is_changed


def test_what_is_not_installed_is_unknown(world: World) -> None:
    world.version = ""
    assert checks(update(world)) == [("update.version", "unknown")]


def test_a_version_that_is_not_well_goes_and_the_data_of_before_come_back(world: World) -> None:
    world.bad = (NEW,)
    told = update(world)
    assert checks(told) == [("update.failed", "critical")]
    assert "1 of 1 targets are not up again" in told.findings[0].summary
    assert f"{OLD} is back, as well as before" in told.findings[0].summary
    assert world.data() == {"wal": f"samples by {OLD}"}
    kept = Path(told.findings[0].evidence["kept"])
    assert (kept / "wal").read_text() == f"samples by {NEW}"
    assert leftovers(world) == [kept.name]


def test_a_version_that_does_not_start_goes_and_nothing_has_to_be_kept(world: World) -> None:
    world.unfit = (NEW,)
    told = update(world)
    assert checks(told) == [("update.failed", "critical")]
    assert (world.version, world.is_running) == (OLD, True)
    assert world.data() == {"wal": f"samples by {OLD}"}
    assert leftovers(world) == []


def test_a_version_whose_data_the_old_one_reads_goes_and_they_stay(world: World) -> None:
    world.version, world.bad = "3.1.0", (NEW,)
    told = update(world)
    assert checks(told) == [("update.failed", "critical")]
    assert world.data() == {"wal": f"samples by {NEW} by 3.1.0"}
    assert leftovers(world) == []


def test_where_neither_is_well_it_says_so_and_the_next_run_tries_the_way_back_again(world: World) -> None:
    world.unfit = (NEW, OLD)
    told = update(world)
    assert checks(told) == [("update.failed", "critical")]
    assert "the way back to 2.53.3 failed" in told.findings[0].summary
    world.unfit = (NEW,)
    again = update(world, check=True)
    assert checks(again) == [("update.recovered", "critical")]
    ended = update(world, age=None)
    assert checks(ended)[0] == ("update.failed", "critical")
    assert (world.version, world.is_running, world.data()) == (OLD, True, {"wal": f"samples by {OLD}"})


def test_programs_that_change_half_way_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Programs, _vault: Path) -> None:
        self.world.version = "half of it"
        raise Failed("dpkg ended with 1")

    monkeypatch.setattr(Programs, "switch", half)
    told = update(world)
    assert "dpkg ended with 1" in told.findings[0].summary
    assert (world.version, world.is_running, world.data()) == (OLD, True, {"wal": f"samples by {OLD}"})


@pytest.mark.parametrize("bad", [(), (NEW,)], ids=["well", "not well"])
@pytest.mark.parametrize("is_started_again", [False, True], ids=["at once", "after a boot"])
@pytest.mark.parametrize("kill_at", range(16))
def test_a_kill_at_any_step_is_ended_by_the_next_run_and_no_sample_is_lost(
    world: World, kill_at: int, bad: tuple[str, ...], is_started_again: bool
) -> None:
    world.bad, world.kill_at = bad, kill_at
    try:
        update(world)
    except Killed:
        world.kill_at = -1
        if is_started_again and not world.is_running:
            Service(world).start()
        # Whoever comes then only ends it: there is no backup any more.
        update(world, age=None)
    assert world.is_running
    assert world.version in (OLD, *([NEW] if not bad else []))
    everything = world.data()["wal"] + "".join(path.read_text() for path in world.root.glob("metrics2.*/wal"))
    assert everything.startswith("samples")
    if world.version == OLD:
        # Nothing that the old version would not read.
        assert NEW not in world.data()["wal"]
    assert [name for name in leftovers(world) if "after-update" not in name] == []
