# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Why something is as it is: each module here asks one question of a server and answers in findings."""

from __future__ import annotations

import difflib
import time
import typing as t

from .._finding import Finding
from .._http import HttpError, Refused, Unauthorised, Unreachable, Unreadable, Unsupported, Untrusted
from .._prometheus import Prometheus

# With the name of the server that was asked, as options begin with it.
_REMEDY: dict[type[HttpError], str] = {
    Unreachable: "See whether the server runs and listens there: ansible-playbook service-health.yml.",
    Untrusted: "Give {server}_ca_path the authority that signed its certificate, or mend the certificate.",
    Unauthorised: "Give {server}_token_file, or {server}_username and {server}_password_file, and run again.",
    Unsupported: "See whether {server}_url is the address of {name}, with its path prefix if it has one.",
    Unreadable: "See whether {server}_url is the address of {name} and not of something in front of it.",
    Refused: "The reason is the server's own; its log may say more.",
}


def not_known(check: str, subject: str, error: HttpError, server: str = "prometheus") -> Finding:
    """What could not be asked: never healthy, and never more than that.

    :param server: as the options of the one that was asked begin.
    """
    evidence = {"asked": error.asked, "came_back": error.came_back, "status": error.status}
    remedy = _REMEDY.get(type(error), "").format(server=server, name=server.capitalize())
    return Finding(check, subject, "unknown", f"Not known: {error}.", evidence, remedy)


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


def not_ready(check: str, client: Prometheus) -> list[Finding]:
    """Nothing where Prometheus answers queries; else the one finding that says what keeps it from that."""
    url = client.server.url
    try:
        client.ready()
    except Refused as error:
        if error.status != 503:
            return [not_known(check, url, error)]
        return [_replaying(check, client, error)]
    except HttpError as error:
        return [not_known(check, url, error)]
    return not_prometheus(check, client)


def _replaying(check: str, client: Prometheus, error: HttpError) -> Finding:
    evidence: dict[str, t.Any] = {"asked": error.asked, "came_back": error.came_back, "status": error.status}
    far = ""
    try:
        done, whole = client.replayed()
    except HttpError as unknown:
        evidence["replay"] = str(unknown)
    else:
        evidence["replay"] = {"segments_done": done, "segments": whole}
        far = f", segment {done} of {whole}" if whole else ""
    summary = (
        f"{client.server.url} is not ready: after a start it replays its write-ahead log{far}; until that is done "
        "nothing is scraped and no query is answered."
    )
    remedy = (
        "Wait: journalctl -u prometheus -f shows how far it is. Do not restart it, it would begin anew; where it "
        "was killed for its memory, see ansible-playbook troubleshoot-memory.yml."
    )
    return Finding(check, client.server.url, "unknown", summary, evidence, remedy)


def clock(at: float) -> str:
    """A time as people read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def nearest(name: str, known: t.Iterable[str]) -> list[str]:
    """Of the names that exist those that may have been meant, the likeliest first."""
    by_letters: dict[str, list[str]] = {}
    for one in sorted(set(known)):
        by_letters.setdefault(one.lower(), []).append(one)
    close = difflib.get_close_matches(name.lower(), list(by_letters), n=3, cutoff=0.7)
    return [one for letters in close for one in by_letters[letters]][:3]
