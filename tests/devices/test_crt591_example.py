"""The worked example of a driver in another distribution: a CRT-591, from its folder to a card that is read (T5)."""

import asyncio
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.cardreader import emv
from devices.cardreader.chip import ChipPower
from devices.cardreader.mechanism import Ending
from devices.driver import Damage
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.status import DeviceState
from runtime import drivers
from sim.devices.bankcard import NUMBER, BankCard
from sim.memory import MemoryLinks, MemoryPort
from sim.wire import Fault, Verbs
from tests.devices.cardreader_rig import SETTINGS, on_virtual_time

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "crt591"
VECTORS = Path(__file__).parents[1] / "vectors" / "crt591_frames.txt"
LINES = [line.split(" | ") for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
GOLDEN = {meaning: bytes.fromhex(frame) for meaning, frame in LINES}
NONE, GATE, INSIDE = b"012"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The driver as the daemon finds it when the example is installed: by its metadata, beside its folder."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    ((group, names),) = project["entry-points"].items()
    about = tmp_path_factory.mktemp("site") / "govterm_crt591-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {names[name]}\n" for name in names))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(about.parent))
        patch.syspath_prepend(str(EXAMPLE))
        yield drivers.load("cardreader", "crt591")
    for module in [module for module in sys.modules if module.startswith("govterm_crt591")]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def wire(driver: Any) -> ModuleType:
    return sys.modules["govterm_crt591.protocol"]


class Peer:
    """A virtual CRT-591 and the card in it."""

    verbs: ClassVar[Verbs] = {}

    def __init__(self, wire: ModuleType) -> None:
        self.wire = wire
        self.place = NONE
        self.card = BankCard()
        self.entry = True
        self.jammed = False
        self.bin = 0
        self.naks = 0
        self.decoder = wire.FrameDecoder()
        self.last = b""

    def feed(self, data: bytes) -> bytes:
        return b"".join(map(self.hear, self.decoder.feed(data)))

    def hear(self, found: Any) -> bytes:
        if isinstance(found, self.wire.Frame):
            if self.naks:
                self.naks -= 1
                return b"\x15"
            self.last = self.answer(found)
            return b"\x06" + self.last
        if isinstance(found, Damage):
            return b"\x15"
        return {self.wire.Signal.EOT: b"\x04", self.wire.Signal.NAK: self.last}.get(found, b"")

    def answer(self, frame: Any) -> bytes:
        moves = {0x31: INSIDE, 0x33: NONE, 0x39: GATE}
        data = b""
        match frame.cm, frame.pm:
            case 0x30, _:
                data = b"CRT-591-M001"
            case 0x31, _:
                pass
            case 0x32, goal:
                if self.jammed:
                    return self.say(self.wire.NEGATIVE, frame, b"10")
                self.bin += goal == 0x33
                self.place = moves[goal]
            case 0x33, pm:
                self.entry = pm == 0x30
            case 0x51, 0x30 | 0x38:
                self.card.reset()
                data = b"0" + self.card.atr
            case 0x51, 0x39:
                data = self.card.transmit(bytes(frame.data))
            case _:
                return self.say(self.wire.NEGATIVE, frame, b"00")
        return self.say(self.wire.POSITIVE, frame, bytes([self.place]) + b"20" + data)

    def say(self, kind: int, frame: Any, data: bytes) -> bytes:
        return self.wire.encode_frame(kind, frame.cm, frame.pm, data)


class Rig:
    def __init__(self, driver: Any, wire: ModuleType) -> None:
        self.peer = Peer(wire)
        self.port = MemoryPort(self.peer)
        self.online = asyncio.Event()
        self.reader = driver(SETTINGS, MemoryLinks({"cardreader": self.port}), lambda status: None)

    async def supervise(self) -> None:
        while True:
            try:
                await self.reader.run(self.online.set)
            except (LinkLost, DeviceError):
                await asyncio.sleep(0.5)


