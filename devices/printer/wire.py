"""One life of the printer's line: commands go out, and what the printer says of itself is kept."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from devices.link import Link, LinkLost
from devices.printer import protocol
from devices.printer.protocol import AutomaticStatus, Condition, Flow, PaperReply, RealTimeReply, StatusDecoder

ANSWER_SECONDS = 0.3
_BITS_PER_BYTE = 10


class Wire:
    """An open line to a printer; `on_condition` gets what the printer says of itself, as a whole."""

    def __init__(self, link: Link, baud: int, on_condition: Callable[[Condition], None]) -> None:
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
        self.torn = False
        """Whether a write was broken off, so that the printer may wait for the rest of a command."""
        self._link = link
        self._seconds_per_byte = _BITS_PER_BYTE / baud
        self._on_condition = on_condition
        self._decoder = StatusDecoder()
        self._news = asyncio.Event()
        self._sent_at = 0.0
        self._quiet_at = 0.0

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

    def _take(self, event: protocol.Event) -> None:
        self.heard = True
        match event:
            case Flow(stopped):
                self.stopped = stopped
            case PaperReply():
                self.paper = event
            case RealTimeReply(n, byte):
                self.answered = True
                self.condition = self.condition.after_reply(n, byte)
                self.fault = self.condition.fault or self.fault
            case AutomaticStatus(frame):
                self.condition = Condition.from_automatic(frame)
                self.fault = self.condition.fault or self.fault
                self._on_condition(self.condition)

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
        self._sent_at = asyncio.get_running_loop().time() + self.lag_seconds + len(data) * self._seconds_per_byte

    async def poll(self) -> bool:
        """Ask DLE EOT 1 to 4, 300 ms for each, and return whether any was answered; raise LinkLost."""
        answers = [await self._ask(n) for n in protocol.REAL_TIME_QUERIES]
        if any(answers):
            self._on_condition(self.condition)
        return any(answers)

    async def _ask(self, n: int) -> bool:
        """Ask DLE EOT n.

        An answer does not say which question it belongs to (L15), so after a question that was not answered
        the line must first be quiet for as long again.
        """
        await asyncio.sleep(self._quiet_at - asyncio.get_running_loop().time())
        self._decoder.asked = n
        seconds = self.lag_seconds + ANSWER_SECONDS
        self._quiet_at = asyncio.get_running_loop().time() + seconds + ANSWER_SECONDS
        answered = False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.write(protocol.real_time_query(n))
                answered = await self.until(lambda: self._decoder.asked is None, seconds)
        self._decoder.asked = None
        if answered:
            self._quiet_at = 0.0
        return answered

    async def ask_paper(self) -> None:
        """Send GS r 1; its answer will stand in `paper`."""
        self.paper = None
        self._decoder.paper_asked = True
        await self.write(protocol.PAPER_QUERY)
