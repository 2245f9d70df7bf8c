# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays journals as the trading system writes them: three hours of metrics, and one fill."""

from __future__ import annotations

import json
import pathlib
import sys
import time

MINUTE = 60
root = pathlib.Path(sys.argv[1])
now = int(time.time()) // MINUTE * MINUTE

with (root / "var/log/njord/metrics/aggregated_metrics.ndjson").open("w") as journal:
    for bucket in range(now - 180 * MINUTE, now, MINUTE):
        for strategy in ("momentum_btc", "carry_eth"):
            line = {
                "timestamp_ns": bucket * 10**9,
                "metric_name": "njord_signals_generated_total",
                "metric_type": "counter",
                "labels": {"strategy_id": strategy},
                "interval_seconds": MINUTE,
                "value": 3.0,
            }
            journal.write(json.dumps(line) + "\n")

fill = {"ts_fill_ns": now * 10**9, "symbol": "ATOM/USDT", "side": "buy", "qty": 1.5, "price": 7.25}
(root / "data/journal/fills.ndjson").write_text(json.dumps(fill) + "\n")
