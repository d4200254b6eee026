"""The two messages of enrolment: only the right answer to this request passes, anything else is refused (T20, H8)."""

import base64
import textwrap

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.authority import Authority, sm2_certificate
from transport import libcrypto, sm, sm2
from transport.enrolment import (
    LARGEST_BYTES,
    EnrolmentAnswer,
    EnrolmentRequest,
    build_answer,
    build_request,
    fingerprint,
    parse_fingerprint,
    read_request,
    verify_answer,
)
from transport.errors import TransportError
from transport.wire import decode

pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
"""Some altered certificates have a serial number that RFC 5280 does not allow, and the reader warns."""

IDENTITY, SIGNING, SEAL = sm2.generate(), sm2.generate(), sm2.generate()
TLS_KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = Authority.make("authority")
CERTIFICATE = sm2_certificate("platform", SIGNING)
EXPECTED = sm.sm3(CERTIFICATE)
NONCE = bytes(range(16))
HARDWARE = "04bf5bdca8dd49e89fcf72be4d9bda64"
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

REQUEST = build_request("GT-0001", IDENTITY, TLS_KEY, nonce=NONCE, hardware=HARDWARE, software_version="0.1.0")
GOOD = EnrolmentAnswer(
    "govterm-enrolment-answer",
    1,
    NONCE,
    "GT-0001",
    "broker.example.gov.cn",
    8883,
    AUTHORITY.pem,
    AUTHORITY.issue("GT-0001", CLIENT, TLS_KEY.public_key()),
    CERTIFICATE,
    SEAL.public.to_der(),
)
ANSWER = build_answer(GOOD, SIGNING)


def verify(body: bytes, expected: bytes = EXPECTED):
    return verify_answer(body, expected, terminal="GT-0001", nonce=NONCE, tls_key=TLS_KEY.public_key())


def refused(act) -> TransportError:
    with pytest.raises(TransportError) as caught:
        act()
    assert caught.value.advice
    assert not caught.value.retry
    assert libcrypto.library().ERR_get_error() == 0, "the error queue is not drained"
    return caught.value


def refused_answer(signing: sm2.PrivateKey = SIGNING, **changes) -> str:
    changed = build_answer(msgspec.structs.replace(GOOD, **changes), signing)
    return refused(lambda: verify(changed)).code


def test_a_request_says_who_asks_and_shows_both_keys():
    request, csr = read_request(REQUEST)
    assert (request.terminal, request.nonce, request.hardware) == ("GT-0001", NONCE, HARDWARE)
    assert request.identity == IDENTITY.public.point
    assert csr.public_key() == TLS_KEY.public_key()
    assert csr.subject.rfc4514_string() == "CN=GT-0001"


def resigned(**changes) -> bytes:
    content, _ = msgspec.msgpack.decode(REQUEST)
    changed = msgspec.msgpack.encode(msgspec.structs.replace(decode(content, EnrolmentRequest), **changes))
    return msgspec.msgpack.encode([changed, IDENTITY.sign(changed)])


def test_a_request_for_another_key_than_its_signers_is_refused():
    assert refused(lambda: read_request(resigned(identity=SEAL.public.point))).code == "enroll.bad_signature"
    assert refused(lambda: read_request(resigned(identity=b"\x04" + bytes(64)))).code == "sm2.bad_key"


def test_a_request_with_another_terminals_tls_request_is_refused():
    """Its common name is the client certificate's, by which a broker knows the terminal."""
    assert refused(lambda: read_request(resigned(terminal="GT-0002"))).code == "enroll.bad_signature"
    content, _ = msgspec.msgpack.decode(REQUEST)
    csr = bytearray(decode(content, EnrolmentRequest).csr)
    csr[-1] ^= 1
    assert refused(lambda: read_request(resigned(csr=bytes(csr)))).code == "enroll.bad_signature"
    assert refused(lambda: read_request(resigned(csr=b"none"))).code == "enroll.bad_signature"


