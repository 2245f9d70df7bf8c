# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault laboratory: every fault by itself, on each version of Prometheus, and what the diagnosis says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.laboratory import __main__ as laboratory
from tests.laboratory.fault import VERSIONS, run
from tests.laboratory.table import FAULTS


def test_the_right_first_link_is_named_for_every_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = run(FAULTS, tmp_path)
    laboratory.write(verdicts)
    with capsys.disabled():
        laboratory.report(verdicts)
    assert [verdict.row() for verdict in verdicts if not verdict.is_right] == []
    assert len(verdicts) == sum(len(fault.versions) for fault in FAULTS)
    # A person waits for it.
    assert max(verdict.seconds for verdict in verdicts) < 5


def test_there_are_forty_faults_or_more_and_each_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 40
    assert all(set(fault.versions) <= set(VERSIONS) for fault in FAULTS)
