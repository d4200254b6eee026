"""Which device may serve: the one rule, and what counts as identity (H8, L7)."""

import sqlite3

import pytest
from structlog.testing import capture_logs

from devices.config import Environment, IdCard
from devices.errors import WrongDevice
from devices.hotplug import UsbPort
from devices.link import LinkLost
from runtime.journal import Journal, JournalError
from runtime.trust import Trust, TrustError
from sim.memory import InlineExecutor


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


async def trust(database, **stated) -> Trust:
    journal = Journal(InlineExecutor(database), lambda: 0.0)
    await journal.open()
    sections = {"idcard": IdCard(port="/dev/a", **stated), "environment": Environment(port="/dev/b")}
    found = Trust(sections, journal)
    await found.load()
    return found


async def test_the_first_identity_is_expected_from_then_on_also_after_a_restart(database):
    one = await trust(database)
    assert one.check_identity("idcard", "A")
    await one.remember("idcard")
    assert not one.check_identity("idcard", "A")
    again = await trust(database)
    with capture_logs() as lines, pytest.raises(WrongDevice) as refused:
        again.check_identity("idcard", "B")
    assert (refused.value.code, refused.value.retry) == ("idcard.swapped", False)
    assert [(line["event"], line["alarm"], line["found"]) for line in lines] == [("device_refused", True, "B")]


async def test_silence_is_no_change(database):
    """Unknown is never a value (L14): only a stated identity must be proved."""
    one = await trust(database)
    one.check_identity("idcard", "A")
    assert not one.check_identity("idcard", None)
    assert not one.check_identity("environment", None)
    strict = await trust(database, identity="A")
    with pytest.raises(WrongDevice) as refused:
        strict.check_identity("idcard", None)
    assert refused.value.code == "idcard.wrong_device"


async def test_a_device_that_tells_nothing_for_a_while_is_no_other_one(database):
    """A printer without paper says who it is after the refill; until then only its number at USB is known."""
    one = await trust(database)
    assert one.check_identity("idcard", None, "USB-1")
    assert one.check_identity("idcard", "A", "USB-1")
    await one.remember("idcard")
    again = await trust(database)
    assert not again.check_identity("idcard", None, "USB-1")
    assert again.check_identity("idcard", "A", "USB-2"), "what it tells itself counts before its adapter"
    assert not again.check_identity("idcard", None, "USB-2"), "of which the number is known from now on"
    for told, serial, found in (("B", "USB-2", "B"), (None, "USB-1", "USB-1")):
        with pytest.raises(WrongDevice, match="another device"):
            again.check_identity("idcard", told, serial)
        assert again.refused("idcard") == found


async def test_who_tells_nothing_is_not_taken_for_the_one_that_told(database):
    """H8: the number at USB of the right device is known from the moment at which it told who it is."""
    one = await trust(database)
    assert one.check_identity("idcard", "A", "USB-1")
    await one.remember("idcard")
    for now in (one, await trust(database)):
        with pytest.raises(WrongDevice, match="another device"):
            now.check_identity("idcard", None, "USB-2")
        assert not now.check_identity("idcard", None, "USB-1")


async def test_who_is_accepted_has_nothing_of_the_one_before(database):
    one = await trust(database)
    one.check_identity("idcard", None, "USB-1")
    one.check_identity("idcard", "A", "USB-1")
    await one.remember("idcard")
    with pytest.raises(WrongDevice):
        one.check_identity("idcard", "B", "USB-2")
    await one.accept("idcard", "B")
    for now in (one, await trust(database)):
        assert now.check_identity("idcard", None, "USB-2"), "of its port nothing was known yet"
        assert not now.check_identity("idcard", "B", "USB-2")


async def test_a_stated_identity_is_not_remembered_and_what_was_remembered_does_not_count(database):
    one = await trust(database)
    one.check_identity("idcard", "A")
    await one.remember("idcard")
    strict = await trust(database, identity="B")
    assert not strict.check_identity("idcard", "B")
    with pytest.raises(WrongDevice):
        strict.check_identity("idcard", "A")
    with pytest.raises(TrustError):
        strict.refused("idcard")


async def test_only_the_refused_device_can_be_accepted_and_only_while_it_is_there(database):
    one = await trust(database)
    one.check_identity("idcard", "A")
    for accepted in (False, True):
        with pytest.raises(WrongDevice):
            one.check_identity("idcard", "B")
        if accepted:
            await one.accept("idcard", one.refused("idcard"))
        else:
            one.check_identity("idcard", "A")
            with pytest.raises(TrustError):
                one.refused("idcard")
    assert not one.check_identity("idcard", "B")
    assert database.execute("SELECT identity FROM identities").fetchall() == [("B",)]


async def test_the_usb_device_is_checked_before_the_port_is_opened(database):
    one = await trust(database, usb="1A86:7523")
    one.check_port("idcard", UsbPort("/dev/ttyUSB0", usb="1a86:7523"))
    one.check_port("environment", None)
    with pytest.raises(LinkLost):
        one.check_port("idcard", None)
    for usb in ("0403:6001", None):
        with pytest.raises(WrongDevice):
            one.check_port("idcard", UsbPort("/dev/ttyUSB0", usb=usb))


async def test_a_journal_that_cannot_remember_is_told_and_serves_on(database, monkeypatch):
    one = await trust(database)
    one.check_identity("idcard", "A")

    async def full(*_arguments):
        raise JournalError("journal.write_failed", "full", advice="x", retry=True)

    monkeypatch.setattr(Journal, "write", full)
    with capture_logs() as lines:
        await one.remember("idcard")
    assert [(line["event"], line["code"]) for line in lines] == [("identity_not_remembered", "journal.write_failed")]
