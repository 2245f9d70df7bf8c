#!/usr/bin/python

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metrics_cleanup
short_description: Roll up, compress and expire journals of metrics, and lose nothing else
version_added: 0.1.0
description:
  - Brings every record of a journal of metrics to the resolution that the retention policy wants for its age, and lets
    go what is older than the last level. Age is the time in the record, in complete UTC days, never that of the file.
  - Counters are added up, gauges keep their mean with count, sum, min, max and last, histograms and summaries become a
    sketch that can be merged again. Counts are exact.
  - Only days that are over are touched, and only journals that nobody has open. A journal that grows under a name
    without a date is renamed first, and rolled up by a later run.
  - Files are exchanged whole, after the new ones are on the disk and were read back. Whatever interrupts a run,
    the next one brings it to its end.
  - Lines that are no records are kept aside, byte for byte, in a file that ends in C(.rejected).
  - Journals of trading and logs are never rewritten, and compressed only with O(compress_other).
  - What a file holds is remembered in C(.metrics-cleanup.state) beside the journals, so that a run costs what is new.
options:
  journal_dir:
    description:
      - The directories, absolute. Where it is not given, C(logging.journal_dir) and C(paths.journal_dir) of
        C(base.yaml) below O(config_root), which takes PyYAML on the host.
    type: list
    elements: path
  config_root:
    description:
      - The directory that holds C(retention.yaml) or C(base.yaml), or its parent.
      - The policy is that of C(retention.yaml), else the block C(retention) of C(base.yaml), else the default,
        V(1m) for 7 days, V(5m) for 30, V(1h) for 180 and V(1d) for 730.
    type: path
    default: /opt/njord_quant
  retention:
    description:
      - A policy that takes the place of the host's, written as there, with C(raw_metrics) and C(cleanup_schedule).
    type: dict
  compress_after:
    description: A journal whose newest record is of this age is compressed; whole days.
    type: str
    default: 7d
  compress_other:
    description: Whether dated journals of trading and logs of that age are compressed as well. A live one never is.
    type: bool
    default: false
  max_expire_percent:
    description:
      - Where more than this share of the bytes would expire in one run, nothing is touched. A roll-up does not count.
    type: float
    default: 20
  min_free:
    description: Bytes of the disk that stay free, such as V(1GB). A step that would need them is not begun.
    type: str
    default: "0"
  as_of:
    description:
      - The time that it is taken to be, as RFC 3339. Without it the host's clock counts, unless it is implausibly
        far from the newest record.
      - In the future only in check mode.
    type: str
  jobs:
    description: Processes that work at once, 1 to 64.
    type: int
    default: 1
  plan_file:
    description: Where the whole plan is written as JSON on the host, also in check mode; the result has its beginning.
    type: path
  textfile_directory:
    description:
      - Where node_exporter finds text files of metrics on the host. What was done is told there as the scheduled
        clean-up tells it, except in check mode.
      - Nothing is written where there is no such directory.
    type: path
extends_documentation_fragment:
  - njord.telemetry.attributes
  - njord.telemetry.attributes.actions
author:
  - Njord Trust (@njord-trust)
"""

EXAMPLES = r"""
- name: Clean up the journals that base.yaml names
  njord.telemetry.metrics_cleanup:
    config_root: /opt/njord_quant
    jobs: 2
  register: cleanup

- name: See what a shorter policy would do in a month
  njord.telemetry.metrics_cleanup:
    journal_dir: [/opt/njord_quant/var/log/njord]
    retention:
      raw_metrics:
        - {resolution: 1m, retention_days: 3}
        - {resolution: 1h, retention_days: 90}
    as_of: "2026-12-24"
  check_mode: true
"""

RETURN = r"""
plan:
  description:
    - The first thousand actions, a row for each file that goes, with C(action) (C(roll up), C(expire), C(compress),
      C(rotate), C(drop), C(recover) or C(remove)), C(subject), C(reason), C(into), C(resolution), C(first) and C(last)
      (RFC 3339), C(bytes), and C(state), one of C(planned), C(done) and C(left).
    - The same in check mode as in the run after it.
  returned: always
  type: list
  elements: dict
actions:
  description: How many actions there are.
  returned: always
  type: int
summary:
  description:
    - By directory C(actions) (files and bytes of each), C(lines) (C(read), C(merged), C(written), C(carried),
      C(expired), C(rejected)), C(rejected) by reason, C(dropped_keys), and files and bytes by kind, C(before) and
      C(after).
  returned: always
  type: dict
