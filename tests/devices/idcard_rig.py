"""What the tests of the ID-card reader's driver share: a rig in memory, on virtual time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import pytest

from devices.config import IdCard
from devices.errors import DeviceError
from devices.idcard.driver import IdCardReader
from devices.idcard.protocol import Command, encode_request
from sim.devices.idcard import VirtualIdCardReader
from sim.memory import MemoryLinks, MemoryPort
from sim.people import make_citizen
from sim.wire import Fault
from tests.devices.supervised import Supervised, supervised

CITIZEN = make_citizen(1, seed=7)
PHOTO = bytes(range(256)) * 4
SETTINGS = IdCard(port="idcard")
SAM = "05.01-20160101-0001234567-0987654321"


class Rig(Supervised):
    """A virtual reader, its wire, and the driver under a supervisor that restarts it after half a second."""

    def __init__(self, **wire: Any) -> None:
        super().__init__()
        self.device = VirtualIdCardReader()
        self.port = MemoryPort(self.device, **wire)
        self.port.set_baud(115_200)
        self.driver = self.reader = IdCardReader(SETTINGS, MemoryLinks({"idcard": self.port}), self.note)

    def lay_down(self, **changes: Any) -> None:
        self.device.place_card(**(asdict(CITIZEN) | {"photo": PHOTO} | changes))

    async def refusal(self, wait_seconds: float = 10) -> DeviceError:
        with pytest.raises(DeviceError) as caught:
            await self.reader.read_card(wait_seconds=wait_seconds)
        return caught.value


@asynccontextmanager
async def rig_running(**wire: Any) -> AsyncIterator[Rig]:
    rig = Rig(**wire)
    async with supervised(rig):
        yield rig


async def check_read(rig: Rig) -> None:
    record = await rig.reader.read_card(wait_seconds=60)
    assert record.name.reveal() == CITIZEN.name
    assert record.id_number.reveal() == CITIZEN.id_number
    assert bytes(record.photo.view()) == PHOTO
    record.wipe()


def fault_at(rig: Rig, command: Command, kind: Fault, times: int = 1) -> None:
    """Let the first replies to `command` suffer `kind`."""
    heard, left = rig.device.feed, times

    def feed(data: bytes) -> bytes:
        nonlocal left
        if left and data == encode_request(command):
            left -= 1
            rig.port.faults.add(kind)
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]


def asked(rig: Rig) -> list[Command]:
    """Return the list that the reader's commands will be noted in."""
    heard, commands = rig.device.feed, list[Command]()

    def feed(data: bytes) -> bytes:
        commands.extend(command for command in Command if data == encode_request(command))
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]
    return commands
