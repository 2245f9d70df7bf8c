# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import sys
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._journal.configuration import ConfigurationError
from ansible_collections.njord.telemetry.plugins.module_utils._journal.policy import (
    DEFAULT,
    Level,
    Policy,
    PolicyError,
    parse,
    read,
)
from hypothesis import given
from hypothesis import strategies as st

UNSHOWN = "hunter2"
BLOCK = {"raw_metrics": [{"resolution": "1m", "retention_days": 3}, {"resolution": "1h", "retention_days": 9}]}
LEVELS = (Level(60, 3), Level(3600, 9))
NAMES = ("1s", "5s", "30s", "1m", "5m", "1h", "1d")


def levels(*pairs: tuple[t.Any, t.Any]) -> dict[str, t.Any]:
    return {"raw_metrics": [{"resolution": resolution, "retention_days": days} for resolution, days in pairs]}


def write(directory: Path, name: str, document: t.Any) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


class FakeYaml(types.ModuleType):
    """PyYAML as far as it is asked: a text stands for its answer."""

    class YAMLError(Exception):
        def __init__(self, line: int | None) -> None:
            super().__init__(UNSHOWN)
            if line is not None:
                self.problem_mark = types.SimpleNamespace(line=line)

    def __init__(self, answer: t.Any) -> None:
        super().__init__("yaml")
        self.answer = answer

    def safe_load(self, text: str) -> t.Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_default_is_the_runbooks() -> None:
    assert DEFAULT.levels == (Level(60, 7), Level(300, 30), Level(3600, 180), Level(86400, 730))
    assert (DEFAULT.cleanup_schedule, DEFAULT.source, DEFAULT.last_day) == ("0 2 * * *", "the default", 730)


@pytest.mark.parametrize(
    ("age", "resolution"),
    [(0, 60), (7, 60), (8, 300), (30, 300), (31, 3600), (180, 3600), (181, 86400), (730, 86400)],
)
def test_a_day_stays_at_a_level_until_it_is_older_than_its_retention(age: int, resolution: int) -> None:
    level = DEFAULT.level(age)
    assert level is not None
    assert level.resolution == resolution


def test_a_day_older_than_the_last_level_has_none() -> None:
    assert DEFAULT.level(731) is None


def test_a_day_to_come_is_at_the_finest_level() -> None:
    assert DEFAULT.level(-1) == Level(60, 7)


def test_the_levels_may_be_written_in_any_order() -> None:
    document = levels(("1d", 20), ("30s", 1), ("1h", 10))
    assert parse(document, "here").levels == (Level(30, 1), Level(3600, 10), Level(86400, 20))


