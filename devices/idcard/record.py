"""The typed record of a card of any kind, checked against itself (protocols 1.6 to 1.8).

A card that contradicts itself is refused: no field is guessed, and no error quotes one.
"""

import datetime
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from devices.idcard import errors
from devices.idcard.fingers import CardFinger, parse_fingers
from devices.idcard.layout import (
    CardText,
    CitizenText,
    Foreigner2017Text,
    Foreigner2023Text,
    PermitText,
    Variant,
    decode_field,
    split_text,
)
from devices.idcard.numbers import check_number, is_digits
from devices.idcard.protocol import ADDRESS_BYTES, MOST_ADDRESSES, PHOTO_BYTES, TEXT_BYTES, CardBlocks
from devices.personal import Kind, PersonalBytes, PersonalText

LONG_TERM = "长期"

_SexName: TypeAlias = Literal["男", "女", "未知", "未说明"]
_SEXES: dict[str, _SexName] = {"0": "未知", "1": "男", "2": "女", "9": "未说明"}

_NATIONS = """
    01汉 02蒙古 03回 04藏 05维吾尔 06苗 07彝 08壮 09布依 10朝鲜 11满 12侗 13瑶 14白 15土家 16哈尼 17哈萨克 18傣 19黎
    20傈僳 21佤 22畲 23高山 24拉祜 25水 26东乡 27纳西 28景颇 29柯尔克孜 30土 31达斡尔 32仫佬 33羌 34布朗 35撒拉 36毛南
    37仡佬 38锡伯 39阿昌 40普米 41塔吉克 42怒 43乌孜别克 44俄罗斯 45鄂温克 46德昂 47保安 48裕固 49京 50塔塔尔 51独龙
    52鄂伦春 53赫哲 54门巴 55珞巴 56基诺 97其他 98外国血统中国籍人士
"""
_NATION_NAMES = {entry[:2]: entry[2:] for entry in _NATIONS.split()}


@dataclass(frozen=True, slots=True, repr=False)
class ResidencePermit:
    """What only a residence permit of residents of Hong Kong, Macao and Taiwan says (flag J)."""

    variant: ClassVar[Variant] = Variant.HK_MACAO_TAIWAN

    pass_number: PersonalText
    """Of the holder's travel permit."""
    issue_count: str

    def wipe(self) -> None:
        """Overwrite every personal value."""
        self.pass_number.wipe()


@dataclass(frozen=True, slots=True, repr=False)
class ForeignPermit2017:
    """What only a foreigner's permanent residence card of 2017 says (flag I)."""

    variant: ClassVar[Variant] = Variant.FOREIGNER_2017

    english_name: PersonalText
    nationality: str
    """Three letters (GB/T 2659)."""
    version: str
    authority: str
    """Code of the issuing authority."""

    def wipe(self) -> None:
        """Overwrite every personal value."""
        self.english_name.wipe()


@dataclass(frozen=True, slots=True, repr=False)
class ForeignPermit2023:
    """What only a foreigner's permanent residence card of 2023 says (flag Y)."""

    variant: ClassVar[Variant] = Variant.FOREIGNER_2023

    english_name: PersonalText
    nationality: str
    """Three letters (GB/T 2659)."""
    renewals: str
    previous: PersonalText
    """Links to the holder's number before this one."""

    def wipe(self) -> None:
        """Overwrite every personal value."""
        self.english_name.wipe()
        self.previous.wipe()


Permit: TypeAlias = ResidencePermit | ForeignPermit2017 | ForeignPermit2023


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardRecord:
    """A card of any kind, checked against itself (T1). `photo` is the chip's block of 1,024 bytes.

    `birth` reads YYYYMMDD. `sex` is a name of GB/T 2261.1. `valid_to` is None for a card that does not expire (长期).
    A foreigner's `name` is the Chinese one, the English one where the card has none.
    """

    name: PersonalText
    sex: _SexName
    birth: PersonalText
    id_number: PersonalText
    valid_from: datetime.date
    valid_to: datetime.date | None
    photo: PersonalBytes
    nation: str | None = None
    """A name of GB/T 3304; citizens' cards only."""
    address: PersonalText | None = None
    """The newest one that the card carries; foreigners' cards have none."""
    address_is_new: bool | None = None
    """True when it replaced the printed one, None when the reader could not tell whether there is a newer one."""
    issuer: PersonalText | None = None
    """Foreigners' cards have none in words."""
    permit: Permit | None = None
    """What a card has that is not a citizen's."""
    fingerprints: tuple[CardFinger, ...] | None = None
    """None when they were not asked for, or the reader cannot read them."""
    management: PersonalBytes | None = None
    """The 28 bytes IIN, SN and DN (their lengths are not attested); None likewise."""

    @property
    def variant(self) -> Variant:
        """Which kind of card it is."""
        return Variant.CITIZEN if self.permit is None else self.permit.variant

    def wipe(self) -> None:
        """Overwrite every personal value."""
        for value in (
            self.name,
            self.birth,
            self.id_number,
            self.photo,
            self.address,
            self.issuer,
            self.permit,
            self.management,
            *(self.fingerprints or ()),
        ):
            if value is not None:
                value.wipe()

    def __repr__(self) -> str:
        return f"<card record, {self.variant}>"


