"""Every driver against its rig device: what cables, people and time do to all of them (rule 4, T14, T15, L1 to L16)."""

import asyncio
import gc
import random
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.errors import DeviceError
from devices.link import Link, LinkLost
from devices.serial import open_serial_link
from devices.status import DeviceState, DeviceStatus
from runtime.drivers import KINDS
from runtime.supervisor import Supervisor
from sim import virtual_time
from sim.pty import PtyHost
from sim.wire import Fault
from tests.devices.conformance import CASES, Bed, Case, running

every_case = pytest.mark.parametrize("case", CASES, ids=str)
watched_cases = pytest.mark.parametrize("case", [case for case in CASES if case.stale_seconds], ids=str)

Story = Callable[..., Coroutine[Any, Any, None]]


def on_virtual_time(story: Story) -> Callable[..., None]:
    @wraps(story)
    def test(**parameters: Any) -> None:
        virtual_time.run(story(**parameters))

    return test


async def replies_of_an_operation(case: Case) -> int:
    """Return how many times the device speaks in one good operation."""
    async with running(Bed(case, latency_seconds=0.01)) as bed:
        count = 0
        apply = bed.port.faults.apply

        def counted(reply: bytes) -> Any:
            nonlocal count
            count += 1
            return apply(reply)

        bed.port.faults.apply = counted  # type: ignore[method-assign]
        await bed.operate()
        return count


async def attempt(bed: Bed, variant: int = 0) -> bool:
    """Operate; a typed error will do, a wrong answer will not. Tell whether there was an answer."""
    refusal: DeviceError | None = None
    try:
        await bed.operate(variant)
    except DeviceError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code.startswith(f"{bed.case.kind}."), refusal.code
        assert refusal.advice
    return refusal is None


def test_every_kind_is_tried() -> None:
    assert {case.kind for case in CASES} == set(KINDS)


@every_case
@on_virtual_time
async def test_open_twice_is_refused(case: Case) -> None:
    async with running(Bed(case)) as bed:
        other = case.make_driver(bed._open_memory, lambda _: None)
        with pytest.raises(LinkLost):
            await other.run(lambda: None)
        assert other.status.state is DeviceState.OFFLINE
        await bed.operate()
        assert not bed.ends


@every_case
@on_virtual_time
async def test_a_failed_open_leaves_the_port_closed(case: Case) -> None:
    """L2: a device that does not answer, and one that talks nonsense, each in its first life."""
    for said in (b"",) if case.one_way else (b"", bytes(range(256))):
        bed = Bed(case)
        bed.device.feed = lambda data, said=said: said if data else b""
        with pytest.raises((DeviceError, LinkLost)):
            await bed.driver.run(lambda: None)
        assert all(status.state is not DeviceState.ONLINE for status in bed.statuses)
        await (await bed._open_memory("port", 0)).close()


@every_case
@on_virtual_time
async def test_a_port_that_does_not_open_ends_the_life(case: Case) -> None:
    """Rule 4: a kernel driver can hang in open(); the next life tries again."""
    told: list[DeviceStatus] = []

    async def hang(*_: Any) -> Link:
        await asyncio.Event().wait()
        raise LinkLost

    driver = case.make_driver(hang, told.append)
    async with asyncio.timeout(6):
        with pytest.raises(LinkLost):
            await driver.run(lambda: None)
    assert told == [DeviceStatus(DeviceState.OFFLINE, f"{case.kind}.offline")]
    assert driver.status == told[-1]


@every_case
@on_virtual_time
async def test_a_life_that_is_cancelled_frees_the_port(case: Case) -> None:
    bed = Bed(case)
    for life in range(1, 4):
        ready = asyncio.Event()
        task = asyncio.create_task(bed.driver.run(ready.set), name="life")
        await ready.wait()
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert bed.driver.status.state is DeviceState.OFFLINE
        assert bed.port.opened == life


