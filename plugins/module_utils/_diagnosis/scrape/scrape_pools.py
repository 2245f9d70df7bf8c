# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The way from a scrape job to its samples, link by link: what Prometheus itself knows of it, asked once for all jobs.

The links, in order: the job is configured, its discovery finds targets, relabelling keeps them, they are scraped (what
``lastError`` says, and what a connection from here adds), within the limits, and what was scraped is kept.

Where 2.53 and 3.x differ: 2.x lists a pool only once its discovery has said something, so that jobs are read from the
configuration as well; and under a sample limit 2.53 says up and down in turn, often without an error, so that the
number of scraped samples is compared with the limit itself.

Source: the audit of the runbook, "Why a metric is missing: the first link that fails".
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import re
import time
import typing as t
import urllib.parse

from ..._exposition import Exposition
from ..._finding import Finding
from ..._health import SERVICES
from ..._prometheus import Discovery, Prometheus, Target
from ..._systemd import Unit, show_units
from ..._units import human_duration
from .. import nearest
from . import port
from .publisher import OWN, OWN_NAMES, Exporter
from .scrape_error import Trouble, classify

AT_ONCE = 4
SHOWN = 10
# Of a connection that is tried from here, and of the programs of this host that are asked, in seconds.
KNOCK_SECONDS = 1.0
PROGRAM_SECONDS = 2.0
# So many doors are knocked at; a net that is down has many.
KNOCKS = 8
# Over which the success of a target's scrapes is looked at, in seconds.
RECENT = 300.0
SAMPLE_NAMES = ("up", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling")
# Counters of the server as a whole; it does not say of which target.
REFUSED_NAMES = (
    "prometheus_target_scrapes_exceeded_sample_limit_total",
    "prometheus_target_scrapes_sample_out_of_bounds_total",
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
)
POOLS_FAILED_NAME = "prometheus_target_scrape_pools_failed_total"
STORAGE_NAME = "prometheus_tsdb_wal_writes_failed_total"
# Likewise, by the way of discovery that they are about.
DISCOVERY_NAMES = {
    # Where a file cannot be watched (fs.inotify.max_user_instances), it is not read either.
    "file_sd": ("prometheus_sd_file_read_errors_total", "prometheus_sd_file_watcher_errors_total"),
    "dns_sd": ("prometheus_sd_dns_lookup_failures_total",),
    "http_sd": ("prometheus_sd_http_failures_total",),
}

TargetKey = t.Tuple[str, str]
# Host, port, and whether it is asked for TLS.
Door = t.Tuple[str, int, bool]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a failed scrape comes down to. :param meaning: a clause."""

    check: str
    meaning: str
    remedy: str


def key(labels: t.Mapping[str, str]) -> TargetKey:
    return labels.get("job", ""), labels.get("instance", "")


def about(subject: str, text: str) -> str:
    """A sentence about what was asked; that of a job names it itself."""
    return text[0].upper() + text[1:] if subject.startswith("job ") else f"{subject}: {text}"


def sections(configuration: str) -> dict[str, str]:
    """The part of each scrape job, by its name, of a configuration as Prometheus writes it."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    inside = False
    for line in configuration.splitlines():
        if line and not line[0].isspace() and not line.startswith("-"):
            inside, lines = line.startswith("scrape_configs:"), None
        elif inside and line.startswith("- job_name:"):
            lines = found.setdefault(_scalar(line.partition(":")[2]), [])
        if lines is not None:
            lines.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def setting(section: str, name: str) -> str:
    """A setting of a scrape job that is one word; empty where it is not there."""
    found = re.search(rf"^  {name}: (.+)$", section, re.MULTILINE)
    return _scalar(found[1]) if found else ""


def block(section: str, name: str) -> str:
    """A setting of a scrape job that has parts, as text; empty where it is not there."""
    found = re.search(rf"^  {name}:\n((?:  (?:- |  ).*\n?)+)", section + "\n", re.MULTILINE)
    return found[0].rstrip() if found else ""


def _scalar(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            return str(json.loads(text))
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


@dataclasses.dataclass(frozen=True)
class Facts:
    """What Prometheus says of all its scrapes at one time.

    :param now: unix seconds by its own clock.
    :param jobs: the section of the configuration by name of the job; empty for one that only a pool is known of.
    :param pools: the jobs that it has begun.
    :param loaded: whether its last reload was taken.
    :param samples: by target, the newest of :data:`SAMPLE_NAMES`.
    :param success: by target, the share of scrapes of the last minutes that were successful, where it is not all.
    :param stored: by target, the time of its newest ``up``, in unix seconds.
    :param own: what it says of itself: :data:`REFUSED_NAMES` and others.
    :param exporter: what it holds of the exporter's own metrics; None where it holds none.
    :param exporter_jobs: the jobs that scrape the exporter.
    """

    now: float
    discovery: Discovery
    jobs: dict[str, str]
    pools: frozenset[str]
    loaded: bool
    samples: dict[TargetKey, dict[str, float]]
    success: dict[TargetKey, float]
    stored: dict[TargetKey, float]
    own: Exposition
    exporter: Exporter | None
    exporter_jobs: list[str]

    @classmethod
    def ask(cls, client: Prometheus) -> Facts:
        """Ten requests, a few at a time.

        :raises HttpError: where one of them is not answered.
        """
        names = "|".join(SAMPLE_NAMES)
        own_names = "|".join(OWN_NAMES)
        recent = f"[{RECENT:.0f}s]"
        calls: dict[str, t.Callable[[], t.Any]] = {
            "now": lambda: client.query("time()")[0].value,
            "discovery": client.discovery,
            "pools": client.pools,
            "configuration": client.configuration,
            "runtime": client.runtime,
            "samples": lambda: client.query(f'{{__name__=~"{names}"}}'),
            "success": lambda: client.query(f"avg_over_time(up{recent}) < 1"),
            "stored": lambda: client.query("timestamp(up)"),
            "own": lambda: client.own_page(
                (*REFUSED_NAMES, POOLS_FAILED_NAME, STORAGE_NAME, *itertools.chain(*DISCOVERY_NAMES.values()))
            ),
            "exporter": lambda: client.query(f'{{__name__=~"{own_names}"}}'),
        }
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {name: pool.submit(call) for name, call in calls.items()}
            said = {name: future.result() for name, future in running.items()}
        samples: dict[TargetKey, dict[str, float]] = {}
        for sample in said["samples"]:
            samples.setdefault(key(sample.labels), {})[sample.labels["__name__"]] = sample.value
        values: dict[str, list[tuple[dict[str, str], float]]] = {}
        for sample in said["exporter"]:
            values.setdefault(sample.labels["__name__"], []).append((sample.labels, sample.value))
        return cls(
            now=said["now"],
            discovery=said["discovery"],
            jobs={**dict.fromkeys(said["pools"], ""), **sections(said["configuration"])},
            pools=frozenset(said["pools"]),
            loaded=bool(said["runtime"].get("reloadConfigSuccess", True)),
            samples=samples,
            success={key(sample.labels): sample.value for sample in said["success"]},
            stored={key(sample.labels): sample.value for sample in said["stored"]},
            own=said["own"],
            exporter=Exporter(values, f"{client.server.url} (its samples of {OWN}*)") if values else None,
            exporter_jobs=sorted({labels.get("job", "") for labels, _value in values.get(f"{OWN}build_info", [])}),
        )

    @property
    def names(self) -> list[str]:
        """All jobs."""
        return sorted({*self.jobs, *(target.pool for target in self.discovery.active)})

    def targets(self, job: str) -> list[Target]:
        """Those of a pool of that name; where there is none, those that relabelling gave this job."""
        of_pool = [target for target in self.discovery.active if target.pool == job]
        return of_pool or [target for target in self.discovery.active if target.labels.get("job") == job]

    def count(self, target: Target, name: str) -> float | None:
        return self.samples.get(key(target.labels), {}).get(name)

    def refused(self, what: str) -> float:
        return self.own.value(f"prometheus_target_scrapes_{what}_total") or 0.0


class Pools:
    """Asks the links of one job after the other.

    :param url: address of Prometheus: whether this is its host is told by it.
    :param note: is told of each link that was asked: its check, and what was good about it.
    """

    def __init__(self, facts: Facts, url: str, note: t.Callable[[str, str], None]) -> None:
        self.facts = facts
        self.note = note
        host = urllib.parse.urlsplit(url).hostname or ""
        self.here = host == "localhost" or port.is_local(host)
        self._knocks: dict[Door, port.Knock] = {}

    def first(self, job: str, subject: str) -> Finding | None:
        """The first link of a job that fails; None where samples of each of its targets are kept."""
        facts = self.facts
        targets = facts.targets(job)
        if job not in facts.jobs and not targets:
            return self._no_job(job, subject)
        self.note("scrape.pool", f"job {job} is configured")
        if not targets:
            return self._no_targets(job, subject)
        self.note("scrape.discovery", f"job {job} has {len(targets)} target(s)")
        return (
            self._over_limit(job, targets, subject)
            or self._down(job, targets, subject)
            or self._not_stored(job, targets, subject)
            or self._not_kept(job, targets, subject)
        )

    def broken(self) -> dict[str, Finding]:
        """The first link that fails of each job of which one does; doors are knocked at all at once."""
        doors = [_door(target, classify(target.error)[0]) for target in self.facts.discovery.active if target.error]
        wanted = [door for door in dict.fromkeys(doors) if door and door not in self._knocks]
        with concurrent.futures.ThreadPoolExecutor(KNOCKS) as pool:
            list(pool.map(self._knock, wanted[: KNOCKS - len(self._knocks)]))
        found = ((job, self.first(job, f"job {job}")) for job in self.facts.names)
        return {job: finding for job, finding in found if finding}

    def _no_job(self, job: str, subject: str) -> Finding:
        facts = self.facts
        near = nearest(job, facts.jobs)
        summary = about(subject, f"Prometheus has no scrape job {job}")
        remedy = "ansible-playbook site.yml\nThat writes the jobs; see scrape_configs in prometheus.yml, then reload."
        if near:
            summary += f"; there is {' and '.join(near)}"
        if not facts.loaded:
            summary += ". Its last reload was refused, so that a job in the file may not be loaded"
            remedy = "promtool check config prometheus.yml says what is wrong with it; then reload."
        evidence = {"jobs": sorted(facts.jobs), "last_reload_successful": facts.loaded}
        return Finding("scrape.pool", subject, "warning", f"{summary}.", evidence, remedy)

    def _no_targets(self, job: str, subject: str) -> Finding:
        facts = self.facts
        section = facts.jobs.get(job, "")
        dropped = [labels for labels in facts.discovery.dropped if labels.get("job") == job]
        count = max(facts.discovery.dropped_counts.get(job, 0), len(dropped))
        if count:
            rules = block(section, "relabel_configs")
            summary = about(subject, f"relabelling drops every target of job {job}, {count} of {count} discovered.")
            remedy = (
                "Compare relabel_configs of the job with the labels that were discovered, both in the evidence; "
                f"its page /targets?scrapePool={urllib.parse.quote(job)} shows them too."
            )
            evidence: dict[str, t.Any] = {"discovered_labels": dropped[:SHOWN], "relabel_configs": rules}
            return Finding("scrape.relabelling", subject, "warning", summary, evidence, remedy)
        failed = self._not_begun(job, section, subject)
        if failed:
            return failed
        kinds = re.findall(r"^  (\w+)_configs:", section, re.MULTILINE)
        ways = [kind for kind in kinds if kind == "static" or kind.endswith("_sd")]
        names = [name for way in ways for name in DISCOVERY_NAMES.get(way, ())]
        failures = {name: facts.own.value(name) for name in names if facts.own.value(name)}
        by = f"finds no target by {' and '.join(ways)}_configs" if ways else "has no way to find a target"
        summary = about(subject, f"job {job} {by}")
        if failures:
            summary += f" ({', '.join(f'{name} {value:.0f}' for name, value in failures.items())})"
        remedy = (
            "See that what it is to find is there: files that match and are JSON or YAML (file_sd), names that resolve "
            "(dns_sd), or targets in the list (static); the log of Prometheus says what discovery came upon."
        )
        evidence = {"discovery": ways, "failures": failures}
        return Finding("scrape.discovery", subject, "warning", f"{summary}.", evidence, remedy)

    def _not_begun(self, job: str, section: str, subject: str) -> Finding | None:
        """Where a file of its TLS cannot be read, Prometheus leaves the whole job out, and says so in its log alone."""
        failed = self.facts.own.value(POOLS_FAILED_NAME)
        files = re.findall(r"^ +(?:ca|cert|key)_file: (.+)$", section, re.MULTILINE)
        if not failed or job in self.facts.pools or not files:
            return None
        missing = [file for file in map(_scalar, files) if self.here and not os.access(file, os.R_OK)]
        if not missing and (self.here or "\n  static_configs:" not in section):
            return None
        named = f"{' and '.join(missing)} cannot be read" if missing else f"see {' and '.join(map(_scalar, files))}"
        summary = about(subject, f"Prometheus could not begin job {job}, whose tls_config names files: {named}.")
        remedy = "Put the file there, readable for the user of Prometheus, and reload; its log has the reason."
        evidence = {"files": files, "figures": {"pools_failed": failed}}
        return Finding("scrape.tls", subject, "warning", summary, evidence, remedy)

    def _down(self, job: str, targets: list[Target], subject: str) -> Finding | None:
        down = [target for target in targets if target.health == "down"]
        waiting = [target for target in targets if target.health not in ("up", "down")]
        if not down and len(waiting) == len(targets):
            interval = max((target.interval for target in targets), default=0.0)
            summary = about(subject, f"no target of job {job} has been scraped yet.")
            remedy = f"Ask again in {human_duration(interval) if interval else 'one scrape interval'}."
            return Finding("scrape.waiting", subject, "unknown", summary, {"targets": _rows(waiting)}, remedy)
        if not down:
            return None
        # Those that fail alike are told together, the most first.
        groups: dict[tuple[str, str], list[tuple[Target, Trouble, dict[str, str]]]] = {}
        for target in down:
            trouble, words = classify(target.error)
            kind = (trouble.pattern, "" if trouble.pattern else target.error)
            groups.setdefault(kind, []).append((target, trouble, words))
        group = max(groups.values(), key=len)
        target, trouble, words = group[0]
        reading, evidence = self._read(target, trouble, words)
        of = (
            f"{len(down)} of {len(targets)} targets of job {job} {'are' if len(down) > 1 else 'is'}"
            if len(targets) > 1
            else f"job {job} is"
        )
        others = f" and {len(group) - 1} more alike" if len(group) > 1 else ""
        summary = about(subject, f"{of} down ({place(target)}{others}): {reading.meaning}.")
        evidence = {
            "last_error": target.error,
            "url": target.url,
            "targets": _rows(down),
            "figures": {"targets_down": len(down), "targets": len(targets)},
            **evidence,
        }
        return Finding(reading.check, subject, trouble.severity, summary, evidence, reading.remedy)

    def _read(self, target: Target, trouble: Trouble, words: dict[str, str]) -> tuple[Reading, dict[str, t.Any]]:
        """What Prometheus says of a target that is down, with what this host can tell of its port; and the evidence."""
        _host, number, place = _place(target)
        known = {
            "url": target.url,
            "host": place,
            "timeout": human_duration(target.timeout) if target.timeout else "scrape_timeout",
            **words,
        }
        said = Reading(trouble.check, trouble.meaning.format(**known), trouble.remedy.format(**known))
        door = _door(target, trouble)
        knock = self._knock(door) if door else None
        if knock is None:
            return said, {}
        evidence: dict[str, t.Any] = {"connection_from_here": dataclasses.asdict(knock)}
        for look in (_as_tls, _as_unresolved, self._as_refused, self._as_silent):
            seen = look(knock, place, number, evidence)
            if seen:
                return seen, evidence
        if knock.state == "open" and trouble.check in ("scrape.port", "scrape.network"):
            beside = "; a connection from here is taken now, so ask again after one scrape interval"
        else:
            beside = (
                ", though it takes a connection" if knock.state == "open" and trouble.check == "scrape.speed" else ""
            )
        if not self.here:
            beside += " (seen from this host, which is not that of Prometheus)"
        return dataclasses.replace(said, meaning=said.meaning + beside), evidence

    def _knock(self, door: Door) -> port.Knock | None:
        if door not in self._knocks and len(self._knocks) < KNOCKS:
            host, number, ask_tls = door
            self._knocks[door] = port.knock(host, number, KNOCK_SECONDS, ask_tls)
        return self._knocks.get(door)

    def _as_refused(self, knock: port.Knock, place: str, number: int, evidence: dict[str, t.Any]) -> Reading | None:
        """Nothing listens there: its service does not run, or it listens elsewhere."""
        if knock.state != "refused" or not knock.local:
            return None
        listening = evidence["listening"] = port.listeners(number)
        if listening:
            where = ", ".join(f"{address}:{number}" for address in listening)
            return Reading(
                "scrape.port",
                f"something listens on {where} only, and Prometheus asks another address",
                "Let the service listen on the address that Prometheus asks (--bind-host, with a token), or let "
                "Prometheus ask the one that it listens on.",
            )
        unit = _unit(number)
        if unit is None:
            return None
        evidence["unit"] = dataclasses.asdict(unit)
        if not unit.installed or unit.runs:
            return None
        return Reading(
            "scrape.service",
            f"nothing listens there, because {unit}",
            f"journalctl -u {unit.name} -n 100; systemctl start {unit.name}",
        )

    def _as_silent(self, knock: port.Knock, place: str, number: int, evidence: dict[str, t.Any]) -> Reading | None:
        """No connection comes about: a firewall, a host that is away, or a process that hangs."""
        if knock.state not in ("silent", "unreachable"):
            return None
        wall = port.firewall(number, PROGRAM_SECONDS) if knock.local else None
        if wall:
            evidence["firewall"] = dataclasses.asdict(wall)
        if wall and wall.action != "accept":
            may = "keeps" if wall.action == "deny" else "may keep"
            return Reading(
                "scrape.firewall",
                f"no connection comes about ({knock.reason}), and {wall.program} {may} others from port "
                f"{number}: {'; '.join(wall.rules[-2:])}",
                f"Let the host of Prometheus in: ufw allow from ADDRESS to any port {number} proto tcp, or the like in "
                "what writes the rules.",
            )
        listening = port.listeners(number) if knock.local else []
        if listening:
            return Reading(
                "scrape.service",
                "the process that listens there takes no connection: it hangs, or has too many waiting",
                f"ss -ltnp 'sport = :{number}' shows it and its queue; restart it, its log may say why.",
            )
        return Reading(
            "scrape.network",
            f"no connection comes about ({knock.reason}): its host is away, or a firewall drops it",
            f"nc -vz {place.rpartition(':')[0]} {number} from here; on its host "
            "ansible-playbook troubleshoot-missing-metrics.yml reads the firewall.",
        )

    def _not_stored(self, job: str, targets: list[Target], subject: str) -> Finding | None:
        """Where it cannot write, Prometheus goes on to scrape, and says of every target that it is up."""
        facts = self.facts
        for target in targets:
            stored = facts.stored.get(key(target.labels), 0.0)
            if target.health != "up" or target.scraped is None:
                continue
            if target.scraped - stored <= max(3 * target.interval, 2.0):
                continue
            failed = facts.own.value(STORAGE_NAME) or 0.0
            since = f"for {human_duration(facts.now - stored)}" if stored else "yet"
            why = f": {failed:.0f} writes to its log failed" if failed else ""
            summary = about(
                subject, f"Prometheus scrapes {place(target)} (job {job}), and has stored none of it {since}{why}."
            )
            remedy = (
                "df -h; df -i; journalctl -u prometheus -n 100\nThe log says why (no space left on device, read-only "
                "file system); look at its data directory. maintenance-weekly.yml says what takes the room."
            )
            evidence = {
                "query": "timestamp(up)",
                "last_scrape": target.scraped,
                "last_stored": stored or None,
                "figures": {"log_writes_failed": failed},
            }
            return Finding("scrape.storage", subject, "critical", summary, evidence, remedy)
        return None

    def _over_limit(self, job: str, targets: list[Target], subject: str) -> Finding | None:
        """By the counts, whether it looks up or down: 2.53 says both in turn, and no reason."""
        for target in targets:
            limit = int(setting(self.facts.jobs.get(target.pool, ""), "sample_limit") or 0)
            kept = self.facts.count(target, "scrape_samples_post_metric_relabeling") or 0.0
            if not limit or kept <= limit:
                continue
            share = self.facts.success.get(key(target.labels), 1.0)
            evidence = {
                "figures": {"kept_samples": kept},
                "sample_limit": limit,
                "successful_scrapes_share": round(share, 3),
                "last_error": target.error,
                "url": target.url,
            }
            summary = about(
                subject,
                f"{place(target)} (job {job}) has {kept:.0f} samples, and sample_limit is {limit}: the whole scrape is "
                "dropped, though it may look up at times.",
            )
            remedy = "Find what grew (ansible-playbook troubleshoot-cardinality.yml), or raise sample_limit of the job."
            return Finding("scrape.limit", subject, "warning", summary, evidence, remedy)
        return None

    def _not_kept(self, job: str, targets: list[Target], subject: str) -> Finding | None:
        facts = self.facts
        for target in targets:
            scraped = facts.count(target, "scrape_samples_scraped")
            kept = facts.count(target, "scrape_samples_post_metric_relabeling")
            if scraped is None or kept is None or target.health != "up":
                continue
            counts: dict[str, t.Any] = {
                "figures": {"scraped_samples": scraped, "kept_samples": kept},
                "url": target.url,
            }
            if not scraped:
                return Finding(
                    "scrape.empty",
                    subject,
                    "warning",
                    about(subject, f"{place(target)} (job {job}) is up, and its page has not one sample."),
                    counts,
                    f"curl -i {target.url}; is it the path of the exporter, and has it anything to tell?",
                )
            if not kept:
                counts["metric_relabel_configs"] = block(facts.jobs.get(job, ""), "metric_relabel_configs")
                return Finding(
                    "scrape.relabelling",
                    subject,
                    "warning",
                    about(
                        subject,
                        f"metric relabelling drops each of the {scraped:.0f} samples of {place(target)} (job {job}).",
                    ),
                    counts,
                    "Correct metric_relabel_configs of the job, which are in the evidence, and reload.",
                )
        self.note("scrape.target", f"job {job}: samples of {len(targets)} target(s) are kept")
        return self._flapping(job, targets, subject)

    def _flapping(self, job: str, targets: list[Target], subject: str) -> Finding | None:
        """Up now, but not at each of the last scrapes."""
        share, target = min(
            ((self.facts.success.get(key(target.labels), 1.0), target) for target in targets), key=lambda pair: pair[0]
        )
        if share >= FLAPPING_SHARE:
            return None
        summary = about(
            subject,
            f"{place(target)} (job {job}) is up now, but only {share:.0%} of its scrapes of the last "
            f"{human_duration(RECENT)} were successful.",
        )
        remedy = "Ask again while it is down: then Prometheus says why. The log of the target may have it."
        evidence = {"query": f"avg_over_time(up[{RECENT:.0f}s])", "successful_scrapes_share": round(share, 3)}
        return Finding("scrape.flapping", subject, "info", summary, evidence, remedy)


# Below it a target that is up now is worth a word.
FLAPPING_SHARE = 0.9


def _as_tls(knock: port.Knock, place: str, number: int, evidence: dict[str, t.Any]) -> Reading | None:
    if not knock.tls:
        return None
    return Reading(
        "scrape.tls",
        "Prometheus speaks plain HTTP, and the target speaks TLS",
        "Set scheme: https in the scrape job, and tls_config with the authority of its certificate.",
    )


def _as_unresolved(knock: port.Knock, place: str, number: int, evidence: dict[str, t.Any]) -> Reading | None:
    """A resolver that does not answer takes longer than a scrape may, and then Prometheus says no more than that."""
    if knock.state != "unresolved":
        return None
    name = place.rpartition(":")[0]
    return Reading(
        "scrape.resolve",
        f"no answer came in time, and the name {name} does not resolve from here ({knock.reason})",
        f"getent hosts {name} on the host of Prometheus; then its resolver, or the name in the scrape job.",
    )


def _door(target: Target, trouble: Trouble) -> Door | None:
    """Where to knock; None where that tells no more than Prometheus said."""
    host, number, _both = _place(target)
    # A status says that somebody answers; only a 400 may mean that it wanted TLS.
    if not trouble.knock or not number or re.search(r"HTTP status (?!400)", target.error):
        return None
    return host, number, trouble.check == "scrape.application" and target.url.startswith("http:")


@functools.lru_cache(maxsize=None)
def _unit(number: int) -> Unit | None:
    """The unit of the service that usually has this port; None where there is no such, or systemd cannot be asked."""
    for service in SERVICES.values():
        if service.url and urllib.parse.urlsplit(service.url).port == number:
            units = show_units([service.unit], PROGRAM_SECONDS)
            return None if isinstance(units, str) else units[service.unit]
    return None


def _place(target: Target) -> tuple[str, int, str]:
    """Host, port and both as one."""
    parts = urllib.parse.urlsplit(target.url)
    host = parts.hostname or ""
    number = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return host, number, f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def place(target: Target) -> str:
    return _place(target)[2]


def _rows(targets: list[Target]) -> list[dict[str, t.Any]]:
    now = time.time()
    return [
        {
            "job": target.pool,
            "url": target.url,
            "last_error": target.error,
            "last_scrape_seconds_ago": None if target.scraped is None else round(now - target.scraped, 1),
        }
        for target in targets[:SHOWN]
    ]
