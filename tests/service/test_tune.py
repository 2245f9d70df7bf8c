# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook tune.yml on a real host: it proposes, applies only when asked, measures, and changes nothing again."""

from __future__ import annotations

import re
import typing as t

import pytest
import yaml

from tests.bench.hosts import Host, make_host
from tests.service.test_playbooks_on_a_host import publish, wait_for

CONFIGURATION = "/etc/prometheus/prometheus.yml"
INTERVALS = {"slow": {"interval": "30s", "metrics": ["njord_position_size", "njord_strategy_pnl_usd"]}}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    with make_host(tmp_path_factory.mktemp("tune"), "njord-tune", "trixie") as made:
        made.install()
        lines = [
            f'{{"name":"{name}","value":5,"timestamp_ns":1,"metric_type":"{kind}","labels":{{"strategy_id":"alpha"}}}}'
            for name, kind in (
                ("njord_position_size", "gauge"),
                ("njord_strategy_pnl_usd", "gauge"),
                ("njord_fills_generated_total", "counter"),
            )
        ]
        publish(made, *lines)
        wait_for(made, "njord_position_size")
        yield made


def tune(host: Host, *options: str, **variables: t.Any) -> tuple[str, int, dict[str, t.Any]]:
    """What was printed, how many tasks changed something, and the report."""
    run = host.playbook("playbooks/tune.yml", *options, **variables)
    assert run.returncode == 0, run.stdout + run.stderr
    changed = re.search(rf"^{host.name} .* changed=(\d+) ", run.stdout, re.MULTILINE)
    assert changed, run.stdout
    return run.stdout, int(changed[1]), {} if "--check" in options else host.report("tune")


def of(report: dict[str, t.Any], check: str) -> dict[str, t.Any]:
    (found,) = (item for item in report["findings"] if item["check"] == check)
    return dict(found)


def test_it_proposes_as_a_diff_and_changes_nothing_then_applies_measures_and_has_nothing_more_to_do(host: Host) -> None:
    before = host.run("md5sum", CONFIGURATION)
    tune(host, "--check", "--diff")
    said, _changed, report = tune(host)
    assert host.run("md5sum", CONFIGURATION) == before
    assert "+- job_name: njord_quant_slow" in said
    proposed = of(report, "configuration.intervals")
    assert proposed["severity"] == "info"
    assert "+    interval: 30s" in proposed["evidence"]["diff"]
    assert yaml.safe_load(proposed["evidence"]["prometheus_exporter_intervals"]) == {
        "prometheus_exporter_intervals": INTERVALS
    }
    assert {action["state"] for action in report["actions"]} == {"would be done"}
    assert CONFIGURATION in {action["subject"] for action in report["actions"]}

    _said, _changed, report = tune(host, tune_apply=True)
    assert "njord_quant_slow" in host.run("cat", CONFIGURATION)
    assert "the inventory does not say so: the next site.yml takes that back" in report["sentence"]
    assert "done" in {action["state"] for action in report["actions"]}
    assert of(report, "configuration.doubled")["severity"] == "ok"
    scrapes = of(report, "configuration.scrapes")
    figures, earlier = scrapes["evidence"]["figures"], scrapes["evidence"]["before"]
    assert figures["targets_down"] == 0
    assert figures["targets"] == earlier["targets"] + 1
    assert earlier["exporter_scrapes_per_second"] == pytest.approx(1 / 15, rel=0.01)
    assert "its page is read 6 times a minute instead of 4" in scrapes["summary"]
    doubled = "count%20by%20(instance,strategy_id)%20(njord_position_size)%20%3E%201"
    assert host.ask(f"query?query={doubled}")["result"] == []

    _said, changed, report = tune(host, tune_apply=True, prometheus_exporter_intervals=INTERVALS)
    # The report itself.
    assert changed == 1
    assert of(report, "configuration.intervals")["severity"] == "ok"
    assert report["actions"] == []
