# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates on a host that runs systemd: to a newer Prometheus, back from those that are not well; logs that may go."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from tests.bench.hosts import Host, ansible, make_host
from tests.testbench.packages import program, run

CATALOGUE = "/var/backups/njord"
DATA = "/var/lib/prometheus/metrics2"
REPOSITORY = "/opt/repository"
INSTALLATION = "/opt/njord-prometheus"
# It answers --version, and ends in the moment in which it is needed.
CRASHING = """#!/bin/sh
[ "$1" = --version ] && echo "prometheus, version 3.9.0+crash (branch: x, revision: x)" && exit
echo 'level=error msg="nothing works here"' >&2
exit 1
"""
# It serves, and writes what it likes, but scrapes nothing: healthy, and no good.
DEAF = """#!/bin/sh
real=/usr/lib/prometheus-three/prometheus
[ "$1" = --version ] && { "$real" --version 2>/dev/null || echo "prometheus, version 3.8.0+deaf (branch: x)"; } && exit
for word; do
  case "$word" in --config.file=*) word=--config.file=/usr/lib/prometheus-three/empty.yml ;; esac
  shift
  set -- "$@" "$word"
done
exec "$real" "$@"
"""
THREE = "3.5.3+test-1"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    directory = tmp_path_factory.mktemp("update")
    with make_host(directory, "njord-update", "trixie", tmpfs=[f"{CATALOGUE}:size=256m"]) as made:
        made.install()
        give_past(made)
        offer(made, directory / "packages")
        yield made


def give_past(host: Host) -> None:
    """Hours of samples in blocks, at whole seconds: what is only a minute old cannot be proven yet."""
    now = int(time.time())
    lines = [f'past{{series="{n}"}} {n} {moment}' for n in range(50) for moment in range(now - 28800, now - 7200, 60)]
    host.run("systemctl", "stop", "prometheus")
    put(host, "/opt/past.txt", "\n".join(["# TYPE past gauge", *lines, "# EOF", ""]))
    host.run("promtool", "tsdb", "create-blocks-from", "openmetrics", "/opt/past.txt", DATA)
    host.run("chown", "-R", "prometheus:prometheus", DATA)
    host.run("systemctl", "start", "prometheus")


def put(host: Host, path: str, text: str) -> None:
    command = ["docker", "exec", "--interactive", host.name, "sh", "-c", 'cat >"$0"', path]
    subprocess.run(command, input=text, text=True, check=True)


def offer(host: Host, directory: Path) -> None:
    """A repository with newer versions of Prometheus than the suite of the host has."""
    scripts = {"3.9.0+crash-1": CRASHING, "3.8.0+deaf-1": DEAF}
    build(
        directory,
        "prometheus-three",
        "3.5.3-1",
        {
            "usr/lib/prometheus-three/prometheus": program("prometheus", "3").read_bytes(),
            "usr/lib/prometheus-three/promtool": program("promtool", "3").read_bytes(),
            "usr/lib/prometheus-three/empty.yml": b"scrape_configs: []\n",
        },
    )
    for version, script in scripts.items():
        build(directory, "prometheus", version, {"usr/bin/prometheus": script.encode()}, "prometheus-three")
    links = {"usr/bin/prometheus": "../lib/prometheus-three/prometheus"}
    build(directory, "prometheus", THREE, {}, "prometheus-three", links)
    build(
        directory, "promtool", THREE, {}, "prometheus-three", {"usr/bin/promtool": "../lib/prometheus-three/promtool"}
    )
    rows = []
    for archive in sorted(directory.glob("*.deb")):
        content = archive.read_bytes()
        about = run(["dpkg-deb", "--field", str(archive)]).strip()
        digest = hashlib.sha256(content).hexdigest()
        rows.append(f"{about}\nFilename: ./{archive.name}\nSize: {len(content)}\nSHA256: {digest}\n")
    (directory / "Packages").write_text("\n".join(rows))
    run(["docker", "cp", str(directory), f"{host.name}:{REPOSITORY}"])
    put(host, "/etc/apt/sources.list.d/test.list", f"deb [trusted=yes] file:{REPOSITORY} ./\n")
    host.run("apt-get", "update", "-qq")


def build(
    directory: Path,
    name: str,
    version: str,
    files: dict[str, bytes],
    depends: str = "",
    links: dict[str, str] | None = None,
) -> None:
    tree = directory / "tree" / name / version
    architecture = run(["dpkg", "--print-architecture"]).strip()
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
        (tree / path).chmod(0o755)
    for path, target in (links or {}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: test <test@example.invalid>\n"
        + (f"Depends: {depends}\n" if depends else "")
        + "Description: for a test\n"
    )
    run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(directory)])


