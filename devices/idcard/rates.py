"""Finding the line rate at which a reader answers (protocols 1.1)."""

import asyncio

from devices.driver import Damage
from devices.idcard.protocol import SHORTEST_REPLY, Command, FrameDecoder, encode_request
from devices.link import FlowControl, Link, OpenLink
from devices.personal import wipe

RATES = (115_200, 57_600, 38_400, 19_200, 9_600)
"""In the order in which the protocol's own software tries them."""
PROBE_SECONDS = 0.5
"""For the answer to STATUS at each rate; all rates together stay within the deadline of an open (`devices.driver`)."""
_WIRE_BYTES = 21
"""STATUS and its answer."""


class RateFinder:
    """An OpenLink that asks the reader STATUS at each rate until it answers, at the last known rate first.

    When it answers at none, the link is opened at the last known one, and the driver finds out why.
    """

    def __init__(self, open_link: OpenLink, baud: int) -> None:
        self.baud = baud
        self._open_link = open_link

    async def __call__(self, port: str, baud: int, flow_control: FlowControl = "none") -> Link:  # noqa: ARG002
        """Open `port` at the reader's rate, without flow control; raise LinkLost when it cannot be opened."""
        for rate in dict.fromkeys((self.baud, baud, *RATES)):
            link = await self._open_link(port, rate)
            if await _answers(link, rate):
                self.baud = rate
                return link
            await link.close()
        return await self._open_link(port, self.baud)


async def _answers(link: Link, rate: int) -> bool:
    """Whether any whole frame answers STATUS; close the link when it cannot be told."""
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    try:
        async with asyncio.timeout(PROBE_SECONDS + _WIRE_BYTES * 10 / rate):
            await link.write(encode_request(Command.STATUS))
            while True:
                bodies = [found for found in decoder.feed(await link.read()) if not isinstance(found, Damage)]
                for body in bodies:
                    wipe(body)
                if bodies:
                    return True
    except TimeoutError:
        return False
    except BaseException:
        await link.close()
        raise
    finally:
        decoder.reset()
