"""The whole daemon on a virtual clock (`sim.world`), as the tests use it: synthetic citizens and stories to tell."""

import asyncio
import datetime
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from devices.idcard.record import CardRecord
from devices.personal import Kind, PersonalBytes, PersonalText
from sim.caller import Caller, Entrance, MemoryClient
from sim.caller import CallRefused as Refusal
from sim.platform.services import certificates
from sim.virtual_time import run
from sim.world import (
    CITIZEN,
    EPOCH,
    OPERATOR_UID,
    PEOPLE,
    PHOTO,
    STRANGER_UID,
    TERMINAL,
    UI_UID,
    Keys,
    Outside,
    Told,
    World,
    living,
)
from transport import sm2
from vision.verifier import CameraName

__all__ = [
    "CITIZEN",
    "EPOCH",
    "OPERATOR_UID",
    "PEOPLE",
    "PHOTO",
    "STRANGER_UID",
    "TERMINAL",
    "UI_UID",
    "Caller",
    "Entrance",
    "MemoryClient",
    "Refusal",
    "Told",
    "living",
]

IDENTITY, SIGNING, SEAL = (sm2.generate() for _ in range(3))
PDF = b"%PDF-1.7\n" + b"certificate of a synthetic citizen " * 50
CERTIFICATE = "social_insurance_enrolment"

T = TypeVar("T")


def record() -> CardRecord:
    return CardRecord(
        name=PersonalText("张三丰", Kind.NAME),
        sex="男",
        nation="汉",
        birth=PersonalText("19900101", Kind.DATE),
        address=PersonalText("示例省样本市", Kind.ADDRESS),
        id_number=PersonalText("990101199001011230", Kind.IDENTIFIER),
        issuer=PersonalText("样本市公安局", Kind.ADDRESS),
        valid_from=datetime.date(2020, 1, 1),
        valid_to=None,
        photo=PersonalBytes(bytes(range(256)) * 4),
    )


def values(card: CardRecord) -> list[PersonalText | PersonalBytes]:
    return [card.name, card.birth, card.address, card.id_number, card.issuer, card.photo]


class Owner:
    uid = UI_UID

    def __init__(self) -> None:
        self.notices = []

    def notify(self, method, params) -> None:
        self.notices.append((method, params))


class Noted:
    """An audit log that remembers what it was told, without a file."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    async def note(self, event, *, actor, details=None) -> None:
        self.lines.append((event, actor, {key: value for key, value in (details or {}).items() if value is not None}))


class House(World):
    """The world of a test: its keys are the tests', and nothing is typeset."""

    def __init__(
        self,
        directory: Path,
        *,
        journal: sqlite3.Connection | None = None,
        cameras: tuple[CameraName, ...] = ("face", "document"),
        bank: bool = False,
        outside: Outside | None = None,
        **session: float,
    ) -> None:
        outside = outside or Outside(Keys(IDENTITY, SIGNING, SEAL), Path("no-font"))
        super().__init__(directory, outside, journal=journal, cameras=cameras, bank=bank, **session)
        self.loop = asyncio.get_running_loop()

    def wall_clock(self) -> float:
        return EPOCH + self.loop.time()


def tell(directory: Path, story: Callable[[House, Caller], Awaitable[T]], monkeypatch: Any, **session: float) -> T:
    """Run a story against a settled house on virtual time and return what it returns."""
    monkeypatch.setattr(certificates, "write_certificate", lambda *_args, **_kwargs: PDF)

    async def main() -> T:
        async with living(House(directory, **session)) as house:
            caller = house.caller()
            await house.settled(caller)
            return await story(house, caller)

    coroutine: Coroutine[Any, Any, T] = main()
    return run(coroutine)
