"""What a terminal is to the platform: its software, this boot of its board, and the keys it was enrolled with."""

from dataclasses import dataclass
from pathlib import Path

from runtime.config import Settings, secret_file
from transport.channel import ChannelKeys
from transport.errors import TransportError
from transport.sm2 import PrivateKey, PublicKey


@dataclass(frozen=True, slots=True, repr=False)
class Enrolment:
    """The terminal's side of its enrolment; `seal_key` verifies the seals of certificates (I3)."""

    software_version: str
    boot_id: str
    keys: ChannelKeys
    seal_key: PublicKey


def load_enrolment(settings: Settings, *, software_version: str, boot_id: str) -> Enrolment:
    """Read the keys the settings name; raise TransportError (`sm2.bad_key`) when one cannot be used."""
    platform = settings.platform
    identity = PrivateKey.from_der(_read(secret_file(platform.identity_key_file)))
    signing = PublicKey.from_der(_read(secret_file(platform.signing_key_file)))
    seal = PublicKey.from_der(_read(secret_file(platform.seal_key_file)))
    return Enrolment(software_version, boot_id, ChannelKeys(identity, signing), seal)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TransportError(
            "sm2.bad_key", f"{path.name}: errno {error.errno}", advice="see `govterm check`", retry=False
        ) from None
