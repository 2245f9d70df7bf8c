# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sign of trouble is seen, which cause is named, and what a remedy is said to gain."""

from __future__ import annotations

import dataclasses
import re
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.runtime import memory
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.publisher import Entry
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Sample
from ansible_collections.njord.telemetry.plugins.module_utils._resources import Kill, Usage

from .runtime import GIBIBYTE, MEBIBYTE, NOW, RISK, Server9090, began, grows, limit, neighbour, scraped, service, usage

EMITTED_BY_NOBODY = Entry(memory.METRIC, "catalog", "gauge")
FLAT, LEAK, STARTS = grows(100e6, 101e6), grows(100e6, 300e6), began()


def look(seen: Usage, server: Server9090, catalogue: t.Sequence[Entry] = (EMITTED_BY_NOBODY,)) -> list[Finding]:
    question = memory.Question(6 * 3600, 512 * MEBIBYTE, GIBIBYTE, catalogue)
    asked = memory.Look(server, seen, question)
    asked.now = NOW
    return asked.findings()


def of(findings: t.Sequence[Finding], subject: str) -> Finding:
    (found,) = [one for one in findings if one.subject == subject]
    return found


def server(points: t.Any = FLAT, **told: t.Any) -> Server9090:
    ranges = {"process_start_time": STARTS, "process_resident_memory": points, "tsdb_head_series": told.pop("head", [])}
    return Server9090([scraped(9091)], ranges=ranges, **told)


def test_a_service_that_is_well_is_ok_and_the_metric_that_nobody_emits_is_no_trouble() -> None:
    findings = look(usage(service()), server())
    assert {one.severity for one in findings} <= {"ok", "info"}
    assert "without steady growth" in of(findings, "njord-risk").summary
    assert "No part of this version of Njord publishes" in of(findings, memory.METRIC).summary


def test_a_metric_that_should_be_there_and_is_not_is_not_known() -> None:
    emitted = [dataclasses.replace(EMITTED_BY_NOBODY, source="emitted")]
    assert of(look(usage(service()), server(), emitted), memory.METRIC).severity == "unknown"
    assert of(look(usage(service()), server(), []), memory.METRIC).severity == "unknown"


def test_a_leak_is_named_with_its_rate_and_the_time_until_the_limit() -> None:
    finding = of(look(usage(service(**limit(300 * MEBIBYTE, 400 * MEBIBYTE))), server(LEAK)), "njord-risk")
    assert (finding.severity, finding.evidence["cause"]) == ("warning", "steady growth")
    assert "grew steadily from" in finding.summary
    assert "reaches its limit of 400 MiB in" in finding.summary
    assert [line["style"] for line in finding.evidence["chart"]["lines"]] == ["measured", "forecast"]


def test_a_growth_that_reaches_nothing_within_a_few_times_what_was_seen_of_it_is_no_trouble() -> None:
    finding = of(look(usage(service(), available=4 * GIBIBYTE), server(LEAK)), "njord-risk")
    assert finding.severity == "ok"
    assert "too little to reach anything soon" in finding.summary


def test_what_needs_no_more_than_before_has_a_limit_that_is_too_small() -> None:
    finding = of(look(usage(service(**limit(97 * MEBIBYTE, 98 * MEBIBYTE))), server()), "njord-risk")
    assert (finding.severity, finding.evidence["cause"]) == ("critical", "a limit that is too small")
    assert "does not grow" in finding.summary


def test_a_kill_at_its_limit_is_critical_and_says_when_and_where() -> None:
    kill = Kill(NOW - 60, "python3", 7, RISK, RISK, 48 * MEBIBYTE)
    finding = of(look(usage(service(), kills=(kill,)), server(LEAK)), "njord-risk")
    assert finding.severity == "critical"
    assert re.search(r"killed by the kernel for its memory 1 min.* ago, with 48 MiB, at", finding.summary)
    assert f"at the limit of {RISK}" in finding.summary
    assert finding.evidence["cause"] == "steady growth"
    limited = of(look(usage(service(configured_limit=50 * MEBIBYTE), kills=(kill,)), server(LEAK)), "njord-risk")
    assert "at its limit of 50 MiB" in limited.summary


