# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""How every service is, asked of all at once: its unit, its port, and what the answer is worth.

A service is a row of :data:`SERVICES`. Its links are asked in order; the first that fails is the finding, since what
comes after it would only repeat it. What does not stop the next link (a certificate that ends soon, a silent bus) is a
finding beside it. A service of which nothing is to be said gives one finding, ``service.health``.

Source: the runbook's "Service Health Checks", and what its commands do not see: ``/-/healthy`` says yes while queries
fail, and a program that prints a 401 ends with 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import queue
import socket
import threading
import time
import typing as t
import urllib.parse

from ._exposition import TEXT_FORMAT, Exposition, ExpositionError, html_title, parse
from ._finding import Finding, rank, worst
from ._http import (
    Answer,
    HttpError,
    Refused,
    Server,
    Unauthorised,
    Unreachable,
    Unreadable,
    Unsupported,
    Untrusted,
    first_line,
)
from ._prometheus import Prometheus
from ._systemd import Unit, show_units
from ._units import human_duration

T = t.TypeVar("T")

DAY = 86400.0
CERTIFICATE_WARNING = 21 * DAY
CERTIFICATE_CRITICAL = 3 * DAY
# A bus of trading services is never still for so long; after a start it may be.
SILENCE = 300.0
# A unit that was restarted within this time may be restarted again.
FLAPPING = 3600.0
PAUSE = 1.0
MOST_SHOWN = 20
# Asking again does not change them.
LASTING = ("service.configuration", "service.systemd")


class SomethingElse(Unsupported):
    """Another program answers in the place of the one that was meant."""


@dataclasses.dataclass(frozen=True)
class Service:
    """
    :param title: as an operator calls it.
    :param down: severity of its being down, as someone on call ranks it.
    :param url: its address unless said; None where such a service need not be there.
    :param links: what is asked of it in this order, each under the name of its check; none where it has no port.
    :param namespace: its metric ``<namespace>_build_info`` tells what it is.
    :param not_ready: what to do when it answers, but is not ready.
    """

    name: str
    title: str
    unit: str
    down: str
    url: str | None = None
    links: tuple[tuple[str, t.Callable[[Visit], None]], ...] = ()
    namespace: str = ""
    not_ready: str = ""


