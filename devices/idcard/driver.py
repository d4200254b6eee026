"""Driver of the resident ID-card reader (T1, protocols 1.9): waiting for a card, and reading it."""

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from devices.config import IdCard
from devices.driver import Driver
from devices.errors import DeviceError
from devices.idcard import errors
from devices.idcard.layout import Variant
from devices.idcard.protocol import (
    Command,
    Reply,
    ReplyDecoder,
    Status,
    answers,
    encode_request,
    format_sam_id,
    split_card,
)
from devices.idcard.rates import RateFinder
from devices.idcard.record import CardRecord, parse_record
from devices.link import OpenLink
from devices.personal import wipe
from devices.status import DeviceState, DeviceStatus, StatusListener

POLL_SECONDS = 0.3
READ_SECONDS = 5.0
"""From the card found to the record, second attempt included (T13)."""

_ANSWER_SECONDS = {
    Command.RESET: 1.0,
    Command.STATUS: 1.0,
    Command.SAM_ID: 0.3,
    Command.FIND: 1.0,
    Command.SELECT: 1.0,
    Command.ADDRESS: 1.5,
    Command.MANAGEMENT: 1.5,
    Command.READ: 2.0,
    Command.READ_FINGERS: 3.0,
}
"""Deadline of each answer (protocols 1.9), to which the time of its bytes on the wire is added."""
_REPLY_BYTES = {Command.ADDRESS: 291, Command.READ: 1295, Command.READ_FINGERS: 2321}
_SHORT_REPLY_BYTES = 50

_TRIES = {Command.SAM_ID: 3, Command.READ: 1, Command.READ_FINGERS: 1}
"""A card that was read once is not read again before the field was cycled."""
_TRIES_OTHERWISE = 2
_FINDS_BEFORE_GONE = 3

_OF_A_CARD = frozenset({Command.SELECT, Command.ADDRESS, Command.MANAGEMENT})
"""When there is no answer to these, the card hangs: asking again is of no use before the field was cycled."""
_NOT_HERE = frozenset({Status.NO_CONTENT, Status.BAD_COMMAND, Status.NO_PRIVILEGE})
"""How a reader says of something that not every card or reader has that it is not here."""
_OUTCOMES = {
    Command.FIND: {Status.FOUND, Status.NO_CARD},
    Command.ADDRESS: {Status.OK, *_NOT_HERE},
    Command.MANAGEMENT: {Status.OK, *_NOT_HERE},
    Command.READ_FINGERS: {Status.OK, *_NOT_HERE},
}
"""What is no error; for any other command only OK is none."""


