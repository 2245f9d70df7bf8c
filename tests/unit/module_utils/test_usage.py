# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a metric, and how sure that is, by a server that answers what the test says; real ones are in
tests/service."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query import query_log
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.query.query_log import KEPT
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series import usage
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.series_cost import QUERIED_SERIES
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.series.usage import Look, Options
from ansible_collections.njord.telemetry.plugins.module_utils._exposition import Exposition, parse
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Refused, Server, Unauthorised
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import (
    AUDIT,
    Head,
    Prometheus,
    Rule,
    Sample,
    Target,
)

DAY = 86_400
# 2026-11-30T00:00:00Z
NOW = 1_796_000_400
COUNTS = {"spare": 40, "busy": 30, "fill_seconds_bucket": 20, "fill_seconds_count": 2, "fill_seconds_sum": 2, "up": 1}


def rule(name: str, query: str, kind: str = "alerting", **texts: str) -> Rule:
    return Rule(name, kind, query, "g", "/f", "ok", "", 0, 0, "", {}, texts, 60, NOW)


class Fake(Prometheus):
    """:param counts: series in the head by metric; all of the job j, which is scraped every 10 s."""

    def __init__(self, counts: dict[str, int], **answers: t.Any) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self.counts = counts
        self.answers = {"rules": [], "configuration": "global:\n  scrape_interval: 10s\n", "page": "", **answers}
        self.asked: list[str] = []

    def _answer(self, name: str) -> t.Any:
        if isinstance(self.answers.get(name), Exception):
            raise self.answers[name]
        return self.answers.get(name)

    def backend(self) -> str:
        return "Prometheus"

    def head(self, limit: int) -> Head:
        rows = sorted(self.counts.items(), key=lambda row: -row[1])[:limit]
        return Head(sum(self.counts.values()), 0, NOW * 1000 - 1, NOW * 1000, rows, [], [], [])

    def rules(self) -> list[Rule]:
        return list(self._answer("rules"))

    def configuration(self) -> str:
        return str(self._answer("configuration"))

    def own_page(self, names: t.Container[str]) -> Exposition:
        return parse(str(self._answer("page")).encode(), names)

    def label_values(self, label: str, selector: str, start: float, end: float, limit: int = 0) -> list[str]:
        self.asked.append(selector)
        self._answer("label_values")
        found = re.search(r'__name__=~"([^"]*)"', selector)
        return [name for name in self.counts if re.fullmatch(found[1] if found else ".*", name)]

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        self.asked.append(expression)
        self._answer("query")
        names = re.search(r'=~"(.*)"', expression)
        assert names
        pattern = json.loads(f'"{names[1]}"')
        return [
            Sample({"__name__": name, "job": "j"}, count, NOW)
            for name, count in self.counts.items()
            if re.fullmatch(pattern, name)
        ]

    def targets(self) -> list[Target]:
        if self._answer("targets") is not None:
            return list(self._answer("targets"))
        return [Target({"job": "j"}, "j", "http://t", "up", "", NOW, 10.0, 5.0)]


def line(query: str, ago: float = 0.0) -> str:
    """:param ago: days before now."""
    day = 30 - int(ago)
    return (
        f'{{"time":"2026-11-{day:02d}T00:00:00Z","params":{{"query":{json.dumps(query)},"start":"","end":"","step":0}},'
        '"stats":{"timings":{"execQueueTime":0.1,"execTotalTime":0.2},"samples":{"totalQueryableSamples":5,'
        '"peakSamples":2}},"httpRequest":{"clientIP":"10.0.0.7","path":"/api/v1/query"}}\n'
    )


def whole_log(*queries: str) -> list[str]:
    return [line("vector(1)", 29), *(line(query, 3) for query in queries), line("vector(1)")]


@pytest.fixture
def look(tmp_path: Path) -> t.Callable[..., Look]:
    def looked(
        counts: dict[str, int] | None = None,
        expression: str = "vector(1)",
        log: t.Sequence[str] = tuple(whole_log()),
        dashboards: t.Sequence[str] | None = None,
        **answers: t.Any,
    ) -> Look:
        board = {"title": "B", "panels": [{"title": "P", "targets": [{"expr": expression}]}]}
        (tmp_path / "board.json").write_text(json.dumps(board))
        (tmp_path / "query.log").write_text("".join(log))
        paths = [str(tmp_path / "board.json")] if dashboards is None else dashboards
        options = Options(paths, str(tmp_path / "query.log"), NOW - 30 * DAY, NOW, top=3, jobs=1)
        return Look(Fake(COUNTS if counts is None else counts, **answers), options)

    return looked


