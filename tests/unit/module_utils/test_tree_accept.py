# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._tree import accept
from ansible_collections.njord.telemetry.plugins.module_utils._tree.accept import Reload, validate
from ansible_collections.njord.telemetry.plugins.module_utils._tree.tree import Refused
from ansible_collections.njord.telemetry.plugins.module_utils._tree.wanted import File

FILES = {"main.yml": File(b"key: value\n"), "rules/a.yml": File(b"groups: []\n")}


def test_a_validating_command_sees_all_files_in_a_directory_that_is_gone_afterwards(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; sys.exit(Path(sys.argv[1], 'rules/a.yml').read_text())"
    findings = validate(FILES, [[sys.executable, "-c", program, "%s"]], "/etc/demo", str(tmp_path), first=False)
    assert [(finding.severity, finding.evidence["output"]) for finding in findings] == [("critical", "groups: []")]
    assert list(tmp_path.iterdir()) == []


def test_what_a_validating_command_says_names_the_destination(tmp_path: Path) -> None:
    findings = validate(FILES, [["ls", "%s/nowhere"]], "/etc/demo", str(tmp_path), first=False)
    assert findings[0].summary.startswith("ls /etc/demo/nowhere refuses the new files with ")
    assert "/etc/demo/nowhere" in findings[0].evidence["output"]
    assert str(tmp_path) not in repr(findings)


def test_a_validating_command_that_is_content_is_ok(tmp_path: Path) -> None:
    findings = validate(FILES, [["test", "-f", "%s/main.yml"]], "/etc/demo", str(tmp_path), first=False)
    assert [(finding.check, finding.severity) for finding in findings] == [("file_tree.validate", "ok")]


def test_secrets_do_not_appear_in_what_a_validating_command_says(tmp_path: Path) -> None:
    files = {"web.yml": File(b"basic_auth_users:\n  'operator': \"sesame-open\"\n", secret=True)}
    command = [sys.executable, "-c", "import sys; sys.exit(open(sys.argv[1]).read())", "%s/web.yml"]
    findings = validate(files, [command], "/etc/demo", str(tmp_path), first=False)
    assert findings[0].severity == "critical"
    assert "(hidden)" in findings[0].summary
    assert "sesame" not in repr(findings)


@pytest.mark.parametrize(("first", "severity"), [(True, "unknown"), (False, "critical")])
def test_a_validating_program_that_is_missing_is_unknown_only_where_a_run_would_install_it_first(
    tmp_path: Path, first: bool, severity: str
) -> None:
    findings = validate(FILES, [["no-such-promtool", "check"]], "/etc/demo", str(tmp_path), first)
    assert [(finding.subject, finding.severity) for finding in findings] == [("no-such-promtool", severity)]


def test_a_command_that_hangs_is_ended_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "TIMEOUT_SECONDS", 0.2)
    findings = validate(FILES, [["sleep", "60"]], "/etc/demo", str(tmp_path), first=False)
    assert "no end within 0.2 s" in findings[0].summary


def test_a_reload_command_refuses_by_its_exit_code() -> None:
    Reload(["true"])()
    with pytest.raises(Refused, match="ended with 3: line 7"):
        Reload(["sh", "-c", "echo line 7; exit 3"])()


def test_a_reload_command_that_does_not_exist_refuses() -> None:
    with pytest.raises(Refused, match="no-such-program"):
        Reload(["no-such-program"])()


def test_nobody_listening_refuses() -> None:
    with pytest.raises(Refused, match=r"POST http://127\.0\.0\.1:9/-/reload: connection refused"):
        Reload(server=Server("http://127.0.0.1:9/-/reload"))()


def test_a_secret_file_that_cannot_be_read_refuses(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"No such file.*/token"):
        Reload(server=Server("http://127.0.0.1:9/-/reload"), secret_files={"token": f"{tmp_path}/token"})()


@pytest.mark.parametrize(("only_if", "due"), [([], True), (["true"], True), (["false"], False), (["no-such"], False)])
def test_a_reload_is_due_where_something_runs_that_can_be_told(only_if: list[str], due: bool) -> None:
    assert Reload(["true"], only_if=only_if).is_due() is due