class Visit:
    """One service is asked, link by link.

    ``data`` is what came back, typed; ``facts`` say in words what was good.
    """

    def __init__(self, service: Service, unit: str, server: Server, deadline: float) -> None:
        self.service = service
        self.unit = unit
        self.data: dict[str, t.Any] = {"url": server.url, "answers": False}
        self.facts: list[str] = []
        self.findings: list[Finding] = []
        self.whole = False
        self.exposition = Exposition()
        self._server = server
        self._deadline = deadline

    @property
    def server(self) -> Server:
        """The server, with what is left of the time for it."""
        left = self._deadline - time.monotonic()
        return dataclasses.replace(self._server, timeout=max(min(self._server.timeout, left), 0.001))

    def get(self, path: str, accept: str = "*/*") -> Answer:
        answer = self.server.get(path, accept=accept)
        self.data.update(answers=True, status=answer.status)
        if answer.certificate_ends is not None:
            self.data["certificate_ends"] = answer.certificate_ends
        return answer

    def value(self, name: str) -> float | None:
        return self.exposition.value(f"{self.service.namespace}_{name}")

    def add(self, check: str, severity: str, summary: str, remedy: str, **evidence: t.Any) -> None:
        self.findings.append(Finding(check, self.service.name, severity, summary, evidence, remedy))

    def ask(self) -> Visit:
        """Asks every link, until one fails; returns itself."""
        start = time.monotonic()
        self.whole = all(self._passes(check, link) for check, link in self.service.links)
        self.data["seconds"] = round(time.monotonic() - start, 4)
        _certificate(self)
        return self

    def knock(self) -> Visit:
        """Whether anything is behind the port, where nothing is to be; returns itself."""
        server = self.server
        parts = urllib.parse.urlsplit(server.url)
        start = time.monotonic()
        try:
            address = (str(parts.hostname), parts.port or {"http": 80, "https": 443}[parts.scheme])
            socket.create_connection(address, timeout=server.timeout).close()
        except ConnectionRefusedError:
            self.facts.append("its port refuses")
        except (OSError, UnicodeError) as error:
            text = f"Whether {self.service.title} still answers at {server.url} is not known: {error}"
            self.add("service.port", "unknown", text, f"Is {self.service.name}_url right?", came_back=str(error))
        else:
            self.data["answers"] = True
            text = f"{self.service.title} was to be stopped, but its port still answers: {server.url}"
            self.add("service.port", "critical", text, "ss -ltnp shows which process has the port; end it")
        self.data["seconds"] = round(time.monotonic() - start, 4)
        return self

    def late(self, timeout: float) -> Visit:
        """Itself as new, with the only finding that nothing came back in time."""
        visit = Visit(self.service, self.unit, self._server, self._deadline)
        visit.data["seconds"] = timeout
        visit._failed(
            "service.port", Unreachable(self._server.url, f"no whole answer within {human_duration(timeout)}")
        )
        return visit

    def _passes(self, check: str, link: t.Callable[[Visit], None]) -> bool:
        try:
            link(self)
        except HttpError as error:
            self._failed(check, error)
            return False
        return True

    def _failed(self, check: str, error: HttpError) -> None:
        if isinstance(error, Unreachable) and not self.data["answers"]:
            check = "service.port"
        if error.status is not None:
            self.data.update(answers=True, status=error.status)
        trouble = next(trouble for trouble in TROUBLES if isinstance(error, trouble.error))
        check = trouble.check or check
        remedy = trouble.remedy
        if check == "service.ready" and isinstance(error, Refused) and self.service.not_ready:
            remedy = self.service.not_ready
        self.add(
            check,
            trouble.severity or self.service.down,
            f"{self.service.title} {trouble.complaint or COMPLAINTS[check]}: {error}",
            remedy.format(name=self.service.name, unit=self.unit, url=self.data["url"]),
            asked=error.asked,
            came_back=error.came_back,
            status=error.status,
        )


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What an error means for the one who is on call; empty fields are the link's and the service's own."""

    error: type[HttpError]
    remedy: str
    complaint: str = ""
    severity: str = ""
    check: str = ""


LOOK = "systemctl status {unit}; journalctl -u {unit} -n 100"
TROUBLES = (
    Trouble(
        Untrusted,
        "Renew its certificate, or name the authority that signed it in {name}_ca_path",
        check="service.certificate",
        complaint="shows a certificate that is not trusted",
    ),
    Trouble(
        Unreachable,
        LOOK + "; is {name}_url right: {url}, its port, and https:// only where it speaks TLS?",
    ),
    Trouble(
        Unauthorised,
        "Name a file with its token in {name}_token_file, or give {name}_username and {name}_password_file",
        complaint="wants to know who asks",
        severity="unknown",
    ),
    Trouble(
        SomethingElse,
        "Let {name}_url point at {name}; now it is {url}",
        complaint="is not what answers",
        severity="unknown",
        check="service.identity",
    ),
    Trouble(
        Unsupported,
        "Does {name}_url point at {name}, with its path prefix? Now it is {url}",
        complaint="does not know what was asked",
        severity="unknown",
    ),
    Trouble(HttpError, LOOK + "; is {url} really {name}?"),
)
COMPLAINTS = {
    "service.port": "does not answer",
    "service.ready": "is not ready",
    "service.scrape": "gives no metrics that Prometheus would take",
    "service.page": "gives no page",
    "service.targets": "does not say how its targets are",
}


# Links: each asks one thing, and raises HttpError where it gets no answer.


def _ready(visit: Visit) -> None:
    visit.get("/-/ready")
    visit.facts.append("ready")


def _page(visit: Visit) -> None:
    answer = visit.get("/")
    title = html_title(answer.body)
    if title is None:
        raise Unreadable(answer.asked, f"no HTML page but {first_line(answer.text)!r}", answer.status)
    visit.facts.append(f"a page titled {title!r}")


def _database(visit: Visit) -> None:
    answer = visit.get("/api/health")
    health = answer.json()
    if not isinstance(health, dict) or health.get("database") != "ok":
        raise Refused(answer.asked, f"its database is not ok: {first_line(answer.text)!r}", answer.status)
    visit.data["version"] = str(health.get("version", ""))
    visit.facts.append("database ok")


def _scrape(visit: Visit) -> None:
    answer = visit.get("/metrics", TEXT_FORMAT)
    title = html_title(answer.body)
    if title is not None:
        raise Unreadable(answer.asked, f"an HTML page titled {title!r} instead of metrics", answer.status)
    content_type = answer.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "text/plain":
        raise Unreadable(answer.asked, f"Content-Type {content_type!r} instead of text/plain", answer.status)
    namespace = visit.service.namespace
    wanted = {f"{namespace}_{name}" for name in WANTED} | {"process_start_time_seconds"}
    try:
        found = parse(answer.body, wanted)
    except ExpositionError as error:
        raise Unreadable(answer.asked, f"not the text format of Prometheus: {error}", answer.status) from error
    if not found.samples:
        raise Unreadable(answer.asked, "an exposition without a single sample", answer.status)
    visit.exposition = found
    visit.data.update(samples=found.samples, families=len(found.families))
    visit.facts.append(f"{found.samples} samples")
    build = found.kept.get(f"{namespace}_build_info")
    if not build:
        others = [name for name in found.families if name.endswith("_build_info") and name != "go_build_info"]
        seems = "VictoriaMetrics" if "vm_app_version" in found.families else ", ".join(others) or "nothing we know"
        text = f"no {namespace}_build_info among {found.samples} samples; by them it is {seems}"
        raise SomethingElse(answer.asked, text, answer.status)
    visit.data["version"] = build[0][0].get("version", "")


# Metrics of a service's own namespace that the links below read.
WANTED = (
    "build_info",
    "config_last_reload_successful",
    "config_last_reload_success_timestamp_seconds",
    "last_message_timestamp_seconds",
)


def _reload(visit: Visit) -> None:
    good = visit.value("config_last_reload_successful")
    at = visit.value("config_last_reload_success_timestamp_seconds")
    title, unit = visit.service.title, visit.unit
    if good is None or at is None:
        visit.add(
            "service.reload",
            "unknown",
            f"{title} does not say whether it could load its configuration",
            f"journalctl -u {unit} -n 100",
        )
        return
    loaded = f"configuration loaded {human_duration(time.time() - at)} ago"
    visit.data.update(last_reload_successful=bool(good), last_reload=at)
    if good:
        visit.facts.append(loaded)
    else:
        visit.add(
            "service.reload",
            "critical",
            f"{title} refused its configuration at the last reload and runs on the old one ({loaded}); "
            "a restart would fail",
            f"journalctl -u {unit} says what is wrong; correct the file, then systemctl reload {unit}",
            last_reload=at,
        )


def _targets(visit: Visit) -> None:
    targets = Prometheus(visit.server).targets()
    by_health = {health: [target for target in targets if target.health == health] for health in ("up", "down")}
    up, down = by_health["up"], by_health["down"]
    waiting = len(targets) - len(up) - len(down)
    counts = {"up": len(up), "down": len(down), "not_scraped_yet": waiting}
    visit.data["targets"] = counts
    title = visit.service.title
    if not targets:
        visit.add(
            "service.targets",
            "warning",
            f"{title} has no target: it scrapes nothing",
            "Look at scrape_configs in its configuration; ansible-playbook site.yml writes it",
            targets=counts,
        )
    elif down:
        listed = [
            {"job": target.labels.get("job", ""), "url": target.url, "error": target.error}
            for target in down[:MOST_SHOWN]
        ]
        names = "; ".join(f"{row['job']} {row['url']}: {row['error']}" for row in listed[:3])
        more = f"; and {len(down) - 3} more" if len(down) > 3 else ""
        visit.add(
            "service.targets",
            "warning",
            f"{len(down)} of {len(targets)} targets of {title} are down: {names}{more}",
            "ansible-playbook service-health.yml on the hosts of the targets; the error says which link is broken",
            targets=counts,
            down=listed,
        )
    elif waiting:
        # A fresh pool is scraped within one interval; longer than that is odd.
        fresh = time.time() - (visit.data.get("last_reload") or 0.0) < SILENCE
        visit.add(
            "service.targets",
            "info" if fresh else "unknown",
            f"{waiting} of {len(targets)} targets of {title} have not been scraped yet",
            "Ask again after one scrape interval",
            targets=counts,
        )
    else:
        visit.facts.append(f"{len(up)} of {len(targets)} targets up")


def _bus(visit: Visit) -> None:
    last = visit.value("last_message_timestamp_seconds")
    start = visit.exposition.value("process_start_time_seconds")
    if last is None or start is None:
        visit.add(
            "service.bus",
            "unknown",
            f"{visit.service.title} does not say when the last message of the bus came",
            "ansible-playbook site.yml brings the exporter of this collection",
        )
        return
    now = time.time()
    visit.data["last_message"] = last or None
    still = now - (last or start)
    said = f"the last message of the bus came {human_duration(still)} ago"
    if not last:
        said = f"no message of the bus has come since its start {human_duration(still)} ago"
    if last and still < SILENCE:
        visit.facts.append(said)
        return
    visit.add(
        "service.bus",
        "info" if still < SILENCE else "warning",
        f"{visit.service.title}: {said}",
        "Is NJORD_ENABLE_METRICS=1 in the environment of the trading services, and do they use the same Redis? "
        "redis-cli subscribe telemetry.metrics shows what is published",
        last_message=last or None,
        figures={"bus_silence_seconds": round(still, 1)},
    )


def _certificate(visit: Visit) -> None:
    ends = visit.data.get("certificate_ends")
    if ends is None:
        return
    left = ends - time.time()
    if left >= CERTIFICATE_WARNING:
        visit.facts.append(f"certificate ends in {human_duration(left)}")
        return
    visit.add(
        "service.certificate",
        "critical" if left < CERTIFICATE_CRITICAL else "warning",
        f"The certificate of {visit.service.title} ends in {human_duration(left)}",
        "Renew it; then nobody can ask this service any more",
        certificate_ends=ends,
        figures={"certificate_left_seconds": round(left)},
    )


SERVICES = {
    service.name: service
    for service in (
        Service(
            "exporter",
            "Exporter",
            "njord-prometheus-exporter",
            "critical",
            "http://127.0.0.1:9091",
            (("service.ready", _ready), ("service.scrape", _scrape), ("service.bus", _bus)),
            "njord_exporter",
            not_ready="Its answer says why; is Redis there (redis-cli ping)? journalctl -u {unit} -n 100",
        ),
        # What is published while it is down is in no journal.
        Service("aggregator", "Aggregator", "njord-metric-aggregator", "critical"),
        Service("dashboard", "Dashboard", "njord-dashboard", "warning", None, (("service.page", _page),)),
        Service(
            "prometheus",
            "Prometheus",
            "prometheus",
            "critical",
            "http://127.0.0.1:9090",
            (
                ("service.ready", _ready),
                ("service.scrape", _scrape),
                ("service.reload", _reload),
                ("service.targets", _targets),
            ),
            "prometheus",
            not_ready="After a start it replays its write-ahead log, and queries fail until it is done: "
            "journalctl -u {unit} -f shows how far it is",
        ),
        Service(
            "node_exporter",
            "node_exporter",
            "prometheus-node-exporter",
            "warning",
            "http://127.0.0.1:9100",
            (("service.scrape", _scrape),),
            "node_exporter",
        ),
        Service(
            "alertmanager",
            "Alertmanager",
            "prometheus-alertmanager",
            "critical",
            None,
            (("service.ready", _ready), ("service.scrape", _scrape), ("service.reload", _reload)),
            "alertmanager",
        ),
        Service("grafana", "Grafana", "grafana-server", "warning", None, (("service.page", _database),)),
    )
}


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked.

    :param services: their names.
    :param servers: by name of the service; one without is not configured.
    :param units: by name of the service, where the unit is not the usual one.
    :param stopped: whether they are to be stopped instead of running.
    :param installing: in Ansible's check mode, what is not there yet is no fault.
    """

    services: t.Sequence[str]
    servers: t.Mapping[str, Server]
    units: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    stopped: bool = False
    installing: bool = False


