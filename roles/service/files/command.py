# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a command of one file on the controller, which needs nothing but ``/usr/bin/python3`` where it runs.

``command.py ROOT MAIN DIRECTORY NAME...`` prints, as JSON, ``path`` (a file below DIRECTORY, named after what it is
made from) and ``built``. MAIN is the program; it finds modules and packages of ROOT, each NAME, in a package with the
name of that directory. The same sources give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

SHEBANG = b"#!/usr/bin/python3\n"
# A zip file cannot be older.
TIME = (1980, 1, 1, 0, 0, 0)


def sources(root: Path, names: list[str], main: Path) -> dict[str, bytes]:
    """What the command holds, by its name there."""
    paths = [
        path for name in names for path in ((root / name).rglob("*.py") if (root / name).is_dir() else [root / name])
    ]
    found = {f"{root.name}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths}
    return dict(sorted({**found, f"{root.name}/__init__.py": b"", "__main__.py": main.read_bytes()}.items()))


def command(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    packed.write(SHEBANG)
    with zipfile.ZipFile(packed, "a") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, TIME), content)
    return packed.getvalue()


def write(path: Path, content: bytes) -> None:
    """Whatever interrupts it, ``path`` is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        new = Path(temporary) / path.name
        new.write_bytes(content)
        new.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds a command of one file.")
    parser.add_argument("root", type=Path)
    parser.add_argument("main", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    content = command(sources(options.root.resolve(), options.names, options.main))
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = options.directory.expanduser() / f"{options.main.stem}-{digest}"
    built = not path.is_file() or path.read_bytes() != content
    if built:
        write(path, content)
    print(json.dumps({"path": str(path), "built": built}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
