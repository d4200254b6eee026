"""The receipt printer's driver against the virtual printer, on virtual time: never a guess (T4, L14, L15, L16)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from devices.config import Printer
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import Feed, Item, JobResult, Picture, Qr, Text
from devices.printer.protocol import Condition
from devices.status import DeviceState, DeviceStatus
from sim import virtual_time
from sim.devices.printer import VirtualPrinter
from sim.memory import MemoryLinks, MemoryPort

SETTINGS = Printer(port="receipt")
LIMIT = {"link_limit": "20 mm/s"}
"""What 115,200 bit/s carry."""
ROWS = b"".join(bytes((at % 251 | 1,)) * 72 for at in range(800))
PICTURE = Picture(576, 800, ROWS)
"""800 rows, 100 mm: 5 s of line time at 115,200 bit/s."""
SMALL: list[Item] = [Text("社会保险"), Picture(576, 24, ROWS[: 72 * 24]), Qr("https://a.gov.cn"), Feed(1)]


class Bench:
    """A driver, its virtual printer, and what the driver said of it."""

    def __init__(self, *, latency_seconds: float = 0.001, chunk_bytes: int | None = None, baud: int = 115_200) -> None:
        self.printer = VirtualPrinter()
        self.port = MemoryPort(self.printer, latency_seconds=latency_seconds, chunk_bytes=chunk_bytes)
        self.said: list[DeviceStatus] = []
        self.changed = asyncio.Event()
        settings = Printer(port="receipt", baud=baud)
        self.driver = ReceiptPrinter(settings, MemoryLinks({"receipt": self.port}), self.hear)
        self.life: asyncio.Task[None] | None = None

    def hear(self, status: DeviceStatus) -> None:
        self.said.append(status)
        self.changed.set()

    def do(self, verb: str, **arguments: float) -> None:
        self.printer.verbs[verb](**arguments)
        self.port.nudge()

    async def start(self) -> None:
        ready = asyncio.Event()
        self.life = asyncio.create_task(self.driver.run(ready.set), name="life")
        waiter = asyncio.create_task(ready.wait(), name="ready")
        async with asyncio.timeout(30):
            await asyncio.wait({self.life, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if not ready.is_set():
            await self.life

    async def stop(self) -> None:
        if self.life is not None:
            self.life.cancel()
            with suppress(asyncio.CancelledError, LinkLost, DeviceError):
                await self.life

    async def status(self, state: DeviceState, code: str | None = None) -> None:
        """Wait until the driver says so."""
        async with asyncio.timeout(60):
            while (self.driver.status.state, self.driver.status.code) != (state, code):
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def serving(bench: Bench) -> AsyncIterator[Bench]:
    await bench.start()
    try:
        yield bench
    finally:
        await bench.stop()


def on_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine test on virtual time."""

    async def whole() -> None:
        await test()

    def plain() -> None:
        virtual_time.run(whole())

    plain.__name__, plain.__doc__ = test.__name__, test.__doc__
    return plain


@on_virtual_time
async def test_a_receipt_is_printed() -> None:
    """Printed means: executed to the cut. The speed told is paper over time (T4)."""
    async with serving(Bench()) as bench:
        result = await bench.driver.print_job([Text("社会保险"), PICTURE])
        (paper,) = bench.printer.papers
        assert (result.outcome, result.code) == ("printed", None)
        assert result.millimetres == pytest.approx(paper.height_dots / 203 * 25.4)
        assert paper.rows[72 * 30 : 72 * 830] == ROWS.replace(b"\x10\x04", b"\x18\x04")
        assert 4.0 < result.seconds < 6.0, "57,600 bytes at 115,200 bit/s"
        details = {"cover_open": False, "paper": "full", **LIMIT}
        assert bench.said == [DeviceStatus(DeviceState.ONLINE, None, "VIRTUAL", details)]
        assert bench.driver.status == bench.said[-1]


@on_virtual_time
async def test_the_line_is_fast_enough_for_the_mechanism() -> None:
    """At 921,600 bit/s a black picture comes at 100 mm/s or more (T4)."""
    async with serving(Bench(baud=921_600)) as bench:
        speed = (await bench.driver.print_job([PICTURE])).millimetres_per_second
        assert speed is not None
        assert speed >= 100.0


@on_virtual_time
async def test_one_byte_at_a_time() -> None:
    async with serving(Bench(chunk_bytes=1)) as bench:
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"
        bench.do("paper_out")
        await bench.status(DeviceState.OFFLINE, "printer.paper_out")


