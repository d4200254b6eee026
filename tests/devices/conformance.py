"""The conformance suite's table: every driver with its rig device, and the bed on which one driver is tried.

A new kind adds one row to CASES: how its driver and its virtual device are made, and one operation that says by itself
whether the answer was right.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from devices.cardreader import emv
from devices.cardreader.chip import ChipPower
from devices.cardreader.driver import Crt310
from devices.cardreader.protocol import Position
from devices.config import CardReader, Environment, Fingerprint, IdCard, PinPad, Printer, Ups
from devices.environment.driver import EnvironmentUnit
from devices.errors import DeviceError
from devices.fingerprint.driver import FingerprintSensor
from devices.fingerprint.finger import Guidance
from devices.idcard.driver import IdCardReader
from devices.link import Link, LinkLost, OpenLink
from devices.personal import Kind, PersonalText
from devices.pinpad.driver import EncryptingPinPad
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import Feed, Picture
from devices.status import DeviceState, DeviceStatus, StatusListener
from devices.ups.megatec import MegatecUps
from devices.ups.nut import NutUps
from devices.ups.status import Source
from sim.devices import pinblock
from sim.devices.cardreader import VirtualCardReader
from sim.devices.environment import VirtualEnvironmentUnit
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.devices.idcard import VirtualIdCardReader
from sim.devices.nut import PASSWORD, VirtualNutServer
from sim.devices.pinpad import MASTER_KEYS, VirtualPinPad
from sim.devices.printer import VirtualPrinter
from sim.devices.ups import VirtualMegatecUps
from sim.memory import MemoryLinks, MemoryPort
from sim.people import make_citizen
from sim.wire import Fault, VirtualDevice

RESTART_SECONDS = 0.5
"""From the end of a life to the next one, on the bed."""
HEAL_SECONDS = 120.0
"""Within which a driver serves again once its wire is whole: health check, deadlines and restart included."""


class Driver(Protocol):
    """What the suite needs of every driver."""

    status: DeviceStatus

    async def run(self, ready: Callable[[], None]) -> None: ...


class Bed:
    """A virtual device, a wire that may lose and delay what is said, and the driver, which is restarted when it ends.

    `lost_in` and `lost_out` are the shares of the device's and of the terminal's utterances that never arrive.
    """

    def __init__(self, case: "Case", open_link: OpenLink | None = None, **wire: Any) -> None:
        self.case = case
        self.device: Any = case.make_device()
        self.port = MemoryPort(self.device, **wire)
        self.lost_in = self.lost_out = 0.0
        self.chance = random.Random(20)  # noqa: S311 - a test's
        self.statuses: list[DeviceStatus] = []
        self.ends: list[Exception] = []
        self.lives = 0
        self.link: Any = None
        self._ready_now = False
        self._baud: int | None = None
        self._changed = asyncio.Event()
        self._memory = MemoryLinks({"port": self.port})
        self._open_link = open_link or self._open_memory
        self.driver: Any = case.make_driver(self._open, self._note)

    async def _open(self, port: str, baud: int, *line: Any) -> Link:
        self._baud = self._baud or baud
        return LossyLink(self, await self._open_link(port, baud, *line), heard=baud == self._baud)

    async def _open_memory(self, port: str, baud: int, *_: Any) -> Link:
        return await self._memory("port", baud)

    def _note(self, status: DeviceStatus) -> None:
        self.statuses.append(status)
        self._changed.set()

    def _ready(self) -> None:
        self.lives += 1
        self._ready_now = True
        self._changed.set()

    async def supervise(self) -> None:
        while True:
            try:
                await self.driver.run(self._ready)
            except (LinkLost, DeviceError) as end:
                self._ready_now = False
                self.ends.append(end)
                await asyncio.sleep(RESTART_SECONDS)

    async def until(self, happened: Callable[[], bool], seconds: float = HEAL_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not happened():
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await self._changed.wait()

    @property
    def serving(self) -> bool:
        return self._ready_now and self.driver.status.state is DeviceState.ONLINE

    async def until_serving(self) -> None:
        await self.until(lambda: self.serving)

    async def until_lost(self) -> None:
        await self.until(lambda: self.driver.status.state is DeviceState.OFFLINE)

    async def operate(self, variant: int = 0) -> None:
        """Do the kind's operation; raise DeviceError when it was not done, AssertionError when it was done wrongly."""
        await self.case.operate(self, variant)

    async def healed(self, variant: int = 0) -> None:
        """See that the device can be used again, within HEAL_SECONDS and a few refusals."""
        async with asyncio.timeout(HEAL_SECONDS):
            while True:
                await self.until_serving()
                try:
                    return await self.operate(variant)
                except DeviceError:
                    await asyncio.sleep(RESTART_SECONDS)

    def nth_reply(self, nth: int, work: Callable[[], object]) -> None:
        """Do `work` just before the device's reply number `nth` from now is sent."""
        apply, left = self.port.faults.apply, nth

        def counted(reply: bytes) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                work()
            return apply(reply)

        self.port.faults.apply = counted  # type: ignore[method-assign]

    def fault_at(self, nth: int, kind: Fault) -> None:
        self.nth_reply(nth, lambda: self.port.faults.add(kind))


