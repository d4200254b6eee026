"""The simulation's judge where something is not as it must be, beside where it is: papers, memory, power, tickets."""

import asyncio
import sqlite3
from dataclasses import replace

import msgspec
import pytest
import structlog

from devices.personal import Kind as PersonalKind
from devices.personal import PersonalBytes, PersonalText
from runtime.messages import SupervisionEvent
from sim.devices import escpos
from sim.devices.paper import Paper
from sim.devices.printer import VirtualPrinter
from sim.simulate import reckoning
from sim.simulate.excuses import SETTLING_SECONDS, STEPS
from sim.simulate.faults import Window
from sim.simulate.held import LOOKED_AT, unwiped
from sim.simulate.judge import Judge, Ticket
from sim.simulate.kinds import KINDS
from sim.simulate.papers import print_plainly
from sim.simulate.people import People
from sim.simulate.trace import Trace
from sim.simulate.way_down import STEPS as POWER_STEPS
from sim.simulate.way_down import Moment
from sim.virtual_time import run

WELL = dict.fromkeys(("session", "idcard", "vision", "camera", "platform", "printer"), "online") | {"session": "none"}


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def judge(tmp_path, clock):
    people = People()
    for _ in range(3):
        people.next()
    judge = Judge(Trace(lambda: clock[0]), people, tmp_path / "audit.jsonl")
    judge.availability.board(dict(WELL), 0)
    return judge


@pytest.fixture
def plainly(monkeypatch):
    for name in ("Font", "compose", "qr_code"):
        monkeypatch.setattr(escpos, name, getattr(escpos, name))
    print_plainly()


def window(name: str, since: float, until: float) -> Window:
    return Window(next(kind for kind in KINDS if kind.name == name), since, until)


def sheet(text: str) -> Paper:
    return Paper(384, text.encode().ljust(48 * 30, b"\0"))


def test_text_on_paper_can_be_searched(plainly):
    """Whatever the printer is told in letters or in a QR code is found on the paper, however long the line is."""
    papers = []
    printer = VirtualPrinter(width_dots=384, on_paper=papers.append)
    printer.feed("单号 C-7K2M-Q9XD-4 样本号000002 990101199001011230\n".encode("gb18030"))
    code = b"https://platform.example/verify/0123456789ABCDEF"
    size = len(code) + 3
    printer.feed(b"\x1d(k" + bytes((size, 0)) + b"1P0" + code + b"\x1d(k\x03\x001Q0")
    printer.feed(b"\x1dVB\x60")
    (paper,) = papers
    assert "C-7K2M-Q9XD-4 样本号000002 990101199001011230".encode() in paper.rows
    assert code in paper.rows


def counted(judge: Judge, *, done: int, unknown: int = 0) -> list[str]:
    platform = sqlite3.connect(":memory:")
    platform.execute("CREATE TABLE certificate_issues (receipt TEXT, id_number TEXT)")
    issued = [("C-2222-2222-2", judge.person(2).citizen.id_number)]
    platform.executemany("INSERT INTO certificate_issues VALUES (?, ?)", issued)
    events = [
        SupervisionEvent("t" * 16, "print", outcome, None, 1.0, 0.5, "boot", rig=True)
        for outcome, times in (("done", done), ("unknown", unknown))
        for _ in range(times)
    ]
    whose = {judge.person(number).citizen.id_number: number for number in range(3)}
    judge.papers.reckon(judge.owners, whose, platform, events)
    platform.close()
    return judge.violations


def printed(judge: Judge, ordinal: int, number: str, paper: str = "printed") -> None:
    judge.told(
        judge.person(ordinal), "session.request_certificate", {"outcome": "done", "receipt": number, "paper": paper}
    )


def test_each_paper_that_was_told_of_is_there_once(judge):
    """One told as printed, one of which nobody knows, one whose citizen heard nothing, and a scrap of nobody."""
    judge.sees(judge.person(0))
    judge.printed(sheet("C-0000-0000-0"))
    printed(judge, 0, "C-0000-0000-0")
    printed(judge, 0, "C-0000-0000-1", paper="unknown")
    judge.sees(judge.person(2))
    judge.printed(sheet("C-2222-2222-2"))
    judge.refused(judge.person(2), "session.request_certificate", "screen.lost")
    judge.sees(None)
    judge.printed(sheet("a caption"))
    judge.printed(sheet("C-0000-0000-1 " + judge.person(0).words))
    judge.owners["C-0000-0000-1"] = 0
    assert counted(judge, done=2, unknown=2) == []


