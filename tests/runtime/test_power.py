"""logind over a real D-Bus: the order, a refusal, and nobody there (T14)."""

import asyncio
import subprocess

import pytest
from dbus_fast import DBusError
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, method

from runtime import power
from runtime.power import LogindPower, PowerError

CONFIG = """<busconfig>
<type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
<allow user="*"/></policy></busconfig>"""


class Logind(ServiceInterface):
    def __init__(self):
        super().__init__("org.freedesktop.login1.Manager")
        self.orders = []
        self.refuse = False

    @method()
    def PowerOff(self, interactive: "b"):  # noqa: N802, F821 - the D-Bus name and signature
        self.orders.append(interactive)
        if self.refuse:
            raise DBusError("org.freedesktop.DBus.Error.AccessDenied", "no")


@pytest.fixture
def address(tmp_path):
    """The address of a bus of our own."""
    (tmp_path / "bus.conf").write_text(CONFIG.format(path=tmp_path / "bus"))
    command = ["dbus-daemon", f"--config-file={tmp_path / 'bus.conf'}", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        yield daemon.stdout.readline().strip()
        daemon.terminate()


@pytest.fixture
async def logind(address):
    bus = await MessageBus(address).connect()
    service = Logind()
    bus.export("/org/freedesktop/login1", service)
    yield bus, service, address
    bus.disconnect()
    await bus.wait_for_disconnect()


async def test_the_order_reaches_logind_without_a_question(logind):
    bus, service, address = logind
    await bus.request_name("org.freedesktop.login1")
    await LogindPower(address).power_off()
    assert service.orders == [False]


async def test_a_refusal_is_told(logind):
    bus, service, address = logind
    await bus.request_name("org.freedesktop.login1")
    service.refuse = True
    with pytest.raises(PowerError, match="AccessDenied") as caught:
        await LogindPower(address).power_off()
    assert (caught.value.code, caught.value.retry) == ("power.refused", True)
    assert caught.value.advice


async def test_without_logind_the_order_is_refused(logind):
    _, _, address = logind
    with pytest.raises(PowerError, match="ServiceUnknown"):
        await LogindPower(address).power_off()


async def test_without_a_bus_it_is_unavailable(tmp_path):
    with pytest.raises(PowerError) as caught:
        await LogindPower(f"unix:path={tmp_path}/none").power_off()
    assert caught.value.code == "power.unavailable"


async def test_a_bus_that_says_nothing_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(power, "_ANSWER_SECONDS", 0.1)
    gone = asyncio.Event()

    async def silent(reader, writer):
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_unix_server(silent, tmp_path / "bus")
    async with server, asyncio.timeout(5):
        with pytest.raises(PowerError) as caught:
            await LogindPower(f"unix:path={tmp_path}/bus").power_off()
        await gone.wait()
    assert caught.value.code == "power.unavailable"
