"""`reconnect-harness`, and `python -m harness`: the command line, where what it needs is installed.

The proxy alone installs this command too, without the toolkit's packages; then one line says how to get them.
"""

from __future__ import annotations

import sys

#: The packages that are ours: one of them that cannot be imported is a fault of this program.
_OURS = ("harness", "reconnect_proxy")


def missing(error: ModuleNotFoundError) -> str:
    """Return the sentence that says which package is not installed, and how to install it.

    Raises:
        ModuleNotFoundError: the module is one of ours.

    """
    package = (error.name or "").partition(".")[0]
    if package in _OURS:
        raise error
    return (
        f"this needs the Python package {package}, which is not installed: pip install 'reconnect-proxy[harness]'. "
        "The proxy works without it"
    )


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
