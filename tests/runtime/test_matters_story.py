"""Matters, applications and progress through the API of the whole daemon (T8, T11, T17, T21)."""

import msgspec
import pytest

from sim.platform.services.matters import Matters
from tests.runtime.house import OPERATOR_UID, Caller, House, Refusal, tell
from tests.runtime.matters_rig import BARE, FORMS, MATERIALS, PAID, PLAIN


async def catalogued(ui: Caller) -> None:
    """Wait until the terminal has a catalogue; the caller has subscribed."""
    while (await ui.call("terminal.status"))["state"]["catalogue"]["state"] != "current":
        await ui.notice("events.change")


async def scanned(ui: Caller, session: str, pages: int = 1) -> None:
    await ui.call("session.begin_document", session=session)
    for _ in range(pages):
        assert (await ui.call("session.add_page", session=session))["outcome"] == "done"
    assert (await ui.call("session.finish_document", session=session))["outcome"] == "done"


async def completed(house: House, ui: Caller, matter: str = PLAIN) -> tuple[str, str]:
    """Return a session whose application is complete, and its receipt number."""
    await catalogued(ui)
    session = await house.verified(ui)
    begun = await ui.call("application.begin", session=session, matter=matter)
    assert begun["outcome"] == "done", begun
    await ui.call("application.form", session=session, values=FORMS[matter])
    for material in MATERIALS[matter]:
        await scanned(ui, session)
        taken = await ui.call("application.material", session=session, material=material)
        assert taken["outcome"] == "done", taken
    return session, begun["receipt"]


def test_a_citizen_applies_and_asks_by_the_number(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session, receipt = await completed(house, ui)
        ui.notices.clear()
        filed = await ui.call("application.file", session=session)
        assert (filed["outcome"], filed["state"], filed["receipt"]) == ("done", "accepted", receipt)
        progress = [params for method, params in ui.notices if method == "application.progress"]
        assert all(one["sent_bytes"] <= one["total_bytes"] for one in progress)
        (mine,) = (await ui.call("progress.mine", session=session))["receipts"]
        assert (mine["receipt"], mine["said"]) == (receipt, "您的申请已受理。")
        await ui.call("session.close", session=session)
        (told,) = (await ui.call("progress.by_receipt", receipt=receipt))["receipts"]
        assert (told["title"], told["state_text"], told["said"]) == ("居住证签注", "已受理", None)
        assert house.platform.services is not None
        assert house.rows("SELECT kind, state FROM intents") == [("file", "done")]
        assert house.store.counters().get("complaint application.invalid") is None

    tell(tmp_path, story, monkeypatch)


def test_what_is_offered_follows_the_devices(tmp_path, monkeypatch):
    """T17: no card reader here, so no fee can be paid; without its camera no material can be scanned."""

    async def story(house: House, ui: Caller) -> None:
        await catalogued(ui)

        async def offered() -> dict[str, list[str]]:
            listed = await ui.call("matters.list")
            assert listed["version"] == 1
            return {one["matter"]: [reason["code"] for reason in one["reasons"]] for one in listed["matters"]}

        offers = await offered()
        assert (offers[PLAIN], offers[BARE]) == ([], [])
        assert offers[PAID] == ["device.missing", "device.missing"]
        house.vision.camera_is("document", "lost", "camera.lost")
        assert (await offered())[PLAIN] == ["camera.lost"]
        shown = await ui.call("matters.show", matter=PLAIN)
        assert shown["matter"]["form"]["properties"]["telephone"]["title"] == "联系电话"
        assert [reason["component"] for reason in shown["reasons"]] == ["document_camera"]
        with pytest.raises(Refusal, match=r"matter\.unknown"):
            await ui.call("matters.show", matter="no_such_matter")

    tell(tmp_path, story, monkeypatch)


def test_the_operator_rolls_back_and_reaches_no_application(tmp_path, monkeypatch):
    """T21: maintenance and citizens are apart."""

    async def story(house: House, ui: Caller) -> None:
        session, _ = await completed(house, ui)
        next(one for one in house.platform.services.all if isinstance(one, Matters)).publish()
        while (await ui.call("matters.list"))["version"] != 2:
            await ui.notice("events.change")
        operator = house.caller(OPERATOR_UID)
        assert await operator.call("matters.rollback") == {"version": 1}
        with pytest.raises(Refusal, match=r"catalogue\.no_previous"):
            await operator.call("matters.rollback")
        for method, params in (
            ("application.file", {"session": session}),
            ("application.check", {"session": session}),
            ("progress.mine", {"session": session}),
            ("progress.by_receipt", {"receipt": "A-0000-0000-Z"}),
            ("matters.list", {}),
        ):
            with pytest.raises(Refusal, match=r"caller\.not_allowed"):
                await operator.call(method, **params)
        with pytest.raises(Refusal, match=r"caller\.not_allowed"):
            await ui.call("matters.rollback")
        assert (await ui.call("application.file", session=session))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)
    events = [msgspec.json.decode(line)["event"] for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert events.count("catalogue_rolled_back") == 1


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("matters.show", {}),
        ("matters.show", {"matter": 5}),
        ("matters.show", {"matter": "Not a name"}),
        ("application.begin", {"matter": PLAIN}),
        ("application.begin", {"session": "x"}),
        ("application.begin", {"session": "x", "matter": PLAIN, "surplus": 1}),
        ("application.begin", {"session": "x", "matter": "y" * 65}),
        ("application.form", {"session": "x"}),
        ("application.form", {"session": "x", "values": []}),
        ("application.form", {"session": "x", "values": {str(number): 1 for number in range(201)}}),
        ("application.material", {"session": "x"}),
        ("application.material", {"session": "x", "material": None}),
        ("application.check", {}),
        ("application.check", {"session": "x" * 65}),
        ("application.file", {"session": ["x"]}),
        ("progress.by_receipt", {}),
        ("progress.by_receipt", {"receipt": "A" * 65}),
        ("progress.by_receipt", {"receipt": 1}),
        ("progress.mine", {}),
    ],
)
def test_parameters_that_do_not_fit(tmp_path, monkeypatch, method, params):
    async def story(house: House, ui: Caller) -> None:
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await ui.call(method, **params)

    tell(tmp_path, story, monkeypatch)


def test_a_strangers_session_is_unknown(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session, _ = await completed(house, ui)
        other = house.caller()
        for method in ("application.check", "application.file", "progress.mine"):
            with pytest.raises(Refusal, match=r"session\.unknown"):
                await other.call(method, session=session)

    tell(tmp_path, story, monkeypatch)


def test_many_pages_are_refused_with_what_to_do(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        await catalogued(ui)
        session = await house.verified(ui)
        await ui.call("application.begin", session=session, matter=PLAIN)
        await scanned(ui, session, pages=2)
        answer = await ui.call("application.material", session=session, material="id_card")
        assert (answer["outcome"], answer["code"]) == ("refused", "application.too_many_pages")
        assert answer["text"] == "材料页数过多，请减少页数后重新扫描。"

    tell(tmp_path, story, monkeypatch)
