# SPDX-License-Identifier: GPL-3.0-or-later
"""Two faults at once, at one metric: the verdict must be that of the earlier link.

A pair has an order where both are changes of the same plan (:mod:`.plan`), turn different switches, and stand at
different links of :data:`tests.laboratory.fault.LINKS`. All of them are made from the table; none is written down.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

from tests.laboratory.fault import LINKS, Fault
from tests.laboratory.plan import ALERT, Change


def pairs(faults: t.Iterable[Fault]) -> list[Fault]:
    """Every pair whose order is defined, as a fault of its own."""
    rows = sorted((fault for fault in faults if fault.link), key=lambda fault: LINKS.index(fault.link))
    return [pair for first, second in itertools.combinations(rows, 2) for pair in _pair(first, second)]


def _pair(first: Fault, second: Fault) -> list[Fault]:
    versions = tuple(version for version in first.versions if version in second.versions)
    assert isinstance(first.make, Change) and isinstance(second.make, Change)
    if first.link == second.link or not versions or not first.make.composes(second.make):
        return []
    both = dataclasses.replace(
        first,
        name=f"{first.name} + {second.name}",
        make=first.make.together(second.make),
        versions=versions,
        after=max(first.after, second.after),
        link="",
    )
    if second.make.asks == ALERT != first.make.asks:
        # The alert's diagnosis names the missing series, and leads to what is wrong with its scrape.
        both = dataclasses.replace(both, check="alert.series", behind=first.check)
    return [both]


def sample(rows: t.Sequence[Fault], count: int) -> list[Fault]:
    """So many of them, spread over all; the same ones each time."""
    return [rows[number * len(rows) // count] for number in range(count)]
