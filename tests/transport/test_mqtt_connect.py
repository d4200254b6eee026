"""Brokers, networks and names that do not do what they should: every end is in time and leaves nothing open."""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import aiomqtt
import pytest

from sim import mosquitto
from tests.transport.line_rig import TERMINAL
from tests.transport.mqtt_rig import (
    CONNACK,
    DOWN,
    SUBACK,
    UP,
    WILL,
    lost,
    read_packet,
    scripted,
    server_tls,
    serving,
    terminal,
    terminal_uplink,
)
from transport import mqtt
from transport.errors import TransportError
from transport.mqtt import MqttUplink
from transport.uplink import Message, UplinkLost


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(0)


def _delivery(topic: bytes, body: bytes) -> bytes:
    packet = len(topic).to_bytes(2, "big") + topic + b"\x00\x01" + body
    assert len(packet) < 128
    return bytes([0x32, len(packet)]) + packet


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_broker_that_is_not_there_is_lost(trust):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "Connect call failed" in str(await lost(terminal_uplink(trust, port)))


async def test_a_name_that_does_not_resolve_is_lost(trust):
    assert await lost(terminal_uplink(trust, 8883, host="broker.invalid"))


async def test_a_terminal_cannot_pose_as_the_broker(trust):
    """A certificate of the right authority is not enough: it must be a server's, for this address."""
    async with serving(_silence, server_tls(trust.terminal_certificate, trust.terminal_key)) as port:
        assert "verify" in str(await lost(terminal_uplink(trust, port)))


async def test_a_broker_that_says_nothing_is_lost_in_time(trust, monkeypatch):
    """It accepts TCP and never answers; connecting and cancelling both end in bounded time without a leak."""
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)
    loop = asyncio.get_running_loop()
    async with serving(_silence) as port:
        uplink = terminal_uplink(trust, port)
        started = loop.time()
        assert "timed out" in str(await lost(uplink))
        assert 0.5 <= loop.time() - started < 2
        started = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), uplink.connect([DOWN], WILL):
                pass
        assert loop.time() - started < 2


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
        hung_up.set()

    loop = asyncio.get_running_loop()
    async with serving(drip) as port, asyncio.timeout(5):
        started = loop.time()
        assert "timed out" in str(await lost(terminal_uplink(trust, port)))
        assert loop.time() - started < 1
        await hung_up.wait()


async def test_a_broker_that_shakes_hands_but_speaks_no_mqtt_is_lost_in_time(trust, monkeypatch):
    """A CONNACK that never comes, waited for and cancelled: aiomqtt would leave the socket open."""
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)
    asked = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await read_packet(reader))[0] == 0x10, "CONNECT"
        asked.set()

    async with scripted(trust, then=take) as port, asyncio.timeout(10):
        uplink = terminal_uplink(trust, port)
        assert "timed out" in str(await lost(uplink))
        asked.clear()
        connecting = asyncio.create_task(lost(uplink))
        await asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_broker_that_hangs_up_instead_of_an_answer_is_lost_at_once(trust):
    loop = asyncio.get_running_loop()
    for said in ((), (CONNACK,)):
        async with scripted(trust, *said, then=_hang_up) as port:
            started = loop.time()
            assert "the broker ended the connection" in str(await lost(terminal_uplink(trust, port)))
            assert loop.time() - started < 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([b"\x20\x02\x01\x00"], "kept a session"),
        ([b"\x20\x02\x00\x05"], "Not authorized"),
        ([CONNACK, b"\x90\x03\x00\x01\x00"], "does not grant QoS 1"),
        ([CONNACK, b"\x90\x03\x00\x01\x80"], "does not grant QoS 1"),
    ],
    ids=["session_present", "refused", "QoS 0", "no subscription"],
)
async def test_a_broker_that_does_not_give_what_was_asked_for_is_lost_with_the_reason(trust, said, reason):
    """A clean session was asked for: what an older one left must not come now (T12)."""
    loop = asyncio.get_running_loop()
    async with scripted(trust, *said) as port:
        started = loop.time()
        assert reason in str(await lost(terminal_uplink(trust, port)))
        assert loop.time() - started < 1


async def test_the_terminal_asks_for_a_clean_session_with_its_will_by_mqtt_3_1_1(trust):
    """Nothing depends on a broker's extras."""
    asked: list[tuple[int, bytes]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_packet(reader))
        writer.write(CONNACK)
        asked.append(await read_packet(reader))
        writer.write(SUBACK)

    async with scripted(trust, then=take) as port, terminal(trust, port):
        pass
    name, will = TERMINAL.encode(), WILL.topic.encode()
    text = [len(part).to_bytes(2, "big") + part for part in (name, will, WILL.body, DOWN.encode())]
    clean_will_qos1_retained = 0x02 | 0x04 | 0x08 | 0x20
    connect = b"\x00\x04MQTT\x04" + bytes([clean_will_qos1_retained, 0, mqtt.KEEPALIVE_SECONDS]) + b"".join(text[:3])
    assert asked == [(0x10, connect), (0x82, b"\x00\x01" + text[3] + b"\x01")]


