"""Cameras, previews and documents of the real vision process (vision/watch.py, preview.py and document.py)."""

import asyncio
import socket
import time
from pathlib import Path

import cv2
import numpy as np
import pypdfium2

from tests.vision.bench import Bench, Statuses, code, condition, document_camera, living
from vision.page_report import Progress
from vision.verifier import CameraStatus


async def test_the_played_camera_is_refused_on_a_terminal(bench: Bench) -> None:
    library = {"photo_decoder": "library", "photo_library": "libc.so.6", "photo_symbol": "rand"}
    vision = bench.process(rig=False, **library)
    async with living(vision):
        ours, theirs = socket.socketpair()
        with ours:
            await vision.preview(theirs)
            ours.setblocking(False)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b""


async def test_previews_show_the_newest_frame_until_the_wipe_and_a_slow_one_holds_up_nothing(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        slow, slow_end = socket.socketpair()
        near, far = socket.socketpair()
        with slow:
            await vision.preview(slow_end)
            await vision.preview(far)
            assert far.fileno() == -1, "handed over"
            reader, writer = await asyncio.open_connection(sock=near)
            begun = time.monotonic()
            async with asyncio.timeout(10):
                for _ in range(15):
                    jpeg = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                assert 15 / 10 - 0.3 < time.monotonic() - begun < 4
                shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                assert shown is not None
                assert shown.shape == (480, 640, 3)
                assert (await bench.verify(vision)).outcome == "match"
                await vision.wipe()
                await reader.read()
            writer.close()
            await writer.wait_closed()
        await condition(lambda: not bench.camera.watched)


async def test_both_cameras_are_looked_at_when_it_starts_and_are_off_then(bench: Bench, tmp_path: Path) -> None:
    """T2, L17: and a dead process leaves them unknown."""
    async with document_camera(bench, tmp_path) as document:
        vision = bench.process()
        statuses = Statuses(vision)
        assert statuses.told == [CameraStatus("face", "unknown"), CameraStatus("document", "unknown")]
        async with living(vision):
            await statuses.until("face", "online")
            await statuses.until("document", "online")
            await condition(lambda: not (bench.camera.watched or document.watched))
            late = Statuses(vision)
            assert late.told == [CameraStatus("face", "online"), CameraStatus("document", "online")]
        assert statuses.told[-2:] == [CameraStatus("face", "unknown"), CameraStatus("document", "unknown")]
        assert len(statuses.told) == 6


async def test_what_happens_to_a_camera_that_is_on_is_told_and_mends_by_itself(bench: Bench, tmp_path: Path) -> None:
    """T2, L20: dark, covered, unplugged, plugged in again."""
    async with document_camera(bench, tmp_path) as document:
        vision = bench.process()
        statuses = Statuses(vision)
        async with living(vision):
            for name, camera in (("face", bench.camera), ("document", document)):
                ours, theirs = socket.socketpair()
                with ours:
                    await vision.preview(theirs, name)
                    await statuses.until(name, "online")
                    camera.dark()
                    await statuses.until(name, "dark")
                    camera.cover()
                    await statuses.until(name, "covered")
                    camera.cover(on=False)
                    camera.dark(on=False)
                    await statuses.until(name, "online")
                    camera.unplug()
                    await statuses.until(name, "lost", "camera.missing")
                    camera.plug()
                    await statuses.until(name, "online")


async def test_a_frozen_camera_is_found_at_a_look_and_mends_by_itself(bench: Bench) -> None:
    """L17: nobody uses it."""
    vision = bench.process()
    statuses = Statuses(vision)
    bench.camera.freeze()
    async with living(vision):
        await statuses.until("face", "frozen", "camera.frozen")
        bench.camera.freeze(on=False)
        await statuses.until("face", "online")


async def test_a_document_is_scanned_and_less_than_5_megapixels_refused(bench: Bench, tmp_path: Path) -> None:
    """T2, T13; the wipe forgets the document and turns its camera off."""
    async with document_camera(bench, tmp_path) as document:
        vision = bench.process()
        statuses = Statuses(vision)
        told: list[Progress] = []
        async with living(vision):
            async with code("document.not_begun", retry=False):
                await vision.add_page(told.append)
            await vision.begin_document(paper="a4", tone="grey", sides=2)
            begun = time.monotonic()
            page = await vision.add_page(told.append)
            assert time.monotonic() - begun < 5, "T13"
            assert (page.number, page.side, page.width, page.height) == (1, "front", 1654, 2339)
            assert page.captured_dpi > 150
            assert page.turns in (1, 3), "it lies across"
            assert [progress.step for progress in told] == ["find", "judge", "turn", "done"]
            assert (await bench.verify(vision)).outcome == "match", "the face camera serves as before"
            assert (await vision.add_page(told.append)).side == "back"
            document.dark()
            await statuses.until("document", "dark")
            async with code("document.too_dark"):
                await vision.add_page(told.append, retake=1)
            told.clear()
            made = await vision.finish_document(told.append, most_bytes=1_000_000)
            assert [progress.step for progress in told[-3:]] == ["compress", "compress", "assemble"]
            assert made.pages == 2
            assert len(made.pdf) <= 1_000_000
            shown = pypdfium2.PdfDocument(made.pdf)
            assert [tuple(round(side) for side in each.get_size()) for each in shown] == [(595, 842)] * 2
            shown.close()
            await vision.discard_document()
            async with code("document.not_begun", retry=False):
                await vision.finish_document(told.append, most_bytes=1_000_000)
            await vision.begin_document(paper="a4", tone="grey", sides=1)
            await vision.wipe()
            async with code("document.not_begun", retry=False):
                await vision.finish_document(told.append, most_bytes=1_000_000)
            await condition(lambda: not document.watched)
            document.low_resolution()
            await vision.begin_document(paper="a4", tone="grey", sides=1)
            async with code("camera.resolution_too_low"):
                await vision.add_page(told.append)
            await statuses.until("document", "lost", "camera.resolution_too_low")


async def test_five_megapixels_are_asked_of_the_frame_whatever_the_camera_promises(
    bench: Bench, tmp_path: Path
) -> None:
    """T2."""
    async with document_camera(bench, tmp_path) as document:
        document.low_resolution()
        vision = bench.process(document_width=640, document_height=480)
        async with living(vision):
            await vision.begin_document(paper="a4", tone="grey", sides=1)
            async with code("document.resolution_too_low", retry=False):
                await vision.add_page(lambda _: None)


async def test_a_page_is_shown_once_and_a_wipe_ends_a_reader_that_does_not_read(bench: Bench, tmp_path: Path) -> None:
    async with document_camera(bench, tmp_path):
        vision = bench.process()
        async with living(vision):
            await vision.begin_document(paper="a4", tone="colour", sides=1)
            await vision.add_page(lambda _: None)
            near, far = socket.socketpair()
            await vision.show_page(far, 1)
            reader, writer = await asyncio.open_connection(sock=near)
            async with asyncio.timeout(10):
                frame = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4
            page = cv2.imdecode(np.frombuffer(frame[4:], np.uint8), cv2.IMREAD_COLOR)
            assert page is not None
            assert page.shape == (1448, 1024, 3)
            ours, theirs = socket.socketpair()
            with ours:
                async with code("document.no_such_page", retry=False):
                    await vision.show_page(theirs, 2)
                ours.setblocking(False)
                async with asyncio.timeout(5):
                    assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"", "closed on both sides"
            lazy, theirs = socket.socketpair()
            with lazy:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                await vision.show_page(theirs, 1)
                await vision.wipe()
                lazy.settimeout(1)
                got = b""
                while chunk := lazy.recv(65_536):
                    got += chunk
                assert len(got) < len(frame)


async def test_the_document_preview_is_of_the_document(bench: Bench, tmp_path: Path) -> None:
    async with document_camera(bench, tmp_path):
        vision = bench.process()
        async with living(vision):
            near, far = socket.socketpair()
            await vision.preview(far, "document")
            reader, writer = await asyncio.open_connection(sock=near)
            async with asyncio.timeout(10):
                jpeg = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                await vision.wipe()
                await reader.read()
            writer.close()
            await writer.wait_closed()
            shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert shown is not None
            assert shown.shape == (768, 1024, 3)


async def test_without_a_document_camera_its_calls_say_so(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        async with code("camera.missing", retry=False):
            await vision.add_page(lambda _: None)
        async with code("camera.missing", retry=False):
            await vision.begin_document(paper="a4", tone="grey", sides=1)
        ours, theirs = socket.socketpair()
        with ours:
            async with code("camera.missing", retry=False):
                await vision.preview(theirs, "document")
            ours.setblocking(False)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"", "closed on both sides"
