"""The broker connection on a board: MQTT 3.1.1 over TLS with a client certificate, by aiomqtt.

A connection ends by closing its socket without DISCONNECT, on purpose: the broker then tells the last will at
once, however the terminal left.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import aiomqtt

from transport.errors import TransportError
from transport.uplink import Connection, Message, UplinkLost

TIMEOUT_SECONDS = 4.0
KEEPALIVE_SECONDS = 15
MAX_WAITING_MESSAGES = 64
MAX_PACKET_BYTES = 1_048_576

T = TypeVar("T")

_Address = tuple[int, int, int, str, Any]  # as socket.getaddrinfo gives it

# aiomqtt and paho log each packet and each busy moment; what matters comes back as an exception.
_quiet = logging.getLogger("govterm.mqtt")
_quiet.setLevel(logging.CRITICAL)
_quiet.propagate = False


class MqttUplink:
    """Makes connections to one broker with one client certificate."""

    def __init__(
        self,
        host: str,
        port: int,
        identifier: str,
        *,
        ca_file: Path,
        certificate_file: Path,
        private_key_file: Path,
    ) -> None:
        """Load the PEM files; `identifier` is the MQTT client id, a newer connection ends an older one of the same.

        Raises TransportError (`line.bad_credentials`).
        """
        self._host = host
        self._port = port
        self._identifier = identifier
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
            self._tls.sslsocket_class = _TlsSocket
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.load_cert_chain(certificate_file, private_key_file)
        except OSError as error:
            raise TransportError(
                "line.bad_credentials",
                f"the broker's CA, the certificate or its key cannot be used: {error}",
                advice="check `ca_file`, `certificate_file` and `private_key_file`",
                retry=False,
            ) from error

    def connect(self, subscriptions: Sequence[str], will: Message) -> AbstractAsyncContextManager[Connection]:
        """Connect with a new client and a clean session, subscribe at QoS 1; raise UplinkLost when it fails."""
        return self._connect(tuple(subscriptions), will)

    @contextlib.asynccontextmanager
    async def _connect(self, subscriptions: tuple[str, ...], will: Message) -> AsyncIterator[Connection]:
        client = _Client(
            self._host,
            self._port,
            identifier=self._identifier,
            logger=_quiet,
            will=aiomqtt.Will(will.topic, will.body, qos=1, retain=True),
            clean_session=True,
            timeout=TIMEOUT_SECONDS,
            keepalive=KEEPALIVE_SECONDS,
            max_queued_incoming_messages=MAX_WAITING_MESSAGES,
        )
        try:
            with _lost():
                await client.open(await _dial(self._host, self._port, self._tls))
                for topic in subscriptions:
                    granted = await client.subscribe(topic, qos=1)
                    if any(code != 1 for code in granted):
                        raise UplinkLost("the broker does not grant QoS 1")
            yield _MqttConnection(client)
        finally:
            client.close()


class _MqttConnection:
    def __init__(self, client: "_Client") -> None:
        self._client = client

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        with _lost():
            await self._client.publish(message.topic, message.body, qos=1, retain=retain)

    async def receive(self) -> Message:
        """Return the next message; a dead line shows within two keep-alive times."""
        with _lost():
            message = await anext(self._client.messages)
        return Message(str(message.topic), message.payload)


class _Client(aiomqtt.Client):
    """aiomqtt's client on a socket that is open already: it would open one in a thread that nobody can stop."""

    async def open(self, tls_socket: ssl.SSLSocket) -> None:
        """Take over the socket and wait for the broker's CONNACK; `close` must follow."""
        self._client._create_socket_connection = lambda: tls_socket  # type: ignore[method-assign]  # noqa: SLF001
        self._client_connect()
        await self._wait_for(self._connected, timeout=None)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:
        """Wait as aiomqtt does, but never lose a cancel: asyncio.wait_for of Python 3.11 forgets one that meets it."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None

    def close(self) -> None:
        """Close the socket now, without a word to the broker; aiomqtt has no public call for it."""
        self._client._sock_close()  # noqa: SLF001 (as above)
        for ended in (self._connected, self._disconnected):
            if ended.done() and not ended.cancelled():
                ended.exception()


class _TlsSocket(ssl.SSLSocket):
    """A TLS socket for paho, which reads all that is left of a packet at once, however long it says it is."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; raise OSError for a packet that is larger than the wire format allows."""
        if buflen > MAX_PACKET_BYTES:
            raise ConnectionAbortedError(f"a packet of {buflen} bytes")
        return super().recv(buflen, flags)


async def _dial(host: str, port: int, tls: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a TLS connection to the first address of `host` that answers; raise OSError, TimeoutError included."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            addresses = await _resolve(host, port)
            failure = OSError(f"{host} has no address")
            for address in addresses:
                try:
                    plain = await _connect(address, TIMEOUT_SECONDS / len(addresses))
                    return await _shake_hands(
                        tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
                    )
                except OSError as error:
                    failure = error
            raise failure
    except TimeoutError:
        raise TimeoutError(f"connecting to {host}:{port} timed out") from None


async def _connect(address: _Address, seconds: float) -> socket.socket:
    family, kind, protocol, _, place = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _resolve(host: str, port: int) -> list[_Address]:
    """Look the name up in a thread of its own: a lookup cannot be stopped, and no exit may wait for it."""
    found: concurrent.futures.Future[list[_Address]] = concurrent.futures.Future()

    def look_up() -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled: nobody waits any more
            try:
                found.set_result([*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
            except (OSError, UnicodeError) as error:
                found.set_exception(error)

    threading.Thread(target=look_up, name="mqtt-resolve", daemon=True).start()
    return await asyncio.wrap_future(found)


async def _shake_hands(tls_socket: ssl.SSLSocket) -> ssl.SSLSocket:
    """Return the socket after its TLS handshake; close it when that fails."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            turn = asyncio.Event()
            try:
                tls_socket.do_handshake()
                return tls_socket
            except ssl.SSLWantReadError:
                loop.add_reader(tls_socket, turn.set)
            except ssl.SSLWantWriteError:
                loop.add_writer(tls_socket, turn.set)
            try:
                await turn.wait()
            finally:
                loop.remove_reader(tls_socket)
                loop.remove_writer(tls_socket)
    except BaseException:
        tls_socket.close()
        raise


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (aiomqtt.MqttError, OSError, UnicodeError) as error:
        raise UplinkLost(str(error)) from error
