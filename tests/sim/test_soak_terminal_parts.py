"""What `govterm soak terminal` is made of: the keeper and its watchdog, the counts, the gauges, the search."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from runtime.journal.schema import prepare
from runtime.messages import SupervisionEvent
from runtime.services.printing import PRINT
from sim.citizens.ledger import Line, Step
from sim.people import make_citizen
from sim.platform import bank, orders, payment_orders
from sim.platform.services import applications
from sim.platform.store import Store
from sim.soak import gauges, keeper
from sim.soak.books import Books, Charges, Events, Papers, Receipts, Records, bugs, count
from sim.soak.gauges import Gauge, Gauges
from sim.soak.keeper import Keeper, Watchdog
from sim.soak.mishaps import MISHAPS, schedule
from sim.soak.search import brought, search
from sim.soak.stage import children, stop
from sim.soak.terminal_report import recoveries
from sim.soak.visitors import Came, Left, Visitors, write

TALKS = """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
    line.connect(os.environ["NOTIFY_SOCKET"])
    while True:
        line.send(b"WATCHDOG=1")
        time.sleep(0.05)
"""

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
time.sleep(600)
"""


class Copy:
    """A journal, a platform's database and a tray of paper, written as in a run in which all is right."""

    def __init__(self, directory: Path) -> None:
        self.journal_file, self.platform_file = directory / "journal.db", directory / "platform.db"
        self.paper = directory / "paper"
        self.paper.mkdir()
        self.journal = sqlite3.connect(self.journal_file, isolation_level=None)
        prepare(self.journal)
        self.store = Store(self.platform_file)
        self.platform = self.store.database
        for module in (bank, orders, payment_orders, applications):
            self.platform.executescript(module.SCHEMA)
        self.told: list[Step] = []
        self.receipts: list[str] = []
        self.records = 0

    def event(self, step: str, outcome: Any = "done", *, body: bytes | None = None) -> None:
        """Journal, deliver and tell a step."""
        self.records += 1
        told = (step, outcome, None, float(self.records))
        self.told.append(told)
        event = SupervisionEvent("t", step, outcome, None, 1.0, told[3], "boot", rig=True)
        encoded = msgspec.msgpack.encode(event)
        self.journal.execute(
            "INSERT INTO records VALUES ('s-1', ?, 'supervision.event', 1, ?)", (self.records, encoded)
        )
        self.journal.execute("INSERT OR REPLACE INTO cursors VALUES ('s-1', ?)", (self.records,))
        place, as_json = ("T", "s-1", self.records), msgspec.json.encode(event).decode()
        self.store.add_record(place, "supervision.event", 1, body or encoded, event=as_json, at=1.0)

    def file(self, receipt: str, *, fee_fen: int = 0, intent: bool = True) -> None:
        """File an application, told with its number."""
        self.receipts.append(receipt)
        self.platform.execute(
            "INSERT INTO filings VALUES (?, 'T', 'id', 1, 'm', 1, 't', x'', ?, NULL, 'accepted', '', 1, NULL)",
            (receipt, fee_fen),
        )
        if intent:
            row = (receipt, "file", "done", receipt)
            self.journal.execute(
                "INSERT INTO intents (key, kind, transaction_id, state, opened_at, name) VALUES (?, ?, 't', ?, 1.0, ?)",
                row,
            )

    def order(self, order: str, *bookings: str, spent: str | None) -> None:
        """Open an order for the receipt `A-1`, and book charges and reversals."""
        self.platform.execute(
            "INSERT INTO payment_orders"
            " (order_id, terminal, method, amount_fen, purpose, id_number, state, opened_at, at, spent_on)"
            " VALUES (?, 'T', 'm', 1, 'A-1', 'id', 's', 1, 1, ?)",
            (order, spent),
        )
        for kind in bookings:
            row = (order, kind)
            self.platform.execute(
                "INSERT INTO bank_ledger (order_id, kind, account, amount_fen, at) VALUES (?, ?, '', 1, 1)", row
            )

    def count(self) -> Books:
        self.store.commit()
        lines = [Line(0, "certificate", "m", 1.0, "done", None, self.told)]
        return count(lines, self.receipts, self.journal_file, self.platform_file, self.paper)


