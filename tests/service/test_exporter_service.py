# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter as it is run: its process, a real Redis, a real Prometheus."""

from __future__ import annotations

import collections
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import redis
import urllib3
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.testbench import servers
from tests.testbench.packages import program

TOPIC = "telemetry.metrics"
COMMAND = Path(sys.executable).with_name("njord-exporter")
NUMBER = re.compile(rb":(\d+)\r\n")


class Exporter:
    """The process ``njord-exporter``, on a port of its own choice."""

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        *arguments: str | Path,
        command: t.Sequence[str | Path] = (COMMAND,),
        environment: t.Mapping[str, str] | None = None,
    ) -> None:
        (directory / "base.yaml").write_text(json.dumps({"redis": {"url": redis_url}}))
        self.log = directory / "exporter.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--config-root", directory, "--port", "0", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
            )
        try:
            self.port = int(self.said(r"exporter\.listening host=\S+ port=(\d+)"))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def said(self, pattern: str) -> str:
        """Waits for a line in its log; the first group of the pattern."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log.read_text()
            return re.search(pattern, self.log.read_text())

        return waited_for(found, f"{pattern} in the log").group(1)

    def get(self, path: str = "/metrics", **headers: str) -> urllib3.BaseHTTPResponse:
        return urllib3.request("GET", f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=30, retries=False)

    def values(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        answer = self.get(Accept="application/openmetrics-text")
        assert answer.status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.data.decode())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.values()[name, frozenset(labels.items())]

    def accepted(self) -> float:
        return self.value("njord_exporter_messages_total", result="accepted")

    def wait_for(self, accepted: int) -> None:
        waited_for(lambda: self.accepted() == accepted, f"{accepted} accepted messages")

    def is_ready(self) -> bool:
        return self.get("/-/ready").status == 200

    def resident_bytes(self, which: str = "VmRSS") -> int:
        """Its memory; with ``VmHWM`` the most it ever was."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{which}:"))
        return int(kilobytes) * 1024


T = t.TypeVar("T")


def waited_for(ask: t.Callable[[], T | None], what: str, seconds: float = 20) -> T:
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


def message(name: str, value: float = 1.0, metric_type: str = "gauge", **labels: str) -> bytes:
    return json.dumps(
        {"name": name, "value": value, "timestamp_ns": time.time_ns(), "metric_type": metric_type, "labels": labels}
    ).encode()


class Publisher:
    """Publishes many messages at once, and knows how many subscribers got each."""

    def __init__(self, port: int) -> None:
        self.client = redis.Redis(port=port)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.client.close()
        self._socket.close()

    @staticmethod
    def packed(messages: t.Iterable[bytes]) -> bytes:
        head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n" % (len(TOPIC), TOPIC.encode())
        return b"".join(head + b"$%d\r\n%s\r\n" % (len(message), message) for message in messages)

    def publish(self, packed: bytes, count: int) -> int:
        """The number of subscribers, summed over the messages."""
        self._socket.sendall(packed)
        answers = b""
        while answers.count(b"\n") < count:
            answers += self._socket.recv(1 << 20)
        return sum(int(number) for number in NUMBER.findall(answers))

    def send(self, *messages: bytes) -> int:
        return self.publish(self.packed(messages), len(messages))

    def drained(self) -> bool:
        """Whether Redis has handed on all that it was given."""
        return all(int(client["omem"]) == 0 for client in self.client.client_list(_type="pubsub"))


@pytest.fixture
def bus(tmp_path: Path) -> t.Iterator[servers.Server]:
    (tmp_path / "redis").mkdir()
    with servers.redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def publisher(bus: servers.Server) -> t.Iterator[Publisher]:
    with Publisher(bus.port) as publisher:
        yield publisher


@pytest.fixture
def exporter(tmp_path: Path, bus: servers.Server) -> t.Iterator[Exporter]:
    with Exporter(tmp_path, bus.url) as exporter:
        waited_for(exporter.is_ready, "readiness")
        yield exporter