FAULTS = [
    ("paper_out", "refill", "printer.paper_out", DeviceState.OFFLINE),
    ("open_cover", "close_cover", "printer.cover_open", DeviceState.USER_ERROR),
    ("cutter_jam", "heal", "printer.cutter_jam", DeviceState.HARDWARE_ERROR),
    ("head_hot", "heal", "printer.head_hot", DeviceState.DEVICE_BUSY),
]


@pytest.mark.parametrize(("verb", "cure", "code", "state"), FAULTS)
def test_a_fault_before_the_first_byte(verb: str, cure: str, code: str, state: DeviceState) -> None:
    """Nothing was sent, and the job says so at once."""

    @on_virtual_time
    async def test() -> None:
        async with serving(Bench()) as bench:
            bench.do(verb)
            started = asyncio.get_running_loop().time()
            assert await bench.driver.print_job(SMALL) == JobResult("not_printed", code)
            assert asyncio.get_running_loop().time() - started < 0.5
            assert bench.driver.status.state == state
            bench.do(cure)
            await bench.status(DeviceState.ONLINE)
            assert not bench.printer.papers
            assert (await bench.driver.print_job(SMALL)).outcome == "printed"
            assert len(bench.printer.papers) == 1

    test()


@on_virtual_time
async def test_a_fault_that_passes_at_once_is_not_forgotten() -> None:
    """Opened and closed between two looks: nobody knows what the paper became, so it is not called printed (L16)."""
    async with serving(Bench()) as bench:

        def flap() -> None:
            bench.printer.open_cover()
            bench.printer.close_cover()
            bench.port.nudge()

        asyncio.get_running_loop().call_later(1.0, flap)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.cover_open")
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"


@pytest.mark.parametrize(("verb", "cure", "code", "state"), FAULTS)
def test_a_fault_in_the_middle(verb: str, cure: str, code: str, state: DeviceState) -> None:
    """Unknown, with the reason; what was printed is cut off, the rest never comes (L16)."""

    @on_virtual_time
    async def test() -> None:
        async with serving(Bench()) as bench:
            getattr(bench.printer, verb)(after_millimetres=40)
            result = await bench.driver.print_job([PICTURE])
            assert (result.outcome, result.code, result.millimetres) == ("unknown", code, 0.0)
            assert result.seconds < 3.0, "the rest was not sent"
            assert bench.driver.status.state == state
            assert (await bench.driver.print_job(SMALL)).outcome == "not_printed"
            bench.do(cure)
            await bench.status(DeviceState.ONLINE)
            assert (await bench.driver.print_job(SMALL)).outcome == "printed"
            half, whole = bench.printer.papers
            assert 300 < half.height_dots < 600
            clean = VirtualPrinter()
            async with serving(Bench()) as other:
                await other.driver.print_job(SMALL)
                clean = other.printer
            assert whole == clean.papers[0], "the next citizen's paper holds nothing of the one before"

    test()


@on_virtual_time
async def test_a_fault_at_the_cut() -> None:
    """All was sent, the last millimetres failed: the proof does not come."""
    async with serving(Bench()) as bench:
        bench.printer.cutter_jam(after_millimetres=110)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.cutter_jam")


@on_virtual_time
async def test_silence_in_the_middle() -> None:
    """A printer that prints and no longer answers: unknown, though the paper is there (L14)."""
    async with serving(Bench()) as bench:
        asyncio.get_running_loop().call_later(1.0, bench.printer.silent)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.no_answer")
        assert result.seconds < 10.0
        assert bench.life is not None
        with pytest.raises(DeviceError) as caught:
            await bench.life
        assert caught.value.code == "printer.no_answer"
        assert bench.driver.status.code == "printer.no_answer"


@on_virtual_time
async def test_silence_from_the_start() -> None:
    bench = Bench()
    bench.printer.silent()
    with pytest.raises(DeviceError) as caught:
        await bench.start()
    assert (caught.value.code, caught.value.retry) == ("printer.no_answer", True)
    with pytest.raises(DeviceError) as refused:
        await bench.driver.print_job(SMALL)
    assert (refused.value.code, refused.value.retry) == ("printer.offline", True)
    bench.do("heal")
    async with serving(bench):
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"


@on_virtual_time
async def test_silence_while_idle_ends_the_life() -> None:
    """Health is evidence from the device (L3); one lost answer is not silence (L13)."""
    async with serving(Bench()) as bench:
        bench.port.faults.add("silent", 1)
        await asyncio.sleep(45)
        assert bench.driver.status.state is DeviceState.ONLINE
        bench.do("silent")
        await bench.status(DeviceState.OFFLINE, "printer.no_answer")


