"""Tells the platform from time to time how the terminal is (T16): the record that a full disk sheds first."""

import asyncio
from collections.abc import Callable

import structlog

from runtime.journal import Journal, JournalError
from runtime.messages import TerminalHealth, unknown_fields
from runtime.seams import Usage
from runtime.services.steps import Origin
from runtime.state import Component, StateBoard

log = structlog.get_logger(__name__)

HEALTH_SECONDS = 300.0
"""Between two records: powered-on time is known to within this."""


class Health:
    """Writes a TerminalHealth record every HEALTH_SECONDS; a supervised unit.

    The component `memory` says whether what the daemon holds may reach swap: `locked` or `unlocked` (T20).
    """

    def __init__(self, journal: Journal, origin: Origin, state: StateBoard, usage: Callable[[], Usage]) -> None:
        self._journal = journal
        self._origin = origin
        self._state = state
        self._usage = usage
        self._is_lost = False

    async def run(self, ready: Callable[[], None]) -> None:
        """Write until cancelled; a record that the journal does not take is lost, and the log says so once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._state.set("memory", Component("locked" if self._usage().is_locked else "unlocked"))
        ready()
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            try:
                await self._journal.append(await self._look(loop.time() - began))
                self._is_lost = False
            except JournalError as error:
                if not self._is_lost:
                    log.warning("health_not_journaled", code=error.code)
                self._is_lost = True

    async def _look(self, up_seconds: float) -> TerminalHealth:
        usage = self._usage()
        return TerminalHealth(
            at=self._origin.wall_clock(),
            boot_id=self._origin.boot_id,
            rig=self._origin.rig,
            up_seconds=round(up_seconds, 1),
            states={name: component.state for name, component in sorted(self._state.full().items())},
            waiting={str(stream): count for stream, count in (await self._journal.waiting()).items()},
            resident_bytes=usage.resident_bytes,
            open_descriptors=usage.open_descriptors,
            unknown_fields=unknown_fields.total(),
        )
