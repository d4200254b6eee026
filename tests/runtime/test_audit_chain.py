"""Whoever changes the audit log shows: by its chain, its seals, those at the platform, or at the next start (H7)."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audit_chain import GENESIS, LOST, SEALED, AuditError, Seal, digest, slice_of, verify
from runtime.messages.audit import seal_content
from tests.runtime.audit_rig import DAY, KEY, NOON, OTHER_KEY, log_of, made

PUBLIC = KEY.public


def chained(lines: list[bytes], previous: str = GENESIS) -> list[bytes]:
    """Chain lines anew, as anybody can."""
    anew = []
    for line in lines:
        anew.append(msgspec.json.encode(json.loads(line) | {"previous": previous}))
        previous = digest(anew[-1])
    return anew


@pytest.fixture
async def days(tmp_path):
    """Three sealed days of three lines, then two lines; and the platform's seals."""
    async with log_of(tmp_path / "own", days=3) as log:
        yield log.lines(), await log.held()


def refused(lines: list[bytes], seals: list[Seal] = []) -> str:  # noqa: B006 - it is not changed
    with pytest.raises(AuditError) as caught:
        verify(lines, PUBLIC, seals=seals)
    return caught.value.code


def test_a_log_that_nobody_changed_verifies(days):
    lines, seals = days
    verdict = verify(lines, PUBLIC, seals=seals)
    assert (verdict.lines, verdict.seals, verdict.unsealed, verdict.removed) == (14, 3, 2, 0)
    assert verdict.sealed_at == NOON + 3 * DAY
    assert [seal.lines for seal in seals] == [3, 7, 11]