@on_virtual_time
async def test_unplugged_while_idle() -> None:
    async with serving(Bench()) as bench:
        bench.port.unplug()
        await bench.status(DeviceState.OFFLINE, "printer.offline")
        assert bench.life is not None
        with pytest.raises(LinkLost):
            await bench.life
        with pytest.raises(DeviceError) as caught:
            await bench.driver.print_job(SMALL)
        assert caught.value.code == "printer.offline"
        with pytest.raises(LinkLost):
            await bench.start()
        bench.port.plug()
        await bench.start()
        assert bench.printer.scraps == 1, "an idle printer is not cut again"
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"


@on_virtual_time
async def test_unplugged_in_the_middle() -> None:
    """The half receipt is cut off before the next one (L16)."""
    async with serving(Bench()) as bench:
        asyncio.get_running_loop().call_later(1.0, bench.port.unplug)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.lost")
        assert bench.printer.hanging.height_dots > 0
        await bench.stop()
        bench.port.plug()
        await bench.start()
        (half,) = bench.printer.papers
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"
        assert half.height_dots < 400
        assert len(bench.printer.papers) == 2


class Literal(VirtualPrinter):
    """Takes real-time commands inside a picture for picture data, as other firmwares do (protocols 3.6)."""

    def _act(self, command: bytes) -> None:
        if not self._interpreter._raster_rows:
            super()._act(command)


@on_virtual_time
async def test_a_picture_that_a_former_process_broke_off() -> None:
    """The printer still waits for the rest of a band, and swallows whatever comes: the first life ends that."""
    bench = Bench()
    bench.port.device = bench.printer = Literal()
    bench.printer.feed(b"\x1d\x76\x30\x00\x48\x00\x18\x00" + b"\x81" * 100)
    async with serving(bench):
        result = await bench.driver.print_job(SMALL)
        assert result.outcome == "printed"
        broken, whole = bench.printer.papers
        assert 0x81 in broken.rows
        assert whole.height_dots == pytest.approx(result.millimetres / 25.4 * 203)


@on_virtual_time
async def test_cancelled_in_the_middle() -> None:
    """A cancelled job leaves the printer clean, and the next paper is whole."""
    async with serving(Bench()) as bench:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await bench.driver.print_job([PICTURE])
        result = await bench.driver.print_job(SMALL)
        assert result.outcome == "printed"
        half, whole = bench.printer.papers
        assert half.height_dots < 400
        assert whole.height_dots == pytest.approx(result.millimetres / 25.4 * 203)


@on_virtual_time
async def test_cancelled_again_and_again() -> None:
    async with serving(Bench()) as bench:
        job = asyncio.create_task(bench.driver.print_job([PICTURE]), name="job")
        await asyncio.sleep(1.0)
        for _ in range(3):
            job.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await job
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"


@on_virtual_time
async def test_stopped_in_the_middle() -> None:
    """A daemon that stops leaves nothing in the printer; the job ends as unknown."""
    bench = Bench()
    await bench.start()
    job = asyncio.create_task(bench.driver.print_job([PICTURE]), name="job")
    await asyncio.sleep(1.0)
    await bench.stop()
    assert await job == JobResult("unknown", "printer.lost", 0.0, pytest.approx(1.0, abs=0.3))
    bench.printer.feed(b"")
    assert bench.printer.hanging.height_dots < 400
    async with serving(bench):
        assert bench.printer.hanging.height_dots == 0


@on_virtual_time
async def test_two_jobs_at_once_take_turns() -> None:
    async with serving(Bench()) as bench:
        results = await asyncio.gather(*(bench.driver.print_job(SMALL) for _ in range(2)))
        assert [result.outcome for result in results] == ["printed", "printed"]
        first, second = bench.printer.papers
        assert first == second


@on_virtual_time
async def test_a_bad_job_sends_nothing() -> None:
    async with serving(Bench()) as bench:
        for item, code in ((Text("㐀"), "printer.unprintable_text"), (Picture(8, 2, b"\1"), "printer.bad_job")):
            with pytest.raises(DeviceError) as caught:
                await bench.driver.print_job([Text("张三"), item])
            assert caught.value.code == code
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"
        assert len(bench.printer.papers) == 1


@on_virtual_time
async def test_near_end_is_told_and_does_not_stop() -> None:
    async with serving(Bench()) as bench:
        bench.do("near_end")
        await asyncio.sleep(1)
        assert bench.driver.status.details["paper"] == "low"
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"