def test_what_a_killed_service_was_is_found_by_when_it_started() -> None:
    kill = Kill(NOW - 60, "python3", 7, RISK, RISK, None)
    dead = service(runs=False, result="oom-kill", ports=(), configured_limit=50 * MEBIBYTE)
    labels = {"job": "njord_quant", "instance": "127.0.0.1:9091"}
    for started, cause in ((NOW - 9001, "steady growth"), (NOW - 5000, "unknown")):
        samples = {"process_start_time_seconds": [Sample(labels, started, NOW)]}
        finding = of(look(usage(dead, kills=(kill,)), server(LEAK, samples=samples)), "njord-risk")
        assert finding.evidence["cause"] == cause


def test_a_kill_that_only_systemd_knows_of_counts_as_well() -> None:
    dead = service(runs=False, result="oom-kill", configured_limit=48 * MEBIBYTE)
    finding = of(look(usage(dead, kills=None, kills_unknown="no log"), server([])), "njord-risk")
    assert finding.severity == "critical"
    assert "its limit is 48 MiB" in finding.summary


def test_a_cause_that_cannot_be_told_is_not_made_up() -> None:
    dead = service(**limit(97 * MEBIBYTE, 98 * MEBIBYTE))
    finding = of(look(usage(dead), Server9090(dead=True)), "njord-risk")
    assert finding.evidence["cause"] == "unknown"
    assert "why is not known" in finding.summary
    assert "connection refused" in finding.summary


def test_a_neighbour_is_to_blame_only_where_the_host_is_short_and_the_service_does_not_grow() -> None:
    kill = Kill(NOW - 60, "python3", 7, RISK, "", None)
    for points, available, cause in (
        (FLAT, 100 * MEBIBYTE, "a neighbour"),
        (LEAK, 100 * MEBIBYTE, "steady growth"),
    ):
        seen = usage(service(), neighbours=[neighbour(6 * GIBIBYTE)], kills=(kill,), available=available)
        findings = look(seen, server(points))
        assert of(findings, "njord-risk").evidence["cause"] == cause
        assert of(findings, "host").severity == "critical"
        assert "backtest.service (python3) holds the most, 6 GiB" in of(findings, "host").summary


@pytest.mark.parametrize(
    ("kills", "count", "severity", "said"),
    [
        ((), 3, "ok", "killed nobody for memory in the last 6 h"),
        (None, 0, "ok", "by its own count"),
        (None, 3, "info", "none of these services"),
        (None, None, "unknown", "is not known: no log"),
        ((Kill(NOW - 60, "tar", 9, "/a.service", "", None),), 1, "warning", "killed 1 others for memory, last tar of"),
        ((Kill(NOW - 9e5, "tar", 9, "/a.service", "", None),), 1, "ok", "killed nobody"),
    ],
)
def test_whether_somebody_was_killed_is_known_or_said_not_to_be(
    kills: tuple[Kill, ...] | None, count: int | None, severity: str, said: str
) -> None:
    seen = usage(service(), kills=kills, oom_kills=count, kills_unknown="no log")
    finding = of(look(seen, server()), "host")
    assert finding.severity == severity
    assert said in finding.summary


def test_a_limit_without_effect_is_a_warning() -> None:
    finding = of(look(usage(service(configured_limit=64 * MEBIBYTE)), server()), "njord-risk")
    assert finding.severity == "warning"
    assert "has no effect here" in finding.summary


def test_njords_thresholds_are_for_njords_services_alone() -> None:
    findings = look(usage(service(held=600 * MEBIBYTE), service("grafana", held=600 * MEBIBYTE)), server())
    assert of(findings, "njord-risk").severity == "warning"
    assert of(findings, "grafana").severity == "ok"
    assert of(look(usage(service(held=2 * GIBIBYTE)), server()), "njord-risk").severity == "critical"


