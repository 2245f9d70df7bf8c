# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""A directory in which some files are ours: what it holds, what it shall hold, and the way from one to the other.

Inside the directory, besides the files, there are for each owner

``.NAME.file_tree``
    the manifest: which files and directories are ours. Part of the tree, and swapped with it.
``.NAME.file_tree.d``
    only during a run: hard links to what is replaced, the new files, and the journal that says what was there
    *before*. From the journal to its removal the tree is not accepted: whatever interrupts the run, the next one
    takes the journal for what was there, plans from that, and so does the rest.

A destination that is missing, and its missing parents, come into being by one rename, and go by one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import posixpath
import shutil
import stat
import typing as t
from pathlib import Path

from .accounts import Account
from .wanted import File, TreeError, check_path, parents

MODE_OF_OUR_OWN = 0o600
AS_IT_COMES = -1
NOTHING_THERE = (FileNotFoundError, NotADirectoryError)


class Refused(TreeError):
    """Whoever reads the files does not accept the new ones; the message is its reason."""


@dataclasses.dataclass(frozen=True)
class Directory:
    """A directory as it was or shall be; :data:`AS_IT_COMES` where the user or the group does not matter."""

    mode: int
    uid: int
    gid: int


@dataclasses.dataclass(frozen=True)
class Before:
    """Whatever was at ``path`` before the run."""

    path: str


# The manifest and the journal belong to whoever runs this.
NOBODY_ELSE = Directory(MODE_OF_OUR_OWN, AS_IT_COMES, AS_IT_COMES)

# Above the destination we make what everybody may pass.
PARENT = Directory(0o755, AS_IT_COMES, AS_IT_COMES)

