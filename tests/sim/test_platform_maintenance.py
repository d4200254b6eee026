"""The reference platform grants roles, opens windows and holds the seals of the audit log (H6, H7, H10)."""

from pathlib import Path

import msgspec
import pytest

from runtime.audit_chain import Seal
from runtime.messages import from_payload, to_payload
from runtime.messages.audit import AuditSeal, RemoteWindow, StaffGrant, StaffRevocation, seal_content, word_content
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.store import Store
from sim.world import PEOPLE
from transport import sm2
from transport.payload import Payload
from transport.wire import RecordMessage

NOW = 1_800_000_000.0
SIGNING, IDENTITY, OTHER = (sm2.generate() for _ in range(3))
TERMINALS = ("GT-0001", "GT-0002")


@pytest.fixture
def platform():
    store = Store(":memory:")
    keys = PlatformKeys(SIGNING, SIGNING, dict.fromkeys(TERMINALS, IDENTITY.public))
    yield Platform(store, keys, PEOPLE, Path(), lambda: NOW)
    store.close()


def ordered(platform: Platform, terminal: str) -> list[msgspec.Struct]:
    kinds = (StaffGrant, RemoteWindow, StaffRevocation)
    return [
        from_payload(Payload(one.schema, one.version, False, one.body), *kinds)
        for one in platform.store.commands(terminal)
    ]


def test_a_grant_and_a_window_are_signed_for_each_terminal_and_revoked_by_their_ids(platform):
    grant = platform.verbs["grant_staff"](account="zhang", role="tester", remote=True, seconds=600)
    window = platform.verbs["open_window"](accounts=["zhang"], bastion="b-1", begins_in_seconds=60, seconds=120)
    platform.verbs["revoke_staff"](name=grant)
    for terminal in TERMINALS:
        first, second, third = ordered(platform, terminal)
        assert (first.id, first.account, first.role, first.remote) == (grant, "zhang", "tester", True)
        assert (first.begins_unix, first.ends_unix) == (NOW, NOW + 600)
        assert (second.id, second.begins_unix, second.ends_unix) == (window, NOW + 60, NOW + 180)
        for word in (first, second):
            SIGNING.public.verify(word.signature, word_content(terminal, word))
        assert third == StaffRevocation(grant)


def told(platform: Platform, sequence: int, lines: int, head: bytes, *, key: sm2.PrivateKey = IDENTITY) -> AuditSeal:
    """Have the platform take a seal at this place and return it."""
    signature = key.sign(seal_content("GT-0001", at=int(NOW), clock="platform", lines=lines, head=head.hex()))
    seal = AuditSeal(int(NOW), "platform", lines, head, signature, "boot", rig=False)
    payload = to_payload(seal)
    platform._record(
        "GT-0001", "supervision-ab", RecordMessage(sequence, payload.schema, payload.version, payload.body)
    )
    return seal


def test_a_seal_over_no_more_lines_than_an_earlier_one_is_complained_of(platform):
    """H7: a log that was cut and goes on, of which nobody asks for the file."""
    heads = [bytes([number]) * 32 for number in range(9)]
    for sequence, (lines, head) in enumerate([(7, 0), (9, 1), (7, 0), (9, 1)], start=1):
        told(platform, sequence, lines, heads[head])
    complaint = "complaint audit.went_back"
    assert platform.store.counters().get(complaint) is None, "the same seals, by a journal that was made anew"
    told(platform, 5, 8, heads[2])
    assert platform.store.counters()[complaint] == 1
    told(platform, 6, 9, heads[3])
    assert platform.store.counters()[complaint] == 2
    told(platform, 7, 10, heads[4])
    assert platform.store.counters()[complaint] == 2


@pytest.mark.parametrize("key", [IDENTITY, OTHER])
def test_seals_are_kept_and_one_that_the_terminal_did_not_sign_is_complained_of(platform, key):
    head = bytes(range(32))
    seal = told(platform, 1, 7, head, key=key)
    (held,) = platform.verbs["audit_seals"](terminal="GT-0001")
    assert platform.verbs["audit_seals"](terminal="GT-0002") == []
    assert msgspec.convert(held, Seal) == Seal("GT-0001", int(NOW), "platform", 7, head.hex(), seal.signature.hex())
    complaints = platform.store.counters().get("complaint audit.bad_seal")
    assert complaints == (None if key is IDENTITY else 1)
