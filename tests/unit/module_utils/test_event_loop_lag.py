# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is late, by which sign; what is named as the cause, in which order; and what a remedy is said to gain."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.runtime import event_loop_lag
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.publisher import Entry
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Sample, Target
from ansible_collections.njord.telemetry.plugins.module_utils._resources import Pressure, Service, Thread, Usage

from .runtime import NOW, Server9090, neighbour, scraped, service, usage

METRIC = event_loop_lag.METRIC
EMITTED_BY_NOBODY = Entry(METRIC, "catalog", "gauge")


def look(
    seen: Usage, server: Server9090 | None = None, catalogue: t.Sequence[Entry] = (EMITTED_BY_NOBODY,)
) -> list[Finding]:
    question = event_loop_lag.Question(6 * 3600, 0.1, 30, catalogue)
    asked = event_loop_lag.Look(server or Server9090(), seen, question, None)
    asked.now = NOW
    return asked.findings()


def of(findings: t.Sequence[Finding], subject: str) -> Finding:
    (found,) = [one for one in findings if one.subject == subject]
    return found


def late(cores: float = 0.3, waited: float | None = 0.4, **told: t.Any) -> Service:
    return service(thread=Thread(7, "python3", cores, waited), throttled=told.pop("throttled", 0.0), **told)


def test_a_service_that_gets_its_cpu_is_ok_and_the_metric_that_nobody_emits_is_no_trouble() -> None:
    findings = look(usage(late(0.2, 0.01)))
    assert {one.severity for one in findings} <= {"ok", "info"}
    assert "No part of this version of Njord publishes" in of(findings, METRIC).summary
    assert of(look(usage(), catalogue=[]), METRIC).severity == "unknown"


def test_a_neighbour_that_takes_the_cores_is_named() -> None:
    findings = look(usage(late(), neighbours=[neighbour(cores=1.6)], busy=2.0))
    finding = of(findings, "njord-risk")
    assert (finding.severity, finding.evidence["cause"]) == ("warning", "a neighbour")
    assert "had no CPU for 40% of the time: 2.0 of 2 cores are busy, and backtest.service (python3)" in finding.summary
    assert of(findings, "host").severity == "warning"
    gains = {one["name"]: one["gain"] for one in of(findings, "event loop lag").evidence["remedies"]}
    assert gains["moving backtest.service (python3) elsewhere"] == 1.6
    assert "systemctl set-property backtest.service CPUWeight=10" in of(findings, "njord-risk").remedy


def test_one_of_the_named_services_may_be_the_neighbour() -> None:
    busy = service("njord-replay", cores=1.5, cgroup="/system.slice/njord-replay.service")
    finding = of(look(usage(late(), busy, busy=2.0)), "njord-risk")
    assert "njord-replay takes 1.5 of them" in finding.summary


def test_who_cannot_be_seen_from_a_container_is_said_to_be_outside() -> None:
    finding = of(look(usage(late(), busy=2.0, unseen=1.7, is_container=True)), "njord-risk")
    assert finding.evidence["cause"] == "a neighbour"
    assert "by somebody outside this container" in finding.summary


def test_a_machine_below_that_gives_no_cpu_is_the_neighbour() -> None:
    finding = of(look(usage(late(), stolen=0.8)), "njord-risk")
    assert "the machine below this one takes 40% of its CPU" in finding.summary


def test_a_quota_that_is_used_up_comes_before_the_core_that_it_keeps_from_the_service() -> None:
    finding = of(look(usage(late(0.2, 0.8, throttled=0.9, quota=0.2))), "njord-risk")
    assert finding.evidence["cause"] == "its CPU quota"
    assert "was halted in 90% of the periods" in finding.summary
    assert "0.2 cores is too small" in finding.summary


def test_a_thread_that_needs_a_whole_core_is_the_service_itself() -> None:
    finding = of(look(usage(late(0.98, 0.01))), "njord-risk")
    assert finding.evidence["cause"] == "the service itself"
    assert "py-spy dump --pid 7" in finding.remedy


