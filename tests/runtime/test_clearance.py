"""Nothing of one citizen lies at the devices when the next one begins (rule 1)."""

import asyncio

import pytest

from devices.errors import DeviceError
from runtime.session import Session, SessionError
from runtime.sessions import OPEN_SECONDS, Sessions
from tests.runtime.house import Noted, Owner
from tests.runtime.session_rig import Place, stage


class Slow(Place):
    """A device that needs so many seconds to take in what lies there."""

    def __init__(self, seconds: float) -> None:
        super().__init__(left=True)
        self.seconds = seconds

    async def take_back(self) -> None:
        await asyncio.sleep(self.seconds)
        await super().take_back()


async def ended(keeper: Sessions, owner: Owner) -> Session:
    session = await keeper.open(owner)
    session.request_end("closed")
    await session.gone.wait()
    return session


def test_no_session_begins_while_something_of_the_last_citizen_lies_at_a_device():
    """Rule 1: refused with which device and what to do; free as soon as it is taken."""
    owner, audit = Owner(), Noted()
    card, finger = Place(left=True), Place()

    async def story(keeper: Sessions) -> None:
        session = await ended(keeper, owner)
        began = asyncio.get_running_loop().time()
        with pytest.raises(SessionError) as refused:
            await keeper.open(Owner())
        assert asyncio.get_running_loop().time() - began == pytest.approx(OPEN_SECONDS)
        assert (refused.value.code, refused.value.retry) == ("session.not_clear", True)
        assert (refused.value.text, refused.value.advice) == ("请取走您的身份证。", "Please take your ID card.")
        assert str(refused.value) == "not clear: idcard"
        told = [params for method, params in owner.notices if method == "session.left_behind"]
        assert [(one.device, one.code, one.session) for one in told] == [("idcard", "idcard.left", session.id)]
        opening = asyncio.create_task(keeper.open(Owner()))
        await asyncio.sleep(1)
        card.left = False
        assert (await opening).id != session.id
        assert card.taken_back == 0
        (line,) = [details for event, _, details in audit.lines if event == "left_behind"]
        assert line == {"session": session.reference, "device": "idcard", "outcome": "taken"}

    states = stage(story, audit=audit, places={"idcard": card, "fingerprint": finger})
    assert states[:5] == ["open", "ending", "clearing", "closed", "open"]


def test_what_nobody_takes_is_taken_in_on_the_record_and_the_terminal_goes_on():
    """H6: after the deadline a bank card is retained, a receipt retracted."""
    audit = Noted()
    card = Place(left=True)

    async def story(keeper: Sessions) -> None:
        await ended(keeper, Owner())
        await asyncio.sleep(46)
        assert card.taken_back == 1
        assert await keeper.open(Owner())
        (line,) = [details for event, _, details in audit.lines if event == "left_behind"]
        assert (line["device"], line["outcome"]) == ("cardreader", "taken_in")

    stage(story, audit=audit, places={"cardreader": card})


def test_a_device_that_takes_nothing_in_or_says_nothing_keeps_nobody_waiting_for_ever():
    audit = Noted()
    jammed = Place(left=True, stuck=DeviceError("cardreader.jammed", "stuck", advice="free it", retry=False))
    dead = Place(unknown=DeviceError("printer.offline", "gone", advice="look", retry=True))
    broken = Place(unknown=KeyError("a bug"))

    async def story(keeper: Sessions) -> None:
        await ended(keeper, Owner())
        await asyncio.sleep(46)
        assert await keeper.open(Owner())
        lines = {details["device"]: details for event, _, details in audit.lines if event == "left_behind"}
        assert {device: (line["outcome"], line["code"]) for device, line in lines.items()} == {
            "cardreader": ("unknown", "cardreader.jammed"),
            "fingerprint": ("unknown", "internal"),
            "printer": ("unknown", "printer.offline"),
        }
        assert dead.taken_back == broken.taken_back == 1

    stage(story, audit=audit, places={"cardreader": jammed, "printer": dead, "fingerprint": broken})


