"""The reference platform's keys of a terminal: each for its own life, and next to nothing under revoked ones (T20)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.platform.logic import Platform, PlatformKeys
from sim.platform.store import Store
from tests.sim.platform_client import IDENTITY, NOW, PEOPLE, SEAL, SIGNING, Clock, Terminal, event, request
from transport.grants import PendingRequest
from transport.keys import IdentityKey
from transport.line_keys import OVERLAP_SECONDS
from transport.uplink import Message
from transport.wire import Command, RecordMessage, Records, Taken, decode, encode


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pushed() -> list[Message]:
    return []


@pytest.fixture
def platform(clock: Clock, pushed: list[Message]) -> Iterator[Platform]:
    store = Store(":memory:")
    platform = Platform(
        store, PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public}), PEOPLE, Path("font.ttc"), clock
    )
    platform.on_push = pushed.extend
    yield platform
    store.close()


@pytest.fixture
def terminal(platform: Platform) -> Terminal:
    one = Terminal(platform)
    one.obtain_keys()
    return one


def sealed(terminal: Terminal, sequence: int) -> bytes:
    """Return a record sealed under the keys in force, to arrive later."""
    records = Records("supervision", (RecordMessage(sequence, "supervision.event", 1, event(sequence)),))
    return terminal.ring.seal("record", encode(records))


def ask(terminal: Terminal) -> tuple[PendingRequest, Message]:
    pending = PendingRequest("GT-0001", "boot", NOW, IdentityKey(IDENTITY))
    (grant,) = terminal.say("grant", pending.message)
    return pending, grant


def schemas(terminal: Terminal, messages: list[Message]) -> list[str]:
    return [decode(terminal.open(message), Command).schema for message in messages]


def test_the_keys_before_open_for_the_overlap_and_no_longer(terminal: Terminal, clock: Clock) -> None:
    first, late = sealed(terminal, 1), sealed(terminal, 2)
    terminal.obtain_keys()
    clock.now += OVERLAP_SECONDS - 1
    assert len(terminal.say("record", first)) == 1
    clock.now += 1
    assert terminal.say("record", late) == []
    assert terminal.counters() == {"complaint envelope.unknown_key": 1}
    assert terminal.record(2) == [2], "the keys in force serve on"


def test_each_key_ends_with_its_own_life_whatever_was_offered_after_it(terminal: Terminal, clock: Clock) -> None:
    life = terminal.platform.faults.key_seconds
    clock.now += life - 1
    pending, grant = ask(terminal)
    assert terminal.record(1) == [1], "a second before the end"
    clock.now += 1
    assert terminal.record(2) == []
    assert terminal.counters()["complaint envelope.unknown_key"] == 1
    terminal.ring.install(pending.open(grant.body, SIGNING.public).ends)
    assert terminal.record(2) == [2], "the offered keys have a life of their own"


def test_keys_that_ended_seal_no_command(terminal: Terminal, clock: Clock, pushed: list[Message]) -> None:
    clock.now += terminal.platform.faults.key_seconds
    terminal.platform.rotate_keys()
    assert pushed == []


def test_under_revoked_keys_only_what_was_taken_is_heard(terminal: Terminal, clock: Clock) -> None:
    """No record, no call: the terminal keeps what it has until it is trusted again."""
    terminal.platform.revoke()
    assert terminal.record(1) == []
    assert terminal.call(bytes(16), request(terminal.platform)) == []
    assert terminal.counters() == {"complaint key.revoked": 2}
    assert terminal.platform.summary()["records"] == 0
    assert len(terminal.taken({})) == 1


def test_under_revoked_keys_no_command_goes_but_up_to_the_revocation(
    terminal: Terminal, clock: Clock, pushed: list[Message]
) -> None:
    """The terminal takes commands in order, so those before the revocation go with it; none after."""
    terminal.platform.announce_catalogue(7)
    terminal.platform.revoke()
    pushed.clear()
    terminal.platform.announce_catalogue(8)
    assert schemas(terminal, pushed) == ["catalogue.announcement", "key.revocation"]
    (stream,) = {decode(terminal.open(one), Command).stream for one in terminal.seal("taken", Taken({}))}
    assert [command.sequence for command in terminal.taken({stream: 1})] == [2]
    assert terminal.taken({stream: 2}) == []


def test_a_terminal_that_missed_its_revocation_is_told_again(terminal: Terminal, clock: Clock) -> None:
    terminal.platform.revoke()
    clock.now += 5
    replies = terminal.say("record", sealed(terminal, 1))
    assert schemas(terminal, replies) == ["key.revocation"]


def test_keys_offered_before_a_revocation_are_revoked_too(terminal: Terminal) -> None:
    pending, grant = ask(terminal)
    terminal.platform.revoke()
    terminal.ring.install(pending.open(grant.body, SIGNING.public).ends)
    assert terminal.record(1) == []
    assert terminal.counters() == {"complaint envelope.unknown_key": 1}


def test_revoked_keys_open_nothing_once_there_are_new_ones(terminal: Terminal) -> None:
    terminal.platform.revoke()
    late = sealed(terminal, 2)
    terminal.platform.reinstate()
    terminal.obtain_keys()
    assert terminal.record(1) == [1]
    assert terminal.say("record", late) == []
    assert terminal.counters() == {"complaint envelope.unknown_key": 1}
