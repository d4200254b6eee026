"""The broker connection on a board: MQTT 3.1.1 over TLS with a client certificate, by aiomqtt.

A connection ends by closing its socket without DISCONNECT, on purpose: the broker then tells the last will at
once, however the terminal left.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiomqtt

from transport.errors import TransportError
from transport.uplink import Connection, Message, UplinkLost

TIMEOUT_SECONDS = 4.0
KEEPALIVE_SECONDS = 15
MAX_WAITING_MESSAGES = 64

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
            tls_context=self._tls,
        )
        try:
            with _lost():
                await client.open()
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
    """aiomqtt's client, with the two moments it leaves open: a cancelled connect and the end of a dead line."""

    async def open(self) -> None:
        """Connect; when cancelled, wait for the connecting thread, which would open a socket nobody owns."""
        self._client.connect_timeout = TIMEOUT_SECONDS
        connecting = asyncio.get_running_loop().create_task(self.__aenter__(), name="mqtt-connect")
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._connected.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            raise

    def close(self) -> None:
        """Close the socket now, without a word to the broker; aiomqtt has no public call for it."""
        self._client._sock_close()  # noqa: SLF001 (as above)
        for ended in (self._connected, self._disconnected):
            if ended.done() and not ended.cancelled():
                ended.exception()


class _TlsSocket(ssl.SSLSocket):
    """A TLS socket that closes when its handshake fails, which paho forgets."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001 (the base class's form)
        """Shake hands; raise OSError with the socket closed."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (aiomqtt.MqttError, OSError, UnicodeError) as error:
        raise UplinkLost(str(error)) from error
