"""What this machine is called at the platform (H8)."""

import hmac
from pathlib import Path

from transport.errors import TransportError

_MACHINE_ID = Path("/etc/machine-id")
_APPLICATION = bytes.fromhex("ec40763905a73455a70dece9887c9717")
_BYTES = 16


def hardware_id(machine_id: Path = _MACHINE_ID, application: bytes = _APPLICATION) -> str:
    """Return the machine's name, 32 hexadecimal digits, which does not tell the machine id that it comes from.

    The recipe is systemd's `sd_id128_get_machine_app_specific`: HMAC-SHA256 keyed by the machine id over the
    application's id, cut to a UUID of version 4. Raises TransportError (`enroll.no_machine_id`).
    """
    try:
        secret = bytes.fromhex(machine_id.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        secret = b""
    if len(secret) != _BYTES:
        raise TransportError(
            "enroll.no_machine_id",
            f"{machine_id} names no machine",
            advice="run `systemd-machine-id-setup`",
            retry=False,
        )
    made = bytearray(hmac.digest(secret, application, "sha256")[:_BYTES])
    made[6] = made[6] & 0x0F | 0x40
    made[8] = made[8] & 0x3F | 0x80
    return made.hex()
