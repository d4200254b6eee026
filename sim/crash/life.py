"""One life of the daemon under watch, and what remains of it when it stops without clean-up."""

import dataclasses
import shutil
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

from devices.cardreader.protocol import Position
from runtime.seams import Seams
from sim.caller import Caller
from sim.crash.points import Points
from sim.crash.views import WatchedExecutor, open_journal
from sim.crash.wires import PlatformUplink, WatchedClient, WatchedUplink, watch_links
from sim.platform.service import serve
from sim.world import UI_UID, Outside, World
from transport.uplink import Message

SCAN_BYTES = 50_000
"""The scans of an application together are then a call of several parts."""

HELD_OUT = (Position.GATE_LOOSE, Position.GATE_HELD)


class WatchedWorld(World):
    """A world in which everything that outlives the daemon, and the journal, passes points."""

    def __init__(
        self, directory: Path, outside: Outside, points: Points, content: bytes = b"", *, skips_fsync: bool = False
    ) -> None:
        self.watched = open_journal(points, content, skips_fsync=skips_fsync)
        super().__init__(directory, outside, journal=self.watched, bank=True)
        self.points = points
        self.on_way: deque[Message] = deque()
        self.client = WatchedClient(UI_UID, points)
        self.vision.document = self.vision.document.ljust(SCAN_BYTES)

    def seams(self) -> Seams:
        """Return the daemon's seams, watched."""
        return dataclasses.replace(
            super().seams(),
            journal=WatchedExecutor(self.watched, self.settings.audit_file, self.points),
            uplink=WatchedUplink(self.uplink, self.points, self.on_way),
            open_link=watch_links(self.links, self.points, lambda: effects(self.outside)),
        )

    async def serve_platform(self) -> None:
        """Keep the platform on the broker until cancelled."""
        await serve(self.platform, PlatformUplink(self.uplink, self.points, self.on_way), lambda: None)

    def citizen(self) -> Caller:
        """Return the citizen's client program; `client`, its connection, remembers what was told."""
        self.entrance.waiting.put_nowait(self.client)
        return Caller(self.client)

    async def lay_card(self) -> None:
        """Lay the citizen's ID card on the reader."""
        self.place_card()

    async def lift_card(self) -> None:
        """Take it away."""
        self.reader.remove_card()

    async def insert_bank_card(self) -> None:
        """Put the citizen's bank card into the reader."""
        self.outside.cardreader.insert_card()
        self.cardreader_port.nudge()

    async def enter_pin(self, digits: str) -> None:
        """Press digits on the PIN pad, and enter."""
        self.outside.pinpad.press(digits)
        self.outside.pinpad.enter()
        self.pinpad_port.nudge()

    async def take_bank_card(self) -> None:
        """Take the bank card, if it is held out."""
        if self.outside.cardreader.position in HELD_OUT:
            self.outside.cardreader.take_card()

    async def order(self, verb: str, **args: Any) -> Any:
        """Have the reference platform do something."""
        return self.platform.verbs[verb](**args)

    def bury(self) -> None:
        """Let the platform speak to this life no more."""
        self.platform.on_push = lambda _: None

    def deliver(self) -> None:
        """Let the platform take what the broker has: the daemon's end keeps nothing from arriving."""
        while self.on_way:
            self.platform.handle(self.on_way.popleft())

    def copy_files(self, directory: Path) -> None:
        """Copy what the daemon left in its state directory to another one."""
        with suppress(FileNotFoundError):
            shutil.copy(self.settings.audit_file, directory)


def effects(outside: Outside) -> Hashable:
    """Return what the devices did that cannot be undone: paper that came out, where a card is."""
    printer, reader = outside.printer, outside.cardreader
    return (len(printer.papers), printer.scraps, printer.hanging.height_dots, reader.position, len(reader.bin))
