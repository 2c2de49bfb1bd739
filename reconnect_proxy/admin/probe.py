"""`reconnect-proxy ready`: asks a running proxy whether it is ready, for the health check of an image without curl."""

from __future__ import annotations

import http.client
import json

from ..config.values import Address

#: Seconds that the proxy may take to answer. It may try its upstreams first.
ANSWER_SECONDS = 4.0

#: Addresses of this machine at which a listener on all addresses can be reached.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def why_not_ready(admin: Address) -> str | None:
    """Return why the proxy with its admin listener at `admin` is not ready, or None if it is."""
    connection = http.client.HTTPConnection(_LOOPBACK.get(admin.host, admin.host), admin.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as failure:
        reason = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
        return f"no answer from the admin listener at {admin}: {reason}"
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.OK:
        return None
    try:
        return str(json.loads(said)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status} from {admin}: {said.strip()}"
