"""A terminal with everything that can be tampered with, in memory: a cabinet's door, a PIN pad, USB, routes."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from devices.config import Environment
from runtime.policy import Security
from sim.devices.environment import VirtualEnvironmentUnit
from sim.memory import MemoryPort
from sim.virtual_time import run
from sim.world import Outside
from tests.runtime.house import OPERATOR_UID, Caller, House, living

POLL_SECONDS = 10.0


class Cabinet(House):
    """A house with an environment unit, a card reader and a PIN pad; `security` is its policy."""

    def __init__(
        self,
        directory: Path,
        security: Security | None = None,
        *,
        journal: sqlite3.Connection | None = None,
        outside: Outside | None = None,
    ) -> None:
        super().__init__(directory, journal=journal, bank=True, outside=outside)
        self.unit = VirtualEnvironmentUnit()
        self.links.ports["/dev/environment"] = MemoryPort(self.unit, latency_seconds=0.01)
        self.settings = msgspec.structs.replace(
            self.settings,
            environment=Environment(port="/dev/environment", poll_seconds=POLL_SECONDS),
            security=security or Security(),
        )

    def audited(self, event: str) -> list[dict[str, Any]]:
        lines = [msgspec.json.decode(line) for line in self.settings.audit_file.read_bytes().splitlines()]
        return [line for line in lines if line["event"] == event]

    def stored(self, schema: str) -> list[Any]:
        """What the platform stored of a schema, in the order of arrival."""
        statement = "SELECT event FROM records WHERE schema = ? ORDER BY id"
        return [msgspec.json.decode(body) for (body,) in self.store.database.execute(statement, (schema,))]

    def steps(self) -> list[tuple[str, str | None, str | None]]:
        events = [one for one in self.stored("supervision.event") if one["step"].startswith("lockdown.")]
        return [(one["step"], one["device"], one["code"]) for one in events]


async def operator(house: House) -> Caller:
    caller = house.caller(OPERATOR_UID)
    await caller.call("events.subscribe")
    return caller


async def locks(care: Caller) -> list[tuple[str, str, bool]]:
    """Code, subject and whether the cause persists, of every lock."""
    found = (await care.call("lockdown.list"))["locks"]
    return [(one["code"], one["subject"], one["persists"]) for one in found]


async def only_lock(care: Caller) -> str:
    (lock,) = (await care.call("lockdown.list"))["locks"]
    name: str = lock["lock"]
    return name


async def alarms(care: Caller) -> list[tuple[str, str]]:
    found = (await care.call("alarms.list"))["alarms"]
    return sorted((one["code"], one["subject"]) for one in found)


def play(
    directory: Path, story: Callable[[Cabinet, Caller, Caller], Awaitable[None]], security: Security | None = None
) -> None:
    """Tell a story of a settled terminal, with its UI and an operator, on virtual time."""

    async def main() -> None:
        async with living(Cabinet(directory, security)) as house:
            ui, care = house.caller(), await operator(house)
            await house.settled(ui)
            await story(house, ui, care)

    run(main())


async def ended(ui: Caller) -> str:
    """Return why the session ended."""
    reason: str = (await ui.notice("session.ended"))["reason"]
    return reason


async def until(care: Caller, component: str, state: str) -> None:
    """Wait until a component is in a state now."""
    for _ in range(1200):
        if (await care.call("terminal.status"))["state"].get(component, {}).get("state") == state:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{component} is never {state}")
