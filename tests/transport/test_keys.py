"""The KeyProvider seam: keys in memory and keys in a secure element do the same; the element's never come out (T20)."""

import asyncio
import gc
import types
from collections.abc import Iterable

import pytest

from tests.transport.line_rig import IDENTITY, SIGNING, Rig, ask, on_virtual_time, until
from tests.transport.secure_element import secure_element
from transport import sm, sm2
from transport.errors import TransportError
from transport.keys import IdentityKey, KeyProvider, new_key
from transport.line_keys import ChannelKeys

KEY, NONCE = bytes(range(16)), bytes(12)


@pytest.fixture(params=["memory", "element"])
def provider(request):
    if request.param == "memory":
        yield IdentityKey(IDENTITY)
    else:
        with secure_element(IDENTITY) as element:
            yield element


def _refused(code: str, act) -> None:
    with pytest.raises(TransportError) as caught:
        act()
    assert caught.value.code == code


def test_a_provider_signs_as_the_enrolled_terminal(provider: KeyProvider):
    assert IDENTITY.public.verify(provider.sign(b"content"), b"content") is None


def test_a_provider_takes_keys_that_were_wrapped_for_its_exchange(provider: KeyProvider):
    exchange = provider.begin_exchange()
    point = sm2.PublicKey.from_point(exchange.point)
    key = exchange.unwrap(point.encrypt(KEY))
    sealed = key.seal(NONCE, b"text", b"place")
    assert sealed == sm.seal(KEY, NONCE, b"text", b"place")
    assert key.unseal(NONCE, sealed, b"place") == b"text"
    _refused("envelope.forged", lambda: key.unseal(NONCE, sealed, b"another place"))
    _refused("envelope.forged", lambda: key.unseal(NONCE, sealed[:15], b"place"))
    _refused("key.bad_grant", lambda: exchange.unwrap(point.encrypt(bytes(17))))
    _refused("sm2.bad_ciphertext", lambda: exchange.unwrap(b"garbage"))
    _refused("sm2.bad_ciphertext", lambda: exchange.unwrap(SIGNING.public.encrypt(KEY)))
    exchange.wipe()
    _refused("sm2.wiped", lambda: exchange.unwrap(point.encrypt(KEY)))
    assert key.unseal(NONCE, sealed, b"place") == b"text", "the keys outlive the exchange"
    key.wipe()
    key.wipe()
    _refused("envelope.key_wiped", lambda: key.seal(NONCE, b"text", b"place"))
    _refused("envelope.key_wiped", lambda: key.unseal(NONCE, sealed, b"place"))


def test_a_provider_that_was_wiped_signs_nothing():
    """Keys are wiped at the stop; an element ends its session."""
    own = sm2.PrivateKey.from_der(IDENTITY.to_der())
    with secure_element(own) as element:
        for provider in (IdentityKey(own), element):
            provider.wipe()
            _refused("sm2.wiped", lambda given=provider: given.sign(b"content"))


def test_new_keys_come_from_the_system_with_a_copy_to_wrap():
    made = [new_key() for _ in range(8)]
    assert len({bytes(wrapped) for wrapped, _ in made}) == 8
    wrapped, key = made[0]
    sealed = key.seal(NONCE, b"text", b"")
    assert sealed == sm.seal(wrapped, NONCE, b"text", b"")
    sm.wipe(wrapped)
    assert key.seal(NONCE, b"text", b"") == sealed, "wiping the copy leaves the key"


def _reachable(roots: Iterable[object], barred: Iterable[object]) -> list[object]:
    """Return everything that can be reached from `roots`: attributes, items, closures, locals of suspended coroutines.

    What `barred` holds, modules, classes and the event loop lead to the whole program and are not entered.
    """
    seen = {id(one) for one in barred}
    found: list[object] = []
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, types.ModuleType | type | asyncio.AbstractEventLoop | types.FrameType):
            continue
        seen.add(id(one))
        found.append(one)
        if isinstance(one, types.FunctionType):
            waiting += [*(one.__closure__ or ()), *(one.__defaults__ or ())]
        else:
            waiting += gc.get_referents(one)
    return found


def _keys_reachable(rig: Rig, life: asyncio.Task[None]) -> int:
    """Count the data keys, as the platform has them, among all that the channel and its line can reach."""
    ends = rig.platform.ring._sealing
    assert ends is not None
    keys = [bytes(end._key._key) for end in (ends.sealer, ends.opener)]
    assert len({*keys, b""}) == 3
    roots = [rig.channel, *asyncio.all_tasks()]
    barred = [rig, rig.uplink, rig.platform, asyncio.current_task(), life.get_loop(), *rig.uplink.connections, keys]
    held = [one for one in _reachable(roots, barred) if isinstance(one, bytes | bytearray)]
    return sum(any(key in one for one in held) for key in keys)


async def _session(rig: Rig, life: asyncio.Task[None]) -> None:
    rig.log.append("supervision")
    assert (await ask(rig)).body
    life_keys = rig.platform.requests
    rig.platform.order("key.rotation", rig.uplink.line.say)
    await until(lambda: rig.platform.requests == life_keys + 1)
    assert (await ask(rig, bytes(16))).body
    await until(lambda: rig.log.acknowledged["supervision"] == 1)
    assert rig.channel.dropped == {}
    assert rig.platform.complaints == {}
    assert not life.done()


def test_the_channel_runs_over_an_element_and_never_holds_a_key():
    """Calls, records and a rotation; no key byte is reachable from the channel, its tasks and their locals."""

    @on_virtual_time
    async def story(element):
        rig = Rig(keys=ChannelKeys(element, SIGNING.public))
        async with rig.life() as life:
            await _session(rig, life)
            assert _keys_reachable(rig, life) == 0
            assert element.ask("held") == 4, "those in force and those before"
            await asyncio.sleep(31)
            assert element.ask("held") == 2
        assert element.ask("held") == 0

    with secure_element(IDENTITY) as element:
        story(element)


@on_virtual_time
async def test_keys_in_memory_are_found_by_the_same_search():
    """The positive control."""
    rig = Rig()
    async with rig.life() as life:
        await _session(rig, life)
        assert _keys_reachable(rig, life) == 2