@given(st.integers(0, 12), st.integers(0, 400), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_no_byte_of_a_line_that_others_follow_can_be_changed(tmp_path_factory, number, place, change):
    """Of the last line the platform, or the journal at the next start, knows."""
    lines = _three_days(tmp_path_factory)
    line = bytearray(lines[number])
    line[place % len(line)] ^= change
    altered = [*lines[:number], bytes(line), *lines[number + 1 :]]
    assert refused(altered) in {"audit.chain_broken", "audit.bad_seal", "audit.no_beginning"}


_KEPT: list[bytes] = []


def _three_days(tmp_path_factory) -> list[bytes]:
    if not _KEPT:
        directory, _ = made(tmp_path_factory.mktemp("audit"))
        _KEPT.extend((directory / "audit.jsonl").read_bytes().splitlines())
    return _KEPT


@pytest.mark.parametrize("number", [0, 1, 3, 5, 12])
def test_a_line_that_was_removed_shows(days, number):
    lines, _ = days
    del lines[number]
    assert refused(lines) in {"audit.chain_broken", "audit.no_beginning"}


def test_a_day_that_was_removed_shows(days):
    lines, _ = days
    assert refused(lines[:4] + lines[8:]) == "audit.chain_broken"
    assert refused(lines[4:]) == "audit.no_beginning"


@pytest.mark.parametrize("number", [0, 4, 11])
def test_lines_that_changed_places_or_were_inserted_show(days, number):
    lines, _ = days
    swapped = [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]
    assert refused(swapped) in {"audit.chain_broken", "audit.no_beginning"}
    assert refused([*lines[: number + 1], lines[number], *lines[number + 1 :]]) == "audit.chain_broken"


def test_a_tail_that_was_cut_off_before_a_seal_of_the_platform_shows_by_that_seal_alone(days):
    """Without the platform nobody can tell; the daemon can, at its next start (test_audit_seal.py)."""
    lines, seals = days
    assert verify(lines[:8], PUBLIC).lines == 8
    assert refused(lines[:8], seals) == "audit.truncated"
    assert refused([], seals) == "audit.truncated"
    assert verify(lines[:12], PUBLIC, seals=seals).unsealed == 0, "what no seal covers is not proved: it is said"


def test_who_has_no_key_cannot_chain_anew(days):
    """The SM3 of every line can be made by anybody; the seals cannot."""
    lines, seals = days
    lines[1] = lines[1].replace(b"uid 1", b"uid 9")
    assert verify(chained(lines)).lines == 14, "the chain alone proves nothing"
    assert refused(chained(lines)) == "audit.bad_seal"
    unsealed = [line for line in lines if json.loads(line)["event"] != SEALED]
    assert verify(chained(unsealed), PUBLIC).seals == 0, "and says that nothing is sealed"
    assert refused(chained(unsealed), seals) == "audit.chain_broken"


async def test_a_log_of_another_terminal_is_not_this_ones(days, tmp_path):
    """Spliced in or in whole."""
    lines, seals = days
    async with log_of(tmp_path / "other", key=OTHER_KEY, terminal="GT-0002", days=3) as other:
        theirs = other.lines()
        assert refused(theirs) == "audit.bad_seal"
        assert refused(lines[:4] + theirs[4:]) == "audit.chain_broken"
        assert refused(lines[:4] + chained(theirs[4:], digest(lines[3]))) == "audit.bad_seal"
        assert refused(lines, [*seals, *(await other.held())]) == "audit.bad_seal", "the platform's file is wrong"


def test_a_seal_counts_the_lines_before_it(days):
    """A seal of other lines, validly signed, fits nowhere else."""
    lines, _ = days
    seal = json.loads(lines[7])
    moved = chained([*lines[:7], msgspec.json.encode(seal | {"details": json.loads(lines[3])["details"]})])
    assert refused(moved) == "audit.bad_seal"


def test_lines_that_the_daemon_found_gone_are_told_again(days):
    lines, _ = days
    told = {"at": NOON, "event": LOST, "actor": "daemon", "details": {"code": "audit.truncated"}, "previous": ""}
    verdict = verify(chained([*lines[:3], json.dumps(told).encode()]), PUBLIC)
    assert (verdict.lines, verdict.losses) == (4, (4,))


def test_a_loss_that_was_told_hides_no_other(days):
    lines, seals = days
    told = {"at": NOON, "event": LOST, "actor": "daemon", "details": {"code": "audit.truncated"}, "previous": ""}
    again = [*lines, *chained([msgspec.json.encode(told)], digest(lines[-1]))]
    assert verify(again, PUBLIC, seals=seals).losses == (15,)
    assert refused(again[:8], seals) == "audit.truncated"
    unsealed = [line for line in again if json.loads(line)["event"] != SEALED]
    assert refused(chained(unsealed), seals) == "audit.chain_broken"


async def test_older_lines_that_a_line_says_were_removed_are_no_fault_unless_they_were_too_young(days):
    lines, seals = days
    about = {"lines": 4, "files": 1, "last": digest(lines[3])}
    told = {"at": NOON, "event": "audit_removed", "actor": "daemon", "details": about, "previous": digest(lines[-1])}
    left = [*lines[4:], msgspec.json.encode(told)]
    verdict = verify(left, PUBLIC, seals=seals[1:])
    assert (verdict.lines, verdict.removed) == (11, 4)
    assert refused(left, seals) == "audit.truncated", "the platform has a younger seal of them"
    old = msgspec.structs.replace(seals[0], at=int(NOON - 200 * DAY))
    signed = KEY.sign(_content(old)).hex()
    verify(left, PUBLIC, seals=[msgspec.structs.replace(old, signature=signed), *seals[1:]])


def left_of(lines: list[bytes], count: int) -> list[bytes]:
    """Take the oldest lines away and say so, as anybody can who may write the file."""
    about = {"lines": count, "last": digest(lines[count - 1])}
    told = {"at": NOON, "event": "audit_removed", "actor": "daemon", "details": about, "previous": digest(lines[-1])}
    return [*lines[count:], msgspec.json.encode(told)]


@pytest.mark.parametrize("years", [10, -10])
async def test_a_seal_by_the_terminals_own_clock_makes_no_line_old(tmp_path, years):
    """H7: a clock that was set wrong, by somebody, is in no account."""
    async with log_of(tmp_path, days=2) as log:
        log.platform_time, log.now = None, log.now + years * 365 * DAY
        await log.day()
        lines, seals = log.lines(), await log.held()
        assert [seal.clock for seal in seals] == ["platform", "platform", "own"]
        verify(lines, PUBLIC, seals=seals)
        assert refused(left_of(lines, 4), seals) == "audit.truncated"
        assert refused(left_of(lines, len(lines) - 1), seals) == "audit.truncated"


async def test_a_seal_by_the_own_clock_is_as_old_as_the_platforms_after_it(tmp_path):
    async with log_of(tmp_path) as log:
        log.platform_time = None
        await log.day()
        log.platform_time = log.now
        await log.day()
        log.pass_time(200 * DAY)
        await log.day()
        lines, seals = log.lines(), await log.held()
        assert [seal.clock for seal in seals] == ["own", "platform", "platform"]
        assert verify(left_of(lines, 8), PUBLIC, seals=seals).removed == 8


def test_a_line_that_does_not_say_how_many_were_removed_is_no_such_line(days):
    lines, _ = days
    told = {"at": 0.0, "event": "audit_removed", "actor": "daemon", "details": {"lines": "four"}, "previous": ""}
    assert refused([*lines, *chained([msgspec.json.encode(told)], digest(lines[-1]))]) == "audit.chain_broken"


async def test_a_terminal_that_got_another_identity_is_verified_by_both_keys(tmp_path):
    async with log_of(tmp_path, days=1) as log:
        first = len(log.lines())
    async with log_of(tmp_path, key=OTHER_KEY) as log:
        log.pass_time(2 * DAY)
        await log.day()
        assert refused(log.lines()) == "audit.bad_seal"
        assert verify(log.lines(), PUBLIC, OTHER_KEY.public).seals == 2
        assert len(log.lines()) == first + 4


def _content(seal: Seal) -> bytes:
    return seal_content(seal.terminal, at=seal.at, clock=seal.clock, lines=seal.lines, head=seal.head)


def test_a_slice_goes_from_seal_to_seal_and_verifies_by_itself(days):
    lines, _ = days
    middle = slice_of(lines, NOON + DAY - 3_600, NOON + DAY + 3_600)
    assert middle == lines[3:8]
    verdict = verify(middle, PUBLIC, is_whole=False)
    assert (verdict.lines, verdict.removed, verdict.unsealed) == (5, 3, 0)
    seals = days[1]
    assert verify(middle, PUBLIC, seals=seals, is_whole=False).seals == 2, "what is outside it says nothing of it"
    forged = msgspec.structs.replace(seals[1], head=seals[0].head)
    forged = msgspec.structs.replace(forged, signature=KEY.sign(_content(forged)).hex())
    with pytest.raises(AuditError, match="is not the one"):
        verify(middle, PUBLIC, seals=[forged], is_whole=False)
    assert slice_of(lines, 0.0, NOON + 1) == lines[:4]
    assert slice_of(lines, NOON + 3 * DAY + 1, NOON + 9 * DAY) == []
    assert slice_of(lines, NOON + 3 * DAY, NOON + 9 * DAY) == lines[11:]
    del middle[2]
    with pytest.raises(AuditError):
        verify(middle, PUBLIC, is_whole=False)
