"""The reference platform, driven by the terminal's half of the wire format (T7, T20, I3, I6)."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.messages import (
    CertificateIssue,
    CertificateRequest,
    RecordsShed,
    Refusal,
    seal_content,
    to_payload,
)
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.services import certificates
from sim.platform.store import Store
from tests.sim.platform_client import IDENTITY, NOW, PEOPLE, SEAL, SIGNING, STRANGER, Clock, Terminal, event, request
from transport.errors import TransportError
from transport.grants import PendingRequest
from transport.keys import IdentityKey
from transport.payload import Payload
from transport.sm import sm3
from transport.uplink import Message
from transport.wire import Command, Presence, RecordMessage, Records, decode, encode


@pytest.fixture(autouse=True)
def plain_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the font out: tests/sim/test_certificate.py writes real pages."""
    monkeypatch.setattr(
        certificates, "write_certificate", lambda kind, citizen, **_: f"%PDF-1.7 {citizen.name}".encode()
    )


@pytest.fixture
def platform() -> Iterator[Platform]:
    store = Store(":memory:")
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public, "GT-0002": STRANGER.public})
    yield Platform(store, keys, PEOPLE, Path("font.ttc"), Clock())
    store.close()


@pytest.fixture
def terminal(platform: Platform) -> Terminal:
    one = Terminal(platform)
    one.obtain_keys()
    return one


def test_it_listens_to_its_terminals_only(platform: Platform) -> None:
    assert platform.subscriptions() == ["govterm/v1/GT-0001/up/#", "govterm/v1/GT-0002/up/#"]


def test_keys_are_granted_and_noted_without_the_keys(terminal: Terminal) -> None:
    summary = terminal.platform.summary()
    assert (summary["grants"], summary["counters"]) == (1, {})


def test_a_forged_request_is_refused(platform: Platform) -> None:
    assert "key.bad_signature" in Terminal(platform, identity=STRANGER).refused()


def test_a_terminal_that_is_not_enrolled_is_refused(platform: Platform) -> None:
    assert "terminal.unknown" in Terminal(platform, "GT-0003").refused()


def test_a_request_on_anothers_topic_is_refused(platform: Platform) -> None:
    other = Terminal(platform, "GT-0002", STRANGER)
    pending = PendingRequest("GT-0001", "boot", NOW, IdentityKey(IDENTITY))
    (reply,) = other.say("grant", pending.message)
    with pytest.raises(TransportError, match=r"key\.wrong_terminal"):
        pending.open(reply.body, SIGNING.public)
    assert platform.summary()["grants"] == 0


@pytest.mark.parametrize("off", [-1.8e9, -301, 301, 1e9])
def test_a_terminal_whose_clock_is_wrong_gets_its_keys_and_is_noted(platform: Platform, off: float) -> None:
    terminal = Terminal(platform)
    terminal.obtain_keys(at=NOW + off)
    assert terminal.record(1) == [1]
    assert terminal.counters() == {"terminal clock wrong": 1}


def test_a_request_is_granted_once(platform: Platform) -> None:
    terminal = Terminal(platform)
    pending = PendingRequest("GT-0001", "boot", NOW, IdentityKey(IDENTITY))
    assert len(terminal.say("grant", pending.message)) == 1
    (reply,) = terminal.say("grant", pending.message)
    with pytest.raises(TransportError, match=r"key\.replayed"):
        pending.open(reply.body, SIGNING.public)
    assert terminal.counters() == {"complaint key.replayed": 1}


def test_old_keys_serve_until_the_second_rotation(terminal: Terminal) -> None:
    """What is on its way when keys are renewed is not lost (T20)."""
    record = Records("supervision", (RecordMessage(1, "supervision.event", 1, event(1)),))
    on_its_way = [terminal.ring.seal("record", encode(record)) for _ in range(2)]
    terminal.obtain_keys()
    assert terminal.record(2) == []
    assert len(terminal.say("record", on_its_way[0])) == 1
    terminal.obtain_keys()
    assert terminal.record(3) == [3]
    assert terminal.say("record", on_its_way[1]) == []
    assert terminal.counters() == {"complaint envelope.unknown_key": 1}


