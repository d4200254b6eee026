"""The catalogue of matters: fetched, checked, switched as a whole, rolled back; offered as devices allow (T17)."""

import asyncio
import sqlite3

import msgspec
import pytest

from runtime import texts
from runtime.journal import JournalError
from runtime.messages.matters import CatalogueIssue, catalogue_content
from runtime.services.catalogue import CatalogueError
from runtime.services.steps import Refused
from runtime.state import Component
from sim.virtual_time import run
from tests.runtime.matters_rig import (
    BARE,
    FORMS,
    MATERIALS,
    PAID,
    PDF,
    PLAIN,
    SEAL,
    SIGNING,
    WITHDRAWN,
    Terminal,
    World,
    has_catalogue,
    living,
    served,
    tell,
)
from transport.sm import sm3


def shown(terminal: Terminal) -> tuple[str, str | None, dict]:
    component = terminal.board.get("catalogue")
    return component.state, component.code, dict(component.details)


def kept(terminal: Terminal) -> list[tuple[int, str]]:
    return terminal.rows("SELECT version, state FROM catalogues ORDER BY version")


def test_it_is_fetched_at_the_start_and_kept():
    async def story(world: World, terminal: Terminal) -> None:
        assert shown(terminal) == ("current", None, {"version": "1"})
        assert kept(terminal) == [(1, "current")]
        assert len(terminal.matters.offers()) >= 12
        await terminal.settled()
        assert world.events() == [("check_catalogue", "done", None), ("switch_catalogue", "done", None)]

    tell(story)


def test_the_next_quarter_is_switched_to_at_once_when_it_is_announced():
    async def story(world: World, terminal: Terminal) -> None:
        began = asyncio.get_running_loop().time()
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 2)
        assert asyncio.get_running_loop().time() - began < 2
        assert shown(terminal) == ("current", None, {"version": "2", "previous": "1", "announced": "2"})
        assert kept(terminal) == [(1, "previous"), (2, "current")]
        names = {offer.matter for offer in terminal.matters.offers()}
        assert WITHDRAWN not in names
        assert "talent_subsidy" in names
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 3)
        assert kept(terminal) == [(2, "previous"), (3, "current")]

    tell(story)


def test_a_terminal_that_was_away_catches_up_when_the_line_is_back():
    async def story(world: World, terminal: Terminal) -> None:
        world.platform.faults.outage()
        world.matters.publish()
        await asyncio.sleep(4_000)  # the announcement expires
        world.platform.faults.mend()
        await asyncio.sleep(6 * 3600)
        assert terminal.version == 2

    tell(story)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("signature", "catalogue.bad_signature"),
        ("digest", "catalogue.digest_mismatch"),
        ("json", "catalogue.malformed"),
        ("schema", "catalogue.bad_schema"),
        ("device", "catalogue.unknown_device"),
        ("older", "catalogue.older"),
    ],
)
def test_what_does_not_load_is_never_switched_to_and_the_platform_hears_why(how, code):
    """T17, T12; the next good one is taken."""

    async def story(world: World, terminal: Terminal) -> None:
        world.platform.faults.spoil_catalogue(how)
        world.matters.publish()
        await terminal.until(lambda: shown(terminal)[1] is not None)
        expected = "catalogue.digest_mismatch" if how in ("json", "schema", "device") else code
        assert shown(terminal)[:2] == ("current", expected)
        assert terminal.version == 1
        assert kept(terminal) == [(1, "current")]
        await terminal.settled()
        assert world.events()[-1] == ("check_catalogue", "refused", expected)
        world.platform.faults.mend()
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 3)
        assert shown(terminal)[1] is None

    tell(story)


def spoiled(content: bytes, **change) -> bytes:
    said = msgspec.json.decode(content)
    said["matters"][0] |= change
    return msgspec.json.encode(said)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda content: content[:-1], "catalogue.malformed"),
        (lambda content: b"[]", "catalogue.malformed"),
        (lambda content: b"\xff", "catalogue.malformed"),
        (lambda content: content.replace(b'"version":2', b'"version":7', 1), "catalogue.malformed"),
        (lambda content: spoiled(content, id=PAID), "catalogue.malformed"),
        (lambda content: spoiled(content, fee_fen=-1), "catalogue.malformed"),
        (lambda content: spoiled(content, id="no name"), "catalogue.malformed"),
        (lambda content: spoiled(content, form={"type": "object"}), "catalogue.bad_schema"),
        (lambda content: spoiled(content, devices=["crystal_ball"]), "catalogue.unknown_device"),
    ],
)
def test_each_way_a_signed_content_can_be_wrong(spoil, code):
    """Signed and not announced, so that nothing but the content itself is wrong."""

    async def story(world: World, terminal: Terminal) -> None:
        world.uplink.stop()
        world.matters.publish()
        row = world.store.database.execute("SELECT content FROM catalogues WHERE version = 2").fetchone()
        content = spoil(row[0])
        issue = CatalogueIssue(2, content, SIGNING.sign(catalogue_content(2, sm3(content))))
        await terminal.matters._take(issue)
        assert shown(terminal)[1] == code
        assert code in texts.codes()
        assert terminal.version == 1

    tell(story)


