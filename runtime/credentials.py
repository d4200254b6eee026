"""The directory of a terminal's keys and certificates, from the request for enrolment to its wiping (T20, H8)."""

import datetime
import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.durable import beside, overwrite, put_all, sync, write_new
from transport import sm, sm2
from transport.certificate import UNREADABLE, SigningCertificate
from transport.enrolment import (
    LARGEST_BYTES,
    Enrolled,
    TerminalId,
    build_request,
    fingerprint,
    parse_fingerprint,
    verify_answer,
)
from transport.errors import TransportError

DIRECTORY = Path("/etc/govterm/credentials")
IDENTITY, TLS_KEY, PENDING, ENROLMENT = "identity.der", "terminal.key", "request.json", "enrolment.json"
CERTIFICATE, TLS_CERTIFICATE = "platform.cer", "terminal.pem"

_KEYS = (IDENTITY, TLS_KEY, f"{IDENTITY}.cred", f"{TLS_KEY}.cred")
"""The last two are encrypted by systemd-creds, where the board has a TPM (docs/enrolment.md)."""
_TRUST = ("ca.pem", TLS_CERTIFICATE, CERTIFICATE, "platform.der", "seal.der")
_BEGIN_ANEW = "to begin anew: `govterm enroll wipe`, then `govterm enroll request`"
_SECTION = {
    "ca_file": "ca.pem",
    "certificate_file": TLS_CERTIFICATE,
    "private_key_file": TLS_KEY,
    "identity_key_file": IDENTITY,
    "signing_key_file": "platform.der",
    "seal_key_file": "seal.der",
}

R = TypeVar("R", bound=msgspec.Struct)


class PendingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `accept` must know of the request: no secret."""

    terminal_id: str
    identity: str
    nonce: bytes
    hardware: str


class EnrolmentRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An enrolment in force: no secret. `identity` and `platform` are fingerprints as they are read out.

    `hardware` names the machine that was enrolled (runtime/hardware.py).
    """

    terminal_id: str
    host: str
    port: int
    identity: str
    platform: str
    accepted_at: str
    hardware: str


def request(directory: Path, output: Path, *, terminal_id: str, hardware: str, software_version: str) -> str:
    """Make the terminal's keys in `directory` and write its request to `output`, a new file.

    Returns the fingerprint of the identity key. Raises TransportError: `enroll.already`, `enroll.directory_open`,
    `enroll.file`; then nothing is left behind.
    """
    made: list[Path] = []
    try:
        _prepare(directory)
        identity, tls_key = sm2.generate(), ec.generate_private_key(ec.SECP256R1())
        nonce = os.urandom(16)
        said = fingerprint(sm.sm3(identity.public.to_der()))
        message = build_request(
            terminal_id, identity, tls_key, nonce=nonce, hardware=hardware, software_version=software_version
        )
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        for path, content, mode in (
            (directory / IDENTITY, identity.to_der(), 0o400),
            (directory / TLS_KEY, tls_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), 0o400),
            (directory / PENDING, msgspec.json.encode(PendingRequest(terminal_id, said, nonce, hardware)), 0o400),
            (output, message, 0o644),
        ):
            write_new(path, content, mode)
            made.append(path)
        sync(directory)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise _file_error(error) from None
    return said