@pytest.mark.parametrize("name", ["GT1", "GT-0001\n", "GT_0001", "../../etc/x", "x" * 33, ""])
def test_a_request_under_a_name_that_no_terminal_can_have_is_refused(name):
    assert refused(lambda: read_request(resigned(terminal=name))).code == "enroll.malformed"


def test_the_right_answer_brings_what_the_platform_gave():
    enrolled = verify(ANSWER)
    assert (enrolled.terminal, enrolled.host, enrolled.port) == ("GT-0001", "broker.example.gov.cn", 8883)
    assert enrolled.ca == AUTHORITY.pem
    assert enrolled.client_certificate == GOOD.client_certificate
    assert enrolled.certificate.der == CERTIFICATE
    assert enrolled.certificate.key.point == SIGNING.public.point
    assert enrolled.seal_key.point == SEAL.public.point


def test_another_platforms_answer_is_refused_by_its_fingerprint():
    """All else would be right: who controls the way of the file can make such an answer."""
    forger = sm2.generate()
    forged = msgspec.structs.replace(GOOD, certificate=sm2_certificate("platform", forger))
    error = refused(lambda: verify(build_answer(forged, forger)))
    assert error.code == "enroll.fingerprint"
    assert fingerprint(sm.sm3(forged.certificate)) in str(error)
    assert refused(lambda: verify(ANSWER, EXPECTED[:-1] + bytes([EXPECTED[-1] ^ 1]))).code == "enroll.fingerprint"


def test_an_answer_that_another_key_signed_is_refused():
    assert refused_answer(sm2.generate()) == "enroll.bad_signature"


def test_an_answer_to_another_request_is_refused():
    """A wiped and newly requested terminal does not take the answer of before."""
    assert refused_answer(nonce=bytes(16)) == "enroll.other_request"
    assert refused_answer(terminal="GT-0002") == "enroll.other_terminal"


def test_a_certificate_that_is_none_is_refused_although_its_fingerprint_is_named():
    body = build_answer(msgspec.structs.replace(GOOD, certificate=b"none"), SIGNING)
    assert refused(lambda: verify(body, sm.sm3(b"none"))).code == "enroll.bad_certificate"


@pytest.mark.parametrize(
    "key", [b"", SEAL.public.to_der()[:-1], SEAL.public.to_der()[:-1] + b"\0"], ids=["none", "short", "changed"]
)
def test_a_seal_key_that_is_none_is_refused(key):
    assert refused_answer(seal_key=key) == "sm2.bad_key"


def test_a_client_certificate_for_another_key_is_refused():
    other = AUTHORITY.issue("GT-0001", CLIENT, ec.generate_private_key(ec.SECP256R1()).public_key())
    assert refused_answer(client_certificate=other) == "enroll.bad_tls"


def test_a_client_certificate_of_another_authority_is_refused():
    """Of the same name: only the signature tells."""
    other = Authority.make("authority")
    assert refused_answer(ca=other.pem) == "enroll.bad_tls"
    assert refused_answer(client_certificate=other.issue("GT-0001", CLIENT, TLS_KEY.public_key())) == "enroll.bad_tls"


def test_an_authority_that_is_none_is_refused():
    """A client's certificate as the broker's authority would let that client play the broker."""
    assert refused_answer(ca=GOOD.client_certificate) == "enroll.bad_tls"
    assert refused_answer(ca=AUTHORITY.pem + GOOD.client_certificate) == "enroll.bad_tls"


def test_an_authority_beside_the_clients_is_taken():
    """The broker's certificate may come from another authority than the clients'."""
    both = Authority.make("broker's").pem + AUTHORITY.pem
    enrolled = verify(build_answer(msgspec.structs.replace(GOOD, ca=both), SIGNING))
    assert x509.load_pem_x509_certificates(enrolled.ca) == x509.load_pem_x509_certificates(both)


def test_nothing_but_certificates_is_written():
    private = TLS_KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    enrolled = verify(build_answer(msgspec.structs.replace(GOOD, ca=b"# words\n" + AUTHORITY.pem + private), SIGNING))
    assert enrolled.ca == AUTHORITY.pem


