"""Looks at the keys of a line, for tests: which were granted, used and wiped."""

from tests.transport.line_rig import IDENTITY, SIGNING, Rig, until
from transport import envelope
from transport.keys import IdentityKey, MemoryExchange
from transport.line_keys import ChannelKeys

_PLAIN = {"grant", "presence"}


class Watched(IdentityKey):
    """An identity key that remembers its exchanges and the keys they brought."""

    def __init__(self) -> None:
        super().__init__(IDENTITY)
        self.exchanges: list[MemoryExchange] = []
        self.keys: list = []

    def begin_exchange(self) -> MemoryExchange:
        exchange = super().begin_exchange()
        self.exchanges.append(exchange)
        unwrap = exchange.unwrap

        def noting(wrapped: bytes):
            self.keys.append(unwrap(wrapped))
            return self.keys[-1]

        exchange.unwrap = noting
        return exchange

    def rig(self) -> Rig:
        return Rig(keys=ChannelKeys(self, SIGNING.public))

    @property
    def wiped(self) -> list[bool]:
        """Which of the data keys, up and down of each grant, are gone."""
        return [key._key == b"" for key in self.keys]


async def renewed(rig: Rig, requests: int) -> None:
    """Wait until the platform granted so many times and was heard under the last keys."""
    await until(lambda: rig.platform.requests == requests and rig.platform.ring._offered is None)


def sealed_under(rig: Rig) -> list[bytes]:
    """The key id of each envelope that went up, in order."""
    bodies = [message.body for message, _ in rig.uplink.published if message.topic.split("/")[-1] not in _PLAIN]
    return [envelope.read(body).key_id for body in bodies]