Looked = t.Callable[..., Look]


def by_name(found: Look) -> dict[str, str]:
    return {metric.name: metric.usage for metric in found.metrics}


def only(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


def test_what_nobody_reads_is_unused_and_its_drop_is_written_out(look: Looked) -> None:
    found = look(expression="busy", rules=[rule("Slow", "histogram_quantile(0.9, fill_seconds_bucket)")])
    findings = found.findings()
    assert by_name(found) == {
        "spare": "unused", "busy": "used", "fill_seconds_bucket": "used",
        "fill_seconds_count": "used", "fill_seconds_sum": "used",
    }  # fmt: skip
    summary = only(findings, "usage.metrics")
    assert summary.severity == "info"
    assert summary.summary.startswith("1 of 5 metrics are unused: no rule, dashboard or logged query reads them.")
    assert "40 series (42% of the head) and take 4 samples a second" in summary.summary
    assert summary.evidence["figures"]["unused_metrics"] == 1
    assert summary.evidence["chart"]["bars"] == [{"label": "spare (unused)", "value": 40}]
    (drop,) = found.drop_rows()
    assert (drop["job"], drop["series"], drop["samples_per_second"]) == ("j", 40, 4.0)
    assert drop["relabelling"] == (
        "# scrape job j; unused\nmetric_relabel_configs:\n"
        "  - source_labels: [__name__]\n    regex: 'spare'\n    action: drop\n"
    )
    (row,) = found.rows()
    assert (row["jobs"], row["samples_per_second"], row["readers"]) == (["j"], 4.0, [])
    assert only(findings, "usage.readers").severity == "ok"
    assert only(findings, "usage.metric").subject == "spare"
    assert found.counts()["used"]["metrics"] == 4


def test_a_logged_query_and_a_template_are_readers(look: Looked) -> None:
    template = "{{ with printf \"busy{x='%s'}\" .Labels.x | query }}{{ . | first | value }}{{ end }}"
    found = look(log=whole_log("sum(spare)"), rules=[rule("A", "fill_seconds_count", text=template)])
    findings = found.findings()
    assert by_name(found)["spare"] == by_name(found)["busy"] == "used"
    # Its buckets are for themselves.
    assert by_name(found)["fill_seconds_bucket"] == "unused"
    assert only(findings, "usage.metric").subject == "fill_seconds_bucket"


def test_a_rule_that_is_no_more_uses_nothing(look: Looked) -> None:
    by_a_rule = re.sub(r'"httpRequest":{.*?}', '"ruleGroup":{"file":"/f","name":"g"}', line("spare", 3))
    found = look(log=[*whole_log(), by_a_rule])
    assert "1 different logged queries" in only(found.findings(), "usage.readers").summary
    assert by_name(found)["spare"] == "unused"


def test_a_template_whose_query_is_put_together_may_read_anything(look: Looked) -> None:
    found = look(rules=[rule("A", "busy", text="{{ query .Labels.text }}")])
    assert "put together" in only(found.findings(), "usage.unknown").summary
    assert set(by_name(found).values()) == {"used", "unknown"}


def test_our_own_inventories_use_nothing(look: Looked) -> None:
    own = look(expression="busy")
    own.findings()
    asked = [text for text in t.cast("Fake", own.client).asked if text.startswith("count")]
    assert len(asked) == 1
    found = look(log=whole_log(*asked, 'count by (__name__) ({__name__=~".+"})'), expression="busy")
    found.findings()
    assert by_name(found) == by_name(own)
    assert by_name(found)["spare"] == "unused"


def test_regular_expressions_use_all_that_match(look: Looked) -> None:
    found = look(expression='sum({__name__=~"fill_.*|busy"})')
    found.findings()
    assert [name for name, its in by_name(found).items() if its == "unused"] == ["spare"]
    assert {"dashboard", "board.json"} <= set(re.split(r"[ :/]", found.metrics[1].readers[0]))


def test_labels_alone_make_what_they_match_unknown(look: Looked) -> None:
    found = look(expression='{job="j"} > 0', rules=[rule("A", "busy")])
    findings = found.findings()
    assert by_name(found)["busy"] == "used"
    assert by_name(found)["spare"] == "unknown"
    assert found.drop_rows() == []
    assert only(findings, "usage.metrics").severity == "unknown"
    assert "spare may be read by dashboard" in only(findings, "usage.unknown").summary


def test_a_query_that_is_not_understood_makes_its_words_unknown_and_not_more(look: Looked) -> None:
    found = look(expression="of_tomorrow(spare)")
    findings = found.findings()
    assert by_name(found)["spare"] == "unknown"
    assert by_name(found)["busy"] == "unused"
    assert only(findings, "usage.metrics").severity == "info"
    assert only(findings, "usage.unknown").evidence["figures"] == {"unknown_metrics": 1, "unknown_series": 40}
    # Its cost is known all the same.
    assert [row["samples_per_second"] for row in found.rows() if row["name"] == "spare"] == [4.0]


TAKEN = 'prometheus_http_requests_total{code="200",handler="/federate"} 7\n'


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"configuration": "remote_write:\n- url: http://x\n"}, "every sample is sent to another server"),
        ({"configuration": Unauthorised("GET /api/v1/status/config", "HTTP 401")}, "HTTP 401"),
        ({"page": TAKEN}, "another server federates"),
        ({"rules": Refused("GET /api/v1/rules", "no")}, "they are not known"),
        ({"dashboards": ["/does/not/exist.json"]}, "cannot be read"),
        ({"expression": '{__name__=~"a"}', "label_values": Refused("GET", "no")}, "what matches"),
        ({"expression": "sum($anything)"}, "selects any metric"),
    ],
)
def test_where_anything_may_be_read_nothing_is_unused(look: Looked, answers: dict[str, t.Any], said: str) -> None:
    found = look(**answers)
    findings = found.findings()
    assert not {"unused", "probably unused"} & set(by_name(found).values())
    assert found.drop_rows() == []
    assert only(findings, "usage.metrics").severity == "unknown"
    assert said in only(findings, "usage.unknown").summary


