# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The program restic, 0.12 or later, as typed calls and typed errors. It knows nothing of catalogues.

What is secret goes into its environment: a command line can be read by everybody on the host. What it means when it
fails is read from its exit code, and from its words where it is older than 0.17, which has no such codes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from .._http import first_line
from .._units import human_duration
from .scratch import environment, leashed

# Until it has said which snapshots there are. It tries again for a quarter of an hour by itself, which is too long for
# somebody who waits.
PATIENCE_SECONDS = 60.0
# For a first copy over a slow line; whatever hangs longer must not hold up the backups that follow.
LONGEST_SECONDS = 86400.0
# Other hosts send to the same repository, and it is theirs alone while they check it.
LOCK_SECONDS = 900.0
_LOCK_POLL_SECONDS = 5.0
_TERM_SECONDS = 10.0
_INCOMPLETE, _TIMED_OUT = 3, -1
_RETRYING = "returned error, retrying after"
_VARIABLE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
# A password in an address: `rest:https://user:password@host/`.
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")


class ResticError(Exception):
    """It did not do what it was asked, a clause with its own words."""


class NoProgram(ResticError):
    """There is no restic on this host."""


class Unsupported(ResticError):
    """This restic is too old."""


class Unreachable(ResticError):
    """The place of the repository does not answer: nothing is known of what lies there."""


class Unauthorised(ResticError):
    """The password is not that of the repository, or its place refuses the login."""


class NoRepository(ResticError):
    """Its place answers, and has none."""


class Locked(ResticError):
    """Another run has it; the clause says who and since when."""


