"""The metering ledger: what the terminal counts is what the platform counts, whatever cuts a use short (S6)."""

import asyncio
import datetime
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.messages.sharing import Use, UseRequest, UseStanding
from runtime.services.metering import month_of
from sim.virtual_time import run
from tests.runtime.sharing_rig import ANSWER_SECONDS, Died, Life, World, begun, small_sets
from transport.errors import TransportError

MONTH = "2027-01"
NO_ANSWER = TransportError("platform.no_answer", "cut", advice="none", retry=True)
USES = "SELECT count(*) FROM metering"


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with small_sets():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_one_entry_for_each_answer_and_none_for_a_refusal(world):
    """S6."""

    async def main() -> None:
        life = await begun(world)
        assert (await life.query()).outcome == "done"
        assert (await life.query("crystal_ball")).outcome == "refused"
        assert (await life.query("supervision_results", "credit_enquiry")).code == "sharing.bad_parameters"
        world.sharing.suspend(tell=False)
        assert (await life.query()).code == "sharing.suspended"
        (row,) = world.journal.execute("SELECT resource, mode, units, month, code FROM metering")
        assert row == ("open_government", "query", 1, MONTH, None)
        assert world.metered() == world.uses()
        (key,) = world.journal.execute("SELECT id FROM metering").fetchone()
        assert world.journal.execute("SELECT state FROM intents WHERE key = ?", (key,)).fetchone() == ("done",)

    run(main())


@pytest.mark.parametrize("fault", ["damage", "stale", "count", "rows"])
def test_an_answer_that_was_refused_was_counted_and_is_marked(world, fault):
    """S3, S6: there is no quarrel about the count, and the statement says that it was of no use."""
    codes = {"damage": "damaged", "stale": "stale", "count": "incomplete", "rows": "bad_rows"}

    async def main() -> None:
        life = await begun(world)
        world.faults.spoil_sharing(fault)
        answer = await life.query()
        code = f"sharing.{codes[fault]}"
        assert (answer.outcome, answer.code, answer.rows) == ("refused", code, [])
        assert ("check_data", "refused", code) in await life.told()
        assert world.journal.execute("SELECT code FROM metering").fetchall() == [(code,)]
        (line,) = (await life.sharing.statement(MONTH)).lines
        assert (line.uses, line.refused) == (1, 1)
        assert world.metered() == world.uses()

    run(main())


def test_an_answer_of_another_resource_or_from_the_future_is_refused(world, monkeypatch):
    """S3."""
    query = type(world.sharing)._query

    async def main() -> None:
        life = await begun(world)
        changes = {
            "sharing.wrong_resource": {"resource": "service_matters"},
            "sharing.bad_time": {"as_of_unix": 1_900_000_000},
            "sharing.too_large": {"rows": b"[" + b" " * 600_000 + b"]"},
        }
        for code, change in changes.items():

            def changed(self, terminal, asked, change=change):
                return msgspec.structs.replace(query(self, terminal, asked), **change)

            monkeypatch.setattr(type(world.sharing), "_query", changed)
            world.services._handlers |= world.sharing.handlers
            assert (await life.query()).code == code

    run(main())


