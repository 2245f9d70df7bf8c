# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of real servers of both major versions, taken while they scrape, and what is left of them."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup import counts
from ansible_collections.njord.telemetry.plugins.module_utils._backup import prometheus as source
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import Catalogue
from ansible_collections.njord.telemetry.plugins.module_utils._backup.create import Draft, Failed, create
from ansible_collections.njord.telemetry.plugins.module_utils._backup.lay import names
from ansible_collections.njord.telemetry.plugins.module_utils._backup.prometheus import (
    PrometheusSource,
    recover,
    resolve,
)
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus

from tests.conftest import COLLECTIONS
from tests.testbench import servers
from tests.testbench.packages import program

VERSIONS = ("2", "3")
UNIT = "prometheus.service"
BLOCKS = 3
NOW = 1_790_000_000.0
FOR_EVER = "--storage.tsdb.retention.time=100y"
# The quick one under several names, so that at any moment one was scraped after the slow one was begun.
SCRAPING = """
global: {{scrape_interval: 1s}}
storage: {{tsdb: {{out_of_order_time_window: {window}}}}}
scrape_configs:
  - job_name: targets
    metrics_path: {path}
    static_configs:
      - {{targets: ['127.0.0.1:{quick}'], labels: {{name: a}}}}
      - {{targets: ['127.0.0.1:{quick}'], labels: {{name: b}}}}
      - {{targets: ['127.0.0.1:{quick}'], labels: {{name: c}}}}
      - {{targets: ['127.0.0.1:{slow}']}}
"""


class Bench:
    """A server, and a directory of its own for the notes about its snapshots."""

    def __init__(self, server: servers.Server, version: str, notes: Path) -> None:
        notes.mkdir()
        self.server = server
        self.version = version
        self.notes = notes
        self.data = server.directory / "data"
        self.prometheus = Prometheus(Server(server.url))

    def source(self) -> PrometheusSource:
        return PrometheusSource(self.prometheus, str(self.data), self.notes)

    def snapshots(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in (self.data / "snapshots").iterdir()}
        return set()

    def noted(self) -> list[str]:
        return [path.name for path in self.notes.iterdir()]


def draft_of(source_of: PrometheusSource, copy: Path | None = None) -> Draft:
    """What it gives. :param copy: where its files go, as ``create`` and a restore would put them."""
    with source_of.open() as drafts:
        (draft,) = drafts
        for candidate in draft.candidates if copy else ():
            assert copy
            target = copy / candidate.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(candidate.at, target)
    json.dumps(draft.facts)
    return draft


def counted(directory: Path, version: str, times: t.Iterable[str]) -> counts.Counts:
    """What a scratch server says of the blocks in ``directory/data``."""
    with servers.prometheus(directory, version, arguments=[FOR_EVER]) as server:
        return counts.count(Prometheus(Server(server.url)), map(int, times))