@pytest.fixture
def copy(tmp_path: Path) -> Any:
    copy = Copy(tmp_path)
    copy.event("verify")
    copy.event(PRINT)
    (copy.paper / "0001.png").touch()
    copy.file("A-1", fee_fen=8_000)
    copy.order("o-1", "charge", spent="A-1")
    copy.order("o-2", "charge", "reversal", spent=None)
    copy.order("o-3", spent=None)
    yield copy
    copy.journal.close()
    copy.store.close()


def test_books_of_a_run_in_which_all_is_right(copy: Copy) -> None:
    """T10, T12."""
    assert copy.count() == Books(
        Records(received=2, lost=0, doubled=0, altered=0),
        Events(told=2, received=2, missing=0),
        Receipts(told=1, filed=1, registered=0, lost=0, unfounded=0),
        Charges(orders=3, charged=2, given_back=1, doubled=0, unaccounted=0),
        Papers(pieces=1, done=1, unknown=0, unaccounted=0),
        [],
    )


def test_records_that_are_lost_doubled_and_altered(copy: Copy) -> None:
    """T12: by place and content; a step that was told and is nowhere is missing as well."""
    copy.event("altered", body=b"something else")
    copy.event("lost")
    copy.platform.execute("DELETE FROM records WHERE sequence = 4")
    copy.platform.execute(
        "INSERT INTO records (terminal, stream, sequence, schema, version, body, event, received_at)"
        " SELECT terminal, stream, sequence, schema, version, body, event, received_at FROM records WHERE sequence = 1"
    )
    books = copy.count()
    assert books.records == Records(received=3, lost=1, doubled=1, altered=1)
    assert books.events == Events(told=4, received=4, missing=1)


def test_receipts_that_are_lost_and_filings_that_nobody_asked_for(copy: Copy) -> None:
    copy.receipts.append("A-2")
    copy.file("A-3", intent=False)
    assert copy.count().receipts == Receipts(told=3, filed=2, registered=0, lost=1, unfounded=1)


@pytest.mark.parametrize(
    ("bookings", "spent", "doubled", "unaccounted"),
    [
        (("charge", "charge"), "A-1", 1, 0),
        (("charge", "reversal", "reversal"), None, 1, 0),
        (("charge",), None, 0, 1),
        ((), "A-1", 0, 1),
    ],
)
def test_charges_that_are_wrong(
    copy: Copy, bookings: tuple[str, ...], spent: str | None, doubled: int, unaccounted: int
) -> None:
    """T10."""
    copy.order("o-9", *bookings, spent=spent)
    charges = copy.count().charges
    assert (charges.doubled, charges.unaccounted) == (doubled, unaccounted)


def test_paper_is_accounted_for_by_prints_done_and_unknown(copy: Copy) -> None:
    copy.event(PRINT, "unknown")
    assert copy.count().papers == Papers(pieces=1, done=1, unknown=1, unaccounted=0)
    for number in (2, 3):
        (copy.paper / f"{number:04d}.png").touch()
    assert copy.count().papers == Papers(pieces=3, done=1, unknown=1, unaccounted=1)
    for _ in range(3):
        copy.event(PRINT)
    assert copy.count().papers == Papers(pieces=3, done=4, unknown=1, unaccounted=1)


def test_what_is_still_open_and_what_the_platform_complains_of(copy: Copy) -> None:
    copy.journal.execute("UPDATE intents SET state = 'open'")
    copy.store.count("complaint call.key_reused", 2)
    copy.store.count("complaint envelope.unknown_key", 1)
    assert copy.count().amiss == ["1 intents of file are still open", "the platform's complaint call.key_reused: 2"]


def test_bugs_of_both_processes_are_told_by_their_log(tmp_path: Path) -> None:
    """A lack of memory or of descriptors is none: the soak brings it about."""
    log = tmp_path / "daemon.log"
    log.write_text(
        '{"event":"unit_broken","unit":"payments","code":"internal","error":"KeyError"}\n'
        '{"event":"unit_broken","unit":"printer","code":"link.lost"}\n'
        '{"event":"request_failed","method":"session.open","code":"internal","error":"MemoryError"}\n'
        '{"level": "error", "event": "uncaught_in_thread", "error": "ValueError", "places": []}\n'
        '{"event":"library_message","logger":"asyncio","text":"Task was destroyed but it is pending!"}\n'
        '{"event":"library_message","logger":"asyncio","text":"socket.accept() failed","error":"OSError"}\n'
        "Traceback (most recent call last):\n"
    )
    assert bugs(log) == [
        "internal error: unit_broken of payments: KeyError, 1 times",
        "internal error: uncaught_in_thread of None: ValueError, 1 times",
        "internal error: library_message of None: None, 1 times",
    ]


