# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a whole backup, and of a drill."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import job, rescue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import create
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding

from tests.service.backups import NOW, Files


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "fills.jsonl").write_text('{"fill_id": 1}\n')
    return tmp_path / "lines"


def drilled(tmp_path: Path, lines: Path, facts: dict[str, t.Any], spoil: bool = False) -> Finding:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    manifest, _cost = create(catalogue, [Files("journals", lines, facts)], NOW, "here")
    if spoil:
        for sha256, _size in catalogue.store.objects():
            catalogue.store.path(sha256).write_text("rotten")
    found = job.drill_and_tell(job.Prover(catalogue, None, None), manifest.name)
    return next(finding for finding in found if finding.check == "backup.drill")


def test_a_drill_that_has_nothing_to_compare_with_could_not_tell_which_is_no_damage(
    tmp_path: Path, lines: Path
) -> None:
    finding = drilled(tmp_path, lines, {"figures_error": "a line is cut off"})
    assert finding.severity == "unknown"
    assert "could not tell whether it does" in finding.summary
    assert finding.summary.endswith("a line is cut off.")


def test_a_drill_of_what_has_rotted_showed_that_it_does_not_come_back(tmp_path: Path, lines: Path) -> None:
    finding = drilled(tmp_path, lines, {"figures_error": "a line is cut off"}, spoil=True)
    assert finding.severity == "critical"
    assert "showed that it does not" in finding.summary


@pytest.mark.parametrize(("later", "named"), [(100, False), (90, False), (80, True)])
def test_a_backup_that_was_made_after_the_loss_names_the_one_from_before(
    tmp_path: Path, lines: Path, later: int, named: bool
) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    names = []
    for number, samples in enumerate((100, later)):
        source = Files("prometheus", lines, {"samples": samples})
        names.append(create(catalogue, [source], NOW + 86400 * number, "here")[0].name)
    entry = catalogue.entry(names[1])
    assert entry.manifest
    found = rescue.fuller(catalogue, entry, entry.manifest.parts[0])
    assert [finding.subject for finding in found] == ([names[0]] if named else [])
