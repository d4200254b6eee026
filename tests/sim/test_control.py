"""The rig's control socket: every line gets one answer, whatever it says."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control import Command, ControlError, _answer, ask, describe, perform, serve_control


class Lamp:
    def __init__(self) -> None:
        self.level = 0
        self.verbs = {"set": self.set, "glow": self.glow, "read": self.read, "burn": self.burn}

    def set(self, level: int) -> int:
        """Set the level.

        More is not shown.
        """
        if level > 9:
            raise ValueError("too bright")
        self.level = level
        return level

    async def glow(self, level: int = 3) -> dict[str, int]:
        await asyncio.sleep(0)
        self.level = level
        return {"level": level}

    def read(self) -> object:
        return object()

    def burn(self) -> None:
        raise OSError("no fuel")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "rig.sock")


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_verbs_are_done_in_order_and_answered(path: Path) -> None:
    lamp = Lamp()
    async with serve_control(path, {"lamp": lamp.verbs}):
        assert path.stat().st_mode & 0o777 == 0o600
        assert await ask(path, "lamp", "set", {"level": 4}) == 4
        assert lamp.level == 4
        assert await ask(path, "lamp", "glow") == {"level": 3}
        async with connected(path) as (reader, writer):
            for level in range(5):
                writer.write(json.dumps({"device": "lamp", "verb": "set", "args": {"level": level}}).encode() + b"\n")
            answers = [json.loads(await reader.readline()) for _ in range(5)]
        assert answers == [{"ok": True, "result": level} for level in range(5)]


@pytest.mark.parametrize(
    ("device", "verb", "args", "said"),
    [
        ("lamb", "set", {}, "no such device; there are rig, lamp"),
        ("lamp", "sit", {}, "no such verb; there are set, glow"),
        ("lamp", "set", {}, "missing a required argument: 'level'"),
        ("lamp", "set", {"level": 1, "colour": 2}, "unexpected keyword argument 'colour'"),
        ("lamp", "set", {"level": 10}, "lamp set: too bright"),
        ("lamp", "set", {"level": "high"}, "not supported between"),
        ("lamp", "burn", {}, "no fuel"),
        ("lamp", "read", {}, "object"),
    ],
)
async def test_what_cannot_be_done_is_said(path: Path, device: str, verb: str, args: dict[str, Any], said: str) -> None:
    async with serve_control(path, {"lamp": Lamp().verbs}):
        with pytest.raises(ControlError, match=said):
            await ask(path, device, verb, args)
        assert await ask(path, "lamp", "set", {"level": 1}) == 1


async def test_verbs_are_listed_with_their_parameters(path: Path) -> None:
    async with serve_control(path, {"lamp": Lamp().verbs}):
        listed = await ask(path, "rig", "verbs")
    assert listed == describe({"lamp": Lamp().verbs})
    assert listed["lamp"]["set"] == "(level: int) -> int: Set the level."


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'{"device": 1, "verb": "x"}', b"\xff\x00", b'"' + b"x" * 2_000_000]
)
async def test_bad_lines_do_not_end_the_rig(path: Path, line: bytes) -> None:
    async with serve_control(path, {"lamp": Lamp().verbs}):
        async with connected(path) as (reader, writer):
            writer.write(line + b"\n")
            try:
                answer = json.loads(await reader.readline() or b'{"ok": false}')
            except ConnectionError:
                answer = {"ok": False}
            assert answer["ok"] is False
        assert await ask(path, "lamp", "set", {"level": 2}) == 2


@given(st.binary(max_size=300))
def test_any_line_gets_one_answer(line: bytes) -> None:
    answer = json.loads(asyncio.run(_answer({"lamp": Lamp().verbs}, line)))
    assert answer["ok"] is False
    assert answer["error"]


async def test_clients_that_stay_do_not_keep_the_rig_from_stopping(path: Path) -> None:
    async with serve_control(path, {"lamp": Lamp().verbs}):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"device": "lamp", "verb": "set", "args": {"level": 1}}\n')
        assert json.loads(await reader.readline())["ok"] is True
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ControlError, match="the rig does not answer"):
        await ask(path, "lamp", "set", {"level": 1})


async def test_a_verb_that_hangs_is_given_up(path: Path) -> None:
    async with serve_control(path, {"lamp": {"hang": asyncio.Event().wait}}):
        with pytest.raises(ControlError, match="TimeoutError"):
            await ask(path, "lamp", "hang", seconds=0.05)


async def test_perform_returns_the_result() -> None:
    assert await perform({"lamp": Lamp().verbs}, Command("lamp", "set", {"level": 7})) == 7
