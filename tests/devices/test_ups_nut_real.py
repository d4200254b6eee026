"""NUT 2.8 as it is shipped, on both sides of us (T14, protocols 4.3 to 4.5).

Its server and its simulated UPS are asked by our NutUps; its own Megatec driver asks the rig's UPS on a PTY.
"""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from devices.config import Ups as UpsSettings
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.status import DeviceState, DeviceStatus
from devices.tcp import open_tcp_link
from devices.ups.nut import NutUps
from devices.ups.status import STALE, Basis, Source
from sim.devices.ups import VirtualMegatecUps
from sim.pty import PtyHost

DEADLINE = 60
NUT = Path("/lib/nut")
PASSWORD = 'with a " and a \\'  # noqa: S105 - of a server that lives for one test


@asynccontextmanager
async def process(directory: Path, name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    names = ("NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH", "NUT_PIDPATH")
    started = await asyncio.create_subprocess_exec(
        str(NUT / name),
        *(*arguments, "-F", "-u", getpass.getuser()),
        env={**os.environ, **dict.fromkeys(names, str(directory))},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


class Nut:
    """A NUT server for one UPS, and our driver under a supervisor."""

    def __init__(self, directory: Path, ups: str) -> None:
        directory.chmod(0o700)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
        files = {
            "ups.conf": f"[kiosk]\n{ups}\npollinterval = 1\n",
            "upsd.conf": f"LISTEN 127.0.0.1 {self.port}\n",
            "upsd.users": f'[mon]\npassword = "{password}"\nactions = SET\ninstcmds = ALL\nupsmon primary\n',
        }
        for name, text in files.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o600)
        self.directory = directory
        self.statuses: list[DeviceStatus] = []
        self.changed = asyncio.Event()
        self.driver = self.make(PASSWORD)

    def make(self, password: str) -> NutUps:
        address = f"nut://mon@127.0.0.1:{self.port}/kiosk"
        settings = UpsSettings(port=address, poll_seconds=1, stale_seconds=5)
        return NutUps(settings, open_tcp_link, self.note, password=password)

    def note(self, status: DeviceStatus) -> None:
        self.statuses.append(status)
        self.changed.set()

    async def until(self, true: Callable[[DeviceStatus], bool]) -> None:
        while not true(self.driver.status):
            self.changed.clear()
            await self.changed.wait()

    async def until_detail(self, name: str, value: str | bool) -> None:
        await self.until(lambda status: status.details.get(name) == value)

    async def supervise(self) -> None:
        while True:
            try:
                await self.driver.run(lambda: None)
            except (LinkLost, DeviceError):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def served(nut: Nut) -> AsyncIterator[None]:
    async with process(nut.directory, "upsd"):
        life = asyncio.create_task(nut.supervise(), name="supervisor")
        try:
            await nut.until_detail("source", "on_line")
            yield
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)


async def test_our_driver_and_nuts_simulated_ups(tmp_path: Path) -> None:
    """Log in, read, mains failure, a dead driver that is stale and never low (L10), and back."""
    values = tmp_path / "kiosk.dev"

    def write(status: str) -> None:
        values.write_text(f"ups.mfr: Dummy\nups.model: R4\nups.status: {status}\nbattery.runtime: 1800\n")

    write("OL")
    async with asyncio.timeout(DEADLINE), AsyncExitStack() as stack:
        nut = Nut(tmp_path, f"driver = dummy-ups\nport = {values}\nmode = dummy-once")
        driver = await stack.enter_async_context(process(tmp_path, "dummy-ups", "-a", "kiosk"))
        await stack.enter_async_context(served(nut))
        reading = nut.driver.reading()
        assert (reading.source, reading.runtime_seconds, reading.runtime_basis) == (Source.ON_LINE, 1800, Basis.UPS)
        assert nut.driver.status.identity == "Dummy R4"
        told = len(nut.statuses)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await nut.driver.cancel_shutdown()
        with pytest.raises(DeviceError) as caught:
            await nut.driver.test()
        assert (caught.value.code, len(nut.statuses)) == ("ups.unsupported", told), "in step again on one connection"
        write("OB LB")
        await nut.until_detail("batteryStatus", "low")
        assert nut.driver.reading().source is Source.ON_BATTERY
        driver.kill()
        await nut.until(lambda status: status.state is DeviceState.OFFLINE)
        assert nut.driver.status.code == "ups.stale"
        assert nut.driver.reading() == STALE
        write("OL")
        await stack.enter_async_context(process(tmp_path, "dummy-ups", "-a", "kiosk"))
        await nut.until_detail("source", "on_line")


async def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    (tmp_path / "kiosk.dev").write_text("ups.status: OL\n")
    async with asyncio.timeout(DEADLINE), AsyncExitStack() as stack:
        nut = Nut(tmp_path, f"driver = dummy-ups\nport = {tmp_path}/kiosk.dev\nmode = dummy-once")
        await stack.enter_async_context(process(tmp_path, "dummy-ups", "-a", "kiosk"))
        await stack.enter_async_context(served(nut))
        with pytest.raises(DeviceError) as caught:
            await nut.make("another").run(lambda: None)
        assert (caught.value.code, caught.value.retry) == ("ups.access_denied", False)


async def test_nuts_own_megatec_driver_and_the_rigs_ups(tmp_path: Path) -> None:
    """Our driver, NUT's server, NUT's nutdrv_qx, the rig: what one says the other understands, both ways."""
    async with asyncio.timeout(DEADLINE), AsyncExitStack() as stack:
        device = VirtualMegatecUps(asyncio.get_running_loop().time)
        host = stack.enter_context(PtyHost(device, tmp_path / "tty", baud=115_200))
        nut = Nut(tmp_path, f"driver = nutdrv_qx\nport = {host.path}\nprotocol = q1")
        await stack.enter_async_context(process(tmp_path, "nutdrv_qx", "-a", "kiosk"))
        await stack.enter_async_context(served(nut))
        device.mains_off()
        await nut.until_detail("source", "on_battery")
        device.battery_low()
        await nut.until_detail("batteryStatus", "low")
        reading = nut.driver.reading()
        assert (reading.load, reading.temperature_celsius) == (0.12, 27.0)
        device.mains_on()
        device.battery_low(low=False)
        await nut.until_detail("source", "on_line")
        await nut.driver.shutdown_return(30)
        await nut.until_detail("shutting_down", value=True)
        await nut.driver.cancel_shutdown()
        await nut.until_detail("shutting_down", value=False)
        await nut.driver.test()
        await nut.until_detail("testing", value=True)
        assert device.orders == ["S.5R0003", "C", "T"]
        device.silent()
        await nut.until(lambda status: status.code == "ups.stale")
        assert nut.driver.reading() == STALE
