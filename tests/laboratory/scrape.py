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
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis import panel, publisher, scrape
from ansible_collections.njord.telemetry.plugins.module_utils._finding import Finding
from ansible_collections.njord.telemetry.plugins.module_utils._http import HttpError, Refused, Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._redis import Redis

from tests.laboratory.exporter import Deaf, Exporter, Page, Script, certificate, metric
from tests.laboratory.fault import Ask, Bench, Fault
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


def with_job(**settings: t.Any) -> t.Callable[[Bench, str], Ask]:
    """A job that is asked for by its name, its target among the settings."""

    def make(bench: Bench, name: str) -> Ask:
        bench.job(name, **settings)
        return asks(bench.url, job=name)

    return make


FINE = metric("lab_fine")
MANY = "".join(f'lab_many{{number="{number}"}} 1\n' for number in range(20))


def stamped(seconds: float) -> Script:
    return lambda _number: Page(metric("lab_stamped", stamp=time.time() + seconds) + FINE)


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


def too_many_targets(bench: Bench, name: str) -> Ask:
    path = bench.page(name, Page(FINE))
    targets = [bench.exporter.address, bench.exporter.address.replace("127.0.0.1", "localhost")]
    bench.job(name, metrics_path=path, static_configs=[{"targets": targets}], target_limit=1)
    return asks(bench.url, job=name)


def deaf(bench: Bench, name: str) -> Ask:
    bench.job(name, target=bench.stack.enter_context(Deaf()))
    return asks(bench.url, job=name)


def on_another_address(bench: Bench, name: str) -> Ask:
    """The exporter listens on 127.0.0.1, and Prometheus asks another address of this host."""
    bench.job(name, target=f"127.0.0.2:{bench.exporter.port}")
    return asks(bench.url, job=name)


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
        time.sleep(1.5)

    bench.then(name, stopped)
    return asks(bench.url, metric="lab_stopped")


def no_files(bench: Bench, name: str) -> Ask:
    bench.job(name, file_sd_configs=[{"files": [f"{bench.folder()}/no-such-*.json"]}])
    return asks(bench.url, job=name)


def broken_file(bench: Bench, name: str) -> Ask:
    file = bench.folder() / "broken.json"
    file.write_text('[{"targets": ')
    bench.job(name, file_sd_configs=[{"files": [str(file)]}])
    return asks(bench.url, job=name)


# TLS, both ways


def encrypted(
    scheme: str, host: str = "127.0.0.1", known: bool = True, ended: bool = False
) -> t.Callable[[Bench, str], Ask]:
    """A target that speaks TLS with a certificate of its own. :param known: Prometheus knows who signed it."""

    def make(bench: Bench, name: str) -> Ask:
        folder = bench.folder()
        own = bench.stack.enter_context(Exporter(certificate(folder, host, ended)))
        own.scripts["/metrics"] = lambda _number: Page(FINE)
        tls: dict[str, t.Any] = (
            {"tls_config": {"ca_file": str(folder / "target.crt")}} if known and scheme == "https" else {}
        )
        bench.job(name, target=own.address, scheme=scheme, **tls)
        return asks(bench.url, job=name)

    return make


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
            bench.stack.enter_context(servers.Server("exporter", command, self.folder, port, "/-/healthy"))
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


def no_bus(bench: Bench, name: str) -> Ask:
    return asks(bench.url, metric=FILLS, redis_url=f"redis://127.0.0.1:{servers.free_port()}/0")


def locked_bus(bench: Bench, name: str) -> Ask:
    server = bench.stack.enter_context(servers.redis(bench.folder()))
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        client.config_set("requirepass", "secret")
    return asks(bench.url, metric=FILLS, redis_url=server.url)


def no_redis(bench: Bench, name: str) -> Ask:
    return asks(bench.url, metric=FILLS, redis_url=f"redis://{bench.exporter.address}/0")


def silent_bus(bench: Bench, name: str) -> Ask:
    return asks(bench.url, metric=FILLS, **Bus(bench, traffic=False).options)


