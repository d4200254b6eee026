"""The broker connection, each test over both brokers: MQTT 3.1.1, TLS, client certificates (T12, T20, I7)."""

import asyncio
import contextlib
import datetime
import ipaddress
import signal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sim.trust import make_trust
from tests.transport.line_rig import (
    KEY,
    KEYS,
    REQUEST,
    SETTINGS,
    START,
    TERMINAL,
    FakeCommands,
    FakeLog,
    FakePlatform,
    until,
)
from tests.transport.mqtt_rig import (
    DOWN,
    PLATFORM_WILL,
    UP,
    WILL,
    lost,
    platform,
    platform_uplink,
    terminal,
    terminal_uplink,
)
from transport import mqtt, wire
from transport.channel import Channel, LineState
from transport.errors import TransportError
from transport.gate import Urgency
from transport.uplink import Message, UplinkLost


def _largest(topic: str) -> bytes:
    return bytes(1_048_576 - len(topic) - 4)  # its length and the packet identifier take two bytes each


@contextlib.asynccontextmanager
async def _serving(trust, port: int, served: FakePlatform):
    """The platform of `line_rig` on the real broker."""
    replies: asyncio.Queue[Message] = asyncio.Queue()
    ready = asyncio.Event()

    async def serve() -> None:
        up = platform_uplink(trust, port).connect([wire.topic(TERMINAL, "up", "+")], PLATFORM_WILL)
        async with up as connection, asyncio.TaskGroup() as group:

            async def reply() -> None:
                while True:
                    await connection.publish(await replies.get())

            group.create_task(reply())
            ready.set()
            while True:
                served.take(await connection.receive(), replies.put_nowait)

    task = asyncio.create_task(serve(), name="test-platform")
    async with asyncio.timeout(10):
        await ready.wait()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_whole_line_over_tls(trust, start_broker):
    """Calls, records and keys over the real broker, and again after the broker was killed (I6)."""
    served, log = FakePlatform(), FakeLog("supervision")
    states: list[LineState] = []

    def channel(port: int) -> Channel:
        return Channel(
            SETTINGS,
            terminal_uplink(trust, port),
            KEYS,
            log,
            streams={"supervision": Urgency.RECORD},
            commands=FakeCommands(),
            boot_id="b7",
            software_version="0.1.0",
            wall_clock=lambda: START + asyncio.get_running_loop().time(),
            on_state=states.append,
            on_dropped=lambda _: None,
        )

    for _ in range(50):
        log.append("supervision")
    async with start_broker() as (process, port), _serving(trust, port, served):
        line, ready = channel(port), asyncio.Event()
        life = asyncio.create_task(line.run(ready.set))
        answer = await line.call(REQUEST, key=KEY, deadline_seconds=10)
        assert ready.is_set()
        assert answer.body == b"answer to " + REQUEST.body
        await until(lambda: log.acknowledged["supervision"] == 50, 20)
        process.kill()
        with pytest.raises(TransportError) as caught:
            await asyncio.wait_for(life, 20)
        assert caught.value.code == "line.down"
    for _ in range(10):
        log.append("supervision")
    async with start_broker(port) as (_, same), _serving(trust, same, served):
        life = asyncio.create_task(channel(same).run(lambda: None))
        await until(lambda: log.acknowledged["supervision"] == 60, 20)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await until(lambda: not served.presence[-1].online, 5)
    assert sorted({record.sequence for _, record in served.records}) == list(range(1, 61))
    assert [(state.connected, state.code) for state in states] == [
        (True, None),
        (False, "line.down"),
        (True, None),
        (False, None),
    ]


async def test_birth_and_will_are_retained_however_the_connection_ends(trust, start_broker):
    """Who asks later hears the last of the two as well."""
    birth = Message(WILL.topic, b"here")

    async def told_later(port: int) -> Message:
        async with platform(trust, port, WILL.topic, identifier="later") as asking:
            return await asking.receive()

    async with start_broker() as (_, port), asyncio.timeout(30), platform(trust, port, WILL.topic) as seen:
        async with terminal(trust, port) as connection:
            await connection.publish(birth, retain=True)
            assert await seen.receive() == birth
            assert await told_later(port) == birth
        assert await seen.receive() == WILL
        assert await told_later(port) == WILL
        with pytest.raises(RuntimeError, match="a bug"):
            async with terminal(trust, port):
                raise RuntimeError("a bug")
        assert await seen.receive() == WILL


async def test_the_largest_packet_passes_both_ways(trust, start_broker):
    async with (
        start_broker() as (_, port),
        asyncio.timeout(30),
        platform(trust, port) as there,
        terminal(trust, port) as here,
    ):
        up, down = Message(UP, _largest(UP)), Message(DOWN, _largest(DOWN))
        await here.publish(up)
        assert await there.receive() == up
        await there.publish(down)
        assert await here.receive() == down


async def test_a_packet_over_the_limit_ends_its_senders_connection_alone(trust, start_broker):
    async with start_broker() as (_, port), asyncio.timeout(30), platform(trust, port) as there:
        async with terminal(trust, port) as here:
            with pytest.raises(UplinkLost):
                await here.publish(Message(UP, _largest(UP) + b"x"))
        async with terminal(trust, port) as here:
            await here.publish(Message(UP, b"small"))
            assert await there.receive() == Message(UP, b"small")


