# SPDX-License-Identifier: GPL-3.0-or-later
"""A night that went badly, on four hosts: everything that a report can show is in it once."""

from __future__ import annotations

import datetime
import math
import typing as t

from ansible_collections.njord.telemetry.plugins.plugin_utils._report import collect, history, model
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.plain import plain

NOW = datetime.datetime(2026, 10, 3, 2, 21, 40, tzinfo=datetime.timezone.utc)
DAY = 86400.0
GIB = 2.0**30

CONTACTS = [
    {"role": "On-call engineer", "contact": "+47 22 33 44 55", "escalation": "At once for anything critical."},
    {"role": "Telemetry lead", "contact": "telemetry@njord.example", "escalation": "After 15 minutes."},
    {"role": "Head of trading", "contact": "+47 22 33 44 66", "escalation": "Before trading is halted, and after."},
]


def _disk(now: float) -> dict[str, t.Any]:
    measured = [
        [now - (14 * 24 - hour) * 3600, (21 + hour / 24 * 1.6 + math.sin(hour / 4) * 0.3) * GIB]
        for hour in range(14 * 24)
    ]
    end = measured[-1][1]
    return {
        "check": "disk.free",
        "subject": "/var/log/njord",
        "severity": "critical",
        "summary": "The disk of /var/log/njord is full in 3 days at the growth of the last week.",
        "evidence": {
            "figures": {"disk_free_bytes": 60 * GIB - end, "disk_growth_bytes": 1.6 * GIB, "full_in_seconds": 3 * DAY},
            "device": "/dev/vda2",
            "largest": [
                {"file": "metrics/aggregated_metrics.ndjson", "size_bytes": 11_953_111_040, "open": True},
                {"file": "metrics/aggregated_metrics.20260930.ndjson", "size_bytes": 2_153_111_040, "open": False},
            ],
            "chart": {
                "kind": "lines",
                "title": "Disk of /var/log/njord",
                "unit": "bytes",
                "lines": [
                    {"label": "used", "style": "measured", "points": measured},
                    {"label": "forecast", "style": "forecast", "points": [[now, end], [now + 7 * DAY, end + 12 * GIB]]},
                ],
                "limits": [{"label": "full", "value": 50 * GIB}],
            },
        },
        "remedy": "See first what a clean-up would do, then let it:\n"
        "ansible-playbook njord.telemetry.retention_cleanup --check --diff --limit njord-1",
    }


def _series() -> dict[str, t.Any]:
    names = [
        ("njord_fill_price_deviation_bps_bucket", 48210.0),
        ("njord_orders_placed_total", 12044.0),
        ("njord_risk_check_duration_seconds_bucket_of_a_very_long_name_indeed", 2011.0),
        ("njord_fills_generated_total", 640.0),
        ("njord_position_size", 96.0),
        ("up", 4.0),
    ]
    return {
        "check": "cardinality.metric",
        "subject": "njord_fill_price_deviation_bps",
        "severity": "warning",
        "summary": "njord_fill_price_deviation_bps has 48,210 label sets; the label order_id makes 47,900 of them.",
        "evidence": {
            "figures": {"head_series": 63005, "label_sets": 48210},
            "label": "order_id",
            "values": ["a81f", "a820", "a821"],
            "chart": {
                "kind": "bars",
                "title": "Series by metric",
                "unit": "",
                "bars": [{"label": name, "value": value, "limit": 10000} for name, value in names],
            },
        },
        "remedy": "Drop the label at the scrape: put `labeldrop: order_id` into the scrape job, then run "
        "`ansible-playbook njord.telemetry.site --tags prometheus`.",
    }


def _alerts(now: float) -> dict[str, t.Any]:
    def span(start: float, hours: float, state: str = "firing") -> dict[str, t.Any]:
        return {"start": now - start * DAY, "end": now - start * DAY + hours * 3600, "state": state}

    return {
        "check": "alert.history",
        "subject": "the last 7 days",
        "severity": "warning",
        "summary": "NjordEventLoopLag fired 9 times in 7 days, for 4 minutes each: it flaps.",
        "evidence": {
            "figures": {"alerts_fired": 12},
            "chart": {
                "kind": "timeline",
                "title": "Alerts of 7 days",
                "start": now - 7 * DAY,
                "end": now,
                "rows": [
                    {"label": "NjordEventLoopLag", "spans": [span(d * 0.7 + 0.3, 1.2) for d in range(9)]},
                    {"label": "NjordHighDrawdown", "spans": [span(2.2, 0.5, "pending"), span(2.18, 7)]},
                    {"label": "NjordMemoryHigh", "spans": [span(5, 9, "pending")]},
                    {"label": "NjordKillSwitchActive", "spans": []},
                ],
            },
        },
        "remedy": "ansible-playbook njord.telemetry.troubleshoot_alert -e alert=NjordEventLoopLag",
    }


def _ok(check: str, subject: str, summary: str, **evidence: t.Any) -> dict[str, t.Any]:
    return {
        "check": check,
        "subject": subject,
        "severity": "ok",
        "summary": summary,
        "evidence": evidence,
        "remedy": "",
    }