class LossyLink:
    """A link that loses whole utterances, each with the bed's probability, and all of them at another line rate."""

    def __init__(self, bed: Bed, link: Link, *, heard: bool) -> None:
        self._bed = bed
        self._heard = heard
        self._link = link
        bed.link = link

    async def read(self) -> bytes:
        while True:
            said = await self._link.read()
            if self._heard and self._bed.chance.random() >= self._bed.lost_in:
                return said

    async def write(self, data: bytes) -> None:
        if self._heard and self._bed.chance.random() >= self._bed.lost_out:
            await self._link.write(data)

    async def close(self) -> None:
        await self._link.close()


@asynccontextmanager
async def running(bed: Bed) -> AsyncIterator[Bed]:
    """Run the driver of a bed; no task of it is left behind."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(bed.supervise(), name="supervisor")
    try:
        await bed.until_serving()
        yield bed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = asyncio.all_tasks() - before
        assert not left, f"tasks left: {left}"


@asynccontextmanager
async def hand(step: Callable[[], object]) -> AsyncIterator[None]:
    """A citizen's hand, which tries its next step ten times a second."""

    async def move() -> None:
        while True:
            await asyncio.sleep(0.1)
            step()

    task = asyncio.create_task(move(), name="hand")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


CITIZENS = (make_citizen(1, seed=7), make_citizen(2, seed=7))
PHOTO = bytes(range(256)) * 4


async def read_id_card(bed: Bed, variant: int) -> None:
    citizen = CITIZENS[variant]
    bed.device.place_card(**asdict(citizen), photo=PHOTO)
    record = await bed.driver.read_card(wait_seconds=5)
    assert (record.name.reveal(), record.id_number.reveal()) == (citizen.name, citizen.id_number)
    assert bytes(record.photo.view()) == PHOTO
    record.wipe()


ROWS = tuple(b"".join(bytes(((at * 7 + 3) % 251 | mark,)) * 72 for at in range(48)) for mark in (1, 128))


async def print_receipt(bed: Bed, variant: int) -> None:
    papers = bed.device.papers
    papers.clear()
    result = await bed.driver.print_job([Picture(576, 48, ROWS[variant]), Feed(1)])
    if result.outcome == "printed":
        assert sum(ROWS[variant] in paper.rows for paper in papers) == 1, "printed means on paper, once"
        return
    if result.outcome == "not_printed":
        assert all(paper.blank for paper in papers), "not printed means nothing on paper"
    raise DeviceError(result.code, result.outcome, advice="try again", retry=True)


CARD_NUMBERS = ("6222021234567894", "6228480402564890018")
GATE = {Position.GATE_LOOSE, Position.GATE_HELD}


async def read_bank_card(bed: Bed, variant: int) -> None:
    device, driver, number = bed.device, bed.driver, CARD_NUMBERS[variant]
    inserted = False

    def step() -> None:
        nonlocal inserted
        if device.position in GATE:
            device.take_card()
        elif device.entry and device.position is Position.NONE and not inserted:
            device.insert_card(number=number)
            inserted = True

    async with hand(step), driver.card(wait_seconds=10):
        tracks = await driver.read_tracks()
        assert tracks.number is not None
        assert tracks.number.reveal() == number
        tracks.wipe()
        await driver.power(ChipPower.COLD)
        card = await emv.read_payment_card(driver)
        assert card.number.reveal() == number
        card.wipe()
        await driver.eject()


PINS = ("123456", "8081")
PAN12 = "202123456789"
PIN_KEY = 0x30
WRAPPED = bytes.fromhex("3D66234C49E4296FF9C78D8BACBD6A76")
KCV = bytes.fromhex("861E83E31FAEBF10")
WORKING_KEY = pinblock.decrypt("sm4", MASTER_KEYS["sm4"], WRAPPED)


async def enter_pin(bed: Bed, variant: int) -> None:
    device, driver, pin = bed.device, bed.driver, PINS[variant]
    keys = [*((device.press, {"digits": digit}) for digit in pin), (device.enter, {})]
    begun = device.entries

    def step() -> None:
        if device.keypad_on and device.entries == begun + 1 and keys:
            verb, arguments = keys.pop(0)
            verb(**arguments)
            bed.port.nudge()

    await driver.load_working_key(PIN_KEY, WRAPPED, KCV)
    async with hand(step):
        block = await driver.enter_pin(PersonalText(PAN12, Kind.IDENTIFIER), lambda _: None)
    assert bytes(block.view()) == pinblock.pin_block("sm4", WORKING_KEY, pin, PAN12)
    block.wipe()


