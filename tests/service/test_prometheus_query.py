# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries of real servers: what they give, what they refuse, and what is made of both."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest

from tests.testbench import module, servers

PAIRS = 'label_replace(vector(1), "n", "a", "", "") or label_replace(vector(2), "n", "b", "", "")'


@pytest.fixture(scope="module", params=["2", "3"])
def prometheus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    with servers.prometheus(tmp_path_factory.mktemp(f"prometheus{request.param}"), request.param) as server:
        yield server.url


def ask(url: str, query: str, **options: t.Any) -> dict[str, t.Any]:
    answer = module.run("prometheus_query", {"prometheus_url": url, "query": query, **options})
    assert answer.get("changed") is False, answer
    return answer


def finding(answer: dict[str, t.Any]) -> dict[str, t.Any]:
    (found,) = answer["findings"]
    return t.cast("dict[str, t.Any]", found)


def test_each_type_of_result_is_told_as_what_it_is(prometheus: str) -> None:
    at = "2026-01-31T12:00:00Z"
    scalar = ask(prometheus, "1 + 1", time=at)
    assert (scalar["result_type"], scalar["result"]) == (
        "scalar",
        [{"labels": {}, "time": 1769860800.0, "value": 2.0}],
    )
    text = ask(prometheus, '"x"')
    assert (text["result_type"], text["text"], text["result"]) == ("string", "x", [])
    vector = ask(prometheus, PAIRS, time="1769860800.5")
    assert {row["labels"]["n"]: row["value"] for row in vector["result"]} == {"a": 1, "b": 2}
    matrix = ask(prometheus, "vector(time())", start=at, end="2026-01-31T12:01:00Z", step="30s")
    assert matrix["result"][0]["values"] == [[at, at] for at in (1769860800.0, 1769860830.0, 1769860860.0)]
    assert finding(matrix)["evidence"]["chart"]["kind"] == "lines"


def test_what_json_does_not_know_is_a_text(prometheus: str) -> None:
    answer = ask(prometheus, "vector(0) / 0 or vector(1)")
    assert [row["value"] for row in answer["result"]] == ["NaN"]
    for expression, value in (("vector(1) / 0", "+Inf"), ("vector(-1) / 0", "-Inf")):
        assert ask(prometheus, expression)["result"][0]["value"] == value
    # No parser of JSON stumbles over it.
    assert "NaN" not in json.dumps(answer["result"]).replace('"NaN"', "")


def test_a_window_ends_now(prometheus: str) -> None:
    answer = ask(prometheus, "vector(1)", window="10m")
    times = [at for at, _value in answer["result"][0]["values"]]
    assert times[-1] == pytest.approx(time.time(), abs=5)
    assert times[-1] - times[0] == pytest.approx(600, abs=3)
    assert len(times) == 251


@pytest.mark.parametrize(
    ("conditions", "met"),
    [
        (["all >= 1"], True),
        (["all > 1"], False),
        (["any > 1", "count == 2"], True),
        (["none > 1"], False),
        (["none > 2"], True),
        (["all >= 1", "count == 3"], False),
    ],
)
def test_conditions_are_judged(prometheus: str, conditions: list[str], met: bool) -> None:
    answer = ask(prometheus, PAIRS, conditions=conditions, severity="critical")
    assert answer["met"] is met
    assert finding(answer)["severity"] == ("ok" if met else "critical")


def test_a_condition_that_fails_says_by_which_sample(prometheus: str) -> None:
    answer = ask(prometheus, PAIRS, conditions=["all < 2"])
    assert 'all < 2 does not hold: 1 of 2 samples are not, such as 2.0 of {n="b"}' in finding(answer)["summary"]


def test_an_empty_result_is_a_failure_unless_that_is_said(prometheus: str) -> None:
    assert ask(prometheus, "nothing", conditions=["none > 1"])["met"] is False
    assert ask(prometheus, "nothing", conditions=["none > 1"], allow_empty=True)["met"] is True
    assert ask(prometheus, "nothing", conditions=["count == 0"])["met"] is True


def test_no_number_fulfils_no_condition(prometheus: str) -> None:
    for condition in ("all != 1", "any != 1", "none > 1"):
        assert ask(prometheus, "vector(0) / 0", conditions=[condition])["met"] is False


