"""The line over the real broker: MQTT 3.1.1, TLS, client certificates (T20, I7)."""

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path

import aiomqtt
import pytest

from sim.broker import broker_process
from sim.trust import Trust, make_trust
from tests.transport.line_rig import IDENTITY, KEYS, REQUEST, SETTINGS, TERMINAL, FakeLog, FakePlatform
from transport import mqtt, wire
from transport.channel import Channel
from transport.errors import TransportError
from transport.mqtt import MqttUplink
from transport.uplink import Message, UplinkLost

WILL = Message(wire.topic(TERMINAL, "up", "presence"), b"gone")
KEY = bytes(range(16))


@pytest.fixture(scope="module")
def trust(tmp_path_factory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"), TERMINAL)


@pytest.fixture(autouse=True)
async def servers_hang_up():
    """A test's own server notices a little later that its client has gone."""
    yield
    await asyncio.sleep(0.05)


def _terminal(trust: Trust, port: int, host: str = "127.0.0.1") -> MqttUplink:
    files = {"certificate_file": trust.terminal_certificate, "private_key_file": trust.terminal_key}
    return MqttUplink(host, port, TERMINAL, ca_file=trust.ca, **files)


def _platform(trust: Trust, port: int) -> MqttUplink:
    files = {"certificate_file": trust.platform_certificate, "private_key_file": trust.platform_key}
    return MqttUplink("127.0.0.1", port, "platform", ca_file=trust.ca, **files)


async def _lost(uplink: MqttUplink) -> UplinkLost:
    with pytest.raises(UplinkLost) as caught:
        async with asyncio.timeout(30), uplink.connect(["x"], WILL):
            pass
    return caught.value


@contextlib.asynccontextmanager
async def _serving(uplink: MqttUplink, platform: FakePlatform):
    """The platform of `line_rig` on the real broker."""

    async def serve(ready: asyncio.Event) -> None:
        replies: asyncio.Queue[Message] = asyncio.Queue()
        will = Message("platform", b"")
        async with uplink.connect([wire.topic(TERMINAL, "up", "+")], will) as connection, asyncio.TaskGroup() as group:

            async def reply() -> None:
                while True:
                    await connection.publish(await replies.get())

            group.create_task(reply())
            ready.set()
            while True:
                platform.take(await connection.receive(), replies.put_nowait)

    ready = asyncio.Event()
    serving = asyncio.create_task(serve(ready))
    async with asyncio.timeout(10):
        await ready.wait()
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_the_whole_line_over_tls(trust):
    """Calls, records and keys over the real broker, and again after the broker was killed (I6)."""
    platform, log = FakePlatform(), FakeLog("supervision")
    states: list[tuple[bool, str | None]] = []

    def channel(port: int) -> Channel:
        return Channel(
            SETTINGS,
            _terminal(trust, port),
            KEYS,
            log,
            streams=["supervision"],
            boot_id="b7",
            software_version="0.1.0",
            wall_clock=lambda: 1_800_000_000.0,
            on_state=lambda connected, code: states.append((connected, code)),
        )

    async def receipts(count: int) -> None:
        async with asyncio.timeout(20):
            while log.acknowledged["supervision"] < count:  # noqa: ASYNC110 (a real broker has no event for this)
                await asyncio.sleep(0.01)

    for _ in range(50):
        log.append("supervision")
    async with broker_process(trust.ca.parent) as (process, port), _serving(_platform(trust, port), platform):
        line, ready = channel(port), asyncio.Event()
        life = asyncio.create_task(line.run(ready.set))
        answer = await line.call(REQUEST, key=KEY, deadline_seconds=10)
        assert ready.is_set()
        assert answer.body == b"answer to " + REQUEST.body
        await receipts(50)
        process.kill()
        with pytest.raises(TransportError) as caught:
            await asyncio.wait_for(life, 20)
        assert caught.value.code == "line.down"
    for _ in range(10):
        log.append("supervision")
    async with broker_process(trust.ca.parent) as (_, port), _serving(_platform(trust, port), platform):
        life = asyncio.create_task(channel(port).run(lambda: None))
        await receipts(60)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        async with asyncio.timeout(5):
            while platform.presence[-1].online:  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.01)
    assert sorted({record.sequence for record in platform.records}) == list(range(1, 61))
    assert states == [(True, None), (False, "line.down"), (True, None), (False, None)]
    assert IDENTITY.sign(b"x")


