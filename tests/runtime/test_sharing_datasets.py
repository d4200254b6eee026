"""Data sets: pulled, resumed, switched whole or not at all, whatever happens on the way (S2, S3)."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.services import datasets, quality
from runtime.services.resources import BY_NAME
from runtime.services.steps import Refused
from sim.virtual_time import run
from tests.runtime.sharing_rig import SET, Died, Life, World, begun, is_right, small_sets
from transport.errors import TransportError

NO_ANSWER = TransportError("platform.no_answer", "cut", advice="none", retry=True)
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


def parts(world: World) -> int:
    return world.asked.count("sharing.dataset")


class Trouble:
    """What happens to each part that is asked for, in turn; nothing once the list is done."""

    def __init__(self, world: World, plan: list[str]) -> None:
        self.world = world
        self.plan = plan

    def attach(self, life: Life) -> Life:
        now = ""

        def before(request) -> None:
            nonlocal now
            self.world.faults.sharing = None
            now = self.plan.pop(0) if self.plan and request.schema == "sharing.dataset" else ""
            if now == "lost":
                raise NO_ANSWER
            if now == "died_before":
                life.die()
            if now == "published":
                self.world.sharing.publish(SET)
            if now in ("damage", "count", "stale", "older"):
                self.world.faults.sharing = now

        def after(_request) -> None:
            if now == "unheard":
                raise NO_ANSWER
            if now == "died_after":
                life.die()

        life.line.before, life.line.after = before, after
        return life


CODES = {
    *("platform.no_answer", "sharing.damaged", "sharing.stale", "sharing.incomplete", "sharing.older_version"),
    "sharing.pull_unfinished",
}
HAPPENINGS = st.sampled_from(
    ["", "", "lost", "unheard", "died_before", "died_after", "published", "damage", "count", "stale", "older"]
)


@settings(max_examples=150, deadline=None)
@given(plan=st.lists(HAPPENINGS, max_size=14))
def test_an_interrupted_pull_ends_with_the_right_bytes_or_a_code_and_never_a_mixture(plan):
    """S2, S3, S6: any cut, any version change, any damage; the ledger holds what the platform counted."""
    world = World()

    async def main() -> None:
        trouble = Trouble(world, list(plan))
        life = trouble.attach(await begun(world))
        newest = 0
        for _ in range(len(plan) + 2):
            try:
                answer = await life.pull()
            except Died:
                life = trouble.attach(await (await Life(world).open()).fetch())
                continue
            finally:
                kept = datasets._read(world.journal, SET)[0]
                current = kept.current
                assert is_right(world, kept)
                assert newest <= (current.version if current is not None else 0), "versions are monotone"
                newest = current.version if current is not None else 0
            assert answer.outcome == "done" or answer.code in CODES
            if answer.outcome == "done" and not trouble.plan:
                break
        assert answer.outcome == "done"
        assert answer.version == world.sharing.version(SET)
        assert answer.count == 30 + answer.version - 1
        await life.settle()
        assert world.metered() == world.uses()
        assert world.store.counters() == {}, "nothing to complain of"

    try:
        run(main())
    finally:
        world.close()


def test_a_pull_goes_on_at_the_byte_where_it_stopped_after_a_restart(world):
    """S2."""

    async def main() -> None:
        life = await begun(world)
        wanted: list[tuple[int, int]] = []
        seen: list[tuple[int, int]] = []
        taken = datasets._wanted

        def spy(*args, **how):
            wanted.append(taken(*args, **how))
            return wanted[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datasets, "_wanted", spy)
            Trouble(world, ["", "", "died_before"]).attach(life)
            with pytest.raises(Died):
                await life.pull(on_progress=lambda received, total: seen.append((received, total)))
            again = await begun(world)
            answer = await again.pull(on_progress=lambda received, total: seen.append((received, total)))
        assert answer.outcome == "done"
        assert wanted[:4] == [(0, 0), (1, 2_000), (1, 4_000), (1, 4_000)]
        assert [received for received, _ in seen[:3]] == [2_000, 4_000, 6_000]
        assert world.metered() == world.uses()

    run(main())


def test_a_version_that_changes_in_the_middle_is_pulled_anew_and_the_old_one_stays_until_then(world):
    """S2, S3: switched atomically, the previous kept."""

    async def main() -> None:
        life = await begun(world)
        assert (await life.pull()).version == 1
        world.sharing.publish(SET)
        states = []

        def look(*_: object) -> None:
            states.append(world.journal.execute("SELECT DISTINCT version FROM datasets ORDER BY 1").fetchall())

        Trouble(world, ["", "", "", "published"]).attach(life)
        answer = await life.pull(on_progress=look)
        assert (answer.outcome, answer.version, answer.previous) == ("done", 3, 1)
        assert [(1,), (2,)] in states
        assert [(1,), (3,)] in states
        assert is_right(world, await life.kept())
        world.sharing.publish(SET)
        answer = await life.pull()
        assert (answer.version, answer.previous) == (4, 3)
        assert world.journal.execute("SELECT DISTINCT version FROM datasets ORDER BY 1").fetchall() == [(3,), (4,)]

    run(main())


def test_bytes_that_change_under_the_same_version_are_damage(world, monkeypatch):
    """S3: never a mixture, even where the platform mixes."""

    async def main() -> None:
        life = await begun(world)
        first, second = world.sharing.content(SET, 1), world.sharing.content(SET, 2)
        said = iter([first, first, second])
        monkeypatch.setattr(type(world.sharing), "content", lambda *_: next(said, second))
        answer = await life.pull()
        assert (answer.outcome, answer.code, answer.version) == ("refused", "sharing.damaged", None)
        assert world.journal.execute("SELECT count(*) FROM datasets").fetchone() == (0,)
        assert parts(world) == 3, "it is found out at once, not at the end"
        assert (await life.pull()).outcome == "done"
        assert world.content(1) == second

    run(main())


def test_a_version_that_changes_without_end_is_given_up(world):
    """T13: in time, with a code."""

    async def main() -> None:
        life = await begun(world)
        Trouble(world, ["", "published"] * 9).attach(life)
        answer = await life.pull()
        assert (answer.outcome, answer.code, answer.retry) == ("refused", "sharing.pull_unfinished", True)

    run(main())


def test_a_pull_that_takes_too_long_says_how_far_it_came(world, monkeypatch):
    """T13."""
    monkeypatch.setattr(datasets, "PULL_SECONDS", 0.01)

    async def main() -> None:
        life = await begun(world)
        answer = await life.pull()
        assert (answer.outcome, answer.code, answer.retry) == ("refused", "sharing.pull_unfinished", True)
        assert (answer.version, answer.pulling) == (None, 1)
        assert 0 < answer.pulled_bytes < answer.pulling_bytes
        while (answer := await life.pull()).outcome != "done":
            pass
        assert answer.version == 1

    run(main())


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("damage", "sharing.damaged"),
        ("count", "sharing.incomplete"),
        ("stale", "sharing.stale"),
        ("older", "sharing.older_version"),
    ],
)
def test_what_is_not_right_is_refused_with_its_code_and_told_to_the_platform(world, fault, code):
    """S3, T12: what was current stays so."""

    async def main() -> None:
        life = await begun(world)
        assert (await life.pull()).outcome == "done"
        world.sharing.publish(SET)
        if fault == "older":
            world.sharing.desk.database.execute("UPDATE sharing_sets SET version = 1")
            world.journal.execute("UPDATE datasets SET version = 5")
            kept = await life.kept()
            current = msgspec.structs.replace(kept.current, version=5)
            datasets._write(world.journal, SET, msgspec.structs.replace(kept, current=current))
        else:
            world.faults.spoil_sharing(fault)
        answer = await life.pull()
        assert (answer.outcome, answer.code) == ("refused", code)
        assert answer.text
        assert answer.version == (5 if fault == "older" else 1)
        assert answer.pulling is None
        assert any(event[1:] == ("refused", code) for event in await life.told())
        assert life.sharing.refusals == {code: 1}
        assert world.metered() == world.uses(), "what was refused was counted all the same"
        world.faults.mend()
        if fault != "older":
            assert (await life.pull()).version == 2

    run(main())


def test_rows_that_are_no_rows_are_refused(world, monkeypatch):
    """S3: the schema of the rows."""

    async def main() -> None:
        life = await begun(world)
        good = world.sharing.content(SET, 1)
        monkeypatch.setattr(type(world.sharing), "content", lambda *_: good.replace(b'"days":', b'"date":', 1))
        answer = await life.pull()
        assert (answer.outcome, answer.code, answer.version) == ("refused", "sharing.bad_rows", None)
        for wrong in (good[:-1], good + b"[]\n", good + b"\xff\n"):
            monkeypatch.setattr(type(world.sharing), "content", lambda *_, wrong=wrong: wrong)
            assert (await life.pull()).code in ("sharing.bad_rows", "sharing.incomplete")
        monkeypatch.undo()
        with small_sets():
            assert (await life.pull()).outcome == "done"

    run(main())


def test_a_version_that_no_journal_holds_is_damage(world, monkeypatch):
    """S3: coded, and nothing stays open."""
    part = type(world.sharing)._part

    async def main() -> None:
        life = await begun(world)
        monkeypatch.setattr(
            type(world.sharing), "_part", lambda *asked: msgspec.structs.replace(part(*asked), version=2**64 - 1)
        )
        world.services._handlers |= world.sharing.handlers
        assert (await life.pull()).code == "sharing.damaged"
        assert world.journal.execute("SELECT DISTINCT state FROM intents").fetchall() == [("refused",)]

    run(main())


def test_rows_that_are_nested_without_end_are_refused():
    """S3: however deep the words of what is wrong would go."""
    resource = BY_NAME[SET]

    async def main() -> None:
        for depth in range(900, 1_000):
            row = b'{"code":' + b"[" * depth + b"]" * depth + b"}\n"
            with pytest.raises(Refused) as refusal:
                await quality.check_lines(resource, row, 1)
            assert refusal.value.code == "sharing.bad_rows"

    run(main())


def test_a_data_set_that_is_too_large_is_refused(world, monkeypatch):
    monkeypatch.setattr(datasets, "MOST_BYTES", 5_000)

    async def main() -> None:
        life = await begun(world)
        assert (await life.pull()).code == "sharing.too_large"
        assert parts(world) == 1

    run(main())


def test_rows_are_shown_from_what_is_here_without_a_line(world):
    """S2: and no older than the resource's limit (S3)."""

    async def main() -> None:
        life = await begun(world)
        nothing = await life.pull(pull=False, most=3)
        assert (nothing.outcome, nothing.code) == ("refused", "sharing.no_dataset")
        assert (await life.pull()).outcome == "done"
        life.line.is_down = True
        everything = []
        for first in range(0, 35, 7):
            page = await life.pull(pull=False, first=first, most=7)
            assert page.outcome == "done"
            everything += page.rows
        assert [row["code"] for row in everything] == [f"m{number:06d}" for number in range(30)]
        assert (await life.pull(most=1)).code == "line.down"
        world.skew = DAY + 61
        stale = await life.pull(pull=False, most=1)
        assert (stale.outcome, stale.code, stale.rows) == ("refused", "sharing.stale", [])
        assert stale.version == 1

    run(main())


