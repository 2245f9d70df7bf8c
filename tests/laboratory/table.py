# SPDX-License-Identifier: GPL-3.0-or-later
"""All the faults, from every module of the laboratory that makes some."""

from __future__ import annotations

from tests.laboratory import alerts, query_log, scrape
from tests.laboratory.fault import Fault
from tests.laboratory.pairs import pairs

FAULTS: tuple[Fault, ...] = (*scrape.FAULTS, *alerts.FAULTS, *query_log.FAULTS)
PAIRS: tuple[Fault, ...] = tuple(pairs(FAULTS))
