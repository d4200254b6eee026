"""The broker connection on a board: MQTT 3.1.1 over TLS with a client certificate, by aiomqtt.

A connection ends by closing its socket without DISCONNECT, on purpose: the broker then tells the last will at
once, however the terminal left.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import aiomqtt

from transport.dial import LookUp, dial, look_up
from transport.errors import TransportError
from transport.uplink import Connection, Message, UplinkLost

TIMEOUT_SECONDS = 4.0
KEEPALIVE_SECONDS = 15
MAX_WAITING_MESSAGES = 64
MAX_PACKET_BYTES = 1_048_576
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""

T = TypeVar("T")

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
        username: str | None = None,
        password_file: Path | None = None,
        look_up: LookUp = look_up,
    ) -> None:
        """Load the files; `identifier` is the MQTT client id, a newer connection ends an older one of the same.

        The dates of certificates are not checked here, since the terminal's clock may be wrong: `Connection.valid`.
        Raises TransportError (`line.bad_credentials`).
        """
        self._host = host
        self._port = port
        self._identifier = identifier
        self._username = username
        self._look_up = look_up
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
            self._tls.sslsocket_class = _TlsSocket
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.verify_flags |= _NO_CHECK_TIME
            self._tls.load_cert_chain(certificate_file, private_key_file)
            self._password = None if password_file is None else password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise TransportError(
                "line.bad_credentials",
                f"the broker's CA, the certificate, its key or the password cannot be used: {error}",
                advice="check `ca_file`, `certificate_file`, `private_key_file` and `password_file`",
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
            username=self._username,
            password=self._password,
            logger=_quiet,
            will=aiomqtt.Will(will.topic, will.body, qos=1, retain=True),
            clean_session=True,
            timeout=TIMEOUT_SECONDS,
            keepalive=KEEPALIVE_SECONDS,
            max_inflight_messages=0,  # none waits here: who calls `publish` bounds them
        )
        try:
            with _lost():
                tls_socket = await dial(self._host, self._port, self._tls, TIMEOUT_SECONDS, self._look_up)
                valid = _validity(tls_socket)
                await client.open(tls_socket)
                for topic in subscriptions:
                    granted = await client.subscribe(topic, qos=1)
                    if any(code != 1 for code in granted):
                        raise UplinkLost("the broker does not grant QoS 1")
            yield _MqttConnection(client, valid)
        finally:
            client.close()


class _MqttConnection:
    def __init__(self, client: "_Client", valid: tuple[float, float]) -> None:
        self._client = client
        self.valid = valid

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        """Publish, in the order of the calls however many wait; a broker that does not answer shows in 4 s."""
        with _lost():
            await self._client.publish(message.topic, message.body, qos=1, retain=retain)

    async def receive(self) -> Message:
        """Return the next message; a dead line shows within two keep-alive times, looked at once a second."""
        with _lost():
            message = await self._client.receive()
        return Message(str(message.topic), message.payload)


class _Client(aiomqtt.Client):
    """aiomqtt's client on a socket that is open already: it would open one in a thread that nobody can stop.

    Unlike aiomqtt's, it fails what waits for the broker as soon as the connection ends, and stops reading instead of
    throwing messages away while MAX_WAITING_MESSAGES wait to be received.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._deadlines: set[asyncio.Timeout] = set()
        self._is_reading = False
        self._disconnected.add_done_callback(self._fail_calls)
        self._client.on_connect = self._take_connack
        self._client.on_disconnect = self._note_end
        self._client.on_socket_open = self._start
        self._client.on_socket_register_write = self._write_on

    async def open(self, tls_socket: ssl.SSLSocket) -> None:
        """Take over the socket and wait for the broker's CONNACK; `close` must follow."""
        self._tls_socket = tls_socket
        self._client._create_socket_connection = lambda: tls_socket  # type: ignore[method-assign]  # noqa: SLF001
        self._client_connect()
        await self._wait_for(self._connected, timeout=None)

    async def receive(self) -> aiomqtt.Message:
        """Return the next message; raise MqttError when there is none and the connection has ended."""
        if self._queue.empty():
            return await anext(self.messages)
        message = self._queue.get_nowait()
        if self._queue.empty() and not self._is_reading:
            self._read_on()
        return message

    def close(self) -> None:
        """Close the socket now, without a word to the broker; aiomqtt has no public call for it."""
        self._client._sock_close()  # noqa: SLF001 (as above)
        for ended in (self._connected, self._disconnected):
            if ended.done() and not ended.cancelled():
                ended.exception()

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:
        """Wait as aiomqtt does, but never lose a cancel: asyncio.wait_for of Python 3.11 forgets one that meets it."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout) as deadline:
                self._deadlines.add(deadline)
                try:
                    return await fut
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._disconnected.done():
                raise aiomqtt.MqttError("the broker ended the connection") from self._disconnected.exception()
            raise aiomqtt.MqttError("Operation timed out") from None

    def _fail_calls(self, _: asyncio.Future[None]) -> None:
        self._client._sock_close()  # noqa: SLF001 (as above)
        for deadline in self._deadlines:
            deadline.reschedule(self._loop.time())

    def _take_connack(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if flags.session_present and not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("the broker kept a session that was to be a clean one"))
        self._on_connect(client, userdata, flags, reason_code, properties)

    def _note_end(self, *_: Any) -> None:
        """Note any end of the connection; aiomqtt passes over one before the CONNACK."""
        if not self._disconnected.done():
            self._disconnected.set_exception(aiomqtt.MqttError("the connection ended"))

    def _start(self, *_: Any) -> None:
        self._misc_task = self._loop.create_task(self._misc_loop(), name="mqtt-keepalive")
        self._read_on()

    def _write_on(self, *_: Any) -> None:
        """Write as soon as the socket takes it; aiomqtt would register it later, when it may be closed already."""
        self._loop.add_writer(self._tls_socket, self._client.loop_write)

    def _read_on(self) -> None:
        if self._client.socket() is not None:
            self._is_reading = True
            self._loop.add_reader(self._tls_socket, self._read)
            self._loop.call_soon(self._read)  # what TLS has decrypted already wakes nobody

    def _read(self) -> None:
        while self._client.socket() is not None:
            if self._queue.qsize() >= MAX_WAITING_MESSAGES:
                self._is_reading = False
                self._loop.remove_reader(self._tls_socket)
                return
            try:
                self._client.loop_read()
                if self._client._in_messages:  # noqa: SLF001 - kept without limit; nobody may publish so to us
                    raise aiomqtt.MqttError("the broker sends at QoS 2")
            except Exception as error:  # noqa: BLE001  a library's error on foreign data: it has many
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)
                return
            if not self._tls_socket.pending():
                return


class _TlsSocket(ssl.SSLSocket):
    """A TLS socket for paho, which reads all that is left of a packet at once, however long it says it is."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; raise OSError for a packet that is larger than the wire format allows."""
        if buflen > MAX_PACKET_BYTES:
            raise ConnectionAbortedError(f"a packet of {buflen} bytes")
        return super().recv(buflen, flags)


def _validity(tls_socket: ssl.SSLSocket) -> tuple[float, float]:
    certificate = tls_socket.getpeercert() or {}
    begins, ends = (ssl.cert_time_to_seconds(str(certificate[name])) for name in ("notBefore", "notAfter"))
    return begins, ends


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (aiomqtt.MqttError, OSError, UnicodeError) as error:
        raise UplinkLost(str(error)) from error
