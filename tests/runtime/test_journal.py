"""The journal: durable, without personal data, one transaction for a record and its change (rules 1, 2, T12, T20)."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from runtime import journal as journal_module
from runtime.journal import Journal, JournalError
from runtime.messages import (
    CATALOGUE,
    CertificateIssue,
    CertificateRequest,
    Refusal,
    SupervisionEvent,
    from_payload,
)
from runtime.services.certificate import settle_prints
from runtime.services.steps import Origin
from sim.memory import InlineExecutor

NOW = 1_800_000_000.0


def event(step: str = "read_card") -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


@pytest.fixture
def database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        yield connection


@pytest.fixture
async def journal(database) -> Journal:
    journal = Journal(InlineExecutor(database), lambda: NOW)
    await journal.open()
    return journal


async def test_records_are_kept_in_order_without_gaps_and_read_in_windows(journal):
    assert [await journal.append(event(str(number))) for number in range(1, 8)] == list(range(1, 8))
    window = await journal.unacknowledged(journal.stream, 2, 3)
    assert [record.sequence for record in window] == [3, 4, 5]
    assert from_payload(window[0].payload, SupervisionEvent) == event("3")
    assert not window[0].payload.personal
    assert await journal.unacknowledged("another", 0, 10) == []


async def test_the_cursor_moves_forward_only_and_never_past_the_last_record(journal):
    for number in range(5):
        await journal.append(event(str(number)))
    await journal.acknowledge(journal.stream, 3)
    await journal.acknowledge(journal.stream, 2)
    await journal.acknowledge(journal.stream, 99)
    assert [record.sequence for record in await journal.unacknowledged(journal.stream, 0, 10)] == [4, 5]


async def test_changed_returns_once_for_what_was_appended_since(journal):
    await journal.append(event())
    await asyncio.wait_for(journal.changed(), 1)
    waiting = asyncio.create_task(journal.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    await journal.append(event())
    await asyncio.wait_for(waiting, 1)


async def test_delivered_returns_when_the_platform_has_everything(journal):
    await asyncio.wait_for(journal.delivered(), 1)
    await journal.append(event())
    await journal.append(event())
    waiting = asyncio.create_task(journal.delivered())
    await journal.acknowledge(journal.stream, 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    await journal.acknowledge(journal.stream, 2)
    await asyncio.wait_for(waiting, 1)


async def test_a_receipt_that_comes_while_delivered_looks_is_not_missed(database):
    class Slow(InlineExecutor):
        """Answers later than it looks, as the thread on the board does."""

        async def run(self, work):
            result = await super().run(work)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return result

    journal = Journal(Slow(database), lambda: NOW)
    await journal.open()
    await journal.append(event())
    waiting = asyncio.create_task(journal.delivered())
    await asyncio.sleep(0)
    receipt = database.execute("INSERT INTO cursors VALUES (?, 1)", (journal.stream,))
    assert receipt.rowcount == 1
    journal._acknowledged.set()
    await asyncio.wait_for(waiting, 1)


async def test_old_receipted_records_and_settled_intents_go_and_the_sequence_goes_on(journal, database, monkeypatch):
    """L28: the journal does not grow for ever; I6: no sequence is ever used twice."""
    monkeypatch.setattr(journal_module, "KEPT", 3)
    forgotten = await journal.open_intent("charge", "f" * 16)
    for number in range(10):
        await journal.close_intent(await journal.open_intent("print", str(number)), "done", None, event())

    def kept():
        return [sequence for (sequence,) in database.execute("SELECT sequence FROM records ORDER BY 1")]

    assert kept() == list(range(1, 11)), "what the platform does not have stays"
    await journal.acknowledge(journal.stream, 5)
    assert kept() == list(range(6, 11))
    await journal.acknowledge(journal.stream, 10)
    assert kept() == [8, 9, 10]
    assert await journal.append(event()) == 11
    assert await journal.open_intents("charge") == [forgotten]
    assert database.execute("SELECT count(*) FROM intents WHERE state <> 'open'").fetchone() == (3,)
    again = Journal(InlineExecutor(database), lambda: NOW)
    await again.open()
    assert await again.append(event()) == 12
    assert [record.sequence for record in await again.unacknowledged(again.stream, 0, 9)] == [11, 12]


async def test_a_disk_that_never_answers_is_a_coded_error_in_time(database, monkeypatch):
    class Stuck(InlineExecutor):
        async def run(self, work):
            await asyncio.Event().wait()

    monkeypatch.setattr(journal_module, "ANSWER_SECONDS", 0.01)
    with pytest.raises(JournalError) as stuck:
        await Journal(Stuck(database), lambda: NOW).append(event())
    assert (stuck.value.code, stuck.value.retry) == ("journal.write_failed", True)


async def test_personal_messages_are_refused_and_leave_no_trace(journal, database):
    """Rule 1, T20: by the catalogue, whatever the caller means."""
    request = CertificateRequest("social_insurance_enrolment", "张三丰", "990101199001011234", 72)
    issue = CertificateIssue("N1", "x", "y", 1, "https://a", b"%PDF-", b"d", b"s")
    for message in (request, issue):
        assert CATALOGUE[type(message)].personal
        with pytest.raises(JournalError) as refused:
            await journal.append(message)
        assert refused.value.code == "journal.personal"
    assert "张三丰" not in "\n".join(database.iterdump())
    assert database.execute("SELECT count(*) FROM records").fetchone() == (0,)


async def test_no_column_is_named_for_personal_data(journal, database):
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    columns = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in tables}
    assert columns == {
        "meta": ["name", "value"],
        "records": ["stream", "sequence", "schema", "version", "body"],
        "cursors": ["stream", "sequence"],
        "intents": ["key", "kind", "transaction_id", "state", "code", "opened_at", "settled_at"],
        "identities": ["device", "identity"],
        "tickets": ["id", "device", "code", "opened_at", "boot_id", "began", "closed_at"],
        "ticket_clocks": ["ticket", "clock", "stopped_after", "late"],
    }


async def test_an_intent_is_open_until_its_outcome_which_comes_with_its_event(journal, database):
    intent = await journal.open_intent("print", "transaction")
    assert await journal.open_intents("print") == [intent]
    assert await journal.open_intents("charge") == []
    await journal.close_intent(intent, "done", None, event("print"))
    assert await journal.open_intents("print") == []
    assert database.execute("SELECT state, settled_at FROM intents").fetchall() == [("done", NOW)]
    assert [record.sequence for record in await journal.unacknowledged(journal.stream, 0, 9)] == [1]
    with pytest.raises(JournalError) as twice:
        await journal.close_intent(intent, "unknown", None, event("print"))
    assert twice.value.code == "journal.no_intent"
    assert len(await journal.unacknowledged(journal.stream, 0, 9)) == 1


async def test_a_record_and_its_change_are_both_kept_or_neither(journal, database):
    intent = await journal.open_intent("print", "transaction")
    database.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT raise(ABORT, 'disk'); END")
    with pytest.raises(sqlite3.IntegrityError):
        await journal.close_intent(intent, "done", None, event("print"))
    assert await journal.open_intents("print") == [intent]
    assert not database.in_transaction


async def test_open_prints_are_settled_as_unknown_on_start(journal, database):
    """Rule 2: after a power cut nobody knows whether the paper came out, and the record says so."""
    await journal.open_intent("print", "a" * 16)
    await journal.open_intent("print", "b" * 16)
    again = Journal(InlineExecutor(database), lambda: NOW)
    await again.open()
    assert again.stream == journal.stream
    origin = Origin("boot2", rig=True, wall_clock=lambda: NOW)
    assert await settle_prints(again, origin) == 2
    assert await settle_prints(again, origin) == 0
    told = [from_payload(r.payload, SupervisionEvent) for r in await again.unacknowledged(again.stream, 0, 9)]
    assert [(e.transaction, e.step, e.outcome, e.boot_id, e.rig) for e in told] == [
        ("a" * 16, "print", "unknown", "boot2", True),
        ("b" * 16, "print", "unknown", "boot2", True),
    ]


async def test_a_new_journal_is_a_new_stream(journal, tmp_path):
    """I6: a replaced disk never counts in sequences the platform already has."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        other = Journal(InlineExecutor(connection), lambda: NOW)
        await other.open()
        assert other.stream.startswith("supervision-")
        assert other.stream != journal.stream


