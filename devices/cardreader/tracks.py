"""What a card tells of its account, in types for personal data: magnetic tracks, card number, expiry (T5, T20, T22)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle

from devices.personal import Kind, PersonalBytes, PersonalText

SHORTEST_NUMBER, LONGEST_NUMBER = 12, 19


@dataclass(frozen=True, slots=True, repr=False)
class Tracks:
    """The magnetic tracks that could be read, without sentinels, and what is wrong with the others.

    `number` and `expiry` (YYMM) come from track 2, when it begins with a card number whose check digit is right.
    """

    track1: PersonalBytes | None = None
    track2: PersonalBytes | None = None
    track3: PersonalBytes | None = None
    number: PersonalText | None = None
    expiry: PersonalText | None = None
    faults: Mapping[int, str] = field(default_factory=dict)

    def wipe(self) -> None:
        """Overwrite every personal value."""
        for value in (self.track1, self.track2, self.track3, self.number, self.expiry):
            if value is not None:
                value.wipe()

    def __repr__(self) -> str:
        return f"<tracks, faults {dict(self.faults)}>"


def luhn_valid(number: str) -> bool:
    """Whether `number` is a card number with the right check digit (ISO/IEC 7812-1)."""
    if not (SHORTEST_NUMBER <= len(number) <= LONGEST_NUMBER and number.isascii() and number.isdigit()):
        return False
    doubled = cycle(("0123456789", "0246813579"))
    return sum(int(weights[int(digit)]) for digit, weights in zip(reversed(number), doubled, strict=False)) % 10 == 0


def split_track2(text: str) -> tuple[str, str] | None:
    """Return card number and expiry (YYMM) of track 2, whose separator is `=` on the stripe and `D` in the chip.

    None when there is no valid number or no expiry.
    """
    number, _, rest = text.replace("D", "=").partition("=")
    expiry = rest[:4]
    if luhn_valid(number) and valid_expiry(expiry):
        return number, expiry
    return None


def valid_expiry(expiry: str) -> bool:
    """Whether `expiry` reads YYMM."""
    return len(expiry) == 4 and expiry.isascii() and expiry.isdigit() and "01" <= expiry[2:] <= "12"


def make_tracks(read: Mapping[int, bytearray], faults: Mapping[int, str]) -> Tracks:
    """Return the tracks of a stripe, by number, and wipe `read`."""
    found = split_track2(read[2].decode("ascii", "replace")) if 2 in read else None
    one, two, three = (PersonalBytes(read[number]) if number in read else None for number in (1, 2, 3))
    for data in read.values():
        data[:] = bytes(len(data))
    return Tracks(
        one,
        two,
        three,
        number=PersonalText(found[0], Kind.CARD_NUMBER) if found else None,
        expiry=PersonalText(found[1], Kind.DATE) if found else None,
        faults=dict(faults),
    )
