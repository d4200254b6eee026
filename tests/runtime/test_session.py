"""A citizen's session: one at a time, one owner, one operation at a time, and gone only when all is wiped (rule 1)."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from devices.personal import Kind, PersonalText
from runtime import session as sessions_module
from runtime.session import SessionError, SessionState
from runtime.sessions import Sessions
from sim.scripted import ScriptedVision
from tests.runtime.house import UI_UID, Noted, Owner, record, values
from tests.runtime.session_rig import stage
from vision.errors import VisionError


def test_the_end_wipes_every_personal_value_before_the_session_is_gone():
    owner, card, verifier = Owner(), record(), ScriptedVision()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(owner)
        session.keep(card)
        session.verified()
        assert session.citizen() is card
        session.request_end("closed")
        await session.gone.wait()
        assert all(value.wiped for value in values(card))
        assert verifier.wiped == 1
        assert session.record is None
        with pytest.raises(SessionError, match="not verified"):
            session.citizen()

    states = stage(story, verifier=verifier)
    assert states == [
        SessionState.OPEN,
        SessionState.VERIFIED,
        SessionState.ENDING,
        SessionState.CLEARING,
        SessionState.CLOSED,
    ]
    assert [(method, params.reason) for method, params in owner.notices] == [("session.ended", "closed")]


def test_a_new_card_wipes_the_one_before():
    first, second = record(), record()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        session.keep(first)
        session.verified()
        session.keep(second)
        assert all(value.wiped for value in values(first))
        assert session.state is SessionState.OPEN
        assert not second.name.wiped

    stage(story)
    assert all(value.wiped for value in values(second))


def test_a_second_session_is_busy_until_the_first_is_wiped():
    async def story(keeper: Sessions) -> None:
        first = await keeper.open(Owner())
        async with first.operation():
            with pytest.raises(SessionError) as busy:
                await keeper.open(Owner())
            assert (busy.value.code, busy.value.retry) == ("session.busy", True)
        first.request_end("closed")
        with pytest.raises(SessionError):
            await keeper.open(Owner())
        await first.gone.wait()
        assert (await keeper.open(Owner())).id != first.id

    stage(story)


def test_only_the_owner_finds_its_session():
    async def story(keeper: Sessions) -> None:
        owner = Owner()
        with pytest.raises(SessionError):
            keeper.find("", owner)
        session = await keeper.open(owner)
        assert keeper.find(session.id, owner) is session
        for wrong, who in ((session.id, Owner()), (session.id + "x", owner), ("ü", owner), ("", owner)):
            with pytest.raises(SessionError) as unknown:
                keeper.find(wrong, who)
            assert unknown.value.code == "session.unknown"
        keeper.lost(Owner())
        assert keeper.find(session.id, owner) is session

    stage(story)


def test_session_ids_are_random_and_long():
    ids = set()

    async def story(keeper: Sessions) -> None:
        for _ in range(20):
            session = await keeper.open(Owner())
            ids.add(session.id)
            session.request_end("closed")
            await session.gone.wait()

    stage(story)
    assert len(ids) == 20
    assert all(len(session_id) >= 21 for session_id in ids)


async def operate(session, make_safe) -> None:
    """An operation that lasts until it is cancelled and then makes its device safe."""
    async with session.operation():
        try:
            await asyncio.sleep(1000)
        finally:
            await make_safe()


def test_the_end_cancels_operations_and_waits_until_they_left_their_devices_safe():
    order = []

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())

        async def work(name: str) -> None:
            async def make_safe() -> None:
                await asyncio.sleep(1)
                order.append(f"{name} safe")

            with pytest.raises(SessionError) as ended:
                await operate(session, make_safe)
            assert ended.value.code == "session.ended"

        async with asyncio.TaskGroup() as group:
            group.create_task(work("first"))
            group.create_task(work("second"))
            await asyncio.sleep(5)
            session.request_end("idle")
            await session.gone.wait()
            order.append("gone")
        with pytest.raises(SessionError, match="has ended"):
            async with session.operation():
                order.append("never")

    stage(story)
    assert order == ["first safe", "gone"]


def test_an_operation_that_will_not_stop_cannot_keep_the_data():
    card = record()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        session.keep(card)
        release = asyncio.Event()

        async def stubborn() -> None:
            with pytest.raises(SessionError):
                await operate(session, release.wait)

        async with asyncio.TaskGroup() as group:
            group.create_task(stubborn())
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            session.request_end("closed")
            with capture_logs() as lines:
                await session.gone.wait()
            assert asyncio.get_running_loop().time() - began == pytest.approx(sessions_module.CANCEL_SECONDS)
            assert lines[0]["event"] == "operation_stuck"
            assert card.name.wiped
            release.set()

    stage(story)


def test_an_error_of_the_operation_itself_is_its_own():
    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        with pytest.raises(TimeoutError):
            async with session.operation():
                raise TimeoutError
        with pytest.raises(KeyError):
            async with session.operation():
                raise KeyError
        async with session.operation():
            await asyncio.sleep(0)

    stage(story)


@pytest.mark.parametrize(
    "failure", [VisionError("vision.unavailable", "x", advice="y", retry=True), KeyError("z"), None]
)
def test_a_vision_process_that_does_not_wipe_does_not_keep_the_session(failure):
    class Broken(ScriptedVision):
        async def wipe(self) -> None:
            if failure is None:
                await asyncio.Event().wait()
            else:
                raise failure

    owner = Owner()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(owner)
        session.request_end("closed")
        with capture_logs() as lines:
            await session.gone.wait()
        assert [line["event"] for line in lines] == ["vision_not_wiped", "session_ended"]

    stage(story, verifier=Broken())
    assert len(owner.notices) == 1


def test_times_out_when_idle_counted_from_the_last_request():
    owner = Owner()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(owner)
        await asyncio.sleep(20)
        keeper.find(session.id, owner)
        await asyncio.sleep(20)
        async with session.operation():
            await asyncio.sleep(100)
        await asyncio.sleep(29)
        assert not session.gone.is_set()
        await asyncio.sleep(1.01)
        assert session.gone.is_set()

    stage(story, idle=30)
    assert owner.notices[-1][1].reason == "idle"


def test_a_daemon_that_stops_opens_no_session():
    async def story(keeper: Sessions) -> None:
        await keeper.stop()
        with pytest.raises(SessionError):
            await keeper.open(Owner())

    stage(story)


def test_opening_and_ending_are_in_the_audit_log_under_a_random_id_that_opens_nothing():
    """H6: a trail of sessions; the session's own id, a secret of its connection, is not in it."""
    audit = Noted()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        assert keeper.occupied
        session.request_end("client_lost")
        await session.gone.wait()
        assert not keeper.occupied
        about = {"session": session.reference}
        assert audit.lines == [
            ("session_opened", f"uid {UI_UID}", about),
            ("session_ended", f"uid {UI_UID}", about | {"reason": "client_lost"}),
        ]
        assert session.id not in str(audit.lines)

    stage(story, audit=audit)


