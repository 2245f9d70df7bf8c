# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault laboratory: every fault by itself, some pairs, and a healthy stack; what the diagnosis says of each.

``make laboratory`` takes all the pairs, and an hour of health.
"""

from __future__ import annotations

import pytest

from tests.laboratory import __main__ as laboratory
from tests.laboratory import healthy
from tests.laboratory.fault import LINKS, VERSIONS, Verdict, run
from tests.laboratory.pairs import sample
from tests.laboratory.plan import Change
from tests.laboratory.table import FAULTS, PAIRS

# So many that they and all the faults fit on one bench.
SAMPLE = sample(PAIRS, 50)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    return run((*FAULTS, *SAMPLE), tmp_path_factory.mktemp("laboratory"))


@pytest.fixture(scope="module")
def healths(tmp_path_factory: pytest.TempPathFactory) -> list[healthy.Health]:
    return healthy.run(tmp_path_factory.mktemp("healthy"), healthy.SHORT)


def test_the_right_first_link_is_named_for_every_fault_and_of_two_the_earlier(
    verdicts: list[Verdict], healths: list[healthy.Health], capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.write(verdicts, healths)
    with capsys.disabled():
        laboratory.report(verdicts)
    assert [verdict.row() for verdict in verdicts if not verdict.is_right] == []
    assert len(verdicts) == sum(len(fault.versions) for fault in (*FAULTS, *SAMPLE))
    # A person waits for it.
    assert max(verdict.seconds for verdict in verdicts) < 5


def test_nothing_is_said_against_a_healthy_stack(
    healths: list[healthy.Health], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        healthy.report(healths)
    assert [alarm for health in healths for alarm in health.false] == []
    # Each diagnosis was asked on each version.
    assert {health.version for health in healths} == set(VERSIONS)
    assert min(health.answers for health in healths) >= 10


def test_there_are_forty_faults_or_more_and_each_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in (*FAULTS, *PAIRS)]
    assert len(FAULTS) >= 40
    assert len(set(names)) == len(names)
    assert all(set(fault.versions) <= set(VERSIONS) for fault in FAULTS)


def test_a_fault_with_a_link_can_be_made_together_with_others() -> None:
    assert {fault.link for fault in FAULTS if fault.link} == set(LINKS)
    for fault in FAULTS:
        assert isinstance(fault.make, Change) or not fault.link
        assert not fault.link or any(fault.name in pair.name.split(" + ") for pair in PAIRS)
