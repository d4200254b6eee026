"""The platform's SM2 certificate: what openssl says of it, and that nothing else passes for one (T20, I7)."""

import re
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import authority
from sim.authority import Authority, sm2_certificate
from transport import certificate, libcrypto, sm, sm2
from transport.certificate import SigningCertificate
from transport.errors import TransportError

pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
"""Some altered certificates have a serial number that RFC 5280 does not allow, and the reader warns."""

PAIR = sm2.generate()
DER = sm2_certificate("platform", PAIR)
CONTENT = x509.load_der_x509_certificate(DER).tbs_certificate_bytes
SIGNER = f"distid:{sm2.SIGNER_ID.decode()}"
SM2_CURVE, P256_CURVE = bytes.fromhex("06082a811ccf5501822d"), bytes.fromhex("06082a8648ce3d030107")
DIGITAL_SIGNATURE = bytes.fromhex("0603551d0f0101ff040403020780")
KEY_AGREEMENT = bytes.fromhex("0603551d0f0101ff040403020308")
UNKNOWN_EXTENSION = bytes.fromhex("06032a03040101ff040403020780")


def refused(der: bytes) -> str:
    with pytest.raises(TransportError) as caught:
        SigningCertificate.from_der(der)
    assert caught.value.code == "enroll.bad_certificate"
    assert libcrypto.library().ERR_get_error() == 0, "the error queue is not drained"
    return str(caught.value)


def signed(content: bytes, pair: sm2.PrivateKey = PAIR) -> bytes:
    """Return a certificate around another content, rightly signed."""
    algorithm = authority._SM2_WITH_SM3
    return authority._tagged(0x30, content + algorithm + authority._tagged(0x03, b"\0" + pair.sign(content)))


def openssl(*arguments: object) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openssl_reads_and_verifies_it(tmp_path):
    """An independent reader: without it, maker and verifier could share one mistake."""
    der, public, content, signature = (tmp_path / name for name in ("platform.cer", "public.pem", "content", "sig"))
    der.write_bytes(DER)
    text = openssl("x509", "-inform", "DER", "-in", der, "-noout", "-text")
    assert text.count("Signature Algorithm: SM2-with-SM3") == 2
    assert "ASN1 OID: SM2" in text
    assert "Digital Signature" in text
    openssl("x509", "-inform", "DER", "-in", der, "-noout", "-pubkey", "-out", public)
    openssl("asn1parse", "-inform", "DER", "-in", der, "-strparse", 4, "-noout", "-out", content)
    signature.write_bytes(x509.load_der_x509_certificate(DER).signature)
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-digest", "sm3", "-pkeyopt", SIGNER)
    assert openssl(*verify, "-in", content, "-sigfile", signature) == "Signature Verified Successfully\n"


def test_openssls_own_certificate_is_read(tmp_path):
    """The other way round: a certificate that openssl made."""
    key, made = tmp_path / "key.pem", tmp_path / "platform.cer"
    openssl("genpkey", "-algorithm", "SM2", "-out", key)
    subject = ("-subj", "/CN=platform", "-addext", "keyUsage=critical,digitalSignature", "-days", 30)
    openssl("req", "-x509", "-new", "-key", key, "-sm3", "-sigopt", SIGNER, *subject, "-outform", "DER", "-out", made)
    read = SigningCertificate.from_der(made.read_bytes())
    assert (read.not_after - read.not_before).days == 30


def test_what_it_says():
    read = SigningCertificate.from_der(DER)
    assert read.key.point == PAIR.public.point
    assert read.digest == sm.sm3(DER)
    assert read.not_before < read.not_after
    assert read.not_before.tzinfo is not None


def test_another_curve_is_refused():
    other = Authority.make("of P-256").certificate.public_bytes(serialization.Encoding.DER)
    assert "1.2.840.10045.4.3.2" in refused(other)


