"""Commands on virtual time: in order, each once, none that is void, whatever comes and however often (T17, T20)."""

import asyncio

import pytest

from tests.transport.line_rig import START, Rig, ask, on_virtual_time, until
from transport import commands, wire
from transport.channel import LineState
from transport.payload import Payload

MAINTENANCE = "maintenance.window"


def _say(rig: Rig, sequence: int, *, stream: str = "command-1", schema: str = MAINTENANCE, expires: float = 60) -> None:
    command = wire.Command(stream, sequence, int(rig.platform.clock() + expires), schema, 1, b"\x80")
    rig.platform.say(rig.uplink.line.say, "command", command)


def _taken(rig: Rig) -> list[int]:
    return [sequence for sequence, _, _ in rig.commands.taken]


async def _answered(rig: Rig, times: int) -> None:
    """Wait until the terminal has said so often what it took; the first time is under fresh keys."""
    await until(lambda: len(rig.platform.taken) == 1 + times)


@on_virtual_time
async def test_commands_are_taken_in_order_and_each_is_answered():
    rig = Rig()
    async with rig.life():
        for sequence in (1, 2, 3):
            _say(rig, sequence)
        await _answered(rig, 3)
        assert _taken(rig) == [1, 2, 3]
        assert rig.platform.taken[-1] == {"command-1": 3}
        assert [stream for stream in rig.platform.heard if stream != "taken"] == []


@on_virtual_time
async def test_a_command_after_a_gap_is_not_taken_before_what_is_missing():
    rig = Rig()
    async with rig.life():
        for sequence in (1, 3, 4):
            _say(rig, sequence)
        await _answered(rig, 3)
        assert _taken(rig) == [1]
        assert rig.platform.taken[-1] == {"command-1": 1}, "the mark says from where to go on"
        for sequence in (2, 3, 4):
            _say(rig, sequence)
        await _answered(rig, 6)
        assert _taken(rig) == [1, 2, 3, 4]


@on_virtual_time
async def test_a_repeated_command_is_answered_and_not_taken_again():
    """Replay-proof: by the mark, also in a fresh envelope and on another line."""
    rig = Rig()
    async with rig.life():
        for sequence in (1, 2, 1, 2, 2):
            _say(rig, sequence)
        await _answered(rig, 5)
        assert _taken(rig) == [1, 2]
    async with rig.life():
        _say(rig, 1)
        _say(rig, 2)
        await _answered(rig, 5 + 1 + 2)
        assert _taken(rig) == [1, 2]
        assert rig.platform.taken[-3:] == [{"command-1": 2}] * 3


@on_virtual_time
async def test_a_replayed_envelope_with_a_command_is_refused():
    rig = Rig()
    async with rig.life():
        _say(rig, 1)
        await _answered(rig, 1)
        rig.uplink.line.deliver(rig.platform.down_raw[-1])
        await asyncio.sleep(1)
        assert rig.channel.dropped == {"envelope.replayed": 1}
        assert len(rig.platform.taken) == 2


@pytest.mark.parametrize("off", [0.0, -START, 10 * 366 * 86_400.0])
def test_a_command_expires_by_the_platforms_clock_whatever_the_terminals_says(off):
    """Void ones are taken without effect, so that the next ones follow."""

    @on_virtual_time
    async def story():
        rig = Rig()
        rig.clock_off = off
        async with rig.life():
            await asyncio.sleep(1_000)
            _say(rig, 1, expires=-2)
            _say(rig, 2, expires=2)
            _say(rig, 3, expires=2)
            await _answered(rig, 3)
            assert [expired for *_, expired in rig.commands.taken] == [True, False, False]
            assert _taken(rig) == [1, 2, 3]
            assert rig.platform.taken[-1] == {"command-1": 3}

    story()


@on_virtual_time
async def test_a_command_that_waits_too_long_for_the_one_before_is_void():
    """The clock is read when it is taken, not when it came."""
    rig = Rig()
    hold = asyncio.Event()
    take = rig.commands.take

    async def slow(stream, sequence, command, *, expired):
        await hold.wait()
        return await take(stream, sequence, command, expired=expired)

    rig.commands.take = slow
    async with rig.life():
        _say(rig, 1, expires=10)
        _say(rig, 2, expires=10)
        await asyncio.sleep(20)
        hold.set()
        await _answered(rig, 2)
        assert [expired for *_, expired in rig.commands.taken] == [False, True]


