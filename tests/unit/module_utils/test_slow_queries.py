# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a query log, by a server that answers what the test says; real ones are in tests/service."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.slow_queries import Look, Question
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import Refused, Server, Unreachable
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus, Rule, Sample

NOW = 1_795_000_000
DASHBOARD, RULE = (
    '"httpRequest":{"clientIP":"10.0.0.7","method":"GET","path":"/api/v1/query"}',
    '"ruleGroup":{"file":"/etc/rules.yml","name":"GROUP"}',
)
RECORDED = "sum by (job) (rate(x_total[5m]))"


def line(query: str, seconds: float, origin: str = DASHBOARD, queued: float = 0, at: int = 0, error: str = "") -> str:
    """:param at: seconds after 11:00, below an hour."""
    failed = f'"error":"{error}",' if error else ""
    return (
        f'{{"time":"2026-11-18T11:{at // 60:02d}:{at % 60:02d}Z","level":"INFO","source":"engine.go:662",'
        f'"msg":"promql query logged","params":{{"end":"","query":"{query}","start":"","step":0}},{failed}'
        f'"stats":{{"timings":{{"evalTotalTime":0,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":0,'
        f'"execQueueTime":{queued},"execTotalTime":{seconds}}},"samples":{{"totalQueryableSamples":5,"peakSamples":2}}}},'
        f'"spanID":"00","{origin[1:]}}}\n'
    )


class Fake(Prometheus):
    def __init__(self, **answers: t.Any) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self.answers = {
            "backend": "Prometheus",
            "configuration": "global:\n  evaluation_interval: 30s\n  query_log_file: /var/log/query.log\n",
            "runtime": {"CWD": "/"},
            "rules": [],
            "prometheus_engine_query_log_failures_total": 0.0,
            "prometheus_config_last_reload_successful": 1.0,
            "prometheus_engine_query_log_enabled": 1.0,
            "query": [Sample({"job": "a"}, 1.0, NOW)],
            "formatted": None,
            **answers,
        }

    def _answer(self, name: str) -> t.Any:
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]

    def backend(self) -> str:
        return str(self._answer("backend"))

    def configuration(self) -> str:
        return str(self._answer("configuration"))

    def runtime(self) -> dict[str, t.Any]:
        return dict(self._answer("runtime"))

    def rules(self) -> list[Rule]:
        return list(self._answer("rules"))

    def own(self, metric: str) -> float:
        return float(self._answer(metric))

    def formatted(self, expression: str) -> str:
        return str(self._answer("formatted") or expression)

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        if expression == "time()":
            return [Sample({}, NOW, NOW)]
        return list(self._answer("query"))


def look(tmp_path: Path, lines: t.Iterable[str], path: str = "query.log", **answers: t.Any) -> Look:
    (tmp_path / "query.log").write_text("".join(lines))
    return Look(Fake(**answers), Question(str(tmp_path / path), 0, 4e9, slow_seconds=1, top=20, jobs=1, promtool=""))


