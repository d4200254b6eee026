"""Every codec of a peripheral, as a fuzzer and a benchmark see it: what it keeps, and what a good frame looks like."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from devices.cardreader import tlv
from devices.cardreader.protocol import FrameDecoder as CardReaderDecoder
from devices.driver import Damage
from devices.environment.protocol import AnswerDecoder
from devices.errors import DeviceError
from devices.fingerprint.protocol import PacketDecoder
from devices.idcard.protocol import PHOTO_BYTES, SHORTEST_REPLY, TEXT_BYTES, CardBlocks
from devices.idcard.protocol import FrameDecoder as IdCardDecoder
from devices.idcard.record import parse_record
from devices.pinpad.protocol import PIN_KEYS
from devices.pinpad.protocol import FrameDecoder as PinPadDecoder
from devices.printer.decoder import StatusDecoder
from devices.ups.megatec_protocol import LineDecoder
from devices.ups.nut_protocol import WordsDecoder

KEEPS = 4_096
"""More than the longest frame of any codec: what may wait in a decoder between two chunks."""


class Decoder(Protocol):
    """What every decoder can do."""

    def feed(self, data: bytes) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Codec:
    """A decoder, a good frame of the protocol's document, and how often it is said until the wire is in step again."""

    make: Callable[[], Decoder]
    good: bytes
    times: int
    """A half frame that came before may swallow the good ones that follow it, up to its own length."""

    def fuzz(self, data: bytes) -> None:
        """Any bytes, in chunks that the first byte chooses: no exception, bounded memory, the same frames, in step."""
        step, data = (data[0] + 1 if data else 1), data[1:]
        decoder, at_once = self.make(), self.make()
        found: list[Any] = []
        for start in range(0, len(data), step):
            found += decoder.feed(data[start : start + step])
            check(len(waiting(decoder)) <= KEEPS, "memory")
        check(frames(found) == frames(at_once.feed(data)), "chunks")
        (good,) = self.make().feed(self.good)
        check(any(good in decoder.feed(self.good) for _ in range(self.times)), "resynchronisation")


def check(true: object, what: str) -> None:
    """Raise AssertionError, with and without -O."""
    if not true:
        raise AssertionError(what)


def frames(found: Sequence[Any]) -> list[Any]:
    """Return the frames without the damage, of which a different chunking may tell more or less."""
    return [frame for frame in found if not isinstance(frame, Damage)]


def waiting(decoder: Any) -> bytes:
    """Return what a decoder keeps between two chunks."""
    return decoder._frame if isinstance(decoder, StatusDecoder) else decoder._buffer


def _pinpad() -> PinPadDecoder:
    decoder = PinPadDecoder()
    decoder.arm(PIN_KEYS)
    return decoder


CODECS = {
    "idcard": Codec(
        lambda: IdCardDecoder(shortest=SHORTEST_REPLY), bytes.fromhex("AA AA AA 96 69 00 04 00 00 90 94"), 300
    ),
    "printer": Codec(StatusDecoder, bytes.fromhex("10 00 00 0F"), 2),
    "cardreader": Codec(CardReaderDecoder, bytes.fromhex("02 00 02 30 30 03 03"), 50),
    "pinpad": Codec(_pinpad, bytes.fromhex("02 30 30 31 60 03 35 32"), 60),
    "fingerprint": Codec(PacketDecoder, bytes.fromhex("EF 01 FF FF FF FF 07 00 03 00 00 0A"), 30),
    "ups.megatec": Codec(LineDecoder, b"(221.3 221.3 220.1 012 50.0 27.3 27.0 00001001\r", 2),
    "ups.nut": Codec(WordsDecoder, b'VAR kiosk ups.status "OL"\n', 3),
    "environment": Codec(lambda: AnswerDecoder(1), bytes.fromhex("01 02 01 00 A1 88"), 60),
}


def fuzz_tlv(data: bytes) -> None:
    """Any bytes are objects, not too many of them, or TlvError."""
    try:
        found = tlv.parse(data)
    except tlv.TlvError:
        return
    check(sum(1 for _ in tlv.walk(found)) <= tlv.MOST_OBJECTS, "memory")


def fuzz_record(data: bytes) -> None:
    """Any text block of a card, and any newest address, are a record or a coded error."""
    text, address = bytearray(data[:TEXT_BYTES].ljust(TEXT_BYTES)), bytearray(data[TEXT_BYTES:])
    try:
        parse_record(CardBlocks(text, bytearray(PHOTO_BYTES), None), address=address or None).wipe()
    except DeviceError as error:
        check(error.code.startswith("idcard."), "code")


TARGETS: dict[str, Callable[[bytes], None]] = {
    **{name: codec.fuzz for name, codec in CODECS.items()},
    "cardreader.tlv": fuzz_tlv,
    "idcard.record": fuzz_record,
}