@dataclasses.dataclass
class Health:
    """The answer. :param services: by name, what is known of it. :param rounds: how often they were asked."""

    findings: list[Finding]
    services: dict[str, dict[str, t.Any]]
    rounds: int = 1
    seconds: float = 0.0


def check(question: Question, wait: float = 0.0) -> Health:
    """How they are; asked again for ``wait`` seconds, until nothing is worse than info."""
    start = time.monotonic()
    rounds = 0
    while True:
        health = _round(question)
        rounds += 1
        passing = [finding.severity for finding in health.findings if finding.check not in LASTING]
        left = start + wait - time.monotonic()
        if left <= 0 or rank(worst([*passing, "ok"])) <= rank("info"):
            return dataclasses.replace(health, rounds=rounds, seconds=round(time.monotonic() - start, 4))
        time.sleep(min(PAUSE, left))


def _round(question: Question) -> Health:
    """All of them once, at the same time; the longest time-out of a server is the time for all."""
    timeout = max((server.timeout for server in question.servers.values()), default=10.0)
    deadline = time.monotonic() + timeout
    asked = [SERVICES[name] for name in question.services]
    names = {service.name: question.units.get(service.name) or service.unit for service in asked}
    calls: dict[str, t.Callable[[], t.Any]] = {"systemctl": functools.partial(show_units, names.values(), timeout)}
    visits: dict[str, Visit] = {}
    for service in asked:
        server = question.servers.get(service.name)
        if server:
            visits[service.name] = Visit(service, names[service.name], server, deadline)
            calls[service.name] = visits[service.name].knock if question.stopped else visits[service.name].ask
    # Servers end in time by themselves; a name may be looked up for ever, and what then comes is no longer looked at.
    answers = _at_once(calls, deadline + 0.5)
    for name, visit in visits.items():
        if name not in answers:
            visits[name] = visit.late(timeout)
    units = answers.get("systemctl", f"no answer within {human_duration(timeout)}")
    health = Health([], {})
    if isinstance(units, str):
        health.findings.append(
            Finding(
                "service.systemd",
                "systemd",
                "unknown",
                f"systemd could not be asked which units run: {units}",
                {"came_back": units},
                "Is systemd the service manager of this host? What runs in containers answers by its port alone",
            )
        )
    judge = _stopped if question.stopped else _running
    for service in asked:
        unit = None if isinstance(units, str) else units[names[service.name]]
        seen = visits.get(service.name)
        state, findings = judge(service, names[service.name], unit, seen, question)
        known = {"unit": dataclasses.asdict(unit) if unit else {"name": names[service.name]}}
        health.services[service.name] = {"state": state, **(seen.data if seen else {}), **known}
        health.findings += [
            dataclasses.replace(finding, evidence={**known, **_measured(seen), **finding.evidence})
            for finding in findings
        ]
    return health


