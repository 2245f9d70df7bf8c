# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus says of a failed scrape, as 2.53.3 and 3.5.3 were seen to say it, and what it is taken for."""

from __future__ import annotations

import re
import string

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape.scrape_error import (
    TROUBLES,
    UNKNOWN,
    classify,
)
from ansible_collections.njord.telemetry.plugins.module_utils._finding import rank

GET = 'Get "http://127.0.0.1:9091/metrics": '
TLS = 'Get "https://127.0.0.1:9091/metrics": '
SAID = (
    # Both versions.
    (GET + "dial tcp 127.0.0.1:9091: connect: connection refused", "scrape.port", "nothing listens"),
    (GET + "context deadline exceeded", "scrape.speed", "no whole answer"),
    ("context deadline exceeded", "scrape.speed", "no whole answer"),
    (GET + "dial tcp 10.0.0.9:9091: i/o timeout", "scrape.speed", "no whole answer"),
    (
        'Get "http://x.invalid:9/": dial tcp: lookup x.invalid on 10.0.0.53:53: no such host',
        "scrape.resolve",
        "the name x.invalid does not resolve",
    ),
    ('Get "http://x:9/": dial tcp: lookup x: Temporary failure', "scrape.resolve", "the name x does not"),
    (
        'Get "http://x:9/": dial tcp: lookup x on 127.0.0.11:53: server misbehaving',
        "scrape.resolve",
        "server misbehaving",
    ),
    (GET + "dial tcp 10.0.0.9:9091: connect: no route to host", "scrape.network", "no route to host"),
    (GET + "EOF", "scrape.application", "closes the connection"),
    (GET + "read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer", "scrape.application", "closes"),
    ("unexpected EOF", "scrape.format", "cut off"),
    (TLS + "tls: first record does not look like a TLS handshake", "scrape.tls", "the target speaks plain HTTP"),
    (TLS + "http: server gave HTTP response to HTTPS client", "scrape.tls", "the target speaks plain HTTP"),
    (
        TLS + "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "scrape.tls",
        "an authority that Prometheus does not know",
    ),
    (
        TLS + "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time "
        "2026-11-24T13:43:06Z is after 2026-10-25T13:42:27Z",
        "scrape.tls",
        "has expired",
    ),
    (
        TLS + "tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't "
        "contain any IP SANs",
        "scrape.tls",
        "one of another name",
    ),
    (
        TLS + "tls: failed to verify certificate: x509: certificate is valid for a.example, not b.example",
        "scrape.tls",
        "one of another name",
    ),
    (TLS + "remote error: tls: certificate required", "scrape.tls", "may want a client certificate"),
    ("server returned HTTP status 401 Unauthorized", "scrape.login", "HTTP 401"),
    ("server returned HTTP status 403 Forbidden", "scrape.login", "HTTP 403"),
    ("server returned HTTP status 302 Found", "scrape.login", "sends Prometheus elsewhere"),
    ("server returned HTTP status 404 Not Found", "scrape.path", "HTTP 404"),
    ("server returned HTTP status 500 Internal Server Error", "scrape.application", "its program fails"),
    ("server returned HTTP status 503 Service Unavailable", "scrape.application", "HTTP 503"),
    (
        GET + "unable to read authorization credentials: unable to read file /etc/token: open /etc/token: no such file "
        "or directory",
        "scrape.login",
        "cannot read /etc/token",
    ),
    ("body size limit exceeded", "scrape.limit", "body_size_limit"),
    (
        "label_limit exceeded (metric: lab, number of labels: 7, limit: 3)",
        "scrape.limit",
        "lab has 7 labels, those of the target included, and label_limit is 3",
    ),
    (
        "label_name_length_limit exceeded (metric: lab, label name: aaa, length: 23, limit: 15)",
        "scrape.limit",
        "the label aaa of lab has a length of 23, and label_name_length_limit is 15",
    ),
    (
        'label_value_length_limit exceeded (metric: lab, label name: a, value: "xx", length: 100, limit: 50)',
        "scrape.limit",
        "label_value_length_limit is 50",
    ),
    ("target_limit exceeded (number of targets: 2, limit: 1)", "scrape.limit", "has 2 targets, and target_limit is 1"),
    ('expected a valid start token, got "<" ("INVALID") while parsing: "<"', "scrape.format", "HTML page"),
    (
        'strconv.ParseFloat: parsing "abc": invalid syntax while parsing: "lab_x abc"',
        "scrape.format",
        "one line of the target's page",
    ),
    (
        'expected label value, got "\\"b} 1\\n" ("INVALID") while parsing: "lab_bad{a=\\"b} 1\\n"',
        "scrape.format",
        "one line of the target's page",
    ),
    ('label name "a" is not unique: invalid sample', "scrape.format", "one line of the target's page"),
    ("out of bounds", "scrape.timestamps", "time stamps"),
    (
        "write to WAL: log series: write /var/lib/prometheus/wal/00000000: no space left on device",
        "scrape.storage",
        "cannot write",
    ),
    # 3.x alone.
    (
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
        "scrape.content_type",
        "(blank)",
    ),
    (
        'received unsupported Content-Type "text/html" and no fallback_scrape_protocol specified for target',
        "scrape.content_type",
        "(text/html)",
    ),
    ("sample limit exceeded", "scrape.limit", "more samples than sample_limit"),
)


@pytest.mark.parametrize(("error", "check", "meaning"), SAID, ids=[error[:60] for error, *_rest in SAID])
def test_a_text_of_prometheus_is_taken_for_what_it_means(error: str, check: str, meaning: str) -> None:
    trouble, words = classify(error)
    known = {"url": "http://x", "host": "x:1", "timeout": "10 s", **words}
    assert trouble.check == check
    assert meaning in trouble.meaning.format(**known)
    assert trouble.remedy.format(**known)


def test_what_is_not_known_is_said_in_prometheus_own_words() -> None:
    trouble, words = classify("the moon is full")
    assert trouble is UNKNOWN
    assert trouble.meaning.format(**words) == "the scrape fails: the moon is full"


@pytest.mark.parametrize("trouble", TROUBLES, ids=[trouble.pattern[:40] for trouble in TROUBLES])
def test_a_sentence_uses_only_words_that_its_pattern_finds(trouble: object) -> None:
    assert isinstance(trouble, type(TROUBLES[0]))
    groups = set(re.compile(trouble.pattern).groupindex) | {"url", "host", "timeout"}
    for text in (trouble.meaning, trouble.remedy):
        assert {name for _literal, name, *_rest in string.Formatter().parse(text) if name} <= groups
    rank(trouble.severity)
