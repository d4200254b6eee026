"""The rig's brokers let nobody in without a certificate of its authority, and only on loopback (I7)."""

import asyncio
import signal
import socket
import ssl
import stat
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from sim import broker, mosquitto
from sim.broker import HOST
from sim.trust import Trust, make_trust
from transport import sm2
from transport.mqtt import MqttUplink
from transport.uplink import Message

CONNECT = bytes.fromhex("100d00044d5154540402003c000178")
CONNACK = bytes.fromhex("20020000")


@pytest.fixture(scope="module")
def trust(tmp_path_factory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("rig") / "trust", "GT-0001")


@pytest.fixture(params=[mosquitto, broker], ids=["mosquitto", "iotcore"])
def kind(request):
    """The module of a broker."""
    return request.param


@pytest.fixture
def broker_process(kind):
    return kind.broker_process


async def _greet(port: int, tls: ssl.SSLContext | None) -> bytes:
    """What the broker says to an MQTT CONNECT: a CONNACK, or nothing before it closes."""
    async with asyncio.timeout(15):
        try:
            reader, writer = await asyncio.open_connection(HOST, port, ssl=tls)
        except OSError:
            return b""
        try:
            writer.write(CONNECT)
            return await reader.readexactly(len(CONNACK))
        except (OSError, asyncio.IncompleteReadError):
            return b""
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


def _client(trust: Trust, *, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=trust.ca)
    if certificate is not None:
        tls.load_cert_chain(certificate, key)
    return tls


async def test_only_a_certificate_of_the_rigs_authority_opens_the_door(trust, broker_process, tmp_path):
    stranger = make_trust(tmp_path / "stranger", "GT-0001")
    async with broker_process(trust.ca.parent) as (_, port):
        assert await _greet(port, _client(trust)) == b""
        assert await _greet(port, None) == b""
        foreign = _client(trust, certificate=stranger.terminal_certificate, key=stranger.terminal_key)
        assert await _greet(port, foreign) == b""
        server_only = _client(trust, certificate=trust.broker_certificate, key=trust.broker_key)
        assert await _greet(port, server_only) == b"", "a server's certificate is not a client's"
        ours = _client(trust, certificate=trust.terminal_certificate, key=trust.terminal_key)
        assert await _greet(port, ours) == CONNACK


async def test_old_tls_is_refused(trust, broker_process):
    tls = _client(trust, certificate=trust.terminal_certificate, key=trust.terminal_key)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    async with broker_process(trust.ca.parent) as (_, port):
        assert await _greet(port, tls) == b""


async def test_it_listens_on_loopback_only(trust, kind):
    async with kind.broker_process(trust.ca.parent) as (_, port):
        ours = {port} | _inner_ports(trust, kind)
        listening = _listening_addresses()
        assert {(HOST, number) for number in ours} <= listening
        assert {address for address, number in listening if number in ours} == {HOST}


def _inner_ports(trust: Trust, kind) -> set[int]:
    """Where iotcore itself listens, in the clear behind its front."""
    if kind is mosquitto:
        return set()
    inner = tomllib.loads((trust.ca.parent / "broker.toml").read_text())["v4"]["1"]["listen"]
    return {int(inner.rsplit(":", 1)[1])}


def _listening_addresses() -> set[tuple[str, int]]:
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = row.split()[1], row.split()[3]
            if state == "0A":
                address, number = local.split(":")
                text = socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else address
                found.add((text, int(number, 16)))
    return found


async def test_stopping_it_frees_the_port_and_leaves_no_process(trust, broker_process):
    async with broker_process(trust.ca.parent) as (process, port):
        pass
    assert process.returncode == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((HOST, port))
    async with broker_process(trust.ca.parent, port) as (_, same):
        assert same == port


