# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, services and a Prometheus as the looks at memory and at the event loop see them, made up."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.njord.telemetry.plugins.module_utils._exposition import Exposition, parse
from ansible_collections.njord.telemetry.plugins.module_utils._http import Answer, Server, Unreachable
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import (
    Head,
    Prometheus,
    Sample,
    Series,
    Target,
)
from ansible_collections.njord.telemetry.plugins.module_utils._resources import Host, Limit, Neighbour, Service, Usage

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
NOW = time.time()
RISK = "/system.slice/njord-risk.service"


def service(name: str = "njord-risk", **told: t.Any) -> Service:
    row: dict[str, t.Any] = {
        "kind": "unit",
        "state": f"unit {name}.service is active (running)",
        "runs": True,
        "result": "success",
        "cgroup": RISK,
        "held": 100 * MEBIBYTE,
        "started": NOW - 9000,
        "ports": (9091,),
    }
    return Service(name, **{**row, **told})


def limit(held: int, most: int, kind: str = "memory.max") -> dict[str, t.Any]:
    one = Limit(RISK, kind, most, held)
    return {"held": held, "limit": one, "limits": (one,), "configured_limit": most}


def usage(
    *services: Service, neighbours: t.Sequence[Neighbour] = (), not_known: t.Sequence[str] = (), **told: t.Any
) -> Usage:
    row: dict[str, t.Any] = {
        "cores": 2,
        "load": (0.5, 0.5, 0.5),
        "busy": 0.4,
        "stolen": 0.0,
        "memory": 8 * GIBIBYTE,
        "available": 4 * GIBIBYTE,
        "swap": 0,
        "swap_used": 0,
        "swapping": 0.0,
        "cpu_pressure": None,
        "memory_pressure": None,
        "oom_kills": 0,
        "kills": (),
        "kills_unknown": "",
        "is_container": False,
        "unseen": 0.0,
    }
    return Usage(services, Host(**{**row, **told}), tuple(neighbours), 2.0, tuple(not_known))


def neighbour(held: int = 0, cores: float = 0.0) -> Neighbour:
    return Neighbour("backtest.service (python3)", held, cores, 1)


class Server9090(Prometheus):
    """A Prometheus on this host, whose answers are given; a query is known by a part of it."""

    def __init__(self, targets: t.Sequence[Target] = (), dead: bool = False, **ranges: t.Any) -> None:
        super().__init__(Server("http://127.0.0.1:9090"))
        self._targets = list(targets)
        self.dead = dead
        self.ranges: dict[str, t.Sequence[tuple[float, float]]] = ranges.pop("ranges", {})
        self.samples: dict[str, list[Sample]] = ranges.pop("samples", {})
        self.series_by_metric: list[tuple[str, int]] = ranges.pop("series_by_metric", [("up", 3)])
        self.page = str(ranges.pop("page", ""))
        self.yaml = str(ranges.pop("yaml", "global: {}\n"))

    def _alive(self) -> None:
        if self.dead:
            raise Unreachable("GET http://127.0.0.1:9090", "connection refused")

    def ready(self) -> Answer:
        self._alive()
        return Answer("GET /-/ready", 200, {}, b"", 0.0)

    def targets(self) -> list[Target]:
        self._alive()
        return self._targets

    def own_page(self, names: t.Container[str]) -> Exposition:
        self._alive()
        return parse(self.page.encode(), names)

    def configuration(self) -> str:
        self._alive()
        return self.yaml

    def head(self, limit: int) -> Head:
        self._alive()
        rows = self.series_by_metric[:limit]
        return Head(sum(count for _name, count in rows), 9, 0, 1, rows, [], [], [])

    def query(self, expression: str, time: float | None = None, lookback: float = 0.0) -> list[Sample]:
        self._alive()
        return next((rows for part, rows in self.samples.items() if part in expression), [])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        self._alive()
        return next(([Series({}, list(rows))] for part, rows in self.ranges.items() if part in expression), [])


def scraped(port: int, job: str = "njord_quant", interval: float = 15.0) -> Target:
    labels = {"job": job, "instance": f"127.0.0.1:{port}"}
    return Target(labels, job, f"http://127.0.0.1:{port}/metrics", "up", "", NOW, interval, 10.0)


def grows(start: float, end: float, seconds: float = 9000.0, points: int = 240) -> list[tuple[float, float]]:
    return [(NOW - seconds + seconds * n / points, start + (end - start) * n / points) for n in range(points + 1)]


def began(seconds: float = 9000.0) -> list[tuple[float, float]]:
    return [(at, NOW - seconds) for at, _value in grows(0, 1, seconds)]