class DamagedRepository(ResticError):
    """It was read, and is not what was written."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """:param id: its name in the repository."""

    id: str
    host: str
    tags: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sent:
    """:param bytes: of all files. :param added: that were not there yet, before compression."""

    snapshot: str
    bytes: int
    added: int


@dataclasses.dataclass(frozen=True)
class Repository:
    """
    :param location: in restic's words: a directory, ``sftp:…``, ``s3:…``; without a password.
    :param password_file: on this host.
    :param cache: directory, whose parent is there, for what it would ask for again and again, and writes in passing.
    :param environment_file: with lines KEY=VALUE, such as the keys of AWS; empty for none.
    :param options: for ``restic -o``, such as ``sftp.args=-i /etc/njord-backup/key``; everybody can read them.
    :param program: path; the one on PATH where it is empty.
    :param patience: seconds until it must have said what lies there.
    :param lock_patience: seconds that it is waited for other runs.
    """

    location: str
    password_file: str
    cache: str
    environment_file: str = ""
    options: tuple[str, ...] = ()
    program: str = ""
    patience: float = PATIENCE_SECONDS
    lock_patience: float = LOCK_SECONDS

    def snapshots(self, host: str, tag: str) -> list[Snapshot]:
        """Those of a host and a tag. It waits for nobody, and writes nothing there.

        :param host: of all hosts where it is empty.
        """
        words = ["snapshots", "--json", "--tag", tag, *(["--host", host] if host else [])]
        rows = _json(self._look(words)) or []
        return [Snapshot(row["id"], row["hostname"], tuple(row.get("tags") or ())) for row in rows]

    def create(self) -> None:
        """Makes the repository; only for a place that has none."""
        self._run(["init"], LONGEST_SECONDS)

    def send(self, root: Path, paths: t.Sequence[str], host: str, tags: t.Sequence[str], parent: str) -> Sent:
        """Makes a snapshot of these files, all of them or none.

        :param paths: of files, relative to ``root``.
        :param parent: a snapshot whose files are not read again where they did not change; empty for none. By itself
            restic finds one of the very same paths only.
        """
        words = ["backup", "--json", "--files-from-raw", "-", "--host", host]
        words += [word for tag in tags for word in ("--tag", tag)]
        words += ["--parent", parent] if parent else []
        listed = b"".join(os.fsencode(path) + b"\0" for path in paths)
        done = self._run(words, LONGEST_SECONDS, listed, root, may_be_incomplete=True)
        summary = next((row for row in done.rows if row.get("message_type") == "summary"), None)
        if summary is None:
            raise ResticError(f"restic made no snapshot: {done.reason}")
        # One that it does not find is only worth a remark to it.
        if done.code or summary["total_files_processed"] != len(paths):
            self.forget([summary["snapshot_id"]])
            raise ResticError(
                f"restic read {summary['total_files_processed']} of {len(paths)} files: {done.reason}; what it sent is"
                " taken back"
            )
        return Sent(summary["snapshot_id"], summary["total_bytes_processed"], summary["data_added"])

    def forget(self, snapshots: t.Sequence[str]) -> None:
        """Forgets these, and removes what no other one needs."""
        self._run(["forget", "--prune", *snapshots], LONGEST_SECONDS)

    def check(self, part: int, parts: int) -> None:
        """Looks at its structure, and reads a part of the data.

        :param part: from 1 to ``parts``, of which there are 256 at most; nothing is read where there are none.
        :raises DamagedRepository: where something is not what was written.
        """
        for left in Path(self.cache).glob("restic-check-cache-*"):
            # Of a run that was killed.
            shutil.rmtree(left)
        self._run(["check", *([f"--read-data-subset={part}/{parts}"] if parts else [])], LONGEST_SECONDS)

    def read(self, snapshot: str, path: str) -> bytes:
        """The content of one file. It waits for nobody, and writes nothing there."""
        return self._look(["dump", snapshot, f"/{path}"])

    def restore(self, snapshot: str, target: Path) -> None:
        """All files of a snapshot.

        :param target: an empty directory.
        """
        self._run(["restore", snapshot, "--target", str(target)], LONGEST_SECONDS)

    def _look(self, words: t.Sequence[str]) -> bytes:
        command = [*self._command(), "--no-cache", "--no-lock", *words]
        said = _ran(command, self._environment(), self.patience)
        if said.code:
            raise _meant(said, self.location)
        return said.output

    def _run(
        self,
        words: t.Sequence[str],
        patience: float,
        given: bytes = b"",
        at: Path | None = None,
        may_be_incomplete: bool = False,
    ) -> _Said:
        """
        :raises ResticError: where it does not end well.
        """
        Path(self.cache).mkdir(mode=0o700, exist_ok=True)
        command = [*self._command(), "--cache-dir", self.cache]
        surroundings = {**self._environment(), "TMPDIR": self.cache}
        begun = time.monotonic()
        is_unlocked = False
        while True:
            said = _ran([*command, *words], surroundings, patience, given, at)
            if not said.code or (may_be_incomplete and said.code == _INCOMPLETE):
                return said
            error = _meant(said, self.location)
            if not isinstance(error, Locked) or time.monotonic() - begun > self.lock_patience:
                raise error
            if is_unlocked:
                time.sleep(min(_LOCK_POLL_SECONDS, self.lock_patience))
            else:
                # Of a run that is no more; it leaves those of others alone.
                _ran([*command, "unlock"], surroundings, self.patience)
                is_unlocked = True

    def _command(self) -> list[str]:
        return [self._program(), *(word for option in self.options for word in ("-o", option))]

    def _program(self) -> str:
        if self.program:
            if not (Path(self.program).is_file() and os.access(self.program, os.X_OK)):
                raise NoProgram(f"restic_program: {self.program} is no executable file")
            return self.program
        found = shutil.which("restic")
        if not found:
            raise NoProgram("there is no program restic on this host; apt install restic would do, or site.yml")
        return found

    def _environment(self) -> dict[str, str]:
        given = read_environment(Path(self.environment_file)) if self.environment_file else {}
        if not os.access(self.password_file, os.R_OK):
            raise Unauthorised(f"restic_password_file: {self.password_file} cannot be read")
        ours = {
            "RESTIC_REPOSITORY": self.location,
            "RESTIC_PASSWORD_FILE": self.password_file,
            # Else it says sixty times a second how far it is.
            "RESTIC_PROGRESS_FPS": "0.01",
        }
        return {**environment(), "TZ": "UTC", **given, **ours, "LC_ALL": "C"}


def read_environment(path: Path) -> dict[str, str]:
    """Lines KEY=VALUE, as a unit's EnvironmentFile has them; what is wrong is said by the number of its line.

    :raises ResticError: where it cannot be read so.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ResticError(f"restic_environment_file: {path} cannot be read: {reason}") from None
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith(("#", ";")):
            continue
        match = _VARIABLE.fullmatch(line)
        if not match:
            raise ResticError(f"restic_environment_file: line {number} of {path} is no KEY=VALUE")
        value = match.group(2).strip()
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[match.group(1)] = value[1:-1] if is_quoted else value
    return found


