"""The fingerprint features that a card carries (protocols 1.7): up to two records of GA/T 1012, 512 bytes each.

They are tagged with their format: only a licensed GA/T 1012 algorithm can compare them, never a ZFM sensor, though its
templates have the same size (protocols 2.5).
"""

from dataclasses import dataclass
from enum import IntEnum

from devices.fingerprint.finger import Template, TemplateFormat
from devices.idcard import errors
from devices.personal import PersonalBytes, wipe

RECORD_BYTES = TemplateFormat.GAT_1012.size
MOST_RECORDS = 2
_POSITION = 5
"""The only byte of a record's head whose meaning is attested (protocols 11)."""


class FingerPosition(IntEnum):
    """Which finger it is (protocols 1.7)."""

    RIGHT_THUMB = 11
    RIGHT_INDEX = 12
    RIGHT_MIDDLE = 13
    RIGHT_RING = 14
    RIGHT_LITTLE = 15
    LEFT_THUMB = 16
    LEFT_INDEX = 17
    LEFT_MIDDLE = 18
    LEFT_RING = 19
    LEFT_LITTLE = 20
    RIGHT_UNKNOWN = 97
    LEFT_UNKNOWN = 98
    OTHER = 99


@dataclass(frozen=True, slots=True)
class CardFinger:
    """The features of one finger; `position` is None for a code that the table does not have."""

    position: FingerPosition | None
    template: Template

    def wipe(self) -> None:
        """Overwrite the features."""
        self.template.wipe()


def make_record(position: int, features: bytes = b"") -> bytes:
    """Return a record as protocols 1.5 shows it, with features behind its head (the rig's half)."""
    return (bytes.fromhex("43 01 12 01 01") + bytes([position]) + features).ljust(RECORD_BYTES, b"\0")


def parse_fingers(block: bytearray) -> tuple[CardFinger, ...]:
    """Return the fingers in a card's block; a record of zeros is no finger.

    Raises DeviceError `idcard.bad_record` when the block is not one or two records, or empty.
    """
    if len(block) not in range(0, MOST_RECORDS * RECORD_BYTES + 1, RECORD_BYTES):
        raise errors.bad_record("the fingerprint block has a wrong size")
    found = []
    for start in range(0, len(block), RECORD_BYTES):
        record = block[start : start + RECORD_BYTES]
        if any(record):
            code = record[_POSITION]
            position = FingerPosition(code) if code in FingerPosition.__members__.values() else None
            found.append(CardFinger(position, Template(TemplateFormat.GAT_1012, PersonalBytes(record))))
        wipe(record)
    return tuple(found)
