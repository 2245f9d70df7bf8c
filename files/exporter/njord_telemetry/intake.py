# SPDX-License-Identifier: GPL-3.0-or-later
"""From a message to the store: what came is counted by its result, and what is refused is logged once."""

from __future__ import annotations

import collections
import logging
import time

from .log import line
from .snapshot import NAME_LENGTH, REASONS, RejectedError, read
from .store import Store

# Of a reason and a name; what comes beyond is counted only.
LOGGED_LIMIT = 1_000

LOG = logging.getLogger(__name__)


class Intake:
    """Takes the messages of the bus, whatever they are.

    ``results`` counts them: ``accepted``, or the reason of :data:`snapshot.REASONS`; ``last_message`` is the time of
    the last one in seconds since the epoch, 0 before the first.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._logged: set[tuple[str, str]] = set()
        self.results = collections.Counter(dict.fromkeys(("accepted", *REASONS), 0))
        self.last_message = 0.0

    def take(self, payload: bytes) -> None:
        self.last_message = time.time()
        try:
            self._store.take(read(payload))
        except RejectedError as rejected:
            self.results[rejected.reason] += 1
            self._log_once(rejected)
        else:
            self.results["accepted"] += 1

    def _log_once(self, rejected: RejectedError) -> None:
        key = (rejected.reason, rejected.name[:NAME_LENGTH])
        if key in self._logged or len(self._logged) >= LOGGED_LIMIT:
            return
        self._logged.add(key)
        LOG.warning(
            line(
                "telemetry.message_rejected",
                reason=rejected.reason,
                metric_name=rejected.name,
                got=rejected.detail,
                accepted=REASONS[rejected.reason],
            )
        )
        if len(self._logged) == LOGGED_LIMIT:
            LOG.warning(line("telemetry.rejections_no_longer_logged", logged=LOGGED_LIMIT))
