"""The conversation with a PIN pad: one request and its answer at a time, and what the pad has shown of itself."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from devices.config import PinPad
from devices.driver import Driver
from devices.errors import DeviceError
from devices.link import LinkLost, OpenLink
from devices.pinpad import commands, errors
from devices.pinpad.commands import BATTERY_LOW, KEY_MISSING, KEY_TABLE, OK_CODES, TAMPERED, Request
from devices.pinpad.keys import EncryptionState, KeyState, KnownKeys
from devices.pinpad.protocol import Event, Frame, FrameDecoder, encode
from devices.status import DeviceState, DeviceStatus, StatusListener

ANSWER_SECONDS = 1.0
"""Deadline of an answer, to which the time of its bytes on the wire is added."""
TURN_SECONDS = 5.0
"""How long a call waits for the one before it (T13)."""

_TRIES = 2
_ANSWER_BYTES = 160
_LONGEST_LIMIT = 255
_GRACE_SECONDS = 5  # by which the pad's own time limit is longer than ours


class Dialogue(Driver[Event]):
    """Asks a PIN pad, and keeps the trust that its answers deserve."""

    kind = "pinpad"
    _decoder: FrameDecoder

    def __init__(self, settings: PinPad, open_link: OpenLink, on_status: StatusListener) -> None:
        super().__init__(settings.port, settings.baud, open_link, on_status)
        self._settings = settings
        self._keys = KnownKeys(settings.pin_key, settings.mac_key)
        self._identity: str | None = None
        self._tamper: str | None = None
        self._leaky: str | None = None  # the identity of a pad that sent a digit in clear
        self._battery_low = False
        self._in_step = False
        self._prepared = False

    def _make_decoder(self) -> FrameDecoder:
        return FrameDecoder()

    async def _open(self) -> DeviceStatus:
        self._keys = KnownKeys(self._settings.pin_key, self._settings.mac_key)
        self._prepared = self._in_step = False
        self._tamper = None
        return await self._check()

    async def _check(self) -> DeviceStatus:
        """Ask the pad whether it is well. One that was tampered with lives on, to tell so."""
        answer = await self._reply(commands.IDENTIFY)
        self._battery_low = answer.code == BATTERY_LOW
        if answer.code not in OK_CODES and answer.code not in TAMPERED and not self._battery_low:
            raise errors.refused(answer.code)
        if self._tamper is None:
            try:
                await (self._recognise() if self._prepared else self._prepare())
            except DeviceError:
                if self._tamper is None:
                    raise
        return self._status()

    async def _recognise(self) -> None:
        """Ask the pad who it is: behind a serial adapter it can be swapped unseen (L7). Another one is another life."""
        known = self._identity
        if await self._identify() != KEY_TABLE or self._identity != known:
            raise LinkLost("another pad is in its place")

    async def _prepare(self) -> None:
        """Make the pad fit for entries: keypad off, its keys by the codes we know, a time limit of its own."""
        await self._command(commands.DISABLE_KEYPAD)
        if await self._identify() != KEY_TABLE:
            await self._command(commands.set_key_table())
            if await self._identify() != KEY_TABLE:
                raise errors.unknown_model()
        limit = min(_LONGEST_LIMIT, math.ceil(self._settings.entry_seconds) + _GRACE_SECONDS)
        await self._command(commands.set_time_limit(limit))
        self._prepared = True

    async def _identify(self) -> bytes:
        """Learn who the pad is and whether it has a master key; return the codes of its keys."""
        answer = await self._command(commands.INFO)
        try:
            info = commands.parse_info(answer.data)
        except ValueError:
            raise errors.unknown_model() from None
        self._identity = f"{info.model}-{info.serial}"
        self._keys.initialised = info.initialised
        return info.key_table

    async def _command(self, request: Request, slot: int | None = None) -> Frame:
        """Return the good answer to a request, which uses the key in `slot`; raise DeviceError for any other."""
        answer = await self._reply(request)
        if answer.code in KEY_MISSING and slot is not None:
            self._keys[slot] = KeyState.ABSENT
        if answer.code not in OK_CODES:
            raise errors.refused(answer.code)
        if slot is not None:
            self._keys.seen(slot)
        return answer

    async def _reply(self, request: Request) -> Frame:
        """Return the answer to a request, good or not; ask again when the wire failed.

        After a lost or damaged exchange the pad is asked who it is before anything else: it answers in order, so
        then all late answers are through.
        """
        tries = _TRIES
        while True:
            tries -= 1
            try:
                if not self._in_step and request is not commands.IDENTIFY:
                    await self._exchange(commands.IDENTIFY)
                return await self._exchange(request)
            except DeviceError as error:
                if tries == 0 or error.code not in {"pinpad.garbled", "pinpad.no_answer"}:
                    raise

    async def _exchange(self, request: Request) -> Frame:
        self._in_step = False
        self._decoder.reset()
        frame = encode(request.body)
        seconds = ANSWER_SECONDS + self._wire_seconds(len(frame) + _ANSWER_BYTES)
        answer = cast("Frame", await self.ask(frame, lambda event: _answers(request, event), seconds=seconds))
        self._in_step = True
        if answer.code in TAMPERED:
            self._tamper = TAMPERED[answer.code]
            self._keys.lost()
            self._report(self._status())
        return answer

    async def _mac(self, data: bytes) -> bytes:
        algorithm, slot = self._settings.algorithm, self._settings.mac_key
        block, chunk = commands.MAC_BLOCK[algorithm], commands.MAC_CHUNK[algorithm]
        data += bytes(-len(data) % block)
        mac = bytes(block)
        for start in range(0, len(data), chunk):
            request = commands.get_mac(algorithm, slot, mac, data[start : start + chunk])
            mac = hex_of(await self._command(request, slot))
        return mac

    def _require_key(self, slot: int) -> None:
        if self._keys[slot] is KeyState.MISMATCHED:
            raise errors.bad_key()

    @asynccontextmanager
    async def _turn(self, *, trusted: bool = True) -> AsyncIterator[None]:
        """Wait for the call before this one; raise DeviceError when that takes long or the pad serves nobody."""
        require = self._require_trusted if trusted else self.require_online
        require()
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._lock.acquire()
        except TimeoutError:
            raise errors.busy() from None
        try:
            require()
            yield
        finally:
            self._lock.release()

    def _wire_seconds(self, size: int) -> float:
        return size * 10 / self._settings.baud

    def _fault_of_trust(self) -> DeviceError | None:
        """Why this pad serves nobody; None when it may be trusted."""
        if self._tamper is not None:
            return errors.tampered(self._tamper)
        if self._leaky is not None and self._leaky == self._identity:
            return errors.clear_digit()
        return None

    def _require_trusted(self) -> None:
        self.require_online()
        if (fault := self._fault_of_trust()) is not None:
            raise fault

    def _status(self) -> DeviceStatus:
        """What is known of the pad."""
        details: dict[str, str | bool] = {}
        encryption = self._keys.status.encryption
        if encryption is not EncryptionState.UNDEFINED:
            details["encryption_state"] = encryption
        if self._tamper is not None:
            details["tamper"] = self._tamper
        if self._battery_low:
            details["battery"] = "low"
        if (fault := self._fault_of_trust()) is not None:
            return DeviceStatus(DeviceState.FRAUD_ATTEMPT, fault.code, self._identity, details)
        code = errors.refused(BATTERY_LOW).code if self._battery_low else None
        return DeviceStatus(DeviceState.ONLINE, code, self._identity, details)


def _answers(request: Request, event: Event) -> bool:
    """Whether an event has the shape of an answer to `request`: nothing else tells a late answer from the right one."""
    return isinstance(event, Frame) and (event.code not in OK_CODES or len(event.body) - 1 in request.answer)


def hex_of(answer: Frame, start: int = 0) -> bytes:
    """Return the bytes that an answer's data holds in hexadecimal; raise DeviceError `pinpad.bad_answer`."""
    text = answer.data[start:]
    try:
        found = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise errors.bad_answer() from None
    if 2 * len(found) != len(text):  # fromhex overlooks blanks
        raise errors.bad_answer()
    return found
