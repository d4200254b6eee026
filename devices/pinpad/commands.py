"""What a PIN pad is asked, and how its answers are read; pure (T6, protocols 6.1 to 6.3).

There is a command for everything the driver does and for nothing else: none turns on plaintext keys, loads a plain
key or wipes keys. Where protocols 6.1 leaves a field open, the layout is that of the open drivers of ZT588 and ZT598.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

OK_CODES = frozenset((*range(0x60, 0xA0), 0xA0, 0xA1, 0xA3, 0xAB, *range(0xB0, 0xB8)))
"""Return codes of success (protocols 6.1)."""
TAMPERED = {0xDD: "tampered", 0xFB: "locked", 0xFF: "removed"}
"""Return codes of a pad that defends its keys."""
BATTERY_LOW = 0xE0
KEY_MISSING = frozenset((0xE4, 0xE5))

KEY_TABLE = b"3132331B343536083738390D2E3022204142434445464748"
"""The codes of the keys as protocols 6.1 gives them, on which `devices.pinpad.protocol` relies."""
MAC_BLOCK = {"sm4": 16, "3des": 8}
MAC_CHUNK = {"sm4": 480, "3des": 992}
"""Data bytes of one MAC command: whole blocks that fit a frame."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command's body, and how many bytes of data a good answer to it has.

    Nothing in the protocol says which command a reply answers, so this tells a late one from the right one.
    """

    body: bytes = field(repr=False)
    answer: range = range(1)


INFO = Request(b"3", range(1, 400))
IDENTIFY = Request(b"I", range(8, 200))
RESET = Request(b"5030")
DISABLE_KEYPAD = Request(b"5032")
START_ENTRY = Request(b"600012")
"""The form of protocols 6.1: digits come as '*', and the clear key takes all of them back."""


def set_key_table(table: bytes = KEY_TABLE) -> Request:
    """Set the codes of the keys: 24 in hexadecimal."""
    return Request(b"4" + table)


def set_time_limit(seconds: int) -> Request:
    """Set after how many seconds (1 to 255) the pad ends an entry by itself."""
    return Request(b"52%02X" % seconds)


def set_shortest(digits: int) -> Request:
    """Set the fewest digits of a PIN; two decimal digits."""
    return Request(b"54%02d" % digits)


def set_longest(digits: int) -> Request:
    """Set the most digits of a PIN; two decimal digits."""
    return Request(b"55%02d" % digits)


class KeyUse(StrEnum):
    """What a 3DES working key may be used for (command 2)."""

    PIN = "3"
    MAC = "5"


def load_sm4_key(master: int, slot: int, wrapped: bytes) -> Request:
    """Load an SM4 working key of 16 bytes, encrypted under the master key; the answer is its KCV."""
    return Request(b"c30%02X%02X%b" % (master, slot, _hex(wrapped)), range(6, 33))


def load_des_key(master: int, slot: int, use: KeyUse, wrapped: bytes) -> Request:
    """Load a 3DES working key of 16 or 24 bytes, encrypted under the master key; the answer is its KCV."""
    form = b"%02X%02X%b%d" % (master, slot, use.encode(), len(wrapped) // 8)
    return Request(b"2" + form + _hex(wrapped), range(6, 33))


def get_pin_block(algorithm: str, slot: int, pan12: str) -> Request:
    """Ask for the PIN entered, encrypted: SM4 form 0 of 16 bytes, or ISO 9564 form 0 under 3DES."""
    if algorithm == "sm4":
        return Request(b"o%02X0%b" % (slot, pan12.encode("ascii")), range(36, 37))
    return Request(b"7%02X %b" % (slot, pan12.encode("ascii")), range(20, 21))


def get_mac(algorithm: str, slot: int, start: bytes, data: bytes) -> Request:
    """Ask for a CBC-MAC that goes on from `start`; `data` is whole blocks, at most MAC_CHUNK."""
    if algorithm == "sm4":
        return Request(b"e%02X%b43%b" % (slot, _hex(start), _hex(data)), range(32, 33))
    first = bytes(a ^ b for a, b in zip(start, data, strict=False))
    return Request(b"8%02XA%b" % (slot, first + data[len(first) :]), range(16, 17))


def _hex(data: bytes) -> bytes:
    return data.hex().upper().encode("ascii")


class Info(NamedTuple):
    """What a pad says of itself (command 3)."""

    model: str
    serial: str
    firmware: str
    key_table: bytes
    initialised: bool


_USER_AREA, _TABLE, _SETTINGS, _FUNCTIONS, _MODEL, _HARDWARE, _FIRMWARE, _SERIAL = 50, 48, 20, 8, 6, 3, 3, 8
_BLANK = 0x01


def encode_info(info: Info) -> bytes:
    """Return the data of an answer to INFO; the rig's pad says it."""
    settings = (b"00" if info.initialised else b"01") + b"0" * (_SETTINGS - 2)
    model, serial = info.model.ljust(_MODEL).encode("ascii"), info.serial.encode("ascii")
    versions = b"1.0" + info.firmware.encode("ascii")
    return b" " * _USER_AREA + info.key_table + settings + b" " * _FUNCTIONS + model + versions + serial


def parse_info(data: bytes | bytearray) -> Info:
    """Read the data of an answer to INFO; raise ValueError when it is too short, or not text where it should be."""
    at = _USER_AREA
    fields: list[bytes] = []
    for size in (_TABLE, _SETTINGS, _FUNCTIONS, _MODEL, _HARDWARE, _FIRMWARE, _SERIAL):
        fields.append(bytes(data[at : at + size]))
        at += size
    if len(data) < at:
        raise ValueError(f"{len(data)} bytes instead of {at}")
    table, settings, _, model, _, firmware, serial = fields
    blank = int(settings[:2], 16) & _BLANK
    return Info(_text(model), _text(serial), _text(firmware), table.upper(), initialised=not blank)


def _text(part: bytes) -> str:
    text = part.decode("ascii").strip()
    if not text.isprintable():
        raise ValueError("no printable text")
    return text
