# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._tree.wanted import (
    TreeError,
    check_paths,
    pack,
    unpack,
    wanted_files,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.dictionaries(st.text("ab/é .-", min_size=1).filter(lambda path: path.strip("/.")), st.binary()))
def test_files_arrive_as_they_were_sent(contents: dict[str, bytes]) -> None:
    plain = {path.strip("/"): content for path, content in contents.items()}
    assert unpack(pack(plain)) == plain


def test_the_same_files_travel_as_the_same_word() -> None:
    assert pack({"a": b"1", "b": b"2"}) == pack({"b": b"2", "a": b"1"})


@pytest.mark.parametrize("word", ["", "%", "aGVsbG8=", pack({"a": b"1" * 10_000})[:100]])
def test_files_that_did_not_arrive_whole_are_refused(word: str) -> None:
    with pytest.raises(TreeError, match="did not arrive whole"):
        unpack(word)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a/../b", "", ".", "..", "a//b", "./a", "a/", "a\0b"]
)
def test_a_path_that_is_not_plain_or_leads_out_of_the_tree_is_refused_by_name(path: str) -> None:
    with pytest.raises(TreeError, match="is no path inside the tree") as error:
        check_paths(["good", path])
    assert repr(path) in str(error.value)


def test_a_file_that_is_also_a_directory_is_refused_by_name() -> None:
    with pytest.raises(TreeError, match="'a' is wanted as a file, and as the directory of 'a/b/c'"):
        check_paths(["a", "a/b/c"])


def test_a_name_under_which_files_of_others_are_kept_is_refused() -> None:
    with pytest.raises(TreeError, match="where a file that was not ours is kept"):
        check_paths(["a.before-njord"])


def test_secrets_are_found_by_their_globs() -> None:
    contents = dict.fromkeys(["web.yml", "secrets/deep/token", "prometheus.yml"], b"")
    found = wanted_files(contents, 0o644, ["web.yml", "secrets/*"], 0o640)
    assert {path: (file.mode, file.secret) for path, file in found.items()} == {
        "web.yml": (0o640, True),
        "secrets/deep/token": (0o640, True),
        "prometheus.yml": (0o644, False),
    }
