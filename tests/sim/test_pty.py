"""The rig's pseudo-terminals: a paced wire with faults, published by a link, unplugged and plugged again."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from sim.pty import PtyHost
from sim.wire import LATE_SECONDS, NOISE, Fault, Faults, Verbs

DEADLINE = 10


class Parrot:
    """A device that says what it hears, and its own words when nudged."""

    verbs: ClassVar[Verbs] = {}

    def feed(self, data: bytes) -> bytes:
        return data or b"by itself"


class Terminal:
    """The other end, without the product's code: a descriptor on the event loop."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._arrived = asyncio.Event()
        self.received = b""
        self.chunks = 0
        self.hung_up = False
        asyncio.get_running_loop().add_reader(self._file, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._file, 4096)
        except OSError:
            data = b""
        self.received += data
        self.chunks += 1
        self.hung_up = not data
        if self.hung_up:
            asyncio.get_running_loop().remove_reader(self._file)
        self._arrived.set()

    def write(self, data: bytes) -> None:
        os.write(self._file, data)

    async def until(self, size: int) -> bytes:
        while len(self.received) < size and not self.hung_up:
            self._arrived.clear()
            await self._arrived.wait()
        return self.received

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._file)
        os.close(self._file)


@asynccontextmanager
async def wire(directory: Path, baud: int = 115_200) -> AsyncIterator[tuple[PtyHost, Terminal]]:
    async with asyncio.timeout(DEADLINE):
        with PtyHost(Parrot(), directory / "tty", baud=baud) as host:
            terminal = Terminal(host.path)
            try:
                yield host, terminal
            finally:
                terminal.close()


async def test_the_wire_keeps_its_pace_in_both_directions(tmp_path: Path) -> None:
    async with wire(tmp_path, baud=9600) as (_, terminal):
        loop = asyncio.get_running_loop()
        start = loop.time()
        terminal.write(bytes(96))
        await terminal.until(96)
        assert 0.13 < loop.time() - start < 5, "96 bytes there take 0.1 s, and the last piece of them back"


async def test_faults_of_the_wire(tmp_path: Path) -> None:
    async with wire(tmp_path) as (host, terminal):
        for kind in (Fault.GARBAGE, Fault.HALF, Fault.SILENT, Fault.DUPLICATE):
            host.verbs["fault"](kind=kind)
            terminal.write(b"abcd")
            await asyncio.sleep(0.02)
        terminal.write(b"end")
        received = await terminal.until(len(NOISE) + 4 + 2 + 8 + 3)
        assert received == NOISE + b"abcd" + b"ab" + b"abcdabcd" + b"end"


async def test_dribble_and_mend(tmp_path: Path) -> None:
    async with wire(tmp_path) as (host, terminal):
        host.dribble = True
        terminal.write(b"abc")
        await terminal.until(3)
        assert terminal.chunks == 3
        host.mend()
        assert not host.dribble


async def test_unplug_hangs_up_and_plug_is_another_wire(tmp_path: Path) -> None:
    async with wire(tmp_path) as (host, terminal):
        terminal.write(b"x")
        host.unplug()
        host.unplug()
        assert not host.path.is_symlink()
        await terminal.until(1)
        assert terminal.hung_up
        host.plug()
        host.plug()
        second = Terminal(host.path)
        host.nudge()
        assert await second.until(9) == b"by itself"
        second.close()


async def test_cut_in_the_middle_of_a_reply(tmp_path: Path) -> None:
    async with wire(tmp_path) as (host, terminal):
        host.faults.add(Fault.UNPLUG)
        terminal.write(b"abcdefgh")
        await terminal.until(8)
        assert terminal.hung_up
        assert terminal.received == b"abcd"
        assert not host.plugged


async def test_an_unplugged_device_says_nothing(tmp_path: Path) -> None:
    host = PtyHost(Parrot(), tmp_path / "tty")
    host.nudge()
    assert not host.plugged


def test_every_fault_does_what_it_says() -> None:
    arrivals = {}
    for kind in Fault:
        faults = Faults()
        faults.add(kind)
        arrivals[kind] = faults.apply(b"abcd")
        assert faults.apply(b"abcd").data == b"abcd", "a fault is used up"
    assert arrivals[Fault.CORRUPT].data == b"absd"
    assert arrivals[Fault.LATE].late_seconds == LATE_SECONDS
    assert [kind for kind, arrival in arrivals.items() if arrival.cut] == [Fault.UNPLUG]
    assert arrivals[Fault.SILENT].data == b""


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="earthquake"):
        Faults().add("earthquake")
