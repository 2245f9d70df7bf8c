# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding, worst


def test_nothing_asked_is_unknown_and_not_ok() -> None:
    assert worst([]) == "unknown"


def test_what_could_not_be_asked_is_worse_than_a_known_warning_and_better_than_a_critical() -> None:
    assert worst(["ok", "unknown", "warning"]) == "unknown"
    assert worst(["critical", "unknown"]) == "critical"


def test_a_severity_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'fatal' is none of ok, info, warning, unknown, critical"):
        Finding("disk.free", "/", "fatal", "The disk is gone.")
