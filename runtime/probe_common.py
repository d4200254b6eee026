"""The conformance steps that every kind of device goes through, whatever it does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from devices.errors import DeviceError
from devices.link import FlowControl, Link, LinkLost, OpenLink
from devices.status import DeviceState
from runtime.probe import Bench, Failed, Skipped, Step

HAND_SECONDS = 30.0
"""How long a hand may take."""
REOPENINGS = 3
_LIVES = 3
_NOISE = bytes.fromhex("00 FF AA AA AA 96")
"""Line noise that looks like the start of a frame (protocols 10)."""
_CANCEL_SECONDS = 0.2
_WITHOUT_IDENTITY = {"printer", "ups", "camera", "environment"}


async def _open(bench: Bench) -> str:
    await bench.driver()
    baud = getattr(bench.settings, "baud", None)
    return f"{bench.settings.port}" + (f" at {baud} bit/s" if baud else "")


async def _identity(bench: Bench) -> str:
    identity = (await bench.driver()).status.identity
    if identity is not None:
        return str(identity)
    if bench.kind in _WITHOUT_IDENTITY:
        raise Skipped("this device tells no identity")
    raise Failed("the device tells no identity")


async def _status(bench: Bench) -> str:
    status = (await bench.driver()).status
    if status.state is not DeviceState.ONLINE:
        raise Failed(f"{status.state}, {status.code}")
    details = ", ".join(f"{name}={value}" for name, value in status.details.items())
    return " ".join(filter(None, [str(status.state), status.code, details]))


async def _second_open(bench: Bench) -> str:
    if "://" in bench.settings.port:
        raise Skipped("a network address may be opened by several")
    await bench.driver()
    try:
        link = await bench.open_link(bench.settings.port, bench.settings.baud)
    except LinkLost:
        return "refused"
    await link.close()
    raise Failed("the port can be opened a second time while the driver holds it")


async def _one_byte(bench: Bench) -> str:
    """Serve over a link on which every read gives one byte."""
    identity = (await bench.driver()).status.identity
    async with bench.life(_altered(bench.tapped(), chunk=1)) as driver:
        if driver.status.identity != identity:
            raise Failed("another identity")
    return "the same identity"


async def _noise(bench: Bench) -> str:
    """Serve although the device's first words come behind noise; a driver may need to open the port again."""
    lives = 1
    while True:
        try:
            async with bench.life(_altered(bench.tapped(), noise=_NOISE)):
                return f"serves in life {lives}"
        except (LinkLost, DeviceError):
            if lives == _LIVES:
                raise
            lives += 1


async def _reopen(bench: Bench) -> str:
    loop, times = asyncio.get_running_loop(), []
    for _ in range(REOPENINGS):
        await bench.end()
        start = loop.time()
        await bench.driver()
        times.append(loop.time() - start)
    return f"serves after {', '.join(f'{seconds:.2f}' for seconds in times)} s"


def cancelling(look: Callable[[Bench], Awaitable[str]]) -> Callable[[Bench], Awaitable[str]]:
    """Return the step that cancels `look` in the middle and does it again."""

    async def cancelled(bench: Bench) -> str:
        await bench.driver()
        looking = asyncio.ensure_future(look(bench))
        await asyncio.wait({looking}, timeout=_CANCEL_SECONDS)
        if looking.done():
            looking.result()
            raise Skipped("the call was over before it could be cancelled")
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await look(bench)
        return "usable after a cancelled call"

    return cancelled


async def expected(work: Awaitable[Any], *codes: str) -> Any:
    """Return what `work` returns, None when it ends with an expected error."""
    try:
        return await work
    except DeviceError as error:
        if error.code not in codes:
            raise
        return None


def _altered(open_link: OpenLink, *, chunk: int | None = None, noise: bytes = b"") -> OpenLink:
    """Return an OpenLink whose links give `noise` before anything else, and `chunk` bytes at a time."""

    async def opened(port: str, baud: int, flow_control: FlowControl = "none") -> Link:
        return _AlteredLink(await open_link(port, baud, flow_control), chunk, noise)

    return opened


class _AlteredLink:
    def __init__(self, link: Link, chunk: int | None, noise: bytes) -> None:
        self._link = link
        self._chunk = chunk
        self._waiting = noise

    async def read(self) -> bytes:
        if not self._waiting or self._chunk is None:
            self._waiting += await self._link.read()
        size = self._chunk or len(self._waiting)
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data

    async def write(self, data: bytes) -> None:
        await self._link.write(data)

    async def close(self) -> None:
        await self._link.close()


FIRST = (Step("open", _open), Step("identity", _identity), Step("status", _status))
REOPEN = Step("close and reopen", _reopen)
LAST = (
    Step("second open is refused", _second_open),
    Step("one byte at a time", _one_byte),
    Step("noise", _noise),
    REOPEN,
)