@on_virtual_time
async def test_each_platforms_stream_has_its_own_mark():
    """A platform that was set up anew begins at 1 in a stream of its own; neither can be taken for the other."""
    rig = Rig()
    async with rig.life():
        for sequence in (1, 2):
            _say(rig, sequence)
        for sequence in (5, 1):
            _say(rig, sequence, stream="command-2")
        await _answered(rig, 4)
        assert _taken(rig) == [1, 2, 1]
        assert rig.platform.taken[-1] == {"command-1": 2, "command-2": 1}


@on_virtual_time
async def test_a_flood_is_bounded_and_everything_is_taken_in_the_end():
    """What does not fit is forgotten and comes again; calls go on meanwhile."""
    rig = Rig()
    take = rig.commands.take

    async def slow(stream, sequence, command, *, expired):
        await asyncio.sleep(0.1)
        return await take(stream, sequence, command, expired=expired)

    rig.commands.take = slow
    async with rig.life() as life:
        while rig.commands.marks.get("command-1", 0) < 300:
            for sequence in range(rig.commands.marks.get("command-1", 0) + 1, 301):
                _say(rig, sequence)
            await asyncio.sleep(1)
            assert rig.channel._commands._waiting.qsize() <= commands.MOST_WAITING
            assert (await ask(rig, rig.commands.marks.get("command-1", 0).to_bytes(16, "big"))).body
        assert not life.done()
    assert _taken(rig) == list(range(1, 301))


class DiskFull(Exception):
    """As a journal's error: with code, retry and advice, and none of the transport's."""

    code, retry, advice = "journal.write_failed", True, "check the disk"


@on_virtual_time
async def test_a_command_that_could_not_be_taken_ends_the_line_and_comes_again():
    """What is not durable is not answered as taken."""
    rig = Rig()
    take, broken = rig.commands.take, [True]

    async def failing(stream, sequence, command, *, expired):
        if broken:
            raise DiskFull(broken.pop())
        return await take(stream, sequence, command, expired=expired)

    rig.commands.take = failing
    async with rig.life() as life:
        _say(rig, 1)
        with pytest.raises(ExceptionGroup) as caught:
            await life
        assert caught.group_contains(DiskFull)
    assert rig.states == [LineState(connected=True), LineState(connected=False)]
    assert rig.platform.taken == [{}]
    async with rig.life():
        assert rig.platform.taken[-1] == {}, "the platform learns that it was not taken"
        _say(rig, 1)
        await until(lambda: rig.platform.taken[-1] == {"command-1": 1})
    assert _taken(rig) == [1]


@on_virtual_time
async def test_what_waits_when_the_line_is_lost_is_taken_once():
    rig = Rig()
    hold = asyncio.Event()
    take = rig.commands.take

    async def slow(stream, sequence, command, *, expired):
        await hold.wait()
        return await take(stream, sequence, command, expired=expired)

    rig.commands.take = slow
    async with rig.life() as life:
        for sequence in (1, 2, 3):
            _say(rig, sequence)
        await asyncio.sleep(1)
        rig.uplink.line.lose()
        await asyncio.wait([life], timeout=5)
    assert _taken(rig) == []
    hold.set()
    async with rig.life():
        for sequence in (1, 2, 3):
            _say(rig, sequence)
        await until(lambda: rig.platform.taken[-1] == {"command-1": 3})
        await asyncio.sleep(1)
    assert _taken(rig) == [1, 2, 3]


@on_virtual_time
async def test_the_handler_gets_the_commands_content():
    rig = Rig()
    got: list[tuple[str, int, Payload]] = []

    async def take(stream, sequence, command, *, expired):
        got.append((stream, sequence, command))
        rig.commands.marks[stream] = sequence

    rig.commands.take = take
    async with rig.life():
        expires = int(rig.platform.clock()) + 60
        command = wire.Command("command-1", 1, expires, "catalogue.announcement", 7, b"\x81\xa1a\x01")
        rig.platform.say(rig.uplink.line.say, "command", command)
        await _answered(rig, 1)
    (only,) = got
    assert only == ("command-1", 1, Payload("catalogue.announcement", 7, personal=False, body=b"\x81\xa1a\x01"))
