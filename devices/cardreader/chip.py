"""The chip of a card: response APDUs, what T=0 leaves to the host, what an ATR announces (protocols 5.3)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

_ROUNDS = 16
"""The most exchanges one command may take over T=0; a card that wants more is not a bank card."""


class ChipPower(StrEnum):
    """What can be done to the chip's power, in the words of XFS4IoT."""

    COLD = "cold"
    WARM = "warm"
    OFF = "off"


class ChipProtocol(StrEnum):
    """How commands travel to the chip, in the words of XFS4IoT."""

    T0 = "chipT0"
    T1 = "chipT1"


@dataclass(frozen=True, slots=True)
class Atr:
    """What the chip answered to its reset."""

    data: bytes
    protocol: ChipProtocol


@dataclass(frozen=True, slots=True)
class Response:
    """A response APDU: its status word and its data, which may be personal and is never printed."""

    sw: int
    data: bytearray = field(repr=False, default_factory=bytearray)

    def wipe(self) -> None:
        """Overwrite the data."""
        self.data[:] = bytes(len(self.data))


def parse_response(data: bytearray) -> Response:
    """Return the response APDU in `data`, wiping it; raise ValueError when it has no status word."""
    if len(data) < 2:
        raise ValueError("a response APDU ends with two bytes of status")
    response = Response(int.from_bytes(data[-2:], "big"), data[:-2])
    data[:] = bytes(len(data))
    return response


def announced_protocol(atr: bytes) -> ChipProtocol:
    """Return the protocol that an ATR offers first (ISO 7816-3: TD1, or T=0 without one)."""
    if len(atr) < 2:
        return ChipProtocol.T0
    interface = atr[1] >> 4
    at = 1 + (interface & 0b0111).bit_count() + 1
    return ChipProtocol.T1 if interface & 0b1000 and at < len(atr) and atr[at] & 0x0F == 1 else ChipProtocol.T0


async def exchange_t0(send: Callable[[bytes], Awaitable[Response]], command: bytes) -> Response:
    """Send a command over T=0 and do the host's part of it: `6Cxx` asks again with that length, `61xx` is fetched.

    The response of a card that never ends keeps its `61xx` or `6Cxx`.
    """
    collected = bytearray()
    sw = 0
    for _ in range(_ROUNDS):
        try:
            response = await send(command)
        except BaseException:
            collected[:] = bytes(len(collected))
            raise
        sw = response.sw
        collected += response.data
        response.wipe()
        if sw >> 8 == 0x6C:
            command = (command[:-1] if len(command) > 4 else command) + bytes([sw & 0xFF])
        elif sw >> 8 == 0x61:
            command = bytes([0x00, 0xC0, 0x00, 0x00, sw & 0xFF])
        else:
            break
    return Response(sw, collected)
