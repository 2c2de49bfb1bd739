"""A program: an aware or plain conversation under gevent, which talks while a test cuts its link.

    python talker.py URL aware|plain MESSAGES

It sends numbers, one every 10 ms, drops its own link when its stdin says `drop`, and prints what it heard as JSON when
everything has come, or nothing new for a while.
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


class Ear:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard_texts: list[str] = []
        self.losses: list[str] = []
        self.returns = 0
        self.ended = ""

    def heard(self, message: str | bytes) -> None:
        """Note a message."""
        self.heard_texts.append(str(message))

    def lost(self, ending: LinkEnd) -> None:
        """Note a loss."""
        self.losses.append(str(ending))

    def returned(self, seconds: float) -> None:
        """Note a return."""
        self.returns += 1

    def over(self, reason: str, seconds: float | None) -> None:
        """Note the end."""
        self.ended = reason


def main(url: str, kind: str, messages: int) -> None:
    """Talk."""
    ear = Ear()
    place = ConversationTarget(LinkMaker(url))
    conversation = (AwareConversation if kind == "aware" else Conversation)(place, ear)
    conversation.open()
    print("open", flush=True)

    def obey() -> None:
        for line in FileObjectThread(sys.stdin):
            if line.strip() == "drop":
                conversation.drop()

    gevent.spawn(obey)
    try:
        for number in range(messages):
            conversation.send(f"{number} " + "x" * (number % 50) * 40)
            gevent.sleep(0.01)
    except ConversationOver:
        pass
    latest, changed = -1, time.monotonic()
    while not ear.ended and len(ear.heard_texts) < messages and time.monotonic() - changed < QUIET_SECONDS:
        if len(ear.heard_texts) != latest:
            latest, changed = len(ear.heard_texts), time.monotonic()
        gevent.sleep(0.05)
    gevent.sleep(0.3)
    conversation.close()
    numbers = [int(text.partition(" ")[0]) for text in ear.heard_texts]
    told = {"numbers": numbers, "losses": ear.losses, "returns": ear.returns, "ended": ear.ended}
    print(json.dumps({**told, "resumable": getattr(conversation, "resumable", None)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