LONG = "sum(spare) + 0 * " + "0" * 5000 + " + max(fill_seconds_bucket)"


def test_a_long_query_is_read_to_its_end(look: Looked) -> None:
    found = look(log=whole_log(LONG))
    only(found.findings(), "usage.readers")
    assert (by_name(found)["spare"], by_name(found)["fill_seconds_bucket"]) == ("used", "used")
    assert "unused" in by_name(found).values()


def test_of_a_query_that_was_cut_the_beginning_is_read_and_nothing_else_is_sure(
    look: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_log, "_WHOLE", 0)
    found = look(log=whole_log(LONG))
    readers = only(found.findings(), "usage.readers")
    assert (by_name(found)["spare"], by_name(found)["fill_seconds_bucket"]) == ("used", "probably unused")
    assert "1 logged queries are so long" in readers.summary


def test_our_own_audits_use_nothing_but_what_servers_say_about_themselves(look: Looked) -> None:
    counts = {"spare": 3, "prometheus_tsdb_head_series": 1}
    queries = ["sum(spare)", "sum(prometheus_tsdb_head_series)", '{__name__=~"spare.*", job="x"}']
    found = look(counts=counts, log=whole_log(*(f"{query} # {AUDIT}" for query in queries)))
    found.findings()
    assert by_name(found) == {"spare": "unused", "prometheus_tsdb_head_series": "used"}
    others = look(counts=counts, log=whole_log(*queries))
    others.findings()
    assert set(by_name(others).values()) == {"used"}


@pytest.mark.parametrize("page", [TAKEN.replace(" 7", " 0"), TAKEN.replace("200", "400")])
def test_a_federation_that_nobody_asked_for_takes_nothing(look: Looked, page: str) -> None:
    found = look(page=page)
    found.findings()
    assert set(by_name(found).values()) == {"unused"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dashboards": []}, "no dashboards were given"),
        ({"log": [line("vector(1)", 2), line("vector(1)")]}, "tells of 2 d only, of the 30 d"),
        ({"log": []}, "there is no query of the window"),
        ({"log": [*whole_log(), "what is this\n"]}, "1 lines of the query log are not understood"),
        ({"log": whole_log(*(f"x{n}" for n in range(2 * KEPT)))}, "so many different queries"),
    ],
)
def test_what_was_not_read_whole_proves_nothing(look: Looked, options: dict[str, t.Any], said: str) -> None:
    found = look(**options)
    findings = found.findings()
    assert set(by_name(found).values()) == {"probably unused"}
    assert found.drop_rows()[0]["usage"] == "probably unused"
    readers = only(findings, "usage.readers")
    assert readers.severity == "info"
    assert said in readers.summary
    assert said in only(findings, "usage.metrics").summary


