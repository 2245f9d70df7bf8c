# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules of a firewall say of a port, who listens on it, and whether it takes a connection."""

from __future__ import annotations

import json
import socket
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._diagnosis.scrape import port

UFW = """\
Status: active
Logging: on (low)
Default: {default} (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
{rules}
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""


@pytest.mark.parametrize(
    ("default", "rules", "action"),
    [
        ("deny", "", "deny"),
        ("allow", "", "accept"),
        ("deny", "9091/tcp                   ALLOW IN    Anywhere", "accept"),
        ("deny", "9091                       ALLOW IN    10.0.0.5", "condition"),
        ("deny", "9091/udp                   ALLOW IN    Anywhere", "deny"),
        ("deny", "9000:9100/tcp              ALLOW IN    Anywhere", "accept"),
        ("deny", "80,9091/tcp                ALLOW IN    Anywhere", "accept"),
        ("allow", "9091/tcp                   DENY IN     Anywhere", "deny"),
        ("allow", "9091/tcp                   REJECT IN   Anywhere", "deny"),
        ("deny", "Anywhere                   ALLOW IN    192.168.0.0/16", "condition"),
    ],
)
def test_ufw_is_read_rule_by_rule_and_then_by_its_default(default: str, rules: str, action: str) -> None:
    found = port.ufw(UFW.format(default=default, rules=rules), 9091)
    assert found is not None
    assert found.action == action
    assert found.rules


def test_an_inactive_ufw_says_nothing() -> None:
    assert port.ufw("Status: inactive\n", 9091) is None


@pytest.mark.parametrize(
    ("rules", "action"),
    [
        ("-P INPUT ACCEPT", "accept"),
        ("-P INPUT DROP", "deny"),
        ("-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 9091 -j ACCEPT", "accept"),
        ("-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 9091 -j DROP", "deny"),
        ("-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j DROP", "accept"),
        ("-P INPUT ACCEPT\n-A INPUT -p tcp -m multiport --dports 80,9000:9100 -j REJECT", "deny"),
        ("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m state --state ESTABLISHED -j ACCEPT", "deny"),
        ("-P INPUT DROP\n-A INPUT -s 10.0.0.5/32 -p tcp -m tcp --dport 9091 -j ACCEPT", "condition"),
        ("-P INPUT ACCEPT\n-A INPUT -s 10.0.0.5/32 -p tcp -m tcp --dport 9091 -j DROP", "condition"),
        ("-P INPUT ACCEPT\n-N wall\n-A INPUT -j wall\n-A wall -p tcp -m tcp --dport 9091 -j DROP", "deny"),
        ("-P INPUT DROP\n-N wall\n-A INPUT -j wall\n-A wall -p tcp --dport 9091 -j RETURN\n-A wall -j ACCEPT", "deny"),
        ("-P INPUT ACCEPT\n-A INPUT -j LOG\n-A INPUT -j a\n-A a -j a", "accept"),
    ],
)
def test_iptables_is_followed_from_chain_to_chain(rules: str, action: str) -> None:
    found = port.iptables(rules, 9091)
    assert found is not None
    assert found.action == action


def ruleset(policy: str, *rules: list[dict[str, t.Any]], chain: str = "input") -> str:
    entries: list[dict[str, t.Any]] = [
        {"metainfo": {"version": "1.0.6"}},
        {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}},
    ]
    entries += [{"rule": {"family": "inet", "table": "filter", "chain": chain, "expr": rule}} for rule in rules]
    return json.dumps({"nftables": entries})


def dport(right: t.Any, operator: str = "==") -> dict[str, t.Any]:
    left = {"payload": {"protocol": "tcp", "field": "dport"}}
    return {"match": {"op": operator, "left": left, "right": right}}


SOURCE = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.5"}}


@pytest.mark.parametrize(
    ("document", "action"),
    [
        (ruleset("accept"), "accept"),
        (ruleset("drop"), "deny"),
        (ruleset("drop", [dport(9091), {"accept": None}]), "accept"),
        (ruleset("accept", [dport(9091), {"counter": {}}, {"drop": None}]), "deny"),
        (ruleset("accept", [dport({"set": [80, {"range": [9000, 9100]}]}), {"reject": {}}]), "deny"),
        (ruleset("accept", [dport(22), {"drop": None}]), "accept"),
        (ruleset("accept", [dport(22, "!="), {"drop": None}]), "deny"),
        (ruleset("drop", [SOURCE, dport(9091), {"accept": None}]), "condition"),
        (ruleset("drop", [{"accept": None}], chain="other"), "deny"),
    ],
)
def test_nft_is_read_by_what_its_input_hooks_say(document: str, action: str) -> None:
    found = port.nft(document, 9091)
    assert found is not None
    assert found.action == action


def test_what_is_no_document_of_nft_says_nothing() -> None:
    assert port.nft("command not found", 9091) is None


def test_a_listening_port_is_found_with_its_address(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:2383 00000000:0000 0A\n"
        "   1: 00000000:1F90 00000000:0000 0A\n"
        "   2: 0100007F:2383 0100007F:A000 01\n"
    )
    (tmp_path / "tcp6").write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 00000000000000000000000001000000:2383 00000000000000000000000000000000:0000 0A\n"
    )
    assert port.listeners(9091, tmp_path) == ["127.0.0.1", "::1"]
    assert port.listeners(8080, tmp_path) == ["0.0.0.0"]  # noqa: S104
    assert port.listeners(1, tmp_path) == []


def test_a_door_is_open_or_refuses_and_says_whether_it_is_of_this_host() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
        assert port.knock("127.0.0.1", number, 1).state == "refused"
        listener.listen(1)
        assert port.knock("127.0.0.1", number, 1) == port.Knock("open", True)
    assert port.knock("no-such.invalid", 1, 1).state == "unresolved"
    assert port.is_local("127.0.0.1")
    assert not port.is_local("192.0.2.1")