def test_a_forged_catalogue_is_none():
    """T17: signed by somebody else, or for another version."""

    async def story(world: World, terminal: Terminal) -> None:
        content = world.store.database.execute("SELECT content FROM catalogues").fetchone()[0]
        content = content.replace(b'"version":1', b'"version":2', 1)
        for signature in (
            SEAL.sign(catalogue_content(2, sm3(content))),
            SIGNING.sign(catalogue_content(1, sm3(content))),
            SIGNING.sign(content),
            b"",
        ):
            await terminal.matters._take(CatalogueIssue(2, content, signature))
            assert shown(terminal)[1] == "catalogue.bad_signature"
        assert terminal.version == 1

    tell(story)


def test_an_operator_rolls_back_and_it_stays_so_until_the_next_version():
    """T17, H7: audited, told, kept over a restart; the version that is left is not fetched again."""

    async def story(world: World, terminal: Terminal) -> None:
        with pytest.raises(CatalogueError, match="no earlier version"):
            await terminal.matters.roll_back("uid 1002")
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 2)
        assert (await terminal.matters.roll_back("uid 1002")).version == 1
        assert shown(terminal)[:2] == ("current", "catalogue.rolled_back")
        assert terminal.audit.lines[-1] == ("catalogue_rolled_back", "uid 1002", {"from": 2, "to": 1})
        await asyncio.sleep(7 * 3600)
        assert terminal.version == 1
        with pytest.raises(CatalogueError, match="no earlier version"):
            await terminal.matters.roll_back("uid 1002")
        await terminal.settled()
        assert world.events()[-1] == ("roll_back_catalogue", "done", "catalogue.rolled_back")
        again = Terminal(world, terminal.database)
        await again.open()
        assert again.version == 1
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 3)
        assert kept(terminal) == [(1, "previous"), (3, "current")]

    tell(story)


def test_a_restart_without_a_line_has_the_catalogue():
    async def main() -> None:
        async with served() as world:
            database = sqlite3.connect(":memory:")
            async with living(Terminal(world, database)) as terminal:
                await terminal.until(lambda: has_catalogue(terminal))
            world.uplink.stop()
            async with living(Terminal(world, database)) as terminal:
                await asyncio.sleep(1)
                assert terminal.version == 1
                assert terminal.matters.reasons(terminal.matters.find(BARE)[1]) != []
            database.close()

    run(main())


def test_one_that_no_longer_loads_at_the_start_is_rolled_back():
    """T17: a disk that lost a byte, or a release that reads another form: the previous one serves."""

    async def story(world: World, terminal: Terminal) -> None:
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 2)
        terminal.database.execute("UPDATE catalogues SET content = x'7B7D' WHERE version = 2")
        terminal.database.commit()
        again = Terminal(world, terminal.database)
        await again.open()
        assert again.version == 1
        assert shown(again)[:2] == ("current", "catalogue.bad_signature")
        terminal.database.execute("UPDATE catalogues SET content = x'7B7D'")
        terminal.database.commit()
        third = Terminal(world, terminal.database)
        await third.open()
        assert shown(third)[:2] == ("none", "catalogue.bad_signature")
        with pytest.raises(Refused, match="no catalogue"):
            third.matters.find(PLAIN)

    tell(story)


def test_one_that_no_longer_loads_is_fetched_again():
    """T17: nobody has to wait for the next quarter."""

    async def main() -> None:
        async with served() as world:
            database = sqlite3.connect(":memory:")
            async with living(Terminal(world, database)) as terminal:
                await terminal.until(lambda: has_catalogue(terminal))
            database.execute("UPDATE catalogues SET content = x'7B7D'")
            database.commit()
            async with living(Terminal(world, database)) as terminal:
                await terminal.until(lambda: has_catalogue(terminal))
                assert shown(terminal)[:2] == ("current", None)
                assert kept(terminal) == [(1, "current")]
            database.close()

    run(main())