def test_an_authority_of_another_kind_of_key_is_refused():
    pem = x509.load_der_x509_certificate(CERTIFICATE).public_bytes(serialization.Encoding.PEM)
    assert refused_answer(client_certificate=pem) == "enroll.bad_tls"
    assert refused_answer(ca=pem) == "enroll.bad_tls"


@pytest.mark.parametrize("host", ["", "a b", "mqtt://x", "x/y", "x\n", "x" * 254])
def test_a_host_that_is_none_is_refused(host):
    assert refused_answer(host=host) == "enroll.malformed"


def test_neither_message_is_taken_for_the_other():
    assert refused(lambda: verify(REQUEST)).code == "enroll.malformed"
    assert refused(lambda: read_request(ANSWER)).code == "enroll.malformed"


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=400))
def test_garbage_is_refused(body):
    assert refused(lambda: verify(body)).code == "enroll.malformed"
    assert refused(lambda: read_request(body)).code == "enroll.malformed"


@settings(max_examples=200, deadline=None)
@given(bit=st.integers(0, 8 * len(ANSWER) - 1))
def test_no_bit_of_an_answer_can_be_changed(bit):
    tampered = bytearray(ANSWER)
    tampered[bit // 8] ^= 1 << bit % 8
    codes = {"enroll.malformed", "enroll.fingerprint", "enroll.bad_signature"}
    assert refused(lambda: verify(bytes(tampered))).code in codes


@settings(max_examples=100, deadline=None)
@given(bit=st.integers(0, 8 * len(REQUEST) - 1))
def test_no_bit_of_a_request_can_be_changed(bit):
    tampered = bytearray(REQUEST)
    tampered[bit // 8] ^= 1 << bit % 8
    codes = {"enroll.malformed", "enroll.bad_signature", "sm2.bad_key"}
    assert refused(lambda: read_request(bytes(tampered))).code in codes


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(ANSWER) - 1))
def test_a_truncated_answer_is_refused(length):
    assert refused(lambda: verify(ANSWER[:length])).code == "enroll.malformed"


CA_DER = AUTHORITY.certificate.public_bytes(serialization.Encoding.DER)
CLIENT_DER = x509.load_pem_x509_certificate(GOOD.client_certificate).public_bytes(serialization.Encoding.DER)


def pem_of(der: bytes) -> bytes:
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()


@settings(max_examples=200, deadline=None)
@given(der=st.sampled_from([CA_DER, CLIENT_DER]), data=st.data())
def test_any_tls_certificate_under_a_right_signature_is_taken_or_refused(der, data):
    """Even the platform cannot make the terminal fail otherwise than by a refusal."""
    place = data.draw(st.integers(0, len(der) - 1))
    changed = der[:place] + data.draw(st.binary(max_size=3)) + der[place + data.draw(st.integers(0, 3)) :]
    pem = pem_of(changed)
    body = build_answer(
        msgspec.structs.replace(GOOD, **({"ca": pem} if der is CA_DER else {"client_certificate": pem})), SIGNING
    )
    code = ""
    try:
        verify(body)
    except TransportError as error:
        code = error.code
    assert code in ("", "enroll.bad_tls")


def test_an_answer_too_large_is_refused():
    assert refused_answer(ca=bytes(LARGEST_BYTES)) == "enroll.malformed"


def test_a_fingerprint_is_read_as_people_write_it():
    said = fingerprint(EXPECTED)
    assert [len(group) for group in said.split(" ")] == [4] * 16
    assert said.replace(" ", "") == EXPECTED.hex()
    for written in (said, said.upper(), EXPECTED.hex(), EXPECTED.hex(":"), f"  {said}\n"):
        assert parse_fingerprint(written) == EXPECTED


@pytest.mark.parametrize("text", ["", "abcd", "zz" * 32, "ab" * 31, "ab" * 33, "１２" * 32])
def test_a_fingerprint_that_is_none_is_refused(text):
    assert refused(lambda: parse_fingerprint(text)).code == "enroll.bad_fingerprint"
