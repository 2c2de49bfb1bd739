"""A Jupyter server and its kernel, with the library of JupyterLab."""

from __future__ import annotations

import pytest

from .install import python
from .network import cut_and_come_back, cut_while_it_works, told
from .testbed import Server, Testbed

pytestmark = pytest.mark.needs("Jupyter")


async def start_jupyter(testbed: Testbed) -> Server:
    """Start a server that asks for no token."""
    port = testbed.port()
    folder = str(testbed.folder)
    options = ["--allow-root", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--port-retries=0"]
    options += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder}"]
    # Nothing of the user's, and nothing in the user's home.
    places = [f"{name}={folder}/{name.lower()}" for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")]
    places += [f"{name}={folder}/{name.lower()}" for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR")]
    return await testbed.serve("jupyter", ["env", *places, str(python()), "-m", "jupyter_server", *options], port)


async def test_pair(testbed: Testbed) -> None:
    """Every execution is done once and in order, and so is what it prints; the kernel is not disconnected."""
    server = await start_jupyter(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run("jupyter_client.js", url=route.url(), direct=server.url(scheme="http"))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    for stream in ("calls", "answers", "ticks"):
        assert client.numbers(stream) == everything, stream
    assert (client.count("lost"), client.count("error")) == (0, 0)


async def test_one_proxy(testbed: Testbed) -> None:
    """A cut between proxy and server disconnects the kernel's channels at once, and they are opened again."""
    server = await start_jupyter(testbed)
    route = await testbed.single(server.netloc, preset="stateful")
    client = await testbed.run("jupyter_client.js", url=route.url(), direct=server.url(scheme="http"), owed=[])
    await cut_and_come_back(route.link, client, "answers")
    await client.finish()
    calls = client.numbers("calls")
    assert calls == sorted(set(calls))


async def test_restart(testbed: Testbed) -> None:
    """When the server is killed, and its kernels with it, the client is told."""
    server = await start_jupyter(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run("jupyter_client.js", url=route.url(), direct=server.url(scheme="http"), owed=[])
    await client.further("answers")
    await server.restart()
    await told(client)
