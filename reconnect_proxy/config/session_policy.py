"""The policy that a configuration asks for: options as `core` takes them."""

from __future__ import annotations

import dataclasses

from ..core.policy import POLICIES, Policy
from .model import Compression, Config


def policy_of(config: Config, filtering: bool = False) -> Policy:
    """Return the policy of the sessions of `config`. If hooks are `filtering` messages, none may be compressed."""
    return dataclasses.replace(
        POLICIES[config.mode],
        client_ids=config.client_ids,
        grace=config.grace,
        grace_on=config.grace_on,
        retry_for=config.retry_for,
        retry_on=config.retry_on,
        final_status=config.final_status,
        gate=config.gate,
        uncertain=config.uncertain,
        accept_when_down=config.accept_when_down,
        connect_timeout=config.connect_timeout,
        ping_interval=config.ping_interval,
        ping_timeout=config.ping_timeout,
        unread_timeout=config.unread_timeout,
        stall_timeout=config.stall_timeout,
        max_queue=config.max_queue,
        idle_timeout=config.idle_timeout,
        max_rate=config.max_rate,
        compression=config.compression is Compression.ON and not filtering,
    )
