"""The keys in force and those before them: a rotation loses nothing on its way, and leaves no key behind (T20)."""

import os
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.envelope import Opener, Sealer, read
from transport.errors import TransportError
from transport.keys import MemoryKey, new_key
from transport.ring import Ends, KeyRing

TERMINAL = "GT-0001"


def pair() -> tuple[Ends, Ends]:
    """Return both ends of fresh keys: the terminal's and the platform's."""
    up_id, down_id = os.urandom(8), os.urandom(8)
    (up, up_key), (down, down_key) = new_key(), new_key()
    terminal = Ends(Sealer(up_key, up_id, TERMINAL, "up"), Opener(MemoryKey(down), down_id, TERMINAL, "down"))
    platform = Ends(Sealer(down_key, down_id, TERMINAL, "down"), Opener(MemoryKey(up), up_id, TERMINAL, "up"))
    return terminal, platform


def _is_wiped(ends: Ends) -> bool:
    keys = (ends.sealer._key, ends.opener._key)
    assert len({key._key == b"" for key in keys}) == 1, "half wiped"
    return keys[0]._key == b""


def _refused(code: str, act) -> None:
    with pytest.raises(TransportError) as caught:
        act()
    assert caught.value.code == code


def test_an_empty_ring_seals_and_opens_nothing():
    ring = KeyRing()
    assert not ring.is_nearly_used
    _refused("envelope.unknown_key", lambda: ring.seal("call", b"x"))
    _refused("envelope.unknown_key", lambda: ring.open("call", KeyRing(pair()[0]).seal("call", b"x")))
    _refused("envelope.malformed", lambda: ring.open("call", b"x"))
    ring.wipe()
    ring.retire()


def test_messages_under_the_keys_before_open_until_they_are_retired():
    terminal, platform = pair()
    new_terminal, new_platform = pair()
    ring = KeyRing(terminal)
    late, too_late = (platform.sealer.seal("answer", b"late") for _ in range(2))
    ring.install(new_terminal)
    assert ring.open("answer", new_platform.sealer.seal("answer", b"new")) == b"new"
    assert ring.open("answer", late) == b"late"
    assert not _is_wiped(terminal)
    ring.retire()
    assert _is_wiped(terminal)
    _refused("envelope.unknown_key", lambda: ring.open("answer", too_late))
    assert not _is_wiped(new_terminal)


def test_the_platform_seals_under_new_keys_only_once_the_terminal_was_heard_under_them():
    terminal, platform = pair()
    new_terminal, new_platform = pair()
    ring = KeyRing(platform)
    ring.offer(new_platform)
    assert terminal.opener.open("answer", read(ring.seal("answer", b"x"))) == b"x"
    assert ring.open("call", terminal.sealer.seal("call", b"old")) == b"old"
    assert ring.open("call", new_terminal.sealer.seal("call", b"new")) == b"new"
    assert new_terminal.opener.open("answer", read(ring.seal("answer", b"y"))) == b"y"
    assert ring.open("call", terminal.sealer.seal("call", b"on its way")) == b"on its way"


def test_what_is_refused_under_offered_keys_installs_nothing():
    _, platform = pair()
    new_terminal, new_platform = pair()
    ring = KeyRing(platform)
    ring.offer(new_platform)
    forged = bytearray(new_terminal.sealer.seal("call", b"x"))
    forged[-1] ^= 1
    _refused("envelope.forged", lambda: ring.open("call", bytes(forged)))
    assert ring._sealing is platform


def test_every_key_that_leaves_the_ring_is_wiped():
    generations = [pair() for _ in range(6)]
    first, second, third, fourth, fifth, sixth = (platform for _, platform in generations)
    ring = KeyRing(first)
    ring.install(second)
    ring.install(third)
    assert [_is_wiped(one) for one in (first, second, third)] == [True, False, False]
    ring.offer(fourth)
    ring.offer(fifth)
    assert [_is_wiped(one) for one in (third, fourth, fifth)] == [False, True, False]
    ring.open("call", generations[4][0].sealer.seal("call", b"x"))
    assert [_is_wiped(one) for one in (second, third, fifth)] == [True, False, False]
    ring.offer(sixth)
    ring.wipe()
    assert all(_is_wiped(platform) for _, platform in generations)
    _refused("envelope.unknown_key", lambda: ring.seal("call", b"x"))


class _Line:
    """Both ends' rings with messages on the way both ways; a request, a grant and a first word travel among them."""

    def __init__(self) -> None:
        terminal, platform = pair()
        self.terminal, self.platform = KeyRing(terminal), KeyRing(platform)
        self.up: deque[bytes | None] = deque()
        self.down: deque[bytes | Ends] = deque()
        self.said = 0
        self.heard: list[bytes] = []
        self.is_asking = False

    def _say(self, ring: KeyRing, way: deque) -> None:
        way.append(ring.seal("stream", b"%d" % self.said))
        self.said += 1

    def terminal_says(self) -> None:
        self._say(self.terminal, self.up)

    def platform_says(self) -> None:
        self._say(self.platform, self.down)

    def terminal_asks(self) -> None:
        if not self.is_asking:
            self.is_asking = True
            self.up.append(None)

    def up_arrives(self) -> None:
        if not self.up:
            return
        body = self.up.popleft()
        if body is not None:
            self.heard.append(self.platform.open("stream", body))
            return
        mine, theirs = pair()
        self.platform.offer(theirs)
        self.down.append(mine)

    def down_arrives(self) -> None:
        if not self.down:
            return
        match self.down.popleft():
            case bytes() as body:
                self.heard.append(self.terminal.open("stream", body))
            case keys:
                self.terminal.install(keys)
                self.is_asking = False
                self.terminal_says()


STEPS = st.sampled_from(
    [_Line.terminal_says, _Line.platform_says, _Line.up_arrives, _Line.down_arrives, _Line.terminal_asks]
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, max_size=80))
def test_no_message_is_lost_by_any_rotation_on_a_line_that_keeps_order(steps):
    line = _Line()
    for step in steps:
        step(line)
    while line.up or line.down:
        line.up_arrives()
        line.down_arrives()
    assert sorted(line.heard) == sorted(b"%d" % number for number in range(line.said))