def test_memory_that_it_waits_for_comes_before_the_cpu() -> None:
    finding = of(look(usage(late(memory_pressure=Pressure(30, 20, 5)), busy=2.0)), "njord-risk")
    assert finding.evidence["cause"] == "shortage of memory"
    swapped = late(swap=5000000)
    assert of(look(usage(swapped, swapping=1e6, busy=2.0)), "njord-risk").evidence["cause"] == "shortage of memory"


def exporter(rates: t.Sequence[float] = (), targets: t.Sequence[Target] = (), duration: float = 0.02) -> Server9090:
    points = [(NOW - 1000 + n, rate) for n, rate in enumerate(rates)]
    samples = {"scrape_duration_seconds": [Sample({}, duration, NOW)]}
    return Server9090(targets or [scraped(9091)], ranges={"messages_total": points}, samples=samples)


def test_a_storm_of_messages_is_told_by_what_is_usual() -> None:
    finding = of(look(usage(late(0.97, 0.0)), exporter([20] * 50 + [900])), "njord-risk")
    assert finding.evidence["cause"] == "a storm of messages"
    assert "900 messages a second come over the bus, where 20 are usual" in finding.summary
    assert of(look(usage(late(0.97, 0.0)), exporter([20] * 51)), "njord-risk").evidence["cause"] == "the service itself"


def test_scrapes_that_take_long_and_several_jobs_for_one_target_are_named() -> None:
    twice = [scraped(9091, "fast", 5), scraped(9091, "slow", 60)]
    finding = of(look(usage(late(0.4, 0.0)), exporter(targets=twice, duration=2.5)), "njord-risk")
    assert finding.evidence["cause"] == "its scrapes"
    assert "takes 2.5 s for a scrape every 5 s: 2 jobs scrape it (fast, slow)" in finding.summary


def test_what_no_kernel_account_tells_is_not_known() -> None:
    finding = of(look(usage(late(0.2, None))), "njord-risk")
    assert finding.severity == "unknown"
    assert "whether it waits for one is not known" in finding.summary
    pressed = late(0.2, None, cpu_pressure=Pressure(50, 40, 30))
    assert of(look(usage(pressed)), "njord-risk").severity == "warning"


def test_a_cause_that_is_not_to_be_seen_is_not_made_up() -> None:
    finding = of(look(usage(late()), Server9090(dead=True)), "njord-risk")
    assert finding.evidence["cause"] == "unknown"
    assert "connection refused" in finding.summary


@pytest.mark.parametrize(("now", "least", "severity"), [(0.5, 0.3, "warning"), (0.5, 0.05, "ok"), (0.02, 0.02, "ok")])
def test_a_lag_that_is_published_has_to_last(now: float, least: float, severity: str) -> None:
    labels = {"service": "risk", "instance": "h:1"}
    samples = {f"min_over_time({METRIC}": [Sample(labels, least, NOW)], METRIC: [Sample(labels, now, NOW)]}
    seen = usage(late(0.99, 0.0))
    finding = of(look(seen, Server9090(samples=samples)), f"{METRIC} of risk")
    assert finding.severity == severity
    if severity == "warning":
        assert "lags by 500 ms, more than 100 ms for 30 s; one thread (python3) needs a whole core" in finding.summary


def test_a_busy_host_on_which_nobody_waits_is_no_trouble() -> None:
    assert of(look(usage(late(0.3, 0.0), busy=2.0)), "host").severity == "info"


def test_a_service_that_does_not_run_is_never_well() -> None:
    findings = look(usage(service(runs=False), service("gone", kind="", runs=False)))
    assert of(findings, "njord-risk").severity == "warning"
    assert of(findings, "gone").severity == "unknown"


def test_what_a_scrape_costs_is_only_said_where_it_was_measured() -> None:
    gains = {one["name"]: one["gain"] for one in of(look(usage(late())), "event loop lag").evidence["remedies"]}
    assert gains == {"a longer scrape interval": None, "larger flushes": None}