class Target(http.server.BaseHTTPRequestHandler):
    """Has another metric at each scrape, so that what is counted a moment too late is counted otherwise."""

    seconds = 0.0
    scrapes = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.scrapes += 1
        time.sleep(self.seconds)
        lines = ["njord_steady 1", f"njord_{kind.__name__.lower()}_{kind.scrapes % 7} 1"]
        if self.path == "/late" and kind is Target:
            # One series whose time goes backwards.
            lines.append(f"njord_late 1 {int(time.time() * 1000) - 5000 * kind.scrapes}")
        body = "\n".join([*lines, ""]).encode()
        # The server is ended while it waits.
        with contextlib.suppress(ConnectionError):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing to say."""


class Slow(Target):
    seconds = 0.8


@pytest.fixture(scope="module")
def targets() -> t.Iterator[tuple[int, int]]:
    """Ports of a quick and a slow target."""
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), k)) for k in (Target, Slow)]
        for one in listening:
            threading.Thread(target=one.serve_forever, daemon=True).start()
            stack.callback(one.shutdown)
        yield listening[0].server_port, listening[1].server_port


@pytest.fixture(scope="module")
def scraping(targets: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[dict[str, Bench]]:
    """Servers that scrape each second: of both versions, and one of them again with samples out of order."""
    quick, slow = targets
    benches = {}
    with contextlib.ExitStack() as stack:
        for name, version, window, path in (
            ("2", "2", "0s", "/metrics"),
            ("3", "3", "0s", "/metrics"),
            ("late", "3", "30m", "/late"),
        ):
            directory = tmp_path_factory.mktemp(f"scraping-{name}")
            config = SCRAPING.format(window=window, path=path, quick=quick, slow=slow)
            server = stack.enter_context(servers.prometheus(directory, version, config))
            benches[name] = Bench(server, version, directory / "notes")
        for bench in benches.values():
            deadline = time.monotonic() + 60
            # Twice what a scrape may take, and as much again.
            while len(bench.prometheus.query("count_over_time(njord_steady[1h]) >= 7")) < 4:
                assert time.monotonic() < deadline, bench.server.log.read_text()
                time.sleep(0.2)
        yield benches


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of two hours."""
    directory = tmp_path_factory.mktemp("past")
    start = (int(time.time()) // 7200 - 20) * 7200
    lines = ["# TYPE njord_fills gauge"]
    for number in range(3):
        lines += [f'njord_fills{{number="{number}"}} {m} {start + 60 * m}' for m in range(number * 60, BLOCKS * 120)]
    (directory / "samples.txt").write_text("\n".join([*lines, "# EOF", ""]))
    command = [str(program("promtool", "3")), "tsdb", "create-blocks-from", "openmetrics", "samples.txt", "data"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "data"


@pytest.fixture(params=VERSIONS)
def bench(request: pytest.FixtureRequest, past: Path, tmp_path: Path) -> t.Iterator[Bench]:
    """A server with blocks that scrapes nothing."""
    shutil.copytree(past, tmp_path / "server" / "data")
    with servers.prometheus(tmp_path / "server", request.param, arguments=[FOR_EVER]) as server:
        yield Bench(server, request.param, tmp_path / "notes")


@pytest.fixture
def altered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[t.Callable[[Path], object]], Bench]:
    """Has something happen to a snapshot as soon as it is made."""
    original = Prometheus.snapshot

    def alter(change: t.Callable[[Path], object]) -> Bench:
        def snapshot(self: Prometheus) -> str:
            name = original(self)
            change(min((bench.data / "snapshots" / name).iterdir()))
            return name

        monkeypatch.setattr(Prometheus, "snapshot", snapshot)
        return bench

    return alter


def bare(directory: Path, version: str, *arguments: str) -> servers.Server:
    """A server without the admin API."""
    port = servers.free_port()
    (directory / "prometheus.yml").write_text("scrape_configs: []\n")
    command: list[str | Path] = [
        program("prometheus", version),
        "--config.file=prometheus.yml",
        f"--web.listen-address=127.0.0.1:{port}",
        *arguments,
    ]
    return servers.Server("bare", command, directory, port, "/-/ready")


# What is in it


@pytest.mark.parametrize("version", VERSIONS)
def test_a_scratch_server_counts_what_the_live_one_did_while_it_went_on_scraping(
    scraping: dict[str, Bench], version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = scraping[version]
    other = live.prometheus.snapshot()
    original = Prometheus.snapshot

    def slowly(self: Prometheus) -> str:
        # On a busy host: what was under way is written before it is counted.
        name = original(self)
        time.sleep(1)
        return name

    monkeypatch.setattr(Prometheus, "snapshot", slowly)
    for attempt in range(3):
        draft = draft_of(live.source(), tmp_path / str(attempt) / "data")
        expected = draft.facts["counts"]
        assert {"njord_steady", "up"} < {metric for table in expected.values() for metric in table}
        assert counted(tmp_path / str(attempt), version, expected) == expected
        assert draft.facts["remarks"] == []
        # At another moment of its scrapes.
        time.sleep(0.37)
    assert live.snapshots() == {other}
    assert live.noted() == []


def test_what_came_out_of_order_is_not_counted_on_and_said_to_be_missing(
    scraping: dict[str, Bench], tmp_path: Path
) -> None:
    live = scraping["late"]
    draft = draft_of(live.source(), tmp_path / "data")
    assert draft.facts["counts"] == {}
    assert "nothing to count" in draft.facts["counts_error"]
    (remark,) = draft.facts["remarks"]
    assert "out of order" in remark
    # That it is so: the live server has more of them than the snapshot.
    last = draft.facts["max_time"] / 1000
    query = "sum(count_over_time(njord_late[1h]))"
    with servers.prometheus(tmp_path, "3", arguments=[FOR_EVER]) as server:
        (held,) = Prometheus(Server(server.url)).query(query, last)
    assert held.value < live.prometheus.query(query, last)[0].value


def test_what_the_server_has_is_told(bench: Bench) -> None:
    draft = draft_of(bench.source())
    facts = draft.facts
    assert (draft.source, draft.root) == ("prometheus", str(bench.data))
    assert facts["version"] == bench.prometheus.version()
    assert facts["lookback_seconds"] == 300
    assert facts["retention"] == bench.prometheus.runtime()["storageRetention"]
    assert len(facts["blocks"]) == BLOCKS
    assert facts["samples"] == sum(block["samples"] for block in facts["blocks"]) == 360 + 300 + 240
    assert [block["series"] for block in facts["blocks"]] == [2, 3, 3]
    assert facts["min_time"] == facts["blocks"][0]["min_time"]
    assert facts["max_time"] == facts["blocks"][-1]["max_time"]
    assert facts["mode"] == bench.data.stat().st_mode & 0o7777
    assert (facts["owner"], facts["group"]) == names(bench.data.stat())
    assert {table["njord_fills"] for table in facts["counts"].values()} == {1, 2, 3}
    assert max(map(int, facts["counts"])) <= facts["max_time"] - 3_600_000
    assert facts["remarks"] == []
    paths = {candidate.path for candidate in draft.candidates}
    ulids = {block["ulid"] for block in facts["blocks"]}
    assert paths == {f"{u}/{name}" for u in ulids for name in ("meta.json", "index", "tombstones", "chunks/000001")}
    assert {one.path for one in draft.directories} == ulids | {f"{ulid}/chunks" for ulid in ulids}
    assert all(candidate.size == (bench.data / candidate.path).stat().st_size for candidate in draft.candidates)


def test_a_second_backup_stores_nothing_again(bench: Bench, tmp_path: Path) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    _first, cost = create(catalogue, [bench.source()], NOW, "host")
    assert cost.new == cost.bytes > 0
    again, cost = create(catalogue, [bench.source()], NOW + 1, "host")
    assert cost.new == 0 < cost.bytes
    assert len(again.parts[0].files) == 4 * BLOCKS


def test_what_was_deleted_meanwhile_is_stored_anew_and_counted_otherwise(bench: Bench, tmp_path: Path) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.make()
    first, _cost = create(catalogue, [bench.source()], NOW, "host")
    deleted = {"match[]": 'njord_fills{number="0"}'}
    bench.prometheus.server.post("/api/v1/admin/tsdb/delete_series", deleted)
    second, cost = create(catalogue, [bench.source()], NOW + 1, "host")
    stored = {file.path.split("/", 1)[1] for file in set(second.parts[0].files) - set(first.parts[0].files)}
    assert stored == {"meta.json", "tombstones"}
    assert 0 < cost.new < cost.bytes / 2
    tables = second.parts[0].facts["counts"].values()
    assert {table.get("njord_fills", 0) for table in tables} == {0, 1, 2}


def test_a_live_block_that_is_damaged_leaves_a_backup_that_says_why_it_cannot_be_proven(
    bench: Bench, tmp_path: Path
) -> None:
    for chunk in bench.data.glob("*/chunks/000001"):
        content = bytearray(chunk.read_bytes())
        content[8 + 10 :] = bytes(len(content) - 18)
        chunk.write_bytes(content)
    draft = draft_of(bench.source())
    assert draft.facts["counts"] == {}
    assert "could not count" in draft.facts["counts_error"]
    assert len(draft.facts["blocks"]) == BLOCKS


def test_a_block_that_the_server_passes_over_is_remarked_upon(bench: Bench) -> None:
    lost = bench.data / "01M86H1F48TX5Z7R0X4XB8R17T"
    lost.mkdir()
    (remark,) = draft_of(bench.source()).facts["remarks"]
    assert str(lost) in remark


def test_a_block_whose_time_came_meanwhile_is_in_the_backup_and_not_counted_on(
    bench: Bench, altered: t.Callable[[t.Callable[[Path], object]], Bench], tmp_path: Path
) -> None:
    def lose(block: Path) -> None:
        server = bench.server
        server.stop()
        shutil.rmtree(bench.data / block.name)
        server.start()

    altered(lose)
    draft = draft_of(bench.source(), tmp_path / "scratch" / "data")
    assert len(draft.facts["blocks"]) == BLOCKS
    expected = draft.facts["counts"]
    assert expected
    assert counted(tmp_path / "scratch", bench.version, expected) == expected


# What is no snapshot to be stored


def cut(block: Path) -> None:
    """Never in place: its files are the live ones."""
    (block / "meta.json").unlink()
    (block / "meta.json").write_text('{"ulid": ')


def add_a_link(block: Path) -> None:
    (block.parent / "01M86H1F48TX5Z7R0X4XB8R17T").symlink_to(block)


def add_a_log(block: Path) -> None:
    (block.parent / "wal").mkdir()


def rename(block: Path) -> None:
    block.rename(block.with_name("01M86H1F48TX5Z7R0X4XB8R17T"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut, "has no meta.json that can be read"),
        (lambda block: (block / "meta.json").unlink(), "has no meta.json that can be read"),
        (rename, "says that it is"),
        (lambda block: (block / "other").symlink_to("/etc/passwd"), "neither a file nor a directory"),
        (lambda block: os.mkfifo(block / "chunks" / "pipe"), "neither a file nor a directory"),
        (add_a_log, "wal is no block"),
        (add_a_link, "is no block"),
    ],
)
def test_what_is_no_whole_block_is_refused_by_name(
    altered: t.Callable[[t.Callable[[Path], object]], Bench], change: t.Callable[[Path], object], said: str
) -> None:
    bench = altered(change)
    with pytest.raises(Failed, match=said):
        draft_of(bench.source())
    assert bench.snapshots() == set()
    assert bench.noted() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_before_the_first_sample_there_is_nothing_to_back_up(version: str, tmp_path: Path) -> None:
    with servers.prometheus(tmp_path, version) as server:
        bench = Bench(server, version, tmp_path / "notes")
        with pytest.raises(Failed, match="has no samples yet"):
            draft_of(bench.source())
        assert bench.snapshots() == set()
        assert bench.noted() == []


# Where there is no snapshot


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_without_admin_api_says_how_to_turn_it_on_and_a_relative_directory_is_found(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bare(tmp_path, version, "--storage.tsdb.path=data/") as server:
        bench = Bench(server, version, tmp_path / "notes")
        assert resolve(bench.prometheus, UNIT, lambda _unit: "") == str(tmp_path / "data")
        with pytest.raises(Failed, match=r"--web.enable-admin-api \(prometheus_admin_api: true"):
            draft_of(bench.source())
        # Where its flags do not tell: its own answer.
        monkeypatch.setattr(Prometheus, "flags", lambda _self: {})
        with pytest.raises(Failed, match=r"made no snapshot: .*--web.enable-admin-api \(prometheus_admin_api: true"):
            draft_of(bench.source())
        assert bench.snapshots() == set()


def test_a_server_that_does_not_run_is_unreachable(tmp_path: Path) -> None:
    nobody = Prometheus(Server(f"http://127.0.0.1:{servers.free_port()}"))
    with pytest.raises(Failed, match="connection refused"):
        draft_of(PrometheusSource(nobody, str(tmp_path), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_wants_to_know_who_asks_says_so(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(
        "basic_auth_users: {njord: $2b$04$CANEgImBohOrH5DbY/TDMO/CuVJ0DbLXvUovD3eF9tUXagbsRKWWC}\n"
    )
    with servers.prometheus(tmp_path, arguments=[f"--web.config.file={tmp_path}/web.yml"]) as server:
        bench = Bench(server, "3", tmp_path / "notes")
        with pytest.raises(Failed, match="HTTP 401"):
            draft_of(bench.source())


def test_a_server_that_ends_meanwhile_leaves_a_note_and_the_next_backup_tidies_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Prometheus.snapshot
    process = bench.server.process

    def interrupted(self: Prometheus) -> str:
        # Asked, and killed before it can answer.
        process.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.01)
        threading.Timer(0.3, process.kill).start()
        return original(self)

    other = bench.prometheus.snapshot()
    monkeypatch.setattr(Prometheus, "snapshot", interrupted)
    with pytest.raises(Failed, match=r"made no snapshot: POST .*(closed|reset)"):
        draft_of(bench.source())
    process.wait()
    assert len(bench.noted()) == 1
    monkeypatch.setattr(Prometheus, "snapshot", original)
    bench.server.start()
    # As it would have left one, had it been killed a little later.
    assert bench.prometheus.snapshot() in bench.snapshots()
    assert draft_of(bench.source()).facts["remarks"] == []
    assert bench.snapshots() == {other}
    assert bench.noted() == []


def test_a_snapshot_that_the_server_gives_up_is_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Prometheus.snapshot

    def halfway(self: Prometheus) -> str:
        # One block is there; then it cannot link the next.
        moved = max(path for path in bench.data.iterdir() if len(path.name) == 26)
        moved.rename(bench.data / "moved")
        return original(self)

    monkeypatch.setattr(Prometheus, "snapshot", halfway)
    with pytest.raises(Failed, match=r"made no snapshot: POST .* HTTP 500: .*no such file"):
        draft_of(bench.source())
    assert bench.snapshots() == set()
    assert bench.noted() == []


# The data directory


def test_the_server_s_own_directory_is_found_and_another_one_is_refused_with_both_names(
    bench: Bench, tmp_path: Path
) -> None:
    def no_unit(_unit: str) -> str:
        return ""

    assert resolve(bench.prometheus, UNIT, no_unit) == str(bench.data)
    (tmp_path / "link").symlink_to(bench.data)
    assert resolve(bench.prometheus, UNIT, no_unit, f"{tmp_path}/link") == f"{tmp_path}/link"
    with pytest.raises(Failed, match=f"{tmp_path}, and the server at .* in {bench.data};"):
        resolve(bench.prometheus, UNIT, no_unit, str(tmp_path))
    # As where it runs in a container.
    bench.data.rename(tmp_path / "volume")
    with pytest.raises(Failed, match=f"in {bench.data}, and there is no such directory on this host.* container"):
        resolve(bench.prometheus, UNIT, no_unit)
    assert resolve(bench.prometheus, UNIT, no_unit, f"{tmp_path}/volume") == f"{tmp_path}/volume"


def test_a_snapshot_that_is_not_where_the_data_should_be_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other" / "snapshots").mkdir(parents=True)
    elsewhere = PrometheusSource(bench.prometheus, str(tmp_path / "other"), bench.notes)
    with pytest.raises(Failed, match=f"made snapshot .*, but not in {tmp_path}/other: it keeps its data elsewhere"):
        draft_of(elsewhere)
    assert bench.noted() == []


# What is left of it


RUN = """
import os, signal, sys, time
from pathlib import Path
from ansible_collections.njord.telemetry.plugins.module_utils._backup import prometheus
from ansible_collections.njord.telemetry.plugins.module_utils._http import Server
from ansible_collections.njord.telemetry.plugins.module_utils._prometheus import Prometheus
point, url, data, notes = sys.argv[1:]
written, write_file = [], prometheus.write_file

def dying(path, content):
    written.append(path)
    if point == "unnamed" and len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write_file(path, content)

prometheus.write_file = dying
with prometheus.PrometheusSource(Prometheus(Server(url)), data, Path(notes)).open():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("point", ["unnamed", "open"])
def test_a_killed_backup_leaves_a_note_by_which_its_snapshot_is_removed_and_no_other(bench: Bench, point: str) -> None:
    before = bench.prometheus.snapshot()
    command = [sys.executable, "-c", RUN, point, bench.server.url, str(bench.data), str(bench.notes)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(bench.snapshots()) == 2
    assert len(bench.noted()) == 1
    if point == "open":
        # Its name is known: one that came later is no matter.
        after = bench.prometheus.snapshot()
        assert recover(bench.notes) == []
        assert bench.snapshots() == {before, after}
    else:
        assert recover(bench.notes) == []
        assert bench.snapshots() == {before}
    assert bench.noted() == []


def test_the_snapshot_is_gone_also_where_the_backup_fails(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt), bench.source().open() as drafts:
        assert len(bench.snapshots()) == 1
        assert drafts[0].candidates[0].at.exists()
        raise KeyboardInterrupt
    assert bench.snapshots() == set()
    assert bench.noted() == []


def test_a_large_server_is_given_time_for_its_snapshot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = Prometheus.snapshot

    def snapshot(self: Prometheus) -> str:
        seen.append(self.server.timeout)
        return original(self)

    monkeypatch.setattr(Prometheus, "snapshot", snapshot)
    draft_of(bench.source())
    assert seen == [source.PATIENCE_SECONDS]