def update(host: Host, *options: str, **variables: t.Any) -> dict[str, t.Any]:
    """The finding about Prometheus that its update ends in."""
    role = {"name": "njord.telemetry.prometheus", "tasks_from": "update"}
    content = "{{ prometheus_update.findings | to_json }}"
    tasks = [
        {"ansible.builtin.include_role": role},
        {"ansible.builtin.copy": {"dest": "/run/update.json", "content": content}, "check_mode": False},
    ]
    play = {"hosts": host.name, "gather_facts": False, "become": True, "tasks": tasks}
    # A scrape interval, and a little more.
    variables = {"telemetry_update_wait": "20s", **variables}
    done = ansible(host.directory, [play], host.name, {}, variables, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(host.run("cat", "/run/update.json"))[-1])


def version(host: Host) -> str:
    return str(host.ask("status/buildinfo")["version"])


def past(host: Host) -> list[t.Any]:
    moment = int(time.time()) - 4 * 3600
    return list(host.ask(f"query?query=count(past)&time={moment}")["result"][0]["value"][1:])


def installed(host: Host) -> str:
    return host.run("dpkg-query", "--show", "--showformat=${Version}", "prometheus")


def beside(host: Host) -> list[str]:
    return host.run("ls", str(Path(DATA).parent)).split()


