"""The identity and consent services with scripted devices, verifier and platform, on virtual time."""

import asyncio
import sqlite3
from contextlib import closing

import msgspec

from devices.fingerprint.finger import MatchResult, Template, TemplateFormat
from devices.idcard.fingers import CardFinger, FingerPosition
from devices.personal import PersonalBytes
from runtime.journal import Journal
from runtime.messages import SupervisionEvent, from_payload, to_payload
from runtime.messages.identity import AssertionContent, AssertionIssue, AssertionRequest
from runtime.services.consent import ConsentService
from runtime.services.identity import IdentityService
from runtime.services.office import Office
from runtime.services.steps import Origin
from runtime.session import Session
from sim.memory import InlineExecutor
from sim.scripted import ScriptedVision
from sim.virtual_time import run
from tests.runtime.house import SIGNING, TERMINAL, UI_UID, Noted, Owner
from transport import sm2
from transport.payload import Payload

NOW = 1_800_000_000.0
LIFE = 900


class Reader:
    """Reads what it is given after a second; says whether fingerprints were asked for."""

    def __init__(self, *outcomes) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[bool] = []

    async def read_card(self, *, wait_seconds: float, fingerprints: bool = False):
        self.asked.append(fingerprints)
        await asyncio.sleep(1)
        outcome = self.outcomes.pop(0)
        if outcome is None:
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Sensor:
    """A licensed sensor: it compares what cards carry, after a second; says what it was given."""

    CAPABILITIES = {"dataFormats": ("ga/t-1012",)}  # noqa: RUF012 - a driver's own

    def __init__(self, *matches) -> None:
        self.matches = list(matches)
        self.given: list[Template] = []

    async def match(self, template, *, wait_seconds: float, on_guidance):
        self.given.append(template)
        on_guidance("finger.place")
        await asyncio.sleep(1)
        match = self.matches.pop(0)
        if isinstance(match, Exception):
            raise match
        return MatchResult(match, None, 4)


class UsualSensor(Sensor):
    """A ZFM sensor: it cannot compare a card's features (protocols 2.5)."""

    CAPABILITIES = {"dataFormats": ("zfm-512",)}  # noqa: RUF012


class Platform:
    """Asserts whoever is asked for, unless `answer` is something else; `changes` spoil the content."""

    def __init__(self, answer=None, *, key: sm2.PrivateKey = SIGNING, **changes) -> None:
        self.answer, self.key, self.changes = answer, key, changes
        self.asked: list[AssertionRequest] = []

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float, on_progress=None) -> Payload:
        assert request.personal
        asked = from_payload(request, AssertionRequest)
        self.asked.append(asked)
        await asyncio.sleep(0.1)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return to_payload(self.answer)
        now = int(NOW)
        content = AssertionContent(1, TERMINAL, asked.session, "subject", asked.means, now, now + LIFE)
        encoded = msgspec.msgpack.encode(msgspec.structs.replace(content, **self.changes))
        return to_payload(AssertionIssue(encoded, self.key.sign(encoded)))

    async def settle(self, key: bytes, *, deadline_seconds: float):
        raise NotImplementedError


class Log(Noted):
    """An audit log that can also be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full: Exception | None = None

    async def append(self, event, *, actor, details=None) -> None:
        if self.full is not None:
            raise self.full
        await self.note(event, actor=actor, details=details)


class Desk:
    """The services with a scripted reader, verifier, sensor and platform, and a journal in memory."""

    def __init__(self, connection, reader: Reader, verifier, sensor, platform) -> None:
        self.journal = Journal(InlineExecutor(connection), lambda: NOW)
        self.audit = Log()
        self.session = Session(Owner(), lambda _state: None)
        self.session.consents |= {"face": "2026-1", "fingerprint": "2026-2"}
        self.guidance: list[str] = []
        self.reader, self.sensor, self.platform = reader, sensor, platform
        origin = Origin("boot", rig=True, wall_clock=lambda: NOW)
        office = Office(platform, self.journal, self.audit, origin, 5.0)
        self.service = IdentityService(
            office=office,
            reader=reader,
            verifier=verifier,
            sensor=sensor,
            platform_key=SIGNING.public,
            terminal=TERMINAL,
            card_wait_seconds=60.0,
            verify_seconds=5.0,
            finger_wait_seconds=20.0,
        )
        self.consent = ConsentService(office, self.service.alternatives)

    def noted(self):
        """Outcome and code as the audit log was told them of the only check."""
        ((event, actor, details),) = self.audit.lines
        assert (event, actor) == ("identity_checked", f"uid {UI_UID}")
        assert set(details) - {"code"} == {"session", "transaction", "outcome", "means"}
        return details["outcome"], details.get("code")

    async def verify(self, means="face"):
        return await self.service.verify(self.session, self.guidance.append, means)

    async def assist(self, staff="staff-1", code="123456"):
        return await self.service.assist(self.session, self.guidance.append, staff=staff, code=code)

    async def fill_disk(self) -> None:
        await self.journal._executor.run(lambda db: db.execute("PRAGMA query_only = 1"))

    async def events(self) -> list[SupervisionEvent]:
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 99)
        return [from_payload(record.payload, SupervisionEvent) for record in records]

    async def steps(self) -> list[tuple[str, str, str | None]]:
        return [(event.step, event.outcome, event.code) for event in await self.events()]


def stage(story, *outcomes, script=(), verifier=None, sensor=None, platform=None):
    async def main():
        checker = verifier or ScriptedVision(script)
        with closing(sqlite3.connect(":memory:")) as connection:
            desk = Desk(connection, Reader(*outcomes), checker, sensor, platform or Platform())
            await desk.journal.open()
            living = asyncio.create_task(checker.run(lambda: None))
            await asyncio.sleep(0)
            try:
                return await story(desk)
            finally:
                living.cancel()
                await asyncio.gather(living, return_exceptions=True)

    return run(main())


def fingers(*positions: FingerPosition | None) -> tuple[CardFinger, ...]:
    return tuple(
        CardFinger(position, Template(TemplateFormat.GAT_1012, PersonalBytes(bytes(512)))) for position in positions
    )
