"""The CRT-591 for govterm: what is different about its wire. That the card is handed back, the base class sees to."""

from collections.abc import Mapping
from typing import Any, ClassVar

from devices.cardreader.chip import Atr, ChipProtocol, Response, announced_protocol, parse_response
from devices.cardreader.mechanism import Media
from devices.cardreader.reader import CardReaderDriver
from devices.errors import DeviceError
from govterm_crt591 import protocol as wire
from govterm_crt591.protocol import Frame, FrameDecoder, Request, Signal

TRIES = 3
FENCE_SECONDS = 0.3
ANSWER_SECONDS = 1.5
MOVE_SECONDS = 4.0
CHIP_SECONDS = 3.0
"""From a frame to its reply, to which the time of the bytes on the wire is added."""

_LONGEST_REPLY_BYTES = 300
_MEDIA = {0x30: Media.NOT_PRESENT, 0x31: Media.ENTERING, 0x32: Media.PRESENT}
_ATR_STARTS = (0x3B, 0x3F)

_UNSUPPORTED = frozenset({b"00", b"01", b"03"})
_JAMMED = frozenset({b"10", b"12", b"40", b"43", b"51"})
_INVALID = frozenset({b"13", b"14"})
_MOVED_BY_HAND = b"45"


class Crt591(CardReaderDriver[Frame | Signal]):
    """A CRT-591 on a serial line; no stripe. `status.identity` is its serial number, else its version."""

    CAPABILITIES: ClassVar[Mapping[str, Any]] = {
        "type": "motor",
        "chipProtocols": ("chipT0", "chipT1"),
        "chipPower": ("cold", "warm", "off"),
        "retain": True,
    }

    _in_step = False

    def _make_decoder(self) -> FrameDecoder:
        self._in_step = False
        return FrameDecoder()

    def _unasked(self, frame: Frame | Signal) -> None:
        if isinstance(frame, Frame):
            frame.wipe()

    async def _wake(self) -> str | None:
        version = _text((await self._command(wire.INIT_NO_MOVE)).result)
        try:
            serial = _text((await self._command(wire.SERIAL_NUMBER)).result)
        except DeviceError as error:
            if error.code != "cardreader.unsupported":
                raise
            serial = ""
        return serial or version or None

    async def _media(self) -> Media:
        states = (await self._command(wire.STATUS)).states
        if not states or states[0] not in _MEDIA:
            raise self._failed("the status is not intelligible")
        return _MEDIA[states[0]]

    async def _set_entry(self, *, allowed: bool) -> None:
        await self._command(wire.ENABLE_ENTRY if allowed else wire.DISABLE_ENTRY)

    async def _eject(self) -> None:
        await self._command(wire.EJECT, seconds=MOVE_SECONDS)

    async def _retain(self) -> None:
        await self._command(wire.TO_BIN, seconds=MOVE_SECONDS)

    async def _reset_chip(self, *, warm: bool) -> Atr:
        if not warm:
            await self._command(wire.TO_CONTACT, seconds=MOVE_SECONDS)
        reply = await self._command(wire.WARM_RESET if warm else wire.COLD_RESET, seconds=CHIP_SECONDS)
        start = next((at for at in (0, 1) if reply.result[at : at + 1] and reply.result[at] in _ATR_STARTS), None)
        if start is None:
            raise self._failed("the ATR is not intelligible")
        atr = bytes(reply.result[start:])
        return Atr(atr, announced_protocol(atr))

    async def _chip_off(self) -> None:
        await self._command(wire.CHIP_OFF)

    async def _transmit(self, command: bytes, protocol: ChipProtocol) -> Response:  # noqa: ARG002 - it chooses itself
        reply = await self._command(wire.apdu(command), seconds=CHIP_SECONDS)
        try:
            return parse_response(reply.result)
        except ValueError as error:
            raise self._failed(str(error)) from None
        finally:
            reply.wipe()

    async def _command(self, request: Request, *, seconds: float = ANSWER_SECONDS) -> Frame:
        """Return the positive reply to a request; raise DeviceError."""
        reply = await self._exchange(request, seconds)
        if reply.kind == wire.POSITIVE:
            return reply
        reason = bytes(reply.data[:2])
        if reason in _UNSUPPORTED:
            raise self.unsupported()
        if reason in _JAMMED:
            raise self.jammed()
        if reason in _INVALID:
            raise self.invalid_card()
        if reason == _MOVED_BY_HAND:
            raise self.card_removed()
        if reason[:1] == b"6":
            raise self.error("chip_mute", "the chip does not answer", advice="insert the card again", retry=True)
        raise self._failed(f"the reader refuses: {reason.hex()}")

    async def _exchange(self, request: Request, seconds: float) -> Frame:
        """Ask until the reader has understood and its reply is whole: NAK of either side has the last frame again.

        Until a reply has come, the next request is preceded by EOT, whose answer tells that everything earlier is
        through.
        """
        if not self._in_step:
            await self._fence()
        self._in_step = False
        say = encoded = wire.encode(request)
        seconds += (len(encoded) + _LONGEST_REPLY_BYTES) * 10 / self._baud
        for _ in range(TRIES):
            try:
                heard = await self.ask(say, lambda it: it is Signal.NAK or request.answered_by(it), seconds=seconds)
            except DeviceError as error:
                if error.code == "cardreader.garbled":
                    say = bytes([Signal.NAK])
                    continue
                if error.code != "cardreader.no_answer" or not request.repeats:
                    raise
                await self._fence()
            else:
                if isinstance(heard, Frame):
                    self._in_step = True
                    await self._acknowledge(heard)
                    return heard
            say = encoded
        raise self.error("garbled", "frames do not get through", advice="check the cable", retry=True)

    async def _acknowledge(self, reply: Frame) -> None:
        """Tell the reader that its reply has come; when that fails, nobody will have the reply."""
        try:
            await self.tell(bytes([Signal.ACK]))
        except BaseException:
            reply.wipe()
            raise

    async def _fence(self) -> None:
        """Abort what the reader may still be doing."""
        self._decoder.reset()
        try:
            await self.ask(bytes([Signal.EOT]), lambda it: it is Signal.EOT, seconds=FENCE_SECONDS)
        except DeviceError as error:
            if error.code == "cardreader.offline":
                raise

    def _failed(self, what: str) -> DeviceError:
        return self.error("failed", what, advice="try again; check the reader when it stays", retry=True)


def _text(data: bytearray) -> str:
    """Return what a reply says in printable ASCII."""
    return "".join(chr(byte) for byte in data if 0x20 <= byte < 0x7F).strip()
