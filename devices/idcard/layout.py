"""The 256-byte text block of the four kinds of card: where each field lies, both ways (protocols 1.6).

The texts here are what is written on the card: digits for codes, YYYYMMDD for dates. Nothing is checked but that they
are text; `devices.idcard.record` makes typed data of them.
"""

import unicodedata
from contextlib import suppress
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import ClassVar, TypeAlias

from devices.idcard import errors
from devices.idcard.protocol import TEXT_BYTES


class Variant(StrEnum):
    """The kinds of card."""

    CITIZEN = "citizen"
    HK_MACAO_TAIWAN = "hk_macao_taiwan"
    """Residence permit of residents of Hong Kong, Macao and Taiwan."""
    FOREIGNER_2017 = "foreigner_2017"
    """Foreigner's permanent residence card, with a number of 15 characters."""
    FOREIGNER_2023 = "foreigner_2023"
    """Foreigner's permanent residence card issued from 2023-12-01, with a number of 18."""


@dataclass(frozen=True, slots=True, repr=False)
class CitizenText:
    """A citizen's card."""

    variant: ClassVar[Variant] = Variant.CITIZEN
    flag: ClassVar[str] = " "
    places: ClassVar[str] = """name 0 30, sex 30 2, nation 32 4, birth 36 16, address 52 70, id_number 122 36,
        issuer 158 30, valid_from 188 16, valid_to 204 16"""

    name: str
    sex: str
    nation: str
    birth: str
    address: str
    id_number: str
    issuer: str
    valid_from: str
    valid_to: str


@dataclass(frozen=True, slots=True, repr=False)
class PermitText:
    """A residence permit of residents of Hong Kong, Macao and Taiwan; `pass_number` is their travel permit's."""

    variant: ClassVar[Variant] = Variant.HK_MACAO_TAIWAN
    flag: ClassVar[str] = "J"
    places: ClassVar[str] = """name 0 30, sex 30 2, birth 36 16, address 52 70, id_number 122 36, issuer 158 30,
        valid_from 188 16, valid_to 204 16, pass_number 220 18, issue_count 238 4"""

    name: str
    sex: str
    birth: str
    address: str
    id_number: str
    issuer: str
    valid_from: str
    valid_to: str
    pass_number: str
    issue_count: str


@dataclass(frozen=True, slots=True, repr=False)
class Foreigner2017Text:
    """A foreigner's permanent residence card, model 2017; `authority` is the code of the issuing authority."""

    variant: ClassVar[Variant] = Variant.FOREIGNER_2017
    flag: ClassVar[str] = "I"
    places: ClassVar[str] = """english_name 0 120, sex 120 2, id_number 122 30, nationality 152 6, chinese_name 158 30,
        valid_from 188 16, valid_to 204 16, birth 220 16, version 236 4, authority 240 8"""

    english_name: str
    sex: str
    id_number: str
    nationality: str
    chinese_name: str
    valid_from: str
    valid_to: str
    birth: str
    version: str
    authority: str


@dataclass(frozen=True, slots=True, repr=False)
class Foreigner2023Text:
    """A foreigner's permanent residence card, model 2023; `previous` links to the holder's number before it."""

    variant: ClassVar[Variant] = Variant.FOREIGNER_2023
    flag: ClassVar[str] = "Y"
    places: ClassVar[
        str
    ] = """chinese_name 0 30, sex 30 2, renewals 32 4, birth 36 16, english_name 52 70, id_number 122 36,
        valid_from 188 16, valid_to 204 16, english_name 220 22, nationality 242 6, previous 250 6"""

    chinese_name: str
    sex: str
    renewals: str
    birth: str
    english_name: str
    id_number: str
    valid_from: str
    valid_to: str
    nationality: str
    previous: str


CardText: TypeAlias = CitizenText | PermitText | Foreigner2017Text | Foreigner2023Text

_KINDS: tuple[type[CardText], ...] = (CitizenText, PermitText, Foreigner2017Text, Foreigner2023Text)


def _parse_places(table: str) -> dict[str, list[slice]]:
    """Return each field's places in the block from entries `field offset bytes`; a long field can have two."""
    places: dict[str, list[slice]] = {}
    for name, offset, size in (entry.split() for entry in table.split(",")):
        places.setdefault(name, []).append(slice(int(offset), int(offset) + int(size)))
    return places


_PLACES = {kind: _parse_places(kind.places) for kind in _KINDS}
_FLAG = slice(248, 250)
_FLAGS: dict[bytes, type[CardText]] = {b"\0\0": CitizenText} | {kind.flag.encode("utf-16-le"): kind for kind in _KINDS}
"""Some citizens' cards have no flag at all."""
_CONTROLS = frozenset({"Cc", "Cf", "Zl", "Zp"})


def encode_text_block(text: CardText, *, flag: str | None = None) -> bytes:
    """Return the 256-byte block that a card with this text carries (the rig's half).

    `flag` stands at byte 248 instead of the kind's own. Raises ValueError when a field is longer than its place.
    """
    block = bytearray(b" \0" * (TEXT_BYTES // 2))
    block[_FLAG] = (flag or text.flag).encode("utf-16-le")
    for name, places in _PLACES[type(text)].items():
        encoded = getattr(text, name).encode("utf-16-le")
        space = sum(place.stop - place.start for place in places)
        if len(encoded) > space:
            raise ValueError(f"{len(encoded)} bytes for a field of {space}")
        encoded += b" \0" * ((space - len(encoded)) // 2)
        for place in places:
            size = place.stop - place.start
            block[place], encoded = encoded[:size], encoded[size:]
    return bytes(block)


def place_of(text: CardText, name: str) -> slice:
    """Return where a field that has one place lies in the block."""
    (place,) = _PLACES[type(text)][name]
    return place


def split_text(block: bytearray) -> CardText:
    """Cut a block of 256 bytes into its fields, without the padding; the flag tells the kind.

    Raises DeviceError: `idcard.variant_unsupported` for a flag that is none of the four kinds', `idcard.bad_record` for
    a field that is no text.
    """
    kind = _FLAGS.get(bytes(block[_FLAG]))
    if kind is None:
        raise errors.variant_unsupported()
    places = _PLACES[kind]
    return kind(*(decode_field(block, places[each.name]) for each in fields(kind)))


def decode_field(block: bytearray, places: list[slice]) -> str:
    """Return the text in these places, without the padding; refuse control characters, which a printer would obey."""
    value = None
    with suppress(UnicodeDecodeError):  # which holds the bytes, so no error may come of it
        value = b"".join(block[place] for place in places).decode("utf-16-le").rstrip(" \0")
    if value is None:
        raise errors.bad_record("a field is not UTF-16")
    if any(unicodedata.category(character) in _CONTROLS for character in value):
        raise errors.bad_record("a field has control characters")
    return value
