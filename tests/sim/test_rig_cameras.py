"""Both cameras of the rig through the real vision process and the daemon, as a UI sees them (T2, T9, T15)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sim import assets
from sim.demo import _short_name
from sim.rig import Rig, open_rig
from sim.settings import RigFiles, RigSettings, free_port, make_rig
from sim.terminal import Terminal, connected, daemon
from tests.sim.processes import children
from vision.store import cache_directory

ONLINE = {"state": "online"}


async def seen(terminal: Terminal, component: str, wanted: dict[str, Any]) -> None:
    """Wait until a component is just so."""
    try:
        async with asyncio.timeout(20):
            while terminal.state.get(component) != wanted:
                terminal._changed.clear()
                await terminal._changed.wait()
    except TimeoutError:
        raise AssertionError(f"{component} is {terminal.state.get(component)}, not {wanted}") from None


@asynccontextmanager
async def watched(terminal: Terminal, session: str, camera: str) -> AsyncIterator[None]:
    """A preview, so that the camera is on; its first frame has come when the context begins."""
    opened = await terminal.call("preview.open", session=session, camera=camera)
    reader, writer = await asyncio.open_unix_connection(opened["socket"])
    try:
        writer.write(opened["token"].encode() + b"\n")
        async with asyncio.timeout(10):
            length = int.from_bytes(await reader.readexactly(4), "big")
            assert (await reader.readexactly(length)).startswith(b"\xff\xd8\xff")
        yield
    finally:
        writer.close()


async def trouble(rig: Rig, terminal: Terminal, session: str, *, camera: str, device: str, component: str) -> None:
    """Do to one camera what happens to cameras, and see it come back each time."""

    async def mended(verb: str, wanted: dict[str, Any]) -> None:
        await rig.do(device, verb)
        await seen(terminal, component, wanted)
        await rig.do(device, verb, on=False)
        await seen(terminal, component, ONLINE)

    await seen(terminal, component, ONLINE)
    async with watched(terminal, session, camera):
        await mended("dark", {**ONLINE, "details": {"picture": "dark"}})
        await mended("cover", {"state": "userError", "code": "camera.covered"})
        await mended("freeze", {"state": "hardwareError", "code": "camera.frozen"})
    async with watched(terminal, session, camera):
        await mended("low_resolution", {"state": "offline", "code": "camera.resolution_too_low"})
    await rig.do(device, "unplug")
    await seen(terminal, component, {"state": "offline", "code": "camera.missing"})
    await rig.do(device, "plug")
    await seen(terminal, component, ONLINE)


async def test_what_happens_to_a_camera_is_seen_and_heals(tmp_path: Path) -> None:
    with _short_name(tmp_path / "rig") as sockets:
        files, settings = RigFiles(tmp_path / "rig", sockets), RigSettings(broker_port=free_port())
        make_rig(files, settings)
        async with (
            open_rig(files, settings, assets.prepare(cache_directory() / "assets")) as rig,
            daemon(files) as process,
            connected(files) as terminal,
        ):
            session = (await terminal.call("session.open"))["session"]
            async with asyncio.TaskGroup() as both:
                for camera, device, component in (
                    ("face", "camera", "camera"),
                    ("document", "document", "document_camera"),
                ):
                    both.create_task(
                        trouble(rig, terminal, session, camera=camera, device=device, component=component), name=camera
                    )
            (vision,) = [pid for pid, command in children(process.pid).items() if "vision" in command]
            os.kill(vision, signal.SIGKILL)
            dead = {"state": "offline", "code": "vision.died"}
            for component in ("vision", "camera", "document_camera"):
                await seen(terminal, component, dead)
            for component in ("vision", "camera", "document_camera"):
                await seen(terminal, component, ONLINE)


async def shown_page(terminal: Terminal, session: str, page: int) -> bytes:
    """What the preview socket sends of a page, to its end."""
    opened = await terminal.call("preview.page", session=session, page=page)
    reader, writer = await asyncio.open_unix_connection(opened["socket"])
    try:
        writer.write(opened["token"].encode() + b"\n")
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_a_document_is_scanned_looked_at_and_finished(tmp_path: Path) -> None:
    """T2, T13, T20: and neither the page nor the PDF is in what the daemon wrote."""
    with _short_name(tmp_path / "rig") as sockets:
        files, settings = RigFiles(tmp_path / "rig", sockets), RigSettings(broker_port=free_port())
        make_rig(files, settings)
        async with (
            open_rig(files, settings, assets.prepare(cache_directory() / "assets")) as rig,
            daemon(files),
            connected(files) as terminal,
        ):
            await terminal.wait_until("vision", "online")
            session = (await terminal.call("session.open"))["session"]
            begun = await terminal.call("session.begin_document", session=session, tone="grey")
            assert begun["outcome"] == "done"
            added = await terminal.call("session.add_page", session=session)
            assert (added["outcome"], added["page"]["width"], added["page"]["height"]) == ("done", 1654, 2339)
            assert added["page"]["turns"] in (1, 3), "the page lies across"
            assert added["seconds"] < 5
            await rig.do("document", "dark")
            await seen(terminal, "document_camera", {**ONLINE, "details": {"picture": "dark"}})
            refused = await terminal.call("session.add_page", session=session, retake=1)
            assert (refused["code"], refused["text"]) == ("document.too_dark", "光线过暗，请勿遮挡材料。")
            frame = await shown_page(terminal, session, 1)
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4
            assert frame[4:7] == b"\xff\xd8\xff"
            assert await shown_page(terminal, session, 2) == b""
            finished = await terminal.call("session.finish_document", session=session, most_bytes=300_000)
            assert (finished["outcome"], finished["pages"]) == ("done", 1)
            assert 50_000 < finished["bytes"] <= 300_000
            await terminal.call("session.close", session=session)
        for written in (*files.state.iterdir(), files.daemon_log):
            content = written.read_bytes()
            assert b"%PDF" not in content
            assert b"\xff\xd8\xff" not in content
