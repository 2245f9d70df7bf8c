# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names a scrape job lets through is told where it can be told for every name, and only there."""

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.configuration.name_filter import (
    EVERYTHING,
    NameFilter,
    language,
    of_relabelling,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = ["a", "a_total", "a_bucket", "b", "b_total", "c"]
PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "_total", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        inner.map(lambda part: f"(?:{part})?"),
    ),
    max_leaves=8,
)


def rule(action: str, regex: str, **others: t.Any) -> dict[str, t.Any]:
    return {"source_labels": ["__name__"], "regex": regex, "action": action, **others}


@given(PATTERNS)
def test_all_texts_of_an_expression_and_no_others_fit_it(pattern: str) -> None:
    texts = language(pattern)
    assert texts is not None
    assert all(re.fullmatch(pattern, text) for text in texts)
    candidates = {
        one + other for one in ("", "a", "b", "_total", "ab", "a_total") for other in ("", "a", "b", "_total")
    }
    assert {text for text in candidates if re.fullmatch(pattern, text)} <= texts


@pytest.mark.parametrize("pattern", ["a.*", "a+", "[ab]", "a{2}", "(?i)a", "^a", "(a", "a)", r"\d", "a|b*", "(.*)"])
def test_an_expression_that_fits_more_than_plain_texts_is_not_decided(pattern: str) -> None:
    assert language(pattern) is None


def test_an_expression_with_too_many_texts_is_not_decided() -> None:
    assert language("(a|b)" * 30) is None


def test_escaped_letters_are_themselves() -> None:
    assert language(r"a\.b\-c") == frozenset(["a.b-c"])


@pytest.mark.parametrize(
    ("rules", "passing"),
    [
        ([], NAMES),
        ([rule("keep", "(a|b)(_total)?")], ["a", "a_total", "b", "b_total"]),
        ([rule("drop", "(a|b)(_total)?")], ["a_bucket", "c"]),
        ([rule("keep", "(a)(_total)?"), rule("drop", "a")], ["a_total"]),
        ([rule("Drop", "a"), rule("drop", "c")], ["a_total", "a_bucket", "b", "b_total"]),
        # What other labels decide only takes away.
        ([{"source_labels": ["x"], "regex": "1", "action": "drop"}, {"action": "labeldrop", "regex": "y"}], NAMES),
    ],
)
def test_names_pass_as_they_do_in_prometheus(rules: list[dict[str, t.Any]], passing: list[str]) -> None:
    found = of_relabelling(rules)
    assert found is not None
    assert [name for name in NAMES if found.passes(name)] == passing


@pytest.mark.parametrize(
    "rules",
    [
        [rule("keep", "a.*")],
        [{"source_labels": ["x"], "target_label": "__name__", "regex": "(.*)", "action": "replace"}],
        [{"regex": "(.*)", "action": "labelmap"}],
    ],
)
def test_what_cannot_be_told_for_every_name_is_not_told(rules: list[dict[str, t.Any]]) -> None:
    assert of_relabelling(rules) is None


FILTERS = st.builds(NameFilter, st.frozensets(st.sampled_from(NAMES)), st.booleans())


@given(FILTERS, FILTERS)
def test_filters_are_disjoint_where_no_name_passes_both_and_two_that_only_drop_never_are(
    one: NameFilter, other: NameFilter
) -> None:
    shared = [name for name in (*NAMES, "any_other") if one.passes(name) and other.passes(name)]
    assert one.is_disjoint(other) == other.is_disjoint(one) == (shared == [])


def test_a_job_that_drops_what_another_keeps_shares_nothing_with_it() -> None:
    keep, drop = of_relabelling([rule("keep", "(a)(_total)?")]), of_relabelling([rule("drop", "(a|b)(_total)?")])
    assert keep is not None
    assert drop is not None
    assert keep.is_disjoint(drop)
    assert not keep.is_disjoint(EVERYTHING)