def _services(seconds: float) -> list[dict[str, t.Any]]:
    return [
        _ok("service.exporter", "njord-prometheus-exporter", "It answers, and its scrape parses.", seconds=seconds),
        _ok("service.prometheus", "prometheus", "It is ready; the last reload was good.", version="2.53.3"),
        _ok("service.dashboard", "njord-dashboard", "It answers 200 in 12 ms.", figures={"answer_seconds": seconds}),
        _ok("clock.offset", "host against controller", "0.4 ms apart.", figures={"clock_offset_seconds": 0.0004}),
    ]


GRAFANA = {
    "check": "service.grafana",
    "subject": "grafana",
    "severity": "unknown",
    "summary": "Grafana is not configured: nobody asked it.",
    "evidence": {},
    "remedy": "Set telemetry_grafana_url in the inventory.",
}
CERTIFICATE = {
    "check": "certificate.expiry",
    "subject": "https://127.0.0.1:9090",
    "severity": "warning",
    "summary": "The certificate ends in 12 days.",
    "evidence": {"not_after": "2026-10-15T00:00:00Z"},
    "remedy": "Renew it.",
}
NOTE: dict[str, t.Any] = {
    "check": "rules.unused",
    "subject": "njord.rules",
    "severity": "info",
    "summary": "2 recording rules are read by no dashboard.",
    "evidence": {"rules": ["njord:fills:rate5m", "njord:orders:rate5m"]},
    "remedy": "",
}
PLAN = [
    {
        "action": "compress",
        "subject": f"metrics/aggregated_metrics.202609{day:02}.ndjson",
        "reason": "Older than 7 days and closed by its writer.",
    }
    for day in range(1, 9)
]
ACCEPTED = (
    {"check": "certificate.*", "subject": "*", "reason": "Renewed with the move on 12 October.", "until": "2026-10-13"},
    {"check": "clock.offset", "host": "njord-9", "reason": "The host is gone.", "until": "2026-12-31"},
)


def earlier(count: int = 11) -> tuple[history.Run, ...]:
    """Weekly reports before this one, mostly well."""
    verdicts = ["ok", "ok", "warning", "ok", "info", "unknown", "warning", "ok", "warning", "critical", "warning"]
    runs = []
    for i in range(count):
        time = NOW.timestamp() - (count - i) * 7 * DAY
        figures = {
            history.Figure("njord-1", "disk.free", "/var/log/njord", "disk_free_bytes"): (70 - i * 4.2) * GIB,
            history.Figure("njord-1", "cardinality.metric", "njord_fill_price_deviation_bps", "head_series"): 900
            + 40 * i,
            history.Figure("njord-1", "service.dashboard", "njord-dashboard", "answer_seconds"): 0.012
            + 0.001 * (i % 3),
            history.Figure("njord-1", "clock.offset", "host against controller", "clock_offset_seconds"): 0.0004,
        }
        verdict = verdicts[i % len(verdicts)]
        counts = {"critical": 0, "unknown": 0, "warning": 0, "info": 1, "ok": 21} | {verdict: 2}
        runs.append(
            history.Run(time, verdict, counts, 48.0 + i, time - 7 * DAY, {k: float(v) for k, v in figures.items()})
        )
    return tuple(runs)


def hosts() -> list[collect.HostResults]:
    now = NOW.timestamp()
    dead = {"unreachable": True, "msg": "Failed to connect to the host via ssh: Connection timed out"}
    return [
        collect.HostResults(
            "njord-1",
            plain(
                {
                    "health": {"changed": False, "findings": [*_services(0.012), GRAFANA, CERTIFICATE]},
                    "journals": {"changed": False, "findings": [_disk(now)]},
                    "series": {"changed": False, "findings": [_series(), _alerts(now), NOTE]},
                    "cleanup": {"changed": True, "plan": PLAN, "findings": []},
                }
            ),
        ),
        collect.HostResults(
            "njord-2",
            plain(
                {
                    "health": {"findings": [*_services(0.015), GRAFANA]},
                    "journals": {"failed": True, "msg": "Permission denied: /var/log/njord"},
                    "series": {"skipped": True, "skip_reason": "Conditional result was False"},
                    "cleanup": {"changed": False, "plan": [], "findings": []},
                }
            ),
        ),
        collect.HostResults("trader-1", plain(dict.fromkeys(("health", "journals", "series", "cleanup"), dead))),
        collect.HostResults(
            "trader-2",
            plain({name: {"findings": _services(0.02)} for name in ("health", "journals", "series", "cleanup")}),
        ),
    ]


def report(check_mode: bool = False, fleet: bool = True, accepted: t.Sequence[t.Any] = ACCEPTED) -> model.Report:
    """The report of that night."""
    given = hosts() if fleet else hosts()[-1:]
    findings, actions = collect.collect(given, ["health", "journals", "series", "cleanup"], check_mode)
    return model.Report(
        procedure="maintenance_weekly",
        title="Weekly maintenance",
        hosts=tuple(host.host for host in given),
        findings=model.assess(findings, accepted, NOW),
        actions=tuple(actions),
        contacts=model.read_contacts(CONTACTS),
        earlier=earlier(),
        started=NOW - datetime.timedelta(seconds=63),
        finished=NOW,
        check_mode=check_mode,
        fail_on="critical",
        versions={"njord.telemetry": "0.1.0", "ansible-core": "2.19.14", "Python": "3.11.2"},
    )
