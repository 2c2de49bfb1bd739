"""The kinds of clients and upstreams by name: what a scenario may ask for, as data.

`peers.clients` and `peers.upstreams` have the class behind each name. This module imports nothing, so that a scenario
can be read and checked without them.
"""

from __future__ import annotations

from enum import StrEnum


class ClientKind(StrEnum):
    """What a client does when its connection is lost, and what else it does with its session."""

    PLAIN = "plain"
    """An ordinary client that expects never to be disconnected: it does not reconnect."""

    RECONNECTING = "reconnecting"
    """An ordinary client that reconnects under its connection id, and resends nothing."""

    VISITING = "visiting"
    """An ordinary client that names no session, connects for a while, leaves, and connects again."""

    AWARE = "aware"
    """`reconnect_proxy.connect`: counts, resumes, and resends what was not received."""

    HALF_OPEN = "half-open"
    """Reads nothing more from its link, and resumes under its id on a second one while the first still looks open."""

    VANISHING = "vanishing"
    """Closes with 4321 and stays away, then asks for its session again."""

    WRONG_IDS = "wrong-ids"
    """Talks, while another client connects with unknown ids and with malformed ones."""

    ROBBED = "robbed"
    """Talks with credentials, while another client connects with its id and other credentials."""

    STALE_COUNTS = "stale-counts"
    """Talks, while another client connects with its id and with impossible counts."""


#: Clients that name no session in their handshake.
UNNAMED_CLIENTS = (ClientKind.PLAIN, ClientKind.VISITING)

#: Clients that are absent for a while, as `absence` in a scenario says.
ABSENT_CLIENTS = (ClientKind.HALF_OPEN, ClientKind.VANISHING)


class UpstreamKind(StrEnum):
    """What an upstream does with messages, and whether it knows the reconnect protocol."""

    RECORD = "record"
    """An ordinary server: receives and records, and sends nothing unless it is told to push."""

    PUSH = "push"
    """An ordinary server that sends messages of its own."""

    ECHO = "echo"
    """An ordinary server that sends back what it receives."""

    AWARE = "aware"
    """Keeps sessions, counts, and resumes: the aware side of PROTOCOL.md."""

    GATE = "gate"
    """Announces a state with which it can be reconnected: PROTOCOL.md section 5."""

    AWARE_ECHO = "aware-echo"
    """Aware, and sends back what it receives."""


#: A gate's setting in which the first message of each link is a control message.
GATE_FIRST_MESSAGE = "first-message"

#: What a gate's other setting starts with; the rest of it is the prefix of control messages.
GATE_PREFIX = "prefix:"

#: What an upstream can be told to do wrong (`rude` in a scenario, `peers.misbehaviour`), in the words of the history.
MISBEHAVIOURS = ("reject", "reject_again", "close", "deaf", "mute")
