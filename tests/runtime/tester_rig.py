"""What the tests of probe, capture and replay share: each kind's virtual device, and what a hand does to it."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from runtime.probe import Bench, Report, make_settings, probe
from sim.devices.cardreader import VirtualCardReader
from sim.devices.environment import VirtualEnvironmentUnit
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.devices.idcard import VirtualIdCardReader
from sim.devices.pinpad import VirtualPinPad
from sim.devices.printer import VirtualPrinter
from sim.devices.ups import VirtualMegatecUps
from sim.memory import MemoryLinks, MemoryPort
from sim.people import make_citizen
from sim.wire import VirtualDevice

CITIZEN = make_citizen(1, seed=7)
PHOTO = bytes(range(255, -1, -1)) * 4

MAKE: dict[str, Callable[[], VirtualDevice]] = {
    "idcard": VirtualIdCardReader,
    "printer": VirtualPrinter,
    "fingerprint": VirtualFingerprintSensor,
    "cardreader": VirtualCardReader,
    "pinpad": VirtualPinPad,
    "ups": lambda: VirtualMegatecUps(asyncio.get_running_loop().time),
    "environment": VirtualEnvironmentUnit,
}


def lay_down_card(device: Any) -> None:
    device.place_card(**asdict(CITIZEN), photo=PHOTO)


@dataclass
class Hand:
    """Does what the tester is asked for, a moment later."""

    device: Any
    nudge: Callable[[], None]

    def __call__(self, what: str) -> None:
        asked = {
            "ID card": [(0.2, lambda: lay_down_card(self.device))],
            "bank card": [(0.4, partial(self.do, "insert_card")), (3.0, self.take_when_it_is_out)],
            "lay a finger": [(0.3, lambda: self.device.place_finger("thumb"))],
            "finger.lift": [(0.3, partial(self.do, "lift_finger"))],
            "finger.place": [(0.6, lambda: self.device.place_finger("thumb"))],
            "function key": [(0.3, lambda: self.device.function(3))],
        }
        for word, acts in asked.items():
            if word in what:
                for seconds, act in acts:
                    asyncio.get_running_loop().call_later(seconds, self.act, act)

    def do(self, verb: str) -> None:
        self.device.verbs[verb]()

    def take_when_it_is_out(self) -> None:
        try:
            self.device.take_card()
        except ValueError:
            asyncio.get_running_loop().call_later(0.2, self.take_when_it_is_out)

    def act(self, act: Callable[[], object]) -> None:
        act()
        self.nudge()


def memory_bench(kind: str, device: VirtualDevice | None = None, *, hand: bool = False, **wire: Any) -> Bench:
    """A bench on an in-memory wire; to be made in a running loop."""
    made = MAKE[kind]() if device is None else device
    port = MemoryPort(made, **wire)
    return Bench(
        kind, make_settings(kind, kind, None), MemoryLinks({kind: port}), hand=hand, tell=Hand(made, port.nudge)
    )


async def outcomes(bench: Bench, steps: Any) -> tuple[Report, dict[str, tuple[str, str]]]:
    report = await probe(bench, steps)
    return report, {step.name: (step.outcome, step.detail) for step in report.steps}