def only(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


def test_a_quiet_log_is_ok_in_every_respect(tmp_path: Path) -> None:
    lines = [line("up", 0.01, RULE, at=at) for at in range(0, 600, 15)] + [line("sum(up)", 0.2)]
    findings = look(tmp_path, lines).findings()
    assert {finding.severity for finding in findings} == {"ok"}
    assert {finding.check.split(".")[1] for finding in findings} == {
        "log", "writing", "slow", "errors", "queue", "rules",
    }  # fmt: skip
    assert "up" in only(findings, "query.slow").summary


def test_a_slow_query_comes_with_its_rule_and_the_proof(tmp_path: Path) -> None:
    found = look(tmp_path, [line(RECORDED, 3.0)] * 4)
    finding = only(found.findings(), "query.slow")
    assert finding.severity == "warning"
    assert "3 s at the 95th percentile" in finding.summary
    assert "12 s in all, asked 4 times" in finding.summary
    assert 'record: "job:x:rate5m"' in finding.evidence["recording_rule"]
    assert "interval: 30s" in finding.evidence["recording_rule"]
    assert finding.evidence["proof"]["state"] == "proven"
    assert "ask for job:x:rate5m instead" in finding.remedy
    (row,) = found.query_rows()
    assert row["recording_rule"] == finding.evidence["recording_rule"]
    assert (row["count"], row["kind"], row["asked_by"]) == (4, "request", ["10.0.0.7"])


@pytest.mark.parametrize(
    ("query", "answers", "evidence", "remedy"),
    [
        ("up", {}, "as they are stored", "No recording rule would help"),
        ("x", {"formatted": Refused("POST /api/v1/format_query", "parse error")}, "parse error", "Mend the query"),
        ("x", {"formatted": Unreachable("POST", "refused")}, "not known", "could not be asked"),
        ("x", {"query": Refused("POST", "query timed out")}, "query timed out", "refuses it"),
    ],
)
def test_where_there_is_no_rule_the_reason_is_said(
    tmp_path: Path, query: str, answers: dict[str, t.Any], evidence: str, remedy: str
) -> None:
    finding = only(look(tmp_path, [line(query, 3.0)], **answers).findings(), "query.slow")
    assert evidence in finding.evidence["no_recording_rule"]
    assert remedy in finding.remedy


def rule(name: str, query: str) -> Rule:
    return Rule(name, "recording", query, "g", "/f", "ok", "", 0, 0, "", {}, {}, 60, NOW)


def test_a_rule_that_is_there_already_is_named(tmp_path: Path) -> None:
    rules = [rule("mine", RECORDED)]
    finding = only(look(tmp_path, [line(RECORDED, 3.0)], rules=rules).findings(), "query.slow")
    assert finding.remedy.startswith("Ask for mine instead")
    finding = only(look(tmp_path, [line(f"topk(3, {RECORDED})", 3.0)], rules=rules).findings(), "query.slow")
    assert "Ask for topk(3, mine) instead" in finding.remedy
    finding = only(look(tmp_path, [line(RECORDED, 3.0, RULE)], rules=rules).findings(), "query.slow")
    assert "It is the recording rule mine itself" in finding.remedy
    finding = only(
        look(tmp_path, [line(RECORDED, 3.0)], rules=[rule("job:x:rate5m", "other")]).findings(), "query.slow"
    )
    assert 'record: "job:x:rate5m_2"' in finding.evidence["recording_rule"]


def test_a_range_that_is_counted_out_by_the_dashboard_gets_no_rule(tmp_path: Path) -> None:
    lines = [line(f"sum(increase(x[{number}s]))", 2.0 + number / 100) for number in range(5)]
    finding = only(look(tmp_path, lines).findings(), "query.slow")
    assert "counted out anew" in finding.evidence["no_recording_rule"]
    assert finding.evidence["query"] == "sum(increase(x[4s]))"


def test_of_many_slow_queries_the_costliest_are_named_and_the_others_counted(tmp_path: Path) -> None:
    found = look(tmp_path, [line(f"sum(x{number})", 2.0 + number) for number in range(14)])
    slow = [finding for finding in found.findings() if finding.check == "query.slow"]
    assert slow[0].subject == "sum(x13)"
    assert slow[-1].summary.startswith("4 further queries")
    assert len(slow) == 11
    # Two queries of the same name do not share a rule.
    assert sum("recording_rule" in finding.evidence for finding in slow) == 5


def test_failed_queries_are_told_by_kind(tmp_path: Path) -> None:
    lines = [line("a", 0.1, error="query timed out in expression evaluation")] * 2 + [line("b", 0.1, error="odd")]
    findings = [finding for finding in look(tmp_path, lines).findings() if finding.check == "query.errors"]
    assert [(finding.subject, finding.severity) for finding in findings] == [
        ("other", "warning"),
        ("timed out", "warning"),
    ]
    assert findings[1].summary.startswith("2 of 3 queries failed, timed out")
    assert "--query.timeout" in findings[1].remedy


def test_a_query_that_waits_for_its_turn_is_told(tmp_path: Path) -> None:
    finding = only(look(tmp_path, [line("a", 0.1, queued=4.0)]).findings(), "query.queue")
    assert finding.severity == "warning"
    assert "waited 4 s" in finding.summary


@pytest.mark.parametrize(("seconds", "severity"), [(1.0, "ok"), (9.0, "warning"), (14.0, "critical")])
def test_a_group_that_fills_its_time_is_told(tmp_path: Path, seconds: float, severity: str) -> None:
    lines = [line("sum(a)", seconds, RULE, at=at) for at in range(0, 615, 15)]
    finding = only(look(tmp_path, lines).findings(), "query.rules")
    assert finding.severity == severity


def test_lines_that_are_not_understood_are_a_warning_with_an_example(tmp_path: Path) -> None:
    finding = only(look(tmp_path, [line("a", 0.1), "what is this\n"]).findings(), "query.log")
    assert finding.severity == "warning"
    assert "1 lines are not understood" in finding.summary
    assert finding.evidence["not_understood"] == {"not JSON": {"lines": 1, "example": "what is this"}}


@pytest.mark.parametrize("lines", [[], ["no query log\n"]])
def test_a_log_without_a_query_is_unknown(tmp_path: Path, lines: list[str]) -> None:
    findings = look(tmp_path, lines).findings()
    assert only(findings, "query.log").severity == "unknown"
    assert "query.slow" not in {finding.check for finding in findings}


def test_a_log_that_is_not_there_is_unknown_with_what_to_do(tmp_path: Path) -> None:
    for path in ("other.log", "nowhere/query.log"):
        found = look(tmp_path, [], path)
        finding = only(found.findings(), "query.log")
        assert finding.severity == "unknown"
        assert "become: true" in finding.remedy
        assert found.query_rows() == found.group_rows() == found.client_rows() == found.file_rows() == []


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        ("global:\n  query_log_file: '/a b/query.log'\n", "/a b/query.log"),
        ("global:\n  query_log_file: logs/query.log\n", "/srv/logs/query.log"),
        ("global:\n  scrape_interval: 1s\nother:\n    query_log_file: /x\n", ""),
    ],
)
def test_the_server_says_where_its_log_is(configuration: str, path: str) -> None:
    found = Look(
        Fake(configuration=configuration, runtime={"CWD": "/srv"}), Question("", 0, 4e9, 1, top=5, jobs=1, promtool="")
    )
    findings = found.findings()
    assert found.path == path
    assert path or "keeps no query log" in only(findings, "query.log").summary


@pytest.mark.parametrize(
    ("answers", "severity", "told"),
    [
        ({"prometheus_engine_query_log_enabled": 0.0}, "critical", "cannot write"),
        ({"prometheus_engine_query_log_failures_total": 7.0}, "warning", "failed to write 7 lines"),
        ({"configuration": "global: {}\n"}, "warning", "writes no query log"),
        ({"configuration": Unreachable("GET", "refused")}, "unknown", "Not known"),
        ({"prometheus_config_last_reload_successful": 0.0}, "ok", "without a failure"),
    ],
)
def test_whether_the_log_is_written_is_told(
    tmp_path: Path, answers: dict[str, t.Any], severity: str, told: str
) -> None:
    finding = only(look(tmp_path, [line("a", 0.1)], **answers).findings(), "query.writing")
    assert finding.severity == severity
    assert told in finding.summary


def test_another_server_in_the_place_of_prometheus_is_unknown() -> None:
    found = Look(Fake(backend="VictoriaMetrics"), Question("", 0, 4e9, 1, top=5, jobs=1, promtool=""))
    (finding,) = found.findings()
    assert (finding.check, finding.severity) == ("query.log", "unknown")
