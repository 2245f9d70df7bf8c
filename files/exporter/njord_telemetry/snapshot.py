# SPDX-License-Identifier: GPL-3.0-or-later
"""One message of the bus: a metric snapshot, or the reason why it is none.

A message that passes here can be served: its names are legal in the text and the OpenMetrics format, its label
values are UTF-8, its numbers are finite, and its size is bounded.
"""

from __future__ import annotations

import json
import math
import re
import typing as t

# Sorted by name, without empty values: to Prometheus a label with an empty value is no label.
Labels = tuple[tuple[str, str], ...]

MESSAGE_BYTES = 16_384
NAME_LENGTH = 200
LABEL_NAME_LENGTH = 100
LABEL_SET_LENGTH = 1_024
LABEL_COUNT = 20

# Labels that a type makes of its own accord.
OWN_LABELS: t.Final = {"counter": (), "gauge": (), "histogram": ("le",), "summary": ("quantile",)}
OWN_PREFIX = "njord_exporter_"
# Ours, and what Prometheus itself writes beside a scrape: a message must not pass for either.
_RESERVED_NAME = re.compile(rf"{OWN_PREFIX}.*|process_.*|up|scrape_.*|ALERTS|ALERTS_FOR_STATE")
_NAME = re.compile(rf"[a-zA-Z_:][a-zA-Z0-9_:]{{0,{NAME_LENGTH - 1}}}")
_LABEL_NAME = re.compile(rf"(?!__)[a-zA-Z_][a-zA-Z0-9_]{{0,{LABEL_NAME_LENGTH - 1}}}")

# Every reason to refuse a message, and what would be accepted.
REASONS: t.Final = {
    "too_long": f"a message has at most {MESSAGE_BYTES} bytes",
    "malformed": "a message is one JSON object in UTF-8",
    "name": f"name is a metric name of Prometheus ([a-zA-Z_:][a-zA-Z0-9_:]*) of at most {NAME_LENGTH} characters",
    "reserved_name": f"{OWN_PREFIX}*, process_*, scrape_*, up, ALERTS and ALERTS_FOR_STATE are not for the bus",
    "metric_type": f"metric_type is one of {', '.join(OWN_LABELS)}",
    "timestamp": "timestamp_ns is an integer of 0 or more",
    "value": "value is a finite number, and of a counter 0 or more",
    "labels": f"labels is an object of at most {LABEL_COUNT} names with values that are strings of UTF-8",
    "label_name": "a label name matches [a-zA-Z_][a-zA-Z0-9_]*, does not begin with __, has at most "
    f"{LABEL_NAME_LENGTH} characters, and is not le in a histogram or quantile in a summary",
    "label_set_too_long": f"the label names and values of a message have at most {LABEL_SET_LENGTH} characters",
    "type_conflict": "a metric keeps the type that the catalogue or its first message gives it",
    "name_clash": "no two metrics are served under one name (counter x and x_total, histogram x and gauge x_count)",
    "too_many_metrics": "the number of metrics that the catalogue does not name is limited",
}


class RejectedError(ValueError):
    """A message that is not taken.

    :param reason: one of :data:`REASONS`.
    :param name: of the metric, where it can be told.
    :param detail: what was wrong with this one.
    """

    def __init__(self, reason: str, name: str = "", detail: object = "") -> None:
        super().__init__(f"{reason}: {REASONS[reason]}")
        self.reason = reason
        self.name = name
        self.detail = detail


class MetricSnapshot(t.NamedTuple):
    """What one message says.

    :param metric_type: ``counter`` (the value is an increment), ``gauge``, ``histogram`` or ``summary`` (the value is
        one observation).
    :param timestamp_ns: nanoseconds since the epoch.
    """

    name: str
    metric_type: str
    value: float
    timestamp_ns: int
    labels: Labels


def read(payload: bytes) -> MetricSnapshot:
    """The snapshot in one message.

    :raises RejectedError: with the first rule that the message breaks.
    """
    if len(payload) > MESSAGE_BYTES:
        raise RejectedError("too_long", detail=f"{len(payload)} bytes")
    try:
        message = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise RejectedError("malformed", detail=error) from error
    if not isinstance(message, dict):
        raise RejectedError("malformed", detail=f"{type(message).__name__}, not an object")

    name = message.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "_total":
        raise RejectedError("name", name=str(name))
    if _RESERVED_NAME.fullmatch(name):
        raise RejectedError("reserved_name", name)
    metric_type = message.get("metric_type", "gauge")
    if not isinstance(metric_type, str) or metric_type not in OWN_LABELS:
        raise RejectedError("metric_type", name, metric_type)
    timestamp_ns = message.get("timestamp_ns")
    if not isinstance(timestamp_ns, int) or isinstance(timestamp_ns, bool) or timestamp_ns < 0:
        raise RejectedError("timestamp", name, timestamp_ns)
    return MetricSnapshot(
        name, metric_type, _value(message, name, metric_type), timestamp_ns, _labels(message, name, metric_type)
    )


def _value(message: dict[str, t.Any], name: str, metric_type: str) -> float:
    given = message.get("value")
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise RejectedError("value", name, given)
    try:
        value = float(given)
    except OverflowError as error:
        raise RejectedError("value", name, error) from error
    if not math.isfinite(value) or (metric_type == "counter" and value < 0):
        raise RejectedError("value", name, value)
    return value


def _labels(message: dict[str, t.Any], name: str, metric_type: str) -> Labels:
    given = message.get("labels", {})
    if not isinstance(given, dict) or len(given) > LABEL_COUNT:
        raise RejectedError("labels", name, given)
    length = 0
    for label, value in given.items():
        if not _LABEL_NAME.fullmatch(label) or label in OWN_LABELS[metric_type]:
            raise RejectedError("label_name", name, label)
        if not isinstance(value, str) or not _is_utf8(value):
            raise RejectedError("labels", name, f"{label}: {value!r}")
        length += len(label) + len(value)
    if length > LABEL_SET_LENGTH:
        raise RejectedError("label_set_too_long", name, f"{length} characters")
    return tuple(sorted(item for item in given.items() if item[1]))


def _is_utf8(text: str) -> bool:
    # JSON can hold half a surrogate pair, which has no UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