@on_virtual_time
async def test_a_stray_byte_voids_the_proof() -> None:
    """GS r 1's answer may be part of a damaged status: then it proves nothing."""
    async with serving(Bench()) as bench:
        asyncio.get_running_loop().call_later(0.5, bench.port.faults.add, "garbage", 1)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.bad_answer")


class Deaf(VirtualPrinter):
    """A clone that does not know some questions."""

    def __init__(self, *unknown: bytes) -> None:
        super().__init__()
        self.unknown = unknown

    def feed(self, data: bytes) -> bytes:
        for question in self.unknown:
            data = data.replace(question, b"")
        return super().feed(data)


@on_virtual_time
async def test_a_clone_without_real_time_status() -> None:
    """Details are unknown, the state comes from evidence (L14)."""
    bench = Bench()
    bench.port.device = bench.printer = Deaf(*(bytes((0x10, 4, n)) for n in (1, 2, 3, 4)), b"\x1d\x61\x0e")
    async with serving(bench):
        assert bench.driver.status == DeviceStatus(DeviceState.ONLINE, None, "VIRTUAL", LIMIT)
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"
        await asyncio.sleep(100)
        assert bench.driver.status == DeviceStatus(DeviceState.ONLINE, None, "VIRTUAL", LIMIT)
        bench.printer.paper_out(after_millimetres=20)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.no_answer")


@on_virtual_time
async def test_a_clone_without_automatic_status() -> None:
    """The status is asked every second while the proof is awaited."""
    bench = Bench()
    bench.port.device = bench.printer = Deaf(b"\x1d\x61\x0e")
    async with serving(bench):
        bench.printer.paper_out(after_millimetres=20)
        result = await bench.driver.print_job([PICTURE])
        assert (result.outcome, result.code) == ("unknown", "printer.paper_out")
        bench.printer.refill()
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"
        half, whole = bench.printer.papers
        assert half.height_dots == round(20 / 25.4 * 203) + 96
        assert whole.height_dots > 0


@on_virtual_time
async def test_a_late_answer_is_not_taken_for_another() -> None:
    """300 ms are given, then the line must be quiet: 12 for question 1 is no 12 for question 2 (L15)."""
    bench = Bench()
    await bench.start()
    bench.do("open_cover")
    await bench.status(DeviceState.USER_ERROR, "printer.cover_open")
    bench.port.latency_seconds = 0.4
    await asyncio.sleep(60)
    assert bench.driver.status.code in ("printer.cover_open", "printer.no_answer")
    await bench.stop()


@pytest.mark.parametrize("fault", ["garbage", "half", "corrupt", "duplicate", "silent", "late"])
def test_a_bad_line_never_makes_a_false_proof(fault: str) -> None:
    """Whatever happens to the answers, printed is said only of a paper that is there, and the driver lives on."""

    @on_virtual_time
    async def test() -> None:
        async with serving(Bench()) as bench:
            bench.printer.paper_out(after_millimetres=30)
            asyncio.get_running_loop().call_later(0.5, bench.port.faults.add, fault, 4)
            assert (await bench.driver.print_job([PICTURE])).outcome == "unknown"
            bench.port.faults.clear()
            bench.do("refill")
            await asyncio.sleep(70)
            if bench.life is not None and bench.life.done():
                await bench.start()
            assert (await bench.driver.print_job(SMALL)).outcome == "printed"

    test()


@pytest.mark.parametrize("off_seconds", [2.0, 3.5, 8.0])
@pytest.mark.parametrize("flow", [{}, {"baud": 921_600}])
def test_switched_off_and_on_in_the_middle(off_seconds: float, flow: dict[str, int]) -> None:
    """What it held is gone and what came meanwhile is lost, but the proof at the end would come: it is not printed."""

    @on_virtual_time
    async def test() -> None:
        async with serving(Bench(**flow)) as bench:
            loop = asyncio.get_running_loop()
            loop.call_later(0.5, bench.printer.power_off)
            loop.call_later(0.5 + off_seconds, bench.printer.power_on)
            result = await bench.driver.print_job([PICTURE] * 3)
            assert (result.outcome, result.code) == ("unknown", "printer.no_answer")
            await asyncio.sleep(60)
            if bench.life is not None and bench.life.done():
                await bench.start()
            assert (await bench.driver.print_job(SMALL)).outcome == "printed"
            clean = VirtualPrinter()
            async with serving(Bench()) as other:
                await other.driver.print_job(SMALL)
                clean = other.printer
            assert bench.printer.papers[-1] == clean.papers[0]

    test()


