"""What outlives the daemon: every device of the rig on its wire, the broker, the platform, the clocks, the mains."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import astuple
from itertools import count
from pathlib import Path

from devices.cardreader.protocol import Position
from devices.hotplug import UsbDevice, UsbPort
from sim.devices.environment import VirtualEnvironmentUnit
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.devices.paper import Paper
from sim.devices.printer import VirtualPrinter
from sim.devices.ups import VirtualMegatecUps
from sim.memory import MemoryPort, MemoryRoutes
from sim.people import Citizen
from sim.platform.services import certificates
from sim.simulate.people import People
from sim.uplink import MemoryUplink
from sim.usb import MemoryHotplug
from sim.wire import VirtualDevice
from sim.world import PHOTO, Keys, Outside, wall_clock

DEVICES = ("idcard", "printer", "cardreader", "pinpad", "fingerprint", "ups", "environment")
LATENCY_SECONDS = 0.01
CHUNK_BYTES = (None, None, 16)
"""How devices say what they say: at once, or in pieces."""
LINE_SECONDS = (0.002, 0.02, 0.2)
"""What a message takes to the broker, or from it."""
ADAPTER = "0403:6001"
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
        self.hotplug, self.routes = MemoryHotplug(), MemoryRoutes()
        self._nodes = count()
        for kind in DEVICES:
            self.plug(kind)
        self.line_seconds = chance.choice(LINE_SECONDS)
        self.uplink = MemoryUplink(latency_seconds=self.line_seconds)
        self._has_power = self._is_printer_on = True
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

    def plug(self, kind: str) -> None:
        """Plug a device into its place at USB, where it gets another node each time; twice is nothing."""
        self.ports[kind].plug()
        place = _place(kind)
        if place not in self.hotplug.devices:
            node = f"ttyUSB{next(self._nodes)}"
            self.hotplug.attach(UsbDevice(place, ADAPTER, frozenset({"ffffff"})))
            path = f"{place}/{place.rpartition('/')[2]}:1.0/{node}/tty/{node}"
            self.hotplug.plug(UsbPort(f"/dev/{node}", frozenset({f"/dev/{kind}"}), ADAPTER, f"A{kind}", path))

    def unplug(self, kind: str) -> None:
        """Take a device away; twice is nothing."""
        self.ports[kind].unplug()
        self.hotplug.unplug(f"/dev/{kind}")
        self.hotplug.detach(_place(kind))

    def lose_wires(self) -> None:
        """Free every port and forget who listened: the process that did is gone."""
        self.hotplug.lose()
        self.routes.lose()
        for port in self.ports.values():
            port.free()

    def cut_power(self) -> None:
        """Take the power from every device for a moment."""
        self.lose_wires()
        self._has_power = False
        self.printer.power_off()
        self.cardreader.power_cycle()
        self.fingerprint.power_cycle()

    def give_power(self) -> None:
        """Give the devices their power again; a printer that is switched off stays so."""
        self._has_power = True
        self.switch_printer(on=self._is_printer_on)

    def switch_printer(self, *, on: bool) -> None:
        """Switch the printer on or off."""
        self._is_printer_on = on
        if on and self._has_power:
            self.printer.power_on()
        else:
            self.printer.power_off()


def _place(kind: str) -> str:
    return f"/sys/devices/usb1/1-{1 + DEVICES.index(kind)}"


def typeset_plainly() -> None:
    """Let this process's platform write certificates that say only whose they are: typesetting costs 20 ms each."""
    vars(certificates)["write_certificate"] = _write_certificate


def _write_certificate(_kind: object, citizen: Citizen, *, number: str, **_page: object) -> bytes:
    return f"%PDF-1.7\n{number} {citizen.id_number}\n".encode()