def test_a_million_messages_and_two_restarts_of_redis_leave_the_right_counters(
    bus: servers.Server, exporter: Exporter
) -> None:
    """Pub/sub keeps nothing for who is away, so the publisher goes on when the subscription stands again."""
    batch = [
        message(name, value, metric_type, strategy_id=f"strategy_{number}", venue=f"venue_{number % 3}")
        for number in range(2_500)
        for name, value, metric_type in (
            ("njord_fills_generated_total", number % 3 + 1, "counter"),
            ("njord_fill_latency_ms", number % 100, "histogram"),
            ("njord_position_size", number, "gauge"),
            ("njord_intents_denied_total", 1, "counter"),
        )
    ]
    rounds = 100
    packed, size = Publisher.packed(batch), len(batch)
    sent = 0
    for restarts, share in enumerate((30, 30, 40)):
        if restarts:
            exporter.wait_for(sent)
            bus.stop()
            waited_for(lambda: not exporter.is_ready(), "the loss of Redis to be noticed")
            bus.start()
            waited_for(exporter.is_ready, "the new subscription")
        with Publisher(bus.port) as publisher:
            assert publisher.client.pubsub_numsub(TOPIC) == [(TOPIC.encode(), 1)]
            for _publication in range(share):
                assert publisher.publish(packed, size) == size
                waited_for(publisher.drained, "Redis to hand on what it has")
                sent += size
    exporter.wait_for(sent)
    assert sent == 1_000_000

    sums: dict[str, float] = collections.defaultdict(float)
    values = exporter.values()
    for (name, _labels), value in values.items():
        sums[name] += value
    assert sums["njord_fills_generated_total"] == rounds * sum(number % 3 + 1 for number in range(2_500))
    assert sums["njord_intents_denied_total"] == rounds * 2_500
    assert sums["njord_fill_latency_ms_count"] == rounds * 2_500
    assert sums["njord_fill_latency_ms_sum"] == rounds * sum(number % 100 for number in range(2_500))
    seven = frozenset({"strategy_id": "strategy_7", "venue": "venue_1"}.items())
    assert values["njord_fills_generated_total", seven] == rounds * 2
    assert values["njord_position_size", seven] == 7
    assert sums["njord_exporter_bus_reconnects_total"] == 2
    assert {value for (name, _labels), value in values.items() if name == "njord_exporter_series"} == {1_001}
    # 30,000 messages a second of one core, the scrapes included.
    assert values["process_cpu_seconds_total", frozenset()] < sent / 30_000


def test_fifty_thousand_label_sets_of_one_metric_cost_less_than_16_mib(
    exporter: Exporter, publisher: Publisher
) -> None:
    exporter.get()
    before = exporter.resident_bytes()
    for start in range(0, 50_000, 5_000):
        publisher.send(
            *(
                message("njord_fill_latency_ms", 5, "histogram", venue="x", order_id=f"order-{number:032}")
                for number in range(start, start + 5_000)
            )
        )
        waited_for(publisher.drained, "Redis to hand on what it has")
    exporter.wait_for(50_000)
    values = exporter.values()
    assert values["njord_exporter_series", frozenset({("metric", "njord_fill_latency_ms")})] == 1_001
    assert values["njord_fill_latency_ms_count", frozenset({("overflow", "true")})] == 49_000
    assert values["njord_exporter_folded_messages_total", frozenset({("metric", "njord_fill_latency_ms")})] == 49_000
    assert exporter.resident_bytes("VmHWM") - before < 16 << 20
    assert exporter.log.read_text().count("telemetry.metric_cardinality_high metric_name=njord_fill_latency_ms") == 1


def test_a_flood_of_the_longest_labels_in_many_metrics_stays_below_512_mib(
    exporter: Exporter, publisher: Publisher
) -> None:
    """The most that can be kept, and one scrape of it."""
    for number in range(105):
        publisher.send(*(message(f"metric_{number}", a="x" * 900 + f"{series:07}") for series in range(1_000)))
        waited_for(publisher.drained, "Redis to hand on what it has")
    exporter.wait_for(105_000)
    assert len(exporter.get().data) > 90_000_000
    assert exporter.resident_bytes("VmHWM") < 512 << 20


def test_malformed_messages_are_counted_and_stop_nothing(exporter: Exporter, publisher: Publisher) -> None:
    bad = [b"", b"\xff\xfe", b"{", b"[]", b"[" * 9_000, b"{}", message("1x"), message("x", metric_type="what"), b"\0"]
    publisher.send(*bad, message("x", 4))
    exporter.wait_for(1)
    results = {
        dict(labels)["result"]: value
        for (name, labels), value in exporter.values().items()
        if name == "njord_exporter_messages_total" and value
    }
    assert results == {"accepted": 1, "malformed": 6, "name": 2, "metric_type": 1}
    assert exporter.value("x") == 4


