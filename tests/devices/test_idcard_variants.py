"""The four kinds of card, newest addresses and fingerprint records (T1, T20, T22; protocols 1.5 to 1.7)."""

import datetime
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import DeviceError
from devices.fingerprint.finger import TemplateFormat
from devices.idcard.fingers import FingerPosition, make_record, parse_fingers
from devices.idcard.layout import (
    CardText,
    CitizenText,
    Foreigner2017Text,
    Foreigner2023Text,
    PermitText,
    Variant,
    encode_text_block,
    split_text,
)
from devices.idcard.numbers import check_digit
from devices.idcard.protocol import CardBlocks
from devices.idcard.record import (
    CardRecord,
    ForeignPermit2017,
    ForeignPermit2023,
    ResidencePermit,
    parse_address,
    parse_record,
)
from devices.personal import PersonalBytes, PersonalText
from sim.devices.permits import make_permit

VECTORS = Path(__file__).parents[1] / "vectors"
BLOCKS = {
    Variant(kind): bytes.fromhex(block)
    for kind, block in (
        line.split(" | ")
        for line in (VECTORS / "idcard_blocks.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}
NEWEST = bytes.fromhex(
    next(line for line in (VECTORS / "idcard_frames.txt").read_text().splitlines() if "| one newest" in line).split(
        " | "
    )[2]
)[10:-1]
TEXTS: dict[Variant, CardText] = {
    Variant.CITIZEN: CitizenText(
        "测试用户", "1", "01", "19900307", "北京市东城区模拟路1号", "110101199003074514", "北京市公安局东城分局",
        "20200101", "20400101",
    ),
    Variant.HK_MACAO_TAIWAN: PermitText(
        "测试港客", "1", "19900101", "广东省深圳市模拟路2号", "810000199001010019", "深圳市公安局",
        "20240101", "20290101", "H00000001", "02",
    ),
    Variant.FOREIGNER_2017: Foreigner2017Text(
        "SAMPLE, ALEXANDRA MAXIMILIANA", "2", "XXX110085010170", "XXX", "样本莎",
        "20180601", "20280531", "19850101", "01", "1100",
    ),
    Variant.FOREIGNER_2023: Foreigner2023Text(
        "样本莎", "2", "01", "19850101", "SAMPLE-EXAMPLE-SPECIMEN, ALEXANDRA MAXIM", "911000198501010023",
        "20231201", "20331130", "XXX", "017",
    ),
}  # fmt: skip
PHOTO = bytes(1024)
PERMITS = [variant for variant in Variant if variant is not Variant.CITIZEN]


def parse(text: CardText | bytes, **more: Any) -> CardRecord:
    block = text if isinstance(text, bytes) else encode_text_block(text)
    fingers = more.pop("fingers", None)
    return parse_record(CardBlocks(bytearray(block), bytearray(PHOTO), fingers), **more)


def refusal(text: CardText, **more: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        parse(text, **more)
    said = str(caught.value) + caught.value.advice
    values = [getattr(text, each.name) for each in fields(text)]
    assert not any(len(value) > 2 and value in said for value in values), "an error quotes a card"
    return caught.value


def outcome(work: Callable[[], str]) -> str:
    """Return what `work` returns, or the code of its device error."""
    try:
        return work()
    except DeviceError as error:
        return error.code


def address_block(*entries: str) -> bytearray:
    return bytearray(b"".join(entry.ljust(35).encode("utf-16-le") for entry in entries))


@pytest.mark.parametrize("variant", Variant)
def test_golden_blocks_are_cut_and_written(variant: Variant) -> None:
    """protocols 1.6."""
    assert split_text(bytearray(BLOCKS[variant])) == TEXTS[variant]
    assert encode_text_block(TEXTS[variant]) == BLOCKS[variant]
    assert TEXTS[variant].variant is variant


def test_a_permit_of_hong_kong_macao_and_taiwan() -> None:
    record = parse(BLOCKS[Variant.HK_MACAO_TAIWAN])
    assert record.variant is Variant.HK_MACAO_TAIWAN
    assert isinstance(record.permit, ResidencePermit)
    assert record.permit.pass_number.reveal() == "H00000001"
    assert record.permit.issue_count == "02"
    assert record.address is not None
    assert record.address.reveal() == "广东省深圳市模拟路2号"
    assert (record.sex, record.nation) == ("男", None)


def test_a_foreigners_card_of_2017() -> None:
    record = parse(BLOCKS[Variant.FOREIGNER_2017])
    assert record.variant is Variant.FOREIGNER_2017
    assert isinstance(record.permit, ForeignPermit2017)
    assert record.name.reveal() == "样本莎"
    assert record.permit.english_name.reveal() == "SAMPLE, ALEXANDRA MAXIMILIANA"
    assert (record.permit.nationality, record.permit.version, record.permit.authority) == ("XXX", "01", "1100")
    assert record.id_number.reveal() == "XXX110085010170"
    assert record.birth.reveal() == "19850101"
    assert (record.valid_from, record.valid_to) == (datetime.date(2018, 6, 1), datetime.date(2028, 5, 31))
    assert (record.address, record.issuer, record.nation, record.address_is_new) == (None, None, None, None)


def test_a_foreigners_card_of_2023() -> None:
    record = parse(BLOCKS[Variant.FOREIGNER_2023], address=bytearray(NEWEST))
    assert record.variant is Variant.FOREIGNER_2023
    assert isinstance(record.permit, ForeignPermit2023)
    assert record.permit.english_name.reveal() == "SAMPLE-EXAMPLE-SPECIMEN, ALEXANDRA MAXIM", "from both its places"
    assert (record.permit.nationality, record.permit.renewals) == ("XXX", "01")
    assert record.permit.previous.reveal() == "017"
    assert record.id_number.reveal() == "911000198501010023"
    assert (record.address, record.address_is_new) == (None, None), "these cards have no address"


@pytest.mark.parametrize("variant", [Variant.FOREIGNER_2017, Variant.FOREIGNER_2023])
def test_a_foreigner_without_a_chinese_name_is_called_by_the_english_one(variant: Variant) -> None:
    text = replace(TEXTS[variant], chinese_name="")
    assert parse(text).name.reveal() == text.english_name


def test_an_english_name_with_its_gap_between_the_places_is_kept() -> None:
    name = "A" * 34 + " " + "B" * 11
    record = parse(replace(TEXTS[Variant.FOREIGNER_2023], english_name=name))
    assert isinstance(record.permit, ForeignPermit2023)
    assert record.permit.english_name.reveal() == name


@pytest.mark.parametrize("variant", Variant)
def test_a_record_of_every_kind_is_wiped_whole(variant: Variant) -> None:
    """T20, T22: every personal value of the record and of what belongs to it."""
    fingers = bytearray(make_record(11) + make_record(16))
    record = parse(TEXTS[variant], fingers=fingers, address=bytearray(NEWEST), management=bytearray(range(1, 29)))
    assert record.fingerprints is not None
    parts = [record, *([record.permit] if record.permit else []), *(each.template for each in record.fingerprints)]
    values = [getattr(part, each.name) for part in parts for each in fields(part)]
    personal = [value for value in values if isinstance(value, PersonalText | PersonalBytes)]
    assert len(personal) >= 8
    printed = f"{record!r} {record.permit!r} {record.fingerprints!r} {[str(value) for value in personal]}"
    assert not any(value in printed for value in (TEXTS[variant].id_number, TEXTS[variant].birth, "SAMPLE"))
    record.wipe()
    assert all(value.wiped for value in personal)


@pytest.mark.parametrize(
    ("variant", "change", "code"),
    [
        (Variant.HK_MACAO_TAIWAN, {"id_number": "110101199003074514", "birth": "19900307"}, "idcard.bad_record"),
        (Variant.HK_MACAO_TAIWAN, {"id_number": "810000199001010018"}, "idcard.bad_check_digit"),
        (Variant.HK_MACAO_TAIWAN, {"birth": "19900102"}, "idcard.bad_record"),
        (Variant.HK_MACAO_TAIWAN, {"sex": "2"}, "idcard.bad_record"),
        (Variant.HK_MACAO_TAIWAN, {"pass_number": ""}, "idcard.bad_record"),
        (Variant.HK_MACAO_TAIWAN, {"pass_number": "Ｈ1"}, "idcard.bad_record"),
        (Variant.HK_MACAO_TAIWAN, {"address": ""}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"id_number": "XX1110085010170"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"id_number": "XXX11008501017"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"id_number": "xxx110085010170"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"english_name": ""}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"nationality": "XX"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"nationality": "中国人"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2017, {"birth": "20190101"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2023, {"id_number": "911000198501010024"}, "idcard.bad_check_digit"),
        (Variant.FOREIGNER_2023, {"id_number": "810000199001010019"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2023, {"nationality": "xxx"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2023, {"sex": "3"}, "idcard.bad_record"),
        (Variant.FOREIGNER_2023, {"valid_to": ""}, "idcard.bad_record"),
        (Variant.FOREIGNER_2023, {"english_name": "SAMPLE\x1b@"}, "idcard.bad_record"),
    ],
    ids=str,
)
def test_every_kind_has_its_rules(variant: Variant, change: dict[str, str], code: str) -> None:
    error = refusal(replace(TEXTS[variant], **change))
    assert (error.code, error.retry) == (code, False)


def test_a_refused_card_leaves_no_copy_of_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """T20: photo and fingers are taken when nothing can be refused any more."""

    def copied(value: bytearray) -> PersonalBytes:
        pytest.fail(f"{len(value)} bytes copied")

    monkeypatch.setattr("devices.idcard.record.PersonalBytes", copied)
    monkeypatch.setattr("devices.idcard.fingers.PersonalBytes", copied)
    fingers = bytearray(make_record(11) + make_record(16))
    refusal(replace(TEXTS[Variant.HK_MACAO_TAIWAN], pass_number=""), fingers=fingers)
    refusal(TEXTS[Variant.CITIZEN], fingers=fingers[:-1])


@pytest.mark.parametrize("number", ["810000199001010019", "820000199001010010", "830000199001010012"])
def test_permits_of_the_three_regions_are_read(number: str) -> None:
    """Numbers of protocols 1.8; their 17th digits are 1."""
    assert parse(replace(TEXTS[Variant.HK_MACAO_TAIWAN], id_number=number))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PERMITS), st.integers(0, 400))
def test_every_made_up_holder_is_read(variant: Variant, holder: int) -> None:
    text = make_permit(variant, holder)
    record = parse(text)
    assert (record.variant, record.id_number.reveal()) == (variant, text.id_number)
    assert text == make_permit(variant, holder)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Variant)), st.data())
def test_any_text_that_fits_is_written_and_cut(variant: Variant, data: st.DataObject) -> None:
    sizes = {"sex": 1, "nation": 2, "version": 2, "renewals": 2, "issue_count": 2, "authority": 4, "nationality": 3}
    letters = st.characters(categories=["L", "N"], max_codepoint=0xFFFF)
    text = replace(
        TEXTS[variant],
        **{each.name: data.draw(st.text(letters, max_size=sizes.get(each.name, 3))) for each in fields(TEXTS[variant])},
    )
    assert split_text(bytearray(encode_text_block(text))) == text


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["\0", " ", "J", "I", "Y"]), st.binary(min_size=248, max_size=248), st.binary(max_size=290))
def test_any_block_of_any_kind_gives_a_record_or_a_device_error(flag: str, noise: bytes, address: bytes) -> None:
    block = noise + flag.encode("utf-16-le") + noise[:6]
    found = outcome(lambda: parse(block, address=bytearray(address)).variant)
    assert found in {"idcard.bad_record", "idcard.bad_check_digit", *Variant}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Variant)), st.integers(0, 255), st.integers(0, 7))