async def compare_finger(bed: Bed, variant: int) -> None:
    device = bed.device
    finger = "left thumb"

    def guide(word: Guidance) -> None:
        if word == Guidance.LIFT:
            device.lift_finger()
        elif word == Guidance.PLACE:
            device.place_finger(finger)

    device.lift_finger()
    template = await bed.driver.capture(wait_seconds=5, on_guidance=guide)
    finger = ("left thumb", "right thumb")[variant]
    result = await bed.driver.match(template, wait_seconds=5, on_guidance=guide)
    assert result.matched is (variant == 0)


_ROUNDING_SECONDS = 1e-6


async def watched(bed: Bed, change: Callable[[], object], right: Callable[[Any], bool]) -> None:
    """Change what a watched device sees, while nothing is asked; the next good answer must tell it."""
    driver, clock = bed.driver, asyncio.get_running_loop().time
    async with driver._lock:
        change()
    since = clock()
    while True:
        now, reading = clock(), driver.reading()  # in this order: the answer looks older, never younger, than it is
        if reading.code is None and now - reading.age_seconds > since + _ROUNDING_SECONDS:
            assert right(reading), reading
            return
        driver.require_online()
        await asyncio.sleep(0.1)


async def watch_megatec(bed: Bed, variant: int) -> None:
    await bed.driver.cancel_shutdown()
    change = (bed.device.mains_on, bed.device.mains_off)[variant]
    expected = (Source.ON_LINE, Source.ON_BATTERY)[variant]
    await watched(bed, change, lambda reading: reading.source is expected)


async def watch_nut(bed: Bed, variant: int) -> None:
    await bed.driver.cancel_shutdown()
    word, expected = (("OL", Source.ON_LINE), ("OB DISCHRG", Source.ON_BATTERY))[variant]
    await watched(bed, lambda: bed.device.set_variable("ups.status", word), lambda found: found.source is expected)


async def watch_cabinet(bed: Bed, variant: int) -> None:
    percent = (45.0, 61.5)[variant]
    await watched(bed, lambda: bed.device.set_humidity(percent), lambda found: found.humidity_percent == percent)


@dataclass(frozen=True)
class Case:
    """A driver, its device, and one operation in two variants whose right answers differ."""

    kind: str
    make_device: Callable[[], VirtualDevice]
    make_driver: Callable[[OpenLink, StatusListener], Driver]
    operate: Callable[[Bed, int], Awaitable[None]]
    stale_seconds: float | None = None
    """The declared age, of a device that is watched."""
    one_way: bool = False
    """Whether the protocol has no checksum either way: a loss on the way out, and nonsense, can be seen by nobody."""
    name: str = field(default="")

    def __str__(self) -> str:
        return self.name or self.kind


def _clock() -> float:
    return asyncio.get_running_loop().time()


CASES = (
    Case(
        "idcard",
        VirtualIdCardReader,
        lambda opened, told: IdCardReader(IdCard(port="port"), opened, told),
        read_id_card,
    ),
    Case(
        "printer",
        VirtualPrinter,
        lambda opened, told: ReceiptPrinter(Printer(port="port"), opened, told),
        print_receipt,
        one_way=True,
    ),
    Case(
        "cardreader",
        VirtualCardReader,
        lambda opened, told: Crt310(CardReader(port="port"), opened, told),
        read_bank_card,
    ),
    Case("pinpad", VirtualPinPad, lambda opened, told: EncryptingPinPad(PinPad(port="port"), opened, told), enter_pin),
    Case(
        "fingerprint",
        VirtualFingerprintSensor,
        lambda opened, told: FingerprintSensor(Fingerprint(port="port"), opened, told),
        compare_finger,
    ),
    Case(
        "ups",
        lambda: VirtualMegatecUps(_clock),
        lambda opened, told: MegatecUps(Ups(port="port", poll_seconds=1), opened, told),
        watch_megatec,
        stale_seconds=20,
        name="ups-megatec",
    ),
    Case(
        "ups",
        VirtualNutServer,
        lambda opened, told: NutUps(
            Ups(port="nut://govterm@nut/kiosk", poll_seconds=1), opened, told, password=PASSWORD
        ),
        watch_nut,
        stale_seconds=20,
        name="ups-nut",
    ),
    Case(
        "environment",
        VirtualEnvironmentUnit,
        lambda opened, told: EnvironmentUnit(Environment(port="port", poll_seconds=1), opened, told),
        watch_cabinet,
        stale_seconds=30,
    ),
)
