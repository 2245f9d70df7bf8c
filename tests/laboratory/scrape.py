# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that make a metric go missing, from the publisher to the database; ``scrape_info`` is asked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import redis
import yaml
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import panel, publisher, scrape
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Refused, Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._redis import Redis

from tests.laboratory.exporter import Deaf, Exporter, Page, Script, certificate, metric
from tests.laboratory.fault import Ask, Bench, Fault
from tests.laboratory.plan import ALERT, of_job, of_metric
from tests.testbench import servers
from tests.testbench.disk import small_disk
from tests.testbench.packages import ROOT, run

CATALOGUE = [
    publisher.Entry(row["name"], row["source"], row["type"])
    for row in yaml.safe_load((ROOT / "files/exporter/njord_telemetry/catalogue.yaml").read_text())["metrics"]
]
FILLS = "njord_fills_generated_total"


def look(
    url: str,
    metric: str = "",
    job: str = "",
    redis_url: str = "",
    redis_password: str = "",
    exporter_url: str = "",
    window: float = 3600.0,
) -> scrape.Look:
    """What the module does with these options."""
    exporter = Server(exporter_url) if exporter_url else None
    bus = Redis(redis_url, password=redis_password, timeout=2.0) if redis_url else None

    def before(note: t.Callable[[str, str], None]) -> publisher.Publisher:
        page = scrape.page_of(exporter) if exporter else None
        return publisher.Publisher(bus, page, publisher.TOPIC, 0.5, CATALOGUE, note)

    return scrape.Look(Prometheus(Server(url)), scrape.Question(metric, job, window), before, exporter)


def asks(url: str, **question: t.Any) -> Ask:
    return lambda: look(url, **question).findings()


# A page with something wrong, and what its job is told


def paged(page: Page | Script, of: str = "lab_fine", **settings: t.Any) -> t.Callable[[Bench, str], Ask]:
    """A job for one page; its metric is asked for, together with the job."""

    def make(bench: Bench, name: str) -> Ask:
        bench.job(name, page, **settings)
        return asks(bench.url, metric=of, job=name)

    return make


FINE = metric("lab_fine")
MANY = "".join(f'lab_many{{number="{number}"}} 1\n' for number in range(20))


def stamped(seconds: float) -> Script:
    return lambda _number: Page(metric("lab_stamped", stamp=time.time() + seconds) + FINE)


HTML = "<html>Log in</html>"
RENAMING = [
    {"source_labels": ["__name__"], "regex": "lab_fine", "target_label": "__name__", "replacement": "lab_new"},
]


def counting(number: int) -> Page:
    """A counter that begins anew every six scrapes."""
    return Page(f"# TYPE lab_counter_total counter\nlab_counter_total {number % 6}\n")


def dropping(pattern: str) -> list[dict[str, t.Any]]:
    return [{"source_labels": ["__name__"], "regex": pattern, "action": "drop"}]


# Targets that are elsewhere, or not at all


def two_targets(bench: Bench, name: str) -> Ask:
    """One of two is down; the metric is there from the other."""
    path = bench.page(name, Page(metric("lab_two")))
    targets = [bench.exporter.address, f"127.0.0.1:{servers.free_port()}"]
    bench.job(name, metrics_path=path, static_configs=[{"targets": targets}])
    return asks(bench.url, metric="lab_two")


def two_targets_of_one(bench: Bench) -> dict[str, t.Any]:
    targets = [bench.exporter.address, bench.exporter.address.replace("127.0.0.1", "localhost")]
    return {"static_configs": [{"targets": targets}]}


@functools.lru_cache(maxsize=None)
def deaf(bench: Bench) -> str:
    return bench.stack.enter_context(Deaf())


def gone_from_discovery(bench: Bench, name: str) -> Ask:
    """A target that was in a file, and is taken out of it."""
    path = bench.page(name, Page(metric("lab_taken_out")))
    file = bench.folder() / "targets.json"
    file.write_text(json.dumps([{"targets": [bench.exporter.address]}]))
    bench.job(name, metrics_path=path, file_sd_configs=[{"files": [str(file)], "refresh_interval": "500ms"}])

    def taken_out() -> None:
        other = [{"targets": [bench.exporter.address.replace("127.0.0.1", "localhost")]}]
        bench.page(name, Page(FINE))
        new = file.with_suffix(".new")
        new.write_text(json.dumps(other))
        new.replace(file)
        # Discoveries are taken over every five seconds.
        deadline = time.monotonic() + 20
        client = Prometheus(Server(bench.url))
        while client.query(f'up{{job="{name}",instance=~"127.*"}}') and time.monotonic() < deadline:
            time.sleep(0.2)

    bench.then(name, taken_out)
    return asks(bench.url, metric="lab_taken_out", job=name)


def ended_at_once(bench: Bench, name: str) -> Ask:
    """An exporter that was there and is stopped."""
    own = Exporter()
    own.scripts["/metrics"] = lambda _number: Page(metric("lab_stopped"))
    own.__enter__()
    bench.job(name, target=own.address)

    def stopped() -> None:
        own.__exit__()
        time.sleep(2.5)

    bench.then(name, stopped)
    return asks(bench.url, metric="lab_stopped")


