"""The typed record of a resident identity card, and the text block it comes from (protocols 1.6 and 1.8).

A card that contradicts itself is refused: no field is guessed, and no error quotes one.
"""

import datetime
import unicodedata
from dataclasses import astuple, dataclass
from typing import Literal

from devices.errors import DeviceError
from devices.idcard.protocol import PHOTO_BYTES, TEXT_BYTES
from devices.personal import Kind, PersonalBytes, PersonalText

LONG_TERM = "长期"

_LAYOUT = (15, 1, 2, 8, 35, 18, 15, 8, 8)
"""Characters of the citizen layout's fields, in the order of CitizenText; 18 reserved ones follow."""

_FLAG = slice(248, 250)
_CITIZEN_FLAGS = (b" \x00", b"\x00\x00")

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"

_SEXES: dict[str, Literal["男", "女", "未知", "未说明"]] = {"0": "未知", "1": "男", "2": "女", "9": "未说明"}

_NATIONS = """
    01汉 02蒙古 03回 04藏 05维吾尔 06苗 07彝 08壮 09布依 10朝鲜 11满 12侗 13瑶 14白 15土家 16哈尼 17哈萨克 18傣 19黎
    20傈僳 21佤 22畲 23高山 24拉祜 25水 26东乡 27纳西 28景颇 29柯尔克孜 30土 31达斡尔 32仫佬 33羌 34布朗 35撒拉 36毛南
    37仡佬 38锡伯 39阿昌 40普米 41塔吉克 42怒 43乌孜别克 44俄罗斯 45鄂温克 46德昂 47保安 48裕固 49京 50塔塔尔 51独龙
    52鄂伦春 53赫哲 54门巴 55珞巴 56基诺 97其他 98外国血统中国籍人士
"""
_NATION_NAMES = {entry[:2]: entry[2:] for entry in _NATIONS.split()}


@dataclass(frozen=True, slots=True, repr=False)
class CitizenText:
    """The fields of a citizen card's text block as they are written: digits for codes, YYYYMMDD for dates."""

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
class CardRecord:
    """A citizen's card, checked against itself (T1). `photo` is the chip's block of 1,024 bytes.

    `birth` reads YYYYMMDD. `sex` is a name of GB/T 2261.1, `nation` one of GB/T 3304. `valid_to` is None for a
    card that does not expire (长期).
    """

    name: PersonalText
    sex: Literal["男", "女", "未知", "未说明"]
    nation: str
    birth: PersonalText
    address: PersonalText
    id_number: PersonalText
    issuer: PersonalText
    valid_from: datetime.date
    valid_to: datetime.date | None
    photo: PersonalBytes

    def wipe(self) -> None:
        """Overwrite every personal value."""
        for value in (self.name, self.birth, self.address, self.id_number, self.issuer, self.photo):
            value.wipe()

    def __repr__(self) -> str:
        return "<card record>"


def check_digit(first_seventeen: str) -> str:
    """Return the last character of an ID number for its first 17 digits (GB 11643, ISO 7064 MOD 11-2)."""
    total = sum(int(digit) * weight for digit, weight in zip(first_seventeen, _WEIGHTS, strict=True))
    return _CHECK_DIGITS[total % 11]


def nation_name(code: str) -> str:
    """Return the nation's name for its two digits (GB/T 3304); an unassigned code gives 其他 and the code."""
    return _NATION_NAMES.get(code, f"其他({code})")