def test_a_flipped_bit_never_gives_another_person(variant: Variant, index: int, bit: int) -> None:
    """The number's check digit sees it; the number of 2017 has none that is attested."""
    block = bytearray(BLOCKS[variant])
    block[index] ^= 1 << bit

    def number() -> str:
        return parse(bytes(block)).id_number.reveal()

    found = outcome(number)
    refused = found in {"idcard.bad_record", "idcard.bad_check_digit", "idcard.variant_unsupported"}
    unchecked = variant is Variant.FOREIGNER_2017 and 122 <= index < 152
    assert refused or unchecked or found == TEXTS[variant].id_number


def test_the_newest_address_replaces_the_printed_one() -> None:
    """protocols 1.5: the reply of one entry."""
    record = parse(TEXTS[Variant.CITIZEN], address=bytearray(NEWEST))
    assert record.address is not None
    assert (record.address.reveal(), record.address_is_new) == ("上海市黄浦区新模拟路3号", True)


@pytest.mark.parametrize(("address", "is_new"), [(bytearray(), False), (None, None), (address_block(""), False)])
def test_without_a_newer_address_the_printed_one_stands(address: bytearray | None, is_new: bool | None) -> None:
    record = parse(TEXTS[Variant.HK_MACAO_TAIWAN], address=address)
    assert record.address is not None
    assert (record.address.reveal(), record.address_is_new) == ("广东省深圳市模拟路2号", is_new)


