# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""From what a tree holds and what is wanted to the actions between them; writes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing as t

from .accounts import group_name, user_name
from .tree import MODE_OF_OUR_OWN, Before, Directory, Manifest, Owned, Plan, Seen, Tree, fits
from .wanted import KEPT, File, TreeError, parents

# Larger content is shown by size and hash only.
SHOWN_BYTES = 100_000
HIDDEN = "content hidden"
NAMES = {"directory": "a directory", "link": "a symbolic link", "other": "neither a file nor a directory"}


def plan(tree: Tree, wanted: t.Mapping[str, File], present: bool = True) -> Plan:
    """What has to be done so that the tree holds ``wanted``, and of ours nothing else.

    :param wanted: checked paths.
    :param present: False where nothing of ours is to remain, neither the manifest nor a directory; ``wanted`` is empty.
    :raises TreeError: where something that is not ours stands in the way, and cannot be kept beside.
    """
    return _Planner(tree, wanted, present).plan()


class _Planner:
    def __init__(self, tree: Tree, wanted: t.Mapping[str, File], present: bool) -> None:
        self.tree = tree
        self.wanted = wanted
        self.needed = {parent for path in wanted for parent in parents(path)}
        self.old = tree.manifest()
        self.new = Manifest(parents=self.old.parents)
        self.result = Plan(present)

    def plan(self) -> Plan:
        self._recover()
        if self.result.present:
            self._destination()
        self._unwanted_files()
        self._unwanted_directories()
        self._wanted_directories()
        self._wanted_files()
        if self.result.present:
            self._manifest()
        else:
            self._leave()
        return self.result

    def _note(self, action: str, path: str, reason: str) -> None:
        self.result.actions.append({"action": action, "subject": str(self.tree.absolute(path)), "reason": reason})

    def _goes(self, path: str) -> bool:
        return self.result.after.get(path, Before(path)) is None

    def _recover(self) -> None:
        if self.tree.interrupted:
            self.result.after.update(self.tree.as_before())
            self._note("recover", ".", "an earlier run was interrupted; its left-overs are cleared")

    def _destination(self) -> None:
        self.result.missing = self.tree.missing()
        if self.result.missing:
            self.new.parents = [str(path) for path in self.result.missing]
            for made in self.result.missing:
                self._note("create", str(made), "the directory does not exist")
        elif str(self.tree.path) in self.old.parents:
            self._directory_attributes(".")

    def _unwanted_files(self) -> None:
        for path in sorted(set(self.old.files) - set(self.wanted)):
            seen, owned = self.tree.look(path), self.old.files[path]
            kept = self.tree.look(path + KEPT) if owned.adopted else None
            if seen is not None and seen.kind not in ("file", "link"):
                raise TreeError(f"{self.tree.absolute(path)} was a file of ours, and is {NAMES[seen.kind]} now")
            if kept is not None:
                self.result.after.update({path: Before(path + KEPT), path + KEPT: None})
                self._note("restore", path, "is no longer wanted; the file that was here before comes back")
                self._diff(path, seen, kept, owned.secret)
            elif seen is not None:
                self.result.after[path] = None
                self._note("remove", path, "is no longer wanted")
                self._diff(path, seen, None, owned.secret)

    def _unwanted_directories(self) -> None:
        for path in sorted(set(self.old.directories), reverse=True):
            seen = self.tree.look(path)
            if seen is None or seen.kind != "directory":
                continue
            if path not in self.needed and all(self._goes(child) for child in self.tree.children(path)):
                self.result.after[path] = None
                self._note("remove", path, "the directory is ours, and holds nothing any more")
            else:
                self.new.directories.append(path)

    def _wanted_directories(self) -> None:
        for path in sorted(self.needed):
            seen = None if self._goes(path) else self.tree.look(path)
            if seen is None:
                self.result.after[path] = self.tree.directory
                self.new.directories.append(path)
                self._note("create", path, "the directory does not exist")
            elif seen.kind != "directory":
                a_file = NAMES.get(seen.kind, "a file that is not ours")
                raise TreeError(f"{self.tree.absolute(path)} is {a_file}, and is wanted as a directory")
            elif path in self.new.directories:
                self._directory_attributes(path)
        self.new.directories.sort()

    def _directory_attributes(self, path: str) -> None:
        seen = self.tree.look(path)
        if seen is not None and not fits(seen, self.tree.directory):
            self.result.after[path] = self.tree.directory
            self._mode(path, seen, self.tree.directory)

    def _wanted_files(self) -> None:
        for path in sorted(self.wanted):
            file, owned = self.wanted[path], self.old.files.get(path)
            seen = None if self._goes(path) else self.tree.look(path)
            secret = file.secret or (owned is not None and owned.secret)
            digest = hashlib.sha256(file.content).hexdigest()
            self.new.files[path] = Owned(digest, owned is not None and owned.adopted, file.secret)
            action, reason = self._difference(path, file, seen, owned)
            if not action:
                continue
            self.result.after[path] = file
            if action == "mode":
                self._mode(path, t.cast(Seen, seen), self._attributes(file))
                continue
            if action == "adopt":
                self.new.files[path].adopted = True
                self.result.after[path + KEPT] = Before(path)
            self._note(action, path, reason)
            self._diff(path, seen, file, secret)

    def _difference(self, path: str, file: File, seen: Seen | None, owned: Owned | None) -> tuple[str, str]:
        """The action, none where nothing is to be done, and its reason."""
        location = self.tree.absolute(path)
        if seen is None:
            return "create", "was removed on the host" if owned else "is wanted, and not there"
        if seen.kind not in ("file", "link"):
            raise TreeError(f"{location} is {NAMES[seen.kind]}, and is wanted as a file")
        if owned is None:
            if self.tree.look(path + KEPT) is not None:
                raise TreeError(
                    f"{location} is not ours, and {location}{KEPT}, where it would be kept, exists already; "
                    "move one of them away"
                )
            return "adopt", f"replaces a file that was not ours, which is kept as {location}{KEPT}"
        if seen.kind == "link":
            return "change", "a symbolic link stands in its place"
        if seen.content != file.content:
            as_written = hashlib.sha256(seen.content).hexdigest() == owned.sha256
            return "change", "its wanted content is another" if as_written else "was changed on the host"
        return ("", "") if fits(seen, self._attributes(file)) else ("mode", "")

    def _attributes(self, file: File) -> Directory:
        return dataclasses.replace(self.tree.directory, mode=file.mode)

    def _manifest(self) -> None:
        path, content = self.tree.manifest_name, self.new.dump()
        seen = self.tree.look(path)
        if self.result.actions or seen is None or seen.content != content:
            if not self.result.actions:
                self._note("record", path, "the list of our own files is not up to date")
            self.result.after[path] = File(content, MODE_OF_OUR_OWN)

    def _leave(self) -> None:
        if self.tree.look(self.tree.manifest_name) is not None:
            self.result.after[self.tree.manifest_name] = None
            self._note("remove", self.tree.manifest_name, "the list of our own files has an end")
        for made in reversed(self.tree.removable(self._goes)):
            self._note("remove", str(made), "the directory is ours, and holds nothing any more")

    # The plan made readable.

    def _mode(self, path: str, seen: Seen, wanted: Directory) -> None:
        before, after = _attributes_of(seen), self._wanted_attributes(wanted, seen)
        self._note("mode", path, f"{before} becomes {after}")
        headers = dict.fromkeys(("before_header", "after_header"), str(self.tree.absolute(path)))
        self.result.diff.append({**headers, "before": f"{before}\n", "after": f"{after}\n"})

    def _wanted_attributes(self, wanted: Directory, seen: Seen | None = None) -> str:
        """Mode, user and group; of those that come as they come, what there is."""
        user = self.tree.owner.name if self.tree.owner else user_name(seen.uid if seen else os.geteuid())
        group = self.tree.group.name if self.tree.group else group_name(seen.gid if seen else os.getegid())
        return f"{wanted.mode:04o} {user}:{group}"

    def _diff(self, path: str, before: Seen | None, after: Seen | File | None, secret: bool) -> None:
        location = self.tree.absolute(path)
        texts = [_shown(side.content, secret) if side else "" for side in (before, after)]
        if before and after and secret:
            texts = [f"{HIDDEN}, the old one\n", f"{HIDDEN}, the new one\n"]
        for index, side in enumerate((before, after)):
            if isinstance(side, Seen) and side.kind == "link":
                texts[index] = f"symbolic link to {os.fsdecode(side.content)}\n"
        if isinstance(after, File):
            attributes = self._wanted_attributes(self._attributes(after))
        else:
            attributes = _attributes_of(after) if after else "removed"
        self.result.diff.append(
            {
                "before_header": f"{location} ({_attributes_of(before) if before else 'absent'})",
                "after_header": f"{location} ({attributes})",
                "before": texts[0],
                "after": texts[1],
            }
        )


def _shown(content: bytes, secret: bool) -> str:
    if secret:
        return f"{HIDDEN}\n"
    try:
        if len(content) <= SHOWN_BYTES and b"\0" not in content:
            return content.decode()
    except UnicodeDecodeError:
        pass
    return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}\n"


def _attributes_of(seen: Seen) -> str:
    return f"{seen.mode:04o} {user_name(seen.uid)}:{group_name(seen.gid)}"
