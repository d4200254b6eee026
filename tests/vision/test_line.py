"""One end of the socket pair (vision/line.py)."""

import asyncio
import socket

import pytest

from vision import wire
from vision.line import Line


class End:
    """A line and what came over it."""

    def __init__(self, sock: socket.socket) -> None:
        self.received: asyncio.Queue[wire.Request] = asyncio.Queue()
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.line = Line(sock, wire.decode_request, self.received.put_nowait, self.reason.set_result)

    async def next(self) -> wire.Request:
        async with asyncio.timeout(5):
            return await self.received.get()

    async def end(self) -> str:
        async with asyncio.timeout(5):
            return await self.reason


async def test_messages_of_any_size_go_both_ways() -> None:
    here, there = map(End, socket.socketpair())
    large = wire.Rasterise(1, bytes(range(256)) * 20_000, 576, 4, 5.0)
    for sender, receiver in ((here, there), (there, here)):
        for message in (wire.Ping(), large, wire.Wipe(2)):
            sender.line.send(message)
        assert [await receiver.next() for _ in range(3)] == [wire.Ping(), large, wire.Wipe(2)]
    here.line.close()
    assert await there.end() == "connection closed"
    assert not here.reason.done()


async def test_a_descriptor_travels_behind_a_long_message() -> None:
    here, there = map(End, socket.socketpair())
    ours, theirs = socket.socketpair()
    with ours:
        here.line.send(wire.Rasterise(1, bytes(3_000_000), 576, 4, 5.0))
        with theirs:
            here.line.send(wire.Preview(2), theirs.fileno())
        assert isinstance(await there.next(), wire.Rasterise)
        assert await there.next() == wire.Preview(2)
        with socket.socket(fileno=there.line.descriptors.popleft()) as arrived:
            arrived.send(b"here")
        assert ours.recv(9) == b"here"
    here.line.close()
    there.line.close()


async def test_descriptors_nobody_takes_are_closed() -> None:
    """The leak check of tests/conftest.py sees those that are not."""
    here, there = map(End, socket.socketpair())
    here.line.send(wire.Preview(1), 0)
    await there.next()
    there.line.close()
    there.line.close()
    assert not there.line.descriptors
    await here.end()
    here.line.send(wire.Ping())


async def test_too_many_descriptors_end_the_line() -> None:
    near, far = socket.socketpair()
    end = End(far)
    with near:
        for _ in range(6):
            socket.send_fds(near, [wire.encode(wire.Ping())], [0])
        assert await end.end() == "too many descriptors"


@pytest.mark.parametrize("garbage", [b"\xff" * 64, bytes(4), b"\0\0\0\x01\xc1", b"\0\0\0\x02\x81\xa4"])
async def test_garbage_ends_the_line(garbage: bytes) -> None:
    near, far = socket.socketpair()
    end = End(far)
    with near:
        near.send(garbage)
        assert "bytes" in await end.end()


async def test_one_byte_at_a_time() -> None:
    near, far = socket.socketpair()
    end = End(far)
    with near:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for byte in wire.encode(wire.Cancel(7)):
            near.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await end.next() == wire.Cancel(7)
    await end.end()
