"""`python -m reconnect_harness.load`: locust with the locustfile of this package, and with its options in the help.

By itself locust prints its help before it has loaded a locustfile, and so without the options of one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from locust.argument_parser import get_parser
from locust.main import main as locust

from . import listen  # noqa: F401  # it adds the options

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def main() -> None:
    """Run locust with the options of this process; a -f among them replaces the locustfile of this package."""
    options = sys.argv[1:]
    sys.argv = ["locust", "-f", str(LOCUSTFILE), *options]
    if {"-h", "--help"} & set(options):
        get_parser().print_help()
        return
    locust()


if __name__ == "__main__":
    main()
