# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that keep an alert from firing, or from reaching anybody; ``alert_info`` is asked for it by its name."""

from __future__ import annotations

import http.client
import time
import typing as t

import yaml

from tests.laboratory import receiver
from tests.laboratory.exporter import Page, Script, metric
from tests.laboratory.fault import Ask, Bench, Fault
from tests.laboratory.plan import asks, of_alert
from tests.laboratory.receiver import post, telling
from tests.testbench import servers

ALWAYS = "vector(1)"


def ruled(expr: str, page: Page | Script | None = None, **rule: t.Any) -> t.Callable[[Bench, str], Ask]:
    """An alert of its own on the bench, and a job for what it reads."""

    def make(bench: Bench, name: str) -> Ask:
        if page is not None:
            bench.job(name, page)
        bench.rule(name, alert=name, expr=expr, **rule)
        return asks(bench.url, name)

    return make


def misspelt(bench: Bench, name: str) -> Ask:
    bench.rule(name, alert="LabHighDrawdown", expr=ALWAYS)
    return asks(bench.url, "LabHihgDrawdown")


def wait_begun_anew(bench: Bench, name: str) -> Ask:
    """Of the scrapes of a slow job one fails, and all others bring the value that fires."""
    page = Page(metric("lab_begun_anew", 9))
    bench.job(name, lambda number: Page("", 500) if number == 3 else page, scrape_interval="2s")
    bench.rule(name, alert=name, expr="lab_begun_anew > 5", **{"for": "5m"})
    return asks(bench.url, name)


def wait_of_restarted(bench: Bench, name: str) -> Ask:
    """An alert was pending when Prometheus was restarted, which forgets a wait as short as this."""
    folder = bench.folder()
    rule = {"alert": name, "expr": "vector(1)", "for": "5m"}
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "lab", "rules": [rule]}]}))
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.yml"]}
    server = bench.prometheus(folder, config)

    def restarted() -> None:
        server.stop()
        time.sleep(2)
        server.start()
        time.sleep(3)

    bench.then(name, restarted)
    return asks(server.url, name)


def ending(number: int) -> Page:
    """True at first, and then no more."""
    return Page(metric("lab_for_a_moment", 9 if number < 6 else 1))


# From Prometheus to a receiver


def pattern_without_rules(bench: Bench, name: str) -> Ask:
    return asks(telling(bench, receiver.dead).url, "LabNowhere")


def not_reloaded(bench: Bench, name: str) -> Ask:
    """The file with the rule came after the last reload."""
    folder = bench.folder()
    (folder / "rules").mkdir()
    url = bench.prometheus(folder, {"rule_files": ["rules/*.yml"]}).url
    rules = [{"alert": name, "expr": ALWAYS}]
    (folder / "rules" / "new.yml").write_text(yaml.safe_dump({"groups": [{"name": "new", "rules": rules}]}))
    return asks(url, name)


def reload_refused(bench: Bench, name: str) -> Ask:
    """The configuration that would load the rule is not one."""
    folder = bench.folder()
    url = bench.prometheus(folder, {}).url
    (folder / "prometheus.yml").write_text("rule_files: [rules.yml]\nno_such_setting: 1\n")
    assert post(url, "/-/reload") == http.HTTPStatus.INTERNAL_SERVER_ERROR
    return asks(url, name)


def victoria(bench: Bench, name: str) -> Ask:
    return asks(bench.stack.enter_context(servers.victoria_metrics(bench.folder())).url, name)


TWO = "".join(f'lab_two_{side}{{number="{number}"}} 1\n' for side in ("left", "right") for number in range(2))

