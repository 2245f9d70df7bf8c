# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs all of ``ansible-test sanity`` on a copy of the checkout, on every Python that it knows and this machine has.

A copy, because ansible-test takes only a folder that is called ``ansible_collections/njord/telemetry``.

``python -m tests.testbench.sanity [arguments of ansible-test sanity]``
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.testbench.interpreters import interpreters
from tests.testbench.packages import ROOT, run

BUILD = ROOT / "build" / "sanity"
COPY = BUILD / "ansible_collections" / "njord" / "telemetry"
BOOTSTRAP = '''\
"""Stands in for the get-pip that ansible-test would download: pip out of its wheel, from the package index."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "{wheel}"))
from pip._internal.cli.main import main

sys.exit(main(["install"] + [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]))
'''


def copy() -> None:
    """Only what git would take: what is ignored is no part of the collection."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).split("\0")
    shutil.rmtree(BUILD, ignore_errors=True)
    for name in filter(None, listed):
        source, target = ROOT / name, COPY / name
        if os.path.lexists(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # ansible-test asks git what there is: of its own repository, as ours ignores build/, and without its own output.
    run(["git", "init", "--quiet"], cwd=COPY)
    (COPY / ".git" / "info" / "exclude").write_text("/tests/output/\n")


def provide_pip() -> None:
    """Where the get-pip of ansible-test cannot be reached, its cache is filled with ours."""
    ansible_test = importlib.util.find_spec("ansible_test")
    if ansible_test is None or ansible_test.origin is None:
        raise RuntimeError(f"no ansible-test in {sys.prefix}: run make venv")
    requirements = (Path(ansible_test.origin).parent / "_internal" / "python_requirements.py").read_text()
    cache = Path.home() / ".ansible" / "test" / "cache"
    for version in set(re.findall(r"\bpip='([0-9.]+)'", requirements)):
        script = cache / f"get_pip_{version.replace('.', '_')}.py"
        if script.exists():
            continue
        cache.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), f"pip=={version}"])
        script.write_text(BOOTSTRAP.format(wheel=f"pip-{version}-py3-none-any.whl"))


def path_of_interpreters() -> str:
    """A PATH with each interpreter by its version, without a version manager's shims: ansible-test trips on them."""
    directory = BUILD / "bin"
    directory.mkdir()
    for (major, minor), interpreter in interpreters().items():
        (directory / f"python{major}.{minor}").symlink_to(interpreter)
    tools = Path(sys.executable).parent
    others = [entry for entry in os.get_exec_path() if not entry.endswith("/shims")]
    return os.pathsep.join([str(directory), str(tools), *others])


def main(arguments: list[str]) -> int:
    run([str(ROOT / "tests/testbench/debian.sh"), "shellcheck"])
    provide_pip()
    copy()
    environment = os.environ | {"PATH": path_of_interpreters()}
    # There is no PowerShell here, and Debian has no package of it.
    command = ["ansible-test", "sanity", "--venv", "--color", "no", "--skip-test", "pslint", *arguments]
    return subprocess.run(command, cwd=COPY, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