@pytest.mark.parametrize(
    ("pieces", "told", "found"),
    [
        (0, 1, "citizen 0 was told 1 times that a paper is printed that is not there"),
        (2, 1, "2 papers came out for citizen 0, who was told of 1 printed and 0 unknown"),
        (1, 0, "1 papers came out for citizen 0, who was told of 0 printed and 0 unknown"),
    ],
)
def test_a_paper_that_is_lost_or_comes_twice_is_told(judge, pieces, told, found):
    judge.owners["C-0000-0000-0"] = 0
    judge.sees(judge.person(0))
    for _ in range(pieces):
        judge.printed(sheet("C-0000-0000-0"))
    for _ in range(told):
        printed(judge, 0, "C-0000-0000-0")
    assert found in counted(judge, done=pieces)


def test_a_paper_of_another_is_told(judge):
    """By its number, by its values; one of two; one of nobody knows whom."""
    judge.owners |= {"C-0000-0000-0": 0, "C-1111-1111-1": 1}
    judge.sees(judge.person(1))
    judge.printed(sheet("C-0000-0000-0"))
    judge.printed(sheet(judge.person(2).citizen.address))
    judge.printed(sheet(judge.person(0).words + "C-1111-1111-1"))
    judge.printed(sheet("C-9999-9999-9"))
    judge.sees(None)
    judge.printed(sheet("C-1111-1111-1"))
    found = counted(judge, done=5)
    assert "a paper of citizen 0 came out in the session of citizen 1" in found
    assert "a paper of citizen 2 came out in the session of citizen 1" in found
    assert "a paper of citizen 1 came out in the session of nobody" in found
    assert "a paper is of the citizens 0, 1" in found
    assert "a paper has a number that nobody was given" in found


def test_papers_are_what_the_events_say(judge):
    judge.sees(judge.person(2))
    judge.printed(sheet("C-2222-2222-2"))
    printed(judge, 2, "C-2222-2222-2")
    assert counted(judge, done=2) == ["1 papers came out, and events tell of 2 done and 0 unknown"]


def looked(judge: Judge, held: list[object], *, opens_again: bool = False) -> list[str]:
    async def main() -> None:
        judge.changed("session", "clearing")
        await asyncio.sleep(0.5)
        if opens_again:
            judge.changed("session", "open")
        await asyncio.sleep(1)

    run(main())
    assert held
    return judge.violations


def test_what_a_session_held_is_wiped_within_a_second(judge):
    judge.held.forget()
    held = [PersonalText(judge.person(1).words, PersonalKind.NAME), PersonalBytes(b"a photo")]
    for one in held:
        one.wipe()
    assert looked(judge, held) == []
    assert judge.held.looks == 1


def test_what_is_left_of_a_session_is_told(judge):
    judge.held.forget()
    held = [PersonalText(judge.person(1).words, PersonalKind.NAME), PersonalBytes(b"a photo")]
    assert sorted(looked(judge, held)) == [
        "1 s after a session the daemon holds bytes of somebody",
        "1 s after a session the daemon holds name of citizen 1",
    ]
    judge.held.forget()
    assert unwiped() == [], "of a process that is gone nothing is held"


def test_what_the_next_session_holds_is_its_own(judge):
    held = [PersonalText(judge.person(1).words, PersonalKind.NAME)]
    assert looked(judge, held, opens_again=True) == []
    assert judge.held.looks == 0
    judge.held.forget()


def test_one_of_ten_sessions_is_looked_at(judge):
    judge.held.forget()
    for _ in range(LOOKED_AT * 2):
        looked(judge, [1])
    assert judge.held.looks == 2


def moment(**changes: object) -> Moment:
    journal = sqlite3.connect(":memory:", isolation_level=None)
    journal.execute("CREATE TABLE intents (kind TEXT, state TEXT)")
    journal.execute("CREATE TABLE records (schema TEXT, body BLOB)")
    for step in ("no_return", *POWER_STEPS[:-1]):
        told = SupervisionEvent("t" * 16, f"power.{step}", "done", None, 1.0, 0.5, "boot", rig=True)
        journal.execute("INSERT INTO records VALUES ('supervision.event', ?)", (msgspec.msgpack.encode(told),))
    well = Moment("none", False, False, False, journal, 1)
    return replace(well, **changes)


