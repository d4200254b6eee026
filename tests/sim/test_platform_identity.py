"""Identity and certificates at the reference platform: whom it asserts, to whom it gives what (I4, I3, T7, H6)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.messages import CertificateIssue, Refusal, from_payload, seal_content, to_payload
from runtime.messages.certificate import CertificateCopy, CertificateReprint
from runtime.messages.identity import AssertionContent, AssertionIssue
from runtime.services.receipts import new_receipt
from sim.platform.certificate import KINDS
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.services import certificates
from sim.platform.services.certificates import MOST_COPIES
from sim.platform.services.identity import LIFE_SECONDS
from sim.platform.staff import LOCK_SECONDS, MOST_FAILURES, STEP_SECONDS, one_time_code
from sim.platform.store import Store
from tests.sim.platform_client import (
    CITIZEN,
    FACE,
    IDENTITY,
    PEOPLE,
    SEAL,
    SIGNING,
    STRANGER,
    Clock,
    asserted,
    assertion_request,
    request,
)
from transport import sm2
from transport.sm import sm3

OTHER = PEOPLE.citizen(1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def platform(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setattr(certificates, "write_certificate", lambda _kind, one, **_: f"%PDF-1.7 {one.name}".encode())
    store = Store(":memory:")
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public, "GT-0002": STRANGER.public})
    yield Platform(store, keys, PEOPLE, Path("font.ttc"), clock)
    store.close()


def ask(platform: Platform, message: msgspec.Struct, *answers: type[msgspec.Struct], terminal: str = "GT-0001") -> Any:
    return from_payload(platform.services.serve(terminal, to_payload(message)), Refusal, *answers)


def content(issue: bytes) -> AssertionContent:
    whole = msgspec.msgpack.decode(issue, type=AssertionIssue)
    SIGNING.public.verify(whole.signature, whole.content)
    return msgspec.msgpack.decode(whole.content, type=AssertionContent)


def test_an_assertion_is_signed_short_lived_and_bound_to_terminal_and_session(platform: Platform, clock: Clock) -> None:
    """I4; its subject is random and says nothing of the citizen."""
    first, second = content(asserted(platform)), content(asserted(platform))
    assert (first.version, first.terminal, first.session, first.means) == (1, "GT-0001", "0123456789abcdef", "face")
    assert (first.issued_unix, first.expires_unix) == (int(clock.now), int(clock.now) + LIFE_SECONDS)
    assert first.subject != second.subject


@pytest.mark.parametrize(
    "changes",
    [
        {"face": None},
        {"face": msgspec.structs.replace(FACE, decision="no_match")},
        {"face": msgspec.structs.replace(FACE, presentation_attack="attack")},
        {"consent": ""},
        {"consent": "人脸"},
        {"session": ""},
        {"session": "x" * 65},
        {"staff": "staff-1", "code": "123456"},
        {"means": "fingerprint"},
        {"means": "assisted", "face": None},
        {"means": "assisted", "face": None, "staff": "staff-1"},
        {"means": "assisted", "staff": "staff-1", "code": "123456"},
    ],
)
def test_a_means_without_its_evidence_is_complained_of(platform: Platform, changes: dict[str, Any]) -> None:
    assert ask(platform, assertion_request(**changes)) == Refusal("assertion.bad_evidence", retry=False)
    assert platform.store.counters() == {"complaint assertion.bad_evidence": 1}


@pytest.mark.parametrize("changes", [{"name": "别人"}, {"id_number": "990101200001010000"}])
def test_nobody_unknown_is_asserted(platform: Platform, changes: dict[str, Any]) -> None:
    assert ask(platform, assertion_request(**changes)) == Refusal("citizen.unknown", retry=False)


def assisted(platform: Platform, code: str, staff: str = "staff-1") -> Any:
    whole = assertion_request(means="assisted", consent="", face=None, staff=staff, code=code)
    return ask(platform, whole, AssertionIssue)


def test_a_code_of_the_second_factor_counts_once_and_about_now(platform: Platform, clock: Clock) -> None:
    """RFC 6238, 5.2; H6: the platform notes who vouched, at which terminal and session."""
    staff_code = platform.verbs["staff_code"]
    code = str(staff_code("staff-1"))
    assert content(msgspec.msgpack.encode(assisted(platform, code))).means == "assisted"
    assert assisted(platform, code) == Refusal("staff.refused", retry=True)
    early = str(staff_code("staff-2"))
    clock.now += STEP_SECONDS
    assert isinstance(assisted(platform, early, "staff-2"), AssertionIssue)
    old = str(staff_code("staff-3"))
    clock.now += 2 * STEP_SECONDS
    assert assisted(platform, old, "staff-3") == Refusal("staff.refused", retry=True)
    assert assisted(platform, "123456", "nobody") == Refusal("staff.refused", retry=True)
    noted = platform.store.database.execute("SELECT staff, terminal, session, outcome FROM assistance").fetchall()
    assert noted[:2] == [
        ("staff-1", "GT-0001", "0123456789abcdef", "ok"),
        ("staff-1", "GT-0001", "0123456789abcdef", "staff.refused"),
    ]
    with pytest.raises(ValueError, match="staff-1"):
        staff_code("nobody")


def test_guessing_codes_locks_the_account_for_a_while(platform: Platform, clock: Clock) -> None:
    code = str(platform.verbs["staff_code"]("staff-1"))
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    for _ in range(MOST_FAILURES):
        assert assisted(platform, wrong) == Refusal("staff.refused", retry=True)
    assert assisted(platform, code) == Refusal("staff.locked", retry=False)
    clock.now += LOCK_SECONDS
    assert isinstance(assisted(platform, str(platform.verbs["staff_code"]("staff-1"))), AssertionIssue)


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ],
)
def test_codes_are_those_of_the_standard(at: int, code: str) -> None:
    """RFC 6238, appendix B."""
    assert one_time_code(b"12345678901234567890", at // STEP_SECONDS, digits=8) == code


@pytest.mark.parametrize("certificate", sorted(KINDS))
def test_a_certificate_is_the_asserted_citizens(platform: Platform, certificate: str) -> None:
    """T7, I3, I4."""
    issue = ask(platform, request(platform, certificate), CertificateIssue)
    assert issue.certificate == certificate
    assert CITIZEN.name in issue.pdf.decode()
    assert issue.digest == sm3(issue.pdf)
    SEAL.public.verify(issue.seal, seal_content(issue))


def forged(platform: Platform) -> bytes:
    issue = msgspec.msgpack.decode(asserted(platform), type=AssertionIssue)
    return msgspec.msgpack.encode(AssertionIssue(issue.content, sm2.generate().sign(issue.content)))


def unheard_of(platform: Platform) -> bytes:
    encoded = msgspec.msgpack.encode(msgspec.structs.replace(content(asserted(platform)), subject="0" * 16))
    return msgspec.msgpack.encode(AssertionIssue(encoded, SIGNING.sign(encoded)))


@pytest.mark.parametrize(
    "make",
    [
        lambda _: b"",
        lambda _: b"\xc1",
        forged,
        unheard_of,
        lambda platform: asserted(platform, "GT-0002"),
    ],
)
def test_an_assertion_of_elsewhere_opens_nothing(platform: Platform, make: Any) -> None:
    """I4: forged, made up, or of another terminal."""
    asked = msgspec.structs.replace(request(platform), assertion=make(platform))
    assert ask(platform, asked) == Refusal("assertion.invalid", retry=False)
    assert ask(platform, CertificateReprint(new_receipt("certificate"), make(platform))) == Refusal(
        "assertion.invalid", retry=False
    )


def test_an_expired_assertion_opens_nothing(platform: Platform, clock: Clock) -> None:
    asked = request(platform)
    clock.now += LIFE_SECONDS
    assert ask(platform, asked) == Refusal("assertion.expired", retry=True)


def test_what_it_cannot_issue_is_refused(platform: Platform) -> None:
    for asked, code in (
        (request(platform, "dog_licence"), "certificate.unknown"),
        (request(platform, width=10), "certificate.bad_width"),
        (request(platform, receipt="C-0000-0000-1"), "receipt.mistyped"),
        (request(platform, receipt=new_receipt("application")), "receipt.mistyped"),
    ):
        assert ask(platform, asked) == Refusal(code, retry=False)
    assert platform.store.counters() == {"complaint receipt.malformed": 2}


def test_a_receipt_number_is_used_once(platform: Platform) -> None:
    receipt = new_receipt("certificate")
    assert isinstance(ask(platform, request(platform, receipt=receipt), CertificateIssue), CertificateIssue)
    again = ask(platform, request(platform, "tax_record", receipt=receipt))
    assert again == Refusal("certificate.receipt_used", retry=False)


def test_the_same_issue_is_given_out_again_counted_and_not_for_ever(platform: Platform) -> None:
    """T7: at any terminal, to the same citizen."""
    asked = request(platform)
    issue = ask(platform, asked, CertificateIssue)
    for copy in range(1, MOST_COPIES + 1):
        again = CertificateReprint(asked.receipt, asserted(platform, "GT-0002"))
        assert ask(platform, again, CertificateCopy, terminal="GT-0002") == CertificateCopy(issue, copy)
    last = CertificateReprint(asked.receipt, asserted(platform))
    assert ask(platform, last) == Refusal("certificate.no_more_copies", retry=False)


def test_another_citizens_receipt_is_as_one_that_is_not_there(platform: Platform) -> None:
    asked = request(platform)
    ask(platform, asked, CertificateIssue)
    others = asserted(platform, name=OTHER.name, id_number=OTHER.id_number)
    for receipt in (asked.receipt, new_receipt("certificate")):
        assert ask(platform, CertificateReprint(receipt, others)) == Refusal("receipt.unknown", retry=False)
