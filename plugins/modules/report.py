#!/usr/bin/python
# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Make one report of everything that the hosts of a play have found
version_added: 0.1.0
author:
  - Njord Trust (@njord-trust)
description:
  - Ends a procedure. Gathers what the tasks before it registered on every host of the play, and makes one report of
    it, the worst on top. It is one HTML page that needs no network, and the same as Markdown, JSON and JUnit XML.
  - What a host could not tell is in it too. A host that does not answer is critical. A check that failed, that was not
    asked or that hides its result is unknown, and unknown is worse than a warning.
  - The report is kept on the host that the task runs on (O(directory)), with one line of history for the reports after
    it, and copied to the controller (O(copy_to)). A file of metrics tells Prometheus when the procedure last ran.
  - Only then does the task fail, by O(fail_on). Its result is whole all the same.
  - Where the reports cannot be kept, that is an unknown finding of the report, and the copy on the controller is
    made. The task fails for it only where O(fail_on) says so, or where the copy cannot be written either.
  - Run it once per play, as its last task, with C(run_once) and C(delegate_to), in a play that has
    C(ignore_unreachable) and no C(serial).
extends_documentation_fragment:
  - njord.telemetry.attributes
attributes:
  check_mode:
    support: full
    details:
      - Returns the page as RV(page) and writes nothing. O(fail_on) does not apply.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run is a report of its own.
options:
  procedure:
    description: Importable name of the playbook, such as V(maintenance_weekly).
    type: str
    required: true
  title:
    description: What the report is called. The default is the name of the procedure, in words.
    type: str
  results:
    description:
      - Names of the variables that the tasks before registered. Each is read on every host of the play.
      - A result brings its C(findings), and its C(plan) where it acts. One with items counts item by item. One
        without either counts as an action where it is changed.
    type: list
    elements: str
    default: []
  findings:
    description:
      - Further findings. One without C(host) is about all hosts.
    type: list
    elements: raw
    default: []
  started:
    description: When the procedure began, RFC 3339. Without it the report does not know how long it took.
    type: str
  directory:
    description:
      - Where the reports are kept on the host. Made where missing.
      - Empty keeps this one on the controller only, as when everything of ours goes from the host.
    type: path
    default: /var/lib/njord-telemetry/reports
  textfile_directory:
    description:
      - Where node_exporter's text-file collector reads. The file is C(njord_maintenance_PROCEDURE.prom).
      - Where it is missing, a note in the report says that there are no metrics.
    type: path
    default: /var/lib/prometheus/node-exporter
  copy_to:
    description: Directory on the controller for a copy. A relative one lies under the working directory.
    type: str
    default: reports
  keep:
    description: How many reports of this procedure are kept, on the host and on the controller.
    type: int
    default: 100
  fail_on:
    description: The task fails where the verdict is this or worse. From the best, V(unknown) comes after V(warning).
    type: str
    choices: [never, ok, info, warning, unknown, critical]
    default: critical
  contacts:
    description:
      - Whom to call, the first one first. Each has C(role), C(contact) (a telephone number, an address or a link) and
        C(escalation) (when).
    type: list
    elements: raw
    default: []
  accepted:
    description:
      - Findings that somebody has accepted. Each has C(check), C(subject) and C(host) (globs; the last two default to
        V(*)), C(reason), and C(until), an RFC 3339 date or time. A date holds through that day, UTC.
      - Such a finding is shown with its reason, and counts neither for the verdict nor for O(fail_on).
      - An entry that is malformed or has expired is a warning in the report. One that matches nothing is a note.
    type: list
    elements: raw
    default: []
  _report:
    description: What the controller wants kept on the host; not for use in a task.
    type: str
"""

EXAMPLES = r"""
- name: Weekly maintenance
  hosts: telemetry
  gather_facts: false
  become: true
  ignore_unreachable: true
  tasks:
    - name: Begin
      ansible.builtin.set_fact:
        started: "{{ now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ') }}"

    - name: Look at journals and disks
      njord.telemetry.journal_info:
      register: journals

    - name: Report
      njord.telemetry.report:
        procedure: maintenance_weekly
        title: Weekly maintenance
        results: [journals]
        started: "{{ started }}"
        contacts:
          - role: On-call engineer
            contact: +47 22 33 44 55
            escalation: At once for anything critical.
        # - {check: certificate.expiry, host: test-*, reason: Renewed by hand on Mondays., until: "2026-12-31"}
        accepted: "{{ telemetry_accepted }}"
      delegate_to: "{{ telemetry_report_host }}"
      run_once: true
