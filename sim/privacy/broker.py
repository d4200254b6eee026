"""The broker as a platform runs it, with a store on its disk, and a subscriber who is away.

For him the broker keeps whatever terminal and platform say on the line, the retained presence and the last will too.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiomqtt

from sim.mosquitto import HOST, broker_process
from sim.privacy import planted
from sim.settings import RigError
from sim.trust import Trust

MOSQUITTO = Path("/usr/sbin/mosquitto")
STORE = "mosquitto.db"
SAID_BY_TERMINAL = b"govterm/v1/RIG-0001/up/"
"""How the topic of what the terminal said begins, which the store holds with each message."""
_EVERYTHING = "govterm/v1/#"
_AWAY = "absent-archive"
_CLEAR_TOPIC = "govterm/v1/clear"


@asynccontextmanager
async def keeping_broker(trust_directory: Path, port: int) -> AsyncIterator[None]:
    """Run mosquitto, which keeps everything that is said on its line; at the end it writes its store.

    Raises RigError when it does not serve.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(broker_process(trust_directory, port))
            async with _client(trust_directory, port, _AWAY, stays=True) as archive:
                await archive.subscribe(_EVERYTHING, qos=1)
            await say(trust_directory, port, planted.SAID_IN_CLEAR)
        except (RuntimeError, OSError, aiomqtt.MqttError) as error:
            raise RigError(f"broker: {error} (port {port})") from error
        yield


async def say(trust_directory: Path, port: int, text: str) -> None:
    """Publish a text in clear, which nobody on the line does."""
    async with _client(trust_directory, port, "clear-speaker", stays=False) as client:
        await client.publish(_CLEAR_TOPIC, text.encode("gb18030"), qos=1)


def _client(trust_directory: Path, port: int, name: str, *, stays: bool) -> aiomqtt.Client:
    trust = Trust.in_directory(trust_directory)
    tls = ssl.create_default_context(cafile=trust.ca)
    tls.load_cert_chain(trust.platform_certificate, trust.platform_key)
    return aiomqtt.Client(HOST, port, identifier=name, clean_session=not stays, tls_context=tls, timeout=5.0)