@functools.lru_cache(maxsize=None)
def no_files(bench: Bench) -> dict[str, t.Any]:
    return {"file_sd_configs": [{"files": [f"{bench.folder()}/no-such-*.json"]}]}


@functools.lru_cache(maxsize=None)
def broken_file(bench: Bench) -> dict[str, t.Any]:
    file = bench.folder() / "broken.json"
    file.write_text('[{"targets": ')
    return {"file_sd_configs": [{"files": [str(file)]}]}


# TLS, both ways


@functools.lru_cache(maxsize=None)
def _certified(bench: Bench, host: str, ended: bool) -> tuple[str, Path]:
    """A target that speaks TLS with a certificate of its own: its address, and who signed it."""
    folder = bench.folder()
    own = bench.stack.enter_context(Exporter(certificate(folder, host, ended)))
    own.scripts["/metrics"] = lambda _number: Page(FINE)
    return own.address, folder / "target.crt"


@functools.lru_cache(maxsize=None)
def wanting(bench: Bench) -> str:
    """A target that speaks TLS with whoever has a certificate."""
    return bench.stack.enter_context(Exporter(certificate(bench.folder()), wants_certificate=True)).address


def encrypted(host: str = "127.0.0.1", ended: bool = False) -> t.Callable[[Bench], str]:
    return lambda bench: _certified(bench, host, ended)[0]


def known(host: str = "127.0.0.1", ended: bool = False) -> t.Callable[[Bench], dict[str, str]]:
    """What makes Prometheus know who signed the certificate of that target."""
    return lambda bench: {"ca_file": str(_certified(bench, host, ended)[1])}


def of_prometheus_by_http(bench: Bench, name: str) -> Ask:
    """A server in Go that speaks TLS answers a plain request with 400."""
    folder = bench.folder()
    certificate(folder)
    (folder / "web.yml").write_text("tls_server_config: {cert_file: target.crt, key_file: target.key}\n")
    own = servers.prometheus(folder, bench.version, arguments=[f"--web.config.file={folder}/web.yml"])
    bench.stack.enter_context(own)
    bench.job(name, target=f"127.0.0.1:{own.port}")
    return asks(bench.url, job=name)


# Names


def misspelt(bench: Bench, name: str) -> Ask:
    bench.job(name, Page(metric("lab_orders_placed_total")))
    return asks(bench.url, metric="lab_orders_paced_total")


def misspelt_job(bench: Bench, name: str) -> Ask:
    bench.job("lab_pushgateway", Page(FINE))
    return asks(bench.url, job="lab_pushgatway")


def other_label(bench: Bench, name: str) -> Ask:
    bench.job(name, Page(metric("lab_by_symbol", symbol="ATOM")))
    return asks(bench.url, metric='lab_by_symbol{symbol="ATON"}')


def unheard_of(bench: Bench, name: str) -> Ask:
    return asks(bench.url, metric="qwertz_uiop")


def broken_rule(bench: Bench, name: str) -> Ask:
    bench.rule(name, record="lab:broken", expr="up * on (job) prometheus_http_requests_total")
    return asks(bench.url, metric="lab:broken")


def empty_rule(bench: Bench, name: str) -> Ask:
    bench.rule(name, record="lab:empty", expr="sum(lab_nobody_has_this)")
    return asks(bench.url, metric="lab:empty")


def false_rule(bench: Bench, name: str) -> Ask:
    bench.rule(name, record="lab:false", expr="up > 1")
    return asks(bench.url, metric="lab:false")


# A panel of a dashboard


def on_a_panel(
    expression: str,
    variables: t.Sequence[dict[str, t.Any]] = (),
    begin: str = "now-10m",
    end: str = "now",
    source: t.Any = None,
) -> t.Callable[[Bench, str], Ask]:
    def make(bench: Bench, name: str) -> Ask:
        bench.job(name, Page(metric("lab_of_a_panel", symbol="ATOM")))
        board = {
            "templating": {"list": list(variables)},
            "time": {"from": begin, "to": end},
            "panels": [{"title": "Orders", "datasource": source, "targets": [{"expr": expression}]}],
        }
        question = scrape.Question(window=3600.0, panels=panel.panels(json.dumps(board)))
        return lambda: scrape.Look(
            Prometheus(Server(bench.url)),
            question,
            lambda note: publisher.Publisher(None, None, publisher.TOPIC, 0.5, CATALOGUE, note),
        ).findings()

    return make


SYMBOL = {"name": "symbol", "type": "query", "query": "label_values(lab_of_a_panel, symbol)", "current": {}}
NOTHING = {"name": "symbol", "type": "query", "query": "label_values(lab_of_no_panel, symbol)", "current": {}}


# The server itself