def nation_name(code: str) -> str:
    """Return the nation's name for its two digits (GB/T 3304); an unassigned code gives 其他 and the code."""
    return _NATION_NAMES.get(code, f"其他({code})")


def parse_record(
    blocks: CardBlocks, *, address: bytearray | None = None, management: bytearray | None = None
) -> CardRecord:
    """Return the record in a card's blocks; `address` is the reply to ADDRESS, empty when the card has no newer one.

    Raises DeviceError: `idcard.variant_unsupported` for a card of an unknown kind, `idcard.bad_check_digit` for a wrong
    number, `idcard.bad_record` for everything else that is malformed or contradicts itself.
    """
    if len(blocks.text) != TEXT_BYTES or len(blocks.photo) != PHOTO_BYTES:
        raise errors.bad_record("the blocks have wrong sizes")
    text = split_text(blocks.text)
    birth = _date(text.birth, "birth")
    valid_from = _date(text.valid_from, "valid_from")
    valid_to = None if text.valid_to == LONG_TERM else _date(text.valid_to, "valid_to")
    if not birth <= valid_from <= (valid_to or datetime.date.max):
        raise errors.bad_record("the dates are out of order")
    check_number(text)
    if text.sex not in _SEXES:
        raise errors.bad_record("sex has no meaning")
    nation = printed = issuer = newest = None
    if isinstance(text, CitizenText | PermitText):
        newest = parse_address(address) if address is not None else None
        printed = _personal(text.address, Kind.ADDRESS, "the address")
        issuer = PersonalText(text.issuer, Kind.ADDRESS)
    if isinstance(text, CitizenText):
        nation = _nation(text.nation)
    return CardRecord(
        name=_personal(_name(text), Kind.NAME, "the name"),
        sex=_SEXES[text.sex],
        birth=PersonalText(text.birth, Kind.DATE),
        id_number=PersonalText(text.id_number, Kind.IDENTIFIER),
        valid_from=valid_from,
        valid_to=valid_to,
        nation=nation,
        address=PersonalText(newest, Kind.ADDRESS) if newest else printed,
        address_is_new=bool(newest) if newest is not None else None,
        issuer=issuer,
        permit=_permit(text),
        fingerprints=parse_fingers(blocks.fingers) if blocks.fingers is not None else None,
        photo=PersonalBytes(blocks.photo),  # behind all that can be refused: a refused card leaves no copy of it
        management=PersonalBytes(management) if management else None,
    )


def parse_address(data: bytearray) -> str:
    """Return the newest address in a reply to ADDRESS, "" when there is none (protocols 1.5).

    The entries are taken to be in the order in which they were written, so the last is the newest. Raises DeviceError
    `idcard.bad_record`.
    """
    if len(data) not in range(0, MOST_ADDRESSES * ADDRESS_BYTES + 1, ADDRESS_BYTES):
        raise errors.bad_record("the address block has a wrong size")
    starts = range(0, len(data), ADDRESS_BYTES)
    entries = [decode_field(data, [slice(start, start + ADDRESS_BYTES)]) for start in starts]
    return next((entry for entry in reversed(entries) if entry), "")


def _permit(text: CardText) -> Permit | None:
    match text:
        case CitizenText():
            return None
        case PermitText():
            if not (text.pass_number.isascii() and text.pass_number.isalnum()):
                raise errors.bad_record("the pass number is not letters and digits")
            return ResidencePermit(PersonalText(text.pass_number, Kind.IDENTIFIER), text.issue_count)
        case Foreigner2017Text():
            return ForeignPermit2017(_english_name(text), _nationality(text), text.version, text.authority)
        case Foreigner2023Text():
            previous = PersonalText(text.previous, Kind.IDENTIFIER)
            return ForeignPermit2023(_english_name(text), _nationality(text), text.renewals, previous)


def _name(text: CardText) -> str:
    if isinstance(text, CitizenText | PermitText):
        return text.name
    return text.chinese_name or text.english_name


def _english_name(text: Foreigner2017Text | Foreigner2023Text) -> PersonalText:
    return _personal(text.english_name, Kind.NAME, "the English name")


def _nationality(text: Foreigner2017Text | Foreigner2023Text) -> str:
    value = text.nationality
    if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
        raise errors.bad_record("nationality is not three letters")
    return value


def _personal(value: str, kind: Kind, what: str) -> PersonalText:
    if not value:
        raise errors.bad_record(f"{what} is empty")
    return PersonalText(value, kind)


def _nation(code: str) -> str:
    if not is_digits(code, 2):
        raise errors.bad_record("nation is not a number")
    return nation_name(code)


def _date(value: str, field: str) -> datetime.date:
    if is_digits(value, 8):
        with suppress(ValueError):
            return datetime.date(int(value[:4]), int(value[4:6]), int(value[6:]))
    raise errors.bad_record(f"{field} is not a date")
