"""Driver of the resident ID-card reader (T1, protocols 1.9): one life of a link, one command at a time on it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from devices.config import IdCard
from devices.errors import DeviceError
from devices.idcard import errors
from devices.idcard.protocol import (
    SHORTEST_REPLY,
    Command,
    Damage,
    FrameDecoder,
    Reply,
    Status,
    answers,
    decode_reply,
    encode_request,
    format_sam_id,
    split_card,
)
from devices.idcard.record import CardRecord, parse_record
from devices.link import Link, LinkLost, OpenLink
from devices.status import DeviceState, DeviceStatus, StatusListener

log = structlog.get_logger(__name__)

OPEN_SECONDS = 5.0
HEALTH_SECONDS = 30.0
"""Between two health checks of an idle reader."""
POLL_SECONDS = 0.3
READ_SECONDS = 5.0
"""From the card found to the record, second attempt included (T13)."""

_ANSWER_SECONDS = {
    Command.RESET: 1.0,
    Command.STATUS: 1.0,
    Command.SAM_ID: 0.3,
    Command.FIND: 1.0,
    Command.SELECT: 1.0,
    Command.READ: 2.0,
}
"""Deadline of each answer (protocols 1.9), to which the time of its bytes on the wire is added."""

_TRIES = {Command.SAM_ID: 3}
_TRIES_OTHERWISE = 2
_FINDS_BEFORE_GONE = 3
_LONG_REPLY_BYTES = 1295
_SHORT_REPLY_BYTES = 40


class IdCardReader:
    """A supervised ID-card reader.

    `run` is one life of its link; `read_card` serves while it runs. `status.identity` is the number of the
    reader's security module (SAM).
    """

    def __init__(self, settings: IdCard, open_link: OpenLink, on_status: StatusListener) -> None:
        self.status = DeviceStatus(DeviceState.STARTING)
        self._settings = settings
        self._open_link = open_link
        self._on_status = on_status
        self._lock = asyncio.Lock()
        self._decoder = FrameDecoder(shortest=SHORTEST_REPLY)
        self._link: Link | None = None
        self._asked: Command | None = None
        self._answer: asyncio.Future[Reply | Damage | None] | None = None
        self._in_step = False
        self._check_now = asyncio.Event()
        self._fault = errors.offline()

    async def run(self, ready: Callable[[], None]) -> None:
        """Live until the link or the reader fails; raise LinkLost or DeviceError with the reason, never return."""
        fault = errors.offline()
        try:
            await self._live(ready)
        except DeviceError as error:
            fault = error
            raise
        finally:
            self._end(fault)

    async def read_card(self, *, wait_seconds: float) -> CardRecord:
        """Wait up to `wait_seconds` for a card to be laid down and return its record.

        A card that was read completely must be lifted before it is found again, so a forgotten card is never read
        for the next citizen. Raises DeviceError: `idcard.no_card` when the wait is over, and the codes of
        `devices.idcard.errors` and `devices.idcard.record.parse_record`.
        """
        self._require_online()
        until = asyncio.get_running_loop().time() + wait_seconds
        try:
            async with asyncio.timeout_at(until):
                await self._lock.acquire()
        except TimeoutError:
            raise errors.busy() from None
        try:
            await self._wait_for_card(until)
            async with asyncio.timeout(READ_SECONDS):
                return await self._read()
        except TimeoutError:
            self._check_now.set()
            raise errors.no_answer() from None
        except DeviceError:
            self._check_now.set()
            raise
        finally:
            self._lock.release()

    async def _live(self, ready: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                link = await self._open_link(self._settings.port, self._settings.baud)
        except TimeoutError:
            raise LinkLost("the port does not open") from None
        self._link = link
        self._in_step = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(link), name="idcard receive")
                await self._serve(ready)
        except* (LinkLost, DeviceError) as ended:
            reason = ended.exceptions[0]
        finally:
            self._link = None
            self._settle(None)
            self._decoder.reset()
            await link.close()
        raise reason

    async def _serve(self, ready: Callable[[], None]) -> None:
        async with self._lock:
            await self._command(Command.STATUS)
            identity = format_sam_id((await self._command(Command.SAM_ID)).data)
        self._report(DeviceStatus(DeviceState.ONLINE, identity=identity))
        ready()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEALTH_SECONDS):
                    await self._check_now.wait()
            async with self._lock:
                self._check_now.clear()
                await self._command(Command.STATUS)

    async def _receive(self, link: Link) -> None:
        """Read the link for as long as it lives, so that its loss is seen at once."""
        while True:
            for found in self._decoder.feed(await link.read()):
                self._take(found)

    def _take(self, found: bytearray | Damage) -> None:
        """Take a frame; `_receive` keeps none of it while it waits for the next, which may come much later (T20)."""
        if isinstance(found, Damage):
            self._settle(found)
            return
        reply = decode_reply(found)
        if self._asked is not None and answers(self._asked, reply):
            self._settle(reply)
        else:
            reply.wipe()

    def _settle(self, answer: Reply | Damage | None) -> None:
        """Give the waiting command its answer; None tells that there will be none."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
        elif isinstance(answer, Reply):
            answer.wipe()

    async def _wait_for_card(self, until: float) -> None:
        """Find a card until the loop's time `until`, at least twice: one "no card" after power-up is common."""
        clock = asyncio.get_running_loop().time
        finds = 0
        while (await self._command(Command.FIND)).status != Status.FOUND:
            finds += 1
            if finds >= 2 and clock() + POLL_SECONDS > until:
                raise errors.no_card()
            await self._pause()

    async def _read(self) -> CardRecord:
        """Select and read the card that was found; on failure cycle the field and try once more."""
        try:
            return await self._select_and_read()
        except DeviceError as error:
            if not error.retry:
                raise
            failure = error
        await self._command(Command.RESET)
        for _ in range(_FINDS_BEFORE_GONE):
            if (await self._command(Command.FIND)).status == Status.FOUND:
                return await self._select_and_read()
            await self._pause()
        if failure.code == "idcard.read_failed":
            raise errors.card_removed()
        raise failure  # the reader may have read completely: then "no card" does not mean that the card left

    async def _select_and_read(self) -> CardRecord:
        """Return the record of a card in the field; raise DeviceError, `idcard.read_failed` when reading failed."""
        await self._command(Command.SELECT)
        reply = await self._command(Command.READ)
        try:
            text, photo = split_card(reply.data)
        except ValueError:
            raise errors.read_failed() from None
        finally:
            reply.wipe()
        try:
            return parse_record(text, photo)
        finally:
            text[:] = bytes(len(text))
            photo[:] = bytes(len(photo))

    async def _command(self, command: Command) -> Reply:
        """Return the good reply to `command` (for FIND also NO_CARD), asking again as often as it is worth it."""
        tries = _TRIES.get(command, _TRIES_OTHERWISE)
        while True:
            tries -= 1
            try:
                if not self._in_step and command is not Command.STATUS:
                    await self._exchange(Command.STATUS)
                return await self._exchange(command)
            except DeviceError as error:
                silent_card = error.code == "idcard.no_answer" and command in {Command.SELECT, Command.READ}
                if tries == 0 or silent_card or error.code not in {"idcard.garbled", "idcard.no_answer"}:
                    raise

    async def _exchange(self, command: Command) -> Reply:
        """Ask once. Until a reply has come, the reader is out of step: a STATUS exchange flushes late answers."""
        if self._link is None:
            raise errors.offline()
        self._in_step = False
        self._decoder.reset()
        self._asked = command
        self._answer = asyncio.get_running_loop().create_future()
        size = _LONG_REPLY_BYTES if command is Command.READ else _SHORT_REPLY_BYTES
        try:
            async with asyncio.timeout(_ANSWER_SECONDS[command] + size * 10 / self._settings.baud):
                await self._link.write(encode_request(command))
                answer = await self._answer
        except TimeoutError:
            raise errors.no_answer() from None
        except LinkLost:
            raise errors.offline() from None
        finally:
            self._asked = self._answer = None
        if answer is None:
            raise errors.offline()
        if isinstance(answer, Damage):
            raise errors.garbled()
        self._in_step = True
        if answer.status not in {Status.OK, Status.FOUND, Status.NO_CARD}:
            raise errors.refused(answer.status)
        return answer

    async def _pause(self) -> None:
        """Wait before the next FIND; raise DeviceError when the link's life ended meanwhile."""
        await asyncio.sleep(POLL_SECONDS)
        self._require_online()

    def _require_online(self) -> None:
        if self.status.state is not DeviceState.ONLINE:
            fault = self._fault
            raise DeviceError(fault.code, str(fault), advice=fault.advice, retry=fault.retry)

    def _end(self, fault: DeviceError) -> None:
        self._fault = fault
        state = DeviceState.OFFLINE if fault.retry else DeviceState.HARDWARE_ERROR
        self._report(DeviceStatus(state, code=fault.code, identity=self.status.identity))

    def _report(self, status: DeviceStatus) -> None:
        if status != self.status:
            self.status = status
            log.info("device_status", device="idcard", state=status.state, code=status.code, identity=status.identity)
            self._on_status(status)
