"""Shared information through the whole house: API, service, sealed line, platform and back (I2, S1 to S7)."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from runtime.services.grants import REFUSED_SECONDS
from runtime.services.resources import BY_NAME, RESOURCES
from sim.platform.services.identity import LIFE_SECONDS
from sim.platform.services.sharing import Sharing
from sim.platform.sharing import credit_code, found
from tests.runtime.house import CITIZEN, OPERATOR_UID, PEOPLE, Caller, House, Refusal, tell
from tests.runtime.sharing_rig import SET, small_sets

MONTH = "2027-01"
QUERY = {"resource": "open_government", "purpose": "public_display"}
PERSONAL = {"resource": "social_insurance", "purpose": "application"}


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with small_sets():
        yield


def sharing_of(house: House) -> Sharing:
    return next(one for one in house.platform.services.all if isinstance(one, Sharing))


async def granted(ui: Caller, state: str = "active") -> None:
    """Wait until the terminal's sharing is in this state; subscribe first."""
    if (await ui.call("sharing.resources"))["state"] != state:
        await ui.component("sharing", state)


def use(house: House) -> set[tuple]:
    return set(house.store.database.execute("SELECT use, units FROM sharing_uses"))


def test_a_citizen_is_served_from_every_kind_of_resource(tmp_path, monkeypatch):
    """S1, S2, S3, S6, T22: open government, matters, supervision and what else was agreed."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        news = await ui.call("sharing.query", **QUERY, parameters={"words": "公告", "page": 2})
        assert (news["outcome"], len(news["rows"])) == ("done", 20)
        assert news["rows"] == found("open_government", PEOPLE.seed, {"words": "公告", "page": 2}, None)
        code = credit_code(PEOPLE.seed, 0)
        checked = await ui.call(
            "sharing.query",
            resource="supervision_results",
            purpose="credit_enquiry",
            parameters={"credit_code": code},
        )
        assert {row["credit_code"] for row in checked["rows"]} == {code}
        called = await ui.call(
            "sharing.call", resource="enterprise_check", purpose="application", parameters={"credit_code": code}
        )
        assert called["rows"] == [{"credit_code": code, "registered": True, "state": "存续"}]
        pulled = await ui.call("sharing.dataset", resource=SET, purpose="public_display", most=2, first=1)
        assert (pulled["outcome"], pulled["version"], pulled["count"]) == ("done", 1, 30)
        assert [row["code"] for row in pulled["rows"]] == ["m000001", "m000002"]
        progress = [params for name, params in ui.notices if name == "sharing.progress"]
        assert progress[-1]["received_bytes"] == progress[-1]["total_bytes"] == pulled["bytes"]
        assert {step["step"] for step in pulled["steps"]} == {
            *("check_grant", "use_shared", "check_data", "switch_dataset", "read_dataset")
        }
        operator = house.caller(OPERATOR_UID)
        answer = await operator.call("sharing.reconcile", month=MONTH)
        assert (answer["outcome"], answer["reconciliation"]["differences"]) == ("done", [])
        statement = await operator.call("sharing.statement", month=MONTH)
        assert sum(line["uses"] for line in statement["lines"]) == len(use(house)) == 3 + len(progress)
        assert "终端 GT-0001" in statement["text"]
        assert set(house.rows("SELECT id, units FROM metering")) == use(house)
        assert house.store.counters() == {}

    tell(tmp_path, story, monkeypatch)


def test_personal_rows_are_for_the_verified_citizen_masked_and_kept_nowhere(tmp_path, monkeypatch):
    """T20, T22, I4: nothing of them in journal or audit; the subject is whom the platform asserted."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        answer = await ui.call("sharing.query", **PERSONAL)
        assert (answer["outcome"], answer["code"]) == ("refused", "sharing.needs_session")
        session = (await ui.call("session.open"))["session"]
        with pytest.raises(Refusal, match=r"session\.not_verified"):
            await ui.call("sharing.query", **PERSONAL, session=session)
        await ui.call("session.close", session=session)
        session = await house.verified(ui)
        answer = await ui.call("sharing.query", **PERSONAL, session=session, parameters={"first_month": "2026-11"})
        assert (answer["outcome"], len(answer["rows"])) == ("done", 2)
        for row in answer["rows"]:
            assert row["name"] == CITIZEN.name[0] + "**"
            assert row["id_number"] == CITIZEN.id_number[:3] + "*" * 13 + CITIZEN.id_number[-2:]
        called = await ui.call("sharing.call", resource="household_check", purpose="application", session=session)
        assert set(called["rows"][0]["registered_place"]) == {"*"}
        kept = (
            b"".join(
                msgspec.msgpack.encode(house.rows(f"SELECT * FROM {table}"))  # noqa: S608 - our own names
                for (table,) in house.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
            )
            + (tmp_path / "audit.jsonl").read_bytes()
        )
        for value in (CITIZEN.name, CITIZEN.id_number, CITIZEN.address):
            assert value.encode() not in kept

    tell(tmp_path, story, monkeypatch)