def test_keys_serve_while_the_terminal_has_not_got_the_new_ones(terminal: Terminal) -> None:
    pending = PendingRequest("GT-0001", "boot", NOW, IdentityKey(IDENTITY))
    (grant,) = terminal.say("grant", pending.message)
    assert terminal.record(1) == [1], "sealed and answered under the old keys"
    terminal.ring.install(pending.open(grant.body, SIGNING.public).ends)
    assert terminal.record(2) == [2]


def test_expired_keys_open_nothing(terminal: Terminal) -> None:
    clock = terminal.platform.wall_clock
    assert isinstance(clock, Clock)
    clock.now += terminal.platform.faults.key_seconds
    assert terminal.record(1) == []
    assert terminal.counters() == {"complaint envelope.unknown_key": 1}


def test_without_keys_nothing_is_opened(platform: Platform) -> None:
    assert Terminal(platform).say("call", b"anything") == []
    assert platform.store.counters() == {"complaint key.none": 1}


def test_a_certificate_is_sealed_over_its_digest(terminal: Terminal) -> None:
    asked = request(terminal.platform)
    (issue,) = terminal.call(os.urandom(16), asked)
    assert isinstance(issue, CertificateIssue)
    assert issue.digest == sm3(issue.pdf)
    SEAL.public.verify(issue.seal, seal_content(issue))
    assert issue.certificate == "social_insurance_enrolment"
    assert issue.number in issue.verify_url
    assert issue.issued_at == int(NOW)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Payload("certificate.request", 2, True, b""), "message.unknown"),
        (Payload("certificate.request", 1, True, b"\xc1"), "message.malformed"),
        (Payload("supervision.event", 1, True, event(1)), "message.unexpected"),
    ],
)
def test_what_it_cannot_do_is_refused(terminal: Terminal, asked: CertificateRequest | Payload, code: str) -> None:
    assert terminal.call(os.urandom(16), asked) == [Refusal(code, retry=False)]


def test_a_call_sent_again_gets_the_same_answer_and_is_counted(terminal: Terminal) -> None:
    key = os.urandom(16)
    asked = request(terminal.platform)
    first = terminal.call(key, asked)
    terminal.obtain_keys()
    assert terminal.call(key, asked) == first
    summary = terminal.platform.summary()
    assert (summary["calls"], summary["certificates"]) == (1, 1)
    assert summary["counters"] == {"call copies": 1}


def test_a_key_used_for_another_call_is_refused(terminal: Terminal) -> None:
    key = os.urandom(16)
    asked = request(terminal.platform)
    (first,) = terminal.call(key, asked)
    assert terminal.call(key, request(terminal.platform, "tax_record")) == [Refusal("call.key_reused", retry=False)]
    assert terminal.call(key, asked) == [first]


def test_the_same_key_of_two_terminals_is_two_calls(terminal: Terminal) -> None:
    other = Terminal(terminal.platform, "GT-0002", STRANGER)
    other.obtain_keys()
    key = os.urandom(16)
    asked = request(terminal.platform)
    asked_there = request(terminal.platform, terminal="GT-0002")
    (here,), (there,) = terminal.call(key, asked), other.call(key, asked_there)
    assert isinstance(here, CertificateIssue)
    assert isinstance(there, CertificateIssue)
    assert here.number != there.number


def test_records_are_receipted_up_to_the_first_gap(terminal: Terminal) -> None:
    assert terminal.record(1) == [1]
    assert terminal.record(3) == [1]
    assert terminal.record(4) == [1]
    assert terminal.record(2) == [4]
    assert terminal.record(2) == [4]
    assert terminal.record(1, stream="other") == [1]
    summary = terminal.platform.summary()
    assert (summary["records"], summary["record_places"]) == (5, 5)
    assert summary["counters"] == {"record copies": 1}


def test_nothing_is_receipted_before_the_first(terminal: Terminal) -> None:
    assert terminal.record(2) == []
    assert terminal.record(1) == [2]


