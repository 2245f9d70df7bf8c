# SPDX-License-Identifier: GPL-3.0-or-later
"""Each alert fires exactly at its threshold and after its time, and not just below: asked of the real promtool."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.testbench.packages import program

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "prometheus" / "templates" / "configuration" / "rules"
TESTS = ROOT / "tests" / "rules"
VERSIONS = ("2", "3")
MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclasses.dataclass(frozen=True)
class Alert:
    """When an alert must be silent, and when it must fire.

    :param quiet: series at the threshold: it never fires.
    :param loud: series just beyond the threshold.
    :param silent_at: last evaluation (seconds) at which ``loud`` does not fire yet; None where it fires at once.
    :param fires_at: evaluation at which it does.
    :param interval: seconds between samples, and between evaluations.
    """

    name: str
    quiet: dict[str, str]
    loud: dict[str, str]
    silent_at: int | None
    fires_at: int
    interval: int = 5


def gauge(name: str, series: str, quiet: float, loud: float, hold: int, interval: int = 5) -> Alert:
    return Alert(
        name,
        {series: f"{quiet}x999"},
        {series: f"{loud}x999"},
        hold - interval if hold else None,
        hold,
        interval,
    )


def latency(metric: str, limit: str, beyond: str) -> Alert:
    """Of 100 fills a step, 95 (quiet) or 94 (loud) are within the limit."""

    def buckets(within: int) -> dict[str, str]:
        counts = {limit: within, beyond: 100, "+Inf": 100}
        return {f'{metric}_bucket{{le="{le}"}}': f"0+{count}x99" for le, count in counts.items()}

    # The first rate is known at the second sample.
    return Alert("HighFillLatency", buckets(95), buckets(94), 60, 65)


ALERTS = [
    gauge("HighDrawdown", "njord_strategy_drawdown_pct", 10, 10.01, MINUTE),
    gauge("LowSharpeRatio", "njord_strategy_sharpe_ratio", 0.5, 0.49, 5 * MINUTE),
    gauge("LowWinRate", "njord_strategy_win_rate", 0.4, 0.399, 10 * MINUTE),
    gauge("TooManyPositions", "njord_position_count", 50, 51, 0),
    gauge("DailyLoss", "njord_portfolio_daily_pnl_usd", -5000, -5000.01, 0),
    gauge("KillSwitchActive", "njord_killswitch_active", 0, 1, 0),
    Alert(
        "KillSwitchTripped",
        {"njord_killswitch_trips_total": "3x200"},
        {"njord_killswitch_trips_total": "3x100 4x100"},
        500,
        505,
    ),
    # The very first trip begins the series.
    Alert(
        "KillSwitchTripped",
        {"njord_killswitch_trips_total": "0x200"},
        {"njord_killswitch_trips_total": "_x100 1x100"},
        495,
        500,
    ),
    gauge("HighRejectionRate", "njord_order_rejection_rate", 0.1, 0.101, 2 * MINUTE),
    latency("njord_fill_latency_ms", "1000", "2500"),
    latency("njord_fill_latency_seconds", "1", "2.5"),
    gauge("EventLoopLag", "njord_event_loop_lag_seconds", 0.1, 0.101, 30),
    gauge("HighMemoryUsage", "njord_memory_usage_mb", 512, 512.1, MINUTE),
    gauge("CriticalMemoryUsage", "njord_memory_usage_mb", 1024, 1024.1, 10),
    gauge("TargetDown", "up", 1, 0, 2 * MINUTE, 15),
    gauge("ExporterBusDisconnected", "njord_exporter_bus_connected", 1, 0, MINUTE, 15),
    Alert(
        "BusSilent",
        {"njord_exporter_last_message_timestamp_seconds": "15+15x99"},
        {"njord_exporter_last_message_timestamp_seconds": "15x99"},
        315,
        330,
        15,
    ),
    # Never a message, from an exporter that has run for as long.
    Alert(
        "BusSilent",
        {"njord_exporter_last_message_timestamp_seconds": "0x99", "process_start_time_seconds": "30x99"},
        {"njord_exporter_last_message_timestamp_seconds": "0x99", "process_start_time_seconds": "15x99"},
        315,
        330,
        15,
    ),
    gauge("PrometheusReloadFailed", "prometheus_config_last_reload_successful", 1, 0, 0, 15),
    # 7 GB of 20 GB left, from the sixth hour on; at 7 GB in four days it is not full, a little faster it is.
    Alert(
        "DiskFilling",
        {
            'node_filesystem_avail_bytes{fstype="ext4"}': "8000-1x720",
            'node_filesystem_size_bytes{fstype="ext4"}': "20000x720",
        },
        {
            'node_filesystem_avail_bytes{fstype="ext4"}': "7999-2x720",
            'node_filesystem_size_bytes{fstype="ext4"}': "20000x720",
        },
        HOUR,
        HOUR + MINUTE,
        MINUTE,
    ),
    Alert(
        "DiskAlmostFull",
        {
            'node_filesystem_avail_bytes{fstype="ext4"}': "1000x30",
            'node_filesystem_size_bytes{fstype="ext4"}': "10000x30",
        },
        {
            'node_filesystem_avail_bytes{fstype="ext4"}': "999x30",
            'node_filesystem_size_bytes{fstype="ext4"}': "10000x30",
        },
        4 * MINUTE,
        5 * MINUTE,
        MINUTE,
    ),
    Alert(
        "MaintenanceMissed",
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_weekly"}': f"{HOUR}x200"},
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_weekly"}': "0x200"},
        8 * DAY,
        8 * DAY + HOUR,
        HOUR,
    ),
    Alert(
        "MaintenanceNeverRan",
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_weekly"}': f"0+{HOUR}x200"},
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_monthly"}': "0x200"},
        DAY - HOUR,
        DAY,
        HOUR,
    ),
    Alert(
        "MonthlyMaintenanceMissed",
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_monthly"}': f"{HOUR}x900"},
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_monthly"}': "0x900"},
        32 * DAY,
        32 * DAY + HOUR,
        HOUR,
    ),
    Alert(
        "MonthlyMaintenanceNeverRan",
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_monthly"}': f"0+{HOUR}x900"},
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_weekly"}': "0x900"},
        32 * DAY - HOUR,
        32 * DAY,
        HOUR,
    ),
    Alert(
        "QuarterlyMaintenanceMissed",
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_quarterly"}': f"0+{HOUR}x2300"},
        {'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_quarterly"}': "0x2300"},
        93 * DAY,
        93 * DAY + HOUR,
        HOUR,
    ),
    # A day and a half and an hour, and a quarter of an hour for which that must hold; then a run.
    Alert(
        "MetricsCleanupMissed",
        {
            "njord_metrics_cleanup_last_run_timestamp_seconds": f"0x147 {37 * HOUR}x20",
            "njord_metrics_cleanup_interval_seconds": f"{DAY}x167",
        },
        {
            "njord_metrics_cleanup_last_run_timestamp_seconds": "0x167",
            "njord_metrics_cleanup_interval_seconds": f"{DAY}x167",
        },
        37 * HOUR + 15 * MINUTE,
        37 * HOUR + 30 * MINUTE,
        15 * MINUTE,
    ),
    Alert(
        "MetricsCleanupNeverRan",
        {
            'njord_metrics_cleanup_scheduled{instance="one"}': "1x60",
            'njord_metrics_cleanup_last_run_timestamp_seconds{instance="one"}': "0x60",
        },
        {
            'njord_metrics_cleanup_scheduled{instance="one"}': "1x60",
            'njord_metrics_cleanup_scheduled{instance="two"}': "1x60",
            'njord_metrics_cleanup_last_run_timestamp_seconds{instance="one"}': "0x60",
        },
        2 * DAY - HOUR,
        2 * DAY,
        HOUR,
    ),
    # A day and a half and an hour, and a quarter of an hour for which that must hold; then a backup.
    Alert(
        "BackupMissed",
        {
            "njord_backup_last_timestamp_seconds": f"0x147 {37 * HOUR}x20",
            "njord_backup_interval_seconds": f"{DAY}x167",
        },
        {"njord_backup_last_timestamp_seconds": "0x167", "njord_backup_interval_seconds": f"{DAY}x167"},
        37 * HOUR + 15 * MINUTE,
        37 * HOUR + 30 * MINUTE,
        15 * MINUTE,
    ),
    Alert(
        "BackupNeverRan",
        {
            'njord_backup_scheduled{instance="one"}': "1x60",
            'njord_backup_last_timestamp_seconds{instance="one"}': "5x60",
        },
        {
            'njord_backup_scheduled{instance="one"}': "1x60",
            'njord_backup_scheduled{instance="two"}': "1x60",
            'njord_backup_last_timestamp_seconds{instance="one"}': "5x60",
            'njord_backup_last_timestamp_seconds{instance="two"}': "0x60",
        },
        2 * DAY - HOUR,
        2 * DAY,
        HOUR,
    ),
    gauge("BackupFailed", "njord_backup_success", 1, 0, 15 * MINUTE, MINUTE),
    gauge("BackupFailed", "njord_backup_damaged_backups", 0, 1, 15 * MINUTE, MINUTE),
    Alert(
        "BackupNotProven",
        {"njord_backup_scheduled": "1x500", "njord_backup_last_proven_timestamp_seconds": f"0+{HOUR}x500"},
        {"njord_backup_scheduled": "1x500", "njord_backup_last_proven_timestamp_seconds": "0x500"},
        17 * DAY,
        17 * DAY + HOUR,
        HOUR,
    ),
    Alert(
        "BackupNotSent",
        {"njord_backup_sent_timestamp_seconds": f"0+{HOUR}x99", "njord_backup_interval_seconds": f"{DAY}x99"},
        {"njord_backup_sent_timestamp_seconds": "0x99", "njord_backup_interval_seconds": f"{DAY}x99"},
        49 * HOUR,
        50 * HOUR,
        HOUR,
    ),
    gauge("BackupSentDamaged", "njord_backup_sent_damaged", 0, 1, 0, MINUTE),
    gauge("RestoreDrillFailed", "njord_backup_drill_damaged", 0, 1, 0, MINUTE),
    Alert(
        "RestoreDrillUndecided",
        {"njord_backup_drill_success": "0x99", "njord_backup_drill_damaged": "1x99"},
        {"njord_backup_drill_success": "0x99", "njord_backup_drill_damaged": "0x99"},
        None,
        0,
        MINUTE,
    ),
    gauge("MetricsCleanupFailed", "njord_metrics_cleanup_success", 1, 0, 15 * MINUTE, MINUTE),
]


def read_rules() -> list[dict[str, t.Any]]:
    documents = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def promtool(version: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [program("promtool", version), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expectation(alert: Alert, seconds: int, count: int) -> dict[str, t.Any]:
    firing = [{"labels": "{}", "value": count}] if count else []
    return {
        "expr": f'count(ALERTS{{alertname="{alert.name}", alertstate="firing"}})',
        "eval_time": f"{seconds}s",
        "exp_samples": firing,
    }


def document(alert: Alert) -> dict[str, t.Any]:
    """A test file of promtool for one alert."""

    def case(name: str, series: dict[str, str], expectations: list[dict[str, t.Any]]) -> dict[str, t.Any]:
        rows = [{"series": key, "values": values} for key, values in series.items()]
        return {
            "name": name,
            "interval": f"{alert.interval}s",
            "input_series": rows,
            "promql_expr_test": expectations,
        }

    loud = [expectation(alert, alert.fires_at, 1)]
    if alert.silent_at is not None:
        loud.insert(0, expectation(alert, alert.silent_at, 0))
    return {
        "rule_files": sorted(str(path) for path in RULES.glob("*.yml")),
        "evaluation_interval": f"{alert.interval}s",
        "tests": [
            case("at the threshold", alert.quiet, [expectation(alert, alert.fires_at, 0)]),
            case("beyond the threshold", alert.loud, loud),
        ],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_each_alert_fires_beyond_its_threshold_after_its_time_and_not_before(version: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}-{alert.name}.yml" for number, alert in enumerate(ALERTS)]
    for path, alert in zip(files, ALERTS):
        path.write_text(yaml.safe_dump(document(alert)))
    promtool(version, "test", "rules", *files)


def test_an_alert_that_fires_too_early_is_seen(tmp_path: Path) -> None:
    early = dataclasses.replace(ALERTS[0], fires_at=55)
    path = tmp_path / "early.yml"
    path.write_text(yaml.safe_dump(document(early)))
    with pytest.raises(AssertionError, match="HighDrawdown"):
        promtool("3", "test", "rules", path)


def test_every_alert_is_tested() -> None:
    written = {rule["alert"] for rule in read_rules() if "alert" in rule}
    assert written == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("version", VERSIONS)
def test_rules_give_the_sums_of_the_runbook_and_bear_several_jobs_on_a_target(version: str, tmp_path: Path) -> None:
    shutil.copytree(RULES, tmp_path / "rules")
    for path in TESTS.glob("*.yml"):
        shutil.copy(path, tmp_path)
        promtool(version, "test", "rules", tmp_path / path.name)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_rule_file_is_read_by_promtool_with_its_templates(version: str) -> None:
    promtool(version, "check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))


def test_every_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do() -> None:
    for rule in read_rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical"), rule
            assert set(rule["annotations"]) == {"summary", "remedy"}, rule
