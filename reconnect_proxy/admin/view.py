"""What the admin listener shows and ends: the sessions of one process, or of all workers together.

`ProxyView` is the view of the proxy in this process; `workers.worker_group.WorkerGroup` asks several processes.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from itertools import islice
from typing import Any, NamedTuple, Protocol

from ..core.context import Context, SessionState
from ..events import short_id
from ..introspection import SessionInfo, info_of
from ..proxy import Proxy

#: Sessions that are described in one turn of the loop: about a millisecond.
SESSIONS_A_TURN = 50

SESSION_FIELDS = tuple(field.name for field in fields(SessionInfo))
STATES = {state.name.lower(): state for state in (SessionState.OPENING, SessionState.OPEN, SessionState.ENDING)}


class Page(NamedTuple):
    """Some of `total` sessions, the oldest first, each as JSON."""

    total: int
    sessions: list[str]


class Ended(NamedTuple):
    """The result of ending a session: how many were `found` by that name, and if just one, the beginning of its id."""

    found: int
    id_short: str = ""


class Unanswered(Exception):
    """There is no answer now. The message says why."""


class SessionsView(Protocol):
    """What an operator can see and end."""

    async def ready(self) -> str | None:
        """Return None if new sessions would be served, or the reason why not."""

    async def page(self, state: str | None, offset: int, limit: int) -> Page:
        """Return up to `limit` sessions in `state` (None: any), after the first `offset`. Raises Unanswered."""

    async def end(self, name: str, operator: str) -> Ended:
        """End the session that is called `name`, if there is exactly one, for an operator at the address `operator`.

        Raises Unanswered.
        """


class ProxyView:
    """The view of the proxy in this process."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def ready(self) -> str | None:
        """Return None if new sessions would be served, or the reason why not."""
        return await self._proxy.ready()

    async def page(self, state: str | None, offset: int, limit: int) -> Page:
        """Return up to `limit` sessions in `state` (None: any), after the first `offset`."""
        chosen = self.chosen(state)
        total = len(chosen)
        page = islice(chosen, offset, offset + limit)
        shown: list[str] = []
        while some := list(islice(page, SESSIONS_A_TURN)):
            shown += [json.dumps(self._describe(context)) for context in some]
            await asyncio.sleep(0)
        return Page(total, shown)

    def chosen(self, state: str | None) -> list[Context]:
        """Return the sessions in `state` (None: any), the oldest first."""
        if state is None:
            return list(self._proxy.contexts)
        return [context for context in self._proxy.contexts if context.state is STATES[state]]

    def _describe(self, context: Context) -> dict[str, Any]:
        # `dataclasses.asdict` copies deeply and takes three times as long.
        info = info_of(context, self._proxy.config.mode, asyncio.get_running_loop().time())
        return {name: getattr(info, name) for name in SESSION_FIELDS}

    async def end(self, name: str, operator: str) -> Ended:
        """End the session that is called `name`, if there is exactly one, for an operator at the address `operator`."""
        found = self._proxy.find(name)
        if len(found) != 1:
            return Ended(len(found))
        self._proxy.end(found[0], operator)
        return Ended(1, short_id(found[0].session_id or ""))
