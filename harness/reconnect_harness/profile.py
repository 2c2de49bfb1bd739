"""Profiles: what a system under test claims, from the least to the most. `scenario.fit` says which a scenario fits."""

from __future__ import annotations

from enum import StrEnum


class Profile(StrEnum):
    """What a system under test claims."""

    TRANSPARENT = "transparent"
    """What is sent on a connection arrives unharmed and in order at the right end; if one side is lost, so is the
    other."""

    RECONNECTING = "reconnecting"
    """Clients keep their connection while that of the upstream is lost and made again; messages may be lost then."""

    AT_LEAST_ONCE = "at-least-once"
    """As `reconnecting`, and what clients have sent arrives, repeated where it may have arrived before."""

    EXACTLY_ONCE = "exactly-once"
    """Sessions as in docs/protocol.md, in which peers that know the protocol get each message once."""

    @property
    def rank(self) -> int:
        """Its place in the order, 0 for the least."""
        return list(Profile).index(self)

    def claims(self, other: Profile) -> bool:
        """Return whether it claims at least what another does."""
        return self.rank >= other.rank
