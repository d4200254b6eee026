"""A daemon that starts on a full disk (L28) serves; its alarms reach the platform, and later the journal."""

import asyncio
import dataclasses
import errno
import os
import sqlite3

import pytest
from structlog.testing import capture_logs

from runtime import audit as audit_module
from runtime.journal import Journal
from runtime.seams import Seams
from runtime.services.printing import PRINT
from sim.memory import InlineExecutor
from sim.virtual_time import run
from tests.runtime.house import OPERATOR_UID, House, living


class FullDisk(InlineExecutor):
    """Commits nothing while `is_full`."""

    is_full = True

    async def run(self, work):
        if self.is_full and work.__name__ == "_commit":
            error = sqlite3.OperationalError("disk")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return await super().run(work)


class FullHouse(House):
    """A house whose disk is full at first."""

    def seams(self) -> Seams:
        self.disk = FullDisk(self.journal)
        return dataclasses.replace(super().seams(), journal=self.disk)


def stored(house: House, schema: str) -> int:
    count: int = house.store.database.execute("SELECT count(*) FROM records WHERE schema = ?", (schema,)).fetchone()[0]
    return count


def test_a_full_disk_forbids_no_start_and_holds_no_alarm_back(tmp_path, monkeypatch):
    full = True
    write = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data, offset)

    monkeypatch.setattr(audit_module.os, "pwrite", pwrite)

    async def main() -> None:
        nonlocal full
        journal = sqlite3.connect(":memory:", isolation_level=None)
        before = Journal(InlineExecutor(journal), lambda: 0.0)
        await before.open()
        await before.open_intent(PRINT, "receipt", "left open by a power cut")
        with capture_logs() as lines:
            async with living(FullHouse(tmp_path, journal=journal)) as house:
                caller = house.caller(OPERATOR_UID)
                await house.settled(caller)
                house.egress[0]("connect")
                await asyncio.sleep(10)
                assert stored(house, "alarm") == 1, "from memory"
                assert journal.execute("SELECT count(*) FROM alarms").fetchone() == (0,)
                (alarm,) = (await caller.call("alarms.list"))["alarms"]
                assert (alarm["code"], alarm["receipted"]) == ("egress.connect", True)
                full = house.disk.is_full = False
                await asyncio.sleep(60)
                assert journal.execute("SELECT code FROM alarms").fetchall() == [("egress.connect",)]
                assert stored(house, "alarm") == 1, "and not again"
                assert house.told.states[0] == "READY"
        said = [line["event"] for line in lines]
        assert "prints_not_settled" in said
        assert [line["audit_event"] for line in lines if line["event"] == "audit_line_lost"] == [
            "daemon_started",
            "tamper_found",
        ]
        assert b"daemon_stopped" in house.settings.audit_file.read_bytes()

    run(main())


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES])
def test_an_audit_log_that_cannot_be_written_for_another_reason_forbids_the_start(tmp_path, monkeypatch, error):
    """H6: nothing is done by a machine of which nobody can say afterwards what it did."""

    def pwrite(*_) -> int:
        raise OSError(error, "broken")

    monkeypatch.setattr(audit_module.os, "pwrite", pwrite)

    async def main() -> None:
        house = House(tmp_path)
        with pytest.raises(audit_module.AuditError):
            await house.daemon()

    run(main())