"""

RETURN = r"""
verdict:
  description: The worst severity that nobody has accepted.
  returned: always
  type: str
  sample: warning
counts:
  description: Open findings per severity.
  returned: always
  type: dict
  sample: {critical: 0, unknown: 0, warning: 1, info: 2, ok: 21}
findings:
  description: All findings, the worst first, accepted ones last.
  returned: unless the job fails and the pages have them
  type: list
  elements: dict
  contains:
    host:
      description: The host it is about; V(all) where it is about the whole run.
      type: str
      returned: always
    check:
      description: What was asked.
      type: str
      returned: always
    subject:
      description: Of what it was asked.
      type: str
      returned: always
    severity:
      description: V(ok), V(info), V(warning), V(unknown) or V(critical).
      type: str
      returned: always
    summary:
      description: What was seen, in one sentence.
      type: str
      returned: always
    evidence:
      description: Figures, the query, the answer.
      type: dict
      returned: always
    remedy:
      description: What to do next.
      type: str
      returned: always
    accepted:
      description: C(reason) and C(until) where somebody has accepted it, otherwise null.
      type: dict
      returned: always
report:
  description: Path of the page on the controller; empty where there is none.
  returned: always
  type: str
  sample: /home/operator/reports/20261003T022140Z_maintenance_weekly.html
stored:
  description: Path of the page on the host; empty where it was not stored.
  returned: always
  type: str
  sample: /var/lib/njord-telemetry/reports/20261003T022140Z_maintenance_weekly.html
summary:
  description: Lines for a terminal, which are printed too. The verdict, then what presses, each with its remedy.
  returned: unless the job fails and the pages have them
  type: list
  elements: str
page:
  description: The page, HTML.
  returned: in check mode, and where the report could be kept nowhere
  type: str
"""

import json
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils import _report_store
from ansible_collections.njord.telemetry.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.njord.telemetry.plugins.module_utils._finding import SEVERITIES

# The action on the controller reads them as well: it makes the report, and this module is its store.
ARGUMENTS = ArgumentSpec(
    {
        "procedure": {"type": "str", "required": True},
        "title": {"type": "str"},
        "results": {"type": "list", "elements": "str", "default": []},
        "findings": {"type": "list", "elements": "raw", "default": []},
        "started": {"type": "str"},
        "directory": {"type": "path", "default": "/var/lib/njord-telemetry/reports"},
        "textfile_directory": {"type": "path", "default": "/var/lib/prometheus/node-exporter"},
        "copy_to": {"type": "str", "default": "reports"},
        "keep": {"type": "int", "default": 100},
        "fail_on": {"type": "str", "choices": ["never", *SEVERITIES], "default": "critical"},
        "contacts": {"type": "list", "elements": "raw", "default": []},
        "accepted": {"type": "list", "elements": "raw", "default": []},
        # What the action wants stored, as JSON; without it the history is read. Hidden only to keep it out of the
        # host's log, where it would be a megabyte.
        "_report": {"type": "str", "no_log": True},
    }
)


def _metrics(directory: str, procedure: str, text: str) -> dict[str, str]:
    """Where the metrics were written, or why they were not: the report is stored all the same."""
    try:
        return {"textfile": str(_report_store.write_metrics(Path(directory), procedure, text)), "textfile_error": ""}
    except _report_store.StoreError as error:
        return {"textfile": "", "textfile_error": str(error)}


def main() -> None:
    module = ARGUMENTS.module()
    options = module.params
    store = _report_store.Store(Path(options["directory"]), options["procedure"])
    has_textfiles = _report_store.is_directory(Path(options["textfile_directory"]))
    result: dict[str, t.Any] = {"changed": False, "has_textfiles": has_textfiles}
    try:
        if options["_report"] is None or module.check_mode:
            result["history"] = store.history()
        else:
            given = json.loads(options["_report"])
            page = store.keep(given["moment"], given["files"], options["keep"], given["line"])
            result.update(changed=True, stored=str(page))
            if has_textfiles:
                result.update(_metrics(options["textfile_directory"], options["procedure"], given["metrics"]))
    except _report_store.StoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
