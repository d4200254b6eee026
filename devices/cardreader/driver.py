"""The CRT-310 motor card reader (T5, protocols 5.1): its handshake on the wire and its moves."""

from collections.abc import Mapping
from typing import Any, ClassVar

from devices.cardreader import protocol as wire
from devices.cardreader.chip import Atr, ChipProtocol, Response, parse_response
from devices.cardreader.mechanism import Media
from devices.cardreader.protocol import Frame, FrameDecoder, Handshake, Outcome, Position, Reason, Request, Signal
from devices.cardreader.reader import CardReaderDriver
from devices.cardreader.tracks import Tracks, make_tracks
from devices.errors import DeviceError

TRIES = 3
"""How often a command is given whose repetition does no harm."""
TAKE_SECONDS = 0.5
"""From a frame to its ACK."""
FENCE_SECONDS = 0.3
"""From EOT to its answer; a reader that has nothing to cancel may not answer."""
ANSWER_SECONDS = 1.0
TRACK_SECONDS = 2.0
MOVE_SECONDS = 4.0
CHIP_SECONDS = 3.0
"""From ENQ to the reply, to which the time of the bytes on the wire is added. The document names no times."""

_LONGEST_REPLY_BYTES = wire.LONGEST + 5

_MEDIA = {
    Position.TOO_LONG: Media.UNKNOWN,
    Position.TOO_SHORT: Media.UNKNOWN,
    Position.GATE_LOOSE: Media.ENTERING,
    Position.GATE_HELD: Media.ENTERING,
    Position.INSIDE: Media.PRESENT,
    Position.CONTACT: Media.PRESENT,
    Position.REAR_HELD: Media.PRESENT,
    Position.CAPTURED: Media.NOT_PRESENT,
    Position.NONE: Media.NOT_PRESENT,
}

_REFUSALS: dict[int, tuple[str, str, bool]] = {
    Reason.BAD_COMMAND: ("unsupported", "use another way to read", False),
    Reason.BAD_PARAMETER: ("unsupported", "use another way to read", False),
    Reason.NOT_NOW: ("not_now", "try again; reset the reader when it stays", True),
    Reason.BAD_DATA: ("refused", "report a software fault", False),
    Reason.SUPPLY_VOLTAGE: ("power", "check the reader's power supply", True),
    Reason.ABNORMAL_CARD: ("jammed", "open the reader and free the card; it is tried again by itself", False),
    Reason.POWER_LOST: ("power", "check the reader's power supply", True),
}