async def test_messages_leave_in_the_order_of_the_calls(trust, start_broker):
    """From twenty loops and three hundred single calls at once; a reordered counter would be refused (I6)."""
    counter = iter(range(1_000_000))

    async def publish(connection, count: int) -> None:
        for _ in range(count):
            await connection.publish(Message(UP, b"%d" % next(counter)))

    async with (
        start_broker() as (_, port),
        asyncio.timeout(30),
        platform(trust, port) as there,
        terminal(trust, port) as here,
        asyncio.TaskGroup() as group,
    ):
        for workers, count in ((20, 20), (300, 1)):
            for _ in range(workers):
                group.create_task(publish(here, count))
        heard = [int((await there.receive()).body) for _ in range(700)]
    assert heard == list(range(700))


async def test_a_newer_connection_of_the_same_terminal_ends_the_older(trust, start_broker):
    async with (
        start_broker() as (_, port),
        asyncio.timeout(30),
        platform(trust, port) as there,
        terminal(trust, port) as older,
        terminal(trust, port) as newer,
    ):
        with pytest.raises(UplinkLost):
            await older.receive()
        await newer.publish(Message(UP, b"still here"))
        assert (await there.receive()).body == b"still here"


async def test_nothing_is_kept_for_a_terminal_that_is_away(trust, start_broker):
    """A clean session: what was not answered on one connection is not answered on the next by the broker's queue."""
    async with start_broker() as (_, port), asyncio.timeout(30), platform(trust, port) as there:
        async with terminal(trust, port):
            pass
        await there.publish(Message(DOWN, b"while away"))
        async with terminal(trust, port) as here:
            await there.publish(Message(DOWN, b"now"))
            assert (await here.receive()).body == b"now"


async def test_a_broker_that_is_killed_is_noticed_at_once_and_served_again_on_its_port(trust, start_broker):
    """Every publish that still waits fails now, not when its time is over."""
    loop = asyncio.get_running_loop()
    async with start_broker() as (process, port), terminal(trust, port) as here:
        process.send_signal(signal.SIGSTOP)
        waiting = [asyncio.create_task(here.publish(Message(UP, b"%d" % number))) for number in range(32)]
        await asyncio.sleep(0.05)
        killed_at = loop.time()
        process.kill()
        failures = await asyncio.gather(*waiting, here.receive(), return_exceptions=True)
        assert [type(failure) for failure in failures] == [UplinkLost] * 33
        with pytest.raises(UplinkLost):
            await here.publish(Message(UP, b"late"))
        assert loop.time() - killed_at < 1
    async with start_broker(port) as (_, same), asyncio.timeout(30):
        assert same == port
        async with platform(trust, port) as there, terminal(trust, port) as here:
            await here.publish(Message(UP, b"again"))
            assert (await there.receive()).body == b"again"


async def test_a_broker_that_stands_still_is_noticed_within_two_keepalives(trust, start_broker, monkeypatch):
    """Nothing is sent meanwhile, so that only the keep-alive can tell; it is looked at once a second."""
    monkeypatch.setattr(mqtt, "KEEPALIVE_SECONDS", 1)
    loop = asyncio.get_running_loop()
    async with start_broker() as (process, port), asyncio.timeout(30), terminal(trust, port) as here:
        process.send_signal(signal.SIGSTOP)
        stopped_at = loop.time()
        try:
            with pytest.raises(UplinkLost):
                await here.receive()
        finally:
            process.send_signal(signal.SIGCONT)
        assert loop.time() - stopped_at < 2 * 1 + 2


async def test_a_broker_that_stands_still_takes_no_message_in_time(trust, start_broker, monkeypatch):
    monkeypatch.setattr(mqtt, "TIMEOUT_SECONDS", 0.5)
    loop = asyncio.get_running_loop()
    async with start_broker() as (process, port), terminal(trust, port) as here:
        process.send_signal(signal.SIGSTOP)
        stopped_at = loop.time()
        try:
            with pytest.raises(UplinkLost, match="timed out"):
                await here.publish(Message(UP, b"x"))
        finally:
            process.send_signal(signal.SIGCONT)
        assert 0.5 <= loop.time() - stopped_at < 1


async def test_a_broker_of_another_authority_is_lost(trust, start_broker, tmp_path):
    """The terminal speaks to the designated platform and no other (T20)."""
    other = make_trust(tmp_path / "other", TERMINAL)
    async with start_broker() as (_, port):
        assert "verify" in str(await lost(terminal_uplink(other, port)))
        assert "verify" in str(await lost(terminal_uplink(trust, port, ca_file=other.ca)))


async def test_a_terminal_of_another_authority_is_told_at_once(trust, start_broker, tmp_path):
    """No broker lets it in; TLS 1.3 says so only after the handshake."""
    other = make_trust(tmp_path / "other", TERMINAL)
    loop = asyncio.get_running_loop()
    async with start_broker() as (_, port):
        started = loop.time()
        assert await lost(terminal_uplink(other, port, ca_file=trust.ca))
        assert loop.time() - started < 1


@pytest.mark.parametrize(("begins", "ends"), [(-2_000, -1), (1_000, 2_000)], ids=["expired", "not yet valid"])
async def test_a_certificate_out_of_its_time_connects_and_is_told(trust, start_broker, begins, ends):
    """A wall clock that is wrong by years delays nothing: the caller checks by the platform's own time."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    dates = [now + datetime.timedelta(days=days) for days in (begins, ends)]
    _certify(trust, *dates)
    async with start_broker() as (_, port), terminal(trust, port, ca_file=trust.broker_certificate) as here:
        assert here.valid == tuple(date.timestamp() for date in dates)
        await here.publish(Message(UP, b"x"))


def _certify(trust, begins: datetime.datetime, ends: datetime.datetime) -> None:
    """Give the broker a certificate signed by itself, valid between these."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(place, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    for file, content in (
        (trust.broker_certificate, certificate.public_bytes(encoding)),
        (trust.broker_key, key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)),
    ):
        file.unlink()
        file.write_bytes(content)