async def test_a_connection_that_ends_in_any_way_leaves_its_will(trust):
    async with broker_process(trust.ca.parent) as (_, port):
        watcher = _platform(trust, port).connect([WILL.topic], Message("platform", b""))
        async with watcher as seen, asyncio.timeout(20):
            async with _terminal(trust, port).connect(["x"], WILL) as connection:
                await connection.publish(Message(WILL.topic, b"here"), retain=True)
                assert await seen.receive() == Message(WILL.topic, b"here")
            assert await seen.receive() == WILL
            with pytest.raises(RuntimeError, match="a bug"):
                async with _terminal(trust, port).connect(["x"], WILL):
                    raise RuntimeError("a bug")
            assert await seen.receive() == WILL


async def test_large_messages_pass_both_ways(trust):
    body = bytes(range(256)) * 3_900
    async with broker_process(trust.ca.parent) as (_, port):
        other = _platform(trust, port).connect(["up"], Message("platform", b""))
        async with other as platform, _terminal(trust, port).connect(["down"], WILL) as terminal, asyncio.timeout(20):
            await terminal.publish(Message("up", body))
            assert await platform.receive() == Message("up", body)
            await platform.publish(Message("down", body))
            assert await terminal.receive() == Message("down", body)


async def test_a_newer_connection_of_the_same_terminal_ends_the_older(trust):
    async with broker_process(trust.ca.parent) as (_, port), asyncio.timeout(20):
        first, second = (_terminal(trust, port).connect(["x"], WILL) for _ in range(2))
        async with first as older, second as newer:
            with pytest.raises(UplinkLost):
                await older.receive()
            await newer.publish(Message("x", b"still here"))
            assert (await newer.receive()).body == b"still here"


async def test_a_broker_that_is_not_there_is_lost(trust):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "Connect call failed" in str(await _lost(_terminal(trust, port)))


async def test_a_name_that_does_not_resolve_is_lost(trust):
    assert await _lost(_terminal(trust, 8883, host="broker.invalid"))


async def test_a_broker_of_another_authority_is_lost(trust, tmp_path):
    """The terminal speaks to the designated platform and no other (T20)."""
    other = make_trust(tmp_path / "other", TERMINAL)
    async with broker_process(trust.ca.parent) as (_, port):
        assert "verify" in str(await _lost(_terminal(other, port)))


async def test_a_terminal_cannot_pose_as_the_broker(trust):
    """A certificate of the right authority is not enough: it must be a server's, for this address."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(trust.terminal_certificate, trust.terminal_key)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls) as server:
        assert "verify" in str(await _lost(_terminal(trust, server.sockets[0].getsockname()[1])))


async def test_a_broker_that_says_nothing_is_lost_in_time(trust, monkeypatch):
    """It accepts TCP and never answers; connecting and cancelling both end in bounded time without a leak."""
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)
    accepted: list[asyncio.StreamWriter] = []
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0) as server:
        uplink = _terminal(trust, server.sockets[0].getsockname()[1])
        started = loop.time()
        assert "timed out" in str(await _lost(uplink))
        assert 0.5 <= loop.time() - started < 2
        started = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), uplink.connect(["x"], WILL):
                pass
        assert loop.time() - started < 2
        assert len(accepted) == 2
        for writer in accepted:
            writer.transport.abort()


async def test_a_broker_that_shakes_hands_but_speaks_no_mqtt_is_lost_in_time(trust, monkeypatch):
    """A CONNACK that never comes, waited for and cancelled: aiomqtt would leave the socket open."""
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(trust.broker_certificate, trust.broker_key)
    accepted: list[asyncio.StreamWriter] = []
    connected = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        assert await reader.readexactly(1) == b"\x10", "CONNECT"
        connected.set()

    async def connect(uplink: MqttUplink) -> None:
        async with uplink.connect(["x"], WILL):
            raise AssertionError("there is no CONNACK")

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls) as server:
        uplink = _terminal(trust, server.sockets[0].getsockname()[1])
        assert "timed out" in str(await _lost(uplink))
        connected.clear()
        connecting = asyncio.create_task(connect(uplink))
        async with asyncio.timeout(5):
            await connected.wait()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        for writer in accepted:
            writer.transport.abort()


async def test_a_cancelled_connect_that_succeeds_late_leaves_nothing_open(trust):
    """The connecting thread cannot be stopped: what it opens after the cancellation is closed."""
    accepted, passed, joined = asyncio.Event(), asyncio.Event(), asyncio.Event()
    pumps: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        writer.transport.abort()

    async with broker_process(trust.ca.parent) as (_, port):

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await passed.wait()
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", port)
            pumps.extend([asyncio.create_task(pump(reader, onward)), asyncio.create_task(pump(onward_reader, writer))])
            joined.set()

        async with await asyncio.start_server(late, "127.0.0.1", 0) as server, asyncio.timeout(10):
            uplink = _terminal(trust, server.sockets[0].getsockname()[1])
            connecting = asyncio.create_task(_lost(uplink))
            await accepted.wait()
            connecting.cancel()
            passed.set()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await joined.wait()
            ended = await asyncio.gather(*pumps)
    assert ended == [None, None], "both ways ended while the broker was up"


@contextlib.asynccontextmanager
async def _saying(trust: Trust, said: bytes):
    """A broker that says these bytes after CONNECT and SUBSCRIBE, and then nothing; gives its port."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(trust.broker_certificate, trust.broker_key)
    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        for reply in (b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01" + said):
            assert await reader.read(65_536)
            writer.write(reply)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in served:
            writer.transport.abort()


async def test_a_packet_larger_than_the_wire_format_allows_ends_the_connection(trust):
    """A broker announces 268 MB: nothing is kept for it."""
    largest = 1_048_576 - 5  # topic and packet identifier
    for announced, is_taken in ((b"\x80\x80\x40", True), (b"\x81\x80\x40", False), (b"\xff\xff\xff\x7f", False)):
        said = b"\x32" + announced + b"\x00\x01x\x00\x01" + bytes(largest)
        async with (
            _saying(trust, said) as port,
            asyncio.timeout(10),
            _terminal(trust, port).connect(["x"], WILL) as connection,
        ):
            if is_taken:
                assert len((await connection.receive()).body) == largest
            else:
                with pytest.raises(UplinkLost):
                    await connection.receive()


async def test_a_resolver_that_hangs_holds_up_nobody(trust, monkeypatch):
    """The lookup cannot be stopped: connecting ends without it, in time, cancelled or not."""
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)
    released, lookups = threading.Event(), []

    def hang(*_: object, **__: object) -> list[object]:
        lookups.append(threading.current_thread())
        released.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    loop = asyncio.get_running_loop()
    try:
        uplink, started = _terminal(trust, 8883, host="broker.example"), loop.time()
        await _lost(uplink)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), uplink.connect(["x"], WILL):
                pass
        assert loop.time() - started < 1
        assert len(lookups) == 2
        assert all(thread.daemon for thread in lookups), "nor the end of the process"
    finally:
        released.set()
        for thread in lookups:
            thread.join()