class Crt310(CardReaderDriver[Frame | Signal]):
    """A CRT-310 on a serial line. `status.identity` is its serial number, or its version where it tells none.

    A command whose answer is lost or damaged is given up to three times, but an APDU once: a card counts.
    """

    CAPABILITIES: ClassVar[Mapping[str, Any]] = {
        "type": "motor",
        "readTracks": ("track1", "track2", "track3"),
        "chipProtocols": ("chipT0", "chipT1"),
        "chipPower": ("cold", "warm", "off"),
        "contactless": ("seek",),
        "retain": True,
    }

    _talk: Handshake | None = None
    _in_step = False

    def _make_decoder(self) -> FrameDecoder:
        self._in_step = False
        return FrameDecoder()

    def _unasked(self, frame: Frame | Signal) -> None:
        if self._talk is not None and self._talk.hear(frame):
            return  # it came in one piece with what was waited for
        if isinstance(frame, Frame):
            frame.wipe()

    async def _wake(self) -> str | None:
        version = _text(await self._command(wire.RESET))
        try:
            serial = _text(await self._command(wire.SERIAL_NUMBER))
        except DeviceError as error:
            if error.code != "cardreader.unsupported":
                raise
            serial = ""
        self._require_done(await self._command(wire.STOP_INSIDE), self._failed("the stop position is not set"))
        return serial or version or None

    async def _media(self) -> Media:
        reply = await self._command(wire.STATUS)
        if not reply.data or reply.data[0] not in set(Position):
            raise self._failed("the status is not intelligible")
        if any(entry != wire.ENTRY_PROHIBITED for entry in reply.data[1:3]):
            self._entry_open = True  # it lost its power meanwhile
        return _MEDIA[Position(reply.data[0])]

    async def _set_entry(self, *, allowed: bool) -> None:
        reply = await self._command(wire.ALLOW_ENTRY if allowed else wire.PROHIBIT_ENTRY)
        self._require_done(reply, self._failed("the entry does not change"))

    async def _eject(self) -> None:
        self._require_done(await self._command(wire.EJECT, seconds=MOVE_SECONDS), self.jammed())

    async def _retain(self) -> None:
        self._require_done(await self._command(wire.CAPTURE, seconds=MOVE_SECONDS), self.jammed())

    async def _read_tracks(self) -> Tracks:
        reply = await self._command(wire.READ_TRACKS, seconds=TRACK_SECONDS)
        try:
            if reply.data[:1] == bytes([Outcome.NO_CARD]):
                raise self.card_removed()
            return make_tracks(*wire.split_tracks(reply.data))
        except ValueError as error:
            raise self._failed(str(error)) from None
        finally:
            reply.wipe()

    async def _reset_chip(self, *, warm: bool) -> Atr:
        mute = self.error("chip_mute", "the chip does not answer", advice="insert the card the right way", retry=True)
        if not warm:
            self._require_done(await self._command(wire.TO_CONTACT, seconds=MOVE_SECONDS), self.jammed())
            self._require_done(await self._command(wire.POWER_ON), mute)
        reply = await self._command(wire.WARM_RESET if warm else wire.COLD_RESET, seconds=CHIP_SECONDS)
        self._require_done(reply, mute)
        if (atr := wire.counted(reply.data)) is None:
            raise self._failed("the ATR has another length than it says")
        return Atr(bytes(atr), ChipProtocol.T1 if reply.data[0] == Outcome.OK_T1 else ChipProtocol.T0)

    async def _chip_off(self) -> None:
        self._require_done(await self._command(wire.POWER_OFF), self._failed("the chip keeps its power"))

    async def _transmit(self, command: bytes, protocol: ChipProtocol) -> Response:
        reply = await self._command(wire.apdu(command, t1=protocol is ChipProtocol.T1), seconds=CHIP_SECONDS)
        try:
            self._require_done(
                reply, self.error("chip_failed", "the chip broke off", advice="insert the card again", retry=True)
            )
            if (found := wire.counted(reply.data)) is None or len(found) < 2:
                raise self._failed("the chip's answer has another length than it says")
            return parse_response(found)
        finally:
            reply.wipe()

    async def _seek_contactless(self) -> bool:
        reply = await self._command(wire.SEEK_CONTACTLESS)
        if reply.data[:1] == bytes([Outcome.FAILED]):
            return False
        self._require_done(reply, self._failed("the field does not answer"))
        return True

    async def _command(self, request: Request, *, seconds: float = ANSWER_SECONDS) -> Frame:
        """Return the positive reply to a request; raise DeviceError."""
        tries = TRIES if request.repeats else 1
        while True:
            tries -= 1
            try:
                reply = await self._exchange(request, seconds)
                break
            except DeviceError as error:
                if tries == 0 or error.code not in {"cardreader.no_answer", "cardreader.garbled"}:
                    raise
        if reply.cm != wire.NEGATIVE:
            return reply
        reason = reply.data[0] if reply.data else -1
        code, advice, retry = _REFUSALS.get(reason, ("refused", "try again", True))
        raise self.error(code, f"the reader refuses command {request.cm:02X}: {reason}", advice=advice, retry=retry)

    async def _exchange(self, request: Request, seconds: float) -> Frame:
        """Take one request through its handshake.

        Until a reply has come, the reader is out of step: the next request is preceded by EOT, whose answer tells that
        everything earlier is through (L15).
        """
        if not self._in_step:
            await self._fence()
        self._in_step = False
        talk = self._talk = Handshake(request)
        seconds += (len(talk.to_send) + _LONGEST_REPLY_BYTES) * 10 / self._baud
        try:
            while talk.reply is None and not talk.given_up:
                await self.ask(talk.to_send, talk.hear, seconds=seconds if talk.taken else self._take_seconds(talk))
        except BaseException:
            if talk.reply is not None:  # it came as its asker went (T20)
                talk.reply.wipe()
            raise
        finally:
            self._talk = None
        if talk.reply is None:
            raise self.error("garbled", "the reader cannot read what it is told", advice="check the cable", retry=True)
        self._in_step = True
        return talk.reply

    def _take_seconds(self, talk: Handshake) -> float:
        return TAKE_SECONDS + len(talk.to_send) * 10 / self._baud

    async def _fence(self) -> None:
        """Cancel what the reader may still be doing."""
        self._decoder.reset()
        try:
            await self.ask(bytes([Signal.EOT]), lambda heard: heard is Signal.EOT, seconds=FENCE_SECONDS)
        except DeviceError as error:
            if error.code == "cardreader.offline":
                raise

    def _require_done(self, reply: Frame, failure: DeviceError) -> None:
        """Raise the error that the status byte P of a reply stands for; `failure` when it just failed."""
        position = -1 if reply.cm == wire.ALLOW_ENTRY.cm else 0
        outcome = reply.data[position] if reply.data else -1
        if outcome == Outcome.NO_CARD:
            raise self.card_removed()
        if outcome not in {Outcome.OK, Outcome.OK_T1}:
            raise failure

    def _failed(self, what: str) -> DeviceError:
        return self.error("failed", what, advice="try again; check the reader when it stays", retry=True)


def _text(reply: Frame) -> str:
    """Return what a reply says in printable ASCII."""
    return "".join(chr(byte) for byte in reply.data if 0x20 <= byte < 0x7F).strip()
