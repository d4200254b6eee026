"""Who meddles with a simulated terminal, and the person who comes, puts it right and clears the lock (T23, H8)."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices.hotplug import UsbDevice
from sim.caller import CallRefused
from sim.simulate.faults import Deed, Density, Kind, Place, Window, nothing
from sim.simulate.locks import Case
from transport.routes import DefaultRoute

if TYPE_CHECKING:
    from sim.simulate.hall import Hall

GAP_SECONDS = {Density.LIGHT: 7 * 86_400.0, Density.HEAVY: 3_600.0}
"""Between two of them, on average."""
COMES_SECONDS = {Density.LIGHT: (600.0, 3_600.0), Density.HEAVY: (60.0, 180.0)}
"""When the person comes."""
LOOK_SECONDS = 10.0
LONGEST_CARE_SECONDS = 7_200.0
"""By then every fault that keeps a device from serving is over."""
_SECONDS = (60.0, 3_600.0)
_SERVING = ("online", "deviceBusy")
_FIRST, _SECOND = DefaultRoute("eth0", 4, "192.0.2.1"), DefaultRoute("usb0", 4, "192.168.42.129")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering(Kind):
    """A kind of tampering: the code and the subject of its alarm and lock, and by when it is seen.

    That is so many seconds after its beginning, while `sensor` (a component) serves. `accepts` is the device that a
    person accepts as it is now.
    """

    code: str
    subject: str
    seen_in: float
    sensor: str
    accepts: str | None = None

    def hits(self, component: str) -> bool:
        """Whether a component may be ill of it."""
        return component == "lockdown" or Kind.hits(self, component)


def _attach(device: UsbDevice, *, unseen: bool = False) -> tuple[Deed, Deed]:
    """Plug in a USB device and take it out again, `unseen` while the kernel drops what it would tell."""

    def do(place: Place, *, attached: bool) -> None:
        hotplug = place.around.hotplug
        if unseen:
            hotplug.overrun()
        if attached:
            hotplug.attach(device)
        else:
            hotplug.detach(device.path)

    return lambda at: do(at, attached=True), lambda at: do(at, attached=False)


def _usb(name: str, device: UsbDevice, seen_in: float, *, unseen: bool = False) -> Tampering:
    begin, end = _attach(device, unseen=unseen)
    return Tampering(
        f"usb.{name}",
        "hotplug" if unseen else "lockdown",
        _SECONDS,
        begin,
        end,
        code=f"usb.{name.partition('_')[0]}",
        subject=str(device.usb),
        seen_in=seen_in,
        sensor="hotplug",
    )


def _swap(name: str, end: Deed, accepts: str | None) -> Tampering:
    return Tampering(
        f"idcard.{name}",
        "idcard",
        _SECONDS,
        _exchange_reader,
        end,
        code="idcard.swapped",
        subject="idcard",
        seen_in=30.0,
        sensor="idcard",
        accepts=accepts,
    )


def _open_pad(place: Place) -> None:
    pad = place.around.pinpad
    place.chance.choice((pad.tamper, pad.lock, pad.remove))()


def _mend_pad(place: Place) -> None:
    place.around.pinpad.mend()
    place.around.unplug("pinpad")
    place.around.plug("pinpad")


def _exchange_reader(place: Place) -> None:
    place.around.unplug("idcard")
    place.around.reader.exchange()
    place.around.plug("idcard")


_STICK, _OTHER_STICK, _KEYBOARD, _MODEM = (
    UsbDevice(f"/sys/devices/usb2/2-{port}", usb, frozenset({interface}))
    for port, usb, interface in (
        (1, "0951:1666", "080650"),
        (2, "0781:5567", "080650"),
        (3, "046d:c31c", "030101"),
        (4, "2c7c:0125", "ff0000"),
    )
)

TAMPERINGS: tuple[Tampering, ...] = (
    Tampering(
        "cabinet.door",
        "lockdown",
        _SECONDS,
        lambda at: at.around.environment.open_door(),
        lambda at: at.around.environment.close_door(),
        code="environment.door_open",
        subject="environment",
        seen_in=45.0,
        sensor="environment",
    ),
    Tampering(
        "pinpad.tampered",
        "pinpad",
        _SECONDS,
        _open_pad,
        _mend_pad,
        code="pinpad.tampered",
        subject="pinpad",
        seen_in=45.0,
        sensor="pinpad",
    ),
    Tampering(
        "network.second_route",
        "lockdown",
        _SECONDS,
        lambda at: at.around.routes.set(_FIRST, _SECOND),
        lambda at: at.around.routes.set(_FIRST),
        code="network.second_route",
        subject="network",
        seen_in=4.0,
        sensor="routes",
    ),
    _usb("storage", _STICK, 1.0),
    _usb("storage_unseen", _OTHER_STICK, 2.0, unseen=True),
    _usb("keyboard", _KEYBOARD, 1.0),
    _usb("unknown", _MODEM, 6.0),
    _swap("swapped", _exchange_reader, None),
    _swap("replaced", nothing, "idcard"),
)


def meddling(density: Density, seconds: float, chance: random.Random) -> Iterator[tuple[float, Tampering, float]]:
    """Yield when somebody meddles, how, and after how many seconds a person comes: each kind before one comes again."""
    at = chance.expovariate(1 / GAP_SECONDS[density])
    while True:
        for kind in chance.sample(TAMPERINGS, len(TAMPERINGS)):
            if at >= seconds:
                return
            yield at, kind, chance.uniform(*COMES_SECONDS[density])
            at += chance.expovariate(1 / GAP_SECONDS[density])


async def meddle(hall: "Hall") -> None:
    """Let the terminal be meddled with as the seed says, one at a time for each lock."""
    loop = asyncio.get_running_loop()
    chance = random.Random(f"tampering {hall.plan.seed}")
    under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
    for at, kind, comes_in in meddling(hall.plan.density, hall.plan.hours * 3600, chance):
        await asyncio.sleep(at - loop.time())
        before = under_way.get((kind.code, kind.subject))
        if (before is None or before.done()) and hall.board.lives:
            begun = asyncio.create_task(_suffer(hall, kind, comes_in), name=kind.name)
            under_way[kind.code, kind.subject] = begun
    if under_way:
        await asyncio.gather(*under_way.values())


async def _suffer(hall: "Hall", kind: Tampering, comes_in: float) -> None:
    """Let it be meddled with; then a person puts it right, and clears its lock however often the daemon is away."""
    loop = asyncio.get_running_loop()
    window = Window(kind, loop.time())
    case = Case(kind, loop.time())
    hall.judge.windows.append(window)
    hall.judge.locks.cases.append(case)
    hall.trace.tell(f"tampering {kind.name}")
    kind.begin(hall)
    await asyncio.sleep(comes_in)
    kind.end(hall)
    if kind.accepts is None:
        case.removed = loop.time()
    hall.trace.tell(f"somebody puts {kind.name} right")
    await asyncio.sleep(kind.seen_in)
    latest = loop.time() + LONGEST_CARE_SECONDS
    while loop.time() < latest:
        if kind.accepts is not None and case.removed > loop.time() and await _accept(hall, kind.accepts):
            case.removed = loop.time()
        if case.removed <= loop.time() and await _clear(hall, case):
            break
        await asyncio.sleep(LOOK_SECONDS)
    else:
        hall.judge.fail(f"the lock of {kind.name} is not to be cleared")
    window.until = loop.time()
    hall.trace.tell(f"tampering {kind.name} is over")


async def _accept(hall: "Hall", device: str) -> bool:
    """Accept a device in its place as it is; False while that cannot be."""
    if (staff := hall.board.staff) is None:
        return False
    with suppress(ConnectionError, CallRefused):
        shown = (await staff.call("terminal.status"))["state"][device]
        if shown["state"] in _SERVING:
            return True  # the daemon accepted it, and died before it said so
        if (identity := shown.get("identity")) is not None:
            await staff.call("devices.accept", device=device, identity=identity)
            return True
    return False


async def _clear(hall: "Hall", case: Case) -> bool:
    """Clear the lock of a tampering; whether there is none any more."""
    if (staff := hall.board.staff) is None:
        return False
    locks = hall.judge.locks
    with suppress(ConnectionError, CallRefused):
        listed = (await staff.call("lockdown.list"))["locks"]
        locks.listed([one["lock"] for one in listed])
        for one in listed:
            if (one["code"], one["subject"]) == (case.kind.code, case.kind.subject):
                locks.ordered(one["lock"])
                try:
                    await staff.call("lockdown.clear", lock=one["lock"])
                except CallRefused as refused:
                    locks.kept(one["lock"])
                    if refused.code == "lockdown.cause_persists":
                        locks.persists(hall.judge, case)
                    raise
        return True
    return False
