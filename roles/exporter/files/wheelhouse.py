# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a wheelhouse on the controller: the distribution and all it needs, for the Python of another machine.

``wheelhouse.py SOURCE DIRECTORY PYTHON MACHINE [--look]`` prints, as JSON, ``path`` (a directory below DIRECTORY, named
after what it is made from), ``id`` (what it holds), ``files`` and ``built``. With ``--look`` it builds nothing; what is
not there has no files, and no id.

pip alone will not do: ``pip download --python-version`` reads the markers of requirements as those of the Python that
runs it. The Python of Debian 12 needs a package that the controller's may not need.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from fnmatch import fnmatch
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

# What the C library of the oldest supported system takes (Debian 12: glibc 2.36).
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
IGNORED = ("__pycache__", "build", "*.egg-info", ".*")


@dataclasses.dataclass(frozen=True)
class Target:
    """The machine that the wheels are for. :param python: its full version, such as ``3.11.2``."""

    python: str
    machine: str

    @property
    def short(self) -> str:
        return ".".join(self.python.split(".")[:2])

    def needs(self, requirement: Requirement, extras: set[str]) -> bool:
        environment = {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.python,
            "python_version": self.short,
            "sys_platform": "linux",
        }
        marker = requirement.marker
        return marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in extras | {""})

    def pip_options(self) -> list[str]:
        digits = self.short.replace(".", "")
        options = ["--python-version", self.python, "--implementation", "cp", "--only-binary=:all:"]
        for abi in (f"cp{digits}", "abi3", "none"):
            options += ["--abi", abi]
        for platform in PLATFORMS:
            options += ["--platform", f"{platform}_{self.machine}"]
        return options


def sources(source: Path) -> list[Path]:
    """Relative paths of what is built, without what tools leave beside it."""
    found = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    return sorted(path for path in found if not any(fnmatch(part, glob) for part in path.parts for glob in IGNORED))


def digest(source: Path, target: Target) -> str:
    """Of all that decides what the wheelhouse holds; this program is a part of it."""
    found = hashlib.sha256(f"{target.python} {target.machine}".encode())
    for path in (Path(__file__).resolve(), *sources(source)):
        content = (source / path).read_bytes()
        found.update(f"\n{path.name if path.is_absolute() else path} {len(content)}\n".encode() + content)
    return found.hexdigest()[:16]


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    # The same sources give the same wheel, byte for byte: a zip file cannot be older than 1980.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def wheels(directory: Path) -> dict[str, Path]:
    """By the name of the project."""
    return {parse_wheel_filename(path.name)[0]: path for path in directory.glob("*.whl")}


def metadata(wheel: Path) -> tuple[Version, list[Requirement]]:
    """What a wheel is, and what it needs."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = HeaderParser().parsestr(archive.read(name).decode())
    return Version(message["Version"]), [Requirement(text) for text in message.get_all("Requires-Dist", [])]


def collect(directory: Path, target: Target) -> None:
    """Downloads what the wheels in ``directory`` need, and what that needs."""
    todo: list[tuple[str, set[str]]] = [(name, set()) for name in wheels(directory)]
    while todo:
        name, extras = todo.pop()
        for requirement in metadata(wheels(directory)[name])[1]:
            if not target.needs(requirement, extras):
                continue
            wanted = canonicalize_name(requirement.name)
            known = wanted in wheels(directory)
            if not known:
                line = f"{requirement.name}{requirement.specifier}"
                pip("download", "--no-deps", "--dest", directory, *target.pip_options(), line)
            version = metadata(wheels(directory)[wanted])[0]
            if version not in requirement.specifier:
                sys.exit(f"{name} needs {requirement}, and {wanted} {version} is what another package needs")
            if not known or requirement.extras:
                todo.append((wanted, set(requirement.extras)))


def build(source: Path, path: Path, target: Target) -> None:
    """Whatever interrupts it, ``path`` is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        new = Path(temporary) / "wheelhouse"
        new.mkdir()
        # A build writes beside the sources, which may lie in a directory that is read only.
        copy = Path(temporary) / "source"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*IGNORED))
        pip("wheel", "--no-deps", "--wheel-dir", new, copy)
        collect(new, target)
        lines = [
            f"{name}=={metadata(wheel)[0]} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
            for name, wheel in sorted(wheels(new).items())
        ]
        (new / "requirements.txt").write_text("".join(lines))
        try:
            new.rename(path)
        except OSError:
            # Another host of the same kind was quicker.
            if not path.is_dir():
                raise


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds a wheelhouse for the Python of another machine.")
    parser.add_argument("source", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("python")
    parser.add_argument("machine")
    parser.add_argument("--look", action="store_true")
    options = parser.parse_args()
    target = Target(options.python, options.machine)
    path = options.directory.expanduser() / digest(options.source, target)
    built = not path.is_dir() and not options.look
    if built:
        build(options.source, path, target)
    files = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    identity = hashlib.sha256((path / "requirements.txt").read_bytes()).hexdigest()[:16] if files else ""
    print(json.dumps({"path": str(path), "id": identity, "files": files, "built": built}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