# What a path shall hold; None for nothing.
Target = t.Union[File, Directory, Before, None]
# The same with its bytes in the staging directory, under the name that stands here.
Staged = t.Union[str, Directory, None]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is at a path. :param kind: ``file``, ``link``, ``directory`` or ``other``."""

    kind: str
    location: Path
    mode: int
    uid: int
    gid: int

    @property
    def content(self) -> bytes:
        """Of a symbolic link, where it points."""
        if self.kind == "link":
            return os.fsencode(os.readlink(self.location))
        return self.location.read_bytes()


@dataclasses.dataclass
class Owned:
    """What the manifest says of a file. :param adopted: what was there before is kept beside it."""

    sha256: str
    adopted: bool
    secret: bool


@dataclasses.dataclass
class Manifest:
    """
    :param files: by relative path.
    :param directories: relative paths of those we made.
    :param parents: absolute paths of those we made to have a destination, the destination last.
    """

    files: dict[str, Owned] = dataclasses.field(default_factory=dict)
    directories: list[str] = dataclasses.field(default_factory=list)
    parents: list[str] = dataclasses.field(default_factory=list)

    def dump(self) -> bytes:
        return (json.dumps({"version": 1, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def load(cls, content: bytes, path: Path) -> Manifest:
        try:
            document = json.loads(content)
            if document["version"] != 1:
                raise ValueError(f"version {document['version']}, and 1 is known")
            files = {name: Owned(**owned) for name, owned in document["files"].items()}
            for name in (*files, *document["directories"]):
                check_path(name)
            return cls(files, document["directories"], document["parents"])
        except (ValueError, KeyError, TypeError, AttributeError, TreeError) as error:
            raise TreeError(f"{path} is no list of our files ({error}); restore it, or move it away") from error


@dataclasses.dataclass
class Plan:
    """
    :param actions: ``{action, subject, reason}`` each.
    :param diff: the same made readable, as Ansible prints it.
    :param after: what each path that is touched shall hold.
    :param missing: directories to be made for the destination, absolute, the topmost first.
    """

    present: bool
    actions: list[dict[str, str]] = dataclasses.field(default_factory=list)
    diff: list[dict[str, str]] = dataclasses.field(default_factory=list)
    after: dict[str, Target] = dataclasses.field(default_factory=dict)
    missing: list[Path] = dataclasses.field(default_factory=list)


class Tree:
    """One owner's view of a directory; use :meth:`locked` around what belongs together.

    :param path: the destination, absolute.
    :param name: whose files these are.
    """

    def __init__(
        self,
        path: str,
        name: str,
        owner: Account | None = None,
        group: Account | None = None,
        directory_mode: int = 0o755,
    ) -> None:
        self.path = Path(path)
        self.manifest_name = f".{name}.file_tree"
        self.owner = owner
        self.group = group
        self.directory = Directory(
            directory_mode, owner.number if owner else AS_IT_COMES, group.number if group else AS_IT_COMES
        )
        self._staging = self.absolute(f"{self.manifest_name}.d")
        self._journal = self._staging / "journal"
        self._before: dict[str, Staged] = {}

    def absolute(self, path: str) -> Path:
        return self.path / path

    # What is there.

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        """Nobody else changes the tree meanwhile; what an interrupted run left is read."""
        with contextlib.ExitStack() as stack:
            if self.path.is_dir():
                descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            elif os.path.lexists(self.path):
                raise TreeError(f"{self.path} is no directory")
            self._before = self._read_journal()
            yield

    def _read_journal(self) -> dict[str, Staged]:
        """
        :raises TreeError: where the staging directory is somebody else's: it says what is put where.
        """
        try:
            status = self._staging.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise TreeError(f"{self._staging} is not ours; move it away")
            entries = json.loads(self._journal.read_bytes())
        except NOTHING_THERE:
            return {}
        return {path: Directory(*entry) if isinstance(entry, list) else entry for path, entry in entries.items()}

    def look(self, path: str) -> Seen | None:
        """What was last accepted at a relative path; None for nothing, also behind a link to a directory."""
        entry = self._before.get(path, "")
        if entry is None:
            return None
        if isinstance(entry, Directory):
            return Seen("directory", self.absolute(path), entry.mode, entry.uid, entry.gid)
        location = self.absolute(path)
        if entry:
            location = self._staging / entry
        for parent in [] if entry else parents(path):
            above = self.look(parent)
            if above is None or above.kind != "directory":
                return None
        try:
            status = location.stat() if path == "." else location.lstat()
        except NOTHING_THERE:
            return None
        kinds = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "directory"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
        return Seen(kind, location, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)

    def children(self, path: str) -> list[str]:
        """Relative paths of what a directory holds, without what is there for this owner's sake only."""
        prefix = "" if path == "." else f"{path}/"
        names = {prefix + name for name in _names(self.absolute(path))}
        names.update(known for known in self._before if (posixpath.dirname(known) or ".") == path)
        return sorted(
            name
            for name in names
            if name != "." and not name.startswith(self.manifest_name) and self.look(name) is not None
        )

    def manifest(self) -> Manifest:
        """
        :raises TreeError: where it cannot be read.
        """
        seen = self.look(self.manifest_name)
        if seen is None:
            return Manifest()
        if seen.kind != "file":
            raise TreeError(f"{self.absolute(self.manifest_name)} is no file; move it away")
        return Manifest.load(seen.content, self.absolute(self.manifest_name))

    @property
    def interrupted(self) -> bool:
        """An earlier run did not come to its end."""
        return bool(self._before) or os.path.lexists(self._staging) or bool(self._hidden_ones())

    def as_before(self) -> dict[str, Target]:
        """What undoes the interrupted run, path by path."""
        return {path: Before(path) for path in self._before}

    def missing(self) -> list[Path]:
        """The destination and its parents, as far as they do not exist, the topmost first."""
        missing: list[Path] = []
        path = self.path
        while not os.path.lexists(path):
            missing.insert(0, path)
            path = path.parent
        if not path.is_dir():
            raise TreeError(f"{path} is no directory")
        return missing

    def removable(self, goes: t.Callable[[str], bool]) -> list[Path]:
        """Directories that we made for the destination and that will be empty, the topmost first.

        :param goes: whether a relative path in the destination will be gone.
        """
        chain: list[Path] = []
        made = [Path(parent) for parent in self.manifest().parents]
        if self.path not in made or not all(goes(child) for child in self.children(".")):
            return chain
        for path in reversed(made):
            others = [name for name in _names(path) if not name.startswith(self.manifest_name)]
            if path != self.path and others != [chain[0].name]:
                break
            chain.insert(0, path)
        return chain

    # The way.

    def apply(self, plan: Plan, accept: t.Callable[[], None]) -> None:
        """Does what the plan says; all of it, or nothing where an error comes back.

        :param accept: tells whoever reads the files; called again for the old ones after it refused.
        :raises Refused: from ``accept``; the old tree is back.
        :raises TreeError: where what was written does not read back; the old tree is back.
        :raises OSError: where the system refuses; the old tree is back.
        """
        for top in self._hidden_ones():
            self._discard(top)
        if plan.missing:
            self._make_destination(plan.missing)
        elif not self.path.is_dir():
            accept()
            return
        try:
            self._put(self._stage(plan.after))
            self._prove(plan.after)
            accept()
        except (OSError, TreeError) as error:
            self._put(self._before)
            if isinstance(error, Refused):
                error = _with_the_old_files(error, accept)
            self._close(bool(plan.missing))
            raise error
        self._close(not plan.present)

    def _stage(self, after: dict[str, Target]) -> dict[str, Staged]:
        """Keeps what was, writes what shall be, and opens the journal: from here on the tree is not accepted."""
        if not self._before:
            self._remove_staging()
        self._staging.mkdir(0o700, exist_ok=True)
        before = dict(self._before)
        for path in sorted(set(after) - set(before)):
            seen = self.look(path)
            if seen is None:
                before[path] = None
            elif seen.kind == "directory":
                before[path] = Directory(seen.mode, seen.uid, seen.gid)
            else:
                before[path] = self._link(seen.location, _staged_name("before", path))
        staged: dict[str, Staged] = {}
        for path, target in after.items():
            if isinstance(target, File):
                name = _staged_name("after", path)
                self._write(name, target, self._owner_of(path))
                staged[path] = name
            else:
                staged[path] = before[target.path] if isinstance(target, Before) else target
        journal = {
            path: dataclasses.astuple(entry) if isinstance(entry, Directory) else entry
            for path, entry in before.items()
        }
        self._write("journal.new", File(json.dumps(journal).encode(), MODE_OF_OUR_OWN), NOBODY_ELSE)
        (self._staging / "journal.new").rename(self._journal)
        _sync(self._staging)
        self._before = before
        return staged

    def _write(self, name: str, file: File, owner: Directory) -> None:
        location = self._staging / name
        _unlink(location)
        _write_new(location, file, owner)

    def _link(self, location: Path, name: str) -> str:
        link = self._staging / name
        _unlink(link)
        os.link(location, link, follow_symlinks=False)
        return name

    def _put(self, staged: dict[str, Staged]) -> None:
        """Makes every path hold what is staged for it; may be repeated, and does not care how far it came before."""
        for path in sorted(staged, reverse=True):
            target, location = staged[path], self.absolute(path)
            if _is_directory(location):
                if not isinstance(target, Directory):
                    _remove_directory(location)
            elif not isinstance(target, str):
                _unlink(location)
        for path in sorted(staged):
            target, location = staged[path], self.absolute(path)
            if isinstance(target, Directory):
                _make_directory(location, target)
            elif target is not None:
                self._link(self._staging / target, "moving")
                (self._staging / "moving").rename(location)
        for directory in sorted({self.absolute(path).parent for path in staged}):
            if directory.is_dir():
                _sync(directory)

    def _prove(self, after: dict[str, Target]) -> None:
        on_disk = Tree(str(self.path), "", self.owner, self.group, self.directory.mode)
        for path, target in after.items():
            seen = on_disk.look(path)
            if isinstance(target, File):
                holds = seen is not None and seen.kind == "file" and seen.content == target.content
                holds = holds and fits(t.cast(Seen, seen), dataclasses.replace(self._owner_of(path), mode=target.mode))
            else:
                holds = target is not None or seen is None
            if not holds:
                raise TreeError(f"{self.absolute(path)} does not hold what was written: somebody else writes there")

    def _close(self, leave: bool) -> None:
        """The tree is accepted: what was kept goes, with ``leave`` the directories made for the destination too."""
        chain = self.removable(lambda path: not os.path.lexists(self.absolute(path))) if leave else []
        if chain:
            chain[0].rename(self._hidden(chain[0]))
            _sync(chain[0].parent)
            self._discard(chain[0])
        else:
            _unlink(self._journal)
            self._remove_staging()
        self._before = {}

    def _remove_staging(self) -> None:
        if os.path.lexists(self._staging):
            shutil.rmtree(self._staging)

    def _owner_of(self, path: str) -> Directory:
        return NOBODY_ELSE if path == self.manifest_name else self.directory

    # The destination itself, under a hidden name in its parent while it comes and goes.

    def _hidden(self, path: Path) -> Path:
        return path.with_name(f"{self.manifest_name}~{path.name}")

    def _hidden_ones(self) -> list[Path]:
        above = [path for path in (self.path, *self.path.parents) if path.name]
        return [path for path in above if os.path.lexists(self._hidden(path))]

    def _make_destination(self, missing: list[Path]) -> None:
        top = missing[0]
        hidden = self._hidden(top)
        for path in missing:
            _make_directory(hidden / path.relative_to(top), PARENT)
        destination = hidden / self.path.relative_to(top)
        _make_directory(destination, self.directory)
        manifest = Manifest(parents=[str(path) for path in missing])
        _write_new(destination / self.manifest_name, File(manifest.dump(), MODE_OF_OUR_OWN), NOBODY_ELSE)
        _sync(destination)
        hidden.rename(top)
        _sync(top.parent)

    def _discard(self, top: Path) -> None:
        """Removes what stands under the hidden name of a directory; nothing there is anybody else's."""
        hidden = self._hidden(top)
        path = hidden / self.path.relative_to(top)
        if (path / self._staging.name).exists():
            shutil.rmtree(path / self._staging.name)
        _unlink(path / self.manifest_name)
        while path != hidden.parent:
            if path.exists():
                path.rmdir()
            path = path.parent


