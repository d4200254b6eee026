"""What this machine is called at the platform, and whether it is the one that was enrolled (H8).

The board's own serial number, so that a copied card or disk on another board is another machine. Where the board tells
none, `/etc/machine-id`, which a copy takes along: then only this is known, and said.
"""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from transport.errors import TransportError

log = structlog.get_logger(__name__)

Source = Literal["product_serial", "board_serial", "device_tree", "machine_id"]

_SERIALS: dict[Source, str] = {
    "product_serial": "sys/devices/virtual/dmi/id/product_serial",
    "board_serial": "sys/devices/virtual/dmi/id/board_serial",
    "device_tree": "sys/firmware/devicetree/base/serial-number",
}
"""Where a board tells its serial number: DMI (SMBIOS), or the device tree of an ARM board."""
_MACHINE_ID = "etc/machine-id"
_APPLICATION = bytes.fromhex("ec40763905a73455a70dece9887c9717")
_BYTES = 16
_SHORTEST = 4
_BLANK = {
    *("tobefilledbyoem", "defaultstring", "systemserialnumber", "baseboardserialnumber", "boardserialnumber"),
    *("notspecified", "notapplicable", "notavailable", "unknown", "none", "null", "invalid", "serial", "serialnumber"),
    *("chassisserialnumber", "oem", "default", "empty", "123456789", "0123456789", "1234567890", "12345678"),
}
"""What makers leave in the place of a serial number, without anything but letters and digits."""


@dataclass(frozen=True, slots=True)
class HardwareName:
    """A name of the machine, 32 hexadecimal digits that do not tell what they come from, and its source."""

    name: str
    source: Source


def hardware_names(root: Path = Path("/")) -> list[HardwareName]:
    """Return every name that this machine tells, the best first; the files lie below `root`.

    A serial number's is HMAC-SHA256 keyed by the application's id over source and number; the machine id's is systemd's
    `sd_id128_get_machine_app_specific`. Each is cut to a UUID of version 4.
    """
    found: list[HardwareName] = []
    for source, place in _SERIALS.items():
        if serial := _serial(root / place):
            found.append(HardwareName(_made(_APPLICATION, f"{source}\0{serial}".encode()), source))
    if (secret := _machine_id(root / _MACHINE_ID)) is not None:
        found.append(HardwareName(machine_name(secret, _APPLICATION), "machine_id"))
    return found


def hardware_name() -> HardwareName:
    """Return the best name of this machine, to be enrolled; raise TransportError (`enroll.no_machine_id`)."""
    if not (found := hardware_names()):
        raise TransportError(
            "enroll.no_machine_id",
            f"neither the board nor /{_MACHINE_ID} names this machine",
            advice="run `systemd-machine-id-setup`",
            retry=False,
        )
    return found[0]


def expect_enrolled(enrolled: str) -> None:
    """Return when this is the machine that was enrolled under this name.

    Raises TransportError (`hardware.mismatch`). A name that comes from the machine id alone is logged: copies have it.
    """
    found = hardware_names()
    source = next((one.source for one in found if one.name == enrolled), None)
    if source is None:
        raise TransportError(
            "hardware.mismatch",
            f"enrolled on another machine; this one tells {', '.join(one.source for one in found) or 'nothing'}",
            advice="put the card back into its own board, or `govterm enroll wipe` and enrol this one anew; "
            "if it is the right board, run `systemd-tmpfiles --create` so that the daemon may read its serial number",
            retry=False,
        )
    if source == "machine_id":
        log.warning("hardware_by_machine_id", advice="a copied disk has it too: enrol anew on a board with a serial")


def machine_name(machine_id: bytes, application: bytes) -> str:
    """Return systemd's name of a machine for an application, by its 16-byte ids."""
    return _made(machine_id, application)


def _made(key: bytes, content: bytes) -> str:
    made = bytearray(hmac.digest(key, content, "sha256")[:_BYTES])
    made[6] = made[6] & 0x0F | 0x40
    made[8] = made[8] & 0x3F | 0x80
    return made.hex()


def _serial(path: Path) -> str | None:
    """Return the serial number in a file; None where there is none, it may not be read or its maker left it blank."""
    try:
        text = path.read_bytes().decode("ascii", "replace").strip("\0 \t\r\n")
    except OSError:
        return None
    letters = "".join(one for one in text.casefold() if one.isalnum())
    is_blank = len(letters) < _SHORTEST or len(set(letters)) == 1 or letters in _BLANK
    return None if is_blank else text


def _machine_id(path: Path) -> bytes | None:
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
    return secret if len(secret) == _BYTES else None
