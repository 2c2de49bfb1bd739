"""Keeps watch over a run's containers: `python -m harness.container_keeper RUN`, with a pipe from the run as stdin.

When the pipe ends and nobody has said `done`, the run has died without cleaning up, by SIGKILL for instance: what the
engine has of it is removed. A process, since nothing of the dead one is left to do it; a shell would need the `docker`
command.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Wait for the end of the run whose token is the argument."""
    (run,) = sys.argv[1:]
    if sys.stdin.read().strip() == "done":
        return
    # Imported here: the docker SDK takes a while, and is rarely needed.
    from harness.engine import RUN_LABEL, connect, remove

    client = connect()
    try:
        remove(client, f"{RUN_LABEL}={run}")
    finally:
        client.close()


if __name__ == "__main__":
    main()