@on_virtual_time
async def test_a_missed_xon_does_not_hold_the_next_job() -> None:
    async with serving(Bench()) as bench:
        assert bench.driver._wire is not None
        bench.driver._wire.stopped = True
        assert (await bench.driver.print_job(SMALL)).outcome == "printed"


@on_virtual_time
async def test_a_slow_answer_at_the_end_is_waited_for() -> None:
    """A full memory is printed on for seconds before the questions behind it come up: that is not silence."""
    async with serving(Bench(baud=921_600)) as bench:
        link, held = bench.port._link, list[bytes]()
        assert link is not None
        deliver = link.deliver

        def let_go() -> None:
            link.deliver = deliver  # type: ignore[method-assign]
            for chunk in held:
                deliver(chunk)

        asyncio.get_running_loop().call_later(0.9, setattr, link, "deliver", held.append)
        asyncio.get_running_loop().call_later(4.0, let_go)
        result = await bench.driver.print_job([PICTURE, PICTURE])
        assert result.code is None
        assert result.outcome == "printed"


FAULT_FIELDS = {
    "cover_open": ("printer.cover_open", DeviceState.USER_ERROR),
    "paper_end": ("printer.paper_out", DeviceState.OFFLINE),
    "cutter_error": ("printer.cutter_jam", DeviceState.HARDWARE_ERROR),
    "overheated": ("printer.head_hot", DeviceState.DEVICE_BUSY),
    "unrecoverable": ("printer.hardware_error", DeviceState.HARDWARE_ERROR),
    "recoverable": ("printer.hardware_error", DeviceState.HARDWARE_ERROR),
    "feeding": ("printer.not_ready", DeviceState.OFFLINE),
}


@pytest.mark.parametrize("field", FAULT_FIELDS)
@pytest.mark.parametrize("asked", [False, True], ids=["said", "asked"])
def test_every_condition_is_a_state_with_a_code(field: str, asked: bool) -> None:
    """T4: paper, cover, cutter, head and the rest, by automatic status and by DLE EOT alike; and back again."""

    @on_virtual_time
    async def test() -> None:
        bench = Bench()
        if asked:
            bench.port.device = bench.printer = Deaf(b"\x1d\x61\x0e")
        async with serving(bench):
            for wrong in (True, False):
                bench.printer._change(**{field: wrong})
                bench.port.nudge()
                code, state = FAULT_FIELDS[field] if wrong else (None, DeviceState.ONLINE)
                await bench.status(state, code)

    test()


def test_a_fault_that_only_noise_told_of_goes_away() -> None:
    """A printer that answers no DLE EOT tells of changes alone, so it is asked how it is while a fault stands."""

    @on_virtual_time
    async def test() -> None:
        bench = Bench()
        bench.port.device = bench.printer = Deaf(*(bytes((0x10, 4, n)) for n in (1, 2, 3, 4)))
        async with serving(bench):
            link = bench.port._link
            assert link is not None
            link.deliver(replace(Condition.idle(), offline=True, cutter_error=True).automatic())
            await bench.status(DeviceState.HARDWARE_ERROR, "printer.cutter_jam")
            await bench.status(DeviceState.ONLINE, None)

    test()


def test_a_printer_that_was_off_when_it_was_asked_to_tell_of_changes_is_asked_again() -> None:
    """One that answers no DLE EOT, and was off for a moment, tells of no change: it is asked to again (L14)."""

    @on_virtual_time
    async def test() -> None:
        bench = Bench()
        bench.port.device = bench.printer = Deaf(*(bytes((0x10, 4, n)) for n in (1, 2, 3, 4)))
        async with serving(bench):
            bench.printer.power_off()
            bench.printer.power_on()
            await asyncio.sleep(31)
            bench.printer.cutter_jam()
            bench.port.nudge()
            await bench.status(DeviceState.HARDWARE_ERROR, "printer.cutter_jam")

    test()


def test_a_printer_that_answers_later_than_at_the_start_is_missed_when_it_is_off() -> None:
    """It may have been off, or on a noisy line, when it was asked first: it is no clone without real-time status."""

    @on_virtual_time
    async def test() -> None:
        bench = Bench()
        bench.port.device = bench.printer = deaf = Deaf(*(bytes((0x10, 4, n)) for n in (1, 2, 3, 4)))
        async with serving(bench):
            deaf.unknown = ()
            await asyncio.sleep(31)
            bench.printer.power_off()
            await bench.status(DeviceState.OFFLINE, "printer.no_answer")

    test()
