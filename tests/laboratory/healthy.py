# SPDX-License-Identifier: GPL-3.0-or-later
"""A healthy stack, asked by every diagnosis again and again: none may find anything that is worse than information.

The stack is real: Redis, publishers, our exporter, Prometheus with the role's rules, Alertmanager. An hour lies behind
it, written beforehand at the interval of the role. Then it lives, :data:`FACTOR` times as fast: a scrape each second,
and every interval, ``for`` and window of the rules is shorter by that, so that four minutes of it are an hour of the
diagnosis' life. In both happens what does every day: a counter that begins anew, a label set that ends, a strategy that
is quiet for a minute, an exporter that is restarted, a reload, scrapes that come early or late, a pending alert.

What a diagnosis says rightly all the same stands in :data:`RIGHT`, with the reason.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import http
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import yaml

from tests.demo import traffic
from tests.laboratory.fault import VERSIONS
from tests.laboratory.receiver import ALERTMANAGERS, Sink, post, routing
from tests.laboratory.scrape import CATALOGUE
from tests.testbench import module, servers
from tests.testbench.packages import ROOT, program

HOUR = 3600
# The scrape interval of the role, in seconds; and how many times faster it lives than that.
STEP = 15
FACTOR = 15
RULES = ROOT / "roles/prometheus/templates/configuration/rules"
# When in its life something happens, in seconds; again and again, each so many.
AGAIN = 40
RELOAD, RESTART = 14, 18
QUIET = range(20, 24)
# Shorter than the alert waits.
PENDING = range(24, 34)
# For so long the discovery of Alertmanagers takes, in seconds.
DISCOVERED = 6.0
# For so long what was scraped last, and the rules on it, still tell of a restart, in seconds.
SEEN = 3.0
# Questions at once, and metrics of one round.
AT_ONCE = 2
METRICS_AT_ONCE = 3
# An hour of its life, in seconds; and as much of it as has each of its events once.
LONG, SHORT = HOUR / FACTOR, 42.0
# Before it is asked, in seconds.
WARM = 11.0
# Below the threshold of an alert that waits for five minutes.
LOW = json.dumps(
    {
        "name": "njord_strategy_sharpe_ratio",
        "value": 0.3,
        "timestamp_ns": time.time_ns(),
        "metric_type": "gauge",
        "labels": {"strategy_id": "momentum"},
    }
)


@dataclasses.dataclass(frozen=True)
class Right:
    """What is rightly worse than information.

    :param check: a pattern of it, and ``says`` one of the summary.
    :param away: seconds for more than which the exporter is away when it is said, for its restart; below 0 always.
    :param reloaded: it is said only where Prometheus was reloaded just before.
    """

    check: str
    says: str
    reason: str
    away: float = -1.0
    reloaded: bool = False

    def fits(self, alarm: Alarm) -> bool:
        told = re.fullmatch(self.check, alarm.finding["check"]) and re.search(self.says, alarm.finding["summary"])
        return bool(told) and alarm.away > self.away and alarm.reloaded >= self.reloaded


RIGHT: tuple[Right, ...] = (
    Right(
        r"scrape\..*|alert\.series|cardinality\.overflow|configuration\.(scrapes|windows)",
        "",
        "Asked in the moment of a restart, it is right that nothing is known of what comes from the exporter.",
        0.0,
    ),
    Right(
        r"alert\.(firing|delivered)",
        "TargetDown",
        "A machine with much else to do takes longer for the restart than the alert waits.",
        120 / FACTOR,
    ),
    Right(
        "configuration.windows",
        "Not known of 2 rules .*njord_fill_latency_seconds_bucket",
        "Nobody has published the fill latency yet, so that nobody knows which job would scrape it.",
    ),
    Right(
        "alert.delivery",
        "knows no Alertmanager|whether Alertmanager has it",
        "For up to five seconds after a reload Prometheus has no Alertmanager, and what fires then comes later.",
        reloaded=True,
    ),
)


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A finding that is worse than information, and of whom.

    :param second: of the life of the stack in which it was asked, and ``answered`` likewise.
    :param away: for how long the exporter was away, where it was then; 0 where it was there.
    :param reloaded: Prometheus was, just before.
    """

    version: str
    second: float
    answered: float
    asked: str
    finding: t.Mapping[str, t.Any]
    away: float = 0.0
    reloaded: bool = False

    @property
    def right(self) -> Right | None:
        return next((row for row in RIGHT if row.fits(self)), None)

    def __str__(self) -> str:
        found = self.finding
        return (
            f"{self.version} at {self.second:.0f} s, {self.asked}: {found['severity']} {found['check']} of "
            f"{found['subject']}: {found['summary']}"
        )


