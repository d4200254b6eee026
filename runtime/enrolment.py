"""What a terminal is to the platform: its software, this boot of its board, and the keys it was enrolled with."""

from dataclasses import dataclass
from pathlib import Path

from runtime.config import Settings, open_to_others, secret_file
from transport.errors import TransportError
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from transport.sm2 import PrivateKey, PublicKey


@dataclass(frozen=True, slots=True, repr=False)
class Enrolment:
    """The terminal's side of its enrolment; `seal_key` verifies the seals of certificates (I3)."""

    software_version: str
    boot_id: str
    keys: ChannelKeys
    seal_key: PublicKey


def load_enrolment(settings: Settings, *, software_version: str, boot_id: str) -> Enrolment:
    """Read the keys the settings name.

    Raises TransportError: `sm2.bad_key` when one cannot be used, `key.file_open` when a private one can be read by
    others than its owner.
    """
    platform = settings.platform
    for name in (platform.identity_key_file, platform.private_key_file):
        _expect_closed(secret_file(name))
    identity = PrivateKey.from_der(_read(secret_file(platform.identity_key_file)))
    signing = PublicKey.from_der(_read(secret_file(platform.signing_key_file)))
    seal = PublicKey.from_der(_read(secret_file(platform.seal_key_file)))
    return Enrolment(software_version, boot_id, ChannelKeys(IdentityKey(identity), signing), seal)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _expect_closed(path: Path) -> None:
    try:
        is_open = open_to_others(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if is_open:
        raise TransportError(
            "key.file_open", f"others can read {path.name}", advice=f"run `chmod 0400 {path}`", retry=False
        )


def _unreadable(path: Path, error: OSError) -> TransportError:
    return TransportError("sm2.bad_key", f"{path.name}: errno {error.errno}", advice="see `govterm check`", retry=False)
