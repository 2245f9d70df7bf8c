# SPDX-License-Identifier: GPL-3.0-or-later
"""file_tree as a role uses it: through ansible-playbook, with real programs that validate and a real Prometheus."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from tests.conftest import COLLECTIONS
from tests.testbench.packages import program
from tests.testbench.servers import Server, prometheus

RESULT = re.compile(r"^(?:ok|changed|fatal): \[localhost\][^=]*=> (\{.*\})$", re.MULTILINE)
ALWAYS = {"name": "test", "templates": "tree"}


class Ran(t.NamedTuple):
    code: int
    output: str

    @property
    def result(self) -> dict[str, t.Any]:
        found = RESULT.search(self.output)
        assert found, self.output
        result: dict[str, t.Any] = json.loads(found.group(1))
        return result

    @property
    def actions(self) -> list[tuple[str, str]]:
        return [(action["action"], Path(action["subject"]).name) for action in self.result["plan"]]


class Playbook:
    """A playbook of one task in a directory of its own, beside its ``templates/tree``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.templates = directory / "templates" / "tree"
        self.templates.mkdir(parents=True)

    def template(self, path: str, text: str | bytes) -> None:
        place = self.templates / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())

    def __call__(self, *arguments: str, variables: dict[str, t.Any] | None = None, **options: t.Any) -> Ran:
        options = {**ALWAYS, "path": str(self.directory / "host" / "tree"), **options}
        if options.get("state") == "absent":
            del options["templates"]
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable, **(variables or {})},
            "tasks": [{"njord.telemetry.file_tree": options}],
        }
        (self.directory / "play.yml").write_text(json.dumps([play]))
        command = [f"{Path(sys.executable).parent}/ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml"]
        done = subprocess.run(
            [*command, *(arguments or ["-v"])],
            cwd=self.directory,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_HOME": str(self.directory / "ansible"),
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_NOCOLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ran(done.returncode, done.stdout)


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    return Playbook(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Where the tree is put, by the playbook."""
    return tmp_path / "host"


def everything(directory: Path) -> dict[str, tuple[t.Any, ...]]:
    """All that is there, with its times."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in [directory, *directory.rglob("*")]
    }


def test_a_tree_costs_one_execution_on_the_host_and_nothing_changes_the_second_time(
    playbook: Playbook, host: Path
) -> None:
    playbook.template("main.yml.j2", "# {{ ansible_managed }}\nname: {{ it }}\n{% if true %}\nyes\n{% endif %}\n")
    playbook.template("rules/raw.bin", b"\xff\x00{{ untouched }}")
    playbook.template("rules/optional.yml.j2", "{% if false %}\nnever\n{% endif %}\n\n")
    playbook.template("_part.j2", "")
    playbook.template("with_part.yml.j2", "{% include '_part.j2' %}{% include 'rules/raw.txt' %}\n")
    playbook.template("rules/raw.txt", "{{ it }}")
    (playbook.directory / "files").mkdir()
    wheel = os.urandom(3_000_000)
    (playbook.directory / "files" / "wheel.whl").write_bytes(wheel)
    options: dict[str, t.Any] = {
        "variables": {"it": "Njörd"},
        "contents": {"computed.json": "{{ {'a': [1, 2]} | to_json }}", "empty": ""},
        "copies": {"wheels/wheel.whl": "wheel.whl"},
    }
    ran = playbook("-vvv", **options)
    assert ran.code == 0, ran.output
    assert ran.output.count("Using module file") == 1
    assert ran.output.count("EXEC /bin/sh") <= 2
    tree = host / "tree"
    assert {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()} == {
        ".test.file_tree": (tree / ".test.file_tree").read_bytes(),
        "main.yml": "# Ansible managed\nname: Njörd\nyes\n".encode(),
        "rules/raw.bin": b"\xff\x00{{ untouched }}",
        "rules/raw.txt": b"{{ it }}",
        "with_part.yml": "Njörd\n".encode(),
        "computed.json": b'{"a": [1, 2]}\n',
        "wheels/wheel.whl": wheel,
    }
    before = everything(host)
    again = playbook(**options)
    assert (again.code, again.result["changed"], again.actions) == (0, False, [])
    assert everything(host) == before


def test_check_mode_writes_nothing_and_plans_what_the_run_then_does(playbook: Playbook, host: Path) -> None:
    for step in ("one", "two"):
        playbook.template("main.yml.j2", "{{ step }}\n")
        playbook.template(f"{step}.yml", step)
        if step == "two":
            (playbook.templates / "one.yml").unlink()
        host.mkdir(exist_ok=True)
        before = everything(host)
        options: dict[str, t.Any] = {"variables": {"step": step}, "validate": [["test", "-f", "%s/main.yml"]]}
        check = playbook("--check", "--diff", "-v", **options)
        assert everything(host) == before
        run = playbook(**options)
        assert check.result == run.result
        assert run.result["changed"]
    assert run.actions == [("remove", "one.yml"), ("change", "main.yml"), ("create", "two.yml")]
    assert "-one" in check.output
    assert "+two" in check.output
    check = playbook("--check", "-v", state="absent")
    assert host.joinpath("tree").exists()
    assert playbook(state="absent").result["plan"] == check.result["plan"]
    assert list(host.iterdir()) == []


def test_check_mode_on_an_empty_host_names_what_is_not_installed_yet(playbook: Playbook, host: Path) -> None:
    playbook.template("main.yml", "")
    options: dict[str, t.Any] = {
        "owner": "no-such-user",
        "group": "no-such-group",
        "validate": ["no-such-promtool check %s"],
        "reload_command": "false",
        "reload_only_if": "no-such-systemctl is-active demo",
    }
    ran = playbook("--check", "-v", **options)
    assert ran.code == 0, ran.output
    assert [(finding["subject"], finding["severity"], finding["summary"]) for finding in ran.result["findings"]] == [
        ("no-such-user", "unknown", "not installed yet"),
        ("no-such-group", "unknown", "not installed yet"),
        ("no-such-promtool", "unknown", "not installed yet"),
    ]
    assert not host.exists()
    for option, message in (
        ("owner", "owner: there is no 'no-such-user' on this host"),
        ("group", "group: there is no 'no-such-group' on this host"),
        ("validate", "no-such-promtool is not installed"),
    ):
        assert message in playbook(**{option: options[option]}).result["msg"]
        assert not host.exists()


def test_secrets_are_in_no_output_however_verbose(playbook: Playbook) -> None:
    playbook.template("web.yml.j2", "password: {{ password }}\n")
    playbook.template("main.yml", "open\n")
    options: dict[str, t.Any] = {"secrets": ["web.yml", "secrets/*"]}
    for password in ("sesame-one", "sesame-two"):
        ran = playbook(
            *("-vvvv", "--diff"),
            variables={"password": password},
            contents={"secrets/token": password},
            validate=["true"],
            **options,
        )
        assert ran.code == 0, ran.output
        assert "content hidden" in ran.output
        assert "sesame" not in ran.output
        # The word in which the files travel is a secret as well.
        assert "H4sI" not in ran.output
    refused = playbook(
        *("-vvvv", "--diff"),
        variables={"password": "sesame-three"},
        validate=["sh -c 'cat %s/web.yml; exit 1'"],
        **options,
    )
    assert refused.code != 0
    assert "(hidden)" in refused.output
    assert "sesame" not in refused.output
    assert "sesame" not in playbook("-vvvv", "--diff", state="absent").output


def test_files_that_promtool_refuses_change_nothing_and_the_error_says_why(playbook: Playbook, host: Path) -> None:
    validate = [[str(program("promtool")), "check", "config", "%s/prometheus.yml"]]
    playbook.template("prometheus.yml", "rule_files: [rules/*.yml]\n")
    playbook.template("rules/a.yml", "groups: [{name: a, rules: [{record: b, expr: up}]}]\n")
    assert playbook(validate=validate).code == 0
    before = everything(host)
    playbook.template("rules/a.yml", "groups: [{name: a, rules: [{record: b, expr: 'up ='}]}]\n")
    for mode in (["-v"], ["--check", "-v"]):
        ran = playbook(*mode, validate=validate)
        assert ran.code != 0
        assert f"{host}/tree/rules/a.yml" in ran.result["msg"]
        assert "parse error" in ran.result["msg"]
        assert ran.actions == [("change", "a.yml")]
        assert not ran.result["changed"]
    assert everything(host) == before


GOOD = "scrape_configs: [{job_name: NAME}]\n"
BAD = "scrape_configs: [{job_name: twice}, {job_name: twice}]\n"


def configuration(server: Server) -> str:
    """What Prometheus says that it runs with."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/api/v1/status/config")
    answer: str = json.loads(connection.getresponse().read())["data"]["yaml"]
    connection.close()
    return answer


@pytest.mark.parametrize("version", ["3", "2"])
def test_files_that_a_real_prometheus_refuses_give_way_to_the_old_ones(
    playbook: Playbook, tmp_path: Path, version: str
) -> None:
    directory = tmp_path / "prometheus"
    directory.mkdir()
    with prometheus(directory, version, config=GOOD.replace("NAME", "theirs")) as server:
        options: dict[str, t.Any] = {"path": str(directory), "reload_url": f"{server.url}/-/reload"}
        playbook.template("prometheus.yml", GOOD.replace("NAME", "ours"))
        ran = playbook(**options)
        assert ran.actions == [("adopt", "prometheus.yml"), ("reload", "reload")]
        assert ran.result["reloaded"]
        assert "job_name: ours" in configuration(server)

        playbook.template("prometheus.yml", BAD)
        playbook.template("rules/new.yml", "groups: []\n")
        ran = playbook(**options)
        assert ran.code != 0
        assert "found multiple scrape configs" in ran.result["msg"]
        assert "The old files are back, and are accepted" in ran.result["msg"]
        assert [finding["severity"] for finding in ran.result["findings"]] == ["critical"]
        assert not ran.result["reloaded"]
        assert (directory / "prometheus.yml").read_text() == GOOD.replace("NAME", "ours")
        assert not (directory / "rules").exists()
        assert not (directory / ".test.file_tree.d").exists()
        assert "job_name: ours" in configuration(server)

        assert playbook(**options, state="absent").result["reloaded"]
        assert "job_name: theirs" in configuration(server)
        assert {path.name for path in directory.iterdir()} == {"prometheus.yml", "data", "prometheus.log"}


# By bcrypt, of first-password and second-password.
HASHES = {
    "first-password": "$2b$04$abcdefghijklmnopqrstuuT2j8U6U5rBY6aIOMzZiJOWuJPYKLLOe",
    "second-password": "$2b$04$abcdefghijklmnopqrstuukluLair1GoPMg9PQfjHAu2MGkeVdhk2",
}


def test_a_password_that_changes_with_the_files_is_the_one_the_reload_uses(playbook: Playbook, tmp_path: Path) -> None:
    directory = tmp_path / "prometheus"
    directory.mkdir()
    playbook.template("prometheus.yml", GOOD)
    playbook.template("web.yml.j2", "basic_auth_users: {operator: {{ hash }}}\n")
    playbook.template("password.j2", "{{ password }}\n")
    options: dict[str, t.Any] = {"path": str(directory), "secrets": ["web.yml", "password"]}

    def run(password: str, **more: t.Any) -> Ran:
        return playbook(variables={"password": password, "hash": HASHES[password]}, **options, **more)

    assert run("first-password").code == 0
    with prometheus(directory, config=GOOD, arguments=[f"--web.config.file={directory}/web.yml"]) as server:
        told = {
            "reload_url": f"{server.url}/-/reload",
            "reload_username": "operator",
            "reload_password_file": f"{directory}/password",
        }
        ran = run("second-password", **told)
        assert ran.code == 0, ran.output
        assert ran.result["reloaded"]
        (directory / "prometheus.yml").write_text(BAD)
        ran = playbook(variables={"password": "wrong", "hash": HASHES["first-password"]}, **options, **told)
        assert "HTTP 401" in ran.result["msg"]
        assert (directory / "password").read_text() == "second-password\n"


def test_nothing_is_reloaded_where_nothing_runs_yet(playbook: Playbook) -> None:
    playbook.template("main.yml", "")
    ran = playbook(reload_url="http://127.0.0.1:9/-/reload", reload_only_if="false")
    assert (ran.code, ran.result["reloaded"], ran.actions[-1]) == (0, False, ("create", "main.yml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contents": {"../escape": "x"}}, "'../escape' is no path inside the tree"),
        ({"contents": {"/etc/passwd": "x"}}, "'/etc/passwd' is no path inside the tree"),
        ({"contents": {"main.yml": "x"}}, "contents: 'main.yml' is wanted twice"),
        ({"contents": {"list": [1]}}, "contents: 'list' holds "),
        ({"templates": "nowhere"}, "templates: "),
        ({"copies": {"wheel": "nowhere.whl"}}, "copies: "),
        ({"mode": 420}, "mode: 420 is no mode; an octal number in quotes is, such as '0644'"),
        ({"secret_mode": "u=rw"}, "secret_mode: 'u=rw' is no mode"),
        ({"path": "relative"}, "path: 'relative' is no absolute path"),
        ({"path": "/"}, "path: '/' is no absolute path of a directory"),
        ({"name": "../x"}, "name: '../x' is no name"),
        ({"validate": [[]]}, "validate: [] is no command"),
        ({"reload_url": "127.0.0.1:9090"}, "reload_url: '127.0.0.1:9090' is no address of a server"),
        ({"reload_url": "http://a", "reload_command": "b"}, "mutually exclusive"),
        ({"unknown": 1}, "Unsupported parameters"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    playbook: Playbook, host: Path, options: dict[str, t.Any], message: str
) -> None:
    playbook.template("main.yml", "")
    ran = playbook(**options)
    assert ran.code != 0
    assert message in ran.output
    assert not host.exists()


def test_a_template_that_fails_is_named(playbook: Playbook) -> None:
    playbook.template("rules/broken.yml.j2", "{{ not_defined_anywhere }}")
    ran = playbook()
    assert ran.code != 0
    assert "rules/broken.yml.j2" in ran.output
    assert "not_defined_anywhere" in ran.output
