# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Which queries are slow, who asks them, which fail and why, and which recording rule would help.

The server's own answer is its query log, so a server that is down can be told of as well. Rules are evaluated day and
night and would hide every dashboard: they are told of apart.

Sources: the runbook's "Query Performance" and "Quarterly Maintenance";
https://prometheus.io/docs/guides/query-log/
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from pathlib import Path

from ..._finding import Finding
from ..._http import HttpError, Refused
from ..._prometheus import Prometheus, Rule
from ..._units import duration, human_duration, human_size
from .. import not_prometheus, part
from .query_log import OTHER, REQUEST, RULE, UNFINISHED, Origin, Stats, Summary, error_kind
from .query_log_files import Log, read
from .recording_rule import NoRule, Proof, Proposal, now_of, propose, prove, renamed

LOG, WRITING, SLOW, ERRORS, QUEUE, RULES = (
    "query.log",
    "query.writing",
    "query.slow",
    "query.errors",
    "query.queue",
    "query.rules",
)
# Findings of slow queries, and of those how many are given a rule: each costs the server some evaluations.
NAMED = 10
PROPOSED = 5
LABEL = 60
SUBJECT = 120
# A group that needs more of its interval than this is soon late.
SHARE_WARNING, SHARE_CRITICAL = 0.5, 0.9
# Of a log that is shorter no share is told.
SHORTEST_SECONDS = 60.0
EVALUATION_SECONDS = 60.0

