# SPDX-License-Identifier: GPL-3.0-or-later
"""Cardinality of real servers: a page with an exploding label is scraped, blamed, and mended by what was advised."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import threading
import time
import typing as t
import uuid
from pathlib import Path

import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series import cardinality, churn, label_sets
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.testbench import servers
from tests.testbench.packages import program

LIMITS = label_sets.Limits(label_sets_warning=100, label_sets_critical=1000, head_series_warning=100_000)
ORDERS = [str(uuid.UUID(int=number * 0x1234567890ABCDEF1234)) for number in range(1200)]
STRATEGIES = ["alpha", "beta", "gamma"]
RULES = """
groups:
  - name: trading
    interval: 1s
    rules:
      - alert: Lost
        expr: njord_orders_total{strategy_id="alpha"} > 1e9
        annotations: {text: "{{ $labels.order_id }}"}
      - alert: Slow
        expr: histogram_quantile(0.9, rate(njord_fill_seconds_bucket[1m])) > 5
"""


class Page:
    """A page of metrics that can be changed between scrapes."""

    def __init__(self) -> None:
        self.text = ""
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self) -> Page:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def exploding(session: int) -> str:
    """One counter with order ids, one histogram with two bounded labels, one gauge with one session at a time."""
    lines = [
        f'njord_orders_total{{strategy_id="{STRATEGIES[number % 3]}",order_id="{order}"}} {number + 1}'
        for number, order in enumerate(ORDERS)
    ]
    lines.append('njord_orders_total{strategy_id="alpha",order_id="none"} 1')
    for symbol in range(15):
        for venue in range(10):
            labels = f'symbol="S{symbol}",venue="v{venue}"'
            lines += [f'njord_fill_seconds_bucket{{{labels},le="{le}"}} 1' for le in ("0.1", "1", "+Inf")]
            lines += [f"njord_fill_seconds_count{{{labels}}} 1", f"njord_fill_seconds_sum{{{labels}}} 1"]
    lines += [f'njord_open_orders{{symbol="S{symbol}"}} 1' for symbol in range(50)]
    lines.append(f'njord_session_up{{session="{session}"}} 1')
    lines.append('njord_exporter_folded_messages_total{metric="njord_orders_total"} 7')
    return "\n".join(lines) + "\n"


def configuration(page_port: int, own_port: int, relabelling: t.Mapping[str, str] | None = None) -> str:
    """A scrape job for Prometheus itself, and one of the page for each relabelling, by the name of the job."""
    jobs: list[dict[str, t.Any]] = [
        {
            "job_name": name,
            "static_configs": [{"targets": [f"127.0.0.1:{page_port}"]}],
            **(yaml.safe_load(text) or {}),
        }
        for name, text in (relabelling or {"njord": ""}).items()
    ]
    own = {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{own_port}"]}]}
    whole = {"global": {"scrape_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [*jobs, own]}
    return yaml.safe_dump(whole)


def client(url: str, timeout: float = 10.0) -> Prometheus:
    return Prometheus(Server(url, timeout=timeout))


def count(prometheus: Prometheus, expression: str) -> float:
    return sum(sample.value for sample in prometheus.query(expression))


def wait_for(prometheus: Prometheus, expression: str) -> None:
    deadline = time.monotonic() + 60
    while count(prometheus, expression) <= 0:
        assert time.monotonic() < deadline, f"{expression} did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=["2", "3"])
def scraped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[t.Any]:
    """(version, server, page, look, its findings by check and subject): after 105 sessions, one at a time."""
    directory = tmp_path_factory.mktemp(f"prometheus{request.param}")
    port = servers.free_port()
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(Page())
        page.text = exploding(0)
        (directory / "rules.yml").write_text(RULES)
        config = configuration(page.port, port).replace("scrape_interval: 1s", "scrape_interval: 50ms")
        server = stack.enter_context(servers.prometheus(directory, request.param, config, port=port))
        prometheus = client(server.url)
        wait_for(prometheus, "njord_session_up")
        wait_for(prometheus, "prometheus_tsdb_head_series > 1000")
        for session in range(1700000000, 1700000105):
            page.text = exploding(session)
            wait_for(prometheus, f'njord_session_up{{session="{session}"}}')
        look = cardinality.Look(prometheus, LIMITS, window=60)
        yield request.param, server, page, look, {(f.check, f.subject): f for f in look.findings()}


def test_the_label_with_ids_is_blamed_with_pattern_job_and_examples(scraped: t.Any) -> None:
    *_others, findings = scraped
    finding = findings["cardinality.metric", "njord_orders_total"]
    assert finding.severity == "critical"
    assert "1201 label sets" in finding.summary
    assert "order_id has 1201 values, which look like UUIDs" in finding.summary
    assert finding.evidence["jobs"] == ["njord"]
    assert finding.evidence["figures"] == {"head_label_sets": 1201, "head_series": 1201}
    assert set(finding.evidence["labels"][0]["examples"]) <= {*ORDERS, "none"}
    assert finding.evidence["label_sets_now_without_blamed"] == len(STRATEGIES)


def test_a_histogram_is_one_metric_and_le_is_not_to_blame(scraped: t.Any) -> None:
    *_others, look, findings = scraped
    finding = findings["cardinality.metric", "njord_fill_seconds"]
    assert finding.severity == "warning"
    assert "150 label sets" in finding.summary
    assert "symbol (15) x venue (10)" in finding.remedy
    assert finding.evidence["relabelling"] == ""
    assert [row["blamed"] for row in look.metric_rows() if row["name"] == "njord_fill_seconds"] == [[]]


def test_metrics_within_the_limits_are_not_named(scraped: t.Any) -> None:
    *_others, look, findings = scraped
    named = {subject for check, subject in findings if check == "cardinality.metric"}
    assert named == {"njord_orders_total", "njord_fill_seconds", "njord_session_up"}
    assert next(row["name"] for row in look.metric_rows()) == "njord_orders_total"


def test_a_limit_on_label_values_is_kept_by_the_server(scraped: t.Any) -> None:
    *_others, look, _findings = scraped
    assert len(look.client.label_values("order_id", "", time.time() - 600, time.time(), 10)) == 10


def test_the_head_is_counted_and_drawn_with_the_limit(scraped: t.Any) -> None:
    *_others, look, findings = scraped
    finding = findings["cardinality.head", look.client.server.url]
    assert finding.severity == "ok"
    assert finding.evidence["figures"]["head_series"] == look.head.series > 1201 + 750
    first = finding.evidence["chart"]["bars"][0]
    assert first == {"label": "njord_orders_total", "value": 1201, "limit": 100}


def test_growth_is_told_from_what_prometheus_scrapes_of_itself(scraped: t.Any) -> None:
    *_others, look, findings = scraped
    finding = findings["cardinality.growth", look.client.server.url]
    assert finding.severity == "ok"
    assert finding.evidence["chart"]["lines"][0]["points"]


def test_folded_label_sets_of_the_exporter_are_a_warning(scraped: t.Any) -> None:
    *_others, findings = scraped
    finding = findings["cardinality.overflow", "njord-prometheus-exporter"]
    assert finding.severity == "warning"
    assert finding.evidence["folded_messages"] == {"njord_orders_total": 7}


def test_each_way_that_is_offered_leaves_what_it_says_and_no_two_series_become_the_same(
    scraped: t.Any, tmp_path: Path
) -> None:
    version, _server, page, look, _findings = scraped
    ways = {
        f"{row['name']}, {offer['way']}": (row["name"], offer)
        for row in look.metric_rows()
        for offer in row["offers"]
        if offer["relabelling"]
    }
    firsts = {row["name"]: row["offers"][0]["way"] for row in look.metric_rows()}
    assert firsts == {
        "njord_orders_total": "drop such series",
        "njord_session_up": "take the label away",
        "njord_fill_seconds": "publish fewer labels",
    }
    port = servers.free_port()
    config = configuration(page.port, port, {name: offer["relabelling"] for name, (_metric, offer) in ways.items()})
    (tmp_path / "checked.yml").write_text(config)
    (tmp_path / "rules.yml").write_text(RULES)
    checked = subprocess.run(
        [program("promtool", version), "check", "config", tmp_path / "checked.yml"], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with servers.prometheus(tmp_path, version, config, port=port) as mended:
        prometheus = client(mended.url)
        wait_for(prometheus, f"count(up == 1) == {len(ways) + 1}")
        # One session follows another, as on the other server.
        page.text = exploding(1700000999)
        others = {"njord_orders_total": 1201, "njord_fill_seconds_count": 150, "njord_session_up": 1}
        wanted: dict[tuple[str, str], float] = {}
        found: dict[tuple[str, str], float] = {}
        for job, (metric, offer) in ways.items():
            counted = "njord_fill_seconds_count" if metric == "njord_fill_seconds" else metric
            wanted.update({(job, name): left for name, left in {**others, counted: offer["label_sets_left"]}.items()})
        deadline = time.monotonic() + 60
        while found != wanted and time.monotonic() < deadline:
            time.sleep(0.5)
            found = {(job, name): count(prometheus, f'count({name}{{job="{job}"}})') for job, name in wanted}
        assert found == wanted
        # Each of its series is the one that it says: none was lost behind another.
        kept = "scrape_samples_post_metric_relabeling"
        for job in ways:
            own = f'{{job="{job}", __name__!~"up|scrape_.*|ALERTS.*"}}'
            assert count(prometheus, f"count({own})") == count(prometheus, f'{kept}{{job="{job}"}}'), job


def test_dropping_a_label_that_tells_series_apart_loses_them_which_is_why_it_is_never_offered(
    scraped: t.Any, tmp_path: Path
) -> None:
    version, _server, page, look, findings = scraped
    finding = findings["cardinality.metric", "njord_orders_total"]
    assert "would make series the same" in finding.remedy
    assert not any("labeldrop" in offer["relabelling"] for row in look.metric_rows() for offer in row["offers"])
    port = servers.free_port()
    labeldrop = "metric_relabel_configs: [{action: labeldrop, regex: order_id}]"
    config = configuration(page.port, port, {"njord": labeldrop})
    (tmp_path / "rules.yml").write_text(RULES)
    with servers.prometheus(tmp_path, version, config, port=port) as harmed:
        prometheus = client(harmed.url)
        wait_for(prometheus, "njord_orders_total")
        wait_for(prometheus, "prometheus_target_scrapes_sample_duplicate_timestamp_total + 1")
        assert count(prometheus, "count(njord_orders_total)") == len(STRATEGIES)
        # Prometheus says that it kept all of them.
        assert count(prometheus, 'scrape_samples_post_metric_relabeling{job="njord"}') > len(ORDERS)
        assert count(prometheus, "prometheus_target_scrapes_sample_duplicate_timestamp_total") == 0
        # The first of each strategy.
        assert sorted(sample.value for sample in prometheus.query("njord_orders_total")) == [1, 2, 3]


def test_what_a_way_saves_is_priced_by_the_server_itself(scraped: t.Any) -> None:
    *_others, look, findings = scraped
    finding = findings["cardinality.metric", "njord_orders_total"]
    best, publish, drop = finding.evidence["offers"]
    assert (best["label_sets_left"], best["saves_series"]) == (1, 1200)
    # 1201 samples every 50 ms.
    assert drop["saves_samples_per_second"] == pytest.approx(1201 / 0.05)
    assert (publish["label_sets_left"], publish["saves_series"]) == (len(STRATEGIES), 1201 - len(STRATEGIES))
    prices = finding.evidence["prices"]
    heap = look.client.own("go_memstats_heap_inuse_bytes")
    assert prices["bytes_per_series"] == pytest.approx(heap / look.head.series, rel=0.8)
    assert drop["saves_memory_bytes"] == pytest.approx(1201 * prices["bytes_per_series"], rel=0.01)
    assert "this server has written no block" in prices["bytes_per_sample_source"]
    assert "It saves 1200 series" in finding.remedy


def test_rules_that_read_what_is_dropped_are_named_before(scraped: t.Any) -> None:
    *_others, findings = scraped
    orders = findings["cardinality.metric", "njord_orders_total"]
    assert "Look first at who reads what it takes away: rule trading/Lost (no dashboards were given)" in orders.remedy
    drop = findings["cardinality.metric", "njord_fill_seconds"].evidence["offers"][-1]
    assert (drop["way"], drop["misses"]) == ("drop the metric", ["rule trading/Slow"])
    sessions = findings["cardinality.metric", "njord_session_up"]
    assert "No rule reads what it takes away" in sessions.remedy


def test_series_that_are_made_and_end_are_counted_with_their_metric_and_job(scraped: t.Any) -> None:
    *_others, look, findings = scraped
    finding = findings["cardinality.churn", look.client.server.url]
    (first, *_rest) = finding.evidence["metrics"]
    assert (first["metric"], first["in_head"], first["alive"]) == ("njord_session_up", 106, 1)
    assert first["labels"] == ["session"]
    assert finding.evidence["added_by_job"][0][0] in ("njord", "prometheus")
    # No more than the counter says, and all sessions but the first few.
    hourly = [value for _at, value in finding.evidence["chart"]["lines"][0]["points"]]
    assert 50 <= sum(hourly) / 3600 * finding.evidence["step_seconds"] <= look.client.own(churn.CREATED)


def test_a_quiet_server_is_ok_and_says_what_it_cannot_know(tmp_path: Path) -> None:
    with Page() as page:
        page.text = "njord_exporter_build_info 1\n"
        config = configuration(page.port, servers.free_port())
        with servers.prometheus(tmp_path, config=config) as server:
            prometheus = client(server.url)
            wait_for(prometheus, "njord_exporter_build_info")
            findings = {f.check: f for f in cardinality.Look(prometheus, LIMITS, 60).findings()}
    assert {check: finding.severity for check, finding in findings.items()} == {
        "cardinality.head": "ok",
        "cardinality.growth": "unknown",
        "cardinality.churn": "unknown",
        "cardinality.metric": "ok",
        "cardinality.label": "ok",
        "cardinality.overflow": "ok",
    }
    assert "does not scrape itself" in findings["cardinality.growth"].summary


def test_an_empty_head_is_not_healthy(tmp_path: Path) -> None:
    with servers.prometheus(tmp_path) as server:
        findings = {f.check: f for f in cardinality.Look(client(server.url), LIMITS, 60).findings()}
    assert findings["cardinality.head"].severity == "unknown"
    assert findings["cardinality.overflow"].severity == "unknown"


def test_victoria_metrics_is_named_and_nothing_is_said_of_its_cardinality(tmp_path: Path) -> None:
    with servers.victoria_metrics(tmp_path) as server:
        (finding,) = cardinality.Look(client(server.url), LIMITS, 60).findings()
    assert finding.severity == "unknown"
    assert "VictoriaMetrics" in finding.summary
    assert finding.evidence["came_back"] == "VictoriaMetrics"


def test_a_server_that_is_not_there_is_unknown_with_what_came_back() -> None:
    (finding,) = cardinality.Look(client(f"http://127.0.0.1:{servers.free_port()}"), LIMITS, 60).findings()
    assert finding.severity == "unknown"
    assert finding.evidence["came_back"] == "connection refused"


def test_a_login_that_is_wanted_is_unknown_and_says_which_options_help(tmp_path: Path) -> None:
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_users: {operator: $2y$05$QDzZRe1uEu.ZDfjJwbHFZuxJcJLeHGOSMnxRcoSX5KO/WrKqVZr2W}\n")
    with servers.prometheus(tmp_path, arguments=[f"--web.config.file={web}"]) as server:
        (finding,) = cardinality.Look(client(server.url), LIMITS, 60).findings()
    assert finding.evidence["status"] == 401
    assert "prometheus_password_file" in finding.remedy