def test_a_log_that_is_not_there_proves_nothing(look: Looked, tmp_path: Path) -> None:
    found = look()
    found.options = Options(found.options.dashboards, "", NOW - DAY, NOW, 3, 1)
    assert "keeps no query log" in only(found.findings(), "usage.readers").summary
    found = look()
    found.options = Options(found.options.dashboards, str(tmp_path / "no" / "query.log"), NOW - DAY, NOW, 3, 1)
    assert "cannot be read: No such file" in only(found.findings(), "usage.readers").summary


def test_what_a_rule_records_is_dropped_by_its_rule(look: Looked) -> None:
    found = look(counts={"job:x:sum": 3, "x": 5}, rules=[rule("job:x:sum", "sum by (job) (x)", "recording")])
    findings = found.findings()
    assert by_name(found) == {"job:x:sum": "unused", "x": "used"}
    assert found.drop_rows() == []
    finding = only(findings, "usage.metric")
    assert "Remove the rule of the group g" in finding.remedy
    assert "relabelling" not in finding.evidence
    # By the interval of its group.
    assert found.rows()[0]["samples_per_second"] == 3 / 60
    assert "(job:x:sum) remove the rule instead" in only(findings, "usage.metrics").remedy


@pytest.mark.parametrize("name", ["query", "targets"])
def test_a_cost_that_cannot_be_asked_is_not_known(look: Looked, name: str) -> None:
    error: HttpError = Refused("POST /api/v1/query", "query timed out")
    found = look(expression="busy", **{name: error})
    finding = only(found.findings(), "usage.metrics")
    assert found.rows()[0]["samples_per_second"] is None
    assert finding.evidence["not_counted"] == [str(error)]
    assert finding.evidence["samples_not_known"] == 4
    assert "take at least 0 samples a second" in finding.summary


def test_counts_are_asked_in_bounded_pieces(look: Looked) -> None:
    counts = {f"a_name_of_a_metric_{number}": 10 for number in range(400)}
    counts.update(large=30_000, larger=45_000, largest=QUERIED_SERIES + 1)
    found = look(counts=counts)
    found.findings()
    asked = t.cast("Fake", found.client).asked
    assert len(asked) == 4
    assert max(map(len, asked)) > 3500
    again = look(counts=counts, log=whole_log(*asked))
    again.findings()
    assert by_name(again) == by_name(found)
    unknown = [row["name"] for row in found.rows() if row["samples_per_second"] is None]
    assert unknown == ["largest"]
    # What its job is was not asked.
    assert {drop["job"] for drop in found.drop_rows()} == {"", "j"}


def test_only_so_many_selectors_are_asked(look: Looked) -> None:
    queries = [f'{{__name__=~"a{number}"}}' for number in range(usage.SELECTORS + 1)]
    found = look(log=whole_log(*queries))
    findings = found.findings()
    assert len([text for text in t.cast("Fake", found.client).asked if text.startswith("{")]) == usage.SELECTORS
    assert "more than 60 selectors" in only(findings, "usage.unknown").summary


def test_the_largest_are_told_and_the_others_are_in_the_table(look: Looked) -> None:
    found = look(counts={f"m{number}": number + 1 for number in range(40)})
    findings = found.findings()
    assert [finding.subject for finding in findings if finding.check == "usage.metric"] == ["m39", "m38", "m37"]
    assert len(found.rows()) == 40
    (drop,) = found.drop_rows()
    assert drop["relabelling"].count("action: drop") == 2
    assert len(only(findings, "usage.metrics").evidence["chart"]["bars"]) == usage.SHOWN


def test_a_name_of_prometheus_3_stands_quoted_and_escaped(look: Looked) -> None:
    found = look(counts={"it's.new": 2})
    found.findings()
    assert "regex: 'it''s\\.new'" in found.drop_rows()[0]["relabelling"]


def test_a_job_that_has_no_target_is_brought_by_another(look: Looked) -> None:
    found = look(counts={"pushed": 2}, targets=[])
    found.findings()
    (drop,) = found.drop_rows()
    assert drop["relabelling"].startswith("# scrape job that brings j; unused\n")
    assert drop["samples_per_second"] is None


def test_an_empty_head_is_not_judged(look: Looked) -> None:
    finding = only(look(counts={"up": 1}).findings(), "usage.metrics")
    assert finding.severity == "unknown"


def test_all_used_is_well(look: Looked) -> None:
    finding = only(look(counts={"busy": 1}, expression="busy").findings(), "usage.metrics")
    assert finding.severity == "ok"
