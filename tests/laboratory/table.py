# SPDX-License-Identifier: GPL-3.0-or-later
"""All the faults, from every module of the laboratory that makes some."""

from __future__ import annotations

from tests.laboratory import alerts, scrape
from tests.laboratory.fault import Fault

FAULTS: tuple[Fault, ...] = (*scrape.FAULTS, *alerts.FAULTS)
