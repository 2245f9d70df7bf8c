# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are planted on a real host, and everything that our procedures write there and here: none is in it.

It is not asked where one could be. The whole file system of the host is searched, its journal, every command line that
ran there or here, what asynchronous jobs left for a moment, and all that the playbooks printed and copied.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.bench.hosts import Host, make_host
from tests.testbench import watch
from tests.testbench.packages import program

LOGIN = "canary-6f1d-prometheus-password"
# Of LOGIN, by bcrypt.
HASH = "$2b$04$canarycanarycanarycanuyYTMZ6h73cDixJ2PRaWHf/cOFy7549S"
BEARER = "canary-93ab-prometheus-token"
EXPORTER = "canary-c07e-exporter-token"
REDIS = "canary-1d52-redis-password"
DATABASE = "canary-77f0-database-password"
UNIT = "canary-e4c9-unit-password"
DROP_IN = "canary-b8a3-drop-in-password"
RESTIC = "canary-2a9e-restic-password"
CLOUD = "canary-5b6c-cloud-key"
CANARIES = {
    "password of Prometheus": LOGIN,
    "its hash": HASH,
    "token of Prometheus": BEARER,
    "token of the exporter": EXPORTER,
    "password of Redis": REDIS,
    "password of the database": DATABASE,
    "variable of a unit": UNIT,
    "variable of the unit of Prometheus": DROP_IN,
    "password of restic": RESTIC,
    "key of the cloud": CLOUD,
}
# What the test itself puts where no secret may be, to see that it would be found.
CONTROL = "canary-0000-control"
PROCESSES, HERE, JOURNAL = "processes of the host, and passing files", "processes of the controller", "journal"
BASE = "/opt/njord_quant/config/base.yaml"
DATA = "/var/lib/prometheus/metrics2"
LOOK = "/srv/look"
EXPORTER_UNIT = "njord-prometheus-exporter"
# Where on the host a secret is at home.
HOMES = {
    "/etc/njord-backup/restic-environment",
    "/etc/njord-backup/restic-password",
    "/etc/prometheus/secrets/password",
    "/etc/prometheus/secrets/exporter-token",
    "/etc/prometheus/web.yml",
    "/etc/prometheus-password",
    "/etc/prometheus-token",
    "/etc/redis/redis.conf",
    "/etc/systemd/system/canary.service",
    "/etc/systemd/system/prometheus.service.d/canary.conf",
    "/opt/njord-exporter/token",
    BASE,
}
# systemd gives a unit its credentials there, for it alone.
CREDENTIALS = "/run/credentials/"
# Where a job that runs on its own keeps what it says until somebody asked for it.
PASSING = ("/root/.ansible/async", "/root/.ansible_async")
PLAYBOOKS = (
    *("backup", "restore", "restore_drill", "incident_data_loss", "maintenance_weekly"),
    *("service_stop", "service_start"),
)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What came out of the procedures.

    :param texts: by where it was.
    :param opened: the secrets of the backup, decrypted.
    :param homes: the files of the host, of those where secrets are at home, that hold one.
    """

    texts: dict[str, bytes]
    opened: dict[str, bytes]
    homes: set[str]

    def of(self, secret: str) -> set[str]:
        """Where it is."""
        return {where for where, text in self.texts.items() if secret.encode() in text}


@contextlib.contextmanager
def watched(host: Host, texts: dict[str, bytes]) -> t.Iterator[None]:
    """Every command line on the host and on this machine, and the files of passing jobs, meanwhile."""
    here: set[bytes] = set()
    is_over = threading.Event()

    def look_here() -> None:
        while not is_over.wait(watch.PAUSE_SECONDS):
            watch.look(here, ())

    thread = threading.Thread(target=look_here)
    with Path(watch.__file__).open("rb") as script:
        watcher = subprocess.Popen(
            ["docker", "exec", "--interactive", host.name, "python3", "-", *PASSING],
            stdin=script,
            stdout=subprocess.PIPE,
        )
    host.run("timeout", "10", "sh", "-c", 'until [ -s "$0" ]; do sleep 0.05; done', str(watch.PID))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        host.run("sh", "-c", 'kill "$(cat "$0")"', str(watch.PID))
        texts[PROCESSES] = watcher.communicate(timeout=20)[0]
        texts[HERE] = b"\n".join(here)


def put(host: Host, path: str, text: str, mode: str = "600") -> None:
    """By standard input: what is on a command line is seen."""
    script = 'mkdir -p "$(dirname "$0")" && cat >"$0" && chmod "$1" "$0"'
    command = ["docker", "exec", "--interactive", host.name, "sh", "-c", script, path, mode]
    subprocess.run(command, input=text, text=True, check=True)


def plant(host: Host) -> None:
    base = yaml.safe_load(host.run("cat", BASE))
    base["redis"]["url"] = f"redis://:{REDIS}@127.0.0.1:6379/0"
    base["postgres"]["dsn"] = f"postgresql://njord:{DATABASE}@127.0.0.1:5432/njord"
    put(host, BASE, yaml.safe_dump(base), "640")
    redis = host.run("cat", "/etc/redis/redis.conf")
    put(host, "/etc/redis/redis.conf", f"{redis}\nrequirepass {REDIS}\n", "644")
    put(host, "/etc/prometheus-password", LOGIN)
    put(host, "/etc/prometheus-token", BEARER)
    units = {
        "canary.service": f"[Service]\nEnvironment=PASSWORD={UNIT}\nExecStart=/bin/sleep 1d\n",
        "prometheus.service.d/canary.conf": f"[Service]\nEnvironment=DB_PASSWORD={DROP_IN}\n",
    }
    for name, text in units.items():
        put(host, f"/etc/systemd/system/{name}", text, "644")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "redis-server", "canary")


def tell_the_inventory(directory: Path, recipient: str) -> None:
    """As an operator does: beside the inventory, what is secret in files."""
    secrets = {
        "password": LOGIN,
        "exporter-token": EXPORTER,
        "restic": RESTIC,
        "cloud": f"AWS_SECRET_ACCESS_KEY={CLOUD}\n",
    }
    for name, secret in secrets.items():
        (directory / name).write_text(secret)
    variables = {
        "prometheus_web_users": {"njord": HASH},
        "prometheus_username": "njord",
        "prometheus_password_file": str(directory / "password"),
        "telemetry_exporter_token_source": str(directory / "exporter-token"),
        "telemetry_exporter_token_file": "/opt/njord-exporter/token",
        "telemetry_prometheus_username": "njord",
        "telemetry_prometheus_password_file": "/etc/prometheus-password",
        "telemetry_backup_secrets_recipients": [recipient],
        "telemetry_backup_restic_repository": "/srv/away",
        "telemetry_backup_restic_password_source": str(directory / "restic"),
        "telemetry_backup_restic_environment_source": str(directory / "cloud"),
        "backup_configuration_paths": [
            *("/etc/prometheus", "/etc/prometheus-password", "/etc/prometheus-token", "/etc/redis"),
            *("/etc/njord-backup", "/etc/systemd/system", BASE),
        ],
        "telemetry_fail_on": "never",
        "telemetry_start_wait": "5s",
    }
    (directory / "group_vars").mkdir()
    (directory / "group_vars" / "telemetry.yml").write_text(yaml.safe_dump(variables))


def run_everything(host: Host, texts: dict[str, bytes]) -> None:
    def play(name: str, **variables: t.Any) -> list[str]:
        """What of it failed."""
        done = host.playbook(f"playbooks/{name}.yml", "-vvv", "--diff", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        texts[f"output {len(texts)} of {name}"] = (done.stdout + done.stderr).encode()
        said = host.report(name)["findings"]
        return [one["summary"] for one in said if one["check"] in ("playbook.task", "result.failed")]

    assert play("site") == []
    host.run("timeout", "60", "sh", "-c", 'until [ -s "$0" ]; do sleep 0.2; done', f"{DATA}/wal/00000000")
    for verb in ("backup", "drill", "list"):
        done = subprocess.run(["docker", "exec", host.name, "njord-backup", verb], capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        texts[f"output of njord-backup {verb}"] = done.stdout + done.stderr
    for unit in ("njord-backup", "njord-restore-drill"):
        # That the samples are too young for a proof is a result too.
        host.run(
            "sh", "-c", 'systemctl start "$0" || test "$(systemctl show --value -p ExecMainStatus "$0")" = 1', unit
        )
    for name in PLAYBOOKS:
        assert play(name) == []
    # One that does not start: why is said all the same.
    broken = f"/etc/systemd/system/{EXPORTER_UNIT}.service.d/broken.conf"
    put(host, broken, "[Unit]\nAssertPathExists=/nowhere\n", "644")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "stop", EXPORTER_UNIT)
    (failed,) = play("service_start")
    assert f"Unable to start service {EXPORTER_UNIT}" in failed
    host.run("rm", broken)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", EXPORTER_UNIT)
    # A login that is wrong: what is said of it.
    other = {
        "telemetry_prometheus_username": "{{ omit }}",
        "telemetry_prometheus_password_file": "{{ omit }}",
        "telemetry_prometheus_token_file": "/etc/prometheus-token",
    }
    assert play("maintenance_weekly", **other) == []
    assert play("restore", restore_source="configuration", restore_target_dir=LOOK, telemetry_confirm=True) == []


def search(host: Host, secret: str) -> set[str]:
    """Every file of the host that holds it."""
    options = ["-r", "--files-with-matches", "--fixed-strings", "--text", "--no-messages", "--devices=skip"]
    places = ["--exclude-dir=proc", "--exclude-dir=sys", "--exclude-dir=dev", "--file=-", "/"]
    done = subprocess.run(
        ["docker", "exec", "--interactive", host.name, "grep", *options, *places],
        input=secret,
        capture_output=True,
        text=True,
        check=False,
    )
    # 2: of what went meanwhile; that it looked is seen by what it finds.
    assert done.returncode in (0, 2), done.stderr
    return set(done.stdout.splitlines())


def from_host(host: Host, *command: str) -> bytes:
    return subprocess.run(["docker", "exec", host.name, *command], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Evidence]:
    directory = tmp_path_factory.mktemp("secrets")
    identity = directory / "identity"
    subprocess.run([program("age-keygen"), "-o", identity], check=True, capture_output=True)
    told = subprocess.run([program("age-keygen"), "-y", identity], check=True, capture_output=True, text=True)
    texts: dict[str, bytes] = {}
    with make_host(directory, "njord-secrets", "trixie") as host:
        prepared = host.playbook("molecule/shared/prepare.yml")
        assert prepared.returncode == 0, prepared.stdout + prepared.stderr
        plant(host)
        tell_the_inventory(directory, told.stdout.strip())
        with watched(host, texts):
            host.run("sh", "-c", 'logger "$0"; sleep 0.2', CONTROL)
            run_everything(host, texts)
        texts[JOURNAL] = from_host(host, "journalctl", "--output=export", "--all", "--no-pager")
        texts["catalogue"] = from_host(host, "tar", "-c", "/var/backups/njord")
        texts.update((f"report {path.name}", path.read_bytes()) for path in (directory / "reports").rglob("*"))
        opened = {}
        for path in host.run("find", LOOK, "-name", "*.age").split():
            plain = subprocess.run(
                [program("age"), "-d", "-i", identity],
                input=from_host(host, "cat", path),
                capture_output=True,
                check=True,
            )
            opened[path] = plain.stdout
        homes = set()
        for name, secret in CANARIES.items():
            for path in search(host, secret):
                if path in HOMES or path.startswith(CREDENTIALS):
                    homes.add(path)
                else:
                    texts[f"file {path}, {name}"] = secret.encode()
        yield Evidence(texts, opened, homes)


def test_a_secret_on_a_command_line_and_one_in_a_log_would_be_found(evidence: Evidence) -> None:
    assert evidence.of(CONTROL) == {PROCESSES, HERE, JOURNAL}


def test_a_secret_in_any_file_of_the_host_would_be_found(evidence: Evidence) -> None:
    assert evidence.homes >= HOMES
    assert any("exporter" in path for path in evidence.homes if path.startswith(CREDENTIALS))


def test_what_was_looked_through_is_what_the_procedures_wrote(evidence: Evidence) -> None:
    texts = evidence.texts
    assert b"njord-backup" in texts[PROCESSES]
    assert b"ansible_job_id" in texts[PROCESSES]
    assert b"ansible-playbook" in texts[HERE]
    assert b"njord-backup" in texts[JOURNAL]
    assert {where for where, text in texts.items() if b"Traceback" in text} == set()
    assert any(b"secrets_recipients:" in text for where, text in texts.items() if "of backup" in where)
    assert {where.rsplit(".", 1)[-1] for where in texts if where.startswith("report ")} >= {"html", "md", "json", "xml"}
    assert b'"encrypted"' in texts["catalogue"]


@pytest.mark.parametrize("secret", CANARIES.values(), ids=list(CANARIES))
def test_no_secret_is_anywhere_but_where_it_is_at_home(evidence: Evidence, secret: str) -> None:
    assert evidence.of(secret) == set()


def test_the_secrets_are_in_the_backup_for_those_who_have_the_identity(evidence: Evidence) -> None:
    held = b"\n".join(evidence.opened.values())
    assert {name for name, secret in CANARIES.items() if secret.encode() not in held} == set()
