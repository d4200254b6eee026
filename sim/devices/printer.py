"""A virtual receipt printer: the ESC/POS subset of protocols 3, with the habits that hurt (protocols 3.6).

It acts on real-time commands inside picture data, keeps what it was sent while offline and prints it after the
refill, answers GS r only when its turn comes, and ends automatic status at ESC @.
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from devices.printer.decoder import XOFF, XON
from devices.printer.protocol import Condition
from sim.devices.escpos import Interpreter
from sim.devices.paper import Paper, millimetres
from sim.wire import Verbs

_REAL_TIME = re.compile(rb"\x10(?:\x04[\x01-\x04]|\x05[\x01\x02])")
_BUFFER_BYTES = 65_536
_XOFF_BYTES, _XON_BYTES = 4_096, 1_024
_LONGEST_PIECE_DOTS = 40_000
_PIECES_KEPT = 64
_ERRORS = ("recoverable", "cutter_error", "unrecoverable", "overheated")
_CAUSES = ("cover_open", "feeding", "paper_end", *_ERRORS)


class VirtualPrinter:
    """A receipt printer without I/O and without a clock; it prints at once, `Paper.seconds_at` says how long it takes.

    Each piece with something on it goes to `on_paper` and to `papers` (the last 64); blank pieces are counted in
    `scraps`. After a verb, `feed(b"")` returns what the printer says by itself. With a `presenter` (GS e) each piece
    waits inside after its cut; `outlet` is what is held out, `retracted` what was taken back. `font` is a font file
    with Chinese glyphs; without it captions are drawn with Pillow's own font.
    """

    def __init__(
        self,
        *,
        width_dots: int = 576,
        font: Path | None = None,
        on_paper: Callable[[Paper], None] | None = None,
        serial_number: str | None = "VIRTUAL",
        presenter: bool = False,
    ) -> None:
        self.width_dots = width_dots
        self.condition = Condition.idle()
        self.papers: deque[Paper] = deque(maxlen=_PIECES_KEPT)
        self.scraps = 0
        self.outlet: Paper | None = None
        self.retracted: deque[Paper] = deque(maxlen=_PIECES_KEPT)
        self._serial_number = serial_number
        self._presenter = presenter
        self._inside: Paper | None = None
        self._presenter_jammed = False
        self._off = False
        self._on_paper = on_paper
        self._interpreter = Interpreter(width_dots, font, self._answer)
        self._buffer = bytearray()
        self._automatic = False
        self._mute = False
        self._stopped = False
        self._stop: tuple[int, str] | None = None
        self._tail = b""
        self._say = bytearray()
        self._hanging = bytearray()

    @property
    def verbs(self) -> Verbs:
        """What can be done to the printer by hand."""
        return {
            "paper_out": self.paper_out,
            "refill": self.refill,
            "near_end": self.near_end,
            "open_cover": self.open_cover,
            "close_cover": self.close_cover,
            "cutter_jam": self.cutter_jam,
            "head_hot": self.head_hot,
            "heal": self.heal,
            "silent": self.silent,
            "power_off": self.power_off,
            "power_on": self.power_on,
            "take_receipt": self.take_receipt,
            "presenter_jam": self.presenter_jam,
        }

    @property
    def hanging(self) -> Paper:
        """What is printed and not cut off yet."""
        return Paper(self.width_dots, bytes(self._hanging))

    def paper_out(self, after_millimetres: float = 0.0) -> None:
        """Let the paper end, now or after some more was printed."""
        self._fail_after(after_millimetres, "paper_end")

    def open_cover(self, after_millimetres: float = 0.0) -> None:
        """Open the cover, now or after some more was printed."""
        self._fail_after(after_millimetres, "cover_open")

    def cutter_jam(self, after_millimetres: float = 0.0) -> None:
        """Jam the cutter, now or after some more was printed."""
        self._fail_after(after_millimetres, "cutter_error")

    def head_hot(self, after_millimetres: float = 0.0) -> None:
        """Overheat the head, now or after some more was printed."""
        self._fail_after(after_millimetres, "overheated")

    def refill(self) -> None:
        """Put in a new roll."""
        self._change(paper_end=False, near_end=False)

    def near_end(self) -> None:
        """Let the roll come near its end."""
        self._change(near_end=True)

    def close_cover(self) -> None:
        """Close the cover."""
        self._change(cover_open=False)

    def heal(self) -> None:
        """End all faults, and the silence."""
        self._mute = self._presenter_jammed = False
        self._stop = None
        self._change(near_end=False, **dict.fromkeys(_CAUSES, False))

    def silent(self) -> None:
        """Stop answering, and go on printing: the line back to the terminal is broken."""
        self._mute = True

    def power_off(self) -> None:
        """Switch the printer off: what it held is forgotten, what is printed hangs out."""
        self._off = True
        self._buffer.clear()
        self._interpreter.clear()
        self._interpreter.reset()
        self._tail = b""
        self._automatic = self._stopped = False
        self._say.clear()

    def power_on(self) -> None:
        """Switch it on again: it hears what comes from now on, from the middle of a command on."""
        self._off = False

    def take_receipt(self) -> None:
        """Take what is held out."""
        self.outlet = None

    def presenter_jam(self) -> None:
        """Jam the presenter until `heal`: nothing is held out or taken back any more."""
        self._presenter_jammed = True

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return what the printer says; any bytes will do."""
        if self._off:
            return b""
        taken = 0
        for found in _REAL_TIME.finditer(seen := self._tail + data):
            upto = found.end() - len(self._tail)
            self._receive(data[taken:upto])
            taken = upto
            self._act(found[0])
        self._receive(data[taken:])
        self._tail = seen[-2:]
        said = b"" if self._mute else bytes(self._say)
        self._say.clear()
        return said

    def _receive(self, data: bytes) -> None:
        """Put bytes into the buffer, where they wait while the printer is offline; what it cannot hold is lost."""
        self._buffer += data
        self._run()
        if self.condition.offline:
            del self._buffer[_BUFFER_BYTES:]
        if len(self._buffer) > _XOFF_BYTES and self.condition.offline and not self._stopped:
            self._stopped = True
            self._say.append(XOFF)
        elif len(self._buffer) < _XON_BYTES and self._stopped:
            self._stopped = False
            self._say.append(XON)

    def _act(self, command: bytes) -> None:
        """Do a real-time command: answer DLE EOT, or clear all that is not printed on DLE ENQ 2."""
        if command[1] == 0x04:
            self._say.append(self.condition.reply(command[2]))
        elif command[2] == 0x02:
            self._buffer.clear()
            self._interpreter.clear()
            self._receive(b"")

    def _change(self, **fields: bool) -> None:
        """Change the condition, say so when asked to, and go on with what waited."""
        before, now = self.condition, replace(self.condition, **fields)
        now = replace(now, offline=any(getattr(now, cause) for cause in _CAUSES), paper_stop=now.paper_end)
        self.condition = replace(now, error=any(getattr(now, error) for error in _ERRORS))
        if self._automatic and self.condition != before:
            self._say += self.condition.automatic()
        if before.offline and not self.condition.offline:
            self._receive(b"")

    def _fail_after(self, after_millimetres: float, cause: str) -> None:
        dots = round(after_millimetres / millimetres(1))
        if dots <= 0:
            self._change(**{cause: True})
        else:
            self._stop = (dots, cause)

    def _run(self) -> None:
        """Print and read commands in turn until nothing is left or something stops the mechanism."""
        self._work()
        while not self.condition.offline and (length := self._interpreter.step(self._buffer)):
            del self._buffer[:length]
            self._work()

    def _work(self) -> None:
        """Move the paper: one row a step, or a cut (None)."""
        rows = self._interpreter.output
        while rows and not self.condition.offline:
            row = rows.popleft()
            if row is not None:
                self._hanging += row
            if row is None or len(self._hanging) >= _LONGEST_PIECE_DOTS * self.width_dots // 8:
                self._drop()
            elif self._stop is not None:
                dots, cause = self._stop
                self._stop = (dots - 1, cause) if dots > 1 else None
                if self._stop is None:
                    self._change(**{cause: True})

    def _answer(self, command: bytes, argument: int) -> None:
        """Do or answer what waited in the print queue for its turn."""
        if command == b"\x1b@":
            self._automatic = False
        elif command == b"\x1da":
            self._automatic = argument & 0x0E != 0
            if self._automatic:
                self._say += self.condition.automatic()
        elif command == b"\x1dI":
            self._identify(argument)
        elif command == b"\x1de":
            self._move_receipt(argument)
        elif argument in (1, 0x31):
            self._say.append(0x0C * bool(self.condition.paper_end) | 0x03 * bool(self.condition.near_end))
        else:
            self._say.append(0)

    def _identify(self, n: int) -> None:
        if n <= 3:
            self._say.append(n)
        elif n != 0x44:
            self._say += b"\x5fRIG\x00"
        elif self._serial_number is not None:
            self._say += b"\x5f%s\x00" % self._serial_number.encode("ascii")

    def _move_receipt(self, n: int) -> None:
        """Do GS e 2 (take back), 3 (hold out) or 6 (tell)."""
        if not self._presenter:
            return
        if n == 0x06:
            self._say.append(0x08 * (self.outlet is not None) | 0x80 * self._presenter_jammed)
        elif not self._presenter_jammed and n == 0x03:
            self.outlet, self._inside = self._inside or self.outlet, None
        elif not self._presenter_jammed and n == 0x02:
            self.retracted.extend(paper for paper in (self.outlet, self._inside) if paper and not paper.blank)
            self.outlet = self._inside = None

    def _drop(self) -> None:
        paper = self.hanging
        self._inside = paper
        self._hanging.clear()
        if paper.blank:
            self.scraps += 1
            return
        self.papers.append(paper)
        if self._on_paper is not None:
            self._on_paper(paper)
