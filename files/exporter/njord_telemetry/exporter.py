# SPDX-License-Identifier: GPL-3.0-or-later
"""``njord-exporter``: the metrics on Njord's bus, as a page for Prometheus."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import re
import signal
import sys
import threading
import typing as t
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from . import __version__, config, log
from .bus import Bus
from .catalogue import Catalogue
from .intake import Intake
from .own_metrics import OwnMetrics
from .store import LABEL_SET_LIMIT, SAMPLE_LIMIT, Store
from .web import Server

ENVIRONMENT = "NJORD_METRICS_TOKEN"

LOG = logging.getLogger(__name__)


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT.

    :returns: 0; 1 where it ended of its own accord. What it cannot begin with is named on standard error: 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    log.set_up(options.log_level)
    store = Store(Catalogue.load(), options.label_set_limit)
    intake = Intake(store)
    try:
        settings = config.load(options.config_root) if options.config_root else config.Config()
        token = _token(options.token_file)
        bus = Bus(settings.redis_url, settings.topic, intake.take)
    except ValueError as error:
        parser.error(str(error))

    registry = CollectorRegistry()
    registry.register(store)
    registry.register(OwnMetrics(intake, store, bus))
    ProcessCollector(registry=registry)
    try:
        server = Server(options.bind_host, options.port, registry, lambda: bus.reason, token)
    except (OSError, UnicodeError) as error:
        parser.error(f"--bind-host {options.bind_host} --port {options.port}: cannot listen there: {error}")

    # Blocked before the threads start, which inherit that, and waited for here. A thread that ends sends SIGUSR1.
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for target in (server.serve_forever, bus.run):
        threading.Thread(target=_run, args=(target,), daemon=True).start()
    host, port = server.server_address[:2]
    LOG.info(log.line("exporter.listening", host=host, port=port, version=__version__, token=bool(token)))
    if is_open(str(host), token):
        LOG.warning(log.line("exporter.open_to_all", host=host, remedy=f"--token-file or {ENVIRONMENT}"))
    received = signal.sigwait(signals)
    LOG.info(log.line("exporter.stopped", signal=signal.Signals(received).name))
    return 1 if received == signal.SIGUSR1 else 0


def is_open(host: str, token: str) -> bool:
    """Whether others than this machine can read the page, and need no token for it."""
    return not token and not ipaddress.ip_address(host).is_loopback


def _run(target: t.Callable[[], None]) -> None:
    """The other threads could do nothing useful without this one: the service manager shall start the whole anew."""
    try:
        target()
    finally:
        os.kill(os.getpid(), signal.SIGUSR1)


def _token(path: Path | None) -> str:
    """The token of ``path``, or of the environment where there is no path; empty where neither is given.

    An empty or unusable one is an error, and not a page without a token.
    """
    if path is None and ENVIRONMENT not in os.environ:
        return ""
    where = f"--token-file {path}" if path else f"the environment variable {ENVIRONMENT}"
    try:
        token = path.read_text("ascii").strip() if path else os.environ[ENVIRONMENT]
    except OSError as error:
        raise config.ConfigError(f"{where}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not re.fullmatch("[!-~]+", token):
        raise config.ConfigError(f"{where}: holds no token: one or more printable ASCII characters without spaces")
    return token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="njord-exporter",
        description="Serves the metrics on Njord's bus to Prometheus.",
        epilog=f"With {ENVIRONMENT} in the environment, /metrics wants it as a bearer token.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--port", type=_number(0, 65535), default=9091, help="to listen on, 0 for any that is free (%(default)s)"
    )
    parser.add_argument("--bind-host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--config-root",
        type=Path,
        help="the folder with config/base.yaml or base.yaml, for redis.url; without it " + config.REDIS_URL,
    )
    parser.add_argument("--token-file", type=Path, help=f"file with the bearer token, in place of {ENVIRONMENT}")
    parser.add_argument(
        "--label-set-limit",
        type=_number(1, SAMPLE_LIMIT),
        default=LABEL_SET_LIMIT,
        help="label sets of one metric that are served apart (%(default)s)",
    )
    parser.add_argument("--log-level", choices=log.LEVELS, default="info", help="(%(default)s)")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _number(least: int, most: int) -> t.Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