def fits(seen: Seen, wanted: Directory) -> bool:
    """Whether mode, user and group are as wanted."""
    pairs = zip((wanted.mode, wanted.uid, wanted.gid), (seen.mode, seen.uid, seen.gid))
    return all(want in (AS_IT_COMES, have) for want, have in pairs)


def _with_the_old_files(error: Refused, accept: t.Callable[[], None]) -> Refused:
    try:
        accept()
    except Refused as again:
        return Refused(f"{error}. The old files are back, and are refused as well: {again}")
    return Refused(f"{error}. The old files are back, and are accepted")


def _staged_name(kind: str, path: str) -> str:
    return f"{kind}-{hashlib.sha256(path.encode()).hexdigest()}"


def _names(path: Path) -> list[str]:
    try:
        return [child.name for child in path.iterdir()]
    except NOTHING_THERE:
        return []


def _unlink(path: Path) -> None:
    with contextlib.suppress(*NOTHING_THERE):
        path.unlink()


def _make_directory(path: Path, wanted: Directory) -> None:
    path.mkdir(0o700, exist_ok=True)
    os.chown(path, wanted.uid, wanted.gid)
    path.chmod(wanted.mode)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove_directory(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as error:
        # Somebody put something in: the directory stays.
        if error.errno != errno.ENOTEMPTY:
            raise


def _write_new(path: Path, file: File, owner: Directory) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fchown(descriptor, owner.uid, owner.gid)
        os.fchmod(descriptor, file.mode)
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
