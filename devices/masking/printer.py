"""Recording the printer: what is printed becomes blank or meaningless, as long as it was."""

from devices.masking.pieces import Piece

_LENGTHS = {
    b"\x10\x04": 3,
    b"\x10\x05": 3,
    b"\x1b@": 2,
    b"\x1bJ": 3,
    b"\x1ba": 3,
    b"\x1bd": 3,
    b"\x1c&": 2,
    b"\x1c.": 2,
    b"\x1cW": 3,
    b"\x1d!": 3,
    b"\x1dI": 3,
    b"\x1da": 3,
    b"\x1dr": 3,
}
"""Commands that print nothing of their own, and their lengths (protocols 3.1, 3.2)."""
_LEADS = frozenset(b"\x0a\x10\x1b\x1c\x1d")
_CUT, _PRESENTER, _RASTER, _QR = b"\x1dV", b"\x1de", b"\x1dv", b"\x1d("
_SHOWN = 64
_LARGEST = 1 << 20
"""A raster command that says more is none: what is held of the wire is bounded."""


class PrinterMask:
    """The mask of kind `printer`. What the printer says is its status and kept as it is."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def to_device(self, data: bytes) -> list[Piece]:
        """Cut what the terminal says into commands and text."""
        self._buffer += data
        pieces = []
        while length := self._length():
            pieces.append(_masked(bytes(self._buffer[:length])))
            del self._buffer[:length]
        return pieces

    def to_host(self, data: bytes) -> list[Piece]:
        """Keep what the printer says."""
        return [Piece(data, len(data))] if data else []

    def _length(self) -> int:
        """Return the length of the first command or run of text; 0 when it is not all there."""
        buffer = self._buffer
        if not buffer:
            return 0
        if buffer[0] not in _LEADS:
            return next((at for at, byte in enumerate(buffer) if byte in _LEADS), len(buffer))
        if buffer[0] == 0x0A:
            return 1
        if len(buffer) < 2:
            return 0
        length = self._command_length(bytes(buffer[:8]))
        return length if length <= len(buffer) else 0

    def _command_length(self, head: bytes) -> int:
        """Return the length of the command that begins like this; 8, more than there is, when that is not known yet."""
        name = head[:2]
        if name == _CUT:
            return 8 if len(head) < 3 else 4 if head[2] in {0x41, 0x42} else 3
        if name == _PRESENTER:
            return 8 if len(head) < 3 else 4 if head[2] == 0x03 else 3
        if name == _RASTER:
            if len(head) < 8:
                return 8
            size = 8 + int.from_bytes(head[4:6], "little") * int.from_bytes(head[6:8], "little")
            return size if size <= _LARGEST else 1
        if name == _QR:
            return 8 if len(head) < 5 else 5 + int.from_bytes(head[3:5], "little")
        return _LENGTHS.get(name, 1)


def _masked(piece: bytes) -> Piece:
    name = piece[:2]
    if name == _RASTER:
        return Piece(piece[:8].ljust(len(piece), b"\0"), 8)
    if name == _QR and piece[5:7] == b"1P":
        return Piece(piece[:8].ljust(len(piece), b"0"), 8)
    if name in {_CUT, _PRESENTER, _QR} or name in _LENGTHS or piece == b"\n":
        return Piece(piece, min(len(piece), _SHOWN))
    return Piece(_text(piece), 0)


def _text(run: bytes) -> bytes:
    """Return the same number of characters of each width (protocols 3.1): x for ASCII, 样 for two bytes."""
    made = bytearray()
    while len(made) < len(run):
        byte = run[len(made)]
        if byte >= 0x80 and len(made) + 1 < len(run):
            made += "样".encode("gbk")
        else:
            made += b"x" if byte >= 0x20 else b"\0"
    return bytes(made)
