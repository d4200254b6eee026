"""Maintenance is by named persons, with roles that the platform grants and that end by themselves (H6, H11)."""

import asyncio
import dataclasses
import sqlite3

import msgspec
import pytest

from runtime.api.roles import Role
from runtime.messages.audit import LONGEST_GRANT_SECONDS, LONGEST_WINDOW_SECONDS, word_content
from runtime.seams import Seams
from runtime.staff import MOST_REFUSALS, REFUSALS_SECONDS, StaffError
from sim.virtual_time import run
from tests.runtime.api_house import until_closed
from tests.runtime.house import EPOCH, OPERATOR_UID, SIGNING, UI_UID, Caller, Refusal, living
from tests.runtime.staff_rig import OPERATOR, SECOND, SECOND_UID, StaffHouse, grant, staff, tell, window

NOT_GRANTED = r"caller\.not_granted"


def test_who_is_listed_and_has_no_grant_does_nothing_at_all(tmp_path):
    """Before the first grant too; citizens are served all the same."""

    async def story(house: StaffHouse, ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        for method in ("tickets.list", "terminal.status", "events.subscribe"):
            with pytest.raises(Refusal, match=NOT_GRANTED):
                await operator.call(method)
        with pytest.raises(Refusal, match=r"caller\.not_allowed"):
            await operator.call("session.open")
        assert (await house.consenting(ui)) != ""
        assert {line["actor"] for line in house.audited("caller_refused")} == {f"uid {OPERATOR_UID} {OPERATOR}"}

    tell(tmp_path, story)


def test_a_grant_counts_at_once_and_every_act_names_account_role_and_grant(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=NOT_GRANTED):
            await operator.call("devices.retry", device="idcard")
        name = await house.granted()
        await operator.call("devices.retry", device="idcard")
        (line,) = house.audited("device_retry_ordered")
        assert line["actor"] == f"uid {OPERATOR_UID} {OPERATOR} operator:{name}"
        (told,) = house.audited("staff_granted")
        assert told["actor"] == "platform"
        assert told["details"]["account"] == OPERATOR
        with pytest.raises(Refusal, match=NOT_GRANTED):
            await house.caller(SECOND_UID).call("tickets.list")

    tell(tmp_path, story)


def test_a_grant_ends_by_itself_with_the_line_down_and_ends_what_is_done_under_it(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted(seconds=600)
        operator = house.caller(OPERATOR_UID)
        await operator.call("events.subscribe")
        house.platform.faults.is_out = True
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(590)
        await operator.call("tickets.list")
        await until_closed(operator)
        assert asyncio.get_running_loop().time() - began < 605
        with pytest.raises(Refusal, match=NOT_GRANTED):
            await house.caller(OPERATOR_UID).call("tickets.list")

    tell(tmp_path, story)


def test_a_grant_that_begins_later_counts_then(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted(begins_in_seconds=3_600, seconds=3_600)
        operator = house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=NOT_GRANTED):
            await operator.call("tickets.list")
        await asyncio.sleep(3_601)
        await operator.call("tickets.list")

    tell(tmp_path, story)


def test_a_grant_that_is_revoked_ends_now(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        name = await house.granted()
        operator = house.caller(OPERATOR_UID)
        await operator.call("tickets.list")
        house.platform.maintenance.revoke_staff(name)
        await until_closed(operator)
        assert house.audited("staff_revoked")[0]["details"] == {"id": name}

    tell(tmp_path, story)


def two_lives(directory, first, second, *, wall: float = 0.0) -> None:
    """Tell two stories of one terminal; the platform is away in the second, and the clock goes `wall` wrong."""
    file = directory / "journal.db"

    class Later(StaffHouse):
        def seams(self) -> Seams:
            seams = super().seams()
            return dataclasses.replace(seams, wall_clock=lambda: self.wall_clock() + wall)

    async def main() -> None:
        async with living(StaffHouse(directory, journal=sqlite3.connect(file, isolation_level=None))) as house:
            await house.settled(house.caller())
            await first(house)
        house = Later(directory, journal=sqlite3.connect(file, isolation_level=None))
        house.platform.faults.is_out = True
        async with living(house):
            await house.until(lambda: house.told.states[:1] == ["READY"])
            await second(house)

    run(main())


def test_a_grant_outlives_a_restart_without_the_platform(tmp_path):
    async def first(house: StaffHouse) -> None:
        await house.granted(seconds=86_400)

    async def second(house: StaffHouse) -> None:
        await house.caller(OPERATOR_UID).call("tickets.list")

    two_lives(tmp_path, first, second)


def test_a_clock_that_was_set_back_revives_no_grant_that_ended_before_the_last_seal(tmp_path):
    async def first(house: StaffHouse) -> None:
        await house.granted(seconds=3_600)
        await asyncio.sleep(86_400)
        assert house.audited("audit_sealed")[0]["details"]["clock"] == "platform"

    async def second(house: StaffHouse) -> None:
        with pytest.raises(Refusal, match=NOT_GRANTED):
            await house.caller(OPERATOR_UID).call("tickets.list")

    two_lives(tmp_path, first, second, wall=-86_000.0)


def test_who_writes_himself_a_grant_into_the_journal_is_no_staff_and_an_alarm(tmp_path):
    """T23: the platform's signature is verified at each start."""

    async def first(house: StaffHouse) -> None:
        await house.granted(SECOND)
        forged = msgspec.structs.replace(grant(id="g-2"), account=OPERATOR, role="tester")
        row = ("staff.grant", "g-2", 1, msgspec.msgpack.encode(forged), 99)
        house.journal.execute("INSERT INTO announcements VALUES (?, ?, ?, ?, ?)", row)

    async def second(house: StaffHouse) -> None:
        await house.until(lambda: house.rows("SELECT code FROM alarms") == [("staff.bad_signature",)])
        with pytest.raises(Refusal, match=NOT_GRANTED):
            await house.caller(OPERATOR_UID).call("tickets.list")
        await house.caller(SECOND_UID).call("tickets.list")

    two_lives(tmp_path, first, second)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "g-2"},
        {"account": SECOND},
        {"role": "tester"},
        {"remote": True},
        {"begins_unix": int(EPOCH) - 1},
        {"ends_unix": int(EPOCH) + 3_601},
    ],
)
def test_no_field_of_a_grant_can_be_changed(changed):
    staff().verify(grant())
    with pytest.raises(StaffError) as caught:
        staff().verify(msgspec.structs.replace(grant(), **changed))
    assert caught.value.code == "staff.bad_signature"


