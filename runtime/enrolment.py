"""What a terminal is to the platform: its software, this boot of its board, and the keys it was enrolled with."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from runtime.config import Settings, open_to_others, secret_file
from runtime.hardware import expect_enrolled
from transport.errors import TransportError
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from transport.sm2 import PrivateKey, PublicKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Enrolment:
    """The terminal's side of its enrolment; `seal_key` verifies the seals of certificates (I3).

    `refusal` is why nothing may be served under it: this is not the machine that was enrolled (H8).
    """

    software_version: str
    boot_id: str
    keys: ChannelKeys
    seal_key: PublicKey
    refusal: TransportError | None = None


def load_enrolment(settings: Settings, *, software_version: str, boot_id: str) -> Enrolment:
    """Read the keys the settings name, and see whether this is the machine they were made for; a rig is any machine.

    Raises TransportError: `sm2.bad_key` when one cannot be used, `key.file_open` when a private one or a password can
    be read by others than its owner.
    """
    platform = settings.platform
    passwords = [platform.password_file, settings.ups.password_file if settings.ups is not None else None]
    for name in (platform.identity_key_file, platform.private_key_file, *passwords):
        if name is not None:
            _expect_closed(secret_file(name))
    identity = PrivateKey.from_der(_read(secret_file(platform.identity_key_file)))
    signing = PublicKey.from_der(_read(secret_file(platform.signing_key_file)))
    seal = PublicKey.from_der(_read(secret_file(platform.seal_key_file)))
    refusal = None if settings.rig else _refusal(platform.hardware)
    return Enrolment(software_version, boot_id, ChannelKeys(IdentityKey(identity), signing), seal, refusal)


def _refusal(enrolled: str | None) -> TransportError | None:
    if enrolled is None:
        log.warning("hardware_not_named", advice="write `hardware` of `govterm enroll show` into [platform]")
        return None
    try:
        expect_enrolled(enrolled)
    except TransportError as error:
        return error
    return None


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
