"""The USB character device's link, over a pseudo-terminal in raw mode that behaves alike (L2, L5, L6)."""

import asyncio
import os
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.link import LinkLost, medium
from devices.usb import UsbLink, open_usb_link

DEADLINE = 10


class StandIn:
    """A /dev/usb/lp0: what the kernel does with it is the master side's to say."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)

    def answer_without_bytes(self) -> None:
        """Let a read that finds nothing return no bytes, as usblp does after an empty packet."""
        attributes = termios.tcgetattr(self._slave)
        attributes[6][termios.VMIN] = attributes[6][termios.VTIME] = 0
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            os.close(self._slave)
            self.master = -1


@pytest.fixture
def device() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.unplug()


async def fill(link: UsbLink) -> "asyncio.Task[None]":
    """Write until the kernel takes no more, and return the write that waits."""
    writing = asyncio.create_task(link.write(bytes(200_000)), name="writer")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not writing.done()
    return writing


@pytest.mark.parametrize(
    ("port", "kind"),
    [
        ("/dev/usb/lp0", "usb"),
        ("/dev/usb/receipt-printer", "usb"),
        ("/dev/serial/by-id/usb-Prolific", "serial"),
        ("tcp://192.168.8.20:9100", "tcp"),
    ],
)
def test_a_port_says_what_it_is(port: str, kind: str) -> None:
    assert medium(port) == kind


async def test_bytes_go_there_and_back(device: StandIn) -> None:
    link = await open_usb_link(device.path, 0)
    sent = bytes(range(256)) * 4
    await link.write(sent)
    assert os.read(device.master, 4096) == sent
    waiting = asyncio.create_task(link.read(), name="reader")
    await asyncio.sleep(0)
    os.write(device.master, sent)
    assert await waiting == sent
    await link.close()


async def test_open_twice_is_refused_and_free_after_close(device: StandIn) -> None:
    link = await open_usb_link(device.path, 0)
    with pytest.raises(LinkLost, match="cannot be opened"):
        await open_usb_link(device.path, 0)
    await link.close()
    await link.close()
    await (await open_usb_link(device.path, 0)).close()


@pytest.mark.parametrize("port", ["", "/nonexistent/lp0", "\0", __file__])
async def test_what_is_no_device_is_refused_and_left_closed(port: str) -> None:
    with pytest.raises(LinkLost, match="cannot be opened"):
        await open_usb_link(port, 0)


async def test_a_loss_is_one_event_to_reader_and_writer(device: StandIn) -> None:
    async with asyncio.timeout(DEADLINE):
        link = await open_usb_link(device.path, 0)
        writing = await fill(link)
        reading = asyncio.create_task(link.read(), name="reader")
        await asyncio.sleep(0)
        device.unplug()
        for task in (reading, writing):
            with pytest.raises(LinkLost):
                await task
        for again in (link.read(), link.write(b"x")):
            with pytest.raises(LinkLost):
                await again
        await link.close()


async def test_a_close_ends_who_waits(device: StandIn) -> None:
    async with asyncio.timeout(DEADLINE):
        link = await open_usb_link(device.path, 0)
        writing = await fill(link)
        reading = asyncio.create_task(link.read(), name="reader")
        await asyncio.sleep(0)
        await link.close()
        for task in (reading, writing):
            with pytest.raises(LinkLost):
                await task


async def test_a_printer_that_takes_nothing_holds_the_writer_until_its_deadline(device: StandIn) -> None:
    """Then the reader still hears what the printer says, and the next write goes on where the kernel stands."""
    link = await open_usb_link(device.path, 0)
    writing = await fill(link)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    os.write(device.master, b"\x12")
    assert await link.read() == b"\x12"
    while True:
        try:
            os.read(device.master, 65_536)
        except BlockingIOError:
            break
    await link.write(b"\x10\x04\x01")
    assert os.read(device.master, 16) == b"\x10\x04\x01"
    await link.close()


async def test_an_empty_packet_is_no_loss_and_no_spin(device: StandIn) -> None:
    device.answer_without_bytes()
    async with asyncio.timeout(DEADLINE):
        link = await open_usb_link(device.path, 0)
        reading = asyncio.create_task(link.read(), name="reader")
        turns = 0
        while turns < 4:
            await asyncio.sleep(0.02)
            turns += 1
        assert not reading.done()
        os.write(device.master, b"\x10\x00\x00\x0f")
        assert await reading == b"\x10\x00\x00\x0f"
        reading = asyncio.create_task(link.read(), name="reader")
        await asyncio.sleep(0)
        device.unplug()
        with pytest.raises(LinkLost):
            await reading


async def test_a_cancelled_open_leaves_the_device_free(device: StandIn, tmp_path: Path) -> None:
    for _ in range(8):
        opening = asyncio.create_task(open_usb_link(device.path, 0), name="opening")
        await asyncio.sleep(0)
        opening.cancel()
        (outcome,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(outcome, UsbLink):
            await outcome.close()
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                link = await open_usb_link(device.path, 0)
            except LinkLost:  # an open that was cancelled is being closed behind our back
                await asyncio.sleep(0)
                continue
            break
    await link.close()
