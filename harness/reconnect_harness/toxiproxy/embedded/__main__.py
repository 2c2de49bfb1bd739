"""The embedded Toxiproxy as a process: `python -m reconnect_harness.toxiproxy.embedded`, with the original's flags.

As in the original a flag may have one dash or two, and a value after a space or after `=`.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
from pathlib import Path

import click
import uvloop

from reconnect_harness.toxiproxy.embedded.api import VERSION
from reconnect_harness.toxiproxy.embedded.errors import AddressError
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.server import serve
from reconnect_proxy.config.values import Address

_LEVELS = {"trace": logging.DEBUG, "warn": logging.WARNING, "fatal": logging.CRITICAL, "panic": logging.CRITICAL}


class _GoFlags(click.Command):
    """A command whose options may have one dash instead of two."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each option two dashes."""
        return super().parse_args(ctx, [f"-{word}" if re.match("-[a-z]{2}", word) else word for word in args])


@click.command(cls=_GoFlags, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="localhost", show_default=True, help="Host for the API to listen on.")
@click.option("--port", default=8474, show_default=True, help="Port for the API to listen on; 0 for any.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="JSON file with proxies to create on startup.",
)
@click.option("--seed", type=int, help="Seed for toxicity, jitter and sizes.")
@click.option(
    "--proxy-metrics",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
    help="Count the bytes of each proxy, for Prometheus at /metrics.",
)
@click.option(
    "--runtime-metrics",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
    help="Show the process and Python's runtime at /metrics, where the original shows Go's.",
)
@click.version_option(VERSION, "--version", message="toxiproxy-server version %(version)s (embedded)")
def main(
    host: str, port: int, config: Path | None, seed: int | None, *, proxy_metrics: bool, runtime_metrics: bool
) -> None:
    """Serve Toxiproxy's HTTP API until SIGTERM or Ctrl-C.

    The log goes to standard output; LOG_LEVEL is trace, debug (each request), info (the default), warn or error.
    """
    level = os.environ.get("LOG_LEVEL", "info").lower()
    known = _LEVELS.get(level, logging.getLevelNamesMapping().get(level.upper(), logging.INFO))
    logging.basicConfig(stream=sys.stdout, level=known, format="%(asctime)s %(levelname)s %(message)s")
    if seed is not None:
        random.seed(seed)
    try:
        metrics = ToxiproxyMetrics(proxies=proxy_metrics, runtime=runtime_metrics)
        uvloop.run(serve(Address(host, port), config, metrics))
    except AddressError as failure:
        logging.getLogger(__name__).error("%s", failure)  # noqa: TRY400
        sys.exit(1)


if __name__ == "__main__":
    main()