def not_there(bench: Bench, name: str) -> Ask:
    return asks(f"http://127.0.0.1:{servers.free_port()}")


def victoria(bench: Bench, name: str) -> Ask:
    server = bench.stack.enter_context(servers.victoria_metrics(bench.folder()))
    return asks(server.url)


def wants_a_login(bench: Bench, name: str) -> Ask:
    folder = bench.folder()
    (folder / "web.yml").write_text(
        "basic_auth_users: {operator: $2y$05$QDzZRe1uEu.ZDfjJwbHFZuxJcJLeHGOSMnxRcoSX5KO/WrKqVZr2W}\n"
    )
    server = servers.prometheus(folder, bench.version, arguments=[f"--web.config.file={folder}/web.yml"])
    return asks(bench.stack.enter_context(server).url)


def replaying(bench: Bench, name: str) -> Ask:
    """A server that replays its log: the second part of it is a pipe, and whoever reads from it waits."""
    folder = bench.folder()
    server = servers.prometheus(folder, bench.version)
    with server:
        pass
    segments = sorted(path for path in (folder / "data" / "wal").iterdir() if path.name.isdigit())
    os.mkfifo(folder / "data" / "wal" / f"{int(segments[-1].name) + 1:08d}")

    def started_again() -> None:
        with server.log.open("ab") as log:
            process = subprocess.Popen(server._command, stdout=log, stderr=log, cwd=folder)
        # It never gets to the end of the pipe, and cannot be asked to end.
        bench.stack.callback(process.wait)
        bench.stack.callback(process.kill)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(HttpError):
                Server(server.url).get("/-/healthy")
                break
            time.sleep(0.05)

    bench.then(name, started_again)
    return asks(server.url)


def refused_configuration(bench: Bench, name: str) -> Ask:
    """A job was added to the file, with a mistake beside it; the server runs on the file before."""
    folder = bench.folder()
    server = bench.stack.enter_context(servers.prometheus(folder, bench.version))
    (folder / "prometheus.yml").write_text("scrape_configs: [{job_name: lab_new, no_such_setting: 1}]\n")
    with contextlib.suppress(Refused):
        Server(server.url).post("/-/reload")
    return asks(server.url, job="lab_new")


def full_disk(bench: Bench, name: str) -> Ask:
    """The disk of the log of Prometheus fills up; not that of its data, as a full tmpfs kills who maps a file on it."""
    folder = bench.folder()
    (folder / "data").mkdir()
    disk = bench.stack.enter_context(small_disk(folder / "data" / "wal", "size=8m"))
    own = bench.stack.enter_context(Exporter())
    own.scripts["/metrics"] = lambda number: Page(
        "".join(f'lab_full{{number="{number}_{row}"}} 1\n' for row in range(2000))
    )
    config = {
        "global": {"scrape_interval": "200ms"},
        "scrape_configs": [{"job_name": "full", "static_configs": [{"targets": [own.address]}]}],
    }
    url = bench.prometheus(folder, config).url

    def filled() -> None:
        with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
            while True:
                filler.write(b"\0" * 4096)
                filler.flush()
        time.sleep(3)

    bench.then(name, filled)
    return asks(url, job="full")


# A firewall: in a network of its own, with its own rules


def walled(bench: Bench, name: str) -> Ask:
    said: list[Finding] = []

    def happens() -> None:
        command = [sys.executable, "-m", "tests.laboratory.walled", bench.version, str(bench.folder())]
        said.extend(Finding(**row) for row in json.loads(run(["unshare", "--net", *command], cwd=ROOT)))

    bench.then(name, happens)
    return lambda: said


# The publisher


