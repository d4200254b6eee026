"""The months of the ledger: compared with the platform's count, shown, by itself each month, kept two years (S6)."""

import asyncio
from collections.abc import Iterator

import pytest

from runtime.services.reconciliation import reconciled
from sim.virtual_time import run
from tests.runtime.sharing_rig import SET, Life, World, begun, small_sets
from transport.errors import TransportError

MONTH = "2027-01"
DAY = 86_400.0
NO_ANSWER = TransportError("platform.no_answer", "cut", advice="none", retry=True)


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with small_sets():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def unheard(_request) -> None:
    raise NO_ANSWER


def test_a_difference_is_shown_kept_told_and_audited(world):
    """S6."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        await life.pull()
        before = await life.sharing.statement(MONTH)
        assert before.reconciled is None
        assert "尚未与平台对账" in before.text
        world.faults.spoil_sharing("statement")
        found = await life.sharing.reconcile("uid 1002", MONTH)
        assert (found.outcome, found.code, found.retry) == ("refused", "sharing.count_differs", False)
        differences = found.reconciliation.differences
        assert [(one.resource, one.their_uses - one.our_uses) for one in differences] == [
            ("open_government", 1),
            (SET, 1),
        ]
        assert ("reconcile_sharing", "refused", "sharing.count_differs") in await life.told()
        assert life.audit.lines[-1][0] == "sharing_reconciled"
        shown = await (await Life(world).open()).sharing.statement(MONTH)
        assert shown.reconciled == found.reconciliation
        assert "与平台计量不一致" in shown.text
        assert "政务公开信息　查询　使用 1 次，计量 1 次" in shown.text
        world.faults.mend()
        assert (await life.sharing.reconcile("uid 1002", MONTH)).outcome == "done"
        assert "与平台计量一致" in (await life.sharing.statement(MONTH)).text

    run(main())


def test_what_only_one_side_counted_is_a_difference(world):
    """S6."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        world.journal.execute("DELETE FROM metering")
        world.journal.execute("INSERT INTO metering VALUES ('x', 'old_one', 'call', 3, 0.0, ?, NULL)", (MONTH,))
        found = (await life.sharing.reconcile("uid 1002", MONTH)).reconciliation
        assert [(one.resource, one.our_uses, one.their_uses) for one in found.differences] == [
            ("old_one", 1, 0),
            ("open_government", 0, 1),
        ]
        assert "old_one　接口调用　使用 1 次" in (await life.sharing.statement(MONTH)).text

    run(main())


def test_uses_that_are_not_settled_yet_are_said_so(world):
    """S6: not a difference to quarrel about."""

    async def main() -> None:
        life = await begun(world)
        life.line.after = unheard
        await life.query()
        life.line.after = lambda _request: None
        found = await life.sharing.reconcile("uid 1002", MONTH)
        assert (found.retry, found.reconciliation.outcome, found.reconciliation.unsettled) == (True, "unsettled", 1)
        assert "另有 1 次使用待核实" in (await life.sharing.statement(MONTH)).text
        await life.settle()
        assert (await life.sharing.reconcile("uid 1002", MONTH)).outcome == "done"

    run(main())


def test_no_line_no_comparison(world):
    async def main() -> None:
        life = await begun(world)
        life.line.is_down = True
        found = await life.sharing.reconcile("uid 1002", MONTH)
        assert (found.outcome, found.code, found.reconciliation) == ("refused", "line.down", None)
        assert (await life.sharing.statement("2026-12")).text.endswith("本月无使用记录。\n\n尚未与平台对账。\n")

    run(main())


