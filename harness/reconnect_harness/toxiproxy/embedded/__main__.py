"""The embedded Toxiproxy as a process: `python -m reconnect_harness.toxiproxy.embedded`, with the original's flags."""

from __future__ import annotations

import logging
import os
import random
import sys
from pathlib import Path

import click
import uvloop

from reconnect_harness.toxiproxy.embedded import VERSION
from reconnect_harness.toxiproxy.embedded.address import AddressError
from reconnect_harness.toxiproxy.embedded.server import serve

_LEVELS = {"trace": logging.DEBUG, "warn": logging.WARNING, "fatal": logging.CRITICAL, "panic": logging.CRITICAL}


@click.command()
@click.option("-host", "--host", default="localhost", show_default=True, help="Host for the API to listen on.")
@click.option("-port", "--port", default=8474, show_default=True, help="Port for the API to listen on; 0 for any.")
@click.option(
    "-config",
    "--config",
    type=click.Path(path_type=Path),
    help="JSON file with proxies to create on startup.",
)
@click.option("-seed", "--seed", type=int, help="Seed for toxicity, jitter and sizes.")
@click.version_option(VERSION, "-version", "--version", message="toxiproxy-server version %(version)s (embedded)")
def main(host: str, port: int, config: Path | None, seed: int | None) -> None:
    """Serve Toxiproxy's HTTP API until SIGTERM or Ctrl-C.

    The log goes to standard output; LOG_LEVEL is trace, debug (each request), info (the default), warn or error.
    """
    level = os.environ.get("LOG_LEVEL", "info").lower()
    known = _LEVELS.get(level, logging.getLevelNamesMapping().get(level.upper(), logging.INFO))
    logging.basicConfig(stream=sys.stdout, level=known, format="%(asctime)s %(levelname)s %(message)s")
    if seed is not None:
        random.seed(seed)
    try:
        uvloop.run(serve(host, port, config))
    except AddressError as failure:
        logging.getLogger(__name__).error("%s", failure)  # noqa: TRY400
        sys.exit(1)


if __name__ == "__main__":
    main()
