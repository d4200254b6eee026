"""A tap on the rig's camera cables: every frame that the vision process gets is kept to be searched for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


@asynccontextmanager
async def tapped(camera: Path) -> AsyncIterator[list[bytes]]:
    """Stand between a camera's socket and who opens it; give the JPEGs that went through, as they come."""
    behind = camera.with_name(camera.name + ".behind")
    camera.rename(behind)
    frames: list[bytes] = []
    clients: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        camera_reader, camera_writer = await asyncio.open_unix_connection(behind)
        try:
            while asked := await reader.read(1):
                camera_writer.write(asked)
                head = await camera_reader.readexactly(4)
                frames.append(await camera_reader.readexactly(int.from_bytes(head, "big")))
                writer.write(head + frames[-1])
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the camera was turned off, or unplugged
        finally:
            camera_writer.close()
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(forward(reader, writer), name="camera tap")
        client.add_done_callback(lambda _: writer.close())
        clients.add(client)
        client.add_done_callback(clients.discard)

    server = await asyncio.start_unix_server(accept, camera)
    try:
        yield frames
    finally:
        server.close()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await server.wait_closed()
        with suppress(FileNotFoundError):
            camera.unlink()
        behind.rename(camera)
