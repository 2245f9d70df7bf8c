# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A port, looked at from this host: whether it takes a connection, who listens on it, and what a firewall says.

Of a firewall its rules are read, no packet is sent to try them: what depends on more than the port (an address, an
interface, the state of a connection) is told as a condition, never as a yes.

Sources: ufw(8), nft(8) and libnftables-json(5), iptables(8); proc(5) for /proc/net/tcp.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import ssl
import subprocess
import time
import typing as t
from pathlib import Path

# A rule set of a container host has hundreds of chains; a ring of them is no chain.
DEPTH = 16
RULES = 5
LISTEN = "0A"


@dataclasses.dataclass(frozen=True)
class Knock:
    """What a connection to a port gave.

    :param state: ``open``, ``refused``, ``silent`` (no answer in time), ``unresolved`` or ``unreachable``.
    :param local: whether the address is one of this host.
    :param tls: whether it speaks TLS; None where that was not asked.
    :param reason: the system's own words.
    """

    state: str
    local: bool
    reason: str = ""
    tls: bool | None = None


@dataclasses.dataclass(frozen=True)
class Firewall:
    """What the rules of this host say of a port. :param action: ``accept``, ``deny`` or ``condition``."""

    program: str
    action: str
    rules: list[str]


def knock(host: str, port: int, timeout: float, ask_tls: bool = False) -> Knock:
    """A connection, closed at once. :param timeout: in seconds; a name may be looked up for longer."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        return Knock("unresolved", False, str(error))
    local = is_local(str(address[0]))
    try:
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(timeout)
            sock.connect(address)
            return Knock("open", local, tls=_speaks_tls(sock) if ask_tls else None)
    except socket.timeout:
        return Knock("silent", local, f"no answer within {timeout:g} s")
    except ConnectionRefusedError as error:
        return Knock("refused", local, str(error))
    except OSError as error:
        return Knock("unreachable", local, str(error))


def _speaks_tls(sock: socket.socket) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.wrap_socket(sock).close()
    except ssl.SSLError as error:
        # Whoever sends an alert (a certificate is wanted, a protocol is too old) speaks TLS.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True


def is_local(address: str) -> bool:
    """Whether an address is one of this host: only then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return True
    return False


def listeners(port: int, root: Path = Path("/proc/net")) -> list[str]:
    """Addresses of this host on which something listens on the port; ``0.0.0.0`` and ``::`` are all of them."""
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            for line in (root / name).read_text("ascii").splitlines()[1:]:
                address, number = line.split()[1].split(":")
                if line.split()[3] == LISTEN and int(number, 16) == port:
                    # Words of 32 bits, each in the order of bytes of this host.
                    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                    found.append(socket.inet_ntop(family, b"".join(words)))
    return sorted(set(found))


def firewall(port: int, timeout: float) -> Firewall | None:
    """What the first of ufw, nft and iptables that is there says of a TCP port that is asked from elsewhere.

    None where none of them could be asked; whoever is not root cannot.
    """
    deadline = time.monotonic() + timeout
    verdicts = []
    for program, arguments, read in (
        ("ufw", ("status", "verbose"), ufw),
        ("nft", ("-j", "list", "ruleset"), nft),
        ("iptables", ("-S",), iptables),
    ):
        said = _run([program, *arguments], deadline)
        found = read(said, port) if said is not None else None
        if found and found.action == "deny":
            return found
        verdicts += [found] if found else []
    conditions = [verdict for verdict in verdicts if verdict.action == "condition"]
    return next(iter(conditions or verdicts), None)