def test_a_device_that_is_silent_for_a_moment_is_asked_again():
    """Rule 1: a loose plug at the end of a session does not hide a card."""
    audit = Noted()
    card = Place(left=True, unknown=DeviceError("link.lost", "gone", advice="look", retry=True))

    async def story(keeper: Sessions) -> None:
        await ended(keeper, Owner())
        await asyncio.sleep(1)
        card.unknown = None
        with pytest.raises(SessionError, match="not clear: cardreader"):
            await keeper.open(Owner())
        card.left = False
        assert await keeper.open(Owner())

    stage(story, audit=audit, places={"cardreader": card})


def test_a_driver_with_a_bug_does_not_end_the_daemon_when_it_takes_in():
    card = Place(left=True, stuck=KeyError("a bug"))
    audit = Noted()

    async def story(keeper: Sessions) -> None:
        await ended(keeper, Owner())
        await asyncio.sleep(46)
        assert await keeper.open(Owner())
        (line,) = [details for event, _, details in audit.lines if event == "left_behind"]
        assert (line["outcome"], line["code"]) == ("unknown", "internal")

    stage(story, audit=audit, places={"cardreader": card})


def test_a_stop_does_not_wait_for_what_was_left():
    async def story(keeper: Sessions) -> None:
        await ended(keeper, Owner())
        began = asyncio.get_running_loop().time()
        await keeper.stop()
        assert asyncio.get_running_loop().time() == began

    stage(story, places={"idcard": Place(left=True)})


def test_two_who_wait_for_the_devices_do_not_both_begin():
    async def story(keeper: Sessions) -> None:
        place.left = True
        await ended(keeper, Owner())
        opening = [asyncio.create_task(keeper.open(Owner())) for _ in range(2)]
        await asyncio.sleep(1)
        place.left = False
        first, second = await asyncio.gather(*opening, return_exceptions=True)
        assert isinstance(first, Session)
        assert isinstance(second, SessionError)
        assert second.code == "session.busy"

    place = Place()
    stage(story, places={"idcard": place})


@pytest.mark.parametrize("hurried_first", [True, False])
def test_when_the_mains_are_back_a_card_lies_as_long_as_ever_before_it_is_taken_in(hurried_first):
    """T5: the hurry of a power failure is taken back from a wait that is under way, whether it began in it or before.

    The wait keeps the deadline it had without the failure.
    """
    card = Place(left=True)

    async def story(keeper: Sessions) -> None:
        if hurried_first:
            keeper.hurry(4.0)
        await ended(keeper, Owner())
        keeper.hurry(4.0)
        await asyncio.sleep(2)
        keeper.hurry(None)
        await asyncio.sleep(42)
        assert card.taken_back == 0
        await asyncio.sleep(2)
        assert card.taken_back == 1

    stage(story, places={"cardreader": card})


@pytest.mark.parametrize("paper_seconds", [0.0, 10.0])
def test_what_was_left_in_a_hurry_is_waited_for_when_there_is_time_again(paper_seconds):
    """Rule 1, T5: before the next session, also where another device is still being cleared when the mains are back."""
    card, paper = Place(left=True), Slow(paper_seconds)

    async def story(keeper: Sessions) -> None:
        keeper.hurry(4.0)
        await ended(keeper, Owner())
        await asyncio.sleep(6)
        assert (card.taken_back, card.left) == (0, True)
        keeper.hurry(None)
        with pytest.raises(SessionError, match=r"not clear: .*cardreader"):
            await keeper.open(Owner())
        await asyncio.sleep(20)
        assert card.taken_back == 0
        with pytest.raises(SessionError, match="not clear: cardreader"):
            await keeper.open(Owner())
        card.left = False
        assert await keeper.open(Owner())

    stage(story, places={"cardreader": card, "printer": paper})
