"""What breaks the line in a soak, and who watches it: the faults are what they say, and nothing escapes the watch."""

import asyncio
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from sim.settings import RigError, free_port
from sim.soak import faults
from sim.soak.ledger import Ledger
from sim.soak.parts import Part
from sim.soak.progress import Progress
from sim.soak.proxy import Mode, Proxy
from sim.soak.watch import Watch
from sim.uplink import MemoryUplink
from sim.virtual_time import run
from transport.envelope import Envelope
from transport.uplink import Message
from transport.wire import encode

WILL = Message("govterm/test", b"offline")


@asynccontextmanager
async def line() -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy before a broker that says back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1_000):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy, port = Proxy(server.sockets[0].getsockname()[1]), free_port()
    async with server, proxy.serve(port), asyncio.timeout(20):
        yield proxy, port


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def says_back(port: int) -> None:
    async with client(port) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


async def test_it_carries_both_ways_and_resets_both_sides() -> None:
    async with line() as (proxy, port), client(port) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await says_back(port)


async def test_it_cuts_in_the_middle_of_what_the_terminal_says() -> None:
    async with line() as (proxy, port), client(port) as (reader, writer):
        proxy.cut()
        writer.write(b"0123456789")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(10)
        await says_back(port)


async def test_bytes_wait_while_it_stalls() -> None:
    async with line() as (proxy, port), client(port) as (reader, writer):
        proxy.set_mode(Mode.STALL)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        proxy.set_mode(Mode.CARRY)
        assert await reader.readexactly(5) == b"hello"


async def test_what_a_black_hole_swallows_never_comes() -> None:
    async with line() as (proxy, port), client(port) as (reader, writer):
        proxy.set_mode(Mode.SWALLOW)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        proxy.set_mode(Mode.CARRY)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await says_back(port)


async def test_it_refuses_old_connections_and_new_ones() -> None:
    async with line() as (proxy, port), client(port) as (reader, _):
        proxy.set_mode(Mode.REFUSE)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await says_back(port)
        proxy.set_mode(Mode.CARRY)
        await says_back(port)


def envelope(nonce: int, sealed: bytes = bytes(16), *, key: int = 1) -> bytes:
    return encode(Envelope(1, 1, bytes([key]) * 8, bytes([nonce]) * 12, sealed))


def watched(said: list[tuple[str, bytes]], *, reuses_nonce: bool = False) -> Watch:
    """Return the watch after a terminal has said this."""

    async def story() -> Watch:
        uplink = MemoryUplink()
        watch = Watch(uplink, reuses_nonce=reuses_nonce)
        watching = asyncio.create_task(watch.run())
        await asyncio.sleep(1)
        async with uplink.connect([], WILL) as terminal:
            for stream, body in said:
                await terminal.publish(Message(f"govterm/v1/T-0001/{stream}", body))
            await asyncio.sleep(1)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return watch

    return run(story())


def test_a_nonce_with_other_bytes_is_reuse_and_a_repeated_envelope_is_none() -> None:
    """T20: the broker may deliver an envelope again, but no second one may be sealed under its nonce."""
    twice = [("up/record", envelope(1)), ("up/record", envelope(1)), ("down/receipt", envelope(1, key=2))]
    watch = watched([*twice, ("up/presence", b"not sealed"), ("up/grant", envelope(1, b"x" * 20)), ("up/call", b"?")])
    assert (watch.envelopes, watch.reused) == (2, 0)
    assert watched([*twice, ("up/call", envelope(1, b"other bytes than before"))]).reused == 1


def test_the_watch_finds_its_own_sabotage() -> None:
    watch = watched([("up/record", envelope(1, b"0123456789abcdef")), ("up/record", envelope(2))], reuses_nonce=True)
    assert (watch.envelopes, watch.reused) == (2, 1)


@asynccontextmanager
async def sleeper() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def state_of(process: asyncio.subprocess.Process, wanted: str) -> None:
    """Wait until the kernel says that a process is in this state."""
    async with asyncio.timeout(10):
        while True:
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in wanted:
                return
            await asyncio.sleep(0.01)


async def test_a_part_is_stopped_killed_hung_and_started_again() -> None:
    started: list[asyncio.subprocess.Process] = []

    @asynccontextmanager
    async def running() -> AsyncIterator[asyncio.subprocess.Process]:
        async with sleeper() as process:
            started.append(process)
            yield process

    part = Part("sleeper", running)
    await part.stop()
    await part.start()
    part.hang()
    await state_of(started[0], "T")
    part.go_on()
    await state_of(started[0], "SR")
    await part.kill()
    assert started[0].returncode == -9
    await part.start()
    part.hang()
    await part.stop()
    assert started[1].returncode == -15
    await part.stop()
    with pytest.raises(RigError, match="does not run"):
        part.hang()


async def test_a_part_that_ends_by_itself_is_found() -> None:
    part = Part("sleeper", sleeper)
    await part.start()
    part.check()
    process = part._running()
    process._transport.get_pipe_transport(0).close()
    await process.wait()
    with pytest.raises(RigError, match="ended by itself with code 1"):
        part.check()
    await part.stop()


def test_every_kind_of_fault_comes_first_and_the_seed_says_in_which_order() -> None:
    def first(seed: int, number: int) -> list[str]:
        kinds = faults.schedule(random.Random(seed))  # noqa: S311 - faults, no keys
        return [next(kinds) for _ in range(number)]

    assert sorted(first(1, len(faults.KINDS))) == sorted(faults.KINDS)
    assert first(1, 100) == first(1, 100) != first(2, 100)
    assert set(first(1, 300)[len(faults.KINDS) :]) == set(faults.KINDS)


async def test_a_recovery_needs_an_answer_and_a_receipt_after_the_fault(tmp_path: Path) -> None:
    """And takes as long as the later of the two."""
    ledger_file, journal = tmp_path / "ledger.jsonl", tmp_path / "journal.db"
    with closing(sqlite3.connect(journal)) as database, ledger_file.open("ab", buffering=0) as file:
        database.executescript(
            "CREATE TABLE cursors (stream PRIMARY KEY, sequence); INSERT INTO cursors VALUES ('s', 1);"
            "CREATE TABLE records (stream, sequence); INSERT INTO records VALUES ('s', 2)"
        )
        book, progress = Ledger(file), Progress(ledger_file, journal)
        following = asyncio.create_task(progress.follow())
        book.begin("c0", "trial.call")
        book.end("c0", "answered")
        await asyncio.sleep(0.2)
        since = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(progress.recovered(since))
        book.begin("c1", "trial.call")
        book.end("c1", "answered")
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert await progress.drained(0.2) == 1
        database.execute("UPDATE cursors SET sequence = 2")
        database.commit()
        async with asyncio.timeout(10):
            assert 0.3 < await waiting < 5
        assert await progress.drained(5) == 0
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_journal_that_cannot_be_read_is_not_drained(tmp_path: Path) -> None:
    assert await Progress(tmp_path / "ledger.jsonl", tmp_path / "absent.db").drained(0.2) is None