def test_one_that_is_still_current_costs_one_empty_part_and_is_young_again(world):
    """S6: nothing is paid for what is here."""

    async def main() -> None:
        life = await begun(world)
        first = await life.pull()
        before = parts(world)
        world.skew = 3_600.0
        second = await life.pull()
        assert (second.outcome, second.version) == ("done", 1)
        assert second.as_of_unix == first.as_of_unix + 3_600
        assert parts(world) == before + 1
        assert world.journal.execute("SELECT min(units), count(*) FROM metering").fetchone() == (0, before + 1)

    run(main())


def test_a_full_disk_keeps_what_is_here_and_loses_no_count(world):
    """S6, L28: the pull is refused, and goes on once there is room."""

    async def main() -> None:
        life = await begun(world)
        pages = world.journal.execute("PRAGMA page_count").fetchone()[0]
        world.journal.execute(f"PRAGMA max_page_count = {pages + 2}")
        answer = await life.pull()
        assert (answer.outcome, answer.code) in {("refused", "journal.write_failed"), ("refused", "journal.disk_full")}
        assert answer.version is None
        world.journal.execute("PRAGMA max_page_count = 100000")
        assert (await life.pull()).outcome == "done"
        await life.settle()
        assert world.metered() == world.uses()
        assert is_right(world, await life.kept())

    run(main())


def test_suspension_in_the_middle_of_a_pull_keeps_what_is_here_for_later(world):
    """S7."""

    async def main() -> None:
        life = await begun(world)
        Trouble(world, ["", "", ""]).attach(life)

        def arrears(received: int, _total: int) -> None:
            if received == 4_000:
                world.sharing.suspend(tell=False)

        answer = await life.pull(on_progress=arrears)
        assert (answer.outcome, answer.code, answer.retry) == ("refused", "sharing.suspended", False)
        assert answer.pulled_bytes == 4_000
        assert life.grants.state == "suspended"
        before = parts(world)
        assert (await life.pull()).code == "sharing.suspended"
        assert parts(world) == before, "nothing leaves while it is suspended"
        world.sharing.suspend(on=False, tell=False)
        await life.fetch()
        assert life.grants.state == "active"
        answer = await life.pull()
        assert (answer.outcome, answer.version) == ("done", 1)
        assert world.metered() == world.uses()

    run(main())
