# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the report on the controller; the module of the same name keeps it on the host."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import re
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._report_store import PROCEDURE, Store, StoreError
from ansible_collections.njord.telemetry.plugins.modules.report import ARGUMENTS
from ansible_collections.njord.telemetry.plugins.plugin_utils._report import history, html, junit, markdown, metrics
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.collect import (
    Action,
    HostFinding,
    HostResults,
    collect,
    message,
)
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.model import (
    ALL_HOSTS,
    Report,
    assess,
    read_contacts,
    read_given,
)
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.plain import plain
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.units import parse_time
from ansible_collections.njord.telemetry.plugins.plugin_utils._report.wording import summary, verdict_line

# What the module needs to know of the task's arguments.
_STORE_OPTIONS = ("procedure", "directory", "textfile_directory", "keep")


def _pages(report: Report) -> dict[str, str]:
    return {
        "html": html.render(report),
        "md": markdown.render(report),
        "json": json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False),
        "xml": junit.render(report),
    }


def _versions() -> dict[str, str]:
    """The collection's is that of the installed archive (MANIFEST.json) or of the checkout (galaxy.yml)."""
    root = Path(__file__).resolve().parents[2]
    files = (path.read_text("utf-8") for path in (root / "MANIFEST.json", root / "galaxy.yml") if path.is_file())
    found = re.search(r'^\s*"?version"?: *"?([^",\s]+)', next(files, ""), re.MULTILINE)
    return {
        "njord.telemetry": found[1] if found else "unknown",
        "ansible-core": ansible_version,
        "Python": platform.python_version(),
    }