def test_it_starts_without_redis_and_says_so_until_redis_is_there(tmp_path: Path) -> None:
    port = servers.free_port()
    (tmp_path / "redis").mkdir()
    with Exporter(tmp_path, f"redis://127.0.0.1:{port}/0") as exporter:
        waited_for(lambda: b"refused" in exporter.get("/-/ready").data, "the reason")
        assert exporter.get("/-/ready").status == 503
        assert exporter.get("/-/healthy").status == 200
        assert exporter.value("njord_exporter_bus_connected") == 0
        with servers.redis(tmp_path / "redis", port=port):
            waited_for(exporter.is_ready, "readiness")
            assert exporter.value("njord_exporter_bus_connected") == 1
            assert exporter.value("njord_exporter_bus_reconnects_total") == 0


def test_a_wrong_password_is_the_reason_why_it_is_not_ready(
    tmp_path: Path, bus: servers.Server, publisher: Publisher
) -> None:
    publisher.client.config_set("requirepass", "right")
    with Exporter(tmp_path, f"redis://:wrong@127.0.0.1:{bus.port}/0") as exporter:
        waited_for(lambda: b"password" in exporter.get("/-/ready").data, "the reason")
        assert "wrong@" not in exporter.log.read_text()


def test_when_redis_ends_its_connection_it_subscribes_again(exporter: Exporter, publisher: Publisher) -> None:
    assert publisher.client.client_kill_filter(_type="pubsub") == 1
    waited_for(lambda: exporter.value("njord_exporter_bus_reconnects_total") == 1, "the reconnect")
    waited_for(exporter.is_ready, "readiness")
    publisher.send(message("x", 4))
    exporter.wait_for(1)
    assert "bus.not_subscribed" in exporter.log.read_text()


def test_when_redis_ends_it_for_slowness_it_subscribes_again(exporter: Exporter, publisher: Publisher) -> None:
    publisher.client.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
    exporter.process.send_signal(signal.SIGSTOP)
    try:
        big = message("x", a="y" * 900)
        # More than the sockets between them hold.
        waited_for(lambda: publisher.send(*[big] * 5_000) < 5_000, "Redis to give it up", seconds=60)
    finally:
        exporter.process.send_signal(signal.SIGCONT)
    waited_for(lambda: exporter.value("njord_exporter_bus_reconnects_total") == 1, "the reconnect")
    publisher.send(message("njord_open_orders", 4))
    waited_for(lambda: exporter.values().get(("njord_open_orders", frozenset())) == 4, "the message after it")


def test_a_redis_that_falls_silent_is_noticed(exporter: Exporter, bus: servers.Server) -> None:
    bus.process.send_signal(signal.SIGSTOP)
    try:
        waited_for(lambda: not exporter.is_ready(), "the silence to be noticed")
    finally:
        bus.process.send_signal(signal.SIGCONT)
    waited_for(exporter.is_ready, "readiness")


def test_an_idle_bus_is_no_reason_to_reconnect(exporter: Exporter) -> None:
    time.sleep(11)
    assert exporter.is_ready()
    assert exporter.value("njord_exporter_bus_reconnects_total") == 0


@pytest.mark.parametrize("source", ["environment", "file"])
def test_the_metrics_want_the_token_and_a_file_wins_over_the_environment(
    tmp_path: Path, bus: servers.Server, source: str
) -> None:
    arguments: tuple[str | Path, ...] = ()
    if source == "file":
        (tmp_path / "token").write_text("from-file\n")
        arguments = ("--token-file", tmp_path / "token")
    environment = {"NJORD_METRICS_TOKEN": "from-environment"}
    with Exporter(tmp_path, bus.url, *arguments, environment=environment) as exporter:
        assert exporter.get().status == 401
        statuses = {
            given: exporter.get(Authorization=f"Bearer from-{given}").status for given in ("environment", "file")
        }
        assert statuses == {"environment": 401, "file": 401} | {source: 200}
        assert exporter.get("/-/healthy").status == 200
        assert "from-" not in exporter.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("redis_is_there", [True, False])
