"""Recording a wire with times, masked before anything is kept, and playing a recording back as a device (F10, T21)."""

import asyncio
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from devices.link import FlowControl, Link, OpenLink
from devices.masking.pieces import Mask, Piece

Direction = Literal["to_device", "to_host"]

MASKS = {
    "idcard": "idcard:IdCardMask",
    "printer": "printer:PrinterMask",
    "fingerprint": "fingerprint:FingerprintMask",
    "cardreader": "cardreader:CardReaderMask",
    "pinpad": "pinpad:PinPadMask",
    "ups": "plain:UpsMask",
    "environment": "plain:EnvironmentMask",
}
"""The mask of each kind, in `devices.masking`. A kind without one cannot be recorded."""


class CaptureError(Exception):
    """A recording cannot be made or used."""

    retry = False

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a recording."""

    govterm_capture: Literal[1]
    kind: str
    baud: Annotated[int, Meta(gt=0)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every other line: a piece, when its last byte was there (seconds from the start), and which way it went."""

    seconds: Annotated[float, Meta(ge=0)]
    way: Direction
    hex: Annotated[str, Meta(pattern="^([0-9A-F]{2})+$")]


def make_mask(kind: str) -> Mask:
    """Return the mask of a kind; raise CaptureError `capture.unknown_kind`."""
    if kind not in MASKS:
        raise CaptureError("capture.unknown_kind", f"no kind {kind}", advice=f"name one of {', '.join(MASKS)}")
    module, _, name = MASKS[kind].partition(":")
    mask: Mask = getattr(import_module(f"devices.masking.{module}"), name)()
    return mask


Listener = Callable[[float, Direction, Piece], object]
"""Told of each piece with the seconds from the start; never sees an unmasked byte."""


class Tap:
    """An OpenLink that lets a listener hear the pieces of every link it opens, each life under a new mask."""

    def __init__(self, kind: str, open_link: OpenLink, listener: Listener) -> None:
        make_mask(kind)
        self._kind = kind
        self._open_link = open_link
        self._listener = listener
        self._start = asyncio.get_running_loop().time()

    async def __call__(self, port: str, baud: int, flow_control: FlowControl = "none") -> Link:
        """Open `port`; raise LinkLost when it cannot be opened."""
        return _TappedLink(await self._open_link(port, baud, flow_control), make_mask(self._kind), self._tell)

    def _tell(self, way: Direction, pieces: Iterable[Piece]) -> None:
        seconds = asyncio.get_running_loop().time() - self._start
        for piece in pieces:
            self._listener(seconds, way, piece)


class _TappedLink:
    def __init__(self, link: Link, mask: Mask, tell: Callable[[Direction, Iterable[Piece]], None]) -> None:
        self._link = link
        self._mask = mask
        self._tell = tell

    async def read(self) -> bytes:
        data = await self._link.read()
        self._tell("to_host", self._mask.to_host(data))
        return data

    async def write(self, data: bytes) -> None:
        self._tell("to_device", self._mask.to_device(data))
        await self._link.write(data)

    async def close(self) -> None:
        await self._link.close()


def encode_header(header: Header) -> bytes:
    """Return a recording's first line."""
    return msgspec.json.encode(header) + b"\n"


def encode_entry(seconds: float, way: Direction, piece: Piece) -> bytes:
    """Return the line of a piece."""
    return msgspec.json.encode(Entry(round(seconds, 6), way, piece.data.hex().upper())) + b"\n"


def load(path: Path) -> tuple[Header, list[Entry]]:
    """Read a recording; raise CaptureError `capture.bad_file` with the line of what is wrong."""
    number = 1
    try:
        lines = path.read_bytes().splitlines()
        header = msgspec.json.decode(lines[0] if lines else b"", type=Header)
        make_mask(header.kind)
        entries = []
        for number, line in enumerate(lines[1:], 2):  # noqa: B007 - told in the error
            entries.append(msgspec.json.decode(line, type=Entry))
    except OSError as error:
        raise _bad_file(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad_file(f"{path}:{number}: {error}") from None
    return header, entries


def _bad_file(message: str) -> CaptureError:
    return CaptureError("capture.bad_file", message, advice="record it anew with `govterm capture`")


class Replay:
    """A recording as a device, without I/O and without a clock: it answers what it was asked when it was recorded.

    A request, masked as in the recording, is sought from where the recording stands, then from its beginning; what
    followed it there is the answer. A request that was never recorded has none. `feed` answers at once; whoever has a
    clock asks for `answers`, with their times.
    """

    def __init__(self, header: Header, entries: Iterable[Entry]) -> None:
        self.kind = header.kind
        self.unknown = 0
        """How many requests were not in the recording."""
        self._mask = make_mask(header.kind)
        self._exchanges: list[tuple[bytes, list[tuple[float, bytes]]]] = []
        self._at = 0
        asked = 0.0
        for entry in entries:
            data = bytes.fromhex(entry.hex)
            if entry.way == "to_device":
                asked = entry.seconds
                self._exchanges.append((data, []))
            elif self._exchanges:
                self._exchanges[-1][1].append((entry.seconds - asked, data))

    @property
    def verbs(self) -> dict[str, Callable[..., object]]:
        """A recording has no hands."""
        return {}

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return what the device said to them."""
        return b"".join(said for _, said in self.answers(data))

    def answers(self, data: bytes) -> list[tuple[float, bytes]]:
        """Take the terminal's bytes; return what the device said to them, and how many seconds later it was there."""
        return [answer for piece in self._mask.to_device(data) for answer in self._answer(piece.data)]

    def _answer(self, request: bytes) -> list[tuple[float, bytes]]:
        count = len(self._exchanges)
        for step in range(count):
            place = (self._at + step) % count
            if self._exchanges[place][0] == request:
                self._at = place + 1
                return self._exchanges[place][1]
        self.unknown += 1
        return []