@every_case
@on_virtual_time
async def test_unplugged_idle_is_told_once_and_heals(case: Case) -> None:
    """L5: the loss of a link is one event."""
    async with running(Bed(case)) as bed:
        await bed.operate()
        online = bed.driver.status
        told = len(bed.statuses)
        bed.port.unplug()
        await asyncio.sleep(20)
        assert [status.state for status in bed.statuses[told:]] == [DeviceState.OFFLINE]
        assert not await attempt(bed)
        bed.port.plug()
        await bed.healed(1)
        assert bed.driver.status.identity == online.identity


@every_case
@on_virtual_time
async def test_unplugged_in_the_middle_of_every_frame(case: Case) -> None:
    for nth in range(await replies_of_an_operation(case)):
        async with running(Bed(case, latency_seconds=0.01)) as bed:
            bed.fault_at(nth, Fault.UNPLUG)
            await attempt(bed)
            bed.port.plug()
            await bed.healed(1)


@every_case
@on_virtual_time
async def test_one_byte_at_a_time(case: Case) -> None:
    async with running(Bed(case, chunk_bytes=1, latency_seconds=0.001)) as bed:
        await bed.operate(0)
        await bed.operate(1)
        assert not bed.ends


@pytest.mark.parametrize("seed", range(3))
@every_case
@on_virtual_time
async def test_a_fifth_of_all_that_is_said_gets_lost(case: Case, seed: int) -> None:
    """Never a wrong answer: the right one or a typed error. Then the wire is whole again, and so is everything."""
    async with running(Bed(case, latency_seconds=0.01)) as bed:
        bed.chance.seed(seed)
        bed.lost_in, bed.lost_out = 0.2, 0.0 if case.one_way else 0.2
        for turn in range(12):
            with suppress(TimeoutError):
                await bed.until(lambda: bed.serving)
            await attempt(bed, turn % 2)
        bed.lost_in = bed.lost_out = 0.0
        await bed.healed(0)
        await bed.healed(1)


@every_case
@on_virtual_time
async def test_a_late_reply_is_not_the_next_answer(case: Case) -> None:
    """L15: each reply of an operation comes 5 s late, one after the other; the next operation gives its own answer."""
    for nth in range(await replies_of_an_operation(case)):
        async with running(Bed(case, latency_seconds=0.01)) as bed:
            bed.fault_at(nth, Fault.LATE)
            await attempt(bed, 0)
            await attempt(bed, 1)
            await bed.healed(0)
            await bed.healed(1)


@pytest.mark.parametrize("kind", [Fault.GARBAGE, Fault.HALF, Fault.CORRUPT, Fault.DUPLICATE, Fault.SILENT])
@every_case
@on_virtual_time
async def test_one_bad_reply(case: Case, kind: Fault) -> None:
    """Each reply of an operation once; without a checksum on the wire an answer may still only be right or refused."""
    for nth in range(await replies_of_an_operation(case)):
        async with running(Bed(case, latency_seconds=0.01)) as bed:
            bed.fault_at(nth, kind)
            await attempt(bed, 0)
            await attempt(bed, 1)
            await bed.healed(0)


FLOOD_BYTES = 192 * 1024
FLOOD_KEEPS_BYTES = 128 * 1024
"""What a driver may keep of a flood: a decoder's longest frame and a little more, never a share of the flood."""


