"""Recording the PIN pad: keys, messages, card numbers and PIN blocks become zeros, and a digit in clear a 0."""

from devices.masking.pieces import FrameCutter, Piece
from devices.pinpad.protocol import (
    CLEAR_DIGITS,
    FUNCTION_KEYS,
    LONGEST_REQUEST,
    PIN_KEYS,
    Frame,
    FrameDecoder,
    encode,
)

_HEAD = 5
"""STX, the length, and the command or return code."""
_HARMLESS = frozenset(b"3I456")
"""Information, serial number, key table, settings, begin of an entry; their answers too."""
_PIN_BLOCKS = {1 + 20, 1 + 36}
"""Sizes of an answer with a PIN block: a late one may come behind another request."""
_KEYS = {**PIN_KEYS, **FUNCTION_KEYS}


class PinPadMask:
    """The mask of kind `pinpad`."""

    def __init__(self) -> None:
        self._asked = 0
        self.to_device = FrameCutter(FrameDecoder(longest=LONGEST_REQUEST), self._request)
        self.to_host = FrameCutter(FrameDecoder(longest=LONGEST_REQUEST), self._reply, noise=_keys)

    def _request(self, frame: Frame) -> Piece:
        self._asked = frame.code
        return self._piece(frame, harmless=self._asked in _HARMLESS)

    def _reply(self, frame: Frame) -> Piece:
        return self._piece(frame, harmless=self._asked in _HARMLESS and len(frame.body) not in _PIN_BLOCKS)

    @staticmethod
    def _piece(frame: Frame, *, harmless: bool) -> Piece:
        body = bytes(frame.body)
        if not harmless:
            body = body[:1].ljust(len(body), b"0")
        return Piece(encode(body), _HEAD)


def _keys(raw: bytes) -> bytes:
    """Return the keys that hold no digit, 0 for every digit in clear, and zeros for noise."""
    return bytes(byte if byte in _KEYS else 0x30 if byte in CLEAR_DIGITS else 0 for byte in raw)
