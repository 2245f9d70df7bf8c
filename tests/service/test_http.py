# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins and TLS as a real Prometheus does them."""

from __future__ import annotations

import datetime
import ipaddress
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._http import (
    Server,
    Unauthorised,
    Unreachable,
    Untrusted,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.testbench import servers

HUSH = "hush"
# Its bcrypt.
WEB = """
basic_auth_users:
  njord: $2b$04$CANEgImBohOrH5DbY/TDMO/CuVJ0DbLXvUovD3eF9tUXagbsRKWWC
tls_server_config: {cert_file: server.crt, key_file: server.key}
"""
VERSIONS = pytest.mark.parametrize("version", ["2", "3"])


def certify(directory: Path, days: float, address: str = "127.0.0.1") -> Path:
    """A certificate that signs itself and ends in so many days, as ``server.crt`` and ``server.key``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "njord")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path = directory / "server.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def guarded(directory: Path, version: str) -> servers.Server:
    """Prometheus behind TLS and a login. To the test bench its 400 is an answer already, so it may not be ready yet."""
    (directory / "web.yml").write_text(WEB)
    return servers.prometheus(directory, version, arguments=[f"--web.config.file={directory}/web.yml"])


def known(server: servers.Server, **more: t.Any) -> Server:
    return Server(server.url.replace("http:", "https:"), **{"username": "njord", "password": HUSH, **more})


@VERSIONS
def test_who_knows_the_login_and_the_authority_gets_an_answer_and_the_end_of_the_certificate(
    tmp_path: Path, version: str
) -> None:
    ca = certify(tmp_path, days=60)
    with guarded(tmp_path, version) as server:
        answer = known(server, ca_path=str(ca)).get("/-/healthy")
        with pytest.raises(Unauthorised, match="HTTP 401: Unauthorized"):
            known(server, ca_path=str(ca), username="").get("/-/healthy")
        with pytest.raises(Unauthorised, match="HTTP 401: Unauthorized"):
            known(server, ca_path=str(ca), password=HUSH[1:]).get("/-/healthy")
        with pytest.raises(Untrusted, match=r"its certificate is not trusted: self.signed certificate"):
            known(server).get("/-/healthy")
        with pytest.raises(Unreachable, match="speaks TLS and was asked without: HTTP 400: Client sent an HTTP"):
            Server(server.url).get("/-/healthy")
    assert answer.status == 200
    assert answer.certificate_ends == pytest.approx(time.time() + 60 * 86400, abs=120)


@VERSIONS
def test_tls_spoken_to_a_plain_server_is_named(tmp_path: Path, version: str) -> None:
    with servers.prometheus(tmp_path, version) as server, pytest.raises(Unreachable, match="seems to speak plain HTTP"):
        known(server).get("/-/healthy")


@pytest.mark.parametrize(
    ("days", "address", "said"),
    [(-1, "127.0.0.1", "certificate has expired"), (60, "127.0.0.2", "IP address mismatch")],
)
def test_a_certificate_that_does_not_hold_is_named(tmp_path: Path, days: float, address: str, said: str) -> None:
    ca = certify(tmp_path, days, address)
    with guarded(tmp_path, "3") as server, pytest.raises(Untrusted, match=said):
        known(server, ca_path=str(ca)).get("/-/healthy")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(Unreachable, match=f"the authorities in {path} cannot be read"):
        Server("https://127.0.0.1:1", ca_path=str(path)).get("/")
