"""Remote maintenance only while a window is open, which closes by itself; sensitive acts by two persons (H10)."""

import asyncio

import pytest

from runtime.approvals import APPROVAL_SECONDS, MOST_ACTS, ApprovalError, Approvals
from sim.virtual_time import run
from tests.runtime.api_house import ask, until_closed
from tests.runtime.house import OPERATOR_UID, Caller, Noted, Refusal
from tests.runtime.staff_rig import OPERATOR, SECOND, SECOND_UID, StaffHouse, tell

NO_WINDOW = r"caller\.no_window"
SECOND_PERSON = r"caller\.second_person"


async def shown(ui: Caller) -> dict:
    return (await ui.call("terminal.status"))["state"].get("remote_maintenance", {})


def test_a_grant_for_remote_maintenance_counts_only_while_a_window_names_the_account(tmp_path):
    async def story(house: StaffHouse, ui: Caller) -> None:
        await house.granted(remote=True)
        operator = house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=NO_WINDOW):
            await operator.call("tickets.list")
        await house.window([SECOND], seconds=60)
        with pytest.raises(Refusal, match=NO_WINDOW):
            await operator.call("tickets.list")
        await house.window([OPERATOR], seconds=600)
        await operator.call("tickets.list")

    tell(tmp_path, story)


def test_a_window_is_announced_opened_and_closed_by_itself_and_each_is_on_the_board_and_audited(tmp_path):
    async def story(house: StaffHouse, ui: Caller) -> None:
        await house.granted(remote=True)
        name = await house.window([OPERATOR], begins_in_seconds=3_600, seconds=1_800)
        assert (await shown(ui))["state"] == "announced"
        operator = house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=NO_WINDOW):
            await operator.call("tickets.list")
        await asyncio.sleep(3_601)
        assert (await shown(ui))["state"] == "open"
        assert (await shown(ui))["details"]["bastion"] == "bastion-1"
        await operator.call("tickets.list")
        (opened,) = house.audited("remote_window_opened")
        assert opened["details"] == {"window": name, "bastion": "bastion-1", "accounts": OPERATOR}
        await asyncio.sleep(1_800)
        assert (await shown(ui))["state"] == "none"
        assert house.audited("remote_window_closed")[0]["details"]["window"] == name
        with pytest.raises(Refusal, match=NO_WINDOW):
            await house.caller(OPERATOR_UID).call("tickets.list")

    tell(tmp_path, story)


def test_what_is_under_way_when_the_window_closes_is_ended_also_with_the_line_down(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted(SECOND, role="tester", remote=True)
        await house.window([SECOND], seconds=600)
        tester = house.caller(SECOND_UID)
        house.platform.faults.is_out = True
        await asyncio.sleep(590)
        params = {"id": "t-1", "filler_bytes": 100, "deadline_seconds": 100}
        ask(tester, "trial.call", params)
        ask(tester, "operation.start", {"method": "trial.call", "params": params | {"id": "t-2"}})
        began = asyncio.get_running_loop().time()
        await until_closed(tester)
        assert 5 < asyncio.get_running_loop().time() - began < 20, "not the 100 s of the calls"

    tell(tmp_path, story)


def test_a_window_that_the_platform_revokes_closes_now(tmp_path):
    async def story(house: StaffHouse, ui: Caller) -> None:
        await house.granted(remote=True)
        name = await house.window([OPERATOR], seconds=3_600)
        operator = house.caller(OPERATOR_UID)
        await operator.call("tickets.list")
        house.platform.maintenance.revoke_staff(name)
        await until_closed(operator)
        assert (await shown(ui))["state"] == "none"

    tell(tmp_path, story)


def test_a_sensitive_act_is_done_when_another_operator_has_approved_of_it_and_once(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        first = await house.granted()
        second = await house.granted(SECOND)
        asking, approving = house.caller(OPERATOR_UID), house.caller(SECOND_UID)
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", device="idcard")
        (act,) = (await approving.call("staff.acts"))["acts"]
        assert (act["method"], act["parameters"]) == ("devices.accept", '{"device":"idcard"}')
        assert act["asked_by"] == f"uid {OPERATOR_UID} {OPERATOR} operator:{first}"
        with pytest.raises(Refusal, match=r"act\.own"):
            await asking.call("staff.approve", act=act["act"])
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", device="idcard")
        approved = await approving.call("staff.approve", act=act["act"])
        assert approved["approved_by"] == f"uid {SECOND_UID} {SECOND} operator:{second}"
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", device="printer")
        with pytest.raises(Refusal, match=r"device\.not_swapped"):
            await asking.call("devices.accept", device="idcard")  # it is served: the device itself is in order
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", device="idcard")
        assert [line["actor"] for line in house.audited("act_approved")] == [approved["approved_by"]]
        assert house.audited("act_asked")[0]["details"]["act"] == act["act"]

    tell(tmp_path, story)


def test_an_approval_is_void_after_a_while_and_acts_are_bounded():
    async def main() -> None:
        noted = Noted()
        noted.append = noted.note
        approvals = Approvals(noted)
        act = approvals.ask(1, "one", "lockdown.clear", b"{}")
        await approvals.approve(act.act, 2, "two")
        await asyncio.sleep(APPROVAL_SECONDS + 1)
        again = approvals.ask(1, "one", "lockdown.clear", b"{}")
        assert again is not None
        assert again.act != act.act
        with pytest.raises(ApprovalError, match="no act"):
            await approvals.approve(act.act, 2, "two")
        for number in range(2 * MOST_ACTS):
            approvals.ask(1, "one", "lockdown.clear", b"%d" % number)
        assert len(approvals.waiting()) == MOST_ACTS
        assert [line[:2] for line in noted.lines] == [("act_approved", "two")]

    run(main())
