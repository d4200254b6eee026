"""Whatever pages of a journal are lost, a start or two makes one that works, and what is missing is told (L29, T12)."""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.journal import Journal, JournalError
from runtime.journal.schema import PAGE_BYTES
from tests.runtime.test_journal_rebuild import EVENTS, NOW, event, fills, life

MOST_STARTS = 3
RECEIPTED = 150
AFTERWARDS = "afterwards_"
WRITTEN = [f"step_{number}_" for number in range(EVENTS)]
"""The receipted ones are told again where nothing says any more that they were."""

damage = st.tuples(st.integers(0, 10_000), st.sampled_from(["zeros", "noise", "other"]), st.integers(0, 10_000))


@dataclass
class Found:
    """What the platform is told of, by stream; the open charges; whether a rebuild says that something is missing."""

    told: dict[str, list[str]]
    charges: list[str]
    has_lost: bool


async def look(journal: Journal) -> Found:
    """Take a record as well: the journal works."""
    has_lost = any(not one.is_whole for one in await journal.untold())
    await journal.append(event(AFTERWARDS))
    told = {}
    for stream, name in journal.streams.items():
        records = await journal.unacknowledged(name, 0, 9_999)
        first = records[0].sequence if records else 1
        assert [one.sequence for one in records] == list(range(first, first + len(records))), "a gap"
        bodies = [msgspec.msgpack.decode(one.payload.body) for one in records]
        told[stream] = [body.get("step") or body["id"] for body in bodies]
    return Found(told, [one.name for one in await journal.open_intents("charge")], has_lost)


async def started_until_it_works(file: Path) -> Found:
    """Start as often as systemd does until nothing is found damaged any more."""
    for start in range(MOST_STARTS):
        with suppress(JournalError):
            return await life(file, look, NOW + start)
    raise AssertionError("it does not start")


def spoilt(content: bytes, damages: list[tuple[int, str, int]]) -> bytes:
    """Lose whole pages: to zeros, to noise, or to a copy of another page that was written in the wrong place."""
    result = bytearray(content)
    pages = len(content) // PAGE_BYTES
    for page, kind, other in damages:
        at, instead = page % pages * PAGE_BYTES, other % pages * PAGE_BYTES
        page_of = {"zeros": bytes(PAGE_BYTES), "noise": b"\x5a" * PAGE_BYTES}
        result[at : at + PAGE_BYTES] = page_of.get(kind, content[instead : instead + PAGE_BYTES])
    return bytes(result)


@cache
def whole() -> tuple[bytes, Found]:
    """A whole journal's file, and what is found in it."""
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        file = Path(directory) / "journal.db"
        runner.run(life(file, fills))
        content = file.read_bytes()
        return content, runner.run(life(file, look))


def test_a_whole_journal_loses_nothing():
    _, expected = whole()
    assert len(expected.told["supervision"]) == EVENTS - RECEIPTED + 2
    assert (expected.charges, expected.has_lost) == (["charge_open"], False)


@settings(max_examples=80, deadline=None)
@given(damages=st.lists(damage, min_size=1, max_size=4))
def test_lost_pages_lose_what_was_on_them_and_nothing_silently(damages):
    content, expected = whole()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "journal.db"
        file.write_bytes(spoilt(content, damages))
        left = asyncio.run(started_until_it_works(file))
    assert left.told["supervision"][-1] == AFTERWARDS
    for stream, messages in left.told.items():
        known = expected.told[stream]
        assert set(messages) <= {*known, *WRITTEN}, f"{stream} tells what nobody wrote"
        assert left.has_lost or set(known) <= set(messages), f"nobody is told of what {stream} misses"
    assert left.has_lost or left.charges == expected.charges
