"""A recording that is played back takes as long as it took (F10)."""

import asyncio

import pytest

from devices.capture import Entry, Header, Replay
from sim.memory import MemoryLinks, MemoryPort
from sim.replay import TimedReplay
from sim.virtual_time import run

BYTE = 10 / 2400
RECORDED = [
    Entry(7.0, "to_device", "51310D"),
    Entry(8.5, "to_host", "283232"),
    Entry(9.0, "to_host", "310D"),
    Entry(20.0, "to_device", "51530D"),
    Entry(20.0, "to_host", "4E0D"),
]


async def ask(link, request: bytes, length: int) -> list[tuple[float, bytes]]:
    """Return what came, and when it would have been there on a line."""
    loop, heard = asyncio.get_running_loop(), []
    began = loop.time()
    await link.write(request)
    while sum(len(said) for _, said in heard) < length:
        said = await link.read()
        heard.append((loop.time() - began + (len(request) + len(said)) * BYTE, said))
    return heard


def test_answers_come_when_they_came():
    async def story() -> None:
        device = TimedReplay(Replay(Header(1, "ups", 2400), RECORDED), 2400)
        port = MemoryPort(device)
        device.nudge = port.nudge
        link = await MemoryLinks({"ups": port})("ups", 2400)
        for _ in range(2):
            (one, first), (two, second) = await ask(link, b"Q1\r", 5)
            assert (first, second) == (b"(22", b"1\r")
            assert (one, two) == (pytest.approx(1.5), pytest.approx(2.0))
        ((at_once, said),) = await ask(link, b"QS\r", 2)
        assert (said, at_once) == (b"N\r", pytest.approx(5 * BYTE))
        await link.close()

    run(story())