async def test_a_newer_schema_is_refused(journal, database):
    """I1."""
    database.execute("UPDATE meta SET value = '2' WHERE name = 'schema_version'")
    database.commit()
    with pytest.raises(JournalError) as refused:
        await Journal(InlineExecutor(database), lambda: NOW).open()
    assert refused.value.code == "journal.newer"
    assert "schema 2" in str(refused.value)


@pytest.mark.parametrize("damage", ["garbage", "page", "foreign", "no_version"])
async def test_a_damaged_journal_is_refused(tmp_path, damage):
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        journal = Journal(InlineExecutor(connection), lambda: NOW)
        await journal.open()
        for number in range(100):
            await journal.append(Refusal(f"code.{number}", retry=False))
        await journal.checkpoint()
        if damage == "no_version":
            connection.execute("DELETE FROM meta")
        if damage == "foreign":
            connection.execute("DROP TABLE meta")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"\x5a" * len(content))
    if damage == "page":
        content[4096 * 2 : 4096 * 4] = b"\x5a" * 8192
        path.write_bytes(content)
    with closing(sqlite3.connect(path)) as connection:
        with pytest.raises(JournalError) as refused:
            await Journal(InlineExecutor(connection), lambda: NOW).open()
        assert refused.value.code == "journal.damaged"


async def fill(journal: Journal) -> None:
    for number in range(1000):
        await journal.append(event(str(number)))


async def test_a_full_disk_is_a_coded_error_and_the_journal_goes_on_after_it(journal, database):
    """L28."""
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError) as full:
        await fill(journal)
    assert (full.value.code, full.value.retry) == ("journal.write_failed", True)
    kept = len(await journal.unacknowledged(journal.stream, 0, 2000))
    database.execute("PRAGMA max_page_count = 100000")
    assert await journal.append(event()) == kept + 1
