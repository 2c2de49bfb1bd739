"""`reconnect-harness`, and `python -m reconnect_harness`: the command line, where what it needs is installed.

The proxy alone installs this command too, without the toolkit's packages; then one line says how to get them.
"""

from __future__ import annotations

import sys

from reconnect_harness.missing import missing


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        from reconnect_harness.cli import main as commands
    except ModuleNotFoundError as error:
        sys.stderr.write(f"reconnect-harness: {missing(error)}\n")
        return 2
    except KeyboardInterrupt:
        # To import it all takes a second.
        return 130
    return commands()


if __name__ == "__main__":
    sys.exit(main())