async def test_a_window_leaves_in_order_without_a_puback_and_fails_when_the_broker_goes(trust):
    """A PUBACK that is late holds nothing up; nobody waits for one on a connection that is gone."""
    heard: list[bytes] = []
    has_window = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(32):
            first, packet = await read_packet(reader)
            assert first == 0x32
            heard.append(packet.removeprefix(len(UP).to_bytes(2, "big") + UP.encode())[2:])
        has_window.set()
        writer.transport.abort()

    loop = asyncio.get_running_loop()
    async with scripted(trust, CONNACK, SUBACK, then=hear) as port, terminal(trust, port) as here:
        bodies = [b"%d" % number for number in range(32)]
        publishing = [asyncio.create_task(here.publish(Message(UP, body))) for body in bodies]
        async with asyncio.timeout(5):
            await has_window.wait()
        went_at = loop.time()
        ends = await asyncio.gather(*publishing, return_exceptions=True)
        assert [type(end) for end in ends] == [UplinkLost] * 32
        assert loop.time() - went_at < 1
    assert heard == bodies


async def test_more_messages_than_fit_wait_for_the_receiver(trust):
    """Nothing is thrown away, however many come in one piece; a receiver that rests loses the line, not a message."""
    said = b"".join(_delivery(DOWN.encode(), b"%d" % number) for number in range(1_000))
    async with (
        scripted(trust, CONNACK, SUBACK + said) as port,
        terminal(trust, port) as here,
        asyncio.timeout(10),
    ):
        first = await here.receive()
        await asyncio.sleep(0.1)
        assert len(here._client.messages) <= mqtt.MAX_WAITING_MESSAGES
        heard = [first, *[await here.receive() for _ in range(999)]]
    assert [int(message.body) for message in heard] == list(range(1_000))


async def test_what_came_before_the_end_is_still_received(trust):
    said = SUBACK + _delivery(DOWN.encode(), b"1") + _delivery(DOWN.encode(), b"2")
    async with (
        scripted(trust, CONNACK, said, then=_close) as port,
        terminal(trust, port) as here,
        asyncio.timeout(10),
    ):
        assert [(await here.receive()).body for _ in range(2)] == [b"1", b"2"]
        with pytest.raises(UplinkLost):
            await here.receive()


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("topic", [b"\xff", b"a/#"], ids=["no UTF-8", "a wildcard"])
async def test_a_message_that_is_none_ends_the_connection(trust, topic):
    async with (
        scripted(trust, CONNACK, SUBACK + _delivery(topic, b"x")) as port,
        terminal(trust, port) as here,
        asyncio.timeout(5),
    ):
        with pytest.raises(UplinkLost):
            await here.receive()
        with pytest.raises(UplinkLost):
            await here.publish(Message(UP, b"x"))


async def test_a_packet_larger_than_the_wire_format_allows_ends_the_connection(trust):
    """A broker announces 268 MB: nothing is kept for it."""
    largest = 1_048_576 - 5  # topic and packet identifier
    for announced, is_taken in ((b"\x80\x80\x40", True), (b"\x81\x80\x40", False), (b"\xff\xff\xff\x7f", False)):
        said = b"\x32" + announced + b"\x00\x01x\x00\x01" + bytes(largest)
        async with (
            scripted(trust, CONNACK, SUBACK + said) as port,
            terminal(trust, port) as here,
            asyncio.timeout(10),
        ):
            if is_taken:
                assert len((await here.receive()).body) == largest
            else:
                with pytest.raises(UplinkLost):
                    await here.receive()


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
        uplink, started = terminal_uplink(trust, 8883, host="broker.example"), loop.time()
        await lost(uplink)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), uplink.connect([DOWN], WILL):
                pass
        assert loop.time() - started < 1
        assert len(lookups) == 2
        assert all(thread.daemon for thread in lookups), "nor the end of the process"
    finally:
        released.set()
        for thread in lookups:
            thread.join()


async def test_the_next_address_of_a_name_is_tried(trust, monkeypatch):
    async with scripted(trust, CONNACK, SUBACK) as port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            dead = probe.getsockname()[1]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (dead, port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        async with terminal(trust, 8883, host="localhost") as here:
            assert here.valid is not None


async def test_a_cancelled_connect_that_succeeds_late_leaves_nothing_open(trust):
    """What opens after the cancellation is closed."""
    accepted, passed, joined = asyncio.Event(), asyncio.Event(), asyncio.Event()
    pumps: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        writer.transport.abort()

    async with mosquitto.broker_process(trust.ca.parent) as (_, port):

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await passed.wait()
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", port)
            pumps.extend([asyncio.create_task(pump(reader, onward)), asyncio.create_task(pump(onward_reader, writer))])
            joined.set()
            await asyncio.wait(pumps)

        async with serving(late) as late_port, asyncio.timeout(10):
            connecting = asyncio.create_task(lost(terminal_uplink(trust, late_port)))
            await accepted.wait()
            connecting.cancel()
            passed.set()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await joined.wait()
            ended = await asyncio.gather(*pumps)
    assert ended == [None, None], "both ways ended while the broker was up"


@pytest.mark.parametrize("missing", ["ca_file", "certificate_file", "private_key_file", "password_file"])
def test_credentials_that_cannot_be_used_are_told_at_once(trust, missing, tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    files = {
        "ca_file": trust.ca,
        "certificate_file": trust.terminal_certificate,
        "private_key_file": trust.terminal_key,
    }
    for bad in (tmp_path / "absent", binary):
        with pytest.raises(TransportError) as caught:
            MqttUplink("127.0.0.1", 8883, TERMINAL, **{**files, missing: Path(bad)})
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
