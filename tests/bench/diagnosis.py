# SPDX-License-Identifier: GPL-3.0-or-later
"""A diagnosis of everything on a stack with many targets, rules and series: its seconds and its requests.

``python -m tests.bench.diagnosis`` prints them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import statistics
import tempfile
import time
import typing as t
import urllib.parse
from pathlib import Path

import yaml

from tests.laboratory.exporter import Exporter, Page, Script
from tests.testbench import module, servers
from tests.testbench.counting import Counting

TARGETS, RULES, SERIES = 50, 200, 100_000
BOUND_SECONDS, BOUND_REQUESTS = 5, 40
# Of the rules, how many are alerts; a third of these fires.
ALERTS = 0.6
METRICS = 20
READY_SECONDS = 90.0


@dataclasses.dataclass(frozen=True)
class Taken:
    """What one module took. :param seconds: of each run, with the start of its process."""

    seconds: list[float]
    requests: list[str]
    most_at_once: int
    answer: dict[str, t.Any]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def modules() -> dict[str, dict[str, t.Any]]:
    """What is asked for everything, by module: the options."""
    return {
        "scrape_info": {"window": "1h"},
        "alert_info": {"window": "1h"},
        # So short that a stack that is a minute old has steps enough.
        "cardinality_info": {"window": "1m"},
    }


def page(target: int, series: int) -> str:
    """The metrics of one target: some label sets each, and one metric whose label has no end, with five times those."""
    lines = []
    each = series // (METRICS + 4)
    for number in range(METRICS):
        name = f"njord_metric_{number}_total"
        label, sets = ("symbol", each) if number else ("order_id", series - (METRICS - 1) * each)
        lines.append(f"# TYPE {name} counter")
        lines += [f'{name}{{strategy_id="alpha",{label}="{target:02}{of:08x}"}} {of}' for of in range(sets)]
    return "\n".join(lines) + "\n"


def rules(count: int) -> str:
    groups: list[dict[str, t.Any]] = []
    for number in range(count):
        if number % 20 == 0:
            groups.append({"name": f"group{number // 20}", "interval": "5s", "rules": []})
        expression = f'sum by (job) (njord_metric_{number % METRICS}_total{{instance="host{number % 7}"}})'
        if number < ALERTS * count:
            above = -1 if number % 3 == 0 else 1e12
            groups[-1]["rules"].append({"alert": f"Alert{number}", "expr": f"{expression} > {above}"})
        else:
            groups[-1]["rules"].append({"record": f"job:njord_{number}:sum", "expr": expression})
    return yaml.safe_dump({"groups": groups})


def configuration(address: str, targets: int, own: int) -> str:
    # One server of pages, each of which is a target of its own.
    listed = [
        {"targets": [address], "labels": {"__metrics_path__": f"/{number}", "instance": f"host{number}"}}
        for number in range(targets)
    ]
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": "njord", "static_configs": listed},
                {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{own}"]}]},
            ],
        }
    )


def _always(answer: Page) -> Script:
    return lambda _scrape: answer


@contextlib.contextmanager
def stack(directory: Path, targets: int, rule_count: int, series: int) -> t.Iterator[servers.Server]:
    """A server that holds so much: every target scraped, every rule evaluated."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rules.yml").write_text(rules(rule_count))
    port = servers.free_port()
    with Exporter() as exporter:
        for number in range(targets):
            exporter.scripts[f"/{number}"] = _always(Page(page(number, series // targets)))
        with servers.prometheus(directory, config=configuration(exporter.address, targets, port), port=port) as server:
            deadline = time.monotonic() + READY_SECONDS
            while not _is_whole(server.url, targets, rule_count):
                assert time.monotonic() < deadline, "the stack did not become whole"
                time.sleep(0.5)
            yield server


def _is_whole(url: str, targets: int, rule_count: int) -> bool:
    try:
        rows = [rule for group in _get(url, "rules")["groups"] for rule in group["rules"]]
        up = _get(url, "query", query="count(up == 1)")["result"]
        own = _get(url, "query", query="count_over_time(prometheus_tsdb_head_series[1m]) > 3")["result"]
    except OSError:
        return False
    evaluated = len(rows) == rule_count and all(rule["health"] == "ok" for rule in rows)
    return evaluated and bool(own) and bool(up) and float(up[0]["value"][1]) == targets + 1


def _get(url: str, what: str, **parameters: str) -> t.Any:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        return json.loads(connection.getresponse().read())["data"]


def asked(server: servers.Server, runs: int) -> dict[str, Taken]:
    """What each module takes on that server: its seconds without the door that counts, its requests through it."""
    found = {}
    for name, options in modules().items():
        seconds = []
        for _run in range(runs):
            begin = time.monotonic()
            module.run(name, {"prometheus_url": server.url, **options})
            seconds.append(time.monotonic() - begin)
        with Counting(server.url) as door:
            answer = module.run(name, {"prometheus_url": door.url, **options})
        found[name] = Taken(seconds, door.asked, door.most, answer)
    return found


def measured(work: Path, runs: int = 5) -> dict[str, Taken]:
    with stack(work, TARGETS, RULES, SERIES) as server:
        return asked(server, runs)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = measured(Path(directory))
    for name, taken in found.items():
        print(f"{name}: {taken.median:.2f} s, {len(taken.requests)} requests, {taken.most_at_once} at once")
    print(f"everything: {sum(taken.median for taken in found.values()):.2f} s")


if __name__ == "__main__":
    main()
