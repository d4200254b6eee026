"""The link over TCP: lost as one event, nothing left open, free after close (L2, L5, L37)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from devices.link import LinkLost
from devices.tcp import BUFFER_LIMIT, DEAD_SECONDS, TcpLink, open_tcp_link

DEADLINE = 10


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[TcpLink, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a link and the other end of its connection."""
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    async with asyncio.timeout(DEADLINE):
        server = await asyncio.start_server(lambda *ends: arrived.put_nowait(ends), "127.0.0.1", 0)
        async with server:
            link = await open_tcp_link(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", 0)
            reader, writer = await arrived.get()
            try:
                yield link, reader, writer
            finally:
                await link.close()
                writer.transport.abort()


async def test_bytes_go_there_and_back() -> None:
    async with linked() as (link, reader, writer):
        await link.write(b"Q1\r")
        assert await reader.readexactly(3) == b"Q1\r"
        writer.write(b"(221.3")
        assert await link.read() == b"(221.3"


async def test_the_other_end_closes() -> None:
    async with linked() as (link, _, writer):
        waiting = asyncio.create_task(link.read(), name="reader")
        writer.close()
        for _ in range(2):
            with pytest.raises(LinkLost):
                await waiting
            waiting = asyncio.create_task(link.read(), name="reader")
        with pytest.raises(LinkLost):
            await waiting


async def test_a_reset_is_a_loss_to_reader_and_writer() -> None:
    async with linked() as (link, _, writer):
        made = writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        with pytest.raises(LinkLost):
            await link.read()
        with pytest.raises(LinkLost):
            await link.write(b"x")


async def test_closing_twice_is_nothing_and_a_closed_link_is_lost() -> None:
    async with linked() as (link, _, _):
        await link.close()
        await link.close()
        with pytest.raises(LinkLost):
            await link.write(b"x")
        with pytest.raises(LinkLost):
            await link.read()


async def test_close_does_not_wait_for_a_peer_that_does_not_read() -> None:
    """L37."""
    async with linked() as (link, _, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.write(b"x" * 50_000_000), 0.5)
        await link.close()


async def test_what_nobody_reads_is_bounded() -> None:
    async with linked() as (link, _, writer):
        writer.write(b"x" * 50_000_000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.5)
        assert len(link._reader._buffer) <= 2 * BUFFER_LIMIT + 256 * 1024  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "port", ["tcp://127.0.0.1", "127.0.0.1:1", "tcp://:1", "tcp://host:x", "tcp://[::1", "/dev/ttyS0", "tcp://h:99999"]
)
async def test_what_is_no_address(port: str) -> None:
    with pytest.raises(LinkLost):
        await open_tcp_link(port, 0)


async def test_a_refused_connection_leaves_nothing_open() -> None:
    """The leak check of every test sees a socket that is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(LinkLost, match="cannot be opened"):
            await open_tcp_link(f"tcp://127.0.0.1:{free.getsockname()[1]}", 0)


async def test_a_cancelled_open_leaves_nothing_open() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        links: list[TcpLink] = []

        async def open_until_nobody_answers() -> None:
            while True:
                links.append(await open_tcp_link(f"tcp://127.0.0.1:{full.getsockname()[1]}", 0))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(open_until_nobody_answers(), 0.5)
        for link in links:
            await link.close()


async def test_a_dead_peer_is_noticed_within_its_time() -> None:
    """A cable that is out sends nothing, not even an end: the kernel asks, and gives up (rule 4)."""
    async with linked() as (link, _, _):
        made = link._writer.get_extra_info("socket")
        asked = [
            made.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert asked[0] + asked[1] * asked[2] <= DEAD_SECONDS
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == DEAD_SECONDS * 1000


async def test_what_the_kernel_holds_unsent_is_bounded() -> None:
    """A write that returned says that the peer is not far behind."""
    async with linked() as (link, _, _):
        made = link._writer.get_extra_info("socket")
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 64 * 1024
