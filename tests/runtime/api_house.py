"""A house with a tester beside the operator, and calls whose parameters have any name."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sim.virtual_time import run
from tests.runtime.house import OPERATOR_UID, PDF, Caller, House, certificates, living

TESTER_UID = 1004
T = TypeVar("T")


class ApiHouse(House):
    """User 1004 is a tester, 1002 is an operator and, with `both`, a tester too."""

    def __init__(self, directory: Path, *, both: bool = False, **house: Any) -> None:
        super().__init__(directory, **house)
        testers = (str(TESTER_UID), *([str(OPERATOR_UID)] if both else []))
        api = msgspec.structs.replace(self.settings.api, tester_users=testers)
        self.settings = msgspec.structs.replace(self.settings, api=api)


def ask(caller: Caller, method: str, params: dict[str, Any]) -> int:
    """Send a request and return its number."""
    caller._last += 1
    line = {"jsonrpc": "2.0", "id": caller._last, "method": method, "params": params}
    caller.raw(msgspec.json.encode(line) + b"\n")
    return caller._last


async def call(caller: Caller, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Call a method and return its result."""
    return await caller.answer(ask(caller, method, params), seconds=200.0)


async def ready_to_file(house: House, ui: Caller) -> tuple[str, str]:
    """Return a session with a complete application, and its receipt number."""
    session = await house.verified(ui)
    begun = await ui.call("application.begin", session=session, matter="residence_permit_renewal")
    values = {"permit_number": "110101199001011234", "address": "示例路 1 号", "telephone": "13800138000"}
    await ui.call("application.form", session=session, values=values | {"reason": "务工"})
    for material in ("id_card", "residence_proof"):
        for method in ("session.begin_document", "session.add_page", "session.finish_document"):
            await ui.call(method, session=session)
        await ui.call("application.material", session=session, material=material)
    return session, begun["receipt"]


def tell(directory: Path, story: Callable[[ApiHouse, Caller], Awaitable[T]], monkeypatch: Any, **house: Any) -> T:
    """Run a story against a settled house on virtual time and return what it returns."""
    monkeypatch.setattr(certificates, "write_certificate", lambda *_args, **_kwargs: PDF)

    async def main() -> T:
        async with living(ApiHouse(directory, **house)) as there:
            caller = there.caller()
            await there.settled(caller)
            return await story(there, caller)

    return run(main())


async def until_closed(caller: Caller) -> None:
    """Wait until the daemon has closed a connection."""
    async with asyncio.timeout(60):
        await caller.client.closed.wait()
