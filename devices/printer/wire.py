"""One life of the printer's line: commands go out, and what the printer says of itself is kept."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from devices.link import Link, LinkLost
from devices.printer import protocol
from devices.printer.decoder import (
    AutomaticStatus,
    Event,
    Flow,
    PaperReply,
    PresenterReply,
    RealTimeReply,
    SerialNumber,
    StatusDecoder,
)
from devices.printer.protocol import Condition

ANSWER_SECONDS = 0.3


class Wire:
    """An open line to a printer; `on_condition` gets what the printer says of itself, as a whole.

    `bytes_per_second` is the rate of a serial line. Without one the link takes bytes as fast as the printer does.
    """

    def __init__(self, link: Link, bytes_per_second: float | None, on_condition: Callable[[Condition], None]) -> None:
        self.bytes_per_second = bytes_per_second
        self.condition = Condition()
        self.fault: str | None = None
        """The last fault that was told since this was set to None; one that has passed counts too."""
        self.answered = False
        """Whether DLE EOT was ever answered in this life."""
        self.heard = False
        """Whether the printer said anything in this life."""
        self.stopped = False
        """Whether the printer asked to stop sending (XOFF)."""
        self.lost = False
        self.paper: PaperReply | None = None
        """The answer to the last GS r 1."""
        self.serial: SerialNumber | None = None
        """The answer to GS I in this life."""
        self.serial_known = False
        """Whether GS I was asked, answered or not."""
        self.presenter: PresenterReply | None = None
        """The answer to the last GS e 6."""
        self.torn = False
        """Whether a write was broken off, so that the printer may wait for the rest of a command."""
        self._link = link
        self._on_condition = on_condition
        self._decoder = StatusDecoder()
        self._news = asyncio.Event()
        self._sent_at = 0.0
        self._quiet_at = 0.0
        self._sending: asyncio.Timeout | None = None

    @property
    def strays(self) -> int:
        """How many bytes came that answer nothing."""
        return self._decoder.strays

    @property
    def lag_seconds(self) -> float:
        """How long the line still needs for what was written, at its nominal rate."""
        return max(0.0, self._sent_at - asyncio.get_running_loop().time())

    async def listen(self) -> None:
        """Read until the link is lost."""
        try:
            while True:
                for event in self._decoder.feed(await self._link.read()):
                    self._take(event)
                self.notify()
        except LinkLost:
            self.lost = True
            self.notify()

    def _take(self, event: Event) -> None:
        self.heard = True
        match event:
            case Flow(stopped):
                self.stopped = stopped
            case PaperReply():
                self.paper = event
            case SerialNumber():
                self.serial = event
            case PresenterReply():
                self.presenter = event
            case RealTimeReply(n, byte):
                self.answered = True
                self._quiet_at = 0.0
                self._learn(self.condition.after_reply(n, byte))
            case AutomaticStatus(frame):
                self._learn(Condition.from_automatic(frame))
                self._on_condition(self.condition)

    def _learn(self, condition: Condition) -> None:
        """Keep what was told; a fault ends the write that waits for a printer which takes no more bytes."""
        self.condition = condition
        self.fault = condition.fault or self.fault
        if self.fault is not None and self._sending is not None:
            self._sending.reschedule(asyncio.get_running_loop().time())
            self._sending = None

    def notify(self) -> None:
        """Let all who wait in `until` look again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def until(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Wait at most `seconds` for `happened` and return whether it did; raise LinkLost when the link is lost."""
        try:
            async with asyncio.timeout(seconds):
                while not self.lost and not happened():
                    await self._news.wait()
        except TimeoutError:
            return False
        if self.lost:
            raise LinkLost("the printer's line is gone")
        return True

    async def write(self, data: bytes) -> None:
        """Send bytes; raise LinkLost when the link is lost."""
        self.torn = True
        await self._link.write(data)
        self.torn = False
        if self.bytes_per_second is not None:
            self._sent_at = asyncio.get_running_loop().time() + self.lag_seconds + len(data) / self.bytes_per_second

    async def send(self, data: bytes) -> None:
        """Send a part of a job, or as much of it as the link takes before a fault is told; raise LinkLost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as self._sending:
                await self.write(data)
        self._sending = None

    async def poll(self) -> bool:
        """Ask DLE EOT 1 to 4, 300 ms for each, and return whether any was answered; raise LinkLost."""
        answers = [await self.ask(n) for n in protocol.REAL_TIME_QUERIES]
        if any(answers):
            self._on_condition(self.condition)
        return any(answers)

    async def ask(self, n: int) -> bool:
        """Ask DLE EOT n and return whether it was answered; raise LinkLost.

        An answer does not say which question it belongs to (L15), so after a question that was not answered
        the line must first be quiet for as long again.
        """
        loop = asyncio.get_running_loop()
        await self.until(lambda: self._quiet_at == 0.0, self._quiet_at - loop.time())
        self._decoder.asked = n
        seconds = self.lag_seconds + ANSWER_SECONDS
        self._quiet_at = loop.time() + seconds + ANSWER_SECONDS
        answered = False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.write(protocol.real_time_query(n))
                answered = await self.until(lambda: self._decoder.asked is None, seconds)
        self._decoder.asked = None
        return answered

    async def knock(self) -> None:
        """Ask DLE EOT 1 without waiting; `owes_answer` until it is answered. Raises LinkLost."""
        self._decoder.asked = 1
        self._quiet_at = asyncio.get_running_loop().time() + self.lag_seconds + 2 * ANSWER_SECONDS
        await self.send(protocol.real_time_query(1))

    @property
    def owes_answer(self) -> bool:
        """Whether a question DLE EOT was not answered yet."""
        return self._decoder.asked is not None

    async def ask_paper(self) -> None:
        """Send GS r 1; its answer will stand in `paper`. Raises LinkLost."""
        self.paper = None
        self._decoder.paper_asked = True
        await self.write(protocol.PAPER_QUERY)

    async def ask_serial(self) -> str | None:
        """Return the printer's serial number (GS I 68); None when it tells none. Raises LinkLost."""
        self.serial_known = True
        self._decoder.serial_asked = True
        await self.write(protocol.SERIAL_NUMBER_QUERY)
        await self.until(lambda: self.serial is not None, self.lag_seconds + ANSWER_SECONDS)
        self._decoder.serial_asked = False
        return self.serial.text or None if self.serial is not None else None

    async def ask_presenter(self) -> PresenterReply | None:
        """Return how the presenter is (GS e 6); None when it does not answer. Raises LinkLost."""
        self.presenter = None
        self._decoder.presenter_asked = True
        await self.write(protocol.PRESENTER_QUERY)
        await self.until(lambda: self.presenter is not None, self.lag_seconds + ANSWER_SECONDS)
        self._decoder.presenter_asked = False
        return self.presenter