def goes_down(judge: Judge, codes: dict[str, str | None] | None = None) -> None:
    judge.way_down.logged({"event": "power_changed", "state": "going_down"}, "none")
    for step in POWER_STEPS:
        judge.way_down.logged({"event": "power_step", "step": step, "code": (codes or {}).get(step)}, "none")


def test_a_terminal_that_went_all_the_way_is_powered_off(judge):
    goes_down(judge)
    judge.way_down.off(moment())
    assert judge.violations == []
    assert judge.way_down.ends == 1


@pytest.mark.parametrize(
    ("changes", "step", "what"),
    [
        ({"has_card_inside": True}, "cards", "left a bank card in the reader"),
        ({"session": "verified"}, "end", "left a session verified"),
        ({"is_signing": True}, "wipe", "left the identity key"),
        ({"is_connected": True}, "wipe", "left the line to the platform"),
        ({"checkpoints": 0}, "checkpoint", "left the journal's log"),
    ],
)
def test_what_a_step_left_undone_is_told_with_its_name(judge, changes, step, what):
    goes_down(judge)
    judge.way_down.off(moment(**changes))
    assert judge.violations == [f"the power plan's step {step} {what}, and nothing was wrong"]


def test_a_print_that_is_open_and_a_result_that_is_not_noted_are_told(judge):
    goes_down(judge)
    left = moment()
    left.journal.execute("INSERT INTO intents VALUES ('print', 'open')")
    left.journal.execute("DELETE FROM records WHERE rowid = (SELECT max(rowid) FROM records)")
    judge.way_down.off(left)
    assert judge.violations == [
        "the power plan's step print left a print open, and nothing was wrong",
        "the power plan's step results left the result of ups out of the journal, and nothing was wrong",
    ]


def test_a_step_that_is_skipped_is_told(judge):
    goes_down(judge)
    judge.way_down.logged({"event": "power_changed", "state": "going_down"}, "none")
    judge.way_down.logged({"event": "power_step", "step": "session", "code": None}, "none")
    judge.way_down.off(moment())
    assert judge.violations == ["the power plan went by the steps session"]


def test_a_card_that_is_retained_on_the_way_down_is_told(judge, clock):
    """T5: a card that nobody takes stays at the gate."""
    taken = {"event": "left_behind", "device": "cardreader", "outcome": "taken_in"}
    judge.way_down.logged(taken, "clearing")
    clock[0] = 1.0
    goes_down(judge)
    assert judge.violations == []
    judge.way_down.logged(taken, "clearing")
    assert judge.violations == ["the power plan's step cards: a card is retained that is to stay at the gate"]


def test_only_a_fault_of_its_own_device_excuses_a_step(judge):
    slow = "power.step_too_slow"
    judge.windows.append(window("printer.off", 0, 50))
    goes_down(judge, {"cards": slow, "print": slow, "ups": slow})
    judge.way_down.off(moment())
    assert judge.violations == [f"the power plan's step ups ended as {slow}, and nothing was wrong"]
    assert any(f"step print ended as {slow}, excused by printer.off" in line for line in judge._trace.lines)


def ticketed(judge: Judge, *windows: Window, tickets: tuple[Ticket, ...] = ()) -> list[str]:
    judge.windows += windows
    judge.tickets |= {str(number): ticket for number, ticket in enumerate(tickets)}
    for one in windows:
        if one.kind.needs_ticket:
            reckoning._expect_ticket(judge, one)
    return judge.violations


def test_a_fault_that_lasts_has_a_ticket_until_it_is_over(judge):
    fault = window("printer.unplug", 100, 500)
    assert ticketed(judge, fault, tickets=(Ticket("printer", "printer.offline", 165, 501),)) == []
    assert judge.ticketed == 1


@pytest.mark.parametrize(
    "tickets",
    [
        (),
        (Ticket("idcard", "idcard.offline", 165, 501),),
        (Ticket("printer", "printer.offline", 320, 501),),
        (Ticket("printer", "printer.offline", 165, 300),),
    ],
)
def test_a_fault_without_a_ticket_is_told(judge, tickets):
    """None, another device's, one too late, one that is closed while the fault lasts."""
    found = ticketed(judge, window("printer.unplug", 100, 500), tickets=tickets)
    assert found == ["printer.unplug lasted 400 s, and there is no ticket of it"]


