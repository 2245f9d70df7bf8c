# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan and apply on real directories: whatever was there, whatever is wanted, whatever interrupts the way."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import stat
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._tree.accounts import NOT_THERE, Account
from ansible_collections.njord.telemetry.plugins.module_utils._tree.plan import plan
from ansible_collections.njord.telemetry.plugins.module_utils._tree.tree import Plan, Refused, Tree
from ansible_collections.njord.telemetry.plugins.module_utils._tree.wanted import KEPT, File, TreeError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "os.chown"}


class Killed(BaseException):
    """What no handler catches: as if the process had been killed there."""


class Injector:
    """Stops the process, or the disk, at one of its changes to the file system; later ones too once it is killed."""

    def __init__(self) -> None:
        self.countdown: int | None = None
        self.error: BaseException | None = None

    def __call__(self, event: str, arguments: tuple[t.Any, ...]) -> None:
        if self.countdown is None:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in CHANGES and not writes:
            return
        self.countdown -= 1
        if self.countdown == 0 or (self.countdown < 0 and isinstance(self.error, Killed)):
            raise self.error or Killed

    @contextlib.contextmanager
    def at(self, step: int, error: BaseException) -> t.Iterator[None]:
        self.countdown, self.error = step, error
        try:
            yield
        finally:
            self.countdown = None


inject = Injector()
sys.addaudithook(inject)


def nobody() -> None:
    """Nobody reads the files."""


def run(
    path: Path,
    wanted: dict[str, File],
    present: bool = True,
    accept: t.Callable[[], None] = nobody,
    name: str = "test",
    **options: t.Any,
) -> Plan:
    tree = Tree(str(path), name, **options)
    with tree.locked():
        planned = plan(tree, wanted, present)
        if planned.actions:
            tree.apply(planned, accept)
    return planned


def look(path: Path, **options: t.Any) -> Plan:
    """The plan of a check run."""
    wanted, present = options.pop("wanted", {}), options.pop("present", True)
    tree = Tree(str(path), "test", **options)
    with tree.locked():
        return plan(tree, wanted, present)


