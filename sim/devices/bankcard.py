"""A synthetic bank card: magnetic tracks and a chip with a directory and one UnionPay application (protocols 5.3)."""

from dataclasses import dataclass, field

from devices.cardreader.emv import PPSE, PSE, UNIONPAY
from devices.cardreader.tlv import encode

NUMBER = "6222021234567894"
"""A number with a right check digit that no bank issued (protocols 5.3)."""

ATR = bytes.fromhex("3B 69 00 00 4A 43 4F 50 33 31 56 32 32")
"""The T=0 chip of protocols 5.1."""

_NOT_FOUND = b"\x6a\x82"
_NO_RECORD = b"\x6a\x83"
_OK = b"\x90\x00"


@dataclass
class BankCard:
    """One card. `chip` says whether it has one, `t1` whether that speaks T=1; `blocked` refuses every selection."""

    number: str = NUMBER
    expiry: str = "3012"
    label: str = "UnionPay Debit"
    application: bytes = UNIONPAY[0]
    directory: bool = True
    chip: bool = True
    t1: bool = False
    blocked: bool = False
    tracks: dict[int, bytes] = field(default_factory=dict)
    _selected: bytes = b""
    _waiting: bytes = b""

    def __post_init__(self) -> None:
        if not self.tracks:
            account = f"{self.number}={self.expiry}2200000000000".encode()
            self.tracks = {2: account, 3: b"99" + self.number.encode() + b"=1561560000000000000000"}

    @property
    def atr(self) -> bytes:
        """What the chip says when it is reset."""
        return b"\x3b\x80\x01\x81" if self.t1 else ATR

    def reset(self) -> None:
        """Forget what was selected."""
        self._selected = self._waiting = b""

    def transmit(self, command: bytes) -> bytes:
        """Return the response APDU; over T=0 data that was not asked for by its length is announced (61xx, 6Cxx)."""
        if command[1:2] == b"\xc0":
            waiting, self._waiting = self._waiting, b""
            return waiting + _OK
        answer = self._answer(command)
        if self.t1 or len(answer) == 2:
            return answer
        data = answer[:-2]
        if command[1:2] == b"\xb2":
            return answer if command[-1] == len(data) else bytes([0x6C, len(data)])
        self._waiting = data
        return bytes([0x61, len(data)])

    def _answer(self, command: bytes) -> bytes:
        match command[1:2]:
            case b"\xa4":
                return self._select(command[5 : 5 + command[4]])
            case b"\xa8":
                return self._options()
            case b"\xb2":
                record = self._records().get((self._selected, command[3] >> 3, command[2]))
                return _NO_RECORD if record is None else record + _OK
        return b"\x6d\x00"

    def _select(self, name: bytes) -> bytes:
        entry = encode(0x4F, self.application) + encode(0x50, self.label.encode()) + encode(0x87, b"\x01")
        about = {
            PSE: encode(0x88, b"\x01") + encode(0x5F2D, b"zhen") + encode(0x9F11, b"\x01"),
            PPSE: encode(0xBF0C, encode(0x61, entry)),
            self.application: encode(0x50, self.label.encode()) + encode(0x9F38, bytes.fromhex("9F1A02 9F3704")),
        }
        if self.blocked:
            return b"\x6a\x81"
        if name not in about or (name in {PSE, PPSE} and not self.directory):
            return _NOT_FOUND
        self._selected = name
        return encode(0x6F, encode(0x84, name) + encode(0xA5, about[name])) + _OK

    def _options(self) -> bytes:
        if self._selected != self.application:
            return b"\x69\x85"
        return encode(0x80, bytes.fromhex("7C00 08010100 10010200")) + _OK

    def _records(self) -> dict[tuple[bytes, int, int], bytes]:
        """Return the records by selected name, file and number."""
        entry = encode(0x4F, self.application) + encode(0x50, self.label.encode()) + encode(0x87, b"\x01")
        track2 = f"{self.number}D{self.expiry}2200000000000"
        contents = {
            (PSE, 1, 1): encode(0x61, entry),
            (self.application, 1, 1): encode(0x57, _packed(track2)),
            (self.application, 2, 1): encode(0x5A, _packed(self.number)) + encode(0x5F34, b"\x01"),
            (self.application, 2, 2): encode(0x5F24, bytes.fromhex(self.expiry + "31")),
        }
        return {place: encode(0x70, content) for place, content in contents.items()}


def _packed(digits: str) -> bytes:
    return bytes.fromhex(digits + "F" * (len(digits) % 2))