async def test_a_killed_broker_frees_its_ports_and_serves_again_on_the_same(trust, kind):
    async with kind.broker_process(trust.ca.parent) as (process, port):
        ports = {port} | _inner_ports(trust, kind)
        process.kill()
        async with asyncio.timeout(10):
            await process.wait()
            await _unused(ports)
    assert process.returncode == -signal.SIGKILL
    async with kind.broker_process(trust.ca.parent, port) as (_, same):
        assert same == port


async def _unused(ports: set[int]) -> None:
    while {(HOST, port) for port in ports} & _listening_addresses():  # noqa: ASYNC110 (the kernel has no event)
        await asyncio.sleep(0.02)


async def test_a_broker_that_stands_still_is_stopped_all_the_same(trust, broker_process):
    async with asyncio.timeout(15):
        async with broker_process(trust.ca.parent) as (process, _):
            process.send_signal(signal.SIGSTOP)
    assert process.returncode is not None


_HOLDER = """
import asyncio, pathlib, sys
from {module} import broker_process

async def hold():
    async with broker_process(pathlib.Path(sys.argv[1])) as (_, port):
        print(port, flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


async def test_it_ends_with_the_process_that_started_it(trust, kind):
    code = _HOLDER.format(module=kind.__name__)
    arguments = ("-c", code, str(trust.ca.parent))
    holder = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        port = int(await holder.stdout.readline())
        holder.kill()
        await holder.communicate()
        await _unused({port} | _inner_ports(trust, kind))


async def test_a_port_that_is_taken_is_told(trust, broker_process, capfd):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(RuntimeError, match="did not start") as caught:
            async with broker_process(trust.ca.parent, taken.getsockname()[1]):
                pass
    assert "in use" in f"{caught.value}{capfd.readouterr().err}".lower()


async def test_mosquitto_keeps_what_is_retained_over_a_kill(trust):
    """Persistence is on: a restart of the platform's broker forgets no birth."""
    topic = "govterm/v1/GT-0001/up/presence"
    files = {
        "ca_file": trust.ca,
        "certificate_file": trust.platform_certificate,
        "private_key_file": trust.platform_key,
    }
    will = Message("govterm/v1/platform", b"offline")
    database = trust.ca.parent / "mosquitto" / "mosquitto.db"
    async with mosquitto.broker_process(trust.ca.parent) as (process, port):
        async with MqttUplink(HOST, port, "platform", **files).connect(["x"], will) as connection:
            await connection.publish(Message(topic, b"here"), retain=True)
            async with asyncio.timeout(10):
                while not database.exists() or b"here" not in database.read_bytes():  # noqa: ASYNC110 (as above)
                    await asyncio.sleep(0.05)
        process.kill()
        await process.wait()
    async with (
        mosquitto.broker_process(trust.ca.parent, port),
        asyncio.timeout(10),
        MqttUplink(HOST, port, "platform", **files).connect([topic], will) as connection,
    ):
        assert await connection.receive() == Message(topic, b"here")


def test_the_trust_anchors_are_private_and_never_replaced(trust):
    directory = trust.ca.parent
    made = [path for path in directory.rglob("*") if path.suffix in (".pem", ".key", ".der", ".cer")]
    assert {trust.ca, trust.broker_key, trust.platform_key, trust.terminal_key, trust.identity_key} <= set(made)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o400}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in made} == {0o700}
    assert Trust.in_directory(directory) == trust
    with pytest.raises(FileExistsError):
        make_trust(directory, "GT-0001")


def test_the_keys_fit_each_other(trust):
    directory = trust.ca.parent
    for private, public in (
        (trust.identity_key, directory / "terminals" / "GT-0001.der"),
        (directory / "signing.der", trust.signing_public_key),
        (directory / "seal.der", trust.seal_public_key),
    ):
        pair = sm2.PrivateKey.from_der(private.read_bytes())
        assert pair.public.to_der() == public.read_bytes()
    names = {
        path.stem: x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
        for path in (trust.terminal_certificate, trust.platform_certificate, trust.broker_certificate)
    }
    assert names == {"terminal": "CN=GT-0001", "platform": "CN=platform", "broker": "CN=broker"}