@pytest.mark.parametrize(
    ("entries", "newest"),
    [(("甲",), "甲"), (("甲", "乙"), "乙"), (("甲", "乙", "", ""), "乙"), (("甲", "乙", "丙", "丁"), "丁")],
)
def test_the_last_entry_is_the_newest_address(entries: tuple[str, ...], newest: str) -> None:
    assert parse_address(address_block(*entries)) == newest


@pytest.mark.parametrize("data", [bytes(69), bytes(71), bytes(350), b"\x00\xd8" * 35, "样本\x1b".encode("utf-16-le")])
def test_an_address_that_is_none_is_refused(data: bytes) -> None:
    error = refusal(TEXTS[Variant.CITIZEN], address=bytearray(data))
    assert error.code == "idcard.bad_record"


def test_finger_records_are_tagged_with_their_format() -> None:
    """T3, protocols 1.7: never to be compared by a ZFM sensor."""
    block = bytearray(make_record(11, bytes(range(250))) + make_record(16))
    first, second = parse_fingers(block)
    assert (first.position, second.position) == (FingerPosition.RIGHT_THUMB, FingerPosition.LEFT_THUMB)
    assert first.template.format is TemplateFormat.GAT_1012
    assert first.template.format == "ga/t-1012"
    assert bytes(first.template.data.view()) == make_record(11, bytes(range(250)))
    first.wipe()
    assert first.template.data.wiped


