# SPDX-License-Identifier: GPL-3.0-or-later
"""The way before the scrape: services without their variable, what the exporter says, and what is never emitted."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import publisher
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.publisher import (
    Entry,
    Exporter,
    Publisher,
)
from ansible_collections.njord.telemetry.plugins.module_utils._http import Unreachable

CATALOGUE = [
    Entry("njord_fills_generated_total", "emitted", "counter"),
    Entry("njord_risk_check_duration_seconds", "emitted", "histogram"),
    Entry("njord_strategy_sharpe_ratio", "catalog", "gauge"),
]


def exporter(last: float, accepted: float = 10.0, metrics: t.Sequence[str] = (), connected: float = 1.0) -> Exporter:
    values: dict[str, list[tuple[dict[str, str], float]]] = {
        "njord_exporter_bus_connected": [({}, connected)],
        "njord_exporter_last_message_timestamp_seconds": [({}, last)],
        "njord_exporter_messages_total": [({"result": "accepted"}, accepted), ({"result": "json"}, 0.0)],
        "njord_exporter_series": [({"metric": name}, 1.0) for name in metrics],
        "njord_exporter_folded_messages_total": [({"metric": name}, 3.0) for name in metrics],
    }
    return Exporter(values, "the test")


def process(proc: Path, number: int, unit: str, environment: bytes) -> None:
    directory = proc / str(number)
    directory.mkdir()
    (directory / "cgroup").write_text(f"0::/system.slice/{unit}\n")
    (directory / "environ").write_bytes(environment)


def asked(found: Exporter | None, series: str, seen: t.Callable[[], Exporter] | None = None) -> t.Any:
    return Publisher(None, seen, "telemetry.metrics", 0.1, CATALOGUE, lambda *_link: None).first(series, found)


def test_a_service_without_its_variable_is_found_and_our_own_are_left_out(tmp_path: Path) -> None:
    process(tmp_path, 1, "njord-strategy.service", b"HOME=/\0NJORD_ENABLE_METRICS=1\0")
    process(tmp_path, 2, "njord-broker.service", b"HOME=/\0NJORD_ENABLE_METRICS=0\0")
    process(tmp_path, 3, "njord-prometheus-exporter.service", b"HOME=/\0")
    process(tmp_path, 4, "ssh.service", b"HOME=/\0")
    (tmp_path / "self").mkdir()
    assert publisher.publishers(tmp_path) == {"njord-strategy": True, "njord-broker": False}


def test_a_silent_bus_names_the_services_without_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "publishers", lambda: {"njord-broker": False, "njord-risk": True})
    found = asked(exporter(time.time() - 7200), "njord_fills_generated_total")
    assert (found.check, found.severity) == ("scrape.publisher", "warning")
    assert "the last one 2 h ago" in found.summary
    assert "1 of 2 services on this host run without NJORD_ENABLE_METRICS=1: njord-broker" in found.summary
    assert "NJORD_ENABLE_METRICS=1" in found.remedy


def test_what_is_not_emitted_is_told_before_a_silent_bus() -> None:
    found = asked(exporter(0.0), "njord_strategy_sharpe_ratio")
    assert (found.check, found.severity) == ("scrape.emitted", "info")


def test_what_is_not_emitted_and_yet_came_is_judged_like_any_other() -> None:
    assert asked(exporter(time.time(), metrics=["njord_strategy_sharpe_ratio"]), "njord_strategy_sharpe_ratio") is None


def test_a_part_of_a_histogram_is_its_metric() -> None:
    has = exporter(time.time(), metrics=["njord_risk_check_duration_seconds"])
    assert asked(has, "njord_risk_check_duration_seconds_bucket") is None
    found = asked(exporter(time.time()), "njord_risk_check_duration_seconds_count")
    assert "none of njord_risk_check_duration_seconds:" in found.summary


def test_an_exporter_that_is_not_subscribed_is_the_link() -> None:
    found = asked(exporter(time.time(), connected=0.0), "njord_fills_generated_total")
    assert (found.check, "not subscribed" in found.summary) == ("scrape.exporter", True)


def test_an_exporter_that_does_not_answer_is_the_link() -> None:
    def read() -> Exporter:
        raise Unreachable("GET /metrics", "connection refused")

    found = asked(None, "njord_fills_generated_total", read)
    assert (found.check, found.severity) == ("scrape.exporter", "warning")


def test_a_metric_that_does_not_come_over_the_bus_is_not_looked_for_there() -> None:
    assert asked(exporter(0.0), "node_load1") is None


def test_nothing_is_said_where_nothing_can_be_asked() -> None:
    assert asked(None, "njord_fills_generated_total") is None


def test_folded_messages_are_those_of_the_metric() -> None:
    assert publisher.folded(exporter(1.0, metrics=["a"]), "a") == 3.0
    assert publisher.folded(exporter(1.0, metrics=["a"]), "b") == 0.0
    assert publisher.folded(None, "a") == 0.0


def test_a_silent_bus_that_is_asked_for_as_such_is_named_once() -> None:
    found = asked(exporter(time.time() - 7200), "")
    assert found.subject == "telemetry.metrics"
    assert found.summary.startswith("Nobody publishes on telemetry.metrics, the last one 2 h ago")
