# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes what six strategies would, on the host's own bus, until it is ended. Standard library only.

Some of it is bad on purpose, as it is in life: text that is no JSON, a name that Prometheus refuses, and a label
that takes the order's number (``--label-sets`` of them, ``--label-rate`` new ones a second, then they repeat).

With ``--drawdown`` one strategy loses more than the alert allows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import socket
import time
import typing as t

STRATEGIES = ("breakout", "carry", "grid", "meanrev", "momentum", "pairs")
TOPIC = "telemetry.metrics"


def snapshots(second: int, label_sets: int, label_rate: int, drawdown: float) -> t.Iterator[str]:
    def snapshot(name: str, value: float, kind: str, **labels: str) -> str:
        return json.dumps(
            {"name": name, "value": value, "timestamp_ns": time.time_ns(), "labels": labels, "metric_type": kind}
        )

    for strategy in STRATEGIES:
        yield snapshot("njord_strategy_pnl_usd", random.uniform(-200, 900), "gauge", strategy_id=strategy)
        loss = drawdown if strategy == "momentum" else random.uniform(0, 6)
        yield snapshot("njord_strategy_drawdown_pct", loss, "gauge", strategy_id=strategy)
        yield snapshot("njord_strategy_sharpe_ratio", random.uniform(0.8, 2), "gauge", strategy_id=strategy)
        yield snapshot("njord_strategy_win_rate", random.uniform(0.45, 0.7), "gauge", strategy_id=strategy)
        yield snapshot("njord_signals_generated_total", random.randint(0, 3), "counter", strategy_id=strategy)
        yield snapshot(
            "njord_signal_generation_duration_seconds", random.expovariate(200), "histogram", strategy_id=strategy
        )
    for venue in ("binance", "kraken"):
        yield snapshot("njord_fills_generated_total", 1, "counter", venue=venue)
        yield snapshot("njord_orders_placed_total", 1, "counter", venue=venue)
    yield snapshot("njord_event_loop_lag_seconds", random.uniform(0.001, 0.05), "gauge")
    for service in ("broker", "risk_engine", "strategy_runner"):
        yield snapshot("njord_memory_usage_mb", random.uniform(200, 400), "gauge", service=service)
    for number in range(second * label_rate, (second + 1) * label_rate):
        yield snapshot("njord_orders_total", 1, "counter", symbol="BTCUSDT", order_id=f"o-{number % label_sets:06d}")
    yield "not JSON at all"
    yield snapshot("njord orders with spaces", 1, "gauge")


def command(*words: str) -> bytes:
    """A Redis command as it goes over the wire."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--label-sets", type=int, default=150)
    parser.add_argument("--label-rate", type=int, default=10)
    parser.add_argument("--drawdown", type=float, default=4.0)
    parser.add_argument("--seconds", type=int, default=14 * 86400, help="it ends by itself after so long")
    options = parser.parse_args()
    with socket.create_connection(("127.0.0.1", options.port)) as bus:
        for second in itertools.islice(itertools.count(), options.seconds):
            batch = list(snapshots(second, options.label_sets, options.label_rate, options.drawdown))
            bus.sendall(b"".join(command("PUBLISH", TOPIC, text) for text in batch))
            answered = 0
            while answered < len(batch):
                received = bus.recv(65536)
                if not received:
                    raise ConnectionError("Redis closed the connection")
                answered += received.count(b"\r\n")
            time.sleep(1)


if __name__ == "__main__":
    main()
