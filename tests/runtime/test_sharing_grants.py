"""Grants: signed, kept, checked here before anything leaves; suspension on arrears (S4, S7)."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from runtime.messages import Refusal
from runtime.messages.sharing import Grants, GrantsRequest, grants_content
from runtime.services import grants
from runtime.services.steps import Refused
from sim.virtual_time import run
from tests.runtime.house import IDENTITY, SIGNING, TERMINAL
from tests.runtime.sharing_rig import PURPOSE, SET, Life, World, begun, small_sets
from transport.sm2 import PrivateKey

DAY = 24 * 3600.0


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with small_sets():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def issue(
    world: World, life: Life, monkeypatch, *, key: PrivateKey = SIGNING, terminal: str = TERMINAL, **other
) -> None:
    """Let the platform's next grants be signed by somebody, for somebody, and say something else than was signed."""

    def answer(self, _terminal, _request):
        kept = life.grants._kept
        known = kept.grants if kept is not None else ()
        content = grants_content(terminal, known, int(world.wall_clock()), suspended=False)
        honest = Grants(known, suspended=False, issued_unix=int(world.wall_clock()), signature=key.sign(content))
        return msgspec.structs.replace(honest, **other)

    monkeypatch.setattr(type(world.sharing), "_grants", answer)
    world.services._handlers |= world.sharing.handlers


@pytest.mark.parametrize(
    ("resource", "purpose", "mode", "code"),
    [
        ("crystal_ball", PURPOSE, "query", "sharing.unknown_resource"),
        (SET, "advertising", "query", "sharing.other_purpose"),
        ("supervision_results", "credit_enquiry", "dataset", "sharing.other_mode"),
        ("household_check", "application", "dataset", "sharing.personal_dataset"),
        ("social_insurance", "application", "query", "sharing.needs_session"),
    ],
)
def test_what_is_not_granted_is_refused_before_anything_leaves(world, resource, purpose, mode, code):
    """S4: coded, counted, audited, told; the platform hears nothing of it."""

    async def main() -> None:
        life = await begun(world)
        before = list(world.asked)
        if mode == "dataset":
            answer = await life.pull(resource, purpose)
        else:
            answer = await life.query(resource, purpose, mode)
        assert (answer.outcome, answer.code, answer.retry) == ("refused", code, False)
        assert answer.text
        assert world.asked == before
        assert life.sharing.refusals == {code: 1}
        (event, actor, details) = life.audit.lines[-1]
        assert (event, actor) == (f"sharing_{mode}", "uid 1001")
        assert details["code"] == code
        assert (details["resource"], details["purpose"]) == (resource, purpose)
        assert ("check_grant", "refused", code) in await life.told()
        assert world.metered() == set()

    run(main())


def test_nothing_is_known_before_the_platform_said(world):
    async def main() -> None:
        life = await Life(world).open()
        assert life.grants.state == "unknown"
        component = life.board.get("sharing")
        assert (component.state, component.code) == ("unknown", "sharing.no_grants")
        answer = await life.query()
        assert (answer.code, answer.retry) == ("sharing.no_grants", True)
        shown = life.sharing.resources()
        assert (shown.state, [one for one in shown.resources if one.grants]) == ("unknown", [])

    run(main())


def test_grants_are_valid_without_a_line_until_they_expire(world):
    """S4: the wall clock says when; a restart forgets nothing."""

    async def main() -> None:
        await begun(world)
        life = Life(world)
        life.line.is_down = True
        await life.open()
        await life.fetch()
        assert life.grants.state == "active"
        assert (await life.query()).code == "line.down"
        assert len(life.grants.valid()) == 9
        world.skew = 30 * DAY - 1
        life.grants.check(SET, PURPOSE, "query")
        world.skew = 30 * DAY
        assert life.grants.valid() == []
        assert (await life.query()).code == "sharing.grant_expired"

    run(main())


@pytest.mark.parametrize(
    "how",
    [
        {"key": IDENTITY},
        {"terminal": "GT-0002"},
        {"suspended": True},
        {"signature": b""},
        {"issued_unix": 2_000_000_000},
        {"grants": ()},
    ],
    ids=["another key", "another terminal", "suspension", "no signature", "later", "fewer"],
)
def test_grants_that_are_not_the_platforms_for_this_terminal_change_nothing(world, monkeypatch, how):
    """S4: forged or foreign; told once."""

    async def main() -> None:
        life = await begun(world)
        before = life.grants._kept
        issue(world, life, monkeypatch, **how)
        await life.fetch()
        await life.fetch()
        assert life.grants._kept == before
        assert life.board.get("sharing").code == "sharing.grants_forged"
        assert (await life.told()).count(("take_grants", "refused", "sharing.grants_forged")) == 1
        again = await Life(world).open()
        assert again.grants._kept == before
        monkeypatch.undo()
        world.services._handlers |= world.sharing.handlers
        await life.fetch()
        assert life.board.get("sharing").code is None

    run(main())


def test_older_grants_are_not_gone_back_to(world):
    """S4: what was withdrawn does not come back with an old answer."""

    async def main() -> None:
        life = await begun(world)
        world.skew = -10.0
        await life.fetch()
        assert ("take_grants", "refused", "sharing.grants_older") in await life.told()

    run(main())


def test_grants_that_were_changed_on_the_disk_do_not_load(world):
    async def main() -> None:
        life = await begun(world)
        kept = msgspec.structs.replace(life.grants._kept, suspended=True)
        for body in (msgspec.msgpack.encode(kept), b"\xc1"):
            world.journal.execute("UPDATE sharing SET body = ? WHERE name = 'grants'", (body,))
            again = await Life(world).open()
            assert again.grants.state == "unknown"

    run(main())


