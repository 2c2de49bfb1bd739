"""Removes or restores a run's containers when the run dies.

`python -m reconnect_harness.containers.keeper RUN`, with a pipe from the run as stdin.

A line of JSON is the snapshot of a container that the run has found (`containers.snapshot`), and the same again with
`ending` before the run ends that container; `null` says that the run has cleaned up. If the pipe ends without `null`,
the run has died without cleaning up, by SIGKILL for instance: then the keeper restores what the run has found and
removes what it has made. The keeper is a process, because no part of the dead one is left; a shell would need the
`docker` command.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

#: For how long after the run has asked for the end of a container the engine may still be ending it, in seconds: it
#: gives ten of them to a container that does not react to SIGTERM.
ENDING_SECONDS = 15.0

_POLL_SECONDS = 0.2


def main() -> None:
    """Wait for the end of the run whose token is the argument."""
    (run,) = sys.argv[1:]
    found: dict[str, dict[str, Any]] = {}
    ending: dict[str, float] = {}
    for line in sys.stdin:
        if not line.endswith("\n"):
            # The run was killed while it wrote the line, and so before it acted on it.
            break
        snapshot = json.loads(line)
        if snapshot is None:
            return
        found[snapshot["id"]] = snapshot
        if "ending" in snapshot:
            ending[snapshot["id"]] = time.monotonic() + ENDING_SECONDS
    _clean_up(run, found, ending)


def _clean_up(run: str, found: dict[str, dict[str, Any]], ending: dict[str, float]) -> None:
    """Restore what the run has found, and remove what it has made. A container that still ends before its time in
    `ending` is restored again."""
    # Imported here: the docker SDK is slow to import, and rarely needed.
    from reconnect_harness.containers.engine import RUN_LABEL, connect, remove

    client = connect()
    try:
        for snapshot in found.values():
            _restore(client, snapshot)
        remove(client, f"{RUN_LABEL}={run}")
        while ending := {one: until for one, until in ending.items() if until > time.monotonic()}:
            time.sleep(_POLL_SECONDS)
            for one in ending:
                _restore(client, found[one])
    finally:
        client.close()


def _restore(client: Any, snapshot: dict[str, Any]) -> None:
    from reconnect_harness.containers.engine import EngineError, refusals
    from reconnect_harness.containers.snapshot import restore

    try:
        with refusals(f"to restore the container {snapshot['id'][:12]}"):
            restore(client, snapshot)
    except EngineError as failure:
        # The other containers must be restored too.
        print(failure, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
