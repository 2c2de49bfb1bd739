"""How many file descriptors this process may have, and whether they are enough for --max-sessions.

The system has two limits. The soft limit is the effective one, and a process may raise it up to the hard limit. A
process with CAP_SYS_RESOURCE, such as one of root, may raise the hard limit up to fs.nr_open. As HAProxy does for its
`maxconn`, it is raised here for --max-sessions. Without that option the hard limit stays as it is, and there may be as
many sessions as it allows.
"""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from pathlib import Path

from .config.model import Config
from .core.registry import SessionLimits
from .net.pending import with_spare, without_spare

logger = logging.getLogger("reconnect_proxy")

#: Descriptors of a session: a socket for each leg. A relayed HTTP connection has as many.
EACH = 2
#: Other descriptors of a proxy. It has some 20 when it is idle.
OTHERS = 50
#: Linux: the largest possible limit of a process.
LARGEST = Path("/proc/sys/fs/nr_open")


def take_descriptors(config: Config) -> None:
    """Raise the limit of this process, and of those that it starts, as far as `config` needs it and is allowed.

    Writes a warning if that is not enough for --max-sessions.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Shells and systemd start programs with a lower soft limit for those that use select(2).
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if config.max_sessions is None or hard == resource.RLIM_INFINITY:
        return
    wanted = needed_for(config, config.max_sessions)
    if hard < wanted:
        hard = _raised(hard, wanted)
    # Each worker has this limit, and they share the sessions.
    sessions = config.workers * sessions_within(hard)
    if sessions < config.max_sessions:
        remedy = f"ulimit -n {wanted} (systemd: LimitNOFILE=, Docker: --ulimit nofile=), or more --workers"
        fields = {"limit": hard, "sessions": sessions, "wanted": config.max_sessions, "remedy": remedy}
        logger.warning("too few descriptors", extra={"fields": fields})


def session_limits(config: Config) -> SessionLimits:
    """Return how many sessions there may be: what `config` says, or as many as there are descriptors for.

    By default one address leaves half of these to others.
    """
    most, per_address = config.max_sessions, config.max_sessions_per_address
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most is None and soft != resource.RLIM_INFINITY:
        most = max(1, config.workers * sessions_within(soft))
        if per_address is not None and "max_sessions_per_address" not in config.model_fields_set:
            per_address = min(per_address, max(1, most // 2))
    return SessionLimits(most, per_address)


def needed_for(config: Config, sessions: int) -> int:
    """Return the descriptors that one process needs for so many sessions while the other limits are reached."""
    return with_spare(EACH * sessions + config.max_handshakes + EACH * config.max_http + OTHERS)


def sessions_within(limit: int) -> int:
    """Return how many sessions a process can have with so many descriptors, without other connections."""
    return max(0, (without_spare(limit) - OTHERS) // EACH)


def _raised(hard: int, wanted: int) -> int:
    """Raise both limits from `hard` to `wanted`, or as near to it as this process may. Returns the new limit."""
    # Other systems have no such file.
    with suppress(FileNotFoundError):
        wanted = min(wanted, int(LARGEST.read_text(encoding="ascii")))
    if wanted <= hard:
        return hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        # It is not allowed, which in Python is a ValueError.
        return hard
    return wanted
