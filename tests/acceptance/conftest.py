"""Fixtures: proxies that are stopped, and looked over, at the end of each test."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest_asyncio

from .process import Serving
from .rawserver import RawServer
from .rawsocket import close_all

Serve = Callable[..., Awaitable[Serving]]


@pytest_asyncio.fixture(autouse=True)
async def no_socket_is_left() -> AsyncIterator[None]:
    """Reset at the end of each test what connections it has not ended itself."""
    yield
    await close_all()


@pytest_asyncio.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start proxies: `await serve(url, "--grace", "1s", config="bind = …")`; each must end well."""
    running: list[Serving] = []

    async def start(
        upstream: str, *options: str, config: str = "", drain: str = "50ms", prefix: Sequence[str] = ()
    ) -> Serving:
        extra: list[str] = []
        if config:
            file = tmp_path / f"proxy-{len(running)}.toml"
            file.write_text(config)
            extra = ["--config", str(file)]
        serving = await Serving.started("--upstream", upstream, *extra, *options, drain=drain, prefix=prefix)
        running.append(serving)
        return serving

    yield start
    for serving in running:
        # Shown by pytest where the test failed.
        print(f"--- log of the proxy with {' '.join(serving.options)}\n{serving.log}")
    faults: list[AssertionError] = []
    for serving in reversed(running):
        try:
            await serving.stop()
        except AssertionError as error:
            faults.append(error)
    if faults:
        raise faults[0]


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[RawServer]:
    """A raw server that accepts every handshake and answers pings."""
    async with RawServer() as server:
        yield server
