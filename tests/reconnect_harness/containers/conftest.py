"""The container engine for tests, or the reason why they are skipped.

Where RECONNECT_HARNESS_ENGINE is `required`, as in CI once it has started one, they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from reconnect_harness.containers.engine import Engine, EngineUnavailable
from reconnect_harness.toxiproxy.container import image_by

#: The names of the images that are made of this repository, in docs/containers.md and in CI.
HARNESS = "localhost/reconnect-harness"
PROXY = "localhost/reconnect-proxy"


def _unavailable(reason: EngineUnavailable) -> None:
    if os.environ.get("RECONNECT_HARNESS_ENGINE") == "required":
        pytest.fail(f"an engine is required here: {reason}")
    pytest.skip(str(reason))


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine, for one test."""
    with ExitStack() as opened:
        engine = Engine()
        try:
            opened.enter_context(engine)
        except EngineUnavailable as reason:
            _unavailable(reason)
        yield engine


def _image(engine: Engine, name: str) -> str:
    try:
        engine.image(name)
    except EngineUnavailable as reason:
        _unavailable(reason)
    return name


@pytest.fixture
def harness_image(engine: Engine) -> str:
    """The image with this harness in it."""
    return _image(engine, HARNESS)


@pytest.fixture
def proxy_image(engine: Engine) -> str:
    """The image of the proxy."""
    return _image(engine, PROXY)


@pytest.fixture
def toxiproxy_image(engine: Engine) -> str:
    """The image of Toxiproxy: that of TOXIPROXY_IMAGE, or the released one."""
    return _image(engine, image_by(os.environ))
