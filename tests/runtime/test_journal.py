"""The journal: without personal data, one transaction for a record and its change (rules 1, 2, T12, T20)."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from runtime.journal import Journal, JournalError, store
from runtime.messages import (
    CATALOGUE,
    Alarm,
    CertificateIssue,
    CertificateRequest,
    Refusal,
    SupervisionEvent,
    TerminalHealth,
    from_payload,
)
from runtime.services.printing import settle_prints
from runtime.services.steps import Origin
from sim.memory import InlineExecutor

NOW = 1_800_000_000.0


def event(step: str = "read_card") -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


def health() -> TerminalHealth:
    return TerminalHealth(NOW, "boot", False, 1.0, {}, {}, 1, 1)


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
    window = await journal.unacknowledged(journal.streams["supervision"], 2, 3)
    assert [record.sequence for record in window] == [3, 4, 5]
    assert from_payload(window[0].payload, SupervisionEvent) == event("3")
    assert not window[0].payload.personal
    assert await journal.unacknowledged("another", 0, 10) == []


async def test_the_cursor_moves_forward_only_and_never_past_the_last_record(journal):
    for number in range(5):
        await journal.append(event(str(number)))
    await journal.acknowledge(journal.streams["supervision"], 3)
    await journal.acknowledge(journal.streams["supervision"], 2)
    await journal.acknowledge(journal.streams["supervision"], 99)
    assert [record.sequence for record in await journal.unacknowledged(journal.streams["supervision"], 0, 10)] == [4, 5]


async def test_changed_returns_once_for_what_was_appended_since(journal):
    await journal.append(event())
    await asyncio.wait_for(journal.changed(), 1)
    waiting = asyncio.create_task(journal.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    await journal.append(event())
    await asyncio.wait_for(waiting, 1)


async def test_each_message_goes_to_the_stream_of_its_kind_with_sequences_of_its_own(journal):
    """T12, T16, T23."""
    assert list(journal.streams) == ["alarm", "supervision", "telemetry"]
    assert len({name.partition("-")[2] for name in journal.streams.values()}) == 1
    alarm = Alarm("a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=False)
    for message in (alarm, event(), health(), event(), health()):
        await journal.append(message)
    found = {
        stream: [(record.sequence, record.payload.schema) for record in await journal.unacknowledged(name, 0, 9)]
        for stream, name in journal.streams.items()
    }
    assert found == {
        "alarm": [(1, "alarm")],
        "supervision": [(1, "supervision.event"), (2, "supervision.event")],
        "telemetry": [(1, "terminal.health"), (2, "terminal.health")],
    }
    assert await journal.waiting() == {"alarm": 1, "supervision": 2, "telemetry": 2}
    await journal.acknowledge(journal.streams["telemetry"], 1)
    assert await journal.waiting() == {"alarm": 1, "supervision": 2, "telemetry": 1}


async def test_what_belongs_to_no_stream_is_refused(journal):
    with pytest.raises(JournalError) as refused:
        await journal.append(Refusal("code", retry=False))
    assert refused.value.code == "journal.no_stream"


async def test_delivered_returns_when_the_platform_has_every_alarm_and_event(journal):
    """Telemetry does not hold a stop up."""
    await asyncio.wait_for(journal.delivered(), 1)
    await journal.append(event())
    await journal.append(event())
    await journal.append(health())
    await journal.append(Alarm("a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=False))
    waiting = [asyncio.create_task(journal.delivered()) for _ in range(2)]
    for stream, sequence in (("supervision", 1), ("alarm", 1), ("supervision", 2)):
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await journal.acknowledge(journal.streams[stream], sequence)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)


async def test_a_receipt_that_comes_while_delivered_looks_is_not_missed(database):
    class Slow(InlineExecutor):
        """Answers later than it looks, as the thread on the board does."""

        async def run(self, work):
            result = await super().run(work)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return result

    slow = Journal(Slow(database), lambda: NOW)
    await slow.open()
    await slow.append(event())
    waiting = asyncio.create_task(slow.delivered())
    await asyncio.sleep(0)
    await slow.acknowledge(slow.streams["supervision"], 1)
    await asyncio.wait_for(waiting, 1)


async def test_receipts_of_a_stream_are_told_to_who_watches_it(journal):
    heard = []
    journal.watch("alarm", heard.append)
    await journal.append(Alarm("a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=False))
    await journal.append(event())
    await journal.acknowledge(journal.streams["supervision"], 1)
    await journal.acknowledge(journal.streams["alarm"], 7)
    assert heard == [], "nobody has received what was never sent"
    await journal.acknowledge(journal.streams["alarm"], 1)
    assert heard == [1]


async def test_a_message_and_the_change_it_tells_of_are_one_transaction(journal, database):
    """T12: the change finds the record of its message, and neither is there without the other."""

    def remember(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO identities VALUES ('idcard', 'A')")
        return db.execute("SELECT max(sequence) FROM records").fetchone()[0]

    assert await journal.write(remember, event()) == 1
    with pytest.raises(sqlite3.IntegrityError):
        await journal.write(remember, event())
    assert await journal.waiting() == {"alarm": 0, "supervision": 1, "telemetry": 0}
    assert await journal.read(lambda db: db.execute("SELECT * FROM identities").fetchall()) == [("idcard", "A")]


async def test_old_receipted_records_and_settled_intents_go_and_the_sequence_goes_on(journal, database, monkeypatch):
    """L28: the journal does not grow for ever; I6: no sequence is ever used twice."""
    monkeypatch.setattr(store, "KEPT", 3)
    forgotten = await journal.open_intent("charge", "order", "f" * 16)
    for number in range(10):
        await journal.close_intent(await journal.open_intent("print", str(number), "f" * 16), "done", None, event())

    def kept():
        return [sequence for (sequence,) in database.execute("SELECT sequence FROM records ORDER BY 1")]

    assert kept() == list(range(1, 11)), "what the platform does not have stays"
    await journal.acknowledge(journal.streams["supervision"], 5)
    assert kept() == list(range(6, 11))
    await journal.acknowledge(journal.streams["supervision"], 10)
    assert kept() == [8, 9, 10]
    assert await journal.append(event()) == 11
    assert await journal.open_intents("charge") == [forgotten]
    assert database.execute("SELECT count(*) FROM intents WHERE state <> 'open'").fetchone() == (3,)
    again = Journal(InlineExecutor(database), lambda: NOW)
    await again.open()
    assert await again.append(event()) == 12
    assert [record.sequence for record in await again.unacknowledged(again.streams["supervision"], 0, 9)] == [11, 12]


async def test_the_sequence_goes_on_when_no_record_is_left(journal, database):
    """I6: a full disk may have dropped every receipted record."""
    for _ in range(3):
        await journal.append(event())
    await journal.acknowledge(journal.streams["supervision"], 3)
    await journal.write(lambda db: db.execute("DELETE FROM records"))
    assert await journal.append(event()) == 4


async def test_a_disk_that_never_answers_is_a_coded_error_in_time(database, monkeypatch):
    class Stuck(InlineExecutor):
        async def run(self, work):
            await asyncio.Event().wait()

    monkeypatch.setattr(store, "ANSWER_SECONDS", 0.01)
    journal = Journal(Stuck(database), lambda: NOW)
    journal.streams = {"supervision": "supervision-ab"}
    with pytest.raises(JournalError) as stuck:
        await journal.append(event())
    assert (stuck.value.code, stuck.value.retry) == ("journal.write_failed", True)


async def test_personal_messages_are_refused_and_leave_no_trace(journal, database):
    """Rule 1, T20: by the catalogue, whatever the caller means."""
    request = CertificateRequest("C-0000-0000-0", "social_insurance_enrolment", "张三丰".encode(), 72)
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
        "intents": ["key", "kind", "transaction_id", "state", "code", "opened_at", "settled_at", "name"],
        "identities": ["device", "identity"],
        "tickets": ["id", "device", "code", "opened_at", "boot_id", "began", "closed_at"],
        "ticket_clocks": ["ticket", "clock", "stopped_after", "late"],
        "alarms": [
            *("id", "code", "subject", "raised_at", "boot_id", "began", "sequence"),
            *("repeats", "late", "receipted_after"),
        ],
        "commands": ["stream", "sequence"],
        "announcements": ["schema", "id", "version", "body", "sequence"],
        "payments": ["order_id", "method", "amount_fen", "purpose", "state", "opened_at", "day", "code", "moved_at"],
        "streams": ["stream", "told_as", "after"],
        "payment_ends": ["order_id"],
        "payment_days": ["day", "reconciled_at", "orders", "unsettled"],
        "payment_differences": ["day", "order_id", "terminal", "platform", "at"],
        "catalogues": ["version", "content", "signature", "state"],
        "metering": ["id", "resource", "mode", "units", "at", "month", "code"],
        "sharing": ["name", "body"],
        "datasets": ["resource", "version", "position", "body"],
        "rebuilds": ["at", "reason", "source", "aside", "records", "intents", "skipped", "is_whole", "told"],
        "lockdowns": ["code", "subject", "id", "kind", "since"],
        "audit_head": ["id", "head"],
    }


async def test_an_intent_is_open_until_its_outcome_which_comes_with_its_event(journal, database):
    intent = await journal.open_intent("print", "receipt", "transaction")
    assert await journal.open_intents("print") == [intent]
    assert await journal.open_intents("charge") == []
    await journal.close_intent(intent, "done", None, event("print"))
    assert await journal.open_intents("print") == []
    assert database.execute("SELECT state, settled_at FROM intents").fetchall() == [("done", NOW)]
    assert [record.sequence for record in await journal.unacknowledged(journal.streams["supervision"], 0, 9)] == [1]
    with pytest.raises(JournalError) as twice:
        await journal.close_intent(intent, "unknown", None, event("print"))
    assert twice.value.code == "journal.no_intent"
    assert len(await journal.unacknowledged(journal.streams["supervision"], 0, 9)) == 1


async def test_a_record_and_its_change_are_both_kept_or_neither(journal, database):
    intent = await journal.open_intent("print", "receipt", "transaction")
    database.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT raise(ABORT, 'disk'); END")
    with pytest.raises(sqlite3.IntegrityError):
        await journal.close_intent(intent, "done", None, event("print"))
    assert await journal.open_intents("print") == [intent]
    assert not database.in_transaction


async def test_open_prints_are_settled_as_unknown_on_start(journal, database):
    """Rule 2: after a power cut nobody knows whether the paper came out, and the record says so."""
    await journal.open_intent("print", "receipt", "a" * 16)
    await journal.open_intent("print", "receipt", "b" * 16)
    again = Journal(InlineExecutor(database), lambda: NOW)
    await again.open()
    assert again.streams == journal.streams
    origin = Origin("boot2", rig=True, wall_clock=lambda: NOW)
    assert await settle_prints(again, origin) == 2
    assert await settle_prints(again, origin) == 0
    told = [
        from_payload(r.payload, SupervisionEvent)
        for r in await again.unacknowledged(again.streams["supervision"], 0, 9)
    ]
    assert [(e.transaction, e.step, e.outcome, e.boot_id, e.rig) for e in told] == [
        ("a" * 16, "print", "unknown", "boot2", True),
        ("b" * 16, "print", "unknown", "boot2", True),
    ]


async def test_a_new_journal_is_a_new_stream(journal, tmp_path):
    """I6: a replaced disk never counts in sequences the platform already has."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        other = Journal(InlineExecutor(connection), lambda: NOW)
        await other.open()
        assert other.streams["supervision"].startswith("supervision-")
        assert not set(other.streams.values()) & set(journal.streams.values())
