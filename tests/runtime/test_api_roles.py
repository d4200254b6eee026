"""Who may call what: by the kernel's word and the table alone (H6, T21)."""

import os

import pytest
from structlog.testing import capture_logs

from runtime.api.examples import example_params
from runtime.api.methods import METHODS
from runtime.api.roles import Role, RoleError, Roles
from tests.runtime.api_house import TESTER_UID, ApiHouse, call, tell
from tests.runtime.house import OPERATOR_UID, UI_UID, Caller, Refusal

UID = {Role.UI: UI_UID, Role.OPERATOR: OPERATOR_UID, Role.TESTER: TESTER_UID}
MAINTENANCE = ("devices.", "tickets.", "alarms.", "terminal.power_off")


@pytest.mark.parametrize("role", Role)
def test_every_method_of_another_role_is_refused_and_everyones_is_served(tmp_path, monkeypatch, role):
    """Plainly and as an operation; a session that is open is none of theirs."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        caller = house.caller(UID[role])
        for method in METHODS:
            params = example_params(method.params) | (
                {"session": session} if "session" in method.params.__struct_fields__ else {}
            )
            for name, given in ((method.name, params), ("operation.start", {"method": method.name, "params": params})):
                if method.role in (None, role):
                    continue
                with pytest.raises(Refusal, match=r"caller\.not_allowed"):
                    await call(caller, name, given)
        assert (await call(caller, "terminal.status", {}))["state"]["session"] == {"state": "verified"}
        assert (await call(caller, "rpc.discover", {}))["openrpc"]

    tell(tmp_path, story, monkeypatch)


def test_sessions_are_the_uis_and_maintenance_is_the_operators():
    by_role = {role: {method.name for method in METHODS if method.role is role} for role in (*Role, None)}
    with_session = {method.name for method in METHODS if "session" in method.params.__struct_fields__}
    assert len(with_session) > 15
    assert with_session <= by_role[Role.UI]
    maintenance = {method.name for method in METHODS if method.name.startswith(MAINTENANCE)}
    assert len(maintenance) > 5
    assert maintenance <= by_role[Role.OPERATOR]
    assert by_role[Role.TESTER] == {"trial.record", "trial.call"}
    assert not any(name.startswith(("session.", "preview.", "application.", "trial.")) for name in by_role[None])


def test_an_operator_who_is_a_tester_too_may_do_both(tmp_path, monkeypatch):
    async def story(house: ApiHouse, _ui: Caller) -> None:
        both = house.caller(OPERATOR_UID)
        assert "tickets" in await call(both, "tickets.list", {})
        assert (await call(both, "trial.call", {"id": "t-1", "filler_bytes": 100}))["seconds"] < 1
        with pytest.raises(Refusal, match=r"caller\.not_allowed"):
            await call(both, "session.open", {})

    tell(tmp_path, story, monkeypatch, both=True)


def test_roles_are_by_name_or_number():
    me = os.getuid()
    assert Roles([str(me)]).of(me) == {Role.UI}
    assert Roles([], ["root", "1234"]).of(0) == {Role.OPERATOR}
    assert Roles([], ["1234"], ["1234", 5]).of(1234) == {Role.OPERATOR, Role.TESTER}
    assert Roles(["1234"], ["root"]).of(4242) == frozenset()
    with pytest.raises(RoleError) as unknown:
        Roles(["no-such-user-here"])
    assert unknown.value.code == "api.user_unknown"


def test_the_account_of_one_person_that_was_deleted_takes_nobody_elses_role():
    """H6: nor the terminal out of service."""
    with capture_logs() as lines:
        roles = Roles(["1001"], ["who-left-us", "1002"], ["who-left-us"])
    assert roles.staff() == [1002]
    assert [(line["event"], line["role"]) for line in lines] == [
        ("staff_account_unknown", "operator"),
        ("staff_account_unknown", "tester"),
    ]


@pytest.mark.parametrize("lists", [(["root"], ["0"], []), (["root"], [], ["0"]), (["0", "7"], ["5"], ["7"])])
def test_who_serves_citizens_has_no_other_role(lists):
    """T21."""
    with pytest.raises(RoleError) as twice:
        Roles(*lists)
    assert twice.value.code == "api.user_twice"
