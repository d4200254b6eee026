"""The conformance steps of each kind. A new kind adds a row to `OPERATIONS`, over its driver's public methods."""

import asyncio
from typing import Any

from devices.capture import MASKS
from devices.errors import DeviceError
from runtime.probe import Bench, Failed, Skipped, Step
from runtime.probe_camera import CameraUnderTest
from runtime.probe_common import FIRST, HAND_SECONDS, LAST, REOPEN, cancelling, expected

LOOK_SECONDS = 0.5
"""How long a step looks for something that nobody is asked to bring."""
COUNT_SECONDS = 2.0
"""How long the frames of a camera are counted."""
LEAST_FRAMES = {"face": 5.0, "document": 1.0}
"""A second: a face check looks at five of them, and of a page one is captured."""


async def _look_for_card(bench: Bench) -> str:
    record = await expected((await bench.driver()).read_card(wait_seconds=LOOK_SECONDS), "idcard.no_card")
    if record is None:
        return "no new card, as it should be"
    record.wipe()
    return "a card lies there; its record is complete"


async def _read_card(bench: Bench) -> str:
    driver = await bench.driver()
    bench.by_hand("lift the card, then lay an ID card on the reader")
    record = await expected(driver.read_card(wait_seconds=HAND_SECONDS), "idcard.no_card")
    if record is None:
        raise Skipped("no card was laid down")
    bench.photo[:] = record.photo.view()
    record.wipe()
    return "the record is complete and does not contradict itself"


async def _decode_photo(bench: Bench) -> str:
    if bench.photo_library is None:
        raise Skipped("needs the vendor's decoder: --photo-library PATH")
    if not bench.photo:
        raise Skipped("no card was read")
    from vision.config import Vision
    from vision.errors import VisionError
    from vision.photo import open_decoder

    try:
        decode = open_decoder(Vision(camera="none", photo_library=bench.photo_library), rig=False)
        picture = decode(bytes(bench.photo))
    except VisionError as error:
        raise Failed(f"{error.code}: {error}; {error.advice}") from None
    return f"{picture.shape[1]} x {picture.shape[0]} pixels"


async def _look_for_finger(bench: Bench) -> str:
    driver = await bench.driver()
    capture = driver.capture(wait_seconds=LOOK_SECONDS, on_guidance=lambda _: None)
    template = await expected(capture, "fingerprint.no_finger", "fingerprint.not_lifted")
    if template is None:
        return "no new finger, as it should be"
    template.wipe()
    return "a finger lies there"


async def _clear(bench: Bench) -> str:
    await (await bench.driver()).clear()
    return "both buffers are overwritten"


async def _match_finger(bench: Bench) -> str:
    driver = await bench.driver()
    bench.by_hand("lay a finger on the sensor, lift it when asked, and lay the same one down again")
    template = await expected(
        driver.capture(wait_seconds=HAND_SECONDS, on_guidance=bench.tell), "fingerprint.no_finger"
    )
    if template is None:
        raise Skipped("no finger was laid down")
    try:
        result = await driver.match(template, wait_seconds=HAND_SECONDS, on_guidance=bench.tell)
    finally:
        template.wipe()
    if not result.matched:
        raise Failed("the same finger does not match")
    return f"{template.format}, security level {result.security_level}"


async def _print(bench: Bench) -> str:
    from devices.printer.job import Feed, Qr, Text
    from devices.printer.protocol import Align

    job = [
        Text("govterm probe", Align.CENTRE, double=True),
        Text("打印测试 0123456789"),
        Qr("govterm probe"),
        Feed(2),
    ]
    result = await (await bench.driver()).print_job(job)
    if result.outcome != "printed":
        raise Failed(f"{result.outcome}: {result.code}")
    return f"{result.millimetres:.0f} mm in {result.seconds:.2f} s"


async def _look_for_bank_card(bench: Bench) -> str:
    driver = await bench.driver()

    async def one() -> bool:
        async with driver.card(wait_seconds=LOOK_SECONDS):
            return True

    there = await expected(one(), "cardreader.no_card")
    return "a card went in and is handed back" if there else "no card, as it should be; the entry is shut again"


async def _read_bank_card(bench: Bench) -> str:
    from devices.cardreader.chip import ChipPower
    from devices.cardreader.emv import read_payment_card

    driver = await bench.driver()
    bench.by_hand("insert a bank card, and take it when it comes out")
    found = []
    try:
        async with driver.card(wait_seconds=HAND_SECONDS):
            tracks = await driver.read_tracks()
            found += [f"track {n}" for n in (1, 2, 3) if getattr(tracks, f"track{n}") is not None]
            tracks.wipe()
            try:
                atr = await driver.power(ChipPower.COLD)
                found.append(f"chip {atr.protocol}")
                payment = await read_payment_card(driver)
                found.append(f"application {payment.application.hex().upper()}")
                payment.wipe()
            except DeviceError as error:
                found.append(error.code)
            found.append(str(await driver.eject()))
    except DeviceError as error:
        if error.code == "cardreader.no_card":
            raise Skipped("no card was inserted") from None
        raise
    return ", ".join(found)


