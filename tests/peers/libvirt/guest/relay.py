#!/usr/bin/python3 -IS
"""Lets the machine's loopback appear as this guest's own, at one port: the simulated GitHub says
that it is at 127.0.0.1."""

import asyncio
import sys

HOST = "10.0.2.2"


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    try:
        onward = await asyncio.open_connection(HOST, int(sys.argv[1]))
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