findings:
  description:
    - C(retention.policy), C(cleanup.plan), C(cleanup.last) (in check mode), C(journal.directory), C(journal.left),
      C(journal.unreadable), C(journal.open), C(journal.clock), C(journal.future), C(journal.expiry), C(journal.lock),
      C(journal.recovery), C(journal.step) and C(journal.run).
  returned: always
  type: list
  elements: dict
"""

import contextlib
import json
import os
import time
import typing as t
from pathlib import Path

from ansible_collections.njord.telemetry.plugins.module_utils._argspec import ArgumentSpec, fail, require_absolute
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._journal import account, policy, schedule
from ansible_collections.njord.telemetry.plugins.module_utils._journal.clean import (
    DONE,
    PLANNED,
    Action,
    Options,
    Result,
    clean,
)
from ansible_collections.njord.telemetry.plugins.module_utils._journal.command import moment
from ansible_collections.njord.telemetry.plugins.module_utils._journal.configuration import (
    INSTALL_ROOT,
    ConfigurationError,
)
from ansible_collections.njord.telemetry.plugins.module_utils._journal.format import resolution_name
from ansible_collections.njord.telemetry.plugins.module_utils._journal.lock import Busy, lease
from ansible_collections.njord.telemetry.plugins.module_utils._journal.plan import Rules
from ansible_collections.njord.telemetry.plugins.module_utils._journal.state import Last
from ansible_collections.njord.telemetry.plugins.module_utils._journal_findings import named_directories
from ansible_collections.njord.telemetry.plugins.module_utils._units import duration, human_duration, human_size, size

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

SHOWN = 1000
DAY = 86400

SPEC = ArgumentSpec(
    {
        "journal_dir": {"type": "list", "elements": "path"},
        "config_root": {"type": "path", "default": INSTALL_ROOT},
        "retention": {"type": "dict"},
        "compress_after": {"type": "str", "default": "7d"},
        "compress_other": {"type": "bool", "default": False},
        "max_expire_percent": {"type": "float", "default": 20},
        "min_free": {"type": "str", "default": "0"},
        "as_of": {"type": "str"},
        "jobs": {"type": "int", "default": 1},
        "plan_file": {"type": "path"},
        "textfile_directory": {"type": "path"},
    }
)


def main() -> None:
    module = SPEC.module()
    for option in ("journal_dir", "config_root", "plan_file", "textfile_directory"):
        require_absolute(module, option)
    looked, found = read_policy(module)
    options = read_options(module, found)
    results: dict[str, Result] = {}
    begun = time.monotonic()
    paths, unknown = named_directories(module.params["journal_dir"], "journal_dir", module.params["config_root"])
    looked += unknown
    with contextlib.ExitStack() as held:
        if not module.check_mode:
            try:
                held.enter_context(lease())
            except Busy as error:
                fail(module, f"Nothing was done: {error}. Wait for its end.")
        results.update((root, clean(options(root))) for root in map(os.path.realpath, paths))
    for root in results:
        looked += [Finding(*note[:4], remedy=note.remedy) for note in results[root].notes]
        looked.append(told(root, results[root], module.check_mode))
        if module.check_mode and results[root].is_complete:
            looked.append(told_of_last(root, results[root].last, found))
    looked += tell_prometheus(module, account.Run(results, time.time(), time.monotonic() - begun, longest_gap(found)))
    actions = [action for result in results.values() for action in result.actions]
    if module.params["plan_file"]:
        write_plan(module, actions)
    text = account.table(actions[:SHOWN])
    module.exit_json(
        changed=any(action.state == (PLANNED if module.check_mode else DONE) for action in actions),
        plan=account.rows(actions[:SHOWN]),
        actions=len(actions),
        summary={account.shown(root): account.summary(result) for root, result in results.items()},
        findings=[finding.as_dict() for finding in looked],
        diff={"prepared": text} if text else {},
    )


def read_policy(module: AnsibleModule) -> tuple[list[Finding], policy.Policy]:
    given = module.params["retention"]
    try:
        if given is not None:
            return [], policy.parse(given, "option retention")
        found, warnings = policy.read(module.params["config_root"])
    except ConfigurationError as error:
        fail(module, f"{error}.")
    remedy = "Put it into retention.yaml: retention_policy of the role retention writes that file."
    subject = module.params["config_root"]
    return [
        Finding("retention.policy", subject, "warning", f"{warning}.", remedy=remedy) for warning in warnings
    ], found


def read_options(module: AnsibleModule, found: policy.Policy) -> t.Callable[[str], Options]:
    given = module.params
    now, as_of = time.time_ns(), given["as_of"]
    try:
        after = duration(given["compress_after"])
        if after < DAY or after % DAY:
            raise ValueError(f"{given['compress_after']!r} is no number of whole days; 7d would do")
    except ValueError as error:
        fail(module, f"compress_after: {error}")
    try:
        least = size(given["min_free"])
    except ValueError as error:
        fail(module, f"min_free: {error}")
    if not 0 <= given["max_expire_percent"] <= 100:
        fail(module, f"max_expire_percent: {given['max_expire_percent']:g} does not lie between 0 and 100")
    if not 1 <= given["jobs"] <= 64:
        fail(module, f"jobs: {given['jobs']} does not lie between 1 and 64")
    if as_of is not None:
        try:
            asked = moment(as_of)
        except ValueError as error:
            fail(module, f"as_of: {error}")
        if asked > now and not module.check_mode:
            fail(module, f"as_of: {as_of} is in the future, where only check mode may look")
        now = asked
    rules = Rules(found, int(after // DAY), given["compress_other"])

    def options(root: str) -> Options:
        return Options(
            root, rules, now, module.check_mode, as_of is not None, given["max_expire_percent"], least, given["jobs"]
        )

    return options


def told(root: str, result: Result, is_check: bool) -> Finding:
    """What was done, or would be done, in one sentence."""
    counted = PLANNED if is_check else DONE
    rows = account.totals(action for action in result.actions if action.state == counted)
    parts = [f"{action} {row['files']} files ({human_size(row['bytes'])})" for action, row in rows.items()]
    done = "The next clean-up would" if is_check else "The clean-up did"
    nothing = "do nothing" if is_check else "nothing"
    text = f"{done} {', '.join(parts) or nothing} in {account.shown(root)}."
    if not result.is_complete:
        return Finding(
            "cleanup.plan", root, "unknown", f"{account.shown(root)} was not cleaned up.", {}, "See the other findings."
        )
    figures = {f"cleanup_{kind}_bytes": size.bytes for kind, size in (result.after or result.before).items()}
    evidence: dict[str, t.Any] = {"figures": figures}
    if parts:
        evidence["chart"] = chart(action for action in result.actions if action.state == counted)
    return Finding("cleanup.plan", root, "info" if parts else "ok", text, evidence)


def chart(actions: t.Iterable[Action]) -> dict[str, t.Any]:
    """The bytes of the files that go, by what becomes of them and by level."""
    sizes: dict[str, int] = {}
    for action in actions:
        level = "" if action.resolution is None else f" {resolution_name(action.resolution)}"
        label = f"{action.action}{level}"
        sizes[label] = sizes.get(label, 0) + action.bytes
    bars = [{"label": label, "value": value} for label, value in sizes.items()]
    return {"kind": "bars", "title": "What the retention policy takes from the journals", "unit": "bytes", "bars": bars}


def told_of_last(root: str, last: Last | None, found: policy.Policy) -> Finding:
    """What the scheduled clean-up did, and whether it is overdue."""
    remedy = "systemctl list-timers njord-metrics-cleanup.timer; ansible-playbook site.yml schedules it"
    if last is None:
        text = f"No clean-up of {account.shown(root)} is known to have run."
        return Finding("cleanup.last", root, "info", text, {}, remedy)
    ago = time.time() - last.ended
    parts = [f"{action} {count} files" for action, count in last.actions.items()]
    text = f"The last clean-up of {account.shown(root)}, {human_duration(ago)} ago, did {', '.join(parts) or 'nothing'}"
    text += f", and left {last.left} undone." if last.left else "."
    is_late = ago > 1.5 * longest_gap(found)
    severity = "warning" if is_late or last.left else "ok"
    evidence = {"figures": {"cleanup_done_files": sum(last.actions.values()), "cleanup_left_files": last.left}}
    return Finding("cleanup.last", root, severity, text, evidence, remedy if severity != "ok" else "")


def longest_gap(found: policy.Policy) -> float:
    return schedule.parse(found.cleanup_schedule).longest_gap()


def tell_prometheus(module: AnsibleModule, run: account.Run) -> list[Finding]:
    """As the scheduled clean-up does, so that an alert on a missed one ends."""
    directory = module.params["textfile_directory"]
    if module.check_mode or not directory or not Path(directory).is_dir():
        return []
    path = Path(directory, account.TEXTFILE)
    try:
        account.write_metrics(path, run)
    except OSError as error:
        text = f"Prometheus is not told of this clean-up: {path} cannot be written: {error.strerror}."
        return [Finding("cleanup.told", str(path), "warning", text, remedy="See its owner and the room on its disk.")]
    return []


def write_plan(module: AnsibleModule, actions: list[Action]) -> None:
    path = Path(module.params["plan_file"])
    try:
        path.write_text(json.dumps(account.rows(actions), indent=1), encoding="utf-8")
    except OSError as error:
        fail(module, f"plan_file: {path} cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
