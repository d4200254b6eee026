"""The record of how the terminal is, on virtual time (T16)."""

import asyncio
import sqlite3
from contextlib import closing

import msgspec

from runtime.health import HEALTH_SECONDS, Health
from runtime.journal import Journal
from runtime.messages import KeyRotation, TerminalHealth, from_payload
from runtime.seams import Usage
from runtime.services.steps import Origin
from runtime.state import Component, StateBoard
from sim.memory import InlineExecutor
from sim.virtual_time import run
from transport.payload import Payload


def test_it_says_how_the_terminal_is_and_counts_what_a_later_release_said():
    """T19: what the platform says and this release leaves out is seen at the platform."""
    body = msgspec.msgpack.encode({"reason": "ordered", "colour": "red", "size": 3})

    async def main(database: sqlite3.Connection) -> list[TerminalHealth]:
        journal = Journal(InlineExecutor(database), lambda: 0.0)
        await journal.open()
        board = StateBoard()
        board.set("printer", Component("online"))
        health = Health(journal, Origin("boot", rig=True, wall_clock=lambda: 7.0), board, lambda: Usage(46, 20))
        task = asyncio.create_task(health.run(lambda: None))
        await asyncio.sleep(HEALTH_SECONDS + 1)
        from_payload(Payload("key.rotation", 1, False, body), KeyRotation)
        await asyncio.sleep(HEALTH_SECONDS)
        task.cancel()
        await asyncio.wait([task])
        records = await journal.unacknowledged(journal.streams["telemetry"], 0, 9)
        return [from_payload(record.payload, TerminalHealth) for record in records]

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        first, second = run(main(database))
    assert (first.states, first.resident_bytes, first.open_descriptors, first.up_seconds) == (
        {"memory": "unlocked", "printer": "online"},
        46,
        20,
        HEALTH_SECONDS,
    )
    assert second.unknown_fields - first.unknown_fields == 2
    assert second.waiting == {"alarm": 0, "supervision": 0, "telemetry": 1}