class Traffic:
    """Publishes on a bus until it is ended: fills, and a metric that no exporter takes."""

    def __init__(self, url: str) -> None:
        self._bus = redis.Redis.from_url(url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self._bus.close()

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(0.05):
            number += 1
            self._publish(FILLS, "counter", venue=f"venue{number % 9}")
            self._publish("njord_open_orders", "gauge", symbol="ATOM")
            self._publish("njord_position_size", "no such type", strategy_id="alpha")

    def _publish(self, name: str, kind: str, **labels: str) -> None:
        message = {"name": name, "value": 1.0, "timestamp_ns": time.time_ns(), "metric_type": kind, "labels": labels}
        self._bus.publish(publisher.TOPIC, json.dumps(message))


class Bus:
    """A real Redis, with the real exporter and with traffic where they are wanted."""

    def __init__(self, bench: Bench, exporter: bool = True, traffic: bool = True, wants_token: bool = False) -> None:
        self.folder = bench.folder()
        self.redis = bench.stack.enter_context(servers.redis(self.folder))
        self.address = ""
        if exporter:
            port = servers.free_port()
            self.address = f"127.0.0.1:{port}"
            (self.folder / "base.yaml").write_text(yaml.safe_dump({"redis": {"url": self.redis.url}}))
            command: list[str | Path] = [Path(sys.executable).with_name("njord-exporter"), "--config-root", self.folder]
            command += ["--port", str(port), "--label-set-limit", "5"]
            if wants_token:
                (self.folder / "token").write_text("of-the-laboratory")
                command += ["--token-file", self.folder / "token"]
            self.exporter = servers.Server("exporter", command, self.folder, port, "/-/healthy")
            bench.stack.enter_context(self.exporter)
        if traffic:
            bench.stack.enter_context(Traffic(self.redis.url))

    @property
    def options(self) -> dict[str, t.Any]:
        return {
            "redis_url": self.redis.url,
            **({"exporter_url": f"http://{self.address}"} if self.address else {}),
        }


@functools.lru_cache(maxsize=None)
def good_bus(bench: Bench) -> Bus:
    """One that all the faults of a bench share to which nothing is wrong with it."""
    bus = Bus(bench)
    bench.job("njord_quant", target=bus.address)
    return bus


def on_good_bus(of: str, **options: str) -> t.Callable[[Bench, str], Ask]:
    def make(bench: Bench, name: str) -> Ask:
        return asks(bench.url, metric=of, **{**good_bus(bench).options, **options})

    return make


@functools.lru_cache(maxsize=None)
def no_bus(bench: Bench) -> dict[str, str]:
    return {"redis_url": f"redis://127.0.0.1:{servers.free_port()}/0"}


@functools.lru_cache(maxsize=None)
def locked_bus(bench: Bench) -> dict[str, str]:
    server = bench.stack.enter_context(servers.redis(bench.folder()))
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        client.config_set("requirepass", "secret")
    return {"redis_url": server.url}


def no_redis(bench: Bench) -> dict[str, str]:
    return {"redis_url": f"redis://{bench.exporter.address}/0"}


@functools.lru_cache(maxsize=None)
def silent_bus(bench: Bench) -> dict[str, str]:
    return Bus(bench, traffic=False).options


def without_the_variable(bench: Bench, name: str) -> Ask:
    """A service of Njord runs on this host, and its environment does not let it publish."""
    service = f"njord-laboratory{os.getpid()}"
    group = bench.stack.enter_context(_control_group(f"{service}.service"))
    process = subprocess.Popen(["sleep", "600"], env={"NJORD_ENABLE_METRICS": "0"})
    bench.stack.callback(process.wait)
    bench.stack.callback(process.kill)
    (group / "cgroup.procs").write_text(str(process.pid))
    return asks(bench.url, metric=FILLS, **Bus(bench, traffic=False).options)


@contextlib.contextmanager
def _control_group(name: str) -> t.Iterator[Path]:
    """A control group as systemd gives one to a unit, in the first hierarchy that takes it."""
    root = Path("/sys/fs/cgroup")
    for parent in (root, root / "systemd", root / "unified"):
        group = parent / name
        if (parent / "cgroup.procs").exists():
            group.mkdir()
            try:
                yield group
            finally:
                group.rmdir()
            return
    raise RuntimeError(f"no control groups below {root}")


@functools.lru_cache(maxsize=None)
def nobody_subscribed(bench: Bench) -> dict[str, str]:
    return Bus(bench, exporter=False).options


def exporter_cut_off(bench: Bench, name: str) -> Ask:
    """The exporter lost its Redis, and only the exporter is asked."""
    bus = Bus(bench, traffic=False)

    def stopped() -> None:
        bus.redis.stop()
        time.sleep(0.5)

    bench.then(name, stopped)
    return asks(bench.url, metric=FILLS, exporter_url=f"http://{bus.address}")


def exporter_away(bench: Bench, name: str) -> Ask:
    return on_good_bus(FILLS, exporter_url=f"http://127.0.0.1:{servers.free_port()}")(bench, name)


def exporter_with_token(bench: Bench, name: str) -> Ask:
    bus = Bus(bench, traffic=False, wants_token=True)
    bench.job(name, target=bus.address)
    return asks(bench.url, job=name)


def everything_is_well(bench: Bench, name: str) -> Ask:
    """A server of its own, on which nothing is wrong: nothing may be said."""
    folder = bench.folder()
    bus = good_bus(bench)
    port = servers.free_port()
    config = {
        "global": {"scrape_interval": "500ms"},
        "scrape_configs": [
            {"job_name": "njord_quant", "static_configs": [{"targets": [bus.address]}]},
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
            {"job_name": "reset", "metrics_path": bench.page(name, counting)}
            | {"static_configs": [{"targets": [bench.exporter.address]}]},
        ],
    }
    bench.prometheus(folder, config, port=port)

    def ask() -> list[Finding]:
        found = look(f"http://127.0.0.1:{port}", **bus.options).findings()
        # The worst first, so that a single wrong word is the verdict.
        return sorted(found, key=lambda finding: finding.severity == "ok")

    return ask


def alone(bench: Bench, *jobs: dict[str, t.Any], folder: Path | None = None) -> str:
    """The address of a server of its own, with these jobs and one for itself."""
    port = servers.free_port()
    own = {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": [*jobs, own]}
    return bench.prometheus(folder or bench.folder(), config, port=port).url


def served_as_it_was(bench: Bench, name: str) -> Ask:
    """The exporter goes on to serve a gauge whose publisher sent it last twenty minutes ago."""
    own = metric("njord_exporter_build_info", version="1") + metric("njord_exporter_bus_connected")
    own += metric("njord_exporter_last_message_timestamp_seconds", time.time() + 600)
    own += metric("njord_exporter_messages_total", 9, result="accepted")
    own += metric("njord_exporter_series", metric="njord_open_orders")
    last = "njord_exporter_metric_last_message_timestamp_seconds"
    own += metric(last, time.time() - 1200, metric="njord_open_orders")
    path = bench.page(name, Page(own + metric("njord_open_orders", 7, symbol="ATOM")))
    target = {"static_configs": [{"targets": [bench.exporter.address]}]}
    return asks(alone(bench, {"job_name": "njord_quant", "metrics_path": path, **target}), metric="njord_open_orders")


def exporter_down(bench: Bench, name: str) -> Ask:
    """The exporter was scraped and is stopped: its job and the bus have one cause, which is said once."""
    bus = Bus(bench)
    job = {"job_name": "njord_quant", "static_configs": [{"targets": [bus.address]}]}
    url = alone(bench, job)

    def stopped() -> None:
        bus.exporter.stop()
        time.sleep(2)

    bench.then(name, stopped)

    def ask() -> list[Finding]:
        found = look(url, **bus.options).findings()
        wrong = [finding for finding in found if finding.severity != "ok"]
        # A second one would be the verdict.
        return wrong[1:] or wrong

    return ask


def asked_for_everything(page: Script, token: str = "") -> t.Callable[[Bench, str], Ask]:
    """A server of its own with one job, and all of it is asked for."""

    def make(bench: Bench, name: str) -> Ask:
        path = bench.page(name, lambda number: dataclasses.replace(page(number), token=token))
        login = {"authorization": {"credentials": token}} if token else {}
        target = {"static_configs": [{"targets": [bench.exporter.address]}]}
        return asks(alone(bench, {"job_name": "lab", "metrics_path": path, **target, **login}))

    return make


def all_at_once(bench: Bench, name: str) -> Ask:
    """Asked for everything on the bench of all the faults, it is told of too."""

    def ask() -> list[Finding]:
        found = look(bench.url).findings()
        return [finding for finding in found if finding.subject == "job all_at_once_refused"]

    bench.job("all_at_once_refused", target=f"127.0.0.1:{servers.free_port()}")
    return ask


def _well(bench: Bench, name: str) -> Ask:
    bench.job(name, Page(FINE))
    return asks(bench.url, job=name)


FAULTS = (
    # Nothing is wrong
    Fault("nothing is wrong, everything asked", everything_is_well, "scrape.target", "3 jobs are up"),
    Fault("nothing is wrong with a job", _well, "scrape.target", "1 target"),
    Fault("nothing is wrong with a metric", paged(Page(FINE)), "scrape.metric", "is there: from 1 target"),
    Fault("a counter that is reset", paged(counting, "lab_counter_total"), "scrape.metric", "is there"),
    Fault("a metric of the bus that is there", on_good_bus(FILLS, job="njord_quant"), "scrape.metric", "is there"),
    # The server
    Fault("no server", not_there, "scrape.server", "connection refused", ("3",)),
    Fault("VictoriaMetrics in its place", victoria, "scrape.server", "is VictoriaMetrics", ("3",)),
    Fault("the server wants a login", wants_a_login, "scrape.server", "401"),
    Fault("the server replays its log", replaying, "scrape.server", "replays its write-ahead log"),
    Fault("the configuration was refused", refused_configuration, "scrape.pool", "reload was refused"),
    Fault("the disk is full", full_disk, "scrape.storage", "has stored none of it for"),
    # The job and its targets
    Fault("no such job", misspelt_job, "scrape.pool", "there is lab_pushgateway"),
    Fault(
        "a job that is not configured",
        of_job(asked_job="lab_nowhere"),
        "scrape.pool",
        "Prometheus has no scrape job lab_nowhere",
        link="the job",
    ),
    Fault(
        "files of targets are not there",
        of_job(discovery=no_files),
        "scrape.discovery",
        "finds no target by file_sd",
        link="its discovery",
    ),
    Fault(
        "a file of targets is broken",
        of_job(discovery=broken_file),
        "scrape.discovery",
        "file_read_errors",
        link="its discovery",
    ),
    Fault(
        "a job without targets",
        of_job(discovery={"static_configs": []}),
        "scrape.discovery",
        "has no way to find",
        link="its discovery",
    ),
    Fault(
        "a name that gives no targets",
        of_job(discovery={"dns_sd_configs": [{"names": ["no-such.invalid"], "type": "A", "port": 1}]}),
        "scrape.discovery",
        "by dns_sd",
        link="its discovery",
    ),
    Fault(
        "relabelling drops the target",
        of_job(relabel_configs=[{"source_labels": ["__address__"], "regex": ".*", "action": "drop"}]),
        "scrape.relabelling",
        "drops every target",
        link="its relabelling",
    ),
    Fault("a target taken out of the list", gone_from_discovery, "scrape.stale", "is no target any more"),
    Fault("one of two targets is down", two_targets, "scrape.port", "1 of 2 targets"),
    # The connection
    Fault(
        "nothing listens", of_job(address="127.0.0.1:1"), "scrape.port", "nothing listens there", link="the connection"
    ),
    Fault(
        "it listens on another address",
        of_job(address=lambda bench: f"127.0.0.2:{bench.exporter.port}"),
        "scrape.port",
        r"listens on 127\.0\.0\.1:\d+ only",
        link="the connection",
    ),
    Fault("the exporter is stopped", ended_at_once, "scrape.port", "nothing listens"),
    Fault(
        "a name of the DNS that does not resolve",
        of_job(address="no-such.invalid:9"),
        "scrape.resolve",
        "does not resolve",
    ),
    # No resolver is asked for a name with an empty part.
    Fault(
        "a name that does not resolve",
        of_job(address="no-such..invalid:9"),
        "scrape.resolve",
        "does not resolve",
        link="the connection",
    ),
    Fault("a process that hangs", of_job(address=deaf), "scrape.service", "takes no connection", link="the connection"),
    Fault("a firewall", walled, "scrape.firewall", "iptables keeps others"),
    Fault(
        "a slow page",
        of_metric(delay=3.0),
        "scrape.speed",
        "within 1 s, though it takes a connection",
        link="an answer in time",
    ),
    # TLS
    Fault(
        "TLS asked of plain HTTP",
        of_job(scheme="https"),
        "scrape.tls",
        "the target speaks plain HTTP",
        link="the protocol",
    ),
    Fault(
        "plain HTTP asked of TLS",
        of_job(address=encrypted()),
        "scrape.tls",
        "the target speaks TLS",
        link="the protocol",
    ),
    Fault("plain HTTP asked of TLS in Go", of_prometheus_by_http, "scrape.tls", "the target speaks TLS"),
    Fault(
        "an unknown authority",
        of_job(address=encrypted(), scheme="https"),
        "scrape.tls",
        "authority that Prometheus does not",
        link="the protocol",
    ),
    Fault(
        "a certificate of another name",
        of_job(address=encrypted("elsewhere.invalid"), scheme="https", tls_config=known("elsewhere.invalid")),
        "scrape.tls",
        "another name",
        link="the protocol",
    ),
    Fault(
        "a target that wants a certificate",
        of_job(address=wanting, scheme="https", tls_config={"insecure_skip_verify": True}),
        "scrape.tls",
        "it may want a client certificate",
        link="the protocol",
    ),
    Fault(
        "a certificate file that is not there",
        of_job(scheme="https", tls_config={"ca_file": "no-such.crt"}),
        "scrape.tls",
        r"could not begin job .*no-such\.crt cannot be read",
        link="its discovery",
    ),
    Fault(
        "a certificate that has expired",
        of_job(address=encrypted(ended=True), scheme="https", tls_config=known(ended=True)),
        "scrape.tls",
        "has expired",
        link="the protocol",
    ),
    # The answer
    Fault("401", of_metric(status=401), "scrape.login", "HTTP 401", link="the status of the answer"),
    Fault("403", of_metric(status=403), "scrape.login", "HTTP 403", link="the status of the answer"),
    Fault("404", of_metric(status=404), "scrape.path", "HTTP 404", link="the status of the answer"),
    Fault("500", of_metric(status=500), "scrape.application", "HTTP 500", link="the status of the answer"),
    Fault("a redirect", of_metric(status=302), "scrape.login", "HTTP 302", link="the status of the answer"),
    Fault(
        "a token file that is not there",
        of_job(authorization={"credentials_file": "no-such"}),
        "scrape.login",
        "cannot read",
        link="its login",
    ),
    Fault("the exporter wants a token", exporter_with_token, "scrape.login", "HTTP 401"),
    Fault(
        "a target that closes the connection",
        of_metric(closes=True),
        "scrape.application",
        "closes the connection without an answer",
        link="the status of the answer",
    ),
    Fault(
        "a page that is cut off",
        of_metric(tail="# The end\n", cut=5),
        "scrape.format",
        "cut off",
        link="the whole body",
    ),
    Fault("an HTML page", of_metric(whole=HTML), "scrape.format", "HTML page", link="the format"),
    Fault(
        "an HTML page, by its type",
        of_metric(whole=HTML, content_type="text/html"),
        "scrape.format",
        "HTML page",
        ("2",),
        link="the format",
    ),
    Fault(
        "an HTML page, by its type, in 3",
        of_metric(whole=HTML, content_type="text/html"),
        "scrape.content_type",
        "text/html",
        ("3",),
        link="the content type",
    ),
    Fault(
        "a wrong content type",
        of_metric(content_type="application/json"),
        "scrape.content_type",
        "application/json",
        ("3",),
        link="the content type",
    ),
    Fault(
        "no content type", of_metric(content_type=None), "scrape.content_type", "blank", ("3",), link="the content type"
    ),
    Fault("no content type, which 2 takes", paged(Page(FINE, content_type=None)), "scrape.metric", "is there", ("2",)),
    Fault(
        "a line that is not the format",
        of_metric(head='lab_bad{a="b} 1\n'),
        "scrape.format",
        "one line",
        link="the format",
    ),
    Fault("a value that is no number", of_metric(head="lab_bad abc\n"), "scrape.format", "one line", link="the format"),
    Fault(
        "a label twice", of_metric(others='lab_bad{a="1",a="2"} 1\n'), "scrape.format", "one line", link="the limits"
    ),
    # Limits
    Fault(
        "more samples than the limit",
        of_metric(others=MANY, sample_limit=5),
        "scrape.limit",
        "sample_limit",
        link="the limits",
    ),
    Fault(
        "a page larger than the limit",
        of_metric(tail="#" + 5000 * "x" + "\n", body_size_limit="1KB"),
        "scrape.limit",
        "body_size_limit",
        link="the whole body",
    ),
    Fault(
        "more labels than the limit",
        of_metric(labels={"a": "1", "b": "2"}, label_limit=3),
        "scrape.limit",
        "label_limit is 3",
        link="the limits",
    ),
    Fault(
        "a label name longer than the limit",
        of_metric(labels={30 * "a": "1"}, label_name_length_limit=20),
        "scrape.limit",
        "label_name_length_limit is 20",
        link="the limits",
    ),
    Fault(
        "a label value longer than the limit",
        of_metric(labels={"a": 199 * "x"}, label_value_length_limit=190),
        "scrape.limit",
        "label_value_length_limit is 190",
        link="the limits",
    ),
    Fault(
        "more targets than the limit",
        of_job(discovery=two_targets_of_one, target_limit=1),
        "scrape.limit",
        "target_limit is 1",
        link="its number of targets",
    ),
    # The samples
    Fault(
        "an empty page", of_metric(whole="# Nothing to tell.\n"), "scrape.empty", "not one sample", link="any samples"
    ),
    Fault(
        "metric relabelling drops it",
        of_metric(metric_relabel_configs=dropping("lab_fine")),
        "scrape.relabelling",
        r"drop it \(rule 1.* of \d+ samples are dropped",
        link="the metric is kept",
    ),
    Fault(
        "metric relabelling drops all",
        of_metric(metric_relabel_configs=dropping("lab.*|njord.*")),
        "scrape.relabelling",
        r"each of the \d+ samples",
        link="samples that are kept",
    ),
    Fault(
        "metric relabelling renames it",
        of_metric(metric_relabel_configs=RENAMING),
        "scrape.relabelling",
        r"rename it to lab_new \(rule 1",
        link="the metric is kept",
    ),
    Fault(
        "old time stamps, refused", of_metric(stamp=-7200.0), "scrape.timestamps", "are 2 h old", link="its time stamps"
    ),
    Fault(
        "old time stamps, stored",
        of_metric(stamp=-900.0),
        "scrape.timestamps",
        "are 15 min old",
        link="its time stamps",
    ),
    Fault(
        "time stamps of the future, refused",
        of_metric(stamp=3600.0),
        "scrape.timestamps",
        "refuses",
        link="its time stamps",
    ),
    Fault(
        "a clock that is ahead",
        of_metric(stamp=120.0),
        "scrape.timestamps",
        "ahead of Prometheus",
        link="its time stamps",
    ),
    Fault(
        "a series twice in a page",
        of_metric(ALERT, twice=True),
        "scrape.duplicates",
        "twice in one page",
        link="its duplicates",
    ),
    Fault(
        "a metric that vanished",
        of_metric("metric_relabel_configs", "stamp", "twice", until=4),
        "scrape.stale",
        "does not expose it any more",
        after=12.0,
        link="the metric on the page",
    ),
    Fault("a rule that cannot be evaluated", broken_rule, "scrape.rule", "cannot be evaluated"),
    Fault("a rule on what is missing", empty_rule, "scrape.name", "recorded from lab_nobody_has_this. lab_nobody"),
    Fault("a rule that gives nothing", false_rule, "scrape.rule", "gives nothing"),
    # Names
    Fault("a name that is misspelt", misspelt, "scrape.name", "perhaps lab_orders_placed_total"),
    Fault(
        "a name that is misspelt, of a job",
        of_metric(name="lab_open_orders", asked_name="lab_open_order"),
        "scrape.name",
        "perhaps lab_open_orders",
        link="the metric on the page",
    ),
    Fault("a label value that is misspelt", other_label, "scrape.labels", "symbol has the values ATOM, not ATON"),
    Fault(
        "a label value that its job does not have",
        of_metric(asked_labels='strategy="alhpa"'),
        "scrape.labels",
        "strategy has the values alpha, not alhpa",
        link="the metric on the page",
    ),
    Fault("a name of which nobody heard", unheard_of, "scrape.name", "no target has a metric of that name"),
    Fault(
        "a metric that its job does not have",
        of_metric(asked_name="other_thing"),
        "scrape.exposed",
        "no metric",
        link="the metric on the page",
    ),
    Fault(
        "a metric of another job",
        of_metric(asked_name="go_goroutines"),
        "scrape.exposed",
        "there from job prometheus",
        link="the metric on the page",
    ),
    # A panel
    Fault(
        "nothing is wrong with a panel",
        on_a_panel('sum(lab_of_a_panel{symbol=~"$symbol"})', [SYMBOL]),
        "panel.data",
        "has data",
    ),
    Fault("a panel without its variable", on_a_panel("lab_of_a_panel{symbol='$symbol'}"), "panel.variable", "not have"),
    Fault(
        "a panel with an empty variable",
        on_a_panel("lab_of_a_panel{symbol='$symbol'}", [NOTHING]),
        "panel.variable",
        "symbol is empty",
    ),
    Fault(
        "a panel whose time range is past",
        on_a_panel("lab_of_a_panel", begin="2020-01-01T00:00:00Z", end="2020-01-01T06:00:00Z"),
        "panel.range",
        "data now, and none in the time range",
    ),
    Fault(
        "a panel of another data source",
        on_a_panel("lab_of_a_panel", source={"type": "loki", "uid": "x"}),
        "panel.source",
        "of the type loki",
    ),
    Fault(
        "a panel whose data source is no variable",
        on_a_panel("lab_of_a_panel", source={"type": "prometheus", "uid": "${DS}"}),
        "panel.source",
        "variable DS",
    ),
    Fault("a panel with a wrong expression", on_a_panel("sum(lab_of_a_panel"), "panel.expression", "refuses"),
    Fault("a panel with a misspelt metric", on_a_panel("rate(lab_of_a_pannel[1m])"), "scrape.name", "lab_of_a_panel"),
    Fault("a panel that compares in vain", on_a_panel("lab_of_a_panel > 5"), "panel.expression", "never true"),
    # The publisher
    Fault("not emitted by this version", on_good_bus("njord_strategy_sharpe_ratio"), "scrape.emitted", "no part of"),
    Fault(
        "no bus",
        of_metric(ALERT, "asked_name", bus=no_bus, name=FILLS),
        "scrape.bus",
        "connection refused",
        link="the bus",
    ),
    Fault(
        "a bus that wants a password",
        of_metric(ALERT, "asked_name", bus=locked_bus, name=FILLS),
        "scrape.bus",
        "NOAUTH",
        link="the bus",
    ),
    Fault(
        "no Redis behind the address",
        of_metric(ALERT, "asked_name", bus=no_redis, name=FILLS),
        "scrape.bus",
        "no Redis|closed",
        link="the bus",
    ),
    Fault(
        "a bus that is silent",
        of_metric(ALERT, "asked_name", bus=silent_bus, name=FILLS),
        "scrape.publisher",
        "nobody publishes",
        link="the bus",
    ),
    Fault(
        "a publisher without its variable",
        without_the_variable,
        "scrape.publisher",
        "run without NJORD_ENABLE_METRICS=1: .*njord-laboratory",
    ),
    Fault(
        "nobody is subscribed",
        of_metric(ALERT, "asked_name", bus=nobody_subscribed, name=FILLS),
        "scrape.exporter",
        "nobody is subscribed",
        link="the bus",
    ),
    Fault("the exporter lost its bus", exporter_cut_off, "scrape.exporter", "not subscribed"),
    Fault("the exporter does not answer", exporter_away, "scrape.exporter", "connection refused"),
    Fault(
        "a metric that was not published yet",
        on_good_bus("njord_killswitch_trips_total"),
        "scrape.publisher",
        "sent nothing yet",
    ),
    Fault("a metric that the exporter refuses", on_good_bus("njord_position_size"), "scrape.exporter", "not take it"),
    Fault(
        "a gauge of a publisher that is dead",
        served_as_it_was,
        "scrape.metric",
        "is there: .*but its publisher sent it last 20 min",
    ),
    Fault(
        "label sets that are folded",
        on_good_bus(FILLS + '{venue="venue8"}', job="njord_quant"),
        "scrape.cardinality",
        "folds",
    ),
    # Everything is asked for
    Fault(
        "old time stamps among everything",
        asked_for_everything(stamped(-7200)),
        "scrape.timestamps",
        "job lab: the time stamps",
    ),
    Fault(
        "a page that cannot be read from here",
        asked_for_everything(stamped(-7200), "of-the-laboratory"),
        "scrape.refused",
        r"refused .*as 1 page\(s\) cannot be read",
    ),
    Fault("the exporter is down, everything asked", exporter_down, "scrape.port", "nothing listens there"),
    Fault("one among all the others", all_at_once, "scrape.port", "nothing listens"),
)