def test_the_same_grants_again_are_not_told_again(world):
    """T12: events tell of changes."""

    async def main() -> None:
        life = await begun(world)
        world.skew = 60.0
        await life.fetch()
        assert (await life.told()).count(("take_grants", "done", None)) == 1
        assert life.grants.valid()[0].expires_unix >= world.wall_clock() + 30 * DAY - 1
        world.sharing.suspend(tell=False)
        await life.fetch()
        await life.fetch()
        assert (await life.told()).count(("take_grants", "done", None)) == 2

    run(main())


def test_a_withdrawn_grant_that_the_terminal_still_has_is_found_out_by_use(world):
    """S4: the platform's refusal has the grants asked for."""

    async def main() -> None:
        life = await begun(world)
        world.sharing.withdraw(SET, tell=False)
        assert not life.grants._wake.is_set()
        assert (await life.query(SET)).code == "sharing.not_granted"
        assert life.grants._wake.is_set()
        await life.fetch()
        with pytest.raises(Refused, match="no grant"):
            life.grants.check(SET, PURPOSE, "query")

    run(main())


def test_suspension_is_found_out_by_use_kept_and_ended(world):
    """S7: a state with its words; nothing leaves meanwhile."""

    async def main() -> None:
        life = await begun(world)
        world.sharing.suspend(tell=False)
        answer = await life.query()
        assert (answer.code, answer.text) == ("sharing.suspended", "信息共享服务已暂停，请咨询工作人员。")
        component = life.board.get("sharing")
        assert (component.state, component.code) == ("suspended", "sharing.suspended")
        await life.fetch()
        before = list(world.asked)
        again = await (Life(world)).open()
        assert again.grants.state == "suspended"
        assert (await again.query()).code == "sharing.suspended"
        assert world.asked == before
        assert again.sharing.resources().text == "信息共享服务已暂停，请咨询工作人员。"
        world.sharing.suspend(on=False, tell=False)
        await again.fetch()
        assert (await again.query()).outcome == "done"
        assert again.board.get("sharing").code is None

    run(main())


def test_grants_are_asked_for_at_the_start_when_told_and_before_they_expire(world):
    """S4: 30 days at first, later 3 h; a quarter of a day where nothing asks for it sooner."""

    async def main() -> None:
        life = await Life(world).open()
        times: list[float] = []
        loop = asyncio.get_running_loop()
        life.line.before = lambda _request: times.append(round(loop.time()))
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(10)
        assert times == [0]
        world.faults.grant_life(3 * 3_600)
        life.grants.changed()
        await asyncio.sleep(5 * 3_600)
        assert times == [0, 10, 7210, 14410]
        world.faults.grant_life(30 * 24 * 3_600)
        life.grants.changed()
        del times[:]
        await asyncio.sleep(24 * 3_600)
        assert len(times) == 4
        life.line.is_down = True
        del times[:]
        life.grants.changed()
        await asyncio.sleep(35)
        life.line.is_down = False
        await asyncio.sleep(10)
        assert len(times) == 1, "again every 10 s until the line is there"
        task.cancel()

    run(main())


def test_short_lived_grants_are_not_asked_for_without_pause(world):
    """A platform that grants less than an hour is asked once a minute, not without end."""

    async def main() -> None:
        world.faults.grant_life(30)
        life = await Life(world).open()
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(600)
        task.cancel()
        assert world.asked.count("sharing.grants_request") <= 600 / grants.SOONEST_SECONDS + 1

    run(main())


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [(Refusal("platform.busy", retry=True), 11), (Refusal("terminal.unknown", retry=False), 601)],
)
def test_a_platform_that_refused_the_grants_once_is_asked_again(world, refusal, seconds):
    """S4: soon where it says so, and within minutes whatever it said."""

    async def main() -> None:
        life = await Life(world).open()
        handler = world.services._handlers[GrantsRequest]
        world.services._handlers[GrantsRequest] = lambda *_: refusal
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(1)
        assert life.grants.state == "unknown"
        world.services._handlers[GrantsRequest] = handler
        await asyncio.sleep(seconds - 2)
        assert life.grants.state == "unknown", "not without pause"
        await asyncio.sleep(2)
        assert (life.grants.state, (await life.query()).outcome) == ("active", "done")
        task.cancel()

    run(main())


def test_forged_grants_do_not_put_off_the_true_ones_for_long(world, monkeypatch):
    """S4."""

    async def main() -> None:
        life = await Life(world).open()
        issue(world, life, monkeypatch, key=IDENTITY)
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(1)
        monkeypatch.undo()
        world.services._handlers |= world.sharing.handlers
        await asyncio.sleep(grants.REFUSED_SECONDS)
        assert life.grants.state == "active"
        task.cancel()

    run(main())


@pytest.mark.parametrize("seconds", [3_600, -3_600, 40 * DAY, -40 * DAY, 3_000 * DAY])
def test_grants_of_a_wrong_clock_are_refused_and_right_ones_are_taken_after_it(world, seconds):
    """S4: else those of a clock that was ahead would seem the newest for as long as it was."""

    async def main() -> None:
        life = await begun(world)
        before = life.grants._kept
        world.faults.clock(seconds)
        await life.fetch()
        assert life.grants._kept == before
        assert life.board.get("sharing").code == "sharing.bad_time"
        assert ("take_grants", "refused", "sharing.bad_time") in await life.told()
        answer = await life.query()
        expected = {
            3_600: None,
            -3_600: None,
            40 * DAY: "sharing.bad_time",
            -40 * DAY: "sharing.bad_time",
            3_000 * DAY: "sharing.bad_time",
        }
        assert answer.code == expected[seconds]
        world.faults.mend()
        await life.fetch()
        assert life.board.get("sharing").code is None
        assert (await life.query()).outcome == "done"

    run(main())