def test_without_a_pinned_version_it_says_what_there_is_and_changes_nothing(host: Host) -> None:
    process = host.run("systemctl", "show", "--property=MainPID", "prometheus")
    done = host.playbook("playbooks/update.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {one["subject"]: one for one in host.report("update")["findings"] if one["check"].startswith("update.")}
    assert {one["severity"] for one in findings.values()} <= {"ok", "info"}
    assert set(findings) == {"prometheus", "node_exporter", "exporter"}
    finding = findings["prometheus"]
    assert finding["check"] == "update.version"
    assert installed(host) in finding["summary"]
    assert THREE in finding["summary"]
    assert host.run("systemctl", "show", "--property=MainPID", "prometheus") == process


def test_what_is_pinned_and_there_is_left_alone_by_update_and_by_site(host: Host) -> None:
    process = host.run("systemctl", "show", "--property=MainPID", "prometheus")
    finding = update(host, prometheus_version=installed(host))
    assert (finding["check"], finding["severity"]) == ("update.version", "ok")
    # The one that is pinned is another one: only update brings it.
    site = host.play("prometheus", prometheus_version=THREE)
    assert (site.ok, site.changed) == (True, 0), site.output
    assert host.run("systemctl", "show", "--property=MainPID", "prometheus") == process


def test_an_exporter_that_does_not_start_is_taken_back_by_its_old_unit(host: Host) -> None:
    unit = "/etc/systemd/system/njord-prometheus-exporter.service"
    before = host.run("md5sum", unit)
    done = host.play("exporter", "update", exporter_arguments=["--no-such-option"])
    assert done.ok, done.output
    assert host.run("md5sum", unit) == before
    host.run("systemctl", "is-active", "njord-prometheus-exporter")
    again = host.play("exporter", "update")
    assert (again.ok, again.changed) == (True, 0), again.output


def test_without_a_proven_backup_nothing_is_updated_and_backup_is_named(host: Host) -> None:
    finding = update(host, prometheus_version=THREE)
    assert finding["check"] == "update.refused"
    assert "is proven" in finding["summary"]
    assert "backup.yml" in finding["remedy"]
    assert version(host).startswith("2.53")


def test_what_is_sick_is_not_updated(host: Host) -> None:
    assert host.playbook("playbooks/backup.yml", telemetry_fail_on="never").returncode == 0
    host.run("systemctl", "stop", "prometheus")
    finding = update(host, prometheus_version=THREE)
    host.run("systemctl", "start", "prometheus")
    assert finding["check"] == "update.refused"
    assert "is not well" in finding["summary"]
    assert installed(host).startswith("2.53")


def test_a_version_that_nobody_has_is_refused(host: Host) -> None:
    finding = update(host, prometheus_version="9.9.9-1")
    assert finding["check"] == "update.refused"
    assert "9.9.9-1 is not to be had" in finding["summary"]
    assert THREE in finding["summary"]


def test_a_version_that_ends_at_its_start_is_taken_back_by_itself(host: Host) -> None:
    before, old = past(host), installed(host)
    finding = update(host, prometheus_version="3.9.0+crash-1")
    assert (finding["check"], finding["severity"]) == ("update.failed", "critical")
    assert f"{old} is back, as well as before" in finding["summary"], finding
    assert "does not stay up" in finding["summary"] or "ended before it was ready" in finding["summary"]
    assert (version(host)[:4], installed(host), past(host)) == ("2.53", old, before)
    assert host.run("sh", "-c", "ls /var/lib/njord-telemetry/update") == ""
    # It has written nothing that would have to be kept.
    assert [name for name in beside(host) if "update" in name] == []


def test_a_version_that_is_healthy_and_scrapes_nothing_is_taken_back_with_the_data_of_before(host: Host) -> None:
    before, old = past(host), installed(host)
    finding = update(host, prometheus_version="3.8.0+deaf-1")
    assert finding["check"] == "update.failed", finding
    # It has neither targets nor rules; on a busy host the former had no turn yet.
    assert "targets are not up again" in finding["summary"] or "it has 0 rules" in finding["summary"], finding
    assert f"{old} is back, as well as before" in finding["summary"], finding
    kept = finding["evidence"]["kept"]
    assert kept in finding["remedy"]
    assert "wal" in host.run("ls", kept)
    assert (version(host)[:4], past(host)) == ("2.53", before)
    host.run("rm", "-r", kept)


def test_a_check_says_what_an_update_would_do(host: Host) -> None:
    finding = update(host, "--check", "--diff", prometheus_version=THREE)
    assert finding["check"] == "update.plan"
    assert f"would become {THREE}" in finding["summary"]
    assert "with the data of before" in finding["summary"]
    assert version(host).startswith("2.53")


def test_a_month_s_maintenance_backs_up_updates_and_tells_in_one_report(host: Host) -> None:
    before = past(host)
    done = host.playbook(
        "playbooks/maintenance_monthly.yml",
        prometheus_version=THREE,
        telemetry_vacuum_units=["njord-*"],
        telemetry_vacuum_age="30d",
        # The slowest group of rules has its turn once a minute; what had none would make it unknown.
        telemetry_update_wait="150s",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {(one["check"], one["subject"]): one for one in host.report("maintenance_monthly")["findings"]}
    updated = findings["update.done", "prometheus"]
    assert (updated["severity"], installed(host), version(host)[:3]) == ("ok", THREE, "3.5"), updated
    assert findings["backup.proven", host.run("ls", f"{CATALOGUE}/backups").split()[-1]]["severity"] == "ok"
    assert findings["logs.journal", "journald"]["evidence"]["figures"]["log_bytes_before"] > 0
    assert ("service.health", "prometheus") in findings
    assert findings["update.version", "exporter"]["summary"].startswith("Exporter is what this collection brings, ")
    assert past(host) == before
    assert host.run("readlink", "-f", "/usr/bin/promtool") == "/usr/lib/prometheus-three/promtool\n"
    # Nobody needs what the way back had.
    assert [name for name in beside(host) if "update" in name] == []
    metrics = host.run("sh", "-c", "cat /var/lib/prometheus/node-exporter/njord_maintenance_*.prom")
    assert 'njord_maintenance_last_run_timestamp_seconds{procedure="maintenance_monthly"}' in metrics


def test_an_older_version_that_does_not_read_the_data_is_refused(host: Host) -> None:
    old = host.run("sh", "-c", "apt-cache madison prometheus | awk '/2[.]53/ { print $3; exit }'").strip()
    finding = update(host, prometheus_version=old)
    assert finding["check"] == "update.refused"
    assert "is not known to read" in finding["summary"]
    assert version(host).startswith("3.5")


def archive(directory: Path, name: str, files: dict[str, bytes]) -> dict[str, t.Any]:
    """The role's settings for an archive that is packed as the project packs its own."""
    tree = directory / name / f"prometheus-{name}.linux-amd64"
    tree.mkdir(parents=True)
    for path, content in files.items():
        (tree / path).write_bytes(content)
        (tree / path).chmod(0o755)
    packed = directory / f"prometheus-{name}.linux-amd64.tar.gz"
    run(
        [
            "tar",
            "--use-compress-program=gzip -1",
            "--create",
            "--file",
            str(packed),
            "--directory",
            str(tree.parent),
            tree.name,
        ]
    )
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    checksums = {"x86_64": digest, "aarch64": digest}
    return {"prometheus_source": "archive", "prometheus_archive": str(packed), "prometheus_checksums": checksums}


def test_an_archive_is_updated_beside_the_old_one_which_goes_when_the_new_one_is_proven(
    host: Host, tmp_path: Path
) -> None:
    promtool, server = program("promtool", "3").read_bytes(), program("prometheus", "3").read_bytes()
    # The first one is the same server as the package has, so it takes its place without an update.
    first = archive(tmp_path, "3.5.3", {"prometheus": server, "promtool": promtool})
    crashing = archive(tmp_path, "3.9.0", {"prometheus": CRASHING.encode(), "promtool": promtool})
    second = archive(tmp_path, "3.5.4", {"prometheus": server, "promtool": promtool, "LICENSE": b"another\n"})
    caches: dict[str, t.Any] = {"prometheus_archive_cache": str(tmp_path / "cache")}
    adopted = host.play("prometheus", **first, **caches)
    assert adopted.ok, adopted.output
    before, running = past(host), host.run("readlink", f"{INSTALLATION}/current")
    finding = update(host, **crashing, **caches)
    assert finding["check"] == "update.failed", finding
    assert "is back, as well as before" in finding["summary"]
    assert (host.run("readlink", f"{INSTALLATION}/current"), past(host)) == (running, before)
    finding = update(host, **second, **caches)
    assert finding["check"] == "update.done", finding
    digest = second["prometheus_checksums"]["x86_64"][:16]
    assert host.run("readlink", f"{INSTALLATION}/current") == f"{digest}\n"
    assert sorted(host.run("ls", INSTALLATION).split()) == sorted([digest, "current"])
    assert past(host) == before
    again = host.play("prometheus", **second, **caches)
    assert (again.ok, again.changed) == (True, 0), again.output


OLD_LOG = """
import subprocess, sys, time, uuid
unit, days = sys.argv[1], float(sys.argv[2])
machine, boot, name = open("/etc/machine-id").read().strip(), uuid.uuid4().hex, uuid.uuid4().hex
moment = int((time.time() - days * 86400) * 1e6)
fields = {"__REALTIME_TIMESTAMP": moment, "__MONOTONIC_TIMESTAMP": 1, "_BOOT_ID": boot, "_MACHINE_ID": machine}
fields.update({"MESSAGE": "old", "_SYSTEMD_UNIT": unit, "_TRANSPORT": "journal"})
with open("/run/entry", "w") as entry:
    entry.write("".join(f"{field}={value}\\n" for field, value in fields.items()) + "\\n")
made = f"/run/{name}.journal"
subprocess.run(["/usr/lib/systemd/systemd-journal-remote", f"--output={made}", "/run/entry"], check=True, stderr=-3)
content = bytearray(open(made, "rb").read())
content[16] = 2
path = f"/var/log/journal/{machine}/system@{name}-0000000000000001-{moment:016x}.journal"
open(path, "wb").write(content)
print(path)
"""


def old_log(host: Host, unit: str, days: float) -> str:
    """An archived file of journald whose only entry is so old."""
    return host.run("python3", "-c", OLD_LOG, unit, str(days)).strip()


def vacuum(host: Host, *options: str, **arguments: t.Any) -> dict[str, t.Any]:
    """What the module answers on the host."""
    task = {"njord.telemetry.log_vacuum": arguments, "register": "vacuum"}
    tell = {
        "ansible.builtin.copy": {"dest": "/run/vacuum.json", "content": "{{ vacuum | to_json }}"},
        "check_mode": False,
    }
    play = {"hosts": host.name, "gather_facts": False, "become": True, "tasks": [task, tell]}
    done = ansible(host.directory, [play], host.name, {}, {}, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, t.Any] = json.loads(host.run("cat", "/run/vacuum.json"))
    return answer


def test_old_logs_go_only_where_every_unit_in_them_was_named(host: Host) -> None:
    host.run("apt-get", "install", "-qq", "--yes", "--no-install-recommends", "systemd-journal-remote")
    host.run("sh", "-c", "mkdir -p /var/log/journal && journalctl --flush")
    ours, theirs = old_log(host, "njord-dashboard.service", 40), old_log(host, "trader.service", 40)
    young = old_log(host, "njord-dashboard.service", 20)
    refused = vacuum(host, units=["njord-*"], age="30d")
    assert refused["changed"] is False
    assert "trader.service (1)" in refused["findings"][0]["summary"]
    assert host.run("ls", ours, theirs, young)
    check = vacuum(host, "--check", units=["njord-*", "trader"], age="30d")
    done = vacuum(host, units=["njord-*", "trader"], age="30d")
    rows = [{key: row[key] for key in ("action", "subject", "bytes")} for row in done["plan"]]
    assert rows == [{key: row[key] for key in ("action", "subject", "bytes")} for row in check["plan"]]
    assert {row["subject"] for row in rows} == {"journald", ours, theirs}
    there = host.run("sh", "-c", "ls /var/log/journal/*/*")
    assert (ours in there, theirs in there, young in there) == (False, False, True)
    assert done["bytes_before"] - done["bytes_after"] >= 0
    assert "before" in done["findings"][0]["summary"] and "after" in done["findings"][0]["summary"]
    assert vacuum(host, units=["njord-*", "trader"], age="30d")["findings"][0]["severity"] == "ok"
