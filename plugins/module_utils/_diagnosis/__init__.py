# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Why something is as it is: each module here asks one question of a server and answers in findings."""

from __future__ import annotations

import typing as t

from .._finding import Finding
from .._http import HttpError, Refused, Unauthorised, Unreachable, Unreadable, Unsupported
from .._prometheus import Prometheus

_REMEDY: dict[type[HttpError], str] = {
    Unreachable: "See whether the server runs and listens there: ansible-playbook service-health.yml.",
    Unauthorised: "Give prometheus_token_file, or prometheus_username and prometheus_password_file, and run again.",
    Unsupported: "See whether prometheus_url is the address of Prometheus, with its path prefix if it has one.",
    Unreadable: "See whether prometheus_url is the address of Prometheus and not of something in front of it.",
    Refused: "The reason is the server's own; its log may say more.",
}


def not_known(check: str, subject: str, error: HttpError) -> Finding:
    """What could not be asked: never healthy, and never more than that."""
    evidence = {"asked": error.asked, "came_back": error.came_back, "status": error.status}
    return Finding(check, subject, "unknown", f"Not known: {error}.", evidence, _REMEDY.get(type(error), ""))


def part(check: str, subject: str, look: t.Callable[[], list[Finding]]) -> list[Finding]:
    """What ``look`` finds, or that it could not be asked: so that one part does not take the others with it."""
    try:
        return look()
    except HttpError as error:
        return [not_known(check, subject, error)]


def not_prometheus(check: str, client: Prometheus) -> list[Finding]:
    """Nothing where Prometheus answers; else the one finding that says who does, or that nobody does."""
    address = client.server.url

    def look() -> list[Finding]:
        backend = client.backend()
        if backend == "Prometheus":
            return []
        asked = {"asked": f"GET {address}/api/v1/status/buildinfo", "came_back": backend}
        summary = f"Not known: {address} is {backend}, which has no answer to this."
        return [Finding(check, address, "unknown", summary, asked, "Let prometheus_url name a Prometheus.")]

    return part(check, address, look)