def encode_text_block(text: CitizenText, *, flag: str = " ") -> bytes:
    """Return the 256-byte block that a card with this text carries (the rig's half).

    `flag` is the card's variant at byte 248. Raises ValueError when a field is longer than its place.
    """
    block = bytearray(b" \0" * (TEXT_BYTES // 2))
    block[_FLAG] = flag.encode("utf-16-le")
    start = 0
    for value, size in zip(astuple(text), _LAYOUT, strict=True):
        encoded = value.encode("utf-16-le")
        if len(encoded) > 2 * size:
            raise ValueError(f"{len(encoded)} bytes for a field of {2 * size}")
        block[start : start + len(encoded)] = encoded
        start += 2 * size
    return bytes(block)


def parse_record(text_block: bytearray, photo_block: bytearray) -> CardRecord:
    """Return the record in a card's two blocks.

    Raises DeviceError: `idcard.variant_unsupported` for a permit of another kind, `idcard.bad_check_digit` for a
    wrong ID number, `idcard.bad_record` for everything else that is malformed or contradicts itself.
    """
    if len(text_block) != TEXT_BYTES or len(photo_block) != PHOTO_BYTES:
        raise _bad_record("the blocks have wrong sizes")
    if bytes(text_block[_FLAG]) not in _CITIZEN_FLAGS:
        raise DeviceError(
            "idcard.variant_unsupported",
            "not a citizen's card",
            advice="serve this citizen at the counter; residence permits of other kinds are not read yet",
            retry=False,
        )
    text = _split_text(text_block)
    _check_number(text.id_number)
    birth = _date(text.birth, "birth")
    valid_from = _date(text.valid_from, "valid_from")
    valid_to = None if text.valid_to == LONG_TERM else _date(text.valid_to, "valid_to")
    if text.id_number[6:14] != text.birth:
        raise _bad_record("birth differs from the ID number")
    if not birth <= valid_from <= (valid_to or datetime.date.max):
        raise _bad_record("the dates are out of order")
    if text.sex not in _SEXES:
        raise _bad_record("sex has no meaning")
    if text.sex in "12" and int(text.id_number[16]) % 2 != int(text.sex) % 2:
        raise _bad_record("sex differs from the ID number")
    if not _digits(text.nation, 2):
        raise _bad_record("nation is not a number")
    if not text.name or not text.address:
        raise _bad_record("name or address is empty")
    return CardRecord(
        name=PersonalText(text.name, Kind.NAME),
        sex=_SEXES[text.sex],
        nation=nation_name(text.nation),
        birth=PersonalText(text.birth, Kind.DATE),
        address=PersonalText(text.address, Kind.ADDRESS),
        id_number=PersonalText(text.id_number, Kind.IDENTIFIER),
        issuer=PersonalText(text.issuer, Kind.ADDRESS),
        valid_from=valid_from,
        valid_to=valid_to,
        photo=PersonalBytes(photo_block),
    )


def _split_text(block: bytearray) -> CitizenText:
    """Cut the block into its fields, without the padding; refuse control characters, which a printer would obey."""
    fields: list[str] = []
    start = 0
    for size in _LAYOUT:
        try:
            value = block[start : start + 2 * size].decode("utf-16-le").rstrip(" \0")
        except UnicodeDecodeError:
            raise _bad_record("a field is not UTF-16") from None
        if any(unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} for character in value):
            raise _bad_record("a field has control characters")
        fields.append(value)
        start += 2 * size
    return CitizenText(*fields)


def _digits(value: str, size: int) -> bool:
    return len(value) == size and value.isascii() and value.isdigit()


def _check_number(number: str) -> None:
    if not _digits(number[:17], 17) or len(number) != 18 or number[17] not in _CHECK_DIGITS:
        raise _bad_record("the ID number is not 17 digits and a check digit")
    if check_digit(number[:17]) != number[17]:
        raise DeviceError(
            "idcard.bad_check_digit",
            "the ID number's check digit is wrong",
            advice="read again; a card that keeps this is damaged or forged",
            retry=False,
        )


def _date(value: str, field: str) -> datetime.date:
    if not _digits(value, 8):
        raise _bad_record(f"{field} is not a date")
    try:
        return datetime.date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        raise _bad_record(f"{field} is not a date") from None


def _bad_record(what: str) -> DeviceError:
    return DeviceError(
        "idcard.bad_record",
        what,
        advice="read again; a card that keeps this is damaged or forged",
        retry=False,
    )
