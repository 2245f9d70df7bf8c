# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.laboratory.walled VERSION DIRECTORY``: a stack behind a firewall of its own.

It is to be started in a network of its own (``unshare --net``), whose rules it may change; writes the findings as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path

from tests.conftest import link_the_checkout
from tests.testbench.packages import run


def main(version: str, directory: Path) -> None:
    from tests.laboratory import scrape
    from tests.laboratory.exporter import Page, metric
    from tests.laboratory.fault import SETTLED, Bench

    run(["ip", "link", "set", "lo", "up"])
    with contextlib.ExitStack() as stack:
        bench = Bench(version, directory, stack)
        bench.job("walled", Page(metric("lab_walled")))
        run(["iptables", "-A", "INPUT", "-p", "tcp", "--dport", str(bench.exporter.port), "-j", "DROP"])
        bench.start()
        time.sleep(SETTLED)
        findings = scrape.look(bench.url, job="walled").findings()
        sys.stdout.write(json.dumps([finding.as_dict() for finding in findings]))


if __name__ == "__main__":
    link_the_checkout()
    main(sys.argv[1], Path(sys.argv[2]))
