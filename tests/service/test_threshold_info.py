# SPDX-License-Identifier: GPL-3.0-or-later
"""Thresholds judged by real servers: a week that was written beforehand, rules that were really evaluated, and
the alerts that ``promtool test rules`` makes of the same values."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import replay
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert.replay import Waits

from tests.testbench import module, servers
from tests.testbench.packages import program

DAY = 86400
MINUTE = 60
RULES = """
groups:
  - name: trading
    interval: 30s
    rules:
      - alert: HighDrawdown
        expr: njord_strategy_drawdown_pct > 10
        for: 1m
        labels: {severity: critical, venue: "{{ $labels.symbol }}"}
      - alert: HighDrawdownOfAlpha
        expr: njord_strategy_drawdown_pct{strategy_id="alpha"} > 10 and on () vector(1) # always
        for: 1m
      - alert: LowWinRate
        expr: 0.4 > njord_strategy_win_rate
        for: 10m
      - alert: Restless
        expr: njord_strategy_drawdown_pct > 2
      - alert: Down
        expr: up == 0
      - alert: Joined
        expr: njord_strategy_drawdown_pct > on (strategy_id) njord_strategy_win_rate
      - alert: Nothing
        expr: njord_nothing_bytes > 5e9
"""
WEEK = 7 * DAY
# Of a week, in seconds before the end: when and for how long the drawdown is 12, and how long 20.
SHORT = [(6 * DAY, 3 * MINUTE), (5 * DAY, 4 * MINUTE), (DAY, 3 * MINUTE)]
LONG = [(4 * DAY, 40 * MINUTE), (3 * DAY, 20 * MINUTE)]
# The same once, ended by a gap in the samples and begun again after it.
GAP = (2 * DAY, 10 * MINUTE)


def drawdown(ago: int) -> float | None:
    """Of strategy alpha; of beta it is always calm."""
    for value, times in ((12.0, SHORT), (20.0, LONG), (25.0, [GAP])):
        for begun, seconds in times:
            if begun - seconds < ago <= begun:
                return value
    begun, seconds = GAP
    return None if begun - seconds - 15 * MINUTE < ago <= begun - seconds else 1.0 + (ago // MINUTE % 60) / 40


def past(now: int) -> str:
    """A week of samples, one a minute, and the alert that Prometheus would have recorded of them."""
    calm = random.Random(5)
    pct: list[str] = []
    win: list[str] = []
    fires: list[str] = []
    true_since: int | None = None
    seen: tuple[int, float] | None = None
    alert = 'alertname="HighDrawdown",alertstate="firing",severity="critical"'
    for at in range(now - WEEK + MINUTE, now, 30):
        value = drawdown(now - at)
        if at % 60 == now % 60:
            rate = 0.3 if now - at < DAY else 0.6 + calm.random() / 10
            win.append(f'njord_strategy_win_rate{{strategy_id="alpha"}} {rate:.3f} {at}')
            if value is not None:
                pct.append(f'njord_strategy_drawdown_pct{{strategy_id="alpha",symbol="X"}} {value} {at}')
                seen = at, value
        # A sample stands for five minutes.
        above = seen is not None and at - seen[0] < 300 and seen[1] > 10
        true_since = (at if true_since is None else true_since) if above else None
        if true_since is not None and at - true_since >= 60:
            fires.append(f'ALERTS{{{alert},strategy_id="alpha",symbol="X",venue="X"}} 1 {at}')
    text = []
    for name, lines in (("njord_strategy_drawdown_pct", pct), ("njord_strategy_win_rate", win), ("ALERTS", fires)):
        text += [f"# TYPE {name} gauge", *lines]
    return "\n".join([*text, "# EOF"]) + "\n"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("past")
    (directory / "past.txt").write_text(past(int(time.time()) // 60 * 60))
    command: list[str | Path] = [
        program("promtool", "2"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        directory / "past.txt",
    ]
    subprocess.run([*command, directory / "data"], check=True, capture_output=True)
    return directory / "data"


@pytest.fixture(scope="module", params=["2", "3"])
def week(request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    directory = tmp_path_factory.mktemp(f"week{request.param}")
    shutil.copytree(blocks, directory / "data")
    (directory / "rules.yml").write_text(RULES)
    config = "rule_files: [rules.yml]\n"
    with servers.prometheus(directory, request.param, config, ["--storage.tsdb.retention.time=30d"]) as server:
        yield server.url


def look(url: str, **options: t.Any) -> dict[str, t.Any]:
    answer = module.run("threshold_info", {"prometheus_url": url, **options})
    assert "thresholds" in answer, answer
    return answer


def of(answer: dict[str, t.Any], name: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """What is known of a rule, and the finding about it."""
    (row,) = [row for row in answer["thresholds"] if row["name"] == name]
    (finding,) = [
        finding for finding in module.findings(answer, "threshold.rule") if finding["subject"] == f"trading/{name}"
    ]
    return row, finding


@pytest.fixture(scope="module")
def whole(week: str) -> dict[str, t.Any]:
    return look(week, proposals={"HighDrawdown": [15, 22, 5]})


def test_quantiles_are_those_that_were_written(whole: dict[str, t.Any]) -> None:
    row, finding = of(whole, "HighDrawdown")
    assert (row["verdict"], row["operator"], row["threshold"]) == ("threshold", ">", 10)
    assert row["quantiles"]["p50"] == pytest.approx(1.75, abs=0.1)
    assert row["quantiles"]["p95"] == pytest.approx(2.4, abs=0.1)
    assert row["quantiles"]["max"] == 25
    assert row["headroom"] == pytest.approx(10 - row["quantiles"]["p99"])
    assert finding["evidence"]["figures"]["p95_percent"] == row["quantiles"]["p95"]


def test_the_replay_fires_as_often_as_was_written_and_recorded(whole: dict[str, t.Any]) -> None:
    row, finding = of(whole, "HighDrawdown")
    # Three short ones, two long ones, and the one before the gap.
    assert row["today"]["firings"] == row["recorded"]["firings"] == 6
    assert row["today"]["longest_seconds"] == pytest.approx(40 * MINUTE - MINUTE, abs=60)
    assert row["agrees"] is True
    assert finding["severity"] == "ok"
    assert "fired 6 time(s)" in finding["summary"]
    assert "and so Prometheus recorded it" in finding["summary"]


def test_a_proposal_says_what_it_would_have_missed(whole: dict[str, t.Any]) -> None:
    row, finding = of(whole, "HighDrawdown")
    strict, stricter, loose = row["proposals"]
    assert (strict["threshold"], strict["firings"], strict["missed"], strict["missed_notable"]) == (15, 3, 3, 0)
    assert (
        "At 15 it would have fired 3 time(s) instead of 6, missing none of the 3 that lasted 5 min or more."
        in finding["summary"]
    )
    assert (stricter["firings"], stricter["missed"], stricter["missed_notable"]) == (1, 5, 2)
    assert "At 22 it would have fired 1 time(s) instead of 6, missing 2 of the 3" in finding["summary"]
    assert (loose["firings"], loose["missed"], loose["added"]) == (6, 0, 0)
    assert "Nothing was changed" in finding["remedy"]


def test_a_chart_shows_the_quantiles_against_the_thresholds(whole: dict[str, t.Any]) -> None:
    _row, finding = of(whole, "HighDrawdown")
    chart = finding["evidence"]["chart"]
    assert [line["label"] for line in chart["lines"]] == ["P50", "P95", "max"]
    assert chart["limits"][0] == {"label": "threshold", "value": 10}
    assert chart["unit"] == "percent"
    assert 50 <= len(chart["lines"][0]["points"]) <= 61


def test_a_condition_beside_the_comparison_does_not_hide_it(whole: dict[str, t.Any]) -> None:
    row, finding = of(whole, "HighDrawdownOfAlpha")
    assert (row["today"]["firings"], row["threshold"]) == (6, 10)
    # The one computed lies beyond P99, which is still calm.
    (tried,) = row["proposals"]
    assert 2.4 < tried["threshold"] < 4
    assert (tried["firings"], tried["missed"]) == (6, 0)
    # Only the other rule was recorded.
    assert (row["agrees"], row["only_replayed"], finding["severity"]) == (False, 6, "info")


def test_small_values_are_looked_at_from_below(whole: dict[str, t.Any]) -> None:
    row, finding = of(whole, "LowWinRate")
    assert (row["operator"], row["threshold"]) == ("<", 0.4)
    assert row["quantiles"]["min"] == 0.3
    assert (row["today"]["firings"], finding["severity"]) == (1, "warning")
    assert "lies inside what is normal" in finding["summary"]


def test_a_threshold_inside_what_is_normal_is_a_warning_and_a_calmer_one_is_proposed(whole: dict[str, t.Any]) -> None:
    row, finding = of(whole, "Restless")
    assert finding["severity"] == "warning"
    assert row["today"]["firings"] > 100
    (tried,) = row["proposals"]
    assert tried["firings"] < 10


def test_an_equality_is_a_state_and_gets_no_proposal(week: str) -> None:
    row, _finding = of(look(week, rules=["Down"], window="1h"), "Down")
    assert (row["verdict"], row["proposals"]) == ("unknown", [])
    assert "there is not one value of up" in row["reasons"][0]


def test_what_has_no_threshold_or_no_values_is_not_called_well(whole: dict[str, t.Any]) -> None:
    (finding,) = module.findings(whole, "threshold.none")
    assert finding["evidence"]["reasons"] == {"trading/Joined": "both its sides vary"}
    row, finding = of(whole, "Nothing")
    assert (row["verdict"], finding["severity"]) == ("unknown", "unknown")
    (finding,) = module.findings(whole, "threshold.rules")
    assert (finding["severity"], finding["evidence"]["figures"]["thresholds"]) == ("info", 4)


def test_a_metric_that_is_not_expected_yet_is_no_trouble(week: str) -> None:
    answer = look(week, groups=["trading"], not_emitted=["njord_nothing_bytes", "up"], window="1h")
    (row,) = [row for row in answer["thresholds"] if row["name"] == "Nothing"]
    assert row["verdict"] == "not emitted"
    (finding,) = module.findings(answer, "threshold.none")
    assert set(finding["evidence"]["reasons"]) == {"trading/Joined", "trading/Nothing", "trading/Down"}
    assert "unknown" not in {finding["severity"] for finding in answer["findings"]}


def test_a_rule_that_is_asked_for_and_has_no_threshold_is_unknown(week: str) -> None:
    (finding,) = [f for f in look(week, rules=["Joined"])["findings"] if f["subject"] == "trading/Joined"]
    assert finding["severity"] == "unknown"
    assert "both its sides vary" in finding["summary"]


def test_a_name_that_does_not_exist_is_told_with_the_nearest(week: str) -> None:
    answer = look(week, rules=["HighDrawDwon"], window="1h")
    (finding,) = [finding for finding in answer["findings"] if finding["subject"] == "HighDrawDwon"]
    assert finding["severity"] == "unknown"
    assert "near to it are HighDrawdown" in finding["summary"]


def test_too_many_series_are_not_replayed_and_that_is_said(week: str) -> None:
    row, finding = of(look(week, rules=["HighDrawdown"], series=0, window="2d"), "HighDrawdown")
    assert (row["today"], finding["severity"]) == (None, "unknown")
    assert "Not replayed: it has 1 series at once, and 0 are allowed" in finding["summary"]
    assert row["quantiles"]["p50"] > 1


def test_time_that_is_over_is_said_and_not_called_well(week: str) -> None:
    answer = look(week, time_limit="1ms")
    row, finding = of(answer, "HighDrawdown")
    assert (row["verdict"], finding["severity"]) == ("unknown", "unknown")
    assert "the 1 ms for all rules were over" in finding["summary"]


def test_a_window_longer_than_the_data_is_said(week: str) -> None:
    (finding,) = module.findings(look(week, rules=["HighDrawdown"], window="20d"), "threshold.rules")
    assert finding["severity"] == "info"
    assert "though 20 d were asked for" in finding["summary"]


# Rules that are really evaluated

LIVE = """
groups:
  - name: trading
    interval: 1s
    rules:
      - {alert: Plain, expr: vector(time() % 10) >= 7}
      - {alert: Waits, expr: vector(time() % 10) > 4, for: 3s, labels: {severity: warning}}
      - {alert: Keeps, expr: vector(time() % 7) < 2, keep_firing_for: 2s}
      - {alert: Never, expr: vector(time() % 10) > 4, for: 8s}
      - {alert: Both, expr: vector(time() % 9) > 5 unless on () vector(time() % 9) > 8.5, for: 1s, keep_firing_for: 1s}
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[dict[str, str]]:
    """Address of a server of each version whose rules have run for a while."""
    with contextlib.ExitStack() as stack:
        found = {}
        for version in ("2", "3"):
            directory = tmp_path_factory.mktemp(f"live{version}")
            (directory / "rules.yml").write_text(LIVE)
            port = servers.free_port()
            job = {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            config = {"global": {"scrape_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [job]}
            server = servers.prometheus(directory, version, yaml.safe_dump(config), port=port)
            found[version] = stack.enter_context(server).url
        time.sleep(34)
        yield found


@pytest.mark.parametrize("version", ["2", "3"])
def test_the_replay_tells_what_prometheus_recorded_of_its_own_evaluations(live: dict[str, str], version: str) -> None:
    answer = look(live[version], window="27s", margin=0)
    rows = {row["name"]: row for row in answer["thresholds"]}
    assert set(rows) == {"Plain", "Waits", "Keeps", "Never", "Both"}
    for name, row in rows.items():
        assert row["agrees"] is True, (name, row)
        assert row["today"]["firings"] == row["recorded"]["firings"], (name, row)
        assert row["today"]["firing_seconds"] == pytest.approx(row["recorded"]["firing_seconds"], abs=2), (name, row)
    assert {name: row["today"]["firings"] for name, row in rows.items() if name == "Never"} == {"Never": 0}
    assert all(row["today"]["firings"] >= 2 for name, row in rows.items() if name != "Never")


# The same values in promtool's own test of rules


def test_the_replay_fires_as_promtool_says(tmp_path: Path) -> None:
    """The value of x at each minute, or none, and which alerts promtool says fire then."""
    chance = random.Random(7)
    values = ["stale" if chance.random() < 0.1 else str(chance.randint(0, 9)) for _minute in range(120)]
    true = [number for number, value in enumerate(values) if value != "stale" and int(value) > 4]
    rules: list[dict[str, str]] = []
    expected: list[dict[str, t.Any]] = []
    for hold, keep in ((0, 0), (2, 0), (0, 3), (3, 2), (1, 1)):
        name = f"For{hold}Keep{keep}"
        rules.append({"alert": name, "expr": "x > 4", "for": f"{hold}m", "keep_firing_for": f"{keep}m"})
        spans = replay.firings(true, Waits.of(60 * hold, 60 * keep, 60), len(values))
        assert spans
        for number in range(len(values)):
            fires = any(first <= number < last for first, last in spans)
            alerts: list[t.Any] = [{"exp_labels": {}}] if fires else []
            expected.append({"eval_time": f"{number}m", "alertname": name, "exp_alerts": alerts})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "interval": "1m", "rules": rules}]}))
    case = {
        "interval": "1m",
        "input_series": [{"series": "x", "values": " ".join(values)}],
        "alert_rule_test": expected,
    }
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]})
    )
    for version in ("2", "3"):
        command: list[str | Path] = [program("promtool", version), "test", "rules", tmp_path / "test.yml"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_victoria_metrics_and_nobody_are_unknown(tmp_path: Path) -> None:
    with servers.victoria_metrics(tmp_path) as server:
        (finding,) = look(server.url)["findings"]
    assert (finding["severity"], finding["evidence"]["came_back"]) == ("unknown", "VictoriaMetrics")
    (finding,) = look(f"http://127.0.0.1:{servers.free_port()}")["findings"]
    assert finding["severity"] == "unknown"
    assert finding["evidence"]["came_back"] == "connection refused"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": "0"}, "window: 0 is too short"),
        ({"window": "soon"}, "window: 'soon' is no duration"),
        ({"proposals": {"A": ["many"]}}, "proposals: ['many'] of A is no list of numbers"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: dict[str, t.Any], said: str) -> None:
    answer = module.run("threshold_info", options)
    assert answer["failed"]
    assert said in answer["msg"]