@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 12), max_size=12))
@settings(max_examples=50)
def test_records_in_any_order_with_copies_are_stored_once(order: list[int], copies: list[int]) -> None:
    store = Store(":memory:")
    platform = Platform(store, PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public}), PEOPLE, Path(), Clock())
    terminal = Terminal(platform)
    terminal.obtain_keys()
    arrived: set[int] = set()
    for sequence in [*order, *copies]:
        arrived.add(sequence)
        done = next(n for n in range(14) if n + 1 not in arrived)
        assert terminal.record(sequence) == ([done] if done else [])
    summary = platform.summary()
    assert (summary["records"], summary["record_places"]) == (12, 12)
    store.close()


def test_another_record_at_the_same_place_is_complained_of(terminal: Terminal) -> None:
    """I6: the receipt tells a journal that went back what is stored there; nothing after the conflict is."""
    terminal.record(1, 2)
    assert terminal.record(2, 3, body=event(99)) == [2]
    assert terminal.digests == {"supervision": sm3(event(2))}
    assert terminal.counters() == {"complaint record.conflict": 1}
    assert terminal.platform.summary()["records"] == 2


def test_a_receipt_has_the_digest_of_the_record_it_goes_up_to(terminal: Terminal) -> None:
    for sequences, last in (((1, 2), 2), ((4, 5), 2), ((3,), 5), ((3, 4), 5)):
        assert terminal.record(*sequences) == [last]
        assert terminal.digests == {"supervision": sm3(event(last))}


def test_a_record_far_ahead_is_not_stored(terminal: Terminal) -> None:
    assert terminal.record(2**62) == []
    assert terminal.counters() == {"complaint record.far_ahead": 1}


def test_a_record_of_no_known_message_is_kept_and_complained_of(terminal: Terminal) -> None:
    assert terminal.record(1, body=b"\xc1") == [1]
    assert terminal.counters() == {"complaint message.malformed": 1}


def test_records_come_in_batches(terminal: Terminal) -> None:
    assert terminal.record(1, 2, 3) == [3]
    assert terminal.record(2, 3, 4) == [4]
    assert terminal.platform.summary()["records"] == 4
    assert terminal.counters() == {"record copies": 2}


def test_shed_telemetry_is_accounted_for(terminal: Terminal) -> None:
    """One record stands for those that a full disk made the terminal drop (I6)."""
    assert terminal.record(1, 2, stream="telemetry-ab") == [2]
    shed = to_payload(RecordsShed(2, 900, NOW)).body
    assert terminal.record(900, body=shed, stream="telemetry-ab", schema="records.shed") == [900]
    assert terminal.record(901, stream="telemetry-ab") == [901]
    assert terminal.record(900, body=shed, stream="telemetry-ab", schema="records.shed") == [901]
    assert terminal.counters() == {"records shed": 898, "record copies": 1}


def test_what_arrived_before_it_was_shed_is_kept(terminal: Terminal) -> None:
    """Its receipt was lost, so the terminal did not know; the tombstone takes the place of a stored record."""
    assert terminal.record(1, 2, 3, stream="telemetry-ab") == [3]
    shed = to_payload(RecordsShed(1, 3, NOW)).body
    assert terminal.record(3, body=shed, stream="telemetry-ab", schema="records.shed") == [3]
    assert terminal.record(4, stream="telemetry-ab") == [4]
    assert terminal.counters() == {"record copies": 1}


@pytest.mark.parametrize(
    ("stream", "first", "last"), [("supervision-ab", 2, 5), ("telemetry-ab", 2, 4), ("telemetry-ab", 6, 5)]
)
def test_nothing_else_may_be_shed(terminal: Terminal, stream: str, first: int, last: int) -> None:
    terminal.record(1, stream=stream)
    shed = to_payload(RecordsShed(first, last, NOW)).body
    assert terminal.record(5, body=shed, stream=stream, schema="records.shed") == [1]
    assert terminal.counters() == {"complaint record.wrongly_shed": 1}


def test_receipts_can_be_lost(terminal: Terminal) -> None:
    terminal.platform.faults.receiptless()
    assert terminal.record(1) == []
    terminal.platform.faults.mend()
    assert terminal.record(1) == [1]
    assert terminal.platform.summary()["records"] == 1