_KINDS = {RULE: "a rule", REQUEST: "clients", OTHER: "the server itself"}
_LOG_FILE = re.compile(r"^ {2}query_log_file: (.+)$", re.MULTILINE)
_EVALUATION = re.compile(r"^ {2}evaluation_interval: (\S+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Question:
    """What is to be told.

    :param path: of the log; the server is asked where it is empty.
    :param since: unix seconds, like ``until``.
    :param slow_seconds: a query whose 95th percentile is at least this is slow; so is one that waits for so long.
    :param top: rows of each table.
    :param jobs: processes that read at once.
    :param promtool: its path; empty where it is not there.
    """

    path: str
    since: float
    until: float
    slow_seconds: float
    top: int
    jobs: int
    promtool: str


class Look:
    """One look at the query log of a server; :meth:`findings` takes it."""

    def __init__(self, client: Prometheus, question: Question) -> None:
        self.client = client
        self.question = question
        self.path = question.path
        self.log: Log | None = None
        self._proposals: dict[tuple[str, str], Proposal] = {}
        self._configuration: str | None = None

    def findings(self) -> list[Finding]:
        if not self.path:
            found = self._place()
            if not self.path:
                return found
        writing = part(WRITING, self.path, self._writing)
        found = self._read()
        if self.log is None:
            return [*found, *writing]
        summary = self.log.summary
        if summary.understood:
            found += [*self._slow(summary), *self._errors(summary), *self._queue(summary), *self._groups(summary)]
        return [*found, *writing]

    # The result

    def rows(self, kind: str) -> list[dict[str, t.Any]]:
        """The costliest queries of a kind first."""
        summary = self._summary()
        ranked = sorted(
            ((query, stats) for (its, query), stats in summary.by_query().items() if its == kind),
            key=lambda row: -row[1].seconds,
        )
        return [self._query_row(kind, query, stats) for query, stats in ranked[: self.question.top]]

    def query_rows(self) -> list[dict[str, t.Any]]:
        """Those of clients before those of rules, each the costliest first."""
        return [row for kind in (REQUEST, RULE, OTHER) for row in self.rows(kind)]

    def group_rows(self) -> list[dict[str, t.Any]]:
        return [{"group": origin.name, "file": origin.file, **_figures(stats)} for origin, stats in self._origins(RULE)]

    def client_rows(self) -> list[dict[str, t.Any]]:
        return [{"client": origin.name, **_figures(stats)} for origin, stats in self._origins(REQUEST)]

    def counts(self) -> dict[str, t.Any]:
        summary = self._summary()
        kinds = dict.fromkeys((RULE, REQUEST, OTHER), 0)
        errors = 0
        for origin, stats in summary.by_origin().items():
            kinds[origin.kind] += stats.count
            errors += stats.errors
        return {
            "lines": summary.understood,
            "rules": kinds[RULE],
            "requests": kinds[REQUEST],
            "other": kinds[OTHER],
            "errors": errors,
            "outside_window": summary.outside,
            "not_understood": {reason: count for reason, (count, _example) in sorted(summary.not_understood.items())},
            "bytes": self.log.bytes if self.log else 0,
            "approximate": summary.is_approximate,
        }

    def file_rows(self) -> list[dict[str, t.Any]]:
        return [dataclasses.asdict(file) for file in self.log.files] if self.log else []

    def _summary(self) -> Summary:
        return self.log.summary if self.log else Summary()

    def _origins(self, kind: str) -> list[tuple[Origin, Stats]]:
        found = [(origin, stats) for origin, stats in self._summary().by_origin().items() if origin.kind == kind]
        return sorted(found, key=lambda row: -row[1].seconds)[: self.question.top]

    def _query_row(self, kind: str, query: str, stats: Stats) -> dict[str, t.Any]:
        askers = sorted(
            ((origin.name, one.seconds) for (origin, text), one in self._summary().queries.items()
             if text == query and origin.kind == kind),
            key=lambda row: -row[1],
        )  # fmt: skip
        proposal = self._proposals.get((kind, query))
        return {
            "kind": kind,
            "query": stats.slowest.query if stats.slowest else query,
            "shape": query,
            **_figures(stats),
            "asked_by": [name for name, _seconds in askers[:5]],
            "slowest": _slowest(stats),
            "missing_seconds_at_most": stats.missing,
            "recording_rule": proposal.text if proposal else "",
        }

    # Where the log is, and whether it is written

    def _place(self) -> list[Finding]:
        address = self.client.server.url
        stranger = not_prometheus(LOG, self.client)
        if stranger:
            return stranger

        def look() -> list[Finding]:
            self.path = log_file(self.client, self._configured())
            if self.path:
                return []
            summary = f"Not known: Prometheus at {address} keeps no query log, global.query_log_file is not set."
            remedy = (
                "Set prometheus_query_log: true (role prometheus, by site.yml), or global.query_log_file, and reload: "
                "no restart is needed, and the log tells of what is asked from then on."
            )
            return [Finding(LOG, address, "unknown", summary, {"asked": "GET /api/v1/status/config"}, remedy)]

        return part(LOG, address, look)

    def _configured(self) -> str:
        if self._configuration is None:
            self._configuration = self.client.configuration()
        return self._configuration

    def _writing(self) -> list[Finding]:
        found = _LOG_FILE.search(self._configured())
        failures = self.client.own("prometheus_engine_query_log_failures_total")
        reloaded = self.client.own("prometheus_config_last_reload_successful") == 1
        enabled = self.client.own("prometheus_engine_query_log_enabled") == 1
        evidence = {
            "asked": "GET /api/v1/status/config, GET /metrics",
            "query_log_file": found.group(1) if found else "",
            "figures": {"query_log_failures": failures},
            "query_log_enabled": enabled,
            "last_reload_successful": reloaded,
        }
        if not found:
            summary = "Prometheus writes no query log now: what was read is what it wrote before, or another's."
            remedy = "Set prometheus_query_log: true (role prometheus, by site.yml) and reload."
            return [Finding(WRITING, self.path, "warning", summary, evidence, remedy)]
        if not enabled or not (reloaded or Path(self.path).exists()):
            summary = (
                f"Prometheus cannot write the query log {self.path}: it refused its last configuration, and goes on "
                "with the log it had, if any; with this configuration it would not start."
            )
            remedy = (
                f"See that {Path(self.path).parent} is there and belongs to the user of Prometheus, then reload it "
                "(ansible-playbook site.yml does both). In a container the path is that of the container."
            )
            return [Finding(WRITING, self.path, "critical", summary, evidence, remedy)]
        if failures:
            summary = f"Prometheus failed to write {failures:.0f} lines of its query log since it was started."
            remedy = "See whether the disk of the log is full: ansible-playbook maintenance-weekly.yml."
            return [Finding(WRITING, self.path, "warning", summary, evidence, remedy)]
        return [Finding(WRITING, self.path, "ok", "Prometheus writes its query log without a failure.", evidence)]

    # What it holds

    def _read(self) -> list[Finding]:
        question = self.question
        asked = {"path": self.path}
        try:
            log = read(Path(self.path), question.since, question.until, question.jobs)
        except OSError as error:
            summary = f"Not known: the query log {self.path} cannot be read: {error.strerror or error}."
            return [Finding(LOG, self.path, "unknown", summary, asked, self._readable())]
        if not log.files:
            said = f" ({log.problems[0]})" if log.problems else ""
            summary = f"Not known: the query log {self.path} is not there or not to be read{said}."
            evidence = {**asked, "problems": log.problems}
            return [Finding(LOG, self.path, "unknown", summary, evidence, self._readable())]
        self.log = log
        return [self._of_log(log)]

    def _readable(self) -> str:
        return (
            "Run as root (become: true) on the host of Prometheus; where Prometheus runs in a container, give the "
            "path of the log on the host with path. Where it is not there at all, see the finding query.writing."
        )

    def _of_log(self, log: Log) -> Finding:
        summary = log.summary
        broken = sum(count for count, _example in summary.not_understood.values())
        evidence: dict[str, t.Any] = {
            "path": self.path,
            "files": [[file.path, file.size, file.state] for file in log.files],
            "problems": log.problems,
            "not_understood": {
                reason: {"lines": count, "example": example}
                for reason, (count, example) in summary.not_understood.items()
            },
            "approximate": summary.is_approximate,
            "figures": {
                "queries": summary.understood,
                "lines_not_understood": broken,
                "query_seconds": round(sum(stats.seconds for stats in summary.by_origin().values()), 3),
            },
        }
        if summary.is_approximate:
            evidence["floor_seconds"] = summary.floor
        where = f"{self.path} ({human_size(log.bytes)} in {sum(file.state == 'read' for file in log.files)} files)"
        if not summary.understood:
            said = f"none of {broken} lines is understood" if broken else "no line of it is from the window"
            remedy = "See whether it is the query log of Prometheus, or ask about a longer window."
            return Finding(LOG, self.path, "unknown", f"Not known: {where}: {said}.", evidence, remedy)
        evidence["chart"] = self._chart(summary)
        span = human_duration(summary.last - summary.first)
        told = f"{summary.understood} queries in {span} were read from {where}"
        if summary.is_approximate:
            told += "; there are so many different ones that only the costliest are told apart"
        # A line that is being written is no defect.
        unfinished = set(summary.not_understood) == {UNFINISHED}
        if log.problems or (broken and not unfinished):
            missing = [f"{broken} lines are not understood"] if broken else []
            missing += (
                [f"{len(log.problems)} files or parts could not be read ({log.problems[0]})"] if log.problems else []
            )
            remedy = "The examples in the evidence show which; what stands there is not among the figures."
            return Finding(LOG, self.path, "warning", f"{told}, but {' and '.join(missing)}.", evidence, remedy)
        return Finding(LOG, self.path, "ok", f"{told}.", evidence)

    def _chart(self, summary: Summary) -> dict[str, t.Any]:
        rows = sorted(summary.by_query().items(), key=lambda row: -row[1].seconds)[: self.question.top]
        bars = [
            {"label": f"{_cut(query, LABEL)} ({kind})", "value": round(stats.seconds, 3)}
            for (kind, query), stats in rows
        ]
        return {"kind": "bars", "title": "Time spent in queries", "unit": "s", "bars": bars}

    def _slow(self, summary: Summary) -> list[Finding]:
        limit = self.question.slow_seconds
        found = [(key, stats) for key, stats in summary.by_query().items() if stats.sketch.quantile(0.95) >= limit]
        found.sort(key=lambda row: -row[1].seconds)
        if not found:
            (kind, query), stats = max(summary.by_query().items(), key=lambda row: row[1].seconds)
            told = (
                f"No query's 95th percentile reaches {human_duration(limit)}; the costliest takes "
                f"{human_duration(stats.seconds)} in all, asked {stats.count} times by {_KINDS[kind]}: "
                f"{_cut(query, SUBJECT)}."
            )
            return [Finding(SLOW, "all queries", "ok", told, {"limit_seconds": limit})]
        rules, unknown = self._known_rules()
        taken = {rule.name for rule in rules if rule.kind == "recording"}
        findings = []
        for place, ((kind, query), stats) in enumerate(found[:NAMED]):
            evidence = self._slow_evidence(kind, query, stats)
            if unknown:
                evidence["rules"] = unknown
            remedy = "Make it cheaper: a shorter range, fewer series by narrower labels, or a recording rule."
            if place < PROPOSED:
                remedy = self._help(kind, query, stats, rules, taken, evidence)
            findings.append(self._slow_finding(kind, query, stats, evidence, remedy))
        if len(found) > NAMED:
            told = f"{len(found) - NAMED} further queries are as slow; they are in the result."
            findings.append(Finding(SLOW, "further queries", "info", told, {"limit_seconds": limit}))
        return findings

    def _slow_evidence(self, kind: str, query: str, stats: Stats) -> dict[str, t.Any]:
        row = self._query_row(kind, query, stats)
        figures = {"p95_seconds": row["p95"], "total_seconds": row["seconds"], "evaluations": row["count"]}
        keys = (
            "query",
            "count",
            "p50",
            "p95",
            "max",
            "samples",
            "peak_samples",
            "queue_max",
            "errors",
            "asked_by",
            "quantile_error",
        )
        return {
            **{key: row[key] for key in keys},
            "slowest": row["slowest"],
            "missing_seconds_at_most": stats.missing,
            "figures": figures,
        }

    def _slow_finding(self, kind: str, query: str, stats: Stats, evidence: dict[str, t.Any], remedy: str) -> Finding:
        told = (
            f"A query of {_KINDS[kind]} ({', '.join(evidence['asked_by'][:2]) or 'not said which'}) takes "
            f"{human_duration(evidence['p95'])} at the 95th percentile and {human_duration(stats.longest)} at most, "
            f"{human_duration(stats.seconds)} in all, asked {stats.count} times: {_cut(query, SUBJECT)}"
        )
        told += "" if told.endswith("...") else "."
        return Finding(SLOW, _cut(query, SUBJECT), "warning", told, evidence, remedy)

    def _known_rules(self) -> tuple[list[Rule], str]:
        """The rules that the server has, and why they are not known."""
        try:
            return self.client.rules(), ""
        except HttpError as error:
            return [], f"not known: {error}"

    def _help(
        self,
        kind: str,
        query: str,
        stats: Stats,
        rules: list[Rule],
        taken: set[str],
        evidence: dict[str, t.Any],
    ) -> str:
        """What would help; the rule and its proof go to the evidence."""
        text = stats.slowest.query if stats.slowest else query
        if stats.varies:
            evidence["no_recording_rule"] = "its range is counted out anew by each dashboard"
            return (
                "Its range follows the time that the dashboard shows, so no rule can record it: let the panel ask for "
                "a fixed range ([5m]) over a recording rule, or show less time."
            )
        try:
            text = self.client.formatted(text)
            recorded = next((rule for rule in rules if rule.kind == "recording" and rule.query == text), None)
            if recorded:
                return self._is_recorded(kind, recorded)
            samples = self.client.query(text)
            names = sorted({name for sample in samples for name in sample.labels} - {"__name__"})
            proposal = propose(text, names, self._interval())
        except Refused as error:
            evidence["no_recording_rule"] = f"the server refuses the query: {error.came_back}"
            return "Mend the query first: the server refuses it."
        except HttpError as error:
            evidence["no_recording_rule"] = f"not known: {error}"
            return "The server could not be asked about a rule for it; run again once it answers."
        except NoRule as error:
            evidence["no_recording_rule"] = str(error)
            return f"No recording rule would help: {error}."
        same = next((rule for rule in rules if rule.kind == "recording" and rule.query == proposal.expression), None)
        if same:
            asked = _in_a_line(proposal.replacement).replace(proposal.record, same.name)
            return f"Ask for {asked} instead: the rule is there."
        number = 1
        name = proposal.record
        while proposal.record in taken:
            number += 1
            proposal = renamed(proposal, f"{name}_{number}")
        taken.add(proposal.record)
        proof = prove(self.client, proposal, self.question.promtool, now_of(self.client))
        evidence["recording_rule"] = proposal.text
        evidence["replacement"] = proposal.replacement
        evidence["proof"] = dataclasses.asdict(proof)
        if proof.state != "differs":
            self._proposals[kind, query] = proposal
        return _advice(proposal, proof)

    def _is_recorded(self, kind: str, rule: Rule) -> str:
        if kind == RULE:
            return (
                f"It is the recording rule {rule.name} itself: aggregate it from another one, or evaluate its group "
                f"{rule.group} less often."
            )
        return f"Ask for {rule.name} instead: that recording rule has the same expression."

    def _interval(self) -> float:
        found = _EVALUATION.search(self._configured())
        try:
            return duration(found.group(1)) if found else EVALUATION_SECONDS
        except ValueError:
            return EVALUATION_SECONDS

    def _errors(self, summary: Summary) -> list[Finding]:
        if not summary.failures:
            told = f"None of {summary.understood} queries failed."
            return [Finding(ERRORS, "all queries", "ok", told, {"figures": {"failed_queries": 0}})]
        findings = []
        for name, failure in sorted(summary.failures.items()):
            message, query, origin = failure.examples[0]
            kind = error_kind(message)
            told = (
                f"{failure.count} of {summary.understood} queries failed, {name}: {message.splitlines()[0][:SUBJECT]} "
                f"({_named(origin)}: {_cut(query, SUBJECT)})."
            )
            evidence = {
                "figures": {"failed_queries": failure.count},
                "examples": [
                    {"message": message, "query": query, "asked_by": origin.name, "kind": origin.kind}
                    for message, query, origin in failure.examples
                ],
            }
            findings.append(Finding(ERRORS, name, "warning", told, evidence, kind.remedy))
        return findings

    def _queue(self, summary: Summary) -> list[Finding]:
        origins = summary.by_origin()
        longest = max(stats.longest_queued for stats in origins.values())
        queued = sum(stats.queued for stats in origins.values())
        evidence = {
            "figures": {"longest_queued_seconds": longest, "queued_seconds": round(queued, 6)},
            "by": [[_named(origin), stats.longest_queued] for origin, stats in _by(origins, "longest_queued")[:5]],
        }
        if longest < self.question.slow_seconds:
            told = f"No query waited for its turn longer than {human_duration(longest)}."
            return [Finding(QUEUE, "all queries", "ok", told, evidence)]
        told = (
            f"A query waited {human_duration(longest)} for its turn: more were asked at once than "
            "--query.max-concurrency allows."
        )
        remedy = (
            "Make the costliest queries cheaper first (query.slow); more at once only help a server with idle cores."
        )
        return [Finding(QUEUE, "all queries", "warning", told, evidence, remedy)]

    def _groups(self, summary: Summary) -> list[Finding]:
        """A group evaluates its rules one after the other: what they take of the time there was is its load."""
        span = summary.last - summary.first
        groups = [(origin, stats) for origin, stats in _by(summary.by_origin(), "seconds") if origin.kind == RULE]
        if not groups:
            told = "No rule was evaluated in that time, by the log."
            return [Finding(RULES, "all rule groups", "info", told)]
        if span < SHORTEST_SECONDS:
            told = f"The log is {human_duration(span)} long, too short to tell the load of the rule groups."
            return [Finding(RULES, "all rule groups", "info", told)]
        shares = [(origin, stats.seconds / span) for origin, stats in groups]
        late = [(origin, share) for origin, share in shares if share >= SHARE_WARNING]
        evidence = {
            "log_seconds": span,
            "shares": [[origin.name, origin.file, round(share, 4)] for origin, share in shares[:20]],
            "figures": {"largest_share_ratio": round(shares[0][1], 4)},
        }
        if not late:
            told = (
                f"No rule group is busy; the busiest, {shares[0][0].name}, is evaluated {shares[0][1]:.1%} of the time."
            )
            return [Finding(RULES, "all rule groups", "ok", told, evidence)]
        return [
            Finding(
                RULES,
                origin.name,
                "critical" if share >= SHARE_CRITICAL else "warning",
                f"The rule group {origin.name} is being evaluated {share:.0%} of the time; near 100% it is late, and "
                "its alerts with it.",
                evidence,
                f"Split the group, evaluate it less often, or make its costliest rules cheaper ({origin.file}).",
            )
            for origin, share in late
        ]


def log_file(client: Prometheus, configuration: str) -> str:
    """Path of the query log, as the server sees it; empty where it keeps none.

    :raises HttpError: where it is relative, and the server does not say to what.
    """
    found = _LOG_FILE.search(configuration)
    if not found:
        return ""
    path = Path(found.group(1).strip().strip("'\""))
    # Relative to where the server was started, which its answer is from its configuration on.
    return str(path if path.is_absolute() else Path(str(client.runtime()["CWD"])) / path)


def _advice(proposal: Proposal, proof: Proof) -> str:
    told = {
        "proven": f"It gives the same values ({proof.compared} compared)",
        "unknown": "That it gives the same values is not proven",
        "differs": "Do not use the rule that was tried: it does not give the same values",
    }[proof.state]
    if proof.state == "differs":
        return f"{told}; see proof in the evidence. Make the query cheaper by a shorter range or narrower labels."
    return (
        f"Put the recording rule of the evidence into a file of rules (prometheus_rules of the role prometheus), and "
        f"ask for {_in_a_line(proposal.replacement)} instead. {told}; a dashboard then shows what is up to "
        f"{human_duration(proposal.interval)} old, and nothing from before the rule."
    )


def _in_a_line(expression: str) -> str:
    """The server's own form of an expression is of several lines."""
    return " ".join(expression.split())


def _figures(stats: Stats) -> dict[str, t.Any]:
    return {
        "count": stats.count,
        "errors": stats.errors,
        "seconds": stats.seconds,
        "p50": stats.sketch.quantile(0.5),
        "p95": stats.sketch.quantile(0.95),
        "max": stats.longest,
        "quantile_error": stats.sketch.relative_error,
        "queue_seconds": stats.queued,
        "queue_max": stats.longest_queued,
        "samples": stats.samples,
        "peak_samples": stats.peak,
    }


def _slowest(stats: Stats) -> dict[str, t.Any]:
    return stats.slowest._asdict() if stats.slowest else {}


def _by(origins: dict[Origin, Stats], figure: str) -> list[tuple[Origin, Stats]]:
    return sorted(origins.items(), key=lambda row: -getattr(row[1], figure))


def _named(origin: Origin) -> str:
    return {RULE: f"rule group {origin.name}", REQUEST: f"client {origin.name}"}.get(origin.kind, "the server itself")


def _cut(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