def test_rows_about_somebody_else_are_shown_to_nobody(tmp_path, monkeypatch):
    """S3, T22: a wrong answer is refused, and marked in the ledger."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        session = await house.verified(ui)
        house.platform.faults.spoil_sharing("person")
        answer = await ui.call("sharing.query", **PERSONAL, session=session)
        assert (answer["outcome"], answer["code"], answer["rows"]) == ("refused", "sharing.wrong_person", [])
        assert house.rows("SELECT code FROM metering") == [("sharing.wrong_person",)]

    tell(tmp_path, story, monkeypatch)


def test_an_expired_assertion_is_said_before_anything_leaves(tmp_path, monkeypatch):
    """I4."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        session = await house.verified(ui)
        await asyncio.sleep(LIFE_SECONDS)
        before = use(house)
        with pytest.raises(Refusal, match=r"assertion\.expired"):
            await ui.call("sharing.query", **PERSONAL, session=session)
        assert use(house) == before

    tell(tmp_path, story, monkeypatch, idle_seconds=2 * LIFE_SECONDS, longest_seconds=3 * LIFE_SECONDS)


def test_suspension_and_its_end_reach_the_board_by_command(tmp_path, monkeypatch):
    """S7: on arrears, while the UI looks on."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        sharing_of(house).suspend()
        await ui.component("sharing", "suspended")
        before = use(house)
        answer = await ui.call("sharing.query", **QUERY)
        assert (answer["code"], answer["retry"]) == ("sharing.suspended", False)
        assert use(house) == before
        sharing_of(house).suspend(on=False)
        await ui.component("sharing", "active")
        assert (await ui.call("sharing.query", **QUERY))["outcome"] == "done"
        sharing_of(house).withdraw("open_government")
        await house.until(lambda: house.rows("SELECT 1 FROM sharing WHERE name = 'grants'"))
        await asyncio.sleep(1)
        assert (await ui.call("sharing.query", **QUERY))["code"] == "sharing.not_granted"

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("days", "code"), [(2, "sharing.bad_time"), (-2, "sharing.bad_time"), (3_000, "sharing.grant_expired")]
)
def test_a_platform_whose_clock_is_wrong_is_said_and_ends_nothing(tmp_path, monkeypatch, days, code):
    """S3, S4, S6: a coded answer; the line tells the terminal the right time."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        house.platform.verbs["clock"](seconds=days * 86_400)
        answer = await ui.call("sharing.query", **QUERY)
        assert (answer["outcome"], answer["code"]) == ("refused", code)
        counted = [(MONTH, "sharing.bad_time")] if code == "sharing.bad_time" else []
        assert house.rows("SELECT month, code FROM metering") == counted
        sharing_of(house).suspend()
        await asyncio.sleep(60)
        assert (await ui.call("sharing.resources"))["state"] == "active", "what it signed then is not taken"
        assert house.rows("SELECT 1 FROM intents WHERE state = 'open'") == []
        house.platform.verbs["mend"]()
        await asyncio.sleep(REFUSED_SECONDS)
        await ui.component("sharing", "suspended")
        sharing_of(house).suspend(on=False)
        await ui.component("sharing", "active")
        assert (await ui.call("sharing.query", **QUERY))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_a_dead_line_is_said_within_the_deadline_and_settled_later(tmp_path, monkeypatch):
    """S6, S7, T13: the platform counted, the terminal never heard."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        house.platform.faults.is_silent = True
        began = house.loop.time()
        answer = await ui.call("sharing.query", **QUERY)
        assert (answer["outcome"], answer["code"]) == ("refused", "platform.no_answer")
        assert house.loop.time() - began < 5.1
        assert len(use(house)) == 1
        assert house.rows("SELECT * FROM metering") == []
        house.platform.faults.mend()
        await house.until(lambda: house.rows("SELECT 1 FROM metering"), seconds=60)
        assert set(house.rows("SELECT id, units FROM metering")) == use(house)
        assert house.rows("SELECT code FROM metering") == [("operation.interrupted",)]

    tell(tmp_path, story, monkeypatch)


def test_a_session_that_ends_in_the_middle_leaves_a_use_that_is_settled(tmp_path, monkeypatch):
    """S6, rule 1."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        session = await house.verified(ui)
        house.platform.faults.slow(2.0)
        number = ui.ask("sharing.query", **QUERY, session=session)
        await asyncio.sleep(1.0)
        await ui.call("session.close", session=session)
        with pytest.raises(Refusal, match=r"session\.ended"):
            await ui.answer(number)
        house.platform.faults.mend()
        await house.until(lambda: house.rows("SELECT 1 FROM metering"), seconds=60)
        assert set(house.rows("SELECT id, units FROM metering")) == use(house)

    tell(tmp_path, story, monkeypatch)