def test_a_word_for_another_terminal_or_for_too_long_is_refused():
    foreign = grant()
    foreign = msgspec.structs.replace(foreign, signature=SIGNING.sign(word_content("GT-0002", foreign)))
    too_long = grant(ends_unix=int(EPOCH) + LONGEST_GRANT_SECONDS + 1)
    for word, code in (
        (foreign, "staff.bad_signature"),
        (too_long, "staff.too_long"),
        (window(ends_unix=int(EPOCH) + LONGEST_WINDOW_SECONDS + 1), "staff.too_long"),
    ):
        with pytest.raises(StaffError) as caught:
            staff().verify(word)
        assert caught.value.code == code
    staff().verify(grant(ends_unix=int(EPOCH) + LONGEST_GRANT_SECONDS))
    staff().verify(window())


def test_a_grant_gives_no_role_that_the_configuration_does_not_allow():
    """Nor the UI's to anybody, nor any to the UI (T21)."""
    office = staff()
    office.announced([grant(role="tester"), grant(id="g-2", account="1001"), grant(id="g-3", account=SECOND)])
    assert office.roles(OPERATOR_UID) == frozenset()
    assert office.roles(UI_UID) == {Role.UI}
    assert office.roles(SECOND_UID) == {Role.OPERATOR}
    assert office.roles(4_242) == frozenset()


def test_a_member_of_the_staff_who_is_refused_again_and_again_is_an_alarm(tmp_path):
    """H11."""

    async def story(house: StaffHouse, ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        for number in range(MOST_REFUSALS):
            assert house.rows("SELECT code FROM alarms") == [], number
            with pytest.raises(Refusal):
                await operator.call("tickets.list")
        await house.until(lambda: house.rows("SELECT code, subject FROM alarms") == [("staff.abnormal", OPERATOR)])
        for _ in range(MOST_REFUSALS):
            with pytest.raises(Refusal, match=r"caller\.not_allowed"):
                await ui.call("tickets.list")
        await asyncio.sleep(10)
        assert len(house.rows("SELECT code FROM alarms")) == 1, "the UI is no staff"

    tell(tmp_path, story)


def test_refusals_that_are_far_apart_are_none(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        for _ in range(2 * MOST_REFUSALS):
            with pytest.raises(Refusal):
                await operator.call("tickets.list")
            await asyncio.sleep(REFUSALS_SECONDS / (MOST_REFUSALS - 1) + 1)
        assert house.rows("SELECT code FROM alarms") == []

    tell(tmp_path, story)
