"""A device probed step by step: the same steps for real hardware and for the rig (docs/tester.md).

A step passes, fails, or is skipped because it needs a hand or something this machine does not have. Nothing personal
comes into a result, and of the wire only what `devices.masking` lets pass.
"""

import asyncio
import tomllib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from devices.capture import MASKS, Direction, Listener, Tap
from devices.config import CardReader, Environment, Fingerprint, IdCard, PinPad, Printer, Ups
from devices.errors import DeviceError
from devices.link import LinkLost, OpenLink
from devices.masking.pieces import Piece
from devices.status import DeviceStatus
from runtime import drivers
from runtime.probe_camera import CameraSection, CameraUnderTest

START_SECONDS = 20.0
"""From opening the port to a device that serves; the slowest driver, asking everything twice, needs less."""
STEP_SECONDS = 90.0
_PIECES_SHOWN = 16

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "idcard": IdCard,
    "printer": Printer,
    "fingerprint": Fingerprint,
    "cardreader": CardReader,
    "pinpad": PinPad,
    "ups": Ups,
    "environment": Environment,
    "camera": CameraSection,
}
"""The configuration section of each kind that can be probed."""

Outcome = Literal["passed", "failed", "skipped"]


class StepResult(msgspec.Struct, frozen=True):
    """What became of a step."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str


class Report(msgspec.Struct, frozen=True):
    """What became of a probe: passed when no step failed."""

    kind: str
    identity: str | None
    steps: list[StepResult]
    passed: bool


class Skipped(Exception):
    """A step cannot be done here; the message says what it needs."""


class Failed(Exception):
    """A step found what should not be."""


class SettingsError(ValueError):
    """A key of the kind's configuration section is wrong."""