def snapshot(root: Path) -> dict[str, tuple[t.Any, ...]]:
    """Everything below a directory: kind, mode, content, number of links; of files the time too."""
    found: dict[str, tuple[t.Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory", stat.S_IMODE(status.st_mode))
        else:
            mode, time = stat.S_IMODE(status.st_mode), status.st_mtime_ns
            found[name] = ("file", mode, path.read_bytes(), status.st_nlink, time)
    return found


def timeless(found: dict[str, tuple[t.Any, ...]]) -> dict[str, tuple[t.Any, ...]]:
    return {name: entry[:4] for name, entry in found.items()}


def files(**contents: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode()) for name, text in contents.items()}


def without_conflict(paths: t.Iterable[str]) -> bool:
    known = set(paths)
    return not any(path != other and other.startswith(f"{path}/") for path in known for other in known)


PATHS = st.sampled_from(["a", "b", "a/x", "a/y", "b/x", "b/x/y", "c/x/y", "c/z", "d"])
WANTED = st.dictionaries(
    PATHS,
    st.builds(File, st.binary(max_size=3), st.sampled_from([0o644, 0o600]), st.booleans()),
    max_size=6,
).filter(without_conflict)
# What others have put there: text, or None for a symbolic link that points out of the tree.
FOREIGN = st.dictionaries(
    st.sampled_from(["a", "b", "a/x", "b/x", "c/x/y", "c/foreign", "d", "e"]),
    st.one_of(st.none(), st.binary(max_size=3)),
    max_size=4,
).filter(without_conflict)


def put_foreign(root: Path, foreign: dict[str, bytes | None]) -> None:
    for name, content in foreign.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.symlink_to(root.parents[1] / "elsewhere")
        else:
            path.write_bytes(content)


@contextlib.contextmanager
def place(foreign: dict[str, bytes | None]) -> t.Iterator[Path]:
    """A directory with a file beside the tree that no link may lead to; the tree exists when somebody is in it."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "elsewhere").write_text("untouched")
        put_foreign(root / "parent" / "tree", foreign)
        yield root


def possible(path: Path, wanted: dict[str, File]) -> bool:
    try:
        look(path, wanted=wanted)
    except TreeError:
        return False
    return True


@settings(deadline=None)
@given(foreign=FOREIGN, old=WANTED, new=WANTED)
def test_after_a_run_what_is_wanted_is_there_and_what_is_foreign_is_untouched(
    foreign: dict[str, bytes | None], old: dict[str, File], new: dict[str, File]
) -> None:
    with place(foreign) as root:
        tree = root / "parent" / "tree"
        assume(possible(tree, old))
        run(tree, old)
        before = snapshot(root)
        if not possible(tree, new):
            with pytest.raises(TreeError):
                run(tree, new)
            assert snapshot(root) == before
            return
        expected = look(tree, wanted=new)
        assert snapshot(root) == before
        assert run(tree, new).actions == expected.actions
        assert look(tree, wanted=new).actions == []
        found = snapshot(tree)
        for path, file in new.items():
            assert found[path][:3] == ("file", file.mode, file.content)
        for path, content in foreign.items():
            where = path + KEPT if path in new else path
            assert found[where][1 if content is None else 2] in (content, str(root / "elsewhere"))
        ours = {*new, *(f"{path}{KEPT}" for path in foreign if path in new), ".test.file_tree"}
        assert {path for path, entry in found.items() if entry[0] != "directory"} == ours | set(foreign)


@settings(deadline=None)
@given(foreign=FOREIGN, steps=st.lists(WANTED, min_size=1, max_size=3))
def test_absent_brings_back_to_the_byte_what_was_there_before_us(
    foreign: dict[str, bytes | None], steps: list[dict[str, File]]
) -> None:
    with place(foreign) as root:
        tree = root / "parent" / "tree"
        before = snapshot(root)
        for wanted in steps:
            if possible(tree, wanted):
                run(tree, wanted)
        expected = look(tree, present=False).actions
        assert run(tree, {}, present=False).actions == expected
        assert snapshot(root) == before
        assert run(tree, {}, present=False).actions == []


@settings(deadline=None)
@given(foreign=FOREIGN, old=WANTED, new=WANTED, last=WANTED, step=st.integers(1, 60), present=st.booleans())
def test_a_run_that_is_killed_anywhere_is_finished_or_undone_by_the_next(
    foreign: dict[str, bytes | None],
    old: dict[str, File],
    new: dict[str, File],
    last: dict[str, File],
    step: int,
    present: bool,
) -> None:
    last = last if present else {}
    with place({}) as root:
        tree = root / "parent" / "tree"

        def begin() -> None:
            shutil.rmtree(root / "parent", ignore_errors=True)
            put_foreign(tree, foreign)
            run(tree, old)

        put_foreign(tree, foreign)
        assume(possible(tree, old))
        begin()
        assume(possible(tree, new) and possible(tree, last))
        run(tree, last, present)
        uninterrupted = timeless(snapshot(root))
        begin()
        with inject.at(step, Killed()), contextlib.suppress(Killed):
            run(tree, new)
        expected = look(tree, wanted=last, present=present).actions
        assert run(tree, last, present).actions == expected
        assert look(tree, wanted=last, present=present).actions == []
        assert timeless(snapshot(root)) == uninterrupted


# One tree with everything that can happen to a file: created, changed, adopted, restored, removed, made another kind.
FOREIGN_FILES: dict[str, bytes | None] = {
    "adopted": b"theirs",
    "given_back": b"theirs",
    "link": None,
    "sub/theirs": b"",
}
OLD = files(changed="old", removed="old", given_back="ours", file_then_directory="", directory_then_file__x="")
NEW = files(changed="new", adopted="ours", link="ours", sub__created="new", file_then_directory__x="")
NEW["directory_then_file"] = File(b"new", 0o600)


def steps_of(action: t.Callable[[], object]) -> int:
    """How many changes to the file system an action makes."""
    with inject.at(1_000_000, Killed()):
        action()
        left = inject.countdown or 0
    return 1_000_000 - left


@pytest.mark.parametrize("exists", [True, False], ids=["into what is there", "into a directory to be made"])
def test_killed_at_every_single_step_of_an_eventful_run_the_next_does_the_rest(tmp_path: Path, exists: bool) -> None:
    tree = tmp_path / "parent" / "tree"

    def begin() -> None:
        shutil.rmtree(tmp_path / "parent", ignore_errors=True)
        if exists:
            put_foreign(tree, FOREIGN_FILES)
            run(tree, OLD)

    begin()
    steps = steps_of(lambda: run(tree, NEW))
    finished = timeless(snapshot(tmp_path))
    assert steps > 20
    for step in range(1, steps + 1):
        begin()
        with inject.at(step, Killed()), pytest.raises(Killed):
            run(tree, NEW)
        run(tree, NEW)
        assert timeless(snapshot(tmp_path)) == finished, step


def test_killed_at_every_single_step_of_a_removal_the_next_does_the_rest(tmp_path: Path) -> None:
    tree = tmp_path / "parent" / "tree"
    run(tree, OLD)
    steps = steps_of(lambda: run(tree, {}, present=False))
    assert steps > 10
    for step in range(1, steps + 1):
        run(tree, OLD)
        with inject.at(step, Killed()), pytest.raises(Killed):
            run(tree, {}, present=False)
        run(tree, {}, present=False)
        assert snapshot(tmp_path) == {}, step


def test_after_a_kill_before_the_reload_the_next_run_reloads_though_the_files_are_there(tmp_path: Path) -> None:
    def killed() -> None:
        raise Killed

    run(tmp_path, OLD)
    with pytest.raises(Killed):
        run(tmp_path, NEW, accept=killed)
    called: list[str] = []
    planned = run(tmp_path, NEW, accept=lambda: called.append("reload"))
    assert planned.actions[0]["action"] == "recover"
    assert called == ["reload"]


def test_after_a_kill_before_the_reload_a_refusal_still_brings_back_what_was_accepted_last(tmp_path: Path) -> None:
    def killed() -> None:
        raise Killed

    run(tmp_path, OLD)
    before = snapshot(tmp_path)
    with pytest.raises(Killed):
        run(tmp_path, NEW, accept=killed)
    with pytest.raises(Refused):
        run(tmp_path, {**NEW, **files(third="new")}, accept=refuse_once())
    assert snapshot(tmp_path) == before


def refuse_once() -> t.Callable[[], None]:
    answers = itertools.chain([True], itertools.repeat(False))

    def accept() -> None:
        if next(answers):
            raise Refused("line 3: no such key")

    return accept


@pytest.mark.parametrize("exists", [True, False], ids=["into what is there", "into a directory to be made"])
def test_refused_files_leave_everything_as_it_was(tmp_path: Path, exists: bool) -> None:
    tree = tmp_path / "parent" / "tree"
    if exists:
        put_foreign(tree, FOREIGN_FILES)
        run(tree, OLD)
    before = snapshot(tmp_path)
    seen: list[bool] = []
    refuse = refuse_once()

    def accept() -> None:
        seen.append((tree / "adopted").exists() and (tree / "adopted").read_bytes() == b"ours")
        refuse()

    with pytest.raises(Refused, match=r"line 3: no such key\. The old files are back, and are accepted"):
        run(tree, NEW, accept=accept)
    assert snapshot(tmp_path) == before
    assert seen == [True, False]


def test_a_service_that_refuses_the_old_files_too_is_named(tmp_path: Path) -> None:
    def refuse() -> None:
        raise Refused("connection refused")

    with pytest.raises(Refused, match="The old files are back, and are refused as well: connection refused"):
        run(tmp_path, NEW, accept=refuse)
    assert snapshot(tmp_path) == {}


def test_a_disk_that_fails_at_any_step_before_the_files_are_accepted_leaves_everything_as_it_was(
    tmp_path: Path,
) -> None:
    put_foreign(tmp_path, FOREIGN_FILES)
    run(tmp_path, OLD)
    before = snapshot(tmp_path)

    def refuse() -> None:
        raise Killed

    planned = look(tmp_path, wanted=NEW)
    assert planned.actions

    def to_the_reload() -> None:
        with contextlib.suppress(Killed):
            run(tmp_path, NEW, accept=refuse)

    steps = steps_of(to_the_reload)
    with pytest.raises(Refused):
        run(tmp_path, NEW, accept=refuse_once())
    assert snapshot(tmp_path) == before
    for step in range(1, steps + 1):
        with inject.at(step, OSError(errno.ENOSPC, "No space left on device")), pytest.raises(
            OSError, match="No space"
        ):
            run(tmp_path, NEW)
        assert snapshot(tmp_path) == before, step


def test_two_owners_share_a_directory(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    run(tree, files(one="1"), name="one")
    run(tree, files(two="2"), name="two")
    run(tree, {}, present=False, name="one")
    assert {path.name for path in tree.iterdir()} == {"two", ".two.file_tree"}


def test_a_file_of_another_owner_is_adopted_and_given_back(tmp_path: Path) -> None:
    run(tmp_path, files(shared="1"), name="one")
    before = snapshot(tmp_path)
    assert run(tmp_path, files(shared="2"), name="two").actions[0]["action"] == "adopt"
    run(tmp_path, {}, present=False, name="two")
    assert snapshot(tmp_path) == before


def test_a_kept_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("theirs")
    (tmp_path / f"a{KEPT}").write_text("theirs, from long ago")
    with pytest.raises(TreeError, match=f"a is not ours, and .*a{KEPT}, where it would be kept, exists already"):
        run(tmp_path, files(a="ours"))


def test_a_link_to_a_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "rules").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TreeError, match="rules is a symbolic link, and is wanted as a directory"):
        run(tree, files(rules__a=""))


def test_a_directory_of_ours_that_became_a_link_is_not_followed_by_a_removal(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    run(tree, files(rules__a="ours"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("theirs")
    shutil.rmtree(tree / "rules")
    (tree / "rules").symlink_to(tmp_path / "elsewhere")
    run(tree, {}, present=False)
    assert (tmp_path / "elsewhere" / "a").read_text() == "theirs"
    assert (tree / "rules").is_symlink()


def test_a_link_that_replaced_a_file_of_ours_is_replaced(tmp_path: Path) -> None:
    run(tmp_path, files(a="ours"))
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("theirs")
    assert run(tmp_path, files(a="ours")).actions[0]["reason"] == "a symbolic link stands in its place"
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("wanted", ["pipe", "directory"])
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, wanted: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    with pytest.raises(TreeError, match=f"{tmp_path}/{wanted} is .*, and is wanted as a file"):
        run(tmp_path, files(**{wanted: ""}))


def test_a_destination_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TreeError, match=f"{tmp_path}/file is no directory"):
            run(path, files(a=""))


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"version": 2}', json.dumps({"version": 1, "files": {}, "directories": ["../etc"], "parents": []})],
)
def test_a_list_of_files_that_cannot_be_ours_is_not_believed(tmp_path: Path, content: str) -> None:
    (tmp_path / ".test.file_tree").write_text(content)
    with pytest.raises(TreeError, match=r"\.test\.file_tree is no list of our files"):
        run(tmp_path, files(a=""))


def test_what_happened_to_a_file_is_its_reason(tmp_path: Path) -> None:
    run(tmp_path, files(edited="1", lost="1", outdated="1"))
    (tmp_path / "edited").write_text("by hand")
    (tmp_path / "lost").unlink()
    planned = run(tmp_path, files(edited="1", lost="1", outdated="2"))
    assert {Path(action["subject"]).name: (action["action"], action["reason"]) for action in planned.actions} == {
        "edited": ("change", "was changed on the host"),
        "lost": ("create", "was removed on the host"),
        "outdated": ("change", "its wanted content is another"),
    }


def test_the_mode_of_files_and_of_directories_of_ours_is_kept(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    theirs = tree / "theirs"
    theirs.mkdir(parents=True)
    theirs.chmod(0o700)
    wanted = files(theirs__a="", ours__a="")
    run(tree, wanted)
    (tree / "ours").chmod(0o700)
    (tree / "ours" / "a").chmod(0o600)
    planned = run(tree, wanted)
    assert [(action["action"], Path(action["subject"]).name) for action in planned.actions] == [
        ("mode", "ours"),
        ("mode", "a"),
    ]
    assert planned.diff[1]["before"].startswith("0600 ")
    assert planned.diff[1]["after"].startswith("0644 ")
    assert stat.S_IMODE((tree / "ours").stat().st_mode) == 0o755
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o700


def test_what_a_user_owns_who_does_not_exist_yet_has_to_change(tmp_path: Path) -> None:
    run(tmp_path, files(a=""))
    planned = look(tmp_path, wanted=files(a=""), owner=Account(NOT_THERE, "prometheus"))
    assert [action["action"] for action in planned.actions] == ["mode"]
    assert "becomes 0644 prometheus:" in planned.actions[0]["reason"]


def test_a_secret_is_in_no_diff_neither_when_it_comes_nor_when_it_goes(tmp_path: Path) -> None:
    planned = [
        run(tmp_path, {"web.yml": File(f"password: {word}".encode(), 0o600, secret=True)})
        for word in ("sesame", "alpha")
    ]
    planned.append(run(tmp_path, {}))
    assert [(entry["before"], entry["after"]) for each in planned for entry in each.diff] == [
        ("", "content hidden\n"),
        ("content hidden, the old one\n", "content hidden, the new one\n"),
        ("content hidden\n", ""),
    ]
    assert "sesame" not in repr(planned)
    assert "alpha" not in repr([each.diff for each in planned])


def test_a_file_that_was_a_secret_is_not_shown_when_it_becomes_an_open_one(tmp_path: Path) -> None:
    run(tmp_path, {"a": File(b"sesame", secret=True)})
    assert "sesame" not in repr(run(tmp_path, {"a": File(b"open")}).diff)


@pytest.mark.parametrize("content", [b"\0" * 10, b"\xff", b"x" * 100_001])
def test_binary_and_large_files_are_shown_by_size_and_hash(tmp_path: Path, content: bytes) -> None:
    shown = run(tmp_path, {"a": File(content)}).diff[0]["after"]
    assert shown.startswith(f"{len(content)} bytes, SHA-256 ")
    assert len(shown) < 100


def test_the_staging_directory_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / ".test.file_tree.d").symlink_to(tmp_path)
    with pytest.raises(TreeError, match=r"\.test\.file_tree\.d is not ours"):
        run(tmp_path, files(a=""))