Judgement = t.Tuple[str, t.List[Finding]]


def _running(service: Service, name: str, unit: Unit | None, visit: Visit | None, question: Question) -> Judgement:
    """The state of a service that is to run, and what is to be said of it."""
    title = service.title
    if service.links and visit is None:
        return "not configured", [_not_configured(service)]
    answers = visit is not None and visit.data["answers"]
    findings = list(visit.findings) if visit else []
    look = f"systemctl status {name}; journalctl -u {name} -n 100; ansible-playbook service-start.yml starts it"
    if unit is None and visit is None:
        return "unknown", [_not_asked(service, name)]
    if unit and not unit.installed:
        if not service.links and service.name not in question.units:
            return "not configured", [_not_configured(service)]
        if answers:
            text = f"{title} answers, but there is no unit {name}: something else runs it"
            findings.insert(0, _unit(service, "warning", text, f"Name its unit in units: {{{service.name}: …}}"))
        else:
            text = f"{title}: not installed yet" if question.installing else f"{title} is not installed: no unit {name}"
            severity = "unknown" if question.installing else "critical"
            remedy = f"ansible-playbook site.yml installs it; another unit is named in units: {{{service.name}: …}}"
            return "not installed", [_unit(service, severity, text, remedy)]
    elif unit and not unit.runs:
        if not answers:
            return "stopped", [_unit(service, service.down, f"{title} is down: {unit}", look)]
        text = f"{unit}, and yet something answers in the place of {title}: another process has its port"
        findings.insert(0, _unit(service, service.down, text, f"ss -ltnp shows whose port it is; {look}"))
    elif unit and unit.restarts and time.time() - unit.since < FLAPPING:
        findings.append(_unit(service, "warning", f"{title} does not stay up: {unit}", look))
    well = (visit is None or visit.whole) and (unit is None or unit.runs or not unit.installed)
    if not findings:
        facts = [*([str(unit)] if unit else []), *(visit.facts if visit else [])]
        version = f" {visit.data['version']}" if visit and visit.data.get("version") else ""
        seconds = f" in {human_duration(visit.data['seconds'])}" if visit else ""
        text = f"{title}{version} is well{seconds}: {', '.join(facts)}"
        findings.append(Finding("service.health", service.name, "ok", text))
    return "running" if well else "failing", findings


