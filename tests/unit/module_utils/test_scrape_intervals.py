# SPDX-License-Identifier: GPL-3.0-or-later
"""What scrape intervals are proposed: those of the runbook's table, and nothing that is already right is changed."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration import scrape_intervals
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration.scrape_intervals import (
    REST,
    ROWS,
    Entry,
    Split,
    change,
    interval_of,
    of_keep,
    propose,
    variable,
)
from hypothesis import given
from hypothesis import strategies as st

PACES = {"fills": "fast", "orders": "fast", "pnl": "slow", "size": "slow", "lag": "system"}
SECONDS = st.sampled_from([1.0, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0])
SPLITS = st.dictionaries(st.sampled_from(list(PACES)), st.sampled_from(["fast", "slow", "own"]), max_size=5).flatmap(
    lambda of: st.fixed_dictionaries(
        {
            name: SECONDS.map(functools.partial(Entry, metrics=frozenset(m for m in of if of[m] == name)))
            for name in sorted(set(of.values()))
        }
    )
)


def asked(split: Split, rest: float, **others: t.Any) -> scrape_intervals.Proposal:
    given_all: dict[str, t.Any] = {"wishes": {}, "limits": {}, "together": [], **others}
    return propose(PACES, split, rest, **given_all)


def split(**entries: tuple[float, str]) -> Split:
    return {name: Entry(seconds, frozenset(metrics.split())) for name, (seconds, metrics) in entries.items()}


def test_only_what_lies_outside_of_its_row_moves_and_no_further_than_to_its_edge() -> None:
    assert asked({}, 15).split == split(slow=(30, "pnl size"))
    assert asked({}, 60).split == split(fast=(15, "fills orders"), system=(30, "lag"))
    assert asked({}, 1).split == split(fast=(5, "fills orders"), slow=(30, "pnl size"), system=(15, "lag"))


def test_a_wish_moves_what_is_right_already_and_only_of_its_row() -> None:
    assert asked({}, 15, wishes={"fast": 5.0, "slow": 60.0}).split == split(
        fast=(5, "fills orders"), slow=(60, "pnl size")
    )
    assert asked(split(fast=(5, "fills orders")), 15, wishes={"fast": 15.0}).split == split(slow=(30, "pnl size"))


def test_an_interval_that_somebody_chose_stays_where_it_is_right_and_takes_what_is_new() -> None:
    assert asked(split(slow=(45, "pnl")), 15).split == split(slow=(45, "pnl size"))
    assert asked(split(own=(10, "fills lag")), 15).split == split(own=(10, "fills"), slow=(30, "pnl size"))
    assert asked(split(own=(7, "unheard_of")), 20).split == split(
        fast=(15, "fills orders"), own=(7, "unheard_of"), slow=(30, "pnl size")
    )


def test_what_a_rule_would_not_bear_stays_and_it_is_said_why() -> None:
    found = asked({}, 15, limits={"pnl": 15.0, "size": 75.0})
    assert found.split == split(slow=(30, "size"))
    assert found.left == {"pnl": "a rule reads it over a range that bears 15 s at most"}


def test_what_a_rule_joins_by_its_job_is_not_parted() -> None:
    found = asked({}, 15, together=[frozenset(["size", "lag"]), frozenset(["size", "pnl"])])
    assert found.split == {}
    assert set(found.left) == {"size", "lag", "pnl"}
    assert asked({}, 15, together=[frozenset(["size", REST])]).split == split(slow=(30, "pnl"))
    assert asked({}, 15, together=[frozenset(["size", "pnl"])]).split == split(slow=(30, "pnl size"))


@given(SPLITS, SECONDS, st.dictionaries(st.sampled_from(list(PACES)), SECONDS))
def test_what_is_proposed_for_a_proposal_is_the_same_and_each_metric_has_one_place(
    before: Split, rest: float, limits: dict[str, float]
) -> None:
    found = asked(before, rest, limits=limits)
    assert asked(found.split, rest, limits=limits).split == found.split
    named = [metric for entry in found.split.values() for metric in entry.metrics]
    assert len(named) == len(set(named))
    for metric, pace in PACES.items():
        assert metric in found.left or ROWS[pace].has(interval_of(metric, found.split, rest))


@given(st.frozensets(st.sampled_from(["a", "b", "a_b", "c_count_d"]), min_size=1))
def test_the_filter_of_a_job_is_read_back_as_what_it_was_made_of(metrics: frozenset[str]) -> None:
    names = "|".join(sorted(metrics))
    assert of_keep(f"({names})(_total|_bucket|_sum|_count|_created)?") == metrics
    assert of_keep(f"({names})(_total|_bucket|_sum)?") is None
    assert of_keep(f"({names}).*") is None


def test_the_variable_has_the_names_of_the_catalogue() -> None:
    known = {"fills": "fills_total", "size": "size"}
    given_all = variable(split(fast=(5, "size fills own")), known)
    assert given_all == {"fast": {"interval": "5s", "metrics": ["fills_total", "own", "size"]}}
    assert change(given_all, given_all) == ""
    assert "+    interval: 5s" in change({}, given_all)
