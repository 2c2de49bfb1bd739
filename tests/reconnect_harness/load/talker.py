"""A program: an aware or plain conversation under gevent, which talks while a test cuts its link.

    python talker.py URL aware|plain

It sends numbers, one every 10 ms, and does what its stdin says: `drop` its own link, or that it is `enough`. What
happens it prints as JSON, a line each: {"heard": 20} for each twentieth message, {"lost": REASON}, {"returned": COUNT}.
The last line is an account of all, when what was sent has come back, or nothing new has for a while.
"""

from __future__ import annotations

import json
import sys
import time

import gevent
from gevent.fileobject import FileObjectThread

from reconnect_harness.load.aware import AwareConversation
from reconnect_harness.load.conversation import Conversation, ConversationOver, ConversationTarget
from reconnect_harness.load.link import LinkEnd, LinkMaker

QUIET_SECONDS = 5.0

#: How often it is told how much was heard.
EVERY = 20


def tell(**what: object) -> None:
    """Print a line."""
    print(json.dumps(what), flush=True)


class Listener:
    """Keeps what it hears, and tells of it."""

    def __init__(self) -> None:
        self.heard_texts: list[str] = []
        self.losses: list[str] = []
        self.returns = 0
        self.ended = ""

    def heard(self, message: str | bytes) -> None:
        """Keep a message."""
        self.heard_texts.append(str(message))
        if len(self.heard_texts) % EVERY == 0:
            tell(heard=len(self.heard_texts))

    def lost(self, ending: LinkEnd) -> None:
        """Keep a loss."""
        self.losses.append(str(ending))
        tell(lost=str(ending))

    def returned(self, seconds: float) -> None:
        """Count a return."""
        self.returns += 1
        tell(returned=self.returns)

    def over(self, reason: str, seconds: float | None) -> None:
        """Keep the end."""
        self.ended = reason


def main(url: str, kind: str) -> None:
    """Talk."""
    listener = Listener()
    conversation = (AwareConversation if kind == "aware" else Conversation)(
        ConversationTarget(LinkMaker(url)), listener
    )
    conversation.open()
    enough = False

    def obey() -> None:
        nonlocal enough
        for line in FileObjectThread(sys.stdin):
            if line.strip() == "drop":
                conversation.drop()
            else:
                enough = True

    gevent.spawn(obey)
    sent = 0
    try:
        while not enough:
            conversation.send(f"{sent} " + "x" * (sent % 50) * 40)
            sent += 1
            gevent.sleep(0.01)
    except ConversationOver:
        pass
    latest, changed = -1, time.monotonic()
    while not listener.ended and len(listener.heard_texts) < sent and time.monotonic() - changed < QUIET_SECONDS:
        if len(listener.heard_texts) != latest:
            latest, changed = len(listener.heard_texts), time.monotonic()
        gevent.sleep(0.05)
    # What may be repeated has the time to come.
    gevent.sleep(0.3)
    conversation.close()
    tell(
        sent=sent,
        numbers=[int(text.partition(" ")[0]) for text in listener.heard_texts],
        losses=listener.losses,
        returns=listener.returns,
        ended=listener.ended,
        resumable=getattr(conversation, "resumable", None),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
