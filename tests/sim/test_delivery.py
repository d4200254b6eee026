"""The count of the demo finds what is lost, doubled or altered (I6)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sim.delivery import Delivery, count, waiting

Row = tuple[str, int, str, int, bytes]
SENT: list[Row] = [("supervision-1", number, "supervision.event", 1, b"%d" % number) for number in range(1, 6)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal with a space.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE records (stream, sequence, schema, version, body);"
            "CREATE TABLE cursors (stream PRIMARY KEY, sequence)"
        )
        database.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", SENT)
        database.commit()
    return path


def platform(tmp_path: Path, rows: list[Row]) -> Path:
    path = tmp_path / "platform.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE records (terminal, stream, sequence, schema, version, body)")
        database.executemany("INSERT INTO records VALUES ('GT-0001', ?, ?, ?, ?, ?)", rows)
        database.execute("INSERT INTO records VALUES ('GT-0002', 'supervision-1', 9, 's', 1, x'00')")
        database.commit()
    return path


@pytest.mark.parametrize(
    ("stored", "counted"),
    [
        (SENT, Delivery(5, 5, 0, 0, 0)),
        (SENT[1:], Delivery(5, 4, 1, 0, 0)),
        ([*SENT, SENT[2], SENT[2]], Delivery(5, 5, 0, 2, 0)),
        ([*SENT[:4], (*SENT[4][:4], b"another body")], Delivery(5, 5, 1, 0, 1)),
        ([], Delivery(5, 0, 5, 0, 0)),
    ],
)
def test_records_are_compared_with_their_bodies(
    journal: Path, tmp_path: Path, stored: list[Row], counted: Delivery
) -> None:
    assert count(journal, platform(tmp_path, stored), "GT-0001") == counted


def test_what_is_not_receipted_waits(journal: Path) -> None:
    assert waiting(journal) == 5
    with closing(sqlite3.connect(journal)) as database:
        database.execute("INSERT INTO cursors VALUES ('supervision-1', 3)")
        database.commit()
    assert waiting(journal) == 2


def test_no_database_is_no_zero(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        waiting(tmp_path / "absent.db")
