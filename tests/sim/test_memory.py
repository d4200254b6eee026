"""The in-memory forms of the seams keep the seams' promises (rule 5)."""

import asyncio
import socket
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any, ClassVar

import pytest

from devices.hotplug import (
    Attached,
    Detached,
    Hotplug,
    HotplugError,
    HotplugEvent,
    Plugged,
    Unplugged,
    UsbDevice,
    UsbPort,
)
from devices.link import LinkLost, OpenLink
from runtime.seams import HostPower, JournalExecutor
from sim import virtual_time
from sim.memory import InlineExecutor, MemoryLinks, MemoryPort, RecordedPower
from sim.scripted import DOCUMENT_PDF, MATCH, NO_MATCH, PAGE, ScriptedVision
from sim.uplink import MemoryUplink
from sim.usb import MemoryHotplug
from sim.wire import Fault, Verbs
from transport.uplink import Message, Uplink, UplinkLost
from vision.errors import VisionError
from vision.page_report import Document, Progress
from vision.verifier import Cameras, CameraStatus, Verifier


class Parrot:
    verbs: ClassVar[Verbs] = {}

    def feed(self, data: bytes) -> bytes:
        return data or b"by itself"


def on_virtual_time(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(story)
    def test() -> None:
        virtual_time.run(story())

    return test


def conforms(
    *,
    links: OpenLink,
    hotplug: Hotplug,
    uplink: Uplink,
    verifier: Verifier,
    cameras: Cameras,
    journal: JournalExecutor,
    power: HostPower,
) -> tuple[object, ...]:
    """Read by mypy: each form fits its seam."""
    return links, hotplug, uplink, verifier, cameras, journal, power


def test_every_seam_has_its_form() -> None:
    connection, vision = sqlite3.connect(":memory:"), ScriptedVision()
    forms = conforms(
        links=MemoryLinks({}),
        hotplug=MemoryHotplug(),
        uplink=MemoryUplink(),
        verifier=vision,
        cameras=vision,
        journal=InlineExecutor(connection),
        power=RecordedPower(),
    )
    assert len(forms) == 7
    connection.close()


@on_virtual_time
async def test_links_open_once_answer_and_are_lost() -> None:
    port = MemoryPort(Parrot(), chunk_bytes=1)
    links = MemoryLinks({"a": port})
    link = await links("a", 9600)
    with pytest.raises(LinkLost):
        await links("a", 9600)
    with pytest.raises(LinkLost):
        await links("b", 9600)
    await link.write(b"xyz")
    assert [await link.read() for _ in range(3)] == [b"x", b"y", b"z"]
    port.nudge()
    assert await link.read() == b"b"
    port.unplug()
    with pytest.raises(LinkLost):
        await link.write(b"x")
    assert [await link.read() for _ in range(8)] == [bytes([byte]) for byte in b"y itself"]
    for _ in range(2):
        with pytest.raises(LinkLost):
            await link.read()
    with pytest.raises(LinkLost):
        await links("a", 9600)
    port.plug()
    again = await links("a", 9600)
    await link.close()
    with pytest.raises(LinkLost):
        await links("a", 9600)
    await again.close()
    await (await links("a", 9600)).close()
    assert port.opened == 3


@on_virtual_time
async def test_links_pass_latency_and_faults_on_the_loops_clock() -> None:
    port = MemoryPort(Parrot(), latency_seconds=2.0)
    link = await MemoryLinks({"a": port})("a", 9600)
    clock = asyncio.get_running_loop().time
    await link.write(b"x")
    assert clock() == 0
    await link.read()
    assert clock() == pytest.approx(2)
    port.faults.add(Fault.LATE)
    await link.write(b"late")
    await link.write(b"soon")
    assert [await link.read(), await link.read()] == [b"soon", b"late"]
    port.faults.add(Fault.UNPLUG)
    await link.write(b"abcd")
    assert await link.read() == b"ab"
    with pytest.raises(LinkLost):
        await link.read()


STICK = UsbDevice("/sys/devices/usb1/1-4", "0951:1666", frozenset({"080650"}))
PORT, OTHER = (UsbPort(f"/dev/ttyUSB{number}", frozenset({"/dev/idcard"})) for number in (0, 1))


@on_virtual_time
async def test_hotplug_tells_each_change_once_and_after_an_overrun_what_changed_meanwhile() -> None:
    """As udev: the listener's life ends with `hotplug.overrun`, and the next one lists what is there and what went."""
    hotplug, told = MemoryHotplug(), list[HotplugEvent]()
    hotplug.plug(PORT)
    hotplug.overrun()
    assert hotplug.find("/dev/idcard") is None, "nobody listens"

    async def listen() -> asyncio.Task[None]:
        ready = asyncio.Event()
        life = asyncio.create_task(hotplug.run(ready.set, told.append))
        await ready.wait()
        return life

    life = await listen()
    for _ in range(2):
        hotplug.attach(STICK)
    assert (told, hotplug.find("/dev/idcard")) == ([Plugged(PORT), Attached(STICK)], PORT)
    told.clear()
    hotplug.overrun()
    hotplug.detach(STICK.path)
    hotplug.unplug("/dev/idcard")
    hotplug.plug(OTHER)
    with pytest.raises(HotplugError, match="dropped") as overrun:
        await life
    assert (overrun.value.code, told, hotplug.find("/dev/idcard")) == ("hotplug.overrun", [], PORT)
    life = await listen()
    assert told == [Plugged(OTHER), Unplugged(PORT), Detached(STICK)]
    told.clear()
    hotplug.lose()
    hotplug.attach(STICK)
    assert (told, hotplug.find("/dev/idcard")) == ([], None)
    life.cancel()


WILL = Message("t/1/presence", b"offline")


@on_virtual_time
async def test_the_uplink_matches_topics_and_keeps_retained_messages() -> None:
    uplink = MemoryUplink()
    async with uplink.connect(["t/1/down"], WILL) as terminal, uplink.connect(["t/#"]) as platform:
        await terminal.publish(Message("t/1/up", b"up"))
        await platform.publish(Message("t/1/down", b"down"))
        await platform.publish(Message("t/1/downstairs", b"elsewhere"))
        await terminal.publish(Message("t/1/presence", b"online"), retain=True)
        assert await terminal.receive() == Message("t/1/down", b"down")
        assert [(await platform.receive()).body for _ in range(4)] == [b"up", b"down", b"elsewhere", b"online"]
    async with uplink.connect(["t/1/presence"]) as late:
        assert await late.receive() == WILL, "it left without DISCONNECT, as the real uplink does"
        await late.publish(Message("t/1/presence", b""), retain=True)
    async with uplink.connect(["#"]) as last:
        await last.publish(Message("end", b""))
        assert (await last.receive()).topic == "end"


@on_virtual_time
async def test_a_cut_connection_leaves_its_will() -> None:
    uplink = MemoryUplink()
    async with uplink.connect(["t/1/down"], WILL) as terminal:
        uplink.stop()
        with pytest.raises(UplinkLost):
            await terminal.publish(Message("t/1/up", b"up"))
        for _ in range(2):
            with pytest.raises(UplinkLost):
                await terminal.receive()
        with pytest.raises(UplinkLost):
            async with uplink.connect(["t/1/down"], WILL):
                pass
    uplink.start()
    async with uplink.connect(["t/#"]) as platform:
        assert await platform.receive() == WILL
        async with uplink.connect([], WILL):
            uplink.drop()
        with pytest.raises(UplinkLost):
            await platform.receive()


@on_virtual_time
async def test_an_acknowledgement_proves_nothing() -> None:
    uplink = MemoryUplink(latency_seconds=0.1)
    async with uplink.connect([]) as terminal, uplink.connect(["t"]) as platform:
        uplink.lose_next = 1
        await terminal.publish(Message("t", b"lost"))
        await terminal.publish(Message("t", b"found"))
        assert (await platform.receive()).body == b"found"
        assert asyncio.get_running_loop().time() == pytest.approx(0.4), "connecting and publishing take the latency"


@on_virtual_time
async def test_the_executor_runs_inline_and_closes() -> None:
    executor = InlineExecutor(sqlite3.connect(":memory:"))
    assert await executor.run(lambda connection: connection.execute("SELECT 6 * 7").fetchone()) == (42,)
    await executor.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await executor.run(lambda connection: connection.execute("SELECT 1"))


@on_virtual_time
async def test_power_requests_are_counted() -> None:
    power = RecordedPower()
    await power.power_off()
    assert power.requests == 1


PHOTO = memoryview(bytes(1024))


async def verify(verifier: ScriptedVision, deadline_seconds: float = 5) -> object:
    return await verifier.verify(PHOTO, lambda code: None, deadline_seconds=deadline_seconds)


@on_virtual_time
async def test_the_verifier_plays_its_script_on_the_loops_clock() -> None:
    lost = VisionError("camera.lost", "scripted", advice="", retry=True)
    verifier = ScriptedVision([NO_MATCH, lost, replace(MATCH, seconds=9.0)])
    with pytest.raises(VisionError, match="down"):
        await verify(verifier)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(_life(verifier, ready), name="vision")
        await ready.wait()
        assert await verify(verifier) == NO_MATCH
        assert asyncio.get_running_loop().time() == pytest.approx(NO_MATCH.seconds)
        with pytest.raises(VisionError) as caught:
            await verify(verifier)
        assert caught.value is lost
        with pytest.raises(VisionError) as caught:
            await verify(verifier)
        assert caught.value.code == "face.timeout"
        assert await verify(verifier) == MATCH
        with pytest.raises(VisionError) as caught:
            await verifier.verify(PHOTO[:5], lambda code: None, deadline_seconds=5)
        assert caught.value.code == "photo.undecodable"
        asyncio.get_running_loop().call_later(0.1, verifier.kill)
        with pytest.raises(VisionError) as caught:
            await verify(verifier)
        assert caught.value.code == "vision.unavailable"
        assert await life == "vision.unavailable"


async def _life(verifier: ScriptedVision, ready: asyncio.Event) -> str:
    with pytest.raises(VisionError) as caught:
        await verifier.run(ready.set)
    return caught.value.code


@on_virtual_time
async def test_the_verifier_rasterises_and_previews() -> None:
    verifier = ScriptedVision()
    ready = asyncio.Event()
    life = asyncio.create_task(_life(verifier, ready), name="vision")
    await ready.wait()
    (page,) = await verifier.rasterise(b"%PDF-1.7", width_dots=576, max_pages=2)
    assert (page.width_dots, len(page.rows)) == (576, 72 * page.height_dots)
    with pytest.raises(VisionError) as caught:
        await verifier.rasterise(b"GIF89a", width_dots=576, max_pages=2)
    assert caught.value.code == "pdf.undecodable"
    ours, theirs = socket.socketpair()
    with ours:
        await verifier.preview(theirs)
        assert ours.recv(100) == b"\x00\x00\x00\x04\xff\xd8\xff\xd9"
        await verifier.wipe()
        assert ours.recv(100) == b"", "wiping ends the preview"
    verifier.kill()
    await life


@on_virtual_time
async def test_the_cameras_are_unknown_without_a_process() -> None:
    vision, heard, ready = ScriptedVision(cameras=["face"]), list[CameraStatus](), asyncio.Event()
    vision.watch(heard.append)
    life = asyncio.create_task(_life(vision, ready), name="vision")
    await ready.wait()
    vision.camera_is("face", "frozen", "camera.frozen")
    vision.kill()
    await life
    vision.camera_is("face", "dark")
    states = [(status.state, status.code) for status in heard]
    assert states == [("unknown", None), ("online", None), ("frozen", "camera.frozen"), ("unknown", None)]


@on_virtual_time
async def test_pages_are_those_of_a_camera_that_gives_pictures() -> None:
    vision, ready, told = ScriptedVision(), asyncio.Event(), list[Progress]()
    life = asyncio.create_task(_life(vision, ready), name="vision")
    await ready.wait()
    await vision.begin_document(paper="a4", tone="grey", sides=1)
    assert await vision.add_page(told.append) == PAGE
    assert [progress.step for progress in told] == ["find", "judge", "turn", "done"]
    assert await vision.finish_document(told.append, most_bytes=10_000) == Document(1, DOCUMENT_PDF)
    with pytest.raises(VisionError, match="does not fit"):
        await vision.finish_document(told.append, most_bytes=1)
    ours, theirs = socket.socketpair()
    with ours:
        await vision.show_page(theirs, 1)
        assert ours.recv(20) == bytes.fromhex("00000004ffd8ffd9")
        assert ours.recv(20) == b""
    vision.camera_is("document", "lost", "camera.lost")
    with pytest.raises(VisionError, match="document camera is lost"):
        await vision.add_page(told.append)
    vision.camera_is("document", "dark")
    asyncio.get_running_loop().call_later(0.1, vision.kill)
    with pytest.raises(VisionError) as caught:
        await vision.add_page(told.append)
    assert caught.value.code == "vision.unavailable"
    await life
    assert vision.pages is None