async def test_a_broker_whose_handshake_drips_is_lost_in_time(trust, monkeypatch):
    """A byte now and then keeps no deadline away."""
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)

    hung_up = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"\x16\x03\x03\x10\x00")
            while True:
                writer.write(b"\x02")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.transport.abort()
        hung_up.set()

    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server, asyncio.timeout(5):
        started = loop.time()
        assert "timed out" in str(await _lost(_terminal(trust, server.sockets[0].getsockname()[1])))
        assert loop.time() - started < 1
        await hung_up.wait()


async def test_the_next_address_of_a_name_is_tried(trust, monkeypatch):
    async with broker_process(trust.ca.parent) as (_, port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            dead = probe.getsockname()[1]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (dead, port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        async with _terminal(trust, 8883, host="localhost").connect(["x"], WILL) as connection:
            await connection.publish(Message("x", b"here"))
            assert (await connection.receive()).body == b"here"


@pytest.mark.parametrize("missing", ["ca_file", "certificate_file", "private_key_file"])
def test_credentials_that_cannot_be_used_are_told_at_once(trust, missing, tmp_path):
    files = {
        "ca_file": trust.ca,
        "certificate_file": trust.terminal_certificate,
        "private_key_file": trust.terminal_key,
    }
    for bad in (tmp_path / "absent", Path(__file__)):
        with pytest.raises(TransportError) as caught:
            MqttUplink("127.0.0.1", 8883, TERMINAL, **{**files, missing: bad})
        assert caught.value.code == "line.bad_credentials"


async def test_a_cancel_that_meets_the_brokers_answer_is_not_lost():
    """Rule 4: a stop in that very moment must end the life, which would otherwise go on until it is killed."""
    client = mqtt._Client("127.0.0.1", 1, timeout=mqtt.TIMEOUT_SECONDS)
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(client._wait_for(answer, timeout=None), name="waiting")
    await asyncio.sleep(0)
    answer.set_result(None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_answer_that_does_not_come_is_lost_in_time():
    client = mqtt._Client("127.0.0.1", 1, timeout=0.01)
    with pytest.raises(aiomqtt.MqttError):
        await client._wait_for(asyncio.get_running_loop().create_future(), timeout=None)