def test_a_signal_ends_it_at_once_with_0(
    tmp_path: Path, bus: servers.Server, number: signal.Signals, redis_is_there: bool
) -> None:
    url = bus.url if redis_is_there else f"redis://127.0.0.1:{servers.free_port()}/0"
    with Exporter(tmp_path, url) as exporter:
        if redis_is_there:
            waited_for(exporter.is_ready, "readiness")
        else:
            exporter.said(r"bus\.not_subscribed .*(refused)")
        with socket.create_connection(("127.0.0.1", exporter.port)):
            exporter.process.send_signal(number)
            assert exporter.process.wait(2) == 0
        assert "Traceback" not in exporter.log.read_text()


def test_a_port_that_is_taken_is_named(tmp_path: Path, bus: servers.Server) -> None:
    done = subprocess.run(
        [COMMAND, "--port", str(bus.port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert f"--port {bus.port}: cannot listen there: [Errno 98] Address already in use" in done.stderr


HOSTILE = ["a\\b", 'a"b', "a\nb", "a\rb", "\0", "\x7f", "\u2028", "\ufeff", "\U0010ffff", '"} 1 # {', "æ", " ", "\\n"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_prometheus_takes_the_page_whatever_was_published(
    tmp_path: Path, exporter: Exporter, publisher: Publisher, version: str
) -> None:
    publisher.send(
        *(message(f"hostile_{kind}", 2, kind, a=text) for text in HOSTILE for kind in ("counter", "gauge", "summary")),
        message("njord_slippage_bps", -3, "histogram", symbol="ATOM"),
        message("njord_fill_latency_ms", 3, "histogram", venue="x", job="traders"),
        message("hostile_gauge_total", 1),
        message("a:b", 1),
        message("huge", 1e308, "counter"),
        message("huge", 1e308, "counter"),
        message("same", 1, "histogram"),
        message("same_count", 1),
    )
    exporter.wait_for(3 * len(HOSTILE) + 7)

    config = {
        "scrape_configs": [
            {
                "job_name": "njord_quant",
                "scrape_interval": "1s",
                "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}],
            }
        ]
    }
    with servers.prometheus(tmp_path, version, json.dumps(config)) as prometheus:

        def query(expression: str) -> list[dict[str, t.Any]]:
            answer = urllib3.request("GET", f"{prometheus.url}/api/v1/query", fields={"query": expression}, timeout=10)
            result: list[dict[str, t.Any]] = answer.json()["data"]["result"]
            return result

        waited_for(lambda: query("up"), "a scrape")
        targets = urllib3.request("GET", f"{prometheus.url}/api/v1/targets", timeout=10).json()["data"]
        assert [(target["health"], target["lastError"]) for target in targets["activeTargets"]] == [("up", "")]
        assert [sample["value"][1] for sample in query("up")] == ["1"]
        for name in ("hostile_counter_total", "hostile_gauge", "hostile_summary_count"):
            assert sorted(sample["metric"]["a"] for sample in query(name)) == sorted(HOSTILE), name
        assert query("huge_total")[0]["value"][1] == "+Inf"
        assert query('njord_slippage_bps_bucket{le="+Inf"}')[0]["value"][1] == "1"
        assert query("njord_fill_latency_ms_sum")[0]["metric"]["exported_job"] == "traders"
        assert query("scrape_samples_scraped")[0]["value"][1] == str(len(exporter.values()))


@pytest.mark.parametrize("version", ["2", "3"])
def test_promtool_has_nothing_to_say_against_our_own_metrics(exporter: Exporter, version: str) -> None:
    page = exporter.get().data
    done = subprocess.run(
        [program("promtool", version), "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


WITHOUT_HIREDIS = "import sys; sys.modules['hiredis'] = None; from njord_telemetry import exporter; exporter.main()"


@pytest.mark.parametrize(
    ("parser", "command"), [("hiredis", [COMMAND]), ("python", [sys.executable, "-c", WITHOUT_HIREDIS])]
)
def test_it_tells_which_parser_reads_redis_and_works_with_either(
    tmp_path: Path, bus: servers.Server, publisher: Publisher, parser: str, command: list[str | Path]
) -> None:
    with Exporter(tmp_path, bus.url, command=command) as exporter:
        waited_for(exporter.is_ready, "readiness")
        publisher.send(*[message("x", 1, "counter")] * 1_000)
        exporter.wait_for(1_000)
        assert exporter.value("x_total") == 1_000
        assert exporter.value("njord_exporter_redis_parser_info", parser=parser) == 1