def accept(directory: Path, answer: Path, platform_fingerprint: str) -> Enrolled:
    """Verify the platform's answer to the pending request and put what it brings into force, all or nothing.

    Raises TransportError: `enroll.already`, `enroll.no_request`, `enroll.file`, `enroll.bad_fingerprint` and those of
    `transport.enrolment.verify_answer`; then nothing has changed.
    """
    if _load(directory / ENROLMENT, EnrolmentRecord) is not None:
        raise _already(directory)
    expected = parse_fingerprint(platform_fingerprint)
    if (pending := _load(directory / PENDING, PendingRequest)) is None:
        raise _error("enroll.no_request", f"no request was made in {directory}", "begin with `govterm enroll request`")
    try:
        key = serialization.load_pem_private_key(_read(directory / TLS_KEY), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(directory / TLS_KEY)
    enrolled = verify_answer(
        _read(answer), expected, terminal=pending.terminal_id, nonce=pending.nonce, tls_key=key.public_key()
    )
    record = EnrolmentRecord(
        enrolled.terminal,
        enrolled.host,
        enrolled.port,
        pending.identity,
        fingerprint(enrolled.certificate.digest),
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        pending.hardware,
    )
    certificate = enrolled.certificate
    contents = (enrolled.ca, enrolled.client_certificate, certificate.der, certificate.key.to_der())
    files = dict(zip(_TRUST, (*contents, enrolled.seal_key.to_der()), strict=True))
    try:
        put_all(directory, {**files, ENROLMENT: msgspec.json.encode(record)})
        (directory / PENDING).unlink()
    except OSError as error:
        raise _file_error(error) from None
    return enrolled


def platform_section(directory: Path) -> dict[str, str | int]:
    """Return the section `[platform]` of an enrolment's configuration.

    From the default directory systemd hands over the files, so they are named without it. Raises TransportError
    (`enroll.nothing`, `enroll.file`).
    """
    if (found := _load(directory / ENROLMENT, EnrolmentRecord)) is None:
        raise _nothing(directory)
    where = Path() if directory == DIRECTORY else directory.absolute()
    files = {key: str(where / name) for key, name in _SECTION.items()}
    named = {"terminal_id": found.terminal_id, "hardware": found.hardware}
    return {"host": found.host, "port": found.port, **named, **files}


def is_terminal_id(name: str) -> bool:
    """Whether a terminal can have this name."""
    try:
        msgspec.convert(name, TerminalId)
    except msgspec.ValidationError:
        return False
    return True


def describe(directory: Path) -> dict[str, str]:
    """Return what there is to tell about a request or an enrolment, in the order to tell it; never a secret.

    Raises TransportError (`enroll.nothing`, `enroll.file`, `enroll.bad_certificate`).
    """
    if (found := _load(directory / ENROLMENT, EnrolmentRecord)) is None:
        if (pending := _load(directory / PENDING, PendingRequest)) is None:
            raise _nothing(directory)
        about = {"terminal": pending.terminal_id, "hardware": pending.hardware, "identity": pending.identity}
        return about | {"state": "waits for the answer"}
    certificate = SigningCertificate.from_der(_read(directory / CERTIFICATE))
    try:
        tls = x509.load_pem_x509_certificate(_read(directory / TLS_CERTIFICATE))
    except UNREADABLE:
        raise _damaged(directory / TLS_CERTIFICATE) from None
    return {
        "terminal": found.terminal_id,
        "hardware": found.hardware,
        "identity": found.identity,
        "platform": found.platform,
        "signing certificate": f"{certificate.not_before} to {certificate.not_after}",
        "TLS certificate": f"{tls.not_valid_before_utc} to {tls.not_valid_after_utc}",
        "broker": f"{found.host} port {found.port}",
        "enrolled": found.accepted_at,
    }


def wipe(directory: Path) -> list[str]:
    """Overwrite the keys and remove everything of a request or an enrolment; return the names of what was there.

    Raises TransportError (`enroll.file`); then it can be done again.
    """
    gone = []
    try:
        for path in _present(directory):
            if path.name in _KEYS:
                overwrite(path)
            path.unlink()
            gone.append(path.name)
        if gone:
            sync(directory)
    except OSError as error:
        raise _file_error(error) from None
    return gone


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        raise _error("enroll.directory_open", f"others may enter {directory}", f"run `chmod 0700 {directory}`")
    if _present(directory):
        raise _already(directory)


def _present(directory: Path) -> list[Path]:
    """Return what there is of an enrolment, the keys first; raise OSError."""
    try:
        found = set(directory.iterdir())
    except FileNotFoundError:
        return []
    named = [directory / name for name in (*_KEYS, PENDING, ENROLMENT, *_TRUST)]
    return [path for one in named for path in (one, beside(one)) if path in found]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise _file_error(error) from None


def _load(path: Path, kind: type[R]) -> R | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _file_error(error) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _damaged(path) from None


def _already(directory: Path) -> TransportError:
    return _error("enroll.already", f"{directory} has the keys of a request or an enrolment", _BEGIN_ANEW)


def _damaged(path: Path) -> TransportError:
    return _error("enroll.file", f"{path} is damaged", _BEGIN_ANEW)


def _nothing(directory: Path) -> TransportError:
    return _error("enroll.nothing", f"no enrolment in {directory}", "begin with `govterm enroll request`")


def _file_error(error: OSError) -> TransportError:
    return _error(
        "enroll.file", f"{error.filename or 'the disk'}: {error.strerror}", "see to the file and do it again, as root"
    )


def _error(code: str, message: str, advice: str) -> TransportError:
    return TransportError(code, message, advice=advice, retry=False)