def test_who_publishes_the_metric_is_named_and_held_against_the_thresholds() -> None:
    def samples(value: float) -> list[Sample]:
        return [Sample({"service": "risk", "job": "njord_quant", "instance": "h:9091"}, value, NOW)]

    for value, severity in ((100, "ok"), (600, "warning"), (1100, "critical")):
        findings = look(usage(), Server9090(samples={memory.METRIC: samples(value)}))
        finding = of(findings, f"{memory.METRIC} of risk")
        assert finding.severity == severity
        assert "risk publishes" in finding.summary
        assert "through njord_quant h:9091" in finding.summary


PAGE = """\
prometheus_tsdb_head_series 50000
prometheus_tsdb_head_chunks_storage_size_bytes 7340032
prometheus_tsdb_storage_blocks_bytes 1073741824
prometheus_tsdb_symbol_table_size_bytes 2000000
prometheus_tsdb_compaction_chunk_size_bytes_sum 1000
prometheus_tsdb_compaction_chunk_size_bytes_count 10
go_memstats_heap_inuse_bytes 400000000
"""


def prometheus(points: t.Any, head: t.Any) -> tuple[Usage, Server9090]:
    ranges = {"process_start_time": STARTS, "go_memstats_sys": points, "tsdb_head_series": head}
    metrics = [("njord_orders_total", 40000), ("up", 10000)]
    asked = Server9090([scraped(9090, "prometheus")], ranges=ranges, page=PAGE, series_by_metric=metrics)
    return usage(service("prometheus", ports=(9090,), **limit(300 * MEBIBYTE, 310 * MEBIBYTE))), asked


def test_a_head_that_grows_with_the_memory_is_the_cause_with_the_largest_metric() -> None:
    finding = of(look(*prometheus(LEAK, grows(20000, 50000))), "prometheus")
    assert finding.evidence["cause"] == "series in the head"
    assert "its head grew by" in finding.summary
    assert "njord_orders_total has 80% of its 50000 series" in finding.summary
    assert "troubleshoot-cardinality" in finding.remedy


def test_a_head_that_stays_while_the_memory_grows_is_not_the_cause() -> None:
    finding = of(look(*prometheus(LEAK, grows(50000, 50100))), "prometheus")
    assert finding.evidence["cause"] == "steady growth"


def test_a_remedy_that_gains_nothing_is_said_to_gain_nothing() -> None:
    finding = of(look(*prometheus(FLAT, FLAT)), "memory")
    gains = {one["name"]: one["gain"] for one in finding.evidence["remedies"]}
    nothing = {"clean-up of the journals", "compression earlier", "larger flushes", "a longer scrape interval"}
    assert {name for name, gain in gains.items() if gain == 0} == nothing
    assert gains["dropping njord_orders_total"] == pytest.approx(40000 * 8000)
    assert gains["a shorter retention"] == 2000000
    assert "nothing is gained by clean-up of the journals" in finding.summary
    said = {one["name"]: one["said"] for one in finding.evidence["remedies"]}
    assert "(50000 series, 100 bytes each)" in said["a longer scrape interval"]


def test_gains_that_only_a_silent_prometheus_could_tell_are_not_known() -> None:
    findings = look(usage(service()), Server9090(dead=True))
    gains = {one["name"]: one["gain"] for one in of(findings, "memory").evidence["remedies"]}
    assert gains["a shorter retention"] is None
    assert gains["clean-up of the journals"] == 0
    assert of(findings, "http://127.0.0.1:9090").severity == "unknown"


def test_a_service_that_does_not_run_or_is_not_there_is_never_well() -> None:
    findings = look(usage(service(runs=False), service("gone", kind="", runs=False)), server([]))
    assert of(findings, "njord-risk").severity == "warning"
    assert of(findings, "gone").severity == "unknown"
    seen = usage(service(runs=False, result="signal"), kills=None, oom_kills=2, kills_unknown="no log")
    assert of(look(seen, server([])), "njord-risk").severity == "unknown"
