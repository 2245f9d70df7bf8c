# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that keep an alert from firing, or from reaching anybody; ``alert_info`` is asked for it by its name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.client
import http.server
import json
import threading
import time
import typing as t

import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import silent_alert
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.laboratory.exporter import Page, Script, metric
from tests.laboratory.fault import Ask, Bench, Fault
from tests.testbench import servers

# Alertmanager of the same Debian as each Prometheus.
ALERTMANAGERS = {"2": "0.28", "3": "0.33"}
ALWAYS = "vector(1)"


def asks(url: str, name: str, **options: t.Any) -> Ask:
    """What the module does with these options."""
    return lambda: silent_alert.Look(Prometheus(Server(url)), [name], 600.0, **options).findings()


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


def ending(number: int) -> Page:
    """True at first, and then no more."""
    return Page(metric("lab_for_a_moment", 9 if number < 6 else 1))


def too_narrow(bench: Bench, name: str) -> Ask:
    """The window of the rule is shorter than the time between two scrapes."""
    bench.job(name, Page(metric("lab_narrow_total")), scrape_interval="4s")
    bench.rule(name, alert=name, expr="rate(lab_narrow_total[1s]) > 0")
    return asks(bench.url, name)


# From Prometheus to a receiver


class _Sink:
    """A webhook that takes everything under ``/``, and answers 500 under ``/500``; ends with ``stack``."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(500 if self.path == "/500" else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> _Sink:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def routing(hook: str) -> dict[str, t.Any]:
    """A configuration of Alertmanager, by the name of the alert."""
    return {
        "route": {
            "receiver": "hook",
            "group_wait": "0s",
            "group_interval": "2s",
            "routes": [
                {"receiver": "nobody", "matchers": ['alertname="Empty"']},
                {"receiver": "hook", "matchers": ['alertname="Muted"'], "mute_time_intervals": ["always"]},
            ],
        },
        "time_intervals": [{"name": "always", "time_intervals": [{"years": ["2000:2100"]}]}],
        "inhibit_rules": [{"source_matchers": ['alertname="Source"'], "target_matchers": ['alertname="Inhibited"']}],
        "receivers": [{"name": "nobody"}, {"name": "hook", "webhook_configs": [{"url": hook}]}],
    }


def post(url: str, path: str, body: str = "") -> int:
    """The status that comes back."""
    connection = http.client.HTTPConnection(url[7:], timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status


def silence(url: str, name: str) -> None:
    moment = "%Y-%m-%dT%H:%M:%SZ"
    body = {
        "matchers": [{"name": "alertname", "value": name, "isRegex": False}],
        "startsAt": time.strftime(moment, time.gmtime(time.time() - 60)),
        "endsAt": time.strftime(moment, time.gmtime(time.time() + 3600)),
        "createdBy": "the laboratory",
        "comment": "we know",
    }
    assert post(url, "/api/v2/silences", json.dumps(body)) == http.HTTPStatus.OK


def told(bench: Bench, receiver: str, alerts: t.Iterable[str], rule_files: t.Sequence[str] = ("rules.yml",)) -> str:
    """A Prometheus whose alerts always fire, and which sends them there; its address."""
    folder = bench.folder()
    rules = [{"alert": alert, "expr": ALWAYS, "labels": {"severity": "critical"}} for alert in alerts]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "lab", "rules": rules}]}))
    config: dict[str, t.Any] = {"global": {"evaluation_interval": "1s"}, "rule_files": list(rule_files)}
    if receiver:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [receiver]}]}]}
    # What was sent before Alertmanager was found is sent again soon.
    return bench.prometheus(folder, config, arguments=["--rules.alert.resend-delay=1s"]).url


@dataclasses.dataclass(frozen=True)
class Stand:
    """Addresses of Prometheus: with an Alertmanager, with one whose receiver fails, and with one that is dead."""

    well: str
    failing: str
    dead: str


@functools.lru_cache(maxsize=None)
def stand(bench: Bench) -> Stand:
    sink = bench.stack.enter_context(_Sink())

    def alertmanager(hook: str) -> servers.Server:
        config = yaml.safe_dump(routing(hook))
        return bench.stack.enter_context(servers.alertmanager(bench.folder(), ALERTMANAGERS[bench.version], config))

    good, bad = alertmanager(sink.url), alertmanager(f"{sink.url}/500")
    silence(good.url, "Silenced")
    names = ("Delivered", "Silenced", "Inhibited", "Source", "Muted", "Empty")
    return Stand(
        told(bench, good.url[7:], names),
        told(bench, bad.url[7:], ["Unanswered"]),
        told(bench, f"127.0.0.1:{servers.free_port()}", ["Dead"], ["rules.yml", "elsewhere/*.yml"]),
    )


def on_stand(which: str, alert: str) -> t.Callable[[Bench, str], Ask]:
    return lambda bench, _name: asks(getattr(stand(bench), which), alert)


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
LEFT = metric("lab_join_left", 9, strategy="alpha")

FAULTS = (
    # Nothing is wrong
    Fault("an alert that is delivered", on_stand("well", "Delivered"), "alert.delivered", "takes the notifications"),
    # The server, and what it has loaded
    Fault("no server for alerts", lambda _b, name: asks("http://127.0.0.1:1", name), "alert.server", "refused", ("3",)),
    Fault("VictoriaMetrics for alerts", victoria, "alert.server", "is VictoriaMetrics", ("3",)),
    Fault(
        "a pattern of rule files that matches nothing",
        on_stand("dead", "LabNowhere"),
        "alert.loaded",
        r"of \S*elsewhere/\*\.yml in rule_files no rule was loaded",
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
    # Its expression
    Fault(
        "a threshold that is never reached",
        ruled("lab_below > 5", Page(metric("lab_below", 3))),
        "alert.threshold",
        "is 3, 2 below the threshold 5; the highest of the last 10 min was 3",
    ),
    Fault(
        "a value that is too high",
        ruled("2 > lab_above", Page(metric("lab_above", 3.5))),
        "alert.threshold",
        "is 3.5, 1.5 above the threshold 2",
    ),
    Fault(
        "a division of 0 by 0",
        ruled("lab_zero / lab_zero > 0.5", Page(metric("lab_zero", 0))),
        "alert.threshold",
        "NaN",
    ),
    Fault(
        "a condition that does not hold",
        ruled("lab_conditional > 1 and on () (hour() < bool 0) == 1", Page(metric("lab_conditional", 3))),
        "alert.threshold",
        r"\(hour\(\) < bool 0\) == 1 is not true: its value is 1 away from 1",
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
        ruled("lab_taken > 1 unless on (job) lab_holiday", Page(metric("lab_taken", 3) + metric("lab_holiday"))),
        "alert.condition",
        "taken away by `unless lab_holiday`",
    ),
    Fault("absent of what is there", ruled("absent(up)"), "alert.threshold", "whether up is absent, and that is there"),
    Fault("a window that is too narrow", too_narrow, "alert.expression", "fewer samples than it needs", after=14.0),
    Fault(
        "a join that loses its labels",
        ruled("lab_join_left > on (strategy) lab_join_right", Page(LEFT + metric("lab_join_right", 1))),
        "alert.join",
        "none of the left meets one of the right .*only the left side has strategy",
    ),
    # Its wait
    Fault("an alert that is pending", ruled(ALWAYS, None, **{"for": "1h"}), "alert.wait", "it fires in (59 min|1 h)"),
    Fault(
        "a wait that one failed scrape began anew",
        wait_begun_anew,
        "alert.wait",
        "began anew at .*one scrape of job .* failed at .*would have fired at",
        after=20.0,
    ),
    Fault(
        "true for less than its wait",
        ruled("lab_for_a_moment > 5", ending, **{"for": "1m"}),
        "alert.wait",
        r"never for its `for` of 1 min\. In .*would have fired at .* if `for` were .*Now ",
        after=14.0,
    ),
    # Who is told
    Fault("no Alertmanager", ruled(ALWAYS), "alert.delivery", "has no Alertmanager configured"),
    Fault("Alertmanager is dead", on_stand("dead", "Dead"), "alert.delivery", "does not get it: .*connection refused"),
    Fault("silenced", on_stand("well", "Silenced"), "alert.silence", r"silenced by \S+ of the laboratory .* until 20"),
    Fault("inhibited", on_stand("well", "Inhibited"), "alert.inhibition", "inhibited by Source"),
    Fault("muted by time", on_stand("well", "Muted"), "alert.mute", "muted by the time interval always"),
    Fault("an empty receiver", on_stand("well", "Empty"), "alert.receiver", "the receiver nobody, which has no"),
    Fault(
        "a receiver that answers 500",
        on_stand("failing", "Unanswered"),
        "alert.notification",
        r"every notification to hook \(webhook\) fails",
    ),
)