def without_the_variable(bench: Bench, name: str) -> Ask:
    """A service of Njord runs on this host, and its environment does not let it publish."""
    service = f"njord-laboratory{bench.version}"
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


def nobody_subscribed(bench: Bench, name: str) -> Ask:
    return asks(bench.url, metric=FILLS, **Bus(bench, exporter=False).options)


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


def asked_for_everything(page: Script, token: str = "") -> t.Callable[[Bench, str], Ask]:
    """A server of its own with one job, and all of it is asked for."""

    def make(bench: Bench, name: str) -> Ask:
        path = bench.page(name, lambda number: dataclasses.replace(page(number), token=token))
        login = {"authorization": {"credentials": token}} if token else {}
        target = {"static_configs": [{"targets": [bench.exporter.address]}]}
        port = servers.free_port()
        jobs = [
            {"job_name": "lab", "metrics_path": path, **target, **login},
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
        ]
        config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": jobs}
        return asks(bench.prometheus(bench.folder(), config, port=port).url)

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
    Fault("a metric of the bus that is there", on_good_bus(FILLS), "scrape.metric", "is there"),
    # The server
    Fault("no server", not_there, "scrape.server", "connection refused", ("3",)),
    Fault("VictoriaMetrics in its place", victoria, "scrape.server", "is VictoriaMetrics", ("3",)),
    Fault("the server wants a login", wants_a_login, "scrape.server", "401"),
    Fault("the server replays its log", replaying, "scrape.server", "replays its write-ahead log"),
    Fault("the configuration was refused", refused_configuration, "scrape.pool", "reload was refused"),
    Fault("the disk is full", full_disk, "scrape.storage", "has stored none of it for"),
    # The job and its targets
    Fault("no such job", misspelt_job, "scrape.pool", "there is lab_pushgateway"),
    Fault("files of targets are not there", no_files, "scrape.discovery", "finds no target by file_sd"),
    Fault("a file of targets is broken", broken_file, "scrape.discovery", "file_read_errors"),
    Fault("a job without targets", with_job(static_configs=[]), "scrape.discovery", "has no way to find"),
    Fault(
        "a name that gives no targets",
        with_job(dns_sd_configs=[{"names": ["no-such.invalid"], "type": "A", "port": 1}]),
        "scrape.discovery",
        "by dns_sd",
    ),
    Fault(
        "relabelling drops the target",
        with_job(relabel_configs=[{"source_labels": ["__address__"], "regex": ".*", "action": "drop"}]),
        "scrape.relabelling",
        "drops every target",
    ),
    Fault("a target taken out of the list", gone_from_discovery, "scrape.stale", "is no target any more"),
    Fault("one of two targets is down", two_targets, "scrape.port", "1 of 2 targets"),
    # The connection
    Fault("nothing listens", with_job(target="127.0.0.1:1"), "scrape.port", "nothing listens there"),
    Fault("it listens on another address", on_another_address, "scrape.port", r"listens on 127\.0\.0\.1:\d+ only"),
    Fault("the exporter is stopped", ended_at_once, "scrape.port", "nothing listens"),
    Fault("a name that does not resolve", with_job(target="no-such.invalid:9"), "scrape.resolve", "does not resolve"),
    Fault("a process that hangs", deaf, "scrape.service", "takes no connection"),
    Fault("a firewall", walled, "scrape.firewall", "iptables keeps others"),
    Fault("a slow page", paged(Page(FINE, delay=3)), "scrape.speed", "within 500 ms, though it takes a connection"),
    # TLS
    Fault("TLS asked of plain HTTP", with_job(scheme="https"), "scrape.tls", "the target speaks plain HTTP"),
    Fault("plain HTTP asked of TLS", encrypted("http"), "scrape.tls", "the target speaks TLS"),
    Fault("plain HTTP asked of TLS in Go", of_prometheus_by_http, "scrape.tls", "the target speaks TLS"),
    Fault("an unknown authority", encrypted("https", known=False), "scrape.tls", "authority that Prometheus does not"),
    Fault("a certificate of another name", encrypted("https", "elsewhere.invalid"), "scrape.tls", "another name"),
    Fault("a certificate that has expired", encrypted("https", ended=True), "scrape.tls", "has expired"),
    # The answer
    Fault("401", paged(Page("", 401)), "scrape.login", "HTTP 401"),
    Fault("403", paged(Page("", 403)), "scrape.login", "HTTP 403"),
    Fault("404", paged(Page("", 404)), "scrape.path", "HTTP 404"),
    Fault("500", paged(Page("", 500)), "scrape.application", "HTTP 500"),
    Fault("a redirect", paged(Page("", 302)), "scrape.login", "HTTP 302"),
    Fault(
        "a token file that is not there",
        with_job(authorization={"credentials_file": "no-such"}),
        "scrape.login",
        "cannot read",
    ),
    Fault("the exporter wants a token", exporter_with_token, "scrape.login", "HTTP 401"),
    Fault("a page that is cut off", paged(Page(FINE, cut=5)), "scrape.format", "cut off"),
    Fault("an HTML page", paged(Page("<html>Log in</html>")), "scrape.format", "HTML page"),
    Fault(
        "an HTML page, by its type",
        paged(Page("<html>Log in</html>", content_type="text/html")),
        "scrape.format",
        "HTML page",
        ("2",),
    ),
    Fault(
        "an HTML page, by its type, in 3",
        paged(Page("<html>Log in</html>", content_type="text/html")),
        "scrape.content_type",
        "text/html",
        ("3",),
    ),
    Fault(
        "a wrong content type",
        paged(Page(FINE, content_type="application/json")),
        "scrape.content_type",
        "application/json",
        ("3",),
    ),
    Fault("no content type", paged(Page(FINE, content_type=None)), "scrape.content_type", "blank", ("3",)),
    Fault("no content type, which 2 takes", paged(Page(FINE, content_type=None)), "scrape.metric", "is there", ("2",)),
    Fault("a line that is not the format", paged(Page(FINE + 'lab_bad{a="b} 1\n')), "scrape.format", "one line"),
    Fault("a value that is no number", paged(Page(FINE + "lab_bad abc\n")), "scrape.format", "one line"),
    Fault("a label twice", paged(Page(FINE + 'lab_bad{a="1",a="2"} 1\n')), "scrape.format", "one line"),
    # Limits
    Fault("more samples than the limit", paged(Page(MANY), "lab_many", sample_limit=5), "scrape.limit", "sample_limit"),
    Fault(
        "a page larger than the limit",
        paged(Page(FINE + "#" + 5000 * "x" + "\n"), body_size_limit="1KB"),
        "scrape.limit",
        "body_size_limit",
    ),
    Fault(
        "more labels than the limit",
        paged(Page(metric("lab_fine", a="1", b="2")), label_limit=3),
        "scrape.limit",
        "label_limit is 3",
    ),
    Fault(
        "a label name longer than the limit",
        paged(Page(metric("lab_fine", aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa="1")), label_name_length_limit=20),
        "scrape.limit",
        "label_name_length_limit is 20",
    ),
    Fault(
        "a label value longer than the limit",
        paged(Page(metric("lab_fine", a=99 * "x")), label_value_length_limit=90),
        "scrape.limit",
        "label_value_length_limit is 90",
    ),
    Fault("more targets than the limit", too_many_targets, "scrape.limit", "target_limit is 1"),
    # The samples
    Fault("an empty page", paged(Page("")), "scrape.empty", "not one sample"),
    Fault(
        "metric relabelling drops it",
        paged(Page(FINE + metric("lab_other")), metric_relabel_configs=dropping("lab_fine")),
        "scrape.relabelling",
        "1 of 2 samples",
    ),
    Fault(
        "metric relabelling drops all",
        paged(Page(FINE), metric_relabel_configs=dropping("lab.*")),
        "scrape.relabelling",
        "each of the 1 samples",
    ),
    Fault(
        "metric relabelling renames it",
        paged(
            Page(FINE),
            metric_relabel_configs=[
                {
                    "source_labels": ["__name__"],
                    "regex": "lab_fine",
                    "target_label": "__name__",
                    "replacement": "lab_new",
                }
            ],
        ),
        "scrape.relabelling",
        "rename",
    ),
    Fault("old time stamps, refused", paged(stamped(-7200), "lab_stamped"), "scrape.timestamps", "are 2 h old"),
    Fault("old time stamps, stored", paged(stamped(-900), "lab_stamped"), "scrape.timestamps", "are 15 min old"),
    Fault("time stamps of the future, refused", paged(stamped(3600), "lab_stamped"), "scrape.timestamps", "refuses"),
    Fault("a clock that is ahead", paged(stamped(120), "lab_stamped"), "scrape.timestamps", "ahead of Prometheus"),
    Fault(
        "a series twice in a page",
        paged(Page("lab_twice 1\nlab_twice 2\n"), "lab_twice"),
        "scrape.duplicates",
        "twice in one page",
    ),
    Fault(
        "a metric that vanished",
        paged(lambda number: Page(FINE if number > 4 else metric("lab_vanished")), "lab_vanished"),
        "scrape.stale",
        "does not expose it any more",
        after=12.0,
    ),
    Fault("a rule that cannot be evaluated", broken_rule, "scrape.rule", "cannot be evaluated"),
    Fault("a rule on what is missing", empty_rule, "scrape.name", "recorded from lab_nobody_has_this. lab_nobody"),
    Fault("a rule that gives nothing", false_rule, "scrape.rule", "gives nothing"),
    # Names
    Fault("a name that is misspelt", misspelt, "scrape.name", "perhaps lab_orders_placed_total"),
    Fault(
        "a name that is misspelt, of a job",
        paged(Page(metric("lab_open_orders")), "lab_open_order"),
        "scrape.name",
        "perhaps lab_open_orders",
    ),
    Fault("a label value that is misspelt", other_label, "scrape.labels", "symbol has the values ATOM, not ATON"),
    Fault("a name of which nobody heard", unheard_of, "scrape.name", "no target has a metric of that name"),
    Fault("a metric that its job does not have", paged(Page(FINE), "other_thing"), "scrape.exposed", "no metric"),
    Fault("a metric of another job", paged(Page(FINE), "go_goroutines"), "scrape.exposed", "there from job prometheus"),
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
    Fault("no bus", no_bus, "scrape.bus", "connection refused"),
    Fault("a bus that wants a password", locked_bus, "scrape.bus", "NOAUTH"),
    Fault("no Redis behind the address", no_redis, "scrape.bus", "no Redis|closed"),
    Fault("a bus that is silent", silent_bus, "scrape.publisher", "nobody publishes"),
    Fault(
        "a publisher without its variable",
        without_the_variable,
        "scrape.publisher",
        "run without NJORD_ENABLE_METRICS=1: .*njord-laboratory",
    ),
    Fault("nobody is subscribed", nobody_subscribed, "scrape.exporter", "nobody is subscribed"),
    Fault("the exporter lost its bus", exporter_cut_off, "scrape.exporter", "not subscribed"),
    Fault("the exporter does not answer", exporter_away, "scrape.exporter", "connection refused"),
    Fault(
        "a metric that was not published yet",
        on_good_bus("njord_killswitch_trips_total"),
        "scrape.publisher",
        "sent nothing yet",
    ),
    Fault("a metric that the exporter refuses", on_good_bus("njord_position_size"), "scrape.exporter", "not take it"),
    Fault("label sets that are folded", on_good_bus(FILLS + '{venue="venue8"}'), "scrape.cardinality", "folds"),
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
    Fault("one among all the others", all_at_once, "scrape.port", "nothing listens"),
)