def test_a_large_call_comes_in_parts_and_so_does_its_answer(terminal: Terminal, monkeypatch) -> None:
    key, pdf = os.urandom(16), os.urandom(300_000)
    monkeypatch.setattr(certificates, "write_certificate", lambda *_, **__: pdf)
    asked = request(terminal.platform)
    (issue,) = terminal.call(key, asked)
    assert isinstance(issue, CertificateIssue)
    assert issue.pdf == pdf
    (refusal,) = terminal.call(os.urandom(16), Payload("scan.upload", 1, True, os.urandom(1_000_000)))
    assert refusal == Refusal("message.unknown", retry=False)
    (again,) = terminal.call(key, asked)
    assert again == issue


def test_a_call_that_was_answered_is_settled_as_acted_and_another_never_acts(terminal: Terminal) -> None:
    """An answer that came too late is settled by its key (rule 2)."""
    done, never = os.urandom(16), os.urandom(16)
    asked = request(terminal.platform)
    terminal.call(done, asked)
    assert terminal.settle(done, os.urandom(16)) == b"acted"
    assert terminal.settle(never, settling := os.urandom(16)) == b"void"
    assert terminal.settle(never, settling) == b"void"
    assert terminal.call(never, asked) == [Refusal("call.void", retry=False)]
    assert terminal.settle(never, os.urandom(16)) == b"void"
    assert terminal.platform.summary()["certificates"] == 1


def test_commands_come_until_they_are_taken(terminal: Terminal) -> None:
    pushed: list[Message] = []
    terminal.platform.on_push = pushed.extend
    assert terminal.taken({}) == []
    terminal.platform.rotate_keys()
    (rotation,) = (decode(terminal.open(message), Command) for message in pushed)
    assert (rotation.sequence, rotation.schema) == (1, "key.rotation")
    assert rotation.expires_unix > NOW
    terminal.platform.announce_catalogue(7)
    assert [command.sequence for command in terminal.taken({})] == [1, 2]
    (catalogue,) = terminal.taken({rotation.stream: 1})
    assert catalogue.schema == "catalogue.announcement"
    assert terminal.taken({rotation.stream: 2}) == []
    terminal.platform.announce_maintenance(172_800, 3_600)
    assert [command.sequence for command in terminal.taken({rotation.stream: 2})] == [3]


def test_a_terminal_whose_journal_went_back_gets_the_commands_after_its_mark_again(terminal: Terminal) -> None:
    """I6: it takes only the one that follows its mark."""
    pushed: list[Message] = []
    terminal.platform.on_push = pushed.extend
    for _ in range(3):
        terminal.platform.rotate_keys()
    stream = decode(terminal.open(pushed[0]), Command).stream
    assert terminal.taken({stream: 3}) == []
    assert [command.sequence for command in terminal.taken({stream: 1})] == [2, 3]


def test_a_revoked_terminal_gets_no_keys_until_it_is_reinstated(terminal: Terminal) -> None:
    pushed: list[Message] = []
    terminal.platform.on_push = pushed.extend
    terminal.platform.revoke()
    (order,) = (decode(terminal.open(message), Command) for message in pushed)
    assert order.schema == "key.revocation"
    assert "terminal.revoked" in terminal.refused()
    terminal.platform.reinstate()
    terminal.obtain_keys()
    assert terminal.record(1) == [1]


def test_presence_is_noted(terminal: Terminal) -> None:
    for online, there in ((True, ["GT-0001"]), (False, [])):
        assert terminal.say("presence", encode(Presence(online, "boot", "0.1.0"))) == []
        assert terminal.platform.summary()["online"] == there
    assert terminal.say("presence", b"") == []
    assert terminal.counters() == {}


def test_faults_of_answers(terminal: Terminal) -> None:
    faults = terminal.platform.faults
    key = os.urandom(16)
    faults.silent()
    asked = request(terminal.platform)
    assert terminal.call(key, asked) == []
    faults.silent(on=False)
    faults.double_answer()
    first, second = terminal.call(key, asked)
    assert first == second
    faults.mend()
    assert terminal.call(key, asked) == [first]
    assert terminal.platform.summary()["certificates"] == 1


def test_a_broken_seal_does_not_verify(terminal: Terminal) -> None:
    terminal.platform.faults.broken_seal()
    asked = request(terminal.platform)
    (issue,) = terminal.call(os.urandom(16), asked)
    assert isinstance(issue, CertificateIssue)
    with pytest.raises(TransportError, match="does not verify"):
        SEAL.public.verify(issue.seal, seal_content(issue))


