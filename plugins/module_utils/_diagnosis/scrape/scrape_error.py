# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""What Prometheus' own words about a failed scrape mean: a table, read from the top.

Each text was seen on Prometheus 2.53.3 and 3.5.3, or stands in the sources of Go's net package and of Prometheus'
scrape loop, which are the same in both where no version is named.

Sources: the audit of the runbook, "Why a metric is missing"; https://github.com/prometheus/prometheus, scrape/scrape.go
"""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Trouble:
    """One class of failed scrapes.

    :param check: the link that fails, as a finding names it.
    :param pattern: of the text that Prometheus calls ``lastError``.
    :param meaning: a clause; ``{url}`` is the target's address, ``{host}`` its host and port, ``{timeout}`` how long a
        scrape may take, and the groups of the pattern may be used by name.
    :param remedy: the next step; it may use the same words.
    :param knock: whether a connection from here tells more.
    """

    check: str
    pattern: str
    meaning: str
    remedy: str
    knock: bool = False
    severity: str = "warning"

    def match(self, error: str) -> dict[str, str] | None:
        """The groups of the pattern where it is this trouble."""
        found = re.search(self.pattern, error, re.IGNORECASE | re.DOTALL)
        return {name: text or "" for name, text in found.groupdict().items()} if found else None


_LOGIN = "Give the scrape job the credentials that the target wants (authorization or basic_auth), and reload."
_CONTENT = (
    "Let the exporter say text/plain; version=0.0.4. Until it does, fallback_scrape_protocol: PrometheusText0.0.4 in "
    "the scrape job makes Prometheus 3 read it as 2.x did."
)
_LABEL_LIMIT = "Publish shorter or fewer labels (ansible-playbook troubleshoot-cardinality.yml), or raise {limit}."

TROUBLES = (
    # The disk of Prometheus itself: every target then says the same.
    Trouble(
        "scrape.storage",
        r"no space left on device|read-only file system|input/output error|write to WAL|log (?:samples|series)",
        "Prometheus cannot write what it scraped",
        "df -h; df -i\nLook at the data directory of Prometheus; maintenance-weekly.yml says what takes the room.",
        severity="critical",
    ),
    # Before anything is sent.
    Trouble(
        "scrape.login",
        r"unable to read (?P<what>.*?(?:credentials|password|token|username|secret)[^:]*): .*?open (?P<file>[^:]+): "
        r"(?P<reason>.*)",
        "Prometheus cannot read {file}, which holds its login ({reason})",
        "Put the file there, readable for the user of Prometheus; it is read anew at each scrape.",
    ),
    Trouble(
        "scrape.tls",
        r"unable to (?:load specified|use specified|read) (?:CA|client)? ?cert[^:]*: (?P<reason>.*)",
        "Prometheus cannot read a certificate of its tls_config ({reason})",
        "See ca_file, cert_file and key_file of the scrape job: there, and readable for the user of Prometheus.",
    ),
    Trouble(
        "scrape.resolve",
        r"lookup (?P<name>\S+?)(?: on \S+)?: (?P<reason>no such host|server misbehaving|.*)",
        "the name {name} does not resolve where Prometheus runs ({reason})",
        "getent hosts {name} on the host of Prometheus; then its resolver, or the name in the scrape job. In a "
        "container host.docker.internal has to be given (extra_hosts).",
    ),
    Trouble(
        "scrape.port",
        r"connect(?:ex)?: connection refused",
        "nothing listens there",
        "On the host of the target: does the service run (ansible-playbook service-health.yml), and does it listen on "
        "that address (ss -ltnp)?",
        knock=True,
    ),
    Trouble(
        "scrape.network",
        r"(?P<reason>no route to host|network is unreachable|host is (?:down|unreachable)|permission denied)",
        "there is no way to it ({reason})",
        "ip route get to its host from that of Prometheus; a firewall that rejects says the same.",
        knock=True,
    ),
    # TLS, both ways.
    Trouble(
        "scrape.tls",
        r"first record does not look like a TLS handshake|server gave HTTP response to HTTPS client",
        "Prometheus speaks TLS, and the target speaks plain HTTP",
        "Set scheme: http in the scrape job, or give the target a certificate.",
    ),
    Trouble(
        "scrape.tls",
        r"malformed HTTP response \"\\x15\\x03|malformed HTTP status code",
        "Prometheus speaks plain HTTP, and the target speaks TLS",
        "Set scheme: https in the scrape job, and tls_config with the authority of its certificate.",
    ),
    Trouble(
        "scrape.tls",
        r"x509: certificate has expired or is not yet valid: (?P<reason>.*)",
        "the target's certificate has expired or is not valid yet ({reason})",
        "Renew it; where it is not valid yet, compare the clocks (runtime_info).",
    ),
    Trouble(
        "scrape.tls",
        r"x509: certificate signed by unknown authority|x509: .*not trusted",
        "the target's certificate is signed by an authority that Prometheus does not know",
        "Name the authority in tls_config.ca_file of the scrape job.",
    ),
    Trouble(
        "scrape.tls",
        r"x509: (?P<reason>certificate is (?:not )?valid for.*|cannot validate certificate for.*|.*SANs.*)",
        "the target's certificate is one of another name ({reason})",
        "Ask the target by a name in its certificate, or give that name in tls_config.server_name.",
    ),
    Trouble(
        "scrape.tls",
        r"remote error: tls: (?P<reason>.*)",
        "the target refuses the TLS of Prometheus ({reason}); it may want a client certificate",
        "Give cert_file and key_file in tls_config of the scrape job; see the target's log.",
    ),
    Trouble(
        "scrape.tls",
        r"(?P<reason>tls: .*|x509: .*)",
        "Prometheus and the target have no common TLS ({reason})",
        "openssl s_client -connect {host} shows what the target offers.",
    ),
    # An answer came, and it is no.
    Trouble(
        "scrape.login",
        r"HTTP status (?P<status>401|403|407)",
        "the target wants a login and does not take that of Prometheus (HTTP {status})",
        _LOGIN,
    ),
    Trouble(
        "scrape.login",
        r"HTTP status (?P<status>30\d)",
        "the target sends Prometheus elsewhere (HTTP {status}), as a login page does",
        "curl -i {url} shows where to. " + _LOGIN,
    ),
    Trouble(
        "scrape.path",
        r"HTTP status (?P<status>404|405|410)",
        "the target does not know {url} (HTTP {status})",
        "Compare metrics_path of the scrape job with what the exporter serves; is it the right port?",
    ),
    Trouble(
        "scrape.application",
        r"HTTP status (?P<status>\d+ ?[\w -]*)",
        "the target answers, and its program fails (HTTP {status})",
        "The target's own log says why; curl -i {url} shows what it sends.",
        knock=True,
    ),
    # The body. In 3.x a content type has to be known, 2.x reads what it does not know as text.
    Trouble(
        "scrape.content_type",
        r"(?P<reason>blank) Content-Type|unsupported Content-Type \"(?P<type>[^\"]*)\"",
        "Prometheus 3 does not take the Content-Type of the target ({reason}{type})",
        _CONTENT,
    ),
    Trouble(
        "scrape.limit",
        r"body size limit exceeded",
        "its page is longer than body_size_limit, so that the whole scrape is dropped",
        "Find what grew (ansible-playbook troubleshoot-cardinality.yml; curl -s {url} | wc -c), or raise "
        "body_size_limit of the scrape job.",
    ),
    Trouble(
        "scrape.limit",
        r"sample limit exceeded",
        "it has more samples than sample_limit, so that the whole scrape is dropped",
        "Find what grew (ansible-playbook troubleshoot-cardinality.yml), or raise sample_limit of the scrape job.",
    ),
    Trouble(
        "scrape.limit",
        r"bucket limit exceeded",
        "a native histogram has more buckets than native_histogram_bucket_limit, so that the whole scrape is dropped",
        "Raise native_histogram_bucket_limit of the scrape job, or publish coarser histograms.",
    ),
    Trouble(
        "scrape.limit",
        r"(?P<limit>label_limit) exceeded \(metric: (?P<metric>[^,]*), number of labels: (?P<count>\d+), "
        r"limit: (?P<most>\d+)",
        "{metric} has {count} labels, those of the target included, and {limit} is {most}; the whole scrape is dropped",
        _LABEL_LIMIT,
    ),
    Trouble(
        "scrape.limit",
        r"(?P<limit>label_(?:name|value)_length_limit) exceeded \(metric: (?P<metric>[^,]*), "
        r"label name: (?P<label>[^,]*),.*length: (?P<count>\d+), limit: (?P<most>\d+)",
        "the label {label} of {metric} has a length of {count}, and {limit} is {most}; the whole scrape is dropped",
        _LABEL_LIMIT,
    ),
    Trouble(
        "scrape.limit",
        r"target_limit exceeded \(number of targets: (?P<count>\d+), limit: (?P<most>\d+)",
        "the job has {count} targets, and target_limit is {most}: then none of them is scraped",
        "Raise target_limit of the scrape job, or keep fewer targets by relabel_configs.",
    ),
    Trouble(
        "scrape.format",
        r"expected a valid start token, got \"<\"",
        "the target sends an HTML page instead of metrics: a login page, or the path of another program",
        "curl -i {url} shows the page; see metrics_path, the port, and what stands in front of the target.",
    ),
    Trouble(
        "scrape.format",
        r"unexpected EOF(?!.*while parsing)|gzip: |flate: ",
        "the target's answer was cut off",
        "The target's own log says why; so does a proxy in between. curl -v {url} shows where it ends.",
    ),
    Trouble(
        "scrape.timestamps",
        r"out of bounds|out of order|duplicate sample for timestamp|too old sample",
        "Prometheus does not take the time stamps of the target",
        "Let the exporter send no time stamps, or set honor_timestamps: false in the scrape job; compare the clocks.",
    ),
    Trouble(
        "scrape.format",
        r"while parsing: (?P<line>.{0,80})|is not unique: invalid sample|data does not end with # EOF|invalid UTF-8|"
        r"invalid (?:metric|label) (?:name|type)|unsupported character|expected (?:text|label|value|timestamp|a valid)",
        "one line of the target's page is not in the format of Prometheus, so that the whole scrape is dropped",
        "promtool check metrics < PAGE names the line (curl -s {url} > PAGE); it is the exporter's to mend.",
    ),
    # Nothing came, or not in time.
    Trouble(
        "scrape.speed",
        r"context deadline exceeded|Client\.Timeout|i/o timeout",
        "no whole answer came within {timeout}",
        "time curl -s -o /dev/null {url} on the host of Prometheus; then the load of the target's host, or a longer "
        "scrape_timeout.",
        knock=True,
    ),
    Trouble(
        "scrape.application",
        r"EOF$|connection reset by peer|broken pipe|server closed idle connection",
        "the target closes the connection without an answer",
        "The target's own log says why; does it speak TLS, want a client certificate, or speak another protocol?",
        knock=True,
    ),
)
UNKNOWN = Trouble(
    "scrape.target", "", "the scrape fails: {error}", "curl -i {url} on the host of Prometheus.", knock=True
)


def classify(error: str) -> tuple[Trouble, dict[str, str]]:
    """The trouble that a text tells, and the words of it that a sentence may use; :data:`UNKNOWN` where none fits."""
    for trouble in TROUBLES:
        words = trouble.match(error)
        if words is not None:
            return trouble, words
    return UNKNOWN, {"error": error or "Prometheus does not say why"}
