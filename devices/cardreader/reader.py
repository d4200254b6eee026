"""What every reader of bank cards does, whatever its wire: one citizen's card at a time, always handed back (T5).

A card that nobody uses is handed back by the reader's own life, not by the caller: after a block of `card()` ended in
any way, at a start that finds a card inside, and when the life ends. So no way out of a caller can forget it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import structlog

from devices.cardreader.chip import Atr, ChipPower, ChipProtocol, Response, exchange_t0
from devices.cardreader.mechanism import INSIDE, Ending, Mechanism, Media
from devices.cardreader.tracks import Tracks
from devices.config import CardReader
from devices.driver import finish
from devices.errors import DeviceError
from devices.link import OpenLink
from devices.status import DeviceStatus, StatusListener

log = structlog.get_logger(__name__)

F = TypeVar("F")
T = TypeVar("T")

POLL_SECONDS = 0.3
"""Between two looks for a card that is inserted or taken: a hand is no faster."""
RETAIN_SECONDS = 15.0
"""How long after the time to take a card its retention may last, both attempts and the wait for the wire included."""


class CardReaderDriver(Mechanism[F]):
    """A supervised card reader, speaking in frames `F`; a subclass gives its mechanism."""

    def __init__(self, settings: CardReader, open_link: OpenLink, on_status: StatusListener) -> None:
        super().__init__(settings.port, settings.baud, open_link, on_status)
        self._settings = settings
        self._turn = asyncio.Lock()
        self._in_use = False
        self._protocol: ChipProtocol | None = None
        self._gate: asyncio.Future[Ending | None] | None = None
        self._take_until = 0.0
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def card(self, *, wait_seconds: float | None = None) -> AsyncIterator[None]:
        """Let one card in; inside the block it can be used, after the block it is on its way out.

        Waits up to `wait_seconds` (`card_wait_seconds` by default). However the block ends, the card is moved to the
        gate before the caller goes on, even when it is cancelled; there it is watched by the reader and retained
        after `take_seconds`. Whoever wants to know what became of it calls `eject` in the block.

        Raises DeviceError `cardreader.busy`, `cardreader.not_taken` (the last card still is at the gate),
        `cardreader.no_card`, `cardreader.invalid_card`, `cardreader.jammed`, `cardreader.card_removed` (the reader was
        lost and came back while a card was waited for), or why the reader does not serve.
        """
        self.require_online()
        until = self._clock() + (self._settings.card_wait_seconds if wait_seconds is None else wait_seconds)
        try:
            async with asyncio.timeout_at(until):
                await self._turn.acquire()
        except TimeoutError:
            raise self.error("busy", "another card is served", advice="serve one at a time", retry=True) from None
        try:
            await self._wait_until_clear(until)
            try:
                await self._let_in(until)
                yield
            finally:
                if self._in_use:
                    with suppress(DeviceError):  # the status tells it, and the reader's life tries again
                        await finish(self._hand_back())
        finally:
            self._turn.release()

    async def read_tracks(self) -> Tracks:
        """Read the magnetic tracks of the card in use; raise DeviceError."""
        self.require_capability("readTracks")
        return await self._with_card(self._read_tracks)

    async def power(self, how: ChipPower) -> Atr | None:
        """Reset the chip of the card in use, or switch it off; return its ATR after a reset. Raises DeviceError."""
        self.require_capability("chipPower")

        async def work() -> Atr | None:
            self._protocol = None
            if how is ChipPower.OFF:
                await self._chip_off()
                return None
            atr = await self._reset_chip(warm=how is ChipPower.WARM)
            self._protocol = atr.protocol
            return atr

        return await self._with_card(work)

    async def transmit(self, command: bytes) -> Response:
        """Exchange an APDU with the chip of the card in use, over T=0 with what that leaves to the host.

        Raises DeviceError, `cardreader.chip_off` when the chip was not reset before.
        """

        async def work() -> Response:
            if (protocol := self._protocol) is None:
                raise self.error("chip_off", "the chip has no power", advice="reset the chip first", retry=False)
            if protocol is ChipProtocol.T1:
                return await self._transmit(command, protocol)
            return await exchange_t0(lambda part: self._transmit(part, protocol), command)

        return await self._with_card(work)

    async def seek_contactless(self) -> bool:
        """Tell whether the card in use answers over the air; raise DeviceError."""
        self.require_capability("contactless")
        return await self._with_card(self._seek_contactless)

    async def eject(self) -> Ending:
        """Hand the card back and wait until it is taken, or retained after `take_seconds`; the card is then not in use.

        Raises DeviceError `cardreader.jammed` when it does not come out, `cardreader.not_taken` when it can neither be
        taken nor retained, or why the reader does not serve any more.
        """
        self._require_card()
        gate = await finish(self._hand_back())
        if gate is None:
            return Ending.TAKEN
        try:
            async with asyncio.timeout(self._settings.take_seconds + RETAIN_SECONDS):
                ending = await asyncio.shield(gate)
        except TimeoutError:
            raise self.not_taken() from None
        if ending is None:
            self._require_free()
            raise self.not_taken()
        return ending

    async def retain(self) -> None:
        """Keep the card in use; raise DeviceError `cardreader.jammed` when it does not move."""

        async def work() -> None:
            media = await self._capture()
            self._in_use = False
            self._tell(media)
            self._require_free()

        await finish(self._with_card(work))

    async def is_clear(self) -> bool:
        """Tell whether no card is in the reader or at its gate; raise DeviceError when the reader does not serve."""
        self.require_online()
        return self.status.details.get("media") == Media.NOT_PRESENT

    async def take_back(self) -> None:
        """Retain the card that nobody took; raise DeviceError `cardreader.jammed` when one stays where it is."""
        self.require_online()
        async with self._lock:
            media = await self._guard()
            if media is Media.ENTERING:
                media = await self._capture()
            self._tell(media)
        if media is not Media.NOT_PRESENT:
            raise self.jammed()

    async def _open(self) -> DeviceStatus:
        self._in_use = False  # who used a card in an earlier life has lost it
        self._entry_open = True  # the default of a reader that was switched on, and what a dead process may have left
        self._identity = await self._wake()
        return await self._check()

    async def _check(self) -> DeviceStatus:
        return self._status_with(await self._guard())

    async def _leave(self) -> None:
        self._in_use = False
        self._gate_cleared(None)
        if self._look is not None:
            self._look.cancel()
        if self._entry_open:
            with suppress(DeviceError):
                await self._shut()
        media = Media.UNKNOWN
        with suppress(DeviceError):
            media = await self._media()
        if media in INSIDE:
            await self._eject()

    async def _guard(self) -> Media:
        """See where the card is; when nobody uses one, none gets in, and one that is there goes out."""
        media = await self._media()
        if self._in_use:
            return media
        if self._entry_open:
            await self._shut()
            media = await self._media()
        try:
            if media in INSIDE:
                media = await self._move(self._eject)
            elif media is Media.ENTERING and self._gate is not None and self._clock() >= self._take_until:
                media = await self._capture()
        except DeviceError as error:
            if error.code != self.card_removed().code:
                raise
            media = await self._media()
        self._watch_gate(media)
        return media

    def _watch_gate(self, media: Media) -> None:
        """Look again soon while a card is at the gate; tell who waits when it is gone."""
        if media is not Media.ENTERING:
            self._gate_cleared(Ending.TAKEN if media is Media.NOT_PRESENT else None)
            return
        if self._gate is None:
            self._gate = asyncio.get_running_loop().create_future()
            self._take_until = self._clock() + self._settings.take_seconds
        if self._look is not None:
            self._look.cancel()
        self._look = asyncio.get_running_loop().call_later(POLL_SECONDS, self._check_now.set)

    def _gate_cleared(self, ending: Ending | None) -> None:
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(ending)
        self._gate = None

    async def _capture(self) -> Media:
        """Retain the card; one that a hand holds at the gate is left there for another `take_seconds`."""
        media = await self._move(self._retain)
        self._take_until = self._clock() + self._settings.take_seconds
        if media is Media.NOT_PRESENT:
            self._retained += 1
            log.warning("card_retained", device=self.kind, retained=self._retained)
            self._gate_cleared(Ending.RETAINED)
        return media

    async def _shut(self) -> None:
        await self._set_entry(allowed=False)
        self._entry_open = False

    async def _hand_back(self) -> asyncio.Future[Ending | None] | None:
        """End the use of the card and move it to the gate; return what will tell when it has left that, if it is there.

        What fails here is tried again by the reader's life, which ends when the reader does not answer.
        """
        self._in_use, self._protocol = False, None
        try:
            async with self._lock:
                media = await self._guard()
                self._tell(media)
                gate = self._gate
        except DeviceError:
            self._check_now.set()
            raise
        if media is Media.JAMMED:
            raise self.jammed()
        return gate

    async def _wait_until_clear(self, until: float) -> None:
        """Wait until the last card has left the gate."""
        while True:
            async with self._lock:
                media = await self._guard()
                self._tell(media)
            self._require_free()
            if media is Media.NOT_PRESENT:
                return
            await self._pause(until, self.not_taken())

    async def _let_in(self, until: float) -> None:
        """Let a card in and wait for it."""
        async with self._lock:
            self._in_use = self._entry_open = True
            await self._set_entry(allowed=True)
        while True:
            async with self._lock:
                self._require_card()  # another life of the reader has shut the entry
                media = await self._media()
                if media in INSIDE:
                    await self._shut()
                    self._tell(media)
            if media is Media.PRESENT:
                return
            if media is Media.UNKNOWN:
                raise self.invalid_card()
            over = self.error("no_card", "no card was inserted", advice="ask for the card again", retry=True)
            await self._pause(until, over)

    async def _pause(self, until: float, over: DeviceError) -> None:
        """Wait before the next look; raise `over` when the time is over."""
        if self._clock() + POLL_SECONDS > until:
            raise over
        await asyncio.sleep(POLL_SECONDS)
        self.require_online()

    async def _with_card(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something with the card in use, alone on the wire."""
        async with self._lock:
            self._require_card()
            return await work()

    def _require_card(self) -> None:
        if not self._in_use:
            self.require_online()
            raise self.card_removed()

    def _require_free(self) -> None:
        """Raise DeviceError when the reader does not serve, or a card is stuck in it."""
        self.require_online()
        if self.status.code is not None:
            raise self.jammed()

    def _tell(self, media: Media) -> None:
        self._report(self._status_with(media))

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()