def test_a_use_that_ends_while_the_platform_counts_is_no_difference(world):
    """S6: the platform had not counted it yet, and the terminal has."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        ask = life.line.call

        async def call(request, **how):
            answer = await ask(request, **how)
            if request.schema == "sharing.statement_request":
                await life.query()
            return answer

        life.line.call = call
        found = await life.sharing.reconcile("uid 1002", MONTH)
        assert (found.code, found.retry) == ("sharing.count_differs", True)
        assert (found.reconciliation.outcome, found.reconciliation.unsettled) == ("unsettled", 1)
        life.line.call = ask
        assert (await life.sharing.reconcile("uid 1002", MONTH)).outcome == "done"

    run(main())


def test_a_use_that_is_settled_while_the_platform_counts_is_no_difference(world):
    """S6: it was under way when the comparison began."""

    async def main() -> None:
        life = await begun(world)
        life.line.after = unheard
        await life.query()
        life.line.after = lambda _request: None
        ask = life.line.call

        async def call(request, **how):
            if request.schema == "sharing.statement_request":
                await life.settle()
            return await ask(request, **how)

        life.line.call = call
        world.faults.spoil_sharing("statement")
        found = (await life.sharing.reconcile("uid 1002", MONTH)).reconciliation
        assert (found.outcome, found.unsettled) == ("unsettled", 1)

    run(main())


def test_a_statement_says_of_which_uses_the_comparison_is_true(world):
    """S6: what was used since was never compared."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        await life.sharing.reconcile("uid 1002", MONTH)
        compared = (await life.sharing.statement(MONTH)).reconciled
        assert (compared.uses, compared.units, compared.at_unix) == (1, 1, int(world.wall_clock()))
        for _ in range(5):
            await life.query()
        text = (await life.sharing.statement(MONTH)).text
        assert text.endswith("截至2027-01-15 16:00的 1 次使用与平台计量一致。\n此后的 5 次使用尚未与平台对账。\n")
        await life.sharing.reconcile("uid 1002", MONTH)
        text = (await life.sharing.statement(MONTH)).text
        assert text.endswith("截至2027-01-15 16:00的 6 次使用与平台计量一致。\n")

    run(main())


def statements(world: World) -> int:
    return world.asked.count("sharing.statement_request")


def test_a_month_that_is_over_is_compared_once_by_itself(world):
    """S6: the monthly statement; audited, and once."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        await life.sharing.reconcile("uid 1002", MONTH)
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(10 * DAY)
        assert statements(world) == 1, "the month is not over"
        await asyncio.sleep(10 * DAY)
        found = await reconciled(life.ledger, MONTH)
        assert (found.outcome, found.uses) == ("equal", 1)
        assert statements(world) == 2
        assert ("sharing_reconciled", "daemon") in [line[:2] for line in life.audit.lines]
        await asyncio.sleep(30 * DAY)
        assert (await reconciled(life.ledger, "2027-02")).uses == 0
        assert statements(world) == 3
        task.cancel()

    run(main())


def test_a_terminal_that_was_off_compares_what_it_owes(world):
    """S6: until the platform says; a terminal that never used anything owes nothing."""

    async def main() -> None:
        life = await begun(world)
        fresh = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(20 * DAY)
        assert statements(world) == 0
        fresh.cancel()
        await life.query()
        world.skew = 60 * DAY
        life = await Life(world).open()

        def no_statement(request) -> None:
            if request.schema == "sharing.statement_request":
                raise NO_ANSWER

        life.line.before = no_statement
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(DAY)
        assert await reconciled(life.ledger, "2027-02") is None
        assert len(life.audit.lines) <= 5, "not asked for without pause"
        life.line.before = lambda _request: None
        await asyncio.sleep(DAY)
        for month in ("2027-02", "2027-03"):
            assert (await reconciled(life.ledger, month)).outcome == "equal"
        task.cancel()

    run(main())


def test_a_month_with_uses_that_are_not_settled_stays_owed(world):
    """S6."""

    async def main() -> None:
        life = await begun(world)
        await life.query()
        life.line.after = unheard
        await life.query()
        life.line.after = lambda _request: None
        world.skew = 30 * DAY
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(60)
        assert (await reconciled(life.ledger, MONTH)).outcome == "unsettled"
        assert life.looks > 0
        await life.settle()
        await asyncio.sleep(DAY)
        assert (await reconciled(life.ledger, MONTH)).outcome == "equal"
        task.cancel()

    run(main())


def test_the_ledger_keeps_two_years(world):
    """S6: nobody need ask for a comparison; a platform that was not heard says no time to go by."""

    async def main() -> None:
        life = await Life(world).open()
        for number, month in enumerate(("2024-12", "2025-01", "2026-12")):
            world.journal.execute(
                "INSERT INTO metering VALUES (?, 'open_government', 'query', 1, 0.0, ?, NULL)", (str(number), month)
            )
        world.journal.execute("INSERT INTO sharing VALUES ('reconciled:2024-12', x'00')")
        life.line.is_down = True
        task = asyncio.create_task(life.sharing.run(lambda: None))
        await asyncio.sleep(60)
        assert months(world) == ["2024-12", "2025-01", "2026-12"]
        life.line.is_down = False
        await asyncio.sleep(60)
        assert months(world) == ["2025-01", "2026-12"]
        assert world.journal.execute("SELECT 1 FROM sharing WHERE name = 'reconciled:2024-12'").fetchone() is None
        await asyncio.sleep(20 * DAY)
        assert months(world) == ["2026-12"]
        task.cancel()

    run(main())


def months(world: World) -> list[str]:
    return [month for (month,) in world.journal.execute("SELECT month FROM metering ORDER BY 1")]
