"""The API over real Unix sockets: the kernel's word for who calls, 20 MB, previews by one-use token."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from runtime.api.examples import example_params
from runtime.api.listen import UnixClients, UnixPreviews
from runtime.api.methods import METHODS
from runtime.api.preview import MOST_PREVIEWS
from runtime.api.roles import Role
from tests.runtime.house import House, living

pytestmark = pytest.mark.usefixtures("short_paths")


@pytest.fixture
def short_paths(tmp_path, monkeypatch):
    """Unix socket paths hold 107 bytes."""
    monkeypatch.chdir(tmp_path)


def listening(path: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(8)
    return server


@asynccontextmanager
async def board(directory: Path, *, users: tuple[str, ...] | None = None) -> AsyncIterator[House]:
    """A house whose doors are real sockets, `api` and `preview`, in the current directory."""
    house = House(directory)
    users = users or (str(os.getuid()),)
    api = msgspec.structs.replace(house.settings.api, ui_users=users)
    house.settings = msgspec.structs.replace(house.settings, api=api)
    with listening("api") as clients, listening("preview") as previews:
        house.entrance, house.preview_entrance = UnixClients(clients), UnixPreviews(previews)
        async with living(house):
            yield house


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def message(self) -> dict:
        async with asyncio.timeout(10):
            return msgspec.json.decode(await self.reader.readline())

    async def call(self, method: str, **params) -> dict:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.writer.write(msgspec.json.encode(request) + b"\n")
        while "id" not in (message := await self.message()):
            pass
        return message


@asynccontextmanager
async def connected(path: str = "api") -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_client_is_served_and_its_loss_is_seen(tmp_path):
    async with board(tmp_path), connected() as other:
        async with connected() as ui:
            answer = await ui.call("session.open")
            assert len(answer["result"]["session"]) >= 21
        await other.call("events.subscribe")
        async with asyncio.timeout(10):
            while (await other.call("terminal.status"))["result"]["state"]["session"]["state"] != "none":
                await other.message()


async def test_a_user_without_a_role_is_told_and_closed(tmp_path):
    async with board(tmp_path, users=("4242",)), connected() as stranger:
        message = await stranger.message()
        assert message["error"]["data"]["code"] == "caller.unknown"
        assert await stranger.reader.read() == b""


async def test_20_mb_are_refused_in_bounded_memory_and_the_sender_can_read_why(tmp_path):
    async with board(tmp_path), connected() as ui:
        async with asyncio.timeout(20):
            for _ in range(20):
                ui.writer.write(b"x" * 1_048_576)
                await ui.writer.drain()
        assert (await ui.message())["error"]["data"]["code"] == "request.too_large"
        ui.writer.write_eof()
        assert await ui.reader.read() == b""


async def test_a_garbage_client_and_a_client_that_leaves_at_once_harm_nothing(tmp_path):
    async with board(tmp_path):
        for data in (b"", os.urandom(30_000), b"\n" * 30_000, b'{"jsonrpc"'):
            async with connected() as ui:
                ui.writer.write(data)
        async with connected() as ui:
            assert (await ui.call("terminal.status"))["result"]["version"] == "0.0"


async def greeted(token: bytes) -> bytes:
    """What the preview socket says to a token, until it is closed or a frame came."""
    async with connected("preview") as client:
        client.writer.write(token)
        async with asyncio.timeout(10):
            return await client.reader.read(8)


async def whole(token: bytes) -> bytes:
    """All that the preview socket says to a token, to the end."""
    async with connected("preview") as client:
        client.writer.write(token)
        async with asyncio.timeout(10):
            return await client.reader.read()


async def test_a_preview_token_opens_one_stream_once(tmp_path):
    async with board(tmp_path) as house, connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        opened = (await ui.call("preview.open", session=session))["result"]
        assert opened["socket"] == house.settings.api.preview_socket
        token = opened["token"].encode()
        assert await greeted(token + b"\n") == bytes.fromhex("00000004ffd8ffd9")
        assert await greeted(token + b"\n") == b""


async def test_a_token_is_for_one_camera(tmp_path):
    async with board(tmp_path) as house, connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        for camera in ({}, {"camera": "document"}, {"camera": "face"}):
            token = (await ui.call("preview.open", session=session, **camera))["result"]["token"].encode()
            assert await greeted(token + b"\n") == bytes.fromhex("00000004ffd8ffd9")
        assert house.vision.shown == ["face", "document", "face"]


async def test_tokens_of_two_cameras_are_out_at_once_and_a_guess_voids_both(tmp_path):
    async with board(tmp_path) as house, connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]

        async def tokens() -> list[bytes]:
            return [
                (await ui.call("preview.open", session=session, camera=camera))["result"]["token"].encode()
                for camera in ("face", "document")
            ]

        for token in await tokens():
            assert await greeted(token + b"\n") == bytes.fromhex("00000004ffd8ffd9")
        assert house.vision.shown == ["face", "document"]
        guessed = await tokens()
        assert await greeted(b"guess\n") == b""
        for token in guessed:
            assert await greeted(token + b"\n") == b""


async def test_a_page_token_shows_one_page_once_and_counts_as_no_preview(tmp_path):
    async with board(tmp_path) as house, connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        await ui.call("session.begin_document", session=session)
        await ui.call("session.add_page", session=session)
        for _ in range(MOST_PREVIEWS + 1):
            opened = (await ui.call("preview.page", session=session, page=1))["result"]
            token = opened["token"].encode()
            assert await whole(token + b"\n") == bytes.fromhex("00000004ffd8ffd9")
        assert await whole(token + b"\n") == b""
        token = (await ui.call("preview.page", session=session, page=2))["result"]["token"].encode()
        assert await whole(token + b"\n") == b""
        assert house.vision.shown == [1] * (MOST_PREVIEWS + 1)
        token = (await ui.call("preview.open", session=session))["result"]["token"].encode()
        assert await greeted(token + b"\n") == bytes.fromhex("00000004ffd8ffd9")


async def test_a_session_has_only_so_many_previews(tmp_path):
    """Each is a socket in the vision process; a token that nobody used is none, and the next session begins anew."""
    async with board(tmp_path) as house, connected() as ui:
        for _ in range(2):
            session = (await ui.call("session.open"))["result"]["session"]
            for number in range(MOST_PREVIEWS):
                await ui.call("preview.open", session=session)
                camera = ("face", "document")[number % 2]
                token = (await ui.call("preview.open", session=session, camera=camera))["result"]["token"].encode()
                assert await greeted(token + b"\n") == bytes.fromhex("00000004ffd8ffd9")
            refused = (await ui.call("preview.open", session=session))["error"]["data"]
            assert (refused["code"], refused["retry"]) == ("preview.too_many", False)
            await ui.call("session.close", session=session)
        assert len(house.vision.shown) == 2 * MOST_PREVIEWS


async def test_a_wrong_token_uses_up_the_right_one(tmp_path):
    async with board(tmp_path), connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        token = (await ui.call("preview.open", session=session))["result"]["token"].encode()
        assert await greeted(b"guess\n") == b""
        assert await greeted(token + b"\n") == b""


@pytest.mark.parametrize("said", [b"\n", b"x" * 64, b"x" * 5_000 + b"\n", b"\xff\xfe\n"])
async def test_what_is_no_token_is_closed(tmp_path, said):
    async with board(tmp_path), connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        await ui.call("preview.open", session=session)
        try:
            assert await greeted(said) == b""
        except ConnectionResetError:  # it was closed with bytes unread
            assert len(said) > 64


async def test_a_token_ends_with_its_session_and_an_older_token_with_a_newer(tmp_path):
    async with board(tmp_path), connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        first = (await ui.call("preview.open", session=session))["result"]["token"].encode()
        second = (await ui.call("preview.open", session=session))["result"]["token"].encode()
        assert first != second
        await ui.call("session.close", session=session)
        assert await greeted(second + b"\n") == b""


async def test_a_silent_preview_client_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.api.preview.GREETING_SECONDS", 0.05)
    async with board(tmp_path):
        assert await greeted(b"") == b""


async def test_a_stranger_at_the_preview_socket_is_refused_and_audited_once(tmp_path):
    async with board(tmp_path, users=("1234",)):
        for _ in range(3):
            with suppress(ConnectionResetError):  # it was closed with bytes unread
                assert await greeted(b"x\n") == b""
        audit = (tmp_path / "audit.jsonl").read_text()
    assert audit.count('"preview_refused"') == 1
    assert f'"uid {os.getuid()}"' in audit


async def test_an_expired_token_is_void(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.api.preview.TOKEN_SECONDS", 0.0)
    async with board(tmp_path), connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        token = (await ui.call("preview.open", session=session))["result"]["token"].encode()
        await asyncio.sleep(0.01)
        assert await greeted(token + b"\n") == b""


async def test_random_bytes_and_every_method_on_many_connections_leave_a_citizen_alone(tmp_path):
    """L38, T20: on the real socket; the virtual-time tests say more of what is answered."""
    chance = random.Random(6)  # noqa: S311 - no key
    async with board(tmp_path), connected() as ui:
        session = (await ui.call("session.open"))["result"]["session"]
        for number in range(8):
            async with connected() as other:
                for method in METHODS:
                    params = example_params(method.params)
                    if "session" in params and number % 2:
                        params["session"] = session
                    request = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": params}
                    if method.role in (None, Role.UI) and method.name not in WAITING:
                        other.writer.write(msgspec.json.encode(request) + b"\n")
                        said = await other.message()
                        while "id" not in said:
                            said = await other.message()
                        assert session not in str(said)
                    line = bytearray(msgspec.json.encode(request))
                    for _ in range(chance.randrange(1, 6)):
                        line[chance.randrange(len(line))] = chance.randrange(256)
                    async with connected() as wild:
                        wild.writer.write(bytes(line) + b"\n" + chance.randbytes(chance.randrange(200)))
        assert (await ui.call("terminal.status"))["result"]["state"]["session"] == {"state": "open"}
        assert "result" in await ui.call("session.close", session=session)


WAITING = {"events.subscribe", "session.open", "operation.start", "sharing.query", "sharing.call", "sharing.dataset"}
"""Wait for a platform that is not there, or send more than an answer."""