def test_what_is_not_written_is_the_default() -> None:
    assert parse({}, "here") == Policy(DEFAULT.levels, DEFAULT.cleanup_schedule, "here")
    assert parse({"cleanup_schedule": " @daily "}, "here") == Policy(DEFAULT.levels, "@daily", "here")
    assert parse(BLOCK, "option retention") == Policy(LEVELS, "0 2 * * *", "option retention")


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.data())
def test_every_age_has_the_first_level_that_keeps_it(names: set[str], data: st.DataObject) -> None:
    ordered = sorted(names, key=NAMES.index)
    days = sorted(data.draw(st.sets(st.integers(1, 36500), min_size=len(ordered), max_size=len(ordered))))
    rows = data.draw(st.permutations(list(zip(ordered, days))))
    policy = parse(levels(*rows), "here")
    assert [level.retention_days for level in policy.levels] == days
    age = data.draw(st.integers(0, 40000))
    level = policy.level(age)
    assert (level.retention_days if level else None) == next((kept for kept in days if age <= kept), None)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "retention is empty: a mapping with raw_metrics and cleanup_schedule would do"),
        ([1], "retention is of type list: a mapping"),
        ({"raw": 1}, "retention has an unknown key raw: raw_metrics and cleanup_schedule would do"),
        ({1: 1}, "unknown key that is no name"),
        ({"redis://:pw@host": 1}, "unknown key that is no name"),
        ({"raw_metrics": []}, "raw_metrics is empty: a list of one level or more would do"),
        ({"raw_metrics": None}, "raw_metrics is empty: a list"),
        ({"raw_metrics": {}}, "raw_metrics is of type dict: a list"),
        ({"raw_metrics": ["1m"]}, r"raw_metrics\[0\] is of type str: a mapping with resolution and retention_days"),
        ({"raw_metrics": [{"resolution": "1m"}]}, r"raw_metrics\[0\] has no retention_days"),
        ({"raw_metrics": [{"retention_days": 1}]}, r"raw_metrics\[0\] has no resolution"),
        (
            {"raw_metrics": [{"resolution": "1m", "retention_days": 1, "days": 1}]},
            r"raw_metrics\[0\] has an unknown key days: resolution and retention_days would do",
        ),
        *[
            (levels((text, 7)), rf"raw_metrics\[0\].resolution is {shown}: a count and one of s, m, h and d")
            for text, shown in [
                (60, "60"),
                (True, "true"),
                (None, "empty"),
                (1.5, "1.5"),
                ("1", "'1'"),
                ("m", "'m'"),
                ("0m", "'0m'"),
                ("1 m", "'1 m'"),
                ("-1m", "'-1m'"),
                ("1w", "'1w'"),
                ("1M", "'1M'"),
                ("\u0661m", "'\u0661m'"),
                ("1" * 50 + "s", "'1{37}...'"),
            ]
        ],
        (levels(("7m", 7)), r"resolution 7m does not divide a day: 1m, 5m, 1h or 1d would do"),
        (levels(("2d", 7)), r"resolution 2d does not divide a day"),
        *[
            (
                levels(("1m", days)),
                rf"raw_metrics\[0\].retention_days is {shown}: a whole number of days from 1 to 36500",
            )
            for days, shown in [
                (0, "0"),
                (-1, "-1"),
                (36501, "36501"),
                (True, "true"),
                (7.0, "7.0"),
                ("7", "'7'"),
                (None, "empty"),
                (10**5000, "of type int"),
            ]
        ],
        (levels(("1m", 7), ("1m", 8)), "resolution 1m is there twice"),
        (levels(("1m", 7), ("60s", 8)), "resolution 1m is there twice"),
        (levels(("2m", 7), ("3m", 8)), "resolution 3m is no multiple of 2m"),
        (levels(("1h", 5), ("1m", 7)), "retention_days 5 of 1h is not above the 7 of 1m: 8 or more would do"),
        (levels(("1m", 7), ("1h", 7)), "retention_days 7 of 1h is not above the 7 of 1m"),
        ({"cleanup_schedule": 2}, r"cleanup_schedule is 2: a line of cron such as '0 2 \* \* \*' would do"),
        ({"cleanup_schedule": None}, "cleanup_schedule is empty"),
        ({"cleanup_schedule": "0 25 * * *"}, "cleanup_schedule: hour '25' is none: a number from 0 to 23"),
        ({"cleanup_schedule": "0 2 30 2 *"}, "cleanup_schedule: schedule '0 2 30 2 .*' never comes"),
    ],
)
def test_what_is_no_policy_is_refused(document: t.Any, said: str) -> None:
    with pytest.raises(PolicyError, match=f"^option retention: .*{said}") as refused:
        parse(document, "option retention")
    assert not str(refused.value).endswith(".")


@pytest.mark.parametrize("document", [BLOCK, {"retention": BLOCK}])
@pytest.mark.parametrize("asked", ["", "config"])
def test_the_configuration_root_is_config_or_its_parent(tmp_path: Path, document: t.Any, asked: str) -> None:
    path = write(tmp_path / "config", "retention.yaml", document)
    assert read(str(tmp_path / asked)) == (Policy(LEVELS, "0 2 * * *", str(path)), [])


def test_retention_yaml_wins_and_base_yaml_is_not_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path, "retention.yaml", BLOCK)
    write(tmp_path, "base.yaml", "no: [json")
    assert read(str(tmp_path)) == (Policy(LEVELS, "0 2 * * *", str(path)), [])