def test_an_outage_takes_nothing(terminal: Terminal) -> None:
    terminal.platform.faults.outage()
    assert terminal.record(1) == []
    terminal.platform.faults.mend()
    assert terminal.record(1) == [1]
    assert terminal.platform.summary()["records"] == 1


def test_a_dropped_record_is_receipted_and_missing(terminal: Terminal) -> None:
    terminal.platform.faults.drop_record()
    assert terminal.record(1) == [1]
    assert terminal.record(2) == [2]
    assert terminal.platform.summary()["records"] == 1


def test_a_doubled_record_is_there_twice(terminal: Terminal) -> None:
    terminal.platform.faults.double_record()
    assert terminal.record(1) == [1]
    assert terminal.record(2) == [2]
    summary = terminal.platform.summary()
    assert (summary["records"], summary["record_places"]) == (3, 2)


def test_every_fault_is_a_verb_and_mends(platform: Platform) -> None:
    platform.faults.slow(2.5)
    assert platform.faults.slow_seconds == 2.5
    with pytest.raises(ValueError, match="seconds"):
        platform.faults.slow(-1)
    for name, verb in platform.faults.verbs.items():
        if name not in ("slow", "clock", "key_life", "mend"):
            verb()
    platform.faults.mend()
    assert platform.faults == type(platform.faults)()


STREAMS = st.sampled_from(["grant", "call", "record", "part", "taken", "presence", "answer", "", "x"])
TOPICS = st.one_of(st.text(max_size=60), STREAMS.map(lambda stream: f"govterm/v1/GT-0001/up/{stream}"))


@given(st.lists(st.tuples(TOPICS, st.binary(max_size=300)), max_size=5))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_on_any_topic_are_complained_of_and_answered_by_nothing(
    terminal: Terminal, said: list[tuple[str, bytes]]
) -> None:
    for place, body in said:
        before = sum(terminal.counters().values())
        assert terminal.platform.handle(Message(place, body)) == []
        empty_presence = place == "govterm/v1/GT-0001/up/presence" and not body
        assert sum(terminal.counters().values()) == before + (not empty_presence)


@given(st.sampled_from(["call", "record", "part", "part_receipt", "taken"]), st.binary(max_size=200))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sealed_nonsense_is_complained_of(terminal: Terminal, stream: str, plaintext: bytes) -> None:
    before = sum(terminal.counters().values())
    assert terminal.say(stream, terminal.ring.seal(stream, plaintext)) == []
    assert sum(terminal.counters().values()) == before + 1


@given(st.integers(min_value=0))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_opens_nothing(terminal: Terminal, place: int) -> None:
    record = encode(Records("supervision", (RecordMessage(1, "supervision.event", 1, event(1)),)))
    sealed = bytearray(terminal.ring.seal("record", record))
    sealed[place // 8 % len(sealed)] ^= 1 << place % 8
    assert terminal.say("record", bytes(sealed)) == []
    assert terminal.platform.summary()["records"] == 0


def test_what_was_committed_outlives_the_process(tmp_path: Path) -> None:
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public})
    key = os.urandom(16)
    answers = []
    asked: CertificateRequest | None = None
    for sequence in (1, 2):
        store = Store(tmp_path / "platform.db")
        terminal = Terminal(Platform(store, keys, PEOPLE, Path(), Clock()))
        terminal.obtain_keys()
        asked = asked or request(terminal.platform)
        answers.append(terminal.call(key, asked))
        assert terminal.record(sequence) == [sequence]
        store.close()
    assert answers[0] == answers[1]


def test_the_database_holds_no_key_and_no_citizen_outside_the_answer(tmp_path: Path, platform: Platform) -> None:
    store = Store(tmp_path / "platform.db")
    terminal = Terminal(Platform(store, platform.keys, PEOPLE, Path(), Clock()))
    terminal.obtain_keys()
    terminal.record(1)
    up = bytes(terminal.ring._sealing.sealer._key._key)
    assert len(up) == 16
    store.close()
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert hashlib.sha256(up).digest() not in written
    assert up not in written