@asynccontextmanager
async def rig_running(driver: Any, wire: ModuleType) -> AsyncIterator[Rig]:
    rig = Rig(driver, wire)
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    try:
        async with asyncio.timeout(60):
            await rig.online.wait()
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def card_in(rig: Rig) -> AsyncIterator[None]:
    def insert() -> None:
        assert rig.peer.entry
        rig.peer.place = INSIDE

    asyncio.get_running_loop().call_later(1, insert)
    async with rig.reader.card():
        yield


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=list(GOLDEN))
def test_golden_frames_decode_and_encode(wire: ModuleType, golden: bytes) -> None:
    (frame,) = wire.FrameDecoder().feed(golden)
    assert wire.encode_frame(frame.kind, frame.cm, frame.pm, frame.data) == golden


def test_requests_and_replies_are_the_documents(wire: ModuleType) -> None:
    for name, meaning in (
        ("INIT_NO_MOVE", "init, no move"),
        ("STATUS", "status"),
        ("TO_CONTACT", "move to IC contact"),
        ("EJECT", "eject at gate (no hold)"),
        ("ENABLE_ENTRY", "enable entry"),
        ("DISABLE_ENTRY", "disable entry"),
        ("COLD_RESET", "CPU cold reset"),
    ):
        assert wire.encode(getattr(wire, name)) == GOLDEN[meaning]
    (status,) = wire.FrameDecoder().feed(GOLDEN["status reply: no card, stacker ok, bin not full"])
    assert wire.STATUS.answered_by(status)
    assert status.states == b"020"
    (negative,) = wire.FrameDecoder().feed(GOLDEN['negative, jam (e "10") on C29'])
    assert wire.EJECT.answered_by(negative)
    assert negative.data == b"10"


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=600), bit=st.integers(0, 100))
def test_the_decoder_is_total_and_sees_a_flipped_bit(wire: ModuleType, data: bytes, bit: int) -> None:
    decoder = wire.FrameDecoder()
    decoder.feed(data)
    assert decoder.pending < wire.LONGEST + 6
    frame = bytearray(GOLDEN["status"])
    frame[bit % len(frame)] ^= 1 << bit % 8
    assert not any(isinstance(item, wire.Frame) for item in wire.FrameDecoder().feed(bytes(frame)))


@on_virtual_time
async def test_a_card_is_read_and_handed_back(driver: Any, wire: ModuleType) -> None:
    """T5: with a driver that is not the product's own."""
    async with rig_running(driver, wire) as rig:
        assert rig.reader.status.identity == "CRT-591-M001"
        assert not rig.peer.entry
        async with card_in(rig):
            await rig.reader.power(ChipPower.COLD)
            card = await emv.read_payment_card(rig.reader)
            assert card.number.reveal() == NUMBER
            with pytest.raises(DeviceError) as caught:
                await rig.reader.read_tracks()
            assert caught.value.code == "cardreader.unsupported"
            assert await rig.reader.eject() is Ending.RETAINED
        assert rig.peer.bin == 1


@pytest.mark.parametrize("kind", [Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE, Fault.HALF, Fault.SILENT, Fault.LATE])
@on_virtual_time
async def test_one_fault_of_the_wire_is_survived(driver: Any, wire: ModuleType, kind: Fault) -> None:
    async with rig_running(driver, wire) as rig:
        rig.peer.naks = 1
        async with card_in(rig):
            rig.port.faults.add(kind)
            await rig.reader.power(ChipPower.COLD)
        assert rig.peer.place == GATE


@on_virtual_time
async def test_a_reply_that_cannot_be_acknowledged_is_wiped(driver: Any, wire: ModuleType) -> None:
    """T20."""
    async with rig_running(driver, wire) as rig:
        reply = wire.Frame(wire.POSITIVE, 0x51, 0x39, bytearray(NUMBER.encode()))
        rig.port.unplug()
        with pytest.raises(DeviceError):
            await rig.reader._acknowledge(reply)
        assert not reply.data


@on_virtual_time
async def test_the_card_is_handed_back_on_cancel_and_failure(driver: Any, wire: ModuleType) -> None:
    """T5."""
    async with rig_running(driver, wire) as rig:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5), card_in(rig):
                await asyncio.sleep(60)
        assert rig.peer.place == GATE
        rig.peer.place = NONE
        async with card_in(rig):
            rig.peer.jammed = True
        assert rig.reader.status.code == "cardreader.jammed"
        rig.port.unplug()
        rig.peer.jammed = False
        await asyncio.sleep(1)
        assert rig.reader.status.state is DeviceState.OFFLINE
        rig.port.plug()
        await asyncio.sleep(1)
        assert rig.peer.place == GATE
