"""What a receipt printer says: one stream of status bytes taken apart (protocols 3.2 to 3.6). No clock, no I/O."""

from dataclasses import dataclass

XON, XOFF = 0x11, 0x13
PAPER_ANSWERS = frozenset((0x00, 0x03, 0x0C, 0x0F))
_TEXT_BEGIN = 0x5F
_LONGEST_TEXT = 64


@dataclass(frozen=True, slots=True)
class Flow:
    """XOFF (stopped) or XON."""

    stopped: bool


@dataclass(frozen=True, slots=True)
class RealTimeReply:
    """The answer to DLE EOT n."""

    n: int
    byte: int


@dataclass(frozen=True, slots=True)
class AutomaticStatus:
    """An automatic status, 4 bytes."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class PaperReply:
    """The answer to GS r 1; `paper_end` says that its sensor sees no paper."""

    paper_end: bool


@dataclass(frozen=True, slots=True)
class SerialNumber:
    """The answer to GS I 68; empty when it is not printable ASCII."""

    text: str


@dataclass(frozen=True, slots=True)
class PresenterReply:
    """The answer to GS e 6."""

    at_outlet: bool
    moving: bool
    jammed: bool

    @classmethod
    def from_byte(cls, byte: int) -> "PresenterReply":
        """Read the ejector's status byte: b3 receipt at the outlet, b5 its motor runs, b6 error, b7 jam."""
        return cls(at_outlet=bool(byte & 0x08), moving=bool(byte & 0x20), jammed=bool(byte & 0xC0))


Event = Flow | RealTimeReply | AutomaticStatus | PaperReply | SerialNumber | PresenterReply


class StatusDecoder:
    """Takes apart the printer's one stream of status bytes (protocols 3.5). Total on any bytes; holds at most 64.

    A byte tells what it is, but not which question it answers: set `asked` to the n of DLE EOT before asking, and
    `paper_asked`, `serial_asked` or `presenter_asked` before GS r 1, GS I or GS e 6; the answer resets them. Bytes
    that answer nothing are counted in `strays`, but for a late answer to DLE EOT, which looks like nothing else.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.paper_asked = False
        self.serial_asked = False
        self.presenter_asked = False
        self.strays = 0
        self._frame = bytearray()
        self._text: bytearray | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return what the bytes say, in order."""
        return [event for byte in data if (event := self._take(byte)) is not None]

    def _take(self, byte: int) -> Event | None:
        if byte in (XON, XOFF):
            return Flow(stopped=byte == XOFF)
        if self._text is not None:
            return self._spell(self._text, byte)
        if byte & 0x93 == 0x12:
            n, self.asked = self.asked, None
            return RealTimeReply(n, byte) if n is not None else None
        if byte & 0x93 == 0x10:
            self.strays += len(self._frame)
            self._frame[:] = (byte,)
            return None
        return self._follow(byte)

    def _follow(self, byte: int) -> Event | None:
        """Take a byte that has a meaning only after another: the rest of a frame, or the answer to a question."""
        if self._frame and byte & 0x90 == 0:
            self._frame.append(byte)
            if len(self._frame) < 4:
                return None
            frame = bytes(self._frame)
            self._frame.clear()
            return AutomaticStatus(frame)
        if self.paper_asked and byte in PAPER_ANSWERS:
            self.paper_asked = False
            return PaperReply(paper_end=bool(byte & 0x0C))
        if self.serial_asked and byte == _TEXT_BEGIN:
            self.serial_asked, self._text = False, bytearray()
            return None
        if self.presenter_asked and byte & 0x12 == 0:
            self.presenter_asked = False
            return PresenterReply.from_byte(byte)
        self.strays += 1
        return None

    def _spell(self, text: bytearray, byte: int) -> Event | None:
        """Take the next byte of a serial number."""
        if byte and len(text) < _LONGEST_TEXT:
            text.append(byte)
            return None
        self._text = None
        good = byte == 0 and all(0x21 <= letter <= 0x7E for letter in text)
        return SerialNumber(text.decode("ascii") if good else "")