def _run(command: list[str], deadline: float) -> str | None:
    """What a command of the host says; None where it is not there, fails, or takes too long."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C", "PATH": path},
            timeout=max(deadline - time.monotonic(), 0.1),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


# ufw


def ufw(status: str, port: int) -> Firewall | None:
    """From ``ufw status verbose``; None where it is not active."""
    if not re.search(r"^Status: active", status, re.MULTILINE):
        return None
    for line in status.splitlines():
        found = re.match(r"(?P<to>\S.*?)\s{2,}(?P<action>ALLOW|LIMIT|DENY|REJECT)(?: IN)?\s{2,}(?P<source>\S.*)", line)
        if not found or not _ufw_port(found["to"], port):
            continue
        if not found["source"].startswith("Anywhere"):
            return Firewall("ufw", "condition", [line.strip()])
        return Firewall("ufw", "accept" if found["action"] in ("ALLOW", "LIMIT") else "deny", [line.strip()])
    default = re.search(r"^Default: (\w+) \(incoming\).*", status, re.MULTILINE)
    if not default:
        return None
    return Firewall("ufw", "accept" if default[1] == "allow" else "deny", [default[0]])


def _ufw_port(to: str, port: int) -> bool:
    written = re.sub(r" \(v6\)$", "", to)
    if written == "Anywhere":
        return True
    numbers, _slash, protocol = written.partition("/")
    return protocol in ("", "tcp") and any(_within(part, port) for part in numbers.split(","))


def _within(numbers: str, port: int) -> bool:
    """Of ``9091``, or of a range such as ``9000:9100`` or ``9000-9100``."""
    first, _colon, last = numbers.replace("-", ":").partition(":")
    return first.isdigit() and int(first) <= port <= int(last if last.isdigit() else first)


# nft and iptables: chains of rules


@dataclasses.dataclass(frozen=True)
class _Rule:
    """One rule that may be meant for the port.

    :param verdict: ``accept``, ``deny``, or the name of a chain to go to.
    :param conditional: it wants more than the port.
    """

    verdict: str
    conditional: bool
    text: str


Chains = t.Dict[str, t.List[_Rule]]


def _judged(program: str, chains: Chains, policies: dict[str, str]) -> Firewall | None:
    """What the chains of incoming packets say, one after the other: the first that denies has the last word."""
    conditional: dict[str, list[str]] = {"accept": [], "deny": []}
    for chain, policy in policies.items():
        verdict, text = _walk(chains, chain, conditional, 0)
        if (verdict or policy) == "deny":
            denied = [text or f"policy of {chain}: drop"]
            # What lets some in stands before what keeps the others out.
            some = conditional["accept"][:RULES]
            return Firewall(program, "condition" if some else "deny", [*some, *denied])
    if conditional["deny"]:
        return Firewall(program, "condition", conditional["deny"][:RULES])
    return Firewall(program, "accept", []) if policies else None


def _walk(chains: Chains, name: str, conditional: dict[str, list[str]], depth: int) -> tuple[str, str]:
    """(verdict, the rule that says so); empty where the chain ends without one. ``conditional`` gets the others."""
    for rule in chains.get(name, []) if depth < DEPTH else []:
        if rule.conditional:
            if rule.verdict in conditional:
                conditional[rule.verdict].append(rule.text)
            continue
        if rule.verdict in ("accept", "deny"):
            return rule.verdict, rule.text
        if rule.verdict == "return":
            break
        verdict, text = _walk(chains, rule.verdict, conditional, depth + 1)
        if verdict:
            return verdict, text
    return "", ""


# They let in what is a part of something else: no new connection from elsewhere.
_BESIDE = re.compile(r"\blo\b|ESTABLISHED|established|RELATED|icmp|udp|INVALID|invalid|localhost|127\.0\.0\.0")


def iptables(rules: str, port: int) -> Firewall | None:
    """From ``iptables -S``."""
    chains: Chains = {}
    policy = "accept"
    for line in rules.splitlines():
        if line.startswith("-P INPUT"):
            policy = "accept" if line.split()[2] == "ACCEPT" else "deny"
        found = re.match(r"-A (\S+) ?(.*?)-[jg] (\S+)(.*)", line)
        if not found:
            continue
        chain, matches, target, _options = found.groups()
        ports = re.findall(r"--d(?:ests?-)?ports? (\S+)|--dports (\S+)", matches)
        numbers = [number for pair in ports for text in pair if text for number in text.split(",")]
        if (numbers and not any(_within(number, port) for number in numbers)) or _BESIDE.search(matches):
            continue
        rest = re.sub(r"-p tcp|-m (?:tcp|multiport|comment)|--comment (?:\"[^\"]*\"|\S+)|--d\S+ \S+", "", matches)
        verdict = {"ACCEPT": "accept", "DROP": "deny", "REJECT": "deny", "RETURN": "return"}.get(target, target)
        if verdict in ("LOG", "NFLOG", "MARK", "CONNMARK"):
            continue
        chains.setdefault(chain, []).append(_Rule(verdict, bool(rest.strip()), line))
    return _judged("iptables", chains, {"INPUT": policy})


def nft(document: str, port: int) -> Firewall | None:
    """From ``nft -j list ruleset``; None where it is no such document."""
    try:
        objects = json.loads(document)["nftables"]
    except (ValueError, KeyError, TypeError):
        return None
    chains: Chains = {}
    policies: dict[str, str] = {}
    for entry in objects:
        chain, rule = entry.get("chain"), entry.get("rule")
        if chain and chain.get("hook") == "input" and chain.get("family") in ("ip", "ip6", "inet"):
            policies[_chain(chain, chain["name"])] = "deny" if chain.get("policy") == "drop" else "accept"
        if rule:
            found = _nft_rule(rule, port)
            if found:
                chains.setdefault(_chain(rule, rule["chain"]), []).append(found)
    return _judged("nft", chains, policies) or Firewall("nft", "accept", [])


def _chain(entry: dict[str, t.Any], name: str) -> str:
    return f"{entry['family']} {entry['table']} {name}"


def _nft_rule(rule: dict[str, t.Any], port: int) -> _Rule | None:
    """None where it is not for the port, or says nothing."""
    text = json.dumps(rule.get("expr", []))
    verdict, conditional = "", False
    for part in rule.get("expr", []):
        ((kind, what),) = part.items()
        if kind in ("accept", "drop", "reject", "return"):
            verdict = {"drop": "deny", "reject": "deny"}.get(kind, kind)
        elif kind in ("jump", "goto"):
            verdict = _chain(rule, what["target"])
        elif kind == "match":
            payload = what.get("left", {}).get("payload", {}) if isinstance(what.get("left"), dict) else {}
            if payload.get("field") == "dport" and payload.get("protocol") in ("tcp", "th"):
                if _nft_has(what.get("right"), port) == (what.get("op") == "!="):
                    return None
            elif what.get("right") not in ("tcp", 6):
                conditional = True
        elif kind not in ("counter", "log", "comment"):
            conditional = True
    if not verdict or (conditional and _BESIDE.search(text)):
        return None
    return _Rule(verdict, conditional, text)


def _nft_has(right: t.Any, port: int) -> bool:
    if isinstance(right, dict):
        if "range" in right:
            return bool(right["range"][0] <= port <= right["range"][1])
        return any(_nft_has(part, port) for part in right.get("set", []))
    if isinstance(right, list):
        return any(_nft_has(part, port) for part in right)
    return bool(right == port)
