"""A house whose staff has roles by the platform's grants alone; its second operator is user 1005."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runtime.api.roles import Roles
from runtime.messages.audit import RemoteWindow, StaffGrant, word_content
from runtime.staff import Staff
from sim.virtual_time import run
from tests.runtime.house import EPOCH, OPERATOR_UID, SIGNING, TERMINAL, Caller, House, living

SECOND_UID = 1005
OPERATOR, SECOND = str(OPERATOR_UID), str(SECOND_UID)
"""Their accounts: the configuration names them by number."""

T = TypeVar("T")


class StaffHouse(House):
    """Users 1002 and 1005 may be operators; 1005 a tester too."""

    def __init__(self, directory: Path, **house: Any) -> None:
        super().__init__(directory, **house)
        users = {"operator_users": (OPERATOR, SECOND), "tester_users": (SECOND,)}
        api = msgspec.structs.replace(self.settings.api, staff="granted", **users)
        self.settings = msgspec.structs.replace(self.settings, api=api)

    def audited(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the audit log with this event."""
        lines = [json.loads(line) for line in self.settings.audit_file.read_bytes().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def granted(self, account: str = OPERATOR, **how: Any) -> str:
        """Have the platform grant an account a role, and wait until the terminal has taken it."""
        grant = self.platform.maintenance.grant_staff(account, **how)
        await self.until(lambda: [line for line in self.audited("staff_granted") if line["details"]["id"] == grant])
        return grant

    async def window(self, accounts: list[str], **how: Any) -> str:
        """Have the platform announce a window, and wait until the terminal has taken it."""
        name = self.platform.maintenance.open_window(accounts, **how)
        event = "remote_window_announced"
        await self.until(lambda: [line for line in self.audited(event) if line["details"]["id"] == name])
        return name


def tell(directory: Path, story: Callable[[StaffHouse, Caller], Awaitable[T]], **house: Any) -> T:
    """Run a story against a settled house on virtual time; the caller is the UI."""

    async def main() -> T:
        async with living(StaffHouse(directory, **house)) as there:
            ui = there.caller()
            await there.settled(ui)
            return await story(there, ui)

    return run(main())


def grant(**how: Any) -> StaffGrant:
    """A grant of the operator's role for an hour, signed by the platform."""
    said = StaffGrant("g-1", OPERATOR, "operator", False, int(EPOCH), int(EPOCH) + 3_600, b"")
    said = msgspec.structs.replace(said, **how)
    return msgspec.structs.replace(said, signature=SIGNING.sign(word_content(TERMINAL, said)))


def window(**how: Any) -> RemoteWindow:
    """A window for the operator's account, open for an hour, signed by the platform."""
    said = RemoteWindow("w-1", (OPERATOR,), "bastion-1", int(EPOCH), int(EPOCH) + 3_600, b"")
    said = msgspec.structs.replace(said, **how)
    return msgspec.structs.replace(said, signature=SIGNING.sign(word_content(TERMINAL, said)))


def staff(*, platform_time: Callable[[], float | None] = lambda: EPOCH + 1) -> Staff:
    """Staff without a house, a second after EPOCH."""
    return Staff(
        Roles(["1001"], [OPERATOR, SECOND], [SECOND]),
        is_granted=True,
        terminal=TERMINAL,
        platform_key=SIGNING.public,
        now=lambda: EPOCH + 1,
        platform_time=platform_time,
        audit=None,
        board=None,
        sound=lambda *_: None,
    )