def test_a_use_that_is_refused_for_the_moment_is_tried_again_in_time(world):
    """S7, T13: inside the deadline, then with its code."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        life = await begun(world)
        world.faults.busy_sharing(3)
        began = loop.time()
        assert (await life.query()).outcome == "done"
        assert 1.4 < loop.time() - began < ANSWER_SECONDS
        world.faults.busy_sharing(100)
        began = loop.time()
        answer = await life.query()
        assert (answer.outcome, answer.code, answer.retry) == ("refused", "sharing.busy", True)
        assert loop.time() - began <= ANSWER_SECONDS
        assert world.metered() == world.uses()
        assert len(world.uses()) == 1

    run(main())


@pytest.mark.parametrize(("when", "counted"), [("before", 0), ("after", 1)])
def test_a_use_whose_answer_never_came_is_settled_and_counted_as_the_platform_did(world, when, counted):
    """S6: by the key of its intent, also after a crash."""

    def cut(_request) -> None:
        raise NO_ANSWER

    async def main() -> None:
        life = await begun(world)
        setattr(life.line, when, cut)
        assert (await life.query()).code == "platform.no_answer"
        assert life.looks > 0
        assert world.journal.execute(USES).fetchone() == (0,)
        setattr(life.line, when, lambda _request: None)
        again = await Life(world).open()
        assert world.journal.execute("SELECT count(*) FROM intents WHERE state = 'open'").fetchone() == (0,)
        assert world.metered() == world.uses()
        assert len(world.uses()) == counted
        await again.settle()
        assert world.metered() == world.uses()
        code = "operation.interrupted" if counted else "sharing.not_counted"
        assert (await again.told())[-1] == ("use_shared", "refused", code)

    run(main())


def test_a_platform_that_does_not_say_what_it_counted_is_asked_again(world):
    """S6: nothing is guessed."""

    async def main() -> None:
        life = await begun(world)

        def unheard(_request) -> None:
            raise NO_ANSWER

        life.line.after = unheard
        await life.query()
        life.line.after = lambda _request: None
        world.services._handlers[UseRequest] = lambda _terminal, _asked: UseStanding("another", None)
        with pytest.raises(TransportError):
            await life.settle()
        assert world.journal.execute("SELECT count(*) FROM intents WHERE state = 'open'").fetchone() == (1,)
        world.services._handlers |= world.sharing.handlers
        await life.settle()
        assert world.metered() == world.uses()

    run(main())


HAPPENINGS = st.sampled_from(["", "lost", "unheard", "died_before", "died_after", "busy", "damage", "suspended"])
ACTS = st.tuples(st.sampled_from(["query", "pull", "settle", "statement"]), HAPPENINGS)


@settings(max_examples=120, deadline=None)
@given(acts=st.lists(ACTS, max_size=12))
def test_the_ledger_is_what_the_platform_counted(acts):
    """S6: whatever is used, and whatever happens to it, once everything is settled; and it says so."""
    world = World()

    async def main() -> None:
        life = await begun(world)
        for act, happening in acts:
            world.faults.mend()
            world.sharing.suspend(on=happening == "suspended", tell=False)
            life.line.before = life.line.after = lambda _request: None
            if happening in ("lost", "unheard"):
                _cut(life, "before" if happening == "lost" else "after")
            elif happening.startswith("died"):
                _kill(life, happening.removeprefix("died_"))
            elif happening == "busy":
                world.faults.busy_sharing(2)
            elif happening == "damage":
                world.faults.spoil_sharing("damage")
            try:
                if act == "query":
                    await life.query()
                elif act == "pull":
                    await life.pull()
                elif act == "settle":
                    await life.settle()
                else:
                    await life.sharing.reconcile("uid 1002", MONTH)
            except TransportError:
                assert act == "settle"
            except Died:
                life = await begun(world)
        last = await begun(world)
        assert world.metered() == world.uses()
        found = await last.sharing.reconcile("uid 1002", MONTH)
        assert (found.outcome, found.reconciliation.outcome) == ("done", "equal")

    try:
        run(main())
    finally:
        world.close()


def _cut(life: Life, when: str) -> None:
    def cut(_request) -> None:
        raise NO_ANSWER

    setattr(life.line, when, cut)


def _kill(life: Life, when: str) -> None:
    def kill(_request) -> None:
        life.die()

    setattr(life.line, when, kill)


@pytest.mark.parametrize(
    ("at", "month"),
    [("2027-01-31T15:59:59", "2027-01"), ("2027-01-31T16:00:00", "2027-02"), ("2026-12-31T16:00:00", "2027-01")],
)
def test_a_month_is_one_of_china_standard_time(at, month):
    assert month_of(datetime.datetime.fromisoformat(f"{at}+00:00").timestamp()) == month


def test_a_use_belongs_to_the_month_in_which_the_platform_counted_it(world):
    """S6: two clocks are no difference."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        own = life.office.origin.wall_clock
        assert month_of(own()) == MONTH
        world.skew = 40 * 86_400.0
        await life.fetch()
        await life.query()
        assert {row[4] for row in world.metered()} == {MONTH, "2027-02"}
        assert world.metered() == world.uses()

    run(main())


@pytest.mark.parametrize("at", [10**15, -(10**15), 2**64 - 1, 1_800_000_000 + 2 * 86_400, 1_800_000_000 - 2 * 86_400])
def test_a_use_counted_at_a_time_that_cannot_be_is_refused_and_counted_now(world, monkeypatch, at):
    """S3, S6: a platform whose clock is wrong has a coded answer, and leaves nothing open."""
    query, part = type(world.sharing)._query, type(world.sharing)._part

    async def main() -> None:
        life = await begun(world)
        for name, honest in (("_query", query), ("_part", part)):

            def changed(self, terminal, asked, honest=honest):
                return msgspec.structs.replace(honest(self, terminal, asked), counted_unix=at, as_of_unix=at)

            monkeypatch.setattr(type(world.sharing), name, changed)
        world.services._handlers |= world.sharing.handlers
        answer = await life.query()
        assert (answer.outcome, answer.code, answer.rows) == ("refused", "sharing.bad_time", [])
        assert (await life.pull()).code == "sharing.bad_time"
        assert world.journal.execute("SELECT DISTINCT state FROM intents").fetchall() == [("refused",)]
        assert world.journal.execute("SELECT DISTINCT month, code FROM metering").fetchall() == [
            (MONTH, "sharing.bad_time")
        ]
        assert world.journal.execute("SELECT count(*) FROM datasets").fetchone() == (0,)

    run(main())


@pytest.mark.parametrize("at", [10**15, -(10**15), 1_700_000_000])
def test_a_settled_use_counted_at_a_time_that_cannot_be_is_counted_now(world, at):
    """S6: the settlement goes on whatever the platform says."""

    async def main() -> None:
        life = await begun(world)
        _cut(life, "after")
        await life.query()
        life.line.after = lambda _request: None
        world.services._handlers[UseRequest] = lambda _terminal, asked: UseStanding(
            asked.use, Use("open_government", "query", 1, at)
        )
        await life.settle()
        assert world.journal.execute("SELECT month, units FROM metering").fetchall() == [(MONTH, 1)]

    run(main())


def test_a_settled_use_belongs_to_the_month_in_which_it_was_counted_however_late_that_is_heard(world):
    """S6: the terminal may have been off for weeks."""

    async def main() -> None:
        life = await begun(world)
        _cut(life, "after")
        await life.query()
        world.skew = 40 * 86_400.0
        await Life(world).open()
        assert {row[4] for row in world.metered()} == {MONTH}
        assert world.metered() == world.uses()

    run(main())


def test_units_that_no_ledger_holds_are_not_counted(world):
    """S6: asked for again."""

    async def main() -> None:
        life = await begun(world)
        _cut(life, "after")
        await life.query()
        life.line.after = lambda _request: None
        world.services._handlers[UseRequest] = lambda _terminal, asked: UseStanding(
            asked.use, Use("open_government", "query", 2**63, int(world.wall_clock()))
        )
        with pytest.raises(TransportError) as refusal:
            await life.settle()
        assert refusal.value.code == "message.unexpected"

    run(main())
