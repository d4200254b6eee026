"""The rig's broker lets nobody in without a certificate of its authority, and only on loopback (I7)."""

import asyncio
import socket
import ssl
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from sim.broker import HOST, broker_process
from sim.trust import Trust, make_trust
from transport import sm2

CONNECT = bytes.fromhex("100d00044d5154540402003c000178")
CONNACK = bytes.fromhex("20020000")


@pytest.fixture(scope="module")
def trust(tmp_path_factory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("rig") / "trust", "GT-0001")


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


async def test_only_a_certificate_of_the_rigs_authority_opens_the_door(trust, tmp_path):
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


async def test_old_tls_is_refused(trust):
    tls = _client(trust, certificate=trust.terminal_certificate, key=trust.terminal_key)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    async with broker_process(trust.ca.parent) as (_, port):
        assert await _greet(port, tls) == b""


async def test_it_listens_on_loopback_only(trust):
    async with broker_process(trust.ca.parent) as (_, port):
        inner = tomllib.loads((trust.ca.parent / "broker.toml").read_text())["v4"]["1"]["listen"]
        listening = _listening_addresses()
        assert (HOST, port) in listening
        assert (HOST, int(inner.rsplit(":", 1)[1])) in listening
        ours = {port, int(inner.rsplit(":", 1)[1])}
        assert {address for address, bound in listening if bound in ours} == {HOST}


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


async def test_stopping_it_frees_the_port_and_leaves_no_process(trust):
    async with broker_process(trust.ca.parent) as (process, port):
        pass
    assert process.returncode == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((HOST, port))
    async with broker_process(trust.ca.parent, port) as (_, same):
        assert same == port


async def test_a_killed_broker_takes_iotcore_with_it(trust):
    async with broker_process(trust.ca.parent) as (process, port):
        inner = int(tomllib.loads((trust.ca.parent / "broker.toml").read_text())["v4"]["1"]["listen"].rsplit(":", 1)[1])
        process.kill()
        async with asyncio.timeout(10):
            await process.wait()
            while _listening_addresses() & {(HOST, port), (HOST, inner)}:  # noqa: ASYNC110 (the kernel has no event)
                await asyncio.sleep(0.02)
    assert process.returncode != 0


async def test_a_port_that_is_taken_is_told(trust, capfd):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(RuntimeError, match="did not start"):
            async with broker_process(trust.ca.parent, taken.getsockname()[1]):
                pass
    assert "in use" in capfd.readouterr().err


def test_the_trust_anchors_are_private_and_never_replaced(trust):
    directory = trust.ca.parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    made = [path for path in directory.iterdir() if path.name != "broker.toml"]
    assert len(made) == 13
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o400}
    assert Trust.in_directory(directory) == trust
    with pytest.raises(FileExistsError):
        make_trust(directory, "GT-0001")


def test_the_keys_fit_each_other(trust):
    for private, public in (
        (trust.identity_key, trust.identity_public_key),
        (trust.signing_key, trust.signing_public_key),
        (trust.seal_key, trust.seal_public_key),
    ):
        pair = sm2.PrivateKey.from_der(private.read_bytes())
        assert pair.public.to_der() == public.read_bytes()
    names = {
        path.stem: x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
        for path in (trust.terminal_certificate, trust.platform_certificate, trust.broker_certificate)
    }
    assert names == {"terminal": "CN=GT-0001", "platform": "CN=platform", "broker": "CN=broker"}
