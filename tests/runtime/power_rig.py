"""The whole house with a UPS, on virtual time: what happens when the mains fail (T14)."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from devices.config import Environment, Ups
from runtime.power_settings import Power
from sim.devices.environment import VirtualEnvironmentUnit
from sim.devices.ups import VirtualMegatecUps
from sim.memory import MemoryLinks, MemoryPort
from sim.platform.services import certificates
from sim.virtual_time import run
from tests.runtime.house import PDF, Caller, House, living

T = TypeVar("T")

MINUTE = 60.0


class PowerHouse(House):
    """A house whose UPS lasts half an hour. `heard` is every order to the UPS or the host, with its time."""

    def __init__(self, directory: Path, *, power: Power | None = None, bank: bool = True, **session: float) -> None:
        super().__init__(directory, bank=bank, **session)
        self.settings = msgspec.structs.replace(
            self.settings,
            ups=Ups(port="/dev/ups"),
            environment=Environment(port="/dev/environment"),
            power=power or Power(),
        )
        self.ups = VirtualMegatecUps(self.loop.time)
        self.ups_port = MemoryPort(self.ups, latency_seconds=0.01)
        self.environment_port = MemoryPort(VirtualEnvironmentUnit(), latency_seconds=0.01)
        ports = {"/dev/ups": self.ups_port, "/dev/environment": self.environment_port}
        self.links = MemoryLinks({**self.links.ports, **ports})

    def left(self, seconds: float) -> None:
        """Take the mains away with so much runtime in the battery."""
        self.ups.set_battery(21.0 + 6.4 * seconds / (30 * MINUTE))
        self.ups.mains_off()

    @property
    def orders(self) -> list[str]:
        """What the UPS was told to do."""
        return self.ups.orders

    def audited(self) -> list[dict[str, Any]]:
        """Every line of the audit log about power."""
        lines = map(json.loads, Path(self.settings.state_directory, "audit.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"].startswith("power_")]

    def steps(self) -> dict[str, str | None]:
        """The steps of the way down that the audit log tells of, in order, with their codes."""
        lines = [line["details"] for line in self.audited() if line["event"] == "power_step"]
        return {line["step"]: line.get("code") for line in lines}

    def state(self, caller: Caller) -> Coroutine[Any, Any, str]:
        return power(caller)


async def power(caller: Caller) -> str:
    """Return the state of the component `power`."""
    found: str = (await caller.call("terminal.status"))["state"]["power"]["state"]
    return found


def tell(
    directory: Path,
    story: Callable[[PowerHouse, Caller], Awaitable[T]],
    monkeypatch: Any,
    prepare: Callable[[PowerHouse], None] = lambda _: None,
    **options: Any,
) -> T:
    """Run a story against a settled house and return what it returns."""
    monkeypatch.setattr(certificates, "write_certificate", lambda *_args, **_kwargs: PDF)

    async def main() -> T:
        house = PowerHouse(directory, **options)
        prepare(house)
        async with living(house):
            caller = house.caller()
            await house.settled(caller)
            await asyncio.sleep(1)
            return await story(house, caller)

    return run(main())
