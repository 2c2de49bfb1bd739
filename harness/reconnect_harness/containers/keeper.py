"""Removes or restores a run's containers when the run dies.

`python -m reconnect_harness.containers.keeper RUN`, with a pipe from the run as stdin.

A line of JSON is a container of somebody else that the run has found, as `containers.snapshot` notes it, and again with
`ending` when it is about to be ended; `null` says that all is done. When the pipe ends without that, the run has died
without cleaning up, by SIGKILL for instance: what it has found is put back, and what the engine has of it is removed.
A process, since nothing of the dead one is left to do it; a shell would need the `docker` command.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

#: How long after the run has asked for the end of a container the engine may still be about it, in seconds: ten of them
#: it gives to a container that does not heed SIGTERM.
ENDING_SECONDS = 15.0

_POLL_SECONDS = 0.2


def main() -> None:
    """Wait for the end of the run whose token is the argument."""
    (run,) = sys.argv[1:]
    found: dict[str, dict[str, Any]] = {}
    ending: dict[str, float] = {}
    for line in sys.stdin:
        if not line.endswith("\n"):
            # Killed in the middle of it, and so before it was acted on.
            break
        noted = json.loads(line)
        if noted is None:
            return
        found[noted["id"]] = noted
        if "ending" in noted:
            ending[noted["id"]] = time.monotonic() + ENDING_SECONDS
    _clean_up(run, found, ending)


def _clean_up(run: str, found: dict[str, dict[str, Any]], ending: dict[str, float]) -> None:
    """Put back what was found, also what still ends before its moment in `ending`, and remove what is the run's."""
    # Imported here: the docker SDK takes a while, and is rarely needed.
    from reconnect_harness.containers.engine import RUN_LABEL, connect, remove

    client = connect()
    try:
        for noted in found.values():
            _put_back(client, noted)
        remove(client, f"{RUN_LABEL}={run}")
        while ending := {one: until for one, until in ending.items() if until > time.monotonic()}:
            time.sleep(_POLL_SECONDS)
            for one in ending:
                _put_back(client, found[one])
    finally:
        client.close()


def _put_back(client: Any, noted: dict[str, Any]) -> None:
    from reconnect_harness.containers import snapshot as as_found
    from reconnect_harness.containers.engine import EngineError, refusals

    try:
        with refusals(f"to put back the container {noted['id'][:12]}"):
            as_found.put_back(client, noted)
    except EngineError as failure:
        # The others are to be put back all the same.
        print(failure, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
