# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of the configuration as Prometheus writes it, and names that are near one another."""

from __future__ import annotations

import dataclasses
import textwrap
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import nearest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import port, scrape_pools
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.scrape_pools import (
    Facts,
    Pools,
    about,
    block,
    sections,
    setting,
)
from ansible_collections.njord.telemetry.plugins.module_utils._exposition import Exposition
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Discovery, Target
from ansible_collections.njord.telemetry.plugins.module_utils._systemd import Unit

CONFIGURATION = textwrap.dedent(
    """\
    global:
      scrape_interval: 15s
    scrape_configs:
    - job_name: njord_quant
      honor_timestamps: true
      sample_limit: 500
      static_configs:
      - targets:
        - 127.0.0.1:9091
      metric_relabel_configs:
      - source_labels: [__name__]
        regex: lab.*
        action: drop
      - regex: id
        action: labeldrop
    - job_name: "with: colon"
      honor_timestamps: false
      file_sd_configs:
      - files:
        - targets/*.json
    - job_name: 'yes'
    remote_write:
    - url: http://127.0.0.1/job_name
    - job_name: no job
    """
)


def test_the_jobs_are_found_with_their_sections_and_nothing_else() -> None:
    found = sections(CONFIGURATION)
    assert list(found) == ["njord_quant", "with: colon", "yes"]
    assert found["yes"] == "- job_name: 'yes'"


def test_a_setting_is_the_one_of_its_job() -> None:
    found = sections(CONFIGURATION)
    assert setting(found["njord_quant"], "sample_limit") == "500"
    assert setting(found["with: colon"], "honor_timestamps") == "false"
    assert setting(found["with: colon"], "sample_limit") == ""
    # It is a part of the target, not of the job.
    assert setting(found["njord_quant"], "action") == ""


def test_a_block_is_whole_and_ends_where_the_next_setting_begins() -> None:
    found = sections(CONFIGURATION)
    rules = block(found["njord_quant"], "metric_relabel_configs")
    assert rules.startswith("  metric_relabel_configs:\n  - source_labels")
    assert rules.endswith("action: labeldrop")
    assert block(found["njord_quant"], "static_configs").splitlines()[1:] == ["  - targets:", "    - 127.0.0.1:9091"]
    assert block(found["njord_quant"], "relabel_configs") == ""


def test_names_that_are_near_are_told_and_far_ones_are_not() -> None:
    known = ["njord_fills_generated_total", "njord_orders_placed_total", "up", "njord_fills_generated_total"]
    assert nearest("njord_fills_genrated_total", known) == ["njord_fills_generated_total"]
    assert nearest("qwertz", known) == []


def test_a_sentence_of_a_job_does_not_name_it_twice() -> None:
    assert about("job x", "job x has no target.") == "Job x has no target."
    assert about("lab", "job x has no target.") == "lab: job x has no target."


REFUSED = 'Get "http://127.0.0.1:9091/metrics": dial tcp 127.0.0.1:9091: connect: connection refused'
SLOW = 'Get "http://127.0.0.1:9091/metrics": context deadline exceeded'
LABELS = {"job": "njord_quant", "instance": "127.0.0.1:9091"}


def target(health: str = "down", error: str = "", scraped: float | None = 1000.0) -> Target:
    return Target(LABELS, "njord_quant", "http://127.0.0.1:9091/metrics", health, error, scraped, 15.0, 10.0)


def pools(*targets: Target, **more: t.Any) -> Pools:
    facts = Facts(
        now=1001.0,
        discovery=Discovery(list(targets), [], {}),
        jobs={"njord_quant": "- job_name: njord_quant"},
        pools=frozenset({"njord_quant"}),
        loaded=True,
        samples={},
        success={},
        stored={("njord_quant", "127.0.0.1:9091"): 1000.0},
        own=Exposition(),
        exporter=None,
        exporter_jobs=[],
    )
    return Pools(dataclasses.replace(facts, **more), "http://127.0.0.1:9090", lambda *_link: None)


def counted(scraped: float, kept: float) -> dict[str, t.Any]:
    counts = {"up": 1.0, "scrape_samples_scraped": scraped, "scrape_samples_post_metric_relabeling": kept}
    return {"samples": {("njord_quant", "127.0.0.1:9091"): counts}}


def unit(active: str) -> Unit:
    return Unit("njord-prometheus-exporter", "loaded", active, "dead", "exit-code", 0, 1, 0, 0.0)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    """What this host says of the port; a test may change it."""
    said: dict[str, t.Any] = {"knock": port.Knock("refused", True), "listeners": [], "firewall": None, "unit": None}
    monkeypatch.setattr(port, "knock", lambda *_arguments: said["knock"])
    monkeypatch.setattr(port, "listeners", lambda _number: said["listeners"])
    monkeypatch.setattr(port, "firewall", lambda *_arguments: said["firewall"])
    monkeypatch.setattr(scrape_pools, "_unit", lambda _number: said["unit"])
    return said


def first(look: Pools) -> tuple[str, str]:
    found = look.first("njord_quant", "job njord_quant")
    assert found is not None
    return found.check, found.summary


