"""The typed client against a daemon on a real socket: the table's Structs, sessions that close, state that survives."""

import asyncio
from contextlib import suppress

import pytest

from runtime.api.operations import OperationState
from runtime.api.rpc import API_VERSION
from runtime.api.shapes import TerminalStatus
from runtime.client import RpcError, connect, follow, terminal
from runtime.services.consent import ConsentResult
from tests.runtime.test_api_unix import board, short_paths

pytestmark = pytest.mark.usefixtures("short_paths")
__all__ = ["short_paths"]


async def test_methods_give_the_tables_results_and_a_session_closes_itself(tmp_path):
    async with board(tmp_path), connect("api") as there:
        status = await there.status()
        assert isinstance(status, TerminalStatus)
        assert status.state["session"].state == "none"
        async for state in follow("api"):
            if state["idcard"]["state"] == "online":
                break
        async with await there.open_session() as session:
            consent = await session.consent(agreed=True, version="1")
            assert isinstance(consent, ConsentResult)
            assert consent.outcome == "done"
            started = await there.operation_start(method="session.verify_identity", params={"session": session.id})
            running = await there.operation_wait(operation=started.operation, seconds=0.0)
            assert isinstance(running, OperationState)
            assert running.state == "running"
            assert (await there.operation_cancel(operation=started.operation)).state == "cancelled"
            with pytest.raises(RpcError) as refused:
                await session.request_certificate(certificate="no_property")
            assert refused.value.code == "session.not_verified"
            assert refused.value.data["text"] == "请先核验身份。"
        assert (await there.status()).state["session"].state == "none"
        async with await there.open_session() as session:
            await session.close()


async def test_a_session_that_is_gone_with_its_daemon_is_no_second_error(tmp_path):
    async with board(tmp_path) as house, connect("api") as there, await there.open_session():
        house.stop.set()
        async for _ in there.notifications():  # to the end of the connection
            pass


async def test_a_client_of_another_version_is_refused_at_the_door(tmp_path, monkeypatch):
    """H12."""
    monkeypatch.setattr(terminal, "API_VERSION", API_VERSION - 1)
    async with board(tmp_path):
        with pytest.raises(RpcError, match=f"version {API_VERSION - 1} .* version {API_VERSION} is") as refused:
            async with connect("api"):
                pass
    assert refused.value.code == "request.unsupported_version"


async def test_a_stranger_is_refused_at_the_door(tmp_path):
    """H6."""
    async with board(tmp_path, users=("4242",)):
        with pytest.raises(RpcError) as refused:
            async with connect("api"):
                pass
    assert refused.value.code == "caller.unknown"


class Relay:
    """Stands between a client and the daemon, and can be cut."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, both ways, until one side ends."""
        try:
            far_reader, far_writer = await asyncio.open_unix_connection("api")
        except OSError:
            writer.close()
            return
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()


async def test_the_state_is_followed_across_a_lost_connection_and_a_new_daemon(tmp_path):
    """L43: what happened meanwhile comes too, when it is the same daemon."""
    told = asyncio.Queue[str]()
    relay = Relay()

    async def watch() -> None:
        async for state in follow("relay"):
            told.put_nowait(state["session"]["state"])

    async def until(session: str, *, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while await told.get() != session:
                pass

    async with await asyncio.start_unix_server(relay.serve, "relay"), asyncio.TaskGroup() as group:
        async with board(tmp_path), connect("api") as ui:
            watching = group.create_task(watch())
            await until("none")
            relay.cut()
            async with await ui.open_session():
                pass
            await until("open")
            await until("none")
        for path in ("api", "preview"):
            (tmp_path / path).unlink()
        async with board(tmp_path), connect("api") as ui, asyncio.timeout(20):
            is_followed = False
            while not is_followed:
                async with await ui.open_session():
                    with suppress(TimeoutError):
                        await until("open", seconds=0.5)
                        is_followed = True
            await until("none")
        watching.cancel()
        relay.cut()
