"""Recording the ID-card reader: a card becomes nobody's; of other data only the security module's number is kept."""

from devices.idcard.fingers import MOST_RECORDS, FingerPosition, make_record
from devices.idcard.layout import CitizenText, encode_text_block
from devices.idcard.numbers import check_digit
from devices.idcard.protocol import (
    ADDRESS_BYTES,
    PHOTO_BYTES,
    SAM_ID_BYTES,
    SHORTEST_REPLY,
    SHORTEST_REQUEST,
    TEXT_BYTES,
    Command,
    FrameDecoder,
    encode_frame,
)
from devices.masking.pieces import FrameCutter, Piece

_BIRTH = "19900101"
_NUMBER = f"990101{_BIRTH}001"
"""No province has the code 99, so it is nobody's."""
_NOBODY = CitizenText(
    "样本", "1", "01", _BIRTH, "样本市样本路1号", _NUMBER + check_digit(_NUMBER), "样本市公安局", "20200101", "长期"
)
_SIZES = TEXT_BYTES.to_bytes(2, "big") + PHOTO_BYTES.to_bytes(2, "big")
_FINGERS = make_record(FingerPosition.RIGHT_THUMB) * MOST_RECORDS
_ADDRESS = "样本市样本路2号".encode("utf-16-le").ljust(ADDRESS_BYTES, b"\0")


class IdCardMask:
    """The mask of kind `idcard`."""

    def __init__(self) -> None:
        self._asked = 0
        self.to_device = FrameCutter(FrameDecoder(shortest=SHORTEST_REQUEST), self._request)
        self.to_host = FrameCutter(FrameDecoder(shortest=SHORTEST_REPLY), self._reply)

    def _request(self, body: bytearray) -> Piece:
        self._asked = int.from_bytes(body[:2], "big")
        return Piece(encode_frame(bytes(body[:2]).ljust(len(body), b"\0")), 9)

    def _reply(self, body: bytearray) -> Piece:
        data = bytes(body[3:])
        if self._asked == Command.ADDRESS and len(data) % ADDRESS_BYTES == 0:
            data = _ADDRESS * (len(data) // ADDRESS_BYTES)
        elif self._asked != Command.SAM_ID or len(data) != SAM_ID_BYTES:
            data = _card(data)
        return Piece(encode_frame(bytes(body[:3]) + data), 10)


def _card(data: bytes) -> bytes:
    """Return nobody's card for the data of a READ reply, zeros for anything else (protocols 1.5)."""
    blocks = encode_text_block(_NOBODY) + bytes(PHOTO_BYTES)
    if data[:4] != _SIZES or len(data) < 4 + len(blocks):
        return bytes(len(data))
    sizes = data[:4] if len(data) == 4 + len(blocks) else data[:6]
    return (sizes + blocks + _FINGERS)[: len(data)].ljust(len(data), b"\0")
