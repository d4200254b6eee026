"""What outlives the daemon: every device of the rig on its wire, the broker, the platform, the clocks, the mains."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

from devices.cardreader.protocol import Position
from sim.devices.environment import VirtualEnvironmentUnit
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.devices.paper import Paper
from sim.devices.printer import VirtualPrinter
from sim.devices.ups import VirtualMegatecUps
from sim.memory import MemoryPort
from sim.people import Citizen
from sim.platform.services import certificates
from sim.simulate.people import People
from sim.uplink import MemoryUplink
from sim.wire import VirtualDevice
from sim.world import PHOTO, Keys, Outside, wall_clock

DEVICES = ("idcard", "printer", "cardreader", "pinpad", "fingerprint", "ups", "environment")
LATENCY_SECONDS = 0.01
CHUNK_BYTES = (None, None, 16)
"""How devices say what they say: at once, or in pieces."""
LINE_SECONDS = (0.002, 0.02, 0.2)
"""What a message takes to the broker, or from it."""
HELD_OUT = (Position.GATE_LOOSE, Position.GATE_HELD)
BATTERY_MINUTES = 30.0


class Surroundings(Outside):
    """All around the terminal; make it in a running loop."""

    def __init__(self, keys: Keys, people: People, chance: random.Random) -> None:
        super().__init__(keys, Path("no-font"), people.population)
        self.people = people
        self.on_paper: Callable[[Paper], None] = lambda _: None
        self.printer = VirtualPrinter(width_dots=384, on_paper=self._paper_comes_out)
        self.fingerprint = VirtualFingerprintSensor()
        self.ups = VirtualMegatecUps(asyncio.get_running_loop().time, minutes=BATTERY_MINUTES)
        self.environment = VirtualEnvironmentUnit()
        devices: tuple[VirtualDevice, ...] = (
            self.reader,
            self.printer,
            self.cardreader,
            self.pinpad,
            self.fingerprint,
            self.ups,
            self.environment,
        )
        self.ports = {
            kind: MemoryPort(device, latency_seconds=LATENCY_SECONDS, chunk_bytes=chance.choice(CHUNK_BYTES))
            for kind, device in zip(DEVICES, devices, strict=True)
        }
        self.line_seconds = chance.choice(LINE_SECONDS)
        self.uplink = MemoryUplink(latency_seconds=self.line_seconds)
        self.clock_off_seconds = 0.0
        """How far the terminal's wall clock is from the right time."""

    def _paper_comes_out(self, paper: Paper) -> None:
        self.on_paper(paper)

    def terminal_clock(self) -> float:
        """Return the terminal's wall clock, seconds since 1970."""
        return wall_clock() + self.clock_off_seconds

    def lay_card(self, citizen: Citizen) -> None:
        """Lay an ID card on the reader."""
        names = ("name", "sex", "nation", "birth", "address", "id_number", "issuer", "valid_from", "valid_to")
        self.reader.place_card(**dict(zip(names, astuple(citizen), strict=True)), photo=PHOTO)

    @property
    def holds_out_card(self) -> bool:
        """Whether a bank card is held out."""
        return self.cardreader.position in HELD_OUT

    def lose_wires(self) -> None:
        """Free every port: the process that had them open is gone."""
        for port in self.ports.values():
            port.free()

    def cut_power(self) -> None:
        """Take the power from every device for a moment."""
        self.lose_wires()
        self.printer.power_off()
        self.cardreader.power_cycle()
        self.fingerprint.power_cycle()

    def give_power(self) -> None:
        """Give the devices their power again."""
        self.printer.power_on()


def typeset_plainly() -> None:
    """Let this process's platform write certificates that say only whose they are: typesetting costs 20 ms each."""
    vars(certificates)["write_certificate"] = _write_certificate


def _write_certificate(_kind: object, citizen: Citizen, *, number: str, **_page: object) -> bytes:
    return f"%PDF-1.7\n{number} {citizen.id_number}\n".encode()