async def _keys(bench: Bench) -> str:
    status = await (await bench.driver()).key_status()
    return f"{status.encryption}; PIN key {status.pin_key}, MAC key {status.mac_key}"


async def _function_key(bench: Bench, seconds: float) -> Any:
    return await expected((await bench.driver()).wait_function_key(wait_seconds=seconds), "pinpad.timeout")


async def _look_for_key(bench: Bench) -> str:
    key = await _function_key(bench, LOOK_SECONDS)
    return "no key, as it should be; the keypad is off again" if key is None else f"key {key.value}"


async def _press_key(bench: Bench) -> str:
    await bench.driver()
    bench.by_hand("press a function key beside the screen")
    key = await _function_key(bench, HAND_SECONDS)
    if key is None:
        raise Skipped("no key was pressed")
    return f"key {key.value}"


async def _reading(bench: Bench) -> str:
    reading = (await bench.driver()).reading()
    if reading.code is not None:
        raise Failed(reading.code)
    known = {name: getattr(reading, name) for name in reading.__dataclass_fields__ if name not in {"code", "faults"}}
    return ", ".join(f"{name}={_figure(value)}" for name, value in known.items() if value is not None)


async def _count_frames(bench: Bench) -> str:
    camera, name = await bench.driver(), "document" if bench.settings.document else "face"
    before = camera.seen.frames
    await asyncio.sleep(COUNT_SECONDS)
    rate = (camera.seen.frames - before) / COUNT_SECONDS
    if rate < LEAST_FRAMES[name]:
        raise Failed(f"{rate:.1f} different frames a second; a {name} camera needs {LEAST_FRAMES[name]:g}")
    return f"{rate:.1f} a second, no two alike"


async def _cover(bench: Bench) -> str:
    camera = await bench.driver()
    bench.by_hand("cover the lens")
    if not await camera.until(lambda seen: seen.state in {"covered", "dark"}, HAND_SECONDS):
        raise Skipped("the lens was not covered")
    covered = camera.seen.state
    bench.tell("uncover it again")
    if not await camera.until(lambda seen: seen.state == "online", HAND_SECONDS):
        raise Failed(f"still {camera.seen.state}")
    return f"{covered}, then online again"


async def _second_camera(bench: Bench) -> str:
    await bench.driver()
    if bench.settings.port.startswith("rig:"):
        raise Skipped("the rig's camera may be opened by several")
    other = CameraUnderTest(bench.settings, bench.open_link, lambda _: None)

    def opened() -> None:
        raise Failed("the camera can be turned on a second time while it is on")

    try:
        await other.run(opened)
    except DeviceError as error:
        return f"refused, {error.code}"
    return "refused"


def _figure(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


OPERATIONS: dict[str, tuple[Step, ...]] = {
    "idcard": (
        Step("look for a card", _look_for_card),
        Step("cancel", cancelling(_look_for_card)),
        Step("read a card", _read_card),
        Step("decode its photo", _decode_photo),
    ),
    "printer": (Step("print a slip", _print),),
    "fingerprint": (
        Step("empty the module", _clear),
        Step("look for a finger", _look_for_finger),
        Step("cancel", cancelling(_look_for_finger)),
        Step("match a finger", _match_finger),
    ),
    "cardreader": (
        Step("let no card in", _look_for_bank_card),
        Step("cancel", cancelling(_look_for_bank_card)),
        Step("read a bank card", _read_bank_card),
    ),
    "pinpad": (
        Step("key status", _keys),
        Step("look for a key", _look_for_key),
        Step("cancel", cancelling(_look_for_key)),
        Step("press a key", _press_key),
    ),
    "ups": (Step("reading", _reading),),
    "environment": (Step("reading", _reading),),
    "camera": (
        Step("frames", _count_frames),
        Step("cover the lens", _cover),
        Step("second open is refused", _second_camera),
    ),
}
"""What each kind can do beside being opened; a step may need a hand."""


def probe_steps(kind: str) -> list[Step]:
    """Return every step of a kind; a camera has no wire to be disturbed."""
    return [*FIRST, *OPERATIONS[kind], *(LAST if kind in MASKS else (REOPEN,))]


def capture_steps(kind: str) -> list[Step]:
    """Return the steps that a recording shows: those on an undisturbed wire."""
    return [*FIRST, *OPERATIONS[kind]]