FAULTS = (
    # Nothing is wrong
    Fault("an alert that is delivered", of_alert(), "alert.delivered", "takes the notifications"),
    Fault(
        "one of two Alertmanagers is dead",
        of_alert(told=receiver.one_dead),
        "alert.delivered",
        "takes the notifications.* 1 of 2 Alertmanagers give no answer",
    ),
    # The server, and what it has loaded
    Fault("no server for alerts", lambda _b, name: asks("http://127.0.0.1:1", name), "alert.server", "refused", ("3",)),
    Fault("VictoriaMetrics for alerts", victoria, "alert.server", "is VictoriaMetrics", ("3",)),
    Fault(
        "a pattern of rule files that matches nothing",
        pattern_without_rules,
        "alert.loaded",
        r"of \S*elsewhere/\*\.yml in rule_files no rule was loaded",
    ),
    Fault(
        "an alert that is not there",
        of_alert(asked_alert="LabNowhere"),
        "alert.loaded",
        "loaded no alert of that name",
        link="the rule is loaded",
    ),
    Fault(
        "a rule file that is not loaded", not_reloaded, "alert.loaded", r"it is in \S+/new\.yml, which was not loaded"
    ),
    Fault("a reload that was refused", reload_refused, "alert.loaded", "its last reload was refused"),
    Fault("an alert name that is misspelt", misspelt, "alert.loaded", "meant is perhaps LabHighDrawdown"),
    # Its evaluation
    Fault(
        "an alert with an error",
        ruled("lab_two_left * on (job) lab_two_right > 0", Page(TWO)),
        "alert.evaluation",
        "cannot be evaluated: .*many-to-many",
    ),
    Fault(
        "an alert whose expression fails",
        of_alert(expr="label_replace(SERIES, 'a', '$1', 'strategy', '(') > 5"),
        "alert.evaluation",
        "cannot be evaluated: .*regular expression",
        link="the rule is evaluated",
    ),
    # Its expression
    Fault(
        "a threshold that is never reached",
        of_alert(value=3.0),
        "alert.threshold",
        "is 3, 2 below the threshold 5; the highest of the last 10 min was 3",
        link="the expression",
    ),
    Fault(
        "a value that is too high",
        of_alert(expr="2 > SERIES"),
        "alert.threshold",
        r"is \d, \d above the threshold 2",
        link="the expression",
    ),
    Fault(
        "a division of 0 by 0",
        of_alert(expr="(SERIES - 9) / (SERIES - 9) > 0.5"),
        "alert.threshold",
        "NaN",
        link="the expression",
    ),
    Fault(
        "a condition that does not hold",
        of_alert(expr="SERIES > 1 and on () (hour() < bool 0) == 1"),
        "alert.threshold",
        r"\(hour\(\) < bool 0\) == 1 is not true: its value is 1 away from 1",
        link="the expression",
    ),
    Fault(
        "an alert on a series that is not there", ruled("rate(lab_nowhere_total[1m]) > 5"), "alert.series", "none had"
    ),
    Fault(
        "an alert on a series that ended",
        ruled("lab_ended > 0", lambda number: Page(metric("lab_ended", 9) if number < 4 else metric("lab_rest"))),
        "alert.series",
        "it was there until",
    ),
    Fault(
        "an alert on a label that is misspelt",
        ruled('lab_labelled{strategy="alhpa"} > 1', Page(metric("lab_labelled", 9, strategy="alpha"))),
        "alert.series",
        "label strategy has the values alpha, not alhpa",
    ),
    Fault(
        "two series that are compared",
        ruled(
            "lab_pair_left > on (job) lab_pair_right", Page(metric("lab_pair_left", 3) + metric("lab_pair_right", 5))
        ),
        "alert.threshold",
        "is 2 below lab_pair_right",
    ),
    Fault(
        "an exception that takes it away",
        of_alert(expr="SERIES > 1 unless on () vector(1)"),
        "alert.condition",
        r"taken away by `unless vector\(1\)`",
        link="the expression",
    ),
    Fault("absent of what is there", ruled("absent(up)"), "alert.threshold", "whether up is absent, and that is there"),
    Fault(
        "a window that is too narrow",
        of_alert(expr="rate(SERIES[10ms]) > 0"),
        "alert.expression",
        "fewer samples than it needs",
        link="the expression",
    ),
    Fault(
        "a join that loses its labels",
        of_alert(expr="SERIES > on (strategy) vector(1)"),
        "alert.join",
        "none of the left meets one of the right .*only the left side has strategy",
        link="the expression",
    ),
    # Its wait
    Fault("an alert that is pending", of_alert(hold="1h"), "alert.wait", "it fires in (59 min|1 h)", link="the wait"),
    Fault(
        "a wait that one failed scrape began anew",
        wait_begun_anew,
        "alert.wait",
        "began anew at .*one scrape of job .* failed at .*would have fired at",
        after=20.0,
    ),
    Fault(
        "a wait that a restart began anew",
        wait_of_restarted,
        "alert.wait",
        "began anew .*when Prometheus (itself )?was (re)?started at .*grace-period",
    ),
    Fault(
        "true for less than its wait",
        ruled("lab_for_a_moment > 5", ending, **{"for": "1m"}),
        "alert.wait",
        r"never for its `for` of 1 min\. In .*would have fired at .* if `for` were .*Now ",
        after=14.0,
    ),
    # Who is told
    Fault(
        "no Alertmanager",
        of_alert(told=receiver.nowhere),
        "alert.delivery",
        "has no Alertmanager configured",
        link="Alertmanager",
    ),
    Fault(
        "Alertmanager is dead",
        of_alert(told=receiver.dead),
        "alert.delivery",
        "does not get it: .*connection refused",
        link="Alertmanager",
    ),
    Fault(
        "an Alertmanager whose authority is not known",
        of_alert(told=receiver.unknown_authority),
        "alert.delivery",
        "certificate",
        link="Alertmanager",
    ),
    Fault(
        "silenced",
        of_alert(silenced=True),
        "alert.silence",
        r"silenced by \S+ of the laboratory .* until 20",
        link="the silences",
    ),
    Fault("inhibited", of_alert(inhibited=True), "alert.inhibition", "inhibited by Source", link="the inhibitions"),
    Fault("muted by time", of_alert(muted=True), "alert.mute", "muted by the time interval always", link="the times"),
    # Alertmanager looks at the times only where nothing inhibits, so that it may not have said so yet.
    Fault(
        "silenced, inhibited and muted",
        of_alert(silenced=True, inhibited=True, muted=True),
        "alert.silence",
        "silenced by .* It is inhibited (and muted by time )?as well",
    ),
    Fault(
        "an empty receiver",
        of_alert(unheard=True),
        "alert.receiver",
        "the receiver nobody, which has no",
        link="the receiver",
    ),
    Fault(
        "a receiver that answers 500",
        of_alert(told=receiver.failing),
        "alert.notification",
        r"every notification to hook \(webhook\) fails",
        link="the notification",
    ),
)
