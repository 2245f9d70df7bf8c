# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault of the laboratory is, and how one is added.

A fault is a row of :data:`tests.laboratory.table.FAULTS` and a function. The function gets the :class:`Bench` before
Prometheus is started, puts onto it what is wrong (a page of the exporter, a scrape job, a rule, a file), and returns
what asks the diagnosis, whichever that is::

    def misspelt(bench: Bench, name: str) -> Ask:
        bench.job(name, Page(metric("lab_orders")))
        return lambda: scrape_info(bench, "lab_ordesr")

    Fault("a name that is misspelt", misspelt, "scrape.name", "perhaps lab_orders")

Where it is one change of a metric's way (a page, a setting of its job, its rule, who is told), it needs no function::

    Fault("401", of_metric(status=401), "scrape.login", "HTTP 401", link="the status of the answer")

Such a fault has a place in the chain, and is tried together with every other (:mod:`tests.laboratory.pairs`).

Another diagnosis is another asker: those of ``alert_info`` are in :mod:`tests.laboratory.alerts`, and put their rule
onto the bench with ``bench.rule(name, alert=name, expr=…)``; what needs a server of its own starts it on
``bench.stack``, inside the function or only when it is asked. All faults of a bench stand side by side on one
Prometheus, each with a job of its own, so that a hundred of them take no longer than one. What has to happen first (a
target that was there and goes) is given to ``bench.then``; what needs its time says how many seconds ``after`` the
start it may be asked for.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import multiprocessing
import re
import time
import traceback
import typing as t
from pathlib import Path

import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding

from tests.laboratory.exporter import Exporter, Page, Script
from tests.testbench import servers

VERSIONS = ("2", "3")
INTERVAL = "1s"
# Discovery is taken over five seconds after a start; then each job has been scraped, and more than once.
SETTLED = 8.0
# Faults that share a server.
TOGETHER = 180
# Benches that run at once: while one waits for its scrapes, others are asked.
AT_ONCE = 3

# The chain, in order. What stands at the same link comes in no order: each of it may be told first.
LINKS = (
    # A rule that is not there, or cannot be evaluated, reads nothing.
    "the rule is loaded",
    "the rule is evaluated",
    # The way of a metric: published, found, asked, answered, read, and kept.
    "the bus",
    "the job",
    "its discovery",
    "its relabelling",
    "its number of targets",
    "its login",
    "the connection",
    "the protocol",
    "an answer in time",
    "the status of the answer",
    "the whole body",
    "the content type",
    "the format",
    "any samples",
    "samples that are kept",
    "the limits",
    "the metric on the page",
    "the metric is kept",
    "its time stamps",
    "its duplicates",
    # The way of an alert on it, where Prometheus sends it, and where it is told.
    "the expression",
    "the wait",
    "Alertmanager",
    "the silences",
    "the inhibitions",
    "the times",
    "the receiver",
    "the notification",
)

# What the diagnosis says; the first finding is the verdict.
Ask = t.Callable[[], t.List[Finding]]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row of the table.

    :param make: puts it onto the bench under this name, and returns what asks.
    :param check: of the finding that is right.
    :param says: a pattern that its summary has; what an operator must read in it.
    :param versions: of Prometheus on which it is tried.
    :param after: seconds since the start of Prometheus.
    :param link: its place among :data:`LINKS`, where it can be made together with others: then ``make`` is a change of
        a plan (:mod:`tests.laboratory.plan`).
    :param behind: the check that the finding says it comes from, where it leads to another diagnosis.
    """

    name: str
    make: t.Callable[[Bench, str], Ask]
    check: str
    says: str
    versions: tuple[str, ...] = VERSIONS
    after: float = SETTLED
    link: str = ""
    behind: str = ""

    def is_right(self, findings: list[Finding]) -> bool:
        if not findings or findings[0].check != self.check or not re.search(self.says, findings[0].summary):
            return False
        return not self.behind or findings[0].evidence.get("check") == self.behind


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was said of a fault.

    :param seconds: that the diagnosis took.
    :param error: what was raised instead of an answer.
    """

    fault: Fault
    version: str
    findings: list[Finding]
    seconds: float
    error: str = ""

    @property
    def is_right(self) -> bool:
        return self.fault.is_right(self.findings)

    @property
    def said(self) -> str:
        if not self.findings:
            return self.error or "nothing"
        return f"{self.findings[0].check}: {self.findings[0].summary}"

    def row(self) -> dict[str, t.Any]:
        """As ``build/laboratory.json`` has it."""
        return {
            "fault": self.fault.name,
            "version": self.version,
            "expected": f"{self.fault.check}: {self.fault.says}",
            "said": self.said,
            "right": self.is_right,
            "seconds": round(self.seconds, 3),
        }