def warnings(owner: Owner) -> list[tuple[str, float]]:
    return [(told.reason, told.seconds) for method, told in owner.notices if method == "session.warning"]


def test_idleness_is_warned_of_and_any_request_averts_it():
    """T13: nobody is thrown out unwarned; `session.extend` or any other request keeps the session."""
    owner = Owner()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(owner)
        await asyncio.sleep(69)
        assert warnings(owner) == []
        await asyncio.sleep(2)
        assert warnings(owner) == [("idle", 20.0)]
        assert "点击继续" in owner.notices[0][1].text
        assert keeper.extend(keeper.find(session.id, owner)) == 90.0
        await asyncio.sleep(69)
        assert warnings(owner) == [("idle", 20.0)]
        await asyncio.sleep(2)
        assert warnings(owner) == [("idle", 20.0)] * 2
        keeper.find(session.id, owner)
        await asyncio.sleep(89)
        assert not session.gone.is_set()
        await asyncio.sleep(2)
        assert session.reason == "idle"

    stage(story)


def test_the_longest_session_is_warned_of_and_cannot_be_extended():
    owner = Owner()

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(owner)
        for _ in range(11):
            await asyncio.sleep(10)
            keeper.find(session.id, owner)
        await asyncio.sleep(11)
        assert session.reason == "too_long"
        assert warnings(owner) == [("too_long", 20.0)]

    stage(story, longest=120)