@every_case
@on_virtual_time
async def test_a_flood_is_bounded_in_memory(case: Case) -> None:
    """Noise, the start of a frame over and over, and good replies that nobody asked for."""
    async with running(Bed(case, latency_seconds=0.01)) as bed:
        said: list[bytes] = []
        heard = bed.device.feed
        bed.device.feed = lambda data: (said.append(reply := heard(data)), reply)[1]
        await bed.operate()
        bed.device.feed = heard
        replies = b"".join(said)
        noise = random.Random(6).randbytes(4096)  # noqa: S311 - a test's
        begun = b"".join(reply[: max(1, len(reply) // 2)] for reply in said) or noise
        for flood in (noise, begun, replies):
            chunk = (flood * (4096 // len(flood) + 1))[:4096]
            gc.collect()
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(FLOOD_BYTES // len(chunk)):
                    if not bed.serving:
                        break
                    bed.link.deliver(chunk)
                    await asyncio.sleep(0.05)
                gc.collect()
                kept = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
            assert kept < FLOOD_KEEPS_BYTES, f"{kept} bytes kept"
            await asyncio.sleep(1)
            await bed.healed(1)


@every_case
@on_virtual_time
async def test_cancelled_anywhere_the_device_stays_usable(case: Case) -> None:
    loop = asyncio.get_running_loop()
    async with running(Bed(case, latency_seconds=0.02)) as bed:
        started = loop.time()
        await bed.operate()
        whole = min(loop.time() - started, 3.0)
    steps = 12
    for step in range(steps):
        async with running(Bed(case, latency_seconds=0.02)) as bed:
            work = asyncio.create_task(bed.operate(0), name="operation")
            await asyncio.sleep(whole * step / steps)
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            assert work.done()
            await bed.healed(1)


@every_case
@on_virtual_time
async def test_closed_during_open(case: Case) -> None:
    """A life that is cancelled, twice at that, frees its port at whatever point of its opening it stands."""
    for step in range(12):
        bed = Bed(case, latency_seconds=0.02)
        life = asyncio.create_task(bed.driver.run(lambda: None), name="life")
        await asyncio.sleep(step * 0.017)
        life.cancel()
        await asyncio.sleep(0)
        life.cancel()
        with pytest.raises(asyncio.CancelledError):
            await life
        assert bed.driver.status.state is DeviceState.OFFLINE
        await (await bed._open_memory("port", 0)).close()
        async with running(bed):
            await bed.healed()


@every_case
@on_virtual_time
async def test_no_reply_is_unknown(case: Case) -> None:
    """A device that was never heard has no details; one that fell silent is not online for long."""
    bed = Bed(case)
    bed.lost_in = 1.0
    with pytest.raises((DeviceError, LinkLost)):
        await bed.driver.run(lambda: None)
    assert not any(status.details or status.identity for status in bed.statuses)
    assert all(status.state is not DeviceState.ONLINE for status in bed.statuses)
    assert not await attempt(bed)
    async with running(Bed(case)) as bed:
        await bed.operate()
        bed.lost_in = 1.0
        assert not await attempt(bed, 1)
        await bed.until_lost()
        assert bed.driver.status.code is not None
        assert not bed.driver.status.details
        bed.lost_in = 0.0
        await bed.healed(1)


@watched_cases
@on_virtual_time
async def test_stale_after_the_declared_age(case: Case) -> None:
    """L10: an old word stands until its declared age, not a moment longer; then everything is unknown."""
    async with running(Bed(case)) as bed:
        clock = asyncio.get_running_loop().time
        await bed.operate()
        known = bed.driver.reading()
        at = clock() - known.age_seconds
        bed.lost_in = 1.0
        assert case.stale_seconds is not None
        while (reading := bed.driver.reading()).code is None:
            assert reading.age_seconds == pytest.approx(clock() - at) or clock() - reading.age_seconds > at
            at = clock() - reading.age_seconds
            assert clock() - at < case.stale_seconds
            await asyncio.sleep(0.5)
        assert clock() - at < case.stale_seconds + 1
        assert reading == bed.driver.unknown
        assert reading.code == f"{case.kind}.stale"
        await bed.until_lost()
        assert bed.driver.status.code is not None
        assert not bed.driver.status.details


@every_case
@on_virtual_time
async def test_a_new_subscriber_gets_the_full_status(case: Case) -> None:
    """Every status stands for itself, and the driver keeps the last: before, while and after it serves."""
    bed = Bed(case)
    assert bed.driver.status == DeviceStatus(DeviceState.STARTING)
    async with running(bed):
        await bed.operate()
        assert bed.statuses[-1] == bed.driver.status
        online = bed.driver.status
        bed.port.unplug()
        await bed.until_lost()
        assert bed.statuses[-1] == bed.driver.status
        bed.port.plug()
        await bed.until_serving()
        await bed.healed()
        assert bed.statuses[-1] == bed.driver.status
        assert bed.driver.status == online
        assert all(before != after for before, after in pairwise(bed.statuses))


@every_case
@on_virtual_time
async def test_an_hour_of_flapping_repeats_no_line_within_a_minute(case: Case) -> None:
    """L9: under the real supervisor, a cable at USB that comes and goes, and a wire that loses half of all."""
    bed = Bed(case)
    loop = asyncio.get_running_loop()
    seen: dict[tuple[tuple[str, str], ...], list[float]] = defaultdict(list)

    with capture_logs() as lines:
        times: list[float] = []
        supervisor = Supervisor(random.Random(1), lambda *_: None)  # noqa: S311 - a test's

        def note() -> None:
            times.extend([loop.time()] * (len(lines) - len(times)))

        async def ticking() -> None:
            while True:
                note()
                await asyncio.sleep(0.25)

        async with asyncio.TaskGroup() as group:
            supervisor.start(group, case.kind, bed.driver.run, gives_up=True)
            ticker = group.create_task(ticking())
            for turn in range(180):
                bed.lost_in = (0.0, 0.5)[turn // 10 % 2]
                await asyncio.sleep(13)
                bed.port.unplug()
                await asyncio.sleep(7)
                bed.port.plug()
                supervisor.plugged(case.kind)
            ticker.cancel()
            await supervisor.stop()
        note()
    for at, line in zip(times, lines, strict=True):
        if line["event"] == "unit_healed":
            continue  # one for each outage that was told, whose lines are counted
        line.pop("held_back", None)
        line.pop("tries", None)
        seen[tuple(sorted((key, str(value)) for key, value in line.items()))].append(at)
    assert seen, "it flapped"
    for line, moments in seen.items():
        gaps = [after - before for before, after in pairwise(moments)]
        assert all(gap >= 59 for gap in gaps), f"{len(moments)} times, {min(gaps):.0f} s apart: {dict(line)}"


# On real pseudo-terminals, in real time.


class PtyBed(Bed):
    """A bed on a pseudo-terminal at `path`, which a new life opens again."""

    def __init__(self, case: Case, directory: Path) -> None:
        self.path = directory / "tty"
        super().__init__(case, self._open_pty)
        self.host = PtyHost(self.device, self.path, baud=115_200)
        self.port = self.host  # type: ignore[assignment]

    async def _open_pty(self, *_: Any) -> Link:
        return await open_serial_link(str(self.path), 115_200)


@asynccontextmanager
async def on_pty(case: Case, directory: Path) -> AsyncIterator[PtyBed]:
    async with asyncio.timeout(60):
        bed = PtyBed(case, directory)
        with bed.host:
            async with running(bed):
                yield bed


@every_case
async def test_on_a_pty(case: Case, tmp_path: Path) -> None:
    """Open twice, unplug idle and in the middle of a frame, replug under another name, close twice."""
    async with on_pty(case, tmp_path) as bed:
        with pytest.raises(LinkLost):
            await open_serial_link(str(bed.path), 115_200)
        await bed.operate()
        assert not bed.ends

        bed.host.unplug()
        await bed.until_lost()
        assert len(bed.ends) >= 1
        with pytest.raises(LinkLost):
            await open_serial_link(str(bed.path), 115_200)
        before = bed.lives
        with PtyHost(case.make_device(), tmp_path / "other"):  # takes the number that became free
            bed.host.plug()
            assert bed.path.readlink() != (tmp_path / "other").readlink()
            await bed.until(lambda: bed.lives > before)
            await bed.healed(1)

        bed.fault_at(1, Fault.UNPLUG)
        await attempt(bed)
        await bed.until(lambda: not bed.host.plugged)
        await bed.until_lost()
        bed.host.plug()
        await bed.healed()

        link = bed.link
    await link.close()
    await link.close()


@every_case
async def test_closed_during_open_on_a_pty(case: Case, tmp_path: Path) -> None:
    """Cancelled at any point of opening, the port is free at once, and nothing of it is left (L2, L6)."""
    bed = PtyBed(case, tmp_path)
    with bed.host:
        for step in range(8):
            life = asyncio.create_task(bed.driver.run(lambda: None), name="life")
            for _ in range(3**step // 2):
                await asyncio.sleep(0)
            life.cancel()
            with pytest.raises(asyncio.CancelledError):
                await life
            link = await open_serial_link(str(bed.path), 115_200)
            await link.close()