@asynccontextmanager
async def program(source: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, start_new_session=True)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def kept(one: Keeper, *helpers: Any) -> AsyncIterator[Process]:
    tasks = [asyncio.create_task(work, name="kept") for work in (*helpers, one.keep())]
    try:
        yield await one.running()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def another(one: Keeper, than: Process) -> Process:
    await until(lambda: one.process not in {None, than})
    return await one.running()


async def test_what_ends_is_started_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault's kill is asked for; an end by itself is not."""
    monkeypatch.setattr(keeper, "RESTART_SECONDS", 0.05)
    one = Keeper("one", lambda: program("import time; time.sleep(600)"))
    async with kept(one) as first:
        await one.send(signal.SIGKILL)
        second = await another(one, first)
        assert one.unasked == []
        second.terminate()
        third = await another(one, second)
        assert one.unasked == [f"one ended with code {-signal.SIGTERM}"]
        assert one.starts == 3
        assert await stop(one) == -signal.SIGTERM
        await third.wait()
    assert one.process is None


async def test_without_restarts_it_lives_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RESTART_SECONDS", 0.05)
    one = Keeper("one", lambda: program("import time; time.sleep(600)"), restarts=False)
    async with kept(one) as first:
        await one.send(signal.SIGKILL)
        await first.wait()
        await until(lambda: not one.may_start.is_set())
    assert one.starts == 1


async def test_what_a_dead_process_left_running_is_buried_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service manager kills a unit's whole control group."""
    monkeypatch.setattr(keeper, "RESTART_SECONDS", 0.05)
    one = Keeper("one", lambda: program(PARENT), restarts=False)
    over = asyncio.Event()
    async with kept(one) as parent:
        await until(lambda: bool(children(parent.pid)))
        watched = os.pidfd_open(children(parent.pid)[0])
        asyncio.get_running_loop().add_reader(watched, over.set)
        await one.send(signal.SIGKILL)
        async with asyncio.timeout(20):
            await over.wait()
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)


