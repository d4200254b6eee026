"""Remote maintenance only while a window is open, which closes by itself; sensitive acts by two persons (H10)."""

import asyncio

import pytest

from runtime.api.roles import Role
from runtime.approvals import APPROVAL_SECONDS, MOST_ACTS, Act, ApprovalError, Approvals
from runtime.staff import MOST_REFUSALS
from sim.virtual_time import run
from tests.runtime.api_house import ask, until_closed
from tests.runtime.house import EPOCH, OPERATOR_UID, Caller, Noted, Refusal
from tests.runtime.staff_rig import OPERATOR, SECOND, SECOND_UID, StaffHouse, grant, staff, tell, window

NO_WINDOW = r"caller\.no_window"
SECOND_PERSON = r"caller\.second_person"
SAM = {"device": "idcard", "identity": "05.01"}


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
            await asking.call("devices.accept", **SAM)
        (act,) = (await approving.call("staff.acts"))["acts"]
        assert (act["method"], act["parameters"]) == ("devices.accept", '{"device":"idcard","identity":"05.01"}')
        assert act["asked_by"] == f"uid {OPERATOR_UID} {OPERATOR} operator:{first}"
        with pytest.raises(Refusal, match=r"act\.own"):
            await asking.call("staff.approve", act=act["act"])
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", **SAM)
        approved = await approving.call("staff.approve", act=act["act"])
        assert approved["approved_by"] == f"uid {SECOND_UID} {SECOND} operator:{second}"
        for other in (SAM | {"device": "printer"}, SAM | {"identity": "05.02"}):
            with pytest.raises(Refusal, match=SECOND_PERSON):
                await asking.call("devices.accept", **other)
        with pytest.raises(Refusal, match=r"device\.not_swapped"):
            await asking.call("devices.accept", **SAM)  # it is served: the device itself is in order
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", **SAM)
        assert [line["actor"] for line in house.audited("act_approved")] == [approved["approved_by"]]
        assert house.audited("act_asked")[0]["details"]["act"] == act["act"]

    tell(tmp_path, story)


class Desk:
    """Approvals beside an audit log that remembers; `operators` are operators."""

    def __init__(self) -> None:
        self.noted = Noted()
        self.noted.append = self.noted.note
        self.operators = {1, 2, 3}
        self.approvals = Approvals(self.noted, lambda uid: uid in self.operators)

    async def ask(self, uid: int, params: bytes = b"{}") -> Act | None:
        return await self.approvals.ask(uid, f"uid {uid}", "lockdown.clear", params)


def test_an_approval_is_void_after_a_while():
    async def main() -> None:
        desk = Desk()
        act = await desk.ask(1)
        await desk.approvals.approve(act.act, 2, "two")
        await asyncio.sleep(APPROVAL_SECONDS + 1)
        again = await desk.ask(1)
        assert again is not None
        assert again.act != act.act
        with pytest.raises(ApprovalError, match="no act"):
            await desk.approvals.approve(act.act, 2, "two")
        assert [line[:2] for line in desk.noted.lines] == [
            ("act_asked", "uid 1"),
            ("act_approved", "two"),
            ("act_asked", "uid 1"),
        ]

    run(main())


def test_acts_are_bounded_by_user_and_nobody_drives_out_anothers():
    async def main() -> None:
        desk = Desk()
        act = await desk.ask(1)
        await desk.approvals.approve(act.act, 2, "two")
        for number in range(2 * MOST_ACTS):
            await desk.ask(3, b"%d" % number)
        waiting = desk.approvals.waiting()
        assert len(waiting) == 1 + MOST_ACTS
        assert [one.parameters for one in waiting[1:]] == [str(number) for number in range(MOST_ACTS, 2 * MOST_ACTS)]
        assert await desk.ask(1) is None

    run(main())


def test_an_approval_is_for_who_asked():
    async def main() -> None:
        desk = Desk()
        act = await desk.ask(1)
        await desk.approvals.approve(act.act, 2, "two")
        assert await desk.ask(3) is not None
        assert await desk.ask(2) is not None
        assert await desk.ask(1) is None

    run(main())