@dataclasses.dataclass
class _Draft:
    """The report while it is being made: keeping it may bring findings of its own."""

    options: dict[str, t.Any]
    hosts: list[HostResults]
    findings: list[HostFinding]
    actions: list[Action]
    started: datetime.datetime | None
    check_mode: bool
    finished: datetime.datetime
    earlier: list[history.Run] = dataclasses.field(default_factory=list)

    def note(self, check: str, subject: str, severity: str, text: str, remedy: str = "") -> None:
        """Adds a finding about the report itself."""
        self.findings.append(HostFinding(ALL_HOSTS, Finding(check, subject, severity, text, {}, remedy)))

    def report(self) -> Report:
        return Report(
            procedure=self.options["procedure"],
            title=self.options["title"] or self.options["procedure"].replace("_", " ").capitalize(),
            hosts=tuple(host.host for host in self.hosts),
            findings=assess(self.findings, self.options["accepted"], self.finished),
            actions=tuple(self.actions),
            contacts=read_contacts(self.options["contacts"]),
            earlier=tuple(self.earlier),
            started=self.started,
            finished=self.finished,
            check_mode=self.check_mode,
            fail_on=self.options["fail_on"],
            versions=_versions(),
        )


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _result, arguments = self.validate_argument_spec(ARGUMENTS.options)
        options = plain(arguments)
        draft = self._draft(options, variables)
        result = self._made(draft, variables)
        # Whoever reads the job's output sees what the page says first.
        for line in result["summary"]:
            self._display.display(line)
        if result.get("failed") and (result["report"] or result["stored"]):
            # Ansible prints the whole result of what fails. The pages have all of it, and so have the lines above.
            del result["findings"], result["summary"]
        return result

    def _made(self, draft: _Draft, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        kept = bool(draft.options["directory"]) and self._read_history(draft, variables)
        if self._task.check_mode:
            return self._result(draft.report(), page=html.render(draft.report()))
        moment = f"{draft.finished:%Y%m%dT%H%M%SZ}"
        stored = self._store(draft, variables, moment) if kept else ""
        copied = self._copy(draft, moment)
        return self._ended(draft.report(), stored, copied)

    def _draft(self, options: dict[str, t.Any], variables: dict[str, t.Any]) -> _Draft:
        """:raises AnsibleActionFail: where an option cannot be read."""
        if not PROCEDURE.match(options["procedure"]):
            raise AnsibleActionFail(
                f"procedure: {options['procedure']!r} is no importable name; maintenance_weekly would be one"
            )
        if options["directory"] and not options["directory"].startswith(("/", "~")):
            raise AnsibleActionFail(
                f"directory: {options['directory']!r} is relative; an absolute path would do, or an empty one, "
                "which keeps the report on the controller only"
            )
        if not options["textfile_directory"].startswith(("/", "~")):
            raise AnsibleActionFail(
                f"textfile_directory: {options['textfile_directory']!r} is no absolute path; one would do, or none, "
                "which is where the role node_exporter reads"
            )
        if options["keep"] < 1:
            raise AnsibleActionFail(f"keep: {options['keep']} reports cannot be kept; 1 or more would do")
        try:
            started = parse_time(options["started"]) if options["started"] else None
        except ValueError as error:
            raise AnsibleActionFail(f"started: {error}") from error
        hosts = self._hosts(options["results"], variables)
        findings, actions = collect(hosts, options["results"], self._task.check_mode)
        return _Draft(
            options,
            hosts,
            findings + read_given(options["findings"]),
            actions,
            started,
            self._task.check_mode,
            datetime.datetime.now(datetime.timezone.utc),
        )

    def _hosts(self, names: list[str], variables: dict[str, t.Any]) -> list[HostResults]:
        hostvars = variables["hostvars"]
        alive = variables["ansible_play_hosts"]
        found = []
        for host in variables["ansible_play_hosts_all"]:
            registered = hostvars[host]
            results = {name: plain(registered[name]) for name in names if name in registered}
            found.append(HostResults(str(host), results, dropped=host not in alive))
        return found

    def _on_host(self, variables: dict[str, t.Any], content: str | None = None) -> tuple[dict[str, t.Any], str]:
        """What the module returned, or why it did not: one execution on the host."""
        # As they were given: a path below ~ is one of the host.
        given = {name: self._task.args[name] for name in _STORE_OPTIONS if name in self._task.args}
        try:
            result = self._execute_module(
                module_name="njord.telemetry.report", module_args={**given, "_report": content}, task_vars=variables
            )
        except AnsibleError as error:
            return {}, message({"msg": str(error)})
        if result.get("failed") or result.get("unreachable"):
            return {}, message(result)
        return result, ""

    def _cannot_be_kept(self, draft: _Draft, trouble: str) -> None:
        directory = draft.options["directory"]
        draft.note(
            "report.store",
            directory,
            "unknown",
            f"The report cannot be kept on {self._report_host}: {trouble} "
            "What it would have said of earlier reports is not known, and Prometheus will miss this run.",
            f"Look at {self._report_host}: does it answer, is {directory} writable, has its disk room? "
            "Then run the procedure again.",
        )

    @property
    def _report_host(self) -> str:
        return str(self._task.delegate_to or self._play_context.remote_addr)

    def _read_history(self, draft: _Draft, variables: dict[str, t.Any]) -> bool:
        """Reads the earlier reports; False where the host cannot be asked."""
        read, trouble = self._on_host(variables)
        if trouble:
            self._cannot_be_kept(draft, trouble)
            return False
        draft.earlier, unreadable = history.read(read["history"])
        if unreadable:
            draft.note(
                "report.history",
                draft.options["directory"],
                "info",
                f"{unreadable} lines of the history of reports cannot be read; the trend goes without them.",
            )
        if not read["has_textfiles"]:
            directory = draft.options["textfile_directory"]
            draft.note(
                "report.textfile",
                directory,
                "info",
                f"{self._report_host} has no {directory}: Prometheus is not told of this run.",
                "Install node_exporter with its text-file collector (role node_exporter), or set textfile_directory.",
            )
        return True

    def _store(self, draft: _Draft, variables: dict[str, t.Any], moment: str) -> str:
        """Path of the page on the host; empty where it cannot be kept there."""
        report = draft.report()
        content = {
            "moment": moment,
            "files": _pages(report),
            "line": report.run.as_line(),
            "metrics": metrics.render(report),
        }
        result, trouble = self._on_host(variables, json.dumps(content))
        if trouble:
            self._cannot_be_kept(draft, trouble)
        if result.get("textfile_error"):
            draft.note(
                "report.textfile",
                draft.options["textfile_directory"],
                "warning",
                f"Prometheus is not told of this run: {result['textfile_error']}.",
                "Let the user of this task write there, or set textfile_directory.",
            )
        return str(result.get("stored", ""))

    def _copy(self, draft: _Draft, moment: str) -> str:
        """Path of the page on the controller; empty where it cannot be written."""
        options = draft.options
        directory = Path(options["copy_to"]).expanduser().absolute()
        try:
            page = Store(directory, options["procedure"]).keep(moment, _pages(draft.report()), options["keep"])
        except StoreError as error:
            draft.note(
                "report.copy",
                str(directory),
                "warning",
                f"The report has no copy on the controller: {error}.",
                "Set copy_to to a directory that this user may write.",
            )
            return ""
        return str(page)

    def _result(self, report: Report, **more: t.Any) -> dict[str, t.Any]:
        return {
            "changed": False,
            "verdict": report.verdict,
            "counts": report.counts,
            "findings": [item.as_dict() for item in report.findings],
            "report": "",
            "stored": "",
            "summary": summary(report),
            **more,
        }

    def _ended(self, report: Report, stored: str, copied: str) -> dict[str, t.Any]:
        where = copied or (f"{stored} on {self._report_host}" if stored else "")
        if not where:
            # All that is left of it is this result.
            troubles = [item.finding.summary for item in report.findings if item.finding.check.startswith("report.")]
            return self._result(
                report, failed=True, msg=" ".join([verdict_line(report), *troubles]), page=html.render(report)
            )
        result = {**self._result(report), "changed": True, "report": copied, "stored": stored}
        result["summary"].append(f"Report: {where}")
        if report.fails:
            result.update(failed=True, msg=f"{verdict_line(report)} See {where}")
        return result
