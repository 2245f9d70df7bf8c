# SPDX-License-Identifier: GPL-3.0-or-later
"""The module scrape_info as Ansible runs it, and what it costs a large stack; the faults are in the laboratory."""

from __future__ import annotations

import contextlib
import json
import re
import time
import typing as t
from pathlib import Path

import pytest
import redis
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.laboratory.exporter import Exporter, Page, Script
from tests.testbench import module, servers

TARGETS = 50
SERIES = 2000


def page(target: int) -> Page:
    lines = (f'lab_large{{target="{target}",number="{number}"}} 1\n' for number in range(SERIES))
    return Page("# TYPE lab_large gauge\n" + "".join(lines))


def always(content: Page) -> Script:
    return lambda _number: content


@pytest.fixture(scope="module", params=["2", "3"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    """Address of a server with 50 targets, 5 of them down, and 90,000 series."""
    directory = tmp_path_factory.mktemp(f"large{request.param}")
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(Exporter())
        jobs = []
        for target in range(TARGETS):
            exporter.scripts[f"/{target}"] = always(page(target))
            address = exporter.address if target >= 5 else f"127.0.0.1:{servers.free_port()}"
            static = [{"targets": [address]}]
            jobs.append({"job_name": f"job{target}", "metrics_path": f"/{target}", "static_configs": static})
        config = {"global": {"scrape_interval": "5s"}, "scrape_configs": jobs}
        server = stack.enter_context(servers.prometheus(directory, request.param, yaml.safe_dump(config)))
        client = Prometheus(Server(server.url))
        deadline = time.monotonic() + 60
        while len(client.query("up")) < TARGETS or any(target.health == "unknown" for target in client.targets()):
            assert time.monotonic() < deadline, "the targets were not scraped"
            time.sleep(0.2)
        yield server.url


def requests(url: str) -> float:
    """How many the server answered so far."""
    text = Server(url).get("/metrics").text
    return sum(
        float(value) for value in re.findall(r"^prometheus_http_requests_total\{.*\} (\S+)$", text, re.MULTILINE)
    )


@pytest.mark.parametrize(
    "question", [{}, {"metric": "lab_large"}, {"metric": "lab_lagre"}, {"metric": "lab_large", "job": "job3"}]
)
def test_a_large_stack_is_diagnosed_within_five_seconds_and_forty_requests(
    large: str, question: dict[str, str]
) -> None:
    before = requests(large)
    begun = time.monotonic()
    answer = module.run("scrape_info", {"prometheus_url": large, **question})
    seconds = time.monotonic() - begun
    assert not answer.get("failed"), answer
    assert seconds < 5
    assert requests(large) - before <= 40


def test_each_job_that_is_down_is_told_and_the_others_are_one_finding(large: str) -> None:
    answer = module.run("scrape_info", {"prometheus_url": large})
    assert answer["changed"] is False
    assert [finding["subject"] for finding in module.findings(answer, "scrape.port")] == [
        f"job job{number}" for number in range(5)
    ]
    (well,) = module.findings(answer, "scrape.target")
    assert (well["severity"], well["evidence"]["figures"]["targets_up"]) == ("ok", TARGETS - 5)
    assert len(answer["findings"]) == 6


def test_what_was_asked_and_holds_is_among_the_links(large: str) -> None:
    answer = module.run("scrape_info", {"prometheus_url": large, "job": "job3"})
    assert [link["check"] for link in answer["links"]] == ["scrape.server", "scrape.pool", "scrape.discovery"]
    assert "up" in answer["findings"][0]["remedy"] or "ss -ltnp" in answer["findings"][0]["remedy"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "rate(x[5m])"}, "metric: 'rate(x[5m])' is no metric"),
        ({"metric": "x{"}, "metric: 'x{' is no metric"),
        ({"window": "0"}, "window: 0 is no time"),
        (
            {"redis_url": "redis://:secret@127.0.0.1"},
            "redis_url: the address of a Redis holds a user name or a password",
        ),
        ({"redis_url": "http://127.0.0.1"}, "redis_url: http:// is no address of a Redis"),
        ({"catalogue": [{"name": "x"}]}, "catalogue: "),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: dict[str, t.Any], said: str) -> None:
    answer = module.run("scrape_info", options)
    assert answer["failed"]
    assert answer["msg"].startswith(said)
    assert "secret" not in answer["msg"]


def test_a_password_file_opens_a_bus_that_wants_one(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("of-the-test\n")
    with servers.prometheus(tmp_path) as server, servers.redis(tmp_path) as bus:
        with contextlib.closing(redis.Redis.from_url(bus.url)) as client:
            client.config_set("requirepass", "of-the-test")
        options = {"prometheus_url": server.url, "redis_url": bus.url, "listen": "200ms"}
        without = module.run("scrape_info", options)
        (found,) = module.findings(without, "scrape.bus")
        assert "NOAUTH" in found["summary"]
        opened = module.run("scrape_info", {**options, "redis_password_file": str(tmp_path / "password")})
        (silent,) = module.findings(opened, "scrape.publisher")
        # A service that should publish and does not may run on this machine beside the test; without one nobody
        # listened for long enough to know.
        mute = [name for name, enabled in silent["evidence"]["services"].items() if not enabled]
        assert silent["severity"] == ("warning" if mute else "unknown")
        assert "of-the-test" not in str(opened)


def test_a_panel_of_a_dashboard_is_asked_with_the_variables_that_are_given(large: str, tmp_path: Path) -> None:
    panel = {"title": "Large", "targets": [{"expr": 'lab_large{target="$target",number="1"}'}]}
    dashboard = {"templating": {"list": [{"name": "target", "type": "custom", "current": {"value": "7"}}]}}
    (tmp_path / "board.json").write_text(json.dumps({**dashboard, "panels": [panel]}))
    options = {"prometheus_url": large, "dashboard": str(tmp_path / "board.json"), "panel": "Large"}
    assert module.run("scrape_info", options)["findings"][0]["check"] == "panel.data"
    (wrong,) = module.run("scrape_info", {**options, "variables": {"target": "77"}})["findings"]
    assert wrong["check"] == "scrape.labels"
    assert "label target has the values" in wrong["summary"]
    missing = module.run("scrape_info", {**options, "panel": "Small"})
    assert "it has no panel 'Small' with queries; there are: 'Large'" in missing["msg"]