@pytest.mark.parametrize("who", [1, 2])
def test_an_approval_ends_with_the_role_of_who_asked_or_who_approved(who):
    async def main() -> None:
        desk = Desk()
        act = await desk.ask(1)
        await desk.approvals.approve(act.act, 2, "two")
        desk.operators.remove(who)
        assert desk.approvals.waiting() == []
        desk.operators.add(who)
        assert await desk.ask(1) is not None

    run(main())


def test_an_approval_whose_approver_was_revoked_is_none(tmp_path):
    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted()
        grant = await house.granted(SECOND)
        asking, approving = house.caller(OPERATOR_UID), house.caller(SECOND_UID)
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", **SAM)
        await approving.call("staff.approve", act=house.audited("act_asked")[0]["details"]["act"])
        house.platform.maintenance.revoke_staff(grant)
        await until_closed(approving)
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await asking.call("devices.accept", **SAM)

    tell(tmp_path, story)


def test_who_asks_again_and_again_writes_one_line_and_is_an_alarm(tmp_path):
    """H11: also in one go, and as operations too."""

    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted()
        operator = house.caller(OPERATOR_UID)
        for _ in range(60):
            ask(operator, "devices.accept", SAM)
            ask(operator, "operation.start", {"method": "devices.accept", "params": SAM})
        alarm = [("staff.abnormal", OPERATOR)]
        await house.until(lambda: house.rows("SELECT code, subject FROM alarms") == alarm)
        await asyncio.sleep(10)
        assert len(house.audited("act_asked")) == 1

    tell(tmp_path, story)


def test_who_would_approve_of_his_own_act_again_and_again_is_an_alarm(tmp_path):
    """H11."""

    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted()
        operator = house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=SECOND_PERSON):
            await operator.call("devices.accept", **SAM)
        (line,) = house.audited("act_asked")
        for _ in range(MOST_REFUSALS - 1):
            assert house.rows("SELECT code FROM alarms") == []
            with pytest.raises(Refusal, match=r"act\.own"):
                await operator.call("staff.approve", act=line["details"]["act"])
        await house.until(lambda: house.rows("SELECT code, subject FROM alarms") == [("staff.abnormal", OPERATOR)])

    tell(tmp_path, story)


def test_what_somebody_is_refused_is_told_anew_each_day(tmp_path):
    """H11."""

    async def story(house: StaffHouse, _ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        for _ in range(2):
            for _ in range(3):
                with pytest.raises(Refusal):
                    await operator.call("tickets.list")
            await asyncio.sleep(86_400)
        assert len(house.audited("caller_refused")) == 2

    tell(tmp_path, story)


def test_no_window_is_open_while_the_platforms_time_is_unknown():
    """H10: a clock that is set at the terminal opens none."""
    platform_time: list[float | None] = [None]
    office = staff(platform_time=lambda: platform_time[0])
    office.announced([grant(remote=True), window()])
    assert office.roles(OPERATOR_UID) == frozenset()
    platform_time[0] = EPOCH + 1
    assert office.roles(OPERATOR_UID) == {Role.OPERATOR}


def test_free_text_is_no_parameter_of_a_sensitive_act(tmp_path):
    """T22: what is asked for is written down."""

    async def story(house: StaffHouse, _ui: Caller) -> None:
        await house.granted()
        operator = house.caller(OPERATOR_UID)
        for method, params in (
            ("lockdown.clear", {"lock": "张三 13800138000"}),
            ("devices.accept", SAM | {"device": "zhang 13800138000"}),
            ("devices.accept", SAM | {"identity": "张三"}),
            ("payments.reverse", {"order": "zhang"}),
        ):
            with pytest.raises(Refusal, match=r"request\.bad_params"):
                await operator.call(method, **params)
        assert house.audited("act_asked") == []

    tell(tmp_path, story)
