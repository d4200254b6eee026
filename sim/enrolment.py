"""The platform's enrolment desk: what it signs with, and the register of the terminals it knows."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from sim.authority import Authority, private_pem, sm2_certificate
from transport import sm, sm2
from transport.enrolment import EnrolmentAnswer, build_answer, fingerprint, read_request
from transport.errors import TransportError


@dataclass(frozen=True, slots=True)
class Answered:
    """A request as answered; `fingerprint` is to be compared with what the caller at the terminal reads out."""

    message: bytes
    terminal: str
    hardware: str
    identity: sm2.PublicKey

    @property
    def fingerprint(self) -> str:
        """The identity key's fingerprint."""
        return fingerprint(sm.sm3(self.identity.to_der()))


@dataclass(frozen=True, slots=True)
class Desk:
    """A directory with everything of the desk."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        """Make an authority, signing key and seal key in `directory` (mode 0700), files with mode 0400.

        Raises FileExistsError when one is there already: a rig's keys are never replaced silently.
        """
        desk = cls(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, signing = Authority.make("govterm rig CA"), sm2.generate()
        write(directory / "ca.key", private_pem(authority.key))
        write(directory / "ca.pem", authority.pem)
        write(directory / "signing.der", signing.to_der())
        write(directory / "signing.cer", sm2_certificate("govterm rig platform", signing))
        write(directory / "seal.der", sm2.generate().to_der())
        desk._register.mkdir(mode=0o700)
        return desk

    @property
    def authority(self) -> Authority:
        """Who issues the TLS certificates."""
        return Authority.load((self.directory / "ca.pem").read_bytes(), (self.directory / "ca.key").read_bytes())

    @property
    def signing_key(self) -> sm2.PrivateKey:
        """What signs grants and answers."""
        return sm2.PrivateKey.from_der((self.directory / "signing.der").read_bytes())

    @property
    def seal_key(self) -> sm2.PrivateKey:
        """What seals certificates for citizens (I3)."""
        return sm2.PrivateKey.from_der((self.directory / "seal.der").read_bytes())

    @property
    def fingerprint(self) -> str:
        """The fingerprint that `govterm enroll accept` wants."""
        return fingerprint(sm.sm3((self.directory / "signing.cer").read_bytes()))

    def terminals(self) -> dict[str, sm2.PublicKey]:
        """Return the identity key of each enrolled terminal."""
        return {path.stem: sm2.PublicKey.from_der(path.read_bytes()) for path in self._register.glob("*.der")}

    def answer(self, request: bytes, host: str, port: int) -> Answered:
        """Return the answer to a request, with the broker's address in it.

        Raises TransportError for a request that is not sound.
        """
        read, csr = read_request(request)
        public = csr.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise TransportError(
                "enroll.bad_signature", "its TLS key has no elliptic curve", advice="make a new request", retry=False
            )
        authority = self.authority
        content = EnrolmentAnswer(
            "govterm-enrolment-answer",
            1,
            read.nonce,
            read.terminal,
            host,
            port,
            authority.pem,
            authority.issue(read.terminal, ExtendedKeyUsageOID.CLIENT_AUTH, public),
            (self.directory / "signing.cer").read_bytes(),
            self.seal_key.public.to_der(),
        )
        message = build_answer(content, self.signing_key)
        return Answered(message, read.terminal, read.hardware, sm2.PublicKey.from_point(read.identity))

    def register(self, answered: Answered) -> bool:
        """Know the terminal from now on; return whether its name had another key, which no longer counts."""
        place = self._register / f"{answered.terminal}.der"
        known = place.exists()
        place.unlink(missing_ok=True)
        write(place, answered.identity.to_der())
        return known

    @property
    def _register(self) -> Path:
        return self.directory / "terminals"


def write(path: Path, content: bytes) -> None:
    """Write a new file with mode 0400; raise FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
