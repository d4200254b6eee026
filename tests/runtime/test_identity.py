"""The real-name check by itself: every failure becomes a refusal with its code, and nothing personal stays (T1, T9)."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import msgspec
import pytest

from devices.errors import DeviceError
from runtime.journal import Journal
from runtime.messages import SupervisionEvent, from_payload
from runtime.services.identity import IdentityService
from runtime.services.steps import Origin
from runtime.session import Session, SessionState
from sim.memory import InlineExecutor
from sim.scripted import MATCH, NO_MATCH, ScriptedVision
from sim.virtual_time import run
from tests.runtime.house import UI_UID, Noted, Owner, record, values
from vision.errors import VisionError

NOW = 1_800_000_000.0


class Reader:
    """Reads what it is given after a second."""

    def __init__(self, *outcomes) -> None:
        self.outcomes = list(outcomes)

    async def read_card(self, *, wait_seconds: float):
        await asyncio.sleep(1)
        outcome = self.outcomes.pop(0)
        if outcome is None:
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Desk:
    """The service with a scripted reader and verifier, and a journal in memory."""

    def __init__(self, connection, reader: Reader, verifier) -> None:
        self.journal = Journal(InlineExecutor(connection), lambda: NOW)
        self.audit = Noted()
        self.session = Session(Owner(), lambda _state: None)
        self.guidance: list[str] = []
        self.service = IdentityService(
            reader=reader,
            verifier=verifier,
            journal=self.journal,
            audit=self.audit,
            origin=Origin("boot", rig=True, wall_clock=lambda: NOW),
            card_wait_seconds=60.0,
            verify_seconds=5.0,
        )

    def noted(self):
        """Outcome and code as the audit log was told them of the only check."""
        ((event, actor, details),) = self.audit.lines
        assert (event, actor) == ("identity_checked", f"uid {UI_UID}")
        assert set(details) - {"code"} == {"session", "transaction", "outcome"}
        return details["outcome"], details.get("code")

    async def verify(self):
        return await self.service.verify(self.session, self.guidance.append)

    async def fill_disk(self) -> None:
        await self.journal._executor.run(lambda db: db.execute("PRAGMA query_only = 1"))

    async def events(self) -> list[SupervisionEvent]:
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 99)
        return [from_payload(record.payload, SupervisionEvent) for record in records]


def stage(story, *outcomes, script=(), verifier=None):
    async def main():
        checker = verifier or ScriptedVision(script)
        with closing(sqlite3.connect(":memory:")) as connection:
            desk = Desk(connection, Reader(*outcomes), checker)
            await desk.journal.open()
            living = asyncio.create_task(checker.run(lambda: None))
            await asyncio.sleep(0)
            try:
                return await story(desk)
            finally:
                living.cancel()
                await asyncio.gather(living, return_exceptions=True)

    return run(main())


def test_a_match_keeps_the_text_for_the_certificate_and_wipes_the_photo():
    card = record()

    async def story(desk: Desk) -> None:
        result = await desk.verify()
        assert (result.outcome, result.name, result.id_number) == ("done", "张**", "990*************30")
        assert result.text == "身份核验通过。"
        assert card.photo.wiped
        assert not card.name.wiped
        assert desk.session.citizen() is card
        assert desk.noted() == ("done", None)
        assert desk.guidance == ["idcard.place_card", "face.look_at_camera"]
        events = await desk.events()
        assert [(e.step, e.outcome, e.code, e.rig) for e in events] == [
            ("read_card", "done", None, True),
            ("verify_face", "done", None, True),
        ]
        assert len({e.transaction for e in events}) == 1
        assert [e.seconds for e in events] == [1.0, MATCH.seconds]
        assert result.face is not None
        assert (result.face.decision, result.face.operating_point) == ("match", MATCH.operating_point)
        (told,) = [event.face for event in events if event.face is not None]
        assert msgspec.structs.asdict(told).items() <= msgspec.structs.asdict(result.face).items()
        assert "score" not in msgspec.structs.asdict(result.face), "L22"

    stage(story, card)


@pytest.mark.parametrize(
    ("answer", "code", "retry"),
    [
        (NO_MATCH, "face.no_match", True),
        (replace(MATCH, presentation_attack="attack"), "face.presentation_attack", False),
        (VisionError("face.many", "two faces", advice="x", retry=True), "face.many", True),
        (VisionError("photo.undecodable", "broken", advice="x", retry=False), "photo.undecodable", False),
        (replace(MATCH, seconds=30.0), "face.timeout", True),
    ],
)
def test_a_refused_face_leaves_nothing(answer, code, retry):
    card = record()

    async def story(desk: Desk) -> None:
        result = await desk.verify()
        assert (result.outcome, result.code, result.retry) == ("refused", code, retry)
        assert (result.name, result.id_number) == (None, None)
        assert all(value.wiped for value in values(card))
        assert desk.session.record is None
        assert desk.session.state is SessionState.OPEN
        assert desk.noted() == ("refused", code)
        events = await desk.events()
        assert [(e.step, e.outcome, e.code) for e in events][-1] == ("verify_face", "refused", code)
        assert (events[-1].face is not None) == (code in {"face.no_match", "face.presentation_attack"})

    stage(story, card, script=[answer])


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (DeviceError("idcard.no_card", "none", advice="x", retry=True), "idcard.no_card"),
        (DeviceError("idcard.card_removed", "gone", advice="x", retry=True), "idcard.card_removed"),
        (None, "idcard.no_answer"),
    ],
)
def test_a_card_that_cannot_be_read_is_a_refusal_in_time(outcome, code):
    async def story(desk: Desk) -> None:
        began = asyncio.get_running_loop().time()
        result = await desk.verify()
        assert asyncio.get_running_loop().time() - began <= 65
        assert (result.outcome, result.code, result.retry) == ("refused", code, True)
        assert [(e.step, e.outcome, e.code) for e in await desk.events()] == [("read_card", "refused", code)]

    stage(story, outcome)


def test_a_verifier_that_never_answers_is_an_error_in_time():
    """T13."""

    class Silent(ScriptedVision):
        async def verify(self, photo, guidance, *, deadline_seconds):
            await asyncio.Event().wait()

    card = record()

    async def story(desk: Desk) -> None:
        result = await desk.verify()
        assert (result.outcome, result.code) == ("refused", "vision.no_answer")
        assert all(value.wiped for value in values(card))
        assert result.seconds <= 1.0 + 7.0

    stage(story, card, verifier=Silent())


def test_verifying_again_forgets_the_citizen_before():
    first = record()

    async def story(desk: Desk) -> None:
        assert (await desk.verify()).outcome == "done"
        assert desk.session.state is SessionState.VERIFIED
        assert (await desk.verify()).outcome == "refused"
        assert all(value.wiped for value in values(first))
        assert desk.session.state is SessionState.OPEN

    stage(story, first, DeviceError("idcard.no_card", "none", advice="x", retry=True))


def test_a_cancelled_check_is_journaled_as_unknown_and_leaves_nothing():
    card = record()

    async def story(desk: Desk) -> None:
        checking = asyncio.create_task(desk.verify())
        await asyncio.sleep(1.5)
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)
        assert checking.cancelled()
        assert desk.noted() == ("unknown", "operation.interrupted")
        assert all(value.wiped for value in values(card))
        assert [(e.step, e.outcome, e.code) for e in await desk.events()] == [
            ("read_card", "done", None),
            ("verify_face", "unknown", "operation.interrupted"),
        ]

    stage(story, card)


def test_a_journal_that_cannot_be_written_swallows_no_cancellation():
    """Rule 4."""

    async def story(desk: Desk) -> None:
        await desk.fill_disk()
        checking = asyncio.create_task(desk.verify())
        await asyncio.sleep(0.5)
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)
        assert checking.cancelled()

    stage(story, record())


def test_a_journal_that_cannot_be_written_refuses_instead_of_going_on_unrecorded():
    """T12: no step without its event."""
    card = record()

    async def story(desk: Desk) -> None:
        await desk.fill_disk()
        result = await desk.verify()
        assert (result.outcome, result.code) == ("refused", "journal.write_failed")
        assert all(value.wiped for value in values(card))

    stage(story, card)
