"""The rig's bank-card reader: a CRT-310 with a motor, a bin, and whatever a hand does to it (protocols 5.1)."""

from collections.abc import Callable

from devices.cardreader.protocol import (
    Frame,
    FrameDecoder,
    Outcome,
    Position,
    Reason,
    Signal,
    encode_frame,
    encode_refusal,
    join_tracks,
)
from devices.driver import Damage
from sim.devices.bankcard import BankCard
from sim.wire import Verbs

VERSION = b"CRT 310 V3.0"
SERIAL_NUMBER = b"CRT310-0000001"
_BLANK = 0xE5
_INSIDE = frozenset({Position.INSIDE, Position.CONTACT})


class VirtualCardReader:
    """A reader and the card in it. As the document has it, it executes on ENQ; with `early` at once, as some do.

    After power-on its entry is open at both sides, as that of the real one.
    """

    def __init__(self, *, early: bool = False) -> None:
        self.early = early
        self.position = Position.NONE
        self.card: BankCard | None = None
        self.bin: list[BankCard] = []
        self.entry = self.rear_entry = True
        self.shutter = True
        self.asked: list[tuple[int, int]] = []
        self._decoder = FrameDecoder()
        self._pending: Frame | None = None
        self._powered = self._mute = self._silent = self._jammed = self._pulled = False
        self._stuck = self._naks = 0

    @property
    def verbs(self) -> Verbs:
        """What a hand can do at the reader."""
        return {
            "insert_card": self.insert_card,
            "take_card": self.take_card,
            "jam": self.jam,
            "stick_card": self.stick_card,
            "pull_back_mid_read": self.pull_back_mid_read,
            "no_shutter": self.no_shutter,
            "blank_tracks": self.blank_tracks,
            "mute_chip": self.mute_chip,
            "nak_next": self.nak_next,
            "silent": self.silent,
            "power_cycle": self.power_cycle,
        }

    def insert_card(self, **features: object) -> None:
        """Put a bank card in (any feature of a BankCard can be given); raise ValueError when it does not go in."""
        if not self.entry:
            raise ValueError("the entry is shut")
        if self.position is not Position.NONE:
            raise ValueError("there is a card already")
        self.card, self.position = BankCard(**features), Position.INSIDE  # type: ignore[arg-type]

    def take_card(self) -> None:
        """Take the card from the gate; raise ValueError when there is none."""
        if self.position not in {Position.GATE_LOOSE, Position.GATE_HELD}:
            raise ValueError("no card is at the gate")
        self._remove()

    def jam(self, *, jammed: bool = True) -> None:
        """Jam the card where it is, or free it: no move works, and the reader says so."""
        self._jammed = jammed

    def stick_card(self, times: int = 1) -> None:
        """Let the next moves be told as done while the card stays where it is."""
        self._stuck = times

    def pull_back_mid_read(self) -> None:
        """Let the citizen pull the card out when it is read the next time."""
        self._pulled = True

    def no_shutter(self) -> None:
        """Be a model without a shutter: entry by the magnetic signal is refused."""
        self.shutter = False

    def blank_tracks(self) -> None:
        """Wipe the stripe; raise ValueError when there is no card."""
        self._here().tracks = {}

    def mute_chip(self, *, mute: bool = True) -> None:
        """Let the chip answer no reset, or let it answer again."""
        self._mute = mute

    def nak_next(self, times: int = 1) -> None:
        """Refuse the next frames (NAK), as if they came damaged."""
        self._naks = times

    def silent(self, *, silent: bool = True) -> None:
        """Answer nothing, or answer again."""
        self._silent = silent

    def power_cycle(self) -> None:
        """Lose the power and get it back: the entry is open again, the card stays where it is."""
        self.entry = self.rear_entry = True
        self._pending, self._powered = None, False
        self._decoder.reset()

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return what the reader says."""
        said = b"".join(map(self._hear, self._decoder.feed(data)))
        return b"" if self._silent else said

    def _hear(self, found: Frame | Signal | Damage) -> bytes:
        if isinstance(found, Damage) or (isinstance(found, Frame) and self._naks):
            self._naks = max(0, self._naks - 1)
            return bytes([Signal.NAK])
        if isinstance(found, Frame):
            self._pending = found
            acknowledged = bytes([Signal.ACK])
            return acknowledged + self._execute() if self.early else acknowledged
        if found is Signal.ENQ:
            return self._execute()
        if found is Signal.EOT:
            self._pending = None
            return bytes([Signal.EOT])
        return b""

    def _execute(self) -> bytes:
        frame, self._pending = self._pending, None
        if frame is None or self._silent:
            return b""
        self.asked.append((frame.cm, frame.pm))
        work: dict[int, Callable[[Frame], bytes | Reason]] = {
            0x30: self._reset,
            0x31: self._status,
            0x2E: lambda _: self._done(),
            0x2F: self._entry,
            0x32: self._move,
            0x33: self._power,
            0x35: lambda _: self._done(done=self.position in _INSIDE),
            0x37: self._chip,
            0x45: self._read,
        }
        answer = work[frame.cm](frame) if frame.cm in work else Reason.BAD_COMMAND
        if isinstance(answer, Reason):
            return encode_refusal(frame.cm, answer)
        return encode_frame(frame.cm, frame.pm, answer)

    @staticmethod
    def _done(*, done: bool = True) -> bytes:
        return bytes([Outcome.OK if done else Outcome.FAILED])

    def _reset(self, frame: Frame) -> bytes:
        if frame.pm == 0x3A:
            return SERIAL_NUMBER
        self.entry = self.rear_entry = True
        self._powered = False
        return VERSION

    def _status(self, frame: Frame) -> bytes | Reason:
        if frame.pm != 0x30:
            return Reason.BAD_PARAMETER
        return bytes([self.position, 0x4A if self.entry else 0x4E, 0x4A if self.rear_entry else 0x4E])

    def _entry(self, frame: Frame) -> bytes | Reason:
        if frame.pm not in range(0x31, 0x35) or bytes(frame.data) not in (b"\x30", b"\x31"):
            return Reason.BAD_PARAMETER
        if not self.shutter and frame.pm in {0x32, 0x34}:
            return Reason.NOT_NOW
        self.entry = frame.pm != 0x31
        self.rear_entry = frame.data == b"\x30"
        return bytes(frame.data) + self._done()

    def _move(self, frame: Frame) -> bytes | Reason:
        goals = {0x2F: Position.CONTACT, 0x30: Position.GATE_LOOSE, 0x31: Position.GATE_HELD, 0x33: Position.CAPTURED}
        if frame.pm not in goals:
            return Reason.BAD_PARAMETER
        if self.card is None:
            return bytes([Outcome.NO_CARD])
        if self._jammed:
            return Reason.ABNORMAL_CARD
        if self._stuck:
            self._stuck -= 1
            return self._done()
        self._powered = False
        self.position = goals[frame.pm]
        if self.position is Position.CAPTURED:
            self.bin.append(self.card)
            self._remove()
        return self._done()

    def _power(self, frame: Frame) -> bytes:
        self._powered = frame.pm == 0x30 and self.position is Position.CONTACT
        return self._done(done=frame.pm == 0x31 or self._powered)

    def _chip(self, frame: Frame) -> bytes | Reason:
        if self._pulled:
            self._remove()
        if self.card is None:
            return bytes([Outcome.NO_CARD])
        if not self._powered or self._mute or not self.card.chip:
            return self._done(done=False)
        if frame.pm in {0x2F, 0x30}:
            self.card.reset()
            outcome = Outcome.OK_T1 if self.card.t1 else Outcome.OK
            return bytes([outcome]) + _counted(self.card.atr)
        if frame.pm != (0x32 if self.card.t1 else 0x31):
            return self._done(done=False)
        return bytes([Outcome.OK]) + _counted(self.card.transmit(bytes(frame.data[2:])))

    def _read(self, frame: Frame) -> bytes | Reason:
        if self._pulled:
            self._remove()
        if self.card is None:
            return bytes([Outcome.NO_CARD])
        if bytes(frame.data) != b"\x30\x37":
            return Reason.BAD_PARAMETER
        return join_tracks(0x37, [self.card.tracks.get(number, _BLANK) for number in (1, 2, 3)])

    def _here(self) -> BankCard:
        if self.card is None:
            raise ValueError("there is no card")
        return self.card

    def _remove(self) -> None:
        self.card, self.position = None, Position.NONE
        self._powered = self._pulled = self._jammed = False
        self._stuck = 0


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