def test_the_curve_of_p256_under_sm2s_signature_is_refused():
    assert CONTENT.count(SM2_CURVE) == 1
    refused(signed(CONTENT.replace(SM2_CURVE, P256_CURVE)))


@pytest.mark.parametrize("place", [1, 20, 33, 40, 64])
def test_a_point_off_the_curve_is_refused(place):
    point = bytearray(PAIR.public.point)
    point[place] ^= 1
    assert "not an SM2 key" in refused(signed(CONTENT.replace(PAIR.public.point, bytes(point))))


def test_a_compressed_point_is_refused():
    point = PAIR.public.point
    assert CONTENT.count(b"\x03\x42\x00" + point) == 1
    refused(signed(CONTENT.replace(point, b"\x02" + point[1:])))


def test_another_keys_signature_is_refused():
    assert "does not verify" in refused(signed(CONTENT, sm2.generate()))


def test_a_key_that_may_not_sign_is_refused():
    """RFC 5280 4.2.1.3: keyAgreement alone."""
    assert CONTENT.count(DIGITAL_SIGNATURE) == 1
    assert "key usage" in refused(signed(CONTENT.replace(DIGITAL_SIGNATURE, KEY_AGREEMENT)))


def test_a_certificate_without_key_usage_may_sign():
    """RFC 5280 4.2.1.3: without the extension a key is not restricted. openssl's default certificates have none."""
    other_extension = CONTENT.replace(DIGITAL_SIGNATURE, UNKNOWN_EXTENSION)
    assert SigningCertificate.from_der(signed(other_extension)).key.point == PAIR.public.point


def test_dates_are_told_and_not_judged():
    """L39: a terminal with a wrong clock could otherwise never be enrolled."""
    dates = re.findall(rb"\x17\x0d(\d{12})Z", CONTENT)
    past = CONTENT.replace(dates[0], b"990101000000").replace(dates[1], b"000101000000")
    read = SigningCertificate.from_der(signed(past))
    assert (read.not_before.year, read.not_after.year) == (1999, 2000)


def test_too_much_is_refused():
    refused(DER + bytes(16_384))
    refused(DER + b"\0")
    refused(b"")


@settings(max_examples=200, deadline=None)
@given(bit=st.integers(0, 8 * len(DER) - 1))
def test_a_tampered_certificate_is_refused(bit):
    tampered = bytearray(DER)
    tampered[bit // 8] ^= 1 << bit % 8
    refused(bytes(tampered))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(DER) - 1))
def test_a_truncated_certificate_is_refused(length):
    refused(DER[:length])


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(CONTENT) - 1), new=st.binary(max_size=4), cut=st.integers(0, 4))
def test_any_content_under_a_right_signature_is_read_or_refused(place, new, cut):
    """Whoever signs, the reader is total: a certificate or the one error, and nothing left in libcrypto's queue."""
    code = ""
    try:
        SigningCertificate.from_der(signed(CONTENT[:place] + new + CONTENT[place + cut :]))
    except TransportError as error:
        code = error.code
    assert code in ("", "enroll.bad_certificate")
    assert libcrypto.library().ERR_get_error() == 0


def test_every_certificate_handle_is_freed_also_on_errors(monkeypatch):
    real = libcrypto.library()
    made, freed = [], []

    class Counting:
        def __getattr__(self, name: str):
            function = getattr(real, name)
            if name == "d2i_X509":
                return lambda *arguments: made.append(function(*arguments)) or made[-1]
            if name == "X509_free":
                return lambda handle: freed.append(handle) or function(handle)
            return function

    monkeypatch.setattr(certificate, "library", Counting)
    SigningCertificate.from_der(DER)
    refused(signed(CONTENT, sm2.generate()))
    refused(signed(CONTENT.replace(SM2_CURVE, P256_CURVE)))
    monkeypatch.setattr(Counting, "i2d_X509_PUBKEY", lambda _self, _info, _end: -1, raising=False)
    refused(DER)
    assert len(made) == 4
    assert made == freed