def test_a_disk_that_fails_while_it_is_switched_leaves_the_version_before(monkeypatch):
    """Atomic: the journal has both changes and the event, or none; memory follows the journal."""

    async def story(world: World, terminal: Terminal) -> None:
        write = terminal.journal.write

        async def broken(work, event=None):
            def half(db: sqlite3.Connection) -> None:
                work(db)
                raise sqlite3.OperationalError("disk I/O error")

            return await write(half, event)

        monkeypatch.setattr(terminal.journal, "write", broken)
        world.matters.publish()
        with pytest.raises((JournalError, AssertionError)):
            await terminal.until(lambda: terminal.version == 2, seconds=20)
        assert (terminal.version, kept(terminal)) == (1, [(1, "current")])
        monkeypatch.setattr(terminal.journal, "write", write)
        await terminal.until(lambda: terminal.version == 2)
        assert kept(terminal) == [(1, "previous"), (2, "current")]

    tell(story)


def test_offers_follow_the_devices_and_the_line():
    async def story(world: World, terminal: Terminal) -> None:
        def reasons(matter: str) -> list[tuple[str, str]]:
            offer = next(one for one in terminal.matters.offers() if one.matter == matter)
            return [(reason.component, reason.code) for reason in offer.reasons]

        assert reasons(PLAIN) == reasons(BARE) == reasons(PAID) == []
        terminal.board.set("document_camera", Component("userError", "camera.covered"))
        assert reasons(PLAIN) == [("document_camera", "camera.covered")]
        assert reasons(BARE) == []
        session = await terminal.citizen()
        begun = await terminal.applications.begin(session, PLAIN)
        assert (begun.code, begun.retry, begun.receipt) == ("matter.unavailable", True, None)
        assert [reason.code for reason in begun.reasons] == ["camera.covered"]
        assert begun.reasons[0].text == texts.text("camera.covered").zh
        terminal.board.set("document_camera", Component("deviceBusy"))
        assert reasons(PLAIN) == []
        terminal.board.set("pinpad", Component("starting"))
        assert reasons(PAID) == [("pinpad", "device.not_ready")]
        terminal.board._components.pop("cardreader")
        assert ("cardreader", "device.missing") in reasons(PAID)
        world.uplink.stop()
        await terminal.until(lambda: reasons(BARE))
        assert reasons(BARE) == [("platform", "line.down")]

    tell(story)


def test_without_a_catalogue_there_is_a_clear_answer():
    async def main() -> None:
        async with served() as world:
            world.uplink.stop()
            database = sqlite3.connect(":memory:")
            async with living(Terminal(world, database)) as terminal:
                await asyncio.sleep(15)
                assert shown(terminal) == ("none", None, {})
                with pytest.raises(CatalogueError) as caught:
                    terminal.matters.offers()
                assert caught.value.code == "catalogue.none"
                world.uplink.start()
                await terminal.until(lambda: has_catalogue(terminal))
            database.close()

    run(main())


def test_thirty_citizens_apply_while_the_quarter_changes():
    """T17 under load: each application keeps its version, and only what the platform cannot take is refused."""

    async def story(world: World, terminal: Terminal) -> None:
        async def serve(number: int) -> tuple[int, str | None]:
            await asyncio.sleep(number * 0.3)
            matter = (PLAIN, BARE, WITHDRAWN)[number % 3]
            session = await terminal.citizen()
            begun = await terminal.applications.begin(session, matter)
            if begun.outcome != "done":
                return 0, begun.code
            await asyncio.sleep(1)
            session = await _filled(terminal, session, matter)
            version = session.application.catalogue_version
            return version, (await terminal.file(session)).code

        serving = [asyncio.create_task(serve(number)) for number in range(30)]
        await asyncio.sleep(4)
        world.matters.publish()
        ends = await asyncio.gather(*serving)
        assert {version for version, _ in ends} == {0, 1, 2}
        assert {code for version, code in ends if version == 0} == {"matter.unknown"}
        assert {code for version, code in ends if version} <= {None, "matter.withdrawn"}
        assert sum(code is None for _, code in ends) == len(world.filings()) >= 20
        assert not [name for name in world.store.counters() if name.startswith("complaint")]

    tell(story)


async def _filled(terminal: Terminal, session, matter: str):
    version = session.application.catalogue_version
    extra = {"education": "高中"} if (matter, version) == (BARE, 2) else {}
    assert (await terminal.applications.form(session, FORMS[matter] | extra)).outcome == "done"
    for material in MATERIALS[matter]:
        session.keep_document(PDF, 1)
        await terminal.applications.material(session, material)
    return session