def _stopped(service: Service, name: str, unit: Unit | None, visit: Visit | None, question: Question) -> Judgement:
    """The state of a service that is to be stopped, and what is to be said of it."""
    title = service.title
    findings = list(visit.findings) if visit else []
    if unit and (unit.runs or unit.pid or unit.active not in ("inactive", "failed")):
        remedy = f"systemctl stop {name}; systemctl status {name}; ansible-playbook service-stop.yml does it in order"
        findings.insert(0, _unit(service, "critical", f"{title} was to be stopped: {unit}", remedy))
        return "running", findings
    if findings:
        return "failing", findings
    if unit is None:
        return "unknown", [_not_asked(service, name)]
    if unit.active == "failed":
        remedy = f"journalctl -u {name} -n 100 says why; systemctl reset-failed {name}"
        return "stopped", [_unit(service, "warning", f"{title} is stopped, but did not end well: {unit}", remedy)]
    facts = [f"no unit {name}" if not unit.installed else str(unit), "no process", *(visit.facts if visit else [])]
    return "stopped", [Finding("service.health", service.name, "ok", f"{title} is stopped: {', '.join(facts)}")]


def _unit(service: Service, severity: str, summary: str, remedy: str) -> Finding:
    return Finding("service.unit", service.name, severity, summary, {}, remedy)


