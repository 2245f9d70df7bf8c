# SPDX-License-Identifier: GPL-3.0-or-later
"""The subscription on Redis, made anew whenever it is lost."""

from __future__ import annotations

import logging
import time
import typing as t

import redis
from redis.connection import DefaultParser

from .config import ConfigError
from .log import line

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
# Silence after which Redis is asked whether it is there; after twice as long it is not.
SILENCE_SECONDS = 5.0
PARSER = "hiredis" if "hiredis" in DefaultParser.__name__.lower() else "python"

LOG = logging.getLogger(__name__)


class Connection(t.Protocol):
    """What is used of the connections of redis-py: below its ``PubSub``, which takes four times as long."""

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_command(self, *arguments: str) -> None: ...

    def read_response(self, *, disconnect_on_error: bool) -> list[t.Any]: ...


class Bus:
    """One subscription of one topic.

    ``subscribed`` says whether it stands, ``reason`` why not, ``reconnects`` how often it was made anew.

    :param url: ``redis://``, ``rediss://`` or ``unix://``.
    :raises ConfigError: where ``url`` is none of these.
    """

    def __init__(self, url: str, topic: str, receive: t.Callable[[bytes], None]) -> None:
        self._connection = _connection(url)
        self._topic = topic
        self._receive = receive
        self._pause = FIRST_PAUSE_SECONDS
        self._subscriptions = 0
        self.subscribed = False
        self.reason = "not connected to Redis yet"

    @property
    def reconnects(self) -> int:
        return max(0, self._subscriptions - 1)

    def run(self) -> t.NoReturn:
        """Hands every message to ``receive``, for ever."""
        while True:
            try:
                self._listen()
            except (redis.RedisError, OSError, UnicodeError) as error:
                self._lost(str(error) or type(error).__name__)
            finally:
                self._connection.disconnect()
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _listen(self) -> t.NoReturn:
        self._connection.connect()
        self._connection.send_command("SUBSCRIBE", self._topic)
        asked = False
        while True:
            try:
                kind, *_channel, payload = self._connection.read_response(disconnect_on_error=False)
            except redis.TimeoutError:
                if asked:
                    raise
                self._connection.send_command("PING")
                asked = True
                continue
            asked = False
            if kind == b"message":
                self._receive(payload)
            elif kind == b"subscribe":
                self._found()

    def _found(self) -> None:
        self._subscriptions += 1
        self._pause = FIRST_PAUSE_SECONDS
        self.subscribed = True
        self.reason = ""
        LOG.info(line("bus.subscribed", topic=self._topic, subscriptions=self._subscriptions))

    def _lost(self, reason: str) -> None:
        # The same failure again and again is one line.
        if reason != self.reason:
            LOG.warning(line("bus.not_subscribed", topic=self._topic, reason=reason))
        self.subscribed = False
        self.reason = reason


def _connection(url: str) -> Connection:
    try:
        pool = redis.ConnectionPool.from_url(
            url,
            # Its answers are plain lists, whichever parser reads them.
            protocol=2,
            socket_timeout=SILENCE_SECONDS,
            socket_connect_timeout=SILENCE_SECONDS,
        )
        return t.cast(Connection, pool.make_connection())
    except (ValueError, TypeError, redis.RedisError) as error:
        # Neither the address nor what redis-py says of it: both may hold a password.
        raise ConfigError(
            "redis.url: redis-py cannot use it; it takes redis://[user:password@]host:port/number, rediss:// or unix://"
        ) from error