def test_a_service_that_does_not_run_is_named_before_its_port(door: dict[str, t.Any]) -> None:
    door["unit"] = unit("failed")
    check, summary = first(pools(target(error=REFUSED)))
    assert check == "scrape.service"
    assert "nothing listens there, because unit njord-prometheus-exporter is failed" in summary


def test_a_service_that_runs_and_does_not_listen_is_the_port(door: dict[str, t.Any]) -> None:
    door["unit"] = unit("active")
    assert first(pools(target(error=REFUSED)))[0] == "scrape.port"


def test_a_firewall_that_only_may_be_to_blame_is_said_to_be_no_more(door: dict[str, t.Any]) -> None:
    door["knock"] = port.Knock("silent", True, "no answer within 1 s")
    door["firewall"] = port.Firewall("ufw", "condition", ["9091 ALLOW IN 10.0.0.5"])
    check, summary = first(pools(target(error=SLOW)))
    assert check == "scrape.firewall"
    assert "ufw may keep others from port 9091: 9091 ALLOW IN 10.0.0.5" in summary


def test_a_host_that_is_away_is_the_network_and_what_is_not_local_is_not_looked_up(door: dict[str, t.Any]) -> None:
    door["knock"] = port.Knock("silent", False, "no answer within 1 s")
    door["firewall"] = port.Firewall("ufw", "deny", ["never asked"])
    check, summary = first(pools(target(error=SLOW)))
    assert check == "scrape.network"
    assert "never asked" not in summary


def test_from_another_host_than_that_of_prometheus_it_is_said_so(door: dict[str, t.Any]) -> None:
    door["knock"] = port.Knock("refused", False)
    facts = pools(target(error=REFUSED)).facts
    look = Pools(facts, "http://192.0.2.1:9090", lambda *_link: None)
    assert "seen from this host, which is not that of Prometheus" in first(look)[1]


@pytest.mark.parametrize("health", ["up", "down"])
def test_a_sample_limit_is_named_whether_2_53_says_up_or_down(health: str, door: dict[str, t.Any]) -> None:
    limited = {"jobs": {"njord_quant": "- job_name: njord_quant\n  sample_limit: 5"}, **counted(20, 20)}
    check, summary = first(pools(target(health), **limited))
    assert (check, "20 samples, and sample_limit is 5" in summary) == ("scrape.limit", True)


def test_down_without_a_reason_is_not_explained(door: dict[str, t.Any]) -> None:
    door["knock"] = port.Knock("open", True)
    assert first(pools(target())) == (
        "scrape.target",
        "Job njord_quant is down (127.0.0.1:9091): the scrape fails: Prometheus does not say why.",
    )


def test_up_and_not_stored_is_critical_and_never_well() -> None:
    found = pools(target("up"), stored={}).first("njord_quant", "job njord_quant")
    assert found is not None
    assert (found.check, found.severity) == ("scrape.storage", "critical")


def test_some_samples_dropped_on_purpose_are_no_fault() -> None:
    assert pools(target("up"), **counted(20, 10)).first("njord_quant", "job njord_quant") is None


def test_a_target_that_fails_now_and_then_is_told_as_information() -> None:
    unsteady = {**counted(5, 5), "success": {("njord_quant", "127.0.0.1:9091"): 0.5}}
    found = pools(target("up"), **unsteady).first("njord_quant", "job njord_quant")
    assert found is not None
    assert (found.check, found.severity) == ("scrape.flapping", "info")
    assert "only 50% of its scrapes" in found.summary


def test_a_target_that_waits_for_its_first_scrape_is_unknown() -> None:
    found = pools(target("unknown", scraped=None)).first("njord_quant", "job njord_quant")
    assert found is not None
    assert (found.check, found.severity) == ("scrape.waiting", "unknown")


WITH_FILE = """- job_name: njord_quant
  tls_config:
    ca_file: /no/such/ca.crt
  static_configs:
  - targets: [127.0.0.1:9091]
"""


def not_begun(section: str, own: Exposition, begun: frozenset[str] = frozenset()) -> Finding | None:
    return pools(jobs={"njord_quant": section}, pools=begun, own=own).first("njord_quant", "job njord_quant")


def test_a_job_that_prometheus_could_not_begin_is_told_from_one_without_targets() -> None:
    failed = Exposition(kept={"prometheus_target_scrape_pools_failed_total": [({}, 1.0)]})
    found = not_begun(WITH_FILE, failed)
    assert found
    assert (found.check, found.severity) == ("scrape.tls", "warning")
    assert "/no/such/ca.crt cannot be read" in found.summary
    others = (
        not_begun(WITH_FILE, Exposition()),
        not_begun(WITH_FILE, failed, frozenset({"njord_quant"})),
        # Its file can be read, and another job is the one that failed.
        not_begun(WITH_FILE.replace("/no/such/ca.crt", __file__), failed),
    )
    assert [other.check if other else "" for other in others] == 3 * ["scrape.discovery"]


def test_a_name_that_does_not_resolve_from_here_explains_a_scrape_that_took_too_long() -> None:
    error = 'Get "http://no-such..invalid:9/metrics": context deadline exceeded'
    slow = dataclasses.replace(target(error=error), url="http://no-such..invalid:9/metrics")
    found = pools(slow).first("njord_quant", "job njord_quant")
    assert found
    assert found.check == "scrape.resolve"
    assert "does not resolve from here" in found.summary