@pytest.mark.parametrize(
    ("block", "positions"),
    [
        (b"", []),
        (bytes(1024), []),
        (make_record(97), [FingerPosition.RIGHT_UNKNOWN]),
        (bytes(512) + make_record(20), [FingerPosition.LEFT_LITTLE]),
        (make_record(0) + make_record(99), [None, FingerPosition.OTHER]),
    ],
    ids=len,
)
def test_fingers_that_are_not_there_are_not_made_up(block: bytes, positions: list[FingerPosition | None]) -> None:
    assert [finger.position for finger in parse_fingers(bytearray(block))] == positions


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4).flatmap(lambda count: st.binary(min_size=count * 500, max_size=count * 520)))
def test_any_finger_block_gives_fingers_or_a_device_error(block: bytes) -> None:
    found = outcome(lambda: f"{len(parse_fingers(bytearray(block)))} fingers")
    assert found in {"0 fingers", "1 fingers", "2 fingers", "idcard.bad_record"}


def test_a_field_too_long_for_both_its_places_is_not_written() -> None:
    with pytest.raises(ValueError, match="field of 92"):
        encode_text_block(replace(TEXTS[Variant.FOREIGNER_2023], english_name="A" * 47))


def test_the_check_digit_of_a_number_of_2023_is_the_citizens() -> None:
    """protocols 1.6."""
    number = TEXTS[Variant.FOREIGNER_2023].id_number
    assert number[0] == "9"
    assert check_digit(number[:17]) == number[17]
