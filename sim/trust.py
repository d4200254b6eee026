"""All trust of a rig: the platform's keys and certificates, and a terminal that is enrolled with them."""

import secrets
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from cryptography.x509.oid import ExtendedKeyUsageOID

from runtime import credentials
from sim.authority import new_key, private_pem
from sim.enrolment import Desk, write


@dataclass(frozen=True, slots=True)
class Trust:
    """The files of a rig's trust: TLS certificates and keys in PEM, SM2 keys in DER."""

    ca: Path
    broker_certificate: Path
    broker_key: Path
    platform_certificate: Path
    platform_key: Path
    terminal: Path
    terminal_certificate: Path
    terminal_key: Path
    identity_key: Path
    signing_public_key: Path
    seal_public_key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """Name the files, whether they exist or not; the terminal's lie in a directory of their own."""
        terminal = directory / "terminal"
        return cls(
            ca=directory / "ca.pem",
            broker_certificate=directory / "broker.pem",
            broker_key=directory / "broker.key",
            platform_certificate=directory / "platform.pem",
            platform_key=directory / "platform.key",
            terminal=terminal,
            terminal_certificate=terminal / "terminal.pem",
            terminal_key=terminal / "terminal.key",
            identity_key=terminal / "identity.der",
            signing_public_key=terminal / "platform.der",
            seal_public_key=terminal / "seal.der",
        )


def make_trust(directory: Path, terminal_id: str, broker_port: int = 8883) -> Trust:
    """Make the platform's keys and certificates in `directory` (mode 0700) and enrol a terminal as on a real one.

    Raises FileExistsError when one is there already: a rig's keys are never replaced silently.
    """
    desk = Desk.make(directory)
    trust = Trust.in_directory(directory)
    for name, purpose, certificate_file, key_file in (
        ("broker", ExtendedKeyUsageOID.SERVER_AUTH, trust.broker_certificate, trust.broker_key),
        ("platform", ExtendedKeyUsageOID.CLIENT_AUTH, trust.platform_certificate, trust.platform_key),
    ):
        key = new_key()
        write(key_file, private_pem(key))
        write(certificate_file, desk.authority.issue(name, purpose, key.public_key()))
    _enrol(desk, trust.terminal, terminal_id, broker_port)
    return trust


def _enrol(desk: Desk, terminal: Path, terminal_id: str, broker_port: int) -> None:
    request, answer = desk.directory / f"{terminal_id}.request", desk.directory / f"{terminal_id}.answer"
    credentials.request(
        terminal,
        request,
        terminal_id=terminal_id,
        hardware=secrets.token_hex(16),
        software_version=version("govterm"),
    )
    answered = desk.answer(request.read_bytes(), "127.0.0.1", broker_port)
    write(answer, answered.message)
    desk.register(answered)
    credentials.accept(terminal, answer, desk.fingerprint)
