"""Recording the bank-card reader: tracks and chip data become those of nobody's card."""

from itertools import cycle

from devices.cardreader import tlv
from devices.cardreader.protocol import (
    CAPTURE,
    COLD_RESET,
    NEGATIVE,
    PROHIBIT_ENTRY,
    READ_TRACKS,
    SEEK_CONTACTLESS,
    STATUS,
    STOP_INSIDE,
    WARM_RESET,
    Frame,
    FrameDecoder,
    Signal,
    apdu,
    encode_frame,
)
from devices.cardreader.protocol import POWER_ON as CHIP_POWER
from devices.cardreader.protocol import RESET as READER_RESET
from devices.masking.pieces import FrameCutter, Piece

_HEAD = 5
_SELECT = 0xA4
_EXCHANGES = {(apdu(b"", t1=t1).cm, apdu(b"", t1=t1).pm) for t1 in (False, True)}
_CHIP_RESETS = {(COLD_RESET.cm, COLD_RESET.pm), (WARM_RESET.cm, WARM_RESET.pm)}
_HARMLESS = {
    request.cm for request in (CAPTURE, PROHIBIT_ENTRY, SEEK_CONTACTLESS, STATUS, STOP_INSIDE, CHIP_POWER, READER_RESET)
} | {NEGATIVE}
_HARMLESS_TAGS = {0x4F, 0x50, 0x80, 0x82, 0x84, 0x87, 0x88, 0x94, 0x9F11, 0x9F38, 0x5F2D}
"""Names of applications, where their records are, what they ask of the terminal (protocols 5.3)."""
_NUMBER_TAG, _TRACK2_TAG, _EXPIRY_TAG = 0x5A, 0x57, 0x5F24
_EXPIRY = "3012"


class CardReaderMask:
    """The mask of kind `cardreader`, for the frames of the CRT-310."""

    def __init__(self) -> None:
        self.to_device = FrameCutter(FrameDecoder(), _request)
        self.to_host = FrameCutter(FrameDecoder(), _reply)


def _request(found: Frame | Signal) -> Piece:
    if isinstance(found, Signal):
        return Piece(bytes([found]), 1)
    data = bytes(found.data)
    if (found.cm, found.pm) in _EXCHANGES:
        if data[3:4] != bytes([_SELECT]):
            data = data[:7].ljust(len(data), b"\0")  # its length, and CLA INS P1 P2 and the next length or Le
    elif found.cm not in _HARMLESS | {READ_TRACKS.cm}:
        data = bytes(len(data))
    return Piece(encode_frame(found.cm, found.pm, data), _HEAD)


def _reply(found: Frame | Signal) -> Piece:
    if isinstance(found, Signal):
        return Piece(bytes([found]), 1)
    data, command = bytes(found.data), (found.cm, found.pm)
    if found.cm == READ_TRACKS.cm:
        data = _tracks(data)
    elif command in _EXCHANGES:
        data = data[:3] + _response(data[3:-2]) + data[-2:] if len(data) >= 5 else data
    elif found.cm not in _HARMLESS and command not in _CHIP_RESETS:
        data = data[:1].ljust(len(data), b"\0")
    return Piece(encode_frame(found.cm, found.pm, data), _HEAD)


def _number(size: int) -> str:
    """Return a card number of `size` digits that checks (ISO/IEC 7812-1) and that nobody has: none begins with 999."""
    body = "999".ljust(size, "0")[: max(0, size - 1)]
    doubled = cycle(("0246813579", "0123456789"))
    total = sum(int(weights[int(digit)]) for digit, weights in zip(reversed(body), doubled, strict=False))
    return (body + str(-total % 10))[:size]


def _track2(text: str) -> str:
    """Return nobody's track 2, as long as `text`, with the separator where it was."""
    at = next((place for place, character in enumerate(text) if character in "=D"), len(text))
    return (_number(at) + text[at : at + 1] + _EXPIRY).ljust(len(text), "0")[: len(text)]


def _tracks(data: bytes) -> bytes:
    """Return nobody's stripe: track 2 as a whole, the others as zeros."""
    head, *records = data.split(b"\x1f")
    made = [head[:2].ljust(len(head), b"\0")]
    for place, record in enumerate(records):
        text = record[1:].decode("latin-1")
        if record[:1] != b"Y":
            made.append(record[:2].ljust(len(record), b"\0"))
        else:
            made.append(b"Y" + (_track2(text) if place == 1 else "0" * len(text)).encode("latin-1"))
    return b"\x1f".join(made)


def _response(data: bytes) -> bytes:
    """Return a response APDU's data with nobody's values; zeros when it is no BER-TLV."""
    made = bytearray(data)
    try:
        objects = tlv.parse(made)
    except tlv.TlvError:
        return bytes(len(data))
    covered = sum(len(item.value) for item in objects)
    if not objects or covered == 0:
        return bytes(len(data))
    for item in tlv.walk(objects):
        if not item.parts and item.tag not in _HARMLESS_TAGS:
            item.value[:] = _value(item.tag, bytes(item.value))
    return bytes(made)


def _value(tag: int, value: bytes) -> bytes:
    digits = value.hex().upper()
    if tag == _TRACK2_TAG:
        ending = "F" if digits.endswith("F") else ""
        return bytes.fromhex(_track2(digits.removesuffix("F")) + ending)
    if tag == _NUMBER_TAG:
        size = len(digits.rstrip("F"))
        return bytes.fromhex(_number(size).ljust(len(digits), "F"))
    if tag == _EXPIRY_TAG:
        return bytes.fromhex(f"{_EXPIRY}31".ljust(len(digits), "0")[: len(digits)])
    return bytes(len(value))
