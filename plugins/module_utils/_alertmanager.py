# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The HTTP API of Alertmanager (v2) as typed calls, and as the typed errors of ``_http``.

Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import dataclasses
import json
import time
import typing as t

from . import _yaml
from ._exposition import Exposition
from ._http import Server, Unreadable
from ._prometheus import moment, read_page

T = t.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Held:
    """An alert that Alertmanager has, as one receiver gets it.

    :param silenced_by: numbers of silences; ``inhibited_by`` fingerprints of alerts; ``muted_by`` names of time
        intervals. None where this version does not say by which.
    :param group: labels of the group in which its receiver is told of it.
    """

    labels: dict[str, str]
    fingerprint: str
    receiver: str
    silenced_by: tuple[str, ...]
    inhibited_by: tuple[str, ...]
    muted_by: tuple[str, ...] | None
    group: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Silence:
    """:param ends: unix seconds. :param matchers: as a configuration writes them, all of which must fit."""

    number: str
    author: str
    comment: str
    ends: float | None
    matchers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Posted:
    """An alert to send. :param starts: unix seconds, as ``ends`` is, after which it is resolved."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts: float
    ends: float


class Alertmanager:
    """One server.

    :param server: where it is, and who asks.
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    def held(self) -> list[Held]:
        """Every alert that it has, for each receiver it is routed to.

        Asked for by groups: ``/api/v2/alerts`` does not know which are muted by time.
        """

        def read(groups: t.Any) -> list[Held]:
            return [
                Held(
                    labels=row["labels"],
                    fingerprint=row["fingerprint"],
                    receiver=group["receiver"]["name"],
                    silenced_by=tuple(row["status"]["silencedBy"]),
                    inhibited_by=tuple(row["status"]["inhibitedBy"]),
                    muted_by=tuple(row["status"]["mutedBy"]) if "mutedBy" in row["status"] else None,
                    group=group["labels"],
                )
                for group in groups
                for row in group["alerts"]
            ]

        return self._ask("/api/v2/alerts/groups", read)

    def silence(self, number: str) -> Silence:
        return self._ask(f"/api/v2/silence/{number}", _silence)

    def silences(self) -> list[Silence]:
        """Those that are in force."""

        def read(rows: t.Any) -> list[Silence]:
            return [_silence(row) for row in rows if row["status"]["state"] == "active"]

        return self._ask("/api/v2/silences", read)

    def configuration(self) -> str:
        """With its defaults, and without its secrets."""
        return self._ask("/api/v2/status", lambda data: str(data["config"]["original"]))

    def send(self, alert: Posted) -> None:
        """Sends one alert, or the end of one that it has."""
        row = {
            "labels": alert.labels,
            "annotations": alert.annotations,
            "startsAt": _rfc3339(alert.starts),
            "endsAt": _rfc3339(alert.ends),
        }
        self.server.post_json("/api/v2/alerts", [row])

    def integrations(self) -> dict[str, list[str]]:
        """Of each receiver what it has to tell somebody by: ``webhook``, ``email``; by its configuration."""
        return self._ask("/api/v2/status", lambda data: receivers(data["config"]["original"]))

    def own_page(self, names: t.Container[str]) -> Exposition:
        """The server's ``/metrics``, with the samples of these names."""
        return read_page(self.server, "/metrics", names)

    def _ask(self, path: str, read: t.Callable[[t.Any], T]) -> T:
        """
        :raises Unreadable: where the answer has another shape.
        """
        answer = self.server.get(path)
        document = answer.json()
        try:
            return read(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreadable(
                answer.asked, f"JSON, but not as the API of Alertmanager has it ({error!r})", answer.status
            ) from error


def receivers(configuration: str) -> dict[str, list[str]]:
    """Names of the receivers and their integrations, of a configuration as Alertmanager itself writes it."""
    document = _yaml.read(configuration)
    rows = document.get("receivers") or [] if isinstance(document, dict) else []
    return {row["name"]: [key[: -len("_configs")] for key in row if key.endswith("_configs")] for row in rows}


def _silence(row: t.Any) -> Silence:
    matchers = tuple(
        f"{one['name']}{_sign(one.get('isEqual', True), one['isRegex'])}{json.dumps(one['value'], ensure_ascii=False)}"
        for one in row["matchers"]
    )
    return Silence(row["id"], row["createdBy"], row["comment"], moment(row["endsAt"]), matchers)


def _rfc3339(at: float) -> str:
    whole, milliseconds = divmod(round(at * 1000), 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03d}Z", time.gmtime(whole))


def _sign(equal: bool, regular: bool) -> str:
    return ("=~" if regular else "=") if equal else ("!~" if regular else "!=")
