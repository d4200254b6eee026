"""The real-name check: every failure becomes a refusal with its code, and nothing personal stays (T1, T9, I4)."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from devices.errors import DeviceError
from devices.personal import Kind, PersonalText
from runtime.messages import Refusal, SupervisionEvent
from runtime.messages.identity import AssertionIssue
from runtime.session import SessionError, SessionState
from sim.scripted import MATCH, NO_MATCH, ScriptedVision
from tests.runtime.house import SIGNING, record, values
from tests.runtime.identity_rig import LIFE, NOW, Desk, Platform, stage
from transport import sm2
from transport.errors import TransportError
from vision.errors import VisionError


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
            ("assert_identity", "done", None, True),
        ]
        assert len({e.transaction for e in events}) == 1
        assert [e.seconds for e in events] == [1.0, MATCH.seconds, 0.1]
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
        assert [(e.step, e.outcome, e.code) for e in await desk.events()] == [
            ("read_card", "unknown" if code == "idcard.no_answer" else "refused", code)
        ]

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


def test_the_platforms_assertion_is_asked_for_with_the_evidence_and_kept_for_later_calls():
    """I4: bound to terminal and session, short-lived, kept as it came."""

    async def story(desk: Desk) -> None:
        began = asyncio.get_running_loop().time()
        result = await desk.verify()
        assert (result.outcome, result.alternatives) == ("done", ())
        (asked,) = desk.platform.asked
        assert (asked.name, asked.id_number, asked.means) == ("张三丰", "990101199001011230", "face")
        assert (asked.session, asked.consent) == (desk.session.reference, "2026-1")
        assert asked.face is not None
        assert asked.face.decision == "match"
        assert asked.staff is asked.code is None
        issue = msgspec.msgpack.decode(desk.session.asserted(), type=AssertionIssue)
        SIGNING.public.verify(issue.signature, issue.content)
        await asyncio.sleep(began + LIFE + 1.8 - asyncio.get_running_loop().time())
        desk.session.asserted()
        await asyncio.sleep(0.2)
        with pytest.raises(SessionError) as expired:
            desk.session.asserted()
        assert expired.value.code == "assertion.expired"

    stage(story, record())


@pytest.mark.parametrize(
    ("platform", "code", "retry"),
    [
        (Platform(TransportError("line.down", "down", advice="x", retry=True)), "line.down", True),
        (Platform(TransportError("platform.no_answer", "late", advice="x", retry=True)), "platform.no_answer", True),
        (Platform(Refusal("citizen.unknown", retry=False)), "citizen.unknown", False),
        (Platform(SupervisionEvent("t", "s", "done", None, 0.0, 0.0, "b", rig=False)), "message.unexpected", False),
        (Platform(AssertionIssue(b"", b"")), "assertion.invalid", True),
        (Platform(key=sm2.generate()), "assertion.invalid", True),
        (Platform(version=2), "assertion.invalid", True),
        (Platform(terminal="GT-0002"), "assertion.invalid", True),
        (Platform(session="another"), "assertion.invalid", True),
        (Platform(means="assisted"), "assertion.invalid", True),
        (Platform(expires_unix=int(NOW)), "assertion.invalid", True),
        (Platform(expires_unix=int(NOW) + 86_400), "assertion.invalid", True),
    ],
)
def test_without_the_platforms_word_nothing_is_half_verified(platform, code, retry):
    """I4, rule 1."""
    card = record()

    async def story(desk: Desk) -> None:
        result = await desk.verify()
        assert (result.outcome, result.code, result.retry) == ("refused", code, retry)
        assert (result.name, result.alternatives) == (None, ())
        assert all(value.wiped for value in values(card))
        assert desk.session.state is SessionState.OPEN
        with pytest.raises(SessionError, match="not verified"):
            desk.session.asserted()
        outcome = "unknown" if code == "platform.no_answer" else "refused"
        assert (await desk.steps())[-1] == ("assert_identity", outcome, code)

    stage(story, card, platform=platform)


def test_a_platform_that_never_answers_is_an_error_in_time():
    """T13."""

    class Silent(Platform):
        async def call(self, request, *, key, deadline_seconds, on_progress=None):
            await asyncio.Event().wait()

    async def story(desk: Desk) -> None:
        result = await desk.verify()
        assert (result.code, result.retry) == ("platform.no_answer", True)
        assert result.steps[-1].seconds == 6.0

    stage(story, record(), platform=Silent())


def test_the_same_citizens_application_survives_another_check():
    """I4: an assertion is not renewed; the check is done again and costs nothing that was filled in."""

    async def story(desk: Desk) -> None:
        assert (await desk.verify()).outcome == "done"
        desk.session.keep_document(b"%PDF-1.7", 1)
        await asyncio.sleep(LIFE)
        with pytest.raises(SessionError, match="too old"):
            desk.session.asserted()
        assert (await desk.verify()).outcome == "done"
        assert desk.session.asserted()
        assert desk.session.document is not None
        assert (await desk.verify()).code == "face.no_match"
        assert desk.session.document is not None
        assert desk.session.record is None
        with pytest.raises(SessionError, match="not verified"):
            desk.session.asserted()
        assert (await desk.verify()).outcome == "done"
        desk.session.wipe()
        assert desk.session.document is None

    stage(story, *(record() for _ in range(4)), script=[MATCH, MATCH, NO_MATCH, MATCH])


def another():
    number = PersonalText("990101199001012345", Kind.IDENTIFIER)
    return replace(record(), name=PersonalText("李四光", Kind.NAME), id_number=number)


def test_another_citizens_card_wipes_what_was_held_and_nobody_is_checked_who_was_not_asked():
    """Rule 1, T12: a consent is the consent of the one who gave it."""

    async def story(desk: Desk) -> None:
        assert (await desk.verify()).outcome == "done"
        desk.session.keep_document(b"%PDF-1.7", 1)
        assert (await desk.verify()).code == "consent.missing"
        assert len(desk.platform.asked) == 1
        assert desk.session.document is None
        assert desk.session.consents == {}
        with pytest.raises(SessionError, match="no consent"):
            await desk.verify()
        desk.session.consents["face"] = "2026-1"
        assert (await desk.verify()).name == "李**"

    stage(story, record(), another(), another(), script=[MATCH, MATCH])


def test_what_waits_behind_a_check_is_not_done_for_the_next_citizen():
    """Rule 1: a call is for the citizen who was verified when it was made."""

    async def story(desk: Desk) -> None:
        assert (await desk.verify()).outcome == "done"
        began = asyncio.Event()

        async def queued() -> str:
            began.set()
            async with desk.session.operation():
                return "for whom?"

        async with desk.session.operation():
            check = asyncio.create_task(desk.verify())
            await asyncio.sleep(0)
            behind = asyncio.create_task(queued())
            await began.wait()
        assert (await check).outcome == "done"
        with pytest.raises(SessionError) as refused:
            await behind
        assert (refused.value.code, refused.value.retry) == ("session.citizen_changed", True)
        assert await queued() == "for whom?"

    stage(story, record(), record(), script=[MATCH, MATCH])