def make_settings(kind: str, port: str, baud: int | None, assignments: Sequence[str] = ()) -> Any:
    """Return the kind's section for a port; `assignments` read `key = value` in TOML. Raises SettingsError."""
    try:
        given = tomllib.loads("\n".join(assignments))
        rate = {} if baud is None else {"baud": baud}
        made: Any = msgspec.convert({**given, "port": port, **rate}, SECTIONS[kind])
        driver_class(kind, made)
        return made
    except drivers.DriverError as error:
        raise SettingsError(f"[{kind}] driver: expected {error.expected}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"[{kind}] {error}") from None


def driver_class(kind: str, settings: Any) -> drivers.DriverClass:
    """Return what is probed with these settings; raise DriverError."""
    return CameraUnderTest if kind == "camera" else drivers.load(kind, settings.driver)


@dataclass
class Bench:
    """The device under test. `driver` is the driver in its present life; `end` ends that.

    With `hand`, somebody is there to do what `tell` asks. `photo_library` is the vendor's photo decoder.
    """

    kind: str
    settings: Any
    open_link: OpenLink
    hand: bool = False
    tell: Callable[[str], object] = lambda _: None
    photo_library: str | None = None
    photo: bytearray = field(default_factory=bytearray, repr=False)
    heard: deque[tuple[Direction, Piece]] = field(default_factory=lambda: deque(maxlen=256), repr=False)
    listener: Listener | None = None
    identity: str | None = None
    _life: "Life | None" = None

    def __post_init__(self) -> None:
        self._tap = self.tapped()

    def tapped(self) -> OpenLink:
        """Return the link opener whose pieces this bench hears; a camera has no wire."""
        return Tap(self.kind, self.open_link, self._hear) if self.kind in MASKS else self.open_link

    def _hear(self, seconds: float, way: Direction, piece: Piece) -> None:
        self.heard.append((way, piece))
        if self.listener is not None:
            self.listener(seconds, way, piece)

    async def driver(self) -> Any:
        """Return the driver, in a new life when it has none."""
        if self._life is None:
            self._life = Life(self.kind, self.settings, self._tap)
            await self._life.start()
            self.identity = self._life.driver.status.identity
        return self._life.driver

    async def end(self) -> None:
        """End the driver's life; without one it is nothing."""
        life, self._life = self._life, None
        if life is not None:
            await life.end()

    @asynccontextmanager
    async def life(self, open_link: OpenLink) -> AsyncIterator[Any]:
        """Let a driver live on another link opener for the length of a block, after the present life."""
        await self.end()
        life = Life(self.kind, self.settings, open_link)
        try:
            await life.start()
            yield life.driver
        finally:
            await life.end()

    def by_hand(self, what: str) -> None:
        """Ask the hand for something; raise Skipped when there is none."""
        if not self.hand:
            raise Skipped(f"needs a hand: {what}")
        self.tell(what)


class Life:
    """One life of a driver, in a task."""

    def __init__(self, kind: str, settings: Any, open_link: OpenLink) -> None:
        self.statuses: list[DeviceStatus] = []
        self.driver: Any = driver_class(kind, settings)(settings, open_link, self.statuses.append)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the device serves; raise LinkLost, DeviceError or Failed with why it does not."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.driver.run(ready.set), name="probe life")
        waiting = asyncio.create_task(ready.wait(), name="probe ready")
        try:
            tasks = {self._task, waiting}
            await asyncio.wait(tasks, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
            if not ready.is_set():
                raise Failed(f"the device does not serve within {START_SECONDS:g} s")
        finally:
            waiting.cancel()

    async def end(self) -> None:
        """End it and wait until the port is free; why it ended was told by `start`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the table: a name, and what does it and returns a sentence on how it went."""

    name: str
    run: Callable[[Bench], Awaitable[str]]


async def probe(
    bench: Bench, steps: Sequence[Step], on_result: Callable[[StepResult], object] = lambda _: None
) -> Report:
    """Do the steps in order; without a device that opens, the others are skipped. Leaves the port closed."""
    results: list[StepResult] = []
    opens = True
    try:
        for step in steps:
            result = await _do(bench, step) if opens else StepResult(step.name, "skipped", 0.0, "it does not open")
            if step is steps[0] and result.outcome == "failed":
                opens = False
            results.append(result)
            on_result(result)
    finally:
        bench.photo[:] = bytes(len(bench.photo))
        await bench.end()
    return Report(bench.kind, bench.identity, results, all(result.outcome != "failed" for result in results))


async def _do(bench: Bench, step: Step) -> StepResult:
    loop = asyncio.get_running_loop()
    start = loop.time()
    bench.heard.clear()
    outcome: Outcome = "failed"
    try:
        async with asyncio.timeout(STEP_SECONDS):
            detail = await step.run(bench)
        outcome = "passed"
    except Skipped as reason:
        outcome, detail = "skipped", str(reason)
    except TimeoutError:
        detail = f"not done within {STEP_SECONDS:g} s"
    except DeviceError as error:
        detail = f"{error.code}: {error}; {error.advice}"
    except (LinkLost, Failed) as error:
        detail = str(error)
    except Exception as error:  # noqa: BLE001 - a driver of another distribution may raise anything
        detail = f"the driver ends in {type(error).__name__}"
    if outcome == "failed":
        detail = "\n".join([detail, *wire_lines(bench.heard)])
        await bench.end()  # the next step begins with a device that was opened anew
    return StepResult(step.name, outcome, round(loop.time() - start, 4), detail)


def wire_lines(heard: Sequence[tuple[Direction, Piece]] | deque[tuple[Direction, Piece]]) -> list[str]:
    """Return the last pieces of a wire, one a line: `>` to the device, `<` from it; noise in one."""
    lines: list[tuple[Direction, Piece]] = []
    for way, piece in heard:
        if lines and piece.head == 0 and lines[-1][0] == way and lines[-1][1].head == 0:
            piece = Piece(lines.pop()[1].data + piece.data, 0)  # noqa: PLW2901
        lines.append((way, piece))
    return [f"{'>' if way == 'to_device' else '<'} {piece}" for way, piece in lines[-_PIECES_SHOWN:]]