def test_a_short_idle_time_is_warned_of_half_way():
    owner = Owner()

    async def story(keeper: Sessions) -> None:
        await keeper.open(owner)
        await asyncio.sleep(9)
        assert warnings(owner) == [("idle", 5.0)]

    stage(story, idle=10)


@pytest.mark.parametrize(("reason", "words"), [("tamper", "异常"), ("power", "市电")])
def test_tamper_and_power_end_a_session_and_wipe_it(reason, words):
    """T22, T14: whoever finds out calls `end`; the citizen reads why."""
    owner, card = Owner(), record()

    async def story(keeper: Sessions) -> None:
        keeper.end(reason)  # without a session it is nothing
        session = await keeper.open(owner)
        session.keep(card)
        keeper.end(reason)
        await session.gone.wait()
        assert all(value.wiped for value in values(card))
        (ended,) = [told for method, told in owner.notices if method == "session.ended"]
        assert ended.reason == reason
        assert words in ended.text

    stage(story)


def test_new_sessions_can_be_refused_and_admitted_again():
    """T14: below the power reserve no citizen begins; one who is served goes on."""

    async def story(keeper: Sessions) -> None:
        running = await keeper.open(Owner())
        keeper.refuse("session.power")
        async with running.operation():
            assert running.state is SessionState.OPEN
        running.request_end("closed")
        await running.gone.wait()
        await asyncio.sleep(0.1)
        with pytest.raises(SessionError) as refused:
            await keeper.open(Owner())
        assert (refused.value.code, refused.value.retry) == ("session.power", True)
        keeper.refuse("session.locked")
        keeper.refuse("session.locked")
        keeper.admit("session.power")
        with pytest.raises(SessionError) as refused:
            await keeper.open(Owner())
        assert refused.value.code == "session.locked"
        keeper.admit("session.locked")
        assert await keeper.open(Owner())

    stage(story)


def test_consent_is_the_sessions_and_for_its_purpose():
    """PIPL, article 29: consent to one biometric is none to another, and the next citizen begins without."""

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        session.consents["face"] = "1"
        assert session.consented("face") == "1"
        with pytest.raises(SessionError, match="fingerprint") as missing:
            session.consented("fingerprint")
        assert missing.value.code == "consent.missing"
        session.request_end("closed")
        await session.gone.wait()
        with pytest.raises(SessionError, match="no consent"):
            (await keeper.open(Owner())).consented("face")

    stage(story)


def test_an_assertion_ends_with_its_life_and_with_any_doubt():
    """I4."""

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        with pytest.raises(SessionError, match="not verified"):
            session.asserted()
        session.keep(record())
        session.keep_assertion(b"assertion", 60.0)
        session.verified()
        assert session.asserted() == b"assertion"
        await asyncio.sleep(61)
        with pytest.raises(SessionError) as expired:
            session.asserted()
        assert (expired.value.code, expired.value.retry) == ("assertion.expired", True)
        session.keep_assertion(b"assertion", 60.0)
        session.doubt()
        assert session.state is SessionState.OPEN
        session.verified()
        with pytest.raises(SessionError, match="too old"):
            session.asserted()

    stage(story)


def test_the_same_citizens_application_outlives_another_verification_and_another_citizens_does_not():
    """I4: an assertion that is too old costs nobody the form that was filled in; nobody inherits one."""

    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        first, again = record(), record()
        session.keep(first)
        session.verified()
        session.keep_document(b"%PDF-1.7", 1)
        session.doubt()
        session.keep(again)
        assert session.document is not None
        assert all(value.wiped for value in values(first))
        assert not again.name.wiped
        other = replace(record(), id_number=PersonalText("990101199001011249", Kind.IDENTIFIER))
        session.keep(other)
        assert session.document is None
        assert all(value.wiped for value in values(again))

    stage(story)