async def test_the_watchdog_bites_what_hangs_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """L34, as systemd does it: SIGABRT, which one that is stopped gets when it goes on."""
    monkeypatch.setattr(keeper, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(keeper, "WATCHDOG_SECONDS", 1.0)
    dog = Watchdog(tmp_path / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", dog.environment["NOTIFY_SOCKET"])
    assert dog.environment["WATCHDOG_USEC"] == "1000000"
    one = Keeper("one", lambda: program(TALKS))
    async with kept(one, dog.watch(one)) as first:
        alive_until = time.monotonic() + 2.5
        while time.monotonic() < alive_until:
            assert first.returncode is None
            await asyncio.sleep(0.05)
        assert dog.bites == 0
        await one.send(signal.SIGSTOP)
        await another(one, first)
        assert first.returncode == -signal.SIGABRT
        assert dog.bites == 1


def test_the_soak_follows_the_citizens(tmp_path: Path) -> None:
    visitors = Visitors(tmp_path / "visitors.jsonl", tmp_path / "wanted")
    visitors.look()
    with visitors._path.open("ab", buffering=0) as file:
        write(file, Came(0, "certificate", 1.0))
        write(file, Left(0, 2.0, "refused", []))
        write(file, Came(1, "hotline", 3.0))
        write(file, Left(1, 4.0, None, ["H-1"]))
        file.write(b'{"line":"came"')
    visitors.look()
    assert [left.receipts for left in visitors.served] == [["H-1"]]

    async def since(at: float, visit: Any) -> float | None:
        try:
            async with asyncio.timeout(0.2):
                return await visitors.served_since(at, visit)
        except TimeoutError:
            return None

    assert asyncio.run(since(2.5, None)) == 4.0
    assert asyncio.run(since(2.5, "hotline")) == 4.0
    assert asyncio.run(since(2.5, "certificate")) is None
    assert asyncio.run(since(3.5, None)) is None
    visitors.want("sharing")
    assert (tmp_path / "wanted").read_text() == "sharing"
    visitors.want(None)
    assert not (tmp_path / "wanted").exists()


@pytest.mark.parametrize(("growth", "told"), [(0.0, []), (1.0, ["daemon: 40.0 MiB more at the end"])])
def test_gauges_tell_growth_from_what_a_visit_needs(
    monkeypatch: pytest.MonkeyPatch, growth: float, told: list[str]
) -> None:
    stage: Any = SimpleNamespace(daemon=SimpleNamespace(process=SimpleNamespace(pid=7)), vision=lambda: None)
    one, taken = Gauges(), 0.0
    monkeypatch.setattr(gauges, "_resident_mebibytes", lambda _: 60.0 + taken)
    monkeypatch.setattr(gauges, "descriptors", lambda _: 23)
    for served in range(60):
        for visit in (80.0, 0.0, 30.0 + served):
            taken = growth * served + visit
            one.look(stage, served)
    assert one.grown() == told
    assert one.descriptors == {"daemon": Gauge(23, 23, 23, 50)}
    assert one.memory["daemon"].last - one.memory["daemon"].first == 40.0 * growth


def test_a_life_is_compared_with_itself_once_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    def resident(pid: int) -> float:
        if pid == 102:
            raise ProcessLookupError(pid)
        return float(pid)

    monkeypatch.setattr(gauges, "_resident_mebibytes", resident)
    monkeypatch.setattr(gauges, "descriptors", lambda _: 1)
    process = SimpleNamespace(pid=100)
    stage: Any = SimpleNamespace(daemon=SimpleNamespace(process=process), vision=lambda: None)
    one = Gauges()
    for served in range(40):
        process.pid = 100 if served < 12 else 101 if served < 30 else 102
        one.look(stage, served)
    assert one.memory == {"daemon": Gauge(101, 101, 101, 18 - gauges.WARM_CITIZENS)}


def test_whatever_a_citizen_brings_is_found_in_what_was_written(tmp_path: Path) -> None:
    """T20: a name, the number in hex, a form's address in GB18030; and the planted files say that it searches."""
    wanted = brought(3, 5, [bytes(range(256)) * 4])
    place = tmp_path / "state"
    place.mkdir()
    (place / "clean").write_bytes(b"nothing of anybody" * 100)
    (place / "its_own.db").write_text(make_citizen(4, 3).name, encoding="utf-8")
    (aside := tmp_path / "aside").mkdir()
    clean = search({place: ("its_own",), aside: ()}, wanted, [aside / "one", aside / "other"])
    assert (clean.found, clean.files, clean.controls, clean.controls_found) == ([], 1, 4, 4)
    (place / "log").write_text(make_citizen(4, 3).name, encoding="utf-16-le")
    (place / "dump").write_text(make_citizen(0, 3).id_number.encode().hex(), encoding="ascii")
    found = search({place: ("its_own",)}, wanted, [tmp_path / "elsewhere"])
    assert [one.partition(", in ")[0] for one in found.found] == [
        "ID number of citizen 0, utf-8 in hex",
        "name of citizen 4, utf-16-le",
    ]
    assert (found.controls, found.controls_found) == (2, 0), "they lie where nobody searches"
    with pytest.raises(FileNotFoundError):
        search({tmp_path / "never": ()}, wanted, [])


def test_every_kind_comes_once_before_any_comes_again() -> None:
    kinds = list(MISHAPS)

    def faults(seed: int) -> list[str]:
        return list(islice(schedule(random.Random(seed), kinds), 3 * len(kinds)))  # noqa: S311 - a run's seed

    assert faults(1) == faults(1) != faults(2)
    assert sorted(faults(1)[: len(kinds)]) == sorted(kinds)


def test_recoveries_of_none_of_one_and_of_many() -> None:
    assert msgspec.to_builtins(recoveries(1, [])) == {"count": 1, "p50": None, "p95": None, "max": None}
    assert msgspec.to_builtins(recoveries(1, [2.0])) == {"count": 1, "p50": 2.0, "p95": 2.0, "max": 2.0}
    assert recoveries(3, [1.0, 2.0, 9.0]).p50 == 2.0