class Bench:
    """One Prometheus, one exporter with switches, and whatever faults put beside them.

    :param stack: ends what was started.
    """

    def __init__(self, version: str, directory: Path, stack: contextlib.ExitStack) -> None:
        self.version = version
        self.directory = directory
        self.stack = stack
        self.exporter = stack.enter_context(Exporter())
        self.port = servers.held_port(stack)
        self.url = f"http://127.0.0.1:{self.port}"
        self.jobs: list[dict[str, t.Any]] = []
        self.rules: list[dict[str, t.Any]] = []
        self.events: dict[str, t.Callable[[], None]] = {}
        self.alertmanagers: list[str] = []
        self.rule_files = ["rules.yml"]
        self._numbers = itertools.count()
        self._others: list[Bench] = []

    def another(self, name: str) -> Bench:
        """Another bench that is started with this one."""
        directory = self.directory / name
        directory.mkdir()
        self._others.append(Bench(self.version, directory, self.stack))
        return self._others[-1]

    def folder(self) -> Path:
        """One of its own, for a fault that writes files or starts servers."""
        folder = self.directory / f"fault{next(self._numbers)}"
        folder.mkdir()
        return folder

    def page(self, name: str, page: Page | Script) -> str:
        """Serves a page, or a script of pages, by that name; its path."""
        self.exporter.scripts[f"/{name}"] = (lambda _number: page) if isinstance(page, Page) else page
        return f"/{name}"

    def job(self, name: str, page: Page | Script | None = None, target: str = "", **settings: t.Any) -> None:
        """A scrape job for a page of the exporter, or for another target.

        :param settings: as prometheus.yml has them.
        """
        if page is not None:
            settings.setdefault("metrics_path", self.page(name, page))
        if not any(setting.endswith("_configs") and "relabel" not in setting for setting in settings):
            settings["static_configs"] = [{"targets": [target or self.exporter.address]}]
        self.jobs.append({"job_name": name, **settings})

    def rule(self, name: str, **rule: t.Any) -> None:
        """A rule in a group of its own. :param rule: as a file of rules has it."""
        self.rules.append({"name": name, "rules": [rule]})

    def then(self, name: str, event: t.Callable[[], None]) -> None:
        """What happens to the fault of that name once all is scraped, and before it is asked for."""
        self.events[name] = event

    def prometheus(self, folder: Path, config: dict[str, t.Any], **options: t.Any) -> servers.Server:
        """Another Prometheus of this version."""
        server = servers.prometheus(folder, self.version, yaml.safe_dump(config), **options)
        return self.stack.enter_context(server)

    def start(self) -> None:
        """Starts Prometheus on all that was put onto the bench."""
        (self.directory / "rules.yml").write_text(yaml.safe_dump({"groups": self.rules}))
        config = {
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": "1s"},
            "rule_files": self.rule_files,
            "alerting": {"alertmanagers": [_sent_to(address) for address in self.alertmanagers]},
            "scrape_configs": [*self.jobs, {"job_name": "prometheus", "static_configs": [{"targets": [self.url[7:]]}]}],
        }
        # What was sent before Alertmanager was found is sent again soon.
        self.prometheus(self.directory, config, port=self.port, arguments=["--rules.alert.resend-delay=1s"])
        for other in self._others:
            other.start()


def _sent_to(address: str) -> dict[str, t.Any]:
    scheme, _separator, rest = address.rpartition("://")
    return {"scheme": scheme or "http", "static_configs": [{"targets": [rest]}]}


def run(faults: t.Sequence[Fault], directory: Path) -> list[Verdict]:
    """Every fault on every version it is meant for, up to :data:`TOGETHER` of a version side by side on one server.

    Those of a version share nothing with those of the other, so that each bench has a process.
    """
    benches = [
        (version, chosen[start : start + TOGETHER])
        for version in VERSIONS
        for chosen in [[number for number, fault in enumerate(faults) if version in fault.versions]]
        for start in range(0, len(chosen), TOGETHER)
    ]
    found: list[Verdict] = []
    # A fault holds functions that cannot be sent to a process, and are there after a fork.
    with concurrent.futures.ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("fork"), _fork, (faults,)) as pool:
        running = [
            (version, pool.submit(_of_bench, numbers, version, directory / f"{version}_{count}"))
            for count, (version, numbers) in enumerate(benches)
        ]
        for version, future in running:
            for number, findings, seconds, error in future.result():
                found.append(Verdict(faults[number], version, findings, seconds, error))
    return found


_forked: t.Sequence[Fault] = ()


def _fork(faults: t.Sequence[Fault]) -> None:
    global _forked
    _forked = faults


def _of_bench(numbers: list[int], version: str, directory: Path) -> list[tuple[int, list[Finding], float, str]]:
    verdicts = _run([_forked[number] for number in numbers], version, directory)
    known = {id(_forked[number]): number for number in numbers}
    return [(known[id(verdict.fault)], verdict.findings, verdict.seconds, verdict.error) for verdict in verdicts]


def _run(faults: t.Sequence[Fault], version: str, directory: Path) -> list[Verdict]:
    directory.mkdir()
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(8) as pool:
        bench = Bench(version, directory, stack)
        asks = {fault: fault.make(bench, slug(fault)) for fault in faults if version in fault.versions}
        bench.start()
        started = time.monotonic()
        time.sleep(SETTLED)
        happening = {name: pool.submit(event) for name, event in bench.events.items()}
        verdicts = []
        # Those to which something happens last: meanwhile it does.
        for fault, ask in sorted(asks.items(), key=lambda row: (slug(row[0]) in happening, row[0].after)):
            time.sleep(max(started + fault.after - time.monotonic(), 0.0))
            verdicts.append(_verdict(fault, version, happening.get(slug(fault)), ask))
        return verdicts


def _verdict(fault: Fault, version: str, event: concurrent.futures.Future[None] | None, ask: Ask) -> Verdict:
    findings, raised, begun = [], "", time.monotonic()
    try:
        if event:
            event.result()
        begun = time.monotonic()
        findings = ask()
    except Exception:
        # A verdict that is wrong, and no reason not to try the others.
        raised = traceback.format_exc()
    return Verdict(fault, version, findings, time.monotonic() - begun, raised)


def slug(fault: Fault) -> str:
    """Its name as the name of a job, and of a path."""
    return re.sub(r"\W+", "_", fault.name)
