# SPDX-License-Identifier: GPL-3.0-or-later
"""A few words with a Redis that answers what the test says, well or badly."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._http import (
    HttpError,
    Refused,
    Unauthorised,
    Unreachable,
    Unreadable,
    Unsupported,
)
from ansible_collections.njord.telemetry.plugins.module_utils._redis import Redis


@contextlib.contextmanager
def answering(*answers: bytes, password: str = "") -> t.Iterator[Redis]:
    """A server that sends one answer for each thing that it is sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _address = listener.accept()
                with connection:
                    for answer in answers:
                        connection.recv(4096)
                        # In two parts, so that an answer may come in pieces.
                        connection.sendall(answer[:3])
                        connection.sendall(answer[3:])
                    connection.recv(4096)

        threading.Thread(target=serve, daemon=True).start()
        yield Redis(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", password=password, timeout=0.5)


PONG = b"+PONG\r\n"


def test_subscribers_are_counted() -> None:
    with answering(PONG, b"*2\r\n$5\r\ntopic\r\n:3\r\n") as server, server.connection() as connection:
        assert connection.subscribers("topic") == 3


def test_messages_are_heard_until_there_are_enough() -> None:
    subscribed = b"*3\r\n$9\r\nsubscribe\r\n$5\r\ntopic\r\n:1\r\n"
    message = b"*3\r\n$7\r\nmessage\r\n$5\r\ntopic\r\n$2\r\n{}\r\n"
    with answering(PONG, subscribed + 3 * message) as server, server.connection() as connection:
        assert connection.listen("topic", 5, 2) == [b"{}", b"{}"]


def test_a_still_topic_is_listened_to_for_the_time_and_no_longer() -> None:
    with answering(
        PONG, b"*3\r\n$9\r\nsubscribe\r\n$5\r\ntopic\r\n:1\r\n"
    ) as server, server.connection() as connection:
        assert connection.listen("topic", 0.1, 2) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-NOAUTH Authentication required.\r\n", Unauthorised),
        (b"-NOPERM this user has no permissions\r\n", Unauthorised),
        (b"-LOADING Redis is loading the dataset in memory\r\n", Refused),
        (b"-ERR unknown command 'PING'\r\n", Unsupported),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Unreadable),
        (b":x\r\n", Unreadable),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_its_kind(answer: bytes, error: type[HttpError]) -> None:
    with answering(answer) as server, pytest.raises(error), server.connection():
        raise AssertionError("it is not connected")


def test_a_password_is_sent_first_and_a_wrong_one_is_said_to_be_wrong() -> None:
    refusal = b"-WRONGPASS invalid username-password pair\r\n"
    with answering(refusal, password="x") as server, pytest.raises(Unauthorised, match="AUTH"), server.connection():  # noqa: S106
        raise AssertionError("it is not connected")


def test_nobody_there_a_closed_connection_and_no_answer_are_unreachable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = Redis(f"redis://127.0.0.1:{nobody.getsockname()[1]}", timeout=0.5)
        with pytest.raises(Unreachable, match="refused"), gone.connection():
            raise AssertionError("it is not connected")
        nobody.listen(1)
        with pytest.raises(Unreachable, match="no answer within 500 ms"), gone.connection():
            raise AssertionError("it is not connected")
    with answering(b"") as server, pytest.raises(Unreachable, match=r"closed|no answer"), server.connection():
        raise AssertionError("it is not connected")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1", "no address of a Redis"),
        ("127.0.0.1:6379", "no address of a Redis"),
        ("redis://user:secret@127.0.0.1", "use the options"),
        ("redis://127.0.0.1:99999", "no port"),
        ("redis://127.0.0.1/x", "no number of a database"),
        ("unix://", "no address of a Redis"),
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_a_secret(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        Redis(url)
    assert "secret" not in str(raised.value)