def test_what_is_wrong_elsewhere_excuses_no_ticket(judge):
    """Another device's fault, mains that fail; the same device's own counts from when it begins."""
    others = (
        window("idcard.garbage_replies", 0, 600),
        window("mains.off", 50, 300),
        window("printer.silent", 400, 450),
    )
    found = ticketed(judge, window("printer.unplug", 100, 500), *others)
    assert found == ["printer.unplug lasted 400 s, and there is no ticket of it"]
    judge.violations.clear()
    judge.windows.clear()
    assert ticketed(judge, window("printer.off", 200, 500), window("printer.garbage_replies", 250, 270)) == []


def test_a_daemon_that_was_away_begins_anew(judge):
    judge.availability.outages.append(("daemon", 150, 320))
    assert ticketed(judge, window("printer.unplug", 100, 500)) == []
    assert judge.ticketed == 0
    judge.windows.clear()
    found = ticketed(judge, window("printer.unplug", 100, 600))
    assert found == ["printer.unplug lasted 500 s, and there is no ticket of it"]


def test_a_ticket_whose_opening_a_kill_kept_from_the_log_is_known_by_its_closing(judge, clock):
    clock[0] = 501.0
    with pytest.raises(structlog.DropEvent):
        judge.logged(None, "info", {"event": "ticket_closed", "ticket": "t", "device": "printer", "seconds": 400.5})
    assert judge.tickets["t"] == Ticket("printer", "untold", 160.5, 501, 400.5)
    assert ticketed(judge, window("printer.unplug", 100, 500)) == []


def comes(judge: Judge, since: float, how: str, visit: str = "certificate", *, is_well: bool = False) -> list[str]:
    judge.violations.clear()
    judge.visit_ended(
        judge.person(0), how, visit=visit, since=since, now=since + 60, is_demanding=True, is_well=is_well
    )
    return list(judge.violations)


REFUSED = "session.request_certificate: refused"
NOT_SERVED = [f"citizen 0 was not served with certificate, and nothing was wrong: {REFUSED}"]


def test_only_what_a_visit_needs_excuses_it(judge):
    """A printer does not excuse who could not be verified, nor a card reader who wanted a certificate."""
    judge.windows += [window("printer.off", 100, 150), window("cardreader.jam", 100, 3_000)]
    assert comes(judge, 60, REFUSED) == []
    assert comes(judge, 60, "session.verify_identity: refused") != []
    assert comes(judge, 150 + SETTLING_SECONDS, REFUSED) == []
    assert comes(judge, 151 + SETTLING_SECONDS, REFUSED) == NOT_SERVED
    assert comes(judge, 60, REFUSED, is_well=True) == NOT_SERVED, "when every fault is over none excuses"
    assert comes(judge, 1_000, "walked away") == []


def test_a_fault_of_the_platform_excuses_only_those_whom_it_concerns(judge):
    judge.windows += [window("bank.refuses", 0, 500), window("platform.receiptless", 0, 500)]
    assert comes(judge, 60, "payment: refused", "fee_by_card") == []
    assert comes(judge, 60, REFUSED) == NOT_SERVED
    judge.windows.append(window("platform.out", 0, 500))
    assert comes(judge, 60, REFUSED) == []


def test_what_the_board_tells_excuses_as_long_as_it_tells_it(judge):
    judge.windows.append(window("printer.off", 100, 150))
    judge.availability.change("printer", "offline", 110)
    assert comes(judge, 800, REFUSED) == []
    assert comes(judge, 800, "progress.mine: refused", "progress") != []
    judge.availability.change("printer", "online", 900)
    assert comes(judge, 850, REFUSED) == []
    assert comes(judge, 901, REFUSED) == NOT_SERVED


def test_a_daemon_that_is_away_excuses_by_its_absence_alone(judge):
    judge.windows += [window("daemon.killed", 100, 1_000), window("daemon.stopped", 700, 705)]
    assert comes(judge, 300, REFUSED) == NOT_SERVED
    judge.availability.board(None, 400)
    judge.availability.board(dict(WELL), 420)
    assert comes(judge, 640, "session.consent: session.ended") == [], "a stop in order ends the session before"
    assert comes(judge, 420 + SETTLING_SECONDS, REFUSED) == []
    assert comes(judge, 421 + SETTLING_SECONDS, REFUSED) == NOT_SERVED


def test_every_component_of_a_step_can_fail():
    """A name that no fault has would excuse nothing, for ever."""
    assert {name for names in STEPS.values() for name in names} <= {kind.target for kind in KINDS}