def local_directory(location: str) -> str:
    """Where a repository lies on this host; empty where it lies elsewhere."""
    path = location[len("local:") :] if location.startswith("local:") else location
    return path if path.startswith("/") else ""


def why_unusable(location: str) -> str:
    """Why a location cannot be used, a clause without it; empty where it can."""
    if _PASSWORD.search(location):
        return "a password in it would be seen by everybody; RESTIC_REST_PASSWORD in restic_environment_file would do"
    if not local_directory(location) and not re.match(r"(?!local:)[a-z0-9]+:.", location):
        return "an absolute directory, sftp:user@host:/srv/restic or s3:https://host/bucket would do"
    return ""


@dataclasses.dataclass(frozen=True)
class _Said:
    """
    :param code: with which it ended, or :data:`_TIMED_OUT`.
    :param rows: the JSON objects that it said.
    :param text: its other words.
    :param patience: seconds that it had.
    """

    code: int
    output: bytes
    rows: tuple[dict[str, t.Any], ...]
    text: str
    patience: float = 0.0

    @property
    def reason(self) -> str:
        """What it ended with, or the last thing that it said."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        fatal = [line for line in lines if "Fatal:" in line]
        line = (fatal or lines or ["it said nothing"])[-1]
        return first_line(line.replace("Fatal: ", ""), most=400)


def _ran(
    command: t.Sequence[str], surroundings: dict[str, str], patience: float, given: bytes = b"", at: Path | None = None
) -> _Said:
    process = subprocess.Popen(
        leashed(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=at or "/",
        env=surroundings,
        # ssh, which it starts, must not ask a terminal.
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(given, patience)
        return _read(process.returncode, output, errors)
    except subprocess.TimeoutExpired:
        said = _read(_TIMED_OUT, *_ended(process))
        # What it says in the end is that it was stopped.
        tried = [line.split(": ", 1)[-1] for line in said.text.splitlines() if _RETRYING in line]
        return dataclasses.replace(said, text="\n".join(tried), patience=patience)
    except BaseException:
        _ended(process)
        raise


def _ended(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Politely first: then it takes its lock away."""
    process.terminate()
    try:
        return process.communicate(timeout=_TERM_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def _read(code: int, output: bytes, errors: bytes) -> _Said:
    rows, text = [], []
    # Also how to clear a line of a terminal.
    errors = errors.replace(b"\x1b[2K", b"")
    # What it says of itself; what it was asked for is one document, or none.
    spoken = output if code or output.startswith(b'{"message_type"') else b""
    for line in (*errors.decode("utf-8", "replace").splitlines(), *spoken.decode("utf-8", "replace").splitlines()):
        row = _json(line.encode()) if line.startswith("{") else None
        if not isinstance(row, dict):
            text.append(line)
            continue
        rows.append(row)
        error = row.get("error")
        if isinstance(error, dict):
            # Before 0.17 only that of the system call.
            error = error.get("message") or json.dumps(error)
        message = row.get("message") or error
        if message:
            text += str(message).splitlines()
    return _Said(code, output, tuple(rows), "\n".join(text))


def _json(content: bytes) -> t.Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


@dataclasses.dataclass(frozen=True)
class _Meaning:
    """Of an exit code (0.17 and later), or of words (before that)."""

    error: type[ResticError]
    code: int
    words: str
    clause: str


_LOCK = re.compile(r"locked (?:exclusively )?by PID (\d+) on (\S+) by (\S+)")
_LOCKED_SINCE = re.compile(r"lock was created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
# The first one wins: a server that refuses a login may say that the key "does not exist", and who cannot be reached
# for a while has a repository that "contains errors".
_MEANINGS = (
    _Meaning(Locked, 11, r"already locked", ""),
    _Meaning(
        Unsupported, 0, r"unknown (?:shorthand )?flag", "this restic is too old; 0.12 or later would do: {reason}"
    ),
    _Meaning(
        Unauthorised,
        12,
        r"wrong password or no key found|an empty password is not a password",
        "restic_password_file is not that of {location}: {reason}",
    ),
    _Meaning(
        Unauthorised,
        0,
        r"access denied|permission denied|access key id you provided|signature we calculated|invalidaccesskeyid"
        r"|signaturedoesnotmatch|invalidclienttokenid|\b40[13] (?:unauthorized|forbidden)",
        "{location} refuses the login: {reason}",
    ),
    _Meaning(
        Unreachable,
        0,
        r"connection refused|connection reset|connection timed out|no such host|no route to host|could not resolve"
        r"|network is unreachable|i/o timeout|deadline exceeded|handshake|x509|name resolution|server misbehaving"
        r"|unable to start the sftp session|host key verification|\b50[0234] |unexpected eof",
        "{location} cannot be reached: {reason}",
    ),
    _Meaning(
        NoRepository,
        10,
        r"unable to open config file: .*(?:no such file or directory|does not exist)|specified bucket does not exist",
        "there is no repository in {location}",
    ),
    _Meaning(
        DamagedRepository,
        0,
        r"repository contains errors|ciphertext verification failed|invalid data returned|wrong data returned"
        r"|pack id does not match|there were \d+ errors",
        "{location} is damaged: {reason}",
    ),
)
# What a check, or a restore, found, before it says that it found something.
_DAMAGE = re.compile(
    r"\b(?:pack|blob|tree|index)\b.*(?:match|exist|contains|failed|missing)|ignoring error", re.IGNORECASE
)


def _meant(said: _Said, location: str) -> ResticError:
    lowered = said.text.lower()
    meaning = next((one for one in _MEANINGS if said.code == one.code or re.search(one.words, lowered)), None)
    if meaning is None and said.code == _TIMED_OUT:
        return Unreachable(f"{location} gave no answer for {human_duration(said.patience)}: {said.reason}")
    if meaning is None:
        return ResticError(f"restic ended with {said.code}: {said.reason}")
    if meaning.error is Locked:
        return Locked(_holder(said, location))
    # A program that it started may have said why, and it only that it ended.
    told = _DAMAGE if meaning.error is DamagedRepository else re.compile(meaning.words, re.IGNORECASE)
    lines = [line.replace("Fatal: ", "") for line in said.text.splitlines() if told.search(line)]
    reason = first_line(lines[0], most=400) if lines else said.reason
    return meaning.error(meaning.clause.format(location=location, reason=reason))


def _holder(said: _Said, location: str) -> str:
    lock, since = _LOCK.search(said.text), _LOCKED_SINCE.search(said.text)
    who = f" by process {lock.group(1)} of {lock.group(3)} on {lock.group(2)}" if lock else f": {said.reason}"
    return f"{location} is in use{who}" + (f" since {since.group(1)} UTC" if since else "")