def test_more_series_than_allowed_are_cut_and_never_called_as_they_should_be(prometheus: str) -> None:
    answer = ask(prometheus, PAIRS, limit=1, conditions=["all >= 1"])
    assert (len(answer["result"]), answer["truncated"], answer["met"]) == (1, True, False)
    assert finding(answer)["severity"] == "unknown"
    assert "more than 1 series" in finding(answer)["summary"]
    assert ask(prometheus, PAIRS, limit=2, conditions=["all >= 1"])["met"] is True


def test_a_query_that_cannot_be_read_is_told_with_its_position(prometheus: str) -> None:
    answer = ask(prometheus, "sum(\nup", conditions=["count == 1"])
    assert (answer["problem"], answer["met"]) == ("query", False)
    found = finding(answer)
    assert found["severity"] == "unknown"
    assert found["evidence"]["position"] == {"line": 2, "column": 3}
    assert "at line 2, column 3: unclosed left parenthesis." in found["summary"]


def test_a_query_that_cannot_be_evaluated_is_told_with_the_reason(prometheus: str) -> None:
    answer = ask(prometheus, f"({PAIRS}) + on () ({PAIRS})")
    assert answer["problem"] == "query"
    assert "many-to-many matching not allowed" in finding(answer)["summary"]


def test_remarks_of_the_server_are_shown(prometheus: str) -> None:
    answer = ask(prometheus, "quantile(2, vector(1))")
    assert any("quantile value should be between 0 and 1" in warning for warning in answer["server_warnings"])
    assert "the server warns" in finding(answer)["summary"]
    assert any("quantile value" in str(warning) for warning in answer["warnings"])


def test_a_query_that_takes_too_long_is_given_up_by_the_server(prometheus: str) -> None:
    slow = "sum_over_time(vector(1)[30d:1s])"
    answer = ask(prometheus, f"{slow} + {slow} + {slow}", prometheus_timeout=0.6)
    assert answer["problem"] in ("too_slow", "unreachable"), answer
    assert finding(answer)["severity"] == "unknown"


def test_who_does_not_answer_or_wants_a_login_or_knows_no_such_thing_is_told_apart(tmp_path: Path) -> None:
    answer = ask(f"http://127.0.0.1:{servers.free_port()}", "up", conditions=["all == 1"])
    assert (answer["problem"], answer["met"], finding(answer)["severity"]) == ("unreachable", False, "unknown")
    with servers.node_exporter(tmp_path) as server:
        assert ask(server.url, "up")["problem"] == "unsupported"
    # The password is "test", as in the documentation of Prometheus.
    users = "basic_auth_users: {admin: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay}\n"
    (tmp_path / "web.yml").write_text(users)
    with servers.prometheus(tmp_path, arguments=[f"--web.config.file={tmp_path}/web.yml"]) as server:
        assert ask(server.url, "up")["problem"] == "unauthorised"
        (tmp_path / "password").write_text("test\n")
        login = {"prometheus_username": "admin", "prometheus_password_file": f"{tmp_path}/password"}
        answer = ask(server.url, "1", conditions=["all == 1"], **login)
        assert (answer["problem"], answer["met"]) == ("", True)


def test_victoria_metrics_answers_too(tmp_path: Path) -> None:
    with servers.victoria_metrics(tmp_path) as server:
        answer = ask(server.url, "vector(1)", conditions=["all == 1"])
        assert (answer["problem"], answer["met"]) == ("", True)
        assert ask(server.url, "sum(")["problem"] == "query"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditions": ["most > 1"]}, "conditions: 'most > 1' is no condition; all >= 1"),
        ({"conditions": ["all > NaN"]}, "conditions: 'all > NaN' is no condition"),
        ({"time": "yesterday"}, "time: 'yesterday' is no time"),
        ({"window": "1d", "step": "1s"}, "step: 1 s is too short for the range; 8 s or more would do"),
        ({"step": "1s"}, "step: belongs to a range"),
        ({"start": "2026-01-31T12:00:00Z", "end": "2026-01-31T11:00:00Z"}, "start: it is 1 h later than the end"),
        ({"limit": 0}, "limit: 0 is too few"),
        ({"time": "1769860800", "window": "1h"}, "mutually exclusive"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(prometheus: str, options: dict[str, t.Any], said: str) -> None:
    answer = module.run("prometheus_query", {"prometheus_url": prometheus, "query": "up", **options})
    assert answer["failed"]
    assert said in answer["msg"]
