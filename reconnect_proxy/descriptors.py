"""How many file descriptors this process may have, and whether they are enough for the sessions that it is to have.

The system has two limits: the soft one counts, and a process may raise it up to the hard one. That one may be raised by
root, or whoever else has CAP_SYS_RESOURCE, up to fs.nr_open. As HAProxy does for its `maxconn`, it is raised here for
--max-sessions, which says how many there shall be. Without that the limit that this process was given is left alone.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from .config.model import Config
from .net.pending import with_spare, without_spare
from .observe.logs import logger

__all__ = ["needed_for", "sessions_within", "take_descriptors"]

#: What a session takes: a socket for each leg. A relayed HTTP connection takes as many.
EACH = 2
#: What a proxy has open besides: some 20 when nothing happens.
BESIDES = 50
#: Linux: what no process may have more of.
MOST = Path("/proc/sys/fs/nr_open")


def take_descriptors(config: Config) -> None:
    """Raise the limit of this process, and of those that it starts, as far as `config` needs it and it may.

    Writes a warning where that is not enough for --max-sessions.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lower soft limit that shells and systemd start programs with is for the sake of those that use select(2).
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if config.max_sessions is None or hard == resource.RLIM_INFINITY:
        return
    wanted = needed_for(config)
    if hard < wanted:
        hard = _raised(hard, wanted)
    # Each worker has as many, and they have the sessions together.
    sessions = config.workers * sessions_within(hard)
    if sessions < config.max_sessions:
        remedy = f"ulimit -n {wanted} (systemd: LimitNOFILE=, Docker: --ulimit nofile=), or more --workers"
        fields = {"limit": hard, "sessions": sessions, "wanted": config.max_sessions, "remedy": remedy}
        logger.warning("too few descriptors", extra={"fields": fields})


def needed_for(config: Config) -> int:
    """Return the descriptors with which one process can have all of --max-sessions, when all else is at its limit."""
    assert config.max_sessions is not None, "without a limit there is no end of them"
    return with_spare(EACH * config.max_sessions + config.max_handshakes + EACH * config.max_http + BESIDES)


def sessions_within(limit: int) -> int:
    """Return how many sessions a process can have with so many descriptors, when nothing else needs any."""
    return max(0, (without_spare(limit) - BESIDES) // EACH)


def _raised(hard: int, wanted: int) -> int:
    """Raise both limits from `hard` to `wanted`, or as near to it as this process may, and return what they are."""
    # Other systems have no such file.
    with suppress(FileNotFoundError):
        wanted = min(wanted, int(MOST.read_text(encoding="ascii")))
    if wanted <= hard:
        return hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        # It may not: for that Python has a ValueError.
        return hard
    return wanted