def _not_configured(service: Service) -> Finding:
    lacks = "its address is not known" if service.links else "it has no unit"
    return Finding(
        "service.configuration",
        service.name,
        "unknown",
        f"{service.title}: not configured, {lacks}",
        {},
        # The same for all, so that a report shows one step.
        "Where it runs, give its address (telemetry_dashboard_url, telemetry_alertmanager_url, telemetry_grafana_url) "
        "or its unit (telemetry_units). Where there is none, list the others in telemetry_services.",
    )


def _not_asked(service: Service, name: str) -> Finding:
    return Finding(
        "service.systemd",
        service.name,
        "unknown",
        f"{service.title}: whether unit {name} runs could not be asked",
        {},
        f"systemctl status {name}",
    )


def _measured(visit: Visit | None) -> dict[str, t.Any]:
    return {key: visit.data[key] for key in ("url", "seconds") if key in visit.data} if visit else {}


def _at_once(calls: t.Mapping[str, t.Callable[[], t.Any]], deadline: float) -> dict[str, t.Any]:
    """What each call returns, by its name; a call that is not back at the deadline is left behind and not in it.

    :raises Exception: what a call raised.
    """
    back: queue.Queue[tuple[str, t.Any, BaseException | None]] = queue.Queue()

    def run(name: str, call: t.Callable[[], t.Any]) -> None:
        try:
            back.put((name, call(), None))
        except BaseException as error:
            back.put((name, None, error))

    for name, call in calls.items():
        threading.Thread(target=run, args=(name, call), daemon=True).start()
    answers: dict[str, t.Any] = {}
    with contextlib.suppress(queue.Empty):
        while len(answers) < len(calls):
            name, answer, error = back.get(timeout=max(deadline - time.monotonic(), 0))
            if error:
                raise error
            answers[name] = answer
    return answers