def test_two_do_not_pull_the_same_data_set_at_once(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        wanted = {"resource": SET, "purpose": "public_display"}
        first, second = ui.ask("sharing.dataset", **wanted), ui.ask("sharing.dataset", **wanted)
        answers = [await ui.answer(first), await ui.answer(second)]
        assert sorted(answer["code"] or "" for answer in answers) == ["", "sharing.pull_under_way"]
        assert (await ui.call("sharing.dataset", **wanted))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "sharing.bad_parameters"),
        ({"credit_code": 7}, "sharing.bad_parameters"),
        ({"credit_code": "9" * 18, "more": 1}, "sharing.bad_parameters"),
        ({"credit_code": "x" * 20_000}, "sharing.bad_parameters"),
    ],
    ids=["missing", "wrong type", "contradictory", "oversized"],
)
def test_bad_parameters_are_refused_before_anything_leaves(tmp_path, monkeypatch, parameters, code):
    """S4: typed."""

    async def story(house: House, ui: Caller) -> None:
        await granted(ui)
        wanted = {"resource": "supervision_results", "purpose": "credit_enquiry", "parameters": parameters}
        answer = await ui.call("sharing.query", **wanted)
        assert (answer["outcome"], answer["code"], answer["text"]) == ("refused", code, "查询条件有误，请修改。")
        assert use(house) == set()

    tell(tmp_path, story, monkeypatch)


BAD = [
    ("sharing.query", {}),
    ("sharing.query", {"resource": "open_government"}),
    ("sharing.query", {**QUERY, "parameters": []}),
    ("sharing.query", {**QUERY, "parameters": {str(one): 1 for one in range(51)}}),
    ("sharing.query", {"resource": "Open Government", "purpose": "x"}),
    ("sharing.call", {**QUERY, "extra": 1}),
    ("sharing.call", {**QUERY, "session": 7}),
    ("sharing.dataset", {"resource": SET, "purpose": "x", "most": 101}),
    ("sharing.dataset", {"resource": SET, "purpose": "x", "first": -1}),
    ("sharing.dataset", {"resource": SET, "purpose": "x", "pull": "yes"}),
    ("sharing.resources", {"resource": SET}),
]


@pytest.mark.parametrize(("method", "params"), BAD)
def test_what_the_method_does_not_take_is_refused(tmp_path, monkeypatch, method, params):
    async def story(_house: House, ui: Caller) -> None:
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await ui.call(method, **params)

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize("month", ["2027-13", "2027-1", "1999-01", "", "2027-01-01", 7, None])
def test_a_month_is_a_month(tmp_path, monkeypatch, month):
    async def story(house: House, _ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        for method in ("sharing.statement", "sharing.reconcile"):
            with pytest.raises(Refusal, match=r"request\.bad_params"):
                await operator.call(method, month=month)

    tell(tmp_path, story, monkeypatch)


def test_an_operator_queries_nothing_and_the_ui_reconciles_nothing(tmp_path, monkeypatch):
    """T21, H6."""

    async def story(house: House, ui: Caller) -> None:
        operator = house.caller(OPERATOR_UID)
        for method in ("sharing.query", "sharing.call", "sharing.dataset"):
            with pytest.raises(Refusal, match=r"caller\.not_allowed"):
                await operator.call(method, **QUERY)
        for method in ("sharing.statement", "sharing.reconcile"):
            with pytest.raises(Refusal, match=r"caller\.not_allowed"):
                await ui.call(method, month=MONTH)
        with pytest.raises(Refusal, match=r"session\.unknown"):
            await ui.call("sharing.query", **QUERY, session="of somebody else")
        shown = (await operator.call("sharing.resources"))["resources"]
        assert [one["resource"] for one in shown] == [resource.name for resource in RESOURCES]

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: one.name)
def test_a_resource_has_schemas_a_title_and_a_limit(resource):
    """S1, S3: and each personal column is one of its rows'."""
    from jsonschema.validators import Draft202012Validator

    for schema in (resource.rows, resource.parameters):
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
    assert set(resource.personal) <= set(resource.rows["required"])
    assert resource.freshness_seconds > 0
    assert BY_NAME[resource.name] is resource
    assert resource.title
    assert resource.title_en.isascii()


def test_every_kind_of_information_that_was_agreed_is_there():
    """S1."""
    assert {resource.kind for resource in RESOURCES} == {"open_government", "matters", "supervision", "agreed"}