class IdCardReader(Driver[Reply]):
    """A supervised ID-card reader.

    `run` is one life of its link; `read_card` serves while it runs. `status.identity` is the number of the
    reader's security module (SAM), `status.details["baud"]` the rate at which it answers.
    """

    kind = "idcard"
    CAPABILITIES: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "interface": "CardReader",
        "vendorSpecific": "chip of resident identity cards and residence permits",
        "variants": tuple(Variant),
        "reads": ("text", "photo", "newest address", "management record", "fingerprints"),
        "dataFormats": ("ga/t-1012",),
    }
    """In the words of XFS4IoT, which has no interface for these readers (protocols 7.4)."""

    def __init__(self, settings: IdCard, open_link: OpenLink, on_status: StatusListener) -> None:
        self._rates = RateFinder(open_link, settings.baud)
        super().__init__(settings.port, settings.baud, self._rates, on_status)
        self._in_step = False
        self._leaving = False
        self._may_lie = False
        """Whether a card was found since the reader was last seen to be clear."""
        self._left = False
        """Whether a card that lies there is an earlier citizen's."""

    async def read_card(
        self, *, wait_seconds: float, fingerprints: bool = False, management: bool = False
    ) -> CardRecord:
        """Wait up to `wait_seconds` for a card to be laid down and return its record.

        `fingerprints` and `management` ask for these too; a card or a reader may have none. A card that was read
        completely must be lifted before it is found again, so a forgotten card is never read for the next citizen.
        Raises DeviceError: `idcard.no_card` when the wait is over, and the codes of `devices.idcard.errors`.
        """
        self.require_online()
        until = asyncio.get_running_loop().time() + wait_seconds
        try:
            async with asyncio.timeout_at(until):
                await self._lock.acquire()
        except TimeoutError:
            raise errors.busy() from None
        try:
            await self._wait_for_card(until)
            async with asyncio.timeout(READ_SECONDS):
                return await self._read(fingerprints=fingerprints, management=management)
        except TimeoutError:
            raise errors.too_slow() from None
        finally:
            self._check_now.set()
            self._lock.release()

    async def is_clear(self) -> bool:
        """Tell whether no card lies there any more; raise DeviceError when the reader does not say.

        A card that was read is not found again before the field was cycled, so this cycles it; what is found from then
        on is read for nobody until it was seen to be lifted. A reader that does not find a card even so is clear.
        """
        if not self._may_lie:
            return True
        self.require_online()
        try:
            async with self._lock, asyncio.timeout(READ_SECONDS):
                self._left = True
                await self._command(Command.RESET)
                self._may_lie = self._left = not await self._is_lifted()
        except TimeoutError:
            raise errors.too_slow() from None
        return not self._left

    async def take_back(self) -> None:
        """Nothing is to be taken: a card that was left is read for nobody until it was seen to be lifted."""

    def _make_decoder(self) -> ReplyDecoder:
        return ReplyDecoder()

    def _unasked(self, frame: Reply) -> None:
        """Overwrite an answer that came too late: it may be a card."""
        frame.wipe()

    async def _open(self) -> DeviceStatus:
        self._leaving = self._in_step = False
        return await self._check()

    async def _check(self) -> DeviceStatus:
        """Ask how the reader is and who it is: behind a serial adapter it can be swapped unseen (L7).

        A card that was left is looked for too, so that it is seen to be lifted while nobody waits for one.
        """
        await self._command(Command.STATUS)
        identity = format_sam_id((await self._command(Command.SAM_ID)).data)
        if self._left:
            self._left = self._may_lie = not await self._is_lifted()
        return DeviceStatus(DeviceState.ONLINE, identity=identity, details={"baud": str(self._rates.baud)})

    async def _end_safely(self) -> None:
        """Let a read under way end at its next command."""
        self._leaving = True
        await super()._end_safely()

    async def _wait_for_card(self, until: float) -> None:
        """Find a card until the loop's time `until`, at least twice: one "no card" after power-up is common."""
        clock = asyncio.get_running_loop().time
        finds = gone = 0
        while True:
            is_found = await self._find()
            gone = 0 if is_found else gone + 1
            self._left = self._left and gone < _FINDS_BEFORE_GONE
            if is_found and not self._left:
                self._may_lie = True
                return
            finds += 1
            if finds >= 2 and clock() + POLL_SECONDS > until:
                raise errors.no_card()
            await asyncio.sleep(POLL_SECONDS)

    async def _is_lifted(self) -> bool:
        """Tell whether no card is found any more, where one was left that was not read since the field was cycled."""
        for _ in range(_FINDS_BEFORE_GONE):
            if await self._find():
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def _find(self) -> bool:
        """Tell whether a card that was not read yet is in the field."""
        reply = await self._command(Command.FIND)
        reply.wipe()
        return reply.status == Status.FOUND

    async def _read(self, *, fingerprints: bool, management: bool) -> CardRecord:
        """Select and read the card that was found; on failure cycle the field and try once more."""
        try:
            return await self._read_once(fingerprints=fingerprints, management=management, last=False)
        except DeviceError as error:
            if not error.retry:
                raise
            failure = error
        await self._command(Command.RESET)
        for _ in range(_FINDS_BEFORE_GONE):
            if await self._find():
                return await self._read_once(fingerprints=fingerprints, management=management, last=True)
            await asyncio.sleep(POLL_SECONDS)
        if failure.code == "idcard.read_failed":
            raise errors.card_removed()
        raise failure  # the reader may have read completely: then "no card" does not mean that the card left

    async def _read_once(self, *, fingerprints: bool, management: bool, last: bool) -> CardRecord:
        """Return the record of a card in the field; raise DeviceError, `idcard.read_failed` when reading failed.

        The newest address and the management record come first: some readers give neither after the rest.
        """
        extras: list[bytearray | None] = [None, None]
        try:
            (await self._command(Command.SELECT)).wipe()
            extras[0] = await self._extra(Command.ADDRESS, last=last)
            if management:
                extras[1] = await self._extra(Command.MANAGEMENT, last=last)
            reply = await self._read_blocks(fingerprints=fingerprints)
            try:
                blocks = split_card(reply.data)
            except ValueError:
                raise errors.read_failed() from None
            finally:
                reply.wipe()
            try:
                return parse_record(blocks, address=extras[0], management=extras[1])
            except DeviceError as refusal:
                raise refusal.with_traceback(None) from None  # its frames hold the card's text
            finally:
                blocks.wipe()
        finally:
            for extra in filter(None, extras):
                wipe(extra)

    async def _read_blocks(self, *, fingerprints: bool) -> Reply:
        """Read the card, without its fingerprints when the reader cannot read those."""
        if fingerprints:
            reply = await self._command(Command.READ_FINGERS)
            if reply.status not in _NOT_HERE:
                return reply
        return await self._command(Command.READ)

    async def _extra(self, command: Command, *, last: bool) -> bytearray | None:
        """Return what not every card has, empty when this one has not; None when the reader cannot tell.

        A reader that fails at it fails the first attempt, and is asked for the rest of the card in the `last`.
        """
        try:
            reply = await self._command(command)
        except DeviceError as error:
            if last and error.retry:
                return None
            raise
        return reply.data if reply.status in {Status.OK, Status.NO_CONTENT} else None

    async def _command(self, command: Command) -> Reply:
        """Return a reply to `command` that is no error, asking again as often as it is worth it."""
        tries = _TRIES.get(command, _TRIES_OTHERWISE)
        while True:
            tries -= 1
            try:
                if not self._in_step and command is not Command.STATUS:
                    await self._exchange(Command.STATUS)
                return await self._exchange(command)
            except DeviceError as error:
                silent_card = error.code == "idcard.no_answer" and command in _OF_A_CARD
                if tries == 0 or silent_card or error.code not in {"idcard.garbled", "idcard.no_answer"}:
                    raise

    async def _exchange(self, command: Command) -> Reply:
        """Ask once. Until a reply has come, the reader is out of step: a STATUS exchange flushes late answers."""
        if self._leaving:
            raise errors.stopping()
        self._in_step = False
        self._decoder.reset()
        wire_seconds = _REPLY_BYTES.get(command, _SHORT_REPLY_BYTES) * 10 / self._rates.baud
        seconds = _ANSWER_SECONDS[command] + wire_seconds
        reply = await self.ask(encode_request(command), lambda reply: answers(command, reply), seconds=seconds)
        self._in_step = True
        if reply.status not in _OUTCOMES.get(command, {Status.OK}):
            reply.wipe()
            raise errors.refused(reply.status)
        return reply
