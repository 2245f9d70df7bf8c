# SPDX-License-Identifier: GPL-3.0-or-later
"""Two weeks of past: samples for Prometheus' blocks, and the journals that trading and the aggregator leave.

Made, not measured: every figure comes from a seeded random walk, so that two runs tell the same story.
"""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import json
import os
import random
import typing as t
from pathlib import Path

DAY = 86400
STEP = 120
STRATEGIES = ("breakout", "carry", "grid", "meanrev", "momentum", "pairs")
VENUES = ("binance", "kraken")
SYMBOLS = ("ATOMUSDT", "BTCUSDT", "ETHUSDT")
SERVICES = ("broker", "risk_engine", "strategy_runner")
SCRAPED = {"job": "njord_quant", "instance": "127.0.0.1:9091"}
WATCHED = {"job": "prometheus", "instance": "127.0.0.1:9090"}


@dataclasses.dataclass(frozen=True)
class Walk:
    """One series of the past. :param swing: the most that one step of the walk moves it."""

    metric: str
    kind: str
    labels: dict[str, str]
    start: float
    swing: float
    low: float
    high: float

    def values(self, steps: int, seed: random.Random) -> t.Iterator[float]:
        value = self.start
        for _step in range(steps):
            if self.kind == "counter":
                value += seed.uniform(0, self.swing)
            else:
                value = min(self.high, max(self.low, value + seed.uniform(-self.swing, self.swing)))
            yield value


@dataclasses.dataclass(frozen=True)
class Episode:
    """An alert that fired in the past. :param ago: hours before now; :param minutes: how long."""

    alert: str
    severity: str
    labels: dict[str, str]
    ago: float
    minutes: float


WALKS: tuple[Walk, ...] = (
    *(Walk("njord_strategy_pnl_usd", "gauge", {"strategy_id": s}, 0, 40, -4000, 9000) for s in STRATEGIES),
    *(Walk("njord_strategy_drawdown_pct", "gauge", {"strategy_id": s}, 2, 0.2, 0, 9) for s in STRATEGIES),
    *(Walk("njord_strategy_sharpe_ratio", "gauge", {"strategy_id": s}, 1.4, 0.02, 0.7, 2.6) for s in STRATEGIES),
    *(Walk("njord_strategy_win_rate", "gauge", {"strategy_id": s}, 0.55, 0.01, 0.45, 0.7) for s in STRATEGIES),
    *(Walk("njord_signals_generated_total", "counter", {"strategy_id": s}, 0, 6, 0, 0) for s in STRATEGIES),
    *(Walk("njord_fills_generated_total", "counter", {"venue": v}, 0, 9, 0, 0) for v in VENUES),
    *(Walk("njord_orders_placed_total", "counter", {"venue": v}, 0, 12, 0, 0) for v in VENUES),
    *(Walk("njord_memory_usage_mb", "gauge", {"service": s}, 260, 3, 180, 480) for s in SERVICES),
    Walk("njord_event_loop_lag_seconds", "gauge", {}, 0.01, 0.004, 0.001, 0.09),
    Walk("prometheus_tsdb_head_series", "gauge", WATCHED, 1450, 3, 1400, 1600),
    Walk("njord_portfolio_equity_usd", "gauge", {"portfolio_id": "main"}, 250_000, 200, 200_000, 300_000),
)

EPISODES: tuple[Episode, ...] = (
    Episode("HighDrawdown", "critical", {"strategy_id": "momentum"}, 150, 42),
    Episode("HighDrawdown", "critical", {"strategy_id": "momentum"}, 97, 18),
    Episode("LowWinRate", "warning", {"strategy_id": "grid"}, 60, 190),
    *(Episode("EventLoopLag", "warning", {}, 30 - 0.5 * part, 6 + part) for part in range(8)),
)


def _label_text(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}" if labels else ""


def write_open_metrics(path: Path, now: float, days: int = 14) -> int:
    """The past as OpenMetrics text, for ``promtool tsdb create-blocks-from openmetrics``.

    :return: how many samples.
    """
    seed = random.Random(20251007)
    start = int(now) // STEP * STEP - days * DAY
    steps = days * DAY // STEP
    samples = 0
    families: dict[str, list[Walk]] = {}
    for walk in WALKS:
        families.setdefault(walk.metric, []).append(walk)
    with path.open("w", encoding="utf-8") as file:
        for metric, walks in families.items():
            family = metric[: -len("_total")] if walks[0].kind == "counter" else metric
            file.write(f"# TYPE {family} {walks[0].kind}\n")
            for walk in walks:
                labels = _label_text({**SCRAPED, **walk.labels})
                for step, value in enumerate(walk.values(steps, seed)):
                    file.write(f"{metric}{labels} {value:.6g} {start + step * STEP}\n")
                samples += steps
        for metric in ("ALERTS", "ALERTS_FOR_STATE"):
            file.write(f"# TYPE {metric} gauge\n")
            for episode in EPISODES:
                series = {**SCRAPED, **episode.labels, "alertname": episode.alert, "severity": episode.severity}
                text = _label_text({**series, "alertstate": "firing"} if metric == "ALERTS" else series)
                begin = int(now - episode.ago * 3600) // 15 * 15
                value = 1 if metric == "ALERTS" else begin
                for at in range(begin, begin + int(episode.minutes * 60), 15):
                    file.write(f"{metric}{text} {value} {at}\n")
                    samples += 1
        file.write("# EOF\n")
    return samples


def _lines(day: datetime.date, until: float, seed: random.Random) -> t.Iterator[str]:
    """A day of the aggregator: a line per series and minute."""
    begin = int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.timezone.utc).timestamp())
    walks = [walk for walk in WALKS if walk.labels is not WATCHED]
    minutes = min(1440, int((until - begin) // 60))
    for minute, values in enumerate(zip(*(walk.values(minutes, seed) for walk in walks))):
        for walk, value in zip(walks, values):
            yield json.dumps(
                {
                    "timestamp_ns": (begin + minute * 60) * 1_000_000_000,
                    "metric_name": walk.metric,
                    "metric_type": walk.kind,
                    "labels": walk.labels,
                    "interval_seconds": 60,
                    "value": round(value, 6),
                }
            )


def _fills(day: datetime.date, seed: random.Random) -> t.Iterator[str]:
    begin = int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.timezone.utc).timestamp())
    for number in range(2000):
        yield json.dumps(
            {
                "fill_id": f"{day:%Y%m%d}-{number}",
                "ts_ns": (begin + number * 43) * 1_000_000_000,
                "symbol": seed.choice(SYMBOLS),
                "side": seed.choice(("buy", "sell")),
                "price": round(seed.uniform(5, 60_000), 2),
                "qty": round(seed.uniform(0.01, 4), 4),
            }
        )


def _write(path: Path, lines: t.Iterator[str], modified: float) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text, 6, mtime=0) if path.suffix == ".gz" else text)
    os.utime(path, (modified, modified))


def write_journals(metrics: Path, trading: Path, now: float, days: int = 14) -> None:
    """The aggregator's files below ``metrics`` and the traders' below ``trading``, the older ones compressed."""
    seed = random.Random(7)
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    for ago in range(days, -1, -1):
        day = today - datetime.timedelta(days=ago)
        midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.timezone.utc).timestamp() + DAY
        modified = min(now, midnight)
        stamp = f".{day:%Y%m%d}" if ago else ""
        ending = ".ndjson.gz" if ago > 3 else ".ndjson"
        _write(metrics / f"aggregated_metrics{stamp}{ending}", _lines(day, now, seed), modified)
        _write(trading / f"fills{stamp}{ending}", _fills(day, seed), modified)