def test_a_block_in_base_yaml_is_read_with_a_warning_of_what_it_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "config", "base.yaml", {"postgres": {"dsn": UNSHOWN}, "retention": BLOCK})
    policy, warnings = read(str(tmp_path))
    assert policy == Policy(LEVELS, "0 2 * * *", str(path))
    assert len(warnings) == 1
    assert "stops every trading service at its next start" in warnings[0]
    assert str(tmp_path / "config" / "retention.yaml") in warnings[0]
    assert UNSHOWN not in warnings[0]


def test_base_yaml_without_the_block_means_the_default(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", {"postgres": {"dsn": UNSHOWN}})
    assert read(str(tmp_path)) == (DEFAULT, [])


def test_an_installation_without_either_file_means_the_default_with_a_warning(tmp_path: Path) -> None:
    assert read(str(tmp_path)) == (
        DEFAULT,
        [f"{tmp_path} holds neither retention.yaml nor base.yaml: the default retention policy applies"],
    )


def test_no_installation_means_the_default_with_a_warning(tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", write(tmp_path, "file", "")
    for root in (missing, file):
        assert read(str(root)) == (DEFAULT, [f"{root} is no directory: the default retention policy applies"])


def test_yaml_is_read_with_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", FakeYaml({"retention": BLOCK}))
    path = write(tmp_path, "retention.yaml", "retention: {raw_metrics: [...]}")
    assert read(str(tmp_path)) == (Policy(LEVELS, "0 2 * * *", str(path)), [])


@pytest.mark.parametrize("name", ["retention.yaml", "base.yaml"])
def test_without_pyyaml_the_error_names_the_file_and_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = write(tmp_path, name, f"password: {UNSHOWN}")
    with pytest.raises(ConfigurationError, match=r"without PyYAML \(package python3-yaml\)$") as refused:
        read(str(tmp_path))
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize("name", ["retention.yaml", "base.yaml"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "holds no sections"),
        ([UNSHOWN], "holds no sections"),
        (FakeYaml.YAMLError(3), "is no YAML, see line 4"),
        (FakeYaml.YAMLError(None), "is no YAML"),
        (ValueError(UNSHOWN), "is no YAML that can be read"),
        (KeyError(UNSHOWN), "is no YAML that can be read"),
        (RecursionError(UNSHOWN), "is no YAML that can be read"),
        (OverflowError(UNSHOWN), "is no YAML that can be read"),
    ],
)
def test_an_error_names_the_file_and_the_line_and_never_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: t.Any, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", FakeYaml(answer))
    path = write(tmp_path, name, f"password: {UNSHOWN}")
    with pytest.raises(ConfigurationError) as refused:
        read(str(tmp_path))
    assert str(refused.value) == f"{path} {said}"
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_error_in_a_block_names_the_file_and_no_other_section(tmp_path: Path) -> None:
    path = write(tmp_path, "base.yaml", {"postgres": {"dsn": UNSHOWN}, "retention": {"raw_metrics": UNSHOWN}})
    with pytest.raises(ConfigurationError) as refused:
        read(str(tmp_path))
    assert str(refused.value) == f"{path}: raw_metrics is of type str: a list of one level or more would do"


def test_retention_beside_other_keys_is_an_unknown_key(tmp_path: Path) -> None:
    write(tmp_path, "retention.yaml", {"retention": BLOCK, **BLOCK})
    with pytest.raises(PolicyError, match="unknown key retention"):
        read(str(tmp_path))


def test_a_file_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "retention.yaml"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigurationError, match=f"^{path} is no UTF-8$"):
        read(str(tmp_path))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "retention.yaml"
    path.mkdir()
    with pytest.raises(ConfigurationError, match=f"^{path} cannot be read: Is a directory$"):
        read(str(tmp_path))


def test_a_link_to_what_is_not_there_does_not_mean_the_default(tmp_path: Path) -> None:
    (tmp_path / "retention.yaml").symlink_to(tmp_path / "not mounted")
    write(tmp_path, "base.yaml", {})
    with pytest.raises(ConfigurationError, match="it is a link to what is not there"):
        read(str(tmp_path))
