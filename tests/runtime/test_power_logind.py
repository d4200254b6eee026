"""logind over a real D-Bus: the order, a refusal, and nobody there (T14)."""

import asyncio
import subprocess

import pytest
from dbus_fast import DBusError
from dbus_fast.aio import MessageBus
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_property, method

from runtime import logind as module
from runtime.logind import LogindPower, PowerError
from runtime.power_settings import BUDGETS

CONFIG = """<busconfig>
<type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
<allow user="*"/></policy></busconfig>"""


class Logind(ServiceInterface):
    def __init__(self):
        super().__init__("org.freedesktop.login1.Manager")
        self.orders = []
        self.refuse = False
        self.going_down = False
        self.leaves = None

    @method()
    def PowerOff(self, interactive: "b"):  # noqa: N802, F821 - the D-Bus name and signature
        self.orders.append(interactive)
        if self.refuse:
            raise DBusError("org.freedesktop.DBus.Error.AccessDenied", "no")
        if self.leaves is not None:
            self.leaves.disconnect()

    @dbus_property(access=PropertyAccess.READ)
    def PreparingForShutdown(self) -> "b":  # noqa: N802, F821 - likewise
        return self.going_down


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


async def test_a_refusal_of_a_host_that_is_going_down_is_no_refusal(logind):
    """The order before was taken, though nobody heard so: logind refuses a second one while it is at it."""
    bus, service, address = logind
    await bus.request_name("org.freedesktop.login1")
    service.refuse = service.going_down = True
    await LogindPower(address).power_off()
    assert service.orders == [False]


def test_the_answers_fit_into_the_budget_of_the_step():
    """T14: else the step is cut off before it knows whether the order was taken."""
    assert BUDGETS["off"] > module._ANSWER_SECONDS + module._LOOK_SECONDS


async def test_without_logind_the_order_is_refused(logind):
    _, _, address = logind
    with pytest.raises(PowerError, match="ServiceUnknown"):
        await LogindPower(address).power_off()


async def test_without_a_bus_it_is_unavailable(tmp_path):
    with pytest.raises(PowerError) as caught:
        await LogindPower(f"unix:path={tmp_path}/none").power_off()
    assert caught.value.code == "power.unavailable"


async def test_a_bus_that_says_nothing_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.1)
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


@pytest.fixture
async def successor(address):
    """A logind that is there when the first one went away without an answer."""
    bus = await MessageBus(address).connect()
    service = Logind()
    bus.export("/org/freedesktop/login1", service)
    yield bus, service
    bus.disconnect()
    await bus.wait_for_disconnect()


@pytest.mark.parametrize(("going_down", "code"), [(True, None), (False, "power.unavailable"), (None, "power.unknown")])
async def test_an_answer_that_is_lost_is_neither_yes_nor_no(logind, successor, going_down, code):
    """The shutdown that was ordered may have stopped who should answer: logind is asked whether the host goes down."""
    bus, service, address = logind
    await bus.request_name("org.freedesktop.login1")
    service.leaves = bus
    if going_down is not None:
        successor[1].going_down = going_down
        await successor[0].request_name("org.freedesktop.login1")
    if code is None:
        await LogindPower(address).power_off()
    else:
        with pytest.raises(PowerError) as caught:
            await LogindPower(address).power_off()
        assert caught.value.code == code
    assert service.orders == [False]
    assert successor[1].orders == []
