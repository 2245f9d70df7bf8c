# SPDX-License-Identifier: GPL-3.0-or-later
"""A metric's whole way with nothing wrong on it, and changes of it: each turns some switches.

Two changes that turn different switches can be made at once, at one job, one metric and one alert. So a fault that is
a change composes with all the others, and :mod:`.pairs` makes the pairs; nothing else has to be said about them.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.alert import silent_alert
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.laboratory import receiver
from tests.laboratory.exporter import TEXT, Page, metric
from tests.laboratory.fault import Ask, Bench

# What is asked for: a job, a metric of it, or an alert on that metric.
JOB, METRIC, ALERT = "job", "metric", "alert"
# An alert reads the metric of its own job.
SERIES = "SERIES"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Each field is a switch; these are the positions in which all is well.

    A value may be a function, which is given the bench and returns the value.
    """

    # What publishes it: options of the question, where it comes over the bus.
    bus: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    name: str = "lab_fine"
    # Its page: text before the samples, other samples than these, and text after them.
    head: str = ""
    whole: str | None = None
    others: str = ""
    tail: str = ""
    value: float = 9.0
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    # Seconds that its time stamp is ahead; none where absent.
    stamp: float | None = None
    twice: bool = False
    # So many scrapes it is there for.
    until: int | None = None
    status: int = 200
    content_type: str | None = TEXT
    delay: float = 0.0
    cut: int | None = None
    closes: bool = False
    # Its job: an address instead of that of the exporter, or another way of discovery.
    address: str = ""
    discovery: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    # The question.
    asked_name: str = ""
    asked_labels: str = ""
    asked_job: str = ""
    # Its alert, and what becomes of that.
    asked_alert: str = ""
    expr: str = f"{SERIES} > 5"
    hold: str = "0s"
    told: receiver.Kind = receiver.well
    silenced: bool = False
    inhibited: bool = False
    muted: bool = False
    unheard: bool = False
    # Of the job, as prometheus.yml has them.
    settings: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    def page(self, number: int) -> Page:
        labels: dict[str, t.Any] = {"strategy": "alpha", **self.labels}
        stamp = None if self.stamp is None else time.time() + self.stamp
        own = metric(self.name, self.value, stamp, **labels)
        own += own.splitlines()[-1].replace(f" {self.value}", f" {self.value + 1}") + "\n" if self.twice else ""
        there = self.until is None or number < self.until
        samples = (own if there else "") + metric("lab_other", **labels) + self.others
        body = self.head + (samples if self.whole is None else self.whole) + self.tail
        return Page(body, self.status, self.content_type, self.delay, self.cut, closes=self.closes)

    def job(self, bench: Bench, name: str) -> None:
        bench.job(name, self.page, self.address, **self.discovery, **self.settings)

    def question(self, name: str) -> tuple[str, str]:
        """The metric and the job that are asked for."""
        metric = self.asked_name or self.name
        return metric + (f"{{{self.asked_labels}}}" if self.asked_labels else ""), self.asked_job or name

    def series(self, name: str) -> str:
        matchers = [f'job="{self.asked_job or name}"', *([self.asked_labels] if self.asked_labels else [])]
        return f"{self.asked_name or self.name}{{{','.join(matchers)}}}"

    def rule(self, bench: Bench, name: str) -> None:
        flags = (receiver.SILENCED, receiver.INHIBITED, receiver.MUTED, receiver.UNHEARD)
        labels = {flag: "yes" for flag in flags if getattr(self, flag)}
        expr = self.expr.replace(SERIES, self.series(name))
        bench.rule(name, alert=name, expr=expr, labels={**labels, "severity": "critical"}, **{"for": self.hold})


SWITCHES = frozenset(field.name for field in dataclasses.fields(Plan)) - {"settings"}
BUS = "bus"


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """What is wrong with a plan; called, it puts the plan onto a bench, and returns what asks.

    :param switches: fields of :class:`Plan`, and settings of the job.
    :param asks: ``JOB``, ``METRIC`` or ``ALERT``.
    :param without: switches, and askers, with which it does not come about or is no fault.
    """

    asks: str
    switches: t.Mapping[str, t.Any]
    without: frozenset[str]

    def __call__(self, bench: Bench, name: str) -> Ask:
        from tests.laboratory.scrape import look

        plan = self.plan(bench)
        metric, job = plan.question(name)
        if self.asks == ALERT:
            beside = receiver.telling(bench, plan.told)
            plan.job(beside, name)
            plan.rule(beside, name)
            return asks(beside.url, plan.asked_alert or name)
        plan.job(bench, name)
        of: dict[str, t.Any] = {"job": job} if self.asks == JOB else {"metric": metric, "job": job}
        return lambda: look(bench.url, **of, **plan.bus).findings()

    def plan(self, bench: Bench) -> Plan:
        turned = {
            name: value(bench) if callable(value) and name != "told" else value for name, value in self.switches.items()
        }
        settings = {name: value for name, value in turned.items() if name not in SWITCHES}
        return Plan(**{name: value for name, value in turned.items() if name in SWITCHES}, settings=settings)

    @property
    def turned(self) -> frozenset[str]:
        return frozenset((*self.switches, self.asks))

    def composes(self, other: Change) -> bool:
        """Whether both can be made at once, and each is what it is by itself."""
        apart = not self.switches.keys() & other.switches.keys()
        return apart and not self.without & other.turned and not other.without & self.turned

    def together(self, other: Change) -> Change:
        asked = {self.asks, other.asks}
        what = ALERT if ALERT in asked else METRIC if METRIC in asked else JOB
        return Change(what, {**self.switches, **other.switches}, self.without | other.without)


def of_job(*without: str, **switches: t.Any) -> Change:
    return Change(JOB, switches, frozenset(without))


def of_metric(*without: str, **switches: t.Any) -> Change:
    return Change(METRIC, switches, frozenset(without))


def of_alert(*without: str, **switches: t.Any) -> Change:
    return Change(ALERT, switches, frozenset(without))


def asks(url: str, name: str, **options: t.Any) -> Ask:
    """What ``alert_info`` does with these options."""
    return lambda: silent_alert.Look(Prometheus(Server(url)), [name], 600.0, **options).findings()
