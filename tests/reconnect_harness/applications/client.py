"""A client as a program: JSON lines on stdin and stdout. It forgets every tenth message with the argument `lose`, and
never says `sent` with `silent`."""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


def tell(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def listen(ws: ClientConnection) -> None:
    try:
        while True:
            tell(received=await ws.recv())
    except ConnectionClosed as end:
        tell(closed=end.rcvd.code if end.rcvd else 1006)


async def main(url: str, bug: str) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with connect(url, proxy=None) as ws:
        tell(connected=True)
        listening = asyncio.create_task(listen(ws))
        count = 0
        while line := await reader.readline():
            text = json.loads(line)["send"]
            count += 1
            if bug != "lose" or count % 10:
                await ws.send(text)
            if bug != "silent":
                tell(sent=text)
        await ws.close()
        await listening


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], "".join(sys.argv[2:])))