class Publishers:
    """Six strategies and their services, on the bus once a second; two of them pause, one ends."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Publishers:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as bus:
            second = 0
            while not self._ended.wait(1 if second else 0):
                texts = [text for text in traffic.snapshots(second, 1, 0, 4.0) if self._is_sent(text, second)]
                texts += [LOW] if second % AGAIN in PENDING else []
                bus.sendall(b"".join(traffic.command("PUBLISH", traffic.TOPIC, text) for text in texts))
                bus.recv(65536)
                second += 1

    @staticmethod
    def _is_sent(text: str, second: int) -> bool:
        """Not what is bad on purpose."""
        try:
            message = json.loads(text)
        except ValueError:
            return False
        strategy = message["labels"].get("strategy_id", "")
        if strategy == "pairs" and second % AGAIN in QUIET:
            return False
        return " " not in message["name"] and not (strategy == "grid" and second >= RESTART)


def past(now: float, instance: str, itself: str) -> str:
    """An hour until ``now`` as OpenMetrics: what the publishers send, and what Prometheus notes of its scrapes."""
    chance = random.Random(5)
    start = now - HOUR
    steps = HOUR // STEP
    exporter, own = {"job": "njord_quant", "instance": instance}, {"job": "prometheus", "instance": itself}
    moments = [start + number * STEP + chance.uniform(-0.2, 0.2) for number in range(steps)]
    # For two scrapes the exporter is restarted: then its counters begin anew.
    away = (steps // 2, steps // 2 + 1)
    families: dict[str, list[str]] = {}

    def add(name: str, kind: str, labels: t.Mapping[str, str], values: t.Callable[[int], float | None]) -> None:
        text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        family = name[: -len("_total")] if kind == "counter" else name
        rows = families.setdefault(family, [f"# TYPE {family} {kind}\n"])
        for number, moment in enumerate(moments):
            value = values(number)
            if value is not None:
                rows.append(f"{name}{{{text}}} {value} {moment:.3f}\n")

    def published(name: str, kind: str, low: float, high: float, **labels: str) -> None:
        drawn = [chance.uniform(low, high) for _number in range(steps)]

        def value(number: int) -> float | None:
            if number in away or (labels.get("strategy_id") == "scalping" and number > steps * 2 // 3):
                return None
            if kind == "counter":
                return sum(drawn[away[1] if number > away[1] else 0 : number])
            # Quiet for a minute, it is served as it was.
            quiet = labels.get("strategy_id") == "pairs" and steps // 4 <= number < steps // 4 + 4
            return drawn[steps // 4 if quiet else number]

        add(name, kind, {**exporter, **labels}, value)

    for strategy in (*traffic.STRATEGIES, "scalping"):
        published("njord_strategy_pnl_usd", "gauge", -200, 900, strategy_id=strategy)
        published("njord_strategy_drawdown_pct", "gauge", 0, 6, strategy_id=strategy)
        published("njord_strategy_sharpe_ratio", "gauge", 0.8, 2, strategy_id=strategy)
        published("njord_strategy_win_rate", "gauge", 0.45, 0.7, strategy_id=strategy)
        published("njord_signals_generated_total", "counter", 0, 3, strategy_id=strategy)
    for venue in ("binance", "kraken"):
        published("njord_fills_generated_total", "counter", 10, 20, venue=venue)
        published("njord_orders_placed_total", "counter", 10, 20, venue=venue)
    for service in ("broker", "risk_engine", "strategy_runner"):
        published("njord_memory_usage_mb", "gauge", 200, 400, service=service)
    published("njord_event_loop_lag_seconds", "gauge", 0.001, 0.05)
    published("njord_exporter_bus_connected", "gauge", 1, 1)
    add("njord_exporter_last_message_timestamp_seconds", "gauge", exporter, lambda number: moments[number])
    add("prometheus_tsdb_head_series", "gauge", own, lambda _number: 2300.0)
    add("prometheus_tsdb_head_series_created_total", "counter", own, lambda _number: 2300.0)
    add("prometheus_tsdb_head_series_removed_total", "counter", own, lambda _number: 0.0)
    add("up", "gauge", exporter, lambda number: float(number not in away))
    add("up", "gauge", own, lambda _number: 1.0)
    return "".join(text for rows in families.values() for text in rows) + "# EOF\n"


def blocks(directory: Path, text: str) -> Path:
    """The blocks of a Prometheus that has lived through it."""
    file = directory / "past.txt"
    file.write_text(text)
    command: list[str | Path] = [program("promtool", "2"), "tsdb", "create-blocks-from", "openmetrics", file]
    subprocess.run([*command, directory / "data"], check=True, capture_output=True)
    return directory / "data"


@dataclasses.dataclass(frozen=True)
class Stack:
    """A stack that lives.

    :param began: of :func:`time.monotonic`.
    :param reloads: of Prometheus, in seconds of its life.
    :param restarts: of the exporter, in seconds of its life: from when until when it was away.
    """

    version: str
    url: str
    alertmanager: str
    redis: str
    exporter: servers.Server
    query_log: Path
    began: float
    restarts: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    reloads: list[float] = dataclasses.field(default_factory=list)

    @property
    def second(self) -> float:
        return time.monotonic() - self.began

    def away(self, begin: float, end: float) -> float:
        """How long the exporter was away of the restart that is seen between two seconds; until the next scrape."""
        seen = [up - down for down, up in self.restarts if down <= end and up + SEEN >= begin]
        return max(seen, default=0.0)


@contextlib.contextmanager
def stack(version: str, directory: Path) -> t.Iterator[Stack]:
    """With an hour behind it, and all that happens to it still before it."""
    directory.mkdir()
    with contextlib.ExitStack() as running:
        bus = running.enter_context(servers.redis(directory))
        exporter_port, port, node_port = (servers.free_port() for _number in range(3))
        (directory / "base.yaml").write_text(yaml.safe_dump({"redis": {"url": bus.url}}))
        command: list[str | Path] = [Path(sys.executable).with_name("njord-exporter"), "--config-root", directory]
        exporter = servers.Server(
            "exporter", [*command, "--port", str(exporter_port)], directory, exporter_port, "/-/healthy"
        )
        texts = directory / "texts"
        texts.mkdir()
        (texts / "njord.prom").write_text("".join(f"{name} {value}\n" for name, value in maintained(time.time())))
        running.enter_context(servers.node_exporter(texts, port=node_port))
        sink = running.enter_context(Sink())
        config = yaml.safe_dump(routing(sink.url))
        told = running.enter_context(servers.alertmanager(directory, ALERTMANAGERS[version], config))
        (directory / "rules").mkdir()
        for file in RULES.glob("*.yml"):
            (directory / "rules" / file.name).write_text(compressed(file.read_text()))
        blocks(directory, past(time.time() - 2 * STEP, f"127.0.0.1:{exporter_port}", f"127.0.0.1:{port}"))
        running.enter_context(exporter)
        running.enter_context(Publishers(bus.port))
        jobs = {"prometheus": port, "node_exporter": node_port, "njord_quant": exporter_port, "alertmanager": told.port}
        settings = {
            "global": {
                "scrape_interval": "1s",
                "evaluation_interval": "1s",
                "query_log_file": str(directory / "query.log"),
            },
            "rule_files": ["rules/*.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [told.url[7:]]}]}]},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{number}"]}]}
                for job, number in jobs.items()
            ],
        }
        server = servers.prometheus(directory, version, yaml.safe_dump(settings), port=port)
        running.enter_context(server)
        yield Stack(version, server.url, told.url, bus.url, exporter, directory / "query.log", time.monotonic())


def maintained(now: float) -> t.Iterator[tuple[str, float]]:
    """What node_exporter tells of procedures that ran an hour ago."""
    for procedure in ("weekly", "monthly", "quarterly"):
        yield f'njord_maintenance_last_run_timestamp_seconds{{procedure="maintenance_{procedure}"}}', now - HOUR
    for name in ("metrics_cleanup_last_run", "backup_last", "backup_last_proven", "backup_sent"):
        yield f"njord_{name}_timestamp_seconds", now - HOUR
    for name in ("metrics_cleanup", "backup"):
        yield f"njord_{name}_scheduled", 1
        yield f"njord_{name}_interval_seconds", 86400
        yield f"njord_{name}_success", 1
    yield "njord_backup_damaged_backups", 0
    yield "njord_backup_sent_damaged", 0
    yield "njord_backup_drill_success", 1
    yield "njord_backup_drill_damaged", 0


def happen(life: Stack, until: float) -> None:
    """What happens to it every day."""

    def wait(second: float) -> None:
        time.sleep(max(life.began + second - time.monotonic(), 0.0))

    for begin in range(0, int(until), AGAIN):
        wait(begin + RELOAD)
        life.reloads.append(life.second)
        assert post(life.url, "/-/reload") == http.HTTPStatus.OK
        wait(begin + RESTART)
        # Two scrapes fail.
        down = life.second
        life.exporter.stop()
        time.sleep(1.5)
        life.exporter.start()
        life.restarts.append((down, life.second))


def compressed(text: str) -> str:
    """Rules whose times are all shorter by the factor."""

    def shorter(found: re.Match[str]) -> str:
        milliseconds = int(found[2]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[3]] * 1000 // FACTOR
        return f"{found[1]}{milliseconds}ms"

    return re.sub(r"(\[|offset |interval: |for: )(\d+)([smhd])\b", shorter, text)


# As the playbooks have it: a metric that nothing publishes, and the first trip that has not come.
NOT_EMITTED = [entry.name for entry in CATALOGUE if entry.source != "emitted"] + ["njord_killswitch_trips_total"]
EMITTED = [dataclasses.asdict(entry) for entry in CATALOGUE]
RULES_ASKED = sorted(
    rule["alert"]
    for file in RULES.glob("*.yml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
)
METRICS = sorted(
    {
        message["name"]
        for text in traffic.snapshots(0, 1, 0, 4.0)
        if text.startswith("{")
        for message in [json.loads(text)]
        if " " not in message["name"] and message["metric_type"] != "histogram"
    }
)


def questions(life: Stack, metrics: t.Sequence[str]) -> list[tuple[str, str, dict[str, t.Any]]]:
    """What is asked in one round: what, by which module, with which options."""
    bus = {
        "redis_url": life.redis,
        "exporter_url": life.exporter.url,
        "catalogue": EMITTED,
        # Long enough for a publisher that sends each second.
        "listen": "2s",
    }
    rows: list[tuple[str, str, dict[str, t.Any]]] = [
        ("everything", "scrape_info", bus),
        *((metric, "scrape_info", {"metric": metric, "catalogue": EMITTED}) for metric in metrics),
        ("alerts", "alert_info", {"window": "1h", "not_emitted": NOT_EMITTED}),
        ("rules", "alert_info", {"rules": RULES_ASKED, "window": "1h", "not_emitted": NOT_EMITTED}),
        ("cardinality", "cardinality_info", {"window": "1h"}),
        ("query log", "query_log_info", {"path": str(life.query_log), "window": "1h"}),
        ("thresholds", "threshold_info", {"window": "1h", "not_emitted": NOT_EMITTED}),
        ("usage", "metric_usage_info", {"window": "1h"}),
        ("configuration", "configuration_info", {}),
    ]
    return [(what, name, {"prometheus_url": life.url, **options}) for what, name, options in rows]


@dataclasses.dataclass(frozen=True)
class Health:
    """What was said of one stack.

    :param lived: seconds of its life.
    :param longest: seconds that an answer took.
    """

    version: str
    lived: float
    answers: int
    longest: float
    alarms: list[Alarm]

    @property
    def false(self) -> list[str]:
        """The alarms that are none."""
        return [str(alarm) for alarm in self.alarms if not alarm.right]

    def row(self) -> dict[str, t.Any]:
        """As ``build/laboratory.json`` has it."""
        return {
            "fault": "none: a healthy stack",
            "version": self.version,
            "expected": "nothing that is worse than information",
            "said": "; ".join(self.false) or f"nothing, in {self.answers} answers",
            "right": not self.false,
            "seconds": round(self.longest, 3),
        }


def live(version: str, directory: Path, seconds: float) -> Health:
    """Lives for so long, and is asked all the time."""
    found: list[Alarm] = []
    took: list[float] = []
    with stack(version, directory) as life, concurrent.futures.ThreadPoolExecutor(AT_ONCE + 1) as pool:
        happening = pool.submit(happen, life, seconds)
        # Each scraped, each rule evaluated, Alertmanager found: of a server that has just begun much is not known.
        time.sleep(WARM)

        def ask(row: tuple[str, str, dict[str, t.Any]]) -> None:
            what, name, options = row
            if life.second > seconds:
                return
            asked = life.second
            answer = module.run(name, options)
            took.append(life.second - asked)
            bad = [one for one in answer["findings"] if one["severity"] not in ("ok", "info")]
            found.extend(Alarm(version, asked, life.second, f"{name} of {what}", one) for one in bad)

        for turn in itertools.count(step=METRICS_AT_ONCE):
            chosen = [METRICS[(turn + number) % len(METRICS)] for number in range(METRICS_AT_ONCE)]
            list(pool.map(ask, questions(life, chosen)))
            if life.second > seconds:
                break
        happening.result()
    alarms = [
        dataclasses.replace(
            alarm,
            away=life.away(alarm.second, alarm.answered),
            reloaded=any(at <= alarm.answered and alarm.second <= at + DISCOVERED for at in life.reloads),
        )
        for alarm in found
    ]
    return Health(version, seconds, len(took), max(took), alarms)


def run(directory: Path, seconds: float) -> list[Health]:
    """On each version of Prometheus."""
    with concurrent.futures.ThreadPoolExecutor(len(VERSIONS)) as pool:
        running = [pool.submit(live, version, directory / f"healthy{version}", seconds) for version in VERSIONS]
        return [future.result() for future in running]


def report(healths: t.Sequence[Health]) -> None:
    for health in healths:
        for alarm in health.alarms:
            mark = f"right, as: {alarm.right.reason}" if alarm.right else "FALSE"
            print(f"{alarm}\n{'':17}{mark}")
        minutes = health.lived * FACTOR / 60
        print(
            f"healthy: {len(health.false)} false alarms in {health.answers} answers on {health.version}, over "
            f"{minutes:.0f} min in {health.lived:.0f} s and the hour before; the longest took {health.longest:.2f} s"
        )
